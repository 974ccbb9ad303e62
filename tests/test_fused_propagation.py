"""The fast path gives what the plain path gives: outputs and gradients of masks, removals, over layers, models and graphs.

The fast path runs a plan on computation graphs; the plain path runs PyG's own messages on the full graph.
"""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import Batch, Data
from torch_geometric.nn import global_add_pool

import gnn_xai as gx
from gnn_xai.core.engines.prepare import Prepared, prepare
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.expansion import everything, of_graphs
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.inputs.features import by_row, by_value, structure
from gnn_xai.core.model.arguments import as_task, problem_of
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.core.propagation.fused import Propagation
from gnn_xai.core.propagation.plan import Plan
from tests.covering import every_value, pairwise
from tests.models import CLASSES, EDGE_FEATURES, FEATURES, HIDDEN, random_graph, random_graphs, seeded

TOLERANCE = 1e-9  # in double precision; what is tested is the arithmetic, not rounding

# Graphs ##################################################################################################################

INDEX = [7, 0, 11, 3]  # the last node, 11, is isolated


def _with_all_loops(data: Data) -> Data:
    """Every node has a self loop of its own."""
    have = data.edge_index[0, data.edge_index[0] == data.edge_index[1]]
    missing = torch.tensor([v for v in range(data.num_nodes) if v not in have.tolist()])
    count = len(missing)
    return Data(
        x=data.x,
        edge_index=torch.cat([data.edge_index, missing.repeat(2, 1)], 1),
        edge_weight=torch.cat([data.edge_weight, data.edge_weight.new_full((count,), 0.7)]),
        edge_attr=torch.cat([data.edge_attr, data.edge_attr.new_ones(count, EDGE_FEATURES)]),
    )


def _with_double_loops(data: Data) -> Data:
    """Self loops are there twice."""
    loops = (data.edge_index[0] == data.edge_index[1]).nonzero().flatten()
    keep = torch.cat([torch.arange(data.num_edges), loops])
    return Data(
        x=data.x,
        edge_index=data.edge_index[:, keep],
        edge_weight=torch.cat([data.edge_weight, data.edge_weight[loops] + 0.4]),
        edge_attr=data.edge_attr[keep],
    )


def _ring(data: Data) -> Data:
    """Every node of a directed cycle receives one edge, so that degrees are 1 and nothing tells sums from means."""
    nodes = torch.arange(data.num_nodes)
    weight, attr = data.edge_weight[:1].expand(len(nodes)), data.edge_attr[:1].expand(len(nodes), -1)
    return Data(x=data.x, edge_index=torch.stack([nodes, nodes.roll(1)]), edge_weight=weight, edge_attr=attr)


GRAPHS: dict[str, Callable[[int], Data]] = {
    "undirected": lambda seed: random_graph(seed, undirected=True, loops=2, parallel=2),
    "directed": lambda seed: random_graph(seed, edges=24, undirected=False, loops=3, parallel=2),
    "simple": lambda seed: random_graph(seed, undirected=True, loops=0, parallel=0),
    "all_loops": lambda seed: _with_all_loops(random_graph(seed, edges=20, undirected=False)),
    "double_loops": lambda seed: _with_double_loops(random_graph(seed, undirected=True, loops=3)),
    "ring": lambda seed: _ring(random_graph(seed)),
}

# Layers ##################################################################################################################


@dataclass(frozen=True)
class Layer:
    """How to make a layer of a width, and the path that its calls should take.

    Attributes:
        make: `features in -> layer` that gives `HIDDEN` features.
        path: of all its calls.
        steps: how often it propagates.
        hops: how far that reaches, where calls stand side by side.
        extra: argument that it takes beside x and edge_index.
        structural: removals are done on the same path.
    """

    make: Callable[[int], nn.Module]
    path: str = "fused"
    steps: int = 1
    hops: int | None = None
    extra: str | None = None
    structural: bool = True


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN))


class Initial(nn.Module):
    """`GCN2Conv` between linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin = nn.Linear(width, HIDDEN)
        self.conv = pyg.GCN2Conv(HIDDEN, alpha=0.3, theta=0.5, layer=1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.lin(x)
        return self.conv(x, x.tanh(), edge_index)


class Mixed(nn.Module):
    """`MixHopConv` made narrow again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.lin = pyg.MixHopConv(width, 4, powers=[0, 1, 2]), nn.Linear(12, HIDDEN)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.lin(self.conv(x, edge_index))


class Widened(nn.Module):
    """A layer without weights of its own after a linear one."""

    def __init__(self, width: int, conv: nn.Module) -> None:
        super().__init__()
        self.lin, self.conv = nn.Linear(width, HIDDEN), conv

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        x = self.lin(x)
        return self.conv(x, edge_index) if edge_weight is None else self.conv(x, edge_index, edge_weight)


class Pair(nn.Module):
    """A layer that is given different features of senders and of receivers."""

    def __init__(self, width: int, conv: nn.Module) -> None:
        super().__init__()
        self.left, self.right, self.conv = nn.Linear(width, 4), nn.Linear(width, 5), conv

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv((self.left(x), self.right(x)), edge_index)


class Custom(pyg.MessagePassing):
    """A linear layer and a sum of messages; `message` is what a subclass changes."""

    def __init__(self, width: int, aggr: str = "sum") -> None:
        super().__init__(aggr=aggr)
        self.lin = nn.Linear(width, HIDDEN)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=self.lin(x))


class Rectified(Custom):
    def message(self, x_j: Tensor) -> Tensor:
        return x_j.relu()


class Clamped(Custom):
    """Linear for all that is not far away."""

    def message(self, x_j: Tensor) -> Tensor:
        return x_j.clamp(-20, 20)


class Gated(Custom):
    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return x_i.sigmoid() * x_j


class Normed(Custom):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.LayerNorm(HIDDEN)

    def message(self, x_j: Tensor) -> Tensor:
        return self.norm(x_j)


class Projected(Custom):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.second = nn.Linear(HIDDEN, HIDDEN)

    def message(self, x_j: Tensor) -> Tensor:
        return self.second(x_j)


class Shifted(Custom):
    """Not linear: a constant is added."""

    def message(self, x_j: Tensor) -> Tensor:
        return x_j + 1


class Difference(Custom):
    """Twice what the sender has more than the receiver."""

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return 2 * (x_j - x_i)


class Update(Custom):
    def update(self, inputs: Tensor) -> Tensor:
        return inputs.tanh()


class Aggregate(Custom):
    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int | None = None) -> Tensor:
        return torch.zeros(dim_size, HIDDEN, dtype=inputs.dtype).index_add(0, index, inputs.tanh())


class Weighted(Custom):
    """Edge weights made of the features by hand."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.score = nn.Linear(2 * HIDDEN, 1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.lin(x)
        weight = self.score(torch.cat([x[edge_index[0]], x[edge_index[1]]], 1)).sigmoid()
        return self.propagate(edge_index, x=x, weight=weight)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return x_j * weight


class Degrees(Custom):
    """Divided by a power of the degree that no layer of PyG uses."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        degree = torch.bincount(edge_index[1], minlength=len(x)).to(x.dtype) + 1
        return self.propagate(edge_index, x=self.lin(x), norm=degree[edge_index[1]] ** -0.7)

    def message(self, x_j: Tensor, norm: Tensor) -> Tensor:
        return x_j * norm.unsqueeze(1)


class LoopsOfTheLonely(Custom):
    """A self loop for nodes that receive nothing, and for no others."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        lonely = (torch.bincount(edge_index[1], minlength=len(x)) == 0).nonzero().flatten()
        return self.propagate(torch.cat([edge_index, lonely.repeat(2, 1)], 1), x=self.lin(x))


class Hooked(pyg.GraphConv):
    """The user's own hook sits on the messages."""

    def __init__(self, width: int) -> None:
        super().__init__(width, HIDDEN)
        self.register_message_forward_hook(_twice)


def _twice(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
    return 2 * out


def _gcn(**options: Any) -> Callable[[int], nn.Module]:
    return lambda width: pyg.GCNConv(width, HIDDEN, **options)


BACKWARDS: dict[str, Any] = {"flow": "target_to_source"}
WEIGHT, ATTR = "edge_weight", "edge_attr"

FUSED: dict[str, Layer] = {
    "gcn": Layer(_gcn()),
    "gcn_weighted": Layer(_gcn(), extra=WEIGHT),
    "gcn_improved": Layer(_gcn(improved=True)),
    "gcn_improved_weighted": Layer(_gcn(improved=True), extra=WEIGHT),
    "gcn_without_loops": Layer(_gcn(add_self_loops=False)),
    "gcn_cached": Layer(_gcn(cached=True)),
    "gcn_as_given": Layer(_gcn(normalize=False), extra=WEIGHT),
    "gcn_unweighted": Layer(_gcn(normalize=False)),
    "gcn_backwards": Layer(_gcn(**BACKWARDS)),
    "gcn_mean": Layer(_gcn(aggr="mean")),
    "graph_conv": Layer(lambda w: pyg.GraphConv(w, HIDDEN)),
    "graph_conv_weighted": Layer(lambda w: pyg.GraphConv(w, HIDDEN), extra=WEIGHT),
    "graph_conv_mean": Layer(lambda w: pyg.GraphConv(w, HIDDEN, aggr="mean"), extra=WEIGHT),
    "graph_conv_backwards": Layer(lambda w: pyg.GraphConv(w, HIDDEN, **BACKWARDS), extra=WEIGHT),
    "graph_conv_pair": Layer(lambda w: Pair(w, pyg.GraphConv((4, 5), HIDDEN))),
    "sage": Layer(lambda w: pyg.SAGEConv(w, HIDDEN)),
    "sage_sum": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, aggr="sum")),
    "sage_projected": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, project=True)),
    "sage_neighbours": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, root_weight=False)),
    "sage_normalised": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, normalize=True)),
    "sage_backwards": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, **BACKWARDS)),
    "sage_pair": Layer(lambda w: Pair(w, pyg.SAGEConv((4, 5), HIDDEN))),
    "gin": Layer(lambda w: pyg.GINConv(mlp(w), train_eps=True)),
    "sgc": Layer(lambda w: pyg.SGConv(w, HIDDEN, K=2), steps=2),
    "ssgc": Layer(lambda w: pyg.SSGConv(w, HIDDEN, alpha=0.1, K=2), steps=2),
    "tag": Layer(lambda w: pyg.TAGConv(w, HIDDEN, K=2), steps=2),
    "appnp": Layer(lambda w: Widened(w, pyg.APPNP(K=2, alpha=0.2)), steps=2),
    "cheb": Layer(lambda w: pyg.ChebConv(w, HIDDEN, K=3), steps=2, structural=False),
    "le": Layer(lambda w: pyg.LEConv(w, HIDDEN)),
    "le_weighted": Layer(lambda w: pyg.LEConv(w, HIDDEN), extra=WEIGHT),
    "cluster": Layer(lambda w: pyg.ClusterGCNConv(w, HIDDEN), structural=False),
    "mf": Layer(lambda w: pyg.MFConv(w, HIDDEN, max_degree=4)),
    "light": Layer(lambda w: Widened(w, pyg.LGConv())),
    "gcn2": Layer(Initial),
    "mixhop": Layer(Mixed, steps=2),
    "simple": Layer(lambda w: Widened(w, pyg.SimpleConv(aggr="sum"))),
    "simple_weighted": Layer(lambda w: Widened(w, pyg.SimpleConv(aggr="mean")), extra=WEIGHT),
    "difference": Layer(Difference, structural=False),
    "degrees": Layer(Degrees, structural=False),
    "lonely": Layer(LoopsOfTheLonely, structural=False),
    "res_gcn": Layer(lambda w: pyg.DirGNNConv(pyg.SAGEConv(w, HIDDEN)), steps=2, hops=1),
}

ATTENTION: dict[str, Layer] = {
    "gat": Layer(lambda w: pyg.GATConv(w, 3, heads=2)),
    "gat_mean": Layer(lambda w: pyg.GATConv(w, HIDDEN, heads=3, concat=False)),
    "gat_residual": Layer(lambda w: pyg.GATConv(w, HIDDEN, residual=True)),
    "gat_without_loops": Layer(lambda w: pyg.GATConv(w, 3, heads=2, add_self_loops=False)),
    "gat_pair": Layer(lambda w: Pair(w, pyg.GATConv((4, 5), 3, heads=2, add_self_loops=False))),
    "gat2": Layer(lambda w: pyg.GATv2Conv(w, 3, heads=2)),
    "gat2_shared": Layer(lambda w: pyg.GATv2Conv(w, HIDDEN, share_weights=True, residual=True)),
    "gat2_mean": Layer(lambda w: pyg.GATv2Conv(w, HIDDEN, heads=2, concat=False, add_self_loops=False)),
    "gat2_pair": Layer(lambda w: Pair(w, pyg.GATv2Conv((4, 5), HIDDEN))),
    "transformer": Layer(lambda w: pyg.TransformerConv(w, 3, heads=2)),
    "transformer_mean": Layer(lambda w: pyg.TransformerConv(w, HIDDEN, heads=2, concat=False)),
    "transformer_gated": Layer(lambda w: pyg.TransformerConv(w, 3, heads=2, beta=True)),
    "transformer_alone": Layer(lambda w: pyg.TransformerConv(w, HIDDEN, root_weight=False)),
    "transformer_pair": Layer(lambda w: Pair(w, pyg.TransformerConv((4, 5), HIDDEN))),
}
ATTENTION = {name: replace(layer, path="attention") for name, layer in ATTENTION.items()}

MESSAGES: dict[str, Layer] = {
    "sage_max": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, aggr="max")),
    "gcn_max": Layer(lambda w: pyg.GCNConv(w, HIDDEN, aggr="max")),
    "sage_many": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, aggr=["sum", "mean"])),
    "sage_softmax": Layer(lambda w: pyg.SAGEConv(w, HIDDEN, aggr="softmax")),
    "gine": Layer(lambda w: pyg.GINEConv(mlp(w), edge_dim=EDGE_FEATURES), extra=ATTR),
    "edge": Layer(lambda w: pyg.EdgeConv(mlp(2 * w), aggr="sum")),
    "nn": Layer(lambda w: pyg.NNConv(w, HIDDEN, nn.Linear(EDGE_FEATURES, w * HIDDEN), aggr="sum"), extra=ATTR),
    "cg": Layer(lambda w: Widened(w, pyg.CGConv(HIDDEN))),
    "pna": Layer(
        lambda w: pyg.PNAConv(w, HIDDEN, ["sum", "mean"], ["identity", "linear"], torch.tensor([1, 2, 3, 4, 1]))
    ),
    "gen": Layer(lambda w: pyg.GENConv(w, HIDDEN, aggr="add")),
    "gated": Layer(lambda w: Widened(w, pyg.GatedGraphConv(HIDDEN, 2)), "fused", steps=2),
    "arma": Layer(lambda w: pyg.ARMAConv(w, HIDDEN, num_stacks=2)),
    "arma_of_one": Layer(lambda w: pyg.ARMAConv(w, HIDDEN)),
    "super": Layer(lambda w: pyg.SuperGATConv(w, HIDDEN)),
    "gat_of_edges": Layer(lambda w: pyg.GATConv(w, 3, heads=2, edge_dim=EDGE_FEATURES), extra=ATTR),
    "gat2_of_edges": Layer(lambda w: pyg.GATv2Conv(w, 3, heads=2, edge_dim=EDGE_FEATURES), extra=ATTR),
    "transformer_of_edges": Layer(lambda w: pyg.TransformerConv(w, 3, heads=2, edge_dim=EDGE_FEATURES), extra=ATTR),
    "gat_backwards": Layer(lambda w: pyg.GATConv(w, 3, heads=2, add_self_loops=False, **BACKWARDS)),
    "feast": Layer(lambda w: pyg.FeaStConv(w, HIDDEN, heads=2)),
    "supergate": Layer(lambda w: pyg.ResGatedGraphConv(w, HIDDEN)),
    "film": Layer(lambda w: pyg.FiLMConv(w, HIDDEN)),
    "general": Layer(lambda w: pyg.GeneralConv(w, HIDDEN)),
    "rectified": Layer(Rectified),
    "clamped": Layer(Clamped),
    "gate_of_receiver": Layer(Gated),
    "normed": Layer(Normed),
    "projected": Layer(Projected),
    "shifted": Layer(Shifted),
    "own_update": Layer(Update),
    "own_aggregate": Layer(Aggregate),
    "own_weights": Layer(Weighted),
    "hooked": Layer(Hooked),
}
MESSAGES = {name: replace(v, path="messages" if v.path == "fused" else v.path) for name, v in MESSAGES.items()}
MESSAGES.pop("gated")

LAYERS = FUSED | ATTENTION | MESSAGES

# Models ##################################################################################################################


class Net(nn.Module):
    """Two layers of a kind with Tanh between them (no kinks, at which gradients may differ), a head, a readout."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__()
        self.level, self.extra = level, layer.extra
        self.convs = nn.ModuleList([layer.make(FEATURES), layer.make(HIDDEN)])
        self.head = nn.Linear(HIDDEN, CLASSES)

    def call(self, conv: nn.Module, x: Tensor, data: Data) -> Tensor:
        return conv(x, data.edge_index, **({} if self.extra is None else {self.extra: data[self.extra]}))

    def layers(self, data: Data) -> Tensor:
        x = self.call(self.convs[0], data.x, data).tanh()
        return self.call(self.convs[1], x, data).tanh()

    def forward(self, data: Data) -> Tensor:
        x = self.layers(data)
        return self.head(x if self.level == "node" else global_add_pool(x, data.batch, data.num_graphs))


class Jumping(Net):
    """The head sees what every layer gave."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.jump, self.head = pyg.JumpingKnowledge("cat"), nn.Linear(2 * HIDDEN, CLASSES)

    def layers(self, data: Data) -> Tensor:
        first = self.call(self.convs[0], data.x, data).tanh()
        return self.jump([first, self.call(self.convs[1], first, data)])


class Skipping(Net):
    """`x + conv(x)`, and the features themselves at the end."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.head = nn.Linear(HIDDEN + FEATURES, CLASSES)

    def layers(self, data: Data) -> Tensor:
        x = self.call(self.convs[0], data.x, data).tanh()
        return torch.cat([x + self.call(self.convs[1], x, data), data.x], 1)


class Shared(Net):
    """One layer, three times."""

    def layers(self, data: Data) -> Tensor:
        x = self.call(self.convs[0], data.x, data).tanh()
        for _ in range(2):
            x = self.call(self.convs[1], x, data).tanh()
        return x


class Parallel(Net):
    """Two layers side by side, a third on their sum."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.beside = layer.make(FEATURES)

    def layers(self, data: Data) -> Tensor:
        both = self.call(self.convs[0], data.x, data) + self.call(self.beside, data.x, data)
        return self.call(self.convs[1], both.tanh(), data)


class Regularised(Net):
    """Batch normalisation and dropout, as after training."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.norm, self.drop = nn.BatchNorm1d(HIDDEN), nn.Dropout(0.5)
        self.norm.running_mean.uniform_(-0.5, 0.5)
        self.norm.running_var.uniform_(0.5, 2.0)

    def layers(self, data: Data) -> Tensor:
        x = self.drop(self.norm(self.call(self.convs[0], self.drop(data.x), data)).tanh())
        return self.call(self.convs[1], x, data)


class Placed(Net):
    """Positions of all nodes are read after the layers."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.place = nn.Linear(2, HIDDEN)

    def layers(self, data: Data) -> Tensor:
        return super().layers(data) * self.place(data.pos)


class NormedByGraph(Net):
    """A normalisation over the nodes of each graph."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.norm = pyg.GraphNorm(HIDDEN)

    def layers(self, data: Data) -> Tensor:
        x = self.norm(self.call(self.convs[0], data.x, data), data.batch).tanh()
        return self.call(self.convs[1], x, data)


class Residual(Net):
    """The first layer's input is projected and added; features are read three times."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.first = nn.Linear(FEATURES, HIDDEN)

    def layers(self, data: Data) -> Tensor:
        x = (self.call(self.convs[0], data.x, data) + self.first(data.x) + data.x.mean(1, keepdim=True)).tanh()
        return self.call(self.convs[1], x, data)


MODELS: dict[str, tuple[type[Net], int]] = {
    "plain": (Net, 2),
    "jumping": (Jumping, 2),
    "skipping": (Skipping, 2),
    "shared": (Shared, 3),
    "parallel": (Parallel, 2),
    "regularised": (Regularised, 2),
    "placed": (Placed, 2),
    "residual": (Residual, 2),
}


def model_of(layer: Layer, level: str = "node", kind: type[Net] = Net, seed: int = 0) -> nn.Module:
    return seeded(lambda: kind(layer, level), seed)


def data_of(kind: str, level: str = "node", seed: int = 3) -> Any:
    if level == "node":
        data = GRAPHS[kind](seed)
        data.pos = torch.randn(data.num_nodes, 2, generator=torch.Generator().manual_seed(seed)).double()
        return data
    return random_graphs(4, seed, undirected=kind != "directed")


# Both paths ##############################################################################################################


def random(seed: int, *shape: int, like: Tensor) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(like.dtype)


@dataclass(eq=False)
class Both:
    """A model as it is run when prepared, and plainly on the full graph."""

    prepared: Prepared
    session: Session
    index: Tensor

    @classmethod
    def of(cls, problem: Problem, index: Tensor, edge_masks: bool) -> Both:
        prepared = prepare(problem, undirected=True, index=index)
        return cls(prepared, prepared.session(edge_masks=edge_masks), index)

    @property
    def plan(self) -> Plan | None:
        return self.session.plan

    @property
    def paths(self) -> set[str]:
        return {layer["path"] for layer in self.prepared.layers()}

    def fast(self, mask: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Outputs `[B, C]`, gradients by the edge mask `[B, E]`, and by the node mask `[B, N]` or `[B, N, F]`."""
        question, x = self.session, self.session.problem.graphs.x
        parts, place, hops = [], [], []
        for positions, graphs, _ in self.prepared.chunks(question, self.index):
            replicas = question.replicas(graphs, torch.arange(len(graphs)))
            features = question.features
            with question.model(replicas) as model:
                with torch.no_grad():  # nothing may stay of an earlier pass
                    model(edge_mask=torch.zeros_like(replicas.edge, dtype=x.dtype))
                parts.append(self._run(model, mask, None if features is None else features, len(graphs), x))
            place.append(positions)
            hops.append(graphs.hops)
        order = torch.argsort(torch.cat(place))
        out, by_edge, by_node = (torch.cat(part)[order] for part in zip(*parts, strict=True))
        return out, by_edge, by_node, torch.cat(hops)[order]

    def plainly(self, mask: str) -> tuple[Tensor, Tensor, Tensor]:
        """The same, instance by instance, by PyG's own messages on the full graph."""
        problem = self.session.problem
        parts = []
        for i in self.index.tolist():
            if problem.readout.rooted:
                replicas = everything(problem.graphs, torch.tensor([[i]]))
            else:
                replicas = of_graphs(problem.graphs, torch.tensor([i]), 0).replicas(torch.tensor([0]))
            with MaskedModel(problem, replicas) as model:
                parts.append(self._run(model, mask, None, 1, problem.graphs.x))
        out, by_edge, by_node = (torch.cat(part) for part in zip(*parts, strict=True))
        return out, by_edge, by_node

    def _run(self, model: MaskedModel, kind: str, features: Any, size: int, x: Tensor) -> tuple[Tensor, ...]:
        replicas, graphs = model.replicas, model.problem.graphs
        edge = random(1, graphs.num_edges, like=x)[replicas.edge_id].requires_grad_()
        every = random(2, *(x.shape[:1] if kind == "row" else x.shape), like=x)
        node = every[replicas.node_id].requires_grad_()
        if features is None:
            given = replicas.x * (node.reshape(-1, *[1] * (x.dim() - 1)) if kind == "row" else node)
        elif kind == "row":
            given = by_row(features, replicas.node_id, node)
        else:
            csr, values = structure(features, replicas.node_id)
            given = by_value(features, replicas.node_id, csr, values * node.reshape(len(node), -1)[csr.row, csr.col])
        out = model(edge_mask=edge, x=given)
        direction = random(3, out.size(1), like=x) - 0.3
        by_edge, by_node = torch.autograd.grad((out * direction).sum(), [edge, node], materialize_grads=True)
        edge_place = replicas.edge_owner * graphs.num_edges + replicas.edge_id
        node_place = replicas.node_owner * graphs.num_nodes + replicas.node_id
        assert len(edge_place.unique()) == len(edge_place)
        if len(replicas) == 1 or size == 1:
            edge_place, node_place = replicas.edge_id, replicas.node_id
        return (
            out.detach(),
            by_edge.new_zeros(size * graphs.num_edges).index_add(0, edge_place, by_edge).reshape(size, -1),
            by_node.new_zeros(size * graphs.num_nodes, *node.shape[1:])
            .index_add(0, node_place, by_node)
            .reshape(size, graphs.num_nodes, *node.shape[1:]),
        )


def agree(
    model: nn.Module,
    data: Any,
    level: str = "node",
    index: list[int] | None = None,
    tolerance: float = TOLERANCE,
    masks: tuple[str, ...] = ("row", "value"),
    forward: Any = None,
    edge_masks: bool = True,
) -> tuple[Both, Tensor]:
    """Compare both paths; returns them, and the hops of the computation graphs."""
    index = (INDEX if level == "node" else [2, 0, 3, 1]) if index is None else index
    graphs = as_graphs(data, torch.device("cpu"))
    problem = problem_of(model, graphs, as_task(level, data), forward)
    hops = torch.zeros(0)
    with untouched(model) as evaluating, evaluating, torch.enable_grad():
        both = Both.of(problem, torch.tensor(index), edge_masks)
        for mask in masks:
            *found, hops = both.fast(mask)
            for what, one, other in zip(("output", "edges", "nodes"), found, both.plainly(mask), strict=True):
                torch.testing.assert_close(
                    one, other, rtol=tolerance, atol=tolerance, msg=lambda text, what=what: f"{what}: {text}"
                )
    return both, hops


# No synchronisation inside the loop ######################################################################################


class Synchronising(TorchDispatchMode):
    """Counts operations whose result's value or shape the host has to wait for on a GPU."""

    OPS = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "equal",
        "is_nonzero",
        "item",
        "unique",
        "_unique",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "repeat_interleave",
        "bincount",
        "_to_copy_to_host",
    )

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        sized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is not None
        if (name in self.OPS and not sized) or by_mask:
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


def synchronisations(model: nn.Module, data: Any, level: str, epochs: int, **options: Any) -> Counter[str]:
    algorithm = gx.GNNExplainer(epochs=epochs, **options)
    with Synchronising() as mode:
        gx.explain(model, data, algorithm, task=level, progress=False)
    return mode.count


def test_synchronisations_are_seen() -> None:
    x = torch.rand(4)
    with Synchronising() as mode:
        for act in (x.sum().item, lambda: x[x > 0], lambda: bool(x.any()), x.nonzero, x.unique):
            before = sum(mode.count.values())
            act()
            assert sum(mode.count.values()) > before
        x[x > 0] = 0
        torch.equal(x, x)
    assert mode.count["index_put_"] == mode.count["equal"] == 1


@pairwise(
    name=["gcn", "gin", "sage", "gat", "transformer", "gine"],
    node_mask_type=["object", "attributes", "common_attributes", None],
    level=["node", "graph"],
)
def test_no_host_synchronisation_inside_the_epoch_loop(name: str, node_mask_type: str | None, level: str) -> None:
    model, data = model_of(LAYERS[name], level), data_of("undirected", level)
    counts = [
        synchronisations(model, data, level, epochs, node_mask_type=node_mask_type, init_std=0.1) for epochs in (3, 6)
    ]
    assert counts[0], "the set-up synchronises, and that should be seen"
    assert counts[1] - counts[0] == Counter()


# Outputs and gradients ###################################################################################################


@every_value(name=[*FUSED, *ATTENTION], kind=["undirected", "directed", "all_loops"])
def test_layers(name: str, kind: str) -> None:
    layer = LAYERS[name]
    both, hops = agree(model_of(layer), data_of(kind), masks=("row",))
    assert both.paths == {layer.path}, both.prepared.layers()
    assert len(both.prepared.layers()) == 2 * layer.steps
    # Degrees are carried, so the border needs no hop more.
    assert hops.tolist() == [2 * (layer.hops or layer.steps)] * len(INDEX)
    assert both.plan is not None
    assert both.plan.trim
    assert both.session.features is not None


@pytest.mark.parametrize("name", MESSAGES)
def test_layers_that_keep_their_messages(name: str) -> None:
    both, _ = agree(model_of(LAYERS[name]), data_of("directed"), masks=("row",))
    assert both.paths == {"messages"}, both.prepared.layers()
    assert len(both.prepared.layers()) == 2 * LAYERS[name].steps


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sage_max", "it aggregates by max"),
        ("own_update", "aggregates or updates in a way of its own"),
        ("gat_of_edges", "its attention reads edge features"),
        ("gate_of_receiver", "not a number times the sender's features"),
    ],
)
def test_why_a_layer_keeps_its_messages(name: str, why: str) -> None:
    """Said where it is found out, before anything is compared: a wrong plan would be noticed later, for another reason."""
    both, _ = agree(model_of(LAYERS[name]), data_of("directed"), index=[7], masks=("row",))
    assert [why in layer["why"] for layer in both.prepared.layers()] == [True, True]


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_of_graphs(name: str) -> None:
    layer = LAYERS[name]
    both, _ = agree(model_of(layer, "graph"), data_of("directed", "graph"), "graph", masks=("row",))
    assert both.paths == {layer.path}, both.prepared.layers()


@pytest.mark.parametrize("name", ["gcn", "gin", "sage", "graph_conv_weighted", "gat", "transformer", "gine"])
@pytest.mark.parametrize("shape", list(MODELS))
def test_models(shape: str, name: str) -> None:
    kind, steps = MODELS[shape]
    both, hops = agree(model_of(LAYERS[name], kind=kind), data_of("directed"))
    assert both.paths == {LAYERS[name].path}
    if LAYERS[name].path != "messages":
        assert hops.tolist() == [steps] * len(INDEX)
        assert both.plan is not None
        assert both.plan.trim


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "gat2", "transformer", "graph_conv_weighted"])
def test_normalisation_over_graphs(name: str) -> None:
    """A layer that looks at all nodes of a graph: no row can be left out."""
    both, _ = agree(model_of(LAYERS[name], "graph", NormedByGraph), data_of("directed", "graph"), "graph")
    assert both.paths == {LAYERS[name].path}
    assert both.plan is not None
    assert not both.plan.trim
    with pytest.warns(gx.errors.GnnXaiWarning, match="not local"):
        both, _ = agree(model_of(LAYERS[name], kind=NormedByGraph), data_of("directed"))


@pytest.mark.parametrize("name", ["gcn", "gin", "sage", "gat", "transformer"])
@pytest.mark.parametrize("shape", ["jumping", "skipping", "regularised"])
def test_models_of_graphs(shape: str, name: str) -> None:
    both, _ = agree(model_of(LAYERS[name], "graph", MODELS[shape][0]), data_of("directed", "graph"), "graph")
    assert both.paths == {LAYERS[name].path}


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "le_weighted", "gat", "gat2", "transformer"])
def test_single_precision(name: str) -> None:
    data = data_of("directed").apply(lambda value: value.float() if value.is_floating_point() else value)
    both, _ = agree(model_of(LAYERS[name]).float(), data, tolerance=1e-5)
    assert both.paths == {LAYERS[name].path}


class Wide(Net):
    """Wide features, of which few are not 0."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.convs[0] = layer.make(40)


def wide(kind: str = "undirected") -> Data:
    data = data_of(kind)
    rng = torch.Generator().manual_seed(0)
    data.x = torch.randn(data.num_nodes, 40, generator=rng).double()
    data.x[torch.rand(data.x.shape, generator=rng) < 0.9] = 0
    data.x[3] = 0
    return data


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "tag", "sgc", "gat", "gat2", "transformer", "gine"])
def test_wide_and_sparse_features(name: str) -> None:
    both, _ = agree(model_of(LAYERS[name], kind=Wide), wide())
    assert both.paths == {LAYERS[name].path}
    if LAYERS[name].path != "messages":
        assert both.session.features is not None
        assert both.session.features.sparse


# Plans ###################################################################################################################


@pytest.mark.parametrize("name", ["gcn", "sage", "gat", "le_weighted"])
def test_a_pickled_plan_gives_the_same_numbers(name: str) -> None:
    both, _ = agree(model_of(LAYERS[name]), data_of("directed"), masks=("row",))
    expected, session = both.fast("row"), both.session
    both.session = replace(session, plan=pickle.loads(pickle.dumps(session.plan)))
    for one, other in zip(both.fast("row"), expected, strict=True):
        assert torch.equal(one, other)


def test_calls_with_equal_coefficients_share_them() -> None:
    both, _ = agree(model_of(LAYERS["gcn"]), data_of("directed"), masks=("row",))
    assert both.plan is not None
    assert [route.coefficients for route in both.plan.routes] == [0, 0]
    assert len(both.plan.coefficients) == 1


class SideBySide(Net):
    """Two layers that read the same input, then one that reads both."""

    def __init__(self, layer: Layer, level: str) -> None:
        super().__init__(layer, level)
        self.other = layer.make(FEATURES)

    def layers(self, data: Data) -> Tensor:
        both = self.call(self.convs[0], data.x, data) + self.call(self.other, data.x, data)
        return self.call(self.convs[1], both.tanh(), data)


@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_calls_side_by_side_compute_what_can_still_reach_a_target(name: str) -> None:
    both, _ = agree(model_of(LAYERS[name], kind=SideBySide), data_of("directed"), masks=("row",))
    expected, session = both.fast("row"), both.session
    assert both.plan is not None
    assert [route.remaining for route in both.plan.routes] == [1, 1, 0]
    (piece,) = both.prepared.chunks(both.session, both.index)
    depth = piece.graphs.node_depth
    for shrink in (False, True):
        plan = replace(session.plan, trim=True, shrink=shrink)
        both.session = replace(session, plan=plan)
        assert not plan.is_chain
        replicas = both.session.replicas(piece.graphs, torch.arange(len(piece.graphs)))
        near = int((depth <= 1).sum())
        assert [Propagation(plan, replicas).rows(number) for number in range(3)] == [near, near, len(replicas)]
        for one, other in zip(both.fast("row"), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["gcn", "le_weighted", "gat"])
def test_fused_calls_take_hooks(name: str) -> None:
    both, _ = agree(model_of(LAYERS[name]), data_of("directed"), masks=("row",))
    session = both.session
    (piece,) = both.prepared.chunks(both.session, both.index)
    replicas = session.replicas(piece.graphs, torch.arange(len(piece.graphs)))
    assert session.plan is not None
    propagation, layers = Propagation(session.plan, replicas), []
    mask = torch.ones(len(replicas.edge), dtype=torch.float64, requires_grad=True)

    def gradient() -> Tensor:
        with session.model(replicas, propagation) as model:
            return torch.autograd.grad(model(edge_mask=mask).sum(), mask)[0]

    for call in propagation.calls:
        call.register_forward_hook(lambda module, inputs, out: layers.append((module.layer, len(out))))
    assert bool((gradient() != 0).any())
    names = [route.layer for route in session.plan.routes]
    assert layers == [(layer, propagation.rows(number)) for number, layer in enumerate(names)]
    for call in propagation.calls:
        call.register_full_backward_hook(lambda module, inputs, out: tuple(g if g is None else 0 * g for g in inputs))
    assert bool((gradient() == 0).all())


def test_all_targets_at_once_and_some_twice() -> None:
    for name in ("gcn", "sage", "gat"):
        model = model_of(LAYERS[name])
        agree(model, data_of("directed"), index=[*range(12), 3, 3])
        for alone in (0, 3, 11):
            agree(model, data_of("directed"), index=[alone], masks=("row",))


def test_graphs_without_edges() -> None:
    data = data_of("simple")
    data.edge_index, data.edge_weight = data.edge_index[:, :0], data.edge_weight[:0]
    for name in ("gcn", "graph_conv", "sage", "gin", "gat", "gat2", "transformer"):
        agree(model_of(LAYERS[name]), data, edge_masks=False)


@pytest.mark.parametrize("shape", ["skipping", "residual", "placed"])
def test_most_nodes_receive_nothing(shape: str) -> None:
    """What a model bears is tried on nodes around which there is something: most rows of these graphs are targets' own."""
    rng = torch.Generator().manual_seed(0)
    nodes, receivers = 200, torch.arange(3, 200, 20)
    edge_index = torch.stack([torch.arange(400) % nodes, receivers[torch.arange(400) % len(receivers)]])
    x, pos = (torch.randn(nodes, width, generator=rng).double() for width in (FEATURES, 2))
    for name in ("gcn", "sage"):
        data = Data(x=x, pos=pos, edge_index=edge_index)
        both, _ = agree(model_of(LAYERS[name], kind=MODELS[shape][0]), data, index=receivers[:3].tolist())
        assert both.paths == {"fused"}


# What cannot be fused ####################################################################################################


@every_value(layer=[Rectified, Clamped, Shifted, Gated, Projected, Normed, Update, Aggregate], seed=range(6))
def test_one_edge_is_enough_to_tell(layer: type[Custom], seed: int) -> None:
    """However few edges there are, and whatever lies on them: a layer is fused for what it is."""
    data = Data(x=torch.rand(3, FEATURES).double() + 0.5, edge_index=torch.tensor([[0], [1]]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        both, _ = agree(model_of(Layer(layer)), data, index=[0, 1, 2])
    assert both.paths == {"messages"}


class Turned(Custom):
    """Features of the sender in another order."""

    def message(self, x_j: Tensor) -> Tensor:
        return x_j.flip(-1)


def test_features_in_another_order() -> None:
    both, _ = agree(model_of(Layer(Turned)), data_of("directed"))
    assert both.paths == {"messages"}


class Temporal(nn.Module):
    """Features `[N, T, F]`, which the layer sees as `[T, N, F]`; as many times as edges."""

    def __init__(self, conv: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv, self.second = conv(FEATURES), conv(HIDDEN)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.conv(x.transpose(0, 1), edge_index).tanh(), edge_index).mean(0)


@every_value(name=["gcn", "graph_conv", "sage", "gin", "le"], times=[1, 2, 24])
def test_features_with_a_dimension_before_the_nodes(name: str, times: int) -> None:
    data = random_graph(3, edges=24, undirected=False, loops=0, parallel=0)
    assert data.num_edges == 24
    rng = torch.Generator().manual_seed(0)
    data = Data(x=torch.randn(12, times, FEATURES, generator=rng).double(), edge_index=data.edge_index)
    both, _ = agree(seeded(lambda: Temporal(LAYERS[name].make)), data)
    assert both.paths == {"messages"}


class Filtered(nn.Module):
    """The second layer runs on edges that the first one's features choose."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = pyg.GraphConv(FEATURES, HIDDEN), pyg.GraphConv(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        kept = x[edge_index[0], 0] + x[edge_index[1], 0] > 0
        return self.second(self.first(x, edge_index).tanh(), edge_index[:, kept])


def test_edges_chosen_by_features() -> None:
    with pytest.raises(gx.errors.MaskingError, match=r"second \(GraphConv\) runs on edges that change"):
        gx.explain(seeded(Filtered), data_of("directed"), gx.GNNExplainer(epochs=2), progress=False)
    check_removals(seeded(Filtered), data_of("directed"))


class FromPositions(nn.Module):
    """Edge weights made by hand of what no mask can change."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = pyg.GraphConv(FEATURES, HIDDEN), pyg.GCNConv(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, pos: Tensor) -> Tensor:
        weight = (-(pos[edge_index[0]] - pos[edge_index[1]]).square().sum(1)).exp()
        return self.second(self.first(x, edge_index, weight).tanh(), edge_index, weight)


def test_weights_made_of_what_no_mask_changes() -> None:
    both, hops = agree(seeded(FromPositions), data_of("directed"))
    assert both.paths == {"fused"}
    assert hops.tolist() == [2] * 4
    check_removals(seeded(FromPositions), data_of("directed"), path="messages")  # nobody says what weights will be


def test_hooks_of_the_user() -> None:
    """On messages they keep a layer from being fused; elsewhere they run as ever."""
    for hook in ("message_forward", "propagate_forward", "aggregate_forward", "propagate_forward_pre"):
        model = model_of(LAYERS["graph_conv"])
        pre = hook.endswith("pre")
        getattr(model.convs[0], f"register_{hook}_hook")((lambda m, given: None) if pre else _twice)
        both, _ = agree(model, data_of("directed"))
        assert [layer["path"] for layer in both.prepared.layers()] == ["messages", "fused"]
    model = model_of(LAYERS["gcn"])
    model.convs[0].register_forward_hook(_twice)
    both, _ = agree(model, data_of("directed"))
    assert both.paths == {"fused"}


class _Reversed(torch.autograd.Function):
    """The identity; backwards, minus."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


@torch.jit.script
def _scripted(x: Tensor) -> Tensor:
    return x.tanh()


READINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "scripted": _scripted,
    "autograd function": _Reversed.apply,
    "detached": lambda x: x.detach(),
}


class Reading(Net):
    """Features are first read by something else than a layer."""

    how = "scripted"

    def layers(self, data: Data) -> Tensor:
        data = copy.copy(data)
        data.x = READINGS[self.how](data.x)
        return super().layers(data)


@every_value(how=list(READINGS), level=["node", "graph"])
def test_readings_that_gradients_do_not_follow(how: str, level: str) -> None:
    """Features are no tensor to what goes past PyTorch's functions: the output may be right where the gradient is not."""
    model = model_of(LAYERS["gcn"], level, Reading)
    model.how = how
    agree(model, data_of("directed", level), level)


class Three(nn.Module):
    """A layer that can be fused, one that cannot, and another one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = pyg.GCNConv(FEATURES, HIDDEN), pyg.GINEConv(mlp(HIDDEN), edge_dim=EDGE_FEATURES)
        self.third = pyg.GATConv(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        x = self.first(x, edge_index).tanh()
        return self.third(self.second(x, edge_index, edge_attr).tanh(), edge_index)


def test_paths_side_by_side() -> None:
    for kind in ("undirected", "directed"):
        both, _ = agree(seeded(Three), data_of(kind))
        assert [layer["path"] for layer in both.prepared.layers()] == ["fused", "messages", "attention"]


def test_weights_of_features_spare_the_other_layers() -> None:
    """A layer whose coefficients change is known before anything is tried, so that the rest keeps its path."""

    class Weighing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = pyg.GCNConv(FEATURES, HIDDEN), Weighted(HIDDEN)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.second(self.first(x, edge_index).tanh(), edge_index)

    both, _ = agree(seeded(Weighing), data_of("directed"))
    assert [layer["path"] for layer in both.prepared.layers()] == ["fused", "messages"]
    assert "changes with features" in both.prepared.layers()[1]["why"]


def test_provenance_says_which_path_and_why() -> None:
    found = gx.explain(seeded(Three), data_of("directed"), gx.GNNExplainer(epochs=2), progress=False)
    layers = found.provenance["layers"]
    assert [layer["layer"] for layer in layers] == ["first (GCNConv)", "second (GINEConv)", "third (GATConv)"]
    assert [layer["path"] for layer in layers] == ["fused", "messages", "attention"]
    assert [layer["masked"] for layer in layers] == [True] * 3
    assert ["why" in layer for layer in layers] == [False, True, False]


# Removals ################################################################################################################


def _without(data: Data, nodes: list[int], edges: list[int]) -> Data:
    """The graph rebuilt without some nodes and all edges at them, and without some edges."""
    keep = torch.ones(data.num_nodes, dtype=torch.bool).index_fill(0, torch.tensor(nodes, dtype=torch.int64), False)
    kept = torch.ones(data.num_edges, dtype=torch.bool).index_fill(0, torch.tensor(edges, dtype=torch.int64), False)
    kept &= keep[data.edge_index].all(0)
    place = keep.long().cumsum(0) - 1
    out = Data(edge_index=place[data.edge_index[:, kept]], num_nodes=int(keep.sum()))
    for name, value in data.to_dict().items():
        if name != "edge_index" and isinstance(value, Tensor):
            out[name] = value[kept if name.startswith("edge") else keep]
    return out


def check_removals(
    model: nn.Module,
    data: Any,
    level: str = "node",
    path: str | None = None,
    index: list[int] | None = None,
    undirected: bool = True,
    tolerance: float = TOLERANCE,
) -> None:
    """Ablations of edges and nodes against graphs that are rebuilt, one for each, and run plainly."""
    index = (INDEX if level == "node" else [2, 0, 3]) if index is None else index
    every = data if isinstance(data, list) else [data]
    graphs = as_graphs(data, torch.device("cpu"))
    tied = undirected and "auto"

    def output(graph: list[Data], row: list[int]) -> Tensor:
        batch = Batch.from_data_list(graph)
        with torch.no_grad(), untouched(model) as evaluating, evaluating:
            out = problem_of(model, graphs, as_task(level, data), None).forward(model, batch)
        return out[batch.ptr[:-1] + torch.tensor(row), 0] if level == "node" else out[:, 0]

    for algorithm in (gx.EdgeAblation, gx.NodeAblation):
        options = {"task": level, "index": index, "target": 0, "undirected": tied, "progress": False}
        found = gx.explain(model, data, algorithm(removal="structural", objective="raw"), **options)
        if path is not None:
            assert {layer["path"] for layer in found.provenance["layers"]} == {path}, found.provenance["layers"]
        for e in found:
            graph = every[0 if level == "node" else e.index]
            offset = int(graphs.edge_ptr[0 if level == "node" else e.index])
            variants, rows = [graph], [e.index]
            for removed in (e.edge_id if algorithm is gx.EdgeAblation else e.node_id).tolist():
                row = e.index
                if algorithm is gx.EdgeAblation:
                    reverse = int(graphs.reverse[removed + offset]) - offset if undirected else -1
                    variants.append(_without(graph, [], [removed] + [reverse] * (reverse >= 0)))
                elif (level == "node" and removed == e.index) or graph.num_nodes == 1:
                    variants.append(Data(**graph.to_dict()))
                    variants[-1].x = graph.x.index_fill(0, torch.tensor([removed]), 0)
                else:
                    variants.append(_without(graph, [removed], []))
                    row -= int(removed < e.index)
                rows.append(row)
            out = output(variants, rows)
            scores = e.edge_mask if algorithm is gx.EdgeAblation else e.node_mask.flatten()
            expected = out[0] - out[1:]
            torch.testing.assert_close(scores.to(expected.dtype), expected, rtol=tolerance, atol=tolerance)


def path_of_removals(layer: Layer, kind: str) -> str:
    # Where every node has a loop of its own, nobody can tell whether the layer would add one.
    return layer.path if layer.structural and kind != "all_loops" else "messages"


@pytest.mark.filterwarnings("ignore:the model is not local:gnn_xai.errors.GnnXaiWarning")  # Laplacians, plainly
@every_value(name=[*FUSED, *ATTENTION], kind=["undirected", "directed"])
def test_removals(name: str, kind: str) -> None:
    check_removals(model_of(LAYERS[name]), data_of(kind), path=path_of_removals(LAYERS[name], kind))


LOOPED = ["gcn", "gcn_weighted", "gcn_improved", "gcn_improved_weighted", "gcn_without_loops", "gcn_mean", "gin", "gat"]


@every_value(
    name=[*LOOPED, "sage", "graph_conv_mean", "gat_without_loops", "light", "transformer"],
    kind=["simple", "all_loops", "double_loops", "ring"],
)
def test_removals_of_loops(name: str, kind: str) -> None:
    check_removals(model_of(LAYERS[name]), data_of(kind))


@pytest.mark.parametrize("name", [*LOOPED, "sage", "gcn_backwards", "graph_conv_backwards", "sgc", "gat2"])
def test_removals_of_one_direction(name: str) -> None:
    check_removals(
        model_of(LAYERS[name]), data_of("undirected"), path=path_of_removals(LAYERS[name], ""), undirected=False
    )


@every_value(
    name=[*LOOPED, "sage", "le", "gat2", "transformer", "gine", "cheb", "lonely"], kind=["undirected", "directed"]
)
def test_removals_in_graphs(name: str, kind: str) -> None:
    check_removals(model_of(LAYERS[name], "graph"), data_of(kind, "graph"), "graph")


@pytest.mark.parametrize("name", ["gcn", "gin", "gat", "gcn_improved_weighted"])
def test_removals_in_graphs_of_which_some_are_explained(name: str) -> None:
    """What a layer does is read off the graphs that are explained: here they are full of loops, the others are not."""
    data = [_with_all_loops(random_graph(seed, undirected=False)) for seed in range(2)]
    data += [random_graph(seed, undirected=False) for seed in range(2)]
    check_removals(model_of(LAYERS[name], "graph"), data, "graph", index=[1, 0])


@pairwise(shape=list(MODELS), name=["gcn", "sage", "gat"], kind=["undirected", "directed"])
def test_removals_in_models(shape: str, name: str, kind: str) -> None:
    check_removals(model_of(LAYERS[name], kind=MODELS[shape][0]), data_of(kind), path=LAYERS[name].path)


def test_removals_in_single_precision() -> None:
    """A degree from which everything is taken is 0, whatever rounding leaves of it."""
    for kind in ("undirected", "directed"):
        data = data_of(kind).apply(lambda value: value.float() if value.is_floating_point() else value)
        for name in ("gcn", "gcn_weighted", "gcn_without_loops", "gcn_improved", "sage", "gat"):
            check_removals(model_of(LAYERS[name]).float(), data, path=LAYERS[name].path, tolerance=1e-5)
    data.edge_weight = data.edge_weight / 3  # what is left of a sum of thirds is not quite 0
    model = seeded(lambda: Net(replace(LAYERS["gcn_without_loops"], extra=WEIGHT), "node"), dtype=torch.float32)
    check_removals(model, data, path="fused", tolerance=1e-5)
