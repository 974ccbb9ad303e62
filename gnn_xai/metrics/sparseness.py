"""Sparsity of explanations, from their scores alone."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import segment_max, segment_sum
from gnn_xai.metrics.elements import ElementLevel, Elements, elements, exceeding
from gnn_xai.metrics.result import Result
from gnn_xai.results.explanations import Explanations


def sparsity(explanations: Explanations, *, level: ElementLevel = "auto", threshold: float | None = None) -> Result:
    """Sparsity: one minus the share of elements that the explanation selects (Pope et al. 2019; Yuan et al. 2022), per
    instance.

    1 − |S| / |G| for S the elements whose soft mask is above `threshold`. Without a threshold, elements count as much as
    their soft mask says: 1 − mean mask. Attributions become soft masks as |a| / max |a|. In [0, 1]; higher is sparser, which
    is better only at equal fidelity. An undirected edge counts once. Not defined where an instance has no elements.

    Args:
        explanations: B explanations.
        level: elements are edges, nodes (a mask of features is summed) or features; `auto`: the first of these that the
            explanations score.
        threshold: in [0, 1).

    Raises:
        InputError: if the explanations do not score that level, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> sparsity(explanations)
    edge sparsity 0.8857 ± 0.0245 (n=3, higher is better)
    >>> sparsity(explanations, threshold=0.5)
    edge sparsity 0.9357 ± 0.0175 (n=3, higher is better)
    """
    of = elements(explanations, level)
    selected = _soft(of) if threshold is None else exceeding(of, threshold, of.strength)
    share = segment_sum(of.weight * selected, of.owner, of.size) / segment_sum(of.weight, of.owner, of.size)
    return Result(f"{of.level} sparsity", 1 - share, "higher")


def mask_entropy(explanations: Explanations, *, level: ElementLevel = "auto") -> Result:
    """Entropy of the mask, −Σ pᵢ log pᵢ with pᵢ = mᵢ / Σ m, in nats (Funke et al. 2021), per instance.

    Lower is sparser: 0 where one element has it all, log n where n elements share it evenly. It needs no threshold and does
    not depend on the scale of the scores. An undirected edge counts once. Not defined where all scores are 0.

    Args:
        explanations, level: as in `sparsity`.

    Raises:
        InputError: if the explanations do not score that level.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> mask_entropy(explanations)
    edge mask entropy 2.8921 ± 0.1661 (n=3, lower is better)
    """
    of = elements(explanations, level)
    share = of.strength / segment_sum(of.weight * of.strength, of.owner, of.size)[of.owner]
    entropy = segment_sum(-of.weight * torch.xlogy(share, share), of.owner, of.size)
    some = segment_sum(of.weight, of.owner, of.size) > 0
    return Result(f"{of.level} mask entropy", torch.where(some, entropy, torch.nan), "lower")


def _soft(of: Elements) -> Tensor:
    """Scores as a mask in [0, 1]: attributions relative to the largest of their instance."""
    if not of.signed:
        return of.scores
    largest = segment_max(of.strength, of.owner, of.size)
    return of.strength / largest.clamp(min=torch.finfo(of.scores.dtype).tiny)[of.owner]
