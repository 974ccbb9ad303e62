"""What drives the predictions of a data set: fragments by their mean contribution over all molecules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gnn_xai._checks import positive_integer
from gnn_xai.errors import InputError
from gnn_xai.molecules.fragments import Kind, fragments
from gnn_xai.molecules.tables import pandas
from gnn_xai.optional import need

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from gnn_xai.molecules.drawing import Drawing
    from gnn_xai.results.explanations import Explanation

COLUMNS = ["kind", "name", "molecules", "occurrences", "mean", "spread", "p_value", "p_adjusted", "lowest", "highest"]


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """Fragments of a data set by their contributions.

    Attributes:
        values: one row for each fragment of each molecule: `molecule` (position), `kind`, `name`, `atoms`, `attribution`.
        explanations: what was summarised.
        permutations: of the test.
        seed: of the permutations.
    """

    values: pd.DataFrame
    explanations: list[Explanation]
    permutations: int
    seed: int
    _table: pd.DataFrame

    def __repr__(self) -> str:
        return f"Summary({len(self._table)} fragments of {len(self.explanations)} molecules)"

    def table(self) -> pd.DataFrame:
        """One row for each fragment, the strongest mean first.

        Columns: `kind`, `name`; `molecules` that have it and `occurrences` in all of them; `mean` of its contribution to a
        molecule (its occurrences are added up for attributions, averaged for masks), and the `spread` over molecules
        (standard deviation); `p_value`, see `summary`, and `p_adjusted` (Benjamini and Hochberg 1995); `lowest` and
        `highest`, the positions of the molecules where it contributes least and most.
        """
        return self._table.copy()

    def examples(self, name: str, count: int = 3) -> list[Explanation]:
        """The explanations of molecules in which a fragment contributes most, by absolute value.

        Raises:
            InputError: no molecule has such a fragment.
        """
        positive_integer(count, "count")
        own = self.values[self.values["name"] == name]
        if not len(own):
            known = ", ".join(map(repr, self._table["name"].head(5)))
            raise InputError(f"expected the name of a fragment of these molecules, such as {known}, got {name!r}")
        total = own.groupby("molecule")["attribution"].sum().abs().sort_values(ascending=False, kind="stable")
        return [self.explanations[int(number)] for number in total.index[:count]]

    def draw(self, most: int = 20, ax: Axes | None = None) -> Axes:
        """The strongest fragments as bars with the spread over molecules; hollow ones are not told from chance (adjusted
        p ≥ 0.05).

        Args:
            most: bars.
            ax: where to draw; by default a figure of its own.
        """
        import matplotlib.pyplot as plt

        from gnn_xai.molecules.canvas import BLUE, ORANGE
        from gnn_xai.viz.color import FAINT_TEXT, TEXT

        rows = self._table.head(most).iloc[::-1]
        if ax is None:
            _, ax = plt.subplots(figsize=(7.0, 1.2 + 0.32 * len(rows)), layout="constrained")
        assert ax is not None
        for place, (_, row) in enumerate(rows.iterrows()):
            color = ORANGE if row["mean"] > 0 else BLUE
            sure = bool(row["p_adjusted"] < 0.05)
            ax.barh(place, row["mean"], color=color if sure else "white", edgecolor=color, height=0.7)
            ax.errorbar(row["mean"], place, xerr=row["spread"], color=FAINT_TEXT, linewidth=1, capsize=2)
        ax.set_yticks(
            range(len(rows)),
            [f"{name}  ({count})" for name, count in zip(rows["name"], rows["molecules"], strict=True)],
        )
        ax.axvline(0, color=TEXT, linewidth=0.8)
        ax.set_xlabel("mean contribution ± spread over molecules (number of molecules)")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        return ax

    def sheet(self, most: int = 8, examples: int = 3, class_names: Sequence[str] | None = None) -> Drawing:
        """Examples of the strongest fragments, a row each, in which they are circled.

        Args:
            most: fragments.
            examples: molecules of each.
            class_names: as in `gnn_xai.molecules.draw`.
        """
        from gnn_xai.molecules.drawing import grid

        shown: list[Explanation] = []
        marks: list[list[int]] = []
        for name in self._table["name"].head(most):
            own = self.values[self.values["name"] == name]
            for e in self.examples(name, examples):
                position = next(i for i, each in enumerate(self.explanations) if each is e)
                shown.append(e)
                marks.append(
                    sorted({atom for atoms in own.loc[own["molecule"] == position, "atoms"] for atom in atoms})
                )
        return grid(shown, examples, marks=marks, class_names=class_names)

    def _repr_html_(self) -> str:
        return self._table.to_html(float_format="{:.3g}".format)


def summary(
    explanations: Iterable[Explanation],
    kinds: Kind | Iterable[Kind] = ("functional_groups", "rings"),
    *,
    least: int = 3,
    permutations: int = 2000,
    seed: int = 0,
) -> Summary:
    """Summarise what drives a data set: which fragments raise and lower the explained output, over all molecules.

    The p-value is that of a permutation test (SciPy): how often a mean at least as far from the mean of all fragments of its
    kind arises where contributions are dealt out at random to the same number of molecules. With few molecules nothing is
    small; the smallest possible value is 1 / (permutations + 1).

    Args:
        explanations: of molecules, of one output: `Explanations`, or an iterable of single ones.
        kinds: what to cut molecules by, one or more of `gnn_xai.molecules.cut`.
        least: molecules that a fragment is in, to be listed.
        permutations: of the test.
        seed: of the permutations.

    Raises:
        GnnXaiError: RDKit, pandas or SciPy is not installed.
        InputError: nothing to summarise, explanations of several outputs, or as in `gnn_xai.molecules.fragments`.
    """
    positive_integer(least, "least")
    positive_integer(permutations, "permutations")
    shown = list(explanations)
    if not shown:
        raise InputError("expected at least one explanation to summarise, got none")
    targets = sorted({e.target for e in shown})
    if len(targets) > 1:
        raise InputError(
            f"expected explanations of one output, got those of {', '.join(map(str, targets))}; pass target= to explain"
        )
    wanted: list[Any] = [kinds] if isinstance(kinds, str) else list(kinds)
    parts = []
    for number, e in enumerate(shown):
        part = fragments(e, wanted)
        part.insert(0, "molecule", number)
        parts.append(part)
    values = pandas().concat(parts, ignore_index=True)
    table = _tabulated(values, shown[0].signed, least, permutations, seed)
    return Summary(values, shown, permutations, seed, table)


def _tabulated(values: pd.DataFrame, signed: bool, least: int, permutations: int, seed: int) -> pd.DataFrame:
    """The table of `Summary.table`."""
    stats = need("scipy.stats", "research", "p-values")
    how = "sum" if signed else "mean"
    by_molecule = (
        values.groupby(["kind", "name", "molecule"], sort=False)["attribution"].agg([how, "size"]).reset_index()
    )
    rows = []
    for _, own in by_molecule.groupby(["kind", "name"], sort=False):
        if len(own) < least:
            continue
        kind, name = own["kind"].iloc[0], own["name"].iloc[0]
        contributions = own[how].to_numpy(dtype=float)
        order = np.argsort(contributions, kind="stable")
        molecules = own["molecule"].to_numpy()
        others = by_molecule.loc[(by_molecule["kind"] == kind) & (by_molecule["name"] != name), how].to_numpy(
            dtype=float
        )
        rows.append(
            {
                "kind": kind,
                "name": name,
                "molecules": len(own),
                "occurrences": int(own["size"].sum()),
                "mean": contributions.mean(),
                "spread": contributions.std(ddof=1) if len(own) > 1 else 0.0,
                "p_value": _p_value(stats, contributions, others, permutations, seed),
                "lowest": int(molecules[order[0]]),
                "highest": int(molecules[order[-1]]),
            }
        )
    table = pandas().DataFrame(rows, columns=[name for name in COLUMNS if name != "p_adjusted"])
    adjusted = stats.false_discovery_control(table["p_value"]) if len(table) else []
    table.insert(COLUMNS.index("p_adjusted"), "p_adjusted", adjusted)
    return table.sort_values("mean", key=abs, ascending=False, kind="stable", ignore_index=True)


def _p_value(stats: Any, own: np.ndarray, others: np.ndarray, permutations: int, seed: int) -> float:
    """Two-sided, of the difference of means; 1 where there is too little to compare."""
    if min(len(own), len(others)) < 2:
        return 1.0

    def gap(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.mean(axis) - b.mean(axis)

    test = stats.permutation_test(
        (own, others), gap, vectorized=True, n_resamples=permutations, alternative="two-sided", rng=seed, batch=100
    )
    return float(test.pvalue)
