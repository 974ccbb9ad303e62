"""The mask-optimisation engine: masks of all instances of a batch are learned at once, each as if it were alone.

Losses are summed over instances and regularisers reduced within each, so the gradient of one instance's mask holds
nothing of another's; Adam works element by element; random numbers are keyed by instance and element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.explain.config import ModelMode

from gnn_xai.core import packing
from gnn_xai.core.features import Columns, Features, by_column, by_row, by_value, structure
from gnn_xai.core.masking import MaskedModel, require_float_features
from gnn_xai.core.masks import Masks, NodeMaskType
from gnn_xai.core.neighborhoods import ComputationGraphs, Union
from gnn_xai.core.problem import Problem
from gnn_xai.core.question import Question
from gnn_xai.core.repeat import repeat
from gnn_xai.core.rng import keyed_normal
from gnn_xai.core.segments import segment_max, segment_sum
from gnn_xai.errors import warn

CHECK = 10
"""Epochs between two looks at whether masks still move."""


@dataclass(frozen=True)
class MaskObjective:
    """What a mask-learning algorithm minimises, per instance.

    `loss + edge_size·Σm + edge_ent·mean H(m) + node_feat_size·mean n + node_feat_ent·mean H(n)` over the edge mask m
    and the node mask n in play, where H is the binary entropy in nats. `loss` is −log p(target) (`"nll"`), the negative
    log-odds of the target (`"margin"`), or for a regression the squared distance to the original output.
    """

    loss: Literal["nll", "margin"]
    edge_size: float
    edge_ent: float
    node_feat_size: float
    node_feat_ent: float


def optimize(
    question: Question,
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
    tol: float | None = None,
    restart: int = 0,
    share: float = 1.0,
) -> Masks:
    """Learn sigmoid masks by Adam; the masks after the last step, in [0, 1].

    Masks start from N(0, `init_std`²) before the sigmoid. Elements that cannot change the output (context edges,
    features that are 0) stay at 0.

    Args:
        question: the problem and how to run it.
        graphs: B computation graphs.
        target: `[B]`.
        prediction: `[B, C]` output of the unmasked model.
        edge_mask, node_mask_type: which masks to learn.
        objective: loss and regularisers.
        epochs, lr: steps and learning rate of Adam.
        init_std: standard deviation of the initial masks before the sigmoid.
        tol: an instance is done once none of its masks moved by more than this in `CHECK` epochs; `None` for no such end.
            Then `extras["epochs"]` `[B]` tells how many each took.
        restart: number of the restart, which keys the initial masks beside `question.seed`.
        share: the part of the algorithm's work that this run is, for the progress bar.
    """
    masks = Masks(node_type=node_mask_type)
    if edge_mask:
        masks.edge = prediction.new_zeros(len(graphs.edge), dtype=question.problem.dtype)
    if node_mask_type is not None:
        x = require_float_features(question.problem, f"node_mask_type={node_mask_type!r}")
        width = 1 if node_mask_type == "object" else x[0].numel()
        rows = len(graphs) if node_mask_type == "common_attributes" else len(graphs.node)
        masks.node = x.new_zeros(rows, width)
    flat = []
    taken = torch.full((len(graphs),), epochs, device=graphs.node.device)

    def start(select: Tensor) -> _Batch:
        union = question.union(graphs, select)
        edges = _EdgeMask(question, union, objective, init_std, restart) if edge_mask else None
        nodes = None
        if node_mask_type is not None:
            nodes = _NodeMask(question, union, objective, node_mask_type, init_std, restart)
        return _Batch(question, union, edges, nodes, target[select], prediction[select], objective.loss, lr)

    def keep(batch: _Batch, of: Tensor) -> None:
        """Write the masks of some replicas `[R]` bool of a batch."""
        union, values = batch.union, batch.theta.sigmoid()
        if batch.edges is not None and masks.edge is not None:
            here = of[union.edge_owner]
            masks.edge[union.edge[here]] = batch.edges.final(values[: batch.split])[here]
        if batch.nodes is not None and masks.node is not None:
            common = node_mask_type == "common_attributes"
            here = of if common else of[union.node_owner]
            rows = union.instance if common else union.node
            masks.node[rows[here]] = batch.nodes.final(values[batch.split :])[here]

    def work(select: Tensor) -> None:
        batch, passed = start(select), 0
        learning = torch.ones(len(select), dtype=torch.bool, device=select.device)
        while passed < epochs:
            now = epochs - passed if tol is None else min(CHECK, epochs - passed)
            before = batch.theta.sigmoid()
            batch.learn(now)
            if passed == 0:
                flat.append((~batch.responded).sum())
            passed += now
            if tol is None or passed == epochs:
                continue
            done = learning & (batch.moved(before) <= tol)
            keep(batch, done)
            taken[batch.union.instance[done]] = passed
            learning = learning & ~done
            if not bool(learning.any()):
                break
            if int(learning.sum()) <= len(learning) // 2:  # what is done leaves the batch
                batch = batch.taken_over_by(start(batch.union.instance[learning]), learning)
                learning = learning[learning]
        keep(batch, learning)
        question.advance(len(select) / len(graphs) * share)

    packing.run(work, question.cost(graphs) + _cost_of_values(question, graphs, node_mask_type), question.limit)
    silent = int(sum(flat))
    if silent:
        warn(
            f"the loss of {silent} of {len(graphs)} instances did not respond to any mask (a saturated prediction, or one "
            "that ignores its inputs), so their masks show the regularisers alone; try loss='margin', or an ablation"
        )
    if tol is not None:
        masks.extras["epochs"] = taken
    return masks


_PER_VALUE = 56
"""Bytes that one masked feature value takes: its place, its value, mask, gradient and the optimiser's moments."""


def _cost_of_values(question: Question, graphs: ComputationGraphs, kind: NodeMaskType | None) -> Tensor:
    """What masks on feature values add to the cost of each instance, `[B]`."""
    if kind in (None, "object") or question.budget.per_node == 1.0:
        return torch.zeros(len(graphs), device=graphs.node.device)
    assert graphs.graphs.x is not None
    features = question.features or Features(graphs.graphs.x)
    if not features.sparse:
        each = _PER_VALUE if kind == "attributes" else 4 * graphs.graphs.x.element_size()
        return each * graphs.graphs.x[:1].numel() * graphs.num_nodes.double()
    return _PER_VALUE * segment_sum(features.nonzero[0].diff()[graphs.node].double(), graphs.node_owner, len(graphs))


class _Batch:
    """The masks of one union while they are learned.

    All parameters are one flat tensor θ, with the masks m = sigmoid(θ). The regularisers' gradient is known in closed form:
    d size·Σm/dm = size, and d H(m)/dm = log((1 − m)/m) = −θ for the entropy. So autograd sees the model's loss alone,
    and an epoch is one pass through the model and a few operations on flat tensors.
    """

    def __init__(
        self,
        question: Question,
        union: Union,
        edges: _EdgeMask | None,
        nodes: _NodeMask | None,
        target: Tensor,
        prediction: Tensor,
        loss: str,
        lr: float,
    ) -> None:
        self.question, self.union, self.edges, self.nodes = question, union, edges, nodes
        self.target, self.prediction, self.loss = target, prediction, loss
        present = [mask for mask in (edges, nodes) if mask is not None]
        self.theta = torch.cat([mask.start for mask in present])
        self.size = torch.cat([mask.size for mask in present])
        self.entropy = torch.cat([mask.entropy for mask in present])
        self.owner = torch.cat([mask.owner for mask in present])
        self.split = 0 if edges is None else len(edges.start)
        on_gpu = self.theta.is_cuda
        self.optimizer = torch.optim.Adam([self.theta], lr=lr, fused=True, capturable=on_gpu)
        self.responded = torch.ones(len(union), dtype=torch.bool, device=target.device)

    def learn(self, epochs: int) -> None:
        """Run the optimiser for some epochs."""
        with self.question.model(self.union) as model:

            def step() -> None:
                mask = self.theta.sigmoid()
                gradient = self._gradient(model, mask)
                if not self.optimizer.state:
                    self.responded = self._responds(gradient)
                slope = mask * (1 - mask)
                self.theta.grad = torch.addcmul(gradient + self.size, self.entropy, self.theta, value=-1).mul_(slope)
                self.optimizer.step()

            repeat(step, epochs, self.theta.device)

    def moved(self, before: Tensor) -> Tensor:
        """How far the farthest mask of each replica is from what it was, `[R]`; 0 without masks."""
        return segment_max((self.theta.sigmoid() - before).abs(), self.owner, len(self.union))

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

    def _gradient(self, model: MaskedModel, mask: Tensor) -> Tensor:
        """The gradient of the prediction loss with respect to the masks."""
        mask = mask.requires_grad_()
        out = model(
            edge_mask=None if self.edges is None else self.edges.spread(mask[: self.split]),
            x=None if self.nodes is None else self.nodes.spread(mask[self.split :]),
        )
        loss = _loss(self.question.problem, self.loss, out, self.target, self.prediction).sum()
        if not loss.requires_grad:
            return torch.zeros_like(mask)
        (gradient,) = torch.autograd.grad(loss, mask, allow_unused=True)
        return torch.zeros_like(mask) if gradient is None else gradient

    def _responds(self, gradient: Tensor) -> Tensor:
        """Whether the gradient of each instance's loss is non-zero anywhere; true for an instance without any mask."""
        moved = segment_sum((gradient != 0).to(gradient.dtype), self.owner, len(self.union))
        maskable = segment_sum(torch.ones_like(gradient), self.owner, len(self.union))
        return (moved > 0) | (maskable == 0)


def _loss(problem: Problem, kind: str, out: Tensor, target: Tensor, prediction: Tensor) -> Tensor:
    """The prediction term of the loss, `[R]`."""
    if problem.task.mode == ModelMode.regression:
        return (problem.score(out, target) - problem.score(prediction, target)).square()
    return -problem.score(out, target, "margin" if kind == "margin" else "log_prob")


class _EdgeMask:
    """One parameter per undirected edge in play, or per directed edge where directions are not tied.

    Attributes:
        start: `[P]` initial parameters, before the sigmoid.
        owner: `[P]` the replica of each.
        size, entropy: `[P]` coefficients of m and of H(m) in the loss, over directed edges in play.
    """

    def __init__(
        self, question: Question, union: Union, objective: MaskObjective, init_std: float, restart: int
    ) -> None:
        source, dtype, stride = union.source, question.problem.dtype, max(len(union.source.edge), 1)
        in_play = source.edge_in_play[union.edge]
        positions, self.total = in_play.nonzero().flatten(), len(in_play)
        edge_owner = union.edge_owner[positions]
        # Both directions lie in the same replica, so (replica, tied edge) numbers the parameters.
        tied = question.tied(source)[union.edge[positions]]
        pairs, parameter = torch.unique(edge_owner * stride + tied, return_inverse=True)
        self.owner, edge = pairs // stride, pairs % stride
        instance = union.instance[self.owner]
        stream = torch.full_like(edge, 2 * restart)
        start = keyed_normal(question.seed, source.instance_key[instance], question.edge_key(source)[edge], stream)
        self.start = (start * init_std).to(dtype)
        # Context takes a slot behind the parameters: 1 while masks are learned, 0 in the result.
        self.slot = torch.full((self.total,), len(pairs), device=edge.device).index_copy(0, positions, parameter)
        copies = torch.bincount(parameter, minlength=len(pairs)).to(dtype)
        count = torch.bincount(edge_owner, minlength=len(union)).clamp(min=1).to(dtype)
        self.size = objective.edge_size * copies
        self.entropy = objective.edge_ent * copies / count[self.owner]

    def spread(self, values: Tensor) -> Tensor:
        """The mask of every edge of the union, `[ΣE]`; 1 for context."""
        return torch.cat([values, values.new_ones(1)]).index_select(0, self.slot)

    def final(self, values: Tensor) -> Tensor:
        """The mask of every edge of the union, `[ΣE]`; 0 for context."""
        return torch.cat([values, values.new_zeros(1)]).index_select(0, self.slot)


class _NodeMask:
    """Parameters on what a feature mask can change: nodes or features in play that are not 0 throughout.

    Attributes: as in `_EdgeMask`; coefficients are means over the parameters of an instance.
    """

    def __init__(
        self,
        question: Question,
        union: Union,
        objective: MaskObjective,
        kind: NodeMaskType,
        init_std: float,
        restart: int,
    ) -> None:
        source, graphs = union.source, union.source.graphs
        assert graphs.x is not None
        self.features = question.features or Features(graphs.x)
        self.lazy, self.kind = question.features is not None, kind
        self.node = union.node_id
        self.width, self.total, replicas = graphs.x[:1].numel(), len(self.node), len(union)
        in_play = source.node_in_play[union.node]
        shared = kind == "common_attributes" and not self.features.sparse
        self.columns = None
        if shared:
            self.columns = Columns(self.features, self.node, union.node_owner, ~in_play, replicas)
        elif kind != "object":
            self.entries, self.values = structure(self.features, self.node)
            row, feature = self.entries.row, self.entries.col
        if kind == "object":
            # A node whose features are all 0 has nothing to mask.
            node = (in_play & self.features.any[self.node]).nonzero().flatten()
            self.owner, element, self.places = union.node_owner[node], (graphs.node_key[self.node[node]],), node
            element = (*element, torch.zeros_like(node))
            self.slot = torch.full((self.total,), len(node), device=node.device)
            self.slot[node] = torch.arange(len(node), device=node.device)
        elif kind == "attributes":
            active = in_play[row].nonzero().flatten()
            row, feature = row[active], feature[active]
            self.owner, element = union.node_owner[row], (graphs.node_key[self.node[row]], feature)
            self.places = row * self.width + feature
            self.slot = torch.full((len(self.values),), len(active), device=row.device)
            self.slot[active] = torch.arange(len(active), device=row.device)
        elif self.columns is not None:
            active = (
                segment_sum((self.columns.x[in_play] != 0).to(torch.int32), union.node_owner[in_play], replicas) > 0
            )
            self.owner, feature = active.nonzero(as_tuple=True)
            element = (torch.full_like(feature, -1), feature)
            self.places = self.owner * self.width + feature
        else:
            key = union.node_owner[row] * self.width + feature
            inside = in_play[row]
            self.places = torch.unique(key[inside])
            self.owner, feature = self.places // self.width, self.places % self.width
            element = (torch.full_like(feature, -1), feature)
            place = torch.searchsorted(self.places, key).clamp(max=max(len(self.places) - 1, 0))
            self.slot = torch.where(inside, place, len(self.places))
        self.rows = replicas if kind == "common_attributes" else self.total
        instance = source.instance_key[union.instance[self.owner]]
        stream = torch.full_like(self.owner, 2 * restart + 1)
        start = keyed_normal(question.seed, instance, *element, stream)
        self.start = (start * init_std).to(graphs.x.dtype)
        count = torch.bincount(self.owner, minlength=replicas).clamp(min=1).to(graphs.x.dtype)[self.owner]
        self.size, self.entropy = objective.node_feat_size / count, objective.node_feat_ent / count

    def spread(self, values: Tensor) -> Tensor:
        """The masked features of the union, `[ΣN, ...]`; context keeps its own."""
        if self.columns is not None:
            masked = by_column(self.features, self.node, self.columns, self.final(values))
            return masked if self.lazy else masked.dense()
        mask = torch.cat([values, values.new_ones(1)]).index_select(0, self.slot)
        if self.kind == "object":
            masked = by_row(self.features, self.node, mask)
        else:
            masked = by_value(self.features, self.node, self.entries, self.values * mask)
        return masked if self.lazy else masked.dense()

    def final(self, values: Tensor) -> Tensor:
        """The mask in the layout of `Masks.node`; 0 where it cannot matter."""
        width = 1 if self.kind == "object" else self.width
        return values.new_zeros(self.rows * width).index_copy(0, self.places, values).reshape(self.rows, width)
