"""Losses of a prediction: the four published meanings of fidelity, and the true labels that two of them need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch_geometric.explain.config import ModelMode

from gnn_xai._checks import flag, one_of
from gnn_xai.core.model.problem import Problem
from gnn_xai.errors import InputError
from gnn_xai.results.explanations import Explanations

FidelityKind = Literal["probability", "label", "phenomenon_probability", "phenomenon_label"]


@dataclass(frozen=True)
class Loss:
    """The loss of a prediction between one output and another.

    Attributes:
        kind: as in `gnn_xai.metrics.fidelity`.
        absolute: its size alone.
    """

    kind: FidelityKind = "probability"
    absolute: bool = False

    def __post_init__(self) -> None:
        one_of(self.kind, "kind", get_args(FidelityKind))
        flag(self.absolute, "absolute")
        if self.absolute and not self.phenomenon:
            raise InputError(
                f"absolute=True is published for the phenomenon kinds alone, got kind={self.kind!r}; leave it out, or pass "
                "kind='phenomenon_probability' or 'phenomenon_label'"
            )

    @property
    def phenomenon(self) -> bool:
        """True labels are compared with, not the model's own prediction."""
        return self.kind.startswith("phenomenon")

    def named(self, name: str) -> str:
        """The name of a metric of this loss."""
        return name if self.kind == "probability" else f"{name} ({self.kind.replace('_', ' ')})"

    def check(self, explanations: Explanations, labels: Any) -> None:
        """Raise unless it is defined for such explanations."""
        if self.kind.endswith("label") and explanations.task.mode == ModelMode.regression:
            instead = self.kind.replace("label", "probability")
            raise InputError(f"kind={self.kind!r} is not defined for a regression; use kind={instead!r}")
        if self.phenomenon and labels is None:
            raise InputError(
                f"kind={self.kind!r} compares with the true labels, got labels=None; pass labels=data.y, or use kind="
                f"{self.kind.removeprefix('phenomenon_')!r}, which compares with the model's own prediction"
            )

    def between(self, problem: Problem, before: Tensor, after: Tensor, target: Tensor, truth: Tensor | None) -> Tensor:
        """The loss from outputs `[R, C]` to others, `[R]`; NaN where it is not defined.

        Args:
            problem: how to read an output.
            before, after: the outputs.
            target: `[R]` explained targets.
            truth: `[R]` the true class, label or value, for the phenomenon kinds.
        """
        if self.kind == "label":
            named, still = _names(problem, before, target), _names(problem, after, target)
            change = torch.where(named, (~still).to(before.dtype), torch.nan)
        elif self.kind == "probability":
            change = problem.score(before, target, "prob") - problem.score(after, target, "prob")
            change = change.abs() if problem.task.mode == ModelMode.regression else change
        else:
            assert truth is not None
            of_truth = _right if self.kind == "phenomenon_label" else _probability_of_truth
            change = of_truth(problem, before, target, truth) - of_truth(problem, after, target, truth)
        change = change.abs() if self.absolute else change
        return torch.where(after.isnan().any(1), torch.nan, change)


def _probability_of_truth(problem: Problem, out: Tensor, target: Tensor, truth: Tensor) -> Tensor:
    """The probability of what is true, `[R]`; for a regression, minus the distance from it."""
    if problem.task.mode == ModelMode.regression:
        return -(problem.score(out, target) - truth).abs()
    if _one_class(problem, out):
        probability = problem.score(out, truth.nan_to_num().long(), "prob")
    else:
        probability = problem.score(out, target, "prob")
        probability = torch.where(truth > 0, probability, 1 - probability)
    return torch.where(truth.isnan(), torch.nan, probability)


def _right(problem: Problem, out: Tensor, target: Tensor, truth: Tensor) -> Tensor:
    """1 where the model is right, else 0, `[R]`."""
    right = _names(problem, out, truth if _one_class(problem, out) else target)
    if not _one_class(problem, out):
        right = right == (truth > 0)
    return torch.where(truth.isnan(), torch.nan, right.to(out.dtype))


def _names(problem: Problem, out: Tensor, target: Tensor) -> Tensor:
    """Whether outputs name a class, or say that a label is on, `[R]` bool."""
    return problem.predicted(out) == target if _one_class(problem, out) else problem.label(out, target)


def _one_class(problem: Problem, out: Tensor) -> bool:
    """An output names one class; else each of its columns is a label that is on or off."""
    return problem.task.mode == ModelMode.multiclass_classification or out.size(1) == 1


def true_of(labels: Any, explanations: Explanations, problem: Problem) -> Tensor:
    """The true class, label or value of each explained output, `[B]` float64.

    Raises:
        InputError: if there is not one label for every output, or labels are not what the task has.
    """
    columns, mode = explanations.prediction.size(1), explanations.task.mode
    several = columns > 1 and mode != ModelMode.multiclass_classification
    count, which = problem.readout.labels(explanations.index, problem.graphs)
    shape = [count, *([columns] if several else [])]
    try:
        values = torch.as_tensor(labels, device=explanations.index.device).double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"expected labels as numbers of shape {shape}, got {type(labels).__name__}") from error
    values = values.squeeze(1) if values.dim() == 2 and values.size(1) == 1 else values
    if list(values.shape) != shape:
        raise InputError(
            f"expected labels of shape {shape}, for every {problem.readout.labelled}, got {list(values.shape)}; pass "
            f"labels={problem.readout.labels_at}"
        )
    values = values[which]
    if several:
        values = values.gather(1, explanations.target.unsqueeze(1)).squeeze(1)
    if mode != ModelMode.regression:
        count = 2 if several else problem.num_targets(columns)
        known = values[~values.isnan()]
        wrong = known[(known < 0) | (known >= count) | (known != known.floor())]
        if len(wrong):
            raise InputError(
                f"expected labels as whole numbers from 0 to {count - 1}, or NaN where unknown, got {float(wrong[0]):g}"
            )
    return values
