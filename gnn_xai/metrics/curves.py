"""Fidelity over the number of elements that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.metrics.evaluation import MaskLevel, Part, Rerun
from gnn_xai.metrics.faithfulness import characterization_score
from gnn_xai.metrics.losses import FidelityKind, Loss
from gnn_xai.metrics.prepared import takes_prepared
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import Top, as_tops
from gnn_xai.results.explanations import Explanations

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class FidelityCurve:
    """Fidelity+ and fidelity− of B explanations at K sizes.

    Attributes:
        top: `[K]` float64, ascending: how many of the strongest elements make the explanation, or which share of them.
        sparsity: `[B, K]` float64, the share of elements that are left out; NaN where an instance has none.
        plus: `[B, K]` fidelity+, what the prediction loses without the explanation.
        minus: `[B, K]` fidelity−, what it loses with nothing but the explanation.
    """

    top: Tensor
    sparsity: Tensor
    plus: Tensor
    minus: Tensor

    def __repr__(self) -> str:
        return f"FidelityCurve({len(self.plus)} explanations at {', '.join(f'{x:g}' for x in self.top.tolist())})"

    @property
    def auc(self) -> Result:
        """The area under the characterization score over `top`, per instance, by trapezoids.

        Higher is better, and what is no worse at any size has no smaller area. A negative fidelity+ and a fidelity− above 1
        count as 0 and 1, for which the score is 0; NaN where one of them is not defined. PyG's `fidelity_curve_auc`, after
        Amara et al. (2022), is another area, that under fidelity+ / (1 − fidelity−): it grows with fidelity−, which is
        better the lower it is, so methods cannot be ranked by it.
        """
        score = characterization_score(self.plus.clamp(min=0), self.minus.clamp(max=1))
        return Result("fidelity-curve AUC", self._area(score), "higher")

    @property
    def plus_auc(self) -> Result:
        """The area under fidelity+ over `top`, by trapezoids, per instance; higher is better."""
        return Result("fidelity+ AUC", self._area(self.plus), "higher")

    @property
    def minus_auc(self) -> Result:
        """The area under fidelity− over `top`, by trapezoids, per instance; lower is better."""
        return Result("fidelity− AUC", self._area(self.minus), "lower")

    def _area(self, values: Tensor) -> Tensor:
        return torch.trapezoid(values, self.top.to(values.dtype), dim=1)


@takes_prepared
def fidelity_curve(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    top: Sequence[Top] = SHARES,
    kind: FidelityKind = "probability",
    labels: Any = None,
    absolute: bool = False,
    level: MaskLevel = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> FidelityCurve:
    """Fidelity+ and fidelity− at several sizes of the explanation, all in one pass through the data.

    Args:
        model, data, explanations, kind, labels, absolute, level, removal, forward, batch_budget: as in `fidelity`.
        top: two or more sizes, ascending: shares of the elements, or numbers of them.

    Raises:
        InputError: as in `fidelity`; if `top` is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> curve = fidelity_curve(karate.model, karate.data, explanations, top=[0.05, 0.1, 0.5, 1.0], level="edge")
    >>> curve.plus
    tensor([[0.1218, 0.7018, 0.8655, 0.8929],
            [0.3739, 0.6336, 0.5796, 0.5796],
            [0.7058, 0.7196, 0.6796, 0.6796]])
    >>> curve.auc
    fidelity-curve AUC 0.7778 ± 0.0424 (n=3, higher is better)
    """
    loss = Loss(kind, absolute)
    return _curve(Rerun(model, data, explanations, forward, batch_budget, level, removal, loss, labels), top)


def _curve(rerun: Rerun, top: Sequence[Top]) -> FidelityCurve:
    tops = _ascending(top)

    def measure(part: Part) -> Tensor:
        kept, dropped = part.loss(part.selected(tops)).unbind(1)
        return torch.stack([dropped.double(), kept.double(), 1 - part.shares(tops)], dim=1)

    plus, minus, sparsity = rerun.measure(measure).unbind(1)
    dtype = rerun.explanations.prediction.dtype
    at = torch.tensor(tops, dtype=torch.float64, device=plus.device)
    return FidelityCurve(at, sparsity, plus.to(dtype), minus.to(dtype))


@takes_prepared
def fidelity_curve_auc(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    top: Sequence[Top] = SHARES,
    kind: FidelityKind = "probability",
    labels: Any = None,
    absolute: bool = False,
    level: MaskLevel = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """The area under the characterization score over the size of the explanation: `FidelityCurve.auc`.

    Args:
        model, data, explanations, top, kind, labels, absolute, level, removal, forward, batch_budget: as in
            `fidelity_curve`.

    Raises:
        InputError: as in `fidelity_curve`.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> fidelity_curve_auc(karate.model, karate.data, explanations, level="edge")
    fidelity-curve AUC 0.7499 ± 0.0522 (n=3, higher is better)
    """
    loss = Loss(kind, absolute)
    return _curve(Rerun(model, data, explanations, forward, batch_budget, level, removal, loss, labels), top).auc


def _ascending(top: Sequence[Top]) -> tuple[Top, ...]:
    tops = as_tops(top)
    same = len({type(size) for size in tops}) == 1
    if len(tops) < 2 or not same or any(one >= other for one, other in zip(tops, tops[1:], strict=False)):
        raise InputError(
            f"expected top as two or more sizes in ascending order, all of them ints or all of them fractions, got {top!r}"
        )
    return tops
