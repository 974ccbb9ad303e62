"""The modules of a model that interventions need, found once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from gnn_xai.core.inputs.hooks import after, hooked


@dataclass(frozen=True, eq=False)
class Layers:
    """The modules of a model, each with the label that messages and `provenance["layers"]` name it by.

    Attributes:
        passing: those that pass messages.
        others: those that do not, and hold none that does.
    """

    passing: tuple[tuple[MessagePassing, str], ...]
    others: tuple[tuple[nn.Module, str], ...]

    @classmethod
    def of(cls, model: nn.Module) -> Layers:
        """The layers of a model."""
        passing: list[tuple[MessagePassing, str]] = []
        others: list[tuple[nn.Module, str]] = []
        for name, module in model.named_modules():
            label = f"{name or 'model'} ({type(module).__name__})"
            if isinstance(module, MessagePassing):
                passing.append((module, label))
            elif not any(isinstance(child, MessagePassing) for child in module.modules()):
                others.append((module, label))
        return cls(tuple(passing), tuple(others))


@contextmanager
def seen_layers(model: nn.Module, nodes: int) -> Iterator[dict[str, Float[Tensor, "{nodes} ..."]]]:
    """Keep what message-passing layers return for each of so many nodes, by layer; a layer's second call is `name #2`."""
    seen: dict[str, Tensor] = {}

    def keep(label: str, module: nn.Module, args: Any, out: Any) -> None:
        out = out[0] if isinstance(out, tuple) else out
        if isinstance(out, Tensor) and out.is_floating_point() and out.dim() and out.size(0) == nodes:
            calls = sum(name.split(" #")[0] == label for name in seen)
            seen[f"{label} #{calls + 1}" if calls else label] = out.detach()

    layers = [(name or "model", module) for name, module in model.named_modules() if isinstance(module, MessagePassing)]
    with hooked(after(module, partial(keep, name)) for name, module in layers):
        yield seen
