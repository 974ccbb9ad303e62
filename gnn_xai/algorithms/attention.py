"""Attention: the weights that attention layers give to their messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.hidden_states import TOGETHER, whole_graphs
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.attention import Attended, attention
from gnn_xai.errors import InputError


@algorithm("attention", "attention weights of the model's layers", signed=False, edge_masks=False, any_model=False)
class Attention:
    """The attention weights of GAT, GATv2, Transformer, HGT, HAN and other attention layers, as scores of edges.

    The weights of the model's own forward pass: nothing is learned, and nothing is removed. A layer counts for an edge if
    what the edge carries in that layer can still reach the output. Attention says where the model looks, and not what it
    makes of what it sees; check it with `gnn_xai.metrics.fidelity` (Jain & Wallace, NAACL 2019).

    Where both directions of an edge share a score, it is the mean of the two.

    Attributes:
        heads: how the heads of a layer are reduced, `mean` or `max`.
        layers: how layers are reduced: `mean`, `max`, or `rollout` (Abnar & Zuidema, ACL 2020), the part of the output's
            attention that flows along the edge: products of weights along paths, added up over the paths through the edge
            and divided by the number of layers. It needs layers that follow one another, all with attention.
    """

    heads: Literal["mean", "max"] = "mean"
    layers: Literal["mean", "max", "rollout"] = "mean"

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        layers = self._layers(session, graphs)
        score = _rollout(layers, graphs) if self.layers == "rollout" else self._reduced(layers, graphs)
        tied = session.tied(graphs)
        score, count = segment_sum(score, tied, len(tied)), torch.bincount(tied, minlength=len(tied))
        score = (score / count.clamp(min=1))[tied]
        return Scores(edge=torch.where(graphs.edge_in_play, score, 0.0))

    def _layers(self, session: Session, graphs: ComputationGraphs) -> list[_Layer]:
        """The model's attention in a pass over whole graphs, at the nodes and edges of computation graphs."""
        rooted = session.problem.readout.rooted
        index = graphs.index.reshape(len(graphs), -1) if rooted else graphs.index
        parts: list[list[_Layer]] = []
        for whole in whole_graphs(session.problem, index, 1 if session.alone else TOGETHER):
            attended, calls = attention(session.problem, whole)
            if not attended:
                raise InputError(
                    "expected a layer with attention, such as GATConv, TransformerConv or HGTConv, and the model has none; "
                    "use gnn_xai.Saliency(), which explains any model"
                )
            chain = calls == graphs.steps
            if self.layers == "rollout" and not (chain and len(attended) == calls):
                raise InputError(
                    "expected layers that follow one another, all with attention, for layers='rollout', got "
                    f"{calls} calls of layers, {len(attended)} with attention, and {graphs.steps} hops; use layers='mean'"
                )
            parts.append([_Layer.of(one, whole, self.heads, chain) for one in attended])
        joined = [_Layer.joined(layers) for layers in zip(*parts, strict=True)]
        return [layer.at(graphs.edge, graphs.node) for layer in joined] if rooted else joined

    def _reduced(self, layers: list[_Layer], graphs: ComputationGraphs) -> Tensor:
        """The mean or maximum over the layers in which an edge carries something that can reach the output, `[ΣE]`."""
        depth = graphs.node_depth[graphs.edge_index + graphs.node_ptr[graphs.edge_owner]]
        counts = [layer.runs & (depth[layer.receiver] <= layer.left(graphs.steps)) for layer in layers]
        values = torch.stack([layer.edge * count for layer, count in zip(layers, counts, strict=True)])
        if self.layers == "max":
            return values.amax(0)
        return values.sum(0) / torch.stack(counts).sum(0).clamp(min=1)


class _Layer(NamedTuple):
    """The attention of one call of `propagate`, heads reduced.

    Attributes:
        number: of the call in a chain of calls; `None` where calls do not follow one another.
        receiver: the row of `edge_index` that messages go to.
        edge: weight of each edge, `[E]`.
        runs: the call runs on the edge, `[E]`.
        loop: weight of the self loop that the layer adds to each node, `[N]`.
    """

    number: int | None
    receiver: int
    edge: Tensor
    runs: Tensor
    loop: Tensor

    @classmethod
    def of(cls, attended: Attended, whole: Replicas, heads: Literal["mean", "max"], chain: bool) -> _Layer:
        """The attention of a call on a union."""
        number, call, weights = attended
        weight = weights.mean(1) if heads == "mean" else weights.amax(1)
        assert call.gather is not None
        edges = len(whole.edge)
        edge = weight.new_zeros(edges + 1).index_add(0, call.gather, weight)[:edges]
        runs = torch.zeros(edges + 1, dtype=torch.bool, device=weight.device).index_fill(0, call.gather, True)[:edges]
        loop = weight.new_zeros(len(whole.node))
        added = call.gather == edges
        if call.edge_index is not None and not call.relations:
            loop = loop.index_add(0, call.edge_index[1][added], weight[added])
        return cls(number if chain else None, 1 if call.flow == "source_to_target" else 0, edge, runs, loop)

    @classmethod
    def joined(cls, parts: Sequence[_Layer]) -> _Layer:
        """The same call on several unions, one after the other."""
        edge, runs, loop = (torch.cat(values) for values in zip(*(part[2:] for part in parts), strict=True))
        return cls(parts[0].number, parts[0].receiver, edge, runs, loop)

    def at(self, edge: Tensor, node: Tensor) -> _Layer:
        """At some edges and nodes."""
        return self._replace(edge=self.edge[edge], runs=self.runs[edge], loop=self.loop[node])

    def left(self, steps: int) -> int:
        """How many hops of a chain come after this call; all, where calls do not follow one another."""
        return steps if self.number is None else steps - 1 - self.number


def _rollout(layers: list[_Layer], graphs: ComputationGraphs) -> Tensor:
    """The part of the output's attention that flows along each edge, `[ΣE]`: back from the roots, layer by layer."""
    ends = graphs.edge_index + graphs.node_ptr[graphs.edge_owner]
    if graphs.roots is None:
        flow = (1 / graphs.num_nodes.clamp(min=1).to(layers[0].edge))[graphs.node_owner]
    else:
        roots = (graphs.roots + graphs.node_ptr[:-1].unsqueeze(1)).reshape(-1)
        share = layers[0].edge.new_full((len(roots),), 1 / graphs.roots.size(1))
        flow = layers[0].edge.new_zeros(len(graphs.node)).index_add(0, roots, share)
    score = torch.zeros_like(layers[0].edge)
    for layer in reversed(layers):
        along = flow[ends[layer.receiver]] * layer.edge
        score += along
        flow = segment_sum(along, ends[1 - layer.receiver], len(flow)) + flow * layer.loop
    return score / len(layers)
