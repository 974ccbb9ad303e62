"""Integer attributes of the data: whether a model looks them up as codes, or takes them for numbers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gnn_xai.core.engines.agreement import close
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.inputs.embeddings import are_numbers, embeddings_of
from gnn_xai.core.model.problem import Problem


def with_integers(problem: Problem, name: str, replicas: Replicas, out: Tensor | None) -> Problem:
    """The problem with what its model does with an attribute, if that holds integers.

    Codes that embeddings alone look up get factors (`Graphs.factors`), and numbers become floating-point ones. What is
    neither stays as it is, and `Problem.embeddings` say why masks cannot multiply it.

    Args:
        problem: model, data, task.
        name: an attribute with a row for each node, edge or graph.
        replicas: what the model is run on.
        out: what it gives there, `[R, C]`; `None` where that is not known.
    """
    graphs, codes = problem.graphs, replicas.values(name)
    if codes.is_floating_point():
        return problem
    if out is None:
        with torch.no_grad():
            out = problem.run(replicas.data, replicas.output_rows)
    expected = out

    def run(values: Tensor) -> Tensor:
        return problem.run(replicas.with_values({name: values}), replicas.output_rows)

    def agrees(again: Tensor) -> bool:
        return again.shape == expected.shape and bool(close(again, expected).all())

    embeddings = embeddings_of(problem.model, codes, problem.dtype, run, agrees)
    if not embeddings.why:
        factors = torch.ones(graphs.values(name).shape, dtype=problem.dtype, device=graphs.device)
        graphs = replace(graphs, factors={**graphs.factors, name: factors})
    elif _exact(graphs.values(name), problem.dtype) and are_numbers(codes.to(problem.dtype), run, agrees):
        return replace(problem, graphs=graphs.with_values(name, graphs.values(name).to(problem.dtype)))
    return replace(problem, graphs=graphs, embeddings={**problem.embeddings, name: embeddings})


def _exact(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether integers are the same as floating-point numbers."""
    return bool((values.to(dtype).to(values.dtype) == values).all())
