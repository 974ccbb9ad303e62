"""Whether the graphs of a batch see one another."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.core.engines.agreement import close, typical
from gnn_xai.core.engines.verification import Probe, under_probe
from gnn_xai.core.graphs import expansion
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Problem, WrittenInPlace
from gnn_xai.errors import InputError


def mixes_graphs(problem: Problem, sample: Tensor, probe: Probe | None, out: Tensor, probed: Tensor | None) -> bool:
    """Whether graphs of a batch see one another, or cannot be batched: whether those of a sample give anything else where
    others are beside them.

    All but the largest run again, as they are and under the probe, so that what is filled up to the largest shows, too; all
    of them, where they are of one size.

    Args:
        problem: model, data, task.
        sample: `[S]` graphs that ran as one batch.
        probe: a second input; `None` where the model does not run on it.
        out, probed: `[S, C]` what they gave, as they are and under the probe.
    """
    few = expansion.of_graphs(problem.graphs, sample, 0)
    size = few.num_nodes
    if probe is None or probed is None:
        if len(sample) == 1:
            return False
        which = torch.argmin(size).reshape(1)
        way, expected, change = torch.zeros_like(which), out[which], None
    else:
        which = (size < size.max()).nonzero().flatten()
        which = which if len(which) else torch.arange(len(sample), device=sample.device)
        way = torch.arange(2, device=sample.device).repeat_interleave(len(which))
        expected, which = torch.cat([out[which], probed[which]]), which.repeat(2)
        change = (out - probed).abs().amax(1)[which]
    try:
        with torch.no_grad(), MaskedModel(problem, few.replicas(which), record=False) as model:
            again = under_probe(model, way, probe)
    except WrittenInPlace:
        raise
    except (IndexError, InputError, RuntimeError, ValueError):
        return True  # such as a pooling of all graphs into one: if each fails alone too, that run says why
    return again.shape != expected.shape or not bool(close(again, expected, typical(out), change=change).all())
