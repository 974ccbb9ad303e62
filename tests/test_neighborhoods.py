"""Computation graphs against a breadth-first search in plain Python, on random directed graphs."""

from __future__ import annotations

import math
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

import gnn_xai as gx
from gnn_xai.core.graphs import Graphs, as_graphs
from gnn_xai.core.neighborhoods import SCOPES, WHOLE_GRAPH, TooLarge, around_nodes, in_pieces, of_graphs
from gnn_xai.core.segments import owners
from tests import models

settings.register_profile("gnn_xai", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("gnn_xai")

FLOWS = ["source_to_target", "target_to_source", "both"]


@st.composite
def random_graphs(draw: st.DrawFn, many: bool = False) -> Graphs:
    """Directed graphs with self loops and parallel edges."""
    parts = []
    for _ in range(draw(st.integers(1, 3)) if many else 1):
        nodes = draw(st.integers(1, 9))
        end = st.integers(0, nodes - 1)
        edges = draw(st.lists(st.tuples(end, end), max_size=18))
        edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
        parts.append(Data(num_nodes=nodes, edge_index=edge_index, edge_number=torch.arange(len(edges))))
    return as_graphs(Batch.from_data_list(parts) if many else parts[0], torch.device("cpu"))


def depths(graphs: Graphs, root: int, flow: str) -> list[float]:
    """How many messages it takes from each node to the root."""
    depth = [math.inf] * graphs.num_nodes
    depth[root], queue = 0, deque([root])
    while queue:
        receiver = queue.popleft()
        for u, v in graphs.edge_index.t().tolist():
            pairs = {"source_to_target": [(u, v)], "target_to_source": [(v, u)], "both": [(u, v), (v, u)]}[flow]
            for sender, end in pairs:
                if end == receiver and depth[sender] == math.inf:
                    depth[sender] = depth[receiver] + 1
                    queue.append(sender)
    return depth


def reached(graphs: Graphs, depth: list[float], radius: int, flow: str) -> list[int]:
    """Edges whose receiver is within `radius - 1` messages of the root."""
    found = []
    for edge, (u, v) in enumerate(graphs.edge_index.t().tolist()):
        receivers = {"source_to_target": [v], "target_to_source": [u], "both": [u, v]}[flow]
        if min(depth[r] for r in receivers) <= radius - 1:
            found.append(edge)
    return found


@given(random_graphs(many=True), st.integers(1, 4), st.sampled_from(FLOWS), st.data())
def test_around_nodes(graphs: Graphs, steps: int, flow: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 5))
    index = data.draw(st.lists(st.integers(0, graphs.num_nodes - 1), min_size=size, max_size=size))
    scope = data.draw(st.lists(st.integers(0, len(SCOPES) - 1), min_size=size, max_size=size))
    found = around_nodes(graphs, torch.tensor(index), steps, torch.tensor(scope), flow)
    assert len(found) == size
    assert torch.equal(found.node_owner, owners(found.node_ptr))
    for i in range(size):
        nodes, edges = found.node[found.node_owner == i].tolist(), found.edge[found.edge_owner == i].tolist()
        node_in_play = found.node_in_play[found.node_owner == i].tolist()
        edge_in_play = found.edge_in_play[found.edge_owner == i].tolist()
        depth = depths(graphs, index[i], flow)
        extra, induced, whole = SCOPES[scope[i]]
        if whole:
            graph = int(graphs.batch[index[i]])
            expected_nodes = (graphs.batch == graph).nonzero().flatten().tolist()
            expected_edges = (graphs.edge_batch == graph).nonzero().flatten().tolist()
            nodes_played, edges_played = expected_nodes, expected_edges
        else:
            expected_nodes = [v for v in range(graphs.num_nodes) if depth[v] <= steps + extra]
            expected_edges = reached(graphs, depth, steps + extra, flow)
            if induced:
                ends = graphs.edge_index.t().tolist()
                inside = set(expected_nodes)
                expected_edges = [e for e, (u, v) in enumerate(ends) if u in inside and v in inside]
            nodes_played = [v for v in expected_nodes if depth[v] <= steps]
            edges_played = reached(graphs, depth, steps, flow)
        assert nodes == expected_nodes
        assert edges == expected_edges
        assert [v for v, played in zip(nodes, node_in_play, strict=True) if played] == nodes_played
        assert [e for e, played in zip(edges, edge_in_play, strict=True) if played] == edges_played
        # Ends and root are positions within the instance's own nodes.
        place = torch.tensor(nodes)
        local = found.edge_index[:, found.edge_owner == i]
        assert torch.equal(place[local], graphs.edge_index[:, edges])
        assert nodes[int(found.root[i])] == index[i]
        assert int(found.hops[i]) == (WHOLE_GRAPH if whole else steps + extra)


@given(random_graphs(many=True), st.data())
def test_of_graphs(graphs: Graphs, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, graphs.num_graphs - 1), min_size=1, max_size=4))
    found = of_graphs(graphs, torch.tensor(index), 2)
    for i, graph in enumerate(index):
        assert torch.equal(found.node[found.node_owner == i], (graphs.batch == graph).nonzero().flatten())
        assert torch.equal(found.edge[found.edge_owner == i], (graphs.edge_batch == graph).nonzero().flatten())
    assert bool(found.node_in_play.all())
    assert bool(found.edge_in_play.all())


@given(random_graphs(), st.integers(1, 3), st.data())
def test_union_holds_replicas_that_can_be_rebuilt(graphs: Graphs, steps: int, data: st.DataObject) -> None:
    every = torch.arange(graphs.num_nodes)
    found = around_nodes(graphs, every, steps, torch.ones_like(every), "source_to_target")
    select = data.draw(st.lists(st.integers(0, graphs.num_nodes - 1), min_size=1, max_size=5))
    union = found.union(torch.tensor(select))
    ends = found.node[union.node]
    assert torch.equal(ends[union.edge_index], graphs.edge_index[:, found.edge[union.edge]])
    assert ends[union.rows].tolist() == select
    assert torch.equal(union.node_owner[union.edge_index[0]], union.edge_owner)
    assert torch.equal(union.data.edge_number, graphs.edge_attrs["edge_number"][found.edge[union.edge]])

    random = torch.Generator().manual_seed(0)
    edges = torch.rand(len(union.edge), generator=random) < 0.3
    nodes = torch.rand(len(union.node), generator=random) < 0.3
    nodes[union.rows] = False
    smaller = union.without(edges, nodes)
    kept = ~edges & ~nodes[union.edge_index].any(0)
    assert torch.equal(smaller.edge, union.edge[kept])
    assert torch.equal(smaller.node, union.node[~nodes])
    assert torch.equal(smaller.node[smaller.edge_index], union.node[union.edge_index[:, kept]])
    assert torch.equal(smaller.node[smaller.rows], union.node[union.rows])


@given(random_graphs(), st.integers(0, 60))
def test_pieces_hold_what_one_piece_holds(graphs: Graphs, limit: int) -> None:
    def extract(positions: torch.Tensor, limit: int | None):
        return around_nodes(graphs, positions, 2, torch.zeros_like(positions), "source_to_target", limit)

    every = torch.arange(graphs.num_nodes)
    whole = extract(every, None)
    pieces = list(in_pieces(graphs.num_nodes, every.device, extract, limit))
    assert torch.equal(torch.cat([positions for positions, _ in pieces]), every)
    for name in ("index", "node", "edge", "node_in_play", "edge_in_play"):
        assert torch.equal(torch.cat([getattr(piece, name) for _, piece in pieces]), getattr(whole, name))


def test_what_is_too_large_says_so() -> None:
    graphs = as_graphs(models.random_graph(), torch.device("cpu"))
    index = torch.tensor([0, 1])
    for scope in (0, len(SCOPES) - 1):
        with pytest.raises(TooLarge):
            around_nodes(graphs, index[:1], 3, torch.full_like(index[:1], scope), "source_to_target", limit=3)


@given(random_graphs(many=True))
def test_reverse_edges(graphs: Graphs) -> None:
    """Within a graph all edges find a partner, or none has one; copies pair up in order."""
    ends, batch = graphs.edge_index.t().tolist(), graphs.edge_batch.tolist()
    for graph in range(graphs.num_graphs):
        own = [e for e in range(len(ends)) if batch[e] == graph]
        copies: dict[tuple[int, int], list[int]] = {}
        for e in own:
            copies.setdefault(tuple(ends[e]), []).append(e)
        undirected = all(len(ids) == len(copies.get((v, u), [])) for (u, v), ids in copies.items())
        for (u, v), ids in copies.items():
            expected = copies[v, u] if undirected else [-1] * len(ids)
            assert graphs.reverse[ids].tolist() == expected


@pytest.mark.parametrize("name", list(models.ZOO))
def test_hops_are_counted_from_the_forward_pass(name: str) -> None:
    recipe = models.ZOO[name]
    found = gx.explain(models.make(name), models.random_graph(), gx.Random(), progress=False)
    assert bool(found.exact.all())
    assert set(found.hops.tolist()) <= {recipe.steps, recipe.steps + 1}


@pytest.mark.parametrize("ids", [torch.arange(8.0), torch.arange(16).view(8, 2), torch.arange(8, dtype=torch.int32)])
def test_an_n_id_that_is_no_id_is_an_attribute_like_any_other(ids: torch.Tensor) -> None:
    data = Data(x=torch.randn(8, 4), edge_index=torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))
    expected = as_graphs(data, torch.device("cpu")).node_key
    data.n_id = ids
    assert torch.equal(as_graphs(data, torch.device("cpu")).node_key, expected)
