"""Giving the user's model back as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from gnn_xai.core.model.arguments import compiled


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode without caches, and give it back bit for bit, whatever happens inside.

    Restored are the `training` flag of every submodule, buffers, `.grad` of parameters, the caches of layers such as
    `GCNConv(cached=True)`, and the state of PyTorch's random number generators.
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    cached = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if name == "cached" or name.startswith("_cached")
    ]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices), _eagerly(model):
            model.eval()
            # A cache belongs to the graph it was made from; on any other graph it would silently stand in for it.
            for module, name, _ in cached:
                setattr(module, name, False if name == "cached" else None)
            yield
    finally:
        for module, flag in zip(modules, training, strict=True):
            module.training = flag
        for module, name, value in cached:
            setattr(module, name, value)
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer  # a forward may have put another tensor in its place
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for parameter, grad in grads:
            parameter.grad = grad


def _eagerly(model: nn.Module) -> AbstractContextManager[Any]:
    """Run compiled parts of a model as they were written: a compiled graph skips hooks that are newer than itself."""
    return torch.compiler.set_stance("force_eager") if compiled(model) else nullcontext()
