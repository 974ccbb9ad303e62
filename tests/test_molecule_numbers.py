"""Numbers of molecules: they add up, belong to the right atoms, and can be computed with."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig
from torch_geometric.nn import GraphConv, SimpleConv, global_add_pool
from torch_geometric.transforms import VirtualNode
from torch_geometric.utils import from_smiles as from_smiles_of_pyg

pytest.importorskip("rdkit")
pytest.importorskip("pandas")

from rdkit import Chem

import gnn_xai as gx
from gnn_xai.errors import GnnXaiWarning, InputError
from gnn_xai.molecules import canvas, drawing, from_smiles
from gnn_xai.molecules.featurizers import one_hot
from gnn_xai.molecules.smiles import as_mol
from gnn_xai.molecules.sums import sum_of
from gnn_xai.report.molecules import write_molecules

VALUE = ModelConfig("regression", "graph", "raw")
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


class Small(nn.Module):
    """Reads atoms, and a number of the molecule where there is one."""

    def __init__(self, inputs: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = GraphConv(23, 8), nn.Linear(8 + inputs, 1)

    def forward(self, x, edge_index, batch, u=None):
        h = global_add_pool(self.conv(x, edge_index).relu(), batch)
        return self.out(h if u is None else torch.cat([h, u], 1))


class Elements(nn.Module):
    """Adds up atomic numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.conv = nn.Embedding(119, 1), SimpleConv()
        self.value.weight.data = torch.arange(119.0).unsqueeze(1)

    def forward(self, x, edge_index, batch):
        h = self.value(x[:, 0])
        return global_add_pool(h + 0 * self.conv(h, edge_index), batch)


def explain(molecules, algorithm="node_ablation", model: nn.Module | None = None) -> gx.Explanations:
    return gx.explain((model or Small()).eval(), molecules, algorithm, task=VALUE, progress=False)


# The right atoms #####################################################################################################


def canonical(mol: Chem.Mol) -> Data:
    return from_smiles_of_pyg(Chem.MolToSmiles(mol))


def canonical_in_secret(mol: Chem.Mol) -> Data:
    data = from_smiles_of_pyg(Chem.MolToSmiles(mol))
    del data.smiles
    return data


def backwards(mol: Chem.Mol) -> Data:
    return one_hot(Chem.RenumberAtoms(mol, list(range(mol.GetNumAtoms()))[::-1]))


def heavy_last(mol: Chem.Mol) -> Data:
    order = sorted(range(mol.GetNumAtoms()), key=lambda i: mol.GetAtomWithIdx(i).GetAtomicNum())
    return one_hot(Chem.RenumberAtoms(mol, order))


@pytest.mark.parametrize("smiles", ["OCC", "Oc1ccccc1N", "[OH:1][CH2:2][NH2:3]", ASPIRIN])
def test_atoms_are_in_the_order_of_the_smiles_that_a_featurizer_sets(smiles: str) -> None:
    molecules = from_smiles(smiles, canonical)
    atoms = explain(molecules, model=Elements())[0].atoms
    table = Chem.GetPeriodicTable()
    assert atoms["attribution"].tolist() == [table.GetAtomicNumber(symbol) for symbol in atoms["symbol"]]
    numbers = dict(zip(atoms["symbol"], atoms["map_number"], strict=True))
    if ":" in smiles:
        assert numbers == {"O": 1, "C": 2, "N": 3}


@pytest.mark.parametrize("featurizer", [canonical_in_secret, backwards, heavy_last])
@pytest.mark.parametrize("smiles", ["OCC", "NCO", ASPIRIN])
def test_another_order_of_atoms_is_refused(featurizer, smiles: str) -> None:
    with pytest.raises(InputError, match=r"keeps the order of atoms.*set data.smiles to the SMILES in whose order"):
        from_smiles(smiles, featurizer)


def test_own_featurizers_that_keep_the_order_are_not_refused() -> None:
    def degrees(mol: Chem.Mol) -> Data:
        data = one_hot(mol)
        return Data(x=torch.tensor([[float(a.GetDegree())] for a in mol.GetAtoms()]), edge_index=data.edge_index)

    def with_virtual_node(mol: Chem.Mol) -> Data:
        data = one_hot(mol)
        del data.edge_attr
        return VirtualNode()(data)

    smiles = ["OCC", "C", ASPIRIN, "C[C@H](N)O", "C/C=C/Cl", "N#N"]
    for featurizer in (lambda mol: one_hot(mol), degrees, with_virtual_node):
        assert len(from_smiles(smiles, featurizer)) == len(smiles)


def test_errors_of_a_featurizer_are_passed_on() -> None:
    def fragile(mol: Chem.Mol) -> Data:
        if mol.GetNumAtoms() > 2:
            raise KeyError("no radius of this atom")
        return one_hot(mol)

    with pytest.warns(GnnXaiWarning, match="the featurizer fragile raised KeyError: 'no radius of this atom'"):
        assert from_smiles(["CC", "CCC"], fragile).lines == [1]
    with pytest.raises(InputError, match="raised KeyError: 'no radius") as error:
        from_smiles(["CCC"], fragile)
    assert isinstance(error.value.__cause__, KeyError)
    with pytest.raises(InputError, match=r"expected a torch_geometric.data.Data .* from the featurizer .*, got 3"):
        from_smiles(["CC"], lambda mol: 3)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("smiles", "note"),
    [
        ("[2H]C([2H])([2H])O", r"isotopes \(2H\).*3 hydrogens of it as nodes"),
        ("[13CH3]C", r"isotopes \(13C\)"),
        ("C[CH2]", "a radical, at C1"),
        ("CC1(C)CCCC(C)(C)N1[O]", "a radical, at O10"),
        ("*CC", r"1 atom of no known element \(\*\)"),
        ("[H][H]", "2 explicit hydrogens as nodes"),
    ],
)
def test_rare_atoms_are_noted(smiles: str, note: str) -> None:
    (problem,) = from_smiles(["CCC", smiles], "one_hot").problems
    assert problem.line == 2
    with pytest.raises(AssertionError, match=note):
        raise AssertionError(problem.reason)


def test_hydrogens_and_virtual_nodes_have_rows_and_pictures() -> None:
    data = from_smiles_of_pyg(ASPIRIN, with_hydrogen=True)
    e = explain([data], model=Elements())[0]
    assert e.atoms["symbol"].tolist() == ["C", "C", "O", "O", *"CCCCCC", "C", "O", "O", *"HHHHHHHH"]
    assert e.atoms["attribution"].tolist() == [6, 6, 8, 8, 6, 6, 6, 6, 6, 6, 6, 8, 8, *[1] * 8]
    parts = gx.molecules.fragments(e, "parts").set_index("name")["attribution"]
    assert parts.to_dict() == {"methyl": 9, "ester": 22, "benzene ring": 40, "carboxylic acid": 23}
    assert gx.molecules.draw(e).svg.startswith("<svg")
    virtual = VirtualNode()(from_smiles("CCO", "one_hot")[0])
    e = explain([virtual], "integrated_gradients")[0]
    assert e.atoms["symbol"].tolist() == ["C", "C", "O", "virtual"]
    assert len(e.bonds) == 2
    parts = sum_of(e)
    assert parts is not None
    assert parts.elsewhere != 0
    assert parts.error == pytest.approx(0, abs=1e-2)
    assert gx.molecules.draw(e).png.startswith(b"\x89PNG")


def test_atomic_numbers_say_which_atom_a_node_is() -> None:
    """QM9 carries canonical SMILES with hydrogens, and nodes in the order of its files."""
    mol = Chem.AddHs(as_mol("OCC=N"))
    order = [2, 0, 3, 1, *range(4, mol.GetNumAtoms())]
    turned = Chem.RenumberAtoms(mol, order)
    numbers = torch.tensor([atom.GetAtomicNum() for atom in turned.GetAtoms()])
    data = Data(
        x=one_hot(turned).x, edge_index=one_hot(turned).edge_index, z=numbers, smiles="[H]OC([H])([H])C([H])=N[H]"
    )
    assert explain([data])[0].atoms["symbol"].tolist() == ["C", "O", "N", "C", "H", "H", "H", "H", "H"]
    data.z = torch.ones_like(numbers)
    with pytest.raises(InputError, match="in their order"):
        explain([data])[0].atoms  # noqa: B018


# Sums ################################################################################################################


@pytest.mark.parametrize(
    "algorithm",
    [
        gx.IntegratedGradients(),
        gx.IntegratedGradients(edge_mask_type=None),
        gx.IntegratedGradients(node_mask_type=None),
        gx.Shapley(players="fragments"),
        gx.Shapley(players="fragments", kind="bonds", exact_up_to=4, samples=4),
        gx.Shapley(players="fragments", kind="atoms", exact_up_to=4, samples=4, objective="prob"),
    ],
)
@pytest.mark.parametrize("mode", ["regression", "multiclass_classification"])
def test_base_value_and_attributions_make_the_prediction(algorithm, mode: str) -> None:
    class Two(Small):
        def forward(self, x, edge_index, batch):
            out = super().forward(x, edge_index, batch)
            return out if mode == "regression" else torch.cat([out, -out], 1)

    task = ModelConfig(mode, "graph", "raw")
    molecules = from_smiles([ASPIRIN, "CCO", "C"], "one_hot")
    found = gx.explain(Two().eval(), molecules, algorithm, task=task, target=0, progress=False)
    for e in found:
        parts = sum_of(e)
        assert parts is not None
        value = float(e.prediction[0])
        score = value if mode == "regression" else 2 * value
        if mode != "regression" and getattr(algorithm, "objective", "") == "prob":
            score = float(torch.tensor(2 * value).sigmoid())
        assert parts.score == pytest.approx(score, abs=1e-4)
        assert parts.base + parts.atoms + parts.bonds == pytest.approx(score, abs=0.01 * max(1.0, abs(score)))
        table = e.bonds if parts.bonds else e.atoms
        assert float(table["attribution"].sum()) == pytest.approx(parts.bonds or parts.atoms, abs=1e-5)
    assert sum_of(explain(molecules, "node_ablation")[0]) is None, "ablations do not add up"


def test_inputs_of_the_whole_molecule_have_a_row_of_their_own() -> None:
    molecules = from_smiles([ASPIRIN, "CCO"], "one_hot")
    for number, data in enumerate(molecules):
        data.u, data.y = torch.tensor([[2.0 + number]]), torch.tensor([5.0])
    model = Small(inputs=1)
    for number, e in enumerate(explain(molecules, "integrated_gradients", model)):
        parts = sum_of(e)
        assert parts is not None
        assert parts.inputs == pytest.approx(model.out.weight[0, 8].item() * (2.0 + number), abs=1e-5)
        assert parts.error == pytest.approx(0, abs=1e-2)
        assert "inputs" in str(parts)
    assert sum_of(explain(from_smiles("CCO", "one_hot"), "integrated_gradients")[0]).inputs == 0  # type: ignore[union-attr]


# Pictures and pages ##################################################################################################


def test_marks_are_atoms_or_smarts() -> None:
    e = explain(from_smiles(ASPIRIN, "one_hot"))[0]
    ring = gx.molecules.draw(e, mark=[4, 5, 6, 7, 8, 9]).svg
    assert gx.molecules.draw(e, mark="c1ccccc1").svg == ring
    assert gx.molecules.draw(e, mark=torch.arange(4, 10)).svg == ring
    assert gx.molecules.draw(e, mark="[#7]").svg == gx.molecules.draw(e).svg
    assert gx.molecules.grid([e], marks="c1ccccc1").svg == gx.molecules.grid([e], marks=[[4, 5, 6, 7, 8, 9]]).svg
    for mark in ("c1cc", "", 3, ["a"], [1.5]):
        if mark != "":
            with pytest.raises(InputError, match="expected mark as atoms"):
                gx.molecules.draw(e, mark=mark)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found: gx.molecules.draw(found), "expected one explanation of a molecule, got Explanations"),
        (lambda found: gx.molecules.atoms("CCO"), "expected one explanation of a molecule, got str"),
        (lambda found: gx.molecules.draw(found[0], limit="1"), "expected limit above 0, got '1'"),
        (lambda found: gx.molecules.draw(found[0], size=300), "expected size as width and height"),
        (lambda found: gx.molecules.draw(found[0], title=3), "expected title as a string, got 3"),
        (lambda found: gx.molecules.grid(3), "expected explanations to draw, got int"),
        (lambda found: gx.molecules.grid(found, columns="3"), "expected columns as a positive integer, got '3'"),
        (lambda found: gx.molecules.grid(found, marks=3), "expected marks of length 1, got 3"),
        (lambda found: gx.molecules.fragments(found[0], 3), "expected kinds as one or several of functional_groups"),
        (lambda found: gx.molecules.cut(3, "rings"), "expected molecule as SMILES or an RDKit molecule, got int"),
        (lambda found: from_smiles(3), "expected SMILES as a string or several, got int"),
        (lambda found: from_smiles(["CC"], names="a"), "expected names as a list of strings"),
    ],
)
def test_wrong_types_are_one_sentence(ask, message: str) -> None:
    found = explain(from_smiles("CCO", "one_hot"))
    with pytest.raises(InputError, match=message):
        ask(found)


def test_long_chains_and_molecules_that_cannot_be_drawn_lose_nothing(tmp_path, monkeypatch) -> None:
    molecules = from_smiles(["OCC" * 45 + "O", "CC", "CCO", "CCN", "CCF"], "one_hot")
    found = explain(molecules, "integrated_gradients")
    assert gx.molecules.grid(found).png.startswith(b"\x89PNG")
    assert gx.molecules.draw(found[0], size=(220, 165)).png.startswith(b"\x89PNG"), "smaller than its discs"
    paint = canvas.Canvas.molecule

    def broken(self, x, y, width, height, formula, *more):
        if formula.mol.GetNumAtoms() == 2:
            raise RuntimeError("no room for C")
        paint(self, x, y, width, height, formula, *more)

    monkeypatch.setattr(canvas.Canvas, "molecule", broken)
    write_molecules(tmp_path, molecules, found, title="molecules")
    assert "no picture: no room for C" in (tmp_path / "sheet.svg").read_text(encoding="utf-8")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<article>") == 5
    assert page.count("no picture: no room for C") == 1
    monkeypatch.setattr(drawing, "grid", lambda *_, **__: 1 / 0)
    with pytest.warns(GnnXaiWarning, match="the sheet of molecules cannot be drawn"):
        write_molecules(tmp_path, molecules, found, title="molecules")


def test_the_table_of_molecules_holds_numbers_and_the_columns_that_came(tmp_path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,smiles,activity,prediction\nD1,CC(=O)Oc1ccccc1C(=O)O,1.25,7\nD2,CCO,3.5,8\n")
    molecules = gx.molecules.read(path, "one_hot")
    found = explain(molecules, "integrated_gradients")
    write_molecules(tmp_path, molecules, found, title="molecules", unit="kJ/mol")
    text = (tmp_path / "molecules.csv").read_text(encoding="utf-8")
    assert "−" not in text
    rows = list(csv.DictReader(text.splitlines()))
    for row, e in zip(rows, found, strict=True):
        assert float(row["prediction"]) == pytest.approx(float(e.prediction), rel=1e-4)
        assert float(row["base_value"]) + float(row["atoms"]) + float(row["bonds"]) == pytest.approx(
            float(e.prediction), abs=1e-2
        )
        strongest = gx.molecules.fragments(e, ("functional_groups", "rings")).iloc[0]
        assert row["top_fragment"] == strongest["name"]
        assert float(row["top_fragment_value"]) == pytest.approx(strongest["attribution"], rel=1e-4)
    assert [float(row["activity"]) for row in rows] == [1.25, 3.5]
    assert [float(row["prediction (file)"]) for row in rows] == [7, 8]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("kJ/mol") == 5, "prediction and sum of each molecule, and how to read them"
    assert "fidelity" not in page.lower()


def test_edges_alone_are_said(tmp_path) -> None:
    molecules = from_smiles([ASPIRIN], "one_hot")
    e = explain(molecules, "edge_ablation")
    assert set(e[0].atoms["note"]) == {"edge_ablation scored bonds alone; see the table of bonds"}
    write_molecules(tmp_path, molecules, e, title="molecules")
    assert "scored bonds alone" in (tmp_path / "index.html").read_text(encoding="utf-8")
