"""IntegratedGradients: gradients averaged along the straight line from a baseline."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnn_xai.algorithms.base import algorithm, require_gradient_fields, require_positive
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.evaluate import Change, evaluate
from gnn_xai.core.engines.gradients import gradients
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Objective


@algorithm("integrated_gradients", "path integral of gradients, complete (Sundararajan et al. 2017)", signed=True)
class IntegratedGradients:
    """Integrated gradients (Sundararajan et al., ICML 2017, eq. 1), by Gauss–Legendre quadrature as in Captum.

    The path runs from all-zero features and all-zero edge masks to the input, both at once where both are asked for.
    Scores then add up to score(input) − score(baseline); how far they miss is reported for every instance as
    `extras["completeness_error"]`. The score of an undirected edge is that of both directions together and is written
    on each of them; count it once.

    Attributes:
        steps: points of the quadrature.
        node_mask_type: `attributes`, or `None` for no feature scores; a feature of integer codes is an embedded column of
            `x`, with a factor that is 1 as it stands.
        edge_mask_type: `object`, or `None` for no edge scores.
        objective: the scalar to integrate, see `gnn_xai.extend.Problem.score`.
    """

    steps: int = 50
    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        require_positive(self, "steps", integer=True)
        require_gradient_fields(self)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        features, edges = self.node_mask_type is not None, self.edge_mask_type is not None
        nodes_at, weights = np.polynomial.legendre.leggauss(self.steps)
        alphas = ((1 + nodes_at) / 2).tolist()

        def point(replicas: Replicas, k: int) -> tuple[Tensor | None, Tensor | None]:
            x = replicas.features * alphas[k] if features and replicas.features is not None else None
            ones = torch.ones(len(replicas.edge), dtype=session.problem.dtype, device=replicas.edge.device)
            return x, ones * alphas[k] if edges else None

        node, edge = gradients(
            session,
            graphs,
            target,
            features=features,
            edges=edges,
            objective=self.objective,
            weights=(weights / 2).tolist(),
            point=point,
        )
        total = torch.zeros(len(graphs), dtype=session.problem.dtype, device=target.device)
        if node is not None:
            x = session.problem.graphs.features
            assert x is not None
            node = node * x[graphs.node].reshape(node.shape)
            total = total + segment_sum(node.sum(1), graphs.node_owner, len(graphs))
        if edge is not None:
            once, _ = session.removable(graphs)
            total = total + segment_sum(edge[once], graphs.edge_owner[once], len(graphs))
        score = session.problem.score(prediction, target, self.objective)
        change = score - self._baseline(session, graphs, target)
        return Scores(edge, node, self.node_mask_type, {"completeness_error": total - change})

    def _baseline(self, session: Session, graphs: ComputationGraphs, target: Tensor) -> Tensor:
        """Score of every instance at the start of the path, `[B]`."""

        def change(replicas: Replicas, select: Tensor) -> Change:
            edges = torch.ones_like(replicas.edge, dtype=torch.bool) if self.edge_mask_type is not None else None
            zero = replicas.features * 0 if self.node_mask_type is not None and replicas.features is not None else None
            return Change(edges=edges, x=zero)

        every = torch.arange(len(graphs), device=target.device)
        score = session.problem.score
        return evaluate(
            session,
            graphs,
            every,
            change,
            "message",
            lambda out, select: score(out, target[select], self.objective),
            share=0.0,
        )
