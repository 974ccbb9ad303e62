"""Records of files, and molecules whose atoms are renumbered as their SMILES names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from rdkit.Chem import Mol

NUMBER = "_gnn_xai_number"
COORDINATES_SEED = 0xC0FFEE


class Record(NamedTuple):
    """A line of a file, a row of a table or a molecule of an SDF.

    Attributes:
        line: its number, from 1.
        smiles: what stands there for a molecule.
        name: of the molecule, `""` for none.
        properties: the rest of the row.
        mol: the molecule where the file holds one; atoms are numbered as `smiles` names them.
        file_atom: the number of each of its atoms in the file, from 0.
        problem: why there is none.
    """

    line: int
    smiles: object
    name: str = ""
    properties: Mapping[str, Any] = MappingProxyType({})
    mol: Mol | None = None
    file_atom: Sequence[int] | None = None
    problem: str = ""


def from_block(line: int, block: str, mol: Mol | None, hydrogens: bool = False) -> Record:
    """A molecule of an SDF.

    Args:
        line: its number in the file.
        block: its text.
        mol: what RDKit made of it.
        hydrogens: the molecule has its hydrogens as atoms, and keeps them.
    """
    from rdkit import Chem

    title = block.partition("\n")[0].strip()
    if mol is None or not mol.GetNumAtoms():
        raw = Chem.MolFromMolBlock(block, sanitize=False)
        problems = [] if raw is None else [problem.Message() for problem in Chem.DetectChemistryProblems(raw)]
        reason = "; ".join(problems) or ("this is no molfile" if raw is None else "it has no atoms")
        return Record(line, title, title, problem=reason)
    properties = {name: mol.GetProp(name) for name in mol.GetPropNames()}
    smiles, again, order = with_hydrogens(mol) if hydrogens else renumbered(mol)
    return Record(line, smiles, title, properties, again, order)


def renumbered(mol: Mol) -> tuple[str, Mol, list[int]]:
    """Canonical SMILES of a molecule, the molecule that RDKit reads from them with the coordinates of the first, and the
    number that each of its atoms has in the first.
    """
    from rdkit import Chem

    smiles = Chem.MolToSmiles(mol)
    order = order_written(mol)
    again = Chem.MolFromSmiles(smiles)
    if again is None or again.GetNumAtoms() != len(order):  # RDKit writes a few radicals and metals that it cannot read
        return smiles, Chem.RenumberAtoms(mol, order), order
    for conformer in Chem.RenumberAtoms(mol, order).GetConformers():
        again.AddConformer(conformer)
    return smiles, again, order


def order_written(mol: Mol) -> list[int]:
    """The atoms of a molecule in the order of the SMILES that RDKit wrote of it last."""
    return list(mol.GetPropsAsDict(includePrivate=True, includeComputed=True)["_smilesAtomOutputOrder"])


def numbered(mol: Mol) -> Mol:
    """A copy whose atoms know their indices, as their property `NUMBER`, when others are removed."""
    from rdkit import Chem

    copy = Chem.Mol(mol)
    for atom in copy.GetAtoms():
        atom.SetIntProp(NUMBER, atom.GetIdx())
    return copy


def with_hydrogens(mol: Mol) -> tuple[str, Mol, list[int]]:
    """As `renumbered`, with all hydrogens as atoms after the others, as `Chem.AddHs` orders them.

    Hydrogens that the molecule lacks have numbers after its last, and coordinates by RDKit.
    """
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        heavy = Chem.RemoveHs(numbered(mol))
    smiles, again, order = renumbered(heavy)
    numbers = [heavy.GetAtomWithIdx(index).GetIntProp(NUMBER) for index in order]
    own: dict[int, list[int]] = {}
    for hydrogen in sorted(set(range(mol.GetNumAtoms())) - set(numbers)):
        own.setdefault(mol.GetAtomWithIdx(hydrogen).GetNeighbors()[0].GetIdx(), []).append(hydrogen)
    full = Chem.AddHs(again, addCoords=again.GetNumConformers() > 0)
    for index in range(len(numbers), full.GetNumAtoms()):
        (parent,) = full.GetAtomWithIdx(index).GetNeighbors()
        waiting = own.get(numbers[parent.GetIdx()])
        numbers.append(waiting.pop(0) if waiting else max(mol.GetNumAtoms() - 1, *numbers) + 1)
        if numbers[-1] < mol.GetNumAtoms():
            for conformer, stored in zip(full.GetConformers(), mol.GetConformers(), strict=True):
                conformer.SetAtomPosition(index, stored.GetAtomPosition(numbers[-1]))
    return smiles, full, numbers


def is_in_space(mol: Mol | None) -> bool:
    """Whether a molecule has coordinates that are no drawing."""
    return mol is not None and any(conformer.Is3D() for conformer in mol.GetConformers())


def standardized(mol: Mol, strip_salts: bool, neutralize: bool) -> tuple[Mol, list[int], list[str]]:
    """A molecule without its salt and without charges, by RDKit's `rdMolStandardize`; the number that each of its atoms had
    before; and what was done, in words.

    Args:
        mol: the molecule.
        strip_salts: keep its largest part, an organic one if any is.
        neutralize: add and remove protons until no charge is left that they can remove.
    """
    from rdkit import Chem
    from rdkit.Chem.MolStandardize import rdMolStandardize
    from rdkit.rdBase import BlockLogs

    notes = []
    mol = numbered(mol)
    with BlockLogs():
        if strip_salts and len(Chem.GetMolFrags(mol)) > 1:
            options = rdMolStandardize.CleanupParameters()
            options.preferOrganic = True
            kept = rdMolStandardize.LargestFragmentChooser(options).choose(mol)
            if kept.GetNumAtoms() < mol.GetNumAtoms():
                rest = list(map(Chem.MolToSmiles, Chem.GetMolFrags(mol, asMols=True)))
                rest.remove(Chem.MolToSmiles(kept))
                notes.append(f"without {'.'.join(rest)}")
                mol = kept
        if neutralize:
            neutral = rdMolStandardize.Uncharger().uncharge(mol)
            if Chem.MolToSmiles(neutral) != Chem.MolToSmiles(mol):
                notes.append("charges neutralised")
                mol = neutral
    return mol, [atom.GetIntProp(NUMBER) for atom in mol.GetAtoms()], notes


def placed(mol: Mol, graph: Any) -> bool:
    """Give a molecule the coordinates that its graph has; whether it has any."""
    pos = graph.get("pos")
    if pos is None or pos.shape != (mol.GetNumAtoms(), 3):
        return False
    _place(mol, pos.detach().cpu().double().numpy(), in_space=bool(pos[:, 2].any()))
    return True


def placed_in_space(mol: Mol, graph: Any) -> Mol:
    """The molecule with the coordinates that its graph has, else as `in_space`."""
    return mol if placed(mol, graph) else in_space(mol)


def in_space(mol: Mol) -> Mol:
    """A copy of the molecule in space (ETKDG, always the same), or in the plane where RDKit finds no place for its atoms."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom
    from rdkit.Chem.rdDepictor import Compute2DCoords
    from rdkit.rdBase import BlockLogs

    out = Chem.Mol(mol)
    with BlockLogs():
        full = Chem.AddHs(mol)
        if rdDistGeom.EmbedMolecule(full, randomSeed=COORDINATES_SEED) == 0:
            _place(out, full.GetConformer().GetPositions()[: mol.GetNumAtoms()].copy(), in_space=True)
        else:
            Compute2DCoords(out)
    return out


def _place(mol: Mol, positions: np.ndarray, in_space: bool) -> None:
    """Give a molecule coordinates `[atoms, 3]`, in the place of any that it has."""
    from rdkit.Chem import Conformer

    conformer = Conformer(mol.GetNumAtoms())
    conformer.SetPositions(positions)
    conformer.Set3D(in_space)
    mol.RemoveAllConformers()
    mol.AddConformer(conformer, assignId=True)
