"""Linear models of many instances at once, from their normal equations."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 2000
"""Most steps of the lasso."""

TOLERANCE = 1e-12
"""Change of coefficients in a step, relative to the largest, at which the lasso ends."""

CHECKED = 20
"""Steps between two looks at that change, each of which a GPU has to wait for."""


def ridge(rows: Tensor, wanted: Tensor, penalty: float) -> Tensor:
    """The β `[I, n, 1]` that makes ‖rows β − wanted‖² + penalty ‖β‖² smallest, and then ‖β‖.

    Args:
        rows, wanted: `[I, S, n]` and `[I, S, 1]`.
        penalty: 0 or more.
    """
    bound = penalty**0.5 * torch.eye(rows.size(2), dtype=rows.dtype, device=rows.device)
    bounded = torch.cat([rows, bound.expand(len(rows), -1, -1)], 1)
    return torch.linalg.pinv(bounded)[:, :, : rows.size(1)] @ wanted


def lasso(square: Tensor, product: Tensor, penalty: float, positive: bool = False) -> Tensor:
    """The β `[I, n, 1]` that makes ½ βᵀ square β − productᵀ β + penalty ‖β‖₁ smallest, by accelerated proximal gradients
    (Beck & Teboulle 2009) that start anew where they overshoot (O'Donoghue & Candès 2015).

    Args:
        square, product: `[I, n, n]` rowsᵀ rows, and `[I, n, 1]` rowsᵀ wanted.
        penalty: 0 or more.
        positive: β ≥ 0.
    """
    step = 1 / torch.linalg.matrix_norm(square, 2).clamp(min=1e-12)[:, None, None]
    beta = ahead = torch.zeros_like(product)
    momentum = torch.ones_like(step)
    for number in range(STEPS):
        moved = ahead - step * (square @ ahead - product)
        after = (moved.abs() - step * penalty).clamp(min=0) * moved.sign()
        after = after.clamp(min=0) if positive else after
        overshot = ((ahead - after) * (after - beta)).sum(1, keepdim=True) > 0
        momentum = torch.where(overshot, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        change = after - beta
        ahead, beta, momentum = after + (momentum - 1) / following * change, after, following
        if number % CHECKED == 0 and bool(change.abs().amax() <= TOLERANCE * after.abs().amax()):
            break
    return beta
