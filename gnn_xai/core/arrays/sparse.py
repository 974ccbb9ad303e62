"""Sparse products with gradients, on the rows of a CSR matrix: what masked propagation is made of.

A layer whose message is a number times the sender's features computes Y = A X, with the masks in the values of A. Forward
this is one sparse product; backward another one with Aᵀ for X, and one number per entry for the values (a sampled
dense-dense product). Neither ever holds a message: memory is that of nodes and entries, not entries times features.
"""

# pyright: reportIncompatibleMethodOverride=false
# (autograd functions are written with the arguments that they have)

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from gnn_xai.core.arrays.segments import owners, pointers


class Csr:
    """The structure of a sparse matrix without its values: entries sorted by row.

    Attributes:
        ptr: where each row's entries start, and where the last one's end.
        col: column of each entry.
        num_cols: the number of columns.
    """

    def __init__(self, ptr: Int[Tensor, " pointers"], col: Int[Tensor, " entries"], num_cols: int) -> None:
        self.ptr, self.col, self.num_cols = ptr, col, num_cols
        self._row: Tensor | None = None
        self._transposed: tuple[Tensor, Tensor, Tensor] | None = None
        self._pattern: dict[torch.dtype, Tensor] = {}
        self._first: dict[int, Csr] = {}

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self.ptr) - 1

    @property
    def row(self) -> Int[Tensor, " entries"]:
        """Row of each entry."""
        if self._row is None:
            self._row = owners(self.ptr)
        return self._row

    @property
    def transposed(self) -> tuple[Int[Tensor, " pointers"], Int[Tensor, " entries"], Int[Tensor, " entries"]]:
        """The entries sorted by column: where each column's start, their rows, and which entry each is."""
        if self._transposed is None:
            # One sort of (column, entry) pairs as integers: stable, and faster than a stable argsort.
            size = max(len(self.col), 1)
            keys = torch.sort(self.col * size + torch.arange(len(self.col), device=self.col.device)).values
            entry = keys % size
            ptr = pointers(torch.bincount(self.col, minlength=self.num_cols))
            self._transposed = ptr, self.row[entry], entry
        return self._transposed

    def first_rows(self, count: int) -> Csr:
        """The first rows, kept for the next call: where they end has to be read from the device."""
        if count == self.num_rows:
            return self
        if count not in self._first:
            self._first[count] = Csr(self.ptr[: count + 1], self.col[: int(self.ptr[count])], self.num_cols)
        return self._first[count]

    def pattern(self, dtype: torch.dtype) -> Tensor:
        """A sparse tensor of zeros with this structure."""
        if dtype not in self._pattern:
            zeros = torch.zeros(len(self.col), dtype=dtype, device=self.col.device)
            with warnings.catch_warnings():  # PyTorch says once that sparse CSR tensors are in beta
                warnings.filterwarnings("ignore", "Sparse CSR")
                self._pattern[dtype] = torch.sparse_csr_tensor(
                    self.ptr, self.col, zeros, (self.num_rows, self.num_cols), check_invariants=False
                )
        return self._pattern[dtype]


def spmm(
    csr: Csr, values: Float[Tensor, " entries"], x: Float[Tensor, " columns features"]
) -> Float[Tensor, " rows features"]:
    """A X, for the values of A and X, differentiable in both."""
    return _Spmm.apply(values, x, csr)


def sddmm(
    csr: Csr, q: Float[Tensor, " rows features"], k: Float[Tensor, " columns features"]
) -> Float[Tensor, " entries"]:
    """⟨q_row, k_col⟩ for every entry, differentiable in both."""
    return _Sddmm.apply(q, k, csr)


def row_softmax(csr: Csr, logits: Float[Tensor, " entries"]) -> Float[Tensor, " entries"]:
    """Softmax over the entries of each row, differentiable; to backward rules, it is `attention_softmax` of its logits."""
    if has_torch_function((logits,)):
        return handle_torch_function(attention_softmax, (logits,), logits, csr)
    return attention_softmax(logits, csr)


def attention_softmax(logits: Float[Tensor, " entries"], csr: Csr) -> Float[Tensor, " entries"]:
    """The same, whatever rules there are."""
    return _RowSoftmax.apply(logits, csr)


def _weighted_sum(
    ptr: Int[Tensor, " pointers"],
    index: Int[Tensor, " entries"],
    values: Float[Tensor, " entries"],
    x: Float[Tensor, " columns features"],
) -> Float[Tensor, " rows features"]:
    """Σ values · x[index] within each segment."""
    if len(index) == 0 or x.size(1) == 0:
        return x.new_zeros(len(ptr) - 1, x.size(1))
    # The embedding bag is PyTorch's fastest product of a CSR matrix with a dense one, on the CPU by a factor of two to
    # three over torch.sparse.mm.
    return functional.embedding_bag(
        index, x.contiguous(), ptr, mode="sum", per_sample_weights=values.contiguous(), include_last_offset=True
    )


def row_sum(csr: Csr, values: Float[Tensor, " entries"]) -> Float[Tensor, " rows"]:
    """The sum of each row's values; not differentiable by itself."""
    if values.is_cuda:  # index_add is faster on the CPU, but adds in no fixed order on a GPU
        return torch.segment_reduce(values, "sum", offsets=csr.ptr, unsafe=True)
    return values.new_zeros(csr.num_rows).index_add_(0, csr.row, values)


def _sampled(csr: Csr, q: Tensor, k: Tensor) -> Tensor:
    if len(csr.col) == 0:
        return q.new_zeros(0)
    if len(csr.col) > csr.num_rows * csr.num_cols:  # parallel edges in a tiny graph, which PyTorch takes for a mistake
        return (q.index_select(0, csr.row) * k.index_select(0, csr.col)).sum(1)
    return torch.sparse.sampled_addmm(csr.pattern(q.dtype), q.contiguous(), k.t(), beta=0.0).values()


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, csr: Csr) -> Tensor:
        ctx.csr = csr
        # Only what the other gradient needs is kept.
        ctx.save_for_backward(
            values if ctx.needs_input_grad[1] else None,
            x if ctx.needs_input_grad[0] else None,
        )
        return _weighted_sum(csr.ptr, csr.col, values, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, x = ctx.saved_tensors
        csr, by_value, by_x = ctx.csr, None, None
        if ctx.needs_input_grad[0]:
            by_value = _sampled(csr, grad, x)
        if ctx.needs_input_grad[1]:
            ptr, row, entry = csr.transposed
            by_x = _weighted_sum(ptr, row, values.index_select(0, entry), grad)
        return by_value, by_x, None


class _Sddmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, csr: Csr) -> Tensor:
        ctx.csr = csr
        ctx.save_for_backward(q, k)
        return _sampled(csr, q, k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        q, k = ctx.saved_tensors
        csr, by_q, by_k = ctx.csr, None, None
        if ctx.needs_input_grad[0]:
            by_q = _weighted_sum(csr.ptr, csr.col, grad, k)
        if ctx.needs_input_grad[1]:
            ptr, row, entry = csr.transposed
            by_k = _weighted_sum(ptr, row, grad.index_select(0, entry), q)
        return by_q, by_k, None


class _RowSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, csr: Csr) -> Tensor:
        ctx.csr = csr
        largest = torch.segment_reduce(logits, "max", offsets=csr.ptr, unsafe=True)
        shifted = (logits - largest.index_select(0, csr.row)).exp_()
        out = shifted.div_(row_sum(csr, shifted).index_select(0, csr.row))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        product = out * grad
        return product - out * row_sum(ctx.csr, product).index_select(0, ctx.csr.row), None
