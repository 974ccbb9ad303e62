"""Algorithms inside `torch_geometric.explain`: every setting that PyG's GNNExplainer takes, and what each means."""

from __future__ import annotations

import copy
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
from gnn_xai.core.graphs import expansion
from gnn_xai.errors import InputError
from tests import models, references
from tests.covering import every_value, pairwise

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


@pairwise(kind=["model", "phenomenon"], output=MODES, level=LEVELS, masks=MASKS, index=INDICES)
def test_gnn_explainer_in_every_setting(
    kind: str, output: tuple[str, str], level: str, masks: tuple[str | None, str | None], index: Any
) -> None:
    (mode, returned), (node, edge) = output, masks
    config = config_of(mode, level, returned)
    model, given = net(config), arguments()
    explainer = explainer_of(
        model, gx.GNNExplainer(epochs=2), config, explanation_type=kind, node_mask_type=node, edge_mask_type=edge
    )
    target = target_of(kind, config, 8 if level == "node" else 3)
    before = copy.deepcopy(model.state_dict())
    explanation = explainer(**given, target=target, index=index, **further(level))
    check(explanation, node, edge)
    assert torch.equal(explanation.x, given["x"])
    assert ("prediction" in explanation) == (kind == "model")
    assert ("index" in explanation) == (index is not None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


SCORES = [
    (gx.Saliency(), "attributes", "object"),
    (gx.Saliency(), None, "object"),
    (gx.InputXGradient(), "attributes", "object"),
    (gx.IntegratedGradients(steps=3), "attributes", "object"),
    (gx.SmoothGrad(samples=2), "attributes", None),
    (gx.EdgeAblation(), None, "object"),
    (gx.EdgeAblation(removal="message"), None, "object"),
    (gx.NodeAblation(), "object", None),
    (gx.NodeAblation(removal="message"), "object", None),
    (gx.FeatureAblation(), "common_attributes", None),
    (gx.FragmentAblation(kind="bonds"), None, "object"),
    (gx.Random(), "object", "object"),
    (gx.Random(), "object", None),
]


def named(value: Any) -> str | None:
    return type(value).__name__ if hasattr(value, "attribute") else None


@pairwise(scores=SCORES, level=LEVELS, mode=["regression", "multiclass_classification"], index=INDICES)
def test_other_algorithms(scores: tuple[Any, str | None, str | None], level: str, mode: str, index: Any) -> None:
    algorithm, node, edge = scores
    config = config_of(mode, level)
    explainer = explainer_of(net(config), algorithm, config, node_mask_type=node, edge_mask_type=edge)
    found = explainer(**arguments(), index=index, **further(level))
    check(found, node, edge, unit=isinstance(algorithm, gx.Random))


@pytest.mark.parametrize(
    ("algorithm", "node", "edge"),
    [
        (gx.Saliency(), "object", None),
        (gx.IntegratedGradients(), "common_attributes", "object"),
        (gx.Random(), "attributes", None),
        (gx.EdgeAblation(), "object", "object"),
        (gx.NodeAblation(), None, "object"),
        (gx.FeatureAblation(), "attributes", None),
        (gx.FragmentAblation(kind="rings"), "object", None),
    ],
    ids=named,
)
def test_what_an_algorithm_cannot_score_is_refused_at_once(
    algorithm: Any, node: str | None, edge: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of()
    with caplog.at_level(logging.ERROR, "gnn_xai"), pytest.raises(ValueError, match="does not support"):
        explainer_of(net(config), algorithm, config, node_mask_type=node, edge_mask_type=edge)
    assert caplog.messages


def test_captum_inside_pyg() -> None:
    attr = pytest.importorskip("captum.attr", reason="Captum is not installed (it comes with the extra 'research')")
    config = config_of()
    model, given = net(config), arguments()
    masks = {"node_mask_type": "attributes", "edge_mask_type": "object"}
    for index in INDICES:
        one, other = (
            explainer_of(model, algorithm, config, **masks)(**given, index=index)
            for algorithm in (gx.Captum(attr.InputXGradient), gx.InputXGradient())
        )
        assert torch.allclose(one.node_mask, other.node_mask, atol=1e-6)
        assert torch.allclose(one.edge_mask, other.edge_mask, atol=1e-6)


# One index ###########################################################################################################


def as_columns(explanation: Explanation, ours: Explanation) -> None:
    for name in ("edge_mask", "node_mask"):
        assert (name in explanation) == (name in ours)
        assert name not in ours or torch.equal(explanation[name], ours[name])


@every_value(
    scores=[*SCORES, (gx.GNNExplainer(epochs=4), "object", "object")],
    index=[4, torch.tensor(4), torch.tensor([4]), torch.arange(8) == 4, -4],
)
def test_one_node_is_what_explain_gives(scores: tuple[Any, str | None, str | None], index: Any) -> None:
    (algorithm, node, edge), config = scores, config_of()
    model, given = net(config), arguments()
    explainer = explainer_of(model, algorithm, config, node_mask_type=node, edge_mask_type=edge)
    fitted = copy.copy(algorithm)
    for name, kind in (("node_mask_type", node), ("edge_mask_type", edge)):
        if hasattr(fitted, name):
            object.__setattr__(fitted, name, kind)
    ours = gx.explain(model, Data(**given), fitted, index=4, task=config, progress=False)
    as_columns(explainer(**given, index=index), ours.to_pyg(0))


@pytest.mark.parametrize("algorithm", [gx.Saliency(), gx.GNNExplainer(epochs=4)], ids=named)
def test_one_graph_of_a_batch_is_what_explain_gives(algorithm: Any) -> None:
    config = config_of(level="graph")
    model = net(config)
    graphs = models.random_graphs(4, dtype=torch.float32)
    graphs = [Data(x=graph.x[:, :FEATURES], edge_index=graph.edge_index) for graph in graphs]
    graphs[2].edge_index = torch.tensor([[0], [0]])  # else it has nothing to mask
    whole = Batch.from_data_list(graphs)
    explainer = explainer_of(model, algorithm, config, node_mask_type="attributes", edge_mask_type="object")
    fitted = type(algorithm)(**{**vars(algorithm), "node_mask_type": "attributes"})
    ours = gx.explain(model, graphs, fitted, task=config, progress=False)
    order = torch.randperm(whole.num_nodes, generator=torch.Generator().manual_seed(0))
    place = torch.argsort(order)
    for i, graph in enumerate(graphs):
        found = explainer(whole.x, whole.edge_index, index=i, batch=whole.batch)
        nodes, edges = whole.batch == i, whole.batch[whole.edge_index[0]] == i
        assert torch.allclose(found.node_mask[nodes], ours.to_pyg(i).node_mask, atol=1e-5)
        assert torch.allclose(found.edge_mask[edges], ours.to_pyg(i).edge_mask, atol=1e-5)
        assert not bool(found.node_mask[~nodes].any())
        assert not bool(found.edge_mask[~edges].any())
        assert graph.num_nodes == int(nodes.sum())
        if isinstance(algorithm, gx.Saliency):  # nodes need not be sorted by graph
            turned = explainer(whole.x[order], place[whole.edge_index], index=i, batch=whole.batch[order])
            assert torch.allclose(turned.node_mask[place], found.node_mask, atol=1e-6)
            assert torch.allclose(turned.edge_mask, found.edge_mask, atol=1e-6)


class Named(nn.Module):
    """Pools by arguments of other names and kinds, one of them a row for each graph."""

    def __init__(self, inner: Net) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int, size: Tensor, what: str) -> Tensor:
        assert what == "as it is"
        assert int(batch.max()) < batch_size == len(size)
        return self.inner(x, edge_index, batch) * size


def test_arguments_follow_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("gnn_xai.pyg._calls.Call.jointly")  # the graph is explained alone
    config = config_of(level="graph")
    model, given = Named(net(config)), arguments()
    explainer = explainer_of(model, gx.Saliency(), config, edge_mask_type="object")
    more = {"batch": further("graph")["batch"], "batch_size": 3, "size": torch.tensor([[1.0], [2.0], [3.0]])}
    found = explainer(**given, index=1, **more, what="as it is")
    data = Data(x=given["x"][3:5], edge_index=torch.tensor([[0, 1], [1, 0]]))
    ours = gx.explain(
        model,
        [data],
        gx.Saliency(node_mask_type=None),
        forward=lambda model, data: model.inner(data.x, data.edge_index, data.batch) * 2,
        progress=False,
    )
    assert torch.equal(found.edge_mask[[2, 7]], ours.to_pyg(0).edge_mask)
    assert int((found.edge_mask != 0).sum()) == 2


def test_a_node_level_model_may_take_a_batch() -> None:
    config, given, more = config_of(), arguments(), further("graph")
    model = net(config)
    explainer = explainer_of(model, gx.Saliency(), config, edge_mask_type="object")
    for index in INDICES:
        _, edge = by_autograd(model, given, explainer, index)
        assert torch.allclose(explainer(**given, **more, index=index).edge_mask, edge, atol=1e-6)


def test_edge_weights_follow_their_edges() -> None:
    config = config_of()
    model, given = net(config, conv=GraphConv), arguments()
    weight = torch.rand(10, generator=torch.Generator().manual_seed(0))
    explainer = explainer_of(model, gx.Saliency(), config, edge_mask_type="object", node_mask_type="attributes")
    for index in INDICES:
        found = explainer(**given, index=index, edge_weight=weight)
        assert torch.equal(found.edge_weight, weight)
        node, edge = by_autograd(model, given, explainer, index, edge_weight=weight)
        assert torch.allclose(found.node_mask, node, atol=1e-6)
        assert torch.allclose(found.edge_mask, edge, atol=1e-6)


class Lookup(nn.Module):
    """Holds an embedding for every node, so it runs on the whole graph alone."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.conv = nn.Embedding(8, FEATURES), GCNConv(FEATURES, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x * self.own.weight, edge_index)


def test_a_model_of_the_whole_graph_alone() -> None:
    model, config, given = models.seeded(Lookup, dtype=torch.float32), config_of(), arguments()
    explainer = explainer_of(model, gx.Saliency(), config, node_mask_type="attributes", edge_mask_type="object")
    found = explainer(**given, index=4)
    node, edge = by_autograd(model, given, explainer, 4, steps=1)
    assert torch.allclose(found.node_mask, node, atol=1e-6)
    assert torch.allclose(found.edge_mask, edge, atol=1e-6)
    assert bool(edge.any())


# Several together ####################################################################################################


def by_autograd(
    model: nn.Module,
    given: dict[str, Tensor],
    explainer: Explainer,
    index: Any,
    undirected: bool = True,
    nodes: list[int] | None = None,
    steps: int = 2,
    **more: Any,
) -> tuple[Tensor, Tensor]:
    """|∂ mean margin of the rows / ∂ (x, edge mask)| on the whole graph; both directions of an edge together, where both can
    carry a message to the nodes that are read.
    """
    x, mask = given["x"].clone().requires_grad_(), torch.ones(given["edge_index"].size(1), requires_grad=True)
    data = Data(x=x, edge_index=given["edge_index"])
    with references.masked(model, data, mask):
        out = model(x, given["edge_index"], **more)
    target = explainer.get_target(out)
    rows = torch.arange(len(out)) if index is None else torch.as_tensor(index).reshape(-1)
    if explainer.model_config.mode.value == "regression":
        scores = [out[row].mean() for row in rows]
    elif explainer.model_config.mode.value == "binary_classification":
        sign = 2 * target.reshape(len(out), -1) - 1
        scores = [(sign[row] * out[row]).mean() for row in rows]
    else:
        scores = [references.score(out[row], int(target[row])) for row in rows]
    level = explainer.model_config.task_level.value
    if nodes is None:
        nodes = rows.tolist()
        if level == "graph":
            nodes = [i for i, graph in enumerate(more["batch"].tolist()) if graph in nodes]
        elif level == "edge":
            nodes = more["edge_label_index"][:, rows].flatten().tolist()
    in_play = reached(given, nodes, steps)
    node, edge = torch.autograd.grad(torch.stack(scores).mean(), (x, mask), allow_unused=True)
    if undirected:
        ends = given["edge_index"].t().tolist()
        turned = [ends.index([v, u]) for u, v in ends]
        both = [i != j and {i, j} <= in_play for i, j in enumerate(turned)]
        edge = torch.stack(
            [edge[i] + (edge[j] if two else 0) for i, (j, two) in enumerate(zip(turned, both, strict=True))]
        )
    return node.abs(), edge.abs()


def reached(given: dict[str, Tensor], nodes: list[int], steps: int) -> set[int]:
    """The edges that can carry a message to some nodes."""
    near, found = set(nodes), set()
    for _ in range(steps):
        into = [(i, u) for i, (u, v) in enumerate(given["edge_index"].t().tolist()) if v in near]
        found |= {i for i, _ in into}
        near |= {u for _, u in into}
    return found


@pairwise(width=[1, 2], undirected=["auto", False], mode=list(RETURNS), level=LEVELS)
def test_joint_saliency_is_the_gradient_of_the_mean(level: str, mode: str, undirected: Any, width: int) -> None:
    config = config_of(mode, level)
    model, given = net(config, width=width), arguments()
    algorithm = gx.pyg.algorithm(gx.Saliency(), undirected=undirected)
    explainer = explainer_of(model, algorithm, config, node_mask_type="attributes", edge_mask_type="object")
    for index in (None, torch.tensor([2, 0]), torch.tensor([1, 1, 2])):
        found = explainer(**given, index=index, **further(level))
        node, edge = by_autograd(model, given, explainer, index, undirected == "auto", **further(level))
        assert torch.allclose(found.node_mask, node, atol=1e-6)
        assert torch.allclose(found.edge_mask, edge, atol=1e-6)


@pairwise(
    index={"one": torch.tensor([2]), "two": torch.tensor([2, 0])},
    width=[1, 2],
    kind=["model", "phenomenon"],
    mode=list(RETURNS),
)
def test_joint_masks_minimise_the_mean_loss(mode: str, kind: str, width: int, index: Tensor) -> None:
    """Against a plain loop of Adam over PyG's loss, from masks of 1/2."""
    config = config_of(mode)
    model, given = net(config, width=width), arguments()
    epochs, size, entropy = 15, 0.05, 0.5
    algorithm = gx.GNNExplainer(epochs=epochs, lr=0.1, edge_size=size, edge_ent=entropy, init_std=1e-9)
    explainer = explainer_of(
        model, gx.pyg.algorithm(algorithm, undirected=False), config, explanation_type=kind, edge_mask_type="object"
    )
    target = target_of(kind, config, 8, width if mode == "regression" else 1)
    if mode == "binary_classification" and target is not None:
        target = (torch.arange(8 * width) % 3 == 0).long()
    found = explainer(**given, target=target, index=index)

    aim = explainer.get_target(model(**given).detach()) if target is None else target
    in_play = torch.tensor(sorted(reached(given, index.tolist(), 2)))
    theta = torch.zeros(10, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=0.1)
    for _ in range(epochs):
        mask = theta.sigmoid()
        with references.masked(model, Data(**given), mask):
            out = model(**given)[index]
        if mode == "regression":
            loss = (out - aim.reshape(8, -1)[index]).square().mean()
        elif mode == "binary_classification":
            loss = nn.functional.binary_cross_entropy_with_logits(out, aim.reshape(8, -1)[index].float())
        else:
            loss = nn.functional.cross_entropy(out, aim[index])
        m = mask[in_play]
        loss = loss + size * m.sum() + entropy * -(m * m.log() + (1 - m) * (1 - m).log()).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert torch.allclose(found.edge_mask[in_play], theta.sigmoid()[in_play].detach(), atol=1e-4)
    assert int((found.edge_mask != 0).sum()) == len(in_play)
    assert float((found.edge_mask[in_play] - 0.5).abs().max()) > 0.05


def mean_margin(model: nn.Module, given: dict[str, Tensor], index: Tensor, mask: Tensor | None = None) -> float:
    with torch.no_grad():
        said = model(**arguments()).argmax(1)
        data = Data(**given)
        if mask is None:
            out = model(**given)
        else:
            with references.masked(model, data, mask):
                out = model(**given)
        return float(torch.stack([references.score(out[row], int(said[row])) for row in index.tolist()]).mean())


@pytest.mark.parametrize("removal", ["message", "structural"])
def test_joint_ablation_is_the_drop_of_the_mean(removal: Any) -> None:
    config, index = config_of(), torch.tensor([2, 0, 4])
    model, given = net(config), arguments()
    edge_index, ends = given["edge_index"], given["edge_index"].t()
    whole = mean_margin(model, given, index)

    wrapped = gx.pyg.algorithm(gx.EdgeAblation(removal=removal), undirected=False)
    found = explainer_of(model, wrapped, config, edge_mask_type="object")(**given, index=index).edge_mask
    for edge in range(10):
        kept = torch.arange(10) != edge
        if removal == "message":
            left = mean_margin(model, given, index, kept.float())
        else:
            left = mean_margin(model, {**given, "edge_index": edge_index[:, kept]}, index)
        assert float(found[edge]) == pytest.approx(whole - left, abs=1e-5)

    explainer = explainer_of(model, gx.NodeAblation(removal=removal), config, node_mask_type="object")
    found = explainer(**given, index=index).node_mask
    for node in range(8):
        silent = {**given, "x": given["x"].clone()}
        silent["x"][node] = 0
        kept = (ends != node).all(1)
        if removal == "message":
            left = mean_margin(model, silent, index, kept.float())
        else:
            left = mean_margin(model, {**silent, "edge_index": edge_index[:, kept]}, index)
        assert float(found[node, 0]) == pytest.approx(whole - left, abs=1e-5)


def test_graphs_are_in_play_that_are_explained() -> None:
    config = config_of(level="graph")
    explainer = explainer_of(net(config), gx.GNNExplainer(epochs=2), config, edge_mask_type="object")
    found = explainer(**arguments(), index=torch.tensor([2, 0]), **further("graph"))
    assert (found.edge_mask == 0).nonzero().flatten().tolist() == [2, 7]  # the edges of graph 1


class Compared(nn.Module):
    """Says how graphs differ from the mean of their batch, so that each matters for every other."""

    def __init__(self, inner: Net) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        out = self.inner(x, edge_index, batch)
        return out - out.mean(0)


def test_one_graph_among_others_that_matter() -> None:
    config = config_of(level="graph")
    model, given, more = Compared(net(config)), arguments(), further("graph")
    explainer = explainer_of(model, gx.Saliency(), config, node_mask_type="attributes", edge_mask_type="object")
    found = explainer(**given, index=1, **more)
    node, edge = by_autograd(model, given, explainer, 1, nodes=list(range(8)), **more)
    assert torch.allclose(found.node_mask, node, atol=1e-6)
    assert torch.allclose(found.edge_mask, edge, atol=1e-6)
    assert bool((found.edge_mask != 0).all())


def test_pairs_of_nodes_read_their_ends_alone() -> None:
    config = config_of(level="edge")
    model, given = net(config), arguments()
    explainer = explainer_of(model, gx.GNNExplainer(epochs=2), config, edge_mask_type="object", node_mask_type="object")
    found = explainer(**given, index=0, **further("edge"))  # nodes 0 and 2
    assert found.edge_mask.nonzero().flatten().tolist() == [0, 1, 5, 6]
    assert found.node_mask.flatten().nonzero().flatten().tolist() == [0, 1, 2]


class Normalised(nn.Module):
    """A normalisation over all nodes: every node matters for every other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = SAGEConv(FEATURES, CLASSES), GraphNorm(CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.norm(self.conv(x, edge_index))


def test_what_is_out_of_reach_of_the_layers_is_in_play_where_it_matters() -> None:
    model, config, given = models.seeded(Normalised, dtype=torch.float32), config_of(), arguments()
    explainer = explainer_of(model, gx.Saliency(), config, node_mask_type="attributes", edge_mask_type="object")
    found = explainer(**given, index=torch.tensor([3, 4]))
    node, edge = by_autograd(model, given, explainer, torch.tensor([3, 4]), nodes=list(range(8)))
    assert torch.allclose(found.node_mask, node, atol=1e-6)
    assert torch.allclose(found.edge_mask, edge, atol=1e-6)
    assert bool((found.edge_mask != 0).all())


# The model ###########################################################################################################


def test_a_cached_model_keeps_its_cache_and_self_loops_keep_their_places() -> None:
    config, given = config_of(), arguments()
    loops = torch.tensor([[4, 0], [4, 0]])
    given["edge_index"] = torch.cat([given["edge_index"][:, :4], loops, given["edge_index"][:, 4:]], 1)
    plain, cached = (
        net(config, conv=lambda a, b, cached=cached: GCNConv(a, b, cached=cached)) for cached in (False, True)
    )
    cached.train()
    cached(**given)
    kept = cached.first._cached_edge_index
    for index in INDICES:
        for algorithm in (gx.Saliency(), gx.EdgeAblation()):
            masks = [
                explainer_of(m, algorithm, config, edge_mask_type="object")(**given, index=index)
                for m in (plain, cached)
            ]
            assert torch.equal(masks[0].edge_mask, masks[1].edge_mask)
        explainer = explainer_of(plain, gx.Saliency(), config, edge_mask_type="object")
        _, edge = by_autograd(plain, given, explainer, index)
        assert torch.allclose(explainer(**given, index=index).edge_mask, edge, atol=1e-6)
    assert cached.training
    assert cached.first._cached_edge_index is kept
    assert all(parameter.grad is None for parameter in cached.parameters())


# PyG's metrics and pictures ##########################################################################################


@every_value(index={"one": 2, "several": torch.tensor([2, 0, 5])}, returned=RETURNS["multiclass_classification"])
def test_metrics_of_pyg(returned: str, index: Any) -> None:
    config = config_of(returned=returned)
    model, given = net(config), arguments()
    explainer = explainer_of(
        model, gx.GNNExplainer(epochs=20), config, node_mask_type="object", edge_mask_type="object"
    )
    explanation = explainer(**given, index=index)
    plus, minus = fidelity(explainer, explanation)
    ours = gx.metrics.fidelity(
        model, Data(**given), gx.Explanations.from_pyg(explanation, model, Data(**given)), kind="label"
    )
    assert (plus, minus) == pytest.approx((float(ours.plus.mean), float(ours.minus.mean)))
    assert 0 <= unfaithfulness(explainer, explanation) <= 1
    score = characterization_score(torch.tensor(plus), torch.tensor(minus))
    assert 0 <= float(score) <= 1


def test_ground_truth_of_pyg() -> None:
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed (it comes with the extra 'dev')")
    config, given = config_of(), arguments()
    explanation = explainer_of(net(config), gx.Saliency(), config, edge_mask_type="object")(**given, index=1)
    truth = torch.zeros(10)
    truth[[0, 1, 5, 6]] = 1
    assert groundtruth_metrics(explanation.edge_mask, truth, "auroc") == 1.0


@pytest.mark.parametrize("threshold", [("hard", 0.5), ("topk", 3), ("topk_hard", 3)])
def test_thresholds_and_pictures_of_pyg(threshold: tuple[str, Any], tmp_path: Path) -> None:
    config, given = config_of(), arguments()
    explainer = explainer_of(
        net(config),
        gx.GNNExplainer(epochs=3),
        config,
        node_mask_type="attributes",
        edge_mask_type="object",
        threshold_config=threshold,
    )
    explanation = explainer(**given, index=1)
    if threshold[0] != "hard":
        assert int((explanation.edge_mask > 0).sum()) == 3
    if threshold[0] != "topk":
        assert bool(((explanation.edge_mask == 0) | (explanation.edge_mask == 1)).all())
    explanation.visualize_feature_importance(str(tmp_path / "features.png"), top_k=2)
    assert (tmp_path / "features.png").stat().st_size > 0
    if threshold[0] == "topk":
        explanation.visualize_graph(str(tmp_path / "graph.png"), backend="networkx")
        assert (tmp_path / "graph.png").stat().st_size > 0
    plt.close("all")


# And back ############################################################################################################


@pytest.mark.parametrize("algorithm", [gx.GNNExplainer(epochs=3), gx.EdgeAblation(), gx.NodeAblation()], ids=named)
def test_there_and_back(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_by_one(size: int, device: Any, extract: Any, limit: int, *more: Any) -> Any:
        return in_chunks(size, device, extract, 1, *more)

    in_chunks = expansion.in_chunks
    monkeypatch.setattr(expansion, "in_chunks", one_by_one)
    config = config_of()
    model, data = net(config), Data(**arguments())
    ours = gx.explain(model, data, algorithm, index=[4, 1, 4], progress=False)
    back = gx.Explanations.from_pyg([ours.to_pyg(i) for i in range(3)], model, data, name=algorithm.name)
    assert back.signed == ours.signed
    assert back.node_mask_type == ours.node_mask_type
    assert back.provenance["undirected"]
    for name in ("index", "target", "node_id", "edge_id", "edge_index", "prediction", "prediction_masked", "exact"):
        assert torch.equal(getattr(back, name), getattr(ours, name)), name
    for name in ("edge_mask", "node_mask"):
        one, other = getattr(back, name), getattr(ours, name)
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    assert repr(gx.metrics.fidelity(model, data, back, top=2)) == repr(gx.metrics.fidelity(model, data, ours, top=2))


def test_graphs_there_and_back() -> None:
    config = config_of(level="graph")
    graphs = [Data(x=g.x[:, :FEATURES], edge_index=g.edge_index) for g in models.random_graphs(4, dtype=torch.float32)]
    model = net(config)
    ours = gx.explain(model, graphs, gx.GNNExplainer(epochs=3), progress=False)
    every = [ours.to_pyg(i) for i in range(4)]
    back = gx.Explanations.from_pyg(every, model, graphs)
    assert torch.equal(back.edge_mask, ours.edge_mask)
    assert torch.equal(back.node_mask, ours.node_mask)
    assert torch.equal(back.index, torch.arange(4))
    by_node = gx.explain(model, graphs, gx.Random(), progress=False)
    back = gx.Explanations.from_pyg([by_node.to_pyg(i) for i in range(4)], model, graphs)
    assert torch.equal(back.node_mask, by_node.node_mask)
    some = gx.Explanations.from_pyg([every[3], every[1]], model, graphs, index=[3, 1])
    assert torch.equal(some.edge_mask, ours[[3, 1]].edge_mask)
    with pytest.raises(InputError, match="index= with the graph"):
        gx.Explanations.from_pyg([every[3], every[1]], model, graphs)

    whole = Batch.from_data_list(graphs)  # one mask for two of them
    explainer = explainer_of(model, DummyExplainer(), config, node_mask_type="attributes", edge_mask_type="object")
    joint = explainer(whole.x, whole.edge_index, index=torch.tensor([1, 3]), batch=whole.batch)
    laid = gx.Explanations.from_pyg(joint, model, graphs)
    assert laid.index.tolist() == [1, 3]
    for e in laid:
        assert torch.equal(e.edge_mask, joint.edge_mask[whole.batch[whole.edge_index[0]] == e.index])
        assert torch.equal(e.node_mask, joint.node_mask[whole.batch == e.index])


@pytest.mark.parametrize("node", [None, "object", "attributes", "common_attributes"])
def test_results_of_pyg_are_measured_and_drawn(node: str | None) -> None:
    karate = gx.datasets.load("karate")
    config = config_of()
    explainer = explainer_of(
        karate.model, PyGGNNExplainer(epochs=3), config, node_mask_type=node, edge_mask_type="object"
    )
    x, edge_index = karate.data.x, karate.data.edge_index
    found = [explainer(x, edge_index, index=index) for index in (0, torch.tensor([16, 33]))]
    laid = gx.Explanations.from_pyg(found, karate.model, karate.data, name="theirs")
    assert laid.index.tolist() == [0, 16, 33]
    assert laid.algorithm == {"name": "theirs"}
    assert not laid.signed
    assert not laid.provenance["undirected"]  # each direction has a value of its own
    for e, theirs in zip(laid, (found[0], found[1], found[1]), strict=True):
        assert torch.equal(e.edge_mask, theirs.edge_mask[e.edge_id])
        assert torch.equal(e.edge_index, edge_index[:, e.edge_id])
        assert e.target == int(theirs.target[e.index])
        with torch.no_grad():  # the graph has no self loops, for which PyG's masks mean another thing
            expected = explainer.get_masked_prediction(x, edge_index, theirs.get("node_mask"), theirs.edge_mask)
        assert torch.allclose(e.prediction_masked, expected[e.index], atol=1e-4)
        e.draw()
    plt.close("all")
    measured = gx.metrics.fidelity(karate.model, karate.data, laid)
    assert bool(torch.isfinite(measured.plus.values).all())
    truth = gx.GroundTruth(edge=(torch.arange(156) % 3 == 0).long() - 1, node=torch.zeros(34, dtype=torch.int64))
    assert bool(torch.isfinite(gx.metrics.roc_auc(laid, truth).values).all())


def test_attributions_are_told_by_their_values() -> None:
    model, data = net(config_of()), Data(**arguments())
    for mask, signed in ((torch.rand(10), False), (torch.rand(10) - 0.5, True), (2 * torch.ones(10), True)):
        e = Explanation(x=data.x, edge_index=data.edge_index, edge_mask=mask, index=1)
        assert gx.Explanations.from_pyg(e, model, data).signed == signed
        assert gx.Explanations.from_pyg(e, model, data, signed=True).signed


def test_regression_and_binary_results_of_pyg() -> None:
    data = Data(**arguments())
    for mode in ("regression", "binary_classification"):
        config = config_of(mode)
        model = net(config)
        explainer = explainer_of(model, DummyExplainer(), config, edge_mask_type="object")
        found = explainer(**arguments(), index=torch.tensor([0, 4]))
        laid = gx.Explanations.from_pyg(found, model, data)
        said = (model(**arguments()) > 0).long().flatten() if mode == "binary_classification" else torch.zeros(8)
        assert laid.target.tolist() == said[[0, 4]].tolist()
        assert laid.task == config


# Bad input ###########################################################################################################


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"index": 8}, "each 0 to 7, got tensor"),
        ({"index": torch.tensor([0.5])}, "an int or a tensor of ints"),
        ({"index": torch.zeros(0, dtype=torch.int64)}, "at least one index"),
        ({"target": torch.zeros(3, dtype=torch.int64)}, r"all 8 output rows .*got \[3\]"),
        ({"target": torch.full((8,), 7)}, "classes 0 to 3, got values from 7 to 7"),
        ({"target": torch.full((8,), -1)}, "classes 0 to 3, got values from -1 to -1"),
        ({"target": torch.full((8,), 0.5)}, "classes 0 to 3"),
    ],
)
def test_arguments_of_the_explainer_are_checked(changes: dict[str, Any], sentence: str) -> None:
    config = config_of()
    explainer = explainer_of(net(config), gx.Saliency(), config, explanation_type="phenomenon", edge_mask_type="object")
    given = {"target": torch.zeros(8, dtype=torch.int64), **arguments(), **changes}
    with pytest.raises(InputError, match=sentence):
        explainer(**given)


def test_algorithms_and_graphs_of_other_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="of torch_geometric, which an Explainer takes as it is"):
        gx.pyg.algorithm(CaptumExplainer("Saliency"))
    with pytest.raises(InputError, match="did you mean 'saliency'"):
        gx.pyg.algorithm("salience")
    with pytest.raises(InputError, match="seed as an integer"):
        gx.pyg.algorithm("saliency", seed=0.5)
    assert repr(gx.pyg.algorithm("saliency")).startswith("gnn_xai.pyg.algorithm(Saliency(")
    config = config_of()
    model = models.seeded(lambda: nn.ModuleDict(), dtype=torch.float32)
    wrapped = gx.pyg.algorithm(gx.Saliency())
    wrapped.connect({"explanation_type": "model", "edge_mask_type": "object"}, config)
    given = {"a": torch.ones(2, 2)}, torch.zeros(2, 1, dtype=torch.int64)
    with pytest.raises(InputError, match="expected x and edge_index as tensors"):
        wrapped(model, *given, target=torch.zeros(2))
    for setting, sentence in (({"undirected": "yes"}, "undirected=True"), ({"batch_budget": 0}, "batch_budget=")):
        explainer = explainer_of(net(config), gx.pyg.algorithm("saliency", **setting), config, edge_mask_type="object")
        with pytest.raises(InputError, match=sentence):
            explainer(**arguments(), index=1)


def test_a_wrong_return_type_is_said() -> None:
    config = config_of(returned="probs")
    model = net(config_of())
    explainer = explainer_of(model, gx.Saliency(), config, edge_mask_type="object")
    for index in INDICES:
        with pytest.raises(InputError, match="expected probabilities"):
            explainer(**arguments(), index=index)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda e: [], "at least one explanation"),
        (lambda e: [HeteroData()], "got HeteroData"),
        (lambda e: Explanation(x=e.x, edge_index=e.edge_index), "neither node_mask nor edge_mask"),
        (lambda e: Explanation(x=e.x + 1, edge_index=e.edge_index, edge_mask=e.edge_mask), "not of this data"),
        (lambda e: Explanation(x=e.x, edge_index=e.edge_index, edge_mask=e.edge_mask[:4]), "not of this data"),
        (lambda e: Explanation(x=e.x, edge_index=e.edge_index.flip(1), edge_mask=e.edge_mask), "not of this data"),
        (
            lambda e: Explanation(edge_mask=e.edge_mask, prediction=torch.ones(8, CLASSES)),
            "not the one that was explained",
        ),
        (lambda e: Explanation(edge_mask=e.edge_mask * torch.nan), "NaN"),
        (lambda e: [e, Explanation(node_mask=torch.ones(8, 1))], "same kinds of masks"),
        (lambda e: Explanation(edge_mask=e.edge_mask, index=8), "each 0 to 7, got 8"),
    ],
)
def test_results_of_pyg_are_checked(make: Any, sentence: str) -> None:
    config = config_of()
    model, data = net(config), Data(**arguments())
    explanation = explainer_of(model, DummyExplainer(), config, edge_mask_type="object")(**arguments(), index=1)
    with pytest.raises(InputError, match=sentence):
        gx.Explanations.from_pyg(make(explanation), model, data, task="node")
    with pytest.raises(InputError, match="one index for each of 2"):
        gx.Explanations.from_pyg([explanation, explanation], model, data, index=[1])


def test_edge_level_results_of_pyg() -> None:
    config, data = config_of(level="edge"), Data(**arguments())
    model = net(config)
    pairs = further("edge")["edge_label_index"]
    explainer = explainer_of(model, DummyExplainer(), config, edge_mask_type="object")
    one = explainer(**arguments(), index=1, **further("edge"))
    found = gx.Explanations.from_pyg(one, model, data)
    assert found.index.tolist() == pairs[:, [1]].t().tolist()
    assert torch.equal(found.edge_mask, one.edge_mask[found.edge_id])
    again = gx.Explanations.from_pyg(found.to_pyg(0), model, data, task=config)
    assert torch.equal(again.edge_mask, found.edge_mask)
    every = gx.Explanations.from_pyg(explainer(**arguments(), **further("edge")), model, data)
    assert every.index.tolist() == pairs.t().tolist()
    del one.edge_label_index
    with pytest.raises(InputError, match="pass index= with the pair of nodes"):
        gx.Explanations.from_pyg(one, model, data)
    pair = tuple(pairs[:, 1].tolist())
    assert torch.equal(gx.Explanations.from_pyg(one, model, data, index=pair).edge_mask, found.edge_mask)


class _Decoder(nn.Module):
    def forward(self, z: Tensor, pairs: Tensor) -> Tensor:
        return (z[pairs[0]] * z[pairs[1]]).sum(1)


class _Links(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.decoder = GCNConv(4, 8), _Decoder()

    def forward(self, x: Tensor, edge_index: Tensor, edge_label_index: Tensor) -> Tensor:
        return self.decoder(self.conv(x, edge_index), edge_label_index)


def test_pairs_that_are_the_edges_of_the_graph_are_no_adjacency() -> None:
    torch.manual_seed(0)
    model, x = _Links(), torch.randn(6, 4)
    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
    explainer = Explainer(
        model,
        gx.pyg.algorithm("saliency"),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={"mode": "binary_classification", "task_level": "edge", "return_type": "raw"},
    )
    few = explainer(x, edges, edge_label_index=edges[:, :3], index=1)
    for pairs in (edges, edges.clone()):
        same = explainer(x, edges, edge_label_index=pairs, index=1)
        torch.testing.assert_close(same.edge_mask, few.edge_mask)
        torch.testing.assert_close(same.node_mask, few.node_mask)


def test_an_algorithm_that_was_not_wrapped_is_named() -> None:
    config = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
    with pytest.raises(InputError, match=r"takes algorithms of this package as gnn_xai.pyg.algorithm\(Random\("):
        Explainer(GCNConv(3, 2), gx.Random(), explanation_type="model", edge_mask_type="object", model_config=config)


def test_pyg_names_the_algorithm_that_does_not_score_what_is_asked() -> None:
    config = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
    with pytest.raises(ValueError, match="'EdgeAblation' does not support"):
        Explainer(
            GCNConv(3, 2),
            gx.pyg.algorithm("edge_ablation"),
            explanation_type="model",
            node_mask_type="attributes",
            edge_mask_type="object",
            model_config=config,
        )
