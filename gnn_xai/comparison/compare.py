"""Algorithms × metrics on the same instances."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Literal, TypeVar, cast

from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig

from gnn_xai._checks import is_number, one_of
from gnn_xai.algorithms.base import Algorithm, Attributing, get, needs_fit, stochastic
from gnn_xai.algorithms.random import Random
from gnn_xai.api import explain
from gnn_xai.comparison.measures import Measure, columns, refusals
from gnn_xai.comparison.table import Comparison
from gnn_xai.core.engines.handed_in import prepared_for, refuse_inference_mode, type_of
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import GnnXaiWarning, InputError, warn
from gnn_xai.metrics.prepared import takes_prepared
from gnn_xai.metrics.result import Result
from gnn_xai.optional import need
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.ground_truth import GroundTruth

TRIED = 2  # instances on which everything is tried before it runs on all

T = TypeVar("T")


@takes_prepared
def compare(
    model: nn.Module | Prepared,
    data: Any,
    algorithms: Sequence[str | Attributing] | Mapping[str, str | Attributing],
    metrics: Sequence[str | Callable[..., Any]] | Mapping[str, str | Callable[..., Any]],
    *,
    index: Any = None,
    fit_index: Any = None,
    ground_truth: GroundTruth | Any = None,
    labels: Tensor | None = None,
    task: Literal["node", "edge", "graph"] | dict[str, Any] | ModelConfig | None = None,
    node_type: str | None = None,
    edge_type: tuple[str, str, str] | None = None,
    target: int | Sequence[int] | Tensor | None = None,
    forward: Forward | None = None,
    seeds: int | Sequence[int] = 0,
    level: Literal["auto", "edge", "node", "feature"] | None = "auto",
    undirected: bool | Literal["auto"] = "auto",
    max_neighbors: int | None = None,
    batch_budget: int | Literal["auto"] = "auto",
    confidence: float = 0.95,
    progress: bool = True,
) -> Comparison:
    """Explain the same instances with several algorithms, and measure what they say.

    Every algorithm gets the same instances, targets and seeds. `Random` is always among them, as differences are paired
    with it. Model and data are prepared once, and every run shares that. All are first tried on two instances, so that
    what cannot work says so before anything long has begun: an algorithm that refuses the model, and a metric that no
    algorithm can have, are errors; a metric that one of them cannot have is an empty cell, with its reason in
    `Comparison.skipped`.

    Args:
        model, data, index, task, node_type, edge_type, target, forward, undirected, max_neighbors, batch_budget, progress:
            as in `gnn_xai.explain`; a prepared problem takes the place of model and data, as it does there.
        algorithms: names or objects; or a dict of them, whose keys are what the table calls them.
        fit_index: what algorithms learn from that have to be fitted and are not yet, with the first of the seeds; like
            `index`.
        metrics: names of `gnn_xai.metrics.REGISTRY`, or functions, with options set by `functools.partial`; or a dict of
            them. Arguments are bound by name: `model`, `data`, `prepared` (both, as `gnn_xai.prepare` returns them),
            `explanations`, `ground_truth`, `labels`, `algorithm`, `forward`, `batch_budget` and `level`. A metric returns
            a `Result` or a dataclass of several.
        ground_truth: which elements are true, for metrics that need it.
        labels: the true classes or values of all outputs, for metrics that need them.
        seeds: the same seed gives the same result. With several, algorithms that depend on them run once for each, and the
            value of an instance is the mean over those for which it is defined; the others run once, with the first.
        level: what metrics that take a `level` compare: scores of `edge`, `node` or `feature`. `auto`: edges if all
            algorithms score them, else nodes if all do, as one that scores both would otherwise silence more than one that
            scores edges alone. `None`: what each metric does by itself.
        confidence: of the intervals.

    Raises:
        InputError: if an argument is not as described, or a metric lacks what it needs.
        GnnXaiError: if pandas, SciPy or tabulate is not installed.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> comparison = gx.compare(
    ...     karate.model, karate.data, ["saliency", "edge_ablation"], ["fidelity"], index=range(8), progress=False
    ... )
    >>> comparison.to_pandas()[["algorithm", "metric", "count"]].head(2)
      algorithm     metric  count
    0    random  fidelity+      8
    1    random  fidelity−      8
    """
    for package in ("pandas", "scipy", "tabulate"):
        need(package, "research", "comparisons")
    methods, reference = _with_random(_labelled("algorithm", algorithms, get, _names_of_algorithm))
    measures = _labelled("metric", metrics, Measure.of, lambda measure: (measure.base, measure.full))
    seeds = _as_seeds(seeds)
    _check(level, confidence)
    inputs = {"ground_truth": ground_truth, "labels": labels, "batch_budget": batch_budget}
    inputs |= _of_problem(model, data, forward)
    for label, measure in measures.items():
        measure.check(label, inputs)
    asked = {"task": task, "of_type": type_of(node_type, edge_type), "forward": forward, "undirected": undirected}
    asked |= {"batch_budget": batch_budget, "index": index}
    prepared = model if isinstance(model, Prepared) else _prepare(model, data, asked)
    methods = _fitted(methods, prepared, fit_index, seeds[0], progress)
    ask = partial(explain, prepared, max_neighbors=max_neighbors, batch_budget=batch_budget)
    shared = {**inputs, "prepared": prepared}

    # Random says which instances and targets there are; what is wrong with them shows before anything long has begun.
    first = _timed(ask, methods[reference], index=index, target=target, seed=seeds[0], progress=progress)
    instances = {"index": first[0].index.t(), "target": first[0].target}
    shared["level"], refused = _try(ask, methods, measures, shared, instances, seeds[0], level)
    runs = _runs(ask, methods, reference, seeds, first, progress=progress, **instances)
    explanations, seconds, results = _measured(runs, methods, measures, shared, refused)

    titles = columns(measures, [key[1:] for key in results], isinstance(metrics, Mapping))
    return Comparison(
        algorithms=methods,
        metrics=list(titles.values()),
        explanations={label: explanations[label] for label in methods},
        results={(label, titles[name, result]): tuple(values) for (label, name, result), values in results.items()},
        skipped=_skipped(methods, titles, results, refused),
        seconds=seconds,
        reference=reference,
        seeds=seeds,
        level=shared["level"],
        confidence=confidence,
        inputs={**shared, "prepared": model if isinstance(model, Prepared) else None},
    )


def _of_problem(model: nn.Module | Prepared, data: Any, forward: Forward | None) -> dict[str, Any]:
    """Model, data and forward as metrics of the user's get them, also from a prepared problem."""
    if isinstance(model, Prepared):
        model, data, forward = model.problem.model, model.graphs.source, model.forward
    return {"model": model, "data": data, "forward": forward}


def _prepare(model: nn.Module, data: Any, settings: dict[str, Any]) -> Prepared:
    refuse_inference_mode("compare")
    return prepared_for(model, data, **settings)


def _fitted(
    methods: Mapping[str, Algorithm], prepared: Prepared, index: Any, seed: int, progress: bool
) -> dict[str, Algorithm]:
    """The algorithms, fitted where they have to be.

    Raises:
        InputError: if there is nothing to fit on, or nothing to fit.
    """
    missing = [label for label, method in methods.items() if needs_fit(method)]
    if missing and index is None:
        raise InputError(
            f"expected fit_index=, the instances that {', '.join(missing)} is fitted on before it explains others, got None"
        )
    if index is not None and not missing:
        raise InputError("expected an algorithm that has to be fitted with fit_index=, got none; leave fit_index out")
    fit: dict[str, Any] = {"index": index, "seed": seed, "progress": progress}
    return {label: cast(Any, m).fit(prepared, **fit) if needs_fit(m) else m for label, m in methods.items()}


def _timed(ask: Callable[..., Explanations], method: Algorithm, **options: Any) -> tuple[Explanations, float]:
    start = time.perf_counter()
    return ask(algorithm=method, **options), time.perf_counter() - start


def _try(
    ask: Callable[..., Explanations],
    methods: Mapping[str, Algorithm],
    measures: Mapping[str, Measure],
    inputs: Mapping[str, Any],
    instances: Mapping[str, Tensor],
    seed: int,
    level: Any,
) -> tuple[Any, dict[tuple[str, str], str]]:
    """Try everything on a few instances: the level that metrics compare, and the `refusals`."""
    with warnings.catch_warnings():  # the run on all instances repeats them
        warnings.simplefilter("ignore", GnnXaiWarning)
        few = {name: values[..., :TRIED] for name, values in instances.items()}
        if few["index"].dim() > 1 and inputs["labels"] is not None:  # of pairs, each has its own
            inputs = {**inputs, "labels": inputs["labels"][:TRIED]}
        explanations = {
            label: ask(algorithm=method, **few, seed=seed, progress=False) for label, method in methods.items()
        }
        shared = _shared_level(explanations.values()) if level == "auto" else level
        refused = refusals(measures, methods, explanations, {**inputs, "level": shared})
    if level == "auto" and shared is None:
        warn(
            "the algorithms have neither scores of edges nor scores of nodes in common, so a column holds different "
            "things; compare those that score the same"
        )
    return shared, refused


def _runs(
    ask: Callable[..., Explanations],
    methods: Mapping[str, Algorithm],
    reference: str,
    seeds: tuple[int, ...],
    first: tuple[Explanations, float],
    **options: Any,
) -> Iterator[tuple[str, Explanations, float]]:
    """Explain with every algorithm and seed: label, explanations and seconds. The first run, of the reference, is done."""
    yield reference, *first
    for label in sorted(methods, key=lambda label: label != reference):
        own = seeds if stochastic(methods[label]) else seeds[:1]
        for seed in own[1:] if label == reference else own:
            yield label, *_timed(ask, methods[label], seed=seed, **options)


def _measured(
    runs: Iterable[tuple[str, Explanations, float]],
    methods: Mapping[str, Algorithm],
    measures: Mapping[str, Measure],
    inputs: Mapping[str, Any],
    refused: Mapping[tuple[str, str], str],
) -> tuple[dict[str, Explanations], dict[str, float], dict[tuple[str, str, str], list[Result]]]:
    """By algorithm the explanations of the first seed and the mean seconds of a run; by algorithm, metric and result the
    values of each seed.
    """
    explanations: dict[str, Explanations] = {}
    seconds: dict[str, list[float]] = {label: [] for label in methods}
    results: dict[tuple[str, str, str], list[Result]] = {}
    for label, explained, took in runs:
        explanations.setdefault(label, explained)
        seconds[label].append(took)
        for name in (name for name in measures if (label, name) not in refused):
            for result in measures[name]({**inputs, "explanations": explained, "algorithm": methods[label]}):
                results.setdefault((label, name, result.name), []).append(result)
    return explanations, {label: sum(times) / len(times) for label, times in seconds.items()}, results


def _skipped(
    methods: Iterable[str],
    titles: Mapping[tuple[str, str], str],
    results: Container[tuple[str, str, str]],
    refused: Mapping[tuple[str, str], str],
) -> dict[tuple[str, str], str]:
    """Why a column has no value for an algorithm, where it has none."""
    return {
        (label, title): refused.get((label, name), f"{name} measures something else of {label}")
        for label in methods
        for (name, result), title in titles.items()
        if (label, name, result) not in results
    }


def _shared_level(explanations: Iterable[Explanations]) -> Literal["edge", "node"] | None:
    """The level that all of them score: edges, or else nodes."""
    every = list(explanations)
    if all(f.edge_mask is not None for f in every):
        return "edge"
    node = all(f.node_mask is not None and f.node_mask_type != "common_attributes" for f in every)
    return "node" if node else None


# Reading the arguments ################################################################################################


def _check(level: Any, confidence: Any) -> None:
    one_of(level, "level", ("auto", "edge", "node", "feature", None))
    if not is_number(confidence, "(0, 1)"):
        raise InputError(f"expected confidence as a number between 0 and 1, got {confidence!r}")


def _labelled(
    kind: str, choice: Any, resolve: Callable[[Any], T], names: Callable[[T], tuple[str, str]]
) -> dict[str, T]:
    """Algorithms or metrics by label: the user's, or the name, with the options where two have one name."""
    if isinstance(choice, Mapping):
        by_label = {str(label): resolve(item) for label, item in choice.items()}
    else:
        items = [
            resolve(item)
            for item in ([choice] if isinstance(choice, str) or not isinstance(choice, Sequence) else choice)
        ]
        short = [names(item)[0] for item in items]
        labels = [name if short.count(name) == 1 else names(item)[1] for name, item in zip(short, items, strict=True)]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise InputError(
                f"two {kind}s would be called {twice!r}; leave one out, or give them labels, as in "
                f"{kind}s={{'one': ..., 'other': ...}}"
            )
        by_label = dict(zip(labels, items, strict=True))
    if not by_label:
        raise InputError(f"expected at least one {kind}, got none")
    return by_label


def _with_random(methods: dict[str, Algorithm]) -> tuple[dict[str, Algorithm], str]:
    """The algorithms with Random, which comes first if it was not asked for, and its label."""
    for label, method in methods.items():
        if isinstance(method, Random):
            return methods, label
    if "random" in methods:
        raise InputError("the label 'random' is for the reference, which is added; choose another one")
    return {"random": get("random"), **methods}, "random"


def _names_of_algorithm(algorithm: Algorithm) -> tuple[str, str]:
    """Its name, and its name with the hyper-parameters that are not at their defaults."""
    algorithm = getattr(algorithm, "algorithm", algorithm)  # of a fitted one
    own = fields(algorithm) if is_dataclass(algorithm) else ()
    changed = [f"{f.name}={getattr(algorithm, f.name)}" for f in own if getattr(algorithm, f.name) != f.default]
    return algorithm.name, f"{algorithm.name}({', '.join(changed)})" if changed else algorithm.name


def _as_seeds(seeds: Any) -> tuple[int, ...]:
    several = (seeds,) if isinstance(seeds, int) else tuple(seeds) if isinstance(seeds, Sequence) else ()
    if not several or any(isinstance(seed, bool) or not isinstance(seed, int) for seed in several):
        raise InputError(f"expected seeds as an integer, or several, got {seeds!r}")
    if len(set(several)) < len(several):
        raise InputError(f"expected seeds that differ, got {list(several)}; a seed that counts twice narrows nothing")
    return several
