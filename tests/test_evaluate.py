"""Variants that follow a change through the layers give what variants that are rebuilt, or masked, whole give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.data import Data

import gnn_xai as gx
from gnn_xai.core.engines import evaluate as engine
from gnn_xai.core.engines.evaluate import Change, evaluate
from gnn_xai.core.engines.prepare import Chunk, prepare
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.expansion import of_graphs
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.arguments import as_task, problem_of
from gnn_xai.core.propagation.fused import Propagation, lost_degrees
from gnn_xai.core.propagation.incremental import IncrementalPropagation
from tests import models
from tests.covering import every_value, pairwise

TOLERANCE = 1e-9  # in double precision
FEATURES, HIDDEN = models.FEATURES, models.HIDDEN
CONVS: dict[str, Callable[[int], nn.Module]] = {
    "gcn": lambda width: pyg.GCNConv(width, HIDDEN),
    "gcn_mean": lambda width: pyg.GCNConv(width, HIDDEN, aggr="mean"),
    "sage": lambda width: pyg.SAGEConv(width, HIDDEN),
    "gcn_backwards": lambda width: pyg.GCNConv(width, HIDDEN, flow="target_to_source"),
    "gin": lambda width: pyg.GINConv(nn.Linear(width, HIDDEN), train_eps=True),
    "gat": lambda width: pyg.GATConv(width, HIDDEN // 2, heads=2),
    "gatv2": lambda width: pyg.GATv2Conv(width, HIDDEN // 2, heads=2),
    "transformer": lambda width: pyg.TransformerConv(width, HIDDEN // 2, heads=2),
    "graph_conv": lambda width: pyg.GraphConv(width, HIDDEN),
    "sgc": lambda width: pyg.SGConv(width, HIDDEN, K=2),
}
# Messages of its own, a pair of features the other way round, earlier rows added to or put beside later ones.
WHOLE = ["gine", "sage_reversed", "appnp", "tag", "jumping"]
REMOVALS = ["structural", "message"]
ALGORITHMS = {
    "edges": lambda removal: gx.EdgeAblation(removal=removal, objective="raw"),
    "nodes": lambda removal: gx.NodeAblation(removal=removal, objective="raw"),
}


def model_of(name: str, level: models.Level) -> nn.Module:
    return models.seeded(
        lambda: models.Net(level, [CONVS[name](width) for width in (FEATURES, HIDDEN, HIDDEN)]), seed=1
    )


def data_of(level: str, undirected: bool = True, loops: int = 0) -> Data | list[Data]:
    graphs = [
        models.random_graph(seed, nodes=nodes, edges=edges, undirected=undirected, loops=loops)
        for seed, nodes, edges in ((3, 20, 40), (4, 9, 12), (5, 12, 14))
    ]
    return graphs[0] if level == "node" else graphs


def session_of(model: nn.Module, data: Any, level: str, structural: bool = True) -> tuple[Chunk, Session]:
    graphs = as_graphs(data, torch.device("cpu"))
    problem = problem_of(model, graphs, as_task(level, data), None)
    index = torch.arange(problem.num_outputs)
    prepared = prepare(problem, undirected=True, index=index)
    session = prepared.session(structural=structural)
    (chunk,) = prepared.chunks(session, index)
    return chunk, session


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each batch of variants went, the comparison of the two included."""
    went: list[str] = []
    monkeypatch.setattr(engine, "SHARED", 1)
    for name in ("_followed", "_rebuilt", "_masked"):
        way = getattr(engine, name)

        def spy(*arguments: Any, name: str = name, way: Any = way) -> Tensor:
            went.append(name)
            return way(*arguments)

        monkeypatch.setattr(engine, name, spy)
    return went


def both_ways(
    monkeypatch: pytest.MonkeyPatch, ways: list[str], model: nn.Module, data: Any, level: str, algorithm: Any
) -> str:
    """Explain following changes and not, hold one against the other, and say which way the former went."""

    def scores() -> Tensor:
        ways.clear()
        options = {"task": level, "target": 0, "progress": False}
        found = gx.explain(model, data, algorithm, **options)
        mask = found.node_mask if found.edge_mask is None else found.edge_mask
        assert mask is not None
        return mask.flatten()

    fast = scores()
    way = ways[-1]
    with monkeypatch.context() as patched:
        patched.setattr(engine, "followable", lambda *_: False)
        whole = scores()
    assert "_followed" not in ways
    assert bool((whole != 0).any())
    torch.testing.assert_close(fast, whole, rtol=TOLERANCE, atol=TOLERANCE)
    return way


@pairwise(name=list(CONVS), level=["node", "graph"], undirected=[True, False], what=list(ALGORITHMS), removal=REMOVALS)
def test_following_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    ways: list[str],
    name: str,
    level: models.Level,
    undirected: bool,
    what: str,
    removal: str,
) -> None:
    data = data_of(level, undirected)
    way = both_ways(monkeypatch, ways, model_of(name, level), data, level, ALGORITHMS[what](removal))
    assert way == "_followed"


@pairwise(name=list(CONVS), what=["edges", "nodes"], removal=REMOVALS)
def test_self_loops_of_the_graph(
    monkeypatch: pytest.MonkeyPatch, ways: list[str], name: str, what: str, removal: str
) -> None:
    model, data = model_of(name, "node"), data_of("node", loops=4)
    way = both_ways(monkeypatch, ways, model, data, "node", ALGORITHMS[what](removal))
    adds_loops = name in (
        "gcn",
        "gcn_mean",
        "gcn_backwards",
        "gat",
        "gatv2",
        "sgc",
    )  # where one is removed, the layer puts its own
    assert (way == "_followed") == (removal == "message" or not adds_loops)


@pairwise(name=WHOLE, level=["node", "graph"], removal=REMOVALS)
def test_models_whose_changes_cannot_be_followed(
    monkeypatch: pytest.MonkeyPatch, ways: list[str], name: str, level: models.Level, removal: str
) -> None:
    model, data = models.make(name, level), data_of(level)
    way = both_ways(monkeypatch, ways, model, data, level, ALGORITHMS["edges"](removal))
    assert way != "_followed"


def test_features_alone_are_not_followed(monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    algorithm = gx.FeatureAblation(objective="raw")
    assert both_ways(monkeypatch, ways, model_of("gin", "node"), data_of("node"), "node", algorithm) == "_masked"


class Centred(nn.Module):
    """Looks at all rows at once, whatever they belong to; rows that are left out change it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = model_of("gin", "graph")

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        out = self.net(x, edge_index, batch=batch)
        return out + out.new_tensor(float(len(x) != len(batch)))


def test_a_model_that_sees_the_rows_is_run_whole(monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    data = data_of("graph")
    assert both_ways(monkeypatch, ways, Centred(), data, "graph", ALGORITHMS["edges"]("structural")) == "_rebuilt"


def matrices(
    model: nn.Module, data: Any, level: str, structural: bool
) -> tuple[IncrementalPropagation, Replicas, list[Propagation]]:
    """Every variant without one edge, followed; and the same, each built by itself as the graph that is left."""
    piece, question = session_of(model, data, level)
    plan, graphs = question.plan, piece.graphs
    assert plan is not None
    first, unit = question.removable(graphs)
    instance = graphs.edge_owner[first]
    replicas = graphs.replicas(instance)
    edges = unit[replicas.edge] == torch.arange(len(first))[replicas.edge_owner]
    lost = lost_degrees(plan, replicas, edges, None, True) if structural else None
    original = graphs.replicas(instance.unique())
    variants = IncrementalPropagation(
        plan, original, replicas, edges, None, torch.zeros_like(replicas.node).bool(), lost
    )
    return variants, replicas, [Propagation(variants.plan, replicas.without(edges), lost)]


@every_value(name=["gcn", "gcn_mean", "gcn_backwards", "sage", "gin", "sgc"], level=["node", "graph"])
def test_matrices_by_gathering_are_those_by_sorting(name: str, level: models.Level) -> None:
    variants, replicas, (rebuilt,) = matrices(model_of(name, level), data_of(level), level, structural=True)
    size = len(variants.replicas.node)
    for number, route in enumerate(variants.plan.routes):
        assert route.coefficients is not None
        matrix = rebuilt._matrix(route.coefficients)
        assert matrix.coefficient is not None
        expected = matrix.coefficient.new_zeros(len(replicas.node), size)
        nodes = variants.copied[size:][matrix.csr.col]
        expected.index_put_((matrix.csr.row, nodes), matrix.coefficient, accumulate=True)
        level_ = variants._level(number, len(variants.at[number]))
        assert level_.coefficient is not None
        found = expected.new_zeros(level_.csr.num_rows, size)
        entering = variants.copied[variants.at[number][level_.csr.col]]
        found.index_put_((level_.csr.row, entering), level_.coefficient, accumulate=True)
        rows = variants.at[number + 1]
        own = rows >= size
        assert bool(own.any())
        torch.testing.assert_close(found[own], expected[rows[own] - size], rtol=TOLERANCE, atol=TOLERANCE)


def path_of_eight() -> list[Data]:
    x = torch.randn(8, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    forth = torch.stack([torch.arange(7), torch.arange(1, 8)])
    return [Data(x=x, edge_index=torch.cat([forth, forth.flip(0)], 1))] * 2


def rows_of(variants: IncrementalPropagation, replicas: Replicas, variant: int) -> list[list[int]]:
    """The nodes of a variant that each layer computes, its input first."""
    size = len(variants.replicas.node)
    start = int((replicas.node_owner < variant).sum()) + size
    stop = start + int((replicas.node_owner == variant).sum())
    return [(rows[(rows >= start) & (rows < stop)] - start).tolist() for rows in variants.at]


@pytest.mark.parametrize("structural", [True, False])
def test_rows_are_those_that_a_change_has_reached(structural: bool) -> None:
    variants, replicas, _ = matrices(model_of("gin", "graph"), path_of_eight(), "graph", structural)
    assert rows_of(variants, replicas, 0) == [[], [0, 1], [0, 1, 2], [0, 1, 2, 3]]  # without the edge 0-1
    size = len(variants.replicas.node)
    assert all(bool((rows[:size] == torch.arange(size)).all()) for rows in variants.at)


def test_rows_of_degrees_that_change() -> None:
    variants, replicas, _ = matrices(model_of("gcn", "graph"), path_of_eight(), "graph", structural=True)
    assert rows_of(variants, replicas, 0) == [[], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_rows_of_removed_nodes_and_changed_features() -> None:
    _, question = session_of(model_of("gin", "graph"), path_of_eight(), "graph")
    assert question.plan is not None
    graphs = of_graphs(question.problem.graphs, torch.arange(2), 3)
    original, replicas = graphs.replicas(torch.arange(2)), graphs.replicas(torch.tensor([0, 1]))
    node = torch.arange(16)
    nodes, differs = node == 4, node == 15
    edges = nodes[replicas.edge_index].any(0)
    lost = lost_degrees(question.plan, replicas, edges, nodes, True)
    variants = IncrementalPropagation(question.plan, original, replicas, edges, nodes, differs, lost)
    assert rows_of(variants, replicas, 0) == [[], [3, 5], [2, 3, 5, 6], [1, 2, 3, 5, 6, 7]]
    assert rows_of(variants, replicas, 1) == [[7], [6, 7], [5, 6, 7], [4, 5, 6, 7]]
    assert variants.wanted.tolist() == [16 + number for number in range(16) if number != 4]


def test_values_are_reduced_batch_by_batch() -> None:
    model, data = model_of("gin", "graph"), data_of("graph")
    piece, question = session_of(model, data, "graph")
    question = replace(question, budget=replace(question.budget, per_node=1.0, per_edge=1.0, limit=60.0))
    first, unit = question.removable(piece.graphs)
    instance = piece.graphs.edge_owner[first]
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(0))
    seen: list[int] = []

    def change(replicas: Replicas, select: Tensor) -> Change:
        return Change(edges=unit[replicas.edge] == order[select][replicas.edge_owner])

    def reduce(out: Tensor, select: Tensor) -> Tensor:
        assert out.shape == (len(select), models.CLASSES)
        seen.extend(select.tolist())
        return out[:, 0]

    shuffled = evaluate(question, piece.graphs, instance[order], change, "structural", reduce)
    assert sorted(seen) == list(range(len(first)))
    question = replace(question, budget=replace(question.budget, per_node=1.0, per_edge=1.0, limit=1e9))
    order = torch.arange(len(first))
    whole = evaluate(question, piece.graphs, instance, change, "structural", reduce)
    place = torch.randperm(len(first), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shuffled, whole[place], rtol=TOLERANCE, atol=TOLERANCE)
