"""Deconvolution: gradients that pass activations where they are positive themselves."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from torch import Tensor

from gnn_xai.algorithms._gradient import gradient_scores
from gnn_xai.algorithms.base import Columns, algorithm
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective
from gnn_xai.core.model.rules import Rules, deconvolved


@algorithm(
    "deconvolution",
    "gradients that pass a ReLU where they are positive themselves (Zeiler & Fergus 2014)",
    signed=True,
    one_pass=True,
)
class Deconvolution:
    """Deconvolution (Zeiler & Fergus, ECCV 2014): a gradient passes back through a ReLU where the gradient is positive,
    whatever the ReLU's input.

    Equal to Captum's where a model's ReLUs are modules; here also where they are functions.

    When not to use it: it ignores which units were active, so that it hardly depends on the input. It is here to be
    compared with.

    Attributes:
        node_mask_type, edge_mask_type: as in `gnn_xai.Saliency`.
        objective: the scalar to differentiate, see `gnn_xai.extend.Problem.score`.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; of type `attributes` alone.
    """

    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    objective: Objective = "margin"
    columns: Columns = field(default=None, hash=False)
    column_types: ClassVar[tuple[NodeMaskType, ...]] = ("attributes",)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        return gradient_scores(self, session, graphs, target, rules=lambda _: Rules({"relu": deconvolved}))
