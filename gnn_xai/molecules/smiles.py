"""SMILES as graphs that a model can read, with the problems of the lines that hold none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch
from torch import nn
from torch_geometric.data import Data

from gnn_xai.errors import InputError, warn
from gnn_xai.molecules.featurizers import REGISTRY, Featurizer, get
from gnn_xai.molecules.ordering import check_order, nodes_as_atoms, other_nodes
from gnn_xai.molecules.records import Record, is_in_space, renumbered, standardized
from gnn_xai.optional import need

if TYPE_CHECKING:
    from rdkit.Chem import Mol

LARGE = 120  # heavy atoms, up to which a drawing is easy to read
CHECKED = 20  # molecules on which a featurizer of one's own is seen to keep the order of atoms

_METALS = {3, 4, 11, 12, 13, *range(19, 32), *range(37, 51), *range(55, 85), *range(87, 117)}


def chem() -> ModuleType:
    """RDKit's `Chem`.

    Raises:
        GnnXaiError: RDKit is not installed.
    """
    return need("rdkit.Chem", "molecules", "molecules")


class ReadingProblem(NamedTuple):
    """A line of the input that was left out, or kept with a remark.

    Attributes:
        line: its number, from 1.
        text: its content.
        reason: why it was left out, `"left out: ..."`, or the remark, `"kept: ..."`.
    """

    line: int
    text: str
    reason: str

    @property
    def left_out(self) -> bool:
        """The line became no molecule."""
        return self.reason.startswith("left out")

    def __str__(self) -> str:
        return f"line {self.line} ({_short(self.text)}) {self.reason}"


@dataclass(frozen=True, eq=False, repr=False)
class Molecules(Sequence[Data]):
    """Molecules as a sequence of PyG `Data`, for `gnn_xai.explain(model, molecules, ...)`.

    Each `Data` has `x` (by the featurizer `space`, `z` and `pos`), `edge_index`, `edge_attr` if the featurizer encodes
    bonds, `smiles`, and `name` (`""` if it has none). Node i is atom i of `Chem.MolFromSmiles(data.smiles)`, with hydrogens
    after the other atoms where these are nodes: SMILES stay as they were written, unless salts were stripped, charges
    neutralised, or a featurizer of one's own set others as `data.smiles`. From an SDF (see `read`) come also `file_atom`
    and, for molecules in space, `pos`.

    Attributes:
        graphs: the molecules.
        lines: the line of the input, from 1, of each molecule.
        problems: lines that were left out, or kept with a remark, in their order.
        featurizer: the name of the encodings.
        properties: what the file says of each: further columns of a table, properties of an SDF.
        featurize: the function that encoded them.
    """

    graphs: list[Data]
    lines: list[int]
    problems: list[ReadingProblem]
    featurizer: str
    properties: list[dict[str, Any]]
    featurize: Featurizer

    def __len__(self) -> int:
        return len(self.graphs)

    @overload
    def __getitem__(self, i: int) -> Data: ...
    @overload
    def __getitem__(self, i: slice) -> Molecules: ...

    def __getitem__(self, i: int | slice) -> Data | Molecules:
        """One molecule, or a part of them with the problems of its own lines."""
        if not isinstance(i, slice):
            return self.graphs[i]
        lines = self.lines[i]
        problems = [problem for problem in self.problems if problem.line in set(lines)]
        return Molecules(self.graphs[i], lines, problems, self.featurizer, self.properties[i], self.featurize)

    def __repr__(self) -> str:
        left_out = sum(problem.left_out for problem in self.problems)
        more = f", {left_out} left out" if left_out else ""
        return f"Molecules({len(self)} molecules, {self.featurizer}{more})"

    @property
    def smiles(self) -> list[str]:
        """The SMILES of each, as it was written."""
        return [graph.smiles for graph in self.graphs]

    @property
    def names(self) -> list[str]:
        """The name of each, `""` for none."""
        return [graph.name for graph in self.graphs]

    @cached_property
    def mols(self) -> list[Mol]:
        """The RDKit molecule of each."""
        return [as_mol(smiles) for smiles in self.smiles]


def as_mol(smiles: str) -> Mol:
    """The RDKit molecule whose atoms are numbered as the nodes of its graph.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: RDKit cannot read the SMILES.
    """
    mol, reason = _parse(smiles)
    if mol is None:
        raise InputError(f"expected a SMILES that RDKit can read, got {smiles!r}: {reason}")
    return mol


def from_smiles(
    smiles: str | Iterable[str],
    featurizer: str | nn.Module | Featurizer = "pyg",
    *,
    names: Iterable[str] | None = None,
    strip_salts: bool = False,
    neutralize: bool = False,
) -> Molecules:
    """Read SMILES as graphs.

    Left out are empty lines, what RDKit cannot read, atoms or bonds that the encodings have no code for, and molecules on
    which a featurizer of one's own raises an error. Kept, but noted, are salts and mixtures (one graph of several parts),
    single atoms (a graph without edges), metals, isotopes, explicit hydrogens, radicals, `*`, molecules of more than 120
    heavy atoms, and duplicates. All of it is in `Molecules.problems`; a warning says how many lines were left out.

    Args:
        smiles: SMILES, one a molecule.
        featurizer: `"pyg"`, `"ogb"`, `"one_hot"` or `"space"` (see `gnn_xai.molecules.featurizers`); a model, to take the
            encodings that it reads; or a function from an RDKit molecule to `Data`, whose nodes are the atoms in their
            order, or in that of the SMILES that it sets as `data.smiles`.
        names: names of the molecules.
        strip_salts: keep the largest part of a salt or mixture, an organic one if any is.
        neutralize: add and remove protons until no charge is left that they can remove. Both by RDKit's `rdMolStandardize`;
            `Molecules.problems` says what was done, and the SMILES of such a molecule is RDKit's.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: nothing could be read, another number of names than of SMILES, an unknown featurizer, or one of one's
            own that changes the order of atoms and does not say how.
    """
    if not isinstance(smiles, Iterable):
        raise InputError(f"expected SMILES as a string or several, got {type(smiles).__name__}")
    if names is not None and (isinstance(names, str) or not isinstance(names, Iterable)):
        raise InputError(f"expected names as a list of strings, one a molecule, got {names!r}")
    texts = [smiles] if isinstance(smiles, str) else list(smiles)
    called = [""] * len(texts) if names is None else [str(name) for name in names]
    if len(called) != len(texts):
        raise InputError(f"expected one name for each of {len(texts)} SMILES, got {len(called)}")
    records = [Record(line, text, name) for line, (text, name) in enumerate(zip(texts, called, strict=True), start=1)]
    return build(records, featurizer, strip_salts=strip_salts, neutralize=neutralize)


def build(
    records: Sequence[Record],
    featurizer: str | nn.Module | Featurizer,
    *,
    strip_salts: bool = False,
    neutralize: bool = False,
) -> Molecules:
    """Molecules from records, as `from_smiles` describes."""
    read = _Reader(*get(featurizer), strip_salts, neutralize, any(is_in_space(record.mol) for record in records))
    for record in records:
        read.add(record)
    molecules = read.molecules
    left_out = [problem for problem in molecules.problems if problem.left_out]
    if not molecules.graphs:
        what = f"; {left_out[0]}" if left_out else ""
        raise InputError(f"expected at least one molecule, got {len(records)} lines without any{what}") from read.error
    if left_out:
        some = "; ".join(map(str, left_out[:3])) + ("; …" if len(left_out) > 3 else "")
        warn(f"{len(left_out)} of {len(records)} lines left out: {some}")
    return molecules


class _Reader:
    """Makes molecules of records, one after the other.

    Args:
        encoding, function: the name of a featurizer, and the featurizer.
        strip_salts, neutralize: as in `from_smiles`.
        in_space: some records have coordinates that are no drawing.
    """

    def __init__(
        self, encoding: str, function: Featurizer, strip_salts: bool, neutralize: bool, in_space: bool
    ) -> None:
        self.function, self.known = function, function in REGISTRY.values()
        self.strip_salts, self.neutralize, self.in_space = strip_salts, neutralize, in_space
        self.molecules = Molecules([], [], [], encoding, [], function)
        self.error: Exception | None = None  # of the featurizer
        self._seen: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Read a record, or note why it is left out."""
        smiles = record.smiles.strip() if isinstance(record.smiles, str) else record.smiles
        mol, reason = (record.mol, record.problem) if record.mol or record.problem else _parse(smiles)
        atoms, graph, notes = record.file_atom, None, []
        if mol is not None and (self.strip_salts or self.neutralize):
            mol, kept, notes = standardized(mol, self.strip_salts, self.neutralize)
            if notes:
                smiles, mol, order = renumbered(mol)
                atoms = None if atoms is None else [atoms[kept[index]] for index in order]
        if mol is not None:
            graph, reason = self._graph(mol)
        if mol is None or graph is None:
            self.molecules.problems.append(ReadingProblem(record.line, _text(smiles), f"left out: {reason}"))
            return
        smiles, mol, atoms = self._in_order_of_nodes(graph, str(smiles), mol, atoms, notes)
        graph.smiles, graph.name = smiles, record.name
        if atoms is not None and graph.num_nodes == mol.GetNumAtoms():
            graph.file_atom = torch.tensor(atoms)
        if self.in_space and graph.get("pos") is None and graph.num_nodes == mol.GetNumAtoms():
            graph.pos = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)
            notes += [] if is_in_space(mol) else ["drawn in the plane, in a file of molecules in space"]
        self.molecules.graphs.append(graph)
        self.molecules.lines.append(record.line)
        self.molecules.properties.append(dict(record.properties))
        notes += _notes(mol)
        first = self._seen.setdefault(chem().MolToSmiles(_unmapped(mol)), record.line)
        if first != record.line:
            notes.append(f"the same molecule as on line {first}")
        if notes:
            problem = ReadingProblem(record.line, _text(record.smiles), f"kept: {'; '.join(notes)}")
            self.molecules.problems.append(problem)

    def _graph(self, mol: Mol) -> tuple[Data | None, str]:
        """The graph of a molecule, or None and why there is none.

        Raises:
            InputError: a function of the user's own returns no graph.
        """
        encoding = self.molecules.featurizer
        try:
            graph = self.function(mol)
        except ValueError as error:
            self.error = error
            if self.known:
                return None, f"the {encoding} encodings have no code for one of its atoms or bonds ({error})"
            return None, f"the featurizer {encoding} raised ValueError: {error}"
        except Exception as error:  # any that a function of the user's own raises
            self.error = error
            return None, f"the featurizer {encoding} raised {type(error).__name__}: {error}"
        if not isinstance(graph, Data) or graph.get("edge_index") is None or graph.num_nodes is None:
            raise InputError(
                f"expected a torch_geometric.data.Data with x and edge_index from the featurizer {encoding}, got {graph!r}"
            )
        return graph, ""

    def _in_order_of_nodes(
        self, graph: Data, smiles: str, mol: Mol, file_atom: Sequence[int] | None, notes: list[str]
    ) -> tuple[str, Mol, Sequence[int] | None]:
        """SMILES, molecule and numbers in the file with atoms in the order of nodes.

        Raises:
            InputError: a featurizer of the user's own has another order and does not say which.
        """
        own = graph.get("smiles")
        if not isinstance(own, str):
            if not self.known and len(self.molecules) < CHECKED and graph.num_nodes == mol.GetNumAtoms():
                check_order(self.function, mol, graph)
            return smiles, mol, file_atom
        again, reason = _parse(own)
        if again is None:
            raise InputError(f"expected SMILES as data.smiles from the featurizer, got {own!r}: {reason}")
        if nodes_as_atoms(again, graph) is None:
            raise other_nodes(own, again, graph.num_nodes)
        if own == smiles:
            return smiles, mol, file_atom
        match = mol.GetSubstructMatch(again)
        if len(match) != mol.GetNumAtoms():
            notes.append(f"the featurizer {self.molecules.featurizer} reads it as {own}")
            return own, again, None
        atoms = None if file_atom is None else [file_atom[atom] for atom in match]
        return own, chem().RenumberAtoms(mol, list(match)), atoms


def _parse(smiles: object) -> tuple[Mol | None, str]:
    """The molecule, or None and why there is none."""
    Chem = chem()
    from rdkit.rdBase import BlockLogs

    if smiles is None or smiles == "" or (isinstance(smiles, float) and math.isnan(smiles)):
        return None, "nothing stands there"
    if not isinstance(smiles, str):
        return None, f"expected a string, got {type(smiles).__name__}"
    with BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is not None:
            return (mol, "") if mol.GetNumAtoms() else (None, "it has no atoms")
        raw = Chem.MolFromSmiles(smiles, sanitize=False)
        if raw is None:
            return None, "this is not SMILES"
        problems = Chem.DetectChemistryProblems(raw)
    return None, "; ".join(problem.Message() for problem in problems) or "RDKit cannot make sense of it"


def _notes(mol: Mol) -> list[str]:
    """Remarks about a molecule that is kept."""
    notes = []
    parts = len(chem().GetMolFrags(mol))
    if parts > 1:
        notes.append(f"a salt or mixture of {parts} parts, which the model reads as one graph")
    if mol.GetNumAtoms() == 1:
        notes.append("a single atom, without bonds")
    hydrogens = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() == 1]
    isotopes = sorted({f"{a.GetIsotope()}{a.GetSymbol()}" for a in mol.GetAtoms() if a.GetIsotope()})
    if isotopes:
        nodes = f", {_count(len(hydrogens), 'hydrogen')} of it as nodes of their own" if hydrogens else ""
        notes.append(f"it holds isotopes ({', '.join(isotopes)}), which most encodings do not tell apart{nodes}")
    elif hydrogens:
        notes.append(f"{_count(len(hydrogens), 'explicit hydrogen')} as nodes of the graph")
    radicals = [f"{a.GetSymbol()}{a.GetIdx()}" for a in mol.GetAtoms() if a.GetNumRadicalElectrons()]
    if radicals:
        notes.append(f"a radical, at {', '.join(radicals)}")
    anything = sum(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms())
    if anything:
        notes.append(f"{_count(anything, 'atom')} of no known element (*), such as the end of a fragment")
    metals = sorted({atom.GetSymbol() for atom in mol.GetAtoms() if atom.GetAtomicNum() in _METALS})
    if metals:
        notes.append(f"it holds a metal ({', '.join(metals)}), rare in what models are trained on")
    heavy = mol.GetNumHeavyAtoms()
    if heavy > LARGE:
        notes.append(f"{heavy} heavy atoms make a crowded picture")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _unmapped(mol: Mol) -> Mol:
    """A copy without atom map numbers, which say nothing about what the molecule is."""
    copy = chem().Mol(mol)
    for atom in copy.GetAtoms():
        atom.SetAtomMapNum(0)
    return copy


def _text(smiles: object) -> str:
    return smiles if isinstance(smiles, str) else repr(smiles)


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else f"{text[: most - 1]}…")
