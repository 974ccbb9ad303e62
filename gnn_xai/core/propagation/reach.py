"""How far a model sees: the longest chain of `propagate` calls that depend on one another.

Calls side by side (heads, relations, a layer for each time step on its own input) take a message one step, however many
they are. What depends on what is read off autograd's graph of one forward pass: every tensor that enters a call is marked
with the number of the call, and the chains of marks are followed back from the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch_geometric.nn import MessagePassing


@dataclass(frozen=True)
class Reach:
    """How the calls of a forward pass depend on one another.

    Attributes:
        steps: length of the longest chain of calls, in hops.
        remaining: for each call, the length of the longest chain of calls that depend on it: 0 for a last one, -1 for one
            that the output does not depend on.
    """

    steps: int
    remaining: tuple[int, ...]

    @classmethod
    def chain(cls, counted: Sequence[bool]) -> Reach:
        """The calls that are `counted`, one after the other: what holds where dependence is not known."""
        after = [sum(counted[number + 1 :]) for number in range(len(counted))]
        return cls(sum(counted), tuple(after))


class Marks:
    """The marks of one forward pass, see `marked`."""

    def __init__(self) -> None:
        self._calls = 0
        self._token: Tensor | None = None

    def enter(self, module: nn.Module, inputs: tuple[Any, Any, dict[str, Any]]) -> tuple[Any, Any, dict[str, Any]]:
        """Mark what enters a call."""
        edge_index, size, arguments = inputs
        number, self._calls = self._calls, self._calls + 1

        def mark(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout != torch.strided:
                return value
            if self._token is None or self._token.device != value.device:
                self._token = torch.zeros((), device=value.device, requires_grad=True)
            return _Mark.apply(value, self._token, number)

        return edge_index, size, tree_map(mark, arguments)

    def reach(self, out: Tensor, counted: Sequence[bool], unused: bool = False) -> Reach:
        """The dependence of the calls that are `counted` (those over the graph's edges) and that `out` is computed from.

        Where a call left no trace in `out`, it ran under `torch.no_grad` or was detached, and all count as one chain; or it
        may be `unused`, as are those of a heterogeneous graph's last layer that lead to other types of nodes.
        """
        if len(counted) != self._calls:
            return Reach.chain(counted)
        before = _calls_before(out, self._calls)
        without = [number for number, counts in enumerate(counted) if counts and number not in before]
        if without and not (unused and before):
            return Reach.chain(counted)
        depth, remaining = [0] * self._calls, [0] * self._calls
        for number in range(self._calls):  # calls run in an order in which each follows those that it depends on
            earlier = [other for other in range(number) if before.get(number, 0) >> other & 1]
            depth[number] = counted[number] + max((depth[other] for other in earlier), default=0)
        for number in reversed(range(self._calls)):
            later = [other for other in before if other > number and before[other] >> number & 1]
            remaining[number] = max((counted[other] + remaining[other] for other in later), default=0)
        for number in without:
            depth[number], remaining[number] = 0, -1
        return Reach(max(depth, default=0), tuple(remaining))


@contextmanager
def marked(model: nn.Module) -> Iterator[Marks]:
    """Mark what enters the calls of `propagate` of a forward pass that runs with gradients."""
    marks, handles = Marks(), []
    try:
        layers = [module for module in model.modules() if isinstance(module, MessagePassing)]
        handles += [layer.register_propagate_forward_pre_hook(marks.enter) for layer in layers]
        yield marks
    finally:
        for handle in handles:
            handle.remove()


class _Mark(torch.autograd.Function):
    """The identity, which remembers the call whose argument it is."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, token: Tensor, number: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.number = number
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, None, None


def _calls_before(out: Tensor, count: int) -> dict[int, int]:
    """For every call that `out` depends on, those before it that it depends on itself, as bits of a number."""
    below: dict[Any, int] = {}  # by node of autograd's graph: the calls among what it was computed from
    before: dict[int, int] = {}
    stack = [] if out.grad_fn is None else [(out.grad_fn, False)]
    while stack:
        node, ready = stack.pop()
        if node in below:
            continue
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if not ready:
            stack += [(node, True), *((parent, False) for parent in parents if parent not in below)]
            continue
        calls = 0
        for parent in parents:
            calls |= below[parent]
        number = getattr(node, "number", None) if "_Mark" in node.name() else None
        if number is not None:
            before[number] = before.get(number, 0) | calls & ~(1 << number)
            calls |= 1 << number
        below[node] = calls
    return before
