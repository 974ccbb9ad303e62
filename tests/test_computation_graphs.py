"""Computation graphs against a breadth-first search in plain Python, on random directed graphs."""

from __future__ import annotations

import math
from collections import Counter, deque
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, GCNConv, GINConv, PairNorm, SAGEConv
from torch_geometric.nn.aggr import MaxAggregation

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.core.arrays.segments import owners
from gnn_xai.core.engines import choice, first_look, samples
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH
from gnn_xai.core.graphs.expansion import SCOPES, Cap, TooLarge, around_nodes, in_chunks, of_graphs
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.errors import InputError
from tests import models
from tests.covering import pairwise

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
    with mock.patch.object(expansion, "DENSE", data.draw(st.sampled_from([0, 10**6]))):  # by pairs, or in tables
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
        assert nodes[int(found.roots[i])] == index[i]
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
    replicas = found.replicas(torch.tensor(select))
    ends = found.node[replicas.node]
    assert torch.equal(ends[replicas.edge_index], graphs.edge_index[:, found.edge[replicas.edge]])
    assert ends[replicas.rows].tolist() == [[node] for node in select]
    assert torch.equal(replicas.node_owner[replicas.edge_index[0]], replicas.edge_owner)
    assert torch.equal(replicas.data.edge_number, graphs.edge_attrs["edge_number"][found.edge[replicas.edge]])

    few, times = found.first(min(3, len(found))), data.draw(st.integers(1, 3))
    all_of_them = torch.arange(len(few)).repeat(times)
    as_they_lie, gathered = few.replicas(all_of_them), few._replicas(all_of_them, by_depth=False)
    for name in ("instance", "node", "node_owner", "edge", "edge_owner", "edge_index", "rows"):
        assert torch.equal(getattr(as_they_lie, name), getattr(gathered, name)), name

    random = torch.Generator().manual_seed(0)
    edges = torch.rand(len(replicas.edge), generator=random) < 0.3
    nodes = torch.rand(len(replicas.node), generator=random) < 0.3
    nodes[replicas.rows] = False
    smaller = replicas.without(edges, nodes)
    kept = ~edges & ~nodes[replicas.edge_index].any(0)
    assert torch.equal(smaller.edge, replicas.edge[kept])
    assert torch.equal(smaller.node, replicas.node[~nodes])
    assert torch.equal(smaller.node[smaller.edge_index], replicas.node[replicas.edge_index[:, kept]])
    assert torch.equal(smaller.node[smaller.rows], replicas.node[replicas.rows])


@given(random_graphs(), st.integers(0, 60))
def test_pieces_hold_what_one_piece_holds(graphs: Graphs, limit: int) -> None:
    def extract(positions: torch.Tensor, limit: int | None):
        return around_nodes(graphs, positions, 2, torch.zeros_like(positions), "source_to_target", limit)

    every = torch.arange(graphs.num_nodes)
    whole = extract(every, None)
    pieces = list(in_chunks(graphs.num_nodes, every.device, extract, limit))
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


# Hubs ####################################################################################################################


@given(random_graphs(), st.integers(1, 3), st.integers(1, 4), st.sampled_from(FLOWS), st.integers(0, 2), st.data())
def test_a_cap_holds_at_every_node_and_hop(
    graphs: Graphs, steps: int, most: int, flow: str, number: int, data: st.DataObject
) -> None:
    every = torch.arange(graphs.num_nodes)
    seed, scope = data.draw(st.integers(0, 3)), torch.full_like(every, number)
    found = around_nodes(graphs, every, steps, scope, flow, cap=Cap(most, seed))
    free = around_nodes(graphs, every, steps, scope, flow)
    ptr, sender, edge_at = graphs.incidence(flow)
    ends = graphs.edge_index.t().tolist()
    for i in range(len(every)):
        nodes = found.node[found.node_owner == i].tolist()
        depth = dict(zip(nodes, found.node_depth[found.node_owner == i].tolist(), strict=True))
        kept = set(found.edge[found.edge_owner == i].tolist())
        radius, lost = steps + SCOPES[number].extra, False
        reached = {i}
        for node in nodes:
            into = edge_at[ptr[node] : ptr[node + 1]].tolist()
            if depth[node] == radius:
                continue
            senders = dict(zip(into, sender[ptr[node] : ptr[node + 1]].tolist(), strict=True))
            if flow != "both":  # then an edge may have come from its other end
                assert len(kept & set(into)) == min(most, len(into))
            assert len(kept & set(into)) >= min(most, len(into)) / (2 if flow == "both" else 1)
            loops = [e for e in into if senders[e] == node]
            assert not loops or kept & set(loops)
            lost |= len(into) > most
            reached |= {senders[e] for e in kept & set(into)}
        if not SCOPES[number].induced:
            assert bool(found.capped[i]) == lost
        assert set(nodes) == reached
        assert all(u in depth and v in depth for u, v in (ends[e] for e in kept))
        assert kept <= set(free.edge[free.edge_owner == i].tolist())
        alone = around_nodes(graphs, every[i : i + 1], steps, scope[:1], flow, cap=Cap(most, seed))
        assert set(alone.edge.tolist()) == kept


@given(random_graphs(many=True), st.integers(1, 3), st.sampled_from(FLOWS), st.integers(0, 3))
def test_a_cap_above_all_degrees_changes_nothing(graphs: Graphs, steps: int, flow: str, number: int) -> None:
    every = torch.arange(graphs.num_nodes)
    scope = torch.full_like(every, number)
    free = around_nodes(graphs, every, steps, scope, flow)
    found = around_nodes(graphs, every, steps, scope, flow, cap=Cap(2 * max(graphs.num_edges, 1), 0))
    for name in ("node", "node_ptr", "node_depth", "edge", "edge_ptr", "edge_in_play", "edge_index", "roots", "hops"):
        assert torch.equal(getattr(found, name), getattr(free, name))
    assert not bool(found.capped.any())


def star(leaves: int, loop: bool = False) -> Data:
    """Node 0 hears from all others, and from itself."""
    senders = torch.cat([torch.zeros(int(loop), dtype=torch.int64), torch.arange(1, leaves + 1)])
    return Data(x=torch.randn(leaves + 1, 4), edge_index=torch.stack([senders, torch.zeros_like(senders)]))


@pytest.mark.parametrize("loop", [False, True])
def test_every_edge_of_a_hub_has_the_same_chance(loop: bool) -> None:
    graphs = as_graphs(star(7, loop), torch.device("cpu"))
    root, rounds = torch.tensor([0]), 2000
    drawn: Counter[int] = Counter()
    for seed in range(rounds):
        found = around_nodes(graphs, root, 1, root, "source_to_target", cap=Cap(3, seed))
        assert len(found.edge) == 3
        drawn.update(graphs.edge_index[0, found.edge].tolist())
    expected = (2 if loop else 3) / 7 * rounds
    assert drawn[0] == (rounds if loop else 0)
    for leaf in range(1, 8):
        assert abs(drawn[leaf] - expected) < 5 * math.sqrt(expected)


def hubs(undirected: bool = True) -> Data:
    """Two nodes with fifteen neighbours each among thirty, and a ring through all."""
    ring = torch.stack([torch.arange(30), torch.arange(1, 31) % 30])
    spokes = torch.stack([torch.arange(30), torch.arange(30) % 2 * 7])
    edges = torch.unique(torch.cat([ring, spokes[:, spokes[0] != spokes[1]]], 1), dim=1)
    if undirected:
        edges = torch.unique(torch.cat([edges, edges.flip(0)], 1), dim=1)
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    return Data(x=x, edge_index=edges[:, torch.randperm(edges.size(1), generator=torch.Generator().manual_seed(1))])


def test_every_target_draws_its_own_edges_of_a_hub() -> None:
    graphs, index = as_graphs(hubs(), torch.device("cpu")), torch.tensor([2, 4, 6, 8])
    found = around_nodes(graphs, index, 2, torch.zeros_like(index), "source_to_target", cap=Cap(3, 0))
    at_hub = graphs.edge_index[1, found.edge] == 0
    drawn = [found.edge[at_hub & (found.edge_owner == position)].tolist() for position in range(4)]
    assert [len(edges) for edges in drawn] == [3] * 4
    assert len(set(map(tuple, drawn))) > 1


def network(conv: Any, *more: Any) -> nn.Module:
    return testing.seeded(lambda: testing.Network([conv(4, 8), *more, conv(8, 3)]))()


def gin(width_in: int, width: int) -> GINConv:
    return GINConv(nn.Linear(width_in, width))


@pytest.mark.parametrize("conv", [SAGEConv, gin, GATConv])
def test_without_the_edges_left_out_the_model_says_what_is_said(conv: Any) -> None:
    model, data = network(conv), hubs()
    found = gx.explain(model, data, "saliency", max_neighbors=3, progress=False)
    with torch.no_grad():
        assert torch.allclose(found.prediction, model(data.x, data.edge_index), atol=1e-5)
        for e in found:
            out = model(data.x, data.edge_index[:, e.edge_id])[e.index]
            assert torch.allclose(e.extras["prediction_capped"], out, atol=1e-5)
            assert int(torch.bincount(e.edge_index[1]).max()) <= 3
            assert e.hops == 2
    assert found.provenance["max_neighbors"] == 3
    assert not bool(found.exact.all())


def test_degrees_are_those_of_the_full_graph() -> None:
    model, data = network(GCNConv), hubs()
    found = gx.explain(model, data, "saliency", max_neighbors=3, progress=False)
    assert {layer["path"] for layer in found.provenance["layers"]} == {"fused"}
    for e in found:
        kept = {(u, v) for u, v in e.edge_index.t().tolist()}
        cut = {(u, v): 0.0 for u, v in data.edge_index.t().tolist() if (u, v) not in kept}
        with torch.no_grad(), testing.plainly_masked(model, cut):
            out = model(data.x, data.edge_index)[e.index]
        assert torch.allclose(e.extras["prediction_capped"], out, atol=1e-5)


def test_exact_is_what_lost_no_edge() -> None:
    data = hubs(undirected=False)
    found = gx.explain(network(SAGEConv), data, "saliency", max_neighbors=5, progress=False)
    degree = torch.bincount(data.edge_index[1], minlength=30)
    for e in found:
        heard = data.edge_index[0, data.edge_index[1] == e.index]
        assert e.exact == bool((degree[torch.cat([heard, torch.tensor([e.index])])] <= 5).all())
    assert 0 < int(found.exact.sum()) < 30


def test_what_lost_an_edge_is_not_exact_though_the_output_is_the_same() -> None:
    model, data = network(SAGEConv), hubs()
    for conv in model.convs:
        nn.init.zeros_(conv.lin_l.weight)
    found = gx.explain(model, data, gx.Random(), index=0, max_neighbors=3, progress=False)
    assert torch.equal(found.extras["prediction_capped"], found.prediction)
    assert not bool(found.exact)


def test_another_seed_draws_other_edges() -> None:
    model, data = network(SAGEConv), hubs()
    one, same, other = (
        gx.explain(model, data, "saliency", index=0, max_neighbors=3, seed=seed, progress=False) for seed in (1, 1, 2)
    )
    assert torch.equal(one.edge_id, same.edge_id)
    assert one.edge_id.tolist() != other.edge_id.tolist()


@pytest.mark.parametrize("algorithm", ["gnn_explainer", "edge_ablation"])
def test_answers_under_a_cap_above_all_degrees_are_those_without(algorithm: str) -> None:
    model, data = network(GCNConv), hubs()
    free = gx.explain(model, data, algorithm, progress=False)
    found = gx.explain(model, data, algorithm, max_neighbors=40, progress=False)
    for name in ("prediction", "prediction_masked", "exact", "hops", "node_id", "edge_id", "edge_mask"):
        assert torch.equal(getattr(found, name), getattr(free, name))
    assert torch.equal(
        found.extras["prediction_capped"],
        gx.explain(model, data, "random", max_neighbors=40, progress=False).extras["prediction_capped"],
    )
    assert free.provenance["max_neighbors"] is None
    assert "prediction_capped" not in free.extras


class Capped(testing.Case):
    """A case whose nodes follow two edges at most."""

    def explain(self, algorithm: Any, model: nn.Module | None = None, **options: Any) -> gx.Explanations:
        return super().explain(algorithm, model, max_neighbors=2, **options)


LAWS = ["instance_independence", "model_untouched", "seed_and_relabelling", "says_what_it_means"]


@pairwise(
    algorithm=[gx.GNNExplainer(epochs=5), gx.EdgeAblation(removal="structural"), gx.Random()],
    law=LAWS,
    name=["gcn_undirected", "gat_directed"],
)
def test_laws_hold_under_a_cap(algorithm: Any, law: str, name: str) -> None:
    if law == "seed_and_relabelling" and isinstance(algorithm, gx.EdgeAblation):
        pytest.skip("the seed draws edges, so that it changes a deterministic algorithm's answer, too")
    case = Capped(**vars(testing.CASES[name]))
    assert not bool(case.explain(algorithm).exact.all())
    testing.LAWS[law](algorithm, case)


def test_fidelity_of_capped_explanations(tmp_path: Path) -> None:
    model, data = network(GCNConv), hubs()
    found = gx.explain(model, data, "gnn_explainer", max_neighbors=3, seed=4, progress=False)
    there = gx.metrics.fidelity(model, data, found, top=3, level="edge")
    back = gx.load(found.save(tmp_path / "capped.safetensors"))
    assert torch.equal(back.extras["prediction_capped"], found.extras["prediction_capped"])
    assert back.provenance["max_neighbors"] == 3
    again = gx.metrics.fidelity(model, data, back, top=3, level="edge")
    assert torch.equal(there.plus.values, again.plus.values)
    assert torch.equal(there.minus.values, again.minus.values)
    structural = gx.metrics.fidelity(model, data, found, top=3, level="edge", removal="structural")
    assert bool(structural.plus.values.isfinite().all())


def test_what_was_cut_is_not_grown_back() -> None:
    """Maxima keep the layers in PyG's own way, where degrees of the border need a hop more."""

    def layer(width_in: int, width: int) -> GCNConv:
        return GCNConv(width_in, width, aggr=MaxAggregation())

    found = gx.explain(network(layer), hubs(), "saliency", max_neighbors=3, progress=False)
    assert {layer["path"] for layer in found.provenance["layers"]} == {"messages"}
    assert set(found.hops.tolist()) == {3}
    assert not bool(found.exact.all())


def test_a_model_that_is_not_local_is_found_under_a_cap() -> None:
    norms = [PairNorm(), nn.Identity()]
    model = testing.seeded(lambda: testing.Network([SAGEConv(4, 8), SAGEConv(8, 3)], norms))()
    far = torch.stack([torch.arange(40), torch.arange(1, 41) % 40])
    data = Batch.from_data_list([hubs(), Data(x=torch.randn(40, 4), edge_index=far)])
    data = Data(x=data.x, edge_index=data.edge_index)
    with pytest.warns(gx.errors.GnnXaiWarning, match="not local"):
        found = gx.explain(model, data, "saliency", index=[0, 5], max_neighbors=3, progress=False)
    assert found.hops.tolist() == [WHOLE_GRAPH, WHOLE_GRAPH]
    assert bool(found.exact.all())


@pytest.mark.parametrize("share", [2, 60])
def test_what_tells_about_the_model_leaves_out_large_neighbourhoods(monkeypatch: Any, share: int) -> None:
    """With room for neighbourhoods of 60 nodes and edges some are left; with room for 2, the smallest is."""
    model, data = network(GCNConv), hubs(undirected=False)
    free = gx.explain(model, data, "saliency", progress=False)
    looked_at = []
    choose = choice.choose

    def spy(problem: Any, look: Any, batch_budget: Any) -> Any:
        looked_at.append(len(look.sample))
        return choose(problem, look, batch_budget)

    monkeypatch.setattr(choice, "choose", spy)
    for module in (first_look, samples):
        monkeypatch.setattr(module, "SMALL", share)
    found = gx.explain(model, data, "saliency", progress=False)
    assert looked_at == [1] if share == 2 else looked_at[0] > 1
    assert torch.equal(found.edge_id, free.edge_id)
    assert torch.allclose(found.edge_mask, free.edge_mask)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3"])
def test_a_cap_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"expected max_neighbors as a positive integer or None, got .*; None follows"):
        gx.explain(network(GCNConv), hubs(), "saliency", max_neighbors=value, progress=False)


def test_a_cap_on_whole_graphs_is_refused() -> None:
    case = testing.CASES["gin_graphs"]
    with pytest.raises(InputError, match=r"expected max_neighbors for a node-level task alone, got 3 .*; leave it out"):
        case.explain(gx.Saliency(), max_neighbors=3)


class Cancelling(nn.Module):
    """Activations near 10⁵ whose differences are the output, so that the order of additions shows in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = SAGEConv(8, 32), SAGEConv(32, 32), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        hidden = self.second(self.first(x, edge_index) * 3e4, edge_index)
        return self.out(hidden * 1e-5) + (hidden - hidden.roll(0)).sum(1, keepdim=True) + self.rest(hidden)

    def rest(self, hidden: torch.Tensor) -> torch.Tensor:
        rounded = hidden.sum(1, keepdim=True) - hidden.double().sum(1, keepdim=True).float()
        return rounded * 1e-3


def test_rounding_costs_neither_the_fused_way_nor_the_neighbourhood() -> None:
    """Targets are verified with the rounding that another order of the edges causes, as the way of the model was."""
    torch.manual_seed(0)
    model = Cancelling().eval()
    data = Data(x=torch.randn(200, 8), edge_index=torch.randint(200, (2, 1200)))
    found = gx.explain(gx.prepare(model, data), "saliency", index=[3, 5, 7], progress=False)
    assert found.hops.tolist() == [2, 2, 2]
    assert [layer["path"] for layer in found.provenance["layers"]] == ["fused", "fused"]
