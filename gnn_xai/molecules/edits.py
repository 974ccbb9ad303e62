"""Single edits of a molecule, and the limits that an edited molecule has to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from gnn_xai.errors import InputError
from gnn_xai.molecules.fragments import scaffold_atoms
from gnn_xai.molecules.smiles import as_mol, chem

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SUBSTITUENTS: tuple[tuple[str, str], ...] = (
    ("methyl", "C"),
    ("hydroxyl", "O"),
    ("amino", "N"),
    ("fluoro", "F"),
    ("chloro", "Cl"),
    ("bromo", "Br"),
    ("iodo", "I"),
    ("thiol", "S"),
    ("methoxy", "OC"),
    ("cyano", "C#N"),
    ("formyl", "C=O"),
    ("nitroso", "N=O"),
    ("nitro", "[N+](=O)[O-]"),
    ("carboxyl", "C(=O)O"),
    ("carboxamide", "C(=O)N"),
    ("acetyl", "C(=O)C"),
    ("dimethylamino", "N(C)C"),
    ("trifluoromethyl", "C(F)(F)F"),
    ("methylsulfonyl", "S(=O)(=O)C"),
    ("sulfonamide", "S(=O)(=O)N"),
    ("methyl ester", "C(=O)OC"),
    ("acetamido", "NC(=O)C"),
    ("phenyl", "c1ccccc1"),
)
"""Groups that replace one another and hydrogen; the first atom of the SMILES is the one that is bonded."""

ELEMENTS = {"C": (6, 4), "N": (7, 3), "O": (8, 2), "S": (16, 2), "F": (9, 1), "Cl": (17, 1), "Br": (35, 1)}
"""What an atom can become: atomic number and valence by symbol."""

UNSTABLE: tuple[tuple[str, str], ...] = (
    ("halogen on nitrogen, oxygen or sulfur", "[#7,#8,#16]-[F,Cl,Br,I]"),
    ("peroxide", "[#8]-[#8]"),
    ("N-oxide of an amine", "[N+;!$([N+]=O)]-[O-]"),
    ("chain of nitrogens", "[#7]-!:[#7]"),
    ("oxygen on nitrogen", "[#7]-!:[#8;!-]"),
    ("sulfur on nitrogen, oxygen or sulfur", "[SX2]-!:[#7,#8,SX2]"),
    ("hemiaminal", "[#7X3]-!:[CX4]-[#8X2]"),
    ("aminal", "[#7X3]-!:[CX4]-[#7X3]"),
    ("hemiacetal", "[OX2H]-[CX4]-[#8X2,SX2]"),
    ("thiohemiacetal", "[SX2H]-[CX4]-[#7X3,#8X2,SX2]"),
    ("halogen beside a heteroatom", "[#7X3,#8X2,SX2]-[CX4;!$(C(F)(F)F)]-[F,Cl,Br,I]"),
    ("halide of an acid", "[CX3](=[O,S,N])-[F,Cl,Br,I]"),
    ("carbamic or carbonic acid", "[#7,#8,#16]-[CX3](=O)-[OX2H]"),
    ("enol", "[CX3;!a]=[CX3;!a]-[OX2H,SX2H]"),
    ("enamine with hydrogen", "[CX3;!a]=[CX3;!a]-[NX3;H1,H2]"),
    ("imine with hydrogen", "[#6][CX3]([#6,#1])=[NX2H]"),
    ("thioketone", "[#6][CX3](=[SX1])[#6,#1]"),
    ("cyanate", "[#8,SX2]-C#N"),
    ("small ring with an inner double bond", "[r3,r4]=[r3,r4]"),
    ("neighbouring double bonds", "[#6]=[#6X2]=[*]"),
)
"""What an edit must not make, with SMARTS: bonds that RDKit allows and water or air does not. What the input has, stays."""

ORIGIN, CHANGED = "_gnn_xai_origin", "_gnn_xai_changed"

Edit = tuple[str, Callable[[], Any]]


@dataclass(frozen=True)
class Limits:
    """Counts that an edited molecule must not exceed, and the charge that it must have: those of the input molecule."""

    charge: int
    radicals: int
    parts: int
    unstable: tuple[int, ...]

    @classmethod
    def of(cls, mol: Mol) -> Limits:
        """The limits that a molecule sets."""
        Chem = chem()
        return cls(
            Chem.GetFormalCharge(mol),
            sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()),
            len(Chem.GetMolFrags(mol)),
            tuple(len(mol.GetSubstructMatches(pattern)) for pattern in _unstable()),
        )

    def hold(self, mol: Mol) -> bool:
        """Whether an edited molecule keeps them."""
        Chem = chem()
        return (
            Chem.GetFormalCharge(mol) == self.charge
            and sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()) <= self.radicals
            and len(Chem.GetMolFrags(mol)) <= self.parts
            and all(
                len(mol.GetSubstructMatches(pattern)) <= most if most else not mol.HasSubstructMatch(pattern)
                for pattern, most in zip(_unstable(), self.unstable, strict=True)
            )
        )


@cache
def _unstable() -> tuple[Any, ...]:
    return tuple(chem().MolFromSmarts(smarts) for _, smarts in UNSTABLE)


@dataclass(frozen=True)
class Core:
    """The part of the input molecule that edits leave as it is.

    Attributes:
        atoms: numbers in the input, with element and charge.
        bonds: between them.
        aromatic: atoms of the input that stay aromatic as long as they are there: rings that are not opened.
    """

    atoms: frozenset[tuple[int, int, int]]
    bonds: frozenset[frozenset[int]]
    aromatic: frozenset[int]

    @classmethod
    def of(cls, mol: Mol, keep: str | None, open_rings: bool) -> Core:
        """What stays of a molecule: every match of a SMARTS, or its Murcko scaffold (`"scaffold"`).

        Raises:
            InputError: RDKit cannot read the SMARTS, or the molecule does not hold it.
        """
        kept = set() if keep is None else _matches(mol, keep)
        return cls(
            frozenset(_identity(mol.GetAtomWithIdx(index), index) for index in kept),
            frozenset(
                frozenset(ends)
                for bond in mol.GetBonds()
                if kept.issuperset(ends := (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            ),
            frozenset(() if open_rings else (atom.GetIdx() for atom in mol.GetAtoms() if atom.GetIsAromatic())),
        )

    def is_in(self, mol: Mol) -> bool:
        """Whether an edited molecule, whose atoms know their numbers in the input, still has it."""
        origin = {atom.GetIdx(): atom.GetIntProp(ORIGIN) for atom in mol.GetAtoms() if atom.HasProp(ORIGIN)}
        if any(number in self.aromatic and not mol.GetAtomWithIdx(i).GetIsAromatic() for i, number in origin.items()):
            return False
        if not self.atoms:
            return True
        bonds = {
            frozenset((origin.get(bond.GetBeginAtomIdx(), -1), origin.get(bond.GetEndAtomIdx(), -1)))
            for bond in mol.GetBonds()
        }
        return self.bonds <= bonds and self.atoms <= {_identity(mol.GetAtomWithIdx(i), n) for i, n in origin.items()}


def _identity(atom: Any, number: int) -> tuple[int, int, int]:
    return number, atom.GetAtomicNum(), atom.GetFormalCharge()


def _matches(mol: Mol, keep: str) -> set[int]:
    """The atoms of a molecule that match SMARTS or make its scaffold."""
    if keep == "scaffold":
        return scaffold_atoms(mol)
    pattern = chem().MolFromSmarts(keep) if isinstance(keep, str) else None
    if pattern is None:
        raise InputError(f"expected keep as SMARTS or 'scaffold', got {keep!r}")
    found = {index for match in mol.GetSubstructMatches(pattern) for index in match}
    if not found:
        raise InputError(f"expected keep as SMARTS of something in {chem().MolToSmiles(mol)}, got {keep!r}")
    return found


def single_edits(mol: Mol) -> Iterator[Edit]:
    """Every single edit of a molecule, in words, and what makes it."""
    Chem = chem()
    base = Chem.Mol(mol)
    Chem.Kekulize(base, clearAromaticFlags=True)
    for atom in base.GetAtoms():
        index = atom.GetIdx()
        yield f"remove {label_of(atom)}", lambda index=index: _without_atoms(base, {index})
        if atom.GetFormalCharge() or atom.GetNumRadicalElectrons():
            continue
        bonds = sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds())
        for symbol, (number, valence) in ELEMENTS.items():
            if atom.GetAtomicNum() != number and bonds <= valence:
                words = f"{label_of(atom)} becomes {symbol}"
                yield words, lambda index=index, number=number: _with_element(base, index, number)
        if atom.GetTotalNumHs():
            for name, _ in SUBSTITUENTS:
                words = f"hydrogen at {label_of(atom)} becomes {name}"
                yield words, lambda index=index, name=name: _with_group(base, index, set(), name)
    for bond in base.GetBonds():
        u, v = bond.GetBeginAtom(), bond.GetEndAtom()
        if bond.IsInRing():
            number = bond.GetIdx()
            yield f"break bond {label_of(u)}–{label_of(v)}", lambda number=number: _without_bond(base, number)
        elif bond.GetBondTypeAsDouble() == 1:
            for stem, root in ((u, v), (v, u)):
                yield from _replacements(base, stem, root)


def _replacements(base: Mol, stem: Any, root: Any) -> Iterator[Edit]:
    """The group at `root` replaced by others, or by hydrogen, if it is one of `SUBSTITUENTS`."""
    side, stack = {root.GetIdx()}, [root.GetIdx()]
    while stack:
        for neighbor in base.GetAtomWithIdx(stack.pop()).GetNeighbors():
            index = neighbor.GetIdx()
            if index != stem.GetIdx() and index not in side:
                side.add(index)
                stack.append(index)
        if len(side) > max(len(group.GetAtoms()) for group, _ in _groups().values()):
            return
    name = _names().get(_marked(base, side, root.GetIdx()))
    if name is None:
        return
    at = stem.GetIdx()
    if len(side) > 1:  # else that is the removal of an atom
        yield f"remove {name} at {label_of(stem)}", lambda: _without_atoms(base, side)
    for other, _ in SUBSTITUENTS:
        if other != name:
            yield (
                f"{name} at {label_of(stem)} becomes {other}",
                lambda other=other: _with_group(base, at, side, other),
            )


def group_name(mol: Mol, atoms: set[int]) -> str | None:
    """The name of a group, if it is one of `SUBSTITUENTS` and bonded on as such."""
    bonded = [
        index
        for index in atoms
        for neighbor in mol.GetAtomWithIdx(index).GetNeighbors()
        if neighbor.GetIdx() not in atoms
    ]
    if len(bonded) != 1:
        return None
    base = chem().Mol(mol)
    chem().Kekulize(base, clearAromaticFlags=True)
    return _names().get(_marked(base, atoms, bonded[0]))


def label_of(atom: Any) -> str:
    """Symbol and number in the input molecule."""
    return f"{atom.GetSymbol()}{atom.GetIntProp(ORIGIN)}" if atom.HasProp(ORIGIN) else f"new {atom.GetSymbol()}"


def _freed(atom: Any) -> None:
    """Let hydrogens fill the valence of an atom that an edit touches; its stereo is left open."""
    atom.SetNoImplicit(False)
    atom.SetNumExplicitHs(0)
    atom.SetChiralTag(chem().ChiralType.CHI_UNSPECIFIED)
    atom.SetIntProp(CHANGED, 1)


def _without_atoms(base: Mol, gone: set[int]) -> Any:
    out = chem().RWMol(base)
    out.BeginBatchEdit()
    for index in gone:
        for neighbor in out.GetAtomWithIdx(index).GetNeighbors():
            _freed(neighbor)
        out.RemoveAtom(index)
    out.CommitBatchEdit()
    return out


def _without_bond(base: Mol, number: int) -> Any:
    out = chem().RWMol(base)
    bond = out.GetBondWithIdx(number)
    ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    out.RemoveBond(*ends)
    for index in ends:
        _freed(out.GetAtomWithIdx(index))
    return out


def _with_element(base: Mol, index: int, number: int) -> Any:
    out = chem().RWMol(base)
    atom = out.GetAtomWithIdx(index)
    atom.SetAtomicNum(number)
    atom.SetIsotope(0)
    _freed(atom)
    return out


def _with_group(base: Mol, stem: int, gone: set[int], name: str) -> Any:
    Chem = chem()
    group, _ = _groups()[name]
    out = Chem.RWMol(Chem.CombineMols(base, group))
    out.AddBond(stem, base.GetNumAtoms(), Chem.BondType.SINGLE)
    _freed(out.GetAtomWithIdx(stem))
    out.BeginBatchEdit()
    for index in gone:
        out.RemoveAtom(index)
    out.CommitBatchEdit()
    return out


@cache
def _groups() -> dict[str, tuple[Any, str]]:
    """The molecule and the text (see `_marked`) of each of `SUBSTITUENTS`."""
    Chem = chem()
    groups = {}
    for name, smiles in SUBSTITUENTS:
        mol = as_mol(smiles)
        Chem.Kekulize(mol, clearAromaticFlags=True)
        for atom in mol.GetAtoms():
            atom.SetIntProp(CHANGED, 1)
            atom.SetNoImplicit(False)
            atom.SetNumRadicalElectrons(0)  # the place for the bond
        groups[name] = mol, _marked(mol, set(range(mol.GetNumAtoms())), 0)
    return groups


@cache
def _names() -> dict[str, str]:
    return {text: name for name, (_, text) in _groups().items()}


def _marked(mol: Mol, atoms: set[int], root: int) -> str:
    """A group as text, in which the atom that is bonded on is marked; without stereo and hydrogens."""
    symbols = [
        f"[{atom.GetSymbol()}{atom.GetFormalCharge():+d}{'*' * (atom.GetIdx() == root)}]" for atom in mol.GetAtoms()
    ]
    return chem().MolFragmentToSmiles(mol, sorted(atoms), atomSymbols=symbols, isomericSmiles=False)
