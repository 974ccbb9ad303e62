"""Fidelity: whether the model needs the explained elements, and whether they are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnn_xai._checks import is_number
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.metrics.evaluation import MaskLevel, Part, Rerun
from gnn_xai.metrics.losses import FidelityKind, Loss
from gnn_xai.metrics.prepared import takes_prepared
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import Top, as_tops, check_top
from gnn_xai.results.explanations import Explanations

TOPS = (0.01, 0.05, 0.1, 0.2, 0.5)
"""The shares that DeYoung et al. (2020) average over."""


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Fidelity+ and fidelity− of the same explanations.

    Attributes:
        plus: necessity, what the prediction loses without the explanation; higher is better.
        minus: sufficiency, what it loses with nothing but the explanation; lower is better.
    """

    plus: Result
    minus: Result

    def __repr__(self) -> str:
        return f"Fidelity({self.plus!r}; {self.minus!r})"


@takes_prepared
def fidelity(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    kind: FidelityKind = "probability",
    labels: Any = None,
    absolute: bool = False,
    top: Top | None = None,
    level: MaskLevel = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Fidelity:
    """Fidelity+ and fidelity− in their four published meanings, per instance.

    With p(c | ·) the model's probability of class c and ŷ(·) the class it says, t the explained target, y the true label,
    G the computation graph and S the explanation:

    - `probability` (Pope et al. 2019; Yuan et al. 2022, eq. 1–4): fidelity+ = p(t | G) − p(t | G∖S), fidelity− = p(t | G) −
      p(t | S). For a regression, the absolute change of the value takes the place of the difference.
    - `label` (model fidelity of GraphFramEx, Amara et al. 2022, and of PyG): 1 where the model says t on G but not on G∖S
      (fidelity+), or not on S (fidelity−), else 0; NaN where it does not say t on G.
    - `phenomenon_probability`: p(y | G) − p(y | G∖S) and p(y | G) − p(y | S). For a regression, by how much the value moves
      away from the true one: |v(G∖S) − y| − |v(G) − y|.
    - `phenomenon_label` (phenomenon fidelity of GraphFramEx and of PyG): 1[ŷ(G) = y] − 1[ŷ(G∖S) = y] and 1[ŷ(G) = y] −
      1[ŷ(S) = y], each −1, 0 or 1.

    Higher fidelity+ and lower fidelity− are better. All but `label` are signed: negative where the model does better on
    less. For a multi-label model, t is the explained label and y whether it is on, so p(y | ·) is the probability of what
    is true of that label. The two kinds of labels are not defined for a regression.

    Args:
        model, data, forward, batch_budget: as in `gnn_xai.explain`.
        explanations: B explanations of this model on this data.
        kind: which of the four.
        labels: the true classes, `[N]` or `[G]`, of all nodes or graphs of the data, explained or not, for the phenomenon
            kinds: `data.y`. For a multi-label model `[·, L]` of 0 and 1, for a regression values; NaN is unknown, and not
            defined.
        absolute: take the absolute value of each difference, as GraphFramEx and PyG do for the phenomenon kinds.
        top: S is the explanation as a soft mask (`None`), the `top` strongest elements (an int; an undirected edge
            counts once), or that fraction of them (a float in (0, 1]), by absolute value.
        level: use the edge mask alone, the node mask (`node`) or a mask of features (`feature`) alone, or all that the
            explanations hold. Algorithms that score different things are compared fairly at a level they share. Scores of
            further attributes (`columns`) take part as soft masks alone, at level `both`; with `top`, these stay whole.
        removal: `message` multiplies messages by the mask; `structural` rebuilds the graph, which needs `top` and
            edge masks alone (`level="edge"`).

    Raises:
        InputError: if the explanations are not of this data, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> fidelity(karate.model, karate.data, explanations, top=4, level="edge").plus
    fidelity+ 0.5088 ± 0.1125 (n=3, higher is better)
    >>> truth = {"kind": "phenomenon_label", "labels": karate.data.y}
    >>> fidelity(karate.model, karate.data, explanations, **truth, top=4, level="edge").plus
    fidelity+ (phenomenon label) 0.6667 ± 0.3333 (n=3, higher is better)
    """
    check_top(top, optional=True)
    loss, hard = Loss(kind, absolute), top is not None
    return _fidelity(Rerun(model, data, explanations, forward, batch_budget, level, removal, loss, labels, hard), top)


def _fidelity(rerun: Rerun, top: Top | None) -> Fidelity:
    def measure(part: Part) -> Tensor:
        kept, dropped = part.outputs(top)
        return torch.stack([part.loss(dropped), part.loss(kept)], dim=1)

    plus, minus = rerun.measure(measure).unbind(1)
    return Fidelity(
        Result(rerun.loss.named("fidelity+"), plus, "higher"),
        Result(rerun.loss.named("fidelity−"), minus, "lower"),
    )


@takes_prepared
def necessity(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    top: Top | Sequence[Top] = TOPS,
    kind: FidelityKind = "probability",
    labels: Any = None,
    level: MaskLevel = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """Necessity at k: what the prediction loses without the k strongest elements, per instance.

    With `top=k` it is fidelity+ at that k. With several it is their mean, as in the comprehensiveness of ERASER (DeYoung et
    al. 2020, eq. 1 and 3): 1/K Σₖ p(t | G) − p(t | G∖Sₖ). Higher is better. Several take one pass through the data;
    `fidelity_curve` has the values of each.

    Args:
        model, data, forward, batch_budget: as in `gnn_xai.explain`.
        explanations: B explanations of this model on this data.
        top: how many of the strongest elements are dropped, or which share of them, one or several.
        kind, labels, level, removal: as in `fidelity`.

    Raises:
        InputError: as in `fidelity`.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> necessity(karate.model, karate.data, explanations, top=[1, 4, 8], level="edge")
    necessity 0.4789 ± 0.0693 (n=3, higher is better)
    """
    rerun = Rerun(model, data, explanations, forward, batch_budget, level, removal, Loss(kind), labels)
    return Result(Loss(kind).named("necessity"), _loss_at(rerun, as_tops(top), keep=False), "higher")


@takes_prepared
def sufficiency(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    top: Top | Sequence[Top] = TOPS,
    kind: FidelityKind = "probability",
    labels: Any = None,
    level: MaskLevel = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """Sufficiency at k: what the prediction loses with nothing but the k strongest elements, per instance.

    With `top=k` it is fidelity− at that k. With several it is their mean, as in the sufficiency of ERASER (DeYoung et al.
    2020, eq. 2 and 3): 1/K Σₖ p(t | G) − p(t | Sₖ). Lower is better: 0 says that they are enough.

    Args:
        model, data, explanations, top, kind, labels, level, removal, forward, batch_budget: as in `necessity`; the
            strongest elements are kept, and all others dropped.

    Raises:
        InputError: as in `fidelity`.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> sufficiency(karate.model, karate.data, explanations, top=0.2, level="edge")
    sufficiency -0.0394 ± 0.0546 (n=3, lower is better)
    """
    rerun = Rerun(model, data, explanations, forward, batch_budget, level, removal, Loss(kind), labels)
    return Result(Loss(kind).named("sufficiency"), _loss_at(rerun, as_tops(top), keep=True), "lower")


def _loss_at(rerun: Rerun, tops: tuple[Top, ...], keep: bool) -> Tensor:
    """What predictions lose with the strongest elements alone, or without them, mean over `tops`, `[B]`."""
    return rerun.measure(lambda part: part.loss(part.selected(tops, (keep,))).mean((1, 2)))


def characterization_score(
    plus: Tensor | float, minus: Tensor | float, weights: tuple[float, float] = (0.5, 0.5)
) -> Tensor:
    """The weighted harmonic mean of fidelity+ and 1 − fidelity− (Amara et al. 2022), element by element.

    (w₊ + w₋) / (w₊ / fid₊ + w₋ / (1 − fid₋)): high where an explanation is both necessary and sufficient, 0 where it is not
    necessary at all or not sufficient at all. NaN where fid₊ is negative or fid₋ is above 1, for which a harmonic mean is
    not defined. GraphFramEx takes it of the means over a data set: ``characterization_score(f.plus.mean, f.minus.mean)``.

    Args:
        plus: fidelity+, of any shape, or a number.
        minus: fidelity−, of that shape.
        weights: w₊ and w₋, of any sum.

    Raises:
        InputError: if weights are not positive.

    >>> characterization_score(torch.tensor([0.6, 0.8, -0.1]), torch.tensor([0.3, 0.2, 0.2]))
    tensor([0.6462, 0.8000,    nan])
    """
    two = isinstance(weights, Sequence) and len(weights) == 2
    if not two or not all(is_number(weight, "(0, inf)") for weight in weights):
        raise InputError(f"expected weights as two positive numbers, of fidelity+ and of fidelity−, got {weights!r}")
    plus, minus = _fidelities(plus), _fidelities(minus)
    enough = 1 - minus
    score = sum(weights) / (weights[0] / plus + weights[1] / enough)
    return torch.where((plus >= 0) & (enough >= 0), score, torch.nan)


def _fidelities(values: Any) -> Tensor:
    try:
        tensor = (
            values if isinstance(values, Tensor) else torch.as_tensor(values)
        )  # else it moves to the default device
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"expected fidelities as a tensor or a number, got {values!r}") from error
    if tensor.layout != torch.strided or tensor.is_complex():
        raise InputError(f"expected fidelities as a dense tensor of numbers, got {tensor.dtype} in {tensor.layout}")
    return tensor if tensor.is_floating_point() else tensor.float()


@takes_prepared
def characterization(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    weights: tuple[float, float] = (0.5, 0.5),
    kind: FidelityKind = "probability",
    labels: Any = None,
    absolute: bool = False,
    top: Top | None = None,
    level: MaskLevel = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """The characterization score of every instance: `characterization_score` of its fidelity+ and fidelity−.

    Higher is better. NaN where either is not defined, or the score of them is not.

    Args:
        model, data, explanations, kind, labels, absolute, top, level, removal, forward, batch_budget: as in `fidelity`.
        weights: as in `characterization_score`.

    Raises:
        InputError: as in `fidelity` and `characterization_score`.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> characterization(karate.model, karate.data, explanations, top=4, level="edge")
    characterization 0.6379 ± 0.1040 (n=3, higher is better)
    """
    check_top(top, optional=True)
    loss, hard = Loss(kind, absolute), top is not None
    rerun = Rerun(model, data, explanations, forward, batch_budget, level, removal, loss, labels, hard)
    parts = _fidelity(rerun, top)
    score = characterization_score(parts.plus.values, parts.minus.values, weights)
    return Result(loss.named("characterization"), score, "higher")
