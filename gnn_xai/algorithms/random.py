"""Random: the baseline of every comparison."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs


@algorithm(
    "random",
    "uniform random scores, the baseline that every table needs",
    signed=False,
    stochastic=True,
    uses_model=False,
    edge_masks=False,
    one_pass=True,
)
class Random:
    """Uniform scores in (0, 1) for every node and edge in play, keyed by seed, instance and element.

    Attributes:
        node_mask_type: `object`, or `None` for no node scores.
        edge_mask_type: `object`, or `None` for no edge scores.
    """

    node_mask_type: Literal["object"] | None = "object"
    edge_mask_type: Literal["object"] | None = "object"

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        source, dtype = graphs.graphs, session.problem.dtype

        def draw(owner: Tensor, element: Tensor, stream: int) -> Tensor:
            key = graphs.instance_key[owner]
            return keyed_uniform(session.seed, key, element, torch.full_like(owner, stream)).to(dtype)

        masks = Scores(node_type=self.node_mask_type)
        if self.edge_mask_type is not None:
            masks.edge = draw(graphs.edge_owner, session.edge_key(graphs), 0) * graphs.edge_in_play
        if self.node_mask_type is not None:
            node = draw(graphs.node_owner, source.node_key[graphs.node], 1) * graphs.node_in_play
            masks.node = node.unsqueeze(1)
        return masks
