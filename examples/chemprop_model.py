"""Explain a Chemprop model (a D-MPNN, not of PyG) by atoms, features, fragments and counterfactuals (needs chemprop 2)."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch
from chemprop import featurizers, models, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

import gnn_xai as gx

FEATURIZER = featurizers.SimpleMoleculeMolGraphFeaturizer()  # the one that the model was trained with


def graph(mol):
    """Make of an RDKit molecule the graph that Chemprop makes of it."""
    made = FEATURIZER(mol)
    x, edge_attr, edge_index = map(torch.from_numpy, (made.V, made.E, made.edge_index))
    return Data(x=x.float(), edge_attr=edge_attr.float(), edge_index=edge_index.long())


def forward(model, data):
    """Run Chemprop on a batch of PyG. It reads five tensors, one of which names the reverse of each edge."""
    (u, v), size = data.edge_index, len(data.x)
    reverse = (u * size + v).argsort()[(v * size + u).argsort().argsort()]
    of_edges = {"E": data.edge_attr, "edge_index": data.edge_index, "rev_edge_index": reverse}
    return model(SimpleNamespace(V=data.x, batch=data.batch, **of_edges))


def main(out: Path) -> None:
    """Train a small model on logP (or load yours with `models.MPNN.load_from_file`), and explain it."""
    logp = gx.datasets.load("nci_logp")
    model = models.MPNN(nn.BondMessagePassing(d_h=64), nn.NormAggregation(norm=10), nn.RegressionFFN(input_dim=64))
    data = gx.molecules.from_smiles([molecule.smiles for molecule in logp.data[:400]], graph)
    train = [encoded.update({"y": molecule.y}) for encoded, molecule in zip(data, logp.data, strict=False)]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for batch in DataLoader(train * 15, batch_size=20):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(forward(model, batch)[:, 0], batch.y).backward()
        optimizer.step()
    aspirin = gx.molecules.from_smiles("CC(=O)Oc1ccccc1C(=O)O", graph)
    prepared = gx.prepare(model.eval(), aspirin, task=logp.task, forward=forward)
    ig, shapley = gx.IntegratedGradients(edge_mask_type=None), gx.Shapley(players="fragments")
    ways = "node_ablation", ig, "fragment_ablation", shapley
    out.mkdir(parents=True, exist_ok=True)
    gx.molecules.grid([gx.explain(prepared, way, progress=False)[0] for way in ways]).save(out / "aspirin.png")
    print(gx.molecules.counterfactuals(prepared, aspirin, change=-1.0)[0].table().head())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("out/examples/chemprop_model"))
    main(parser.parse_args().out)
