"""Agreement with a known ground truth."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gnn_xai.core.segments import segment_sum
from gnn_xai.errors import InputError
from gnn_xai.explanation import Explanations
from gnn_xai.ground_truth import GroundTruth
from gnn_xai.metrics.result import Result


def roc_auc(
    explanations: Explanations,
    ground_truth: GroundTruth,
    level: Literal["edge", "node", "auto"] = "auto",
) -> Result:
    """Area under the ROC curve of the scores against true elements, per instance: P(score⁺ > score⁻) + ½ P(score⁺ = score⁻).

    Over the edges (or nodes) of each computation graph in play; attributions are compared by absolute value. Higher is
    better, ½ is chance. Not defined, and NaN, where all elements are true or none is.

    Args:
        explanations: B explanations.
        ground_truth: which elements are true.
        level: compare edges or nodes; `auto`: edges if the explanations score them.

    Raises:
        InputError: if the explanations do not score that level, or there is no ground truth.

    >>> import gnn_xai as gx
    >>> benchmark = gx.datasets.load("ba_shapes")
    >>> explanations = gx.explain(benchmark.model, benchmark.data, "saliency", index=[300, 301], progress=False)
    >>> roc_auc(explanations, benchmark.ground_truth).count
    2
    """
    if level not in ("edge", "node", "auto"):
        raise InputError(f"expected level='edge', 'node' or 'auto', got {level!r}")
    if not isinstance(ground_truth, GroundTruth):  # a benchmark may have none
        raise InputError(
            f"expected a GroundTruth, got {type(ground_truth).__name__}; "
            + (
                "where the truth is unknown, use fidelity"
                if ground_truth is None
                else "make one with gnn_xai.GroundTruth(edge=..., node=...), a motif id each and -1 for none"
            )
        )
    if level == "auto":
        level = "edge" if explanations.edge_mask is not None else "node"
    if level == "edge":
        scores, owner, truth = explanations.edge_mask, explanations.edge_owner, ground_truth.edges(explanations)
    else:
        scores = node_scores(explanations)
        owner, truth = explanations.node_owner, ground_truth.nodes(explanations)
    if scores is None:
        raise InputError(
            f"{explanations.algorithm['name']} scored no {level}s; choose another level, or an algorithm that scores them"
        )
    values = segment_roc_auc(
        scores.abs() if explanations.signed else scores, truth.to(scores.device), owner, len(explanations)
    )
    return Result(f"{level} ROC-AUC", values, "higher")


def node_scores(explanations: Explanations) -> Tensor | None:
    """The score of every node, `[ΣN]`: its mask, summed over features; `None` where there is no mask per node."""
    mask = explanations.node_mask
    if mask is None or explanations.node_mask_type == "common_attributes":
        return None
    return mask.sum(1)


def segment_roc_auc(scores: Tensor, truth: Tensor, owner: Tensor, size: int) -> Tensor:
    """ROC-AUC within each segment by the rank-sum (Mann–Whitney) form, ties at half, `[size]` float64.

    >>> segment_roc_auc(torch.tensor([0.9, 0.1, 0.5, 0.5]), torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]), 2)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    scores, truth = scores.double(), truth.bool()
    order = torch.argsort(scores, stable=True)
    order = order[torch.argsort(owner[order], stable=True)]
    sorted_scores, sorted_owner = scores[order], owner[order]
    # Average rank of a run of equal scores within a segment; ranks count from 1 over all, shifted per segment below.
    new = torch.ones_like(sorted_owner, dtype=torch.bool)
    new[1:] = (sorted_owner[1:] != sorted_owner[:-1]) | (sorted_scores[1:] != sorted_scores[:-1])
    run = new.long().cumsum(0) - 1
    length = torch.bincount(run)
    first = length.cumsum(0) - length
    rank = (first + (length + 1) / 2)[run]
    count = torch.bincount(owner, minlength=size)
    start = (count.cumsum(0) - count)[sorted_owner]
    positive = truth[order].double()
    positives = segment_sum(positive, sorted_owner, size)
    negatives = count - positives
    rank_sum = segment_sum((rank - start) * positive, sorted_owner, size)
    area = (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
    return torch.where((positives > 0) & (negatives > 0), area, torch.nan)
