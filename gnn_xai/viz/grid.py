"""Several explanations on one sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from gnn_xai._checks import flag, positive_integer
from gnn_xai.errors import InputError
from gnn_xai.viz.captions import explained_nodes
from gnn_xai.viz.color import Scale, add_colorbar
from gnn_xai.viz.layout import stress_layout
from gnn_xai.viz.legend import Handle, distinct, write_legend
from gnn_xai.viz.subgraph import draw_on, drawn_graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gnn_xai.results.explanations import Explanation

PANELS_AT_MOST = 60


def grid(
    explanations: Iterable[Explanation],
    *,
    columns: int = 3,
    titles: Sequence[str] | None = None,
    panel: tuple[float, float] = (4.6, 4.0),
    panel_options: Sequence[dict[str, Any]] | None = None,
    aligned: bool = False,
    **options: Any,
) -> Figure:
    """Draw explanations side by side, one panel each.

    Scores share one scale and so one colour bar; signed attributions have a scale, and a bar, of
    their own. All panels share one legend.

    Args:
        explanations: what to draw: `Explanations`, or any iterable of single ones (of several
            algorithms, say); 60 at most.
        columns: panels in a row.
        titles: one title per panel; by default what `draw` writes.
        panel: width and height of one panel in inches.
        panel_options: options of `draw` for each panel, on top of `options` (a layout per molecule, for
            one).
        aligned: lay explanations of the same instance out alike, so that panels can be compared.
        **options: options of `draw` for every panel.

    Returns:
        The figure, not registered with pyplot: nothing has to be closed, `figure.savefig(path)`
        writes it.

    Raises:
        InputError: nothing to draw, more than 60 panels, or `titles` or `panel_options` of another length.
    """
    from matplotlib.figure import Figure

    positive_integer(columns, "columns")
    flag(aligned, "aligned")
    drawn = list(explanations)
    if not 1 <= len(drawn) <= PANELS_AT_MOST:
        raise InputError(f"expected 1 to {PANELS_AT_MOST} explanations to draw, got {len(drawn)}; pass a slice")
    for name, value in (("titles", titles), ("panel_options", panel_options)):
        if value is not None and len(value) != len(drawn):
            raise InputError(f"expected {name} of length {len(drawn)}, got {len(value)}")

    columns = min(columns, len(drawn))
    rows = -(-len(drawn) // columns)
    shared = not any(e.signed for e in drawn)
    figure = Figure(figsize=(panel[0] * columns + 0.6 * shared, panel[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    chosen = [{"colorbar": not shared, **options, **(own or {})} for own in panel_options or [None] * len(drawn)]
    frames = _align(drawn, chosen) if aligned else {}
    handles: list[Handle] = []
    for i, (explanation, ax) in enumerate(zip(drawn, panels, strict=False)):
        if titles is not None:
            chosen[i]["title"] = titles[i]
        wanted = chosen[i].pop("legend", True)
        entries = draw_on(ax, explanation, **chosen[i])
        handles += entries if wanted else []
        if i in frames:
            ax.update_datalim(frames[i])
            ax.autoscale_view()
    for ax in panels[len(drawn) :]:
        ax.set_axis_off()
    if shared and options.get("colorbar", True):
        add_colorbar(panels, Scale(signed=False, limit=1.0), "mask")
    if handles:
        write_legend(figure, distinct(handles), loc="outside lower center")
    return figure


def _align(drawn: list[Explanation], options: list[dict[str, Any]]) -> dict[int, list[np.ndarray]]:
    """Give explanations of one instance the layout of all that is drawn of it, and return its positions by panel."""
    frames = {}
    explained = [(e.source.explained_type, e.index) for e in drawn]
    for one in set(explained):
        same = [i for i, e in enumerate(drawn) if explained[i] == one and "layout" not in options[i]]
        graph = nx.Graph()
        for i in same:
            chosen = {name: options[i].get(name) for name in ("top", "directed")}
            graph.update(nx.Graph(drawn_graph(drawn[i], **chosen)))
        layout = stress_layout(graph, first=next(iter(explained_nodes(drawn[same[0]])), None)) if same else {}
        for i in same:
            options[i]["layout"], frames[i] = layout, list(layout.values())
    return frames
