"""Equality of explanations, and of everything that a run must leave as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnn_xai.results.columns import COLUMNS, EXTRAS
from gnn_xai.results.explanations import Explanation, Explanations

TOLERANCE = 1e-5
"""How far two numbers may be apart that a law calls equal, relative to the larger of 1 and the largest of them."""


def distance(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value; infinite where shapes or NaNs differ."""
    if one.shape != other.shape or not torch.equal(one.isnan(), other.isnan()):
        return float("inf")
    if one.numel() == 0:
        return 0.0
    one, other = one.detach().double().nan_to_num(), other.detach().double().nan_to_num()
    return float((one - other).abs().max() / max(1.0, float(other.abs().max())))


def by_identity(e: Explanation, node: Tensor | None = None, edge: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors of an explanation, ordered by node and edge id, after renaming ids by `node` and `edge`."""
    node_id = e.node_id if node is None else node[e.node_id]
    edge_id = e.edge_id if edge is None else edge[e.edge_id]
    ends = e.edge_index if node is None else node[e.edge_index]
    nodes, edges = torch.argsort(node_id), torch.argsort(edge_id)
    parts = {
        "target": torch.tensor(e.target),
        "prediction": e.prediction,
        "prediction_masked": e.prediction_masked,
        "prediction_complement": e.prediction_complement,
        "node_id": node_id[nodes],
        "edge_id": edge_id[edges],
        "edge_index": ends[:, edges],
    }
    if e.edge_mask is not None:
        parts["edge_mask"] = e.edge_mask[edges]
    if e.node_mask is not None:
        parts["node_mask"] = e.node_mask if e.node_mask.dim() == 1 else e.node_mask[nodes]
    by_level = {"edge": edges, "node": nodes}
    for name, value in e.columns.items():
        level = e.source.level(f"{COLUMNS}{name}")
        parts[f"columns[{name!r}]"] = value[by_level[level]] if level in by_level else value
    for name, value in e.extras.items():
        level = e.source.level(f"{EXTRAS}{name}")
        parts[f"extras[{name!r}]"] = value[by_level[level]] if level in by_level else value
    return parts


def require_same(one: dict[str, Tensor], other: dict[str, Tensor], what: str, tolerance: float = TOLERANCE) -> None:
    """Raise `AssertionError` unless two results of `by_identity` are equal within the tolerance."""
    assert one.keys() == other.keys(), f"{what}: one explanation has {sorted(one)}, the other {sorted(other)}"
    for name in one:
        gap = distance(one[name], other[name])
        assert gap <= tolerance, f"{what}: {name} differs by {gap:.2g}, expected at most {tolerance:g}"


def scores_of(explanations: Explanations) -> Tensor:
    """Every score of some explanations, one after the other."""
    parts = [explanations.edge_mask, explanations.node_mask, *explanations.columns.values()]
    return torch.cat([part.flatten() for part in parts if part is not None])


def state_of(model: nn.Module, data: Any) -> dict[str, Any]:
    """Everything about a model, its data and the process that an explanation might leave changed."""
    state: dict[str, Any] = {
        "state_dict() keys": list(model.state_dict()),
        "the random state of torch": torch.get_rng_state(),
        "the random state of numpy": str(np.random.get_state()),  # noqa: NPY002 - the one that users seed
        "the random state of Python": str(random.getstate()),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
    }
    for name, parameter in model.named_parameters():
        state[f"parameter {name}"] = parameter.detach().clone()
        state[f"{name}.grad"] = None if parameter.grad is None else parameter.grad.clone()
        state[f"{name}.requires_grad"] = parameter.requires_grad
    for name, buffer in model.named_buffers():
        state[f"buffer {name}"] = buffer.clone()
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key in ("_parameters", "_buffers", "_modules"):
                continue
            of = f"attribute {key} of {name or 'the model'}"
            state[of] = list(value) if "hook" in key and isinstance(value, Mapping) else copy.deepcopy(value)
    for number, graph in enumerate(data if isinstance(data, list) else [data]):
        for store in graph.stores:
            of = f"{store._key} of graph {number}" if store._key else f"graph {number}"
            for key, value in store.items():
                state[f"data.{key} of {of}"] = value.clone() if isinstance(value, Tensor) else value
    return state


def require_state(before: dict[str, Any], after: dict[str, Any], when: str) -> None:
    """Raise `AssertionError` unless two results of `state_of` are equal bit for bit."""
    new, gone = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    assert not new, f"{when}: {new[0]} is new"
    assert not gone, f"{when}: {gone[0]} is gone"
    for name, value in before.items():
        assert _equal(value, after[name]), f"{when}: {name} has changed"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, (tuple, list)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, (nn.Module, torch.Generator)) or callable(one) or type(one).__eq__ is object.__eq__:
        return type(one) is type(other)
    return bool(one == other)
