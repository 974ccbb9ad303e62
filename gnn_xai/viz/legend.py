"""Legends: node classes, node types and relations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.legend_handler import HandlerBase
from matplotlib.lines import Line2D

from gnn_xai.viz.color import FAINT_TEXT, NODE_OUTLINE, TEXT, class_color
from gnn_xai.viz.kinds import Kind
from gnn_xai.viz.text import entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gnn_xai.core.graphs.types import EdgeType

Handle = tuple[Any, str]
"""What stands before an entry of a legend, and its text."""


def type_handles(looks: Iterable[Kind], *, filled: bool) -> list[Handle]:
    """Entries for node types; not filled where the fill says a score."""
    return [(_marker(look, filled=filled), look.name) for look in looks]


def _marker(look: Kind, *, filled: bool) -> Line2D:
    fill = look.fill if filled else "none"
    return Line2D([], [], ls="", marker=look.marker, ms=8, mfc=fill, mec=look.outline, mew=1.4)


def class_handles(classes: Iterable[int], class_names: Sequence[str] | None) -> list[Handle]:
    """Entries for classes of nodes."""
    style = {"ls": "", "marker": "o", "ms": 8, "mec": NODE_OUTLINE, "mew": 0.8}
    known = dict(enumerate(class_names or ()))
    names = {number: str(known.get(number, f"class {number}")) for number in classes}
    return [(Line2D([], [], mfc=class_color(number), **style), name) for number, name in names.items()]


@dataclass(frozen=True)
class RelationHandle:
    """The shapes at both ends of a relation, and the line between them."""

    source: Kind
    target: Kind
    style: Any
    arrow: bool
    filled: bool


def relation_handles(
    relations: Iterable[tuple[EdgeType, bool]],
    styles: Mapping[EdgeType | None, Any],
    looks: Mapping[str, Kind],
    *,
    filled: bool,
) -> list[Handle]:
    """Entries for relations, each with whether its lines are arrows."""
    return [
        (RelationHandle(looks[source], looks[target], styles[source, name, target], arrow, filled), name)
        for (source, name, target), arrow in relations
    ]


class _DrawRelation(HandlerBase):
    """Draws a `RelationHandle` in a legend."""

    def create_artists(
        self,
        legend: Any,
        orig_handle: Any,
        xdescent: float,
        ydescent: float,
        width: float,
        height: float,
        fontsize: float,
        trans: Any,
    ) -> list[Any]:
        """The line from end to end, its head before the target, and both ends."""
        left, right, middle = -xdescent + 4.0, width - xdescent - 4.0, height / 2 - ydescent
        parts = [Line2D([left, right], [middle, middle], color=FAINT_TEXT, lw=1.4, ls=orig_handle.style)]
        if orig_handle.arrow:
            parts.append(Line2D([right - 8.0], [middle], color=FAINT_TEXT, ls="", marker=">", ms=5))
        for place, look in ((left, orig_handle.source), (right, orig_handle.target)):
            end = _marker(look, filled=orig_handle.filled)
            end.set_data([place], [middle])
            if not orig_handle.filled:
                end.set_markerfacecolor("white")
            parts.append(end)
        for part in parts:
            part.set_transform(trans)
        return parts


def distinct(handles: Iterable[Handle]) -> list[Handle]:
    """One entry for each text, and for each pair of ends of relations of one name."""
    entries: dict[Any, Handle] = {}
    for artist, name in handles:
        ends = (artist.source.name, artist.target.name) if isinstance(artist, RelationHandle) else ()
        entries.setdefault((name, *ends), (artist, name))
    return list(entries.values())


def write_legend(place: Axes | Figure, handles: Sequence[Handle], **options: Any) -> None:
    """A legend below axes, or where `options` put it."""
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.02)}
    artists, names = zip(*((artist, entry(name)) for artist, name in handles), strict=True)
    relations = any(isinstance(artist, RelationHandle) for artist in artists)
    place.legend(
        artists,
        names,
        handler_map={RelationHandle: _DrawRelation()},
        handlelength=4.5 if relations else 2.0,
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize=8,
        labelcolor=TEXT,
        handletextpad=0.6,
        columnspacing=1.4,
        **(options or below),
    )
