"""Metrics that run the model again, against loops over instances and forward passes, and against PyG and SciPy."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import DummyExplainer, Explainer, ModelConfig, metric
from torch_geometric.nn import GCNConv

import gnn_xai as gx
import gnn_xai.extend
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import InputError
from gnn_xai.metrics import FidelityCurve
from gnn_xai.metrics.divergence import divergence
from gnn_xai.metrics.losses import FidelityKind
from tests import models
from tests.covering import every_value, pairwise
from tests.readings import lost, unfaithful
from tests.references import Reference, run

pytestmark = pytest.mark.filterwarnings("ignore:the loss of:gnn_xai.errors.GnnXaiWarning")

LEVELS = ["node", "graph"]
TASKS = {
    "multiclass": ("multiclass_classification", "raw"),
    "log-probabilities": ("multiclass_classification", "log_probs"),
    "probabilities": ("multiclass_classification", "probs"),
    "binary": ("binary_classification", "raw"),
    "binary probabilities": ("binary_classification", "probs"),
    "multi-label": ("binary_classification", "raw"),
    "regression": ("regression", "raw"),
}


class Reading(nn.Module):
    """A model whose logits are read in another way: as probabilities, or one column of them."""

    def __init__(self, model: nn.Module, task: str) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        out = self.model(x, edge_index, batch=batch)
        if self.task == "log-probabilities":
            return out.log_softmax(1)
        if self.task == "probabilities":
            return out.softmax(1)
        if self.task.startswith("binary"):
            out = 3 * (out[:, :1] - out[:, 1:2] - 0.1)
            return out.sigmoid() if "probabilities" in self.task else out
        return 3 * out if self.task == "multi-label" else out


@dataclass(eq=False)
class Case:
    """A model, its data, true labels, and explanations of some of its outputs."""

    task: str
    level: str
    model: nn.Module
    data: Any
    config: ModelConfig
    labels: Tensor

    def explain(self, algorithm: object, index: list[int] | None = None) -> gx.Explanations:
        target = 1 if self.task in ("regression", "multi-label") else None
        return gx.explain(
            self.model, self.data, algorithm, task=self.config, index=index, target=target, seed=5, progress=False
        )

    def references(self, found: gx.Explanations) -> list[Reference]:
        if self.level == "node":
            return [Reference(self.model, self.data, 2, e.index, e.target) for e in found]
        keys = as_graphs(self.data, torch.device("cpu")).graph_key.tolist()
        return [Reference(self.model, self.data[e.index], 2, None, e.target, keys[e.index]) for e in found]

    def lost(self, kind: str, before: Tensor, after: Tensor, e: gx.Explanation) -> float:
        return lost(self.task, kind, before, after, e.target, self.labels[e.index])


def build(task: str, level: str, model_name: str = "gcn", undirected: bool = True, loops: int = 2) -> Case:
    inner = models.make(model_name, level)
    model = Reading(inner, task).eval()
    options = {"undirected": undirected, "loops": loops, "parallel": 0 if loops == 0 else 1}
    data: Any = models.random_graph(3, **options)
    if level == "graph":
        data = [models.random_graph(3 + i, nodes=6 + 2 * i, edges=7 + i, **options) for i in range(5)]
        data[3] = models.random_graph(3, nodes=1, edges=0, loops=0, parallel=0, isolated=1)
    with torch.no_grad():  # no class is the likeliest everywhere, so that labels change
        graphs = [data] if level == "node" else data
        inner.head.bias -= torch.cat([run(inner, graph) for graph in graphs]).mean(0)
    count, columns = (data.num_nodes if level == "node" else len(data)), 1 if task.startswith("binary") else 3
    generator = torch.Generator().manual_seed(1)
    if task == "regression":
        labels = torch.randn(count, columns, generator=generator, dtype=torch.float64)
    else:
        shape, classes = ((count, 3), 2) if task == "multi-label" else ((count,), 2 if columns == 1 else 3)
        labels = torch.randint(classes, shape, generator=generator).double()
    labels[1] = torch.nan  # not known
    mode, returned = TASKS[task]
    return Case(task, level, model, data, ModelConfig(mode, level, returned), labels)


# The naive version ###################################################################################################


def laid(reference: Reference, e: gx.Explanation, common: bool) -> tuple[Tensor | None, Tensor | None]:
    """The scores of nodes and edges over the full graph, 0 where not in play."""
    node = edge = None
    if e.edge_mask is not None:
        edge = reference.ones() * 0
        edge[e.edge_id] = e.edge_mask
    if e.node_mask is not None:
        node = e.node_mask
        if not common:
            node = node.new_zeros(reference.data.num_nodes, node.size(1))
            node[e.node_id] = e.node_mask
    return node, edge


def under(case: Case, found: gx.Explanations, **options: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What the model says of each instance: on the graph, with nothing but the explanation, and without it."""
    outputs = []
    for reference, e in zip(case.references(found), found, strict=True):
        node, edge = laid(reference, e, found.node_mask_type == "common_attributes")
        outputs.append((reference.logits, *reference.under(node, edge, found.signed, **options)))
    return outputs


def check(values: Tensor, expected: list[float]) -> None:
    assert values.tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)


def naive(case: Case, found: gx.Explanations, kind: str, **options: Any) -> tuple[list[float], list[float]]:
    """Fidelity+ and fidelity− of each instance."""
    outputs = under(case, found, **options)
    plus, minus = [], []
    for e, (before, kept, dropped) in zip(found, outputs, strict=True):
        plus.append(case.lost(kind, before, dropped, e))
        minus.append(case.lost(kind, before, kept, e))
    return plus, minus


# Fidelity ############################################################################################################


@every_value(task=list(TASKS), level=LEVELS)
def test_fidelity_of_every_task_and_kind(task: str, level: str) -> None:
    case = build(task, level)
    found = case.explain(gx.InputXGradient())
    for kind in get_args(FidelityKind):
        if task == "regression" and kind.endswith("label"):
            continue
        for options in ({}, {"top": 2}):
            result = gx.metrics.fidelity(case.model, case.data, found, kind=kind, labels=case.labels, **options)
            plus, minus = naive(case, found, kind, **options)
            check(result.plus.values, plus)
            check(result.minus.values, minus)
            assert result.plus.undefined == sum(map(math.isnan, plus))
            if kind.startswith("phenomenon"):
                assert result.plus.undefined == 1  # the unknown label
                sizes = gx.metrics.fidelity(
                    case.model, case.data, found, kind=kind, labels=case.labels, absolute=True, **options
                )
                check(sizes.plus.values, [abs(value) for value in plus])
                check(sizes.minus.values, [abs(value) for value in minus])


def test_the_kinds_differ() -> None:
    case = build("multiclass", "node")
    found = case.explain(gx.EdgeAblation())
    results = [
        gx.metrics.fidelity(case.model, case.data, found, kind=kind, labels=case.labels, top=3).plus
        for kind in get_args(FidelityKind)
    ]
    assert len({tuple(result.values.nan_to_num(9.0).tolist()) for result in results}) == 4
    assert len({result.name for result in results}) == 4


@every_value(what=["model", "phenomenon"], level=LEVELS)
def test_label_fidelity_is_that_of_pyg(what: str, level: str) -> None:
    case = build("multiclass", level, loops=0)
    case.labels[1] = 0
    found = case.explain(gx.GNNExplainer(epochs=5, lr=0.5, init_std=1.0, node_mask_type="attributes"))
    kind = "label" if what == "model" else "phenomenon_label"
    ours = gx.metrics.fidelity(
        case.model, case.data, found, kind=kind, labels=case.labels, absolute=what == "phenomenon"
    )
    for position in range(len(found)):
        explainer, explanation = as_pyg(case, found, position, what)
        plus, minus = metric.fidelity(explainer, explanation)
        check(ours.plus.values[position], pytest.approx(plus))
        check(ours.minus.values[position], pytest.approx(minus))
    assert 0 < ours.plus.mean + ours.minus.mean < 2


def as_pyg(case: Case, found: gx.Explanations, position: int, what: str = "model") -> tuple[Explainer, Any]:
    """PyG's explainer and explanation of one instance, with PyG's own prediction and target of the whole graph."""
    explainer = Explainer(
        case.model,
        DummyExplainer(),
        explanation_type=what,
        node_mask_type=None if found.node_mask is None else "attributes",
        edge_mask_type="object",
        model_config=case.config,
    )
    explanation = found.to_pyg(position)
    for key in ("edge_attr", "edge_weight"):
        del explanation[key]
    explanation._model_args = []
    explanation.prediction = explainer.get_prediction(explanation.x, explanation.edge_index)
    explanation.target = case.labels.long() if case.level == "node" else case.labels[[position]].long()
    if what == "model":
        explanation.target = explainer.get_target(explanation.prediction)
    if case.level == "node":
        explanation.index = torch.tensor([found[position].index])
    return explainer, explanation


# Several k at once ###################################################################################################

ALGORITHMS = {
    "edges": gx.EdgeAblation(),
    "edges and features": gx.InputXGradient(),
    "nodes": gx.NodeAblation(),
    "common features": gx.FeatureAblation(),
}
SIZES = (0.25, 0.5, 1.0)


@pairwise(what=list(ALGORITHMS), undirected=[True, False], level=LEVELS)
def test_curve(what: str, undirected: bool, level: str) -> None:
    case = build("multiclass", level, undirected=undirected)
    found = case.explain(ALGORITHMS[what])
    curve = gx.metrics.fidelity_curve(case.model, case.data, found, top=SIZES)
    for k, size in enumerate(SIZES):
        plus, minus = naive(case, found, "probability", top=size)
        check(curve.plus[:, k], plus)
        check(curve.minus[:, k], minus)
    for position, reference in enumerate(case.references(found)):
        count = 0 if found.edge_mask is None else len(set(reference.unit.values()))
        if found.node_mask is not None:
            count += found[position].node_mask.numel()
        parts = [count] if what != "edges and features" else [len(set(reference.unit.values()))]
        parts += [count - parts[0]] if what == "edges and features" else []
        for k, size in enumerate(SIZES):
            left = 1 - sum(math.ceil(size * part) for part in parts) / count if count else math.nan
            assert float(curve.sparsity[position, k]) == pytest.approx(left, nan_ok=True)


@every_value(model_name=["gcn", "gat", "sage"], level=LEVELS)
def test_necessity_and_sufficiency_are_means_over_k(model_name: str, level: str) -> None:
    case = build("multiclass", level, model_name)
    found = case.explain(gx.EdgeAblation())
    for removal in ("message", "structural"):
        for sizes in ((1, 2, 5, 9), (0.25, 0.5, 0.75, 1.0)):
            pairs = [naive(case, found, "probability", top=size, removal=removal) for size in sizes]
            options = {"top": sizes, "removal": removal}
            necessity = gx.metrics.necessity(case.model, case.data, found, **options)
            sufficiency = gx.metrics.sufficiency(case.model, case.data, found, **options)
            check(necessity.values, torch.tensor([plus for plus, _ in pairs], dtype=torch.float64).mean(0).tolist())
            check(sufficiency.values, torch.tensor([minus for _, minus in pairs], dtype=torch.float64).mean(0).tolist())
            assert (necessity.better, sufficiency.better) == ("higher", "lower")


def test_necessity_at_one_k_is_fidelity() -> None:
    case = build("binary", "graph")
    found = case.explain(gx.Saliency())
    options = {"top": 3, "kind": "phenomenon_label", "labels": case.labels}
    both = gx.metrics.fidelity(case.model, case.data, found, **options)
    necessity = gx.metrics.necessity(case.model, case.data, found, **options)
    sufficiency = gx.metrics.sufficiency(case.model, case.data, found, **options)
    torch.testing.assert_close(necessity.values, both.plus.values, equal_nan=True)
    torch.testing.assert_close(sufficiency.values, both.minus.values, equal_nan=True)
    assert (necessity.name, sufficiency.name) == ("necessity (phenomenon label)", "sufficiency (phenomenon label)")


class Saturating(GCNConv):
    """Messages that no fused layer makes, so that computation graphs need a further hop for its degrees."""

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.reshape(-1, 1) * x_j.tanh()


@every_value(undirected=[True, False], removal=["message", "structural"])
def test_edges_that_only_normalise_stay(undirected: bool, removal: str) -> None:
    case = build("multiclass", "node", undirected=undirected)
    layers = [Saturating(models.FEATURES, models.HIDDEN), Saturating(models.HIDDEN, models.HIDDEN)]
    case.model = models.seeded(lambda: models.Net("node", layers))
    found = case.explain(gx.EdgeAblation())
    curve = gx.metrics.fidelity_curve(case.model, case.data, found, top=(1, 3), removal=removal)
    for k, size in enumerate((1, 3)):
        plus, minus = naive(case, found, "probability", top=size, removal=removal)
        check(curve.plus[:, k], plus)
        check(curve.minus[:, k], minus)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1.5)), min_size=2, max_size=6), st.floats(0, 1), st.floats(0, 1)
)
def test_area_under_a_curve(points: list[tuple[float, float]], more: float, less: float) -> None:
    plus, minus = torch.tensor(points, dtype=torch.float64).unbind(1)
    top = torch.arange(1, len(points) + 1).double() / 10
    curve = FidelityCurve(
        top,
        1 - top[None],
        torch.stack([plus, plus, plus + more]),
        torch.stack([minus, minus * torch.nan, minus - less]),
    )
    scores = [
        2 / (1 / p + 1 / (1 - m)) if p > 0 and m < 1 else 0.0
        for p, m in zip(plus.tolist(), minus.tolist(), strict=True)
    ]
    expected = sum((one + other) / 20 for one, other in zip(scores, scores[1:], strict=False))
    area = curve.auc
    check(area.values[:2], [expected, math.nan])
    assert area.values[2] >= area.values[0] - 1e-12  # better in both, so no smaller
    check(curve.plus_auc.values[:1], [float(torch.trapezoid(plus, top))])
    check(curve.minus_auc.values[:1], [float(torch.trapezoid(minus, top))])


def test_area_is_that_of_the_curve() -> None:
    case = build("multiclass", "node")
    found = case.explain(gx.Saliency())
    curve = gx.metrics.fidelity_curve(case.model, case.data, found, top=(1, 3, 999))
    assert curve.top.tolist() == [1, 3, 999]
    assert curve.sparsity[:, 2].unique().tolist() == [0]  # there are not as many
    area = gx.metrics.fidelity_curve_auc(case.model, case.data, found, top=(1, 3, 999))
    for position in range(len(found)):
        plus, minus = curve.plus[position].clamp(min=0), curve.minus[position].clamp(max=1)
        expected = torch.trapezoid(metric.characterization_score(plus, minus), curve.top.to(plus.dtype))
        check(area.values[position], pytest.approx(float(expected)))


# Characterization ####################################################################################################


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0.05, 0.95))
def test_characterization_is_that_of_pyg(points: list[tuple[float, float]], weight: float) -> None:
    plus, minus = torch.tensor(points, dtype=torch.float64).unbind(1)
    weights = (weight, 1 - weight)
    if sum(weights) == 1:  # PyG asks for exactly that
        expected = metric.characterization_score(plus, minus, *weights)
        torch.testing.assert_close(gx.metrics.characterization_score(plus, minus, weights), expected)
    scaled = gx.metrics.characterization_score(plus, minus, (2 * weights[0], 2 * weights[1]))
    torch.testing.assert_close(scaled, gx.metrics.characterization_score(plus, minus, weights))


def test_characterization_where_it_is_not_defined() -> None:
    nan = torch.nan
    plus = torch.tensor([0.0, 0.5, -0.1, 0.5, nan, 0.5, 0.0])
    minus = torch.tensor([0.2, 1.0, 0.2, 1.1, 0.2, nan, 1.0])
    found = gx.metrics.characterization_score(plus, minus)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, nan, nan, nan, nan, 0.0]), equal_nan=True)


@pytest.mark.parametrize("level", LEVELS)
def test_characterization_of_instances(level: str) -> None:
    case = build("multiclass", level)
    found = case.explain(gx.EdgeAblation())
    result = gx.metrics.characterization(case.model, case.data, found, top=3, weights=(0.25, 0.75))
    expected = []
    for plus, minus in zip(*naive(case, found, "probability", top=3), strict=True):
        defined = plus >= 0 and minus <= 1
        expected.append(
            1 / (0.25 / plus + 0.75 / (1 - minus)) if defined and plus > 0 else 0.0 if defined else math.nan
        )
    check(result.values, expected)


# Unfaithfulness ######################################################################################################


@every_value(task=list(TASKS), level=LEVELS)
def test_unfaithfulness_of_every_task(task: str, level: str) -> None:
    case = build(task, level)
    found = case.explain(gx.InputXGradient())
    for reverse in (False, True):
        for options in ({}, {"top": 2}):
            result = gx.metrics.unfaithfulness(case.model, case.data, found, reverse=reverse, scale=0.5, **options)
            expected = []
            for before, kept, _ in under(case, found, **options):
                expected.append(unfaithful(task, before, kept, reverse, 0.5))
            check(result.values, expected)
    assert 0 < result.mean < 1


@every_value(top_features=[None, 1, 2, 3], task=["multiclass", "log-probabilities", "probabilities"], level=LEVELS)
def test_unfaithfulness_in_reverse_is_that_of_pyg(top_features: int | None, task: str, level: str) -> None:
    case = build(task, level, loops=0)
    found = case.explain(gx.GNNExplainer(epochs=5, lr=0.5, init_std=1.0, node_mask_type="attributes"))
    ours = gx.metrics.unfaithfulness(case.model, case.data, found, reverse=True, top_features=top_features)
    expected = [metric.unfaithfulness(*as_pyg(case, found, i), top_k=top_features) for i in range(len(found))]
    check(ours.values, expected)
    published = gx.metrics.unfaithfulness(case.model, case.data, found, top_features=top_features)
    assert not torch.allclose(ours.values, published.values, atol=1e-6)


def test_features_in_common_are_kept_whole() -> None:
    case = build("multiclass", "node")
    found = case.explain(gx.FeatureAblation())
    features = gx.metrics.unfaithfulness(case.model, case.data, found, top_features=2)
    torch.testing.assert_close(features.values, gx.metrics.unfaithfulness(case.model, case.data, found, top=2).values)


def test_divergence_of_a_certain_prediction_is_finite() -> None:
    case = build("probabilities", "node")
    problem = gx.extend.Problem(case.model, as_graphs(case.data, torch.device("cpu")), case.config, lambda m, d: None)
    sure = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]), torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]])
    assert divergence(problem, *sure).tolist() == pytest.approx([0, math.log(2)])


# Robust fidelity #####################################################################################################


def naive_robust(
    case: Case,
    found: gx.Explanations,
    alphas: tuple[float, float],
    samples: int,
    chosen_of: Any,
    removal: str = "message",
    kind: str = "probability",
) -> tuple[list[float], list[float]]:
    """RFid+ and RFid− by one forward pass for each draw."""
    results: tuple[list[float], list[float]] = ([], [])
    for reference, e in zip(case.references(found), found, strict=True):
        _, edge = laid(reference, e, False)
        chosen = chosen_of(reference, edge)

        def uniform(unit: int, draw: int, key: int | None = reference.key) -> float:
            return float(keyed_uniform(5, torch.tensor(key), torch.tensor(unit), torch.tensor(draw)))

        for side, values in enumerate(results):
            losses = []
            for draw in range(side * samples, (side + 1) * samples):
                removed = set()
                for unit in set(reference.unit.values()):
                    number = uniform(unit, draw)
                    goes = (
                        unit in chosen and number < alphas[0]
                        if side == 0
                        else unit not in chosen and number >= alphas[1]
                    )
                    removed |= {unit, reference.partner.get(unit, unit)} if goes else set()
                with torch.no_grad():
                    if removal == "structural":
                        after = reference.without_edges(sorted(removed))
                    else:
                        mask = reference.ones()
                        mask[sorted(removed)] = 0
                        after = reference.output(mask=mask)
                losses.append(case.lost(kind, reference.logits, after, e))
            values.append(sum(losses) / samples)
    return results


def strongest(reference: Reference, edge: Tensor, count: int = 3) -> set[int]:
    units = sorted(set(reference.unit.values()))
    return set(sorted(units, key=lambda unit: (-abs(float(edge[unit])), unit))[:count])


@pairwise(removal=["message", "structural"], undirected=[True, False], level=LEVELS)
def test_robust_fidelity(removal: str, undirected: bool, level: str) -> None:
    case = build("multiclass", level, undirected=undirected)
    found = case.explain(gx.EdgeAblation())
    for kind in ("probability", "phenomenon_label"):
        result = gx.metrics.robust_fidelity(
            case.model,
            case.data,
            found,
            alpha1=0.4,
            alpha2=0.7,
            samples=6,
            top=3,
            removal=removal,
            kind=kind,
            labels=case.labels,
        )
        plus, minus = naive_robust(case, found, (0.4, 0.7), 6, strongest, removal, kind)
        check(result.plus.values, plus)
        check(result.minus.values, minus)
        check(result.delta.values, [p - m for p, m in zip(plus, minus, strict=True)])
    assert [r.better for r in (result.plus, result.minus, result.delta)] == ["higher", "lower", "higher"]


def test_robust_fidelity_of_soft_masks_takes_those_above_a_half() -> None:
    case = build("regression", "graph", undirected=False)
    found = case.explain(gx.Random())

    def above(reference: Reference, edge: Tensor) -> set[int]:
        return {unit for unit in reference.unit.values() if float(edge[unit]) > 0.5}

    result = gx.metrics.robust_fidelity(case.model, case.data, found, alpha1=0.5, alpha2=0.5, samples=4)
    plus, minus = naive_robust(case, found, (0.5, 0.5), 4, above)
    check(result.plus.values, plus)
    check(result.minus.values, minus)


@pytest.mark.parametrize("level", LEVELS)
def test_robust_fidelity_at_the_ends(level: str) -> None:
    case = build("multi-label", level)
    found = case.explain(gx.EdgeAblation())
    measure = partial(gx.metrics.robust_fidelity, case.model, case.data, found, samples=2, top=3)
    whole, plain = measure(alpha1=1.0, alpha2=0.0), gx.metrics.fidelity(case.model, case.data, found, top=3)
    torch.testing.assert_close(whole.plus.values, plain.plus.values)
    torch.testing.assert_close(whole.minus.values, plain.minus.values)
    nothing = measure(alpha1=0.0, alpha2=1.0)
    torch.testing.assert_close(nothing.plus.values, torch.zeros_like(plain.plus.values))
    torch.testing.assert_close(nothing.minus.values, torch.zeros_like(plain.plus.values))


def test_robust_fidelity_tends_to_the_expectation() -> None:
    """Over all subsets of two chosen edges, weighted by how probable each is."""
    case = build("multiclass", "node")
    found = case.explain(gx.EdgeAblation(), [0])
    (reference,) = case.references(found)
    _, edge = laid(reference, found[0], False)
    one, other = strongest(reference, edge, 2)
    expected, alpha = 0.0, 0.3
    for removed, chance in (
        (set(), (1 - alpha) ** 2),
        ({one}, alpha * (1 - alpha)),
        ({other}, alpha * (1 - alpha)),
        ({one, other}, alpha**2),
    ):
        mask = reference.ones()
        mask[sorted(removed | {reference.partner.get(unit, unit) for unit in removed})] = 0
        with torch.no_grad():
            expected += chance * case.lost("probability", reference.logits, reference.output(mask=mask), found[0])
    result = gx.metrics.robust_fidelity(case.model, case.data, found, alpha1=alpha, samples=3000, top=2)
    spread = abs(gx.metrics.fidelity(case.model, case.data, found, top=2).plus.mean)
    assert result.plus.mean == pytest.approx(expected, abs=3 * spread / math.sqrt(3000))


# Sparsity ############################################################################################################


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("what", ["edge", "node", "feature"])
def test_sparsity_and_entropy(what: str, level: str) -> None:
    case = build("multiclass", level, undirected=True)
    algorithm = {"edge": gx.EdgeAblation(), "node": gx.NodeAblation(), "feature": gx.FeatureAblation()}[what]
    found = case.explain(algorithm)
    soft, hard, spread = [], [], []
    for reference, e in zip(case.references(found), found, strict=True):
        node, edge = laid(reference, e, what == "feature")
        if what == "edge":
            scores = [abs(float(edge[unit])) for unit in sorted(set(reference.unit.values()))]
        elif what == "node":
            scores = [abs(float(node[v])) for v in reference.nodes]
        else:
            scores = node.abs().tolist()
        largest = max(scores, default=0.0)
        scaled = [s / largest if largest else 0.0 for s in scores]
        soft.append(1 - sum(scaled) / len(scaled) if scores else math.nan)
        hard.append(1 - sum(s > 0.2 for s in scaled) / len(scaled) if scores else math.nan)
        spread.append(float(entropy(scores)) if largest else math.nan)
    check(gx.metrics.sparsity(found, level=what).values, soft)
    check(gx.metrics.sparsity(found, level=what, threshold=0.2).values, hard)
    check(gx.metrics.mask_entropy(found, level=what).values, spread)


# In any company, on any model ########################################################################################


def measures(case: Case) -> dict[str, Any]:
    """Every metric of the family, with the options that most of it goes through."""
    g, labels = gx.metrics, {"kind": "phenomenon_probability", "labels": case.labels}
    return {
        "fidelity": lambda *a, **o: g.fidelity(*a, **labels, **o).plus,
        "necessity": partial(g.necessity, top=(1, 3, 8, 9)),
        "sufficiency": partial(g.sufficiency, top=(1, 3, 8, 9)),
        "characterization": partial(g.characterization, top=3),
        "fidelity_curve_auc": partial(g.fidelity_curve_auc, level="edge", removal="structural"),
        "unfaithfulness": g.unfaithfulness,
        "robust_fidelity": lambda *a, **o: g.robust_fidelity(*a, alpha1=0.5, samples=5, **o).delta,
    }


@every_value(name=list(measures(build("multiclass", "node"))), level=LEVELS)
def test_an_instance_gets_what_it_gets_alone(name: str, level: str) -> None:
    case = build("multiclass", level)
    found, measure = case.explain(gx.Saliency()), measures(case)[name]
    whole = measure(case.model, case.data, found).values
    assert len(whole) == len(found)
    order = [3, 0, 4]
    some = measure(case.model, case.data, found[order], batch_budget=1).values
    torch.testing.assert_close(some, whole[order], equal_nan=True)
    for position in (0, 3):
        alone = measure(case.model, case.data, found[[position]]).values
        torch.testing.assert_close(alone, whole[[position]], equal_nan=True)


def test_the_model_comes_back_when_a_metric_raises() -> None:
    case = build("multiclass", "node")
    found = case.explain(gx.Saliency())
    case.model.train()
    state = {name: value.clone() for name, value in case.model.state_dict().items()}
    for measure in measures(case).values():
        with pytest.raises(InputError, match="not the one that was explained"):
            measure(case.model, Data(x=case.data.x * 2, edge_index=case.data.edge_index), found)
    assert all(module.training for module in case.model.modules())
    for name, value in case.model.state_dict().items():
        assert torch.equal(value, state[name])
    assert not any(module._forward_hooks for module in case.model.modules())


class WithoutPropagate(nn.Module):
    """Sums over neighbours that no hook sees."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(models.FEATURES, models.CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.head(x.index_add(0, edge_index[1], x[edge_index[0]]))


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
def test_what_masks_cannot_reach_is_not_defined() -> None:
    model, data = models.seeded(WithoutPropagate), models.random_graph(3)
    found = gx.explain(model, data, gx.EdgeAblation(removal="structural"), index=[0, 1], progress=False)
    results = [
        gx.metrics.necessity(model, data, found),
        gx.metrics.fidelity(model, data, found).plus,
        gx.metrics.unfaithfulness(model, data, found),
        gx.metrics.robust_fidelity(model, data, found, samples=2).delta,
    ]
    rebuilt = gx.metrics.necessity(model, data, found, removal="structural")
    for result in results:
        assert (result.count, result.undefined, math.isnan(result.mean)) == (0, 2, True)
    assert rebuilt.count == 2


def test_registry() -> None:
    case = build("multiclass", "node")
    found = case.explain(gx.Saliency(), [0, 2, 3])
    given = {"model": case.model, "data": case.data, "explanations": found, "labels": case.labels}
    names = [
        *(f"fidelity{'' if kind == 'probability' else '_' + kind}" for kind in get_args(FidelityKind)),
        *("necessity", "sufficiency", "characterization", "fidelity_curve_auc", "unfaithfulness", "robust_fidelity"),
        *("sparsity", "mask_entropy"),
    ]
    for name in names:
        measure = gx.metrics.REGISTRY[name]
        own = inspect.signature(measure).parameters
        result = measure(**{key: value for key, value in given.items() if key in own})
        for each in (result,) if isinstance(result, gx.metrics.Result) else vars(result).values():
            assert isinstance(each, gx.metrics.Result)
            assert each.count + each.undefined == 3


# Bad input ###########################################################################################################


@pytest.fixture(scope="module")
def ablated_edges() -> tuple[Case, gx.Explanations]:
    case = build("multiclass", "node")
    return case, case.explain(gx.EdgeAblation())


@pytest.mark.parametrize(
    ("measure", "options", "sentence"),
    [
        (
            "fidelity",
            {"kind": "phenomenon_label"},
            "compares with the true labels, got labels=None; pass labels=data.y",
        ),
        ("fidelity", {"kind": "label", "absolute": True}, "absolute=True is published for the phenomenon kinds alone"),
        ("fidelity", {"kind": "phenomenon_label", "labels": [0, 1]}, r"labels of shape \[12\], .* got \[2\]"),
        ("fidelity", {"kind": "phenomenon_label", "labels": torch.zeros(12, 3)}, r"got \[12, 3\]"),
        ("fidelity", {"kind": "phenomenon_label", "labels": [7] * 12}, "whole numbers from 0 to 2.* got 7"),
        ("fidelity", {"kind": "phenomenon_label", "labels": [0.5] * 12}, "got 0.5"),
        ("fidelity", {"kind": "phenomenon_label", "labels": "data.y"}, r"labels as numbers of shape \[12\], got str"),
        ("fidelity", {"level": "feature"}, "scored no features"),
        ("fidelity", {"level": "layer"}, "expected level='edge', 'node', 'feature' or 'both', got 'layer'"),
        ("necessity", {"top": 0}, "expected top as a positive int"),
        ("necessity", {"top": ()}, "one or several, got"),
        ("sufficiency", {"top": (0.5, 1.5)}, "expected top as a positive int or a fraction"),
        ("sufficiency", {"top": None}, "one or several, got None"),
        ("sufficiency", {"removal": "structural", "level": "both"}, None),
        ("sufficiency", {"removal": "no"}, "expected removal='message' or 'structural', got 'no'"),
        ("characterization", {"weights": (1, 0)}, "two positive numbers"),
        ("fidelity_curve", {"top": (0.5,)}, "two or more sizes in ascending order"),
        ("fidelity_curve", {"top": (0.5, 0.2)}, "two or more sizes in ascending order"),
        ("fidelity_curve", {"top": (0.5, 2)}, "all of them ints or all of them fractions"),
        ("unfaithfulness", {"scale": 0}, "scale as a positive number"),
        ("unfaithfulness", {"top_features": 2}, "scored none"),
        ("robust_fidelity", {"alpha1": 1.5}, r"alpha1 as a number in \[0, 1\], got 1.5"),
        ("robust_fidelity", {"alpha2": "a"}, r"alpha2 as a number in \[0, 1\]"),
        ("robust_fidelity", {"samples": 0}, "samples as a positive integer, got 0"),
        ("robust_fidelity", {"kind": "odds"}, "expected kind='probability'"),
    ],
)
def test_refusals(
    ablated_edges: tuple[Case, gx.Explanations], measure: str, options: dict[str, Any], sentence: str | None
) -> None:
    case, found = ablated_edges
    if sentence is None:
        getattr(gx.metrics, measure)(case.model, case.data, found, **options)
        return
    with pytest.raises(InputError, match=sentence):
        getattr(gx.metrics, measure)(case.model, case.data, found, **options)


@pytest.mark.parametrize("task", ["binary", "multi-label", "regression"])
def test_labels_follow_the_task(task: str) -> None:
    case = build(task, "graph")
    found = case.explain(gx.EdgeAblation())
    measure = partial(gx.metrics.fidelity, case.model, case.data, found, kind="phenomenon_probability")
    shape = r"\[5\]" if task == "binary" else r"\[5, 3\]"
    with pytest.raises(InputError, match=f"expected labels of shape {shape}"):
        measure(labels=torch.zeros(5, 2))
    if task == "binary":
        torch.testing.assert_close(
            measure(labels=case.labels.unsqueeze(1)).plus.values,
            measure(labels=case.labels).plus.values,
            equal_nan=True,
        )
    if task != "regression":
        with pytest.raises(InputError, match="whole numbers from 0 to 1, .* got 2"):
            measure(labels=torch.full_like(case.labels, 2))


def test_labels_of_a_regression_are_refused_by_name() -> None:
    case = build("regression", "node")
    found = case.explain(gx.EdgeAblation())
    for kind, instead in (("label", "probability"), ("phenomenon_label", "phenomenon_probability")):
        for measure in (gx.metrics.fidelity, gx.metrics.necessity, gx.metrics.robust_fidelity):
            with pytest.raises(InputError, match=f"not defined for a regression; use kind='{instead}'"):
                measure(case.model, case.data, found, kind=kind, labels=case.labels)


def test_features_to_keep_are_checked() -> None:
    case = build("multiclass", "node")
    found = case.explain(gx.FeatureAblation())
    for options, sentence in (
        ({"top_features": 6}, "from 1 to the 5 features, got 6"),
        ({"top_features": True}, "from 1 to the 5 features, got True"),
        ({"top_features": 2, "top": 3}, "got both"),
    ):
        with pytest.raises(InputError, match=sentence):
            gx.metrics.unfaithfulness(case.model, case.data, found, **options)
    with pytest.raises(InputError, match="scored no edges"):
        gx.metrics.robust_fidelity(case.model, case.data, found)
    nodes = case.explain(gx.NodeAblation())
    with pytest.raises(InputError, match="needs a mask of features, and node_ablation scored none"):
        gx.metrics.unfaithfulness(case.model, case.data, nodes, top_features=2)
    with pytest.raises(InputError, match="scored no features"):
        gx.metrics.fidelity(case.model, case.data, nodes, level="feature")
