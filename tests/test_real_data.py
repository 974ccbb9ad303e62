"""Real data, where the folder with it is present: Cora, MUTAG, benzene rings in ZINC molecules, and authors of DBLP."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, GINConv, global_add_pool

import gnn_xai as gx
from benchmarks import dblp, molecules

FOLDER = Path(os.environ.get("GNN_XAI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def arrays(name: str) -> dict[str, np.ndarray]:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{name} is not there (looked beside the checkout; set GNN_XAI_DATA to the folder that holds it)")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


class GCN(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = GCNConv(inputs, 16), GCNConv(16, classes)

    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


class GIN(nn.Module):
    def __init__(self, inputs: int, hidden: int = 32) -> None:
        super().__init__()
        sizes = [inputs, hidden, hidden]
        self.convs = nn.ModuleList(
            GINConv(nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()))
            for size in sizes
        )
        self.head = nn.Linear(hidden, 2)

    def forward(self, x, edge_index, batch):
        for conv in self.convs:
            x = conv(x, edge_index)
        return self.head(global_add_pool(x, batch))


def fit(model: nn.Module, loss, epochs: int, lr: float, decay: float = 0.0) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=decay)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    model.eval()


@pytest.fixture(scope="module")
def cora() -> tuple[nn.Module, Data, torch.Tensor]:
    raw = arrays("cora.npz")
    shape = tuple(int(s) for s in raw["x_shape"])
    rows = np.repeat(np.arange(shape[0]), np.diff(raw["x_indptr"]))
    x = torch.zeros(shape)
    x[torch.from_numpy(rows), torch.from_numpy(raw["x_indices"]).long()] = torch.from_numpy(raw["x_data"]).float()
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    data = Data(x=x, edge_index=torch.from_numpy(raw["edge_index"]).long(), y=torch.from_numpy(raw["y"]).long())
    train, test = (torch.from_numpy(raw[f"{part}_mask"]).bool() for part in ("train", "test"))
    torch.manual_seed(0)
    model = GCN(shape[1], int(data.y.max()) + 1)
    cross_entropy = nn.functional.cross_entropy
    fit(model, lambda: cross_entropy(model(data.x, data.edge_index)[train], data.y[train]), 100, 0.01, 5e-4)
    right = model(data.x, data.edge_index).argmax(1) == data.y
    assert float(right[test].float().mean()) > 0.75
    return model, data, (test & right).nonzero().flatten()[:50]


@pytest.mark.parametrize(
    "algorithm", [gx.GNNExplainer(epochs=30, node_mask_type="object"), gx.Saliency(), gx.EdgeAblation()]
)
def test_cora_nodes_are_explained_exactly(cora, algorithm):
    model, data, index = cora
    explanations = gx.explain(model, data, algorithm, index=index, progress=False)
    assert bool(explanations.exact.all())
    assert len(explanations) == 50
    values = explanations.edge_mask
    assert values is not None
    assert bool(torch.isfinite(values).all())
    alone = gx.explain(model, data, algorithm, index=index[7:8], progress=False)
    torch.testing.assert_close(alone[0].edge_mask, explanations[7].edge_mask, atol=1e-5, rtol=1e-5)


def test_cora_top_edges_matter_more_than_random_ones(cora):
    model, data, index = cora
    found = gx.explain(model, data, gx.EdgeAblation(), index=index, progress=False)
    chance = gx.explain(model, data, gx.Random(), index=index, progress=False)
    chance = gx.metrics.fidelity(model, data, chance, top=3, level="edge", removal="structural")
    best = gx.metrics.fidelity(model, data, found, top=3, removal="structural")
    assert best.plus.mean > chance.plus.mean


@pytest.fixture(scope="module")
def mutag() -> tuple[nn.Module, list[Data], gx.GroundTruth]:
    raw = arrays("mutag.npz")
    graphs, edges, nodes = [], [], []
    for i in range(len(raw["node_ptr"]) - 1):
        node = slice(raw["node_ptr"][i], raw["node_ptr"][i + 1])
        edge = slice(raw["edge_ptr"][i], raw["edge_ptr"][i + 1])
        x = nn.functional.one_hot(torch.from_numpy(raw["node_label"][node]).long(), 7).float()
        edge_index = torch.from_numpy(raw["edge_index"][:, edge]).long()
        graphs.append(Data(x=x, edge_index=edge_index, y=torch.tensor([int(raw["y"][i])])))
        nodes.append(torch.from_numpy(raw["node_no2_derived"][node]).long().clamp(max=1) - 1)
        edges.append(torch.from_numpy(raw["edge_no2_derived"][edge]).long().clamp(max=1) - 1)
    batch = Batch.from_data_list(graphs)
    torch.manual_seed(0)
    model = GIN(7)
    cross_entropy = nn.functional.cross_entropy
    fit(model, lambda: cross_entropy(model(batch.x, batch.edge_index, batch.batch), batch.y), 150, 0.005)
    predicted = model(batch.x, batch.edge_index, batch.batch).argmax(1)
    assert float((predicted == batch.y).float().mean()) > 0.85
    return model, graphs, gx.GroundTruth(edge=edges, node=nodes)


def test_mutag_molecules_are_explained_as_one_batch(mutag):
    model, graphs, truth = mutag
    explanations = gx.explain(model, graphs, gx.NodeAblation(), index=range(40), progress=False)
    assert bool(explanations.exact.all())
    alone = gx.explain(model, graphs[3:4], gx.NodeAblation(), progress=False)
    torch.testing.assert_close(alone.node_mask, explanations[3].node_mask, atol=1e-5, rtol=1e-5)
    assert gx.metrics.roc_auc(explanations, truth, "node").count > 0


def test_benzene_rings_are_found_in_zinc_molecules(monkeypatch):
    raw = arrays("benzene.npz")
    graphs, motifs, split = molecules.read_zinc(FOLDER / "benzene.npz")
    published = torch.from_numpy(raw["node_gt_any"]).bool()
    assert torch.equal(torch.cat([motif.any(0) for motif in motifs]), published)
    some = {"train": split["train"][:2000], "test": split["test"][:300]}
    monkeypatch.setattr(molecules, "read_zinc", lambda path: (graphs, motifs, some))
    case, _, facts = molecules.zinc(50)
    assert facts["accuracy"] > 0.95
    explanations = molecules.explain(case, gx.IntegratedGradients(edge_mask_type=None), case.index)
    assert molecules.measures(case, explanations)["atom ROC-AUC"]["mean"] > 0.8


@pytest.fixture(scope="module")
def bibliography() -> dblp.Bibliography:
    arrays("dblp.npz")
    return dblp.read(FOLDER / "dblp.npz")


@pytest.mark.parametrize("name", ["HeteroSAGE", pytest.param("HGT", marks=pytest.mark.full)])
def test_authors_of_dblp_are_known_by_their_conferences(bibliography: dblp.Bibliography, name: str):
    model, accuracy = dblp.trained(dblp.MODELS[name], bibliography)
    assert accuracy > 0.85
    explanations = dblp.explain(model, bibliography, gx.IntegratedGradients(edge_mask_type=None))
    assert len(explanations) == 50
    assert bool(explanations.exact.all())
    counts = dblp.conferences_on_top(explanations)
    assert counts["first of all but the author"] >= 40
    assert counts["among the first three"] >= 45
    # GraphSAGE adds what it reads of the author to what it reads of the papers, which comes first for many.
    assert counts["first"] >= (40 if name == "HGT" else 5)
    alone = gx.explain(
        model, bibliography.data, "edge_ablation", node_type="author", index=int(explanations.index[7]), progress=False
    )
    for edge, score in zip(alone[0].edge_id.tolist()[:3], alone[0].edge_mask.tolist(), strict=False):
        without = bibliography.data.clone()
        relation = without.edge_types[int(alone[0].edge_type[alone[0].edge_id == edge])]
        kept = torch.arange(without[relation].num_edges) != int(alone[0].edge_number[alone[0].edge_id == edge])
        without[relation].edge_index = without[relation].edge_index[:, kept]
        with torch.no_grad():
            outputs = [
                model(data.x_dict, data.edge_index_dict)[alone[0].index] for data in (bibliography.data, without)
            ]
        margins = [out[alone[0].target] - out[torch.arange(4) != alone[0].target].logsumexp(0) for out in outputs]
        assert float(margins[0] - margins[1]) == pytest.approx(score, abs=1e-3)
