"""The fitting engine: parameters shared by many instances are learned over all of them, by Adam.

A step's gradient is the mean over its instances, added up batch by batch, so that how much memory there is, and in how
many chunks the instances come, makes no difference. Which instances a step takes, and every random number, is keyed by
seed, epoch and instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.keyed_random import keyed_bits, keyed_uniform
from gnn_xai.core.engines.prepare import Chunk
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.model.interventions import MaskedModel

Parameters = dict[str, Tensor]
"""Tensors by name, all of one dtype."""

Losses = dict[str, Float[Tensor, " replicas"]]
"""The terms of a loss by name, each with a value for every replica; their sum is minimised."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Some computation graphs to learn from, and what is explained there.

    Attributes:
        chunk: the instances.
        target: `[P]` class or column of each.
        states: `[ΣN, H]` hidden state of every node.
    """

    chunk: Chunk
    target: Int[Tensor, " instances"]
    states: Float[Tensor, "nodes width"]


@dataclass(eq=False)
class Fitting:
    """Parameters while they are fitted by Adam.

    Attributes:
        parameters: by name.
        lr: learning rate.
        epoch: epochs that are done.
        losses: mean of each term of the loss over the instances, epoch by epoch.
    """

    parameters: Parameters
    lr: float
    epoch: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(list(self.parameters.values()), self.lr)

    def step(self, gradients: Parameters) -> None:
        """One step along the gradients."""
        for name, value in self.parameters.items():
            value.grad = gradients[name]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """The state of the optimiser, as tensors by the parameter's name and their own."""
        own = self.optimizer.state_dict()["state"]
        return {
            f"{name}.{key}": value
            for name, at in zip(self.parameters, own.values(), strict=False)
            for key, value in at.items()
        }

    def resume(self, parameters: Parameters, state: dict[str, Tensor], losses: list[dict[str, float]]) -> None:
        """Go on from parameters and a state of the optimiser, after as many epochs as there are losses."""
        self.losses, self.epoch = losses, len(losses)
        held = self.optimizer.state_dict()
        for number, (name, value) in enumerate(self.parameters.items()):
            value.copy_(parameters[name])
            own = {key.removeprefix(f"{name}."): at for key, at in state.items() if key.startswith(f"{name}.")}
            held["state"] |= {number: own} if own else {}
        self.optimizer.load_state_dict(held)


def fit(
    session: Session,
    lessons: Sequence[Lesson],
    fitting: Fitting,
    loss: Callable[[MaskedModel, Lesson, Replicas, Parameters, int], Losses],
    *,
    epochs: int,
    batch_size: int | None,
    each: Callable[[Fitting], None] = lambda fitting: None,
) -> Parameters:
    """Fit parameters over all instances, from the epoch where `fitting` stands.

    Args:
        session: the problem and how to run it.
        lessons: the instances, in any number of chunks.
        fitting: parameters, changed in place.
        loss: `(model, lesson, replicas, parameters, epoch) -> terms` of the loss for every replica.
        epochs: passes over all instances.
        batch_size: instances of a step, drawn anew every epoch; `None` for all of them.
        each: called after every epoch.
    """
    key = torch.cat([lesson.chunk.graphs.instance_key for lesson in lessons])
    lesson_of = torch.cat([torch.full((len(lesson.target),), i) for i, lesson in enumerate(lessons)]).to(key.device)
    within = torch.cat([torch.arange(len(lesson.target), device=key.device) for lesson in lessons])
    for epoch in range(fitting.epoch, epochs):
        order = torch.argsort(keyed_bits(session.seed, key, torch.full_like(key, epoch)), stable=True)
        totals: dict[str, float] = {}
        for members in order.split(batch_size or len(order)):
            gradients = {name: torch.zeros_like(value) for name, value in fitting.parameters.items()}
            for number, lesson in enumerate(lessons):
                some = within[members[lesson_of[members] == number]]
                if len(some):
                    _add(session, lesson, some.sort().values, fitting.parameters, loss, epoch, gradients, totals)
            fitting.step({name: value / len(members) for name, value in gradients.items()})
        fitting.losses.append({name: value / len(order) for name, value in totals.items()})
        fitting.epoch = epoch + 1
        each(fitting)
    return fitting.parameters


def _add(
    session: Session,
    lesson: Lesson,
    select: Int[Tensor, " selected"],
    parameters: Parameters,
    loss: Callable[[MaskedModel, Lesson, Replicas, Parameters, int], Losses],
    epoch: int,
    gradients: Parameters,
    totals: dict[str, float],
) -> None:
    """Add the gradients of the losses of some instances, and their values."""
    graphs = lesson.chunk.graphs

    def work(positions: Tensor) -> None:
        replicas = session.replicas(graphs, select[positions])
        leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        with session.model(replicas) as model:
            terms = loss(model, lesson, replicas, leaves, epoch)
        total = torch.stack(list(terms.values())).sum()
        # Added at once: a batch that runs out of memory is tried again.
        for name, gradient in zip(
            leaves, torch.autograd.grad(total, list(leaves.values()), allow_unused=True), strict=True
        ):
            if gradient is not None:
                gradients[name] += gradient
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach().sum())

    batches.for_each_batch(work, session.cost(graphs)[select], session.limit)


def dense_layer(
    session: Session, number: int, outputs: int, inputs: int
) -> tuple[Float[Tensor, "outputs inputs"], Float[Tensor, " outputs"]]:
    """Weight and bias of a linear layer as PyTorch starts it, uniform in ±1/√inputs, drawn by seed and number."""
    place = torch.arange(outputs * (inputs + 1), device=session.problem.graphs.device)
    drawn = (2 * keyed_uniform(session.seed, place, torch.full_like(place, number)) - 1) / max(inputs, 1) ** 0.5
    weight, bias = drawn.to(session.problem.dtype).split([outputs * inputs, outputs])
    return weight.reshape(outputs, inputs), bias
