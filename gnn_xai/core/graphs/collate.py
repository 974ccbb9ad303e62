"""Batching of lists of graphs as PyG does it, faster where the graphs hold nothing out of the ordinary."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.data.storage import N_KEYS

from gnn_xai.core.arrays.segments import owners, pointers
from gnn_xai.core.graphs.spelling import forget_namesake


def collate(items: Sequence[Any]) -> Any:
    """What `Batch.from_data_list` makes of some graphs, one or more.

    PyG asks each graph how each of its attributes is batched, and adds numbers of nodes graph by graph. The answers are
    the same for all objects of class `Data` that hold dense tensors, numbers and text under the same names; those
    are batched attribute by attribute, all others by PyG.
    """
    columns = _columns(items)
    sizes = None if columns is None else _sizes(columns)
    if columns is None or sizes is None:
        forget_namesake(type(items[0]))
        return Batch.from_data_list(list(items))
    out: Any = Batch(_base_cls=Data)
    ptr = pointers(torch.tensor(sizes, device="cpu"))
    device, slices, increments = ptr.device, {}, {}
    for key, values in columns.items():
        if key == "num_nodes":
            out._store._num_nodes, out.num_nodes = values, sum(values)
            continue
        out[key], slices[key], increments[key] = _collated(key, values, ptr)
        if isinstance(out[key], Tensor) and out[key].is_cuda:
            device = out[key].device
    out.batch, out.ptr = owners(ptr).to(device), ptr.to(device)
    out._num_graphs, out._slice_dict, out._inc_dict = len(items), slices, increments
    return out


def detached(data: Any, device: torch.device) -> Any:
    """A data object on a device, without gradients: a copy, because PyG's `detach` and `to` work in place.

    They also look at every text of a list; these are left out.
    """
    keys: list[str] = [] if isinstance(data, HeteroData) else [key for key, value in data if not _is_text(value)]
    return copy.copy(data).detach(*keys).to(str(device), *keys)


def _is_text(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) == {str}


def _columns(items: Sequence[Any]) -> dict[str, list[Any]] | None:
    """The values of each attribute, one for each graph; `None` where PyG has to look at them one by one."""
    if set(map(type, items)) != {Data}:
        return None
    rows: list[dict[str, Any]] = [vars(item._store)["_mapping"] for item in items]
    keys = list(rows[0])
    if any(list(row) != keys for row in rows):
        return None
    columns = {key: [row[key] for row in rows] for key in keys}
    return columns if all(_ordinary(key, values) for key, values in columns.items()) else None


def _ordinary(key: str, values: list[Any]) -> bool:
    """Whether an attribute is batched by its name and type alone."""
    kinds = set(map(type, values))
    if key == "num_nodes":
        return kinds == {int}
    if "batch" in key or key == "ptr":
        return False
    if kinds == {Tensor}:
        dense = set(map(_layout, values)) == {torch.strided} and not any(map(_is_nested, values))
        return dense and (not _counted(key) or set(map(_dtype, values)) <= {torch.int64, torch.int32})
    return not _counted(key) and (kinds == {str} or kinds <= {int, float, bool})


_layout, _is_nested, _dtype = attrgetter("layout"), attrgetter("is_nested"), attrgetter("dtype")


def _counted(key: str) -> bool:
    """Whether an attribute holds numbers of nodes, by PyG's conventions."""
    return "index" in key or key == "face"


def _sizes(columns: dict[str, list[Any]]) -> list[int] | None:
    """The number of nodes of each graph; `None` where PyG has to look for it."""
    if "num_nodes" in columns:
        return columns["num_nodes"]
    values = columns.get(next((key for key in columns if key in N_KEYS), ""), [0])
    if "x" not in columns and "pos" not in columns or set(map(type, values)) != {Tensor}:
        return None
    return [value.size(0) for value in values]


def _collated(key: str, values: list[Any], ptr: Tensor) -> tuple[Any, Tensor, Tensor | None]:
    """An attribute of all graphs as one, where each graph's part starts `[G + 1]`, and what was added to it `[G]`."""
    if isinstance(values[0], str):
        return values, torch.arange(len(values) + 1, device="cpu"), None
    none = torch.zeros(len(values), dtype=torch.int64, device="cpu")
    if not isinstance(values[0], Tensor):
        return torch.tensor(values, device="cpu"), torch.arange(len(values) + 1, device="cpu"), none
    dim = -1 if _counted(key) else 0
    if values[0].dim() == 0:
        values = [value.unsqueeze(0) for value in values]
    value = torch.cat(values, dim)
    sizes = torch.tensor([value.size(dim) for value in values], device="cpu")
    if not _counted(key):
        return value, pointers(sizes), none
    shift = torch.repeat_interleave(ptr[:-1], sizes).to(value.device, value.dtype)
    return value + shift, pointers(sizes), ptr[:-1]
