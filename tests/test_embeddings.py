"""Integer features: masks act on what embeddings make of codes.

The exact oracle is a float model on one-hot codes whose first layer holds the embeddings as its weights: a factor on an
embedded code is one factor on its whole block. Each test was seen to fail when the code was broken: factors of another
column or node, placeholders read without their offset, a factor forgotten in either kind of embedding, codes in place of
factors in removals and followed variants, the guard let through, hooks left behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.core.engines import evaluate as engine
from gnn_xai.core.engines.scores import Scores
from gnn_xai.errors import GnnXaiWarning, InputError
from tests import models
from tests.covering import pairwise

SIZES = (5, 3, 4)
HIDDEN, CLASSES = 6, 3
STARTS = (0, 5, 8)


def coded(seed: int = 0, **options: Any) -> Data:
    """A random graph with codes for features; its last column is the same for all nodes."""
    data = models.random_graph(seed, **options)
    generator = torch.Generator().manual_seed(seed)
    data.x = torch.stack([torch.randint(size, (data.num_nodes,), generator=generator) for size in SIZES], 1)
    data.x[:, -1] = 1
    del data.edge_attr, data.edge_weight
    return data


def graphs() -> list[Data]:
    return [coded(seed, nodes=6 + seed, edges=8) for seed in range(3)]


class Body(nn.Module):
    """Two layers and a head after an encoder of node features."""

    def __init__(self, encoder: nn.Module, conv: Callable[[], nn.Module], graph_level: bool) -> None:
        super().__init__()
        self.encoder, self.graph_level = encoder, graph_level
        self.convs = nn.ModuleList([conv(), conv()])
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        x = self.encoder(x)
        for conv in self.convs:
            x = conv(x, edge_index).relu()
        return self.head(pyg.global_mean_pool(x, batch) if self.graph_level else x)


CONVS: dict[str, Callable[[], nn.Module]] = {
    "gcn": lambda: pyg.GCNConv(HIDDEN, HIDDEN),
    "gin": lambda: pyg.GINConv(nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN))),
    "gat": lambda: pyg.GATConv(HIDDEN, HIDDEN),
}


def body(encoder: nn.Module, conv: str = "gin", graph_level: bool = False) -> nn.Module:
    """The same weights behind any encoder."""
    model = models.seeded(lambda: Body(nn.Identity(), CONVS[conv], graph_level))
    model.encoder = encoder.double().eval()
    return model


def encoder() -> testing.Encoder:
    return models.seeded(lambda: testing.Encoder(SIZES, HIDDEN))


class Blocks(nn.Module):
    """The embeddings of an encoder as the weights of a linear layer on one-hot codes."""

    def __init__(self, columns: nn.ModuleList) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(SIZES), HIDDEN, bias=False)
        self.linear.weight = nn.Parameter(torch.cat([embedding.weight for embedding in columns]).t().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def one_hot(data: Data) -> Data:
    parts = [nn.functional.one_hot(column, size) for column, size in zip(data.x.t(), SIZES, strict=True)]
    out = data.clone()
    out.x = torch.cat(parts, 1).double()
    return out


def by_block(values: Tensor) -> Tensor:
    """Scores of one-hot features `[..., ΣS]` added up over those of each column, `[..., F]`."""
    return torch.stack([part.sum(-1) for part in values.split(SIZES, dim=-1)], -1)


def explain(model: nn.Module, data: Any, algorithm: Any, **options: Any) -> gx.Explanations:
    return gx.explain(model, data, algorithm, progress=False, **options)


def both(conv: str, graph_level: bool, algorithm: Any, **options: Any) -> tuple[gx.Explanations, gx.Explanations]:
    """One explanation of codes, and one of the float model that is the same."""
    codes = encoder()
    data: Any = graphs() if graph_level else coded(nodes=14, edges=20)
    hot = [one_hot(each) for each in data] if graph_level else one_hot(data)
    if not graph_level:
        options["index"] = [0, 3, 9]
    found = explain(body(codes, conv, graph_level), data, algorithm, **options)
    return found, explain(body(Blocks(codes.columns), conv, graph_level), hot, algorithm, **options)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


# The float model that is the same ########################################################################################


@pairwise(
    algorithm=[gx.InputXGradient(), gx.IntegratedGradients(steps=5), gx.IntegratedGradients(9, edge_mask_type=None)],
    conv=list(CONVS),
    graph_level=[False, True],
)
def test_attributions_are_those_of_the_one_hot_block(conv: str, graph_level: bool, algorithm: Any) -> None:
    found, expected = both(conv, graph_level, algorithm)
    close(found.prediction, expected.prediction)
    close(found.node_mask, by_block(expected.node_mask))
    if found.edge_mask is not None:
        close(found.edge_mask, expected.edge_mask)
    assert float(found.node_mask.abs().amax(0).min()) > 0
    if "completeness_error" in found.extras:
        close(found.extras["completeness_error"], expected.extras["completeness_error"])


@pytest.mark.parametrize("graph_level", [False, True])
def test_saliency_is_the_size_of_input_times_gradient(graph_level: bool) -> None:
    found, _ = both("gin", graph_level, gx.Saliency())
    _, expected = both("gin", graph_level, gx.InputXGradient())
    close(found.node_mask, by_block(expected.node_mask).abs())


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize(
    ("graph_level", "algorithm"),
    [
        *itertools.product(
            (False, True),
            (
                gx.NodeAblation(),
                gx.NodeAblation(removal="message"),
                gx.EdgeAblation(),
                gx.FragmentAblation(kind="atoms", removal="message"),
            ),
        ),
        (
            False,
            gx.Shapley(players="fragments", kind="atoms", samples=2, exact_up_to=2),
        ),  # orders of graphs are keyed by features
    ],
)
def test_removals_zero_what_is_embedded(conv: str, graph_level: bool, algorithm: Any) -> None:
    found, expected = both(conv, graph_level, algorithm)
    for name in ("node_mask", "edge_mask"):
        if getattr(found, name) is not None:
            close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("conv", CONVS)
def test_object_masks_take_all_embedded_columns_of_a_node(conv: str) -> None:
    found, expected = both(conv, False, gx.GNNExplainer(epochs=8, lr=0.1, node_mask_type="object"))
    for name in ("node_mask", "edge_mask", "prediction_masked", "prediction_complement"):
        close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("graph_level", [False, True])
def test_feature_ablation_takes_a_column_out(graph_level: bool) -> None:
    found, _ = both("gin", graph_level, gx.FeatureAblation(objective="raw"))
    codes = encoder()
    hot = body(Blocks(codes.columns), "gin", graph_level)
    data = graphs() if graph_level else [coded(nodes=14, edges=20)] * 3
    for explanation, graph in zip(found, data, strict=True):
        row = 0 if graph_level else explanation.index
        for column, (start, size) in enumerate(zip(STARTS, SIZES, strict=True)):
            x = one_hot(graph).x
            before = hot(x, graph.edge_index)[row]
            x[explanation.node_id, start : start + size] = 0
            drop = (before - hot(x, graph.edge_index)[row])[explanation.target]
            close(explanation.node_mask[column], drop.detach())


@pytest.mark.parametrize("kind", ["attributes", "common_attributes"])
def test_masks_on_columns_mean_factors(kind: Any) -> None:
    """What the model says under learned masks is what the one-hot model says with whole blocks multiplied."""
    found, _ = both("gin", True, gx.GNNExplainer(epochs=8, lr=0.1, node_mask_type=kind, edge_mask_type=None))
    codes = encoder()
    hot, sizes = body(Blocks(codes.columns), "gin", True), torch.tensor(SIZES)
    for explanation, graph in zip(found, graphs(), strict=True):
        mask = explanation.node_mask.expand(graph.num_nodes, -1)
        for said, factor in (
            (explanation.prediction_masked, mask),
            (explanation.prediction_complement, 1 - mask),
        ):
            x = one_hot(graph).x * torch.repeat_interleave(factor, sizes, 1)
            close(said, hot(x, graph.edge_index)[0].detach())


@gx.algorithms.algorithm(
    "halving", "drop of the score when a node has half its features, and another none", signed=True
)
class Halving:
    removal = "message"

    def attribute(self, question: Any, graphs: Any, target: Tensor, prediction: Tensor) -> Scores:
        def change(replicas: Any, select: Tensor) -> engine.Change:
            x, chosen = replicas.features.clone(), replicas.node == select[replicas.node_owner]
            x[chosen] *= 0.5
            x[replicas.node == select[replicas.node_owner] + 1] = 0
            return engine.Change(edges=chosen[replicas.edge_index[0]], x=x)

        def reduce(out: Tensor, select: Tensor) -> Tensor:
            return question.problem.score(out, target[graphs.node_owner[select]])

        left = engine.evaluate(question, graphs, graphs.node_owner, change, "message", reduce)
        return Scores(node=left.unsqueeze(1), node_type="object")


@pytest.mark.parametrize("looked_up", [True, False])
def test_variants_that_follow_a_change_carry_codes_and_factors(
    looked_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following is given up where it does not give what whole variants give, so it is seen to follow after its test."""
    calls: list[int] = []
    followed = engine._followed

    def counted(question: Any, replicas: Any, *args: Any) -> Tensor:
        calls.append(len(replicas))
        return followed(question, replicas, *args)

    monkeypatch.setattr(engine, "_followed", counted)
    data = coded(nodes=30, edges=40)
    if looked_up:
        data.x[::2] = 0  # so that a factor of 0 looks like the code
        model, algorithm = body(encoder()), Halving()
    else:
        data.x += 1  # or else code 0 is no change
        model = body(models.seeded(lambda: Otherwise(OTHERWISE["an index"][0])))
        algorithm = gx.NodeAblation(removal="message")
    found = explain(model, data, algorithm, index=[0, 3, 9])
    assert max(calls) > engine.SAMPLE
    monkeypatch.setattr(engine, "followable", lambda *_: False)
    close(found.node_mask, explain(model, data, algorithm, index=[0, 3, 9]).node_mask)


def test_noise_is_on_the_factors() -> None:
    calm, loud = (
        explain(body(encoder()), coded(), gx.SmoothGrad(3, noise, edge_mask_type=None), index=0, seed=1).node_mask
        for noise in (0.0, 0.3)
    )
    close(calm, explain(body(encoder()), coded(), gx.Saliency(), index=0).node_mask)
    assert float((calm - loud).abs().max()) > 1e-3


def test_fidelity_and_files(tmp_path: Any) -> None:
    model, data = body(encoder(), graph_level=True), graphs()
    found = explain(model, data, gx.IntegratedGradients(steps=5, edge_mask_type=None))
    names = ", ".join(f"encoder.columns.{column}" for column in range(3))
    assert found.provenance["features"] == f"embedded columns of x (modules {names})"
    back = gx.load(found.save(tmp_path / "run.safetensors"))
    assert back.provenance == found.provenance
    found_again = gx.metrics.fidelity(model, data, back)
    for result, out in ((found_again.minus, found.prediction_masked), (found_again.plus, found.prediction_complement)):
        change = (found.prediction.softmax(1) - out.softmax(1)).gather(1, found.target.unsqueeze(1)).squeeze(1)
        close(result.values, change)
        assert float(change.abs().max()) > 1e-4
    floats = explain(body(Blocks(encoder().columns)), one_hot(coded()), gx.Saliency(), index=0)
    assert floats.provenance["features"] == "x"


# Ways to an embedding ####################################################################################################


class Table(nn.Module):
    """All columns in one table, each with its own rows."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        weights = torch.cat([embedding.weight for embedding in encoder().columns]).detach()
        self.table = nn.Embedding.from_pretrained(weights)
        self.bag = nn.EmbeddingBag.from_pretrained(weights, mode="sum")
        self.register_buffer("start", torch.tensor(STARTS))
        self.unused = nn.Embedding(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "offset":
            return self.table(x + self.start).sum(1)
        if self.how == "taken off":
            return self.table(x - (10 - self.start) + 10).sum(1)
        if self.how == "bag":
            return self.bag(x + self.start)
        if self.how == "weighted bag":
            return self.bag(x + self.start, per_sample_weights=torch.full(x.shape, 2.0, dtype=torch.float64)) / 2
        if self.how == "ragged bag":
            return self.bag((x + self.start).flatten(), torch.arange(0, x.numel(), x.size(1)))
        if self.how == "transposed":
            columns = (x + self.start).t().contiguous().view(x.size(1), -1)
            return torch.stack([self.table(column) for column in columns]).sum(0)
        if self.how == "split":
            parts = [part.squeeze(-1).long() for part in x.split(1, dim=-1)]
            return sum(self.table(input=part + int(s)) for part, s in zip(parts, STARTS, strict=True))
        if self.how == "reversed":  # by nodes and by columns
            return self.table(x.flip(0, 1) + self.start.flip(0)).flip(0).sum(1)
        padded = torch.cat([x + self.start, x.new_zeros(2, x.size(1))])  # rows that are nobody's
        return self.table(padded)[: len(x)].sum(1)


WAYS = (
    "offset", "taken off", "bag", "weighted bag", "ragged bag", "transposed", "split", "reversed", "padded"
)  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_codes_are_followed_to_their_embedding(how: str) -> None:
    for algorithm in (gx.IntegratedGradients(steps=4), gx.FeatureAblation()):
        found = explain(body(Table(how)), coded(), algorithm, index=[0, 3])
        expected = explain(body(encoder()), coded(), algorithm, index=[0, 3])
        close(found.node_mask, expected.node_mask)
        used = "encoder.bag" if "bag" in how else "encoder.table"
        assert found.provenance["features"] == f"embedded columns of x (modules {used})"


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_codes_of_any_integer_type(kind: torch.dtype) -> None:
    data = coded()
    data.x = data.x.to(kind)

    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = encoder()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.long())

    found = explain(body(Long()), data, gx.InputXGradient(), index=0)
    close(found.node_mask, explain(body(encoder()), coded(), gx.InputXGradient(), index=0).node_mask)


def test_columns_that_hold_the_same_codes_are_told_apart() -> None:
    data = coded()
    data.x = torch.zeros_like(data.x)
    found = explain(body(encoder()), data, gx.InputXGradient(), index=0)
    expected = explain(body(Blocks(encoder().columns)), one_hot(data), gx.InputXGradient(), index=0)
    close(found.node_mask, by_block(expected.node_mask))
    assert len({round(float(value), 9) for value in found.node_mask[0]}) == 3


class Otherwise(nn.Module):
    """Codes that are not only looked up."""

    def __init__(self, how: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.how, self.embedding, self.linear = how, nn.Embedding(9, HIDDEN), nn.Linear(3, HIDDEN)
        self.bag = nn.EmbeddingBag(9, HIDDEN, mode="mean")

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


OTHERWISE: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "one-hot": (lambda m, x: nn.functional.one_hot(x[:, 0], HIDDEN).double(), "hands to one_hot"),
    "numbers, too": (lambda m, x: m.embedding(x[:, 0]) + m.linear(x.double()), "hands to double"),
    "an index": (lambda m, x: m.embedding.weight[x[:, 0]], "hands to an index"),
    "by hand": (lambda m, x: nn.functional.embedding(x[:, 0], m.embedding.weight), "hands to embedding"),
    "a comparison": (lambda m, x: m.embedding(x[:, 0]) * (x[:, 1:2] > 1), "hands to gt"),
    "one code of two": (lambda m, x: m.embedding(x[:, 0] + x[:, 1]), "hands to add"),
    "a product": (lambda m, x: m.embedding(x[:, 0] * 2), "hands to mul"),
    "a mean": (lambda m, x: m.bag(x), "hands to embedding_bag"),
    "numbers of NumPy": (lambda m, x: m.linear(torch.from_numpy(x.numpy()).double()), "hands to numpy"),
    "numbers, too, as codes": (lambda m, x: m.embedding(x[:, 0].long()) + m.linear(x.double()), "hands to double"),
    "equality": (lambda m, x: m.linear((x == 1).double()), "hands to __eq__"),
}


@pytest.mark.parametrize("how", OTHERWISE)
def test_other_uses_are_refused_and_named(how: str) -> None:
    use, said = OTHERWISE[how]
    model = body(models.seeded(lambda: Otherwise(use)))
    before = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    for algorithm in ("saliency", "feature_ablation", gx.GNNExplainer(node_mask_type="object")):
        with pytest.raises(InputError, match=f"got torch.int64 codes .*({said}).*NodeAblation"):
            explain(model, coded(), algorithm, index=0)
    found = explain(model, coded(), "node_ablation", index=0)
    assert bool(torch.isfinite(found.node_mask).all())
    assert before == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_other_codes_in_place_of_the_users() -> None:
    """A replacement changes codes; followed or not, it gives what the model says of the changed graph."""
    model, data = body(encoder(), graph_level=True), coded(nodes=14, edges=20)
    data.x_neutral = (data.x + 1) % torch.tensor(SIZES)
    found = explain(model, [data], gx.FragmentAblation(kind="atoms", replacement="carbon", objective="raw"))
    for node in range(data.num_nodes):
        x = data.x.clone()
        x[node] = data.x_neutral[node]
        drop = (model(data.x, data.edge_index) - model(x, data.edge_index))[0, int(found.target)]
        close(found.node_mask[node, 0], drop.detach())


# Edge features ###########################################################################################################


class Directed(pyg.MessagePassing):
    """Messages along directed edges that do not turn back at once, as in Yang et al. (2019): one step."""

    def __init__(self) -> None:
        super().__init__(aggr="sum")
        self.start, self.step = nn.Linear(2 * HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        row, col = edge_index
        first = self.start(torch.cat([x[row], edge_attr], 1)).relu()
        turned = (row.unsqueeze(1) == col) & (col.unsqueeze(1) == row)
        at_nodes = self.propagate(edge_index, state=first, size=(len(x), len(x)))
        second = (first + self.step(at_nodes[row] - turned.to(first.dtype) @ first)).relu()
        return self.propagate(edge_index, state=second, size=(len(x), len(x)))

    def message(self, state: Tensor) -> Tensor:
        return state


class Fingerprint(nn.Module):
    """AttentiveFP as it comes with PyG."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = pyg.AttentiveFP(HIDDEN, HIDDEN, HIDDEN, HIDDEN, num_layers=2, num_timesteps=2)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
        return self.inner(x, edge_index, edge_attr, batch)


class Bonds(nn.Module):
    """A model of molecules: embedded atoms and bonds, or bonds with floats."""

    def __init__(self, kind: str, coded_bonds: bool) -> None:
        super().__init__()
        self.atoms = testing.Encoder(SIZES, HIDDEN)
        self.bonds = testing.Encoder((4, 2), HIDDEN) if coded_bonds else nn.Linear(2, HIDDEN)
        self.kind = kind
        self.conv = {
            "gine": lambda: pyg.GINEConv(nn.Linear(HIDDEN, HIDDEN)),
            "gatv2": lambda: pyg.GATv2Conv(HIDDEN, HIDDEN, edge_dim=HIDDEN),
            "directed": Directed,
            "attentive": Fingerprint,
        }[kind]()
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
        h, bonds = self.atoms(x), self.bonds(edge_attr)
        if self.kind == "attentive":
            return self.head(self.conv(h, edge_index, bonds, batch))
        return self.head(pyg.global_add_pool(self.conv(h, edge_index, bonds).relu(), batch))


def bonded(coded_bonds: bool) -> list[Data]:
    found = []
    for seed in range(3):
        data = coded(seed, nodes=6 + seed, edges=8, loops=0, parallel=0)
        generator, count = torch.Generator().manual_seed(seed), data.num_edges
        if coded_bonds:
            parts = [torch.randint(size, (count,), generator=generator) for size in (4, 2)]
            data.edge_attr = torch.stack(parts, 1)
        else:
            data.edge_attr = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        found.append(data)
    return found


KINDS = ("gine", "gatv2", "directed", "attentive")


def plainly(model: Any, data: Data, factor: Tensor) -> Tensor:
    """The output `[C]` with column f of node v, embedded, times `factor[v, f]`."""
    columns = [e(data.x[:, i]) * factor[:, i : i + 1] for i, e in enumerate(model.atoms.columns)]
    inner, model.atoms = model.atoms, nn.Identity()
    try:
        out = model(sum(columns), data.edge_index, data.edge_attr, torch.zeros(data.num_nodes, dtype=torch.int64))[0]
    finally:
        model.atoms = inner
    return out


@pytest.mark.parametrize("coded_bonds", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:not masked:gnn_xai.errors.GnnXaiWarning")
def test_models_of_molecules(kind: str, coded_bonds: bool) -> None:
    model, data = models.seeded(lambda: Bonds(kind, coded_bonds)), bonded(coded_bonds)
    found = explain(model, data, gx.InputXGradient(objective="raw"))
    assert found.provenance["features"].count("atoms.columns") == 3, "and nothing of the bonds"
    assert "bonds" not in found.provenance["features"]
    for explanation, graph in zip(found, data, strict=True):
        factor = torch.ones(graph.x.shape, dtype=torch.float64, requires_grad=True)
        (expected,) = torch.autograd.grad(plainly(model, graph, factor)[explanation.target], factor)
        close(explanation.node_mask, expected)
    masked = explain(model, data, gx.GNNExplainer(epochs=4, edge_mask_type=None, node_mask_type="attributes"))
    for explanation, graph in zip(masked, data, strict=True):
        close(explanation.prediction_masked, plainly(model, graph, explanation.node_mask).detach())
    joint = explain(model, data, gx.IntegratedGradients(steps=60))
    assert float(joint.extras["completeness_error"].abs().max()) < 0.05
    ablated = explain(model, data, gx.EdgeAblation(removal="structural", objective="raw"), undirected=False)
    for explanation, graph in zip(ablated, data, strict=True):
        out = model(graph.x, graph.edge_index, graph.edge_attr, torch.zeros(graph.num_nodes, dtype=torch.int64))[0]
        for edge in (0, graph.num_edges - 1):
            kept = torch.arange(graph.num_edges) != edge
            batch = torch.zeros(graph.num_nodes, dtype=torch.int64)
            left = model(graph.x, graph.edge_index[:, kept], graph.edge_attr[kept], batch)[0]
            close(explanation.edge_mask[edge], (out - left)[explanation.target].detach())


@pytest.mark.parametrize("kind", KINDS)
def test_edge_masks_on_models_of_molecules(kind: str) -> None:
    model, data = models.seeded(lambda: Bonds(kind, True)), bonded(True)[0]
    if kind == "attentive":  # its readout runs between atoms and the molecule
        with pytest.warns(
            GnnXaiWarning, match=r"not masked: conv.inner.mol_conv \(GATConv\): it runs on another graph"
        ):
            found = explain(model, [data], gx.EdgeAblation(removal="message"))
        skipped = [layer["layer"] for layer in found.provenance["layers"] if not layer["masked"]]
        assert skipped == ["conv.inner.mol_conv (GATConv)"] * 2
        assert float(found.edge_mask.abs().max()) > 0
    else:
        testing.check_model(model, data, task=ModelConfig("multiclass_classification", "graph", "raw"))


def test_a_table_that_atoms_and_bonds_share() -> None:
    """Factors of atoms stay off bonds that the same module looks up."""

    class Shared(Bonds):
        def __init__(self) -> None:
            super().__init__("gine", True)
            self.bonds.columns[0] = self.atoms.columns[0]

    model, data = models.seeded(Shared), bonded(True)
    found = explain(model, data, gx.InputXGradient(objective="raw"))
    for explanation, graph in zip(found, data, strict=True):
        factor = torch.ones(graph.x.shape, dtype=torch.float64, requires_grad=True)
        (expected,) = torch.autograd.grad(plainly(model, graph, factor)[explanation.target], factor)
        close(explanation.node_mask, expected)
