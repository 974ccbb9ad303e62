"""Hidden representations of nodes and of instances per layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.engines.gradients import gradients_of
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.inputs.hooks import hooked
from gnn_xai.core.model.layers import calls_of, seen_layers
from gnn_xai.core.model.problem import Objective, Problem
from gnn_xai.errors import InputError

TOGETHER = 1024
"""Graphs that run as one batch."""


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
        ((_, seen),) = _passes(problem, roots)
        return {name: out[roots].flatten(1) for name, out in seen.items()}
    parts: list[dict[str, Tensor]] = []
    for replicas, seen in _passes(problem, index):
        owner, size = replicas.node_owner, len(replicas)
        count = torch.bincount(owner, minlength=size).clamp(min=1).unsqueeze(1)
        parts.append({name: segment_sum(out.flatten(1), owner, size) / count for name, out in seen.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def node_states(
    session: Session, graphs: ComputationGraphs, layer: str | None = None
) -> list[Float[Tensor, "nodes width"]]:
    """What message-passing layers return for every node of some computation graphs, in a pass over all of their graph.

    Args:
        session: the problem and how to run it.
        graphs: computation graphs.
        layer: one layer alone, by its name in `model.named_modules()`, with ` #2` for its second call; `None` for all that
            pass messages and return a row for each node.

    Raises:
        InputError: if there is no such layer, or none that returns a row for each node.
    """
    if not isinstance(layer, str | None):
        raise InputError(f"expected layer as the name of a module, or None, got {type(layer).__name__}")
    rooted = session.problem.readout.rooted
    index = graphs.index.reshape(len(graphs), -1) if rooted else graphs.index
    parts: list[list[Tensor]] = []
    for replicas, seen in _passes(session.problem, index, 1 if session.alone else TOGETHER, layer):
        if layer is not None and layer not in seen:
            with torch.no_grad(), seen_layers(session.problem.model, len(replicas.node)) as seen:
                session.problem.run(replicas.data, replicas.output_rows)
            if seen:
                raise InputError(f"expected layer as one of {', '.join(map(repr, seen))}, got {layer!r}")
        if not seen:
            raise InputError(
                "expected a message-passing layer that returns a row for each node, and the model has none; use an "
                "algorithm that needs no hidden states, such as gnn_xai.GNNExplainer()"
            )
        parts.append([out.flatten(1) for name, out in seen.items() if layer in (None, name)])
    states = [torch.cat(layers) for layers in zip(*parts, strict=True)]
    return [state[graphs.node] for state in states] if rooted else states


def node_outputs(session: Session, graphs: ComputationGraphs) -> Float[Tensor, "nodes columns"]:
    """The model's output at every node of some computation graphs, in a pass over all of their graph.

    Raises:
        InputError: unless the model has an output for every node of the data.
    """
    problem = session.problem
    single = graphs.roots is not None and graphs.roots.size(1) == 1
    if not single or problem.num_outputs != problem.graphs.num_nodes:
        raise InputError(
            "expected a model with an output for every node of a homogeneous graph, got one whose outputs belong to graphs, "
            "to pairs, or to nodes of one type; use gnn_xai.FeatureAblation()"
        )
    every = expansion.everything(
        problem.graphs, torch.arange(problem.num_outputs, device=graphs.node.device).unsqueeze(1)
    )
    with torch.no_grad():
        return problem.run(every.data, every.output_rows)[graphs.node]


def state_gradients(
    session: Session,
    graphs: ComputationGraphs,
    target: Int[Tensor, " instances"],
    objective: Objective,
    layer: str | None = None,
    factor: float = 1.0,
) -> Float[Tensor, "nodes width"]:
    """∂ score / ∂ h, for what a layer returns for every node of some computation graphs.

    Args:
        session: the problem and how to run it.
        graphs: computation graphs.
        target: of each instance.
        objective: the scalar to differentiate.
        layer: as in `node_states`; `None` for the last call of a message-passing layer.
        factor: the gradient is taken at h times this.
    """
    plan = None if session.plan is None else replace(session.plan, trim=False, shrink=False)
    session = replace(session, plan=plan, features=None)  # all rows, in the order of nodes
    parts: list[tuple[Tensor, Tensor]] = []

    def work(select: Int[Tensor, " selected"]) -> None:
        replicas, leaves = session.replicas(graphs, select), []

        def cut(name: str, out: Tensor) -> Tensor | None:
            if layer not in (None, name):
                return None
            leaves.append((out.detach() * factor).requires_grad_())
            return leaves[-1]

        hooks = calls_of(session.problem.model, len(replicas.node), layer, cut)
        with session.model(replicas) as model, hooked(hooks):
            score = session.problem.score(model(), target[select], objective).sum()
            (gradient,) = gradients_of(score, leaves[-1:])
        parts.append((replicas.node, gradient.flatten(1)))
        session.advance(len(select) / len(graphs))

    batches.for_each_batch(work, session.cost(graphs), session.limit)
    node, values = (torch.cat(some) for some in zip(*parts, strict=True))
    return torch.empty_like(values).index_copy(0, node, values)


def whole_graphs(problem: Problem, index: Int[Tensor, "instances ..."], together: int = TOGETHER) -> Iterator[Replicas]:
    """All of the data as one union, for nodes and pairs; for graphs, unions of some of those after the other."""
    if problem.readout.rooted:
        yield expansion.everything(problem.graphs, index)
        return
    for some in index.split(together):
        graphs = expansion.of_graphs(problem.graphs, some, 0)
        yield graphs.replicas(torch.arange(len(some), device=index.device))


def _passes(
    problem: Problem, index: Int[Tensor, "instances ..."], together: int = TOGETHER, layer: str | None = None
) -> Iterator[tuple[Replicas, dict[str, Tensor]]]:
    """Each of the `whole_graphs`, with what layers return for its nodes."""
    for replicas in whole_graphs(problem, index, together):
        with torch.no_grad(), seen_layers(problem.model, len(replicas.node), layer) as seen:
            problem.run(replicas.data, replicas.output_rows)
        yield replicas, seen
