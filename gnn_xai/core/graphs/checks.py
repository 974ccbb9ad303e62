"""What a graph may hold: every data object is checked here before anything else looks at it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData
from torch_geometric.typing import SparseTensor  # pyright: ignore[reportAttributeAccessIssue]

from gnn_xai.core.graphs.edge_sets import is_edge_set
from gnn_xai.core.graphs.rules import plain
from gnn_xai.errors import InputError

_IDS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""Types of integers that every operation on tensors knows."""


def checked(data: Any) -> Any:
    """A graph as it is, or with its edges as tensors where these are lists, tuples or NumPy arrays.

    Raises:
        InputError: if an attribute is not what it should be.
    """
    if isinstance(data, HeteroData):
        return _checked_stores(data)
    store = vars(data._store)
    values = store["_mapping"]
    _check_store(values, "data")
    if "batch" not in values and isinstance(data, Batch) and "_slice_dict" not in store:
        raise InputError(
            "expected a Batch with the graph of each node as batch, got none; build it with Batch.from_data_list"
        )
    edge_index = values.get("edge_index")
    if edge_index is None and not _has_edges(values) and isinstance(values.get("pos"), Tensor):
        data = copy.copy(data)  # a point cloud, whose model finds neighbours itself
        data.edge_index = torch.empty(2, 0, dtype=torch.int64, device=values["pos"].device)
        return data
    if edge_index is None:
        _check_adjacency(values)
        return data
    if _is_edges(edge_index):
        return data
    data = copy.copy(data)
    data.edge_index = _as_edges(edge_index, "data")
    return data


def _checked_stores(data: HeteroData) -> HeteroData:
    """A heterogeneous graph, each of its types and relations checked."""
    for store in data.stores:
        title = "data" if store._key is None else f"data[{store._key!r}]"
        _check_store(store._mapping, title)
        x, count = store.get("x"), store.get("num_nodes")
        if isinstance(x, Tensor) and count is not None and len(x) != int(count):
            raise InputError(
                f"expected {title}.num_nodes as the number of rows of x ({len(x)}), got {int(count)}; leave num_nodes out"
            )
    others = {store._key: store.get("edge_index") for store in data.edge_stores}
    others = {relation: edges for relation, edges in others.items() if edges is not None and not _is_edges(edges)}
    if not others:
        return data
    data = copy.copy(data)
    for relation, edges in others.items():
        data[relation].edge_index = _as_edges(edges, f"data[{relation!r}]")
    return data


def _is_edges(edge_index: Any) -> bool:
    plainly = isinstance(edge_index, Tensor) and edge_index.layout == torch.strided
    return plainly and edge_index.dtype in (torch.int64, torch.int32)


def _check_store(values: Mapping[str, Any], title: str) -> None:
    """Check the attributes of a graph, or of a type or relation, which messages call by its title."""
    x = values.get("x")
    for key, value in values.items():
        if isinstance(value, Tensor) and value.is_meta:
            raise InputError(
                f"expected {title}.{key} with values, got a tensor on the meta device; load or compute it first"
            )
    if x is not None:
        _check_features(x, title)
    if "num_nodes" in values:
        _check_count(values["num_nodes"], title)
    if "batch" in values:
        _check_batch(values["batch"], title, "x" if isinstance(x, Tensor) else "num_nodes", _nodes(values))


def _as_edges(edge_index: Any, title: str) -> Tensor:
    """`edge_index` of another type, as 64-bit integers."""
    got = type(edge_index).__name__
    if isinstance(edge_index, Tensor):
        got = f"{edge_index.dtype} {list(edge_index.shape)}"
    elif isinstance(edge_index, (np.ndarray, Sequence)) and not isinstance(edge_index, str):
        try:
            rows = [row.tolist() if isinstance(row, Tensor) else row for row in edge_index]
            edge_index = torch.from_numpy(np.array(rows, dtype=None if len(rows) and len(rows[0]) else np.int64))
            got = f"{got} of {edge_index.dtype} {list(edge_index.shape)}"
        except (TypeError, ValueError, OverflowError):  # ragged, text, numbers too large
            edge_index = None
    if not isinstance(edge_index, Tensor) or edge_index.layout != torch.strided or not _integers(edge_index):
        raise InputError(f"expected {title}.edge_index as integers of shape [2, num_edges], got {got}")
    return edge_index.long()


def _integers(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex() or value.is_quantized or value.dtype == torch.bool)


def _check_features(x: Any, title: str) -> None:
    if not isinstance(x, Tensor):
        raise InputError(f"expected {title}.x as a tensor, got {type(x).__name__}; pass torch.as_tensor(x)")
    if x.layout != torch.strided or x.is_nested or x.is_quantized:
        kind = "nested" if x.is_nested else "quantized" if x.is_quantized else str(x.layout)
        ways = {"nested": "torch.nested.to_padded_tensor(x, 0)", "quantized": "x.dequantize()"}
        way = ways.get(kind, "x.to_dense()")
        raise InputError(f"expected {title}.x as a dense tensor, got a {kind} one; pass {way}")
    if x.dim() == 0:
        raise InputError(f"expected {title}.x with a row for each node, got a single number; pass x.reshape(1, 1)")
    if x.is_complex():
        raise InputError(f"expected {title}.x as real numbers, got {x.dtype}; pass torch.view_as_real(x).flatten(1)")
    if not (x.is_floating_point() or x.dtype == torch.bool or x.dtype in _IDS):
        raise InputError(
            f"expected {title}.x as numbers that PyTorch computes with, got {x.dtype}; pass x.long() or x.float()"
        )


def _check_count(count: Any, title: str) -> None:
    whole = isinstance(count, (int, np.integer)) or (
        isinstance(count, Tensor) and count.numel() == 1 and _integers(count)
    )
    if isinstance(count, bool) or not whole or not 0 <= int(count) < 2**40:
        raise InputError(f"expected {title}.num_nodes as a number of nodes, got {count!r}; pass an int")


def _nodes(values: Mapping[str, Any]) -> int | None:
    x = values.get("x")
    count = values.get("num_nodes")
    return len(x) if isinstance(x, Tensor) else None if count is None else int(count)


def _check_batch(batch: Any, title: str, of: str, count: int | None) -> None:
    right = isinstance(batch, Tensor) and batch.dim() == 1 and batch.layout == torch.strided and _integers(batch)
    if not right or (batch.numel() > 0 and int(batch.min()) < 0):
        got = f"{batch.dtype} {list(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
        got = "negative numbers" if right else got
        raise InputError(f"expected {title}.batch as the graph of each node, integers from 0 on, got {got}")
    if count is not None and len(batch) != count:
        raise InputError(
            f"expected {title}.batch with one number for each node, as {title}.{of} says {count}, got {len(batch)}"
        )


def _has_edges(values: Mapping[str, Any]) -> bool:
    others = any(is_edge_set(key, plain(value)) for key, value in values.items())
    return values.get("adj_t") is not None or others


def _check_adjacency(values: dict[str, Any]) -> None:
    adj_t = values.get("adj_t")
    if adj_t is None and _has_edges(values):
        return
    if adj_t is None:
        have = sorted(key for key, value in values.items() if value is not None)
        raise InputError(f"expected data with edge_index or adj_t, got attributes {have}")
    if isinstance(adj_t, SparseTensor):
        return
    if not isinstance(adj_t, Tensor) or adj_t.dim() != 2 or adj_t.size(0) != adj_t.size(1):
        got = f"shape {list(adj_t.shape)}" if isinstance(adj_t, Tensor) else type(adj_t).__name__
        raise InputError(f"expected data.adj_t as a square matrix, got {got}; set data.edge_index instead")
