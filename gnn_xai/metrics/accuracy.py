"""Agreement with a known ground truth.

Elements are the edges (or nodes) of each computation graph in play, ranked by absolute attribution or by mask. In areas
under curves every directed edge counts, as in the mask and as published; sets count an undirected edge once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.errors import InputError
from gnn_xai.metrics.elements import Elements, Ranking, chosen, elements, overlap, strongest
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import check_truth
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.ground_truth import GroundTruth

TruthLevel = Literal["auto", "edge", "node"]


def roc_auc(explanations: Explanations, ground_truth: GroundTruth, level: TruthLevel = "auto") -> Result:
    """Area under the ROC curve of the scores against true elements, per instance: P(score⁺ > score⁻) + ½ P(score⁺ = score⁻).

    Over the edges (or nodes) of each computation graph in play; attributions are compared by absolute value. Higher is
    better, ½ is chance. Not defined, and NaN, where all elements are true or none is.

    Args:
        explanations: B explanations.
        ground_truth: which elements are true.
        level: compare edges or nodes; `auto`: edges if the explanations score them.

    Raises:
        InputError: if the explanations do not score that level, or there is no ground truth, or one of other data.

    >>> import gnn_xai as gx
    >>> benchmark = gx.datasets.load("ba_shapes")
    >>> explanations = gx.explain(benchmark.model, benchmark.data, "saliency", index=[300, 301], progress=False)
    >>> roc_auc(explanations, benchmark.ground_truth).count
    2
    """
    of, truth = _compared(explanations, ground_truth, level)
    return Result(f"{of.level} ROC-AUC", segment_roc_auc(of.strength, truth, of.owner, of.size), "higher")


def average_precision(explanations: Explanations, ground_truth: GroundTruth, level: TruthLevel = "auto") -> Result:
    """Average precision of the scores against true elements, per instance: Σₖ (Rₖ − Rₖ₋₁) Pₖ over the distinct scores.

    Pₖ and Rₖ are precision and recall of the elements that score at least the k-th largest score; tied elements enter
    together, nothing is interpolated. Elements as in `roc_auc`. Higher is better, the share of true elements is chance,
    so values of instances of different shares do not compare. Not defined, and NaN, where all elements are true or none
    is.

    Args:
        explanations, ground_truth, level: as in `roc_auc`.

    Raises:
        InputError: as in `roc_auc`.

    >>> import gnn_xai as gx
    >>> benchmark = gx.datasets.load("ba_shapes")
    >>> explanations = gx.explain(benchmark.model, benchmark.data, "saliency", index=[300, 0], progress=False)
    >>> average_precision(explanations, benchmark.ground_truth)  # node 0 lies in no motif, so nothing is true
    edge average precision 0.9762 ± nan (n=1, undefined for 1, higher is better)
    """
    of, truth = _compared(explanations, ground_truth, level)
    values = segment_average_precision(of.strength, truth, of.owner, of.size)
    return Result(f"{of.level} average precision", values, "higher")


def pooled_roc_auc(explanations: Explanations, ground_truth: GroundTruth, level: TruthLevel = "auto") -> Result:
    """ROC-AUC over the elements of all instances together, as the tables of GNNExplainer and PGExplainer have it.

    Scores of one instance are compared with those of another, so a method whose scales differ between instances loses
    here and not in `roc_auc`. `Result.mean` is the pooled area θ. `Result.values` are its influence values
    θ + B ∂θ/∂wᵢ, where instance i has weight wᵢ (infinitesimal jackknife, Jaeckel 1972): their mean is θ, and
    `Result.stderr` the standard error of θ with instances as clusters (Obuchowski 1997). Higher is better, ½ is chance.
    Not defined for an instance without elements, which adds nothing; and for none if all elements are true or none is.

    Args:
        explanations, ground_truth, level: as in `roc_auc`.

    Raises:
        InputError: as in `roc_auc`.

    >>> import gnn_xai as gx
    >>> benchmark = gx.datasets.load("ba_shapes")
    >>> explanations = gx.explain(benchmark.model, benchmark.data, "saliency", index=[300, 301], progress=False)
    >>> result = pooled_roc_auc(explanations, benchmark.ground_truth)
    >>> result.name, result.count
    ('pooled edge ROC-AUC', 2)
    """
    of, truth = _compared(explanations, ground_truth, level)
    return Result(f"pooled {of.level} ROC-AUC", _pooled(_roc_auc_shares, of, truth), "higher", pooled=True)


def pooled_average_precision(
    explanations: Explanations, ground_truth: GroundTruth, level: TruthLevel = "auto"
) -> Result:
    """Average precision over the elements of all instances together.

    `Result.mean`, `values` and `stderr` as in `pooled_roc_auc`. Higher is better, the share of true elements is chance.

    Args:
        explanations, ground_truth, level: as in `roc_auc`.

    Raises:
        InputError: as in `roc_auc`.

    >>> import gnn_xai as gx
    >>> benchmark = gx.datasets.load("ba_shapes")
    >>> explanations = gx.explain(benchmark.model, benchmark.data, "saliency", index=[300, 301], progress=False)
    >>> pooled_average_precision(explanations, benchmark.ground_truth).undefined
    0
    """
    of, truth = _compared(explanations, ground_truth, level)
    values = _pooled(_average_precision_shares, of, truth)
    return Result(f"pooled {of.level} average precision", values, "higher", pooled=True)


def gea(
    explanations: Explanations,
    ground_truth: GroundTruth | Sequence[GroundTruth],
    level: TruthLevel = "auto",
    *,
    top: int | float | Literal["truth"] = "truth",
    threshold: float | None = None,
) -> Result:
    """Graph explanation accuracy (Agarwal et al., Scientific Data 2023): the Jaccard index TP / (TP + FP + FN).

    The explanation is made hard by `top` or `threshold`. Of several truths, each of which would do, the best match counts.
    An undirected edge counts once; elements that tie for the last places share them. Higher is better. Not defined, and
    NaN, where no truth has a true element in the computation graph.

    Args:
        explanations: B explanations.
        ground_truth: which elements are true, or several such truths.
        level: as in `roc_auc`.
        top: the explanation is the strongest elements: as many as are `"truth"`, an int, or that fraction of them (a float
            in (0, 1]).
        threshold: in place of `top`: the elements whose soft mask (|attribution| / max for attributions) exceeds this.

    Raises:
        InputError: as in `roc_auc`, or if `top` or `threshold` is not as described.

    >>> import gnn_xai as gx
    >>> benchmark = gx.datasets.load("ba_shapes")
    >>> explanations = gx.explain(benchmark.model, benchmark.data, "saliency", index=[300, 301], progress=False)
    >>> gea(explanations, benchmark.ground_truth).values
    tensor([0.7143, 0.7143], dtype=torch.float64)
    """
    truths = list(ground_truth) if isinstance(ground_truth, Sequence) else [ground_truth]
    if not truths:
        raise InputError("expected a GroundTruth, or several of them, got an empty sequence")
    compared = [_compared(explanations, one, level) for one in truths]
    of = compared[0][0]
    best = torch.full((of.size,), torch.nan, dtype=torch.float64, device=of.scores.device)
    as_many = isinstance(top, str) and top == "truth"
    for _, truth in compared:
        true = truth.double()
        hard = _as_many(of, truth) if as_many and threshold is None else chosen(of, top, threshold)
        some = segment_sum(true, of.owner, of.size) > 0
        index = overlap(hard, true, of.owner, of.size, of.weight)
        best = torch.fmax(best, torch.where(some, index, torch.nan))
    return Result(f"{of.level} GEA", best, "higher")


def _as_many(of: Elements, truth: Tensor) -> Tensor:
    """As many of the strongest elements as are true, `[M]` from 0 to 1."""
    return strongest(of.strength, of.owner, segment_sum(truth * of.weight, of.owner, of.size), of.weight)


def _compared(explanations: Explanations, ground_truth: GroundTruth, level: TruthLevel) -> tuple[Elements, Tensor]:
    """The elements of one level, and whether each is true, `[M]` bool.

    Raises:
        InputError: as in `roc_auc`.
    """
    check_truth(ground_truth)
    of = elements(explanations, level, ("edge", "node"))
    ground_truth.check(explanations)
    truth = ground_truth.edges(explanations) if of.level == "edge" else ground_truth.nodes(explanations)
    return of, truth.to(of.scores.device)


# Areas under curves ##################################################################################################


def segment_roc_auc(scores: Tensor, truth: Tensor, owner: Tensor, size: int) -> Tensor:
    """ROC-AUC within each segment, ties at half, `[size]` float64; NaN where all elements are true or none is.

    >>> segment_roc_auc(torch.tensor([0.9, 0.1, 0.5, 0.5]), torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]), 2)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    ranking, true = Ranking(scores.double(), owner, size), truth.double()
    beaten_by = ranking.above(true) + ranking.tied(true) / 2  # true elements that score more
    positives, negatives = segment_sum(true, owner, size), segment_sum(1 - true, owner, size)
    area = segment_sum(beaten_by * (1 - true), owner, size) / (positives * negatives)
    return torch.where((positives > 0) & (negatives > 0), area, torch.nan)


def segment_average_precision(scores: Tensor, truth: Tensor, owner: Tensor, size: int) -> Tensor:
    """Average precision within each segment, ties together, `[size]` float64; NaN where all elements are true or none is.

    >>> scores, truth = torch.tensor([0.9, 0.1, 0.5, 0.5]), torch.tensor([1, 0, 1, 0])
    >>> segment_average_precision(scores, truth, torch.tensor([0, 0, 1, 1]), 2)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    ranking, true = Ranking(scores.double(), owner, size), truth.double()
    precision = (ranking.above(true) + ranking.tied(true)) / _at_least(ranking, torch.ones_like(true))
    positives, negatives = segment_sum(true, owner, size), segment_sum(1 - true, owner, size)
    area = segment_sum(precision * true, owner, size) / positives
    return torch.where((positives > 0) & (negatives > 0), area, torch.nan)


def _at_least(ranking: Ranking, values: Tensor) -> Tensor:
    """The sum of `values` over the elements that score at least as much, for every element, `[M]`."""
    return ranking.above(values) + ranking.tied(values)


Shares = Callable[[Ranking, Tensor], tuple[Tensor, Tensor]]


def _pooled(shares: Shares, of: Elements, truth: Tensor) -> Tensor:
    """Influence values `[B]` of a statistic of all elements: θ + B ∂θ/∂wᵢ over the B instances that have elements."""
    true = truth.double()
    positives = float(true.sum())
    if positives in (0.0, float(len(true))):
        return true.new_full((of.size,), torch.nan)
    ranking = Ranking(of.strength, torch.zeros_like(of.owner), 1)
    value, slope = shares(ranking, true)
    present = torch.bincount(of.owner, minlength=of.size) > 0
    values = value + int(present.sum()) * segment_sum(slope, of.owner, of.size)
    return torch.where(present, values, torch.nan)


def _roc_auc_shares(ranking: Ranking, true: Tensor) -> tuple[Tensor, Tensor]:
    """ROC-AUC θ of one segment, and how it grows with the weight of each element, `[M]`."""
    false = 1 - true
    positives, negatives = true.sum(), false.sum()
    # Pairs (true, false) that are in order, shared by their two elements.
    by_true = true * (negatives - ranking.above(false) - ranking.tied(false) / 2)
    by_false = false * (ranking.above(true) + ranking.tied(true) / 2)
    value = by_false.sum() / (positives * negatives)
    slope = (by_true + by_false) / (positives * negatives) - value * (true / positives + false / negatives)
    return value, slope


def _average_precision_shares(ranking: Ranking, true: Tensor) -> tuple[Tensor, Tensor]:
    """Average precision θ of one segment, and how it grows with the weight of each element, `[M]`."""

    def at_most(values: Tensor) -> Tensor:
        return values.sum() - ranking.above(values)

    positives, count = true.sum(), _at_least(ranking, torch.ones_like(true))
    precision = _at_least(ranking, true) / count
    value = (precision * true).sum() / positives
    # An element adds to hits (if it is true) and to the count of every precision at or below its score.
    slope = true * (precision - value + at_most(true / count)) - at_most(true * precision / count)
    return value, slope / positives
