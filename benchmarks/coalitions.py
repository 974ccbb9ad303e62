"""Shapley values beside a plain loop, and SubgraphX beside that of DIG: CPU time, quality and memory on one thread.

    python -m benchmarks.coalitions [--molecules 200] [--memory 1000] [--graphs 50] [--dig FOLDER] [--dig-graphs 4]

FOLDER holds `subgraphx.py` and `shapley.py` of dive-into-graphs (`dig/xgraph/method` of `pip download dive-into-graphs
--no-deps`). The other side runs on a few instances, from which its time for all follows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_networkx

import gnn_xai as gx
from benchmarks.measure import in_own_process, machine, peak
from benchmarks.report import facts
from benchmarks.workloads import WORKLOADS

SAMPLES = 500
"""Orders of each instance: half of them drawn, the others their reverses."""

BY_EDGES = gx.Shapley(players="edges", samples=SAMPLES // 2, exact_up_to=1, objective="raw")
AS_DIG = gx.SubgraphX(radius=3, outside="present")
"""What the authors' code does: its radius of 4 goes three hops."""

JUDGED = 2000
"""Orders by which both sides' subgraphs are judged."""


def by_loop(model: nn.Module, graph: Data, target: int, orders: int) -> tuple[Tensor, int]:
    """Shapley values of the undirected edges of a molecule, one graph at a time, and the number of passes."""
    assert graph.edge_index is not None
    source, sink = graph.edge_index
    edges = (source < sink).nonzero().flatten()
    pair = [(source == u) & (sink == v) | (source == v) & (sink == u) for u, v in graph.edge_index[:, edges].t()]
    values = torch.zeros(len(edges))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        empty = model(graph.x, graph.edge_index[:, :0])[0, target]
        for _ in range(orders):
            kept, before = torch.zeros(len(source), dtype=torch.bool), empty
            for edge in torch.randperm(len(edges), generator=generator).tolist():
                kept |= pair[edge]
                after = model(graph.x, graph.edge_index[:, kept])[0, target]
                values[edge] += after - before
                before = after
    return values / orders, orders * len(edges)


def shapley(molecules: int, loops: int = 4, orders: int = 20) -> dict[str, Any]:
    """CPU seconds for all molecules; the loop's from a few of its orders on a few molecules, by its passes."""
    workload: Any = WORKLOADS["molecules"](False)
    index = workload.index[:molecules]
    start = process_time()
    found = gx.explain(workload.model, workload.data, BY_EDGES, index=index, task=workload.task, progress=False)
    ours = process_time() - start
    passes, seconds = 0, 0.0
    for position, e in enumerate(found[:loops]):
        start = process_time()
        passes += by_loop(workload.model, workload.data[int(index[position])], int(e.target), orders)[1]
        seconds += process_time() - start
    every = sum(SAMPLES * len(e.edge_id) // 2 for e in found)
    loop = seconds / passes * every
    return {"molecules": molecules, "passes": every, "ours_s": ours, "loop_s": loop, "ratio": loop / ours}


def memory(molecules: int) -> float:
    """Peak memory in MB above that of imports, model and data."""
    torch.set_num_threads(1)
    workload = WORKLOADS["molecules"](True)
    index = workload.index[:molecules]
    of: dict[str, Any] = {"task": workload.task, "progress": False}
    gx.explain(workload.model, workload.data, "saliency", index=index[:2], **of)
    return peak(lambda: gx.explain(workload.model, workload.data, gx.Shapley(), index=index, **of))


class Network(nn.Module):
    """A model that takes a batch as `data=`, as DIG calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any = None, edge_index: Any = None, data: Any = None) -> Tensor:
        if data is None:
            return self.model(x, edge_index, torch.zeros(len(x), dtype=torch.int64))
        return self.model(data.x, data.edge_index, data.batch)


def dig(folder: Path) -> Any:
    """DIG's class, without the package around it."""
    package = types.ModuleType("dig_method")
    package.__path__ = [str(folder)]
    sys.modules["dig_method"] = package
    return importlib.import_module("dig_method.subgraphx").SubgraphX


def judged(model: nn.Module, graph: Any, target: int, nodes: Sequence[int]) -> float:
    """The Shapley value of a subgraph among the nodes within three hops, the others being present, from many orders."""
    links = to_networkx(graph)
    region = set().union(*(nx.single_source_shortest_path_length(links, node, 3) for node in nodes)) - set(nodes)
    others, random, count = sorted(region), np.random.RandomState(0), graph.num_nodes or 0
    before = torch.ones(JUDGED, count)
    before[:, others] = 0
    before[:, list(nodes)] = 0
    for row in before:
        row[random.permutation(others)[: random.randint(len(others) + 1)]] = 1
    after = before.clone()
    after[:, list(nodes)] = 1
    total = 0.0
    with torch.no_grad():
        for sign, masks in ((1, after), (-1, before)):
            x = (graph.x * masks.unsqueeze(2)).flatten(0, 1)
            shift = torch.arange(JUDGED).repeat_interleave(graph.num_edges) * count
            out = model(x, graph.edge_index.repeat(1, JUDGED) + shift, torch.arange(JUDGED).repeat_interleave(count))
            total += sign * float(out.softmax(1)[:, target].mean())
    return total


def subgraphs(graphs: int, folder: Path | None, other: int) -> dict[str, Any]:
    """CPU seconds a graph, and mean Shapley value of the subgraphs."""
    ds: Any = gx.datasets.load("ba_2motifs")
    index = ds.index[torch.randperm(len(ds.index), generator=torch.Generator().manual_seed(0))[:graphs]]
    found: dict[str, Any] = {"graphs": graphs}
    start = process_time()
    explanations: Any = gx.explain(ds.model, ds.data, AS_DIG, index=index, task=ds.task, progress=False)
    found["ours_s"] = (process_time() - start) / graphs

    def judge(position: int, nodes: list[int]) -> float:
        return judged(ds.model, ds.data[int(index[position])], int(explanations[position].target), nodes)

    chosen = [e.node_id[e.node_mask.flatten() > 0].tolist() for e in explanations]
    found["our_reward"] = float(np.mean([judge(*one) for one in enumerate(chosen)]))
    if folder is None:
        return found
    explainer = dig(folder)(Network(ds.model), num_classes=2, device="cpu", vis=False)
    np.random.seed(0)  # noqa: NPY002 (DIG draws from it)
    rewards, seconds = [], 0.0
    for position in range(other):
        graph = ds.data[int(index[position])]
        start = process_time()
        explainer.explain(graph.x, graph.edge_index, int(explanations[position].target), max_nodes=5)
        seconds += process_time() - start
        rewards.append(judge(position, coalition(explainer)))
    same = float(np.mean([judge(position, chosen[position]) for position in range(other)]))
    found |= {"dig_graphs": other, "dig_s": seconds / other, "dig_reward": float(np.mean(rewards)), "our_same": same}
    return found | {"ratio": found["dig_s"] / found["ours_s"]}


def coalition(explainer: Any) -> list[int]:
    """The nodes of the subgraph that DIG returns: the best of at most five."""
    states = [node for node in explainer.mcts_state_map.state_map.values() if len(node.coalition) <= 5]
    return list(max(states, key=lambda node: node.P).coalition)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a line of JSON for each part; 0 leaves a part out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=200)
    parser.add_argument("--memory", type=int, default=1000)
    parser.add_argument("--graphs", type=int, default=50)
    parser.add_argument("--dig", type=Path)
    parser.add_argument("--dig-graphs", type=int, default=4)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(facts(machine()))
    if chosen.molecules:
        print(json.dumps({"shapley": shapley(chosen.molecules)}), flush=True)
    if chosen.memory:
        print(json.dumps({"memory_mb": in_own_process(memory, chosen.memory)}), flush=True)
    if chosen.graphs:
        print(json.dumps({"subgraph_x": subgraphs(chosen.graphs, chosen.dig, chosen.dig_graphs)}), flush=True)


if __name__ == "__main__":
    main()
