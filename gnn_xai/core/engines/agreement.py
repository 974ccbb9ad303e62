"""When two outputs of a model count as the same."""

from __future__ import annotations

import torch
from torch import Tensor


def close(one: Tensor, other: Tensor, least: float = 1.0) -> Tensor:
    """Rows `[R]` of two outputs `[R, C]` that agree to 1e-5 of the larger of `least` and the row's largest value."""
    scale = other.abs().amax(1).clamp(min=least)
    tolerance = max(1e-5, 100 * torch.finfo(other.dtype).eps)
    return (one - other).abs().amax(1) <= tolerance * scale
