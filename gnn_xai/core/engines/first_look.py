"""The first passes of a model over its data: what it propagates, how far it sees, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.engines.agreement import close, typical
from gnn_xai.core.engines.integers import with_integers
from gnn_xai.core.engines.look import Look, keys_of, places
from gnn_xai.core.engines.mixing import mixes_graphs, mixes_roots
from gnn_xai.core.engines.rest import Rest
from gnn_xai.core.engines.samples import SAMPLE, SMALL, of_different_size, small, spread
from gnn_xai.core.engines.unread import without_unread
from gnn_xai.core.engines.verification import Neighborhoods, Probe
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.expansion import INDUCED, Cap
from gnn_xai.core.graphs.source import Flow, Graphs
from gnn_xai.core.model.interventions import MaskedModel, trace
from gnn_xai.core.model.problem import Problem, WrittenInPlace
from gnn_xai.core.propagation.calls import ForwardTrace
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.core.propagation.reach import Reach, marked
from gnn_xai.core.propagation.routing import plan_of, settle, survey
from gnn_xai.errors import InputError, MaskingError, warn

MIXES = "mixes the graphs of a batch (a normalisation or pooling without batch?)"
"""What a warning says of a model of which the graphs of a batch see one another."""


def look(problem: Problem, index: Tensor | None, batch_budget: Any, forms: bool = True) -> tuple[Problem, Look]:
    """Run a model on its data for the first time.

    Args:
        problem: model, data, task.
        index: `[B]` the outputs that will be explained; `None` for all.
        batch_budget: as in `gnn_xai.explain`.
        forms: look at the form of messages, which tells what could be fused.

    Returns:
        the problem, with what its model does with codes where `x` holds codes; and what was seen.

    Raises:
        InputError: if the model fails, or its output is not what the task says.
    """
    try:
        if problem.readout.rooted:
            return _look_around_roots(problem, index, forms)
        return _look_at_graphs(problem, index, batch_budget, forms)
    except WrittenInPlace as error:
        if error.attributes <= problem.written:
            raise
        return look(replace(problem, written=problem.written | error.attributes), index, batch_budget, forms)


def with_plan(problem: Problem, look: Look) -> Look:
    """The same of a problem whose roots were looked at, with the form of messages, which two more passes tell."""
    whole = expansion.everything(problem.graphs, problem.readout.every_row(problem.graphs))
    traced, _ = trace(problem, whole)
    _, again, _ = _probed(problem, whole, traced, forms=True)
    return replace(look, plan=_plan(problem, whole, traced, again, look.reach))


def _plan(problem: Problem, whole: Replicas, traced: ForwardTrace, again: ForwardTrace | None, reach: Reach) -> Plan:
    """Which calls could be fused, as the trace of a pass over all of the data and one under the probe tell."""
    plan = plan_of(problem.graphs, traced, [traced, again or traced], problem.dtype, reach)
    survey(plan, traced, whole)
    return settle(plan)


def _look_around_roots(problem: Problem, index: Tensor | None, forms: bool) -> tuple[Problem, Look]:
    graphs, readout = problem.graphs, problem.readout
    some = [] if readout.enumerable else [readout.sample(spread(graphs, "both"), graphs)]
    rows = readout.first_rows(graphs, *some, *(() if index is None else (index,)))
    assert rows is not None
    keys = None if readout.enumerable else keys_of(graphs, rows)
    whole = expansion.everything(graphs, rows)
    large = graphs.num_nodes + graphs.num_edges > SMALL
    traced, out, reach = _first_run(problem, whole, not large, forms)
    problem = replace(problem, relations=traced.relations)
    scale = typical(out if keys is None else out[places(graphs, keys, some[0])])  # whatever other pairs are asked for
    problem = without_unread(problem, whole, out)
    graphs = problem.graphs
    whole = expansion.everything(graphs, rows) if graphs is not whole.source.graphs else whole
    out = out if keys is not None else _by_node(graphs, rows, out)
    asked = index if index is not None else rows if keys is not None else rows[:, 0]
    problem.check(out[places(graphs, keys, asked)])
    sample = some[0] if some else spread(graphs, traced.flow, rows)
    steps = reach.steps
    if large:
        part = _around(graphs, sample, steps, traced.flow)
        reach = _reach_of_part(problem, part, traced) or reach
        problem = _with_features(problem, part, None)
    else:
        problem = _with_features(problem, whole, out)
    graphs = problem.graphs
    probe, again, probed = _probed(problem, whole, traced, forms)
    if probed is not None and keys is None:
        probed = _by_node(graphs, rows, probed)
    expected = torch.stack([out] if probed is None else [out, probed], dim=1)
    plan = _plan(problem, whole, traced, again, reach) if forms else None
    seen = _seen(traced, reach, plan, problem, whole)
    named = sorted(column.title for column in graphs.columns.values() if column.names)
    why = f"the model reads {named[0]}, which may name any node or edge" if named else ""
    neighborhoods = Neighborhoods(graphs, reach.steps, traced.flow, probe, scale, followed=seen.followed, whole=why)
    sample = sample[small(neighborhoods, sample)]
    around = _around(graphs, sample, reach.steps, traced.flow, INDUCED)
    mixes = mixes_roots(problem, around, out[places(graphs, keys, sample)])
    return problem, replace(
        seen,
        probe=probe,
        sample=sample,
        expected=expected,
        keys=keys,
        neighborhoods=neighborhoods,
        mixes=mixes,
    )


def with_outputs(problem: Problem, look: Look, index: Tensor) -> Look:
    """What was seen, with the outputs of instances: pairs of nodes that were not asked for before are run now.

    Raises:
        InputError: if their output is not what the task says.
    """
    graphs = look.graphs
    if look.keys is None or bool(torch.isin(keys_of(graphs, index), look.keys).all()):
        return look
    rows = problem.readout.first_rows(graphs, look.sample, index)
    assert rows is not None
    whole = expansion.everything(graphs, rows)
    traced, out = trace(problem, whole)
    outs = [out]
    if look.probe is not None:
        mask = None if look.probe.edge_mask is None else look.probe.edge_mask[whole.edge_id]
        outs.append(trace(problem, whole, mask, look.probe.x(graphs, whole.node_id), traced)[1])
    look = replace(look, keys=keys_of(graphs, rows), expected=torch.stack(outs, dim=1))
    problem.check(look.predictions(index))
    return look


def _look_at_graphs(problem: Problem, index: Tensor | None, batch_budget: Any, forms: bool) -> tuple[Problem, Look]:
    graphs = problem.graphs
    distinct = torch.arange(graphs.num_graphs, device=graphs.device) if index is None else index.unique()
    sample = of_different_size(graphs, distinct)
    start, mixes = _together_or_alone(problem, sample, forms)
    problem, sample, some, traced, out = start.problem, start.sample, start.some, start.traced, start.out
    graphs = problem.graphs
    inputs = [traced, start.again or traced]
    plan = plan_of(graphs, traced, inputs, problem.dtype, start.reach) if forms else None
    seen = _seen(traced, start.reach, plan, problem, some)
    expected = out.new_full((graphs.num_graphs, 1, out.size(1)), torch.nan)
    known = torch.zeros(graphs.num_graphs, dtype=torch.bool, device=graphs.device)
    known[distinct] = True
    if len(sample) == len(distinct) and not mixes:
        if plan is not None:
            survey(plan, traced, some)
        expected[sample, 0] = out
    else:
        run = Rest(problem, distinct, expected, plan, forms)
        budget = batches.as_budget(batch_budget, seen.bytes_each, graphs.device)
        if not run.through(budget, mixes or problem.readout.alone):
            mixes = True
            warn(f"the model {MIXES}, so instances are explained one at a time, which is slow")
            run.through(budget, alone=True)
    problem.check(expected[distinct, 0])
    plan = None if plan is None else settle(plan)
    return problem, replace(
        seen, plan=plan, probe=start.probe, sample=sample, expected=expected, known=known, mixes=mixes
    )


@dataclass(frozen=True, eq=False)
class _Start:
    """The first run of a model on a sample of graphs, and one on a probe."""

    problem: Problem
    sample: Tensor
    some: Replicas
    traced: ForwardTrace
    out: Tensor
    reach: Reach
    probe: Probe | None
    again: ForwardTrace | None
    probed: Tensor | None

    @classmethod
    def on(cls, problem: Problem, sample: Tensor, forms: bool) -> _Start:
        """Run the model on graphs `[S]` as one batch."""
        some = expansion.of_graphs(problem.graphs, sample, 0).replicas(torch.arange(len(sample), device=sample.device))
        traced, out, reach = _first_run(problem, some, True, forms)
        problem = replace(problem, relations=traced.relations)
        if len(sample) == 1 and out.size(1) == len(some.node) > 1 and problem.called(some.data).dim() == 1:
            raise InputError(
                f"expected one output row per graph (1), got shape {list(out[0].shape)} for a graph with as many nodes; is "
                "this a graph-level model? Say task=, or if that is the row of one graph, pass "
                "forward=lambda model, data: model(...).unsqueeze(0)"
            )
        problem = without_unread(problem, some, out)
        if problem.graphs is not some.source.graphs:
            some = expansion.of_graphs(problem.graphs, sample, 0).replicas(
                torch.arange(len(sample), device=sample.device)
            )
        problem = _with_features(problem, some, out)
        return cls(problem, sample, some, traced, out, reach, *_probed(problem, some, traced, forms))


def _together_or_alone(problem: Problem, sample: Tensor, forms: bool) -> tuple[_Start, bool]:
    """A first run on a sample of graphs as one batch; or on one of them, and true, where a batch is not what its graphs are.

    Raises:
        InputError: if the model does not run on one graph either.
    """
    why = "does not take several graphs at once"
    try:
        start = _Start.on(problem, sample, forms)
    except InputError:
        if len(sample) == 1:
            raise
    else:
        seen = start.sample, start.probe, start.out, start.probed
        if problem.readout.alone or not mixes_graphs(start.problem, *seen):
            return start, False
        warn_of_noise(start.problem, start.some, start.out)
        why = MIXES
    start = _Start.on(problem, sample[:1], forms)
    warn(f"the model {why}, so instances are explained one at a time, which is slow")
    return start, True


# Passes ##############################################################################################################


def _first_run(problem: Problem, replicas: Replicas, chained: bool, forms: bool) -> tuple[ForwardTrace, Tensor, Reach]:
    """A traced forward pass, its output `[R, C]`, and how its calls depend on one another.

    Args:
        problem: model, data, task.
        replicas: what it runs on.
        chained: follow the dependence of calls, which takes autograd's memory; else they count as one chain.
        forms: look at the form of messages.
    """
    if chained:
        try:
            return _chained(problem, replicas, forms)
        except Exception:  # the model may not run with gradients; if it does not run at all, the next line says so
            pass
    traced, out = trace(problem, replicas, forms=forms)
    return traced, out, Reach.chain(_counted(traced))


def _chained(problem: Problem, replicas: Replicas, forms: bool) -> tuple[ForwardTrace, Tensor, Reach]:
    with torch.enable_grad(), MaskedModel(problem, replicas, forms=forms) as model, marked(problem.model) as marks:
        out = model()
        traced = model.trace
    return traced, out.detach(), marks.reach(out, _counted(traced), unused=problem.graphs.types is not None)


def _counted(traced: ForwardTrace) -> list[bool]:
    """The calls that pass messages along edges of the graph, whether a mask reaches them or not."""
    return [call.edge_index is not None for call in traced.calls]


def _by_node(graphs: Graphs, roots: Tensor, out: Tensor) -> Tensor:
    """Outputs `[R, C]` of nodes `[R, 1]` as one row for each node of the data, `[N, C]`; NaN for nodes without one."""
    if len(roots) == graphs.num_nodes:
        return out
    return out.new_full((graphs.num_nodes, out.size(1)), torch.nan).index_copy(0, roots[:, 0], out)


def _reach_of_part(problem: Problem, part: Replicas, traced: ForwardTrace) -> Reach | None:
    """The dependence of calls, followed on a part of a large graph; `None` where that does not tell."""
    try:
        other, _, reach = _chained(problem, part, forms=False)
    except Exception:  # it runs on the whole graph alone
        return None
    return reach if _counted(other) == _counted(traced) else None


def _probed(
    problem: Problem, replicas: Replicas, traced: ForwardTrace, forms: bool
) -> tuple[Probe | None, ForwardTrace | None, Tensor | None]:
    """A probe, with the trace and the output of a pass on it; `None` where the model does not run on it.

    Calls of `traced` that run on other edges then are marked.
    """
    graphs = problem.graphs
    for zeros in (True, False):
        probe = Probe.of(graphs, traced.maskable, problem.dtype, zeros)
        mask = None if probe.edge_mask is None else probe.edge_mask[replicas.edge_id]
        try:
            again, out = trace(problem, replicas, mask, probe.x(graphs, replicas.node_id), traced, forms)
        except WrittenInPlace:
            raise
        except Exception:  # it may check its features
            continue
        if len(again.calls) == len(traced.calls) and bool(torch.isfinite(out).all()):
            traced.mark_changes(again)
            return probe, again, out
    return None, None, None


def _seen(traced: ForwardTrace, reach: Reach, plan: Plan | None, problem: Problem, replicas: Replicas) -> Look:
    """What a trace tells, to be completed."""
    refusal, notes = "", []
    try:
        notes = traced.check()
    except MaskingError as error:
        refusal = str(error)
    x = problem.graphs.x
    size = max(len(replicas.node) + len(replicas.edge), 1)
    wide = 0 if x is None else x[:1].numel() * x.element_size() * len(replicas.node)
    return Look(
        reach=reach,
        flow=traced.flow,
        complete=traced.complete,
        maskable=traced.maskable,
        silent=traced.silent and problem.graphs.num_edges > 0,
        layers=tuple((call.layer, call.problem) for call in traced.calls),
        refusal=refusal,
        notes=tuple(notes),
        bytes_each=4 * (traced.message_bytes + wide) / size + 64.0,
        plan=plan,
        followed=traced.followed(problem.graphs, reach),
        probe=None,
        sample=replicas.instance,
        expected=torch.zeros(0),
        graphs=problem.graphs,
    )


def _with_features(problem: Problem, replicas: Replicas, out: Tensor | None) -> Problem:
    """The problem with what its model does with integer features."""
    return problem if problem.graphs.x is None else with_integers(problem, "x", replicas, out)


def warn_of_noise(problem: Problem, replicas: Replicas, out: Tensor) -> None:
    """Warn of a model that gives another output each time, `out` `[R, C]` the first time."""
    with torch.no_grad():
        again = problem.run(replicas.data, replicas.output_rows)
    if not bool(close(again, out).all()):
        warn(
            "two forward passes of the model in evaluation mode differ (F.dropout without training=self.training, or "
            "another source of noise?), so its explanations hold that noise"
        )


# Samples #############################################################################################################


def _around(graphs: Graphs, sample: Tensor, steps: int, flow: Flow, scope: int = 0) -> Replicas:
    """A part of a large graph around a sample of its nodes, with few neighbours each."""
    cap = Cap(SAMPLE, 0)
    scopes = torch.full((len(sample),), scope, device=sample.device)
    around = expansion.around_nodes(graphs, sample, steps, scopes, flow, cap=cap)
    return around.replicas(torch.arange(len(sample), device=sample.device))
