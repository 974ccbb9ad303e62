"""Small seeded models on PyG layers, in evaluation mode, and small random graphs of every awkward kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import (
    APPNP,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GINEConv,
    GraphConv,
    JumpingKnowledge,
    SAGEConv,
    SimpleConv,
    TAGConv,
    TransformerConv,
    global_add_pool,
    global_mean_pool,
)

import gnn_xai as gx

Level = Literal["node", "graph"]

FEATURES, EDGE_FEATURES, HIDDEN, CLASSES = 5, 3, 6, 3


class Net(nn.Module):
    """Layers one after the other, ReLU between them, a linear head; graphs are read from the mean of their nodes.

    Args:
        convs: the layers.
        width: features that leave the last layer.
        extra: `edge_attr` or `edge_weight` if the layers take it.
    """

    def __init__(self, level: Level, convs: list[nn.Module], width: int = HIDDEN, extra: str | None = None) -> None:
        super().__init__()
        self.level, self.extra = level, extra
        self.convs = nn.ModuleList(convs)
        self.head = nn.Linear(width, CLASSES)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        given = {"edge_attr": edge_attr, "edge_weight": edge_weight}
        options = {} if self.extra is None else {self.extra: given[self.extra]}
        for conv in self.convs:
            x = conv(x, edge_index, **options).relu()
        return self.head(x if self.level == "node" else global_mean_pool(x, batch))


class JumpingNet(nn.Module):
    """Three GCN layers with batch normalisation, joined by jumping knowledge; graphs are read from sums."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.level = level
        widths = [FEATURES, HIDDEN, HIDDEN, HIDDEN]
        self.convs = nn.ModuleList([GCNConv(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(HIDDEN) for _ in self.convs])
        self.jump = JumpingKnowledge("cat")
        self.head = nn.Linear(3 * HIDDEN, CLASSES)
        for norm in self.norms:  # as after training, so that evaluation mode does something
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        states = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, edge_index)).relu()
            states.append(x)
        x = self.jump(states)
        return self.head(x if self.level == "node" else global_add_pool(x, batch))


class APPNPNet(nn.Module):
    """A perceptron whose output is propagated three times."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.level = level
        self.first, self.head = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.propagate = APPNP(K=3, alpha=0.2)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        x = self.propagate(self.first(x).relu(), edge_index).relu()
        return self.head(x if self.level == "node" else global_mean_pool(x, batch))


class LinearNet(nn.Module):
    """out = Aᴸ x Wᵀ + b with A[v, u] the summed weights of edges u→v: attributions of it are known in closed form."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.convs = nn.ModuleList([SimpleConv(aggr="sum") for _ in range(layers)])
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        for conv in self.convs:
            x = conv(x, edge_index, edge_weight)
        return self.head(x)


def _mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN))


def _gcn(level: Level) -> nn.Module:
    return Net(level, [GCNConv(FEATURES, HIDDEN), GCNConv(HIDDEN, HIDDEN)])


def _sage(level: Level) -> nn.Module:
    return Net(level, [SAGEConv(FEATURES, HIDDEN, aggr="mean"), SAGEConv(HIDDEN, HIDDEN, aggr="mean")])


def _sage_reversed(level: Level) -> nn.Module:
    return Net(
        level,
        [
            SAGEConv(FEATURES, HIDDEN, aggr="mean", flow="target_to_source"),
            SAGEConv(HIDDEN, HIDDEN, aggr="mean", flow="target_to_source"),
        ],
    )


def _gin(level: Level) -> nn.Module:
    return Net(level, [GINConv(_mlp(FEATURES), train_eps=True), GINConv(_mlp(HIDDEN))])


def _gat(level: Level) -> nn.Module:
    return Net(level, [GATConv(FEATURES, 3, heads=2), GATConv(HIDDEN, HIDDEN)])


def _gatv2(level: Level) -> nn.Module:
    first = GATv2Conv(FEATURES, 3, heads=2, edge_dim=EDGE_FEATURES)
    return Net(level, [first, GATv2Conv(HIDDEN, HIDDEN, edge_dim=EDGE_FEATURES)], extra="edge_attr")


def _gine(level: Level) -> nn.Module:
    first = GINEConv(_mlp(FEATURES), edge_dim=EDGE_FEATURES)
    return Net(level, [first, GINEConv(_mlp(HIDDEN), edge_dim=EDGE_FEATURES)], extra="edge_attr")


def _transformer(level: Level) -> nn.Module:
    first = TransformerConv(FEATURES, 3, heads=2, edge_dim=EDGE_FEATURES)
    return Net(level, [first, TransformerConv(HIDDEN, HIDDEN, edge_dim=EDGE_FEATURES)], extra="edge_attr")


def _graph_conv(level: Level) -> nn.Module:
    return Net(level, [GraphConv(FEATURES, HIDDEN), GraphConv(HIDDEN, HIDDEN)], extra="edge_weight")


def _tag(level: Level) -> nn.Module:
    return Net(level, [TAGConv(FEATURES, HIDDEN, K=2), TAGConv(HIDDEN, HIDDEN, K=1)])


def _shared(level: Level) -> nn.Module:
    layer = GCNConv(FEATURES, FEATURES)
    return Net(level, [layer, layer, layer], width=FEATURES)


@dataclass(frozen=True)
class Recipe:
    """How to make a model, and how many message-passing steps it takes, known by construction."""

    make: Callable[[Level], nn.Module]
    steps: int
    flow: str = "source_to_target"


ZOO: dict[str, Recipe] = {
    "gcn": Recipe(_gcn, 2),
    "sage": Recipe(_sage, 2),
    "sage_reversed": Recipe(_sage_reversed, 2, "target_to_source"),
    "gin": Recipe(_gin, 2),
    "gat": Recipe(_gat, 2),
    "gatv2": Recipe(_gatv2, 2),
    "gine": Recipe(_gine, 2),
    "transformer": Recipe(_transformer, 2),
    "graph_conv": Recipe(_graph_conv, 2),
    "appnp": Recipe(APPNPNet, 3),
    "tag": Recipe(_tag, 3),
    "shared": Recipe(_shared, 3),
    "jumping": Recipe(JumpingNet, 3),
}


class Linked(nn.Module):
    """The element-wise product of what a model of nodes gives for both nodes of a pair."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.wanted = inspect.signature(model.forward).parameters

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_label_index: Tensor,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        more = {"edge_attr": edge_attr, "edge_weight": edge_weight}
        z = self.model(x, edge_index, **{name: value for name, value in more.items() if name in self.wanted})
        return z[edge_label_index[0]] * z[edge_label_index[1]] + z[edge_label_index[0]]


def make(name: str, level: Level = "node", seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A model of the zoo with weights drawn from `seed`, in evaluation mode; the global generator is left alone."""
    return seeded(lambda: ZOO[name].make(level), seed, dtype)


def linear(layers: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A `LinearNet` with weights drawn from `seed`."""
    return seeded(lambda: LinearNet(layers), seed, dtype)


def seeded(build: Callable[[], nn.Module], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().to(dtype).eval()


def random_graph(
    seed: int = 0,
    *,
    nodes: int = 12,
    edges: int = 16,
    undirected: bool = True,
    loops: int = 2,
    parallel: int = 1,
    isolated: int = 1,
    dtype: torch.dtype = torch.float64,
) -> Data:
    """A random graph in random edge order: loops lie between other edges, some edges are there twice.

    Args:
        nodes: in all; the last `isolated` of them have no edges.
        edges: distinct node pairs that are joined, in both directions if `undirected`.
        loops: nodes with a self loop.
        parallel: edges that are repeated.
    """
    generator = torch.Generator().manual_seed(seed)
    joined = nodes - isolated
    pairs = torch.combinations(torch.arange(joined))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)[:edges]]
    turned = torch.rand(len(pairs), generator=generator) < 0.5
    pairs = torch.where(turned.unsqueeze(1), pairs.flip(1), pairs)
    pairs = torch.cat([pairs, pairs[:parallel]])
    if undirected:
        pairs = torch.cat([pairs, pairs.flip(1)])
    own = torch.randperm(joined, generator=generator)[:loops]
    pairs = torch.cat([pairs, torch.stack([own, own], 1)])
    edge_index = pairs[torch.randperm(len(pairs), generator=generator)].t().contiguous()

    x = torch.randn(nodes, FEATURES, generator=generator, dtype=dtype)
    x[torch.rand(nodes, FEATURES, generator=generator) < 0.2] = 0  # a mask on a 0 changes nothing
    x[:, -1] *= torch.arange(nodes) == nodes - 1  # a feature that most neighbourhoods lack
    count = edge_index.size(1)
    return Data(
        x=x,
        edge_index=edge_index,
        edge_attr=torch.randn(count, EDGE_FEATURES, generator=generator, dtype=dtype),
        edge_weight=torch.rand(count, generator=generator, dtype=dtype) + 0.5,
    )


def random_graphs(count: int = 4, seed: int = 0, **options: Any) -> list[Data]:
    """Graphs of different sizes; the last one but one has a single node and no edge, if there are three or more."""
    graphs = [random_graph(seed + i, nodes=6 + 2 * i, edges=7 + i, **options) for i in range(count)]
    if count >= 3:
        graphs[-2] = random_graph(seed, nodes=1, edges=0, loops=0, parallel=0, isolated=1, **options)
    return graphs


def with_truth(level: Level, model_name: str = "gcn", undirected: bool = True) -> tuple[nn.Module, Any, gx.GroundTruth]:
    """A model, its data, and what is true in it: two motifs, and nodes in neither of them."""
    model = make(model_name, level)
    if level == "node":
        data = random_graph(3, undirected=undirected)
        node = torch.arange(data.num_nodes) % 3 - 1
        edge = torch.where(node[data.edge_index[0]] == node[data.edge_index[1]], node[data.edge_index[0]], -1)
        return model, data, gx.GroundTruth(edge=edge, node=node)
    graphs = random_graphs(4, 3, undirected=undirected)
    nodes = [torch.arange(g.num_nodes) % 2 - 1 for g in graphs]
    edges = [torch.minimum(n[g.edge_index[0]], n[g.edge_index[1]]) for n, g in zip(nodes, graphs, strict=True)]
    return model, graphs, gx.GroundTruth(edge=edges, node=nodes)


def model_and_graph() -> tuple[nn.Module, Data]:
    """A two-layer GCN and a graph of 60 nodes, whose explanations fill some shards if these are small."""
    return seeded_gcn("node"), small_graph(60)


def seeded_gcn(level: Level) -> nn.Module:
    """A two-layer GCN."""
    torch.manual_seed(0)
    return Net(level, [GCNConv(FEATURES, HIDDEN), GCNConv(HIDDEN, HIDDEN)]).eval()


def small_graph(nodes: int, seed: int = 0) -> Data:
    """A ring with a few chords, in both directions."""
    generator = torch.Generator().manual_seed(seed)
    around = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    chords = torch.randint(nodes, (2, nodes // 6), generator=generator)
    edges = torch.cat([around, chords[:, chords[0] != chords[1]]], dim=1)
    both = torch.cat([edges, edges.flip(0)], dim=1)
    return Data(x=torch.rand(nodes, FEATURES, generator=generator), edge_index=both)
