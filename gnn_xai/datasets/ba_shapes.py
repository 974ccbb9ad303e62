"""BA-Shapes: houses on a Barabasi-Albert graph (Ying et al., GNNExplainer, NeurIPS 2019)."""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnn_xai.datasets.models import GCN
from gnn_xai.datasets.recipe import Material, Recipe, graph_and_labels, node_accuracy, split_ids
from gnn_xai.ground_truth import GroundTruth

BASE_NODES, BASE_DEGREE, HOUSES, FEATURES = 300, 5, 80, 10
# Node 0 and 1 carry the roof (node 4), node 2 and 3 stand on the ground.
HOUSE_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 0), (4, 1))
HOUSE_CLASSES = (1, 1, 2, 2, 3)
CLASS_NAMES = ("base", "middle", "bottom", "top")


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors, from its recipe.

    A Barabasi-Albert graph of 300 nodes (m = 5); 80 five-node houses, each tied by one edge to its
    own base node drawn at random; 0.1 N = 70 extra edges between random nodes that were not yet
    neighbours. House ``h`` owns the nodes ``300 + 5 h ... 304 + 5 h``.

    Returns:
        ``edge_index`` ``[2, E]`` sorted, both directions; ``y`` ``[N]`` in 0..3; ``node_motif``
        ``[N]`` and ``edge_motif`` ``[E]``: the house that owns the element, -1 for none. Extra
        edges belong to no house, also if both their ends do. ``split`` ``[N]``: 0 train (80%),
        1 val (10%), 2 test (10%). N = 700.
    """
    # RandomState rather than a Generator: its streams are frozen for good by numpy.
    random = np.random.RandomState(seed)
    graph = nx.barabasi_albert_graph(BASE_NODES, BASE_DEGREE, seed=seed)
    owner: dict[tuple[int, int], int] = {}
    anchors = random.permutation(BASE_NODES)[:HOUSES]
    for house, anchor in enumerate(anchors.tolist()):
        first = BASE_NODES + len(HOUSE_CLASSES) * house
        for u, v in HOUSE_EDGES:
            graph.add_edge(first + u, first + v)
            owner[first + u, first + v] = owner[first + v, first + u] = house
        graph.add_edge(first, anchor)

    num_nodes = graph.number_of_nodes()
    target = graph.number_of_edges() + num_nodes // 10
    while graph.number_of_edges() < target:
        u, v = random.randint(0, num_nodes, size=2).tolist()
        if u != v and not graph.has_edge(u, v):
            graph.add_edge(u, v)

    edges = sorted(pair for u, v in graph.edges for pair in ((u, v), (v, u)))
    split = torch.zeros(num_nodes, dtype=torch.int64)
    order = torch.from_numpy(random.permutation(num_nodes))
    split[order[-2 * (num_nodes // 10) :]] = 1
    split[order[-(num_nodes // 10) :]] = 2
    house_of = torch.arange(HOUSES).repeat_interleave(len(HOUSE_CLASSES))
    return {
        "edge_index": torch.tensor(edges).t().contiguous(),
        "y": torch.cat([torch.zeros(BASE_NODES).long(), torch.tensor(HOUSE_CLASSES * HOUSES)]),
        "node_motif": torch.cat([torch.full((BASE_NODES,), -1), house_of]),
        "edge_motif": torch.tensor([owner.get(edge, -1) for edge in edges]),
        "split": split,
    }


def read(frozen: dict[str, Tensor]) -> Material:
    """The frozen graph with constant features of width 10: only structure tells the classes."""
    data = Data(x=torch.ones(len(frozen["y"]), FEATURES), edge_index=frozen["edge_index"], y=frozen["y"])
    return Material(
        data=data,
        ground_truth=GroundTruth(edge=frozen["edge_motif"], node=frozen["node_motif"]),
        split=split_ids(frozen["split"]),
        class_names=CLASS_NAMES,
    )


def model() -> nn.Module:
    """Three GCN layers of width 20, their outputs side by side into a linear layer."""
    return GCN(FEATURES, 20, len(CLASS_NAMES), num_layers=3, concat=True)


def fit(model: nn.Module, material: Material) -> None:
    """Full batch, 5 000 steps of AdamW under a one-cycle schedule.

    Departure from the paper (1 000 steps of Adam at 1e-3): with PyG's degree-normalised GCN and
    constant features that ends near 0.8.
    """
    (data, y), train = graph_and_labels(material), material.split["train"]
    steps, rate = 5000, 0.03
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model(data.x, data.edge_index)
        nn.functional.cross_entropy(logits[train], y[train]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        schedule.step()


def instances(model: nn.Module, material: Material) -> Tensor:
    """All 400 motif nodes, in order of their ids."""
    return (graph_and_labels(material)[1] > 0).nonzero().flatten()


RECIPE = Recipe(
    name="ba_shapes",
    title="BA-Shapes",
    summary="which corner of a house? 80 houses on a Barabasi-Albert graph; 700 nodes, truth known",
    task_level="node",
    generate=generate,
    read=read,
    model=model,
    fit=fit,
    measure=node_accuracy,
    instances=instances,
)
