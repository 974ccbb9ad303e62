"""The user's data as plain tensors: one disjoint union, whether it came as one graph or as many."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from gnn_xai.core.arrays.keyed_random import mix
from gnn_xai.core.arrays.segments import as_rows, gather_segments, owners, pointers, segment_sum
from gnn_xai.core.graphs.columns import Column, Lazy, Level, Placement
from gnn_xai.core.graphs.matching import match_edges, pair_directions
from gnn_xai.core.graphs.spelling import class_of, empty_batch
from gnn_xai.core.graphs.types import Types

Flow = Literal["source_to_target", "target_to_source", "both"]
KEYS = ("n_id", "e_id")
"""Attributes that hold ids by which random numbers are keyed, where the data carries them."""


@dataclass(frozen=True, eq=False)
class Graphs:
    """All graphs of a question as one disjoint union.

    Attributes:
        edge_index: nodes numbered over all graphs.
        batch: the graph of each node.
        node_ptr, edge_ptr: where each graph's nodes and edges start.
        node_attrs: attributes of nodes by name (`x`, `pos`, ...).
        edge_attrs: attributes of edges by name (`edge_attr`, `edge_weight`, ...).
        graph_attrs: attributes of graphs by name.
        columns: attributes by name that hold ids, have any number of rows for a graph, or rows along another dimension.
        lists: lists by name of one value for each graph.
        followed: attributes by name whose rows `{name}_batch` and `{name}_ptr` assign to graphs, as `follow_batch` asks for.
        other: whatever else the data carries; handed to the model as it is.
        many: the data came as several graphs; ids are then counted within each graph.
        source: the user's object, as it was handed in.
        factors: ones in the shape of an attribute, by its name, where it holds codes whose embeddings masks can multiply.
        types: of the nodes and edges of a heterogeneous graph, with their attributes; `None` for a homogeneous one. The
            features of all types stand side by side in `x`.
    """

    edge_index: Int[Tensor, "2 edges"]
    batch: Int[Tensor, " nodes"]
    node_ptr: Int[Tensor, " pointers"]
    edge_ptr: Int[Tensor, " pointers"]
    node_attrs: dict[str, Shaped[Tensor, "nodes ..."]]
    edge_attrs: dict[str, Shaped[Tensor, "edges ..."]]
    graph_attrs: dict[str, Shaped[Tensor, "graphs ..."]]
    other: dict[str, Any]
    many: bool
    source: Any
    factors: dict[str, Shaped[Tensor, "rows ..."]] = field(default_factory=dict)
    types: Types | None = None
    columns: dict[str, Column] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(default_factory=dict)
    followed: tuple[str, ...] = ()

    @property
    def num_nodes(self) -> int:
        """Nodes of all graphs."""
        return len(self.batch)

    @property
    def num_edges(self) -> int:
        """Edges of all graphs."""
        return self.edge_index.size(1)

    @property
    def num_graphs(self) -> int:
        """How many graphs there are."""
        return len(self.node_ptr) - 1

    @property
    def x(self) -> Shaped[Tensor, "nodes ..."] | None:
        """Node features, if there are any."""
        return self.node_attrs.get("x")

    @property
    def features(self) -> Shaped[Tensor, "nodes ..."] | None:
        """The features that masks multiply and removals set to 0: `x`, or for codes the factors of their embeddings."""
        return None if self.x is None else self.masked("x")

    @property
    def levels(self) -> dict[str, Level]:
        """The attributes with a row for each node, edge or graph, and which of these."""
        pairs: list[tuple[Level, dict[str, Tensor]]] = [
            ("node", self.node_attrs),
            ("edge", self.edge_attrs),
            ("graph", self.graph_attrs),
        ]
        return {name: level for level, attributes in pairs for name in attributes}

    def values(self, name: str) -> Shaped[Tensor, "rows ..."]:
        """An attribute with a row for each node, edge or graph."""
        return {**self.graph_attrs, **self.edge_attrs, **self.node_attrs}[name]

    def masked(self, name: str) -> Shaped[Tensor, "rows ..."]:
        """The same as masks multiply it: its values, or for codes the factors of their embeddings."""
        return self.factors[name] if name in self.factors else self.values(name)

    def with_values(self, name: str, values: Shaped[Tensor, "rows ..."]) -> Graphs:
        """The same data with other values of such an attribute."""
        of: dict[Level, str] = {"node": "node_attrs", "edge": "edge_attrs", "graph": "graph_attrs"}
        where = of[self.levels[name]]
        return replace(self, **{where: {**getattr(self, where), name: values}})

    def with_flat(self, title: str) -> Graphs:
        """The same heterogeneous graph with an attribute of a type or relation as rows of all nodes or edges, by its title;
        0 where they are of another type.
        """
        assert self.types is not None
        held = self.types.held[title]
        own = (self.types.node_attrs if held.level == "node" else self.types.edge_attrs)[held.number][held.name]
        count = self.num_nodes if held.level == "node" else self.num_edges
        values = own.new_zeros(count, *own.shape[1:]).index_copy(0, self.types.rows(held), own)
        flat = replace(self, types=replace(self.types, flat={**self.types.flat, title: held}))
        if held.level == "node":
            return replace(flat, node_attrs={**self.node_attrs, title: values})
        return replace(flat, edge_attrs={**self.edge_attrs, title: values})

    def holds(self, name: str) -> Bool[Tensor, " rows"] | None:
        """Which nodes or edges have an attribute that one type or relation alone holds; `None` where all have it."""
        held = None if self.types is None else self.types.flat.get(name)
        if held is None or self.types is None:
            return None
        return (self.types.node_type if held.level == "node" else self.types.edge_type) == held.number

    @cached_property
    def has_roots(self) -> bool:
        """An attribute names one node of each graph."""
        return any(column.is_root for column in self.columns.values())

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.edge_index.device

    @cached_property
    def edge_batch(self) -> Int[Tensor, " edges"]:
        """The graph of each edge."""
        return owners(self.edge_ptr)

    @cached_property
    def node_key(self) -> Int[Tensor, " nodes"]:
        """Keys of random numbers for each node: its position in its graph, or its `n_id` where the data has it (PyG's
        samplers write it), so that a relabelled or sampled graph gets the same numbers; by type, where there are several.
        """
        if self.types is not None:
            return _by_type(self.types.node_type, self.node_in_type, self.types.node_attrs, "n_id")
        position = torch.arange(self.num_nodes, device=self.device)
        return _ids(self.node_attrs.get("n_id"), position - self.node_ptr[self.batch])

    @cached_property
    def edge_key(self) -> Int[Tensor, " edges"]:
        """Keys of random numbers for each edge: its position in its graph, or its `e_id`; by relation, if there are some."""
        if self.types is not None:
            return _by_type(self.types.edge_type, self.edge_in_type, self.types.edge_attrs, "e_id")
        position = torch.arange(self.num_edges, device=self.device)
        return _ids(self.edge_attrs.get("e_id"), position - self.edge_ptr[self.edge_batch])

    def roots_key(self, index: Int[Tensor, "instances ..."]) -> Int[Tensor, " instances"]:
        """The same for instances around a node, or around several each."""
        first, *others = index.reshape(len(index), -1).unbind(1)
        key = self.node_key[first]
        for node in others:
            key = mix(key) ^ mix(self.node_key[node] + 1)
        return key

    @cached_property
    def node_in_type(self) -> Int[Tensor, " nodes"]:
        """The id of each node of a heterogeneous graph within its type and graph."""
        assert self.types is not None
        return _rank(self.batch * len(self.types.names) + self.types.node_type)

    @cached_property
    def edge_in_type(self) -> Int[Tensor, " edges"]:
        """The id of each edge of a heterogeneous graph within its relation and graph."""
        assert self.types is not None
        return _rank(self.edge_batch * len(self.types.relations) + self.types.edge_type)

    @cached_property
    def graph_key(self) -> Int[Tensor, " graphs"]:
        """A fingerprint of each graph's degrees and features, so that a graph explained alone keeps its key."""
        row, col = self.edge_index
        degree_out = torch.bincount(row, minlength=self.num_nodes)
        degree_in = torch.bincount(col, minlength=self.num_nodes)
        edges = mix(mix(degree_out[row] * 65_537 + degree_in[row]) ^ mix(degree_in[col]))
        nodes = mix(degree_in)
        if self.x is not None:
            nodes = mix(nodes ^ _row_hash(self.x))
        total = segment_sum(nodes, self.batch, self.num_graphs)
        return mix(total + segment_sum(edges, self.edge_batch, self.num_graphs))

    @cached_property
    def reverse(self) -> Int[Tensor, " edges"]:
        """The edge that runs the other way, or -1 where there is none; parallel edges pair with those of the same
        attributes where both directions of all edges have them, and else in order.

        A self loop is its own reverse. Edges pair within a graph only if the whole graph is undirected, that is, if
        every edge of it has a partner: one reciprocal pair does not make a directed graph undirected. In a heterogeneous
        graph they pair within a relation, as the layer of another relation says something else with the same edge.
        """
        group, groups = self.edge_batch, self.num_graphs
        if self.types is not None:
            group, groups = group * len(self.types.relations) + self.types.edge_type, groups * len(self.types.relations)

        def everywhere(holds: Bool[Tensor, " edges"]) -> Bool[Tensor, " edges"]:
            return (segment_sum((~holds).long(), group, groups) == 0)[group]

        if self.types is not None:
            partner = torch.full_like(group, -1)
            for edges in self.types.edges:
                place = match_edges(self.edge_index[:, edges].flip(0), self.edge_index[:, edges], self.num_nodes)
                partner[edges] = torch.where(place < 0, -1, edges[place])
            return torch.where(everywhere(partner >= 0), partner, -1)
        partner = match_edges(self.edge_index.flip(0), self.edge_index, self.num_nodes)
        hashes = [mix(_row_hash(value)) for key, value in sorted(self.edge_attrs.items()) if key != "e_id"]
        if hashes:
            attributes = torch.stack(hashes).sum(0)
            alike = pair_directions(self.edge_index, self.num_nodes, attributes)
            partner = torch.where(everywhere(attributes[alike] == attributes), alike, partner)
        return torch.where(everywhere(partner >= 0), partner, -1)

    @cached_property
    def symmetric(self) -> bool:
        """Whether every edge has its reverse."""
        return bool((self.reverse >= 0).all())

    def incidence(
        self, flow: Flow
    ) -> tuple[Int[Tensor, " pointers"], Int[Tensor, " messages"], Int[Tensor, " messages"]]:
        """The edges sorted by the node they carry messages to, as CSR; its self loops first, then by their keys.

        Returns `(ptr, sender, edge)`. For `flow="both"`, where layers of either flow are present, every edge carries
        messages both ways and is listed twice.
        """
        if flow not in self._incidence:
            row, col = self.edge_index
            edge = torch.arange(self.num_edges, device=self.device)
            if flow == "source_to_target":
                sender, receiver = row, col
            elif flow == "target_to_source":
                sender, receiver = col, row
            else:
                sender, receiver, edge = torch.cat([row, col]), torch.cat([col, row]), torch.cat([edge, edge])
            place = 2 * receiver + (sender != receiver)
            if "e_id" in self.edge_attrs:
                by_key = torch.argsort(self.edge_key[edge], stable=True)
                order = by_key[torch.argsort(place[by_key], stable=True)]
            else:
                order = torch.argsort(place, stable=True)
            ptr = pointers(torch.bincount(receiver, minlength=self.num_nodes))
            self._incidence[flow] = ptr, sender[order], edge[order]
        return self._incidence[flow]

    @cached_property
    def _incidence(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        return {}

    def take(self, select: Int[Tensor, " selected"]) -> Graphs:
        """Some of the graphs, in that order."""
        node, node_ptr = gather_segments(self.node_ptr, select)
        edge, edge_ptr = gather_segments(self.edge_ptr, select)
        shift = torch.repeat_interleave(node_ptr[:-1] - self.node_ptr[select], edge_ptr.diff())
        rows = {"node": node, "edge": edge, "graph": select}
        return replace(
            self,
            edge_index=self.edge_index[:, edge] + shift,
            batch=owners(node_ptr),
            node_ptr=node_ptr,
            edge_ptr=edge_ptr,
            node_attrs={key: value[node] for key, value in self.node_attrs.items()},
            edge_attrs={key: value[edge] for key, value in self.edge_attrs.items()},
            graph_attrs={key: value[select] for key, value in self.graph_attrs.items()},
            factors={key: value[rows[self.levels[key]]] for key, value in self.factors.items()},
            types=None if self.types is None else self.types.take(node, edge),
            columns={key: column.take(select) for key, column in self.columns.items()},
            lists={key: [values[i] for i in select.tolist()] for key, values in self.lists.items()},
        )

    def content(self) -> dict[str, Any]:
        """Everything that the data says, for a checksum."""
        ptr = {"node_ptr": self.node_ptr, "edge_ptr": self.edge_ptr, "edge_index": self.edge_index}
        columns = {key: column.value for key, column in self.columns.items()}
        columns |= {f"{key}_rows": column.ptr for key, column in self.columns.items()}
        attrs = {**self.other, **self.lists, **self.node_attrs, **self.edge_attrs, **self.graph_attrs}
        typed = {} if self.types is None else self.types.content()
        return {**attrs, **columns, **ptr, **typed}

    def placement(
        self, nodes: Tensor, node_owner: Tensor, edges: Tensor, edge_owner: Tensor, graph: Tensor, shared: bool = False
    ) -> Placement:
        """Where nodes and edges stand in a union of pieces of graphs `[R]`."""
        return Placement(graph, nodes, edges, node_owner, edge_owner, self.node_ptr, self.edge_ptr, shared)

    def union(self, placement: Placement, edge_index: Tensor) -> Any:
        """A PyG `Batch` of pieces of graphs, with new `edge_index` and every attribute but `x`.

        Raises:
            InputError: if an attribute names what was left out of a piece, see `Column.laid`.
        """
        nodes, edges, graph, size = placement.nodes, placement.edges, placement.graph, len(placement.graph)
        out = copy.copy(self._empty)
        out.update({key: value[nodes] for key, value in self.node_attrs.items() if key != "x"})
        out.update({key: value[edges] for key, value in self.edge_attrs.items()})
        out.update({key: value[graph] for key, value in self.graph_attrs.items()})
        out.update(self.other)
        out.edge_index, out.batch = edge_index, placement.node_owner
        out.ptr = pointers(torch.bincount(placement.node_owner, minlength=size))
        out.num_nodes = len(nodes)
        if self.lists:
            out.update({key: [values[i] for i in graph.tolist()] for key, values in self.lists.items()})
        for key, column in self.columns.items():
            out[key] = column.laid(placement)
        for key in self.followed:
            owner = self._owner(key, placement)
            out.update({f"{key}_batch": owner, f"{key}_ptr": pointers(torch.bincount(owner, minlength=size))})
        self._separable(out, placement)
        return out

    def _owner(self, key: str, placement: Placement) -> Tensor:
        """The piece that each row of an attribute belongs to in a union."""
        if key in self.columns:
            return placement.rows(self.columns[key])[1]
        if key in self.node_attrs:
            return placement.node_owner
        if key in self.edge_attrs or key == "edge_index":
            return placement.edge_owner
        return torch.arange(len(placement.graph), device=placement.graph.device)

    def _separable(self, out: Any, placement: Placement) -> None:
        """Tell a union what `to_data_list` needs, which nearly no model calls; so it is computed when that is."""
        size, ptr = len(placement.graph), out.ptr

        def keys() -> list[str]:
            levels = self.node_attrs, self.edge_attrs, self.graph_attrs, self.columns, self.lists
            return ["edge_index", *(key for level in levels for key in level)]

        def starts(key: str) -> Tensor:
            return pointers(torch.bincount(self._owner(key, placement), minlength=size))

        def counted_on(key: str) -> Tensor | None:
            if key == "edge_index":
                return ptr[:-1]
            return self.columns[key].starts(placement) if key in self.columns else None

        vars(out._store).update(
            _num_graphs=size,  # what Batch.num_graphs reads, also for a last piece without nodes
            _num_nodes=Lazy(lambda: list(range(size)), lambda piece: int(ptr[piece + 1] - ptr[piece])),
            _slice_dict=Lazy(keys, starts),
            _inc_dict=Lazy(keys, counted_on),
        )

    @cached_property
    def _empty(self) -> Any:
        """A batch without attributes, of the class that the user's graphs have."""
        return empty_batch(class_of(self.source))


def _rank(key: Int[Tensor, " length"]) -> Int[Tensor, " length"]:
    """How many equal ones stand before each of some sorted numbers."""
    return torch.arange(len(key), device=key.device) - torch.searchsorted(key, key)


def _ids(carried: Shaped[Tensor, ...] | None, positions: Int[Tensor, " length"]) -> Int[Tensor, " length"]:
    """Ids that the data carries, where they are ids (integers, one each); positions otherwise."""
    if carried is None or carried.shape != positions.shape or carried.is_floating_point():
        return positions
    return carried.long()


def _by_type(
    kind: Int[Tensor, " length"],
    positions: Int[Tensor, " length"],
    attrs: Sequence[Mapping[str, Tensor]],
    name: str,
) -> Int[Tensor, " length"]:
    """The same within each type: ids of two types are not equal."""
    keys = positions.clone()
    for number, carried in enumerate(attrs):
        inside = kind == number
        keys[inside] = _ids(carried.get(name), positions[inside])
    return keys + (kind << 40)


def _row_hash(values: Shaped[Tensor, "rows ..."]) -> Int[Tensor, " rows"]:
    """An int64 for every row of `values`, the same for the same row."""
    rows = as_rows(values)
    weight = mix(torch.arange(rows.size(1), device=rows.device))
    return (rows.float().contiguous().view(torch.int32).long() * weight).sum(1)
