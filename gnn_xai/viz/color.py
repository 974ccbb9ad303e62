"""Colours and scales, the same in every figure and readable without telling red from green."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.typing import ColorType

# Both maps start (or pass through zero) at a grey that is still visible on white paper.
SEQUENTIAL = LinearSegmentedColormap.from_list("gnn_xai_mask", ["#cbd3db", "#a3c1da", "#5d9bc7", "#20639b", "#0b3057"])
DIVERGING = LinearSegmentedColormap.from_list(
    "gnn_xai_attribution", ["#0b3c7d", "#3e83bd", "#a3c6de", "#d2d2d2", "#eda98a", "#c9503c", "#850f1d"]
)
NEUTRAL_EDGE = "#8b939c"
NEUTRAL_NODE = "#eef1f4"
NODE_OUTLINE = "#5b646e"
MARK = "#111111"
RING = "#e08214"  # the explained node: an orange that neither scale contains
TEXT = "#1d232a"
FAINT_TEXT = "#5b646e"

# Okabe and Ito's palette, lightened so that black labels stay legible on it.
_CLASSES = ["#8ccbf2", "#f3c668", "#7fcfb4", "#e0a8c8", "#f5ea8c", "#c3cad1", "#eba27a", "#8fb1dc"]

# For the types of nodes, hues that neither scale contains, and darker ones of the same hues for outlines.
TYPE_FILLS = ["#bfe3cf", "#f3dd9c", "#dcc3e8", "#d9dde1", "#e3cdb4", "#bfe0e0"]
TYPE_OUTLINES = ["#1b8a5a", "#b07f00", "#8a4fa8", "#5b646e", "#85603a", "#2b8a8a"]

# The palette as it is, for lines and dots on white, without its yellow, which is too faint there.
SERIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]


def class_color(label: int) -> str:
    """A colour for a class; from the ninth class on they repeat."""
    return _CLASSES[label % len(_CLASSES)]


def signed_text(value: float, digits: int) -> str:
    """A number with its sign, with the minus that matplotlib writes on axes.

    >>> signed_text(-0.5, 2), signed_text(12.0, 2), signed_text(0.0, 2)
    ('−0.5', '+12', '0')
    """
    return f"{value:+.{digits}g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def ink_on(color: ColorType) -> str:
    """Black or white, whichever has more contrast on `color` (WCAG relative luminance)."""
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


@dataclass(frozen=True)
class Scale:
    """Colours of scores: masks from 0 to 1, attributions from -limit to +limit, or from 0 if no score is negative."""

    signed: bool
    limit: float
    one_sided: bool = False

    @classmethod
    def of(cls, scores: np.ndarray, signed: bool, one_sided: bool = False) -> Scale:
        """The scale for these scores: fixed for masks, symmetric about zero for attributions unless they are one-sided."""
        if not signed:
            return cls(signed=False, limit=1.0)
        largest = float(np.abs(scores).max(initial=0.0))
        return cls(signed=True, limit=largest if largest > 0 else 1.0, one_sided=one_sided)

    @property
    def diverging(self) -> bool:
        """The scale has two sides."""
        return self.signed and not self.one_sided

    @property
    def cmap(self) -> Colormap:
        """The matplotlib colour map."""
        return DIVERGING if self.diverging else SEQUENTIAL

    @property
    def norm(self) -> Normalize:
        """The matplotlib norm; what lies outside is drawn as the nearest end."""
        return Normalize(-self.limit if self.diverging else 0.0, self.limit, clip=True)

    def colors(self, scores: np.ndarray) -> np.ndarray:
        """RGBA [n, 4] of scores [n]."""
        return self.cmap(self.norm(np.asarray(scores, dtype=float)))

    def strength(self, scores: np.ndarray) -> np.ndarray:
        """|score| as a share of the scale, [n] in [0, 1]."""
        return np.clip(np.abs(np.asarray(scores, dtype=float)) / self.limit, 0.0, 1.0)


def add_colorbar(ax: Axes | list[Axes], scale: Scale, label: str) -> Colorbar:
    """A slim labelled colour bar beside the axes."""
    axes = ax if isinstance(ax, list) else [ax]
    bar = axes[0].figure.colorbar(
        ScalarMappable(scale.norm, scale.cmap), ax=ax, shrink=0.75, fraction=0.05, pad=0.02, aspect=24
    )
    bar.set_label(label, fontsize=9, color=TEXT)
    bar.ax.tick_params(labelsize=8, length=2.5, colors=FAINT_TEXT)
    bar.outline.set_visible(False)  # type: ignore[operator]
    if not scale.signed:
        ticks = {t: f"{t:g}" for t in (0.0, 0.25, 0.5, 0.75, 1.0)}
    elif scale.one_sided:
        ticks = {0.0: "0", scale.limit: f"{scale.limit:.2g}"}
    else:
        ticks = {t: signed_text(t, 2) for t in (-scale.limit, 0.0, scale.limit)}
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    return bar
