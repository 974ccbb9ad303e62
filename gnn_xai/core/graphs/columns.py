"""Attributes that hold ids, or any number of rows for a graph: cut out, joined and numbered anew by PyG's batching rules.

A row belongs to a node, to an edge or, with any number of others, to a graph; and the integers in it may count nodes, edges
or something else of their graph. In a union of graphs, rows stand side by side and ids are counted on from graph to graph;
where nodes or edges are taken out, ids still name what they named before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from gnn_xai.core.arrays.segments import gather_segments, owners
from gnn_xai.errors import InputError

Level = Literal["node", "edge", "graph"]
Counted = Literal["", "node", "edge", "other"]
"""What integers count: nothing, nodes or edges of their graph, or something else of it."""


Holder = str | tuple[str, str, str] | None
"""The type or relation of a heterogeneous graph; `None` for the graph itself."""


@dataclass(frozen=True, eq=False)
class Column:
    """An attribute of graphs, with its rows first and ids counted within their graph.

    Attributes:
        name: of the attribute.
        value: one row for each node or edge, or any number for each graph.
        level: what a row belongs to.
        dim: the dimension along which PyG joins it, which holds the rows.
        ptr: where the rows of each graph start.
        counted: what each of the K numbers of a row counts.
        steps: by how much numbers that count something else grow from graph to graph.
        aligned: has as many rows as there are nodes, or edges, though it is a set of tuples of ids with rows of its own.
        holder: the type or relation of a heterogeneous graph that holds it.
    """

    name: str
    value: Shaped[Tensor, "rows ..."]
    level: Level
    dim: int
    ptr: Int[Tensor, " pointers"]
    counted: tuple[Counted, ...] = ()
    steps: Int[Tensor, "graphs numbers"] | None = None
    aligned: Literal["", "node", "edge"] = ""
    holder: Holder = None

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"data.{self.name}" if self.holder is None else f"data[{self.holder!r}].{self.name}"

    @property
    def names(self) -> set[str]:
        """The levels whose elements it names."""
        return {"node", "edge"} & set(self.counted)

    @property
    def is_root(self) -> bool:
        """It names one node of each graph, as the root of a tree or the centre of a molecule."""
        return self.level == "graph" and self.counted == ("node",) and bool((self.ptr.diff() == 1).all())

    def take(self, select: Tensor) -> Column:
        """The same of some of the graphs, in that order."""
        rows, ptr = gather_segments(self.ptr, select)
        return replace(self, value=self.value[rows], ptr=ptr, steps=None if self.steps is None else self.steps[select])

    def laid(self, union: Placement, types: TypedPlaces | None = None) -> Tensor:
        """The attribute of a union of pieces of graphs, in the shape of the user's; with ids by type where there are types.

        Raises:
            InputError: if it names what was taken out, and is no set of tuples of ids, from which such tuples are left out.
        """
        rows, owner = union.rows(self)
        value = self.value[rows]
        if self.counted:
            value, kept = self._counted_anew(value, owner, union, types)
            if (
                types is not None
                and types.of_holder is not None
                and (types.of_holder != len(kept) or not bool(kept.all()))
            ):
                raise self._unclear
            if types is None and self.aligned and not bool(kept.all()):
                self._require_clear(union, kept, owner)
            value = value[kept]
        return value.movedim(0, self.dim)

    def starts(self, union: Placement) -> Tensor | None:
        """By how much ids of each piece of a union are counted on, as PyG's batches keep it."""
        if not self.counted:
            return None
        zero = union.graph.new_zeros(len(union.graph))
        starts = torch.stack([self._start(position, union, zero) for position in range(len(self.counted))], 1)
        return starts.reshape(-1, 1, *self.value.shape[1:]).movedim(1, self.dim + 1)

    def _start(self, position: int, union: Placement, zero: Tensor) -> Tensor:
        counted = self.counted[position]
        if counted in ("node", "edge"):
            owner = union.node_owner if counted == "node" else union.edge_owner
            size = torch.bincount(owner, minlength=len(zero))
        else:
            size = zero if self.steps is None or not counted else self.steps[union.graph, position]
        return size.cumsum(0) - size

    def _counted_anew(
        self, value: Tensor, owner: Tensor, union: Placement, types: TypedPlaces | None
    ) -> tuple[Tensor, Tensor]:
        """Rows with ids of the union, and which of them name nothing that was taken out."""
        numbers = value.reshape(len(value), len(self.counted))
        out, gone = [], torch.zeros_like(owner, dtype=torch.bool)
        for position, counted in enumerate(self.counted):
            number = numbers[:, position].long()
            if counted == "other":
                number = number + self._start(position, union, union.graph)[owner]
            elif counted:
                place = union.place(counted, owner, number)
                gone |= (number >= 0) & (place < 0)
                if types is not None:
                    place = types.of(counted, place)
                number = torch.where(number < 0, number, place)  # -1 names nothing
            out.append(number)
        if len(self.counted) == 1 and bool(gone.any()):
            number = int(numbers[gone][0])
            raise InputError(
                f"{self.title} names {self.counted[0]} {number} of its graph, which was taken out, so its ids cannot "
                "follow; use removal='message', which takes nothing out, or pass forward= that makes what it needs of "
                "data.edge_index"
            )
        return torch.stack(out, 1).reshape(value.shape).to(value.dtype), ~gone

    def _require_clear(self, union: Placement, kept: Tensor, owner: Tensor) -> None:
        """Raise an `InputError` where rows may belong to nodes or edges, or to nobody."""
        present = union.present(self.aligned)
        size = len(union.graph)
        left, wanted = (torch.bincount(owner[which], minlength=size) for which in (kept, present))
        if bool((left == wanted)[owner[kept != present]].any()):
            raise self._unclear

    @property
    def _unclear(self) -> InputError:
        return InputError(
            f"{self.title} has a row of ids for every {self.aligned}, or as many by coincidence, so it is not known which "
            "rows leave together with what is taken out; use removal='message', which takes nothing out"
        )

    def without_ids(self, counted: Tensor) -> Column:
        """The same where some of the K numbers `[K]` bool count nothing."""
        left = tuple("" if drop else c for c, drop in zip(self.counted, counted.tolist(), strict=True))
        return replace(self, counted=left if any(left) else ())


class TypedPlaces(NamedTuple):
    """Where nodes and edges of a union stand among those of their type or relation.

    Attributes:
        node, edge: `[ΣN]`, `[ΣE]` place of each.
        of_holder: how many nodes or edges the union holds of the type or relation that a column has a row for each of.
    """

    node: Tensor
    edge: Tensor
    of_holder: int | None

    def of(self, level: str, position: Tensor) -> Tensor:
        """The places of nodes or edges at some positions; -1 stays."""
        places = self.node if level == "node" else self.edge
        return torch.where(position < 0, position, places[position.clamp(min=0)]) if len(places) else position


@dataclass(frozen=True, eq=False)
class Placement:
    """Where nodes and edges stand in a union of pieces of graphs.

    Attributes:
        graph: the graph that each piece is of.
        nodes, edges: which nodes and edges of the data they hold.
        node_owner, edge_owner: the piece that each belongs to.
        node_ptr, edge_ptr: where nodes and edges of each graph of the data start.
        shared: rows of graphs, which are one graph, are handed over once for all pieces.
    """

    graph: Int[Tensor, " pieces"]
    nodes: Int[Tensor, " nodes"]
    edges: Int[Tensor, " edges"]
    node_owner: Int[Tensor, " nodes"]
    edge_owner: Int[Tensor, " edges"]
    node_ptr: Int[Tensor, " pointers"]
    edge_ptr: Int[Tensor, " pointers"]
    shared: bool = False

    def rows(self, column: Column) -> tuple[Tensor, Tensor]:
        """The rows of a column, and the piece that each belongs to."""
        if column.level == "node":
            return self.nodes, self.node_owner
        if column.level == "edge":
            return self.edges, self.edge_owner
        if self.shared and not column.counted:
            return torch.arange(len(column.value), device=self.graph.device), column.ptr.new_zeros(len(column.value))
        rows, ptr = gather_segments(column.ptr, self.graph)
        return rows, owners(ptr)

    def place(self, level: str, owner: Tensor, number: Tensor) -> Tensor:
        """Where nodes or edges stand that have a number within the graph of a piece; -1 for those that were taken out."""
        keys, order = self._node_keys if level == "node" else self._edge_keys
        ptr = self.node_ptr if level == "node" else self.edge_ptr
        wanted = owner * ptr[-1] + ptr[self.graph[owner]] + number
        if len(keys) == 0:
            return torch.full_like(wanted, -1)
        at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where(keys[at] == wanted, order[at], -1)

    def present(self, level: str) -> Tensor:
        """Which nodes or edges of the whole graphs of all pieces there are, bool, one graph after the other."""
        ptr = self.node_ptr if level == "node" else self.edge_ptr
        number, first = gather_segments(ptr, self.graph)
        owner = owners(first)
        return self.place(level, owner, number - ptr[self.graph[owner]]) >= 0

    @cached_property
    def _node_keys(self) -> tuple[Tensor, Tensor]:
        return torch.sort(self.node_owner * self.node_ptr[-1] + self.nodes)

    @cached_property
    def _edge_keys(self) -> tuple[Tensor, Tensor]:
        return torch.sort(self.edge_owner * self.edge_ptr[-1] + self.edges)


class Lazy(Mapping[Any, Any]):
    """A mapping whose keys and values are computed when they are asked for."""

    def __init__(self, keys: Callable[[], list[Any]], value: Callable[[Any], Any]) -> None:
        self._keys, self._value = keys, value

    def __getitem__(self, key: Any) -> Any:
        return self._value(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())
