"""A linear model, out = A² x Wᵀ + b, whose attributions are known in closed form: sums over walks of two edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gnn_xai as gx
from tests import models

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


class Walks:
    """All walks a→b→root of two edges, each with its contribution w₁ w₂ xₐ·W[target] to the output."""

    def __init__(self, data, model, root: int, target: int) -> None:
        self.data, self.root = data, root
        self.weight, self.bias = model.head.weight[target].detach(), float(model.head.bias[target].detach())
        ends = data.edge_index.t().tolist()
        self.walks = [
            (first, second)
            for second, (b, end) in enumerate(ends)
            for first, (_, middle) in enumerate(ends)
            if end == root and middle == b
        ]

    def factor(self, walk: tuple[int, int]) -> Tensor:
        return self.data.edge_weight[walk[0]] * self.data.edge_weight[walk[1]]

    def start(self, walk: tuple[int, int]) -> int:
        return int(self.data.edge_index[0, walk[0]])

    def features(self) -> Tensor:
        """∂ out / ∂ x `[N, F]`."""
        gradient = torch.zeros_like(self.data.x)
        for walk in self.walks:
            gradient[self.start(walk)] += self.factor(walk) * self.weight
        return gradient

    def contribution(self, walk: tuple[int, int]) -> Tensor:
        return self.factor(walk) * (self.data.x[self.start(walk)] @ self.weight)

    def edges(self, once: bool) -> Tensor:
        """Contributions of the walks through each edge `[E]`; a walk that takes it twice counts once or twice."""
        total = torch.zeros(self.data.num_edges, dtype=self.data.x.dtype)
        for walk in self.walks:
            for edge in set(walk) if once else walk:
                total[edge] += self.contribution(walk)
        return total


@pytest.fixture(params=[True, False], ids=["undirected", "directed"])
def asked(request: pytest.FixtureRequest):
    data, model = models.random_graph(2, undirected=request.param), models.linear()
    index = list(range(data.num_nodes))
    target = [i % models.CLASSES for i in index]
    truth = [Walks(data, model, i, t) for i, t in zip(index, target, strict=True)]

    def explain(algorithm) -> gx.Explanations:
        return gx.explain(model, data, algorithm, target=target, undirected=False, progress=False)

    return explain, truth


def test_saliency_is_the_matrix(asked) -> None:
    explain, truth = asked
    for found, walks in zip(explain(gx.Saliency(absolute=False, objective="raw")), truth, strict=True):
        torch.testing.assert_close(found.node_mask, walks.features()[found.node_id], **CLOSE)
        torch.testing.assert_close(found.edge_mask, walks.edges(once=False)[found.edge_id], **CLOSE)


def test_input_x_gradient_adds_up_to_the_score_less_the_bias(asked) -> None:
    explain, truth = asked
    for found, walks in zip(explain(gx.InputXGradient(edge_mask_type=None, objective="raw")), truth, strict=True):
        score = found.prediction[found.target] - walks.bias
        torch.testing.assert_close(found.node_mask.sum(), score, **CLOSE)
        torch.testing.assert_close(sum(map(walks.contribution, walks.walks), torch.zeros_like(score)), score, **CLOSE)
        torch.testing.assert_close(found.node_mask, (walks.features() * walks.data.x)[found.node_id], **CLOSE)


def test_integrated_gradients_of_a_linear_model_are_input_x_gradient(asked) -> None:
    explain, _ = asked
    found = explain(gx.IntegratedGradients(steps=1, edge_mask_type=None, objective="raw"))
    expected = explain(gx.InputXGradient(edge_mask_type=None, objective="raw"))
    torch.testing.assert_close(found.node_mask, expected.node_mask, **CLOSE)
    assert float(found.extras["completeness_error"].abs().max()) < 1e-10


def test_integrated_gradients_are_complete_over_features_and_edges(asked) -> None:
    # Along the path the output is a cubic; two Gauss points integrate its derivative exactly, one does not.
    explain, truth = asked
    exact = explain(gx.IntegratedGradients(steps=2, objective="raw"))
    rough = explain(gx.IntegratedGradients(steps=1, objective="raw"))
    assert float(exact.extras["completeness_error"].abs().max()) < 1e-10
    assert float(rough.extras["completeness_error"].abs().max()) > 1e-3
    for found, walks in zip(exact, truth, strict=True):
        # A third each to the features at the start of a walk and to its two edges.
        torch.testing.assert_close(found.edge_mask, walks.edges(once=False)[found.edge_id] / 3, **CLOSE)
        torch.testing.assert_close(found.node_mask, (walks.features() * walks.data.x)[found.node_id] / 3, **CLOSE)


@pytest.mark.parametrize("removal", ["message", "structural"])
def test_edge_ablation_is_the_contribution_of_the_walks_through_an_edge(asked, removal: str) -> None:
    explain, truth = asked
    for found, walks in zip(explain(gx.EdgeAblation(removal=removal, objective="raw")), truth, strict=True):
        torch.testing.assert_close(found.edge_mask, walks.edges(once=True)[found.edge_id], **CLOSE)


def test_feature_ablation_is_the_contribution_of_a_column(asked) -> None:
    explain, truth = asked
    for found, walks in zip(explain(gx.FeatureAblation(objective="raw")), truth, strict=True):
        torch.testing.assert_close(found.node_mask, (walks.features() * walks.data.x).sum(0), **CLOSE)


def test_the_margin_of_two_classes_is_their_difference() -> None:
    # With two classes the log-odds of one are the difference of two linear outputs, so attributions subtract.
    data, model = models.random_graph(4), models.linear()
    model.head = models.seeded(lambda: torch.nn.Linear(models.FEATURES, 2))
    margin, first, second = (
        gx.explain(model, data, gx.InputXGradient(objective=objective), target=target, progress=False)
        for objective, target in (("margin", 1), ("raw", 1), ("raw", 0))
    )
    torch.testing.assert_close(margin.edge_mask, first.edge_mask - second.edge_mask, **CLOSE)
    torch.testing.assert_close(margin.node_mask, first.node_mask - second.node_mask, **CLOSE)
