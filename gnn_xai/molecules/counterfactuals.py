"""Counterfactuals of molecules: the smallest edits for which the model predicts something else."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig, ModelMode

from gnn_xai._checks import integer, positive_integer
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.prepare import Prepared, refuse_what_was_prepared
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.arguments import as_task, eager, problem_of
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError
from gnn_xai.molecules import featurizers
from gnn_xai.molecules.edits import CHANGED, ORIGIN, Limits, single_edits
from gnn_xai.molecules.featurizers import Featurizer
from gnn_xai.molecules.smiles import Molecules, as_mol, chem
from gnn_xai.molecules.tables import pandas

if TYPE_CHECKING:
    import pandas as pd
    from rdkit.Chem import Mol

BEAM = 20
"""Molecules of a round that the next round edits."""

MOST = 2000
"""Edits that are tried in a round after the first."""

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A molecule for which the model predicts what was asked for.

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
    """The counterfactuals of one molecule: fewest edits first, then most similar.

    Attributes:
        smiles: the input molecule.
        prediction: `[C]` the model's output for it.
        value: as in `Counterfactual`.
        of: what `value` is of.
        goal: what was asked for, in words.
        items: the counterfactuals, which may be none.
        tried: molecules that the model was run on.
    """

    smiles: str
    prediction: Tensor
    value: float
    of: str
    goal: str
    items: list[Counterfactual]
    tried: int

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, i: int) -> Counterfactual: ...
    @overload
    def __getitem__(self, i: slice) -> list[Counterfactual]: ...

    def __getitem__(self, i: int | slice) -> Counterfactual | list[Counterfactual]:
        return self.items[i]

    def __repr__(self) -> str:
        return f"Counterfactuals({self.smiles}, {self.goal}: {len(self)} found, {self.tried} molecules tried)"

    def table(self) -> pd.DataFrame:
        """One row for each: `smiles`, `edits` (words), `number_of_edits`, `before` and `after` (`of`), `similarity`."""
        rows = [
            (item.smiles, "; ".join(item.edits), len(item.edits), self.value, item.value, item.similarity)
            for item in self.items
        ]
        columns = ["smiles", "edits", "number_of_edits", "before", "after", "similarity"]
        return pandas().DataFrame(rows, columns=columns)

    def draw(self, columns: int = 4, panel: tuple[int, int] = (260, 240)) -> str:
        """The input molecule and its counterfactuals, as SVG; atoms that an edit touched are highlighted.

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
        for item in self.items:
            mol = chem().Mol(item.mol)
            kept = {a.GetIdx(): a.GetIntProp(ORIGIN) for a in mol.GetAtoms() if a.HasProp(ORIGIN)}
            known = {index: Point2D(*place[origin][:2]) for index, origin in kept.items()}
            rdDepictor.Compute2DCoords(mol, coordMap=known)
            mols.append(mol)
            legends.append(f"{self.of}: {item.value:.3g}\n{'; '.join(item.edits)}")
        rows = -(-len(mols) // columns)
        drawer = rdMolDraw2D.MolDraw2DSVG(panel[0] * min(columns, len(mols)), panel[1] * rows, *panel)
        drawer.drawOptions().legendFontSize = 13
        changed = [[a.GetIdx() for a in mol.GetAtoms() if a.HasProp(CHANGED)] for mol in mols]
        drawer.DrawMolecules(mols, legends=legends, highlightAtoms=changed)
        drawer.FinishDrawing()
        return drawer.GetDrawingText()

    def _repr_svg_(self) -> str:
        return self.draw()


def counterfactuals(
    model: nn.Module | Prepared,
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
    """The smallest edits of a molecule that change what the model predicts for it.

    An edit removes an atom, breaks a bond of a ring, puts another element in the place of a neutral atom, or replaces a
    group of `SUBSTITUENTS` or a hydrogen by another. Every candidate is sanitised by RDKit and read again from its SMILES;
    it has the charge of the input, and no more radicals or separate parts, and no new bond of `FRAGILE`. Stereo at the
    atoms that an edit touches is left open.

    All single edits are tried. Where they do not yield `limit` molecules, those that came nearest to the goal (`BEAM` of
    them) are edited once more, up to `max_edits` times, of `MOST` edits each time, drawn by the seed. So single edits are
    complete; of several, some may be missed. Candidates of a round are run in batches.

    Args:
        model: of graphs, with one output row each; it comes back as it was. Or what `gnn_xai.prepare` returned, whose model,
            task and `forward` are used; its data is not, as edited molecules are other graphs.
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
        The counterfactuals of the molecule, which may be none; a list for several.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: an argument is not what was expected, a SMILES cannot be read, a graph is not the featurizer's, or the
            model already says what is asked for.
    """
    positive_integer(max_edits, "max_edits")
    positive_integer(limit, "limit")
    integer(seed, "seed")
    if isinstance(model, Prepared):
        refuse_what_was_prepared(task=task, forward=forward)
        model.check_unchanged()
        model, task, forward = model.problem.model, model.problem.task, model.forward
    if not isinstance(model, nn.Module):
        raise InputError(f"expected model as a torch.nn.Module, got {type(model).__name__}")
    one = isinstance(molecules, (str, Data))
    several: list[Any] = [molecules] if one else list(molecules)
    if not several:
        raise InputError("expected at least one molecule, got none")
    if featurizer is None:
        featurizer = molecules.featurizer if isinstance(molecules, Molecules) else model
    _, featurize = featurizers.get(featurizer)
    inputs = [_read(item, featurize, position) for position, item in enumerate(several)]
    config = as_task("graph" if task is None else task, inputs[0][2])
    if config.task_level.value != "graph":
        raise InputError("expected a graph-level task, got a node-level one; counterfactuals are of whole molecules")
    model = eager(model)
    parameter = next(model.parameters(), None)
    graphs = as_graphs([data for _, _, data in inputs], torch.device("cpu") if parameter is None else parameter.device)
    runner = _Runner(problem_of(model, graphs, config, forward), featurize)
    with untouched(model), torch.no_grad():
        first = runner.outputs([data for _, _, data in inputs])
        runner.problem.check(first)
        results = [
            _search(runner, smiles, mol, out, _Goal.of(runner.problem, out, target, change), max_edits, limit, seed)
            for (smiles, mol, _), out in zip(inputs, first, strict=True)
        ]
    return results[0] if one else results


def _read(item: Any, featurize: Featurizer, position: int) -> tuple[str, Mol, Data]:
    """SMILES, molecule and graph of an input."""
    smiles = item if isinstance(item, str) else item.get("smiles") if isinstance(item, Data) else None
    if not isinstance(smiles, str):
        what = "a graph without smiles" if isinstance(item, Data) else type(item).__name__
        raise InputError(f"expected SMILES, or Data that carries smiles, got {what} at position {position}")
    mol = as_mol(smiles)
    try:
        data = featurize(mol)
    except ValueError as error:
        raise InputError(f"the featurizer has no code for an atom or bond of {smiles!r}: {error}") from error
    if isinstance(item, Data):
        theirs, ours = item.x, data.x
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
        predicted = int(problem.predicted(out.unsqueeze(0)))
        if target == predicted:
            raise InputError(
                f"expected target as a class that the model does not say, got {target}, which it says already"
            )
        return cls(problem, predicted if target is None else target, target is None, 0.0, None)

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
        atom.SetIntProp(ORIGIN, atom.GetIdx())
        atom.SetAtomMapNum(0)
    limits = Limits.of(start)
    seen = {chem().MolToSmiles(start)}
    similar = _similarity(mol)
    edges: list[tuple[Any, tuple[str, ...]]] = [(start, ())]
    reached: list[Counterfactual] = []
    tried = 0
    for depth in range(max_edits):
        candidates: list[_Candidate] = []
        with BlockLogs():
            todo = [
                ((*edits, words), make, f"{number} {' '.join(edits)} {words}")
                for number, (parent, edits) in enumerate(edges)
                for words, make in single_edits(parent)
            ]
            for edits, make, _ in _some(todo, seed) if depth else todo:
                candidate = _candidate(make, edits, limits, seen, runner.featurize)
                if candidate is not None:
                    candidates.append(candidate)
        if not candidates:
            break
        tried += len(candidates)
        outs = runner.outputs([candidate.graph for candidate in candidates])
        rows = zip(candidates, outs, goal.value(outs).tolist(), goal.reached(outs).tolist(), strict=True)
        reached += [
            Counterfactual(item.smiles, item.edits, row.cpu(), value, similar(item.smiles), item.mol)
            for item, row, value, is_reached in rows
            if is_reached
        ]
        if len(reached) >= limit:
            break
        progress = goal.progress(outs).masked_fill(goal.reached(outs), -torch.inf).tolist()
        best = sorted(range(len(candidates)), key=lambda i: (-progress[i], candidates[i].smiles))[:BEAM]
        edges = [(candidates[i].mol, candidates[i].edits) for i in best if progress[i] > -torch.inf]
    reached.sort(key=lambda item: (len(item.edits), -item.similarity, item.smiles))
    value = float(goal.value(out.unsqueeze(0)))
    return Counterfactuals(smiles, out.cpu(), value, goal.of_what, goal.words, reached[:limit], tried)


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


def _candidate(
    make: Callable[[], Any], edits: tuple[str, ...], limits: Limits, seen: set[str], featurize: Featurizer
) -> _Candidate | None:
    """An edited molecule, if it is a valid one that was not seen before and that has a graph."""
    Chem = chem()
    mol = make()
    if mol.GetNumAtoms() == 0 or Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    if not limits.holds(mol):
        return None
    smiles = Chem.MolToSmiles(mol)
    if smiles in seen:
        return None
    seen.add(smiles)
    again = Chem.MolFromSmiles(smiles)
    if again is None or again.GetNumAtoms() != mol.GetNumAtoms() or not limits.holds(again):
        return None
    try:
        graph = featurize(again)
    except ValueError:  # no code for one of its atoms
        return None
    return _Candidate(smiles, mol.GetMol(), edits, graph)
