"""What an algorithm returned, checked once for all of them: in order, or refused in a sentence that names the algorithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnn_xai.algorithms.base import Algorithm
from gnn_xai.core.engines.scored import NODE_MASK_TYPES, Scored
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.errors import InputError

ROUNDING = 1e-6
"""How far a mask may lie outside of [0, 1]; it is then moved to the end."""

_COLUMNS = {
    "": ("index", "target", "prediction", "exact", "hops", "position", "num_nodes", "num_edges"),
    "node_": ("ptr", "id", "mask", "type", "number", "position", "index", "target", "score"),
    "edge_": ("ptr", "id", "index", "mask", "type", "number", "position", "target", "score", "source", "destination"),
}
_TAKEN = {prefix + name for prefix, names in _COLUMNS.items() for name in names} | {
    "prediction_masked",
    "prediction_complement",
}
"""Names that extras cannot have, because columns of explanations and of their tables have them."""


def attributed(
    method: Algorithm,
    session: Session,
    graphs: ComputationGraphs,
    target: Tensor,
    prediction: Tensor,
    positions: Tensor,
) -> Scores:
    """What `method.attribute` returns for these arguments, detached, as floating-point numbers on their device.

    Args:
        method, session, graphs, target, prediction: as in `Attributing.attribute`.
        positions: `[B]` positions of the instances within the index that was asked for.

    Raises:
        InputError: unless there is one finite score for each node or edge, or both, in [0, 1] unless the algorithm is
            signed, and one row of every extra for each instance, node or edge.
    """
    scores = method.attribute(session, graphs, target, prediction)
    name = f"{method.name}.attribute"
    if not isinstance(scores, Scores):
        raise InputError(f"expected {name} to return gnn_xai.extend.Scores, got {type(scores).__name__}")
    rows = {"edge": len(graphs.edge), "node": len(graphs.node), "instance": len(graphs)}
    own = "instance" if scores.node_type == "common_attributes" else "node"
    if scores.edge is None and scores.node is None and not scores.columns:
        raise InputError(f"expected {name} to return scores of edges or nodes, got Scores without either")
    if (scores.node is None) != (scores.node_type is None) or scores.node_type not in (None, *NODE_MASK_TYPES):
        raise InputError(
            f"expected {name} to return Scores(node=) together with node_type= as one of {', '.join(NODE_MASK_TYPES)}, "
            f"got node_type={scores.node_type!r} and {'no scores' if scores.node is None else 'scores'} of nodes"
        )
    edge = _numbers(scores.edge, f"{name} to return Scores(edge=)", rows["edge"], "edge", 1, prediction)
    node = _numbers(scores.node, f"{name} to return Scores(node=)", rows[own], own, 2, prediction)
    if node is not None and scores.node_type == "object" and node.size(1) != 1:
        raise InputError(
            f"expected {name} to return one score for each node for node_type='object', got {node.size(1)}; return "
            "[N, 1], or node_type='attributes'"
        )
    for what, values in (("edge", edge), ("node", node)):
        if values is not None:
            _require_in_range(method, graphs, positions, values, what if what == "edge" else own)
    if not method.signed:
        edge, node = (None if values is None else values.clamp(0, 1) for values in (edge, node))
    columns = _columns(method, session, graphs, positions, scores.columns, rows, prediction)
    extras = {key: _extra(key, value, name, rows, own, prediction) for key, value in scores.extras.items()}
    return Scores(edge, node, scores.node_type, extras, columns)


def _columns(
    method: Algorithm,
    session: Session,
    graphs: ComputationGraphs,
    positions: Tensor,
    columns: dict[Scored, Tensor],
    rows: dict[str, int],
    like: Tensor,
) -> dict[Scored, Tensor]:
    """Scores of further attributes, each with a row for each node, edge or instance."""
    checked = {}
    for column, value in columns.items():
        what = f"{method.name}.attribute to return Scores(columns=)"
        if column not in session.columns:
            raise InputError(f"expected {what} for the attributes of session.columns alone, got {column!r}")
        own = "instance" if column.level == "graph" or column.type == "common_attributes" else column.level
        values = _numbers(value, f"{what} of {column.name}", rows[own], own, 2, like)
        assert values is not None
        _require_in_range(method, graphs, positions, values, own)
        checked[column] = values if method.signed else values.clamp(0, 1)
    return checked


def _numbers(values: Any, what: str, rows: int, level: str, dims: int, like: Tensor) -> Tensor | None:
    """Scores as floating-point numbers `[rows]` or `[rows, F]`."""
    if values is None:
        return None
    shape = f"[{rows}]" if dims == 1 else f"[{rows}, features]"
    if not isinstance(values, Tensor):
        raise InputError(f"expected {what} as a tensor {shape}, got {type(values).__name__}")
    if values.dim() != dims or len(values) != rows:
        raise InputError(
            f"expected {what} of shape {shape}, a score for each {level} of the computation graphs, got "
            f"{list(values.shape)}"
        )
    if values.is_complex() or values.layout != torch.strided:
        raise InputError(f"expected {what} as a dense tensor of real numbers, got {values.dtype}, {values.layout}")
    values = values.detach().to(like.device)
    return values if values.is_floating_point() else values.to(like.dtype)


def _require_in_range(
    method: Algorithm, graphs: ComputationGraphs, positions: Tensor, values: Tensor, level: str
) -> None:
    """Raise unless scores of what is in play are finite, and in [0, 1] for masks."""
    owner = {"edge": graphs.edge_owner, "node": graphs.node_owner}.get(level)
    in_play = {"edge": graphs.edge_in_play, "node": graphs.node_in_play}.get(level)
    low, high = (-torch.inf, torch.inf) if method.signed else (-ROUNDING, 1 + ROUNDING)
    wrong = ~values.isfinite() | (values < low) | (values > high)
    wrong = wrong if wrong.dim() == 1 else wrong.any(1)
    wrong = (wrong if in_play is None else wrong & in_play).nonzero().flatten()
    if not len(wrong):
        return
    first = values[wrong[0]].flatten()
    first = first[~first.isfinite() | (first < low) | (first > high)][0]
    instance = int(wrong[0] if owner is None else owner[wrong[0]])
    where = f"the instance at position {int(positions[instance])} of index"
    if not bool(first.isfinite()):
        raise InputError(
            f"expected finite scores from {method.name}, got {first.item()} for {where}; leave it out to explain the others"
        )
    raise InputError(
        f"{method.name} promises masks in [0, 1] (signed=False), got {first.item():.4g} for {where}; return masks in "
        "[0, 1], or declare signed=True"
    )


def _extra(key: Any, value: Any, name: str, rows: dict[str, int], own: str, like: Tensor) -> Tensor:
    """An extra with a row for each element of its level."""
    what = f"{name} to return extras[{key!r}]"
    if not isinstance(key, str) or not key or key in _TAKEN:
        raise InputError(f"expected {what} under a name of its own, not that of a column of explanations")
    prefix = key.split("_")[0]
    level = own if prefix == "node" else "edge" if prefix == "edge" else "instance"
    if not isinstance(value, Tensor) or value.is_complex() or value.layout != torch.strided:
        kind = f"{value.dtype}, {value.layout}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"expected {what} as a dense tensor of real numbers, got {kind}")
    if value.dim() == 0 or len(value) != rows[level]:
        raise InputError(
            f"expected {what} with one row for each {level} ({rows[level]}), got shape {list(value.shape)}; names that "
            "start with node_ or edge_ have a row for each node or edge, others for each instance"
        )
    return value.detach().to(like.device)
