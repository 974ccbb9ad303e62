"""The outputs that a user asks for, as tensors of positions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from gnn_xai.errors import InputError


def as_index(index: Any, size: int, device: torch.device) -> Int[Tensor, " instances"]:
    """Positions of outputs, from `None` for all, an int, a slice or range, a boolean mask, or a sequence of positions.

    Raises:
        InputError: if empty, out of range, or of another kind.
    """
    if index is None:
        index = torch.arange(size, device=device)
    elif isinstance(index, slice):
        index = torch.tensor(_sliced(index, size), dtype=torch.int64, device=device)
    else:
        index = as_integers(index, device)
    if index.dtype == torch.bool:
        if index.shape != (size,):
            raise InputError(f"expected a boolean index of length {size}, got shape {list(index.shape)}")
        index = index.nonzero().flatten()
    index = index.reshape(-1)
    if index.numel() == 0:
        raise InputError("expected at least one index, got none; index=None explains every output")
    if index.is_floating_point() or index.is_complex():
        raise InputError(f"expected integer indices, got {index.dtype}")
    if int(index.min()) < 0 or int(index.max()) >= size:
        wrong = int(index[(index < 0) | (index >= size)][0])
        raise InputError(f"index {wrong} is out of range; expected 0 to {size - 1}")
    return index.long()


def as_integers(index: Any, device: torch.device) -> Shaped[Tensor, ...]:
    """An index as a tensor, of whatever type and shape.

    Raises:
        InputError: if that is not possible.
    """
    if isinstance(index, Tensor) and (index.layout != torch.strided or index.is_meta):
        raise InputError(f"expected index as a dense tensor of integers, got a {index.layout} one on {index.device}")
    try:
        return torch.as_tensor(copy.copy(index) if isinstance(index, Tensor) else list_of(index), device=device)
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"expected index as integers, got {index!r}") from error


def _sliced(index: slice, size: int) -> list[int]:
    try:
        return list(range(size)[index])
    except (TypeError, ValueError) as error:
        raise InputError(f"expected index as a slice of integers with a step other than 0, got {index!r}") from error


def list_of(index: Any) -> Any:
    """Ranges and other iterables as lists; numbers and arrays as they are."""
    return list(index) if isinstance(index, (range, set, frozenset)) or hasattr(index, "__next__") else index
