"""FeatureAblation: what the objective loses when one feature is set to 0 on every node."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.algorithms.base import algorithm, require_one_of
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.evaluate import Change, evaluate
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import require_float_features
from gnn_xai.core.model.problem import OBJECTIVES, Objective


@algorithm(
    "feature_ablation",
    "drop of the score when a feature is set to 0 on all nodes",
    signed=True,
    edge_masks=False,
)
class FeatureAblation:
    """Leave-one-feature-out: score(x) − score(x with the feature at 0 on all nodes of the computation graph).

    A feature that is 0 on all these nodes already scores 0 without being run. A feature of integer codes is an embedded
    column of `x`, set to an embedding of zeros.

    Attributes:
        objective: the scalar compared, see `gnn_xai.extend.Problem.score`.
    """

    objective: Objective = "margin"

    def __post_init__(self) -> None:
        require_one_of(self, "objective", OBJECTIVES)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        x = require_float_features(session.problem, "FeatureAblation")
        score = session.problem.score
        scores = score(prediction, target, self.objective)
        rows = x.reshape(len(x), -1)
        present = (rows != 0)[graphs.node] & graphs.node_in_play.unsqueeze(1)
        instance, feature = (segment_sum(present.to(torch.int32), graphs.node_owner, len(graphs)) > 0).nonzero(
            as_tuple=True
        )
        result = scores.new_zeros(len(graphs), rows.size(1))
        if len(instance) == 0:
            return Scores(node=result, node_type="common_attributes")

        def change(replicas: Replicas, select: Tensor) -> Change:
            columns = torch.arange(rows.size(1), device=rows.device)
            ablated = feature[select][replicas.node_owner].unsqueeze(1) == columns
            features = rows[graphs.node[replicas.node]].masked_fill(ablated, 0)
            return Change(x=features.reshape(-1, *x.shape[1:]))

        def reduce(out: Tensor, select: Tensor) -> Tensor:
            return score(out, target[instance[select]], self.objective)

        drop = scores[instance] - evaluate(session, graphs, instance, change, "structural", reduce)
        result[instance, feature] = drop
        return Scores(node=result, node_type="common_attributes")
