"""Matching of edges by identity: source, target, occurrence."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def match_edges(
    query: Int[Tensor, "2 queries"], edge_index: Int[Tensor, "2 edges"], num_nodes: int
) -> Int[Tensor, " queries"]:
    """For each edge of `query` its position in `edge_index`, or -1.

    Edges match by (source, target, occurrence): the k-th copy of a parallel edge meets the k-th copy, so every edge
    is matched at most once.

    >>> match_edges(torch.tensor([[1, 0, 1, 9], [2, 1, 2, 9]]), torch.tensor([[1, 1, 0], [2, 2, 1]]), 10).tolist()
    [0, 2, 1, -1]
    """
    if query.size(1) == 0 or edge_index.size(1) == 0:
        return query.new_full((query.size(1),), -1)
    wanted, have = query[0] * num_nodes + query[1], edge_index[0] * num_nodes + edge_index[1]
    have_sorted, have_order = torch.sort(have, stable=True)
    wanted_sorted, wanted_order = torch.sort(wanted, stable=True)
    if torch.equal(have_sorted, wanted_sorted):
        return torch.empty_like(wanted).index_copy(0, wanted_order, have_order)
    arange = torch.arange(len(wanted), device=query.device)
    occurrence = arange - torch.searchsorted(wanted_sorted, wanted_sorted)
    place = torch.searchsorted(have_sorted, wanted_sorted) + occurrence
    clipped = place.clamp(max=len(have) - 1)
    matched = (place < len(have)) & (have_sorted[clipped] == wanted_sorted)
    result = torch.empty_like(wanted)
    result[wanted_order] = torch.where(matched, have_order[clipped], -1)
    return result


def pair_directions(
    edge_index: Int[Tensor, "2 edges"], num_nodes: int, kind: Int[Tensor, " edges"]
) -> Int[Tensor, " edges"]:
    """The edge that runs the other way, or -1; parallel edges pair in the order of their `kind`, then of ids.

    >>> pair_directions(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]), 2, torch.tensor([7, 5, 5, 7])).tolist()
    [3, 2, 1, 0]
    """
    order = torch.argsort(kind, stable=True)
    sorted_edges = edge_index[:, order]
    place = match_edges(sorted_edges.flip(0), sorted_edges, num_nodes)
    partner = torch.empty_like(order)
    partner[order] = torch.where(place < 0, -1, order[place])
    return partner
