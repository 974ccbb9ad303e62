"""Saliency: the gradient of the objective with respect to each feature and each edge."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._gradient import gradient_scores, mapped
from gnn_xai.algorithms.base import Columns, algorithm
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm(
    "saliency",
    "absolute gradient for features and tied edge masks (Simonyan et al. 2014)",
    signed=True,
    one_pass=True,
)
class Saliency:
    """Saliency (Simonyan et al., ICLR workshop 2014): |∂ score / ∂ x| for features and |∂ score / ∂ m| at m = 1 for edges.

    The gradient of an undirected edge is that of the one mask its two directions share. One backward pass; the
    baseline that every learned mask must beat.

    Attributes:
        node_mask_type: `attributes`, or `None` for no feature scores; a feature of integer codes is an embedded column of
            `x`, with a factor that is 1 as it stands, so its score is the size of embedding × gradient.
        edge_mask_type: `object`, or `None` for no edge scores.
        absolute: take absolute values (as Captum does); `False` keeps the sign.
        objective: the scalar to differentiate, see `gnn_xai.extend.Problem.score`.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; of type `attributes` alone.
    """

    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    absolute: bool = True
    objective: Objective = "margin"
    columns: Columns = field(default=None, hash=False)
    column_types: ClassVar[tuple[NodeMaskType, ...]] = ("attributes",)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        scores = gradient_scores(self, session, graphs, target)
        return mapped(scores, torch.abs) if self.absolute else scores
