"""What a model gives on all graphs that are explained, beyond a sample."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.engines.mixing import same_apart
from gnn_xai.core.graphs import expansion
from gnn_xai.core.model.interventions import trace
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.core.propagation.routing import survey
from gnn_xai.errors import InputError


@dataclass(frozen=True, eq=False)
class Rest:
    """Runs of a model on all graphs that are explained, for what it gives on each.

    Attributes:
        problem: model, data, task.
        distinct: `[D]` the graphs.
        expected: `[G, 1, C]`, which is filled.
        plan: which calls could be fused, which learns what they multiply messages by.
        forms: look at the form of messages.
    """

    problem: Problem
    distinct: Tensor
    expected: Tensor
    plan: Plan | None
    forms: bool

    def through(self, budget: batches.Budget, alone: bool) -> bool:
        """Run on all graphs, in batches or each alone; whether a few of every batch give the same without the others."""
        graphs, apart = expansion.of_graphs(self.problem.graphs, self.distinct, 0), []

        def work(select: Tensor) -> None:
            replicas = graphs.replicas(select)
            more, out = trace(self.problem, replicas, forms=self.forms)
            if out.size(1) != self.expected.size(2):
                raise InputError(
                    "expected as many output columns for one graph as for another, got "
                    f"{self.expected.size(2)} and {out.size(1)}; is this a graph-level model? Say task= or pass forward="
                )
            if self.plan is not None:
                survey(self.plan, more, replicas)
            self.expected[self.distinct[select], 0] = out
            apart.append(alone or same_apart(self.problem, graphs, select, out))

        costs = budget.cost(graphs.num_nodes, graphs.num_edges)
        batches.for_each_batch(work, costs, 0.0 if alone else budget.limit)
        return all(apart)
