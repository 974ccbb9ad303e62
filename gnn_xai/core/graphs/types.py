"""Heterogeneous graphs in flat ids: the types of their nodes, and the relations of their edges.

The nodes of all types are numbered one after the other within each graph, and so are the edges of all relations. What cuts
out, masks and removes works on these flat ids and never asks for a type; only what the model is handed (`by_type.py`), and
the calls of its layers, are in ids by type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from gnn_xai.core.graphs.spelling import EdgeType, Held, InStores, Spelling
from gnn_xai.errors import InputError, unknown


@dataclass(frozen=True, eq=False)
class Types:
    """The types of a heterogeneous graph's nodes, and the relations of its edges.

    Attributes:
        names: of the T node types.
        relations: the R relations.
        node_type: `[N]` type of each node, as a position in `names`.
        node_place: `[N]` position of each node among those of its type, over all graphs.
        edge_type: `[E]` relation of each edge, as a position in `relations`.
        edge_place: `[E]` position of each edge among those of its relation, over all graphs.
        columns: where the features of each type lie in `Graphs.x`, `(first, past the last)`; `None` for types without
            floating-point features. No two types share a column.
        node_attrs: other attributes of each type, tensors `[n, ...]` by name.
        edge_attrs: attributes of each relation, tensors `[e, ...]` by name.
        node_other, edge_other: what else each type and relation carries, by name, and that holds no ids; handed to the model
            as it is.
        spelling: where the data, and what the model is handed, holds all these.
        shapes: of the features of a node of each type: `(F,)`, or `(F, T)` for T points in time, which lie side by side.
        followed: attributes by name whose rows `{name}_batch` and `{name}_ptr` assign to graphs, as `follow_batch` asks for.
        flat: attributes by title that `Graphs` has a row of for each node or edge of all types, see `Graphs.with_flat`.
    """

    names: tuple[str, ...]
    relations: tuple[EdgeType, ...]
    node_type: Tensor
    node_place: Tensor
    edge_type: Tensor
    edge_place: Tensor
    columns: tuple[tuple[int, int] | None, ...]
    node_attrs: tuple[dict[str, Tensor], ...]
    edge_attrs: tuple[dict[str, Tensor], ...]
    node_other: tuple[dict[str, Any], ...]
    edge_other: tuple[dict[str, Any], ...]
    spelling: Spelling
    shapes: tuple[tuple[int, ...], ...]
    followed: frozenset[str] = frozenset()
    flat: Mapping[str, Held] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """The position of a node type.

        Raises:
            InputError: if there is none of that name.
        """
        if name not in self.names:
            raise unknown("node_type", name, self.names)
        return self.names.index(name)

    def relation(self, edge_type: Any, others: Sequence[EdgeType] = ()) -> EdgeType:
        """A relation by its source type, name and target type; one of these or of `others`, which have no edges.

        Raises:
            InputError: if there is none of that name.
        """
        known = tuple(dict.fromkeys([*self.relations, *others]))
        edge_type = tuple(edge_type) if isinstance(edge_type, (tuple, list)) else edge_type
        if edge_type not in known:
            raise unknown("edge_type", edge_type, known)
        return edge_type

    @cached_property
    def nodes(self) -> tuple[Tensor, ...]:
        """The flat ids of the nodes of each type, in the order of their places, `[n]` each."""
        return members(self.node_type, len(self.names))

    @cached_property
    def edges(self) -> tuple[Tensor, ...]:
        """The flat ids of the edges of each relation, `[e]` each."""
        return members(self.edge_type, len(self.relations))

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The names under which a model can ask for attributes by type, such as `x_dict` or `x_s`."""
        typed = zip(self.columns, self.node_attrs, self.node_other, strict=True)
        nodes = [[*["x"] * (columns is not None), *own, *other] for columns, own, other in typed]
        edges = [[*own, *other] for own, other in zip(self.edge_attrs, self.edge_other, strict=True)]
        return self.spelling.arguments(nodes, edges)

    @cached_property
    def held(self) -> dict[str, Held]:
        """The attributes with a row for each node of a type, or each edge of a relation, by title."""
        every = [Held("node", number, name) for number, own in enumerate(self.node_attrs) for name in own]
        every += [Held("edge", number, name) for number, own in enumerate(self.edge_attrs) for name in own]
        return {self.spelling.title(held): held for held in every}

    def rows(self, held: Held) -> Tensor:
        """The flat ids of the nodes or edges that have an attribute, in the order of its rows."""
        return (self.nodes if held.level == "node" else self.edges)[held.number]

    def content(self) -> dict[str, Any]:
        """Everything that types and relations carry, by name, for a checksum."""
        rows = zip((*self.names, *self.relations), (*self.node_attrs, *self.edge_attrs), strict=True)
        others = zip((*self.names, *self.relations), (*self.node_other, *self.edge_other), strict=True)
        named = {f"{name}.{key}": value for name, own in (*rows, *others) for key, value in own.items()}
        return {
            **named,
            "node_type": self.node_type,
            "edge_type": self.edge_type,
            "types": str(self.names + self.relations),
        }

    def take(self, node: Tensor, edge: Tensor) -> Types:
        """The types of some nodes and edges, with their attributes; places are counted anew."""
        node_type, edge_type = self.node_type[node], self.edge_type[edge]
        nodes, edges = members(node_type, len(self.names)), members(edge_type, len(self.relations))
        return replace(
            self,
            node_type=node_type,
            node_place=places(nodes, len(node)),
            edge_type=edge_type,
            edge_place=places(edges, len(edge)),
            node_attrs=_rows(self.node_attrs, [self.node_place[node[ids]] for ids in nodes]),
            edge_attrs=_rows(self.edge_attrs, [self.edge_place[edge[ids]] for ids in edges]),
        )


def members(type_of: Tensor, count: int) -> tuple[Tensor, ...]:
    """The positions of the elements of each of `count` types, in order."""
    order = torch.argsort(type_of, stable=True)
    return order.split(torch.bincount(type_of, minlength=count).tolist())


def places(members: Sequence[Tensor], size: int) -> Tensor:
    """The position of each of `size` elements among those of its type, whose members are listed."""
    place = members[0].new_zeros(size)
    for ids in members:
        place[ids] = torch.arange(len(ids), device=ids.device)
    return place


def _rows(attributes: Sequence[dict[str, Tensor]], places: Sequence[Tensor]) -> tuple[dict[str, Tensor], ...]:
    return tuple(
        {key: value[place] for key, value in own.items()} for own, place in zip(attributes, places, strict=True)
    )


# Reading #############################################################################################################


class Read(NamedTuple):
    """A heterogeneous graph, or a batch of them, as flat tensors; see `Graphs` for what they are.

    `rest` names tensors of types and relations that are no rows of theirs alone: the type or relation, the attribute, and
    what it has as many rows as all the same.
    """

    edge_index: Tensor
    batch: Tensor
    edge_batch: Tensor
    x: Tensor | None
    types: Types
    globals: dict[str, Any]
    rest: list[tuple[str | EdgeType, str, Literal["", "node", "edge"]]]


def only_labelled(data: HeteroData, relation: EdgeType) -> bool:
    """Whether a relation has no edges, and names pairs alone that a model is asked about: it is predicted, and no input."""
    return "edge_label_index" in data[relation] and "edge_index" not in data[relation] and "adj_t" not in data[relation]


def read(data: HeteroData, num_graphs: int, spelling: Spelling | None = None, followed: Collection[str] = ()) -> Read:
    """Read a `HeteroData`, or a batch of them.

    Args:
        data: one graph or a batch.
        num_graphs: how many graphs it holds.
        spelling: what the model is handed, where that is no `HeteroData`.
        followed: see `Types`.

    Raises:
        InputError: a type of unknown size, a relation whose ends do not exist, no relations.
    """
    names = tuple(data.node_types)
    relations = tuple(name for name in data.edge_types if not only_labelled(data, name))
    if not relations:
        raise InputError("expected HeteroData with at least one relation that has an edge_index, got none")
    counts = [_count(data, name) for name in names]
    own = data[relations[0]].get("edge_index")
    device = own.device if isinstance(own, Tensor) else torch.device("cpu")
    batches = [_batch_of(data, name, count, device) for name, count in zip(names, counts, strict=True)]
    node_type = torch.repeat_interleave(torch.arange(len(names)), torch.tensor(counts)).to(device)
    batch, order = torch.sort(torch.cat(batches), stable=True)  # by graph, then by type, then by place
    flat = torch.empty_like(order)
    flat[order] = torch.arange(len(order), device=device)
    start = dict(zip(names, torch.tensor([0, *counts]).cumsum(0).tolist(), strict=False))
    ends, owner = [], []
    for relation in relations:
        source, _, target = relation
        edge_index = _edges_of(data, relation, counts[names.index(source)], counts[names.index(target)])
        first = torch.tensor([[start[source]], [start[target]]], device=device)
        ends.append(flat[edge_index + first])
        owner.append(batches[names.index(source)][edge_index[0]])
    edge_type = torch.cat([torch.full_like(graph, number) for number, graph in enumerate(owner)])
    edge_batch, edge_order = torch.sort(torch.cat(owner), stable=True)
    node_type, edge_type = node_type[order], edge_type[edge_order]
    columns, shapes, x = _features(data, names, order)
    node_attrs, node_other, rest = _attributes(
        [data[name] for name in names], counts, followed, node=True, columns=columns
    )
    sizes = [int(graph.numel()) for graph in owner]
    edge_attrs, edge_other, more = _attributes([data[relation] for relation in relations], sizes, followed, node=False)
    labelled = [data[name] for name in data.edge_types if name not in relations]
    named: list[Any] = [(store._key, key, "") for store in labelled for key in store if key != "num_nodes"]
    types = Types(
        names,
        relations,
        node_type,
        places(members(node_type, len(names)), len(node_type)),
        edge_type,
        places(members(edge_type, len(relations)), len(edge_type)),
        columns,
        node_attrs,
        edge_attrs,
        node_other,
        edge_other,
        spelling or InStores(names, relations),
        shapes,
        frozenset(followed),
    )
    shared = {key: value for key, value in data._global_store.items() if key != "num_graphs"}
    return Read(torch.cat(ends, dim=1)[:, edge_order], batch, edge_batch, x, types, shared, [*rest, *more, *named])


def _count(data: HeteroData, name: str) -> int:
    """How many nodes a type has."""
    store = data[name]
    if "num_nodes" not in store and not any(store.is_node_attr(key) for key in store):
        raise InputError(
            f"expected node features x, or num_nodes, for node type {name!r}, got neither; set data[{name!r}].num_nodes"
        )
    return int(store.num_nodes)


def _batch_of(data: HeteroData, name: str, count: int, device: torch.device) -> Tensor:
    batch = data[name].get("batch")
    return torch.zeros(count, dtype=torch.int64, device=device) if batch is None else batch


def _edges_of(data: HeteroData, relation: EdgeType, sources: int, targets: int) -> Tensor:
    """The edges of a relation, `[2, e]`, whose ends exist."""
    edge_index = data[relation].get("edge_index")
    is_tensor = isinstance(edge_index, Tensor)
    if not is_tensor or edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.is_floating_point():
        of_other = "none" if edge_index is None else type(edge_index).__name__
        got = f"{edge_index.dtype} {list(edge_index.shape)}" if is_tensor else of_other
        raise InputError(f"expected data[{relation}].edge_index as integers of shape [2, num_edges], got {got}")
    for ids, count, end in ((edge_index[0], sources, relation[0]), (edge_index[1], targets, relation[2])):
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= count):
            raise InputError(
                f"data[{relation}].edge_index names {end} {int(ids.min())} to {int(ids.max())}, but the data has {count} "
                f"nodes of type {end!r} (0 to {count - 1})"
            )
    return edge_index.long()


def _features(
    data: HeteroData, names: Sequence[str], order: Tensor
) -> tuple[tuple[tuple[int, int] | None, ...], tuple[tuple[int, ...], ...], Tensor | None]:
    """Where the features of each type lie, their shapes, and all of them side by side, `[N, F]`: every type has columns of
    its own, as no feature of one means what a feature of another does.
    """
    columns: list[tuple[int, int] | None] = []
    shapes: list[tuple[int, ...]] = []
    width, parts = 0, []
    for name in names:
        x = data[name].get("x")
        masked = isinstance(x, Tensor) and x.dim() >= 2 and x.is_floating_point() and x.layout == torch.strided
        shapes.append(tuple(x.shape[1:]) if masked else ())
        x = x.flatten(1) if masked else None
        columns.append(None if x is None else (width, width + x.size(1)))
        width += 0 if x is None else x.size(1)
        parts.append((int(data[name].num_nodes), x))
    have = [x for _, x in parts if x is not None]
    if not have:
        return tuple(columns), tuple(shapes), None
    every = have[0].new_zeros(sum(count for count, _ in parts), width)
    first = 0
    for (count, x), place in zip(parts, columns, strict=True):
        if x is not None and place is not None:
            every[first : first + count, slice(*place)] = x.to(every.dtype)
        first += count
    return tuple(columns), tuple(shapes), every[order]


def _attributes(
    stores: Sequence[Any],
    sizes: Sequence[int],
    followed: Collection[str],
    *,
    node: bool,
    columns: Sequence[tuple[int, int] | None] = (),
) -> tuple[tuple[dict[str, Tensor], ...], tuple[dict[str, Any], ...], list[Any]]:
    """The attributes of each store that have a row for each of its elements, its others, and tensors that are neither."""
    rest: list[Any] = []
    rows: tuple[dict[str, Tensor], ...] = tuple({} for _ in stores)
    others: tuple[dict[str, Any], ...] = tuple({} for _ in stores)
    for number, (store, size) in enumerate(zip(stores, sizes, strict=True)):
        for key, value in store.items():
            if key in ("edge_index", "batch", "ptr", "num_nodes") or (node and key == "x" and columns[number]):
                continue
            if any(key in (f"{name}_batch", f"{name}_ptr") for name in followed):
                continue
            belongs = store.is_node_attr(key) if node else store.is_edge_attr(key)
            dense = isinstance(value, Tensor) and value.layout == torch.strided and value.dim() > 0
            counts = dense and not value.is_floating_point() and _counts(store, key, value)
            if belongs and dense and value.size(0) == size and not counts:
                rows[number][key] = value
            elif dense:
                rest.append((store._key, key, ("node" if node else "edge") if belongs else ""))
            else:
                others[number][key] = value
    return rows, others, rest


def _counts(store: Any, key: str, value: Tensor) -> bool:
    """Whether PyG adds something to the numbers of an attribute from graph to graph."""
    try:
        return bool(torch.as_tensor(store._parent().__inc__(key, value, store)).any())
    except Exception:  # it looks for what this object lacks
        return False
