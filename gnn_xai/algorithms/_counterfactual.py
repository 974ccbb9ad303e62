"""What searches for counterfactuals share: when the model says something else, and the smallest of many edits that do it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.explain.config import ModelMode

from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.edge_descent import EdgeRun
from gnn_xai.core.engines.evaluate import Change, evaluate
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Problem
from gnn_xai.results.counterfactuals import FOUND, NONE_CHANGES, NOTHING


@dataclass(frozen=True, eq=False)
class Goal:
    """What a counterfactual of each of B instances has to reach.

    Attributes:
        problem: model, data, task.
        target: `[B]` class or column explained.
        prediction: `[B, C]` the model's output.
        change: for a regression, by how much the value has to move.
    """

    problem: Problem
    target: Tensor
    prediction: Tensor
    change: float

    @property
    def regression(self) -> bool:
        """There is a value in place of classes."""
        return self.problem.task.mode == ModelMode.regression

    def distance(self, out: Tensor, instance: Tensor) -> Tensor:
        """How far outputs of instances are from what is wanted, `[V]`; lower is closer.

        The margin of the target where the model says it, and its negative where not; what is left of `change` for a
        regression.
        """
        if self.regression:
            return self._left(out, instance)
        return self._towards(self.problem.score(out, self.target[instance]), instance)

    def log_loss(self, out: Tensor, instance: Tensor) -> Tensor:
        """The same as a log-probability, which flattens out once it is reached."""
        if self.regression:
            return self._left(out, instance)
        return torch.nn.functional.logsigmoid(self.distance(out, instance))

    def lead(self, out: Tensor, instance: Tensor) -> Tensor:
        """By how much the probability of what the model says exceeds the largest other one; above 0 while it says so."""
        if self.regression:
            return self._left(out, instance)
        target = self.target[instance]
        if self.problem.task.mode != ModelMode.multiclass_classification:
            return self._towards(2 * self.problem.score(out, target, "prob") - 1, instance)
        probs = self.problem.log_probs(out).exp()
        own = torch.arange(out.size(1), device=out.device) == target.unsqueeze(1)
        others = probs.masked_fill(own, 0).amax(1)
        return self._towards(probs.gather(1, target.unsqueeze(1)).squeeze(1) - others, instance)

    def reached(self, out: Tensor, instance: Tensor) -> Tensor:
        """Whether the model says something else, `[V]`."""
        if self.regression:
            return self._left(out, instance) <= 0
        target = self.target[instance]
        return self.problem.label(out, target) != self.problem.label(self.prediction[instance], target)

    def _left(self, out: Tensor, instance: Tensor) -> Tensor:
        target = self.target[instance]
        moved = self.problem.score(out, target) - self.problem.score(self.prediction[instance], target)
        return self.change - moved.abs()

    def _towards(self, values: Tensor, instance: Tensor) -> Tensor:
        said = self.problem.label(self.prediction[instance], self.target[instance])
        return torch.where(said, values, -values)


class Visits:
    """Sets of units of edges that a search came by, each with its instance.

    Args:
        unit: `[ΣE]` the unit of each edge, see `Session.removable`.
    """

    def __init__(self, unit: Tensor) -> None:
        self.unit = unit
        self._seen: list[tuple[Tensor, Tensor]] = []

    def add(self, run: EdgeRun, removed: Tensor, moved: Tensor) -> None:
        """The sets of instances of a run that have changed: parameters `[P]` removed, and those that moved."""
        changed = segment_sum(moved.long(), run.owner, len(run.instance)) > 0
        at = (changed[run.owner] & removed).nonzero().flatten()
        self.add_units(
            run.instance[run.owner[at]], torch.ones_like(at, dtype=torch.bool), self.unit[run.edges.edge[at]]
        )

    def add_units(self, instance: Tensor, removed: Tensor, unit: Tensor | None = None) -> None:
        """One set of each instance: those `[U]` of its units that are removed."""
        unit = torch.arange(len(instance), device=instance.device) if unit is None else unit
        self._seen.append((instance[removed], unit[removed]))

    @property
    def sets(self) -> tuple[Tensor, Tensor, Tensor]:
        """The instance of each of V sets, `[V]`; and the set and the unit of each of their members."""
        sizes = torch.tensor([len(unit) for _, unit in self._seen], dtype=torch.int64, device=self.unit.device)
        owner = torch.cat([self.unit[:0], *(owner for owner, _ in self._seen)])
        unit = torch.cat([self.unit[:0], *(unit for _, unit in self._seen)])
        when = torch.arange(len(sizes), device=owner.device).repeat_interleave(sizes)
        span = int(owner.max()) + 1 if len(owner) else 1
        distinct, number = torch.unique(when * span + owner, return_inverse=True)
        return distinct % span, number, unit


@dataclass(frozen=True, eq=False)
class Smallest:
    """The smallest of some sets of units of each of B instances that reach the goal.

    Attributes:
        choice: `[B]` which set, -1 for none.
        prediction: `[B, C]` the output of the rebuilt graph; the original one for none.
        units: `[U]` bool, the members of the chosen sets.
    """

    choice: Tensor
    prediction: Tensor
    units: Tensor

    def outcome(self, editable: Tensor) -> Tensor:
        """Positions in `OUTCOMES`, `[B]`; `editable`: how many units each instance has."""
        return torch.where(self.choice >= 0, FOUND, torch.where(editable > 0, NONE_CHANGES, NOTHING))

    def members(self, unit: Tensor) -> Tensor:
        """The edges of the chosen sets, `[ΣE]` bool; `unit`: the unit of each edge, -1 for none."""
        return torch.cat([self.units, self.units.new_zeros(1)])[unit]


def smallest_removal(
    session: Session,
    graphs: ComputationGraphs,
    goal: Goal,
    unit: Tensor,
    owner: Tensor,
    instance: Tensor,
    set_of: Tensor,
    member: Tensor,
    share: float,
) -> Smallest:
    """Rebuild graphs without sets of edges: the smallest set of each instance that reaches the goal, of these the one that
    goes furthest.

    Args:
        session, graphs: the problem and its computation graphs.
        goal: what to reach.
        unit: `[ΣE]` the unit of each edge, -1 for none, see `Session.removable`.
        owner: `[U]` the instance of each unit.
        instance, set_of, member: V sets, as `Visits.sets` has them.
        share: of the progress bar.
    """
    prediction, span = goal.prediction.clone(), len(owner) + 1
    choice, units = torch.full((len(graphs),), -1, device=unit.device), torch.zeros_like(owner, dtype=torch.bool)
    if not len(instance):
        session.advance(share)
        return Smallest(choice, prediction, units)
    keys = torch.sort(set_of * span + member).values

    def change(replicas: Replicas, select: Tensor) -> Change:
        of = unit[replicas.edge]
        wanted = select[replicas.edge_owner] * span + of
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return Change(edges=(of >= 0) & (keys[place] == wanted))

    out = evaluate(session, graphs, instance, change, "structural", lambda out, _: out, share)
    order = torch.argsort(goal.distance(out, instance), stable=True)
    for by in (torch.bincount(set_of, minlength=len(instance)), instance):
        order = order[torch.argsort(by[order], stable=True)]
    order = order[goal.reached(out, instance)[order]]
    first = order[ranks(instance[order]) == 0]
    choice[instance[first]] = first
    prediction[instance[first]] = out[first].to(prediction.dtype)
    units[member[torch.isin(set_of, first)]] = True
    return Smallest(choice, prediction, units)


def units_of(graphs: ComputationGraphs, owner: Tensor) -> Tensor:
    """How many units each instance has, `[B]`."""
    return segment_sum(torch.ones_like(owner), owner, len(graphs))


def ranks(owner: Tensor) -> Tensor:
    """How many of each instance come before each, for instances in order."""
    return torch.arange(len(owner), device=owner.device) - torch.searchsorted(owner, owner)
