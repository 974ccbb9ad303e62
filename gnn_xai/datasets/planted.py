"""Motifs planted on a base graph, for the synthetic benchmarks of node classification: making and reading the graph,
training and measuring models, and the nodes to explain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnn_xai.datasets.models import GCN, GraphConvs, NodeGIN
from gnn_xai.datasets.recipe import Material, Recipe, Training, graph_and_labels, split_ids
from gnn_xai.results.ground_truth import GroundTruth

FEATURES = 10


@dataclass(frozen=True)
class Motif:
    """A small graph that is planted many times; its node 0 is tied to the base graph.

    Args:
        edges: each once, between nodes 0, 1, ...
        classes: of its nodes.
    """

    edges: tuple[tuple[int, int], ...]
    classes: tuple[int, ...]


# Node 0 and 1 carry the roof (node 4), node 2 and 3 stand on the ground.
HOUSE = Motif(edges=((0, 1), (1, 2), (2, 3), (3, 0), (4, 0), (4, 1)), classes=(1, 1, 2, 2, 3))


def plant(base: nx.Graph, motif: Motif, count: int, extra: int, seed: int) -> dict[str, Tensor]:
    """A base graph with motifs on it, and some random edges.

    Each motif is tied by one edge to its own base node, drawn at random; the extra edges join random
    nodes that were not yet neighbours. On a base of ``B`` nodes, motif ``m`` of ``n`` nodes owns the
    nodes from ``B + m n`` to ``B + (m + 1) n - 1``.

    Args:
        base: with nodes 0, 1, ...; the motifs are added to it. Its nodes are of class 0.
        motif: what to plant.
        count: how many; at most the number of base nodes.
        extra: how many extra edges.
        seed: of anchors, extra edges and split.

    Returns:
        ``edge_index`` ``[2, E]`` sorted, both directions; ``y`` ``[N]``; ``node_motif`` ``[N]`` and
        ``edge_motif`` ``[E]``: the motif that owns the element, -1 for none. Extra edges belong to no
        motif, also if both their ends do. ``split`` ``[N]``: 0 train (80%), 1 val (10%), 2 test (10%).
    """
    # RandomState rather than a Generator: its streams are frozen for good by numpy.
    random = np.random.RandomState(seed)
    base_nodes, size = base.number_of_nodes(), len(motif.classes)
    owner: dict[tuple[int, int], int] = {}
    anchors = random.permutation(base_nodes)[:count]
    for number, anchor in enumerate(anchors.tolist()):
        first = base_nodes + size * number
        for u, v in motif.edges:
            base.add_edge(first + u, first + v)
            owner[first + u, first + v] = owner[first + v, first + u] = number
        base.add_edge(first, anchor)

    num_nodes = base.number_of_nodes()
    target = base.number_of_edges() + extra
    while base.number_of_edges() < target:
        u, v = random.randint(0, num_nodes, size=2).tolist()
        if u != v and not base.has_edge(u, v):
            base.add_edge(u, v)

    edges = sorted(pair for u, v in base.edges for pair in ((u, v), (v, u)))
    return {
        "edge_index": torch.tensor(edges).t().contiguous(),
        "y": torch.cat([torch.zeros(base_nodes).long(), torch.tensor(motif.classes * count)]),
        "node_motif": torch.cat([torch.full((base_nodes,), -1), torch.arange(count).repeat_interleave(size)]),
        "edge_motif": torch.tensor([owner.get(edge, -1) for edge in edges]),
        "split": split(num_nodes, random),
    }


def split(size: int, random: np.random.RandomState) -> Tensor:
    """The split of each of `size` instances, `[size]`, drawn at random: 0 train (80%), 1 val (10%), 2 test (10%)."""
    code, tenth = torch.zeros(size, dtype=torch.int64), size // 10
    order = torch.from_numpy(random.permutation(size))
    code[order[size - 2 * tenth :]] = 1
    code[order[size - tenth :]] = 2
    return code


def read(frozen: dict[str, Tensor], class_names: tuple[str, ...]) -> Material:
    """The frozen graph; without frozen features ten columns of ones, so only structure tells the classes."""
    y = frozen["y"].long()
    x = frozen["x"] if "x" in frozen else torch.ones(len(y), FEATURES)
    return Material(
        data=Data(x=x, edge_index=frozen["edge_index"].long(), y=y),
        ground_truth=GroundTruth(edge=frozen["edge_motif"].long(), node=frozen["node_motif"].long()),
        split=split_ids(frozen["split"]),
        class_names=class_names,
    )


def gcn(classes: int) -> nn.Module:
    """Three GCN layers of width 20, their outputs side by side into a linear layer."""
    return GCN(FEATURES, 20, classes, num_layers=3, concat=True)


def graphconv(classes: int) -> nn.Module:
    """The same with layers that add up neighbours, as those of the authors' code do."""
    return GraphConvs(FEATURES, 20, classes, num_layers=3, concat=True)


def gin(classes: int) -> nn.Module:
    """The same with GIN layers."""
    return NodeGIN(FEATURES, 20, classes, num_layers=3, concat=True)


def fit(model: nn.Module, material: Material, steps: int, rate: float, weight_decay: float) -> None:
    """Train by cross-entropy over all training nodes at once, see `descend`."""
    (data, y), train = graph_and_labels(material), material.split["train"]

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(data.x, data.edge_index)[train], y[train])

    descend(model, loss, steps, rate, weight_decay)


def descend(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float, weight_decay: float) -> None:
    """So many steps of AdamW under a one-cycle schedule, gradients clipped to norm 2.

    Args:
        model: trained in place.
        loss: of the model as it is, on all its training data.
        steps: of the optimizer.
        rate: the peak of the learning rate.
        weight_decay: of AdamW.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        schedule.step()


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Share of nodes with the right class, per split: of all nodes, of motif nodes and of base nodes.

    Published accuracies do not say of which nodes, so "all" holds every node of the graph.
    """
    (data, y), motif = graph_and_labels(material), owners(material) >= 0
    with torch.no_grad():
        right = (model(data.x, data.edge_index).argmax(dim=-1) == y).double()
    return {
        name: {
            "accuracy": right[ids].mean().item(),
            "motif_accuracy": right[ids][motif[ids]].mean().item(),
            "base_accuracy": right[ids][~motif[ids]].mean().item(),
        }
        for name, ids in (material.split | {"all": torch.arange(len(y))}).items()
    }


def instances(model: nn.Module, material: Material) -> Tensor:
    """All motif nodes, in order of their ids."""
    return (owners(material) >= 0).nonzero().flatten()


def owners(material: Material) -> Tensor:
    """The motif that each node lies in, -1 for base nodes."""
    assert material.ground_truth is not None
    assert isinstance(material.ground_truth.node, Tensor)
    return material.ground_truth.node


def training(
    model: Callable[[int], nn.Module], classes: int, *, seed: int = 0, steps: int, rate: float, weight_decay: float
) -> Training:
    """A checkpoint of `gcn`, `graphconv` or `gin`, trained by `fit`."""
    return Training(partial(model, classes), partial(fit, steps=steps, rate=rate, weight_decay=weight_decay), seed=seed)


def recipe(
    *,
    name: str,
    title: str,
    summary: str,
    generate: Callable[[], dict[str, Tensor]],
    class_names: tuple[str, ...],
    reference: Training,
    others: dict[str, Training],
) -> Recipe:
    """How such a benchmark is made; a checkpoint of another seed of the reference is among the others, as "seed1"."""
    return Recipe(
        name=name,
        title=title,
        summary=summary,
        task_level="node",
        generate=generate,
        read=partial(read, class_names=class_names),
        model=reference.model,
        fit=reference.fit,
        measure=measure,
        instances=instances,
        others={"seed1": replace(reference, seed=1), **others},
    )
