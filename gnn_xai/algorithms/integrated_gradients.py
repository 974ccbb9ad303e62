"""IntegratedGradients: gradients averaged along the straight line from a baseline."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gnn_xai.algorithms._gradient import (
    added_up,
    baseline_score,
    gradient_scores,
    path_columns,
    scaled,
    times_input,
    without_inputs,
)
from gnn_xai.algorithms.base import Columns, algorithm, require_positive
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Objective


@algorithm("integrated_gradients", "path integral of gradients, complete (Sundararajan et al. 2017)", signed=True)
class IntegratedGradients:
    """Integrated gradients (Sundararajan et al., ICML 2017, eq. 1), by Gauss–Legendre quadrature as in Captum.

    The path runs from all-zero features and all-zero edge masks to the input, both at once where both are asked for.
    Scores then add up to score(input) − score(baseline); how far they miss is reported for every instance as
    `extras["completeness_error"]`, and score(baseline) as `extras["base_value"]`. Inputs of a whole graph that are numbers
    (`data.u`) stay as they are on the path; where there are some, the base value is that with zeros in their place, and
    what they add to it `extras["inputs_of_graph"]`. The score of an undirected edge is that of both directions together
    and is written on each of them; count it once.

    Attributes:
        steps: points of the quadrature.
        node_mask_type, edge_mask_type: as in `gnn_xai.Saliency`.
        objective: the scalar to integrate, see `gnn_xai.extend.Problem.score`.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; of type `attributes` alone.
    """

    steps: int = 50
    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    objective: Objective = "margin"
    columns: Columns = field(default=None, hash=False)
    column_types: ClassVar[tuple[NodeMaskType, ...]] = ("attributes",)

    def __post_init__(self) -> None:
        require_positive(self, "steps", integer=True)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        nodes_at, weights = np.polynomial.legendre.leggauss(self.steps)
        alphas = ((1 + nodes_at) / 2).tolist()

        def point(replicas: Replicas, k: int) -> tuple[dict[str, Tensor], Tensor | None]:
            ones = torch.ones(len(replicas.edge), dtype=session.problem.dtype, device=replicas.edge.device)
            values = {column.name: scaled(replicas, column, alphas[k]) for column in path_columns(self, session)}
            return values, ones * alphas[k] if self.edge_mask_type is not None else None

        scores = gradient_scores(self, session, graphs, target, weights=(weights / 2).tolist(), point=point)
        scores = times_input(scores, graphs)
        base = baseline_score(self, session, graphs, target)
        change = session.problem.score(prediction, target, self.objective) - base
        scores.extras["completeness_error"] = added_up(session, graphs, scores) - change
        empty = without_inputs(graphs)
        if empty is not None:
            lowest = baseline_score(self, session, empty, target)
            scores.extras["inputs_of_graph"], base = base - lowest, lowest
        scores.extras["base_value"] = base
        return scores
