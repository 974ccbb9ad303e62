"""SMILES as graphs that a model can read, with the problems of the lines that hold none."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, overload

from torch import nn
from torch_geometric.data import Data

from gnn_xai.errors import InputError, warn
from gnn_xai.molecules.featurizers import Featurizer, get
from gnn_xai.optional import need

if TYPE_CHECKING:
    from os import PathLike

    from rdkit.Chem import Mol

HEADERS = {"smiles", "smile", "canonical_smiles", "isomeric_smiles"}
NAMES = ("name", "id", "title", "compound", "compound_name", "compound_id", "molecule", "mol_id", "chembl_id")
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
    none). Node i is atom i of `Chem.MolFromSmiles(data.smiles)`: SMILES stay as they were written.

    Attributes:
        graphs: the molecules.
        lines: the line of the input, from 1, of each molecule.
        problems: lines that were left out, or kept with a remark, in their order.
        featurizer: the name of the encodings.
    """

    graphs: list[Data]
    lines: list[int]
    problems: list[ReadingProblem]
    featurizer: str

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
        return Molecules(self.graphs[i], lines, problems, self.featurizer)

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

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: nothing could be read, another number of names than of SMILES, or an unknown featurizer.
    """
    texts = [smiles] if isinstance(smiles, str) else list(smiles)
    called = [""] * len(texts) if names is None else [str(name) for name in names]
    if len(called) != len(texts):
        raise InputError(f"expected one name for each of {len(texts)} SMILES, got {len(called)}")
    return _build(list(zip(range(1, len(texts) + 1), texts, called, strict=True)), featurizer)


def read(
    path: str | PathLike[str],
    featurizer: str | nn.Module | Featurizer = "pyg",
    *,
    column: str | None = None,
    name_column: str | None = None,
) -> Molecules:
    """Read a file of SMILES as `from_smiles` does.

    Args:
        path: a `.csv` or `.tsv` file with a header, or a file with one SMILES a line, followed by a name if there is
            one (`.smi`), and possibly with the header `smiles`.
        featurizer: as in `from_smiles`.
        column: the column of a table with the SMILES; by default one that is called `smiles`, in any case.
        name_column: the column with the names; by default `name`, `id` or the like, if there is one.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: the file cannot be read, has no such column, or holds no molecule.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the SMILES in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"expected {path} as text in UTF-8, got other bytes at position {error.start}") from error
    if path.suffix.lower() in (".csv", ".tsv"):
        return _build(list(_rows_of_table(text, path, column, name_column)), featurizer)
    return _build(list(_rows_of_lines(text)), featurizer)


def _rows_of_lines(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        smiles, _, rest = re.sub(r"\s+", " ", line.strip()).partition(" ")
        if number == 1 and smiles.lower() in HEADERS:
            continue
        yield number, smiles, re.sub(r"^\|[^|]*\|\s*", "", rest)  # between bars stands an extension of SMILES


def _rows_of_table(
    text: str, path: Path, column: str | None, name_column: str | None
) -> Iterator[tuple[int, str, str]]:
    head = text.partition("\n")[0]
    delimiter = max("\t;,", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [title.strip() for title in next(reader, [])]
    smiles_at = _column(header, column, HEADERS)
    if smiles_at is None:
        raise InputError(
            f"expected a column {column or 'smiles'!r} in {path}, got {', '.join(map(repr, header)) or 'none'}; name it "
            "with column="
        )
    name_at = _column(header, name_column, NAMES)
    if name_column is not None and name_at is None:
        raise InputError(f"expected a column {name_column!r} in {path}, got {', '.join(map(repr, header))}")

    def cell(row: list[str], at: int | None) -> str:
        return row[at].strip() if at is not None and at < len(row) else ""

    before = reader.line_num
    for row in reader:
        yield before + 1, cell(row, smiles_at), cell(row, name_at)
        before = reader.line_num


def _column(header: list[str], wanted: str | None, known: Iterable[str]) -> int | None:
    if wanted is not None:
        return header.index(wanted) if wanted in header else None
    lower = [title.lower() for title in header]
    return next((lower.index(name) for name in known if name in lower), None)


def _build(rows: Sequence[tuple[int, object, str]], featurizer: str | nn.Module | Featurizer) -> Molecules:
    """Molecules from `(line, SMILES, name)`."""
    encoding, function = get(featurizer)
    canonical = chem().MolToSmiles
    graphs: list[Data] = []
    lines: list[int] = []
    problems: list[ReadingProblem] = []
    seen: dict[str, int] = {}
    for line, text, name in rows:
        smiles = text.strip() if isinstance(text, str) else text
        mol, reason = _parse(smiles)
        graph = None
        if mol is not None:
            try:
                graph = function(mol)
            except ValueError as error:
                reason = f"the {encoding} encodings have no code for one of its atoms or bonds ({error})"
        if mol is None or graph is None:
            problems.append(ReadingProblem(line, _text(smiles), f"left out: {reason}"))
            continue
        graph.smiles, graph.name = smiles, name
        graphs.append(graph)
        lines.append(line)
        notes = _notes(mol)
        first = seen.setdefault(canonical(_unmapped(mol)), line)
        if first != line:
            notes.append(f"the same molecule as on line {first}")
        if notes:
            problems.append(ReadingProblem(line, _text(smiles), f"kept: {'; '.join(notes)}"))
    left_out = [problem for problem in problems if problem.left_out]
    if not graphs:
        what = f"; {left_out[0]}" if left_out else ""
        raise InputError(f"expected at least one molecule, got {len(rows)} lines without any{what}")
    if left_out:
        some = "; ".join(map(str, left_out[:3])) + ("; …" if len(left_out) > 3 else "")
        warn(f"{len(left_out)} of {len(rows)} lines left out: {some}")
    return Molecules(graphs, lines, problems, encoding)


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
