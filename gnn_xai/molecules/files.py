"""Files of molecules as chemists have them: SMILES, tables and SDF, compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from gnn_xai.errors import InputError
from gnn_xai.molecules.featurizers import Featurizer, get
from gnn_xai.molecules.records import Record, from_block
from gnn_xai.molecules.smiles import Molecules, build, chem
from gnn_xai.optional import need

if TYPE_CHECKING:
    from os import PathLike

HEADERS = {"smiles", "smile", "canonical_smiles", "isomeric_smiles"}
NAMES = ("name", "id", "title", "compound", "compound_name", "compound_id", "molecule", "mol_id", "chembl_id")

_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")  # 007 is a name


def read(
    path: str | PathLike[str],
    featurizer: str | nn.Module | Featurizer = "pyg",
    *,
    smiles_column: str | None = None,
    id_column: str | None = None,
    strip_salts: bool = False,
    neutralize: bool = False,
    hydrogens: bool | None = None,
) -> Molecules:
    """Read a file of molecules as `from_smiles` does.

    The suffix says what it holds; `.gz` after it says that it is compressed:

    - `.csv`, `.tsv`, `.parquet`, `.xlsx`: tables with a header.
    - `.sdf`, `.sd`, `.mol`: MDL molfiles with their properties. The SMILES of a molecule is RDKit's, and nodes are numbered
      as its atoms; `data.file_atom` is the number of each in the file, from 0, and `data.pos` `[atoms, 3]` holds
      coordinates where they are in space. Hydrogens are implicit, unless they are isotopes or `hydrogens=True`.
    - any other: one SMILES a line, followed by a name if there is one (`.smi`), and possibly with the header `smiles`.

    Further columns, and the properties of an SDF, are in `Molecules.properties`; columns of numbers are numbers.

    Args:
        path: the file.
        featurizer: as in `from_smiles`.
        smiles_column: the column of a table with the SMILES; by default one that is called `smiles`, in any case.
        id_column: the column, or property, with the names; by default `name`, `id` or the like, and the title line of an
            SDF.
        strip_salts, neutralize: as in `from_smiles`.
        hydrogens: for molfiles: hydrogens are nodes, after the other atoms, with their numbers and coordinates in the file;
            those that the file lacks are added. By default only for the featurizer `space`.

    Raises:
        GnnXaiError: RDKit is not installed, or what reads Parquet or Excel files.
        InputError: the file cannot be read, has no such column, or holds no molecule.
    """
    path = Path(path)
    content = _content(path)
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix.lower() != ".gz"), "").lower()
    if kind in (".sdf", ".sd", ".mol"):
        if smiles_column is not None:
            raise InputError(
                f"expected no smiles_column for {path}, whose molecules are molfiles, got {smiles_column!r}"
            )
        kept = get(featurizer)[0] == "space" if hydrogens is None else hydrogens
        if kept and (strip_salts or neutralize):
            raise InputError(
                "expected strip_salts and neutralize without hydrogens as nodes, got both; pass hydrogens=False, or "
                "change the file first"
            )
        records = list(_from_sdf(_text(content, path), path, id_column, kept))
    elif hydrogens is not None:
        raise InputError(f"expected hydrogens= for molfiles alone, got it for {path}; leave it out")
    elif kind in (".csv", ".tsv", ".parquet", ".xlsx"):
        rows = (
            _lines_of_text(_text(content, path)) if kind in (".csv", ".tsv") else _lines_of_frame(content, path, kind)
        )
        records = list(_from_table(rows, path, smiles_column, id_column))
    else:
        records = list(_from_lines(_text(content, path)))
    return build(_typed(records), featurizer, strip_salts=strip_salts, neutralize=neutralize)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    except gzip.BadGzipFile as error:
        raise InputError(
            f"expected {path} to be compressed by gzip, got other bytes; remove .gz from its name"
        ) from error
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read the SMILES in {path}: {getattr(error, 'strerror', None) or error}") from error


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"expected {path} as text in UTF-8, got other bytes at position {error.start}") from error


# Lines and tables ####################################################################################################

Row = tuple[int, Sequence[Any]]


def _from_lines(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.splitlines(), start=1):
        smiles, _, rest = re.sub(r"\s+", " ", line.strip()).partition(" ")
        if number == 1 and smiles.lower() in HEADERS:
            continue
        yield Record(number, smiles, re.sub(r"^\|[^|]*\|\s*", "", rest))  # between bars stands an extension of SMILES


def _lines_of_text(text: str) -> Iterator[Row]:
    """The rows of a table in text, the header first, each with its line."""
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max("\t;,", key=head.count))
    before = 0
    for row in reader:
        yield before + 1, [cell.strip() for cell in row]
        before = reader.line_num


def _lines_of_frame(content: bytes, path: Path, kind: str) -> Iterator[Row]:
    """The rows of a Parquet or Excel file, the header first; rows count from 1, as in a spreadsheet with its header."""
    pandas = need("pandas", "molecules", "tables")
    library = {".parquet": "pyarrow", ".xlsx": "openpyxl"}[kind]
    need(library, "research", f"{kind} files")
    try:
        if kind == ".parquet":
            frame = pandas.read_parquet(io.BytesIO(content), engine=library)
        else:
            frame = pandas.read_excel(io.BytesIO(content), engine=library, dtype=object)  # 007 stays a text
    except Exception as error:  # each library has its own
        reason = str(error).partition("\n")[0]
        raise InputError(f"expected {path} to be a {kind} file, but {library} cannot read it: {reason}") from error
    yield 1, list(map(str, frame.columns))
    yield from enumerate(frame.astype(object).where(frame.notna(), None).values.tolist(), start=2)


def _from_table(rows: Iterator[Row], path: Path, smiles_column: str | None, id_column: str | None) -> Iterator[Record]:
    _, header = next(rows, (1, []))
    smiles_at = _column(header, smiles_column, HEADERS)
    if smiles_at is None:
        raise InputError(
            f"expected a column {smiles_column or 'smiles'!r} in {path}, got {_quoted(header)}; name it with "
            "smiles_column="
        )
    id_at = _column(header, id_column, NAMES)
    if id_column is not None and id_at is None:
        raise InputError(f"expected a column {id_column!r} in {path}, got {_quoted(header)}")
    for line, row in rows:
        cells = [*row, *[None] * (len(header) - len(row))]
        properties = {
            title: cell
            for at, (title, cell) in enumerate(zip(header, cells, strict=False))
            if title and at not in (smiles_at, id_at)
        }
        smiles, name = cells[smiles_at], None if id_at is None else cells[id_at]
        yield Record(line, "" if smiles is None else smiles, "" if name is None else str(name), properties)


def _quoted(header: Sequence[str]) -> str:
    return ", ".join(map(repr, header)) or "none"


def _column(header: Sequence[str], wanted: str | None, known: Iterable[str]) -> int | None:
    if wanted is not None:
        return header.index(wanted) if wanted in header else None
    lower = [title.lower() for title in header]
    return next((lower.index(name) for name in known if name in lower), None)


# SDF #################################################################################################################


def _from_sdf(text: str, path: Path, id_column: str | None, hydrogens: bool) -> Iterator[Record]:
    from rdkit.rdBase import BlockLogs

    supplier = chem().SDMolSupplier()
    with BlockLogs():
        supplier.SetData(text.replace("\r\n", "\n"), removeHs=not hydrogens)
        for position in range(len(supplier)):
            block = supplier.GetItemText(position)
            record = from_block(position + 1, block, supplier[position], hydrogens)
            if id_column is not None and not record.problem:
                if id_column not in record.properties:
                    raise InputError(
                        f"expected a property {id_column!r} of molecule {position + 1} in {path}, got "
                        f"{_quoted(list(record.properties))}"
                    )
                rest = {key: value for key, value in record.properties.items() if key != id_column}
                record = record._replace(name=str(record.properties[id_column]), properties=rest)
            yield record


# Values ##############################################################################################################


def _typed(records: list[Record]) -> list[Record]:
    """The same with numbers for the texts of columns that hold nothing but numbers and gaps."""
    texts: dict[str, set[str]] = {}
    for record in records:
        for key, value in record.properties.items():
            texts.setdefault(key, set()).add(value.strip() if isinstance(value, str) else "" if value is None else "?")
    numbers = {key for key, values in texts.items() if values != {""} and all(map(_is_number, values))}

    def value(key: str, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        if not text.strip():
            return None
        if key not in numbers:
            return text
        return int(text) if text.strip().lstrip("+-").isdigit() else float(text)

    def typed(properties: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value(key, text) for key, text in properties.items()}

    return [record._replace(properties=typed(record.properties)) for record in records]


def _is_number(text: str) -> bool:
    return not text or _NUMBER.fullmatch(text) is not None
