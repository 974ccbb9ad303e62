"""Models of several tasks: all of them explained in one call, and their fragments side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig

from gnn_xai.algorithms.base import Attributing
from gnn_xai.api import explain, prepare
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.molecules.featurizers import Featurizer
from gnn_xai.molecules.fragments import Kind
from gnn_xai.molecules.summary import summary
from gnn_xai.molecules.tables import pandas
from gnn_xai.results.explanations import Explanations
from gnn_xai.studies.subjects import graphs_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Tasks(Mapping[str, Explanations]):
    """The explanations of each task, by its name."""

    explanations: dict[str, Explanations]

    def __getitem__(self, name: str) -> Explanations:
        if name not in self.explanations:
            raise InputError(f"expected the name of a task, {', '.join(map(repr, self.explanations))}, got {name!r}")
        return self.explanations[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.explanations)

    def __len__(self) -> int:
        return len(self.explanations)

    def __repr__(self) -> str:
        several = next(iter(self.explanations.values()))
        return f"Tasks({', '.join(self.explanations)}; {len(several)} molecules, {several.algorithm['name']})"

    def table(self, kinds: Kind | Iterable[Kind] = ("functional_groups", "rings"), *, least: int = 3) -> pd.DataFrame:
        """Mean contribution of each fragment to each task: `kind`, `name`, `molecules` that have it, then a column for each
        task; the fragments that matter most to any task first.

        Args:
            kinds, least: as in `gnn_xai.molecules.summary`.
        """
        wanted: list[Kind] = [kinds] if isinstance(kinds, str) else list(kinds)  # type: ignore[list-item]
        tables = {
            name: summary(explanations, wanted, least=least, permutations=1).table().set_index(["kind", "name"])
            for name, explanations in self.explanations.items()
        }
        first = next(iter(tables.values()))
        means = pandas().DataFrame({name: table["mean"] for name, table in tables.items()})
        order = means.abs().max(axis=1).sort_values(ascending=False, kind="stable").index
        means = means.loc[order]
        means.insert(0, "molecules", first.loc[order, "molecules"])
        return means.reset_index()


def tasks(
    model: nn.Module,
    molecules: Iterable[str | Data],
    algorithm: str | Attributing = "integrated_gradients",
    *,
    names: Sequence[str] | None = None,
    task: Literal["graph"] | ModelConfig | None = None,
    featurizer: str | nn.Module | Featurizer | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> Tasks:
    """Explain all outputs of a model for all molecules in one call: the tasks of a multi-task model, or all classes.

    Labels are not looked at, so it does not matter which are missing.

    Args:
        model, algorithm, task, forward, seed: as in `gnn_xai.explain`.
        molecules: SMILES, or graphs that carry `smiles`.
        names: of the tasks or classes, in the order of output columns; by default `task 0`, `task 1`, ...
        featurizer: as in `gnn_xai.molecules.from_smiles`; by default what the model reads.

    Raises:
        InputError: another number of names than of outputs, names that repeat, or as in `gnn_xai.explain`.
    """
    graphs = graphs_of(molecules, model, featurizer)
    prepared = prepare(model, graphs, task="graph" if task is None else task, forward=forward)
    first = explain(prepared, "random", index=[0], target=0, progress=False)
    count = prepared.problem.num_targets(first.prediction.size(1))
    called = [f"task {number}" for number in range(count)] if names is None else [str(name) for name in names]
    if len(called) != count or len(set(called)) != count:
        raise InputError(f"expected {count} names, each another, one for each output of the model, got {called}")
    size = len(graphs)
    every = explain(
        prepared,
        algorithm,
        index=torch.arange(size).repeat(count),
        target=torch.arange(count).repeat_interleave(size),
        seed=seed,
        progress=False,
    )
    return Tasks({name: every[number * size : (number + 1) * size] for number, name in enumerate(called)})
