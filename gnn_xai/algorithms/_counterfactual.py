"""What searches for counterfactuals share: when the model says something else, and the smallest of many edits that do it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.explain.config import ModelMode

from gnn_xai.core.arrays.segments import segment_sum
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
        target = self.target[instance]
        margin = self.problem.score(out, target)
        if self.regression:
            return self.change - (margin - self.problem.score(self.prediction[instance], target)).abs()
        return torch.where(self.problem.label(self.prediction[instance], target), margin, -margin)

    def reached(self, out: Tensor, instance: Tensor) -> Tensor:
        """Whether the model says something else, `[V]`."""
        if self.regression:
            return self.distance(out, instance) <= 0
        target = self.target[instance]
        return self.problem.label(out, target) != self.problem.label(self.prediction[instance], target)


@dataclass(frozen=True, eq=False)
class Smallest:
    """The smallest of some edits of each of B instances that reach the goal.

    Attributes:
        choice: `[B]` position among the edits, -1 for none.
        prediction: `[B, C]` the output of the rebuilt graph; the original one for none.
    """

    choice: Tensor
    prediction: Tensor

    def outcome(self, editable: Tensor) -> Tensor:
        """Positions in `OUTCOMES`, `[B]`; `editable`: how many edits each instance has to choose from."""
        none = torch.where(editable > 0, NONE_CHANGES, NOTHING)
        return torch.where(self.choice >= 0, FOUND, none)


def smallest_removal(
    session: Session,
    graphs: ComputationGraphs,
    goal: Goal,
    unit: Tensor,
    owner: Tensor,
    instance: Tensor,
    sets: list[Tensor],
    share: float,
) -> Smallest:
    """Rebuild graphs without sets of edges; the smallest set of each instance that reaches the goal, of these the one that
    goes furthest.

    Args:
        session, graphs: the problem and its computation graphs.
        goal: what to reach.
        unit: `[ΣE]` the unit of each edge, -1 for none, see `Session.removable`.
        owner: `[U]` the instance of each unit.
        instance: `[V]` of which each set is.
        sets: V sets of units `[...]`.
        share: of the progress bar.
    """
    device, prediction = unit.device, goal.prediction.clone()
    choice = torch.full((len(graphs),), -1, dtype=torch.int64, device=device)
    size = torch.tensor([len(one) for one in sets], device=device)
    members = torch.cat(sets) if sets else instance
    in_set = torch.arange(len(sets), device=device).repeat_interleave(size)
    if not len(members):
        session.advance(share)
        return Smallest(choice, prediction)
    span = len(owner) + 1
    keys = torch.sort(in_set * span + members).values

    def change(replicas: Replicas, select: Tensor) -> Change:
        of = unit[replicas.edge]
        wanted = select[replicas.edge_owner] * span + of
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return Change(edges=(of >= 0) & (keys[place] == wanted))

    out = evaluate(session, graphs, instance, change, "structural", lambda out, _: out, share)
    distance = goal.distance(out, instance)
    order = torch.argsort(distance, stable=True)
    order = order[torch.argsort(size[order], stable=True)]
    order = order[goal.reached(out, instance)[order]]
    first = torch.full_like(choice, len(order)).scatter_reduce(
        0, instance[order], torch.arange(len(order), device=device), "amin"
    )
    some = (first < len(order)).nonzero().flatten()
    choice[some] = order[first[some]]
    prediction[some] = out[choice[some]].to(prediction.dtype)
    return Smallest(choice, prediction)


def units_of(graphs: ComputationGraphs, owner: Tensor) -> Tensor:
    """How many units each instance has, `[B]`."""
    return segment_sum(torch.ones_like(owner), owner, len(graphs))


def ranks(owner: Tensor) -> Tensor:
    """How many of each instance come before each, for instances in order."""
    return torch.arange(len(owner), device=owner.device) - torch.searchsorted(owner, owner)
