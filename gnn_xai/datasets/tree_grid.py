"""Tree-Grid: 3 x 3 grids on a binary tree (Ying et al., GNNExplainer, NeurIPS 2019)."""

from __future__ import annotations

import networkx as nx
from torch import Tensor

from gnn_xai.datasets import planted

HEIGHT, GRIDS, EXTRA = 8, 80, 123
# Three rows of three: node 0 is a corner, node 4 the middle.
GRID = planted.Motif(
    edges=((0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (0, 3), (1, 4), (2, 5), (3, 6), (4, 7), (5, 8)),
    classes=(1,) * 9,
)
CLASS_NAMES = ("tree", "grid")


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors, as `planted.plant` makes them.

    A balanced binary tree of height 8 (511 nodes); 80 grids of nine nodes, each on a tree node of its
    own; 0.1 N = 123 extra edges.
    """
    return planted.plant(nx.balanced_tree(2, HEIGHT), GRID, GRIDS, EXTRA, seed)


RECIPE = planted.recipe(
    name="tree_grid",
    title="Tree-Grid",
    summary="tree or grid? 80 grids of 3 x 3 on a binary tree; 1 231 nodes, truth known",
    generate=generate,
    class_names=CLASS_NAMES,
    reference=planted.training(planted.graphconv, len(CLASS_NAMES), steps=4000, rate=0.01, weight_decay=0.01),
    others={"gin": planted.training(planted.gin, len(CLASS_NAMES), seed=1, steps=4000, rate=0.005, weight_decay=0.001)},
)
