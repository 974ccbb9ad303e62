"""One call of PyG's `Explainer` on a heterogeneous graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.explain.config import ModelTaskLevel

from gnn_xai.algorithms.base import Algorithm
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.graphs.reading import as_graphs
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
        return model(data.x_dict, data.edge_index_dict, **{**self.kwargs, **follow})

    @property
    def _candidates(self) -> list[str]:
        """The node types that the rows of the output may belong to: those with as many nodes."""
        return [name for name in self.data.node_types if self.data[name].num_nodes == len(self.out)]

    def alone(self, method: Algorithm, row: int, target: int) -> tuple[Any, Any] | None:
        """See `Call`. PyG does not say of which type the explained node is; on the computation graph of a node of another
        type, the model returns another number of rows.
        """
        for name in self._candidates if self.config.task_level == ModelTaskLevel.node else []:
            options = {"node_type": name, "index": row, "target": target, "forward": self.forward}
            explanations = self._explained(method, self.data, **options)
            if explanations is None:
                continue
            e = explanations[0]
            return (
                None if e.node_mask is None else e.node_mask_dict,
                None if e.edge_mask is None else e.edge_mask_dict,
            )
        return None

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
