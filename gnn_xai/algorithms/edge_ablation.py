"""EdgeAblation: what the objective loses when one edge is gone."""

from __future__ import annotations

from torch import Tensor

from gnn_xai.algorithms.base import algorithm, require_one_of
from gnn_xai.core.engines.evaluate import REMOVALS, Change, Removal, evaluate
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import OBJECTIVES, Objective


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

    def __post_init__(self) -> None:
        require_one_of(self, "removal", REMOVALS)
        require_one_of(self, "objective", OBJECTIVES)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        score = session.problem.score
        scores = score(prediction, target, self.objective)
        edge = scores.new_zeros(len(graphs.edge))
        first, unit = session.removable(graphs)
        if len(first) == 0:
            return Scores(edge)
        instance = graphs.edge_owner[first]

        def change(replicas: Replicas, select: Tensor) -> Change:
            return Change(edges=unit[replicas.edge] == select[replicas.edge_owner])

        def reduce(out: Tensor, select: Tensor) -> Tensor:
            return score(out, target[instance[select]], self.objective)

        drop = scores[instance] - evaluate(session, graphs, instance, change, self.removal, reduce)
        edge[graphs.edge_in_play] = drop[unit[graphs.edge_in_play]]
        return Scores(edge)
