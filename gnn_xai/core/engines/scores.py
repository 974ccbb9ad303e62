"""What algorithms return: scores for the nodes and edges of computation graphs, and how they act on a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import as_rows, segment_max
from gnn_xai.core.engines.scored import NodeMaskType, Scored
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import MaskedModel


@dataclass(eq=False)
class Scores:
    """Scores for every node and edge of `ComputationGraphs`, context included (as 0).

    Attributes:
        edge: `[ΣE]`, or `None`.
        node: `[ΣN, 1]` for `object`, `[ΣN, F]` for `attributes`, `[B, F]` for `common_attributes`, or `None`.
        node_type: which of these.
        extras: further tensors per instance `[B, ...]`, per edge `[ΣE]` or per node, by name.
        columns: scores of further attributes: `[rows, 1]`, `[rows, F]` or `[B, F]` as for `node`, where an attribute of
            nodes has ΣN rows, one of edges ΣE and one of graphs B.
    """

    edge: Tensor | None = None
    node: Tensor | None = None
    node_type: NodeMaskType | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[Scored, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, edge: Tensor | None, attributes: Mapping[Scored, Tensor]) -> Scores:
        """Scores of edges, and of attributes with `x` among them."""
        node = {scored: value for scored, value in attributes.items() if scored.name == "x"}
        others = {scored: value for scored, value in attributes.items() if scored.name != "x"}
        for features, value in node.items():
            return cls(edge, value, features.type, columns=others)
        return cls(edge, columns=others)

    @property
    def attributes(self) -> dict[Scored, Tensor]:
        """The scores of all attributes: those of `x`, then of `columns`."""
        features = {} if self.node is None or self.node_type is None else {Scored.features(self.node_type): self.node}
        return {**features, **self.columns}


def soft(masks: Scores, graphs: ComputationGraphs, signed: bool) -> Scores:
    """Scores in [0, 1]: as they are, or for attributions |a| / max |a| over what is in play in each instance, separately for
    edges and each attribute.
    """
    if not signed:
        return masks

    def scaled(values: Tensor, owner: Tensor, in_play: Tensor | None) -> Tensor:
        size = values.abs() if in_play is None else values.abs() * in_play.unsqueeze(1)
        largest = segment_max(size.amax(1), owner, len(graphs)) if size.size(1) else size.new_zeros(len(graphs))
        return size / largest.clamp(min=torch.finfo(size.dtype).tiny)[owner].unsqueeze(1)

    edge = None
    if masks.edge is not None:
        edge = scaled(masks.edge.unsqueeze(1), graphs.edge_owner, graphs.edge_in_play).squeeze(1)
    attributes: dict[Scored, Tensor] = {}
    for scored, values in masks.attributes.items():
        if scored.type == "common_attributes":
            attributes[scored] = scaled(values, torch.arange(len(graphs), device=values.device), None)
        else:
            elements = graphs.rows(scored.name)
            attributes[scored] = scaled(values, elements.owner, elements.in_play)
    return Scores.of(edge, attributes)


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
    edge = None
    if masks.edge is not None:
        edge = masks.edge.index_select(0, replicas.edge)
        edge = torch.where(complement.index_select(0, replicas.edge_owner), 1 - edge, edge)
        edge = torch.where(replicas.source.edge_in_play.index_select(0, replicas.edge), edge, 1.0)
    return model(edge_mask=edge, columns=dict(_masked(replicas, masks, complement)))


def _masked(replicas: Replicas, masks: Scores, complement: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The attributes of a union under masks, by name."""
    for scored, mask in masks.attributes.items():
        at, replica = replicas.elements(scored.level)
        common = scored.type == "common_attributes"
        mask = mask.index_select(0, replicas.instance.index_select(0, replica) if common else at)
        mask = torch.where(complement.index_select(0, replica).unsqueeze(1), 1 - mask, mask)
        in_play = replicas.source.rows(scored.name).in_play
        mask = torch.where(in_play.index_select(0, at).unsqueeze(1), mask, 1.0)
        values = replicas.features if scored.name == "x" else replicas.masked(scored.name)
        if values is not None:
            yield scored.name, (as_rows(values) * mask).reshape(values.shape)
