"""The modules of a model that interventions need, found once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from gnn_xai.core.inputs.hooks import Hook, after, hooked


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


def calls_of(
    model: nn.Module, nodes: int, layer: str | None, called: Callable[[str, Tensor], Tensor | None]
) -> Iterator[Hook]:
    """Hooks that call a function with the name and the output of each call of a layer that returns a row for each of so many
    nodes; where it returns a tensor, that takes the place of the output.

    Args:
        model: the model.
        nodes: how many rows there are.
        layer: a module by its name, with ` #2` for its second call; `None` for all message-passing layers.
        called: `(name of the call, output) -> output or None`.
    """
    counts: dict[str, int] = {}

    def look(name: str, module: nn.Module, args: Any, out: Any) -> Any:
        first = out[0] if isinstance(out, tuple) else out
        if not (isinstance(first, Tensor) and first.is_floating_point() and first.dim() and first.size(0) == nodes):
            return None
        counts[name] = counts.get(name, 0) + 1
        value = called(name if counts[name] == 1 else f"{name} #{counts[name]}", first)
        return (value, *out[1:]) if value is not None and isinstance(out, tuple) else value

    wanted = None if layer is None else layer.split(" #")[0]
    for name, module in model.named_modules():
        name = name or "model"
        if name == wanted or wanted is None and isinstance(module, MessagePassing):
            yield after(module, partial(look, name))


@contextmanager
def seen_layers(
    model: nn.Module, nodes: int, layer: str | None = None
) -> Iterator[dict[str, Float[Tensor, "{nodes} ..."]]]:
    """Keep what layers return for each of so many nodes, by the name of the call, see `calls_of`."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, out: Tensor) -> None:
        seen[name] = out.detach()

    with hooked(calls_of(model, nodes, layer, keep)):
        yield seen
