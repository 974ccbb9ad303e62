"""What a model on a heterogeneous graph is handed: nodes and edges by type, in ids by type."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.graphs.columns import Column, Placement, TypedPlaces
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.types import EdgeType, Types, members, places


@dataclass(frozen=True, eq=False)
class Relation:
    """The edges of one relation in a union, as a layer gets them.

    Attributes:
        name: source type, name, target type.
        edge_index: `[2, e]` in places of the source and the target type.
        edges: `[e]` their positions in the union.
        sizes: how many nodes of the source and of the target type the union holds.
    """

    name: EdgeType
    edge_index: Tensor
    edges: Tensor
    sizes: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ByType:
    """A union of computation graphs by node type and relation.

    Attributes:
        types: of the data.
        nodes: positions in the union of the nodes of each type, in order.
        place: `[ΣN]` position of each node among those of its type.
        relations: the edges of each relation.
    """

    types: Types
    nodes: tuple[Tensor, ...]
    place: Tensor
    relations: tuple[Relation, ...]

    @classmethod
    def of(cls, types: Types, node_id: Tensor, edge_id: Tensor, edge_index: Tensor) -> ByType:
        """A union of nodes `[ΣN]` and edges `[ΣE]` of the data, with `edge_index` `[2, ΣE]` in nodes of the union."""
        nodes = members(types.node_type[node_id], len(types.names))
        place = places(nodes, len(node_id))
        relations = []
        for name, edges in zip(types.relations, members(types.edge_type[edge_id], len(types.relations)), strict=True):
            sizes = len(nodes[types.number(name[0])]), len(nodes[types.number(name[2])])
            relations.append(Relation(name, place[edge_index[:, edges]], edges, sizes))
        return cls(types, nodes, place, tuple(relations))

    def union(self, graphs: Graphs, placement: Placement) -> Any:
        """The union as a PyG batch with every attribute but features, see `Graphs.union`."""
        graph = placement.graph
        out = self._stores(placement.nodes, placement.edges, placement.node_owner, len(graph))
        values = {key: value[graph] for key, value in graphs.graph_attrs.items()} | graphs.other
        values |= {key: [values[i] for i in graph.tolist()] for key, values in graphs.lists.items()}
        for key, value in values.items():
            out[key] = value
        for column in graphs.columns.values():
            held = out if column.holder is None else out[column.holder]
            held[column.name] = self._laid(column, placement)
        return out

    def _stores(self, node_id: Tensor, edge_id: Tensor, owner: Tensor, size: int) -> Any:
        """The union as a PyG batch with what its types and relations hold.

        Args:
            node_id, edge_id: `[ΣN]`, `[ΣE]` nodes and edges of the data.
            owner: `[ΣN]` the graph of each node.
            size: how many graphs there are.
        """
        types, spelling = self.types, self.types.spelling
        out = spelling.empty()
        for number, nodes in enumerate(self.nodes):
            place, own = types.node_place[node_id[nodes]], types.node_attrs[number]
            ptr = pointers(torch.bincount(owner[nodes], minlength=size))
            values = {"num_nodes": len(nodes), "batch": owner[nodes], "ptr": ptr, **types.node_other[number]}
            values |= {key: value[place] for key, value in own.items()}
            for key in types.followed & {*own, *spelling.stored}:
                values |= {f"{key}_batch": owner[nodes], f"{key}_ptr": ptr}
            for key, value in values.items():
                spelling.put_node(out, number, key, value)
        for number, relation in enumerate(self.relations):
            place, own = types.edge_place[edge_id[relation.edges]], types.edge_attrs[number]
            values = {"edge_index": relation.edge_index, **types.edge_other[number]}
            values |= {key: value[place] for key, value in own.items()}
            for key in types.followed & {*own, *spelling.stored, relation.name[1]}:
                source = self.nodes[types.number(relation.name[0])]
                graph = owner[source[relation.edge_index[0]]]
                values |= {f"{key}_batch": graph, f"{key}_ptr": pointers(torch.bincount(graph, minlength=size))}
            for key, value in values.items():
                spelling.put_edge(out, number, key, value)
        out._num_graphs = size  # what Batch.num_graphs reads
        return out

    def _laid(self, column: Column, placement: Placement) -> Tensor:
        """A column of the data in the union, with ids by type; errors as for `Column.laid`."""
        names = self.types.relations if column.aligned == "edge" else self.types.names
        held = names.index(column.holder) if column.aligned else -1  # pyright: ignore[reportArgumentType]
        own = [relation.edges for relation in self.relations] if column.aligned == "edge" else self.nodes
        return column.laid(
            placement, TypedPlaces(self.place, self._edge_place, len(own[held]) if column.aligned else None)
        )

    @cached_property
    def _edge_place(self) -> Tensor:
        edges = [relation.edges for relation in self.relations]
        return places(edges, sum(map(len, edges)))

    def with_values(self, data: Any, values: Mapping[str, Tensor]) -> Any:
        """The same data with other values of some attributes: features `x` `[ΣN, F]`, of which each type has its own
        columns, attributes in `Types.flat`, and those of graphs.
        """
        data, spelling = copy.copy(data), self.types.spelling
        for name, value in values.items():
            held = self.types.flat.get(name)
            if name == "x":
                self._put_features(data, value)
            elif held is None:
                data[name] = value
            elif held.level == "node":
                spelling.put_node(data, held.number, held.name, value[self.nodes[held.number]])
            else:
                spelling.put_edge(data, held.number, held.name, value[self.relations[held.number].edges])
        return data

    def _put_features(self, data: Any, x: Tensor) -> None:
        for number, (nodes, columns) in enumerate(zip(self.nodes, self.types.columns, strict=True)):
            if columns is not None:
                own = x[nodes][:, slice(*columns)]
                shape = self.types.shapes[number]
                self.types.spelling.put_node(data, number, "x", own if len(shape) == 1 else own.reshape(-1, *shape))
