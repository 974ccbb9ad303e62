"""Gradients of every instance's objective with respect to attributes and edge masks, along a path of inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.segments import as_rows
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import require_float_features
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import warn

NO_GRADIENT = (
    "the model's output carries no gradient (torch.no_grad() or detach() inside forward?), so all scores are 0; take it "
    "out, or use an ablation"
)

Point = Callable[[Replicas, int], tuple[dict[str, Float[Tensor, "rows ..."]], Float[Tensor, " edges"] | None]]


def attribute_gradients(
    session: Session,
    graphs: ComputationGraphs,
    target: Int[Tensor, " instances"],
    *,
    columns: Sequence[Scored],
    edges: bool,
    objective: Objective,
    weights: Sequence[float] = (1.0,),
    point: Point | None = None,
    power: int = 1,
    rules: Callable[[int], AbstractContextManager[Any]] | None = None,
) -> tuple[dict[Scored, Float[Tensor, "rows features"]], Float[Tensor, " edges"] | None]:
    """Σ_k w_k · [∂ score(x_k, m_k) / ∂ (x_k, m_k)]^power.

    Args:
        session: the problem and how to run it.
        graphs: computation graphs.
        target: of each instance.
        columns: the attributes to differentiate with respect to, `x` or those of `session.columns`.
        edges: whether to differentiate with respect to edge masks.
        objective: the scalar to differentiate.
        weights: w_k, one for each point of the path; at a point of weight 0 the model runs, and there is no gradient.
        point: `(replicas, k) -> (x_k, m_k)`, attributes by name and the edge mask; what is not named, or `None`, is the
            original attribute (`Replicas.masked`), or an edge mask of ones.
        power: of each gradient before they are added up.
        rules: `k -> context` that the model runs in at each point, see `core.model.rules`.

    Returns:
        gradients for attributes and for edges; `None` where not asked. The gradient of an undirected edge is that of the one
        mask its two directions share: the sum over both, on each of them. So is that of an attribute of edges where both
        directions have the same values.
    """
    problem = session.problem
    if any(column.name == "x" for column in columns):
        require_float_features(problem, "node_mask_type='attributes'")
    totals = {column: _zeros(graphs, column) for column in columns}
    ties = {column: session.rows_tied(graphs, column) for column in columns if column.level == "edge"}
    by_edge = torch.zeros(len(graphs.edge), dtype=problem.dtype, device=graphs.edge.device) if edges else None
    tied = session.tied(graphs)

    def work(select: Int[Tensor, " selected"]) -> None:
        replicas = session.replicas(graphs, select)
        at = torch.empty_like(tied).index_copy(0, replicas.edge, torch.arange(len(replicas.edge), device=tied.device))
        # Both directions of an edge lie in the same replica.
        shared = [at[ties[column][replicas.edge]] if column in ties else None for column in columns]
        shared += [at[tied[replicas.edge]]] if edges else []
        total: list[Tensor] = []  # written once at the end: a batch that runs out of memory is tried again
        with session.model(replicas) as model:
            for k, weight in enumerate(weights):
                values, mask = ({}, None) if point is None else point(replicas, k)
                inputs = [_leaf(values, replicas, column.name) for column in columns]
                handed = {column.name: value for column, value in zip(columns, inputs, strict=True)}
                if edges:
                    ones = torch.ones(len(replicas.edge), dtype=problem.dtype, device=replicas.edge.device)
                    mask = (ones if mask is None else mask).detach().clone().requires_grad_()
                    inputs.append(mask)
                with nullcontext() if rules is None else rules(k):
                    out = model(edge_mask=mask, columns=handed)
                if weight == 0:
                    continue
                score = problem.score(out, target[select], objective).sum()
                terms = [
                    weight * _summed(gradient, rows) ** power
                    for gradient, rows in zip(gradients_of(score, inputs), shared, strict=True)
                ]
                total = terms if not total else [a + b for a, b in zip(total, terms, strict=True)]
        for column, value in zip(columns, total, strict=False):
            rows = replicas.elements(column.level)[0]
            totals[column][rows] = as_rows(value)
        if by_edge is not None:
            by_edge[replicas.edge] = total[-1]
        session.advance(len(select) / len(graphs))

    batches.for_each_batch(work, session.cost(graphs), session.limit)
    for column in columns:
        if column.name != "x":  # which no gradient reaches outside
            totals[column] *= graphs.rows(column.name).in_play.unsqueeze(1)
    return totals, by_edge


def gradients(
    session: Session,
    graphs: ComputationGraphs,
    target: Int[Tensor, " instances"],
    *,
    features: bool,
    edges: bool,
    objective: Objective,
    weights: Sequence[float] = (1.0,),
    point: Callable[[Replicas, int], tuple[Tensor | None, Tensor | None]] | None = None,
    power: int = 1,
) -> tuple[Float[Tensor, "nodes features"] | None, Float[Tensor, " edges"] | None]:
    """`attribute_gradients` of node features `x` and edge masks alone.

    Args:
        session, graphs, target, edges, objective, weights, power: as there.
        features: whether to differentiate with respect to node features.
        point: `(replicas, k) -> (x_k, m_k)`; `None` in either place is the original `features`, or an edge mask of ones.

    Returns:
        gradients for features and for edges; `None` where not asked.
    """
    column = Scored.features("attributes")

    def named(replicas: Replicas, k: int) -> tuple[dict[str, Tensor], Tensor | None]:
        x, mask = (None, None) if point is None else point(replicas, k)
        return {} if x is None else {"x": x}, mask

    by_column, by_edge = attribute_gradients(
        session,
        graphs,
        target,
        columns=(column,) if features else (),
        edges=edges,
        objective=objective,
        weights=weights,
        point=named,
        power=power,
    )
    return by_column.get(column), by_edge


def _zeros(graphs: ComputationGraphs, column: Scored) -> Float[Tensor, "rows features"]:
    values = graphs.graphs.masked(column.name)
    return values.new_zeros(len(graphs.rows(column.name).id), values[:1].numel())


def _leaf(values: dict[str, Tensor], replicas: Replicas, name: str) -> Tensor:
    """An attribute at a point, or as it is, to be differentiated with respect to."""
    value = values.get(name)
    if value is None:
        value = replicas.features if name == "x" else replicas.masked(name)
        assert value is not None
    return value.detach().clone().requires_grad_()


def _summed(gradient: Tensor, rows: Int[Tensor, " rows"] | None) -> Tensor:
    """The sum of the gradients of all rows that share one, on each of them."""
    return gradient if rows is None else torch.zeros_like(gradient).index_add(0, rows, gradient)[rows]


def gradients_of(score: Float[Tensor, ""], inputs: list[Float[Tensor, ...]]) -> list[Float[Tensor, ...]]:
    """Gradients, 0 where the score does not depend on an input (an isolated node, for one)."""
    if not score.requires_grad:
        if any(value.numel() for value in inputs):
            warn(NO_GRADIENT)
        return [torch.zeros_like(value) for value in inputs]
    gradients = torch.autograd.grad(score, inputs, allow_unused=True)
    return [torch.zeros_like(v) if g is None else g for v, g in zip(inputs, gradients, strict=True)]
