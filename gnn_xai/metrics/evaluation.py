"""Running the model again under what explanations select, for every metric of faithfulness.

A `Rerun` checks that explanations are of this model and data, and hands them over in parts. A part runs the model under a
soft mask, with the strongest elements alone or without them, and measures what its prediction loses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gnn_xai._checks import one_of
from gnn_xai.core.arrays.segments import segment_ranks
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.evaluate import REMOVALS, Change, Removal, evaluate
from gnn_xai.core.engines.prepare import Prepared, as_cap, prepare
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.scores import Scores, applicable, faithful, soft
from gnn_xai.core.engines.scoring import scoring
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH, ComputationGraphs, Replicas
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.arguments import eager, problem_of
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError
from gnn_xai.metrics.losses import Loss, true_of
from gnn_xai.metrics.selection import Ranks, Top, check_explanations
from gnn_xai.results.columns import COLUMNS
from gnn_xai.results.explanations import Explanations

OTHER_MODEL = (
    "the model's output is not the one that was explained; pass the same model, with the same weights, and the same "
    "data"
)

MaskLevel = Literal["edge", "node", "feature", "both"]


@dataclass(frozen=True, eq=False)
class Rerun:
    """B explanations, and how their model is run again.

    Attributes:
        model, data, forward, batch_budget: as in `gnn_xai.explain`, or a prepared problem as `model` and no data.
        explanations: of this model on this data.
        level, removal: as in `gnn_xai.metrics.fidelity`.
        loss: what a prediction loses.
        labels: what is true of all outputs, as in `gnn_xai.metrics.fidelity`.
        hard: elements are kept or dropped whole, not under a soft mask.

    Raises:
        InputError: if explanations do not score that level, or cannot be removed in that way.
    """

    model: nn.Module | Prepared
    data: Any
    explanations: Explanations
    forward: Forward | None
    batch_budget: int | Literal["auto"]
    level: MaskLevel
    removal: Removal
    loss: Loss = Loss()
    labels: Any = None
    hard: bool = True

    def __post_init__(self) -> None:
        one_of(self.removal, "removal", REMOVALS)
        scored = at_level(self.explanations, self.level)
        structural = self.removal == "structural"
        if structural and (not self.hard or scored.edge_mask is None or scored.node_mask is not None):
            raise InputError("removal='structural' rebuilds graphs: it needs top=, and edge masks alone (level='edge')")
        if self.hard and scored.edge_mask is None and scored.node_mask is None:
            raise InputError(
                f"{scored.algorithm['name']} scored neither edges nor nodes nor features of x, which alone are kept or "
                "dropped whole; use fidelity with top=None, which runs the model under soft masks of all columns"
            )
        self.loss.check(self.explanations, self.labels)

    def measure(self, values_of: Callable[[Part], Tensor]) -> Tensor:
        """Measure the explanations part by part, with a model that comes back untouched.

        Args:
            values_of: `part of P explanations -> values [P, ...]`.

        Returns:
            `[B, ...]` values in the order of the explanations.

        Raises:
            InputError: if the explanations are not of this model and data, or labels are not as described.
        """
        model = self.model.problem.model if isinstance(self.model, Prepared) else eager(self.model)
        with untouched(model) as evaluating, evaluating:
            prepared = self.model if isinstance(self.model, Prepared) else self._prepared(model)
            check_task(self.explanations, prepared)
            problem, provenance = prepared.problem, self.explanations.provenance
            self._check_index(problem)
            explanations = at_level(self.explanations, self.level).to(problem.graphs.device)
            if self.hard:
                explanations = replace(explanations, columns={}, column_types={})
            prepared = scoring(prepared, {name: kind for name, (_, kind) in explanations.column_types.items()})
            truth = true_of(self.labels, explanations, problem) if self.loss.phenomenon else None
            structural = self.removal == "structural"
            session = prepared.session(explanations.seed, structural=structural, batch_budget=self.batch_budget)
            session = replace(session, undirected=bool(provenance.get("undirected", True)))
            cap = as_cap(provenance.get("max_neighbors"), explanations.seed, problem)
            values, problem = [], prepared.problem
            index = problem.readout.index(explanations.index.t(), problem.graphs)
            # Removals may run in a way for which less of the graph is enough than for that in which scores were computed.
            whole = explanations.hops == WHOLE_GRAPH
            for chunk in prepared.chunks(session, index, cap=cap, whole=whole if bool(whole.any()) else None):
                some = explanations[chunk.positions]
                same = some.prediction.shape == chunk.prediction.shape
                if not same or not close(chunk.prediction, some.prediction).all():
                    raise InputError(OTHER_MODEL)
                true = None if truth is None else truth[chunk.positions]
                values.append(values_of(Part(self, session, chunk.graphs, some, chunk.prediction, true)))
        return torch.cat(values)

    def _check_index(self, problem: Problem) -> None:
        """Raise an `InputError` where explanations are of outputs that the data does not have."""
        largest = int(self.explanations.index.max()) if len(self.explanations) else None
        count = problem.readout.ids(problem.graphs)
        if largest is None or largest >= count:
            raise InputError(
                f"expected explanations of this data ({count} outputs), got one of output "
                f"{'none' if largest is None else largest}"
            )

    def _prepared(self, model: nn.Module) -> Prepared:
        """The model and its data, looked at for the explained instances."""
        explanations = self.explanations
        parameter = next(model.parameters(), None)
        graphs = as_graphs(self.data, torch.device("cpu") if parameter is None else parameter.device)
        asked = explanations.explained_type, explanations.provenance.get("exclude_pair", False)
        problem = problem_of(model, graphs, explanations.task, self.forward, *asked)
        self._check_index(problem)
        index = problem.readout.index(explanations.index.t().to(graphs.device), graphs)
        return prepare(problem, undirected=True, batch_budget=self.batch_budget, index=index)


@dataclass(frozen=True, eq=False)
class Part:
    """P of the explanations, with all that is needed to run the model on them.

    Attributes:
        rerun: the settings.
        session: runs the model.
        graphs: their computation graphs.
        explanations: the explanations.
        prediction: `[P, C]` the model's output.
        truth: `[P]` float64, what is true: a class, 0 or 1 for a label, or a value; NaN where that is not known. `None`
            without labels.
    """

    rerun: Rerun
    session: Session
    graphs: ComputationGraphs
    explanations: Explanations
    prediction: Tensor
    truth: Tensor | None

    @cached_property
    def masks(self) -> Scores:
        """The explanations as soft masks."""
        return soft(_laid(self.explanations, self.graphs), self.graphs, self.explanations.signed)

    def loss(self, after: Tensor) -> Tensor:
        """What predictions lose when the output is `after` `[P, ..., C]`, as `[P, ...]`."""
        problem, shape = self.session.problem, after.shape[:-1]
        of = torch.arange(shape.numel(), device=after.device) // max(shape[1:].numel(), 1)
        truth = None if self.truth is None else self.truth[of]
        before, target = self.prediction[of], self.explanations.target[of]
        return (
            self.rerun.loss.between(problem, before, after.flatten(0, -2), target, truth).reshape(shape).to(after.dtype)
        )

    def outputs(self, top: Top | None) -> tuple[Tensor, Tensor]:
        """The model's outputs with nothing but the explanation, and without it, each `[P, C]`."""
        if top is None:
            return faithful(self.session, self.graphs, self.masks)
        kept, dropped = self.selected([top])[:, :, 0].unbind(1)
        return kept, dropped

    def selected(self, tops: Sequence[Top], keep: Sequence[bool] = (True, False)) -> Tensor:
        """The model's outputs on variants in which the strongest elements alone are kept (`True`), or are dropped, for
        several numbers of them at once: `[P, len(keep), K, C]`. NaN where masks cannot be applied.
        """
        size, many = len(self.graphs), len(tops)
        edges, nodes = self.edges, self._nodes
        kept = torch.tensor(list(keep), device=self.prediction.device)

        def change(replicas: Replicas, select: Tensor) -> Change:
            number, keeps = select % many, kept[select // many % len(kept)]
            removed = x = None
            if edges is not None:
                rank, limit = edges.rank[replicas.edge], edges.limit(tops)[replicas.instance, number]
                removed = (rank >= 0) & ((rank < limit[replicas.edge_owner]) != keeps[replicas.edge_owner])
            if nodes is not None and replicas.features is not None:
                rank = nodes.rank[replicas.instance[replicas.node_owner] if nodes.common else replicas.node]
                limit = nodes.limit(tops)[replicas.instance, number][replicas.node_owner].unsqueeze(1)
                stays = (rank < 0) | ((rank < limit) == keeps[replicas.node_owner].unsqueeze(1))
                x = (replicas.features.reshape(len(rank), -1) * stays).reshape(replicas.features.shape)
            return Change(edges=removed, x=x)

        return self.variants(len(keep) * many, change).reshape(size, len(keep), many, -1)

    def variants(self, count: int, change: Callable[[Replicas, Tensor], Change]) -> Tensor:
        """The model's outputs on `count` variants of every instance, `[P, count, C]`; NaN where masks cannot be applied.

        Args:
            count: V.
            change: `(replicas, numbers [R]) -> Change`; number k is variant k % V of instance k // V.
        """
        size, removal = len(self.graphs), self.rerun.removal
        if removal == "message" and not applicable(self.session, self.masks):
            return (self.prediction * torch.nan).unsqueeze(1).expand(-1, count, -1)
        instance = torch.arange(size, device=self.prediction.device).repeat_interleave(count)
        out = evaluate(self.session, self.graphs, instance, change, removal, lambda out, select: out)
        return out.reshape(size, count, -1)

    def shares(self, tops: Sequence[Top]) -> Tensor:
        """The share of elements that each of several tops selects, `[P, K]`; NaN where there are none."""
        ranks = [r for r in (self.edges, self._nodes) if r is not None]
        chosen = torch.stack([torch.minimum(r.limit(tops), r.count.unsqueeze(1)) for r in ranks]).sum(0)
        return chosen / torch.stack([r.count for r in ranks]).sum(0).unsqueeze(1).double()

    @cached_property
    def edges(self) -> Ranks | None:
        """Ranks of edges, by units that are removed whole; edges of none have -1."""
        if self.masks.edge is None:
            return None
        first, unit = self.session.removable(self.graphs)
        owner = self.graphs.edge_owner[first]
        rank = segment_ranks(self.masks.edge[first], owner, len(self.graphs), descending=True)
        rank = torch.cat([rank, rank.new_full((1,), -1)])[unit]
        return Ranks(rank, torch.bincount(owner, minlength=len(self.graphs)))

    @cached_property
    def _nodes(self) -> Ranks | None:
        """Ranks of all entries of the node mask; those of nodes that are not in play have -1."""
        mask = self.masks.node
        if mask is None:
            return None
        common, size = self.masks.node_type == "common_attributes", len(self.graphs)
        owner = torch.arange(size, device=mask.device) if common else self.graphs.node_owner
        in_play = torch.ones_like(owner, dtype=torch.bool) if common else self.graphs.node_in_play
        owner = owner[in_play].repeat_interleave(mask.size(1))
        rank = torch.full_like(mask, -1, dtype=torch.int64)
        rank[in_play] = segment_ranks(mask[in_play].reshape(-1), owner, size, descending=True).reshape(-1, mask.size(1))
        return Ranks(rank, torch.bincount(owner, minlength=size), common)


def check_task(explanations: Explanations, prepared: Prepared) -> None:
    """Raise an `InputError` where explanations are of another task than the one that was prepared."""
    task = prepared.problem.task
    if explanations.task != task:
        raise InputError(
            f"expected explanations of the task that was prepared, {task}, got some of {explanations.task}"
        )


def at_level(explanations: Explanations, level: str) -> Explanations:
    """The explanations with the masks of one level.

    Raises:
        InputError: for an unknown level, or one that the explanations do not score, or what are no `Explanations`.
    """
    check_explanations(explanations)
    one_of(level, "level", get_args(MaskLevel))
    mask = explanations.edge_mask if level == "edge" else explanations.node_mask
    if level == "feature" and explanations.node_mask_type == "object":
        mask = None
    if level != "both" and mask is None:
        raise InputError(f"{explanations.algorithm['name']} scored no {level}s; choose another level")
    if level == "both":
        return explanations
    explanations = replace(explanations, columns={}, column_types={})
    if level == "edge":
        return replace(explanations, node_mask=None, node_mask_type=None)
    return replace(explanations, edge_mask=None)


def _laid(explanations: Explanations, graphs: ComputationGraphs) -> Scores:
    """The scores of explanations on computation graphs that were cut out anew.

    Raises:
        InputError: if the two do not cover the same edges.
    """
    edge = node = None
    same = int(graphs.edge_in_play.sum()) == len(explanations.edge_id)
    same = same and int(graphs.node_in_play.sum()) == len(explanations.node_id)
    if same and graphs.roots is not None:
        same = torch.equal(graphs.edge[graphs.edge_in_play], explanations.edge_id)
    if not same:
        raise InputError(
            "the computation graphs of the explanations are not those of this model on this data; pass the model and the "
            "data that were explained"
        )
    if explanations.edge_mask is not None:
        edge = explanations.edge_mask.new_zeros(len(graphs.edge))
        edge[graphs.edge_in_play] = explanations.edge_mask
    if explanations.node_mask is not None:
        node = explanations.node_mask
        if explanations.node_mask_type != "common_attributes":
            full = node.new_zeros(len(graphs.node), node.size(1))
            full[graphs.node_in_play] = node
            node = full
    columns: dict[Scored, Tensor] = {}
    for name, value in explanations.columns.items():
        column = Scored(name, *explanations.column_types[name])
        if explanations.level(f"{COLUMNS}{name}") != "instance":
            in_play = graphs.elements(column.level).in_play
            full = value.new_zeros(len(in_play), value.size(1))
            full[in_play] = value
            value = full
        columns[column] = value
    return Scores(edge, node, explanations.node_mask_type, columns=columns)
