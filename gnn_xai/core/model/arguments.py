"""What a user hands in, read and checked: task, index, target, and how the model is called."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain.config import ModelConfig, ModelTaskLevel
from torch_geometric.nn import Sequential

from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import EdgeType, Named
from gnn_xai.core.model.edge_sets import with_edge_sets
from gnn_xai.core.model.index import PAIRS
from gnn_xai.core.model.pairs import readout_of
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.readout import Readout
from gnn_xai.core.model.restoring import compiled
from gnn_xai.errors import InputError, warn

_WHOLE_DATA = ("data", "batch_data", "graph")  # names under which models take the data object itself


def as_task(task: str | dict[str, Any] | ModelConfig | None, data: Any) -> ModelConfig:
    """The task as a `ModelConfig`, or its settings as for PyG's `model_config`; a level alone means multiclass logits, or
    for edges one logit: there is one or not.

    Raises:
        InputError: for an unknown level.
    """
    if task is None:
        task = "node" if isinstance(data, (Data, HeteroData)) and not isinstance(data, Batch) else "graph"
    if isinstance(task, dict):
        try:
            task = ModelConfig(**task)
        except (TypeError, ValueError) as error:
            raise InputError(
                "expected task=dict(mode=..., task_level=..., return_type=...) as torch_geometric.explain.ModelConfig "
                f"takes them, got {task!r} ({error})"
            ) from error
    if isinstance(task, ModelConfig):
        return task
    if not isinstance(task, str) or task not in ("node", "edge", "graph"):
        raise InputError(f"expected task='node', task='edge', task='graph' or a ModelConfig, got {task!r}")
    return ModelConfig("binary_classification" if task == "edge" else "multiclass_classification", task, "raw")


@dataclass(frozen=True)
class Bound:
    """Calls a model with attributes of the data, found by the names of its arguments.

    Attributes:
        positional: attributes handed over by position.
        named: attribute by the name of the argument; an empty one stands for the data object itself.
        decodes: these are arguments of `model.encode`, whose output `model.decode` gets with pairs of nodes.
    """

    positional: tuple[str, ...]
    named: dict[str, str]
    decodes: bool = False

    def __call__(self, model: Any, data: Any) -> Any:
        """The model's output on a data object."""

        def value(source: str) -> Any:
            if source == "":
                return data
            return data.num_graphs if source == "batch_size" else getattr(data, source)

        positional, named = map(value, self.positional), {name: value(source) for name, source in self.named.items()}
        return (
            model.decode(model.encode(*positional, **named), data[PAIRS])
            if self.decodes
            else model(*positional, **named)
        )

    @property
    def attributes(self) -> set[str]:
        """The attributes that it hands over; an empty one is the data object itself."""
        return {*self.positional, *self.named.values()}

    @property
    def takes_data(self) -> bool:
        """The model gets the data object itself, and may read all of it."""
        return "" in self.attributes

    @property
    def arguments(self) -> str:
        """The arguments in words."""
        renamed = {name: f"data.{source}" if source else "data" for name, source in self.named.items()}
        named = [name if name == source else f"{name}={renamed[name]}" for name, source in self.named.items()]
        arguments = f"({', '.join([*self.positional, *named])}) from the data"
        return f"encode{arguments} and decode(z, {PAIRS})" if self.decodes else arguments


def bind(model: nn.Module, graphs: Graphs, forward: Forward | None, readout: Readout) -> Forward:
    """How to call the model on a data object: the user's callable, or the arguments of `model.forward` by name; for pairs of
    nodes, those of `model.encode` where forward takes no pairs.

    Raises:
        InputError: naming the first argument without a default that the data lacks.
    """
    if forward is not None:
        if not callable(forward):
            raise InputError(f"expected forward= as a callable (model, data) -> output, got {type(forward).__name__}")
        return forward
    sliceable = {"edge_index", "adj_t", "batch", "ptr", "batch_size", "num_graphs", "num_nodes", *readout.supplies}
    sliceable |= graphs.node_attrs.keys() | graphs.edge_attrs.keys() | graphs.graph_attrs.keys()
    sliceable |= graphs.columns.keys() | graphs.lists.keys()
    sliceable |= {f"{key}_{what}" for key in graphs.followed for what in ("batch", "ptr")}
    if graphs.types is not None:
        sliceable = {"batch_size", "num_graphs", *graphs.types.arguments, *graphs.graph_attrs, *graphs.lists}
        sliceable |= {c.name if c.holder is None else f"{c.name}_dict" for c in graphs.columns.values()}
        sliceable |= {*readout.supplies}
    method, named = _signature(model, readout)
    of = f"{type(model).__name__}.{method}"
    if not named:
        raise InputError(
            f"{of} takes *args, so its arguments cannot be bound by name; "
            "pass forward=lambda model, data: model(data.x, data.edge_index)"
        )
    required = [parameter.name for parameter in named if parameter.default is parameter.empty]
    whole = (*_WHOLE_DATA, *(required if required == ["batch"] else ()))  # alone, it is the data and no vector
    names: dict[str, str] = {}
    positional: list[str] = []
    for parameter in named:
        name = parameter.name
        if name == "batch" and name in whole:
            source = ""
        elif name not in readout.supplies and f"{name}_dict" in sliceable:  # of what torch_geometric.nn.to_hetero makes
            source = f"{name}_dict"
        elif name in sliceable or (name in graphs.other and not graphs.many):
            source = "edge_index" if name in ("edge_index", "adj_t") else name
        elif name in graphs.other:
            raise InputError(
                f"argument {name!r} of {of} is data.{name}, of which the data does not say what "
                "belongs to which graph; store it as a tensor with one row for each graph ([1, ...]) and batch the graphs "
                "with Batch.from_data_list, or pass forward= that builds it from the rest"
            )
        elif parameter.default is not parameter.empty:
            continue
        elif name in whole:
            source = ""
        else:
            have = sorted(sliceable - {"ptr", "batch_size", "num_graphs", "adj_t"} | graphs.other.keys())
            raise InputError(
                f"{of} needs argument {name!r}, which the data does not carry "
                f"(it has {', '.join(have)}); set data.{name}, or pass forward=lambda model, data: ..."
            )
        if parameter.kind == parameter.POSITIONAL_ONLY:
            positional.append(source)
        else:
            names[name] = source
    weighted_adjacency = "edge_weight" in graphs.edge_attrs and "edge_weight" not in _keys(graphs.source)
    if weighted_adjacency and "edge_weight" not in names and "" not in names.values():
        raise InputError(
            f"data.adj_t holds weights, but {of} takes no edge_weight; "
            "add that argument, so that the weights can follow their edges"
        )
    return Bound(tuple(positional), names, method == "encode")


def _signature(model: nn.Module, readout: Readout) -> tuple[str, list[inspect.Parameter]]:
    """The method whose arguments are bound, `forward` or `encode`, and its named parameters.

    Raises:
        InputError: for pairs of nodes, if neither forward nor decode takes them.
    """

    def named(function: Any) -> list[inspect.Parameter]:
        parameters = inspect.signature(function).parameters.values()
        return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]

    forward = named(model.forward)
    if not forward and isinstance(model, Sequential):  # forward(*args), with the names in its own description
        forward = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in model.signature.param_dict]
    if not readout.supplies or {p.name for p in forward} & {*_WHOLE_DATA, *readout.supplies}:
        return "forward", forward
    asked: Any = model
    try:
        inspect.signature(asked.decode).bind(None, None)
        encode = named(asked.encode)
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"expected a model of pairs of nodes, with forward(x, edge_index, {PAIRS}), or with encode(x, edge_index) and "
            f"decode(z, {PAIRS}), got {type(model).__name__}; pass forward=lambda model, data: ... that uses data.{PAIRS}"
        ) from error
    encoder = getattr(model, "encoder", None)
    if not encode and isinstance(encoder, nn.Module):  # encode(*args), as that of PyG's GAE
        encode = named(encoder.forward)
    return "encode", encode


def problem_of(
    model: nn.Module,
    graphs: Graphs,
    task: ModelConfig,
    forward: Forward | None,
    of_type: str | EdgeType | None = None,
    exclude_pair: bool = False,
) -> Problem:
    """A model bound to its data.

    Raises:
        InputError: if an argument of the model cannot be bound, the node type or relation is not one of the data's, or there
            are no pairs to exclude.
    """
    of_type = output_type(graphs, task.task_level, of_type)
    readout = readout_of(task.task_level, of_type)
    if not isinstance(exclude_pair, bool):
        raise InputError(f"expected exclude_pair=True or False, got {exclude_pair!r}")
    if exclude_pair and readout.enumerable:
        raise InputError(
            f"expected exclude_pair for an edge-level task alone, got it for one of {readout.what}s; leave it out"
        )
    bound = bind(model, graphs, forward, readout)
    if not readout.supplies:
        graphs = with_edge_sets(model, graphs, bound, bound.attributes if isinstance(bound, Bound) else {""})
    return Problem(model, readout.apart(graphs), task, bound, of_type=of_type, exclude_pair=exclude_pair)


def output_type(graphs: Graphs, level: ModelTaskLevel, of_type: Any) -> str | EdgeType | None:
    """The node type, or for pairs the relation, that outputs belong to.

    Raises:
        InputError: if it is not one of the data's, or has no meaning for the task, or is needed and nothing tells it.
    """
    types, of = graphs.types, "node" if isinstance(of_type, str) else "edge"
    if types is None:
        if of_type is not None:
            raise InputError(
                f"expected {of}_type= for HeteroData alone, got {of_type!r} for a homogeneous graph; leave it out"
            )
        return None
    if level == ModelTaskLevel.graph:
        if of_type is not None:
            raise InputError(
                f"expected {of}_type= for a {of}-level task alone, got {of_type!r} for one of graphs; leave it out"
            )
        return None
    if level == ModelTaskLevel.node:
        if isinstance(of_type, str):
            types.number(of_type)
            return of_type
        if of_type is not None:
            raise InputError(f"expected node_type= for a node-level task, got edge_type={of_type!r}")
        if len(types.names) == 1 and isinstance(types.spelling, Named):
            return None
        raise InputError(
            f"expected node_type= for nodes of a heterogeneous graph, got none; say which of {', '.join(types.names)} "
            "the model predicts"
        )
    if isinstance(types.spelling, Named):
        raise InputError(
            "expected one edge set, or HeteroData, for an edge-level task, got data with several edge sets; put them into a "
            "HeteroData and say edge_type="
        )
    if isinstance(of_type, str):
        raise InputError(f"expected edge_type= for an edge-level task, got node_type={of_type!r}")
    labelled = _labelled(graphs)
    if of_type is not None:
        return types.relation(of_type, labelled)
    if len(labelled) != 1 and len(types.relations) > 1:
        raise InputError(
            "expected edge_type= for pairs of a heterogeneous graph, got none; say which of "
            f"{', '.join(map(str, types.relations))} the model predicts"
        )
    return [*labelled, *types.relations][0]


def _labelled(graphs: Graphs) -> tuple[Any, ...]:
    """The relations of which the data names pairs, with edges or without."""
    return tuple(
        column.holder for column in graphs.columns.values() if column.name == PAIRS and column.holder is not None
    )


def _keys(source: Any) -> list[str]:
    first = source if isinstance(source, Data) else next(iter(source), None)
    return list(first.keys()) if isinstance(first, Data) else []


def require_module(model: Any) -> None:
    """Raise an `InputError` unless a model is a module."""
    if not isinstance(model, nn.Module):
        raise InputError(f"expected model as a torch.nn.Module, got {type(model).__name__}")


def eager(model: Any) -> nn.Module:
    """The module behind `torch.compile`, whose hooks a compiled graph would skip; others as they are.

    Compiled parts of a model, and modules compiled in place, are run eagerly by `untouched`.

    Raises:
        InputError: if it is no module, or if the model, or a part of it, was made by `torch.jit`, which leaves no layers of
            PyG.
    """
    require_module(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"expected a model whose layers masks can reach, got a {type(module).__name__} that torch.jit.trace or "
                f"torch.jit.script made{f' as its part {name}' * bool(name)}; pass the Python module that it was made from "
                "(same weights: module.load_state_dict(scripted.state_dict()))"
            )
    if compiled(model.modules()):
        warn("the model is compiled; masks need PyG's hooks, so its eager module is explained instead (same weights)")
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def as_target(
    target: Shaped[Tensor, " instances"] | None, out: Float[Tensor, "instances columns"], problem: Problem
) -> Int[Tensor, " instances"]:
    """The class or column explained for each instance; the predicted one for `None`.

    Raises:
        InputError: if out of range, or not integers.
    """
    if target is None:
        return problem.predicted(out)
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InputError(f"expected integer targets, got {target.dtype}")
    count = problem.num_targets(out.size(1))
    if int(target.min()) < 0 or int(target.max()) >= count:
        wrong = int(target[(target < 0) | (target >= count)][0])
        raise InputError(f"target {wrong} is out of range; expected 0 to {count - 1}")
    return target.long()
