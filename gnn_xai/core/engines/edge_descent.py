"""Gradient descent on one parameter for each edge, under any loss: of all instances of a batch at once, each as if alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.engines.parameters import EdgeMask, MaskObjective
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.interventions import MaskedModel

_NO_REGULARISERS = MaskObjective("nll", 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class EdgeRun:
    """A batch of R instances whose edges are masked.

    Attributes:
        model: the model, opened on them.
        instance: `[R]` which instances they are.
        edges: their P parameters.
    """

    model: MaskedModel
    instance: Tensor
    edges: EdgeMask

    @property
    def owner(self) -> Tensor:
        """`[P]` the place of each parameter's instance within the batch."""
        return self.edges.owner

    def output(self, mask: Tensor) -> Tensor:
        """The model's output `[R, C]` with messages multiplied by a mask of parameters `[P]`."""
        return self.model(edge_mask=self.edges.spread(mask))


def descend(
    session: Session,
    graphs: ComputationGraphs,
    loss: Callable[[EdgeRun, Tensor], Tensor],
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    *,
    epochs: int,
    init: float,
    init_std: float = 0.0,
    share: float = 1.0,
) -> Tensor:
    """Minimise a loss in parameters of edges in play; the parameters after the last step, `[ΣE]`, 0 for context.

    The two directions of an undirected edge share a parameter. A loss that keeps instances apart, and an optimiser that
    works element by element, give each instance what it gets alone.

    Args:
        session: the problem and how to run it.
        graphs: B computation graphs.
        loss: `(run, parameters [P]) -> [R]`, called once an epoch.
        optimizer: makes the optimiser of one tensor.
        epochs: steps.
        init, init_std: mean and standard deviation of the initial parameters.
        share: the part of the algorithm's work that this is, for the progress bar.
    """
    learned = torch.zeros(len(graphs.edge), dtype=session.problem.dtype, device=graphs.edge.device)

    def work(select: Tensor) -> None:
        replicas = session.replicas(graphs, select)
        edges = EdgeMask(session, replicas, _NO_REGULARISERS, init, init_std, 0)
        theta, step = edges.start.requires_grad_(), share * len(select) / max(len(graphs) * epochs, 1)
        steps = optimizer([theta])
        with session.model(replicas) as model:
            run = EdgeRun(model, replicas.instance, edges)
            for _ in range(epochs if len(theta) else 0):
                (theta.grad,) = torch.autograd.grad(loss(run, theta).sum(), theta, materialize_grads=True)
                steps.step()
                session.advance(step)
        learned[replicas.edge] = edges.final(theta.detach())

    batches.for_each_batch(work, session.cost(graphs), session.limit)
    return learned
