"""The scores of explanations as ragged arrays, and functions of them: ranks, the strongest, overlaps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gnn_xai._checks import number, one_of
from gnn_xai.core.arrays.segments import pointers, segment_max, segment_sum
from gnn_xai.core.graphs.matching import pair_directions
from gnn_xai.errors import InputError
from gnn_xai.metrics.selection import allowed, check_explanations, check_top
from gnn_xai.results.explanations import Explanations

ElementLevel = Literal["auto", "edge", "node", "feature"]
LEVELS = ("edge", "node", "feature")


@dataclass(frozen=True, eq=False)
class Elements:
    """The scores of B explanations at one level, as flat tensors.

    Attributes:
        level: `edge`, `node` or `feature`.
        scores: `[M]` float64.
        owner: `[M]` the instance of each, ascending.
        key: `[M]` which element of its instance it is; ascending within an instance.
        weight: `[M]` how much it counts where elements are counted: ½ for each of two directions of an undirected edge that
            share a score, else 1.
        size: B.
        signed: as in `Explanations`.
    """

    level: str
    scores: Tensor
    owner: Tensor
    key: Tensor
    weight: Tensor
    size: int
    signed: bool

    @property
    def strength(self) -> Tensor:
        """Scores without a sign, `[M]`: absolute attributions, masks as they are."""
        return self.scores.abs() if self.signed else self.scores

    def take(self, positions: Tensor) -> Elements:
        """Some of the elements."""
        some = {name: getattr(self, name)[positions] for name in ("scores", "owner", "key", "weight")}
        return replace(self, **some)


def elements(explanations: Explanations, level: str = "auto", levels: tuple[str, ...] = LEVELS) -> Elements:
    """The scores of one level; `auto` takes the first of `levels` that the explanations score.

    Raises:
        InputError: for an unknown level, or one that the explanations do not score, or what are no `Explanations`.
    """
    check_explanations(explanations)
    one_of(level, "level", (*levels, "auto"))
    scored: dict[str, Tensor | None] = {
        "edge": explanations.edge_mask,
        "node": _masks_of_nodes(explanations),
        "feature": None if explanations.node_mask_type == "object" else explanations.node_mask,
    }
    wanted = levels if level == "auto" else (level,)
    name = next((candidate for candidate in wanted if scored[candidate] is not None), None)
    scores = None if name is None else scored[name]
    if name is None or scores is None:
        missing = f"{level}s" if level != "auto" else " and no ".join(f"{name}s" for name in levels)
        raise InputError(
            f"{explanations.algorithm['name']} scored no {missing}; choose another level, or an algorithm that scores them"
        )
    size, weight = len(explanations), None
    if name == "edge":
        owner, key = explanations.edge_owner, explanations.edge_id
        weight = _once_undirected(explanations)
    elif name == "node":
        owner, key = explanations.node_owner, explanations.node_id
    else:
        columns = torch.arange(scores.size(1), device=scores.device)
        common = explanations.node_mask_type == "common_attributes"
        owner = torch.arange(size, device=scores.device) if common else explanations.node_owner
        row = torch.zeros_like(owner) if common else explanations.node_id
        key = (row.unsqueeze(1) * len(columns) + columns).reshape(-1)
        owner = owner.repeat_interleave(len(columns))
        scores = scores.reshape(-1)
    scores = scores.double()
    weight = torch.ones_like(scores) if weight is None else weight
    return Elements(name, scores, owner, key, weight, size, explanations.signed)


def _masks_of_nodes(explanations: Explanations) -> Tensor | None:
    """The score of every node, `[ΣN]`: its mask, summed over features; `None` where there is no mask per node."""
    mask = explanations.node_mask
    if mask is None or explanations.node_mask_type == "common_attributes":
        return None
    return mask.sum(1)


def _once_undirected(explanations: Explanations) -> Tensor:
    """The weight of every edge, `[ΣE]`: ½ where its other direction is in play with the same score, else 1."""
    mask = explanations.edge_mask
    assert mask is not None
    weight = torch.ones_like(mask, dtype=torch.float64)
    if len(mask) == 0 or not explanations.provenance.get("undirected", True):
        return weight
    span = int(explanations.node_id.max()) + 1
    nodes = explanations.node_owner * span + explanations.node_id
    ends = torch.searchsorted(nodes, explanations.edge_owner * span + explanations.edge_index)
    same_score = torch.unique(mask, return_inverse=True)[1]
    partner = pair_directions(ends, len(nodes), same_score)
    tied = (partner >= 0) & (ends[0] != ends[1]) & (mask[partner] == mask)
    return torch.where(tied, 0.5, weight)


def aligned(one: Elements, other: Elements) -> tuple[Elements, Elements]:
    """The elements that both have, in the same order."""
    span = 1 + max(int(of.key.max()) if len(of.key) else 0 for of in (one, other))
    mine, theirs = (of.owner * span + of.key for of in (one, other))
    if len(theirs) == 0:
        return one.take(theirs), other
    place = torch.searchsorted(theirs, mine).clamp(max=len(theirs) - 1)
    both = (theirs[place] == mine).nonzero().flatten()
    return one.take(both), other.take(place[both])


class Ranking:
    """The elements of every segment in the order of their scores, ties together.

    >>> ranking = Ranking(torch.tensor([0.1, 0.9, 0.9, 0.5]), torch.tensor([0, 0, 0, 1]), 2)
    >>> ranking.above(torch.ones(4)).tolist(), ranking.tied(torch.ones(4)).tolist()
    ([2.0, 0.0, 0.0, 0.0], [1.0, 2.0, 2.0, 1.0])
    """

    def __init__(self, scores: Tensor, owner: Tensor, size: int) -> None:
        order = torch.argsort(scores, descending=True, stable=True)
        self.order = order = order[torch.argsort(owner[order], stable=True)]
        ordered, segment = scores[order], owner[order]
        new = torch.ones_like(segment, dtype=torch.bool)
        new[1:] = (segment[1:] != segment[:-1]) | (ordered[1:] != ordered[:-1])
        run = new.long().cumsum(0) - 1
        first = new.nonzero().flatten()
        start = pointers(torch.bincount(owner, minlength=size))[segment]
        # Of every element, in its own place: its run of ties, where that begins and where its segment does.
        self.run, self.first, self.start = (
            torch.empty_like(order).index_copy(0, order, value) for value in (run, first[run], start)
        )
        self.runs = len(first)

    def above(self, values: Tensor) -> Tensor:
        """The sum of `values` `[M]` over the elements of the same segment that score more, for every element, `[M]`."""
        total = pointers(values.double()[self.order])
        return total[self.first] - total[self.start]

    def tied(self, values: Tensor) -> Tensor:
        """The sum over those that score the same, itself among them, `[M]`."""
        return segment_sum(values.double(), self.run, self.runs)[self.run]


def spearman(one: Tensor, other: Tensor, owner: Tensor, size: int) -> Tensor:
    """Rank correlation of two scores `[M]` within each segment, ties at their average rank, `[size]` float64.

    NaN where one of them is constant, as it is with fewer than two elements. Two equal rankings give exactly 1.

    >>> spearman(torch.tensor([1.0, 2, 3, 7]), torch.tensor([1.0, 3, 2, 7]), torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.5000,    nan], dtype=torch.float64)
    """

    def centred(scores: Tensor) -> Tensor:
        # Twice the distance from the mean rank: an integer, so that all sums are exact.
        ranking, ones = Ranking(scores, owner, size), torch.ones_like(owner)
        return 2 * ranking.above(ones) + ranking.tied(ones) - torch.bincount(owner, minlength=size)[owner]

    return cosine(centred(one), centred(other), owner, size)


def cosine(one: Tensor, other: Tensor, owner: Tensor, size: int) -> Tensor:
    """Cosine of the angle between two vectors `[M]` within each segment, `[size]`; NaN where one of them is 0."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return segment_sum(a * b, owner, size)

    value = dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
    return torch.where(value.isfinite(), value.clamp(-1, 1), torch.nan)


def overlap(one: Tensor, other: Tensor, owner: Tensor, size: int, weight: Tensor | None = None) -> Tensor:
    """Jaccard index |S ∩ T| / |S ∪ T| of two sets within each segment, `[size]`; NaN where both are empty.

    Args:
        one, other: `[M]` how much of each element belongs to the set, from 0 to 1: Σ min / Σ max (Ruzicka).
        owner, size: the segments.
        weight: `[M]` how much each counts.

    >>> overlap(torch.tensor([1.0, 1, 0]), torch.tensor([0.0, 1, 1]), torch.tensor([0, 0, 0]), 2)
    tensor([0.3333,    nan], dtype=torch.float64)
    """
    weight = torch.ones_like(one) if weight is None else weight
    both = segment_sum((weight * torch.minimum(one, other)).double(), owner, size)
    either = segment_sum((weight * torch.maximum(one, other)).double(), owner, size)
    return torch.where(either > 0, both / either, torch.nan)


def strongest(scores: Tensor, owner: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    """How much of each element is among the strongest of its segment, `[M]` from 0 to 1.

    Elements that tie for the last places share them, so that the answer does not depend on an order of elements.

    Args:
        scores, owner: `[M]`.
        places: `[size]` how many are chosen in each segment.
        weight: `[M]` how many places an element takes.

    >>> strongest(torch.tensor([3.0, 1, 1, 0]), torch.zeros(4).long(), torch.tensor([2]), torch.ones(4)).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    ranking = Ranking(scores, owner, len(places))
    return ((places[owner] - ranking.above(weight)) / ranking.tied(weight)).clamp(0, 1)


def chosen(of: Elements, top: Any, threshold: float | None, scores: Tensor | None = None) -> Tensor:
    """An explanation made hard: how much of each element it holds, `[M]` from 0 to 1.

    Args:
        of: the elements.
        top: the strongest, a number (int) or a fraction (float, rounded up); an undirected edge counts once.
        threshold: in place of `top`: those whose share of the largest score (attributions) or whose mask exceeds this.
        scores: `[M]` what to rank by; `strength` for `None`.

    Raises:
        InputError: if `top` or `threshold` is out of range.
    """
    scores = of.strength if scores is None else scores
    if threshold is not None:
        return exceeding(of, threshold, scores)
    check_top(top)
    return strongest(scores, of.owner, allowed(top, segment_sum(of.weight, of.owner, of.size)), of.weight)


def exceeding(of: Elements, threshold: float, scores: Tensor) -> Tensor:
    """1 where the soft mask exceeds a threshold and 0 elsewhere, `[M]`; attributions relative to their largest score.

    Raises:
        InputError: if the threshold is not a number in [0, 1).
    """
    number(threshold, "threshold", "[0, 1)")
    limit = segment_max(scores, of.owner, of.size)[of.owner] * threshold if of.signed else threshold
    return (scores > limit).double()
