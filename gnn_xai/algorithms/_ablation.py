"""Leave-one-out: the drop of the objective when nodes or edges are removed, one fragment at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import pointers, segment_sum
from gnn_xai.core.engines.evaluate import Change, Removal, evaluate
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Objective


@dataclass(frozen=True, eq=False)
class Fragments:
    """K fragments of B computation graphs, by instance: sets of nodes, or of edges, that are removed together.

    Attributes:
        graphs: the computation graphs.
        of_edges: they consist of edges.
        of: `[ΣN]` or `[ΣE]` the fragment of each node or edge, -1 for none.
        owner: `[K]` the instance of each fragment; sorted.
        key: `[K]` what random numbers of a fragment are keyed by.
        neutral: `[N, ...]` features that stand in for a node instead of removing it, or `None`.
        number: `[ΣN]` number of its fragment within its graph, -1 for none; `None` where fragments are single.
    """

    graphs: ComputationGraphs
    of_edges: bool
    of: Tensor
    owner: Tensor
    key: Tensor
    neutral: Tensor | None = None
    number: Tensor | None = None

    @cached_property
    def ptr(self) -> Tensor:
        """Where the fragments of each instance start, `[B + 1]`."""
        return pointers(torch.bincount(self.owner, minlength=len(self.graphs)))

    def members(self, replicas: Replicas) -> tuple[Tensor, Tensor]:
        """The fragment, -1 for none, and the replica of each node or edge of a union."""
        if self.of_edges:
            return self.of[replicas.edge], replicas.edge_owner
        return self.of[replicas.node], replicas.node_owner

    def change(self, replicas: Replicas, absent: Tensor) -> Change:
        """The change that takes out some nodes or edges `[ΣN]` or `[ΣE]` bool.

        A root of an instance stays, with features 0 and its edges; so does one node of a graph of which nothing would be
        left, without edges.
        """
        if self.of_edges:
            return Change(edges=absent)
        if self.neutral is not None and replicas.x is not None:
            gone = absent.reshape(-1, *[1] * (replicas.x.dim() - 1))
            return Change(x=torch.where(gone, self.neutral[replicas.node_id], replicas.x))
        stays, edges, x = torch.zeros_like(absent), None, None
        if replicas.rows is not None:
            stays[replicas.rows] = True
        else:
            position = torch.arange(len(absent), device=absent.device)
            left = segment_sum((~absent).long(), replicas.node_owner, len(replicas))
            first = torch.full_like(left, len(absent)).scatter_reduce(0, replicas.node_owner, position, "amin")
            if replicas.source.graphs.has_roots:  # which stay anyway
                first = first.scatter_reduce(0, replicas.node_owner[replicas.named], position[replicas.named], "amax")
            stays[first[left == 0]] = True
        stays &= absent
        if bool(stays.any()):
            edges = stays[replicas.edge_index].any(0) if replicas.rows is None else None
            x = replicas.features
            x = None if x is None else x.masked_fill(stays.reshape(-1, *[1] * (x.dim() - 1)), 0)
        return Change(edges=edges, nodes=absent & ~stays, x=x)

    def only(self, replicas: Replicas, present: Tensor) -> Change:
        """The change that leaves the fragments that are present, `[R, n]` bool by place within their instance."""
        fragment, replica = self.members(replicas)
        place = (fragment - self.ptr[replicas.instance[replica]]).clamp(min=0)
        return self.change(replicas, (fragment >= 0) & ~present[replica, place])

    def links(self) -> tuple[Tensor, Tensor, Tensor]:
        """Through what fragments are connected: `(fragment, the node or edge that it meets others in)` `[M]`, by instance,
        and where those of each instance start `[B + 1]`.

        Edges meet in nodes, nodes in edges.
        """
        ends = self.graphs.edge_index + self.graphs.node_ptr[self.graphs.edge_owner]
        edges = torch.arange(ends.size(1), device=ends.device)
        pairs = [(self.of, end) if self.of_edges else (self.of[end], edges) for end in ends]
        fragment, medium = (torch.cat(values) for values in zip(*pairs, strict=True))
        fragment, medium = torch.unique(torch.stack([fragment, medium])[:, fragment >= 0], dim=1)
        return fragment, medium, pointers(torch.bincount(self.owner[fragment], minlength=len(self.graphs)))

    def scores(self, values: Tensor, **more: Tensor) -> Scores:
        """The values of fragments `[K]` as scores of their nodes or edges; more such values as extras.

        The nodes of a fragment of several have equal shares of its value, which stands whole in
        `extras["node_fragment_value"]`. An edge has the value of its unit, as both directions of an undirected edge do.
        """
        inside = self.of >= 0
        if self.of_edges:
            inside = inside & self.graphs.edge_in_play

        def spread(values: Tensor) -> Tensor:
            return values.new_zeros(len(self.of)).masked_scatter(inside, values[self.of[inside]])

        if self.of_edges:
            return Scores(edge=spread(values), extras={f"edge_{name}": spread(extra) for name, extra in more.items()})
        if self.number is None:
            extras = {f"node_{name}": spread(extra) for name, extra in more.items()}
            return Scores(node=spread(values).unsqueeze(1), node_type="object", extras=extras)
        size = torch.bincount(self.of[inside], minlength=len(self.owner))
        extras = {f"node_{name}": spread(extra / size) for name, extra in more.items()}
        extras |= {"node_fragment": self.number, "node_fragment_value": spread(values)}
        return Scores(node=spread(values / size).unsqueeze(1), node_type="object", extras=extras)


def single_edges(session: Session, graphs: ComputationGraphs) -> Fragments:
    """Every edge in play, an undirected one with both its directions."""
    first, unit = session.removable(graphs)
    return Fragments(graphs, True, unit, graphs.edge_owner[first], session.edge_key(graphs)[first])


def node_fragments(graphs: ComputationGraphs, number: Tensor | None = None, neutral: Tensor | None = None) -> Fragments:
    """The nodes in play, one by one or by a number `[N]` of all nodes of the data (-1 for none)."""
    source = graphs.graphs
    every = torch.arange(source.num_nodes, device=source.device) if number is None else number
    local = torch.where(graphs.node_in_play, every[graphs.node], -1)
    inside = (local >= 0).nonzero().flatten()
    width = int(local.max()) + 1 if len(local) else 1
    distinct, fragment = torch.unique(graphs.node_owner[inside] * width + local[inside], return_inverse=True)
    of = torch.full_like(local, -1).index_copy(0, inside, fragment)
    key = torch.full_like(distinct, torch.iinfo(torch.int64).max)
    key = key.scatter_reduce(0, fragment, source.node_key[graphs.node[inside]], "amin")
    return Fragments(graphs, False, of, distinct // width, key, neutral, None if number is None else local)


def ablate(method: Any, session: Session, fragments: Fragments, target: Tensor, prediction: Tensor) -> Scores:
    """score(graph) − score(graph without the fragment), for each fragment; `method` has a `removal` and an `objective`."""

    def change(replicas: Replicas, select: Tensor) -> Change:
        fragment, replica = fragments.members(replicas)
        return fragments.change(replicas, fragment == select[replica])

    graphs, owner = fragments.graphs, fragments.owner
    full = session.problem.score(prediction, target, method.objective)
    left = variant_scores(session, graphs, target, owner, change, method.removal, method.objective)
    return fragments.scores(full[owner] - left)


def variant_scores(
    session: Session,
    graphs: ComputationGraphs,
    target: Tensor,
    instance: Tensor,
    change: Callable[[Replicas, Tensor], Change],
    removal: Removal,
    objective: Objective,
    share: float = 1.0,
) -> Tensor:
    """The objective of V changed variants of instances, `[V]`; arguments as in `evaluate`."""

    def reduce(out: Tensor, select: Tensor) -> Tensor:
        return session.problem.score(out, target[instance[select]], objective)

    return evaluate(session, graphs, instance, change, removal, reduce, share)
