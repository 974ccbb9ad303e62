"""How far lines are bent: beside others between the same nodes, and around nodes that they do not join."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gnn_xai.viz.lines import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEND = 0.3  # between lines that join the same two nodes
SHIFTS = (0.0, 0.15, -0.15, 0.3, -0.3, 0.45, -0.45, 0.6, -0.6)  # of all lines between two nodes, the first that is free
MARGIN = 0.12  # around the drawing, as a share of its size
ROOM = 1.25  # around a node, as colour bars and titles still shrink the axes
_STEPS = np.linspace(0.02, 0.98, 32)[:, None]


def bends_of(ax: Axes, lines: list[Line], positions: dict[Any, np.ndarray], sizes: dict[Any, float]) -> list[float]:
    """The bend of each line, as matplotlib's `arc3` takes it: its height as a share of its length.

    Lines between the same two nodes lie side by side. All of them are bent further to one side where they would run
    through the disc of a node that they do not join, if that frees them.

    Args:
        ax: where they are drawn.
        lines: what is drawn.
        positions: of nodes.
        sizes: area of nodes in square points.
    """
    between: dict[tuple[Any, Any], list[int]] = {}
    for number, line in enumerate(lines):
        between.setdefault((min(line.u, line.v), max(line.u, line.v)), []).append(number)
    nodes = list(positions)
    centres = np.array([positions[node] for node in nodes]).reshape(-1, 2)
    radii = ROOM * np.sqrt([sizes[node] for node in nodes]) / 2 / _points_per_unit(ax, centres)
    bends = [0.0] * len(lines)
    for (u, v), same in between.items():
        sides = BEND * (np.arange(len(same)) - (len(same) - 1) / 2)
        shift = 0.0
        if u != v:
            strangers = np.array([node not in (u, v) for node in nodes])
            ends = positions[u], positions[v]
            shift = _free_shift(*ends, sides, centres[strangers], radii[strangers])
        for number, side in zip(same, sides + shift, strict=True):
            bends[number] = float(-side if lines[number].u <= lines[number].v else side)
    return bends


def _points_per_unit(ax: Axes, centres: np.ndarray) -> float:
    """The scale of a drawing that fills its axes up to the margin."""
    box = np.asarray(ax.get_window_extent().size) * 72 / ax.figure.dpi
    extent = np.ptp(centres, axis=0) * (1 + 2 * MARGIN) if len(centres) else np.zeros(2)
    return float((box / np.maximum(extent, 1e-9)).min())


def _free_shift(start: np.ndarray, end: np.ndarray, sides: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    """The first of `SHIFTS` with which lines from start to end run through the fewest discs."""
    least, best = np.inf, 0.0
    for shift in SHIFTS:
        hit = sum(_hits(_curve(start, end, side + shift), centres, radii) for side in sides)
        if hit < least:
            least, best = hit, shift
        if least == 0:
            break
    return best


def _curve(start: np.ndarray, end: np.ndarray, side: float) -> np.ndarray:
    """Points of matplotlib's `arc3` with `rad=-side`: a quadratic curve whose handle stands beside the middle."""
    along = end - start
    handle = (start + end) / 2 - side * np.array([along[1], -along[0]])
    return (1 - _STEPS) ** 2 * start + 2 * _STEPS * (1 - _STEPS) * handle + _STEPS**2 * end


def _hits(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> int:
    """How many discs a curve runs through."""
    distance = np.linalg.norm(points[:, None] - centres, axis=-1).min(0, initial=np.inf)
    return int((distance < radii).sum())
