"""A comparison of algorithms: a table of means with intervals over instances, and its formats."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gnn_xai.algorithms.base import Algorithm
from gnn_xai.comparison.cells import HTML, LATEX, MARKDOWN, PLAIN, Cell, Form, mean_of, mean_over_seeds
from gnn_xai.core.engines.handed_in import prepared_for
from gnn_xai.metrics.curves import fidelity_curve
from gnn_xai.metrics.result import Result
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.tables import arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

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
        inputs: the model, the data, and the other arguments of metrics.
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
    inputs: dict[str, Any] = field(repr=False)

    @property
    def values(self) -> DataFrame:
        """The value of every instance, for statistics of one's own: `algorithm`, `metric`, `seed`, `index`, `target` and
        `value`, NaN where the metric is not defined. Pairs of nodes have `index_0` and `index_1`.

        Of a metric that is one number θ for all instances (`Result.pooled`), values are the influence of each, θ + B ∂θ/∂wᵢ.
        """
        import pandas as pd

        parts = []
        for (label, metric), results in self.results.items():
            instances = arrays({name: getattr(self.explanations[label], name) for name in ("index", "target")})
            for seed, result in zip(self.seeds, results, strict=False):  # those that do not depend on it ran once
                columns = {"algorithm": label, "metric": metric, "seed": seed, **instances}
                parts.append(pd.DataFrame({**columns, "value": mean_over_seeds([result])}))
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
        values, means = mean_over_seeds(results), [result.mean for result in results]
        mean = mean_of(values, self.confidence, self.seeds[0])
        cell = replace(
            cell,
            **vars(mean),
            undefined=len(values) - mean.count,
            seeds=len(results),
            seed_std=float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        )
        if random is None or label == self.reference:
            return cell
        paired = mean_of(values - mean_over_seeds(random), self.confidence, self.seeds[0])
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
        """The note below the table: how to read it."""
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
        return self._table(PLAIN, digits)

    def to_markdown(self, digits: int = 3) -> str:
        """The table in Markdown, the best of each column in bold, with the note below."""
        table = self._table(MARKDOWN, digits)
        right = ("left", *("right" for _ in self.metrics))
        return f"{table.to_markdown(disable_numparse=True, colalign=right)}\n\n{self.note}\n"

    def to_latex(self, digits: int = 3, caption: str | None = None, label: str | None = None) -> str:
        r"""The table in LaTeX, the best of each column in bold; needs `\usepackage{booktabs}`.

        Args:
            digits: after the decimal point.
            caption: LaTeX; by default the note of how to read the table.
            label: for `\ref`.
        """
        table = self._table(LATEX, digits)
        table.columns.name = None
        return table.rename_axis(None).style.to_latex(
            hrules=True,
            position_float="centering",
            column_format="l" + "r" * len(self.metrics),
            caption=LATEX.escape(self.note) if caption is None else caption,
            label=label,
            position="t",
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        table = self._table(HTML, 3).to_html(escape=False, border=0, justify="right")
        return f"{table}<p>{html.escape(self.note)}</p>"

    def __repr__(self) -> str:
        return f"{self.table().to_string()}\n\n{self.note}"

    def _table(self, form: Form, digits: int) -> DataFrame:
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
        from gnn_xai.comparison import figures

        rows = {metric: [self.cells[label, metric] for label in self.algorithms] for metric in self.metrics}
        return figures.intervals(rows, self.reference, ax)

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

        model, data, prepared, budget = (self.inputs[name] for name in ("model", "data", "prepared", "batch_budget"))
        if prepared is None:
            first = self.explanations[self.reference]
            task, forward = first.task, self.inputs["forward"]
            asked = {"task": task, "of_type": first.explained_type, "forward": forward, "index": first.index.t()}
            asked["exclude_pair"] = first.provenance.get("exclude_pair", False)
            prepared = prepared_for(model, data, **asked, batch_budget=budget)
        rows = []
        for label, explanations in self.explanations.items():
            if (
                self.level is not None
                and getattr(explanations, "edge_mask" if self.level == "edge" else "node_mask") is None
            ):
                continue
            level = self.level or "both"
            curve = fidelity_curve(prepared, explanations, top=shares, level=level, batch_budget=budget)
            for name, better, values in (("fidelity+", "higher", curve.plus), ("fidelity−", "lower", curve.minus)):
                for sparsity, column in zip(
                    curve.sparsity.nanmean(0).tolist(), values.cpu().double().numpy().T, strict=True
                ):
                    mean = mean_of(column, self.confidence, self.seeds[0])
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
        from gnn_xai.comparison import figures

        return figures.curves(self.fidelity_over_sparsity(shares), list(self.algorithms), self.reference, ax)
