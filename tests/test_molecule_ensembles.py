"""Ensembles of models, with the uncertainty of each atom, and models of several tasks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import global_add_pool

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.molecules import ensemble, from_smiles, tasks
from tests.test_molecule_files import REGRESSION, Small

pytest.importorskip("rdkit")

SMILES = ["OCCN", "CCO", "NCCO", "CCCN"]
LABELS = ModelConfig("binary_classification", "graph", "raw")
METHOD = gx.InputXGradient(edge_mask_type=None)


class Weighted(nn.Module):
    """A weight for each element: carbon, nitrogen, oxygen; one output or several."""

    def __init__(self, *weights: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return global_add_pool(x[:, :3] @ self.weight.t(), batch)


@pytest.fixture(scope="module")
def explained() -> gx.Explanations:
    """Three members that agree on oxygen and nitrogen's sign in two of three."""
    members = [Weighted([0.0, 1.0, 2.0]), Weighted([0.0, 1.0, 3.0]), Weighted([0.0, -4.0, 4.0])]
    return ensemble(members, SMILES, METHOD, task=REGRESSION, featurizer="one_hot")


def test_means_and_spreads_are_those_of_the_members(explained: gx.Explanations) -> None:
    atoms = explained[0].atoms.set_index("symbol")
    assert atoms.loc["O", ["attribution", "spread", "sign_agreement"]].tolist() == pytest.approx([3, 1, 1])
    spread = torch.tensor([1.0, 1.0, -4.0]).std().item()
    assert atoms.loc["N", ["attribution", "spread", "sign_agreement"]].tolist() == pytest.approx(
        [-2 / 3, spread, 1 / 3]
    )
    assert atoms.loc["C", "spread"].max() == 0
    assert explained[0].prediction.item() == pytest.approx(3 - 2 / 3)
    assert explained.extras["prediction_spread"][1].item() == pytest.approx(1.0)
    assert explained.algorithm["members"] == 3
    assert float(gx.molecules.sum_of(explained[0]).error if gx.molecules.sum_of(explained[0]) else 0) == pytest.approx(
        0, abs=1e-5
    )


def test_they_are_saved_and_cut(explained: gx.Explanations, tmp_path) -> None:
    explained.save(tmp_path / "e.safetensors")
    again = gx.load(tmp_path / "e.safetensors")
    assert torch.equal(again.extras["node_spread"], explained.extras["node_spread"])
    assert explained[[2]].extras["node_spread"].tolist() == explained[2].extras["node_spread"].tolist()


def test_atoms_of_which_members_disagree_are_hatched(explained: gx.Explanations) -> None:
    hatch = 'stroke="#3b444d"'
    assert gx.molecules.draw(explained[0]).svg.count(hatch) == 3, "three lines over the nitrogen"
    assert gx.molecules.draw(explained[1]).svg.count(hatch) == 0
    assert "hatched" in gx.molecules.draw(explained[0]).svg
    assert "hatched" not in gx.molecules.draw(explained[1]).svg
    one = gx.explain(Weighted([0.0, 1.0, 2.0]), from_smiles(SMILES, "one_hot"), METHOD, task=REGRESSION, progress=False)
    assert hatch not in gx.molecules.draw(one[0]).svg
    assert "spread" not in one[0].atoms


def test_bonds_and_seeds() -> None:
    model = Small().eval()
    same = ensemble([model], SMILES, "integrated_gradients", task=REGRESSION, seeds=[0, 1])
    assert same.extras["edge_spread"].abs().max() < 1e-6, "not stochastic: all seeds give the same"
    assert same[0].bonds["sign_agreement"].between(0, 1).all()
    random = ensemble([model], SMILES, "random", task=REGRESSION, seeds=[0, 1, 2])
    parts = [
        gx.explain(model, from_smiles(SMILES, "one_hot"), "random", task=REGRESSION, seed=seed, progress=False)
        for seed in (0, 1, 2)
    ]
    torch.testing.assert_close(random.edge_mask, torch.stack([part.edge_mask for part in parts]).mean(0))
    assert random[0].bonds["spread"].tolist() == pytest.approx(
        torch.tensor([part[0].bonds["attribution"].tolist() for part in parts]).std(0).tolist(), abs=1e-5
    )


def test_the_class_is_that_of_the_mean() -> None:
    """Two members say class 0 and one says class 1, louder."""
    task = ModelConfig("multiclass_classification", "graph", "raw")
    members = [Weighted([1.0, 0, 0], [0.0, 0, 0])] * 2 + [Weighted([0.0, 0, 0], [9.0, 0, 0])]
    found = ensemble(members, ["CC"], METHOD, task=task, featurizer="one_hot")
    assert found.target.tolist() == [1]


def test_ensembles_that_are_none() -> None:
    for models, options, words in (
        ([Small()], {}, "at least two members, got 1 models and 1 seeds"),
        ([], {}, "at least two members, got 0 models"),
        ([Small(), 3], {}, "torch.nn.Module each, got int at position 1"),
        ([Small()], {"seeds": [0, 0.5]}, "seeds as an integer"),
    ):
        with pytest.raises(InputError, match=words):
            ensemble(models, SMILES, task=REGRESSION, **options)


# Tasks ###############################################################################################################


def test_all_tasks_in_one_call() -> None:
    model = Weighted([0.0, 1.0, 2.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0])
    mols = from_smiles([*SMILES, "OCCCO"], "one_hot")
    for graph in mols:
        graph.y = torch.full((1, 3), float("nan"))  # no label is known
    found = tasks(model, mols, METHOD, names=["logP", "toxic", "carbons"], task=LABELS)
    assert list(found) == ["logP", "toxic", "carbons"]
    for column, name in enumerate(found):
        alone = gx.explain(model, mols, METHOD, task=LABELS, target=column, progress=False)
        torch.testing.assert_close(found[name].node_mask, alone.node_mask)
        assert found[name].target.tolist() == [column] * 5
    table = found.table().set_index("name")
    assert table.loc["alcohol", ["logP", "toxic", "carbons"]].tolist() == pytest.approx([2.5, 0, 0])
    assert table.loc["primary amine", ["logP", "toxic", "carbons"]].tolist() == pytest.approx([1, -1, 0])
    assert table.loc["alcohol", "molecules"] == 4
    assert list(table.index) == ["alcohol", "primary amine"]
    assert repr(found) == "Tasks(logP, toxic, carbons; 5 molecules, input_x_gradient)"
    with pytest.raises(InputError, match="the name of a task, 'logP', 'toxic', 'carbons', got 'logp'"):
        found["logp"]


def test_classes_are_tasks_too() -> None:
    task = ModelConfig("multiclass_classification", "graph", "raw")
    found = tasks(Weighted([0.0, 1.0, 2.0], [0.0, -1.0, 0.0]), SMILES, METHOD, task=task, featurizer="one_hot")
    assert list(found) == ["task 0", "task 1"]
    torch.testing.assert_close(found["task 0"].node_mask, -found["task 1"].node_mask)
    with pytest.raises(InputError, match="expected 2 names, each another"):
        tasks(Weighted([0.0] * 3, [0.0] * 3), SMILES, METHOD, task=task, names=["a", "a"], featurizer="one_hot")
