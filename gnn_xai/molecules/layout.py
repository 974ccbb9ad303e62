"""Coordinates of structural formulas, and the size of their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gnn_xai.molecules.fragments import connected
from gnn_xai.molecules.smiles import as_mol

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MACROCYCLE = 9  # atoms of a ring
LONGEST_CHAIN = 50  # atoms in a line
LENGTH = 1.5  # of a bond in RDKit's coordinates


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
        _fold(mol)
        _set_apart(mol)
        return PrepareMolForDrawing(mol, addChiralHs=False)


def _set_apart(mol: Mol) -> None:
    """Put the parts of a salt or mixture side by side, so far apart that they do not look bonded."""
    from rdkit import Chem

    positions, right = _positions(mol), 0.0
    parts = Chem.GetMolFrags(mol)
    if len(parts) < 2:
        return
    for part in map(list, parts):
        low, high = positions[part].min(0), positions[part].max(0)
        positions[part] += (right - low[0], -(low[1] + high[1]) / 2)
        right += high[0] - low[0] + 2 * LENGTH
    _place(mol, positions)


def _fold(mol: Mol) -> None:
    """Bend a molecule that is one long chain, as lines of text: back and forth, each line above the one before. It stays as
    it is where lines would touch.
    """
    from rdkit import Chem

    if mol.GetNumAtoms() <= LONGEST_CHAIN or len(Chem.GetMolFrags(mol)) > 1:
        return
    distance = Chem.GetDistanceMatrix(mol)
    path = list(Chem.GetShortestPath(mol, *map(int, np.unravel_index(distance.argmax(), distance.shape))))
    if len(path) <= LONGEST_CHAIN:
        return
    single = [
        not bond.IsInRing() and bond.GetBondTypeAsDouble() == 1
        for bond in (mol.GetBondBetweenAtoms(u, v) for u, v in pairwise(path))
    ]
    positions, line = _positions(mol), round((8 * len(path)) ** 0.5)
    positions = positions @ _rotation(positions[path[-1]] - positions[path[0]])
    start, way = line, 1.0
    while start < len(path) - 8:
        step = np.diff(positions[path], axis=0)
        turns = way * (step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0])  # at atom i + 1 of the path
        if turns[start - 1] <= 0 or not all(single[start : start + 5]):
            start += 1
            continue
        for corner in (start + 1, start + 4, start + 5):
            _mirror(mol, positions, path[corner - 1], path[corner])
        start, way = start + 6 + line, -way
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    if gaps[distance > 1].min() > 0.7 * LENGTH:
        _place(mol, positions)


def _mirror(mol: Mol, positions: np.ndarray, before: int, corner: int) -> None:
    """Mirror what follows a bond at the line of the bond."""
    everything = set(range(mol.GetNumAtoms()))
    after = next(part for part in connected(mol, everything, [frozenset((before, corner))]) if corner in part)
    turn = _rotation(positions[corner] - positions[before])
    rest = sorted(after)
    positions[rest] = positions[corner] + (positions[rest] - positions[corner]) @ turn * (1, -1) @ turn.T


def _rotation(direction: np.ndarray) -> np.ndarray:
    """The matrix that turns row vectors of a direction to the right, `[2, 2]`."""
    x, y = direction / np.linalg.norm(direction)
    return np.array([[x, -y], [y, x]])


def _positions(mol: Mol) -> np.ndarray:
    return mol.GetConformer().GetPositions()[:, :2]


def _place(mol: Mol, positions: np.ndarray) -> None:
    mol.GetConformer().SetPositions(np.pad(positions, ((0, 0), (0, 1))))


def aligned(mol: Mol, like: Mol, places: Mapping[int, int], notes: Mapping[int, str] | None = None) -> Mol:
    """A copy of a molecule with coordinates, in which some atoms are where they are in another.

    Args:
        mol: the molecule.
        like: another one, as `laid_out` returns it.
        places: atoms of the one, with those of the other in whose places they are; possibly none.
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
        if places:
            rdDepictor.GenerateDepictionMatching2DStructure(mol, like, [(j, i) for i, j in places.items()])
        else:  # without any atom to match, RDKit ends the process
            rdDepictor.Compute2DCoords(mol)
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
    return _positions(laid_out(as_mol(smiles))) / LENGTH


def size_of(mol: Mol, bond: float, smallest: tuple[int, int], largest: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels that give a molecule bonds of a length."""
    extent = (np.ptp(_positions(mol), axis=0) / LENGTH + (3.0, 2.6)) * bond  # with room for labels at the rim
    width, height = np.clip(np.ceil(extent), smallest, largest).astype(int)
    return int(width), int(height)
