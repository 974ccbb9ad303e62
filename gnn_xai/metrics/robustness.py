"""Does an explanation stay where the prediction does, and change where the question does? These metrics explain again.

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

from gnn_xai.algorithms.base import REGISTRY, Algorithm, Attributing, get
from gnn_xai.api import explain
from gnn_xai.core.arrays.keyed_random import keyed_normal, keyed_uniform
from gnn_xai.core.engines.prepare import close
from gnn_xai.core.graphs.source import Graphs, Shelf
from gnn_xai.core.model.arguments import bind
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.errors import InputError
from gnn_xai.metrics.elements import Elements, Level, aligned, chosen, cosine, elements, overlap, spearman
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import check_explanations
from gnn_xai.results.explanations import Explanations


def ges(
    model: nn.Module,
    data: Any,
    explanations: Explanations,
    algorithm: str | Attributing | None = None,
    *,
    copies: int = 5,
    noise: float = 0.01,
    drop: float = 0.02,
    tolerance: float = 0.1,
    level: Level = "auto",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """Graph explanation stability (Agarwal et al., Scientific Data 2023): max over G′ of 1 − cos(M(G), M(G′)), per instance.

    M(G) are the scores on the data and M(G′) those on a copy of it that is perturbed a little and on which the prediction
    is the same; they are compared on the elements that both have. In a copy, features are multiplied by 1 + noise · N(0, 1),
    unless they are integers, and every edge is left out with probability `drop`, both directions of an undirected one
    together. The numbers are keyed by graph and element, so that no instance depends on its companions; the nodes of one
    graph share its copies. Copy c is drawn and explained with seed + c: an algorithm that throws dice is not stable, and
    one that answers always the same, like a picture of the edges, is.

    The prediction is the same if the predicted class is (multiclass), if the explained label is as much on or off as before
    (binary, multi-label), or if the explained value moves by no more than the share `tolerance` of its size (regression).
    Lower is better, 0 is perfectly stable, 2 the opposite. Scores that hardly differ between elements are near 0 whatever
    they say, so read it beside `seed_stability`. Not defined, and NaN, where no copy keeps the prediction, or scores are 0
    throughout.

    Args:
        model, data, forward, batch_budget: as in `gnn_xai.explain`.
        explanations: B explanations of this model on this data.
        algorithm: what made them; `None` for what they record, if it is an algorithm of this package.
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
    _require_count("copies", copies)
    for name, value, high in (
        ("noise", noise, float("inf")),
        ("drop", drop, 1.0),
        ("tolerance", tolerance, float("inf")),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < high:
            raise InputError(
                f"expected {name} as a number of at least 0{' below 1' if high == 1 else ''}, got {value!r}"
            )
    method = algorithm_of(explanations, algorithm)
    of = elements(explanations, level)
    graphs = explained(explanations, data)
    problem = Problem(model, graphs, explanations.task, bind(model, graphs, forward))
    worst = torch.full_like(explanations.prediction[:, 0], torch.nan, dtype=torch.float64)
    for copy in range(1, copies + 1):
        seed = explanations.seed + copy
        perturbed, kept = _perturbed(graphs, seed, noise, drop)
        found = again(
            model,
            perturbed,
            explanations,
            method,
            index=_position(explanations, graphs),
            seed=seed,
            forward=forward,
            batch_budget=batch_budget,
        ).to(of.scores.device)
        there = elements(found, of.level)
        if of.level == "edge":
            there = replace(there, key=_original(there, explanations, graphs, kept))
        one, other = aligned(of, there)
        distance = 1 - cosine(one.scores, other.scores, one.owner, one.size)
        same = _same_prediction(problem, explanations.prediction, found.prediction, explanations.target, tolerance)
        worst = torch.fmax(worst, torch.where(same, distance, torch.nan))
    return Result(f"{of.level} GES", worst, "lower")


@dataclass(frozen=True, eq=False)
class SeedStability:
    """How alike explanations of different seeds are.

    Attributes:
        correlation: Spearman's rank correlation of the scores, mean over pairs of seeds; higher is better.
        overlap: Jaccard index of the strongest elements, mean over pairs of seeds; higher is better.
    """

    correlation: Result
    overlap: Result


def seed_stability(
    model: nn.Module,
    data: Any,
    explanations: Explanations,
    algorithm: str | Attributing | None = None,
    *,
    seeds: int = 4,
    top: int | float = 0.25,
    level: Level = "auto",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> SeedStability:
    """How much of an explanation is the seed's: agreement of explanations with seeds s, s + 1, …, s + `seeds`, per instance.

    Rank correlation (Spearman, ties at their average rank) and the Jaccard index of the `top` strongest, each the mean over
    all pairs of seeds, with s the seed of the explanations. Higher is better; both are exactly 1 for an algorithm without
    chance. Not defined, and NaN, where scores are constant (correlation) or there is no element (overlap).

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
    _require_count("seeds", seeds)
    method = algorithm_of(explanations, algorithm)
    runs = [elements(explanations, level)]
    chosen(runs[0], top, None)  # says what is wrong with `top` before anything long has begun
    for more in range(1, seeds + 1):
        seed = explanations.seed + more
        found = again(model, data, explanations, method, seed=seed, forward=forward, batch_budget=batch_budget)
        require_prediction(explanations, found)
        runs.append(elements(found.to(runs[0].scores.device), runs[0].level))
    correlations, overlaps = [], []
    for one, other in (aligned(*pair) for pair in combinations(runs, 2)):
        correlations.append(spearman(one.scores, other.scores, one.owner, one.size))
        mine, theirs = (chosen(each, top, None) for each in (one, other))
        overlaps.append(overlap(mine, theirs, one.owner, one.size, one.weight))
    what = f"{runs[0].level} seed"
    return SeedStability(
        Result(f"{what} correlation", torch.stack(correlations).nanmean(0), "higher"),
        Result(f"{what} overlap", torch.stack(overlaps).nanmean(0), "higher"),
    )


def contrastivity(
    model: nn.Module,
    data: Any,
    explanations: Explanations,
    algorithm: str | Attributing | None = None,
    *,
    other: int | Tensor | None = None,
    top: int | float = 0.25,
    threshold: float | None = None,
    level: Level = "auto",
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
    method = algorithm_of(explanations, algorithm)
    of = elements(explanations, level)
    mine = _evidence(of, top, threshold)
    second = _other_class(explanations, other)
    found = again(
        model,
        data,
        explanations,
        method,
        target=second,
        seed=explanations.seed,
        forward=forward,
        batch_budget=batch_budget,
    ).to(of.scores.device)
    require_prediction(explanations, found)
    there = elements(found, of.level)
    one, two = aligned(replace(of, scores=mine), replace(there, scores=_evidence(there, top, threshold)))
    values = 1 - overlap(one.scores, two.scores, one.owner, one.size, one.weight)
    return Result(f"{of.level} contrastivity", values, "higher")


# Explaining again ####################################################################################################


def algorithm_of(explanations: Explanations, algorithm: str | Attributing | None) -> Algorithm:
    """The algorithm to explain again with: the one that is given, or what the explanations record.

    Raises:
        InputError: if they record one that is not of this package, or it is unknown.
    """
    if algorithm is not None:
        return get(algorithm)
    check_explanations(explanations)
    hyper = dict(explanations.algorithm)
    name = hyper.pop("name")
    if name not in REGISTRY:
        raise InputError(f"expected algorithm= to explain again with, as {name!r} is not an algorithm of this package")
    return get(name, **hyper)


def again(
    model: nn.Module,
    data: Any,
    explanations: Explanations,
    algorithm: Algorithm,
    *,
    seed: int,
    index: Tensor | None = None,
    target: Tensor | None = None,
    forward: Forward | None,
    batch_budget: int | Literal["auto"],
) -> Explanations:
    """The same question once more, to another model, of other data, with another seed or about another target."""
    return explain(
        model,
        data,
        algorithm,
        task=explanations.task,
        index=explanations.index if index is None else index,
        target=explanations.target if target is None else target,
        forward=forward,
        seed=seed,
        undirected="auto" if explanations.provenance.get("undirected", True) else False,
        max_neighbors=explanations.provenance.get("max_neighbors"),
        batch_budget=batch_budget,
        progress=False,
    )


def require_prediction(explanations: Explanations, found: Explanations) -> None:
    """Raise unless explanations that were made again are of the same model and data.

    Raises:
        InputError: if the model's output is another one.
    """
    before, after = explanations.prediction, found.prediction.to(explanations.prediction.device)
    if before.shape != after.shape or not bool(close(after, before).all()):
        raise InputError(
            "the model's output is not the one that was explained; pass the same model, with the same weights, and the same "
            "data"
        )


def explained(explanations: Explanations, data: Any) -> Graphs:
    """The data that was explained: for graphs that came as several, the graph of each instance, one after the other.

    Raises:
        InputError: if an instance is not there, or an edge has other ends.
    """
    graph_level, index = explanations.task.task_level.value == "graph", explanations.index
    shelf = Shelf(data, index.device, whole=not graph_level)
    graphs, same = None, len(explanations) > 0
    if same and graph_level:
        same = int(index.max()) < len(shelf)
        graphs = shelf.take(index) if same else None
    elif same:
        graphs = shelf.take(None)
        same = int(index.max()) < graphs.num_nodes
    if graphs is not None and same:
        edge = explanations.edge_id + _starts(explanations, graphs, graphs.edge_ptr)[explanations.edge_owner]
        same = len(edge) == 0 or int(edge.max()) < graphs.num_edges
        first = _starts(explanations, graphs, graphs.node_ptr)[explanations.edge_owner]
        same = same and torch.equal(graphs.edge_index[:, edge] - first, explanations.edge_index)
    if graphs is None or not same:
        raise InputError("the explained edges are not those of this data; pass the data that was explained")
    return graphs


def _position(explanations: Explanations, graphs: Graphs) -> Tensor:
    """Which node or graph of `explained` each instance is, `[B]`."""
    several = graphs.many and explanations.task.task_level.value == "graph"
    return torch.arange(len(explanations), device=graphs.device) if several else explanations.index


def _starts(explanations: Explanations, graphs: Graphs, ptr: Tensor) -> Tensor:
    """Where the ids of every instance start, `[B]`: with its graph, or for nodes of one graph at 0."""
    position = _position(explanations, graphs)
    return ptr[position] if explanations.task.task_level.value == "graph" else torch.zeros_like(position)


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
    if graphs.many:
        every_node, every_graph = (torch.arange(n, device=graphs.device) for n in (graphs.num_nodes, graphs.num_graphs))
        ends = graphs.edge_index[:, kept]
        data = graphs.slice(every_node, kept, ends, graphs.batch, graphs.num_graphs, every_graph)
    else:
        edges = {name: value[kept] for name, value in graphs.edge_attrs.items()}
        attrs = {**graphs.node_attrs, **edges, **graphs.graph_attrs, **graphs.other}
        data = Data.from_dict({**attrs, "edge_index": graphs.edge_index[:, kept], "num_nodes": graphs.num_nodes})
    if x is not None:
        data.x = x
    return data, kept


def _original(there: Elements, explanations: Explanations, graphs: Graphs, kept: Tensor) -> Tensor:
    """The original ids of edges of a copy that has only those `kept`, `[M]`."""
    first = _starts(explanations, graphs, graphs.edge_ptr)
    edge = there.key + torch.searchsorted(kept, first)[there.owner]
    return kept[edge] - first[there.owner]


def _same_prediction(problem: Problem, before: Tensor, after: Tensor, target: Tensor, tolerance: float) -> Tensor:
    """Whether two outputs `[B, C]` say the same of the target, `[B]` bool."""
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


def _require_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"expected {name} as a positive integer, got {value!r}")
