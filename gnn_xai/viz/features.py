"""The strongest input features of one explanation as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gnn_xai.errors import InputError
from gnn_xai.viz.captions import describe
from gnn_xai.viz.color import FAINT_TEXT, NODE_OUTLINE, TEXT, Scale, signed_text
from gnn_xai.viz.kinds import look_up
from gnn_xai.viz.lines import ties
from gnn_xai.viz.text import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gnn_xai.results.explanations import Explanation


def features(
    explanation: Explanation,
    ax: Axes | None = None,
    *,
    top: int = 10,
    feature_names: Sequence[str] | Mapping[Any, Any] | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the `top` input features with the largest absolute score, the largest first.

    Scores are drawn from 0 to 1. Signed attributions keep their sign: bars to the right raise the
    explained output, bars to the left lower it.

    Args:
        explanation: one instance whose node mask has a score per feature
            (`node_mask_type` "attributes" or "common_attributes"), or with scores of further attributes (`columns`).
        ax: where to draw; a new figure's axes if None.
        top: how many features, at least 1.
        feature_names: names by feature column; the column's number by default. In a heterogeneous graph `{type: names}`;
            a bar is then called after type and feature. With further attributes `{attribute: names}`, `"x"` among them, and
            bars are called after attribute and feature.
        title: replaces the line that names the instance and the predicted class.

    Returns:
        The axes that were drawn on.

    Raises:
        InputError: the explanation has no scores for features, or `top` is below 1.
    """
    if not isinstance(top, int) or top < 1:
        raise InputError(f"expected top >= 1 (how many features to draw), got {top!r}")
    kind = explanation.source.node_mask_type
    of_x = explanation.node_mask is not None and kind in ("attributes", "common_attributes")
    if not of_x and not explanation.columns:
        raise InputError(
            f"expected an explanation with a score per feature, got node_mask_type={kind!r}; "
            "ask the algorithm for 'attributes' or 'common_attributes'"
        )
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6.4, 0.8 + 0.32 * top), layout="constrained")

    mask = explanation.node_mask
    every: list[tuple[Any, float]] = explanation.top_features(mask.size(-1)) if of_x and mask is not None else []
    if explanation.columns:
        every = [(("x", feature), score) for feature, score in every]
        number = sum(scores.size(-1) for scores in explanation.columns.values())
        every += [((name, feature), score) for name, feature, score in explanation.top_columns(number)]
        every = sorted(every, key=lambda bar: -abs(bar[1]))
        if feature_names is not None and not isinstance(feature_names, Mapping):
            feature_names = {"x": feature_names}
    ranked = every[:top]
    scores = np.array([score for _, score in ranked], dtype=float)
    rows = np.arange(len(ranked))
    scale = Scale.of(scores, explanation.signed, explanation.one_sided)
    bars = ax.barh(rows, scores, height=0.68, color=scale.colors(scores), edgecolor=NODE_OUTLINE, linewidth=0.6)
    ax.bar_label(
        bars,
        labels=[signed_text(s, 3) if explanation.signed else f"{s:.2f}" for s in scores],
        padding=4,
        fontsize=8,
        color=FAINT_TEXT,
    )
    ax.set_yticks(rows, [drawable(_name(column, feature_names)) for column, _ in ranked], fontsize=9, color=TEXT)
    ax.invert_yaxis()
    if explanation.signed:
        low, high = min(scores.min(initial=0), 0.0), max(scores.max(initial=0), 0.0)
        room = 0.16 * max(high - low, 1e-12)  # for the numbers at the ends of the bars
        ax.set_xlim(low - room if low < 0 else 0.0, high + room if high > 0 or low == 0 else 0.0)
        ax.axvline(0.0, color=TEXT, linewidth=0.8)
    else:
        ax.set_xlim(0.0, 1.12)
        ax.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
    what = "attribution" if explanation.signed else "mask"
    if len(ranked) < len(every):
        left_out = ties(ranked[-1][1], [score for _, score in every[top:]])
        what += f" · showing {len(ranked)} of {len(every)} features{left_out}"
    ax.set_xlabel(what, fontsize=9, color=TEXT)
    ax.set_title(drawable(title or describe(explanation)), loc="left", fontsize=11, color=TEXT)
    ax.tick_params(length=0, labelsize=8, labelcolor=FAINT_TEXT, axis="x")
    ax.tick_params(length=0, axis="y")
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def _name(column: Any, names: Any) -> str:
    """The name of a feature: a column, or `(node type, column)`."""
    kind, number = column if isinstance(column, tuple) else ("", column)
    try:
        own = str(look_up(names, column)) if names is not None else None
    except (KeyError, IndexError):
        own = None
    if kind:
        return f"{kind}: {number if own is None else own}"
    return f"feature {number}" if own is None else own
