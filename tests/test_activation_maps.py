"""CAM and Grad-CAM equal what one writes down by hand, on one graph at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.data import HeteroData

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.errors import InputError
from tests.covering import pairwise


class Pooled(nn.Module):
    """Two layers, each with an activation that is a module, mean pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu, self.last = (
            pyg.GCNConv(4, 8),
            pyg.GINConv(nn.Linear(8, 6)),
            nn.ReLU(),
            nn.ReLU(),
        )
        self.head = nn.Linear(6, 3)

    def states(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.last(self.second(self.relu(self.first(x, edge_index)), edge_index))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.head(pyg.global_mean_pool(self.states(x, edge_index), batch))


GRAPHS = [testing.random_graph(seed, 6 + seed, 9, undirected=seed != 1) for seed in range(3)]
LAWS_OF: dict[str, Any] = {"grad_cam": gx.GradCAM(), "cam": gx.CAM(rectified=False)}


@pairwise(law=testing.LAWS, algorithm=LAWS_OF, case=["gcn_undirected", "gin_graphs"])
def test_law(law: testing.Law, algorithm: Any, case: str) -> None:
    law(algorithm, testing.CASES[case])


@pytest.mark.parametrize("rectified", [True, False])
def test_maps_of_graphs(rectified: bool) -> None:
    """Class weights times states; Grad-CAM is that over the number of nodes, for a linear objective."""
    model = testing.seeded(Pooled)()
    options: dict[str, Any] = {"target": 2, "task": "graph", "progress": False}
    cam = gx.explain(model, GRAPHS, gx.CAM("last", rectified), **options)
    grad = gx.explain(model, GRAPHS, gx.GradCAM("last", rectified, objective="raw"), **options)
    for graph, e, g in zip(GRAPHS, cam, grad, strict=True):
        want = (model.states(graph.x, graph.edge_index) @ model.head.weight[2]).detach()
        want = want.relu() if rectified else want
        torch.testing.assert_close(e.node_mask[:, 0], want, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(g.node_mask[:, 0] * graph.num_nodes, want, rtol=1e-5, atol=1e-6)
        if not rectified:
            output = model(graph.x, graph.edge_index, torch.zeros(graph.num_nodes, dtype=torch.int64))[0, 2]
            torch.testing.assert_close(want.mean(), (output - model.head.bias[2]).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "name"), [(None, "second"), ("second", "second"), ("first", "first"), ("relu", "relu")]
)
def test_gradients_of_a_chosen_layer(layer: str | None, name: str) -> None:
    """States and gradients by a hook of PyTorch's on the whole model, a graph at a time."""
    model = testing.seeded(Pooled)()
    explanations = gx.explain(model, GRAPHS, gx.GradCAM(layer, rectified=False), task="graph", progress=False)
    for graph, e in zip(GRAPHS, explanations, strict=True):
        kept: list[Tensor] = []
        handle = model.get_submodule(name).register_forward_hook(lambda *call, kept=kept: kept.append(call[2]))
        out = model(graph.x, graph.edge_index, torch.zeros(graph.num_nodes, dtype=torch.int64))[0]
        handle.remove()
        others = [out[c] for c in range(3) if c != e.target]
        (gradient,) = torch.autograd.grad(out[e.target] - torch.stack(others).logsumexp(0), kept[0])
        torch.testing.assert_close(e.node_mask[:, 0], (kept[0] @ gradient.mean(0)).detach(), rtol=1e-4, atol=1e-6)


def test_map_of_a_node() -> None:
    """Of the last layer, CAM is the logit of the class at each node around; also where a layer is called twice."""
    graph = testing.random_graph(1, 12, 26, undirected=False)
    shared = pyg.GCNConv(4, 4)
    model = testing.seeded(lambda: testing.Network([shared, shared]))()
    with torch.no_grad():
        once, twice = (
            model.convs[0](x, graph.edge_index) for x in (graph.x, model.convs[0](graph.x, graph.edge_index).relu())
        )
    for e in gx.explain(model, graph, gx.CAM(rectified=False), index=[4, 0, 9], progress=False):
        torch.testing.assert_close(e.node_mask[:, 0], twice[e.node_id, e.target])
    for name, states in (("convs.0", once), ("convs.0 #2", twice)):
        e = gx.explain(model, graph, gx.GradCAM(name, False, "raw"), index=4, target=1, progress=False)[0]
        leaf = states.clone().requires_grad_()
        out = model.convs[0](leaf.relu(), graph.edge_index) if name == "convs.0" else leaf
        (gradient,) = torch.autograd.grad(out[4, 1], leaf)
        want = states[e.node_id] @ gradient.sum(0) / len(e.node_id)
        torch.testing.assert_close(e.node_mask[:, 0], want, rtol=1e-4, atol=1e-6)


def of_type_a(model: nn.Module, data: HeteroData) -> Tensor:
    return model(data.x_dict, data.edge_index_dict)["a"]


def test_what_is_refused() -> None:
    model = testing.seeded(Pooled)()
    with pytest.raises(InputError, match="linear in what the last message-passing layer returns.*name the module"):
        gx.explain(model, GRAPHS, gx.CAM(), task="graph", progress=False)
    with pytest.raises(InputError, match="expected layer as one of 'first', 'second', got 'thrid'"):
        gx.explain(model, GRAPHS, gx.GradCAM("thrid"), task="graph", progress=False)
    data = HeteroData()
    data["a"].x, data["a", "to", "a"].edge_index = torch.randn(5, 4), torch.tensor([[0, 1, 2], [1, 2, 3]])
    data["b"].x, data["a", "to", "b"].edge_index = torch.randn(3, 4), torch.tensor([[0, 1, 2], [1, 2, 0]])
    typed = testing.seeded(lambda: pyg.HeteroConv({t: pyg.SAGEConv((4, 4), 2) for t in data.edge_types}))()
    with pytest.raises(InputError, match="layer that returns a row for each node, and the model has none"):
        gx.explain(typed, data, "grad_cam", node_type="a", forward=of_type_a, progress=False)
