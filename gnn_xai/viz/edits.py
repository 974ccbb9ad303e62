"""What a counterfactual changes, as it is drawn: removed edges dashed, added ones doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.patheffects import Stroke

from gnn_xai.viz.lines import Line

if TYPE_CHECKING:
    from gnn_xai.core.graphs.types import EdgeType
    from gnn_xai.results.explanations import Explanation

DASHES = (0, (3.0, 1.6))
DOUBLED = [Stroke(linewidth=4.6, foreground="#3a3a3a"), Stroke(linewidth=1.8, foreground="white")]

Edges = frozenset[tuple[Any, Any, "EdgeType | None"]]
"""Edges by their ends, as nodes are named in drawings, and their relation."""


def edited(explanation: Explanation, lines: list[Line], every: list[Line]) -> tuple[list[Line], Edges, Edges]:
    """The lines with those of all edits, and the removed and the added edges; none without a counterfactual."""
    if "outcome" not in explanation.source.extras:
        return lines, frozenset(), frozenset()
    typed, undirected = explanation.source.types is not None, explanation.source.provenance.get("undirected", True)

    def edges(kind: str) -> Edges:
        at = [edit.at for edit in explanation.counterfactual.edits if edit.kind == kind]
        one = [((r[0], u), (r[2], v), r) for r, (u, v) in at] if typed else [(u, v, None) for u, v in at]
        return frozenset([*one, *((v, u, r) for u, v, r in one if undirected and (r is None or r[0] == r[2]))])

    removed, added = edges("edge removed"), edges("edge added")
    shown = {(line.u, line.v, line.relation) for line in lines}
    more = [line for line in every if (at := (line.u, line.v, line.relation)) in removed and at not in shown]
    pairs = [edit.at for edit in explanation.counterfactual.edits if edit.kind == "edge added"]
    new = [Line(u, v, 0.0, not undirected) for u, v in pairs]
    return [*lines, *more, *new], removed, added


def note_of_edits(explanation: Explanation) -> str:
    """How edits are drawn, for a subtitle, or that there are none; nothing without a counterfactual."""
    if "outcome" not in explanation.source.extras:
        return ""
    counterfactual = explanation.counterfactual
    if not counterfactual.found:
        return "no counterfactual found"
    kinds = {edit.kind for edit in counterfactual.edits}
    drawn = {"edge removed": "dashed: removed", "edge added": "doubled: added"}
    return ", ".join(text for kind, text in drawn.items() if kind in kinds)
