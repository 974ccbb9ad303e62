"""Structural formulas side by side with words below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gnn_xai.molecules.canvas import Canvas, Drawing, Formula, wrapped
from gnn_xai.molecules.layout import size_of
from gnn_xai.viz.color import FAINT_TEXT, Scale

PLAIN = Scale(signed=True, limit=1.0)  # nothing is shaded
BOND = 26.0  # pixels a bond, as long as the molecule fits
SMALLEST, LARGEST = (220, 165), (460, 380)  # pixels
MARGIN = 16
LINE, HEAD, BAR, TOP = 15, 18, 48, 12  # pixels of a line, of the title, of a scale, and above all


@dataclass(frozen=True, eq=False)
class Panel:
    """A molecule among others.

    Attributes:
        formula: what is drawn.
        title, lines: below it; a line that is too long takes two.
        scale: of the scores.
    """

    formula: Formula
    title: str
    lines: Sequence[str] = ()
    scale: Scale = PLAIN


def room_of(formula: Formula) -> tuple[int, int]:
    """Width and height in pixels that suit a molecule."""
    return size_of(formula.mol, BOND, SMALLEST, LARGEST)


def sheet_of(
    panels: Sequence[Panel],
    columns: int,
    *,
    title: str,
    bars: Sequence[tuple[Scale, str]] = (),
    size: tuple[int, int] | None = None,
) -> Drawing:
    """Panels in rows, with scales below. A molecule that cannot be drawn leaves its panel empty, with a word on why.

    Args:
        panels: the molecules.
        columns: molecules in a row.
        title: in words, for those who cannot see it.
        bars: scales to draw, and a name of each.
        size: width and height of a molecule in pixels; by default the largest has room.
    """
    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns)
    width, height = size or (max(side) for side in zip(*(room_of(panel.formula) for panel in panels), strict=True))
    room = width - 2 * MARGIN
    words = [[part for line in panel.lines for part in wrapped(line, 11, room)] for panel in panels]
    text = HEAD + 16 + LINE * max(map(len, words), default=0)
    named = LINE if any(name for _, name in bars) else 0

    def paint(canvas: Canvas) -> None:
        for i, (panel, lines) in enumerate(zip(panels, words, strict=True)):
            x, y = (i % columns) * width, (i // columns) * (height + text) + TOP
            try:
                canvas.molecule(x, y, width, height, panel.formula, panel.scale, BOND)
            except Exception as error:  # whatever RDKit or PIL raise; the others are drawn
                canvas.text(x + MARGIN, y + height / 2, f"no picture: {error}", 11, width=room, color=FAINT_TEXT)
            canvas.text(x + MARGIN, y + height + HEAD, panel.title, 13, width=room)
            for line, part in enumerate(lines, start=1):
                canvas.text(x + MARGIN, y + height + HEAD + LINE * line, part, 11, width=room, color=FAINT_TEXT)
        for i, (scale, name) in enumerate(bars):
            canvas.bar(width * columns * (i + 0.5) / len(bars), rows * (height + text) + TOP + 6, scale, name)

    foot = BAR + named if bars else 0
    return Drawing(width * columns, rows * (height + text) + TOP + foot, paint, title)
