"""FeatureAblation: the drop of the objective when one feature is set to 0 on every node."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.algorithms._ablation import variant_scores
from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.evaluate import Change
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import require_float_features
from gnn_xai.core.model.problem import Objective


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

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        x = require_float_features(session.problem, "FeatureAblation")
        full = session.problem.score(prediction, target, self.objective)
        rows = x.reshape(len(x), -1)
        present = (rows != 0)[graphs.node] & graphs.node_in_play.unsqueeze(1)
        count = segment_sum(present.to(torch.int32), graphs.node_owner, len(graphs))
        instance, feature = (count > 0).nonzero(as_tuple=True)

        def change(replicas: Replicas, select: Tensor) -> Change:
            columns = torch.arange(rows.size(1), device=rows.device)
            ablated = feature[select][replicas.node_owner].unsqueeze(1) == columns
            features = rows[graphs.node[replicas.node]].masked_fill(ablated, 0)
            return Change(x=features.reshape(-1, *x.shape[1:]))

        left = variant_scores(session, graphs, target, instance, change, "structural", self.objective)
        scores = full.new_zeros(len(graphs), rows.size(1))
        scores[instance, feature] = full[instance] - left
        return Scores(node=scores, node_type="common_attributes")
