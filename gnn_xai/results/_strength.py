"""Scores of nodes and edges as they are ranked: nodes by the edges at them, undirected edges once, the strongest first."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.core.graphs.matching import pair_directions


def strongest(scores: Tensor, k: int) -> Tensor:
    """Positions of the k largest absolute values, the largest first; of equal ones, those that stand before."""
    return torch.argsort(scores.abs(), descending=True, stable=True)[: max(k, 0)]


def undirected_once(edge_index: Tensor, mask: Tensor) -> Tensor:
    """Positions of edges `[2, E]`, leaving out the second direction of an undirected edge with the same score `[E]`."""
    own = torch.arange(len(mask), device=mask.device)
    if len(own) == 0:
        return own
    same_score = torch.unique(mask, return_inverse=True)[1]
    partner = pair_directions(edge_index, int(edge_index.max()) + 1, same_score)
    second = (partner >= 0) & (partner < own) & (mask[partner] == mask)
    return own[~second]


def summed_at_ends(node: Tensor, ends: Tensor, mask: Tensor) -> Tensor:
    """The sum of the scores of the edges at each node, each undirected edge once.

    Args:
        node: `[N]` keys of nodes, sorted.
        ends: `[2, E]` keys of the end points of edges.
        mask: `[E]` scores.
    """
    ends = torch.searchsorted(node, ends)
    once = undirected_once(ends, mask)
    (first, second), values = ends[:, once], mask[once]
    scores = mask.new_zeros(len(node)).index_add_(0, first, values)
    return scores.index_add_(0, second, torch.where(first == second, 0, values))
