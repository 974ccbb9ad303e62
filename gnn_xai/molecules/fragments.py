"""Fragments of molecules that chemists have names for, and the attribution of each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnn_xai.errors import GnnXaiError, InputError, unknown
from gnn_xai.molecules import featurizers
from gnn_xai.molecules.ordering import nodes_as_atoms, other_nodes
from gnn_xai.molecules.records import NUMBER, numbered
from gnn_xai.molecules.smiles import as_mol, chem
from gnn_xai.molecules.tables import atom_scores, bond_ends, bond_scores, molecule, pandas
from gnn_xai.results.explanations import Explanation

if TYPE_CHECKING:
    import pandas as pd
    from rdkit.Chem import Mol

Kind = Literal["functional_groups", "rings", "brics", "scaffold", "parts", "atoms", "bonds"]
KINDS: tuple[Kind, ...] = ("functional_groups", "rings", "brics", "scaffold", "parts", "atoms", "bonds")

_ACID = "[OX2H,OX1-]"  # a hydroxyl of an acid, with or without its proton
_OXYGEN = "[OX2,OX1-]"  # one beside a phosphorus or sulfur, of an acid or an ester

GROUPS: tuple[tuple[str, str], ...] = (
    ("nitrate", "[OX2][$([NX3+](=O)[O-])]"),
    ("nitro", "fr_nitro"),
    ("nitrite", "[OX2,OX1-][NX2]=[OX1]"),
    ("nitrosamine", "[NX3][NX2]=[OX1]"),
    ("nitroxide", "[NX3;+0][O;X1;+0;v1]"),
    ("azide", "Azide"),
    ("azide", "[NX1-]=[NX2+]=[NX1-]"),
    ("dinitrogen", "[NX1]#[NX1]"),
    ("diazonium", "[#6][NX2+]#[NX1]"),
    ("diazo", "[#6]=[NX2+]=[NX1-]"),
    ("isonitrile", "[CX1-]#[NX2+]"),
    ("nitrile oxide", "[CX2]#[NX2+][OX1-]"),
    ("cyanide", "[CX1-]#[NX1]"),
    ("nitrone", "[#6]=[NX3+;!a][OX1-]"),
    ("azoxy", "[NX2]=[NX3+][OX1-]"),
    ("N-oxide", "[#7+][OX1-]"),
    ("acid chloride", "AcidChloride"),
    ("sulfonyl chloride", "SulfonylChloride"),
    ("boronic acid", "BoronicAcid"),
    ("isocyanate", "fr_isocyan"),
    ("isothiocyanate", "fr_isothiocyan"),
    ("thiocyanate", "fr_thiocyan"),
    ("cyanate", "[#6][OX2][CX2]#[NX1]"),
    ("trifluoromethyl", "[CX4;$(C(F)(F)F)](F)(F)F"),
    ("sulfamide", "[NX3]S(=[OX1])(=[OX1])[NX3]"),
    ("sulfamate", "[NX3]S(=[OX1])(=[OX1])[OX2]"),
    ("sulfonamide", "fr_sulfonamd"),
    ("sulfone", "fr_sulfone"),
    ("sulfate", f"{_OXYGEN}[SX4](=[OX1])(=[OX1]){_OXYGEN}"),
    ("sulfonic acid", f"[#6][SX4](=[OX1])(=[OX1]){_ACID}"),
    ("sulfonate ester", "[#6][SX4](=[OX1])(=[OX1])[OX2][#6]"),
    ("sulfinic acid", f"[#6][SX3](=[OX1]){_ACID}"),
    ("sulfoxide", "[#16X3](=[OX1])([#6])[#6]"),
    ("sulfoxide", "[#16X3+]([OX1-])([#6])[#6]"),
    ("sulfonium", "[SX3+]"),
    ("trisulfide", "[SX2][SX2][SX2]"),
    ("disulfide", "[SX2][SX2]"),
    (
        "triphosphate",
        f"{_OXYGEN}P(=[OX1])({_OXYGEN})[OX2]P(=[OX1])({_OXYGEN})[OX2]P(=[OX1])({_OXYGEN}){_OXYGEN}",
    ),
    ("diphosphate", f"{_OXYGEN}P(=[OX1])({_OXYGEN})[OX2]P(=[OX1])({_OXYGEN}){_OXYGEN}"),
    ("phosphate ester", f"[PX4](=[OX1])([OX2][#6])({_OXYGEN}){_OXYGEN}"),
    ("phosphoric acid", f"[PX4](=[OX1])({_ACID})({_ACID}){_ACID}"),
    ("phosphonic acid", "[PX4](=[OX1])([#6])([OX2H])[OX2H]"),
    ("phosphonate", f"[PX4](=[OX1])([#6])({_OXYGEN}){_OXYGEN}"),
    ("phosphinic acid", f"[PX4](=[OX1])([#6])([#6,#1]){_ACID}"),
    ("phosphoramide", "[PX4](=[OX1])[NX3]"),
    ("phosphine oxide", "[PX4](=[OX1])([#6])([#6])[#6]"),
    ("phosphonium", "[PX4+]"),
    ("phosphine", "[PX3]"),
    ("peroxy acid", "[CX3](=[OX1])[OX2][OX2H]"),
    ("hydroperoxide", "[OX2H][OX2]"),
    ("peroxide", "[OX2][OX2]"),
    ("hydroxamic acid", f"[CX3](=[OX1])[NX3]{_ACID}"),
    ("guanidine", "fr_guanido"),
    ("carbamate", "fr_alkyl_carbamate"),
    ("urea", "fr_urea"),
    ("imide", "fr_imide"),
    ("carboxylic acid", "fr_COO2"),
    ("anhydride", "[CX3](=[OX1])[OX2][CX3]=[OX1]"),
    ("carbonate", "[OX2][CX3](=[OX1])[OX2]"),
    ("ester", "fr_ester"),
    ("thioester", "[#6][CX3](=[OX1])[SX2]"),
    ("amide", "fr_amide"),
    ("amidine", "fr_amidine"),
    ("hydrazone", "fr_hdrzone"),
    ("hydrazine", "fr_hdrzine"),
    ("oxime", "fr_oxime"),
    ("azo", "fr_azo"),
    ("nitroso", "fr_nitroso"),
    ("nitrile", "fr_nitrile"),
    ("aldehyde", "fr_aldehyde"),
    ("ketone", "fr_ketone"),
    ("iminium", "[#6]=[NX3+;!a]"),
    ("imine", "fr_Imine"),
    ("hydroxylamine", "fr_N-O"),
    ("thiocarbonyl", "fr_C=S"),
    ("carbonyl", "fr_C=O"),
    ("phenol", "fr_Ar_OH"),
    ("phenolate", "[OX1-]c"),
    ("alcohol", "fr_Al_OH"),
    ("alkoxide", "[OX1-][CX4]"),
    ("thiol", "fr_SH"),
    ("thiolate", "[SX1-][#6]"),
    ("sulfide", "fr_sulfide"),
    ("ether", "fr_ether"),
    ("ammonium ion", "[NX4H4+]"),
    ("protonated amine", "[NX4+;!H0]"),
    ("quaternary nitrogen", "[NX4+;H0]"),
    ("primary amine", "[NX3H2;+0]"),
    ("secondary amine", "[NX3H1;+0]"),
    ("tertiary amine", "[NX3H0;+0]"),
    ("halogen", "fr_halogen"),
    ("alkyne", "C#C"),
    ("alkene", "C=C"),
)
"""Functional groups: a name, and RDKit's definition of it: a row of `FragmentDescriptors.csv` (`fr_...`, what
`rdkit.Chem.Fragments` counts) or of `Functional_Group_Hierarchy.txt`; SMARTS where RDKit defines none, or others too. Groups
that others are parts of come first."""

RINGS: tuple[tuple[str, str], ...] = (
    ("benzene ring", "c1ccccc1"),
    ("pyridine ring", "c1ccncc1"),
    ("pyrimidine ring", "c1cncnc1"),
    ("pyrazine ring", "c1cnccn1"),
    ("pyridazine ring", "c1ccnnc1"),
    ("triazine ring", "c1ncncn1"),
    ("furan ring", "c1ccoc1"),
    ("thiophene ring", "c1ccsc1"),
    ("pyrrole ring", "c1cc[nH]c1"),
    ("imidazole ring", "c1c[nH]cn1"),
    ("pyrazole ring", "c1cn[nH]c1"),
    ("thiazole ring", "c1cscn1"),
    ("oxazole ring", "c1cocn1"),
    ("isoxazole ring", "c1cnoc1"),
    ("tetrazole ring", "c1nnn[nH]1"),
    ("cyclopropane ring", "C1CC1"),
    ("cyclopentane ring", "C1CCCC1"),
    ("cyclohexane ring", "C1CCCCC1"),
    ("epoxide ring", "C1CO1"),
    ("beta-lactam ring", "C1CNC1"),
    ("pyrrolidine ring", "C1CCNC1"),
    ("piperidine ring", "C1CCNCC1"),
    ("piperazine ring", "C1CNCCN1"),
    ("morpholine ring", "C1COCCN1"),
    ("tetrahydrofuran ring", "C1CCOC1"),
    ("naphthalene rings", "c1ccc2ccccc2c1"),
    ("anthracene rings", "c1ccc2cc3ccccc3cc2c1"),
    ("phenanthrene rings", "c1ccc2c(c1)ccc1ccccc12"),
    ("indole rings", "c1ccc2[nH]ccc2c1"),
    ("quinoline rings", "c1ccc2ncccc2c1"),
    ("isoquinoline rings", "c1ccc2cnccc2c1"),
    ("acridine rings", "c1ccc2nc3ccccc3cc2c1"),
    ("carbazole rings", "c1ccc2c(c1)[nH]c1ccccc12"),
    ("benzimidazole rings", "c1ccc2[nH]cnc2c1"),
    ("benzothiazole rings", "c1ccc2scnc2c1"),
    ("benzofuran rings", "c1ccc2occc2c1"),
    ("adamantane rings", "C1C2CC3CC1CC(C2)C3"),
)
"""Ring systems with names of their own."""

SKELETONS: tuple[tuple[str, str], ...] = (
    ("steroid rings", "C1CCC2C(C1)CCC1C2CCC2CCCC12"),
    ("purine rings", "C1NCC2NCNC2N1"),
    ("pteridine rings", "C1NCC2NCCNC2N1"),
    ("anthraquinone rings", "C1CCC2CC3CCCCC3CC2C1"),
)
"""Ring systems known by their atoms alone, whatever the orders of their bonds; looked up after `RINGS`."""

_ORDERS = {1.0: "-", 1.5: ":", 2.0: "=", 3.0: "#"}
_TABLE: tuple[Kind, ...] = ("functional_groups", "rings", "brics", "scaffold")


class Fragment(NamedTuple):
    """A piece of a molecule.

    Attributes:
        kind: what it was cut by, one of `KINDS`.
        name: `nitro`, `benzene ring`, ...; SMILES where there is no name.
        atoms: its atoms, sorted, as RDKit numbers them.
    """

    kind: str
    name: str
    atoms: tuple[int, ...]


def cut(molecule: str | Mol, kind: Kind) -> list[Fragment]:
    """The fragments of a molecule, in the order of their first atoms.

    - `functional_groups`: RDKit's definitions (see `GROUPS`), without the carbons that a definition names only as
      neighbours, outside aromatic rings; each atom in one group at most, larger groups first. Heteroatoms that no
      definition covers form groups of their own, so that none is missing.
    - `rings`: ring systems; rings that share an atom are together.
    - `brics`: the pieces between the bonds that BRICS breaks (Degen et al., ChemMedChem 2008); they cover all atoms.
    - `scaffold`: the Murcko scaffold (Bemis and Murcko, J. Med. Chem. 1996) with the atoms doubly bonded to it, and the side
      chains on it; they cover all atoms.
    - `parts`: ring systems, functional groups outside them, and the chains in between; every atom is in exactly one.
    - `atoms`, `bonds`: single ones.

    A hydrogen that is an atom of its own (explicit, or deuterium) belongs to the fragment of the atom that it is bonded to.

    Args:
        molecule: SMILES, or an RDKit molecule.
        kind: what to cut by.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: an unknown kind, or a SMILES that RDKit cannot read.

    >>> [(fragment.name, fragment.atoms) for fragment in cut("O=[N+]([O-])c1ccccc1", "parts")]
    [('nitro', (0, 1, 2)), ('benzene ring', (3, 4, 5, 6, 7, 8))]
    """
    if kind not in _CUTS:
        raise unknown("kind of fragment", str(kind), KINDS)
    mol = as_mol(molecule) if isinstance(molecule, str) else molecule
    if not hasattr(mol, "GetAtoms"):
        raise InputError(f"expected molecule as SMILES or an RDKit molecule, got {type(molecule).__name__}")
    pieces = _CUTS[kind](mol) if kind in ("atoms", "bonds") else _with_hydrogens(mol, _CUTS[kind])
    fragments = [Fragment(kind, name, tuple(sorted(atoms))) for name, atoms in pieces]
    return sorted(fragments, key=lambda fragment: fragment.atoms)


def fragments(e: Explanation, kinds: Kind | Iterable[Kind] = _TABLE) -> pd.DataFrame:
    """The attributions of the fragments of a molecule, strongest first.

    The attribution of a fragment is the **sum** over its atoms for attributions (`e.signed`), so that fragments that cover
    all atoms share out the whole; and the **mean** for masks in [0, 1], so that it is a mask again. Where the explanation
    scores edges alone, the sum is over its bonds, of which each end has a half, and the mean over the bonds within it, or,
    of a single atom, over those at it. The score of a fragment that an algorithm removed as one (`FragmentAblation`,
    `Shapley`) counts once, as its atoms have equal shares of it.

    Args:
        e: an explanation of a molecule, of data that carries `smiles`.
        kinds: one or more of `KINDS`.

    Returns:
        A table of `kind`, `name`, `atoms` (a tuple) and `attribution`, sorted by |attribution|.

    Raises:
        GnnXaiError: RDKit or pandas is not installed.
        InputError: an unknown kind, data without `smiles`, or an explanation without scores of nodes or edges.
    """
    rows = [(*fragment, score) for fragment, score in scored(e, kinds)]
    return pandas().DataFrame(rows, columns=["kind", "name", "atoms", "attribution"])


def scored(e: Explanation, kinds: Kind | Iterable[Kind] = _TABLE) -> list[tuple[Fragment, float]]:
    """The rows of `fragments`: each fragment with its attribution."""
    mol = molecule(e)
    score = _scorer(e, mol)
    if not isinstance(kinds, Iterable):
        raise InputError(f"expected kinds as one or several of {', '.join(KINDS)}, got {kinds!r}")
    wanted: list[Any] = [kinds] if isinstance(kinds, str) else list(kinds)
    pieces = [(fragment, score(fragment)) for kind in wanted for fragment in cut(mol, kind)]
    return sorted(pieces, key=lambda piece: -abs(piece[1]))


def checked(graph: Data, what: str) -> Mol:
    """The molecule of a graph that carries `smiles`, as `gnn_xai.molecules.tables.molecule` has it.

    Raises:
        InputError: its atoms are not the nodes.
    """
    mol = as_mol(graph.smiles)
    ordered = nodes_as_atoms(mol, graph)
    if ordered is None:
        raise other_nodes(graph.smiles, mol, graph.num_nodes, f" in {what}")
    return ordered


def neutral(mol: Mol, x: Tensor) -> Tensor:
    """The features that each atom would have if it were a neutral carbon: the same bonds, aromaticity and ring, with the
    hydrogens that the valence leaves room for and the hybridisation that follows. Found by changing the molecule and
    running the featurizer again.

    Args:
        mol: the molecule.
        x: `[atoms, ...]` its features.

    Returns:
        `[atoms, ...]`.

    Raises:
        InputError: the features are of none of the featurizers in `gnn_xai.molecules.featurizers`.
    """
    carbons = chem().RWMol(mol)
    for atom in carbons.GetAtoms():
        atom.SetAtomicNum(6)
        for number in (atom.SetFormalCharge, atom.SetNumExplicitHs, atom.SetNumRadicalElectrons, atom.SetIsotope):
            number(0)
        atom.SetNoImplicit(False)
    carbons.UpdatePropertyCache(strict=False)
    chem().SetConjugation(carbons)
    chem().SetHybridization(carbons)
    with_x = {name: one for name, one in featurizers.REGISTRY.items() if one is not featurizers.space}
    for featurizer in with_x.values():
        try:
            same: Any = featurizer(mol)
        except ValueError:  # no code for one of its atoms
            continue
        if torch.equal(same.x.to(x), x):
            instead: Any = featurizer(carbons)
            return instead.x.to(x)
    raise InputError(
        f"expected features by one of {', '.join(with_x)}, got others for {chem().MolToSmiles(mol)}, so it is "
        "not known how they describe a carbon; set data.x_neutral, the features of a neutral atom in the place of each"
    )


# Scores ##################################################################################################################


def _scorer(e: Explanation, mol: Mol) -> Callable[[Fragment], float]:
    """A function that returns the attribution of a fragment."""
    of_atoms, of_bonds = atom_scores(e, mol), bond_scores(e, mol)
    if of_atoms is None and of_bonds is None:
        raise InputError(f"{e.source.algorithm['name']} scored neither atoms nor bonds")
    ends = bond_ends(mol)

    def score(fragment: Fragment) -> float:
        if of_atoms is not None and (of_bonds is None or fragment.kind != "bonds"):
            values = of_atoms[list(fragment.atoms)]
        else:
            assert of_bonds is not None
            inside = np.isin(ends, fragment.atoms).sum(1)  # how many ends of each bond
            if e.signed and fragment.kind != "bonds":
                return float((of_bonds * inside).sum() / 2)
            values = of_bonds[inside == 2] if (inside == 2).any() else of_bonds[inside > 0]
        return float(values.sum() if e.signed else values.mean()) if len(values) else 0.0

    return score


def scaffold_atoms(mol: Mol) -> set[int]:
    """The atoms of the Murcko scaffold, with those doubly bonded to it; none where the molecule has no ring."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return {atom.GetIntProp(NUMBER) for atom in MurckoScaffold.GetScaffoldForMol(numbered(mol)).GetAtoms()}


def connected(mol: Mol, atoms: set[int], broken: Iterable[frozenset[int]] = ()) -> Iterator[set[int]]:
    """The connected pieces of some atoms, in the order of their first ones, without the bonds that are broken."""
    broken, left = set(broken), set(atoms)
    while left:
        piece, stack = set(), [min(left)]
        while stack:
            atom = stack.pop()
            if atom in left:
                left.remove(atom)
                piece.add(atom)
                neighbors = (neighbor.GetIdx() for neighbor in mol.GetAtomWithIdx(atom).GetNeighbors())
                stack += [neighbor for neighbor in neighbors if frozenset((atom, neighbor)) not in broken]
        yield piece


# Cutting #################################################################################################################

Named = tuple[str, set[int]]


def _with_hydrogens(mol: Mol, cut_heavy: Callable[[Mol], list[Named]]) -> list[Named]:
    """The pieces of a molecule without those hydrogens that are bonded to one other atom, which then join its piece."""
    carrier = {
        atom.GetIdx(): atom.GetNeighbors()[0].GetIdx()
        for atom in mol.GetAtoms()
        if atom.GetAtomicNum() == 1 and atom.GetDegree() == 1 and atom.GetNeighbors()[0].GetAtomicNum() > 1
    }
    if not carrier:
        return cut_heavy(mol)
    heavy = chem().RWMol(numbered(mol))
    heavy.BeginBatchEdit()
    for hydrogen, atom in carrier.items():
        heavy.RemoveAtom(hydrogen)
        heavy.GetAtomWithIdx(atom).SetNumExplicitHs(heavy.GetAtomWithIdx(atom).GetNumExplicitHs() + 1)
    heavy.CommitBatchEdit()
    chem().SanitizeMol(heavy)
    kept = [atom.GetIntProp(NUMBER) for atom in heavy.GetAtoms()]
    pieces = [(name, {kept[atom] for atom in atoms}) for name, atoms in cut_heavy(heavy.GetMol())]
    return [(name, atoms | {h for h, atom in carrier.items() if atom in atoms}) for name, atoms in pieces]


def _functional_groups(mol: Mol) -> list[Named]:
    pieces: list[Named] = []
    taken: set[int] = set()
    for name, pattern in _group_patterns():
        for match in mol.GetSubstructMatches(pattern, maxMatches=10 * mol.GetNumAtoms() + 10):
            atoms = _core(mol, set(match))
            if atoms and not atoms & taken:
                pieces.append((_full_name(mol, name, atoms), atoms))
                taken |= atoms
    left = {
        atom.GetIdx()
        for atom in mol.GetAtoms()
        if atom.GetAtomicNum() not in (1, 6) and not atom.GetIsAromatic() and atom.GetIdx() not in taken
    }
    return pieces + [(_hetero_name(mol, atoms), atoms) for atoms in connected(mol, left)]


def _core(mol: Mol, match: set[int]) -> set[int]:
    """The atoms of a match that make the group: not the carbons that are there as neighbours, nor aromatic atoms; and the
    terminal heteroatoms (both oxygens of a nitro group, the OH of a phosphoric acid) of those that are not carbon.
    """
    kept = set()
    for index in match:
        atom = mol.GetAtomWithIdx(index)
        if atom.GetIsAromatic():
            continue
        unsaturated = any(
            bond.GetBondTypeAsDouble() >= 2 and bond.GetOtherAtomIdx(index) in match for bond in atom.GetBonds()
        )
        halogens = sum(neighbor.GetAtomicNum() in (9, 17, 35, 53) for neighbor in atom.GetNeighbors())
        if atom.GetAtomicNum() != 6 or unsaturated or halogens == 3:
            kept.add(index)
    for index in list(kept):
        atom = mol.GetAtomWithIdx(index)
        if atom.GetAtomicNum() in (7, 15, 16):
            kept |= {n.GetIdx() for n in atom.GetNeighbors() if n.GetAtomicNum() in (8, 16) and n.GetDegree() == 1}
    return kept


def _full_name(mol: Mol, name: str, atoms: set[int]) -> str:
    """A group's name with its element where the definition is of any of several."""
    if name != "halogen":
        return name
    atom = mol.GetAtomWithIdx(min(atoms))
    return f"halogen ({atom.GetSymbol()})" if atom.GetDegree() else _hetero_name(mol, atoms)


def _hetero_name(mol: Mol, atoms: set[int]) -> str:
    """A name for heteroatoms that no definition covers."""
    if len(atoms) > 1:
        return _smiles(mol, atoms)
    atom = mol.GetAtomWithIdx(min(atoms))
    if atom.GetAtomicNum() == 8 and any(bond.GetBondTypeAsDouble() == 2 for bond in atom.GetBonds()):
        return "carbonyl"
    if atom.GetDegree() == 0 and atom.GetFormalCharge():
        return f"{_smiles(mol, atoms)} ion"
    return _smiles(mol, atoms)


def _rings(mol: Mol) -> list[Named]:
    systems: list[set[int]] = []
    for ring in map(set, mol.GetRingInfo().AtomRings()):
        joined = [system for system in systems if system & ring]
        systems = [system for system in systems if not system & ring] + [ring.union(*joined)]
    return [(_ring_name(mol, system), system) for system in systems]


def _ring_name(mol: Mol, atoms: set[int]) -> str:
    exact, skeletons = _ring_names()
    bare = _bare(mol, atoms)
    name = exact.get(chem().MolToSmiles(bare)) or skeletons.get(_skeleton(bare))
    if name is not None:
        return name
    sizes = sorted((len(ring) for ring in mol.GetRingInfo().AtomRings() if atoms.issuperset(ring)), reverse=True)
    members = [mol.GetAtomWithIdx(index) for index in sorted(atoms)]
    hetero = sorted({atom.GetSymbol() for atom in members} - {"C"})
    holding = f" with {', '.join(hetero)}" if hetero else ""
    if len(sizes) == 1:
        aromatic = "aromatic " if all(atom.GetIsAromatic() for atom in members) else ""
        return f"{aromatic}{sizes[0]}-membered ring{holding}"
    return f"{'-'.join(map(str, sizes))} ring system{holding}"


def _bare(mol: Mol, atoms: set[int]) -> Mol:
    """A ring system by itself, without charges, hydrogens and stereo."""
    Chem = chem()
    out = Chem.RWMol(mol)
    out.BeginBatchEdit()
    for atom in out.GetAtoms():
        if atom.GetIdx() not in atoms:
            out.RemoveAtom(atom.GetIdx())
    out.CommitBatchEdit()
    Chem.RemoveStereochemistry(out)
    for atom in out.GetAtoms():
        for number in (atom.SetFormalCharge, atom.SetNumExplicitHs, atom.SetAtomMapNum, atom.SetIsotope):
            number(0)
        atom.SetNoImplicit(False)
    return out.GetMol()


def _skeleton(bare: Mol) -> str:
    """SMILES of the atoms of a ring system, all bonds single."""
    Chem = chem()
    out = Chem.RWMol(bare)
    for bond in out.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
        bond.SetIsAromatic(False)
    for atom in out.GetAtoms():
        atom.SetIsAromatic(False)
    return Chem.MolToSmiles(out)


def _brics(mol: Mol) -> list[Named]:
    from rdkit.Chem import BRICS

    broken, name = {frozenset(ends) for ends, _ in BRICS.FindBRICSBonds(mol)}, _namer(mol)
    return [(name(atoms), atoms) for atoms in connected(mol, _all(mol), broken)]


def _scaffold(mol: Mol) -> list[Named]:
    core, name = scaffold_atoms(mol), _namer(mol)
    chains = [(f"side chain {name(atoms)}", atoms) for atoms in connected(mol, _all(mol) - core)]
    return [("scaffold", atoms) for atoms in connected(mol, core)] + chains


def _parts(mol: Mol) -> list[Named]:
    pieces = _rings(mol)
    cyclic: set[int] = set().union(*(atoms for _, atoms in pieces))
    for name, group in _functional_groups(mol):
        pieces += [(name, atoms) for atoms in connected(mol, group - cyclic)]
    left = _all(mol).difference(*(atoms for _, atoms in pieces))
    return pieces + [(_chain_name(mol, atoms), atoms) for atoms in connected(mol, left)]


def _atoms(mol: Mol) -> list[Named]:
    return [(_atom_name(mol, index), {index}) for index in sorted(_all(mol))]


def _bonds(mol: Mol) -> list[Named]:
    pieces: list[Named] = []
    for bond in mol.GetBonds():
        u, v = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        order = _ORDERS.get(bond.GetBondTypeAsDouble(), "~")
        pieces.append((f"{_atom_name(mol, u)}{order}{_atom_name(mol, v)}", {u, v}))
    return pieces


_CUTS: dict[str, Callable[[Any], list[Named]]] = {
    "functional_groups": _functional_groups,
    "rings": _rings,
    "brics": _brics,
    "scaffold": _scaffold,
    "parts": _parts,
    "atoms": _atoms,
    "bonds": _bonds,
}


def _all(mol: Mol) -> set[int]:
    return set(range(mol.GetNumAtoms()))


# Names ###################################################################################################################


def _namer(mol: Mol) -> Callable[[set[int]], str]:
    """A function that names a piece as the ring system, functional group or chain that it is exactly, or else by SMILES."""
    known = {frozenset(atoms): name for name, atoms in (*_functional_groups(mol), *_rings(mol))}
    return lambda atoms: known.get(frozenset(atoms)) or _chain_name(mol, atoms)


def _chain_name(mol: Mol, atoms: set[int]) -> str:
    """`methyl`, `methylene`, `methine` or `alkyl (C3)` for saturated carbons outside rings, SMILES for everything else."""
    members = [mol.GetAtomWithIdx(index) for index in sorted(atoms)]
    if any(a.GetAtomicNum() != 6 or a.GetIsAromatic() or a.IsInRing() for a in members):
        return _smiles(mol, atoms)
    if any(bond.GetBondTypeAsDouble() > 1 for a in members for bond in a.GetBonds()):
        return _smiles(mol, atoms)
    if len(members) > 1:
        return f"alkyl (C{len(members)})"
    return {4: "methane", 3: "methyl", 2: "methylene", 1: "methine"}.get(members[0].GetTotalNumHs(), "carbon")


def _atom_name(mol: Mol, index: int) -> str:
    return f"{mol.GetAtomWithIdx(index).GetSymbol()}{index}"


def _smiles(mol: Mol, atoms: set[int]) -> str:
    return chem().MolFragmentToSmiles(mol, sorted(atoms), isomericSmiles=False)


@cache
def _group_patterns() -> tuple[tuple[str, Any], ...]:
    """`GROUPS` with RDKit's definitions as patterns.

    Raises:
        GnnXaiError: RDKit's data files are missing.
    """
    Chem = chem()
    from rdkit import RDConfig

    known: dict[str, str] = {}
    for file, columns in (("FragmentDescriptors.csv", (0, 2)), ("Functional_Group_Hierarchy.txt", (0, 1))):
        try:
            text = (Path(RDConfig.RDDataDir) / file).read_text(encoding="utf-8")
        except OSError as error:
            raise GnnXaiError(
                f"cannot read RDKit's definitions of functional groups, {file}: {error.strerror}; install RDKit from its "
                "wheel, 'pip install gnn-xai[molecules]'"
            ) from error
        for row in csv.reader(text.splitlines(), delimiter="\t"):
            cells: Sequence[str] = [cell.strip() for cell in row if cell.strip()]
            if len(cells) > max(columns) and not cells[0].startswith(("#", "//")):
                known.setdefault(cells[columns[0]], cells[columns[1]])
    return tuple((name, Chem.MolFromSmarts(known.get(definition, definition))) for name, definition in GROUPS)


@cache
def _ring_names() -> tuple[dict[str, str], dict[str, str]]:
    """Names by SMILES of the bare ring system, and by that of its skeleton."""

    def bare(smiles: str) -> Any:
        mol = as_mol(smiles)
        return _bare(mol, _all(mol))

    exact = {chem().MolToSmiles(bare(smiles)): name for name, smiles in RINGS}
    return exact, {_skeleton(bare(smiles)): name for name, smiles in SKELETONS}
