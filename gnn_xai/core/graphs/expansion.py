"""Computation graphs of many outputs at once, by one breadth-first expansion around all roots."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gnn_xai.core.arrays.keyed_random import keyed_bits
from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH, ComputationGraphs, Replicas
from gnn_xai.core.graphs.source import Flow, Graphs


class Scope(NamedTuple):
    """How much of a graph is cut out around its roots, one of the steps of `SCOPES`."""

    extra: int  # hops beyond those that carry messages
    induced: bool  # all edges among the nodes, not only those that lead to a root
    whole: bool


SCOPES = (
    Scope(extra=0, induced=False, whole=False),  # enough where messages are not normalised by degree
    Scope(extra=1, induced=False, whole=False),  # in-degrees of border nodes (GCN)
    Scope(extra=1, induced=True, whole=False),  # degrees of either direction (Laplacians)
    Scope(extra=0, induced=False, whole=True),  # not local: normalisation over all nodes, virtual nodes, ...
)

INDUCED = 2
"""The widest of them that is local."""

DENSE = 200_000
"""Nodes and edges of all instances together, counted as if each had the whole graph, up to which tables are made of them."""


class Cap(NamedTuple):
    """How many of the edges into a node are followed when computation graphs are cut out."""

    max_neighbors: int
    seed: int  # of what is drawn


class TooLarge(Exception):
    """The computation graphs asked for together hold more nodes and edges than the limit."""


def around_nodes(
    graphs: Graphs,
    index: Int[Tensor, "instances ..."],
    steps: int,
    scope: Int[Tensor, " instances"],
    flow: Flow,
    limit: int | None = None,
    cap: Cap | None = None,
    followed: Bool[Tensor, "steps relations"] | None = None,
) -> ComputationGraphs:
    """The computation graphs of nodes or pairs of nodes, all together, by one breadth-first expansion over (instance, node)
    pairs.

    Args:
        graphs: the data.
        index: nodes, or several roots for each instance, of one graph.
        steps: message-passing steps L of the model.
        scope: which of `SCOPES` each instance gets.
        flow: the direction in which the model's layers pass messages.
        limit: raise `TooLarge` once more than this many nodes and edges would be held.
        cap: follow only some of the edges into a hub; the whole graph, where an instance gets it, is never cut.
        followed: in a heterogeneous graph, the relations along which messages pass that have so many steps to go, the last
            one first; `None` for all. In the steps beyond, all are followed.
    """
    if cap is None and followed is None and len(index) * (graphs.num_nodes + graphs.num_edges) <= DENSE:
        scopes = [SCOPES[number] for number in scope.tolist()]
        if not any(s.induced or s.whole for s in scopes):
            return _in_tables(graphs, index, steps, [s.extra for s in scopes], flow, limit)
    device, stride = graphs.device, max(graphs.num_nodes, 1)
    extra = torch.tensor([s.extra for s in SCOPES], device=device)[scope]
    induced = torch.tensor([s.induced for s in SCOPES], device=device)[scope]
    whole = torch.tensor([s.whole for s in SCOPES], device=device)[scope]
    local = (~whole).nonzero().flatten()
    capped = torch.zeros_like(whole)

    roots = index.reshape(len(index), -1)
    frontier = torch.unique(local.unsqueeze(1) * stride + roots[local])  # pairs as one integer: instance * N + node
    seen, depth = frontier, torch.zeros_like(frontier)
    size = graphs.num_nodes + graphs.num_edges
    if limit is not None and int(whole.sum()) * size > limit:
        raise TooLarge
    met: list[Tensor] = []  # (instance, edge) pairs, as instance * E + edge
    met_depth: list[Tensor] = []
    edge_stride, total = max(graphs.num_edges, 1), 0
    for hop in range(1, steps + (int(extra.max()) if len(extra) else 0) + 1):
        frontier = frontier[hop <= steps + extra[frontier // stride]]
        relations = None if followed is None or hop > steps else followed[hop - 1]
        if len(frontier) == 0 and relations is None:
            break
        expanded = frontier if relations is None else seen  # older nodes, too: no other step may follow these relations
        total += _followed(graphs, expanded, flow, cap) + len(frontier)
        if limit is not None and total > limit:
            raise TooLarge
        owner, sender, edge = _incoming(graphs, index, expanded, flow, cap, capped)
        if relations is not None:
            assert graphs.types is not None
            kept = relations[graphs.types.edge_type[edge]]
            owner, sender, edge = owner[kept], sender[kept], edge[kept]
        met.append(owner * edge_stride + edge)
        met_depth.append(torch.full_like(owner, hop - 1))
        reached = torch.unique(owner * stride + sender)
        place = torch.searchsorted(seen, reached).clamp(max=len(seen) - 1)
        frontier = reached[seen[place] != reached]
        seen, order = torch.sort(torch.cat([seen, frontier]))
        depth = torch.cat([depth, torch.full_like(frontier, hop)])[order]

    pairs, in_play = _unique_edges(met, met_depth, steps, frontier.new_zeros(0))
    if bool(induced.any()):
        inside = seen[induced[seen // stride]]
        once: Flow = "source_to_target" if flow == "both" else flow  # each edge at one end
        owner, sender, edge = _incoming(graphs, index, inside, once, cap, capped)
        other = owner * stride + sender
        kept = seen[torch.searchsorted(seen, other).clamp(max=len(seen) - 1)] == other
        pairs, in_play = _merge(pairs, in_play, (owner * edge_stride + edge)[kept], False)
    if bool(whole.any()):
        seen, depth, pairs, in_play = _add_whole(graphs, index, whole, seen, depth, pairs, in_play, stride, edge_stride)

    hops = torch.where(whole, WHOLE_GRAPH, steps + extra)
    return _flat(graphs, index, (seen, depth), (pairs, in_play), steps, hops, None if cap is None else capped)


def _in_tables(
    graphs: Graphs,
    index: Int[Tensor, "instances ..."],
    steps: int,
    extra: Sequence[int],
    flow: Flow,
    limit: int | None,
) -> ComputationGraphs:
    """The same as `around_nodes`, where a table of all nodes and edges for each instance is small: by far fewer operations.

    Args:
        graphs, index, steps, flow, limit: as there.
        extra: hops of each instance beyond those that carry messages.
    """
    size, (row, col) = len(index), graphs.edge_index
    ends = {"source_to_target": [(row, col)], "target_to_source": [(col, row)], "both": [(row, col), (col, row)]}[flow]
    depth = index.new_full((size, graphs.num_nodes), -1).scatter_(1, index.reshape(size, -1), 0)
    near = index.new_full((size, graphs.num_edges), -1)  # the depth of an edge's nearer receiver
    wider = torch.tensor(extra, dtype=torch.int64, device=graphs.device)
    frontier = depth == 0
    for hop in range(1, steps + max(extra, default=0) + 1):
        if hop > steps:
            frontier = frontier & (wider >= hop - steps).unsqueeze(1)
        count = torch.zeros(depth.shape, device=graphs.device)
        met = [frontier.index_select(1, receiver) for _, receiver in ends]
        for (sender, _), carries in zip(ends, met, strict=True):
            near.masked_fill_(carries & (near < 0), hop - 1)
            count.scatter_add_(1, sender.expand(near.shape), carries.float())
        frontier = (count > 0) & (depth < 0)
        depth.masked_fill_(frontier, hop)
    seen, pairs = (table.reshape(-1).add(1).nonzero().flatten() for table in (depth, near))
    if limit is not None and len(seen) + len(pairs) > limit:
        raise TooLarge
    nodes = seen, depth.reshape(-1)[seen]
    edges = pairs, near.reshape(-1)[pairs] < steps
    return _flat(graphs, index, nodes, edges, steps, wider + steps, None)


def _flat(
    graphs: Graphs,
    index: Int[Tensor, "instances ..."],
    nodes: tuple[Int[Tensor, " nodes"], Int[Tensor, " nodes"]],
    edges: tuple[Int[Tensor, " edges"], Bool[Tensor, " edges"]],
    steps: int,
    hops: Int[Tensor, " instances"],
    capped: Bool[Tensor, " instances"] | None,
) -> ComputationGraphs:
    """Sorted (instance, node) pairs with their depth, and (instance, edge) pairs with whether they are in play, as
    computation graphs.
    """
    (seen, depth), (pairs, in_play), size = nodes, edges, len(index)
    stride, edge_stride = max(graphs.num_nodes, 1), max(graphs.num_edges, 1)
    node_owner, edge_owner, edge = seen // stride, pairs // edge_stride, pairs % edge_stride
    node_ptr = pointers(torch.bincount(node_owner, minlength=size))
    edge_ptr = pointers(torch.bincount(edge_owner, minlength=size))
    ends = graphs.edge_index[:, edge]
    edge_index = torch.searchsorted(seen, edge_owner * stride + ends) - node_ptr[edge_owner]
    roots = torch.arange(size, device=graphs.device).unsqueeze(1) * stride + index.reshape(size, -1)
    return ComputationGraphs(
        graphs,
        index,
        seen % stride,
        node_ptr,
        depth,
        edge,
        edge_ptr,
        in_play,
        edge_index,
        torch.searchsorted(seen, roots) - node_ptr[:-1].unsqueeze(1),
        hops,
        torch.zeros_like(hops, dtype=torch.bool),
        steps,
        capped=capped,
    )


def _followed(graphs: Graphs, pairs: Int[Tensor, " pairs"], flow: Flow, cap: Cap | None) -> int:
    """How many edges `_incoming` returns for these pairs."""
    ptr, _, _ = graphs.incidence(flow)
    node = pairs % max(graphs.num_nodes, 1)
    degree = ptr[node + 1] - ptr[node]
    return int((degree if cap is None else degree.clamp(max=cap.max_neighbors)).sum())


def _incoming(
    graphs: Graphs,
    index: Int[Tensor, "instances ..."],
    pairs: Int[Tensor, " pairs"],
    flow: Flow,
    cap: Cap | None,
    capped: Bool[Tensor, " instances"],
) -> tuple[Int[Tensor, " messages"], Int[Tensor, " messages"], Int[Tensor, " messages"]]:
    """The edges that carry messages to the nodes of (instance, node) pairs, as `(instance, sender, edge)`.

    Under a cap, some are drawn for a hub, in a time that does not depend on how many it has. The numbers are keyed by
    instance and hub and point at its edges in the order of their keys: what an instance gets is the same in any batch.

    Args:
        graphs: the data.
        index: see `around_nodes`.
        pairs: as instance * N + node.
        flow: see `around_nodes`.
        cap: see `around_nodes`.
        capped: set to true for instances that lose edges here.
    """
    ptr, sender, edge = graphs.incidence(flow)
    owner, node = pairs // graphs.num_nodes, pairs % graphs.num_nodes
    if cap is None:
        slots, slot_ptr = gather_segments(ptr, node)
        return torch.repeat_interleave(owner, slot_ptr.diff()), sender[slots], edge[slots]
    hub = ptr[node + 1] - ptr[node] > cap.max_neighbors
    capped[owner[hub]] = True
    slots, slot_ptr = gather_segments(ptr, node[~hub])
    instance = torch.repeat_interleave(owner[~hub], slot_ptr.diff())
    drawn = _draw(graphs, graphs.roots_key(index)[owner[hub]], node[hub], flow, cap)
    slots = torch.cat([slots, drawn.reshape(-1)])
    return torch.cat([instance, owner[hub].repeat_interleave(cap.max_neighbors)]), sender[slots], edge[slots]


def _draw(
    graphs: Graphs, key: Int[Tensor, " hubs"], node: Int[Tensor, " hubs"], flow: Flow, cap: Cap
) -> Int[Tensor, "hubs {cap.max_neighbors}"]:
    """`max_neighbors` slots of the incidence for each of some hubs, each of an instance with a key.

    A hub's edges are a circle, cut into arcs of equal length from a random place on; one edge is drawn in each arc. So all
    have the same chance, and none is drawn twice. A self loop is always kept.
    """
    ptr, sender, _ = graphs.incidence(flow)
    arc = torch.arange(cap.max_neighbors + 1, device=node.device)  # the last number is for the place
    keys = key.unsqueeze(1), graphs.node_key[node].unsqueeze(1)
    number = keyed_bits(cap.seed, *keys, arc)
    first = ptr[node].unsqueeze(1)
    loop = (sender[first] == node.unsqueeze(1)).long()  # loops come first
    size = ptr[node + 1].unsqueeze(1) - first - loop
    low, high = ((arc[i : len(arc) - 1 + i] - loop) * size // (cap.max_neighbors - loop).clamp(min=1) for i in (0, 1))
    place = low + number[:, :-1].remainder((high - low).clamp(min=1)) + number[:, -1:].remainder(size)
    slots = first + loop + place % size
    slots[:, 0] = torch.where(loop[:, 0] > 0, first[:, 0], slots[:, 0])
    return slots


def _unique_edges(
    met: list[Tensor], depths: list[Tensor], steps: int, empty: Int[Tensor, " 0"]
) -> tuple[Int[Tensor, " edges"], Bool[Tensor, " edges"]]:
    """Sorted (instance, edge) pairs, and whether each can carry a message: its receiver is within L − 1 hops.

    With layers of both flows an edge is met from both ends; the nearer end decides.
    """
    if not met:
        return empty, empty.bool()
    pairs, inverse = torch.unique(torch.cat(met), return_inverse=True)
    near = torch.zeros_like(pairs, dtype=torch.bool)
    near[inverse[torch.cat(depths) < steps]] = True
    return pairs, near


def _add_whole(
    graphs: Graphs,
    index: Int[Tensor, "instances ..."],
    whole: Bool[Tensor, " instances"],
    seen: Int[Tensor, " before"],
    depth: Int[Tensor, " before"],
    pairs: Int[Tensor, " edges_before"],
    in_play: Bool[Tensor, " edges_before"],
    stride: int,
    edge_stride: int,
) -> tuple[Int[Tensor, " nodes"], Int[Tensor, " nodes"], Int[Tensor, " edges"], Bool[Tensor, " edges"]]:
    """Add all nodes and edges of the graph, all in play, for the instances that ask for it."""
    instance = whole.nonzero().flatten()
    graph = graphs.batch[index.reshape(len(index), -1)[instance, 0]]
    nodes, node_ptr = gather_segments(graphs.node_ptr, graph)
    edges, edge_ptr = gather_segments(graphs.edge_ptr, graph)
    more = torch.repeat_interleave(instance, node_ptr.diff()) * stride + nodes
    seen, order = torch.sort(torch.cat([seen, more]))
    depth = torch.cat([depth, torch.zeros_like(more)])[order]
    edges = torch.repeat_interleave(instance, edge_ptr.diff()) * edge_stride + edges
    return seen, depth, *_merge(pairs, in_play, edges, True)


def _merge(
    pairs: Int[Tensor, " before"], flags: Bool[Tensor, " before"], more: Int[Tensor, " added"], flag: bool
) -> tuple[Int[Tensor, " pairs"], Bool[Tensor, " pairs"]]:
    """Sorted union of two sets of pairs; pairs that were there keep their flag."""
    place = torch.searchsorted(pairs, more).clamp(max=max(len(pairs) - 1, 0))
    new = more if len(pairs) == 0 else more[pairs[place] != more]
    merged, order = torch.sort(torch.cat([pairs, new]))
    return merged, torch.cat([flags, torch.full_like(new, flag, dtype=torch.bool)])[order]


def of_graphs(graphs: Graphs, index: Int[Tensor, " instances"], steps: int) -> ComputationGraphs:
    """The computation graphs of graph-level outputs: each graph is its own, with everything in play."""
    node, node_ptr = gather_segments(graphs.node_ptr, index)
    edge, edge_ptr = gather_segments(graphs.edge_ptr, index)
    start = torch.repeat_interleave(graphs.node_ptr[index], edge_ptr.diff())
    return ComputationGraphs(
        graphs,
        index,
        node,
        node_ptr,
        torch.zeros_like(node),
        edge,
        edge_ptr,
        torch.ones_like(edge, dtype=torch.bool),
        graphs.edge_index[:, edge] - start,
        None,
        torch.full_like(index, steps),
        torch.ones_like(index, dtype=torch.bool),
        steps,
    )


def everything(graphs: Graphs, rows: Int[Tensor, "rows roots"] | None) -> Replicas:
    """All of the data as one union, where these rows are read, or for `None` its graphs."""
    every, node, edge = (
        torch.arange(size, device=graphs.device) for size in (graphs.num_graphs, graphs.num_nodes, graphs.num_edges)
    )
    source = ComputationGraphs(
        graphs,
        every,
        node,
        graphs.node_ptr,
        torch.zeros_like(node),
        edge,
        graphs.edge_ptr,
        torch.ones_like(edge, dtype=torch.bool),
        graphs.edge_index - graphs.node_ptr[graphs.batch[graphs.edge_index[0]]],
        None,
        torch.zeros_like(every),
        torch.ones_like(every, dtype=torch.bool),
        0,
    )
    batch, edge_index = graphs.batch.clone(), graphs.edge_index.clone()  # which the model may write to
    return Replicas(source, every, node, batch, edge, graphs.edge_batch, edge_index, rows)


def in_chunks(
    size: int,
    device: torch.device,
    extract: Callable[[Tensor, int | None], ComputationGraphs],
    limit: int,
    done: Container[range] = (),
) -> Iterator[tuple[Tensor, ComputationGraphs]]:
    """Computation graphs of `size` instances, in order, in chunks that stay below `limit` nodes and edges.

    Yields `(positions, computation graphs)`. `extract(positions, limit)` raises `TooLarge` where a chunk holds too much;
    it is then halved, so nothing depends on guesses about how large neighbourhoods are; a single instance has no limit.
    Chunks that are `done` are left out, and the others are the same as without.
    """
    stack = [range(size)]
    while stack:
        part = stack.pop()
        if part in done:
            continue
        positions = torch.arange(part.start, part.stop, device=device)
        try:
            yield positions, extract(positions, limit if len(part) > 1 else None)
        except TooLarge:
            half = (len(part) + 1) // 2
            stack += [part[half:], part[:half]]
