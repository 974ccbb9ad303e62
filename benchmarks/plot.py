"""The figure of `benchmarks.speed`: explanations per second against the number of targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.peers import LABELS

# Okabe and Ito's colours, which readers with any colour vision tell apart; markers tell them apart without.
STYLES = {"gnn_xai": ("#0072B2", "o"), "pyg": ("#D55E00", "s"), "pyg_subgraph": ("#009E73", "^")}


def plot_rates(scaling: dict[str, dict[str, Any]], path: Path) -> None:
    """Plot explanations per second against the number of targets, one panel per workload, on logarithmic axes.

    Args:
        scaling: for each workload its `title`, and `rates`: for each package the explanations per second by number of
            targets. If a peer was not run up to the largest number, its last rate is continued as a dashed line.
        path: of the PNG.
    """
    figure = Figure(figsize=(4.8 * len(scaling), 4.4), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(scaling), squeeze=False)[0]
    handles = {}
    for panel, of in zip(panels, scaling.values(), strict=True):
        last = max(int(count) for rates in of["rates"].values() for count in rates)
        for side, rates in of["rates"].items():
            color, marker = STYLES[side]
            counts, values = [int(count) for count in rates], list(rates.values())
            (drawn,) = panel.plot(counts, values, color=color, marker=marker, linewidth=1.8, markersize=6)
            handles[LABELS.get(side, side)] = drawn
            if counts[-1] < last:
                panel.plot([counts[-1], last], [values[-1]] * 2, color=color, linestyle=(0, (4, 3)))
        panel.set(xscale="log", yscale="log", xlabel="number of targets", ylabel="explanations per second")
        panel.set_title(of["title"].replace("`", ""), fontsize=9)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
        panel.grid(which="major", color="#dddddd", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    handles["not run: one at a time, at the same rate"] = Line2D([], [], color="#777777", linestyle="--")
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=2 * len(scaling),
        frameon=False,
        fontsize=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
