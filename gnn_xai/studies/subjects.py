"""Molecules of a study, and the model's score for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig, ModelMode

from gnn_xai.api import explain, prepare
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.molecules.featurizers import Featurizer
from gnn_xai.molecules.smiles import Molecules, as_mol, from_smiles
from gnn_xai.results.explanations import Explanations


def graphs_of(
    molecules: Iterable[str | Data], model: nn.Module, featurizer: str | nn.Module | Featurizer | None
) -> Sequence[Data]:
    """Molecules as graphs: SMILES are read, graphs that carry SMILES stay as they are.

    Raises:
        InputError: there is none, a SMILES cannot be read, or a graph carries none.
    """
    if isinstance(molecules, Molecules):
        return molecules
    items = list(molecules)
    if items and all(isinstance(item, str) for item in items):
        texts = [item for item in items if isinstance(item, str)]
        for text in texts:
            as_mol(text)
        return from_smiles(texts, model if featurizer is None else featurizer)
    graphs: list[Data] = []
    for position, item in enumerate(items):
        if not isinstance(item, Data) or not isinstance(item.get("smiles"), str):
            raise InputError(
                f"expected SMILES, or graphs that carry smiles, got {type(item).__name__} at position {position}; "
                "gx.molecules.from_smiles makes such graphs"
            )
        graphs.append(item)
    if not graphs:
        raise InputError("expected at least one molecule, got none")
    return graphs


def explained_for_one_target(
    model: nn.Module,
    graphs: Sequence[Data],
    algorithm: Any,
    *,
    task: ModelConfig | str | None,
    target: int | None,
    forward: Forward | None,
    seed: int,
) -> tuple[Explanations, Tensor]:
    """Explanations of one and the same output of all molecules, and its score for each, `[B]`, in the unit of attributions.

    Raises:
        InputError: `target` is missing where a model has several outputs, or two classes with probabilities of more.
    """
    prepared = prepare(model, graphs, task="graph" if task is None else task, forward=forward)  # type: ignore[arg-type]
    mode = prepared.problem.task.mode
    column = (0 if mode == ModelMode.regression else 1) if target is None else target
    explanations = explain(prepared, algorithm, target=column, seed=seed, progress=False)
    count = explanations.prediction.size(1)
    most = {ModelMode.regression: 1, ModelMode.multiclass_classification: 2, ModelMode.binary_classification: 1}[mode]
    if target is None and count > most:
        raise InputError(f"expected target= as one of 0 to {count - 1}, which output to explain, got None")
    return explanations, scores_of(prepared, explanations)


def scores_of(prepared: Prepared, explanations: Explanations) -> Tensor:
    """The score of each prediction, `[B]`, that attributions add up to: the value of a regression, else log-odds as the
    algorithm's `objective` says.
    """
    objective = explanations.algorithm.get("objective", "margin")
    with torch.no_grad():
        return prepared.problem.score(explanations.prediction, explanations.target, objective).cpu()
