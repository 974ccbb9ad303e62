"""Fidelity of what stays close to the graphs that the model was trained on: a few edges are sampled, not all removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.evaluate import Change, Removal, evaluate
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.metrics.evaluation import Part, check_removal, rerun
from gnn_xai.metrics.losses import Kind, Loss
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


def robust_fidelity(
    model: nn.Module,
    data: Any,
    explanations: Explanations,
    *,
    alpha1: float = 0.1,
    alpha2: float = 0.9,
    samples: int = 50,
    kind: Kind = "probability",
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
        seed: what random numbers are keyed by, together with instance and edge, so that an instance gets the same draws in
            any company; `None` for the seed of the explanations.

    Raises:
        InputError: if the explanations are not of this data, score no edges, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> found = robust_fidelity(karate.model, karate.data, explanations, top=4, alpha1=0.5, alpha2=0.5)
    >>> found.plus
    RFid+ 0.1818 ± 0.0679 (n=3, higher is better)
    >>> found.delta
    RFidΔ 0.1652 ± 0.0764 (n=3, higher is better)
    """
    loss = Loss(kind)
    check_top(top)
    check_removal(removal, explanations, "edge", hard=True)
    loss.check(explanations, labels)
    for name, alpha in (("alpha1", alpha1), ("alpha2", alpha2)):
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
            raise InputError(f"expected {name} in [0, 1], got {alpha!r}")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise InputError(f"expected samples as a positive integer, got {samples!r}")
    stream = explanations.seed if seed is None else seed

    def measure(part: Part) -> Tensor:
        if removal == "message" and not part.pipeline.maskable(part.masks):
            return part.prediction.new_full((len(part.graphs), 2), torch.nan)
        session, graphs, size = part.pipeline.session, part.graphs, len(part.graphs)
        first, unit = session.removable(graphs)
        assert part.masks.edge is not None
        chosen = part.masks.edge[first] > 0.5
        if top is not None and part.edges is not None:
            chosen = part.edges.rank[first] < part.edges.limit([top])[graphs.edge_owner[first], 0]
        # Edges of no unit have -1, which reads the last place of both: they are never removed.
        chosen, key = (torch.cat([values, values.new_zeros(1)]) for values in (chosen, session.edge_key(graphs)[first]))
        instance = torch.arange(size, device=unit.device).repeat_interleave(2 * samples)

        def change(replicas: Replicas, select: Tensor) -> Change:
            draw, of, owner = select % (2 * samples), unit[replicas.edge], replicas.edge_owner
            number = keyed_uniform(stream, graphs.instance_key[replicas.instance][owner], key[of], draw[owner])
            within = (draw < samples)[owner]
            removed = torch.where(within, chosen[of] & (number < alpha1), ~chosen[of] & (number >= alpha2))
            return Change(edges=removed & (of >= 0))

        out = evaluate(session, graphs, instance, change, removal, lambda out, select: out)
        return part.loss(loss, out.reshape(size, 2, samples, -1)).mean(2)

    plus, minus = rerun(
        model,
        data,
        explanations,
        measure,
        level="edge",
        structural=removal == "structural",
        labels=labels if loss.phenomenon else None,
        forward=forward,
        batch_budget=batch_budget,
    ).unbind(1)
    return RobustFidelity(
        Result(loss.named("RFid+"), plus, "higher"),
        Result(loss.named("RFid−"), minus, "lower"),
        Result(loss.named("RFidΔ"), plus - minus, "higher"),
    )
