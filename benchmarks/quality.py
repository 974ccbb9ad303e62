"""Benchmark of every algorithm on data sets with known truth: agreement with the truth, fidelity, cost.

    python -m benchmarks.quality [--datasets ba_shapes nci_nitro] [--instances 100] [--out out/quality.json]

ROC-AUC is per instance, over the edges and the nodes that the algorithm scores. Fidelity uses only edges (nodes, if an
algorithm scores no edges), as many as the truth has, so that algorithms are compared on explanations of equal size.
Algorithms run with their defaults, some also with other settings. Means over instances ± standard error,
with the number of instances for which the measure is defined.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gnn_xai as gx
from benchmarks.measure import machine, seconds
from benchmarks.report import facts, figures, head, line, plus_minus, write_json
from benchmarks.workloads import SEED, drawn, for_any_model, ready
from gnn_xai.metrics import Result

# Edges of one motif; in a heterogeneous graph those that can carry a message, as each direction has its own score there.
TOP = {"ba_shapes": 6, "hetero_squares": 6, "nci_nitro": 3, "nci_benzene": 6, "nci_halogen_carbonyl": 3}
# A size term that can stand up to the loss, given time, and edges alone.
SPARSER = gx.GNNExplainer(epochs=300, node_mask_type=None, edge_size=0.1, edge_ent=0.1)
# Scores that start near 1 and pay for every edge in log-odds.
FROM_ALL = gx.GNNExplainer(epochs=300, node_mask_type=None, edge_size=2.0, edge_ent=0.0, loss="margin", edge_init=3.0)
# What choose.md recommends for edges.
SQUARED = gx.SmoothGrad(average="square", noise=0.3, node_mask_type=None)
SETTINGS = {
    "smooth_grad, squared": SQUARED,
    "gnn_explainer, sparser": SPARSER,
    "gnn_explainer, from all edges": FROM_ALL,
}
COLUMNS = ("edge ROC-AUC", "node ROC-AUC", "fidelity+", "fidelity−", "ms each")


def rows(name: str, instances: int) -> list[dict[str, Any]]:
    """Results, one row per algorithm."""
    ds = gx.datasets.load(name)
    index = drawn(ds.index, instances).sort().values
    found = []
    every = for_any_model() | SETTINGS
    of: dict[str, Any] = {"task": ds.task, "node_type": ds.node_type, "seed": SEED}
    for label, algorithm in every.items():
        try:
            algorithm = ready(algorithm, ds.model, ds.data, ds.index, index, **of)
            time, explanations = seconds(
                lambda algorithm=algorithm: gx.explain(ds.model, ds.data, algorithm, index=index, progress=False, **of)
            )
        except gx.errors.InputError as error:  # not every algorithm reads every kind of model
            print(f"Left out: {label} on {name}, because {error}\n")
            continue
        row = {"data set": name, "algorithm": label, **measures(ds, explanations), "ms each": 1000 * time / len(index)}
        found.append(row)
    return found


def measures(ds: gx.datasets.Benchmark, explanations: gx.Explanations) -> dict[str, dict[str, float | None]]:
    """Metrics that are defined for the scored elements."""
    results: list[Result] = []
    if explanations.edge_mask is not None:
        results.append(gx.metrics.roc_auc(explanations, ds.ground_truth, "edge"))
    if explanations.node_mask is not None and explanations.node_mask_type != "common_attributes":
        results.append(gx.metrics.roc_auc(explanations, ds.ground_truth, "node"))
    if results:
        level = "edge" if explanations.edge_mask is not None else "node"
        fidelity = gx.metrics.fidelity(ds.model, ds.data, explanations, top=TOP[ds.name], level=level)
        results += [fidelity.plus, fidelity.minus]
    return figures(results)


def table(found: list[dict[str, Any]]) -> str:
    """Table in Markdown."""

    def cell(value: Any) -> str:
        if isinstance(value, dict):
            return f"{plus_minus(value)} ({value['n']})"
        return "" if value is None else f"{value:.1f}"

    lines = [
        line([row["data set"], f"`{row['algorithm']}`", *(cell(row.get(column)) for column in COLUMNS)])
        for row in found
    ]
    return "\n".join([head(("data set", "algorithm", *COLUMNS)), *lines])


def main() -> None:
    """Print the table, and write it with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=list(TOP), choices=list(TOP))
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {"machine": machine(), "rows": [row for name in options.datasets for row in rows(name, options.instances)]}
    print(facts(found["machine"]), table(found["rows"]), sep="\n\n")
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
