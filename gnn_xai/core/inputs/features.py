"""Lazily masked node features.

The first thing most models do with features is a linear layer, and it is their widest product. With one mask value a node,
`(m · x) W = m · (x W)`: the product leaves the loop. With a mask on every feature of sparse features, only the values that
are not 0 count. `MaskedFeatures` is a tensor to the model; a linear layer meets a product that is cheap, anything else
meets the masked features themselves.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.arrays.sparse import Csr, spmm

SPARSE = 0.2
"""Share of values that are not 0 up to which features are multiplied as a sparse matrix."""


class Features:
    """The features of all nodes of the data, and what layers make of them that no mask can change."""

    def __init__(self, x: Shaped[Tensor, " nodes ..."]) -> None:
        self.x = x
        self._products = WeakTensorKeyDictionary()  # of parameters, each with the state it was in

    def __reduce__(self) -> tuple[type[Features], tuple[Tensor]]:
        return Features, (self.x,)  # products are computed again

    @cached_property
    def nonzero(self) -> tuple[Int[Tensor, " pointers"], Int[Tensor, " entries"], Shaped[Tensor, " entries"]]:
        """The values that are not 0: pointers to each node's, the feature of each, and the values."""
        flat = self.x.reshape(len(self.x), -1)
        node, feature = flat.nonzero(as_tuple=True)
        return pointers(torch.bincount(node, minlength=len(self.x))), feature, flat[node, feature]

    @cached_property
    def any(self) -> Bool[Tensor, " nodes"]:
        """Whether a node has a value that is not 0."""
        return (self.x != 0).reshape(len(self.x), -1).any(1)

    @cached_property
    def sparse(self) -> bool:
        """Whether so many values are 0 that only the others are worth keeping, judged by a sample of the nodes."""
        if self.x.dim() != 2 or self.x.size(1) < 16 or len(self.x) == 0:
            return False
        some = torch.linspace(0, len(self.x) - 1, 256, device=self.x.device).long()
        return float((self.x[some] != 0).float().mean()) < SPARSE

    def product(self, weight: Shaped[Tensor, " outputs features"]) -> Shaped[Tensor, " nodes outputs"]:
        """`x Wᵀ`; for a parameter, computed anew only when the parameter has changed."""
        kept = isinstance(weight, nn.Parameter) and not weight.is_inference()  # those count no changes
        state = (weight._version, weight.data_ptr()) if kept else None
        if state is not None and weight in self._products and self._products[weight][0] == state:
            return self._products[weight][1]
        with torch.no_grad():
            product = functional.linear(self.x, weight)
        if state is not None:
            self._products[weight] = state, product
        return product


class Columns:
    """Rows whose instance has one mask over features: `X_b diag(m_b) Wᵀ` is a product of `X_b` with its own weights.

    Instances of about one size are multiplied together, filled up with rows of zeros.

    Args:
        features: of all nodes.
        node: the node of each row.
        owner: the instance of each row.
        fixed: rows that no mask multiplies.
        size: the number of instances.
    """

    def __init__(
        self,
        features: Features,
        node: Int[Tensor, " rows"],
        owner: Int[Tensor, " rows"],
        fixed: Bool[Tensor, " rows"],
        size: int,
    ) -> None:
        x = features.x.reshape(len(features.x), -1)
        self.x, self.size = x.index_select(0, node), size
        # One more instance for what no mask multiplies.
        owner = torch.where(fixed, size, owner)
        ones = torch.ones(len(node), dtype=x.dtype, device=node.device)
        self.rows = Csr(torch.arange(len(node) + 1, device=node.device), owner, size + 1), ones
        self.owner = owner

    @cached_property
    def groups(
        self,
    ) -> tuple[
        list[tuple[Int[Tensor, " instances"], Shaped[Tensor, " instances longest features"]]], Int[Tensor, " rows"]
    ]:
        """Instances of about one size, each group with its rows filled up, and where each row is among all of these."""
        count = torch.bincount(self.owner, minlength=self.size + 1)
        order = torch.argsort(self.owner, stable=True)
        owner = self.owner[order]
        rank = torch.arange(len(order), device=order.device) - pointers(count)[owner]
        level = torch.log2(count.clamp(min=1).double()).ceil().long()
        place, groups, start = torch.empty_like(order), [], 0
        for number in level[count > 0].unique().tolist():
            instances = ((level == number) & (count > 0)).nonzero().flatten()
            longest = int(count[instances].max())
            numbers = torch.arange(len(instances), device=order.device)
            slot = torch.full_like(count, -1).index_copy(0, instances, numbers)[owner]
            members = slot >= 0
            at = slot[members] * longest + rank[members]
            rows = self.x.new_zeros(len(instances) * longest, self.x.size(1))
            groups.append((instances, rows.index_copy(0, at, self.x[order[members]]).unflatten(0, (-1, longest))))
            place[order[members]] = start + at
            start += len(rows)
        return groups, place

    def pays(self, outputs: int) -> bool:
        """Whether own weights are smaller than masked features."""
        return self.x.size(1) >= 64 and len(self.x) > 2 * outputs * self.size

    def multiply(self, mask: Float[Tensor, " instances features"]) -> Shaped[Tensor, " rows features"]:
        """The rows times the mask of their instance."""
        csr, ones = self.rows
        return self.x * spmm(csr, ones, torch.cat([mask, mask.new_ones(1, mask.size(1))]))

    def linear(
        self, mask: Float[Tensor, " instances features"], weight: Shaped[Tensor, " outputs features"]
    ) -> Shaped[Tensor, " rows outputs"]:
        """The masked rows times a weight."""
        weight = weight.detach().t()
        groups, place = self.groups
        mask = torch.cat([mask, mask.new_ones(1, mask.size(1))])
        parts = [
            torch.bmm(rows, mask.index_select(0, instances).unsqueeze(2) * weight).flatten(0, 1)
            for instances, rows in groups
        ]
        return torch.cat(parts).index_select(0, place)


class MaskedFeatures(Tensor):
    """Rows of `Features`, each times a number, or each value times a number; an ordinary tensor to the model.

    Made by `plain`, `by_row`, `by_value` and `by_column`.
    """

    features: Features
    node: Tensor
    mask: Tensor | None  # one number a row; with `columns`, one for each feature of each instance
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
        first = args[0] if args else None
        if isinstance(first, MaskedFeatures):
            if func in (functional.linear, torch._C._nn.linear) and first.dim() == 2:  # pyright: ignore[reportAttributeAccessIssue]
                return first.linear(*args[1:], **kwargs)
            if func is functional.dropout and not (kwargs.get("training", args[2] if len(args) > 2 else True)):
                return first
        return func(*tree_map(_dense, args), **tree_map(_dense, kwargs))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse callers that bypass `__torch_function__`, such as scripted functions."""
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
"""Functions that need no values."""


def _dense(value: Any) -> Any:
    return value.dense() if isinstance(value, MaskedFeatures) else value


def plain(features: Features, node: Int[Tensor, " rows"]) -> MaskedFeatures:
    """The features of some nodes as they are."""
    return MaskedFeatures(features, node, None)


def by_row(features: Features, node: Int[Tensor, " rows"], mask: Float[Tensor, " rows"]) -> MaskedFeatures:
    """The features of some nodes, each row times a number."""
    return MaskedFeatures(features, node, mask)


def structure(features: Features, node: Int[Tensor, " rows"]) -> tuple[Csr, Shaped[Tensor, " entries"]]:
    """The values that are not 0 in the rows of some nodes, as a sparse matrix: its structure, and the values."""
    if not features.sparse:  # then those of the whole graph are too many to list
        rows = features.x[node].reshape(len(node), -1)
        row, feature = rows.nonzero(as_tuple=True)
        return Csr(pointers(torch.bincount(row, minlength=len(node))), feature, rows.size(1)), rows[row, feature]
    ptr, feature, value = features.nonzero
    entry, row_ptr = gather_segments(ptr, node)
    return Csr(row_ptr, feature[entry], features.x[:1].numel()), value[entry]


def by_value(
    features: Features, node: Int[Tensor, " rows"], csr: Csr, values: Float[Tensor, " entries"]
) -> MaskedFeatures:
    """Sparse rows with a `structure` and other values, differentiable in them."""
    return MaskedFeatures(features, node, None, (csr, values))


def by_column(
    features: Features, node: Int[Tensor, " rows"], columns: Columns, mask: Float[Tensor, " instances features"]
) -> MaskedFeatures:
    """The features of some nodes, those of each instance times its row of the mask."""
    return MaskedFeatures(features, node, mask, None, columns)
