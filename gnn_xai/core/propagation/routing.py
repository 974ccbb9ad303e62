"""Which path each `propagate` call takes: what traces of a forward pass, on several inputs, say about its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.propagation.calls import Call, ForwardTrace
from gnn_xai.core.propagation.coefficients import Coefficients, Form
from gnn_xai.core.propagation.plan import Plan, Route
from gnn_xai.core.propagation.reach import Reach


def plan_of(
    graphs: Graphs, traced: ForwardTrace, inputs: Sequence[ForwardTrace], dtype: torch.dtype, reach: Reach
) -> Plan:
    """A plan for a model that was traced, whose coefficients are still 0; `survey` writes them and `settle` ends it.

    Args:
        graphs: the data.
        traced: a forward pass.
        inputs: passes on one union, of these graphs or of a part of them, under different inputs and masks. Calls whose
            coefficients differ between them depend on features or masks, and keep their messages.
        dtype: of coefficients.
        reach: how the calls depend on one another.
    """
    routes, coefficients = [], []
    for number, call in enumerate(traced.calls):
        remaining = reach.remaining[number]
        why = _why_not(call, [trace.calls[number] for trace in inputs])
        if why or isinstance(call.form, str):
            routes.append(Route(call.layer, "messages", why, remaining=remaining))
            continue
        numbers = call.form.coefficient
        attention = numbers.numel() == 0 and call.edge_index is not None and call.edge_index.size(1) > 0
        form = replace(call.form, coefficient=numbers.new_zeros(0))  # of this one pass; those of all data are surveyed
        path = "attention" if attention else "fused"
        routes.append(Route(call.layer, path, "", form, len(coefficients), remaining))
        backwards = call.flow == "target_to_source"
        coefficients.append(Coefficients.zeros(graphs, backwards, form.mean, attention, dtype))
    return Plan(tuple(routes), tuple(coefficients))


def _why_not(call: Call, others: Sequence[Call]) -> str:
    """Why a call keeps its messages, which others on one union are compared to find out; empty if it need not."""
    if call.problem:
        return call.problem
    if isinstance(call.form, str):
        return call.form
    if "propagate" in vars(call.module) or "edge_updater" in vars(call.module):  # `untouched` takes PyG's own off
        return "its propagate was replaced"
    # Ours are gone when a trace has ended; what is left is the user's.
    if any(len(hooks) for name, hooks in vars(call.module).items() if name.endswith("_hooks") and _of_messages(name)):
        return "hooks are registered on its messages"
    first = others[0]
    for other in others:
        if (
            isinstance(first.form, str)
            or isinstance(other.form, str)
            or first.edge_index is None
            or other.edge_index is None
        ):
            return "its messages change with features or masks"
        alike = torch.equal(first.edge_index, other.edge_index) and first.form.mean == other.form.mean
        if not alike or not _equal(first.form.coefficient, other.form.coefficient):
            return "what it multiplies messages by changes with features or masks"
    return ""


def _of_messages(name: str) -> bool:
    return any(part in name for part in ("propagate", "message", "aggregate", "edge_update"))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, 1e-6, 1e-7)


def survey(plan: Plan, trace: ForwardTrace, replicas: Replicas) -> None:
    """Write the coefficients that a trace met on a union into those of a plan that is not settled yet.

    Loops that a layer adds more than once at a node are one loop with the sum of their coefficients.
    """
    for route, call in zip(plan.routes, trace.calls, strict=True):
        if route.coefficients is None:
            continue
        coefficients = plan.coefficients[route.coefficients]
        assert isinstance(call.form, Form)
        assert call.edge_index is not None
        assert call.gather is not None
        own = call.gather < len(replicas.edge)
        edge = replicas.edge_id[call.gather[own]]
        loop = replicas.node_id[call.edge_index[0, ~own]]
        coefficients.seen[replicas.node_id] = True
        coefficients.present[edge] = True
        coefficients.looped[loop] = True
        if not coefficients.attention:
            coefficients.edge[edge] = call.form.coefficient[own].to(coefficients.edge.dtype)
            coefficients.loop.index_add_(0, loop, call.form.coefficient[~own].to(coefficients.loop.dtype))


def settle(plan: Plan, graphs: Graphs) -> Plan:
    """The plan after its last survey: calls with equal coefficients share them, and normalisations are recognised."""
    distinct: list[Coefficients] = []
    place: list[int] = []
    for coefficients in plan.coefficients:
        same = next((number for number, other in enumerate(distinct) if other.equals(coefficients)), len(distinct))
        if same == len(distinct):
            distinct.append(coefficients)
        place.append(same)
    routes = (
        route if route.coefficients is None else replace(route, coefficients=place[route.coefficients])
        for route in plan.routes
    )
    return replace(plan, routes=tuple(routes), coefficients=tuple(c.normalised(graphs) for c in distinct))
