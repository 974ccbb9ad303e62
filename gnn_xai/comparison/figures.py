"""A comparison of algorithms as figures: means with their intervals, and fidelity over sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gnn_xai.errors import InputError
from gnn_xai.viz.color import FAINT_TEXT, NEUTRAL_EDGE, NODE_OUTLINE, SERIES, TEXT
from gnn_xai.viz.text import drawable, entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from gnn_xai.comparison.cells import Cell

COLUMNS = 4
DASHES = (0, (4, 3))
MARKERS = "osD^vPX"
BETTER = {"higher": "higher is better →", "lower": "← lower is better"}
GRID = "#eceff2"


def intervals(cells: Mapping[str, Sequence[Cell]], reference: str, ax: Axes | Sequence[Axes] | None = None) -> Figure:
    """A panel for each metric; see `gnn_xai.Comparison.draw`.

    Args:
        cells: the cells of all algorithms, by metric.
        reference: the label of Random.
        ax: one axes for each metric; a new figure if `None`.
    """
    labels = [cell.algorithm for cell in next(iter(cells.values()))]
    rows = -(-len(cells) // COLUMNS)
    columns = -(-len(cells) // rows)
    size = (0.075 * max(map(len, labels)) + 2.5 * columns, rows * (1.05 + 0.27 * len(labels)) + 0.35)
    figure, panels = _axes(ax, len(cells), rows, columns, size)
    for column, panel in zip(cells.values(), panels, strict=True):
        _panel(column, reference, panel)
        if ax is None and not panel.get_subplotspec().is_first_col():
            panel.tick_params(labelleft=False)
    if ax is None:
        _legend(figure, reference)
    return figure


def curves(table: DataFrame, labels: Sequence[str], reference: str, ax: Sequence[Axes] | None) -> Figure:
    """Fidelity over sparsity; see `gnn_xai.Comparison.curves`.

    Args:
        table: `Comparison.fidelity_over_sparsity`.
        labels: all algorithms, which says what colour each has.
        reference: the label of Random.
        ax: two axes; a new figure if `None`.
    """
    figure, panels = _axes(ax, 2, 1, 2, (8.6, 3.4))
    others = [label for label in labels if label != reference]
    for (metric, rows), panel in zip(table.groupby("metric", sort=False), panels, strict=True):
        for label, line in rows.groupby("algorithm", sort=False):
            if label == reference:
                style: dict[str, Any] = {"color": NEUTRAL_EDGE, "linestyle": DASHES}
            else:
                place = others.index(str(label))
                style = {"color": SERIES[place % len(SERIES)], "marker": MARKERS[place % len(MARKERS)]}
            panel.plot(line["sparsity"], line["mean"], label=entry(label), markersize=4, linewidth=1.6, **style)
            panel.fill_between(
                line["sparsity"], line["low"], line["high"], color=style["color"], alpha=0.1, linewidth=0
            )
        panel.set_ylabel(BETTER[rows["better"].iloc[0]], fontsize=8, color=FAINT_TEXT)
        panel.set_xlabel("sparsity: share of elements left out of the explanation", fontsize=8, color=FAINT_TEXT)
        panel.tick_params(length=2.5, labelsize=8, color=NODE_OUTLINE, labelcolor=FAINT_TEXT)
        _dress(panel, str(metric))
    if ax is None:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=8.5, labelcolor=TEXT)
    return figure


def _axes(ax: Any, count: int, rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Any]]:
    """The user's axes with their figure, or those of a new one.

    Raises:
        InputError: if there are not as many as are needed.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if ax is None:
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        every = list(figure.subplots(rows, columns, squeeze=False).flat)
        for unused in every[count:]:
            unused.set_axis_off()
        return figure, every[:count]
    panels = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(panels) != count:
        raise InputError(f"expected {count} axes, one for each metric, got {len(panels)}")
    return panels[0].figure, panels


def _panel(cells: Sequence[Cell], reference: str, ax: Axes) -> None:
    """One metric: a row for each algorithm."""
    random = next(cell for cell in cells if cell.algorithm == reference)
    if random.count:
        ax.axvspan(random.low, random.high, color=NEUTRAL_EDGE, alpha=0.16, linewidth=0, zorder=0)
        ax.axvline(random.mean, color=NEUTRAL_EDGE, linewidth=1.2, linestyle=DASHES, zorder=1)
    for row, cell in enumerate(cells):
        if not cell.count:
            _nothing(ax, row, "not measured" if not cell.undefined else "undefined")
            continue
        color = NEUTRAL_EDGE if cell is random else SERIES[0]
        ax.hlines(row, cell.low, cell.high, color=color, linewidth=2, zorder=2)
        inside = color if cell.better_than_random or cell is random else "white"
        ax.plot(cell.mean, row, "o", markersize=6.5, color=color, markerfacecolor=inside, markeredgewidth=1.6, zorder=3)
    ax.set_yticks(range(len(cells)), [drawable(cell.algorithm) for cell in cells], fontsize=9, color=TEXT)
    ax.set_ylim(len(cells) - 0.45, -0.55)
    ax.set_xlabel(BETTER.get(random.better, ""), fontsize=8, color=FAINT_TEXT)
    ax.margins(x=0.08)
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(length=2.5, labelsize=8, color=NODE_OUTLINE, labelcolor=FAINT_TEXT, axis="x")
    ax.tick_params(length=0, axis="y")
    _dress(ax, random.metric)
    ax.spines["left"].set_visible(False)


def _nothing(ax: Axes, row: int, why: str) -> None:
    """Write why a row has no dot."""
    ax.annotate(
        why,
        (0.5, row),
        xycoords=("axes fraction", "data"),
        ha="center",
        va="center",
        fontsize=7.5,
        style="italic",
        color=FAINT_TEXT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )


def _dress(ax: Axes, title: str) -> None:
    """Title, grid and spines, the same on all panels."""
    ax.set_title(drawable(title), loc="left", fontsize=10, color=TEXT)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(NODE_OUTLINE)


def _legend(figure: Figure, reference: str) -> None:
    """A legend of full dots, hollow dots and the dashed line."""
    from matplotlib.lines import Line2D

    dot = {"color": SERIES[0], "marker": "o", "markersize": 6, "linewidth": 2, "markeredgewidth": 1.6}
    kinds = {
        f"better than {reference}, pair by pair": Line2D([], [], **dot),
        f"not shown to be better than {reference}": Line2D([], [], markerfacecolor="white", **dot),
        reference: Line2D([], [], color=NEUTRAL_EDGE, linewidth=1.2, linestyle=DASHES),
    }
    figure.legend(
        list(kinds.values()),
        list(map(entry, kinds)),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
        labelcolor=FAINT_TEXT,
    )
