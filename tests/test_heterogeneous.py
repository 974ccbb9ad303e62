"""Heterogeneous graphs: every number is that of the model run on the whole `HeteroData`, one element at a time."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_geometric.transforms as T
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData
from torch_geometric.explain import Explainer, HeteroExplanation
from torch_geometric.nn import GATConv, GCNConv, HANConv, HeteroConv, HGTConv, SAGEConv, global_mean_pool, to_hetero

import gnn_xai as gx
from gnn_xai.errors import GnnXaiWarning, InputError, MaskingError
from gnn_xai.testing.comparing import by_identity, require_same, require_state, state_of
from tests.covering import every_value, pairwise
from tests.heterogeneous import Relations, edges_of, margin, masked_messages, seeded, without_edge, without_node
from tests.ready import READY
from tests.test_laws import FEW

INDEX = [0, 3, 7]


def bibliography(seed: int = 0) -> HeteroData:
    """Authors, papers and conferences, in double precision, with features of three widths."""
    rng = torch.Generator().manual_seed(seed)

    def pairs(sources: int, targets: int, count: int) -> Tensor:
        ends = torch.stack([torch.randint(size, (count,), generator=rng) for size in (sources, targets)])
        return torch.unique(ends, dim=1)[:, torch.randperm(torch.unique(ends, dim=1).size(1), generator=rng)]

    data = HeteroData()
    for name, size, width in (("author", 9, 5), ("paper", 12, 7), ("venue", 3, 2)):
        data[name].x = torch.randn(size, width, generator=rng, dtype=torch.float64)
    data["author", "writes", "paper"].edge_index = pairs(9, 12, 18)
    data["paper", "in", "venue"].edge_index = torch.stack([torch.arange(12), torch.randint(3, (12,), generator=rng)])
    data["paper", "cites", "paper"].edge_index = pairs(12, 12, 9)
    return T.ToUndirected(merge=False)(data)


class Stack(nn.Module):
    """Two layers over all relations."""

    def __init__(self, first: nn.Module, second: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second, self.head = first, second, head or nn.Identity()

    def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[Any, Tensor]) -> Tensor:
        """`[authors, 3]`."""
        hidden = {name: x.relu() for name, x in self.first(x_dict, edge_index_dict).items()}
        return self.head(self.second(hidden, edge_index_dict)["author"])


class Encoded(nn.Module):
    """Features of all types brought to one width, then layers."""

    def __init__(self, widths: dict[str, int], stack: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Linear(width, 8) for name, width in widths.items()})
        self.stack = stack

    def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[Any, Tensor]) -> Tensor:
        """`[authors, 3]`."""
        return self.stack({name: self.encoders[name](x).tanh() for name, x in x_dict.items()}, edge_index_dict)


class Plain(nn.Module):
    """A homogeneous model, for `to_hetero`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SAGEConv((-1, -1), 8), SAGEConv((-1, -1), 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`[N, 3]`."""
        return self.second(self.first(x, edge_index).relu(), edge_index)


def _relations(data: HeteroData, conv: Callable[[int], nn.Module]) -> nn.Module:
    return Stack(*(HeteroConv({relation: conv(width) for relation in data.edge_types}) for width in (8, 3)))


def _transformer(data: HeteroData) -> nn.Module:
    layers = [HGTConv(8, 8, data.metadata(), heads=2) for _ in range(2)]
    return Encoded({name: data[name].x.size(1) for name in data.node_types}, Stack(*layers, nn.Linear(8, 3)))


def _attention(data: HeteroData) -> nn.Module:
    layers = [HANConv(8, 8, data.metadata(), heads=2) for _ in range(2)]
    return Encoded({name: data[name].x.size(1) for name in data.node_types}, Stack(*layers, nn.Linear(8, 3)))


MODELS: dict[str, Callable[[HeteroData], nn.Module]] = {
    "sage": lambda data: _relations(data, lambda width: SAGEConv((-1, -1), width)),
    "gat": lambda data: _relations(data, lambda width: GATConv((-1, -1), width, add_self_loops=False)),
    "hgt": _transformer,
    "han": _attention,
    "to_hetero": lambda data: to_hetero(Plain(), data.metadata()),
}


def model_of(name: str, data: HeteroData) -> nn.Module:
    """The model of a name, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = MODELS[name](data).double()
        output(model, data)
    return model.eval()


def output(model: nn.Module, data: HeteroData) -> Tensor:
    """The output for all authors."""
    with torch.no_grad():
        out = model(data.x_dict, data.edge_index_dict)
    return out["author"] if isinstance(out, dict) else out


@pytest.mark.filterwarnings("ignore:the model is not local")  # han averages over all nodes
@pytest.mark.parametrize("name", MODELS)
def test_ablated_edges_are_those_of_the_whole_graph(name: str) -> None:
    data = bibliography()
    model = model_of(name, data)
    whole = output(model, data)
    explanations = gx.explain(
        model, data, gx.EdgeAblation(), node_type="author", index=INDEX, undirected=False, progress=False
    )
    left = [output(model, without_edge(data, *edge)) for edge in edges_of(data)]
    for e, author in zip(explanations, INDEX, strict=True):
        target = int(whole[author].argmax())
        assert (e.index, e.target) == (author, target)
        got = torch.zeros(len(left), dtype=torch.float64).index_copy(0, e.edge_id, e.edge_mask)
        wanted = [margin(whole[author], target) - margin(out[author], target) for out in left]
        torch.testing.assert_close(got, torch.stack(wanted), rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:the model is not local")  # han averages over all nodes
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_whole_graph(name: str) -> None:
    data = bibliography()
    model = model_of(name, data)
    explanations = gx.explain(model, data, gx.Saliency(absolute=False), node_type="author", index=INDEX, progress=False)
    x = {kind: data[kind].x.clone().requires_grad_() for kind in data.node_types}
    out = model(x, data.edge_index_dict)
    out = out["author"] if isinstance(out, dict) else out
    for e, author in zip(explanations, INDEX, strict=True):
        slopes = torch.autograd.grad(
            margin(out[author], e.target), list(x.values()), retain_graph=True, materialize_grads=True
        )
        assert list(e.node_mask_dict) == list(x)
        for (kind, mask), slope in zip(e.node_mask_dict.items(), slopes, strict=True):
            torch.testing.assert_close(mask, slope, rtol=0, atol=1e-9, msg=lambda text, kind=kind: f"{kind}: {text}")


def test_edges_are_in_play_where_their_relation_can_reach() -> None:
    data = bibliography()
    for name, hops in (("sage", 2), ("hgt", 2), ("to_hetero", 2)):
        e = gx.explain(model_of(name, data), data, "saliency", node_type="author", index=3, progress=False)[0]
        assert (e.hops, e.exact) == (hops, True)
        masks = e.edge_mask_dict
        last = {relation for relation in data.edge_types if relation[2] == "author"}
        papers = data["paper", "rev_writes", "author"].edge_index
        near = set(papers[0, papers[1] == 3].tolist())
        for relation, mask in masks.items():
            ends = data[relation].edge_index[1]
            can = ends == 3 if relation in last else torch.tensor([end in near for end in ends.tolist()])
            can = can & (relation[2] in ("author", "paper"))
            assert not mask[~can].any(), (name, relation)
        assert all(masks[relation].any() for relation in last)


def test_a_model_that_averages_over_all_nodes_gets_the_whole_graph() -> None:
    data = bibliography()
    with pytest.warns(GnnXaiWarning, match="the model is not local"):
        explanations = gx.explain(
            model_of("han", data), data, "saliency", node_type="author", index=INDEX, progress=False
        )
    assert explanations.hops.tolist() == [-1, -1, -1]
    assert explanations.exact.all()


def test_what_relation_a_layer_runs_on_is_told_by_its_edges_and_else_refused() -> None:
    data = bibliography()
    twin = data["author", "writes", "paper"].edge_index.clone()
    data["author", "reads", "paper"].edge_index = twin
    model = model_of("gat", data)  # its relations are told by the tensors themselves
    one = gx.explain(model, data, "edge_ablation", node_type="author", index=INDEX, progress=False)
    assert one.exact.all()

    class Copied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[Any, Tensor]) -> Tensor:
            return self.inner(x_dict, {relation: edges.clone() for relation, edges in edge_index_dict.items()})

    with pytest.raises(MaskingError, match="nothing tells which"):
        gx.explain(Copied().eval(), data, "saliency", node_type="author", index=INDEX, progress=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, r"expected node_type= for nodes of a heterogeneous graph, got none; say which of author, paper, venue"),
        ({"node_type": "authors"}, r"unknown node_type 'authors'; did you mean 'author'\?"),
        ({"node_type": "venue", "index": 3}, r"index 3 is out of range; expected 0 to 2"),
        (
            {"node_type": "author", "undirected": True},
            r"not every edge of relation \('author', 'writes', 'paper'\) has its reverse .* use undirected='auto'",
        ),
    ],
)
def test_bad_questions(options: dict[str, Any], sentence: str) -> None:
    data = bibliography()
    with pytest.raises(InputError, match=sentence):
        gx.explain(model_of("sage", data), data, "saliency", progress=False, **options)


# Laws over every algorithm ############################################################################################


def explained(name: str, model: nn.Module, data: HeteroData, **options: Any) -> gx.Explanations:
    """Three authors, explained by an algorithm."""
    method = gx.algorithms.get(name, **FEW.get(name, {}))
    return gx.explain(model, data, method, **{"node_type": "author", "index": INDEX, "progress": False, **options})


def layers_of(kind: str, data: HeteroData) -> Relations:
    """A model whose messages can be masked by hand."""
    model = seeded(lambda: Relations(data, kind, "author"))
    assert isinstance(model, Relations)
    return model


@every_value(name=READY, kind=["sage", "gat", "hgt"])
def test_instances_are_explained_as_if_alone(name: str, kind: str) -> None:
    data = bibliography()
    model = layers_of(kind, data)
    together = explained(name, model, data)
    backwards = explained(name, model, data, index=INDEX[::-1])
    alone = explained(name, model, data, index=INDEX[-1], batch_budget=1)[0]
    require_same(by_identity(together[-1]), by_identity(alone), "an author alone and with others")
    for position, e in enumerate(together):
        require_same(by_identity(e), by_identity(backwards[-1 - position]), "index in reverse order")


@every_value(name=READY, kind=["sage", "transformer", "hgt"])
def test_predictions_under_masks_are_those_of_messages_and_features_multiplied(name: str, kind: str) -> None:
    data = bibliography()
    model = layers_of(kind, data)
    for e in explained(name, model, data, undirected=False):
        for complement, got in ((False, e.prediction_masked), (True, e.prediction_complement)):
            messages = {relation: torch.ones(data[relation].num_edges) for relation in data.edge_types}
            x = {kind: value.clone() for kind, value in data.x_dict.items()}
            scale = [1.0, 1.0]
            if e.signed:
                scale = [1.0 if mask is None else float(mask.abs().max()) or 1.0 for mask in (e.edge_mask, e.node_mask)]
            if e.edge_mask is not None:
                for (relation, mask), ids in zip(e.edge_mask_dict.items(), _inside(e, "edge"), strict=True):
                    soft = (mask.abs() / scale[0])[ids]
                    messages[relation] = (
                        messages[relation].double().index_copy(0, ids, 1 - soft if complement else soft)
                    )
            if e.node_mask is not None:
                for (kind, mask), ids in zip(e.node_mask_dict.items(), _inside(e, "node"), strict=True):
                    soft = (mask.abs() / scale[1]).expand(len(x[kind]), -1)[ids]
                    x[kind][ids] *= 1 - soft if complement else soft
            with torch.no_grad(), masked_messages(model, messages):
                want = model(x, data.edge_index_dict)[e.index]
            torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def _inside(e: gx.Explanation, level: str) -> list[Tensor]:
    """The ids within each type of the nodes or edges that are in play."""
    kinds, numbers = getattr(e, f"{level}_type"), getattr(e, f"{level}_number")
    assert e.source.types is not None
    count = len(e.source.types.node_types if level == "node" else e.source.types.edge_types)
    return [numbers[kinds == number] for number in range(count)]


@pairwise(name=READY, fails=[False, True])
def test_model_and_data_come_back_as_they_were(name: str, fails: bool) -> None:
    data = bibliography()
    model = layers_of("sage", data).train()
    stores = {f"{store._key}": store.to_dict() for store in data.stores}
    before = state_of(model, []), {key: {k: v.clone() for k, v in store.items()} for key, store in stores.items()}
    calls = 0

    def forward(module: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if fails and calls == 4:
            raise KeyboardInterrupt
        return module(batch.x_dict, batch.edge_index_dict)

    if fails:
        with pytest.raises(KeyboardInterrupt):
            explained(name, model, data, forward=forward)
    else:
        explained(name, model, data, forward=forward)
    require_state(before[0], state_of(model, []), "after a run")
    for key, store in before[1].items():
        assert all(torch.equal(value, stores[key][name]) for name, value in store.items())


@pytest.mark.parametrize("name", READY)
def test_files_tables_runs_and_pygs_form_keep_what_was_explained(name: str, tmp_path: Path) -> None:
    data = bibliography()
    model = layers_of("sage", data)
    explanations = explained(name, model, data)
    again = gx.load(explanations.save(tmp_path / "one.safetensors"))
    stored = explained(name, model, data, out=tmp_path / "run")
    assert isinstance(again, gx.Explanations)
    assert again.types == explanations.types
    for e, f, g in zip(explanations, again, stored, strict=True):
        require_same(by_identity(e), by_identity(f), "saved and loaded", 0.0)
        require_same(by_identity(e), by_identity(g), "in a folder")
        if e.edge_mask is not None:
            (relation, (u, v), score), *_ = e.top_edges(1)
            place = (data[relation].edge_index == torch.tensor([[u], [v]])).all(0)
            assert (e.edge_mask_dict[relation][place] == score).any()
    for position, e in enumerate(explanations):
        theirs = explanations.to_pyg(position)
        assert theirs.validate(raise_on_error=True)
        for relation, mask in e.edge_mask_dict.items() if e.edge_mask is not None else ():
            assert torch.equal(theirs[relation].edge_mask, mask)
    if explanations.edge_mask is not None:
        table = explanations.to_pandas("edge")
        first = table.iloc[0]
        source, name_of, target = first["edge_type"].split("→")
        ends = data[source, name_of, target].edge_index[:, int(first["edge_id"])]
        assert ends.tolist() == [first["source"], first["destination"]]


def test_prepared_problems_comparisons_and_metrics_take_heterogeneous_graphs() -> None:
    data = bibliography()
    model = layers_of("sage", data)
    prepared = pickle.loads(pickle.dumps(gx.prepare(model, data, node_type="author")))
    assert len(prepared) == 9
    one = explained("saliency", model, data)
    two = gx.explain(prepared, "saliency", index=INDEX, progress=False)
    require_same(by_identity(one[0]), by_identity(two[0]), "prepared")
    fresh = gx.metrics.fidelity(model, data, one)
    assert torch.allclose(fresh.plus.values, gx.metrics.fidelity(prepared, one).plus.values)
    stable = partial(gx.metrics.ges, copies=1)
    table = gx.compare(
        model,
        data,
        ["saliency"],
        {"fidelity": "fidelity", "ges": stable},
        node_type="author",
        index=INDEX,
        progress=False,
    )
    assert set(table.to_pandas()["algorithm"]) == {"random", "saliency"}
    prepared.graphs.source["paper"].x[0, 0] += 1
    with pytest.raises(InputError, match=r"data.paper.x changed since"):
        gx.explain(prepared, "saliency", index=INDEX, progress=False)


# Inside PyG's Explainer ###############################################################################################


def explainer(model: nn.Module, algorithm: Any, node: str | None, level: str = "node") -> Explainer:
    """PyG's explainer of a model's classes, with one of our algorithms."""
    return Explainer(
        model,
        gx.pyg.algorithm(algorithm),
        explanation_type="model",
        node_mask_type=node,
        edge_mask_type="object",
        model_config={"mode": "multiclass_classification", "task_level": level, "return_type": "raw"},
    )


def test_one_node_inside_pyg_is_explained_as_here() -> None:
    data = bibliography()
    model = model_of("sage", data)
    of_pyg = explainer(model, "saliency", "attributes")(data.x_dict, data.edge_index_dict, index=3)
    e = gx.explain(model, data, "saliency", node_type="author", index=3, progress=False)[0]
    assert isinstance(of_pyg, HeteroExplanation)
    for kind, mask in e.node_mask_dict.items():
        assert torch.equal(of_pyg[kind].node_mask, mask)
    for relation, mask in e.edge_mask_dict.items():
        assert torch.equal(of_pyg[relation].edge_mask, mask)
    ours = gx.explain(model, data, "saliency", node_type="author", index=3, progress=False).to_pyg(0)
    assert ours.validate(raise_on_error=True)
    assert torch.equal(ours["paper"].node_mask, of_pyg["paper"].node_mask)


@pytest.mark.parametrize("node", ["object", "attributes", "common_attributes"])
def test_several_nodes_inside_pyg_share_one_mask_that_reaches_no_further_than_they_do(node: str) -> None:
    data = bibliography()
    model = model_of("hgt", data)
    of_pyg = explainer(model, gx.GNNExplainer(epochs=3), node)(
        data.x_dict, data.edge_index_dict, index=torch.tensor([0, 3])
    )
    assert of_pyg.validate(raise_on_error=True)
    apart = [
        gx.explain(model, data, "saliency", node_type="author", index=author, progress=False)[0] for author in (0, 3)
    ]
    for relation in data.edge_types:
        reached = sum(e.edge_mask_dict[relation] for e in apart) > 0
        mask = of_pyg[relation].edge_mask
        assert not mask[~reached].any(), relation
        assert (mask[reached] > 0).all()
    for kind in data.node_types:
        rows, width = data[kind].x.shape
        shape = {"object": (rows, 1), "attributes": (rows, width), "common_attributes": (1, width)}[node]
        assert of_pyg[kind].node_mask.shape == shape


# Several graphs #######################################################################################################


class Pooled(nn.Module):
    """The mean over the nodes of one type, for each graph."""

    def __init__(self, data: HeteroData) -> None:
        super().__init__()
        self.inner = Relations(data, "sage", "author")
        self.inner.head, self.head = nn.Identity(), nn.Linear(4, 3)

    def forward(self, x_dict: Any, edge_index_dict: Any, batch_dict: Any) -> Tensor:
        """`[G, 3]`."""
        return self.head(global_mean_pool(self.inner(x_dict, edge_index_dict), batch_dict["author"]))


def test_graphs_of_several_types_are_explained_as_if_alone(tmp_path: Path) -> None:
    graphs = [bibliography(seed) for seed in range(3)]
    graphs[1] = without_node(graphs[1], "author", 2)
    model = seeded(lambda: Pooled(graphs[0]))
    one = torch.zeros(9, dtype=torch.int64)
    explanations = gx.explain(
        model, graphs, gx.EdgeAblation(), task="graph", index=[1, 2], undirected=False, progress=False
    )
    for e in explanations:
        data = graphs[e.index]
        batch = {"author": one[: data["author"].num_nodes]}
        for relation, mask in e.edge_mask_dict.items():
            left = without_edge(data, relation, 0)
            with torch.no_grad():
                full, rest = (model(d.x_dict, d.edge_index_dict, batch)[0] for d in (data, left))
            assert abs(float(mask[0] - margin(full, e.target) + margin(rest, e.target))) < 1e-9
    batched = gx.explain(model, Batch.from_data_list(graphs), "saliency", task="graph", index=[1, 2], progress=False)
    stored = gx.explain(model, graphs, "saliency", task="graph", index=[1, 2], out=tmp_path / "run", progress=False)
    for e, f in zip(batched, stored, strict=True):
        require_same(by_identity(e), by_identity(f), "a batch and a list")
    assert explanations.to_pyg(0).validate(raise_on_error=True)


def test_relations_that_look_alike_around_a_node_are_told_apart() -> None:
    """On its computation graph both hold the same edge, and layers that add loops make other tensors of both."""
    data = HeteroData()
    data["user"].x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double()
    data["user", "follows", "user"].edge_index = torch.tensor([[1, 3, 4], [0, 4, 5]])
    data["user", "likes", "user"].edge_index = torch.tensor([[1, 5, 3], [0, 3, 5]])
    data["user", "blocks", "user"].edge_index = torch.tensor([[4, 2], [3, 5]])

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleDict({relation[1]: GCNConv(3, 3) for relation in data.edge_types})

        def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[Any, Tensor]) -> Tensor:
            # In another order than that of the data.
            return sum(self.convs[r[1]](x_dict["user"], edge_index_dict[r]) for r in reversed(data.edge_types))

    model = seeded(Sum)
    ablation = gx.EdgeAblation(removal="message")
    (e,) = gx.explain(model, data, ablation, node_type="user", index=0, progress=False)
    full = output(model, data)[0]
    for relation in data.edge_types[:2]:
        conv = model.convs[relation[1]]
        handle = conv.register_message_forward_hook(
            lambda module, inputs, out: out * (torch.arange(len(out)) != 0)[:, None]
        )
        want = margin(full, e.target) - margin(output(model, data)[0], e.target)
        handle.remove()
        assert abs(float(e.edge_mask_dict[relation][0] - want)) < 1e-9, relation
