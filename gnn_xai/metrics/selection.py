"""Selecting the strongest elements: numbers of them, shares, and ranks within every instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gnn_xai._checks import is_integer
from gnn_xai.errors import InputError
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.ground_truth import GroundTruth

Top = int | float


def check_top(top: Any, optional: bool = False) -> None:
    """Raise unless `top` is a number of elements or a share of them, or, where it is optional, `None`."""
    if not (is_integer(top, 1) or isinstance(top, float) and 0 < top <= 1 or optional and top is None):
        words = "a positive int, a fraction in (0, 1] or None" if optional else "a positive int or a fraction in (0, 1]"
        raise InputError(f"expected top as {words}, got {top!r}")


def check_explanations(explanations: object) -> None:
    """Raise unless they are `Explanations`, not a single one or a stored run."""
    if not isinstance(explanations, Explanations):
        raise InputError(
            f"expected Explanations, got {type(explanations).__name__}; for a single one pass explanations[i : i + 1], "
            "for a stored run stored.explanations(), or its shards() one by one"
        )


def check_truth(ground_truth: object) -> None:
    """Raise unless it is a `GroundTruth`."""
    if not isinstance(ground_truth, GroundTruth):  # a benchmark may have none
        raise InputError(
            f"expected a GroundTruth, got {type(ground_truth).__name__}; "
            + (
                "where the truth is unknown, use fidelity"
                if ground_truth is None
                else "make one with gnn_xai.GroundTruth(edge=..., node=...), a motif id each and -1 for none"
            )
        )


def as_tops(top: Top | Sequence[Top]) -> tuple[Top, ...]:
    """One or several numbers of elements, or shares of them.

    Raises:
        InputError: if there is none, or one is neither.
    """
    tops = tuple(top) if isinstance(top, Sequence) else (top,)
    if not tops or any(size is None for size in tops):
        raise InputError(f"expected top as positive ints or fractions in (0, 1], one or several, got {top!r}")
    for size in tops:
        check_top(size)
    return tops


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of elements within their instance, the strongest first.

    Attributes:
        rank: `[ΣE]`, `[ΣN, F]`, or `[P, F]` for features in common; -1 for what is not ranked.
        count: `[P]` how many are ranked.
        common: whether a row belongs to an instance, not to a node.
    """

    rank: Tensor
    count: Tensor
    common: bool = False

    def limit(self, tops: Sequence[Top]) -> Tensor:
        """The rank below which elements are among the strongest, `[P, K]`."""
        return torch.stack([allowed(top, self.count) for top in tops], dim=1)


def allowed(top: Top, count: Tensor) -> Tensor:
    """How many of `count` elements `top` selects: itself, or that share of them, rounded up.

    >>> allowed(0.07, torch.tensor([100, 101]))  # 0.07 · 100 is a little more than 7 in floating point
    tensor([7, 8])
    """
    return torch.full_like(count, top) if isinstance(top, int) else (count.double() * top * (1 - 1e-12)).ceil().long()
