"""BA-Community: two BA-Shapes that know their features (Ying et al., GNNExplainer, NeurIPS 2019)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnn_xai.datasets import ba_shapes, planted

JOINS, NOISE = 350, 8
CLASS_NAMES = tuple(f"{corner} {community}" for community in "AB" for corner in ba_shapes.CLASS_NAMES)


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors; beside those of `planted.plant` the features ``x`` ``[1400, 10]``.

    Two graphs of `ba_shapes.generate`, and 350 edges between random nodes of one and of the other. The
    first two columns of ``x`` are normal with mean -1 in the first community and 1 in the second, variance
    0.5; the other eight are standard normal. The second community has the classes 4 to 7, and its houses
    the motif ids from 80.
    """
    random = np.random.RandomState(seed)
    first, second = ba_shapes.generate(2 * seed), ba_shapes.generate(2 * seed + 1)
    size = len(first["y"])
    joins: set[tuple[int, int]] = set()
    while len(joins) < JOINS:
        joins.add((random.randint(size), size + random.randint(size)))
    means = np.repeat([-1.0, 1.0], size)[:, None]
    x = np.hstack([random.normal(means, np.sqrt(0.5), (2 * size, 2)), random.normal(size=(2 * size, NOISE))])

    between = torch.tensor(sorted(joins)).t()
    edge_index = torch.cat([first["edge_index"], second["edge_index"] + size, between, between.flip(0)], dim=1)
    edge_motif = torch.cat([first["edge_motif"], shifted(second["edge_motif"]), torch.full((2 * JOINS,), -1)])
    order = (edge_index[0] * 2 * size + edge_index[1]).argsort()
    tensors = {
        "edge_index": edge_index[:, order],
        "y": torch.cat([first["y"], second["y"] + len(ba_shapes.CLASS_NAMES)]),
        "node_motif": torch.cat([first["node_motif"], shifted(second["node_motif"])]),
        "edge_motif": edge_motif[order],
        "split": torch.cat([first["split"], second["split"]]),
    }
    # Small integers, for a small file.
    return {name: tensor.short() for name, tensor in tensors.items()} | {"x": torch.from_numpy(x).float()}


def shifted(motif: Tensor) -> Tensor:
    """Motif ids that follow those of the first community; -1 stays."""
    return torch.where(motif >= 0, motif + ba_shapes.HOUSES, motif)


RECIPE = planted.recipe(
    name="ba_community",
    title="BA-Community",
    summary="which corner of a house, in which community? two BA-Shapes joined; 1 400 nodes, truth known",
    generate=generate,
    class_names=CLASS_NAMES,
    # Weights decay much: eight of ten features are noise that 1 120 nodes can learn by heart.
    reference=planted.training(planted.graphconv, len(CLASS_NAMES), steps=1000, rate=0.01, weight_decay=2.0),
    others={"gcn": planted.training(planted.gcn, len(CLASS_NAMES), steps=4000, rate=0.01, weight_decay=0.3)},
)
