"""Numbers that must not depend on what happens to be so in the data: features that open edges, the unit and the zero of an
output, companions in a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig

import gnn_xai as gx
from tests.models import FEATURES, random_graph, seeded, small_graph

VALUE = ModelConfig(mode="regression", task_level="node", return_type="raw")
GRAPH_VALUE = ModelConfig(mode="regression", task_level="graph", return_type="raw")


# Edges and coefficients that features decide ##########################################################################


class Gated(nn.Module):
    """A layer whose weights are made of the features by hand."""

    def __init__(self, gate: Callable[[Tensor, Tensor], Tensor], layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layer, self.head, self.gate = layer(), nn.Linear(4, 1), gate

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.head(self.layer(x, edge_index, self.gate(x, edge_index).to(x.dtype)).tanh())


class Dropping(nn.Module):
    """The same, but edges at 0 are left out."""

    def __init__(self, gate: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.head, self.gate = pyg.SAGEConv(FEATURES, 4), nn.Linear(4, 1), gate

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.head(self.layer(x, edge_index[:, self.gate(x, edge_index) > 0]).tanh())


GATES = {
    "sender": lambda x, ends: x[ends[0], 0] != 0,
    "receiver": lambda x, ends: x[ends[1], 1] != 0,
    "either": lambda x, ends: ((x[:, 2] == 0)[ends]).any(0).logical_not(),
    "padding": lambda x, ends: (x != 0).any(1)[ends[0]],
    "size": lambda x, ends: x.abs().sum(1)[ends[1]] > 1e-3,
    "alike": lambda x, ends: nn.functional.cosine_similarity(x[ends[0]], x[ends[1]]).abs(),
    "attention": lambda x, ends: (x[ends[0]] * x[ends[1]]).sum(1).sigmoid(),
}


@torch.no_grad()
def without_columns(model: nn.Module, data: Data, node: int) -> Tensor:
    """What the output of a node loses with each column at 0."""
    full = model(data.x, data.edge_index)[node, 0]
    zeroed = (data.x.index_fill(1, torch.tensor([column]), 0) for column in range(data.num_features))
    return torch.stack([full - model(x, data.edge_index)[node, 0] for x in zeroed])


GRAPHS = {
    "star": Data(
        x=torch.randn(5, FEATURES, generator=torch.Generator().manual_seed(3)).double() + 2,
        edge_index=torch.tensor([[0, 1, 2, 3], [4, 4, 4, 4]]),
    ),
    "pair": Data(
        x=torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(4)).double() + 2,
        edge_index=torch.tensor([[0, 1], [1, 0]]),
    ),
    "random": Data(x=random_graph(1).x, edge_index=random_graph(1).edge_index),
    "alike": Data(x=torch.ones(6, FEATURES).double(), edge_index=small_graph(6).edge_index),
}


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("gate", GATES)
def test_features_that_open_edges(gate: str, graph: str) -> None:
    data = GRAPHS[graph]
    layers = [lambda: pyg.GraphConv(FEATURES, 4), lambda: pyg.GCNConv(FEATURES, 4)]
    models = [seeded(lambda layer=layer: Gated(GATES[gate], layer)) for layer in layers]
    for model in [*models, seeded(lambda: Dropping(GATES[gate]))]:
        found = gx.explain(model, data, gx.FeatureAblation(objective="raw"), task=VALUE, progress=False)
        for e in found:
            expected = without_columns(model, data, e.index)
            torch.testing.assert_close(e.node_mask.flatten(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("name", ["ClusterGCNConv", "ChebConv", "GCNConv", "ARMAConv", "LEConv", "TAGConv", "GATConv"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_features_alone_leave_the_graph_as_it_is(name: str, graph: str) -> None:
    options = {"K": 2} if name == "ChebConv" else {}
    model = seeded(lambda: getattr(pyg, name)(FEATURES, 1, **options))
    found = gx.explain(model, GRAPHS[graph], gx.FeatureAblation(objective="raw"), task=VALUE, progress=False)
    for e in found:
        expected = without_columns(model, GRAPHS[graph], e.index)
        torch.testing.assert_close(e.node_mask.flatten(), expected, rtol=1e-9, atol=1e-9)
