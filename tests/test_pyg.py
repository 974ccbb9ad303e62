"""Algorithms inside `torch_geometric.explain`: every setting that PyG's GNNExplainer takes, and what each means."""

from __future__ import annotations

import copy
import itertools
import logging
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain import CaptumExplainer, DummyExplainer, Explainer, Explanation, ModelConfig
from torch_geometric.explain import GNNExplainer as PyGGNNExplainer
from torch_geometric.explain.metric import characterization_score, fidelity, groundtruth_metrics, unfaithfulness
from torch_geometric.nn import GCNConv, GraphConv, GraphNorm, SAGEConv, global_add_pool

import gnn_xai as gx
from gnn_xai.core.joint import Joint
from gnn_xai.errors import InputError
from tests import models, references

FEATURES, CLASSES = 3, 4
RETURNS = {
    "regression": ("raw",),
    "binary_classification": ("raw", "probs"),
    "multiclass_classification": ("raw", "probs", "log_probs"),
}
MODES = [(mode, returned) for mode, returns in RETURNS.items() for returned in returns]
LEVELS = ("node", "edge", "graph")
MASKS = [
    (node, edge)
    for node in (None, "object", "attributes", "common_attributes")
    for edge in (None, "object")
    if node is not None or edge is not None
]
INDICES = (None, 2, torch.tensor([2, 0]))


class Net(nn.Module):
    """Two layers; rows of the output are nodes, pairs of nodes, or graphs."""

    def __init__(self, config: ModelConfig, width: int = 1, conv: Any = GCNConv) -> None:
        super().__init__()
        self.config = config
        self.first, self.second = conv(FEATURES, 8), conv(8, 8)
        self.head = nn.Linear(8, CLASSES if config.mode.value == "multiclass_classification" else width)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        edge_label_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        weight = () if edge_weight is None else (edge_weight,)
        x = self.first(x, edge_index, *weight).relu()
        x = self.second(x, edge_index, *weight).relu()
        if self.config.task_level.value == "graph":
            x = global_add_pool(x, batch)
        elif self.config.task_level.value == "edge":
            assert edge_label_index is not None
            x = x[edge_label_index[0]] * x[edge_label_index[1]]
        x = self.head(x)
        if self.config.return_type.value == "probs":
            return x.softmax(1) if self.config.mode.value == "multiclass_classification" else x.sigmoid()
        return x.log_softmax(1) if self.config.return_type.value == "log_probs" else x


def config_of(mode: str = "multiclass_classification", level: str = "node", returned: str = "raw") -> ModelConfig:
    return ModelConfig(mode, level, returned)


def net(config: ModelConfig, **options: Any) -> Net:
    return models.seeded(lambda: Net(config, **options), dtype=torch.float32)


def arguments() -> dict[str, Tensor]:
    """Three paths, with 3, 2 and 3 nodes, joined by nothing."""
    generator = torch.Generator().manual_seed(3)
    u, v = torch.tensor([0, 1, 3, 5, 6]), torch.tensor([1, 2, 4, 6, 7])
    return {
        "x": torch.randn(8, FEATURES, generator=generator),
        "edge_index": torch.stack([torch.cat([u, v]), torch.cat([v, u])]),
    }


def further(level: str) -> dict[str, Tensor]:
    """What else a model of this level is called with."""
    if level == "graph":
        return {"batch": torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])}
    return {"edge_label_index": torch.tensor([[0, 3, 5], [2, 4, 1]])} if level == "edge" else {}


def explainer_of(model: nn.Module, algorithm: Any, config: ModelConfig, **options: Any) -> Explainer:
    options = {"explanation_type": "model", "node_mask_type": None, "edge_mask_type": None, **options}
    wrapped = algorithm if isinstance(algorithm, nn.Module) else gx.pyg.algorithm(algorithm)
    return Explainer(model, wrapped, model_config=config, **options)


def target_of(kind: str, config: ModelConfig, rows: int, width: int = 1) -> Tensor | None:
    if kind == "model":
        return None
    if config.mode.value == "regression":
        return torch.linspace(-1, 1, rows * width).reshape(rows, width)
    count = CLASSES if config.mode.value == "multiclass_classification" else 2
    return torch.arange(rows) % count


def check(explanation: Explanation, node: str | None, edge: str | None, unit: bool = True) -> None:
    """The masks that were asked for and no others, of the right shapes."""
    shapes = {"object": (8, 1), "attributes": (8, FEATURES), "common_attributes": (1, FEATURES)}
    assert set(explanation.available_explanations) == {
        name for name, kind in (("node_mask", node), ("edge_mask", edge)) if kind is not None
    }
    assert explanation.validate_masks()
    if node is not None:
        assert explanation.node_mask.shape == shapes[node]
    if edge is not None:
        assert explanation.edge_mask.shape == (explanation.edge_index.size(1),)
    for name in explanation.available_explanations:
        mask = explanation[name]
        assert not mask.requires_grad
        assert bool(torch.isfinite(mask).all())
        assert bool((mask != 0).any())
        assert not unit or bool(((mask >= 0) & (mask <= 1)).all())


# The matrix ##########################################################################################################


@pytest.mark.parametrize(("node", "edge"), MASKS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("mode", "returned"), MODES)
@pytest.mark.parametrize("kind", ["model", "phenomenon"])
def test_gnn_explainer_in_every_setting(
    kind: str, mode: str, returned: str, level: str, node: str | None, edge: str | None
) -> None:
    config = config_of(mode, level, returned)
    model, given = net(config), arguments()
    explainer = explainer_of(
        model, gx.GNNExplainer(epochs=2), config, explanation_type=kind, node_mask_type=node, edge_mask_type=edge
    )
    target = target_of(kind, config, 8 if level == "node" else 3)
    before = copy.deepcopy(model.state_dict())
    for index in INDICES:
        explanation = explainer(**given, target=target, index=index, **further(level))
        check(explanation, node, edge)
        assert torch.equal(explanation.x, given["x"])
        assert ("prediction" in explanation) == (kind == "model")
        assert ("index" in explanation) == (index is not None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
