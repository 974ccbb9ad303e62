"""GuidedBackprop: gradients that pass activations only where they are positive."""

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
from gnn_xai.core.model.rules import Rules, guided


@algorithm(
    "guided_backprop",
    "gradients that pass a ReLU only where they are positive (Springenberg et al. 2015)",
    signed=True,
    one_pass=True,
)
class GuidedBackprop:
    """Guided backpropagation (Springenberg et al., ICLR workshop 2015): a gradient passes back through a ReLU where both the
    ReLU's input and the gradient are positive.

    Equal to Captum's where a model's ReLUs are modules; here also where they are functions. Scores have the sign of the last
    linear map that the gradient passes.

    When not to use it: its scores depend little on the weights of late layers (Adebayo et al. 2018), and other activations
    than ReLU keep their plain gradients. It is here to be compared with.

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
        return gradient_scores(self, session, graphs, target, rules=lambda _: Rules({"relu": guided}))
