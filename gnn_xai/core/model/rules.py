"""Backward rules: while a model runs, functions keep their values and get other gradients.

Rules see functions of `torch` as they are called, within modules or by themselves, so that `x.relu()`, `F.relu(x)` and
`torch.nn.ReLU()` are one. Nothing is changed on the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from gnn_xai.errors import InputError

Rule = Callable[..., Tensor]
"""`(function, x, *others, **options) -> output`: the function's value at x, with another graph of autograd behind it."""

ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid", "logsigmoid",
    "tanh", "softplus", "softsign", "hardtanh", "hardsigmoid", "hardswish",
)  # fmt: skip
"""Functions of one number, by their names in `torch`."""

ATTENTION = ("exp", "attention_softmax")
"""What weights of attention are made by: PyG's softmax over the messages of a node, and that of fused layers."""


class Rules(TorchFunctionMode):
    """Runs functions by the rules of their names; in place, where they are."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.rules: Mapping[str, Rule] = rules

    def __exit__(self, *raised: Any) -> None:
        self.rules = {}  # an interrupt may leave it where PyTorch keeps modes, or take it away from there
        if any(mode is self for mode in _get_current_function_mode_stack()):
            super().__exit__(*raised)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        rule = self.rules.get(name.rstrip("_"))
        if rule is None or not (args and isinstance(args[0], Tensor) and args[0].is_floating_point()):
            return func(*args, **kwargs)
        x, *others = args
        in_place = name.endswith("_") or kwargs.get("inplace") is True

        def function(value: Tensor, *rest: Any, **options: Any) -> Tensor:
            return func(value.clone() if in_place else value, *rest, **options)

        out = rule(function, x.clone() if in_place else x, *others, **kwargs)
        return x.copy_(out) if in_place else out


def straight(value: Tensor, path: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """A value whose gradient is that of another path, times a factor."""
    return value.detach() + (path - path.detach()) * factor


def _positive(gradient: Tensor) -> Tensor:
    return gradient.relu()


def guided(function: Rule, x: Tensor, *others: Any, **options: Any) -> Tensor:
    """Pass back what is above 0, where x is above 0."""
    out = function(x, *others, **options)
    if out.requires_grad:
        out.register_hook(_positive)
    return out


def deconvolved(function: Rule, x: Tensor, *others: Any, **options: Any) -> Tensor:
    """Pass back what is above 0, wherever x is."""
    out = straight(function(x, *others, **options), x)
    if out.requires_grad:
        out.register_hook(_positive)
    return out


def constant(function: Rule, x: Tensor, *others: Any, **options: Any) -> Tensor:
    """Pass back nothing."""
    return function(x, *others, **options).detach()


def proportional(function: Rule, x: Tensor, *others: Any, **options: Any) -> Tensor:
    """Pass relevance back unchanged: gradients times f(x) / x."""
    value, zero = function(x, *others, **options), x == 0
    return straight(value, x, (value / x.masked_fill(zero, 1)).masked_fill(zero, 0).detach())


def linear(epsilon: float, gamma: float) -> Rule:
    """The rule of linear maps in layer-wise relevance propagation.

    Relevance is shared in proportion to what each input adds to an output z, of which parts of z's sign count 1 + γ times,
    and ε is absorbed.
    """

    def rule(function: Rule, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        value = path = function(x, weight, bias)
        if gamma:
            up, down = ((1 + gamma * sign) for sign in ((weight > 0), (weight < 0)))
            high, low = x.clamp(min=0), x.clamp(max=0)
            above = function(high, weight * up) + function(low, weight * down)
            below = function(high, weight * down) + function(low, weight * up)
            if bias is not None:
                above, below = above + bias + gamma * bias.clamp(min=0), below + bias + gamma * bias.clamp(max=0)
            path = torch.where(value > 0, above, below)
        whole = path + torch.where(path < 0, -epsilon, epsilon)
        zero = whole == 0
        return straight(value, path, (value / whole.masked_fill(zero, 1)).masked_fill(zero, 1).detach())

    return rule


def relevance(epsilon: float, gamma: float) -> Rules:
    """Layer-wise relevance propagation: relevance is gradient × value throughout."""
    pointwise = dict.fromkeys(ACTIVATIONS, proportional)
    return Rules({**pointwise, **dict.fromkeys(ATTENTION, constant), "linear": linear(epsilon, gamma)})


class Rescaling:
    """The rescale rule of DeepLIFT: gradients of activations are slopes between a first pass and the second."""

    def __init__(self) -> None:
        self.reference: list[tuple[Tensor, Tensor]] = []
        self.position = 0

    def rules(self, number: int) -> Rules:
        """Those of pass 0, which is the reference, and of pass 1."""
        self.position = 0
        if number == 0:
            self.reference.clear()
        return Rules(dict.fromkeys(ACTIVATIONS, self._keep if number == 0 else self._rescale))

    def _keep(self, function: Rule, x: Tensor, *others: Any, **options: Any) -> Tensor:
        out = function(x, *others, **options)
        self.reference.append((x.detach(), out.detach()))
        return out

    def _rescale(self, function: Rule, x: Tensor, *others: Any, **options: Any) -> Tensor:
        if self.position == len(self.reference) or self.reference[self.position][0].shape != x.shape:
            raise InputError(
                "expected a model that applies the same activations to its input and to zeros in its place, got one that "
                "does not; use gnn_xai.IntegratedGradients()"
            )
        x0, out0 = self.reference[self.position]
        self.position += 1
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            out = function(leaf, *others, **options)
            (slope,) = torch.autograd.grad(out.sum(), leaf)
        change = leaf.detach() - x0
        same = change.abs() <= 1e-6 * (x0.abs() + leaf.detach().abs())
        factor = torch.where(same, slope, (out.detach() - out0) / change.masked_fill(same, 1))
        return straight(out, x, factor)
