"""Every algorithm on the benchmarks with known truth: agreement with the truth, fidelity, cost.

    python -m benchmarks.quality [--datasets ba_shapes nci_nitro] [--instances 100] [--out out/quality.json]

ROC-AUC is per instance over what the algorithm scores: edges, and nodes. Fidelity is of the edges alone (of the nodes,
where an algorithm scores no edges), at the truth's size, so that algorithms are compared on equal explanations.
Algorithms run with their defaults, GNNExplainer also with a stronger size term. Means over instances ± standard error,
with the number of instances for which the measure is defined.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
import torch_geometric

import gnn_xai as gx
from gnn_xai.metrics import Result

SEED = 0
TOP = {"ba_shapes": 6, "nci_nitro": 3}  # edges of one motif
# A size term that can stand up to the loss, given time, and edges alone.
SPARSER = gx.GNNExplainer(epochs=300, node_mask_type=None, edge_size=0.1, edge_ent=0.1)
COLUMNS = ("edge ROC-AUC", "node ROC-AUC", "fidelity+", "fidelity−", "ms each")


def rows(name: str, instances: int) -> list[dict[str, Any]]:
    """One row for each algorithm."""
    ds = gx.datasets.load(name)
    order = torch.randperm(len(ds.index), generator=torch.Generator().manual_seed(SEED))
    index = ds.index[order[:instances]].sort().values
    found = []
    every = {name: gx.algorithms.get(name) for name in gx.algorithms.REGISTRY} | {"gnn_explainer, sparser": SPARSER}
    for label, algorithm in every.items():
        start = time.perf_counter()
        explanations = gx.explain(ds.model, ds.data, algorithm, task=ds.task, index=index, seed=SEED, progress=False)
        milliseconds = 1000 * (time.perf_counter() - start) / len(index)
        found.append({"data set": name, "algorithm": label, **measures(ds, explanations), "ms each": milliseconds})
    return found


def measures(ds: gx.datasets.Benchmark, explanations: gx.Explanations) -> dict[str, dict[str, float]]:
    """The measures that are defined for what was scored."""
    results: list[Result] = []
    if explanations.edge_mask is not None:
        results.append(gx.metrics.roc_auc(explanations, ds.ground_truth, "edge"))
    if explanations.node_mask is not None and explanations.node_mask_type != "common_attributes":
        results.append(gx.metrics.roc_auc(explanations, ds.ground_truth, "node"))
    if results:
        level = "edge" if explanations.edge_mask is not None else "node"
        fidelity = gx.metrics.fidelity(ds.model, ds.data, explanations, top=TOP[ds.name], level=level)
        results += [fidelity.plus, fidelity.minus]
    return {r.name: {"mean": r.mean, "stderr": r.stderr, "n": r.count} for r in results}


def table(found: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [f"| data set | algorithm | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for row in found:
        cells = []
        for column in COLUMNS:
            value = row.get(column)
            if isinstance(value, dict):
                cells.append(f"{value['mean']:.3f} ± {value['stderr']:.3f} ({value['n']})")
            else:
                cells.append("" if value is None else f"{value:.1f}")
        lines.append(f"| {row['data set']} | `{row['algorithm']}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=list(TOP), choices=list(TOP))
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    versions = {
        "gnn_xai": gx.__version__,
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "seed": SEED,
    }
    found = [row for name in options.datasets for row in rows(name, options.instances)]
    print(", ".join(f"{key} {value}" for key, value in versions.items()), table(found), sep="\n\n")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"versions": versions, "rows": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
