"""The cells of a comparison: means over instances with their intervals, and how each format writes them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from gnn_xai.metrics.result import Result
from gnn_xai.optional import need

RESAMPLES = 2000


@dataclass(frozen=True)
class Cell:
    """One cell of a comparison; see `Comparison.to_pandas`."""

    algorithm: str
    metric: str
    better: str
    mean: float = math.nan
    stderr: float = math.nan
    low: float = math.nan
    high: float = math.nan
    count: int = 0
    undefined: int = 0
    difference: float = math.nan
    difference_low: float = math.nan
    difference_high: float = math.nan
    difference_count: int = 0
    seeds: int = 0
    seed_std: float = math.nan
    seconds: float = math.nan

    @property
    def goodness(self) -> float:
        """The mean with its sign turned so that more is better; −∞ where there is none, or no direction."""
        sign = {"higher": 1, "lower": -1}.get(self.better)
        return -math.inf if sign is None or math.isnan(self.mean) else sign * self.mean

    @property
    def better_than_random(self) -> bool:
        """The interval of the paired difference lies on the better side of 0."""
        return self.difference_high < 0 if self.better == "lower" else self.difference_low > 0

    def text(self, form: Form, digits: int, instances: int, *, bold: bool) -> str:
        """The text of the cell in one format."""
        if math.isnan(self.mean):
            return form.dash
        mean, low, high = (form.number(f"{value:.{digits}f}") for value in (self.mean, self.low, self.high))
        bold = bold and self.goodness > -math.inf
        interval = "" if math.isnan(self.low) else f" [{low}, {high}]"
        fewer = f" (n={self.count})" if 0 < self.count < instances else ""
        return f"{form.bold(mean) if bold else mean}{form.dagger if self.better_than_random else ''}{interval}{fewer}"


# Arithmetic ############################################################################################################


@dataclass(frozen=True)
class Mean:
    """A mean over instances; see `Comparison.to_pandas`."""

    mean: float
    stderr: float
    low: float
    high: float
    count: int


def interval(values: np.ndarray, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean over instances: bias-corrected and accelerated (BCa; Efron 1987), 2000 resamples.

    NaN below two values; where all values are equal, that value twice.

    Args:
        values: `[n]`, without NaN.
        confidence: the probability with which such intervals hold the mean.
        seed: of the resamples.

    >>> low, high = interval(np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]))
    >>> low < 0.5 < high
    True
    """
    if len(values) < 2:
        return math.nan, math.nan
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    rows = max(1, 2**22 // len(values))  # resamples that are held at once
    bounds = need("scipy.stats", "research", "comparisons").bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=rows, confidence_level=confidence, method="BCa", rng=seed
    )
    return float(bounds.confidence_interval.low), float(bounds.confidence_interval.high)


def mean_of(values: np.ndarray, confidence: float, seed: int) -> Mean:
    """The mean over instances for which a metric is defined, with its standard error and its interval."""
    defined = values[~np.isnan(values)]
    count = len(defined)
    return Mean(
        float(defined.mean()) if count else math.nan,
        float(defined.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan,
        *interval(defined, confidence, seed),
        count,
    )


def mean_over_seeds(results: Sequence[Result]) -> np.ndarray:
    """Each instance's mean over the seeds for which it is defined, `[B]`."""
    return torch.stack([result.values.detach().double().cpu() for result in results]).nanmean(0).numpy()


# Formats ###############################################################################################################


class Form(NamedTuple):
    """How a format of the table escapes, emphasises and marks."""

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    number: Callable[[str], str]
    dagger: str
    up: str
    down: str
    dash: str


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"[": "{[}", "]": "{]}", "<": "$<$", ">": "$>$", "|": "$|$"},
        **{"−": "$-$", "±": r"$\pm$", "†": r"$^\dagger$", "Δ": r"$\Delta$", "↑": r"$\uparrow$", "↓": r"$\downarrow$"},
        **{"×": r"$\times$", "–": "--"},
    }
)


def _escape_markdown(text: str) -> str:
    # An underscore inside of a word is one; elsewhere it may open an emphasis.
    return re.sub(r"([\\`*\[\]<>|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def _same(text: str) -> str:
    return text


PLAIN = Form(_same, _same, _same, "†", "↑", "↓", "–")
MARKDOWN = Form(_escape_markdown, "**{}**".format, _same, "†", "↑", "↓", "–")
HTML = Form(html.escape, "<b>{}</b>".format, _same, "†", "↑", "↓", "–")
LATEX = Form(
    lambda text: text.translate(_TEX),
    r"\textbf{{{}}}".format,
    lambda number: number.replace("-", "$-$"),
    r"$^\dagger$",
    r"$\uparrow$",
    r"$\downarrow$",
    "--",
)
