"""The perturbation engine: many changed variants of many instances, run in batches that fit the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.core import packing
from gnn_xai.core.neighborhoods import ComputationGraphs, Union
from gnn_xai.core.propagate import lost_degrees
from gnn_xai.core.question import Question

Removal = Literal["message", "structural"]
REMOVALS: tuple[Removal, ...] = ("message", "structural")


@dataclass(frozen=True, eq=False)
class Change:
    """What is different in a union of variants.

    Attributes:
        edges: `[ΣE]` bool, removed edges.
        nodes: `[ΣN]` bool, removed nodes, with all edges at them; never a target.
        x: `[ΣN, ...]` node features in place of the original ones.
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
    parts: list[tuple[Tensor, Tensor]] = []

    def work(select: Tensor) -> None:
        union = question.union(graphs, instance[select])
        changed = change(union, select)
        with torch.no_grad():
            run = _rebuilt if removal == "structural" else _masked
            parts.append((select, reduce(run(question, union, changed), select)))
        question.advance(share * len(select) / len(instance))

    packing.run(work, question.cost(graphs, instance), question.limit)
    values = torch.cat([value for _, value in parts])
    return torch.empty_like(values).index_copy(0, torch.cat([select for select, _ in parts]), values)


def _rebuilt(question: Question, union: Union, change: Change) -> Tensor:
    smaller = union.without(change.edges, change.nodes)
    x = change.x
    if x is not None and change.nodes is not None:
        x = x[~change.nodes]
    lost = None
    if question.plan is not None:
        lost = lost_degrees(question.plan, union, change.edges, change.nodes, question.undirected)
    with question.model(smaller, lost) as model:
        return model(x=x)


def _masked(question: Question, union: Union, change: Change) -> Tensor:
    removed, x = change.edges, change.x
    if change.nodes is not None:
        at_nodes = change.nodes[union.edge_index].any(0)
        removed = at_nodes if removed is None else removed | at_nodes
        features = union.x if x is None else x
        if features is not None:
            x = features.masked_fill(change.nodes.reshape(-1, *[1] * (features.dim() - 1)), 0)
    with question.model(union) as model:
        return model(edge_mask=None if removed is None else (~removed).to(question.problem.dtype), x=x)
