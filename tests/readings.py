"""What outputs of models say: naive readings for every task, of one output at a time."""

from __future__ import annotations

import math

from scipy.stats import entropy
from torch import Tensor


def probability(task: str, out: Tensor, target: int) -> float:
    """Of a class, or of a label being on; the value of a regression."""
    if task == "regression":
        return float(out[target])
    if task == "multi-label":
        return float(out[target].sigmoid())
    if task.startswith("binary"):
        on = float(out[0]) if "probabilities" in task else float(out[0].sigmoid())
        return on if target == 1 else 1 - on
    if task == "probabilities":
        return float(out[target])
    return float(out.softmax(0)[target])


def says(task: str, out: Tensor, target: int) -> bool:
    """Whether an output names a class, or says that a label is on."""
    if task == "multi-label":
        return float(out[target]) > 0
    if task.startswith("binary"):
        return (probability(task, out, 1) > 0.5) == (target == 1)
    return int(out.argmax()) == target


def lost(task: str, kind: str, before: Tensor, after: Tensor, target: int, truth: Tensor) -> float:
    """What a prediction loses from one output to another; `truth` is the true class, value, or all labels."""
    if kind == "probability":
        change = probability(task, before, target) - probability(task, after, target)
        return abs(change) if task == "regression" else change
    if kind == "label":
        return float(not says(task, after, target)) if says(task, before, target) else math.nan
    true = float(truth[target] if truth.dim() else truth)
    if math.isnan(true):
        return math.nan
    if task == "regression":
        return abs(float(after[target]) - true) - abs(float(before[target]) - true)
    if kind == "phenomenon_label":
        if task == "multi-label":
            right = [says(task, out, target) == (true == 1) for out in (before, after)]
        else:
            right = [says(task, out, int(true)) for out in (before, after)]
        return float(right[0]) - float(right[1])
    if task == "multi-label":
        sign = 1 if true == 1 else -1
        return sign * (probability(task, before, target) - probability(task, after, target))
    return probability(task, before, int(true)) - probability(task, after, int(true))


def distributions(task: str, out: Tensor) -> list[list[float]]:
    """The distributions that an output stands for: one over classes, or one for each label."""
    if task in ("multiclass", "log-probabilities", "probabilities"):
        return [[probability(task, out, c) for c in range(len(out))]]
    return [
        [1 - p, p] for p in (probability(task, out, c) for c in range(len(out) if len(out) > 1 else 2)[-len(out) :])
    ]


def unfaithful(task: str, before: Tensor, after: Tensor, reverse: bool, scale: float) -> float:
    """1 − exp(−KL) from one output to another."""
    if task == "regression":
        return 1 - math.exp(-float(((before - after) / scale).square().sum() / 2))
    pairs = zip(distributions(task, before), distributions(task, after), strict=True)
    return 1 - math.exp(-sum(entropy(q, p) if reverse else entropy(p, q) for p, q in pairs))
