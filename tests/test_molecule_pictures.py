"""Pictures of molecules: where atoms are placed, what an SVG holds, and how many a page draws."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from gnn_xai.molecules import canvas, from_smiles
from gnn_xai.molecules.layout import laid_out
from gnn_xai.report import molecules as report
from tests.test_molecule_numbers import explain


def test_parts_of_a_salt_stand_apart() -> None:
    places = laid_out(Chem.MolFromSmiles("CC(=O)[O-].[Na+].O")).GetConformer().GetPositions()
    assert np.linalg.norm(places[:4, None] - places[4:], axis=2).min() > 2 * 1.5
    assert np.linalg.norm(places[4] - places[5]) == pytest.approx(2 * 1.5)


def test_long_chains_are_folded_and_keep_their_shape() -> None:
    chain = Chem.MolFromSmiles("O" + "CCO" * 30 + "C[C@@H](F)C/C=C/C" + "OCC" * 16)
    mol = laid_out(chain)
    places = mol.GetConformer().GetPositions()
    ends = np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()])
    assert np.linalg.norm(places[ends[:, 0]] - places[ends[:, 1]], axis=1) == pytest.approx(1.5, abs=0.01)
    width, height = np.ptp(places[:, :2], axis=0)
    assert 2 < width / height < 4
    again = Chem.MolFromMolBlock(Chem.MolToMolBlock(mol))
    assert Chem.MolToSmiles(again) == Chem.MolToSmiles(chain), "stereo is that of the molecule"


def test_svg_is_short_and_holds_all_that_was_drawn() -> None:
    from rdkit.Chem.Draw.rdMolDraw2D import MolDraw2DSVG

    drawer = MolDraw2DSVG(400, 300)
    drawer.DrawMolecule(Chem.MolFromSmiles("C[C@H](N)C(=O)Oc1ccccc1[N+](=O)[O-]"))
    drawer.FinishDrawing()
    before = drawer.GetDrawingText()
    after = canvas.compact(before)
    places = [re.findall(r"[A-Z]|[\d.]+", "".join(re.findall(r" d='([^']*)'", svg))) for svg in (before, after)]
    assert places[0] == places[1]
    assert set(re.findall("stroke-width:[^;]*", after)) == set(
        re.findall("stroke-width:[^;]*", before.partition("<path")[2])
    )
    assert len(after) < len(before) / 2


def test_a_page_draws_the_first_molecules_and_tables_list_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mols = from_smiles(["CCO", "CC", "CCN"], "one_hot")
    explanations = explain(mols, "integrated_gradients")
    monkeypatch.setattr(report, "ON_THE_PAGE", 2)
    report.write_molecules(tmp_path, mols, explanations, title="molecules")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.count("<article>") == 2
    assert f"{len(mols)} molecules, explained by integrated_gradients. The page shows the first 2" in text
    assert len((tmp_path / "molecules.csv").read_text(encoding="utf-8").splitlines()) == len(mols) + 1
