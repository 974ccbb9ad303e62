"""Edge-level tasks: pairs of nodes, connected or not, each as if alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GAE, GCNConv

import gnn_xai as gx
from gnn_xai.testing import cases

PAIRS = torch.tensor([[0, 5, 3, 7, 2], [4, 5, 8, 1, 13]])


class Encoding(nn.Module):
    """Two layers, and a dot product of the two nodes of a pair; `encode` and `decode`, as in PyG's examples."""

    def __init__(self, conv: Any = GCNConv, width: int = 4) -> None:
        super().__init__()
        self.first, self.second = conv(width, 8), conv(8, 8)

    def encode(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)

    def decode(self, z: Tensor, edge_label_index: Tensor) -> Tensor:
        return (z[edge_label_index[0]] * z[edge_label_index[1]]).sum(-1)


class Forward(Encoding):
    """The same in one call."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_label_index: Tensor) -> Tensor:
        return self.decode(self.encode(x, edge_index), edge_label_index)


def graph(undirected: bool = True) -> Data:
    return cases.random_graph(0, 14, 16, undirected=undirected, loops=0 if undirected else 2)


def seeded(model: type[nn.Module] = Forward, *arguments: Any) -> nn.Module:
    torch.manual_seed(7)
    return model(*arguments).eval()


def explain(model: nn.Module, data: Any, algorithm: Any = "saliency", **options: Any) -> gx.Explanations:
    options = {"task": "edge", "index": PAIRS, "progress": False, **options}
    return gx.explain(model, data, algorithm, **options)


def test_every_form_of_a_model_gives_the_same() -> None:
    data, model = graph(), seeded()
    expected = explain(model, data)
    assert expected.index.tolist() == PAIRS.t().tolist()
    assert expected[1].index == expected[1].roots[:1] * 2 == (5, 5)
    assert torch.allclose(expected.prediction[:, 0], model(data.x, data.edge_index, PAIRS), atol=1e-6)
    assert bool(expected.exact.all())
    for other, forward in (
        (seeded(Encoding), None),
        (model, lambda module, part: module(part.x, part.edge_index, part.edge_label_index)),
        (seeded(lambda: GAE(_Encoder())), None),
    ):
        task = "edge" if not isinstance(other, GAE) else ModelConfig("binary_classification", "edge", "probs")
        found = explain(other, data, forward=forward, task=task)
        assert torch.equal(found.edge_id, expected.edge_id)
        if isinstance(other, GAE):
            assert torch.allclose(found.prediction[:, 0], other.decode(other.encode(data.x, data.edge_index), PAIRS))
        else:
            assert torch.allclose(found.edge_mask, expected.edge_mask, atol=1e-6)


class _Encoder(Encoding):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.encode(x, edge_index)
