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
from gnn_xai.core.masking import MaskedModel, require_float_features
from gnn_xai.core.masks import Masks, NodeMaskType
from gnn_xai.core.neighborhoods import ComputationGraphs, Union
from gnn_xai.core.problem import Problem
from gnn_xai.core.question import Question
from gnn_xai.core.rng import keyed_normal
from gnn_xai.core.segments import segment_mean, segment_sum
from gnn_xai.errors import warn

_EPS = 1e-15  # inside logarithms of the entropy, as in PyG


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

    def work(select: Tensor) -> None:
        union = graphs.union(select)
        edges = _EdgeMask(question, union, init_std, restart) if edge_mask else None
        nodes = _NodeMask(question, union, node_mask_type, init_std, restart) if node_mask_type is not None else None
        responded = _learn(
            question.problem, union, edges, nodes, target[select], prediction[select], objective, epochs, lr
        )
        flat.append((~responded).sum())
        if edges is not None and masks.edge is not None:
            masks.edge[union.edge] = edges.final()
        if nodes is not None and masks.node is not None:
            masks.node[select if node_mask_type == "common_attributes" else union.node] = nodes.final()
        question.advance(len(select) / len(graphs) * share)

    packing.run(work, question.cost(graphs), question.limit)
    silent = int(sum(flat))
    if silent:
        warn(
            f"the loss of {silent} of {len(graphs)} instances did not respond to any mask (a saturated prediction, or one "
            "that ignores its inputs), so their masks show the regularisers alone; try loss='margin', or an ablation"
        )
    return masks


def _learn(
    problem: Problem,
    union: Union,
    edges: _EdgeMask | None,
    nodes: _NodeMask | None,
    target: Tensor,
    prediction: Tensor,
    objective: MaskObjective,
    epochs: int,
    lr: float,
) -> Tensor:
    """Run Adam on the masks; whether the loss of each instance responded to any mask in the first step, `[R]`."""
    present = [mask for mask in (edges, nodes) if mask is not None]
    parameters = [mask.theta for mask in present]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    responded = torch.ones(len(union), dtype=torch.bool, device=target.device)
    with MaskedModel(problem, union) as model:
        for epoch in range(epochs):
            out = model(
                edge_mask=None if edges is None else edges.spread(),
                x=None if nodes is None else nodes.spread(),
            )
            loss = _loss(problem, objective.loss, out, target, prediction)
            if epoch == 0:
                responded = _responds(loss, present, parameters, len(union))
            if edges is not None:
                loss = loss + edges.penalty(objective.edge_size, objective.edge_ent)
            if nodes is not None:
                loss = loss + nodes.penalty(objective.node_feat_size, objective.node_feat_ent)
            gradients = torch.autograd.grad(loss.sum(), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    return responded


def _loss(problem: Problem, kind: str, out: Tensor, target: Tensor, prediction: Tensor) -> Tensor:
    """The prediction term of the loss, `[R]`."""
    if problem.task.mode == ModelMode.regression:
        return (problem.score(out, target) - problem.score(prediction, target)).square()
    return -problem.score(out, target, "margin" if kind == "margin" else "log_prob")


def _responds(loss: Tensor, present: list[_EdgeMask | _NodeMask], parameters: list[Tensor], size: int) -> Tensor:
    """Whether the gradient of each instance's loss is non-zero anywhere; true for an instance without any mask."""
    if not loss.requires_grad:
        return torch.zeros(size, dtype=torch.bool, device=loss.device)
    gradients = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
    moved = torch.zeros(size, device=loss.device)
    maskable = torch.zeros(size, device=loss.device)
    for mask, gradient in zip(present, gradients, strict=True):
        maskable = maskable + segment_sum(torch.ones_like(mask.theta, dtype=moved.dtype), mask.owner, size)
        if gradient is not None:
            moved = moved + segment_sum((gradient != 0).to(moved.dtype), mask.owner, size)
    return (moved > 0) | (maskable == 0)


def _entropy(mask: Tensor) -> Tensor:
    return -mask * torch.log(mask + _EPS) - (1 - mask) * torch.log(1 - mask + _EPS)


class _EdgeMask:
    """One parameter per undirected edge in play, or per directed edge where directions are not tied."""

    def __init__(self, question: Question, union: Union, init_std: float, restart: int) -> None:
        source, dtype, stride = union.source, question.problem.dtype, max(len(union.source.edge), 1)
        in_play = source.edge_in_play[union.edge]
        self.positions, self.total, self.size = in_play.nonzero().flatten(), len(in_play), len(union)
        self.edge_owner = union.edge_owner[self.positions]
        # Both directions lie in the same replica, so (replica, tied edge) numbers the parameters.
        tied = question.tied(source)[union.edge[self.positions]]
        pairs, self.parameter = torch.unique(self.edge_owner * stride + tied, return_inverse=True)
        self.owner, edge = pairs // stride, pairs % stride
        instance = union.instance[self.owner]
        stream = torch.full_like(edge, 2 * restart)
        start = keyed_normal(question.seed, source.instance_key[instance], question.edge_key(source)[edge], stream)
        self.theta = (start * init_std).to(dtype).requires_grad_()

    @property
    def values(self) -> Tensor:
        """The mask of each edge in play."""
        return self.theta.sigmoid()[self.parameter]

    def spread(self) -> Tensor:
        """The mask of every edge of the union, `[ΣE]`; 1 for context."""
        mask = self.values
        return mask if len(mask) == self.total else mask.new_ones(self.total).index_copy(0, self.positions, mask)

    def penalty(self, size: float, entropy: float) -> Tensor:
        """Size and entropy terms, `[R]`, over directed edges in play."""
        mask = self.values
        total = size * segment_sum(mask, self.edge_owner, self.size)
        return total + entropy * segment_mean(_entropy(mask), self.edge_owner, self.size)

    def final(self) -> Tensor:
        """The mask of every edge of the union, `[ΣE]`; 0 for context."""
        values = self.values.detach()
        return values.new_zeros(self.total).index_copy(0, self.positions, values)


class _NodeMask:
    """Parameters on what a feature mask can change: nodes or features in play that are not 0 throughout."""

    def __init__(self, question: Question, union: Union, kind: NodeMaskType, init_std: float, restart: int) -> None:
        source = union.source
        assert union.x is not None
        self.x, self.kind, self.size = union.x, kind, len(union)
        rows = self.x.reshape(len(self.x), -1)
        active = (rows != 0) & source.node_in_play[union.node].unsqueeze(1)
        node_key = source.graphs.node_key[source.node[union.node]]
        if kind == "object":
            node = active.any(1).nonzero().flatten()
            self.shape, self.places = (len(rows), 1), node
            self.owner, element = union.node_owner[node], (node_key[node], torch.zeros_like(node))
        elif kind == "attributes":
            node, feature = active.nonzero(as_tuple=True)
            self.shape, self.places = tuple(rows.shape), node * rows.size(1) + feature
            self.owner, element = union.node_owner[node], (node_key[node], feature)
        else:
            owner = segment_sum(active.to(torch.int32), union.node_owner, len(union)) > 0
            self.owner, feature = owner.nonzero(as_tuple=True)
            self.shape, self.places = tuple(owner.shape), self.owner * rows.size(1) + feature
            element = (torch.full_like(feature, -1), feature)
        self.context = (~source.node_in_play[union.node]).unsqueeze(1)
        self.has_context = bool(self.context.any())
        self.node_owner = union.node_owner
        instance = source.instance_key[union.instance[self.owner]]
        stream = torch.full_like(self.owner, 2 * restart + 1)
        start = keyed_normal(question.seed, instance, *element, stream)
        self.theta = (start * init_std).to(rows.dtype).requires_grad_()

    def _full(self) -> Tensor:
        values, total = self.theta.sigmoid(), self.shape[0] * self.shape[1]
        return values.new_zeros(total).index_copy(0, self.places, values).reshape(self.shape)

    def spread(self) -> Tensor:
        """The masked features of the union, `[ΣN, ...]`; context keeps its own."""
        mask = self._full()
        if self.kind == "common_attributes":
            mask = mask[self.node_owner]
        rows = self.x.reshape(len(self.x), -1)
        masked = rows * mask
        if self.has_context:
            masked = torch.where(self.context, rows, masked)
        return masked.reshape(self.x.shape)

    def penalty(self, size: float, entropy: float) -> Tensor:
        """Size and entropy terms, `[R]`, over the elements that can matter."""
        values = self.theta.sigmoid()
        return segment_mean(size * values + entropy * _entropy(values), self.owner, self.size)

    def final(self) -> Tensor:
        """The mask in the layout of `Masks.node`; 0 where it cannot matter."""
        return self._full().detach()
