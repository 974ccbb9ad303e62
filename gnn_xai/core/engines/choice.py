"""Which way a model is run: the fastest that gives what the plain way gives, with masks and without."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.agreement import changes, close, typical
from gnn_xai.core.engines.first_look import warn_of_noise
from gnn_xai.core.engines.look import Look
from gnn_xai.core.engines.samples import SAMPLE, SMALL
from gnn_xai.core.engines.session import Session
from gnn_xai.core.engines.verification import Neighborhoods, Probe, outputs
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.graphs.expansion import SCOPES
from gnn_xai.core.inputs.features import Features, by_row
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.errors import InputError

FEW = 2
"""Instances on which gradients are compared."""

RUNS_ON_NO_PART = "the model runs on the whole graph but not on computation graphs cut out of it"
"""What a warning says of a model of whose nodes none can be explained on a part of the graph."""

NOISE = 1e-3
"""Share of an output's scale above which what differs from pass to pass is no rounding any more."""

LITTLE = 20_000
"""Nodes and edges of computation graphs up to which an algorithm that runs the model once is done before a faster way to run
it is chosen."""

CHUNK = 4_000_000
"""Nodes and edges of computation graphs that are looked at together."""


@dataclass(frozen=True, eq=False)
class Way:
    """How a model is run.

    Attributes:
        plan: which calls of `propagate` are fused; `None` where the model runs in PyG's own way throughout.
        features: the data's node features, where a plan is followed and masks can multiply them.
        first_scope: which of `SCOPES` verification starts with.
        local: some neighbourhood gives the output of every node of a sample.
        rounding: how far outputs are apart that differ by the order of edges alone; 0 where nobody had to know.
        bytes_each: memory that a pass through the model and back takes for each node and edge.
        why: why there is no plan, where calls could be fused.
        alone: instances and their variants never share a batch.
        whole: why every instance needs the whole graph, as in `Neighborhoods`.
    """

    plan: Plan | None
    features: Features | None
    first_scope: int = 0
    local: bool = True
    rounding: float = 0.0
    bytes_each: float = 64.0
    why: str = ""
    alone: bool = False
    whole: str = ""

    def neighborhoods(self, look: Look) -> Neighborhoods | None:
        """How computation graphs are cut out and verified in this way."""
        around = look.neighborhoods
        if around is None or not (self.rounding or self.whole):
            return around
        return replace(around, rounding=self.rounding, whole=self.whole or around.whole)

    def describe(self, look: Look) -> list[dict[str, Any]]:
        """Every call of `propagate`: its layer, whether masks reach it, which path it takes, and why no faster one."""
        described = []
        for number, (layer, problem) in enumerate(look.layers):
            path, why = "messages", (look.plan.routes[number].why if look.plan else "") or self.why
            if self.plan is not None:
                path, why = self.plan.routes[number].path, self.plan.routes[number].why
            described.append({"layer": layer, "masked": not problem, "path": path, **({"why": why} if why else {})})
        return described


def choose(problem: Problem, look: Look, batch_budget: Any) -> Way:
    """The fastest way that agrees with the plain one on a sample.

    Agreement is judged by 1e-5 of the outputs' scale first. Where that fails, the rounding that another order of edges
    causes is measured, and allowed for.
    """
    way = _tried(problem, look, batch_budget, 0.0)
    fuses = look.plan is not None and look.plan.fuses
    if look.neighborhoods is None or (way.local and (way.plan is not None or not fuses)):
        return way
    rounding = _rounding(problem, look)
    return _tried(problem, look, batch_budget, rounding) if 0 < rounding <= NOISE * look.neighborhoods.scale else way


def is_little(problem: Problem, index: Tensor) -> bool:
    """Whether explaining outputs `[B]` may be so little work that a faster way is not worth choosing."""
    graphs = problem.graphs
    if graphs.types is not None:  # relations are followed in turns, which takes several looks
        return False
    if problem.readout.rooted:
        return len(index) <= SAMPLE and graphs.num_nodes + graphs.num_edges <= SMALL
    return int((graphs.node_ptr.diff() + graphs.edge_ptr.diff())[index].sum()) <= LITTLE


def in_brief(
    problem: Problem, look: Look, index: Tensor, batch_budget: Any
) -> tuple[Way, ComputationGraphs | None] | None:
    """PyG's own way, for so little work that choosing a faster one would take longer; `None` where that is not known to give
    the model's outputs.

    One pass verifies the computation graphs of roots `[B]` together with those of the sample, all with the hop that degrees
    at the border may need, and returns the former.
    """
    way = Way(None, None, first_scope=1, bytes_each=look.bytes_each, why="for so little work, no faster way was sought")
    around = look.neighborhoods
    if around is None:
        return way, None
    roots = torch.cat([index, look.sample])
    try:
        graphs = around.around(roots, torch.full((len(roots),), 1, device=index.device), LITTLE)
        outs = outputs(_session(problem, look, way, batch_budget), graphs, look.probe)
    except (
        expansion.TooLarge,
        InputError,
    ):  # it may run on the whole graph alone, which the full preparation finds out
        return None
    if look.mixes or not look.complete or not bool(around.agree(outs, look.outputs_of(roots)).all()):
        return None
    exact = torch.ones_like(graphs.exact)
    return way, replace(graphs, exact=exact).first(len(index))


def plain_way(problem: Problem, look: Look, batch_budget: Any, why: str = "", rounding: float = 0.0) -> Way:
    """PyG's own way."""
    way = Way(None, None, rounding=rounding, why=why)
    session = _session(problem, look, way, batch_budget)
    if look.neighborhoods is not None:
        try:
            scope, local = _scope_of_most(way, session, look)
        except InputError as error:
            if look.neighborhoods.whole:
                raise
            reason = error.__cause__ or error  # as the model raised it
            scope, local = len(SCOPES) - 1, False
            way = replace(
                way,
                whole=f"{RUNS_ON_NO_PART} "
                f"({type(reason).__name__}: {textwrap.shorten(str(reason), 160, placeholder=' ...')})",
            )
        way = replace(way, first_scope=scope, local=local)
        if not local and not way.whole:
            _look_for_noise(problem, look)
    graphs = _few(way, look)
    with batches.measuring() as kept:
        _gradients(session, graphs, look)
    return replace(way, bytes_each=_bytes_each(kept(), graphs))


def _tried(problem: Problem, look: Look, batch_budget: Any, rounding: float) -> Way:
    """The first of the planned ways that agrees with the plain one, or that one."""
    plan, why = look.plan or Plan(), ""
    local = look.complete and problem.readout.rooted and not look.mixes
    chain = local and plan.is_chain and all(route.coefficients is not None for route in plan.routes)
    chain = chain and not any(coefficients.backwards for coefficients in plan.coefficients)
    ways = [(True, True)] * chain + [(True, False)] * local + [(False, False)]
    for trim, shrink in ways if plan.fuses else []:
        way = Way(replace(plan, trim=trim, shrink=shrink), _features(problem), rounding=rounding)
        try:
            settled = _agrees(problem, look, way, batch_budget)
        except Exception as error:  # a layer may add its input to an output that has fewer rows now
            reason = error.__cause__ or error  # as the model raised it
            why = f"the fused way raised {type(reason).__name__}: {reason}"
            continue
        if settled is not None:
            return settled
        why = "the fused way did not give what the model gives"
    return plain_way(problem, look, batch_budget, why, rounding)


def _agrees(problem: Problem, look: Look, way: Way, batch_budget: Any) -> Way | None:
    """A planned way with its first scope, if its outputs on a sample, and gradients on a few instances, are those of the
    plain way.
    """
    fast = _session(problem, look, way, batch_budget)
    slow = _session(problem, look, Way(None, None), batch_budget)
    around = way.neighborhoods(look)
    if around is None:
        graphs = _few(way, look)
        with batches.measuring() as kept:
            one = _gradients(fast, graphs, look)
        same = _same_gradients(one, slow, graphs, look)
        return replace(way, bytes_each=_bytes_each(kept(), graphs)) if same else None
    index, scope, local = look.sample, 0, True
    if len(index) == 1:  # a single row can be added to any number of them
        index = torch.cat([index, index])
    graphs = around.around(index, scope)
    with batches.measuring() as kept:
        one = _gradients(fast, graphs, look)
    expected = look.outputs_of(index)
    alike = look.probe is not None and bool(
        close(one[0], expected[:, 1], around.scale, way.rounding, changes(expected)).all()
    )
    if not alike:
        scope, local = _scope_of_most(way, fast, look)
        if scope == len(SCOPES) - 1:
            return None
        graphs = around.around(index, scope)
        with batches.measuring() as kept:
            one = _gradients(fast, graphs, look)
    # The smallest neighbourhoods that have edges: the plain way has to cut out more around each.
    edges = graphs.num_edges
    few = torch.argsort(torch.where(edges > 0, edges, edges.max() + 1))[:FEW]
    one = [part[few] for part in one]
    for wider in (len(SCOPES) - 2, len(SCOPES) - 1):  # whole graphs, only where the border reaches further
        more = around.around(index[few], wider)
        if _same_gradients(one, slow, more, look):
            return replace(way, first_scope=scope, local=local, bytes_each=_bytes_each(kept(), graphs))
    return None


def _same_gradients(one: list[Tensor], slow: Session, graphs: ComputationGraphs, look: Look) -> bool:
    """Whether outputs and gradients under the probe are those of the plain way, up to the rounding of that."""
    other = _gradients(slow, graphs, look)
    if _alike(one, other, [0.0] * len(one)):
        return True
    turned = _gradients(slow, graphs, look, turn=True)
    rounding = [float((a - b).abs().max()) if a.numel() else 0.0 for a, b in zip(turned, other, strict=True)]
    small = all(r <= NOISE * typical(b) for r, b in zip(rounding, other, strict=True))
    return small and _alike(one, other, rounding)


def _alike(one: list[Tensor], other: list[Tensor], rounding: list[float]) -> bool:
    return all(bool(close(a, b, 0.0, r).all()) for a, b, r in zip(one, other, rounding, strict=True))


def _session(problem: Problem, look: Look, way: Way, batch_budget: Any) -> Session:
    budget = batches.as_budget(batch_budget, look.bytes_each, problem.graphs.device)
    alone = look.mixes or problem.readout.alone or way.alone
    return Session(problem, 0, False, budget, way.plan, way.features, alone, look.maskable)


def _features(problem: Problem) -> Features | None:
    """The data's features, if masks can multiply them."""
    x = problem.graphs.x
    return Features(x) if x is not None and x.is_floating_point() else None


def _few(way: Way, look: Look) -> ComputationGraphs:
    """A few computation graphs of the sample."""
    around = way.neighborhoods(look)
    if around is None:
        return expansion.of_graphs(look.graphs, look.sample, look.steps)
    sample = look.sample
    graphs = around.around(sample, way.first_scope)
    middle = torch.argsort(graphs.num_edges)[len(sample) // 2 :][:1]
    return around.around(sample[middle], way.first_scope)


def _bytes_each(kept: int, graphs: ComputationGraphs) -> float:
    """Bytes for each node and edge, of which autograd kept so many for some computation graphs."""
    # What is kept is met by gradients of its size.
    return 2 * kept / max(len(graphs.node) + len(graphs.edge), 1) + 64.0


def _scope_of_most(way: Way, session: Session, look: Look) -> tuple[int, bool]:
    """The largest local scope that any node of the sample needs, and whether some local scope is enough for all.

    Whether the border needs its degrees is a property of the model, which a single node may hide (dead ReLUs) and a
    sample hides hardly ever. The sample depends on the graph alone, so no instance depends on its companions.
    """
    around, sample = way.neighborhoods(look), look.sample
    assert around is not None
    expected, last = look.outputs_of(sample), len(SCOPES) - 1
    needed, local = [0], [True]

    def extract(positions: Tensor, limit: int | None) -> ComputationGraphs:
        graphs, scope = around.verified(session, sample[positions], expected[positions], range(last), limit=limit)
        needed.append(int(torch.where(graphs.exact, scope, last if way.plan is not None else 0).max()))
        local.append(bool(graphs.exact.all()))
        return graphs

    for _ in expansion.in_chunks(len(sample), sample.device, extract, CHUNK):
        pass
    return max(needed), all(local)


# Gradients ###########################################################################################################


def _gradients(session: Session, graphs: ComputationGraphs, look: Look, turn: bool = False) -> list[Tensor]:
    """Outputs under the probe, `[B, C]`, and sums of the gradients of its edge masks and node masks, `[B, 2]` each: what the
    model makes of features may look right and have no gradient.

    Args:
        session: how to run the model.
        graphs: B computation graphs.
        look: the probe.
        turn: with the edges in another order.
    """
    parts: list[tuple[Tensor, list[Tensor]]] = []

    def work(select: Tensor) -> None:
        replicas = session.replicas(graphs, select)
        with session.model(_turned(replicas) if turn else replicas) as model:
            parts.append((select, _with_gradients(model, look.probe)))

    batches.for_each_batch(work, session.cost(graphs), session.limit)
    order = torch.argsort(torch.cat([select for select, _ in parts]))
    return [torch.cat(columns)[order] for columns in zip(*(columns for _, columns in parts), strict=True)]


def _turned(replicas: Replicas) -> Replicas:
    """The same graphs with their edges in the opposite order."""
    return replace(
        replicas,
        edge=replicas.edge.flip(0),
        edge_owner=replicas.edge_owner.flip(0),
        edge_index=replicas.edge_index.flip(1),
    )


def _with_gradients(model: MaskedModel, probe: Probe | None) -> list[Tensor]:
    replicas = model.replicas
    graphs, node = replicas.source.graphs, replicas.node_id
    masks: list[tuple[Tensor, Tensor]] = []
    edge_mask = x = None
    with torch.enable_grad():
        if probe is not None and probe.edge_mask is not None:
            edge_mask = probe.edge_mask[replicas.edge_id].requires_grad_()
            masks.append((edge_mask, replicas.edge_owner))
        if probe is not None and graphs.x is not None:
            source = probe.source[node]
            if probe.factor is None:
                x = graphs.x[source]
            else:
                factor = probe.factor[node].requires_grad_()
                masks.append((factor, replicas.node_owner))
                if model.features is None:
                    x = graphs.x[source] * factor.reshape(-1, *[1] * (graphs.x.dim() - 1))
                else:
                    x = by_row(model.features, source, factor)
        out = model(edge_mask=edge_mask, x=x)
        columns = [out.detach()]
        weighted = out * torch.arange(1, out.size(1) + 1, device=out.device)  # the sum of probabilities is always 1
        if not masks:
            return columns
        grads = [None] * len(masks)
        if out.requires_grad:
            grads = torch.autograd.grad(weighted.sum(), [mask for mask, _ in masks], allow_unused=True)
    for (mask, owner), grad in zip(masks, grads, strict=True):
        slope = torch.zeros_like(mask) if grad is None else grad
        sums = [segment_sum(part, owner, len(replicas)) for part in (slope * mask.detach(), slope.abs())]
        columns.append(torch.stack(sums, 1).to(out.dtype))
    return columns


# Rounding ############################################################################################################


def _rounding(problem: Problem, look: Look) -> float:
    """How far outputs of the sample are apart that differ by the order of the edges alone."""
    with torch.no_grad(), MaskedModel(problem, _turned(_sampled(problem, look)), record=False) as model:
        out = model()
    return float((out - look.predictions(look.sample)).abs().max())


def _look_for_noise(problem: Problem, look: Look) -> None:
    """Warn of a model that gives another output each time."""
    warn_of_noise(problem, _sampled(problem, look), look.predictions(look.sample))


def _sampled(problem: Problem, look: Look) -> Replicas:
    """All of the data, where the sample is read."""
    return expansion.everything(problem.graphs, look.sample.reshape(len(look.sample), -1))
