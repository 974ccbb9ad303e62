"""BA-Shapes: houses on a Barabasi-Albert graph (Ying et al., GNNExplainer, NeurIPS 2019)."""

from __future__ import annotations

import networkx as nx
from torch import Tensor

from gnn_xai.datasets import planted

BASE_NODES, BASE_DEGREE, HOUSES, EXTRA = 300, 5, 80, 70
CLASS_NAMES = ("base", "middle", "bottom", "top")


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors, as `planted.plant` makes them.

    A Barabasi-Albert graph of 300 nodes (m = 5); 80 five-node houses, each on a base node of its own;
    0.1 N = 70 extra edges.
    """
    base = nx.barabasi_albert_graph(BASE_NODES, BASE_DEGREE, seed=seed)
    return planted.plant(base, planted.HOUSE, HOUSES, EXTRA, seed)


RECIPE = planted.recipe(
    name="ba_shapes",
    title="BA-Shapes",
    summary="which corner of a house? 80 houses on a Barabasi-Albert graph; 700 nodes, truth known",
    generate=generate,
    class_names=CLASS_NAMES,
    # Departure from the paper (1 000 steps of Adam at 1e-3): with PyG's degree-normalised GCN and
    # constant features that ends near 0.8.
    reference=planted.training(planted.gcn, len(CLASS_NAMES), steps=5000, rate=0.03, weight_decay=0.01),
    others={
        "graphconv": planted.training(planted.graphconv, len(CLASS_NAMES), steps=1000, rate=0.01, weight_decay=0.01)
    },
)
