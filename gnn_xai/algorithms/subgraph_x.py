"""SubgraphX: the connected subgraph of highest Shapley value, by Monte Carlo tree search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnn_xai.algorithms._ablation import variant_scores
from gnn_xai.algorithms._subgraphs import Nodes, SubgraphsOf, bits, places
from gnn_xai.algorithms.base import algorithm, require_number, require_positive
from gnn_xai.core.engines.evaluate import Change, Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import InputError

TREES = 64
"""Searches that go on side by side; the leaves of all of them run together."""

KNOWN = 2**14
"""Scores of sets of nodes that a search remembers."""


@algorithm(
    "subgraph_x",
    "the connected subgraph of highest Shapley value, by tree search",
    signed=False,
    stochastic=True,
    edge_masks=False,
)
class SubgraphX:
    """The connected subgraph of at most `min_nodes` nodes that has the highest Shapley value (Yuan et al., ICML 2021).

    A tree search (their algorithm 1) starts from all nodes in play. A step takes one node out and keeps what is still
    connected with the roots of the instance, which never leave, or of a graph its largest component. A rollout descends by
    mean reward + `c_puct` · reward · √(visits of all) / (1 + own visits) to a subgraph of at most `min_nodes` nodes. The
    reward of a subgraph is its Shapley value among the nodes within `radius` hops of it (their equations 3 to 6), from
    `samples` random orders, the same ones for all subgraphs of an instance, the subgraph's place in them spread evenly.
    The best of all subgraphs that small which were scored is returned, as in the authors' code.

    Scores are 1 in the subgraph and 0 elsewhere; `extras["subgraph_score"]` `[B]` is its Shapley value. Every step takes
    2 · `samples` · `expand` passes at most; what a search has run before is not run again. Not for ranking nodes, as all in
    the subgraph are equal; not for computation graphs of many hundred nodes, which it has to shrink one node at a time.

    Attributes:
        rollouts: descents from the root of the tree.
        min_nodes: nodes of a subgraph at which a descent ends; the largest that is returned.
        c_puct: weight of exploration (their λ).
        expand: nodes tried at each step.
        high_to_low: try nodes of high degree first, and not those of low degree, which is the paper's better strategy.
        radius: hops around a subgraph from which nodes play (their L; the authors' code goes one hop less far).
        samples: orders drawn for each reward.
        fill: how nodes are absent: `zero` sets their features to 0, `split` takes the edges at them out.
        outside: nodes beyond `radius`: `absent` as in the paper, `present` as in the authors' code.
        objective: the scalar whose Shapley value is taken; the paper's is `prob`.
    """

    rollouts: int = 20
    min_nodes: int = 5
    c_puct: float = 10.0
    expand: int = 14
    high_to_low: bool = False
    radius: int = 4
    samples: int = 100
    fill: Literal["zero", "split"] = "zero"
    outside: Literal["absent", "present"] = "absent"
    objective: Objective = "prob"

    def __post_init__(self) -> None:
        require_positive(self, "rollouts", "min_nodes", "expand", "radius", "samples", integer=True)
        require_number(self, "c_puct")

    @property
    def removal(self) -> Removal:
        """How nodes are absent, in the words of the package."""
        return "structural" if self.fill == "split" else "message"

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        if self.fill == "zero" and session.problem.graphs.features is None:
            raise InputError(
                "expected data with node features x for SubgraphX(fill='zero'), got none; use fill='split', which takes "
                "edges out"
            )
        full = session.problem.score(prediction, target, self.objective)
        place = places(graphs)
        mask, best = full.new_zeros(len(graphs.node)), full.clone()
        waiting = iter(enumerate(full.tolist()))
        running: list[tuple[SubgraphsOf, Iterator[list[Nodes]]]] = []
        while True:
            for instance, score in itertools.islice(waiting, TREES - len(running)):
                graph = SubgraphsOf(self, session, graphs, place, instance, score)
                running.append((graph, self._search(graph)))
            if not running:
                return Scores(node=mask.unsqueeze(1), node_type="object", extras={"subgraph_score": best})
            asked = [(graph, search, next(search, None)) for graph, search in running]
            for graph, _, states in asked:
                if states is None:
                    mask[graph.node[list(bits(graph.best))]] = 1
                    best[graph.instance] = graph.value
                    session.advance(1 / len(graphs))
            running = [(graph, search) for graph, search, states in asked if states is not None]
            wanted = [(graph, states) for graph, _, states in asked if states is not None]
            if wanted:
                self._run(session, graphs, target, place, wanted)

    def _search(self, graph: SubgraphsOf) -> Iterator[list[Nodes]]:
        """Search one graph (Yuan et al., algorithm 1): yield the subgraphs whose rewards are wanted next."""
        rewards: dict[Nodes, float] = {}
        visits: dict[Nodes, int] = {}
        totals: dict[Nodes, float] = {}
        steps: dict[Nodes, list[Nodes]] = {}
        yield [graph.all]
        rewards[graph.all] = graph.reward(graph.all)
        for _ in range(self.rollouts):
            state, path = graph.all, []
            while state.bit_count() > self.min_nodes:
                if state not in steps:
                    steps[state] = graph.smaller(state, self.expand, self.high_to_low)
                    new = [smaller for smaller in steps[state] if smaller not in rewards]
                    if new:
                        yield new
                        rewards.update((smaller, graph.reward(smaller)) for smaller in new)
                if not steps[state]:
                    break
                explore = self.c_puct * math.sqrt(sum(visits.get(smaller, 0) for smaller in steps[state]))

                def promise(smaller: Nodes, explore: float = explore) -> float:
                    count = visits.get(smaller, 0)
                    return totals.get(smaller, 0.0) / max(count, 1) + explore * rewards[smaller] / (1 + count)

                state = max(steps[state], key=promise)
                path.append(state)
            for passed in path:
                visits[passed] = visits.get(passed, 0) + 1
                totals[passed] = totals.get(passed, 0.0) + rewards[state]
        most = max(self.min_nodes, min(state.bit_count() for state in rewards))
        graph.best = max((state for state in rewards if state.bit_count() <= most), key=lambda state: rewards[state])
        graph.value = rewards[graph.best]

    def _run(
        self,
        session: Session,
        graphs: ComputationGraphs,
        target: Tensor,
        place: Tensor,
        asked: list[tuple[SubgraphsOf, list[Nodes]]],
    ) -> None:
        """Score all sets of nodes that the rewards of some subgraphs need and that have no score yet, in one go."""
        new: list[tuple[SubgraphsOf, list[Nodes]]] = []
        for graph, states in asked:
            wanted = dict.fromkeys(nodes for state in states for nodes in graph.ask(state))
            if len(graph.known) > KNOWN:
                graph.known.clear()
            new.append((graph, [nodes for nodes in wanted if nodes not in graph.known]))
        width = max(len(graph.node) for graph, _ in new) // 8 + 1
        packed = b"".join(nodes.to_bytes(width, "little") for _, sets in new for nodes in sets)
        rows = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(-1, width), axis=1, bitorder="little")
        present = torch.from_numpy(rows).to(place.device).bool()
        instance = torch.tensor([graph.instance for graph, sets in new for _ in sets], device=place.device).long()

        def change(replicas: Replicas, select: Tensor) -> Change:
            at = place[replicas.node]
            absent = (at >= 0) & ~present[select[replicas.node_owner], at.clamp(min=0)]
            if self.fill == "split":
                return Change(edges=absent[replicas.edge_index].any(0))
            x = replicas.features
            assert x is not None
            return Change(x=x.masked_fill(absent.reshape(-1, *[1] * (x.dim() - 1)), 0))

        scores = variant_scores(session, graphs, target, instance, change, self.removal, self.objective, share=0.0)
        values = iter(scores.tolist())
        for graph, sets in new:
            graph.known.update(zip(sets, values, strict=False))
