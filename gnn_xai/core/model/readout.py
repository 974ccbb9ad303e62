"""Several outputs of a model as one instance: its score is the mean of theirs, and it has one mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import Tensor
from torch_geometric.explain.config import ModelTaskLevel

from gnn_xai.core.model.problem import Objective, Problem, RunOn
from gnn_xai.errors import InputError


@dataclass(frozen=True, eq=False)
class Joint(Problem):
    """Rows of a model's output on one graph, explained together.

    To the engines this is a graph-level problem of one instance, whose output `[R, K · C]` holds K rows side by side. The
    model always runs on the whole graph, one variant at a time, so it need not tell graphs of a batch apart, and what its
    outputs are numbered by (nodes, pairs of nodes) stays what it was. A removed node stays, too, with features 0 and
    without edges, unless outputs belong to graphs.

    Attributes:
        size: how many rows the output has.
        rows: `[K]` those that are explained.
        targets: `[K]` class of each row; for a binary classification or a regression `[K · C]`, one for each number that the
            model returns, row by row.
        values: `[1, K · C]` what a regression is held against in a loss; `None` for the model's own prediction.
        read: `[N]` bool, the nodes whose last state the rows are computed from.
    """

    size: int = field(kw_only=True)
    rows: Tensor = field(kw_only=True)
    targets: Tensor = field(kw_only=True)
    values: Tensor | None = field(default=None, kw_only=True)
    read: Tensor = field(kw_only=True)

    @property
    def node_level(self) -> bool:
        """Never: the one output belongs to the graph."""
        return False

    @property
    def alone(self) -> bool:
        """Always."""
        return True

    @property
    def pairs(self) -> tuple[Tensor, ...]:
        """What an edge-level task asks about, its `edge_label_index`."""
        given = self.graphs.other.values() if self.task.task_level == ModelTaskLevel.edge else ()
        return tuple(value for value in given if isinstance(value, Tensor))

    @property
    def nodes_stay(self) -> bool:
        """Unless outputs belong to graphs."""
        return self.task.task_level != ModelTaskLevel.graph

    def run(
        self, data: Any, rows: Tensor | None, shrunk: int | None = None, on: Callable[[], RunOn] | None = None
    ) -> Tensor:
        """The rows of the model's output on `data`, side by side, `[1, K · C]`."""
        if data.num_graphs != 1:
            raise InputError(
                f"expected one variant of the graph at a time, where several outputs share a mask, got {data.num_graphs}; "
                "explain one index at a time"
            )
        out = self.called(data, on)
        out = out.reshape(max(out.size(0), 1), -1) if out.dim() else out.reshape(1, 1)
        if len(out) != self.size:
            raise InputError(
                f"expected {self.size} output rows, as the whole graph has, got {len(out)} where something was taken out of "
                "it; use removal='message', which takes nothing out"
            )
        return out[self.rows].reshape(1, -1)

    @cached_property
    def _each(self) -> Problem:
        """How one row, or one number of it, is read."""
        return Problem(self.model, self.graphs, self.task, self.forward)

    def _apart(self, out: Tensor) -> Tensor:
        """`[R, K · C]` as `[R · K, C]`, or where every number has a target of its own as `[R · K · C, 1]`."""
        return out.reshape(-1, out.size(1) // len(self.targets))

    def check(self, out: Tensor) -> None:
        """See `Problem.check`."""
        self._each.check(self._apart(out))

    def score(self, out: Tensor, target: Tensor, objective: Objective = "margin") -> Tensor:
        """The mean score of the rows, each for its own target, `[R]`."""
        score = self._each.score(self._apart(out), self.targets.repeat(len(out)), objective)
        return score.reshape(len(out), -1).mean(1)

    def loss(self, out: Tensor, target: Tensor, prediction: Tensor, kind: Literal["nll", "margin"]) -> Tensor:
        """The mean loss of the rows, `[R]`."""
        held_against = prediction if self.values is None else self.values.expand_as(prediction)
        loss = self._each.loss(self._apart(out), self.targets.repeat(len(out)), self._apart(held_against), kind)
        return loss.reshape(len(out), -1).mean(1)
