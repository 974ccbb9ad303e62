"""Algorithms × metrics on the same instances."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig

from gnn_xai.algorithms.base import Algorithm, Attributing, get, stochastic
from gnn_xai.algorithms.random import Random
from gnn_xai.api import explain
from gnn_xai.comparison.table import Comparison
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import GnnXaiWarning, InputError, unknown, warn
from gnn_xai.metrics.registry import REGISTRY
from gnn_xai.metrics.result import Result
from gnn_xai.optional import need
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.ground_truth import GroundTruth

VOCABULARY = (
    "model",
    "data",
    "explanations",
    "ground_truth",
    "labels",
    "algorithm",
    "forward",
    "batch_budget",
    "level",
)
TRIED = 2  # instances on which everything is tried before it runs on all

T = TypeVar("T")


def compare(
    model: nn.Module,
    data: Any,
    algorithms: Sequence[str | Attributing] | Mapping[str, str | Attributing],
    metrics: Sequence[str | Callable[..., Any]] | Mapping[str, str | Callable[..., Any]],
    *,
    index: Any = None,
    ground_truth: GroundTruth | Any = None,
    labels: Tensor | None = None,
    task: Literal["node", "graph"] | ModelConfig | None = None,
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
    with it. All are first tried on two instances, so that what cannot work says so before anything long has begun: an
    algorithm that refuses the model, and a metric that no algorithm can have, are errors; a metric that one of them
    cannot have is an empty cell, with its reason in `Comparison.skipped`.

    Args:
        model, data, index, task, target, forward, undirected, max_neighbors, batch_budget, progress: as in
            `gnn_xai.explain`.
        algorithms: names or objects; or a dict of them, whose keys are what the table calls them.
        metrics: names of `gnn_xai.metrics.REGISTRY`, or functions, with options set by `functools.partial`; or a dict of
            them. Arguments are bound by name: `model`, `data`, `explanations`, `ground_truth`, `labels`, `algorithm`,
            `forward`, `batch_budget` and `level`. A metric returns a `Result` or a dataclass of several.
        ground_truth: which elements are true, for metrics that need it.
        labels: the true classes or values of all outputs, for metrics that need them.
        seeds: what random numbers are keyed by. With several, algorithms that depend on them run once for each, and the
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
    measures = _labelled("metric", metrics, _Metric.of, lambda metric: (metric.base, metric.full))
    seeds = _as_seeds(seeds)
    if level not in ("auto", "edge", "node", "feature", None):
        raise InputError(f"expected level='auto', 'edge', 'node', 'feature' or None, got {level!r}")
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise InputError(f"expected confidence as a number between 0 and 1, got {confidence!r}")
    given: dict[str, Any] = {
        "model": model,
        "data": data,
        "ground_truth": ground_truth,
        "labels": labels,
        "forward": forward,
        "batch_budget": batch_budget,
    }
    for label, metric in measures.items():
        metric.check(label, given)
    ask = partial(
        explain,
        model,
        data,
        task=task,
        forward=forward,
        undirected=undirected,
        max_neighbors=max_neighbors,
        batch_budget=batch_budget,
    )

    # Random says which instances and targets there are; what is wrong with them shows before anything long has begun.
    baseline, took = _timed(ask, methods[reference], index=index, target=target, seed=seeds[0], progress=progress)
    index, target = baseline.index, baseline.target
    with warnings.catch_warnings():  # the run on all instances repeats them
        warnings.simplefilter("ignore", GnnXaiWarning)
        few = {
            label: ask(method, index=index[:TRIED], target=target[:TRIED], seed=seeds[0], progress=False)
            for label, method in methods.items()
        }
        given["level"] = _shared_level(few.values()) if level == "auto" else level
        refused = _refused(measures, methods, few, given)
    if level == "auto" and given["level"] is None:
        warn(
            "the algorithms have neither scores of edges nor scores of nodes in common, so a column holds different "
            "things; compare those that score the same"
        )

    explanations: dict[str, Explanations] = {}
    seconds: dict[str, list[float]] = {label: [] for label in methods}
    results: dict[tuple[str, str, str], list[Result]] = {}
    for label in sorted(methods, key=lambda label: label != reference):
        method = methods[label]
        for seed in seeds if stochastic(method) else seeds[:1]:
            if label != reference or seed != seeds[0]:
                found, took = _timed(ask, method, index=index, target=target, seed=seed, progress=progress)
            else:
                found = baseline
            explanations.setdefault(label, found)
            seconds[label].append(took)
            for name in (name for name in measures if (label, name) not in refused):
                for result in measures[name]({**given, "explanations": found, "algorithm": method}):
                    results.setdefault((label, name, result.name), []).append(result)

    columns = _columns(measures, [key[1:] for key in results], isinstance(metrics, Mapping))
    return Comparison(
        algorithms=methods,
        metrics=list(columns.values()),
        explanations={label: explanations[label] for label in methods},
        results={(label, columns[name, result]): tuple(values) for (label, name, result), values in results.items()},
        skipped={
            (label, column): refused.get((label, name), f"{name} measures something else of {label}")
            for label in methods
            for (name, result), column in columns.items()
            if (label, name, result) not in results
        },
        seconds={label: sum(times) / len(times) for label, times in seconds.items()},
        reference=reference,
        seeds=seeds,
        level=given["level"],
        confidence=confidence,
        given=given,
    )


def _timed(ask: Callable[..., Explanations], method: Algorithm, **options: Any) -> tuple[Explanations, float]:
    start = time.perf_counter()
    return ask(method, **options), time.perf_counter() - start


# Reading the arguments ################################################################################################


@dataclass(frozen=True)
class _Metric:
    """A metric with the names of what it takes.

    Attributes:
        function: the metric.
        base: its name.
        options: those set by `functools.partial`, as text.
    """

    function: Callable[..., Any]
    base: str
    options: str = ""

    @classmethod
    def of(cls, metric: Any) -> _Metric:
        """A metric from a name or a callable."""
        if isinstance(metric, str):
            if metric not in REGISTRY:
                raise unknown("metric", metric, REGISTRY)
            return cls(REGISTRY[metric], metric)
        if not callable(metric):
            raise InputError(f"expected a metric as a function or its name, got {type(metric).__name__}")
        inner = metric.func if isinstance(metric, partial) else metric
        set_to = metric.keywords if isinstance(metric, partial) else {}
        options = ", ".join(f"{key}={value}" for key, value in set_to.items() if not isinstance(value, Tensor))
        return cls(metric, getattr(inner, "__name__", type(inner).__name__), options)

    @property
    def full(self) -> str:
        """Its name with its options."""
        return f"{self.base}({self.options})" if self.options else self.base

    @property
    def _parameters(self) -> Iterable[inspect.Parameter]:
        own = self.function.keywords if isinstance(self.function, partial) else {}
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        every = inspect.signature(self.function).parameters.values()
        return [p for p in every if p.name not in own and p.kind not in variadic]

    def check(self, label: str, given: Mapping[str, Any]) -> None:
        """Raise unless everything it needs is there."""
        for needed in (p.name for p in self._parameters if p.default is p.empty):
            if needed not in VOCABULARY:
                raise InputError(
                    f"the metric {label} needs {needed!r}, which compare does not hand over "
                    f"(it has {', '.join(VOCABULARY)}); set it with functools.partial"
                )
            if needed in ("ground_truth", "labels") and given[needed] is None:
                raise InputError(f"the metric {label} needs {needed}=, got None; pass it, or leave the metric out")

    def __call__(self, given: Mapping[str, Any]) -> list[Result]:
        """What it measures, one result or several."""
        found = self.function(
            **{p.name: given[p.name] for p in self._parameters if p.default is p.empty or given.get(p.name) is not None}
        )
        results = [found]
        if is_dataclass(found) and not isinstance(found, Result):
            results = [value for value in (getattr(found, f.name) for f in fields(found)) if isinstance(value, Result)]
        count = len(given["explanations"])
        if not results or not all(isinstance(result, Result) and len(result.values) == count for result in results):
            raise InputError(
                f"expected {self.full} to return a gnn_xai.metrics.Result with a value for every instance, or a dataclass "
                f"of such, got {type(found).__name__}"
            )
        return results

    def refusal(self, given: Mapping[str, Any]) -> InputError | None:
        """Why it cannot be measured, if so."""
        try:
            self(given)
        except InputError as error:
            return error


def _labelled(
    kind: str, given: Any, resolve: Callable[[Any], T], names: Callable[[T], tuple[str, str]]
) -> dict[str, T]:
    """Algorithms or metrics by label: the user's, or the name, with the options where two have one name."""
    if isinstance(given, Mapping):
        found = {str(label): resolve(item) for label, item in given.items()}
    else:
        items = [
            resolve(item) for item in ([given] if isinstance(given, str) or not isinstance(given, Sequence) else given)
        ]
        short = [names(item)[0] for item in items]
        labels = [name if short.count(name) == 1 else names(item)[1] for name, item in zip(short, items, strict=True)]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise InputError(
                f"two {kind}s would be called {twice!r}; leave one out, or give them labels, as in "
                f"{kind}s={{'one': ..., 'other': ...}}"
            )
        found = dict(zip(labels, items, strict=True))
    if not found:
        raise InputError(f"expected at least one {kind}, got none")
    return found


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
    own = fields(algorithm) if is_dataclass(algorithm) else ()
    changed = [f"{f.name}={getattr(algorithm, f.name)}" for f in own if getattr(algorithm, f.name) != f.default]
    return algorithm.name, f"{algorithm.name}({', '.join(changed)})" if changed else algorithm.name


def _as_seeds(seeds: Any) -> tuple[int, ...]:
    found = (seeds,) if isinstance(seeds, int) else tuple(seeds) if isinstance(seeds, Iterable) else ()
    if not found or any(isinstance(seed, bool) or not isinstance(seed, int) for seed in found):
        raise InputError(f"expected seeds as an integer, or several, got {seeds!r}")
    if len(set(found)) < len(found):
        raise InputError(f"expected seeds that differ, got {list(found)}; a seed that counts twice narrows nothing")
    return found


# Before the run #######################################################################################################


def _shared_level(explanations: Iterable[Explanations]) -> Literal["edge", "node"] | None:
    """What all of them score: edges, or else nodes."""
    every = list(explanations)
    if all(found.edge_mask is not None for found in every):
        return "edge"
    node = all(f.node_mask is not None and f.node_mask_type != "common_attributes" for f in every)
    return "node" if node else None


def _refused(
    measures: Mapping[str, _Metric],
    methods: Mapping[str, Algorithm],
    few: Mapping[str, Explanations],
    given: Mapping[str, Any],
) -> dict[tuple[str, str], str]:
    """Why an algorithm cannot have a metric, by label and metric, found out on a few instances.

    Raises:
        InputError: of a metric that none can have, so that the fault lies elsewhere.
    """
    refused = {}
    for name, metric in measures.items():
        tried = {
            label: metric.refusal({**given, "explanations": found, "algorithm": methods[label]})
            for label, found in few.items()
        }
        errors = {label: error for label, error in tried.items() if error is not None}
        if len(errors) == len(few):
            raise next(iter(errors.values()))
        refused |= {(label, name): str(error) for label, error in errors.items()}
    return refused


def _columns(
    measures: Mapping[str, _Metric], measured: Iterable[tuple[str, str]], titled: bool
) -> dict[tuple[str, str], str]:
    """The title of every column by metric and result, in the order of the metrics.

    It is the result's name, with the metric's options where two have one name; or the user's label.
    """
    keys = sorted(dict.fromkeys(measured), key=lambda key: list(measures).index(key[0]))
    if titled:
        owners = [name for name, _ in keys]
        return {(n, result): n if owners.count(n) == 1 else f"{result} ({n})" for n, result in keys}
    names = [result for _, result in keys]
    notes = [measures[name].options if names.count(result) > 1 else "" for name, result in keys]
    noted = [f"{result} ({note})" if note else result for result, note in zip(names, notes, strict=True)]
    return {
        (name, result): title if noted.count(title) == 1 else f"{result} ({name})"
        for (name, result), title in zip(keys, noted, strict=True)
    }
