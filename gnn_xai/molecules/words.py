"""What is said below the picture of a molecule: prediction, fragments, fidelity, and what attributions add up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from gnn_xai.core.model.problem import score_of
from gnn_xai.molecules.fragments import scored
from gnn_xai.molecules.sums import Sum, sum_of, unit_of
from gnn_xai.molecules.tables import name_of
from gnn_xai.results.explanations import Explanation
from gnn_xai.viz.captions import describe, probabilities
from gnn_xai.viz.color import signed_text


class Words(NamedTuple):
    """What stands below one molecule.

    Attributes:
        name: of the molecule.
        prediction: in words, with its unit.
        fragments: the strongest, with their attributions.
        fidelity: in words; `""` for a regression.
        parts: what attributions add up to; `None` where they do not add up.
        sum: the same in words, or `""`.
    """

    name: str
    prediction: str
    fragments: list[tuple[str, float]]
    fidelity: str
    parts: Sum | None
    sum: str


def words_of(
    explanation: Explanation, class_names: Sequence[str] | None = None, unit: str = "", most: int = 1
) -> Words:
    """The words below a molecule. Those on fidelity are for classes alone: of a regression they would be differences in its
    unit, without a limit that they could be compared with.

    Args:
        explanation: of a molecule.
        class_names, unit: as in `grid`.
        most: fragments that are named.
    """
    parts, unit = sum_of(explanation), unit_of(explanation, unit)
    prediction, fidelity = prediction_of(explanation, class_names), ""
    if explanation.source.task.mode.value == "regression":
        prediction = f"{prediction} {unit}".rstrip()
    else:
        plus, minus = map(_rounded, fidelity_of(explanation))
        fidelity = f"fidelity+ {plus}, fidelity− {minus}"
    added_up = "" if parts is None else f"{parts} {unit}".rstrip()
    named = strongest_fragments(explanation, most)
    return Words(name_of(explanation), prediction, named, fidelity, parts, added_up)


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")  # + 0.0 makes −0 a 0


def prediction_of(explanation: Explanation, class_names: Sequence[str] | None = None) -> str:
    """The prediction in words, with the explained class if it is another one."""
    return describe(explanation, class_names).partition(" · ")[2]


def fidelity_of(explanation: Explanation) -> tuple[float, float]:
    """Fidelity+ and fidelity− of the explanation as a soft mask, from the outputs that it carries."""
    outputs = explanation.prediction, explanation.prediction_masked, explanation.prediction_complement
    full, masked, complement = (_value(explanation, output) for output in outputs)
    plus, minus = full - complement, full - masked
    regression = explanation.source.task.mode.value == "regression"
    return (abs(plus), abs(minus)) if regression else (plus, minus)


def _value(explanation: Explanation, output: Tensor) -> float:
    """The probability of the target for an output `[C]`, or the value of a regression."""
    return float(score_of(explanation.source.task, output.detach().unsqueeze(0), explanation.target, "prob"))


def predicted(explanation: Explanation) -> dict[str, float]:
    """The prediction as numbers: the value of a regression; else the predicted class and the probability of the explained
    one.
    """
    value, task = _value(explanation, explanation.prediction), explanation.source.task
    if task.mode.value == "regression":
        return {"prediction": value}
    probability = probabilities(explanation.prediction.detach().cpu().double().numpy(), task)
    label = int(probability[0] > 0.5) if len(probability) == 1 else int(probability.argmax())
    return {"prediction": label, "probability": value}


def strongest_fragments(explanation: Explanation, most: int = 1) -> list[tuple[str, float]]:
    """The fragments with the largest absolute attribution, the strongest first: functional groups and rings, which have
    names; where there are none, pieces of any kind.
    """
    pieces = scored(explanation, ("functional_groups", "rings")) or scored(explanation)
    return [(fragment.name, score) for fragment, score in pieces[:most]]


def in_words(explanation: Explanation, named: Iterable[tuple[str, float]]) -> list[str]:
    """Fragments with their attributions, in words."""
    return [f"{name} {signed_text(score, 2) if explanation.signed else f'{score:.2f}'}" for name, score in named]
