"""Running the calls of `propagate` that a plan fuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import (
    APPNP,
    GATConv,
    GATv2Conv,
    GCN2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    LEConv,
    LGConv,
    MessagePassing,
    SAGEConv,
    SGConv,
    SSGConv,
    TransformerConv,
)

from gnn_xai.core.inputs.hooks import after, before, hooked
from gnn_xai.core.model.matching import ForwardPass
from gnn_xai.core.propagation.fused import Propagation
from gnn_xai.errors import MaskingError

NO_EDGES = object()
"""Stands for `edge_index` in layers that would only normalise it: neither a tensor nor a sparse tensor, so they leave it."""

_NORMALISING = (APPNP, GATConv, GCN2Conv, GCNConv, GATv2Conv, LGConv, SGConv, SSGConv)
"""Layers that pass what is not a tensor on to `propagate` as it is."""

_BIPARTITE = (GATConv, GATv2Conv, GINConv, GraphConv, LEConv, SAGEConv, TransformerConv)
"""Layers that take features as (senders', receivers') and use both."""


class Fusing:
    """Runs the calls that a plan fuses in the place of `propagate`, and spares layers work whose result they do not use."""

    def __init__(self, run: ForwardPass, propagation: Propagation) -> None:
        self.run, self.propagation = run, propagation
        self._routes = propagation.plan.routes
        self._attention: Tensor | None = None

    @contextmanager
    def put(self, layers: Sequence[tuple[MessagePassing, str]]) -> Iterator[None]:
        """Give layers another `propagate` for the time being."""
        shrink, hooks, changed = self.propagation.plan.shrink, [], []
        try:
            for module, label in layers:
                state = vars(module)
                if "propagate" in state or "edge_updater" in state:
                    continue  # it is the user's own
                ours = {"propagate": partial(self._propagate, module, label)}
                if isinstance(module, (GATConv, GATv2Conv)):
                    ours["edge_updater"] = partial(self._edge_updater, module)
                changed.append((state, ours))
                state.update(ours)
                if type(module) in _NORMALISING or (shrink and type(module) in _BIPARTITE):
                    hooks.append(before(module, self._before_layer))
                if shrink:
                    hooks.append(after(module, self._after_layer))
            with hooked(hooks):
                yield
        finally:
            for state, ours in changed:
                for name, function in ours.items():
                    if state.get(name) is function:  # a run that was interrupted may end amid the next one
                        del state[name]

    @property
    def _fuses(self) -> bool:
        """Whether the next call is a fused one."""
        position = self.run.position
        return position < len(self._routes) and self._routes[position].path != "messages"

    def _propagate(
        self, module: MessagePassing, label: str, /, edge_index: Any, size: Any = None, **arguments: Any
    ) -> Tensor:
        if not self._fuses:
            return type(module).propagate(module, edge_index, size=size, **arguments)
        number = self.run.next(label)
        if self._routes[number].layer != label:
            raise MaskingError(
                f"{label} runs in one forward pass where {self._routes[number].layer} runs in another; a model whose layers "
                "change from pass to pass cannot be masked"
            )
        attention, self._attention = self._attention, None
        return self.propagation(number, arguments, attention)

    def _edge_updater(self, module: MessagePassing, /, edge_index: Any, size: Any = None, **arguments: Any) -> Tensor:
        if not self._fuses:
            return type(module).edge_updater(module, edge_index, size=size, **arguments)
        self._attention = self.propagation.attend(self.run.position, module, arguments)
        return self._attention

    def _before_layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._fuses:
            return None
        values = list(args)
        if type(module) in _NORMALISING:
            place = 2 if type(module) is GCN2Conv else 1  # after the features of the first layer
            if len(values) > place and isinstance(values[place], Tensor):
                values[place] = NO_EDGES
            elif isinstance(kwargs.get("edge_index"), Tensor):
                kwargs = {**kwargs, "edge_index": NO_EDGES}
        if self.propagation.plan.shrink and type(module) in _BIPARTITE:
            number = self.run.position
            if values and isinstance(values[0], Tensor):
                values[0] = (values[0], self.propagation.receivers(number, values[0]))
            elif isinstance(kwargs.get("x"), Tensor):
                kwargs = {**kwargs, "x": (kwargs["x"], self.propagation.receivers(number, kwargs["x"]))}
        return tuple(values), kwargs

    def _after_layer(self, module: nn.Module, args: Any, out: Any) -> Any:
        """The last layer hands on the rows that the rest of the model expects."""
        return self.propagation.finish(out) if self.run.position == len(self._routes) else out
