"""Shared by the gradient methods: one call of the engine, and functions of its gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from gnn_xai.core.engines.gradients import Point, gradients
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs


def gradient_scores(
    method: Any,
    session: Session,
    graphs: ComputationGraphs,
    target: Tensor,
    weights: Sequence[float] = (1.0,),
    point: Point | None = None,
    power: int = 1,
) -> Scores:
    """Weighted sum of gradients along a path of inputs, as `gradients` computes it.

    Args:
        method: the algorithm, whose `node_mask_type`, `edge_mask_type` and `objective` say what is differentiated.
        session, graphs, target, weights, point, power: as in `gradients`.
    """
    node, edge = gradients(
        session,
        graphs,
        target,
        features=method.node_mask_type is not None,
        edges=method.edge_mask_type is not None,
        objective=method.objective,
        weights=weights,
        point=point,
        power=power,
    )
    return Scores(edge, node, method.node_mask_type)


def mapped(scores: Scores, function: Callable[[Tensor], Tensor]) -> Scores:
    """A function of all scores, element by element."""
    node, edge = (None if value is None else function(value) for value in (scores.node, scores.edge))
    return Scores(edge, node, scores.node_type)


def times_input(scores: Scores, session: Session, graphs: ComputationGraphs) -> Scores:
    """Scores of features times the features; edge masks are 1."""
    features = session.problem.graphs.features
    if scores.node is None or features is None:
        return scores
    return Scores(scores.edge, scores.node * features[graphs.node].reshape(scores.node.shape), scores.node_type)


def without_inputs(graphs: ComputationGraphs) -> ComputationGraphs | None:
    """Computation graphs of the same data with zeros in the place of inputs of whole graphs; `None` where there are none.

    These are numbers of graphs that are neither labels (`y`, as PyG calls them) nor held by nodes and edges.
    """
    source = graphs.graphs
    numbers = {name: v * 0 for name, v in source.graph_attrs.items() if v.is_floating_point() and name != "y"}
    if not numbers:
        return None
    return replace(graphs, graphs=replace(source, graph_attrs=source.graph_attrs | numbers))
