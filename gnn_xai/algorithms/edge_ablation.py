"""EdgeAblation: what the objective loses when one edge is gone."""

from __future__ import annotations

from torch import Tensor

from gnn_xai.algorithms.base import algorithm, require_one_of
from gnn_xai.core.masks import Masks
from gnn_xai.core.neighborhoods import ComputationGraphs, Union
from gnn_xai.core.perturb import REMOVALS, Change, Removal, evaluate
from gnn_xai.core.problem import OBJECTIVES, Objective
from gnn_xai.core.question import Question


@algorithm("edge_ablation", "drop of the score when an edge is removed, one forward pass each", signed=True)
class EdgeAblation:
    """Leave-one-edge-out: score(graph) − score(graph without the edge), for every edge in play.

    An undirected edge goes with both its directions. Positive: the edge supports the target.

    Attributes:
        removal: `structural` rebuilds the graph, so that degrees and softmax see the edge gone; `message` multiplies its
            messages by 0.
        objective: the scalar compared, see `gnn_xai.core.problem.Problem.score`.
    """

    removal: Removal = "structural"
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        require_one_of(self, "removal", REMOVALS)
        require_one_of(self, "objective", OBJECTIVES)

    def attribute(self, question: Question, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Masks:
        score = question.problem.score
        scores = score(prediction, target, self.objective)
        edge = scores.new_zeros(len(graphs.edge))
        first, unit = question.removable(graphs)
        if len(first) == 0:
            return Masks(edge)
        instance = graphs.edge_owner[first]

        def change(union: Union, select: Tensor) -> Change:
            return Change(edges=unit[union.edge] == select[union.edge_owner])

        def reduce(out: Tensor, select: Tensor) -> Tensor:
            return score(out, target[instance[select]], self.objective)

        drop = scores[instance] - evaluate(question, graphs, instance, change, self.removal, reduce)
        edge[graphs.edge_in_play] = drop[unit[graphs.edge_in_play]]
        return Masks(edge)
