"""Fidelity of every kind of mask, model and removal, against one forward pass for each instance."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.metrics.selection import allowed
from tests import models
from tests.references import Reference

# Fidelity ############################################################################################################

ALGORITHMS = {
    "edges": gx.EdgeAblation(),
    "edges and features": gx.InputXGradient(),
    "soft edges and common features": gx.GNNExplainer(epochs=4, lr=0.3, init_std=0.5),
    "soft edges and nodes": gx.GNNExplainer(epochs=4, lr=0.3, init_std=0.5, node_mask_type="object"),
    "nodes": gx.NodeAblation(),
    "common features": gx.FeatureAblation(),
}

pytestmark = pytest.mark.filterwarnings("ignore:the loss of:gnn_xai.errors.GnnXaiWarning")


def naive(model, data, found: gx.Explanations, level: str, steps: int, **options) -> list[tuple[float, float]]:
    """Fidelity+ and fidelity− of each explanation by its own forward passes on the full graph."""
    pairs = []
    for e in found:
        graph, root = (data, e.index) if level == "node" else (data[e.index], None)
        reference = Reference(model, graph, steps, root, target=e.target)
        node = edge = None
        if e.edge_mask is not None:
            edge = reference.ones() * 0
            edge[e.edge_id] = e.edge_mask
        if e.node_mask is not None:
            node = e.node_mask
            if found.node_mask_type != "common_attributes":
                node = e.node_mask.new_zeros(graph.num_nodes, e.node_mask.size(1))
                node[e.node_id] = e.node_mask
        pairs.append(reference.fidelity(node, edge, found.signed, **options))
    return pairs


def compare(found: gx.metrics.Fidelity, expected: list[tuple[float, float]]) -> None:
    plus, minus = zip(*expected, strict=True)
    assert found.plus.values.tolist() == pytest.approx(plus, abs=1e-9, nan_ok=True)
    assert found.minus.values.tolist() == pytest.approx(minus, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("what", list(ALGORITHMS))
@pytest.mark.parametrize("undirected", [True, False])
def test_fidelity(level: str, what: str, undirected: bool) -> None:
    model, data, _ = models.with_truth(level, undirected=undirected)
    found = gx.explain(model, data, ALGORITHMS[what], task=level, progress=False)
    for options in ({}, {"top": 3}, {"top": 0.25}, {"kind": "label", "top": 2}):
        compare(gx.metrics.fidelity(model, data, found, **options), naive(model, data, found, level, 2, **options))


@pytest.mark.parametrize("model_name", ["gat", "gine", "shared", "jumping", "sage"])
def test_fidelity_of_other_models(level: str, model_name: str) -> None:
    model, data, _ = models.with_truth(level, model_name)
    steps = models.ZOO[model_name].steps
    found = gx.explain(model, data, gx.EdgeAblation(), task=level, target=1, progress=False)
    for options in ({}, {"top": 3, "removal": "structural"}, {"kind": "label", "top": 0.5, "removal": "structural"}):
        compare(gx.metrics.fidelity(model, data, found, **options), naive(model, data, found, level, steps, **options))


def test_labels_that_the_model_does_not_say_are_not_defined(level: str) -> None:
    model, data, _ = models.with_truth(level)
    found = gx.explain(model, data, gx.EdgeAblation(), task=level, target=1, progress=False)
    result = gx.metrics.fidelity(model, data, found, kind="label").plus
    said = found.prediction.argmax(1) == 1
    assert torch.equal(result.values.isnan(), ~said)
    assert result.undefined == int((~said).sum())


def test_predictions_under_the_mask_ride_along(level: str) -> None:
    model, data, _ = models.with_truth(level)
    found = gx.explain(model, data, gx.InputXGradient(), task=level, progress=False)
    result = gx.metrics.fidelity(model, data, found)
    chosen = torch.arange(len(found)), found.target
    before = found.prediction.softmax(1)[chosen]
    torch.testing.assert_close(result.minus.values, before - found.prediction_masked.softmax(1)[chosen])
    torch.testing.assert_close(result.plus.values, before - found.prediction_complement.softmax(1)[chosen])


def test_fidelity_of_a_subset_is_a_subset(level: str) -> None:
    model, data, _ = models.with_truth(level)
    found = gx.explain(model, data, gx.EdgeAblation(), task=level, progress=False)
    whole = gx.metrics.fidelity(model, data, found, top=2)
    part = gx.metrics.fidelity(model, data, found[[3, 1]], top=2, batch_budget=1)
    torch.testing.assert_close(part.plus.values, whole.plus.values[[3, 1]])
    torch.testing.assert_close(part.minus.values, whole.minus.values[[3, 1]])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"kind": "odds"},
            "expected kind='probability', 'label', 'phenomenon_probability' or 'phenomenon_label', got 'odds'",
        ),
        ({"removal": "both"}, "expected removal='message' or 'structural', got 'both'"),
        ({"top": 0}, "expected top as a positive int"),
        ({"top": 1.5}, "expected top as a positive int"),
        ({"top": True}, "expected top as a positive int"),
        ({"removal": "structural"}, "needs top="),
    ],
)
def test_fidelity_refuses(options: dict[str, object], sentence: str) -> None:
    model, data, _ = models.with_truth("node")
    found = gx.explain(model, data, gx.EdgeAblation(), progress=False)
    with pytest.raises(InputError, match=sentence):
        gx.metrics.fidelity(model, data, found, **options)


def test_fidelity_refuses_explanations_of_other_data() -> None:
    model, data, _ = models.with_truth("node")
    found = gx.explain(model, data, gx.EdgeAblation(), progress=False)
    with pytest.raises(InputError, match="expected explanations of this data"):
        gx.metrics.fidelity(model, models.random_graph(nodes=5, edges=4), found)
    with pytest.raises(InputError, match="not the one that was explained"):
        gx.metrics.fidelity(model, models.random_graph(4), found)
    other = replace(found, edge_id=found.edge_id.flip(0))
    with pytest.raises(InputError, match="are not those of this model on this data"):
        gx.metrics.fidelity(model, data, other)


def test_fidelity_at_one_level_uses_that_mask_alone():
    ds = gx.datasets.load("karate")
    both = gx.explain(ds.model, ds.data, "random", task=ds.task, index=range(5), progress=False)
    edges = gx.explain(ds.model, ds.data, gx.Random(node_mask_type=None), task=ds.task, index=range(5), progress=False)
    nodes = gx.explain(ds.model, ds.data, gx.Random(edge_mask_type=None), task=ds.task, index=range(5), progress=False)
    for level, alone in (("edge", edges), ("node", nodes)):
        found = gx.metrics.fidelity(ds.model, ds.data, both, top=3, level=level)
        expected = gx.metrics.fidelity(ds.model, ds.data, alone, top=3)
        torch.testing.assert_close(found.plus.values, expected.plus.values)
        torch.testing.assert_close(found.minus.values, expected.minus.values)
    with pytest.raises(gx.errors.InputError, match="scored no nodes"):
        gx.metrics.fidelity(ds.model, ds.data, edges, level="node")


def test_a_fraction_of_the_elements_is_rounded_up_once():
    """0.07 · 100 is a little more than 7 in floating point, and is 7 all the same."""
    for top, count in ((0.07, 7), (0.075, 8), (1.0, 100), (1e-9, 1)):
        assert allowed(top, torch.tensor([100])).tolist() == [count]


def test_fidelity_refuses_another_model_than_was_explained():
    ds = gx.datasets.load("karate")
    found = gx.explain(ds.model, ds.data, "saliency", task=ds.task, index=[0, 5], progress=False)
    fresh = copy.deepcopy(ds.model)
    with torch.no_grad():
        next(fresh.parameters()).add_(1.0)
    with pytest.raises(InputError, match="not the one that was explained"):
        gx.metrics.fidelity(fresh, ds.data, found)
