"""Random: the baseline that every table needs."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.masks import Masks
from gnn_xai.core.neighborhoods import ComputationGraphs
from gnn_xai.core.question import Question
from gnn_xai.core.rng import keyed_uniform


@algorithm(
    "random",
    "uniform random scores, the baseline that every table needs",
    signed=False,
    stochastic=True,
    uses_model=False,
)
class Random:
    """Uniform scores in (0, 1) for every node and edge in play, keyed by seed, instance and element."""

    def attribute(self, question: Question, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Masks:
        source, dtype = graphs.graphs, question.problem.dtype

        def draw(owner: Tensor, element: Tensor, stream: int) -> Tensor:
            key = graphs.instance_key[owner]
            return keyed_uniform(question.seed, key, element, torch.full_like(owner, stream)).to(dtype)

        edge = draw(graphs.edge_owner, question.edge_key(graphs), 0) * graphs.edge_in_play
        node = draw(graphs.node_owner, source.node_key[graphs.node], 1) * graphs.node_in_play
        return Masks(edge, node.unsqueeze(1), "object")
