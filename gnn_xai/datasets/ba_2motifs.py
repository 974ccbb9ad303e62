"""BA-2motifs: a house or a five-node cycle on a Barabasi-Albert graph (Luo et al., PGExplainer, NeurIPS 2020)."""

from __future__ import annotations

from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from gnn_xai.datasets import planted
from gnn_xai.datasets.models import GIN, PooledGraphConvs
from gnn_xai.datasets.recipe import Material, Recipe, Training, split_ids
from gnn_xai.results.ground_truth import GroundTruth

GRAPHS, BASE_NODES, BASE_DEGREE, MOTIF_NODES = 1000, 20, 1, 5
CYCLE_EDGES = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 0))
CLASS_NAMES = ("house", "cycle")


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors.

    1 000 Barabasi-Albert graphs of 20 nodes (m = 1); on the first 500 a house, on the others a cycle of
    five nodes, tied by one edge to a base node drawn at random. The motif owns the nodes 20 to 24. No
    extra edges.

    Returns:
        ``edges`` int8 ``[2, sum]``, each edge once, u < v, the graphs one after the other; ``size`` int8
        ``[1000]`` edges in each; ``y`` int8 ``[1000]``; ``split`` int8 ``[1000]``: 0 train (80%), 1 val
        (10%), 2 test (10%).
    """
    # RandomState rather than a Generator: its streams are frozen for good by numpy.
    random = np.random.RandomState(seed)
    edges, size = [], []
    for number in range(GRAPHS):
        graph = nx.barabasi_albert_graph(BASE_NODES, BASE_DEGREE, seed=seed * GRAPHS + number)
        motif = planted.HOUSE.edges if number < GRAPHS // 2 else CYCLE_EDGES
        graph.add_edges_from((BASE_NODES + u, BASE_NODES + v) for u, v in motif)
        graph.add_edge(random.randint(BASE_NODES), BASE_NODES)
        edges += sorted((min(edge), max(edge)) for edge in graph.edges)
        size.append(graph.number_of_edges())
    split = np.zeros(GRAPHS)
    order = random.permutation(GRAPHS)
    split[order[8 * GRAPHS // 10 :]] = 1
    split[order[9 * GRAPHS // 10 :]] = 2
    return {
        "edges": torch.tensor(edges, dtype=torch.int8).t().contiguous(),
        "size": torch.tensor(size, dtype=torch.int8),
        "y": torch.arange(GRAPHS).ge(GRAPHS // 2).to(torch.int8),
        "split": torch.from_numpy(split).to(torch.int8),
    }


def read(frozen: dict[str, Tensor]) -> Material:
    """The frozen graphs with ten columns of ones; true are the edges and nodes of the one motif."""
    graphs = []
    for edges, y in zip(frozen["edges"].long().split(frozen["size"].tolist(), dim=1), frozen["y"].long(), strict=True):
        both = torch.cat([edges, edges.flip(0)], dim=1)
        order = (both[0] * (BASE_NODES + MOTIF_NODES) + both[1]).argsort()
        x = torch.ones(BASE_NODES + MOTIF_NODES, planted.FEATURES)
        graphs.append(Data(x=x, edge_index=both[:, order], y=y.reshape(1)))
    return Material(
        data=graphs,
        ground_truth=GroundTruth(
            # Both ends in the motif, as the tie has one of them on the base.
            edge=[(graph.edge_index >= BASE_NODES).all(dim=0).long() - 1 for graph in graphs],
            node=[(torch.arange(BASE_NODES + MOTIF_NODES) >= BASE_NODES).long() - 1 for _ in graphs],
        ),
        split=split_ids(frozen["split"]),
        class_names=CLASS_NAMES,
    )


def graphconv() -> nn.Module:
    """Three layers of width 20 that add up neighbours; maximum and mean over the nodes."""
    return PooledGraphConvs(planted.FEATURES, 20, len(CLASS_NAMES), num_layers=3)


def gin() -> nn.Module:
    """Three GIN layers of width 20 with BatchNorm, summed over the nodes."""
    return GIN(planted.FEATURES, 20, len(CLASS_NAMES), num_layers=3)


def part(material: Material, ids: Tensor) -> tuple[tuple[Any, ...], Tensor]:
    """Some of the graphs as one, as the arguments of a model, and their classes ``[len(ids)]``."""
    batch: Any = Batch.from_data_list([material.data[i] for i in ids.tolist()])
    return (batch.x, batch.edge_index, batch.batch), batch.y


def fit(model: nn.Module, material: Material, steps: int, rate: float, weight_decay: float) -> None:
    """As `planted.fit`, with all training graphs in every step."""
    graphs, y = part(material, material.split["train"])
    planted.descend(model, lambda: nn.functional.cross_entropy(model(*graphs), y), steps, rate, weight_decay)


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Share of graphs with the right class, per split and of all."""
    scores = {}
    for name, ids in (material.split | {"all": instances(model, material)}).items():
        graphs, y = part(material, ids)
        with torch.no_grad():
            right = model(*graphs).argmax(dim=-1) == y
        scores[name] = {"accuracy": right.double().mean().item()}
    return scores


def instances(model: nn.Module, material: Material) -> Tensor:
    """All graphs, so that every checkpoint is asked about the same."""
    return torch.arange(len(material.data))


FIT = partial(fit, steps=1500, rate=0.01, weight_decay=0.01)

RECIPE = Recipe(
    name="ba_2motifs",
    title="BA-2motifs",
    summary="house or cycle? one of them on each of 1 000 Barabasi-Albert graphs, truth known",
    task_level="graph",
    generate=generate,
    read=read,
    model=graphconv,
    fit=FIT,
    measure=measure,
    instances=instances,
    others={
        "seed1": Training(graphconv, FIT, seed=1),
        "gin": Training(gin, partial(fit, steps=200, rate=0.01, weight_decay=0.01)),
    },
)
