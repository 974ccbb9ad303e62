"""Gradient methods equal Captum's, one target at a time on the full graph.

Captum sees raw outputs and scores directions apart, so this is `objective="raw"`, `undirected=False`. It is run twice:
by itself, over the masked forward pass of the references, in double precision; and through PyG's explainer, which makes
single-precision edge masks and misplaces them where the graph holds self loops, so there without loops.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import CaptumExplainer, Explainer, ModelConfig

import gnn_xai as gx
from gnn_xai import testing
from tests import models, references
from tests.covering import every_value

attr = pytest.importorskip("captum.attr", reason="Captum is not installed (it comes with the extra 'dev')")

# Captum says that it sets requires_grad on its inputs, each time.
pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning")

STEPS = 12
METHODS = {
    "Saliency": gx.Saliency(objective="raw"),
    "InputXGradient": gx.InputXGradient(objective="raw"),
    "IntegratedGradients": gx.IntegratedGradients(steps=STEPS, objective="raw"),
}
TOLERANCE = {"Saliency": 1e-9, "InputXGradient": 1e-9, "IntegratedGradients": 1e-7}  # Captum rounds steps to float32


def options(name: str) -> dict[str, object]:
    return {"n_steps": STEPS, "method": "gausslegendre"} if name == "IntegratedGradients" else {}


def by_itself(name: str, model: nn.Module, data: Data, row: int, target: int) -> tuple[Tensor, Tensor]:
    """Captum's attributions to node features `[N, F]` and edge masks `[E]`."""

    def forward(x: Tensor, mask: Tensor) -> Tensor:
        with references.masked(model, data, mask[0]):
            return references.run(model, data, x[0])[row].unsqueeze(0)

    inputs = (data.x.unsqueeze(0), torch.ones(1, data.num_edges, dtype=data.x.dtype))
    more = {"internal_batch_size": 1} if name == "IntegratedGradients" else {}
    node, edge = getattr(attr, name)(forward).attribute(inputs, target=target, **options(name), **more)
    return node[0].detach(), edge[0].detach()


def through_pyg(name: str, model: nn.Module, data: Data, row: int, target: int) -> tuple[Tensor, Tensor]:
    explainer = Explainer(
        model,
        CaptumExplainer(name, **options(name)),
        explanation_type="phenomenon",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config=ModelConfig("multiclass_classification", "node", "raw"),
    )
    targets = torch.full((data.num_nodes,), target)
    found = explainer(data.x, data.edge_index, target=targets, index=row)
    return found.node_mask.detach(), found.edge_mask.detach()


def compare(found: gx.Explanation, node: Tensor, edge: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found.node_mask, node[found.node_id], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.edge_mask, edge[found.edge_id], rtol=tolerance, atol=tolerance)
    # What is not in play has no influence.
    node, edge = node.clone(), edge.clone()
    node[found.node_id], edge[found.edge_id] = 0, 0
    assert float(node.abs().sum() + edge.abs().sum()) < tolerance


@every_value(undirected=[True, False], model_name=list(models.ZOO), name=list(METHODS))
def test_node_level(name: str, model_name: str, undirected: bool) -> None:
    model, data = models.make(model_name), models.random_graph(1, undirected=undirected)
    index, target = [4, 0, 9], [2, 0, 1]
    found = gx.explain(
        model, data, METHODS[name], task="node", index=index, target=target, undirected=False, progress=False
    )
    for i, explanation in enumerate(found):
        compare(explanation, *by_itself(name, model, data, index[i], target[i]), TOLERANCE[name])


@every_value(model_name=list(models.ZOO), name=list(METHODS))
def test_graph_level(name: str, model_name: str) -> None:
    model, graphs, target = models.make(model_name, "graph"), models.random_graphs(3, 1), [2, 0, 1]
    found = gx.explain(model, graphs, METHODS[name], target=target, undirected=False, progress=False)
    for i, explanation in enumerate(found):
        if graphs[i].num_edges:  # Captum's path needs something on it
            compare(explanation, *by_itself(name, model, graphs[i], 0, target[i]), TOLERANCE[name])


@every_value(model_name=["gcn", "sage", "gin", "gat", "appnp", "tag", "jumping"], name=list(METHODS))
def test_through_pyg(name: str, model_name: str) -> None:
    model = models.make(model_name, dtype=torch.float32)
    data = models.random_graph(1, loops=0, dtype=torch.float32)
    index, target = [4, 0, 9], [2, 0, 1]
    found = gx.explain(
        model, data, METHODS[name], task="node", index=index, target=target, undirected=False, progress=False
    )
    for i, explanation in enumerate(found):
        compare(explanation, *through_pyg(name, model, data, index[i], target[i]), 1e-5)


# Embedded codes ##########################################################################################################


class Coded(nn.Module):
    """A model of floats behind an encoder of codes: `[N, F]` to `[N, C]`, or `[b, N, F]` to logits `[b, C]` of one node."""

    def __init__(self, encoder: testing.Encoder, inner: nn.Module, row: int) -> None:
        super().__init__()
        self.encoder, self.inner, self.row = encoder, inner, row

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = torch.stack([embedding(x[..., i]) for i, embedding in enumerate(self.encoder.columns)]).sum(0)
        return (
            self.inner(h, edge_index) if h.dim() == 2 else torch.stack([self.inner(v, edge_index)[self.row] for v in h])
        )


@pytest.mark.filterwarnings("ignore:Multiple layers provided:UserWarning")
@pytest.mark.parametrize("conv", ["gcn", "sage", "gin", "gat"])
def test_embedded_codes(conv: str) -> None:
    """`LayerIntegratedGradients` on all embeddings at once, from code 0, which is embedded as zeros."""
    sizes, data, row, target = (6, 4, 2), models.random_graph(1), 4, 2
    encoder = models.seeded(lambda: testing.Encoder(sizes, models.FEATURES))
    with torch.no_grad():
        for embedding in encoder.columns:
            embedding.weight[0] = 0
    rng = torch.Generator().manual_seed(0)
    data.x = torch.stack([torch.randint(size, (data.num_nodes,), generator=rng) for size in sizes], dim=1)
    model = Coded(encoder, models.make(conv), row)
    theirs = attr.LayerIntegratedGradients(lambda x: model(x, data.edge_index), list(encoder.columns)).attribute(
        data.x.unsqueeze(0),
        torch.zeros_like(data.x).unsqueeze(0),
        target=target,
        internal_batch_size=1,
        **options("IntegratedGradients"),
    )
    expected = torch.stack([each[0].sum(-1) for each in theirs], dim=1)
    method = gx.IntegratedGradients(steps=STEPS, edge_mask_type=None, objective="raw")
    found = gx.explain(model, data, method, index=row, target=target, progress=False)[0]
    torch.testing.assert_close(found.node_mask, expected[found.node_id], rtol=1e-7, atol=1e-7)
    assert float(expected.abs().amax(0).min()) > 1e-5
