"""InputXGradient: the gradient times the input it belongs to."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gnn_xai.algorithms.base import algorithm, require_gradient_fields
from gnn_xai.core.engines.gradients import gradients
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm("input_x_gradient", "gradient times input, first-order contribution (Shrikumar et al. 2017)", signed=True)
class InputXGradient:
    """Gradient × input (Shrikumar et al. 2017): x · ∂ score / ∂ x for features, and 1 · ∂ score / ∂ m for edge masks.

    For a linear model the features' values add up to the score less its bias.

    Attributes:
        node_mask_type: `attributes`, or `None` for no feature scores; a feature of integer codes is an embedded column of
            `x`, with a factor that is 1 as it stands.
        edge_mask_type: `object`, or `None` for no edge scores.
        objective: the scalar to differentiate, see `gnn_xai.extend.Problem.score`.
    """

    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        require_gradient_fields(self)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        node, edge = gradients(
            session,
            graphs,
            target,
            features=self.node_mask_type is not None,
            edges=self.edge_mask_type is not None,
            objective=self.objective,
        )
        if node is not None:
            features = session.problem.graphs.features
            assert features is not None
            node = node * features[graphs.node].reshape(node.shape)
        return Scores(edge, node, self.node_mask_type)
