"""What a `HeteroExplanation` holds, in flat ids: its masks, and the type that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.explain import HeteroExplanation

from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.types import EdgeType, Types, places
from gnn_xai.core.model.index import PAIRS
from gnn_xai.errors import InputError

Masks = tuple[Tensor | None, Tensor | None, set[NodeMaskType | None]]
"""Of edges `[E]` and of nodes `[N, 1]`, `[N, F]` or `[1, F]`, and which of these the latter may be."""


def masks_of(e: HeteroExplanation, graphs: Graphs, nodes: slice, edges: slice) -> Masks | None:
    """The masks of an explanation, by flat ids of some nodes and edges of the data; 0 where a type or relation has none.
    `None` if it is not of these: its masks have other shapes, or its features or edges differ.
    """
    types = graphs.types
    assert types is not None
    node_ids, edge_ids = (
        [_within(ids, part) for ids in of] for of, part in ((types.nodes, nodes), (types.edges, edges))
    )
    if not _is_of(e, graphs, types, node_ids, edge_ids):
        return None
    edge_mask, node_mask = _joined(e, types, edge_ids, edges), None
    kinds: set[NodeMaskType | None] = {None}
    masks: list[Tensor | None] = [_store(e, name).get("node_mask") for name in types.names]
    if any(mask is not None for mask in masks):
        widths = [columns[1] - columns[0] if columns else 0 for columns in types.columns]
        kinds = _kinds(masks, list(map(len, node_ids)), widths)
        if not kinds:
            return None
        node_mask = _side_by_side(masks, [ids - nodes.start for ids in node_ids], types.columns, kinds, nodes)
    return edge_mask, node_mask, kinds


def _is_of(
    e: HeteroExplanation, graphs: Graphs, types: Types, node_ids: Sequence[Tensor], edge_ids: Sequence[Tensor]
) -> bool:
    """Whether an explanation has no other types, features or edges than those of these flat ids, and masks of edges fit."""
    relations = [name for name in e.edge_types if "edge_index" in e[name]]
    if not {*e.node_types, *relations} <= {*types.names, *types.relations}:
        return False
    place = places(node_ids, graphs.num_nodes)
    for name, ids in zip(types.relations, edge_ids, strict=True):
        ends, mask = (_store(e, name).get(key) for key in ("edge_index", "edge_mask"))
        if ends is not None and not torch.equal(ends.to(graphs.device), place[graphs.edge_index[:, ids]]):
            return False
        if mask is not None and mask.shape != ids.shape:
            return False
    for name, ids, columns in zip(types.names, node_ids, types.columns, strict=True):
        x = _store(e, name).get("x")
        if isinstance(x, Tensor) and columns is not None and graphs.x is not None:
            own = graphs.x[ids][:, slice(*columns)]
            if not torch.equal(x.flatten(1).to(own), own):
                return False
    return True


def _store(e: HeteroExplanation, name: str | EdgeType) -> Any:
    return e[name] if name in (*e.node_types, *e.edge_types) else {}


def _within(ids: Tensor, part: slice) -> Tensor:
    return ids[(ids >= part.start) & (ids < part.stop)]


def _joined(e: HeteroExplanation, types: Types, edge_ids: Sequence[Tensor], edges: slice) -> Tensor | None:
    """The edge masks of all relations as one, `[E]`; `None` if no relation has one."""
    named = zip(types.relations, edge_ids, strict=True)
    masks = [(_store(e, name).get("edge_mask"), ids - edges.start) for name, ids in named]
    first = next((mask for mask, _ in masks if mask is not None), None)
    whole = None if first is None else first.new_zeros(edges.stop - edges.start)
    for mask, ids in masks:
        if whole is not None and mask is not None:
            whole[ids.to(mask.device)] = mask.detach()
    return whole


def _kinds(masks: list[Tensor | None], counts: list[int], widths: list[int]) -> set[NodeMaskType | None]:
    """What the node masks of all types may be, by their shapes."""
    shapes: dict[NodeMaskType, list[tuple[int, int]]] = {
        "object": [(count, 1) for count in counts],
        "attributes": list(zip(counts, widths, strict=True)),
        "common_attributes": [(1, width) for width in widths],
    }
    return {
        kind
        for kind, expected in shapes.items()
        if all(mask is None or mask.shape == shape for mask, shape in zip(masks, expected, strict=True))
    }


def _side_by_side(
    masks: list[Tensor | None],
    places: list[Tensor],
    columns: tuple[tuple[int, int] | None, ...],
    kinds: set[NodeMaskType | None],
    nodes: slice,
) -> Tensor:
    """The node masks of all types as one, each in the columns of its type's features, or in one for all."""
    first = next(mask for mask in masks if mask is not None)
    one = "object" in kinds
    width = 1 if one else max(last for _, last in filter(None, columns))
    common = kinds == {"common_attributes"}
    whole = first.new_zeros(1 if common else nodes.stop - nodes.start, width)
    for mask, place, ends in zip(masks, places, columns, strict=True):
        if mask is None or not (one or ends):
            continue
        rows = torch.zeros_like(place[:1]) if common else place
        whole[rows.to(mask.device), slice(0, 1) if one else slice(*(ends or ()))] = mask.detach()
    return whole


def noted_type(results: Sequence[HeteroExplanation], node_level: bool) -> str | EdgeType | None:
    """The node type, or relation, that explanations say they are of; `None` where they do not.

    Raises:
        InputError: if it is not the same for all.
    """
    noted = {_noted_type(e, node_level) for e in results}
    if len(noted) > 1:
        names = " and ".join(sorted(map(str, noted)))
        raise InputError(
            f"expected explanations of one type, got some of {names}; read those of each type by themselves"
        )
    return noted.pop()


def _noted_type(e: HeteroExplanation, node_level: bool) -> str | EdgeType | None:
    """The same of one; without a name, the only type with as many nodes as its prediction has rows."""
    if not node_level:
        asked = [name for name in e.edge_types if PAIRS in e[name]]
        return asked[0] if len(asked) == 1 else None
    named, prediction = (e._global_store.get(name) for name in ("node_type", "prediction"))
    if named is not None or not isinstance(prediction, Tensor):
        return named
    fitting = [name for name in e.node_types if e[name].num_nodes == len(prediction)]
    return fitting[0] if len(fitting) == 1 else None
