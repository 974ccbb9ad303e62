"""The loss of learned masks over epochs, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gnn_xai.errors import InputError
from gnn_xai.viz.color import FAINT_TEXT, SERIES, TEXT
from gnn_xai.viz.text import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def convergence(
    trace: Any,
    ax: Axes | None = None,
    *,
    terms: Sequence[str] | None = None,
    restart: int = 0,
    title: str | None = None,
) -> Axes:
    """Draw terms of the loss over epochs: the mean over instances, the total and chosen terms in a band that holds the
    middle 80 % of them.

    Args:
        trace: a `gnn_xai.Trace` that recorded a run.
        ax: where to draw; a new figure's axes if None.
        terms: which terms, all that were recorded by default.
        restart: which of the initial masks.
        title: replaces the line that counts the instances.

    Returns:
        The axes that were drawn on.

    Raises:
        InputError: nothing was recorded, or a term or restart is unknown.
    """
    restarts = len(next(iter(trace.losses.values()))) if trace.losses else 0
    if restarts == 0:
        raise InputError(
            "the trace holds no epochs; hand it to explain(callback=...) with an algorithm that learns masks"
        )
    if restart not in range(restarts):
        raise InputError(f"expected restart in 0..{restarts - 1}, got {restart!r}")
    curves = trace.curves(restart)
    chosen = list(terms or curves)
    for name in chosen:
        if name not in curves:
            raise InputError(f"expected terms among {', '.join(curves)}, got {name!r}")
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    epochs = trace.epochs.numpy()
    for i, name in enumerate(chosen):
        total, color = name == "total", TEXT if name == "total" else SERIES[i % len(SERIES)]
        value = curves[name][:, ~curves[name].isnan().any(0)].double()  # instances recorded from the start on
        if total or terms is not None:
            low, high = value.quantile(0.1, dim=1), value.quantile(0.9, dim=1)
            ax.fill_between(epochs, low.numpy(), high.numpy(), color=color, alpha=0.12, linewidth=0)
        ax.plot(epochs, value.mean(1).numpy(), color=color, linewidth=2.2 if total else 1.6, label=name)
    ax.set_xlim(epochs[0], epochs[-1])
    ax.set_xlabel("epoch", fontsize=9, color=TEXT)
    ax.set_ylabel("loss", fontsize=9, color=TEXT)
    count = int((~curves["total"].isnan().any(0)).sum())
    ax.set_title(drawable(title or f"{count} instance{'s' * (count != 1)}"), loc="left", fontsize=11, color=TEXT)
    ax.tick_params(length=0, labelsize=8, labelcolor=FAINT_TEXT)
    ax.grid(axis="y", color=FAINT_TEXT, alpha=0.2, linewidth=0.6)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, labelcolor=TEXT)
    return ax
