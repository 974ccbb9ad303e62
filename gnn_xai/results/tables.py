"""Explanations as tidy tables: pandas, and Parquet files that other languages read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from gnn_xai.errors import InputError, StorageError, unknown
from gnn_xai.optional import need

if TYPE_CHECKING:
    from pandas import DataFrame

    from gnn_xai.results.explanations import Explanations

Level = Literal["instance", "edge", "node", "feature"]
LEVELS: tuple[Level, ...] = ("instance", "edge", "node", "feature")


def columns(explanations: Explanations, level: Level = "instance", first: int = 0) -> dict[str, np.ndarray]:
    """The columns of the table of a level, see `Explanations.to_pandas`.

    Args:
        explanations: B of them.
        level: one of `LEVELS`.
        first: the position of the first of them.

    Raises:
        InputError: for an unknown level, or one that the explanations do not score.
    """
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    e = explanations
    position = np.arange(first, first + len(e))
    if level == "instance":
        found = {"position": position, **_arrays(index=e.index, target=e.target)}
        for name in ("prediction", "prediction_masked", "prediction_complement"):
            found |= _spread(name, getattr(e, name))
        found |= _arrays(exact=e.exact, hops=e.hops, num_nodes=e.node_ptr.diff(), num_edges=e.edge_ptr.diff())
        for name, value in e.extras.items():
            if not name.startswith(("edge_", "node_")):
                found |= _spread(name, value)
        return found

    def of(owner: Tensor) -> dict[str, np.ndarray]:
        return {"position": position[_array(owner)], **_arrays(index=e.index[owner], target=e.target[owner])}

    if level == "edge" and e.edge_mask is not None:
        ends = dict(zip(("source", "destination"), e.edge_index, strict=True))
        extras = {name.removeprefix("edge_"): v for name, v in e.extras.items() if name.startswith("edge_")}
        return {**of(e.edge_owner), **_arrays(edge_id=e.edge_id, **ends, score=e.edge_mask), **_spread_all(extras)}
    if level == "node" and (scores := e.node_scores) is not None:
        return {**of(e.node_owner), **_arrays(node_id=e.node_id, score=scores)}
    if level == "feature" and e.node_mask is not None and e.node_mask_type != "object":
        width = e.node_mask.size(1)
        if e.node_mask_type == "common_attributes":
            rows = {"position": position, **_arrays(index=e.index, target=e.target)}
        else:
            rows = {**of(e.node_owner), **_arrays(node_id=e.node_id)}
        repeated = {name: np.repeat(value, width) for name, value in rows.items()}
        feature = np.tile(np.arange(width), len(e.node_mask))
        return {**repeated, "feature": feature, **_arrays(score=e.node_mask.reshape(-1))}
    raise InputError(
        f"{e.algorithm['name']} scored no {level}s; choose another level, or an algorithm that scores them"
    )


def about(explanations: Explanations) -> dict[str, Any]:
    """Where a table comes from: algorithm, task, seed, what scores mean, and provenance; ready for JSON."""
    e = explanations
    return {
        "algorithm": e.algorithm,
        "task": [e.task.mode.value, e.task.task_level.value, e.task.return_type.value],
        "seed": e.seed,
        "signed": e.signed,
        "removal": e.removal,
        "node_mask_type": e.node_mask_type,
        "provenance": e.provenance,
    }


def table(parts: Iterable[tuple[int, Explanations]], level: Level) -> DataFrame:
    """One table of parts that come with the position of their first; `DataFrame.attrs["gnn_xai"]` says what it is about."""
    pandas = need("pandas", "research", "tables of explanations")
    found, told = [], {}
    for first, part in parts:
        found.append(pandas.DataFrame(columns(part, level, first)))
        told = told or about(part)
    whole = pandas.concat(found, ignore_index=True) if len(found) > 1 else found[0]
    whole.attrs["gnn_xai"] = told
    return whole


def write_parquet(path: str | os.PathLike[str], parts: Iterable[tuple[int, Explanations]], level: Level) -> Path:
    """Write the table of a level to a Parquet file, a row group for each part; a file is whole or not there.

    Raises:
        StorageError: if it cannot be written.
    """
    pyarrow, parquet = (need(name, "research", "Parquet files") for name in ("pyarrow", "pyarrow.parquet"))
    path, work, writer = Path(path), None, None
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            work = Path(folder) / path.name
            for first, part in parts:
                rows = pyarrow.table(columns(part, level, first))
                if writer is None:
                    told = {"gnn_xai": json.dumps(about(part))}
                    writer = parquet.ParquetWriter(work, rows.schema.with_metadata(told))
                writer.write_table(rows.cast(writer.schema))
            if writer is not None:
                writer.close()
            os.replace(work, path)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; choose a folder that exists and is writable"
        ) from error
    return path


def _arrays(**values: Tensor) -> dict[str, np.ndarray]:
    return {name: _array(value) for name, value in values.items()}


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()


def _spread(name: str, value: Tensor) -> dict[str, np.ndarray]:
    """`[n]` as one column, `[n, ...]` as one for each element of a row."""
    if value.dim() == 1:
        return {name: _array(value)}
    return {f"{name}_{number}": _array(column) for number, column in enumerate(value.flatten(1).unbind(1))}


def _spread_all(values: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {key: column for name, value in values.items() for key, column in _spread(name, value).items()}
