"""Cooperative games on graphs: players that are present or absent, and the score of what is left with some of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnn_xai.algorithms._ablation import Fragments, node_fragments, single_edges, variant_scores
from gnn_xai.algorithms._fragments import fragments_of
from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.engines.evaluate import Change
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.engines.units import Units
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import require_float_features

WORD = 62
"""Players of a coalition that are packed into one integer."""


class FeatureColumns:
    """Columns of `x` as players, where they hold something other than 0; an absent one is 0 on all nodes in play.

    Attributes:
        owner: `[K]` the instance of each; sorted.
        ptr: `[B + 1]` where those of each instance start.
        key: `[K]` what random numbers of a player are keyed by.
    """

    def __init__(self, session: Session, graphs: ComputationGraphs) -> None:
        require_float_features(session.problem, "players='features'")
        self.units = Units.among(session, graphs, Scored.features("common_attributes"), zeros=False)
        self.owner, self.key = self.units.owner, self.units.feature
        self.ptr = pointers(torch.bincount(self.owner, minlength=len(graphs)))

    def only(self, replicas: Replicas, present: Tensor) -> Change:
        """The change that leaves the columns that are present, `[R, n]` bool by place within their instance."""
        unit, x = self.units.of[replicas.node], replicas.features
        assert x is not None
        place = (unit - self.ptr[replicas.instance[replicas.node_owner]].unsqueeze(1)).clamp(min=0)
        absent = (unit >= 0) & ~present[replicas.node_owner].gather(1, place)
        return Change(x=x.masked_fill(absent.reshape(x.shape), 0))

    def scores(self, values: Tensor, **more: Tensor) -> Scores:
        """The values of columns `[K]` as scores; more such values as extras."""
        extras = {f"node_{name}": self.units.scores(extra) for name, extra in more.items()}
        return Scores(node=self.units.scores(values), node_type="common_attributes", extras=extras)


Players = Fragments | FeatureColumns


def players_of(method: Any, session: Session, graphs: ComputationGraphs) -> Players:
    """The players that a method's `players` names, with its `kind` and `replacement` of fragments."""
    if method.players == "edges":
        return single_edges(session, graphs)
    if method.players == "nodes":
        return node_fragments(graphs)
    if method.players == "features":
        return FeatureColumns(session, graphs)
    return fragments_of(session, graphs, method.kind, method.replacement)


class Game:
    """The worth of coalitions of players: the score of a graph of which only they are left.

    With `connected`, cooperation needs a connection (Myerson 1977): a coalition is worth what nothing is worth plus what
    each of its connected components adds to that, alone. Edges are connected by a common node, nodes and fragments by an
    edge.

    Args:
        method: its `removal` and `objective`.
        session: the problem and how to run it.
        graphs: B computation graphs.
        players: `Fragments`, or `FeatureColumns`, which have no connections.
        target, full: `[B]` class explained, and score of the whole graph.
        connected: as above.
        runs: number of coalitions, for the progress bar.

    Attributes:
        full, empty: `[B]` score with all players and with none; the same where there are no players.
    """

    def __init__(
        self,
        method: Any,
        session: Session,
        graphs: ComputationGraphs,
        players: Players,
        target: Tensor,
        full: Tensor,
        connected: bool,
        runs: float,
    ) -> None:
        self.method, self.session, self.graphs, self.players, self.target = method, session, graphs, players, target
        self.runs, self.full = max(runs, 1.0), full
        size = players.ptr.diff()
        some = (size > 0).nonzero().flatten()
        none = torch.zeros(len(some), int(size.max()) if len(size) else 0, dtype=torch.bool, device=full.device)
        self.empty = full.index_copy(0, some, self._scores(some, none, 0.0))
        self.links = players.links() if connected and isinstance(players, Fragments) else None

    def worth(self, which: Tensor, present: Tensor) -> Tensor:
        """The worth `[I, V]` of coalitions `[I, V, n]` bool, for I instances of n players each."""
        share = present.size(0) * present.size(1) / self.runs
        owner = which.repeat_interleave(present.size(1))
        if self.links is None:
            return self._distinct(owner, present.flatten(0, 1), share).reshape(present.shape[:2])
        parts = [self._components(*one) for one in zip(which.tolist(), present, strict=True)]
        of = torch.cat([coalition + number * present.size(1) for number, (coalition, _) in enumerate(parts)])
        gain = self._distinct(owner[of], torch.cat([rows for _, rows in parts]), share) - self.empty[owner[of]]
        return self.empty[owner].index_add(0, of, gain).reshape(present.shape[:2])

    def _components(self, instance: int, present: Tensor) -> tuple[Tensor, Tensor]:
        """The connected components of coalitions `[V, n]`: the coalition of each, and its players `[C, n]`."""
        assert self.links is not None
        player, medium, ptr = self.links
        here = slice(int(ptr[instance]), int(ptr[instance + 1]))
        player = player[here] - self.players.ptr[instance]
        _, medium = torch.unique(medium[here], return_inverse=True)
        inside = present.t()
        size = len(inside)
        own = torch.arange(size, device=present.device).unsqueeze(1)
        label = torch.where(inside, own, size)
        while len(player):
            # The smallest label among what meets in a node or an edge, then among all that a player takes part in.
            met = label.new_full((int(medium.max()) + 1, len(present)), size)
            met = met.scatter_reduce(0, medium.unsqueeze(1).expand(-1, len(present)), label[player], "amin")
            spread = label.scatter_reduce(0, player.unsqueeze(1).expand(-1, len(present)), met[medium], "amin")
            spread = spread.masked_fill(~inside, size)
            spread = torch.cat([spread, spread.new_full((1, len(present)), size)]).gather(0, spread)
            if torch.equal(spread, label):
                break
            label = spread
        first, coalition = ((label == own) & inside).nonzero(as_tuple=True)
        return coalition, label.t()[coalition] == first.unsqueeze(1)

    def _distinct(self, owner: Tensor, present: Tensor, share: float) -> Tensor:
        """The scores `[V]` of coalitions `[V, n]`; equal ones run once, and those of all or no players not at all."""
        code = owner
        for players in present.split(WORD, dim=1):
            word = torch.zeros_like(owner)
            for inside in players.unbind(1):
                word = word * 2 + inside
            _, word = torch.unique(word, return_inverse=True)
            _, code = torch.unique(code * len(word) + word, return_inverse=True)
        position = torch.arange(len(code), device=code.device)
        count = int(code.max()) + 1 if len(code) else 0
        first = torch.full((count,), len(code), device=code.device).scatter_reduce(0, code, position, "amin")
        owner, present = owner[first], present[first]
        some, every = present.any(1), present.all(1)
        scores = torch.where(every, self.full[owner], self.empty[owner])
        run = (some & ~every).nonzero().flatten()
        return scores.index_copy(0, run, self._scores(owner[run], present[run], share))[code]

    def _scores(self, owner: Tensor, present: Tensor, share: float) -> Tensor:
        def change(replicas: Replicas, select: Tensor) -> Change:
            return self.players.only(replicas, present[select])

        removal, objective = self.method.removal, self.method.objective
        return variant_scores(self.session, self.graphs, self.target, owner, change, removal, objective, share)
