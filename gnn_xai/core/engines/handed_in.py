"""Model, data and settings as a user hands them in: checked, bound together, and prepared."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnn_xai.core.engines.prepare import Prepared, prepare
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import EdgeType
from gnn_xai.core.model.arguments import as_task, eager, problem_of
from gnn_xai.core.model.problem import Forward
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError


def prepared_for(
    model: nn.Module,
    data: Any,
    *,
    task: Any = None,
    of_type: str | EdgeType | None = None,
    forward: Forward | None = None,
    undirected: bool | Literal["auto"] = "auto",
    exclude_pair: bool = False,
    batch_budget: int | Literal["auto"] = "auto",
    index: Any = None,
    watch: bool = False,
) -> Prepared:
    """Prepare for the instances of one piece of work, or to be kept.

    Args:
        model, data, task, forward, undirected, exclude_pair, batch_budget, index: as in `gnn_xai.explain`.
        of_type: see `type_of`.
        watch: notice when model or data change.
    """
    model = eager(model)
    with untouched(model) as evaluating, evaluating, torch.enable_grad():
        graphs = as_graphs(data, device_of(model))
        problem = problem_of(model, graphs, as_task(task, data), forward, of_type, exclude_pair)
        positions = None if index is None else problem.readout.index(index, problem.graphs)
        tied = as_undirected(undirected, problem.graphs)
        prepared = prepare(problem, undirected=tied, batch_budget=batch_budget, index=positions, watch=watch)
        prepared.way(structural=False)
    return prepared


def type_of(node_type: str | None, edge_type: EdgeType | None) -> str | EdgeType | None:
    """What outputs of a heterogeneous graph belong to: nodes of a type, or pairs of a relation.

    Raises:
        InputError: if both are asked for, or a relation is not named by its three parts.
    """
    if edge_type is not None and not (isinstance(edge_type, (tuple, list)) and len(edge_type) == 3):
        raise InputError(f"expected edge_type= as (source type, name, target type), got {edge_type!r}")
    if node_type is not None and edge_type is not None:
        raise InputError(
            f"expected node_type= for a node-level task or edge_type= for an edge-level one, got both, {node_type!r} and "
            f"{edge_type!r}; leave one out"
        )
    return node_type if edge_type is None else edge_type


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are; the CPU, if it has none."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def refuse_inference_mode(verb: str) -> None:
    """Raise an `InputError` where gradients are impossible."""
    if torch.is_inference_mode_enabled():
        raise InputError(
            f"expected gradients to be possible, but torch.inference_mode() is on; call {verb} outside of it, or use "
            "torch.no_grad() instead"
        )


def as_targets(target: Any, index: Tensor) -> Tensor | None:
    """One target for each instance, `[B]`, or `None`; values are checked where the output is known."""
    if target is None:
        return None
    try:
        target = torch.as_tensor(target, device=index.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"expected target as one class or one per instance, got {target!r}") from error
    if target.dim() == 0:
        target = target.expand(len(index))
    if target.shape != (len(index),):
        raise InputError(f"expected one target, or one per instance ({len(index)}), got shape {list(target.shape)}")
    return target


def as_undirected(undirected: Any, graphs: Graphs) -> bool:
    """Whether the two directions of an edge share a score, where every edge has its reverse.

    Raises:
        InputError: if it is neither a bool nor `"auto"`, or true for a directed graph.
    """
    if not isinstance(undirected, bool) and not (isinstance(undirected, str) and undirected == "auto"):
        raise InputError(f"expected undirected=True, False or 'auto', got {undirected!r}")
    if undirected is True and bool((graphs.reverse < 0).any()):
        lonely = int((graphs.reverse < 0).nonzero()[0])
        if graphs.types is not None:
            relation = graphs.types.relations[int(graphs.types.edge_type[lonely])]
            raise InputError(
                f"undirected=True, but not every edge of relation {relation} has its reverse in that relation; use "
                "undirected='auto', which ties the edges of those relations where all have one"
            )
        u, v = graphs.edge_index[:, lonely].tolist()
        raise InputError(
            f"undirected=True, but the graph of edge {lonely} ({u}→{v}) has edges without a reverse; use "
            "torch_geometric.transforms.ToUndirected, or undirected='auto'"
        )
    return undirected is not False
