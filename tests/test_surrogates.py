"""The surrogate recovers linear models, GraphLIME finds features, PGM-Explainer tests each node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from scipy.stats import chi2_contingency
from sklearn.linear_model import Lasso, Ridge
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import global_add_pool

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.algorithms._regression import lasso, ridge
from gnn_xai.algorithms.pgm_explainer import independence
from gnn_xai.errors import InputError
from tests.covering import every_value

VALUE = ModelConfig("regression", "graph", "raw")
GRAPHS = [testing.random_graph(seed, 6 + seed, 9, undirected=seed != 1) for seed in range(3)]


class Sum(nn.Module):
    """Sums of messages, linear in edges, nodes and features one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SimpleConv(aggr="sum")
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.head(global_add_pool(self.conv(x, edge_index), batch))


@every_value(players=["edges", "features"], regression=["ridge", "lasso"])
def test_a_linear_model_is_recovered(players: Any, regression: Any) -> None:
    model: Any = testing.seeded(Sum)()
    algorithm = gx.Surrogate(players=players, samples=80, penalty=0.0, regression=regression, removal="message")
    options: dict[str, Any] = {"task": VALUE, "progress": False}
    found: Any = gx.explain(model, GRAPHS, algorithm, **options)
    exact = gx.explain(model, GRAPHS, gx.Shapley(players=players, removal="message", samples=2), **options)
    for e, f in zip(found, exact, strict=True):
        one, other = (r.edge_mask if players == "edges" else r.node_mask for r in (e, f))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.extras["r2"], torch.ones(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.extras["intercept"], model.head.bias.detach().expand(3), rtol=0, atol=1e-4)


def test_regressions_equal_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    rows, wanted = generator.normal(size=(1, 40, 6)), generator.normal(size=(1, 40, 1))
    bound = Ridge(alpha=0.3, fit_intercept=False).fit(rows[0], wanted[0, :, 0]).coef_
    sparse = Lasso(alpha=0.2, fit_intercept=False, tol=1e-10).fit(rows[0], wanted[0, :, 0]).coef_
    one, other = torch.from_numpy(rows), torch.from_numpy(wanted)
    np.testing.assert_allclose(ridge(one, other, 0.3)[0, :, 0], bound, atol=1e-10)
    np.testing.assert_allclose(lasso(one.mT @ one, one.mT @ other, 0.2 * 40)[0, :, 0], sparse, atol=1e-8)
    assert 0 < int((sparse == 0).sum()) < 6


def test_p_values_are_those_of_scipy() -> None:
    tables = np.random.default_rng(0).integers(1, 30, (20, 2, 2))
    results: list[Any] = [chi2_contingency(table, correction=False) for table in tables]
    want = [result.pvalue for result in results]
    np.testing.assert_allclose(independence(torch.from_numpy(tables).permute(1, 2, 0).double()), want, atol=1e-10)
    assert independence(torch.tensor([[[5.0], [3.0]], [[0.0], [0.0]]])).tolist() == [1.0]


class Chosen(nn.Module):
    """The first feature of node 0 decides, whatever is around; all other nodes have no influence, but could have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SimpleConv(aggr="sum")

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        first = torch.zeros(int(batch.max()) + 1, dtype=torch.int64, device=x.device)
        first = first.scatter_reduce(0, batch, torch.arange(len(batch)), "amin", include_self=False)
        score = 4 * x[first, 0] - 2 + 0 * global_add_pool(self.conv(x, edge_index), batch)[:, 0]
        return torch.stack([score, -score], dim=1)


def test_p_values_of_nodes_without_influence_are_uniform() -> None:
    ring = torch.tensor([list(range(120)), [*range(1, 120), 0]])
    data = Data(x=torch.ones(120, 1), edge_index=torch.cat([ring, ring.flip(0)], 1))
    found: Any = gx.explain(Chosen(), [data], gx.PGMExplainer(samples=400), task="graph", seed=1, progress=False)
    p = found.extras["node_p_value"]
    assert float(p[0]) < 1e-6
    assert float(found[0].node_mask[0]) == pytest.approx(1.0)
    others = p[1:].sort().values
    steps = (torch.arange(119) + 0.5) / 119
    assert float((others - steps).abs().max()) < 1.63 / 119**0.5  # Kolmogorov's bound at 1 %
    assert float((found[0].node_mask[1:] > 0).float().mean()) < 0.12
    assert torch.equal(found[0].node_mask[:, 0] > 0, p <= 0.05)


def test_graph_lime_finds_the_features_that_outputs_depend_on() -> None:
    """It equals scikit-learn's lasso on the same kernels."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.SimpleConv(aggr="mean")

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            score = x[:, 1] * 3 + 0 * self.conv(x, edge_index)[:, 0]
            return torch.stack([score, -score], dim=1)

    generator = torch.Generator().manual_seed(0)
    graph: Any = Data(
        x=torch.randn(40, 5, generator=generator), edge_index=torch.stack([torch.arange(40), torch.zeros(40).long()])
    )
    e: Any = gx.explain(Model(), graph, gx.GraphLIME(), index=0, progress=False)[0]
    assert e.node_mask.flatten().argmax() == 1
    x = graph.x.double().numpy()
    out = np.stack([x[:, 1] * 3, -x[:, 1] * 3], 1)

    def kernel(points: Any) -> Any:
        points = points / points.std(0, ddof=1)
        square = ((points[:, None] - points[None]) ** 2).mean(-1)
        middle = np.eye(40) - 1 / 40
        centred = middle @ np.exp(-square / 2) @ middle
        return (centred / np.linalg.norm(centred)).ravel()

    columns = np.stack([kernel(x[:, [k]]) for k in range(5)], 1)
    want = Lasso(alpha=0.1 / 1600, fit_intercept=False, positive=True, tol=1e-12).fit(columns, kernel(out)).coef_
    np.testing.assert_allclose(e.node_mask.flatten(), want, atol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="an output for every node"):
        gx.explain(testing.seeded(Sum)(), GRAPHS, gx.GraphLIME(), task=VALUE, progress=False)
    with pytest.raises(InputError, match="players='fragments' alone"):
        gx.Surrogate(kind="rings")
    with pytest.raises(InputError, match="alpha"):
        gx.PGMExplainer(alpha=1.5)


@pytest.mark.parametrize("law", testing.LAWS)
def test_law_of_graph_lime(law: Any) -> None:
    method: Any = gx.GraphLIME()
    testing.LAWS[law](method, testing.CASES["gcn_undirected"])
