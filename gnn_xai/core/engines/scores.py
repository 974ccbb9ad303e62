"""What algorithms return: scores for the nodes and edges of computation graphs, and how they act on a forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import segment_max
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import MaskedModel

NodeMaskType = Literal["object", "attributes", "common_attributes"]
NODE_MASK_TYPES: tuple[NodeMaskType, ...] = ("object", "attributes", "common_attributes")


@dataclass(eq=False)
class Scores:
    """Scores for every node and edge of `ComputationGraphs`, context included (as 0).

    Attributes:
        edge: `[ΣE]`, or `None`.
        node: `[ΣN, 1]` for `object`, `[ΣN, F]` for `attributes`, `[B, F]` for `common_attributes`, or `None`.
        node_type: which of these.
        extras: further tensors per instance `[B, ...]`, per edge `[ΣE]` or per node, by name.
    """

    edge: Tensor | None = None
    node: Tensor | None = None
    node_type: NodeMaskType | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)


def soft(masks: Scores, graphs: ComputationGraphs, signed: bool) -> Scores:
    """Scores in [0, 1]: as they are, or for attributions |a| / max |a| over what is in play in each instance."""
    if not signed:
        return masks

    def scaled(values: Tensor, owner: Tensor, in_play: Tensor | None) -> Tensor:
        size = values.abs() if in_play is None else values.abs() * in_play.unsqueeze(1)
        largest = segment_max(size.amax(1), owner, len(graphs)) if size.size(1) else size.new_zeros(len(graphs))
        return size / largest.clamp(min=torch.finfo(size.dtype).tiny)[owner].unsqueeze(1)

    edge = (
        None
        if masks.edge is None
        else scaled(masks.edge.unsqueeze(1), graphs.edge_owner, graphs.edge_in_play).squeeze(1)
    )
    node = masks.node
    if node is not None:
        common = masks.node_type == "common_attributes"
        owner = torch.arange(len(graphs), device=node.device) if common else graphs.node_owner
        node = scaled(node, owner, None if common else graphs.node_in_play)
    return Scores(edge, node, masks.node_type)


def faithful(session: Session, graphs: ComputationGraphs, scores: Scores) -> tuple[Tensor, Tensor]:
    """The model's output under soft masks and under their complement, each `[B, C]`.

    NaN where a mask cannot be applied: on codes that do not only go into embeddings, or in a model whose layers an edge
    mask cannot reach.
    """
    if not applicable(session, scores):
        nothing = session.outputs(graphs)[:, 0] * torch.nan
        return nothing, nothing
    kept, dropped = session.outputs(graphs, lambda model, way: apply(model, scores, way > 0), ways=2).unbind(1)
    return kept, dropped


def applicable(session: Session, scores: Scores) -> bool:
    """Whether masks can be applied: those of nodes to features, those of edges to the messages of every layer."""
    features = session.problem.graphs.features
    nodes = scores.node is None or (features is not None and features.is_floating_point())
    return nodes and (scores.edge is None or session.maskable)


def apply(model: MaskedModel, masks: Scores, complement: Tensor) -> Tensor:
    """The model's output `[R, C]` under soft masks, or under the complement for some replicas `[R]` bool; what is not in
    play stays as it is.
    """
    replicas: Replicas = model.replicas
    edge, x = None, None
    if masks.edge is not None:
        edge = masks.edge.index_select(0, replicas.edge)
        edge = torch.where(complement.index_select(0, replicas.edge_owner), 1 - edge, edge)
        edge = torch.where(replicas.source.edge_in_play.index_select(0, replicas.edge), edge, 1.0)
    if masks.node is not None and replicas.features is not None:
        common = masks.node_type == "common_attributes"
        owner = replicas.instance.index_select(0, replicas.node_owner) if common else replicas.node
        node = masks.node.index_select(0, owner)
        node = torch.where(complement.index_select(0, replicas.node_owner).unsqueeze(1), 1 - node, node)
        node = torch.where(replicas.source.node_in_play.index_select(0, replicas.node).unsqueeze(1), node, 1.0)
        x = (replicas.features.reshape(len(node), -1) * node).reshape(replicas.features.shape)
    return model(edge_mask=edge, x=x)
