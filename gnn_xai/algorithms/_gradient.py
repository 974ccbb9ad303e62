"""Shared by the gradient methods: one call of the engine, and functions of its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gnn_xai.algorithms._ablation import variant_scores
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.evaluate import Change
from gnn_xai.core.engines.gradients import Point, attribute_gradients
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas


def gradient_scores(
    method: Any,
    session: Session,
    graphs: ComputationGraphs,
    target: Tensor,
    weights: Sequence[float] = (1.0,),
    point: Point | None = None,
    power: int = 1,
    rules: Callable[[int], AbstractContextManager[Any]] | None = None,
) -> Scores:
    """Weighted sum of gradients along a path of inputs, as `attribute_gradients` computes it.

    Args:
        method: the algorithm, whose `node_mask_type`, `edge_mask_type` and `objective` say what is differentiated, together
            with `session.columns`.
        session, graphs, target, weights, point, power, rules: as in `attribute_gradients`.
    """
    features = () if method.node_mask_type is None else (Scored.features("attributes"),)
    attributes, edge = attribute_gradients(
        session,
        graphs,
        target,
        columns=(*features, *session.columns),
        edges=method.edge_mask_type is not None,
        objective=method.objective,
        weights=weights,
        point=point,
        power=power,
        rules=rules,
    )
    return Scores.of(edge, attributes)


def mapped(scores: Scores, function: Callable[[Tensor], Tensor]) -> Scores:
    """A function of all scores, element by element."""
    edge = None if scores.edge is None else function(scores.edge)
    return Scores.of(edge, {column: function(value) for column, value in scores.attributes.items()})


def times_input(scores: Scores, graphs: ComputationGraphs) -> Scores:
    """Scores of attributes times their values; edge masks are 1."""

    def values(column: Scored) -> Tensor:
        return graphs.graphs.masked(column.name)[graphs.rows(column.name).id]

    attributes = {column: score * values(column).reshape(score.shape) for column, score in scores.attributes.items()}
    return Scores.of(scores.edge, attributes)


def scaled(replicas: Replicas, column: Scored, factor: float) -> Tensor:
    """An attribute of a union times a number; what is not in play stays as it is."""
    if column.name == "x":  # of which nothing else matters
        assert replicas.features is not None
        return replicas.features * factor
    values, at = replicas.masked(column.name), replicas.elements(column.level)[0]
    in_play = replicas.source.rows(column.name).in_play[at].reshape(-1, *[1] * (values.dim() - 1))
    return torch.where(in_play, values * factor, values)


def added_up(session: Session, graphs: ComputationGraphs, scores: Scores) -> Tensor:
    """The sum of all scores of each instance, `[B]`; what two directions of an edge share counts once."""
    total = torch.zeros(len(graphs), dtype=session.problem.dtype, device=graphs.edge.device)
    for column, score in scores.attributes.items():
        tied = session.rows_tied(graphs, column)
        once = score.sum(1) * (tied == torch.arange(len(tied), device=tied.device))
        total = total + segment_sum(once, graphs.rows(column.name).owner, len(graphs))
    if scores.edge is not None:
        once, _ = session.removable(graphs)
        total = total + segment_sum(scores.edge[once], graphs.edge_owner[once], len(graphs))
    return total


def path_columns(method: Any, session: Session) -> Iterator[Scored]:
    """The attributes that a method scores, `x` among them."""
    if method.node_mask_type is not None and session.problem.graphs.x is not None:
        yield Scored.features("attributes")
    yield from session.columns


def baseline_score(method: Any, session: Session, graphs: ComputationGraphs, target: Tensor) -> Tensor:
    """The score of every instance where what a method scores is 0, `[B]`."""

    def change(replicas: Replicas, select: Tensor) -> Change:
        edges = torch.ones_like(replicas.edge, dtype=torch.bool) if method.edge_mask_type is not None else None
        zero = {column.name: scaled(replicas, column, 0) for column in path_columns(method, session)}
        return Change(edges=edges, x=zero.pop("x", None), columns=zero)

    every = torch.arange(len(graphs), device=target.device)
    return variant_scores(session, graphs, target, every, change, "message", method.objective, share=0.0)


def without_inputs(graphs: ComputationGraphs) -> ComputationGraphs | None:
    """Computation graphs of the same data with zeros in the place of inputs of whole graphs; `None` where there are none.

    These are numbers of graphs that are neither labels (`y`, as PyG calls them) nor held by nodes and edges.
    """
    source = graphs.graphs
    numbers = {name: v * 0 for name, v in source.graph_attrs.items() if v.is_floating_point() and name != "y"}
    if not numbers:
        return None
    return replace(graphs, graphs=replace(source, graph_attrs=source.graph_attrs | numbers))
