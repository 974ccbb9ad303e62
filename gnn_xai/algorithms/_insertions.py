"""Edges that are not there: a graph with all that may be added, of which each variant lacks those that it does not add.

Adding an edge then is not removing it, so engines that take edges out of graphs, and keep degrees right while they do, add
them, too. Each instance has a copy of its own graph, as what may be added there is nobody else's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnn_xai.algorithms._counterfactual import ranks
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.evaluate import Change, evaluate
from gnn_xai.core.engines.prepare import prepare
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.errors import InputError


@dataclass(frozen=True, eq=False)
class Insertions:
    """Some instances, and what may be edited in their graphs.

    Attributes:
        session: how to run the model on them.
        graphs: their computation graphs, with the edges that may be added.
        instances: which instances they are.
        prediction: the model's outputs without edits.
        unit: `[ΣE]` the unit of each edge that is edited whole, -1 for none; those of an instance follow one another.
        owner: `[U]` the position of the instance of each unit.
        original: `[ΣE]` flat position of each edge in the computation graphs that were handed in, -1 for none.
        absent: `[ΣE]` the edge is not there unless it is added.
        first: `[ΣE]` it is the first direction of its unit.
        shift: `[B]` from node ids of these graphs to those of the data, or to ids within its graph.
    """

    session: Session
    graphs: ComputationGraphs
    instances: Tensor
    prediction: Tensor
    unit: Tensor
    owner: Tensor
    original: Tensor
    absent: Tensor
    first: Tensor
    shift: Tensor

    def ends(self, edges: Tensor) -> Tensor:
        """The ends of some edges in the user's ids, `[e, 2]`."""
        ends = self.graphs.graphs.edge_index[:, self.graphs.edge[edges]]
        return (ends + self.shift[self.graphs.edge_owner[edges]]).t()


def with_insertions(session: Session, graphs: ComputationGraphs, prediction: Tensor, most: int) -> Iterator[Insertions]:
    """The instances, in parts, with at most so many pairs of nodes each that may be joined.

    Raises:
        InputError: if the data's edges have attributes or types, or the model does not run on the larger graph.
    """
    every = torch.arange(len(graphs), device=graphs.edge.device)
    edges = torch.arange(len(graphs.edge), device=graphs.edge.device)
    if not most:
        head, unit = session.removable(graphs)
        absent = torch.zeros_like(edges, dtype=torch.bool)
        first = absent.clone()
        first[head] = True
        owner = graphs.edge_owner[head]
        yield Insertions(session, graphs, every, prediction, unit, owner, edges, absent, first, every * 0)
        return
    source = graphs.graphs
    carried = sorted(source.edge_attrs.keys() - {"e_id"})
    if source.types is not None or carried:
        if source.types is None:
            why = f"edges with attributes ({', '.join(carried)}), which a new edge would lack"
        else:
            why = "a heterogeneous graph, where nobody knows the relation of a new edge"
        raise InputError(f"expected CounterfactualSearch(insertions=0) for {why}, got {most}")
    plain = replace(source, edge_attrs={}).take(graphs.graph)
    start = plain.node_ptr[:-1] - source.node_ptr[graphs.graph]
    pairs, owner = _pairs(graphs, session.undirected, most)
    new = pairs + start[owner]
    if session.undirected:
        new, owner = torch.cat([new, new.flip(0)], 1), owner.repeat(2)
    graph = torch.cat([plain.edge_batch, owner])
    order = torch.argsort(graph, stable=True)
    old = (
        torch.arange(plain.num_edges, device=order.device)
        + (source.edge_ptr[graphs.graph] - plain.edge_ptr[:-1])[plain.edge_batch]
    )
    original = torch.cat([old, torch.full_like(owner, -1)])[order]
    larger = replace(
        plain,
        edge_index=torch.cat([plain.edge_index, new], 1)[:, order],
        edge_ptr=pointers(torch.bincount(graph, minlength=len(graphs))),
        many=True,
    )
    roots = graphs.roots is not None
    index = graphs.index + (start if graphs.index.dim() == 1 else start.unsqueeze(1)) if roots else every
    prepared = prepare(replace(session.problem, graphs=larger), undirected=session.undirected, index=index)
    run = replace(prepared.session(session.seed, structural=True), advance=session.advance)
    shift = -start if roots else -plain.node_ptr[:-1]
    for chunk in prepared.chunks(run, index):
        yield _part(run, chunk.graphs, chunk.positions, graphs, prediction, original, shift)


def _part(
    session: Session,
    larger: ComputationGraphs,
    positions: Tensor,
    graphs: ComputationGraphs,
    prediction: Tensor,
    original: Tensor,
    shift: Tensor,
) -> Insertions:
    """What may be edited in some of the larger computation graphs: new edges, and edges that could reach the output."""
    edge = original[larger.edge]
    absent, span = edge < 0, max(graphs.graphs.num_edges, 1)
    keys = graphs.edge_owner * span + graphs.edge  # sorted: instances in order, edges sorted within
    wanted = positions[larger.edge_owner] * span + edge
    place = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
    known = ~absent & (keys[place] == wanted) if len(keys) else torch.zeros_like(absent)
    place = torch.where(known, place, -1)
    head, unit = session.removable(larger)
    editable = torch.zeros_like(head, dtype=torch.bool)  # a unit of which some edge is new, or was in play
    editable[unit[(unit >= 0) & (absent | known & _at(graphs.edge_in_play, place))]] = True
    number = torch.where(editable, editable.cumsum(0) - 1, -1)
    unit = torch.where(unit >= 0, number[unit.clamp(min=0)], -1) if len(head) else unit
    head = head[editable]
    first = torch.zeros_like(absent)
    first[head] = True
    instances = torch.arange(len(positions), device=positions.device)
    out = evaluate(
        session,
        larger,
        instances,
        lambda replicas, _: Change(edges=absent[replicas.edge]),
        "structural",
        lambda out, _: out,
        0.0,
    )
    if len(out) and not bool(close(out, prediction[positions]).all()):
        raise InputError(
            "expected a model that gives the same output with its edges in another order, got one that does not, where "
            "edges cannot be added; pass insertions=0"
        )
    owner = larger.edge_owner[head]
    return Insertions(
        session, larger, positions, prediction[positions], unit, owner, place, absent, first, shift[positions]
    )


def _at(values: Tensor, place: Tensor) -> Tensor:
    """Values at places, whatever for a place of -1, of which there may be no value at all."""
    return torch.cat([values, values.new_zeros(1)])[place]


def _pairs(graphs: ComputationGraphs, undirected: bool, most: int) -> tuple[Tensor, Tensor]:
    """Pairs of nodes in play without an edge, in node ids of the data, `[2, P]`, and their instances `[P]`.

    First those with a root, then those with a common neighbour, in an order keyed by their nodes.
    """
    total, every = len(graphs.node), graphs.edge_index + graphs.node_ptr[graphs.edge_owner]
    ends = every[:, graphs.edge_in_play]
    adjacency = torch.sparse_coo_tensor(
        ends, torch.ones_like(ends[0], dtype=torch.float), (total, total), check_invariants=True
    )
    adjacency = (adjacency + adjacency.t()).coalesce()
    pairs = [torch.sparse.mm(adjacency, adjacency).coalesce().indices()]
    if graphs.roots is not None:
        node = torch.arange(total, device=ends.device)
        for root in (graphs.roots + graphs.node_ptr[:-1].unsqueeze(1)).unbind(1):
            with_root = torch.stack([root[graphs.node_owner], node])
            pairs = [with_root, with_root.flip(0), *pairs]
    later = torch.cat([torch.full_like(some[0], some is pairs[-1]) for some in pairs])
    u, v = torch.cat(pairs, 1)
    wanted = (u < v if undirected else u != v) & graphs.node_in_play[u] & graphs.node_in_play[v]
    pair, place = torch.unique((u * total + v)[wanted], return_inverse=True)
    later = torch.ones_like(pair).scatter_reduce(0, place, later[wanted], "amin")
    joined = every[0] * total + every[1]
    free = ~torch.isin(pair, torch.cat([joined, every[1] * total + every[0]]) if undirected else joined)
    pair, later = pair[free], later[free]
    owner, nodes = graphs.node_owner[pair // total], graphs.node[torch.stack([pair // total, pair % total])]
    key = graphs.graphs.node_key[nodes]
    key = key.sort(0).values if undirected else key
    order = torch.argsort(keyed_uniform(0, graphs.instance_key[owner], *key), stable=True)
    for by in (later, owner):
        order = order[torch.argsort(by[order], stable=True)]
    order = order[ranks(owner[order]) < most]
    return nodes[:, order], owner[order]
