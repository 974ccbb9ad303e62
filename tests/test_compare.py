"""Comparisons: every number against scipy and plain numpy, what is handed to metrics, empty cells, formats, figures."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import sys
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import gnn_xai as gx
from gnn_xai.cli.app import main
from gnn_xai.comparison.cells import RESAMPLES, Cell, interval
from gnn_xai.errors import GnnXaiError, GnnXaiWarning, InputError
from gnn_xai.metrics import Result
from tests import models

pd = pytest.importorskip("pandas", reason="pandas is not installed (it comes with the extra 'research')")
stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (it comes with the extra 'research')")
pytest.importorskip("tabulate", reason="tabulate is not installed (it comes with the extra 'research')")


# Intervals ############################################################################################################


def naive_interval(values: np.ndarray, confidence: float, seed: int) -> tuple[float, float]:
    """BCa (Efron 1987, eq. 6.4) step by step, with a jackknife that leaves every value out in turn."""
    random, normal, size = np.random.default_rng(seed), NormalDist(), len(values)
    means = np.array([values[random.integers(size, size=size)].mean() for _ in range(RESAMPLES)])
    center = values.mean()
    bias = normal.inv_cdf(((means < center).mean() + (means <= center).mean()) / 2)
    without = np.array([np.delete(values, i).mean() for i in range(size)])
    away = without.mean() - without
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)

    def end(tail: float) -> float:
        shifted = bias + normal.inv_cdf(tail)
        return float(np.quantile(means, normal.cdf(bias + shifted / (1 - acceleration * shifted))))

    return end((1 - confidence) / 2), end((1 + confidence) / 2)


@pytest.mark.parametrize("confidence", [0.95, 0.5])
@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=40),
        np.random.default_rng(1).exponential(size=17),  # skewed: a plain percentile interval would differ
        np.random.default_rng(2).integers(0, 2, size=30).astype(float),
        np.array([0.0, 0.0, 0.0, 1.0]),
    ],
    ids=["normal", "skewed", "labels", "few"],
)
def test_interval_is_bca(values: np.ndarray, confidence: float) -> None:
    assert interval(values, confidence, seed=3) == pytest.approx(naive_interval(values, confidence, 3), abs=1e-9)


def test_interval_of_many_values() -> None:
    """Long columns are resampled in parts that follow one another."""
    values = np.random.default_rng(0).normal(size=2**12)
    assert interval(values, 0.9, 0) == pytest.approx(naive_interval(values, 0.9, 0), abs=1e-9)
    assert interval(values, 0.9, 1) != interval(values, 0.9, 0)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30),
    st.sampled_from([0.5, 0.8, 0.9]),
    st.sampled_from([0.95, 0.99]),
)
def test_interval_holds_the_mean_and_grows_with_confidence(values: list[float], less: float, more: float) -> None:
    column = np.array(values)
    assume(np.ptp(column) > 1e-9)
    narrow, wide = interval(column, less), interval(column, more)
    tolerance = 1e-9 * (1 + np.abs(column).max())
    assert wide[0] - tolerance <= narrow[0] <= column.mean() + tolerance
    assert column.mean() - tolerance <= narrow[1] <= wide[1] + tolerance
    assert column.min() - tolerance <= wide[0]
    assert wide[1] <= column.max() + tolerance


@given(st.floats(-1e6, 1e6), st.integers(2, 20))
def test_interval_of_equal_values_is_the_value(value: float, count: int) -> None:
    assert interval(np.full(count, value)) == pytest.approx((value, value), rel=1e-12)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_interval_needs_two_values(values: list[float]) -> None:
    assert np.isnan(interval(np.array(values))).all()


# A small comparison ###################################################################################################


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two results of one metric, and something that is none."""

    first: Result
    second: Result
    stages: tuple[int, ...] = (1, 2)


def noise(explanations: gx.Explanations) -> Result:
    """A value for each instance that depends on what was explained; undefined for small graphs, and for some by seed."""
    total = torch.zeros(len(explanations), dtype=torch.float64)
    total.index_add_(0, explanations.edge_owner, explanations.edge_mask.double().abs())
    undefined = (explanations.edge_ptr.diff() < 10) | ((explanations.index + explanations.seed) % 5 == 1)
    return Result("noise", torch.where(undefined, torch.nan, total), "higher")


def pair(explanations: gx.Explanations, model: torch.nn.Module, scale: float = 2.0) -> Pair:
    values = explanations.prediction_masked[:, 0].double()
    return Pair(Result("plain", values, "higher"), Result("scaled", scale * values, "lower"))


@pytest.fixture(scope="module")
def setting() -> tuple[torch.nn.Module, object, gx.GroundTruth]:
    """A model, a graph of 20 nodes, and what is true in it."""
    data = models.random_graph(3, nodes=20, edges=24, undirected=True)
    node = torch.arange(data.num_nodes) % 3 - 1
    u, v = data.edge_index
    return (
        models.make("gcn", "node"),
        data,
        gx.GroundTruth(edge=torch.where(node[u] == node[v], node[u], -1), node=node),
    )


@pytest.fixture(scope="module")
def comparison(setting) -> gx.Comparison:
    model, data, truth = setting
    return gx.compare(
        model,
        data,
        ["saliency", gx.SmoothGrad(samples=3), "edge_ablation"],
        ["roc_auc", noise, pair],
        index=range(12),
        ground_truth=truth,
        seeds=[5, 1, 2],
        confidence=0.9,
        progress=False,
    )


def explained(setting, algorithm, seed: int) -> gx.Explanations:
    model, data, _ = setting
    prepared = gx.prepare(model, data)  # as a comparison does: a call by itself may add up in another order
    return gx.explain(prepared, algorithm, index=range(12), seed=seed, progress=False)


def mean_over_seeds(setting, algorithm, metric, seeds) -> np.ndarray:
    """Each instance's mean over the seeds for which it is defined, one instance at a time."""
    columns = [metric(explained(setting, algorithm, seed)).values.tolist() for seed in seeds]
    means = []
    for instance in zip(*columns, strict=True):
        defined = [value for value in instance if not math.isnan(value)]
        means.append(sum(defined) / len(defined) if defined else math.nan)
    return np.array(means)


def test_random_is_added_and_comes_first(comparison: gx.Comparison) -> None:
    assert list(comparison.algorithms) == ["random", "saliency", "smooth_grad", "edge_ablation"]
    assert comparison.reference == "random"
    assert comparison.metrics == ["edge ROC-AUC", "noise", "plain", "scaled"]
    assert comparison.level == "edge"
    assert not comparison.skipped
    assert all(seconds > 0 for seconds in comparison.seconds.values())


def test_every_number(setting, comparison: gx.Comparison) -> None:
    truth = setting[2]
    metrics = {
        "edge ROC-AUC": lambda found: gx.metrics.roc_auc(found, truth, level="edge"),
        "noise": noise,
        "scaled": lambda found: pair(found, setting[0]).second,
    }
    table = comparison.to_pandas().set_index(["algorithm", "metric"])
    assert len(table) == 4 * 4
    objects = {"random": gx.Random(), "saliency": gx.Saliency(), "smooth_grad": gx.SmoothGrad(samples=3)}
    for label, algorithm in objects.items():
        seeds = [5] if label == "saliency" else [5, 1, 2]
        for name, metric in metrics.items():
            row = table.loc[label, name]
            values = mean_over_seeds(setting, algorithm, metric, seeds)
            defined = values[~np.isnan(values)]
            assert row["mean"] == pytest.approx(defined.mean(), abs=1e-9)
            assert row["stderr"] == pytest.approx(stats.sem(defined), abs=1e-9)
            assert (row["low"], row["high"]) == pytest.approx(naive_interval(defined, 0.9, 5), abs=1e-9)
            assert (row["count"], row["undefined"]) == (len(defined), len(values) - len(defined))
            assert row["seeds"] == len(seeds)
            means = [metric(explained(setting, algorithm, seed)).mean for seed in seeds]
            spread = np.std(means, ddof=1) if len(seeds) > 1 else math.nan
            assert row["seed_std"] == pytest.approx(spread, abs=1e-9, nan_ok=True)
            assert comparison.cells[label, name].mean == row["mean"]
    assert 0 < table.loc[("saliency", "noise"), "undefined"] < 12  # or nothing was left out


def test_differences_are_paired_with_random(setting, comparison: gx.Comparison) -> None:
    random = mean_over_seeds(setting, gx.Random(), noise, [5, 1, 2])
    other = mean_over_seeds(setting, gx.EdgeAblation(), noise, [5])
    both = [one - two for one, two in zip(other, random, strict=True) if not math.isnan(one + two)]
    row = comparison.cells["edge_ablation", "noise"]
    assert row.difference == pytest.approx(np.mean(both), abs=1e-9)
    assert (row.difference_low, row.difference_high) == pytest.approx(naive_interval(np.array(both), 0.9, 5), abs=1e-9)
    assert row.difference_count == len(both) < 12
    itself = comparison.cells["random", "noise"]
    assert math.isnan(itself.difference)
    assert not itself.better_than_random


def test_pairs_where_only_one_is_defined_do_not_count(setting) -> None:
    model, data, _ = setting

    def partly(explanations: gx.Explanations) -> Result:
        values = explanations.index.double() ** 2 + len(explanations.algorithm["name"])
        undefined = 0 if explanations.algorithm["name"] == "random" else 1
        values[undefined::3] = torch.nan
        return Result("partly", values, "higher")

    found = gx.compare(model, data, ["saliency"], [partly], index=range(9), progress=False)
    cell = found.cells["saliency", "partly"]
    assert (cell.count, cell.undefined, cell.difference_count) == (6, 3, 3)
    assert (cell.difference, cell.difference_low, cell.difference_high) == (2.0, 2.0, 2.0)  # 8 letters against 6


def test_values_of_every_instance(setting, comparison: gx.Comparison) -> None:
    values = comparison.values
    assert list(values.columns) == ["algorithm", "metric", "seed", "index", "target", "value"]
    assert len(values) == 4 * 12 * (3 + 3 + 1 + 1)
    one = values.query("algorithm == 'smooth_grad' and metric == 'noise' and seed == 2")
    found = explained(setting, gx.SmoothGrad(samples=3), 2)
    assert one["value"].tolist() == pytest.approx(noise(found).values.tolist(), nan_ok=True)
    assert one["index"].tolist() == list(range(12))
    assert one["target"].tolist() == found.target.tolist()
    assert set(values.query("algorithm == 'edge_ablation'")["seed"]) == {5}


def test_explanations_are_kept(setting, comparison: gx.Comparison) -> None:
    for label, algorithm in comparison.algorithms.items():
        kept, again = comparison.explanations[label], explained(setting, algorithm, 5)
        assert torch.equal(kept.edge_mask, again.edge_mask)
        assert kept.seed == 5


def test_everything_is_explained_once(setting, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = setting
    calls = []

    def counted(*arguments, **options):
        calls.append((options["algorithm"].name, len(options["index"]), options["seed"]))
        return gx.explain(*arguments, **options)

    monkeypatch.setattr(sys.modules["gnn_xai.comparison.compare"], "explain", counted)
    gx.compare(model, data, ["saliency", "random"], [noise], index=list(range(6)), seeds=[0, 1], progress=False)
    assert [call for call in calls if call[1] == 6] == [("random", 6, 0), ("random", 6, 1), ("saliency", 6, 0)]
    assert [call for call in calls if call[1] < 6] == [("saliency", 2, 0), ("random", 2, 0)]


def test_all_get_the_targets_that_were_asked_for(setting) -> None:
    model, data, _ = setting
    found = gx.compare(model, data, ["saliency"], [noise], index=[3, 1], target=[2, 0], progress=False)
    for explanations in found.explanations.values():
        assert explanations.index.tolist() == [3, 1]
        assert explanations.target.tolist() == [2, 0]


def test_graphs_are_compared_too() -> None:
    graphs = models.random_graphs(5, 3, undirected=True)
    found = gx.compare(
        models.make("gin", "graph"), graphs, ["saliency"], ["fidelity", "sparsity"], labels=None, progress=False
    )
    assert found.cells["saliency", "fidelity+"].count == 5


# What metrics are handed ##############################################################################################


def test_arguments_are_bound_by_name(setting) -> None:
    model, data, truth = setting
    labels = torch.zeros(data.num_nodes, dtype=torch.int64)
    seen = []

    def forward(module, given):
        return module(given.x, given.edge_index)

    def nosy(model, data, explanations, ground_truth, labels, algorithm, forward, batch_budget, level, option=7):
        seen.append((model, data, ground_truth, labels, algorithm.name, forward, batch_budget, level, option))
        return Result("nosy", torch.zeros(len(explanations)), "higher")

    arguments = {"ground_truth": truth, "labels": labels, "forward": forward, "batch_budget": 1000, "progress": False}
    gx.compare(model, data, ["edge_ablation"], [nosy], index=[0, 1], **arguments)
    gx.compare(model, data, ["node_ablation"], [partial(nosy, option=8)], index=[0, 1], **arguments)
    # Tried, then run: Random is measured first.
    assert [call[4] for call in seen] == 2 * ["random", "edge_ablation"] + 2 * ["random", "node_ablation"]
    assert [call[7:] for call in seen] == 4 * [("edge", 7)] + 4 * [("node", 8)]
    for call in seen:
        for one, other in zip(call, (model, data, truth, labels, call[4], forward, 1000), strict=False):
            assert one is other


def test_only_what_it_names_and_what_is_there(setting) -> None:
    model, data, _ = setting

    def modest(explanations, ground_truth="mine", **rest):
        assert (ground_truth, rest) == ("mine", {})
        return Result("modest", torch.zeros(len(explanations)), "higher")

    class Callable:
        def __call__(self, explanations):
            return Result("object", torch.zeros(len(explanations)), "higher")

    found = gx.compare(model, data, "saliency", [modest, Callable()], index=[0, 1], progress=False)
    assert found.metrics == ["modest", "object"]


def test_an_option_of_the_user_wins(setting) -> None:
    """A level, or a truth, that was set by `partial` is not replaced."""
    model, data, truth = setting
    found = gx.compare(
        model,
        data,
        ["saliency"],
        [partial(gx.metrics.fidelity, level="node"), partial(gx.metrics.roc_auc, ground_truth=truth)],
        index=[0, 1],
        progress=False,
    )
    nodes = gx.metrics.fidelity(model, data, found.explanations["saliency"], level="node")
    assert found.cells["saliency", "fidelity+"].mean == pytest.approx(nodes.plus.mean)
    assert found.metrics[2] == "edge ROC-AUC"


@pytest.mark.parametrize(
    ("algorithms", "level"),
    [
        (["saliency", "edge_ablation"], "edge"),
        (["saliency", "node_ablation"], "node"),
        (["saliency"], "edge"),
        ([gx.GNNExplainer(epochs=1)], "edge"),
    ],
)
def test_the_level_is_what_all_score(setting, algorithms: list, level: str) -> None:
    model, data, _ = setting
    found = gx.compare(model, data, algorithms, ["fidelity"], index=[0, 1], progress=False)
    assert found.level == level
    assert f"scores of {level}s" in found.note
    alone = gx.metrics.fidelity(model, data, found.explanations["random"], level=level)
    assert found.cells["random", "fidelity−"].mean == pytest.approx(alone.minus.mean)


def test_nothing_in_common_is_warned_of(setting) -> None:
    model, data, truth = setting
    features = gx.GNNExplainer(epochs=1)  # one mask over features for each instance, so no scores of nodes
    with pytest.warns(GnnXaiWarning, match="neither scores of edges nor scores of nodes in common"):
        found = gx.compare(
            model,
            data,
            [features, "node_ablation"],
            ["roc_auc"],
            index=[1, 2],
            ground_truth=truth,
            progress=False,
        )
    assert found.level is None
    assert found.metrics == ["edge ROC-AUC", "node ROC-AUC"]
    assert found.skipped["node_ablation", "edge ROC-AUC"] == "roc_auc measures something else of node_ablation"


# Labels ###############################################################################################################


def test_names_tell_two_of_a_kind_apart(setting) -> None:
    model, data, _ = setting
    found = gx.compare(
        model,
        data,
        [gx.Saliency(), gx.Saliency(absolute=False), "edge_ablation"],
        ["fidelity", partial(gx.metrics.fidelity, top=2), pair],
        index=[0, 1],
        progress=False,
    )
    assert list(found.algorithms) == ["random", "saliency", "saliency(absolute=False)", "edge_ablation"]
    assert found.metrics == ["fidelity+", "fidelity−", "fidelity+ (top=2)", "fidelity− (top=2)", "plain", "scaled"]


def test_labels_of_the_user(setting) -> None:
    model, data, _ = setting
    found = gx.compare(
        model,
        data,
        {"dice": gx.Random(), "gradient": "saliency"},
        {"small": partial(gx.metrics.fidelity, top=2), "loud": noise},
        index=[0, 1],
        progress=False,
    )
    assert list(found.algorithms) == ["dice", "gradient"]
    assert found.reference == "dice"
    assert found.metrics == ["fidelity+ (small)", "fidelity− (small)", "loud"]
    assert "better than dice" in found.note


# Empty cells and errors ###############################################################################################


def test_what_an_algorithm_cannot_have_is_an_empty_cell(setting) -> None:
    model, data, truth = setting
    found = gx.compare(
        model,
        data,
        ["saliency", "node_ablation"],
        ["roc_auc", "fidelity", noise_of_edges],
        level="edge",
        index=range(6),
        ground_truth=truth,
        progress=False,
    )
    assert {key for key in found.skipped if key[0] != "node_ablation"} == set()
    assert "node_ablation scored no edges" in found.skipped["node_ablation", "edge ROC-AUC"]
    assert found.skipped["node_ablation", "noise"] == "no edges"
    row = found.to_pandas().set_index(["algorithm", "metric"]).loc["node_ablation", "fidelity+"]
    assert np.isnan([row["mean"], row["low"], row["difference"]]).all()
    assert (row["count"], row["seeds"], row["better"]) == (0, 0, "higher")
    assert found.table().loc["node_ablation"].tolist() == ["–"] * 4
    assert "node_ablation" not in set(found.values["algorithm"])
    assert isinstance(found.draw(), Figure)
    assert set(found.fidelity_over_sparsity([0.5, 1.0])["algorithm"]) == {"random", "saliency"}


def noise_of_edges(explanations: gx.Explanations) -> Result:
    if explanations.edge_mask is None:
        raise InputError("no edges")
    return noise(explanations)


def test_what_none_can_have_is_an_error(setting) -> None:
    def never(explanations):
        raise InputError("never")

    with pytest.raises(InputError, match="never"):
        gx.compare(setting[0], setting[1], ["saliency"], [never], index=[0, 1], progress=False)


def test_what_fails_on_later_instances_is_an_error(setting) -> None:
    def fails_late(explanations):
        if 5 in explanations.index:
            raise InputError("instance 5 is not known")
        return Result("late", torch.zeros(len(explanations)), "higher")

    with pytest.raises(InputError, match="instance 5"):
        gx.compare(setting[0], setting[1], ["saliency"], [fails_late], index=range(6), progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["roc_au"]}, "unknown metric 'roc_au'; did you mean 'roc_auc'?"),
        ({"metrics": ["roc_auc"]}, "the metric roc_auc needs ground_truth=, got None"),
        ({"metrics": [lambda explanations, labels: None]}, "needs labels=, got None"),
        ({"metrics": [lambda explanations, alpha: None]}, "needs 'alpha', which compare does not hand over"),
        ({"metrics": [3]}, "expected a metric as a function or its name, got int"),
        ({"metrics": []}, "expected at least one metric, got none"),
        ({"metrics": ["fidelity", "fidelity"]}, "two metrics would be called 'fidelity'"),
        ({"algorithms": []}, "expected at least one algorithm, got none"),
        ({"algorithms": ["salience"]}, "unknown algorithm 'salience'; did you mean 'saliency'?"),
        ({"algorithms": ["saliency", gx.Saliency()]}, "two algorithms would be called 'saliency'"),
        ({"algorithms": {"random": gx.Saliency()}}, "the label 'random' is for the reference"),
        ({"algorithms": 3}, "expected an algorithm such as"),
        ({"seeds": []}, "expected seeds as an integer, or several"),
        ({"seeds": [0, 0.5]}, "expected seeds as an integer, or several"),
        ({"seeds": [1, 1]}, "expected seeds that differ"),
        ({"seeds": True}, "expected seeds as an integer, or several"),
        ({"level": "edges"}, "expected level='auto', 'edge', 'node', 'feature' or None, got 'edges'"),
        ({"confidence": 95}, "expected confidence as a number between 0 and 1, got 95"),
    ],
)
def test_bad_input_is_told_before_anything_is_explained(
    setting, monkeypatch: pytest.MonkeyPatch, changes: dict, message: str
) -> None:
    monkeypatch.setattr(sys.modules["gnn_xai.comparison.compare"], "explain", lambda *a, **o: pytest.fail("explained"))
    arguments = {"algorithms": ["saliency"], "metrics": ["fidelity"], **changes}
    with pytest.raises(InputError, match=re.escape(message)):
        gx.compare(setting[0], setting[1], progress=False, **arguments)


@pytest.mark.parametrize(
    ("metric", "got"),
    [
        (lambda explanations: torch.zeros(len(explanations)), "Tensor"),
        (lambda explanations: Result("one", torch.zeros(1), "higher"), "Result"),
        (lambda explanations: None, "NoneType"),
    ],
)
def test_a_metric_returns_a_value_for_every_instance(setting, metric, got: str) -> None:
    with pytest.raises(InputError, match=f"with a value for every instance.*got {got}"):
        gx.compare(setting[0], setting[1], ["saliency"], [metric], index=[0, 1], progress=False)


def test_a_truth_of_other_data_is_told_before_the_run(setting) -> None:
    model, data, truth = setting
    short = gx.GroundTruth(edge=truth.edge[:-1], node=truth.node)
    with pytest.raises(InputError, match="ground truth must be of the same data"):
        gx.compare(model, data, ["saliency"], ["roc_auc"], index=[0, 1], ground_truth=short, progress=False)


def test_without_pandas_it_says_what_to_install(setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(GnnXaiError, match=r"pip install gnn-xai\[research\]"):
        gx.compare(setting[0], setting[1], ["saliency"], ["fidelity"], index=[0, 1])


# Formats ##############################################################################################################


def cells_of(comparison: gx.Comparison) -> dict[tuple[str, str], tuple[float, float, float]]:
    table = comparison.to_pandas().set_index(["algorithm", "metric"])
    return {key: (row["mean"], row["low"], row["high"]) for key, row in table.iterrows()}


NUMBERS = re.compile(r"-?\d+\.\d+")


def test_csv_reads_back(comparison: gx.Comparison) -> None:
    table = comparison.to_pandas()
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_markdown_reads_back(comparison: gx.Comparison) -> None:
    lines = [line for line in comparison.to_markdown(digits=4).splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert header == ["algorithm", "edge ROC-AUC ↑", "noise ↑", "plain ↑", "scaled ↓"]
    assert [row[0] for row in rows] == list(comparison.algorithms)
    for label, *cells in rows:
        for metric, cell in zip(comparison.metrics, cells, strict=True):
            numbers = tuple(float(number) for number in NUMBERS.findall(cell)[:3])
            assert numbers == pytest.approx(cells_of(comparison)[label, metric], abs=6e-5)
            dagger = comparison.cells[label, metric].better_than_random
            assert ("†" in cell) == dagger
    for metric, *column in zip(header[1:], *(row[1:] for row in rows), strict=True):
        means = [float(NUMBERS.search(cell)[0]) for cell in column]
        best = max(means) if metric.endswith("↑") else min(means)
        assert [cell.startswith("**") for cell in column] == [mean == best for mean in means]
    assert comparison.to_markdown().endswith(f"\n\n{comparison.note}\n")


def test_fewer_instances_are_said(comparison: gx.Comparison) -> None:
    count = comparison.cells["saliency", "noise"].count
    assert comparison.table().loc["saliency", "noise ↑"].endswith(f"] (n={count})")
    assert "(n=" not in comparison.table().loc["saliency", "plain ↑"]
    assert "n: of the instances for which the metric is defined" in comparison.note
    assert comparison.note.startswith("Means over 12 instances and 3 seeds [90 % bootstrap intervals")


def test_better_than_random_on_the_better_side() -> None:
    cell = Cell("a", "m", "higher", 0.5, difference=0.2, difference_low=0.1, difference_high=0.3)
    assert cell.better_than_random
    assert not dataclasses.replace(cell, better="lower").better_than_random
    assert not dataclasses.replace(cell, difference_low=-0.1).better_than_random
    lower = dataclasses.replace(cell, better="lower", difference_low=-0.3, difference_high=-0.1)
    assert lower.better_than_random
    assert not dataclasses.replace(lower, difference_high=0.1).better_than_random
    assert not dataclasses.replace(cell, difference_low=math.nan, difference_high=math.nan).better_than_random


@pytest.fixture(scope="module")
def awkward(setting) -> gx.Comparison:
    """Names that mean something in every format."""
    model, data, _ = setting
    return gx.compare(
        model,
        data,
        {"a_b & c|d": "saliency", "[50%] <b>$x^2$</b>": "edge_ablation", "_x_ \\ #1 {~}": "smooth_grad"},
        {"m*n − Δ|": noise, "low_er": pair},
        index=range(4),
        progress=False,
    )


def test_latex_is_escaped(awkward: gx.Comparison) -> None:
    text = awkward.to_latex(label="tab:one")
    assert text.startswith("\\begin{table}[t]\n\\centering\n\\caption{Means over 4 instances {[}95 \\% ")
    assert "\\label{tab:one}" in text
    body = text[text.index("\\midrule") : text.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert [row.split(" & ")[0] for row in rows][:1] == ["random"]
    assert rows[1].startswith("a\\_b \\& c$|$d & ")
    assert rows[2].startswith("{[}50\\%{]} $<$b$>$\\$x\\textasciicircum{}2\\$$<$/b$>$ & ")
    assert rows[3].startswith("\\_x\\_ \\textbackslash{} \\#1 \\{\\textasciitilde{}\\} & ")
    assert "m*n $-$ $\\Delta$$|$ $\\uparrow$" in text
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert text.count("\\textbf{") == 3
    assert all(ord(sign) < 128 for sign in text)
    assert awkward.to_latex(caption="Mine.").count("\\caption{Mine.}") == 1


def test_markdown_is_escaped(awkward: gx.Comparison) -> None:
    lines = [line for line in awkward.to_markdown().splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in lines)
    assert "a_b & c\\|d" in lines[3]  # an underscore inside of a word is one
    assert "\\_x\\_" in lines[5]


def test_html_is_escaped(awkward: gx.Comparison) -> None:
    text = awkward._repr_html_()
    assert "&lt;b&gt;$x^2$&lt;/b&gt;" in text
    assert text.count("<b>") == 3


def test_text(comparison: gx.Comparison) -> None:
    assert repr(comparison).startswith(" " * 8)
    assert repr(comparison).endswith(comparison.note)
    assert comparison.table(digits=1).loc["random", "edge ROC-AUC ↑"].startswith("0.")


# Figures ##############################################################################################################


def test_a_panel_for_each_metric(comparison: gx.Comparison) -> None:
    figure = comparison.draw()
    assert [ax.get_title(loc="left") for ax in figure.axes] == comparison.metrics
    first, last = figure.axes[0], figure.axes[-1]
    assert [label.get_text() for label in first.get_yticklabels()] == list(comparison.algorithms)
    assert first.get_xlabel() == "higher is better →"
    assert last.get_xlabel() == "← lower is better"
    dots = [line for line in first.lines if line.get_marker() == "o"]
    for dot, label in zip(dots, comparison.algorithms, strict=True):
        cell = comparison.cells[label, "edge ROC-AUC"]
        assert float(dot.get_xdata()[0]) == pytest.approx(cell.mean)
        full = cell.better_than_random or label == "random"
        assert (dot.get_markerfacecolor() != "white") == full
    assert comparison.cells["random", "edge ROC-AUC"].mean in [float(line.get_xdata()[0]) for line in first.lines]
    assert [text.get_text() for text in figure.legends[0].get_texts()][0] == "better than random, pair by pair"
    figure.savefig(io.BytesIO())


def test_axes_of_the_user(comparison: gx.Comparison) -> None:
    figure = Figure()
    panels = figure.subplots(2, 2)
    assert comparison.draw(ax=panels) is figure
    assert len(figure.axes) == 4
    with pytest.raises(InputError, match="expected 4 axes, one for each metric, got 1"):
        comparison.draw(ax=panels[0, 0])
    with pytest.raises(InputError, match="expected 2 axes"):
        comparison.curves(ax=panels)


def test_curves_are_fidelity_at_every_share(setting, comparison: gx.Comparison) -> None:
    model, data, _ = setting
    table = comparison.fidelity_over_sparsity([0.25, 1.0])
    for label, found in comparison.explanations.items():
        for share in (0.25, 1.0):
            for result in vars(gx.metrics.fidelity(model, data, found, top=share, level="edge")).values():
                rows = table[(table["algorithm"] == label) & (table["metric"] == result.name)]
                row = rows.iloc[[0.25, 1.0].index(share)]
                assert row["mean"] == pytest.approx(result.mean, abs=1e-6)
                assert row["better"] == result.better
                assert row["low"] <= row["mean"] <= row["high"]
    assert table.query("sparsity == 0")["metric"].count() == 2 * 4
    figure = comparison.curves(shares=[0.25, 0.5, 1.0])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["fidelity+", "fidelity−"]
    assert [line.get_label() for line in figure.axes[0].lines] == list(comparison.algorithms)
    with pytest.raises(InputError):
        comparison.curves(shares=[0.5, 2.0])


# The command line #####################################################################################################

FILES = ["comparison.png", "summary.json", "table.csv", "table.md", "table.tex", "values.csv"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return tmp_path


KARATE = ("compare", "--dataset", "karate", "--algorithms", "saliency,smooth_grad", "--index", "0,8,33")


def test_compare_on_the_command_line(work: Path, capsys) -> None:
    options = ("--set", "smooth_grad.samples=3", "--seeds", "0-1", "--metrics", "fidelity,sparsity", "--curves")
    assert run(*KARATE, *options, "--out", "out/compare") == 0
    out = capsys.readouterr().out
    assert "fidelity+ ↑" in out
    assert "better than random" in out
    assert "written to out/compare/" in out
    folder = work / "out" / "compare"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "curves.png"])
    table = pd.read_csv(folder / "table.csv")
    assert set(table["algorithm"]) == {"random", "saliency", "smooth_grad"}
    karate = gx.datasets.load("karate")
    again = gx.compare(
        karate.model,
        karate.data,
        ["saliency", gx.SmoothGrad(samples=3)],
        ["fidelity", "sparsity"],
        index=[0, 8, 33],
        task=karate.task,
        seeds=[0, 1],
        progress=False,
    )
    pd.testing.assert_frame_equal(
        table.drop(columns="seconds"), again.to_pandas().drop(columns="seconds"), check_dtype=False, atol=1e-6
    )
    assert (folder / "table.md").read_text(encoding="utf-8") == again.to_markdown()
    assert (folder / "table.tex").read_text(encoding="utf-8") == again.to_latex()
    assert len(pd.read_csv(folder / "values.csv")) == len(again.values)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["algorithms"]["smooth_grad"]["samples"] == 3
    assert summary["seeds"] == [0, 1]
    assert summary["table"][0]["difference"] is None  # JSON has no NaN
    assert run(*KARATE, "--out", "out/compare") == 2  # other metrics: another run
    assert run(*KARATE, "--out", "out/compare", "--overwrite") == 0
    assert run("list") == 0
    assert re.search(r"^ ?roc_auc ", capsys.readouterr().out, re.MULTILINE)


def test_compare_an_own_model(work: Path, capsys) -> None:
    (work / "own.py").write_text(
        "import torch\nfrom torch_geometric.data import Data\nfrom torch_geometric.nn import GCN\n"
        "def model():\n    torch.manual_seed(0)\n    return GCN(3, 8, num_layers=2, out_channels=2)\n"
        "def data():\n    edges = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])\n"
        "    return Data(x=torch.eye(4)[:, :3], edge_index=edges, y=torch.tensor([0, 1, 0, 1]))\n"
    )
    own = ("compare", "--model", "own:model", "--data", "own:data", "--task", "node")
    metrics = ("--metrics", "fidelity,fidelity_phenomenon_label", "--level", "edge")  # labels are data.y
    assert run(*own, "--algorithms", "edge_ablation,node_ablation", *metrics, "--out", "out") == 0
    assert "not measured: node_ablation scored no edges" in " ".join(capsys.readouterr().out.split())
    summary = json.loads((work / "out" / "summary.json").read_text(encoding="utf-8"))
    assert {row["algorithm"] for row in summary["skipped"]} == {"node_ablation"}
    sys.modules.pop("own", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "roc_auc"), "roc_auc needs ground_truth, which this data does not have; leave the metric out"),
        (("--metrics", "fidelty"), "unknown metric 'fidelty'; did you mean 'fidelity'?"),
        (("--metrics", ","), "expected --metrics as names with commas between them"),
        (("--set", "samples=3"), "expected --set ALGORITHM.NAME=VALUE such as gnn_explainer.epochs=200"),
        (("--set", "smoothgrad.samples=3"), "unknown algorithm in --set 'smoothgrad'; did you mean 'smooth_grad'?"),
        (("--set", "smooth_grad.sample=3"), "unknown hyper-parameter of SmoothGrad 'sample'"),
        (("--seeds", "a"), "expected --seeds as numbers and ranges"),
        (("--seeds", "0,0"), "expected seeds that differ"),
        (("--level", "edges"), "expected --level auto, edge, node or feature, got 'edges'"),
        (("--index", "99"), "index 99 is out of range"),
        (("--model", "own:model"), "--dataset brings its own model"),
    ],
)
def test_bad_input_leaves_nothing(work: Path, capsys, arguments: tuple[str, ...], message: str) -> None:
    assert run(*KARATE, *arguments, "--out", "out/compare") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(work.iterdir()) == []


def test_a_failure_while_writing_leaves_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    assert run(*KARATE, "--out", "out/compare") == 2
    assert [path for path in work.rglob("*") if path.is_file()] == []
