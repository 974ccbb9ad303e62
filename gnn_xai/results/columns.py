"""The tensors of explanations: one table of what each has a row for, used to select, join, save and tabulate them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.graphs.columns import Level

ColumnLevel = Literal["instance", "node", "edge", "pointer"]

LEVELS: dict[str, ColumnLevel] = {
    "index": "instance",
    "target": "instance",
    "prediction": "instance",
    "prediction_masked": "instance",
    "prediction_complement": "instance",
    "exact": "instance",
    "hops": "instance",
    "node_ptr": "pointer",
    "node_id": "node",
    "edge_ptr": "pointer",
    "edge_id": "edge",
    "edge_index": "edge",
    "edge_mask": "edge",
    "node_mask": "node",
    "node_type": "node",
    "node_number": "node",
    "edge_type": "edge",
    "edge_number": "edge",
}
"""What each tensor of `Explanations` has a row for; `pointer`: where the nodes or edges of each instance start."""

EXTRAS = "extras."
"""Prefix of the names of extras among columns, in files too; `extras.edge_...` and `extras.node_...` have a row for each
edge and node, others for each instance."""


COLUMNS = "columns."
"""Prefix of the names of scored attributes among tensors, in files too."""

ColumnTypes = Mapping[str, tuple[Level, NodeMaskType]]
"""What a row of each scored attribute belongs to, and its type of mask."""


def level_of(name: str, common: bool, types: ColumnTypes) -> ColumnLevel:
    """What a tensor has a row for.

    Args:
        name: as in `LEVELS`, or of an extra or a scored attribute, with its prefix.
        common: one mask is shared by all nodes of an instance, so node masks and their extras have a row for each instance.
        types: of scored attributes.
    """
    if name.startswith(COLUMNS):
        of, kind = types[name.removeprefix(COLUMNS)]
        return "instance" if of == "graph" or kind == "common_attributes" else of
    if name.startswith(EXTRAS):
        prefix = name.removeprefix(EXTRAS).split("_")[0]
        level: ColumnLevel = "edge" if prefix == "edge" else "node" if prefix == "node" else "instance"
        return "instance" if common and level == "node" else level
    return "instance" if common and name == "node_mask" else LEVELS[name]


def rows_dim(name: str) -> int:
    """The dimension of a column along which its rows lie."""
    return 1 if name == "edge_index" else 0


def positions(i: int | slice | list[int] | Tensor, size: int) -> int | Tensor:
    """An index into `size` instances: one position from 0 on, or several as a tensor.

    Raises:
        IndexError: if one position is out of range.
    """
    if isinstance(i, (slice, list)) or (isinstance(i, Tensor) and i.dim() > 0):
        return torch.arange(size, device="cpu")[i.cpu() if isinstance(i, Tensor) else i]
    position = int(i)
    if not -size <= position < size:
        raise IndexError(f"position {position} is out of range for {size} explanations")
    return position % size


def select(columns: dict[str, Tensor], instances: Tensor, level: Callable[[str], ColumnLevel]) -> dict[str, Tensor]:
    """The tensors of some instances, by position, in that order; `level` tells what each has a row for."""
    nodes, node_ptr = gather_segments(columns["node_ptr"], instances)
    edges, edge_ptr = gather_segments(columns["edge_ptr"], instances)
    rows, ptr = {"instance": instances, "node": nodes, "edge": edges}, {"node_ptr": node_ptr, "edge_ptr": edge_ptr}
    return {
        name: ptr[name] if name in ptr else value.index_select(rows_dim(name), rows[level(name)])
        for name, value in columns.items()
    }


def join(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Columns of several sets of instances, one set after the other."""

    def joined(name: str) -> Tensor:
        values = [part[name] for part in parts]
        if LEVELS.get(name) == "pointer":
            return pointers(torch.cat([value.diff() for value in values]))
        return torch.cat(values, rows_dim(name))

    return {name: joined(name) for name in parts[0]}
