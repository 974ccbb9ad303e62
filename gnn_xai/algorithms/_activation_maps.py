"""Shared by CAM and Grad-CAM: sums of a layer's channels, weighted for the target."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs


def activation_map(graphs: ComputationGraphs, state: Tensor, gradient: Tensor, mean: bool, rectified: bool) -> Scores:
    """Σ_k w_k h_nk for every node n, where w is the sum or the mean of the gradients of all nodes in play.

    Args:
        graphs: computation graphs.
        state: `[ΣN, K]` h, what a layer returns.
        gradient: `[ΣN, K]` of the score, with respect to h.
        mean: divide the weights by the number of nodes.
        rectified: keep what is above 0.
    """
    weight = segment_sum(gradient, graphs.node_owner, len(graphs))
    if mean:
        nodes = torch.bincount(graphs.node_owner[graphs.node_in_play], minlength=len(graphs))
        weight = weight / nodes.clamp(min=1).unsqueeze(1)
    score = (weight[graphs.node_owner] * state).sum(1, keepdim=True)
    score = score.relu() if rectified else score
    return Scores(node=torch.where(graphs.node_in_play.unsqueeze(1), score, 0.0), node_type="object")
