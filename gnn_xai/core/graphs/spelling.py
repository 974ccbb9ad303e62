"""How a model is handed a heterogeneous graph: as a `HeteroData`, or as one `Data` that names its node and edge sets."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.data import batch as pyg_batch

EdgeType = tuple[str, str, str]
"""Source type, name, target type: what PyG calls an edge type."""


class Held(NamedTuple):
    """An attribute of a node type or a relation.

    Attributes:
        level: it has a row for each node of a type, or each edge of a relation.
        number: the position of the type or relation in `Types`.
        name: of the attribute.
    """

    level: Literal["node", "edge"]
    number: int
    name: str


class Spelling(ABC):
    """Where a data object holds what belongs to a node type or a relation.

    Attributes are `x`, `batch`, `ptr` and `num_nodes` of a node type, `edge_index` of a relation, and all others under their
    own names; types and relations are counted in the order of `Types`.

    Attributes:
        stored: those of the former that have these names in the data, too.
    """

    stored: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def empty(self) -> Any:
        """A batch without attributes."""

    @abstractmethod
    def put_node(self, data: Any, number: int, key: str, value: Any) -> None:
        """Write an attribute of a node type."""

    @abstractmethod
    def put_edge(self, data: Any, number: int, key: str, value: Any) -> None:
        """Write an attribute of a relation."""

    @abstractmethod
    def title(self, held: Held) -> str:
        """What an attribute of a type or relation is called where those of all of them have names."""

    @abstractmethod
    def arguments(self, nodes: Sequence[Sequence[str]], edges: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """The names under which a model can ask for attributes of types and relations."""


@dataclass(frozen=True)
class InStores(Spelling):
    """A `HeteroData`, with a store for every type and relation.

    Attributes:
        names: of the node types.
        relations: the relations.
    """

    stored: ClassVar[tuple[str, ...]] = ("x", "edge_index")

    names: tuple[str, ...]
    relations: tuple[EdgeType, ...]

    def empty(self) -> Any:
        """See `Spelling`."""
        return copy.copy(_EMPTY)

    def put_node(self, data: Any, number: int, key: str, value: Any) -> None:
        """See `Spelling`."""
        data[self.names[number]][key] = value

    def put_edge(self, data: Any, number: int, key: str, value: Any) -> None:
        """See `Spelling`."""
        data[self.relations[number]][key] = value

    def title(self, held: Held) -> str:
        """See `Spelling`."""
        return title_of((self.names if held.level == "node" else self.relations)[held.number], held.name)

    def arguments(self, nodes: Sequence[Sequence[str]], edges: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """See `Spelling`."""
        names = ["x"] * any("x" in keys for keys in nodes) + ["edge_index", "batch", "num_nodes"]
        names += [name for keys in (*nodes, *edges) for name in keys]
        return tuple(f"{name}_dict" for name in dict.fromkeys(names))


@dataclass(frozen=True)
class Named(Spelling):
    """One `Data` whose attributes are named for the node set or the edge set that they belong to.

    Attributes:
        base: the class of the user's graphs.
        nodes: the user's name for each of `x`, `batch`, `ptr`, `num_nodes` and `sizes` (of each graph) of each node set;
            what the data has no name for is left out.
        edges: the name of each edge set.
    """

    base: type
    nodes: tuple[Mapping[str, str], ...]
    edges: tuple[str, ...]

    def empty(self) -> Any:
        """See `Spelling`."""
        return empty_batch(self.base)

    def put_node(self, data: Any, number: int, key: str, value: Any) -> None:
        """See `Spelling`."""
        names = self.nodes[number]
        if key in names or key not in _OF_NODES:
            data[names.get(key, key)] = value
        if key == "ptr" and "sizes" in names:
            data[names["sizes"]] = value.diff()

    def put_edge(self, data: Any, number: int, key: str, value: Any) -> None:
        """See `Spelling`."""
        data[self.edges[number] if key == "edge_index" else key] = value

    def title(self, held: Held) -> str:
        """See `Spelling`."""
        return self.nodes[held.number].get(held.name, held.name) if held.level == "node" else held.name

    def arguments(self, nodes: Sequence[Sequence[str]], edges: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """See `Spelling`."""
        own = [names.get(key, key) for names, keys in zip(self.nodes, nodes, strict=True) for key in (*names, *keys)]
        return tuple(dict.fromkeys([*own, *self.edges, *(name for keys in edges for name in keys)]))


def title_of(holder: str | EdgeType, name: str) -> str:
    """An attribute of a type or relation in one word: `paper.year`, `user→rates→item.edge_attr`."""
    return f"{holder if isinstance(holder, str) else '→'.join(holder)}.{name}"


_OF_NODES = ("x", "batch", "ptr", "num_nodes")
_EMPTY: Any = Batch(_base_cls=HeteroData)  # making one takes longer than copying it
_EMPTY_OF: dict[type, Any] = {}


def class_of(source: Any) -> type:
    """The class of the graphs that a user handed in."""
    first = source if isinstance(source, Data) else next(iter(source), None)
    return type(first) if isinstance(first, Data) else Data


def forget_namesake(base: type) -> None:
    """Make PyG forget the class of batches of another class of the same name, as a notebook leaves behind that defines its
    class of graphs again: batches would follow the rules of the old one.
    """
    name = f"{base.__name__}Batch"
    known = vars(pyg_batch).get(name)
    if isinstance(known, type) and base not in known.__mro__:
        delattr(pyg_batch, name)


def empty_batch(base: type) -> Any:
    """A batch without attributes, of graphs of a class; of plain `Data`, where the class wants arguments."""
    if base not in _EMPTY_OF:
        forget_namesake(base)
        try:
            _EMPTY_OF[base] = Batch(_base_cls=base)
        except Exception:
            _EMPTY_OF[base] = Batch(_base_cls=Data)
    return copy.copy(_EMPTY_OF[base])


def rows_of(data: Any, name: str) -> int:
    """How many nodes the node set of a graph has that is named for its features, or for the number of its nodes."""
    value = getattr(data, name)
    return len(value) if isinstance(value, Tensor) else int(value)


def num_nodes_of(data: Any, name: str) -> int:
    """How many nodes of a type a data object holds that a model was handed."""
    return int(data[name].num_nodes) if isinstance(data, HeteroData) else len(data[f"{name}_batch"])
