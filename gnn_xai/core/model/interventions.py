"""Running a model under masks. The only code that touches PyG's `MessagePassing`.

A layer may add, drop or reorder self loops before it propagates, so a mask cannot follow edges by position. Here every
`propagate` call is met by a hook that looks at the `edge_index` the layer really runs on and matches it once to the
graph's edges by identity (source, target, occurrence). From then on masking a message is one `index_select`. Messages
are multiplied by hooks that PyG offers for this; neither `explain` nor `_edge_mask` of a layer is touched, and handles
are removed in `finally`.

Calls that a plan fuses never make messages: their layer gets a `propagate` of ours for the time being.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
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
from torch_geometric.typing import SparseTensor  # pyright: ignore[reportAttributeAccessIssue]

from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import plain
from gnn_xai.core.inputs.embeddings import Coded, Lookups, Tickets
from gnn_xai.core.inputs.features import Features
from gnn_xai.core.inputs.features import plain as plain_features
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.propagation.calls import (
    Call,
    ForwardTrace,
    _holds_edges,
    _node_counts,
    _positions,
    _same,
    _some_copies,
)
from gnn_xai.core.propagation.coefficients import form_of
from gnn_xai.core.propagation.fused import Propagation
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.errors import InputError, MaskingError

NO_EDGES = object()
"""Stands for `edge_index` in layers that would only normalise it: neither a tensor nor a sparse tensor, so they leave it."""

_NORMALISING = (APPNP, GATConv, GCN2Conv, GCNConv, GATv2Conv, LGConv, SGConv, SSGConv)
"""Layers that pass what is not a tensor on to `propagate` as it is."""

_BIPARTITE = (GATConv, GATv2Conv, GINConv, GraphConv, LEConv, SAGEConv, TransformerConv)
"""Layers that take features as (senders', receivers') and use both."""


class MaskedModel:
    """A model on one union of computation graphs, callable with masks while the context is open.

    ```python
    with MaskedModel(problem, union) as model:
        out = model(edge_mask=mask)          # [R, C], differentiable in the mask
    ```

    It may be opened again, and then knows what it met before.

    Args:
        problem: model, data, task.
        replicas: what it runs on.
        plan: which calls of `propagate` are fused; `None` for a plain forward pass in PyG's own way, which is traced.
        features: the data's node features, from which the model gets its rows without their being written out.
        propagation: how calls run, where it is not the plan's own way on the union.
        known: an earlier trace on this union; calls that run on the same edges need not be matched again.
    """

    def __init__(
        self,
        problem: Problem,
        replicas: Replicas,
        plan: Plan | None = None,
        features: Features | None = None,
        propagation: Propagation | None = None,
        known: ForwardTrace | None = None,
    ) -> None:
        self.problem = problem
        self._known = [] if known is None else known.calls
        self.replicas = replicas
        self.features = features
        self.trace = ForwardTrace()
        if propagation is None and plan is not None and plan.fuses:
            propagation = Propagation(plan, replicas)
        self._fused = propagation
        self._plan = None if propagation is None else propagation.plan
        self._mask: Tensor | None = None
        self._position = 0
        self._current: Call | None = None
        self._calls: dict[int, Call] = {}  # those whose messages are masked one by one, by position
        self._passes = 0
        self._attention: Tensor | None = None
        self._changed: list[tuple[str, Tensor]] = []
        self._handles: list[Any] = []
        self._patched: list[MessagePassing] = []
        self._lookups: Lookups | None = None

    def __enter__(self) -> MaskedModel:
        self._lookups = Lookups(self.problem.model, self.problem.embeddings.names)
        self._handles += self._lookups.handles
        names = {module: name for name, module in self.problem.model.named_modules()}
        for module, name in names.items():
            label = f"{name or 'model'} ({type(module).__name__})"
            if isinstance(module, MessagePassing):
                self._handles += [
                    module.register_propagate_forward_pre_hook(self._before_propagate(label)),
                    module.register_message_forward_hook(self._after_message),
                    module.register_message_and_aggregate_forward_pre_hook(self._refuse_fused(label)),
                ]
                if self._fused is not None:
                    self._patch(module, label)
            elif self._plan is None and not any(isinstance(child, MessagePassing) for child in module.modules()):
                self._handles.append(module.register_forward_hook(self._look_for_edges(label), with_kwargs=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        for module in self._patched:
            del module.__dict__["propagate"]
            module.__dict__.pop("edge_updater", None)
        self._handles.clear()
        self._patched.clear()
        self._mask = self._lookups = None
        if kind is None:
            for label, changed in self._changed:
                if bool(changed):
                    raise MaskingError(
                        f"{label} runs on edges that change between forward passes; they cannot be masked"
                    )
        self._changed.clear()

    def __call__(self, edge_mask: Tensor | None = None, x: Tensor | Coded | None = None) -> Tensor:
        """The output `[R, C]` under an edge mask `[ΣE]` and with node features `[ΣN, ...]`, each optional.

        Where the data's features are codes, `x` holds other codes, factors on what they are embedded as, or both.
        """
        if x is None and self.features is not None:
            x = plain_features(self.features, self.replicas.node_id)
        x = self._with_tickets(x)
        data = self.replicas.data if x is None else self.replicas.with_features(x)
        # One more slot, fixed at 1, for the self loops that a layer adds.
        self._mask = None if edge_mask is None else torch.cat([edge_mask, edge_mask.new_ones(1)])
        self._position = 0
        if self._fused is not None:
            self._fused.start(self._mask)
        shrunk = self._plan is not None and self._plan.shrink
        out = self.problem.run(data, self.replicas.rows, len(self.replicas) if shrunk else None)
        calls = len(self.trace.calls) if self._plan is None else len(self._plan.routes)
        if self._passes + (self._plan is not None) and self._position != calls:
            raise MaskingError(
                f"the model called propagate {calls} times in one forward pass and {self._position} times in the next; a "
                "model whose layers change from pass to pass cannot be masked"
            )
        self._passes += 1
        return out

    def _with_tickets(self, x: Tensor | Coded | None) -> Tensor | None:
        """What the model gets as `x`; in place of codes that have factors, tickets that its embeddings read."""
        assert self._lookups is not None
        if isinstance(x, Tensor) and x.is_floating_point() and self.replicas.source.graphs.factors is not None:
            assert self.replicas.x is not None
            x = Coded(self.replicas.x, x)
        if not isinstance(x, Coded):
            self._lookups.tickets = None
            return x
        self._lookups.tickets = Tickets(x)
        return self._lookups.tickets.x

    # Fused calls #####################################################################################################

    def _patch(self, module: MessagePassing, label: str) -> None:
        """Give a layer a `propagate` that runs fused calls, and spare it work whose result they do not use."""
        if "propagate" in module.__dict__ or "edge_updater" in module.__dict__:
            return  # it is the user's own

        def propagate(edge_index: Any, size: Any = None, **kwargs: Any) -> Tensor:
            fused = self._fused_here(label)
            if fused is None:
                return type(module).propagate(module, edge_index, size=size, **kwargs)
            number, self._position = self._position, self._position + 1
            attention, self._attention = self._attention, None
            return fused(number, kwargs, attention)

        def edge_updater(edge_index: Any, size: Any = None, **kwargs: Any) -> Tensor:
            fused = self._fused_here(label)
            if fused is None:
                return type(module).edge_updater(module, edge_index, size=size, **kwargs)
            self._attention = fused.attend(self._position, module, kwargs)
            return self._attention

        module.__dict__["propagate"] = propagate
        if isinstance(module, (GATConv, GATv2Conv)):
            module.__dict__["edge_updater"] = edge_updater
        self._patched.append(module)
        if type(module) in _NORMALISING or (self._plan is not None and self._plan.shrink):
            self._handles.append(module.register_forward_pre_hook(self._before_layer(label), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after_layer))

    def _fused_here(self, label: str) -> Propagation | None:
        """The propagation that runs the next call, if it is a fused one."""
        assert self._plan is not None
        assert self._fused is not None
        if self._position >= len(self._plan.routes):
            raise MaskingError(f"{label} calls propagate more often in one forward pass than in another")
        return None if self._plan.routes[self._position].path == "messages" else self._fused

    def _before_layer(self, label: str):
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            fused = self._fused_here(label)
            if fused is None:
                return None
            given = list(args)
            if type(module) in _NORMALISING:
                place = 2 if type(module) is GCN2Conv else 1  # after the features of the first layer
                if len(given) > place and isinstance(given[place], Tensor):
                    given[place] = NO_EDGES
                elif isinstance(kwargs.get("edge_index"), Tensor):
                    kwargs = {**kwargs, "edge_index": NO_EDGES}
            if fused.plan.shrink and type(module) in _BIPARTITE:
                if given and isinstance(given[0], Tensor):
                    given[0] = (given[0], fused.receivers(self._position, given[0]))
                elif isinstance(kwargs.get("x"), Tensor):
                    kwargs = {**kwargs, "x": (kwargs["x"], fused.receivers(self._position, kwargs["x"]))}
            return tuple(given), kwargs

        return hook

    def _after_layer(self, module: nn.Module, args: Any, out: Any) -> Any:
        """The last layer hands on what the rest of the model expects."""
        assert self._plan is not None
        assert self._fused is not None
        return self._fused.finish(out) if self._position == len(self._plan.routes) else out

    # Hooks ###########################################################################################################

    def _before_propagate(self, label: str):
        def hook(module: MessagePassing, inputs: tuple[Any, Any, dict[str, Any]]) -> None:
            edge_index, size, kwargs = inputs
            if self._passes == 0:
                met = self._meet(module, label, edge_index, size, kwargs)
                self._calls[self._position] = met
                self.trace.calls.append(met)
            elif self._position not in self._calls:
                raise MaskingError(f"{label} calls propagate more often in one forward pass than in another")
            self._current = call = self._calls[self._position]
            self._position += 1
            if self._passes and call.edge_index is not None and call.edge_index is not edge_index:
                there = plain(edge_index)
                if call.edge_index.shape != there.shape:
                    raise MaskingError(
                        f"{label} runs on edges that change between forward passes; they cannot be masked"
                    )
                # Looked at when the context closes: asking now would make a GPU wait.
                self._changed.append((label, (call.edge_index != there).any()))

        return hook

    def _after_message(self, module: MessagePassing, inputs: Any, out: Any) -> Tensor | None:
        call = self._current
        if call is None:
            return None
        if self._passes == 0 and isinstance(out, Tensor):
            call.bytes = out.numel() * out.element_size()
            if self._plan is None and call.edge_index is not None and not call.problem:
                call.form = form_of(module, inputs[0], out)
        if self._mask is None or call.gather is None:
            return None
        dim = module.node_dim
        if not isinstance(out, Tensor) or out.dim() == 0 or out.size(dim) != len(call.gather):
            shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise MaskingError(
                f"{call.layer} makes messages of shape {shape}; expected {len(call.gather)} along dimension {dim}, "
                "one per edge, so its messages cannot be masked"
            )
        shape = [1] * out.dim()
        shape[dim] = -1
        return out * self._mask.to(out.dtype).index_select(0, call.gather).view(shape)

    def _refuse_fused(self, label: str):
        def hook(module: MessagePassing, inputs: Any) -> None:
            if self._mask is not None:
                raise MaskingError(
                    f"{label} multiplies with a sparse adjacency that the model builds itself, so there are no messages "
                    "to mask; pass edge_index to the layer"
                )

        return hook

    def _look_for_edges(self, label: str):
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            if self._passes or self.replicas.edge_index.size(1) == 0:
                return
            if any(self._is_edges(value) for value in (*args, *kwargs.values())):
                met = self.trace.rewiring if _holds_edges(out) else self.trace.opaque
                met += [] if label in met else [label]

        return hook

    def _is_edges(self, value: Any) -> bool:
        edges = self.replicas.edge_index
        if not isinstance(value, Tensor) or value.is_floating_point() or value.shape != edges.shape:
            return False
        if any(value is pairs for pairs in self.problem.pairs):
            return False
        return value is edges or bool(torch.equal(value, edges))

    def _meet(self, module: MessagePassing, label: str, edge_index: Any, size: Any, kwargs: dict[str, Any]) -> Call:
        """Match a call's edges to the graph's, or say why they cannot be matched."""
        call = Call(label, module)
        nodes, edges = len(self.replicas.node), self.replicas.edge_index
        if (
            isinstance(edge_index, SparseTensor)
            or not isinstance(edge_index, Tensor)
            or edge_index.layout != torch.strided
        ):
            call.problem = "it runs on a sparse adjacency that the model builds itself; pass it edge_index instead"
            return call
        edge_index = plain(edge_index)
        if any(count != nodes for count in _node_counts(module, size, kwargs)):
            call.problem = "it runs on another graph (its nodes are not the graph's: pooling or a bipartite readout)"
            return call
        for met in [*self.trace.masked[-1:], *self._known[self._position : self._position + 1]]:
            if not met.problem and met.edge_index is not None and _same(met.edge_index, edge_index):
                call.edge_index, call.gather, call.transposed = met.edge_index, met.gather, met.transposed
                return call
        found, call.transposed = _positions(edge_index, edges, max(nodes, 1))
        foreign = (found < 0) & (edge_index[0] != edge_index[1])
        if bool(foreign.any()):
            call.problem = (
                f"it runs on another graph ({int(foreign.sum())} of {edge_index.size(1)} edges are not the graph's)"
            )
            return call
        if len(found) and edges.size(1) and not bool((found >= 0).any()):
            call.problem = "it runs on self loops of its own alone, and on no edge of the graph"
            return call
        call.edge_index = edge_index
        if _some_copies(edge_index.flip(0) if call.transposed else edge_index, edges, found, max(nodes, 1)):
            call.ambiguous, call.problem = True, "it runs on some copies of parallel edges, and nothing tells which"
            return call
        call.gather = torch.where(found < 0, edges.size(1), found)
        return call


def trace(
    problem: Problem,
    replicas: Replicas,
    edge_mask: Tensor | None = None,
    x: Tensor | None = None,
    known: ForwardTrace | None = None,
) -> tuple[ForwardTrace, Tensor]:
    """Run the model once in its own way, under masks where given; what it did, and its output `[R, C]`.

    `known` is an earlier trace on the same union, which spares work.
    """
    with torch.no_grad(), MaskedModel(problem, replicas, known=known) as model:
        out = model(edge_mask, x)
        return model.trace, out


@contextmanager
def seen_layers(model: nn.Module, nodes: int) -> Iterator[dict[str, Tensor]]:
    """Keep what message-passing layers return for each of so many nodes, by layer; a layer's second call is `name #2`."""
    seen: dict[str, Tensor] = {}

    def keeping(label: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            if isinstance(out, Tensor) and out.is_floating_point() and out.dim() and out.size(0) == nodes:
                calls = sum(name.split(" #")[0] == label for name in seen)
                seen[f"{label} #{calls + 1}" if calls else label] = out.detach()

        return hook

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, MessagePassing)]
    handles = [module.register_forward_hook(keeping(name or "model")) for name, module in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def require_float_features(problem: Problem, what: str) -> Tensor:
    """Node features that can be multiplied by a mask, see `Graphs.features`.

    Raises:
        InputError: if there are none, or they are codes that do not only go into embeddings.
    """
    x = problem.graphs.features
    if x is None:
        raise InputError(f"{what} needs node features data.x, which the data lacks; use node_mask_type=None")
    if not x.is_floating_point():
        raise InputError(
            f"{what} needs floating-point node features, or codes that nn.Embedding modules alone look up; got {x.dtype} "
            f"{problem.embeddings.why}, where a mask cannot multiply anything; use node_mask_type=None, or NodeAblation, "
            "which takes whole nodes out of the graph"
        )
    return x
