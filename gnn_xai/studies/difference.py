"""Differences of molecules: which atoms make the model say something else for one than for another."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from torch import nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig

from gnn_xai._checks import is_number, positive_integer
from gnn_xai.algorithms import IntegratedGradients
from gnn_xai.algorithms.base import Attributing
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.molecules.canvas import Drawing, Formula
from gnn_xai.molecules.edits import group_name
from gnn_xai.molecules.featurizers import Featurizer
from gnn_xai.molecules.fragments import connected
from gnn_xai.molecules.layout import aligned, laid_out
from gnn_xai.molecules.panels import Panel, sheet_of
from gnn_xai.molecules.similarity import fingerprint, similarity_of
from gnn_xai.molecules.tables import atom_scores, bond_ends, bond_scores, graph_of, molecule, pandas
from gnn_xai.results.explanations import Explanation, Explanations
from gnn_xai.studies.subjects import explained_for_one_target, graphs_of
from gnn_xai.viz.color import Scale, signed_text

if TYPE_CHECKING:
    import pandas as pd
    from rdkit.Chem import Mol

SECONDS = 5  # for the search of the common substructure of two molecules
MATCHES = 2000  # ways to lay it over a symmetric molecule that are compared


@dataclass(frozen=True, eq=False, repr=False)
class Difference:
    """What makes the model's score for molecule `b` differ from that for molecule `a`.

    Changes add up: those of all atoms and `rest` make `b`'s score less `a`'s.

    Attributes:
        a, b: the two explanations.
        pairs: atoms of the maximum common substructure, as numbers in `a` and in `b`.
        score_a, score_b: the scores that are explained: values of a regression, else log-odds.
        similarity: Tanimoto similarity of Morgan fingerprints (radius 2, 2048 bits).
    """

    a: Explanation
    b: Explanation
    pairs: tuple[tuple[int, int], ...]
    score_a: float
    score_b: float
    similarity: float

    def __repr__(self) -> str:
        names = f"{self._name(self.a)} → {self._name(self.b)}"
        return f"Difference({names}, {signed_text(self.change, 3)}, {len(self.pairs)} atoms in common)"

    @property
    def change(self) -> float:
        """`score_b` − `score_a`."""
        return self.score_b - self.score_a

    @property
    def rest(self) -> float:
        """What no atom has: the difference of base values, such as that of inputs of zeros; and for algorithms whose scores
        do not add up, what they leave out.
        """
        return self.change - float(self.table()["change"].sum())

    @cached_property
    def _shares(self) -> tuple[np.ndarray, np.ndarray]:
        return _shares(self.a), _shares(self.b)

    def table(self) -> pd.DataFrame:
        """One row for each atom: `part` (`common`, `lost`: in `a` alone, `gained`: in `b` alone), `atom_a` and `atom_b` (its
        numbers, missing where there is none), `symbol`, `attribution_a`, `attribution_b`, `change` of the score.
        """
        of_a, of_b = self._shares
        symbols = [[atom.GetSymbol() for atom in molecule(e).GetAtoms()] for e in (self.a, self.b)]
        lost = sorted(set(range(len(of_a))) - {i for i, _ in self.pairs})
        gained = sorted(set(range(len(of_b))) - {j for _, j in self.pairs})
        rows = [("common", i, j, symbols[0][i], of_a[i], of_b[j]) for i, j in self.pairs]
        rows += [("lost", i, None, symbols[0][i], of_a[i], 0.0) for i in lost]
        rows += [("gained", None, j, symbols[1][j], 0.0, of_b[j]) for j in gained]
        columns = ["part", "atom_a", "atom_b", "symbol", "attribution_a", "attribution_b"]
        table = pandas().DataFrame(rows, columns=columns).astype({"atom_a": "Int64", "atom_b": "Int64"})
        table["change"] = table["attribution_b"] - table["attribution_a"]
        return table

    def parts(self) -> pd.DataFrame:
        """One row for each group of atoms that was lost or gained, one for all other atoms (`common`), and one for what no
        atom has (`rest`): `part`, `name`, `atoms` (numbers in `a` if lost, else in `b`), `change`. The changes add up to
        `change`.
        """
        return pandas().DataFrame(self._parts(), columns=["part", "name", "atoms", "change"])

    def _parts(self) -> list[tuple[str, str, tuple[int, ...], float]]:
        table = self.table()
        rows: list[tuple[str, str, tuple[int, ...], float]] = []
        for part, e, column in (("lost", self.a, "atom_a"), ("gained", self.b, "atom_b")):
            own = table[table["part"] == part].set_index(column)["change"]
            rows += [
                (part, name, atoms, float(own.loc[list(atoms)].sum()))
                for name, atoms in _groups(molecule(e), set(map(int, own.index)))
            ]
        common = table[table["part"] == "common"]
        rows.append(("common", "atoms", tuple(common["atom_b"].tolist()), float(common["change"].sum())))
        rows.append(("rest", "of no atom", (), self.rest))
        return rows

    def draw(self, *, limit: float | None = None) -> Drawing:
        """Both molecules side by side, aligned: on the left what was lost, on the right how every other atom changes the
        score. Orange atoms raise it, blue ones lower it; atoms that only one of the two has are circled.

        Args:
            limit: the end of the scale; by default the largest change of an atom.
        """
        return _side_by_side([self], limit, repr(self))

    def panels(self, scale: Scale) -> list[Panel]:
        """The two molecules of the picture, with words."""
        table = self.table()
        mols = molecule(self.a), molecule(self.b)
        left = laid_out(mols[0])
        right = aligned(mols[1], left, {j: i for i, j in self.pairs})
        lost, other = table[table["part"] == "lost"], table[table["part"] != "lost"]
        scores = np.zeros(mols[0].GetNumAtoms()), np.zeros(mols[1].GetNumAtoms())
        scores[0][lost["atom_a"].tolist()] = lost["change"]
        scores[1][other["atom_b"].tolist()] = other["change"]
        gained = table[table["part"] == "gained"]
        before = Formula(left, scores[0], mark=frozenset(lost["atom_a"].tolist()))
        after = Formula(right, scores[1], mark=frozenset(gained["atom_b"].tolist()))
        changed = f"score {self.score_b:.3g} ({signed_text(self.change, 3)}), similarity {self.similarity:.2f}"
        parts = [f"{part} {name}: {signed_text(change, 2)}" for part, name, _, change in self._parts()]
        return [
            Panel(before, self._name(self.a), [f"score {self.score_a:.3g}"], scale),
            Panel(after, self._name(self.b), [changed, *parts], scale),
        ]

    def _name(self, e: Explanation) -> str:
        graph = graph_of(e)
        return str(getattr(graph, "name", "") or graph.smiles)

    def _repr_svg_(self) -> str:
        return self.draw().svg


@dataclass(frozen=True, eq=False, repr=False)
class Differences(Sequence[Difference]):
    """Pairs of similar molecules, those with the largest difference first.

    Attributes:
        items: the pairs.
        candidates: how many pairs were similar enough.
    """

    items: list[Difference]
    candidates: int

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, i: int) -> Difference: ...
    @overload
    def __getitem__(self, i: slice) -> Differences: ...

    def __getitem__(self, i: int | slice) -> Difference | Differences:
        return Differences(self.items[i], self.candidates) if isinstance(i, slice) else self.items[i]

    def __repr__(self) -> str:
        return f"Differences({len(self)} of {self.candidates} pairs of similar molecules)"

    def table(self) -> pd.DataFrame:
        """One row for each pair: `a` and `b` (positions), `smiles_a`, `smiles_b`, `similarity`, `score_a`, `score_b`,
        `change`, `common` (the change of atoms that both have), `lost` and `gained` (in words), `rest`.
        """
        rows = []
        for item in self.items:
            parts = item._parts()
            words = {
                kind: "; ".join(f"{name} {change:+.2g}" for part, name, _, change in parts if part == kind)
                for kind in ("lost", "gained")
            }
            rows.append(
                {
                    "a": item.a.index,
                    "b": item.b.index,
                    "smiles_a": graph_of(item.a).smiles,
                    "smiles_b": graph_of(item.b).smiles,
                    "similarity": item.similarity,
                    "score_a": item.score_a,
                    "score_b": item.score_b,
                    "change": item.change,
                    "common": next(change for part, _, _, change in parts if part == "common"),
                    **words,
                    "rest": item.rest,
                }
            )
        return pandas().DataFrame(rows)

    def draw(self, *, pairs: int = 10) -> Drawing:
        """The first pairs below one another, on one scale; see `Difference.draw`."""
        positive_integer(pairs, "pairs")
        if not self.items:
            raise InputError("expected at least one pair to draw, got none")
        return _side_by_side(self.items[:pairs], None, repr(self))

    def _repr_svg_(self) -> str:
        return self.draw().svg


def difference(
    model: nn.Module,
    a: str | Data,
    b: str | Data,
    algorithm: str | Attributing | None = None,
    *,
    task: Literal["graph"] | ModelConfig | None = None,
    target: int | None = None,
    featurizer: str | nn.Module | Featurizer | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> Difference:
    """Explain why a model's output for molecule `b` differs from that for molecule `a`.

    The molecules are laid over each other by their maximum common substructure (RDKit's `rdFMCS`; elements, orders of bonds
    and whole rings have to agree). The change of a common atom is its attribution in `b` less that in `a`; an atom that `b`
    lacks takes its attribution with it, and one that `b` adds brings its own. Scores of bonds are shared by their atoms.

    Args:
        model: of graphs, with one output row each.
        a, b: SMILES, or graphs that carry `smiles`.
        algorithm: as in `gnn_xai.explain`, one with signed scores; by default `IntegratedGradients` of atoms alone, whose
            scores add up.
        task, forward, seed: as in `gnn_xai.explain`.
        target: the class or column; by default the only column of a regression, and class 1 of two.
        featurizer: as in `from_smiles`; by default what the model reads.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: a molecule cannot be read, `target` is missing where there are several, or scores have no sign.
    """
    graphs = graphs_of([a, b], model, featurizer)
    explanations, score = _explained(model, graphs, algorithm, task, target, forward, seed)
    return _difference(explanations[0], explanations[1], score[0], score[1])


def differences(
    model: nn.Module,
    molecules: Iterable[str | Data],
    algorithm: str | Attributing | None = None,
    *,
    similarity: float = 0.5,
    limit: int = 20,
    values: Sequence[float] | None = None,
    task: Literal["graph"] | ModelConfig | None = None,
    target: int | None = None,
    featurizer: str | nn.Module | Featurizer | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> Differences:
    """Activity cliffs: pairs of similar molecules whose outputs differ most, each with its `difference`.

    Args:
        model, algorithm, task, target, featurizer, forward, seed: as in `difference`.
        molecules: SMILES, or graphs that carry `smiles`.
        similarity: least Tanimoto similarity of a pair (Morgan fingerprints, radius 2, 2048 bits).
        limit: most pairs that are returned.
        values: measured values of the molecules, to look for pairs that differ there; by default the model's scores.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: as in `difference`, or `similarity`, `limit` or `values` is not what was expected.
    """
    if not is_number(similarity, "[0, 1]"):
        raise InputError(f"expected similarity from 0 to 1, got {similarity!r}")
    positive_integer(limit, "limit")
    graphs = graphs_of(molecules, model, featurizer)
    explanations, score = _explained(model, graphs, algorithm, task, target, forward, seed)
    measured = score if values is None else np.asarray(list(values), dtype=float)
    if len(measured) != len(graphs):
        raise InputError(f"expected one value for each of {len(graphs)} molecules, got {len(measured)}")
    best, count = _most_different(explanations, measured, float(similarity), limit)
    pairs = [(i, j) if measured[i] <= measured[j] else (j, i) for _, i, j in best]
    return Differences([_difference(explanations[i], explanations[j], score[i], score[j]) for i, j in pairs], count)


def _explained(
    model: nn.Module,
    graphs: Sequence[Data],
    algorithm: str | Attributing | None,
    task: ModelConfig | str | None,
    target: int | None,
    forward: Forward | None,
    seed: int,
) -> tuple[Explanations, np.ndarray]:
    """Explanations of all molecules and their scores, `[B]`."""
    method = IntegratedGradients(edge_mask_type=None) if algorithm is None else algorithm
    explanations, score = explained_for_one_target(
        model, graphs, method, task=task, target=target, forward=forward, seed=seed
    )
    method = explanations.algorithm
    if not explanations.signed or method.get("absolute") or method.get("average") == "square":
        raise InputError(
            f"expected an algorithm whose scores have a sign, got {method['name']} without; use "
            "integrated_gradients, which add up"
        )
    return explanations, score.numpy().astype(float)


def _difference(a: Explanation, b: Explanation, score_a: float, score_b: float) -> Difference:
    mols = molecule(a), molecule(b)
    one, two = map(fingerprint, mols)
    return Difference(a, b, matched(*mols), float(score_a), float(score_b), similarity_of(one, two))


def _shares(e: Explanation) -> np.ndarray:
    """The attribution of each atom, with half of that of each of its bonds, `[atoms]`."""
    mol = molecule(e)
    of_atoms, of_bonds = atom_scores(e, mol), bond_scores(e, mol)
    if of_atoms is None and of_bonds is None:
        raise InputError(f"expected scores of atoms or bonds, got none by {e.source.algorithm['name']}")
    shares = np.zeros(mol.GetNumAtoms()) if of_atoms is None else of_atoms.astype(float)
    if of_bonds is not None:
        np.add.at(shares, bond_ends(mol), of_bonds[:, None] / 2)
    return shares


def _groups(mol: Mol, atoms: set[int]) -> list[tuple[str, tuple[int, ...]]]:
    """Connected groups of some atoms, each with its name, or SMILES where it has none."""
    from rdkit import Chem

    groups = [tuple(sorted(group)) for group in connected(mol, atoms)]
    return [(group_name(mol, set(group)) or Chem.MolFragmentToSmiles(mol, group), group) for group in groups]


def _side_by_side(pairs: Sequence[Difference], limit: float | None, title: str) -> Drawing:
    """Pairs below one another, on one scale: to `limit`, or to the largest change of an atom."""
    largest = max(float(pair.table()["change"].abs().max()) for pair in pairs)
    scale = Scale(signed=True, limit=limit or largest or 1.0)
    panels = [panel for pair in pairs for panel in pair.panels(scale)]
    return sheet_of(panels, 2, title=title, bars=[(scale, "")])


# Alike and different #################################################################################################


def matched(a: Mol, b: Mol) -> tuple[tuple[int, int], ...]:
    """Atoms of the maximum common substructure of two molecules, as numbers in both.

    Where a symmetric molecule can be laid over in several ways, the way in which most atoms keep their neighbours.
    """
    from rdkit import Chem
    from rdkit.Chem import rdFMCS

    common = rdFMCS.FindMCS(
        [Chem.Mol(a), Chem.Mol(b)],
        ringMatchesRingOnly=True,
        completeRingsOnly=True,
        matchChiralTag=False,
        timeout=SECONDS,
    )
    if not common.numAtoms:
        return ()
    pattern = Chem.MolFromSmarts(common.smartsString)
    of_a = a.GetSubstructMatches(pattern, uniquify=False, maxMatches=MATCHES)
    of_b = b.GetSubstructMatches(pattern, uniquify=False, maxMatches=MATCHES)

    def alike(match_a: tuple[int, ...], match_b: tuple[int, ...]) -> int:
        return sum(_around(a, i) == _around(b, j) for i, j in zip(match_a, match_b, strict=True))

    # Every way of one molecule with the first of the other, whichever has more ways.
    ways = [(each, of_b[0]) for each in of_a] if len(of_a) >= len(of_b) else [(of_a[0], each) for each in of_b]
    best_a, best_b = max(ways, key=lambda way: alike(*way))
    return tuple(sorted((int(i), int(j)) for i, j in zip(best_a, best_b, strict=True)))


def _around(mol: Mol, index: int) -> tuple[int, int, int]:
    atom = mol.GetAtomWithIdx(index)
    return atom.GetDegree(), atom.GetTotalNumHs(), sum(each.GetAtomicNum() for each in atom.GetNeighbors())


def _most_different(
    explanations: Explanations, values: np.ndarray, similarity: float, limit: int
) -> tuple[list[tuple[float, int, int]], int]:
    """Pairs of molecules that are at least as similar, with the largest differences of values first, and how many there
    are. Of the same molecule twice, no pair is made.
    """
    from rdkit.DataStructs import BulkTanimotoSimilarity

    prints = [fingerprint(molecule(e)) for e in explanations]
    smiles = [graph_of(e).smiles for e in explanations]
    best: list[tuple[float, int, int]] = []
    count = 0
    for i in range(1, len(prints)):
        close = np.asarray(BulkTanimotoSimilarity(prints[i], prints[:i])) >= similarity
        for j in np.flatnonzero(close).tolist():
            if smiles[i] == smiles[j] or np.isnan(values[i] - values[j]):
                continue
            count += 1
            entry = (abs(float(values[i] - values[j])), -j, -i)
            (heapq.heappush if len(best) < limit else heapq.heappushpop)(best, entry)
    return [(size, -j, -i) for size, j, i in sorted(best, reverse=True)], count
