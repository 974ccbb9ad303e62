"""Node types and relations of heterogeneous graphs in drawings: shapes, colours, styles of lines, and tables by node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnn_xai.viz.color import NEUTRAL_NODE, NODE_OUTLINE, TYPE_FILLS, TYPE_OUTLINES

if TYPE_CHECKING:
    from gnn_xai.core.graphs.types import EdgeType
    from gnn_xai.results._by_type import TypeNames

# Markers, the factor on its area that makes each look as large as a circle, and the room for text in it beside a circle's.
_SHAPES = (
    ("o", 1.0, 1.0),
    ("s", 0.86, 1.0),
    ("^", 1.35, 0.6),
    ("D", 0.68, 0.8),
    ("h", 1.1, 0.9),
    ("v", 1.35, 0.6),
    ("p", 1.15, 0.8),
    ("8", 1.0, 0.9),
)
_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))  # scaled by the width of the line


@dataclass(frozen=True)
class Kind:
    """How the nodes of one type are drawn.

    Attributes:
        name: of the type.
        marker: of matplotlib.
        area: factor on the area of a circle.
        room: for text, beside that in a circle of the same area.
        fill: of nodes without scores.
        outline: of all nodes.
    """

    name: str
    marker: str
    area: float
    room: float
    fill: str
    outline: str


PLAIN = Kind("", "o", 1.0, 1.0, NEUTRAL_NODE, NODE_OUTLINE)


def kinds(types: TypeNames | None) -> dict[str, Kind]:
    """How each node type is drawn, by its place among the types; the one of a homogeneous graph has no name."""
    if types is None:
        return {"": PLAIN}
    looks = {}
    for number, name in enumerate(types.node_types):
        marker, area, room = _SHAPES[number % len(_SHAPES)]
        color = number % len(TYPE_FILLS)
        looks[name] = Kind(name, marker, area, room, TYPE_FILLS[color], TYPE_OUTLINES[color])
    return looks


def kind_of(node: Any) -> str:
    """The type in the name of a node, `(type, id)`; no name in a homogeneous graph, whose nodes are ids."""
    return node[0] if isinstance(node, tuple) else ""


def look_up(table: Any, node: Any) -> Any:
    """What a table says of a node: by its name, or for `(type, id)` also by type and then by id.

    Raises:
        KeyError, IndexError: if it says nothing.
    """
    if isinstance(node, tuple) and isinstance(table, Mapping) and node not in table:
        return table[node[0]][node[1]]
    return table[node]


def forward(relation: EdgeType | None, relations: Collection[EdgeType]) -> tuple[EdgeType | None, bool]:
    """The relation that one was made from as its reverse, and whether it was.

    PyG's `ToUndirected` names the reverse of `(author, writes, paper)` `(paper, rev_writes, author)`.
    """
    if relation is not None and relation[1].startswith("rev_"):
        made_from = relation[2], relation[1].removeprefix("rev_"), relation[0]
        if made_from in relations:
            return made_from, True
    return relation, False


def line_styles(relations: Iterable[EdgeType]) -> dict[EdgeType | None, Any]:
    """A style for each relation: solid, unless several have the same types at their ends."""
    styles: dict[EdgeType | None, Any] = {None: "-"}
    counts: dict[tuple[str, str], int] = {}
    for relation in relations:
        ends = relation[0], relation[2]
        styles[relation] = _STYLES[counts.get(ends, 0) % len(_STYLES)]
        counts[ends] = counts.get(ends, 0) + 1
    return styles
