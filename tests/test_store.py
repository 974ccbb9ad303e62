"""Runs on disk: killed, damaged, mixed up, without room; and what is read back, lazily and as tables."""

from __future__ import annotations

import copy
import enum
import errno
import functools
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

import gnn_xai as gx
from benchmarks import store as benchmark
from gnn_xai import api
from gnn_xai.algorithms.base import describe
from gnn_xai.core.arrays import batches
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.shelf import Shelf
from gnn_xai.errors import GnnXaiError, GnnXaiWarning, InputError, StorageError
from gnn_xai.extend import Scores, Session, algorithm
from gnn_xai.results import checksums, runs, tables
from gnn_xai.results import files as columns_file
from gnn_xai.results.checksums import checksum
from gnn_xai.results.columns import LEVELS
from gnn_xai.results.explanations import Explanations, joined
from gnn_xai.results.runs import MANIFEST, StoredExplanations
from tests.covering import every_value
from tests.models import model_and_graph, random_graph, seeded_gcn, small_graph

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SHARD", {"cpu": 150, "cuda": 150})
    monkeypatch.setattr(api, "BLOCK", 400)


def graphs(count: int = 30) -> list[Data]:
    return [small_graph(6 + number % 9, number) for number in range(count)]


def explained(out: Path | None = None, **changed: Any) -> Any:
    """A run on nodes; a keyword changes what is asked."""
    model, data = model_and_graph()
    asked = {"model": model, "data": data, "algorithm": "saliency", "seed": 3, "progress": False, **changed}
    return gx.explain(asked.pop("model"), asked.pop("data"), asked.pop("algorithm"), out=out, **asked)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def stop_after(shards: int, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    """Let `RunWriter.add` write so many shards, and raise at the next."""
    add, left = runs.RunWriter.add, [shards]

    def counting(self: runs.RunWriter, start: int, part: Explanations) -> None:
        if left[0] == 0:
            raise error or KeyboardInterrupt
        left[0] -= 1
        add(self, start, part)

    monkeypatch.setattr(runs.RunWriter, "add", counting)


def require_same(one: Explanations, other: Explanations, tolerance: float = 0.0) -> None:
    for name in ("index", "target", "exact", "hops", "node_ptr", "node_id", "edge_ptr", "edge_id", "edge_index"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in ("prediction", "prediction_masked", "prediction_complement", "edge_mask", "node_mask"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=name)
    assert one.extras.keys() == other.extras.keys()
    for name, value in one.extras.items():
        torch.testing.assert_close(value, other.extras[name], rtol=tolerance, atol=tolerance)
    for name in ("signed", "removal", "algorithm", "seed", "node_mask_type"):
        assert getattr(one, name) == getattr(other, name), name


# What is written is what explain says ################################################################################

NODES = {
    "all": {},
    "some, repeated, out of order": {"index": [40, 3, 3, 59, 0], "target": [0, 1, 2, 0, 1]},
    "learned": {"algorithm": gx.GNNExplainer(epochs=3, tol=0.5), "index": range(20)},
    "features": {"algorithm": gx.Saliency(node_mask_type="attributes"), "index": range(20)},
    "capped": {"max_neighbors": 2, "index": range(20)},
    "small batches": {"batch_budget": 40, "index": range(20)},
}


@pytest.mark.parametrize("case", NODES)
def test_a_stored_run_says_what_explain_says(case: str, tmp_path: Path) -> None:
    stored, plain = explained(tmp_path / "run", **NODES[case]), explained(**NODES[case])
    assert isinstance(stored, StoredExplanations)
    assert stored.complete
    assert len(stored) == len(plain)
    require_same(stored.explanations(), plain, 1e-5)
    require_same(gx.load(tmp_path / "run").explanations(), stored.explanations())
    assert stored.manifest["asked"] == stored.manifest["done"] == len(plain)
    assert stored.manifest["inexact"] == int((~plain.exact).sum())
    assert (stored.manifest["inexact"] > 0) == (case == "capped")


@pytest.mark.parametrize("form", ["list", "Batch", "one Data"])
def test_a_stored_run_of_graphs(form: str, tmp_path: Path) -> None:
    data: Any = {"list": graphs(), "Batch": Batch.from_data_list(graphs()), "one Data": small_graph(30)}[form]
    index = [0, 0] if form == "one Data" else [29, 3, 3, *range(4, 25)]
    target = [(position + 1) % 3 for position in range(len(index))]
    asked = {"model": seeded_gcn("graph"), "data": data, "task": "graph", "index": index, "target": target}
    stored = explained(tmp_path / "run", **asked)
    require_same(stored.explanations(), explained(**asked), 1e-5)
    assert len(stored.manifest["shards"]) == (2 if form == "one Data" else 6)
    assert torch.equal(stored[[1]].to_pyg(0).edge_mask, stored[1].edge_mask)


def test_a_list_is_never_a_union_of_all_its_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    start = api.core_prepare

    def spy(problem: Any, **options: Any) -> Any:
        seen.append(problem.graphs.num_nodes + problem.graphs.num_edges)
        return start(problem, **options)

    monkeypatch.setattr(api, "core_prepare", spy)
    explained(tmp_path / "run", model=seeded_gcn("graph"), data=graphs())
    assert len(seen) > 2
    assert max(seen) <= api.BLOCK


def test_lists_and_batches_are_the_same_data(tmp_path: Path) -> None:
    model = seeded_gcn("graph")
    explained(tmp_path / "run", model=model, data=graphs())
    before = files(tmp_path / "run")
    explained(tmp_path / "run", model=model, data=Batch.from_data_list(graphs()))
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize("i", [0, 33, -1, 59])
def test_one_explanation_by_position(i: int, tmp_path: Path) -> None:
    stored = explained(tmp_path / "run")
    e, plain = stored[i], explained()[i]
    assert e.index == plain.index
    assert torch.equal(e.edge_id, plain.edge_id)
    assert len(stored._cached) == 1, "more than one shard was read"


def test_selections_are_those_of_explanations(tmp_path: Path) -> None:
    stored = explained(tmp_path / "run")
    whole = stored.explanations()
    mask = torch.arange(60) % 7 == 2
    for selection in (slice(5, 50), slice(50, 5, -3), slice(3, 3), [], [59, 0, 0, 31], torch.tensor([7, 2]), mask):
        if isinstance(selection, slice) and (selection.step or 1) < 0:
            selection = list(range(60))[selection]  # tensors know no negative steps
        require_same(stored[selection], whole[selection])
    for position in (60, -61):
        with pytest.raises(IndexError, match=f"position {position} is out of range for 60 explanations"):
            stored[position]
    assert [e.index for e in stored] == list(range(60))
    assert sum(len(part) for part in stored.shards()) == 60
    assert len(stored._cached) <= runs.CACHED < len(stored.manifest["shards"])
    assert repr(stored).startswith("StoredExplanations(60 of 60 node-level, saliency, ")


def test_metrics_take_shards(tmp_path: Path) -> None:
    model, data = model_and_graph()
    stored, whole = explained(tmp_path / "run"), explained()
    parts = torch.cat([gx.metrics.fidelity(model, data, part, top=3).plus.values for part in stored.shards()])
    torch.testing.assert_close(parts, gx.metrics.fidelity(model, data, whole, top=3).plus.values)


def test_the_data_is_there_after_explain_and_not_after_load(tmp_path: Path) -> None:
    stored = explained(tmp_path / "run")
    assert stored[:2].to_pyg(0).num_nodes == 60
    with pytest.raises(InputError, match="pass the data that was explained"):
        gx.load(tmp_path / "run")[:2].to_pyg(0)


def test_the_benchmark_measures_what_it_says(tmp_path: Path) -> None:
    here = {name: benchmark.measured(name, tmp_path, 30) for name in benchmark.JOBS}
    assert all(peak > 100 for _, peak, _ in here.values())
    said = [found for _, _, found in here.values()]
    assert said[2] == said[3]
    assert said[2].startswith("30 explanations, ")
    assert said[-2] == "30 rows"


# A run is resumed ###################################################################################################


@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.killed", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stderr
    seen = json.loads(told.stdout)
    assert len(seen["random"]) == 10
    assert seen["total"] > 12
    for kill in seen["random"] + seen["calls"]:
        assert kill["killed"], "the run was over before it was killed"
        assert kill["kept"], "a finished shard was written again"
    assert all(kill["shards"] >= kill["asked"] for kill in seen["random"])
    assert 0 < seen["calls"][-1]["shards"] < seen["total"]
    whole = files(tmp_path / "whole")
    assert whole == files(tmp_path / "killed")
    assert whole == files(tmp_path / "calls")


@every_value(shards=[0, 1, 4], level=["node", "graph"])
def test_interrupted_by_hand(level: str, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded_gcn(level)
    model[0].train() if isinstance(model, nn.Sequential) else model.convs[0].train()
    before = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    asked = {"model": model, "data": small_graph(60) if level == "node" else graphs()}
    explained(tmp_path / "whole", **asked)
    with monkeypatch.context() as patch:
        stop_after(shards, patch)
        with pytest.raises(KeyboardInterrupt):
            explained(tmp_path / "run", **asked)
    assert [module.training for module in model.modules()] == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    if shards:
        part = gx.load(tmp_path / "run")
        assert not part.complete
        assert len(part.manifest["shards"]) == shards
        require_same(part.explanations(), gx.load(tmp_path / "whole")[: len(part)])
    kept = {name: (tmp_path / "run" / name).stat().st_ino for name in files(tmp_path / "run") if "-" in name}
    assert len(kept) == shards
    explained(tmp_path / "run", **asked)
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    assert all((tmp_path / "run" / name).stat().st_ino == inode for name, inode in kept.items())


def test_a_finished_run_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained(tmp_path / "run")
    monkeypatch.setattr(api, "core_prepare", None)
    assert explained(tmp_path / "run").complete


def test_batches_are_those_of_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is free later decides nothing: other batches round otherwise."""
    limits = []
    run = batches.for_each_batch
    monkeypatch.setattr(
        batches, "for_each_batch", lambda work, cost, limit: limits.append(limit) or run(work, cost, limit)
    )
    monkeypatch.setattr(batches, "free_bytes", lambda device: 80_000)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            explained(tmp_path / "run")
    assert set(limits) == {20_000.0}
    monkeypatch.setattr(batches, "free_bytes", lambda device: 2**33)
    explained(tmp_path / "run")
    assert set(limits) == {20_000.0}
    assert json.loads((tmp_path / "run" / MANIFEST).read_text())["batch_bytes"] == 20_000


def test_other_hardware_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            explained(tmp_path / "run")
    monkeypatch.setattr(runs, "_hardware", lambda device: "an abacus")
    with pytest.warns(GnnXaiWarning, match="is resumed on an abacus: the last digits"):
        stored = explained(tmp_path / "run")
    assert stored.manifest["hardware"][1] == "an abacus"
    explained(tmp_path / "run")  # told once


def test_shards_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a computation graph is cut otherwise than before, by a machine whose numbers differ, nothing is mixed."""
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            explained(tmp_path / "run")
    before, add = files(tmp_path / "run"), runs.RunWriter.add
    monkeypatch.setattr(runs.RunWriter, "add", lambda self, start, part: add(self, start - 1, part))
    with pytest.raises(
        StorageError, match="was begun on cpu .*, where its computation graphs were cut otherwise; resume it"
    ):
        explained(tmp_path / "run")
    assert files(tmp_path / "run") == before


# A run is one run ####################################################################################################


def changed(kind: str) -> Any:
    """What is asked, but for one thing."""
    model, data = model_and_graph()
    first: Any = model.convs[0]
    if kind == "one weight":
        with torch.no_grad():
            first.lin.weight[0, 0] = torch.nextafter(first.lin.weight[0, 0], torch.tensor(9.0))
    elif kind == "buffer":
        model.register_buffer("more", torch.ones(1), persistent=False)
    elif kind == "setting":
        first.add_self_loops = False  # not in repr, and no weight knows of it
    elif kind == "class":
        model = type("Other", (type(model),), {})("node", list(model.convs))
    elif kind == "code":
        model.__class__ = type("Net", (type(model),), {"forward": lambda self, x, edge_index: x @ x.t()})
    elif kind == "feature":
        data.x[5, 1] += 1e-6
    elif kind == "edge":
        data.edge_index = data.edge_index.flip(1)
    elif kind == "attribute":
        data.name = "another"
    return {"model": model, "data": data}


def other_forward(model: nn.Module, data: Any) -> Tensor:
    return model(data.x, data.edge_index)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            "one weight",
            r"another model \(its weights\); choose another folder, or resume it with what it was started with",
        ),
        ("buffer", r"another model \(its weights\);"),
        ("setting", r"another model \(its modules or their settings\);"),
        ("class", r"another model \('Net', and now 'Other'\)"),
        ("code", r"another model \(its modules or their settings\);"),
        ("feature", "another data;"),
        ("edge", "another data;"),
        ("attribute", "another data;"),
        ({"seed": 4}, r"another seed \(3, and now 4\);"),
        ({"algorithm": "random"}, r"another algorithm \('saliency', and now 'random'\);"),
        ({"algorithm": gx.Saliency(objective="prob")}, r"another algorithm.objective \('margin', and now 'prob'\);"),
        ({"index": range(59)}, "another index;"),
        ({"target": 1}, "another target;"),
        ({"undirected": False}, r"another undirected \('auto', and now False\);"),
        ({"max_neighbors": 9}, r"another max_neighbors \(None, and now 9\);"),
        ({"batch_budget": 99}, r"another batch_budget \('auto', and now 99\);"),
        ({"forward": other_forward}, r"another forward \(None, and now 'other_forward'\);"),
        ({"task": gx.api.ModelConfig("regression", "node", "raw"), "target": None}, r"another task "),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),
)
def test_nothing_else_is_mixed_into_a_run(other: Any, sentence: str, tmp_path: Path) -> None:
    stored = explained(tmp_path / "run")
    before = files(tmp_path / "run")
    explained(tmp_path / "run", **changed("nothing"))  # the same, made anew, resumes it
    with pytest.raises(StorageError, match=f"run holds a run with {sentence}"):
        explained(tmp_path / "run", **(changed(other) if isinstance(other, str) else other))
    assert files(tmp_path / "run") == before
    assert stored.complete


def test_another_version_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained(tmp_path / "run")
    monkeypatch.setattr(checksums, "__version__", "99")
    with pytest.raises(StorageError, match=r"another versions.gnn_xai \('.*', and now '99'\)"):
        explained(tmp_path / "run")


def test_a_run_without_shards_is_started_anew(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected max_neighbors as a positive integer"):
        explained(tmp_path / "run", max_neighbors=-1)
    assert explained(tmp_path / "run").complete


def enclosing(number: float) -> Callable[[nn.Module, Any], Tensor]:
    return lambda model, data: model(number * data.x, data.edge_index)


class Doubling:
    """A callable object."""

    def __call__(self, model: nn.Module, data: Any) -> Tensor:
        return 2 * model(data.x, data.edge_index)


def test_what_tells_functions_apart() -> None:
    alike = [lambda m, d: m(d.x, d.edge_index), lambda m, d: m(d.x, d.edge_index)]
    assert checksum(alike[0]) == checksum(alike[1])
    different = [
        alike[0],
        lambda m, d: m(2 * d.x, d.edge_index),
        lambda m, d: m(d.z, d.edge_index),
        enclosing(1.0),
        enclosing(2.0),
        functools.partial(other_forward, data=1),
        functools.partial(other_forward, data=2),
        Doubling(),
        Doubling().__call__,
    ]
    sums = [checksum(function) for function in different]
    assert len(set(sums)) == len(sums)
    assert checksum(enclosing(1.0)) == checksum(enclosing(1.0))


def test_what_tells_values_apart() -> None:
    values = [
        torch.ones(2),
        torch.ones(2, dtype=torch.float64),
        torch.ones(1, 2),
        torch.ones(0, 2),
        torch.ones(2).to_sparse(),
        torch.tensor(1.0),
        torch.tensor([1.0, -0.0]),
        torch.tensor([1.0, 0.0]),
        np.ones(3),
        np.array(["a", None]),
        1,
        1.0,
        True,
        "1",
        b"1",
        None,
        [1],
        [[1]],
        [1, 1],
        {"a": 1},
        {"a": 1, "b": 2},
        {1, 2},
        float,
        object(),
        nn.parameter.UninitializedParameter,
    ]
    sums = [checksum(value) for value in values]
    assert len(set(sums)) == len(sums)
    assert checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1})
    assert checksum(torch.arange(6).reshape(2, 3).t()) == checksum(torch.arange(6).reshape(2, 3).t().contiguous())
    assert checksum("a", "b") != checksum("ab")

    def recursive(number: int) -> int:
        return recursive(number - 1) if number else 0

    assert checksum(recursive) == checksum(recursive)
    assert checksum(nn.parameter.UninitializedParameter()).startswith("sha256:")


def test_what_tells_what_functions_use_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper, a number, a class, another module and one that is imported on the way belong to a function's code."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    main = """
import hidden_helpers
import threading

LOCK, FACTOR = threading.Lock(), 2.0

def helper(x):
    return [x * 3.0 for _ in range(1)]

class Used:
    SHIFT = 4.0
    @property
    def size(self):
        return 5.0
    @staticmethod
    def go(x):
        return x - 6.0

def forward(model, data):
    def inner():
        import hidden_late
        return hidden_late.late() + hidden_helpers.far()
    with LOCK:
        return Used().go(helper(FACTOR)) + inner()
"""
    sources = {
        "hidden_main": main,
        "hidden_helpers": "def far():\n    return 7.0\n",
        "hidden_late": "def late(): return 8.0",
    }

    def forward(changed: str) -> Callable[..., Any]:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source.replace(changed, "9.5"))
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("hidden_main").forward

    sums = [checksum(forward(number)) for number in ("none", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0", "8.0")]
    assert len(set(sums)) == len(sums)
    assert sums[0] == checksum(forward("none"))


class Scaled:
    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def __repr__(self) -> str:
        return f"Scaled at {id(self):#x}"

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.factor


@algorithm("hyper", "for hyper-parameters of every kind", signed=True)
class Hyper:
    by: Any = None

    def attribute(self, session: Session, graphs: Any, target: Tensor, prediction: Tensor) -> Scores:
        return Scores(edge=torch.ones(len(graphs.edge)))


def line(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(1, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: lambda x: x * n,
        Scaled,
        lambda n: [Scaled(n)],
        lambda n: functools.partial(torch.add, n),
        lambda n: np.where(np.arange(5000) == 2500, n, 1),
        lambda n: {"inside": np.random.RandomState(n)},
        line,
        lambda n: enum.Enum("Color", {"a": n})(n),
        lambda n: Scaled(n).__call__,
        lambda n: float("nan") if n == 1 else 2.0,
        lambda n: 1 if n == 1 else True,
    ],
    ids=["lambda", "object", "list", "partial", "array", "generator", "module", "enum", "method", "nan", "bool"],
)
def test_hyper_parameters_are_told_apart_by_what_they_hold(make: Callable[[int], Any]) -> None:
    assert checksum(Hyper(make(1))) == checksum(Hyper(make(1)))
    assert checksum(Hyper(make(1))) != checksum(Hyper(make(2)))
    assert json.dumps(describe(Hyper(make(1)))) == json.dumps(describe(Hyper(make(1))))


@pytest.mark.parametrize(
    ("one", "other"), [(Scaled(1), Scaled(2)), (float("nan"), 0.0), (1, True)], ids=["object", "nan", "bool"]
)
def test_a_run_with_other_hyper_parameters_is_another(one: Any, other: Any, tmp_path: Path) -> None:
    explained(tmp_path / "run", algorithm=Hyper(one), index=[0])
    before = files(tmp_path / "run")
    assert explained(tmp_path / "run", algorithm=Hyper(copy.copy(one)), index=[0]).complete
    with pytest.raises(StorageError, match=r"holds a run with another algorithm"):
        explained(tmp_path / "run", algorithm=Hyper(other), index=[0])
    assert files(tmp_path / "run") == before


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    lock = threading.Lock()
    for value in (lock, (n for n in range(2)), lambda x: lock):
        with pytest.raises(InputError, match="can only be told by its place in memory; hold plain values"):
            explained(tmp_path / "run", algorithm=Hyper(value), index=[0])
    assert not (tmp_path / "run").exists()


# Hostile files #######################################################################################################


def edited(change: Callable[[dict[str, Tensor], dict[str, Any]], Any]) -> Callable[[Path], None]:
    """An edit of the tensors and settings in a file of explanations."""

    def edit(path: Path) -> None:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["gnn_xai"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(tensors, about)
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        save_file(tensors, path, metadata={"gnn_xai": json.dumps(about)})

    return edit


EDITS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], Any]] = {
    "format as text": lambda t, a: a.update(format="1"),
    "format as a flag": lambda t, a: a.update(format=True),
    "algorithm as text": lambda t, a: a.update(algorithm="saliency"),
    "algorithm without a name": lambda t, a: a.update(algorithm={}),
    "seed as text": lambda t, a: a.update(seed="0"),
    "signed as a number": lambda t, a: a.update(signed=1),
    "provenance as a list": lambda t, a: a.update(provenance=[]),
    "no task": lambda t, a: a.update(task=["node"]),
    "another mask type": lambda t, a: a.update(node_mask_type="none"),
    "types as a list": lambda t, a: a.update(types=[1]),
    "half of the ends": lambda t, a: t.update(edge_index=t["edge_index"][:1]),
    "edges cut off": lambda t, a: t.update(edge_index=t["edge_index"][:, 1:]),
    "pointers counted down": lambda t, a: t.update(node_ptr=t["node_ptr"].flip(0)),
    "pointers as numbers": lambda t, a: t.update(edge_ptr=t["edge_ptr"].float()),
    "ids as numbers": lambda t, a: t.update(node_id=t["node_id"].double()),
    "ids below 0": lambda t, a: t.update(node_id=t["node_id"] - 999),
    "a stranger at an edge": lambda t, a: t.update(edge_index=t["edge_index"] + 5000),
    "one mask too few": lambda t, a: t.update(edge_mask=t["edge_mask"][1:]),
    "masks as integers": lambda t, a: t.update(edge_mask=t["edge_mask"].long()),
    "a mask that is no column": lambda t, a: t.update(edge_mask=t["edge_mask"][:, None]),
    "no node mask": lambda t, a: t.pop("node_mask"),
    "no target": lambda t, a: t.pop("target"),
    "targets out of range": lambda t, a: t.update(target=t["target"] + 77),
    "a prediction that is no table": lambda t, a: t.update(prediction=t["prediction"][:, 0]),
    "another prediction under masks": lambda t, a: t.update(prediction_masked=t["prediction"][:, :1]),
    "exact as numbers": lambda t, a: t.update(exact=t["exact"].long()),
    "an extra of another length": lambda t, a: t.update({"extras.cost": torch.ones(1)}),
    "one more column": lambda t, a: t.update(virus=torch.ones(1)),
    "types without names": lambda t, a: t.update(node_type=torch.zeros_like(t["node_id"])),
    "an index of three": lambda t, a: t.update(index=t["index"][:, None].repeat(1, 3)),
    "a scalar": lambda t, a: t.update(index=torch.tensor(3)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_is_not_in_order_is_refused(edit: str, saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "found.safetensors"
    path.write_bytes(saved)
    edited(lambda tensors, about: None)(path)
    assert repr(gx.load(path))
    edited(EDITS[edit])(path)
    with pytest.raises(StorageError, match=str(path)):
        gx.load(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    model, data = model_and_graph()
    path = tmp_path_factory.mktemp("saved") / "found.safetensors"
    return gx.explain(model, data, "saliency", index=[0, 3, 6], progress=False).save(path).read_bytes()


def test_what_is_no_file_is_refused(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "found.safetensors"
    path.write_bytes(saved)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"gnn_xai": "[" * 100_000})
    with pytest.raises(StorageError, match="cannot read"):
        gx.load(path)
    os.mkfifo(tmp_path / "pipe")
    for odd in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(StorageError, match="it is no file; expected a file by Explanations.save"):
            gx.load(odd)


SHARDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "elsewhere": lambda m: m["shards"][0].update(file="/etc/passwd"),
    "above": lambda m: m["shards"][0].update(file="../000000000-000000001.safetensors"),
    "a number": lambda m: m["shards"][0].update(file=3),
    "no size": lambda m: m["shards"][0].pop("bytes"),
    "size as text": lambda m: m["shards"][0].update(bytes="many"),
    "backwards": lambda m: m["shards"][0].update(stop=-1),
    "start as a number": lambda m: m["shards"][0].update(start=0.5),
    "no checksum": lambda m: m["shards"][0].update(sha256=None),
    "shards as text": lambda m: m.update(shards="none"),
    "a shard as text": lambda m: m["shards"].insert(0, "x"),
    "asked as text": lambda m: m.update(asked="all"),
    "run as a list": lambda m: m.update(run=[]),
    "no algorithm": lambda m: m["run"].pop("algorithm"),
    "a task as text": lambda m: m["run"].update(task="n"),
    "hardware as a number": lambda m: m.update(hardware=1),
    "bytes as text": lambda m: m.update(batch_bytes="x"),
    "shard size of 0": lambda m: m.update(shard_size=0),
}


def test_a_manifest_that_is_not_in_order_is_refused(tmp_path: Path) -> None:
    explained(tmp_path / "run", index=[0, 3, 6])
    path = tmp_path / "run" / MANIFEST
    whole = path.read_text()
    for change in SHARDS.values():
        manifest = json.loads(whole)
        change(manifest)
        path.write_text(json.dumps(manifest))
        before = files(tmp_path / "run")
        with pytest.raises(StorageError, match="cannot read .*manifest.json as the manifest of a run"):
            gx.load(tmp_path / "run")
        with pytest.raises(StorageError, match="cannot read .*manifest.json as the manifest of a run"):
            explained(tmp_path / "run", index=[0, 3, 6])
        assert files(tmp_path / "run") == before
    path.write_text("[" * 100_000)
    with pytest.raises(StorageError, match="cannot read"):
        gx.load(tmp_path / "run")


def test_links_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / f"{MANIFEST}.part").symlink_to(precious)
    explained(run, index=[0, 3])
    assert precious.read_text() == "mine"
    shard = next(run.glob("*.safetensors"))
    shard.unlink()
    shard.symlink_to("/dev/zero")
    with pytest.raises(StorageError, match="is damaged: it is no file; explain with the same out= computes it again"):
        gx.load(run)[0]
    (run / "lock").unlink()
    (run / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot write to"):
        explained(run, index=[0, 3])
    assert not (tmp_path / "elsewhere").exists()


def test_a_shard_of_another_run_is_refused(tmp_path: Path) -> None:
    for name, by in (("one", "saliency"), ("other", "random")):
        explained(tmp_path / name, algorithm=by, index=[0, 3])
    one, other = (json.loads((tmp_path / name / MANIFEST).read_text()) for name in ("one", "other"))
    one["shards"] = other["shards"]
    (tmp_path / "one" / MANIFEST).write_text(json.dumps(one))
    for shard in other["shards"]:
        (tmp_path / "one" / shard["file"]).write_bytes((tmp_path / "other" / shard["file"]).read_bytes())
    with pytest.raises(StorageError, match="it belongs to another run"):
        gx.load(tmp_path / "one")[0]


# Damage ##############################################################################################################


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "truncated": (cut, "it has [0-9]+ bytes, and [0-9]+ were written"),
    "one bit": (flip, r"its content is not what was written \(another checksum\)"),
    "gone": (Path.unlink, "No such file or directory"),
}


@every_value(number=[0, 2, -1], kind=list(DAMAGE))
def test_a_damaged_shard_is_named_and_computed_again(kind: str, number: int, tmp_path: Path) -> None:
    damage, sentence = DAMAGE[kind]
    whole = explained(tmp_path / "run")
    before = files(tmp_path / "run")
    shard = whole.manifest["shards"][number]
    damage(tmp_path / "run" / shard["file"])
    stored = gx.load(tmp_path / "run")
    with pytest.raises(
        StorageError, match=f"the shard .*{shard['file']} is damaged: {sentence}; explain with the same"
    ):
        stored[shard["start"]]
    other = 0 if number else -1
    assert stored[other].index == whole[other].index  # the others are read
    with pytest.warns(
        GnnXaiWarning, match=f"{shard['file']} is damaged: {sentence}; its explanations are computed again"
    ):
        explained(tmp_path / "run")
    assert files(tmp_path / "run") == before


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    whole = files(explained(tmp_path / "run").path)
    for name in ("manifest.json.part", "000000000-000000099.safetensors", "000000007-000000009.safetensors.part"):
        (tmp_path / "run" / name).write_text("half")
    explained(tmp_path / "run")
    assert files(tmp_path / "run") == whole


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: {**m, "format": 99}, "has format 99, this version reads up to 1; upgrade gnn_xai"),
        (lambda m: {"title": "somebody else's"}, r"cannot read .*manifest.json as the manifest of a run \('format'\)"),
        (lambda m: [1], "cannot read .*manifest.json as the manifest of a run"),
        (lambda m: {**m, "format": "one"}, "cannot read .*manifest.json as the manifest of a run"),
        (lambda m: {**m, "shards": m["shards"][::-1]}, r"as the manifest of a run \(its shards do not fit together\)"),
        (lambda m: {k: v for k, v in m.items() if k != "hardware"}, r"as the manifest of a run \(without hardware\)"),
        (lambda m: {**m, "asked": 2}, r"as the manifest of a run \(its shards do not fit together\)"),
    ],
)
def test_a_manifest_that_is_none(change: Callable[[Any], Any], sentence: str, tmp_path: Path) -> None:
    explained(tmp_path / "run")
    path = tmp_path / "run" / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    before = files(tmp_path / "run")
    for read in (gx.load, explained):
        with pytest.raises(StorageError, match=sentence):
            read(tmp_path / "run")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(StorageError, match="as the manifest of a run"):
        gx.load(tmp_path / "run")
    assert files(tmp_path / "run").keys() == before.keys()


# Places where nothing can be written #################################################################################


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(StorageError, match=r"holds something else \(thesis.tex\); choose another"):
        explained(tmp_path)
    assert list(files(tmp_path)) == ["thesis.tex"]
    with pytest.raises(StorageError, match="is a folder without manifest.json"):
        gx.load(tmp_path)
    with pytest.raises(StorageError, match="cannot write to .*thesis.tex: .*; choose a folder that can be written"):
        explained(tmp_path / "thesis.tex")
    with pytest.raises(StorageError, match="cannot write to .*: Not a directory"):
        explained(tmp_path / "thesis.tex" / "run")


def test_two_processes_do_not_write_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, tried = runs.RunWriter.add, []

    def meanwhile(self: runs.RunWriter, start: int, part: Explanations) -> None:
        add(self, start, part)
        if not tried:
            tried.append(start)
            with pytest.raises(StorageError, match="another process is writing the run in .*run; wait for it, or"):
                explained(tmp_path / "run")

    monkeypatch.setattr(runs.RunWriter, "add", meanwhile)
    assert explained(tmp_path / "run").complete
    assert tried
    assert explained(tmp_path / "run").complete  # the lock is given back


@every_value(name=["fsync", "replace"], call=[0, 1, 2, 4, 5, 7])
def test_no_room_at_any_write(call: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained(tmp_path / "whole")
    original, left = getattr(os, name), [call]

    def full(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(
            StorageError, match="cannot write .*: No space left on device; [0-9]+ of 60 explanations are"
        ):
            explained(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.part"))
    if (tmp_path / "run" / MANIFEST).exists():
        assert all(len(part) for part in gx.load(tmp_path / "run").shards())  # what is named is whole
    explained(tmp_path / "run")
    assert files(tmp_path / "run") == files(tmp_path / "whole")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    try:
        mounted = os.name == "posix" and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(tiny_disk: Path, tmp_path: Path) -> None:
    explained(tmp_path / "whole")
    with pytest.raises(
        StorageError, match="cannot write .*: No space left on device; ([1-9][0-9]*) of 60 explanations"
    ):
        explained(tiny_disk / "run")
    part = gx.load(tiny_disk / "run")
    assert 0 < len(part) < 60
    require_same(part.explanations(), gx.load(tmp_path / "whole")[: len(part)])
    subprocess.run(["mount", "-o", "remount,size=4m", str(tiny_disk)], check=True)
    explained(tiny_disk / "run")
    assert files(tiny_disk / "run") == files(tmp_path / "whole")
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(StorageError, match="cannot write to .*: Read-only file system; choose a folder that can be"):
        explained(tiny_disk / "run")
    assert gx.load(tiny_disk / "run").complete  # reading needs no lock
    with pytest.raises(StorageError, match=r"cannot write .*a.parquet: Read-only file system"):
        part.to_parquet(tiny_disk / "a.parquet")


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StorageError, match="cannot write to .*run: Permission denied; choose a folder that can be"):
        explained(tmp_path / "run")


# Data, a few graphs at a time ########################################################################################


def test_some_graphs_of_many_are_those_graphs() -> None:
    many = graphs(12)
    for number, graph in enumerate(many):
        graph.edge_weight = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(number))
        graph.y = torch.tensor([number])
    cpu = torch.device("cpu")
    select = torch.tensor([7, 0, 11, 7])
    wanted = as_graphs([many[i] for i in select], cpu).content()
    for data in (many, Batch.from_data_list(many), tuple(many)):
        found = Shelf(data, cpu, whole=False).take(select)
        assert checksum(found.content()) == checksum(wanted)
        assert found.source is data


def test_a_bad_graph_late_in_a_list_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    many = graphs(1030)
    many[1027].x[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"data.x holds NaN .* \(counted from graph 1024\)"):
        explained(tmp_path / "run", model=seeded_gcn("graph"), data=many)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="expected at least one graph, got an empty list"):
        explained(tmp_path / "run", model=seeded_gcn("graph"), data=[])
    with pytest.raises(InputError, match="expected a torch_geometric Data"):
        explained(tmp_path / "run", data="cora")


# Tables ##############################################################################################################


def rows(found: Explanations, level: str, first: int = 0) -> list[dict[str, Any]]:
    """The table, one row and one explanation at a time."""
    table = []
    for position, e in enumerate(found, start=first):
        head = {"position": position, "index": e.index, "target": e.target}
        if level == "instance":
            for name in ("prediction", "prediction_masked", "prediction_complement"):
                head |= {f"{name}_{c}": float(v) for c, v in enumerate(getattr(e, name))}
            head |= {"exact": e.exact, "hops": e.hops, "num_nodes": len(e.node_id), "num_edges": len(e.edge_id)}
            table.append(head)
        elif level == "edge":
            ends = zip(e.edge_id.tolist(), *e.edge_index.tolist(), e.edge_mask.tolist(), strict=True)
            table += [{**head, "edge_id": i, "source": u, "destination": v, "score": s} for i, u, v, s in ends]
        elif level == "node":
            nodes = zip(e.node_id.tolist(), naive_node_scores(e), strict=True)
            table += [{**head, "node_id": i, "score": s} for i, s in nodes]
        elif e.node_mask.dim() == 1:
            table += [{**head, "feature": f, "score": float(s)} for f, s in enumerate(e.node_mask)]
        else:
            table += [
                {**head, "node_id": int(i), "feature": f, "score": float(s)}
                for i, mask in zip(e.node_id, e.node_mask, strict=True)
                for f, s in enumerate(mask)
            ]
    return table


def naive_node_scores(e: gx.Explanation) -> list[float]:
    """What a node has: its mask, or the scores of the undirected edges at it."""
    if e.node_mask is not None and e.node_mask.dim() == 2:
        return e.node_mask.sum(1).tolist()
    total = dict.fromkeys(e.node_id.tolist(), 0.0)
    counted: dict[tuple[int, int, float], int] = {}
    for u, v, s in zip(*e.edge_index.tolist(), e.edge_mask.tolist(), strict=True):
        if counted.get((v, u, s), 0) and u != v:
            counted[v, u, s] -= 1
            continue
        counted[u, v, s] = counted.get((u, v, s), 0) + 1
        for node in {u, v}:
            total[node] += s
    return list(total.values())


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_nodes_with_loops_and_parallel_edges(seed: int) -> None:
    model, data = seeded_gcn("node"), random_graph(seed, undirected=True, dtype=torch.float32)
    for undirected in ("auto", False):
        found = explained(model=model, data=data, algorithm="random", undirected=undirected)
        found = replace(found, node_mask=None, node_mask_type=None)  # edges alone
        wanted = torch.tensor([score for e in found for score in naive_node_scores(e)])
        torch.testing.assert_close(found.node_scores, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.cat([e.node_scores for e in found]), wanted, rtol=1e-4, atol=1e-5)


TABLES = {
    "edges": ({"algorithm": "edge_ablation"}, ("instance", "edge", "node")),
    "directed": ({"algorithm": "random", "undirected": False}, ("edge", "node")),
    "nodes": ({"algorithm": "node_ablation"}, ("node",)),
    "features of nodes": ({"algorithm": gx.Saliency(node_mask_type="attributes")}, ("edge", "node", "feature")),
    "common features": ({"algorithm": gx.GNNExplainer(epochs=2)}, ("edge", "node", "feature")),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_row_by_row(case: str, tmp_path: Path) -> None:
    asked, levels = TABLES[case]
    stored, found = explained(tmp_path / "run", index=range(24), **asked), explained(index=range(24), **asked)
    for level in levels:
        wanted = pd.DataFrame(rows(found, level))
        for table in (found.to_pandas(level), stored.to_pandas(level)):
            pd.testing.assert_frame_equal(table, wanted, check_dtype=False, rtol=1e-4, atol=1e-5)
            assert table.attrs["gnn_xai"]["algorithm"] == found.algorithm
            assert table.attrs["gnn_xai"]["seed"] == 3
        one, many = found.to_parquet(tmp_path / "one", level), stored.to_parquet(tmp_path / "many", level)
        for path in (one, many):
            pd.testing.assert_frame_equal(pd.read_parquet(path), wanted, check_dtype=False, rtol=1e-4, atol=1e-5)
            told = json.loads(pq.read_schema(path).metadata[b"gnn_xai"])
            assert told["algorithm"] == json.loads(json.dumps(found.algorithm))
            assert told["provenance"]["torch"] == torch.__version__
        assert pq.ParquetFile(many).num_row_groups == len(stored.manifest["shards"]) > 1
    for level in set(tables.TABLE_LEVELS) - {"instance", "edge", "node"} - set(levels):
        with pytest.raises(InputError, match=f"scored no {level}s; choose another level, or an algorithm that scores"):
            stored.to_pandas(level)
        with pytest.raises(InputError, match=f"scored no {level}s"):
            stored.to_parquet(tmp_path / "none", level)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.name == "none"]


def test_extras_are_columns() -> None:
    found = explained(algorithm=gx.GNNExplainer(epochs=20, tol=0.5), max_neighbors=2, index=range(9))
    table = found.to_pandas()
    assert table["epochs"].tolist() == found.extras["epochs"].tolist()
    assert np.allclose(table[[f"prediction_capped_{c}" for c in range(3)]], found.extras["prediction_capped"])


def test_tables_of_one_molecule_and_of_none(tmp_path: Path) -> None:
    none = explained()[[]]
    assert none.to_pandas("edge").columns.tolist() == explained()[:1].to_pandas("edge").columns.tolist()
    assert len(pd.read_parquet(none.to_parquet(tmp_path / "none.parquet"))) == 0
    lonely = Data(x=torch.rand(3, 5), edge_index=torch.zeros(2, 0, dtype=torch.long))
    assert explained(data=lonely, algorithm="edge_ablation").to_pandas("node")["score"].tolist() == [0.0] * 3


def test_what_tables_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = explained(index=[0])
    with pytest.raises(InputError, match="unknown level 'edges'; did you mean 'edge'"):
        found.to_pandas("edges")
    with pytest.raises(StorageError, match="cannot write .*; choose a folder that exists and is writable"):
        found.to_parquet(tmp_path / "missing" / "a.parquet")
    for module, call in (("pandas", found.to_pandas), ("pyarrow", lambda: found.to_parquet(tmp_path / "a.parquet"))):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(
                GnnXaiError, match=rf"need {module}, which is not installed; run 'pip install gnn-xai\["
            ):
                call()


# Columns #############################################################################################################

KINDS = {
    "edges and common features": gx.GNNExplainer(epochs=2, restarts=2, init_std=0.5),
    "features of nodes": gx.GNNExplainer(epochs=2, restarts=2, init_std=0.5, node_mask_type="attributes"),
    "edges": gx.EdgeAblation(),
}


def test_the_table_of_columns_knows_every_tensor() -> None:
    e = explained(index=[3])
    absent = {"node_mask", "node_type", "node_number", "edge_type", "edge_number"}  # here, or on homogeneous data
    held = {f.name for f in fields(e) if isinstance(getattr(e, f.name), Tensor)}
    assert held | absent == set(LEVELS)
    assert absent <= {f.name for f in fields(e)}
    for name in set(LEVELS) - {"node_ptr", "edge_ptr"}:
        assert name in dir(e[0])
    assert not hasattr(e[0], "node_ptr")
    with pytest.raises(AttributeError, match="'Explanation' object has no attribute 'edge_maks'"):
        _ = e[0].edge_maks


@pytest.mark.parametrize("kind", KINDS)
def test_views_selections_and_parts_are_slices_of_columns(kind: str) -> None:
    whole = explained(algorithm=KINDS[kind], index=[7, 7, 0, 31], max_neighbors=2)
    common, picked = whole.node_mask_type == "common_attributes", whole[[2, 0]]
    again = joined([whole[:1], whole[1:]])
    assert set(again.tensors()) == set(whole.tensors()) == set(picked.tensors())
    for name, value in whole.tensors().items():
        assert torch.equal(again.tensors()[name], value), name
        per_node = name in ("node_id", "node_mask") or name.startswith("extras.node_")
        level = "node" if per_node else "edge" if "edge_" in name else "instance"
        level = "instance" if common and per_node and name != "node_id" else level
        if name.endswith("_ptr"):
            assert picked.tensors()[name].tolist() == [0, *whole.tensors()[name].diff()[[2, 0]].cumsum(0).tolist()]
            continue
        value = value.t() if name == "edge_index" else value
        ptr = torch.arange(5) if level == "instance" else getattr(whole, f"{level}_ptr")
        parts = [value[ptr[i] : ptr[i + 1]] for i in range(4)]
        chosen = picked.tensors()[name]
        assert torch.equal(chosen.t() if name == "edge_index" else chosen, torch.cat([parts[2], parts[0]])), name
        for e, part in zip(whole, parts, strict=True):
            own = e.extras[name.removeprefix("extras.")] if name.startswith("extras.") else getattr(e, name)
            own = own.t() if name == "edge_index" else torch.as_tensor(own)
            assert torch.equal(own, part[0] if level == "instance" else part), name


def test_a_file_is_whole_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = explained(index=[3])
    path = found.save(tmp_path / "file")
    (tmp_path / "another").touch()
    before = files(tmp_path)
    assert path.stat().st_mode == (tmp_path / "another").stat().st_mode
    for broken in ("replace", "save_file"):
        with monkeypatch.context() as patch:
            module = os if broken == "replace" else columns_file
            patch.setattr(
                module, broken, lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space left"))
            )
            with pytest.raises(StorageError, match="cannot write .*file: no space left; choose a folder"):
                explained(index=[4]).save(path)
        assert files(tmp_path) == before


def test_columns_that_are_views_of_one_tensor_are_saved(tmp_path: Path) -> None:
    model, data = model_and_graph()
    explanations = gx.explain(model, data, "saliency", index=[2, 5], progress=False)
    twice = torch.arange(4.0)
    viewed = replace(explanations, extras={"one": twice[:2], "other": twice[2:], "same": twice[:2]})
    again = gx.load(viewed.save(tmp_path / "views.safetensors"))
    assert isinstance(again, Explanations)
    assert {name: value.tolist() for name, value in again.extras.items()} == {
        "one": [0.0, 1.0],
        "other": [2.0, 3.0],
        "same": [0.0, 1.0],
    }
