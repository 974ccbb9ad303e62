"""Sets of nodes of one computation graph, and their Shapley values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs

SUBGRAPH = -2
"""What the random place of the subgraph among the nodes is keyed by, in the place of a node's key."""

Nodes = int
"""A set of nodes of an instance as the bits of an integer."""


class SubgraphsOf:
    """The connected subgraphs of one computation graph.

    Args:
        method: a `gnn_xai.SubgraphX`.
        session, graphs: the problem and how to run it, and computation graphs.
        place: of each node among those in play of its instance, see `places`.
        instance: which of these.
        full: score of the whole graph.

    Attributes:
        instance: its number.
        node: `[n]` flat positions of its nodes in play.
        all: the set of all these.
        known: scores of sets of nodes.
        asked: the sets that the rewards of subgraphs wait for.
        best, value: the best subgraph that was found, and its Shapley value.
    """

    def __init__(
        self, method: Any, session: Session, graphs: ComputationGraphs, place: Tensor, instance: int, full: float
    ) -> None:
        self.instance, self.best, self.value = instance, 0, 0.0
        self.known: dict[Nodes, float] = {}
        self.asked: dict[Nodes, list[Nodes]] = {}
        first, last = graphs.node_ptr[instance : instance + 2].tolist()
        place = place[first:last].cpu()
        self.node = (torch.argsort(place, stable=True)[int((place < 0).sum()) :] + first).to(graphs.node.device)
        ends = graphs.edge_index[:, graphs.edge_ptr[instance] : graphs.edge_ptr[instance + 1]].cpu()
        self.all: Nodes = (1 << len(self.node)) - 1
        self.next = [0] * len(self.node)
        for u, v in place[ends].t().tolist():
            if u >= 0 and v >= 0 and u != v:
                self.next[u] |= 1 << v
                self.next[v] |= 1 << u
        self.near = [self._reached(1 << node, self.all, method.radius) for node in range(len(self.node))]
        roots = [] if graphs.roots is None else place[graphs.roots[instance].cpu()].tolist()
        self.roots: Nodes = sum(1 << root for root in set(roots))
        self.outside = method.outside == "present"
        self.before = self._orders(method, session, graphs)
        # Rewards that differ by rounding alone are equal, so that what else is in the batch cannot decide between them.
        self.tick = 2.0 ** (math.frexp(full)[1] - 18) if full else 0.0

    def _orders(self, method: Any, session: Session, graphs: ComputationGraphs) -> list[Nodes]:
        """The nodes that come before the subgraph in random orders."""
        stream = torch.arange(method.samples, device=self.node.device).unsqueeze(1)
        key = graphs.instance_key[self.instance].reshape(1)
        node = graphs.graphs.node_key[graphs.node[self.node]]
        own = stream + keyed_uniform(session.seed, key, torch.full_like(key, SUBGRAPH), stream)
        before = keyed_uniform(session.seed, key, node, stream) < own / method.samples
        packed = np.packbits(before.cpu().numpy(), axis=1, bitorder="little")
        return [int.from_bytes(row.tobytes(), "little") for row in packed]

    def ask(self, state: Nodes) -> list[Nodes]:
        """The sets of nodes whose scores a reward needs: those before the subgraph joins in each order, and with it."""
        region = 0
        for node in bits(state):
            region |= self.near[node]
        playing = region & ~state
        always = self.all & ~region if self.outside else 0
        others = [before & playing | always for before in self.before]
        self.asked[state] = others + [before | state for before in others]
        return self.asked[state]

    def reward(self, state: Nodes) -> float:
        """The Shapley value of a subgraph, once the sets that it needs have scores."""
        scores = [self.known[nodes] for nodes in self.asked.pop(state)]
        count = len(self.before)
        value = (sum(scores[count:]) - sum(scores[:count])) / count
        return round(value / self.tick) * self.tick if self.tick and math.isfinite(value) else value

    def smaller(self, state: Nodes, expand: int, high_to_low: bool) -> list[Nodes]:
        """The subgraphs that are left when one node goes, for up to `expand` nodes."""
        sign = -1 if high_to_low else 1
        degree = {node: (self.next[node] & state).bit_count() for node in bits(state & ~self.roots)}
        tried = sorted(degree, key=lambda node: (sign * degree[node], node))[:expand]
        return list(dict.fromkeys(self._kept(state & ~(1 << node)) for node in tried))

    def _kept(self, nodes: Nodes) -> Nodes:
        """What is connected with the roots, or the largest component."""
        if self.roots:
            return self._reached(self.roots, nodes)
        largest, rest = 0, nodes
        while rest.bit_count() > largest.bit_count():
            component = self._reached(rest & -rest, nodes)
            largest = max(largest, component, key=int.bit_count)
            rest &= ~component
        return largest

    def _reached(self, start: Nodes, within: Nodes, hops: int | None = None) -> Nodes:
        """The nodes that some reach in so many hops, or any number."""
        reached = edge = start
        while edge and hops != 0:
            grown = 0
            for node in bits(edge):
                grown |= self.next[node]
            edge = grown & within & ~reached
            reached |= edge
            hops = None if hops is None else hops - 1
        return reached


def bits(nodes: Nodes) -> Iterator[int]:
    """The members of a set."""
    while nodes:
        low = nodes & -nodes
        yield low.bit_length() - 1
        nodes ^= low


def places(graphs: ComputationGraphs) -> Tensor:
    """The place of each node in play among those of its instance, `[ΣN]`; -1 for others.

    In the order of their keys, so that ties are broken alike however nodes are numbered.
    """
    inside = graphs.node_in_play.nonzero().flatten()
    inside = inside[torch.argsort(graphs.graphs.node_key[graphs.node[inside]], stable=True)]
    inside = inside[torch.argsort(graphs.node_owner[inside], stable=True)]
    owner = graphs.node_owner[inside]
    start = pointers(torch.bincount(owner, minlength=len(graphs)))
    place = torch.full_like(graphs.node, -1)
    place[inside] = torch.arange(len(inside), device=place.device) - start[owner]
    return place
