"""Algorithms that are fitted over many instances first: how they learn, what they refuse, and their files."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.errors import InputError, StorageError
from tests.references import masked, run
from tests.test_cli import run as run_cli

FITTED_FIRST = [name for name, cls in gx.algorithms.REGISTRY.items() if gx.algorithms.needs_fit(cls)]
QUICK = gx.PGExplainer(epochs=4, lr=0.05)
INDEX = (4, 0, 9, 7)


def fitted(algorithm: Any = QUICK, case: str = "gcn_undirected", **options: Any) -> gx.Fitted:
    of = testing.CASES[case]
    options = {"model": of.model(), "data": of.data(), "task": of.task, "index": list(of.index), **options}
    return algorithm.fit(**{"progress": False, **options})


def same(one: gx.Fitted, other: gx.Fitted, within: float = 0.0) -> bool:
    assert one.parameters.keys() == other.parameters.keys()
    return all(testing.distance(one.parameters[name], other.parameters[name]) <= within for name in one.parameters)


# PGExplainer against a plain loop ####################################################################################


def plain_pg_explainer(model: nn.Module, data: Any, nodes: list[int], algorithm: gx.PGExplainer) -> dict[str, Tensor]:
    """Parameters after all epochs: nodes one after the other on the whole graph, edges by loops, PyTorch's Adam."""
    states: list[Tensor] = []
    handles = [
        conv.register_forward_hook(lambda module, args, out: states.append(out.detach())) for conv in model.convs
    ]
    with torch.no_grad():
        logits = run(model, data)
    for handle in handles:
        handle.remove()
    z, targets = torch.cat([nn.functional.normalize(state) for state in states], 1), logits.argmax(1)
    place = torch.arange(64 * (3 * z.size(1) + 1))
    drawn = ((2 * keyed_uniform(0, place, torch.zeros_like(place)) - 1) / (3 * z.size(1)) ** 0.5).to(z)
    first = nn.Linear(3 * z.size(1), 64).to(z)
    first.weight.data, first.bias.data = drawn[:-64].reshape(64, -1), drawn[-64:]
    place = torch.arange(65)
    drawn = ((2 * keyed_uniform(0, place, torch.ones_like(place)) - 1) / 8).to(z)
    second = nn.Linear(64, 1).to(z)
    second.weight.data, second.bias.data = drawn[:-1].reshape(1, -1), drawn[-1:]
    network = nn.Sequential(first, nn.ReLU(), second)
    optimizer = torch.optim.Adam(network.parameters(), lr=algorithm.lr)
    pairs = data.edge_index.t().tolist()
    for epoch in range(algorithm.epochs):
        temperature = algorithm.temperature[0] * (algorithm.temperature[1] / algorithm.temperature[0]) ** (
            epoch / algorithm.epochs
        )
        loss = torch.zeros(1, dtype=z.dtype)
        for node in nodes:
            _, inside = testing.reachable(data.edge_index, [node], 2)
            mask = torch.ones(len(pairs), dtype=z.dtype)
            values = {}
            for edge in sorted(inside):
                u, v = pairs[edge]
                back = pairs.index([v, u])
                logit = network(torch.cat([z[u], z[v], z[node]]))
                key = edge
                if back in inside:
                    logit = (logit + network(torch.cat([z[v], z[u], z[node]]))) / 2
                    key = min(edge, back)
                keys = (torch.tensor([part]) for part in (node, key, epoch))
                noise = 0.01 + 0.98 * keyed_uniform(0, *keys)
                values[edge] = ((logit + torch.logit(noise).to(z)) / temperature).sigmoid()
            for edge, value in values.items():
                mask = mask.index_copy(0, torch.tensor([edge]), value)
            with masked(model, data, mask):
                out = run(model, data)[node]
            loss = loss - out.log_softmax(0)[targets[node]]
            for value in values.values():
                clear = 0.99 * value + 0.005
                entropy = -clear * clear.log() - (1 - clear) * (1 - clear).log()
                loss = loss + algorithm.edge_size * value + algorithm.edge_ent * entropy / len(values)
        optimizer.zero_grad()
        (loss / len(nodes)).sum().backward()
        optimizer.step()
    return {
        "hidden": first.weight.detach(),
        "hidden_bias": first.bias.detach(),
        "out": second.weight.detach(),
        "out_bias": second.bias.detach(),
    }


def test_pg_explainer_is_what_a_plain_loop_gives() -> None:
    model, data = testing.CASES["gcn_undirected"].model().double(), testing.random_graph(0, 10, 14, undirected=True)
    data.x = data.x.double()
    algorithm = gx.PGExplainer(epochs=3, lr=0.02)
    got = algorithm.fit(model, data, index=[4, 0, 7], progress=False)
    want = plain_pg_explainer(model, data, [4, 0, 7], algorithm)
    for name, value in want.items():
        torch.testing.assert_close(got.parameters[name], value, rtol=0, atol=1e-9)


def test_pg_explainer_finds_the_planted_motif() -> None:
    """Fitted on half of the houses it knows the edges of the other half, and a network that was not fitted does not."""
    houses = gx.datasets.load("ba_shapes")
    nodes = (houses.ground_truth.node >= 0).nonzero().flatten()[::4]
    auc = []
    for lr in (0.003, 1e-9):
        algorithm = gx.PGExplainer(lr=lr)
        ready = algorithm.fit(houses.model, houses.data, index=nodes[::2], progress=False)
        explanations = gx.explain(houses.model, houses.data, ready, index=nodes[1::2], progress=False)
        auc.append(float(gx.metrics.roc_auc(explanations, houses.ground_truth).mean))
    assert auc[0] > 0.9 > auc[1]


# What fitting depends on, and what it does not #######################################################################


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("case", ["gcn_undirected", "gin_graphs"])
def test_memory_and_chunks_make_no_difference(case: str, batch_size: int | None, monkeypatch: Any) -> None:
    algorithm = gx.PGExplainer(epochs=4, lr=0.05, batch_size=batch_size)
    whole = fitted(algorithm, case)
    assert same(whole, fitted(algorithm, case, batch_budget=1), 1e-4)  # Adam divides small gradients by their size
    one_by_one = functools.partialmethod(gx.Prepared.chunks, limit=1)
    monkeypatch.setattr(gx.Prepared, "chunks", one_by_one)
    assert same(whole, fitted(algorithm, case), 1e-4)
    assert not same(whole, fitted(gx.PGExplainer(epochs=4, lr=0.05, batch_size=1), case), 1e-3)


@pytest.mark.parametrize("name", FITTED_FIRST)
def test_seed_order_and_preparation(name: str) -> None:
    case = testing.CASES["gcn_undirected"]
    one = fitted()
    assert same(one, fitted())
    assert not same(one, fitted(seed=1))
    assert same(one, fitted(index=list(case.index)[::-1]), 1e-4)
    prepared = gx.prepare(case.model(), case.data(), task=case.task)
    assert same(one, fitted(model=prepared, data=None, task=None))
    with pytest.raises(InputError, match="pass it to gnn_xai.prepare"):
        fitted(model=prepared, data=None)


@pytest.mark.parametrize(
    ("mode", "returned"),
    [("binary_classification", "raw"), ("binary_classification", "probs"), ("regression", "raw")],
)
def test_other_tasks(mode: Any, returned: Any) -> None:
    data = testing.random_graph(0, 10, 14, undirected=True)
    model = testing.CASES["gcn_undirected"].model()
    task = ModelConfig(mode, "node", returned)

    def forward(model: nn.Module, data: Any) -> Tensor:
        out = model(data.x, data.edge_index)[:, :1]
        return out.sigmoid() if returned == "probs" else out

    ready = QUICK.fit(model, data, task=task, forward=forward, index=INDEX, progress=False)
    explanations = gx.explain(model, data, ready, task=task, forward=forward, index=[1, 2], progress=False)
    assert 0 < float(explanations.edge_mask.max()) < 1


def test_target_is_what_is_learned() -> None:
    ready = fitted(target=1)
    assert ready.target.tolist() == [1] * len(ready.target)
    assert not same(ready, fitted(target=2), 1e-4)


# Files ###############################################################################################################


class Stop(Exception):
    pass


def test_file_keeps_the_algorithm(tmp_path: Path) -> None:
    case, ready = testing.CASES["gcn_undirected"], fitted()
    ready.save(tmp_path / "pg.safetensors")
    for again in (gx.load_algorithm(tmp_path / "pg.safetensors"), pickle.loads(pickle.dumps(ready))):
        assert again.algorithm == ready.algorithm
        assert same(ready, again)
        assert again.describe() == ready.describe()
        assert torch.equal(case.explain(again).edge_mask, case.explain(ready).edge_mask)
    described = case.explain(ready).algorithm
    assert described["name"] == "pg_explainer"
    assert described["fitted"]["instances"] == len(case.index)


def test_killed_fit_goes_on_where_it_was(tmp_path: Path) -> None:
    file, whole, epochs = tmp_path / "fit.safetensors", fitted(), []

    def stop(epoch: int, losses: dict[str, float]) -> None:
        assert losses.keys() == {"prediction", "edge_size", "edge_ent"}
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        fitted(out=file, callback=stop)
    with pytest.raises(StorageError, match="stopped after epoch 2; the same call of fit"):
        gx.load_algorithm(file)
    resumed = fitted(out=file, callback=lambda epoch, losses: epochs.append(epoch))
    assert epochs == [3, 4]
    assert same(whole, resumed)
    assert resumed.losses == whole.losses
    assert same(whole, gx.load_algorithm(file))
    assert same(whole, fitted(out=file, callback=stop))  # nothing is left to do
    for other in ({"seed": 1}, {"target": 1}, {"index": [0, 1]}, {"algorithm": gx.PGExplainer(epochs=4, lr=0.1)}):
        with pytest.raises(StorageError, match="something else than this fit"):
            fitted(**other, out=file)
    testing.CASES["gcn_undirected"].explain("saliency").save(tmp_path / "other.safetensors")
    with pytest.raises(StorageError, match="holds no fitted algorithm"):
        gx.load_algorithm(tmp_path / "other.safetensors")
    with pytest.raises(StorageError, match="cannot read .* as a fitted algorithm"):
        gx.load_algorithm(tmp_path / "missing.safetensors")


# With everything else that takes an algorithm #######################################################################


def test_compare_fits_what_has_to_be_fitted() -> None:
    karate = gx.datasets.load("karate")
    asked: dict[str, Any] = {"index": range(6), "progress": False}
    algorithms = [QUICK, "saliency"]
    table = gx.compare(karate.model, karate.data, algorithms, ["sparsity"], fit_index=range(10, 30), **asked)
    ready = QUICK.fit(karate.model, karate.data, index=range(10, 30), progress=False)
    assert list(table.explanations) == ["random", "pg_explainer", "saliency"]
    want = gx.explain(karate.model, karate.data, ready, **asked)
    assert torch.equal(table.explanations["pg_explainer"].edge_mask, want.edge_mask)
    gx.compare(karate.model, karate.data, [ready], ["sparsity"], **asked)
    with pytest.raises(InputError, match="expected fit_index=, the instances that pg_explainer is fitted on"):
        gx.compare(karate.model, karate.data, algorithms, ["sparsity"], **asked)
    with pytest.raises(InputError, match="leave fit_index out"):
        gx.compare(karate.model, karate.data, ["saliency"], ["sparsity"], fit_index=[1], **asked)


def test_metrics_that_explain_again() -> None:
    """On a model drawn anew it is fitted anew, as nothing else would ask whether it depends on the model."""
    karate = gx.datasets.load("karate")
    ready = QUICK.fit(karate.model, karate.data, index=range(10, 30), progress=False)
    explanations = gx.explain(karate.model, karate.data, ready, index=range(6), progress=False)
    result = gx.metrics.model_randomization(karate.model, karate.data, explanations, algorithm=ready)
    assert result is not None
    with pytest.raises(InputError, match="expected algorithm= with the fitted pg_explainer"):
        gx.metrics.model_randomization(karate.model, karate.data, explanations)


def test_run_on_disk_knows_what_was_fitted(tmp_path: Path) -> None:
    case, ready = testing.CASES["gcn_undirected"], fitted()
    stored = case.explain(ready, out=tmp_path / "run")
    assert torch.equal(stored[0].edge_mask, case.explain(ready)[0].edge_mask)
    with pytest.raises(StorageError):
        case.explain(fitted(seed=1), out=tmp_path / "run")


def test_command_line_fits_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["explain", "--dataset", "karate", "--algorithm", "pg_explainer", "--index", "0-3", "--set", "epochs=2"]
    assert run_cli(*asked, "--out", tmp_path / "missing") == 2
    assert "expected them as --fit-index" in capsys.readouterr().err
    done = [*asked, "--out", tmp_path / "done", "--fit-index", "5-30", "--figures", "1"]
    assert run_cli(*done) == 0
    explanations = gx.load(tmp_path / "done" / "explanations.safetensors")
    assert explanations.algorithm["fitted"]["instances"] == 26
    assert run_cli(*done, "--algorithm", "gnn_explainer", "--overwrite") == 2
    assert "leave out --fit-index" in capsys.readouterr().err


# What is refused #####################################################################################################


@pytest.mark.parametrize("name", FITTED_FIRST)
def test_unfitted_is_refused_with_the_line_to_write(name: str) -> None:
    case = testing.CASES["gcn_undirected"]
    cls = gx.algorithms.REGISTRY[name].__name__
    with pytest.raises(InputError, match=f"fitted = gnn_xai.{cls}\\(\\).fit\\(model, data, index=...\\)"):
        gx.explain(case.model(), case.data(), name, task=case.task, index=[0], progress=False)


def test_another_model_is_refused_and_refit_helps() -> None:
    case, ready = testing.CASES["gcn_undirected"], fitted()
    other = case.model()
    with torch.no_grad():
        next(other.parameters()).add_(0.5)
    with pytest.raises(InputError, match=r"other weights or layers; fit it on this one: fitted\.refit\(model, data\)"):
        gx.explain(other, case.data(), ready, task=case.task, index=[0], progress=False)
    again = ready.refit(other, case.data(), progress=False)
    assert torch.equal(again.index, ready.index)
    gx.explain(other, case.data(), again, task=case.task, index=[0], progress=False)


def test_instances_of_another_kind_are_refused() -> None:
    case = testing.CASES["gcn_links"]
    ready = fitted(case="gcn_links")

    def forward(model: nn.Module, data: Any) -> Tensor:
        z = testing.Network.forward(model, data.x, data.edge_index)
        return torch.cat([z, -z], 1)

    with pytest.raises(InputError, match="fitted on instances of 2 explained nodes each, got instances of 1"):
        gx.explain(case.model(), case.data(), ready, task="node", forward=forward, index=[0], progress=False)


def test_model_comes_back_from_a_fit_that_fails() -> None:
    case = testing.CASES["gcn_undirected"]
    model = case.model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def stop(epoch: int, losses: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(model=model, callback=stop)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": (1.0,)}, "expected temperature as a pair of numbers"),
        ({"temperature": (1.0, -1.0)}, "expected temperature as a positive number"),
        ({"sample_bias": 0.5}, r"expected sample_bias as a number in \(0, 0.5\)"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gx.PGExplainer(**options)


def test_layer_that_is_not_there() -> None:
    with pytest.raises(InputError, match="expected layer as one of 'convs.0', 'convs.1', got 'tail'"):
        fitted(gx.PGExplainer(epochs=1, layer="tail"))
    widths = [fitted(gx.PGExplainer(epochs=1, layer=layer)).parameters["hidden"].size(1) for layer in (None, "convs.0")]
    assert widths[0] > widths[1]
