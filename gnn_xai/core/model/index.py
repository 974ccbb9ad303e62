"""The outputs that a user asks for, as tensors of positions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from gnn_xai.errors import InputError

Index = int | Sequence[int] | tuple[int, int] | Sequence[tuple[int, int]] | Tensor | slice | range | None
"""What a user may pass as `index`."""

PAIRS = "edge_label_index"
"""The attribute under which PyG's data, and models, name pairs of nodes."""


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
    if index.dim() > 1 and index.size(-1) != 1:  # a column is what nonzero() gives
        raise InputError(
            f"expected one number for each node or graph in index, got shape {list(index.shape)}; pairs of nodes are "
            "explained by task='edge', on the command line --task edge"
        )
    index = index.reshape(-1)
    if index.numel() == 0:
        raise InputError("expected at least one index, got none; index=None explains every output")
    if index.is_floating_point() or index.is_complex():
        raise InputError(f"expected integer indices, got {index.dtype}")
    if int(index.min()) < 0 or int(index.max()) >= size:
        wrong = int(index[(index < 0) | (index >= size)][0])
        raise InputError(f"index {wrong} is out of range; expected 0 to {size - 1}")
    return index.long()


def as_pairs(
    index: Any, labelled: Int[Tensor, "pairs 2"], sizes: tuple[int, int], edge_type: tuple[str, str, str] | None = None
) -> Int[Tensor, "instances 2"]:
    """Pairs of nodes, from a tensor `[2, B]`, one tuple `(u, v)` or a list of them; or, as in `as_index`, some
    of those that the data names as `edge_label_index`.

    Args:
        index: what the user passed.
        labelled: the pairs that the data names.
        sizes: how many nodes there are that the first and the last of a pair are taken from.
        edge_type: the relation whose node types these are.

    Raises:
        InputError: if there are none, or a node does not exist.
    """
    if isinstance(index, tuple) and len(index) == 2 and not any(isinstance(end, (tuple, list)) for end in index):
        index = [index]
    index = list_of(index)
    if isinstance(index, (list, tuple)) and len(index) and all(isinstance(pair, tuple) for pair in index):
        pairs = as_integers(index, labelled.device)
        if pairs.dim() != 2 or pairs.size(1) != 2:
            raise InputError(f"expected pairs of nodes as tuples (u, v), got tuples of shape {list(pairs.shape[1:])}")
        pairs = pairs.t()
    elif index is None or isinstance(index, slice):
        pairs = None
    else:
        pairs = as_integers(index, labelled.device)
        pairs = pairs if pairs.dim() > 1 or pairs.numel() == 0 else None
    if pairs is None:
        if len(labelled) == 0:
            raise InputError(
                f"expected index= as pairs of nodes [2, B], since the data has no {PAIRS} to pick from, got {index!r}; pass "
                "index=(u, v) for one pair, or index=torch.tensor([[u, ...], [v, ...]])"
            )
        pairs = labelled[as_index(index, len(labelled), labelled.device)].t()
    if pairs.numel() == 0:
        raise InputError(f"expected at least one pair of nodes, got none; index=None explains those of data.{PAIRS}")
    if pairs.dim() != 2 or pairs.size(0) != 2:
        turned = "; transpose it: index.t()" if pairs.dim() == 2 and pairs.size(1) == 2 else ""
        raise InputError(f"expected pairs of nodes of shape [2, B], got {list(pairs.shape)}{turned}")
    if pairs.is_floating_point() or pairs.is_complex() or pairs.dtype == torch.bool:
        raise InputError(f"expected pairs of nodes as integers, got {pairs.dtype}")
    outside = ((pairs < 0) | (pairs >= torch.tensor(sizes, device=pairs.device).unsqueeze(1))).any(0)
    if bool(outside.any()):
        wrong = tuple(pairs[:, outside][:, 0].tolist())
        if edge_type is None:
            raise InputError(f"pair {wrong} is out of range; expected nodes 0 to {sizes[0] - 1}")
        raise InputError(
            f"pair {wrong} is out of range; expected {edge_type[0]} 0 to {sizes[0] - 1} and {edge_type[2]} 0 to "
            f"{sizes[1] - 1}"
        )
    return pairs.t().long().contiguous()


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
