"""From a problem to verified computation graphs with predictions, piece by piece; shared by `explain` and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines import scores
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH, ComputationGraphs, Replicas
from gnn_xai.core.graphs.expansion import SCOPES, Cap, TooLarge
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.inputs.embeddings import embeddings_of
from gnn_xai.core.inputs.features import Features, by_row, plain
from gnn_xai.core.model.interventions import MaskedModel, trace
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.calls import ForwardTrace
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.core.propagation.routing import plan_of, settle, survey
from gnn_xai.errors import InputError, warn

PIECE = 4_000_000
"""Nodes and edges of computation graphs that are held at once; their tensors take about 60 bytes each."""

SAMPLE = 16
"""Nodes, spread over the graph, that tell how much around a target the model needs; those with edges and without
neighbourhoods larger than their share of a piece."""


class Chunk(NamedTuple):
    """Some of the instances, ready to work on.

    Attributes:
        positions: `[P]` positions within the index.
        graphs: their verified computation graphs.
        prediction: `[P, C]` the model's output on the full graph.
    """

    positions: Tensor
    graphs: ComputationGraphs
    prediction: Tensor


@dataclass(eq=False)
class Pipeline:
    """Everything that happens before an algorithm: one look at the model, then pieces.

    Attributes:
        session: the problem and how to run it.
        index: `[B]` the instances.
        traced: what a forward pass does.
        probes: other features `[N, ...]` on which computation graphs are verified.
        expected: `[B, 1 + probes, C]` the output on the full graph, for the user's features and for each probe; for
            graph-level tasks, where every graph is its own computation graph, for the user's features alone.
        first_scope: which of `SCOPES` the verification starts with.
        local: some neighbourhood gives the output of every node of a sample.
        cap: on the edges that are followed around a target.
        planned: which calls can be fused, whether the plan is followed or not.
        fallback: why it is not.
    """

    session: Session
    index: Tensor
    traced: ForwardTrace
    probes: list[Features] = field(default_factory=list)
    expected: Tensor | None = None
    first_scope: int = 0
    local: bool = True
    cap: Cap | None = None
    planned: Plan | None = None
    fallback: str = ""

    @classmethod
    def start(
        cls,
        problem: Problem,
        index: Tensor,
        seed: int,
        undirected: bool,
        batch_budget: Any,
        edge_masks: bool,
        structural: bool = False,
        max_neighbors: int | None = None,
    ) -> Pipeline:
        """Trace the model, compare its output with the task, plan how it propagates, and measure what a batch may hold.

        Args:
            problem: model, data, task.
            index: `[B]` the instances.
            seed, undirected, batch_budget: as in `gnn_xai.explain`.
            edge_masks: edge masks must reach the model's layers.
            structural: edges or nodes will be taken out of the graph.
            max_neighbors: as in `gnn_xai.explain`.

        Raises:
            InputError, MaskingError: as in `gnn_xai.explain`.
        """
        graphs = problem.graphs
        cap = as_cap(max_neighbors, seed, problem)
        some = torch.arange(graphs.num_graphs, device=graphs.device) if problem.node_level else index[:SAMPLE]
        replicas = expansion.of_graphs(graphs, some, 0).replicas(torch.arange(len(some), device=graphs.device))
        sample = _spread(graphs)
        if problem.node_level:
            replicas = replace(replicas, rows=torch.cat([index, sample]))
        traced, out = trace(problem, replicas)
        part, first, said = _part(problem, replicas, traced, out, sample)
        problem.check(out[: len(index)])
        _warn_of_what_was_seen(problem, traced, part, said, edge_masks)
        problem = _with_embeddings(problem, part, said)
        graphs = problem.graphs

        # A guess for the first passes; measured below, on the way that is then known.
        size = max(len(replicas.node) + len(replicas.edge), 1)
        wide = 0 if graphs.x is None else graphs.x.numel() * graphs.x.element_size()
        budget = batches.as_budget(batch_budget, 4 * (traced.message_bytes + wide) / size + 64.0, graphs.device)
        pipeline = cls(Session(problem, seed, undirected, budget), index, traced, _probes(problem), cap=cap)

        probed = [trace(problem, part, None, probe.x[part.node_id], first) for probe in pipeline.probes]
        inputs = [first, *(each for each, _ in probed)]
        if traced.maskable:
            mask = keyed_uniform(seed, part.edge_id).to(problem.dtype)
            inputs.append(trace(problem, part, mask, None, first)[0])
        plan = plan_of(graphs, traced, inputs, problem.dtype)
        if problem.node_level:
            survey(plan, traced, replicas)
            found = [out, *(there for _, there in probed)]
            if part is not replicas:
                with torch.no_grad():
                    others = [replicas.with_features(probe.x[replicas.node_id]) for probe in pipeline.probes]
                    found = [out, *(problem.run(other, replicas.rows) for other in others)]
            small = pipeline._small(sample)
            sample = sample[small]
            pipeline.expected = torch.stack(found, dim=1)[torch.cat([index >= 0, small])]
        else:
            pipeline._survey_graphs(plan)
        plan = settle(plan, graphs)
        pipeline._choose(plan, sample, structural)
        pipeline.session.budget = batches.as_budget(batch_budget, pipeline._measure(sample), graphs.device)
        if pipeline.expected is not None:
            pipeline.expected = pipeline.expected[: len(index)]
        if problem.node_level:
            pipeline._look_for_mixing()
        return pipeline

    def _look_for_mixing(self) -> None:
        """Explain nodes one at a time if the first and the last of them, in one batch, see each other."""
        assert self.expected is not None
        ends = self.index[[0, -1]], self.expected[[0, -1]]
        graphs, _ = self._grown(self.session, *ends, None, range(self.first_scope, len(SCOPES)), self.cap)
        if _mixes(self.session, graphs):
            self.session.alone = True
            self._say_alone()

    def _survey_graphs(self, plan: Plan) -> None:
        """Run every graph once in the model's own way, for its prediction and for what its layers multiply by."""
        problem = self.session.problem
        distinct, place = torch.unique(self.index, return_inverse=True)
        graphs = expansion.of_graphs(problem.graphs, distinct, self.traced.steps)
        if problem.alone:
            self.session.alone = True
        elif _mixes(self.session, expansion.of_graphs(problem.graphs, self.index[[0, -1]], self.traced.steps)):
            self.session.alone = True
            self._say_alone()
        parts: list[tuple[Tensor, Tensor]] = []

        def work(select: Tensor) -> None:
            replicas = graphs.replicas(select)
            seen, out = trace(problem, replicas)
            problem.check(out)
            survey(plan, seen, replicas)
            parts.append((select, out))

        batches.for_each_batch(work, self.session.cost(graphs), self.session.limit)
        out = torch.cat([out for _, out in parts])
        order = torch.argsort(torch.cat([select for select, _ in parts]))
        self.expected = out[order][place].unsqueeze(1)

    def _say_alone(self) -> None:
        warn(
            "the model mixes the graphs of a batch (a normalisation or pooling without batch?), so instances are explained "
            "one at a time, which is slow"
        )

    def pieces(self, limit: int = PIECE, done: Container[range] = ()) -> Iterator[Chunk]:
        """The instances in order, in pieces whose computation graphs fit into memory together.

        Args:
            limit: nodes and edges of a piece; a single instance may have more.
            done: pieces to leave out, as ranges of positions. The others are cut, and computed, as they would be without.
        """
        assert self.expected is not None
        for positions, graphs in self._cut(limit, done):
            yield Chunk(positions, graphs, self.expected[positions, 0])

    def _cut(self, limit: int, done: Container[range]) -> Iterator[tuple[Tensor, ComputationGraphs]]:
        graphs, index = self.session.problem.graphs, self.index
        if self.session.problem.node_level:
            yield from expansion.in_pieces(len(index), index.device, self._verified, limit, done)
            return
        sizes = (graphs.node_ptr.diff() + graphs.edge_ptr.diff())[index]
        for positions in batches.batches(sizes, limit):
            if range(int(positions[0]), int(positions[-1]) + 1) not in done:
                yield positions, expansion.of_graphs(graphs, index[positions], self.traced.steps)

    @property
    def layers(self) -> list[dict[str, Any]]:
        """What became of every call of `propagate`: its layer, whether masks reach it, which path it takes, and why."""
        plan, planned = self.session.plan, self.planned
        assert planned is not None
        found = []
        for number, call in enumerate(self.traced.calls):
            path, why = "messages", planned.routes[number].why or self.fallback
            if plan is not None:
                path, why = plan.routes[number].path, plan.routes[number].why
            found.append(
                {"layer": call.layer, "masked": not call.problem, "path": path, **({"why": why} if why else {})}
            )
        return found

    @property
    def features(self) -> str | None:
        """What node masks multiply; `None` where there is nothing that they could."""
        problem = self.session.problem
        if problem.embeddings.names:
            return f"embedded columns of x (modules {', '.join(problem.embeddings.names)})"
        return "x" if problem.graphs.x is not None and problem.graphs.x.is_floating_point() else None

    # How to run ######################################################################################################

    def _choose(self, plan: Plan, sample: Tensor, structural: bool) -> None:
        """Settle on the fastest way to run the model that gives what the plain way gives, with masks and without.

        Args:
            plan: which calls can be fused.
            sample: nodes to try it on, the last of `expected`; not used for graph-level tasks.
            structural: whether coefficients must stay known when edges are removed.
        """
        session, graphs = self.session, self.session.problem.graphs
        self.planned = plan
        possible = plan.fuses
        if structural and not all(coefficients.correctable(graphs) for coefficients in plan.coefficients):
            possible, self.fallback = False, "what it multiplies messages by once something is removed is not known"
        local = self.traced.complete and session.problem.node_level
        fused = all(route.coefficients is not None for route in plan.routes)
        whole = local and fused and not any(coefficients.backwards for coefficients in plan.coefficients)
        ways = [(True, True)] * whole + [(True, False)] * local + [(False, False)]
        for trim, shrink in ways if possible else []:
            session.plan = replace(plan, trim=trim, shrink=shrink)
            session.features = _features(graphs.x)
            try:
                if self._agrees(sample):
                    return
                self.fallback = "the fused way did not give what the model gives"
            except Exception as error:  # a layer may add its input to an output that has fewer rows now
                reason = error.__cause__ or error  # as the model raised it
                self.fallback = f"the fused way raised {type(reason).__name__}: {reason}"
        session.plan = session.features = None
        if session.problem.node_level:
            self.first_scope, _ = self._scope_of_most(sample)

    def _measure(self, sample: Tensor) -> float:
        """Bytes that a pass through the model and back takes for each node and edge of computation graphs."""
        session = self.session
        if session.problem.node_level:
            scope = torch.full_like(sample, self.first_scope)
            few = expansion.around_nodes(
                session.problem.graphs, sample, self.traced.steps, scope, self.traced.flow, None, self.cap
            )
            replicas = session.replicas(few, torch.argsort(few.num_edges)[len(few) // 2 :][:1])
        else:
            few = expansion.of_graphs(session.problem.graphs, self.index[:SAMPLE], self.traced.steps)
            replicas = session.replicas(few, torch.arange(len(few), device=sample.device))
        with batches.measuring() as kept, session.model(replicas) as model:
            _at_random(model, self.traced.maskable)
        # What is kept is met by gradients of its size.
        return 2 * kept() / max(len(replicas.node) + len(replicas.edge), 1) + 64.0

    def _agrees(self, sample: Tensor) -> bool:
        """Whether the plan's outputs on a few instances, under random masks, are those of the plain way."""
        session = self.session
        plain = replace(session, plan=None, features=None)
        if session.problem.node_level:
            assert self.expected is not None
            self.first_scope, edges = self._scope_of_most(sample)
            if self.first_scope == len(SCOPES) - 1:
                return False
            # The smallest neighbourhoods that have edges: the plain way has to cut out more around each.
            few = torch.argsort(torch.where(edges > 0, edges, edges.max() + 1))[:3]
            expected = self.expected[len(self.index) :][few]
            fast, _ = self._grown(session, sample[few], expected, None, range(self.first_scope, len(SCOPES)))
            slow, _ = self._grown(plain, sample[few], expected, None, range(len(SCOPES)))
        else:
            fast = slow = expansion.of_graphs(session.problem.graphs, self.index[:SAMPLE], self.traced.steps)
        one, other = outputs(session, fast, _with_gradients), outputs(plain, slow, _with_gradients)
        same = close(one[:, :-4], other[:, :-4]) & close(one[:, -4:], other[:, -4:], 1e-3)
        return bool(same.all())

    def _small(self, sample: Tensor) -> Tensor:
        """Which nodes of a sample have neighbourhoods that can be looked at without a cap, `[S]` bool; at least one."""
        graphs, limit = self.session.problem.graphs, PIECE // SAMPLE
        if graphs.num_nodes + graphs.num_edges <= limit:
            return torch.ones_like(sample, dtype=torch.bool)
        steps, flow = self.traced.steps, self.traced.flow

        def fits(node: Tensor, scope: int) -> bool:
            try:
                expansion.around_nodes(graphs, node, steps, torch.full_like(node, scope), flow, limit)
            except TooLarge:
                return False
            return True

        for scope in (1, 0):  # with the hop that degrees may need, or else without
            small = torch.tensor([fits(node, scope) for node in sample.split(1)], device=sample.device)
            if bool(small.any()):
                return small
        ptr, _, _ = graphs.incidence(flow)
        return sample == sample[torch.argmin(ptr.diff()[sample])]

    def _scope_of_most(self, sample: Tensor) -> tuple[int, Tensor]:
        """The largest local scope that any node of a sample of the whole graph needs, and the edges around each, `[S]`.

        Whether the border needs its degrees is a property of the model, which a single node may hide (dead ReLUs) and a
        sample hides hardly ever. The sample depends on the graph alone, so no instance depends on its companions.
        """
        assert self.expected is not None
        expected = self.expected[len(self.index) :]
        needed = [0]
        edges = torch.zeros_like(sample)
        self.local = True

        def extract(positions: Tensor, limit: int | None) -> ComputationGraphs:
            scopes = range(len(SCOPES) - 1)
            found, scope = self._grown(self.session, sample[positions], expected[positions], limit, scopes)
            needed.append(int(torch.where(found.exact, scope, len(SCOPES) - 1 if self.session.plan else 0).max()))
            self.local = self.local and bool(found.exact.all())
            edges[positions] = found.num_edges
            return found

        for _ in expansion.in_pieces(len(sample), sample.device, extract, PIECE):
            pass
        return max(needed), edges

    def _grown(
        self,
        session: Session,
        index: Tensor,
        expected: Tensor,
        limit: int | None,
        scopes: range,
        cap: Cap | None = None,
    ) -> tuple[ComputationGraphs, Tensor]:
        """Computation graphs by the first of `scopes` that gives what is `expected` `[B, 1 + probes, C]`, else the last.

        What a cap left out is not grown back: where it left out something, the first of `scopes` is taken, unless no
        neighbourhood is enough for this model.

        Returns them, with `exact` set, and the scope of each, `[B]`.
        """
        graphs, steps, flow = self.session.problem.graphs, self.traced.steps, self.traced.flow
        scope = torch.zeros_like(index)
        exact = torch.zeros_like(index, dtype=torch.bool)
        pending = torch.arange(len(index), device=index.device)
        found = None
        for step in scopes:
            scope[pending] = step
            found = expansion.around_nodes(graphs, index[pending], steps, scope[pending], flow, limit, cap)
            # A dead ReLU hides what the border contributes until a mask brings it to life: one input is not enough.
            there = outputs(session, found, self._probed).unflatten(1, expected.shape[1:])
            same = close(there.flatten(0, 1), expected[pending].flatten(0, 1)).reshape(len(pending), -1).all(1)
            capped = torch.zeros_like(same) if found.capped is None else found.capped
            exact[pending] = same & ~capped
            pending = pending[~(same | capped & self.local)]
            if len(pending) == 0:
                break
        if found is None or len(found) < len(index):
            found = expansion.around_nodes(graphs, index, steps, scope, flow, limit, cap)
        return replace(found, exact=exact), scope

    def _verified(self, positions: Tensor, limit: int | None) -> ComputationGraphs:
        """Computation graphs that give the predictions of the full graph, each by the smallest scope that does."""
        assert self.expected is not None
        index, steps = self.index[positions], self.traced.steps
        scopes = range(self.first_scope, len(SCOPES))
        found, _ = self._grown(self.session, index, self.expected[positions], limit, scopes, self.cap)
        whole = int((found.hops == WHOLE_GRAPH).sum())
        if whole:
            warn(
                f"the model is not local: no neighbourhood of {steps} or {steps + 1} hops gives the prediction of {whole} "
                f"of {len(index)} nodes (a normalisation over all nodes, a layer without propagate, or noise?), so their "
                "computation graph is the whole graph"
            )
        if not self.traced.complete:  # what looks like context may carry messages of a layer that was not traced
            found = replace(found, all_in_play=True, edge_in_play=torch.ones_like(found.edge_in_play))
        return found

    def _probed(self, model: MaskedModel) -> Tensor:
        """The output on the user's features and on every probe, side by side, `[R, (1 + probes) · C]`."""
        node = model.replicas.node_id
        lazy = model.features is not None
        found = [model(x=plain(probe, node) if lazy else probe.x[node]) for probe in self.probes]
        return torch.cat([model(), *found], dim=1)

    def maskable(self, masks: Scores) -> bool:
        """Whether masks can be applied: those of nodes to features, those of edges to the messages of every layer."""
        features = self.session.problem.graphs.features
        nodes = masks.node is None or (features is not None and features.is_floating_point())
        return nodes and (masks.edge is None or self.traced.maskable)

    def faithful(self, graphs: ComputationGraphs, masks: Scores) -> tuple[Tensor, Tensor]:
        """The model's output under soft masks and under their complement, each `[B, C]`.

        NaN where a mask cannot be applied: on codes that do not only go into embeddings, or in a model whose layers an edge
        mask cannot reach.
        """
        if not self.maskable(masks):
            nothing = outputs(self.session, graphs) * torch.nan
            return nothing, nothing

        def both(model: MaskedModel) -> Tensor:
            return torch.cat([scores.apply(model, masks), scores.apply(model, masks, complement=True)], dim=1)

        kept, dropped = outputs(self.session, graphs, both).chunk(2, dim=1)
        return kept, dropped


def _with_embeddings(problem: Problem, part: Replicas, said: Tensor) -> Problem:
    """The problem with what its model, which says `said` `[R, C]` on a union, does with codes, if `x` holds codes."""
    graphs = problem.graphs
    if graphs.x is None or graphs.x.is_floating_point():
        return problem
    assert part.x is not None
    embeddings = embeddings_of(
        problem.model, part.x, lambda codes: problem.run(part.with_features(codes), part.rows), said
    )
    if not embeddings.why:
        factors = torch.ones(graphs.x.shape, dtype=problem.dtype, device=graphs.device)
        graphs = replace(graphs, factors=factors)
    return replace(problem, graphs=graphs, embeddings=embeddings)


def _warn_of_what_was_seen(
    problem: Problem, traced: ForwardTrace, part: Replicas, said: Tensor, edge_masks: bool
) -> None:
    """Warn of a model that is random, that edge masks do not reach everywhere, or that uses no edges.

    Args:
        problem: model, data, task.
        traced: a forward pass.
        part: a union on which the model said `said` `[R, C]`.
        edge_masks: edge masks must reach the model's layers.

    Raises:
        MaskingError: if they cannot.
    """
    with torch.no_grad():
        again = problem.run(part.data, part.rows)
    if not bool(close(again, said).all()):
        warn(
            "two forward passes of the model in evaluation mode differ (F.dropout without training=self.training, or "
            "another source of noise?), so its explanations hold that noise"
        )
    if edge_masks:
        for sentence in traced.check():
            warn(f"not masked: {sentence}")
    elif traced.silent and len(part.edge):
        warn("the model sends no messages over edge_index (it never calls propagate), so no edge gets a score")


def outputs(
    session: Session, graphs: ComputationGraphs, call: Callable[[MaskedModel], Tensor] = MaskedModel.__call__
) -> Tensor:
    """The model's output on every computation graph, `[B, C]`, plain or as `call` makes it."""
    parts: list[Tensor] = []
    order: list[Tensor] = []

    def work(select: Tensor) -> None:
        with torch.no_grad(), session.model(session.replicas(graphs, select)) as model:
            out = call(model)
        parts.append(out)
        order.append(select)

    batches.for_each_batch(work, session.cost(graphs), session.limit)
    return torch.cat(parts)[torch.argsort(torch.cat(order))]


def as_cap(max_neighbors: Any, seed: int, problem: Problem) -> Cap | None:
    """The cap that a user asked for.

    Raises:
        InputError: if it is not a positive integer, or the task is not of nodes.
    """
    if max_neighbors is None:
        return None
    if isinstance(max_neighbors, bool) or not isinstance(max_neighbors, int) or max_neighbors < 1:
        raise InputError(
            f"expected max_neighbors as a positive integer or None, got {max_neighbors!r}; None follows every edge"
        )
    if not problem.node_level:
        raise InputError(
            f"expected max_neighbors for a node-level task alone, got {max_neighbors} for a graph-level one, whose graphs "
            "are explained whole; leave it out"
        )
    return Cap(max_neighbors, seed)


def _part(
    problem: Problem, replicas: Replicas, traced: ForwardTrace, out: Tensor, sample: Tensor
) -> tuple[Replicas, ForwardTrace, Tensor]:
    """What to run the model on to see whether it is random, and what it multiplies messages by: a part of a large graph,
    around the nodes of a sample; else the union of all graphs. With it, a trace and the output.
    """
    graphs = problem.graphs
    if not problem.node_level or graphs.num_nodes + graphs.num_edges <= PIECE // SAMPLE:
        return replicas, traced, out
    scope = torch.zeros_like(sample)
    cap = Cap(SAMPLE, 0)
    around = expansion.around_nodes(graphs, sample, traced.steps, scope, traced.flow, cap=cap)
    part = around.replicas(torch.arange(len(sample), device=sample.device))
    try:
        return (part, *trace(problem, part)) if len(part.edge) else (replicas, traced, out)
    except Exception:  # it runs on the whole graph alone, which is said where it matters
        return replicas, traced, out


def _spread(graphs: Graphs) -> Tensor:
    """Up to `SAMPLE` nodes, spread over those that something reaches in two steps (if there are none, in one), and as many
    again for layers that run backwards; over all nodes where there are no edges.

    What a layer does with its neighbours, and with nodes that it need not compute, shows where there are some.
    """
    edges = graphs.edge_index[:, graphs.edge_index[0] != graphs.edge_index[1]]
    found = []
    for sender, receiver in (edges, edges.flip(0)):
        near = torch.zeros(graphs.num_nodes, dtype=torch.bool, device=graphs.device)
        near[receiver] = True
        far = torch.zeros_like(near)
        far[receiver[near[sender]]] = True
        nodes = (far if bool(far.any()) else near if len(receiver) else ~near).nonzero().flatten()
        found.append(nodes[torch.linspace(0, len(nodes) - 1, SAMPLE, device=graphs.device).long()])
    return torch.cat(found).unique()


def _features(x: Tensor | None) -> Features | None:
    """The data's features, if masks can multiply them."""
    return Features(x) if x is not None and x.is_floating_point() else None


def _probes(problem: Problem, count: int = 2) -> list[Features]:
    """Rows of x dealt out anew and, unless they are codes, scaled down at random, so that they stay within what the model
    expects; the same in any order of the nodes. None without features.
    """
    x, key = problem.graphs.x, problem.graphs.node_key
    if x is None or len(x) == 0:
        return []
    feature = torch.arange(x[0].numel(), device=x.device)
    found = []
    for number in range(count):
        order = torch.argsort(keyed_uniform(number, key))
        source = torch.empty_like(order)
        source[order] = order.roll(1)
        dealt = x[source]
        if x.is_floating_point():
            by_node, by_feature = keyed_uniform(count + number, key), keyed_uniform(2 * count + number, feature)
            factor = by_node.to(x.dtype).unsqueeze(1) * by_feature.to(x.dtype)
            dealt = (dealt.reshape(len(x), -1) * factor).reshape(x.shape)
        found.append(Features(dealt))
    return found


def _at_random(model: MaskedModel, edges: bool = True) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The output `[R, C]` under random masks, which follow the edges (if asked) and the nodes of the data, and these masks
    `[ΣE]` and `[ΣN]`, in which it is differentiable.
    """
    node, dtype = model.replicas.node_id, model.problem.dtype
    x = model.replicas.source.graphs.features
    edge_mask = keyed_uniform(0, model.replicas.edge_id).to(dtype).requires_grad_() if edges else None
    node_mask = None
    if x is None or not x.is_floating_point():
        x = None
    else:
        node_mask = keyed_uniform(1, node).to(dtype).requires_grad_()
        if model.features is None:
            x = x[node] * node_mask.reshape(-1, *[1] * (x.dim() - 1))
        else:
            x = by_row(model.features, node, node_mask)
    return model(edge_mask=edge_mask, x=x), edge_mask, node_mask


def _with_gradients(model: MaskedModel) -> Tensor:
    """The output under random masks `[R, C]`, and beside it what the gradients of edge and node masks, and their sizes, add
    up to, `[R, 4]`: what the model makes of features may look right and have no gradient.
    """
    replicas, size = model.replicas, len(model.replicas)
    with torch.enable_grad():
        out, *masks = _at_random(model)
        weighted = out * torch.arange(1, out.size(1) + 1, device=out.device)  # the sum of probabilities is always 1
        columns = [out.detach()]
        for mask, owner in zip(masks, (replicas.edge_owner, replicas.node_owner), strict=True):
            grad = None
            if mask is not None and out.requires_grad:
                (grad,) = torch.autograd.grad(weighted.sum(), mask, retain_graph=True, allow_unused=True)
            parts = [out.new_zeros(size)] * 2
            if mask is not None and grad is not None:
                parts = [segment_sum(part, owner, size) for part in (grad * mask.detach(), grad.abs())]
            columns += [part.detach().to(out.dtype).unsqueeze(1) for part in parts]
    return torch.cat(columns, 1)


def _mixes(session: Session, graphs: ComputationGraphs) -> bool:
    """Whether instances of a batch see one another, or cannot be batched at all: two of them, twice, under random masks,
    together and alone.
    """
    local = (graphs.hops != WHOLE_GRAPH).nonzero().flatten()
    if len(local) == 0:
        return False
    ends = local[[0, -1]] if len(local) > 1 else local
    together = session.replicas(graphs, ends.repeat(2))
    mask = keyed_uniform(0, torch.arange(len(together.edge), device=together.edge.device)).to(session.problem.dtype)
    x = together.features
    factor = None
    if x is not None and x.is_floating_point():
        factor = keyed_uniform(1, torch.arange(len(x), device=x.device)).to(x.dtype)
        factor = factor.reshape(-1, *[1] * (x.dim() - 1))

    def output(replicas: Replicas, edges: Tensor, nodes: Tensor) -> Tensor:
        # Edge masks change nothing where no layer can be masked; the features still do.
        with torch.no_grad(), session.model(replicas) as model:
            return model(
                edge_mask=mask[edges],
                x=None if factor is None or replicas.features is None else replicas.features * factor[nodes],
            )

    every_edge = torch.arange(len(together.edge), device=mask.device)
    every_node = torch.arange(len(together.node), device=mask.device)
    try:
        joint = output(together, every_edge, every_node)
    except (IndexError, InputError, RuntimeError, ValueError):
        return True  # such as a pooling of all graphs into one: if each fails alone too, that run says why
    for replica in (0, len(together) - 1):  # one copy of each instance, at either end
        alone = session.replicas(graphs, together.instance[replica : replica + 1])
        edges, nodes = every_edge[together.edge_owner == replica], every_node[together.node_owner == replica]
        if not bool(close(output(alone, edges, nodes), joint[replica : replica + 1]).all()):
            return True
    return False
