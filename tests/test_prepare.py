"""Preparing once: the same numbers as without, few passes through the model, changes are noticed, pickles, parts."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.algorithms import base
from gnn_xai.core.engines import choice, first_look, session
from gnn_xai.core.engines.samples import SAMPLE
from gnn_xai.core.graphs import computation_graphs
from gnn_xai.errors import GnnXaiWarning, InputError
from tests.ready import READY

ROOT = Path(__file__).parent.parent

FEW: dict[str, dict[str, Any]] = {
    "gnn_explainer": {"epochs": 5, "lr": 0.1},
    "integrated_gradients": {"steps": 5},
    "smooth_grad": {"samples": 3},
    "shapley": {"exact_up_to": 2, "samples": 3},
    "fragment_shapley": {"exact_up_to": 2, "samples": 3},
    "subgraph_x": {"rollouts": 2, "samples": 3, "min_nodes": 3},
}
INDEX = [0, 16, 33]


def equal(one: gx.Explanations, other: gx.Explanations, *but: str) -> None:
    """Fail unless all columns of two explanations are the same, floating-point ones to 1e-6 of their size."""
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "extras":
            assert a.keys() == b.keys()
            for name in a:
                scale = max(1.0, float(a[name].double().nan_to_num().abs().max())) if a[name].numel() else 1.0
                torch.testing.assert_close(b[name], a[name], rtol=0, atol=1e-6 * scale, equal_nan=True)
        elif isinstance(a, Tensor) and field.name not in but:
            scale = max(1.0, float(a.double().nan_to_num().abs().max())) if len(a) else 1.0
            torch.testing.assert_close(b, a, rtol=0, atol=1e-6 * scale, equal_nan=True)
        elif field.name not in ("data", *but):
            assert a == b, field.name


def network(level: str = "node") -> tuple[nn.Module, Any]:
    case = testing.CASES["gcn_undirected" if level == "node" else "gin_graphs"]
    return case.model(), case.data()


def as_a_user_calls_it(model: nn.Module, data: Any) -> Tensor:
    return model(data.x, data.edge_index)


@pytest.fixture
def karate() -> Any:
    """Model and data that a test may change."""
    example = gx.datasets.load("karate")
    return dataclasses.replace(example, model=copy.deepcopy(example.model), data=example.data.clone())


@pytest.fixture
def passes(karate: Any) -> Any:
    """How often karate's model was run since `passes.clear()`."""
    seen: list[None] = []
    karate.model.register_forward_hook(lambda *_: seen.append(None))
    return seen


# The same numbers #####################################################################################################


# Fragments are of molecules, and need graphs.
@pytest.mark.parametrize(
    ("name", "case"),
    [
        (name, case)
        for name in READY
        for case in ("gcn_undirected", "gin_graphs")
        if case == "gin_graphs" or not name.startswith("fragment")
    ],
)
def test_prepared_gives_what_is_given_without(name: str, case: str) -> None:
    if name == "captum":
        pytest.importorskip("captum")
    if name.startswith("fragment"):
        pytest.importorskip("rdkit")
    of, algorithm = testing.CASES[case], gx.algorithms.get(name, **FEW.get(name, {}))
    model, data = of.model(), of.data()
    if name.startswith("fragment"):
        molecules = gx.datasets.load("nci_nitro")
        model, data = molecules.model, [molecules.data[i] for i in molecules.index[:4].tolist()]
        of = dataclasses.replace(of, task=molecules.task)
    options: dict[str, Any] = {"index": list(of.index), "seed": 3, "progress": False}
    direct = gx.explain(model, data, algorithm, task=of.task, **options)
    prepared = gx.prepare(model, data, task=of.task)
    for _ in range(2):  # the second time from what the first call kept
        again = gx.explain(prepared, algorithm, **options)
        equal(direct, again, "provenance", "hops")
        # For so little work, a call that prepares by itself runs by messages, for which degrees need one more hop.
        brief = base.one_pass(algorithm)
        assert {layer["path"] for layer in direct.provenance["layers"]} == {"messages" if brief else "fused"}
        assert {layer["path"] for layer in again.provenance["layers"]} == {"fused"}
        assert (direct.hops - again.hops).tolist() == [int(brief and case == "gcn_undirected")] * len(again)
        others = {**direct.provenance, "layers": again.provenance["layers"]}
        assert others == again.provenance


@pytest.mark.parametrize("options", [{"target": 1}, {"max_neighbors": 2}, {"seed": 5}, {"batch_budget": 40}, {}])
def test_what_is_chosen_per_call(options: dict[str, Any]) -> None:
    model, data = network()
    algorithm = gx.GNNExplainer(epochs=4)
    direct = gx.explain(model, data, algorithm, index=[0, 5, 3], progress=False, **options)
    equal(direct, gx.explain(gx.prepare(model, data), algorithm, index=[0, 5, 3], progress=False, **options))


@pytest.mark.parametrize("undirected", [True, False])
def test_what_is_settled(undirected: bool) -> None:
    model, data = network()
    settled: dict[str, Any] = {"task": "node", "forward": as_a_user_calls_it, "undirected": undirected}
    prepared = gx.prepare(model, data, **settled)
    direct = gx.explain(model, data, "edge_ablation", progress=False, **settled)
    equal(direct, gx.explain(prepared, "edge_ablation", progress=False))
    one = gx.metrics.seed_stability(model, data, direct, forward=as_a_user_calls_it).correlation.values
    other = gx.metrics.seed_stability(prepared, direct).correlation.values
    torch.testing.assert_close(other, one, rtol=0, atol=1e-6, equal_nan=True)
    for name, value in settled.items():
        for refuses in (
            lambda **option: gx.explain(prepared, "saliency", progress=False, **option),
            lambda **option: gx.compare(prepared, ["saliency"], ["sparsity"], progress=False, **option),
        ):
            with pytest.raises(InputError, match=f"expected {name}= where the problem is prepared"):
                refuses(**{name: value})
    with pytest.raises(InputError, match="expected forward= where the problem is prepared"):
        gx.metrics.fidelity(prepared, direct, forward=as_a_user_calls_it)


@pytest.mark.parametrize("undirected", [True, False])
def test_explanations_whose_directions_are_scored_otherwise_are_explained_again_their_way(undirected: bool) -> None:
    model, data = network()
    direct = gx.explain(model, data, "random", progress=False, undirected=undirected)
    prepared = gx.prepare(model, data, undirected=not undirected)
    wanted, result = (
        f.values for f in (gx.metrics.contrastivity(model, data, direct), gx.metrics.contrastivity(prepared, direct))
    )
    torch.testing.assert_close(result, wanted, rtol=0, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(
        gx.metrics.fidelity(prepared, direct, top=2).plus.values,
        gx.metrics.fidelity(model, data, direct, top=2).plus.values,
    )


@pytest.mark.parametrize("level", ["node", "graph"])
def test_a_folder_holds_what_it_holds_without(level: str, tmp_path: Path) -> None:
    model, data = network(level)
    options: dict[str, Any] = {"algorithm": "edge_ablation", "progress": False}
    direct = gx.explain(model, data, task=level, **options, out=tmp_path / "direct")
    prepared = gx.prepare(model, data, task=level)
    equal(direct.explanations(), gx.explain(prepared, **options, out=tmp_path / "prepared").explanations())
    manifests = [(tmp_path / name / "manifest.json").read_text() for name in ("direct", "prepared")]
    assert manifests[0] == manifests[1]
    gx.explain(prepared, **options, out=tmp_path / "direct")  # the same run, which is finished


# Metrics and comparisons ##############################################################################################


def tensors(result: Any) -> list[Tensor]:
    """The values of a result, or of several."""
    if isinstance(result, gx.metrics.Result):
        return [result.values]
    parts = [getattr(result, field.name) for field in dataclasses.fields(result)]
    return [values for part in parts if isinstance(part, gx.metrics.Result) for values in tensors(part)]


RUN_THE_MODEL = [
    name
    for name, metric in gx.metrics.REGISTRY.items()
    if "truth" not in name
    and name
    not in (
        "sparsity",
        "mask_entropy",
        "roc_auc",
        "average_precision",
        "pooled_roc_auc",
        "pooled_average_precision",
        "gea",
    )
]


@pytest.mark.parametrize("level", ["node", "graph"])
@pytest.mark.parametrize("name", RUN_THE_MODEL)
def test_metrics_take_it(name: str, level: str) -> None:
    model, data = network(level)
    explanations = gx.explain(model, data, "saliency", task=level, index=[2, 0, 3], progress=False)
    prepared, metric = gx.prepare(model, data, task=level), gx.metrics.REGISTRY[name]
    options = {"labels": torch.arange(len(prepared)) % 3} if "phenomenon" in name else {}
    if name == "ges":
        options |= {"noise": 0.001, "copies": 2}
    for one, other in zip(
        tensors(metric(model, data, explanations, **options)),
        tensors(metric(prepared, explanations, **options)),
        strict=True,
    ):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-6, equal_nan=True)
    by_name = metric(model=prepared, explanations=explanations, **options)
    assert all(
        a.equal(b)
        for a, b in zip(
            *(map(Tensor.nan_to_num, tensors(r)) for r in (by_name, metric(prepared, explanations, **options))),
            strict=True,
        )
    )


def test_metrics_refuse_what_does_not_belong_to_it(karate: Any) -> None:
    prepared = gx.prepare(karate.model, karate.data)
    explanations = gx.explain(prepared, "saliency", index=INDEX, progress=False)
    for metric in (gx.metrics.fidelity, gx.metrics.seed_stability):
        with pytest.raises(InputError, match="expected no data beside a prepared problem"):
            metric(prepared, karate.data, explanations)
        other = dataclasses.replace(explanations, task=testing.CASES["gine_regression"].task)
        with pytest.raises(InputError, match="expected explanations of the task that was prepared"):
            metric(prepared, other)
    with torch.no_grad():
        next(karate.model.parameters()).add_(1)
    for metric in (gx.metrics.fidelity, gx.metrics.ges, gx.metrics.model_randomization):
        with pytest.raises(InputError, match="changed since"):
            metric(prepared, explanations)


def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for every first look at a model."""
    seen: list[None] = []
    original: Callable[..., Any] = first_look.look

    def counted(*args: Any, **options: Any) -> Any:
        seen.append(None)
        return original(*args, **options)

    monkeypatch.setattr(first_look, "look", counted)
    return seen


def test_a_comparison_prepares_once(karate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    seen = looks(monkeypatch)
    asked: Any = (["saliency", "edge_ablation"], ["fidelity", "unfaithfulness", "seed_stability", "contrastivity"])
    options: dict[str, Any] = {"index": INDEX, "progress": False}
    comparison = gx.compare(karate.model, karate.data, *asked, **options)
    assert len(seen) == 1
    comparison.fidelity_over_sparsity()
    assert len(seen) == 2
    prepared = gx.prepare(karate.model, karate.data)
    again = gx.compare(prepared, *asked, **options)
    curves = again.fidelity_over_sparsity()
    assert len(seen) == 3
    assert curves.equals(comparison.fidelity_over_sparsity())
    for key, results in comparison.results.items():
        for one, other in zip(results, again.results[key], strict=True):
            torch.testing.assert_close(other.values, one.values, rtol=0, atol=1e-6, equal_nan=True)


def test_a_metric_of_the_users_gets_model_and_data(karate: Any) -> None:
    pytest.importorskip("pandas")
    seen: list[Any] = []

    def mine(
        explanations: gx.Explanations, model: Any, data: Any, prepared: Any, forward: Any = None
    ) -> gx.metrics.Result:
        seen.append((model, data, prepared, forward))
        return gx.metrics.Result("mine", torch.zeros(len(explanations)), "higher")

    prepared = gx.prepare(karate.model, karate.data, forward=as_a_user_calls_it)
    gx.compare(prepared, ["saliency"], [mine], index=INDEX, progress=False)
    assert all(got == (karate.model, karate.data, prepared, as_a_user_calls_it) for got in seen)
    seen.clear()
    gx.compare(karate.model, karate.data, ["saliency"], [mine], index=INDEX, progress=False)
    assert all(got[0] is karate.model and isinstance(got[2], gx.Prepared) for got in seen)


# Passes through the model #############################################################################################


def test_passes_of_saliency(karate: Any, passes: list[None]) -> None:
    gx.explain(karate.model, karate.data, "saliency", index=INDEX, progress=False)
    # The data, the data under the probe, parts of it, those beside a stranger, computation graphs, gradients, both masks.
    assert len(passes) == 7
    prepared = gx.prepare(karate.model, karate.data)
    gx.explain(prepared, "saliency", index=INDEX, progress=False)
    passes.clear()
    gx.explain(prepared, "saliency", index=INDEX, progress=False)
    assert 1 <= len(passes) <= 3


# Little work ##########################################################################################################


def briefly(model: nn.Module, data: Any, index: Any, algorithm: Any = "saliency", **options: Any) -> bool:
    """Whether a call seeks no faster way; its scores must be those of a prepared problem."""
    direct = gx.explain(model, data, algorithm, index=index, progress=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GnnXaiWarning)
        prepared = gx.explain(gx.prepare(model, data), algorithm, index=index, progress=False, **options)
    equal(direct, prepared, "provenance", "hops")
    return {layer.get("why") for layer in direct.provenance["layers"]} == {
        "for so little work, no faster way was sought"
    }


def test_a_faster_way_is_sought_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = network()
    assert briefly(model, data, [0, 1])
    assert briefly(model, data, [0, 1], "input_x_gradient")
    assert briefly(model, data, [0, 1], "random")
    assert not briefly(model, data, [0, 1], "edge_ablation")
    assert not briefly(model, data, [0] * (SAMPLE + 1))
    assert not briefly(model, data, [0, 1], max_neighbors=2)
    graphs = network("graph")
    assert briefly(*graphs, [0, 1])
    monkeypatch.setattr(choice, "LITTLE", 5)
    assert not briefly(model, data, [0, 1])
    assert not briefly(*graphs, [0, 1])


class Shares(nn.Module):
    """Shares of the largest output of all nodes: not local, and in [0, 1] like probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SAGEConv(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out = self.conv(x, edge_index).exp()
        return out / out.sum()


def test_what_one_pass_does_not_verify_is_prepared_in_full() -> None:
    torch.manual_seed(0)
    data = Data(x=torch.randn(12, 4), edge_index=torch.stack([torch.arange(12), (torch.arange(12) + 1) % 12]))
    labels = ModelConfig("binary_classification", "node", "raw")
    for model, task, hops, messages in (
        (Shares().eval(), labels, -1, ["all 24 outputs lie in", "the model is not local"]),
        (
            testing.Network([pyg.ChebConv(4, 3, K=2)]).eval(),
            None,
            1,
            [],
        ),  # reads degrees of the other direction, so it is fused
        (testing.Network([pyg.GCNConv(4, 3)]).eval(), None, 2, []),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            explanations = gx.explain(model, data, "saliency", index=list(range(8)), task=task, progress=False)
        assert explanations.hops.tolist() == [hops] * 8
        told = [str(warning.message) for warning in caught]
        assert len(told) == len(messages)
        assert all(text.startswith(start) for text, start in zip(told, messages, strict=True))


# Changes ##############################################################################################################


class Normed(nn.Module):
    """A GCN after a batch normalisation, for the buffers of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.conv = gx.testing.CASES["gcn_undirected"].model()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(self.norm(x), edge_index)


def in_place(model: Normed, data: Data) -> str:
    with torch.no_grad():
        model.norm.weight[0] += 1e-3
    return "model.norm.weight"


def optimizer_step(model: Normed, data: Data) -> str:
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    model.norm.bias.grad = torch.ones_like(model.norm.bias)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return "model.norm.bias"


def other_weights(model: Normed, data: Data) -> str:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["norm.weight"] += 1
    model.load_state_dict(state)
    return "model.norm.weight"


def replaced(model: Normed, data: Data) -> str:
    model.norm.bias = nn.Parameter(model.norm.bias + 1)
    return "model.norm.bias"


def removed(model: Normed, data: Data) -> str:
    model.norm.bias = None  # type: ignore[assignment]
    return "model.norm.bias"


def buffer(model: Normed, data: Data) -> str:
    norm = model.norm  # this changes them without a change of their version counters
    nn.functional.batch_norm(data.x, norm.running_mean, norm.running_var, training=True)
    return "model.norm.running_mean"


def behind_autograd(model: Normed, data: Data) -> str:
    model.norm.weight.data[0] = 3.0
    return "model.norm.weight"


def features(model: Normed, data: Data) -> str:
    data.x[0, 0] += 1
    return "data.x"


def other_features(model: Normed, data: Data) -> str:
    data.x = data.x + 1
    return "data.x"


def other_edges(model: Normed, data: Data) -> str:
    data.edge_index = data.edge_index[:, :-2]
    return "data.edge_index"


def added(model: Normed, data: Data) -> str:
    data.edge_weight = torch.rand(data.num_edges)
    return "data.edge_weight"


CHANGES = [
    in_place,
    optimizer_step,
    other_weights,
    replaced,
    removed,
    buffer,
    behind_autograd,
    features,
    other_features,
    other_edges,
    added,
]


@pytest.fixture
def normed() -> tuple[Normed, Data]:
    torch.manual_seed(0)
    data = network()[1]
    return Normed(data.num_features).eval(), data


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change: Callable[[Normed, Data], str], normed: tuple[Normed, Data]) -> None:
    model, data = normed
    prepared = gx.prepare(model, data)
    sent = pickle.dumps(prepared)
    name = change(model, data)
    sentence = f"expected the model and data that were prepared, but {name} changed since; call gnn_xai.prepare again"
    for use in (lambda: gx.explain(prepared, "saliency", progress=False), lambda: pickle.dumps(prepared)):
        with pytest.raises(InputError) as error:
            use()
        assert str(error.value) == sentence
    # What was sent before is of the old model, which it holds itself; and it notices changes of that.
    other = pickle.loads(sent)
    gx.explain(other, "saliency", progress=False)
    name = change(other.problem.model, other.graphs.source)
    with pytest.raises(InputError, match=f"{name} changed since"):
        gx.explain(other, "saliency", progress=False)


def test_one_graph_of_several_that_changed_is_named() -> None:
    model, data = network("graph")
    prepared = gx.prepare(model, data, task="graph")
    data[2].x = data[2].x * 2
    with pytest.raises(InputError, match=r"data\[2\]\.x changed since"):
        gx.explain(prepared, "saliency", index=0, progress=False)


def test_the_same_again_is_accepted(normed: tuple[Normed, Data]) -> None:
    model, data = normed
    prepared = gx.prepare(model, data)
    before = gx.explain(prepared, "saliency", progress=False)
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    model.norm.bias = nn.Parameter(model.norm.bias.clone())
    data.x = data.x.clone()
    model.train()
    equal(before, gx.explain(prepared, "saliency", progress=False))
    assert model.training


def test_the_model_and_the_data_stay_as_they_are(karate: Any) -> None:
    state, data = copy.deepcopy(karate.model.state_dict()), karate.data.clone()
    karate.model.train()
    prepared = gx.prepare(karate.model, karate.data)
    assert karate.model.training
    assert prepared.problem.model is karate.model
    assert prepared.graphs.source is karate.data
    assert all(torch.equal(value, karate.model.state_dict()[name]) for name, value in state.items())
    assert all(torch.equal(data[key], karate.data[key]) for key in data.keys() if isinstance(data[key], Tensor))  # noqa: SIM118


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(gx.Prepared)])
def test_it_is_frozen(name: str, karate: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(gx.prepare(karate.model, karate.data), name, None)


# Other processes, and parts ###########################################################################################

WORKER = """
import pickle, sys
import torch
import gnn_xai as gx
torch.set_num_threads(1)
prepared, index = pickle.load(sys.stdin.buffer)
explanations = gx.explain(prepared, "gnn_explainer", index=index, progress=False)
fidelity = gx.metrics.fidelity(prepared, explanations).plus.values
pickle.dump((explanations.edge_mask, fidelity), sys.stdout.buffer)
"""


def test_another_process_gives_the_same(karate: Any) -> None:
    prepared = gx.prepare(karate.model, karate.data, forward=as_a_user_calls_it)
    part = prepared.parts(12)[5]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=pickle.dumps((prepared, part)),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr.decode()
    mask, fidelity = pickle.loads(answer.stdout)
    explanations = gx.explain(prepared, "gnn_explainer", index=part, progress=False)
    torch.testing.assert_close(mask, explanations.edge_mask, rtol=0, atol=1e-6)
    torch.testing.assert_close(fidelity, gx.metrics.fidelity(prepared, explanations).plus.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", testing.CASES)
def test_a_copy_gives_the_same(case: str) -> None:
    of = testing.CASES[case]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", of.warning or "$")
        prepared = gx.prepare(of.model(), of.handed(), task=of.task, **({} if of.types is None else of.types.options))
    before = gx.explain(prepared, "saliency", progress=False)
    for other in (pickle.loads(pickle.dumps(prepared)), copy.deepcopy(prepared)):
        assert other.problem.model is not prepared.problem.model
        equal(before, gx.explain(other, "saliency", progress=False))


@pytest.mark.parametrize("level", ["node", "graph"])
@pytest.mark.parametrize("algorithm", ["random", "edge_ablation", "gnn_explainer"])
def test_parts_joined_are_the_whole(level: str, algorithm: str) -> None:
    model, data = network(level)
    prepared = gx.prepare(model, data, task=level)
    method = gx.algorithms.get(algorithm, **FEW.get(algorithm, {}))
    whole = gx.explain(prepared, method, progress=False)
    parts = [gx.explain(prepared, method, index=part, progress=False) for part in prepared.parts(3)]
    for name in ("index", "edge_id", "node_id", "edge_mask", "prediction_masked"):
        joined = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(joined, getattr(whole, name), rtol=0, atol=1e-6)


def test_parts_of_an_index(karate: Any) -> None:
    prepared = gx.prepare(karate.model, karate.data)
    assert [len(part) for part in prepared.parts(3)] == [12, 11, 11]
    assert torch.equal(torch.cat(prepared.parts(5)), torch.arange(34))
    assert [part.tolist() for part in prepared.parts(2, [7, 1, 1])] == [[7, 1], [1]]
    assert [part.tolist() for part in prepared.parts(9, [7, 1])] == [[7], [1]]
    for wrong in (0, -1, True, 1.5, "2"):
        with pytest.raises(InputError, match="expected a positive number of parts"):
            prepared.parts(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="index"):
        prepared.parts(2, [34])


# PyG and molecules ####################################################################################################


def test_explanations_of_pyg_are_read() -> None:
    model, data = network()
    explanations = gx.explain(model, data, "saliency", index=[0, 5], progress=False)
    of_pyg = [explanations.to_pyg(i) for i in range(2)]
    prepared = gx.prepare(model, data)
    equal(gx.Explanations.from_pyg(of_pyg, model, data), gx.Explanations.from_pyg(of_pyg, prepared))
    equal(gx.pyg.read(of_pyg, model, data), gx.pyg.read(of_pyg, prepared))
    with pytest.raises(InputError, match="expected task= where the problem is prepared"):
        gx.pyg.read(of_pyg, prepared, task="node")


def test_counterfactuals_take_model_and_task() -> None:
    pytest.importorskip("rdkit")
    example = gx.datasets.load("nci_nitro")
    molecules = [example.data[i] for i in example.index[:2].tolist()]
    options: dict[str, Any] = {"max_edits": 1, "limit": 3}
    direct = gx.molecules.counterfactuals(example.model, molecules, task=example.task, **options)
    prepared = gx.prepare(example.model, molecules, task=example.task)
    for one, other in zip(direct, gx.molecules.counterfactuals(prepared, molecules, **options), strict=True):
        assert [item.smiles for item in one] == [item.smiles for item in other]
    with pytest.raises(InputError, match="expected task= where the problem is prepared"):
        gx.molecules.counterfactuals(prepared, molecules, task="graph")


# Unions and batches #################################################################################################


@pytest.mark.parametrize("level", ["node", "graph"])
@pytest.mark.parametrize("limit", ["session.SMALL", "computation_graphs.KEPT"])
def test_how_runs_share_unions_changes_nothing(level: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = network(level)
    methods = [gx.Saliency(), gx.EdgeAblation(), gx.GNNExplainer(epochs=3, node_mask_type="attributes")]

    def explained() -> list[gx.Explanations]:
        prepared = gx.prepare(model, data)
        return [gx.explain(prepared, method, progress=False) for method in [*methods, *methods]]

    expected = explained()
    module, name = limit.split(".")
    monkeypatch.setattr({"session": session, "computation_graphs": computation_graphs}[module], name, 0.01)
    for one, other in zip(expected, explained(), strict=True):
        equal(one, other)


def test_runs_on_the_same_instances_share_a_union(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = computation_graphs.ComputationGraphs._replicas

    def counted(self: Any, select: Tensor, by_depth: bool) -> Any:
        made.append(len(select))
        return make(self, select, by_depth)

    model, data = network("graph")
    prepared = gx.prepare(model, data * 10)
    monkeypatch.setattr(session, "SMALL", 0)
    monkeypatch.setattr(computation_graphs.ComputationGraphs, "_replicas", counted)
    for _ in range(2):
        gx.explain(prepared, "saliency", progress=False)
    assert made == [len(prepared)]
