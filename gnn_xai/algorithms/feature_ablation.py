"""FeatureAblation: the drop of the objective when one feature is set to 0 on every node."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._ablation import variant_scores
from gnn_xai.algorithms.base import Columns, algorithm
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.evaluate import Change
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.engines.units import Units
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
        node_mask_type: `common_attributes`, or `None` for no scores of `x`.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`: rows, values, or columns of all
            rows are set to 0, one at a time.
    """

    objective: Objective = "margin"
    node_mask_type: Literal["common_attributes"] | None = "common_attributes"
    columns: Columns = field(default=None, hash=False)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        full = session.problem.score(prediction, target, self.objective)
        scores = Scores() if self.node_mask_type is None else self._of_features(session, graphs, target, full)
        for column in session.columns:
            scores.columns[column] = self._of(column, session, graphs, target, full)
        return scores

    def _of(self, column: Scored, session: Session, graphs: ComputationGraphs, target: Tensor, full: Tensor) -> Tensor:
        """The scores of an attribute beside `x`."""
        units = Units.among(session, graphs, column, zeros=False)

        def change(replicas: Replicas, select: Tensor) -> Change:
            at, replica = replicas.elements(column.level)
            values = replicas.masked(column.name)
            ablated = units.of[at] == select[replica].unsqueeze(1)
            return Change(columns={column.name: values.masked_fill(ablated.reshape(values.shape), 0)})

        left = variant_scores(session, graphs, target, units.owner, change, "message", self.objective)
        return units.scores(full[units.owner] - left)

    def _of_features(self, session: Session, graphs: ComputationGraphs, target: Tensor, full: Tensor) -> Scores:
        x = require_float_features(session.problem, "FeatureAblation")
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
