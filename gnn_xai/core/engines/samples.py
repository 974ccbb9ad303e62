"""Instances that tell how a model can be run."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gnn_xai.core.engines.verification import Neighborhoods
from gnn_xai.core.graphs.expansion import TooLarge
from gnn_xai.core.graphs.source import Flow, Graphs

SAMPLE = 16
"""Instances, spread over the data, from which those are taken that tell how the model can be run."""


FEW = 2
"""Small neighbourhoods among those that tell it."""


SMALL = 250_000
"""Nodes and edges up to which a graph, or the neighbourhood of a node of the sample, is looked at whole."""


def of_different_size(graphs: Graphs, index: Int[Tensor, " instances"]) -> Int[Tensor, " sample"]:
    """Up to `SAMPLE` graphs of an index, the smallest and the largest among them."""
    if len(index) <= SAMPLE:
        return index
    size = graphs.node_ptr.diff()[index]
    ends = torch.stack([torch.argmin(size), torch.argmax(size)])
    first = torch.arange(SAMPLE, device=index.device)
    return index[torch.cat([first[: SAMPLE - 2], ends]).unique()]


def spread(graphs: Graphs, flow: Flow, roots: Int[Tensor, "outputs roots"] | None = None) -> Int[Tensor, " sample"]:
    """A few nodes that something reaches in two steps (if there are none, in one): of `SAMPLE` that are spread over the
    graph, those with the smallest neighbourhoods and a middling one. Any nodes, where there are no edges.

    What a layer does with its neighbours, and with nodes that it need not compute, shows where there are some. Where only
    some nodes have outputs, they are taken among these `roots`.
    """
    rooted = torch.ones(graphs.num_nodes, dtype=torch.int64, device=graphs.device)
    if roots is not None:
        rooted = torch.zeros_like(rooted).index_fill(0, roots.reshape(-1), 1)
    edges = graphs.edge_index[:, graphs.edge_index[0] != graphs.edge_index[1]]
    ways = [edges] * (flow != "target_to_source") + [edges.flip(0)] * (flow != "source_to_target")
    nodes = []
    for sender, receiver in ways:
        near = torch.bincount(receiver, minlength=graphs.num_nodes)
        far = torch.zeros_like(near).index_add_(0, receiver, near[sender])
        size = next(size for size in (far * rooted, near * rooted, rooted) if bool(size.any()))
        reached = size.nonzero().flatten()
        spread = reached[torch.linspace(0, len(reached) - 1, SAMPLE, device=graphs.device).long()].unique()
        by_size = spread[torch.argsort(size[spread], stable=True)]
        nodes.append(torch.cat([by_size[:FEW], by_size[len(by_size) // 2 :][:1]]))
    return torch.cat(nodes).unique()


def small(neighborhoods: Neighborhoods, sample: Int[Tensor, "sample ..."]) -> Bool[Tensor, " sample"]:
    """Whether the neighbourhood of an instance of a sample can be looked at without a cap; that of one at least."""
    graphs = neighborhoods.graphs
    if graphs.num_nodes + graphs.num_edges <= SMALL:
        return torch.ones(len(sample), dtype=torch.bool, device=sample.device)

    def fits(node: Int[Tensor, " 1"], scope: int) -> bool:
        try:
            neighborhoods.around(node, scope, SMALL)
        except TooLarge:
            return False
        return True

    for scope in (1, 0):  # with the hop that degrees may need, or else without
        small = torch.tensor([fits(one, scope) for one in sample.split(1)], device=sample.device)
        if bool(small.any()):
            return small
    ptr, _, _ = graphs.incidence(neighborhoods.flow)
    size = ptr.diff()[sample].reshape(len(sample), -1).sum(1)
    return torch.arange(len(sample), device=sample.device) == torch.argmin(size)
