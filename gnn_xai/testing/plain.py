"""Slow and plain counterparts of what the engines do: loops over edges, messages looked up by (source, target)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing

from gnn_xai.results.explanations import Explanation
from gnn_xai.testing.cases import Case


@contextmanager
def plainly_masked(
    model: nn.Module,
    weight: Mapping[tuple[int, int], float],
    first: Callable[[nn.Module], Tensor | int] = lambda module: 0,
) -> Iterator[None]:
    """Multiply the message of every edge (source, target) by its `weight`, 1 where it has none; no parallel edges. `first`
    is what a layer's own numbers of senders and receivers start from, `[2, 1]`.
    """
    factors: list[Tensor] = []

    def before(module: nn.Module, inputs: Any) -> None:
        ends = (inputs[0] + first(module)).t().tolist()
        factors[:] = [torch.tensor([weight.get((u, v), 1.0) for u, v in ends])]

    def after(module: Any, inputs: Any, out: Tensor) -> Tensor:
        shape = [1] * out.dim()
        shape[module.node_dim] = -1
        return out * factors[0].to(out).view(shape)

    handles = []
    for module in model.modules():
        if isinstance(module, MessagePassing):
            handles += [
                module.register_propagate_forward_pre_hook(before),
                module.register_message_forward_hook(after),
            ]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def plainly_scaled(model: nn.Module, factor: Tensor | None) -> Iterator[None]:
    """Multiply what an `Encoder` makes of column f of node v by `factor[v, f]`."""
    handles = []
    if factor is not None:
        encoder: Any = model.encoder
        for embedding, column in zip(encoder.columns, factor.split(1, dim=1), strict=True):
            handles.append(embedding.register_forward_hook(lambda module, inputs, out, column=column: out * column))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reachable(edge_index: Tensor, roots: Iterable[int], steps: int) -> tuple[set[int], set[int]]:
    """Nodes within `steps` hops of any root, and positions of the edges that can carry a message to it, by plain loops."""
    nodes, edges = set(roots), set()
    for _ in range(steps):
        reached = {position for position, (_, v) in enumerate(edge_index.t().tolist()) if v in nodes}
        edges |= reached
        nodes = nodes | {int(edge_index[0, position]) for position in reached}
    return nodes, edges


def graph_of(data: Any, e: Explanation) -> Any:
    """The graph that an explanation is about."""
    return data if isinstance(data, Data) else data[e.index]


def run_plainly(
    case: Case,
    model: nn.Module,
    data: Any,
    e: Explanation,
    x: Tensor,
    weight: dict[tuple[int, int], float],
    factor: Tensor | None = None,
    columns: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The output `[C]` an explanation is about, on the full graph with other features, weighted messages, embedded codes
    times a factor `[N, F]`, and other attributes by name.
    """
    graph = copy.copy(graph_of(data, e))
    graph.x = x
    graph.update(dict(columns or {}))
    if len(e.roots) == 2:
        graph.edge_label_index = torch.tensor(e.roots).unsqueeze(1)
    types = case.types
    with (
        plainly_masked(model, weight, lambda module: 0 if types is None else types.first(graph, module)),
        plainly_scaled(model, factor),
    ):
        out = case.run(model, graph)
    return out[e.roots[0] if len(e.roots) == 1 else 0]


def _soft(scores: Tensor | None, signed: bool) -> Tensor | None:
    if scores is None or not signed or scores.numel() == 0:
        return scores
    return scores.abs() / max(float(scores.abs().max()), torch.finfo(scores.dtype).tiny)


def under_masks(case: Case, model: nn.Module, data: Any, e: Explanation, complement: bool) -> Tensor:
    """The `prediction_masked` or `prediction_complement` of an explanation, computed plainly."""
    graph, node, edge = graph_of(data, e), _soft(e.node_mask, e.signed), _soft(e.edge_mask, e.signed)
    coded = not graph.x.is_floating_point()
    x, weight = torch.ones(graph.x.shape) if coded else graph.x.clone(), {}
    if node is not None:
        node = 1 - node if complement else node
        if node.dim() == 1:
            node = node.expand(len(e.node_id), -1)
        x[e.node_id] = x[e.node_id] * node
    if edge is not None:
        ends = [(u, v) for u, v in e.edge_index.t().tolist()]
        weight = dict(zip(ends, (1 - edge if complement else edge).tolist(), strict=True))
    columns = {name: _masked(e, graph, name, complement) for name in e.columns}
    factor, x = (x, graph.x) if coded else (None, x)
    return run_plainly(case, model, data, e, x, weight, factor, columns)


def _masked(e: Explanation, graph: Any, name: str, complement: bool) -> Tensor:
    """An attribute of a graph under the mask of an explanation."""
    values, mask = graph[name].clone(), _soft(e.columns[name], e.signed)
    assert mask is not None
    level = e.source.column_types[name][0]
    rows = {"node": e.node_id, "edge": e.edge_id, "graph": torch.zeros(1, dtype=torch.int64)}[level]
    mask = 1 - mask if complement else mask
    values[rows] = (values[rows].reshape(len(rows), -1) * mask).reshape(values[rows].shape)
    return values
