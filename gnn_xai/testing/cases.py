"""Small problems with seeded models, on which every law is run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GATConv, GCNConv, GINConv, GINEConv, MessagePassing, global_add_pool, global_mean_pool
from torch_geometric.utils import to_undirected

from gnn_xai.algorithms.base import Algorithm, needs_fit
from gnn_xai.api import explain
from gnn_xai.errors import GnnXaiWarning
from gnn_xai.results.explanations import Explanations
from gnn_xai.testing.types import Relations, Siamese, Types, heterogeneous, pair


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
        types: of the nodes and edges of the data, if it has several.
        form: makes what the model is handed of a graph of several types.
        warning: the start of a warning that explaining the model gives.
        keyed: the data can carry ids of nodes and edges as `n_id` and `e_id`, by which random numbers are drawn.
    """

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], Any]
    task: ModelConfig
    index: tuple[Any, ...]
    steps: int
    call: Callable[[nn.Module, Any], Tensor]
    types: Types | None = None
    form: Callable[[Data, Types], Any] | None = None
    warning: str | None = None
    keyed: bool = True

    @property
    def one_graph(self) -> bool:
        """Outputs are of nodes, or of pairs of nodes, of one graph; else of several graphs."""
        return self.task.task_level.value != "graph"

    def handed(self, data: Any = None) -> Any:
        """What a user hands in: the data in its form."""
        data = self.data() if data is None else data
        if self.types is None or self.form is None:
            return data
        return self.form(data, self.types) if self.one_graph else [self.form(graph, self.types) for graph in data]

    def run(self, model: nn.Module, graph: Data) -> Tensor:
        """The output of the model for one graph."""
        handed = self.handed(graph if self.one_graph else [graph])
        return self.call(model, handed if self.one_graph else Batch.from_data_list(handed))

    def first(self, graph: Data) -> Tensor | int:
        """The number of the first node of the explained type, `[2]` for pairs."""
        return 0 if self.types is None or not self.one_graph else self.types.first(graph)

    def explain(
        self, algorithm: Algorithm, model: nn.Module | None = None, data: Any = None, handed: Any = None, **options: Any
    ) -> Explanations:
        """Explain `index` of this case on its data, on other data, or on what it was `handed`; options as in
        `gnn_xai.explain`.
        """
        model, handed = model or self.model(), self.handed(data) if handed is None else handed
        algorithm = self.ready(algorithm, model)
        with self._expecting():
            return explain(model, handed, algorithm, **{**self._options, **options})

    def ready(self, algorithm: Any, model: nn.Module | None = None) -> Algorithm:
        """The algorithm, fitted on all of `index` where it has to be."""
        if not needs_fit(algorithm):
            return algorithm
        with self._expecting():
            return algorithm.fit(model or self.model(), self.handed(), **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        of_type = {} if self.types is None else self.types.options
        return {"index": list(self.index), "task": self.task, "progress": False, **of_type}

    @contextmanager
    def _expecting(self) -> Iterator[None]:
        with warnings.catch_warnings():
            if self.warning is not None:
                warnings.filterwarnings("ignore", self.warning, GnnXaiWarning)
            yield


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


def _with_pairs(data: Data, pairs: list[list[int]]) -> Data:
    data.edge_label_index = torch.tensor(pairs)
    return data


def _gin_pooled() -> nn.Module:
    convs = [_gin(4, 8), _gin(8, 8)]
    return Network(convs, [nn.BatchNorm1d(8), nn.BatchNorm1d(8)], nn.Linear(8, 3), global_add_pool)


def _gine() -> nn.Module:
    convs = [_gin(4, 8, GINEConv, edge_dim=3), _gin(8, 8, GINEConv, edge_dim=3)]
    return Network(convs, None, nn.Linear(8, 1), global_mean_pool)


def _gin_coded() -> nn.Module:
    return Network([_gin(6, 8), _gin(8, 8)], None, nn.Linear(8, 3), global_add_pool, Encoder(CODES, 6))


def _of_one_graph() -> nn.Module:
    return Network([_gin(4, 8), _gin(8, 8)], None, nn.Linear(8, 3), _mean_of_all)


def _mean_of_all(x: Tensor, batch: Tensor | None) -> Tensor:
    return x.mean(0, keepdim=True)


def _typed(model: nn.Module, data: Any) -> Tensor:
    return model(data.x_dict, data.edge_index_dict)


def _typed_links(model: nn.Module, data: Any) -> Tensor:
    return model(data.x_dict, data.edge_index_dict, data["a", "to", "b"].edge_label_index)


def _siamese(model: nn.Module, data: Any) -> Tensor:
    return model(data.x_s, data.edge_index_s, data.x_t, data.edge_index_t, *(_owners(data, end) for end in "st"))


def _owners(data: Any, end: str) -> Tensor:
    """The example of every node of one of its two graphs; all of one, where the batch does not say."""
    nodes = torch.zeros(len(data[f"x_{end}"]), dtype=torch.int64)
    return data.get(f"x_{end}_batch", nodes)


_RELATIONS = (("a", "to", "b"), ("b", "back", "a"), ("b", "near", "b"))
_NODES = Types({"a": 2, "b": 3}, _RELATIONS, "b")
_LINKS = Types({"a": 2, "b": 3}, _RELATIONS, ("a", "to", "b"))
_HALVES = Types({"s": 3, "t": 2}, (("s", "of", "s"), ("t", "of", "t")))

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
            lambda: _with_pairs(random_graph(2, 11, 10, undirected=True), [[3, 1, 0], [7, 1, 2]]),
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
        Case(
            "sage_heterogeneous",
            seeded(lambda: Relations(_NODES)),
            lambda: _NODES.random_graph(0, (4, 5), 5),
            ModelConfig(_MULTICLASS, "node", "raw"),
            (3, 0),
            2,
            _typed,
            _NODES,
            heterogeneous,
        ),
        Case(
            "sage_heterogeneous_links",
            seeded(lambda: Relations(_LINKS, classes=1)),
            lambda: _with_pairs(_LINKS.random_graph(1, (4, 5), 5), [[3, 1], [0, 2]]),
            ModelConfig("binary_classification", "edge", "raw"),
            ((3, 0), (1, 2)),
            2,
            _typed_links,
            _LINKS,
            heterogeneous,
        ),
        Case(
            "sage_pairs_of_graphs",
            seeded(lambda: Siamese(_HALVES)),
            lambda: [_HALVES.random_graph(seed, (4, 3 + seed), 4) for seed in range(3)],
            ModelConfig(_MULTICLASS, "graph", "raw"),
            (2, 0),
            2,
            _siamese,
            _HALVES,
            pair,
            keyed=False,
        ),
        Case(
            "gin_one_graph",
            seeded(_of_one_graph),
            lambda: [random_graph(seed, 5 + seed, 6, undirected=True) for seed in range(3)],
            ModelConfig(_MULTICLASS, "graph", "raw"),
            (2, 0),
            2,
            call,
            warning="the model (does not take several|mixes the) graphs",
        ),
    )
}
"""Small problems: node, edge and graph level, directed and not, with loops, batch normalisation, edge features, regression,
integer codes as features, nodes and links of heterogeneous graphs, pairs of graphs, one graph at a time."""
