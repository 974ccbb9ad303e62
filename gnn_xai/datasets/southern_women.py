"""The women of Natchez and the events they attended, as networkx has them (Davis, Gardner and Gardner, Deep South, 1941)."""

from __future__ import annotations

import networkx as nx
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from gnn_xai.datasets.models import HeteroSAGE
from gnn_xai.datasets.recipe import Material, Recipe, hetero_graph

ATTENDS, ATTENDED_BY = ("woman", "attends", "event"), ("event", "attended_by", "woman")
IN_BOTH = 8  # Ruth DeSand
CORE = (0, 1, 2, 3, 12, 13, 14)  # those whom the study calls core members of their group
CLASS_NAMES = ("first group", "second group")


def read(frozen: dict[str, Tensor]) -> Material:
    """Events say which one they are, women nothing: a woman is known by the events that she attended."""
    graph = nx.davis_southern_women_graph()
    women, events = graph.graph["top"], graph.graph["bottom"]
    pairs = [(women.index(woman), events.index(event)) for woman, event in graph.edges(women)]
    y = torch.tensor([0] * IN_BOTH + [-1] + [1] * (len(women) - IN_BOTH - 1))
    data = HeteroData()
    data["woman"].x, data["woman"].y = torch.ones(len(women), 1), y
    data["event"].x = torch.eye(len(events))
    data[ATTENDS].edge_index = torch.tensor(sorted(pairs)).t().contiguous()
    data[ATTENDED_BY].edge_index = data[ATTENDS].edge_index.flip(0)
    core = torch.tensor(CORE)
    others = [woman for woman in range(len(women)) if woman not in (*CORE, IN_BOTH)]
    return Material(
        data=data,
        ground_truth=None,
        split={"train": core, "test": torch.tensor(others)},
        class_names=CLASS_NAMES,
        feature_names={"woman": ["is a woman"], "event": events},
        node_names={"woman": women, "event": events},
    )


def model() -> nn.Module:
    """Two layers of GraphSAGE of width 16, with weights for each relation."""
    return HeteroSAGE({"woman": 1, "event": 14}, [ATTENDS, ATTENDED_BY], 16, len(CLASS_NAMES), 2, "woman")


def fit(model: nn.Module, material: Material) -> None:
    """Full batch, 100 steps of Adam on the seven core members."""
    data, train = hetero_graph(material), material.split["train"]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        logits = model(data.x_dict, data.edge_index_dict)
        nn.functional.cross_entropy(logits[train], data["woman"].y[train]).backward()
        optimizer.step()


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Share of women in the right group, per split."""
    data = hetero_graph(material)
    with torch.no_grad():
        right = (model(data.x_dict, data.edge_index_dict).argmax(dim=-1) == data["woman"].y).double()
    return {name: {"accuracy": right[ids].mean().item()} for name, ids in material.split.items()}


def instances(model: nn.Module, material: Material) -> Tensor:
    """Every woman."""
    return torch.arange(len(hetero_graph(material)["woman"].y))


RECIPE = Recipe(
    name="southern_women",
    title="Davis' Southern Women",
    summary="a heterogeneous social network: which circle does a woman belong to? 18 women, 14 events, no known truth",
    task_level="node",
    node_type="woman",
    generate=None,
    read=read,
    model=model,
    fit=fit,
    measure=measure,
    instances=instances,
)
