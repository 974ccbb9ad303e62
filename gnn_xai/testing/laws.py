"""The laws: functions of an algorithm and a `Case` that raise `AssertionError` with what broke them."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from gnn_xai.algorithms.base import Algorithm, get, stochastic, uses_model
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.errors import GnnXaiWarning, InputError
from gnn_xai.results.explanations import Explanation, read
from gnn_xai.testing.cases import CASES, Case
from gnn_xai.testing.comparing import TOLERANCE, by_identity, distance, require_same, require_state, scores_of, state_of
from gnn_xai.testing.plain import graph_of, reachable, run_plainly, under_masks
from gnn_xai.testing.types import Types


def law_instance_independence(algorithm: Algorithm, case: Case) -> None:
    """1. Each instance is explained as if alone: in any order, whatever else is in the batch, in any batch size."""
    together = case.explain(algorithm)
    for position, index in enumerate(case.index):
        alone = case.explain(algorithm, index=[index])[0]
        what = f"instance {index} explained alone and with others"
        require_same(by_identity(together[position]), by_identity(alone), what)
        if not case.one_graph:
            without = case.explain(algorithm, data=[case.data()[index]], index=None)[0]
            require_same(by_identity(together[position]), by_identity(without), f"graph {index} without its companions")
    backwards = case.explain(algorithm, index=list(case.index[::-1]))
    twice = case.explain(algorithm, index=list(case.index) * 2)
    one_by_one = case.explain(algorithm, batch_budget=1)
    for position, e in enumerate(together):
        require_same(by_identity(e), by_identity(backwards[len(together) - 1 - position]), "index in reverse order")
        require_same(by_identity(e), by_identity(twice[position + len(together)]), "every instance asked for twice")
        require_same(by_identity(e), by_identity(one_by_one[position]), "batch_budget=1 and 'auto'")


def law_verified_computation_graphs(algorithm: Algorithm, case: Case) -> None:
    """2. The computation graph gives the output of the full graph; what is outside cannot change it."""
    witness: Any = _Witness(case.ready(algorithm))
    explanations = case.explain(witness)
    gap = max(witness.gaps)
    assert gap <= TOLERANCE, f"the output on a computation graph differs from that on the full graph by {gap:.2g}"
    model, data = case.model(), case.data()
    for e in explanations:
        graph = graph_of(data, e)
        plain = run_plainly(case, model, data, e, graph.x, {})
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
        gap = distance(run_plainly(case, model, data, e, x, outside), plain)
        assert gap <= TOLERANCE, f"nodes and edges left out of instance {e.index} change its output by {gap:.2g}"


def law_right_edge(algorithm: Algorithm, case: Case) -> None:
    """3. Scores belong to edges by identity: self loops, present, placed anywhere, in any order, shift nothing."""
    data = case.data()
    graphs = [data] if isinstance(data, Data) else data
    looped = [_with_loops(graph, number, case.types) for number, graph in enumerate(graphs)]
    moved = [_permuted(graph, number, nodes=False) for number, graph in enumerate(looped)]
    model = case.model()
    one = case.explain(algorithm, data=looped[0] if isinstance(data, Data) else looped)
    other = case.explain(algorithm, data=moved[0][0] if isinstance(data, Data) else [graph for graph, _ in moved])
    for e, f in zip(one, other, strict=True):
        edge = moved[0 if isinstance(data, Data) else e.index][1][1]
        if case.keyed or not stochastic(algorithm):
            require_same(by_identity(e), by_identity(f, edge=edge), "self loops among the edges, and edges permuted")
        graph = looped if not isinstance(data, Data) else looped[0]
        _require_masked_predictions(case, model, graph, e)


def law_model_untouched(algorithm: Algorithm, case: Case) -> None:
    """4. Model, data and random states come back bit for bit, also when the run raises or is interrupted."""
    model, data = case.model(), case.handed()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()  # frozen, as in fine-tuning
        for flag in {"cached"} & vars(module).keys():
            setattr(module, flag, True)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        case.call(model, data if case.one_graph else Batch.from_data_list(data))  # fills the caches
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

    before = state_of(model, data)
    case.explain(algorithm, model, handed=data, forward=forward)
    require_state(before, state_of(model, data), "after a run")
    for fail_at in sorted({1, 3, calls // 2, calls}):
        calls = 0
        try:
            case.explain(algorithm, model, handed=data, forward=lambda m, d, at=fail_at: forward(m, d, at))
        except KeyboardInterrupt:
            require_state(before, state_of(model, data), f"after an interruption in forward pass {fail_at}")
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
        graph = graph_of(case.data(), e)
        _require_in_play(case, graph, e)
        for name, mask in (("edge_mask", e.edge_mask), ("node_mask", e.node_mask)):
            assert mask is None or bool(torch.isfinite(mask).all()), f"{name} of instance {e.index} is not finite"
        # A 0 on some edges is an answer; a 0 on all of them says that nothing was looked at but the gradient.
        unseen = e.edge_mask is not None and not e.signed and len(e.edge_mask) and not bool(e.edge_mask.any())
        assert not unseen, f"all masks of edges that can reach instance {e.index} are 0, because their gradient was 0"


def law_seed_and_relabelling(algorithm: Algorithm, case: Case) -> None:
    """7. Same seed, same answer; another seed, another one if chance is used; relabelling permutes the answer."""
    algorithm = case.ready(algorithm)
    one, again = (case.explain(algorithm, seed=seed) for seed in (3, 3))
    assert torch.equal(scores_of(one), scores_of(again)), "the same seed gives two different answers"
    other = case.explain(algorithm, seed=4)
    changed = [not torch.equal(scores_of(one), scores_of(other))]  # masks of 0 and 1 may be the same for both seeds
    changed += [
        not torch.equal(value, other.extras[name]) for name, value in one.extras.items() if name in other.extras
    ]
    if stochastic(algorithm):
        assert any(changed), "declared stochastic, but the seed changes nothing"
    else:
        assert not changed[0], "declared deterministic, but the seed changes the answer"
    if stochastic(algorithm) and not case.keyed:
        return
    data = case.data()
    moved = [_permuted(graph, number) for number, graph in enumerate([data] if isinstance(data, Data) else data)]
    graphs = [graph for graph, _ in moved]
    if not stochastic(algorithm):  # ids are needed to key random numbers, and by nothing else
        for graph in graphs:
            del graph.n_id, graph.e_id
    index = list(case.index)
    if case.one_graph:
        new, first = torch.argsort(moved[0][1][0]), case.first(graphs[0])
        index = (new[torch.tensor(index) + first] - first).t()
    renamed = case.explain(algorithm, data=graphs[0] if isinstance(data, Data) else graphs, index=index, seed=3)
    for e, f in zip(one, renamed, strict=True):
        node, edge = moved[0 if isinstance(data, Data) else e.index][1]
        require_same(by_identity(e), by_identity(f, node, edge), "nodes relabelled and edges permuted", 1e-4)


def law_sensitive_to_model(algorithm: Algorithm, case: Case) -> None:
    """8. Re-initialised weights change the explanation of the same target (Adebayo et al. 2018)."""
    model, target = case.model(), 0
    one = scores_of(case.explain(algorithm, model, target=target))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    other = scores_of(case.explain(algorithm, model, target=target))
    gap = distance(one, other)
    if uses_model(algorithm):
        assert gap > 1e-4, f"re-initialised weights change the scores by {gap:.2g} at most; do they look at the model?"
    else:
        assert gap == 0, "declared not to use the model, but its weights change the scores"


def law_says_what_it_means(algorithm: Algorithm, case: Case) -> None:
    """9. Signed or within [0, 1]; which target, removal and seed; how faithful; the same after saving and in PyG's form."""
    explanations = case.explain(algorithm, seed=5)
    assert torch.equal(explanations.index, torch.tensor(case.index)), (
        f"expected instances {case.index}, got {explanations.index.tolist()}"
    )
    assert explanations.edge_mask is not None or explanations.node_mask is not None or explanations.columns, (
        "neither nodes nor edges have scores"
    )
    assert (explanations.node_mask is None) == (explanations.node_mask_type is None), (
        "node_mask and node_mask_type contradict"
    )
    scores = scores_of(explanations)
    assert bool(torch.isfinite(scores).all()), "some scores are not finite"
    assert not scores.requires_grad, "scores still hold a graph of gradients"
    if not explanations.signed:
        low, high = float(scores.min()), float(scores.max())
        assert min(low, 1 - high) >= 0, f"declared a mask in [0, 1], but scores run from {low:.4g} to {high:.4g}"
    assert explanations.removal in ("message", "structural"), f"removal is {explanations.removal!r}"
    assert explanations.seed == 5, f"seed 5 was given, {explanations.seed} is recorded"
    assert explanations.algorithm["name"] == algorithm.name, f"recorded as {explanations.algorithm['name']!r}"
    for name in ("prediction_masked", "prediction_complement"):
        value = getattr(explanations, name)
        assert value.shape == explanations.prediction.shape, f"{name} is {list(value.shape)}"
        assert bool(torch.isfinite(value).all()), f"{name} is not finite"
    if case.task.mode.value == "multiclass_classification":
        assert torch.equal(explanations.target, explanations.prediction.argmax(1)), (
            "the default target is not the predicted class"
        )
        wanted = [(position + 1) % explanations.prediction.size(1) for position in range(len(explanations))]
        other = case.explain(algorithm, target=wanted)
        assert other.target.tolist() == wanted, f"targets {wanted} were asked for, {other.target.tolist()} recorded"
    with tempfile.TemporaryDirectory() as folder:
        back = read(explanations.save(Path(folder) / "run.safetensors"))
    for name in ("signed", "removal", "algorithm", "seed", "node_mask_type", "provenance", "task"):
        one, other = getattr(explanations, name), getattr(back, name)
        same = vars(one) == vars(other) if name == "task" else one == other
        assert same, f"{name} is {one!r} before saving and {other!r} after"
    for e, f in zip(explanations, back, strict=True):
        require_same(by_identity(e), by_identity(f), "saved and loaded", 0.0)
    for position, e in enumerate(explanations):
        graph, theirs = graph_of(case.data(), e), explanations.to_pyg(position)
        theirs.validate_masks()
        if e.edge_mask is not None:
            full = torch.zeros(graph.num_edges).index_copy(0, e.edge_id, e.edge_mask.float())
            scores = torch.cat([store.edge_mask for store in theirs.edge_stores]).float()
            assert distance(scores, full) == 0, "to_pyg() puts edge scores on other edges"


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


# Parts of the laws ####################################################################################################


@contextmanager
def _blaming(prefix: str) -> Iterator[None]:
    try:
        yield
    except (AssertionError, InputError) as error:
        raise AssertionError(f"{prefix}: {error}") from error


class _Witness:
    """An algorithm that records how far outputs on its computation graphs are off, and leaves the work to another one."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.name, self.summary, self.signed = algorithm.name, algorithm.summary, algorithm.signed
        self.gaps: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.algorithm, name)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Any:
        self.gaps.append(distance(session.outputs(graphs)[:, 0], prediction))
        return self.algorithm.attribute(session, graphs, target, prediction)


def _require_in_play(case: Case, graph: Any, e: Explanation) -> None:
    """Raise unless the nodes and edges in play are those that plain loops find to reach the output."""
    nodes, edges = set(range(graph.num_nodes)), set(range(graph.num_edges))
    if case.one_graph:
        nodes, edges = reachable(graph.edge_index, (torch.tensor(e.roots) + case.first(graph)).tolist(), case.steps)
    ids = set(e.node_id.tolist())
    assert ids == nodes, f"nodes in play of instance {e.index}: {sorted(ids)}, expected {sorted(nodes)}"
    ids = set(e.edge_id.tolist())
    assert ids == edges, f"edges in play of instance {e.index}: {sorted(ids)}, expected {sorted(edges)}"


def _require_masked_predictions(case: Case, model: nn.Module, data: Any, e: Explanation) -> None:
    for name, complement in (("prediction_masked", False), ("prediction_complement", True)):
        gap = distance(getattr(e, name), under_masks(case, model, data, e, complement))
        assert gap <= 1e-4, f"{name} of instance {e.index} differs by {gap:.2g} from the model under its mask"


def _with_loops(graph: Any, seed: int, types: Types | None) -> Any:
    """A copy with self loops at every second node that had none, after all other edges, or all others of their relation."""
    have = set(graph.edge_index[0, graph.edge_index[0] == graph.edge_index[1]].tolist())
    relation = torch.zeros(graph.num_nodes) if types is None else types.loops(graph)
    nodes = [node for node in range(0, graph.num_nodes, 2) if node not in have and relation[node] >= 0]
    loops = torch.tensor(nodes, dtype=torch.int64)
    out = copy.copy(graph)
    out.edge_index = torch.cat([graph.edge_index, loops.repeat(2, 1)], dim=1)
    if types is not None:
        out.edge_type, order = torch.cat([graph.edge_type, relation[loops]]).sort(stable=True)
        out.edge_index = out.edge_index[:, order]
    if graph.get("edge_attr") is not None:
        rng = torch.Generator().manual_seed(seed)
        out.edge_attr = torch.cat([graph.edge_attr, torch.randn(len(loops), graph.edge_attr.size(1), generator=rng)])
    return out


def _permuted(graph: Any, seed: int, nodes: bool = True) -> tuple[Any, tuple[Tensor, Tensor]]:
    """The same graph with other ids, which carries its old ones as `n_id` and `e_id`; and these old ids by new ones."""
    rng = torch.Generator().manual_seed(seed + 50)
    old = torch.randperm(graph.num_nodes, generator=rng) if nodes else torch.arange(graph.num_nodes)
    edge = torch.randperm(graph.num_edges, generator=rng)
    if "node_type" in graph:  # ids of a type, and of a relation, stay together
        old = old[graph.node_type[old].argsort(stable=True)]
        edge = edge[graph.edge_type[edge].argsort(stable=True)]
    out = Data(x=graph.x[old], edge_index=torch.argsort(old)[graph.edge_index[:, edge]], n_id=old, e_id=edge)
    if "node_type" in graph:
        out.node_type, out.edge_type = graph.node_type, graph.edge_type
    if graph.get("edge_attr") is not None:
        out.edge_attr = graph.edge_attr[edge]
    return out, (old, edge)
