"""Reports to an observer while masks are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Epoch:
    """Scores of some instances after so many steps, and what they cost.

    Attributes:
        number: steps taken; 0 before the first.
        restart: which of the initial masks they started from.
        positions: which instances these are, as positions within the index of `explain`.
        last: the masks are those that are returned (or that go into the mean over restarts).
        losses: terms of the loss with their coefficients: `prediction`, then `edge_size`, `edge_ent`,
            `node_feat_size` and `node_feat_ent` as far as there are such masks, and `total`, their sum.
        edge_mask: masks of edges, an undirected one once; `None` without.
        edge_row: the row of `positions` that each belongs to.
        node_mask: masks of nodes or of features that are not 0; `None` without.
        node_row: the row of `positions` that each belongs to.
    """

    number: int
    restart: int
    positions: Int[Tensor, " instances"]
    last: Bool[Tensor, " instances"]
    losses: dict[str, Float[Tensor, " instances"]]
    edge_mask: Float[Tensor, " edges"] | None
    edge_row: Int[Tensor, " edges"] | None
    node_mask: Float[Tensor, " values"] | None
    node_row: Int[Tensor, " values"] | None

    def only(self, rows: Bool[Tensor, " instances"]) -> Epoch:
        """The same for some of the instances."""
        place = rows.long().cumsum(0) - 1

        def taken(mask: Tensor | None, row: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
            if mask is None or row is None:
                return None, None
            return mask[rows[row]], place[row[rows[row]]]

        losses = {name: value[rows] for name, value in self.losses.items()}
        edges, nodes = taken(self.edge_mask, self.edge_row), taken(self.node_mask, self.node_row)
        return Epoch(self.number, self.restart, self.positions[rows], self.last[rows], losses, *edges, *nodes)


@runtime_checkable
class Observer(Protocol):
    """Receives reports. An instance whose batch ran out of memory starts anew, from epoch 0: discard its earlier reports."""

    def after(self, number: int) -> int:
        """The next epoch to report after this one."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """An epoch that was asked for, or one that is the last of some of its instances."""
        ...
