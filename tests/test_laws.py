"""Every law over every algorithm over every case; and that the laws can fail.

Each law was also seen to fail when the engines were broken on purpose: regularisers and soft masks reduced over the
batch, random numbers keyed by the position in it, verification skipped, one hop too few or too many in play, gather
indices shifted by one or taken by position, flags, caches, gradients, hooks or random states not given back, squared
masks, zero-gradient edges cut, the seed or the target dropped, the loss detached from the masks, no sigmoid.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.errors import InputError
from gnn_xai.extend import Scores, gradients, keyed_uniform, segment_ranks
from tests.covering import every_value, pairwise
from tests.ready import READY

# The laws hold for any number of steps, so few are taken.
FEW: dict[str, dict[str, Any]] = {
    "gnn_explainer": {"epochs": 6, "lr": 0.1},
    "integrated_gradients": {"steps": 6},
    "smooth_grad": {"samples": 3},
    "pg_explainer": {"epochs": 3, "lr": 0.01},
    "surrogate": {"samples": 8},
    "pgm_explainer": {"samples": 20, "alpha": 1.0, "threshold": 0.0},
    "shapley": {"exact_up_to": 2, "samples": 3},
    "counterfactual_search": {"width": 2, "size": 2},
    "cf_gnn_explainer": {"epochs": 6},
    "cf2": {"epochs": 6, "lr": 0.1},
    "fragment_shapley": {"exact_up_to": 2, "samples": 3},
    "subgraph_x": {"rollouts": 2, "samples": 3, "min_nodes": 3},
}


CLASSES: dict[str, Any] = dict(gx.algorithms.REGISTRY)
ANY_MODEL = [name for name, cls in CLASSES.items() if gx.algorithms.any_model(cls)]


@pairwise(law=testing.LAWS, name=ANY_MODEL, case=testing.CASES)
def test_law(law: testing.Law, name: str, case: testing.Case) -> None:
    algorithm = gx.algorithms.get(name, **FEW.get(name, {}))
    if case.types is not None and gx.algorithms.needs_fit(algorithm):
        with pytest.raises(InputError, match="use an algorithm that needs no hidden states"):
            case.ready(algorithm)  # layers run by relation
    else:
        law(algorithm, case)


@pairwise(law=testing.LAWS, layers=["mean", "max", "rollout"])
def test_law_of_attention(law: testing.Law, layers: Any) -> None:
    algorithm: Any = gx.Attention(layers=layers)
    law(algorithm, testing.CASES["gat_directed"])


SHAPLEY: dict[str, Any] = {
    "connected": gx.Shapley(coalitions="connected", exact_up_to=2, samples=2),
    "nodes": gx.Shapley(players="nodes", estimator="kernel", exact_up_to=2, samples=2),
    "features": gx.Shapley(players="features", estimator="kernel", exact_up_to=1, samples=2, removal="message"),
}


@every_value(law=testing.LAWS, algorithm=SHAPLEY, case=["gcn_undirected", "gat_directed"])
def test_law_of_shapley(law: testing.Law, algorithm: Any, case: str) -> None:
    law(algorithm, testing.CASES[case])


COLUMNS: dict[str, Any] = {
    "gnn_explainer": gx.GNNExplainer(epochs=6, lr=0.1, columns={"edge_attr": "object"}),
    "smooth_grad": gx.SmoothGrad(samples=3, columns="edge_attr"),
    "integrated_gradients": gx.IntegratedGradients(steps=6, columns="edge_attr", node_mask_type=None),
    "feature_ablation": gx.FeatureAblation(columns={"edge_attr": "common_attributes"}),
}


@pairwise(law=testing.LAWS, algorithm=COLUMNS)
def test_law_with_an_attribute_of_edges(law: testing.Law, algorithm: Any) -> None:
    law(algorithm, testing.CASES["gine_regression"])


# Scores mean what they say on every layer (law 5), beyond the layers of the cases ######################################

LAYERS: dict[str, Any] = {
    "GCNConv": lambda: pyg.GCNConv(4, 4),
    "SAGEConv": lambda: pyg.SAGEConv(4, 4),
    "SAGEConv_max": lambda: pyg.SAGEConv(4, 4, aggr="max"),
    "GINConv": lambda: pyg.GINConv(nn.Linear(4, 4)),
    "GATConv": lambda: pyg.GATConv(4, 4, heads=2, concat=False),
    "GATv2Conv": lambda: pyg.GATv2Conv(4, 4, edge_dim=3),
    "GINEConv": lambda: pyg.GINEConv(nn.Linear(4, 4), edge_dim=3),
    "TransformerConv": lambda: pyg.TransformerConv(4, 4, edge_dim=3, beta=True),
    "GraphConv": lambda: pyg.GraphConv(4, 4),
    "APPNP": lambda: pyg.APPNP(K=3, alpha=0.1),
    "TAGConv": lambda: pyg.TAGConv(4, 4, K=2),
    "ChebConv": lambda: pyg.ChebConv(4, 4, K=3),
    "SGConv": lambda: pyg.SGConv(4, 4, K=2),
    "LEConv": lambda: pyg.LEConv(4, 4),
    "ARMAConv": lambda: pyg.ARMAConv(4, 4),
    "AGNNConv": lambda: pyg.AGNNConv(),
    "CGConv": lambda: pyg.CGConv(4, dim=3),
    "ClusterGCNConv": lambda: pyg.ClusterGCNConv(4, 4),
    "EdgeConv": lambda: pyg.EdgeConv(nn.Linear(8, 4)),
    "FiLMConv": lambda: pyg.FiLMConv(4, 4),
    "GatedGraphConv": lambda: pyg.GatedGraphConv(4, 2),
    "GeneralConv": lambda: pyg.GeneralConv(4, 4, in_edge_channels=3),
    "GENConv": lambda: pyg.GENConv(4, 4, edge_dim=3),
    "MFConv": lambda: pyg.MFConv(4, 4),
    "NNConv": lambda: pyg.NNConv(4, 4, nn.Linear(3, 16)),
    "PNAConv": lambda: pyg.PNAConv(4, 4, ["mean", "max"], ["identity"], torch.tensor([1, 3, 5, 2])),
    "ResGatedGraphConv": lambda: pyg.ResGatedGraphConv(4, 4, edge_dim=3),
    "SSGConv": lambda: pyg.SSGConv(4, 4, alpha=0.1, K=2),
    "SuperGATConv": lambda: pyg.SuperGATConv(4, 4),
}
TAKE_EDGE_ATTR = {
    "GATv2Conv", "GINEConv", "TransformerConv", "CGConv", "GeneralConv", "GENConv", "NNConv", "ResGatedGraphConv"
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_masks_mean_what_they_say_on_layer(layer: str) -> None:
    graph = testing.random_graph(3, 9, 18, undirected=False, loops=3)  # loops lie among the other edges
    if layer in TAKE_EDGE_ATTR:
        graph.edge_attr = torch.randn(graph.num_edges, 3, generator=torch.Generator().manual_seed(0))
    model = testing.seeded(lambda: testing.Network([LAYERS[layer](), LAYERS[layer]()]))()
    testing.check_model(model, graph, forward=testing.call)


@pytest.mark.parametrize("layer", ["GCNConv", "GATConv", "SAGEConv"])
def test_the_two_removals_differ(layer: str) -> None:
    """A message times 0 still counts for degree, softmax and mean; an edge that is gone does not."""
    graph = testing.random_graph(3, 9, 18, undirected=False)
    model = testing.seeded(lambda: testing.Network([LAYERS[layer]()]))()
    scores: dict[str, Any] = {
        removal: gx.explain(model, graph, gx.EdgeAblation(removal=removal), progress=False).edge_mask
        for removal in ("message", "structural")
    }
    assert testing.distance(scores["message"], scores["structural"]) > 1e-3


class Watched:
    """An algorithm whose scores are looked at before they are made into explanations."""

    def __init__(self, algorithm: Any) -> None:
        self.algorithm = algorithm
        self.context: list[torch.Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.algorithm, name)

    def attribute(self, session: Any, graphs: Any, target: Any, prediction: Any) -> Scores:
        scores = self.algorithm.attribute(session, graphs, target, prediction)
        if scores.edge is not None:
            self.context.append(scores.edge[~graphs.edge_in_play])
        return scores


@pytest.mark.parametrize("name", READY)
def test_edges_that_only_degrees_need_score_zero(name: str) -> None:
    """A user's hook keeps the layers from being fused, so that their degrees need edges beyond those in play."""
    graph = testing.random_graph(2, 40, 50, undirected=True)
    model: Any = testing.seeded(lambda: testing.Network([pyg.GCNConv(4, 8), pyg.GCNConv(8, 3)]))()
    model.convs[0].register_message_forward_hook(lambda *_: None)
    watched = Watched(gx.algorithms.get(name, **FEW.get(name, {})))
    found = gx.explain(model, graph, watched, index=range(6), progress=False)
    assert (found.edge_mask is None) == (not watched.context)
    for context in watched.context:
        assert len(context)
        assert not bool(context.any())


# The laws fail where they should #######################################################################################


def user_algorithm(**traits: Any) -> Any:
    """The smallest algorithm a user might write: the length of each edge's difference of features."""

    @gx.algorithms.algorithm("feature_distance", "how different the two ends are", **{"signed": True, **traits})
    class FeatureDistance:
        power: float = 2.0

        def attribute(self, question: Any, graphs: Any, target: Any, prediction: Any) -> Scores:
            u, v = graphs.graphs.edge_index[:, graphs.edge]
            x = graphs.graphs.x
            return Scores(edge=(x[u] - x[v]).abs().pow(self.power).sum(1))

    return FeatureDistance


def test_a_user_checks_an_algorithm_without_registering_it() -> None:
    before = dict(gx.algorithms.REGISTRY)
    testing.check(user_algorithm(uses_model=False)(power=1.0), cases={"gat_directed": testing.CASES["gat_directed"]})
    assert before == gx.algorithms.REGISTRY


def test_an_algorithm_that_ignores_the_model_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"'sensitive_to_model' on gcn_undirected: re-initialised weights change"):
        testing.check(user_algorithm()(), laws={"sensitive_to_model": testing.LAWS["sensitive_to_model"]})


@pytest.mark.parametrize(
    ("attribute", "law"),
    [
        # keyed by the position in the batch
        (lambda s, q, g, t, p: Scores(edge=keyed_uniform(q.seed, torch.arange(len(g.edge)))), "instance_independence"),
        # scaled by all instances of the batch
        (lambda s, q, g, t, p: Scores(edge=torch.ones(len(g.edge)) / len(g)), "instance_independence"),
        # keyed by the position of an edge instead of its identity
        (lambda s, q, g, t, p: Scores(edge=g.edge.float() / g.graphs.num_edges), "right_edge"),
        # random numbers from the global state
        (lambda s, q, g, t, p: Scores(edge=torch.rand(len(g.edge))), "instance_independence"),
        # not in [0, 1]
        (lambda s, q, g, t, p: Scores(edge=2.0 * torch.ones(len(g.edge))), "says_what_it_means"),
        # 0 where the gradient is 0
        (lambda s, q, g, t, p: Scores(edge=(_gradients(q, g, t) != 0).float()), "reachability"),
        (lambda s, q, g, t, p: _trains(q, g), "model_untouched"),
    ],
)
def test_a_broken_algorithm_is_caught(attribute: Any, law: str) -> None:
    @gx.algorithms.algorithm("broken", "breaks a law", signed=False, uses_model=False, stochastic=False)
    class Broken:
        pass

    Broken.attribute = attribute  # type: ignore[attr-defined]
    laws, broken = {law: testing.LAWS[law]}, Broken()
    with pytest.raises(AssertionError, match=f"broken breaks the law '{law}'"):
        testing.check(cast("Any", broken), laws=laws)


def _gradients(question: Any, graphs: Any, target: Any) -> torch.Tensor:
    return cast("Tensor", gradients(question, graphs, target, features=False, edges=True, objective="margin")[1])


@gx.algorithms.algorithm("stronger_half", "the stronger half of the edges", signed=False)
class StrongerHalf:
    """A mask of 0 and 1, as many algorithms give."""

    def attribute(self, session: Any, graphs: Any, target: Any, prediction: Any) -> Scores:
        strength = _gradients(session, graphs, target).abs() + 1e-9 * graphs.edge
        strength = torch.where(graphs.edge_in_play, strength, -1.0)
        rank = segment_ranks(strength, graphs.edge_owner, len(graphs), descending=True)
        return Scores(edge=(rank < (graphs.num_edges[graphs.edge_owner] + 1) // 2).float() * graphs.edge_in_play)


def test_a_mask_of_0_and_1_keeps_the_laws() -> None:
    laws = {law: testing.LAWS[law] for law in ("reachability", "says_what_it_means")}
    testing.check(
        cast("Any", StrongerHalf()),
        laws=laws,
        cases={name: testing.CASES[name] for name in ("gcn_undirected", "gat_directed")},
    )


def _trains(question: Any, graphs: Any) -> Scores:
    for parameter in question.problem.model.parameters():
        parameter.data.add_(1e-3)
    return Scores(edge=torch.ones(len(graphs.edge)))
