"""Attributes that a model does not read, which need not follow anything."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gnn_xai.core.engines.agreement import close
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.arguments import Bound
from gnn_xai.core.model.problem import Problem
from gnn_xai.errors import InputError


def without_unread(problem: Problem, replicas: Replicas, out: Tensor) -> Problem:
    """The problem without attributes that name nodes or edges, or of which nothing tells what belongs to which graph, as far
    as its model does not read them.

    Args:
        problem: model, data, task.
        replicas: what the model was run on.
        out: what it gave, `[R, C]`.

    Raises:
        InputError: if the model reads an attribute of several graphs of which nothing tells what belongs to which.
    """
    graphs = problem.graphs
    scattered = {key for key, value in graphs.other.items() if graphs.many and _holds_tensors(value)}
    scattered -= {*problem.readout.supplies}
    doubtful = scattered | {key for key, column in graphs.columns.items() if column.names}
    if not doubtful:
        return problem
    read = _read(problem, replicas, out, doubtful)
    if scattered & read:
        key = min(scattered & read)
        raise InputError(
            f"the model reads data.{key}, of which the data does not say what belongs to which graph; store it as a tensor "
            "with one row for each graph ([1, ...]) and batch the graphs with Batch.from_data_list, or pass forward= that "
            "builds it from the rest"
        )
    return replace(problem, graphs=_left(graphs, doubtful - read))


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))


def _left(graphs: Graphs, unread: Set[str]) -> Graphs:
    columns = {key: column for key, column in graphs.columns.items() if key not in unread}
    return replace(
        graphs, columns=columns, other={key: value for key, value in graphs.other.items() if key not in unread}
    )


def _read(problem: Problem, replicas: Replicas, out: Tensor, doubtful: Set[str]) -> Set[str]:
    """Those of some attributes that the model reads: without them it fails, or says something else."""
    graphs = problem.graphs
    if isinstance(problem.forward, Bound) and not problem.forward.takes_data:
        names = {key: graphs.columns[key].name if key in graphs.columns else key for key in doubtful}
        return {key for key, name in names.items() if {name, f"{name}_dict"} & problem.forward.attributes}
    if not _misses(problem, replicas, out, doubtful):
        return set()
    if len(doubtful) == 1:
        return doubtful
    return {key for key in doubtful if _misses(problem, replicas, out, {key})}


def _misses(problem: Problem, replicas: Replicas, out: Tensor, keys: Set[str]) -> bool:
    data, columns = replicas.data, problem.graphs.columns
    for key in keys:
        holder = columns[key].holder if key in columns else None
        del (data if holder is None else data[holder])[columns[key].name if key in columns else key]
    try:
        with torch.no_grad():
            again = problem.run(data, replicas.output_rows)
    except InputError:
        return True
    return again.shape != out.shape or not bool(close(again, out).all())
