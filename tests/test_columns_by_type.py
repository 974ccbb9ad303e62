"""Attributes of node types and relations are scored: by name, by type, in every engine, in the user's own ids.

The file was seen to fail when the code was broken: values written to other nodes than those of the type, types of masks
lost, ids of tables counted through all types.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.data import HeteroData

import gnn_xai as gx
from gnn_xai.errors import InputError
from tests import models

USER, ITEM = "user", "item"
LIKED, KNOWS = (ITEM, "liked by", USER), (USER, "knows", USER)
TITLES = ("user.pos", "item.pos", "item→liked by→user.edge_attr", "user→knows→user.edge_attr")
ALL = {USER: ["pos"], ITEM: ["pos"], LIKED: ["edge_attr"], KNOWS: ["edge_attr"]}
TASK = {"mode": "regression", "task_level": "node", "return_type": "raw"}


class Messages(pyg.MessagePassing):
    """Σ over edges of what is linear in the sender's features and position, and in the edge's attribute."""

    def __init__(self, features: int) -> None:
        super().__init__(aggr="add")
        self.of_x, self.of_pos, self.of_edge = (nn.Linear(width, 3, bias=False) for width in (features, 2, 2))

    def forward(self, x: Any, pos: Any, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x, pos=pos, edge_attr=edge_attr, size=(len(x[0]), len(x[1])))

    def message(self, x_j: Tensor, pos_j: Tensor, edge_attr: Tensor) -> Tensor:  # pyright: ignore
        return self.of_x(x_j) + self.of_pos(pos_j) + self.of_edge(edge_attr)


class Shop(nn.Module):
    """Users by what they and their friends like; linear, or with a second layer among friends."""

    def __init__(self, linear: bool = False) -> None:
        super().__init__()
        self.liked, self.knows, self.again = Messages(2), Messages(3), Messages(3)
        self.last, self.linear = nn.Linear(3, 1), linear

    def forward(self, x_dict: Any, edge_index_dict: Any, edge_attr_dict: Any, pos_dict: Any) -> Tensor:
        users, items = (x_dict[USER], pos_dict[USER]), (x_dict[ITEM], pos_dict[ITEM])
        friends = edge_index_dict[KNOWS], edge_attr_dict[KNOWS]
        x = self.knows((users[0], users[0]), (users[1], users[1]), *friends)
        x = x + self.liked((items[0], users[0]), (items[1], users[1]), edge_index_dict[LIKED], edge_attr_dict[LIKED])
        if not self.linear:
            x = x.tanh()
            x = x + self.again((x, x), (users[1], users[1]), *friends).tanh()
        return self.last(x)


def shop(seed: int = 0, users: int = 5, items: int = 6) -> HeteroData:
    rng, data = torch.Generator().manual_seed(seed), HeteroData()

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    data[USER].x, data[ITEM].x = random(users, 3), random(items, 2)
    data[USER].pos, data[ITEM].pos = random(users, 2), random(items, 2)
    for relation, sources, count in ((LIKED, items, 8), (KNOWS, users, 6)):
        ends = torch.randint(sources, (count,), generator=rng), torch.randint(users, (count,), generator=rng)
        data[relation].edge_index, data[relation].edge_attr = torch.stack(ends), random(count, 2)
    data[KNOWS].weight, data.u = random(6), random(1, 2)
    return data


def made(**options: Any) -> Any:
    return models.seeded(lambda: Shop(**options)).double()


def explain(model: nn.Module, data: Any, algorithm: Any, **options: Any) -> gx.Explanations:
    return gx.explain(model, data, algorithm, **{"task": TASK, "node_type": USER, "progress": False, **options})


def run(model: nn.Module, data: HeteroData, changed: HeteroData | None = None) -> Tensor:
    data = data if changed is None else changed
    return model(data.x_dict, data.edge_index_dict, data.edge_attr_dict, data.pos_dict)[:, 0]


def close(one: Tensor, other: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "algorithm",
    [
        gx.InputXGradient(columns=ALL),
        gx.IntegratedGradients(columns=ALL, edge_mask_type=None),
        gx.FeatureAblation(columns=["pos", "edge_attr"]),
        gx.Captum("InputXGradient", columns=ALL),
    ],
)
def test_a_linear_model_in_closed_form(algorithm: Any) -> None:
    """Every score of a position or of an edge's attribute is its value times a weight, once for each message."""
    model, data = made(linear=True), shop()
    found, last = explain(model, data, algorithm), model.last.weight[0].detach()
    for e in found:
        for relation, layer in ((LIKED, model.liked), (KNOWS, model.knows)):
            (source, target), attr = data[relation].edge_index, data[relation].edge_attr
            reaches = (target == e.index).double().unsqueeze(1)
            close(e.column_dict[relation]["edge_attr"], reaches * attr * (last @ layer.of_edge.weight.detach()))
            pull = reaches * (last @ layer.of_pos.weight.detach())
            pos = data[relation[0]].pos
            close(e.column_dict[relation[0]]["pos"], torch.zeros_like(pos).index_add(0, source, pull) * pos)
    assert set(found.columns) == set(TITLES)


def test_gradients_are_those_of_the_whole_data() -> None:
    model, data = made(), shop(1)
    found = explain(model, data, gx.Saliency(columns=["pos", "edge_attr"]))
    changed = shop(1)
    leaves = [changed[holder][names[0]].requires_grad_() for holder, names in ALL.items()]
    for e in found:
        gradients = torch.autograd.grad(run(model, changed)[e.index], leaves)
        for (holder, (name,)), gradient in zip(ALL.items(), gradients, strict=True):
            close(e.column_dict[holder][name], gradient.abs())


@pytest.mark.parametrize("kind", ["object", "attributes", "common_attributes"])
def test_ablation_is_one_change_at_a_time(kind: Any) -> None:
    model, data = made(), shop(2)
    e = explain(model, data, gx.FeatureAblation(columns={ITEM: {"pos": kind}, KNOWS: {"edge_attr": kind}}), index=[1])[
        0
    ]
    full = run(model, data)[1].detach()
    for holder, name in ((ITEM, "pos"), (KNOWS, "edge_attr")):
        scores = e.column_dict[holder][name]
        for row, column in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist():
            changed = shop(2)
            rows = slice(None) if kind == "common_attributes" else row
            changed[holder][name][rows, slice(None) if kind == "object" else column] = 0
            close(scores[row, column], full - run(model, changed)[1].detach())


def test_alone_is_as_together_and_in_any_batch() -> None:
    model, data = made(), shop(3)
    columns: Any = {USER: {"pos": "object"}, "edge_attr": "attributes", ITEM: {"pos": "common_attributes"}}
    algorithm = gx.GNNExplainer(epochs=8, columns=columns)
    together = explain(model, data, algorithm)
    for options in ({"batch_budget": 1}, {"index": [4, 1, 1]}):
        for e in explain(model, data, algorithm, **options):
            for name, scores in together[e.index].columns.items():
                close(e.columns[name], scores, 1e-6)
    assert {name: kind for name, (_, kind) in together.column_types.items()} == {
        "user.pos": "object",
        "item→liked by→user.edge_attr": "attributes",
        "user→knows→user.edge_attr": "attributes",
        "item.pos": "common_attributes",
    }


def test_a_node_that_nobody_reaches_in_the_last_step_is_reached_before() -> None:
    """User 3 has no friends, and one item: alone, too, its computation graph is this one edge."""
    model, data = made(), shop(2)
    alone = explain(model, data, gx.Saliency(columns=ALL), index=[3])
    assert (alone.hops.tolist(), alone.edge_ptr.tolist()) == ([2], [0, 1])
    close(alone.columns["item.pos"], explain(model, data, gx.Saliency(columns=ALL))[3].columns["item.pos"])


def test_what_is_learned_is_of_its_own_type() -> None:
    """Masks of what another type holds are 0; masks are the same whether other attributes are scored or not."""
    model, data = made(), shop(2)
    e = explain(
        model, data, gx.GNNExplainer(epochs=5, columns={ITEM: ["pos"], LIKED: ["edge_attr"]}, edge_size=0), index=[0]
    )[0]
    items = e.node_type == 1
    assert bool((e.columns["item.pos"][items] > 0).all())
    assert not bool(e.columns["item.pos"][~items].any())
    liked = e.edge_type == 0
    scores = e.columns["item→liked by→user.edge_attr"]
    assert bool((scores[liked] > 0).any())
    assert not bool(scores[~liked].any())


def test_noise_leaves_other_types_in_play_as_they_are() -> None:
    """Its size is a fraction of the range of the type's own rows; with rows of users, that would be 100 times as large."""
    model, data, handed = made(linear=True), shop(2), []
    data[ITEM].pos = data[ITEM].pos + 300

    def forward(model: nn.Module, part: Any) -> Tensor:
        handed.append({name: pos.detach().clone() for name, pos in part.pos_dict.items()})
        return run(model, part).unsqueeze(1)

    smooth = gx.SmoothGrad(samples=1, columns={ITEM: ["pos"]}, node_mask_type=None, edge_mask_type=None, absolute=False)
    e = explain(model, data, smooth, index=[1], forward=forward)[0]
    own = {name: data[name].pos[e.node_number[e.node_type == kind]] for kind, name in enumerate((USER, ITEM))}
    calls = [call for call in handed if all(call[name].shape == pos.shape for name, pos in own.items())]
    noise = max(float((call[ITEM] - own[ITEM]).abs().max()) for call in calls if torch.equal(call[USER], own[USER]))
    assert 0 < noise < smooth.noise * 4 * float(own[ITEM].max() - own[ITEM].min())
    assert not bool(e.columns["item.pos"][e.node_type == 0].any())
    plain = gx.Saliency(columns={ITEM: ["pos"]}, node_mask_type=None)
    close(e.column_dict[ITEM]["pos"].abs(), explain(model, data, plain)[1].column_dict[ITEM]["pos"])


def test_predictions_under_masks_and_fidelity() -> None:
    """Soft masks multiply the attributes of their type, as written out by hand."""
    model, data = made(), shop(2)
    algorithm = gx.GNNExplainer(epochs=4, node_mask_type=None, edge_mask_type=None, columns=ALL)
    found = explain(model, data, algorithm, index=[0, 1, 2])
    for e in found:
        changed = shop(2)
        for holder, columns in e.column_dict.items():
            for name, mask in columns.items():
                inside = (
                    e.node_type == (holder == ITEM) if isinstance(holder, str) else e.edge_type == (holder == KNOWS)
                )
                rows = (e.node_number if isinstance(holder, str) else e.edge_number)[inside]
                changed[holder][name][rows] *= mask[rows]
        close(e.prediction_masked, run(model, data, changed)[e.index : e.index + 1].detach())
    again = gx.metrics.fidelity(model, data, found, top=None)
    assert bool(again.isfinite().all() if isinstance(again, Tensor) else True)


def test_files_tables_and_pyg_name_column_and_type(tmp_path: Path) -> None:
    model, data = made(), shop(6)
    found = explain(model, data, gx.Saliency(columns=ALL))
    loaded: Any = gx.load(found.save(tmp_path / "shop.safetensors"))
    for name, scores in found.columns.items():
        assert torch.equal(loaded.columns[name], scores)
    assert torch.equal(loaded[2].column_dict[ITEM]["pos"], found[2].column_dict[ITEM]["pos"])
    table = found.to_pandas("column")
    rows = table[(table.position == 2) & (table.column == "item.pos") & (table.feature == 1)]
    mask = found[2].column_dict[ITEM]["pos"]
    assert rows.element.tolist() == found[2].node_number[found[2].node_type == 1].tolist()
    close(torch.tensor(rows.score.tolist(), dtype=torch.float64), mask[rows.element.tolist(), 1])
    out: Any = found.to_pyg(2)
    assert torch.equal(out[ITEM].pos_mask, mask)
    assert out[KNOWS].edge_attr_mask.shape == data[KNOWS].edge_attr.shape
    name, feature, score = found[2].top_columns(1)[0]
    assert name in TITLES
    assert abs(score - float(found[2].columns[name].sum(0)[feature])) < 1e-12


def test_codes_of_a_relation_through_an_embedding() -> None:
    """Integer codes of edges get factors on what they are embedded as, as in homogeneous graphs."""

    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.shop = nn.Embedding(4, 2), Shop(linear=True)

        def forward(self, x_dict: Any, edge_index_dict: Any, edge_attr_dict: Any, pos_dict: Any) -> Tensor:
            edges = {**edge_attr_dict, KNOWS: self.table(edge_attr_dict[KNOWS])}
            return self.shop(x_dict, edge_index_dict, edges, pos_dict)

    model: Any = models.seeded(Coded).double()
    data = shop(7)
    data[KNOWS].edge_attr = torch.arange(6) % 4
    e = explain(model, data, gx.InputXGradient(columns={KNOWS: ["edge_attr"]}), index=[1])[0]
    weight = (model.shop.last.weight[0] @ model.shop.knows.of_edge.weight).detach()
    reaches = data[KNOWS].edge_index[1] == 1
    expected = reaches * (model.table.weight.detach()[data[KNOWS].edge_attr] @ weight)
    close(e.column_dict[KNOWS]["edge_attr"][:, 0], expected)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"usr": ["pos"]}, r"unknown attribute of the data in columns= 'usr.pos'; did you mean 'user.pos'\?"),
        ("positions", "unknown attribute of the data in columns= 'positions'"),
        ({USER: ["x"]}, "beside x and edge_index in columns=, got 'user.x'; use node_mask_type="),
        ({USER: []}, "names of attributes listed under a node type or relation, such as"),
        ({USER: {"pos": "rows"}}, "as one of 'attributes', got 'rows'"),
        ("u", r"got data.u \(one tensor of shape \[1, 2\]\), which no mask multiplies; leave it out; it has item.pos"),
        ({KNOWS: ["weight"]}, "expected attributes that the model reads in columns=, got 'user→knows→user.weight'"),
    ],
)
def test_refusals(columns: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(made(), shop(), gx.Saliency(columns=columns))
