"""One call of PyG's `Explainer` on a heterogeneous graph."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.explain.config import ModelTaskLevel

from gnn_xai.algorithms.base import Algorithm
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.index import PAIRS
from gnn_xai.pyg._calls import Call


class TypedCall(Call):
    """A call with dictionaries of features and edges; scores come by node type and relation."""

    def _read_data(self, x: Any, edge_index: Any) -> tuple[Any, tuple[int, int]]:
        data = HeteroData()
        for name, value in x.items():
            data[name].x = value
        for relation, value in edge_index.items():
            data[relation].edge_index = value
        for name, values in self.kwargs.items():
            if isinstance(values, dict) and all(isinstance(value, Tensor) for value in values.values()):
                self.keys[name] = name.removesuffix("_dict")
                data.set_value_dict(self.keys[name], values)
        counts = (int(store.num_nodes or 0) for store in data.node_stores)
        return data, (sum(counts), sum(store.num_edges for store in data.edge_stores))

    def forward(self, model: nn.Module, data: Any) -> Tensor:
        """See `Call`."""
        follow = {name: data.collect(key) for name, key in self.keys.items()}
        if PAIRS in data:
            follow[PAIRS] = data[PAIRS]
        return model(data.x_dict, data.edge_index_dict, **{**self.kwargs, **follow})

    @property
    def _candidates(self) -> list[str]:
        """The node types that the rows of the output may belong to: those with as many nodes."""
        return [name for name in self.data.node_types if self.data[name].num_nodes == len(self.out)]

    def alone(self, method: Algorithm, row: int, target: int) -> tuple[Any, Any] | None:
        """See `Call`."""
        named = self._named(row)
        if named is None:
            return None
        explained = self._explained(method, self.data, row, **named, target=target, forward=self.forward)
        if explained is None:
            return None
        e = explained[0]
        return (
            None if e.node_mask is None else e.node_mask_dict,
            None if e.edge_mask is None else e.edge_mask_dict,
        )

    def _named(self, row: int) -> dict[str, Any] | None:
        """What a row of the output belongs to, in the options of `gnn_xai.explain`: PyG does not say of which types."""
        if self.config.task_level == ModelTaskLevel.node:
            for name in self._candidates:
                if self._keeps_output((name,), row):
                    return {"node_type": name, "index": row}
        elif self.pairs is not None:
            for edge_type in {relation[::2]: relation for relation in self.data.edge_types}.values():
                if self._keeps_output(edge_type[::2], row):
                    return {"edge_type": edge_type, "index": self.pairs[:, [row]]}
        return None

    def _keeps_output(self, names: tuple[str, ...], row: int) -> bool:
        """Whether a row of the output is of a node, or of a pair of nodes, of these types: then it is the output at the new
        number after the nodes of any type have been renumbered.
        """
        for moved in self.data.node_types:
            count = max(int(self.data[moved].num_nodes or 0), 1)
            data, at = self._shifted(moved), row
            if self.pairs is not None:
                pair = [
                    (int(node) + 1) % count if name == moved else int(node)
                    for name, node in zip(names, self.pairs[:, row], strict=True)
                ]
                data[PAIRS], at = self.pairs.new_tensor(pair).unsqueeze(1), 0
            elif names == (moved,):
                at = (row + 1) % count
            if not self._says_the_same(self.forward, data, at, row):
                return False
        return True

    def _shifted(self, name: str) -> HeteroData:
        """The data with the nodes of a type numbered one higher, the last one 0."""
        data = copy.copy(self.data)
        count = int(data[name].num_nodes or 0)
        for key, value in data[name].items():
            if isinstance(value, Tensor) and data[name].is_node_attr(key):
                data[name][key] = value.roll(1, 0)
        for relation in data.edge_types:
            ends = data[relation].edge_index
            data[relation].edge_index = torch.stack(
                [(end + 1) % count if kind == name else end for kind, end in zip(relation[::2], ends, strict=True)]
            )
        return data

    def _laid_out(self, masks: Scores) -> tuple[Any, Any]:
        types = as_graphs(self.data, self.out.device).types
        assert types is not None
        node = edge = None
        if masks.edge is not None:
            edge = {name: masks.edge[ids] for name, ids in zip(types.relations, types.edges, strict=True)}
        if masks.node is not None:
            node = {}
            for name, ids, columns in zip(types.names, types.nodes, types.columns, strict=True):
                own = masks.node if masks.node_type == "common_attributes" else masks.node[ids]
                node[name] = own if masks.node_type == "object" else own[:, slice(*(columns or (0, 0)))]
        return node, edge

    def _read(self, rows: Tensor) -> Tensor:
        graphs = as_graphs(self.data, rows.device)
        assert graphs.types is not None
        read = torch.zeros(graphs.num_nodes, dtype=torch.bool, device=rows.device)
        for name in self._candidates if self.config.task_level == ModelTaskLevel.node else []:
            read[graphs.types.nodes[graphs.types.number(name)][rows]] = True
        return read if bool(read.any()) else ~read
