"""One explanation as a drawing of its graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.patheffects import withStroke

from gnn_xai._checks import flag, one_of
from gnn_xai.errors import InputError
from gnn_xai.viz.bending import MARGIN, bends_of
from gnn_xai.viz.captions import caption, explained_nodes
from gnn_xai.viz.color import (
    FAINT_TEXT,
    MARK,
    NEUTRAL_EDGE,
    RING,
    TEXT,
    Scale,
    add_colorbar,
    class_color,
    ink_on,
)
from gnn_xai.viz.edits import DASHES, DOUBLED, Edges, edited, note_of_edits
from gnn_xai.viz.kinds import Kind, kind_of, kinds, line_styles, look_up
from gnn_xai.viz.layout import stress_layout
from gnn_xai.viz.legend import Handle, class_handles, relation_handles, type_handles, write_legend
from gnn_xai.viz.lines import Line, lines_of, own_scores, relations_of, select
from gnn_xai.viz.text import drawable, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gnn_xai.core.graphs.types import EdgeType
    from gnn_xai.results.explanations import Explanation

Layout = Callable[[nx.Graph], Mapping] | Mapping[Any, Any] | np.ndarray
Labels = bool | Mapping[Any, Any] | Sequence[object] | Callable[[Any], object]

THIN, THICK = 1.0, 5.0  # line widths in points, at weight 0 and at the end of the scale
NAMES_ON_LINES = 6  # lines that have the name of their relation beside them; of more, the legend lists relations
SMALLEST, LARGEST = 5.5, 11.0  # fonts of labels inside their nodes
RING_GAP = 7.0  # how much wider than its node the ring is, in points


def draw(
    explanation: Explanation,
    ax: Axes | None = None,
    *,
    top: int | None = None,
    layout: Layout | None = None,
    node_labels: Labels = True,
    node_classes: Mapping[Any, Any] | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    mark: Collection[Any] = (),
    directed: bool | None = None,
    title: str | None = None,
    colorbar: bool = True,
    legend: bool = True,
) -> Axes:
    """Draw the graph of one explanation; colour and width of a line both say its weight.

    Scores use one fixed scale from 0 to 1, so that two drawings can be compared. Signed attributions
    use a diverging scale from -max|a| to +max|a|: red raises the explained output, blue lowers it.
    Edges that a counterfactual removes are dashed, those that it adds doubled. The explained node, or
    both of an explained pair, have a ring. The figure is never shown or saved:
    that is the caller's.

    In a heterogeneous graph every node type has a shape and a colour of its own: nodes without scores
    are filled with it, others are outlined with it. A few lines have the name of their relation beside
    them; of more, the legend lists them. Nodes are `(type, id)` in all arguments and results, and mappings by
    node may also be by type, then by id.

    Args:
        explanation: one instance, `explanations[i]`.
        ax: where to draw; a new figure's axes if None.
        top: how many lines to draw, the strongest by absolute score (60 by default, 2000 at most);
            where only nodes have scores, how many nodes. The subtitle says when something was left
            out.
        layout: positions by original node id (a mapping or an array [N, 2]), or a function from a
            networkx graph to such positions. By default distances in the drawing follow those in
            the graph.
        node_labels: True for original node ids, False for none, or labels by node id (mapping,
            sequence or function); for some types of a heterogeneous graph, `{type: [labels]}`.
        node_classes: class of each node by original id (mapping or sequence); fills nodes that
            carry no score.
        class_names: names of the model's outputs (and of `node_classes`), for the title and the
            legend.
        mark: nodes to outline in bold, by original id: the true ones of a benchmark, say.
        directed: whether an edge without a reverse is an arrow; None: it is one unless the data has
            both directions of every edge. Two directions with different scores are two arrows;
            with False, one line for the stronger.
        title: replaces the first line, which names the instance and the predicted class.
        colorbar: whether to draw the scale beside the graph.
        legend: whether to name node classes, or node types and relations, below the graph.

    Returns:
        The axes that were drawn on; `ax.figure` is the figure.

    Raises:
        InputError: `top` is not in 1..2000, `layout` lacks a node, or `class_names` a class.
    """
    flag(legend, "legend")
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    handles = draw_on(
        ax,
        explanation,
        top=top,
        layout=layout,
        node_labels=node_labels,
        node_classes=node_classes,
        class_names=class_names,
        mark=mark,
        directed=directed,
        title=title,
        colorbar=colorbar,
    )
    if legend and handles:
        write_legend(ax, handles)
    return ax


def draw_on(
    ax: Axes,
    explanation: Explanation,
    *,
    top: int | None = None,
    layout: Layout | None = None,
    node_labels: Labels = True,
    node_classes: Any = None,
    class_names: Sequence[str] | None = None,
    mark: Collection[Any] = (),
    directed: bool | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> list[Handle]:
    """`draw` on some axes without a legend; returns what the legend says."""
    one_of(directed, "directed", (None, True, False))
    flag(colorbar, "colorbar")
    every_line, scores = lines_of(explanation, directed), own_scores(explanation)
    lines, nodes, left_out = select(explanation, every_line, scores, top)
    lines, removed, added = edited(explanation, lines, every_line)
    roots, graph = explained_nodes(explanation), _as_graph(lines, nodes)
    positions = _positions(graph, layout, roots)

    # The scale is that of the whole explanation, whatever is drawn of it.
    line_scale = node_scale = None
    if explanation.edge_mask is not None and every_line:
        line_scale = Scale.of(np.array([line.score for line in every_line]), explanation.signed, explanation.one_sided)
    if scores:
        node_scale = Scale.of(np.array(list(scores.values())), explanation.signed, explanation.one_sided)

    looks, styles = kinds(explanation.source.types), line_styles(relations_of(explanation))
    sizes = _sizes(ax, graph, looks)
    ringed = {node: (np.sqrt(sizes[node]) + RING_GAP) ** 2 for node in roots}
    _draw_lines(ax, lines, positions, line_scale, {**sizes, **ringed}, looks, styles, (removed, added))
    fills = _fills(graph, scores, node_scale, node_classes, looks)
    _draw_nodes(ax, positions, fills, sizes, looks, mark)
    for node, size in ringed.items():
        shape = {"marker": looks[kind_of(node)].marker, "s": size, "linewidths": 2.2, "zorder": 4}
        ax.scatter(*positions[node], facecolors="none", edgecolors=RING, **shape)
    _draw_labels(ax, positions, node_labels, fills, sizes, looks, ringed)

    headline, asked = caption(explanation, class_names)
    notes = (str(explanation.source.algorithm.get("name", "")), asked, left_out, note_of_edits(explanation))
    _write_title(ax, title or headline, " · ".join(filter(None, notes)))
    ax.set_axis_off()
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(MARGIN)
    if colorbar:
        _colorbars(ax, line_scale, node_scale)
    return _handles(graph, lines, None if scores else node_classes, class_names, looks, styles, bool(scores))


def drawn_graph(explanation: Explanation, *, top: int | None = None, directed: bool | None = None) -> nx.MultiDiGraph:
    """The nodes and lines that `draw` shows for the same arguments, in original ids; `(type, id)` in a heterogeneous graph.

    Raises:
        InputError: `top` is not in 1..2000.
    """
    lines = lines_of(explanation, directed)
    return _as_graph(*select(explanation, lines, own_scores(explanation), top)[:2])


def _as_graph(lines: list[Line], nodes: list[Any]) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((line.u, line.v) for line in lines)
    return graph


def _positions(graph: nx.Graph, layout: Any, roots: list[Any]) -> dict[Any, np.ndarray]:
    if layout is None:
        return stress_layout(graph, first=roots[0] if roots else None)
    positions: Any = layout(nx.Graph(graph)) if callable(layout) else layout
    missing = [node for node in graph if not _has(positions, node)]
    if missing:
        raise InputError(
            f"expected a position for every drawn node, got none for {missing[:5]}; "
            "layout maps original node ids to (x, y)"
        )
    return {node: np.asarray(look_up(positions, node), dtype=float)[:2] for node in graph}


def _has(table: Any, node: Any) -> bool:
    try:
        look_up(table, node)
    except (KeyError, IndexError):
        return False
    return True


def _sizes(ax: Axes, graph: nx.Graph, looks: dict[str, Kind]) -> dict[Any, float]:
    """Area of each node in square points: all nodes together cover about a fifteenth of the axes."""
    box = np.asarray(ax.get_window_extent().size) * 72 / ax.figure.dpi
    size = float(np.clip(0.07 * box.prod() / max(len(graph), 1), 70, 420))
    return {node: size * looks[kind_of(node)].area for node in graph}


def _draw_lines(
    ax: Axes,
    lines: list[Line],
    positions: dict[Any, np.ndarray],
    scale: Scale | None,
    sizes: dict[Any, float],
    looks: dict[str, Kind],
    styles: dict[EdgeType | None, Any],
    edits: tuple[Edges, Edges],
) -> None:
    lines = sorted(lines, key=lambda line: abs(line.score))  # strong ones on top
    score = np.array([line.score for line in lines])
    if scale is None:
        colors, widths = np.tile(to_rgba(NEUTRAL_EDGE), (len(lines), 1)), np.full(len(lines), THIN)
    else:
        colors, widths = scale.colors(score), THIN + (THICK - THIN) * scale.strength(score)
    bends = bends_of(ax, lines, positions, sizes)
    for i, line in enumerate(lines):
        # One call for each line: networkx gives every edge of one call the same arrow head.
        style = "-|>" if line.arrow else "-"
        patches = nx.draw_networkx_edges(
            nx.DiGraph([(line.u, line.v)]),
            positions,
            ax=ax,
            arrows=True,
            arrowstyle=f"{style},head_length=0.5,head_width=0.26" if line.arrow else style,
            arrowsize=6.0 + 2.6 * widths[i],
            connectionstyle=f"arc3,rad={bends[i]}",
            edge_color=[colors[i]],
            width=widths[i],
            nodelist=[line.u, line.v],
            node_size=[sizes[line.u], sizes[line.v]],
            node_shape=looks[kind_of(line.v)].marker,
        )
        for patch in patches:
            patch.set(capstyle="butt", joinstyle="miter", zorder=1 + i / len(lines), linestyle=styles[line.relation])
            if (line.u, line.v, line.relation) in edits[0]:
                patch.set(linestyle=DASHES, linewidth=max(float(widths[i]), 2.2))
            elif (line.u, line.v, line.relation) in edits[1]:
                patch.set(path_effects=DOUBLED)
    if len(lines) <= NAMES_ON_LINES:
        for line, bend, width in zip(lines, bends, widths, strict=True):
            _write_name(ax, line, positions, bend, float(width))


def _write_name(ax: Axes, line: Line, positions: dict[Any, np.ndarray], bend: float, width: float) -> None:
    """The name of a line's relation along it, on the outer side of its bow."""
    if line.relation is None or line.u == line.v:
        return
    start, end = positions[line.u], positions[line.v]
    across = end - start
    aside = np.array([across[1], -across[0]])
    middle = (start + end) / 2 + bend / 2 * aside
    outwards = np.sign(bend) if bend else np.sign(aside[1]) or 1.0  # above a straight line
    offset = outwards * aside / max(float(np.linalg.norm(aside)), 1e-9) * (width / 2 + 6.0)
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    ax.annotate(
        drawable(line.relation[1]),
        (float(middle[0]), float(middle[1])),
        (float(offset[0]), float(offset[1])),
        textcoords="offset points",
        ha="center",
        va="center",
        rotation=(angle + 90) % 180 - 90,  # never upside down
        rotation_mode="anchor",
        fontsize=7.5,
        color=TEXT,
        path_effects=[withStroke(linewidth=2.0, foreground="white")],
        zorder=2.5,
    )


def _fills(
    graph: nx.Graph, scores: dict[Any, float], scale: Scale | None, node_classes: Any, looks: dict[str, Kind]
) -> dict[Any, Any]:
    """The colour that fills each node: its score, else its class, else its type."""
    nodes = list(graph)
    if scale is not None:
        return dict(zip(nodes, scale.colors(np.array([scores[node] for node in nodes])), strict=True))
    fills = {node: to_rgba(looks[kind_of(node)].fill) for node in nodes}
    if node_classes is not None:
        with_class = [node for node in nodes if _has(node_classes, node)]
        fills |= {node: to_rgba(class_color(int(look_up(node_classes, node)))) for node in with_class}
    return fills


def _draw_nodes(
    ax: Axes,
    positions: dict[Any, np.ndarray],
    fills: dict[Any, Any],
    sizes: dict[Any, float],
    looks: dict[str, Kind],
    mark: Collection[Any],
) -> None:
    """Draw the shapes, type by type."""
    marked = set(mark)
    for name, look in looks.items():
        nodes = [node for node in fills if kind_of(node) == name]
        if not nodes:
            continue
        spots, bold = np.array([positions[node] for node in nodes]), [node in marked for node in nodes]
        width = 1.5 if name else 0.8  # the outline says the type
        ax.scatter(
            spots[:, 0],
            spots[:, 1],
            s=[sizes[node] for node in nodes],
            c=[fills[node] for node in nodes],
            marker=look.marker,
            edgecolors=[MARK if of_truth else look.outline for of_truth in bold],
            linewidths=[2.0 if of_truth else width for of_truth in bold],
            clip_on=False,  # the margin holds them, unless labels take it
            zorder=3,
        )


def _draw_labels(
    ax: Axes,
    positions: dict[Any, np.ndarray],
    node_labels: Labels,
    fills: dict[Any, Any],
    sizes: dict[Any, float],
    looks: dict[str, Kind],
    ringed: dict[Any, float],
) -> None:
    """Labels inside their nodes, all of a type in one size, or below them where they would be too small to read."""
    if node_labels is False:
        return
    texts = {node: drawable(_label(node, node_labels)) for node in fills}
    # A digit is about 0.64 em wide.
    fonts = {
        node: 0.95 * looks[kind_of(node)].room * np.sqrt(sizes[node]) / (0.64 * max(len(text), 1.7))
        for node, text in texts.items()
    }
    inside: dict[str, float] = {}
    for node, font in fonts.items():
        if font >= SMALLEST:
            inside[kind_of(node)] = min(inside.get(kind_of(node), LARGEST), font)
    for node, text in texts.items():
        spot = (float(positions[node][0]), float(positions[node][1]))
        if fonts[node] >= SMALLEST:
            size, ink = inside[kind_of(node)], ink_on(fills[node])
            ax.annotate(text, spot, ha="center", va="center", fontsize=size, color=ink, zorder=5)
        else:
            below = (0.0, -np.sqrt(ringed.get(node, sizes[node])) / 2 - 1.5)
            ax.annotate(
                text, spot, below, textcoords="offset points", ha="center", va="top", fontsize=8, color=TEXT,
                path_effects=[withStroke(linewidth=2.0, foreground="white")], zorder=5,
            )  # fmt: skip


def _label(node: Any, node_labels: Labels) -> str:
    """The text of a node: its id, or what the user calls it."""
    own = str(node[1]) if isinstance(node, tuple) else str(node)
    if isinstance(node_labels, bool):
        return own
    if callable(node_labels):
        return str(node_labels(node))
    if _has(node_labels, node):
        return str(look_up(node_labels, node))
    # Labels of some types leave the others their ids.
    named = isinstance(node, tuple) and isinstance(node_labels, Mapping) and node[0] in node_labels
    return own if isinstance(node, tuple) and not named else ""


def _handles(
    graph: nx.Graph,
    lines: list[Line],
    node_classes: Any,
    class_names: Sequence[str] | None,
    looks: dict[str, Kind],
    styles: dict[EdgeType | None, Any],
    scored: bool,
) -> list[Handle]:
    """The legend's entries: node types, classes, and relations that no line is labelled with."""
    handles: list[Handle] = []
    present = {kind_of(node) for node in graph}
    handles += type_handles([look for name, look in looks.items() if name and name in present], filled=not scored)
    if node_classes is not None:
        classes = sorted({int(look_up(node_classes, node)) for node in graph if _has(node_classes, node)})
        handles += class_handles(classes, class_names)
    if len(lines) > NAMES_ON_LINES:
        drawn = {line.relation: line.arrow for line in lines if line.relation is not None}
        handles += relation_handles(sorted(drawn.items()), styles, looks, filled=not scored)
    return handles


def _write_title(ax: Axes, title: str, subtitle: str) -> None:
    """A title and a line below it, both broken where the axes are too narrow."""
    width = float(ax.get_window_extent().width) * 72 / ax.figure.dpi
    title, subtitle = wrapped(drawable(title), width, 10.5), wrapped(drawable(subtitle), width, 8.5)
    lines = subtitle.count("\n") + 1 if subtitle else 0
    ax.set_title(title, loc="left", fontsize=10.5, color=TEXT, pad=9 + 11 * lines)
    if subtitle:
        ax.annotate(
            subtitle, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points",
            ha="left", va="bottom", fontsize=8.5, color=FAINT_TEXT,
        )  # fmt: skip


def _colorbars(ax: Axes, line_scale: Scale | None, node_scale: Scale | None) -> None:
    """One bar where edges and nodes share a scale, else one each."""
    kind = {True: "attribution", False: "mask"}
    if line_scale is not None and line_scale == node_scale:
        bars = [(line_scale, kind[line_scale.signed])]
    else:
        named = (("edge", line_scale), ("node", node_scale))
        bars = [(scale, f"{what} {kind[scale.signed]}") for what, scale in named if scale is not None]
    for scale, label in bars:
        add_colorbar(ax, scale, label)
