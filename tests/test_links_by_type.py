"""Edge-level tasks on heterogeneous graphs: pairs of a relation, against the model on the whole data, one pair at a time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GATConv, SAGEConv, to_hetero

import gnn_xai as gx
from gnn_xai.errors import InputError
from tests.covering import every_value
from tests.heterogeneous import Relations, seeded, without_edge, without_node
from tests.ready import READY

RATES, BACK, WROTE = ("user", "rates", "movie"), ("movie", "rev_rates", "user"), ("user", "wrote", "movie")
TASK = ModelConfig("binary_classification", "edge", "raw")
PAIRS = [(0, 1), (4, 2), (3, 5)]
FEW: dict[str, Any] = {
    "gnn_explainer": {"epochs": 5},
    "integrated_gradients": {"steps": 5},
    "smooth_grad": {"samples": 3},
    "shapley": {"exact_up_to": 2, "samples": 3},
    "fragment_shapley": {"exact_up_to": 2, "samples": 3},
    "subgraph_x": {"rollouts": 2, "samples": 3, "min_nodes": 3},
}


def ratings() -> HeteroData:
    """Users and movies, the movies with the smaller ids in the flat order: ids of users are not their flat ids."""
    rng, data = torch.Generator().manual_seed(0), HeteroData()
    data["movie"].x = torch.randn(7, 3, generator=rng, dtype=torch.float64)
    data["user"].x = torch.randn(6, 2, generator=rng, dtype=torch.float64)
    edges = torch.stack([torch.randint(6, (14,), generator=rng), torch.randint(7, (14,), generator=rng)])
    edges = torch.cat([edges, torch.tensor([[0, 4], [1, 2]])], 1).unique(dim=1)
    data[RATES].edge_index, data[BACK].edge_index = edges, edges.flip(0)
    data[WROTE].edge_index = torch.tensor([[0, 5], [1, 3]])
    data[RATES].edge_label_index = torch.tensor(PAIRS).t()
    return data


class Rated(Relations):
    """The product of what layers over all relations make of the two nodes of each pair."""

    def encode(self, x_dict: dict[str, Tensor], edge_index_dict: Any) -> dict[str, Tensor]:
        x = {name: self.encoders[name](value).tanh() for name, value in x_dict.items()}
        for layer in self.layers:
            new = layer(x, edge_index_dict)
            x = {name: value if new.get(name) is None else value + new[name].tanh() for name, value in x.items()}
        return x

    def decode(self, z: dict[str, Tensor], edge_label_index: Tensor) -> Tensor:
        return (z["user"][edge_label_index[0]] * z["movie"][edge_label_index[1]]).sum(1)

    def forward(self, x_dict: Any, edge_index_dict: Any, edge_label_index: Any) -> Tensor:  # pyright: ignore
        return self.decode(self.encode(x_dict, edge_index_dict), edge_label_index)


def model_of(kind: str = "sage") -> Rated:
    model = seeded(lambda: Rated(ratings(), kind, "user"))
    assert isinstance(model, Rated)
    return model


def explain(algorithm: Any = "saliency", model: nn.Module | None = None, data: Any = None, **options: Any) -> Any:
    if isinstance(algorithm, str):
        algorithm = gx.algorithms.get(algorithm, **FEW.get(algorithm, {}))
    options = {"task": TASK, "progress": False, **options}
    return gx.explain(model or model_of(), ratings() if data is None else data, algorithm, **options)


def logit(model: Rated, data: HeteroData, pair: tuple[int, int]) -> float:
    with torch.no_grad():
        return float(model(data.x_dict, data.edge_index_dict, torch.tensor(pair).unsqueeze(1)))


def by_identity(e: Any) -> dict[Any, Any]:
    """Scores by relation and edge, and by node."""
    found = {} if e.edge_mask is None else dict(e.edge_mask_dict)
    return found | ({} if e.node_mask is None else dict(e.node_mask_dict))


def require_same(one: Any, other: Any, tolerance: float = 1e-9) -> None:
    first, second = by_identity(one), by_identity(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=tolerance)


@every_value(name=READY, kind=["sage", "gat", "hgt"])
def test_pairs_are_explained_as_if_alone(name: str, kind: str) -> None:
    model = model_of(kind)
    together, backwards = explain(name, model), explain(name, model, index=PAIRS[::-1])
    assert bool(together.exact.all())
    for position, pair in enumerate(PAIRS):
        assert float(together.prediction[position]) == pytest.approx(logit(model, ratings(), pair), abs=1e-9)
        require_same(together[position], explain(name, model, index=pair, batch_budget=1)[0])
        require_same(together[position], backwards[2 - position])


@pytest.mark.parametrize("kind", ["sage", "transformer", "hgt"])
def test_ablations_are_the_model_on_data_without_an_edge_or_a_node(kind: str) -> None:
    model, data, sign = model_of(kind), ratings(), {True: 1, False: -1}
    edges = explain("edge_ablation", model, undirected=False)
    nodes = explain("node_ablation", model)
    for position, pair in enumerate(PAIRS):
        before = logit(model, data, pair)
        direction = sign[before > 0]
        for relation, mask in edges[position].edge_mask_dict.items():
            for number, got in enumerate(mask.tolist()):
                want = direction * (before - logit(model, without_edge(data, relation, number), pair))
                assert got == pytest.approx(want, abs=1e-9)
        for (what, number), got in zip(
            nodes[position].nodes, nodes[position].node_mask.flatten().tolist(), strict=True
        ):
            if (what, number) in (("user", pair[0]), ("movie", pair[1])):
                continue  # it stays, with features 0
            shifted = (
                pair[0] - (what == "user" and number < pair[0]),
                pair[1] - (what == "movie" and number < pair[1]),
            )
            want = direction * (before - logit(model, without_node(data, what, number), shifted))
            assert got == pytest.approx(want, abs=1e-9)


def test_every_way_to_hand_a_model_its_pairs_gives_the_same() -> None:
    model, want = model_of(), explain("input_x_gradient")

    class ByDict(Rated):
        def forward(self, x_dict: Any, edge_index_dict: Any, edge_label_index_dict: Any) -> Tensor:  # pyright: ignore
            return self.decode(self.encode(x_dict, edge_index_dict), edge_label_index_dict[RATES])

    class Coder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model_of()
            self.encode, self.decode = self.inner.encode, self.inner.decode

        def forward(self) -> None:
            raise NotImplementedError

    by_dict = seeded(lambda: ByDict(ratings(), "sage", "user"))
    from_store = lambda model, data: model(data.x_dict, data.edge_index_dict, data[RATES].edge_label_index)  # noqa: E731
    for found in (
        explain("input_x_gradient", by_dict),
        explain("input_x_gradient", Coder()),
        explain("input_x_gradient", forward=from_store),
        explain("input_x_gradient", index=torch.tensor(PAIRS).t(), edge_type=RATES),
        explain("input_x_gradient", index=[0, 1, 2]),
        gx.explain(gx.prepare(model, ratings(), task=TASK, edge_type=RATES), "input_x_gradient", progress=False),
    ):
        for one, other in zip(want, found, strict=True):
            require_same(one, other)


def test_the_example_of_pyg() -> None:
    """Layers that `to_hetero` makes, with a decoder over the types' representations."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = SAGEConv((-1, -1), 8), GATConv((-1, -1), 8, add_self_loops=False)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv2(self.conv1(x, edge_index).relu(), edge_index)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = to_hetero(Encoder(), ratings().metadata(), aggr="sum")
            self.decoder = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))

        def forward(self, x_dict: Any, edge_index_dict: Any, edge_label_index: Tensor) -> Tensor:
            z, (row, col) = self.encoder(x_dict, edge_index_dict), edge_label_index
            return self.decoder(torch.cat([z["user"][row], z["movie"][col]], dim=-1)).view(-1)

    model = Model().double().eval()
    data = ratings()
    with torch.no_grad():
        want = model(data.x_dict, data.edge_index_dict, data[RATES].edge_label_index)
    task = ModelConfig("regression", "edge", "raw")
    found = explain("integrated_gradients", model, data, task=task)
    torch.testing.assert_close(found.prediction[:, 0], want)
    assert found.explained_type == RATES
    assert found[0].name == "user 0–movie 1"


def test_the_own_edge_of_a_pair_and_its_reverse() -> None:
    """Not the edge of another relation between the same nodes."""
    own, others = explain("edge_ablation")[0], explain("edge_ablation", exclude_pair=True)[0]
    place = {(RATES, (0, 1)), (BACK, (1, 0))}
    kept = [{(relation, ends) for relation, ends, _ in e.top_edges(99)} for e in (own, others)]
    assert kept[0] - kept[1] == place & kept[0]
    assert (WROTE, (0, 1)) in kept[1]


def test_files_runs_tables_figures_and_metrics(tmp_path: Path) -> None:
    explanations = explain("saliency")
    again = gx.load(explanations.save(tmp_path / "pairs.safetensors"))
    stored = explain("saliency", out=tmp_path / "run")
    for one, saved, kept in zip(explanations, again, stored, strict=True):
        require_same(one, saved, 0.0)
        require_same(one, kept)
        assert one.name == saved.name == kept.name
    assert again.explained_type == stored[0].source.explained_type == RATES
    assert explanations.index.tolist() == [list(pair) for pair in PAIRS]
    assert explanations.to_pyg(0).validate(raise_on_error=True)
    axes = explanations[0].draw()
    assert "user 0–movie 1" in axes.figure._suptitle.get_text() if axes.figure._suptitle else axes.get_title(loc="left")
    result = gx.metrics.fidelity(model_of(), ratings(), explanations, top=3)
    assert result.plus.count == len(PAIRS)
    table = gx.compare(
        model_of(), ratings(), ["saliency"], ["fidelity", "seed_stability"], task=TASK, edge_type=RATES, progress=False
    )
    assert table.explanations["saliency"].explained_type == RATES


def test_nodes_of_a_type_that_is_not_the_first_are_kept_in_a_run(tmp_path: Path) -> None:
    """A run on disk counts the nodes within their type, as a call without `out` does."""
    model = seeded(lambda: Relations(ratings(), "sage", "user"))
    options: dict[str, Any] = {"node_type": "user", "index": [5, 0], "progress": False}
    one = gx.explain(model, ratings(), "saliency", **options)
    stored = gx.explain(model, ratings(), "saliency", out=tmp_path / "run", **options)
    for first, second in zip(one, stored, strict=True):
        assert first.index == second.index
        require_same(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge_type": ("user", "rate", "movie")}, r"did you mean \('user', 'rates', 'movie'\)\?"),
        ({"edge_type": "rates"}, r"expected edge_type= as \(source type, name, target type\), got 'rates'"),
        ({"node_type": "user"}, "expected edge_type= for an edge-level task, got node_type='user'"),
        ({"node_type": "user", "edge_type": RATES}, "got both"),
        ({"index": (6, 0)}, r"pair \(6, 0\) is out of range; expected user 0 to 5 and movie 0 to 6"),
        ({"index": []}, "at least one pair"),
        ({"index": None, "edge_type": WROTE}, "expected index= as pairs of nodes"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(**options)


def test_several_relations_that_pairs_may_be_of() -> None:
    data = ratings()
    del data[RATES].edge_label_index
    with pytest.raises(
        InputError, match="expected edge_type= for pairs of a heterogeneous graph, got none; say which of"
    ):
        explain(data=data, index=(0, 1))
    explain(data=data, index=(0, 1), edge_type=RATES)
    homogeneous = data.to_homogeneous()
    with pytest.raises(InputError, match="expected edge_type= for HeteroData alone"):
        gx.explain(model_of(), homogeneous, "saliency", task=TASK, edge_type=RATES, index=(0, 1), progress=False)


def others(seed: int) -> HeteroData:
    """A graph of other sizes than `ratings`, with pairs of its own."""
    rng, data = torch.Generator().manual_seed(seed), HeteroData()
    sizes = {"movie": 3 + seed, "user": 4 + seed % 2}
    for (name, size), width in zip(sizes.items(), (3, 2), strict=True):
        data[name].x = torch.randn(size, width, generator=rng, dtype=torch.float64)
    ends = [torch.randint(sizes[name], (8,), generator=rng) for name in ("user", "movie")]
    data[RATES].edge_index = torch.stack(ends).unique(dim=1)
    data[BACK].edge_index, data[WROTE].edge_index = data[RATES].edge_index.flip(0), torch.tensor([[1], [0]])
    data[RATES].edge_label_index = torch.tensor([[0, 2], [2, 1]])
    return data


@pytest.mark.parametrize("together", [list, Batch.from_data_list])
@pytest.mark.parametrize("algorithm", ["saliency", "edge_ablation", "node_ablation", "integrated_gradients"])
def test_pairs_of_several_graphs_are_explained_as_if_alone(algorithm: str, together: Any) -> None:
    """Pairs are counted over all graphs; those that the data names are found in a list as in a batch."""
    graphs = [others(seed) for seed in range(3)]
    model = model_of()
    found = explain(algorithm, model, together(graphs))
    users, movies = ([graph[name].num_nodes for graph in graphs] for name in ("user", "movie"))
    assert found.index.tolist() == [
        [u + sum(users[:at]), v + sum(movies[:at])] for at in range(3) for u, v in ((0, 2), (2, 1))
    ]
    for at, graph in enumerate(graphs):
        for number, e in enumerate(explain(algorithm, model, graph)):
            other = found[2 * at + number]
            for one, same in ((e.edge_mask, other.edge_mask), (e.node_mask, other.node_mask)):
                assert (one is None) == (same is None)
                if one is not None:
                    torch.testing.assert_close(one, same, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="both nodes of a pair in one graph"):
        explain(algorithm, model, together(graphs), index=(0, movies[0]))


def test_data_is_left_as_it_was() -> None:
    data = ratings()
    before = copy.deepcopy(data)
    explain("gnn_explainer", data=data)
    for store, other in zip(data.stores, before.stores, strict=True):
        assert list(store.keys()) == list(other.keys())
        assert all(torch.equal(value, other[key]) for key, value in store.items())


def test_a_predicted_relation_need_have_no_edges() -> None:
    """Planted paths are found, also where the relation that is predicted is no input of the model."""
    paths = gx.datasets.load("user_item_paths")
    assert paths.ground_truth is not None
    links = paths.ground_truth.pairs[:, :12]
    explanations = gx.explain(paths.model, paths.data, "edge_ablation", task="edge", index=links, progress=False)
    assert explanations.explained_type == ("user", "likes", "item")
    assert float(gx.metrics.roc_auc(explanations, paths.ground_truth).mean) > 0.95
    assert explanations.to_pyg(0).validate(raise_on_error=True)
    whole = gx.explain(
        paths.model, paths.data, "edge_ablation", task="edge", index=links, exclude_pair=True, progress=False
    )
    assert torch.equal(whole.edge_mask, explanations.edge_mask)
