"""Edge-level tasks: pairs of nodes, connected or not, each as if alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GAE, GCNConv, SAGEConv

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.core.engines import evaluate
from gnn_xai.core.graphs.expansion import around_nodes
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import InputError
from gnn_xai.testing.comparing import by_identity, require_same

PAIRS = torch.tensor([[0, 5, 3, 7, 2], [4, 5, 8, 1, 13]])


class Encoding(nn.Module):
    """Two layers, and a dot product of the two nodes of a pair; `encode` and `decode`, as in PyG's examples."""

    def __init__(self, conv: Any = GCNConv, columns: int = 1) -> None:
        super().__init__()
        self.first, self.second = conv(4, 8), conv(8, 8 * columns)
        self.columns = columns

    def encode(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)

    def decode(self, z: Tensor, edge_label_index: Tensor) -> Tensor:
        product = z[edge_label_index[0]] * z[edge_label_index[1]]
        return product.reshape(len(product), self.columns, 8).sum(-1).squeeze(-1)


class Linked(Encoding):
    """The same in one call."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_label_index: Tensor) -> Tensor:
        return self.decode(self.encode(x, edge_index), edge_label_index)


class Encoder(Encoding):
    """The encoder of a GAE."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.encode(x, edge_index)


class Skipping(Linked):
    """A decoder that reads the input features of the pair, too, which are rows of another tensor."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_label_index: Tensor) -> Tensor:
        out = super().forward(x, edge_index, edge_label_index)
        return out + (x[edge_label_index[0]] * x[edge_label_index[1]]).sum(-1)


class Whole(Linked):
    """A model of the data object."""

    def forward(self, data: Data) -> Tensor:
        return self.decode(self.encode(data.x, data.edge_index), data.edge_label_index)


def graph(undirected: bool = True, **attributes: Any) -> Data:
    data = testing.random_graph(0, 14, 16, undirected=undirected, loops=0 if undirected else 2)
    return data if not attributes else Data(x=data.x, edge_index=data.edge_index, **attributes)


def seeded(model: Any = Linked, *arguments: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return model(*arguments).eval()


def explain(model: nn.Module, data: Any, algorithm: Any = "saliency", **options: Any) -> gx.Explanations:
    options = {"task": "edge", "index": PAIRS, "progress": False, **options}
    return gx.explain(model, data, algorithm, **options)


def same(one: gx.Explanations, other: gx.Explanations, tolerance: float = 1e-5) -> None:
    assert len(one) == len(other)
    for e, f in zip(one, other, strict=True):
        require_same(by_identity(e), by_identity(f), "explanations", tolerance)


# Models and indices ##################################################################################################


@pytest.mark.parametrize("model", [Encoding, Whole])
def test_every_form_of_a_model_gives_the_same(model: type[nn.Module]) -> None:
    data, expected = graph(), explain(seeded(), graph())
    assert torch.equal(expected.index, PAIRS.t())
    assert (expected[0].index, expected[0].name, expected[1].roots) == ((0, 4), "pair 0–4", (5, 5))
    assert torch.allclose(expected.prediction[:, 0], seeded()(data.x, data.edge_index, PAIRS), atol=1e-6)
    assert bool(expected.exact.all())
    same(explain(seeded(model), data), expected)
    same(explain(seeded(), data, forward=lambda m, d: m(d.x, d.edge_index, d.edge_label_index)), expected)


def test_an_autoencoder_of_pyg() -> None:
    data, model = graph(), seeded(lambda: GAE(Encoder()))
    found = explain(model, data, task=ModelConfig("binary_classification", "edge", "probs"))
    expected = model.decode(model.encode(data.x, data.edge_index), PAIRS)
    assert torch.allclose(found.prediction[:, 0], expected, atol=1e-6)


def test_layers_drop_all_rows_but_those_of_pairs() -> None:
    for model in (Linked, Skipping):
        prepared = gx.prepare(seeded(model), graph(), task="edge")
        plan = prepared.way(structural=False).plan
        assert plan is not None
        assert plan.shrink
        together = gx.explain(prepared, "edge_ablation", index=PAIRS, progress=False)
        for position, pair in enumerate(PAIRS.t().tolist()):
            same(explain(seeded(model), graph(), "edge_ablation", index=[tuple(pair)]), together[[position]])


def test_forms_of_an_index() -> None:
    data, model = graph(edge_label_index=PAIRS), seeded()
    for index, expected in (
        (None, range(5)),
        (slice(1, 3), [1, 2]),
        (3, [3]),
        ([4, 0], [4, 0]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        ((0, 4), [0]),
        ([(3, 8), (0, 4)], [2, 0]),
        ([[3, 0], [8, 4]], [2, 0]),
        (PAIRS[:, 2:].numpy(), [2, 3, 4]),
    ):
        assert torch.equal(explain(model, data, "random", index=index).index, PAIRS.t()[list(expected)])
    again = explain(model, data, "random")
    assert torch.equal(explain(model, data, "random", index=again.index.t()).index, again.index)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"index": (0, 14)}, r"pair \(0, 14\) is out of range; expected nodes 0 to 13"),
        ({"index": [(0, 1), (-1, 2)]}, r"pair \(-1, 2\) is out of range"),
        ({"index": PAIRS.t()}, r"shape \[2, B\], got \[5, 2\]; transpose it: index.t\(\)"),
        ({"index": [(0, 1, 2)]}, r"tuples \(u, v\), got tuples of shape \[3\]"),
        ({"index": PAIRS.float()}, "as integers, got torch.float32"),
        ({"index": torch.zeros(2, 0, dtype=torch.int64)}, "at least one pair"),
        ({"index": 3}, r"no edge_label_index to pick from, got 3; pass index=\(u, v\)"),
        ({"index": None}, "no edge_label_index to pick from"),
        ({"exclude_pair": "yes"}, "exclude_pair=True or False"),
        ({"task": "node", "index": 0, "exclude_pair": True, "model": Encoder}, "for an edge-level task alone"),
        ({"model": Encoder, "task": "graph", "data": [graph()], "index": 0, "exclude_pair": True}, "one of graphs"),
        ({"model": lambda: GCNConv(4, 1)}, r"forward=lambda model, data: ... that uses data.edge_label_index"),
        ({"task": "link"}, "task='edge'"),
        ({"forward": lambda model, data: model.encode(data.x, data.edge_index)}, "one output row per pair"),
    ],
)
def test_bad_input(options: dict[str, Any], sentence: str) -> None:
    options = {"model": Linked, "data": graph(), **options}
    model, data = seeded(options.pop("model")), options.pop("data")
    with pytest.raises(InputError, match=sentence):
        explain(model, data, **options)


def test_pairs_are_of_one_graph() -> None:
    graphs = [graph(edge_label_index=PAIRS[:, :2]), graph(edge_label_index=PAIRS[:, 2:])]
    for data in (graphs, Batch.from_data_list(graphs)):
        found = explain(seeded(), data, index=None)
        assert torch.equal(found.index, torch.cat([PAIRS[:, :2], PAIRS[:, 2:] + 14], dim=1).t())
        alone = explain(seeded(), graph())
        assert torch.allclose(found.edge_mask, alone.edge_mask, atol=1e-5)
        with pytest.raises(InputError, match=r"one graph, got \(0, 14\)"):
            explain(seeded(), data, index=(0, 14))


def test_modes() -> None:
    data = graph()
    model = seeded(Linked, GCNConv, 3)
    found = explain(model, data, "edge_ablation", task=ModelConfig("multiclass_classification", "edge", "raw"))
    assert torch.equal(found.target, model(data.x, data.edge_index, PAIRS).argmax(1))
    found = explain(seeded(), data, "edge_ablation", task=ModelConfig("regression", "edge", "raw"))
    e, kept = found[0], torch.ones(data.num_edges, dtype=torch.bool)
    u, v, score = e.top_edges(1)[0]
    kept[
        ((data.edge_index[0] == u) & (data.edge_index[1] == v))
        | ((data.edge_index[0] == v) & (data.edge_index[1] == u))
    ] = False
    without = seeded()(data.x, data.edge_index[:, kept], PAIRS[:, :1])
    assert float(e.prediction - without.detach()) == pytest.approx(score, abs=1e-5)


# What is in play #####################################################################################################


@pytest.mark.parametrize("undirected", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_reach_of_two_roots(undirected: bool, steps: int) -> None:
    data = graph(undirected)
    graphs = as_graphs(data, torch.device("cpu"))
    found = around_nodes(graphs, PAIRS.t().contiguous(), steps, torch.zeros(5, dtype=torch.int64), "source_to_target")
    for i, pair in enumerate(PAIRS.t().tolist()):
        nodes, edges = testing.reachable(data.edge_index, pair, steps)
        mine, own = found.node_owner == i, found.edge_owner == i
        assert set(found.node[mine].tolist()) == nodes
        assert set(found.edge[own].tolist()) == edges
        assert found.node[mine][found.roots[i]].tolist() == pair
        near = [min(_hops(data.edge_index, node, root) for root in pair) for node in found.node[mine].tolist()]
        assert found.node_depth[mine].tolist() == near


def _hops(edge_index: Tensor, node: int, root: int) -> int:
    reached = (hops for hops in range(15) if node in testing.reachable(edge_index, [root], hops)[0])
    return next(reached, 15)


@pytest.mark.parametrize("undirected", [True, False])
def test_the_own_edge_of_a_pair(undirected: bool) -> None:
    data, model = graph(undirected), seeded(Linked, SAGEConv)
    pairs = [tuple(pair) for pair in data.edge_index.t().tolist() if (pair[1], pair[0]) != (pair[0], pair[1])][:6]
    full = explain(model, data, "edge_ablation", index=pairs)
    less = explain(model, data, "edge_ablation", index=pairs, exclude_pair=True)
    assert torch.equal(full.prediction, less.prediction)
    assert less.provenance["exclude_pair"] is True
    for e, f in zip(full, less, strict=True):
        (u, v), ends = e.index, e.edge_index
        own = ((ends[0] == u) & (ends[1] == v)) | (undirected & (ends[0] == v) & (ends[1] == u))
        assert bool(own.any())
        assert torch.equal(e.node_id, f.node_id)
        assert torch.equal(e.edge_id[~own], f.edge_id)
        assert torch.allclose(e.edge_mask[~own], f.edge_mask, atol=1e-6)
    prepared = gx.prepare(model, data, task="edge", exclude_pair=True)
    same(gx.explain(prepared, "edge_ablation", index=pairs, progress=False), less)
    with pytest.raises(InputError, match="expected exclude_pair= where the problem is prepared"):
        gx.explain(prepared, "saliency", index=pairs, exclude_pair=True)
    one, other = (
        gx.metrics.fidelity(*what, less, top=2, level="edge").plus.values for what in ((model, data), (prepared,))
    )
    assert torch.allclose(one, other)
    assert gx.metrics.seed_stability(model, data, less, seeds=2).correlation.mean == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2])
def test_the_own_edge_of_a_pair_in_a_short_run(count: int) -> None:
    pairs = [tuple(pair) for pair in graph().edge_index.t().tolist()[:count]]
    for e in explain(seeded(), graph(), index=pairs, exclude_pair=True):
        ends = e.edge_index.t().tolist()
        assert list(e.index) not in ends
        assert list(e.index)[::-1] not in ends


def test_a_cap_on_the_neighbours() -> None:
    free, capped = (explain(seeded(), graph(), max_neighbors=most) for most in (50, 1))
    assert torch.allclose(free.edge_mask, explain(seeded(), graph()).edge_mask, atol=1e-5)
    assert not capped.exact.all()
    assert len(capped.edge_id) < len(free.edge_id)
    for position, pair in enumerate(PAIRS.t().tolist()):
        same(explain(seeded(), graph(), index=tuple(pair), max_neighbors=1), capped[[position]])


# Many of them ########################################################################################################


def test_prepared_and_in_chunks() -> None:
    data, model = graph(), seeded()
    every = torch.cartesian_prod(torch.arange(14), torch.arange(14)).t()
    prepared = gx.prepare(model, data, task="edge")
    assert len(prepared) == 0
    assert "edge level" in repr(prepared)
    whole = explain(model, data, "edge_ablation", index=every)
    same(gx.explain(prepared, "edge_ablation", index=every, progress=False), whole)
    for position in (3, 100, 195):  # pairs that nobody asked for before
        found = gx.explain(prepared, "edge_ablation", index=every[:, [position]], progress=False)
        same(found, whole[[position]])
    session, index = prepared.session(structural=True), every.t()
    chunks = list(prepared.chunks(session, index, limit=300))
    assert len(chunks) > 3
    assert torch.cat([chunk.positions for chunk in chunks]).tolist() == list(range(196))
    assert torch.allclose(torch.cat([chunk.prediction for chunk in chunks]), whole.prediction, atol=1e-6)
    parts = gx.prepare(model, graph(edge_label_index=every), task="edge").parts(3)
    assert torch.equal(torch.cat(parts), every.t())


@pytest.mark.parametrize("removal", ["structural", "message"])
def test_changes_are_followed_to_both_nodes(monkeypatch: pytest.MonkeyPatch, removal: Any) -> None:
    went = []
    for name in ("_followed", "_rebuilt", "_masked"):
        way = getattr(evaluate, name)
        monkeypatch.setattr(evaluate, name, lambda *a, name=name, way=way: (went.append(name), way(*a))[1])
    prepared = gx.prepare(seeded(), graph(), task="edge")
    found = gx.explain(prepared, gx.EdgeAblation(removal=removal), index=PAIRS, progress=False)
    assert went[-1] == "_followed"
    monkeypatch.setattr(evaluate, "followable", lambda *_: False)
    same(gx.explain(prepared, gx.EdgeAblation(removal=removal), index=PAIRS, progress=False), found)


def test_a_run_on_disk(tmp_path: Path) -> None:
    data, model = graph(edge_label_index=PAIRS), seeded()
    stored = explain(model, data, gx.EdgeAblation(), index=None, out=tmp_path / "run")
    expected = explain(model, data, gx.EdgeAblation())
    same(stored[:], expected)
    again = explain(model, data, gx.EdgeAblation(), index=None, out=tmp_path / "run")
    assert len(again) == 5
    with pytest.raises(gx.errors.StorageError):
        explain(model, data, gx.EdgeAblation(), index=PAIRS[:, :4], out=tmp_path / "run")


# Results #############################################################################################################


def test_results_in_every_form(tmp_path: Path) -> None:
    data, model = graph(), seeded()
    found = explain(model, data, gx.GNNExplainer(epochs=3, node_mask_type="object"))
    loaded = gx.load(found.save(tmp_path / "links.safetensors"))
    same(loaded, found, 0.0)
    assert loaded[2].index == (3, 8)
    assert repr(found[2]).startswith("Explanation(pair 3–8, target ")
    assert found[[3, 1]].index.tolist() == [[7, 1], [5, 5]]
    table = found.to_pandas()
    assert table[["index_0", "index_1"]].to_numpy().tolist() == PAIRS.t().tolist()
    assert set(found.to_pandas("edge").columns) >= {"index_0", "index_1", "source", "destination", "score"}
    assert found[0].to_networkx().graph["index"] == (0, 4)
    theirs = found.to_pyg(2)
    assert theirs.edge_label_index.tolist() == [[3], [8]]
    assert torch.equal(theirs.edge_mask[found[2].edge_id], found[2].edge_mask)
    same(
        gx.Explanations.from_pyg([found.to_pyg(i) for i in range(5)], model, data, task=found.task)[[2]].to("cpu"),
        _masks(found[[2]]),
    )


def _masks(found: gx.Explanations) -> gx.Explanations:
    return found


def test_both_nodes_have_a_ring() -> None:
    import matplotlib.pyplot as plt

    found = explain(seeded(), graph(), "edge_ablation")
    ax = found[0].draw()
    rings = [c for c in ax.collections if len(c.get_offsets()) == 1 and len(c.get_facecolors()) == 0]
    assert len(rings) == 2
    assert ax.get_title(loc="left").startswith("pair 0–4 · predicted class")
    plt.close("all")


def test_metrics_and_comparisons() -> None:
    data, model = graph(), seeded()
    found, labels = explain(model, data, gx.EdgeAblation()), torch.tensor([1, 0, 1, 0, 1])
    metrics = gx.metrics
    for result in (
        metrics.fidelity(model, data, found, top=2, level="edge").plus,
        metrics.fidelity(model, data, found, top=2, level="edge", kind="phenomenon_label", labels=labels).plus,
        metrics.ges(model, data, found, copies=2),
        metrics.seed_stability(model, data, found, seeds=2).correlation,
    ):
        assert len(result.values) == 5
    with pytest.raises(InputError, match="for every pair that is explained, in their order"):
        metrics.fidelity(model, data, found, top=2, level="edge", kind="phenomenon_label", labels=labels[:3])
    node = torch.arange(14) // 5
    truth = gx.GroundTruth(edge=node[data.edge_index[0]], node=node)
    options = {"task": "edge", "index": PAIRS, "labels": labels, "ground_truth": truth, "progress": False}
    names = [name for name in metrics.REGISTRY if name != "model_randomization"]  # slow
    comparison = gx.compare(model, data, ["saliency", "edge_ablation"], names, **options)
    assert len(comparison.metrics) >= len(names)
    assert torch.equal(comparison.explanations["saliency"].index, PAIRS.t())
    comparison.fidelity_over_sparsity(shares=[0.5, 1.0])


def test_callbacks_name_pairs() -> None:
    trace = gx.Trace()
    explain(seeded(), graph(), gx.GNNExplainer(epochs=2), callback=trace)
    assert trace.run is not None
    assert trace.run.name(2) == "pair 3–8"
    assert set(trace.run.embeddings()) == {"first", "second"}
    assert trace.run.embeddings()["second"].shape == (5, 16)
    assert {"source", "destination"} <= set(trace.to_pandas().columns)


def test_ground_truth_of_pairs() -> None:
    data = graph()
    node = torch.arange(14) // 5
    truth = gx.GroundTruth(edge=node[data.edge_index[0]], node=node)
    found = explain(seeded(), data)
    expected = torch.cat([torch.isin(node[data.edge_index[0, e.edge_id]], node[list(e.roots)]) for e in found])
    assert torch.equal(truth.edges(found), expected)
