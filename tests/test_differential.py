"""Random small cases against naive references: one element at a time, one instance at a time, on the whole data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig
from torch_geometric.utils import scatter

import gnn_xai as gx
from gnn_xai.testing.plain import reachable

FEATURES, HIDDEN, ATTRIBUTES = 3, 4, 2
TOLERANCE = 1e-4


def _gine() -> nn.Module:
    return pyg.GINEConv(nn.Linear(HIDDEN, HIDDEN), edge_dim=ATTRIBUTES)


def _pna(edge_dim: int | None = None) -> nn.Module:
    scalers = ["identity", "amplification", "attenuation"]
    degree = torch.tensor([1, 3, 4, 2, 1])
    return pyg.PNAConv(HIDDEN, HIDDEN, ["mean", "max", "std"], scalers, degree, edge_dim=edge_dim)


LAYERS: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "gcn": (lambda: pyg.GCNConv(HIDDEN, HIDDEN), None),
    "gcn_weighted": (lambda: pyg.GCNConv(HIDDEN, HIDDEN), "edge_weight"),
    "gcn_bare": (lambda: pyg.GCNConv(HIDDEN, HIDDEN, add_self_loops=False), "edge_weight"),
    "gcn_improved": (lambda: pyg.GCNConv(HIDDEN, HIDDEN, improved=True), "edge_weight"),
    "sage": (lambda: pyg.SAGEConv(HIDDEN, HIDDEN), None),
    "sage_max": (lambda: pyg.SAGEConv(HIDDEN, HIDDEN, aggr="max"), None),
    "gin": (lambda: pyg.GINConv(nn.Linear(HIDDEN, HIDDEN)), None),
    "gine": (_gine, "edge_attr"),
    "gat": (lambda: pyg.GATConv(HIDDEN, HIDDEN // 2, heads=2), None),
    "gat_edges": (lambda: pyg.GATConv(HIDDEN, HIDDEN, edge_dim=ATTRIBUTES), "edge_attr"),
    "gatv2": (lambda: pyg.GATv2Conv(HIDDEN, HIDDEN), None),
    "transformer": (lambda: pyg.TransformerConv(HIDDEN, HIDDEN), None),
    "cluster": (lambda: pyg.ClusterGCNConv(HIDDEN, HIDDEN), None),
    "cheb": (lambda: pyg.ChebConv(HIDDEN, HIDDEN, K=2), "edge_weight"),
    "graph_conv": (lambda: pyg.GraphConv(HIDDEN, HIDDEN), "edge_weight"),
    "graph_conv_mean": (lambda: pyg.GraphConv(HIDDEN, HIDDEN, aggr="mean"), "edge_weight"),
    "tag": (lambda: pyg.TAGConv(HIDDEN, HIDDEN, K=2), "edge_weight"),
    "sg": (lambda: pyg.SGConv(HIDDEN, HIDDEN, K=2), "edge_weight"),
    "appnp": (lambda: pyg.APPNP(K=2, alpha=0.2), "edge_weight"),
    "pna": (_pna, None),
    "pna_edges": (lambda: _pna(ATTRIBUTES), "edge_attr"),
    "nn": (lambda: pyg.NNConv(HIDDEN, HIDDEN, nn.Linear(ATTRIBUTES, HIDDEN * HIDDEN)), "edge_attr"),
    "arma": (lambda: pyg.ARMAConv(HIDDEN, HIDDEN), "edge_weight"),
    "le": (lambda: pyg.LEConv(HIDDEN, HIDDEN), "edge_weight"),
    "gated": (lambda: pyg.ResGatedGraphConv(HIDDEN, HIDDEN), None),
    "light": (lambda: pyg.LGConv(), "edge_weight"),
}


class Model(nn.Module):
    """Some layers of one kind; one number for each node or graph."""

    def __init__(self, name: str, depth: int, pool: str | None) -> None:
        super().__init__()
        make, self.extra = LAYERS[name]
        self.first, self.head, self.pool = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, 1), pool
        self.layers = nn.ModuleList([make() for _ in range(depth)])

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        more = {"edge_weight": edge_weight, "edge_attr": edge_attr}
        extra = () if self.extra is None else (more[self.extra],)
        x = self.first(x)
        for layer in self.layers:
            x = layer(x, edge_index, *extra).tanh()
        if self.pool is not None:
            batch = torch.zeros(len(x), dtype=torch.long) if batch is None else batch
            x = {"add": pyg.global_add_pool, "mean": pyg.global_mean_pool}[self.pool](x, batch)
        return self.head(x)


@dataclass
class Case:
    """A model on a graph, or on some."""

    seed: int
    name: str
    model: Model
    graphs: list[Data]
    index: list[int]

    @property
    def of_nodes(self) -> bool:
        return self.model.pool is None

    def run(self, data: Data, row: int) -> Tensor:
        """The output of a node, or of a graph alone."""
        more = {} if self.model.extra is None else {self.model.extra: data[self.model.extra]}
        return self.model(data.x, data.edge_index, **more)[row if self.of_nodes else 0, 0]


SHAPES = ["random", "random", "undirected", "undirected", "cycle", "complete", "star", "parts", "empty"]


def _ends(draw: random.Random, nodes: int) -> list[tuple[int, int]]:
    """The edges of a random graph."""
    shape, every = draw.choice(SHAPES), range(nodes)
    if shape == "cycle":
        ends = [(i, (i + 1) % nodes) for i in every if nodes > 1]
    elif shape == "complete":
        ends = [(i, j) for i in every for j in every if i < j]
    elif shape == "star":
        ends = [(i, 0) for i in every if i]
    elif shape == "parts":  # and the last node alone
        half = max(nodes // 2, 1)
        ends = [(i, i + 1) for i in every if i + 1 < nodes - 1 and i + 1 != half]
    else:
        ends = [(draw.randrange(nodes), draw.randrange(nodes)) for _ in range(draw.randint(0, 2 * nodes))]
        ends = [(i, j) for i, j in ends if i != j] if shape != "empty" else []
    both = shape != "random" and draw.random() < 0.7
    ends = list(dict.fromkeys([*ends, *((j, i) for i, j in ends if both)]))
    if ends and draw.random() < 0.2:
        ends += draw.choices(ends, k=2)
    if draw.random() < 0.3:
        ends += [(i, i) for i in every if draw.random() < 0.5]
    draw.shuffle(ends)
    return ends


def _weights(draw: random.Random, edge_index: Tensor, nodes: int) -> Tensor:
    """Weights of several kinds: 1, random, normalised for every node, or with a maximum of 1."""
    numbers = torch.tensor([draw.uniform(0.2, 2) for _ in range(edge_index.size(1))])
    kind = draw.choice(["one", "random", "random", "walk", "largest"])
    if kind == "one":
        return torch.ones_like(numbers)
    if kind == "walk":
        return numbers / scatter(numbers, edge_index[1], 0, nodes, "sum")[edge_index[1]]
    return numbers / numbers.max() if kind == "largest" and len(numbers) else numbers


def _graph(draw: random.Random, most: int = 7) -> Data:
    nodes = draw.randint(2, most)
    ends = _ends(draw, nodes)
    edge_index = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).t().contiguous()
    x = torch.tensor([[draw.gauss(0, 1) for _ in range(FEATURES)] for _ in range(nodes)])
    x[torch.tensor([[draw.random() < 0.15 for _ in range(FEATURES)] for _ in range(nodes)])] = 0
    attr = torch.tensor([[draw.gauss(0, 1) for _ in range(ATTRIBUTES)] for _ in ends]).reshape(-1, ATTRIBUTES)
    return Data(x=x, edge_index=edge_index, edge_weight=_weights(draw, edge_index, nodes), edge_attr=attr)


def case(seed: int) -> Case:
    """A random case."""
    draw = random.Random(seed)
    name = draw.choice(list(LAYERS))
    pool = draw.choice([None, None, "add", "mean"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(name, draw.randint(1, 2), pool).eval()
    graphs = [_graph(draw) for _ in range(1 if pool is None else draw.randint(1, 4))]
    dtype = draw.choice([torch.float32, torch.float64])
    for data in graphs:
        for key in ("x", "edge_weight", "edge_attr"):
            data[key] = data[key].to(dtype)
    count = graphs[0].num_nodes if pool is None else len(graphs)
    index = draw.sample(range(count), draw.randint(1, min(count, 3)))
    return Case(seed, name, model.to(dtype), graphs, index)


# The naive way #######################################################################################################


@contextmanager
def weighted(model: nn.Module, data: Data, mask: Tensor) -> Iterator[None]:
    """Multiply every message by the mask of its edge: layers keep the order of all edges but self loops, of which masks
    belong to the loops of the data at the same node.
    """
    loop = data.edge_index[0] == data.edge_index[1]
    factor: list[Tensor] = []

    def before(module: Any, inputs: Any) -> None:
        ends = inputs[0]
        own = ends[0] == ends[1]
        assert torch.equal(ends[:, ~own], data.edge_index[:, ~loop])
        of_node = mask.new_ones(data.num_nodes).index_copy(0, data.edge_index[0, loop], mask[loop])
        factor[:] = [
            mask.new_ones(ends.size(1)).masked_scatter(~own, mask[~loop]) * torch.where(own, of_node[ends[0]], 1)
        ]

    def after(module: Any, inputs: Any, out: Tensor) -> Tensor:
        shape = [1] * out.dim()
        shape[module.node_dim] = -1
        return out * factor[0].view(shape)

    handles = []
    for module in model.modules():
        if isinstance(module, pyg.MessagePassing):
            handles += [module.register_propagate_forward_pre_hook(before), module.register_message_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without_edges(data: Data, gone: Tensor) -> Data:
    return Data(
        x=data.x,
        edge_index=data.edge_index[:, ~gone],
        edge_weight=data.edge_weight[~gone],
        edge_attr=data.edge_attr[~gone],
    )


def _without_node(data: Data, node: int) -> Data:
    gone = (data.edge_index == node).any(0)
    rest = _without_edges(data, gone)
    keep = torch.arange(data.num_nodes) != node
    rest.x, rest.edge_index = data.x[keep], rest.edge_index - (rest.edge_index > node).long()
    return rest


def _zeroed(data: Data, rows: Any = slice(None), columns: Any = slice(None)) -> Data:
    out = data.clone()
    out.x[rows, columns] = 0
    return out


def _silenced(of: Case, data: Data, row: int, x: Tensor, gone: Tensor) -> Tensor:
    out = data.clone()
    out.x = x
    with weighted(of.model, data, (~gone).to(x.dtype)):
        return of.run(out, row)


@torch.no_grad()
def reach(of: Case, data: Data, row: int) -> tuple[Tensor, Tensor]:
    """The nodes and edges that can send something to an output; others, of which degrees may know, have no score."""
    if not of.of_nodes:
        return torch.ones(data.num_nodes, dtype=torch.bool), torch.ones(data.num_edges, dtype=torch.bool)
    calls: list[None] = []
    layers = [module for module in of.model.modules() if isinstance(module, pyg.MessagePassing)]
    handles = [layer.register_propagate_forward_pre_hook(lambda *_: calls.append(None)) for layer in layers]
    of.run(data, row)
    for handle in handles:
        handle.remove()
    nodes, edges = reachable(data.edge_index, [row], len(calls))
    numbers = torch.arange(max(data.num_nodes, data.num_edges)).tolist()
    inside = [[number in chosen for number in numbers] for chosen in (nodes, edges)]
    return torch.tensor(inside[0][: data.num_nodes]), torch.tensor(inside[1][: data.num_edges], dtype=torch.bool)


@torch.no_grad()
def edge_losses(of: Case, data: Data, row: int, removal: str) -> Tensor:
    losses = []
    for edge in range(data.num_edges):
        gone = torch.arange(data.num_edges) == edge
        left = (
            of.run(_without_edges(data, gone), row)
            if removal == "structural"
            else _silenced(of, data, row, data.x, gone)
        )
        losses.append(of.run(data, row) - left)
    return torch.stack(losses) if losses else data.x.new_zeros(0)


@torch.no_grad()
def node_losses(of: Case, data: Data, row: int, removal: str) -> Tensor:
    losses = []
    for node in range(data.num_nodes):
        zeroed = _zeroed(data, node)
        if of.of_nodes and node == row:
            left = of.run(zeroed, row)
        elif removal == "structural":
            left = of.run(_without_node(data, node), row - (node < row))
        else:
            left = _silenced(of, data, row, zeroed.x, (data.edge_index == node).any(0))
        losses.append(of.run(data, row) - left)
    return torch.stack(losses)


@torch.no_grad()
def feature_losses(of: Case, data: Data, row: int) -> Tensor:
    columns = range(FEATURES)
    return torch.stack([of.run(data, row) - of.run(_zeroed(data, columns=column), row) for column in columns])


def slopes(of: Case, data: Data, row: int, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Gradients by features and by the mask of edges, at a point on the line from nothing."""
    data, x = data.clone(), data.x
    data.x = (share * x).requires_grad_()
    mask = torch.full_like(data.edge_weight, share).requires_grad_()
    with weighted(of.model, data, mask):
        out = of.run(data, row)
    grads = torch.autograd.grad(out, [data.x, mask], allow_unused=True)
    return tuple(torch.zeros_like(v) if g is None else g for v, g in zip((x, mask), grads, strict=True))


def integrated(of: Case, data: Data, row: int, steps: int) -> tuple[Tensor, Tensor]:
    points, weights = np.polynomial.legendre.leggauss(steps)
    parts = [(w / 2, slopes(of, data, row, (p + 1) / 2)) for p, w in zip(points, weights, strict=True)]
    return data.x * sum(w * part[0] for w, part in parts), sum(w * part[1] for w, part in parts)


ALGORITHMS: dict[str, tuple[Any, Callable[[Case, Data, int], dict[str, Tensor]]]] = {
    **{
        f"edges_{removal}": (
            gx.EdgeAblation(removal=removal, objective="raw"),
            lambda of, data, row, removal=removal: {"edge": edge_losses(of, data, row, removal)},
        )
        for removal in ("structural", "message")
    },
    **{
        f"nodes_{removal}": (
            gx.NodeAblation(removal=removal, objective="raw"),
            lambda of, data, row, removal=removal: {"node": node_losses(of, data, row, removal).unsqueeze(1)},
        )
        for removal in ("structural", "message")
    },
    "features": (gx.FeatureAblation(objective="raw"), lambda *of: {"node": feature_losses(*of)}),
    "saliency": (
        gx.Saliency(absolute=False, objective="raw"),
        lambda *of: dict(zip(("node", "edge"), slopes(*of), strict=True)),
    ),
    "integrated": (
        gx.IntegratedGradients(steps=3, objective="raw"),
        lambda *of: dict(zip(("node", "edge"), integrated(*of, 3), strict=True)),
    ),
}


def differences(of: Case, name: str) -> list[str]:
    """Where an algorithm differs from its reference, in sentences."""
    algorithm, reference = ALGORITHMS[name]
    level = "node" if of.of_nodes else "graph"
    task = ModelConfig(mode="regression", task_level=level, return_type="raw")
    data = of.graphs[0] if of.of_nodes else of.graphs
    found = gx.explain(of.model, data, algorithm, index=of.index, task=task, undirected=False, progress=False)
    wrong = []
    for e in found:
        graph = of.graphs[0] if of.of_nodes else of.graphs[e.index]
        size = float(of.run(graph, e.index).detach().abs())
        for part, expected in reference(of, graph, e.index).items():
            got, at = (e.edge_mask, e.edge_id) if part == "edge" else (e.node_mask, e.node_id)
            if name != "features" and e.hops >= 0:
                nodes, edges = reach(of, graph, e.index)
                expected = expected * (edges if part == "edge" else nodes.unsqueeze(1))
            scores = got if name == "features" else torch.zeros_like(expected).index_copy(0, at, got.to(expected.dtype))
            scale = max(size, float(expected.abs().max())) if expected.numel() else size
            gap = float((scores - expected).abs().max()) if expected.numel() else 0.0
            if not gap <= TOLERANCE * scale:
                wrong.append(f"seed {of.seed}, {of.name}, {name}, {level} {e.index}, {part}: {gap:.2g} of {scale:.2g}")
    return wrong


QUICK, FULL = range(140), [range(start, start + 140) for start in range(140, 2380, 140)]


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("seeds", [QUICK, *(pytest.param(seeds, marks=pytest.mark.full) for seeds in FULL)], ids=str)
def test_random_cases(seeds: range) -> None:
    """Cases and algorithms take turns, so that every layer meets every algorithm."""
    names = list(ALGORITHMS)
    wrong = [text for seed in seeds for text in differences(case(seed), names[seed % len(names)])]
    assert not wrong, "\n".join(wrong)


# Metrics #############################################################################################################

TOPS = (1, 2, 4)


def under(of: Case, data: Data, row: int, mask: Tensor, removal: str) -> Tensor:
    """The output with edges multiplied by a mask, or without those whose mask is 0."""
    with torch.no_grad():
        if removal == "structural":
            return of.run(_without_edges(data, mask == 0), row)
        with weighted(of.model, data, mask):
            return of.run(data, row)


def metric_differences(of: Case, removal: str) -> list[str]:
    """Where metrics of an explanation differ from those of a loop, in sentences."""
    task = ModelConfig(mode="regression", task_level="node" if of.of_nodes else "graph", return_type="raw")
    data = of.graphs[0] if of.of_nodes else of.graphs
    algorithm = gx.EdgeAblation(removal=removal, objective="raw")
    found = gx.explain(of.model, data, algorithm, index=of.index, task=task, undirected=False, progress=False)
    curve = gx.metrics.fidelity_curve(of.model, data, found, top=TOPS, level="edge", removal=removal)
    measured = {"fidelity+": curve.plus.unbind(1), "fidelity−": curve.minus.unbind(1)}
    if removal == "message":
        soft = gx.metrics.fidelity(of.model, data, found, level="edge")
        measured = {
            name: (*values, one.values)
            for (name, values), one in zip(measured.items(), (soft.plus, soft.minus), strict=True)
        }
    sparsity, wrong = gx.metrics.sparsity(found, level="edge").values, []
    for position, e in enumerate(found):
        graph = of.graphs[0] if of.of_nodes else of.graphs[e.index]
        full, strength = under(of, graph, e.index, torch.ones_like(graph.edge_weight), removal), e.edge_mask.abs()
        share = strength / strength.max() if len(strength) and bool(strength.any()) else strength
        rank = torch.empty_like(e.edge_id)
        rank[torch.argsort(strength, descending=True, stable=True)] = torch.arange(len(rank))
        masks = [*((rank < top).to(full.dtype) for top in TOPS), share]
        for name, values in measured.items():
            for mask, value in zip(masks, values, strict=False):
                kept = torch.ones_like(graph.edge_weight)
                kept[e.edge_id] = mask if name == "fidelity−" else 1 - mask
                expected = (full - under(of, graph, e.index, kept, removal)).abs()
                if not float((value[position] - expected).abs()) <= TOLERANCE * max(float(full.abs()), float(expected)):
                    wrong.append(
                        f"seed {of.seed}, {of.name}, {removal}, {name}: {value[position]:.5g}, not {expected:.5g}"
                    )
        if len(share) and abs(float(sparsity[position]) - (1 - float(share.double().mean()))) > TOLERANCE:
            wrong.append(f"seed {of.seed}, {of.name}, {removal}, sparsity {sparsity[position]:.5g}")
    return wrong


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize(
    "seeds", [range(40), *(pytest.param(seeds, marks=pytest.mark.full) for seeds in FULL)], ids=str
)
def test_metrics_of_random_cases(seeds: range) -> None:
    """Fidelity of the strongest edges and of all as a soft mask, and sparsity; removals take turns."""
    wrong = [text for seed in seeds for text in metric_differences(case(seed), ("message", "structural")[seed % 2])]
    assert not wrong, "\n".join(wrong)
