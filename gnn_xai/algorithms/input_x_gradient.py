"""InputXGradient: the gradient times the input it belongs to."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from torch import Tensor

from gnn_xai.algorithms._gradient import gradient_scores, times_input
from gnn_xai.algorithms.base import Columns, algorithm
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm(
    "input_x_gradient",
    "gradient times input, first-order contribution (Shrikumar et al. 2017)",
    signed=True,
    one_pass=True,
)
class InputXGradient:
    """Gradient × input (Shrikumar et al. 2017): x · ∂ score / ∂ x for features, and 1 · ∂ score / ∂ m for edge masks.

    For a linear model the features' values add up to the score less its bias.

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
        return times_input(gradient_scores(self, session, graphs, target), graphs)
