"""Guided backpropagation, deconvolution, DeepLIFT and LRP equal Captum where it computes the same, and rules by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import global_add_pool

import gnn_xai as gx
from gnn_xai import testing
from tests.covering import pairwise

GRAPHS = [testing.random_graph(seed, 6 + seed, 9, undirected=seed != 1) for seed in range(3)]


class Gin(nn.Module):
    """Sums of messages and ReLUs, each a module or called as a function."""

    def __init__(self, activation: Any = None, bias: bool = True) -> None:
        super().__init__()
        self.convs = nn.ModuleList([pyg.GINConv(nn.Linear(4, 8, bias)), pyg.GINConv(nn.Linear(8, 6, bias))])
        self.acts = nn.ModuleList([nn.ReLU(), nn.ReLU()]) if activation is None else [activation, activation]
        self.head = nn.Linear(6, 3, bias)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        for conv, act in zip(self.convs, self.acts, strict=True):
            x = act(conv(x, edge_index))
        return self.head(global_add_pool(x, batch))


def in_place(x: Tensor) -> Tensor:
    x.relu_()
    return x


FUNCTIONS = {
    "modules": None,
    "torch": torch.relu,
    "method": Tensor.relu,
    "functional": functional.relu,
    "in place": in_place,
}


def explained(model: nn.Module, algorithm: Any, data: Any = GRAPHS, **options: Any) -> Any:
    return gx.explain(model, data, algorithm, task="graph", progress=False, **options)


@pairwise(
    activation=FUNCTIONS,
    methods={
        "guided": (gx.GuidedBackprop(), gx.Captum("GuidedBackprop")),
        "deconvolution": (gx.Deconvolution(), gx.Captum("Deconvolution")),
        "deep_lift": (gx.DeepLIFT(objective="raw"), gx.Captum("DeepLift", edge_mask_type=None, objective="raw")),
        "deep_lift with edges": (gx.DeepLIFT(edge_mask_type="object"), gx.Captum("DeepLift")),
    },
)
def test_equal_captum(activation: Any, methods: tuple[Any, Any]) -> None:
    """Captum knows modules alone."""
    ours, captums = methods
    other = explained(testing.seeded(Gin)(), captums)
    found = explained(testing.seeded(lambda: Gin(activation))(), ours)
    for e, f in zip(found, other, strict=True):
        torch.testing.assert_close(e.node_mask, f.node_mask, rtol=1e-4, atol=1e-5)
        assert (e.edge_mask is None) == (f.edge_mask is None)
        if e.edge_mask is not None:
            torch.testing.assert_close(e.edge_mask, f.edge_mask, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [None, torch.tanh, functional.softplus, functional.gelu])
def test_deep_lift_adds_up(activation: Any) -> None:
    found = explained(testing.seeded(lambda: Gin(activation))(), gx.DeepLIFT(objective="raw"))
    total = torch.stack([e.node_mask.sum() for e in found])
    assert float(found.extras["completeness_error"].abs().max()) < 1e-4
    score = found.prediction.gather(1, found.target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(total, score - found.extras["base_value"], rtol=1e-4, atol=1e-4)


class OneNode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GINConv(nn.Sequential(nn.Linear(4, 8, False), nn.ReLU(), nn.Linear(8, 3, False)))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return global_add_pool(self.conv(x, edge_index), batch)


@pytest.mark.parametrize(("rule", "options"), [(EpsilonRule(0.3), {"epsilon": 0.3}), (GammaRule(0.5), {"gamma": 0.5})])
def test_lrp_of_one_node_equals_captum(rule: Any, options: Any) -> None:
    model: Any = testing.seeded(OneNode)()
    generator = torch.Generator().manual_seed(1)
    rows = torch.rand(4, 4, generator=generator)  # Captum's γ is for inputs and outputs above 0
    nodes = [Data(x=row[None], edge_index=torch.zeros(2, 0, dtype=torch.int64)) for row in rows]
    target = int(model.conv.nn(rows).min(0).values.argmax())
    assert bool((model.conv.nn(rows)[:, target] > 0).all())
    algorithm = gx.LRP(objective="raw", edge_mask_type=None, **{"epsilon": 0.0, **options})
    found = explained(model, algorithm, nodes, target=target)
    for row, e in zip(rows, found, strict=True):
        for layer in model.conv.nn:
            if isinstance(layer, nn.Linear):
                layer.rule = copy.deepcopy(rule)  # which keeps what it met
        want = LRP(model.conv.nn).attribute(row[None].requires_grad_(), target=target)
        torch.testing.assert_close(e.node_mask, want.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("activation", [torch.relu, functional.gelu, functional.silu])
def test_relevance_is_conserved_without_biases(activation: Any, gamma: float) -> None:
    """And without γ, for ReLUs, it is gradient × input."""
    model = testing.seeded(lambda: Gin(activation, bias=False))()
    found = explained(model, gx.LRP(epsilon=0.0, gamma=gamma, objective="raw"))
    assert float(found.extras["completeness_error"].abs().max()) < 1e-5
    if activation is torch.relu and gamma == 0:
        plain = explained(model, gx.InputXGradient(objective="raw"))
        torch.testing.assert_close(found.node_mask, plain.node_mask, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["GCNConv", "GATConv"])
def test_relevance_of_edges_is_what_flows_along_them(layer: str) -> None:
    """All that reaches a node came along edges, once in every layer; attention is a constant."""
    options = {"add_self_loops": False, "bias": False}
    convs = [getattr(pyg, layer)(4, 6, **options), getattr(pyg, layer)(6, 3, **options)]
    model = testing.seeded(lambda: testing.Network(convs))()
    graph = testing.random_graph(3, 9, 30, undirected=False)
    task = ModelConfig("multiclass_classification", "node", "raw")
    found: Any = gx.explain(
        model, graph, gx.LRP(epsilon=0.0, objective="raw"), index=[0, 3, 5], task=task, progress=False
    )
    for e in found:
        score = e.prediction[e.target]
        torch.testing.assert_close(e.edge_mask.sum(), 2 * score, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(e.node_mask.sum(), score, rtol=1e-4, atol=1e-5)


def test_activations_that_change_are_refused() -> None:
    class Branching(Gin):
        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            out = super().forward(x, edge_index, batch)
            return out.relu() if bool(x.any()) else out

    with pytest.raises(gx.errors.InputError, match="applies the same activations"):
        explained(testing.seeded(Branching)(), gx.DeepLIFT())
    with pytest.raises(gx.errors.InputError, match="gamma"):
        gx.LRP(gamma=-1.0)
