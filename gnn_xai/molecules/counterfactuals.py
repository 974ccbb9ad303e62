"""Molecules that are almost the one explained, and for which the model says something else."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig, ModelMode

from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.graphs.source import as_graphs
from gnn_xai.core.model.arguments import as_task, bind, eager
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError
from gnn_xai.molecules import featurizers
from gnn_xai.molecules.featurizers import Featurizer
from gnn_xai.molecules.smiles import Molecules, as_mol, chem
from gnn_xai.molecules.tables import pandas

if TYPE_CHECKING:
    import pandas as pd
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

FRAGILE = ("[#7,#8,#16]-[F,Cl,Br,I]", "[#8]-[#8]", "[N+;!$([N+]=O)]-[O-]")
"""Bonds that an edit must not make, though RDKit allows them; those of a sulfonyl chloride of the input stay."""

BEAM = 20
"""Molecules of a round that the next one goes on from."""

MOST = 2000
"""Edits that are tried in a round after the first."""

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """One molecule for which the model says what was asked for.

    Attributes:
        smiles: the molecule, canonical.
        edits: what was changed, in words; atoms by symbol and number in the input molecule.
        prediction: `[C]` the model's output.
        value: its value for a regression, else the probability of the class that `Counterfactuals.of` names.
        similarity: Tanimoto similarity of Morgan fingerprints (radius 2, 2048 bits) to the input molecule.
    """

    smiles: str
    edits: tuple[str, ...]
    prediction: Tensor
    value: float
    similarity: float
    mol: Any = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Counterfactuals(Sequence[Counterfactual]):
    """What was found for one molecule: fewest edits first, then most similar.

    Attributes:
        smiles: the input molecule.
        prediction: `[C]` the model's output for it.
        value: as in `Counterfactual`.
        of: what `value` is of.
        goal: what was asked for, in words.
        found: what was found.
        tried: molecules that the model was run on.
    """

    smiles: str
    prediction: Tensor
    value: float
    of: str
    goal: str
    found: list[Counterfactual]
    tried: int

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, i: int) -> Counterfactual: ...
    @overload
    def __getitem__(self, i: slice) -> list[Counterfactual]: ...

    def __getitem__(self, i: int | slice) -> Counterfactual | list[Counterfactual]:
        return self.found[i]

    def __repr__(self) -> str:
        return f"Counterfactuals({self.smiles}, {self.goal}: {len(self)} found, {self.tried} molecules tried)"

    def table(self) -> pd.DataFrame:
        """One row each: `smiles`, `edits` (words), `number_of_edits`, `before` and `after` (`of`), `similarity`."""
        rows = [
            (each.smiles, "; ".join(each.edits), len(each.edits), self.value, each.value, each.similarity)
            for each in self.found
        ]
        columns = ["smiles", "edits", "number_of_edits", "before", "after", "similarity"]
        return pandas().DataFrame(rows, columns=columns)

    def draw(self, columns: int = 4, panel: tuple[int, int] = (260, 240)) -> str:
        """The input molecule and beside it what was found, as SVG; atoms that an edit touched are highlighted.

        Args:
            columns: panels in a row.
            panel: width and height of one, in pixels.
        """
        from rdkit.Chem import rdDepictor
        from rdkit.Chem.Draw import rdMolDraw2D
        from rdkit.Geometry import Point2D

        original = as_mol(self.smiles)
        rdDepictor.Compute2DCoords(original)
        place = original.GetConformer().GetPositions()
        mols, legends = [original], [f"{self.of}: {self.value:.3g}"]
        for each in self.found:
            mol = chem().Mol(each.mol)
            kept = {a.GetIdx(): a.GetIntProp(_ORIGIN) for a in mol.GetAtoms() if a.HasProp(_ORIGIN)}
            known = {index: Point2D(*place[origin][:2]) for index, origin in kept.items()}
            rdDepictor.Compute2DCoords(mol, coordMap=known)
            mols.append(mol)
            legends.append(f"{self.of}: {each.value:.3g}\n{'; '.join(each.edits)}")
        rows = -(-len(mols) // columns)
        drawer = rdMolDraw2D.MolDraw2DSVG(panel[0] * min(columns, len(mols)), panel[1] * rows, *panel)
        drawer.drawOptions().legendFontSize = 13
        changed = [[a.GetIdx() for a in mol.GetAtoms() if a.HasProp(_CHANGED)] for mol in mols]
        drawer.DrawMolecules(mols, legends=legends, highlightAtoms=changed)
        drawer.FinishDrawing()
        return drawer.GetDrawingText()

    def _repr_svg_(self) -> str:
        return self.draw()


def counterfactuals(
    model: nn.Module,
    molecules: str | Data | Sequence[str | Data],
    *,
    task: Literal["graph"] | ModelConfig | None = None,
    featurizer: str | nn.Module | Featurizer | None = None,
    target: int | None = None,
    change: float | None = None,
    max_edits: int = 3,
    limit: int = 10,
    forward: Forward | None = None,
    seed: int = 0,
) -> Counterfactuals | list[Counterfactuals]:
    """The smallest edits of a molecule that change what the model says about it.

    An edit removes an atom, breaks a bond of a ring, puts another element in the place of a neutral atom, or replaces a
    group of `SUBSTITUENTS` or a hydrogen by another. Every candidate is sanitised by RDKit and read again from its SMILES;
    it has the charge of the input, and no more radicals or separate parts, and no new bond of `FRAGILE`. Stereo at the
    atoms that an edit touches is left open.

    All single edits are tried. Where they do not yield `limit` molecules, those that came nearest to the goal (`BEAM` of
    them) are edited once more, up to `max_edits` times, of `MOST` edits each time, drawn by the seed. So single edits are
    complete; of several, some may be missed. Candidates of a round are run in batches.

    Args:
        model: of graphs, with one output row each; it comes back as it was.
        molecules: SMILES, or `Data` that carries `smiles`; or several of them.
        task: as in `gnn_xai.explain`.
        featurizer: what makes graphs of molecules, see `gnn_xai.molecules.from_smiles`; by default that of `Molecules`, or
            what the model reads.
        target: the class to reach, or for a regression the column that changes; `None` for any other class, and for the
            only column.
        change: for a regression, and needed there: the least change, with its sign (-1.0: lower by 1 or more).
        max_edits: most edits of one molecule.
        limit: most molecules that are returned.
        forward: as in `gnn_xai.explain`.
        seed: draws edits where there are too many.

    Returns:
        What was found, which may be nothing, for the molecule; a list for several.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: an argument is not what was expected, a SMILES cannot be read, a graph is not the featurizer's, or the
            model already says what is asked for.
    """
    for name, number in (("max_edits", max_edits), ("limit", limit)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"expected {name} as a positive integer, got {number!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"expected seed as an integer, got {seed!r}")
    if not isinstance(model, nn.Module):
        raise InputError(f"expected model as a torch.nn.Module, got {type(model).__name__}")
    one = isinstance(molecules, (str, Data))
    given: list[Any] = [molecules] if one else list(molecules)
    if not given:
        raise InputError("expected at least one molecule, got none")
    if featurizer is None:
        featurizer = molecules.featurizer if isinstance(molecules, Molecules) else model
    _, featurize = featurizers.get(featurizer)
    inputs = [_read(each, featurize, position) for position, each in enumerate(given)]
    config = as_task("graph" if task is None else task, inputs[0][2])
    if config.task_level.value != "graph":
        raise InputError("expected a graph-level task, got a node-level one; counterfactuals are of whole molecules")
    model = eager(model)
    parameter = next(model.parameters(), None)
    graphs = as_graphs([data for _, _, data in inputs], torch.device("cpu") if parameter is None else parameter.device)
    runner = _Runner(Problem(model, graphs, config, bind(model, graphs, forward)), featurize)
    with untouched(model), torch.no_grad():
        first = runner.outputs([data for _, _, data in inputs])
        runner.problem.check(first)
        found = [
            _search(runner, smiles, mol, out, _Goal.of(runner.problem, out, target, change), max_edits, limit, seed)
            for (smiles, mol, _), out in zip(inputs, first, strict=True)
        ]
    return found[0] if one else found


def _read(given: Any, featurize: Featurizer, position: int) -> tuple[str, Mol, Data]:
    """SMILES, molecule and graph of an input."""
    smiles = given if isinstance(given, str) else given.get("smiles") if isinstance(given, Data) else None
    if not isinstance(smiles, str):
        what = "a graph without smiles" if isinstance(given, Data) else type(given).__name__
        raise InputError(f"expected SMILES, or Data that carries smiles, got {what} at position {position}")
    mol = as_mol(smiles)
    try:
        data = featurize(mol)
    except ValueError as error:
        raise InputError(f"the featurizer has no code for an atom or bond of {smiles!r}: {error}") from error
    if isinstance(given, Data):
        theirs, ours = given.x, data.x
        if theirs is None or ours is None or not torch.equal(theirs.cpu().to(ours), ours):
            raise InputError(
                f"the features of {smiles!r} at position {position} are not those that the featurizer gives; say which one "
                "made them with featurizer="
            )
    return smiles, mol, data


class _Runner:
    """The model on molecules."""

    def __init__(self, problem: Problem, featurize: Featurizer) -> None:
        self.problem, self.featurize = problem, featurize

    def outputs(self, graphs: Sequence[Data]) -> Tensor:
        """The model's output for each graph, `[G, C]`."""
        parts = []
        for start in range(0, len(graphs), _BATCH):
            batch: Any = Batch.from_data_list(list(graphs[start : start + _BATCH]))
            parts.append(self.problem.run(batch.to(str(self.problem.graphs.device)), None))
        return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class _Goal:
    """What the output has to become.

    Attributes:
        problem: reads the output.
        target: the class to reach or to leave, or the column.
        leave: leave this class.
        start: value of the column for the input molecule.
        change: least change of it; `None` for a classification.
    """

    problem: Problem
    target: int
    leave: bool
    start: float
    change: float | None

    @classmethod
    def of(cls, problem: Problem, out: Tensor, target: Any, change: Any) -> _Goal:
        """What is asked for, checked against the output `[C]` for the input molecule."""
        regression = problem.task.mode == ModelMode.regression
        count = problem.num_targets(len(out))
        if target is not None and (isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < count):
            raise InputError(f"expected target as one of 0 to {count - 1}, got {target!r}")
        if regression:
            number = isinstance(change, (int, float)) and not isinstance(change, bool)
            if not number or change == 0 or not abs(change) < float("inf"):
                raise InputError(
                    f"expected change= for a regression, how far the value has to move, such as -1.0, got {change!r}"
                )
            column = int(problem.predicted(out.unsqueeze(0))) if target is None else target
            return cls(problem, column, False, float(out[column]), float(change))
        if change is not None:
            raise InputError(
                f"expected change= for a regression alone, got {change!r} for a classification; say target="
            )
        if problem.task.mode == ModelMode.binary_classification and len(out) > 1:
            raise InputError(
                "expected one output column of a binary classifier, got several; pass forward= that picks one"
            )
        said = int(problem.predicted(out.unsqueeze(0)))
        if target == said:
            raise InputError(
                f"expected target as a class that the model does not say, got {target}, which it says already"
            )
        return cls(problem, said if target is None else target, target is None, 0.0, None)

    @property
    def words(self) -> str:
        if self.change is not None:
            return f"output {self.target} {'higher' if self.change > 0 else 'lower'} by {abs(self.change):g} or more"
        return f"another class than {self.target}" if self.leave else f"class {self.target}"

    @property
    def of_what(self) -> str:
        return f"output {self.target}" if self.change is not None else f"p(class {self.target})"

    def reached(self, out: Tensor) -> Tensor:
        """Whether outputs `[R, C]` are what is asked for, `[R]` bool."""
        if self.change is not None:
            return self.progress(out) >= abs(self.change)
        if self.leave:
            return self.problem.predicted(out) != self.target
        return self.problem.predicted(out) == self.target

    def progress(self, out: Tensor) -> Tensor:
        """How near outputs are, `[R]`; higher is nearer."""
        score = self.problem.score(out, self._targets(out))
        if self.change is not None:
            return (score - self.start) * (1 if self.change > 0 else -1)
        return -score if self.leave else score

    def value(self, out: Tensor) -> Tensor:
        """The number that is shown for outputs, `[R]`."""
        return self.problem.score(out, self._targets(out), "prob")

    def _targets(self, out: Tensor) -> Tensor:
        return torch.full((len(out),), self.target, dtype=torch.int64, device=out.device)


@dataclass(frozen=True, eq=False)
class _Candidate:
    smiles: str
    mol: Any
    edits: tuple[str, ...]
    graph: Data


def _search(
    runner: _Runner, smiles: str, mol: Mol, out: Tensor, goal: _Goal, max_edits: int, limit: int, seed: int
) -> Counterfactuals:
    """Breadth first over single edits, then on from the best."""
    from rdkit.rdBase import BlockLogs

    start = chem().Mol(mol)
    for atom in start.GetAtoms():
        atom.SetIntProp(_ORIGIN, atom.GetIdx())
        atom.SetAtomMapNum(0)
    allowed = _Allowed.by(start)
    seen = {chem().MolToSmiles(start)}
    similar = _similarity(mol)
    edges: list[tuple[Any, tuple[str, ...]]] = [(start, ())]
    found: list[Counterfactual] = []
    tried = 0
    for depth in range(max_edits):
        candidates: list[_Candidate] = []
        with BlockLogs():
            todo = [
                ((*edits, words), make, f"{number} {' '.join(edits)} {words}")
                for number, (parent, edits) in enumerate(edges)
                for words, make in _edits(parent)
            ]
            for edits, make, _ in _some(todo, seed) if depth else todo:
                candidate = _candidate(make, edits, allowed, seen, runner.featurize)
                if candidate is not None:
                    candidates.append(candidate)
        if not candidates:
            break
        tried += len(candidates)
        outs = runner.outputs([candidate.graph for candidate in candidates])
        rows = zip(candidates, outs, goal.value(outs).tolist(), goal.reached(outs).tolist(), strict=True)
        found += [
            Counterfactual(each.smiles, each.edits, row.cpu(), value, similar(each.smiles), each.mol)
            for each, row, value, reached in rows
            if reached
        ]
        if len(found) >= limit:
            break
        progress = goal.progress(outs).masked_fill(goal.reached(outs), -torch.inf).tolist()
        best = sorted(range(len(candidates)), key=lambda i: (-progress[i], candidates[i].smiles))[:BEAM]
        edges = [(candidates[i].mol, candidates[i].edits) for i in best if progress[i] > -torch.inf]
    found.sort(key=lambda each: (len(each.edits), -each.similarity, each.smiles))
    value = float(goal.value(out.unsqueeze(0)))
    return Counterfactuals(smiles, out.cpu(), value, goal.of_what, goal.words, found[:limit], tried)


def _some(todo: list[Any], seed: int) -> list[Any]:
    """At most `MOST` of the edits, drawn by the seed and by what they are."""
    if len(todo) <= MOST:
        return todo
    keys = torch.tensor([zlib.crc32(key.encode()) for _, _, key in todo])
    chosen = torch.argsort(keyed_uniform(seed, keys))[:MOST].sort().values
    return [todo[i] for i in chosen.tolist()]


def _similarity(mol: Mol) -> Callable[[str], float]:
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
    from rdkit.DataStructs import TanimotoSimilarity

    generator = GetMorganGenerator(radius=2, fpSize=2048)
    own = generator.GetFingerprint(mol)
    return lambda smiles: float(TanimotoSimilarity(own, generator.GetFingerprint(as_mol(smiles))))


# What is allowed #########################################################################################################


@dataclass(frozen=True)
class _Allowed:
    """What a candidate must not have more of than the input molecule, and the charge that both have."""

    charge: int
    radicals: int
    parts: int
    fragile: tuple[int, ...]

    @classmethod
    def by(cls, mol: Mol) -> _Allowed:
        Chem = chem()
        return cls(
            Chem.GetFormalCharge(mol),
            sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()),
            len(Chem.GetMolFrags(mol)),
            tuple(len(mol.GetSubstructMatches(pattern)) for pattern in _fragile()),
        )

    def holds(self, mol: Mol) -> bool:
        other = _Allowed.by(mol)
        return (
            other.charge == self.charge
            and other.radicals <= self.radicals
            and other.parts <= self.parts
            and all(new <= old for new, old in zip(other.fragile, self.fragile, strict=True))
        )


@cache
def _fragile() -> tuple[Any, ...]:
    return tuple(chem().MolFromSmarts(smarts) for smarts in FRAGILE)


def _candidate(
    make: Callable[[], Any], edits: tuple[str, ...], allowed: _Allowed, seen: set[str], featurize: Featurizer
) -> _Candidate | None:
    """An edited molecule, if it is a valid one that was not seen before and that has a graph."""
    Chem = chem()
    mol = make()
    if mol.GetNumAtoms() == 0 or Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    if not allowed.holds(mol):
        return None
    smiles = Chem.MolToSmiles(mol)
    if smiles in seen:
        return None
    seen.add(smiles)
    again = Chem.MolFromSmiles(smiles)
    if again is None or again.GetNumAtoms() != mol.GetNumAtoms() or not allowed.holds(again):
        return None
    try:
        graph = featurize(again)
    except ValueError:  # no code for one of its atoms
        return None
    return _Candidate(smiles, mol.GetMol(), edits, graph)


# Edits ###################################################################################################################

_ORIGIN, _CHANGED = "_gnn_xai_origin", "_gnn_xai_changed"

Edit = tuple[str, Callable[[], Any]]


def _edits(mol: Mol) -> Iterator[Edit]:
    """Every single edit of a molecule, in words, and what makes it."""
    Chem = chem()
    base = Chem.Mol(mol)
    Chem.Kekulize(base, clearAromaticFlags=True)
    for atom in base.GetAtoms():
        index = atom.GetIdx()
        yield f"remove {_label(atom)}", lambda index=index: _without_atoms(base, {index})
        if atom.GetFormalCharge() or atom.GetNumRadicalElectrons():
            continue
        bonds = sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds())
        for symbol, (number, valence) in ELEMENTS.items():
            if atom.GetAtomicNum() != number and bonds <= valence:
                words = f"{_label(atom)} becomes {symbol}"
                yield words, lambda index=index, number=number: _with_element(base, index, number)
        if atom.GetTotalNumHs():
            for name, _ in SUBSTITUENTS:
                words = f"hydrogen at {_label(atom)} becomes {name}"
                yield words, lambda index=index, name=name: _with_group(base, index, set(), name)
    for bond in base.GetBonds():
        u, v = bond.GetBeginAtom(), bond.GetEndAtom()
        if bond.IsInRing():
            number = bond.GetIdx()
            yield f"break bond {_label(u)}–{_label(v)}", lambda number=number: _without_bond(base, number)
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
        yield f"remove {name} at {_label(stem)}", lambda: _without_atoms(base, side)
    for other, _ in SUBSTITUENTS:
        if other != name:
            yield (
                f"{name} at {_label(stem)} becomes {other}",
                lambda other=other: _with_group(base, at, side, other),
            )


def _label(atom: Any) -> str:
    """Symbol and number in the input molecule."""
    return f"{atom.GetSymbol()}{atom.GetIntProp(_ORIGIN)}" if atom.HasProp(_ORIGIN) else f"new {atom.GetSymbol()}"


def _freed(atom: Any) -> None:
    """Let hydrogens fill the valence of an atom that an edit touches; its stereo is left open."""
    atom.SetNoImplicit(False)
    atom.SetNumExplicitHs(0)
    atom.SetChiralTag(chem().ChiralType.CHI_UNSPECIFIED)
    atom.SetIntProp(_CHANGED, 1)


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
    found = {}
    for name, smiles in SUBSTITUENTS:
        mol = as_mol(smiles)
        Chem.Kekulize(mol, clearAromaticFlags=True)
        for atom in mol.GetAtoms():
            atom.SetIntProp(_CHANGED, 1)
            atom.SetNoImplicit(False)
            atom.SetNumRadicalElectrons(0)  # the place for the bond
        found[name] = mol, _marked(mol, set(range(mol.GetNumAtoms())), 0)
    return found


@cache
def _names() -> dict[str, str]:
    return {text: name for name, (_, text) in _groups().items()}


def _marked(mol: Mol, atoms: set[int], root: int) -> str:
    """A group as text, in which the atom that is bonded on is marked; without stereo and hydrogens."""
    symbols = [
        f"[{atom.GetSymbol()}{atom.GetFormalCharge():+d}{'*' * (atom.GetIdx() == root)}]" for atom in mol.GetAtoms()
    ]
    return chem().MolFragmentToSmiles(mol, sorted(atoms), atomSymbols=symbols, isomericSmiles=False)
