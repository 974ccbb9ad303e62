"""One explanation as a drawing of its graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.patheffects import withStroke

from gnn_xai.errors import InputError
from gnn_xai.viz.captions import caption, is_node_level
from gnn_xai.viz.color import (
    FAINT_TEXT,
    MARK,
    NEUTRAL_EDGE,
    NEUTRAL_NODE,
    NODE_OUTLINE,
    RING,
    TEXT,
    Scale,
    add_colorbar,
    class_color,
    ink_on,
)
from gnn_xai.viz.layout import stress_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gnn_xai.results.explanations import Explanation

Layout = Callable[[nx.Graph], Mapping] | Mapping[int, Sequence[float]] | np.ndarray

LINES_BY_DEFAULT = 60
LINES_AT_MOST = 2000  # more are illegible, and take minutes
THIN, THICK = 1.0, 5.0  # line widths in points, at weight 0 and at the end of the scale
RING_GAP = 7.0  # how much wider than its node the ring is, in points


def draw(
    explanation: Explanation,
    ax: Axes | None = None,
    *,
    top: int | None = None,
    layout: Layout | None = None,
    node_labels: bool | Mapping[int, object] | Sequence[object] | Callable[[int], object] = True,
    node_classes: Mapping[int, int] | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    mark: Collection[int] = (),
    directed: bool | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw the graph of one explanation; colour and width of a line both say its weight.

    Scores use one fixed scale from 0 to 1, so that two drawings can be compared. Signed attributions
    use a diverging scale from -max|a| to +max|a|: red raises the explained output, blue lowers it.
    The explained node has a ring. The figure is never shown or saved: that is the caller's.

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
            sequence or function).
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

    Returns:
        The axes that were drawn on; `ax.figure` is the figure.

    Raises:
        InputError: `top` is not in 1..2000, or `layout` lacks a node.
    """
    target = explanation.index if is_node_level(explanation) else None
    scores = _own_scores(explanation)
    every_line = _lines(explanation, directed)
    lines, nodes, left_out = _select(explanation, every_line, scores, top)
    graph = _as_graph(lines, nodes)
    positions = _positions(graph, layout, target)
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6.4, 5.2), layout="constrained")

    # The scale is that of the whole explanation, whatever is drawn of it.
    line_scale = node_scale = None
    if explanation.edge_mask is not None and every_line:
        line_scale = Scale.of(np.array([line.score for line in every_line]), explanation.signed, explanation.one_sided)
    if scores:
        node_scale = Scale.of(np.array(list(scores.values())), explanation.signed, explanation.one_sided)

    size = _node_size(ax, len(graph))
    sizes = {n: size if n != target else (np.sqrt(size) + RING_GAP) ** 2 for n in graph}
    _draw_lines(ax, graph, lines, positions, line_scale, sizes)
    fills = _draw_nodes(ax, graph, positions, scores, node_scale, node_classes, size, mark)
    if target is not None:
        ax.scatter(*positions[target], s=sizes[target], facecolors="none", edgecolors=RING, linewidths=2.2, zorder=4)
    _draw_labels(ax, graph, positions, node_labels, fills, size)
    if node_classes is not None and not scores:
        _legend(ax, graph, node_classes, class_names)

    headline, asked = caption(explanation, class_names)
    notes = (str(explanation.source.algorithm.get("name", "")), asked, left_out)
    _write_title(ax, title or headline, " · ".join(filter(None, notes)))
    ax.set_axis_off()
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.12)
    if colorbar:
        _colorbars(ax, line_scale, node_scale)
    return ax


def drawn_graph(explanation: Explanation, *, top: int | None = None, directed: bool | None = None) -> nx.MultiDiGraph:
    """The nodes and lines that `draw` shows for the same arguments, in original ids.

    Raises:
        InputError: `top` is not in 1..2000.
    """
    lines = _lines(explanation, directed)
    return _as_graph(*_select(explanation, lines, _own_scores(explanation), top)[:2])


def _as_graph(lines: list[_Line], nodes: list[int]) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((line.u, line.v) for line in lines)
    return graph


class _Line(NamedTuple):
    """A line between two nodes: both directions of an edge, or one."""

    u: int
    v: int
    score: float
    arrow: bool


def _own_scores(explanation: Explanation) -> dict[int, float]:
    """Scores of nodes from a node mask; sums over edges would repeat what the lines show."""
    mask, kind = explanation.node_mask, explanation.source.node_mask_type
    if mask is None or kind == "common_attributes":
        return {}
    # Attributions of features add up; a mask stays in [0, 1] as that of the strongest feature.
    scores = mask.sum(1) if explanation.signed or mask.size(1) == 1 else mask.amax(1)
    return dict(zip(explanation.node_id.tolist(), scores.tolist(), strict=True))


def _lines(explanation: Explanation, directed: bool | None) -> list[_Line]:
    """Edges as lines: parallel edges by their strongest, two equal directions as one."""
    u, v = explanation.edge_index.cpu().numpy()
    if directed is None:
        # Around a node, edges into the outermost nodes carry no message, so an edge from there comes without its reverse
        # though the data has it; of a graph, every edge is here.
        directed = not (is_node_level(explanation) and explanation.source.provenance.get("symmetric", False))
        merged = False
    else:
        merged = not directed
    if explanation.edge_mask is None:
        score = np.zeros(len(u))
    else:
        score = explanation.edge_mask.detach().cpu().numpy().astype(float)
    order = np.argsort(-np.abs(score), kind="stable")  # the strongest of parallel edges comes first
    one_way: dict[tuple[int, int], float] = {}
    for a, b, s in zip(u[order].tolist(), v[order].tolist(), score[order].tolist(), strict=True):
        key = (min(a, b), max(a, b)) if merged else (a, b)
        one_way.setdefault(key, s)
    lines = []
    for (a, b), s in one_way.items():
        back = one_way.get((b, a))
        if a == b or back is None:
            lines.append(_Line(a, b, s, arrow=directed and a != b))
        elif not np.isclose(s, back, rtol=1e-4, atol=1e-6):
            lines.append(_Line(a, b, s, arrow=True))
        elif a < b:
            lines.append(_Line(a, b, s, arrow=False))
    return lines


def _select(
    explanation: Explanation, lines: list[_Line], scores: dict[int, float], top: int | None
) -> tuple[list[_Line], list[int], str]:
    """The lines and nodes to draw, and a note on how many were left out."""
    if top is not None and not (isinstance(top, int) and 1 <= top <= LINES_AT_MOST):
        raise InputError(f"expected top in 1..{LINES_AT_MOST} (how many lines to draw), got {top!r}")
    top = LINES_BY_DEFAULT if top is None else top
    nodes = explanation.node_id.tolist()
    always = {explanation.index} if is_node_level(explanation) else set()
    if explanation.edge_mask is not None:
        kept = sorted(lines, key=lambda line: -abs(line.score))[:top]
        if len(kept) == len(lines):
            return kept, nodes, ""
        ends = {line.u for line in kept} | {line.v for line in kept} | always
        return kept, sorted(ends), f"showing {len(kept)} of {len(lines)} edges"
    if len(nodes) <= top:
        return lines, nodes, ""
    rank = {n: abs(s) for n, s in scores.items()} or _nearness(lines, nodes, always)
    chosen = set(sorted(nodes, key=lambda n: -rank[n])[:top]) | always
    kept = [line for line in lines if line.u in chosen and line.v in chosen]
    return kept[:LINES_AT_MOST], sorted(chosen), f"showing {len(chosen)} of {len(nodes)} nodes"


def _nearness(lines: list[_Line], nodes: list[int], start: set[int]) -> dict[int, float]:
    """Minus the hops from the explained node: the rank of nodes if only features have scores."""
    graph = nx.Graph((line.u, line.v) for line in lines)
    graph.add_nodes_from(nodes)
    hops = nx.single_source_shortest_path_length(graph, next(iter(start))) if start else {}
    return {n: -float(hops.get(n, len(nodes))) for n in nodes}


def _positions(graph: nx.Graph, layout: Any, target: int | None) -> dict[int, np.ndarray]:
    if layout is None:
        return stress_layout(graph, first=target)
    positions: Any = layout(nx.Graph(graph)) if callable(layout) else layout
    try:
        return {n: np.asarray(positions[n], dtype=float)[:2] for n in graph}
    except (KeyError, IndexError) as error:
        missing = [n for n in graph if not _has(positions, n)]
        raise InputError(
            f"expected a position for every drawn node, got none for {missing[:5]}; "
            "layout maps original node ids to (x, y)"
        ) from error


def _has(table: Any, node: int) -> bool:
    return node in table if isinstance(table, Mapping) else node < len(table)


def _node_size(ax: Axes, count: int) -> float:
    """Area of a node in square points: all nodes together cover about a fifteenth of the axes."""
    box = np.asarray(ax.get_window_extent().size) * 72 / ax.figure.dpi
    return float(np.clip(0.07 * box.prod() / max(count, 1), 70, 420))


def _draw_lines(
    ax: Axes,
    graph: nx.Graph,
    lines: list[_Line],
    positions: dict[int, np.ndarray],
    scale: Scale | None,
    sizes: dict[int, float],
) -> None:
    lines = sorted(lines, key=lambda line: abs(line.score))  # strong ones on top
    score = np.array([line.score for line in lines])
    if scale is None:
        colors, widths = np.tile(to_rgba(NEUTRAL_EDGE), (len(lines), 1)), np.full(len(lines), THIN)
    else:
        colors, widths = scale.colors(score), THIN + (THICK - THIN) * scale.strength(score)
    arrows = {(line.u, line.v) for line in lines if line.arrow}
    for i, line in enumerate(lines):
        # One call for each line: networkx gives every edge of one call the same arrow head.
        style = "-|>" if line.arrow else "-"
        bend = 0.15 if line.arrow and (line.v, line.u) in arrows else 0.0
        patches = nx.draw_networkx_edges(
            nx.DiGraph([(line.u, line.v)]),
            positions,
            ax=ax,
            arrows=True,
            arrowstyle=f"{style},head_length=0.5,head_width=0.26" if line.arrow else style,
            arrowsize=6.0 + 2.6 * widths[i],
            connectionstyle=f"arc3,rad={bend}",
            edge_color=[colors[i]],
            width=widths[i],
            nodelist=[line.u, line.v],
            node_size=[sizes[line.u], sizes[line.v]],
        )
        for patch in patches:
            patch.set(capstyle="butt", joinstyle="miter", zorder=1 + i / len(lines))


def _draw_nodes(
    ax: Axes,
    graph: nx.Graph,
    positions: dict[int, np.ndarray],
    scores: dict[int, float],
    scale: Scale | None,
    node_classes: Any,
    size: float,
    mark: Collection[int],
) -> dict[int, Any]:
    """Draw the circles; returns their fills, which decide the ink of the labels."""
    nodes = list(graph)
    if scale is not None:
        fills = list(scale.colors(np.array([scores[n] for n in nodes])))
    elif node_classes is not None:
        fills = [to_rgba(class_color(int(node_classes[n]))) for n in nodes]
    else:
        fills = [to_rgba(NEUTRAL_NODE)] * len(nodes)
    spots = np.array([positions[n] for n in nodes])
    marked = set(mark)
    ax.scatter(
        spots[:, 0],
        spots[:, 1],
        s=size,
        c=fills,
        edgecolors=[MARK if n in marked else NODE_OUTLINE for n in nodes],
        linewidths=[2.0 if n in marked else 0.8 for n in nodes],
        zorder=3,
    )
    return dict(zip(nodes, fills, strict=True))


def _draw_labels(
    ax: Axes, graph: nx.Graph, positions: dict[int, np.ndarray], node_labels: Any, fills: dict[int, Any], size: float
) -> None:
    if node_labels is False:
        return
    texts = {}
    for node in graph:
        if node_labels is True:
            texts[node] = str(node)
        elif callable(node_labels):
            texts[node] = str(node_labels(node))
        else:
            texts[node] = str(node_labels[node]) if _has(node_labels, node) else ""
    # As large as lets the longest fit its circle, a digit being about 0.64 em wide. Where that is
    # too small to read, labels stand out of their circles with a halo.
    longest = max(map(len, texts.values()), default=0)
    font = 0.92 * np.sqrt(size) / (0.64 * max(longest, 1.7))
    for node, text in texts.items():
        ax.annotate(
            text,
            (positions[node][0], positions[node][1]),
            ha="center",
            va="center",
            fontsize=float(np.clip(font, 6.0, 11.0)),
            color=ink_on(fills[node]),
            path_effects=[withStroke(linewidth=1.6, foreground=fills[node])] if font < 6 else [],
            zorder=5,
        )


def _legend(ax: Axes, graph: nx.Graph, node_classes: Any, class_names: Sequence[str] | None) -> None:
    from matplotlib.lines import Line2D

    present = sorted({int(node_classes[n]) for n in graph})
    style = {"ls": "", "marker": "o", "markersize": 8, "mec": NODE_OUTLINE, "mew": 0.8}
    names = [class_names[c] if class_names is not None else f"class {c}" for c in present]
    ax.legend(
        [Line2D([], [], mfc=class_color(c), **style) for c in present],
        names,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.02),
        ncols=min(len(present), 4),
        frameon=False,
        fontsize=8,
        handletextpad=0.2,
    )


def _write_title(ax: Axes, title: str, subtitle: str) -> None:
    ax.set_title(title, loc="left", fontsize=10.5, color=TEXT, pad=20 if subtitle else 8)
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
