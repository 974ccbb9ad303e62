"""Arithmetic on ragged arrays: flat values with pointers, as in a CSR matrix."""

from __future__ import annotations

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def pointers(counts: Shaped[Tensor, " segments"]) -> Shaped[Tensor, " segments+1"]:
    """Where segments of these lengths start, and where the last one ends.

    >>> pointers(torch.tensor([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def owners(ptr: Int[Tensor, " pointers"]) -> Int[Tensor, " total"]:
    """The segment that every flat position belongs to.

    >>> owners(torch.tensor([0, 2, 2, 5])).tolist()
    [0, 0, 2, 2, 2]
    """
    return torch.repeat_interleave(ptr.diff())


def gather_segments(
    ptr: Int[Tensor, " pointers"], select: Int[Tensor, " selected"]
) -> tuple[Int[Tensor, " total"], Int[Tensor, " selected+1"]]:
    """Flat positions of the selected segments, one after the other, and the pointers of the result.

    A segment may be selected more than once.

    >>> positions, new_ptr = gather_segments(torch.tensor([0, 2, 2, 5]), torch.tensor([2, 0, 2]))
    >>> positions.tolist(), new_ptr.tolist()
    ([2, 3, 4, 0, 1, 2, 3, 4], [0, 3, 5, 8])
    """
    counts = ptr.diff().index_select(0, select)  # several times faster than indexing with brackets
    new_ptr = pointers(counts)
    offset = torch.repeat_interleave(ptr.index_select(0, select) - new_ptr[:-1], counts)
    return offset + torch.arange(int(new_ptr[-1]), device=ptr.device), new_ptr


def segment_sum(
    values: Shaped[Tensor, " total *rest"], owner: Int[Tensor, " total"], size: int
) -> Shaped[Tensor, " {size} *rest"]:
    """Sum of values per segment."""
    return values.new_zeros(size, *values.shape[1:]).index_add(0, owner, values)


def segment_mean(
    values: Shaped[Tensor, " total"], owner: Int[Tensor, " total"], size: int
) -> Shaped[Tensor, " {size}"]:
    """Mean of values per segment; 0 for an empty segment."""
    count = torch.bincount(owner, minlength=size).clamp(min=1).to(values.dtype)
    return segment_sum(values, owner, size) / count


def segment_ranks(
    values: Shaped[Tensor, " total"], owner: Int[Tensor, " total"], size: int, descending: bool = False
) -> Int[Tensor, " total"]:
    """How many values of its segment come before each; of equal ones, those that stand before it.

    >>> segment_ranks(torch.tensor([0.1, 0.9, 0.9, 0.5]), torch.tensor([0, 0, 0, 1]), 2, descending=True)
    tensor([2, 0, 1, 0])
    """
    order = torch.argsort(values, descending=descending, stable=True)
    order = order[torch.argsort(owner[order], stable=True)]
    start = pointers(torch.bincount(owner, minlength=size))[owner[order]]
    return torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device) - start)


def segment_max(values: Shaped[Tensor, " total"], owner: Int[Tensor, " total"], size: int) -> Shaped[Tensor, " {size}"]:
    """Maximum of non-negative values per segment; 0 for an empty segment."""
    return values.new_zeros(size).scatter_reduce(0, owner, values, "amax")


def as_rows(values: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "rows features"]:
    """The values of each row side by side, also where there are no rows.

    >>> as_rows(torch.zeros(0)).shape, as_rows(torch.zeros(3, 2, 2)).shape
    (torch.Size([0, 1]), torch.Size([3, 4]))
    """
    return values.flatten(1) if values.dim() > 1 else values.unsqueeze(1)
