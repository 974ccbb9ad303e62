"""Attention: the weights that PyG's layers return themselves, reduced over heads and layers as a plain loop would."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.nn.conv import hgt_conv
from torch_geometric.utils import softmax

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.errors import InputError
from gnn_xai.testing import plain

LAYERS: dict[str, Any] = {
    "GATConv": lambda: pyg.GATConv(4, 4, heads=2, concat=False),
    "GATv2Conv": lambda: pyg.GATv2Conv(4, 4, heads=3, concat=False),
    "TransformerConv": lambda: pyg.TransformerConv(4, 4, heads=2, concat=False),
}


def network(layer: str, pool: Any = None) -> testing.Network:
    return testing.seeded(lambda: testing.Network([LAYERS[layer](), LAYERS[layer]()], pool=pool))()


def returned(model: testing.Network, x: Tensor, edge_index: Tensor) -> list[dict[tuple[int, int], Tensor]]:
    """The weights `[heads]` of every message of each layer, as the layer returns them."""
    found = []
    with torch.no_grad():
        for conv in model.convs:
            out, (edges, weights) = conv(x, edge_index, return_attention_weights=True)
            found.append(dict(zip(map(tuple, edges.t().tolist()), weights, strict=True)))
            x = out.relu()
    return found


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("heads", "layers"), list(itertools.product(["mean", "max"], repeat=2)))
def test_scores_are_the_weights_that_layers_return(layer: str, heads: Any, layers: Any) -> None:
    graph, model = testing.random_graph(1, 12, 26, undirected=False), network(layer)
    algorithm = gx.Attention(heads=heads, layers=layers)
    weights = returned(model, graph.x, graph.edge_index)
    for e in gx.explain(model, graph, algorithm, index=[4, 0, 9], progress=False):
        near, _ = plain.reachable(graph.edge_index, [e.index], 1)
        for (u, v), score in zip(e.edge_index.t().tolist(), e.edge_mask.tolist(), strict=True):
            # What an edge into the node carries reaches it in both layers, what others carry in the first.
            reach = [0, 1] if v == e.index else [0] if v in near else []
            values = [getattr(weights[number][u, v], {"mean": "mean", "max": "amax"}[heads])() for number in reach]
            want = torch.stack(values)
            assert score == pytest.approx(float(want.mean() if layers == "mean" else want.amax()), abs=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_rollout_is_the_sum_over_paths(layer: str) -> None:
    graph, model = testing.random_graph(1, 12, 26, undirected=False), network(layer)
    first, second = returned(model, graph.x, graph.edge_index)
    own = {(u, v) for u, v in graph.edge_index.t().tolist()}
    for e in gx.explain(model, graph, gx.Attention(layers="rollout"), index=[4, 0, 9], progress=False):
        want = dict.fromkeys(map(tuple, e.edge_index.t().tolist()), 0.0)
        for (v, root), later in second.items():
            if root != e.index:
                continue
            if (v, root) in own:
                want[v, root] += float(later.mean())
            for (u, receiver), earlier in first.items():
                if receiver == v and (u, v) in own:
                    want[u, v] += float(earlier.mean() * later.mean())
        got = dict(zip(map(tuple, e.edge_index.t().tolist()), e.edge_mask.tolist(), strict=True))
        assert got == pytest.approx({edge: value / 2 for edge, value in want.items()}, abs=1e-6)


def test_graphs_and_directions() -> None:
    """In a graph all layers count for every edge; both directions of an undirected edge have their mean."""
    graphs = [testing.random_graph(seed, 6 + seed, 8, undirected=True) for seed in range(3)]
    model = network("GATConv", pyg.global_mean_pool)
    model.head = nn.Linear(4, 3)
    explanations = gx.explain(model, graphs, "attention", progress=False)
    for graph, e in zip(graphs, explanations, strict=True):
        weights = returned(model, graph.x, graph.edge_index)
        for (u, v), score in zip(e.edge_index.t().tolist(), e.edge_mask.tolist(), strict=True):
            want = torch.stack([weight[pair].mean() for weight in weights for pair in ((u, v), (v, u))])
            assert score == pytest.approx(float(want.mean()), abs=1e-6)
    apart = gx.explain(model, graphs, "attention", undirected=False, progress=False)
    assert not torch.equal(apart.edge_mask, explanations.edge_mask)


class Hgt(nn.Module):
    def __init__(self, metadata: Any) -> None:
        super().__init__()
        self.conv = pyg.HGTConv(4, 4, metadata, heads=2)

    def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[Any, Tensor]) -> Tensor:
        return self.conv(x_dict, edge_index_dict)["a"]


def test_weights_of_a_heterogeneous_layer_add_up_over_all_relations() -> None:
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    for kind, size in (("a", 5), ("b", 7)):
        data[kind].x = torch.randn(size, 4, generator=generator)
    for source, name, target in (("b", "to", "a"), ("a", "by", "a")):
        ends = [torch.randint(data[kind].num_nodes, (12,), generator=generator) for kind in (source, target)]
        data[source, name, target].edge_index = torch.stack(ends).unique(dim=1)
    model = testing.seeded(lambda: Hgt(data.metadata()))()
    for e in gx.explain(model, data, "attention", node_type="a", progress=False):
        if len(e.edge_mask):
            assert float(e.edge_mask.sum()) == pytest.approx(1.0, abs=1e-6)
    assert hgt_conv.softmax is softmax  # as it was


def test_a_layer_without_attention_adds_none() -> None:
    """Neither its own normalisation, nor the softmax of the layer before it, on as many messages."""
    graph = testing.random_graph(1, 12, 26, undirected=False)
    model = testing.seeded(lambda: testing.Network([LAYERS["GATConv"](), pyg.GCNConv(4, 4)]))()
    with torch.no_grad():
        _, (edges, weights) = model.convs[0](graph.x, graph.edge_index, return_attention_weights=True)
    want = dict(zip(map(tuple, edges.t().tolist()), weights.mean(1).tolist(), strict=True))
    e = gx.explain(model, graph, "attention", index=4, progress=False)[0]
    for pair, score in zip(map(tuple, e.edge_index.t().tolist()), e.edge_mask.tolist(), strict=True):
        assert score == pytest.approx(want[pair], abs=1e-6)


def test_what_is_refused() -> None:
    graph = testing.random_graph(1, 12, 26, undirected=False)
    none = testing.CASES["gcn_undirected"].model()
    with pytest.raises(InputError, match=r"expected a layer with attention.*use gnn_xai.Saliency\(\)"):
        gx.explain(none, testing.CASES["gcn_undirected"].data(), "attention", progress=False)
    mixed = testing.seeded(lambda: testing.Network([pyg.GCNConv(4, 4), LAYERS["GATConv"]()]))()
    with pytest.raises(InputError, match="2 calls of layers, 1 with attention, and 2 hops; use layers='mean'"):
        gx.explain(mixed, graph, gx.Attention(layers="rollout"), index=[0], progress=False)
    gx.explain(mixed, graph, gx.Attention(layers="mean"), index=[0], progress=False)
    signed = testing.seeded(lambda: testing.Network([pyg.GCNConv(4, 4), pyg.FAConv(4)]))()

    def forward(model: testing.Network, data: Any) -> Tensor:
        x = model.convs[0](data.x, data.edge_index)
        return model.convs[1](x, x, data.edge_index)

    with pytest.raises(InputError, match="expected a layer with attention"):
        gx.explain(signed, graph, "attention", forward=forward, index=[0], progress=False)
