"""Text in figures: names of classes, nodes and features as they are, whatever they hold."""

from __future__ import annotations

import textwrap
from functools import cache

from gnn_xai._text import printable


def drawable(text: object) -> str:
    r"""Text that matplotlib can draw: formulas between dollars where they can be read as such, else the dollars.

    >>> drawable("$x_{$"), drawable("$x_1$"), drawable("5 $")
    ('\\$x_{\\$', '$x_1$', '5 $')
    """
    text = printable(text)
    return text if text.count("$") < 2 or _is_formula(text) else text.replace("$", r"\$")


@cache
def _is_formula(text: str) -> bool:
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return False
    return True


def wrapped(text: str, width: float, size: float) -> str:
    """Text in as many lines as it takes.

    Args:
        text: what is written.
        width: room in points.
        size: of the font in points, whose letters are about half as wide.
    """
    room = max(12, int(width / (0.55 * size)))
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, room) or [""])


def entry(text: object) -> str:
    """Text of a legend, from which matplotlib leaves out names that start with an underscore."""
    text = drawable(text)
    return f" {text}" if text.startswith("_") else text
