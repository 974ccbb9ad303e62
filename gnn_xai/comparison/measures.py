"""Metrics as a comparison runs them: arguments bound by name, results as columns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor

from gnn_xai.algorithms.base import Algorithm
from gnn_xai.errors import InputError, unknown
from gnn_xai.metrics.registry import REGISTRY
from gnn_xai.metrics.result import Result
from gnn_xai.results.explanations import Explanations

VOCABULARY = (
    "model",
    "data",
    "prepared",
    "explanations",
    "ground_truth",
    "labels",
    "algorithm",
    "forward",
    "batch_budget",
    "level",
)


@dataclass(frozen=True)
class Measure:
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
    def of(cls, metric: Any) -> Measure:
        """A metric from a name or a callable."""
        if isinstance(metric, str):
            if metric not in REGISTRY:
                raise unknown("metric", metric, REGISTRY)
            return cls(REGISTRY[metric], metric)
        if not callable(metric) or isinstance(metric, type):
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

    def _handed(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs, with the prepared problem in the place of model and data where the metric takes one."""
        inner = self.function.func if isinstance(self.function, partial) else self.function
        settled = {"model", "data", "forward"}
        if not getattr(inner, "takes_prepared", False) or not settled <= {p.name for p in self._parameters}:
            return inputs
        return {**inputs, "model": inputs["prepared"], "data": None, "forward": None}

    def check(self, label: str, inputs: Mapping[str, Any]) -> None:
        """Raise an `InputError` unless everything that it needs is among the inputs."""
        for needed in (p.name for p in self._parameters if p.default is p.empty):
            if needed not in VOCABULARY:
                raise InputError(
                    f"the metric {label} needs {needed!r}, which compare does not hand over "
                    f"(it has {', '.join(VOCABULARY)}); set it with functools.partial"
                )
            if needed in ("ground_truth", "labels") and inputs[needed] is None:
                raise InputError(f"the metric {label} needs {needed}=, got None; pass it, or leave the metric out")

    def __call__(self, inputs: Mapping[str, Any]) -> list[Result]:
        """Measure; one result or several."""
        handed = self._handed(inputs)
        value = self.function(
            **{
                p.name: handed[p.name]
                for p in self._parameters
                if p.default is p.empty or handed.get(p.name) is not None
            }
        )
        results = [value]
        if is_dataclass(value) and not isinstance(value, Result):
            results = [part for part in (getattr(value, f.name) for f in fields(value)) if isinstance(part, Result)]
        count = len(inputs["explanations"])
        if not results or not all(isinstance(result, Result) and len(result.values) == count for result in results):
            raise InputError(
                f"expected {self.full} to return a gnn_xai.metrics.Result with a value for every instance, or a dataclass "
                f"of such, got {type(value).__name__}"
            )
        return results

    def refusal(self, inputs: Mapping[str, Any]) -> InputError | None:
        """Why it cannot be measured; `None` if it can."""
        try:
            self(inputs)
        except InputError as error:
            return error


def refusals(
    measures: Mapping[str, Measure],
    methods: Mapping[str, Algorithm],
    few: Mapping[str, Explanations],
    inputs: Mapping[str, Any],
) -> dict[tuple[str, str], str]:
    """Why an algorithm cannot have a metric, by label and metric, as a few instances show.

    Raises:
        InputError: of a metric that none can have, so that the fault lies elsewhere.
    """
    refused = {}
    for name, metric in measures.items():
        tried = {
            label: metric.refusal({**inputs, "explanations": explanations, "algorithm": methods[label]})
            for label, explanations in few.items()
        }
        errors = {label: error for label, error in tried.items() if error is not None}
        if len(errors) == len(few):
            raise next(iter(errors.values()))
        refused |= {(label, name): str(error) for label, error in errors.items()}
    return refused


def columns(
    measures: Mapping[str, Measure], measured: Iterable[tuple[str, str]], titled: bool
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
