"""From a problem to verified computation graphs with predictions, piece by piece; shared by `explain` and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnn_xai.core import masks as masking_of
from gnn_xai.core import neighborhoods, packing
from gnn_xai.core.masking import MaskedModel, Trace, trace
from gnn_xai.core.masks import Masks
from gnn_xai.core.neighborhoods import SCOPES, WHOLE_GRAPH, ComputationGraphs, Union
from gnn_xai.core.problem import Problem
from gnn_xai.core.question import Question
from gnn_xai.core.rng import keyed_uniform
from gnn_xai.errors import GnnXaiError, InputError, warn

PIECE = 4_000_000
"""Nodes and edges of computation graphs that are held at once; their tensors take about 60 bytes each."""

SAMPLE = 16
"""Nodes, spread over the graph, that tell how much around a target the model needs."""


class Piece(NamedTuple):
    """Some of the instances, ready to work on.

    Attributes:
        positions: `[P]` positions within the index.
        graphs: their verified computation graphs.
        prediction: `[P, C]` the model's output on the full graph.
    """

    positions: Tensor
    graphs: ComputationGraphs
    prediction: Tensor


@dataclass(frozen=True, eq=False)
class Probe:
    """Node features on which computation graphs are verified beside the user's own: rows of x dealt out anew and, unless
    they are codes, scaled down at random, so that they stay within what the model expects.

    Attributes:
        x: `[N, ...]` the user's features.
        source: `[N]` the node that each node takes its row from.
        by_node, by_feature: `[N]`, `[F]` factors in (0, 1).
    """

    x: Tensor
    source: Tensor
    by_node: Tensor
    by_feature: Tensor

    def run(self, model: MaskedModel) -> Tensor:
        """The model's output `[R, C]` on the probe's features."""
        union = model.union
        node = union.source.node[union.node]
        x = self.x[self.source[node]]
        if x.is_floating_point():
            factor = self.by_node[node].unsqueeze(1) * self.by_feature
            x = (x.reshape(len(x), -1) * factor.to(x.dtype)).reshape(x.shape)
        return model(x=x)


@dataclass(eq=False)
class Pipeline:
    """Everything that happens before an algorithm: one look at the model, then pieces.

    Attributes:
        question: the problem and how to run it.
        index: `[B]` the instances.
        traced: what a forward pass does.
        probes: other inputs on which computation graphs are verified; for node-level tasks.
        expected: `[B, 1 + probes, C]` the output on the full graph, for the user's features and for each probe; for
            node-level tasks, where one pass over the data gives them all.
        first_scope: which of `SCOPES` the verification starts with.
    """

    question: Question
    index: Tensor
    traced: Trace
    probes: list[Probe] = field(default_factory=list)
    expected: Tensor | None = None
    first_scope: int = 0

    @classmethod
    def start(
        cls, problem: Problem, index: Tensor, seed: int, undirected: bool, batch_budget: Any, edge_masks: bool
    ) -> Pipeline:
        """Trace the model, compare its output with the task, and measure what a batch may hold.

        Args:
            problem: model, data, task.
            index: `[B]` the instances.
            seed, undirected, batch_budget: as in `gnn_xai.explain`.
            edge_masks: edge masks must reach the model's layers.

        Raises:
            InputError, MaskingError: as in `gnn_xai.explain`.
        """
        graphs = problem.graphs
        some = torch.arange(graphs.num_graphs, device=graphs.device) if problem.node_level else index[:16]
        union = neighborhoods.of_graphs(graphs, some, 0).union(torch.arange(len(some), device=graphs.device))
        sample = torch.linspace(0, graphs.num_nodes - 1, SAMPLE, device=graphs.device).long().unique()
        if problem.node_level:
            union = replace(union, rows=torch.cat([index, sample]))
        traced, out = problem.first_run(lambda: trace(problem, union))
        with torch.no_grad():
            again = problem.run(union.data, union.rows)
        problem.check(out[: len(index)])
        if not bool(close(again, out).all()):
            warn(
                "two forward passes of the model in evaluation mode differ (F.dropout without training=self.training, or "
                "another source of noise?), so its explanations hold that noise"
            )
        if edge_masks:
            for sentence in traced.check():
                warn(f"not masked: {sentence}")
        elif traced.silent and len(union.edge):
            warn("the model sends no messages over edge_index (it never calls propagate), so no edge gets a score")
        node_bytes = 0 if graphs.x is None else graphs.x[:1].numel() * graphs.x.element_size()
        budget = packing.as_budget(batch_budget, traced, len(union.edge), node_bytes)
        question = Question(problem, seed, undirected, budget)
        if not problem.node_level:
            return cls(question, index, traced)
        probes = _probes(problem)
        expected = torch.stack([out, *(_under(problem, union, probe) for probe in probes)], dim=1)
        pipeline = cls(question, index, traced, probes, expected[: len(index)])
        pipeline.first_scope = pipeline._scope_of_most(sample, expected[len(index) :])
        return pipeline

    def pieces(self) -> Iterator[Piece]:
        """The instances in order, in pieces whose computation graphs fit into memory together."""
        for number, (positions, graphs) in enumerate(self._cut()):
            if number == 0 and _mixes(self.question, graphs):
                self.question.alone = True
                warn(
                    "the model mixes the graphs of a batch (a normalisation or pooling without batch?), so instances are "
                    "explained one at a time, which is slow"
                )
            if self.expected is not None:
                yield Piece(positions, graphs, self.expected[positions, 0])
            else:
                prediction = outputs(self.question, graphs)
                self.question.problem.check(prediction)
                yield Piece(positions, graphs, prediction)

    def _cut(self) -> Iterator[tuple[Tensor, ComputationGraphs]]:
        graphs, index = self.question.problem.graphs, self.index
        if self.expected is not None:
            yield from neighborhoods.in_pieces(len(index), index.device, self._verified, PIECE)
            return
        sizes = (graphs.node_ptr.diff() + graphs.edge_ptr.diff())[index]
        for positions in packing.batches(sizes, PIECE):
            yield positions, neighborhoods.of_graphs(graphs, index[positions], self.traced.steps)

    def _scope_of_most(self, sample: Tensor, expected: Tensor) -> int:
        """The largest local scope that any node of a sample of the whole graph needs.

        Whether the border needs its degrees is a property of the model, which a single node may hide (dead ReLUs) and a
        sample hides hardly ever. The sample depends on the graph alone, so no instance depends on its companions.
        """
        needed = [0]

        def extract(positions: Tensor, limit: int) -> ComputationGraphs:
            found, scope = self._grown(sample[positions], expected[positions], limit, range(len(SCOPES) - 1))
            needed.append(int(torch.where(found.exact, scope, 0).max()))
            return found

        for _ in neighborhoods.in_pieces(len(sample), sample.device, extract, PIECE):
            pass
        return max(needed)

    def _grown(self, index: Tensor, expected: Tensor, limit: int, scopes: range) -> tuple[ComputationGraphs, Tensor]:
        """Computation graphs by the first of `scopes` that gives what is `expected` `[B, 1 + probes, C]`, else the last.

        Returns them, with `exact` set, and the scope of each, `[B]`.
        """
        graphs, steps, flow = self.question.problem.graphs, self.traced.steps, self.traced.flow
        scope = torch.zeros_like(index)
        exact = torch.zeros_like(index, dtype=torch.bool)
        pending = torch.arange(len(index), device=index.device)
        found = None
        for step in scopes:
            scope[pending] = step
            found = neighborhoods.around_nodes(graphs, index[pending], steps, scope[pending], flow, limit)
            # A dead ReLU hides what the border contributes until a mask brings it to life: one input is not enough.
            there = self._on_part(found).unflatten(1, expected.shape[1:])
            same = close(there.flatten(0, 1), expected[pending].flatten(0, 1)).reshape(len(pending), -1).all(1)
            exact[pending] = same
            if bool(same.all()):
                break
            pending = pending[~same]
        if found is None or len(found) < len(index):
            found = neighborhoods.around_nodes(graphs, index, steps, scope, flow, limit)
        return replace(found, exact=exact), scope

    def _verified(self, positions: Tensor, limit: int) -> ComputationGraphs:
        """Computation graphs that give the predictions of the full graph, each by the smallest scope that does."""
        assert self.expected is not None
        index, steps = self.index[positions], self.traced.steps
        scopes = range(self.first_scope, len(SCOPES))
        found, _ = self._grown(index, self.expected[positions], limit, scopes)
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

    def _on_part(self, graphs: ComputationGraphs) -> Tensor:
        """`_probed` on computation graphs, for a model that may never have run on less than the whole graph.

        Raises:
            InputError: if it cannot.
        """
        try:
            return outputs(self.question, graphs, self._probed)
        except (IndexError, RuntimeError, ValueError) as error:
            if isinstance(error, GnnXaiError):
                raise
            raise InputError(
                f"the model runs on the whole graph but not on computation graphs cut out of it ({error}); if it holds "
                "something for every node, such as an embedding, look it up by ids that the data carries as data.n_id"
            ) from error

    def _probed(self, model: MaskedModel) -> Tensor:
        """The output on the user's features and on every probe, side by side, `[R, (1 + probes) · C]`."""
        return torch.cat([model(), *(probe.run(model) for probe in self.probes)], dim=1)

    def faithful(self, graphs: ComputationGraphs, masks: Masks) -> tuple[Tensor, Tensor]:
        """The model's output under soft masks and under their complement, each `[B, C]`.

        NaN where a mask cannot be applied: on integer features, or in a model whose layers an edge mask cannot reach.
        """
        features = self.question.problem.graphs.x
        maskable = masks.node is None or (features is not None and features.is_floating_point())
        if masks.edge is not None:
            maskable = maskable and self.traced.maskable
        if not maskable:
            nothing = outputs(self.question, graphs) * torch.nan
            return nothing, nothing

        def both(model: MaskedModel) -> Tensor:
            return torch.cat([masking_of.apply(model, masks), masking_of.apply(model, masks, complement=True)], dim=1)

        kept, dropped = outputs(self.question, graphs, both).chunk(2, dim=1)
        return kept, dropped


def close(one: Tensor, other: Tensor) -> Tensor:
    """Rows `[R]` of two outputs `[R, C]` that agree to 1e-5 of the larger of 1 and the row's largest value."""
    scale = other.abs().amax(1).clamp(min=1.0)
    tolerance = max(1e-5, 100 * torch.finfo(other.dtype).eps)
    return (one - other).abs().amax(1) <= tolerance * scale


def outputs(
    question: Question, graphs: ComputationGraphs, call: Callable[[MaskedModel], Tensor] | None = None
) -> Tensor:
    """The model's output on every computation graph, `[B, C]`, plain or as `call` makes it."""
    parts: list[Tensor] = []
    order: list[Tensor] = []

    def work(select: Tensor) -> None:
        union: Union = graphs.union(select)
        with torch.no_grad():
            if call is None:
                out = question.problem.run(union.data, union.rows)
            else:
                with MaskedModel(question.problem, union) as model:
                    out = call(model)
        parts.append(out)
        order.append(select)

    packing.run(work, question.cost(graphs), question.limit)
    return torch.cat(parts)[torch.argsort(torch.cat(order))]


def _probes(problem: Problem, count: int = 2) -> list[Probe]:
    """Probes that are the same in any order of the nodes; none without features."""
    x, key = problem.graphs.x, problem.graphs.node_key
    if x is None or len(x) == 0:
        return []
    feature = torch.arange(x[0].numel(), device=x.device)
    found = []
    for number in range(count):
        order = torch.argsort(keyed_uniform(number, key))
        source = torch.empty_like(order)
        source[order] = order.roll(1)
        by_node, by_feature = keyed_uniform(count + number, key), keyed_uniform(2 * count + number, feature)
        found.append(Probe(x, source, by_node, by_feature))
    return found


def _under(problem: Problem, union: Union, probe: Probe) -> Tensor:
    """The model's output `[R, C]` on a probe."""
    with torch.no_grad(), MaskedModel(problem, union) as model:
        return probe.run(model)


def _mixes(question: Question, graphs: ComputationGraphs) -> bool:
    """Whether instances of a batch see one another, or cannot be batched at all: two of them, twice, under random masks,
    together and alone.
    """
    local = (graphs.hops != WHOLE_GRAPH).nonzero().flatten()
    if len(local) == 0:
        return False
    ends = local[[0, -1]] if len(local) > 1 else local
    together = graphs.union(ends.repeat(2))
    mask = keyed_uniform(0, torch.arange(len(together.edge), device=together.edge.device)).to(question.problem.dtype)
    x = together.x
    factor = None
    if x is not None and x.is_floating_point():
        factor = keyed_uniform(1, torch.arange(len(x), device=x.device)).to(x.dtype)
        factor = factor.reshape(-1, *[1] * (x.dim() - 1))

    def output(union: Union, edges: Tensor, nodes: Tensor) -> Tensor:
        # Edge masks change nothing where no layer can be masked; the features still do.
        with torch.no_grad(), MaskedModel(question.problem, union) as model:
            return model(
                edge_mask=mask[edges], x=None if factor is None or union.x is None else union.x * factor[nodes]
            )

    every_edge = torch.arange(len(together.edge), device=mask.device)
    every_node = torch.arange(len(together.node), device=mask.device)
    try:
        joint = output(together, every_edge, every_node)
    except (IndexError, InputError, RuntimeError, ValueError):
        return True  # such as a pooling of all graphs into one: if each fails alone too, that run says why
    for replica, instance in enumerate(together.instance):
        alone = graphs.union(instance.unsqueeze(0))
        edges, nodes = every_edge[together.edge_owner == replica], every_node[together.node_owner == replica]
        if not bool(close(output(alone, edges, nodes), joint[replica : replica + 1]).all()):
            return True
    return False
