"""What of an explanation is drawn: lines for edges, and the nodes at their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx
import numpy as np

from gnn_xai.errors import InputError
from gnn_xai.viz.captions import explained_nodes
from gnn_xai.viz.kinds import forward

if TYPE_CHECKING:
    from gnn_xai.core.graphs.types import EdgeType
    from gnn_xai.results.explanations import Explanation

LINES_BY_DEFAULT = 60
LINES_AT_MOST = 2000  # more are illegible, and take minutes
ALIKE = 0.01  # how much weaker than the last that is shown an edge is to count as strong as that


class Line(NamedTuple):
    """A line between two nodes: both directions of an edge, or one; its relation in a heterogeneous graph."""

    u: Any
    v: Any
    score: float
    arrow: bool
    relation: EdgeType | None = None


def own_scores(explanation: Explanation) -> dict[Any, float]:
    """Scores of nodes from a node mask; sums over edges would repeat what the lines show."""
    mask, kind = explanation.node_mask, explanation.source.node_mask_type
    if mask is None or kind == "common_attributes":
        return {}
    # Attributions of features add up; a mask stays in [0, 1] as that of the strongest feature.
    scores = mask.sum(1) if explanation.signed or mask.size(1) == 1 else mask.amax(1)
    return dict(zip(explanation.nodes, scores.tolist(), strict=True))


def relations_of(explanation: Explanation) -> tuple[EdgeType, ...]:
    """The relations of a heterogeneous graph; none of a homogeneous one."""
    types = explanation.source.types
    return () if types is None else types.edge_types


def _edges(explanation: Explanation) -> list[tuple[Any, Any, EdgeType | None, float]]:
    """Ends, relation and score of every edge, the strongest first."""
    names = dict(zip(explanation.node_id.tolist(), explanation.nodes, strict=True))
    u, v = explanation.edge_index.tolist()
    relations = relations_of(explanation)
    kinds_of_edges = [relations[kind] for kind in explanation.edge_type.tolist()] if relations else [None] * len(u)
    mask = explanation.edge_mask
    score = np.zeros(len(u)) if mask is None else mask.detach().cpu().numpy().astype(float)
    order = np.argsort(-np.abs(score), kind="stable").tolist()
    return [(names[u[at]], names[v[at]], kinds_of_edges[at], float(score[at])) for at in order]


def lines_of(explanation: Explanation, directed: bool | None) -> list[Line]:
    """Edges as lines: parallel edges of a relation by their strongest, two equal directions as one."""
    if directed is None:
        # Around a node, edges into the outermost nodes carry no message, so an edge from there comes without its reverse
        # though the data has it; of a graph, every edge is here.
        directed = not (explained_nodes(explanation) and explanation.source.provenance.get("symmetric", False))
        merged = False
    else:
        merged = not directed
    relations = relations_of(explanation)
    one_way: dict[tuple[Any, Any, EdgeType | None], tuple[float, EdgeType | None]] = {}
    for a, b, relation, score in _edges(explanation):  # the strongest of parallel edges comes first
        made_from, reverse = forward(relation, relations)
        ends = (min(a, b), max(a, b)) if merged else (a, b)
        if merged and made_from is not None and made_from[0] != made_from[2]:
            ends = (b, a) if reverse else (a, b)
        one_way.setdefault((*ends, made_from), (score, relation))
    lines = []
    for (a, b, made_from), (score, relation) in one_way.items():
        back = one_way.get((b, a, made_from))
        if a == b or back is None:
            arrow = directed and a != b
            lines.append(Line(a, b, score, arrow, relation if arrow else made_from))
        elif not np.isclose(score, back[0], rtol=1e-4, atol=1e-6):
            lines.append(Line(a, b, score, True, relation))
        elif a < b:
            lines.append(Line(a, b, score, False, made_from))
    return lines


def select(
    explanation: Explanation, lines: list[Line], scores: dict[Any, float], top: int | None
) -> tuple[list[Line], list[Any], str]:
    """The lines and nodes to draw, and a note on how many were left out."""
    if top is not None and not (isinstance(top, int) and 1 <= top <= LINES_AT_MOST):
        raise InputError(f"expected top in 1..{LINES_AT_MOST} (how many lines to draw), got {top!r}")
    top = LINES_BY_DEFAULT if top is None else top
    nodes, always = explanation.nodes, set(explained_nodes(explanation))
    if explanation.edge_mask is not None:
        ranked = sorted(lines, key=lambda line: -abs(line.score))
        kept = ranked[:top]
        if len(kept) == len(lines):
            return kept, nodes, ""
        ends = {line.u for line in kept} | {line.v for line in kept} | always
        note = f"showing {top} of {len(lines)} edges"
        return kept, sorted(ends), note + ties(kept[-1].score, [line.score for line in ranked[top:]])
    if len(nodes) <= top:
        kept, note = lines[:LINES_AT_MOST], f"showing {LINES_AT_MOST} of {len(lines)} edges"
        return kept, nodes, note if len(kept) < len(lines) else ""
    rank = {n: abs(s) for n, s in scores.items()} or _nearness(lines, nodes, always)
    ranked = sorted(nodes, key=lambda n: -rank[n])
    chosen = set(ranked[:top]) | always
    kept = [line for line in lines if line.u in chosen and line.v in chosen]
    note = f"showing {len(chosen)} of {len(nodes)} nodes"
    if scores:
        note += ties(rank[ranked[top - 1]], [rank[node] for node in ranked[top:] if node not in chosen])
    if len(kept) > LINES_AT_MOST:
        note += f" and {LINES_AT_MOST} of {len(kept)} edges between them"
    return kept[:LINES_AT_MOST], sorted(chosen), note


def ties(last: float, left_out: list[float]) -> str:
    """How many of the scores that are left out are as strong as the last that is shown, to be appended; "" for none."""
    count = sum(abs(score) >= abs(last) * (1 - ALIKE) for score in left_out)
    return f"; {count} left out are as strong{'' if last else ' (0)'}" if count else ""


def _nearness(lines: list[Line], nodes: list[Any], start: set[Any]) -> dict[Any, float]:
    """Minus the hops from the explained nodes: the rank of nodes if only features have scores."""
    graph = nx.Graph((line.u, line.v) for line in lines)
    graph.add_nodes_from(nodes)
    hops = nx.multi_source_dijkstra_path_length(graph, start) if start else {}
    return {n: -float(hops.get(n, len(nodes))) for n in nodes}
