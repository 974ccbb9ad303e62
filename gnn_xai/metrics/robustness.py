"""Stability under small changes of the data and of the seed, and contrast between classes. These metrics explain again.

They run `gnn_xai.explain` with the settings that the explanations record: index, target, task, seed, whether directions
share a score, and `max_neighbors`. Elements are compared at one level; both directions of an edge count in correlations and
angles, an undirected edge counts once in sets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelMode

from gnn_xai._checks import number, positive_integer
from gnn_xai.algorithms.base import Attributing
from gnn_xai.core.arrays.keyed_random import keyed_normal, keyed_uniform
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.graphs.expansion import everything
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.arguments import problem_of
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.errors import InputError
from gnn_xai.metrics.again import Again, explained, position, starts
from gnn_xai.metrics.elements import ElementLevel, Elements, aligned, chosen, cosine, overlap, spearman
from gnn_xai.metrics.prepared import takes_prepared
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import check_explanations
from gnn_xai.results.explanations import Explanations


@takes_prepared
def ges(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    algorithm: str | Attributing | None = None,
    *,
    copies: int = 5,
    noise: float = 0.01,
    drop: float = 0.02,
    tolerance: float = 0.1,
    level: ElementLevel = "auto",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """Graph explanation stability (Agarwal et al., Scientific Data 2023): max over G′ of 1 − cos(M(G), M(G′)), per instance.

    M(G) are the scores on the data and M(G′) those on a copy of it that is perturbed a little and on which the prediction
    is the same; they are compared on the elements that both have. In a copy, features are multiplied by 1 + noise · N(0, 1),
    unless they are integers, and every edge is left out with probability `drop`, both directions of an undirected one
    together. Random numbers are keyed by graph and element, so an instance does not depend on the rest of the batch; the
    nodes of one graph share its copies. Copy c is drawn and explained with seed + c: a stochastic algorithm is not stable,
    and one that gives the same scores to every graph is.

    The prediction is the same if the predicted class is (multiclass), if the explained label is as much on or off as before
    (binary, multi-label), or if the explained value moves by no more than the share `tolerance` of its size (regression).
    Lower is better, 0 is perfectly stable, 2 the opposite. Scores that hardly differ between elements are near 0 whatever
    they say, so read it beside `seed_stability`. Not defined, and NaN, where no copy keeps the prediction, or scores are 0
    throughout.

    Args:
        model, data, forward, batch_budget: as in `gnn_xai.explain`.
        explanations: B explanations of this model on this data.
        algorithm: the algorithm that made them; `None` for what they record, if it is an algorithm of this package.
        copies: how many perturbed copies to try.
        noise: standard deviation of the factor on features.
        drop: share of edges that a copy lacks.
        tolerance: for a regression, how much the value may move, relative to the larger of the two.
        level: compare scores of edges, nodes or features; `auto`: the first of these that the explanations have.

    Raises:
        InputError: if the explanations are not of this data, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> saliency = gx.explain(karate.model, karate.data, "saliency", index=range(8), progress=False)
    >>> random = gx.explain(karate.model, karate.data, "random", index=range(8), progress=False)
    >>> ges(karate.model, karate.data, saliency).mean < ges(karate.model, karate.data, random).mean
    True
    """
    positive_integer(copies, "copies")
    number(noise, "noise", "[0, inf)")
    number(drop, "drop", "[0, 1)")
    number(tolerance, "tolerance", "[0, inf)")
    again = Again(model, data, explanations, algorithm, forward, batch_budget, level)
    graphs = explained(explanations, again.source)
    problem = problem_of(again.module, graphs, explanations.task, again.call, explanations.explained_type)
    worst = torch.full_like(explanations.prediction[:, 0], torch.nan, dtype=torch.float64)
    for copy in range(1, copies + 1):
        seed = explanations.seed + copy
        perturbed, kept = _perturbed(graphs, seed, noise, drop)
        repeated = again.explain(data=perturbed, index=position(explanations, graphs), seed=seed)
        scores = again.elements(repeated)
        if scores.level == "edge":
            scores = replace(scores, key=_original(scores, explanations, graphs, kept))
        one, other = aligned(again.scored, scores)
        distance = 1 - cosine(one.scores, other.scores, one.owner, one.size)
        same = _same_prediction(problem, explanations.prediction, repeated.prediction, explanations.target, tolerance)
        worst = torch.fmax(worst, torch.where(same, distance, torch.nan))
    return Result(f"{again.scored.level} GES", worst, "lower")


@dataclass(frozen=True, eq=False)
class SeedStability:
    """How alike explanations of different seeds are.

    Attributes:
        correlation: Spearman's rank correlation of the scores, mean over pairs of seeds; higher is better.
        overlap: Jaccard index of the strongest elements, mean over pairs of seeds; higher is better.
    """

    correlation: Result
    overlap: Result


@takes_prepared
def seed_stability(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    algorithm: str | Attributing | None = None,
    *,
    seeds: int = 4,
    top: int | float = 0.25,
    level: ElementLevel = "auto",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> SeedStability:
    """Agreement of explanations with seeds s, s + 1, …, s + `seeds`, per instance.

    Rank correlation (Spearman, ties at their average rank) and the Jaccard index of the `top` strongest, each the mean over
    all pairs of seeds, with s the seed of the explanations. Higher is better; both are exactly 1 for a deterministic
    algorithm. Not defined, and NaN, where scores are constant (correlation) or there is no element (overlap).

    Where `max_neighbors` is set, the seed also draws which edges are followed, and the elements that two seeds have in
    common are compared.

    Args:
        model, data, explanations, algorithm, level, forward, batch_budget: as in `ges`.
        seeds: how many more seeds to explain with.
        top: how many elements are the strongest (int; an undirected edge counts once), or what fraction of them (float).

    Raises:
        InputError: if the explanations are not of this model and data, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=range(8), progress=False)
    >>> seed_stability(karate.model, karate.data, explanations, seeds=1).correlation
    edge seed correlation 1.0000 ± 0.0000 (n=8, higher is better)
    """
    positive_integer(seeds, "seeds")
    again = Again(model, data, explanations, algorithm, forward, batch_budget, level)
    runs = [again.scored]
    chosen(runs[0], top, None)  # refuses a wrong `top` before anything long has begun
    runs += [again.elements(again.explain_same(seed=explanations.seed + more)) for more in range(1, seeds + 1)]
    correlations, overlaps = [], []
    for one, other in (aligned(*pair) for pair in combinations(runs, 2)):
        correlations.append(spearman(one.scores, other.scores, one.owner, one.size))
        sets = chosen(one, top, None), chosen(other, top, None)
        overlaps.append(overlap(*sets, one.owner, one.size, one.weight))
    what = f"{runs[0].level} seed"
    return SeedStability(
        Result(f"{what} correlation", torch.stack(correlations).nanmean(0), "higher"),
        Result(f"{what} overlap", torch.stack(overlaps).nanmean(0), "higher"),
    )


@takes_prepared
def contrastivity(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    algorithm: str | Attributing | None = None,
    *,
    other: int | Tensor | None = None,
    top: int | float = 0.25,
    threshold: float | None = None,
    level: ElementLevel = "auto",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """Contrastivity (Pope et al., CVPR 2019): d_H(S, S′) / |S ∪ S′|, per instance, in [0, 1].

    S is the explanation of the target, S′ that of another class, both made hard, and d_H the number of elements in one of
    them alone. As in the paper's heat maps only evidence *for* a class counts: attributions below 0 belong to no set. An
    undirected edge counts once. Higher is better: an explanation of why this class and not that one differs from its
    contrary. Not defined, and NaN, where there is no evidence for either class, and for a regression, which has no classes.

    Args:
        model, data, explanations, algorithm, level, forward, batch_budget: as in `ges`.
        other: the other class, one for all or one for each, `[B]`. `None`: the likeliest class but the target; the other
            one of a binary classifier with one output; the highest other label of a multi-label model.
        top: S is the strongest elements, an int or a fraction of them in (0, 1].
        threshold: in place of `top`: the elements whose soft mask (score / max for attributions) exceeds this.

    Raises:
        InputError: for a regression, if the other class is the target, if the explanations are not of this model and data,
            or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=range(8), progress=False)
    >>> 0 <= contrastivity(karate.model, karate.data, explanations).mean <= 1
    True
    """
    check_explanations(explanations)
    if explanations.task.mode == ModelMode.regression:
        raise InputError(
            "contrastivity compares classes and is not defined for a regression; use ges or seed_stability"
        )
    again = Again(model, data, explanations, algorithm, forward, batch_budget, level)
    evidence = _evidence(again.scored, top, threshold)
    scores = again.elements(again.explain_same(target=_other_class(explanations, other)))
    one, two = aligned(
        replace(again.scored, scores=evidence), replace(scores, scores=_evidence(scores, top, threshold))
    )
    values = 1 - overlap(one.scores, two.scores, one.owner, one.size, one.weight)
    return Result(f"{one.level} contrastivity", values, "higher")


def _perturbed(graphs: Graphs, seed: int, noise: float, drop: float) -> tuple[Any, Tensor]:
    """A copy of the data with noisy features and without some edges; and the edges that it has, ascending."""
    partner = torch.where(graphs.reverse >= 0, graphs.reverse, torch.arange(graphs.num_edges, device=graphs.device))
    key = torch.minimum(graphs.edge_key, graphs.edge_key[partner])
    kept = (keyed_uniform(seed, graphs.graph_key[graphs.edge_batch], key) >= drop).nonzero().flatten()
    x = graphs.x
    if x is not None and x.is_floating_point():
        columns = torch.arange(x[0].numel(), device=x.device)
        draws = keyed_normal(seed, graphs.graph_key[graphs.batch].unsqueeze(1), graphs.node_key.unsqueeze(1), columns)
        x = x * (1 + noise * draws.to(x.dtype)).reshape(x.shape)
    left = torch.ones_like(graphs.edge_batch, dtype=torch.bool).index_fill(0, kept, False)
    union = everything(graphs, None).without(left)
    data = union.data if x is None else union.with_values({"x": x})
    if not graphs.many and graphs.types is None:
        data = Data.from_dict({key: value for key, value in data.to_dict().items() if key not in ("batch", "ptr")})
    return data, kept


def _original(scores: Elements, explanations: Explanations, graphs: Graphs, kept: Tensor) -> Tensor:
    """The original ids of edges of a copy that has only those `kept`, `[M]`."""
    first = starts(explanations, graphs, graphs.edge_ptr)
    edge = scores.key + torch.searchsorted(kept, first)[scores.owner]
    return kept[edge] - first[scores.owner]


def _same_prediction(problem: Problem, before: Tensor, after: Tensor, target: Tensor, tolerance: float) -> Tensor:
    """Whether two outputs `[B, C]` agree on the target, `[B]` bool."""
    if problem.task.mode == ModelMode.regression:
        one, other = problem.score(before, target), problem.score(after, target)
        return (one - other).abs() <= tolerance * torch.maximum(one.abs(), other.abs())
    if problem.task.mode == ModelMode.multiclass_classification:
        return before.argmax(1) == after.argmax(1)
    return problem.label(before, target) == problem.label(after, target)


def _other_class(explanations: Explanations, other: int | Tensor | None) -> Tensor:
    """The class to contrast the target with, `[B]`.

    Raises:
        InputError: if it is the target.
    """
    target, out = explanations.target, explanations.prediction
    if other is None:
        if out.size(1) == 1:
            return 1 - target
        return out.scatter(1, target.unsqueeze(1), -torch.inf).argmax(1)
    try:
        chosen_class = torch.as_tensor(other, device=target.device).expand(len(target))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"expected other as one class or one per instance ({len(target)}), got {other!r}") from error
    same = (chosen_class == target).nonzero().flatten()
    if len(same):
        raise InputError(
            f"expected other as a class that is not the target, got {int(target[same[0]])} for instance {int(same[0])}"
        )
    return chosen_class


def _evidence(of: Elements, top: int | float, threshold: float | None) -> Tensor:
    """How much of each element is among the strongest evidence for the target, `[M]` from 0 to 1."""
    scores = of.scores.clamp(min=0)
    return chosen(of, top, threshold, scores) * (scores > 0)
