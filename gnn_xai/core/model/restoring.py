"""Giving the user's model back as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gnn_xai.core.model.leftovers import without_leftovers


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode without caches, and give it back bit for bit, whatever happens inside.

    Restored are the `training` flag of every submodule, buffers, `.grad` of parameters, tensors that modules hold as plain
    attributes, the caches of layers such as `GCNConv(cached=True)`, and the state of PyTorch's random number generators.
    Inside, the model computes in the precision of its parameters, whatever `torch.autocast` says outside, and without what
    other explainers left on it.

    Raises:
        InputError: if another explainer left something that cannot be taken off for certain.
    """
    modules = list(model.modules())
    with _restored(modules), ExitStack() as stack:
        stack.enter_context(without_leftovers(model, modules))
        devices = {p.device for module in modules for p in module._parameters.values() if p is not None}
        cuda = sorted({device.index for device in devices if device.type == "cuda"})
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        for kind in {device.type for device in devices} | {"cpu"}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if compiled(modules):  # a compiled graph skips hooks that are newer than itself
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(module.training for module in modules):
            model.eval()
        for module in modules:
            # A cache belongs to the graph it was made from; on any other graph it would silently stand in for it.
            for name in [name for name in vars(module) if "cached" in name and _caches(name)]:
                setattr(module, name, False if name == "cached" else None)
        yield


@contextmanager
def _restored(modules: Sequence[nn.Module]) -> Iterator[None]:
    before = [dict(vars(module)) for module in modules]
    buffers = [
        (module._buffers, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    grads = [(p, p.grad) for module in modules for p in module._parameters.values() if p is not None]
    try:
        yield
    finally:
        for module, attributes in zip(modules, before, strict=True):
            _restore(vars(module), attributes)
        with torch.no_grad():
            for place, name, buffer, value in buffers:
                place[name] = buffer  # a forward may have put another tensor in its place
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for parameter, grad in grads:
            parameter.grad = grad


def _restore(state: dict[str, Any], before: dict[str, Any]) -> None:
    """Put back the attributes of a module that are flags, tensors or caches."""
    changed = [name for name, value in state.items() if before.get(name, state) is not value]
    for name in [*changed, *(before.keys() - state.keys())]:
        value = before.get(name)
        if name == "training" or _caches(name) or isinstance(value, Tensor) or isinstance(state.get(name), Tensor):
            if name in before:
                state[name] = value
            else:
                del state[name]


def _caches(name: str) -> bool:
    return name == "cached" or name.startswith("_cached")


def compiled(modules: Iterable[nn.Module]) -> bool:
    """Whether `torch.compile` took part in any of a model's modules."""
    return any(
        "_orig_mod" in module._modules or vars(module).get("_compiled_call_impl") is not None for module in modules
    )
