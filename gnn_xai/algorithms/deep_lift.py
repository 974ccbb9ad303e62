"""DeepLIFT: differences from a baseline, passed back by slopes between the two."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._gradient import added_up, baseline_score, gradient_scores, path_columns, scaled, times_input
from gnn_xai.algorithms.base import Columns, algorithm
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Objective
from gnn_xai.core.model.rules import Rescaling


@algorithm("deep_lift", "differences from a baseline, passed back (Shrikumar et al. 2017)", signed=True)
class DeepLIFT:
    """DeepLIFT (Shrikumar et al., ICML 2017) by its rescale rule: the gradient of an activation f is replaced by
    (f(x) − f(x⁰)) / (x − x⁰), where x⁰ is what f gets if all features are 0.

    Scores of features add up to score(input) − score(baseline) where what varies is not multiplied with what varies;
    `extras["completeness_error"]` says by how much they miss it, `extras["base_value"]` is the score of the baseline. Equal
    to Captum's DeepLift where a model's activations are modules; here also where they are functions.

    When not to use it: on models with attention, gates or max-pooling, where the sum is off; for margins between more than
    two classes, take `objective="raw"`; and where a node without features is not a neutral one.
    `gnn_xai.IntegratedGradients` adds up on all of them, with more passes.

    Attributes:
        node_mask_type: `attributes`, or `None` for no feature scores.
        edge_mask_type: `object` also scores edges, whose messages are then 0 at the baseline, too; a message times its
            mask is a product, for which the rule is not exact. `None` for no edge scores.
        objective: the scalar to explain, see `gnn_xai.extend.Problem.score`.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; of type `attributes` alone.
    """

    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = None
    objective: Objective = "margin"
    columns: Columns = field(default=None, hash=False)
    column_types: ClassVar[tuple[NodeMaskType, ...]] = ("attributes",)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        def point(replicas: Replicas, k: int) -> tuple[dict[str, Tensor], Tensor | None]:
            if k == 1:
                return {}, None
            zeros = torch.zeros(len(replicas.edge), dtype=session.problem.dtype, device=replicas.edge.device)
            values = {column.name: scaled(replicas, column, 0.0) for column in path_columns(self, session)}
            return values, None if self.edge_mask_type is None else zeros

        rules = Rescaling().rules
        scores = gradient_scores(self, session, graphs, target, weights=(0.0, 1.0), point=point, rules=rules)
        scores = times_input(scores, graphs)
        base = baseline_score(self, session, graphs, target)
        change = session.problem.score(prediction, target, self.objective) - base
        scores.extras["completeness_error"] = added_up(session, graphs, scores) - change
        scores.extras["base_value"] = base
        return scores
