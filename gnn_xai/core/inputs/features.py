"""Node features under a mask that has not been multiplied in yet.

The first thing most models do with features is a linear layer, and it is their widest product. With one mask value a node,
`(m · x) W = m · (x W)`: the product leaves the loop. With a mask on every feature of sparse features, only the values that
are not 0 count. `MaskedFeatures` is a tensor to the model; a linear layer meets a product that is cheap, anything else
meets the masked features themselves.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.arrays.sparse import Csr, spmm

SPARSE = 0.2
"""Share of values that are not 0 up to which features are multiplied as a sparse matrix."""


class Features:
    """The features `x` `[N, F]` of all nodes of the data, and what layers make of them that no mask can change."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._products: dict[int, tuple[Tensor, Tensor]] = {}

    @cached_property
    def nonzero(self) -> tuple[Tensor, Tensor, Tensor]:
        """The values that are not 0: `(ptr [N + 1], feature [M], value [M])`."""
        node, feature = self.x.reshape(len(self.x), -1).nonzero(as_tuple=True)
        ptr = pointers(torch.bincount(node, minlength=len(self.x)))
        return ptr, feature, self.x.reshape(len(self.x), -1)[node, feature]

    @cached_property
    def any(self) -> Tensor:
        """Whether a node has a value that is not 0, `[N]` bool."""
        return (self.x != 0).reshape(len(self.x), -1).any(1)

    @cached_property
    def sparse(self) -> bool:
        """Whether so many values are 0 that the rest is better kept alone. A sample of the nodes tells."""
        if self.x.dim() != 2 or self.x.size(1) < 16 or len(self.x) == 0:
            return False
        some = torch.linspace(0, len(self.x) - 1, 256, device=self.x.device).long()
        return float((self.x[some] != 0).float().mean()) < SPARSE

    def product(self, weight: Tensor) -> Tensor:
        """`x Wᵀ` `[N, O]`, computed once for a parameter."""
        if id(weight) not in self._products:
            with torch.no_grad():
                found = functional.linear(self.x, weight)
            if not isinstance(weight, nn.Parameter):
                return found
            self._products[id(weight)] = weight, found  # the weight is kept, so that no other gets its id
        return self._products[id(weight)][1]


class Columns:
    """Rows whose instance has one mask over features: `X_b diag(m_b) Wᵀ` is a product of `X_b` with its own weights.

    Instances of about one size are multiplied together, filled up with rows of zeros.

    Args:
        features: of all nodes.
        node: `[n]` the node of each row.
        owner: `[n]` the instance of each row.
        fixed: `[n]` bool, rows that no mask multiplies.
        size: how many instances there are, B.
    """

    def __init__(self, features: Features, node: Tensor, owner: Tensor, fixed: Tensor, size: int) -> None:
        x = features.x.reshape(len(features.x), -1)
        self.x, self.size = x.index_select(0, node), size
        # One more instance for what no mask multiplies.
        owner = torch.where(fixed, size, owner)
        ones = torch.ones(len(node), dtype=x.dtype, device=node.device)
        self.rows = Csr(torch.arange(len(node) + 1, device=node.device), owner, size + 1), ones
        self.owner = owner

    @cached_property
    def groups(self) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Instances by size: `(instances [b], their rows filled up [b, r, F])`, and where each row is among all of these."""
        count = torch.bincount(self.owner, minlength=self.size + 1)
        order = torch.argsort(self.owner, stable=True)
        ptr = pointers(count)
        rank = torch.arange(len(order), device=order.device) - ptr[self.owner[order]]
        level = torch.log2(count.clamp(min=1).double()).ceil().long()
        place, found, start = torch.empty_like(order), [], 0
        for number in level[count > 0].unique().tolist():
            instances = ((level == number) & (count > 0)).nonzero().flatten()
            longest = int(count[instances].max())
            slot = torch.full_like(count, -1).index_copy(
                0, instances, torch.arange(len(instances), device=order.device)
            )
            mine = slot[self.owner[order]] >= 0
            at = slot[self.owner[order[mine]]] * longest + rank[mine]
            filled = self.x.new_zeros(len(instances) * longest, self.x.size(1)).index_copy(0, at, self.x[order[mine]])
            place[order[mine]] = start + at
            found.append((instances, filled.reshape(len(instances), longest, -1)))
            start += len(instances) * longest
        return found, place

    def pays(self, outputs: int) -> bool:
        """Whether own weights are smaller than masked features."""
        return self.x.size(1) >= 64 and len(self.x) > 2 * outputs * self.size

    def multiply(self, mask: Tensor) -> Tensor:
        """The masked rows `[n, F]` for masks `[B, F]`."""
        csr, ones = self.rows
        return self.x * spmm(csr, ones, torch.cat([mask, mask.new_ones(1, mask.size(1))]))

    def linear(self, mask: Tensor, weight: Tensor) -> Tensor:
        """The masked rows times `weight` `[O, F]`, `[n, O]`."""
        weight = weight.detach().t()
        groups, place = self.groups
        mask = torch.cat([mask, mask.new_ones(1, mask.size(1))])
        parts = [
            torch.bmm(rows, mask.index_select(0, instances).unsqueeze(2) * weight).flatten(0, 1)
            for instances, rows in groups
        ]
        return torch.cat(parts).index_select(0, place)


class MaskedFeatures(Tensor):
    """Rows of `Features`, each times a number, or each value times a number; a tensor `[n, F]` to the model.

    Made by `plain`, `by_row`, `by_value` and `by_column`.
    """

    features: Features
    node: Tensor
    mask: Tensor | None  # [n], or [B, F] with `columns`
    entries: tuple[Csr, Tensor] | None  # structure and values of the sparse rows, where masks are on values
    columns: Columns | None  # where rows of an instance share a mask on features

    @staticmethod
    def __new__(
        cls,
        features: Features,
        node: Tensor,
        mask: Tensor | None,
        entries: tuple[Csr, Tensor] | None = None,
        columns: Columns | None = None,
    ) -> MaskedFeatures:
        """A tensor that has a shape and no values."""
        x = features.x
        self = torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, (len(node), *x.shape[1:]), dtype=x.dtype, device=x.device, requires_grad=False
        )
        self.features, self.node, self.mask, self.entries, self.columns = features, node, mask, entries, columns
        return self

    def rows(self, count: int) -> Tensor:
        """The first rows."""
        if self.columns is not None:
            return self.dense()[:count]
        mask, entries = self.mask, self.entries
        if entries is not None:
            csr, values = entries[0].first_rows(count), entries[1]
            entries = csr, values[: len(csr.col)]
        return MaskedFeatures(self.features, self.node[:count], None if mask is None else mask[:count], entries)

    def dense(self) -> Tensor:
        """The masked features themselves."""
        if self.columns is not None:
            assert self.mask is not None
            return self.columns.multiply(self.mask).reshape(self.shape)
        if self.entries is not None:
            csr, values = self.entries
            out = values.new_zeros(len(self.node) * csr.num_cols)
            return out.index_copy(0, csr.row * csr.num_cols + csr.col, values).reshape(self.shape)
        x = self.features.x.index_select(0, self.node)
        return x if self.mask is None else x * self.mask.reshape(-1, *[1] * (x.dim() - 1))

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """`torch.nn.functional.linear` of the masked features."""
        if self.entries is not None and not self.features.sparse:
            return functional.linear(self.dense(), weight, bias)
        if self.columns is not None:
            assert self.mask is not None
            if not self.columns.pays(len(weight)):
                return functional.linear(self.dense(), weight, bias)
            out = self.columns.linear(self.mask, weight)
        elif self.entries is not None:
            csr, values = self.entries
            # As in `Features.product`: what masks are learned for is not the weight.
            out = spmm(csr, values, weight.detach().t())
        else:
            out = self.features.product(weight).index_select(0, self.node)
            if self.mask is not None:
                out = out * self.mask.unsqueeze(1)
        return out if bias is None else out + bias

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _ABOUT:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        me = args[0] if args else None
        if isinstance(me, MaskedFeatures):
            if func in (functional.linear, torch._C._nn.linear) and me.dim() == 2:  # pyright: ignore[reportAttributeAccessIssue]
                return me.linear(*args[1:], **kwargs)
            if func is functional.dropout and not (kwargs.get("training", args[2] if len(args) > 2 else True)):
                return me
        return func(*tree_map(_dense, args), **tree_map(_dense, kwargs))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """For callers that pass by `__torch_function__`, such as scripted functions."""
        raise RuntimeError("masked features were read where gradients are not followed any more")


_ABOUT = {
    Tensor.dim,
    Tensor.size,
    Tensor.numel,
    Tensor.is_floating_point,
    Tensor.__len__,
    Tensor.ndimension,
    Tensor.shape.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.ndim.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.dtype.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.device.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.layout.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.is_cuda.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.is_sparse.__get__,  # pyright: ignore[reportAttributeAccessIssue]
}
"""What can be told without the values."""


def _dense(value: Any) -> Any:
    return value.dense() if isinstance(value, MaskedFeatures) else value


def plain(features: Features, node: Tensor) -> MaskedFeatures:
    """The features of nodes `[n]` as they are."""
    return MaskedFeatures(features, node, None)


def by_row(features: Features, node: Tensor, mask: Tensor) -> MaskedFeatures:
    """The features of nodes `[n]`, each row times one of `mask` `[n]`."""
    return MaskedFeatures(features, node, mask)


def structure(features: Features, node: Tensor) -> tuple[Csr, Tensor]:
    """The values that are not 0 in the rows of nodes `[n]`, as a sparse matrix: its structure, and the values `[M]`."""
    if not features.sparse:  # then those of the whole graph are too many to list
        rows = features.x[node].reshape(len(node), -1)
        row, feature = rows.nonzero(as_tuple=True)
        return Csr(pointers(torch.bincount(row, minlength=len(node))), feature, rows.size(1)), rows[row, feature]
    ptr, feature, value = features.nonzero
    entry, row_ptr = gather_segments(ptr, node)
    return Csr(row_ptr, feature[entry], features.x[:1].numel()), value[entry]


def by_value(features: Features, node: Tensor, csr: Csr, values: Tensor) -> MaskedFeatures:
    """Sparse rows with the structure that `structure` gave and values `[M]`, differentiable in them."""
    return MaskedFeatures(features, node, None, (csr, values))


def by_column(features: Features, node: Tensor, columns: Columns, mask: Tensor) -> MaskedFeatures:
    """The features of nodes `[n]`, those of each instance times its row of `mask` `[B, F]`."""
    return MaskedFeatures(features, node, mask, None, columns)
