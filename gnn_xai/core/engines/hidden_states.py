"""Hidden representations of nodes and of instances per layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.layers import seen_layers
from gnn_xai.core.model.problem import Problem
from gnn_xai.errors import InputError

TOGETHER = 1024
"""Graphs that run as one batch."""


class _Pass(NamedTuple):
    """What layers returned for the nodes of one pass through the model: by layer, and the instance that each belongs to."""

    seen: dict[str, Tensor]
    owner: Int[Tensor, " nodes"]
    size: int


def layer_outputs(
    problem: Problem, index: Int[Tensor, "instances ..."]
) -> dict[str, Float[Tensor, "instances features"]]:
    """Outputs of the model's message-passing layers by the name of the layer and the number of the call.

    Args:
        problem: model, data, task.
        index: nodes or pairs of nodes, whose rows are read in a pass over all of the data, those of a pair
            side by side; or graphs, of whose nodes the mean is taken.
    """
    if problem.readout.rooted:
        roots = index.reshape(len(index), -1)
        (whole,) = _passes(problem, roots)
        return {name: out[roots].flatten(1) for name, out in whole.seen.items()}
    parts: list[dict[str, Tensor]] = []
    for some in _passes(problem, index):
        count = torch.bincount(some.owner, minlength=some.size).clamp(min=1).unsqueeze(1)
        parts.append({k: segment_sum(out.flatten(1), some.owner, some.size) / count for k, out in some.seen.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def node_states(
    session: Session, graphs: ComputationGraphs, layer: str | None = None
) -> list[Float[Tensor, "nodes width"]]:
    """What message-passing layers return for every node of some computation graphs, in a pass over all of their graph.

    Args:
        session: the problem and how to run it.
        graphs: computation graphs.
        layer: one layer alone, by its name in `model.named_modules()`, with ` #2` for its second call; `None` for all that
            return a row for each node.

    Raises:
        InputError: if there is no such layer, or none that returns a row for each node.
    """
    rooted = session.problem.readout.rooted
    index = graphs.index.reshape(len(graphs), -1) if rooted else graphs.index
    parts: list[list[Tensor]] = []
    for some in _passes(session.problem, index, 1 if session.alone else TOGETHER):
        if not some.seen:
            raise InputError(
                "expected a message-passing layer that returns a row for each node, and the model has none; use an "
                "algorithm that needs no hidden states, such as gnn_xai.GNNExplainer()"
            )
        if layer is not None and layer not in some.seen:
            raise InputError(f"expected layer as one of {', '.join(map(repr, some.seen))}, got {layer!r}")
        parts.append([out.flatten(1) for name, out in some.seen.items() if layer in (None, name)])
    states = [torch.cat(layers) for layers in zip(*parts, strict=True)]
    return [state[graphs.node] for state in states] if rooted else states


def whole_graphs(problem: Problem, index: Int[Tensor, "instances ..."], together: int = TOGETHER) -> Iterator[Replicas]:
    """All of the data as one union, for nodes and pairs; for graphs, unions of some of those after the other."""
    if problem.readout.rooted:
        yield expansion.everything(problem.graphs, index)
        return
    for some in index.split(together):
        graphs = expansion.of_graphs(problem.graphs, some, 0)
        yield graphs.replicas(torch.arange(len(some), device=index.device))


def _passes(problem: Problem, index: Int[Tensor, "instances ..."], together: int = TOGETHER) -> Iterator[_Pass]:
    """A pass over each of the `whole_graphs`."""
    for replicas in whole_graphs(problem, index, together):
        with torch.no_grad(), seen_layers(problem.model, len(replicas.node)) as seen:
            problem.run(replicas.data, replicas.output_rows)
        yield _Pass(seen, replicas.node_owner, len(replicas))
