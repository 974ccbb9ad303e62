"""Explained molecules for other programs: SDF, tables, XSMILES and PyMOL."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnn_xai.errors import InputError, StorageError
from gnn_xai.molecules.records import placed, placed_in_space, renumbered
from gnn_xai.molecules.smiles import Molecules
from gnn_xai.molecules.tables import (
    atom_columns,
    atom_scores,
    bond_scores,
    graph_of,
    molecule,
    name_of,
    scored_molecule,
    stacked,
    unscored,
)
from gnn_xai.optional import need

if TYPE_CHECKING:
    from os import PathLike

    from pandas import DataFrame
    from rdkit.Chem import Mol

    from gnn_xai.results.explanations import Explanation

_TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|%\d\d|%\(\d+\)|.")
_ATOM = re.compile(r"\[.*|Br?|Cl?|[NOPSFIbcnops*]")


def write(explanations: Iterable[Explanation], path: str | PathLike[str]) -> Path:
    """Write explained molecules to one file, as its suffix says.

    - `.sdf`, `.sdf.gz`: molfiles with attributions as properties of atoms and bonds, in the lists `atom.dprop.attribution`
      and `bond.dprop.attribution` that RDKit reads, beside the molecule's own properties, `prediction` and `target`.
      Molecules from an SDF have their coordinates and numbers of atoms there; others are drawn in the plane.
    - `.csv`, `.parquet`: the table of atoms of all molecules: `molecule` (its number), `name`, `smiles`, `target`, then the
      columns of `gnn_xai.molecules.atoms`.
    - `.json`: for XSMILES (Heberle et al., J. Cheminform. 2023), one method, with a score for each token of the SMILES.
    - `.pml`: a script for PyMOL that shows molecules in space, coloured as in `draw` on one scale. It needs no other file.
      Molecules without coordinates get some by RDKit (ETKDG, always the same).

    Args:
        explanations: `Explanations` of molecules, or an iterable of single ones.
        path: where to write.

    Raises:
        GnnXaiError: RDKit, pandas or pyarrow is not installed.
        InputError: nothing to write, an unknown suffix, an explanation that scores no atoms (and for an SDF, no bonds), or
            data that carries no SMILES.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    kind = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if kind not in WRITERS:
        raise InputError(f"expected a path that ends in {', '.join(WRITERS)}, got {str(path)!r}")
    shown = list(explanations)
    if not shown:
        raise InputError("expected at least one explanation to write, got none")
    content = WRITERS[kind](shown)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; choose another path") from error
    return path


def atom_table(explanations: Iterable[Explanation]) -> DataFrame:
    """The atoms of several molecules as one table, see `write`."""
    parts = []
    for number, e in enumerate(explanations):
        own = {"molecule": number, "name": name_of(e), "smiles": graph_of(e).smiles, "target": e.target}
        parts.append((own, atom_columns(e)))
    return stacked(parts)


def _csv(shown: list[Explanation]) -> bytes:
    return atom_table(shown).to_csv(index=False, float_format="%.6g").encode()


def _parquet(shown: list[Explanation]) -> bytes:
    need("pyarrow", "research", "Parquet files")
    return atom_table(shown).to_parquet(index=False)


# SDF #################################################################################################################


def _sdf(shown: list[Explanation]) -> bytes:
    from rdkit import Chem

    return "".join(Chem.SDWriter.GetText(_annotated(e)) for e in shown).encode()


def _annotated(e: Explanation) -> Mol:
    """A molecule that carries its scores, with coordinates and numbers of atoms as in the file it is from."""
    from rdkit import Chem
    from rdkit.Chem.rdDepictor import Compute2DCoords

    graph, mol = graph_of(e), molecule(e)
    if not placed(mol, graph):
        Compute2DCoords(mol)
    scores = {"Atom": (mol.GetAtoms(), atom_scores(e, mol)), "Bond": (mol.GetBonds(), bond_scores(e, mol))}
    if all(values is None for _, values in scores.values()):
        raise unscored(e)
    for elements, values in scores.values():
        for element, value in zip(elements, () if values is None else values, strict=values is not None):
            element.SetDoubleProp("attribution", float(f"{value:.6g}"))
    file_atom = graph.get("file_atom")
    if file_atom is not None:
        mol = Chem.RenumberAtoms(mol, np.argsort(file_atom.cpu().numpy()).tolist())
    own = {"prediction": _numbers(e), "target": e.target}
    kept = {f"{key} (file)" if key in own else key: value for key, value in _properties(e).items()}
    for key, value in {**kept, **own}.items():
        mol.SetProp(key, "" if value is None else str(value))
    mol.SetProp("_Name", str(getattr(graph, "name", "") or ""))
    for kind, (_, values) in scores.items():
        if values is not None:
            getattr(Chem, f"Create{kind}DoublePropertyList")(mol, "attribution", lineSize=190)
    return mol


def _properties(e: Explanation) -> dict[str, Any]:
    """What the file that the molecule is from says of it."""
    data = e.source.data
    return data.properties[e.index] if isinstance(data, Molecules) else {}


def _numbers(e: Explanation) -> str:
    return " ".join(f"{value:.6g}" for value in e.prediction.flatten().tolist())


# XSMILES #############################################################################################################


def _xsmiles(shown: list[Explanation]) -> bytes:
    entries = []
    for e in shown:
        mol, values = scored_molecule(e)
        smiles = graph_of(e).smiles.split()[0]
        if sum(map(_is_atom, _TOKEN.findall(smiles))) != len(values):  # [H]O, whose hydrogen is no node
            smiles, _, order = renumbered(mol)
            values = values[order]
        tokens = _TOKEN.findall(smiles)
        score = (float(f"{value:.6g}") for value in values)
        method = {
            "name": e.source.algorithm["name"],
            "scores": [next(score) if _is_atom(token) else 0.0 for token in tokens],
            "attributes": {"target": e.target, "prediction": _numbers(e)},
        }
        known = {key: value for key, value in _properties(e).items() if isinstance(value, (str, int, float))}
        entries.append(
            {"string": smiles, "sequence": tokens, "methods": [method], "attributes": {"name": name_of(e), **known}}
        )
    return json.dumps(entries, ensure_ascii=False).encode()


def _is_atom(token: str) -> bool:
    return _ATOM.fullmatch(token) is not None


# PyMOL ###############################################################################################################


def _pymol(shown: list[Explanation]) -> bytes:
    from matplotlib.colors import to_rgb
    from rdkit import Chem

    from gnn_xai.molecules.canvas import BLUE, ORANGE

    parts, limit, lowest = [], 0.0, 0.0
    for number, e in enumerate(shown):
        mol, values = scored_molecule(e)
        mol = placed_in_space(mol, graph_of(e))
        limit, lowest = max(limit, float(np.abs(values).max())), min(lowest, float(values.min()))
        name = re.sub(r"\W+", "_", name_of(e)).strip("_") or "molecule"
        scores = ", ".join(f"{value:.5g}" for value in values)
        parts.append(f"show_molecule({f'{name}_{number}'!r}, {Chem.MolToMolBlock(mol)!r}, [{scores}])")
    low = -limit if lowest < 0 else 0.0
    colors = "blue_atom white_atom orange_atom" if lowest < 0 else "white_atom orange_atom"
    script = [
        "# Molecules coloured by the attribution of their atoms: in PyMOL, File > Run Script.",
        *(
            f"set_color {name}_atom, [{', '.join(f'{part:.3f}' for part in to_rgb(color))}]"
            for name, color in (("blue", BLUE), ("white", "white"), ("orange", ORANGE))
        ),
        "python",
        "from pymol import cmd",
        "def show_molecule(name, molfile, scores):",
        "    cmd.read_molstr(molfile, name)",
        "    cmd.alter(name, 'b = 0.0')",
        "    for number, score in enumerate(scores, start=1):",
        "        cmd.alter(f'{name} and id {number}', f'b = {score}')",
        *parts,
        "cmd.hide('everything')",
        "cmd.show('sticks')",
        "cmd.show('spheres')",
        "cmd.set('sphere_scale', 0.25)",
        f"cmd.spectrum('b', {colors!r}, 'all', {low:.5g}, {limit or 1.0:.5g})",
        "cmd.set('grid_mode', 1)",
        "cmd.zoom()",
        "python end",
        "",
    ]
    return "\n".join(script).encode()


def _compressed(shown: list[Explanation]) -> bytes:
    return gzip.compress(_sdf(shown))


WRITERS: dict[str, Callable[[list[Explanation]], bytes]] = {
    ".sdf": _sdf,
    ".sdf.gz": _compressed,
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _xsmiles,
    ".pml": _pymol,
}
