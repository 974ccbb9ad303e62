"""One test for each known trap in explaining PyG models; the number is its number in the list of traps.

Each was met in other explainers: a silent wrong answer, or a crash far away from its cause.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain.config import ModelConfig
from torch_geometric.utils import to_undirected

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import GnnXaiWarning, InputError, MaskingError
from gnn_xai.testing import Network, distance, random_graph, seeded
from tests.covering import every_value
from tests.ready import READY

FOUR: dict[str, Any] = {
    "GCN": lambda i, o: pyg.GCNConv(i, o),
    "GAT": lambda i, o: pyg.GATConv(i, o),
    "SAGE": lambda i, o: pyg.SAGEConv(i, o),
    "GIN": lambda i, o: pyg.GINConv(nn.Linear(i, o)),
}
MESSAGES = gx.EdgeAblation(removal="message")


def two_layers(kind: str) -> nn.Module:
    return seeded(lambda: Network([FOUR[kind](4, 8), FOUR[kind](8, 3)]))()


def explain(model: nn.Module, data: Any, algorithm: Any = MESSAGES, **options: Any) -> gx.Explanations:
    return gx.explain(model, data, algorithm, progress=False, **options)


def by_edge(explanation: gx.Explanation) -> dict[tuple[int, int], float]:
    """Scores by (source, target)."""
    ends = [(u, v) for u, v in explanation.edge_index.t().tolist()]
    return dict(zip(ends, explanation.edge_mask.tolist(), strict=True))


@every_value(loops=["all", "some", "none"], kind=list(FOUR))
def test_trap_01_self_loops_anywhere(kind: str, loops: str) -> None:
    """The mask of an edge acts on that edge, however many self loops lie among the edges, wherever."""
    count = {"all": 8, "some": 3, "none": 0}[loops]
    model, scores = two_layers(kind), []
    for seed in range(3):
        graph = random_graph(7, 8, 14, undirected=False, loops=count)
        order = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(seed))
        graph.edge_index = graph.edge_index[:, order]
        scores.append(by_edge(explain(model, graph, index=0)[0]))
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    assert scores[2] == pytest.approx(scores[0], abs=1e-5)
    (u, v), score = max(scores[0].items(), key=lambda item: abs(item[1]))
    with testing.plainly_masked(model, {(u, v): 0.0}):
        out = model(graph.x, graph.edge_index)[:1]
    before = model(graph.x, graph.edge_index)[:1]
    target = before.argmax(1)
    others = torch.arange(3) != target
    margin = [(o[0, target] - o[0, others].logsumexp(0)).item() for o in (before, out)]
    assert score == pytest.approx(margin[0] - margin[1], abs=1e-4)


class Relational(nn.Module):
    """Two layers of a relational convolution, the same weights for either implementation."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.first, self.second = conv(4, 8, 3, aggr="sum"), conv(8, 3, 3, aggr="sum")

    def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index, edge_type).tanh(), edge_index, edge_type)


def test_trap_01_copies_of_an_edge_in_other_calls() -> None:
    """A layer that runs relation by relation hides which copy of a parallel edge it runs on: refused, not guessed."""
    graph = random_graph(6, 6, 9, undirected=False)
    kind = torch.arange(graph.num_edges) % 3
    graph.edge_index, graph.edge_type = graph.edge_index.repeat(1, 2), torch.cat([kind, (kind + 1) % 3])
    by_relation, at_once = seeded(lambda: Relational(pyg.RGCNConv))(), seeded(lambda: Relational(pyg.FastRGCNConv))()
    at_once.load_state_dict(by_relation.state_dict())
    with pytest.raises(MaskingError, match=r"first \(RGCNConv\), second \(RGCNConv\) runs on some copies of parallel"):
        explain(by_relation, graph)
    removed = explain(by_relation, graph, "edge_ablation")
    assert bool(removed.prediction_masked.isnan().all())
    # For a sum of messages both removals are the same, copy by copy.
    for other in (explain(at_once, graph), explain(at_once, graph, "edge_ablation")):
        scores = [by_id(e) for e in other]
        for one, want in zip(removed, scores, strict=True):
            assert all(math.isclose(score, want.get(i, 0.0), abs_tol=1e-6) for i, score in by_id(one).items())


def by_id(explanation: gx.Explanation) -> dict[int, float]:
    return dict(zip(explanation.edge_id.tolist(), explanation.edge_mask.tolist(), strict=True))


@pytest.mark.parametrize("undirected", [True, False])
def test_trap_01_edges_turned_around(undirected: bool) -> None:
    """Layers for directed graphs also run on the transposed edges: they are the graph's, with messages the other way."""
    sage = lambda i, o: pyg.DirGNNConv(pyg.SAGEConv(i, o, aggr="sum"))  # noqa: E731
    model, graph = seeded(lambda: Network([sage(4, 8), sage(8, 3)]))(), random_graph(9, 8, 12, undirected=undirected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masked = explain(model, graph, MESSAGES, undirected=False)
        removed = explain(model, graph, "edge_ablation", undirected=False)
    assert all(layer["masked"] for layer in masked.provenance["layers"])
    assert set(masked.hops.tolist()) == {2}  # the two directions of a layer stand side by side
    # DirGNNConv halves either direction's sum, so nothing is normalised and both removals are the same.
    assert distance(masked.edge_mask, removed.edge_mask) < 1e-5


@pytest.mark.parametrize("kind", FOUR)
def test_trap_02_mask_of_an_existing_loop(kind: str) -> None:
    graph = random_graph(7, 8, 14, undirected=False, loops=3)
    scores = by_edge(explain(two_layers(kind), graph, index=0)[0])
    assert abs(scores[0, 0]) > 1e-4


def test_trap_03_gcn_border() -> None:
    """Two hops alone are not enough for a 2-layer GCN: degrees at the border count edges further out. They are carried from
    the full graph, or, for a layer that is not fused, a third hop is cut out.
    """
    graph = random_graph(2, 40, 50, undirected=True)
    model = two_layers("GCN")
    found = explain(model, graph)
    assert bool(found.exact.all())
    assert set(found.hops.tolist()) == {2}
    with torch.no_grad():
        alone = []
        for e in found:
            out = model(graph.x[e.node_id], torch.searchsorted(e.node_id, e.edge_index.contiguous()))
            alone.append(out[int(torch.searchsorted(e.node_id, e.index))])
    assert distance(found.prediction, torch.stack(alone)) > 1e-2
    layer = next(module for module in model.modules() if isinstance(module, pyg.GCNConv))
    handle = layer.register_message_forward_hook(lambda *_: None)  # a user's hook: this layer is not fused
    assert set(explain(model, graph).hops.tolist()) == {3}
    handle.remove()
    assert distance(found.prediction, model(graph.x, graph.edge_index)) < 1e-5
    sums = explain(two_layers("GIN"), graph)
    assert set(sums.hops.tolist()) == {2}  # sums are not normalised: two hops do


@pytest.mark.parametrize(
    ("conv", "equal"),
    [
        (lambda: pyg.GCNConv(4, 3), False),
        (lambda: pyg.GATConv(4, 3), False),
        (lambda: pyg.SAGEConv(4, 3, aggr="mean"), False),
        (lambda: pyg.SAGEConv(4, 3, aggr="max"), False),
        (lambda: pyg.SAGEConv(4, 3, aggr="sum"), True),
        (lambda: pyg.GINConv(nn.Linear(4, 3)), True),
    ],
    ids=["GCN", "GAT", "mean", "max", "sum", "GIN"],
)
def test_trap_04_mask_zero_is_not_deletion(conv: Any, equal: bool) -> None:
    graph = random_graph(7, 8, 14, undirected=False)
    model = seeded(lambda: Network([conv()]))()
    found = {removal: explain(model, graph, gx.EdgeAblation(removal=removal)) for removal in ("message", "structural")}
    for removal, explanations in found.items():
        assert explanations.removal == removal
    gap = distance(found["message"].edge_mask, found["structural"].edge_mask)
    assert gap < 1e-5 if equal else gap > 1e-3
    edge = int(graph.edge_index[1, 0])  # deletion is what it says: the graph without edge 0
    left = model(graph.x, graph.edge_index[:, 1:])[edge]
    e = found["structural"][edge]
    margin = [(out[e.target] - out[torch.arange(3) != e.target].logsumexp(0)).item() for out in (e.prediction, left)]
    assert float(e.edge_mask[e.edge_id == 0]) == pytest.approx(margin[0] - margin[1], abs=1e-5)


@pytest.mark.parametrize("removal", ["message", "structural"])
def test_trap_05_cached_normalisation(removal: Any) -> None:
    graph = random_graph(0, 10, 14, undirected=True)
    plain = two_layers("GCN")
    model = two_layers("GCN")
    for conv in model.convs:
        conv.cached = True
    model(graph.x, graph.edge_index)  # fills the caches
    caches = [conv._cached_edge_index for conv in model.convs]
    found = explain(model, graph, gx.EdgeAblation(removal=removal), index=0)
    want = explain(plain, graph, gx.EdgeAblation(removal=removal), index=0)
    assert float(found.edge_mask.abs().max()) > 1e-3
    assert distance(found.edge_mask, want.edge_mask) < 1e-6
    assert all(conv._cached_edge_index is cache for conv, cache in zip(model.convs, caches, strict=True))
    assert all(conv.cached for conv in model.convs)


class Shared(nn.Module):
    """One layer used at three depths."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(4, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for _ in range(3):
            x = self.conv(x, edge_index).tanh()
        return x


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (Shared, 3),
        (lambda: Network([pyg.APPNP(K=10, alpha=0.1)]), 10),
        (lambda: Network([pyg.ChebConv(4, 3, K=4)]), 3),
    ],
    ids=["shared", "APPNP", "ChebConv"],
)
def test_trap_06_hops_are_propagate_calls(make: Any, steps: int) -> None:
    path = torch.stack([torch.arange(13), torch.arange(1, 14)])
    graph = Data(x=torch.rand(14, 4, generator=torch.Generator().manual_seed(0)), edge_index=path)
    if steps == 3:
        graph.edge_index = to_undirected(path)
    e = explain(seeded(make)(), graph, "saliency", index=13)[0]
    assert e.hops in (steps, steps + 1)
    assert e.node_id.tolist() == list(range(13 - steps, 14))


def test_trap_07_one_layer_at_two_depths() -> None:
    """The gradient of an edge's mask sums over all depths at which the edge is used: it equals finite differences."""
    testing.check_model(seeded(Shared)(), random_graph(7, 8, 14, undirected=False, loops=2))


def test_trap_08_nothing_is_left_behind() -> None:
    """Also when an exception comes in the middle; the law `model_untouched` does this for every algorithm."""

    class Interrupted(RuntimeError):
        pass

    model = seeded(lambda: Network([pyg.GCNConv(4, 8), pyg.GCNConv(8, 3)], [nn.BatchNorm1d(8), nn.Identity()]))()
    model.train()
    model.norms[0].eval()  # a frozen submodule
    graph = random_graph(0, 10, 14, undirected=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    passes = 0

    def forward(module: nn.Module, data: Data) -> Tensor:
        nonlocal passes
        passes += 1
        if passes == 14:  # among the epochs: looking at the model takes fewer
            raise Interrupted
        return module(data.x, data.edge_index)

    with pytest.raises(InputError, match="Interrupted") as raised:
        explain(model, graph, gx.GNNExplainer(epochs=15), forward=forward)
    assert isinstance(raised.value.__cause__, Interrupted)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert model.convs[0].training
    assert not model.norms[0].training
    assert all(conv.explain is not True and conv._edge_mask is None for conv in model.convs)
    assert not any(conv._message_forward_hooks or conv._propagate_forward_pre_hooks for conv in model.convs)


class Counting(nn.Module):
    """Puts a new tensor in the place of its buffer in every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(4, 3)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        self.passes = self.passes + 1
        return self.conv(x, edge_index)


def test_trap_08_a_buffer_that_is_replaced() -> None:
    model = seeded(Counting)()
    before = model.passes
    explain(model, random_graph(0, 10, 14, undirected=True), "saliency")
    assert model.passes is before
    assert float(before) == 0


@pytest.mark.parametrize("name", READY)
def test_trap_08_features_that_want_a_gradient(name: str) -> None:
    """The answer hangs on no autograd graph, and the features get no gradient."""
    graph = random_graph(0, 10, 14, undirected=True)
    plain = explain(two_layers("GCN"), graph, name, index=[0, 1])
    graph.x.requires_grad_()
    found = explain(two_layers("GCN"), graph, name, index=[0, 1])
    assert graph.x.grad is None
    assert graph.x.requires_grad
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Tensor):
            assert not value.requires_grad, field.name
            assert distance(value, getattr(plain, field.name)) < 1e-6


@pytest.mark.filterwarnings("ignore:the model is not local:gnn_xai.errors.GnnXaiWarning")  # true of noise
def test_trap_09_unconditional_dropout_is_reported() -> None:
    class Noisy(Network):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().forward(F.dropout(x, 0.5), edge_index)

    with pytest.warns(GnnXaiWarning, match="two forward passes .* differ .*F.dropout without training=self.training"):
        explain(seeded(lambda: Noisy([pyg.GCNConv(4, 3)]))(), random_graph(0, 10, 14, undirected=True), "saliency")


class Returning(nn.Module):
    def __init__(self, inner: nn.Module, returned: str, factor: float = 1.0) -> None:
        super().__init__()
        self.inner, self.returned, self.factor = inner, returned, factor

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out = self.inner(x, edge_index) * self.factor
        return {"raw": out, "log_probs": out.log_softmax(1), "probs": out.softmax(1)}[self.returned]


@pytest.mark.parametrize(
    "algorithm", [gx.GNNExplainer(epochs=10), gx.Saliency(), gx.EdgeAblation()], ids=lambda a: a.name
)
def test_trap_10_output_type(algorithm: Any) -> None:
    """Logits, log-probabilities and probabilities of one model give the same masks; impossible ones raise."""
    graph = random_graph(0, 10, 14, undirected=True)
    found = {}
    for returned in ("raw", "log_probs", "probs"):
        task = ModelConfig("multiclass_classification", "node", returned)
        found[returned] = explain(Returning(two_layers("GCN"), returned), graph, algorithm, task=task, index=[0, 3])
    found["plain"] = explain(Returning(two_layers("GCN"), "log_probs"), graph, algorithm, task="node", index=[0, 3])
    for returned in ("log_probs", "probs", "plain"):
        assert distance(found[returned].edge_mask, found["raw"].edge_mask) < 1e-4
    with pytest.raises(InputError, match="expected probabilities"):
        explain(two_layers("GCN"), graph, task=ModelConfig("multiclass_classification", "node", "probs"))
    with pytest.raises(InputError, match="expected logits, but every output row lies in .0, 1. and sums to 1"):
        explain(Returning(two_layers("GCN"), "probs"), graph, task="node")


def test_trap_11_saturated_logits() -> None:
    """Probabilities of exactly 0 and 1 have no gradient: a margin does, and where nothing responds it is said."""
    graph = random_graph(0, 10, 14, undirected=True)
    sure = Returning(two_layers("GCN"), "raw", factor=5000.0)
    node = _surest(sure, graph)
    assert float(explain(sure, graph, "saliency", index=node).edge_mask.max()) > 1.0
    with pytest.warns(GnnXaiWarning, match="did not respond to any mask .*try loss='margin'"):
        explain(sure, graph, gx.GNNExplainer(epochs=3), index=node)
    learned = explain(sure, graph, gx.GNNExplainer(epochs=3, loss="margin"), index=node)
    assert float(learned.edge_mask.min()) > 0


def _surest(model: nn.Module, graph: Data) -> int:
    """A node with edges whose prediction stays certain under half of every message."""
    top = model(graph.x / 2, graph.edge_index).topk(2).values
    gap = (top[:, 0] - top[:, 1]) * (torch.bincount(graph.edge_index[1], minlength=graph.num_nodes) > 0)
    return int(gap.argmax())


class Threshold(nn.Module):
    """A message counts only above 0.6 of its strength; of the two classes, class 1 has logit 2·(m − 0.6)₊."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SimpleConv(aggr="sum")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        logit = 2 * (self.conv(x, edge_index) - 0.6).relu()
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


def test_trap_12_dead_relu_at_initialisation() -> None:
    """Half the message is below the threshold, so the gradient of a fresh mask is 0; deletion drops the logit 0.8 → 0."""
    graph = Data(x=torch.tensor([[1.0], [0.0]]), edge_index=torch.tensor([[0], [1]]))
    deleted = explain(Threshold(), graph, gx.EdgeAblation(objective="raw"), index=1, target=1)[0]
    assert deleted.edge_mask.tolist() == pytest.approx([0.8])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GnnXaiWarning)  # that the loss did not respond is said, and true
        learned = explain(Threshold(), graph, gx.GNNExplainer(epochs=30), index=1, target=1)[0]
    assert learned.edge_mask.tolist()[0] > 0.1


@pytest.mark.parametrize("name", READY)
def test_trap_13_isolated_target(name: str) -> None:
    graph = random_graph(0, 10, 14, undirected=True)  # its last node has no edges
    for data in (graph, Data(x=graph.x, edge_index=torch.empty(2, 0, dtype=torch.int64))):
        e = explain(two_layers("GCN"), data, name, index=9)[0]
        assert e.node_id.tolist() == [9]
        assert e.edge_id.numel() == 0
        assert e.edge_mask is None or e.edge_mask.shape == (0,)
        assert e.node_mask is None or bool(torch.isfinite(e.node_mask).all())
        assert bool(torch.isfinite(e.prediction_masked).all())
    own = explain(two_layers("GCN"), graph, "input_x_gradient", index=9)[0]
    assert float(own.node_mask.abs().max()) > 0


def test_trap_14_a_batch_is_many_instances() -> None:
    case = testing.CASES["gin_graphs"]
    graphs, model, algorithm = case.data(), case.model(), gx.GNNExplainer(epochs=10)
    alone = [explain(model, [graph], algorithm)[0] for graph in graphs]
    for together in (explain(model, graphs, algorithm), explain(model, Batch.from_data_list(graphs), algorithm)):
        assert len(together) == len(graphs)
        for e, one in zip(together, alone, strict=True):
            assert distance(e.edge_mask, one.edge_mask) < 1e-5
            assert torch.equal(e.edge_index, one.edge_index)
    backwards = explain(model, graphs[::-1], algorithm)
    assert distance(backwards[0].edge_mask, alone[-1].edge_mask) < 1e-5
    graph, two = random_graph(0, 10, 14, undirected=True), two_layers("GCN")
    both = explain(two, graph, algorithm, index=[0, 3])
    assert distance(both[1].edge_mask, explain(two, graph, algorithm, index=3)[0].edge_mask) < 1e-5


class OneGraph(nn.Module):
    """A graph-level model that was never meant for a batch: it pools all nodes there are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index).tanh().mean(0, keepdim=True)


@pytest.mark.parametrize("removal", ["structural", "message"])
def test_trap_14_a_model_of_one_graph(removal: Any) -> None:
    """Its variants run one at a time, and are those of a loop."""
    model, graph = seeded(OneGraph)().requires_grad_(False), random_graph(0, 10, 14, undirected=True)
    with pytest.warns(GnnXaiWarning, match="one at a time"):
        found = explain(model, graph, gx.NodeAblation(removal, objective="raw"), task="graph")[0]
    if removal == "structural":
        target = found.target
        for node in range(9):
            rest = graph.subgraph(torch.arange(10) != node)
            drop = found.prediction[target] - model(rest.x, rest.edge_index)[0, target]
            assert float(drop) == pytest.approx(float(found.node_mask[node]), abs=1e-6)


@pytest.mark.parametrize("name", ["gnn_explainer", "saliency", "edge_ablation", "smooth_grad", "random"])
def test_trap_15_undirected_edges(name: str) -> None:
    """Both directions of an edge have one score; parallel edges have scores of their own."""
    graph = random_graph(0, 10, 14, undirected=True)
    e = explain(two_layers("GCN"), graph, name, index=0)[0]
    scores = by_edge(e)
    both = [(u, v) for u, v in scores if (v, u) in scores]
    assert both
    assert all(scores[u, v] == pytest.approx(scores[v, u], abs=1e-7) for u, v in both)
    assert len(e.top_edges(1000)) < len(scores)

    twice = Data(x=graph.x, edge_index=torch.cat([graph.edge_index, graph.edge_index], dim=1))
    weights = torch.cat([torch.ones(graph.num_edges), torch.full((graph.num_edges,), 2.0)])
    twice.edge_weight = weights

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.GraphConv(4, 3)

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
            return self.conv(x, edge_index, edge_weight)

    e = explain(seeded(Weighted)(), twice, name, index=0)[0]
    assert len(set(e.edge_id.tolist())) == len(e.edge_id) == 2 * int((graph.edge_index[1] == 0).sum())
    light, heavy = (e.edge_mask[mask] for mask in (e.edge_id < graph.num_edges, e.edge_id >= graph.num_edges))
    assert not torch.allclose(light, heavy)
    if name == "saliency":
        assert torch.allclose(2 * light, heavy, atol=1e-6)


def test_trap_15_parallel_edges_pair_by_their_attributes() -> None:
    """Two kinds of edge between the same nodes, listed in another order one way than the other: kinds do not mix."""
    graph = random_graph(0, 8, 10, undirected=True)
    twice = torch.cat([graph.edge_index, graph.edge_index.flip(0)], dim=1)
    kind = torch.cat([torch.zeros(graph.num_edges), torch.ones(graph.num_edges)])
    data = Data(x=graph.x, edge_index=twice, edge_attr=torch.stack([kind, 1 - kind], dim=1))
    reverse = as_graphs(data, torch.device("cpu")).reverse
    assert torch.equal(twice[:, reverse], twice.flip(0))
    assert torch.equal(kind[reverse], kind)
    e = explain(seeded(lambda: pyg.GINEConv(nn.Linear(4, 3), edge_dim=2))(), data, "saliency", index=0)[0]
    listed = e.top_edges(1000)
    assert len(listed) == len({(min(u, v), max(u, v), score) for u, v, score in listed})


@pytest.mark.parametrize(
    "conv",
    [
        lambda: pyg.GINEConv(nn.Linear(4, 3), edge_dim=2),
        lambda: pyg.GATv2Conv(4, 3, edge_dim=2),
        lambda: pyg.TransformerConv(4, 3, edge_dim=2),
    ],
    ids=["GINE", "GATv2", "Transformer"],
)
def test_trap_16_edge_attributes_follow_their_edges(conv: Any) -> None:
    graph = random_graph(7, 12, 20, undirected=False)
    graph.edge_attr = torch.randn(graph.num_edges, 2, generator=torch.Generator().manual_seed(3))
    model = seeded(lambda: Network([conv()]))()
    testing.check_model(model, graph, task="node", forward=lambda m, d: m(d.x, d.edge_index, d.edge_attr))
    order = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(1))
    moved = Data(x=graph.x, edge_index=graph.edge_index[:, order], edge_attr=graph.edge_attr[order])
    node = int(graph.edge_index[1].mode().values)
    kw: dict[str, Any] = {"index": node, "forward": lambda m, d: m(d.x, d.edge_index, d.edge_attr)}
    scores = by_edge(explain(model, graph, gx.EdgeAblation(), **kw)[0])
    assert by_edge(explain(model, moved, gx.EdgeAblation(), **kw)[0]) == pytest.approx(scores, abs=1e-5)
    unlike = Data(x=graph.x, edge_index=graph.edge_index, edge_attr=graph.edge_attr.flip(0))
    assert by_edge(explain(model, unlike, gx.EdgeAblation(), **kw)[0]) != pytest.approx(scores, abs=1e-3)


class Pooled(nn.Module):
    """A convolution on the graph, top-k pooling, and a convolution on what is left of it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.pool, self.after = pyg.GCNConv(4, 8), pyg.TopKPooling(8, ratio=0.5), pyg.GCNConv(8, 3)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        x = self.before(x, edge_index).relu()
        x, edge_index, _, batch, _, _ = self.pool(x, edge_index, batch=batch)
        return pyg.global_add_pool(self.after(x, edge_index), batch)


class Nearest(nn.Module):
    """A convolution on the graph, and one on nearest neighbours that have nothing to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = pyg.GCNConv(4, 4), pyg.EdgeConv(nn.Linear(8, 3))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        x = self.first(x, edge_index)
        near = torch.cdist(x, x).masked_fill(batch[:, None] != batch, torch.inf).topk(2, largest=False).indices[:, 1]
        return pyg.global_add_pool(self.second(x, torch.stack([near, torch.arange(len(x))])), batch)


def molecules() -> list[Data]:
    graphs = [random_graph(seed, 6 + seed, 9, undirected=True) for seed in range(3)]
    for graph in graphs:
        graph.edge_attr = torch.ones(graph.num_edges, 3)
    return graphs


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (Pooled, r"pool.connect \(FilterEdges\): it makes another graph.*after \(GCNConv\): it runs on another graph"),
        (Nearest, r"second \(EdgeConv\): it runs on another graph"),
        (
            lambda: pyg.AttentiveFP(4, 8, 3, edge_dim=3, num_layers=2, num_timesteps=2),
            r"mol_conv \(GATConv\): it runs on another graph",
        ),
    ],
    ids=["pooling", "nearest", "AttentiveFP"],
)
def test_trap_17_layers_on_another_graph(make: Any, layer: str) -> None:
    """Such a layer is skipped and named; the others are masked, at the right edges."""
    model, graphs = seeded(make)(), molecules()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = explain(model, graphs, "saliency")
    assert re.search(f"not masked: {layer}", " ".join(str(warning.message) for warning in caught))
    masked = {entry["layer"]: entry["masked"] for entry in found.provenance["layers"]}
    assert set(masked.values()) == {True, False}
    assert float(found.edge_mask.max()) > 0
    # Taking an edge out needs no mask, so it works without a warning.
    removed = explain(model, graphs[:1], "edge_ablation")
    assert float(removed.edge_mask.abs().max()) > 0


def test_trap_17_no_layer_on_the_graph_at_all() -> None:
    class OnlyNearest(Nearest):
        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            return pyg.global_add_pool(self.second(x, torch.arange(len(x)).repeat(2, 1)), batch)

    with pytest.raises(MaskingError, match=r"an edge mask reaches none of this one's layers \(second \(EdgeConv\)"):
        explain(seeded(OnlyNearest)(), molecules(), "saliency")


class Adjacent(Network):
    """A network whose forward is called with `adj_t`."""

    def forward(self, x: Tensor, adj_t: Any) -> Tensor:
        return super().forward(x, adj_t)


def _sparse(data: Data, layout: str) -> Any:
    row, col = data.edge_index
    if layout == "torch_sparse":
        sparse = pytest.importorskip("torch_sparse", reason="torch_sparse is not installed")
        return sparse.SparseTensor(row=col, col=row, sparse_sizes=(data.num_nodes,) * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # CSR is in beta, says torch
        coo = torch.sparse_coo_tensor(torch.stack([col, row]), torch.ones(data.num_edges), (data.num_nodes,) * 2)
        return coo.coalesce() if layout == "coo" else coo.to_sparse_csr()


@pytest.mark.parametrize("layout", ["csr", "coo", "torch_sparse"])
@pytest.mark.parametrize("name", ["gnn_explainer", "saliency", "edge_ablation"])
def test_trap_19_sparse_adjacency(layout: str, name: str) -> None:
    """`adj_t` is transposed and sorted by receiver; on a directed graph nothing is mirrored."""
    graph = random_graph(7, 8, 20, undirected=False)
    order = torch.argsort(graph.edge_index[1] * 8 + graph.edge_index[0])
    graph.edge_index = graph.edge_index[:, order]
    want = explain(seeded(lambda: Network([pyg.SAGEConv(4, 3)]))(), graph, name)
    other = Data(x=graph.x, adj_t=_sparse(graph, layout))
    found = explain(seeded(lambda: Adjacent([pyg.SAGEConv(4, 3)]))(), other, name)
    assert torch.equal(found.edge_index, want.edge_index)
    assert distance(found.edge_mask, want.edge_mask) < 1e-5


@pytest.mark.parametrize("name", ["gnn_explainer", "saliency", "edge_ablation"])
def test_trap_20_edge_index_class(name: str) -> None:
    from torch_geometric import EdgeIndex

    graph = random_graph(7, 8, 20, undirected=False)
    model = two_layers("GCN")
    plain = explain(model, graph, name, index=0)[0]
    unsorted = EdgeIndex(graph.edge_index, sparse_size=(8, 8))
    ordered, order = unsorted.sort_by("col")
    for edges, ids in ((unsorted, torch.arange(graph.num_edges)), (ordered, order)):
        data = Data(x=graph.x, edge_index=edges, e_id=ids)
        assert by_edge(explain(model, data, name, index=0)[0]) == pytest.approx(by_edge(plain), abs=1e-5)


class Plain(nn.Module):
    """A convolution that sums without `propagate`."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.linear(x)
        return h + torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]])


class Wrapped(nn.Module):
    """The same as a submodule, with a PyG layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.custom = pyg.GCNConv(4, 4), Plain()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.custom(self.first(x, edge_index), edge_index)


@pytest.mark.parametrize("name", ["gnn_explainer", "saliency"])
def test_trap_21_a_layer_without_propagate(name: str) -> None:
    graph = random_graph(7, 8, 20, undirected=False)
    with pytest.raises(MaskingError, match=r"custom \(Plain\) receives edge_index but sends no messages"):
        explain(seeded(Wrapped)(), graph, name)
    with pytest.raises(MaskingError, match=r"model \(Plain\) receives edge_index but sends no messages"):
        explain(seeded(Plain)(), graph, name)


@pytest.mark.parametrize(("make", "hops"), [(Plain, 1), (Wrapped, 2)])
def test_trap_21_ablation_needs_no_propagate(make: Any, hops: int) -> None:
    """An edge can be taken out of any model; all that may reach the output is in play, traced or not."""
    graph = random_graph(7, 30, 40, undirected=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GnnXaiWarning)  # where the hops of a custom layer cannot be counted
        found = explain(seeded(make)(), graph, "edge_ablation")
    for e in found:
        _, edges = testing.reachable(graph.edge_index, [e.index], hops)
        assert edges <= set(e.edge_id.tolist())
    assert float(found.edge_mask.abs().max()) > 0


def test_trap_22_three_dimensional_features() -> None:
    class Temporal(nn.Module):
        """Features `[N, T, F]`; one layer at every time, then the mean over time."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.GCNConv(4, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x.transpose(0, 1), edge_index).mean(0)

    graph = random_graph(0, 10, 14, undirected=True)
    graph.x = torch.randn(10, 5, 4, generator=torch.Generator().manual_seed(0))
    for name in READY:
        found = explain(seeded(Temporal)(), graph, name, index=[0, 3])
        if found.node_mask_type in ("attributes", "common_attributes"):
            assert found.node_mask.size(1) == 20  # every time and feature
    value = explain(seeded(Temporal)(), graph, gx.InputXGradient(objective="raw", edge_mask_type=None), index=0)[0]
    bias = 0.0  # a fresh layer has none, so its contributions add up to the output
    assert float(value.node_mask.sum()) == pytest.approx(float(value.prediction[value.target]) - bias, abs=1e-5)


def test_trap_23_compiled_model() -> None:
    graph = random_graph(0, 10, 14, undirected=True)
    model = two_layers("GCN")
    whole = torch.compile(two_layers("GCN"), backend="eager")
    in_place, in_part = two_layers("GCN"), two_layers("GCN")
    in_place.compile(backend="eager")
    in_part.convs[0] = torch.compile(in_part.convs[0], backend="eager")
    with torch.no_grad():
        for compiled in (in_place, in_part):
            compiled(graph.x, graph.edge_index)  # compiled before hooks came
    for algorithm in (gx.GNNExplainer(epochs=5), gx.EdgeAblation()):
        want = explain(model, graph, algorithm, index=0)
        for compiled in (whole, in_place, in_part):
            with pytest.warns(GnnXaiWarning, match="its eager module is explained instead"):
                found = explain(compiled, graph, algorithm, index=0)
            assert torch.equal(found.edge_mask, want.edge_mask)


def test_trap_24_strong_negatives_are_on_top() -> None:
    """Top-k goes by absolute value, and the sign is kept."""

    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.SimpleConv(aggr="sum")

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    graph = Data(x=torch.tensor([[0.0], [1.0], [-5.0], [2.0]]), edge_index=torch.tensor([[1, 2, 3], [0, 0, 0]]))
    task = ModelConfig("regression", "node", "raw")
    e = explain(Difference(), graph, gx.EdgeAblation(), task=task, index=0)[0]
    assert e.signed
    assert e.top_edges(1) == [(2, 0, -5.0)]
    assert [score for *_, score in e.top_edges(3)] == [-5.0, 2.0, 1.0]
    features = explain(Difference(), graph, gx.InputXGradient(edge_mask_type=None), task=task, index=0)[0]
    assert features.top_nodes(2) == [(2, -5.0), (3, 2.0)]


def test_trap_25_settings_do_not_leak() -> None:
    for name, cls in gx.algorithms.REGISTRY.items():
        fields = {f.name for f in dataclasses.fields(cls)}
        assert not any(isinstance(f.default, (list, dict, set)) for f in dataclasses.fields(cls)), name
        one = cls()
        for field in fields:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(one, field, None)
    quick, slow = gx.GNNExplainer(epochs=3), gx.GNNExplainer()
    graph, model = random_graph(0, 10, 14, undirected=True), two_layers("GCN")
    before = explain(model, graph, slow, index=0)
    found = explain(model, graph, quick, index=0)
    assert (quick.epochs, slow.epochs, gx.GNNExplainer().epochs) == (3, 100, 100)
    assert found.algorithm["epochs"] == 3
    assert torch.equal(explain(model, graph, slow, index=0).edge_mask, before.edge_mask)


def _drawn(scores: list[float]) -> tuple[Any, gx.Explanation]:
    """A path 40–41–42–… of edges with these scores, explained and drawn."""
    nodes = len(scores) + 41
    graph = Data(x=torch.ones(nodes, 1), edge_index=torch.stack([torch.arange(40, nodes - 1), torch.arange(41, nodes)]))

    @gx.algorithms.algorithm("given", "scores given beforehand", signed=False, uses_model=False)
    class Given:
        def attribute(self, question: Any, graphs: Any, target: Any, prediction: Any) -> Any:
            from gnn_xai.core.engines.scores import Scores

            return Scores(edge=torch.tensor(scores)[graphs.edge])

    model = seeded(lambda: Network([pyg.SAGEConv(1 if i == 0 else 2, 2) for i in range(len(scores))]))()
    e = explain(model, graph, Given(), index=nodes - 1)[0]
    _, ax = plt.subplots()
    return ax, e


def test_trap_27_plots() -> None:
    """A stronger edge is never fainter, equal ones are drawn, ids are the user's, and the figure is the caller's."""
    scores = [0.93, 0.942, 0.96, 0.975, 0.99]
    ax, e = _drawn(scores)
    assert e.draw(ax=ax) is ax
    assert {text.get_text() for text in ax.texts} >= {"40", "41", "45"}
    by_strength = sorted(_lines(ax), key=lambda line: line[0])
    darkness = [1 - np.dot(color[:3], [0.2126, 0.7152, 0.0722]) for _, color in by_strength]
    assert len(by_strength) == len(scores)
    assert darkness == sorted(darkness)
    assert len({width for width, _ in by_strength}) == len(scores)
    plt.close("all")

    ax, e = _drawn([0.5, 0.5, 0.5])
    assert len(_lines(e.draw(ax=ax))) == 3
    plt.close("all")
    axes = e.draw()
    assert axes.figure.number in plt.get_fignums()
    plt.close("all")


def _lines(ax: Any) -> list[tuple[float, tuple[float, ...]]]:
    """Width and colour of every line or arrow of a drawing."""
    from matplotlib.patches import FancyArrowPatch

    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    return [(patch.get_linewidth(), patch.get_edgecolor()) for patch in arrows]


class Embedded(nn.Module):
    """Atom codes through an embedding, as in models of molecules."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(6, 4), pyg.GCNConv(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(self.embed(x).squeeze(1) if x.dim() == 2 else self.embed(x), edge_index)


class OneHot(nn.Module):
    """Codes that no embedding looks up."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(6, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(nn.functional.one_hot(x.reshape(-1), 6).float(), edge_index)


@pytest.mark.parametrize("shape", [(10, 1), (10,)])
def test_trap_28_integer_features(shape: tuple[int, ...]) -> None:
    graph = random_graph(0, 10, 14, undirected=True)
    graph.x = torch.randint(6, shape, generator=torch.Generator().manual_seed(0))
    node = ("gnn_explainer", "saliency", "integrated_gradients", "smooth_grad", "feature_ablation")
    for algorithm in node:
        found = explain(seeded(Embedded)(), graph, algorithm, index=0)
        assert found.provenance["features"] == "embedded columns of x (modules embed)"
        assert float(found.node_mask.abs().max()) > 0
        with pytest.raises(InputError, match="got torch.int64 codes .*one_hot, .*node_mask_type=None, or NodeAblation"):
            explain(seeded(OneHot)(), graph, algorithm)
    for model in (seeded(Embedded)(), seeded(OneHot)()):
        for algorithm in (
            gx.GNNExplainer(epochs=3, node_mask_type=None),
            gx.Saliency(node_mask_type=None),
            "edge_ablation",
        ):
            assert float(explain(model, graph, algorithm, index=0).edge_mask.abs().max()) > 0
        found = explain(model, graph, "node_ablation", index=0)
        assert float(found.node_mask.abs().max()) > 0
    assert found.provenance["features"] is None, "nothing that a mask could multiply"


class Waves(nn.Module):
    """Two layers that stand side by side at each of three time steps, which do not see one another."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = pyg.GraphConv(4, 3), pyg.GCNConv(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return sum(self.left(x * t, edge_index).tanh() + self.right(x + t, edge_index) for t in range(3))


@pytest.mark.parametrize(
    "name", ["gnn_explainer", "saliency", "integrated_gradients", "edge_ablation", "node_ablation"]
)
def test_trap_31_calls_that_do_not_depend_on_one_another(name: str) -> None:
    """Six calls, one hop: edges further away are not in play, however many calls there are."""
    path = torch.stack([torch.arange(7), torch.arange(1, 8)])
    data = Data(x=torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), edge_index=path)
    e = explain(seeded(Waves)(), data, name, index=7)[0]
    assert e.edge_id.tolist() == [6]
    assert e.node_id.tolist() == [6, 7]


@pytest.mark.filterwarnings("ignore:There exist node types:UserWarning")
def test_trap_18_a_relation_that_cannot_reach() -> None:
    """Its edges score 0, and nothing is raised."""
    data, rng = HeteroData(), torch.Generator().manual_seed(0)
    for name, count in (("user", 4), ("item", 3), ("shop", 2)):
        data[name].x = torch.randn(count, 4, generator=rng)
    data["item", "of", "user"].edge_index = torch.tensor([[0, 1, 2], [0, 1, 1]])
    data["user", "in", "shop"].edge_index = torch.tensor([[0, 1, 2], [0, 1, 1]])

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kinds = {relation: pyg.SAGEConv(4, 3) for relation in data.edge_types}
            self.conv = pyg.HeteroConv(kinds)

        def forward(self, x_dict: Any, edge_index_dict: Any) -> Tensor:
            return self.conv(x_dict, edge_index_dict)["user"]

    for name in ("edge_ablation", "saliency", "gnn_explainer"):
        masks = explain(seeded(Sum)(), data, name, node_type="user", index=1)[0].edge_mask_dict
        assert masks["user", "in", "shop"].tolist() == [0, 0, 0]
        assert float(masks["item", "of", "user"].abs().max()) > 0


def test_trap_42_one_column() -> None:
    """A model with one logit has two classes: each of them has its own probability in metrics."""
    graph = random_graph(7, 8, 14, undirected=False)
    model = seeded(lambda: Network([pyg.GCNConv(4, 1)]))()
    task = ModelConfig("binary_classification", "node", "raw")
    for target in (0, 1):
        found = explain(model, graph, "edge_ablation", task=task, target=target, index=[0, 1])
        plus = gx.metrics.fidelity(model, graph, found, top=1, level="edge").plus.values
        for e, value in zip(found, plus.tolist(), strict=True):
            strongest = int(e.edge_id[e.edge_mask.abs().argmax()])
            ends = (int(graph.edge_index[0, strongest]), int(graph.edge_index[1, strongest]))
            with testing.plainly_masked(model, {ends: 0.0}):
                left = model(graph.x, graph.edge_index)[e.index, 0].sigmoid()
            full = e.prediction[0].sigmoid()
            assert value == pytest.approx(float((full - left) * (2 * target - 1)), abs=1e-6)


ELSEWHERE = {
    26: "test_metrics_faithfulness.py::test_unfaithfulness_of_every_task",
    29: "test_ids.py::test_named_root_follows_and_stays",
    30: "test_ids.py::test_levels_where_lengths_coincide",
    32: "test_leftovers.py::test_after_an_explainer_of_pyg",
    33: "test_computation_graphs.py::test_rounding_costs_neither_the_fused_way_nor_the_neighbourhood",
    34: "test_links.py::test_forms_of_an_index",
    35: "test_handing.py::test_models_for_one_graph",
    36: "test_handing.py::test_models_that_write_to_their_input",
    37: "test_traps.py::test_trap_28_integer_features",
    38: "test_molecule_numbers.py::test_another_order_of_atoms_is_refused",
    39: "test_molecules.py::test_atoms_and_bonds_add_up_to_what_the_model_says",
    40: "test_viz.py::test_the_subtitle_counts_what_is_as_strong_as_the_last_that_is_shown",
    41: "test_viz.py::test_lines_go_around_nodes_that_they_do_not_join",
    43: "test_leftovers.py::test_inside_autocast",
}
"""Traps whose tests stand beside what they are about."""


@pytest.mark.parametrize("number", range(1, 44))
def test_every_trap_has_a_test(number: int) -> None:
    file, _, name = ELSEWHERE.get(number, f"test_traps.py::test_trap_{number:02}").partition("::")
    assert f"def {name}" in (Path(__file__).parent / file).read_text()


def test_pyg_sequential_is_bound_by_the_names_in_its_description():
    torch.manual_seed(0)
    layers = [(pyg.GCNConv(4, 8), "x, edge_index -> x"), nn.ReLU(), (pyg.GCNConv(8, 3), "x, edge_index -> x")]
    model = pyg.Sequential("x, edge_index", layers).eval()
    graph = Data(x=torch.randn(5, 4), edge_index=torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]))
    found = gx.explain(model, graph, "saliency", progress=False)
    torch.testing.assert_close(found.prediction, model(graph.x, graph.edge_index).detach())


def test_a_model_without_messages_says_so():
    graph = Data(x=torch.randn(5, 4), edge_index=torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]))

    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            return self.linear(x)

    with pytest.warns(gx.errors.GnnXaiWarning, match="sends no messages"):
        found = gx.explain(Features(), graph, "edge_ablation", progress=False)
    assert len(found.edge_id) == 0
