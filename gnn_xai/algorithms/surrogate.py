"""Surrogate: a linear model of how the score depends on which edges, nodes, features or fragments are present."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._fragments import FragmentKind, check_replacement
from gnn_xai.algorithms._game import Game, players_of
from gnn_xai.algorithms._regression import lasso, ridge
from gnn_xai.algorithms.base import algorithm, require_number, require_positive
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import InputError

MOST = 2**22
"""Players in the samples that are held at once, absent ones counted."""

SIZE = -3
"""What random numbers of absent players are keyed by, in the place of a player's key."""


@algorithm(
    "surrogate", "coefficients of a linear model of the score (Ribeiro et al. 2016)", signed=True, stochastic=True
)
class Surrogate:
    """LIME for graphs (Ribeiro et al., KDD 2016, eq. 1): the score of random parts of the graph, fitted by a linear model of
    which players are present, and parts near the whole graph count more.

    A sample lacks 1 to n of an instance's n players, each number as often, drawn at random; its weight is
    exp(−(absent / n)² / `width`²). The coefficient of a player is its score. `extras["r2"]` `[B]` says how much of the
    (weighted) variance of the score the linear model explains, `extras["intercept"]` what it gives for no players.

    When not to use it: where `r2` is low, the score is not linear in the players, and coefficients mean little; with more
    players than samples the linear model fits anything. `gnn_xai.Shapley` needs more passes and has values that add up, with
    standard errors.

    Attributes:
        players, kind, replacement, removal, objective: as in `gnn_xai.Shapley`.
        samples: parts of the graph that are run.
        width: of the kernel, as a fraction of the players.
        regression: `ridge`, or `lasso` for few coefficients that are not 0.
        penalty: λ in Σ w r² / Σ w + λ ‖β‖² or, for the lasso, ½ Σ w r² / Σ w + λ ‖β‖₁. 0 for least squares, of the
            smallest norm where there are several.
    """

    players: Literal["edges", "nodes", "features", "fragments"] = "edges"
    samples: int = 500
    width: float = 0.25
    regression: Literal["ridge", "lasso"] = "ridge"
    penalty: float = 1e-4
    kind: FragmentKind = "auto"
    removal: Removal = "structural"
    replacement: Literal["carbon"] | None = None
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        check_replacement(self)
        require_positive(self, "samples", integer=True)
        require_positive(self, "width")
        require_number(self, "penalty")
        if self.players != "fragments" and (self.kind != "auto" or self.replacement is not None):
            raise InputError(
                f"expected Surrogate(kind=, replacement=) for players='fragments' alone, got players={self.players!r}"
            )

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        players = players_of(self, session, graphs)
        size = players.ptr.diff()
        full = session.problem.score(prediction, target, self.objective)
        game = Game(self, session, graphs, players, target, full, False, float((size > 0).sum() * self.samples))
        value, r2, intercept = full.new_zeros(len(players.owner)), torch.ones_like(full), full.clone()
        for n in size[size > 0].unique().tolist():
            which = (size == n).nonzero().flatten()
            for some in which.split(max(MOST // (n * self.samples), 1)):
                at = players.ptr[some].unsqueeze(1) + torch.arange(n, device=full.device)
                present = self._drawn(session, graphs, some, players.key[at])
                fitted = self._fit(present, game.worth(some, present))
                value[at], r2[some], intercept[some] = (part.to(full.dtype) for part in fitted)
        scores = players.scores(value)
        scores.extras |= {"r2": r2, "intercept": intercept}
        return scores

    def _drawn(self, session: Session, graphs: ComputationGraphs, which: Tensor, key: Tensor) -> Tensor:
        """Samples of instances of n players, `[I, S, n]` bool; the first is the whole graph."""
        stream = torch.arange(self.samples, device=which.device)
        instance, n = graphs.instance_key[which].unsqueeze(1), key.size(1)
        uniform = keyed_uniform(session.seed, instance, torch.full_like(instance, SIZE), stream)
        absent = ((uniform * n).long() + 1).masked_fill(stream == 0, 0)
        order = keyed_uniform(session.seed, instance.unsqueeze(2), key.unsqueeze(1), stream.unsqueeze(1))
        return order.argsort(dim=2, stable=True).argsort(dim=2) >= absent.unsqueeze(2)

    def _fit(self, present: Tensor, worth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients `[I, n]`, R² and intercepts `[I]` of weighted regressions."""
        rows, outcome = present.double(), worth.double().unsqueeze(2)
        weight = torch.exp(-(((1 - rows.mean(2, keepdim=True)) / self.width) ** 2))
        weight = weight / weight.sum(1, keepdim=True)
        middle, mean = (weight * rows).sum(1, keepdim=True), (weight * outcome).sum(1, keepdim=True)
        scaled, wanted = weight.sqrt() * (rows - middle), weight.sqrt() * (outcome - mean)
        if self.regression == "lasso" and self.penalty:
            coefficients = lasso(scaled.mT @ scaled, scaled.mT @ wanted, self.penalty)
        else:
            coefficients = ridge(scaled, wanted, self.penalty)
        rest, spread = ((wanted - scaled @ coefficients) ** 2).sum((1, 2)), (wanted**2).sum((1, 2))
        r2 = 1 - torch.where(spread > 0, rest / spread.clamp(min=torch.finfo(spread.dtype).tiny), 0)
        return coefficients.squeeze(2), r2, (mean - middle @ coefficients).flatten()
