"""Metrics that explain again, against versions that perturb, explain and compare one instance at a time."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain import ModelConfig
from torch_geometric.nn import GCNConv, MessagePassing

import gnn_xai as gx
from gnn_xai.core.arrays.keyed_random import keyed_normal, keyed_uniform
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.problem import Problem
from gnn_xai.errors import InputError
from gnn_xai.metrics import robustness, sanity
from gnn_xai.metrics.robustness import _perturbed, _same_prediction
from gnn_xai.metrics.sanity import _layers, _randomize
from tests import models
from tests.covering import every_value, pairwise

scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (it comes with the extra 'research')")
pytestmark = pytest.mark.filterwarnings("ignore:the loss of:gnn_xai.errors.GnnXaiWarning")

CPU = torch.device("cpu")
NOISY = gx.SmoothGrad(samples=2, node_mask_type=None)  # scores edges, depends on the seed, and is fast


class Columns(nn.Module):
    """Some output columns of a model, shifted so that both signs occur, or as probabilities."""

    def __init__(self, inner: nn.Module, count: int, probs: bool = False) -> None:
        super().__init__()
        self.inner, self.count, self.probs = inner, count, probs

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        out = self.inner(x, edge_index, batch=batch)[:, : self.count]
        return (4 * out).sigmoid() if self.probs else out


MODES = {
    "multiclass": ("multiclass_classification", "raw", 3, False),
    "binary": ("binary_classification", "raw", 1, False),
    "binary of probabilities": ("binary_classification", "probs", 1, True),
    "multi-label": ("binary_classification", "probs", 3, True),
    "regression": ("regression", "raw", 1, False),
}


def question(level: str, mode: str = "multiclass", undirected: bool = True):
    """A model, its data and the task."""
    kind, returns, count, probs = MODES[mode]
    model = Columns(models.make("gcn", level), count, probs)
    if level == "node":
        data = models.random_graph(3, undirected=undirected)
    else:
        data = models.random_graphs(4, 3, undirected=undirected)
    return model.eval(), data, ModelConfig(kind, level, returns)


def graph_of(data, level: str, e: gx.Explanation) -> Data:
    return data if level == "node" else data[e.index]


def by_key(e: gx.Explanation, what: str = "edge") -> dict:
    """Scores by what they belong to."""
    if what == "edge":
        return dict(zip(e.edge_id.tolist(), e.edge_mask.tolist(), strict=True))
    if what == "node":
        return dict(zip(e.node_id.tolist(), e.node_mask.sum(1).tolist(), strict=True))
    rows = e.node_mask.reshape(-1, e.node_mask.size(-1)).tolist()
    names = e.node_id.tolist() if e.node_mask.dim() > 1 else [0]
    return {(name, column): s for name, row in zip(names, rows, strict=True) for column, s in enumerate(row)}


# Stability under perturbation ########################################################################################


def naive_copy(graph: Data, seed: int, noise: float, drop: float) -> tuple[Data, list[int]]:
    """One perturbed graph, number by number."""
    key = as_graphs([graph], CPU).graph_key[0]
    ends = graph.edge_index.t().tolist()
    free: dict[tuple[int, int], list[int]] = {}
    for i, (u, v) in enumerate(ends):
        free.setdefault((u, v), []).append(i)
    undirected = all(len(free.get((v, u), [])) == len(copies) for (u, v), copies in free.items())
    kept = []
    for i, (u, v) in enumerate(ends):
        # The k-th copy of a parallel edge meets the k-th copy of its reverse; edges of one pair go together.
        other = free[v, u][free[u, v].index(i)] if undirected else i
        if float(keyed_uniform(seed, key, torch.tensor(min(i, other)))) >= drop:
            kept.append(i)
    x = graph.x.clone()
    for node, column in itertools.product(*map(range, x.shape)):
        x[node, column] *= 1 + noise * float(keyed_normal(seed, key, torch.tensor(node), torch.tensor(column)))
    return Data(x=x, edge_index=graph.edge_index[:, kept]), kept


def same(mode: str, before: Tensor, after: Tensor, target: int, tolerance: float = 0.1) -> bool:
    if mode == "multiclass":
        return int(before.argmax()) == int(after.argmax())
    if mode == "regression":
        return float((before - after).abs()) <= tolerance * max(float(before.abs()), float(after.abs()))
    threshold = 0.5 if mode != "binary" else 0.0
    column = 0 if before.numel() == 1 else target
    return bool(before[column] > threshold) == bool(after[column] > threshold)


def naive_ges(
    model, data, task, level, mode, found, algorithm, what="edge", copies=3, noise=0.05, drop=0.1
) -> list[float]:
    values = []
    for e in found:
        graph, worst = graph_of(data, level, e), math.nan
        for number in range(1, copies + 1):
            moved, kept = naive_copy(graph, found.seed + number, noise, drop)
            (there,) = gx.explain(
                model,
                moved if level == "node" else [moved],
                algorithm,
                task=task,
                index=e.index if level == "node" else 0,
                target=e.target,
                seed=found.seed + number,
                progress=False,
            )
            mine, theirs = by_key(e, what), by_key(there, what)
            if what == "edge":
                theirs = {kept[i]: score for i, score in theirs.items()}
            a, b = (torch.tensor([s[k] for k in mine if k in theirs], dtype=torch.float64) for s in (mine, theirs))
            if same(mode, e.prediction, there.prediction, e.target) and bool(a.any()) and bool(b.any()):
                distance = 1 - float(a @ b / (a.norm() * b.norm()))
                worst = distance if math.isnan(worst) else max(worst, distance)
        values.append(worst)
    return values


@every_value(mode=list(MODES), level=["node", "graph"])
def test_ges(level: str, mode: str) -> None:
    """With so much noise that some predictions change, of targets that are not always what is predicted."""
    model, data, task = question(level, mode)
    target = 1 if MODES[mode][2] > 1 else None
    found = gx.explain(model, data, NOISY, task=task, target=target, seed=7, progress=False)
    result = gx.metrics.ges(model, data, found, copies=3, noise=0.8, drop=0.2)
    expected = naive_ges(model, data, task, level, mode, found, NOISY, noise=0.8, drop=0.2)
    assert result.values.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert (result.name, result.better) == ("edge GES", "lower")
    assert result.undefined == sum(map(math.isnan, expected))
    assert result.undefined > 0  # a graph without edges, a node without any


@every_value(what=["node", "feature"], level=["node", "graph"])
def test_ges_of_nodes_and_features(level: str, what: str) -> None:
    model, data, task = question(level, undirected=False)
    algorithm = gx.InputXGradient()
    found = gx.explain(model, data, algorithm, task=task, progress=False)
    result = gx.metrics.ges(model, data, found, algorithm, copies=3, noise=0.05, drop=0.1, level=what)
    expected = naive_ges(model, data, task, level, "multiclass", found, algorithm, what)
    assert result.values.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert result.name == f"{what} GES"


def test_ges_of_features_in_common(level: str) -> None:
    model, data, task = question(level)
    found = gx.explain(model, data, "feature_ablation", task=task, progress=False)
    result = gx.metrics.ges(model, data, found, copies=2, noise=0.05, drop=0.1)
    expected = naive_ges(model, data, task, level, "multiclass", found, "feature_ablation", "feature", copies=2)
    assert result.values.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_ges_without_perturbation(level: str) -> None:
    """Nothing moves: a method without chance is stable to the last bit, one with chance is not."""
    model, data, task = question(level)
    options = {"copies": 2, "noise": 0.0, "drop": 0.0}
    for algorithm, stable in (("saliency", True), (NOISY, False), ("random", False)):
        found = gx.explain(model, data, algorithm, task=task, progress=False)
        values = gx.metrics.ges(model, data, found, **options).defined
        assert bool((values.abs() < 1e-12).all()) == stable
        assert len(values) > 0


def test_ges_takes_only_copies_that_keep_the_prediction() -> None:
    model, data, task = question("graph")
    found = gx.explain(model, data, "saliency", task=task, progress=False)
    other = (found.prediction.argmax(1) + 1) % 3
    never = replace(found, prediction=nn.functional.one_hot(other, 3).to(found.prediction))
    result = gx.metrics.ges(model, data, never, noise=0.0)
    assert (result.count, result.undefined) == (0, len(found))
    model, data, task = question("graph", "regression")
    found = gx.explain(model, data, "saliency", task=task, progress=False)
    strict, loose = (gx.metrics.ges(model, data, found, noise=0.2, tolerance=t) for t in (0.0, 10.0))
    assert strict.count < loose.count


@pytest.mark.parametrize(
    ("mode", "before", "after", "expected"),
    [
        ("multiclass", [2.0, 0.0, 1.0], [2.0, 0.0, 1.5], True),
        ("multiclass", [2.0, 0.0, 1.0], [1.0, 0.0, 2.0], False),  # another class, and the target 1 is neither
        ("multi-label", [0.9, 0.2, 0.9], [0.9, 0.4, 0.1], True),  # the label that is explained is off, as before
        ("multi-label", [0.9, 0.2, 0.9], [0.9, 0.6, 0.9], False),
        ("binary", [0.3], [0.1], True),
        ("binary", [0.3], [-0.1], False),
        ("regression", [-2.0], [-2.2], True),
        ("regression", [-2.0], [-2.3], False),
        ("regression", [0.1], [-0.1], False),
    ],
)
def test_same_prediction(mode: str, before: list[float], after: list[float], expected: bool) -> None:
    model, data, task = question("graph", mode)
    problem = Problem(model, as_graphs(data, CPU), task, model)
    target = torch.tensor([0 if mode == "regression" else 1])
    assert _same_prediction(problem, torch.tensor([before]), torch.tensor([after]), target, 0.1).tolist() == [expected]


def test_ges_of_a_graph_does_not_depend_on_its_companions() -> None:
    model, data, task = question("graph")
    found = gx.explain(model, data, "saliency", task=task, progress=False)
    whole = gx.metrics.ges(model, data, found, noise=0.05, drop=0.1)
    for i, graph in enumerate(data):
        alone = gx.explain(model, [graph], "saliency", task=task, progress=False)
        value = gx.metrics.ges(model, [graph], alone, noise=0.05, drop=0.1).values
        torch.testing.assert_close(value, whole.values[i : i + 1], equal_nan=True)
    part = gx.metrics.ges(model, data, found[[3, 1]], noise=0.05, drop=0.1)
    torch.testing.assert_close(part.values, whole.values[[3, 1]], equal_nan=True)
    batch = Batch.from_data_list(data)
    batched = gx.metrics.ges(model, batch, found, noise=0.05, drop=0.1)
    torch.testing.assert_close(batched.values, whole.values, equal_nan=True)


@every_value(model_name=["gine", "graph_conv", "sage_reversed"], level=["node", "graph"])
def test_ges_takes_attributes_of_edges_along(level: str, model_name: str) -> None:
    model = models.make(model_name, level)
    data = models.random_graph(3) if level == "node" else models.random_graphs(3, 3)
    found = gx.explain(model, data, "saliency", task=level, progress=False)
    result = gx.metrics.ges(model, data, found, copies=1, noise=0.0, drop=0.2)
    graphs = as_graphs(data, CPU)
    moved, kept = _perturbed(graphs, found.seed + 1, 0.0, 0.2)
    assert 0 < len(kept) < graphs.num_edges
    torch.testing.assert_close(moved.edge_attr, graphs.edge_attrs["edge_attr"][kept])
    there = gx.explain(model, moved, "saliency", task=level, target=found.target, seed=1, progress=False)
    for value, e, f in zip(result.values.tolist(), found, there, strict=True):
        if not math.isnan(value):
            start = 0 if level == "node" else int(graphs.edge_ptr[e.index])
            first = 0 if level == "node" else int((kept < start).sum())
            theirs = {int(kept[i + first]) - start: s for i, s in by_key(f).items()}
            mine = by_key(e)
            a, b = (torch.tensor([s[k] for k in mine if k in theirs]) for s in (mine, theirs))
            assert value == pytest.approx(1 - float(torch.cosine_similarity(a, b, dim=0)), abs=1e-5)


def test_codes_and_data_are_left_alone() -> None:
    """Integer features get no noise, and the user's data stays as it is."""
    graph = models.random_graph(3)
    graph.x = graph.x.abs().long()
    before = copy.deepcopy(graph)
    moved, kept = _perturbed(as_graphs(graph, CPU), 1, 0.5, 0.3)
    assert torch.equal(moved.x, graph.x)
    assert len(kept) < graph.num_edges
    assert all(torch.equal(before[key], graph[key]) for key in before.keys())  # noqa: SIM118


# Stability under seeds ###############################################################################################


def naive_top(e: gx.Explanation, top: int | float) -> dict[int, float]:
    """How much of each edge is among the strongest; pairs of equal scores are one undirected edge."""
    scores = {i: abs(s) if e.signed else s for i, s in by_key(e).items()}
    ends = dict(zip(e.edge_id.tolist(), e.edge_index.t().tolist(), strict=True))
    weight = {
        i: 0.5 if u != v and any(ends[j] == [v, u] and scores[j] == scores[i] for j in ends) else 1.0
        for i, (u, v) in ends.items()
    }
    left = float(top) if isinstance(top, int) else math.ceil(top * sum(weight.values()) - 1e-9)
    share = {}
    for score in sorted(set(scores.values()), reverse=True):
        tied = [i for i in scores if scores[i] == score]
        size = sum(weight[i] for i in tied)
        share |= dict.fromkeys(tied, min(left / size, 1.0))
        left = max(left - size, 0.0)
    return {i: (share[i], weight[i]) for i in share}


def naive_overlap(one: dict, other: dict) -> float:
    both = sum(w * min(s, other[i][0]) for i, (s, w) in one.items())
    either = sum(w * max(s, other[i][0]) for i, (s, w) in one.items())
    return both / either if either else math.nan


def nanmean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def rank_correlation(one: dict, other: dict, absolute: bool = False) -> float:
    a, b = ([abs(s[k]) if absolute else s[k] for k in one] for s in (one, other))
    return float(scipy_stats.spearmanr(a, b).statistic) if len(set(a)) > 1 and len(set(b)) > 1 else math.nan


@every_value(mode=list(MODES), top=[2, 0.25], level=["node", "graph"])
def test_seed_stability(level: str, mode: str, top: int | float) -> None:
    model, data, task = question(level, mode)
    runs = [gx.explain(model, data, NOISY, task=task, seed=seed, progress=False) for seed in (3, 4, 5)]
    result = gx.metrics.seed_stability(model, data, runs[0], seeds=2, top=top)
    for i, explanations in enumerate(zip(*runs, strict=True)):
        pairs = list(itertools.combinations(explanations, 2))
        correlation = nanmean([rank_correlation(by_key(e), by_key(f)) for e, f in pairs])
        assert float(result.correlation.values[i]) == pytest.approx(correlation, abs=1e-6, nan_ok=True)
        overlap = nanmean([naive_overlap(naive_top(e, top), naive_top(f, top)) for e, f in pairs])
        assert float(result.overlap.values[i]) == pytest.approx(overlap, abs=1e-6, nan_ok=True)
    assert result.correlation.mean < 1
    assert result.correlation.undefined > 0


@every_value(algorithm=["saliency", "edge_ablation", "node_ablation", "feature_ablation"], level=["node", "graph"])
def test_without_chance_seeds_change_nothing(level: str, algorithm: str) -> None:
    model, data, task = question(level)
    found = gx.explain(model, data, algorithm, task=task, progress=False)
    result = gx.metrics.seed_stability(model, data, found, seeds=2)
    assert set(result.correlation.defined.tolist()) == {1.0}
    assert set(result.overlap.defined.tolist()) == {1.0}


def test_seed_stability_where_seeds_draw_the_neighbours() -> None:
    model, data, task = question("node")
    found = gx.explain(model, data, "saliency", task=task, max_neighbors=1, progress=False)
    other = gx.explain(model, data, "saliency", task=task, max_neighbors=1, seed=1, progress=False)
    assert found.edge_id.tolist() != other.edge_id.tolist()
    result = gx.metrics.seed_stability(model, data, found, seeds=1)
    for i, (e, f) in enumerate(zip(found, other, strict=True)):
        mine, theirs = by_key(e), by_key(f)
        expected = rank_correlation({k: s for k, s in mine.items() if k in theirs}, theirs)
        assert float(result.correlation.values[i]) == pytest.approx(expected, abs=1e-6, nan_ok=True)


# Contrastivity #######################################################################################################


@pairwise(
    mode=["multiclass", "binary", "binary of probabilities", "multi-label"],
    algorithm=[gx.EdgeAblation(), gx.GNNExplainer(epochs=3, lr=0.3, init_std=0.5)],
    level=["node", "graph"],
)
def test_contrastivity(level: str, mode: str, algorithm: object) -> None:
    model, data, task = question(level, mode)
    found = gx.explain(model, data, algorithm, task=task, progress=False)
    if MODES[mode][2] == 1:
        second = 1 - found.target
    else:
        order = found.prediction.argsort(1, descending=True)
        second = torch.where(order[:, 0] == found.target, order[:, 1], order[:, 0])
    there = gx.explain(model, data, algorithm, task=task, target=second, progress=False)
    for options, top in (({}, 0.25), ({"top": 3}, 3)):
        result = gx.metrics.contrastivity(model, data, found, **options)
        for value, e, f in zip(result.values.tolist(), found, there, strict=True):
            sets = []
            for one in (e, f):
                positive = replace(one.source, edge_mask=one.source.edge_mask.clamp(min=0))[one.position]
                sets.append({i: (s * (by_key(one)[i] > 0), w) for i, (s, w) in naive_top(positive, top).items()})
            expected = 1 - naive_overlap(*sets)
            assert value == pytest.approx(expected, abs=1e-6, nan_ok=True)
    named = gx.metrics.contrastivity(model, data, found, other=second)
    torch.testing.assert_close(named.values, gx.metrics.contrastivity(model, data, found).values, equal_nan=True)


def test_contrastivity_of_opposite_evidence_is_one() -> None:
    """Evidence for one class of two is evidence against the other, where signs are kept; absolute gradients cannot tell."""
    model, data, task = question("graph", "binary")
    for absolute, expected in ((False, 1.0), (True, 0.0)):
        algorithm = gx.Saliency(node_mask_type=None, absolute=absolute)
        found = gx.explain(model, data, algorithm, task=task, progress=False)
        result = gx.metrics.contrastivity(model, data, found)
        assert result.defined.tolist() == pytest.approx([expected] * 3)
        assert result.undefined == 1  # a graph without edges


def test_contrastivity_by_threshold() -> None:
    model, data, task = question("graph")
    found = gx.explain(model, data, "node_ablation", task=task, progress=False)
    second = found.prediction.scatter(1, found.target.unsqueeze(1), -math.inf).argmax(1)
    there = gx.explain(model, data, "node_ablation", task=task, target=second, progress=False)
    result = gx.metrics.contrastivity(model, data, found, threshold=0.5)
    for value, e, f in zip(result.values.tolist(), found, there, strict=True):
        sets = []
        for one in (e, f):
            scores = one.node_mask[:, 0].clamp(min=0)
            sets.append(set((scores > 0.5 * scores.max()).nonzero().flatten().tolist()))
        assert value == pytest.approx(
            len(sets[0] ^ sets[1]) / len(sets[0] | sets[1]) if sets[0] | sets[1] else math.nan
        )


# Model randomisation #################################################################################################


def rerandomized(model: nn.Module, numbers: list[int], seed: int) -> nn.Module:
    other = copy.deepcopy(model)
    for number in numbers:
        _randomize(_layers(other)[number][1], number, seed)
    return other


@every_value(mode=list(MODES), order=["cascading", "independent"], level=["node", "graph"])
def test_model_randomization(level: str, mode: str, order: str) -> None:
    model, data, task = question(level, mode)
    algorithm = gx.InputXGradient(node_mask_type=None)
    found = gx.explain(model, data, algorithm, task=task, seed=2, progress=False)
    result = gx.metrics.model_randomization(model, data, found, order=order)
    assert [stage.layer for stage in result.stages] == ["inner.head", "inner.convs.1", "inner.convs.0"]
    steps = [[2], [2, 1], [2, 1, 0]] if order == "cascading" else [[2], [1], [0]]
    every: dict[bool, list[list[float]]] = {False: [], True: []}
    for stage, numbers in zip(result.stages, steps, strict=True):
        other = gx.explain(
            rerandomized(model, numbers, 2), data, algorithm, task=task, target=found.target, seed=2, progress=False
        )
        for absolute, values in ((False, stage.correlation.values), (True, stage.absolute.values)):
            expected = [rank_correlation(by_key(e), by_key(f), absolute) for e, f in zip(found, other, strict=True)]
            assert values.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
            every[absolute].append(expected)
    for absolute, total in ((False, result.correlation), (True, result.absolute)):
        last = every[absolute][-1]
        mean = [nanmean(list(values)) for values in zip(*every[absolute], strict=True)]
        expected = last if order == "cascading" else mean
        assert total.values.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
        assert total.better == "lower"
        assert total.undefined > 0


def test_model_randomization_leaves_the_model_alone(level: str) -> None:
    model, data, task = question(level)
    model.train()
    before = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    found = gx.explain(model, data, "saliency", task=task, progress=False)
    once, again = (gx.metrics.model_randomization(model, data, found).correlation.values for _ in range(2))
    torch.testing.assert_close(once, again, rtol=0, atol=0, equal_nan=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())


def test_what_does_not_look_at_the_model_keeps_its_scores(level: str) -> None:
    model, data, task = question(level)
    found = gx.explain(model, data, "random", task=task, progress=False)
    for order in ("cascading", "independent"):
        result = gx.metrics.model_randomization(model, data, found, order=order)
        assert set(result.correlation.defined.tolist()) == {1.0}
    looks = gx.explain(model, data, "saliency", task=task, progress=False)
    assert gx.metrics.model_randomization(model, data, looks).correlation.mean < 0.9


class Odd(nn.Module):
    """Layers of every kind: with parameters of their own and layers inside, without a way to reset, constant, shared."""

    class Scaled(MessagePassing):
        def __init__(self) -> None:
            super().__init__(aggr="sum")
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.scale * self.propagate(edge_index, x=self.inner(x))

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(4) + 5)
        self.norm = nn.BatchNorm1d(4)
        self.first = self.Scaled()
        self.body = nn.ModuleDict({"conv": GCNConv(4, 4)})
        self.again = self.first
        self.head = nn.Linear(4, 2)

    def reset_parameters(self) -> None:
        raise AssertionError("layers are randomised one by one")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.norm(x + self.shift)
        x = self.again(self.body["conv"](self.first(x, edge_index), edge_index), edge_index)
        return self.head(x)


def test_layers_of_a_model() -> None:
    model = models.seeded(Odd)
    with torch.no_grad():
        model.body["conv"].bias.fill_(0.5)  # as if it were trained: resetting puts 0 there
    assert [name for name, _ in _layers(model)] == ["", "norm", "first", "body.conv", "head"]
    for number, (name, _) in enumerate(_layers(model)):
        other, again, more = (rerandomized(model, [number], seed) for seed in (1, 1, 2))
        for key, value in other.state_dict().items():
            mine = model.state_dict()[key]
            inside = key.startswith(("first.", "again.")) if name == "first" else key.startswith(f"{name}.")
            inside = inside or (name == "" and key == "shift")
            if not inside:
                assert torch.equal(value, mine), (name, key)
            elif value.is_floating_point() and "running" not in key and key != "norm.bias":
                assert not torch.equal(value, mine), (name, key)
                assert torch.equal(value, again.state_dict()[key])
                if key not in ("body.conv.bias",):
                    assert not torch.equal(value, more.state_dict()[key]), (name, key)


def test_what_cannot_be_reset_keeps_its_size() -> None:
    layer = nn.ParameterList(
        [nn.Parameter(3 + 0.1 * torch.randn(10_000, dtype=torch.float64)), nn.Parameter(torch.ones(9))]
    )
    _randomize(layer, 0, 0)
    assert float(layer[0].detach().mean()) == pytest.approx(3, abs=0.01)
    assert float(layer[0].detach().std()) == pytest.approx(0.1, rel=0.05)
    assert 0.3 < float(layer[1].detach().std()) < 3


@every_value(name=["ges", "seed_stability", "contrastivity", "model_randomization"], level=["node", "graph"])
def test_no_tensor_is_made_on_the_default_device(level: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, task = question(level)
    metric = getattr(gx.metrics, name)

    def at_home(function):
        def call(*arguments, **given):
            with CPU:
                return function(*arguments, **given)

        return call

    # What `explain` makes is tested for itself; what reads graphs is PyG's.
    monkeypatch.setattr("gnn_xai.metrics.again.explain", at_home(gx.explain))
    for module in (robustness, sanity):
        monkeypatch.setattr(module, "explained", at_home(robustness.explained))
    for algorithm in ("saliency", "feature_ablation"):
        found = gx.explain(model, data, algorithm, task=task, progress=False)
        with torch.device("meta"):
            metric(model, data, found)


# Settings are taken over, and bad input is refused ###################################################################


@pytest.mark.parametrize("name", ["ges", "seed_stability", "contrastivity", "model_randomization"])
def test_settings_are_those_of_the_explanations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, task = question("node", "multi-label")
    options = {"task": task, "index": [4, 2], "target": [1, 0], "seed": 11, "undirected": False, "max_neighbors": 3}
    forward = lambda module, graph: module(graph.x, graph.edge_index)  # noqa: E731
    found = gx.explain(model, data, gx.EdgeAblation(), forward=forward, **options, progress=False)
    calls = []

    def spy(*arguments, **given):
        calls.append((arguments, given))
        return gx.explain(*arguments, **given)

    monkeypatch.setattr("gnn_xai.metrics.again.explain", spy)
    getattr(gx.metrics, name)(model, data, found, forward=forward, batch_budget=50)
    assert calls
    for _, given in calls:
        assert given["algorithm"] == gx.EdgeAblation()
        assert given["task"] is task
        assert given["index"].tolist() == [4, 2]
        assert (given["undirected"], given["max_neighbors"], given["batch_budget"]) == (False, 3, 50)
        assert given["forward"] is forward
        if name != "contrastivity":
            assert given["target"].tolist() == [1, 0]
        assert given["seed"] == 11 if name in ("contrastivity", "model_randomization") else given["seed"] > 11


@pytest.fixture(scope="module")
def salient() -> tuple[nn.Module, Data, gx.Explanations]:
    model, data, task = question("node")
    return model, data, gx.explain(model, data, "saliency", task=task, progress=False)


@pytest.mark.parametrize("name", ["ges", "seed_stability", "contrastivity", "model_randomization"])
def test_explanations_of_other_data_or_algorithms_are_refused(salient: tuple, name: str) -> None:
    model, data, found = salient
    metric = getattr(gx.metrics, name)
    with pytest.raises(InputError, match="the explained edges are not|is not the one that was explained"):
        metric(model, models.random_graph(4), found)
    with pytest.raises(InputError, match="the explained edges are not|out of range"):
        metric(model, models.random_graph(nodes=5, edges=4), found)
    with pytest.raises(
        InputError, match="algorithm= to explain again with, as 'mine' is not an algorithm of this package"
    ):
        metric(model, data, replace(found, algorithm={"name": "mine"}))
    edges = replace(found, node_mask=None, node_mask_type=None)
    with pytest.raises(InputError, match="saliency scored no nodes; choose another level"):
        metric(model, data, edges, level="node")
    with pytest.raises(InputError, match="expected level='edge', 'node', 'feature' or 'auto', got 'atom'"):
        metric(model, data, found, level="atom")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("ges", {"copies": 0}, "expected copies as a positive integer, got 0"),
        ("ges", {"noise": -1}, "expected noise as a number of at least 0, got -1"),
        ("ges", {"drop": 1.0}, r"expected drop as a number in \[0, 1\), got 1.0"),
        ("ges", {"tolerance": "small"}, "expected tolerance as a number of at least 0, got 'small'"),
        ("seed_stability", {"seeds": True}, "expected seeds as a positive integer, got True"),
        ("seed_stability", {"top": 0}, "expected top as a positive int or a fraction in"),
        ("contrastivity", {"top": 2.0}, "expected top as a positive int or a fraction in"),
        ("contrastivity", {"threshold": -0.1}, "expected threshold as a number in"),
        ("contrastivity", {"other": [0, 1]}, r"expected other as one class or one per instance \(12\), got \[0, 1\]"),
        ("contrastivity", {"other": 9}, "target 9 is out of range; expected 0 to 2"),
        ("model_randomization", {"order": "random"}, "expected order='cascading' or 'independent', got 'random'"),
    ],
)
def test_bad_options(salient: tuple, name: str, options: dict, sentence: str) -> None:
    model, data, found = salient
    with pytest.raises(InputError, match=sentence):
        getattr(gx.metrics, name)(model, data, found, **options)


def test_contrastivity_needs_another_class() -> None:
    model, data, task = question("node")
    found = gx.explain(model, data, "saliency", task=task, progress=False)
    with pytest.raises(InputError, match=f"a class that is not the target, got {int(found.target[0])} for instance 0"):
        gx.metrics.contrastivity(model, data, found, other=found.target)
    model, data, task = question("node", "regression")
    found = gx.explain(model, data, "saliency", task=task, progress=False)
    with pytest.raises(InputError, match="is not defined for a regression"):
        gx.metrics.contrastivity(model, data, found)


def test_randomization_needs_a_model_that_can_be_randomised() -> None:
    model, data, task = question("node")
    found = gx.explain(model, data, "saliency", task=task, progress=False)
    with pytest.raises(InputError, match="expected a model with parameters"):
        gx.metrics.model_randomization(nn.Identity(), data, found)
    model.kept = next(model.parameters()) * 2
    with pytest.raises(InputError, match="Columns cannot be copied"):
        gx.metrics.model_randomization(model, data, found)


@pytest.mark.filterwarnings(
    "ignore::gnn_xai.errors.GnnXaiWarning"
)  # of a model that uses no edges: the copy is not called
def test_randomization_needs_a_forward_that_calls_the_copy() -> None:
    model, data, task = question("node")
    found = gx.explain(model, data, "feature_ablation", task=task, progress=False)
    with pytest.raises(InputError, match=r"forward= must call the model that it is given"):
        gx.metrics.model_randomization(model, data, found, forward=lambda _, graph: model(graph.x, graph.edge_index))
