"""Captions: an instance, its prediction and its explained class in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gnn_xai.errors import InputError

if TYPE_CHECKING:
    from torch_geometric.explain.config import ModelConfig

    from gnn_xai.results.explanations import Explanation


def describe(explanation: Explanation, class_names: Sequence[str] | None = None) -> str:
    """The instance, its prediction, and the explained class if it is another one, in one line."""
    return ", ".join(filter(None, caption(explanation, class_names)))


def caption(explanation: Explanation, class_names: Sequence[str] | None) -> tuple[str, str]:
    """The instance and its prediction; the explained class, or "" where it is the predicted one."""
    head = explanation.name
    output = np.atleast_1d(np.asarray(explanation.prediction.detach().cpu(), dtype=float))
    target = explanation.target
    if explanation.source.task.mode.value == "regression":
        column = f" (output {target})" if len(output) > 1 else ""
        value = f"{output[target]:.3g}".replace("-", "\N{MINUS SIGN}")
        return f"{head} · predicted {value}{column}", ""

    def name(label: int) -> str:
        return str(class_names[label]) if class_names is not None else f"class {label}"

    probability = probabilities(output, explanation.source.task)
    if len(output) == 1:  # one column: the probability of class 1
        probability = np.array([1.0 - probability[0], probability[0]])
    if class_names is not None and len(class_names) < len(probability):
        raise InputError(f"expected class_names for {len(probability)} classes, got {len(class_names)}")
    predicted = int(probability.argmax())
    text = f"{head} · predicted {name(predicted)} (p = {probability[predicted]:.2f})"
    if target == predicted:
        return text, ""
    return text, f"explained {name(target)} (p = {probability[target]:.2f})"


def explained_nodes(explanation: Explanation) -> list[Any]:
    """The explained nodes, named as `explanation.nodes` names them; none where a graph is explained."""
    kind = explanation.source.explained_type
    if isinstance(kind, tuple):  # the two ends of a relation
        return list(dict.fromkeys(zip(kind[::2], explanation.roots, strict=True)))
    return [node if kind is None else (kind, node) for node in dict.fromkeys(explanation.roots)]


def probabilities(output: np.ndarray, task: ModelConfig) -> np.ndarray:
    """Probabilities `[C]` of the classes from a classifier's output `[C]`."""
    kind = task.return_type.value
    if kind == "probs":
        return output
    if kind == "log_probs":
        return np.exp(output)
    if len(output) == 1 or task.mode.value == "binary_classification":
        return 1.0 / (1.0 + np.exp(-output))
    shifted = np.exp(output - output.max())
    return shifted / shifted.sum()
