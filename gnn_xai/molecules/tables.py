"""Scores of the atoms and bonds of a molecule, as arrays and as pandas tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from gnn_xai.errors import InputError
from gnn_xai.molecules.ordering import nodes_as_atoms, other_nodes
from gnn_xai.molecules.smiles import as_mol
from gnn_xai.optional import need
from gnn_xai.results.explanations import Explanation, Explanations

if TYPE_CHECKING:
    from pandas import DataFrame
    from rdkit.Chem import Mol
    from torch import Tensor


VIRTUAL = "virtual"
UNCERTAINTY = {"spread": "spread", "sign_agreement": "agreement"}  # of ensembles: columns, and names in extras


def atoms(explanation: Explanation) -> DataFrame:
    """The atoms of a molecule in the order of its nodes, which is RDKit's, one a row.

    Columns: `index`; `symbol`; `map_number`, the number in `[CH3:7]`, missing where there is none; and `attribution`:
    the atom's attribution, summed over its features; or its mask, which for a mask over features is that of the
    strongest. It is 0 where an atom cannot reach the output, and missing (NaN) throughout where the algorithm did not
    score atoms; a column `note` then says what it scored. Hydrogens that are nodes have rows of their own, and so have
    virtual nodes, with the symbol `virtual`.

    Further attributes of atoms that were scored (`columns=`) have columns of their names: the sum over their values or, for
    `pos`, the length of the vector, which no rotation changes. Where `x` was not scored, their sum is the attribution, and
    that of `pos` where nothing else was.

    Where fragments were removed as one (`FragmentAblation`, `Shapley`), an atom's attribution is its share of that
    of its fragment, of which all atoms have the same; two more columns are `part`, the number of the fragment, missing
    for none, and `part_value`, the attribution of the whole fragment. Ensembles (`gnn_xai.molecules.ensemble`) have the
    columns `spread` and `sign_agreement`.

    Args:
        explanation: of a graph that carries `smiles`. One that was loaded from disk gets its data with
            `dataclasses.replace(explanations, data=molecules)`.

    Raises:
        GnnXaiError: RDKit or pandas is not installed.
        InputError: the graph carries no SMILES, or not that of this explanation.
    """
    return tabulated(atom_columns(explanation))


def atom_columns(explanation: Explanation) -> dict[str, Any]:
    """The columns of `atoms`, an array or a list each."""
    mol = molecule(explanation)
    scores = node_scores(explanation)
    size = mol.GetNumAtoms()
    virtual = int(graph_of(explanation).num_nodes or size) - size
    rows = size + virtual
    columns: dict[str, Any] = {
        "index": np.arange(rows),
        "symbol": [atom.GetSymbol() for atom in mol.GetAtoms()] + [VIRTUAL] * virtual,
        "map_number": [atom.GetAtomMapNum() or None for atom in mol.GetAtoms()] + [None] * virtual,
        "attribution": np.full(rows, np.nan) if scores is None else scores,
    }
    if scores is None:
        bonds_alone = explanation.edge_mask is not None
        scored = "bonds alone; see the table of bonds" if bonds_alone else "features of the whole molecule"
        columns["note"] = [f"{explanation.source.algorithm['name']} scored {scored}"] * rows
    extras = explanation.extras
    number, value = extras.get("node_fragment"), extras.get("node_fragment_value")
    if number is not None and value is not None:
        parts = of_nodes(explanation, number, rows, none=-1)
        columns["part"] = [None if part < 0 else int(part) for part in parts]
        columns["part_value"] = np.where(parts < 0, np.nan, of_nodes(explanation, value, rows))
    for name, values in columns_by_node(explanation).items():
        columns[name] = of_nodes(explanation, values, rows)
    for column, extra in UNCERTAINTY.items():
        value = extras.get(f"node_{extra}")
        if value is not None:
            columns[column] = of_nodes(explanation, value, rows)
    return columns


def bonds(explanation: Explanation) -> DataFrame:
    """The bonds of a molecule in RDKit's order, one a row.

    Columns: `index`; `begin` and `end`, the indices of its atoms; `symbols`, such as `C–N`; `type` (`single`, `double`,
    `triple`, `aromatic`, ...); and `attribution`, of both directed edges together:

    - Where the two directions share one score, as `explain` has it for undirected graphs by default, it is that score:
      it already is the effect of both.
    - Where directions were scored apart (`undirected=False`), attributions are summed, as both edges make the bond, and
      masks are averaged, which keeps them in [0, 1].

    Edges that are no bonds, such as self loops, have no row. The score is 0 for a bond whose edges cannot carry a
    message to the output, and missing (NaN) throughout where the algorithm did not score edges; a column `note` says so.

    Args:
        explanation: as in `atoms`.

    Raises:
        GnnXaiError, InputError: as in `atoms`.
    """
    return tabulated(bond_columns(explanation))


def bond_columns(explanation: Explanation) -> dict[str, Any]:
    """The columns of `bonds`, an array or a list each."""
    mol = molecule(explanation)
    scores, ends = bond_scores(explanation, mol), bond_ends(mol)
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    columns: dict[str, Any] = {
        "index": np.arange(len(ends)),
        "begin": ends[:, 0],
        "end": ends[:, 1],
        "symbols": [f"{symbols[u]}–{symbols[v]}" for u, v in ends.tolist()],
        "type": [str(bond.GetBondType()).lower() for bond in mol.GetBonds()],
        "attribution": np.full(len(ends), np.nan) if scores is None else scores,
    }
    for column, extra in UNCERTAINTY.items():
        value = explanation.extras.get(f"edge_{extra}")
        if value is not None:
            columns[column] = _by_bond(explanation, mol, value, shared=True)
    if scores is None:
        columns["note"] = [f"{explanation.source.algorithm['name']} scored no bonds; see the table of atoms"] * len(
            ends
        )
    return columns


def tabulated(columns: Mapping[str, Any]) -> DataFrame:
    """Columns as a table; whole numbers of which some are missing stay whole."""
    whole = {key: pandas().array(columns[key], dtype="Int64") for key in ("map_number", "part") if key in columns}
    return pandas().DataFrame({**columns, **whole})


def stacked(parts: Sequence[tuple[Mapping[str, object], Mapping[str, Any]]]) -> DataFrame:
    """Tables of several molecules as one.

    Args:
        parts: of each molecule, what stands in all of its rows, and its columns, as `atom_columns` returns them.
    """
    sizes = [len(columns["index"]) for _, columns in parts]
    rows: dict[str, Any] = {
        key: list(chain.from_iterable(repeat(own[key], size) for (own, _), size in zip(parts, sizes, strict=True)))
        for key in parts[0][0]
    }
    for key in dict.fromkeys(key for _, columns in parts for key in columns):
        missing = "" if key == "note" else None if key == "part" else np.nan
        values = [columns.get(key, [missing] * size) for (_, columns), size in zip(parts, sizes, strict=True)]
        arrays = all(isinstance(value, np.ndarray) for value in values)
        rows[key] = np.concatenate(values) if arrays else list(chain.from_iterable(values))
    return tabulated(rows)


def of_nodes(explanation: Explanation, value: Tensor, size: int, none: float = 0.0) -> np.ndarray:
    """A number for each node that can reach the output, as float `[size]` over all nodes, `none` for others."""
    out = np.full(size, none, dtype=float)
    out[explanation.node_id.cpu().numpy()] = value.detach().cpu().numpy()
    return out


def bond_ends(mol: Mol) -> np.ndarray:
    """The two atoms of each bond, int64 `[bonds, 2]`."""
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    return np.array(ends, dtype=np.int64).reshape(-1, 2)


def name_of(explanation: Explanation) -> str:
    """The name of a molecule, or its number if it has none."""
    return str(getattr(graph_of(explanation), "name", "") or f"molecule {explanation.index}")


def graph_of(explanation: Explanation) -> Data:
    """The graph of a molecule that was explained, with its SMILES.

    Raises:
        InputError: the data is not at hand, is not that of the explanation, or carries no SMILES.
    """
    if not isinstance(explanation, Explanation):
        raise InputError(
            f"expected one explanation of a molecule, got {type(explanation).__name__}; take one by its position, such as "
            "explanations[0]"
        )
    data: Any = explanation.source.data
    if data is None:
        raise InputError(
            "expected an explanation that knows its molecule, got one loaded from disk; give it its data with "
            "dataclasses.replace(explanations, data=molecules)"
        )
    graph = data
    if isinstance(data, Batch) or not isinstance(data, Data):
        if explanation.source.task.task_level.value != "graph":
            raise InputError("expected one molecule where nodes are explained, got several; pass a single Data")
        graph = data[explanation.index]
    if not isinstance(getattr(graph, "smiles", None), str):
        raise InputError(
            "expected a graph that carries the SMILES of its molecule as data.smiles; gx.molecules.from_smiles makes such"
        )
    return graph


def molecule(explanation: Explanation) -> Mol:
    """The RDKit molecule of an explanation: atom i is node i, with explicit hydrogens where these are nodes; it lacks the
    virtual nodes, which follow.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: as `graph_of`, or the SMILES is that of another molecule.
    """
    graph = graph_of(explanation)
    mol = as_mol(graph.smiles)
    ordered = nodes_as_atoms(mol, graph)
    nodes = explanation.node_id
    if ordered is None or (len(nodes) and int(nodes.max()) >= int(graph.num_nodes or 0)):
        raise other_nodes(graph.smiles, mol, graph.num_nodes)
    return ordered


def node_scores(explanation: Explanation) -> np.ndarray | None:
    """One score a node of a molecule's graph, `[nodes]`; None if the algorithm did not score nodes."""
    scores = by_node(explanation)
    return None if scores is None else of_nodes(explanation, scores, int(graph_of(explanation).num_nodes or 0))


def by_node(explained: Explanation | Explanations) -> Tensor | None:
    """One score for each node that can reach the output: of its features, else of its further attributes; `None` if it has
    none.
    """
    source = explained.source if isinstance(explained, Explanation) else explained
    mask = explained.node_mask
    if mask is not None and source.node_mask_type != "common_attributes":
        return mask.sum(1) if source.signed else mask.amax(1)
    columns = columns_by_node(explained)
    others = [values for name, values in columns.items() if name != "pos"]
    if not others:
        return columns.get("pos")
    return torch.stack(others).sum(0) if source.signed else torch.stack(others).amax(0)


def columns_by_node(explained: Explanation | Explanations) -> dict[str, Tensor]:
    """Scores of further attributes of nodes by name, one for each node: sums of attributions, largest masks, and the length
    of the vector of `pos`.
    """
    source = explained.source if isinstance(explained, Explanation) else explained
    by_name = {}
    for name, scores in explained.columns.items():
        level, kind = source.column_types[name]
        if level == "node" and kind != "common_attributes":
            rows = scores.flatten(1)
            by_name[name] = rows.norm(dim=1) if name == "pos" else rows.sum(1) if source.signed else rows.amax(1)
    return by_name


def atom_scores(explanation: Explanation, mol: Mol) -> np.ndarray | None:
    """One score an atom, `[atoms]`; None if the algorithm did not score atoms."""
    scores = node_scores(explanation)
    return None if scores is None else scores[: mol.GetNumAtoms()]


def scored_molecule(explanation: Explanation) -> tuple[Mol, np.ndarray]:
    """A molecule and the scores of its atoms, `[atoms]`.

    Raises:
        InputError: as `molecule`, or the algorithm did not score atoms.
    """
    mol = molecule(explanation)
    scores = atom_scores(explanation, mol)
    if scores is None:
        raise unscored(explanation)
    return mol, scores


def unscored(explanation: Explanation) -> InputError:
    """The error for an explanation without scores of atoms."""
    return InputError(
        f"expected scores of atoms, got none by {explanation.source.algorithm['name']}; use an algorithm that scores nodes"
    )


def bond_scores(explanation: Explanation, mol: Mol) -> np.ndarray | None:
    """One score a bond, `[bonds]`, of both its directed edges; None if the algorithm did not score edges."""
    mask = explanation.edge_mask
    if mask is None:
        return None
    edges = [(u, v) for u, v in explanation.edge_index.t().tolist()]
    both_ways = set(edges) == {(v, u) for u, v in edges}
    shared = both_ways and explanation.source.provenance.get("undirected", True)
    return _by_bond(explanation, mol, mask, shared or not explanation.signed)


def _by_bond(explanation: Explanation, mol: Mol, value: Tensor, shared: bool) -> np.ndarray:
    """A number for each edge as one for each bond, `[bonds]`: the mean of both directions, or their sum."""
    number = {(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()): bond.GetIdx() for bond in mol.GetBonds()}
    number |= {(v, u): bond for (u, v), bond in number.items()}
    edges = explanation.edge_index.t().tolist()
    bond = np.array([number.get((u, v), mol.GetNumBonds()) for u, v in edges], dtype=np.int64)
    values = value.detach().cpu().numpy().astype(float)
    total = np.bincount(bond, values, minlength=mol.GetNumBonds() + 1)[: mol.GetNumBonds()]
    count = np.bincount(bond, minlength=mol.GetNumBonds() + 1)[: mol.GetNumBonds()]
    return total / np.maximum(count, 1) if shared else total


def pandas() -> ModuleType:
    """The package that tables are made with."""
    return need("pandas", "molecules", "tables")
