"""Giving the user's model back as it was, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, overrides
from torch.utils import _python_dispatch

from gnn_xai.core.model.leftovers import take_off_leftovers


class untouched:  # noqa: N801 - read as a word of a with statement
    """Runs a model in evaluation mode without caches, and gives it back bit for bit, whatever happens inside.

    ```python
    with untouched(model) as evaluating, evaluating:
        ...
    ```

    The first `with` only reads the state, the second changes it; each puts it back, so that an interrupt at any moment, also
    between two steps of the second, leaves the model as it was.

    Restored are the `training` flag of every submodule, buffers, `.grad` of parameters, tensors that modules hold as plain
    attributes, hooks, the caches of layers such as `GCNConv(cached=True)`, the random number generators of PyTorch, numpy
    and Python, PyTorch's switches for gradients and `autocast`, and its stacks of modes that replace functions. Inside, the
    model computes in the precision of its parameters, whatever `torch.autocast` says outside, without what other explainers
    left on it, and a `backward()` of its own finds no `.grad` to add to.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> _Evaluating:
        self._evaluating = _Evaluating(self.model)
        return self._evaluating

    def __exit__(self, *raised: object) -> None:
        self._evaluating.restore()


class _Evaluating:
    """The state of a model, and of PyTorch's switches, as they were when this was made."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.modules, self.stance = model, list(model.modules()), ExitStack()
        self.attributes = [_State(module) for module in self.modules]
        self.buffers = [
            (module._buffers, name, buffer, buffer.clone())
            for module in self.modules
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        parameters = [p for module in self.modules for p in module._parameters.values() if p is not None]
        self.grads = [(p, p.grad) for p in parameters]
        devices = {p.device for p in parameters}
        self.cuda = {device: torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"}
        self.generators = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - the model's own
        kinds = sorted({device.type for device in devices} | {"cpu"})
        self.autocast = [kind for kind in kinds if torch.is_autocast_enabled(kind)]
        self.gradients = torch.is_grad_enabled()
        self.modes = _modes(overrides), _modes(_python_dispatch)

    def __enter__(self) -> None:
        take_off_leftovers(self.model, self.modules)
        for kind in self.autocast:
            torch.set_autocast_enabled(kind, False)
        if compiled(self.modules):  # a compiled graph skips hooks that are newer than itself
            self.stance.enter_context(torch.compiler.set_stance("force_eager"))
        if any(module.training for module in self.modules):
            self.model.eval()
        for module in self.modules:
            # A cache belongs to the graph it was made from; on any other graph it would silently stand in for it.
            for name in [name for name in vars(module) if "cached" in name and _caches(name)]:
                setattr(module, name, False if name == "cached" else None)
        for parameter, grad in self.grads:
            if grad is not None:
                parameter.grad = None

    def __exit__(self, *raised: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Put everything back; a second time changes nothing."""
        for stack, modes in zip((overrides, _python_dispatch), self.modes, strict=True):
            _restore_stack(stack, modes)  # first, as tensors are compared below
        for state in self.attributes:
            state.restore()
        for place, name, buffer, value in self.buffers:
            place[name] = buffer  # a forward may have put another tensor in its place
            if not torch.equal(buffer, value):
                buffer.detach().copy_(value)
        for parameter, grad in self.grads:
            parameter.grad = grad
        self.stance.close()
        for kind in self.autocast:
            torch.set_autocast_enabled(kind, True)
        for device, state in self.cuda.items():
            torch.cuda.set_rng_state(state, device)
        of_torch, of_numpy, of_python = self.generators
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
        torch.set_grad_enabled(self.gradients)


def _restore_stack(stack: Any, modes: list[Any]) -> None:
    """Put back a stack of modes of PyTorch, which replace functions while a context is open."""
    now = _modes(stack)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], zip(now, modes, strict=False)))
    for _ in now[same:]:
        stack._pop_mode()
    for mode in modes[same:]:
        stack._push_mode(mode)


def _modes(stack: Any) -> list[Any]:
    if stack is overrides:
        return overrides._get_current_function_mode_stack()
    return _python_dispatch._get_current_dispatch_mode_stack()


class _State:
    """The attributes of a module that are flags, tensors, caches, hooks, or what explainers change."""

    def __init__(self, module: nn.Module) -> None:
        self.now, self.before = vars(module), dict(vars(module))
        hooks = [value for name, value in self.before.items() if "_hooks" in name and isinstance(value, dict)]
        self.filled = [(value, dict(value)) for value in hooks if value]
        self.empty = [value for value in hooks if not value]

    def restore(self) -> None:
        """Put them back."""
        now, before = self.now, self.before
        changed = [name for name, value in now.items() if before.get(name, now) is not value]
        for name in [*changed, *(before.keys() - now.keys())]:
            value = before.get(name)
            if _kept(name) or isinstance(value, Tensor) or isinstance(now.get(name), Tensor):
                if name in before:
                    now[name] = value
                else:
                    del now[name]
        for hooks in self.empty:
            hooks.clear()
        for hooks, content in self.filled:
            if hooks != content:
                hooks.clear()
                hooks.update(content)


_EXPLAINED = {"training", "propagate", "edge_updater", "_explain", "_user_args", "_is_full_backward_hook"}


def _kept(name: str) -> bool:
    """Whether an attribute of a module is put back whatever it holds."""
    return name in _EXPLAINED or "_hooks" in name or _caches(name)


def _caches(name: str) -> bool:
    return name == "cached" or name.startswith("_cached")


def compiled(modules: Iterable[nn.Module]) -> bool:
    """Whether `torch.compile` took part in any of a model's modules."""
    return any(
        "_orig_mod" in module._modules or vars(module).get("_compiled_call_impl") is not None for module in modules
    )
