"""Attributes that hold ids, or any number of rows for a graph: PyG's batching rules hold in every union that is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import ClusterGCNConv, GATConv, GCNConv, GraphConv, SAGEConv, SimpleConv, global_add_pool

import gnn_xai as gx
from gnn_xai.core.graphs.expansion import everything, of_graphs
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import GnnXaiWarning, InputError
from gnn_xai.testing import random_graph, seeded
from tests.heterogeneous import without_edge, without_node

CPU = torch.device("cpu")
VALUE = ModelConfig(mode="regression", task_level="graph", return_type="raw")


class Odd(Data):
    """A graph with every kind of attribute that PyG's rules know, and rules of its own."""

    def __inc__(self, key: str, value: Any, *args: Any) -> Any:
        if key == "twin":
            return self.num_edges
        if key == "member":
            return torch.tensor([[self.num_nodes], [self.num_rings]])
        if key == "after":
            return self.x.size(0)
        return super().__inc__(key, value, *args)

    def __cat_dim__(self, key: str, value: Any, *args: Any) -> Any:
        if key == "wide":
            return 1
        return None if key == "conditions" else -1 if key == "member" else super().__cat_dim__(key, value, *args)


def odd(nodes: int, edges: int, seed: int) -> Odd:
    """A graph of some size; `edges` at least 2."""
    random = torch.Generator().manual_seed(seed)

    def ids(*shape: int, below: int = nodes) -> Tensor:
        return torch.randint(below, shape, generator=random)

    return Odd(
        x=torch.randn(nodes, 3, generator=random),
        edge_index=ids(2, edges),
        edge_attr=torch.randn(edges, 2, generator=random),
        root_index=ids(1),  # one node of each graph
        chosen_index=ids(seed % 3 + 2),  # some nodes
        after=ids(nodes),  # a node for each node, by `__inc__` alone
        knn_edge_index=ids(2, seed % 4 + 1),  # another edge set
        face=ids(3, seed % 2 + 1),
        twin=ids(edges, below=edges),  # an edge for each edge
        member=torch.stack([ids(4), ids(4, below=3)]),  # nodes beside rings
        num_rings=3,
        u=torch.randn(5, generator=random),
        wide=torch.randn(2, nodes, generator=random),
        conditions=torch.randn(4, generator=random),
        label=torch.tensor(seed % 2),
        name=f"graph {seed}",
    )


def small_graph(seed: int, nodes: int, pairs: int) -> Data:
    """An undirected graph with three features."""
    data = random_graph(seed, nodes, pairs, undirected=True)
    data.x = data.x[:, :3]
    return data


GRAPHS = [odd(6, 8, 0), odd(4, 5, 1), odd(5, 5, 2), odd(5, 9, 3)]


def assert_same(one: Any, other: Any) -> None:
    """Every attribute is the same."""
    assert set(one.keys()) == set(other.keys())
    for key in other.keys():  # noqa: SIM118
        if isinstance(other[key], Tensor):
            assert torch.equal(one[key], other[key]), key
            assert one[key].dtype == other[key].dtype, key
        else:
            assert one[key] == other[key], key


@pytest.mark.parametrize("as_one", [list, Batch.from_data_list], ids=["list", "Batch"])
@pytest.mark.parametrize("select", [[0, 1, 2, 3], [3], [2, 0, 0, 1]], ids=str)
def test_unions_are_what_pyg_makes_of_the_same_graphs(select: list[int], as_one: Any) -> None:
    """Whichever graphs are put side by side, one several times too, and read in whichever way."""
    graphs = as_graphs(as_one(GRAPHS), CPU)
    wanted = Batch.from_data_list([GRAPHS[i] for i in select])
    wanted.num_nodes = wanted.num_nodes
    chosen = torch.tensor(select)
    assert_same(of_graphs(graphs, chosen, 0).replicas(torch.arange(len(select))).data, wanted)
    assert_same(everything(graphs.take(chosen), None).data, wanted)


def test_union_is_taken_apart_again() -> None:
    """A model may call `to_data_list`, and gets graphs of the class that the user made."""
    data = everything(as_graphs(GRAPHS, CPU), None).data
    assert isinstance(data, Odd)
    for one, other in zip(data.to_data_list(), Batch.from_data_list(GRAPHS).to_data_list(), strict=True):
        other.num_nodes = other.num_nodes
        assert_same(one, other)


def test_follow_batch() -> None:
    """Vectors that assign rows of an attribute to graphs follow their rows."""
    graphs = as_graphs(Batch.from_data_list(GRAPHS, follow_batch=["chosen_index", "edge_attr"]), CPU)
    wanted = Batch.from_data_list([GRAPHS[i] for i in (2, 2, 1)], follow_batch=["chosen_index", "edge_attr"])
    wanted.num_nodes = wanted.num_nodes
    assert_same(of_graphs(graphs, torch.tensor([2, 2, 1]), 0).replicas(torch.arange(3)).data, wanted)


def test_levels_where_lengths_coincide() -> None:
    """Three graphs of 3, 4 and 5 nodes carry 4 numbers each: 12 of 12; slices say that they belong to graphs. A batch that
    somebody changed after it was made is read by its lengths.
    """
    several = [Data(x=torch.rand(n, 1), edge_index=torch.tensor([[0, 1], [1, 2]]), u=torch.rand(4)) for n in (3, 4, 5)]
    graphs = as_graphs(several, CPU)
    assert set(graphs.node_attrs) == {"x"}
    assert graphs.columns["u"].level == "graph"
    batch = Batch.from_data_list(several)
    batch.edge_index = batch.edge_index.repeat_interleave(3, dim=1)
    batch.edge_kind = torch.arange(18)
    assert set(as_graphs(batch, CPU).edge_attrs) == {"edge_kind"}  # a row for each of the 18 edges
    assert as_graphs(batch, CPU).edge_ptr.tolist() == [0, 6, 12, 18]


def test_batch_made_by_hand() -> None:
    """Where a batch has no slices, ids belong to the graph of the nodes that they name."""
    batch = Batch(
        x=torch.rand(5, 1),
        edge_index=torch.tensor([[0, 3], [1, 4]]),
        batch=torch.tensor([0, 0, 1, 1, 1]),
        far_edge_index=torch.tensor([[0, 2, 3], [1, 4, 2]]),
    )
    part = everything(as_graphs(batch, CPU).take(torch.tensor([1])), None).data
    assert part.far_edge_index.tolist() == [[0, 1], [2, 0]]


def test_codes_that_are_too_large_for_ids() -> None:
    """What its name makes ids, but names no node of the graph, stays as it is, and so does -1."""
    several = [
        Data(x=torch.rand(3, 1), edge_index=torch.tensor([[0], [1]]), old_index=torch.tensor([70, 0, 5]) + i,
             up_index=torch.tensor([-1, 0, 1]))
        for i in range(2)
    ]  # fmt: skip
    data = everything(as_graphs(several, CPU), None).data
    assert data.old_index.tolist() == [70, 0, 5, 71, 1, 6]
    assert data.up_index.tolist() == [-1, 0, 1, -1, 3, 4]


# What is taken out ###################################################################################################


def without(data: Data, *nodes: int) -> tuple[Data, dict[int, int]]:
    """A graph without some nodes, and the new id of each that stays; done by hand."""
    kept = [v for v in range(data.num_nodes) if v not in nodes]
    place = {v: i for i, v in enumerate(kept)}
    smaller = Data(x=data.x[kept])
    for key in ("edge_index", "far_edge_index", "face"):
        if key in data:
            columns = [column for column in data[key].t().tolist() if all(v in place for v in column)]
            smaller[key] = (
                torch.tensor([[place[v] for v in column] for column in columns]).t().reshape(len(data[key]), -1)
            )
    return smaller, place


@pytest.mark.parametrize("gone", [[1], [0, 4], [5]], ids=str)
def test_tuples_of_ids_lose_those_at_removed_nodes(gone: list[int]) -> None:
    """Another edge set loses its edges, and faces go with a corner, in several graphs at once."""
    data = small_graph(0, 6, 9)
    data.far_edge_index = torch.tensor([[0, 1, 2, 4, 3], [4, 5, 3, 2, 1]])
    data.face = torch.tensor([[0, 2], [1, 3], [2, 5]])
    wanted, _ = without(data, *gone)
    replicas = of_graphs(as_graphs([data, data], CPU), torch.arange(2), 0).replicas(torch.arange(2))
    left = replicas.without(nodes=torch.isin(replicas.node_id, torch.tensor(gone)))
    first, second = left.data.far_edge_index, left.data.face
    other = small_graph(0, 6, 9)
    other.update({"far_edge_index": data.far_edge_index, "face": data.face})
    both = Batch.from_data_list([wanted, Data(**{**other.to_dict()})])
    assert torch.equal(left.data.edge_index, both.edge_index)
    assert torch.equal(first, both.far_edge_index)
    assert torch.equal(second, both.face)


class FromRoot(nn.Module):
    """Every node's sum over neighbours, minus that of the node that the graph names."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.conv, self.last = name, GraphConv(3, 4), nn.Linear(4, 1)

    def forward(self, data: Any) -> Tensor:
        h = self.conv(data.x, data.edge_index).tanh()
        return self.last(global_add_pool((h - h[data[self.name]][data.batch]).sin(), data.batch))


def alone(model: nn.Module, data: Data) -> float:
    data = data.clone()
    data.batch = torch.zeros(data.num_nodes, dtype=torch.long)
    return float(model(data).detach())


@pytest.mark.parametrize("algorithm", [gx.NodeAblation(), gx.FragmentAblation(), gx.NodeAblation("message")], ids=str)
def test_named_root_follows_and_stays(algorithm: Any) -> None:
    """In a list of graphs, each is read relative to its own centre; the centre itself cannot leave, as an explained node
    cannot: its features are 0.
    """
    model, graphs = seeded(lambda: FromRoot("centre_index"))(), []
    for seed, (nodes, centre) in enumerate([(7, 4), (5, 0), (6, 5)]):
        graphs.append(small_graph(seed, nodes, 2 * nodes))
        graphs[-1].centre_index = torch.tensor([centre])
    found = gx.explain(model, graphs, algorithm, task=VALUE, progress=False)
    for data, e in zip(graphs, found, strict=True):
        centre, full = int(data.centre_index), alone(model, data)
        assert float(e.prediction) == pytest.approx(full, abs=1e-5)
        for node, score in zip(e.node_id.tolist(), e.node_mask.flatten().tolist(), strict=True):
            if algorithm.removal == "message":
                smaller = data.clone()
                smaller.x = data.x.index_fill(0, torch.tensor([node]), 0)
                smaller.edge_index = data.edge_index[:, (data.edge_index != node).all(0)]
            elif node == centre:
                smaller = data.clone()
                smaller.x = data.x.index_fill(0, torch.tensor([node]), 0)
            else:
                smaller, place = without(data, node)
                smaller.centre_index = torch.tensor([place[centre]])
            assert score == pytest.approx(full - alone(model, smaller), abs=1e-4)


class Pointers(nn.Module):
    """Adds up what each node, or each edge, points at."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.conv = name, SimpleConv()

    def forward(self, data: Any) -> Tensor:
        h = self.conv(data.x, data.edge_index)
        rows = data.x if self.name == "parent_index" else data.edge_attr
        h = h + self.conv(rows[data[self.name]][: len(h)], data.edge_index)
        return global_add_pool(h.sum(1, keepdim=True), data.batch)


def test_pointer_at_what_was_taken_out_is_refused() -> None:
    """A node whose parent left has none to point at; the message names a removal that takes nothing out, which works."""
    data = small_graph(1, 5, 8)
    data.parent_index = torch.tensor([0, 0, 1, 1, 2])
    model = Pointers("parent_index").eval()
    with pytest.raises(InputError, match="data.parent_index names node .*removal='message'"):
        gx.explain(model, [data, data], gx.NodeAblation(), task=VALUE, progress=False)
    assert gx.explain(model, [data, data], gx.NodeAblation("message"), task=VALUE, progress=False).node_mask.any()


class Twins(Data):
    def __inc__(self, key: str, value: Any, *args: Any) -> Any:
        return self.num_edges if key == "twin" else super().__inc__(key, value, *args)


class EdgeStates(nn.Module):
    """States on edges that hear what comes in at their start, but not from their own twin; no layer of PyG's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, twin: Tensor, batch: Tensor) -> Tensor:
        start, end = edge_index
        h = self.first(torch.cat([x[start], edge_attr], 1)).tanh()
        heard = h.new_zeros(len(x), 6).index_add(0, end, h)
        h = self.second(heard[start] - h[twin]).tanh()
        return self.last(global_add_pool(h.new_zeros(len(x), 6).index_add(0, end, h), batch))


def with_twins(seed: int, nodes: int, pairs: int) -> Twins:
    data = small_graph(seed, nodes, pairs)
    ends = [tuple(edge) for edge in data.edge_index.t().tolist()]
    twin = torch.tensor([ends.index((v, u)) for u, v in ends])
    attr = torch.randn(len(ends), 1, generator=torch.Generator().manual_seed(seed))
    return Twins(x=data.x, edge_index=data.edge_index, edge_attr=attr, twin=twin)


@pytest.mark.parametrize("algorithm", [gx.EdgeAblation(), gx.NodeAblation()], ids=lambda a: a.name)
def test_table_of_edges_follows_its_edges(algorithm: Any) -> None:
    """Edges that leave, alone or with a node, leave a table of the others, in one graph and in a list."""
    model, graphs = seeded(EdgeStates)(), [with_twins(seed, 5 + seed, 7 + seed) for seed in range(3)]

    def run(data: Data) -> float:
        ends = [tuple(edge) for edge in data.edge_index.t().tolist()]
        twin = torch.tensor([ends.index((v, u)) for u, v in ends], dtype=torch.long)
        batch = torch.zeros(data.num_nodes, dtype=torch.long)
        return float(model(data.x, data.edge_index, data.edge_attr, twin, batch).detach())

    for several in (graphs, graphs[1:2]):
        for e, data in zip(gx.explain(model, several, algorithm, task=VALUE, progress=False), several, strict=True):
            scores = e.edge_mask.tolist() if e.edge_mask is not None else e.node_mask.flatten().tolist()
            for number, score in enumerate(scores):
                ends = data.edge_index
                if e.edge_mask is not None:
                    kept = (ends.sort(0).values != ends[:, [number]].sort(0).values).any(0)
                    smaller = Data(x=data.x, edge_index=ends[:, kept])
                else:
                    kept = (ends != number).all(0)
                    smaller, _ = without(data, number)
                smaller.edge_attr = data.edge_attr[kept]
                assert score == pytest.approx(run(data) - run(smaller), abs=1e-4)


def test_edge_whose_twin_stays_is_refused() -> None:
    """One direction of a bond cannot leave without the other where a table names it."""
    graphs = [with_twins(0, 5, 6)]
    with pytest.raises(InputError, match="data.twin names edge .*forward="):
        gx.explain(seeded(EdgeStates)(), graphs, gx.EdgeAblation(), task=VALUE, undirected=False, progress=False)


def test_rows_that_may_belong_to_nodes_are_refused() -> None:
    """As many pairs as nodes: they may be two neighbours of each node, or another edge set."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SimpleConv()

        def forward(self, x: Tensor, edge_index: Tensor, pair_index: Tensor, batch: Tensor) -> Tensor:
            h = self.conv(x, edge_index).sum(1, keepdim=True)
            return global_add_pool(h[pair_index].sum(0), batch[pair_index[0]], int(batch[-1]) + 1)

    data = small_graph(2, 4, 5)
    data.pair_index = torch.tensor([[1, 2, 3, 2], [2, 3, 0, 0]])  # node 1 is named once, and has a column of its own
    with pytest.raises(InputError, match="data.pair_index has a row of ids for every node, or as many by coincidence"):
        gx.explain(Both().eval(), [data], gx.NodeAblation(), task=VALUE, progress=False)
    assert len(gx.explain(Both().eval(), [data], gx.NodeAblation("message"), task=VALUE, progress=False)) == 1


@pytest.mark.parametrize("layer", [GCNConv, GATConv, GraphConv, ClusterGCNConv], ids=lambda layer: layer.__name__)
def test_graph_of_which_nothing_is_left(layer: Any) -> None:
    """A graph without its last fragment is one node of zeros without edges, however many left before."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = layer(3, 4), layer(4, 1)
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    nn.init.uniform_(parameter, -0.5, 0.5)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            return global_add_pool(self.last(self.first(x, edge_index).tanh(), edge_index), batch)

    one = Data(x=torch.ones(1, 3), edge_index=torch.tensor([[0], [0]]))
    model, graphs = seeded(Pooled)(), [small_graph(0, 3, 3), small_graph(1, 5, 6), one]
    nothing = model(torch.zeros(1, 3), torch.zeros(2, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    found = gx.explain(model, graphs, gx.Shapley(players="fragments", kind="atoms"), task=VALUE, progress=False)
    assert found.extras["base_value"].tolist() == pytest.approx([float(nothing.detach())] * 3, abs=1e-5)
    data = small_graph(1, 5, 6)
    data.fragment = torch.zeros(5, dtype=torch.long)  # one fragment, which is all
    e = gx.explain(model, [data], gx.FragmentAblation(), task=VALUE, progress=False)[0]
    assert e.node_mask.flatten().tolist() == pytest.approx([float(e.prediction - nothing.detach()) / 5] * 5, abs=1e-5)


# What the model reads ################################################################################################


class Relative(nn.Module):
    """Nodes relative to one that the data names, by the data object or not at all."""

    def __init__(self, read: bool) -> None:
        super().__init__()
        self.read, self.conv, self.last = read, GraphConv(3, 4), GraphConv(4, 1)

    def forward(self, data: Any) -> Tensor:
        h = self.conv(data.x, data.edge_index).tanh()
        return self.last(h - h[data.origin_index] if self.read else h, data.edge_index)


NODE_VALUE = ModelConfig(mode="regression", task_level="node", return_type="raw")


def with_origin() -> Data:
    """Two far parts of a graph, and an origin in the other part than node 0 is in."""
    ends = torch.tensor([[0, 1, 2, 5, 6, 7], [1, 2, 3, 6, 7, 8]])
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    return Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], 1), origin_index=torch.tensor([7]))


def test_node_that_the_data_names_is_in_play() -> None:
    """What a model reads by an id may be anywhere: everything is in play, as a warning says, and scored as by hand."""
    model, data = seeded(lambda: Relative(True))(), with_origin()
    with pytest.warns(GnnXaiWarning, match="the model reads data.origin_index, which may name any node or edge"):
        e = gx.explain(model, data, gx.NodeAblation(), task=NODE_VALUE, index=0, progress=False)[0]
    full = float(model(data)[0].detach())
    for node, score in zip(e.node_id.tolist(), e.node_mask.flatten().tolist(), strict=True):
        if node not in (0, 7):
            smaller, place = without(data, node)
            smaller.origin_index = torch.tensor([place[7]])
            assert score == pytest.approx(full - float(model(smaller)[0].detach()), abs=1e-5)
    scores = dict(zip(e.node_id.tolist(), e.node_mask.flatten().tolist(), strict=True))
    assert scores[6] != 0 != scores[8]


def test_attributes_that_the_model_does_not_read_cost_nothing() -> None:
    """Splits and other leftovers hold ids, too: neighbourhoods stay small, and nothing is refused."""
    model, data = seeded(lambda: Relative(False))(), with_origin()
    data.train_index = torch.arange(5)
    e = gx.explain(model, data, gx.NodeAblation(), task=NODE_VALUE, index=0, progress=False)[0]
    assert e.node_id.tolist() == [0, 1, 2]
    graphs = [small_graph(0, 5, 6), small_graph(1, 6, 8)]
    for graph in graphs:
        graph.parent_index = torch.zeros(graph.num_nodes, dtype=torch.long)
        graph.snapshots = [torch.rand(2), torch.rand(3)]
    pooled = lambda model, data: global_add_pool(model(data), data.batch)  # noqa: E731
    assert len(gx.explain(model, graphs, gx.NodeAblation(), task=VALUE, forward=pooled, progress=False)) == 2


def test_what_does_not_say_whose_it_is_is_refused_where_it_is_read() -> None:
    """Lists of tensors are batched place by place, and no place says which rows are whose."""
    graphs = [small_graph(0, 5, 6), small_graph(1, 6, 8)]
    for graph in graphs:
        graph.snapshots = [torch.rand(graph.num_nodes), torch.rand(graph.num_nodes)]
    conv = seeded(lambda: GraphConv(3, 1))()
    reads = lambda model, data: global_add_pool(  # noqa: E731
        model(data.x * data.snapshots[0].sum(), data.edge_index), data.batch
    )
    with pytest.raises(InputError, match=r"reads data.snapshots, of which the data does not say what belongs to which"):
        gx.explain(conv, graphs, gx.EdgeAblation(), task=VALUE, forward=reads, progress=False)


class WithPlaces(nn.Module):
    """A learned vector for each of nine nodes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.conv = nn.Parameter(torch.randn(9, 3)), GraphConv(3, 1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv((x + self.place).tanh(), edge_index)


def test_model_that_runs_on_the_whole_graph_alone() -> None:
    """A vector for every node fits no part of the graph, so the whole is run; nodes leave by messages."""
    model, data = seeded(WithPlaces)(), with_origin()
    with pytest.warns(GnnXaiWarning, match="runs on the whole graph but not on computation graphs cut out of it"):
        found = gx.explain(model, data, gx.EdgeAblation(), task=NODE_VALUE, undirected=False, progress=False)
    for e in found:
        for edge, score in zip(e.edge_id.tolist(), e.edge_mask.tolist(), strict=True):
            others = data.edge_index[:, torch.arange(data.num_edges) != edge]
            wanted = (model(data.x, data.edge_index) - model(data.x, others))[e.index].detach()
            assert score == pytest.approx(float(wanted), abs=1e-5)
    with pytest.warns(GnnXaiWarning), pytest.raises(InputError, match="removal='message'"):
        gx.explain(model, data, gx.NodeAblation(), task=NODE_VALUE, progress=False)
    with pytest.warns(GnnXaiWarning):
        assert gx.explain(model, data, gx.NodeAblation("message"), task=NODE_VALUE, progress=False).node_mask.any()


# Heterogeneous graphs ################################################################################################


class OddTypes(HeteroData):
    """Papers and authors, with ids of both in attributes of types and relations."""

    def __inc__(self, key: str, value: Any, store: Any = None, *args: Any) -> Any:
        if key in ("root_index", "chosen_index"):
            return store.num_nodes
        if key == "twin":
            return store.edge_index.size(1)
        return super().__inc__(key, value, store, *args)


def odd_types(seed: int) -> OddTypes:
    """A small graph of two types."""
    rng = torch.Generator().manual_seed(seed)
    data, sizes = OddTypes(), {"author": 3 + seed % 2, "paper": 4 + seed % 3}
    for name, size in sizes.items():
        data[name].x = torch.randn(size, 2 + (name == "paper"), generator=rng, dtype=torch.float64)
    data["paper"].root_index = torch.randint(sizes["paper"], (1,), generator=rng)
    data["author"].chosen_index = torch.randint(sizes["author"], (1 + seed % 2,), generator=rng)
    data["author"].conditions = torch.randn(2 + seed % 2, 3, generator=rng, dtype=torch.float64)  # none for each author
    for source, target, count in (("author", "paper", 6), ("paper", "author", 5)):
        ends = [torch.randint(sizes[name], (count,), generator=rng) for name in (source, target)]
        data[source, "to", target].edge_index = torch.stack(ends)
    ends = [torch.randint(sizes[name], (3,), generator=rng) for name in ("author", "paper")]
    data["author", "to", "paper"].edge_label_index = torch.stack(ends)
    data["author", "to", "paper"].twin = torch.randint(6, (4,), generator=rng)
    data.u = torch.randn(1, 2, generator=rng, dtype=torch.float64)
    data.name = f"graph {seed}"
    return data


TYPED = [odd_types(seed) for seed in range(4)]


@pytest.mark.parametrize("as_one", [list, Batch.from_data_list], ids=["list", "Batch"])
@pytest.mark.parametrize("select", [[0, 1, 2, 3], [3], [2, 0, 0, 1]], ids=str)
def test_unions_of_types_are_what_pyg_makes_of_the_same_graphs(select: list[int], as_one: Any) -> None:
    """Ids count on from graph to graph by type, and rows of graphs stay with their graph."""
    graphs = as_graphs(as_one(TYPED), CPU)
    wanted: Any = Batch.from_data_list([TYPED[i] for i in select])
    found = of_graphs(graphs, torch.tensor(select), 0).replicas(torch.arange(len(select))).data
    for store in wanted.stores:
        own = found if store._key is None else found[store._key]
        for key, value in store.items():
            assert torch.equal(own[key], value) if isinstance(value, Tensor) else own[key] == value, (store._key, key)


def test_follow_batch_of_types() -> None:
    """Vectors that assign rows of an attribute of types to graphs follow their rows."""
    names = ["x", "edge_index"]
    graphs = as_graphs(Batch.from_data_list(TYPED, follow_batch=names), CPU)
    wanted: Any = Batch.from_data_list([TYPED[i] for i in (2, 2, 1)], follow_batch=names)
    found = of_graphs(graphs, torch.tensor([2, 2, 1]), 0).replicas(torch.arange(3)).data
    for kind in ("author", "paper"):
        assert torch.equal(found[kind].x_batch, wanted[kind].x_batch)
        assert torch.equal(found[kind].x_ptr, wanted[kind].x_ptr)
    for relation in wanted.edge_types:
        assert torch.equal(found[relation].edge_index_batch, wanted[relation].edge_index_batch)


class Rooted(nn.Module):
    """Layers of both relations, read at the root of each graph, and sums over pairs that are asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back, self.head = SAGEConv((2, 3), 4), SAGEConv((4, 2), 4), nn.Linear(4, 3)

    def forward(self, data: Any) -> Tensor:
        """`[G, 3]`."""
        author, paper = data["author"], data["paper"]
        ends = data["author", "to", "paper"].edge_label_index
        papers = self.there((author.x, paper.x), data["author", "to", "paper"].edge_index).tanh()
        authors = self.back((papers, author.x), data["paper", "to", "author"].edge_index).tanh()
        asked = global_add_pool(authors[ends[0]] * papers[ends[1]], author.batch[ends[0]], data.num_graphs)
        return self.head(papers[paper.root_index] + asked)


@pytest.mark.parametrize("removal", ["message", "structural"])
def test_ids_of_types_follow_what_is_left(removal: Any) -> None:
    """Taking out an edge leaves all ids as they are; taking out a node the others, and pairs at it go along."""
    model = seeded(lambda: Rooted().double())()

    def margin(data: HeteroData, target: int) -> Tensor:
        out = model(Batch.from_data_list([data]))[0].detach()
        return out[target] - out[torch.arange(3) != target].logsumexp(0)

    edges = gx.explain(model, TYPED, gx.EdgeAblation(removal="structural"), undirected=False, progress=False)
    nodes = gx.explain(model, TYPED, gx.NodeAblation(removal=removal), progress=False)
    for e, n, data in zip(edges, nodes, TYPED, strict=True):
        whole = margin(data, e.target)
        for relation, mask in e.edge_mask_dict.items():
            wanted = torch.stack([whole - margin(without_edge(data, relation, i), e.target) for i in range(len(mask))])
            torch.testing.assert_close(mask, wanted, rtol=0, atol=1e-9)
        for number in range(data["author"].num_nodes) if removal == "structural" else ():
            left = without_node(data, "author", number)
            ends = data["author", "to", "paper"].edge_label_index
            ends = ends[:, ends[0] != number]
            left["author", "to", "paper"].edge_label_index = ends - torch.stack(
                [(ends[0] > number).long(), 0 * ends[1]]
            )
            del left["author"]["chosen_index"]
            torch.testing.assert_close(n.node_mask_dict["author"][number, 0], whole - margin(left, e.target))


def test_an_id_of_a_type_that_cannot_follow_is_refused() -> None:
    """And the message names a way that works."""

    class Chosen(Rooted):
        def forward(self, data: Any) -> Tensor:
            author = data["author"]
            chosen = global_add_pool(author.x[author.chosen_index], author.batch[author.chosen_index], data.num_graphs)
            return super().forward(data) + chosen.sum(1, keepdim=True) * torch.arange(3)

    model = seeded(lambda: Chosen().double())()
    with pytest.raises(InputError, match=r"data\['author'\].chosen_index names node .* use removal='message'"):
        gx.explain(model, TYPED, gx.NodeAblation(removal="structural"), progress=False)
    assert len(gx.explain(model, TYPED, gx.NodeAblation(removal="message"), progress=False)) == 4


def test_ids_that_a_model_of_types_does_not_read_need_not_follow() -> None:
    """Labels of links beside the edges leave computation graphs as small as they are."""
    one = gx.explain(OneLayer(), TYPED[0], "edge_ablation", node_type="paper", progress=False)
    assert one.exact.all()
    assert set(one.hops.tolist()) == {1}


class OneLayer(nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SAGEConv((2, 3), 3).double().eval()

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Tensor:
        return self.conv((x_dict["author"], x_dict["paper"]), edge_index_dict["author", "to", "paper"])
