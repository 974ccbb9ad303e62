"""What a comparison of algorithms is: a table of means with intervals over instances, and its formats."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from gnn_xai.algorithms.base import Algorithm
from gnn_xai.metrics.curves import fidelity_curve
from gnn_xai.metrics.result import Result
from gnn_xai.optional import need
from gnn_xai.results.explanations import Explanations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

RESAMPLES = 2000
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Algorithms × metrics on the same instances: what `gnn_xai.compare` returns.

    Printed, or shown in a notebook, it is a table with a row an algorithm and a column a metric.

    Attributes:
        algorithms: every algorithm by its label, in the order of the rows.
        metrics: names of the metrics, in the order of the columns.
        explanations: the explanations by label; of the first seed.
        results: what the metrics returned, by label and metric: one `Result` a seed.
        skipped: why a cell is empty, by label and metric.
        seconds: what explaining took, by label; mean over seeds.
        reference: the label of Random.
        seeds: that were asked for.
        level: what metrics that take a level compared, see `gnn_xai.compare`.
        confidence: of the intervals.
        given: the model, the data, and what else metrics were handed.
    """

    algorithms: dict[str, Algorithm]
    metrics: list[str]
    explanations: dict[str, Explanations]
    results: dict[tuple[str, str], tuple[Result, ...]]
    skipped: dict[tuple[str, str], str]
    seconds: dict[str, float]
    reference: str
    seeds: tuple[int, ...]
    level: Literal["edge", "node", "feature"] | None
    confidence: float
    given: dict[str, Any] = field(repr=False)

    @property
    def values(self) -> DataFrame:
        """The value of every instance, for statistics of one's own: `algorithm`, `metric`, `seed`, `index`, `target` and
        `value`, NaN where the metric is not defined.

        Of a metric that is one number θ for all instances (`Result.pooled`), values are the influence of each, θ + B ∂θ/∂wᵢ.
        """
        import pandas as pd

        parts = []
        for (label, metric), results in self.results.items():
            index, target = (getattr(self.explanations[label], name).cpu().numpy() for name in ("index", "target"))
            for seed, result in zip(self.seeds, results, strict=False):  # those that do not depend on it ran once
                columns = {"algorithm": label, "metric": metric, "seed": seed, "index": index, "target": target}
                parts.append(pd.DataFrame({**columns, "value": _mean_over_seeds([result])}))
        return pd.concat(parts, ignore_index=True)

    def to_pandas(self) -> DataFrame:
        """One row for each algorithm and metric.

        Columns: `algorithm`, `metric` and `better` (which direction); `mean` over the `count` instances for which the
        metric is defined (`undefined`: the others), its standard error `stderr`, and `low` and `high`, the ends of its
        bootstrap interval over instances (BCa; Efron 1987); `difference`, the mean of algorithm − Random over the
        `difference_count` instances for which both are defined, with `difference_low` and `difference_high`; `seeds`, how
        many were run, and `seed_std`, the standard deviation of the mean from seed to seed, NaN for one; and `seconds` that
        explaining took. An empty cell of the table is a row of NaN.
        """
        import pandas as pd

        return pd.DataFrame([vars(cell) for cell in self.cells.values()])

    @cached_property
    def cells(self) -> dict[tuple[str, str], Cell]:
        """The rows of `to_pandas`, by algorithm and metric."""
        return {(label, metric): self._cell(label, metric) for label in self.algorithms for metric in self.metrics}

    def _cell(self, label: str, metric: str) -> Cell:
        better = next(results[0].better for (_, name), results in self.results.items() if name == metric)
        cell = Cell(label, metric, better, seconds=self.seconds[label])
        results, random = self.results.get((label, metric)), self.results.get((self.reference, metric))
        if results is None:
            return cell
        values, means = _mean_over_seeds(results), [result.mean for result in results]
        mean = _mean(values, self.confidence, self.seeds[0])
        cell = replace(
            cell,
            **vars(mean),
            undefined=len(values) - mean.count,
            seeds=len(results),
            seed_std=float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        )
        if random is None or label == self.reference:
            return cell
        paired = _mean(values - _mean_over_seeds(random), self.confidence, self.seeds[0])
        return replace(
            cell,
            difference=paired.mean,
            difference_low=paired.low,
            difference_high=paired.high,
            difference_count=paired.count,
        )

    # For reading ######################################################################################################

    @property
    def note(self) -> str:
        """What stands below the table: how it is to be read."""
        instances = len(self.explanations[self.reference])
        over = f"{instances} instance{'s' * (instances != 1)}"
        over += f" and {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
        fewer = any(0 < cell.count < instances for cell in self.cells.values())
        return (
            f"Means over {over} [{100 * self.confidence:g} % bootstrap intervals over instances]"
            f"{'; n: of the instances for which the metric is defined' if fewer else ''}. "
            f"†: better than {self.reference}; the interval of the paired difference leaves out 0."
            f"{f' Metrics compare scores of {self.level}s.' if self.level else ''}"
        )

    def table(self, digits: int = 3) -> DataFrame:
        """The table as text: a row an algorithm, a column a metric, cells such as `0.966† [0.948, 0.981]`; a dash where
        there is no value.
        """
        return self._table(_PLAIN, digits)

    def to_markdown(self, digits: int = 3) -> str:
        """The table in Markdown, the best of each column in bold, with the note below."""
        table = self._table(_MARKDOWN, digits)
        right = ("left", *("right" for _ in self.metrics))
        return f"{table.to_markdown(disable_numparse=True, colalign=right)}\n\n{self.note}\n"

    def to_latex(self, digits: int = 3, caption: str | None = None, label: str | None = None) -> str:
        r"""The table in LaTeX, the best of each column in bold; needs `\usepackage{booktabs}`.

        Args:
            digits: after the decimal point.
            caption: LaTeX; by default the note of how to read the table.
            label: for `\ref`.
        """
        table = self._table(_LATEX, digits)
        table.columns.name = None
        return table.rename_axis(None).style.to_latex(
            hrules=True,
            position_float="centering",
            column_format="l" + "r" * len(self.metrics),
            caption=_LATEX.escape(self.note) if caption is None else caption,
            label=label,
            position="t",
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        table = self._table(_HTML, 3).to_html(escape=False, border=0, justify="right")
        return f"{table}<p>{html.escape(self.note)}</p>"

    def __repr__(self) -> str:
        return f"{self.table().to_string()}\n\n{self.note}"

    def _table(self, form: _Form, digits: int) -> DataFrame:
        import pandas as pd

        cells, instances = self.cells, len(self.explanations[self.reference])
        arrows = {"higher": form.up, "lower": form.down}
        columns = {}
        for metric in self.metrics:
            column = [cells[label, metric] for label in self.algorithms]
            best = max((cell.goodness for cell in column), default=math.nan)
            texts = [cell.text(form, digits, instances, bold=cell.goodness == best) for cell in column]
            columns[f"{form.escape(metric)} {arrows.get(column[0].better, '')}".strip()] = texts
        rows = [form.escape(label) for label in self.algorithms]
        return pd.DataFrame(columns, index=pd.Index(rows, name="algorithm"))

    def draw(self, ax: Axes | Sequence[Axes] | None = None) -> Figure:
        """A panel for each metric: every algorithm's mean and interval, and Random's as a line and a band.

        A full dot is better than Random, as the interval of their paired difference leaves out 0; the others are hollow.

        Args:
            ax: where to draw: one axes a metric; a new figure if `None`.

        Returns:
            The figure, never shown.

        Raises:
            InputError: if there are not as many axes as metrics.
        """
        from gnn_xai.comparison.figures import intervals

        return intervals(self, ax)

    def fidelity_over_sparsity(self, shares: Sequence[float] = SHARES) -> DataFrame:
        """Fidelity+ and fidelity− of the strongest elements of every algorithm, for each share of them that is kept.

        Columns: `algorithm`, `metric`, `better`, `sparsity` (the share left out, mean over instances), `mean`, `stderr`,
        `low`, `high` and `count` as in `to_pandas`. Explanations are those of the first seed; an algorithm that does not
        score the level that is compared has no rows.

        Args:
            shares: of an instance's elements that count as its explanation, ascending, in (0, 1].

        Raises:
            InputError: if `shares` is not as described.
        """
        import pandas as pd

        model, data, forward, budget = (self.given[name] for name in ("model", "data", "forward", "batch_budget"))
        rows = []
        for label, found in self.explanations.items():
            if self.level is not None and getattr(found, "edge_mask" if self.level == "edge" else "node_mask") is None:
                continue
            level = self.level or "both"
            curve = fidelity_curve(model, data, found, top=shares, level=level, forward=forward, batch_budget=budget)
            for name, better, values in (("fidelity+", "higher", curve.plus), ("fidelity−", "lower", curve.minus)):
                for sparsity, column in zip(
                    curve.sparsity.nanmean(0).tolist(), values.cpu().double().numpy().T, strict=True
                ):
                    mean = _mean(column, self.confidence, self.seeds[0])
                    rows.append(
                        {"algorithm": label, "metric": name, "better": better, "sparsity": sparsity, **vars(mean)}
                    )
        return pd.DataFrame(rows)

    def curves(self, ax: Sequence[Axes] | None = None, shares: Sequence[float] = SHARES) -> Figure:
        """A panel each for fidelity+ and fidelity− over sparsity, a line for every algorithm with its interval as a band.

        Args:
            ax: where to draw: two axes; a new figure if `None`.
            shares: as in `fidelity_over_sparsity`.

        Returns:
            The figure, never shown.

        Raises:
            InputError: if there are not two axes, or `shares` is not as described.
        """
        from gnn_xai.comparison.figures import curves

        return curves(self, ax, shares)


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

    def text(self, form: _Form, digits: int, instances: int, *, bold: bool) -> str:
        """What the table says in one format."""
        if math.isnan(self.mean):
            return form.dash
        mean, low, high = (form.number(f"{value:.{digits}f}") for value in (self.mean, self.low, self.high))
        bold = bold and self.goodness > -math.inf
        interval = "" if math.isnan(self.low) else f" [{low}, {high}]"
        fewer = f" (n={self.count})" if 0 < self.count < instances else ""
        return f"{form.bold(mean) if bold else mean}{form.dagger if self.better_than_random else ''}{interval}{fewer}"


# Arithmetic ###########################################################################################################


@dataclass(frozen=True)
class _Mean:
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
    found = need("scipy.stats", "research", "comparisons").bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=rows, confidence_level=confidence, method="BCa", rng=seed
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _mean(values: np.ndarray, confidence: float, seed: int) -> _Mean:
    """The mean over instances for which a metric is defined, with its standard error and its interval."""
    defined = values[~np.isnan(values)]
    count = len(defined)
    return _Mean(
        float(defined.mean()) if count else math.nan,
        float(defined.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan,
        *interval(defined, confidence, seed),
        count,
    )


def _mean_over_seeds(results: Sequence[Result]) -> np.ndarray:
    """Each instance's mean over the seeds for which it is defined, `[B]`."""
    return torch.stack([result.values.detach().double().cpu() for result in results]).nanmean(0).numpy()


# Formats ##############################################################################################################


class _Form(NamedTuple):
    """How a format writes what a table needs."""

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


_PLAIN = _Form(_same, _same, _same, "†", "↑", "↓", "–")
_MARKDOWN = _Form(_escape_markdown, "**{}**".format, _same, "†", "↑", "↓", "–")
_HTML = _Form(html.escape, "<b>{}</b>".format, _same, "†", "↑", "↓", "–")
_LATEX = _Form(
    lambda text: text.translate(_TEX),
    r"\textbf{{{}}}".format,
    lambda number: number.replace("-", "$-$"),
    r"$^\dagger$",
    r"$\uparrow$",
    r"$\downarrow$",
    "--",
)
