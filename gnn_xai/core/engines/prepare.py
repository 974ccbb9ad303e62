"""One look at a model and its data, shared by every call that follows: how far it sees, how it runs, what a batch holds."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.engines import choice, first_look, removals
from gnn_xai.core.engines.choice import Way
from gnn_xai.core.engines.look import Look
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.session import Session
from gnn_xai.core.engines.snapshot import Snapshot
from gnn_xai.core.engines.verification import Neighborhoods
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH, ComputationGraphs
from gnn_xai.core.graphs.expansion import SCOPES, Cap
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.arguments import Bound
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.errors import InputError, warn

CHUNK = 4_000_000
"""Nodes and edges of computation graphs that are held at once; their tensors take about 60 bytes each."""

KEPT = 1_000_000
"""Nodes and edges of computation graphs that are kept for the next call on the same instances."""


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


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model and its data, looked at once; what `gnn_xai.prepare` returns.

    It takes the place of the model and its data in `gnn_xai.explain`, `gnn_xai.compare` and every metric. It can be
    pickled. A model or data that changed since is noticed, and refused.

    Attributes:
        problem: model, data, task.
        undirected: the two directions of undirected edges share a score.
        look: what a forward pass does.
        batch_budget: as in `gnn_xai.explain`.
        columns: attributes that are scored beside `x`, see `scoring`.
    """

    problem: Problem
    undirected: bool
    look: Look
    batch_budget: Any = "auto"
    snapshot: Snapshot | None = None
    _chosen: Way | None = None
    _kept: dict[Any, list[Chunk]] = field(default_factory=dict, repr=False)
    columns: tuple[Scored, ...] = ()
    _scoring: dict[Any, Prepared] = field(default_factory=dict, repr=False)

    @property
    def graphs(self) -> Graphs:
        """The data."""
        return self.problem.graphs

    @property
    def forward(self) -> Forward | None:
        """The user's callable; `None` where the model's arguments are bound by name."""
        return None if isinstance(self.problem.forward, Bound) else self.problem.forward

    def __repr__(self) -> str:
        graphs, level = self.graphs, self.problem.task.task_level.value
        several = f"{graphs.num_graphs} graphs, " if graphs.many else ""
        return (
            f"Prepared({type(self.problem.model).__name__}, {level} level, {several}{graphs.num_nodes} nodes, "
            f"{graphs.num_edges} edges, {self.look.steps} hops)"
        )

    def __getstate__(self) -> dict[str, Any]:
        self.check_unchanged()  # what is unpickled takes the state that it comes with for the one that was prepared
        kept = {"problem", "undirected", "look", "batch_budget", "snapshot"}
        return {**{name: value for name, value in vars(self).items() if name in kept}, "_kept": {}, "_scoring": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.snapshot is not None:
            vars(self)["snapshot"] = self.snapshot.renewed(self.problem)

    def __len__(self) -> int:
        """How many outputs can be explained."""
        return self.problem.num_outputs

    def parts(self, n: int, index: Any = None) -> list[Tensor]:
        """Split an index into at most `n` parts of about one size; what they give, joined, is what the whole gives.

        Args:
            n: how many.
            index: as in `gnn_xai.explain`.

        Raises:
            InputError: if `n` is no positive integer, or the index is not as described.

        >>> import gnn_xai as gx
        >>> karate = gx.datasets.load("karate")
        >>> [len(part) for part in gx.prepare(karate.model, karate.data).parts(3)]
        [12, 11, 11]
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"expected a positive number of parts, got {n!r}")
        index = self.problem.readout.index(index, self.graphs)
        return list(index.tensor_split(min(n, len(index))))

    def check_unchanged(self) -> None:
        """Compare model and data with what they were.

        Raises:
            InputError: if parameters, buffers or the data changed since.
        """
        if self.snapshot is not None:
            self.snapshot.check(self.problem)

    # How to run ######################################################################################################

    def way(self, structural: bool) -> Way:
        """The fastest way to run the model that gives what the plain way gives.

        Args:
            structural: edges or nodes are taken out of the graph, so coefficients must be known afterwards.
        """
        return self._structural_way if structural else self._way

    @cached_property
    def _way(self) -> Way:
        return self._chosen or choice.choose(self.problem, self.look, self.batch_budget)

    @cached_property
    def _structural_way(self) -> Way:
        return removals.structural_way(self.problem, self.look, self._way, self.batch_budget)

    def session(
        self, seed: int = 0, *, structural: bool = False, edge_masks: bool = False, batch_budget: Any = None
    ) -> Session:
        """How an algorithm runs the model.

        Args:
            seed: the same seed gives the same result.
            structural: edges or nodes are taken out of the graph.
            edge_masks: edge masks must reach the model's layers.
            batch_budget: in place of the one that was prepared with.

        Raises:
            MaskingError: if edge masks cannot reach the model's layers.
        """
        self.look.warn_of_masks(edge_masks)
        way = self.way(structural)
        asked = self.batch_budget if batch_budget is None or batches.is_auto(batch_budget) else batch_budget
        budget = batches.as_budget(asked, way.bytes_each, self.graphs.device)
        return Session(
            self.problem,
            seed,
            self.undirected,
            budget,
            way.plan,
            way.features,
            self.look.mixes or self.problem.readout.alone or way.alone,
            self.look.maskable,
            structural,
            columns=self.columns,
        )

    def layers(self, structural: bool = False) -> list[dict[str, Any]]:
        """Every call of `propagate`: its layer, whether masks reach it, which path it takes, and why no faster one."""
        return self.way(structural).describe(self.look)

    @property
    def maskable_features(self) -> str | None:
        """What node masks multiply; `None` where there is nothing that they could."""
        problem = self.problem
        if "x" in problem.graphs.factors:
            return f"embedded columns of x (modules {', '.join(problem.embeddings['x'].names)})"
        return "x" if problem.graphs.x is not None and problem.graphs.x.is_floating_point() else None

    # Computation graphs ##############################################################################################

    def chunks(
        self,
        session: Session,
        index: Tensor,
        *,
        cap: Cap | None = None,
        limit: int = CHUNK,
        done: Container[range] = (),
        whole: Tensor | None = None,
    ) -> Iterator[Chunk]:
        """The instances in order, in chunks whose computation graphs fit into memory together.

        Args:
            session: how to run the model.
            index: `[B]` nodes or graphs, or `[B, 2]` pairs of nodes.
            cap: on the edges that are followed into a node.
            limit: nodes and edges of a chunk; a single instance may have more.
            done: chunks to leave out, as ranges of positions. The others are cut, and computed, as they would be without.
            whole: `[B]` bool, nodes or pairs that get the whole graph, whatever is enough for them.
        """
        other = session.structural and self._structural_way is not self._way
        key = _key(index, cap, limit, other) if not done and whole is None and len(index) <= KEPT else None
        if key in self._kept:
            yield from self._kept[key]
            return
        cut, size = [], 0
        expected = first_look.with_outputs(self.problem, self.look, index).outputs_of(index)
        for positions, graphs in self._cut(session, index, expected, cap, limit, done, whole):
            yield (chunk := Chunk(positions, graphs, expected[positions, 0]))
            size += len(graphs.node) + len(graphs.edge)
            if key is not None and size <= KEPT:
                cut.append(chunk)
        if cut and key is not None and size <= KEPT:
            self._kept.clear()
            self._kept[key] = cut

    def _cut(
        self,
        session: Session,
        index: Tensor,
        expected: Tensor,
        cap: Cap | None,
        limit: int,
        done: Container[range],
        whole: Tensor | None,
    ) -> Iterator[tuple[Tensor, ComputationGraphs]]:
        graphs = self.graphs
        around = self.way(session.structural).neighborhoods(self.look)  # with the rounding that this way allows
        if around is not None:

            def extract(positions: Tensor, limit: int | None) -> ComputationGraphs:
                some = None if whole is None else whole[positions]
                return self._verified(around, session, index[positions], expected[positions], limit, cap, some)

            yield from expansion.in_chunks(len(index), index.device, extract, limit, done)
            return
        sizes = (graphs.node_ptr.diff() + graphs.edge_ptr.diff())[index]
        for positions in batches.batches(sizes, limit):
            if range(int(positions[0]), int(positions[-1]) + 1) not in done:
                yield positions, expansion.of_graphs(graphs, index[positions], self.look.steps)

    def _verified(
        self,
        around: Neighborhoods,
        session: Session,
        index: Tensor,
        expected: Tensor,
        limit: int | None,
        cap: Cap | None,
        known: Tensor | None,
    ) -> ComputationGraphs:
        """Computation graphs that give the predictions of the full graph, each by the smallest scope that does."""
        way = self.way(session.structural)
        scopes = range(len(SCOPES) - 1 if self.look.mixes else way.first_scope, len(SCOPES))
        graphs, _ = around.verified(
            session, index, expected, scopes, limit=limit, cap=cap, local=way.local, whole=known
        )
        unexpected = graphs.hops == WHOLE_GRAPH if known is None else (graphs.hops == WHOLE_GRAPH) & ~known
        whole = int(unexpected.sum())
        if around.whole:
            warn(f"{around.whole}, so the computation graph of every instance is the whole graph, which is slow")
        elif whole:
            warn(
                f"the model is not local: no neighbourhood of {around.steps} or {around.steps + 1} hops gives the "
                f"prediction of {whole} of {len(index)} {self.problem.readout.what}s (a normalisation over all nodes, a "
                "layer without propagate, or noise?), so their computation graph is the whole graph"
            )
        if not self.look.complete:  # what looks like context may carry messages of a layer that was not traced
            graphs = replace(graphs, all_in_play=True, edge_in_play=torch.ones_like(graphs.edge_in_play))
        return _without_pairs(self.problem, graphs)


def _without_pairs(problem: Problem, graphs: ComputationGraphs) -> ComputationGraphs:
    """Computation graphs where edges between the roots of an instance are context, if that was asked for."""
    if not problem.exclude_pair:
        return graphs
    return replace(graphs, edge_in_play=graphs.edge_in_play & ~_between_roots(problem, graphs))


def _between_roots(problem: Problem, graphs: ComputationGraphs) -> Bool[Tensor, " edges"]:
    """Whether an edge runs from the first root of its instance to the last or, in undirected graphs, back."""
    assert graphs.roots is not None
    first, last = graphs.roots[graphs.edge_owner, 0], graphs.roots[graphs.edge_owner, -1]
    sender, receiver = graphs.edge_index
    there, back = (sender == first) & (receiver == last), (sender == last) & (receiver == first)
    relations, types = problem.readout.own_relations(problem.graphs), problem.graphs.types
    if relations is None or types is None:
        return there | back & (problem.graphs.reverse[graphs.edge] >= 0)
    kind = types.edge_type[graphs.edge]
    inside = [torch.isin(kind, torch.tensor(some, dtype=kind.dtype, device=kind.device)) for some in relations]
    return there & inside[0] | back & inside[1]


def _key(index: Tensor, cap: Cap | None, limit: int, apart: bool) -> tuple[Any, ...]:
    """What computation graphs are kept by; `apart` for a way that removals alone take."""
    return index.cpu().numpy().tobytes(), cap, limit, apart


def prepare(
    problem: Problem,
    *,
    undirected: bool,
    batch_budget: Any = "auto",
    index: Tensor | None = None,
    watch: bool = False,
    brief: bool = False,
) -> Prepared:
    """Look at a model and its data.

    Args:
        problem: model, data, task.
        undirected, batch_budget: as in `gnn_xai.explain`.
        index: `[B]` the outputs that will be explained; `None` for all.
        watch: notice when model or data change.
        brief: the model will run on each of the outputs once, so where that is little work, no fast way is chosen.

    Raises:
        InputError, MaskingError: as in `gnn_xai.explain`.
    """
    brief = brief and index is not None and choice.is_little(problem, index)
    problem, look = first_look.look(problem, index, batch_budget, forms=not brief)
    if brief and index is not None:
        chosen = choice.in_brief(problem, look, index, batch_budget)
        if chosen is not None:
            way, graphs = chosen
            kept = {}
            if graphs is not None:
                positions, graphs = torch.arange(len(index), device=index.device), _without_pairs(problem, graphs)
                kept[_key(index, None, CHUNK, False)] = [Chunk(positions, graphs, look.predictions(index))]
            return Prepared(problem, undirected, look, batch_budget, None, way, kept)
        look = first_look.with_plan(problem, look)
    return Prepared(problem, undirected, look, batch_budget, Snapshot.of(problem) if watch else None)


def refuse_what_was_prepared(**options: Any) -> None:
    """Raise an `InputError` for an option that a prepared problem has settled already."""
    for name, value in options.items():
        if value is not None and not batches.is_auto(value):
            raise InputError(
                f"expected {name}= where the problem is prepared, got {value!r} together with a prepared one; pass it to "
                "gnn_xai.prepare"
            )


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
    if not problem.readout.rooted:
        raise InputError(
            f"expected max_neighbors for a node-level task alone, got {max_neighbors} for a graph-level one, whose graphs "
            "are explained whole; leave it out"
        )
    return Cap(min(max_neighbors, problem.graphs.num_edges + 1), seed)  # no node has more
