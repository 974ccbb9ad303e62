"""Random changes of the SELFIES of a molecule, as STONED makes them, by which atoms keep their numbers.

STONED (Nigam et al., Chemical Science 2021) changes symbols of SELFIES (Krenn et al., Machine Learning: Science and
Technology 2020), a notation in which every string is a molecule. It reaches what edits of single atoms do not: another ring
size, a chain that becomes a branch, a ring in the place of a chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gnn_xai.molecules.edits import CHANGED, ORIGIN, Edit, label_of
from gnn_xai.molecules.records import order_written
from gnn_xai.molecules.smiles import chem
from gnn_xai.optional import need

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SYMBOLS = (
    *("[C]", "[=C]", "[#C]", "[N]", "[=N]", "[#N]", "[O]", "[=O]", "[S]", "[F]", "[Cl]", "[Br]"),
    *("[Branch1]", "[=Branch1]", "[Branch2]", "[Ring1]", "[=Ring1]", "[Ring2]"),
)
"""What a mutation writes: the elements that edits use, branches and rings."""


def selfies() -> ModuleType:
    """The package that reads and writes SELFIES.

    Raises:
        GnnXaiError: it is not installed.
    """
    return need("selfies", "mutations", "mutations")


def has_selfies(mol: Mol) -> bool:
    """Whether a molecule can be written as SELFIES, which know no `*`, no dative bonds and few high valences."""
    return _written(mol, Random(0)) is not None


def mutated(mol: Mol, count: int, seed: int) -> Iterator[Edit]:
    """Mutations of a molecule, in words, and what makes them: one symbol of its SELFIES is replaced, added or taken out.

    Every mutation starts from SELFIES in another order of atoms. Atoms keep their numbers in the input where their symbol is
    kept; those whose neighbours changed are marked, and their stereo is left open. Mutations that lose more than half of the
    atoms, as SELFIES whose first symbols end the molecule do, make none.

    Args:
        mol: the molecule, whose atoms know their numbers in the input.
        count: how many; some make the same molecule, or none that is new.
        seed: with the SMILES of the molecule it decides which.
    """
    name = chem().MolToSmiles(mol)
    for number in range(count):
        random = Random(f"{seed} {number} {name}")
        written = _written(mol, random)
        if written is None:
            return
        symbols, atoms = written
        at, kind = random.randrange(len(symbols)), random.choice(("replace", "insert", "delete"))
        old, where = symbols[at], _where(mol, atoms, at)
        new = random.choice([symbol for symbol in SYMBOLS if symbol != old])
        origin = [atoms.get(place) for place in range(len(symbols))]
        if kind == "replace":
            symbols[at], origin[at] = new, None
            words = f"{old} {where} becomes {new}"
        elif kind == "insert":
            symbols.insert(at + 1, new)
            origin.insert(at + 1, None)
            words = f"{new} added {where}"
        else:
            del symbols[at], origin[at]
            words = f"{old} removed {where}"
        yield f"SELFIES: {words}", lambda symbols=symbols, origin=origin: _read(mol, symbols, origin)


def _written(mol: Mol, random: Random) -> tuple[list[str], dict[int, int]] | None:
    """SELFIES of a molecule in some order of its atoms, and the atom that each of its symbols stands for; `None` if it has
    none.
    """
    Chem = chem()
    order = list(range(mol.GetNumAtoms()))
    random.shuffle(order)
    shuffled = Chem.RenumberAtoms(Chem.Mol(mol), order)
    Chem.Kekulize(shuffled, clearAromaticFlags=True)
    smiles = Chem.MolToSmiles(shuffled, canonical=False)
    written = order_written(shuffled)
    try:
        symbols = list(selfies().split_selfies(selfies().encoder(smiles)))
    except selfies().EncoderError:
        return None
    places = _decoded(symbols)[1]
    if len(places) != len(written):
        return None
    return symbols, {place: order[index] for place, index in zip(places, written, strict=True)}


def _decoded(symbols: list[str]) -> tuple[str, list[int]]:
    """The SMILES of SELFIES, and the place of the symbol of each of its atoms."""
    smiles, parts = selfies().decoder("".join(symbols), attribute=True)
    atoms = [part for part in parts if part.token[0] == "[" or part.token[0].isalpha()]
    return smiles, [part.attribution[-1].index for part in atoms]


def _read(mol: Mol, symbols: list[str], origin: list[int | None]) -> Any:
    """The molecule of mutated SELFIES; without atoms where it is none to go on with, see `mutated`.

    Args:
        mol: the molecule that was mutated.
        symbols: the SELFIES.
        origin: the atom of it that each symbol stands for, if any.
    """
    Chem = chem()
    smiles, places = _decoded(symbols)
    out = Chem.MolFromSmiles(smiles)
    kept = sum(origin[place] is not None for place in places)
    if out is None or out.GetNumAtoms() != len(places) or 2 * kept < mol.GetNumAtoms():
        return Chem.RWMol()
    old = [origin[place] for place in places]
    for atom in out.GetAtoms():
        number = old[atom.GetIdx()]
        before: Any = None if number is None else mol.GetAtomWithIdx(number)
        if before is not None and before.GetAtomicNum() != atom.GetAtomicNum():
            before = None
        if before is not None and before.HasProp(ORIGIN):
            atom.SetIntProp(ORIGIN, before.GetIntProp(ORIGIN))
        bonded = {(old[n.GetIdx()], n.GetAtomicNum()) for n in atom.GetNeighbors()}
        if before is None or bonded != {(n.GetIdx(), n.GetAtomicNum()) for n in before.GetNeighbors()}:
            atom.SetIntProp(CHANGED, 1)
            atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
        elif before.HasProp(CHANGED):
            atom.SetIntProp(CHANGED, 1)
    return Chem.RWMol(out)


def _where(mol: Mol, atoms: dict[int, int], at: int) -> str:
    """Where a symbol stands: at an atom, or after the last before it."""
    last = max((place for place in atoms if place <= at), default=None)
    if last is None:
        return "at the start"
    return f"{'at' if last == at else 'after'} {label_of(mol.GetAtomWithIdx(atoms[last]))}"
