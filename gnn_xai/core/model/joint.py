"""Several outputs of a model as one instance: its score is the mean of theirs, and it has one mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnn_xai.core.model.problem import Objective, Problem
from gnn_xai.core.model.readout import JointReadout, Readout


@dataclass(frozen=True, eq=False)
class Joint(Problem):
    """Rows of a model's output on one graph, explained together.

    To the engines this is a graph-level problem of one instance, whose output holds the explained rows side by side.

    Attributes:
        rows: which rows the output holds.
        targets: class of each row; for a binary classification or a regression, one for each number that the model returns,
            row by row.
        values: what a regression is compared with in a loss; `None` for the model's own prediction.
        read: the nodes whose last state the rows are computed from.
    """

    rows: JointReadout = field(kw_only=True)
    targets: Int[Tensor, " targets"] = field(kw_only=True)
    values: Float[Tensor, "1 numbers"] | None = field(default=None, kw_only=True)
    read: Bool[Tensor, " nodes"] = field(kw_only=True)

    @property
    def readout(self) -> Readout:
        """The rows, side by side."""
        return self.rows

    @cached_property
    def _each(self) -> Problem:
        """How one row, or one number of it, is read."""
        return Problem(self.model, self.graphs, self.task, self.forward)

    def _apart(self, out: Float[Tensor, "outputs numbers"]) -> Float[Tensor, "parts columns"]:
        """The rows one below the other, or every number by itself where it has a target of its own."""
        return out.reshape(-1, out.size(1) // len(self.targets))

    def check(self, out: Float[Tensor, "outputs numbers"]) -> None:
        """See `Problem.check`."""
        self._each.check(self._apart(out))

    def score(
        self,
        out: Float[Tensor, "outputs numbers"],
        target: Int[Tensor, " outputs"],
        objective: Objective = "margin",
    ) -> Float[Tensor, " outputs"]:
        """The mean score of the rows, each for its own target."""
        score = self._each.score(self._apart(out), self.targets.repeat(len(out)), objective)
        return score.reshape(len(out), -1).mean(1)

    def loss(
        self,
        out: Float[Tensor, "outputs numbers"],
        target: Int[Tensor, " outputs"],
        prediction: Float[Tensor, "outputs numbers"],
        kind: Literal["nll", "margin"],
    ) -> Float[Tensor, " outputs"]:
        """The mean loss of the rows."""
        wanted = prediction if self.values is None else self.values.expand_as(prediction)
        loss = self._each.loss(self._apart(out), self.targets.repeat(len(out)), self._apart(wanted), kind)
        return loss.reshape(len(out), -1).mean(1)
