"""Explanations as tidy tables: pandas, and Parquet files that other languages read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import owners
from gnn_xai.errors import InputError, unknown
from gnn_xai.optional import need
from gnn_xai.results.columns import COLUMNS, EXTRAS, LEVELS, level_of
from gnn_xai.results.files import replacing

if TYPE_CHECKING:
    from pandas import DataFrame

TableLevel = Literal["instance", "edge", "node", "feature", "column"]
TABLE_LEVELS: tuple[TableLevel, ...] = ("instance", "edge", "node", "feature", "column")


Parts = Iterable[tuple[int, Any]]
"""`Explanations` of one run, in parts that come with the position of their first."""


def rows(explanations: Any, level: TableLevel = "instance", first: int = 0) -> dict[str, np.ndarray]:
    """The columns of the table of a level, see `Explanations.to_pandas`.

    Args:
        explanations: `Explanations` of B instances.
        level: one of `TABLE_LEVELS`.
        first: the position of the first of them.

    Raises:
        InputError: for an unknown level, or one that the explanations do not score.
    """
    if level not in TABLE_LEVELS:
        raise unknown("level", level, TABLE_LEVELS)
    columns = explanations.tensors()
    position = np.arange(first, first + len(columns["index"]))
    if level == "instance":
        own = {name: columns[name] for name, level in LEVELS.items() if level == "instance"}
        counts = {f"num_{name}s": columns[f"{name}_ptr"].diff() for name in ("node", "edge")}
        return {"position": position, **arrays({**own, **counts, **_extras(columns, level)})}

    def of(name: str) -> dict[str, np.ndarray]:
        owner = owners(columns[f"{name}_ptr"])
        ids = columns[f"{name}_id"] if explanations.types is None else columns[f"{name}_number"]
        head = {
            "index": columns["index"][owner],
            "target": columns["target"][owner],
            f"{name}_id": ids,
        }
        return {"position": position[_array(owner)], **arrays(head), **_kinds(explanations, name)}

    if level == "edge" and (edge_mask := columns.get("edge_mask")) is not None:
        source, destination = _ends(explanations)
        ends = {"source": source, "destination": destination}
        return {**of("edge"), **arrays({**ends, "score": edge_mask, **_extras(columns, level)})}
    if level == "node" and (scores := explanations.node_scores) is not None:
        return {**of("node"), "score": _array(scores)}
    node_mask = columns.get("node_mask")
    if level == "feature" and node_mask is not None and explanations.node_mask_type != "object":
        head = {"position": position, **arrays({name: columns[name] for name in ("index", "target")})}
        head = head if explanations.node_mask_type == "common_attributes" else of("node")
        repeated = {name: np.repeat(value, node_mask.size(1)) for name, value in head.items()}
        feature = np.tile(np.arange(node_mask.size(1)), len(node_mask))
        return {**repeated, "feature": feature, "score": _array(node_mask.reshape(-1))}
    if level == "column" and explanations.columns:
        tables = [_of_column(explanations, name, position) for name in explanations.columns]
        return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    algorithm = explanations.about()["algorithm"]["name"]
    raise InputError(f"{algorithm} scored no {level}s; choose another level, or an algorithm that scores them")


def table(parts: Parts, level: TableLevel) -> DataFrame:
    """One table of all parts; its `attrs["gnn_xai"]` hold `Explanations.about`."""
    pandas = need("pandas", "research", "tables of explanations")
    frames, about = [], {}
    for first, part in parts:
        frames.append(pandas.DataFrame(rows(part, level, first)))
        about = about or part.about()
    whole = pandas.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    whole.attrs["gnn_xai"] = about
    return whole


def write_parquet(path: str | os.PathLike[str], parts: Parts, level: TableLevel) -> Path:
    """Write the table of a level to a Parquet file, a row group for each part; a file is whole, or missing.

    Raises:
        StorageError: if it cannot be written.
    """
    pyarrow, parquet = (need(name, "research", "Parquet files") for name in ("pyarrow", "pyarrow.parquet"))
    writer = None
    with replacing(Path(path)) as work:
        for first, part in parts:
            group = pyarrow.table(rows(part, level, first))
            if writer is None:
                about = {"gnn_xai": json.dumps(part.about())}
                writer = parquet.ParquetWriter(work, group.schema.with_metadata(about))
            writer.write_table(group.cast(writer.schema))
        if writer is not None:
            writer.close()
    return Path(path)


def _of_column(explanations: Any, name: str, position: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of one attribute, a row for each."""
    scores, level = explanations.columns[name], explanations.level(f"{COLUMNS}{name}")
    element = owner = torch.arange(len(explanations), device=scores.device)
    if level == "instance":
        element = torch.full_like(owner, -1)
    else:
        owner, element = owners(getattr(explanations, f"{level}_ptr")), getattr(explanations, f"{level}_id")
        held = None if explanations.types is None else explanations.types.held.get(name)
        if held is not None:
            inside = getattr(explanations, f"{level}_type") == held.number
            element, owner, scores = (
                some[inside] for some in (getattr(explanations, f"{level}_number"), owner, scores)
            )
    head = arrays({"index": explanations.index[owner], "target": explanations.target[owner]})
    width = scores.size(1)
    repeated = {"position": position[_array(owner)], **head, "column": np.full(len(scores), name)}
    repeated["element"] = _array(element)
    feature = np.tile(np.arange(width), len(scores))
    own = {key: np.repeat(value, width) for key, value in repeated.items()}
    return {**own, "feature": feature, "score": _array(scores.reshape(-1))}


def _kinds(explanations: Any, name: str) -> dict[str, np.ndarray]:
    """The node type of each node, or the relation of each edge, by name; nothing for homogeneous graphs."""
    types = explanations.types
    if types is None:
        return {}
    names = types.node_types if name == "node" else ["→".join(relation) for relation in types.edge_types]
    return {f"{name}_type": np.array(names)[_array(getattr(explanations, f"{name}_type"))]}


def _ends(explanations: Any) -> Tensor:
    """The ends of edges, `[2, ΣE]`, in heterogeneous graphs counted within their node types."""
    if explanations.types is None or len(explanations.node_id) == 0:
        return explanations.edge_index
    span = int(explanations.node_id.max()) + 1  # instance and id together identify a node
    nodes = owners(explanations.node_ptr) * span + explanations.node_id
    at = torch.searchsorted(nodes, owners(explanations.edge_ptr) * span + explanations.edge_index)
    return explanations.node_number[at]


def _extras(columns: dict[str, Tensor], level: TableLevel) -> dict[str, Tensor]:
    """The extras of a level, by the names of their columns."""
    extras = {name: value for name, value in columns.items() if name.startswith(EXTRAS)}
    prefix = EXTRAS if level == "instance" else f"{EXTRAS}{level}_"
    return {name.removeprefix(prefix): value for name, value in extras.items() if level_of(name, False, {}) == level}


def arrays(values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors `[n]` as one column each, `[n, ...]` as one for each element of a row."""
    columns = {}
    for name, value in values.items():
        if value.dim() == 1:
            columns[name] = _array(value)
        else:
            columns |= {f"{name}_{number}": _array(column) for number, column in enumerate(value.flatten(1).unbind(1))}
    return columns


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()
