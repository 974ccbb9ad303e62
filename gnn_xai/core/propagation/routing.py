"""Which path each `propagate` call takes: what traces of a forward pass, on several inputs, say about its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.made_up import MadeUp
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.propagation.calls import Call, ForwardTrace
from gnn_xai.core.propagation.coefficients import Coefficients, Form, formulas
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


def _equal(one: Float[Tensor, " entries"], other: Float[Tensor, " others"]) -> bool:
    """Whether coefficients are the same but for rounding."""
    if one.shape != other.shape or one.numel() == 0:
        return one.shape == other.shape
    rounding = 10 * torch.finfo(one.dtype).eps
    return bool(((one - other).abs() <= rounding * (9 * other.abs() + other.abs().max())).all())


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


def settle(plan: Plan) -> Plan:
    """The plan after its last survey: calls with equal coefficients share them."""
    return _shared(plan, list(plan.coefficients))


def _shared(plan: Plan, coefficients: Sequence[Coefficients]) -> Plan:
    """The plan with coefficients in place of its own, of which equal ones are held once."""
    distinct: list[Coefficients] = []
    place: list[int] = []
    for one in coefficients:
        same = next((number for number, other in enumerate(distinct) if other.equals(one)), len(distinct))
        if same == len(distinct):
            distinct.append(one)
        place.append(same)
    routes = (
        route if route.coefficients is None else replace(route, coefficients=place[route.coefficients])
        for route in plan.routes
    )
    return replace(plan, routes=tuple(routes), coefficients=tuple(distinct))


# Formulas ############################################################################################################


def unshared(plan: Plan, graphs: Graphs) -> Plan:
    """A plan with coefficients for each fused call, of other graphs, which are still 0."""
    routes, coefficients = [], []
    for route in plan.routes:
        if route.coefficients is None:
            routes.append(route)
            continue
        routes.append(replace(route, coefficients=len(coefficients)))
        one = plan.coefficients[route.coefficients]
        coefficients.append(Coefficients.zeros(graphs, one.backwards, one.mean, one.attention, one.edge.dtype))
    return replace(plan, routes=tuple(routes), coefficients=tuple(coefficients))


def recognised(plan: Plan, graphs: Graphs, made: Sequence[tuple[Plan, MadeUp]]) -> Plan | None:
    """The plan with coefficients whose formula is known, so that they are known when edges are gone; `None` where that of
    some call is not.

    A formula has to hold on the data and on made-up graphs: on the data alone many agree.

    Args:
        plan: settled.
        graphs: the data.
        made: what surveys of the same calls met on made-up graphs.
    """
    coefficients: list[Coefficients] = []
    routes: list[Route] = []
    for route in plan.routes:
        if route.coefficients is None:
            routes.append(route)
            continue
        one, number = plan.coefficients[route.coefficients], len(coefficients)
        others = [(other.coefficients[number], copies) for other, copies in made]
        if any(_other_edges(one, graphs, other, copies) for other, copies in others):
            return None
        for formula in formulas(graphs):
            if one.follow(formula, graphs) and all(other.follow(formula, copies.graphs) for other, copies in others):
                known = one.by(formula, graphs)
                assert known is not None
                coefficients.append(replace(known, edge=one.edge, loop=one.loop, looped=one.looped))
                routes.append(replace(route, coefficients=number))
                break
        else:
            return None
    return _shared(replace(plan, routes=tuple(routes)), coefficients)


def _other_edges(one: Coefficients, graphs: Graphs, other: Coefficients, copies: MadeUp) -> bool:
    """Whether a call leaves out other edges of made-up copies than of the data, or one of several loops at a node."""
    loop = graphs.edge_index[0] == graphs.edge_index[1]
    own = torch.zeros_like(one.looped).index_fill(0, graphs.edge_index[0, loop & one.present], True)
    if bool((loop & ~one.present & own[graphs.edge_index[0]]).any()):
        return True  # it takes the place of the other when that is removed
    return not torch.equal(other.present, one.present[copies.origin] & ~copies.absent)
