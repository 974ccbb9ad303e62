"""A check of a user's own model: do edge masks mean on it what they say?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnn_xai.core.graphs.expansion import everything
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.arguments import as_task, problem_of
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.restoring import untouched
from gnn_xai.testing.comparing import distance
from gnn_xai.testing.plain import plainly_masked


def check_model(
    model: nn.Module, data: Data, *, task: Any = None, forward: Any = None, tolerance: float = 1e-4
) -> None:
    """Do edge masks mean on this model what they say? For a model of your own, with custom layers perhaps.

    An edge mask of ones changes nothing; a mask of 0.5 and of 0 on one edge give what multiplying this edge's messages
    gives; the gradient of a mask is that of finite differences.

    Args:
        model, task, forward: as in `gnn_xai.explain`.
        data: a small graph without parallel edges (a few edges are tried).
        tolerance: relative to the largest output.

    Raises:
        AssertionError: with what differs.
        MaskingError: if edge masks cannot reach the model's layers.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    config = as_task(task, data)
    graphs = as_graphs(data, device)
    problem = problem_of(model, graphs, config, forward)
    every = everything(graphs, problem.readout.every_row(graphs))
    edges = every.edge_index
    got: dict[tuple[int, float], Tensor] = {}
    ones = torch.ones(edges.size(1), dtype=problem.dtype, device=device)
    some = range(0, edges.size(1), max(1, edges.size(1) // 5))
    with untouched(model) as evaluating, evaluating, torch.no_grad():
        with MaskedModel(problem, every) as masked:
            original = masked()
            masked.trace.check()
            gap = distance(masked(edge_mask=ones), original)
            assert gap <= tolerance, f"an edge mask of ones changes the output by {gap:.2g}"
            for position in some:
                for value in (0.0, 0.5, 0.999, 1.001):
                    got[position, value] = masked(
                        edge_mask=ones.index_fill(0, torch.tensor(position, device=device), value)
                    )
            with torch.enable_grad():
                leaf = ones.clone().requires_grad_()
                weights = torch.linspace(0.5, 1.5, original.numel()).to(original).reshape(original.shape)
                (gradient,) = torch.autograd.grad((masked(edge_mask=leaf) * weights).sum(), leaf)
        for (position, value), out in got.items():
            u, v = edges[:, position].tolist()
            with plainly_masked(model, {(u, v): value}):
                gap = distance(out, problem.run(every.data, every.rows))
            assert gap <= tolerance, f"mask {value} on edge {u}→{v} gives an output that is off by {gap:.2g}"
        for position in some:
            slope = ((got[position, 1.001] - got[position, 0.999]) * weights).sum() / 0.002
            gap = distance(gradient[position], slope)
            ends = "→".join(map(str, edges[:, position].tolist()))
            assert gap <= 0.02, f"the mask gradient of edge {ends} is off finite differences by {gap:.2g}"
