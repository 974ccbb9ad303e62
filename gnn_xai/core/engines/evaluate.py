"""The perturbation engine: many changed variants of many instances, run in batches that fit the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.columns import Level
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.propagation.fused import Propagation, lost_degrees
from gnn_xai.core.propagation.incremental import IncrementalPropagation, followable

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
        edges: removed edges.
        nodes: removed nodes, with all edges at them; never a target.
        x: node features in place of the original ones; where these are codes, other codes, or factors on what
            they are embedded as, see `Graphs.features`.
        columns: other attributes in place of the original ones, by name, as `Replicas.masked` has them; of those in
            `Session.columns`.
    """

    edges: Bool[Tensor, " edges"] | None = None
    nodes: Bool[Tensor, " nodes"] | None = None
    x: Shaped[Tensor, "nodes ..."] | None = None
    columns: Mapping[str, Shaped[Tensor, "rows ..."]] = field(default_factory=dict)


def evaluate(
    session: Session,
    graphs: ComputationGraphs,
    instance: Int[Tensor, " variants"],
    change: Callable[[Replicas, Int[Tensor, " replicas"]], Change],
    removal: Removal,
    reduce: Callable[[Float[Tensor, "replicas columns"], Int[Tensor, " replicas"]], Shaped[Tensor, "replicas ..."]],
    share: float = 1.0,
) -> Shaped[Tensor, "variants ..."]:
    """Run variants and reduce their outputs on the fly.

    Args:
        session: the problem and how to run it.
        graphs: computation graphs.
        instance: which instance each variant is a variant of.
        change: `(replicas, the numbers of their variants) -> Change`.
        removal: `message` multiplies the messages of removed edges by 0, so degrees and softmax still see them;
            `structural` rebuilds the graph without them. A removed node is zeroed and silenced, or taken out.
        reduce: `(outputs, the numbers of their variants) -> values`.
        share: the part of the algorithm's work that this is, for the progress bar.

    Returns:
        values in the order of `instance`.
    """
    if len(instance) == 0:  # instances without edges have no variants; nothing tells the shape of a value
        return torch.zeros(0, dtype=session.problem.dtype, device=instance.device)
    structural = removal == "structural"
    parts: list[tuple[Tensor, Tensor]] = []

    def run(select: Int[Tensor, " replicas"], follow: bool, unequal: bool = False) -> Float[Tensor, "replicas columns"]:
        which = instance[select]
        replicas = graphs.replicas(which) if follow else session.replicas(graphs, which)
        changed = change(replicas, select)
        if structural:
            changed = _with_roots(replicas, changed)
        with torch.no_grad():
            if follow:
                return _followed(session, replicas, changed, structural, unequal)
            return (_rebuilt if structural else _masked)(session, replicas, changed)

    follow = (
        session.plan is not None
        and not session.alone
        and len(instance) >= SHARED * len(instance.unique())
        and followable(session.plan, session.problem.graphs, structural)
    )
    if follow:
        some = torch.linspace(0, len(instance) - 1, SAMPLE, device=instance.device).long()
        sample = change(graphs.replicas(instance[some]), some)
        try:  # features alone change on nodes everywhere, which leaves nothing to be spared
            follow = not (sample.edges is sample.nodes is None) and bool(
                close(run(some, True, True), run(some, False)).all()
            )
        except Exception:  # the model adds its input to an output that has other rows, say
            follow = False

    def work(select: Int[Tensor, " replicas"]) -> None:
        parts.append((select, reduce(run(select, follow), select)))
        session.advance(share * len(select) / len(instance))

    batches.for_each_batch(work, session.cost(graphs, instance), session.limit)
    values = torch.cat([value for _, value in parts])
    return torch.empty_like(values).index_copy(0, torch.cat([select for select, _ in parts]), values)


def _with_roots(replicas: Replicas, change: Change) -> Change:
    """The change in which nodes that the data names as roots of their graphs stay, with features 0 and their edges."""
    if change.nodes is None or not replicas.source.graphs.has_roots:
        return change
    stays = change.nodes & replicas.named
    x = replicas.features if change.x is None else change.x
    if x is not None:
        x = x.masked_fill(stays.reshape(-1, *[1] * (x.dim() - 1)), 0)
    return replace(change, nodes=change.nodes & ~stays, x=x)


def _rebuilt(session: Session, replicas: Replicas, change: Change) -> Float[Tensor, "replicas columns"]:
    if change.edges is change.nodes is None:  # the graph stays as it is
        return _masked(session, replicas, change)
    if session.problem.readout.nodes_stay:
        change = _silenced(replicas, change)
    smaller = replicas.without(change.edges, change.nodes)
    x, columns = change.x, dict(change.columns)
    if x is not None and change.nodes is not None:
        x = x[~change.nodes]
    for name, value in columns.items():
        columns[name] = value[_left(replicas, change, replicas.source.graphs.levels[name])]
    propagation = None
    if session.plan is not None:
        lost = lost_degrees(session.plan, replicas, change.edges, change.nodes, session.undirected)
        if change.nodes is not None:
            lost = [degrees[~change.nodes] for degrees in lost]
        propagation = Propagation(session.plan, smaller, lost)
    with session.model(smaller, propagation) as model:
        return model(x=x, columns=columns)


def _left(replicas: Replicas, change: Change, level: Level) -> Bool[Tensor, " rows"]:
    """The nodes, edges or graphs that a change leaves."""
    left = torch.ones_like(replicas.elements(level)[0], dtype=torch.bool)
    gone = change.nodes if level == "node" else change.edges if level == "edge" else None
    left = left if gone is None else left & ~gone
    return left & ~change.nodes[replicas.edge_index].any(0) if level == "edge" and change.nodes is not None else left


def _masked(session: Session, replicas: Replicas, change: Change) -> Float[Tensor, "replicas columns"]:
    change = _silenced(replicas, change)
    mask = None if change.edges is None else (~change.edges).to(session.problem.dtype)
    with session.model(replicas) as model:
        return model(edge_mask=mask, x=change.x, columns=change.columns)


def _silenced(replicas: Replicas, change: Change) -> Change:
    """The change in which removed nodes are zeroed and their edges removed."""
    if change.nodes is None:
        return change
    edges, x = change.nodes[replicas.edge_index].any(0), replicas.features if change.x is None else change.x
    if x is not None:
        x = x.masked_fill(change.nodes.reshape(-1, *[1] * (x.dim() - 1)), 0)
    return replace(change, edges=edges if change.edges is None else edges | change.edges, nodes=None, x=x)


def _followed(
    session: Session, replicas: Replicas, change: Change, structural: bool, unequal: bool
) -> Float[Tensor, "replicas columns"]:
    assert session.plan is not None
    nodes, lost, left = None, None, replicas
    if structural:
        nodes = change.nodes
        lost = lost_degrees(session.plan, replicas, change.edges, nodes, session.undirected)
        left = replicas.without(change.edges, nodes)
    silenced = _silenced(replicas, change)
    edges = silenced.edges if silenced.edges is not None else torch.zeros_like(replicas.edge, dtype=torch.bool)
    x = change.x if structural else silenced.x
    if x is None or replicas.x is None:
        differs = torch.zeros_like(replicas.node, dtype=torch.bool)
    else:
        differs = (x != (replicas.x if x.dtype == replicas.x.dtype else replicas.features)).flatten(1).any(1)
    original = replicas.source.replicas(replicas.instance.unique())
    variants = IncrementalPropagation(session.plan, original, replicas, edges, nodes, differs, lost, unequal)
    with session.model(left, variants) as model:
        return model(x=variants.features(session.features, x))
