"""Which way a model is run on graphs of which something is taken out.

What messages are multiplied by is known there if it follows from a formula, which is recognised on made-up graphs. Where
none is, each smaller graph is run in PyG's own way, as it is; and then it is looked at anew how much of the graph a node
needs, and whether instances side by side see one another: the largest of all weights, say, shows only once it is gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.choice import Way, plain_way
from gnn_xai.core.engines.first_look import Look
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.graphs.expansion import SCOPES
from gnn_xai.core.graphs.made_up import MadeUp, halved, made_up, reweighted
from gnn_xai.core.model.interventions import MaskedModel, trace
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.coefficients import Form
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.core.propagation.routing import recognised, survey, unshared
from gnn_xai.errors import InputError

FEW = 2
"""Instances of which something is taken out to see how far that goes."""


def structural_way(problem: Problem, look: Look, way: Way, batch_budget: Any) -> Way:
    """The fastest way to run smaller graphs that gives what the plain way gives.

    Args:
        problem, look, batch_budget: as in `choice.choose`.
        way: the fastest way to run the whole ones.
    """
    if way.plan is not None:
        plan = _recognised(problem, look, way.plan)
        if plan is not None:
            return replace(way, plan=plan)
        why = "what it multiplies messages by after a removal is not known"
        way = plain_way(problem, look, batch_budget, why, way.rounding)
    return way if problem.alone else _far_enough(problem, look, way)


def _recognised(problem: Problem, look: Look, plan: Plan) -> Plan | None:
    """A plan whose coefficients are known after removals, or `None`."""
    graphs = problem.graphs
    select = torch.zeros(1, dtype=torch.int64, device=graphs.device) if look.neighborhoods is not None else look.sample
    if graphs.num_graphs > 1 and look.neighborhoods is not None:
        select = graphs.batch[look.sample].unique()
    made = []
    for copies in made_up(graphs, select):
        try:
            met = _met(problem, plan, copies)
        except InputError:  # it may want the edges that there are
            return None
        if met is None:
            return None
        made.append((met, copies))
    return recognised(plan, graphs, made)


def _met(problem: Problem, plan: Plan, copies: MadeUp) -> Plan | None:
    """A plan with what its calls multiply messages by on made-up graphs; `None` where they do other things there."""
    whole = expansion.everything(copies.graphs)
    if not problem.node_level:
        whole = replace(whole, rows=None)
    replicas = whole.without(copies.absent)
    met = unshared(plan, copies.graphs)
    traced, _ = trace(problem, replicas)
    if len(traced.calls) != len(plan.routes):
        return None
    for route, call in zip(met.routes, traced.calls, strict=True):
        if route.coefficients is None:
            continue
        one = met.coefficients[route.coefficients]
        if not isinstance(call.form, Form) or call.edge_index is None or call.form.mean != one.mean:
            return None
        if (call.flow == "target_to_source") != one.backwards:
            return None
    survey(met, traced, replicas)
    return met


# Where no formula is known ###########################################################################################


def _far_enough(problem: Problem, look: Look, way: Way) -> Way:
    """The plain way, with as much of the graph around each node as it takes where edges are gone."""
    graphs, index = reweighted(problem.graphs), look.sample[:FEW]
    half, columns = halved(graphs), look.expected.size(-1)
    if look.neighborhoods is None:
        some = expansion.of_graphs(graphs, index, look.steps)
        expected = _halves(problem, some, half, columns, apart=True)
        return way if _alike(_halves(problem, some, half, columns), expected, 0.0) else replace(way, alone=True)
    whole = expansion.everything(graphs)
    outs = [_run(problem, whole.without(gone), columns) for gone in (half, ~half)]
    expected = torch.stack([out[index] for out in outs], 1).flatten(0, 1)
    around, scale = replace(look.neighborhoods, graphs=graphs), look.neighborhoods.scale
    for scope in range(way.first_scope, len(SCOPES) - 1):
        some = around.around(index, torch.full_like(index, scope))
        if all(_alike(_halves(problem, some, half, columns, apart), expected, scale) for apart in (True, False)):
            return replace(way, first_scope=scope)
    return replace(way, first_scope=len(SCOPES) - 1, local=False)


def _halves(problem: Problem, some: ComputationGraphs, half: Tensor, columns: int, apart: bool = False) -> Tensor:
    """The outputs of instances without one half of their edges and without the other, `[2 B, C]`: these two side by side,
    or each apart.
    """
    outs = []
    for position in range(len(some)):
        twice = some.replicas(torch.tensor([position, position], device=half.device))
        first = (twice.edge_owner == 0) == half[twice.edge_id]
        if not apart:
            outs.append(_run(problem, twice.without(first), columns))
            continue
        once = some.replicas(torch.tensor([position], device=half.device))
        outs += [_run(problem, once.without(gone), columns) for gone in (half[once.edge_id], ~half[once.edge_id])]
    return torch.cat(outs)


def _run(problem: Problem, replicas: Replicas, columns: int) -> Tensor:
    """The output, NaN where the model raises."""
    try:
        with torch.no_grad(), MaskedModel(problem, replicas, record=False) as model:
            return model()
    except InputError:  # it may want an edge, say
        rows = len(replicas) if replicas.rows is None else len(replicas.rows)
        return torch.full((rows, columns), torch.nan, dtype=problem.dtype, device=replicas.node.device)


def _alike(outs: Tensor, expected: Tensor, scale: float) -> bool:
    """Whether outputs agree, as far as those that are expected are numbers."""
    return bool((close(outs, expected, scale) | ~expected.isfinite().all(1)).all())
