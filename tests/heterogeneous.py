"""Slow references for heterogeneous graphs: the model on the whole `HeteroData`, without or under masks on some of it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GeneralConv,
    GINConv,
    GraphConv,
    HANConv,
    HeteroConv,
    HGTConv,
    MessagePassing,
    ResGatedGraphConv,
    SAGEConv,
    TransformerConv,
)
from torch_geometric.typing import EdgeType

Widths = Mapping[str, int]

LAYERS: dict[str, Callable[[int, int, int], MessagePassing]] = {
    "sage": lambda source, target, width: SAGEConv((source, target), width),
    "sage_max": lambda source, target, width: SAGEConv((source, target), width, aggr="max"),
    "sage_sum": lambda source, target, width: SAGEConv((source, target), width, aggr="sum", root_weight=False),
    "gat": lambda source, target, width: GATConv((source, target), width, heads=2, concat=False, add_self_loops=False),
    "gatv2": lambda source, target, width: GATv2Conv((source, target), width, add_self_loops=False),
    "transformer": lambda source, target, width: TransformerConv((source, target), width, heads=2, concat=False),
    "graph": lambda source, target, width: GraphConv((source, target), width),
    "gin": lambda source, target, width: GINConv(nn.Linear(source, width)),
    "gated": lambda source, target, width: ResGatedGraphConv((source, target), width),
    "general": lambda source, target, width: GeneralConv((source, target), width),
}
"""Layers between two types of nodes: widths of the source, of the target, and of the result."""

WHOLE = ("hgt", "han")
"""Layers over all relations at once."""


class Relations(nn.Module):
    """Layers over all relations, on features of every type that were brought to one width."""

    def __init__(self, data: HeteroData, kind: str, explained: str, steps: int = 2, width: int = 4) -> None:
        super().__init__()
        self.explained, relations = explained, data.edge_types
        self.encoders = nn.ModuleDict({name: nn.Linear(data[name].x.size(1), width) for name in data.node_types})
        if kind in WHOLE:
            conv: Any = HGTConv if kind == "hgt" else HANConv
            layers = [conv(width, width, data.metadata(), heads=2) for _ in range(steps)]
        else:
            layers = [
                HeteroConv({relation: LAYERS[kind](width, width, width) for relation in relations}, aggr="sum")
                for _ in range(steps)
            ]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, 3)

    def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[EdgeType, Tensor]) -> Tensor:
        """`[n, 3]`."""
        x = {name: self.encoders[name](value).tanh() for name, value in x_dict.items()}
        for layer in self.layers:
            new = layer(x, edge_index_dict)
            x = {name: value if new.get(name) is None else value + new[name].tanh() for name, value in x.items()}
        return self.head(x[self.explained])


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A model with weights of a seed, in double precision."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There exist node types")  # that no relation leads to
        torch.manual_seed(seed)
        return make().double().eval()


def random_data(seed: int) -> HeteroData:
    """A small graph of two or three types and one to four relations, with loops, parallel edges, isolated nodes, and
    relations without edges.
    """
    rng = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=rng))

    data, names = HeteroData(), ["a", "b", "c"][: draw(2, 3)]
    for name in names:
        data[name].x = torch.randn(draw(2, 5), draw(1, 3), generator=rng, dtype=torch.float64)
    for number in range(draw(1, 4)):
        source, target = (names[draw(0, len(names) - 1)] for _ in range(2))
        count = draw(0, 7)
        ends = [torch.randint(int(data[name].num_nodes or 0), (count,), generator=rng) for name in (source, target)]
        data[source, f"r{number}", target].edge_index = torch.stack(ends)
    return data


def output(model: nn.Module, data: HeteroData) -> Tensor:
    """The output for all nodes of the explained type."""
    with torch.no_grad():
        return model(data.x_dict, data.edge_index_dict)


def margin(out: Tensor, target: int) -> Tensor:
    """The log-odds of a class, from logits `[C]`."""
    others = torch.arange(len(out)) != target
    return out[target] - out[others].logsumexp(0)


def edges_of(data: HeteroData) -> Iterator[tuple[EdgeType, int]]:
    """All edges, in the order of their flat ids."""
    for relation in data.edge_types:
        yield from ((relation, number) for number in range(data[relation].num_edges))


def nodes_of(data: HeteroData) -> Iterator[tuple[str, int]]:
    """All nodes, in the order of their flat ids."""
    for name in data.node_types:
        yield from ((name, number) for number in range(int(data[name].num_nodes or 0)))


def without_edge(data: HeteroData, relation: EdgeType, number: int) -> HeteroData:
    """The data without an edge."""
    left = copy.copy(data)
    left[relation].edge_index = data[relation].edge_index[:, torch.arange(data[relation].num_edges) != number]
    return left


def without_node(data: HeteroData, name: str, number: int) -> HeteroData:
    """The data without a node and the edges at it."""
    left, kept = copy.copy(data), torch.arange(int(data[name].num_nodes or 0)) != number
    left[name].x = data[name].x[kept]
    place = kept.long().cumsum(0) - 1
    for relation in data.edge_types:
        ends = data[relation].edge_index
        for row, kind in enumerate((relation[0], relation[2])):
            if kind == name:
                ends = ends[:, kept[ends[row]]]
                ends = torch.stack([place[ends[row]] if at == row else ends[at] for at in (0, 1)])
        left[relation].edge_index = ends
    return left


@contextmanager
def masked_messages(model: Relations, masks: Mapping[EdgeType, Tensor]) -> Iterator[None]:
    """Multiply the message along every edge by its mask: layers meet the edges of a relation in order."""
    handles, relations = [], list(masks)

    def multiply(mask: Callable[[], Tensor], module: Any, inputs: Any, out: Tensor) -> Tensor:
        shape = [1] * out.dim()
        shape[module.node_dim] = -1
        return out * mask().reshape(shape)

    for layer in model.layers:
        if isinstance(layer, HeteroConv):
            handles += [
                conv.register_message_forward_hook(partial(multiply, lambda relation=relation: masks[relation]))
                for relation, conv in layer.convs.items()
            ]
        elif isinstance(layer, HGTConv):
            whole = torch.cat([masks[relation] for relation in relations])
            handles.append(layer.register_message_forward_hook(partial(multiply, lambda whole=whole: whole)))
        else:
            turn = iter(relations * 1000)
            handles.append(layer.register_message_forward_hook(partial(multiply, lambda turn=turn: masks[next(turn)])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
