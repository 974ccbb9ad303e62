"""The calls of `propagate` in a forward pass, and how the edges of the graph lie in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch_geometric.nn import MessagePassing

from gnn_xai.core.graphs.matching import match_edges
from gnn_xai.core.graphs.source import Flow, Graphs
from gnn_xai.core.propagation.coefficients import Form
from gnn_xai.core.propagation.reach import Reach
from gnn_xai.errors import MaskingError


@dataclass(eq=False)
class Call:
    """One `propagate` call of a forward pass, and how the graph's edges lie in it."""

    layer: str
    module: MessagePassing
    edge_index: Int[Tensor, "2 messages"] | None = None  # None for a call on another graph
    gather: Int[Tensor, " messages"] | None = None  # position of the mask for each; E for edges the layer added
    transposed: bool = False  # it runs on the graph's edges turned around
    ambiguous: bool = False  # its edges are the graph's, but which copies of parallel ones is unknown
    changing: bool = False  # it runs on other edges where features are others
    bytes: int = 0
    problem: str = ""  # why the mask cannot reach this call, empty if it can
    form: Form | str = "it was not looked at"  # of its messages, or why they have none that can be fused
    relations: tuple[int, ...] = ()  # of a heterogeneous graph, on which it runs

    @property
    def flow(self) -> Flow:
        """The direction in which messages pass along the graph's own edges."""
        return "target_to_source" if (self.module.flow == "target_to_source") != self.transposed else "source_to_target"


@dataclass(eq=False)
class ForwardTrace:
    """What a forward pass did.

    Attributes:
        calls: its calls of `propagate`.
        opaque: modules that saw the edges and made features of them without `propagate`.
        rewiring: modules that saw the edges and made other edges of them, as pooling does.
    """

    calls: list[Call] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    rewiring: list[str] = field(default_factory=list)

    @property
    def masked(self) -> list[Call]:
        """The calls that an edge mask reaches."""
        return [call for call in self.calls if not call.problem]

    @property
    def complete(self) -> bool:
        """Whether all that a forward pass did with the edges is among the masked calls."""
        return not self.opaque and not self.rewiring and len(self.masked) == len(self.calls)

    @property
    def maskable(self) -> bool:
        """Whether an edge mask means what it says: it reaches layers, and no edge is hidden from it or mistaken."""
        return bool(self.masked) and not self.opaque and not any(call.ambiguous or call.changing for call in self.calls)

    @property
    def silent(self) -> bool:
        """Nothing in the model was seen to use the edges."""
        return not self.calls and not self.opaque and not self.rewiring

    def mark_changes(self, other: ForwardTrace) -> None:
        """Mark calls that run on other edges in another trace on the same graph."""
        for call, after in zip(self.calls, other.calls, strict=True):
            edges, others = call.edge_index, after.edge_index
            if edges is not None and edges is not others and (others is None or not torch.equal(edges, others)):
                call.changing, call.problem = True, "it runs on edges that change with features or masks"

    @property
    def _over_the_graph(self) -> list[Call]:
        """The calls that pass messages along edges of the graph, whether a mask reaches them or not."""
        return [call for call in self.calls if call.edge_index is not None]

    @property
    def steps(self) -> int:
        """Message-passing steps over the graph: how many hops information can travel at most."""
        return len(self._over_the_graph)

    @property
    def flow(self) -> Flow:
        """The direction in which these calls pass messages."""
        flows: set[Flow] = {call.flow for call in self._over_the_graph}
        return "both" if len(flows) > 1 else flows.pop() if flows else "source_to_target"

    @property
    def relations(self) -> tuple[tuple[tuple[int, ...], bool], ...]:
        """The relations of a heterogeneous graph that each call ran on, and whether on their edges turned around."""
        return tuple((call.relations, call.transposed) for call in self.calls)

    def followed(self, graphs: Graphs, reach: Reach) -> Bool[Tensor, "steps relations"] | None:
        """The relations of a heterogeneous graph along which messages pass that have 0, 1, ... steps to go; `None`: all."""
        if graphs.types is None or not self.complete:
            return None
        followed = torch.zeros(reach.steps, len(graphs.types.relations), dtype=torch.bool, device=graphs.device)
        for call, remaining in zip(self.calls, reach.remaining, strict=True):
            if remaining >= 0:
                followed[remaining, list(call.relations)] = True
        return followed

    @property
    def message_bytes(self) -> int:
        """Bytes of all messages of one forward pass."""
        return sum(call.bytes for call in self.calls)

    def check(self) -> list[str]:
        """Sentences about layers that run on another graph.

        Raises:
            MaskingError: if an edge mask would reach no layer, not all of them, or the wrong edges.
        """
        if self.opaque:
            raise MaskingError(
                f"{', '.join(self.opaque)} receives edge_index but sends no messages through MessagePassing.propagate, "
                "so an edge mask cannot reach it; build it on MessagePassing, or use an algorithm over nodes or "
                "features alone (NodeAblation, FeatureAblation, edge_mask_type=None)"
            )
        ambiguous = {call.layer: "" for call in self.calls if call.ambiguous}
        if ambiguous:
            raise MaskingError(
                f"{', '.join(ambiguous)} runs on some copies of parallel edges at a time, and nothing tells which, so masks "
                "would reach the wrong ones; use a layer that runs on all edges at once (FastRGCNConv for RGCNConv), or "
                "removal='structural'"
            )
        changing = {call.layer: "" for call in self.calls if call.changing}
        if changing:
            raise MaskingError(
                f"{', '.join(changing)} runs on edges that change between forward passes; they cannot be masked"
            )
        skipped = [f"{call.layer}: {call.problem}" for call in self.calls if call.problem]
        if not self.masked:
            raise MaskingError(
                "expected a model with MessagePassing layers that run on data.edge_index; an edge mask reaches none of "
                f"this one's layers ({'; '.join(skipped) or 'it never calls propagate'}); what masks no edges still works: "
                "edge_mask_type=None, or removal='structural' for nodes"
            )
        return [f"{label}: it makes another graph of this one" for label in self.rewiring] + skipped


def _positions(
    query: Int[Tensor, "2 messages"], edges: Int[Tensor, "2 edges"], nodes: int
) -> tuple[Int[Tensor, " messages"], bool]:
    """The graph's edge for each edge of a call, -1 for one that it does not have; and whether the call runs on the graph's
    edges turned around, as layers for directed graphs do. In an undirected graph only the order tells the two apart, so
    order comes first, and PyG's layers keep that of all edges but self loops.
    """
    size, turned = edges.size(1), edges.flip(0)
    if query.size(1) >= size and (query is edges or torch.equal(query[:, :size], edges)):
        added = query[:, size:]
        if bool((added[0] == added[1]).all()) and (not added.numel() or not bool((edges[0] == edges[1]).any())):
            found = torch.arange(query.size(1), device=query.device)
            found[size:] = -1
            return found, False
    query_loops, loops = query[0] == query[1], edges[0] == edges[1]
    others, kept = (~loops).nonzero().flatten(), query[:, ~query_loops]
    for transposed, known in ((False, edges), (True, turned)):
        if kept.shape == (2, len(others)) and torch.equal(kept, known[:, others]):
            position = torch.empty_like(query[0])
            position[~query_loops] = others
            at = loops.nonzero().flatten()
            place = match_edges(query[:, query_loops], edges[:, at], nodes)
            position[query_loops] = torch.where(place < 0, -1, at[place]) if len(at) else place
            return position, transposed
    position = match_edges(query, edges, nodes)
    if bool(((position < 0) & ~query_loops).any()):
        other = match_edges(query, turned, nodes)
        if not bool(((other < 0) & ~query_loops).any()):
            return other, True
    return position, False


def _some_copies(
    query: Int[Tensor, "2 messages"], edges: Int[Tensor, "2 edges"], position: Int[Tensor, " messages"], nodes: int
) -> bool:
    """Whether a call holds some copies of a parallel edge and not others, so that their masks may be swapped. Copies of a
    self loop do not count: layers melt them into one of their own.
    """
    left = edges[0] != edges[1]
    left[position[position >= 0]] = False
    if not bool(left.any()):
        return False
    return bool(torch.isin(edges[0, left] * nodes + edges[1, left], query[0] * nodes + query[1]).any())


def _holds_edges(out: Any, depth: int = 3) -> bool:
    """Whether a module's output has the form of an `edge_index`, or holds one in a tuple or an object."""
    if isinstance(out, Tensor):
        return not out.is_floating_point() and out.dim() == 2 and out.size(0) == 2
    parts = out if isinstance(out, (tuple, list)) else vars(out).values() if hasattr(out, "__dict__") else ()
    return depth > 0 and any(_holds_edges(part, depth - 1) for part in parts)


def _node_counts(module: MessagePassing, size: Any, kwargs: dict[str, Any]) -> list[int]:
    """The numbers of nodes a call runs between, as far as its arguments tell."""
    counts = [int(s) for s in size or () if s is not None]
    x = kwargs.get("x")
    parts = x if isinstance(x, (tuple, list)) else (x,)
    features = [value for value in parts if isinstance(value, Tensor) and value.dim() >= abs(module.node_dim)]
    return counts + [value.size(module.node_dim) for value in features]


def _same(one: Shaped[Tensor, ...], other: Shaped[Tensor, ...]) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))
