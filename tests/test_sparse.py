"""Sparse products and their gradients against dense ones, on every awkward structure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.utils import softmax

from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.arrays.sparse import Csr, row_softmax, row_sum, sddmm, spmm

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def csr_of(entries: list[tuple[int, int]], rows: int, columns: int) -> Csr:
    """Entries (row, column) in the order of rows; within a row, columns stay unsorted and may come twice."""
    entries = sorted(entries, key=lambda entry: entry[0])
    row = torch.tensor([r for r, _ in entries], dtype=torch.int64)
    col = torch.tensor([c for _, c in entries], dtype=torch.int64)
    return Csr(pointers(torch.bincount(row, minlength=rows)), col, columns)


def dense(csr: Csr, values: Tensor) -> Tensor:
    """The matrix `[R, C]`, in which parallel entries add up."""
    place = csr.row * csr.num_cols + csr.col
    return values.new_zeros(csr.num_rows * csr.num_cols).index_add(0, place, values).reshape(csr.num_rows, csr.num_cols)


@st.composite
def structures(draw: st.DrawFn) -> tuple[Csr, int]:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    entry = st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1))
    return csr_of(draw(st.lists(entry, max_size=30)), rows, columns), draw(st.integers(0, 4))


PARALLEL = csr_of([(0, 1), (0, 0), (0, 1), (2, 1), (2, 1)], 3, 2), 3  # an empty row, unsorted and repeated columns
CROWDED = csr_of([(0, 0), (0, 0), (0, 0)], 1, 1), 2  # more entries than places
EMPTY = csr_of([], 3, 2), 2
ONE_COLUMN = csr_of([(0, 0), (1, 0), (3, 0)], 4, 1), 1
NO_FEATURES = csr_of([(0, 1), (1, 0)], 2, 2), 0
_PAIRS = torch.randint(40, (300, 2), generator=torch.Generator().manual_seed(0)).tolist()
LARGE = csr_of([(min(r, 36), c) for r, c in _PAIRS], 40, 40), 17  # the last rows are empty
KINDS = {
    "large": LARGE,
    "parallel": PARALLEL,
    "crowded": CROWDED,
    "empty": EMPTY,
    "one_column": ONE_COLUMN,
    "no_features": NO_FEATURES,
}


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The output and the gradients of a random projection of it, by every input."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    out = function(*leaves)
    return [out, *torch.autograd.grad((out * random(9, *out.shape, dtype=out.dtype)).sum(), leaves)]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        tolerance = TOLERANCE[other.dtype]
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def every_structure(test: Callable[..., None]) -> Callable[..., None]:
    for kind in KINDS.values():
        test = example(kind, torch.float64)(test)
    test = example(PARALLEL, torch.float32)(test)
    return given(structures(), st.sampled_from([torch.float32, torch.float64]))(test)


@every_structure
def test_spmm_is_the_dense_product(structure: tuple[Csr, int], dtype: torch.dtype) -> None:
    csr, width = structure
    values, x = random(0, len(csr.col), dtype=dtype), random(1, csr.num_cols, width, dtype=dtype)
    found = gradients(lambda v, y: spmm(csr, v, y), values, x)
    same(found, gradients(lambda v, y: dense(csr, v) @ y, values, x))


@every_structure
def test_sddmm_samples_the_dense_product(structure: tuple[Csr, int], dtype: torch.dtype) -> None:
    csr, width = structure
    q, k = random(0, csr.num_rows, width, dtype=dtype), random(1, csr.num_cols, width, dtype=dtype)
    found = gradients(lambda a, b: sddmm(csr, a, b), q, k)
    same(found, gradients(lambda a, b: (a @ b.t())[csr.row, csr.col], q, k))


@every_structure
def test_row_softmax_is_that_of_pyg(structure: tuple[Csr, int], dtype: torch.dtype) -> None:
    csr, _ = structure
    logits = 20 * random(0, len(csr.col), dtype=dtype)
    found = gradients(lambda v: row_softmax(csr, v), logits)
    same(found, gradients(lambda v: softmax(v, csr.row, num_nodes=csr.num_rows), logits))


@every_structure
def test_row_sums(structure: tuple[Csr, int], dtype: torch.dtype) -> None:
    csr, _ = structure
    values = random(0, len(csr.col), dtype=dtype)
    same([row_sum(csr, values)], [dense(csr, values).sum(1)])


@every_structure
def test_transposed_is_the_structure_by_column(structure: tuple[Csr, int], dtype: torch.dtype) -> None:
    csr, _ = structure
    ptr, row, entry = csr.transposed
    assert sorted(entry.tolist()) == list(range(len(csr.col)))
    assert csr.col[entry].tolist() == sorted(csr.col.tolist())
    assert row.tolist() == csr.row[entry].tolist()
    assert ptr.tolist() == pointers(torch.bincount(csr.col, minlength=csr.num_cols)).tolist()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "large"])
def test_gradcheck(kind: str) -> None:
    csr, width = KINDS[kind]
    values, x = random(0, len(csr.col)).requires_grad_(), random(1, csr.num_cols, width).requires_grad_()
    q = random(2, csr.num_rows, width).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, y: spmm(csr, v, y), (values, x))
    assert torch.autograd.gradcheck(lambda a, b: sddmm(csr, a, b), (q, x))
    if len(csr.col):
        assert torch.autograd.gradcheck(lambda v: row_softmax(csr, v), (values,))


def test_inputs_need_not_be_contiguous() -> None:
    csr, width = PARALLEL
    values, x, q = random(0, len(csr.col)), random(1, csr.num_cols, width), random(2, csr.num_rows, width)

    def strided(value: Tensor) -> Tensor:
        """The same values, with gaps between them, and turned in memory where there are two dimensions."""
        turned = value.t().contiguous().repeat_interleave(2, 0)[::2].t() if value.dim() == 2 else value
        return turned if value.dim() == 2 else value.repeat_interleave(2)[::2]

    for value in (values, x, q):
        assert not strided(value).is_contiguous()
    for function, inputs in (
        (lambda v, y: spmm(csr, v, y), (values, x)),
        (lambda a, b: sddmm(csr, a, b), (q, x)),
        (lambda v: row_softmax(csr, v), (values,)),
    ):
        found = gradients(lambda *given, function=function: function(*(strided(g) for g in given)), *inputs)
        same(found, gradients(function, *inputs))
    # An output that was expanded hands a gradient back whose strides are 0.
    leaf = values.clone().requires_grad_()
    (by_sum,) = torch.autograd.grad(spmm(csr, leaf, x).sum(), leaf)
    torch.testing.assert_close(by_sum, x[csr.col].sum(1))


def test_only_what_is_asked_for_is_differentiated() -> None:
    csr, width = PARALLEL
    values, x = random(0, len(csr.col)), random(1, csr.num_cols, width)
    assert not spmm(csr, values, x).requires_grad
    for by_values in (True, False):
        one, other = values.clone().requires_grad_(by_values), x.clone().requires_grad_(not by_values)
        spmm(csr, one, other).sum().backward()
        assert (one.grad is not None, other.grad is not None) == (by_values, not by_values)


def test_large_logits_do_not_overflow() -> None:
    csr = csr_of([(0, 0), (0, 1), (1, 0)], 2, 2)
    found = row_softmax(csr, torch.tensor([1e4, 1e4, -1e4]))
    assert found.tolist() == [0.5, 0.5, 1.0]
