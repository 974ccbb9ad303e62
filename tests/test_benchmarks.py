"""The benchmarks run: workloads on tiny data, peers in our format, tables and picture. No time is asserted."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Data

import gnn_xai as gx
from benchmarks import measure, report, scale, speed, workloads
from benchmarks.peers import EXACT, PEERS, as_explanations, in_play, missing
from benchmarks.plot import plot_rates

# Captum says that it sets requires_grad on its inputs, each time.
pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning")

ON_MOLECULES = ("molecules", "saliency", "integrated_gradients", "edge_ablation")


@pytest.fixture
def tiny_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in the form of the real ones, in their place."""
    monkeypatch.setattr(workloads, "FOLDER", tmp_path)
    generator = np.random.default_rng(0)
    for name, classes in (("cora.npz", 7), ("amazon_photo.npz", 8)):
        nodes, features, each = 200, 12, 3
        pairs = generator.integers(nodes, size=(2, 260))
        pairs = np.unique(pairs[:, pairs[0] < pairs[1]], axis=1)
        part = np.arange(nodes) % 2 == 0
        np.savez(
            tmp_path / name,
            edge_index=np.concatenate([pairs, pairs[::-1]], axis=1).astype(np.int32),
            x_indptr=np.arange(0, nodes * each + 1, each).astype(np.int32),
            x_indices=np.stack([generator.permutation(features)[:each] for _ in range(nodes)]).ravel().astype(np.int16),
            x_data=np.ones(nodes * each, dtype=np.uint8),
            x_shape=np.array([nodes, features]),
            y=np.arange(nodes) % classes,
            train_mask=part,
            test_mask=~part,
        )


@pytest.mark.parametrize("name", list(workloads.WORKLOADS))
def test_a_workload_is_explained_by_us_and_by_its_peers(name: str, tiny_files: None) -> None:
    if name in ON_MOLECULES:
        pytest.importorskip("rdkit")
    if name in ("saliency", "integrated_gradients"):
        pytest.importorskip("captum")
    workload = workloads.build(name, quick=True)
    workload = replace(workload, index=workload.index[:4])
    assert workload.name == name
    assert 0 <= workload.accuracy <= 1
    peers = {peer: PEERS[peer](workload) for peer in workload.peers if not missing(peer)}
    turns = speed.in_turns(workload, peers, rounds=2)
    assert len(turns.ours) == 4
    for peer in peers:
        assert len(turns.ms[peer]) == len(turns.ms["gnn_xai"]) == len(turns.masks[peer]) == 2
        assert peer not in EXACT or turns.deviation[peer] < 1e-3
        same = turns.ours[turns.positions[peer]]
        theirs = as_explanations(turns.masks[peer], same)
        assert theirs.edge_mask.shape == same.edge_mask.shape
        assert theirs.node_mask is None or theirs.node_mask.shape == same.node_mask.shape
        assert {r.name for r in speed.quality(workload, theirs)} <= {r.name for r in speed.quality(workload, same)}
    if workload.layers:
        assert measure.bytes_per_epoch(workload, turns.ours) > 0
    assert pickle.loads(pickle.dumps(workload)).checkpoint() == workload.checkpoint()


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "edge_ablation"])
def test_peers_are_asked_the_same(name: str) -> None:
    """What is not learned has one right answer. (For edges not in gradients: there our directions share one mask.)"""
    pytest.importorskip("rdkit")
    if name != "edge_ablation":
        pytest.importorskip("captum")
    workload = workloads.build(name, quick=True)
    (peer,) = workload.peers
    ours = workload.explain()[0]
    edge, node = in_play(PEERS[peer](workload)(ours.index), ours)
    if name == "edge_ablation":
        torch.testing.assert_close(ours.edge_mask, edge, rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(ours.node_mask, node, rtol=1e-4, atol=1e-4)


def test_training_is_deterministic(tiny_files: None) -> None:
    assert workloads.build("gat").checkpoint() == workloads.build("gat").checkpoint()


def test_a_run_is_printed_written_and_drawn(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(speed, "memory", lambda *_: 12.5)
    monkeypatch.setattr(speed, "copy_bandwidth", lambda device: measure.copy_bandwidth(device, megabytes=1, rounds=2))
    monkeypatch.setattr(workloads, "FOLDER", tmp_path / "nowhere")
    speed.main(["--rows", "ba_shapes", "gat", "--quick", "--rounds", "2", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "threads 1" in printed
    assert "Left out: gat, because cora.npz is not there" in printed
    found = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    (row,) = found["rows"]
    assert row["ms"]["min"] <= row["ms"]["median"] <= row["ms"]["max"]
    assert set(found["scaling"]["ba_shapes"]["rates"]) == {"gnn_xai", "pyg", "pyg_subgraph"}
    assert "gnn_explainer" in (tmp_path / "speed.json").read_text(encoding="utf-8")
    assert "PyG on a subgraph" in (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def made_up() -> dict:
    spread = {"median": 2.0, "min": 1.0, "max": 300.0}
    side = {"mean": 0.75, "stderr": None, "n": 1}
    peer = {
        "ms": spread,
        "ratio": spread,
        "instances": 1,
        "deviation": 0.5,
        "quality": {"edge ROC-AUC": {"gnn_xai": side, "peer": side}},
        "peak MB": 7.0,
    }
    row = {
        "name": "made_up",
        "title": "a row",
        "instances": 1000,
        "ms": spread,
        "peak MB": 1234.5,
        "bytes": {"an epoch": 5_000_000, "epochs": 100, "a second": 3e9, "share": 0.25},
        "peers": {"pyg": peer, "graph_explain": {"skipped": "not installed"}},
    }
    return {
        "machine": {"cores": 2},
        "copy bandwidth": 12e9,
        "rows": [row],
        "scaling": {"made_up": {"title": "a row", "rates": {"gnn_xai": {1: 3.0, 30: 50.0}, "pyg": {1: 2.0}}}},
        "left out": {"other": "it is not there"},
    }


def test_tables_have_as_many_cells_as_columns() -> None:
    page = report.speed_page(made_up())
    columns = [len(c) for c in (report.SPEED, report.QUALITY, report.BYTES)]
    tables = [part for part in page.split("\n\n") if part.startswith("|")]
    for table, width in zip(tables, columns, strict=True):
        assert {line.count("|") for line in table.splitlines()} == {width + 1}
    assert "| `made_up`: a row | 1000 | 2.00 (1.00–300) | 500 | PyG (explains an output that is off by 0.5) |" in page
    assert "2.00× (1.00–300) | AUC 0.75 / 0.75 | 1,234 / 7.0 |" in page
    assert "graph-explain | not installed |" in page
    assert "0.750 ± –" in page
    assert "| 5.00 | 100 | 3.00 | 25.0% |" in page


def test_rates_are_drawn(tmp_path: Path) -> None:
    plot_rates(made_up()["scaling"], tmp_path / "new" / "rates.png")
    assert (tmp_path / "new" / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_shares_hold_each_size_and_no_instance_twice() -> None:
    sizes = torch.randperm(60)
    parts = measure.shares(sizes, share=4, rounds=5)
    assert len(torch.cat(parts).unique()) == 20
    for part in parts:
        assert (sizes[part] // 15).tolist() == [0, 1, 2, 3]
    assert [len(part) for part in measure.shares(torch.arange(3), share=4, rounds=5)] == [1] * 5


def test_bytes_of_an_epoch_on_a_path() -> None:
    """Target 0 of a path 0-1-2-3 under two layers: by hand."""
    ends = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    data = Data(x=torch.eye(4), edge_index=ends)
    torch.manual_seed(0)
    model = gx.datasets.models.GCN(4, 16, 3, num_layers=2).eval()
    layers = (workloads.Layer(16), workloads.Layer(3, heads=2))
    task = gx.datasets.load("karate").task
    algorithm = gx.GNNExplainer(epochs=2, node_mask_type="object")
    workload = workloads.Workload("path", "", model, data, task, torch.tensor([0]), algorithm, {}, layers)
    masks = 8 * (2 + 3)  # edges 0-1 and 1-2, nodes 0, 1 and 2
    last = 3 * (3 * 2 + 2 * 1) + (2 + 3 * 2) * 1  # nodes 0 and 1 enter, 0 leaves; one edge into it
    first = 16 * (3 * 3 + 2 * 2) + (2 + 3) * 3  # 0, 1 and 2 enter, 0 and 1 leave; three edges into these
    assert measure.bytes_per_epoch(workload, workload.explain()) == 4 * (masks + last + first)
    workload = replace(workload, algorithm=gx.GNNExplainer(epochs=2, node_mask_type="attributes"))
    features = 4 * 3  # one non-zero feature a node
    assert measure.bytes_per_epoch(workload, workload.explain()) == 4 * (masks + last + first + features)


def test_peak_memory_is_that_of_the_job() -> None:
    workload = replace(workloads.build("ba_shapes", quick=True), algorithm=gx.GNNExplainer(epochs=1))
    assert 0 <= speed._memory(pickle.dumps(workload), None, 0, torch.get_num_threads(), "cpu") < 500
    held: list[nn.Parameter] = []
    took = measure.peak(lambda: held.append(nn.Parameter(torch.ones(40 * measure.MB // 4))))
    assert 35 < took < 80


def test_a_power_law_graph_is_undirected_and_has_hubs() -> None:
    data = scale.power_law(2000)
    assert data.is_undirected()
    assert 8 < data.num_edges / 2000 <= 10
    assert int(torch.bincount(data.edge_index[0]).max()) > 200


def test_the_cost_of_a_growing_graph_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MANY", 20)
    edges, once, cost = scale.growth(300, rounds=1)
    assert edges == scale.power_law(300).num_edges
    assert once[0] > 0
    assert -once[0] < cost[0]
    assert 0 <= cost[1] < 500
