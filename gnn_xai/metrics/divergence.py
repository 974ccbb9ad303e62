"""Unfaithfulness: the change of the whole predicted distribution, not of one target alone."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.explain.config import ModelMode, ModelReturnType

from gnn_xai._checks import flag, is_integer, number
from gnn_xai.core.arrays.segments import segment_ranks, segment_sum
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.engines.scores import Scores, faithful
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.errors import InputError
from gnn_xai.metrics.evaluation import MaskLevel, Part, Rerun, at_level
from gnn_xai.metrics.prepared import takes_prepared
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import Top, check_top
from gnn_xai.results.explanations import Explanations


@takes_prepared
def unfaithfulness(
    model: nn.Module | Prepared,
    data: Any,
    explanations: Explanations,
    *,
    reverse: bool = False,
    scale: float = 1.0,
    top: Top | None = None,
    top_features: int | None = None,
    level: MaskLevel = "both",
    removal: Removal = "message",
    forward: Forward | None = None,
    batch_budget: int | Literal["auto"] = "auto",
) -> Result:
    """GEF, 1 − exp(−KL(y ‖ ŷ)), from the prediction y to that under the explanation ŷ (Agarwal et al. 2023), per instance.

    In [0, 1], lower is better, 0 where the explanation is enough for the whole prediction. KL(y ‖ ŷ) = Σ y log(y / ŷ) is the
    published direction. The code of GraphXAI and of PyG computes KL(ŷ ‖ y), which ``reverse=True`` gives; PyG averages the
    divergence over instances before the exponential, here every instance has its value.

    - multiclass: y and ŷ are the distributions over classes.
    - binary and multi-label: the sum of the divergences of all labels, each a Bernoulli distribution.
    - regression: the value is read as the mean of a normal distribution, which gives 1 − exp(−½ Σ ((ŷ − y) / scale)²), the
      same in both directions. It is not published.

    Args:
        model, data, explanations, top, level, removal, forward, batch_budget: as in `fidelity`.
        reverse: the divergence KL(ŷ ‖ y).
        scale: for a regression, the standard deviation of that distribution: a change that is worth noticing.
        top_features: in place of the node mask, keep whole features of each instance, the `top_features` whose masks sum to
            the most over its nodes, and drop the others (`top_k` of PyG).

    Raises:
        InputError: if the explanations are not of this data, or an argument is not as described.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explanations = gx.explain(karate.model, karate.data, "saliency", index=[0, 8, 31], progress=False)
    >>> unfaithfulness(karate.model, karate.data, explanations, top=4, level="edge")
    unfaithfulness 0.1046 ± 0.0021 (n=3, lower is better)
    """
    check_top(top, optional=True)
    number(scale, "scale", "(0, inf)")
    flag(reverse, "reverse")
    rerun = Rerun(model, data, explanations, forward, batch_budget, level, removal, hard=top is not None)
    if top_features is not None:
        _check_features(top_features, top, at_level(explanations, level))

    def measure(part: Part) -> Tensor:
        if top_features is None:
            kept, _ = part.outputs(top)
        else:
            kept, _ = faithful(part.session, part.graphs, _whole_features(part.masks, part.graphs, top_features))
        before, after = (kept, part.prediction) if reverse else (part.prediction, kept)
        return -torch.expm1(-divergence(part.session.problem, before, after, scale))

    return Result("unfaithfulness", rerun.measure(measure), "lower")


def divergence(problem: Problem, one: Tensor, other: Tensor, scale: float = 1.0) -> Tensor:
    """KL(one ‖ other) of the distributions that two outputs `[R, C]` stand for, `[R]`, in nats."""
    if problem.task.mode == ModelMode.regression:
        return ((one - other) / scale).square().sum(1) / 2
    p, q = (_log_probs(problem, out) for out in (one, other))
    return (p.exp() * (p - q)).sum(1).clamp(min=0)  # rounding can leave it below 0


def _log_probs(problem: Problem, out: Tensor) -> Tensor:
    """Log-probabilities of the classes, or of every label being on and being off, `[R, C]` or `[R, 2C]`."""
    if problem.task.mode == ModelMode.multiclass_classification:
        return problem.log_probs(out)
    if problem.task.return_type == ModelReturnType.probs:
        tiny = torch.finfo(out.dtype).tiny
        return torch.cat([out.clamp(min=tiny).log(), (1 - out).clamp(min=tiny).log()], dim=1)
    return torch.cat([nn.functional.logsigmoid(out), nn.functional.logsigmoid(-out)], dim=1)


def _check_features(count: int, top: Top | None, explanations: Explanations) -> None:
    mask, kind = explanations.node_mask, explanations.node_mask_type
    if mask is None or kind == "object":
        raise InputError(
            f"top_features= needs a mask of features, and {explanations.algorithm['name']} scored none; leave it out, or "
            "choose an algorithm with node_mask_type='attributes' or 'common_attributes'"
        )
    if top is not None:
        raise InputError(f"expected top= or top_features=, got both ({top!r} and {count!r})")
    if not is_integer(count, 1) or count > mask.size(1):
        raise InputError(f"expected top_features from 1 to the {mask.size(1)} features, got {count!r}")


def _whole_features(masks: Scores, graphs: ComputationGraphs, count: int) -> Scores:
    """Scores of 1 for the features of each instance whose scores sum to the most, and of 0 for its others."""
    assert masks.node is not None
    total, size = masks.node, len(graphs)
    if masks.node_type == "attributes":
        total = segment_sum(masks.node, graphs.node_owner, size)
    owner = torch.arange(size, device=total.device).repeat_interleave(total.size(1))
    kept = segment_ranks(total.reshape(-1), owner, size, descending=True).reshape(total.shape) < count
    return Scores(masks.edge, kept.to(total.dtype), "common_attributes")
