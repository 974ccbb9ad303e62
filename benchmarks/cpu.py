"""Rows of `benchmarks.speed` in CPU time: one target, molecules prepared once, a heterogeneous graph, and a comparison.

All sides of a row run in turns on one thread, each with its own copy of the model, and were called once before. `cold` is
`gx.explain(model, data, ...)`, `prepared` is `gx.explain(prepared, ...)` with what `gx.prepare` returned before.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch_geometric.explain import Explainer, ModelConfig
from torch_geometric.explain import GNNExplainer as PyGGNNExplainer

import gnn_xai as gx
from benchmarks import comparing, dblp, workloads
from benchmarks.measure import shares, sizes, spread
from benchmarks.peers import PEERS
from benchmarks.workloads import SEED, MissingError, Workload

HERE = Path(__file__).resolve().parents[1]
SHORT_CALLS = 10  # how often calls of milliseconds run in a round
MOLECULES = 100  # that a peer explains in a round
CASES = ("karate", "ba_shapes", "cora", "molecule")

Side = Callable[[], Any]


@dataclass(frozen=True)
class Options:
    """Settings of a run.

    Attributes:
        rounds: how often every side runs.
        quick: few epochs, molecules and nodes, to see that everything runs.
        against: another checkout of gnn_xai, for `compare`.
    """

    rounds: int = 5
    quick: bool = False
    against: Path | None = None


def turns(sides: dict[str, Side], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of every side in every round, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ms: dict[str, list[float]] = {name: [] for name in sides}
    for job in sides.values():
        job()
    for _ in range(rounds):
        for name, job in sides.items():
            start = time.process_time()
            job()
            ms[name].append(1000 * (time.process_time() - start))
    torch.set_num_threads(threads)
    return ms


def row(title: str, ms: dict[str, list[float]]) -> dict[str, Any]:
    """Times of all sides, and what part they are of the first side's in the same round."""
    first = next(iter(ms.values()))
    return {
        "title": title,
        "ms": {side: spread(times) for side, times in ms.items()},
        "ratio": {
            side: spread([a / b for a, b in zip(times, first, strict=True)])
            for side, times in ms.items()
            if times is not first
        },
    }


# One target ##########################################################################################################


def one_target(case: str, algorithm: Any) -> Workload:
    """A data set with one target, the one whose computation graph is of median size.

    Raises:
        MissingError: if its data are missing.
    """
    whole = replace(_whole(case), algorithm=gx.Random())
    middle = whole.index[sizes(whole.explain()).argsort(stable=True)[len(whole.index) // 2]]
    if isinstance(whole.data, list):
        whole, middle = replace(whole, data=[whole.data[middle]]), middle.new_tensor(0)
    return replace(whole, name=case, algorithm=algorithm, index=middle.reshape(1))


def _whole(case: str) -> Workload:
    if case == "karate":
        ds = gx.datasets.load("karate")
        return Workload("karate", "", ds.model, ds.data, ds.task, ds.index, None, {})
    if case == "molecule":
        return workloads.build("molecules")
    return workloads.build("cora_attributes" if case == "cora" else case)


def ours(workload: Workload) -> dict[str, Side]:
    """Our two sides, on all instances of a workload."""
    cold, own = (replace(workload, model=copy.deepcopy(workload.model)) for _ in range(2))
    prepared = gx.prepare(own.model, own.data, task=own.task)
    again = partial(gx.explain, prepared, own.algorithm, index=own.index, seed=SEED, progress=False)
    return {"cold": cold.explain, "prepared": again}


def one_saliency(options: Options) -> Iterator[dict[str, Any]]:
    """Gradients of one target. Captum explains a raw output, so here we do as well."""
    for case in CASES:
        workload = one_target(case, gx.Saliency(objective="raw"))
        peer = partial(PEERS["pyg"](workload), int(workload.index))
        rounds = options.rounds * (1 if options.quick else SHORT_CALLS)
        yield row(f"Saliency, one target: {case}", turns({"PyG": peer, **ours(workload)}, rounds))


def one_gnn_explainer(options: Options) -> Iterator[dict[str, Any]]:
    """Masks of one target, against PyG on the whole graph."""
    epochs = 3 if options.quick else 100
    for case in CASES:
        workload = one_target(case, gx.GNNExplainer(epochs=epochs, node_mask_type="attributes"))
        peer = partial(PEERS["pyg"](workload), int(workload.index))
        sides = {"PyG": peer, "cold": ours(workload)["cold"]}
        yield row(f"GNNExplainer, {epochs} epochs, one target: {case}", turns(sides, options.rounds))


# Many ################################################################################################################


def molecules_saliency(options: Options) -> Iterator[dict[str, Any]]:
    """Gradients of 1 000 molecules, time per molecule; a peer explains some of them, of all sizes."""
    workload = workloads.build("saliency", quick=options.quick)
    assert isinstance(workload.data, list)
    (share,) = shares(sizes(workload.explain()), MOLECULES, 1)
    peer, chosen = PEERS["pyg"](workload), workload.index[share].tolist()
    ms = turns({"PyG": lambda: [peer(i) for i in chosen], **ours(workload)}, options.rounds)
    counts = {"PyG": len(chosen)}
    each = {side: [t / counts.get(side, len(workload.index)) for t in times] for side, times in ms.items()}
    yield row(f"Saliency, {len(workload.index)} molecules, per molecule", each)


def dblp_authors(options: Options) -> Iterator[dict[str, Any]]:
    """Masks of 200 authors of DBLP, a heterogeneous graph, time per author.

    PyG explains one of them on the whole graph, where every author costs the same; relations into conferences and terms,
    which cannot reach an author in two layers, are left out for both, because PyG refuses them.
    """
    epochs, count = (3, 4) if options.quick else (100, 200)
    graph = dblp.into(dblp.read(), "author", "paper")
    model, _ = dblp.trained(dblp.relational, graph, epochs=1 if options.quick else 20)
    algorithm = gx.GNNExplainer(epochs=epochs, node_mask_type="object")
    explainer = Explainer(
        copy.deepcopy(model),
        PyGGNNExplainer(epochs=epochs),
        explanation_type="model",
        node_mask_type="object",
        edge_mask_type="object",
        model_config=ModelConfig("multiclass_classification", "node", "raw"),
    )
    data, author = graph.data, int(dblp.explained(graph, count)[0])
    sides = {
        "PyG": lambda: explainer(data.x_dict, data.edge_index_dict, index=author),
        "cold": lambda: dblp.explain(model, graph, algorithm, count),
    }
    ms = turns(sides, options.rounds)
    each = {**ms, "cold": [time / count for time in ms["cold"]]}
    yield row(f"GNNExplainer, {epochs} epochs, {count} DBLP authors, 2-layer HeteroSAGE, per author", each)


def compare(options: Options) -> Iterator[dict[str, Any]]:
    """Five algorithms under five metrics, in a fresh process every time, beside another checkout if there is one."""
    nodes = 4 if options.quick else comparing.NODES
    checkouts = {"this checkout": HERE}
    if options.against is not None:
        checkouts = {"other checkout": options.against, **checkouts}
    ms: dict[str, list[float]] = {name: [] for name in checkouts}
    for _ in range(options.rounds):
        for name, path in checkouts.items():
            ms[name].append(compared(path, nodes))
    title = (
        f"compare, {len(comparing.ALGORITHMS)} algorithms × {len(comparing.METRICS)} metrics, {nodes} BA-Shapes nodes"
    )
    yield row(title, ms)


def compared(checkout: Path, nodes: int) -> float:
    """CPU milliseconds that `gx.compare` takes in a checkout.

    Raises:
        MissingError: if there is no gnn_xai.
    """
    checkout = checkout.resolve()
    if not (checkout / "gnn_xai").is_dir():
        raise MissingError(f"{checkout.name} has no folder gnn_xai")
    command = [sys.executable, comparing.__file__, str(nodes)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    result = json.loads(done.stdout)
    if not Path(result["package"]).is_relative_to(checkout):
        raise RuntimeError(f"expected gnn_xai of {checkout}, but {result['package']} was imported")
    return result["ms"]


ROWS: dict[str, Callable[[Options], Iterator[dict[str, Any]]]] = {
    rows.__name__: rows for rows in (one_saliency, one_gnn_explainer, molecules_saliency, dblp_authors, compare)
}


def measure(name: str, options: Options) -> Iterator[dict[str, Any]]:
    """Rows of a name, one after the other.

    Raises:
        MissingError: if data or a package is missing.
    """
    try:
        for measured in ROWS[name](options):
            yield {"name": name, **measured}
    except gx.errors.GnnXaiError as error:
        raise MissingError(str(error)) from error
