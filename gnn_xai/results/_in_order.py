"""Whether what was read from a file can be used as explanations, checked once, where it is read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.engines.scored import NODE_MASK_TYPES
from gnn_xai.results._by_type import TypeNames
from gnn_xai.results.columns import COLUMNS, EXTRAS, LEVELS, level_of, rows_dim

_OPTIONAL = {"edge_mask", "node_mask", "node_type", "node_number", "edge_type", "edge_number"}
_DIMS = {"prediction": 2, "prediction_masked": 2, "prediction_complement": 2, "edge_index": 2, "node_mask": 2}
_FLOATS = {"prediction", "prediction_masked", "prediction_complement", "edge_mask", "node_mask"}
_KINDS = {"signed": bool, "removal": str, "algorithm": dict, "seed": int, "provenance": dict}


def require_order(columns: dict[str, Tensor], about: dict[str, Any], types: TypeNames | None) -> None:
    """Raise a `ValueError` that says what is wrong, unless columns and settings go together.

    Args:
        columns: tensors by name, see `Explanations.columns`.
        about: settings, see `Explanations.about`.
        types: the names of node types and relations of a heterogeneous graph.
    """
    for name, kind in _KINDS.items():
        if not isinstance(about[name], kind):
            raise ValueError(f"{name} is a {type(about[name]).__name__}, and no {kind.__name__}")
    if not isinstance(about["algorithm"].get("name"), str):
        raise ValueError("algorithm has no name")
    if about["node_mask_type"] not in (None, *NODE_MASK_TYPES):
        raise ValueError(f"node_mask_type is {about['node_mask_type']!r}")
    if (about["node_mask_type"] is None) != ("node_mask" not in columns):
        raise ValueError("node_mask and node_mask_type contradict each other")
    if missing := LEVELS.keys() - columns.keys() - _OPTIONAL:
        raise ValueError(f"without {', '.join(sorted(missing))}")
    for name, (level, kind) in about["column_types"].items():
        if f"{COLUMNS}{name}" not in columns or level not in ("node", "edge", "graph") or kind not in NODE_MASK_TYPES:
            raise ValueError(f"{name} is no column of scores")
    common = about["node_mask_type"] == "common_attributes"
    rows = {"instance": len(columns["index"]) if columns["index"].dim() else 0}
    for level in ("node", "edge"):
        ids = columns[f"{level}_id"]
        rows[level] = len(ids) if ids.dim() else -1
        _require_pointers(f"{level}_ptr", columns[f"{level}_ptr"], rows["instance"], rows[level])
    for name, value in columns.items():
        if LEVELS.get(name) != "pointer":
            _require_rows(name, value, rows[level_of(name, common, about["column_types"])])
    _require_nodes(columns)
    _require_types(columns, types)


def _require_pointers(name: str, ptr: Tensor, instances: int, total: int) -> None:
    whole = ptr.dtype == torch.int64 and ptr.shape == (instances + 1,)
    if not whole or int(ptr[0]) != 0 or int(ptr[-1]) != total or bool((ptr.diff() < 0).any()):
        raise ValueError(f"{name} does not cut {total} rows into {instances} instances")


def _require_rows(name: str, value: Tensor, rows: int) -> None:
    if value.dim() == 0 or value.dim() <= rows_dim(name) or value.size(rows_dim(name)) != rows:
        raise ValueError(f"{name} has shape {list(value.shape)}, and no row for each of {rows}")
    if name.startswith(EXTRAS):
        return
    scored = name.startswith(COLUMNS)
    dims = 2 if scored else _DIMS.get(name, value.dim() if name == "index" else 1)
    if value.dim() != dims or (name == "edge_index" and value.size(0) != 2):
        raise ValueError(f"{name} has shape {list(value.shape)}")
    if name == "index" and value.dim() > 1 and value.shape[1:] != (2,):
        raise ValueError(f"index has shape {list(value.shape)}")
    floating = value.is_floating_point() and not value.is_complex()
    fits = floating if scored or name in _FLOATS else value.dtype == (torch.bool if name == "exact" else torch.int64)
    if not fits:
        raise ValueError(f"{name} is {value.dtype}")


def _require_nodes(columns: dict[str, Tensor]) -> None:
    """Raise unless all edges run between nodes of their instance, and ids and targets are in range."""
    node, ends = columns["node_id"], columns["edge_index"]
    if bool((node < 0).any()) or bool((columns["edge_id"] < 0).any()) or bool((ends < 0).any()):
        raise ValueError("an id is negative")
    if len(node) and ends.numel():
        span = int(torch.maximum(node.max(), ends.max())) + 1
        owner = {
            level: torch.arange(len(columns["index"])).repeat_interleave(columns[f"{level}_ptr"].diff())
            for level in ("node", "edge")
        }
        if not bool(torch.isin(owner["edge"] * span + ends, owner["node"] * span + node).all()):
            raise ValueError("an edge ends at a node that its instance does not have")
    elif ends.numel():
        raise ValueError("there are edges without nodes")
    target = columns["target"]
    columns_of_output = max(columns["prediction"].size(1), 2)  # one column stands for two classes
    if bool(((target < 0) | (target >= columns_of_output)).any()):
        raise ValueError("a target is out of range")
    for name in ("prediction_masked", "prediction_complement"):
        if columns[name].shape != columns["prediction"].shape:
            raise ValueError(f"{name} and prediction have different shapes")


def _require_types(columns: dict[str, Tensor], types: TypeNames | None) -> None:
    present = [name for name in ("node_type", "node_number", "edge_type", "edge_number") if name in columns]
    if len(present) != (0 if types is None else 4):
        raise ValueError("columns of types and their names contradict each other")
    if types is None:
        return
    for name, known in (("node_type", types.node_types), ("edge_type", types.edge_types)):
        if bool(((columns[name] < 0) | (columns[name] >= len(known))).any()):
            raise ValueError(f"{name} is out of range")
