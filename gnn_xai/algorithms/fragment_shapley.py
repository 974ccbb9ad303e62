"""FragmentShapley: the mean contribution of each fragment over all orders in which fragments can arrive."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._ablation import Fragments, variant_scores
from gnn_xai.algorithms._fragments import FragmentKind, check_replacement, fragments_of
from gnn_xai.algorithms.base import algorithm, require_positive
from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.arrays.segments import gather_segments, owners
from gnn_xai.core.engines.evaluate import Change, Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import InputError

MOST = float(2**18)
"""Coalitions whose scores are held at once."""


@algorithm(
    "fragment_shapley",
    "Shapley values of fragments, exact for few and sampled for many",
    signed=True,
    stochastic=True,
)
class FragmentShapley:
    """Shapley values (Shapley 1953) of the game whose players are fragments and whose value is the score of the graph
    without the absent fragments.

    The values of an instance add up to its score minus `extras["without_fragments"]` `[B]`, its score with every fragment
    removed. Up to `exact_up_to` fragments, all 2ⁿ coalitions are run. Above, orders of arrival are drawn, each with its
    reverse (Castro et al. 2009; antithetic pairs, Mitchell et al., JMLR 2022): every order adds up exactly, the mean has
    no bias, and `extras["node_standard_error"]` (`edge_...` for bonds) is the standard error over the pairs, 0 where values
    are exact. The nodes of a fragment have equal shares of its value and of its error, so that the scores of nodes add up,
    too; `extras["node_fragment_value"]` holds the whole value, see `gnn_xai.FragmentAblation`.

    Attributes:
        kind, removal, replacement, objective: as in `gnn_xai.FragmentAblation`.
        exact_up_to: most fragments of an instance whose coalitions are all run; 16 at most.
        samples: orders drawn, each run forwards and backwards: 2 · `samples` · (n − 1) coalitions of n fragments.
    """

    kind: FragmentKind = "auto"
    exact_up_to: int = 12
    samples: int = 32
    removal: Removal = "structural"
    replacement: Literal["carbon"] | None = None
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        check_replacement(self)
        require_positive(self, "exact_up_to", "samples", integer=True)
        if self.exact_up_to > 16:
            raise InputError(
                f"expected FragmentShapley(exact_up_to=) as at most 16, got {self.exact_up_to}: {2**self.exact_up_to} "
                "coalitions of one instance; leave it to samples="
            )
        if self.samples < 2:
            raise InputError("expected FragmentShapley(samples=) as at least 2, got 1, which has no standard error")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        full = session.problem.score(prediction, target, self.objective)
        fragments = fragments_of(session, graphs, self.kind, self.replacement)
        size = fragments.ptr.diff()
        value, error, empty = full.new_zeros(len(fragments.owner)), full.new_zeros(len(fragments.owner)), full.clone()
        few = size <= self.exact_up_to
        runs = torch.where(few, 2.0 ** size.clamp(max=self.exact_up_to), 2 * self.samples * size.double())
        runs = runs * (size > 0)
        game = _Game(self, session, fragments, target, full, max(float(runs.sum()), 1.0))
        for players in size[few & (size > 0)].unique().tolist():
            which = (few & (size == players)).nonzero().flatten()
            for some in batches.batches(runs[which], MOST):
                at = fragments.ptr[which[some]].unsqueeze(1) + torch.arange(players, device=full.device)
                value[at], empty[which[some]] = game.exactly(which[some], players)
        which = (~few).nonzero().flatten()
        for some in batches.batches(runs[which], MOST):
            at, _ = gather_segments(fragments.ptr, which[some])
            value[at], error[at], empty[which[some]] = game.sampled(which[some])
        scores = fragments.scores(value, standard_error=error)
        scores.extras["without_fragments"] = empty
        return scores


class _Game:
    """The scores of coalitions, and Shapley values from them.

    Args:
        method: hyper-parameters.
        session, fragments, target: the problem and how to run it, the players, and the class explained.
        full: `[B]` score with all fragments.
        runs: number of coalitions, for the progress bar.
    """

    def __init__(
        self, method: FragmentShapley, session: Session, fragments: Fragments, target: Tensor, full: Tensor, runs: float
    ) -> None:
        self.method, self.session, self.fragments, self.target = method, session, fragments, target
        self.full, self.runs = full, runs

    def exactly(self, which: Tensor, players: int) -> tuple[Tensor, Tensor]:
        """Values `[I, players]` of instances with as many fragments, and their scores without any `[I]`."""
        codes = torch.arange(2**players - 1, device=which.device)  # bit i: fragment i is present
        code = codes.repeat(len(which))
        place = torch.arange(len(self.fragments.owner), device=which.device) - self.fragments.ptr[self.fragments.owner]

        def absent(fragment: Tensor, variant: Tensor) -> Tensor:
            return (code[variant] >> place[fragment]) & 1 == 0

        scores = self._scores(which.repeat_interleave(len(codes)), absent).reshape(len(which), -1)
        scores = torch.cat([scores, self.full[which].unsqueeze(1)], dim=1)
        return (scores.double() @ _weights(players, which.device)).to(scores.dtype), scores[:, 0]

    def sampled(self, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values and standard errors of all fragments of some instances, and their scores without any `[I]`."""
        fragments, samples = self.fragments, self.method.samples
        fragment, ptr = gather_segments(fragments.ptr, which)
        owner = owners(ptr)
        position = torch.arange(len(fragment), device=which.device)
        stream = torch.arange(samples, device=which.device).unsqueeze(1)
        drawn = keyed_uniform(
            self.session.seed, fragments.graphs.instance_key[which][owner], fragments.key[fragment], stream
        )
        order = torch.argsort(owner + drawn, dim=1)
        rank = torch.empty_like(order).scatter_(1, order, (position - ptr[owner]).expand_as(order).contiguous())
        rank = torch.cat([rank, ptr.diff()[owner] - 1 - rank])

        # Beside one another for each instance: the scores when 0, 1, ..., n of its fragments have arrived.
        start = ptr + torch.arange(len(ptr), device=which.device)
        arrived_owner = owners(start)
        arrived = torch.arange(int(start[-1]), device=which.device) - start[arrived_owner]
        inner = ((arrived > 0) & (arrived < ptr.diff()[arrived_owner])).nonzero().flatten()
        number = torch.arange(len(rank), device=which.device).repeat_interleave(len(inner))
        slot = inner.repeat(len(rank))
        place = torch.full_like(fragments.owner, -1).index_copy(0, fragment, position)

        def absent(fragment: Tensor, variant: Tensor) -> Tensor:
            return rank[number[variant], place[fragment]] >= arrived[slot[variant]]

        empty = self._scores(which, lambda fragment, variant: torch.ones_like(fragment, dtype=torch.bool))
        scores = self.full.new_zeros(len(rank), len(arrived))
        scores[:, inner] = self._scores(which[arrived_owner[slot]], absent).reshape(len(rank), -1)
        scores[:, start[:-1]] = empty
        scores[:, start[1:] - 1] = self.full[which]
        at = start[owner] + rank
        gain = scores.gather(1, at + 1) - scores.gather(1, at)
        pair = (gain[:samples] + gain[samples:]) / 2
        return pair.mean(0), pair.std(0) / math.sqrt(samples), empty

    def _scores(self, instance: Tensor, absent: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Scores of variants `[V]`, without the fragments for which `absent(fragment, variant)` is true."""
        fragments, method = self.fragments, self.method

        def change(replicas: Replicas, select: Tensor) -> Change:
            fragment, replica = fragments.members(replicas)
            gone = absent(fragment.clamp(min=0), select[replica])
            return fragments.change(replicas, gone & (fragment >= 0))

        share = len(instance) / self.runs
        graphs, removal, objective = fragments.graphs, method.removal, method.objective
        return variant_scores(self.session, graphs, self.target, instance, change, removal, objective, share)


def _weights(players: int, device: torch.device) -> Tensor:
    """The weight of each coalition's score in each player's Shapley value, `[2ⁿ, n]` float64.

    |S|! (n − |S| − 1)! / n! of v(S ∪ {i}) − v(S), summed over the coalitions S without i.
    """
    code = torch.arange(2**players, device=device).unsqueeze(1)
    inside = (code >> torch.arange(players, device=device)) & 1
    joined = inside.sum(1, keepdim=True) - inside  # number of other players
    weights = [1 / (players * math.comb(players - 1, k)) for k in range(players)]
    weight = torch.tensor(weights, dtype=torch.float64, device=device)
    return weight[joined] * (2 * inside - 1)
