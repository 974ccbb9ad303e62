"""Captum's methods as algorithms: the laws, our own methods as oracles, one instance at a time by plain Captum, refusals."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GINConv, global_add_pool

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.errors import GnnXaiWarning, InputError
from tests import models
from tests.covering import pairwise

attr = pytest.importorskip("captum.attr", reason="Captum is not installed (it comes with the extra 'research')")

# The models of the cases call ReLU as a function.
missed = pytest.mark.filterwarnings("ignore:(DeepLift|GuidedBackprop) knows activations:gnn_xai.errors.GnnXaiWarning")

METHODS: dict[str, Any] = {
    "Saliency": gx.Captum(attr.Saliency),
    "InputXGradient": gx.Captum(attr.InputXGradient),
    "IntegratedGradients": gx.Captum(attr.IntegratedGradients, n_steps=4),
    "DeepLift": gx.Captum(attr.DeepLift),
    "GuidedBackprop": gx.Captum(attr.GuidedBackprop, node_mask_type="common_attributes"),
    "FeatureAblation": gx.Captum(attr.FeatureAblation, node_mask_type="object"),
    "ShapleyValueSampling": gx.Captum(attr.ShapleyValueSampling, n_samples=1, node_mask_type="object"),
    "GradientShap": gx.Captum(attr.GradientShap, n_samples=2, stdevs=0.1),
    "NoiseTunnel": gx.Captum(attr.NoiseTunnel, attribution_method=attr.Saliency, nt_samples=2, edge_mask_type=None),
}
"""Few steps and samples, one input a node where each is run by itself: the laws hold for any number."""

CASES = {name: testing.CASES[name] for name in ("gcn_undirected", "gat_directed", "gin_codes")}


@missed
@pairwise(method=METHODS, law=testing.LAWS, case=CASES)
def test_law(method: Any, law: testing.Law, case: testing.Case) -> None:
    law(method, case)


# Oracles #################################################################################################################

PAIRS: dict[str, tuple[Any, Any]] = {
    "IntegratedGradients": (gx.Captum(attr.IntegratedGradients, n_steps=9), gx.IntegratedGradients(steps=9)),
    "Saliency": (gx.Captum(attr.Saliency), gx.Saliency()),
    "Saliency_signed": (gx.Captum(attr.Saliency, abs=False), gx.Saliency(absolute=False)),
    "InputXGradient": (gx.Captum(attr.InputXGradient, objective="prob"), gx.InputXGradient(objective="prob")),
    "FeatureAblation": (
        gx.Captum(attr.FeatureAblation, node_mask_type="common_attributes", edge_mask_type=None),
        gx.FeatureAblation(),
    ),
    "EdgeAblation": (gx.Captum(attr.FeatureAblation, node_mask_type=None), gx.EdgeAblation(removal="message")),
    "DeepLiftShap": (gx.Captum(attr.DeepLiftShap), gx.Captum(attr.DeepLift)),  # from one baseline
}


@missed
@pairwise(pair=list(PAIRS), level=["node", "graph"], undirected=[True, False])
def test_equals_our_own(pair: str, level: Any, undirected: bool) -> None:
    model = models.make("gin", level)
    data: Any = models.random_graph(3) if level == "node" else models.random_graphs(4)
    index = [4, 0, 11, 9] if level == "node" else None  # 11 is isolated
    one, other = (
        gx.explain(model, data, method, index=index, undirected=undirected, progress=False) for method in PAIRS[pair]
    )
    assert one.signed == other.signed
    assert one.node_mask_type == other.node_mask_type
    for name in ("node_mask", "edge_mask"):
        theirs, ours = getattr(one, name), getattr(other, name)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["GradientShap", "KernelShap", "ShapleyValues", "IntegratedGradients"])
def test_equals_captum_alone(name: str) -> None:
    """On a model that is linear in the edge masks all of these agree: the share of an edge is its term."""
    model, data = models.linear(layers=1), models.random_graph(2, undirected=False, loops=0)
    degree = torch.bincount(data.edge_index[1], minlength=12)
    index = [int(node) for node in torch.argsort(degree)[-3:] if degree[node] <= 6]
    options = {"KernelShap": {"n_samples": 200}, "GradientShap": {"stdevs": 0.0}}.get(name, {})
    method = gx.Captum(getattr(attr, name), node_mask_type=None, objective="raw", **options)
    found = gx.explain(model, data, method, index=index, target=1, progress=False)
    for e in found:
        u = e.edge_index[0]
        term = data.edge_weight[e.edge_id] * (data.x[u] @ model.head.weight[1])
        torch.testing.assert_close(e.edge_mask, term, rtol=1e-4, atol=1e-4)


class Modular(nn.Module):
    """Sums over neighbours and one `nn.ReLU` for each call."""

    def __init__(self, level: str = "node") -> None:
        super().__init__()
        self.level = level
        mlps = [nn.Sequential(nn.Linear(width, 6), nn.ReLU(), nn.Linear(6, 6)) for width in (models.FEATURES, 6)]
        self.convs = nn.ModuleList([GINConv(mlp) for mlp in mlps])
        self.acts = nn.ModuleList([nn.ReLU(), nn.ReLU()])
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        for conv, act in zip(self.convs, self.acts, strict=True):
            x = act(conv(x, edge_index))
        return self.head(x if self.level == "node" else global_add_pool(x, batch))


@pytest.mark.parametrize("level", ["node", "graph"])
def test_deep_lift_sees_modules(level: Any) -> None:
    """Without a warning, and the shares add up: what its rules are made for. They equal Captum's on the full graph."""
    model = models.seeded(lambda: Modular(level))
    data: Any = models.random_graph(3) if level == "node" else models.random_graphs(4)
    method = gx.Captum(attr.DeepLift, edge_mask_type=None, objective="raw")
    found = gx.explain(model, data, method, task=level, target=1, progress=False)
    assert float(found.extras["completeness_error"].abs().max()) < 1e-9
    for e in found:
        graph = data if level == "node" else data[e.index]
        row = e.index if level == "node" else 0

        class Whole(nn.Module):
            """The full graph as one example, so that Captum's two halves are two graphs."""

            def __init__(self, graph: Any, row: int) -> None:
                super().__init__()
                self.model, self.graph, self.row = model, graph, row

            def forward(self, x: Tensor) -> Tensor:
                edges = torch.cat([self.graph.edge_index + i * x.size(1) for i in range(len(x))], 1)
                batch = None if level == "node" else torch.arange(len(x)).repeat_interleave(x.size(1))
                out = self.model(x.flatten(0, 1), edges, batch)
                return out.reshape(len(x), -1, 3)[:, self.row]

        with pytest.warns(UserWarning, match="hooks"):
            theirs = attr.DeepLift(Whole(graph, row)).attribute(graph.x.unsqueeze(0).requires_grad_(), target=1)
        torch.testing.assert_close(e.node_mask, theirs[0].detach()[e.node_id], rtol=1e-6, atol=1e-6)


def test_functions_that_deep_lift_misses_are_named() -> None:
    model, data = models.make("gcn"), models.random_graph(3)
    with pytest.warns(GnnXaiWarning, match="the model calls relu as functions"):
        found = gx.explain(model, data, gx.Captum(attr.DeepLift, objective="raw"), index=[4], progress=False)
    assert float(found.extras["completeness_error"].abs().max()) > 1e-3


def test_a_module_called_twice_is_refused() -> None:
    model = models.seeded(Modular)
    model.acts[1] = model.acts[0]
    with pytest.raises(InputError, match=r"use a torch.nn.ReLU\(\) for each call"):
        gx.explain(model, models.random_graph(3), gx.Captum(attr.DeepLift), index=[4], progress=False)


def test_completeness_error_is_measured() -> None:
    model, data, index = models.make("gcn"), models.random_graph(3), [4, 0]
    errors = []
    for steps in (2, 40):
        method = gx.Captum(attr.IntegratedGradients, n_steps=steps)
        ours = gx.IntegratedGradients(steps=steps)
        found, known = (gx.explain(model, data, each, index=index, progress=False) for each in (method, ours))
        torch.testing.assert_close(
            found.extras["completeness_error"], known.extras["completeness_error"], rtol=1e-5, atol=1e-5
        )
        errors.append(float(found.extras["completeness_error"].abs().max()))
    assert errors[1] < errors[0]


@pytest.mark.parametrize("name", ["IntegratedGradients", "GradientShap"])
def test_baselines_are_rows_of_features(name: str) -> None:
    """On a linear model the share of a feature is weight · (value − baseline), whatever the path."""
    model, data, node = models.linear(layers=1), models.random_graph(2, undirected=False, loops=0), 3
    row = torch.linspace(-1, 1, models.FEATURES, dtype=torch.float64)
    options = {"stdevs": 0.0} if name == "GradientShap" else {}
    method = gx.Captum(getattr(attr, name), edge_mask_type=None, objective="raw", baselines=row, **options)
    e = gx.explain(model, data, method, index=[node], target=2, progress=False)[0]
    weight = torch.zeros(12, dtype=torch.float64)
    weight.index_add_(0, data.edge_index[0], data.edge_weight * (data.edge_index[1] == node))
    expected = weight.unsqueeze(1) * (data.x - row) * model.head.weight[2].detach()
    torch.testing.assert_close(e.node_mask, expected[e.node_id], rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match=r"expected baselines= of shape \[5\]"):
        gx.explain(model, data, gx.Captum(getattr(attr, name), baselines=[1.0, 2.0]), index=[node], progress=False)


# What may be asked for ###################################################################################################


def test_says_what_it_is() -> None:
    method = gx.Captum(
        attr.NoiseTunnel, attribution_method=attr.IntegratedGradients, n_steps=3, stdevs=torch.tensor([0.5, 0.1])
    )
    said = gx.algorithms.describe(method)
    assert said["name"] == "captum.NoiseTunnel"
    assert said["method"] == "NoiseTunnel"
    stdevs = pytest.approx([0.5, 0.1])
    assert said["options"] == {"attribution_method": "IntegratedGradients", "n_steps": 3, "stdevs": stdevs}
    assert json.loads(json.dumps(said)) == said


def test_every_method_runs_or_is_refused_in_a_sentence() -> None:
    """And what is random in those that run comes from the seed."""
    model, data = models.seeded(Modular), models.random_graph(3, nodes=6, edges=6)
    with torch.no_grad():
        model.head.weight *= 50  # Lime's lasso makes small scores 0
    needs = {
        "NoiseTunnel": {"attribution_method": attr.Saliency},
        "Occlusion": {"sliding_window_shapes": ((1,), (1,))},
        "ShapleyValueSampling": {"n_samples": 1},
        "ShapleyValues": {"edge_mask_type": None, "node_mask_type": "common_attributes"},
    }
    ran = set()
    for name in attr.__all__:
        cls = getattr(attr, name)
        if not (inspect.isclass(cls) and issubclass(cls, attr.Attribution)):
            continue
        try:
            method = gx.Captum(cls, **{"node_mask_type": "object", **needs.get(name, {})})
        except InputError as error:
            assert "needs" in str(error) or "cannot be used on graphs" in str(error)  # noqa: PT017
            continue
        found = []
        for state, seed in ((0, 5), (1, 5), (1, 6)):
            torch.manual_seed(state)
            np.random.seed(state)  # noqa: NPY002
            found.append(gx.explain(model, data, method, index=[0, 2], seed=seed, progress=False))
        one, again, other = (torch.cat([e.node_mask.flatten(), *filter(torch.is_tensor, [e.edge_mask])]) for e in found)
        assert torch.equal(one, again), "its random numbers do not come from the seed alone"
        assert method.stochastic != torch.equal(one, other)
        ran.add(name)
    assert ran == {
        "IntegratedGradients", "DeepLift", "DeepLiftShap", "InputXGradient", "Saliency", "GuidedBackprop", "Deconvolution",
        "FeatureAblation", "Occlusion", "ShapleyValueSampling", "ShapleyValues", "Lime", "KernelShap", "NoiseTunnel",
        "GradientShap",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        (
            "IntegratedGradients",
            {"steps": 4},
            "unknown option of captum.attr.IntegratedGradients 'steps'; did you mean",
        ),
        ("IntegratedGradients", {"target": 1}, "target= is not an option of gx.Captum"),
        ("IntegratedGradients", {"node_mask_type": None, "edge_mask_type": None}, "nothing to explain"),
        ("FeatureAblation", {"feature_mask": None}, "feature_mask= is not an option"),
        ("IntegratedGradients", {"baselines": [0.0], "node_mask_type": "object"}, "baselines= are features of a node"),
        ("Occlusion", {}, "Occlusion needs sliding_window_shapes="),
        ("NoiseTunnel", {}, "NoiseTunnel needs attribution_method="),
        ("NoiseTunnel", {"attribution_method": 3}, "expected a class such as captum.attr.IntegratedGradients, got 3"),
        ("LRP", {}, "no rules for message passing"),
        ("FeaturePermutation", {}, "swaps values between instances"),
        ("LayerConductance", {}, "it scores what a layer of the model holds"),
        ("NeuronGradient", {}, "it explains what a layer"),
        ("LLMAttribution", {}, "does not attribute to tensors"),
        ("Attribution", {}, "does not attribute to tensors"),
    ],
)
def test_refused(method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        gx.Captum(getattr(attr, method), **options)


def test_captums_own_refusals_are_errors_of_ours() -> None:
    model, data = models.make("gcn"), models.random_graph(3)
    with pytest.raises(InputError, match="captum.IntegratedGradients refuses its options"):
        gx.explain(model, data, gx.Captum(attr.IntegratedGradients, method="simpson"), index=[4], progress=False)


def test_a_method_may_be_named() -> None:
    assert gx.Captum("IntegratedGradients", n_steps=5) == gx.Captum(attr.IntegratedGradients, n_steps=5)
    with pytest.raises(
        InputError, match=r"unknown method of captum.attr 'Integrated'; did you mean 'IntegratedGradients'"
    ):
        gx.Captum("Integrated")


class Mixing(nn.Module):
    """Centres its features over everything that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Modular("graph")

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.inner(x - x.mean(0), edge_index, batch)


@pytest.mark.filterwarnings("ignore:the model mixes the graphs:gnn_xai.errors.GnnXaiWarning")
def test_a_model_that_mixes_graphs_runs_one_replica_at_a_time() -> None:
    model, graphs = models.seeded(Mixing), [models.random_graph(seed, nodes=5, edges=5) for seed in range(2)]
    one, other = (gx.explain(model, graphs, method, progress=False) for method in PAIRS["IntegratedGradients"])
    torch.testing.assert_close(one.node_mask, other.node_mask)
    torch.testing.assert_close(one.edge_mask, other.edge_mask)
    with pytest.raises(InputError, match="cannot run beside its baseline"):
        gx.explain(model, graphs, gx.Captum(attr.DeepLift), progress=False)


def test_without_gradients_there_is_a_warning() -> None:
    inner, data = models.make("gcn"), models.random_graph(3)
    with pytest.warns(GnnXaiWarning, match="carries no gradient"):
        gx.explain(
            inner,
            data,
            gx.Captum(attr.Saliency),
            index=[4],
            forward=lambda m, d: m(d.x, d.edge_index).detach(),
            progress=False,
        )
