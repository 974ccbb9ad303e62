"""Whether the instances of a batch see one another."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.core.engines.agreement import close, typical
from gnn_xai.core.engines.verification import Probe, inputs_under
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.graphs.made_up import beside_a_stranger
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Problem, WrittenInPlace
from gnn_xai.errors import InputError

LOUD = 8.0
"""By which the features of a stranger are multiplied."""


def mixes_graphs(problem: Problem, sample: Tensor, probe: Probe | None, out: Tensor, probed: Tensor | None) -> bool:
    """Whether graphs of a batch see one another, or cannot be batched: whether those of a sample give anything else beside
    other graphs.

    They run again in two parts, as they are and under the probe, each part beside a stranger: the largest apart from the
    others, so that what is filled up to the largest shows, too. Whatever is made of a whole batch (a largest value, a
    median, a count) is another one in one of the parts at least.

    Args:
        problem: model, data, task.
        sample: `[S]` graphs that ran as one batch.
        probe: a second input; `None` where the model does not run on it.
        out, probed: `[S, C]` what they gave, as they are and under the probe.
    """
    few = expansion.of_graphs(problem.graphs, sample, 0)
    size = few.num_nodes
    small = size < size.max()
    if not bool(small.any()):
        small[: len(small) // 2] = True
    expected, change = [out], None
    if probed is not None:
        expected, change = [out, probed], (out - probed).abs().amax(1)
    scale = typical(out)
    for part in (small, ~small):
        which = part.nonzero().flatten()
        ways = torch.arange(len(expected), device=out.device).repeat_interleave(len(which))
        if len(which) == 0:
            continue
        again = _beside_others(problem, few.replicas(which.repeat(len(expected))), ways, probe)
        want = torch.cat([one[which] for one in expected])
        allowed = None if change is None else change[which].repeat(len(expected))
        if again is None or again.shape != want.shape or not bool(close(again, want, scale, change=allowed).all()):
            return True
    return False


def same_apart(problem: Problem, graphs: ComputationGraphs, select: Tensor, out: Tensor) -> bool:
    """Whether the first of the graphs `[R]` of a batch, and one amid them, give beside a stranger what they gave in it,
    `[R, C]`.
    """
    few = torch.tensor([0, len(select) // 2], device=select.device).unique()
    again = _beside_others(problem, graphs.replicas(select[few]), torch.zeros_like(few), None)
    return again is not None and _same(again, out[few], typical(out))


def mixes_roots(problem: Problem, part: Replicas, expected: Tensor) -> bool:
    """Whether nodes, or pairs of nodes, see what else is in a batch: whether a stranger beside parts of the graph around
    them changes what they give. Where the model does not run on parts, nothing is known.

    Args:
        problem: model, data, task.
        part: what is around a sample of them, with few neighbours each.
        expected: `[S, C]` what the sample gives amid all of the data; a part that gives the same beside a stranger needs no
            run without one.
    """
    union, loud = beside_a_stranger(part)
    if loud is None:
        return False
    again = _outputs(problem, union, loud)
    if again is None or _same(again, expected):
        return False
    out = _outputs(problem, part)
    return out is not None and not _same(again, out)


def _same(one: Tensor, other: Tensor, scale: float = 0.0) -> bool:
    """Whether two outputs agree in every row."""
    return one.shape == other.shape and bool(close(one, other, scale).all())


def _beside_others(problem: Problem, replicas: Replicas, way: Tensor, probe: Probe | None) -> Tensor | None:
    """The output of replicas beside a stranger, or among themselves where the model does not run on one; `None` where it
    does not run on them, either, such as with a pooling of all graphs into one: if each fails alone, too, that run says why.
    """
    union, loud = beside_a_stranger(replicas)
    if loud is not None:
        out = _outputs(problem, union, loud, torch.cat([way, way.new_zeros(1)]), probe)
        if out is not None:
            return out[:-1]
    return _outputs(problem, replicas, None, way, probe)


def _outputs(
    problem: Problem,
    replicas: Replicas,
    loud: Tensor | None = None,
    way: Tensor | None = None,
    probe: Probe | None = None,
) -> Tensor | None:
    """The output of replicas, with the features of `loud` nodes multiplied; `None` where the model does not run on them."""
    try:
        with torch.no_grad(), MaskedModel(problem, replicas, record=False) as model:
            mask, x = (None, None) if way is None else inputs_under(model, way, probe)
            x = replicas.x if x is None else x
            if loud is not None and x is not None and x.is_floating_point():
                x = torch.where(loud.reshape(-1, *[1] * (x.dim() - 1)), LOUD * x, x)
            return model(edge_mask=mask, x=x)
    except WrittenInPlace:
        raise
    except (IndexError, InputError, MemoryError, RuntimeError, ValueError):  # it may take more memory than there is
        return None
