"""Attributes beside x are scored: edge attributes, weights, positions, attributes of graphs, codes and numbers.

The file was seen to fail when the code was broken: directions not tied or tied where values differ, the fused way kept,
placeholders numbered anew in each column, casts let through, units of nothing scored, regularisers over the batch, columns
left out of predictions under masks, levels mixed up in selection, columns of removed edges kept.
"""

# pyright: reportCallIssue=false, reportIncompatibleMethodOverride=false
# (modules are attributes of modules, and a layer names the arguments of its messages)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.utils import to_undirected

import gnn_xai as gx
from gnn_xai import extend
from gnn_xai.core.arrays.keyed_random import keyed_normal
from gnn_xai.core.engines.scored import Scored
from gnn_xai.errors import InputError, StorageError
from tests import models

COLUMNS = ("edge_attr", "edge_weight", "pos", "u")
TASK = ModelConfig("regression", "graph", "raw")


class Messages(pyg.MessagePassing):
    """Σ over edges of weight · (x[source] + edge_attr + |pos difference|²)."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(self, x: Tensor, pos: Tensor, edge_index: Tensor, edge_attr: Tensor, edge_weight: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x, pos=pos, edge_attr=edge_attr, edge_weight=edge_weight)

    def message(self, x_j: Tensor, pos_i: Tensor, pos_j: Tensor, edge_attr: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.unsqueeze(1) * (x_j + edge_attr + (pos_i - pos_j).square().sum(1, keepdim=True))


class Everything(nn.Module):
    """Two layers that read every attribute, and `u` added at the readout."""

    def __init__(self, linear: bool = False, graphs: bool = True) -> None:
        super().__init__()
        self.layer, self.linear, self.graphs = Messages(), linear, graphs
        self.first, self.last, self.of_u = nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(2, 1, bias=False)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor,
        edge_weight: Tensor,
        u: Tensor,
        batch: Tensor,
    ) -> Tensor:
        for _ in range(1 if self.linear else 2):
            x = self.layer(x, pos, edge_index, edge_attr, edge_weight)
            x = x if self.linear else self.first(x).tanh()
        if not self.graphs:
            return self.last(x) + self.of_u(u)[batch]
        return self.last(pyg.global_add_pool(x, batch)) + self.of_u(u)


def graph(seed: int, nodes: int = 5, edges: int = 6, alike: bool = True) -> Any:
    """An undirected graph with every attribute; both directions of an edge have the same, or other ones."""
    rng = torch.Generator().manual_seed(seed)
    pairs = torch.combinations(torch.arange(nodes)).t()
    pairs = pairs[:, torch.randperm(pairs.size(1), generator=rng)[:edges]]
    count = edges if alike else 2 * edges

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    attr, weight = random(count, 3), random(count).abs() + 0.2
    data = Data(x=random(nodes, 3), edge_index=torch.cat([pairs, pairs.flip(0)], 1), pos=random(nodes, 2))
    data.edge_attr = torch.cat([attr, attr]) if alike else attr
    data.edge_weight = torch.cat([weight, weight]) if alike else weight
    data.u = random(1, 2)
    return data


def made(model: type[nn.Module] = Everything, **options: Any) -> Any:
    return models.seeded(lambda: model(**options)).double()


def explain(model: Any, data: Any, algorithm: Any, **options: Any) -> Any:
    return gx.explain(model, data, algorithm, **{"task": TASK, "progress": False, **options})


def run(model: nn.Module, data: Any, **values: Tensor) -> Tensor:
    """The output on one graph with other values of some attributes."""
    given = {name: data[name] for name in ("x", "edge_index", *COLUMNS)} | values
    return model(**given, batch=torch.zeros(data.num_nodes, dtype=torch.int64))[0, 0]


def close(one: Tensor, other: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)


def both_ways(values: Tensor) -> Tensor:
    """The sum of the two directions of each edge, on both."""
    first, second = values.chunk(2)
    return torch.cat([first + second, first + second])


# Closed forms and plain loops ############################################################################################


def test_a_linear_model_in_closed_form() -> None:
    """Where messages are weight · (x + edge_attr + d²) and all is added up, every score is known."""
    model, data = made(linear=True), graph(0)
    weight, of_u = model.last.weight[0].detach(), model.of_u.weight[0].detach()
    e = explain(model, [data], gx.InputXGradient(columns=COLUMNS))[0]
    source, target = data.edge_index
    attr = data.edge_weight.unsqueeze(1) * data.edge_attr * weight
    close(e.columns["edge_attr"], both_ways(attr))
    distance = (data.pos[target] - data.pos[source]).square().sum(1, keepdim=True)
    message = data.edge_weight * ((data.x[source] + data.edge_attr + distance) @ weight)
    close(e.columns["edge_weight"], both_ways(message).unsqueeze(1))
    close(e.columns["u"], data.u[0] * of_u)
    pull = 2 * data.edge_weight.unsqueeze(1) * (data.pos[target] - data.pos[source]) * weight.sum()
    pos = torch.zeros_like(data.pos).index_add(0, target, pull).index_add(0, source, -pull)
    close(e.columns["pos"], pos * data.pos)
    by_rows = gx.FeatureAblation(columns={"edge_attr": "object", "u": "attributes"}, node_mask_type=None)
    ablated = explain(model, [data], by_rows)[0]
    close(ablated.columns["edge_attr"], both_ways(attr.sum(1, keepdim=True)))
    close(ablated.columns["u"], data.u[0] * of_u)


@pytest.mark.parametrize("alike", [True, False])
def test_gradients_are_those_of_the_whole_data(alike: bool) -> None:
    """Directions with the same values share a gradient, their sum; others have their own."""
    model, data = made(), graph(1, alike=alike)
    leaves = {name: data[name].clone().requires_grad_() for name in COLUMNS}
    gradients = dict(zip(COLUMNS, torch.autograd.grad(run(model, data, **leaves), list(leaves.values())), strict=True))
    e = explain(model, [graph(2), data], gx.Saliency(columns=COLUMNS), index=[1])[0]
    for name, gradient in gradients.items():
        gradient = both_ways(gradient) if alike and name.startswith("edge") else gradient
        close(e.columns[name], gradient.reshape(e.columns[name].shape).abs())


@pytest.mark.parametrize("kind", ["object", "attributes", "common_attributes"])
def test_ablation_is_one_change_at_a_time(kind: Any) -> None:
    model, data = made(), graph(3)
    data.edge_attr[[1, 7]] = 0  # a row that cannot change anything, and is not run
    e = explain(model, [graph(4), data], gx.FeatureAblation(columns=dict.fromkeys(COLUMNS, kind)))[1]  # pyright: ignore
    full = run(model, data)
    for name in COLUMNS:
        values, scores = data[name].reshape(len(data[name]), -1), e.columns[name]
        scores = scores.unsqueeze(0) if scores.dim() == 1 else scores
        for row, column in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist():
            changed = values.clone()
            rows = slice(None) if kind == "common_attributes" else [row]
            if kind != "common_attributes" and name.startswith("edge"):
                rows = [row % 6, row % 6 + 6]
            changed[rows, slice(None) if kind == "object" else slice(column, column + 1)] = 0
            drop = full - run(model, data, **{name: changed.reshape(data[name].shape)})
            close(scores[row, column], drop.detach())


def test_completeness_with_every_attribute() -> None:
    model, data = made(), [graph(5), graph(6, alike=False)]
    found = explain(model, data, gx.IntegratedGradients(steps=80, columns=COLUMNS))
    assert float(found.extras["completeness_error"].abs().max()) < 1e-6
    zeros = {name: torch.zeros_like(data[1][name]) for name in ("x", *COLUMNS)}
    change = run(model, data[1]) - run(model, data[1], **zeros)
    once = found[1].edge_mask[:6].sum()  # tied; the directions of columns have values of their own
    total = once + found[1].node_mask.sum() + sum(scores.sum() for scores in found[1].columns.values())
    close(total, change.detach(), 1e-6)


def test_masks_are_learned_as_in_a_plain_loop() -> None:
    """Adam on one mask for each unit, with the regularisers of node masks."""
    model, data = made(), graph(7)
    kinds: dict[str, Any] = {"edge_attr": "object", "pos": "attributes", "u": "common_attributes"}
    algorithm = gx.GNNExplainer(epochs=12, lr=0.1, columns=kinds, node_mask_type=None, edge_mask_type=None)
    found = explain(model, [graph(8), data], algorithm, seed=3)
    prediction, key = run(model, data).detach(), _instance_key(data)
    starts = {
        "edge_attr": (torch.arange(6).unsqueeze(1), torch.zeros(1, dtype=torch.int64)),
        "pos": (torch.arange(5).unsqueeze(1), torch.arange(2)),
        "u": (torch.full((1, 1), -1), torch.arange(2)),
    }
    theta = {}
    for name, (row, feature) in starts.items():
        keys = key, row, feature, torch.tensor(Scored(name, "edge", "object").key), torch.tensor(1)
        theta[name] = (0.01 * keyed_normal(3, *keys)).requires_grad_()
    optimizer = torch.optim.Adam(theta.values(), lr=0.1)
    for _ in range(12):
        optimizer.zero_grad()
        masks = {name: value.sigmoid() for name, value in theta.items()}
        spread = {**masks, "edge_attr": masks["edge_attr"].repeat(2, 1)}
        out = run(model, data, **{name: data[name] * mask for name, mask in spread.items()})
        loss = (out - prediction).square()
        for mask in masks.values():
            entropy = -mask * mask.log() - (1 - mask) * (1 - mask).log()
            loss = loss + mask.mean() + 0.1 * entropy.mean()
        loss.backward()
        optimizer.step()
    close(found[1].columns["edge_attr"], theta["edge_attr"].sigmoid().detach().repeat(2, 1), 1e-6)
    close(found[1].columns["pos"], theta["pos"].sigmoid().detach(), 1e-6)
    close(found[1].columns["u"], theta["u"].sigmoid().detach()[0], 1e-6)


def _instance_key(data: Data) -> Tensor:
    from gnn_xai.core.graphs.reading import as_graphs

    return as_graphs([data], torch.device("cpu")).graph_key


@pytest.mark.parametrize("kind", ["attributes", "object", "common_attributes"])
def test_captum_gives_the_same(kind: Any) -> None:
    model, data = made(), [graph(9), graph(10)]
    captum = gx.Captum("IntegratedGradients", n_steps=20, columns=dict.fromkeys(COLUMNS, kind))  # pyright: ignore
    found = explain(model, data, captum)
    ours = explain(model, data, gx.IntegratedGradients(steps=20, columns=COLUMNS))
    for name in COLUMNS:
        for e, f in zip(found, ours, strict=True):
            scores = f.columns[name]
            if kind == "object":
                scores = scores.sum(-1, keepdim=True)
            elif kind == "common_attributes" and name != "u":
                scores = (scores[: len(scores) // 2] if name.startswith("edge") else scores).sum(0)
            close(e.columns[name], scores, 1e-6)


def test_noise_averages_to_the_gradient_of_a_linear_part() -> None:
    model, data = made(linear=True), [graph(11)]
    found = explain(model, data, gx.SmoothGrad(samples=4, columns="u", absolute=False, node_mask_type=None))
    close(found.columns["u"][0], model.of_u.weight[0].detach())
    noisy = explain(model, data, gx.SmoothGrad(samples=4, columns="edge_weight", node_mask_type=None))
    plain = explain(model, data, gx.Saliency(columns="edge_weight", node_mask_type=None))
    assert float((noisy.columns["edge_weight"] - plain.columns["edge_weight"]).abs().max()) > 1e-3


# Around nodes ############################################################################################################


class Weighted(nn.Module):
    """GCN with edge weights, which are fused where nothing changes the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = pyg.GCNConv(3, 8), pyg.GCNConv(8, 3)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return self.two(self.one(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


def weighted(nodes: int = 14, edges: int = 18) -> Any:
    rng = torch.Generator().manual_seed(12)
    pairs = to_undirected(torch.randint(nodes, (2, edges), generator=rng), num_nodes=nodes)
    pairs = pairs[:, pairs[0] != pairs[1]]
    weight = torch.rand(nodes, nodes, generator=rng, dtype=torch.float64) + 0.1
    weight = (weight + weight.t())[pairs[0], pairs[1]]
    x = torch.randn(nodes, 3, generator=rng, dtype=torch.float64)
    return Data(x=x, edge_index=pairs, edge_weight=weight)


def test_weights_of_a_fused_model_and_degrees_at_the_border() -> None:
    """A weight counts in messages and in degrees; that of context has no score, whatever degrees it counts in."""
    model, data = made(Weighted), weighted()
    prepared = gx.prepare(model, data)
    assert "fused" in str(explain(prepared, None, "saliency", task=None, index=3).provenance["layers"])
    found = explain(prepared, None, gx.Saliency(columns="edge_weight"), task=None)
    reverse = {(u, v): number for number, (u, v) in enumerate(data.edge_index.t().tolist())}
    for e in found:
        weight = data.edge_weight.clone().requires_grad_()
        out = model(data.x, data.edge_index, weight)[e.index]
        others = torch.cat([out[: e.target], out[e.target + 1 :]])
        (gradient,) = torch.autograd.grad(out[e.target] - others.logsumexp(0), weight)
        inside = set(e.edge_id.tolist())
        for position, (u, v) in zip(e.edge_id.tolist(), e.edge_index.t().tolist(), strict=True):
            back = reverse[v, u]
            expected = gradient[position] + (gradient[back] if back in inside else 0)
            close(e.columns["edge_weight"][e.edge_id.tolist().index(position), 0], expected.abs())


def test_each_instance_is_explained_alone() -> None:
    model, data = made(graphs=False), graph(13, nodes=12, edges=14)
    task = ModelConfig("regression", "node", "raw")
    algorithm = gx.GNNExplainer(epochs=8, columns={"edge_attr": "attributes", "pos": "object", "u": "object"})
    together = explain(model, data, algorithm, task=task)
    for options in ({"batch_budget": 1}, {"index": [9, 2, 2]}):
        found = explain(model, data, algorithm, task=task, **options)
        for e in found:
            for name, scores in together[e.index].columns.items():
                close(e.columns[name], scores, 1e-6)


# Codes and numbers #######################################################################################################


class Bonds(nn.Module):
    """A GINE on embedded atoms and bonds, with one table for both columns of bonds."""

    def __init__(self, one_hot: bool = False) -> None:
        super().__init__()
        self.atoms, self.bonds = nn.Embedding(7, 6), nn.Embedding(5, 6)
        self.conv, self.head, self.one_hot = pyg.GINEConv(nn.Linear(6, 6)), nn.Linear(6, 1), one_hot

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
        if self.one_hot:
            x, edges = x @ self.atoms.weight, edge_attr @ self.bonds.weight.repeat(2, 1)
        else:
            x, edges = self.atoms(x[:, 0]), self.bonds(edge_attr[:, 0]) + self.bonds(edge_attr[:, 1])
        return self.head(pyg.global_add_pool(self.conv(x, edge_index, edges).relu(), batch))


def coded(seed: int) -> tuple[Any, Any]:
    """A graph of codes, and the same one-hot encoded."""
    data, rng = graph(seed), torch.Generator().manual_seed(seed)
    atoms, bonds = torch.randint(7, (5, 1), generator=rng), torch.randint(5, (6, 2), generator=rng).repeat(2, 1)
    one_hot = nn.functional.one_hot(bonds, 5).double().reshape(12, 10)
    wide = Data(x=nn.functional.one_hot(atoms[:, 0], 7).double(), edge_index=data.edge_index, edge_attr=one_hot)
    return Data(x=atoms, edge_index=data.edge_index, edge_attr=bonds), wide


@pytest.mark.parametrize("algorithm", [gx.InputXGradient, gx.IntegratedGradients, gx.FeatureAblation])
def test_codes_of_bonds_are_factors_on_their_embedding(algorithm: Any) -> None:
    codes, wide = coded(14)
    found = explain(made(Bonds), [coded(15)[0], codes], algorithm(columns="edge_attr"))[1]
    expected = explain(made(Bonds, one_hot=True), [wide], algorithm(columns="edge_attr"))[0]
    close(found.columns["edge_attr"], expected.columns["edge_attr"].reshape(12, 2, 5).sum(2))
    if algorithm is not gx.FeatureAblation:
        close(found.node_mask, expected.node_mask.sum(1, keepdim=True))


class Atoms(nn.Module):
    """Codes in z and distances of pos, as in SchNet."""

    def __init__(self, embeds: bool = True) -> None:
        super().__init__()
        self.embeds, self.table, self.line = embeds, nn.Embedding(9, 4), nn.Linear(1, 4)
        self.conv, self.head = pyg.GraphConv(4, 4), nn.Linear(4, 1)

    def forward(self, z: Tensor, pos: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        h = self.table(z) if self.embeds else self.line(z.unsqueeze(1).to(pos.dtype))
        length = (pos[edge_index[0]] - pos[edge_index[1]]).norm(dim=1)
        return self.head(pyg.global_add_pool(self.conv(h, edge_index, (-length).exp()).relu(), batch))


@pytest.mark.parametrize("embeds", [True, False])
def test_graphs_without_x_are_scored_by_z_and_pos(embeds: bool) -> None:
    model, data = made(Atoms, embeds=embeds), graph(16)
    data = Data(z=torch.tensor([6, 1, 8, 1, 6]), pos=data.pos, edge_index=data.edge_index)
    remedy = r"needs node features data.x.*use node_mask_type=None and columns='(z|pos)', which the data has"
    with pytest.raises(InputError, match=remedy):
        explain(model, [data], "saliency")
    found = explain(model, [data], gx.Saliency(node_mask_type=None, columns=("z", "pos"), absolute=False))[0]
    pos = data.pos.clone().requires_grad_()  # pyright: ignore
    batch = torch.zeros(5, dtype=torch.int64)
    (gradient,) = torch.autograd.grad(model(data.z, pos, data.edge_index, batch).sum(), pos)
    close(found.columns["pos"], gradient)
    ablated = explain(model, [data], gx.FeatureAblation(node_mask_type=None, columns={"z": "object"}))[0]
    full = model(data.z, data.pos, data.edge_index, batch)
    for atom in range(5):
        if embeds:
            factor = torch.ones(5, 1, dtype=torch.float64)
            factor[atom] = 0
            hook = model.table.register_forward_hook(lambda module, args, out, factor=factor: out * factor)
            left = model(data.z, data.pos, data.edge_index, batch)
            hook.remove()
        else:
            left = model(data.z.double().index_fill(0, torch.tensor(atom), 0), data.pos, data.edge_index, batch)
        close(ablated.columns["z"][atom, 0], (full - left)[0, 0].detach())


def test_columns_of_codes_together_have_their_own_factors() -> None:
    """Both x and edge_attr are codes, and a model may look both up in one table."""
    codes = coded(17)[0]
    model = made(Bonds)
    model.bonds = model.atoms
    both = explain(model, [codes], gx.InputXGradient(columns="edge_attr", edge_mask_type=None))[0]
    x, edges = (torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 1), (12, 2)))
    h = model.atoms(codes.x[:, 0]) * x
    attr = (model.atoms(codes.edge_attr) * edges.unsqueeze(2)).sum(1)
    pooled = model.conv(h, codes.edge_index, attr).relu().sum(0, keepdim=True)
    of_x, of_edges = torch.autograd.grad(model.head(pooled).sum(), (x, edges))
    close(both.node_mask, of_x)
    close(both.columns["edge_attr"], both_ways(of_edges))


class Casting(nn.Module):
    """Integers that the model casts, as AttentiveFP on molecules of `from_smiles`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = pyg.NNConv(2, 4, nn.Linear(2, 8)), nn.Linear(4, 1)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
        h = self.conv(x.double(), edge_index, edge_attr.to(torch.float64))
        return self.last(pyg.global_add_pool(h.relu(), batch))


def numbers(seed: int) -> Data:
    data, rng = graph(seed), torch.Generator().manual_seed(seed)
    edge_attr = torch.randint(4, (6, 2), generator=rng).repeat(2, 1)
    return Data(x=torch.randint(-3, 9, (5, 2), generator=rng), edge_index=data.edge_index, edge_attr=edge_attr)


@pytest.mark.parametrize("algorithm", [gx.Saliency, gx.GNNExplainer, gx.FeatureAblation])
def test_integers_that_the_model_casts_are_numbers(algorithm: Any) -> None:
    model, data = made(Casting), numbers(18)
    as_floats = Data(x=data.x.double(), edge_index=data.edge_index, edge_attr=data.edge_attr.double())  # pyright: ignore
    found = explain(model, [data], algorithm(columns="edge_attr"))
    expected = explain(model, [as_floats], algorithm(columns="edge_attr"))
    close(found.node_mask, expected.node_mask)
    close(found.columns["edge_attr"], expected.columns["edge_attr"])
    assert found.provenance["features"] == "x"
    assert data.x.dtype == torch.int64  # pyright: ignore


# Results #################################################################################################################


def test_results_name_the_column(tmp_path: Path) -> None:
    model, data = made(), [graph(seed) for seed in (19, 20, 21)]
    algorithm = gx.FeatureAblation(columns={"edge_attr": "attributes", "pos": "object", "u": "attributes"})
    found = explain(model, data, algorithm)
    assert "edge_attr=[36, 3], pos=[15, 1], u=[3, 2]" in repr(found)
    assert found.column_types["pos"] == ("node", "object")
    assert found.about()["algorithm"]["columns"]["u"] == "attributes"
    back = gx.load(found.save(tmp_path / "one.safetensors"))
    stored = explain(model, data, algorithm, out=tmp_path / "run")
    for other in (back, stored, found[[0, 1, 2]]):
        for position in (2, 0):
            for name, scores in found[position].columns.items():
                assert torch.equal(other[position].columns[name], scores)
        assert other[2].top_columns(2) == found[2].top_columns(2)
    picked = found[[2, 0]]
    assert torch.equal(picked[0].columns["edge_attr"], found[2].columns["edge_attr"])
    name, feature, score = found[1].top_columns(1)[0]
    sums = {
        "edge_attr": found[1].columns["edge_attr"][:6].sum(0),
        "pos": found[1].columns["pos"].sum(0),
        "u": found[1].columns["u"],
    }
    assert score == pytest.approx(float(sums[name][feature]))
    assert abs(score) == pytest.approx(max(float(total.abs().max()) for total in sums.values()))
    theirs = found.to_pyg(1)
    assert theirs.edge_attr_mask.shape == (12, 3)
    assert {"edge_attr_mask", "pos_mask", "u_mask"} <= set(theirs.available_explanations)


def test_files_without_columns_stay_readable_by_earlier_versions(tmp_path: Path) -> None:
    from gnn_xai.results import files

    for algorithm, version in ((gx.Saliency(), 1), (gx.Saliency(columns="u"), 2)):
        path = explain(made(), [graph(22)], algorithm).save(tmp_path / "run.safetensors")
        assert files.read(path)[1]["format"] == version


def test_the_table_of_columns() -> None:
    pytest.importorskip("pandas")
    found = explain(made(), [graph(23), graph(24)], gx.Saliency(columns=("pos", "u")))
    table = found.to_pandas("column")
    assert len(table) == 2 * 5 * 2 + 2 * 2
    row = table[(table.column == "pos") & (table.position == 1) & (table.element == 3) & (table.feature == 1)]
    assert float(row.score.iloc[0]) == pytest.approx(float(found[1].columns["pos"][3, 1]))
    assert set(table[table.column == "u"].element) == {-1}
    with pytest.raises(InputError, match="scored no columns"):
        explain(made(), [graph(23)], gx.Saliency()).to_pandas("column")


def test_predictions_under_masks_hold_the_columns() -> None:
    """A soft mask of attributions is |a| / max |a| of each attribute by itself."""
    model, data = made(), graph(25)
    algorithm = gx.Saliency(columns=("edge_attr", "u"), node_mask_type=None, edge_mask_type=None)
    e = explain(model, [graph(26), data], algorithm)[1]
    masks = {name: scores / scores.max() for name, scores in e.columns.items()}
    close(e.prediction_masked[0], run(model, data, **{n: data[n] * m for n, m in masks.items()}).detach())
    close(e.prediction_complement[0], run(model, data, **{n: data[n] * (1 - m) for n, m in masks.items()}).detach())


def test_fidelity_of_soft_masks_is_that_of_the_stored_predictions() -> None:
    model, data = made(), [graph(31), graph(32)]
    found = explain(model, data, gx.Saliency(columns=("edge_attr", "u")))
    fidelity = gx.metrics.fidelity(model, data, found)
    close(fidelity.minus.values, (found.prediction - found.prediction_masked).abs()[:, 0])
    close(fidelity.plus.values, (found.prediction - found.prediction_complement).abs()[:, 0])
    whole = gx.metrics.fidelity(model, data, found, level="edge", top=3)
    plain = gx.metrics.fidelity(model, data, explain(model, data, gx.Saliency()), level="edge", top=3)
    close(whole.plus.values, plain.plus.values)
    alone = explain(model, data, gx.Saliency(columns="u", node_mask_type=None, edge_mask_type=None))
    with pytest.raises(InputError, match="neither edges nor nodes nor features of x.*use fidelity with top=None"):
        gx.metrics.fidelity(model, data, alone, top=3)
    close(
        gx.metrics.fidelity(model, data, alone).minus.values,
        (alone.prediction - alone.prediction_masked).abs()[:, 0],
    )


def test_bars_of_columns_are_called_after_them() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    e = explain(made(), [graph(33)], gx.InputXGradient(columns=("edge_attr", "u")))[0]
    ax = gx.viz.features(e, top=8, feature_names={"u": ["temperature", "pressure"]})
    labels = {label.get_text() for label in ax.get_yticklabels()}
    assert labels == {f"{name}: {f}" for name in ("x", "edge_attr") for f in range(3)} | {
        "u: temperature",
        "u: pressure",
    }
    named = gx.viz.features(e, top=8, feature_names=["a", "b", "c"])
    assert {"x: a", "u: 0"} <= {label.get_text() for label in named.get_yticklabels()}
    plt.close("all")


def test_losses_of_columns_are_reported() -> None:
    trace = gx.Trace(every=5)
    algorithm = gx.GNNExplainer(epochs=5, columns={"edge_attr": "object", "u": "attributes"})
    explain(made(), [graph(34)], algorithm, callback=trace)
    last = trace.to_pandas().iloc[-1]
    terms = [f"{name}_{term}" for name in ("edge", "node_feat", "edge_attr", "u") for term in ("size", "ent")]
    assert last["total"] == pytest.approx(float(last[["prediction", *terms]].sum()))


def test_an_algorithm_of_ones_own_changes_what_it_declares() -> None:
    """Structural changes and other values of columns meet in one variant; what is not declared is refused if it is fused."""

    @extend.algorithm("doubled", "twice the weights", signed=True, edge_masks=False)
    class Doubled:
        cut: bool = False
        columns: extend.Columns = None

        def attribute(self, session: Any, graphs: Any, target: Tensor, prediction: Tensor) -> extend.Scores:
            def change(replicas: Any, select: Tensor) -> extend.Change:
                weight = replicas.masked("edge_weight") * 2
                return extend.Change(edges=replicas.edge == 0 if self.cut else None, columns={"edge_weight": weight})

            removal = "structural" if self.cut else "message"
            out = extend.evaluate(session, graphs, torch.arange(len(graphs)), change, removal, lambda out, select: out)
            return extend.Scores(prediction.new_zeros(len(graphs.edge)), extras={"out": out})

    model, data = made(Weighted), weighted()
    found = explain(model, data, Doubled(columns="edge_weight"), task=None)
    close(found.extras["out"], model(data.x, data.edge_index, data.edge_weight * 2).detach())
    one = graph(35)
    e = explain(made(), [one], Doubled(True, columns="edge_weight"))
    left = {name: one[name][..., 1:] if name == "edge_index" else one[name][1:] for name in ("edge_index", "edge_attr")}
    close(e.extras["out"][0, 0], run(made(), one, edge_weight=one.edge_weight[1:] * 2, **left).detach())
    with pytest.raises(gx.errors.MaskingError, match="a field columns= that names data.edge_weight"):
        explain(gx.prepare(model, data), None, Doubled(), task=None)


def test_inside_pyg_columns_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"without columns= for torch_geometric.explain.Explainer.*got u; use gnn_xai.explain"
    ):
        gx.pyg.algorithm(gx.Saliency(columns="u"))


# Refusals ################################################################################################################


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("edge_atr", r"unknown attribute of the data in columns= 'edge_atr'; did you mean 'edge_attr'\?"),
        (
            "smiles",
            r"in columns=, got data.smiles \(str for each graph\), which no mask multiplies; leave it out; it has",
        ),
        ("center_index", "in columns=, got data.center_index, which no mask multiplies"),
        ("n_id", "got the ids data.n_id in columns=; leave it out"),
        ("bad", r"data.bad holds NaN or infinite values in 1 of 5 rows \(first: row 2\); clean"),
        ("charge", "attributes that the model reads in columns=, got 'charge', but Everything is called with"),
        ("x", "expected attributes beside x and edge_index in columns=, got 'x'; use node_mask_type="),
        ("edge_index", "got 'edge_index'; use edge_mask_type="),
        ({"u": "objects"}, "as one of 'object', 'attributes', 'common_attributes', got 'objects'"),
        (3, "expected FeatureAblation.columns=. as names of attributes, or a dictionary .* got 3"),
    ],
)
def test_refusals(columns: Any, sentence: str) -> None:
    data = graph(27)
    data.smiles, data.n_id, data.center_index = "CCO", torch.arange(5), torch.tensor([1])
    data.charge, data.bad = torch.zeros(5), torch.tensor([0, 1, torch.nan, 0, 1])
    with pytest.raises(InputError, match=sentence):
        explain(made(), [data], gx.FeatureAblation(columns=columns))


def test_a_remedy_for_an_attribute_that_the_model_is_not_handed() -> None:
    data = graph(28)
    data.extra = torch.ones(5, 3, dtype=torch.float64)

    def forward(model: Any, data: Any) -> Tensor:
        names = "pos", "edge_index", "edge_attr", "edge_weight", "u", "batch"
        return model(data.x * data.extra, *(data[name] for name in names))

    with pytest.raises(InputError, match="or pass forward=lambda model, data"):
        explain(made(), [data], gx.Saliency(columns="extra"))
    found = explain(made(), [data], gx.InputXGradient(columns="extra"), forward=forward)
    close(found.columns["extra"], found.node_mask)


def test_gradient_methods_score_values_alone() -> None:
    with pytest.raises(InputError, match=r"Saliency\(columns=\{'u': ...\}\) as one of 'attributes', got 'object'"):
        gx.Saliency(columns={"u": "object"})
    with pytest.raises(InputError, match="neither node_mask_type nor edge_mask_type"):
        gx.Saliency(node_mask_type=None, edge_mask_type=None)
    assert gx.Saliency(node_mask_type=None, edge_mask_type=None, columns="u").columns == {"u": "attributes"}


def test_integers_that_are_neither_codes_nor_numbers_are_refused() -> None:
    class Compares(Casting):
        def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
            return super().forward(x, edge_index, (edge_attr == 1).long(), batch)

    data = numbers(29)
    with pytest.raises(InputError, match=r"got torch.int64 codes that the model hands to __eq__, where a mask cannot"):
        explain(made(Compares), [data], gx.Saliency(columns="edge_attr"))
    found = explain(made(Compares), [data], gx.Saliency())  # the remedy: left out
    assert bool(found.node_mask.abs().sum() > 0)


def test_a_file_of_scored_attributes_that_lost_their_types(tmp_path: Path) -> None:
    from gnn_xai.results import files

    path = explain(made(), [graph(30)], gx.Saliency(columns="u")).save(tmp_path / "run.safetensors")
    tensors, about = files.read(path)
    files.write(path, tensors, {name: value for name, value in about.items() if name not in ("columns", "format")})
    with pytest.raises(StorageError, match="incomplete"):
        gx.load(path)
