"""From SMILES to pictures: nothing is lost or mixed up on the way, and what is drawn is what was scored."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GIN, global_add_pool
from torch_geometric.utils import smiles as pyg_smiles

pytest.importorskip("rdkit")
pytest.importorskip("pandas")

from rdkit import Chem

import gnn_xai as gx
from gnn_xai import molecules
from gnn_xai.cli.app import main
from gnn_xai.errors import GnnXaiError, GnnXaiWarning, InputError
from gnn_xai.molecules import canvas, featurizers, fragments, from_smiles, read, tables, words
from gnn_xai.molecules.layout import laid_out
from gnn_xai.viz.color import signed_text

SMILES = [
    "C[C@H](N)C(=O)[O-]",
    "O=[N+]([O-])c1ccccc1",
    "C/C=C/Cl",
    "[CH3:7][OH:2]",
    "[Na+].[O-]c1ccccc1",
    "[He]",
]
SYMBOLS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P")  # the first columns of one_hot


class Pooled(GIN):
    """A GIN that sums over atoms."""

    def forward(self, x, edge_index, batch):
        return global_add_pool(super().forward(x, edge_index), batch)


def model(channels: int = 23) -> Pooled:
    torch.manual_seed(0)
    return Pooled(channels, 16, num_layers=2, out_channels=2).eval()


@pytest.fixture(scope="module")
def mols() -> molecules.Molecules:
    return from_smiles(SMILES, "one_hot")


@pytest.fixture(scope="module")
def explanations(mols) -> gx.Explanations:
    return gx.explain(model(), mols, "integrated_gradients", progress=False)


def scored(mols, atoms=None, bonds=None, *, signed=True) -> gx.Explanations:
    """Explanations with scores of one's own: per atom, and per directed edge."""
    made = gx.explain(model(), mols, "random", progress=False)
    atom = None if atoms is None else torch.tensor(atoms, dtype=torch.float).reshape(-1, 1)
    edge = None if bonds is None else torch.tensor(bonds, dtype=torch.float)
    kind = None if atoms is None else "object"
    return dataclasses.replace(made, node_mask=atom, edge_mask=edge, node_mask_type=kind, signed=signed)


# Reading #########################################################################################

BAD = {
    2: ("", "left out: nothing stands there"),
    3: ("C1CC", "left out: this is not SMILES"),
    4: ("CC(C)(C)(C)C", "left out: Explicit valence for atom # 1 C, 5"),
    5: ("c1ccc1", None),
    6: ("[Na+].[Cl-]", "kept: a salt or mixture of 2 parts"),
    7: ("[He]", "kept: a single atom, without bonds"),
    8: ("C" * 200, "kept: 200 heavy atoms"),
    9: ("[Fe+2]CC", "kept: it holds a metal (Fe)"),
    10: ("OCC", "kept: the same molecule as on line 1"),
    11: ("[CH3:1][CH2:2][OH:3]", "kept: the same molecule as on line 1"),
    12: ("hello world", "left out: this is not SMILES"),
}


@pytest.mark.parametrize("featurizer", ["pyg", "ogb", "one_hot"])
def test_every_bad_line_is_named_and_loses_no_other(featurizer):
    texts = ["CCO", *(text for text, _ in BAD.values()), "c1ccccc1"]
    with pytest.warns(GnnXaiWarning, match=r"^4 of 13 lines left out:.*line 2 \(''\) left out: nothing stands"):
        found = from_smiles(texts, featurizer)
    reasons = {problem.line: problem.reason for problem in found.problems}
    for line, (text, reason) in BAD.items():
        assert reasons.get(line, "").startswith(reason or "")
        assert (reason is None) == (line not in reasons)
        assert (line in found.lines) == (reason is None or reason.startswith("kept")), text
    assert found.lines[0] == 1
    assert found.lines[-1] == 13
    assert [problem.line for problem in found.problems if problem.left_out] == [2, 3, 4, 12]
    assert len(found) == len(found.smiles) == len(found.mols) == 9
    made = gx.explain(model(found[0].x.size(1)), [_as_float(d) for d in found], "saliency", progress=False)
    assert len(made) == 9


def _as_float(data: Data) -> Data:
    return Data(x=data.x.float(), edge_index=data.edge_index, smiles=data.smiles)


@pytest.mark.parametrize(("entry", "reason"), [(None, "nothing stands there"), (float("nan"), "nothing stands there"),
                                               (3, "expected a string, got int")])  # fmt: skip
def test_what_is_no_text_is_named_too(entry, reason):
    with pytest.warns(GnnXaiWarning, match=reason):
        found = from_smiles(["CC", entry])
    assert found.problems[0].reason == f"left out: {reason}"


def test_an_atom_without_a_code_is_named():
    huge = "[CH4+7]"
    with pytest.warns(GnnXaiWarning, match="the pyg encodings have no code"):
        found = from_smiles(["C", huge], "pyg")
    assert found.lines == [1]
    assert from_smiles(["C", huge], "ogb").lines == [1, 2], "OGB has a code for all the rest"


def test_nothing_readable_is_one_sentence():
    with pytest.raises(
        InputError, match=r"expected at least one molecule, got 1 lines without any; line 1 \('C1'\) left"
    ):
        from_smiles("C1")
    with pytest.raises(InputError, match="got 0 lines"):
        from_smiles([])
    with pytest.raises(InputError, match="expected one name for each of 1 SMILES, got 2"):
        from_smiles(["C"], names=["a", "b"])


def test_a_file_of_lines(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("\ufeffSMILES\tname\nCCO\tethyl alcohol\n\nC1CC broken\nCC |$a;b$| ethane\r\nC\n", encoding="utf-8")
    with pytest.warns(GnnXaiWarning, match="2 of 5 lines"):
        found = read(path)
    assert found.lines == [2, 5, 6]
    assert found.smiles == ["CCO", "CC", "C"]
    assert found.names == ["ethyl alcohol", "ethane", ""]


def test_a_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('ID,Canonical_SMILES,note\n"a,1",CCO,x\nb\nc,"CC",y\n', encoding="utf-8")
    with pytest.warns(GnnXaiWarning, match="line 3"):
        found = read(path)
    assert found.lines == [2, 4]
    assert found.names == ["a,1", "c"]
    with pytest.raises(
        InputError, match="expected a column 'structure' in .*a.csv, got 'ID', 'Canonical_SMILES', 'note'"
    ):
        read(path, smiles_column="structure")
    with pytest.raises(InputError, match="expected a column 'nick'"):
        read(path, id_column="nick")
    semicolons = tmp_path / "b.csv"
    semicolons.write_text("smiles;name\nCC;e\n", encoding="utf-8")
    assert read(semicolons).names == ["e"]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot read the SMILES in .*absent.smi: No such file"):
        read(tmp_path / "absent.smi")
    (tmp_path / "latin.smi").write_bytes(b"CC \xe9thane\n")
    with pytest.raises(InputError, match="as text in UTF-8, got other bytes at position 3"):
        read(tmp_path / "latin.smi")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="expected a column 'smiles' in .*empty.csv, got none"):
        read(tmp_path / "empty.csv")


def test_molecules_are_a_sequence(mols):
    assert len(mols) == len(list(mols)) == 6
    part = mols[4:]
    assert isinstance(part, molecules.Molecules)
    assert part.lines == [5, 6]
    assert [problem.line for problem in part.problems] == [5, 6]
    assert repr(mols) == "Molecules(6 molecules, one_hot)"
    assert mols[-1].smiles == "[He]"


# Featurizers #####################################################################################


@pytest.mark.parametrize("featurizer", ["pyg", "ogb", "one_hot"])
def test_nodes_are_atoms_in_the_order_of_rdkit(featurizer):
    for data in from_smiles(SMILES, featurizer):
        mol = Chem.MolFromSmiles(data.smiles)
        assert data.num_nodes == mol.GetNumAtoms()
        bonds = {frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in mol.GetBonds()}
        assert {frozenset(pair) for pair in data.edge_index.t().tolist()} == bonds
        assert data.edge_index.shape == (2, 2 * len(bonds))
        assert data.edge_index.dtype == torch.int64
        numbers = {"pyg": lambda x: x[0], "ogb": lambda x: x[0] + 1}.get(featurizer)
        for atom, row in zip(mol.GetAtoms(), data.x.tolist(), strict=True):
            if numbers is not None:
                assert numbers(row) == atom.GetAtomicNum()
            elif atom.GetSymbol() in SYMBOLS:
                assert row[SYMBOLS.index(atom.GetSymbol())] == 1


def test_pyg_is_what_pyg_makes():
    for data in from_smiles(SMILES, "pyg"):
        theirs = pyg_smiles.from_smiles(data.smiles)
        for name in ("x", "edge_index", "edge_attr"):
            assert torch.equal(data[name], theirs[name])


def test_ogb_is_what_ogb_documents():
    """The examples in `ogb.utils.features`."""
    data = from_smiles("Cl[C@H](/C=C/C)Br", "ogb")[0]
    assert data.x[1].tolist() == [5, 2, 4, 5, 1, 0, 2, 0, 0]
    assert data.edge_index[:, 4].tolist() == [2, 3]
    assert data.edge_attr[4].tolist() == data.edge_attr[5].tolist() == [1, 2, 0]
    assert [len(book) for book in featurizers.OGB_ATOM] == [119, 5, 12, 12, 10, 6, 6, 2, 2]
    assert [len(book) for book in featurizers.OGB_BOND] == [5, 6, 2]


class Encoder(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.atoms = torch.nn.ModuleList([torch.nn.Embedding(size, 4) for size in sizes])
        self.layer = torch.nn.Linear(4, 1)


def test_a_model_says_what_it_reads():
    assert featurizers.recognise(Encoder([119, 5, 12, 12, 10, 6, 6, 2, 2])) == "ogb"
    assert featurizers.recognise(Encoder([119, 9, 11, 12, 9, 5, 8, 2, 2])) == "pyg"
    assert featurizers.recognise(model()) == "one_hot"
    assert from_smiles("CC", model()).featurizer == "one_hot"
    for other, read_ in (
        (model(9), "9 inputs"),
        (torch.nn.ReLU(), "no known number"),
        (Encoder([100]), r"\[100\] rows"),
    ):
        with pytest.raises(
            InputError, match=f"expected a model that reads one of the known encodings, got a .*{read_}"
        ):
            featurizers.recognise(other)


@pytest.mark.parametrize("name", [name for name in gx.datasets.names() if name.startswith("nci_")])
def test_reference_models_read_what_they_say(name):
    recipe = gx.datasets.REGISTRY[name]
    found = from_smiles(SMILES, recipe.featurizer)
    made = gx.explain(recipe.model().eval(), found, "saliency", task=recipe.task, progress=False)
    assert len(made) == len(SMILES)


def test_featurizers_by_name_and_of_ones_own():
    def carbon(mol):
        return Data(x=torch.ones(mol.GetNumAtoms(), 1), edge_index=torch.zeros(2, 0, dtype=torch.long))

    found = from_smiles("CCO", carbon)
    assert (found.featurizer, found[0].x.tolist()) == ("carbon", [[1.0]] * 3)
    with pytest.raises(InputError, match="unknown featurizer 'onehot'; did you mean 'one_hot'"):
        from_smiles("C", "onehot")
    with pytest.raises(InputError, match="expected featurizer as one of pyg, ogb, one_hot"):
        from_smiles("C", 3)


# Tables ##########################################################################################


def test_atoms_and_bonds_add_up_to_what_the_model_says(mols, explanations):
    """Integrated gradients are complete: all atoms and bonds, each bond once, make up the margin."""
    trained = model()
    for e, data in zip(explanations, mols, strict=True):
        nothing = torch.zeros(2, 0, dtype=torch.long)
        one = torch.zeros(data.num_nodes, dtype=torch.long)
        with torch.no_grad():
            before = trained(torch.zeros_like(data.x), nothing, one)[0]
            logits = trained(data.x, data.edge_index, one)[0]
        other = 1 - e.target
        change = (logits[e.target] - logits[other]) - (before[e.target] - before[other])
        total = e.atoms["attribution"].sum() + e.bonds["attribution"].sum()
        assert total == pytest.approx(float(change + e.extras["completeness_error"]), abs=1e-4)


def test_tables_name_atoms_and_bonds(explanations):
    table = explanations[3].atoms
    assert table.columns.tolist() == ["index", "symbol", "map_number", "attribution"]
    assert table["symbol"].tolist() == ["C", "O"]
    assert table["map_number"].tolist() == [7, 2]
    assert explanations[0].atoms["map_number"].isna().all()
    bonds = explanations[1].bonds
    assert bonds.columns.tolist() == ["index", "begin", "end", "symbols", "type", "attribution"]
    assert bonds.loc[0, ["begin", "end", "symbols", "type"]].tolist() == [0, 1, "O–N", "double"]
    assert bonds["type"].tolist().count("aromatic") == 6
    assert len(explanations[5].bonds) == 0
    np.testing.assert_allclose(table["attribution"], explanations[3].node_scores, rtol=1e-6)


def test_both_directions_make_the_bond(mols, explanations):
    """Attributions of directions add up to what they have together; masks are averaged."""
    apart = gx.explain(model(), mols, "integrated_gradients", undirected=False, progress=False)
    for together, single in zip(explanations, apart, strict=True):
        np.testing.assert_allclose(together.bonds["attribution"], single.bonds["attribution"], atol=1e-4)
    one = from_smiles("CO", "one_hot")
    for undirected, signed, expected in ((True, True, 0.3), (False, True, 0.6), (False, False, 0.3)):
        made = scored(one, bonds=[0.3, 0.3], signed=signed)
        made = dataclasses.replace(made, provenance={**made.provenance, "undirected": undirected})
        assert made[0].bonds["attribution"].tolist() == pytest.approx([expected])


def test_what_was_not_scored_is_missing(mols):
    edges = gx.explain(model(), mols, "edge_ablation", progress=False)[0]
    assert edges.atoms["attribution"].isna().all()
    assert edges.bonds["attribution"].notna().all()
    nodes = gx.explain(model(), mols, "node_ablation", progress=False)[0]
    assert nodes.bonds["attribution"].isna().all()
    assert nodes.atoms["attribution"].notna().all()


def test_a_mask_over_features_stays_a_mask(mols):
    made = scored(mols)
    mask = torch.rand(int(made.node_ptr[-1]), 4, generator=torch.Generator().manual_seed(0))
    made = dataclasses.replace(made, node_mask=mask, node_mask_type="attributes", signed=False)
    for e in made:
        np.testing.assert_allclose(e.atoms["attribution"], e.node_mask.max(1).values)


def test_tables_of_other_data(mols, explanations, tmp_path):
    batch = gx.explain(model(), Batch.from_data_list(list(mols)), "integrated_gradients", task="graph", progress=False)
    np.testing.assert_allclose(batch[1].atoms["attribution"], explanations[1].atoms["attribution"], atol=1e-5)
    loaded = gx.load(explanations.save(tmp_path / "e.safetensors"))
    with pytest.raises(InputError, match="got one loaded from disk; give it its data with dataclasses.replace"):
        _ = loaded[0].atoms
    again = dataclasses.replace(loaded, data=mols)
    assert again[2].bonds.equals(explanations[2].bonds)
    bare = gx.explain(model(), [Data(x=d.x, edge_index=d.edge_index) for d in mols], "saliency", progress=False)
    with pytest.raises(InputError, match=r"expected a graph that carries the SMILES of its molecule as data.smiles"):
        _ = bare[0].bonds
    wrong = Data(x=mols[0].x, edge_index=mols[0].edge_index, smiles="CC")
    with pytest.raises(InputError, match="a node for each of the 2 atoms of 'CC' in their order, .* got 6 nodes"):
        _ = gx.explain(model(), [wrong], "saliency", progress=False)[0].atoms


# Drawing #########################################################################################


def elements(svg: str, tag: str) -> list[dict[str, str]]:
    """Attributes of the shading's shapes: the bar, the bands and the discs."""
    return [dict(re.findall(r'(\S+)="([^"]*)"', found)) for found in re.findall(rf"<{tag} ([^>]*)/>", svg)]


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def test_signs_have_colours_and_zero_is_white():
    made = scored(from_smiles("CNO", "one_hot"), atoms=[4.0, 0.0, -4.0], bonds=[2.0, 2.0, -2.0, -2.0])
    svg = molecules.draw(made[0], colorbar=False).svg
    discs, bands = elements(svg, "circle"), elements(svg, "line")
    assert len(discs) == len(bands) == 2, "an atom with a score of 0 is as white as the paper"
    red, _, blue = rgb(discs[0]["fill"] if float(discs[0]["cx"]) < float(discs[1]["cx"]) else discs[1]["fill"])
    strongest = {discs[0]["fill"], discs[1]["fill"]}
    assert strongest == {"#e66a2c", "#2f86cf"}
    assert red > blue, "C is the atom on the left"
    assert sorted(rgb(band["stroke"])[0] > rgb(band["stroke"])[2] for band in bands) == [False, True]


def test_black_ink_is_legible_on_every_shade():
    for cmap in (canvas.DIVERGING, canvas.SEQUENTIAL):
        channels = cmap(np.linspace(0, 1, 50))[:, :3]
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        assert ((linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05).min() >= 4.5


def test_the_scale_is_the_same_for_all_molecules_of_a_run():
    made = scored(from_smiles(["CO", "CN"], "one_hot"), atoms=[4.0, 1.0, 1.0, -2.0])
    first, second = (elements(molecules.draw(e).svg, "circle") for e in made)
    assert first[0]["fill"] == second[0]["fill"], "weakest first: a score of 1 in both"
    for e in made:
        assert re.findall(r">([+−]?\d[^<]*)</text>", molecules.draw(e).svg) == ["−4", "+4"]
    assert re.findall(r">([+−]\d[^<]*)</text>", molecules.draw(made[0], limit=10).svg) == ["−10", "+10"]
    with pytest.raises(InputError, match="expected limit above 0"):
        molecules.draw(made[0], limit=0.0)


def test_masks_have_a_fixed_scale_of_their_own():
    made = scored(from_smiles("CO", "one_hot"), atoms=[0.5, 1.0], signed=False)
    svg = molecules.draw(made[0]).svg
    assert [disc["fill"] for disc in elements(svg, "circle")] == ["#a8dcc0", "#35a077"]
    assert re.findall(r">(\d)</text>", svg) == ["0", "1"]
    positive = scored(from_smiles("CO", "one_hot"), atoms=[1.0, 2.0])
    assert ">attribution, without sign</text>" in molecules.draw(positive[0]).svg


def test_the_same_pixels_are_orange_in_svg_and_png():
    from io import BytesIO

    from PIL import Image

    made = scored(from_smiles("CO", "one_hot"), atoms=[3.0, -1.0])
    picture = molecules.draw(made[0])
    image = Image.open(BytesIO(picture.png))
    assert image.size == (2 * picture.width, 2 * picture.height)
    for disc in elements(picture.svg, "circle"):
        x, y, r = (2 * float(disc[name]) for name in ("cx", "cy", "r"))
        near = [
            image.getpixel((round(x + 0.5 * r * a), round(y + 0.5 * r * b))) for a, b in ((1, 1), (-1, 1), (-1, -1))
        ]
        assert rgb(disc["fill"]) in near


def test_stereo_charges_and_map_numbers_are_kept():
    mol = laid_out(Chem.MolFromSmiles("[CH3:5][C@H]([NH3+])C(=O)[O-]"))
    assert [atom.GetFormalCharge() for atom in mol.GetAtoms()] == [0, 0, 1, 0, 0, -1]
    assert any(bond.GetBondDir() != Chem.BondDir.NONE for bond in mol.GetBonds())
    assert mol.GetAtomWithIdx(0).GetProp("atomNote") == "5"
    assert "atomNote" not in mol.GetAtomWithIdx(1).GetPropsAsDict()
    numbered = laid_out(Chem.MolFromSmiles("CO"), numbers=True)
    assert [atom.GetProp("atomNote") for atom in numbered.GetAtoms()] == ["0", "1"]


@pytest.mark.parametrize(("count", "at_most"), [(30, 700), (120, 1100)])
def test_large_molecules_get_room(count, at_most):
    smiles = "c1ccccc1" + "C(=O)Nc1ccc(C)cc1" * ((count - 6) // 10)
    one = from_smiles(smiles, "one_hot")
    atoms = torch.linspace(-1, 1, one[0].num_nodes).tolist()
    picture = molecules.draw(scored(one, atoms=atoms)[0])
    assert 300 <= picture.width <= at_most
    discs = elements(picture.svg, "circle")
    assert min(float(disc["r"]) for disc in discs) >= 4, "discs that can be told apart"
    assert all(0 <= float(disc["cx"]) <= picture.width for disc in discs)


def test_marks_and_their_limits(mols, explanations):
    picture = molecules.draw(explanations[1], mark=[1, 2])
    assert len([disc for disc in elements(picture.svg, "circle") if disc["fill"] == "none"]) == 2
    with pytest.raises(InputError, match="expected mark as atoms from 0 to 8, got 9"):
        molecules.draw(explanations[1], mark=[9])


def test_scores_of_features_alone_cannot_be_drawn(mols):
    made = dataclasses.replace(scored(mols), node_mask=torch.rand(6, 4), node_mask_type="common_attributes")
    with pytest.raises(InputError, match="expected scores of atoms or bonds, but random scored features"):
        molecules.draw(made[0])
    assert made[0]._repr_html_() is None


def test_texts_are_escaped_and_cut(mols):
    names = ['<script>alert("x")</script>\x07', "a" * 500]
    made = scored(from_smiles(["CO", "CN"], "one_hot", names=names), atoms=[1.0, 2.0, 3.0, -4.0])
    for picture in (molecules.draw(made[0]), molecules.draw(made[1]), molecules.grid(made)):
        assert "<script" not in picture.svg
        assert "\x07" not in picture.svg
        _Page(picture.svg)
        assert picture.png.startswith(b"\x89PNG")
    assert "aaa…</text>" in molecules.draw(made[1]).svg
    assert "&lt;script&gt;" in molecules.draw(made[0]).svg


def test_a_grid_names_predictions_fragments_and_fidelity(mols, explanations):
    picture = molecules.grid(explanations, columns=4, class_names=["no", "yes"])
    texts = re.findall(r">([^<>]+)</text>", picture.svg)
    assert texts.count("molecule 0") == 1
    assert sum(text.startswith("predicted ") for text in texts) == 6
    top = fragments(explanations[1], ("functional_groups", "rings")).iloc[0]
    assert f"{top['name']} {signed_text(top['attribution'], 2)}" in texts
    assert sum(bool(re.match(r"fidelity\+ −?\d\.\d\d, fidelity− ", text)) for text in texts) == 6
    assert texts.count("attribution") == 1, "one bar for one run"
    both = molecules.grid([explanations[0], scored(mols, atoms=[1.0] * explanations.node_ptr[-1])[0]])
    names = re.findall(r">([^<>]+)</text>", both.svg)
    assert {"integrated_gradients", "random"} <= set(names), "one bar for each"
    with pytest.raises(InputError, match="expected 1 to 200 explanations to draw, got 0"):
        molecules.grid([])
    with pytest.raises(InputError, match="expected marks of length 6, got 1"):
        molecules.grid(explanations, marks=[[]])


def test_fidelity_below_a_molecule_is_that_of_the_metric(mols, explanations):
    result = gx.metrics.fidelity(model(), mols, explanations)
    for e, plus, minus in zip(explanations, result.plus.values, result.minus.values, strict=True):
        assert words.fidelity_of(e) == pytest.approx((float(plus), float(minus)), abs=1e-5)


@pytest.mark.parametrize(("mode", "returns", "outputs"), [("regression", "raw", 1), ("binary_classification", "raw", 1),
                                                          ("binary_classification", "probs", 1)])  # fmt: skip
def test_fidelity_of_other_tasks(mols, mode, returns, outputs):
    torch.manual_seed(1)
    other = Pooled(mols[0].x.size(1), 8, num_layers=2, out_channels=outputs).eval()
    task = ModelConfig(mode=mode, task_level="graph", return_type=returns)
    readout = (lambda m, d: m(d.x, d.edge_index, d.batch).sigmoid()) if returns == "probs" else None
    made = gx.explain(other, mols, "saliency", task=task, forward=readout, progress=False)
    result = gx.metrics.fidelity(other, mols, made, forward=readout)
    for e, plus in zip(made, result.plus.values, strict=True):
        assert words.fidelity_of(e)[0] == pytest.approx(float(plus), abs=1e-5)
        assert "predicted" in molecules.draw(e).svg


def test_notebooks_show_the_depiction(explanations):
    picture = molecules.draw(explanations[0])
    assert picture._repr_svg_() == picture.svg
    assert explanations[0]._repr_html_() == picture.svg
    assert picture.svg.startswith("<svg xmlns=")
    karate = gx.datasets.load("karate")
    other = gx.explain(karate.model, karate.data, "saliency", index=[0], progress=False)[0]
    assert other._repr_html_() is None, "text is shown"


def test_pictures_are_saved_as_their_suffix_says(explanations, tmp_path):
    picture = molecules.draw(explanations[0])
    assert picture.save(tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert picture.save(tmp_path / "a.png").read_bytes() == picture.png
    with pytest.raises(InputError, match="expected a path that ends in .svg or .png"):
        picture.save(tmp_path / "a.jpg")


# Without RDKit ###################################################################################


def test_the_package_imports_without_rdkit_and_pandas():
    code = """
import sys
sys.modules.update(dict.fromkeys(["rdkit", "pandas"]))
import gnn_xai as gx
try:
    gx.molecules.from_smiles("CC")
except gx.errors.GnnXaiError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "molecules need rdkit, which is not installed; run 'pip install gnn-xai[molecules]'" in done.stdout


def test_what_is_missing_is_said(explanations, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        with pytest.raises(GnnXaiError, match=r"tables need pandas.*pip install gnn-xai\[molecules\]"):
            _ = explanations[0].atoms
    monkeypatch.setitem(sys.modules, "rdkit", None)
    for use in (lambda: read(__file__), lambda: tables.atoms(explanations[0]), lambda: molecules.draw(explanations[0])):
        with pytest.raises(GnnXaiError, match=r"rdkit, which is not installed; run 'pip install gnn-xai\[molecules\]'"):
            use()
    assert explanations[0]._repr_html_() is None


# The command line ################################################################################


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words += data


LINES = """smiles name
O=[N+]([O-])c1ccccc1 nitrobenzene
C1CC broken
CC(=O)O <img src=x onerror=alert(1)> & "more"

[CH3:4][N+](=O)[O-] nitromethane
"""


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "in.smi").write_text(LINES, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.mark.filterwarnings("default::gnn_xai.errors.GnnXaiWarning")
def test_the_command_line_from_smiles_to_a_page(work, capsys):
    arguments = (
        "molecules",
        "--smiles",
        "in.smi",
        "--model",
        "reference:nitro",
        "--set",
        "steps=8",
        "--out",
        "out/mol",
    )
    assert run(*arguments) == 0
    out, err = capsys.readouterr()
    assert "line 3 ('C1CC') left out" in err
    assert "nitrobenzene" in out
    folder = work / "out" / "mol"
    assert sorted(path.name for path in folder.iterdir()) == [
        "atoms.csv", "bonds.csv", "explanations.safetensors", "index.html", "molecules.csv", "sheet.png", "sheet.svg",
        "summary.json",
    ]  # fmt: skip
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert not {"script", "img", "link", "iframe", "b"} & set(page.tags)
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|url\(", text)
    assert '<img src=x onerror=alert(1)> & "more"' in page.words
    assert page.tags.count("svg") == 3 + 1, "every molecule, and the scale"
    assert "line 3, C1CC: this is not SMILES" in page.words
    with (folder / "atoms.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 9 + 4 + 4
    assert [row["map_number"] for row in rows if row["line"] == "6"] == ["4", "", "", ""]
    assert {row["smiles"] for row in rows if row["line"] == "2"} == {"O=[N+]([O-])c1ccccc1"}
    loaded = gx.load(folder / "explanations.safetensors")
    first = dataclasses.replace(loaded, data=read_quietly(work / "in.smi"))[0]
    np.testing.assert_allclose([float(row["attribution"]) for row in rows[:9]], first.atoms["attribution"], rtol=1e-4)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["gnn_xai"] == gx.__version__
    assert (summary["molecules"], summary["featurizer"]) == (3, "one_hot")
    assert [problem["line"] for problem in summary["problems"]] == [3, 5]
    assert run(*arguments) == 0, "an earlier run is replaced"


def read_quietly(path: Path) -> molecules.Molecules:
    with pytest.warns(GnnXaiWarning, match="left out"):
        return read(path, "one_hot")


def test_an_own_model_on_a_table(work):
    (work / "mine.py").write_text(
        "import torch\nfrom torch_geometric.nn import AttentiveFP\n"
        "class Model(AttentiveFP):\n"
        "    def forward(self, x, edge_index, edge_attr, batch):\n"
        "        return super().forward(x.float(), edge_index, edge_attr.float(), batch)\n"
        "def model():\n"
        "    torch.manual_seed(0)\n"
        "    return Model(9, 8, 1, 3, 2, 1)\n"
    )
    (work / "in.csv").write_text("id,structure\na,CCO\nb,c1ccccc1\n")
    assert run("molecules", "--smiles", "in.csv", "--model", "mine:model", "--featurizer", "ogb", "--mode", "regression",
               "--smiles-column", "structure", "--algorithm", "edge_ablation", "--out", "out") == 0  # fmt: skip
    with (work / "out" / "molecules.csv").open(encoding="utf-8", newline="") as handle:
        first = next(csv.DictReader(handle))
    assert (first["name"], first["smiles"], first["top_fragment"]) == ("a", "CCO", "alcohol")
    assert float(first["prediction"]) == pytest.approx(-0.127379, abs=1e-4)
    assert "fidelity_plus" not in first, "of a regression, fidelity is a difference without a measure"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--smiles", "absent.smi"), "cannot read the SMILES in absent.smi"),
        (("--model", "reference:nitr"), "unknown reference model 'nitr'; did you mean 'nitro'?"),
        (("--weights", "w.safetensors"), "a reference model brings its own weights"),
        (("--featurizer", "one"), "unknown featurizer 'one'; did you mean 'one_hot'?"),
        (("--algorithm", "integrated"), "unknown algorithm 'integrated'"),
        (("--smiles", "in.csv"), "expected a column 'smiles'"),
        (("--target", "2"), "target 2 is out of range"),
    ],
)
@pytest.mark.filterwarnings("default::gnn_xai.errors.GnnXaiWarning")
def test_bad_input_is_one_sentence_and_leaves_nothing(work, capsys, arguments, message):
    (work / "in.csv").write_text("a,b\n1,2\n")
    given = {"--smiles": "in.smi", "--model": "reference:nitro", "--out": "out"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert run("molecules", *(part for pair in given.items() for part in pair)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    error = err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert sorted(path.name for path in work.iterdir()) == ["in.csv", "in.smi"]
