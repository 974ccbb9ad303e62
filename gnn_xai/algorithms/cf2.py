"""CF2: edges that are enough for the prediction and without which it changes, by one learned mask."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._counterfactual import Goal, Visits, smallest_removal, units_of
from gnn_xai.algorithms.base import algorithm, require_number, require_positive
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.edge_descent import EdgeRun, descend
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.errors import InputError
from gnn_xai.results.counterfactuals import extras_of


@algorithm("cf2", "edges that are enough and without which the prediction changes (Tan et al. 2022)", signed=False)
class CF2:
    """CF² (Tan et al., WWW 2022, eq. 13): the smallest mask M that is both factual and counterfactual.

    Minimises Σ M + λ·(α·L_f + (1 − α)·L_c) by Adam, with L_f = ReLU(γ − s(M)) and L_c = ReLU(γ + s(1 − M)), where s is how
    much the probability of the target exceeds the largest other one (for a regression, `change` less what the value
    moved by).

    Departures: the mask starts at ½, all edges alike, so the answer does not depend on a seed; the mask is for edges alone.

    Scores are the mask. Its edges above ½ are the counterfactual, tried on the rebuilt graph: `explanation.counterfactual`
    says whether their removal changes what the model says.

    Do not use it where enough and necessary part ways, such as where several motifs alone are enough: none is necessary
    then, and `alpha` decides which of the two losses is given up.

    Attributes:
        epochs, lr: steps and learning rate of Adam.
        lam: λ, the weight of both losses against the size of the mask; the authors take 20 to 1000 by data set.
        alpha: α, the share of the factual loss, .6 in the paper.
        gamma: γ, the margin of both, .5 in the paper.
        change: for a regression, by how much the value has to move.
    """

    epochs: int = 500
    lr: float = 0.01
    lam: float = 20.0
    alpha: float = 0.6
    gamma: float = 0.5
    change: float = 1.0
    removal: ClassVar[Removal] = "structural"
    edge_mask_type: ClassVar[Literal["object"]] = "object"

    def __post_init__(self) -> None:
        require_positive(self, "epochs", integer=True)
        require_positive(self, "lr", "change")
        require_number(self, "lam", "alpha", "gamma")
        if self.alpha > 1:
            raise InputError(f"expected CF2(alpha=) in [0, 1], got {self.alpha}")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        goal = Goal(session.problem, target, prediction, self.change)
        first, unit = session.removable(graphs)
        owner, visits = graphs.edge_owner[first], Visits(unit)

        def loss(run: EdgeRun, theta: Tensor) -> Tensor:
            mask = theta.sigmoid()
            factual = (self.gamma - goal.lead(run.output(mask), run.instance)).relu()
            counterfactual = (self.gamma + goal.lead(run.output(1 - mask), run.instance)).relu()
            size = segment_sum(mask, run.owner, len(run.instance))
            return size + self.lam * (self.alpha * factual + (1 - self.alpha) * counterfactual)

        theta = descend(
            session, graphs, loss, partial(torch.optim.Adam, lr=self.lr), epochs=self.epochs, init=0.0, share=0.9
        )
        mask = theta.sigmoid() * graphs.edge_in_play
        visits.add_units(owner, mask[first] > 0.5)
        answer = smallest_removal(session, graphs, goal, unit, owner, *visits.sets, share=0.1)
        outcome = answer.outcome(units_of(graphs, owner))
        return Scores(mask, extras=extras_of(answer.prediction, outcome, edge_removed=answer.members(unit)))
