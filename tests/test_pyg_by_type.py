"""Explanations of heterogeneous graphs in PyG's form, and back; of several graphs in ids over all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.explain import Explainer
from torch_geometric.explain import Explanation as PyGExplanation

import gnn_xai as gx
from gnn_xai.errors import InputError
from tests.heterogeneous import seeded
from tests.test_heterogeneous import Pooled, bibliography, by_identity, explained, layers_of, require_same
from tests.test_links_by_type import RATES, TASK, others, ratings
from tests.test_links_by_type import explain as explain_pairs
from tests.test_links_by_type import model_of as links


def require_in_their_data(e: Any, data: Any) -> None:
    """Masks and names of several graphs are in ids over all of them; what they name is what was explained."""
    theirs = e.source.to_pyg(e.position)
    assert theirs[RATES].edge_label_index.flatten().tolist() == list(e.index)
    for relation, mask in e.edge_mask_dict.items() if e.edge_mask is not None else ():
        assert torch.equal(theirs[relation].edge_mask, mask)
        assert torch.equal(theirs[relation].edge_index, data[relation].edge_index)
        for kind, (u, v), score in e.top_edges(99):
            same = (data[relation].edge_index == torch.tensor([[u], [v]])).all(0)
            assert kind != relation or bool((mask[same] == score).any())
    for name, mask in e.node_mask_dict.items() if e.node_mask is not None else ():
        assert mask.shape[0] == data[name].num_nodes
        assert all(
            float(mask[node].sum()) == pytest.approx(score) for (kind, node), score in e.top_nodes(99) if kind == name
        )
    assert {("user", e.index[0]), ("movie", e.index[1])} <= set(e.nodes)


@pytest.mark.parametrize("together", [list, Batch.from_data_list])
@pytest.mark.parametrize("algorithm", ["saliency", "edge_ablation", "node_ablation"])
def test_pairs_of_several_graphs_are_named_over_all_of_them(algorithm: str, together: Any) -> None:
    """In masks and in PyG's form, as in the index."""
    graphs: list[Any] = [others(seed) for seed in range(3)]
    for e in explain_pairs(algorithm, links(), together(graphs)):
        require_in_their_data(e, Batch.from_data_list(graphs))


def test_pygs_form_of_a_pair_says_which_it_is() -> None:
    theirs = explain_pairs("saliency").to_pyg(1)
    assert theirs.validate(raise_on_error=True)
    assert theirs[RATES].edge_label_index.tolist() == [[4], [2]]


@pytest.mark.parametrize("algorithm", ["gnn_explainer", "edge_ablation", "node_ablation", "saliency"])
def test_pairs_there_and_back(algorithm: str) -> None:
    """Through PyG's form, of one graph and of several, with the relation that it notes."""
    model = links()
    for data in (ratings(), [others(seed) for seed in range(2)]):
        ours = explain_pairs(algorithm, model, data)
        theirs: list[Any] = [ours.to_pyg(i) for i in range(len(ours))]
        back = gx.Explanations.from_pyg(theirs, model, data, task=TASK, signed=ours.signed)
        assert torch.equal(back.index, ours.index)
        for name in ("target", "prediction", "prediction_masked", "node_id", "edge_id", "edge_mask", "node_mask"):
            one, other = getattr(back, name), getattr(ours, name)
            assert one is other is None or torch.equal(one, other), name
    picked = gx.Explanations.from_pyg(theirs[2:3], model, data, task=TASK, edge_type=RATES, index=[2], signed=True)
    assert picked.index.tolist() == ours.index[[2]].tolist()


def test_nodes_of_several_graphs_are_named_over_all_of_them() -> None:
    """In masks, tables and figures, as in the index; what is named is what was explained."""
    graphs: list[Any] = [bibliography(seed) for seed in range(2)]
    model, whole = layers_of("sage", graphs[0]), Batch.from_data_list(graphs)
    author = graphs[0]["author"].num_nodes + 3
    for algorithm in ("saliency", gx.GNNExplainer(epochs=2, node_mask_type="object")):
        e: Any = gx.explain(model, graphs, algorithm, task="node", node_type="author", index=author, progress=False)[0]
        assert ("author", author) in e.nodes
        assert e.node_mask_dict["author"].shape[0] == whole["author"].num_nodes
        table = e.source.to_pandas("edge")
        for relation, mask in e.edge_mask_dict.items():
            assert torch.equal(e.source.to_pyg(0)[relation].edge_index, whole[relation].edge_index)
            rows = table[table["edge_type"] == "→".join(relation)]
            ids = rows["edge_id"].tolist()
            assert (
                whole[relation].edge_index[:, ids].t().tolist() == rows[["source", "destination"]].to_numpy().tolist()
            )
            assert torch.equal(mask[ids], torch.tensor(rows["score"].tolist(), dtype=mask.dtype))
        back = gx.Explanations.from_pyg(e.source.to_pyg(0), model, graphs, task="node", signed=e.signed)
        require_same(by_identity(back[0]), by_identity(e), "there and back", 0.0)


@pytest.mark.parametrize("name", ["gnn_explainer", "edge_ablation", "node_ablation", "feature_ablation", "saliency"])
def test_there_and_back_through_pygs_form(name: str) -> None:
    """The type of the explained nodes is noted; from PyG's `Explainer`, the number of outputs tells it, or the user does."""
    data = bibliography()
    model = layers_of("sage", data)
    ours = explained(name, model, data)
    theirs: list[Any] = [ours.to_pyg(i) for i in range(len(ours))]
    back = gx.Explanations.from_pyg(theirs, model, data, signed=ours.signed)
    assert (back.explained_type, back.index.tolist()) == (ours.explained_type, ours.index.tolist())
    assert torch.equal(back.prediction_masked, ours.prediction_masked)
    for one, other in zip(back, ours, strict=True):
        require_same(by_identity(one), by_identity(other), "there and back", 0.0)
    del theirs[0]._global_store["node_type"]
    with pytest.raises(InputError, match="expected explanations of one type, got some of None and author"):
        gx.Explanations.from_pyg(theirs, model, data)
    with pytest.raises(InputError, match="expected node_type= for nodes of a heterogeneous graph, got none"):
        gx.Explanations.from_pyg(theirs[0], model, data)
    again = gx.Explanations.from_pyg(theirs, model, data, node_type="author", signed=ours.signed)
    require_same(by_identity(again[0]), by_identity(ours[0]), "of a type that is said", 0.0)
    with pytest.raises(InputError, match="explanation 0 is not of this data"):
        gx.Explanations.from_pyg(theirs, model, bibliography(1), node_type="author")
    flat: Any = PyGExplanation(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [1]]), edge_mask=torch.ones(1))
    with pytest.raises(InputError, match="expected HeteroExplanation for heterogeneous data, got Explanation"):
        gx.Explanations.from_pyg([theirs[1], flat], model, data, task="node")


def test_graphs_of_several_types_there_and_back(tmp_path: Path) -> None:
    graphs: list[Any] = [bibliography(seed) for seed in range(3)]
    model = seeded(lambda: Pooled(graphs[0]))
    ours = gx.explain(model, graphs, gx.GNNExplainer(epochs=2), task="graph", progress=False)
    theirs: list[Any] = [ours.to_pyg(i) for i in range(3)]
    loaded: Any = gx.load(ours.save(tmp_path / "graphs.safetensors"))
    assert torch.equal(loaded.to_pyg(2, graphs)["author"].node_mask, theirs[2]["author"].node_mask)
    with pytest.raises(InputError, match="expected the data that was explained"):
        loaded.to_pyg(2, graphs[::-1][1:])
    back = gx.Explanations.from_pyg(theirs, model, graphs, task="graph")
    for one, other in zip(back, ours, strict=True):
        require_same(by_identity(one), by_identity(other), "there and back", 0.0)


def test_pygs_explainer_learns_of_which_type_a_node_is_whatever_autocast_says() -> None:
    """The model is asked in its own precision, as for its output, so that rounding does not speak against a type."""
    data = bibliography()
    model = layers_of("sage", data).float()
    x = {name: value.float() for name, value in data.x_dict.items()}
    config = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
    ablation: Any = gx.pyg.algorithm(gx.NodeAblation(removal="structural"))
    explainer = Explainer(model, ablation, explanation_type="model", model_config=config, node_mask_type="object")
    want: Any = explainer(x, data.edge_index_dict, index=1)
    with torch.autocast("cpu", torch.bfloat16):
        got: Any = explainer(x, data.edge_index_dict, index=1)
    for name, mask in want.node_mask_dict.items():
        assert torch.equal(got.node_mask_dict[name], mask)
