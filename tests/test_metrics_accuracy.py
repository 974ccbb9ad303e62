"""Agreement with a ground truth against scikit-learn, torchmetrics and sets; ranks and overlaps against scipy."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.metrics import elements
from gnn_xai.metrics.accuracy import segment_average_precision, segment_roc_auc
from tests import models

sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (it comes with the extra 'dev')")
scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (it comes with the extra 'research')")


SEGMENTS = 4
rows_of = st.lists(
    st.tuples(st.integers(0, SEGMENTS - 1), st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=50
)
Rows = list[tuple[int, int, int, bool]]


def columns(rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Owner, two scores with many ties, and truth."""
    owner, one, other, truth = zip(*rows, strict=True) if rows else ((), (), (), ())
    as_int = torch.int64
    return torch.tensor(owner, dtype=as_int), torch.tensor(one) / 5, torch.tensor(other) / 7, torch.tensor(truth).bool()


def by_segment(owner: Tensor, *values: Tensor) -> list[tuple[list, ...]]:
    return [tuple(value[owner == segment].tolist() for value in values) for segment in range(SEGMENTS)]


# Ranks, sets #########################################################################################################


@given(rows_of)
def test_spearman_is_scipys(rows: Rows) -> None:
    owner, one, other, _ = columns(rows)
    found = elements.spearman(one, other, owner, SEGMENTS).tolist()
    for value, (a, b) in zip(found, by_segment(owner, one, other), strict=True):
        if len(set(a)) > 1 and len(set(b)) > 1:
            assert value == pytest.approx(scipy_stats.spearmanr(a, b).statistic, abs=1e-12)
        else:
            assert math.isnan(value)


@given(rows_of)
def test_spearman_of_equal_and_of_opposite_rankings_is_exact(rows: Rows) -> None:
    owner, one, _, _ = columns(rows)
    for other, expected in ((one.exp(), 1.0), (-one, -1.0)):
        found = elements.spearman(one, other, owner, SEGMENTS)
        assert set(found[~found.isnan()].tolist()) <= {expected}


@given(rows_of, st.integers(0, 6))
def test_the_strongest(rows: Rows, count: int) -> None:
    """Everything above the last place is in, everything below is out, and what ties for it shares what is left."""
    owner, scores, _, heavy = columns(rows)
    weight = torch.where(heavy, 0.5, 1.0)
    found = elements.strongest(scores, owner, torch.full((SEGMENTS,), count), weight)
    for share, score, each in by_segment(owner, found, scores, weight):
        assert sum(s * w for s, w in zip(share, each, strict=True)) == pytest.approx(min(count, sum(each)))
        left = float(count)
        for level in sorted(set(score), reverse=True):
            tied = [i for i, s in enumerate(score) if s == level]
            size = sum(each[i] for i in tied)
            assert [share[i] for i in tied] == pytest.approx([min(left / size, 1.0)] * len(tied))
            left = max(left - size, 0.0)


@given(rows_of)
def test_overlap_of_sets(rows: Rows) -> None:
    owner, one, other, heavy = columns(rows)
    one, other, weight = (one > 0.5).double(), (other > 0.4).double(), torch.where(heavy, 0.5, 1.0)
    found = elements.overlap(one, other, owner, SEGMENTS, weight).tolist()
    for value, (a, b, each) in zip(found, by_segment(owner, one, other, weight), strict=True):
        both = sum(w for x, y, w in zip(a, b, each, strict=True) if x and y)
        either = sum(w for x, y, w in zip(a, b, each, strict=True) if x or y)
        assert value == pytest.approx(both / either if either else math.nan, nan_ok=True)


@given(rows_of)
def test_laws_of_overlap(rows: Rows) -> None:
    """Also of shares between 0 and 1: symmetric, between 0 and 1, and 1 with itself."""
    owner, one, other, _ = columns(rows)
    found = elements.overlap(one, other, owner, SEGMENTS)
    torch.testing.assert_close(found, elements.overlap(other, one, owner, SEGMENTS), equal_nan=True)
    assert bool(((found >= 0) & (found <= 1) | found.isnan()).all())
    itself = elements.overlap(one, one, owner, SEGMENTS)
    assert set(itself[~itself.isnan()].tolist()) <= {1.0}


@given(rows_of)
def test_cosine(rows: Rows) -> None:
    owner, one, other, _ = columns(rows)
    one, other = one.double() - 0.5, other.double() - 0.3
    found = elements.cosine(one, other, owner, SEGMENTS).tolist()
    for value, (a, b) in zip(found, by_segment(owner, one, other), strict=True):
        length = float(np.linalg.norm(a) * np.linalg.norm(b))
        assert value == pytest.approx(float(np.dot(a, b)) / length if length else math.nan, abs=1e-12, nan_ok=True)


# Areas ###############################################################################################################


@given(rows_of)
def test_segment_average_precision(rows: Rows) -> None:
    owner, scores, _, truth = columns(rows)
    found = segment_average_precision(scores, truth, owner, SEGMENTS).tolist()
    for value, (true, score) in zip(found, by_segment(owner, truth, scores), strict=True):
        defined = 0 < sum(true) < len(true)
        expected = sklearn.average_precision_score(true, score) if defined else math.nan
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


@cache  # tests read them and change nothing
def explained(level: str, algorithm: object = "saliency", undirected: bool = True):
    """Explanations with ties among their scores, and what is true."""
    model, data, truth = models.with_truth(level, undirected=undirected)
    found = gx.explain(model, data, algorithm, task=level, progress=False)
    if found.edge_mask is not None:
        found = replace(found, edge_mask=(found.edge_mask / found.edge_mask.abs().max() * 8).round() / 8)
    return found, truth


def naive_truth(found: gx.Explanations, truth: gx.GroundTruth, what: str = "edge") -> list[list[bool]]:
    """Which elements of each explanation are true, one by one."""
    result = []
    for e in found:
        motif = getattr(truth, what) if isinstance(truth.edge, Tensor) else getattr(truth, what)[e.index]
        own = int(truth.node[e.index]) if isinstance(truth.edge, Tensor) else None
        ids = getattr(e, f"{what}_id").tolist()
        result.append([int(motif[i]) >= 0 and own in (None, int(motif[i])) for i in ids])
    return result


def naive_scores(found: gx.Explanations, what: str = "edge") -> list[list[float]]:
    each = [e.edge_mask if what == "edge" else e.node_mask.sum(1) for e in found]
    return [(scores.abs() if found.signed else scores).double().tolist() for scores in each]


# ROC-AUC #############################################################################################################


def area(truth: list[bool], scores: list[float]) -> float:
    """ROC-AUC of one segment by scikit-learn, NaN where it is not defined."""
    return float(sklearn.roc_auc_score(truth, scores)) if 0 < sum(truth) < len(truth) else math.nan


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.booleans()), max_size=60))
def test_segment_roc_auc(rows: list[tuple[int, int, bool]]) -> None:
    owner, scores, truth = zip(*rows, strict=True) if rows else ((), (), ())
    found = segment_roc_auc(torch.tensor(scores) / 5, torch.tensor(truth), torch.tensor(owner, dtype=torch.int64), 5)
    expected = []
    for segment in range(5):
        inside = [(t, s) for o, s, t in rows if o == segment]
        expected.append(area([t for t, _ in inside], [s for _, s in inside]))
    assert found.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("algorithm", [gx.EdgeAblation(), gx.Random(), gx.Saliency(node_mask_type=None)])
def test_roc_auc_of_edges(level: str, algorithm: object) -> None:
    model, data, truth = models.with_truth(level)
    found = gx.explain(model, data, algorithm, task=level, progress=False)
    result = gx.metrics.roc_auc(found, truth)
    expected = []
    for e in found:
        motif = truth.edge if level == "node" else truth.edge[e.index]
        own = int(truth.node[e.index]) if level == "node" else 0
        true = [int(motif[i]) == own and own >= 0 for i in e.edge_id]
        expected.append(area(true, e.edge_mask.abs().tolist()))
    assert result.values.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    missing = sum(map(math.isnan, expected))
    assert 0 < missing < len(found)  # instances of one class alone are there, and are counted
    assert (result.count, result.undefined) == (len(found) - missing, missing)
    defined = [value for value in expected if not math.isnan(value)]
    assert result.mean == pytest.approx(sum(defined) / len(defined))


def test_roc_auc_of_nodes(level: str) -> None:
    model, data, truth = models.with_truth(level)
    found = gx.explain(model, data, gx.InputXGradient(edge_mask_type=None), task=level, progress=False)
    result = gx.metrics.roc_auc(found, truth)
    expected = []
    for e in found:
        motif = truth.node if level == "node" else truth.node[e.index]
        own = int(truth.node[e.index]) if level == "node" else 0
        true = [int(motif[i]) == own and own >= 0 for i in e.node_id]
        expected.append(area(true, e.node_mask.sum(1).abs().tolist()))
    assert result.values.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_roc_auc_needs_scores_of_its_level(level: str) -> None:
    model, data, truth = models.with_truth(level)
    edges = gx.explain(model, data, gx.EdgeAblation(), task=level, progress=False)
    features = gx.explain(model, data, gx.FeatureAblation(), task=level, progress=False)
    with pytest.raises(InputError, match="scored no nodes"):
        gx.metrics.roc_auc(edges, truth, "node")
    for which in ("edge", "node"):
        with pytest.raises(InputError, match=f"scored no {which}s"):
            gx.metrics.roc_auc(features, truth, which)


def test_roc_auc_without_a_truth_says_what_to_use() -> None:
    model, data, _ = models.with_truth("node")
    found = gx.explain(model, data, gx.EdgeAblation(), progress=False)
    with pytest.raises(InputError, match="expected a GroundTruth, got NoneType; where the truth is unknown"):
        gx.metrics.roc_auc(found, None)
    with pytest.raises(InputError, match=r"got Tensor; make one with gnn_xai.GroundTruth\(edge="):
        gx.metrics.roc_auc(found, torch.ones(3, dtype=torch.bool))


# Average precision, pooled areas ##########################################################################################


@pytest.mark.parametrize("what", ["edge", "node"])
def test_average_precision(level: str, what: str) -> None:
    found, truth = explained(level, gx.InputXGradient())
    result = gx.metrics.average_precision(found, truth, what)
    expected = [
        sklearn.average_precision_score(t, s) if 0 < sum(t) < len(t) else math.nan
        for t, s in zip(naive_truth(found, truth, what), naive_scores(found, what), strict=True)
    ]
    assert result.values.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    missing = sum(map(math.isnan, expected))
    assert (result.name, result.better, result.undefined) == (f"{what} average precision", "higher", missing)
    assert 0 < missing < len(found)


POOLED = {
    "pooled_roc_auc": ("roc_auc_score", "BinaryAUROC"),
    "pooled_average_precision": ("average_precision_score", "BinaryAveragePrecision"),
}


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize("what", ["edge", "node"])
def test_pooled(level: str, name: str, what: str) -> None:
    """The value is scikit-learn's and torchmetrics' on all elements at once; what an instance adds is the derivative of
    scikit-learn's weighted value with respect to that instance's weight.
    """
    found, truth = explained(level, gx.InputXGradient())
    result = getattr(gx.metrics, name)(found, truth, what)
    true, scores = naive_truth(found, truth, what), naive_scores(found, what)
    flat_true, flat_scores = np.array(sum(true, [])), np.array(sum(scores, []))
    theirs = getattr(sklearn, POOLED[name][0])

    def weighted(weights: list[float]) -> float:
        each = np.repeat(weights, [len(t) for t in true])
        return float(theirs(flat_true, flat_scores, sample_weight=each))

    value, size = weighted([1.0] * len(true)), len(true)
    assert result.mean == pytest.approx(value, abs=1e-12)
    present = [i for i in range(size) if true[i]]
    for i in range(size):
        if i not in present:
            assert math.isnan(result.values[i])
            continue
        step = 1e-4
        up, down = ([1.0 + sign * step * (j == i) for j in range(size)] for sign in (1, -1))
        slope = (weighted(up) - weighted(down)) / (2 * step)
        assert float(result.values[i]) == pytest.approx(value + len(present) * slope, abs=1e-6)
    assert (result.count, result.undefined) == (len(present), size - len(present))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchmetrics.classification as torchmetrics
    metric = getattr(torchmetrics, POOLED[name][1])()
    assert result.mean == pytest.approx(
        float(metric(torch.tensor(flat_scores), torch.tensor(flat_true).long())), abs=1e-6
    )


@pytest.mark.parametrize("name", POOLED)
def test_pooled_standard_error_is_close_to_the_jackknifes(name: str) -> None:
    found, truth = explained("node")
    result = getattr(gx.metrics, name)(found, truth)
    size = result.count
    present = [i for i in range(len(found)) if len(found[i].edge_id)]
    left = [getattr(gx.metrics, name)(found[[j for j in present if j != i]], truth).mean for i in present]
    jackknife = ((size - 1) / size * sum((value - sum(left) / size) ** 2 for value in left)) ** 0.5
    assert result.stderr == pytest.approx(jackknife, rel=0.25)


def test_pooled_metrics_compare_across_instances() -> None:
    """A scale for each instance changes what is pooled and nothing else; one scale for all changes nothing."""
    found, truth = explained("graph")
    scale = torch.arange(1, len(found) + 1)[found.edge_owner]
    scaled, doubled = replace(found, edge_mask=found.edge_mask * scale), replace(found, edge_mask=found.edge_mask * 2)
    for name, same in (("roc_auc", True), ("average_precision", True), ("pooled_roc_auc", False)):
        metric = getattr(gx.metrics, name)
        torch.testing.assert_close(metric(doubled, truth).values, metric(found, truth).values, equal_nan=True)
        one, other = metric(scaled, truth).values, metric(found, truth).values
        assert torch.allclose(one, other, equal_nan=True) == same


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "gea", *POOLED])
@pytest.mark.parametrize("motif", [-1, 0])
def test_one_class_only_is_undefined_and_counted(level: str, name: str, motif: int) -> None:
    """Nothing true, or everything: no area; no true element: no GEA."""
    found, truth = explained(level)

    def all_alike(motifs):
        return (
            torch.full_like(motifs, motif)
            if isinstance(motifs, Tensor)
            else [torch.full_like(m, motif) for m in motifs]
        )

    truth = gx.GroundTruth(edge=all_alike(truth.edge), node=all_alike(truth.node))
    result = getattr(gx.metrics, name)(found, truth)
    if name == "gea" and motif == 0:
        assert set(result.defined.tolist()) == {1.0}  # as many as are true are all
        assert result.undefined == int((found.edge_ptr.diff() == 0).sum())
    else:
        assert (result.count, result.undefined) == (0, len(found))
        assert math.isnan(result.mean)
        assert math.isnan(result.stderr)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "gea", *POOLED])
def test_order_of_instances_and_companions_do_not_matter(name: str) -> None:
    found, truth = explained("graph")
    whole, part = getattr(gx.metrics, name)(found, truth), getattr(gx.metrics, name)(found[[3, 0]], truth)
    turned = getattr(gx.metrics, name)(found[list(range(len(found)))[::-1]], truth)
    torch.testing.assert_close(turned.values.flip(0), whole.values, equal_nan=True)
    if name not in POOLED:
        torch.testing.assert_close(part.values, whole.values[[3, 0]], equal_nan=True)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "gea", *POOLED])
def test_no_tensor_is_made_on_the_default_device(level: str, name: str) -> None:
    found, truth = explained(level)
    with torch.device("meta"):
        result = getattr(gx.metrics, name)(found, truth)
    torch.testing.assert_close(result.values, getattr(gx.metrics, name)(found, truth).values, equal_nan=True)


# GEA #################################################################################################################


def units(e: gx.Explanation, scores: list[float], true: list[bool], tied: bool) -> list[tuple[float, float]]:
    """(score, share that is true) of every undirected edge, or of every edge where directions have scores of their own."""
    found: dict[object, list[tuple[float, bool]]] = {}
    seen: dict[object, int] = {}
    for i, (u, v) in enumerate(e.edge_index.t().tolist()):
        copy_ = seen[u, v, scores[i]] = seen.get((u, v, scores[i]), 0) + 1
        key = (min(u, v), max(u, v), scores[i], copy_) if tied else i
        found.setdefault(key, []).append((scores[i], true[i]))
    return [(pair[0][0], sum(t for _, t in pair) / len(pair)) for pair in found.values()]


def naive_jaccard(each: list[tuple[float, float]], places: float) -> float:
    """TP / (TP + FP + FN) by filling places from the strongest down, ties sharing the last of them."""
    if not any(true for _, true in each):
        return math.nan
    hit = held = 0.0
    for level_ in sorted({score for score, _ in each}, reverse=True):
        tied = [true for score, true in each if score == level_]
        share = min((places - held) / len(tied), 1.0)
        hit += share * sum(tied)
        held += share * len(tied)
        if held >= places:
            break
    return hit / (held + sum(true for _, true in each) - hit)


@pytest.mark.parametrize("undirected", [True, False])
@pytest.mark.parametrize("top", ["truth", 3, 0.4])
def test_gea(level: str, undirected: bool, top: str | int | float) -> None:
    found, truth = explained(level, undirected=undirected)
    result = gx.metrics.gea(found, truth, top=top)
    expected = []
    for e, scores, true in zip(found, naive_scores(found), naive_truth(found, truth), strict=True):
        each = units(e, scores, true, undirected)
        places = (
            sum(t for _, t in each) if top == "truth" else top if isinstance(top, int) else math.ceil(top * len(each))
        )
        expected.append(naive_jaccard(each, places))
    assert result.values.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert 0 < result.undefined < len(found)


def test_gea_by_threshold(level: str) -> None:
    found, truth = explained(level, gx.InputXGradient())
    result = gx.metrics.gea(found, truth, "node", threshold=0.3)
    expected = []
    for scores, true in zip(naive_scores(found, "node"), naive_truth(found, truth, "node"), strict=True):
        mine = {i for i, s in enumerate(scores) if s > 0.3 * max(scores)}
        theirs = {i for i, t in enumerate(true) if t}
        expected.append(len(mine & theirs) / len(mine | theirs) if theirs else math.nan)
    assert result.values.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    masks = replace(found, signed=False, node_mask=found.node_mask.abs().sum(1, keepdim=True).clamp(max=1))
    high = gx.metrics.gea(masks, truth, "node", threshold=0.999)  # of masks, the mask itself
    hard = [[float(s > 0.999) for s in e.node_mask[:, 0]] for e in masks]
    for value, h, t in zip(high.values.tolist(), hard, naive_truth(found, truth, "node"), strict=True):
        expected_ = float(sklearn.jaccard_score(t, h)) if any(t) else math.nan
        assert value == pytest.approx(expected_, nan_ok=True)


def test_gea_of_several_truths_is_the_best(level: str) -> None:
    found, truth = explained(level)

    def turned(motifs, by: int):
        return motifs.roll(by) if isinstance(motifs, Tensor) else [m.roll(by) for m in motifs]

    def without(motifs):
        return torch.full_like(motifs, -1) if isinstance(motifs, Tensor) else [torch.full_like(m, -1) for m in motifs]

    truths = [gx.GroundTruth(edge=turned(truth.edge, by), node=truth.node) for by in range(4)]
    each = torch.stack([gx.metrics.gea(found, one).values for one in truths])
    both = gx.metrics.gea(found, truths).values
    expected = torch.where(each.isnan().all(0), torch.nan, each.nan_to_num(-1).amax(0))
    torch.testing.assert_close(both, expected, equal_nan=True)
    assert not any(torch.allclose(both, one, equal_nan=True) for one in each)
    # A truth in which nothing is true is none that could be met, or missed.
    nothing = gx.GroundTruth(edge=without(truth.edge), node=truth.node)
    for several in ([*truths, nothing], [nothing, *truths]):
        torch.testing.assert_close(gx.metrics.gea(found, several).values, both, equal_nan=True)


def test_gea_of_the_truth_itself_is_one(level: str) -> None:
    found, truth = explained(level)
    exact = replace(found, edge_mask=truth.edges(found).double())
    result = gx.metrics.gea(exact, truth)
    assert set(result.defined.tolist()) == {1.0}
    for metric in (gx.metrics.pooled_roc_auc, gx.metrics.pooled_average_precision):
        assert metric(exact, truth).mean == pytest.approx(1.0, abs=1e-12)


# Bad input ###########################################################################################################


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "gea", *POOLED])
def test_a_truth_of_the_wrong_length(level: str, name: str) -> None:
    found, truth = explained(level)
    metric = getattr(gx.metrics, name)
    if level == "node":
        longer = gx.GroundTruth(edge=torch.cat([truth.edge, truth.edge[:1]]), node=truth.node)
        fewer = gx.GroundTruth(edge=truth.edge, node=truth.node[:-1])
        with pytest.raises(
            InputError, match=r"a motif id for each of the 36 edges, got 37; explanations and ground truth"
        ):
            metric(found, longer)
        with pytest.raises(InputError, match="for each of the 12 nodes, got 11;"):
            metric(found, fewer)
        other_form = gx.GroundTruth(edge=[truth.edge], node=[truth.node])
        with pytest.raises(
            InputError, match="one tensor for all edges and nodes for a node-level task, got one per graph"
        ):
            metric(found, other_form)
        return
    with pytest.raises(InputError, match="for the 4 graphs of the data, got one for 3"):
        metric(found, gx.GroundTruth(edge=truth.edge[:-1], node=truth.node[:-1]))
    with pytest.raises(InputError, match=r"for each of the \d+ edges of graph 1, got 1;"):
        metric(found, gx.GroundTruth(edge=[truth.edge[0], truth.edge[0][:1], *truth.edge[2:]], node=truth.node))
    with pytest.raises(
        InputError, match="one tensor per graph edges and nodes for a graph-level task, got one for all"
    ):
        metric(found, gx.GroundTruth(edge=truth.edge[0], node=truth.node[0]))


def test_a_truth_for_a_batch() -> None:
    model, graphs, truth = models.with_truth("graph")
    found = gx.explain(model, graphs, "saliency", progress=False)
    batched = gx.explain(model, Batch.from_data_list(graphs), "saliency", progress=False)
    one, other = (gx.metrics.roc_auc(e, truth).values for e in (found, batched))
    torch.testing.assert_close(one, other, equal_nan=True)
    with pytest.raises(InputError, match="of graph 0"):
        gx.metrics.roc_auc(batched, gx.GroundTruth(edge=truth.edge[::-1], node=truth.node[::-1]))


def test_a_truth_that_is_too_short_for_loaded_explanations(tmp_path) -> None:
    """Without the data only ids that are not covered tell."""
    found, truth = explained("node")
    loaded = gx.load(found.save(tmp_path / "run.safetensors"))
    torch.testing.assert_close(
        gx.metrics.roc_auc(loaded, truth).values, gx.metrics.roc_auc(found, truth).values, equal_nan=True
    )
    with pytest.raises(InputError, match="expected edge ids from 0 to 2"):
        gx.metrics.roc_auc(loaded, gx.GroundTruth(edge=truth.edge[:3], node=truth.node))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top": 0}, "expected top as a positive int or a fraction in"),
        ({"top": 1.5}, "expected top as a positive int or a fraction in"),
        ({"top": True}, "expected top as a positive int or a fraction in"),
        ({"top": "best"}, "expected top as a positive int or a fraction in"),
        ({"threshold": 1.0}, "expected threshold as a number in"),
        ({"threshold": "high"}, "expected threshold as a number in"),
        ({"level": "feature"}, "expected level='edge', 'node' or 'auto', got 'feature'"),
    ],
)
def test_gea_refuses(options: dict[str, object], sentence: str) -> None:
    found, truth = explained("node")
    with pytest.raises(InputError, match=sentence):
        gx.metrics.gea(found, truth, **options)


def test_gea_needs_a_truth() -> None:
    found, _ = explained("node")
    for nothing in (None, [], [None]):
        with pytest.raises(InputError, match="expected a GroundTruth"):
            gx.metrics.gea(found, nothing)
