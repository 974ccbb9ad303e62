"""Every algorithm and metric once more: slowly, plainly, one instance at a time, on the full graph.

Written without the package's core, from which only the keyed random numbers are taken, so that both start from the same
initial masks and noise. Edges are matched by Python dictionaries, neighbourhoods found by a queue, graphs rebuilt for
every removal. Models are multiclass on logits and take their arguments under the names of `tests.models`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing

from gnn_xai.core.arrays.keyed_random import keyed_normal, keyed_uniform


def run(model: nn.Module, data: Data, x: Tensor | None = None, roots: Sequence[int] = ()) -> Tensor:
    """The model's output on one graph; for two roots, of a pair of nodes."""
    given = {name: data[name] for name in ("edge_attr", "edge_weight") if name in data}
    given |= {"x": data.x if x is None else x, "edge_index": data.edge_index}
    given["batch"] = torch.zeros(data.num_nodes, dtype=torch.int64)
    given["edge_label_index"] = torch.tensor(roots).unsqueeze(-1)
    wanted = inspect.signature(model.forward).parameters
    return model(**{name: value for name, value in given.items() if name in wanted})


@contextmanager
def masked(model: nn.Module, data: Data, mask: Tensor):
    """Multiply the message of edge e by `mask[e]`, wherever a layer puts it; loops that a layer adds count fully."""
    current: list[list[int]] = []
    copies = defaultdict(list)
    for edge, (u, v) in enumerate(data.edge_index.t().tolist()):
        copies[u, v].append(edge)

    def before(module: MessagePassing, inputs: Any) -> None:
        seen: dict[tuple[int, int], int] = defaultdict(int)
        places = []
        for u, v in inputs[0].t().tolist():
            occurrence = seen[u, v]
            seen[u, v] += 1
            places.append(copies[u, v][occurrence] if occurrence < len(copies[u, v]) else len(mask))
        current[:] = [places]

    def after(module: MessagePassing, inputs: Any, out: Tensor) -> Tensor:
        factor = torch.cat([mask, mask.new_ones(1)])[current[0]]
        return out * (factor if out.dim() == 1 else factor.reshape([-1] + [1] * (out.dim() - 1)))

    handles = []
    for module in model.modules():
        if isinstance(module, MessagePassing):
            handles.append(module.register_propagate_forward_pre_hook(before))
            handles.append(module.register_message_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def score(logits: Tensor, target: int, objective: str = "margin") -> Tensor:
    """The scalar objective of one row of logits `[C]`."""
    if objective == "raw":
        return logits[target]
    if objective == "prob":
        return logits.softmax(0)[target]
    if objective == "log_prob":
        return logits.log_softmax(0)[target]
    others = [logits[c] for c in range(len(logits)) if c != target]
    return logits[target] - torch.stack(others).logsumexp(0)


@dataclass(eq=False)
class Reference:
    """One explained output of a model.

    Attributes:
        model, data: the model and one graph.
        steps: message-passing steps of the model.
        root: the explained node, or the pair of nodes; `None` explains the graph.
        target: the class; `None` for the predicted one.
        key: what random numbers of this instance are keyed by.
        seed: of the random numbers.
        undirected: tie the two directions of an edge, if the graph is undirected.
        flow: the direction in which layers pass messages.
    """

    model: nn.Module
    data: Data
    steps: int
    root: int | tuple[int, int] | None
    target: int | None = None
    key: int | None = None
    seed: int = 0
    undirected: bool = True
    flow: str = "source_to_target"
    nodes: list[int] = field(init=False)
    edges: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ends = self.data.edge_index.t().tolist()
        self.roots = [] if self.root is None else [self.root] if isinstance(self.root, int) else list(self.root)
        self.key = self.root if self.key is None else self.key
        self.depth = self._depths()
        radius = math.inf if self.root is None else self.steps
        self.nodes = [v for v in range(self.data.num_nodes) if self.depth[v] <= radius]
        self.edges = [e for e in range(len(self.ends)) if self.depth[self._receiver(e)] <= radius - 1]
        self.partner = self._partners()
        self.unit = {e: self._unit(e) for e in self.edges}
        with torch.no_grad():
            self.logits = self.output()
        if self.target is None:
            self.target = int(self.logits.argmax())

    # The neighbourhood ###############################################################################################

    def _receiver(self, edge: int) -> int:
        return self.ends[edge][1 if self.flow == "source_to_target" else 0]

    def _sender(self, edge: int) -> int:
        return self.ends[edge][0 if self.flow == "source_to_target" else 1]

    def _depths(self) -> list[float]:
        """How many messages it takes from each node to a root."""
        if self.root is None:
            return [0.0] * self.data.num_nodes
        depth = [math.inf] * self.data.num_nodes
        for root in self.roots:
            depth[root] = 0.0
        queue = deque(self.roots)
        while queue:
            v = queue.popleft()
            for edge in range(len(self.ends)):
                u = self._sender(edge)
                if self._receiver(edge) == v and depth[u] == math.inf:
                    depth[u] = depth[v] + 1
                    queue.append(u)
        return depth

    def _partners(self) -> dict[int, int]:
        """The k-th u→v goes with the k-th v→u, in a graph where every edge finds its partner."""
        if not self.undirected:
            return {}
        copies = defaultdict(list)
        for edge, (u, v) in enumerate(self.ends):
            copies[u, v].append(edge)
        partner = {}
        for (u, v), ids in copies.items():
            if len(copies.get((v, u), [])) != len(ids):
                return {}
            partner |= dict(zip(ids, copies[v, u], strict=True))
        return partner

    def _unit(self, edge: int) -> int:
        other = self.partner.get(edge)
        return min(edge, other) if other in set(self.edges) else edge

    # The model #######################################################################################################

    def output(self, x: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Logits `[C]` of the explained output, with node features `x` and an edge mask `[E]` over the full graph."""
        if mask is None:
            return self._read(self.data, x)
        with masked(self.model, self.data, mask):
            return self._read(self.data, x)

    def _read(self, data: Data, x: Tensor | None = None, nodes: list[int] | None = None) -> Tensor:
        """Logits `[C]` of the explained output on a graph, which may hold some of the nodes only."""
        roots = [root if nodes is None else nodes.index(root) for root in self.roots]
        return run(self.model, data, x, roots)[roots[0] if len(roots) == 1 else 0]

    def without_edges(self, removed: Sequence[int]) -> Tensor:
        """Logits `[C]` on a graph rebuilt without some edges."""
        kept = [e for e in range(len(self.ends)) if e not in set(removed)]
        data = self._rebuilt(list(range(self.data.num_nodes)), kept)
        return self._read(data)

    def _rebuilt(self, nodes: list[int], edges: list[int]) -> Data:
        place = {v: i for i, v in enumerate(nodes)}
        ends = [[place[u], place[v]] for u, v in (self.ends[e] for e in edges)]
        data = Data(x=self.data.x[nodes], edge_index=torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).t())
        for name in ("edge_attr", "edge_weight"):
            if name in self.data:
                data[name] = self.data[name][edges]
        return data

    def ones(self) -> Tensor:
        return torch.ones(len(self.ends), dtype=self.data.x.dtype)

    # Gradients #######################################################################################################

    def gradient(self, x: Tensor, mask: Tensor, objective: str) -> tuple[Tensor, Tensor]:
        """∂ score / ∂ (x, mask): `[N, F]` and `[E]`, the latter summed over tied directions."""
        x, mask = x.clone().requires_grad_(), mask.clone().requires_grad_()
        value = score(self.output(x, mask), self.target, objective)
        by_x, by_mask = torch.autograd.grad(value, [x, mask], allow_unused=True)
        by_x = torch.zeros_like(x) if by_x is None else by_x
        by_mask = torch.zeros_like(mask) if by_mask is None else by_mask
        tied = torch.zeros_like(by_mask)
        for e in self.edges:
            tied[e] = sum(by_mask[o] for o in self.edges if self.unit[o] == self.unit[e])
        return by_x, tied

    def saliency(self, objective: str = "margin", absolute: bool = True) -> tuple[Tensor, Tensor]:
        x, edge = self.gradient(self.data.x, self.ones(), objective)
        return (x.abs(), edge.abs()) if absolute else (x, edge)

    def input_x_gradient(self, objective: str = "margin") -> tuple[Tensor, Tensor]:
        x, edge = self.gradient(self.data.x, self.ones(), objective)
        return x * self.data.x, edge

    def integrated_gradients(self, steps: int, objective: str = "margin") -> tuple[Tensor, Tensor]:
        points, weights = np.polynomial.legendre.leggauss(steps)
        node, edge = torch.zeros_like(self.data.x), torch.zeros_like(self.ones())
        for point, weight in zip(points.tolist(), weights.tolist(), strict=True):
            alpha = (point + 1) / 2
            by_x, by_edge = self.gradient(alpha * self.data.x, alpha * self.ones(), objective)
            node, edge = node + weight / 2 * by_x, edge + weight / 2 * by_edge
        return node * self.data.x, edge

    def smooth_grad(
        self, samples: int, noise: float, objective: str = "margin", average: str = "gradient"
    ) -> tuple[Tensor, Tensor]:
        """Of the mean gradient the absolute value, or the root mean square of gradients."""
        seen = self.data.x[self.nodes]
        spread = noise * float(seen.max() - seen.min())
        node, edge = torch.zeros_like(self.data.x), torch.zeros_like(self.ones())
        for sample in range(samples):
            x, mask = self.data.x.clone(), self.ones()
            for v in range(self.data.num_nodes):
                for feature in range(x.size(1)):
                    x[v, feature] += spread * self._normal(v, feature, 2 * sample)
            for e in self.edges:
                mask[e] += noise * self._normal(self.unit[e], 2 * sample + 1)
            by_x, by_edge = self.gradient(x, mask, objective)
            if average == "square":
                by_x, by_edge = by_x * by_x, by_edge * by_edge
            node, edge = node + by_x / samples, edge + by_edge / samples
        return (node.sqrt(), edge.sqrt()) if average == "square" else (node.abs(), edge.abs())

    def _normal(self, *keys: int) -> float:
        return float(keyed_normal(self.seed, torch.tensor(self.key), *(torch.tensor(k) for k in keys)))

    # Removals ########################################################################################################

    @torch.no_grad()
    def edge_ablation(self, removal: str, objective: str = "margin") -> Tensor:
        """Drop of the score for each edge, `[E]`; a tied direction goes too, also where it is out of reach."""
        before, drops = score(self.logits, self.target, objective), torch.zeros_like(self.ones())
        for e in self.edges:
            removed = {e, self.partner.get(e, e)}
            if removal == "structural":
                out = self.without_edges(sorted(removed))
            else:
                mask = self.ones()
                mask[sorted(removed)] = 0
                out = self.output(mask=mask)
            drops[e] = before - score(out, self.target, objective)
        return drops

    def without_nodes(self, removed: set[int], removal: str) -> Tensor:
        """Logits `[C]` without some nodes; roots stay, and one node of a graph that would be empty, with features 0."""
        gone = removed - set(self.roots)
        kept = [e for e, ends in enumerate(self.ends) if not gone & set(ends)]
        x = self.data.x.clone()
        x[sorted(removed)] = 0
        if removal == "message":
            mask = torch.zeros_like(self.ones())
            mask[kept] = 1
            return self.output(x, mask)
        nodes = [v for v in range(self.data.num_nodes) if v not in gone] or [0]
        data = self._rebuilt(nodes, kept)
        data.x = x[nodes]
        return self._read(data, nodes=nodes)

    def fragments(self) -> list[set[int]]:
        """The nodes in play by the number that `data.fragment` gives them (-1: none), or one by one."""
        if "fragment" not in self.data:
            return [{v} for v in self.nodes]
        number = self.data.fragment.tolist()
        return [{v for v in self.nodes if number[v] == k} for k in sorted({number[v] for v in self.nodes} - {-1})]

    def node_ablation(self, removal: str, objective: str = "margin") -> Tensor:
        """Drop of the score for each node, `[N]`."""
        return self._drops([{v} for v in self.nodes], removal, objective)

    def fragment_ablation(self, removal: str, objective: str = "margin") -> Tensor:
        """Each node's share of the drop of the score for its fragment, `[N]`."""
        return self._drops(self.fragments(), removal, objective)

    @torch.no_grad()
    def _drops(self, fragments: list[set[int]], removal: str, objective: str) -> Tensor:
        before = score(self.logits, self.target, objective)
        drops = torch.zeros(self.data.num_nodes, dtype=before.dtype)
        for fragment in fragments:
            drop = before - score(self.without_nodes(fragment, removal), self.target, objective)
            drops[sorted(fragment)] = drop / len(fragment)
        return drops

    @torch.no_grad()
    def fragment_shapley(
        self, removal: str, samples: int | None = None, objective: str = "margin"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each node's share of the Shapley value of its fragment and of its standard error, `[N]`; and the score without any
        fragment.

        Over all orders of arrival; or, with `samples`, over orders by keyed random numbers and their reverses.
        """
        fragments = self.fragments()
        known: dict[frozenset[int], Tensor] = {}

        def worth(present: Sequence[int]) -> Tensor:
            coalition = frozenset(present)
            if coalition not in known:
                removed = {v for k, fragment in enumerate(fragments) if k not in coalition for v in fragment}
                known[coalition] = score(self.without_nodes(removed, removal), self.target, objective)
            return known[coalition]

        def gains(order: Sequence[int]) -> Tensor:
            found = torch.zeros(len(fragments), dtype=self.logits.dtype)
            for place, k in enumerate(order):
                found[k] = worth(order[: place + 1]) - worth(order[:place])
            return found

        if samples is None:
            orders = list(itertools.permutations(range(len(fragments))))
            value, error = torch.stack([gains(order) for order in orders]).mean(0), torch.zeros(len(fragments))
        else:
            pairs = []
            for sample in range(samples):
                drawn = [self._uniform(min(fragment), sample) for fragment in fragments]
                order = sorted(range(len(fragments)), key=lambda k, drawn=drawn: drawn[k])
                pairs.append((gains(order) + gains(order[::-1])) / 2)
            value, error = torch.stack(pairs).mean(0), torch.stack(pairs).std(0) / math.sqrt(samples)
        by_node = torch.zeros(2, self.data.num_nodes, dtype=self.logits.dtype)
        for k, fragment in enumerate(fragments):
            by_node[0, sorted(fragment)] = value[k] / len(fragment)
            by_node[1, sorted(fragment)] = error[k].to(value.dtype) / len(fragment)
        return by_node[0], by_node[1], worth([])

    def _uniform(self, *keys: int) -> float:
        return float(keyed_uniform(self.seed, torch.tensor(self.key), *(torch.tensor(k) for k in keys)))

    @torch.no_grad()
    def feature_ablation(self, objective: str = "margin") -> Tensor:
        """Drop of the score for each feature, `[F]`."""
        before, drops = score(self.logits, self.target, objective), []
        for feature in range(self.data.x.size(1)):
            x = self.data.x.clone()
            x[self.nodes, feature] = 0
            drops.append(before - score(self.output(x), self.target, objective))
        return torch.stack(drops)

    def random(self) -> tuple[Tensor, Tensor]:
        """Uniform scores for nodes `[N]` and edges `[E]` in play."""
        key = torch.tensor(self.key)
        node, edge = torch.zeros(self.data.num_nodes, dtype=torch.float64), torch.zeros_like(self.ones())
        for v in self.nodes:
            node[v] = keyed_uniform(self.seed, key, torch.tensor(v), torch.tensor(1))
        for e in self.edges:
            edge[e] = keyed_uniform(self.seed, key, torch.tensor(self.unit[e]), torch.tensor(0))
        return node, edge

    # GNNExplainer ####################################################################################################

    def gnn_explainer(
        self,
        epochs: int,
        lr: float,
        node_mask_type: str | None,
        init_std: float = 0.01,
        loss: str = "nll",
        edge_mask: bool = True,
        coefficients: tuple[float, float, float, float] = (0.005, 1.0, 1.0, 0.1),
        restart: int = 0,
        edge_init: float = 0.0,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Scores for nodes `[N, 1]`, `[N, F]` or `[F]`, and for edges `[E]`.

        Args:
            coefficients: edge size, edge entropy, feature size, feature entropy.
            epochs, lr, node_mask_type, init_std, loss, edge_mask, restart, edge_init: as in the package.
        """
        edge_size, edge_ent, node_size, node_ent = coefficients
        dtype = self.data.x.dtype
        units = sorted(set(self.unit.values())) if edge_mask else []
        edge_theta = {u: _parameter(edge_init + self._normal(u, 2 * restart) * init_std, dtype) for u in units}
        node_theta = {}
        for place in self._maskable(node_mask_type):
            first, second = place if node_mask_type != "common_attributes" else (-1, place[1])
            node_theta[place] = _parameter(self._normal(first, second, 2 * restart + 1) * init_std, dtype)
        parameters = [*edge_theta.values(), *node_theta.values()]
        if parameters:
            optimizer = torch.optim.Adam(parameters, lr=lr)
        for _ in range(epochs if parameters else 0):
            edge_values = {u: theta.sigmoid() for u, theta in edge_theta.items()}
            node_values = {place: theta.sigmoid() for place, theta in node_theta.items()}
            x = self._masked_features(node_mask_type, node_values)
            mask = self.ones()
            for e in self.edges if edge_mask else []:
                mask = mask.index_put((torch.tensor(e),), edge_values[self.unit[e]])
            out = self.output(x, mask)
            total = -score(out, self.target, "margin" if loss == "margin" else "log_prob")
            if edge_values and self.edges:
                values = torch.stack([edge_values[self.unit[e]] for e in self.edges])
                total = total + edge_size * values.sum() + edge_ent * _entropy(values).mean()
            if node_values:
                values = torch.stack(list(node_values.values()))
                total = total + node_size * values.mean() + node_ent * _entropy(values).mean()
            optimizer.zero_grad()
            total.backward(inputs=parameters)
            optimizer.step()

        node = edge = None
        if edge_mask:
            edge = torch.zeros_like(self.ones())
            for e in self.edges:
                edge[e] = edge_theta[self.unit[e]].detach().sigmoid()
        if node_mask_type is not None:
            width = 1 if node_mask_type == "object" else self.data.x.size(1)
            node = torch.zeros(self.data.num_nodes, width, dtype=dtype)
            for (v, feature), theta in node_theta.items():
                node[v, feature] = theta.detach().sigmoid()
            node = node[0] if node_mask_type == "common_attributes" else node
        return node, edge

    def _maskable(self, kind: str | None) -> list[tuple[int, int]]:
        """Places of a mask that multiply anything but zeros: (node, feature); (node, 0) or (0, feature)."""
        x = self.data.x
        places = [(v, f) for v in self.nodes for f in range(x.size(1)) if float(x[v, f]) != 0]
        if kind == "object":
            return sorted({(v, 0) for v, _ in places})
        if kind == "common_attributes":
            return sorted({(0, f) for _, f in places})
        return places if kind == "attributes" else []

    def _masked_features(self, kind: str | None, values: dict[tuple[int, int], Tensor]) -> Tensor:
        rows = []
        for v in range(self.data.num_nodes):
            row = []
            for f in range(self.data.x.size(1)):
                place = {"object": (v, 0), "common_attributes": (0, f)}.get(str(kind), (v, f))
                value = self.data.x[v, f]
                row.append(value * values[place] if v in self.nodes and place in values else value)
            rows.append(torch.stack(row))
        return torch.stack(rows)

    # Fidelity ########################################################################################################

    @torch.no_grad()
    def fidelity(
        self,
        node: Tensor | None,
        edge: Tensor | None,
        signed: bool,
        *,
        kind: str = "probability",
        top: int | float | None = None,
        removal: str = "message",
    ) -> tuple[float, float]:
        """Fidelity+ and fidelity− of scores `[N, 1]`, `[N, F]` or `[F]` and `[E]` that are 0 where not in play."""
        kept, dropped = self.under(node, edge, signed, top=top, removal=removal)
        if kind == "label":
            if int(self.logits.argmax()) != self.target:
                return math.nan, math.nan
            return float(dropped.argmax() != self.target), float(kept.argmax() != self.target)
        before = float(score(self.logits, self.target, "prob"))
        plus, minus = (before - float(score(out, self.target, "prob")) for out in (dropped, kept))
        return plus, minus

    @torch.no_grad()
    def under(
        self,
        node: Tensor | None,
        edge: Tensor | None,
        signed: bool,
        *,
        top: int | float | None = None,
        removal: str = "message",
    ) -> tuple[Tensor, Tensor]:
        """What the model says `[C]` with nothing but an explanation, and without it; scores as in `fidelity`."""
        node, edge = _soft(node, signed), _soft(edge, signed)
        if top is not None:
            edge = None if edge is None else self._top_edges(edge, top)
            node = None if node is None else self._top_nodes(node, top)
        if removal == "structural":
            chosen = [e for e in self.edges if edge[e] == 1]
            others = [e for e in self.edges if edge[e] != 1]
            dropped, kept = (
                self.without_edges([*removed, *(self.partner.get(e, e) for e in removed)])
                for removed in (chosen, others)
            )
        else:
            kept = self.output(*self._apply(node, edge))
            inverse = (None if value is None else 1 - value for value in (node, edge))
            dropped = self.output(*self._apply(*inverse))
        return kept, dropped

    def _apply(self, node: Tensor | None, edge: Tensor | None) -> tuple[Tensor, Tensor]:
        x, mask = self.data.x.clone(), self.ones()
        for e in self.edges:
            mask[e] = 1 if edge is None else edge[e]
        for v in self.nodes:
            if node is not None:
                x[v] = x[v] * (node if node.dim() == 1 else node[v])
        return x, mask

    def _top_edges(self, edge: Tensor, top: int | float) -> Tensor:
        units = sorted(set(self.unit.values()))
        ranked = sorted(units, key=lambda unit: (-float(edge[unit]), unit))
        best = ranked[: top if isinstance(top, int) else math.ceil(len(units) * top)]
        hard = torch.zeros_like(edge)
        for e in self.edges:
            hard[e] = float(self.unit[e] in best)
        return hard

    def _top_nodes(self, node: Tensor, top: int | float) -> Tensor:
        flat = node.reshape(-1)
        width = node.size(-1)
        places = range(width) if node.dim() == 1 else [v * width + f for v in self.nodes for f in range(width)]
        ranked = sorted(places, key=lambda place: (-float(flat[place]), place))
        hard = torch.zeros_like(flat)
        hard[ranked[: top if isinstance(top, int) else math.ceil(len(ranked) * top)]] = 1
        return hard.reshape(node.shape)


def _parameter(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype, requires_grad=True)


def _entropy(m: Tensor) -> Tensor:
    return -m * torch.log(m + 1e-15) - (1 - m) * torch.log(1 - m + 1e-15)


def _soft(values: Tensor | None, signed: bool) -> Tensor | None:
    if values is None or not signed:
        return values
    largest = values.abs().max() if values.numel() else 0
    return values.abs() / largest if largest > 0 else torch.zeros_like(values)
