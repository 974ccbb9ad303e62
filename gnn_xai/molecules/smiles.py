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
from gnn_xai.molecules.featurizers import Featurizer, get
from gnn_xai.molecules.records import Record, is_in_space, renumbered, standardized
from gnn_xai.optional import need

if TYPE_CHECKING:
    from rdkit.Chem import Mol

LARGE = 120  # heavy atoms, up to which a drawing is easy to read

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

    Each `Data` has `x`, `edge_index`, `edge_attr` if the featurizer encodes bonds, `smiles`, and `name` (`""` if it has
    none). Node i is atom i of `Chem.MolFromSmiles(data.smiles)`: SMILES stay as they were written, unless salts were
    stripped or charges neutralised. From an SDF (see `read`) come also `file_atom` and, for molecules in space, `pos`.

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

    Left out are empty lines, what RDKit cannot read, and atoms or bonds that the encodings have no code for. Kept, but
    noted, are salts and mixtures (one graph of several parts), single atoms (a graph without edges), metals, molecules
    of more than 120 heavy atoms, and duplicates. All of it is in `Molecules.problems`; a warning says how many lines
    were left out.

    Args:
        smiles: SMILES, one a molecule.
        featurizer: `"pyg"`, `"ogb"` or `"one_hot"` (see `gnn_xai.molecules.featurizers`); a model, to take the
            encodings that it reads; or a function from an RDKit molecule to `Data`.
        names: names of the molecules.
        strip_salts: keep the largest part of a salt or mixture, an organic one if any is.
        neutralize: add and remove protons until no charge is left that they can remove. Both by RDKit's `rdMolStandardize`;
            `Molecules.problems` says what was done, and the SMILES of such a molecule is RDKit's.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: nothing could be read, another number of names than of SMILES, or an unknown featurizer.
    """
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
    encoding, function = get(featurizer)
    canonical = chem().MolToSmiles
    molecules = Molecules([], [], [], encoding, [], function)
    in_space = any(is_in_space(record.mol) for record in records)
    seen: dict[str, int] = {}
    for record in records:
        smiles = record.smiles.strip() if isinstance(record.smiles, str) else record.smiles
        mol, reason = (record.mol, record.problem) if record.mol or record.problem else _parse(smiles)
        atoms, graph, notes = record.file_atom, None, []
        if mol is not None and (strip_salts or neutralize):
            mol, kept, notes = standardized(mol, strip_salts, neutralize)
            if notes:
                smiles, mol, order = renumbered(mol)
                atoms = None if atoms is None else [atoms[kept[index]] for index in order]
        if mol is not None:
            try:
                graph = function(mol)
            except ValueError as error:
                reason = f"the {encoding} encodings have no code for one of its atoms or bonds ({error})"
        if mol is None or graph is None:
            molecules.problems.append(ReadingProblem(record.line, _text(smiles), f"left out: {reason}"))
            continue
        graph.smiles, graph.name = smiles, record.name
        if atoms is not None and graph.num_nodes == mol.GetNumAtoms():
            graph.file_atom = torch.tensor(atoms)
        if in_space and graph.get("pos") is None:
            graph.pos = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)
            notes += [] if is_in_space(mol) else ["drawn in the plane, in a file of molecules in space"]
        molecules.graphs.append(graph)
        molecules.lines.append(record.line)
        molecules.properties.append(dict(record.properties))
        notes += _notes(mol)
        first = seen.setdefault(canonical(_unmapped(mol)), record.line)
        if first != record.line:
            notes.append(f"the same molecule as on line {first}")
        if notes:
            molecules.problems.append(ReadingProblem(record.line, _text(record.smiles), f"kept: {'; '.join(notes)}"))
    left_out = [problem for problem in molecules.problems if problem.left_out]
    if not molecules.graphs:
        what = f"; {left_out[0]}" if left_out else ""
        raise InputError(f"expected at least one molecule, got {len(records)} lines without any{what}")
    if left_out:
        some = "; ".join(map(str, left_out[:3])) + ("; …" if len(left_out) > 3 else "")
        warn(f"{len(left_out)} of {len(records)} lines left out: {some}")
    return molecules


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
    metals = sorted({atom.GetSymbol() for atom in mol.GetAtoms() if atom.GetAtomicNum() in _METALS})
    if metals:
        notes.append(f"it holds a metal ({', '.join(metals)}), rare in what models are trained on")
    heavy = mol.GetNumHeavyAtoms()
    if heavy > LARGE:
        notes.append(f"{heavy} heavy atoms make a crowded picture")
    return notes


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
