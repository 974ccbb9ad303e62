"""Files of molecules as chemists have them, and what is written for other programs."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GraphConv, global_add_pool

import gnn_xai as gx
from gnn_xai.errors import GnnXaiError, InputError
from gnn_xai.molecules import Molecules, from_smiles, read

pytest.importorskip("rdkit")

ASPIRIN, GLYCINE = "CC(=O)Oc1ccccc1C(=O)O", "[NH3+]CC(=O)[O-]"
TABLE = "id,smiles,activity,batch,flag\nD1,CC(=O)Oc1ccccc1C(=O)O,1.25,007,x\nD2,CCO,,012,\nD3,CCN,-3e1,9,y\n"


REGRESSION = ModelConfig("regression", "graph", "raw")


class Small(nn.Module):
    """A model of the one_hot encodings."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = GraphConv(23, 8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return self.out(global_add_pool(self.conv(x, edge_index).relu(), batch))


def in_space(smiles: str, **properties: object):
    """A molecule with coordinates in space, its atoms numbered from the fourth on."""
    from rdkit import Chem
    from rdkit.Chem.rdDistGeom import EmbedMolecule

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert EmbedMolecule(mol, randomSeed=7) == 0
    mol = Chem.RemoveHs(mol)
    size = mol.GetNumAtoms()
    mol = Chem.RenumberAtoms(mol, [(atom + 3) % size for atom in range(size)])
    for name, value in properties.items():
        mol.SetProp(name, str(value))
    return mol


@pytest.fixture
def sdf(tmp_path: Path) -> Path:
    from rdkit import Chem

    path = tmp_path / "drugs.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.write(in_space(ASPIRIN, _Name="aspirin", activity=1.5, code="A1"))
        writer.write(Chem.MolFromSmiles("CCO"))
    # A pentavalent carbon stands between them.
    good, second, _ = path.read_text().split("$$$$\n")
    broken = Chem.MolToMolBlock(Chem.MolFromSmiles("C[N+](C)(C)C")).replace("M  CHG  1   2   1\n", "")
    path.write_text("$$$$\n".join([good, "broken" + broken, second, ""]))
    return path


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")
def test_sdf_keeps_properties_positions_and_the_numbers_of_atoms(sdf: Path) -> None:
    from rdkit import Chem

    mols = read(sdf, "one_hot")
    assert mols.lines == [1, 3]
    assert mols.names == ["aspirin", ""]
    assert mols.properties == [{"activity": 1.5, "code": "A1"}, {}]
    (problem,) = [problem for problem in mols.problems if problem.left_out]
    assert problem.line == 2
    assert "valence" in problem.reason
    aspirin, ethanol = mols
    stored = next(iter(Chem.SDMolSupplier(str(sdf))))
    assert aspirin.smiles == Chem.CanonSmiles(ASPIRIN)
    for node, atom in enumerate(mols.mols[0].GetAtoms()):
        same = stored.GetAtomWithIdx(int(aspirin.file_atom[node]))
        assert atom.GetAtomicNum() == same.GetAtomicNum()
        assert atom.GetDegree() == same.GetDegree()
        place = torch.tensor(list(stored.GetConformer().GetAtomPosition(same.GetIdx())))
        torch.testing.assert_close(aspirin.pos[node], place.float())
    assert not ethanol.pos[:, 2].any()
    assert "drawn in the plane" in mols.problems[-1].reason
    alone = from_smiles([aspirin.smiles], "one_hot")[0]
    assert torch.equal(alone.x, aspirin.x)


def test_explaining_an_sdf_is_explaining_its_smiles(tmp_path: Path) -> None:
    from rdkit import Chem

    path = tmp_path / "one.sdf.gz"
    path.write_bytes(gzip.compress((Chem.MolToMolBlock(in_space(ASPIRIN)) + "$$$$\n").encode()))
    model, mols = Small().eval(), read(path, "one_hot")
    one = gx.explain(model, mols, "saliency", task=REGRESSION, progress=False)
    two = gx.explain(model, from_smiles(mols.smiles, "one_hot"), "saliency", task=REGRESSION, progress=False)
    assert torch.equal(one.node_mask, two.node_mask)


def test_a_property_of_an_sdf_as_its_name(sdf: Path) -> None:
    with pytest.raises(InputError, match="expected a property 'code' of molecule 3 .*got none"):
        read(sdf, "one_hot", id_column="code")
    sdf.write_text(sdf.read_text().partition("$$$$\n")[0] + "$$$$\n")
    assert read(sdf, "one_hot", id_column="code").names == ["A1"]
    with pytest.raises(InputError, match="expected no smiles_column"):
        read(sdf, "one_hot", smiles_column="smiles")


def tabular(path: Path) -> Molecules:
    """The molecules of `TABLE`, written as the suffix of a path says."""
    text = TABLE.replace(",", "\t") if ".tsv" in path.name else TABLE
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix.lower() in (".csv", ".tsv"):
        path.write_text(text)
    else:
        import io

        import pandas

        frame = pandas.read_csv(io.StringIO(TABLE), dtype={"batch": str})
        if path.suffix == ".parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(path)
        else:
            pytest.importorskip("openpyxl")
            frame.to_excel(path, index=False)
    return read(path, "one_hot")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet", ".xlsx", ".CSV"])
def test_tables_in_every_format(suffix: str, tmp_path: Path) -> None:
    mols = tabular(tmp_path / f"table{suffix}")
    assert mols.smiles == [ASPIRIN, "CCO", "CCN"]
    assert mols.names == ["D1", "D2", "D3"]
    assert mols.lines == [2, 3, 4]
    assert [row["activity"] for row in mols.properties] == [1.25, None, -30.0]
    assert [row["batch"] for row in mols.properties] == ["007", "012", "9"], "zeros in front belong to a name"
    assert [row["flag"] for row in mols.properties] == ["x", None, "y"]
    assert mols[1:].properties == mols.properties[1:]


def test_bytes_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.smi.gz"
    path.write_bytes(b"CCO\n")
    with pytest.raises(InputError, match=r"compressed by gzip, got other bytes; remove \.gz"):
        read(path)
    path = tmp_path / "a.parquet"
    path.write_bytes(b"CCO\n")
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=r"to be a \.parquet file, but pyarrow cannot read it"):
        read(path)


def test_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(GnnXaiError, match=r"\.xlsx files need openpyxl, .* run 'pip install gnn-xai\[research\]'"):
        read(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    ("smiles", "options", "left", "note"),
    [
        ("CC(=O)[O-].[Na+]", {"strip_salts": True}, "CC(=O)[O-]", "without [Na+]"),
        ("CC(=O)[O-].[Na+]", {"strip_salts": True, "neutralize": True}, "CC(=O)O", "charges neutralised"),
        ("CC[NH3+].[Cl-]", {"strip_salts": True, "neutralize": True}, "CCN", "without [Cl-]; charges neutralised"),
        ("[I-].CCCC[N+](C)(C)C", {"strip_salts": True, "neutralize": True}, "CCCC[N+](C)(C)C", "without [I-]"),
        (GLYCINE, {"neutralize": True}, "NCC(=O)O", "charges neutralised"),
        (GLYCINE, {"strip_salts": True}, GLYCINE, ""),
        ("OCC", {"strip_salts": True, "neutralize": True}, "OCC", ""),
        ("O.O.CCO", {"strip_salts": True}, "CCO", "without O.O"),
    ],
)
def test_salts_and_charges_on_request(smiles: str, options: dict[str, bool], left: str, note: str) -> None:
    from rdkit import Chem

    assert from_smiles([smiles], "one_hot").smiles == [smiles]
    mols = from_smiles([smiles], "one_hot", **options)
    if note:
        assert Chem.CanonSmiles(mols.smiles[0]) == Chem.CanonSmiles(left)
        assert note in mols.problems[0].reason
        assert mols.problems[0].text == smiles
    else:
        assert mols.smiles == [left]
    assert mols[0].num_nodes == mols.mols[0].GetNumAtoms()


@pytest.mark.parametrize("smiles", ["CC(=O)[O-]", "[Na+].CC(=O)[O-]"])
def test_positions_follow_a_neutralised_molecule(smiles: str, tmp_path: Path) -> None:
    from rdkit import Chem

    mol = in_space(smiles)
    path = tmp_path / "a.sdf"
    path.write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
    (data,) = read(path, "one_hot", strip_salts=True, neutralize=True)
    assert data.smiles == "CC(=O)O"
    assert [mol.GetAtomWithIdx(i).GetSymbol() for i in data.file_atom.tolist()] == list("CCOO")
    places = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)
    torch.testing.assert_close(data.pos, places[data.file_atom], atol=1e-3, rtol=0)


# Written for other programs ##########################################################################################


@pytest.fixture
def explained(tmp_path: Path) -> gx.Explanations:
    """Aspirin and ethanol from an SDF, explained by integrated gradients."""
    from rdkit import Chem

    path = tmp_path / "in.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.write(in_space(ASPIRIN, _Name="aspirin", activity=1.5, target="COX"))
        writer.write(Chem.MolFromSmiles("CCO"))
    return gx.explain(Small().eval(), read(path, "one_hot"), "integrated_gradients", task=REGRESSION, progress=False)


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz"])
def test_sdf_goes_out_as_it_came_in_with_scores(suffix: str, explained: gx.Explanations, tmp_path: Path) -> None:
    from rdkit import Chem

    path = gx.molecules.write(explained, tmp_path / f"out{suffix}")
    content = gzip.decompress(path.read_bytes()) if suffix == ".sdf.gz" else path.read_bytes()
    supplier = Chem.SDMolSupplier()
    supplier.SetData(content.decode())
    aspirin, ethanol = supplier
    original = in_space(ASPIRIN)
    assert [a.GetSymbol() for a in aspirin.GetAtoms()] == [a.GetSymbol() for a in original.GetAtoms()]
    torch.testing.assert_close(
        torch.tensor(aspirin.GetConformer().GetPositions()),
        torch.tensor(original.GetConformer().GetPositions()),
        atol=1e-3,
        rtol=0,
    )
    assert aspirin.GetProp("_Name") == "aspirin"
    assert aspirin.GetProp("activity") == "1.5"
    assert aspirin.GetProp("target (file)") == "COX"
    assert float(aspirin.GetProp("prediction")) == pytest.approx(float(explained[0].prediction), rel=1e-5)
    table = explained[0].atoms
    file_atom = explained.data[0].file_atom.tolist()
    for node, value in enumerate(table.attribution):
        assert aspirin.GetAtomWithIdx(file_atom[node]).GetDoubleProp("attribution") == pytest.approx(value, rel=1e-5)
    assert sum(b.GetDoubleProp("attribution") for b in aspirin.GetBonds()) == pytest.approx(
        explained[0].bonds.attribution.sum(), rel=1e-4
    )
    assert not ethanol.GetConformer().Is3D()
    assert read(path, "one_hot").names == ["aspirin", ""]


def test_a_table_of_all_atoms(explained: gx.Explanations, tmp_path: Path) -> None:
    import pandas

    table = pandas.read_csv(gx.molecules.write(explained, tmp_path / "a.csv"))
    assert len(table) == 16
    assert table.name.unique().tolist() == ["aspirin", "molecule 1"]
    assert table.attribution[:13].tolist() == pytest.approx(explained[0].atoms.attribution.tolist(), rel=1e-5)
    pytest.importorskip("pyarrow")
    assert len(pandas.read_parquet(gx.molecules.write(explained, tmp_path / "a.parquet"))) == 16


@pytest.mark.parametrize("smiles", ["[Na+].[O-]c1ccc(Br)cc1Cl", "[H]OC([2H])C", "C1CC%12CCC%12C1/C=C/c1c[nH]cc1"])
def test_scores_for_tokens(smiles: str, tmp_path: Path) -> None:
    import json

    from rdkit import Chem

    e = gx.explain(
        Small().eval(), from_smiles([smiles], "one_hot"), "integrated_gradients", task=REGRESSION, progress=False
    )
    (entry,) = json.loads(gx.molecules.write(e, tmp_path / "a.json").read_text())
    (method,) = entry["methods"]
    assert "".join(entry["sequence"]) == entry["string"]
    assert len(method["scores"]) == len(entry["sequence"])
    mol = Chem.MolFromSmiles(entry["string"])
    table = e[0].atoms
    atoms = [i for i, token in enumerate(entry["sequence"]) if any(map(str.isalpha, token)) or token == "*"]
    assert len(atoms) == mol.GetNumAtoms() == len(table)
    own = sorted(zip(table.symbol, table.attribution.round(4), strict=True))
    theirs = [(a.GetSymbol(), round(method["scores"][i], 4)) for a, i in zip(mol.GetAtoms(), atoms, strict=True)]
    assert sorted(theirs) == own


def test_script_for_pymol(explained: gx.Explanations, tmp_path: Path) -> None:
    """The part in Python runs, and gives each atom its score as its b-factor."""
    import sys
    import types

    script = gx.molecules.write(explained, tmp_path / "a.pml").read_text()
    head, _, rest = script.partition("\npython\n")
    body, _, tail = rest.partition("python end")
    assert head.count("set_color") == 3
    assert tail.strip() == ""
    calls: list[tuple] = []

    class Commands:
        def __getattr__(self, name: str):
            return lambda *arguments: calls.append((name, *arguments))

    module = types.ModuleType("pymol")
    module.cmd = Commands()  # type: ignore[attr-defined]
    before = sys.modules.get("pymol")
    sys.modules["pymol"] = module
    try:
        exec(compile(body, "a.pml", "exec"), {})
    finally:
        del sys.modules["pymol"]
        if before is not None:
            sys.modules["pymol"] = before
    loaded = [call for call in calls if call[0] == "read_molstr"]
    assert [name for _, _, name in loaded] == ["aspirin_0", "molecule_1_1"]
    colors = [float(call[2].split("= ")[1]) for call in calls if call[0] == "alter" and "id" in call[1]]
    assert colors == pytest.approx([*explained[0].atoms.attribution, *explained[1].atoms.attribution], rel=1e-3)
    (spectrum,) = [call for call in calls if call[0] == "spectrum"]
    assert spectrum[5] == -spectrum[4] == pytest.approx(max(map(abs, colors)), rel=1e-4)


def test_what_cannot_be_written(explained: gx.Explanations, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.sdf, \.sdf\.gz, \.csv"):
        gx.molecules.write(explained, tmp_path / "a.mol2")
    with pytest.raises(InputError, match="at least one explanation"):
        gx.molecules.write([], tmp_path / "a.sdf")
    edges = gx.explain(Small().eval(), explained.data, "edge_ablation", task=REGRESSION, progress=False)
    with pytest.raises(InputError, match="expected scores of atoms, got none by edge_ablation"):
        gx.molecules.write(edges, tmp_path / "a.pml")
    with pytest.raises(gx.errors.StorageError, match="cannot write"):
        gx.molecules.write(explained, tmp_path / "nowhere" / "a.csv")


def test_the_command_line_reads_and_writes_sdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from rdkit import Chem

    from gnn_xai.cli.app import main

    monkeypatch.chdir(tmp_path)
    Path("m.py").write_text("from tests.test_molecule_files import Small as model\n")
    block = Chem.MolToMolBlock(in_space(GLYCINE))
    Path("in.sdf.gz").write_bytes(gzip.compress(f"{block}>  <code>\nG1\n\n$$$$\n".encode()))
    options = [
        "--smiles",
        "in.sdf.gz",
        "--model",
        "m:model",
        "--mode",
        "regression",
        "--id-column",
        "code",
        "--out",
        "out",
    ]
    for arguments, status in (
        (["--write", "sdf,pml"], 0),
        (["--neutralize", "--write", "sdf", "--overwrite"], 0),
        (["--write", "mol"], 2),
    ):
        with pytest.raises(SystemExit) as end:
            main(["molecules", *options, *arguments])
        assert end.value.code == status
    assert "unknown format 'mol'; did you mean 'pml'" in capsys.readouterr().err.replace("\n", " ")
    (mol,) = Chem.SDMolSupplier("out/molecules.sdf")
    assert Chem.MolToSmiles(mol) == "NCC(=O)O"
    assert mol.GetConformer().Is3D()
    assert mol.GetProp("_Name") == "G1"
