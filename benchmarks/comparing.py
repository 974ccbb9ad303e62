"""CPU time of one `gx.compare`, of the gnn_xai that is imported, as JSON.

    PYTHONPATH=CHECKOUT python benchmarks/comparing.py [NODES]

Imports nothing of the benchmarks, so that it also measures an earlier checkout.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import torch

import gnn_xai as gx

NODES = 100
ALGORITHMS = ("saliency", "input_x_gradient", "integrated_gradients", "gnn_explainer", "edge_ablation")
METRICS = ("fidelity", "characterization", "unfaithfulness", "sparsity", "roc_auc")


def main(nodes: int = NODES) -> None:
    """Compare on some motif nodes of BA-Shapes, after a comparison of two, which imports what is imported late."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    ds = gx.datasets.load("ba_shapes")
    order = torch.randperm(len(ds.index), generator=torch.Generator().manual_seed(0))

    def compare(count: int) -> None:
        index = ds.index[order[:count]]
        gx.compare(
            ds.model,
            ds.data,
            ALGORITHMS,
            METRICS,
            index=index,
            ground_truth=ds.ground_truth,
            task=ds.task,
            progress=False,
        )

    compare(2)
    start = time.process_time()
    compare(nodes)
    print(json.dumps({"ms": 1000 * (time.process_time() - start), "package": gx.__file__}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
