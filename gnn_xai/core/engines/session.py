"""What an algorithm receives beside computation graphs: the problem, and how to run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.batches import Budget
from gnn_xai.core.arrays.segments import as_rows
from gnn_xai.core.engines.events import Observer
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH, ComputationGraphs, Replicas
from gnn_xai.core.inputs.features import Features
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.fused import Propagation
from gnn_xai.core.propagation.plan import Plan

SMALL = 20_000
"""Nodes and edges up to which an instance runs in all ways in one batch, and beyond which in one way after the other."""


def _nothing(share: float) -> None:
    """The progress of a run that nobody watches."""


@dataclass(frozen=True, eq=False)
class Session:
    """One run of an algorithm on a prepared problem.

    Attributes:
        problem: model, data, task.
        seed: the same seed gives the same result.
        undirected: tie the two directions of undirected edges.
        budget: memory.
        plan: which calls of `propagate` are fused; `None` where the model runs in PyG's own way throughout.
        features: the data's node features, where a plan is followed and masks can multiply them.
        alone: the model mixes the instances of a batch, so each runs by itself.
        maskable: edge masks reach all messages of the model.
        structural: edges or nodes are taken out of the graph.
        advance: called with the share of the work on the computation graphs at hand that a step has finished.
        observer: called while masks are learned.
        columns: attributes that are scored beside `x`. Then there is no plan, which would take them for fixed.
    """

    problem: Problem
    seed: int
    undirected: bool
    budget: Budget
    plan: Plan | None = None
    features: Features | None = None
    alone: bool = False
    maskable: bool = True
    structural: bool = False
    advance: Callable[[float], None] = _nothing
    observer: Observer | None = None
    columns: tuple[Scored, ...] = ()

    def replicas(self, graphs: ComputationGraphs, select: Int[Tensor, " replicas"]) -> Replicas:
        """Copies of the selected instances side by side, in the order of nodes that the plan wants."""
        return graphs.replicas(select, by_depth=self.plan is not None and self.plan.trim)

    def model(self, replicas: Replicas, propagation: Propagation | None = None) -> MaskedModel:
        """The model on replicas that `replicas` made, or with a propagation of one's own on what that runs on."""
        return MaskedModel(self.problem, replicas, self.plan, self.features, propagation, record=False)

    def outputs(
        self,
        graphs: ComputationGraphs,
        call: Callable[[MaskedModel, Int[Tensor, " replicas"]], Float[Tensor, "replicas columns"]] = lambda model, _: (
            model()
        ),
        ways: int = 1,
    ) -> Float[Tensor, "instances {ways} columns"]:
        """The model's output on every computation graph, plain or in several ways.

        Args:
            graphs: computation graphs.
            call: runs the model on replicas, `(model, way of each replica) -> outputs`.
            ways: how many replicas each instance gets.
        """
        parts: list[tuple[Tensor, Tensor]] = []
        size = len(graphs)
        together = ways if len(graphs.node) + len(graphs.edge) <= SMALL else 1

        def work(select: Int[Tensor, " replicas"]) -> None:
            with torch.no_grad(), self.model(self.replicas(graphs, select % size)) as model:
                # Appended at once: a batch that runs out of memory is tried again.
                parts.extend(
                    [(select + first * size, call(model, select // size + first)) for first in range(0, ways, together)]
                )

        instance = torch.arange(size * together, device=graphs.edge.device) % size
        batches.for_each_batch(work, self.cost(graphs, instance), self.limit)
        order = torch.argsort(torch.cat([select for select, _ in parts]))
        return torch.cat([out for _, out in parts])[order].unflatten(0, (ways, size)).transpose(0, 1)

    @property
    def limit(self) -> float:
        """Cost that a batch may hold."""
        return 0.0 if self.alone else self.budget.limit

    def cost(
        self, graphs: ComputationGraphs, instance: Int[Tensor, " replicas"] | None = None
    ) -> Float[Tensor, " costs"]:
        """Cost of each instance, or of each listed replica of one."""
        cost = self.budget.cost(graphs.num_nodes, graphs.num_edges)
        # A model that needs the whole graph may mix the graphs of a batch: nothing shares a batch with such an instance.
        cost = torch.where(graphs.hops == WHOLE_GRAPH, max(self.limit, 1.0), cost)
        return cost if instance is None else cost[instance]

    def tied(self, graphs: ComputationGraphs) -> Int[Tensor, " edges"]:
        """The edge, as a flat position, whose score each edge shares: the first of the two directions of an
        undirected edge where both are in play, its own elsewhere.
        """
        own = torch.arange(len(graphs.edge), device=graphs.edge.device)
        if not self.undirected:
            return own
        partner = graphs.partner
        both = (partner >= 0) & graphs.edge_in_play & graphs.edge_in_play[partner]
        return torch.where(both, torch.minimum(own, partner), own)

    def rows_tied(self, graphs: ComputationGraphs, column: Scored) -> Int[Tensor, " rows"]:
        """The row of an attribute, as a flat position, whose scores each row shares: for the two directions of an undirected
        edge as in `tied`, where both have the same values; its own elsewhere.
        """
        rows = graphs.rows(column.name).id
        own = torch.arange(len(rows), device=rows.device)
        if column.level != "edge":
            return own
        tied, values = self.tied(graphs), graphs.graphs.values(column.name)[rows]
        return torch.where(as_rows(values == values[tied]).all(1), tied, own)

    def row_key(self, graphs: ComputationGraphs, column: Scored) -> Int[Tensor, " rows"]:
        """The key of a row's random numbers."""
        if column.level == "edge":
            return self.edge_key(graphs)
        rows = graphs.rows(column.name).id
        return graphs.graphs.node_key[rows] if column.level == "node" else torch.zeros_like(rows)

    def removable(self, graphs: ComputationGraphs) -> tuple[Int[Tensor, " units"], Int[Tensor, " edges"]]:
        """The edges in play as units that are removed whole: `(first edge of each unit, unit of each edge)`.

        A unit is an undirected edge where directions are tied, with its other direction even where that is context (the
        degree it adds goes too); else a directed edge. Edges of no unit have -1.
        """
        tied = self.tied(graphs)
        own = torch.arange(len(tied), device=tied.device)
        first = ((tied == own) & graphs.edge_in_play).nonzero().flatten()
        unit = torch.full_like(tied, -1)
        unit[first] = torch.arange(len(first), device=tied.device)
        unit = unit[tied]
        if self.undirected:
            unit = torch.where((unit < 0) & (graphs.partner >= 0), unit[graphs.partner], unit)
        return first, unit

    def edge_key(self, graphs: ComputationGraphs) -> Int[Tensor, " edges"]:
        """The key of an edge's random numbers: its id, the smaller one of two tied directions."""
        key = graphs.graphs.edge_key[graphs.edge]
        if not self.undirected:
            return key
        tied = self.tied(graphs)
        largest = torch.full_like(key, torch.iinfo(torch.int64).max)
        return largest.scatter_reduce(0, tied, key, "amin")[tied]
