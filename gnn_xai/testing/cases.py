"""Small problems with seeded models, on which every law is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GATConv, GCNConv, GINConv, GINEConv, MessagePassing, global_add_pool, global_mean_pool
from torch_geometric.utils import to_undirected

from gnn_xai.algorithms.base import Algorithm, needs_fit
from gnn_xai.api import explain
from gnn_xai.results.explanations import Explanations


@dataclass(frozen=True)
class Case:
    """A problem small enough to run every law on it.

    Attributes:
        name: what it is called in messages.
        model: makes the model, the same one each time.
        data: makes the data: a list of `Data` for graph-level tasks, else one.
        task: what the model does.
        index: the outputs to explain: nodes, graphs, or pairs of nodes.
        steps: message-passing steps of the model.
        call: `(model, data) -> output`.
    """

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], Any]
    task: ModelConfig
    index: tuple[Any, ...]
    steps: int
    call: Callable[[nn.Module, Any], Tensor]

    @property
    def one_graph(self) -> bool:
        """Outputs are of nodes, or of pairs of nodes, of one graph; else of several graphs."""
        return self.task.task_level.value != "graph"

    def explain(self, algorithm: Algorithm, model: nn.Module | None = None, **options: Any) -> Explanations:
        """Explain `index` of this case; options as in `gnn_xai.explain`, `data` among them."""
        options = {"data": self.data(), "index": list(self.index), "task": self.task, **options}
        model = model or self.model()
        return explain(model, algorithm=self.ready(algorithm, model), progress=False, **options)

    def ready(self, algorithm: Any, model: nn.Module | None = None) -> Algorithm:
        """The algorithm, fitted on all of `index` where it has to be."""
        if not needs_fit(algorithm):
            return algorithm
        options: dict[str, Any] = {"index": list(self.index), "task": self.task, "progress": False}
        return algorithm.fit(model or self.model(), self.data(), **options)


class Encoder(nn.Module):
    """The sum of one embedding for each column of integer codes, as in models of molecules."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.columns = nn.ModuleList([nn.Embedding(size, width) for size in sizes])

    def forward(self, x: Tensor) -> Tensor:
        """`[N, width]`."""
        return torch.stack([embed(x[:, i]) for i, embed in enumerate(self.columns)]).sum(0)


class Network(nn.Module):
    """A stack of message-passing layers with ReLU between them, after an encoder of node features where one is given, and
    with a readout over graphs where `pool` is given.
    """

    def __init__(
        self,
        convs: Sequence[nn.Module],
        norms: Sequence[nn.Module] | None = None,
        head: nn.Module | None = None,
        pool: Any = None,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder or nn.Identity()
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(norms or [nn.Identity() for _ in convs])
        self.dropout = nn.Dropout(0.5)
        self.head = head or nn.Identity()
        self.pool = pool

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """`[N, C]`, or `[G, C]` with a readout."""
        x = self.encoder(x)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x, edge_index) if edge_attr is None else conv(x, edge_index, edge_attr))
            if i + 1 < len(self.convs):
                x = self.dropout(x.relu())
        return self.head(x if self.pool is None else self.pool(x, batch))


def call(model: nn.Module, data: Any) -> Tensor:
    """Call a `Network` on a data object."""
    return model(data.x, data.edge_index, data.get("edge_attr"), data.get("batch"))


class Links(Network):
    """A `Network` that encodes nodes, and a linear layer over the product of the two nodes of a pair."""

    def decode(self, z: Tensor, edge_label_index: Tensor) -> Tensor:
        """`[P, C]`."""
        return self.head(z[edge_label_index[0]] * z[edge_label_index[1]])

    def encode(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`[N, H]`."""
        return self.convs[1](self.dropout(self.convs[0](x, edge_index).relu()), edge_index)


def decoded(model: Any, data: Any) -> Tensor:
    """Call a `Links` on a data object."""
    return model.decode(model.encode(data.x, data.edge_index), data.edge_label_index)


def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A maker of one and the same model, in evaluation mode, that leaves the global random state alone."""

    def made() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(12)
            model = make()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.running_mean = torch.randn(module.num_features)
                    module.running_var = torch.rand(module.num_features) + 0.5
            return model.eval()

    return made


def random_graph(seed: int, nodes: int, edges: int, *, undirected: bool, features: int = 4, loops: int = 0) -> Data:
    """A simple random graph without parallel edges; `loops` nodes have a self loop, placed among the other edges."""
    rng = torch.Generator().manual_seed(seed)
    pairs = torch.randint(nodes - 1, (2, edges), generator=rng)  # the last node stays isolated
    pairs = torch.unique(pairs[:, pairs[0] != pairs[1]], dim=1)
    if undirected:
        pairs = to_undirected(pairs)
    pairs = torch.cat([pairs, torch.arange(loops).repeat(2, 1)], dim=1)
    pairs = pairs[:, torch.randperm(pairs.size(1), generator=rng)]
    x = torch.randn(nodes, features, generator=rng)
    x[torch.rand(nodes, features, generator=rng) < 0.2] = 0  # zeros are common in real features
    return Data(x=x, edge_index=pairs)


def _gin(width_in: int, width: int, cls: type = GINConv, **options: Any) -> MessagePassing:
    return cls(nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), nn.Linear(width, width)), **options)


def _bonds(data: Data, seed: int) -> Data:
    data.edge_attr = torch.randn(data.num_edges, 3, generator=torch.Generator().manual_seed(seed))
    return data


def _coded(data: Data, seed: int) -> Data:
    rng, nodes = torch.Generator().manual_seed(seed), int(data.num_nodes or 0)
    data.x = torch.stack([torch.randint(size, (nodes,), generator=rng) for size in CODES], dim=1)
    return data


def _gcn() -> nn.Module:
    return Network([GCNConv(4, 8), GCNConv(8, 3)])


def _gat() -> nn.Module:
    return Network([GATConv(4, 4, heads=2), GATConv(8, 3)])


def _links() -> nn.Module:
    return Links([GCNConv(4, 8), GCNConv(8, 6)], head=nn.Linear(6, 1))


def _with_pairs(data: Data) -> Data:
    data.edge_label_index = torch.tensor([[3, 1, 0], [7, 1, 2]])
    return data


def _gin_pooled() -> nn.Module:
    convs = [_gin(4, 8), _gin(8, 8)]
    return Network(convs, [nn.BatchNorm1d(8), nn.BatchNorm1d(8)], nn.Linear(8, 3), global_add_pool)


def _gine() -> nn.Module:
    convs = [_gin(4, 8, GINEConv, edge_dim=3), _gin(8, 8, GINEConv, edge_dim=3)]
    return Network(convs, None, nn.Linear(8, 1), global_mean_pool)


def _gin_coded() -> nn.Module:
    return Network([_gin(6, 8), _gin(8, 8)], None, nn.Linear(8, 3), global_add_pool, Encoder(CODES, 6))


CODES = (5, 3, 2)
"""How many codes each column of coded features has."""

_MULTICLASS = "multiclass_classification"

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "gcn_undirected",
            seeded(_gcn),
            lambda: random_graph(0, 14, 14, undirected=True),
            ModelConfig(_MULTICLASS, "node", "raw"),
            (0, 5, 3, 13),
            2,
            call,
        ),
        Case(
            "gat_directed",
            seeded(_gat),
            lambda: random_graph(1, 12, 26, undirected=False, loops=3),
            ModelConfig(_MULTICLASS, "node", "raw"),
            (4, 0, 9),
            2,
            call,
        ),
        Case(
            "gcn_links",
            seeded(_links),
            lambda: _with_pairs(random_graph(2, 11, 10, undirected=True)),
            ModelConfig("binary_classification", "edge", "raw"),
            ((0, 6), (4, 4), (8, 1)),
            2,
            decoded,
        ),
        Case(
            "gin_graphs",
            seeded(_gin_pooled),
            lambda: [random_graph(seed, 6 + seed, 8, undirected=True) for seed in range(4)],
            ModelConfig(_MULTICLASS, "graph", "raw"),
            (2, 0, 3),
            2,
            call,
        ),
        Case(
            "gine_regression",
            seeded(_gine),
            lambda: [_bonds(random_graph(seed, 5 + seed, 7, undirected=False), seed) for seed in range(3)],
            ModelConfig("regression", "graph", "raw"),
            (0, 1, 2),
            2,
            call,
        ),
        Case(
            "gin_codes",
            seeded(_gin_coded),
            lambda: [_coded(random_graph(seed, 5 + seed, 7, undirected=True), seed) for seed in range(4)],
            ModelConfig(_MULTICLASS, "graph", "raw"),
            (3, 0, 2),
            2,
            call,
        ),
    )
}
"""Small problems: node, edge and graph level, directed and not, with loops, batch normalisation, edge features, regression,
integer codes as features."""
