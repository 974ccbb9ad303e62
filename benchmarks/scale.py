"""How far it goes: time to cut out computation graphs from a large graph, and peak memory of large jobs.

    python -m benchmarks.scale [--rounds 5]

Each row runs in a process of its own, so that a peak belongs to it alone. The peak is of the whole process, with PyTorch
(the row `imports`), the data and the model in it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

import gnn_xai as gx
from gnn_xai.core.graphs import as_graphs
from gnn_xai.core.neighborhoods import SCOPES, around_nodes

JOBS = {
    "GNNExplainer(epochs=10)": gx.GNNExplainer(epochs=10, node_mask_type="attributes"),
    "IntegratedGradients(steps=10)": gx.IntegratedGradients(steps=10),
    "EdgeAblation()": gx.EdgeAblation(),
    "NodeAblation()": gx.NodeAblation(),
}


def extraction(rounds: int) -> list[str]:
    """Computation graphs of 1 000 targets of a 2-layer model in a random graph of 100 000 nodes and 1 M directed edges."""
    generator = torch.Generator().manual_seed(0)
    nodes, targets, layers = 100_000, 1_000, 2
    edge_index = torch.randint(nodes, (2, 1_000_000), generator=generator)
    graphs = as_graphs(Data(num_nodes=nodes, edge_index=edge_index), torch.device("cpu"))
    index = torch.randperm(nodes, generator=generator)[:targets]
    names = ("L hops", "L + 1 hops, for in-degrees", "L + 1 hops, induced")
    lines = []
    for number, (name, _) in enumerate(zip(names, SCOPES, strict=False)):
        seconds = []
        for _ in range(rounds):
            graphs._incidence.clear()  # the sorted edges are part of the price
            start = time.perf_counter()
            found = around_nodes(graphs, index, layers, torch.full_like(index, number), "source_to_target")
            seconds.append(time.perf_counter() - start)
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        lines.append(f"| {name} | {len(found.node):,} | {len(found.edge):,} | {spread} |")
    return lines


def peak(arguments: tuple[str, str]) -> tuple[int, float]:
    """Instances explained, and the peak of resident memory in MB afterwards."""
    dataset, job = arguments
    count = 0
    if dataset:
        ds = gx.datasets.load(dataset)
        index = None if dataset == "nci_nitro" else ds.index
        count = len(gx.explain(ds.model, ds.data, JOBS[job], task=ds.task, index=index, progress=False))
    # Not getrusage: a child process inherits the peak of the one that started it.
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return count, int(status.split()[0]) / 1024


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        f"gnn_xai {gx.__version__}, torch {torch.__version__}, python {platform.python_version()}, "
        f"threads {torch.get_num_threads()}\n\n| cut out | nodes | edges | seconds, median (range) |\n|---|---|---|---|"
    )
    print("\n".join(extraction(options.rounds)), flush=True)
    print("\n| data set | job | instances | peak memory |\n|---|---|---|---|", flush=True)
    rows: list[tuple[str, Any]] = [("", "imports"), *((d, j) for d in ("ba_shapes", "nci_nitro") for j in JOBS)]
    context = multiprocessing.get_context("spawn")
    for dataset, job in rows:
        with context.Pool(1) as pool:
            count, megabytes = pool.apply(peak, ((dataset, job),))
        print(f"| {dataset} | {job} | {count or ''} | {megabytes:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
