"""Meeting the `propagate` calls of a forward pass, and matching their edges to the graph's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import SparseTensor  # pyright: ignore[reportAttributeAccessIssue]

from gnn_xai.core.graphs.by_type import ByType
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.rules import plain
from gnn_xai.core.inputs.hooks import Hook
from gnn_xai.core.model.relations import Known, place_of
from gnn_xai.core.propagation.calls import Call, _node_counts, _positions, _same, _some_copies
from gnn_xai.errors import MaskingError


class ForwardPass:
    """How far a forward pass has come, and the edge mask that it runs under.

    Attributes:
        calls: how many calls of `propagate` a pass makes; `None` before the first has ended.
        position: the number of the next one.
        mask: of every edge, and at its end a 1 for the self loops that a layer adds; `None` for no mask.
    """

    def __init__(self, calls: int | None) -> None:
        self.calls, self.position = calls, 0
        self.mask: Float[Tensor, " slots"] | None = None

    def start(self, edge_mask: Float[Tensor, " edges"] | None) -> None:
        """Begin a pass under an edge mask."""
        self.position = 0
        self.mask = None if edge_mask is None else torch.cat([edge_mask, edge_mask.new_ones(1)])

    def next(self, label: str) -> int:
        """The number of the call that a layer makes."""
        if self.calls is not None and self.position >= self.calls:
            raise MaskingError(f"{label} calls propagate more often in one forward pass than in another")
        self.position += 1
        return self.position - 1

    def finish(self) -> None:
        """End a pass."""
        if self.calls is None:
            self.calls = self.position
        elif self.position != self.calls:
            raise MaskingError(
                f"the model called propagate {self.calls} times in one forward pass and {self.position} times in the next; "
                "a model whose layers change from pass to pass cannot be masked"
            )


class Matching:
    """Meets every `propagate` call and matches its edges to the graph's, once.

    Args:
        run: the forward pass.
        replicas: the graph that the model runs on.
        known: calls of an earlier pass on the same graph, in order; what runs on the same edges is not matched again.
        relations: of a heterogeneous graph, on which each call ran in the whole data.

    Attributes:
        current: the call at hand.
    """

    def __init__(
        self, run: ForwardPass, replicas: Replicas, known: Sequence[Call] = (), relations: Sequence[Known] = ()
    ) -> None:
        self.run, self.replicas = run, replicas
        self.current: Call | None = None
        self._known, self._relations = known, relations
        self._calls: dict[int, Call] = {}
        self._changed: list[tuple[str, Bool[Tensor, ""]]] = []

    def hooks(self, layers: Sequence[tuple[MessagePassing, str]]) -> Iterator[Hook]:
        """On the `propagate` of layers."""
        for module, label in layers:
            yield Hook(module._propagate_forward_pre_hooks, partial(self._before, label))

    def leave(self, check: bool) -> None:
        """Forget the call at hand, and see whether edges changed between passes.

        Raises:
            MaskingError: if they did.
        """
        self.current, changed, self._changed = None, self._changed, []
        for label, differs in changed if check else ():
            if bool(differs):
                raise _changing(label)

    def _before(self, label: str, module: MessagePassing, inputs: tuple[Any, Any, dict[str, Any]]) -> None:
        edge_index, size, arguments = inputs
        number = self.run.next(label)
        call = self._calls.get(number)
        if call is None:
            call = self._calls[number] = self._meet(number, module, label, edge_index, size, arguments)
        elif call.edge_index is not None and call.edge_index is not edge_index:
            edges = plain(edge_index)
            if call.edge_index.shape != edges.shape:
                raise _changing(label)
            # Looked at when the context closes: asking now would make a GPU wait.
            self._changed.append((label, (call.edge_index != edges).any()))
        self.current = call

    def _meet(
        self, number: int, module: MessagePassing, label: str, edge_index: Any, size: Any, arguments: dict[str, Any]
    ) -> Call:
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
        if self.replicas.by_type is not None:
            counts = _node_counts(module, size, arguments)
            ran_on = self._relations[number] if number < len(self._relations) else None
            self._meet_relations(call, edge_index, counts, self.replicas.by_type, ran_on)
            return call
        if any(count != nodes for count in _node_counts(module, size, arguments)):
            call.problem = "it runs on another graph (its nodes are not the graph's: pooling or a bipartite readout)"
            return call
        earlier = [call for call in self._calls.values() if not call.problem][-1:]
        for met in [*earlier, *self._known[number : number + 1]]:
            if not met.problem and met.edge_index is not None and _same(met.edge_index, edge_index):
                call.edge_index, call.gather, call.transposed = met.edge_index, met.gather, met.transposed
                return call
        position, call.transposed = _positions(edge_index, edges, max(nodes, 1))
        foreign = (position < 0) & (edge_index[0] != edge_index[1])
        if bool(foreign.any()):
            call.problem = (
                f"it runs on another graph ({int(foreign.sum())} of {edge_index.size(1)} edges are not the graph's)"
            )
            return call
        if len(position) and edges.size(1) and not bool((position >= 0).any()):
            call.problem = "it runs on self loops of its own alone, and on no edge of the graph"
            return call
        call.edge_index = edge_index
        if _some_copies(edge_index.flip(0) if call.transposed else edge_index, edges, position, max(nodes, 1)):
            call.ambiguous, call.problem = True, "it runs on some copies of parallel edges, and nothing tells which"
            return call
        call.gather = torch.where(position < 0, edges.size(1), position)
        return call

    def _meet_relations(
        self, call: Call, edge_index: Tensor, counts: list[int], by_type: ByType, ran_on: Known | None
    ) -> None:
        """Match the edges of a call on a heterogeneous graph."""
        call.form = "it runs on relations of a heterogeneous graph"
        place = place_of(edge_index, counts, by_type.relations, ran_on)
        if isinstance(place, str):
            call.problem, call.ambiguous = place, "nothing tells which" in place
            return
        call.edge_index, call.transposed, call.relations = edge_index, place.transposed, place.relations
        call.gather = torch.where(place.edges < 0, len(self.replicas.edge), place.edges)


def _changing(label: str) -> MaskingError:
    return MaskingError(f"{label} runs on edges that change between forward passes; they cannot be masked")
