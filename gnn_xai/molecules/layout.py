"""Coordinates of structural formulas, and the size of their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from gnn_xai.molecules.smiles import as_mol

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MACROCYCLE = 9  # atoms of a ring


def laid_out(mol: Mol, numbers: bool = False) -> Mol:
    """A copy with coordinates, Kekulé bonds and wedges; atoms keep their indices."""
    from rdkit import Chem
    from rdkit.Chem import rdCoordGen, rdDepictor
    from rdkit.Chem.Draw.rdMolDraw2D import PrepareMolForDrawing
    from rdkit.rdBase import BlockLogs

    mol = Chem.Mol(mol)
    for atom in mol.GetAtoms():
        number = atom.GetIdx() if numbers else atom.GetAtomMapNum()
        if number or numbers:
            atom.SetProp("atomNote", str(number))
        atom.SetAtomMapNum(0)
    with BlockLogs():
        if max(map(len, mol.GetRingInfo().AtomRings()), default=0) < MACROCYCLE:
            rdDepictor.Compute2DCoords(mol)
        else:
            with suppress(RuntimeError, ValueError):  # of molecules that CoordGen cannot lay out
                rdCoordGen.AddCoords(mol)  # draws them as chemists do; the other, as circles
        if not mol.GetNumConformers():
            rdDepictor.Compute2DCoords(mol)
        rdDepictor.StraightenDepiction(mol)
        return PrepareMolForDrawing(mol, addChiralHs=False)


def aligned(mol: Mol, like: Mol, places: Mapping[int, int], notes: Mapping[int, str] | None = None) -> Mol:
    """A copy of a molecule with coordinates, in which some atoms are where they are in another.

    Args:
        mol: the molecule.
        like: another one, as `laid_out` returns it.
        places: atoms of the one, with those of the other in whose places they are.
        notes: numbers or words beside atoms.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw.rdMolDraw2D import PrepareMolForDrawing
    from rdkit.rdBase import BlockLogs

    mol = Chem.Mol(mol)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
        atom.ClearProp("atomNote")
        if notes and atom.GetIdx() in notes:
            atom.SetProp("atomNote", notes[atom.GetIdx()])
    with BlockLogs():
        rdDepictor.GenerateDepictionMatching2DStructure(mol, like, [(j, i) for i, j in places.items()])
        return PrepareMolForDrawing(mol, addChiralHs=False)


def depiction(smiles: str) -> np.ndarray:
    """Coordinates of a molecule's structural formula, for `gnn_xai.viz.draw(..., layout=depiction(smiles))`.

    Args:
        smiles: the molecule; atoms keep the order in which RDKit reads them.

    Returns:
        float [number of heavy atoms, 2], about one unit a bond.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: RDKit cannot read the SMILES.
    """
    return laid_out(as_mol(smiles)).GetConformer().GetPositions()[:, :2] / 1.5


def size_of(mol: Mol, bond: float, smallest: tuple[int, int], largest: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels that give a molecule bonds of a length."""
    positions = mol.GetConformer().GetPositions()[:, :2]
    extent = (np.ptp(positions, axis=0) / 1.5 + (3.0, 2.6)) * bond  # with room for labels at the rim
    width, height = np.clip(np.ceil(extent), smallest, largest).astype(int)
    return int(width), int(height)
