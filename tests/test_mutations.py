"""Mutations of SELFIES as counterfactuals: which atom is which, and that they keep what edits keep."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import torch

import gnn_xai as gx
from gnn_xai.errors import GnnXaiError, GnnXaiWarning
from gnn_xai.molecules.smiles import as_mol

pytest.importorskip("rdkit")

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def numbered(smiles: str) -> Any:
    from gnn_xai.molecules.edits import ORIGIN

    mol = as_mol(smiles)
    for atom in mol.GetAtoms():
        atom.SetIntProp(ORIGIN, atom.GetIdx())
    return mol


def test_without_selfies_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "selfies", None)
    logp = gx.datasets.load("nci_logp")
    with pytest.raises(GnnXaiError, match=r"mutations need selfies, .* run 'pip install gnn-xai\[mutations\]'"):
        gx.molecules.counterfactuals(logp.model, ASPIRIN, task=logp.task, change=-1.0, mutations=5)


@pytest.mark.parametrize("mutations", [-1, True, 2.0])
def test_a_wrong_number_of_mutations_is_refused(mutations: Any) -> None:
    logp = gx.datasets.load("nci_logp")
    with pytest.raises(gx.errors.InputError, match="expected mutations as an integer from 0 on, got"):
        gx.molecules.counterfactuals(logp.model, ASPIRIN, task=logp.task, change=-1.0, mutations=mutations)


@pytest.mark.parametrize("smiles", [ASPIRIN, "C[C@H](N)C(=O)[O-]", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C"])
def test_atoms_keep_their_numbers_and_changed_ones_are_marked(smiles: str) -> None:
    pytest.importorskip("selfies")
    from gnn_xai.molecules.edits import CHANGED, ORIGIN
    from gnn_xai.molecules.mutations import mutated

    mol = numbered(smiles)
    mol.GetAtomWithIdx(0).SetIntProp(CHANGED, 1)  # by an edit before
    made = [(words, make()) for words, make in mutated(mol, 40, 0)]
    assert [words for words, _ in made] == [words for words, _ in mutated(mol, 40, 0)]
    assert [words for words, _ in made] != [words for words, _ in mutated(mol, 40, 1)]
    whole = [(words, out) for words, out in made if out.GetNumAtoms()]
    assert len(whole) > 12
    for words, out in whole:
        assert words.startswith("SELFIES: ")
        origin = {a.GetIdx(): a.GetIntProp(ORIGIN) for a in out.GetAtoms() if a.HasProp(ORIGIN)}
        assert len(set(origin.values())) == len(origin) >= mol.GetNumAtoms() / 2 - 1
        symbol = re.fullmatch(r"SELFIES: \S+ at [A-Za-z]+(\d+) (becomes \S+|removed)", words)
        assert symbol is None or int(symbol[1]) not in origin.values(), "the atom of a changed symbol is a new one"
        for index, number in origin.items():
            atom, before = out.GetAtomWithIdx(index), mol.GetAtomWithIdx(number)
            assert atom.GetSymbol() == before.GetSymbol()
            now = {origin.get(neighbor.GetIdx()) for neighbor in atom.GetNeighbors()}
            assert number or atom.HasProp(CHANGED)
            if not atom.HasProp(CHANGED):
                assert now == {neighbor.GetIdx() for neighbor in before.GetNeighbors()}
            else:
                assert not int(atom.GetChiralTag())


def test_counterfactuals_by_mutation_are_verified_and_keep_what_edits_keep() -> None:
    pytest.importorskip("selfies")
    from gnn_xai.molecules.edits import ORIGIN, Limits

    logp = gx.datasets.load("nci_logp")
    wishes: dict[str, Any] = {"task": logp.task, "change": 0.3, "max_edits": 1, "limit": 1000}
    phenol = "OC1CCCCC1c1ccccc1"
    plain = gx.molecules.counterfactuals(logp.model, phenol, **wishes)
    both = gx.molecules.counterfactuals(logp.model, phenol, mutations=400, **wishes)
    own = [item for item in both if item.edits[0].startswith("SELFIES")]
    assert {item.smiles for item in plain} | {item.smiles for item in own} == {item.smiles for item in both}
    mols = [as_mol(item.smiles) for item in own]
    rings = {len(ring) for mol in mols for ring in mol.GetRingInfo().AtomRings()}
    assert len(own) > 5
    assert rings - {6}, "no edit changes the size of a ring"
    limits = Limits.of(as_mol(phenol))
    graphs = gx.molecules.from_smiles([item.smiles for item in own], "one_hot")
    again = gx.explain(logp.model, graphs, gx.NodeAblation(), task=logp.task, progress=False).prediction[:, 0]
    torch.testing.assert_close(again, torch.tensor([item.value for item in own]), atol=1e-4, rtol=0)
    for item in own:
        assert item.value >= both.value + 0.3
        assert limits.hold(as_mol(item.smiles))
        kept = [atom for atom in item.mol.GetAtoms() if atom.HasProp(ORIGIN) and atom.GetIntProp(ORIGIN) > 6]
        assert all(atom.GetIsAromatic() for atom in kept), "an aromatic ring was opened"
    both.draw()


def test_a_molecule_without_selfies_is_edited_without_mutations() -> None:
    pytest.importorskip("selfies")
    from gnn_xai.molecules.mutations import has_selfies

    assert not has_selfies(as_mol("CC*"))
    assert has_selfies(as_mol("CCO"))
    logp = gx.datasets.load("nci_logp")
    with pytest.warns(GnnXaiWarning, match=r"CC\* has no SELFIES, so it is edited without mutations"):
        gx.molecules.counterfactuals(logp.model, "CC*", task=logp.task, change=0.1, max_edits=1, mutations=3)
