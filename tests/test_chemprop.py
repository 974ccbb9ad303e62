"""Models that are no PyG models: a D-MPNN through `forward=`, and Chemprop where it is installed."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig

import gnn_xai as gx

pytest.importorskip("rdkit")

pytestmark = pytest.mark.filterwarnings("ignore:the model sends no messages over edge_index")

SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "C", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C"]
TASK = ModelConfig(mode="regression", task_level="graph", return_type="raw")
METHODS = {
    "atoms": gx.NodeAblation(),
    "gradients": gx.IntegratedGradients(edge_mask_type=None, steps=64),
    "fragments": gx.FragmentAblation(),
    "shapley": gx.Shapley(players="fragments"),
}


class DirectedMessages(nn.Module):
    """A D-MPNN (Yang et al., J. Chem. Inf. Model. 2019) in plain PyTorch, which reads what Chemprop's does."""

    def __init__(self, atoms: int = 23, bonds: int = 5, width: int = 8) -> None:
        super().__init__()
        self.start, self.step, self.out = nn.Linear(atoms + bonds, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, graph: Any) -> Tensor:
        u, v = graph.edge_index
        first = self.start(torch.cat([graph.V[u], graph.E], dim=1))
        hidden = first.relu()
        for _ in range(2):
            into = hidden.new_zeros(len(graph.V), hidden.size(1)).index_add(0, v, hidden)
            hidden = (first + self.step(into[u] - hidden[graph.rev_edge_index])).relu()
        atoms = hidden.new_zeros(len(graph.V), hidden.size(1)).index_add(0, v, hidden)
        sums = atoms.new_zeros(int(graph.batch.max()) + 1, atoms.size(1)).index_add(0, graph.batch, atoms)
        return self.out(sums)


def forward(model: nn.Module, data: Data) -> Tensor:
    """As in `examples/chemprop_model.py`, which needs Chemprop to be read."""
    assert data.edge_index is not None
    assert data.x is not None
    (u, v), size = data.edge_index, len(data.x)
    reverse = (u * size + v).argsort()[(v * size + u).argsort().argsort()]
    edges = {"E": data.edge_attr, "edge_index": data.edge_index, "rev_edge_index": reverse}
    return model(SimpleNamespace(V=data.x, batch=data.batch, **edges))


def check_numbers(model: nn.Module, mols: Any, run: Any) -> None:
    """Atoms by removal one by one, gradients and Shapley values by their sums, and counterfactuals by running them again."""
    prepared = gx.prepare(model, mols, task=TASK, forward=run)
    found = {name: gx.explain(prepared, method, progress=False) for name, method in METHODS.items()}
    data = mols[0]
    alone = torch.no_grad()(run)
    whole = alone(model, Batch.from_data_list([data]))
    for atom in range(data.num_nodes):
        left = data.subgraph(torch.arange(data.num_nodes) != atom)
        drop = float(whole - alone(model, Batch.from_data_list([left])))
        assert float(found["atoms"][0].node_mask[atom]) == pytest.approx(drop, abs=1e-5)
    for name in ("gradients", "shapley"):
        for e in found[name]:
            parts = gx.molecules.sum_of(e)
            assert parts is not None
            assert abs(parts.error) < (1e-4 if name == "shapley" else 0.02)
    assert found["fragments"].node_mask.abs().max() > 0
    lower = gx.molecules.counterfactuals(prepared, mols, change=-1e-3, max_edits=1, limit=2)[0]
    for item in lower:
        again = alone(model, Batch.from_data_list([mols.featurize(gx.molecules.smiles.as_mol(item.smiles))]))
        assert float(again) == pytest.approx(item.value, abs=1e-5)
        assert item.value <= lower.value - 1e-3
    assert len(lower) == 2


def test_a_model_of_directed_messages_is_explained_through_forward() -> None:
    torch.manual_seed(0)
    check_numbers(DirectedMessages().eval(), gx.molecules.from_smiles(SMILES, "one_hot"), forward)


def test_chemprop_is_explained_through_forward() -> None:
    chemprop = pytest.importorskip("chemprop")
    example = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "chemprop_model.py"))
    mols = gx.molecules.from_smiles(SMILES, example["graph"])
    torch.manual_seed(0)
    model = chemprop.models.MPNN(
        chemprop.nn.BondMessagePassing(d_h=8), chemprop.nn.SumAggregation(), chemprop.nn.RegressionFFN(input_dim=8)
    ).eval()
    own = model(chemprop.data.BatchMolGraph([example["FEATURIZER"](mol) for mol in mols.mols]))
    torch.testing.assert_close(example["forward"](model, Batch.from_data_list(list(mols))), own)
    check_numbers(model, mols, example["forward"])
