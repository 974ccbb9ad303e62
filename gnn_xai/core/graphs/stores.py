"""What the attributes of a heterogeneous graph hold beside rows of its nodes and edges, by PyG's batching rules.

Ids count the nodes of a type, or the edges of a relation, of their graph: which, is told by what `__inc__` returns where the
graph has one of these more. Inside, they are flat ids as all others, so that they follow what is cut out and removed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from gnn_xai.core.arrays.segments import owners
from gnn_xai.core.graphs.columns import Column, Holder
from gnn_xai.core.graphs.rules import Kind, kinds_of, offsets_of, plain
from gnn_xai.core.graphs.types import only_labelled


@dataclass(frozen=True, eq=False)
class Stores:
    """The rules of a `HeteroData`, or of one `Data` with several node or edge sets; one graph or a batch.

    Attributes:
        data: one graph or a batch.
        num_graphs: how many graphs a batch holds; `None` for one graph.
        grown: by kind, a graph of the data with one more node of a type, or one more edge of a relation.
        counts: how many nodes of each type, and edges of each relation, each graph has, `[G, T]` and `[G, R]`.
        example: that graph as it is.
    """

    data: Any
    num_graphs: int | None
    grown: Mapping[Kind, Any]
    counts: Mapping[str, Tensor]
    example: Any

    def column(self, holder: Holder, key: str, aligned: Any = "") -> Column | None:
        """An attribute of the data, or of a type or relation, as a column; `None` where nothing tells which rows belong to
        which graph.

        Args:
            holder: the type or relation.
            key: the name of the attribute.
            aligned: it has as many rows as there are nodes of the type, or edges of the relation.
        """
        value = plain(store_of(self.data, holder)[key])
        dim = self.data.__cat_dim__(key, value, store_of(self.data, holder)) if value.dim() else None
        if not isinstance(dim, int) or not -value.dim() <= dim < value.dim():
            return None
        dim %= value.dim()
        rows, starts = value.movedim(dim, 0), self._starts(holder, key, value.size(dim))
        if starts is None:
            return None
        kinds = self._kinds(holder, key, value, dim)
        if not any(kinds):
            return Column(key, rows, "graph", dim, starts, holder=holder)
        return self._ids(holder, key, rows, dim, starts, kinds, aligned)

    def _starts(self, holder: Holder, key: str, size: int) -> Tensor | None:
        """Where the rows of each graph start, `[G + 1]`."""
        device = self.counts["node"].device
        if self.num_graphs is None:
            return torch.tensor([0, size], device=device)
        starts = _bookkeeping(self.data, "_slice_dict", holder).get(key)
        if not isinstance(starts, Tensor) or starts.shape != (self.num_graphs + 1,) or int(starts[-1]) != size:
            return torch.arange(size + 1, device=device) if size == self.num_graphs else None
        return starts.to(device)

    def _kinds(self, holder: Holder, key: str, value: Tensor, dim: int) -> tuple[Any, ...]:
        """What each of the K numbers of a row counts."""
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            return ()
        after = {kind: self._added(data, holder, key) for kind, data in self.grown.items()}
        return kinds_of(value, dim, self._added(self.example, holder, key), after)

    @staticmethod
    def _added(data: Any, holder: Holder, key: str) -> Tensor | None:
        """What PyG adds to ids of the next graph in a batch."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyG's, where it can but guess a number of nodes
                store = store_of(data, holder)
                return torch.as_tensor(data.__inc__(key, store[key], store)).cpu()
        except Exception:  # it looks for what this object lacks
            return None

    def _ids(
        self, holder: Holder, key: str, rows: Tensor, dim: int, starts: Tensor, kinds: tuple[Any, ...], aligned: Any
    ) -> Column:
        """A column of ids, which are flat and counted within their graph; numbers that are too large for that are no ids."""
        graph, numbers = owners(starts), rows.reshape(len(rows), len(kinds)).long()
        incs, last = None, None
        if self.num_graphs is not None:
            incs = _bookkeeping(self.data, "_inc_dict", holder).get(key)
            last = self._added(self.data.get_example(self.num_graphs - 1), holder, key)
        offset, steps = offsets_of(incs, last, len(starts) - 1, len(kinds), starts.device)
        local = numbers - offset[graph]
        counted = []
        for place, kind in enumerate(kinds):
            if isinstance(kind, str):
                counted.append(kind)
                continue
            level, number = kind
            own, before = self.counts[level][:, number], self.counts[level][:, :number].sum(1)
            large = bool((local[:, place] >= own[graph]).any())
            counted.append("" if large else level)
            if not large:
                ids = local[:, place]
                local[:, place] = torch.where(ids < 0, ids, ids + before[graph])
        counted = tuple(counted) if any(counted) else ()
        return Column(key, local.reshape(rows.shape), "graph", dim, starts, counted, steps, aligned, holder)


def _bookkeeping(data: Any, name: str, holder: Holder) -> Mapping[str, Any]:
    """What a batch knows of the attributes of a type or relation."""
    known = vars(store_of(data, None)).get(name) or {}
    return known if holder is None else known.get(holder, {})


def store_of(data: Any, holder: Holder) -> Any:
    """Where a data object holds attributes of a type or relation, or its own."""
    if holder is not None:
        return data[holder]
    return data._global_store if isinstance(data, HeteroData) else data._store


def grown_types(example: HeteroData) -> dict[Kind, HeteroData]:
    """A graph with one more node of each type, and with one more edge of each relation."""
    grown: dict[Kind, HeteroData] = {}
    for number, name in enumerate(example.node_types):
        out, own = copy.copy(example), example[name]
        for key in [key for key in own if own.is_node_attr(key) and isinstance(own[key], Tensor)]:
            out[name][key] = _longer(plain(own[key]), 0)
        out[name].num_nodes = int(own.num_nodes or 0) + 1
        grown["node", number] = out
    for number, name in enumerate(name for name in example.edge_types if not only_labelled(example, name)):
        out, own = copy.copy(example), example[name]
        for key in [key for key in own if own.is_edge_attr(key) and isinstance(own[key], Tensor)]:
            out[name][key] = _longer(plain(own[key]), example.__cat_dim__(key, own[key], own))
        grown["edge", number] = out
    return grown


def _longer(value: Tensor, dim: Any) -> Tensor:
    """A tensor with one more row of zeros."""
    if value.layout != torch.strided or not isinstance(dim, int):
        return value
    shape = list(value.shape)
    shape[dim] += 1
    return value.new_zeros(1).expand(shape)
