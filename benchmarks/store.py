"""Runs on disk: time and peak memory of writing, reading and exporting many explanations of small graphs.

    python -m benchmarks.store [--graphs 100000]

The graphs have 20 to 30 nodes and 48 to 68 directed edges; the model is a GCN of three layers. Every job has a process of
its own, one thread, and its peak is that of the whole process, including PyTorch (the row `imports`), the data and the
model. The time is that of the call alone. Files are written to a temporary folder (`TMPDIR`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN, global_mean_pool

import gnn_xai as gx
from benchmarks.measure import MB, in_own_process, machine, resident, seconds
from benchmarks.report import facts, head, line

FEATURES = 10
SLICE = 1000
SALIENCY, LEARNED = gx.Saliency(), gx.GNNExplainer(epochs=10)


def graph(number: int, generator: torch.Generator) -> Data:
    """A path with five chords, in both directions."""
    nodes = 20 + number % 11
    path = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])
    edges = torch.cat([path, torch.randint(nodes, (2, 5), generator=generator)], dim=1)
    x = torch.rand(nodes, FEATURES, generator=generator)
    return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], dim=1))


def graphs(count: int) -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    return [graph(number, generator) for number in range(count)]


class Net(nn.Module):
    """Three GCN layers of 32 hidden channels, and a linear layer on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = GCN(FEATURES, 32, 3), nn.Linear(32, 2)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.head(global_mean_pool(self.layers(x, edge_index), batch))


def explained(count: int, algorithm: Any, out: Path | None = None) -> tuple[float, Any]:
    torch.manual_seed(0)
    model, data = Net().eval(), graphs(count)
    return seconds(lambda: gx.explain(model, data, algorithm, out=out, progress=False))


# Jobs ################################################################################################################

Job = Callable[[Path, int], tuple[float, str]]


def imports(folder: Path, count: int) -> tuple[float, str]:
    return 0.0, "PyTorch, PyG and gnn_xai"


def the_list(folder: Path, count: int) -> tuple[float, str]:
    time, data = seconds(lambda: graphs(count))
    return time, f"{len(data):,} graphs"


def write(folder: Path, count: int, algorithm: Any = SALIENCY) -> tuple[float, str]:
    time, stored = explained(count, algorithm, folder / algorithm.name)
    size = sum(shard["bytes"] for shard in stored.manifest["shards"]) / MB
    return time, f"{len(stored):,} explanations, {len(stored.manifest['shards'])} shards, {size:.0f} MB"


def in_memory(folder: Path, count: int) -> tuple[float, str]:
    time, found = explained(count, SALIENCY)
    return time, f"{len(found):,} explanations"


def reading(take: Callable[[gx.StoredExplanations, Path, int], str]) -> Job:
    """A job that reads what `write` has written."""

    def job(folder: Path, count: int) -> tuple[float, str]:
        return seconds(lambda: take(gx.StoredExplanations(folder / SALIENCY.name), folder, count))

    return job


def exported(stored: gx.StoredExplanations, folder: Path, count: int) -> str:
    return f"{stored.to_parquet(folder / 'edges.parquet', 'edge').stat().st_size / MB:.0f} MB"


JOBS: dict[str, Job] = {
    "imports": imports,
    "the list of graphs": the_list,
    "`explain(..., Saliency(), out=folder)`": write,
    "the same call again": write,
    "`explain(..., GNNExplainer(epochs=10), out=folder)`": partial(write, algorithm=LEARNED),
    "`explain(..., Saliency())`, in memory": in_memory,
    "`stored.shards()`, all of them": reading(
        lambda stored, *_: f"{sum(len(part.edge_id) for part in stored.shards()):,} scores of edges"
    ),
    "`stored[i]`": reading(lambda stored, _, count: f"{len(stored[count // 2].edge_id)} scores of edges"),
    f'`stored[i : i + {SLICE:,}].to_pandas("edge")`': reading(
        lambda stored, _, count: f"{len(stored[count // 2 : count // 2 + SLICE].to_pandas('edge')):,} rows"
    ),
    "`stored.to_pandas()`": reading(lambda stored, *_: f"{len(stored.to_pandas()):,} rows"),
    '`stored.to_parquet(path, "edge")`': reading(exported),
}


def measured(name: str, folder: Path, count: int) -> tuple[float, float, str]:
    torch.set_num_threads(1)
    time, found = JOBS[name](folder, count)
    return time, resident("VmHWM"), found


def main(arguments: Any = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=100_000)
    count = parser.parse_args(arguments).graphs
    print(facts(machine()), "\n")
    print(head(["what", "seconds", "peak MB", "of"]))
    with tempfile.TemporaryDirectory() as folder:
        for name in JOBS:
            time, peak, found = in_own_process(measured, name, Path(folder), count)
            print(line([name, f"{time:.1f}", f"{peak:,.0f}", found]), flush=True)


if __name__ == "__main__":
    main()
