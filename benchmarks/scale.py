"""Benchmark of scale: cutting out computation graphs, peak memory of large jobs, and growing graphs.

    python -m benchmarks.scale [--rounds 5]

Every job runs in its own process, so that its peak can be measured alone. The table of jobs shows the peak of the whole
process, including PyTorch (the row `imports`), the data and the model.

On growing graphs, GNNExplainer runs with `max_neighbors=10`. The column `once` is the cost of a call with one target: the
work that a call does once per graph. The time of 100 targets is the additional time of a call with 5 000 more targets,
divided by 50, because a hundred alone are too quick beside that work. Their memory is that of learning their masks.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.utils import remove_self_loops, to_undirected

import gnn_xai as gx
from benchmarks.measure import in_own_process, machine, peak, resident, seconds
from benchmarks.report import facts, head, line
from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.graphs.expansion import SCOPES, around_nodes
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.datasets.models import GCN

JOBS = {
    "GNNExplainer(epochs=10)": gx.GNNExplainer(epochs=10, node_mask_type="attributes"),
    "IntegratedGradients(steps=10)": gx.IntegratedGradients(steps=10),
    "EdgeAblation()": gx.EdgeAblation(),
    "NodeAblation()": gx.NodeAblation(),
}
SIZES = (10_000, 100_000, 1_000_000)
MANY = 5000


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
        scope, took = torch.full_like(index, number), []
        for _ in range(rounds):
            graphs._incidence.clear()  # the sorted edges are part of the price
            time, found = seconds(lambda scope=scope: around_nodes(graphs, index, layers, scope, "source_to_target"))
            took.append(time)
        spread = f"{statistics.median(took):.2f} ({min(took):.2f} to {max(took):.2f})"
        lines.append(line([name, f"{len(found.node):,}", f"{len(found.edge):,}", spread]))
    return lines


def whole(dataset: str, job: str) -> tuple[int, float]:
    """Number of explained instances, and the peak of resident memory in MB afterwards."""
    count = 0
    if dataset:
        ds = gx.datasets.load(dataset)
        index = None if dataset == "nci_nitro" else ds.index
        count = len(gx.explain(ds.model, ds.data, JOBS[job], task=ds.task, index=index, progress=False))
    return count, resident("VmHWM")


def power_law(nodes: int, degree: int = 10) -> Data:
    """Random graph whose degrees follow a power law (Chung and Lu 2002): mean `degree`, exponent 2.5.

    An end of an edge is node i with a probability proportional to i^(−⅔); loops and repeated edges are left out.
    """
    generator = torch.Generator().manual_seed(0)
    ends = (torch.rand(2, nodes * degree // 2, generator=generator).double().pow(3) * nodes).long()
    edge_index = to_undirected(remove_self_loops(ends)[0], num_nodes=nodes)
    return Data(x=torch.randn(nodes, 16, generator=generator), edge_index=edge_index)


def growth(nodes: int, rounds: int) -> tuple[int, tuple[float, float], tuple[float, float]]:
    """Number of edges; seconds and MB of a call with one target; seconds and MB of 100 targets."""
    data, learned, memory = power_law(nodes), gx.GNNExplainer(node_mask_type="object"), []
    torch.manual_seed(0)
    model = GCN(16, 16, 4, num_layers=2).eval()
    index = torch.randperm(nodes, generator=torch.Generator().manual_seed(0))

    @algorithm("measured", "GNNExplainer, and the memory it takes", signed=False)
    class Measured:
        def attribute(self, *arguments: Any) -> Any:
            masks = learned.attribute(*arguments)  # builds what a graph needs once
            memory.append(peak(lambda: learned.attribute(*arguments)))
            return masks

    def explain(count: int, algorithm: Any = learned) -> gx.Explanations:
        return gx.explain(model, data, algorithm, index=index[:count], max_neighbors=10, progress=False)

    gx.explain(model, power_law(10), learned, index=0, progress=False)  # imports what is imported late
    once_memory = peak(lambda: explain(1))
    explain(100, Measured())
    turns = [(seconds(lambda: explain(1))[0], seconds(lambda: explain(1 + MANY))[0]) for _ in range(rounds)]
    once, many = (min(column) for column in zip(*turns, strict=True))
    return data.num_edges, (once, once_memory), ((many - once) * 100 / MANY, memory[0])


def main() -> None:
    """Print three Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(facts(machine()), head(("cut out", "nodes", "edges", "seconds, median (range)")), sep="\n\n")
    print("\n".join(extraction(options.rounds)), flush=True)
    print(f"\n{head(('data set', 'job', 'instances', 'peak memory'))}", flush=True)
    for dataset, job in [("", "imports"), *((d, j) for d in ("ba_shapes", "nci_nitro") for j in JOBS)]:
        count, megabytes = in_own_process(whole, dataset, job)
        print(line([dataset, job, count or "", f"{megabytes:,.0f} MB"]), flush=True)
    columns = ("nodes", "edges", "once", "100 targets", "growth of time", "growth of memory")
    print(f"\n{head(columns)}", flush=True)
    first = None
    for nodes in SIZES:
        edges, once, cost = in_own_process(growth, nodes, options.rounds)
        first = first or cost
        grown = [f"{now / then:.2f}×" for now, then in zip(cost, first, strict=True)]
        cells = [f"{time:.3f} s, {megabytes:,.0f} MB" for time, megabytes in (once, cost)]
        print(line([f"{nodes:,}", f"{edges:,}", *cells, *grown]), flush=True)


if __name__ == "__main__":
    main()
