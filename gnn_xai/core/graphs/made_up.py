"""Graphs made up out of the user's, on which rules that agree on the user's own come apart.

On a regular graph all normalisations by degree are one, and weights that sum to 1 at every node look as if nobody had
normalised them. Here edges are missing, edges run elsewhere, and weights are others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import Graphs

REWIRED, ONE_HALF, OTHER_HALF = range(3)
"""What is done to a copy of a graph: its edges run between other nodes, some several times; or half of them are absent, or
the rest."""

TOGETHER = 250_000
"""Nodes and edges up to which all copies are run at once."""


@dataclass(frozen=True, eq=False)
class MadeUp:
    """Copies of some graphs.

    Attributes:
        graphs: the copies, with all their edges.
        origin: `[E']` the edge of the data that each edge comes from.
        absent: `[E']` bool, edges that are to be taken out.
    """

    graphs: Graphs
    origin: Tensor
    absent: Tensor


def made_up(graphs: Graphs, select: Tensor) -> Iterator[MadeUp]:
    """Copies of some graphs `[G]` of the data, one of each kind; large ones kind by kind."""
    # Edges of a relation run between nodes of two types, and ids of edges name what is there: these stay where they are.
    fixed = graphs.types is not None or bool(graphs.columns)
    kinds = torch.tensor([ONE_HALF, OTHER_HALF] if fixed else [REWIRED, ONE_HALF, OTHER_HALF], device=graphs.device)
    size = int((graphs.node_ptr.diff() + graphs.edge_ptr.diff())[select].sum())
    for some in [kinds] if len(kinds) * size <= TOGETHER else kinds.split(1):
        copies = graphs.take(select.repeat(len(some)))
        origin, _ = gather_segments(graphs.edge_ptr, select.repeat(len(some)))
        kind = some.repeat_interleave(len(select))
        if not fixed:
            times = torch.where(kind[copies.edge_batch] == REWIRED, _times(copies), 1)
            copies, origin = _repeated(copies, times), origin.repeat_interleave(times)
        of_edge, even = kind[copies.edge_batch], _ranked(copies) % 2 == 0
        ends = torch.where(of_edge == REWIRED, _rewired(copies), copies.edge_index)
        absent = torch.where(of_edge == OTHER_HALF, ~even, even) & (of_edge != REWIRED)
        yield MadeUp(replace(_reweighted(copies), edge_index=ends), origin, absent)


def _times(graphs: Graphs) -> Tensor:
    """How often to take each edge, `[E]`: once, twice or three times in turn, a self loop once."""
    loop = graphs.edge_index[0] == graphs.edge_index[1]
    return torch.where(loop, 1, 1 + _ranked(graphs) % 3)


def _repeated(graphs: Graphs, times: Tensor) -> Graphs:
    """The same graphs with each edge so many times."""
    count = torch.bincount(graphs.edge_batch.repeat_interleave(times), minlength=graphs.num_graphs)
    return replace(
        graphs,
        edge_index=graphs.edge_index.repeat_interleave(times, 1),
        edge_ptr=pointers(count),
        edge_attrs={name: value.repeat_interleave(times, 0) for name, value in graphs.edge_attrs.items()},
    )


VARIANTS = 3
"""How many variants of a graph are compared with one another."""


def variants(graphs: Graphs, inside: Tensor) -> tuple[Graphs, Tensor]:
    """Variants of a graph, and which of their edges are absent, `[VARIANTS · E]` bool: none from the first, a fifth from
    each of the others. Weights are smaller inside of a part `[E]` bool in the first, and outside in the second.
    """
    copies = graphs.take(torch.zeros(VARIANTS, dtype=torch.int64, device=graphs.device))
    rank = _ranked(graphs)
    small = torch.cat([inside, ~inside, torch.zeros_like(inside)])
    return _reweighted(copies, small), torch.cat([torch.zeros_like(inside), rank % 5 == 0, rank % 5 == 1])


STRANGER = 3
"""How often a stranger has each edge of the graph that it is made of."""

MOST = 17
"""Edges into a node of a stranger's ring."""


def beside_a_stranger(replicas: Replicas) -> tuple[Replicas, Tensor | None]:
    """The same replicas, and after them a made-up graph unlike them; and which nodes of the union are its own, `[N]` bool.

    It is the largest of them with every edge several times, a node without edges, and a ring of nodes with more edges than
    any other: so many nodes that the largest, the smallest, the mean and the median of all degrees are others. The ring is
    as large as the replica, and around roots, where no model fills all up to the largest, larger than the union. Nodes of a
    heterogeneous graph have types, so they stay without edges there. Nothing is added where ids in the data name what is
    there. The stranger's output is not read around roots, and is the last one of graphs.
    """
    graphs = replicas.source.graphs
    if graphs.columns or len(replicas.node) == 0:
        return replicas, None
    device, number, total = graphs.device, len(replicas), len(replicas.node)
    largest = torch.argmax(torch.bincount(replicas.node_owner, minlength=number))
    nodes, edges = ((owner == largest).nonzero().flatten() for owner in (replicas.node_owner, replicas.edge_owner))
    place = torch.empty_like(replicas.node)
    place[nodes] = torch.arange(len(nodes), device=device) + total
    ring = nodes if replicas.rows is None else torch.arange(total, device=device).repeat(2)
    ends, copied = place[replicas.edge_index[:, edges]].repeat(1, STRANGER), edges.repeat(STRANGER)
    if graphs.types is None and len(replicas.edge):
        times = min(int(torch.bincount(replicas.edge_index[1]).max()) + 1, MOST)
        first = torch.arange(len(ring), device=device)
        around = torch.stack([first, (first + 1) % len(ring)]) + total + len(nodes)
        ends = torch.cat([ends, around.repeat(1, times)], dim=1)
        copied = torch.cat([copied, torch.arange(len(ring) * times, device=device) % len(replicas.edge)])
    added = torch.cat([nodes, ring, nodes[:1]])
    union = Replicas(
        replicas.source,
        torch.cat([replicas.instance, replicas.instance[largest].reshape(1)]),
        torch.cat([replicas.node, replicas.node[added]]),
        torch.cat([replicas.node_owner, torch.full_like(added, number)]),
        torch.cat([replicas.edge, replicas.edge[copied]]),
        torch.cat([replicas.edge_owner, torch.full_like(copied, number)]),
        torch.cat([replicas.edge_index, ends], dim=1),
        replicas.rows,
    )
    return union, union.node_owner == number


def _reweighted(graphs: Graphs, small: Tensor | int = 0) -> Graphs:
    """The same graphs, the floating attributes of each edge scaled by a number of its own in (½, 1), those of `small`
    edges by half of it.
    """
    factor = (1 + keyed_uniform(3, graphs.edge_key)) / (2 + 2 * small)
    types = graphs.types
    if types is not None:
        typed = zip(types.edge_attrs, types.edges, strict=True)
        types = replace(types, edge_attrs=tuple(_scaled(attributes, factor[edges]) for attributes, edges in typed))
    return replace(graphs, edge_attrs=_scaled(graphs.edge_attrs, factor), types=types)


def _scaled(attributes: dict[str, Tensor], factor: Tensor) -> dict[str, Tensor]:
    """Floating attributes `[e, ...]` times the numbers of their rows `[e]`."""
    return {
        name: value * factor.to(value.dtype).reshape(-1, *[1] * (value.dim() - 1))
        if value.is_floating_point()
        else value
        for name, value in attributes.items()
    }


def _ranked(graphs: Graphs) -> Tensor:
    """The place of each edge `[E]` in a random order of the self loops, or the other edges, of its graph."""
    loop = (graphs.edge_index[0] == graphs.edge_index[1]).long()
    group = graphs.edge_batch * 2 + loop
    order = torch.argsort(keyed_uniform(4, graphs.edge_key), stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=1)
    rank = torch.arange(len(order), device=order.device) - torch.repeat_interleave(pointers(count)[:-1], count)
    return torch.empty_like(rank).index_copy(0, order, rank)


def _rewired(graphs: Graphs) -> Tensor:
    """Other ends for the edges `[2, E]` that are no self loops, most of them at few nodes: within their graphs, and no
    self loops either.
    """
    start, size = graphs.node_ptr[graphs.edge_batch], graphs.node_ptr.diff()[graphs.edge_batch]
    key = graphs.edge_key
    receiver = (keyed_uniform(5, key).square() * size).long()
    sender = (receiver + 1 + (keyed_uniform(6, key) * (size - 1)).long()) % size.clamp(min=1)
    loop = graphs.edge_index[0] == graphs.edge_index[1]
    return torch.where(loop, graphs.edge_index, torch.stack([sender, receiver]) + start)
