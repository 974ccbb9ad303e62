"""Sanity check: how far explanations change when the weights of a copy of the model are random."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from gnn_xai._checks import one_of
from gnn_xai.algorithms.base import Attributing
from gnn_xai.core.arrays.keyed_random import keyed_bits
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.model.arguments import eager
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.metrics.again import Again, explained
from gnn_xai.metrics.elements import ElementLevel, Elements, aligned, spearman
from gnn_xai.metrics.prepared import takes_prepared
from gnn_xai.metrics.result import Result
from gnn_xai.results.explanations import Explanations


@dataclass(frozen=True, eq=False)
class Stage:
    """Agreement of explanations before and after one step of randomisation.

    Attributes:
        layer: the layer that this step randomised, as `model.named_modules()` calls it.
        correlation: Spearman's rank correlation with the explanations of the trained model; lower is better.
        absolute: the same of absolute scores; lower is better.
    """

    layer: str
    correlation: Result
    absolute: Result


@dataclass(frozen=True, eq=False)
class Randomization:
    """The outcome of a model-randomisation check.

    Attributes:
        correlation: Spearman's rank correlation with the explanations of the trained model: at the last stage of a cascade,
            where every layer is random; else the mean over layers. Lower is better.
        absolute: the same of absolute scores. Lower is better.
        stages: layer by layer, from the output to the input.
    """

    correlation: Result
    absolute: Result
    stages: tuple[Stage, ...]


@takes_prepared
def model_randomization(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    algorithm: str | Attributing | None = None,
    *,
    order: Literal["cascading", "independent"] = "cascading",
    level: ElementLevel = "auto",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Randomization:
    """Model-randomisation check (Adebayo et al., NeurIPS 2018): rank correlation before and after, per instance and layer.

    The same targets are explained, with the same seed, on a copy of the model whose layers are random: from the output to
    the input one after the other, those before staying random (`cascading`), or each alone (`independent`). Spearman's
    correlation of the scores of each instance with those of the explanations, ties at their average rank, as they are and
    as absolute values. Lower is better: 1 says that the weights do not matter, as with `Random`, whose seed stays. Not
    defined, and NaN, where scores are constant.

    A layer is a message-passing layer with all that is in it, or any other module with parameters of its own; layers come in
    the order in which the model holds them, the last one first. It is re-initialised by its `reset_parameters`, and what
    that leaves as it was is drawn anew from a normal distribution with the parameter's mean and standard deviation
    (or, where that is 0, its size). The draws are keyed by the seed of the explanations and the layer. The model itself is
    not touched.

    Args:
        model, data, explanations, algorithm, level, forward, batch_budget: as in `gnn_xai.metrics.ges`.
        order: `cascading` or `independent`.

    Raises:
        InputError: if the model has no parameters or cannot be copied, if `forward` does not use the model it is given, if
            the explanations are not of this data, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> random = gx.explain(karate.model, karate.data, "random", index=range(4), progress=False)
    >>> check = model_randomization(karate.model, karate.data, random)  # its scores do not depend on the model
    >>> check.correlation
    edge randomised correlation 1.0000 ± 0.0000 (n=4, lower is better)
    >>> [stage.layer for stage in check.stages]
    ['convs.1', 'convs.0']
    """
    one_of(order, "order", ("cascading", "independent"))
    again = Again(model, data, explanations, algorithm, forward, batch_budget, level)
    explained(explanations, again.source)  # refuses other data
    trained = eager(again.module)
    names = [name for name, _ in _layers(trained)]
    if not names:
        raise InputError("expected a model with parameters, got one without any, so there is nothing to randomise")
    random = _copied(trained)
    stages, moved = [], False
    for number in reversed(range(len(names))):
        if order == "independent":
            random = _copied(trained)
        _randomize(_layers(random)[number][1], number, explanations.seed)
        repeated = again.explain(model=random)
        moved = moved or not torch.equal(repeated.prediction, explanations.prediction)
        stages.append(Stage(names[number], *_correlations(again.scored, again.elements(repeated))))
    if not moved:
        raise InputError(
            "the model's output is the same with random weights; forward= must call the model that it is given, not "
            "another one"
        )
    if order == "cascading":
        return Randomization(stages[-1].correlation, stages[-1].absolute, tuple(stages))
    return Randomization(
        _mean([stage.correlation for stage in stages]), _mean([stage.absolute for stage in stages]), tuple(stages)
    )


def _correlations(one: Elements, other: Elements) -> Iterator[Result]:
    """Rank correlations of scores and of absolute scores."""
    one, other = aligned(one, other)
    values = spearman(one.scores, other.scores, one.owner, one.size)
    yield Result(f"{one.level} randomised correlation", values, "lower")
    values = spearman(one.scores.abs(), other.scores.abs(), one.owner, one.size)
    yield Result(f"{one.level} randomised absolute correlation", values, "lower")


def _mean(results: list[Result]) -> Result:
    """Every instance's mean over the results that are defined for it."""
    values = torch.stack([result.values for result in results]).nanmean(0)
    return Result(results[0].name, values, results[0].better)


def _layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of a model by name, in its own order: message-passing layers as a whole, and what else has parameters."""
    layers: list[tuple[str, nn.Module]] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        whole = isinstance(module, MessagePassing)
        if module not in inside and any(True for _ in module.parameters(recurse=whole)):
            layers.append((name, module))
        if whole:
            inside.update(module.modules())
    return layers


def _randomize(layer: nn.Module, number: int, seed: int) -> None:
    """Give a layer new weights, drawn from the seed and its number."""
    whole = isinstance(layer, MessagePassing)
    parameters = list(layer.parameters(recurse=whole))
    before = [parameter.detach().clone() for parameter in parameters]
    reset = getattr(layer, "reset_parameters", None)
    devices = sorted({p.device.index for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(int(keyed_bits(seed, torch.tensor([number], device="cpu"))))
        # That of a module with layers inside may be about them, too.
        if callable(reset) and (whole or len(parameters) == len(list(layer.parameters()))):
            reset()
        for parameter, old in zip(parameters, before, strict=True):
            if parameter.is_floating_point() and torch.equal(parameter, old):
                _redraw(parameter)


def _redraw(parameter: Tensor) -> None:
    std, mean = torch.std_mean(parameter, correction=0)
    drawn = torch.randn_like(parameter)
    parameter.copy_(mean + std * drawn if std > 0 else mean * drawn)


def _copied(model: nn.Module) -> nn.Module:
    """A copy of the model that shares nothing with it.

    Raises:
        InputError: if it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} cannot be copied ({error}), and its own weights are not to be touched; let it hold no "
            "tensors that were computed with gradients"
        ) from error
