"""SubgraphX beside an exhaustive search that knows nothing of the package but the random numbers."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GraphConv, global_add_pool

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import InputError
from gnn_xai.extend import keyed_uniform
from tests.covering import every_value

Subset = frozenset[int]


class Network(nn.Module):
    """Two convolutions; the output belongs to nodes, or to graphs where there is a batch."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.first, self.second, self.pooled = GraphConv(3, 8), GraphConv(8, 2), pooled

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        out = self.second(self.first(x, edge_index).tanh(), edge_index)
        return global_add_pool(out, batch) if self.pooled else out


def explain(*arguments: Any, **options: Any) -> Any:
    return gx.explain(*arguments, progress=False, **options)


def graph(nodes: int, seed: int) -> Any:
    links = nx.gnm_random_graph(nodes, nodes + 1, seed=seed)
    ends = torch.tensor(list(links.edges)).t()
    x = torch.randn(nodes, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], dim=1))


class Plain:
    """The rewards and the subgraphs of one instance, one at a time on the whole graph."""

    def __init__(self, method: gx.SubgraphX, model: nn.Module, data: Any, root: int | None, key: int, target: int):
        self.method, self.model, self.data, self.root, self.target = method, model, data, root, target
        self.links = nx.Graph(data.edge_index.t().tolist())
        self.links.add_nodes_from(range(data.num_nodes))
        reach = {} if root is None else nx.single_source_shortest_path_length(self.links, root, 2)
        self.nodes = frozenset(range(data.num_nodes) if root is None else reach)
        stream, ids = torch.arange(method.samples).unsqueeze(1), torch.arange(data.num_nodes)
        own = stream + keyed_uniform(0, torch.tensor([key]), torch.tensor([-2]), stream)
        self.before = keyed_uniform(0, torch.tensor([key]), ids, stream) < own / method.samples
        self.scores: dict[Subset, float] = {}

    def score(self, present: Subset) -> float:
        if present not in self.scores:
            gone = torch.zeros(self.data.num_nodes, dtype=torch.bool)
            gone[list(self.nodes - present)] = True
            x, edges = self.data.x, self.data.edge_index
            if self.method.fill == "zero":
                x = x.masked_fill(gone.unsqueeze(1), 0)
            else:
                edges = edges[:, ~gone[edges].any(0)]
            batch = torch.zeros(len(x), dtype=torch.int64)
            with torch.no_grad():
                self.scores[present] = float(self.model(x, edges, batch)[self.root or 0].softmax(0)[self.target])
        return self.scores[present]

    def reward(self, subgraph: Subset) -> float:
        links = self.links.subgraph(self.nodes)
        near = {v for u in subgraph for v in nx.single_source_shortest_path_length(links, u, self.method.radius)}
        always = self.nodes - near if self.method.outside == "present" else frozenset()
        gains = []
        for row in self.before:
            others = frozenset(v for v in near - subgraph if row[v]) | always
            gains.append(self.score(others | subgraph) - self.score(others))
        return sum(gains) / len(gains)

    def smaller(self, subgraph: Subset) -> set[Subset]:
        """What is left without one node: the part of the root, or the largest (of equal ones, that of the first node)."""
        left = set()
        for node in subgraph - {self.root}:
            parts = sorted(nx.connected_components(self.links.subgraph(subgraph - {node})), key=min)
            left.add(frozenset(max(parts, key=len) if self.root is None else next(p for p in parts if self.root in p)))
        return left

    def best(self) -> tuple[Subset, float]:
        """The best of all small subgraphs that steps of any kind lead to."""
        small: set[Subset] = set()
        queue, seen = [self.nodes], {self.nodes}
        while queue:
            subgraph = queue.pop()
            if len(subgraph) <= self.method.min_nodes:
                small.add(subgraph)
                continue
            new = self.smaller(subgraph) - seen
            seen |= new
            queue += new
        rewards = {subgraph: self.reward(subgraph) for subgraph in small}
        best = max(rewards, key=lambda subgraph: rewards[subgraph])
        return best, rewards[best]


@every_value(root=[None, 3], fill=["zero", "split"], outside=["absent", "present"])
def test_the_search_finds_what_exhaustive_search_finds(root: int | None, fill: Any, outside: Any) -> None:
    model = testing.seeded(lambda: Network(root is None))().double()
    method = gx.SubgraphX(min_nodes=3, samples=4, radius=1, rollouts=60, fill=fill, outside=outside)
    graphs = [graph(8, seed) for seed in (1, 2)]
    if root is None:
        found = explain(model, graphs, method, task="graph", target=1)
        keys = as_graphs(graphs, torch.device("cpu")).graph_key.tolist()
        instances = list(zip(graphs, keys, found, strict=True))
    else:
        instances = [
            (data, root, explain(model, data, method, index=[root], task="node", target=1)[0]) for data in graphs
        ]
    for data, key, e in instances:
        subgraph, reward = Plain(method, model, data, root, key, 1).best()
        assert frozenset(e.node_id[e.node_mask[:, 0] > 0].tolist()) == subgraph
        assert float(e.extras["subgraph_score"]) == pytest.approx(reward, abs=1e-5)
        assert set(e.node_mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.filterwarnings("ignore:the model sends no messages")
def test_a_planted_motif_is_found() -> None:
    """Only three linked nodes together make the class."""

    class Planted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(20.0))

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            motif = global_add_pool(x[:, :1], batch)
            return torch.cat([self.weight * (motif - 2.5), torch.zeros_like(motif)], dim=1)

    links = nx.path_graph(9)
    ends = torch.tensor(list(links.edges)).t()
    x = torch.zeros(9, 2)
    x[:, 1], x[4:7, 0] = 1, 1
    data = Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], dim=1))
    e = explain(Planted(), [data], gx.SubgraphX(min_nodes=3, samples=10), task="graph")[0]
    assert e.node_mask[:, 0].nonzero().flatten().tolist() == [4, 5, 6]
    assert float(e.extras["subgraph_score"]) == pytest.approx(1.0, abs=1e-3)


def test_graphs_in_pieces_and_of_few_nodes() -> None:
    model = testing.seeded(lambda: Network(True))()
    pieces = Data(x=torch.randn(7, 3), edge_index=torch.tensor([[0, 1, 1, 2, 4, 5], [1, 0, 2, 1, 5, 4]]))
    single = Data(x=torch.randn(1, 3), edge_index=torch.empty(2, 0, dtype=torch.int64))
    method = gx.SubgraphX(min_nodes=2, samples=3, rollouts=3)
    found = explain(model, [pieces, single], method, task="graph")
    assert found[0].node_mask[:, 0].nonzero().flatten().tolist() in ([0, 1], [1, 2], [4, 5])
    assert found[1].node_mask.tolist() == [[1.0]]


def test_more_searches_than_go_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graphs = testing.seeded(lambda: Network(True))().double(), [graph(7, seed) for seed in range(5)]
    method = gx.SubgraphX(min_nodes=3, samples=5, rollouts=4)
    at_once = explain(model, graphs, method, task="graph")
    monkeypatch.setattr("gnn_xai.algorithms.subgraph_x.TREES", 2)
    monkeypatch.setattr("gnn_xai.algorithms.subgraph_x.KNOWN", 10)
    in_turns = explain(model, graphs, method, task="graph")
    assert torch.equal(at_once.node_mask, in_turns.node_mask)
    torch.testing.assert_close(at_once.extras["subgraph_score"], in_turns.extras["subgraph_score"])


def test_graphs_without_features_need_split() -> None:
    class Degrees(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = GraphConv(1, 2)

        def forward(self, edge_index: Tensor, batch: Tensor) -> Tensor:
            return global_add_pool(self.conv(torch.ones(len(batch), 1), edge_index), batch)

    data = Data(edge_index=graph(6, 0).edge_index, num_nodes=6)
    with pytest.raises(InputError, match="use fill='split'"):
        explain(Degrees(), [data], gx.SubgraphX(), task="graph")
    e = explain(Degrees(), [data], gx.SubgraphX(fill="split", samples=4), task="graph")[0]
    assert 1 <= int(e.node_mask.sum()) <= 5
