"""A prepared problem for an algorithm that scores attributes beside `x` and edge existence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data.data import BaseData

from gnn_xai.core.arrays.segments import as_rows
from gnn_xai.core.engines import choice
from gnn_xai.core.engines.integers import with_integers
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.engines.scored import NodeMaskType, Scored
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import KEYS, Graphs
from gnn_xai.core.graphs.spelling import Named
from gnn_xai.core.model.arguments import Bound
from gnn_xai.core.model.problem import Problem
from gnn_xai.errors import InputError, unknown

WHY = "attributes are scored that it may take for fixed"


def scoring(prepared: Prepared, columns: Mapping[str, NodeMaskType]) -> Prepared:
    """The same problem where masks multiply further attributes; its model runs in PyG's own way, as what is fused takes
    them for fixed.

    Args:
        prepared: the problem.
        columns: attributes, each with its type of mask; in a heterogeneous graph titles of those of one type or relation, or
            names, which mean all types and relations that hold them.

    Raises:
        InputError: if the data has no such attribute, masks cannot multiply it, or the model does not read it.
    """
    if not columns:
        return prepared
    columns = _titled(prepared.problem.graphs, columns)
    key = tuple(columns.items())
    if key not in prepared._scoring:
        problem = prepared.problem
        for name in columns:
            problem = _with_flat(problem, name)
            _check(problem, name)
        if not all(problem.graphs.values(name).is_floating_point() for name in columns):
            problem = _with_integers(prepared, problem, columns)
        graphs, look = problem.graphs, replace(prepared.look, graphs=problem.graphs, plan=None)
        if look.neighborhoods is not None:
            look = replace(look, neighborhoods=replace(look.neighborhoods, graphs=graphs))
        chosen = prepared._chosen or replace(choice.choose(problem, look, prepared.batch_budget), why=WHY)
        scored = tuple(Scored(name, graphs.levels[name], kind) for name, kind in columns.items())
        prepared._scoring[key] = replace(
            prepared, problem=problem, look=look, columns=scored, _chosen=chosen, _kept={}, _scoring={}
        )
    return prepared._scoring[key]


def scorable(graphs: Graphs) -> list[str]:
    """The attributes that masks may multiply; those of types and relations by title."""
    if graphs.types is None:
        return sorted(graphs.levels.keys() - {"x", *KEYS})
    held = [title for title, held in graphs.types.held.items() if held.name not in ("x", *KEYS)]
    return sorted({*held, *graphs.graph_attrs})


def _titled(graphs: Graphs, columns: Mapping[str, NodeMaskType]) -> dict[str, NodeMaskType]:
    """The attributes to score, where a name alone stands for that of every type and relation which holds it; what is called
    by its title has the type of mask that is said there.
    """
    titled: dict[str, NodeMaskType] = {}
    known = set(scorable(graphs))
    for name, kind in columns.items():
        held = {} if graphs.types is None or name in known else graphs.types.held
        for title in [title for title, one in held.items() if one.name == name and title in known] or [name]:
            titled[title] = columns.get(title, kind)
    return titled


def _with_flat(problem: Problem, name: str) -> Problem:
    """The problem where an attribute of a type or relation is one of all nodes or edges, as masks have them."""
    types = problem.graphs.types
    if types is None or name not in types.held or name in types.flat:
        return problem
    return replace(problem, graphs=problem.graphs.with_flat(name))


def _check(problem: Problem, name: str) -> None:
    """Raise an `InputError` for what cannot be scored."""
    graphs, known = problem.graphs, scorable(problem.graphs)
    have = f"; it has {', '.join(known)}" if known else ""
    if name not in known:
        if name in graphs.levels:
            raise InputError(
                f"expected an attribute of numbers, got the ids data.{name} in columns=; leave it out{have}"
            )
        if name in _carried(graphs):
            raise InputError(
                f"expected an attribute with one row of numbers for each node, edge or graph in columns=, got data.{name}"
                f"{_kind(graphs, name)}, which no mask multiplies; leave it out{have}"
            )
        raise unknown("attribute of the data in columns=", name, known)
    values = graphs.values(name)
    if values.is_complex():
        raise InputError(f"expected real numbers in data.{name}, got {values.dtype}; leave it out of columns={have}")
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        rows = as_rows(~torch.isfinite(values)).any(1).nonzero().flatten()
        raise InputError(
            f"data.{name} holds NaN or infinite values in {len(rows)} of {len(values)} rows (first: row {int(rows[0])}); "
            "clean or impute them before explaining"
        )
    bound = problem.forward
    if isinstance(bound, Bound) and not bound.takes_data and _argument(graphs, name) not in bound.attributes:
        raise InputError(
            f"expected attributes that the model reads in columns=, got {name!r}, but {type(problem.model).__name__} is "
            f"called with {bound.arguments}; leave it out, or pass forward=lambda model, data: model(...) that hands it over"
        )


def _argument(graphs: Graphs, name: str) -> str:
    """The name under which a model asks for an attribute."""
    held = None if graphs.types is None else graphs.types.flat.get(name)
    if held is None or graphs.types is None or isinstance(graphs.types.spelling, Named):
        return name
    return f"{held.name}_dict"


def _carried(graphs: Graphs) -> set[str]:
    """The attributes of the user's data."""
    first = graphs.source if isinstance(graphs.source, BaseData) else next(iter(graphs.source), None)
    return {*graphs.columns, *graphs.lists, *graphs.other, *(first.keys() if isinstance(first, BaseData) else ())}


def _kind(graphs: Graphs, name: str) -> str:
    """What an attribute that cannot be scored holds, in words."""
    column: Any = graphs.columns.get(name)
    value: Any = graphs.lists.get(name, graphs.other.get(name)) if column is None else column.value
    if column is not None and column.counted:
        return " (ids)"
    if isinstance(value, list) and value:
        return f" ({type(value[0]).__name__} for each graph)"
    return f" (one tensor of shape {list(value.shape)})" if isinstance(value, Tensor) else ""


def _with_integers(prepared: Prepared, problem: Problem, columns: Mapping[str, NodeMaskType]) -> Problem:
    """The problem with what its model does with integer attributes.

    Raises:
        InputError: if it neither looks them up nor takes them for numbers.
    """
    for name in columns:
        graphs = problem.graphs
        problem = with_integers(problem, name, _some(prepared, graphs), None)
        if not problem.graphs.masked(name).is_floating_point():
            why = problem.embeddings[name].why
            raise InputError(
                f"expected floating-point data.{name} in columns=, integers that the model casts to such, or codes that "
                f"nn.Embedding modules alone look up; got {graphs.values(name).dtype} {why}, where a mask cannot multiply "
                "anything; leave it out of columns="
            )
    return problem


def _some(prepared: Prepared, graphs: Graphs) -> Replicas:
    """What the model is tried on: a sample of graphs, or the whole graph where the sample is read."""
    sample = prepared.look.sample
    if prepared.look.neighborhoods is not None:
        return expansion.everything(graphs, sample.reshape(len(sample), -1))
    sample = sample[:1] if prepared.look.mixes else sample
    return expansion.of_graphs(graphs, sample, 0).replicas(torch.arange(len(sample), device=sample.device))
