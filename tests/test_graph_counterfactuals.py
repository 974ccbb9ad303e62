"""Counterfactuals of graphs: the edits flip what the model says on the graph rebuilt by hand, and none smaller would."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv, SimpleConv

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.errors import InputError
from gnn_xai.extend import Scores
from gnn_xai.results.counterfactuals import extras_of
from gnn_xai.viz import edits as drawing
from gnn_xai.viz.lines import Line

CASES = ["gcn_undirected", "gat_directed", "gcn_links", "gin_graphs"]


def explained(name: str, algorithm: Any, **options: Any) -> gx.Explanations:
    return testing.CASES[name].explain(algorithm, **options)


def output(case: testing.Case, graph: Any, e: gx.Explanation) -> Tensor:
    """The model's output for an instance on a graph of its own."""
    graph = graph.clone()
    if isinstance(e.index, tuple):
        graph.edge_label_index = torch.tensor(e.index).unsqueeze(1)
    if not case.one_graph:
        graph.batch = torch.zeros(graph.num_nodes, dtype=torch.int64)
    with torch.no_grad():
        out = case.call(case.model(), graph)
    return out[e.index if case.task.task_level.value == "node" else 0].reshape(-1)


def says(case: testing.Case, out: Tensor) -> int:
    return int(out > 0) if case.task.mode.value == "binary_classification" else int(out.argmax())


ALGORITHMS: dict[str, Any] = {
    "search": gx.CounterfactualSearch(size=3),
    "greedy": gx.CounterfactualSearch(width=1, size=3),
    "insertions": gx.CounterfactualSearch(size=3, insertions=12),
    "cf_gnn_explainer": gx.CFGNNExplainer(epochs=60),
    "cf2": gx.CF2(epochs=60, lr=0.1),
}


FLIPS = [
    *((name, algorithm) for name in ("gcn_undirected", "gat_directed") for algorithm in ALGORITHMS),
    ("gcn_links", "insertions"),
    ("gin_graphs", "search"),
    ("gin_graphs", "cf_gnn_explainer"),
]


@pytest.mark.parametrize(("name", "algorithm"), FLIPS)
def test_every_flip_flips_when_the_graph_is_rebuilt(name: str, algorithm: str) -> None:
    case, found = testing.CASES[name], 0
    index = list(case.index) if name in ("gcn_links", "gin_graphs") else list(range(case.data().num_nodes))
    for e in explained(name, ALGORITHMS[algorithm], index=index):
        c = e.counterfactual
        out = output(case, c.apply(), e)
        assert torch.allclose(out, c.after, atol=1e-4)
        assert c.found == (says(case, out) != says(case, c.before)) == (c.size > 0)
        found += c.found
    assert found >= 2 or name in ("gcn_links", "gin_graphs")  # which few edges do not change


def _ends(graph: Any) -> list[list[int]]:
    return graph.edge_index.t().tolist()


def edited(graph: Data, edits: tuple[Any, ...], undirected: bool) -> Data:
    """A graph without some of its edges, or with more."""
    gone, new = [], []
    have = {tuple(edge) for edge in _ends(graph)}
    for u, v in edits:
        both = [(u, v), (v, u)] if undirected and u != v else [(u, v)]
        (gone if (u, v) in have else new).extend(both)
    kept = [edge for edge in map(tuple, _ends(graph)) if edge not in gone]
    return Data(x=graph.x, edge_index=torch.tensor([*kept, *new], dtype=torch.int64).reshape(-1, 2).t())


@pytest.mark.parametrize(("name", "insertions"), [("gcn_undirected", 0), ("gcn_undirected", 1000), ("gat_directed", 0)])
def test_the_search_finds_the_smallest_edits_of_all_subsets(name: str, insertions: int) -> None:
    case, undirected = testing.CASES[name], name != "gat_directed"
    size, index = (2, [1, 2, 8, 11]) if undirected else (3, [2, 3, 4])
    search = gx.CounterfactualSearch(width=10_000, size=size, insertions=insertions)
    for e in explained(name, search, index=index):
        graph = case.data() if case.one_graph else case.data()[e.index]
        edges = [(u, v) for u, v in e.edge_index.t().tolist() if not undirected or u <= v]
        pairs = set(edges)
        if insertions:
            nodes, have = e.node_id.tolist(), {tuple(edge) for edge in _ends(graph)}
            near = {n: {v for u, v in have if u == n} | {u for u, v in have if v == n} for n in nodes}
            pairs |= {
                (u, v)
                for u, v in itertools.permutations(nodes, 2)
                if (u, v) not in have and (near[u] & near[v] or e.index in (u, v) and case.one_graph)
                if not undirected or u < v
            }
        smallest = next(
            (
                number
                for number in range(1, size + 1)
                for some in itertools.combinations(sorted(pairs), number)
                if says(case, output(case, edited(graph, some, undirected), e)) != e.target
            ),
            0,
        )
        assert e.counterfactual.size == smallest


def test_it_is_saved_stored_and_selected(tmp_path: Path) -> None:
    explanations = explained("gcn_undirected", ALGORITHMS["insertions"])
    edits = [e.counterfactual.edits for e in explanations]
    explanations.save(tmp_path / "file.safetensors")
    for others in (
        gx.load(tmp_path / "file.safetensors"),
        explained("gcn_undirected", ALGORITHMS["insertions"], out=tmp_path / "run"),
    ):
        assert [e.counterfactual.edits for e in others] == edits
    c = gx.load(tmp_path / "file.safetensors")[[1, 0]][1].counterfactual
    assert c.edits == edits[0]
    with pytest.raises(InputError, match="expected data= for explanations loaded from disk"):
        c.apply()
    assert c.apply(testing.CASES["gcn_undirected"].data()).num_edges > 0


def test_other_algorithms_have_none() -> None:
    e = explained("gcn_undirected", "saliency")[0]
    with pytest.raises(InputError, match="expected explanations by an algorithm that edits graphs"):
        _ = e.counterfactual


def test_regression_moves_by_what_was_asked_for() -> None:
    case = testing.CASES["gine_regression"]
    for e in explained(case.name, gx.CounterfactualSearch(size=2, change=0.05)):
        c = e.counterfactual
        graph = c.apply()
        assert graph.edge_attr.size(0) == graph.num_edges
        assert torch.allclose(output(case, graph, e), c.after, atol=1e-5)
        assert c.found == (abs(float(c.after - c.before)) >= 0.05)
    with pytest.raises(InputError, match=r"insertions=0\) for edges with attributes \(edge_attr\)"):
        explained(case.name, gx.CounterfactualSearch(insertions=3))


class Typed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        relations: Any = {("a", "to", "b"): SAGEConv((3, 2), 4), ("b", "back", "a"): SAGEConv((2, 3), 4)}
        self.one, self.two = HeteroConv(relations), SAGEConv((4, 4), 3)

    def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
        hidden = {name: value.relu() for name, value in self.one(x_dict, edge_index_dict).items()}
        return self.two((hidden["a"], hidden["b"]), edge_index_dict["a", "to", "b"])


def test_edges_of_relations_are_removed() -> None:
    rng = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["a"].x, data["b"].x = torch.randn(6, 3, generator=rng), torch.randn(7, 2, generator=rng)
    data["a", "to", "b"].edge_index = torch.stack([torch.arange(14) % 6, torch.arange(14) % 7])
    data["b", "back", "a"].edge_index = torch.stack([torch.arange(12) % 7, torch.arange(12) % 6])
    model = testing.seeded(Typed)()
    explanations = gx.explain(model, data, gx.CounterfactualSearch(size=3), node_type="b", progress=False)
    for e in explanations:
        c, graph = e.counterfactual, e.counterfactual.apply()
        out = model(graph.x_dict, graph.edge_index_dict)[e.index]
        assert torch.allclose(out, c.after, atol=1e-5)
        assert c.found == (int(out.argmax()) != e.target)
        for edit in c.edits:
            relation, ends = edit.at
            assert ends in map(tuple, data[relation].edge_index.t().tolist())
            assert ends not in map(tuple, graph[relation].edge_index.t().tolist())
    assert any(e.counterfactual.found for e in explanations)


def test_edges_of_two_relations_are_two_edges() -> None:
    """Also where they join the same nodes: what is edited and what could be are counted alike."""
    explanations = explained("sage_heterogeneous", gx.CounterfactualSearch(size=3))
    assert explanations.provenance["undirected"]
    for e, sparsity in zip(explanations, gx.metrics.counterfactual_sparsity(explanations).values, strict=True):
        ends = e.edge_index.sort(0).values.t().tolist()
        edges = {(kind, *pair) for kind, pair in zip(e.edge_type.tolist(), ends, strict=True)}
        if e.counterfactual.found:
            assert float(sparsity) == pytest.approx(1 - e.counterfactual.size / len(edges))
    node = explanations.node_id[explanations.node_ptr[:-1]]
    explanations.extras.update(changed=node.reshape(-1, 1, 1).expand(-1, 1, 2), changed_to=torch.ones(len(node), 1))
    with pytest.raises(InputError, match="expected removed edges alone to edit a heterogeneous graph"):
        explanations[0].counterfactual.apply()


class Both:
    """Takes out a node of each instance, and changes a feature of another one."""

    name, summary, signed, removal = "both", "two edits", True, "structural"

    def attribute(self, session: Any, graphs: Any, target: Tensor, prediction: Tensor) -> Scores:
        gone = torch.zeros_like(graphs.node, dtype=torch.bool)
        gone[graphs.node_ptr[1:] - 1] = True
        changed = torch.full((len(graphs), 2, 2), -1)
        changed[:, 0] = torch.tensor([1, 2])
        extras = {"node_removed": gone, "changed": changed, "changed_to": torch.full((len(graphs), 2), 7.0)}
        outcome = torch.zeros_like(target)
        return Scores(prediction.new_zeros(len(graphs.edge)), extras=extras_of(prediction, outcome, **extras))


def test_nodes_are_removed_and_features_changed() -> None:
    case = testing.CASES["gin_graphs"]
    for e in explained(case.name, Both()):
        c, before = e.counterfactual, case.data()[e.index]
        after, last = c.apply(), before.num_nodes - 1
        assert c.edits == (("node removed", (last,), None), ("feature changed", (1, 2), 7.0))
        assert after.num_nodes == last
        assert torch.equal(after.edge_index, before.edge_index[:, (before.edge_index < last).all(0)])
        assert float(after.x[1, 2]) == 7
        assert float(before.x[1, 2]) != 7


def test_metrics_count_edits() -> None:
    case = testing.CASES["gcn_undirected"]
    explanations, data = explained(case.name, gx.CounterfactualSearch(size=3)), case.data()
    found = torch.tensor([e.counterfactual.found for e in explanations])
    assert gx.metrics.flip_rate(explanations).values.tolist() == found.float().tolist()
    sizes = gx.metrics.counterfactual_size(explanations).values
    assert sizes[found].tolist() == [e.counterfactual.size for e in explanations if e.counterfactual.found]
    assert torch.equal(sizes.isnan(), ~found)
    edges = torch.tensor([len({frozenset(edge) for edge in e.edge_index.t().tolist()}) for e in explanations])
    expected = (1 - sizes / edges)[found]
    assert torch.allclose(gx.metrics.counterfactual_sparsity(explanations).values[found], expected)
    gone = torch.cat([e.edge_id[e.extras["edge_removed"]] for e in explanations])
    edge = torch.isin(torch.arange(data.num_edges), gone).long() - 1
    truth = gx.GroundTruth(edge, torch.zeros(data.num_nodes, dtype=torch.int64))
    assert gx.metrics.counterfactual_accuracy(explanations, truth).mean == 1
    with pytest.raises(InputError, match="expected explanations by an algorithm that edits graphs"):
        gx.metrics.flip_rate(explained(case.name, "saliency"))


def test_what_is_like_no_node_of_the_data_is_implausible() -> None:
    case = testing.CASES["gin_graphs"]
    explanations = explained(case.name, Both())
    strange = gx.metrics.plausibility(case.data(), explanations).values
    explanations.extras["changed_to"] = explanations.extras["changed_to"] * 0
    usual = gx.metrics.plausibility(case.data(), explanations).values
    assert bool((strange < 0.1).all())
    assert bool((usual > strange).all())


def test_removed_edges_are_dashed_and_added_ones_doubled() -> None:
    explanations = explained("gcn_undirected", ALGORITHMS["insertions"])
    for e in explanations:
        ax = e.draw(colorbar=False)
        patches = [patch for patch in ax.patches if patch.get_path_effects() or patch.get_linestyle() != "-"]
        doubled = [patch for patch in patches if patch.get_path_effects()]
        kinds = [edit.kind for edit in e.counterfactual.edits]
        assert len(doubled) == kinds.count("edge added")
        assert len(patches) - len(doubled) == kinds.count("edge removed")
        plt.close("all")
    assert any(edit.kind == "edge added" for e in explanations for edit in e.counterfactual.edits)


def test_insertions_change_nothing_about_edges_that_exist() -> None:
    """An undirected edge of which one direction alone can reach the node can be removed, whatever may be added."""

    class Sums(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = SimpleConv(), SimpleConv()

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            out = self.last(self.first(x, edge_index), edge_index)
            return torch.cat([out, torch.full_like(out, -0.5)], 1)

    ends = torch.tensor([[0, 1, 1], [1, 2, 3]])
    data = Data(x=torch.tensor([[-1.0], [5.0], [1.0], [0.0]]), edge_index=torch.cat([ends, ends.flip(0)], 1))
    without, among = (
        gx.explain(Sums(), data, gx.CounterfactualSearch(insertions=most), task="node", index=0, progress=False)[0]
        for most in (0, 1)
    )
    assert {without.counterfactual.edits[0].at, among.counterfactual.edits[0].at} <= {(1, 2), (2, 1)}
    torch.testing.assert_close(among.edge_mask, without.edge_mask)


def test_the_edge_of_the_other_relation_is_not_drawn_as_removed() -> None:
    """In a heterogeneous graph, a relation and the one that turns it around are two."""

    class Papers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = HeteroConv({relation: SimpleConv() for relation in RELATIONS}, aggr="sum")

        def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[Any, Tensor]) -> Tensor:
            out = self.conv(x_dict, edge_index_dict)["paper"]
            return torch.cat([out, torch.full_like(out, 0.5)], 1)

    data = HeteroData({"author": {"x": torch.ones(2, 1)}, "paper": {"x": torch.ones(2, 1)}})
    for source, name, target in RELATIONS:
        data[source, name, target].edge_index = torch.tensor([[0, 1], [0, 1]])
    e = gx.explain(Papers(), data, gx.CounterfactualSearch(), node_type="paper", index=0, progress=False)[0]
    assert [edit.at for edit in e.counterfactual.edits] == [(RELATIONS[0], (0, 0))]
    lines = [Line(("author", 0), ("paper", 0), 1.0, True, RELATIONS[0])]
    lines.append(Line(("paper", 0), ("author", 0), 0.0, True, RELATIONS[1]))
    _, removed, _ = drawing.edited(e, lines, lines)
    assert [(line.u, line.v, line.relation) in removed for line in lines] == [True, False]
    assert drawing.note_of_edits(e) == "dashed: removed"


RELATIONS = [("author", "writes", "paper"), ("paper", "rev_writes", "author")]


def test_edits_are_of_the_data_that_was_explained() -> None:
    case = testing.CASES["gcn_undirected"]
    e = gx.explain(case.model(), case.data(), gx.CounterfactualSearch(), task=case.task, index=0, progress=False)[0]
    with pytest.raises(InputError, match="expected the data that was explained, got str"):
        e.counterfactual.apply("data")
    with pytest.raises(InputError, match=r"with \d+ nodes and \d+ edges or more, got 2 and 1"):
        e.counterfactual.apply(Data(x=torch.ones(2, 4), edge_index=torch.tensor([[0], [1]])))
