"""Attention weights of the layers of a model, read while it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.inputs.hooks import Hook, hooked
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.calls import Call


class Attended(NamedTuple):
    """One call of `propagate`, and the attention weight of each of its messages, by head.

    Attributes:
        number: of the call within the forward pass.
        call: how the graph's edges lie in it.
        weights: of its messages.
    """

    number: int
    call: Call
    weights: Float[Tensor, "messages heads"]


def attention(problem: Problem, replicas: Replicas) -> tuple[list[Attended], int]:
    """The calls of one forward pass that have attention weights, in order, and how many calls there are in all.

    Weights are what a layer hands to its messages as `alpha`, or keeps as `_alpha` (`TransformerConv`), or else the last
    softmax over the messages of a node that it takes in the call (`HGTConv`, `HANConv`, `SuperGATConv`).
    """
    seen: dict[int, Tensor] = {}
    layers = [module for module, _ in problem.layers.passing]
    count = 0

    def message(module: MessagePassing, inputs: Any, out: Any) -> None:
        weights = inputs[0].get("alpha")
        if weights is None:
            weights = getattr(module, "_alpha", None)
        if weights is None:
            weights = last.get("softmax")
        if isinstance(weights, Tensor):
            seen[count - 1] = weights.detach()

    def enter(module: MessagePassing, inputs: Any) -> None:
        nonlocal count
        count += 1
        last.clear()  # what another layer took

    hooks = [Hook(module._propagate_forward_pre_hooks, enter) for module in layers]
    hooks += [Hook(module._message_forward_hooks, message) for module in layers]
    with (
        torch.no_grad(),
        MaskedModel(problem, replicas, forms=False) as model,
        hooked(hooks),
        _softmaxes(layers) as last,
    ):
        model()
        calls = model.trace.calls
    found = []
    for number, call in enumerate(calls):
        weights = seen.get(number)
        if weights is None or call.gather is None or weights.size(0) != len(call.gather):
            continue
        if bool((weights >= 0).all()) and bool((weights <= 1 + 1e-5).all()):  # FAConv's are signed
            found.append(Attended(number, call, weights.reshape(len(weights), -1)))
    return found, len(calls)


@contextmanager
def _softmaxes(layers: list[MessagePassing]) -> Iterator[dict[str, Tensor]]:
    """Keep the last result of PyG's softmax where the classes of layers call it by that name."""
    last: dict[str, Tensor] = {}

    def listening(*args: Any, **kwargs: Any) -> Tensor:
        last["softmax"] = softmax(*args, **kwargs)
        return last["softmax"]

    classes = {cls for module in layers for cls in type(module).__mro__}
    places = [vars(sys.modules[cls.__module__]) for cls in classes if cls.__module__ in sys.modules]
    places = [place for place in places if place.get("softmax") is softmax]
    try:
        for place in places:
            place["softmax"] = listening
        yield last
    finally:
        for place in places:
            place["softmax"] = softmax
