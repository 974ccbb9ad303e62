"""EdgeAblation: the drop of the objective when one edge is removed."""

from __future__ import annotations

from torch import Tensor

from gnn_xai.algorithms._ablation import ablate, single_edges
from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm("edge_ablation", "drop of the score when an edge is removed, one forward pass each", signed=True)
class EdgeAblation:
    """Leave-one-edge-out: score(graph) − score(graph without the edge), for every edge in play.

    An undirected edge goes with both its directions. Positive: the edge supports the target.

    Attributes:
        removal: `structural` rebuilds the graph, so that degrees and softmax see the edge gone; `message` multiplies its
            messages by 0.
        objective: the scalar compared, see `gnn_xai.extend.Problem.score`.
    """

    removal: Removal = "structural"
    objective: Objective = "margin"

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        return ablate(self, session, single_edges(session, graphs), target, prediction)
