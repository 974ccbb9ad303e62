"""What a model on a heterogeneous graph is handed: nodes and edges by type, in ids by type."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from gnn_xai.core.arrays.segments import pointers
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

    def data(self, node_id: Tensor, edge_id: Tensor, owner: Tensor, size: int) -> Any:
        """The union as a PyG batch of `HeteroData`, without features.

        Args:
            node_id, edge_id: `[ΣN]`, `[ΣE]` nodes and edges of the data.
            owner: `[ΣN]` the graph of each node.
            size: how many graphs there are.
        """
        types, out = self.types, copy.copy(_EMPTY)
        for number, (name, nodes) in enumerate(zip(types.names, self.nodes, strict=True)):
            place, store = types.node_place[node_id[nodes]], out[name]
            store.num_nodes = len(nodes)
            store.batch = owner[nodes]
            store.ptr = pointers(torch.bincount(owner[nodes], minlength=size))
            for key, value in types.node_attrs[number].items():
                store[key] = value[place]
            for key, value in types.node_other[number].items():
                store[key] = value
        for number, relation in enumerate(self.relations):
            place, store = types.edge_place[edge_id[relation.edges]], out[relation.name]
            store.edge_index = relation.edge_index
            for key, value in types.edge_attrs[number].items():
                store[key] = value[place]
            for key, value in types.edge_other[number].items():
                store[key] = value
        out._num_graphs = size  # what Batch.num_graphs reads
        return out

    def with_features(self, data: Any, x: Tensor) -> Any:
        """The same data with features `[ΣN, F]`, each type with its own columns."""
        data = copy.copy(data)
        for name, nodes, columns in zip(self.types.names, self.nodes, self.types.columns, strict=True):
            if columns is not None:
                data[name].x = x[nodes][:, slice(*columns)]
        return data


_EMPTY: Any = Batch(_base_cls=HeteroData)
