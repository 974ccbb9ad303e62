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
from gnn_xai.core.engines.look import Look
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.expansion import SCOPES
from gnn_xai.core.graphs.made_up import VARIANTS, MadeUp, made_up, variants
from gnn_xai.core.model.interventions import MaskedModel, trace
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.coefficients import Form
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.core.propagation.routing import recognised, survey, unshared
from gnn_xai.errors import InputError

FEW = 3
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
    return way if problem.readout.alone else _far_enough(problem, look, way)


def _recognised(problem: Problem, look: Look, plan: Plan) -> Plan | None:
    """A plan whose coefficients are known after removals, or `None`."""
    graphs = problem.graphs
    select = look.sample if look.neighborhoods is None else graphs.batch[look.sample.flatten()].unique()
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
    replicas = expansion.everything(copies.graphs, problem.readout.every_row(copies.graphs)).without(copies.absent)
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
    if look.neighborhoods is None:
        apart = all(_apart(problem, look, graph) for graph in look.sample[:FEW])
        return way if apart else replace(way, alone=True)
    for scope in range(way.first_scope, len(SCOPES) - 1):
        if all(_enough(problem, look, instance, scope) for instance in look.sample[:FEW]):
            return replace(way, first_scope=scope)
    return replace(way, first_scope=len(SCOPES) - 1, local=False)


def _apart(problem: Problem, look: Look, graph: Tensor) -> bool:
    """Whether variants of a graph give the same side by side as each alone."""
    own, columns = problem.graphs.take(graph.reshape(1)), look.expected.size(-1)
    copies, gone = variants(own, torch.ones_like(own.edge_index[0], dtype=torch.bool))
    every = torch.arange(VARIANTS, device=copies.device)
    some = expansion.of_graphs(copies, every, look.steps)
    sets = [some.replicas(which) for which in (every, *every.split(1))]
    out, *alone = (_run(problem, replicas.without(gone[replicas.edge_id]), columns) for replicas in sets)
    return _alike(out, torch.cat(alone), 0.0)


def _enough(problem: Problem, look: Look, instance: Tensor, scope: int) -> bool:
    """Whether variants of a neighbourhood, side by side, give what each whole graph gives, whatever lies outside."""
    graph = problem.graphs.batch[instance.flatten()[0]]
    own, local = problem.graphs.take(graph.reshape(1)), (instance - problem.graphs.node_ptr[graph]).unsqueeze(0)
    around, columns = look.neighborhoods, look.expected.size(-1)
    assert around is not None
    around = replace(around, graphs=own)
    inside = torch.zeros_like(own.edge_index[0], dtype=torch.bool)
    scopes = torch.tensor([scope] * VARIANTS, device=own.device)
    inside[around.around(local, scopes[:1]).edge] = True
    copies, gone = variants(own, inside)
    every = torch.arange(VARIANTS, device=own.device)
    roots = torch.cat([local + own.num_nodes * number for number in range(VARIANTS)])
    replicas = replace(around, graphs=copies).around(roots, scopes).replicas(every)
    out = _run(problem, replicas.without(gone[replicas.edge_id]), columns)
    expected = [
        _run(problem, expansion.everything(copies.take(copy), local.reshape(1, -1)).without(missing), columns)
        for copy, missing in zip(every.split(1), gone.chunk(VARIANTS), strict=True)
    ]
    return _alike(out, torch.cat(expected), around.scale)


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
