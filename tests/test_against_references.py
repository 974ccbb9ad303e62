"""Batched results equal slow, plain, one-at-a-time versions, over a zoo of models at every level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig

import gnn_xai as gx
from gnn_xai.core.graphs.reading import as_graphs
from tests import models
from tests.covering import every_value, pairwise
from tests.references import Reference

TOLERANCE = 1e-9  # models and data are float64; the issue of the tests is the algorithm, not rounding

CASES = [f"{level}-{kind}" for level in ("node", "edge", "graph") for kind in ("undirected", "directed")]


@dataclass(eq=False)
class Case:
    """A model, its data, some instances, and a reference for each of them."""

    model: nn.Module
    data: Data | list[Data]
    task: str | ModelConfig
    index: list[Any]
    references: list[Reference]

    def explain(self, algorithm: object, **options: object) -> gx.Explanations:
        return gx.explain(self.model, self.data, algorithm, task=self.task, index=self.index, progress=False, **options)


def build(model_name: str, case: str, seed: int = 3, dtype: torch.dtype = torch.float64) -> Case:
    recipe = models.ZOO[model_name]
    task, kind = case.split("-")
    options = {"undirected": kind == "undirected", "dtype": dtype}
    if task == "node":
        model = models.make(model_name, task, dtype=dtype)
        data = models.random_graph(seed, **options)
        index = [7, 0, 11, 3]  # the last node, 11, is isolated
        references = [Reference(model, data, recipe.steps, i, seed=5, flow=recipe.flow) for i in index]
        return Case(model, data, task, index, references)
    if task == "edge":
        data, linked = models.random_graph(seed, **options), models.Linked(models.make(model_name, "node", dtype=dtype))
        pairs = [(7, 0), (5, 5), (11, 3), (2, 9)]
        keys = as_graphs(data, torch.device("cpu")).roots_key(torch.tensor(pairs)).tolist()
        options = {"seed": 5, "flow": recipe.flow}
        references = [
            Reference(linked, data, recipe.steps, p, key=k, **options) for p, k in zip(pairs, keys, strict=True)
        ]
        return Case(linked, data, ModelConfig("multiclass_classification", "edge", "raw"), pairs, references)
    graphs = models.random_graphs(4, seed, **options)
    model = models.make(model_name, task, dtype=dtype)
    index = [2, 0, 3, 1]
    keys = as_graphs(graphs, torch.device("cpu")).graph_key.tolist()
    references = [Reference(model, graphs[i], recipe.steps, None, key=keys[i], seed=5, flow=recipe.flow) for i in index]
    return Case(model, graphs, task, index, references)


@pytest.fixture(params=CASES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def check(
    explanations: gx.Explanations,
    references: list[Reference],
    scores: list[tuple[Tensor | None, Tensor | None]],
    tolerance: float = TOLERANCE,
) -> None:
    """Compare node and edge scores over the full graph with those of explanations, in play."""
    assert len(explanations) == len(references) == len(scores)
    for explanation, reference, (node, edge) in zip(explanations, references, scores, strict=True):
        assert explanation.node_id.tolist() == reference.nodes
        assert explanation.edge_id.tolist() == reference.edges
        assert explanation.edge_index.t().tolist() == [reference.ends[e] for e in reference.edges]
        assert explanation.target == reference.target
        torch.testing.assert_close(explanation.prediction, reference.logits, rtol=0, atol=tolerance)
        for found, expected in ((explanation.node_mask, node), (explanation.edge_mask, edge)):
            assert (found is None) == (expected is None)
        if edge is not None:
            torch.testing.assert_close(explanation.edge_mask, edge[reference.edges], rtol=tolerance, atol=tolerance)
        if node is not None:
            node = node if node.dim() == 1 and explanation.node_mask.dim() == 1 else node[reference.nodes]
            torch.testing.assert_close(
                explanation.node_mask, node.reshape(explanation.node_mask.shape), rtol=tolerance, atol=tolerance
            )


def gradient_methods(case: Case) -> None:
    for algorithm, method, options in (
        (gx.Saliency(), "saliency", {}),
        (gx.Saliency(absolute=False, objective="log_prob"), "saliency", {"absolute": False, "objective": "log_prob"}),
        (gx.InputXGradient(objective="prob"), "input_x_gradient", {"objective": "prob"}),
        (gx.IntegratedGradients(steps=5), "integrated_gradients", {"steps": 5}),
    ):
        check(case.explain(algorithm), case.references, [getattr(r, method)(**options) for r in case.references])


def smooth_grad(case: Case) -> None:
    for average in ("gradient", "square"):
        explanations = case.explain(gx.SmoothGrad(samples=3, noise=0.2, average=average), seed=5)
        check(explanations, case.references, [r.smooth_grad(3, 0.2, average=average) for r in case.references])


def edge_ablation(case: Case, removal: str) -> None:
    explanations = case.explain(gx.EdgeAblation(removal=removal))
    check(explanations, case.references, [(None, r.edge_ablation(removal)) for r in case.references])


def node_ablation(case: Case, removal: str) -> None:
    explanations = case.explain(gx.NodeAblation(removal=removal))
    check(explanations, case.references, [(r.node_ablation(removal), None) for r in case.references])


def feature_ablation(case: Case) -> None:
    explanations = case.explain(gx.FeatureAblation())
    check(explanations, case.references, [(r.feature_ablation(), None) for r in case.references])


def with_fragments(case: Case) -> Case:
    """The same case with data that says what its fragments are: four, and nodes in none."""
    for graph in [case.data] if isinstance(case.data, Data) else case.data:
        graph.fragment = torch.arange(graph.num_nodes) % 5 - 1
    return case


def fragment_ablation(case: Case, removal: str) -> None:
    explanations = with_fragments(case).explain(gx.FragmentAblation(removal=removal))
    check(explanations, case.references, [(r.fragment_ablation(removal), None) for r in case.references])


def check_shapley(case: Case, algorithm: gx.Shapley, samples: int | None) -> None:
    found = case.explain(algorithm, seed=5)
    expected = [r.fragment_shapley(algorithm.removal, samples) for r in case.references]
    check(found, case.references, [(value, None) for value, _, _ in expected])
    for e, reference, (_, error, empty) in zip(found, case.references, expected, strict=True):
        close = {"rtol": TOLERANCE, "atol": TOLERANCE}
        torch.testing.assert_close(e.extras["node_standard_error"], error[reference.nodes], **close)
        torch.testing.assert_close(e.extras["base_value"], empty, **close)


def fragment_shapley(case: Case, removal: str) -> None:
    check_shapley(with_fragments(case), gx.Shapley(players="fragments", removal=removal), None)


def gnn_explainer(case: Case, node_mask_type: str) -> None:
    algorithm = gx.GNNExplainer(epochs=5, lr=0.1, init_std=0.3, node_mask_type=node_mask_type)
    scores = [r.gnn_explainer(5, 0.1, node_mask_type, 0.3) for r in case.references]
    check(case.explain(algorithm, seed=5), case.references, scores)


METHODS = {
    "gradients": gradient_methods,
    "smooth_grad": smooth_grad,
    "feature_ablation": feature_ablation,
    **{
        f"{method.__name__}-{removal}": partial(method, removal=removal)
        for method in (edge_ablation, node_ablation, fragment_ablation, fragment_shapley)
        for removal in ("structural", "message")
    },
    **{
        f"gnn_explainer-{kind}": partial(gnn_explainer, node_mask_type=kind)
        for kind in ("common_attributes", "attributes", "object")
    },
}
# A one-node graph or a dead ReLU may leave nothing to learn from, which is said and, here, expected.
silence = pytest.mark.filterwarnings("ignore:the loss of:gnn_xai.errors.GnnXaiWarning")


@silence
@pairwise(method=METHODS, model_name=list(models.ZOO), kind=CASES)
def test_method(method: Callable[[Case], None], model_name: str, kind: str) -> None:
    method(build(model_name, kind))


@every_value(model_name=["gcn", "gat"], kind=CASES)
def test_fragment_shapley_from_samples(model_name: str, kind: str) -> None:
    case = build(model_name, kind)
    check_shapley(case, gx.Shapley(players="fragments", exact_up_to=1, samples=3), 3)


def test_random(kind: str) -> None:
    case = build("gcn", kind)
    check(case.explain(gx.Random(), seed=5), case.references, [r.random() for r in case.references])


@silence
@every_value(kind=CASES, masks=[("attributes", "object"), ("attributes", None), (None, "object")])
def test_gnn_explainer_with_other_settings(kind: str, masks: tuple[str | None, str | None]) -> None:
    node_mask_type, edge_mask_type = masks
    case = build("graph_conv", kind)
    algorithm = gx.GNNExplainer(
        epochs=5,
        lr=0.05,
        node_mask_type=node_mask_type,
        edge_mask_type=edge_mask_type,
        edge_size=0.1,
        edge_ent=0.2,
        node_feat_size=0.3,
        node_feat_ent=0.4,
        loss="margin",
        edge_init=0.5,
    )
    scores = [
        r.gnn_explainer(
            5,
            0.05,
            node_mask_type,
            loss="margin",
            edge_mask=edge_mask_type is not None,
            coefficients=(0.1, 0.2, 0.3, 0.4),
            edge_init=0.5,
        )
        for r in case.references
    ]
    check(case.explain(algorithm, seed=5), case.references, scores)


def test_restarts_are_the_mean_and_spread_of_single_runs(kind: str) -> None:
    case = build("gcn", kind)
    found = case.explain(gx.GNNExplainer(epochs=5, lr=0.1, init_std=0.3, restarts=3), seed=5)
    means, stds = [], []
    for reference in case.references:
        runs = [reference.gnn_explainer(5, 0.1, "common_attributes", 0.3, restart=k) for k in range(3)]
        node, edge = (torch.stack(values) for values in zip(*runs, strict=True))
        means.append((node.mean(0), edge.mean(0)))
        stds.append((edge - edge.mean(0)).square().sum(0).div(2).sqrt()[reference.edges])
    check(found, case.references, means)
    torch.testing.assert_close(found.extras["edge_std"], torch.cat(stds), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("model_name", ["gcn", "gat", "gine"])
def test_directions_are_scored_apart_where_asked(model_name: str) -> None:
    case = build(model_name, "node-undirected")
    references = [replace(r, undirected=False) for r in case.references]
    found = case.explain(gx.Saliency(), undirected=False)
    check(found, references, [r.saliency() for r in references])
    found = case.explain(gx.EdgeAblation(), undirected=False)
    check(found, references, [(None, r.edge_ablation("structural")) for r in references])
    found = case.explain(gx.GNNExplainer(epochs=5, lr=0.1), undirected=False, seed=5)
    check(found, references, [r.gnn_explainer(5, 0.1, "common_attributes") for r in references])


def test_named_targets(kind: str) -> None:
    case = build("gat", kind)
    targets = [2, 0, 1, 1]
    references = [replace(r, target=t) for r, t in zip(case.references, targets, strict=True)]
    found = case.explain(gx.Saliency(objective="prob"), target=targets)
    check(found, references, [r.saliency("prob") for r in references])
    found = case.explain(gx.EdgeAblation(objective="raw"), target=targets)
    check(found, references, [(None, r.edge_ablation("structural", "raw")) for r in references])


@silence
@every_value(kind=CASES, batch_budget=[1, 100])
def test_batches_of_any_size(kind: str, batch_budget: int) -> None:
    case = build("gatv2", kind)
    found = case.explain(gx.GNNExplainer(epochs=5, lr=0.1), seed=5, batch_budget=batch_budget)
    check(found, case.references, [r.gnn_explainer(5, 0.1, "common_attributes") for r in case.references])
    found = case.explain(gx.EdgeAblation(removal="message"), batch_budget=batch_budget)
    check(found, case.references, [(None, r.edge_ablation("message")) for r in case.references])


@silence
@every_value(model_name=["gcn", "gat", "gine", "jumping"], kind=CASES)
def test_single_precision(model_name: str, kind: str) -> None:
    case = build(model_name, kind, dtype=torch.float32)
    check(case.explain(gx.Saliency()), case.references, [r.saliency() for r in case.references], 1e-5)
    ablated = [(None, r.edge_ablation("structural")) for r in case.references]
    check(case.explain(gx.EdgeAblation()), case.references, ablated, 1e-5)
    learned = [r.gnn_explainer(5, 0.1, "common_attributes") for r in case.references]
    check(case.explain(gx.GNNExplainer(epochs=5, lr=0.1), seed=5), case.references, learned, 1e-5)


@every_value(model_name=["gcn", "shared", "appnp", "tag", "jumping"], undirected=[True, False], seed=range(4))
def test_degrees_at_the_border_matter_also_behind_dead_relus(model_name: str, undirected: bool, seed: int) -> None:
    # Where the border reaches dead units alone, the prediction does not tell that its degrees are missing.
    data, model = models.random_graph(seed, undirected=undirected), models.make(model_name, seed=seed)
    found = gx.explain(model, data, gx.EdgeAblation(removal="message"), task="node", progress=False)
    references = [Reference(model, data, models.ZOO[model_name].steps, i) for i in range(data.num_nodes)]
    check(found, references, [(None, r.edge_ablation("message")) for r in references])


@silence
def test_restarts_without_any_edge() -> None:
    data = models.random_graph(isolated=2)
    found = gx.explain(models.make("gcn"), data, gx.GNNExplainer(epochs=2, restarts=2), index=[10, 11], progress=False)
    assert found.extras["edge_std"].shape == (0,)
    assert bool(torch.isfinite(found.node_mask).all())
