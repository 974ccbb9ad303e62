"""Molecules that change what a model says: valid, small edits, in words that are true."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import global_add_pool

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.molecules import Counterfactuals, counterfactuals
from gnn_xai.molecules.edits import SUBSTITUENTS, single_edits
from gnn_xai.molecules.smiles import as_mol
from tests.covering import every_value

pytest.importorskip("rdkit")

REGRESSION = ModelConfig("regression", "graph", "raw")
MOLECULES = [
    "O=[N+]([O-])c1ccccc1",
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "C[C@]12CC[C@H]3[C@@H](CCC4=CC(=O)CC[C@]34C)[C@@H]1CC[C@@H]2O",
    "CC(=O)[O-].[Na+]",
    "C",
    "C/C=C/C(=O)O",
    "c1cc[nH]c1",
]


class Counts(nn.Module):
    """How many atoms have each of some features: nitrogen, oxygen, fluorine."""

    def __init__(self, columns: tuple[int, ...]) -> None:
        super().__init__()
        self.columns = columns
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return self.weight * global_add_pool(x[:, list(self.columns)], batch)


@pytest.fixture(scope="module")
def ds() -> gx.datasets.Benchmark:
    return gx.datasets.load("nci_nitro")


def canonical(smiles: str) -> str:
    from rdkit import Chem

    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


def test_removing_the_nitro_group_flips_the_class(ds: gx.datasets.Benchmark) -> None:
    state = copy.deepcopy(ds.model.state_dict())
    found = counterfactuals(ds.model, "O=[N+]([O-])c1ccc(C)cc1", task=ds.task, featurizer="one_hot", limit=20)
    assert isinstance(found, Counterfactuals)
    edits = {each.edits: each.smiles for each in found}
    assert edits["remove nitro at C3",] == "Cc1ccccc1"
    assert edits["nitro at C3 becomes carboxyl",] == canonical("Cc1ccc(C(=O)O)cc1")
    assert all(len(each.edits) == 1 for each in found)
    assert found.value > 0.5 > found[0].value
    assert [each.similarity for each in found] == sorted((each.similarity for each in found), reverse=True)
    assert all(torch.equal(value, ds.model.state_dict()[key]) for key, value in state.items())


def test_two_groups_take_two_edits(ds: gx.datasets.Benchmark) -> None:
    found = counterfactuals(
        ds.model, "O=[N+]([O-])c1ccc(Oc2ccc([N+](=O)[O-])cc2)cc1", task=ds.task, featurizer="one_hot", limit=200
    )
    assert min(len(each.edits) for each in found) == 2
    assert "O(c1ccccc1)c1ccccc1" in {canonical(each.smiles) for each in found} or len(found) == 200


def test_what_is_found_is_what_the_model_says(ds: gx.datasets.Benchmark) -> None:
    data = [ds.data[i] for i in ds.index[:3].tolist()]
    results = counterfactuals(ds.model, data, task=ds.task, featurizer="one_hot", limit=5)
    assert len(results) == 3
    for graph, found in zip(data, results, strict=True):
        assert found.smiles == graph.smiles
        again = gx.molecules.from_smiles([each.smiles for each in found], "one_hot")
        for each, other in zip(found, again, strict=True):
            with torch.no_grad():
                out = ds.model(other.x, other.edge_index, torch.zeros(other.num_nodes, dtype=torch.int64))[0]
            torch.testing.assert_close(each.prediction, out, rtol=1e-4, atol=1e-4)
            assert int(out.argmax()) != int(found.prediction.argmax())
            assert each.value == pytest.approx(float(out.softmax(0)[int(found.prediction.argmax())]), abs=1e-5)


def test_a_named_class_is_reached(ds: gx.datasets.Benchmark) -> None:
    found = counterfactuals(ds.model, "Cc1ccccc1", task=ds.task, featurizer="one_hot", target=1, limit=60)
    assert any("becomes nitro" in each.edits[0] and len(each.edits) == 1 for each in found)
    assert all(float(each.prediction[1]) > float(each.prediction[0]) for each in found)
    with pytest.raises(InputError, match="says already"):
        counterfactuals(ds.model, "Cc1ccccc1", task=ds.task, featurizer="one_hot", target=0)


@every_value(smiles=["NCCO", "CC(=O)Oc1ccccc1C(=O)O"], change=[1.0, -1.0, 2.0])
def test_a_regression_moves_by_what_was_asked(smiles: str, change: float) -> None:
    found = counterfactuals(
        Counts((2,)), smiles, task=REGRESSION, featurizer="one_hot", change=change, limit=30, max_edits=2
    )
    before = smiles.count("O")
    assert len(found)
    for each in found:
        oxygens = sum(atom.GetSymbol() == "O" for atom in as_mol(each.smiles).GetAtoms())
        assert each.value == oxygens
        assert (each.value - before) * change >= abs(change) ** 2
    assert found.value == before
    assert len(found[0].edits) == 1


def test_a_column_of_several() -> None:
    found = counterfactuals(Counts((1, 2)), "CCO", task=REGRESSION, featurizer="one_hot", change=1, target=0)
    assert all("N" in each.smiles for each in found)


@every_value(smiles=MOLECULES, change=[1, -1], max_edits=[2, 1])
def test_every_edit_that_is_kept_is_a_molecule(smiles: str, change: int, max_edits: int) -> None:
    """Whatever the model says: here everything counts, as the output changes with the number of atoms of any kind."""
    from rdkit import Chem

    start = as_mol(smiles)
    options = {"task": REGRESSION, "featurizer": "one_hot", "change": change, "target": 0, "limit": 1000}
    found = counterfactuals(Counts(tuple(range(10))), smiles, max_edits=max_edits, **options)
    for each in found:
        mol = Chem.MolFromSmiles(each.smiles)
        assert mol is not None
        assert Chem.MolToSmiles(mol) == each.smiles
        assert Chem.GetFormalCharge(mol) == Chem.GetFormalCharge(start)
        assert sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()) == 0
        assert len(Chem.GetMolFrags(mol)) <= len(Chem.GetMolFrags(start))
        assert not mol.HasSubstructMatch(Chem.MolFromSmarts("[#7,#8]-[F,Cl,Br,I]"))
        assert 0 <= each.similarity <= 1
    assert len({each.smiles for each in found}) == len(found)
    assert canonical(smiles) not in {each.smiles for each in found}


@pytest.mark.parametrize("smiles", MOLECULES)
def test_the_words_of_an_edit_are_true(smiles: str) -> None:
    from rdkit import Chem

    mol = as_mol(smiles)
    for atom in mol.GetAtoms():
        atom.SetIntProp("_gnn_xai_origin", atom.GetIdx())
    for words, make in single_edits(mol):
        out = make()
        if Chem.SanitizeMol(out, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            continue
        left = {atom.GetIntProp("_gnn_xai_origin") for atom in out.GetAtoms() if atom.HasProp("_gnn_xai_origin")}
        gone = set(range(mol.GetNumAtoms())) - left
        if words.startswith("break"):
            assert not gone
            assert out.GetNumBonds() == mol.GetNumBonds() - 1
        elif words.startswith("remove") and " at " not in words:
            assert [f"remove {mol.GetAtomWithIdx(index).GetSymbol()}{index}" for index in gone] == [words]
        elif " at " not in words:
            assert not gone
            name, symbol = words.split(" becomes ")
            assert out.GetAtomWithIdx(int(name.lstrip("CNOSFlBr"))).GetSymbol() == symbol
        elif words.startswith("hydrogen"):
            assert not gone
            assert out.GetNumAtoms() > mol.GetNumAtoms()
        else:
            assert gone


def test_every_group_can_be_put_in_the_place_of_hydrogen() -> None:
    from rdkit import Chem

    mol = as_mol("c1ccccc1")
    for atom in mol.GetAtoms():
        atom.SetIntProp("_gnn_xai_origin", atom.GetIdx())
    made = {words: make() for words, make in single_edits(mol)}
    for name, smiles in SUBSTITUENTS:
        out = made[f"hydrogen at C0 becomes {name}"]
        Chem.SanitizeMol(out)
        assert Chem.MolToSmiles(out) == canonical(f"c1ccccc1{smiles}".replace("c1ccccc1c1", "c1ccccc1-c1"))


def test_groups_are_recognised_by_what_is_bonded() -> None:
    groups = dict(SUBSTITUENTS)
    mol = as_mol("COCCO")
    for atom in mol.GetAtoms():
        atom.SetIntProp("_gnn_xai_origin", atom.GetIdx())
    words = [words for words, _ in single_edits(mol)]
    assert "methoxy at C2 becomes fluoro" in words
    assert "hydroxyl at C3 becomes fluoro" in words
    assert "methyl at O1 becomes acetyl" in words
    assert len(groups) == len(SUBSTITUENTS)


def test_the_same_every_time_and_alone() -> None:
    options = {"task": REGRESSION, "featurizer": "one_hot", "change": -2, "max_edits": 2, "limit": 20}
    model, smiles = Counts((2,)), "CC(=O)OCC(=O)O"
    one = counterfactuals(model, smiles, seed=3, **options)
    two = counterfactuals(model, ["CCO", smiles], seed=3, **options)[1]
    assert [each.smiles for each in one] == [each.smiles for each in two]
    assert len(one)


def test_nothing_found_is_said() -> None:
    found = counterfactuals(Counts((2,)), "C", task=REGRESSION, featurizer="one_hot", change=50, max_edits=1)
    assert len(found) == 0
    assert found.tried > 10
    assert "0 found" in repr(found)
    assert len(found.table()) == 0


def test_table_and_picture(ds: gx.datasets.Benchmark) -> None:
    found = counterfactuals(ds.model, "O=[N+]([O-])c1ccccc1", task=ds.task, featurizer="one_hot", limit=5)
    table = found.table()
    assert list(table.columns) == ["smiles", "edits", "number_of_edits", "before", "after", "similarity"]
    assert len(table) == 5
    svg = found.draw(columns=3)
    assert svg.lstrip().startswith("<?xml")
    assert "width='780px' height='480px'" in svg
    assert found[:2] == found.items[:2]


@pytest.mark.parametrize("featurizer", ["pyg", "ogb"])
def test_integer_codes(featurizer: str) -> None:
    class Oxygens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(119, 1)
            nn.init.zeros_(self.embedding.weight)
            self.embedding.weight.data[8 if featurizer == "pyg" else 7] = 1

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
            return global_add_pool(self.embedding(x[:, 0]), batch)

    found = counterfactuals(Oxygens(), "CCO", task=REGRESSION, featurizer=featurizer, change=-1)
    assert found.value == 1
    assert all("O" not in each.smiles for each in found)


def test_bad_input(ds: gx.datasets.Benchmark) -> None:
    options = {"task": ds.task, "featurizer": "one_hot"}
    graph = copy.copy(ds.data[0])
    graph.x = graph.x * 2
    bare = Data(x=graph.x, edge_index=graph.edge_index)
    for given, words, more in (
        ("C1", "RDKit can read", {}),
        ([], "at least one molecule", {}),
        ([7], "got int at position 0", {}),
        (bare, "without smiles", {}),
        (graph, "features of", {}),
        ("C", "change= for a regression alone", {"change": 1.0}),
        ("C", "target as one of 0 to 1", {"target": 2}),
        ("C", "max_edits as a positive", {"max_edits": 0}),
        ("C", "limit as a positive", {"limit": True}),
        ("C", "seed as an integer", {"seed": 0.5}),
        ("C", "node-level", {"task": ModelConfig("multiclass_classification", "node", "raw")}),
        ("C", "change= for a regression", {"task": REGRESSION, "target": 0}),
    ):
        with pytest.raises(InputError, match=words):
            counterfactuals(ds.model, given, **{**options, **more})
    with pytest.raises(InputError, match="torch.nn.Module"):
        counterfactuals(None, "C")  # type: ignore[call-overload]
