"""Tree-Cycles: hexagons on a binary tree (Ying et al., GNNExplainer, NeurIPS 2019)."""

from __future__ import annotations

import networkx as nx
from torch import Tensor

from gnn_xai.datasets import planted

HEIGHT, CYCLES, EXTRA = 8, 60, 9
CYCLE = planted.Motif(edges=((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)), classes=(1,) * 6)
CLASS_NAMES = ("tree", "cycle")


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors, as `planted.plant` makes them.

    A balanced binary tree of height 8 (511 nodes); 60 six-node cycles, each on a tree node of its own;
    9 extra edges, one in a hundred.
    """
    return planted.plant(nx.balanced_tree(2, HEIGHT), CYCLE, CYCLES, EXTRA, seed)


RECIPE = planted.recipe(
    name="tree_cycles",
    title="Tree-Cycles",
    summary="tree or cycle? 60 hexagons on a binary tree; 871 nodes, truth known",
    generate=generate,
    class_names=CLASS_NAMES,
    reference=planted.training(planted.graphconv, len(CLASS_NAMES), steps=2000, rate=0.01, weight_decay=0.01),
    others={"gcn": planted.training(planted.gcn, len(CLASS_NAMES), seed=1, steps=5000, rate=0.01, weight_decay=0.01)},
)
