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
    assert list(table.columns) == [
        "smiles", "edits", "number_of_edits", "before", "after", "similarity", "qed", "synthetic_accessibility",
    ]  # fmt: skip
    assert len(table) == 5
    assert table.qed.between(0, 1).all()
    assert table.synthetic_accessibility.between(1, 10).all()
    picture = found.draw(columns=3)
    assert isinstance(picture, gx.molecules.Drawing)
    assert picture.png.startswith(b"\x89PNG")
    assert found._repr_svg_() == found.draw().svg
    assert f"similarity {found[0].similarity:.2f}" in picture.svg
    assert found[0].edits[0].split(" at ")[0] in picture.svg
    assert found[:2] == found.items[:2]


ANYTHING = {"task": REGRESSION, "featurizer": "one_hot", "target": 0, "limit": 1000, "max_edits": 1}


def changed(smiles: str, **options: object) -> Counterfactuals:
    """Whatever single edits there are that leave fewer or more carbons, nitrogens and oxygens."""
    found = counterfactuals(Counts((0, 1, 2)), smiles, change=1, both=True, **{**ANYTHING, **options})
    assert isinstance(found, Counterfactuals)
    return found


@pytest.mark.parametrize(
    ("smiles", "unwanted"),
    [
        ("NCCO", "[NX3][CX4][OX2]"),
        ("NCCN", "[NX3][CX4][NX3]"),
        ("CCNC", "[#7]-[#7]"),
        ("CCOC", "[#8]-[#8]"),
        ("CCOC", "[#8X2]-[#7]"),
        ("CC(=O)C", "[CX3](=O)[F,Cl,Br,I]"),
        ("C=CC", "C=C-[OH]"),
    ],
)
def test_nothing_is_made_that_falls_apart(smiles: str, unwanted: str) -> None:
    from rdkit import Chem

    found = changed(smiles)
    assert len(found) > 20
    assert not [each.smiles for each in found if as_mol(each.smiles).HasSubstructMatch(Chem.MolFromSmarts(unwanted))]


def test_what_the_input_has_may_stay() -> None:
    found = changed("CNN")
    assert [each for each in found if "NN" in each.smiles or "NNC" in each.smiles]


def test_aromatic_rings_are_opened_on_request_alone() -> None:
    def is_opened(found: Counterfactuals) -> bool:
        return any(
            not as_mol(each.smiles).GetAtomWithIdx(0).GetIsAromatic() and "c1" not in each.smiles for each in found
        )

    assert not is_opened(changed("c1ccncc1"))
    assert is_opened(changed("c1ccncc1", open_rings=True))
    assert any("n" not in each.smiles for each in changed("c1ccncc1")), "elements of the ring may change"
    assert any(each.smiles == "CC" for each in changed("CCc1ccccc1")), "a whole ring may go"


def test_a_part_is_kept() -> None:
    from rdkit import Chem

    for keep, smarts in (("C(=O)[NH]", "C(=O)N"), ("scaffold", "c1ccccc1")):
        found = changed("CC(=O)Nc1ccc(C)cc1", keep=keep)
        assert len(found) > 10
        assert all(as_mol(each.smiles).HasSubstructMatch(Chem.MolFromSmarts(smarts)) for each in found)
        numbers = [
            atom.GetIntProp("_gnn_xai_origin") for atom in found[0].mol.GetAtoms() if atom.HasProp("_gnn_xai_origin")
        ]
        assert set(as_mol("CC(=O)Nc1ccc(C)cc1").GetSubstructMatch(Chem.MolFromSmarts(smarts))) <= set(numbers)
    with pytest.raises(InputError, match="SMARTS or 'scaffold', got '\\(\\('"):
        changed("CC", keep="((")
    with pytest.raises(InputError, match="SMARTS of something in CC, got 'O'"):
        changed("CC", keep="O")


def test_filters_and_few_of_each_place() -> None:
    everything = changed("CC(=O)NC")
    close = changed("CC(=O)NC", min_similarity=0.4)
    assert 0 < len(close) < len(everything)
    assert all(each.similarity >= 0.4 for each in close)
    assert all(each.qed >= 0.4 for each in changed("CC(=O)NC", min_qed=0.4))
    easy = changed("CC(=O)NC", max_synthetic_accessibility=2.0)
    assert all(each.synthetic_accessibility <= 2.0 for each in easy)
    few = counterfactuals(Counts((0, 1, 2)), "CC(=O)NC", change=1, per_place=1, **ANYTHING)
    places = [each.place for each in few]
    assert len(set(places)) == len(places) > 5


def test_both_directions_of_a_regression() -> None:
    found = counterfactuals(Counts((2,)), "OCCN", task=REGRESSION, featurizer="one_hot", change=1, both=True, limit=3)
    assert len(found) == 6
    assert [each.value > found.value for each in found] == [True, False] * 3
    assert found.goal == "output 0 higher by 1 or more, or lower by 1 or more"


def test_one_label_of_several() -> None:
    """A model of several labels: that there is oxygen, that there is nitrogen."""

    class Labels(Counts):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
            return super().forward(x, edge_index, batch) - 0.5

    task = ModelConfig("binary_classification", "graph", "raw")
    options = {"task": task, "featurizer": "one_hot", "limit": 50, "max_edits": 1}
    off = counterfactuals(Labels((2, 1)), "OCC", target=0, **options)
    assert off.goal == "label 0 off"
    assert all("O" not in each.smiles for each in off)
    on = counterfactuals(Labels((2, 1)), "OCC", target=1, **options)
    assert on.goal == "label 1 on"
    assert all("N" in each.smiles.upper() and each.value > 0.5 > on.value for each in on)
    with pytest.raises(InputError, match="expected target as one of 0 to 1, the label to turn on or off"):
        counterfactuals(Labels((2, 1)), "OCC", **options)


def test_features_of_ones_own() -> None:
    def elements(mol: object) -> Data:
        numbers = [[float(atom.GetAtomicNum() == 8)] for atom in mol.GetAtoms()]  # type: ignore[attr-defined]
        return Data(x=torch.tensor(numbers), edge_index=torch.zeros(2, 0, dtype=torch.int64))

    molecules = gx.molecules.from_smiles(["OCC"], elements)
    (found,) = counterfactuals(Counts((0,)), molecules, task=REGRESSION, change=-1)
    assert all("O" not in each.smiles for each in found)


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
        ("C", "min_similarity from 0 to 1", {"min_similarity": 2}),
        ("C", "max_synthetic_accessibility from 1 to 10", {"max_synthetic_accessibility": 0}),
        ("C", "per_place as a positive", {"per_place": 0}),
        ("C", "both=True for a regression alone", {"both": True}),
        ("C", "node-level", {"task": ModelConfig("multiclass_classification", "node", "raw")}),
        ("C", "change= for a regression", {"task": REGRESSION, "target": 0}),
    ):
        with pytest.raises(InputError, match=words):
            counterfactuals(ds.model, given, **{**options, **more})
    with pytest.raises(InputError, match="torch.nn.Module"):
        counterfactuals(None, "C")  # type: ignore[call-overload]


def test_the_command_line_writes_a_table_and_pictures(tmp_path, monkeypatch, capsys) -> None:
    from gnn_xai.cli.app import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("id,smiles\nA,OCC(=O)N\nB,C\n")
    (tmp_path / "counting.py").write_text(
        "from tests.test_counterfactuals import Counts\ndef model(): return Counts((2,))\n"
    )
    options = [
        "counterfactuals",
        "--smiles",
        "in.csv",
        "--model",
        "counting:model",
        "--featurizer",
        "one_hot",
        "--mode",
        "regression",
    ]
    with pytest.raises(SystemExit) as end:
        main([*options, "--change", "-1", "--limit", "2", "--max-edits", "1", "--keep", "C", "--out", "out"])
    assert end.value.code == 0, capsys.readouterr().err
    lines = (tmp_path / "out" / "counterfactuals.csv").read_text().splitlines()
    assert lines[0].startswith("line,name,input,smiles,edits,number_of_edits,before,after,similarity")
    assert [line.split(",")[:3] for line in lines[1:]] == 2 * [["2", "A", "OCC(=O)N"]]
    assert sorted(path.name for path in (tmp_path / "out" / "figures").iterdir()) == [
        "molecule-0.svg",
        "molecule-1.svg",
    ]
    with pytest.raises(SystemExit) as end:
        main([*options, "--out", "other"])
    assert end.value.code == 2
    assert "expected --change for a regression" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "other").exists()
