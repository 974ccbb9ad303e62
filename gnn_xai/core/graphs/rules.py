"""PyG's batching rules: what the attributes of a data object belong to, and what the integers in them count."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric import EdgeIndex, Index

from gnn_xai.core.arrays.segments import owners, pointers
from gnn_xai.core.graphs.columns import Column, Counted, Level


@dataclass(frozen=True, eq=False)
class Rules:
    """What a data object says of its attributes: its `__cat_dim__` and `__inc__`, and the slices of a batch.

    A batch knows which rows of an attribute are those of each graph. Where it does not say, because somebody made it by
    hand, and in a single graph, the number of rows tells: as many as there are nodes, edges or graphs.

    Attributes:
        data: one graph or a batch.
        many: a batch.
        node_ptr, edge_ptr: `[G + 1]`, where nodes and edges of each graph start.
    """

    data: Any
    many: bool
    node_ptr: Tensor
    edge_ptr: Tensor

    def dim(self, key: str, value: Tensor) -> int | None:
        """The dimension along which rows stand; `None` where a single graph has none."""
        dim = self.data.__cat_dim__(key, value, self.data._store)
        if value.dim() == 0 or not (isinstance(dim, int) or dim is None):
            return None
        if dim is None:
            return 0 if self.many else None
        return dim % value.dim() if -value.dim() <= dim < value.dim() else None

    def column(self, key: str, value: Tensor) -> Column | None:
        """An attribute as a column; `None` where nothing tells what its rows belong to."""
        dim = self.dim(key, value)
        if dim is None:
            return None
        rows = value.movedim(dim, 0)
        starts = self._starts(key, len(rows))
        fits = self._fits(key, len(rows), starts)
        counted = self._counted(key, value, dim)
        if any(counted) and starts is None and fits is None:
            starts = self._starts_by_nodes(rows, counted)
        if starts is None and fits is not None:
            starts = {"node": self.node_ptr, "edge": self.edge_ptr}.get(fits)
        if starts is None and not self.many:
            starts = torch.tensor([0, len(rows)], device=value.device)
        if starts is None and len(rows) == len(self.node_ptr) - 1:
            starts = torch.arange(len(rows) + 1, device=value.device)
        if starts is None:
            return None
        level: Level = fits or "graph"
        if not any(counted):
            return Column(key, rows, level, dim, starts)
        return self._local(key, rows, level, dim, starts, counted)

    def _starts(self, key: str, size: int) -> Tensor | None:
        """Where the rows of each graph start, `[G + 1]`, as the data says."""
        device = self.node_ptr.device
        starts = self._slices.get(key)
        if isinstance(starts, Tensor) and starts.dim() == 1 and len(starts) == len(self.node_ptr):
            return starts.to(device) if int(starts[-1]) == size else None  # else it was changed since
        return None

    @cached_property
    def _slices(self) -> dict[str, Any]:
        return vars(self.data._store).get("_slice_dict") or {}

    def _fits(self, key: str, size: int, starts: Tensor | None) -> Level | None:
        """Whether there is a row for every node, or every edge; where both may be, PyG goes by the name."""
        if starts is None:
            node, edge = size == self._nodes, size == self._edges
        else:
            node, edge = torch.equal(starts, self.node_ptr), torch.equal(starts, self.edge_ptr)
        if node and edge:
            return "edge" if "edge" in key else "node"
        if edge and "edge" not in key and size == len(self.node_ptr) - 1 == self._edges:
            return None  # one edge in each graph: it belongs to the graph
        return "node" if node else "edge" if edge else None

    @cached_property
    def _nodes(self) -> int:
        return int(self.node_ptr[-1])

    @cached_property
    def _edges(self) -> int:
        return int(self.edge_ptr[-1])

    # What integers count ##############################################################################################

    def _counted(self, key: str, value: Tensor, dim: int) -> tuple[Counted, ...]:
        """What each of the K numbers of a row counts, by what `__inc__` adds to it."""
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            return ()
        incs = self._incs(key)
        if incs is not None and len(incs) > 1 and not bool(incs.any()):
            return ()
        added = self._added(self.example, key, value)
        if added is None or not bool(added.any()):
            return ()
        levels: tuple[Counted, Counted] = "node", "edge"
        after = {level: self._added(grown, key, value) for level, grown in zip(levels, self._grown, strict=True)}
        return kinds_of(value, dim, added, after)

    @staticmethod
    def _added(data: Any, key: str, value: Tensor) -> Tensor | None:
        """What PyG adds to ids of the next graph in a batch."""
        try:
            return torch.as_tensor(data.__inc__(key, value, data._store)).cpu()
        except Exception:  # it looks for what this object lacks
            return None

    @cached_property
    def example(self) -> Any:
        """One graph as its user made it, of a batch the one with most edges."""
        if not self.many or not self._slices:
            return self.data
        return self.data.get_example(int(self.edge_ptr.diff().argmax()))

    def _incs(self, key: str) -> Tensor | None:
        """What a batch says that was added to ids of each graph, `[G, ...]`."""
        incs = (vars(self.data._store).get("_inc_dict") or {}).get(key)
        return incs if isinstance(incs, Tensor) and len(incs) == len(self.node_ptr) - 1 else None

    @cached_property
    def _grown(self) -> tuple[Any, Any]:
        """The example with one more node, and with one more edge: what is added to ids of nodes grows with the nodes."""
        sizes = {"node": self.example.num_nodes, "edge": self.example.num_edges}
        rules = self if self.example is self.data else Rules(self.example, False, *map(_of_one, sizes.values()))
        grown = copy.copy(self.example), copy.copy(self.example)
        for key, value in self.example.to_dict().items():
            value = plain(value)
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                continue
            dim = rules.dim(key, value)
            level = None if dim is None else self._level_of_example(key, value.size(dim), sizes)
            if dim is not None and level is not None:
                shape = list(value.shape)
                shape[dim] += 1
                grown[level == "edge"][key] = value.new_zeros(1).expand(shape)
        grown[0].num_nodes = sizes["node"] + 1
        grown[1].num_nodes = sizes["node"]
        return grown

    def _level_of_example(self, key: str, size: int, sizes: dict[str, int]) -> str | None:
        """What the rows of an attribute belong to, as the whole batch tells."""
        if key in ("edge_index", "adj_t"):
            return "edge"
        value = self.data.get(key)
        if isinstance(value, Tensor) and (dim := self.dim(key, value)) is not None:
            return self._fits(key, value.size(dim), self._starts(key, value.size(dim)))
        return next((level for level, count in sizes.items() if count == size), None)

    def _starts_by_nodes(self, rows: Tensor, counted: tuple[Counted, ...]) -> Tensor | None:
        """Where the rows of each graph start, by the nodes that they name."""
        if "node" not in counted or not len(rows):
            return None
        named = rows.reshape(len(rows), -1)[:, counted.index("node")].long()
        if int(named.min()) < 0 or int(named.max()) >= int(self.node_ptr[-1]):
            return None
        graph = owners(self.node_ptr)[named]
        if bool((graph.diff() < 0).any()):
            return None
        return pointers(torch.bincount(graph, minlength=len(self.node_ptr) - 1))

    def _local(
        self, key: str, rows: Tensor, level: Level, dim: int, starts: Tensor, counted: tuple[Counted, ...]
    ) -> Column | None:
        """A column of ids, counted within their graph; numbers that are too large for that are no ids."""
        graph = owners(starts)
        numbers = rows.reshape(len(rows), len(counted)).long()
        offset, steps = self._offsets(key, numbers.size(1), counted)
        local = numbers - offset[graph]
        sizes = {"node": self.node_ptr.diff(), "edge": self.edge_ptr.diff()}
        too_large = [c in sizes and bool((local[:, k] >= sizes[c][graph]).any()) for k, c in enumerate(counted)]
        tuples = len(counted) > 1 and bool({"node", "edge"} & set(counted))
        aligned = level if tuples and level != "graph" else ""
        column = Column(
            key,
            local.reshape(rows.shape).to(rows.dtype),
            "graph" if tuples else level,
            dim,
            starts,
            counted,
            steps,
            aligned,
        )
        return column.without_ids(torch.tensor(too_large))

    def _offsets(self, key: str, numbers: int, counted: tuple[Counted, ...]) -> tuple[Tensor, Tensor]:
        """What was added to the ids of each graph, `[G, K]`, and by how much they grow from graph to graph."""
        graphs = len(self.node_ptr) - 1
        zero = self.node_ptr.new_zeros(graphs, numbers)
        if not self.many:
            return zero, zero
        incs = self._incs(key)
        if incs is not None:
            last_graph = self.data.get_example(graphs - 1)
            return offsets_of(incs, self._added(last_graph, key, last_graph[key]), graphs, numbers, zero.device)
        by_kind = {"node": self.node_ptr[:-1], "edge": self.edge_ptr[:-1]}
        return torch.stack([by_kind.get(c, zero[:, 0]) for c in counted], 1), zero


Kind = tuple[Literal["node", "edge"], int]
"""A node type or a relation, by number."""


def kinds_of(value: Tensor, dim: int, before: Tensor | None, after: Mapping[Any, Tensor | None]) -> tuple[Any, ...]:
    """The kind that each of the K numbers of a row counts, `"other"` for none of them and `""` for nothing; none at all
    where no number counts.

    Args:
        value: the attribute.
        dim: along which its rows stand.
        before: what is added to ids of the next graph.
        after: the same by kind, where the graph has one more of it.
    """
    shape = list(value.shape)
    shape[dim] = 1
    if before is None:
        return ()
    try:
        changes = [
            (0 * before if more is None else more - before).broadcast_to(shape).movedim(dim, 0).reshape(-1).tolist()
            for more in after.values()
        ]
        present = before.broadcast_to(shape).movedim(dim, 0).reshape(-1).tolist()
    except RuntimeError:  # of another shape than the value
        return ()
    kinds: list[Any] = []
    for step, *more in zip(present, *changes, strict=True):
        growing = [kind for kind, change in zip(after, more, strict=True) if change]
        kinds.append(growing[0] if len(growing) == 1 and sum(more) == 1 else "other" if step else "")
    return tuple(kinds) if any(kinds) else ()


def offsets_of(
    incs: Tensor | None, last: Tensor | None, graphs: int, numbers: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What was added to the ids of each graph, `[G, K]`, and by how much they grow from graph to graph.

    Args:
        incs: what was added to each graph's, `[G, ...]`; `None` for nothing.
        last: what would be added after the last graph.
        graphs, numbers, device: G, K, and where they are.
    """
    zero = torch.zeros(graphs, numbers, dtype=torch.int64, device=device)
    if incs is None:
        return zero, zero
    offset = incs.to(device).reshape(graphs, -1).expand(graphs, numbers)
    after = zero[:1] if last is None else last.to(device).reshape(1, -1).expand(1, numbers)
    return offset, torch.cat([offset.diff(dim=0), after])


def _of_one(size: int) -> Tensor:
    return torch.tensor([0, size])


def plain(value: Any) -> Any:
    """PyG's tensor subclasses (`EdgeIndex`, `Index`; sorted or not) as the tensor they hold; other values as they are.

    What is computed from an `Index` is one again, and its checks refuse ordinary arithmetic.
    """
    return value.as_tensor() if isinstance(value, (EdgeIndex, Index)) else value
