"""The same explanations computed by other packages, which explain one instance at a time.

Every package gets the steps, coefficients and mask types of our algorithm, and its own copy of the model.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import CaptumExplainer, Explainer
from torch_geometric.explain import GNNExplainer as PyGGNNExplainer
from torch_geometric.explain.algorithm import ExplainerAlgorithm
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.utils import k_hop_subgraph

import gnn_xai as gx
from benchmarks.workloads import Workload


class Found(NamedTuple):
    """A peer's explanation of one instance.

    Attributes:
        prediction: `[C]` the output that it explained.
        edge: one score per edge of the subgraph that it used.
        node: `[n, 1]`, `[n, F]` or `[1, F]`, as our mask types; `None` without.
        edge_id, node_id: which edges and nodes of the graph these are; `None` for all.
    """

    prediction: Tensor
    edge: Tensor
    node: Tensor | None = None
    edge_id: Tensor | None = None
    node_id: Tensor | None = None


Peer = Callable[[int], Found]

# Captum says that it sets requires_grad on its inputs, each time.
warnings.filterwarnings("ignore", "Input Tensor .* did not already require gradients", UserWarning)


def pyg(workload: Workload) -> Peer:
    """PyG's Explainer as documented: on the whole graph, one target at a time; at graph level, one graph at a time."""
    explainer, data = _explainer(workload), workload.data

    def explain(i: int) -> Found:
        graph, row = (data[i], None) if isinstance(data, list) else (data, i)
        more = {}
        if "edge_label_index" in graph:
            row, more = 0, {"edge_label_index": graph.edge_label_index[:, [i]]}
        found = explainer(graph.x, graph.edge_index, index=row, **more)
        return Found(found.prediction[row or 0], found.edge_mask, found.get("node_mask"))

    return explain


def pyg_subgraph(workload: Workload) -> Peer:
    """PyG's Explainer on the k-hop subgraph that the model sees; the time includes cutting it out."""
    explainer, data = _explainer(workload), workload.data
    assert isinstance(data, Data)

    def explain(i: int) -> Found:
        nodes, edge_index, row, kept = k_hop_subgraph(
            i, workload.hops, data.edge_index, relabel_nodes=True, num_nodes=data.num_nodes
        )
        found = explainer(data.x[nodes], edge_index, index=row)
        return Found(found.prediction[row[0]], found.edge_mask, found.get("node_mask"), kept.nonzero().flatten(), nodes)

    return explain


def _explainer(workload: Workload) -> Explainer:
    ours = workload.algorithm
    algorithm: ExplainerAlgorithm
    if isinstance(ours, gx.GNNExplainer):
        coefficients = ("edge_size", "edge_ent", "node_feat_size", "node_feat_ent")
        algorithm = PyGGNNExplainer(ours.epochs, ours.lr, **{name: getattr(ours, name) for name in coefficients})
    elif isinstance(ours, gx.IntegratedGradients):
        algorithm = CaptumExplainer("IntegratedGradients", n_steps=ours.steps, method="gausslegendre")
    else:
        algorithm = CaptumExplainer("Saliency")
    return Explainer(
        copy.deepcopy(workload.model),
        algorithm,
        explanation_type="model",
        node_mask_type=ours.node_mask_type,
        edge_mask_type=ours.edge_mask_type,
        model_config=workload.task,
    )


def rebuilt(workload: Workload) -> Peer:
    """A plain loop that removes one undirected edge (both directions) at a time: the drop of the predicted output."""
    model, data = workload.model, workload.data
    assert isinstance(data, list)

    @torch.no_grad()
    def explain(i: int) -> Found:
        x, (source, sink) = data[i].x, data[i].edge_index
        output = model(x, data[i].edge_index)[0]
        target = int(output.argmax())
        score = torch.zeros(len(source), device=source.device)
        for edge in (source < sink).nonzero().flatten().tolist():
            u, v = source[edge], sink[edge]
            gone = (source == u) & (sink == v) | (source == v) & (sink == u)
            without = model(x, torch.stack([source[~gone], sink[~gone]]))[0]
            score[gone] = output[target] - without[target]
        return Found(output, score)

    return explain


def graph_explain(workload: Workload) -> Peer:
    """GNNExplainer of graph-explain 0.8.0: always within three hops; one score per node, none at graph level.

    It passes edge masks to the model as `edge_weight`; here they reach any layer, as PyG's own masks do.
    """
    import graph_explain as ge

    ours, data, model = workload.algorithm, workload.data, _TakesEdgeWeight(copy.deepcopy(workload.model))
    explainer = ge.Explainer(ge.GNNExplainer(epochs=ours.epochs, lr=ours.lr))

    def explain(i: int) -> Found:
        if isinstance(data, list):
            found = explainer.explain_graph(data[i], model)
        else:
            found = explainer.explain_node(data, model, i)
        node = found.node_importance
        if node is not None:
            node = node.unsqueeze(1) if ours.node_mask_type == "object" else None
        return Found(found.prediction_original, found.edge_importance, node)

    return explain


class _TakesEdgeWeight(nn.Module):
    """A model with its messages multiplied by `edge_weight`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        if edge_weight is None:
            return self.model(x, edge_index)
        set_masks(self.model, edge_weight, edge_index, apply_sigmoid=False)
        try:
            return self.model(x, edge_index)
        finally:
            clear_masks(self.model)


PEERS: dict[str, Callable[[Workload], Peer]] = {
    peer.__name__: peer for peer in (pyg, pyg_subgraph, rebuilt, graph_explain)
}
EXACT = {"pyg", "pyg_subgraph", "rebuilt"}  # they explain the very output that we explain
LABELS = {
    "pyg": "PyG",
    "pyg_subgraph": "PyG on a subgraph",
    "rebuilt": "loop over rebuilt graphs",
    "graph_explain": "graph-explain",
}


def missing(name: str) -> str | None:
    """Reason why a peer is not available, or `None` if it is."""
    if name == "graph_explain" and find_spec("graph_explain") is None:
        return "not installed (pip install --no-deps graph-explain==0.8.0)"
    return None


def in_play(found: Found, explanation: gx.Explanation) -> tuple[Tensor, Tensor | None]:
    """A peer's edge and node masks, restricted to the edges and nodes of our explanation, in its order."""

    def pick(values: Tensor, ids: Tensor | None, wanted: Tensor) -> Tensor:
        values = values.detach().to(wanted.device)
        return values[wanted if ids is None else torch.searchsorted(ids, wanted)]

    node = found.node
    if node is not None:
        common = explanation.source.node_mask_type == "common_attributes"
        node = node.detach() if common else pick(node, found.node_id, explanation.node_id)
    return pick(found.edge, found.edge_id, explanation.edge_id), node


def as_explanations(masks: list[tuple[Tensor, Tensor | None]], ours: gx.Explanations) -> gx.Explanations:
    """Our explanations with a peer's masks in place of ours, so that a metric treats both in the same way."""
    edges, nodes = zip(*masks, strict=True)
    changed: dict[str, Any] = {"edge_mask": torch.cat(edges), "node_mask": None, "node_mask_type": None}
    if nodes[0] is not None:
        changed |= {"node_mask": torch.cat(nodes), "node_mask_type": ours.node_mask_type}
    return dataclasses.replace(ours, **changed)
