"""Pairs of graphs, and several edge sets in one graph: every number is that of the model run on the whole, one at a time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data, TemporalData
from torch_geometric.explain import HeteroExplanation
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GATConv, GraphConv, SAGEConv, SignedConv, SimpleConv, global_add_pool, global_mean_pool

import gnn_xai as gx
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import GnnXaiWarning, InputError
from gnn_xai.testing import seeded
from gnn_xai.testing.comparing import by_identity, require_same
from tests.heterogeneous import margin
from tests.ready import READY
from tests.test_laws import FEW

VALUE = ModelConfig(mode="regression", task_level="graph", return_type="raw")


class Pair(Data):
    """Two graphs, such as a protein and a ligand."""

    def __inc__(self, key: str, value: Any, *args: Any) -> Any:
        counts = {"edge_index_s": "x_s", "edge_index_t": "x_t", "root_index_s": "x_s"}
        if key == "edge_index_st":
            return torch.tensor([[self.x_s.size(0)], [self.x_t.size(0)]])
        return self[counts[key]].size(0) if key in counts else super().__inc__(key, value, *args)


def pair(seed: int, *, alike: bool = False) -> Pair:
    """Two graphs of different sizes; of the same where they are `alike`, with as many edges."""
    rng = torch.Generator().manual_seed(seed)
    sizes = (5, 5) if alike else (4 + seed % 3, 3 + seed % 2)
    counts = (6, 6) if alike else (6 + seed % 2, 4)
    out = Pair(y=torch.tensor([seed % 3]), name=f"pair {seed}")
    for end, size, count, width in zip("st", sizes, counts, (3, 2), strict=True):
        out[f"x_{end}"] = torch.randn(size, width, generator=rng, dtype=torch.float64)
        out[f"edge_index_{end}"] = torch.randint(size, (2, count), generator=rng)
        out[f"edge_weight_{end}"] = torch.rand(count, generator=rng, dtype=torch.float64) + 0.5
    return out


class Siamese(nn.Module):
    """One layer for each graph and a shared one, whose nodes are summed; classes of the two together."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GraphConv(3, 4), GATConv(2, 4)
        self.shared, self.head = SAGEConv(4, 4), nn.Linear(8, 3)

    def forward(
        self,
        x_s: Tensor,
        edge_index_s: Tensor,
        edge_weight_s: Tensor,
        x_t: Tensor,
        edge_index_t: Tensor,
        x_s_batch: Tensor,
        x_t_batch: Tensor,
    ) -> Tensor:
        """`[G, 3]`."""
        size = int(torch.cat([x_s_batch, x_t_batch]).max()) + 1
        s = self.shared(self.first(x_s, edge_index_s, edge_weight_s).tanh(), edge_index_s)
        t = self.shared(self.second(x_t, edge_index_t).tanh(), edge_index_t)
        return self.head(torch.cat([global_add_pool(s, x_s_batch, size), global_add_pool(t, x_t_batch, size)], 1))


def call(model: nn.Module, data: Any) -> Tensor:
    """A `Siamese` on one pair."""
    zeros = (torch.zeros(len(data[f"x_{end}"]), dtype=torch.int64) for end in "st")
    return model(data.x_s, data.edge_index_s, data.edge_weight_s, data.x_t, data.edge_index_t, *zeros)[0]


PAIRS = [*map(pair, range(4)), pair(4, alike=True), pair(5, alike=True)]
SIAMESE = seeded(lambda: Siamese().double())()


def without_edge(data: Any, name: str, number: int) -> Any:
    """The data without an edge, and the weight that goes with it."""
    left, kept = copy.copy(data), torch.arange(data[name].size(1)) != number
    left[name] = data[name][:, kept]
    weight = name.replace("index", "weight")
    if weight in data:
        left[weight] = data[weight][kept]
    return left


@pytest.mark.parametrize("removal", ["message", "structural"])
@pytest.mark.parametrize("as_one", [list, Batch.from_data_list], ids=["list", "Batch"])
def test_ablated_edges_of_pairs(removal: Any, as_one: Any) -> None:
    """Each edge of each graph, by the name of its edge set."""
    explained = gx.explain(
        SIAMESE, as_one(PAIRS), gx.EdgeAblation(removal=removal), task="graph", undirected=False, progress=False
    )
    for e, data in zip(explained, PAIRS, strict=True):
        whole = call(SIAMESE, data).detach()
        torch.testing.assert_close(e.prediction, whole, rtol=0, atol=1e-9)
        assert list(e.edge_mask_dict) == ["edge_index_s", "edge_index_t"]
        for name, mask in e.edge_mask_dict.items():
            structural = [call(SIAMESE, without_edge(data, name, n)) for n in range(data[name].size(1))]
            if removal == "structural":
                wanted = torch.stack([margin(whole, e.target) - margin(out, e.target) for out in structural])
                torch.testing.assert_close(mask, wanted.detach(), rtol=0, atol=1e-9)
            else:
                assert mask.any()


def test_gradients_of_pairs() -> None:
    """By node set, each with its own features."""
    explained = gx.explain(SIAMESE, PAIRS, gx.Saliency(absolute=False), index=[4, 1], progress=False)
    for e, number in zip(explained, (4, 1), strict=True):
        data = copy.copy(PAIRS[number])
        for name in ("x_s", "x_t"):
            data[name] = data[name].clone().requires_grad_()
        slopes = torch.autograd.grad(margin(call(SIAMESE, data), e.target), [data.x_s, data.x_t])
        assert list(e.node_mask_dict) == ["x_s", "x_t"]
        for mask, slope in zip(e.node_mask_dict.values(), slopes, strict=True):
            torch.testing.assert_close(mask, slope, rtol=0, atol=1e-9)


class Linear(nn.Module):
    """The sum over messages of a number of their sender, with a factor of 3 in the second graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = SimpleConv(), nn.Parameter(torch.tensor([3.0], dtype=torch.float64))

    def forward(self, data: Any) -> Tensor:
        """`[G, 1]`."""
        s, t = self.conv(data.x_s, data.edge_index_s), self.weight * self.conv(data.x_t, data.edge_index_t)
        sums = [global_add_pool(s[:, :1], data.x_s_batch), global_add_pool(t[:, :1], data.x_t_batch)]
        return sums[0] + sums[1]


@pytest.mark.parametrize("algorithm", [gx.EdgeAblation(), gx.EdgeAblation(removal="structural"), "input_x_gradient"])
def test_linear_siamese_model(algorithm: Any) -> None:
    """The score of an edge is the number of its sender, times 3 in the second graph; of a feature, once for each edge."""
    explained = gx.explain(Linear(), PAIRS, algorithm, task=VALUE, undirected=False, progress=False)
    for e, data in zip(explained, PAIRS, strict=True):
        for end, factor in (("s", 1), ("t", 3)):
            sender, x = data[f"edge_index_{end}"][0], factor * data[f"x_{end}"][:, 0]
            torch.testing.assert_close(e.edge_mask_dict[f"edge_index_{end}"], x[sender], rtol=0, atol=1e-9)
            if algorithm == "input_x_gradient":
                wanted = torch.zeros_like(data[f"x_{end}"])
                wanted[:, 0] = x * torch.bincount(sender, minlength=len(x))
                torch.testing.assert_close(e.node_mask_dict[f"x_{end}"], wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", READY)
def test_pairs_are_explained_as_if_alone(name: str) -> None:
    """Whatever else is in the list, with every algorithm."""
    algorithm = gx.algorithms.get(name, **FEW.get(name, {}))
    together = gx.explain(SIAMESE, PAIRS, algorithm, progress=False)
    for number, e in enumerate(together):
        alone = gx.explain(SIAMESE, [PAIRS[number]], algorithm, progress=False)[0]
        require_same(by_identity(e), by_identity(alone), name)


def test_pairs_in_files_tables_and_pygs_form(tmp_path: Path) -> None:
    """Ids by the user's names, before and after."""
    explained = gx.explain(SIAMESE, PAIRS, gx.Saliency(), progress=False)
    again = gx.load(explained.save(tmp_path / "one.safetensors"))
    stored = gx.explain(SIAMESE, PAIRS, gx.Saliency(), progress=False, out=tmp_path / "run")
    for position, e in enumerate(explained):
        require_same(by_identity(e), by_identity(again[position]), "saved and loaded", 0.0)
        require_same(by_identity(e), by_identity(stored[position]), "in a folder")
    assert set(explained.to_pandas("edge")["edge_type"]) == {f"x_{end}→edge_index_{end}→x_{end}" for end in "st"}
    found = explained.to_pyg(1, PAIRS)
    assert isinstance(found, HeteroExplanation)
    assert torch.equal(found["x_s"].x, PAIRS[1].x_s)
    assert torch.equal(found["x_t", "edge_index_t", "x_t"].edge_mask, explained[1].edge_mask_dict["edge_index_t"])
    name, (u, v), score = explained[1].top_edges(1)[0]
    place = (PAIRS[1][name[1]] == torch.tensor([[u], [v]])).all(0)
    assert (explained[1].edge_mask_dict[name[1]][place] == score).any()


def test_what_counts_nodes_is_what_inc_says() -> None:
    """A number that is no tensor counts the nodes of a set as well."""

    class Counted(Pair):
        def __inc__(self, key: str, value: Any, *args: Any) -> Any:
            if key in ("edge_index_s", "edge_index_t"):
                return self[f"num_{key[-1]}"]
            return Data.__inc__(self, key, value, *args)

    class Sizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = SIAMESE

        def forward(self, data: Any) -> Tensor:
            count = torch.as_tensor(data.num_s).reshape(-1)
            owner = torch.arange(len(count)).repeat_interleave(count)
            return self.inner(
                data.x_s, data.edge_index_s, data.edge_weight_s, data.x_t, data.edge_index_t, owner, data.x_t_batch
            )

    pairs = [Counted(num_s=len(p.x_s), num_t=len(p.x_t), **p.to_dict()) for p in PAIRS]
    one = gx.explain(Sizes(), pairs, gx.EdgeAblation(), progress=False)
    other = gx.explain(SIAMESE, PAIRS, gx.EdgeAblation(), progress=False)
    for e, wanted in zip(one, other, strict=True):
        for name, mask in wanted.edge_mask_dict.items():
            torch.testing.assert_close(e.edge_mask_dict[name], mask)


def test_a_class_that_is_defined_again_has_its_own_rules() -> None:
    """PyG keeps one class of batches for each name, and a notebook may run the cell of a class twice."""
    for grows in (False, True):

        class Again(Data):
            counted: ClassVar[bool] = grows

            def __inc__(self, key: str, value: Any, *args: Any) -> Any:
                if key in ("edge_index_s", "edge_index_t"):
                    return self[f"x_{key[-1]}"].size(0) if self.counted else 0
                return super().__inc__(key, value, *args)

        graphs = [Again(**data.to_dict()) for data in PAIRS[:3]]
        if not grows:
            Batch.from_data_list(graphs)
            continue
        types = as_graphs(graphs, torch.device("cpu")).types
        assert types is not None
        assert types.names == ("x_s", "x_t")


def test_edges_between_the_graphs_of_a_pair() -> None:
    """An edge set with ends in two node sets."""
    pairs = []
    for number, data in enumerate(PAIRS[:4]):
        rng = torch.Generator().manual_seed(number)
        ends = [torch.randint(len(data[name]), (5,), generator=rng) for name in ("x_s", "x_t")]
        pairs.append(data.clone())
        pairs[-1].edge_index_st = torch.stack(ends)

    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.first = SAGEConv((3, 2), 3), GraphConv(3, 3)

        def forward(
            self, x_s: Tensor, x_t: Tensor, edge_index_s: Tensor, edge_index_st: Tensor, x_t_batch: Any
        ) -> Tensor:
            return global_mean_pool(self.conv((self.first(x_s, edge_index_s), x_t), edge_index_st), x_t_batch)

    model = seeded(lambda: Across().double())()

    def out(data: Any) -> Tensor:
        return model(data.x_s, data.x_t, data.edge_index_s, data.edge_index_st, None)[0].detach()

    algorithm = gx.EdgeAblation(removal="structural")
    for e, data in zip(gx.explain(model, pairs, algorithm, undirected=False, progress=False), pairs, strict=True):
        whole = margin(out(data), e.target)
        for name, mask in e.edge_mask_dict.items():
            wanted = [whole - margin(out(without_edge(data, name, n)), e.target) for n in range(len(mask))]
            torch.testing.assert_close(mask, torch.stack(wanted), rtol=0, atol=1e-9)
        assert not e.edge_mask_dict["edge_index_t"].any()


# Several edge sets between the same nodes ############################################################################


class Signed(nn.Module):
    """Two layers for friends and foes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SignedConv(3, 4, first_aggr=True), SignedConv(4, 4, first_aggr=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, pos_edge_index: Tensor, neg_edge_index: Tensor) -> Tensor:
        """`[N, 3]`."""
        z = self.first(x, pos_edge_index, neg_edge_index).tanh()
        return self.head(self.second(z, pos_edge_index, neg_edge_index).tanh())


def signed() -> Data:
    """A graph of friends and foes."""
    rng = torch.Generator().manual_seed(0)
    return Data(
        x=torch.randn(12, 3, generator=rng, dtype=torch.float64),
        pos_edge_index=torch.randint(12, (2, 14), generator=rng),
        neg_edge_index=torch.randint(12, (2, 9), generator=rng),
    )


@pytest.mark.parametrize("removal", ["message", "structural"])
def test_friends_and_foes(removal: Any) -> None:
    """Nodes of one graph with two edge sets, which count nodes as PyG has it."""
    data, model = signed(), seeded(lambda: Signed().double())()
    algorithm = gx.EdgeAblation(removal=removal)
    explained = gx.explain(model, data, algorithm, index=[0, 5, 7], undirected=False, progress=False)

    def out(data: Any, node: int) -> Tensor:
        return model(data.x, data.pos_edge_index, data.neg_edge_index)[node].detach()

    assert explained.exact.all()
    for e in explained:
        whole = out(data, e.index)
        torch.testing.assert_close(e.prediction, whole, rtol=0, atol=1e-9)
        for name, mask in e.edge_mask_dict.items():
            wanted = [
                margin(whole, e.target) - margin(out(without_edge(data, name, n), e.index), e.target)
                for n in range(len(mask))
            ]
            if removal == "structural":
                torch.testing.assert_close(mask, torch.stack(wanted), rtol=0, atol=1e-9)
    assert any(e.edge_mask_dict["neg_edge_index"].any() for e in explained)


@pytest.mark.parametrize("name", READY)
def test_nodes_with_several_edge_sets_are_explained_as_if_alone(name: str) -> None:
    """With every algorithm."""
    data, model = signed(), seeded(lambda: Signed().double())()
    algorithm = gx.algorithms.get(name, **FEW.get(name, {}))
    together = gx.explain(model, data, algorithm, index=[0, 5, 7], progress=False)
    for e in together:
        alone = gx.explain(model, data, algorithm, index=e.index, progress=False)[0]
        require_same(by_identity(e), by_identity(alone), name)
    assert torch.equal(together.to_pyg(0, data)["x"].x, data.x)


class Multiplex(nn.Module):
    """Messages along two edge sets in turn, sums of both, and the root of each graph; a third set is only asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = GraphConv(3, 4), GATConv(4, 4), nn.Linear(8, 3)

    def forward(self, data: Any) -> Tensor:
        """`[G, 3]`."""
        z = self.first(data.x, data.edge_index, data.edge_weight).tanh()
        z = self.second(z, data.spatial_index).tanh()
        asked = z[data.asked_index[0]] * z[data.asked_index[1]]
        owner = data.batch[data.asked_index[0]]
        return self.head(
            torch.cat([z[data.root_index], global_add_pool(asked, owner, data.num_graphs)], 1)
            + data.u[data.root_index * 0 + torch.arange(data.num_graphs)]
        )


def multiplex(seed: int) -> Data:
    """A graph with two edge sets, pairs that are asked about, and a root."""
    rng = torch.Generator().manual_seed(seed)
    size = 5 + seed % 3
    return Data(
        x=torch.randn(size, 3, generator=rng, dtype=torch.float64),
        edge_index=torch.randint(size, (2, 7), generator=rng),
        edge_weight=torch.rand(7, generator=rng, dtype=torch.float64) + 0.5,
        spatial_index=torch.randint(size, (2, 5 + seed % 2), generator=rng),
        asked_index=torch.randint(size, (2, 3), generator=rng),
        root_index=torch.tensor([seed % size]),
        u=torch.randn(1, 8, generator=rng, dtype=torch.float64),
        name=f"graph {seed}",
    )


@pytest.mark.parametrize("removal", ["message", "structural"])
def test_a_second_edge_set_is_one_that_the_model_passes_messages_on(removal: Any) -> None:
    """Others that name nodes are not, and follow; weights of the first set stay with it."""
    graphs, model = [multiplex(seed) for seed in range(4)], seeded(lambda: Multiplex().double())()

    def out(data: Data) -> Tensor:
        return model(Batch.from_data_list([data]))[0].detach()

    algorithm = gx.EdgeAblation(removal=removal)
    explained = gx.explain(model, graphs, algorithm, undirected=False, progress=False)
    for e, data in zip(explained, graphs, strict=True):
        whole = out(data)
        torch.testing.assert_close(e.prediction, whole, rtol=0, atol=1e-9)
        assert list(e.edge_mask_dict) == ["edge_index", "spatial_index"]
        for name, mask in e.edge_mask_dict.items() if removal == "structural" else ():
            left = [without_edge(data, name, number) for number in range(len(mask))]
            if name == "spatial_index":
                for one in left:
                    one.edge_weight = data.edge_weight
            wanted = torch.stack([margin(whole, e.target) - margin(out(one), e.target) for one in left])
            torch.testing.assert_close(mask, wanted, rtol=0, atol=1e-9)
    assert any(e.edge_mask_dict["spatial_index"].any() for e in explained)


@pytest.mark.parametrize("name", ["gnn_explainer", "node_ablation", "saliency", "feature_ablation"])
def test_graphs_with_several_edge_sets_are_explained_as_if_alone(name: str) -> None:
    """Nodes that leave take the edges of both sets with them; their features are masked once."""
    graphs, model = [multiplex(seed) for seed in range(4)], seeded(lambda: Multiplex().double())()
    algorithm = gx.algorithms.get(
        name, **FEW.get(name, {}), **{"removal": "message"} if name == "node_ablation" else {}
    )
    together = gx.explain(model, graphs, algorithm, progress=False)
    for number, e in enumerate(together):
        alone = gx.explain(model, [graphs[number]], algorithm, progress=False)[0]
        require_same(by_identity(e), by_identity(alone), name)


def test_pairs_that_no_layer_runs_on_are_no_edge_set() -> None:
    """Also where they are the edges once more, as labels often are."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GraphConv(3, 3)

        def forward(self, data: Any) -> Tensor:
            return self.conv(data.x, data.edge_index) + data.x[data.twin_index[0]].mean() * 0

    data = multiplex(1)
    data.twin_index = data.edge_index.clone()
    model = seeded(lambda: Both().double())()
    with pytest.warns(GnnXaiWarning, match="the model reads data.twin_index"):
        found = gx.explain(model, data, "edge_ablation", index=[0], task="node", progress=False)
    assert found.types is None


class Recurrent(nn.Module):
    """One layer for the edges of each point in time, into a recurrent cell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cell, self.head = GraphConv(3, 4), nn.GRUCell(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, edge_index_1: Tensor, edge_index_2: Tensor) -> Tensor:
        """`[N, 2]`."""
        hidden = x.new_zeros(len(x), 4)
        for time, edge_index in enumerate((edge_index_1, edge_index_2)):
            hidden = self.cell(self.conv(x[:, :, time], edge_index), hidden)
        return self.head(hidden)


def test_snapshots_are_scored_apart_and_features_at_each_time() -> None:
    """Gradients of `[N, F, T]`, side by side; each edge in its snapshot."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, 2, generator=rng, dtype=torch.float64)
    one, two = (torch.randint(7, (2, count), generator=rng) for count in (9, 6))
    data, model = Data(x=x, edge_index_1=one, edge_index_2=two), seeded(lambda: Recurrent().double())()
    at = x.clone().requires_grad_()
    slopes = gx.explain(model, data, gx.Saliency(absolute=False), index=[2, 5], progress=False)
    edges = gx.explain(model, data, gx.EdgeAblation(), index=[2, 5], undirected=False, progress=False)
    assert edges.exact.all()
    for s, e in zip(slopes, edges, strict=True):
        (wanted,) = torch.autograd.grad(margin(model(at, one, two)[s.index], s.target), at)
        torch.testing.assert_close(s.node_mask_dict["x"].reshape(7, 3, 2), wanted, rtol=0, atol=1e-9)
        whole = margin(model(x, one, two)[e.index], e.target).detach()
        for name, mask in e.edge_mask_dict.items():
            lefts = [without_edge(data, name, number) for number in range(len(mask))]
            outs = [model(x, left.edge_index_1, left.edge_index_2)[e.index].detach() for left in lefts]
            drops = torch.stack([whole - margin(out, e.target) for out in outs])
            torch.testing.assert_close(mask, drops, rtol=0, atol=1e-9)


# What is refused #####################################################################################################


def test_bad_pairs() -> None:
    """Nothing tells what ids count; names that do not tell; ids of nothing; none of the two."""
    plain = [Data(**data.to_dict()) for data in PAIRS[:2]]
    with pytest.raises(
        InputError, match=r"expected data whose __inc__\('edge_index_s', ...\) is the number of the nodes"
    ):
        gx.explain(SIAMESE, plain[0], "saliency", task="graph", progress=False)
    alike = [pair(seed, alike=True) for seed in range(2)]
    for data in alike:
        data.z = torch.ones(5)
    with pytest.raises(
        InputError, match="data.z has a row for each element of x_s and of x_t, or as many by coinc.*z_s"
    ):
        gx.explain(SIAMESE, alike, "saliency", progress=False)
    wrong = pair(0)
    wrong.edge_index_t[0, 0] = 3
    with pytest.raises(InputError, match="data.edge_index_t names node 3 of a graph that has 3 by data.x_t"):
        gx.explain(SIAMESE, [PAIRS[1], wrong], "saliency", progress=False)
    events = TemporalData(src=torch.tensor([0]), dst=torch.tensor([1]), t=torch.tensor([1]), msg=torch.ones(1, 1))
    with pytest.raises(InputError, match="expected graphs, got TemporalData, .* explain snapshots"):
        gx.explain(SIAMESE, events, "saliency", progress=False)
    with pytest.raises(InputError, match=r"expected node_type= .* say which of x_s, x_t"):
        gx.explain(SIAMESE, PAIRS[0], "saliency", progress=False)
