"""Does the model need what the explanation names, and is it enough?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.explain.config import ModelMode

from gnn_xai.core.graphs import as_graphs
from gnn_xai.core.masking import untouched
from gnn_xai.core.masks import Masks, soft
from gnn_xai.core.neighborhoods import ComputationGraphs, Union
from gnn_xai.core.perturb import REMOVALS, Change, Removal, evaluate
from gnn_xai.core.pipeline import Pipeline, close
from gnn_xai.core.problem import Forward, Problem, bind, eager
from gnn_xai.core.question import Question
from gnn_xai.core.segments import pointers
from gnn_xai.errors import InputError
from gnn_xai.explanation import Explanations
from gnn_xai.metrics.result import Result


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Fidelity+ and fidelity− of the same explanations.

    Attributes:
        plus: necessity, what the prediction loses without the explanation; higher is better.
        minus: sufficiency, what it loses with nothing but the explanation; lower is better.
    """

    plus: Result
    minus: Result

    def __repr__(self) -> str:
        return f"Fidelity({self.plus!r}; {self.minus!r})"


def fidelity(
    model: nn.Module,
    data: Any,
    explanations: Explanations,
    *,
    kind: Literal["probability", "label"] = "probability",
    top: int | float | None = None,
    level: Literal["edge", "node", "both"] = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Fidelity:
    """Fidelity+ and fidelity− (Pope et al. 2019; Yuan et al. 2022, eq. 1–4), per instance.

    With p(t | ·) the model's probability of the explained target, G the computation graph and S the explanation:

    - `probability`: fidelity+ = p(t | G) − p(t | G∖S), fidelity− = p(t | G) − p(t | S). For a regression, the absolute
      change of the value takes the place of the difference.
    - `label`: 1 where the model says t on G but not on G∖S (fidelity+), or not on S (fidelity−), else 0; NaN where it
      does not say t on G. Not defined for a regression.

    Args:
        model, data, forward, batch_budget: as in `gnn_xai.explain`.
        explanations: B explanations of this model on this data.
        kind: compare probabilities or labels.
        top: S is the explanation as a soft mask (`None`), the `top` strongest elements (an int; an undirected edge
            counts once), or that fraction of them (a float in (0, 1]), by absolute value.
        level: use the edge mask alone, the node (or feature) mask alone, or all that the explanations hold. Algorithms
            that score different things are compared fairly at a level they share.
        removal: `message` multiplies messages by the mask; `structural` rebuilds the graph, which needs `top` and
            edge masks alone (`level="edge"`).

    Raises:
        InputError: if the explanations are not of this data, or an argument is not as described.
    """
    if kind not in ("probability", "label"):
        raise InputError(f"expected kind='probability' or 'label', got {kind!r}")
    if removal not in REMOVALS:
        raise InputError(f"expected removal='message' or 'structural', got {removal!r}")
    if isinstance(top, bool) or not (
        top is None or (isinstance(top, int) and top > 0) or (isinstance(top, float) and 0 < top <= 1)
    ):
        raise InputError(f"expected top as a positive int, a fraction in (0, 1] or None, got {top!r}")
    explanations = _at_level(explanations, level)
    if removal == "structural" and (
        top is None or explanations.edge_mask is None or explanations.node_mask is not None
    ):
        raise InputError("removal='structural' rebuilds graphs: it needs top=, and edge masks alone (level='edge')")
    if kind == "label" and explanations.task.mode == ModelMode.regression:
        raise InputError("kind='label' is not defined for a regression; use kind='probability'")
    model = eager(model)
    parameter = next(model.parameters(), None)
    graphs = as_graphs(data, torch.device("cpu") if parameter is None else parameter.device)
    problem = Problem(model, graphs, explanations.task, bind(model, graphs, forward))
    if len(explanations) == 0 or int(explanations.index.max()) >= problem.num_outputs:
        raise InputError(
            f"expected explanations of this data ({problem.num_outputs} outputs), got one of output "
            f"{int(explanations.index.max()) if len(explanations) else 'none'}"
        )
    explanations = explanations.to(graphs.device)
    undirected = bool(explanations.provenance.get("undirected", True))
    plus, minus = [], []
    with untouched(model):
        pipeline = Pipeline.start(
            problem,
            explanations.index,
            explanations.seed,
            undirected,
            batch_budget,
            False,
            removal == "structural",
            explanations.provenance.get("max_neighbors"),
        )
        for piece in pipeline.pieces():
            part = explanations[piece.positions]
            if part.prediction.shape != piece.prediction.shape or not close(piece.prediction, part.prediction).all():
                raise InputError(
                    "the model's output is not the one that was explained; pass the same model, with the same weights, "
                    "and the same data"
                )
            masks = soft(_masks(part, piece.graphs), piece.graphs, part.signed)
            if top is not None:
                masks = _hard(pipeline.question, piece.graphs, masks, top)
            if removal == "structural":
                kept, dropped = _rebuilt(pipeline.question, piece.graphs, masks)
            else:
                kept, dropped = pipeline.faithful(piece.graphs, masks)
            plus.append(_loss(problem, kind, piece.prediction, dropped, part.target))
            minus.append(_loss(problem, kind, piece.prediction, kept, part.target))
    return Fidelity(Result("fidelity+", torch.cat(plus), "higher"), Result("fidelity−", torch.cat(minus), "lower"))


def _at_level(explanations: Explanations, level: str) -> Explanations:
    """The explanations with the masks of one level.

    Raises:
        InputError: for an unknown level, or one that the explanations do not score.
    """
    if level not in ("edge", "node", "both"):
        raise InputError(f"expected level='edge', 'node' or 'both', got {level!r}")
    if level != "both" and getattr(explanations, f"{level}_mask") is None:
        raise InputError(f"{explanations.algorithm['name']} scored no {level}s; choose another level")
    if level == "edge":
        return replace(explanations, node_mask=None, node_mask_type=None)
    return replace(explanations, edge_mask=None) if level == "node" else explanations


def _loss(problem: Problem, kind: str, before: Tensor, after: Tensor, target: Tensor) -> Tensor:
    """What an instance's prediction loses from one output `[B, C]` to another, `[B]`."""
    undefined = after.isnan().any(1)
    if kind == "label":
        said, says = problem.label(before, target), problem.label(after, target)
        return torch.where(said & ~undefined, (~says).to(before.dtype), torch.nan)
    change = problem.score(before, target, "prob") - problem.score(after, target, "prob")
    change = change.abs() if problem.task.mode == ModelMode.regression else change
    return torch.where(undefined, torch.nan, change)


def _masks(explanations: Explanations, graphs: ComputationGraphs) -> Masks:
    """The scores of explanations laid on computation graphs that were cut out anew.

    Raises:
        InputError: if the two do not cover the same edges.
    """
    edge = node = None
    same = int(graphs.edge_in_play.sum()) == len(explanations.edge_id)
    same = same and int(graphs.node_in_play.sum()) == len(explanations.node_id)
    if same and graphs.root is not None:
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
    return Masks(edge, node, explanations.node_mask_type)


def _hard(question: Question, graphs: ComputationGraphs, masks: Masks, top: int | float) -> Masks:
    """1 for the strongest elements of each instance and 0 for the others; ties go to the smaller id."""
    size, edge, node = len(graphs), masks.edge, masks.node
    if edge is not None:
        first, unit = question.removable(graphs)
        chosen = _strongest(edge[first], graphs.edge_owner[first], size, top)
        edge = torch.where(graphs.edge_in_play, chosen[unit.clamp(min=0)], False).to(edge.dtype) if len(first) else edge
    if node is not None:
        common = masks.node_type == "common_attributes"
        owner = torch.arange(size, device=node.device) if common else graphs.node_owner
        in_play = torch.ones_like(owner, dtype=torch.bool) if common else graphs.node_in_play
        candidates = in_play.unsqueeze(1).expand_as(node).reshape(-1)
        flat = node.new_zeros(node.numel())
        owner = owner.unsqueeze(1).expand_as(node).reshape(-1)[candidates]
        flat[candidates] = _strongest(node.reshape(-1)[candidates], owner, size, top).to(node.dtype)
        node = flat.reshape(node.shape)
    return Masks(edge, node, masks.node_type)


def _strongest(scores: Tensor, owner: Tensor, size: int, top: int | float) -> Tensor:
    """Which scores are among the strongest of their segment, bool; `owner` is sorted."""
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(owner[order], stable=True)]
    count = torch.bincount(owner, minlength=size)
    rank = torch.arange(len(scores), device=scores.device) - pointers(count)[:-1][owner]
    allowed = (
        torch.full_like(count, top) if isinstance(top, int) else (count.double() * top * (1 - 1e-12)).ceil().long()
    )
    return torch.zeros_like(scores, dtype=torch.bool).index_copy(0, order, rank < allowed[owner])


def _rebuilt(question: Question, graphs: ComputationGraphs, masks: Masks) -> tuple[Tensor, Tensor]:
    """Outputs with nothing but the chosen edges, and without them, on rebuilt graphs. An undirected edge goes
    with both its directions, as in `EdgeAblation`; other context edges stay.
    """
    assert masks.edge is not None
    chosen = masks.edge > 0
    first, unit = question.removable(graphs)
    every = torch.arange(len(graphs), device=chosen.device)

    def run(in_play: Tensor) -> Tensor:
        removed = (unit >= 0) & in_play[first[unit]] if len(first) else in_play

        def change(union: Union, select: Tensor) -> Change:
            return Change(edges=removed[union.edge])

        return evaluate(question, graphs, every, change, "structural", lambda out, select: out)

    return run(graphs.edge_in_play & ~chosen), run(graphs.edge_in_play & chosen)
