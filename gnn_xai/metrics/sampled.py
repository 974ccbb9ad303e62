"""Robust fidelity: a few edges are sampled, not all removed, so that graphs stay close to those of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnn_xai._checks import integer, number, positive_integer
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.evaluate import Change, Removal
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.model.problem import Forward
from gnn_xai.metrics.evaluation import Part, Rerun
from gnn_xai.metrics.losses import FidelityKind, Loss
from gnn_xai.metrics.prepared import takes_prepared
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import Top, check_top
from gnn_xai.results.explanations import Explanations


@dataclass(frozen=True, eq=False)
class RobustFidelity:
    """RFid+, RFid− and RFidΔ of the same explanations.

    Attributes:
        plus: what the prediction loses, on average, when some edges of the explanation are removed; higher is better.
        minus: what it loses, on average, when some of the other edges are removed; lower is better.
        delta: plus − minus; higher is better.
    """

    plus: Result
    minus: Result
    delta: Result

    def __repr__(self) -> str:
        return f"RobustFidelity({self.plus!r}; {self.minus!r}; {self.delta!r})"


@takes_prepared
def robust_fidelity(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    alpha1: float = 0.1,
    alpha2: float = 0.9,
    samples: int = 50,
    kind: FidelityKind = "probability",
    labels: Any = None,
    top: Top | None = None,
    removal: Removal = "message",
    seed: int | None = None,
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> RobustFidelity:
    """RFid+, RFid− and RFidΔ (Zheng et al. 2024, Fid_{α₁,+}, Fid_{α₂,−} and their difference), per instance.

    Fidelity runs the model on graphs unlike those that it was trained on. Here E_α draws every edge of a set independently
    with probability α, an undirected edge once, and with S the edges of the explanation and G∖S the other edges in play:

    - RFid+ = f(G) − E f(G − E_α₁(S)): each edge of the explanation is removed with probability α₁.
    - RFid− = f(G) − E f(S + E_α₂(G∖S)): each other edge is kept with probability α₂, the explanation whole.
    - RFidΔ = RFid+ − RFid−.

    Expectations are means over `samples` draws; α₁ = 1 and α₂ = 0 give `fidelity` of S. What f compares is up to `kind`.
    Scores of nodes and features are not used.

    Args:
        model, data, kind, labels, removal, forward, batch_budget: as in `fidelity`.
        explanations: B explanations of this model on this data, with edge masks.
        alpha1: share of the explanation's edges that are removed, in [0, 1].
        alpha2: share of the other edges that are kept, in [0, 1].
        samples: draws of each kind.
        top: S is the `top` strongest edges (an int), that fraction of them (a float in (0, 1]), or those whose soft mask is
            above ½ (`None`).
        seed: the same seed gives an instance the same draws, whatever else is in the batch; `None` for the seed of the
            explanations.

    Raises:
        InputError: if the explanations are not of this data, score no edges, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> robust = robust_fidelity(karate.model, karate.data, explanations, top=4, alpha1=0.5, alpha2=0.5)
    >>> robust.plus
    RFid+ 0.1818 ± 0.0679 (n=3, higher is better)
    >>> robust.delta
    RFidΔ 0.1652 ± 0.0764 (n=3, higher is better)
    """
    check_top(top, optional=True)
    for name, alpha in (("alpha1", alpha1), ("alpha2", alpha2)):
        number(alpha, name, "[0, 1]")
    positive_integer(samples, "samples")
    if seed is not None:
        integer(seed, "seed")
    loss = Loss(kind)
    rerun = Rerun(model, data, explanations, forward, batch_budget, "edge", removal, loss, labels)
    stream = explanations.seed if seed is None else seed

    def measure(part: Part) -> Tensor:
        session, graphs = part.session, part.graphs
        first, unit = session.removable(graphs)
        assert part.masks.edge is not None
        chosen = part.masks.edge[first] > 0.5
        if top is not None and part.edges is not None:
            chosen = part.edges.rank[first] < part.edges.limit([top])[graphs.edge_owner[first], 0]
        # Edges of no unit have -1, which reads the last place of both: they are never removed.
        chosen, key = (torch.cat([values, values.new_zeros(1)]) for values in (chosen, session.edge_key(graphs)[first]))

        def change(replicas: Replicas, select: Tensor) -> Change:
            draw, of, owner = select % (2 * samples), unit[replicas.edge], replicas.edge_owner
            uniform = keyed_uniform(stream, graphs.instance_key[replicas.instance][owner], key[of], draw[owner])
            within = (draw < samples)[owner]
            removed = torch.where(within, chosen[of] & (uniform < alpha1), ~chosen[of] & (uniform >= alpha2))
            return Change(edges=removed & (of >= 0))

        out = part.variants(2 * samples, change)
        return part.loss(out.reshape(len(graphs), 2, samples, -1)).mean(2)

    plus, minus = rerun.measure(measure).unbind(1)
    return RobustFidelity(
        Result(loss.named("RFid+"), plus, "higher"),
        Result(loss.named("RFid−"), minus, "lower"),
        Result(loss.named("RFidΔ"), plus - minus, "higher"),
    )
