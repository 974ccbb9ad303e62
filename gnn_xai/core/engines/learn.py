"""The mask-optimisation engine: masks of all instances of a batch are learned at once, each as if it were alone.

Losses are summed over instances and regularisers reduced within each, so the gradient of one instance's mask holds
nothing of another's; Adam works element by element; random numbers are keyed by instance and element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.cuda_graph import repeat_step
from gnn_xai.core.arrays.recorded import Repetition
from gnn_xai.core.arrays.segments import segment_max, segment_sum
from gnn_xai.core.engines.events import Epoch
from gnn_xai.core.engines.parameters import AttributeMask, EdgeMask, MaskObjective, NodeMask, cost_of_values, node_mask
from gnn_xai.core.engines.scored import NodeMaskType, Scored
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.engines.units import Units
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import MaskedModel, require_float_features
from gnn_xai.errors import warn

CHECK = 10
"""Epochs between two looks at whether masks still move."""

RECORDED = 100_000
"""Nodes and edges of a batch up to which its epochs are repeated as recorded: beyond, the time goes into arithmetic, and a
recording holds all tensors of an epoch at once."""


def learn(
    session: Session,
    graphs: ComputationGraphs,
    target: Tensor,
    prediction: Tensor,
    *,
    edge_mask: bool,
    node_mask_type: NodeMaskType | None,
    objective: MaskObjective,
    epochs: int,
    lr: float,
    init_std: float,
    edge_init: float = 0.0,
    tol: float | None = None,
    restart: int = 0,
    share: float = 1.0,
) -> Scores:
    """Learn sigmoid masks by Adam; the masks after the last step, in [0, 1].

    Before the sigmoid, masks start from a normal distribution with standard deviation `init_std`, around `edge_init` for
    edges and 0 for nodes. Elements that cannot change the output (context edges, features that are 0) stay at 0.

    Args:
        session: the problem and how to run it.
        graphs: B computation graphs.
        target: `[B]`.
        prediction: `[B, C]` output of the unmasked model.
        edge_mask, node_mask_type: which masks to learn.
        objective: loss and regularisers.
        epochs, lr: steps and learning rate of Adam.
        init_std: standard deviation of the initial masks before the sigmoid.
        edge_init: mean of the initial edge masks before the sigmoid.
        tol: an instance is done once none of its masks moved by more than this in `CHECK` epochs; `None` for no such end.
            Then `extras["epochs"]` `[B]` tells how many each took.
        restart: number of the restart, which keys the initial masks beside `session.seed`.
        share: the part of the algorithm's work that this run is, for the progress bar.
    """
    masks = Scores(node_type=node_mask_type)
    units = {column: Units.among(session, graphs, column, zeros=False) for column in session.columns}
    learned = {column: prediction.new_zeros(len(one), dtype=session.problem.dtype) for column, one in units.items()}
    if edge_mask:
        masks.edge = prediction.new_zeros(len(graphs.edge), dtype=session.problem.dtype)
    if node_mask_type is not None:
        x = require_float_features(session.problem, f"node_mask_type={node_mask_type!r}")
        width = 1 if node_mask_type == "object" else x[0].numel()
        rows = len(graphs) if node_mask_type == "common_attributes" else len(graphs.node)
        masks.node = x.new_zeros(rows, width)

    def start(select: Tensor) -> _Batch:
        replicas = session.replicas(graphs, select)
        edges = EdgeMask(session, replicas, objective, edge_init, init_std, restart) if edge_mask else None
        nodes = None
        if node_mask_type is not None:
            nodes = node_mask(session, replicas, objective, node_mask_type, init_std, restart)
        others = {
            column: AttributeMask(session, replicas, objective, one, init_std, restart) for column, one in units.items()
        }
        parts = Parts(edges, nodes, others)
        return _Batch(session, replicas, parts, target[select], prediction[select], objective.loss, lr, epochs)

    run = _Run(session, masks, learned, start, epochs, tol, restart, torch.full_like(target, epochs))

    def work(select: Tensor) -> None:
        part, passed = len(select) / len(graphs) * share, 0.0

        def tell(more: float) -> None:
            nonlocal passed
            passed += more
            session.advance(part * more)

        try:
            run.learn(select, lambda: tell(1 / epochs))
        except BaseException:  # a batch that runs out of memory is tried again in parts
            tell(-passed)
            raise
        tell(1 - passed)  # some may have been done early

    cost = session.cost(graphs)
    if session.budget.in_bytes:
        cost = cost + cost_of_values(session, graphs, node_mask_type)
    batches.for_each_batch(work, cost, session.limit)
    silent = int(sum(run.silent))
    if silent:
        warn(
            f"the loss of {silent} of {len(graphs)} instances did not respond to any mask (a saturated prediction, or one "
            "that ignores its inputs), so their masks show the regularisers alone; try loss='margin', or an ablation"
        )
    if tol is not None:
        masks.extras["epochs"] = run.taken
    masks.columns = {column: one.scores(learned[column]) for column, one in units.items()}
    return masks


@dataclass(eq=False)
class _Run:
    """One run of `learn`, batch by batch.

    Attributes:
        session: the problem and how to run it.
        masks: what is learned, of all instances.
        learned: the masks of units of further attributes.
        start: makes the batch of some instances `[R]`.
        epochs, tol, restart: as in `learn`.
        taken: `[B]` epochs that each instance took.
        silent: how many instances of each batch did not respond to their masks.
    """

    session: Session
    masks: Scores
    learned: dict[Scored, Tensor]
    start: Callable[[Tensor], _Batch]
    epochs: int
    tol: float | None
    restart: int
    taken: Tensor
    silent: list[Tensor] = field(default_factory=list)

    def learn(self, select: Tensor, tell: Callable[[], None]) -> None:
        """Learn the masks of some instances `[R]` as one batch, out of which those go that are done; `tell` is called after
        each epoch.
        """
        batch, passed, observer = self.start(select), 0, self.session.observer
        learning = torch.ones(len(select), dtype=torch.bool, device=select.device)
        before = batch.theta.sigmoid()
        if observer is not None:
            observer.epoch(batch.seen(0, self.restart, ~learning))
        while passed < self.epochs:
            check = self.epochs if self.tol is None else passed - passed % CHECK + CHECK
            look = self.epochs if observer is None else observer.after(passed)
            stop = min(check, look, self.epochs)
            batch.learn(stop - passed, tell)
            if passed == 0:
                self.silent.append((~batch.responded).sum())
            passed, done = stop, torch.zeros_like(learning)
            if passed == self.epochs:
                done = learning
            elif self.tol is not None and passed == check:
                done = learning & (batch.moved(before) <= self.tol)
                before = batch.theta.sigmoid()
            if observer is not None and (passed == look or bool(done.any())):
                observer.epoch(batch.seen(passed, self.restart, done).only(learning))
            if passed < check or passed == self.epochs:
                continue
            self.keep(batch, done)
            self.taken[batch.replicas.instance[done]] = passed
            learning = learning & ~done
            if not bool(learning.any()):
                break
            if int(learning.sum()) <= len(learning) // 2:  # what is done leaves the batch
                batch = batch.taken_over_by(self.start(batch.replicas.instance[learning]), learning)
                learning = learning[learning]
                before = batch.theta.sigmoid()
        self.keep(batch, learning)

    def keep(self, batch: _Batch, of: Tensor) -> None:
        """Write the masks of some replicas `[R]` bool of a batch."""
        replicas, masks, parts = batch.replicas, self.masks, batch.parts
        edge, node, *others = batch.split(batch.theta.sigmoid())
        if parts.edges is not None and masks.edge is not None:
            kept = of[replicas.edge_owner]
            masks.edge[replicas.edge[kept]] = parts.edges.final(edge)[kept]
        if parts.nodes is not None and masks.node is not None:
            common = masks.node_type == "common_attributes"
            kept = of if common else of[replicas.node_owner]
            rows = replicas.instance if common else replicas.node
            masks.node[rows[kept]] = parts.nodes.final(node)[kept]
        for (column, part), values in zip(parts.others.items(), others, strict=True):
            kept = of[part.owner]
            self.learned[column][part.unit[kept]] = values[kept]


@dataclass(frozen=True, eq=False)
class Parts:
    """What has masks in a batch: edges, nodes, and further attributes."""

    edges: EdgeMask | None
    nodes: NodeMask | None
    others: dict[Scored, AttributeMask]

    @property
    def all(self) -> dict[str, EdgeMask | NodeMask | AttributeMask | None]:
        """All masks by the name of their terms in the loss, in the order of parameters."""
        return {
            "edge": self.edges,
            "node_feat": self.nodes,
            **{column.name: part for column, part in self.others.items()},
        }


class _Batch:
    """The masks of one union while they are learned.

    All parameters are one flat tensor θ, with the masks m = sigmoid(θ). The regularisers' gradient is known in closed form:
    d size·Σm/dm = size, and d H(m)/dm = log((1 − m)/m) = −θ for the entropy. So autograd sees the model's loss alone,
    and an epoch is one pass through the model and a few operations on flat tensors.
    """

    def __init__(
        self,
        session: Session,
        replicas: Replicas,
        parts: Parts,
        target: Tensor,
        prediction: Tensor,
        loss: Literal["nll", "margin"],
        lr: float,
        epochs: int,
    ) -> None:
        self.session, self.replicas, self.parts = session, replicas, parts
        self.model = session.model(replicas)
        self.target, self.prediction = target, prediction
        self.kind: Literal["nll", "margin"] = loss
        present = [mask for mask in parts.all.values() if mask is not None]
        self.sizes = [0 if mask is None else len(mask.start) for mask in parts.all.values()]
        self.theta = torch.cat([mask.start for mask in present])
        self.size = torch.cat([mask.size for mask in present])
        self.entropy = torch.cat([mask.entropy for mask in present])
        self.owner = torch.cat([mask.owner for mask in present])
        on_gpu = self.theta.is_cuda
        self.optimizer = torch.optim.Adam([self.theta], lr=lr, fused=True, capturable=on_gpu)
        small = len(replicas.node) + len(replicas.edge) <= RECORDED
        self._steps = Repetition(self._step, epochs if small else 0)
        self.responded = torch.ones(len(replicas), dtype=torch.bool, device=target.device)

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """One number a parameter, apart for edges, nodes and each further attribute."""
        return values.split(self.sizes)

    def learn(self, epochs: int, tell: Callable[[], None]) -> None:
        """Run the optimiser for some epochs, and call `tell` after each."""
        with self.model:
            if self.theta.is_cuda:
                repeat_step(self._step, epochs, self.theta.device, tell)
            else:
                self._steps.run(epochs, tell)

    def _step(self) -> None:
        """One step of the optimiser; the model's context is open."""
        mask = self.theta.sigmoid()
        gradient = self._gradient(self.model, mask)
        if not self.optimizer.state:
            self.responded = self._responds(gradient)
        slope = mask * (1 - mask)
        self.theta.grad = torch.addcmul(gradient + self.size, self.entropy, self.theta, value=-1).mul_(slope)
        self.optimizer.step()

    def moved(self, before: Tensor) -> Tensor:
        """How far the farthest mask of each replica is from what it was, `[R]`; 0 without masks."""
        return segment_max((self.theta.sigmoid() - before).abs(), self.owner, len(self.replicas))

    def taken_over_by(self, smaller: _Batch, learning: Tensor) -> _Batch:
        """A batch of those replicas that are still `learning` `[R]` bool, with the state that they have here.

        Parameters lie in the same order in both: by replica or by node, which are both kept in order.
        """
        kept = learning[self.owner]
        smaller.theta.copy_(self.theta[kept])
        state = {
            name: value[kept] if value.dim() else value.clone()
            for name, value in self.optimizer.state[self.theta].items()
        }
        smaller.optimizer.state[smaller.theta] = state
        return smaller

    def seen(self, number: int, restart: int, last: Tensor) -> Epoch:
        """What an observer is told of the masks as they are, at the cost of one more pass through the model."""
        mask = self.theta.sigmoid()
        with torch.no_grad(), self.model as model:
            losses = {"prediction": self._loss(model, mask)}
        entropy = softplus(self.theta) - self.theta * mask  # H(m) in nats, also where m rounds to 1
        owners, masks = self.split(self.owner), self.split(mask)
        sizes, entropies = self.split(self.size * mask), self.split(self.entropy * entropy)
        for (name, part), *values, owner in zip(self.parts.all.items(), sizes, entropies, owners, strict=True):
            if part is not None:
                for term, value in zip(("size", "ent"), values, strict=True):
                    losses[f"{name}_{term}"] = segment_sum(value, owner, len(self.replicas))
        losses["total"] = torch.stack(list(losses.values())).sum(0)
        edge = (None, None) if self.parts.edges is None else (masks[0], owners[0])
        node = (None, None) if self.parts.nodes is None else (masks[1], owners[1])
        return Epoch(number, restart, self.replicas.instance, last, losses, *edge, *node)

    def _loss(self, model: MaskedModel, mask: Tensor) -> Tensor:
        """The prediction term of the loss under masks, `[R]`."""
        edge, node, *others = self.split(mask)
        edges, nodes = self.parts.edges, self.parts.nodes
        out = model(
            edge_mask=None if edges is None else edges.spread(edge),
            x=None if nodes is None else nodes.spread(node),
            columns={
                column.name: part.spread(values)
                for (column, part), values in zip(self.parts.others.items(), others, strict=True)
            },
        )
        return self.session.problem.loss(out, self.target, self.prediction, self.kind)

    def _gradient(self, model: MaskedModel, mask: Tensor) -> Tensor:
        """The gradient of the prediction loss with respect to the masks."""
        mask = mask.requires_grad_()
        loss = self._loss(model, mask).sum()
        if not loss.requires_grad:
            return torch.zeros_like(mask)
        (gradient,) = torch.autograd.grad(loss, mask, allow_unused=True)
        return torch.zeros_like(mask) if gradient is None else gradient

    def _responds(self, gradient: Tensor) -> Tensor:
        """Whether the gradient of each instance's loss is non-zero anywhere; true for an instance without any mask."""
        moved = segment_sum((gradient != 0).to(gradient.dtype), self.owner, len(self.replicas))
        maskable = segment_sum(torch.ones_like(gradient), self.owner, len(self.replicas))
        return (moved > 0) | (maskable == 0)
