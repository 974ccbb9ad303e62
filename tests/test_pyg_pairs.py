"""Pairs of nodes inside PyG's `Explainer`: one is explained on its own computation graph, as by `gnn_xai.explain`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.explain import Explainer

import gnn_xai as gx
from tests import models
from tests.test_links_by_type import BACK, PAIRS, RATES, TASK, WROTE, explain, model_of, ratings
from tests.test_pyg import Net, arguments, by_autograd, config_of, explainer_of, further, net


@pytest.mark.parametrize("flat", [False, True], ids=["pairs", "one pair without its dimension"])
def test_a_pair_is_explained_as_by_explain(flat: bool) -> None:
    """On its own computation graph; removing a node keeps both nodes of the pair."""
    config = config_of("binary_classification", "edge")
    model, given, pairs = net(config), arguments(), further("edge")["edge_label_index"]
    data, handed, row = Data(**given), pairs[:, 1] if flat else pairs, 0 if flat else 1
    for algorithm in (gx.GNNExplainer(epochs=3), gx.NodeAblation(removal="structural")):
        learns = isinstance(algorithm, gx.GNNExplainer)
        masks: dict[str, Any] = {"node_mask_type": "object", "edge_mask_type": "object" if learns else None}
        got: Any = explainer_of(model, algorithm, config, **masks)(**given, index=row, edge_label_index=handed)
        if learns:
            algorithm = gx.GNNExplainer(epochs=3, node_mask_type="object")
        want: Any = gx.explain(model, data, algorithm, task=config, index=pairs[:, [1]], progress=False)[0]
        assert torch.equal(got.node_mask, torch.zeros(8, 1).index_copy(0, want.node_id, want.node_mask))
        if learns:
            assert torch.equal(got.edge_mask, torch.zeros(10).index_copy(0, want.edge_id, want.edge_mask))


class Ranked(Net):
    """A pair's score beside the mean over all pairs of the call."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        out = super().forward(*args, **kwargs)
        return out - out.mean(0)


def test_a_pair_that_others_matter_for_is_explained_with_them() -> None:
    config = config_of("regression", "edge")
    model, given = models.seeded(lambda: Ranked(config), dtype=torch.float32), arguments()
    explainer = explainer_of(model, gx.Saliency(), config, node_mask_type="attributes", edge_mask_type="object")
    found: Any = explainer(**given, index=1, **further("edge"))
    node, edge = by_autograd(
        model, given, explainer, 1, nodes=list(range(8)), edge_label_index=further("edge")["edge_label_index"]
    )
    assert torch.allclose(found.node_mask, node, atol=1e-6)
    assert torch.allclose(found.edge_mask, edge, atol=1e-6)
    assert bool(found.edge_mask.all())


@pytest.mark.parametrize("order", [[RATES, BACK, WROTE], [BACK, WROTE, RATES]], ids=["first", "last"])
@pytest.mark.parametrize(
    "algorithm", [gx.NodeAblation(removal="structural"), gx.Saliency(node_mask_type=None)], ids=str
)
def test_pygs_explainer_learns_of_which_types_a_pair_is(algorithm: Any, order: Any) -> None:
    """PyG is not told; under other types the pair is out of range, or not the one that the output belongs to."""
    model, data = model_of(), ratings()
    edges = {relation: data.edge_index_dict[relation] for relation in order}
    whole = algorithm.name == "node_ablation"
    masks: dict[str, Any] = {
        "node_mask_type": "object" if whole else None,
        "edge_mask_type": None if whole else "object",
    }
    explainer = Explainer(model, gx.pyg.algorithm(algorithm), explanation_type="model", model_config=TASK, **masks)
    for number, pair in enumerate(PAIRS):
        found: Any = explainer(data.x_dict, edges, index=number, edge_label_index=torch.tensor(PAIRS).t())
        e = explain(algorithm, model, index=pair)[0]
        want, got = (e.node_mask_dict, found.node_mask_dict) if whole else (e.edge_mask_dict, found.edge_mask_dict)
        for name, mask in want.items():
            torch.testing.assert_close(got[name], mask, rtol=0, atol=1e-9)
