"""Giving the user's model back as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from gnn_xai.core.model.arguments import compiled
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
    with _restored(model), ExitStack() as stack:
        stack.enter_context(without_leftovers(model))
        devices = {parameter.device for parameter in model.parameters()}
        cuda = sorted({device.index for device in devices if device.type == "cuda"})
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        for kind in {device.type for device in devices} | {"cpu"}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if compiled(model):  # a compiled graph skips hooks that are newer than itself
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        model.eval()
        for module in model.modules():
            # A cache belongs to the graph it was made from; on any other graph it would silently stand in for it.
            for name in [name for name in vars(module) if _caches(name)]:
                setattr(module, name, False if name == "cached" else None)
        yield


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    modules = list(model.modules())
    training = [module.training for module in modules]
    held = [{name: value for name, value in vars(m).items() if _held(name, value)} for m in modules]
    buffers = [
        (module._buffers, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, flag, attributes in zip(modules, training, held, strict=True):
            module.training = flag
            state = vars(module)
            for name in [name for name, value in state.items() if _held(name, value) and name not in attributes]:
                del state[name]
            state.update(attributes)
        with torch.no_grad():
            for place, name, buffer, value in buffers:
                place[name] = buffer  # a forward may have put another tensor in its place
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for parameter, grad in grads:
            parameter.grad = grad


def _caches(name: str) -> bool:
    return name == "cached" or name.startswith("_cached")


def _held(name: str, value: object) -> bool:
    return isinstance(value, Tensor) or _caches(name)
