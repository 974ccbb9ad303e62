"""Data that is read a few graphs at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch_geometric.data.dataset import Dataset

from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.errors import InputError

SOME = 1024
"""Graphs of a list or data set that are looked at together when all of them are."""


class Shelf:
    """The user's data, read a few graphs at a time where it came as a list or data set: a union of all may be too large.

    Args:
        data: as in `gnn_xai.explain`.
        device: where its tensors are read to.
        whole: read all of it at once, for what is asked about its nodes.
    """

    def __init__(self, data: Any, device: torch.device, whole: bool) -> None:
        self.data, self.device = data, device
        several = isinstance(data, (Sequence, Dataset)) and not isinstance(data, (str, bytes)) and len(data) > 0
        self.whole = as_graphs(data, device) if whole or not several else None

    def __len__(self) -> int:
        return len(self.data) if self.whole is None else self.whole.num_graphs

    @property
    def num_graphs(self) -> int:
        """How many graphs there are."""
        return len(self)

    @property
    def num_nodes(self) -> int:
        """How many nodes there are in all, which takes reading them."""
        return sum(part.num_nodes for part in self.parts())

    def take(self, select: Int[Tensor, " selected"] | None) -> Graphs:
        """Some of the graphs, in that order; `None` for all.

        Raises:
            InputError: as in `as_graphs`.
        """
        if self.whole is not None:
            return self.whole if select is None or not self.whole.many else self.whole.take(select)
        select = torch.arange(len(self)) if select is None else select
        try:
            graphs = as_graphs([self.data[i] for i in select.tolist()], self.device)
        except InputError as error:
            raise InputError(f"{error} (counted from graph {int(select[0])})") from error
        return replace(graphs, source=self.data)

    def parts(self) -> Iterator[Graphs]:
        """All graphs in order, as many at a time as are held."""
        if self.whole is not None:
            yield self.whole
            return
        for select in torch.arange(len(self)).split(SOME):
            yield self.take(select)
