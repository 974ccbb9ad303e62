"""Running a model under interventions. The only code that touches PyG's `MessagePassing`.

Each intervention does one thing to the model's modules and undoes it: `Matching` meets every `propagate` call and matches
its edges to the graph's by identity (source, target, occurrence), because a layer may add, drop or reorder self loops before
it propagates; `masking` multiplies messages by the mask of their edge, one `index_select` once they are matched; `Fusing`
runs the calls that a plan fuses, which make no messages; `Recording` writes down what a forward pass does; and `Lookups`
gives embeddings traceable placeholders for codes. `MaskedModel` is a stack of those that a run needs.

Messages are multiplied by hooks that PyG offers for this; neither `explain` nor `_edge_mask` of a layer is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import KEYS
from gnn_xai.core.inputs.embeddings import Coded, Lookups, Placeholders
from gnn_xai.core.inputs.features import Features, plain
from gnn_xai.core.inputs.hooks import Hook, after_with_arguments, hooked
from gnn_xai.core.model.fusing import Fusing
from gnn_xai.core.model.matching import ForwardPass, Matching
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.model.readout import RunOn
from gnn_xai.core.propagation.calls import ForwardTrace, _holds_edges
from gnn_xai.core.propagation.coefficients import form_of
from gnn_xai.core.propagation.fused import Propagation
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.errors import InputError, MaskingError

Values = dict[str, Tensor | Coded]
"""Attributes in place of those of the data, by name, see `MaskedModel.__call__`."""


class MaskedModel:
    """A model on one union of computation graphs, callable with masks while the context is open.

    ```python
    with MaskedModel(problem, union) as model:
        out = model(edge_mask=mask)          # a row for each replica, differentiable in the mask
    ```

    It may be opened again, and then knows what it met before.

    Args:
        problem: model, data, task.
        replicas: what it runs on.
        plan: which calls of `propagate` are fused; `None` for a forward pass in PyG's own way throughout.
        features: the data's node features, from which the model gets its rows without their being written out.
        propagation: how calls run, where it is not the plan's own way on the union.
        known: an earlier trace on this union; calls that run on the same edges need not be matched again.
        record: write down in `trace` what the first forward pass does, where there is no plan.
        forms: and the form of its messages.
    """

    def __init__(
        self,
        problem: Problem,
        replicas: Replicas,
        plan: Plan | None = None,
        features: Features | None = None,
        propagation: Propagation | None = None,
        known: ForwardTrace | None = None,
        record: bool = True,
        forms: bool = True,
    ) -> None:
        self.problem, self.replicas, self.features = problem, replicas, features
        self.trace = ForwardTrace()
        if propagation is None and plan is not None and plan.fuses:
            propagation = replicas.built.get(plan)
            if propagation is None:
                propagation = replicas.built[plan] = Propagation(plan, replicas)
        self._plan = plan if propagation is None else propagation.plan
        self._propagation = propagation
        self._run = ForwardPass(None if self._plan is None else len(self._plan.routes))
        self._recording, self._forms = record and self._plan is None, forms
        self._matching = Matching(self._run, replicas, () if known is None else known.calls, problem.relations)
        self._lookups: Lookups | None = None
        self._stack = ExitStack()

    def __enter__(self) -> MaskedModel:
        with ExitStack() as stack:
            for intervention in self._interventions():
                stack.enter_context(intervention)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        self._lookups = self._run.mask = None
        if self._propagation is not None:
            self._propagation.start(None)  # it outlives this context, and would keep the graph of autograd alive
        self._matching.leave(kind is None)

    def _interventions(self) -> Iterator[AbstractContextManager[Any]]:
        """What the run needs: a call that is fused makes no messages, a layer of fused calls alone needs no matching."""
        problem, layers, plan = self.problem, self.problem.layers.passing, self._plan
        if problem.lookups:
            self._lookups = Lookups(problem.model, problem.lookups)
            yield hooked(self._lookups.hooks)
        if self._propagation is not None:
            yield Fusing(self._run, self._propagation).put(layers)
        if plan is not None:
            fused = {route.layer for route in plan.routes} - {r.layer for r in plan.routes if r.path == "messages"}
            layers = [(module, label) for module, label in layers if label not in fused]
        if not layers and not self._recording:
            return
        yield hooked(self._matching.hooks(layers))
        if self._recording:
            yield hooked(recording(self._matching, problem, self.trace, self._forms))
        yield hooked(masking(self._matching, layers))

    def __call__(
        self,
        edge_mask: Float[Tensor, " edges"] | None = None,
        x: Shaped[Tensor, "nodes ..."] | Coded | None = None,
        columns: Mapping[str, Shaped[Tensor, "rows ..."]] | None = None,
    ) -> Float[Tensor, "outputs columns"]:
        """The output under an edge mask, with node features, and with other attributes by name, each optional.

        Where the data's features are codes, `x` holds other codes, factors on what they are embedded as, or both; other
        attributes that are codes hold factors.
        """
        values: Values = dict(columns or {})
        if self._plan is not None and values.keys() - {"x"}:
            raise MaskingError(
                f"expected an algorithm with a field columns= that names data.{min(values.keys() - {'x'})}, got one "
                "without; the model runs in a way that takes attributes beside x for fixed"
            )
        if x is not None:
            values["x"] = x
        return self._pass(edge_mask, values, partial(self._ran_on, edge_mask, values))

    def _pass(
        self,
        edge_mask: Float[Tensor, " edges"] | None,
        values: Values,
        on: Callable[[], RunOn] | None,
    ) -> Float[Tensor, "outputs columns"]:
        replicas, run = self.replicas, self._run
        if "x" not in values and self.features is not None:
            values = {**values, "x": plain(self.features, replicas.node_id)}
        data = replicas.with_values(self._with_placeholders(values))
        run.start(edge_mask)
        if self._propagation is not None:
            self._propagation.start(run.mask)
        rows, shrunk = replicas.output_rows, self._plan is not None and self._plan.shrink
        if self._propagation is not None and rows is not None:
            rows = self._propagation.placed(rows)
        out = self.problem.run(data, rows, shrunk, on)
        run.finish()
        return out

    def _ran_on(self, edge_mask: Tensor | None, values: Values) -> RunOn:
        """What the model was run on when it raised an error: found out by running it with less."""
        source, replicas = self.replicas.source, self.replicas
        if (edge_mask is not None or values) and self._runs({}):
            x = {name: value for name, value in values.items() if name == "x"}
            if not self._runs(x):
                return "features"
            return "messages" if self._runs(values) else "columns"
        if len(replicas.edge) + len(replicas.node) < int(
            (source.num_nodes + source.num_edges)[replicas.instance].sum()
        ):
            return "rebuilt"
        return "data" if source.roots is None else "part"

    def _runs(self, values: Values) -> bool:
        try:
            self._pass(None, values, None)
        except Exception:
            return False
        return True

    def _with_placeholders(self, values: Values) -> dict[str, Shaped[Tensor, "rows ..."]]:
        """What the model is handed; in place of codes that have factors, placeholders that its embeddings read."""
        coded: dict[str, Coded] = {}
        handed: dict[str, Tensor] = {}
        for name, value in values.items():
            if isinstance(value, Coded):
                coded[name] = value
            elif name in self.replicas.source.graphs.factors and value.is_floating_point():
                coded[name] = Coded(self.replicas.values(name), value)
            else:
                handed[name] = value
        if self._lookups is not None:
            self._lookups.placeholders = Placeholders(coded) if coded else None
            handed |= self._lookups.placeholders.values if self._lookups.placeholders else {}
        return handed


# Mask ################################################################################################################


def masking(matching: Matching, layers: Sequence[tuple[MessagePassing, str]]) -> Iterator[Hook]:
    """Hooks that multiply every message of layers by the mask of its edge."""
    run = matching.run

    def multiply(module: MessagePassing, inputs: Any, out: Any) -> Tensor | None:
        call = matching.current
        if run.mask is None or call is None or call.gather is None:
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
        return out * run.mask.to(out.dtype).index_select(0, call.gather).view(shape)

    def refuse(label: str, module: MessagePassing, inputs: Any) -> None:
        if run.mask is not None:
            raise MaskingError(
                f"{label} multiplies with a sparse adjacency that the model builds itself, so there are no messages "
                "to mask; pass edge_index to the layer"
            )

    for module, label in layers:
        yield Hook(module._message_forward_hooks, multiply)
        yield Hook(module._message_and_aggregate_forward_pre_hooks, partial(refuse, label))


# Record ##############################################################################################################


def recording(matching: Matching, problem: Problem, trace: ForwardTrace, forms: bool) -> Iterator[Hook]:
    """Hooks that write down in a trace the calls of the first forward pass, the size of their messages and where `forms` is
    set their form, and the modules that see the edges without passing messages.
    """
    run, edges, by_type = matching.run, matching.replicas.edge_index, matching.replicas.by_type
    handed = matching.replicas.data

    def enter(module: MessagePassing, inputs: Any) -> None:
        if run.calls is None:
            if run.position == 1:
                trace.calls.clear()  # of a pass that did not end
            assert matching.current is not None
            trace.calls.append(matching.current)

    def message(module: MessagePassing, inputs: Any, out: Any) -> None:
        call = matching.current
        if run.calls is None and call is not None and isinstance(out, Tensor):
            call.bytes = out.numel() * out.element_size()
            if forms and call.edge_index is not None and not call.problem and not call.relations:
                call.form = form_of(module, inputs[0], out)

    def is_edges(value: Any) -> bool:
        if by_type is not None:
            several = value.values() if isinstance(value, dict) else (value,)
            return any(one is relation.edge_index for one in several for relation in by_type.relations)
        if not isinstance(value, Tensor) or value.is_floating_point() or value.shape != edges.shape:
            return False
        if problem.readout.is_pairs(value, handed, matching.replicas.rows):
            return False
        return value is edges or bool(torch.equal(value, edges))

    def look(label: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if run.calls is None and any(is_edges(value) for value in (*args, *kwargs.values())):
            seen = trace.rewiring if _holds_edges(out) else trace.opaque
            seen += [] if label in seen else [label]

    for module, _ in problem.layers.passing:
        yield Hook(module._propagate_forward_pre_hooks, enter)
        yield Hook(module._message_forward_hooks, message)
    if edges.size(1):
        for module, label in problem.layers.others:
            yield after_with_arguments(module, partial(look, label))


def trace(
    problem: Problem,
    replicas: Replicas,
    edge_mask: Float[Tensor, " edges"] | None = None,
    x: Shaped[Tensor, "nodes ..."] | None = None,
    known: ForwardTrace | None = None,
    forms: bool = True,
) -> tuple[ForwardTrace, Float[Tensor, "outputs columns"]]:
    """Run the model once in its own way, under masks where they are passed; what it did, and its output.

    `known` is an earlier trace on the same union, which spares work; `forms` asks for the form of messages, too.
    """
    with torch.no_grad(), MaskedModel(problem, replicas, known=known, forms=forms) as model:
        out = model(edge_mask, x)
        return model.trace, out


def require_float_features(problem: Problem, what: str) -> Float[Tensor, "nodes ..."]:
    """Node features that can be multiplied by a mask, see `Graphs.features`.

    Raises:
        InputError: if the data has none, or they are codes that do not only go into embeddings.
    """
    x = problem.graphs.features
    if x is None:
        named = [name for name, level in problem.graphs.levels.items() if level == "node" and name not in KEYS]
        more = f" and columns={named[0]!r}, which the data has" if named else ""
        raise InputError(f"{what} needs node features data.x, which the data lacks; use node_mask_type=None{more}")
    if not x.is_floating_point():
        raise InputError(
            f"{what} needs floating-point node features, integers that the model casts to such, or codes that nn.Embedding "
            f"modules alone look up; got {x.dtype} {problem.embeddings['x'].why}, where a mask cannot multiply anything; "
            "use node_mask_type=None, or NodeAblation, which takes whole nodes out of the graph"
        )
    return x
