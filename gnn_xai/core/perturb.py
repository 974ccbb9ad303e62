"""The perturbation engine: many changed variants of many instances, run in batches that fit the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.core import packing
from gnn_xai.core.neighborhoods import ComputationGraphs, Union
from gnn_xai.core.pipeline import close
from gnn_xai.core.propagate import Propagation, lost_degrees
from gnn_xai.core.question import Question
from gnn_xai.core.variants import Variants, followable

Removal = Literal["message", "structural"]
REMOVALS: tuple[Removal, ...] = ("message", "structural")

SHARED = 4
"""Variants of an instance, on average, from which on it pays to run the original beside them."""

SAMPLE = 8
"""Variants on which following a change is compared with running them whole."""


@dataclass(frozen=True, eq=False)
class Change:
    """What is different in a union of variants.

    Attributes:
        edges: `[ΣE]` bool, removed edges.
        nodes: `[ΣN]` bool, removed nodes, with all edges at them; never a target.
        x: `[ΣN, ...]` node features in place of the original ones; where these are codes, other codes, or factors on what
            they are embedded as, see `Graphs.features`.
    """

    edges: Tensor | None = None
    nodes: Tensor | None = None
    x: Tensor | None = None


def evaluate(
    question: Question,
    graphs: ComputationGraphs,
    instance: Tensor,
    change: Callable[[Union, Tensor], Change],
    removal: Removal,
    reduce: Callable[[Tensor, Tensor], Tensor],
    share: float = 1.0,
) -> Tensor:
    """Run V variants and reduce their outputs on the fly.

    Args:
        question: the problem and how to run it.
        graphs: B computation graphs.
        instance: `[V]` which instance each variant is a variant of.
        change: `(union of some variants, their numbers [R]) -> Change`.
        removal: `message` multiplies the messages of removed edges by 0, so degrees and softmax still see them;
            `structural` rebuilds the graph without them. A removed node is zeroed and silenced, or taken out.
        reduce: `(outputs [R, C], numbers [R]) -> values [R, ...]`.
        share: the part of the algorithm's work that this is, for the progress bar.

    Returns:
        `[V, ...]`, in the order of `instance`.
    """
    if len(instance) == 0:  # instances without edges have no variants; nothing tells the shape of a value
        return torch.zeros(0, dtype=question.problem.dtype, device=instance.device)
    structural = removal == "structural"
    parts: list[tuple[Tensor, Tensor]] = []

    def run(select: Tensor, follow: bool) -> Tensor:
        which = instance[select]
        union = graphs.union(which) if follow else question.union(graphs, which)
        changed = change(union, select)
        with torch.no_grad():
            if follow:
                return _followed(question, union, changed, structural)
            return (_rebuilt if structural else _masked)(question, union, changed)

    follow = len(instance) >= SHARED * len(instance.unique()) and followable(question, structural)
    if follow:
        some = torch.linspace(0, len(instance) - 1, SAMPLE, device=instance.device).long()
        sample = change(graphs.union(instance[some]), some)
        try:  # features alone change on nodes everywhere, which leaves nothing to be spared
            follow = not (sample.edges is sample.nodes is None) and bool(close(run(some, True), run(some, False)).all())
        except Exception:  # the model adds its input to an output that has other rows, say
            follow = False

    def work(select: Tensor) -> None:
        parts.append((select, reduce(run(select, follow), select)))
        question.advance(share * len(select) / len(instance))

    packing.run(work, question.cost(graphs, instance), question.limit)
    values = torch.cat([value for _, value in parts])
    return torch.empty_like(values).index_copy(0, torch.cat([select for select, _ in parts]), values)


def _rebuilt(question: Question, union: Union, change: Change) -> Tensor:
    if question.problem.nodes_stay:
        change = _silenced(union, change)
    smaller = union.without(change.edges, change.nodes)
    x = change.x
    if x is not None and change.nodes is not None:
        x = x[~change.nodes]
    propagation = None
    if question.plan is not None:
        lost = lost_degrees(question.plan, union, change.edges, change.nodes, question.undirected)
        if change.nodes is not None:
            lost = [each[~change.nodes] for each in lost]
        propagation = Propagation(question.plan, smaller, lost)
    with question.model(smaller, propagation) as model:
        return model(x=x)


def _masked(question: Question, union: Union, change: Change) -> Tensor:
    change = _silenced(union, change)
    mask = None if change.edges is None else (~change.edges).to(question.problem.dtype)
    with question.model(union) as model:
        return model(edge_mask=mask, x=change.x)


def _silenced(union: Union, change: Change) -> Change:
    """The change in which removed nodes are zeroed and their edges removed."""
    if change.nodes is None:
        return change
    edges, x = change.nodes[union.edge_index].any(0), union.features if change.x is None else change.x
    if x is not None:
        x = x.masked_fill(change.nodes.reshape(-1, *[1] * (x.dim() - 1)), 0)
    return Change(edges if change.edges is None else edges | change.edges, None, x)


def _followed(question: Question, union: Union, change: Change, structural: bool) -> Tensor:
    assert question.plan is not None
    nodes, lost, left = None, None, union
    if structural:
        nodes = change.nodes
        lost = lost_degrees(question.plan, union, change.edges, nodes, question.undirected)
        left = union.without(change.edges, nodes)
    silenced = _silenced(union, change)
    edges = silenced.edges if silenced.edges is not None else torch.zeros_like(union.edge, dtype=torch.bool)
    x = change.x if structural else silenced.x
    if x is None or union.x is None:
        differs = torch.zeros_like(union.node, dtype=torch.bool)
    else:
        differs = (x != (union.x if x.dtype == union.x.dtype else union.features)).flatten(1).any(1)
    original = union.source.union(union.instance.unique())
    variants = Variants(question.plan, original, union, edges, nodes, differs, lost)
    with question.model(left, variants) as model:
        return model(x=variants.features(question.features, x))
