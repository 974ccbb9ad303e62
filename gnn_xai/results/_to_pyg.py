"""One explanation as PyG's own: masks as long as the graph it is of."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain import Explanation as PyGExplanation

from gnn_xai.core.model.index import PAIRS
from gnn_xai.errors import InputError
from gnn_xai.results.columns import COLUMNS

OF_OTHERS = ("ptr", "batch", PAIRS, "edge_label")
"""Attributes that speak of more than one instance."""


def to_pyg(explanation: Any, data: Any) -> PyGExplanation:
    """An `Explanation` on the graph of the user's data that it is of, see `Explanations.to_pyg`."""
    e, level = explanation, explanation.source.task.task_level.value
    graph = graph_of(data, level, e.index)
    if not _contains(graph, e):
        raise InputError(
            f"expected the data that was explained, got a graph of {graph.num_nodes} nodes and {graph.num_edges} edges "
            f"that does not contain the computation graph of {e.name}"
        )
    out = PyGExplanation(**{key: graph[key] for key in list(graph.keys()) if key not in OF_OTHERS})
    if e.edge_mask is not None:
        out.edge_mask = e.edge_mask.new_zeros(graph.num_edges).index_copy(0, e.edge_id, e.edge_mask)
    if e.node_mask is not None and e.source.common:
        out.node_mask = e.node_mask.unsqueeze(0)
    elif e.node_mask is not None:
        zeros = e.node_mask.new_zeros(graph.num_nodes, e.node_mask.size(1))
        out.node_mask = zeros.index_copy(0, e.node_id, e.node_mask)
    for name, scores in e.columns.items():
        rows = e.source.level(f"{COLUMNS}{name}")
        if rows == "instance":
            out[f"{name}_mask"] = scores.unsqueeze(0)
            continue
        ids, size = (e.node_id, graph.num_nodes) if rows == "node" else (e.edge_id, graph.num_edges)
        out[f"{name}_mask"] = scores.new_zeros(size, scores.size(1)).index_copy(0, ids, scores)
    out.prediction, out.target = e.prediction.unsqueeze(0), torch.tensor([e.target], device=e.prediction.device)
    if level == "node":
        out.index = e.index
    if level == "edge":
        out[PAIRS], out.index = torch.tensor(e.index, device=e.prediction.device).unsqueeze(1), 0
    return out


def graph_of(data: Any, level: str, index: Any) -> Any:
    """The graph that an instance is of; several graphs are one for tasks of nodes and pairs. An empty one, if it is none of
    these.
    """
    one = isinstance(data, (Data, HeteroData))
    if level == "graph" and (isinstance(data, Batch) or not one):
        count = data.num_graphs if isinstance(data, Batch) else len(data)
        return data[index] if index < count else Data(num_nodes=0)
    return data if one else Batch.from_data_list(list(data))


def _contains(graph: Any, explanation: Any) -> bool:
    """A graph has the nodes of an explanation, and its edges under their ids."""
    nodes, edges = explanation.node_id, explanation.edge_id
    if len(nodes) and int(nodes.max()) >= (graph.num_nodes or 0):
        return False
    if len(edges) and int(edges.max()) >= graph.num_edges:
        return False
    if graph.edge_index is None:  # adj_t, whose edges have their ids by another order
        return True
    own = graph.edge_index[:, edges.to(graph.edge_index.device)].to(edges.device)
    return torch.equal(own, explanation.edge_index)
