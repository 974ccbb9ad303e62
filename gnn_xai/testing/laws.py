"""The laws every algorithm obeys, for the tests of this package and for algorithms of your own.

```python
from gnn_xai import testing

testing.check(MyAlgorithm())              # every law on every case; raises AssertionError with a sentence
testing.check_model(my_model, my_data)    # do masks mean on this model what they say?
```

A law is a function of an algorithm and a `Case`, a small seeded model with its data. What the engines compute is
compared with slow and plain code here: Python loops over edges, messages looked up by (source, target) in a dictionary.
"""

from __future__ import annotations

import copy
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GATConv, GCNConv, GINConv, GINEConv, MessagePassing, global_add_pool, global_mean_pool
from torch_geometric.utils import to_undirected

from gnn_xai.algorithms.base import Algorithm, get, stochastic, uses_model
from gnn_xai.api import explain
from gnn_xai.core.engines.prepare import outputs
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.graphs.expansion import of_graphs
from gnn_xai.core.graphs.source import as_graphs
from gnn_xai.core.model.arguments import as_task, bind
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import GnnXaiWarning
from gnn_xai.results.explanations import Explanation, Explanations, read

TOLERANCE = 1e-5
"""How far two numbers may be apart that a law calls equal, relative to the larger of 1 and the largest of them."""


# Cases ###################################################################################################################


@dataclass(frozen=True)
class Case:
    """A problem small enough to run every law on it.

    Attributes:
        name: what it is called in messages.
        model: makes the model, the same one each time.
        data: makes the data: a `Data` for node-level tasks, a list of them for graph-level ones.
        task: what the model does.
        index: the outputs to explain.
        steps: message-passing steps of the model.
        call: `(model, data) -> output`.
    """

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], Any]
    task: ModelConfig
    index: tuple[int, ...]
    steps: int
    call: Callable[[nn.Module, Any], Tensor]

    @property
    def node_level(self) -> bool:
        """Outputs are of nodes; else of graphs."""
        return self.task.task_level.value == "node"

    def explain(self, algorithm: Algorithm, model: nn.Module | None = None, **options: Any) -> Explanations:
        """Explain `index` of this case; options as in `gnn_xai.explain`, `data` among them."""
        options = {"data": self.data(), "index": list(self.index), "task": self.task, **options}
        return explain(model or self.model(), algorithm=algorithm, progress=False, **options)


class Encoder(nn.Module):
    """The sum of one embedding for each column of integer codes, as in models of molecules."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.columns = nn.ModuleList([nn.Embedding(size, width) for size in sizes])

    def forward(self, x: Tensor) -> Tensor:
        """`[N, width]`."""
        return torch.stack([embed(x[:, i]) for i, embed in enumerate(self.columns)]).sum(0)


class Network(nn.Module):
    """A stack of message-passing layers with ReLU between them, after an encoder of node features where one is given, and
    with a readout over graphs where `pool` is given.
    """

    def __init__(
        self,
        convs: Sequence[nn.Module],
        norms: Sequence[nn.Module] | None = None,
        head: nn.Module | None = None,
        pool: Any = None,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder or nn.Identity()
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(norms or [nn.Identity() for _ in convs])
        self.dropout = nn.Dropout(0.5)
        self.head = head or nn.Identity()
        self.pool = pool

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """`[N, C]`, or `[G, C]` with a readout."""
        x = self.encoder(x)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x, edge_index) if edge_attr is None else conv(x, edge_index, edge_attr))
            if i + 1 < len(self.convs):
                x = self.dropout(x.relu())
        return self.head(x if self.pool is None else self.pool(x, batch))


def call(model: nn.Module, data: Any) -> Tensor:
    """Call a `Network` on a data object."""
    return model(data.x, data.edge_index, data.get("edge_attr"), data.get("batch"))


def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A maker of one and the same model, in evaluation mode, that leaves the global random state alone."""

    def made() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(12)
            model = make()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.running_mean = torch.randn(module.num_features)
                    module.running_var = torch.rand(module.num_features) + 0.5
            return model.eval()

    return made


def random_graph(seed: int, nodes: int, edges: int, *, undirected: bool, features: int = 4, loops: int = 0) -> Data:
    """A simple random graph without parallel edges; `loops` nodes have a self loop, placed among the other edges."""
    rng = torch.Generator().manual_seed(seed)
    pairs = torch.randint(nodes - 1, (2, edges), generator=rng)  # the last node stays isolated
    pairs = torch.unique(pairs[:, pairs[0] != pairs[1]], dim=1)
    if undirected:
        pairs = to_undirected(pairs)
    pairs = torch.cat([pairs, torch.arange(loops).repeat(2, 1)], dim=1)
    pairs = pairs[:, torch.randperm(pairs.size(1), generator=rng)]
    x = torch.randn(nodes, features, generator=rng)
    x[torch.rand(nodes, features, generator=rng) < 0.2] = 0  # zeros are common in real features
    return Data(x=x, edge_index=pairs)


def _gin(width_in: int, width: int, cls: type = GINConv, **options: Any) -> MessagePassing:
    return cls(nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), nn.Linear(width, width)), **options)


def _bonds(data: Data, seed: int) -> Data:
    data.edge_attr = torch.randn(data.num_edges, 3, generator=torch.Generator().manual_seed(seed))
    return data


def _coded(data: Data, seed: int) -> Data:
    rng, nodes = torch.Generator().manual_seed(seed), int(data.num_nodes or 0)
    data.x = torch.stack([torch.randint(size, (nodes,), generator=rng) for size in CODES], dim=1)
    return data


def _gcn() -> nn.Module:
    return Network([GCNConv(4, 8), GCNConv(8, 3)])


def _gat() -> nn.Module:
    return Network([GATConv(4, 4, heads=2), GATConv(8, 3)])


def _gin_pooled() -> nn.Module:
    convs = [_gin(4, 8), _gin(8, 8)]
    return Network(convs, [nn.BatchNorm1d(8), nn.BatchNorm1d(8)], nn.Linear(8, 3), global_add_pool)


def _gine() -> nn.Module:
    convs = [_gin(4, 8, GINEConv, edge_dim=3), _gin(8, 8, GINEConv, edge_dim=3)]
    return Network(convs, None, nn.Linear(8, 1), global_mean_pool)


def _gin_coded() -> nn.Module:
    return Network([_gin(6, 8), _gin(8, 8)], None, nn.Linear(8, 3), global_add_pool, Encoder(CODES, 6))


CODES = (5, 3, 2)
"""How many codes each column of coded features has."""

_MULTICLASS = "multiclass_classification"

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "gcn_undirected",
            seeded(_gcn),
            lambda: random_graph(0, 14, 14, undirected=True),
            ModelConfig(_MULTICLASS, "node", "raw"),
            (0, 5, 3, 13),
            2,
            call,
        ),
        Case(
            "gat_directed",
            seeded(_gat),
            lambda: random_graph(1, 12, 26, undirected=False, loops=3),
            ModelConfig(_MULTICLASS, "node", "raw"),
            (4, 0, 9),
            2,
            call,
        ),
        Case(
            "gin_graphs",
            seeded(_gin_pooled),
            lambda: [random_graph(seed, 6 + seed, 8, undirected=True) for seed in range(4)],
            ModelConfig(_MULTICLASS, "graph", "raw"),
            (2, 0, 3),
            2,
            call,
        ),
        Case(
            "gine_regression",
            seeded(_gine),
            lambda: [_bonds(random_graph(seed, 5 + seed, 7, undirected=False), seed) for seed in range(3)],
            ModelConfig("regression", "graph", "raw"),
            (0, 1, 2),
            2,
            call,
        ),
        Case(
            "gin_codes",
            seeded(_gin_coded),
            lambda: [_coded(random_graph(seed, 5 + seed, 7, undirected=True), seed) for seed in range(4)],
            ModelConfig(_MULTICLASS, "graph", "raw"),
            (3, 0, 2),
            2,
            call,
        ),
    )
}
"""Small problems: node and graph level, directed and not, with loops, batch normalisation, edge features, regression,
integer codes as features."""


# Plain counterparts of what the engines do ###############################################################################


@contextmanager
def plainly_masked(model: nn.Module, weight: Mapping[tuple[int, int], float]) -> Iterator[None]:
    """Multiply the message of every edge (source, target) by its `weight`, 1 where it has none; no parallel edges."""
    factors: list[Tensor] = []

    def before(module: nn.Module, inputs: Any) -> None:
        factors[:] = [torch.tensor([weight.get((u, v), 1.0) for u, v in inputs[0].t().tolist()])]

    def after(module: Any, inputs: Any, out: Tensor) -> Tensor:
        shape = [1] * out.dim()
        shape[module.node_dim] = -1
        return out * factors[0].to(out).view(shape)

    handles = []
    for module in model.modules():
        if isinstance(module, MessagePassing):
            handles += [
                module.register_propagate_forward_pre_hook(before),
                module.register_message_forward_hook(after),
            ]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def plainly_scaled(model: nn.Module, factor: Tensor | None) -> Iterator[None]:
    """Multiply what an `Encoder` makes of column f of node v by `factor[v, f]`."""
    handles = []
    if factor is not None:
        encoder: Any = model.encoder
        for embedding, column in zip(encoder.columns, factor.split(1, dim=1), strict=True):
            handles.append(embedding.register_forward_hook(lambda module, inputs, out, column=column: out * column))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reachable(edge_index: Tensor, target: int, steps: int) -> tuple[set[int], set[int]]:
    """Nodes within `steps` hops of a target, and positions of the edges that can carry a message to it, by plain loops."""
    nodes, edges = {target}, set()
    for _ in range(steps):
        reached = {position for position, (_, v) in enumerate(edge_index.t().tolist()) if v in nodes}
        edges |= reached
        nodes = nodes | {int(edge_index[0, position]) for position in reached}
    return nodes, edges


def _graph(data: Any, e: Explanation) -> Any:
    return data if isinstance(data, Data) else data[e.index]


def _run(
    case: Case,
    model: nn.Module,
    data: Any,
    e: Explanation,
    x: Tensor,
    weight: dict[tuple[int, int], float],
    factor: Tensor | None = None,
) -> Tensor:
    """The output `[C]` an explanation is about, on the full graph with other features, weighted messages and embedded codes
    times a factor `[N, F]`.
    """
    graph = copy.copy(_graph(data, e))
    graph.x = x
    with plainly_masked(model, weight), plainly_scaled(model, factor):
        out = case.call(model, graph if case.node_level else Batch.from_data_list([graph]))
    return out[e.index if case.node_level else 0]


def _soft(scores: Tensor | None, signed: bool) -> Tensor | None:
    if scores is None or not signed or scores.numel() == 0:
        return scores
    return scores.abs() / max(float(scores.abs().max()), torch.finfo(scores.dtype).tiny)


def _under_masks(case: Case, model: nn.Module, data: Any, e: Explanation, complement: bool) -> Tensor:
    """What `prediction_masked` or `prediction_complement` should be."""
    graph, node, edge = _graph(data, e), _soft(e.node_mask, e.signed), _soft(e.edge_mask, e.signed)
    coded = not graph.x.is_floating_point()
    x, weight = torch.ones(graph.x.shape) if coded else graph.x.clone(), {}
    if node is not None:
        node = 1 - node if complement else node
        if node.dim() == 1:
            node = node.expand(len(e.node_id), -1)
        x[e.node_id] = x[e.node_id] * node
    if edge is not None:
        ends = [(u, v) for u, v in e.edge_index.t().tolist()]
        weight = dict(zip(ends, (1 - edge if complement else edge).tolist(), strict=True))
    return _run(case, model, data, e, graph.x, weight, x) if coded else _run(case, model, data, e, x, weight)


# Comparing ###############################################################################################################


def distance(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value; infinite where shapes or NaNs differ."""
    if one.shape != other.shape or not torch.equal(one.isnan(), other.isnan()):
        return float("inf")
    if one.numel() == 0:
        return 0.0
    one, other = one.detach().double().nan_to_num(), other.detach().double().nan_to_num()
    return float((one - other).abs().max() / max(1.0, float(other.abs().max())))


def _by_identity(e: Explanation, node: Tensor | None = None, edge: Tensor | None = None) -> dict[str, Tensor]:
    """All that an explanation says, ordered by node and edge id, after renaming ids by `node` and `edge`."""
    node_id = e.node_id if node is None else node[e.node_id]
    edge_id = e.edge_id if edge is None else edge[e.edge_id]
    ends = e.edge_index if node is None else node[e.edge_index]
    nodes, edges = torch.argsort(node_id), torch.argsort(edge_id)
    said = {
        "target": torch.tensor(e.target),
        "prediction": e.prediction,
        "prediction_masked": e.prediction_masked,
        "prediction_complement": e.prediction_complement,
        "node_id": node_id[nodes],
        "edge_id": edge_id[edges],
        "edge_index": ends[:, edges],
    }
    if e.edge_mask is not None:
        said["edge_mask"] = e.edge_mask[edges]
    if e.node_mask is not None:
        said["node_mask"] = e.node_mask if e.node_mask.dim() == 1 else e.node_mask[nodes]
    by_level = {"edge": edges, "node": slice(None) if e.node_mask is not None and e.node_mask.dim() == 1 else nodes}
    for name, value in e.extras.items():
        said[f"extras[{name!r}]"] = value[by_level[name[:4]]] if name[:4] in by_level else value
    return said


def _require_same(one: dict[str, Tensor], other: dict[str, Tensor], what: str, tolerance: float = TOLERANCE) -> None:
    assert one.keys() == other.keys(), f"{what}: one explanation has {sorted(one)}, the other {sorted(other)}"
    for name in one:
        gap = distance(one[name], other[name])
        assert gap <= tolerance, f"{what}: {name} differs by {gap:.2g}, expected at most {tolerance:g}"


def _scores(explanations: Explanations) -> Tensor:
    """Every score of some explanations, one after the other."""
    parts = [explanations.edge_mask, explanations.node_mask]
    return torch.cat([part.flatten() for part in parts if part is not None])


# Laws ####################################################################################################################


def law_instance_independence(algorithm: Algorithm, case: Case) -> None:
    """1. Each instance is explained as if alone: in any order, with any companions, in any batch size."""
    together = case.explain(algorithm)
    for position, index in enumerate(case.index):
        alone = case.explain(algorithm, index=[index])[0]
        what = f"instance {index} explained alone and with others"
        _require_same(_by_identity(together[position]), _by_identity(alone), what)
        if not case.node_level:
            without = case.explain(algorithm, data=[case.data()[index]], index=None)[0]
            _require_same(
                _by_identity(together[position]), _by_identity(without), f"graph {index} without its companions"
            )
    backwards = case.explain(algorithm, index=list(case.index[::-1]))
    twice = case.explain(algorithm, index=list(case.index) * 2)
    one_by_one = case.explain(algorithm, batch_budget=1)
    for position, e in enumerate(together):
        _require_same(_by_identity(e), _by_identity(backwards[len(together) - 1 - position]), "index in reverse order")
        _require_same(_by_identity(e), _by_identity(twice[position + len(together)]), "every instance asked for twice")
        _require_same(_by_identity(e), _by_identity(one_by_one[position]), "batch_budget=1 and 'auto'")


def law_verified_computation_graphs(algorithm: Algorithm, case: Case) -> None:
    """2. The computation graph gives the output of the full graph; what is outside cannot change it."""
    witness: Any = _Witness(algorithm)
    explanations = case.explain(witness)
    gap = max(witness.gaps)
    assert gap <= TOLERANCE, f"the output on a computation graph differs from that on the full graph by {gap:.2g}"
    model, data = case.model(), case.data()
    for e in explanations:
        graph = _graph(data, e)
        plain = _run(case, model, data, e, graph.x, {})
        gap = distance(e.prediction, plain)
        assert gap <= TOLERANCE, f"the prediction of instance {e.index} is off by {gap:.2g}"
        assert e.exact, f"instance {e.index} is not marked exact, though its model is local"
        assert e.hops in (case.steps, case.steps + 1), f"expected {case.steps} or one more hops, got {e.hops}"
        assert torch.equal(graph.edge_index[:, e.edge_id], e.edge_index), "edge_id and edge_index name different edges"
        _require_in_play(case, graph, e)
        inside = {(u, v) for u, v in e.edge_index.t().tolist()}
        outside = {(u, v): 7.0 for u, v in graph.edge_index.t().tolist() if (u, v) not in inside}
        rng = torch.Generator().manual_seed(1)
        coded = not graph.x.is_floating_point()
        x = graph.x[torch.randperm(len(graph.x), generator=rng)] if coded else torch.randn(graph.x.shape, generator=rng)
        x[e.node_id] = graph.x[e.node_id]
        gap = distance(_run(case, model, data, e, x, outside), plain)
        assert gap <= TOLERANCE, f"nodes and edges left out of instance {e.index} change its output by {gap:.2g}"


def law_right_edge(algorithm: Algorithm, case: Case) -> None:
    """3. Scores belong to edges by identity: self loops, present, placed anywhere, in any order, shift nothing."""
    data = case.data()
    graphs = [data] if isinstance(data, Data) else data
    looped = [_with_loops(graph, number) for number, graph in enumerate(graphs)]
    moved = [_permuted(graph, number, nodes=False) for number, graph in enumerate(looped)]
    model = case.model()
    one = case.explain(algorithm, data=looped[0] if isinstance(data, Data) else looped)
    other = case.explain(algorithm, data=moved[0][0] if isinstance(data, Data) else [graph for graph, _ in moved])
    for e, f in zip(one, other, strict=True):
        edge = moved[0 if isinstance(data, Data) else e.index][1][1]
        _require_same(_by_identity(e), _by_identity(f, edge=edge), "self loops among the edges, and edges permuted")
        graph = looped if not isinstance(data, Data) else looped[0]
        _require_masked_predictions(case, model, graph, e)


def law_model_untouched(algorithm: Algorithm, case: Case) -> None:
    """4. Model, data and random states come back bit for bit, also when the run raises or is interrupted."""
    model, data = case.model(), case.data()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()  # frozen, as in fine-tuning
        for flag in {"cached"} & vars(module).keys():
            setattr(module, flag, True)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        case.call(model, data if case.node_level else Batch.from_data_list(data))  # fills the caches
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, number) if number % 2 else None
    calls = 0

    def forward(module: nn.Module, batch: Any, fail_at: int = -1) -> Tensor:
        nonlocal calls
        out = case.call(module, batch)
        calls += 1
        if calls == fail_at:
            raise KeyboardInterrupt
        return out

    before = _state(model, data)
    case.explain(algorithm, model, data=data, forward=forward)
    _require_state(before, _state(model, data), "after a run")
    for fail_at in sorted({1, 3, calls // 2, calls}):
        calls = 0
        try:
            case.explain(algorithm, model, data=data, forward=lambda m, d, at=fail_at: forward(m, d, at))
        except KeyboardInterrupt:
            _require_state(before, _state(model, data), f"after an interruption in forward pass {fail_at}")
        else:
            raise AssertionError(f"an interruption in forward pass {fail_at} was swallowed")


def law_masks_mean_what_they_say(algorithm: Algorithm, case: Case) -> None:
    """5. The predictions under masks are those of the model with messages and features multiplied plainly."""
    model, data = case.model(), case.data()
    for e in case.explain(algorithm):
        _require_masked_predictions(case, model, data, e)


def law_reachability(algorithm: Algorithm, case: Case) -> None:
    """6. In play is what can reach the output, whatever its gradient: here every ReLU is dead."""
    model = case.model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(-1e3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GnnXaiWarning)  # that nothing responds is what is wanted here
        explanations = case.explain(algorithm, model)
    for e in explanations:
        graph = _graph(case.data(), e)
        _require_in_play(case, graph, e)
        for name, mask in (("edge_mask", e.edge_mask), ("node_mask", e.node_mask)):
            assert mask is None or bool(torch.isfinite(mask).all()), f"{name} of instance {e.index} is not finite"
        hard = e.edge_mask is not None and not e.signed and bool((e.edge_mask == 0).any())
        assert not hard, f"a mask is 0 on an edge that can reach instance {e.index}, because its gradient was 0"


def law_seed_and_relabelling(algorithm: Algorithm, case: Case) -> None:
    """7. Same seed, same answer; another seed, another one if chance is used; relabelling permutes the answer."""
    one, again, other = (case.explain(algorithm, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(_scores(one), _scores(again)), "the same seed gives two different answers"
    if stochastic(algorithm):
        assert not torch.equal(_scores(one), _scores(other)), "declared stochastic, but the seed changes nothing"
    else:
        assert torch.equal(_scores(one), _scores(other)), "declared deterministic, but the seed changes the answer"
    data = case.data()
    moved = [_permuted(graph, number) for number, graph in enumerate([data] if isinstance(data, Data) else data)]
    graphs = [graph for graph, _ in moved]
    if not stochastic(algorithm):  # ids are needed to key random numbers, and by nothing else
        for graph in graphs:
            del graph.n_id, graph.e_id
    index = list(case.index)
    if case.node_level:
        old = moved[0][1][0]
        index = [int((old == node).nonzero()) for node in index]
    renamed = case.explain(algorithm, data=graphs[0] if isinstance(data, Data) else graphs, index=index, seed=3)
    for e, f in zip(one, renamed, strict=True):
        node, edge = moved[0 if isinstance(data, Data) else e.index][1]
        _require_same(_by_identity(e), _by_identity(f, node, edge), "nodes relabelled and edges permuted", 1e-4)


def law_sensitive_to_model(algorithm: Algorithm, case: Case) -> None:
    """8. Re-initialised weights change the explanation of the same target (Adebayo et al. 2018)."""
    model, target = case.model(), 0
    one = _scores(case.explain(algorithm, model, target=target))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    other = _scores(case.explain(algorithm, model, target=target))
    gap = distance(one, other)
    if uses_model(algorithm):
        assert gap > 1e-4, f"re-initialised weights change the scores by {gap:.2g} at most; do they look at the model?"
    else:
        assert gap == 0, "declared not to use the model, but its weights change the scores"


def law_says_what_it_means(algorithm: Algorithm, case: Case) -> None:
    """9. Signed or within [0, 1]; which target, removal and seed; how faithful; the same after saving and in PyG's form."""
    found = case.explain(algorithm, seed=5)
    assert found.index.tolist() == list(case.index), f"expected instances {case.index}, got {found.index.tolist()}"
    assert found.edge_mask is not None or found.node_mask is not None, "neither nodes nor edges have scores"
    assert (found.node_mask is None) == (found.node_mask_type is None), "node_mask and node_mask_type contradict"
    scores = _scores(found)
    assert bool(torch.isfinite(scores).all()), "some scores are not finite"
    assert not scores.requires_grad, "scores still hold a graph of gradients"
    if not found.signed:
        low, high = float(scores.min()), float(scores.max())
        assert min(low, 1 - high) >= 0, f"declared a mask in [0, 1], but scores run from {low:.4g} to {high:.4g}"
    assert found.removal in ("message", "structural"), f"removal is {found.removal!r}"
    assert found.seed == 5, f"seed 5 was given, {found.seed} is recorded"
    assert found.algorithm["name"] == algorithm.name, f"recorded as {found.algorithm['name']!r}"
    for name in ("prediction_masked", "prediction_complement"):
        value = getattr(found, name)
        assert value.shape == found.prediction.shape, f"{name} is {list(value.shape)}"
        assert bool(torch.isfinite(value).all()), f"{name} is not finite"
    if case.task.mode.value == "multiclass_classification":
        assert torch.equal(found.target, found.prediction.argmax(1)), "the default target is not the predicted class"
        wanted = [(position + 1) % found.prediction.size(1) for position in range(len(found))]
        other = case.explain(algorithm, target=wanted)
        assert other.target.tolist() == wanted, f"targets {wanted} were asked for, {other.target.tolist()} recorded"
    with tempfile.TemporaryDirectory() as folder:
        back = read(found.save(Path(folder) / "run.safetensors"))
    for name in ("signed", "removal", "algorithm", "seed", "node_mask_type", "provenance", "task"):
        one, other = getattr(found, name), getattr(back, name)
        same = vars(one) == vars(other) if name == "task" else one == other
        assert same, f"{name} is {one!r} before saving and {other!r} after"
    for e, f in zip(found, back, strict=True):
        _require_same(_by_identity(e), _by_identity(f), "saved and loaded", 0.0)
    for position, e in enumerate(found):
        graph, theirs = _graph(case.data(), e), found.to_pyg(position)
        theirs.validate_masks()
        if e.edge_mask is not None:
            full = torch.zeros(graph.num_edges).index_copy(0, e.edge_id, e.edge_mask.float())
            assert distance(theirs.edge_mask.float(), full) == 0, "to_pyg() puts edge scores on other edges"


Law = Callable[[Algorithm, Case], None]

LAWS: dict[str, Law] = {
    law.__name__.removeprefix("law_"): law
    for law in (
        law_instance_independence,
        law_verified_computation_graphs,
        law_right_edge,
        law_model_untouched,
        law_masks_mean_what_they_say,
        law_reachability,
        law_seed_and_relabelling,
        law_sensitive_to_model,
        law_says_what_it_means,
    )
}
"""Every law by name."""


def check(
    algorithm: str | Algorithm, *, laws: Mapping[str, Law] | None = None, cases: Mapping[str, Case] | None = None
) -> None:
    """Run an algorithm through the laws; run it with few epochs or steps, the laws hold for any number.

    Args:
        algorithm: yours, or one of this package by name.
        laws: which laws, all of `LAWS` for `None`.
        cases: on which problems, all of `CASES` for `None`.

    Raises:
        AssertionError: naming the law, the case and what broke it.

    >>> check("edge_ablation", cases={"gcn_undirected": CASES["gcn_undirected"]})
    """
    algorithm = get(algorithm)
    for name, law in (LAWS if laws is None else laws).items():
        for case in (CASES if cases is None else cases).values():
            with _blaming(f"{algorithm.name} breaks the law {name!r} on {case.name}"):
                law(algorithm, case)


def check_model(
    model: nn.Module, data: Data, *, task: Any = None, forward: Any = None, tolerance: float = 1e-4
) -> None:
    """Do edge masks mean on this model what they say? For a model of your own, with custom layers perhaps.

    An edge mask of ones changes nothing; a mask of 0.5 and of 0 on one edge give what multiplying this edge's messages
    gives; the gradient of a mask is that of finite differences.

    Args:
        model, task, forward: as in `gnn_xai.explain`.
        data: a small graph without parallel edges (a few edges are tried).
        tolerance: relative to the largest output.

    Raises:
        AssertionError: with what differs.
        MaskingError: if edge masks cannot reach the model's layers.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    config = as_task(task, data)
    graphs = as_graphs(data, device)
    problem = Problem(model, graphs, config, bind(model, graphs, forward))
    first = torch.zeros(1, dtype=torch.int64, device=device)
    replicas = of_graphs(graphs, first, 0).replicas(first)
    every = replace(replicas, rows=torch.arange(graphs.num_nodes, device=device) if problem.node_level else None)
    edges = every.edge_index
    got: dict[tuple[int, float], Tensor] = {}
    ones = torch.ones(edges.size(1), dtype=problem.dtype, device=device)
    some = range(0, edges.size(1), max(1, edges.size(1) // 5))
    with untouched(model), torch.no_grad():
        with MaskedModel(problem, every) as masked:
            original = masked()
            masked.trace.check()
            gap = distance(masked(edge_mask=ones), original)
            assert gap <= tolerance, f"an edge mask of ones changes the output by {gap:.2g}"
            for position in some:
                for value in (0.0, 0.5, 0.999, 1.001):
                    got[position, value] = masked(
                        edge_mask=ones.index_fill(0, torch.tensor(position, device=device), value)
                    )
            with torch.enable_grad():
                leaf = ones.clone().requires_grad_()
                weights = torch.linspace(0.5, 1.5, original.numel()).to(original).reshape(original.shape)
                (gradient,) = torch.autograd.grad((masked(edge_mask=leaf) * weights).sum(), leaf)
        for (position, value), out in got.items():
            u, v = edges[:, position].tolist()
            with plainly_masked(model, {(u, v): value}):
                gap = distance(out, problem.run(every.data, every.rows))
            assert gap <= tolerance, f"mask {value} on edge {u}→{v} gives an output that is off by {gap:.2g}"
        for position in some:
            slope = ((got[position, 1.001] - got[position, 0.999]) * weights).sum() / 0.002
            gap = distance(gradient[position], slope)
            ends = "→".join(map(str, edges[:, position].tolist()))
            assert gap <= 0.02, f"the mask gradient of edge {ends} is off finite differences by {gap:.2g}"


# Parts of the laws #######################################################################################################


@contextmanager
def _blaming(who: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{who}: {error}") from error


class _Witness:
    """An algorithm that looks at the computation graphs it is given, and then lets another one work on them."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.name, self.summary, self.signed = algorithm.name, algorithm.summary, algorithm.signed
        self.gaps: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.algorithm, name)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Any:
        self.gaps.append(distance(outputs(session, graphs), prediction))
        return self.algorithm.attribute(session, graphs, target, prediction)


def _require_in_play(case: Case, graph: Any, e: Explanation) -> None:
    """In play is what plain loops find to reach the output, no less and no more."""
    nodes, edges = set(range(graph.num_nodes)), set(range(graph.num_edges))
    if case.node_level:
        nodes, edges = reachable(graph.edge_index, e.index, case.steps)
    found = set(e.node_id.tolist())
    assert found == nodes, f"nodes in play of instance {e.index}: {sorted(found)}, expected {sorted(nodes)}"
    found = set(e.edge_id.tolist())
    assert found == edges, f"edges in play of instance {e.index}: {sorted(found)}, expected {sorted(edges)}"


def _require_masked_predictions(case: Case, model: nn.Module, data: Any, e: Explanation) -> None:
    for name, complement in (("prediction_masked", False), ("prediction_complement", True)):
        gap = distance(getattr(e, name), _under_masks(case, model, data, e, complement))
        assert gap <= 1e-4, f"{name} of instance {e.index} differs by {gap:.2g} from the model under its mask"


def _with_loops(graph: Any, seed: int) -> Any:
    """A copy with self loops at every second node that had none, after all other edges."""
    have = set(graph.edge_index[0, graph.edge_index[0] == graph.edge_index[1]].tolist())
    loops = torch.tensor([node for node in range(0, graph.num_nodes, 2) if node not in have], dtype=torch.int64)
    out = copy.copy(graph)
    out.edge_index = torch.cat([graph.edge_index, loops.repeat(2, 1)], dim=1)
    if graph.get("edge_attr") is not None:
        rng = torch.Generator().manual_seed(seed)
        out.edge_attr = torch.cat([graph.edge_attr, torch.randn(len(loops), graph.edge_attr.size(1), generator=rng)])
    return out


def _permuted(graph: Any, seed: int, nodes: bool = True) -> tuple[Any, tuple[Tensor, Tensor]]:
    """The same graph with other ids, which carries its old ones as `n_id` and `e_id`; and these old ids by new ones."""
    rng = torch.Generator().manual_seed(seed + 50)
    old = torch.randperm(graph.num_nodes, generator=rng) if nodes else torch.arange(graph.num_nodes)
    edge = torch.randperm(graph.num_edges, generator=rng)
    out = Data(x=graph.x[old], edge_index=torch.argsort(old)[graph.edge_index[:, edge]], n_id=old, e_id=edge)
    if graph.get("edge_attr") is not None:
        out.edge_attr = graph.edge_attr[edge]
    return out, (old, edge)


def _state(model: nn.Module, data: Any) -> dict[str, Any]:
    """Everything about a model, its data and the process that an explanation might leave changed."""
    state: dict[str, Any] = {
        "state_dict() keys": list(model.state_dict()),
        "the random state of torch": torch.get_rng_state(),
        "the random state of numpy": str(np.random.get_state()),  # noqa: NPY002 - the one that users seed
        "the random state of Python": str(random.getstate()),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
    }
    for name, parameter in model.named_parameters():
        state[f"parameter {name}"] = parameter.detach().clone()
        state[f"{name}.grad"] = None if parameter.grad is None else parameter.grad.clone()
        state[f"{name}.requires_grad"] = parameter.requires_grad
    for name, buffer in model.named_buffers():
        state[f"buffer {name}"] = buffer.clone()
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key in ("_parameters", "_buffers", "_modules"):
                continue
            of = f"attribute {key} of {name or 'the model'}"
            state[of] = list(value) if "hook" in key and isinstance(value, Mapping) else copy.deepcopy(value)
    for number, graph in enumerate([data] if isinstance(data, Data) else data):
        for key, value in graph.to_dict().items():
            state[f"data.{key} of graph {number}"] = value.clone() if isinstance(value, Tensor) else value
    return state


def _require_state(before: dict[str, Any], after: dict[str, Any], when: str) -> None:
    new, gone = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    assert not new, f"{when}: {new[0]} is new"
    assert not gone, f"{when}: {gone[0]} is gone"
    for name, value in before.items():
        assert _equal(value, after[name]), f"{when}: {name} has changed"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, (tuple, list)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, (nn.Module, torch.Generator)) or callable(one) or type(one).__eq__ is object.__eq__:
        return type(one) is type(other)
    return bool(one == other)
