"""Shapley: the mean contribution of edges, nodes, features or fragments over all orders in which they can arrive."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._fragments import FragmentKind, check_replacement
from gnn_xai.algorithms._game import Game, players_of
from gnn_xai.algorithms.base import algorithm, require_positive
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import InputError

EXACT = 14
"""Most players of an instance whose coalitions are all run."""

MOST = 2**22
"""Players in the coalitions that are held at once, absent ones counted."""

SIZE = -2
"""What random sizes of coalitions are keyed by, in the place of a player's key."""


@algorithm(
    "shapley",
    "Shapley values of edges, nodes, features or fragments, exact for few and sampled for many",
    signed=True,
    stochastic=True,
)
class Shapley:
    """Shapley values (Shapley 1953): each player's mean contribution to the score over all orders in which players arrive.

    The values of an instance add up to its score minus `extras["base_value"]` `[B]`, its score with every player absent.
    Instances of at most `exact_up_to` players are exact: all 2ⁿ coalitions run. For the others values are estimated, with
    their standard errors in `extras["edge_standard_error"]` (`node_...` for nodes and features), 0 where values are exact;
    they add up all the same. Coalitions that are drawn several times run once.

    Players that are edges are tied as everywhere: an undirected edge is one. Nodes: the root of a node-level task is absent
    when its features are 0. Features: columns of `x` that are not 0 throughout, absent when set to 0 on all nodes.
    Fragments: as in `gnn_xai.FragmentAblation`; their nodes have equal shares of the value and of the error, so that scores
    of nodes add up, too, and `extras["node_fragment_value"]` holds the whole value.

    EdgeSHAPer (Mastropietro et al., iScience 2022) is `Shapley(players="edges", removal="message", objective="prob")`.
    Not for large computation graphs: with 1000 players an order takes 1000 passes, and most coalitions leave graphs unlike
    any that the model has seen. Use `gnn_xai.IntegratedGradients` there, whose scores also add up.

    Attributes:
        players: `edges`, `nodes`, `features` or `fragments`.
        estimator: `permutation` draws orders of arrival, each with its reverse (Castro et al. 2009; antithetic pairs,
            Mitchell et al., JMLR 2022), without bias; the error is that of the mean over pairs. `kernel` draws coalitions,
            each with its complement, and fits a weighted linear model that adds up (KernelSHAP, Lundberg & Lee, NeurIPS
            2017; Covert & Lee, AISTATS 2021); its error is the robust one of least squares. `exact` refuses instances of
            more than 14 players.
        coalitions: `any`, or `connected` for the Myerson value (Myerson 1977; GStarX, Zhang et al., NeurIPS 2022, uses a
            relative): a coalition is worth the sum of its connected components, each alone. In a graph of several
            components, values then add up to what these add one by one. Not for `features`.
        exact_up_to: most players of an instance whose coalitions are all run; 14 at most.
        samples: orders drawn, each run forwards and backwards: 2 · `samples` · (n − 1) coalitions of n players; `kernel`
            draws as many coalitions.
        kind, replacement: of fragments, as in `gnn_xai.FragmentAblation`.
        removal, objective: as in `gnn_xai.NodeAblation`; features are set to 0 in any case.
    """

    players: Literal["edges", "nodes", "features", "fragments"] = "edges"
    estimator: Literal["exact", "permutation", "kernel"] = "permutation"
    coalitions: Literal["any", "connected"] = "any"
    exact_up_to: int = 12
    samples: int = 32
    kind: FragmentKind = "auto"
    removal: Removal = "structural"
    replacement: Literal["carbon"] | None = None
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        check_replacement(self)
        require_positive(self, "exact_up_to", "samples", integer=True)
        if self.exact_up_to > EXACT:
            raise InputError(
                f"expected Shapley(exact_up_to=) as at most {EXACT}, got {self.exact_up_to}: {2**self.exact_up_to} "
                "coalitions of one instance; leave it to samples="
            )
        if self.samples < 2:
            raise InputError("expected Shapley(samples=) as at least 2, got 1, which has no standard error")
        if self.players != "fragments" and (self.kind != "auto" or self.replacement is not None):
            raise InputError(
                f"expected Shapley(kind=, replacement=) for players='fragments' alone, got players={self.players!r}"
            )
        if self.players == "features" and self.coalitions == "connected":
            raise InputError(
                "expected Shapley(coalitions='any') for players='features', which nothing connects, got 'connected'"
            )

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        players = players_of(self, session, graphs)
        size = players.ptr.diff()
        self._check(size)
        full = session.problem.score(prediction, target, self.objective)
        few = size <= (EXACT if self.estimator == "exact" else self.exact_up_to)
        runs = torch.where(few, 2.0 ** size.clamp(max=EXACT), 2 * self.samples * size.double())
        connected = self.coalitions == "connected"
        game = Game(self, session, graphs, players, target, full, connected, float(runs.sum()))
        value, error = full.new_zeros(len(players.owner)), full.new_zeros(len(players.owner))
        for n in size[size > 0].unique().tolist():
            which = (size == n).nonzero().flatten()
            exact = bool(few[which[0]])
            estimate = self._exactly if exact else self._by_kernel if self.estimator == "kernel" else self._by_orders
            cells = n * (n if connected else 1)
            most = max(MOST // cells, 1)  # coalitions held at once
            for some in which.split(max(most // (2**n if exact else 2 * self.samples * n), 1)):
                at = players.ptr[some].unsqueeze(1) + torch.arange(n, device=full.device)
                mean, deviation = estimate(session, game, some, n, most)
                value[at], error[at] = mean.to(value.dtype), deviation.to(value.dtype)
        scores = players.scores(value, standard_error=error)
        scores.extras["base_value"] = game.empty
        return scores

    def _check(self, size: Tensor) -> None:
        if self.estimator == "exact" and bool((size > EXACT).any()):
            raise InputError(
                f"expected at most {EXACT} {self.players} in each instance for Shapley(estimator='exact'), got "
                f"{int(size.max())}; use estimator='permutation', which is exact up to exact_up_to= of them"
            )

    def _exactly(self, session: Session, game: Game, which: Tensor, n: int, most: int) -> tuple[Tensor, Tensor]:
        """Values `[I, n]` of instances of n players from all coalitions, and errors of 0."""
        codes = torch.arange(2**n, device=which.device).unsqueeze(1)
        inside = (codes >> torch.arange(n, device=which.device)) & 1 == 1
        value = game.worth(which, inside.expand(len(which), -1, -1)).double() @ _weights(inside)
        return value, torch.zeros_like(value)

    def _by_orders(self, session: Session, game: Game, which: Tensor, n: int, most: int) -> tuple[Tensor, Tensor]:
        """Values and standard errors `[I, n]` from random orders and their reverses."""
        arrived = torch.arange(n + 1, device=which.device)[:, None, None]
        parts = []
        for streams in torch.arange(self.samples, device=which.device).split(max(most // (2 * n * len(which)), 1)):
            rank = self._ranks(session, game, which, n, streams)
            rank = torch.stack([rank, n - 1 - rank])  # [2, S, I, n]
            inside = rank.flatten(0, 1).unsqueeze(1) < arrived.unsqueeze(0)  # [2S, n + 1, I, n]
            worth = game.worth(which, inside.flatten(0, 1).transpose(0, 1)).double()
            worth = worth.t().reshape(*rank.shape[:2], n + 1, len(which))
            gain = worth.diff(dim=2).transpose(2, 3).gather(3, rank)
            parts.append(gain.mean(0))
        gains = torch.cat(parts)
        return gains.mean(0), gains.std(0) / math.sqrt(self.samples)

    def _by_kernel(self, session: Session, game: Game, which: Tensor, n: int, most: int) -> tuple[Tensor, Tensor]:
        """Values and standard errors `[I, n]` from a linear model of random coalitions and their complements.

        A pair of z and its complement says what (v(z) − v(complement)) / 2 is, which the model takes for Σ (zᵢ − ½) φᵢ.
        With φ = Δ / n + ψ, where Δ is what values add up to and ψ adds up to 0, ψ is a regression without constraints.
        """
        sizes = torch.arange(1, n, device=which.device, dtype=torch.float64)
        odds = (1 / (sizes * (n - sizes))).cumsum(0)
        pairs = torch.arange(self.samples * (n - 1), device=which.device).split(max(most // (2 * len(which)), 1))
        every = torch.ones(len(which), 1, n, dtype=torch.bool, device=which.device)
        total = game.worth(which, every).double() - game.empty[which].double().unsqueeze(1)  # [I, 1]

        def drawn(streams: Tensor) -> Tensor:
            uniform = keyed_uniform(
                session.seed, game.graphs.instance_key[which].unsqueeze(1), torch.full_like(which[:1], SIZE), streams
            )
            size = torch.searchsorted(odds / odds[-1], uniform).clamp(max=n - 2) + 1
            return self._ranks(session, game, which, n, streams).transpose(0, 1) < size.unsqueeze(2)  # [I, P, n]

        def centred(inside: Tensor) -> Tensor:
            return inside.double() - inside.double().mean(2, keepdim=True)

        outcome = []
        square, product = total.new_zeros(len(which), n, n), total.new_zeros(len(which), n, 1)
        for streams in pairs:
            inside = drawn(streams)
            worth = game.worth(which, torch.cat([inside, ~inside], dim=1)).double()
            first, second = worth.split(len(streams), dim=1)
            outcome.append((first - second) / 2 - (inside.double().mean(2) - 0.5) * total)
            row = centred(inside)
            square = square + row.transpose(1, 2) @ row
            product = product + row.transpose(1, 2) @ outcome[-1].unsqueeze(2)
        inverse = torch.linalg.pinv(square, hermitian=True)
        rest = inverse @ product  # [I, n, 1]
        spread = torch.zeros_like(rest.squeeze(2))
        for streams, values in zip(pairs, outcome, strict=True):
            row = centred(drawn(streams))
            spread += ((row * (values.unsqueeze(2) - row @ rest)) @ inverse).square().sum(1)
        count = self.samples * (n - 1)
        return total / n + rest.squeeze(2), (spread * count / max(count - n + 1, 1)).sqrt()

    def _ranks(self, session: Session, game: Game, which: Tensor, n: int, streams: Tensor) -> Tensor:
        """When each player arrives in random orders, `[S, I, n]`."""
        at = game.players.ptr[which].unsqueeze(1) + torch.arange(n, device=which.device)
        key = game.graphs.instance_key[which].unsqueeze(1)
        drawn = keyed_uniform(session.seed, key, game.players.key[at], streams[:, None, None])
        return drawn.argsort(dim=2, stable=True).argsort(dim=2)


def _weights(inside: Tensor) -> Tensor:
    """The weight of each coalition's worth in each player's Shapley value, `[2ⁿ, n]` float64.

    |S|! (n − |S| − 1)! / n! of v(S ∪ {i}) − v(S), summed over the coalitions S without i.
    """
    n = inside.size(1)
    joined = inside.sum(1, keepdim=True) - inside.long()  # number of other players
    weights = [1 / (n * math.comb(n - 1, k)) for k in range(n)]
    return torch.tensor(weights, dtype=torch.float64, device=inside.device)[joined] * (2 * inside.long() - 1)
