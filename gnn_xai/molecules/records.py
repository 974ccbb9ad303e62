"""Records of files, and molecules whose atoms are renumbered as their SMILES names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rdkit.Chem import Mol


NUMBER = "_gnn_xai_number"


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


def from_block(line: int, block: str, mol: Mol | None) -> Record:
    """A molecule of an SDF.

    Args:
        line: its number in the file.
        block: its text.
        mol: what RDKit made of it.
    """
    from rdkit import Chem

    title = block.partition("\n")[0].strip()
    if mol is None or not mol.GetNumAtoms():
        raw = Chem.MolFromMolBlock(block, sanitize=False)
        problems = [] if raw is None else [each.Message() for each in Chem.DetectChemistryProblems(raw)]
        reason = "; ".join(problems) or ("this is no molfile" if raw is None else "it has no atoms")
        return Record(line, title, title, problem=reason)
    smiles, again, order = renumbered(mol)
    properties = {name: mol.GetProp(name) for name in mol.GetPropNames()}
    return Record(line, smiles, title, properties, again, order)


def renumbered(mol: Mol) -> tuple[str, Mol, list[int]]:
    """Canonical SMILES of a molecule, the molecule that RDKit reads from them with the coordinates of the first, and the
    number that each of its atoms has in the first.
    """
    from rdkit import Chem

    smiles = Chem.MolToSmiles(mol)
    order = [int(index) for index in mol.GetProp("_smilesAtomOutputOrder").strip("[],").split(",")]
    again = Chem.MolFromSmiles(smiles)
    if again is None or again.GetNumAtoms() != len(order):  # RDKit writes a few radicals and metals that it cannot read
        return smiles, Chem.RenumberAtoms(mol, order), order
    for conformer in Chem.RenumberAtoms(mol, order).GetConformers():
        again.AddConformer(conformer)
    return smiles, again, order


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
    mol = Chem.Mol(mol)
    for atom in mol.GetAtoms():
        atom.SetIntProp(NUMBER, atom.GetIdx())
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
