"""Instances as examples of Captum: tensors of inputs, and the objective as their function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.segments import as_rows, segment_ranks
from gnn_xai.core.engines.gradients import NO_GRADIENT
from gnn_xai.core.engines.scored import NodeMaskType, Scored
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH, ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import MaskedModel, require_float_features
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import InputError, warn


class Inputs:
    """Attributes and edge masks of instances as tensors with one row an instance, padded to the largest.

    The padding is never read. Elements stand in the order of their keys, which random numbers that Captum draws by position
    follow.
    """

    def __init__(
        self, session: Session, graphs: ComputationGraphs, node_type: NodeMaskType | None, edges: bool
    ) -> None:
        self.session, self.graphs = session, graphs
        self.columns = [Scored.features(node_type)] if node_type is not None else []
        self.columns += session.columns
        self.dtype, self.width = session.problem.dtype, 0
        if node_type is not None:
            self.width = require_float_features(session.problem, f"node_mask_type={node_type!r}")[:1].numel()
        self.slot = {column: self._slots(column) for column in self.columns}
        self.edge_slot = None
        if edges:
            first, unit = session.removable(graphs)
            slot = segment_ranks(session.edge_key(graphs)[first], graphs.edge_owner[first], len(graphs))
            self.edge_slot = torch.cat([slot, slot.new_full((1,), -1)])[unit]

    def _slots(self, column: Scored) -> Tensor:
        """The place of each row of an attribute within its instance, one for rows that share scores; -1 for context."""
        session, graphs = self.session, self.graphs
        elements, tied = graphs.rows(column.name), session.rows_tied(graphs, column)
        first = ((tied == torch.arange(len(tied), device=tied.device)) & elements.in_play).nonzero().flatten()
        slot = torch.full_like(tied, -1)
        slot[first] = segment_ranks(session.row_key(graphs, column)[first], elements.owner[first], len(graphs))
        return torch.where(elements.in_play, slot[tied], -1)

    def cost(self) -> Tensor:
        """The share of a batch that an instance takes, `[B]`."""
        cost = self.session.cost(self.graphs)
        if not self.session.budget.in_bytes:
            return cost
        return cost + 4 * torch.finfo(self.dtype).bits // 8 * self.width * self.graphs.num_nodes

    def of(self, select: Tensor) -> tuple[Tensor, ...]:
        """The inputs of some instances: of each attribute `[b, n, F]`, `[b, n]` or `[b, F]`, then of edges `[b, k]`."""
        replicas, size = self.graphs.replicas(select), len(select)
        inputs = []
        for column in self.columns:
            at, owner = replicas.elements(column.level)
            slot, rows = self.slot[column][at], as_rows(replicas.masked(column.name))
            most = max(int(slot.max()) + 1 if len(slot) else 0, 1)
            shapes = {"object": (most,), "attributes": (most, rows.size(1)), "common_attributes": (rows.size(1),)}
            value = torch.ones(size, *shapes[column.type], dtype=self.dtype, device=select.device)
            if column.type == "attributes":
                filled = slot >= 0
                value[owner[filled], slot[filled]] = rows[filled]
            inputs.append(value)
        if self.edge_slot is not None:
            slot = self.edge_slot[replicas.edge]
            most = int(slot.max()) + 1 if len(slot) else 0
            inputs.append(torch.ones(size, max(most, 1), dtype=self.dtype, device=select.device))
        return tuple(value.requires_grad_() for value in inputs)

    def spread(self, replicas: Replicas, values: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Attributes by name and the edge mask `[ΣE]` of a union of replicas, from one row of inputs for each."""
        attributes, mask = {}, None
        for column, value in zip(self.columns, values, strict=False):
            original, (at, owner) = replicas.masked(column.name), replicas.elements(column.level)
            rows, slot = as_rows(original), self.slot[column][at].unsqueeze(1)
            taken = value[owner] if column.type == "common_attributes" else value[owner, slot.squeeze(1)]
            if column.type != "attributes":
                taken = rows * (taken.unsqueeze(1) if column.type == "object" else taken)
            attributes[column.name] = torch.where(slot >= 0, taken, rows).reshape(original.shape)
        if self.edge_slot is not None:
            slot = self.edge_slot[replicas.edge]
            mask = torch.where(slot >= 0, values[-1][replicas.edge_owner, slot], 1.0)
        return attributes, mask

    def zeros(self) -> Scores:
        """Scores of 0 for all instances, to be filled."""
        graphs, edge, attributes = self.graphs, None, {}
        if self.edge_slot is not None:
            edge = torch.zeros(len(graphs.edge), dtype=self.dtype, device=graphs.edge.device)
        for column in self.columns:
            rows = len(graphs) if column.type == "common_attributes" else len(self.slot[column])
            width = 1 if column.type == "object" else graphs.graphs.masked(column.name)[:1].numel()
            attributes[column] = torch.zeros(rows, width, dtype=self.dtype, device=graphs.node.device)
        return Scores.of(edge, attributes)

    def keep(self, scores: Scores, select: Tensor, attributions: tuple[Tensor, ...]) -> None:
        """Write Captum's attributions of some instances into the scores."""
        replicas = self.graphs.replicas(select)
        values = [value.detach().to(self.dtype) for value in attributions]
        if scores.edge is not None and self.edge_slot is not None:
            slot = self.edge_slot[replicas.edge]
            filled = (slot >= 0) & self.graphs.edge_in_play[replicas.edge]
            scores.edge[replicas.edge[filled]] = values[-1][replicas.edge_owner[filled], slot[filled]]
        for (column, kept), value in zip(scores.attributes.items(), values, strict=False):
            if column.type == "common_attributes":
                kept[select] = value
                continue
            at, owner = replicas.elements(column.level)
            slot = self.slot[column][at]
            filled = slot >= 0
            kept[at[filled]] = value[owner[filled], slot[filled]].reshape(-1, kept.size(1))


class Score(nn.Module):
    """The objective `[R]` of replicas as a function of their inputs and of the instance each is a replica of, `[R]`.

    A module that holds the model where a method of Captum looks for the model's activations.
    """

    def __init__(self, session: Session, inputs: Inputs, target: Tensor, objective: Objective, hooked: bool) -> None:
        super().__init__()
        self.session, self.inputs, self.target, self.hooked = session, inputs, target, hooked
        self.objective: Objective = objective
        if hooked:
            self.model = session.problem.model
        self.opened: MaskedModel | None = None

    def __enter__(self) -> None:
        """Open no model before it is called."""

    def __exit__(self, *raised: Any) -> None:
        if self.opened is not None:
            opened, self.opened = self.opened, None
            opened.__exit__(*raised)

    def forward(self, *arguments: Tensor) -> Tensor:
        """The objective from inputs as `Inputs.of` makes them, `[R, ...]` each, and the instances."""
        *values, instance = arguments
        session, graphs = self.session, self.inputs.graphs
        if self.hooked:  # its halves have to run together
            mixes = session.alone or bool((graphs.hops[instance] == WHOLE_GRAPH).any())
            if len(instance) > 1 and mixes:
                raise InputError(
                    "the model mixes the graphs of a batch, or needs the whole graph, so an input cannot run beside its "
                    "baseline, as the method asks; use gx.Captum(captum.attr.IntegratedGradients)"
                )
            parts = [torch.arange(len(instance), device=instance.device)]
        else:
            parts = batches.batches(session.cost(graphs, instance), session.limit)
        scores = torch.cat([self._run(instance[part], tuple(value[part] for value in values)) for part in parts])
        if torch.is_grad_enabled() and not scores.requires_grad:
            warn(NO_GRADIENT)
        # Captum asks for the gradient of every input, and an isolated node has no edge that its score depends on.
        return scores + sum(0 * value.flatten(1).sum(1) for value in values)

    def _run(self, instance: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        if self.opened is None or not torch.equal(self.opened.replicas.instance, instance):
            self.__exit__(None, None, None)
            self.opened = self.session.model(self.session.replicas(self.inputs.graphs, instance)).__enter__()
        attributes, mask = self.inputs.spread(self.opened.replicas, values)
        out = self.opened(edge_mask=mask, columns=attributes)
        return self.session.problem.score(out, self.target[instance], self.objective)
