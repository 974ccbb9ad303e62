"""Gradients of every instance's objective with respect to node features and edge masks, along a path of inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import require_float_features
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import warn

NO_GRADIENT = (
    "the model's output carries no gradient (torch.no_grad() or detach() inside forward?), so all scores are 0; take it "
    "out, or use an ablation"
)

Point = Callable[[Replicas, int], tuple[Float[Tensor, "nodes ..."] | None, Float[Tensor, " edges"] | None]]


def gradients(
    session: Session,
    graphs: ComputationGraphs,
    target: Int[Tensor, " instances"],
    *,
    features: bool,
    edges: bool,
    objective: Objective,
    weights: Sequence[float] = (1.0,),
    point: Point | None = None,
    power: int = 1,
) -> tuple[Float[Tensor, "nodes features"] | None, Float[Tensor, " edges"] | None]:
    """Σ_k w_k · [∂ score(x_k, m_k) / ∂ (x_k, m_k)]^power.

    Args:
        session: the problem and how to run it.
        graphs: computation graphs.
        target: of each instance.
        features, edges: what to differentiate with respect to.
        objective: the scalar to differentiate.
        weights: w_k, one for each point of the path.
        point: `(replicas, k) -> (x_k, m_k)`; `None` in either place is the original `features`, or an edge mask of ones.
        power: of each gradient before they are added up.

    Returns:
        gradients for features and for edges; `None` where not asked. The gradient of an undirected edge
        is that of the one mask its two directions share: the sum over both, on each of them.
    """
    problem, tied = session.problem, session.tied(graphs)
    by_node = by_edge = None
    if features:
        x = require_float_features(problem, "node_mask_type='attributes'")
        by_node = x.new_zeros(len(graphs.node), x[:1].numel())
    if edges:
        by_edge = torch.zeros(len(graphs.edge), dtype=problem.dtype, device=graphs.edge.device)

    def work(select: Int[Tensor, " selected"]) -> None:
        replicas = session.replicas(graphs, select)
        at = torch.empty_like(tied).index_copy(0, replicas.edge, torch.arange(len(replicas.edge), device=tied.device))
        shared = at[tied[replicas.edge]]  # both directions of an edge lie in the same replica
        total: list[Tensor] = []  # written once at the end: a batch that runs out of memory is tried again
        with session.model(replicas) as model:
            for k, weight in enumerate(weights):
                x_k, mask_k = (None, None) if point is None else point(replicas, k)
                inputs: list[Tensor] = []
                if features:
                    x_k = replicas.features if x_k is None else x_k
                    assert x_k is not None
                    x_k = x_k.detach().clone().requires_grad_()
                    inputs.append(x_k)
                if edges:
                    ones = torch.ones(len(replicas.edge), dtype=problem.dtype, device=replicas.edge.device)
                    mask_k = (ones if mask_k is None else mask_k).detach().clone().requires_grad_()
                    inputs.append(mask_k)
                score = problem.score(model(edge_mask=mask_k, x=x_k), target[select], objective).sum()
                gradients = _grad(score, inputs)
                if edges:
                    gradients[-1] = torch.zeros_like(gradients[-1]).index_add(0, shared, gradients[-1])[shared]
                terms = [weight * gradient**power for gradient in gradients]
                total = terms if k == 0 else [a + b for a, b in zip(total, terms, strict=True)]
        if by_node is not None:
            by_node[replicas.node] = total[0].reshape(len(replicas.node), -1)
        if by_edge is not None:
            by_edge[replicas.edge] = total[-1]
        session.advance(len(select) / len(graphs))

    batches.for_each_batch(work, session.cost(graphs), session.limit)
    return by_node, by_edge


def _grad(score: Float[Tensor, ""], inputs: list[Float[Tensor, ...]]) -> list[Float[Tensor, ...]]:
    """Gradients, 0 where the score does not depend on an input (an isolated node, for one)."""
    if not score.requires_grad:
        if any(value.numel() for value in inputs):
            warn(NO_GRADIENT)
        return [torch.zeros_like(value) for value in inputs]
    gradients = torch.autograd.grad(score, inputs, allow_unused=True)
    return [torch.zeros_like(v) if g is None else g for v, g in zip(inputs, gradients, strict=True)]
