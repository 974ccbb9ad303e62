"""PGMExplainer: which nodes' features the prediction depends on, by tests of independence over random perturbations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._ablation import variant_scores
from gnn_xai.algorithms.base import algorithm, require_number, require_positive
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.arrays.segments import segment_mean
from gnn_xai.core.engines.agreement import PRECISION
from gnn_xai.core.engines.evaluate import Change
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import require_float_features
from gnn_xai.errors import InputError


@algorithm(
    "pgm_explainer",
    "nodes that the prediction depends on, by a test of independence (Vu & Thai 2020)",
    signed=False,
    stochastic=True,
    edge_masks=False,
)
class PGMExplainer:
    """PGM-Explainer (Vu & Thai, NeurIPS 2020, section 4): features of random halves of the nodes are perturbed,
    and a χ² test says for each node whether the prediction depends on it being among them.

    In every sample each node in play is perturbed with probability ½, and the prediction counts as changed if the
    probability of the target falls by more than `threshold`. A node scores 1 − p where the test's p-value is at most
    `alpha`, else 0; `extras["node_p_value"]` has all of them. For nodes without influence p is uniform, so a share of
    `alpha` of them scores, too. The authors go on to learn a Bayesian network over the nodes that are kept, whose
    structure is no score and is left out.

    When not to use it: for the structure of the graph, since edges stay as they are, or for nodes that matter only together:
    each is tested by itself.

    Attributes:
        samples: perturbed copies.
        alpha: largest p-value of a node that scores; 1 keeps all.
        threshold: least fall of the target's probability, or of a regression's value, that counts as a change.
        perturbation: a perturbed node's features are `zero`, or the `mean` over the instance's nodes in play.
    """

    samples: int = 100
    alpha: float = 0.05
    threshold: float = 0.1
    perturbation: Literal["zero", "mean"] = "zero"

    def __post_init__(self) -> None:
        require_positive(self, "samples", integer=True)
        require_number(self, "alpha", "threshold")
        if self.alpha > 1:
            raise InputError(f"expected PGMExplainer(alpha=) in [0, 1], got {self.alpha}")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        x = require_float_features(session.problem, "PGMExplainer")
        inside, owner = graphs.node_in_play, graphs.node_owner
        key = graphs.graphs.node_key[graphs.node]
        fill = None
        if self.perturbation == "mean":
            fill = segment_mean(x[graphs.node[inside]].flatten(1), owner[inside], len(graphs))

        def perturbed(node: Tensor, stream: Tensor) -> Tensor:
            uniform = keyed_uniform(session.seed, graphs.instance_key[owner[node]], key[node], stream)
            return (uniform < 0.5) & inside[node]

        def change(replicas: Replicas, select: Tensor) -> Change:
            features = replicas.features
            assert features is not None
            rows = features.flatten(1)
            other = torch.zeros_like(rows) if fill is None else fill[replicas.instance[replicas.node_owner]].to(rows)
            gone = perturbed(replicas.node, (select // len(graphs))[replicas.node_owner])
            return Change(x=torch.where(gone.unsqueeze(1), other, rows).reshape(features.shape))

        full = session.problem.score(prediction, target, "prob")
        instance = torch.arange(len(graphs), device=target.device).repeat(self.samples)
        left = variant_scores(session, graphs, target, instance, change, "message", "prob")
        rounding = PRECISION * torch.finfo(full.dtype).eps * torch.maximum(full[instance].abs(), left.abs())
        changed = (full[instance] - left > self.threshold + rounding).reshape(self.samples, len(graphs))
        every = torch.arange(len(graphs.node), device=target.device)
        counts = torch.zeros(2, 2, len(every), dtype=torch.float64, device=target.device)
        for number, row in enumerate(changed):
            own, chosen = row[owner], perturbed(every, torch.full_like(every, number))
            for a in (0, 1):
                for b in (0, 1):
                    counts[a, b] += (chosen == bool(a)) & (own == bool(b))
        p = independence(counts)
        score = torch.where(inside & (p <= self.alpha), 1 - p, 0).to(full.dtype)
        return Scores(node=score.unsqueeze(1), node_type="object", extras={"node_p_value": p.to(full.dtype)})


def independence(counts: Tensor) -> Tensor:
    """p-values of Pearson's χ² test of independence of two yes-or-no variables, from counts `[2, 2, N]`; 1 where one of them
    never varies.
    """
    product = counts.sum(0).prod(0) * counts.sum(1).prod(0)
    difference = counts[0, 0] * counts[1, 1] - counts[0, 1] * counts[1, 0]
    statistic = counts.sum((0, 1)) * difference**2 / product.clamp(min=1)
    return torch.where(product > 0, torch.special.erfc((statistic / 2).sqrt()), 1.0)
