"""When two outputs of a model agree: up to rounding, whatever the unit of the output."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDINGS = 16
"""How many times the rounding of a mere permutation two outputs may differ that are computed in different ways."""


def close(one: Tensor, other: Tensor, scale: float = 0.0, rounding: float = 0.0) -> Tensor:
    """Rows `[R]` of two outputs `[R, C]` that agree to 1e-5 of their scale, or up to a known rounding.

    The scale of a row is the largest of its values, or that of a typical row, where its own are close to 0. So the
    verdict does not depend on the unit of the output.

    Args:
        one, other: `[R, C]`; the scale is that of `other`.
        scale: of a typical row, where that is known from more rows than these.
        rounding: how far outputs are apart that differ by the order of additions alone, as measured.
    """
    if len(other) == 0:
        return torch.ones(0, dtype=torch.bool, device=other.device)
    largest = other.abs().amax(1)
    tolerance = max(1e-5, 100 * torch.finfo(other.dtype).eps)
    allowed = tolerance * largest.clamp(min=max(scale, typical(other))) + ROUNDINGS * rounding
    return (one - other).abs().amax(1) <= allowed


def typical(out: Tensor) -> float:
    """The scale of a typical row of outputs `[R, C]`: the median of the rows' largest values."""
    return float(out.abs().amax(1).median()) if len(out) else 0.0
