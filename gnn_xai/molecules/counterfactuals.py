"""Counterfactuals of molecules: the smallest edits for which the model predicts something else."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig, ModelMode

from gnn_xai._checks import integer, is_integer, is_number, positive_integer
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.prepare import Prepared, refuse_what_was_prepared
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.arguments import as_task, eager, problem_of
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError, warn
from gnn_xai.molecules import featurizers
from gnn_xai.molecules.edits import CHANGED, ORIGIN, Core, Limits, single_edits
from gnn_xai.molecules.featurizers import Featurizer
from gnn_xai.molecules.mutations import has_selfies, mutated, selfies
from gnn_xai.molecules.similarity import fingerprint, similarity_of
from gnn_xai.molecules.smiles import Molecules, as_mol, chem
from gnn_xai.molecules.tables import pandas
from gnn_xai.optional import need

if TYPE_CHECKING:
    import pandas as pd
    from rdkit.Chem import Mol

    from gnn_xai.molecules.drawing import Drawing

BEAM = 20
"""Molecules of a round that the next round edits."""

MOST = 2000
"""Edits that are tried in a round after the first, and as many of groups that were added."""

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
        mol: the molecule, whose atoms know their numbers in the input.
    """

    smiles: str
    edits: tuple[str, ...]
    prediction: Tensor
    value: float
    similarity: float
    mol: Any = field(repr=False)

    @cached_property
    def qed(self) -> float:
        """Drug-likeness in [0, 1] (Bickerton et al., Nature Chemistry 2012), by RDKit."""
        from rdkit.Chem.QED import qed

        return float(qed(as_mol(self.smiles)))

    @cached_property
    def synthetic_accessibility(self) -> float:
        """From 1, easy, to 10 (Ertl and Schuffenhauer, J. Cheminform. 2009), by RDKit's contribution `SA_Score`."""
        score = need("rdkit.Contrib.SA_Score.sascorer", "molecules", "synthetic accessibilities")
        return float(score.calculateScore(as_mol(self.smiles)))

    @cached_property
    def place(self) -> tuple[frozenset[int], str]:
        """Where the input was edited: atoms that were touched and are still there, and the Murcko scaffold of the result."""
        from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

        touched = (atom for atom in self.mol.GetAtoms() if atom.HasProp(CHANGED) and atom.HasProp(ORIGIN))
        return frozenset(atom.GetIntProp(ORIGIN) for atom in touched), MurckoScaffoldSmiles(self.smiles)


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
        """One row for each: `smiles`, `edits` (words), `number_of_edits`, `before` and `after` (`of`), `similarity`, `qed`,
        `synthetic_accessibility`; see `Counterfactual`.
        """
        rows = [
            (
                item.smiles,
                "; ".join(item.edits),
                len(item.edits),
                self.value,
                item.value,
                item.similarity,
                item.qed,
                item.synthetic_accessibility,
            )
            for item in self.items
        ]
        columns = [
            "smiles",
            "edits",
            "number_of_edits",
            "before",
            "after",
            "similarity",
            "qed",
            "synthetic_accessibility",
        ]
        return pandas().DataFrame(rows, columns=columns)

    def draw(self, columns: int = 4) -> Drawing:
        """The input molecule and its counterfactuals; atoms have their numbers in the input, and those that an edit touched
        or added are circled.

        Args:
            columns: molecules in a row.
        """
        from gnn_xai.molecules.canvas import Formula
        from gnn_xai.molecules.layout import aligned, laid_out
        from gnn_xai.molecules.panels import Panel, sheet_of

        original = laid_out(as_mol(self.smiles), numbers=True)
        panels = [Panel(Formula(original), "input", [f"{self.of} = {self.value:.3g}"])]
        for item in self.items:
            kept = {a.GetIdx(): a.GetIntProp(ORIGIN) for a in item.mol.GetAtoms() if a.HasProp(ORIGIN)}
            mol = aligned(item.mol, original, kept, {index: str(number) for index, number in kept.items()})
            changed = frozenset(atom.GetIdx() for atom in item.mol.GetAtoms() if atom.HasProp(CHANGED))
            lines = [*item.edits, f"similarity {item.similarity:.2f}"]
            panels.append(Panel(Formula(mol, mark=changed), f"{self.of} = {item.value:.3g}", lines))
        return sheet_of(panels, columns, title=f"{self.smiles} and {len(self)} counterfactuals: {self.goal}")

    def _repr_svg_(self) -> str:
        return self.draw().svg


@dataclass(frozen=True)
class _Wishes:
    """What counterfactuals have to be, beside reaching the goal; see `counterfactuals`."""

    max_edits: int
    limit: int
    seed: int
    open_rings: bool
    keep: str | None
    min_similarity: float
    min_qed: float | None
    max_synthetic_accessibility: float | None
    per_place: int | None
    mutations: int

    def __post_init__(self) -> None:
        positive_integer(self.max_edits, "max_edits")
        positive_integer(self.limit, "limit")
        integer(self.seed, "seed")
        if self.per_place is not None:
            positive_integer(self.per_place, "per_place")
        if not is_integer(self.mutations, 0):
            raise InputError(f"expected mutations as an integer from 0 on, got {self.mutations!r}")
        if self.mutations:
            selfies()
        for name, low, high in (
            ("min_similarity", 0, 1),
            ("min_qed", 0, 1),
            ("max_synthetic_accessibility", 1, 10),
        ):
            value = getattr(self, name)
            if value is not None and not is_number(value, f"[{low}, {high}]"):
                raise InputError(f"expected {name} from {low} to {high}, got {value!r}")

    def fulfilled(self, item: Counterfactual) -> bool:
        """Whether a molecule is similar, drug-like and accessible enough."""
        return (
            item.similarity >= self.min_similarity
            and (self.min_qed is None or item.qed >= self.min_qed)
            and (
                self.max_synthetic_accessibility is None
                or item.synthetic_accessibility <= self.max_synthetic_accessibility
            )
        )

    def chosen(self, items: list[Counterfactual]) -> list[Counterfactual]:
        """The best that are different enough, at most `limit`: fewest edits first, then most similar."""
        best = sorted(items, key=lambda item: (len(item.edits), -item.similarity, item.smiles))
        if self.per_place is None:
            return best[: self.limit]
        at: Counter[Any] = Counter()
        few = []
        for item in best:
            at[item.place] += 1
            few += [item] if at[item.place] <= self.per_place else []
        return few[: self.limit]


def counterfactuals(
    model: nn.Module | Prepared,
    molecules: str | Data | Sequence[str | Data],
    *,
    task: Literal["graph"] | ModelConfig | None = None,
    featurizer: str | nn.Module | Featurizer | None = None,
    target: int | None = None,
    change: float | None = None,
    both: bool = False,
    max_edits: int = 3,
    limit: int = 10,
    keep: str | None = None,
    open_rings: bool = False,
    min_similarity: float = 0.0,
    min_qed: float | None = None,
    max_synthetic_accessibility: float | None = None,
    per_place: int | None = None,
    mutations: int = 0,
    forward: Forward | None = None,
    seed: int = 0,
) -> Counterfactuals | list[Counterfactuals]:
    """The smallest edits of a molecule that change what the model predicts for it.

    An edit removes an atom, breaks a bond of a ring, puts another element in the place of a neutral atom, or replaces a
    group of `SUBSTITUENTS` or a hydrogen by another. Every candidate is sanitised by RDKit and read again from its SMILES;
    it has the charge of the input, no more radicals or separate parts, and nothing of `UNSTABLE` that the input does not
    have: no hemiaminals, aminals, chains of nitrogens or oxygens, and the like. Aromatic rings are not opened. Stereo at the
    atoms that an edit touches is left open.

    All single edits are tried. Where they do not yield `limit` molecules, those that came nearest to the goal (`BEAM` of
    them) are edited once more, and so is one molecule for each group that was added, at that group; up to `max_edits` times,
    of `MOST` edits each time, drawn by the seed. So single edits are complete; of several, some may be missed. Candidates of
    a round are run in batches.

    Args:
        model: of graphs, with one output row each; it comes back as it was. Or what `gnn_xai.prepare` returned, whose model,
            task and `forward` are used; its data is not, as edited molecules are other graphs.
        molecules: SMILES, or `Data` that carries `smiles`; or several of them.
        task: as in `gnn_xai.explain`.
        featurizer: what makes graphs of molecules, see `gnn_xai.molecules.from_smiles`; by default that of `Molecules`, or
            what the model reads.
        target: the class to reach, or for a regression the column that changes; `None` for any other class, and for the
            only column. Of several labels (a binary classification with several columns), the label to turn on or off.
        change: for a regression, and needed there: the least change, with its sign (-1.0: lower by 1 or more).
        both: for a regression: look for changes in both directions, up to `limit` of each.
        max_edits: most edits of one molecule.
        limit: most molecules that are returned.
        keep: a SMARTS, of which every match stays as it is, or `"scaffold"`, the Murcko scaffold; groups on it may change.
        open_rings: edits may open aromatic rings.
        min_similarity, min_qed, max_synthetic_accessibility: least similarity and drug-likeness, and most synthetic
            accessibility (1 is easy, 10 is hard) of what is returned, see `Counterfactual`.
        per_place: at most so many that touch the same atoms of the input and have the same scaffold.
        mutations: beside these edits, try so many random changes of one symbol of the SELFIES of each molecule that is
            edited, as STONED does (Nigam et al., Chemical Science 2021); they are checked and filtered as edits are, and may
            change the sizes of rings. Needs `selfies`.
        forward: as in `gnn_xai.explain`.
        seed: draws edits where there are too many.

    Returns:
        The counterfactuals of the molecule, which may be none; a list for several.

    Raises:
        GnnXaiError: RDKit is not installed, or `selfies` for mutations.
        InputError: an argument is not what was expected, a SMILES cannot be read, a graph is not the featurizer's, or the
            model already says what is asked for.
    """
    wishes = _Wishes(
        max_edits=max_edits,
        limit=limit,
        seed=seed,
        open_rings=open_rings,
        keep=keep,
        min_similarity=min_similarity,
        min_qed=min_qed,
        max_synthetic_accessibility=max_synthetic_accessibility,
        per_place=per_place,
        mutations=mutations,
    )
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
        featurizer = molecules.featurize if isinstance(molecules, Molecules) else model
    _, featurize = featurizers.get(featurizer)
    inputs = [_read(item, featurize, position) for position, item in enumerate(several)]
    config = as_task("graph" if task is None else task, inputs[0][2])
    if config.task_level.value != "graph":
        raise InputError("expected a graph-level task, got a node-level one; counterfactuals are of whole molecules")
    model = eager(model)
    parameter = next(model.parameters(), None)
    graphs = as_graphs([data for _, _, data in inputs], torch.device("cpu") if parameter is None else parameter.device)
    runner = _Runner(problem_of(model, graphs, config, forward), featurize)
    with untouched(model) as evaluating, evaluating, torch.no_grad():
        first = runner.outputs([data for _, _, data in inputs])
        runner.problem.check(first)
        results = [
            _merged(
                [
                    _search(runner, smiles, mol, out, goal, wishes)
                    for goal in _Goal.all_of(runner.problem, out, target, change, both)
                ]
            )
            for (smiles, mol, _), out in zip(inputs, first, strict=True)
        ]
    return results[0] if one else results


def _merged(directions: list[Counterfactuals]) -> Counterfactuals:
    """The counterfactuals of one molecule in one direction or in both."""
    if len(directions) == 1:
        return directions[0]
    one, other = directions
    items = [item for pair in zip_longest(one.items, other.items) for item in pair if item is not None]
    goal = f"{one.goal}, or {other.goal.partition(' ')[2].partition(' ')[2]}"
    return replace(one, goal=goal, items=items, tried=one.tried + other.tried)


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
        name = "x" if data.get("x") is not None else "z"
        theirs, ours = item.get(name), data.get(name)
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
        label: `target` is one label of several, to turn off (`leave`) or on.
    """

    problem: Problem
    target: int
    leave: bool
    start: float
    change: float | None
    label: bool = False

    @classmethod
    def all_of(cls, problem: Problem, out: Tensor, target: Any, change: Any, both: bool) -> list[_Goal]:
        """The goal, and the one in the other direction if both are wanted."""
        goal = cls.of(problem, out, target, change)
        if not both:
            return [goal]
        if goal.change is None:
            raise InputError("expected both=True for a regression alone, got it for a classification; leave it out")
        return [goal, replace(goal, change=-goal.change)]

    @classmethod
    def of(cls, problem: Problem, out: Tensor, target: Any, change: Any) -> _Goal:
        """What is asked for, checked against the output `[C]` for the input molecule."""
        regression = problem.task.mode == ModelMode.regression
        count = problem.num_targets(len(out))
        if target is not None and not (is_integer(target, 0) and target < count):
            raise InputError(f"expected target as one of 0 to {count - 1}, got {target!r}")
        if regression:
            if not is_number(change) or change == 0:
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
            if target is None:
                raise InputError(f"expected target as one of 0 to {count - 1}, the label to turn on or off, got None")
            on = bool(problem.label(out.unsqueeze(0), torch.tensor([target], device=out.device)))
            return cls(problem, target, on, 0.0, None, label=True)
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
        if self.label:
            return f"label {self.target} {'off' if self.leave else 'on'}"
        return f"another class than {self.target}" if self.leave else f"class {self.target}"

    @property
    def of_what(self) -> str:
        if self.change is not None:
            return f"output {self.target}"
        return f"p({'label' if self.label else 'class'} {self.target})"

    def reached(self, out: Tensor) -> Tensor:
        """Whether outputs `[R, C]` are what is asked for, `[R]` bool."""
        if self.change is not None:
            return self.progress(out) >= abs(self.change)
        if self.label:
            return self.problem.label(out, self._targets(out)) != self.leave
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


def _search(runner: _Runner, smiles: str, mol: Mol, out: Tensor, goal: _Goal, wishes: _Wishes) -> Counterfactuals:
    """Breadth first over single edits, then on from the best."""
    start = chem().Mol(mol)
    for atom in start.GetAtoms():
        atom.SetIntProp(ORIGIN, atom.GetIdx())
        atom.SetAtomMapNum(0)
    rules = _Rules(Limits.of(start), Core.of(start, wishes.keep, wishes.open_rings), {chem().MolToSmiles(start)})
    if wishes.mutations and not has_selfies(start):
        warn(f"{smiles} has no SELFIES, so it is edited without mutations")
    own = fingerprint(mol)
    edges = [_Edge(start, ())]
    reached: list[Counterfactual] = []
    tried = 0
    for depth in range(wishes.max_edits):
        candidates = _candidates(edges, rules, runner.featurize, wishes, every=depth == 0)
        if not candidates:
            break
        tried += len(candidates)
        outs = runner.outputs([candidate.graph for candidate in candidates])
        done = goal.reached(outs)
        rows = zip(candidates, outs, goal.value(outs).tolist(), done.tolist(), strict=True)
        items = (
            Counterfactual(
                item.smiles,
                item.edits,
                row.cpu(),
                value,
                similarity_of(own, fingerprint(as_mol(item.smiles))),
                item.mol,
            )
            for item, row, value, is_reached in rows
            if is_reached
        )
        reached += filter(wishes.fulfilled, items)
        if len(wishes.chosen(reached)) >= wishes.limit:
            break
        progress = goal.progress(outs).masked_fill(done, -torch.inf).tolist()
        order = sorted(range(len(candidates)), key=lambda i: (-progress[i], candidates[i].smiles))
        edges = _edges([candidates[i] for i in order if progress[i] > -torch.inf])
    value = float(goal.value(out.unsqueeze(0)))
    return Counterfactuals(smiles, out.cpu(), value, goal.of_what, goal.words, wishes.chosen(reached), tried)


@dataclass(frozen=True)
class _Rules:
    """What an edited molecule must keep, and the SMILES of those that were made."""

    limits: Limits
    core: Core
    seen: set[str]


class _Edge(NamedTuple):
    """A molecule to edit further; of one that has `grown` a group, only that group."""

    mol: Any
    edits: tuple[str, ...]
    grown: bool = False

    def single_edits(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """The edits, in words, and what makes them."""
        return (edit for edit in single_edits(self.mol) if not self.grown or edit[0].startswith("hydrogen at new"))


def _edges(candidates: list[_Candidate]) -> list[_Edge]:
    """The best molecules of a round, for any edits; and for each group the best that it was added to, since groups may have
    to be built up before they matter (a nitro group on a phenyl that was not there).
    """
    grown: dict[str, _Edge] = {}
    for candidate in candidates:
        hydrogen, _, group = candidate.edits[-1].partition(" becomes ")
        if hydrogen.startswith("hydrogen"):
            grown.setdefault(group, _Edge(candidate.mol, candidate.edits, grown=True))
    return [_Edge(best.mol, best.edits) for best in candidates[:BEAM]] + list(grown.values())


def _candidates(
    edges: list[_Edge], rules: _Rules, featurize: Featurizer, wishes: _Wishes, every: bool
) -> list[_Candidate]:
    """Molecules one edit further: by every edit or, of many, by some that the seed draws; and by mutations."""
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        todo = [
            ((*edge.edits, words), make, f"{number} {' '.join(edge.edits)} {words}", edge.grown)
            for number, edge in enumerate(edges)
            for words, make in edge.single_edits()
        ]
        free, grown = [item for item in todo if not item[3]], [item for item in todo if item[3]]
        some = todo if every else [*_some(free, wishes.seed), *_some(grown, wishes.seed)]
        makers = [(edits, make) for edits, make, _, _ in some]
        makers += [
            ((*edge.edits, words), make)
            for edge in edges
            if not edge.grown
            for words, make in mutated(edge.mol, wishes.mutations, wishes.seed)
        ]
        made = (_candidate(make, edits, rules, featurize) for edits, make in makers)
        return [candidate for candidate in made if candidate is not None]


def _some(todo: list[Any], seed: int) -> list[Any]:
    """At most `MOST` of the edits, drawn by the seed and by what they are."""
    if len(todo) <= MOST:
        return todo
    keys = torch.tensor([zlib.crc32(key.encode()) for _, _, key, _ in todo])
    chosen = torch.argsort(keyed_uniform(seed, keys))[:MOST].sort().values
    return [todo[i] for i in chosen.tolist()]


def _candidate(
    make: Callable[[], Any], edits: tuple[str, ...], rules: _Rules, featurize: Featurizer
) -> _Candidate | None:
    """An edited molecule, if it is a valid one that was not seen before and that has a graph."""
    Chem = chem()
    mol = make()
    if mol.GetNumAtoms() == 0 or Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    if not rules.core.is_in(mol):
        return None
    smiles = Chem.MolToSmiles(mol)
    if smiles in rules.seen:
        return None
    rules.seen.add(smiles)
    again = Chem.MolFromSmiles(smiles)
    if again is None or again.GetNumAtoms() != mol.GetNumAtoms() or not rules.limits.hold(again):
        return None
    try:
        graph = featurize(again)
    except ValueError:  # no code for one of its atoms
        return None
    return _Candidate(smiles, mol.GetMol(), edits, graph)
