"""Explanations of an ensemble: the mean over models and seeds, with the spread and the agreement of signs for each atom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig

from gnn_xai._checks import integer
from gnn_xai.algorithms.base import Attributing
from gnn_xai.api import explain, prepare
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.molecules.featurizers import Featurizer
from gnn_xai.results.explanations import Explanations
from gnn_xai.studies.subjects import graphs_of


def ensemble(
    models: Iterable[nn.Module],
    molecules: Iterable[str | Data],
    algorithm: str | Attributing = "integrated_gradients",
    *,
    task: Literal["graph"] | ModelConfig | None = None,
    target: int | None = None,
    seeds: Sequence[int] = (0,),
    featurizer: str | nn.Module | Featurizer | None = None,
    forward: Forward | None = None,
) -> Explanations:
    """Explain an ensemble of models, and say how sure each score is.

    Every model is explained for every seed; scores and predictions of the result are the means. Tables of atoms and
    bonds get the columns `spread` (standard deviation over members) and `sign_agreement` (share of members whose
    score has the sign of the mean), from `extras["node_spread"]`, `["node_agreement"]` and the same for edges;
    `extras["prediction_spread"]` `[B, C]` is that of the predictions. Pictures hatch atoms whose spread is larger
    than their mean. The number of members is `algorithm["members"]`.

    Args:
        models: the members, such as a `ModuleList`; one alone for several seeds.
        molecules: SMILES, or graphs that carry `smiles`.
        algorithm, task, forward: as in `gnn_xai.explain`.
        target: the class or column; by default, for each molecule, that of the mean prediction.
        seeds: of a stochastic algorithm; others give the same for each.
        featurizer: as in `gnn_xai.molecules.from_smiles`; by default what the first model reads.

    Raises:
        InputError: fewer than two members, no seeds, or as in `gnn_xai.explain`.
    """
    members = list(models)
    numbers = list(seeds)
    for seed in numbers:
        integer(seed, "seeds")
    if len(members) * len(numbers) < 2:
        raise InputError(
            f"expected at least two members, got {len(members)} models and {len(numbers)} seeds; pass more of either"
        )
    for position, member in enumerate(members):
        if not isinstance(member, nn.Module):
            raise InputError(
                f"expected models as torch.nn.Module each, got {type(member).__name__} at position {position}"
            )
    graphs = graphs_of(molecules, members[0], featurizer)
    prepared = [prepare(member, graphs, task="graph" if task is None else task, forward=forward) for member in members]
    targets = _targets(prepared) if target is None else target
    return _mean(
        [
            explain(member, algorithm, target=targets, seed=seed, progress=False)
            for member in prepared
            for seed in numbers
        ]
    )


def _targets(members: Sequence[Prepared]) -> Tensor:
    """What the mean of the predictions says, `[B]`."""
    predictions = [explain(member, "random", target=0, progress=False).prediction for member in members]
    return members[0].problem.predicted(torch.stack(predictions).mean(0))


def _mean(parts: Sequence[Explanations]) -> Explanations:
    """The mean of explanations of the same instances, with spreads and agreements as extras."""
    first = parts[0]
    columns: dict[str, Any] = {
        name: torch.stack([getattr(part, name) for part in parts]).mean(0)
        for name in ("prediction", "prediction_masked", "prediction_complement")
    }
    extras = {
        name: _stacked_mean(name, parts, value) for name, value in first.extras.items() if not name.endswith("_error")
    }
    extras["prediction_spread"] = torch.stack([part.prediction for part in parts]).std(0)
    for level in ("node", "edge"):
        masks = [getattr(part, f"{level}_mask") for part in parts]
        if masks[0] is None:
            continue
        stacked = torch.stack(masks)
        columns[f"{level}_mask"] = stacked.mean(0)
        if level == "node" and first.common:
            continue
        scores = stacked if stacked.dim() == 2 else stacked.sum(2) if first.signed else stacked.amax(2)
        extras[f"{level}_spread"] = scores.std(0)
        extras[f"{level}_agreement"] = (scores.sign() == scores.mean(0).sign()).to(scores.dtype).mean(0)
    return replace(first, **columns, extras=extras, algorithm={**first.algorithm, "members": len(parts)})


def _stacked_mean(name: str, parts: Sequence[Explanations], value: Tensor) -> Tensor:
    return torch.stack([part.extras[name] for part in parts]).mean(0) if value.is_floating_point() else value
