"""What a counterfactual changes, as it is drawn: removed edges dashed, added ones doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.patheffects import Stroke

from gnn_xai.viz.lines import Line

if TYPE_CHECKING:
    from gnn_xai.results.explanations import Explanation

DASHES = (0, (3.0, 1.6))
DOUBLED = [Stroke(linewidth=4.6, foreground="#3a3a3a"), Stroke(linewidth=1.8, foreground="white")]

Ends = frozenset[tuple[Any, Any]]


def edited(explanation: Explanation, lines: list[Line], every: list[Line]) -> tuple[list[Line], Ends, Ends]:
    """The lines with those of all edits, and the ends of removed and of added edges; none without a counterfactual."""
    if "outcome" not in explanation.source.extras:
        return lines, frozenset(), frozenset()
    edits = explanation.counterfactual.edits
    typed = explanation.source.types is not None
    pairs = {kind: [edit.at for edit in edits if edit.kind == kind] for kind in ("edge removed", "edge added")}
    if typed:
        named = [((r[0], u), (r[2], v)) for r, (u, v) in pairs["edge removed"]]
        pairs["edge removed"] = named
    removed, added = (frozenset([*ends, *((v, u) for u, v in ends)]) for ends in pairs.values())
    shown = {(line.u, line.v) for line in lines}
    more = [line for line in every if (line.u, line.v) in removed and (line.u, line.v) not in shown]
    new = [Line(u, v, 0.0, not explanation.source.provenance.get("undirected", True)) for u, v in pairs["edge added"]]
    return [*lines, *more, *new], removed, added
