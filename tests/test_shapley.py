"""Shapley values of games whose worth is known for every coalition: brute force, axioms, and convergence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GCNConv, global_add_pool

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.errors import InputError
from tests.covering import every_value

pytestmark = pytest.mark.filterwarnings("ignore:the model sends no messages")

VALUE = ModelConfig("regression", "graph", "raw")

Worth = Callable[[frozenset[int]], float]


class Table(nn.Module):
    """Any game: nodes (or features) carry powers of 2, and the output is a row of a table `[2ⁿ, C]`."""

    def __init__(self, worth: Tensor) -> None:
        super().__init__()
        self.worth = nn.Parameter(worth)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.worth[global_add_pool(x, batch).sum(1).round().long()]


def table(n: int, columns: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(2**n, columns, generator=torch.Generator().manual_seed(seed))


def played(worth: Tensor, algorithm: Any, edges: Sequence[tuple[int, int]] = (), target: int = 0) -> gx.Explanation:
    """The explanation of one graph on which a table of worth is played, by its nodes or its features."""
    n = int(math.log2(len(worth)))
    power = 2.0 ** torch.arange(n)
    by_nodes = algorithm.players != "features"
    graph = Data(
        x=power.unsqueeze(1) if by_nodes else power.unsqueeze(0),
        edge_index=torch.tensor([*edges, *[(v, u) for u, v in edges]], dtype=torch.int64).reshape(-1, 2).t(),
    )
    return gx.explain(Table(worth), [graph], algorithm, task=VALUE, target=target, progress=False)[0]


def brute_force(n: int, worth: Worth) -> list[float]:
    """The mean contribution of each player over all orders."""
    gains = [0.0] * n
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        for place, player in enumerate(order):
            gains[player] += worth(frozenset(order[: place + 1])) - worth(frozenset(order[:place]))
    return [gain / len(orders) for gain in gains]


def by_table(worth: Tensor, column: int = 0) -> Worth:
    return lambda coalition: float(worth[sum(2**player for player in coalition), column])


def connected(worth: Worth, links: nx.Graph) -> Worth:
    """What nothing is worth, and what each connected component of a coalition adds to that."""
    return lambda coalition: (
        worth(frozenset())
        + sum(
            worth(frozenset(part)) - worth(frozenset()) for part in nx.connected_components(links.subgraph(coalition))
        )
    )


@every_value(players=["nodes", "features", "fragments"], n=[1, 2, 5])
def test_exact_values_are_those_of_brute_force(players: Any, n: int) -> None:
    worth = table(n)
    e = played(worth, gx.Shapley(players=players, objective="raw"))
    expected = torch.tensor(brute_force(n, by_table(worth)))
    torch.testing.assert_close(e.node_mask.flatten(), expected, rtol=1e-4, atol=1e-5)
    assert float(e.extras["base_value"]) == pytest.approx(float(worth[0, 0]))
    assert not e.extras["node_standard_error"].any()


GRAPHS = {
    "path": [(0, 1), (1, 2), (2, 3), (3, 4)],
    "cycle with a tail": [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)],
    "two components": [(0, 3), (1, 2), (2, 4), (4, 1)],
    "no edges": [],
}


@every_value(edges=list(GRAPHS), exact_up_to=[1, 12])
def test_myerson_values_of_nodes_are_those_of_brute_force(edges: str, exact_up_to: int) -> None:
    worth, links = table(5), nx.empty_graph(5)
    links.add_edges_from(GRAPHS[edges])
    expected = torch.tensor(brute_force(5, connected(by_table(worth), links)))
    algorithm = gx.Shapley(
        players="nodes", coalitions="connected", exact_up_to=exact_up_to, samples=256, objective="raw"
    )
    e = played(worth, algorithm, GRAPHS[edges])
    error = e.extras["node_standard_error"] if exact_up_to == 1 else torch.zeros(5)
    assert bool(((e.node_mask.flatten() - expected).abs() <= 4 * error + 1e-5).all())
    assert float(e.node_mask.sum()) == pytest.approx(float(expected.sum()), abs=1e-4)


@every_value(coalitions=["any", "connected"], removal=["structural", "message"])
def test_values_of_edges_are_those_of_brute_force(coalitions: Any, removal: Any) -> None:
    """Two triangles that share the explained node; the graph is rebuilt or masked for every coalition."""
    edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 2)]
    ends = torch.tensor(edges + [(v, u) for u, v in edges]).t()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    model = testing.seeded(lambda: testing.Network([GCNConv(3, 8), GCNConv(8, 2)]))().double()
    data = Data(x=x.double(), edge_index=ends)

    def worth(coalition: frozenset[int]) -> float:
        kept = torch.tensor([edge % 6 in coalition for edge in range(12)])
        with torch.no_grad():
            if removal == "structural":
                out = model(data.x, ends[:, kept])
            else:
                factor = torch.cat([kept.double(), torch.ones(5, dtype=torch.float64)])
                hooks = [
                    conv.register_message_forward_hook(lambda _, __, message: message * factor.unsqueeze(1))
                    for conv in model.convs
                ]
                out = model(data.x, ends)
                for hook in hooks:
                    hook.remove()
        return float(out[2, 0] - out[2, 1])

    links = nx.empty_graph(6)
    links.add_edges_from((i, j) for i, j in itertools.combinations(range(6), 2) if set(edges[i]) & set(edges[j]))
    game = connected(worth, links) if coalitions == "connected" else worth
    known = {code: game(frozenset(i for i in range(6) if code >> i & 1)) for code in range(64)}
    expected = brute_force(6, lambda coalition: known[sum(2**i for i in coalition)])
    algorithm = gx.Shapley(coalitions=coalitions, removal=removal)
    e = gx.explain(model, data, algorithm, index=[2], target=0, task="node", progress=False)[0]
    by_edge = torch.tensor(expected, dtype=torch.float64)[e.edge_id % 6]
    torch.testing.assert_close(e.edge_mask, by_edge, rtol=1e-6, atol=1e-8)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(["nodes", "features"]),
    st.sampled_from(["permutation", "kernel"]),
    st.sampled_from([1, 12]),
    st.lists(st.floats(-8, 8, width=32), min_size=32, max_size=32),
    st.integers(0, 9),
)
def test_axioms(players: Any, estimator: Any, exact_up_to: int, values: list[float], seed: int) -> None:
    """Efficiency and linearity for every estimate; symmetry and dummy players, where every order counts."""
    algorithm = gx.Shapley(players=players, estimator=estimator, exact_up_to=exact_up_to, samples=4, objective="raw")
    first, second = torch.tensor(values), table(5, seed=seed)[:, 0]
    code = torch.arange(32)
    swapped = (code & 28) | (code & 1) << 1 | (code & 2) >> 1
    second = second + second[swapped]  # players 0 and 1 are alike
    second = second[code & 15] + 3.0 * (code >> 4)  # and player 4 adds 3 to every coalition
    worth = torch.stack([first, second, first + 2 * second], dim=1)
    a, b, both = (played(worth, algorithm, target=column).node_mask.flatten() for column in range(3))
    scale = float(worth.abs().max())
    torch.testing.assert_close(both, a + 2 * b, rtol=0, atol=1e-5 * scale)
    for column, found in enumerate((a, b, both)):
        assert float(found.sum()) == pytest.approx(float(worth[31, column] - worth[0, column]), abs=1e-5 * scale)
    if exact_up_to == 12:
        assert float(b[0]) == pytest.approx(float(b[1]), abs=1e-5 * scale)
        assert float(b[4]) == pytest.approx(3.0, abs=1e-5 * scale)


@every_value(players=["nodes", "features"], estimator=["permutation", "kernel"])
def test_estimates_converge_to_exact_values(players: Any, estimator: Any) -> None:
    worth = table(7, seed=3)
    exact = played(worth, gx.Shapley(players=players, estimator="exact", objective="raw")).node_mask.flatten()
    errors, gaps = [], []
    for samples in (16, 1024):
        sampled = gx.Shapley(players=players, estimator=estimator, exact_up_to=1, samples=samples, objective="raw")
        e = played(worth, sampled)
        error, gap = e.extras["node_standard_error"].flatten(), (e.node_mask.flatten() - exact).abs()
        assert bool((gap < 4 * error).all())
        errors.append(float(error.mean()))
        gaps.append(float(gap.mean()))
    assert 5 < errors[0] / errors[1] < 12  # √64 = 8
    assert gaps[1] < gaps[0] / 2


def test_linear_games_are_exact_from_few_samples() -> None:
    weight = torch.tensor([1.0, -2.0, 0.5, 4.0, 0.0, 3.0])
    worth = ((torch.arange(64).unsqueeze(1) >> torch.arange(6)) & 1).float() @ weight + 7.0
    for estimator in ("permutation", "kernel"):
        algorithm = gx.Shapley(players="nodes", estimator=estimator, exact_up_to=1, samples=3, objective="raw")
        e = played(worth.unsqueeze(1), algorithm)
        torch.testing.assert_close(e.node_mask.flatten(), weight, rtol=0, atol=1e-5)
        assert float(e.extras["node_standard_error"].max()) < 1e-4


@pytest.mark.parametrize("coalitions", ["any", "connected"])
def test_more_players_than_fit_into_one_integer(coalitions: Any) -> None:
    """A chain of 70 nodes whose output counts them, 2 for the last."""

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            return self.weight * global_add_pool(x, batch)

    x = torch.ones(70, 1)
    x[-1] = 2
    data = Data(x=x, edge_index=torch.stack([torch.arange(69), torch.arange(1, 70)]))
    algorithm = gx.Shapley(players="nodes", samples=2, coalitions=coalitions)
    e = gx.explain(Counts(), [data], algorithm, task=VALUE, progress=False)[0]
    torch.testing.assert_close(e.node_mask, x)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match=r"at most 14 nodes .* got 15; use estimator='permutation'"):
        played(table(15), gx.Shapley(players="nodes", estimator="exact", objective="raw"))
    with pytest.raises(InputError, match=r"coalitions='any'"):
        gx.Shapley(players="features", coalitions="connected")
    with pytest.raises(InputError, match=r"players='fragments' alone"):
        gx.Shapley(players="nodes", kind="rings")
