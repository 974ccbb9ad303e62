"""Numbers that must not depend on what happens to be so in the data: features that open edges, the unit and the zero of an
output, companions in a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig
from torch_geometric.utils import degree, to_dense_batch

import gnn_xai as gx
from tests.covering import every_value, pairwise
from tests.models import FEATURES, random_graph, seeded, small_graph
from tests.ready import READY

VALUE = ModelConfig(mode="regression", task_level="node", return_type="raw")
GRAPH_VALUE = ModelConfig(mode="regression", task_level="graph", return_type="raw")


# Edges and coefficients that features decide ##########################################################################


class Gated(nn.Module):
    """A layer whose weights are made of the features by hand."""

    def __init__(self, gate: Callable[[Tensor, Tensor], Tensor], layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layer, self.head, self.gate = layer(), nn.Linear(4, 1), gate

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.head(self.layer(x, edge_index, self.gate(x, edge_index).to(x.dtype)).tanh())


class Dropping(nn.Module):
    """The same, but edges at 0 are left out."""

    def __init__(self, gate: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.head, self.gate = pyg.SAGEConv(FEATURES, 4), nn.Linear(4, 1), gate

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.head(self.layer(x, edge_index[:, self.gate(x, edge_index) > 0]).tanh())


GATES = {
    "sender": lambda x, ends: x[ends[0], 0] != 0,
    "receiver": lambda x, ends: x[ends[1], 1] != 0,
    "either": lambda x, ends: ((x[:, 2] == 0)[ends]).any(0).logical_not(),
    "padding": lambda x, ends: (x != 0).any(1)[ends[0]],
    "size": lambda x, ends: x.abs().sum(1)[ends[1]] > 1e-3,
    "alike": lambda x, ends: nn.functional.cosine_similarity(x[ends[0]], x[ends[1]]).abs(),
    "attention": lambda x, ends: (x[ends[0]] * x[ends[1]]).sum(1).sigmoid(),
}


@torch.no_grad()
def without_columns(model: nn.Module, data: Data, node: int) -> Tensor:
    """What the output of a node loses with each column at 0."""
    full = model(data.x, data.edge_index)[node, 0]
    zeroed = (data.x.index_fill(1, torch.tensor([column]), 0) for column in range(data.num_features))
    return torch.stack([full - model(x, data.edge_index)[node, 0] for x in zeroed])


GRAPHS = {
    "star": Data(
        x=torch.randn(5, FEATURES, generator=torch.Generator().manual_seed(3)).double() + 2,
        edge_index=torch.tensor([[0, 1, 2, 3], [4, 4, 4, 4]]),
    ),
    "pair": Data(
        x=torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(4)).double() + 2,
        edge_index=torch.tensor([[0, 1], [1, 0]]),
    ),
    "random": Data(x=random_graph(1).x, edge_index=random_graph(1).edge_index),
    "alike": Data(x=torch.ones(6, FEATURES).double(), edge_index=small_graph(6).edge_index),
}


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("gate", GATES)
def test_features_that_open_edges(gate: str, graph: str) -> None:
    data = GRAPHS[graph]
    layers = [lambda: pyg.GraphConv(FEATURES, 4), lambda: pyg.GCNConv(FEATURES, 4)]
    models = [seeded(lambda layer=layer: Gated(GATES[gate], layer)) for layer in layers]
    for model in [*models, seeded(lambda: Dropping(GATES[gate]))]:
        found = gx.explain(model, data, gx.FeatureAblation(objective="raw"), task=VALUE, progress=False)
        for e in found:
            expected = without_columns(model, data, e.index)
            torch.testing.assert_close(e.node_mask.flatten(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("name", ["ClusterGCNConv", "ChebConv", "GCNConv", "ARMAConv", "LEConv", "TAGConv", "GATConv"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_features_alone_leave_the_graph_as_it_is(name: str, graph: str) -> None:
    options = {"K": 2} if name == "ChebConv" else {}
    model = seeded(lambda: getattr(pyg, name)(FEATURES, 1, **options))
    found = gx.explain(model, GRAPHS[graph], gx.FeatureAblation(objective="raw"), task=VALUE, progress=False)
    for e in found:
        expected = without_columns(model, GRAPHS[graph], e.index)
        torch.testing.assert_close(e.node_mask.flatten(), expected, rtol=1e-9, atol=1e-9)


# Models that see more than their layers do ############################################################################


class Wide(nn.Module):
    """One layer of messages, and something that is made of all nodes."""

    def __init__(self, norm: Callable[[Tensor], Tensor], unit: float = 1.0, zero: float = 0.0) -> None:
        super().__init__()
        self.layer, self.head, self.norm, self.unit, self.zero = (
            pyg.SAGEConv(FEATURES, 6),
            nn.Linear(6, 1),
            norm,
            unit,
            zero,
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.zero + self.unit * self.head(self.norm(self.layer(x, edge_index)).tanh())


NORMS = {
    "mean": lambda h: h - h.mean(0),
    "a_little": lambda h: h + 1e-3 * h.sum(0),
    "pair": lambda h: pyg.PairNorm()(h),
    "norm": lambda h: h / h.norm(),
}
FORMS = {
    "three_parts": (6, [[0, 2, 4], [1, 3, 5]]),
    "one_way": (5, [[0, 1, 2, 3], [1, 2, 3, 4]]),
    "lonely": (6, [[0, 1], [1, 0]]),
    "no_edges": (4, [[], []]),
    "loops": (4, [[0, 1, 2, 3], [0, 1, 2, 3]]),
    "two_rings": (6, [[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]]),
}


def form(name: str) -> Data:
    nodes, ends = FORMS[name]
    x = torch.randn(nodes, FEATURES, generator=torch.Generator().manual_seed(nodes)).double()
    return Data(x=x, edge_index=torch.tensor(ends, dtype=torch.long))


def gradients(model: nn.Module, data: Data, node: int) -> Tensor:
    x = data.x.clone().requires_grad_()
    return torch.autograd.grad(model(x, data.edge_index)[node, 0], x)[0]


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pairwise(
    norm=list(NORMS),
    shape=list(FORMS),
    scale=[(1.0, 0.0), (1e-7, 0.0), (1.0, 1e6)],
    index={"all": None, "first": [0], "last_and_second": [-1, 1]},
)
def test_what_reads_all_nodes_is_not_local(
    norm: str, shape: str, scale: tuple[float, float], index: list[int] | None
) -> None:
    """Whatever nodes are explained together, in any unit, and far from 0."""
    data = form(shape)
    model = seeded(lambda: Wide(NORMS[norm], *scale))
    nodes = None if index is None else [node % data.num_nodes for node in index]
    algorithm = gx.Saliency(absolute=False, edge_mask_type=None, objective="raw")
    for e in gx.explain(model, data, algorithm, index=nodes, task=VALUE, progress=False):
        got = torch.zeros_like(data.x).index_copy(0, e.node_id, e.node_mask)
        expected = gradients(model, data, e.index)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


# Units ###############################################################################################################

LAYERS = {"gcn": pyg.GCNConv, "sage": pyg.SAGEConv, "gat": pyg.GATConv, "cluster": pyg.ClusterGCNConv}
# Its squared loss has the square of the output's unit, and is weighed against sizes that have none.
WITHOUT_UNIT = set(READY) - {
    "pgm_explainer",
    "gnn_explainer",
    "captum",
    "fragment_ablation",
    "fragment_shapley",
    "shapley",
}
# PGM-Explainer has a threshold in the unit of the output.


class Scaled(nn.Module):
    def __init__(self, layer: Callable[[int, int], nn.Module], unit: float) -> None:
        super().__init__()
        self.first, self.second, self.head, self.unit = layer(FEATURES, 6), layer(6, 6), nn.Linear(6, 1), unit

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.unit * self.head(self.second(self.first(x, edge_index).tanh(), edge_index).tanh())


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@every_value(name=sorted(WITHOUT_UNIT), layer=list(LAYERS))
def test_scores_have_the_unit_of_the_output(name: str, layer: str) -> None:
    """Verdicts, paths, masks and fidelity do not change with the unit; attributions scale with it."""
    data = Data(x=random_graph(2).x.float(), edge_index=random_graph(2).edge_index)
    results = {}
    for unit in (1.0, 2.0**-20, 2.0**20):  # exact, so that rounding is the same
        model = seeded(lambda unit=unit: Scaled(LAYERS[layer], unit), dtype=torch.float32)
        found = gx.explain(model, data, name, index=[7, 0, 3], task=VALUE, seed=1, progress=False)
        level = "edge" if found.edge_mask is not None else "node"
        fidelity = gx.metrics.fidelity(model, data, found, top=2, level=level)
        results[unit] = found, [fidelity.plus.values / unit, fidelity.minus.values / unit]
    want, faithful = results.pop(1.0)
    for unit, (found, other) in results.items():
        assert found.provenance["layers"] == want.provenance["layers"]
        assert torch.equal(found.exact, want.exact)
        assert torch.equal(found.hops, want.hops)
        factor = unit if want.signed or gx.algorithms.get(name).__class__.__name__ in SLOPES else 1.0
        for got, expected in ((found.edge_mask, want.edge_mask), (found.node_mask, want.node_mask)):
            if expected is not None:
                torch.testing.assert_close(got, expected * factor, rtol=1e-5, atol=1e-6 * factor)
        for got, expected in zip(other, faithful, strict=True):
            torch.testing.assert_close(torch.as_tensor(got), torch.as_tensor(expected), rtol=1e-4, atol=1e-6)


SLOPES = {"Saliency", "SmoothGrad"}


# Graphs that see one another #########################################################################################


class Read(nn.Module):
    """One layer, a readout, and something before it that may see the whole batch."""

    def __init__(
        self, readout: Callable[[], nn.Module] | None, norm: Callable[[Tensor], Tensor], width: int = 6
    ) -> None:
        super().__init__()
        self.layer, self.head, self.norm = pyg.GraphConv(FEATURES, 6), nn.Linear(width, 1), norm
        self.readout = pyg.aggr.SumAggregation() if readout is None else readout()

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.head(self.readout(self.norm(self.layer(x, edge_index).tanh()), batch))


class Padded(nn.Module):
    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read

    def forward(self, h: Tensor, batch: Tensor) -> Tensor:
        return self.read(to_dense_batch(h, batch)[0])


def same(h: Tensor) -> Tensor:
    return h


READS: dict[str, Callable[[], nn.Module]] = {
    "set": lambda: Read(lambda: pyg.aggr.Set2Set(6, 2), same, 12),
    "sort": lambda: Read(lambda: pyg.aggr.SortAggregation(4), same, 24),
    "multiset": lambda: Read(lambda: pyg.aggr.GraphMultisetTransformer(6, 3), same),
    "lstm": lambda: Read(lambda: pyg.aggr.LSTMAggregation(6, 6), same),
    "padded_mean": lambda: Read(lambda: Padded(lambda h: h.mean(1)), same),
    "padded_last": lambda: Read(lambda: Padded(lambda h: h[:, -1]), same),
    "padded_max": lambda: Read(lambda: Padded(lambda h: (h - 0.9).amax(1)), same),
    "centred": lambda: Read(None, lambda h: h - h.mean(0)),
    "a_little": lambda: Read(None, lambda h: h + 1e-3 * h.mean(0)),
    "largest": lambda: Read(None, lambda h: h / h.abs().max()),
    "count": lambda: Read(None, lambda h: h / len(h)),
    "pair": lambda: Read(None, pyg.PairNorm()),
    "graph_norm": lambda: Read(None, pyg.GraphNorm(6)),
}


MANY = tuple([4] * 18 + [7] + [4] * 5)


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize(
    "sizes",
    [(6, 3, 6), (4, 4), *(pytest.param(sizes, marks=pytest.mark.full) for sizes in [(5, 5, 5), (4, 3, 3), MANY])],
    ids=len,
)
@pytest.mark.parametrize("name", READS)
def test_graphs_that_see_one_another(name: str, sizes: tuple[int, ...]) -> None:
    """Each graph has the prediction and the gradient that it has alone."""
    model = seeded(READS[name])
    graphs = [small_graph(nodes, seed) for seed, nodes in enumerate(sizes)]
    draw = torch.Generator().manual_seed(len(sizes))
    graphs = [
        Data(x=torch.randn(g.num_nodes, FEATURES, generator=draw).double(), edge_index=g.edge_index) for g in graphs
    ]
    algorithm = gx.Saliency(absolute=False, edge_mask_type=None, objective="raw")
    for e, data in zip(gx.explain(model, graphs, algorithm, task=GRAPH_VALUE, progress=False), graphs, strict=True):
        x = data.x.clone().requires_grad_()
        out = model(x, data.edge_index, torch.zeros(len(x), dtype=torch.long))
        torch.testing.assert_close(e.prediction, out[0].detach(), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(e.node_mask, torch.autograd.grad(out, x)[0], rtol=1e-6, atol=1e-8)


class ByDegree(nn.Module):
    """One layer, weighted by degrees relative to a statistic of all degrees that there are."""

    def __init__(self, statistic: Callable[[Tensor], Tensor], pools: bool) -> None:
        super().__init__()
        self.layer, self.head, self.statistic, self.pools = (
            pyg.GraphConv(FEATURES, 4),
            nn.Linear(4, 1),
            statistic,
            pools,
        )

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        size = degree(edge_index[1], len(x), dtype=x.dtype)
        h = self.layer(x, edge_index).tanh() * (size / (1 + self.statistic(size))).unsqueeze(1)
        return self.head(pyg.global_add_pool(h, batch) if self.pools else h)


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda size: size.max(),
    "smallest": lambda size: size.min(),
    "median": lambda size: size.median(),
    "second": lambda size: size.topk(2).values[-1],
}


def tree(nodes: int, star: bool, seed: int) -> Data:
    child = torch.arange(1, nodes)
    ends = torch.stack([torch.zeros_like(child) if star else child - 1, child])
    x = torch.randn(nodes, FEATURES, generator=torch.Generator().manual_seed(seed)).double()
    return Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], dim=1))


def losses_of_nodes(model: nn.Module, data: Data, row: int | None) -> Tensor:
    """What the output of a node that stays, or of a graph, loses without each node."""

    def out(data: Data, row: int | None) -> Tensor:
        with torch.no_grad():
            return model(data.x, data.edge_index, torch.zeros(data.num_nodes, dtype=torch.long))[row or 0, 0]

    losses = []
    for node in range(data.num_nodes):
        if node == row:
            silent = data.clone()
            silent.x[node] = 0
            losses.append(out(data, row) - out(silent, row))
        else:
            rest = data.subgraph(torch.arange(data.num_nodes) != node)
            losses.append(out(data, row) - out(rest, None if row is None else row - (node < row)))
    return torch.stack(losses)


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("sizes", [(5, 7, 4), (5, 5)], ids=len)
@pytest.mark.parametrize("name", STATISTICS)
def test_graphs_whose_degrees_are_compared(name: str, sizes: tuple[int, ...]) -> None:
    """A star beside paths: each has the prediction that it has alone, and each variant its own statistic."""
    model = seeded(lambda: ByDegree(STATISTICS[name], True))
    graphs = [tree(nodes, number == 0, number) for number, nodes in enumerate(sizes)]
    found = gx.explain(model, graphs, gx.NodeAblation(objective="raw"), task=GRAPH_VALUE, progress=False)
    for e, data in zip(found, graphs, strict=True):
        want = model(data.x, data.edge_index, torch.zeros(data.num_nodes, dtype=torch.long))[0].detach()
        torch.testing.assert_close(e.prediction, want, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(e.node_mask[:, 0], losses_of_nodes(model, data, None), rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("name", STATISTICS)
def test_nodes_whose_degrees_are_compared(name: str) -> None:
    """The node with the most edges, which every computation graph holds, is missed by its own variant alone."""
    model = seeded(lambda: ByDegree(STATISTICS[name], False))
    data = tree(7, True, 1)
    data.edge_index = torch.cat([data.edge_index, torch.tensor([[1, 2], [2, 1]])], dim=1)
    algorithm = gx.NodeAblation(objective="raw")
    for e in gx.explain(model, data, algorithm, index=[0, 2, 5], task=VALUE, progress=False):
        got = torch.zeros(7, dtype=torch.float64).index_copy(0, e.node_id, e.node_mask[:, 0])
        torch.testing.assert_close(got, losses_of_nodes(model, data, e.index), rtol=1e-6, atol=1e-8)


def test_one_graph_of_many_that_all_see() -> None:
    """A column that is 0 in all graphs of the sample: every batch is looked at."""
    model = seeded(lambda: Read(None, lambda h: h))
    model.layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * (1 + inputs[0][:, 0].max()), *inputs[1:]))
    graphs = [tree(4 + number % 2, False, number) for number in range(40)]
    for number, data in enumerate(graphs):
        data.x[:, 0] = 3.0 if number == 29 else 0.0
    algorithm = gx.Saliency(absolute=False, edge_mask_type=None, objective="raw")
    with pytest.warns(gx.errors.GnnXaiWarning, match="mixes the graphs of a batch"):
        found = gx.explain(model, graphs, algorithm, task=GRAPH_VALUE, progress=False)
    for e, data in zip(found, graphs, strict=True):
        want = model(data.x, data.edge_index, torch.zeros(data.num_nodes, dtype=torch.long))[0].detach()
        torch.testing.assert_close(e.prediction, want, rtol=1e-9, atol=1e-9)
