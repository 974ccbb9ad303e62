"""Hidden representations of instances per layer."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays.segments import segment_sum
from gnn_xai.core.graphs import expansion
from gnn_xai.core.model.layers import seen_layers
from gnn_xai.core.model.problem import Problem

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
        whole = expansion.everything(problem.graphs, roots)
        with seen_layers(problem.model, len(whole.node)) as seen:
            problem.run(whole.data, roots)
        return {name: out[roots].flatten(1) for name, out in seen.items()}
    parts: list[dict[str, Tensor]] = []
    for some in index.split(TOGETHER):
        replicas = expansion.of_graphs(problem.graphs, some, 0).replicas(torch.arange(len(some), device=index.device))
        with seen_layers(problem.model, len(replicas.node)) as seen:
            problem.run(replicas.data, None)
        count = torch.bincount(replicas.node_owner, minlength=len(some)).clamp(min=1).unsqueeze(1)
        parts.append(
            {k: segment_sum(out.flatten(1), replicas.node_owner, len(some)) / count for k, out in seen.items()}
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
