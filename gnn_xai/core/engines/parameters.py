"""Learned parameters behind edge and node masks, and how they become masks of a union.

Parameters are theirs to spread over the edges, nodes or values that share one; initial values are keyed by instance and
element, so that they are the same in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from gnn_xai.core.arrays.keyed_random import keyed_normal
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.session import Session
from gnn_xai.core.engines.units import Units
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.inputs.features import Columns, Features, MaskedFeatures, by_column, by_row, by_value, structure


@dataclass(frozen=True)
class MaskObjective:
    """What a mask-learning algorithm minimises, per instance.

    `loss + edge_size·Σm + edge_ent·mean H(m) + node_feat_size·mean n + node_feat_ent·mean H(n)` over the edge mask m
    and the node mask n in play, where H is the binary entropy in nats. `loss` is −log p(target) (`"nll"`), the negative
    log-odds of the target (`"margin"`), or for a regression the squared distance to the original output.
    """

    loss: Literal["nll", "margin"]
    edge_size: float
    edge_ent: float
    node_feat_size: float
    node_feat_ent: float


class EdgeMask:
    """One parameter per undirected edge in play, or per directed edge where directions are not tied.

    Attributes:
        start: initial parameters, before the sigmoid.
        owner: the replica of each.
        edge: flat position of its first edge in the computation graphs.
        size, entropy: coefficients of m and of H(m) in the loss, over directed edges in play.
    """

    def __init__(
        self, session: Session, replicas: Replicas, objective: MaskObjective, init: float, init_std: float, restart: int
    ) -> None:
        source, dtype, stride = replicas.source, session.problem.dtype, max(len(replicas.source.edge), 1)
        in_play = source.edge_in_play[replicas.edge]
        positions, self.total = in_play.nonzero().flatten(), len(in_play)
        edge_owner = replicas.edge_owner[positions]
        # Both directions lie in the same replica, so (replica, tied edge) numbers the parameters.
        tied = session.tied(source)[replicas.edge[positions]]
        pairs, parameter = torch.unique(edge_owner * stride + tied, return_inverse=True)
        self.owner, edge = pairs // stride, pairs % stride
        self.edge = edge
        instance = replicas.instance[self.owner]
        stream = torch.full_like(edge, 2 * restart)
        start = keyed_normal(session.seed, source.instance_key[instance], session.edge_key(source)[edge], stream)
        self.start = (init + start * init_std).to(dtype)
        # Context takes a slot behind the parameters: 1 while masks are learned, 0 in the result.
        self.slot = torch.full((self.total,), len(pairs), device=edge.device).index_copy(0, positions, parameter)
        copies = torch.bincount(parameter, minlength=len(pairs)).to(dtype)
        count = torch.bincount(edge_owner, minlength=len(replicas)).clamp(min=1).to(dtype)
        self.size = objective.edge_size * copies
        self.entropy = objective.edge_ent * copies / count[self.owner]

    def spread(self, values: Float[Tensor, " parameters"]) -> Float[Tensor, " edges"]:
        """The mask of every edge of the union; 1 for context."""
        return torch.cat([values, values.new_ones(1)]).index_select(0, self.slot)

    def final(self, values: Float[Tensor, " parameters"]) -> Float[Tensor, " edges"]:
        """The mask of every edge of the union; 0 for context."""
        return torch.cat([values, values.new_zeros(1)]).index_select(0, self.slot)


class NodeMask:
    """Parameters on what a feature mask can change: nodes or features in play that are not 0 throughout.

    Attributes: as in `EdgeMask`; coefficients are means over the parameters of a replica.
    """

    def __init__(
        self,
        session: Session,
        replicas: Replicas,
        objective: MaskObjective,
        places: Int[Tensor, " parameters"],
        owner: Int[Tensor, " parameters"],
        element: tuple[Int[Tensor, " parameters"], Int[Tensor, " parameters"]],
        shape: tuple[int, int],
        init_std: float,
        restart: int,
    ) -> None:
        """Parameters at flat `places` of a mask of a `shape`, each of a replica `owner`, keyed by `element`."""
        graphs = replicas.source.graphs
        assert graphs.features is not None
        self.features = _features(session, replicas)
        self.lazy, self.node = session.features is not None, replicas.node_id
        self.places, self.owner, self.shape = places, owner, shape
        instance = replicas.source.instance_key[replicas.instance[owner]]
        start = keyed_normal(session.seed, instance, *element, torch.full_like(owner, 2 * restart + 1))
        self.start = (start * init_std).to(graphs.features.dtype)
        count = torch.bincount(owner, minlength=len(replicas)).clamp(min=1).to(graphs.features.dtype)[owner]
        self.size, self.entropy = objective.node_feat_size / count, objective.node_feat_ent / count

    def spread(self, values: Float[Tensor, " parameters"]) -> Shaped[Tensor, "nodes ..."]:
        """The masked features of the union; context keeps its own."""
        masked = self.masked(values)
        return masked if self.lazy else masked.dense()

    def masked(self, values: Float[Tensor, " parameters"]) -> MaskedFeatures:
        """The same, not multiplied yet."""
        raise NotImplementedError

    def final(self, values: Float[Tensor, " parameters"]) -> Float[Tensor, "rows width"]:
        """The mask in the layout of `Scores.node`; 0 where it cannot matter."""
        rows, width = self.shape
        return values.new_zeros(rows * width).index_copy(0, self.places, values).reshape(rows, width)


class RowMask(NodeMask):
    """`object`: one parameter a node."""

    def __init__(
        self, session: Session, replicas: Replicas, objective: MaskObjective, init_std: float, restart: int
    ) -> None:
        in_play = replicas.source.node_in_play[replicas.node]
        node = (in_play & _features(session, replicas).any[replicas.node_id]).nonzero().flatten()
        element = replicas.source.graphs.node_key[replicas.node_id[node]], torch.zeros_like(node)
        shape = len(replicas.node), 1
        super().__init__(
            session, replicas, objective, node, replicas.node_owner[node], element, shape, init_std, restart
        )
        self.slot = _slots(len(replicas.node), node)

    def masked(self, values: Float[Tensor, " parameters"]) -> MaskedFeatures:
        """Rows times their parameter."""
        return by_row(self.features, self.node, _from_slots(values, self.slot))


class ValueMask(NodeMask):
    """Parameters on values that are not 0: one each for `attributes`, one for a feature of all nodes of a replica for
    `common_attributes`.
    """

    def __init__(
        self,
        session: Session,
        replicas: Replicas,
        objective: MaskObjective,
        common: bool,
        init_std: float,
        restart: int,
    ) -> None:
        self.entries, self.values = structure(_features(session, replicas), replicas.node_id)
        row, feature, width = self.entries.row, self.entries.col, self.entries.num_cols
        inside = replicas.source.node_in_play[replicas.node][row]
        if common:
            key = replicas.node_owner[row] * width + feature
            places = torch.unique(key[inside])
            owner, feature = places // width, places % width
            element, rows = (torch.full_like(feature, -1), feature), len(replicas)
            place = torch.searchsorted(places, key).clamp(max=max(len(places) - 1, 0))
            slot = torch.where(inside, place, len(places))
        else:
            active = inside.nonzero().flatten()
            slot = _slots(len(row), active)
            row, feature = row[active], feature[active]
            places, owner, rows = row * width + feature, replicas.node_owner[row], len(replicas.node)
            element = replicas.source.graphs.node_key[replicas.node_id[row]], feature
        super().__init__(session, replicas, objective, places, owner, element, (rows, width), init_std, restart)
        self.slot = slot

    def masked(self, values: Float[Tensor, " parameters"]) -> MaskedFeatures:
        """Values times their parameters."""
        return by_value(self.features, self.node, self.entries, self.values * _from_slots(values, self.slot))


class ColumnMask(NodeMask):
    """`common_attributes` on features with few zeros: one parameter for a feature of all nodes of a replica."""

    def __init__(
        self, session: Session, replicas: Replicas, objective: MaskObjective, init_std: float, restart: int
    ) -> None:
        in_play = replicas.source.node_in_play[replicas.node]
        self.columns = Columns(
            _features(session, replicas), replicas.node_id, replicas.node_owner, fixed=~in_play, size=len(replicas)
        )
        nonzero = (self.columns.x[in_play] != 0).to(torch.int32)
        owner, feature = (segment_sum(nonzero, replicas.node_owner[in_play], len(replicas)) > 0).nonzero(as_tuple=True)
        shape = len(replicas), self.columns.x.size(1)
        element = torch.full_like(feature, -1), feature
        places = owner * shape[1] + feature
        super().__init__(session, replicas, objective, places, owner, element, shape, init_std, restart)

    def masked(self, values: Float[Tensor, " parameters"]) -> MaskedFeatures:
        """Rows times the parameters of their replica."""
        return by_column(self.features, self.node, self.columns, self.final(values))


class AttributeMask:
    """One parameter for each unit of an attribute beside `x`; coefficients are those of node masks.

    Attributes: as in `NodeMask`.
    """

    def __init__(
        self,
        session: Session,
        replicas: Replicas,
        objective: MaskObjective,
        units: Units,
        init_std: float,
        restart: int,
    ) -> None:
        """Parameters for those of `units` whose instance is among the replicas, each of another instance."""
        self.values = replicas.masked(units.column.name)
        place = torch.full((units.instances,), -1, device=units.owner.device)
        place[replicas.instance] = torch.arange(len(replicas), device=place.device)
        self.unit = (place[units.owner] >= 0).nonzero().flatten()
        self.owner = place[units.owner[self.unit]]
        # A place behind the last for what has no parameter, which -1 finds, too.
        slot = torch.full((len(units) + 1,), len(self.unit), device=place.device)
        slot[self.unit] = torch.arange(len(self.unit), device=place.device)
        self.slot = slot[units.of[replicas.elements(units.column.level)[0]]]
        instance = replicas.source.instance_key[units.owner[self.unit]]
        stream = torch.full_like(self.unit, 2 * restart + 1)
        element = units.row[self.unit], units.feature[self.unit], torch.full_like(self.unit, units.column.key)
        start = keyed_normal(session.seed, instance, *element, stream)
        self.start = (start * init_std).to(self.values.dtype)
        count = torch.bincount(self.owner, minlength=len(replicas)).clamp(min=1).to(self.values.dtype)[self.owner]
        self.size, self.entropy = objective.node_feat_size / count, objective.node_feat_ent / count

    def spread(self, values: Float[Tensor, " parameters"]) -> Shaped[Tensor, "rows ..."]:
        """The masked attribute of the union; what has no parameter keeps its own."""
        mask = torch.cat([values, values.new_ones(1)])[self.slot]
        return self.values * mask.reshape(self.values.shape)


def node_mask(
    session: Session, replicas: Replicas, objective: MaskObjective, kind: NodeMaskType, init_std: float, restart: int
) -> NodeMask:
    """The parameters for a type of node mask."""
    if kind == "object":
        return RowMask(session, replicas, objective, init_std, restart)
    if kind == "attributes" or _features(session, replicas).sparse:
        return ValueMask(session, replicas, objective, kind == "common_attributes", init_std, restart)
    return ColumnMask(session, replicas, objective, init_std, restart)


_PER_VALUE = 56
"""Bytes that one masked feature value takes: its place, its value, mask, gradient and the optimiser's moments."""


def cost_of_values(
    session: Session, graphs: ComputationGraphs, kind: NodeMaskType | None
) -> Float[Tensor, " instances"]:
    """Bytes that masks on feature values take for each instance, beyond what the model does."""
    if kind is None or kind == "object":
        return torch.zeros(len(graphs), device=graphs.node.device)
    assert graphs.graphs.features is not None
    features = session.features or Features(graphs.graphs.features)
    if features.sparse:
        return _PER_VALUE * segment_sum(
            features.nonzero[0].diff()[graphs.node].double(), graphs.node_owner, len(graphs)
        )
    per_value = _PER_VALUE if kind == "attributes" else 4 * graphs.graphs.features.element_size()
    return per_value * graphs.graphs.features[:1].numel() * graphs.num_nodes.double()


def _features(session: Session, replicas: Replicas) -> Features:
    """The data's features, kept for the whole question where the model follows a plan."""
    x = replicas.source.graphs.features
    assert x is not None
    return session.features or Features(x)


def _slots(total: int, active: Int[Tensor, " active"]) -> Int[Tensor, " {total}"] | None:
    """The parameter of each of `total` elements, or one behind the last for those that are not active; `None` where every
    element has its own.
    """
    if len(active) == total:
        return None
    slot = torch.full((total,), len(active), device=active.device)
    return slot.index_copy(0, active, torch.arange(len(active), device=active.device))


def _from_slots(
    values: Float[Tensor, " parameters"], slot: Int[Tensor, " elements"] | None
) -> Float[Tensor, " elements"]:
    """The mask of each element; 1 for those without a parameter."""
    return values if slot is None else torch.cat([values, values.new_ones(1)]).index_select(0, slot)
