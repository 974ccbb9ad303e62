"""What a user hands in, read and checked: task, index, target, and how the model is called."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain.config import ModelConfig, ModelTaskLevel
from torch_geometric.nn import Sequential

from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.errors import InputError, warn

_WHOLE_DATA = ("data", "batch_data", "graph")  # names under which models take the data object itself


def as_task(task: str | dict[str, Any] | ModelConfig | None, data: Any) -> ModelConfig:
    """The task as a `ModelConfig`, or its settings as for PyG's `model_config`; a level alone means multiclass logits.

    Raises:
        InputError: for an unknown level, or one that is not supported.
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
        if task.task_level == ModelTaskLevel.edge:
            raise InputError(
                "expected a node- or graph-level task, got task_level='edge'; gnn_xai.pyg.algorithm explains edges inside "
                "torch_geometric.explain.Explainer"
            )
        return task
    if not isinstance(task, str) or task not in ("node", "graph"):
        raise InputError(f"expected task='node', task='graph' or a ModelConfig, got {task!r}")
    return ModelConfig("multiclass_classification", task, "raw")


@dataclass(frozen=True)
class Bound:
    """Calls a model with attributes of the data, found by the names of its arguments.

    Attributes:
        positional: attributes handed over by position.
        named: attribute by the name of the argument; an empty one stands for the data object itself.
    """

    positional: tuple[str, ...]
    named: dict[str, str]

    def __call__(self, model: nn.Module, data: Any) -> Any:
        """The model's output on a data object."""

        def value(source: str) -> Any:
            if source == "":
                return data
            return data.num_graphs if source == "batch_size" else getattr(data, source)

        return model(*map(value, self.positional), **{name: value(source) for name, source in self.named.items()})

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
        return f"({', '.join([*self.positional, *named])}) from the data"


def bind(model: nn.Module, graphs: Graphs, forward: Forward | None) -> Forward:
    """How to call the model on a data object: the user's callable, or the arguments of `model.forward` by name.

    Raises:
        InputError: naming the first argument without a default that the data lacks.
    """
    if forward is not None:
        if not callable(forward):
            raise InputError(f"expected forward= as a callable (model, data) -> output, got {type(forward).__name__}")
        return forward
    sliceable = {"edge_index", "adj_t", "batch", "ptr", "batch_size", "num_graphs", "num_nodes"}
    sliceable |= graphs.node_attrs.keys() | graphs.edge_attrs.keys() | graphs.graph_attrs.keys()
    sliceable |= graphs.columns.keys() | graphs.lists.keys()
    sliceable |= {f"{key}_{what}" for key in graphs.followed for what in ("batch", "ptr")}
    if graphs.types is not None:
        sliceable = {"batch_size", "num_graphs", *graphs.types.arguments, *graphs.graph_attrs}
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not named and isinstance(model, Sequential):  # forward(*args), with the names in its own description
        named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in model.signature.param_dict]
    if not named:
        raise InputError(
            f"{type(model).__name__}.forward takes *args, so its arguments cannot be bound by name; "
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
        elif f"{name}_dict" in sliceable:  # of what torch_geometric.nn.to_hetero makes
            source = f"{name}_dict"
        elif name in sliceable or (name in graphs.other and not graphs.many):
            source = "edge_index" if name in ("edge_index", "adj_t") else name
        elif name in graphs.other:
            raise InputError(
                f"argument {name!r} of {type(model).__name__}.forward is data.{name}, of which the data does not say what "
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
                f"{type(model).__name__}.forward needs argument {name!r}, which the data does not carry "
                f"(it has {', '.join(have)}); set data.{name}, or pass forward=lambda model, data: ..."
            )
        if parameter.kind == parameter.POSITIONAL_ONLY:
            positional.append(source)
        else:
            names[name] = source
    weighted_adjacency = "edge_weight" in graphs.edge_attrs and "edge_weight" not in _keys(graphs.source)
    if weighted_adjacency and "edge_weight" not in names and "" not in names.values():
        raise InputError(
            f"data.adj_t holds weights, but {type(model).__name__}.forward takes no edge_weight; "
            "add that argument, so that the weights can follow their edges"
        )

    return Bound(tuple(positional), names)


def problem_of(
    model: nn.Module, graphs: Graphs, task: ModelConfig, forward: Forward | None, node_type: str | None = None
) -> Problem:
    """A model bound to its data.

    Raises:
        InputError: if an argument of the model cannot be bound, or the node type is not one of the data's.
    """
    types, of_nodes = graphs.types, task.task_level == ModelTaskLevel.node
    if types is None and node_type is not None:
        raise InputError(
            f"expected node_type= for HeteroData alone, got {node_type!r} for a homogeneous graph; leave it out"
        )
    if types is not None and of_nodes:
        if node_type is None:
            raise InputError(
                f"expected node_type= for nodes of a heterogeneous graph, got none; say which of {', '.join(types.names)} "
                "the model predicts"
            )
        types.number(node_type)
    if not of_nodes and node_type is not None:
        raise InputError(
            f"expected node_type= for a node-level task alone, got {node_type!r} for one of graphs; leave it out"
        )
    return Problem(model, graphs, task, bind(model, graphs, forward), node_type=node_type)


def _keys(source: Any) -> list[str]:
    first = source if isinstance(source, Data) else next(iter(source), None)
    return list(first.keys()) if isinstance(first, Data) else []


def compiled(modules: Iterable[nn.Module]) -> bool:
    """Whether `torch.compile` took part in any of a model's modules."""
    return any(
        "_orig_mod" in module._modules or vars(module).get("_compiled_call_impl") is not None for module in modules
    )


def eager(model: nn.Module) -> nn.Module:
    """The module behind `torch.compile`, whose hooks a compiled graph would skip; others as they are.

    Compiled parts of a model, and modules compiled in place, are run eagerly by `untouched`.

    Raises:
        InputError: if the model, or a part of it, was made by `torch.jit`, which leaves no layers of PyG.
    """
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
    if target.is_floating_point() or target.dtype == torch.bool:
        raise InputError(f"expected integer targets, got {target.dtype}")
    count = problem.num_targets(out.size(1))
    if int(target.min()) < 0 or int(target.max()) >= count:
        wrong = int(target[(target < 0) | (target >= count)][0])
        raise InputError(f"target {wrong} is out of range; expected 0 to {count - 1}")
    return target.long()
