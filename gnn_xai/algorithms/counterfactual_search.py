"""CounterfactualSearch: the fewest edges to remove or add so that the model says something else, by beam search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gnn_xai._checks import integer
from gnn_xai.algorithms._counterfactual import Goal, ranks, units_of
from gnn_xai.algorithms._insertions import Insertions, with_insertions
from gnn_xai.algorithms.base import algorithm, require_number, require_positive
from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.engines.evaluate import Change, Removal, evaluate
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.results.counterfactuals import FOUND, NONE_CHANGES, NOTHING, extras_of


@algorithm("counterfactual_search", "fewest edges to remove or add for another prediction, by beam search", signed=True)
class CounterfactualSearch:
    """Beam search for the smallest set of edges that, removed or added, changes what the model says.

    Round k tries every edit on top of the best sets of k − 1 edits, rebuilds each graph, and stops at the first round in
    which the model says something else; of that round's sets, the one that goes furthest. So the answer is the smallest as
    long as the beam holds all sets; `width=1` is greedy search. An undirected edge goes, or comes, with both directions.

    Scores are what the margin loses when an edge alone is removed, as those of `EdgeAblation`, positive where that is
    towards the counterfactual; `explanation.counterfactual` holds the edits.

    Do not use it where no small set of edges exists, such as in dense graphs: rounds are expensive, and after `size` of
    them nothing is found. What it finds may be unlike any graph that the model was trained on;
    `gnn_xai.metrics.plausibility` says how much.

    Attributes:
        width: how many sets of edits a round keeps.
        size: how many edits are allowed.
        insertions: how many pairs of nodes of its computation graph, without an edge, may be joined for each instance: first
            those with the explained node, then those with a common neighbour; 0 for deletions alone. Edges with attributes
            have no insertions, as nobody knows what a new edge would carry.
        change: for a regression, by how much the value has to move.
    """

    width: int = 8
    size: int = 10
    insertions: int = 0
    change: float = 1.0
    removal: ClassVar[Removal] = "structural"

    def __post_init__(self) -> None:
        require_positive(self, "width", "size", integer=True)
        require_positive(self, "change")
        integer(self.insertions, "CounterfactualSearch(insertions=)")
        require_number(self, "insertions")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        goal = Goal(session.problem, target, prediction, self.change)
        added = torch.full((len(graphs), self.size, 2), -1, dtype=torch.int64, device=target.device)
        removed = torch.zeros(len(graphs.edge), dtype=torch.bool, device=target.device)
        edge = prediction.new_zeros(len(graphs.edge))
        outcome, after = torch.full_like(target, NOTHING), prediction.clone()
        for part in with_insertions(session, graphs, prediction, self.insertions):
            search = _Search(part, goal, self.width, self.size)
            search.run(len(part.instances) / max(len(graphs), 1))
            position = part.instances
            outcome[position], after[position] = search.outcome, search.prediction.to(after.dtype)
            of, answer = part.unit, search.edits
            known = (part.original >= 0) & (of >= 0)
            original, of_known = part.original[known], of[known]
            removed[original] = answer[of_known]
            edge[original] = search.drop[of_known].to(edge.dtype) * graphs.edge_in_play[original]
            new = (part.absent & (of >= 0)).nonzero().flatten()
            new = new[answer[of[new]] & part.first[new]]
            owner = part.graphs.edge_owner[new]
            added[position[owner], ranks(owner)] = part.ends(new)
        return Scores(
            edge, extras=extras_of(after, outcome, edge_removed=removed, added=added if self.insertions else None)
        )


@dataclass(eq=False)
class _Search:
    """The search of one part of the instances.

    Attributes:
        part: the graphs and what may be edited in them.
        goal: of all instances.
        width, size: see `CounterfactualSearch`.
    """

    part: Insertions
    goal: Goal
    width: int
    size: int

    def __post_init__(self) -> None:
        part = self.part
        self.drop = torch.zeros(len(part.owner), dtype=part.prediction.dtype, device=part.owner.device)
        self.edits = torch.zeros(len(part.owner), dtype=torch.bool, device=part.owner.device)
        self.prediction = part.prediction.clone()
        self.outcome = torch.where(units_of(part.graphs, part.owner) > 0, NONE_CHANGES, NOTHING)

    def run(self, share: float) -> None:
        """Search round by round; `share` is that of the work for the progress bar."""
        owner = self.part.owner
        sets = torch.arange(len(owner), device=owner.device).unsqueeze(1)
        for number in range(self.size):
            if not len(sets):
                return
            instance = owner[sets[:, 0]]
            out = self._outputs(sets, share / self.size)
            whole = self.part.instances[instance]
            distance = self.goal.distance(out, whole)
            if number == 0:
                self.drop = self.goal.distance(self.part.prediction, self.part.instances)[instance] - distance
            order = torch.argsort(distance, stable=True)
            order = order[torch.argsort(instance[order], stable=True)]
            reached = order[self.goal.reached(out, whole)[order]]
            self._keep(sets, out, reached[ranks(instance[reached]) == 0])
            open_ = order[self.outcome[instance[order]] != FOUND]
            best = open_[ranks(instance[open_]) < self.width]
            sets = self._larger(sets[best])

    def _keep(self, sets: Tensor, out: Tensor, answers: Tensor) -> None:
        """Write the answers of instances, by their positions among the sets."""
        instance = self.part.owner[sets[answers, 0]]
        self.outcome[instance] = FOUND
        self.prediction[instance] = out[answers].to(self.prediction.dtype)
        self.edits[sets[answers].flatten()] = True

    def _larger(self, sets: Tensor) -> Tensor:
        """All sets `[V, k + 1]` of one more edit than some have, each once."""
        owner = self.part.owner
        ptr = pointers(torch.bincount(owner, minlength=len(self.part.graphs)))
        more, lengths = gather_segments(ptr, owner[sets[:, 0]])
        old = sets.repeat_interleave(lengths.diff(), 0)
        new = (old != more.unsqueeze(1)).all(1)
        return torch.unique(torch.cat([old[new], more[new].unsqueeze(1)], 1).sort(1).values, dim=0)

    def _outputs(self, sets: Tensor, share: float) -> Tensor:
        """The model's output under each of V sets of edits `[V, k]`."""
        part = self.part

        def change(replicas: Replicas, select: Tensor) -> Change:
            of = part.unit[replicas.edge]
            edited = (sets[select].index_select(0, replicas.edge_owner) == of.unsqueeze(1)).any(1)
            return Change(edges=edited ^ part.absent[replicas.edge])

        return evaluate(
            part.session, part.graphs, part.owner[sets[:, 0]], change, "structural", lambda out, _: out, share
        )
