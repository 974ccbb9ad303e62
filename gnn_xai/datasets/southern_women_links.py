"""Which events a woman of Natchez attends, where some of the attendances that the study lists are kept aside."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from gnn_xai.datasets import southern_women
from gnn_xai.datasets.models import HeteroLinks
from gnn_xai.datasets.recipe import Material, Recipe, Training, area_under_roc, hetero_graph
from gnn_xai.datasets.southern_women import ATTENDED_BY, ATTENDS


def read(frozen: dict[str, Tensor]) -> Material:
    """Every woman with every event is a pair; one in five is for test, and those of them that were attended are no edges."""
    whole = southern_women.read(frozen)
    data = hetero_graph(whole)
    del data["woman"].y
    attended, events = data[ATTENDS].edge_index, data["event"].num_nodes
    pairs = torch.cartesian_prod(torch.arange(data["woman"].num_nodes), torch.arange(events)).t().contiguous()
    label = torch.zeros(pairs.size(1)).index_fill(0, attended[0] * events + attended[1], 1.0)
    order = torch.from_numpy(np.random.RandomState(0).permutation(pairs.size(1)))
    test, train = order[: len(order) // 5].sort().values, order[len(order) // 5 :].sort().values
    _keep(data, pairs[:, train[label[train] > 0]])
    data[ATTENDS].edge_label_index, data[ATTENDS].edge_label = pairs, label
    return Material(
        data=data,
        ground_truth=None,
        split={"train": train, "test": test},
        class_names=("stays away", "attends"),
        feature_names=whole.feature_names,
        node_names=whole.node_names,
    )


def _keep(data: HeteroData, attended: Tensor) -> None:
    data[ATTENDS].edge_index, data[ATTENDED_BY].edge_index = attended, attended.flip(0)


def model() -> nn.Module:
    """Two layers of width 16 that add up neighbours, with weights for each relation, and the dot product of a pair."""
    return HeteroLinks({"woman": 1, "event": 14}, [ATTENDS, ATTENDED_BY], 16, 16, 2, ATTENDS)


def fit(model: nn.Module, material: Material) -> None:
    """600 steps of Adam; at each, a random half of the training pairs are asked about, and are no edges."""
    data, train = hetero_graph(material).clone(), material.split["train"]
    pairs, label = data[ATTENDS].edge_label_index[:, train], data[ATTENDS].edge_label[train]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    for _ in range(600):
        asked = torch.rand(len(train)) < 0.5
        _keep(data, pairs[:, ~asked & (label > 0)])
        optimizer.zero_grad()
        logits = model(data.x_dict, data.edge_index_dict, pairs[:, asked])
        nn.functional.binary_cross_entropy_with_logits(logits, label[asked]).backward()
        optimizer.step()


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Area under the ROC curve and share of right predictions, per split; and the area of how often a woman is seen times
    how many attend an event, which knows nothing of who meets whom.
    """
    data = hetero_graph(material)
    pairs, label = data[ATTENDS].edge_label_index, data[ATTENDS].edge_label
    with torch.no_grad():
        logits = model(data.x_dict, data.edge_index_dict, pairs)
    ends = zip(data[ATTENDS].edge_index, pairs, strict=True)
    women, events = (torch.bincount(nodes, minlength=int(pairs.max()) + 1)[asked] for nodes, asked in ends)
    return {
        name: {
            "roc_auc": area_under_roc(logits[ids], label[ids]),
            "popularity_roc_auc": area_under_roc((women * events)[ids], label[ids]),
            "accuracy": ((logits[ids] > 0) == (label[ids] > 0)).double().mean().item(),
        }
        for name, ids in material.split.items()
    }


def instances(model: nn.Module, material: Material) -> Tensor:
    """The attendances of the test split, as positions among the pairs."""
    test = material.split["test"]
    return test[hetero_graph(material)[ATTENDS].edge_label[test] > 0]


RECIPE = Recipe(
    name="southern_women_links",
    title="Davis' Southern Women, links",
    summary="a heterogeneous social network: which event does a woman attend? 18 women, 14 events, no known truth",
    task_level="edge",
    mode="binary_classification",
    generate=None,
    read=read,
    model=model,
    fit=fit,
    measure=measure,
    instances=instances,
    others={"seed1": Training(model, fit, seed=1)},
)
