"""Which relations of a heterogeneous graph a call of `propagate` runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gnn_xai.core.graphs.by_type import Relation
from gnn_xai.core.graphs.matching import match_edges
from gnn_xai.core.propagation.calls import _positions

Known = tuple[tuple[int, ...], bool]
"""The relations that a call ran on, by position, and whether on their edges turned around."""


class Place(NamedTuple):
    """How the edges of a call lie in a union.

    Attributes:
        edges: `[Q]` position of each in the union, -1 for a self loop that the layer added.
        transposed: the call runs on the relation's edges turned around.
        relations: those that it runs on, by position, in its order.
    """

    edges: Tensor
    transposed: bool
    relations: tuple[int, ...]


def place_of(
    edge_index: Tensor, counts: Sequence[int], relations: Sequence[Relation], known: Known | None = None
) -> Place | str:
    """Find the relations that a call runs on: one alone, or several with their edges one after the other, as layers that
    run on all relations at once join them; or say why that cannot be told.

    Args:
        edge_index: `[2, Q]` of the call, in numbers of its own.
        counts: of the nodes that it runs between, as far as its arguments tell.
        relations: of the union that the model runs on.
        known: what the call ran on in the whole data; on a small part, several relations may have the same edges.
    """
    if known is not None and known[0]:
        (first, *more), transposed = known
        edges = None if more else _alone(edge_index, counts, relations[first], transposed)
        place = None if edges is None else Place(edges, transposed, (first,))
        if (
            place is None and not transposed
        ):  # a layer that joins relations runs between nodes of all types, of one, too
            place = _joined(edge_index, relations, known[0])
        return place or f"it runs on another graph (its {edge_index.size(1)} edges are those of no relation)"
    for number, relation in enumerate(relations):
        own = relation.edge_index
        if edge_index is own or (edge_index.shape == own.shape and edge_index.data_ptr() == own.data_ptr() != 0):
            return Place(relation.edges, False, (number,))
    for transposed in (False, True):
        alone = [
            Place(place, transposed, (number,))
            for number, relation in enumerate(relations)
            if (place := _alone(edge_index, counts, relation, transposed)) is not None
        ]
        if len(alone) == 1 or (alone and edge_index.size(1) == 0):
            return alone[0]
        if alone:
            names = " and ".join(str(relations[place.relations[0]].name) for place in alone)
            return f"it runs on edges that {names} have in common, and nothing tells which"
    joined = _joined(edge_index, relations)
    return joined or f"it runs on another graph (its {edge_index.size(1)} edges are those of no relation)"


def _alone(edge_index: Tensor, counts: Sequence[int], relation: Relation, transposed: bool) -> Tensor | None:
    """The position of each edge of a call in the union, if they are the edges of one relation in any order."""
    source, target = relation.sizes[::-1] if transposed else relation.sizes
    if any(count not in (source, target) for count in counts):
        return None
    known = relation.edge_index.flip(0) if transposed else relation.edge_index
    if known.shape == edge_index.shape and torch.equal(known, edge_index):
        return relation.edges
    same_type = relation.name[0] == relation.name[2]
    if same_type:  # self loops may have been added
        place, turned = _positions(edge_index, known, max(source, 1))
        loops = edge_index[0] == edge_index[1]
        left_out = known.size(1) - int((known[0] == known[1]).sum()) > int((~loops).sum())
        if turned or left_out or bool(((place < 0) & ~loops).any()):
            return None
    else:
        if known.size(1) != edge_index.size(1):
            return None
        place = match_edges(edge_index, known, max(source, target, 1))
        if bool((place < 0).any()):
            return None
    return torch.where(place < 0, -1, relation.edges[place.clamp(min=0)]) if known.size(1) else place


def _joined(edge_index: Tensor, relations: Sequence[Relation], known: tuple[int, ...] = ()) -> Place | None:
    """The positions where a call joins the edges of several relations, each with its ids moved by some number; in the order
    that is known, if one is.
    """
    left, order, parts, first = list(known or range(len(relations))), [], [], 0
    while first < edge_index.size(1):
        while known and left and relations[left[0]].edge_index.size(1) == 0:
            left.pop(0)
        for number in left[:1] if known else left:
            own = relations[number].edge_index
            end = first + own.size(1)
            if own.size(1) == 0 or end > edge_index.size(1):
                continue
            moved = edge_index[:, first:end] - own
            if bool((moved == moved[:, :1]).all()):
                break
        else:
            return None
        left.remove(number)
        order.append(number)
        parts.append(relations[number].edges)
        first = end
    return Place(torch.cat(parts), False, tuple(order)) if parts else None
