"""CFGNNExplainer: the smallest deletion of edges that changes what the model says, by a learned binary perturbation."""

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


@algorithm("cf_gnn_explainer", "smallest deletion of edges for another prediction (Lucic et al. 2022)", signed=False)
class CFGNNExplainer:
    """CF-GNNExplainer (Lucic et al., AISTATS 2022): descend on a perturbation P̂ of the edges until the prediction changes.

    Edges with σ(P̂) < ½ are removed. Minimises 1[same]·log p(target | σ(P̂)) + β·Σ(1 − σ(P̂)) by SGD from P̂ = 1, where `same`
    says whether the model still says the target without the removed edges. Every set of edges that is met is tried on
    the rebuilt graph, and the smallest that changes what the model says there is the counterfactual.

    Departures: gradients flow through messages times σ(P̂), as degrees do not see soft edges; the distance counts only while
    the prediction differs (in the authors' code it has no gradient at all; with one throughout, few instances flip).

    Do not use it to get the smallest set: `CounterfactualSearch` finds smaller ones, faster where graphs are small. It is
    for computation graphs with very many edges, of which search would try each.

    Scores are 1 − σ(P̂) after the last step: how much an edge is wanted gone. `explanation.counterfactual` holds the edits.

    Attributes:
        epochs: steps of SGD.
        lr, momentum: of SGD with Nesterov's momentum; the authors take .1 or .01, and 0, .5 or .9.
        beta: β, the weight of the distance.
        change: for a regression, by how much the value has to move.
    """

    epochs: int = 500
    lr: float = 0.1
    momentum: float = 0.9
    beta: float = 0.5
    change: float = 1.0
    removal: ClassVar[Removal] = "structural"
    edge_mask_type: ClassVar[Literal["object"]] = "object"

    def __post_init__(self) -> None:
        require_positive(self, "epochs", integer=True)
        require_positive(self, "lr", "change")
        require_number(self, "beta", "momentum")
        if self.momentum >= 1:
            raise InputError(f"expected CFGNNExplainer(momentum=) below 1, got {self.momentum}")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        goal = Goal(session.problem, target, prediction, self.change)
        first, unit = session.removable(graphs)
        owner, visits = graphs.edge_owner[first], Visits(unit)
        held: dict[EdgeRun, tuple[Tensor, Tensor]] = {}

        def loss(run: EdgeRun, theta: Tensor) -> Tensor:
            kept, mask = theta.detach() >= 0, theta.sigmoid()
            before, same = held.get(run, (torch.ones_like(kept), torch.ones_like(run.instance, dtype=torch.bool)))
            if bool((kept != before).any()):
                visits.add(run, ~kept, kept != before)
                with torch.no_grad():
                    same = ~goal.reached(run.output(kept.to(mask)), run.instance)
            held[run] = kept, same
            pull = segment_sum(1 - mask, run.owner, len(run.instance))
            return torch.where(same, goal.log_loss(run.output(mask), run.instance), self.beta * pull)

        optimizer = partial(torch.optim.SGD, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)
        theta = descend(session, graphs, loss, optimizer, epochs=self.epochs, init=1.0, share=0.9)
        answer = smallest_removal(session, graphs, goal, unit, owner, *visits.sets, share=0.1)
        edge = (1 - theta.sigmoid()) * graphs.edge_in_play
        outcome = answer.outcome(units_of(graphs, owner))
        return Scores(edge, extras=extras_of(answer.prediction, outcome, edge_removed=answer.members(unit)))
