"""Zachary's karate club, as PyG ships it (Zachary, J. Anthropological Research 33, 1977)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.datasets import KarateClub

from gnn_xai.datasets.models import GCN
from gnn_xai.datasets.recipe import Material, Recipe, graph_and_labels, node_accuracy

MEMBERS, COMMUNITIES = 34, 4


def read(frozen: dict[str, Tensor]) -> Material:
    """PyG's graph: identity features, four modularity communities, one labelled member in each."""
    data = KarateClub()[0]
    assert isinstance(data, Data)
    # The two leaders by their pseudonyms in the study, everybody else by number.
    names = ["Mr. Hi", *map(str, range(1, MEMBERS - 1)), "John A."]
    return Material(
        data=data,
        ground_truth=None,
        split={
            "train": data.train_mask.nonzero().flatten(),
            "test": (~data.train_mask).nonzero().flatten(),
        },
        class_names=tuple(f"community {number}" for number in range(COMMUNITIES)),
        feature_names=tuple(f"is node {node}" for node in range(MEMBERS)),
        node_names=names,
    )


def model() -> nn.Module:
    """Two GCN layers of width 16, as in Kipf and Welling."""
    return GCN(MEMBERS, 16, COMMUNITIES, num_layers=2)


def fit(model: nn.Module, material: Material) -> None:
    """Full batch, 200 steps of Adam on the four labelled members."""
    (data, y), train = graph_and_labels(material), material.split["train"]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        logits = model(data.x, data.edge_index)
        nn.functional.cross_entropy(logits[train], y[train]).backward()
        optimizer.step()


def instances(model: nn.Module, material: Material) -> Tensor:
    """Every member."""
    return torch.arange(MEMBERS)


RECIPE = Recipe(
    name="karate",
    title="Zachary's karate club",
    summary="a real social network: who belongs to which community? 34 members, no known truth",
    task_level="node",
    generate=None,
    read=read,
    model=model,
    fit=fit,
    measure=node_accuracy,
    instances=instances,
)
