"""GNNExplainer here and in PyG: same checkpoint, same epochs, same instances, one process, interleaved.

    python -m benchmarks.against_pyg [--nodes 400] [--molecules 500] [--rounds 5] [--out out/against_pyg.json]

PyG explains one target at a time on the whole graph (its documented use); gnn_xai explains all targets at once. In each
round PyG works on its share of the instances and gnn_xai on all of them, so that both see the same machine. Quality is
the mean ROC-AUC of edge masks against ground truth over the edges that can reach the output, for both sides alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from torch_geometric.explain import Explainer
from torch_geometric.explain import GNNExplainer as PyGGNNExplainer

import gnn_xai as gx

EPOCHS = 100
SEED = 0


def compare(name: str, count: int, rounds: int) -> dict[str, Any]:
    """One row: milliseconds per explanation and ROC-AUC on both sides."""
    benchmark = gx.datasets.load(name)
    index = benchmark.index if benchmark.ground_truth is not None else torch.arange(count)
    graph_level = benchmark.task.task_level.value == "graph"
    if graph_level:  # also the molecules without a nitro group; quality is over those that have one
        rest = torch.tensor([i for i in range(len(benchmark.data)) if i not in set(index.tolist())])
        index = torch.cat([index, rest])
    index = index[:count]
    node_mask_type = "common_attributes"  # the paper's; the same on both sides
    peer = Explainer(
        benchmark.model,
        PyGGNNExplainer(epochs=EPOCHS),
        explanation_type="model",
        node_mask_type=node_mask_type,
        edge_mask_type="object",
        model_config=benchmark.task,
    )
    ours = gx.GNNExplainer(epochs=EPOCHS, node_mask_type=node_mask_type)

    def explain_ours() -> gx.Explanations:
        return gx.explain(
            benchmark.model, benchmark.data, ours, task=benchmark.task, index=index, seed=SEED, progress=False
        )

    def explain_peer(i: int) -> torch.Tensor:
        if graph_level:
            graph = benchmark.data[i]
            return peer(graph.x, graph.edge_index, batch=torch.zeros(graph.num_nodes, dtype=torch.long)).edge_mask
        return peer(benchmark.data.x, benchmark.data.edge_index, index=i).edge_mask

    torch.manual_seed(SEED)
    explain_peer(int(index[0]))
    explanations = explain_ours()
    masks: list[torch.Tensor] = []
    peer_ms, our_ms = [], []
    for share in index.tensor_split(rounds):
        start = time.perf_counter()
        masks += [explain_peer(int(i)) for i in share]
        peer_ms.append((time.perf_counter() - start) / len(share) * 1e3)
        start = time.perf_counter()
        explanations = explain_ours()
        our_ms.append((time.perf_counter() - start) / len(index) * 1e3)
    aligned = [mask[e.edge_id] for mask, e in zip(masks, explanations, strict=True)]
    theirs = replace(explanations, edge_mask=torch.cat(aligned).detach())
    quality = {
        side: gx.metrics.roc_auc(found, benchmark.ground_truth, "edge")
        for side, found in (("gnn_xai", explanations), ("pyg", theirs))
    }
    return {
        "data set": name,
        "instances": len(index),
        "epochs": EPOCHS,
        "gnn_xai ms": statistics.median(our_ms),
        "gnn_xai ms range": [min(our_ms), max(our_ms)],
        "pyg ms": statistics.median(peer_ms),
        "pyg ms range": [min(peer_ms), max(peer_ms)],
        "ratio": statistics.median(a / b for a, b in zip(peer_ms, our_ms, strict=True)),
        "gnn_xai auc": quality["gnn_xai"].mean,
        "gnn_xai auc stderr": quality["gnn_xai"].stderr,
        "pyg auc": quality["pyg"].mean,
        "pyg auc stderr": quality["pyg"].stderr,
        "auc instances": quality["gnn_xai"].count,
    }


def main() -> None:
    """Run both workloads and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=400)
    parser.add_argument("--molecules", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out/against_pyg.json"))
    args = parser.parse_args()
    machine = {
        "cpu": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        "gnn_xai": gx.__version__,
        "seed": SEED,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    print("| data set | instances | gnn_xai ms (range) | PyG ms (range) | ratio | gnn_xai AUC | PyG AUC | AUC over |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for name, count in (("ba_shapes", args.nodes), ("nci_nitro", args.molecules)):
        row = compare(name, count, args.rounds)
        rows.append(row)
        low, high = row["gnn_xai ms range"]
        peer_low, peer_high = row["pyg ms range"]
        print(
            f"| {name} | {row['instances']} | {row['gnn_xai ms']:.2f} ({low:.2f}–{high:.2f}) "
            f"| {row['pyg ms']:.1f} ({peer_low:.1f}–{peer_high:.1f}) | {row['ratio']:.1f}× "
            f"| {row['gnn_xai auc']:.3f} ± {row['gnn_xai auc stderr']:.3f} "
            f"| {row['pyg auc']:.3f} ± {row['pyg auc stderr']:.3f} | {row['auc instances']} |",
            flush=True,
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
