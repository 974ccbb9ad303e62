"""Computation graphs: everything that can reach an explained output, for all instances at once.

For a model of L message-passing steps, an edge u→v can carry a message to the target t if v is within L − 1 hops of t:
those edges are *in play*. What only degree normalisation needs (the edges at the border) is *context*: it is computed
with but never masked. Whether it is needed is not guessed but verified against the model's output on the full graph.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from gnn_xai.core.arrays.segments import gather_segments, owners
from gnn_xai.core.graphs.by_type import ByType
from gnn_xai.core.graphs.columns import Level, Placement
from gnn_xai.core.graphs.source import Graphs

REUSED = 16
"""Unions that are kept for the next call; those of fewer replicas than this, or than there are instances."""

KEPT = 4_000_000
"""Numbers that they may hold together, about."""

WHOLE_GRAPH = -1
"""The value of `hops` where the computation graph is the whole graph because no neighbourhood was enough."""


class Elements(NamedTuple):
    """The nodes, edges or graphs of computation graphs: what a row of an attribute belongs to.

    Attributes:
        id: node, edge or graph of the data.
        owner: the instance of each.
        in_play: whether it can reach the output.
    """

    id: Int[Tensor, " rows"]
    owner: Int[Tensor, " rows"]
    in_play: Bool[Tensor, " rows"]


@dataclass(frozen=True, eq=False)
class ComputationGraphs:
    """The computation graphs of B instances, flat, with pointers.

    Attributes:
        graphs: where they were cut from.
        index: explained nodes or graphs, or pairs of nodes, `[B, 2]`.
        node: node of `graphs` for every node here; sorted within an instance.
        node_ptr: where the nodes of each instance start.
        node_depth: hops from the nearest root; 0 everywhere for graph-level tasks, and where the whole graph is needed.
        edge: edge of `graphs` for every edge here; sorted within an instance.
        edge_ptr: where the edges of each instance start.
        edge_in_play: whether an edge can carry a message to a root.
        edge_index: positions within the instance's own nodes.
        roots: the nodes that the output belongs to (the explained node, or both ends of a pair), as positions within the
            instance's own nodes; `None` for graph-level tasks.
        hops: radius in message-passing steps; `WHOLE_GRAPH` where none was enough.
        exact: the model gives the same output here as on the full graph.
        steps: message-passing steps L of the model.
        all_in_play: nothing is context, because what passes messages is not known.
        capped: the cap on followed edges left some out; `None` without a cap.
    """

    graphs: Graphs
    index: Int[Tensor, "instances ..."]
    node: Int[Tensor, " nodes"]
    node_ptr: Int[Tensor, " instances+1"]
    node_depth: Int[Tensor, " nodes"]
    edge: Int[Tensor, " edges"]
    edge_ptr: Int[Tensor, " instances+1"]
    edge_in_play: Bool[Tensor, " edges"]
    edge_index: Int[Tensor, "2 edges"]
    roots: Int[Tensor, "instances roots"] | None
    hops: Int[Tensor, " instances"]
    exact: Bool[Tensor, " instances"]
    steps: int
    all_in_play: bool = False
    capped: Bool[Tensor, " instances"] | None = None

    @cached_property
    def node_in_play(self) -> Bool[Tensor, " nodes"]:
        """Whether a node is within L hops of a root."""
        return (self.node_depth <= self.steps) | self.all_in_play

    def __len__(self) -> int:
        return len(self.index)

    @property
    def num_nodes(self) -> Int[Tensor, " instances"]:
        """Nodes per instance."""
        return self.node_ptr.diff()

    @property
    def num_edges(self) -> Int[Tensor, " instances"]:
        """Edges per instance."""
        return self.edge_ptr.diff()

    @cached_property
    def node_owner(self) -> Int[Tensor, " nodes"]:
        """The instance of each node."""
        return owners(self.node_ptr)

    @cached_property
    def edge_owner(self) -> Int[Tensor, " edges"]:
        """The instance of each edge."""
        return owners(self.edge_ptr)

    @cached_property
    def graph(self) -> Int[Tensor, " instances"]:
        """The graph of the data that each instance is of."""
        return self.index if self.roots is None else self.graphs.batch[self.index.reshape(len(self), -1)[:, 0]]

    @cached_property
    def instance_key(self) -> Int[Tensor, " instances"]:
        """Keys of random numbers for each instance: the ids of its roots, or its graph's key."""
        return self.graphs.graph_key[self.index] if self.roots is None else self.graphs.roots_key(self.index)

    @cached_property
    def partner(self) -> Int[Tensor, " edges"]:
        """Flat position of each edge's other direction within its instance; -1 where there is none."""
        if len(self.edge) == 0:
            return self.edge
        reverse = self.graphs.reverse[self.edge]
        keys = self.edge_owner * self.graphs.num_edges + self.edge  # sorted: instances in order, edges sorted within
        wanted = self.edge_owner * self.graphs.num_edges + reverse
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where((reverse >= 0) & (keys[place] == wanted), place, -1)

    def elements(self, level: Level) -> Elements:
        """The nodes, edges or graphs, flat."""
        if level == "node":
            return Elements(self.node, self.node_owner, self.node_in_play)
        if level == "edge":
            return Elements(self.edge, self.edge_owner, self.edge_in_play)
        every = torch.arange(len(self), device=self.edge.device)
        return Elements(self.graph, every, torch.ones_like(every, dtype=torch.bool))

    def rows(self, name: str) -> Elements:
        """Those that the rows of an attribute belong to; in play where they are of the type or relation that holds it."""
        level = self.graphs.levels.get(name, "node")  # scores of nodes are called x, also where the data has none
        elements, holds = self.elements(level), self.graphs.holds(name)
        return elements if holds is None else elements._replace(in_play=elements.in_play & holds[elements.id])

    def first(self, count: int) -> ComputationGraphs:
        """Those of the first instances."""
        nodes, edges = int(self.node_ptr[count]), int(self.edge_ptr[count])
        return replace(
            self,
            index=self.index[:count],
            node=self.node[:nodes],
            node_ptr=self.node_ptr[: count + 1],
            node_depth=self.node_depth[:nodes],
            edge=self.edge[:edges],
            edge_ptr=self.edge_ptr[: count + 1],
            edge_in_play=self.edge_in_play[:edges],
            edge_index=self.edge_index[:, :edges],
            roots=None if self.roots is None else self.roots[:count],
            hops=self.hops[:count],
            exact=self.exact[:count],
            capped=None if self.capped is None else self.capped[:count],
        )

    def replicas(self, select: Int[Tensor, " replicas"], by_depth: bool = False) -> Replicas:
        """The disjoint union of the selected instances; one may be selected many times.

        Args:
            select: instances.
            by_depth: sort nodes by depth, the roots of all instances first, and not by instance.
        """
        if len(select) > max(REUSED, len(self)):
            return self._replicas(select, by_depth)
        positions = select.tolist()
        key = (by_depth, *positions)
        if key not in self._reused:
            times = max(len(positions) // max(len(self), 1), 1)
            whole = not by_depth and positions == times * list(range(len(self)))
            replicas = self._every(select, times) if whole else self._replicas(select, by_depth)
            if replicas.numbers > KEPT:
                return replicas
            kept = sum(union.numbers for union in self._reused.values())
            if len(self._reused) == REUSED or kept + replicas.numbers > KEPT:
                self._reused.clear()
            self._reused[key] = replicas
        return self._reused[key]

    @cached_property
    def _reused(self) -> dict[tuple[int, ...], Replicas]:
        """Unions of which engines ask for the same ones again and again."""
        return {}

    def _every(self, select: Int[Tensor, " replicas"], times: int) -> Replicas:
        """All instances as they lie here, so many times."""
        copy = torch.arange(times, device=select.device).unsqueeze(1)

        def repeated(flat: Int[Tensor, " total"], more: int) -> Int[Tensor, " replicated"]:
            return (flat + more * copy).reshape(-1)

        node, edge = (torch.arange(len(some), device=some.device).repeat(times) for some in (self.node, self.edge))
        sources, targets = self.edge_index + self.node_ptr[self.edge_owner]
        edge_index = torch.stack([repeated(ends, len(self.node)) for ends in (sources, targets)])
        node_owner, edge_owner = (repeated(owner, len(self)) for owner in (self.node_owner, self.edge_owner))
        rows = None
        if self.roots is not None:
            roots = self.roots + self.node_ptr[:-1].unsqueeze(1)
            rows = repeated(roots.reshape(-1), len(self.node)).reshape(-1, roots.size(1))
        return Replicas(self, select, node, node_owner, edge, edge_owner, edge_index, rows)

    def _replicas(self, select: Int[Tensor, " replicas"], by_depth: bool) -> Replicas:
        node, node_ptr = gather_segments(self.node_ptr, select)
        edge, edge_ptr = gather_segments(self.edge_ptr, select)
        node_owner, edge_owner = owners(node_ptr), owners(edge_ptr)
        edge_index = self.edge_index.index_select(1, edge) + node_ptr.index_select(0, edge_owner)
        rows = None if self.roots is None else self.roots[select] + node_ptr[:-1].unsqueeze(1)
        if by_depth:
            order = torch.argsort(self.node_depth[node], stable=True)
            place = torch.empty_like(order)
            place[order] = torch.arange(len(order), device=order.device)
            node, node_owner, edge_index = node[order], node_owner[order], place[edge_index]
            rows = None if rows is None else place[rows]
        return Replicas(self, select, node, node_owner, edge, edge_owner, edge_index, rows)


@dataclass(frozen=True, eq=False)
class Replicas:
    """R replicas of computation graphs, as one graph that the model can run on.

    Attributes:
        source: where the replicas come from.
        instance: instance of each replica.
        node, edge: flat positions in `source`.
        node_owner, edge_owner: the replica of each node and edge.
        edge_index: in nodes of this union.
        rows: the nodes whose output is read, the roots of each replica as a rule; `None` for graph-level tasks.
    """

    source: ComputationGraphs
    instance: Int[Tensor, " replicas"]
    node: Int[Tensor, " nodes"]
    node_owner: Int[Tensor, " nodes"]
    edge: Int[Tensor, " edges"]
    edge_owner: Int[Tensor, " edges"]
    edge_index: Int[Tensor, "2 edges"]
    rows: Int[Tensor, "rows roots"] | None

    def __len__(self) -> int:
        return len(self.instance)

    @property
    def numbers(self) -> int:
        """How many numbers its tensors hold, about."""
        x = self.source.graphs.x
        return len(self.node) * (8 + (0 if x is None else x[:1].numel())) + len(self.edge) * 8

    @cached_property
    def built(self) -> dict[Any, Any]:
        """What was made once for these replicas, such as the sparse matrices of a plan, by what it was made of."""
        return {}

    @cached_property
    def node_id(self) -> Int[Tensor, " nodes"]:
        """The node of the data that each node is."""
        return self.source.node.index_select(0, self.node)

    @cached_property
    def edge_id(self) -> Int[Tensor, " edges"]:
        """The edge of the data that each edge is."""
        return self.source.edge.index_select(0, self.edge)

    @property
    def data(self) -> Any:
        """The union as a PyG `Batch` with every attribute of the original data; a new one, which a model may write to."""
        return self.with_values({})

    def with_values(self, values: dict[str, Shaped[Tensor, "rows ..."]]) -> Any:
        """The same with other values of some attributes, `x` among them, by name."""
        if "x" not in values and self.x is not None:
            values = {"x": self.x, **values}
        if self.by_type is not None:
            return self.by_type.with_values(self._bare, values)
        data = copy.copy(self._bare)
        for name, value in values.items():
            data[name] = value
        return data

    def elements(self, level: Level) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
        """The nodes, edges or graphs of the union: flat positions among those of `source`, and the replica of each."""
        if level == "node":
            return self.node, self.node_owner
        if level == "edge":
            return self.edge, self.edge_owner
        return self.instance, torch.arange(len(self), device=self.edge.device)

    def _ids(self, name: str) -> Int[Tensor, " rows"]:
        """The nodes, edges or graphs of the data that the rows of an attribute belong to."""
        level = self.source.graphs.levels[name]
        if level == "graph":
            return self.source.graph[self.instance]
        return self.node_id if level == "node" else self.edge_id

    def values(self, name: str) -> Shaped[Tensor, "rows ..."]:
        """An attribute of the union."""
        return self.source.graphs.values(name).index_select(0, self._ids(name))

    def masked(self, name: str) -> Shaped[Tensor, "rows ..."]:
        """The same as masks multiply it, see `Graphs.masked`."""
        return self.source.graphs.masked(name).index_select(0, self._ids(name))

    @property
    def output_rows(self) -> Int[Tensor, "replicas roots"] | None:
        """The roots as the model counts them: in a heterogeneous graph, within their type."""
        return self.rows if self.rows is None or self.by_type is None else self.by_type.place[self.rows]

    @cached_property
    def by_type(self) -> ByType | None:
        """The union by node type and relation, in a heterogeneous graph."""
        types = self.source.graphs.types
        return None if types is None else ByType.of(types, self.node_id, self.edge_id, self.edge_index)

    @cached_property
    def x(self) -> Shaped[Tensor, "nodes ..."] | None:
        """Node features of the union."""
        x = self.source.graphs.x
        return None if x is None else x.index_select(0, self.node_id)

    @cached_property
    def features(self) -> Shaped[Tensor, "nodes ..."] | None:
        """The features that masks multiply, see `Graphs.features`."""
        return self.masked("x") if "x" in self.source.graphs.factors else self.x

    @cached_property
    def _bare(self) -> Any:
        """The data without `x`, which is wide and often replaced."""
        if self.by_type is not None:
            return self.by_type.union(self.source.graphs, self._placement)
        return self.source.graphs.union(self._placement, self.edge_index)

    @cached_property
    def _placement(self) -> Placement:
        graphs, rooted = self.source.graphs, self.source.roots is not None
        return graphs.placement(
            self.node_id,
            self.node_owner,
            self.edge_id,
            self.edge_owner,
            self.source.graph[self.instance],
            shared=rooted and not graphs.many,
        )

    @cached_property
    def named(self) -> Bool[Tensor, " nodes"]:
        """The nodes that attributes name as the one root of a graph."""
        named = torch.zeros_like(self.node, dtype=torch.bool)
        for column in self.source.graphs.columns.values():
            if column.is_root:
                row, owner = self._placement.rows(column)
                named[self._placement.place("node", owner, column.value[row].reshape(-1).long())] = True
        return named

    def without(
        self, edges: Bool[Tensor, " edges"] | None = None, nodes: Bool[Tensor, " nodes"] | None = None
    ) -> Replicas:
        """The union rebuilt without some edges, or some nodes and all edges at them.

        A root must not be among the removed.
        """
        keep_edges = torch.ones_like(self.edge, dtype=torch.bool) if edges is None else ~edges
        node, node_owner, edge_index, rows = self.node, self.node_owner, self.edge_index, self.rows
        if nodes is not None:
            keep_edges = keep_edges & ~nodes[edge_index].any(0)
            place = (~nodes).long().cumsum(0) - 1
            edge_index, rows = place[edge_index], None if rows is None else place[rows]
            node, node_owner = node[~nodes], node_owner[~nodes]
        kept = keep_edges.nonzero().flatten()
        return Replicas(
            self.source,
            self.instance,
            node,
            node_owner,
            self.edge.index_select(0, kept),
            self.edge_owner.index_select(0, kept),
            edge_index.index_select(1, kept),
            rows,
        )
