"""What messages are multiplied by once something is taken out: the layer's own rule, whatever else gives the same numbers on
the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig
from torch_geometric.utils import scatter

import gnn_xai as gx
from tests.covering import every_value
from tests.models import seeded


def cycle(nodes: int) -> Tensor:
    """Edges of a cycle in both directions."""
    first = torch.arange(nodes)
    one_way = torch.stack([first, (first + 1) % nodes])
    return torch.cat([one_way, one_way.flip(0)], 1)


def complete(nodes: int) -> Tensor:
    """Edges between all nodes."""
    pairs = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).t()
    return pairs[:, pairs[0] != pairs[1]]


def bipartite() -> Tensor:
    """Every node of three sends to every node of three others, and back."""
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3, 6)).t()
    return torch.cat([pairs, pairs.flip(0)], 1)


REGULAR = {"triangle": cycle(3), "cycle": cycle(7), "clique": complete(5), "bipartite": bipartite()}


class ByRule(pyg.MessagePassing):
    """Messages times a coefficient that a rule makes of the edges and their weights."""

    def __init__(self, rule: Callable[[Tensor, Tensor, int], Tensor]) -> None:
        super().__init__("sum")
        self.linear, self.rule = nn.Linear(3, 4), rule

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        weight = torch.ones_like(edge_index[0], dtype=x.dtype) if edge_weight is None else edge_weight
        return self.propagate(edge_index, x=self.linear(x), c=self.rule(edge_index, weight, len(x)))

    def message(self, x_j: Tensor, c: Tensor) -> Tensor:
        return c.unsqueeze(1) * x_j


def _sum(weight: Tensor, ends: Tensor, nodes: int) -> Tensor:
    return scatter(weight, ends, 0, nodes, "sum").clamp(min=1e-30)[ends]


RULES = {
    "row": lambda ends, w, n: w / _sum(w, ends[1], n),
    "column": lambda ends, w, n: w / _sum(w, ends[0], n),
    "symmetric": lambda ends, w, n: w / (_sum(w, ends[1], n) * scatter(w, ends[1], 0, n)[ends[0]]).sqrt().clamp(1e-9),
    "out_and_in": lambda ends, w, n: w / (_sum(w, ends[1], n) * _sum(w, ends[0], n)).sqrt(),
    "square": lambda ends, w, n: w / _sum(w.square(), ends[1], n).sqrt(),
    "largest": lambda ends, w, n: w / w.max(),
    "largest_of_a_node": lambda ends, w, n: w / scatter(w, ends[1], 0, n, "max")[ends[1]],
    "total": lambda ends, w, n: w / w.sum(),
    "softmax": lambda ends, w, n: w.exp() / _sum(w.exp(), ends[1], n),
    "strong": lambda ends, w, n: w * (w > w.median() / 2),
}


class Two(nn.Module):
    """Two layers."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.between, self.second = make(), nn.Linear(4, 3), make()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        more = () if edge_weight is None else (edge_weight,)
        return self.second(self.between(self.first(x, edge_index, *more)).tanh(), edge_index, *more)


def graph(edge_index: Tensor, weight: Tensor | None = None) -> Data:
    nodes = int(edge_index.max()) + 1
    x = torch.randn(nodes, 3, generator=torch.Generator().manual_seed(nodes)).double()
    data = Data(x=x, edge_index=edge_index)
    if weight is not None:
        data.edge_weight = weight.double()
    return data


def random_weights(edges: int) -> Tensor:
    return torch.rand(edges, generator=torch.Generator().manual_seed(edges)).double() + 0.2


@torch.no_grad()
def losses(model: nn.Module, data: Data, node: int, edges: list[int]) -> Tensor:
    """What the first output of a node loses without each edge, on the whole graph."""

    def run(keep: Tensor) -> Tensor:
        more = {"edge_weight": data.edge_weight[keep]} if "edge_weight" in data else {}
        return model(data.x, data.edge_index[:, keep], **more)[node, 0]

    every = torch.arange(data.num_edges)
    return torch.stack([run(every) - run(every[every != edge]) for edge in edges])


def check(model: nn.Module, data: Data, path: str | None = None) -> None:
    found = gx.explain(
        model,
        data,
        gx.EdgeAblation(objective="raw"),
        index=[0, 2],
        task=ModelConfig(mode="regression", task_level="node", return_type="raw"),
        target=0,
        undirected=False,
        progress=False,
    )
    if path is not None:
        assert {layer["path"] for layer in found.provenance["layers"]} == {path}
    for e in found:
        expected = losses(model, data, e.index, e.edge_id.tolist())
        torch.testing.assert_close(e.edge_mask, expected, rtol=1e-9, atol=1e-9)


NOT_LOCAL = "ignore:the model is not local:gnn_xai.errors.GnnXaiWarning"


@pytest.mark.filterwarnings(NOT_LOCAL)
@pytest.mark.parametrize("shape", REGULAR)
@pytest.mark.parametrize("rule", RULES)
def test_rules_that_agree_on_regular_graphs(rule: str, shape: str) -> None:
    check(seeded(lambda: Two(lambda: ByRule(RULES[rule]))), graph(REGULAR[shape]))


@pytest.mark.filterwarnings(NOT_LOCAL)
@pytest.mark.parametrize(
    ("rule", "came"),
    [
        pytest.param(rule, came, marks=() if (second - first) % len(RULES) < 2 else pytest.mark.full)
        for first, rule in enumerate(RULES)
        for second, came in enumerate(RULES)
    ],
)
def test_weights_that_a_rule_was_applied_to_before(rule: str, came: str) -> None:
    """Weights that the data has normalised already, and a model that normalises them again, or in another way."""
    ends = torch.tensor([[0, 1, 2, 3, 1, 2, 4, 4, 0], [4, 4, 4, 4, 0, 1, 2, 3, 2]])
    weight = RULES[came](ends, random_weights(9), 5)
    check(seeded(lambda: Two(lambda: ByRule(RULES[rule]))), graph(ends, weight))


LAYERS = {
    "gcn": lambda: pyg.GCNConv(3, 4),
    "gcn_without_loops": lambda: pyg.GCNConv(3, 4, add_self_loops=False),
    "improved": lambda: pyg.GCNConv(3, 4, improved=True),
    "graph_conv": lambda: pyg.GraphConv(3, 4),
    "tag": lambda: pyg.TAGConv(3, 4, K=2),
    "sg": lambda: pyg.SGConv(3, 4, K=2),
}


@every_value(name=list(LAYERS), shape=list(REGULAR))
def test_formulas_are_recognised_on_regular_graphs(name: str, shape: str) -> None:
    """With and without weights that are 1, and where every node has a loop of its own already."""
    model, ends = seeded(lambda: Two(LAYERS[name])), REGULAR[shape]
    check(model, graph(ends), "fused")
    check(model, graph(ends, torch.ones(ends.size(1))), "fused")
    loops = torch.arange(int(ends.max()) + 1).repeat(2, 1)
    check(model, graph(torch.cat([ends, loops], 1)), "fused")


@pytest.mark.filterwarnings(NOT_LOCAL)
@pytest.mark.parametrize("name", ["ClusterGCNConv", "ChebConv", "ARMAConv", "LEConv"])
def test_layers_on_regular_graphs(name: str) -> None:
    options = {"K": 2} if name == "ChebConv" else {}
    for ends in REGULAR.values():
        check(seeded(lambda: Two(lambda: getattr(pyg, name)(3, 4, **options))), graph(ends))


def test_a_few_weights_far_below_the_others() -> None:
    """A degree of which a millionth is left is a millionth, not 0."""
    ends = torch.tensor([[1, 2, 3, 0, 1], [0, 0, 0, 1, 2]])
    model = seeded(lambda: Two(lambda: pyg.GCNConv(3, 4, add_self_loops=False)))
    check(model, graph(ends, torch.tensor([1.0, 1e-8, 1e-8, 1.0, 1.0])), "fused")


def test_several_removals_at_once() -> None:
    """Variants whose largest weights differ do not see one another, nor do the graphs of a list."""
    model = seeded(lambda: Pooled(RULES["largest"]))
    graphs = [graph(cycle(n), RULES["largest"](cycle(n), random_weights(2 * n), n)) for n in (3, 4, 6)]
    found = gx.explain(
        model, graphs, gx.EdgeAblation(objective="raw"), task="graph", target=0, undirected=False, progress=False
    )
    for e, data in zip(found, graphs, strict=True):
        torch.testing.assert_close(e.edge_mask, losses(model, data, 0, e.edge_id.tolist()), rtol=1e-9, atol=1e-9)


class Pooled(nn.Module):
    def __init__(self, rule: Callable[[Tensor, Tensor, int], Tensor]) -> None:
        super().__init__()
        self.layer = ByRule(rule)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, batch: Tensor | None = None) -> Tensor:
        return pyg.global_add_pool(self.layer(x, edge_index, edge_weight).tanh(), batch)
