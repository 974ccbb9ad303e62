"""Several outputs of a model as one instance: its score is the mean of theirs, and it has one mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from torch import Tensor

from gnn_xai.core.model.problem import Objective, Problem
from gnn_xai.core.model.readout import JointReadout, Readout


@dataclass(frozen=True, eq=False)
class Joint(Problem):
    """Rows of a model's output on one graph, explained together.

    To the engines this is a graph-level problem of one instance, whose output `[R, K · C]` holds K rows side by side.

    Attributes:
        rows: which rows the output holds.
        targets: `[K]` class of each row; for a binary classification or a regression `[K · C]`, one for each number that the
            model returns, row by row.
        values: `[1, K · C]` what a regression is held against in a loss; `None` for the model's own prediction.
        read: `[N]` bool, the nodes whose last state the rows are computed from.
    """

    rows: JointReadout = field(kw_only=True)
    targets: Tensor = field(kw_only=True)
    values: Tensor | None = field(default=None, kw_only=True)
    read: Tensor = field(kw_only=True)

    @property
    def readout(self) -> Readout:
        """The rows, side by side."""
        return self.rows

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
