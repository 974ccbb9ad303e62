"""When two outputs of a model agree: up to rounding, whatever the unit of the output."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDINGS = 16
"""How many times the rounding of a mere permutation two outputs may differ that are computed in different ways."""

SHARE = 1e-5
"""Share of the change that is measured by which outputs may differ."""

PRECISION = 30
"""Units in the last place of a typical output by which any may be off."""


def close(
    one: Float[Tensor, "rows columns"],
    other: Float[Tensor, "rows columns"],
    scale: float = 0.0,
    rounding: float = 0.0,
    change: Float[Tensor, " rows"] | None = None,
) -> Bool[Tensor, " rows"]:
    """Whether rows of two outputs agree, whatever their unit and wherever their zero lies.

    They agree to 1e-5 of how far an output changes, so that what differs is small beside what an explanation is about, or
    up to rounding: some units in the last place of its own scale or that of a typical row, or what is known of it.

    Args:
        one, other: the outputs; the scale is that of `other`.
        scale: of a typical row, where that is known from more rows than these.
        rounding: how far outputs are apart that differ by the order of additions alone, as measured.
        change: how far each changes from one input to another; its own scale where nobody knows.
    """
    if len(other) == 0:
        return torch.ones(0, dtype=torch.bool, device=other.device)
    largest = other.abs().amax(1)
    precision = PRECISION * torch.finfo(other.dtype).eps * largest.clamp(min=max(scale, typical(other)))
    allowed = SHARE * (largest if change is None else change) + precision + ROUNDINGS * rounding
    return (one - other).abs().amax(1) <= allowed


def changes(expected: Float[Tensor, "instances ways columns"]) -> Float[Tensor, " instances"] | None:
    """How far each output changes from one way to the other; `None` where there is one way."""
    return (expected[:, 0] - expected[:, 1]).abs().amax(1) if expected.size(1) > 1 else None


def typical(out: Float[Tensor, "rows columns"]) -> float:
    """The scale of a typical row of outputs: the median of the rows' largest values."""
    return float(out.abs().amax(1).median()) if len(out) else 0.0
