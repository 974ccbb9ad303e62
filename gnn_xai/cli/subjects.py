"""The model and the data that the command line explains, and how to draw them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor, nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.explain.config import ModelConfig, ModelMode, ModelReturnType

from gnn_xai import datasets
from gnn_xai.core.graphs.spelling import EdgeType
from gnn_xai.core.model.index import as_index
from gnn_xai.errors import GnnXaiError, InputError, unknown
from gnn_xai.results.explanations import Explanation
from gnn_xai.results.ground_truth import GroundTruth


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with its data; the rest is None where nothing is known.

    Attributes:
        name: what to call it in tables.
        index: the outputs worth explaining, [B].
        feature_names, node_names: lists; by node type for `HeteroData`.
        node_type, edge_type: which nodes of `HeteroData` are explained, or pairs of which relation.
        featurizer: the encodings of molecules that the model reads, see `gnn_xai.molecules.featurizers`.
    """

    name: str
    model: nn.Module
    data: Any
    task: ModelConfig
    index: Tensor | None = None
    ground_truth: GroundTruth | None = None
    class_names: Sequence[str] | None = None
    feature_names: Any = None
    node_names: Any = None
    featurizer: str | None = None
    node_type: str | None = None
    edge_type: EdgeType | None = None

    @property
    def types(self) -> dict[str, Any]:
        """`node_type` and `edge_type`, as `gnn_xai.explain` takes them."""
        return {"node_type": self.node_type, "edge_type": self.edge_type}

    def labels(self, index: Any) -> Tensor | None:
        """The true classes or values of all outputs, where the data carry them as `y`; for pairs, the `edge_label` of those
        that `index` picks by position.
        """
        if self.task.task_level.value == "edge":
            return self._pair_labels(index)
        if isinstance(self.data, HeteroData):
            return None if self.node_type is None else self.data[self.node_type].get("y")
        graphs = [self.data] if isinstance(self.data, Data) else self.data
        labels = [getattr(graph, "y", None) for graph in graphs]
        tensors = [torch.atleast_1d(y) for y in labels if isinstance(y, Tensor)]
        return torch.cat(tensors) if tensors and len(tensors) == len(labels) else None

    def _pair_labels(self, index: Any) -> Tensor | None:
        if not isinstance(self.data, (Data, HeteroData)) or (isinstance(index, list) and isinstance(index[0], tuple)):
            return None
        stores = [store for store in self.data.edge_stores if isinstance(store.get("edge_label"), Tensor)]
        labels = [store["edge_label"] for store in stores if self.edge_type in (None, store._key)]
        return labels[0][as_index(index, len(labels[0]), labels[0].device)] if len(labels) == 1 else None

    def drawing(self, explanation: Explanation) -> dict[str, Any]:
        """Options of `gnn_xai.viz.draw` that suit this explanation."""
        options: dict[str, Any] = {"class_names": self.class_names}
        graph_level = self.task.task_level.value == "graph"
        if self.node_names is not None:
            names = self.node_names
            options["node_labels"] = names[explanation.index] if graph_level else names
        return options

    def true_nodes(self, explanation: Explanation) -> list[Any]:
        """The nodes of the true motif, named as by `Explanation.nodes`; none where the truth is unknown."""
        if self.ground_truth is None or self.ground_truth.node is None:
            return []
        true = self.ground_truth.nodes(explanation.source[[explanation.position]]).tolist()
        return [node for node, in_motif in zip(explanation.nodes, true, strict=True) if in_motif]


def from_benchmark(name: str) -> Subject:
    """A benchmark of `gnn_xai.datasets` with its reference model."""
    benchmark = datasets.load(name)
    return Subject(
        name=name,
        model=benchmark.model,
        data=benchmark.data,
        task=benchmark.task,
        index=benchmark.index,
        ground_truth=benchmark.ground_truth,
        class_names=benchmark.class_names,
        feature_names=benchmark.feature_names,
        node_names=benchmark.node_names,
        featurizer=benchmark.featurizer,
        node_type=benchmark.node_type,
    )


def from_factories(
    model: str,
    data: str | None,
    task: ModelConfig,
    weights: str | Path | None = None,
    node_type: str | None = None,
    edge_type: EdgeType | None = None,
) -> Subject:
    """A user's own model and data.

    Args:
        model: `package.module:factory`, a function without arguments that returns the model.
        data: the same for the data: `Data`, `HeteroData`, or a list of either; None for a model alone.
        task: mode, task level and return type of the model.
        weights: a safetensors file with the model's `state_dict`.
        node_type, edge_type: as in `Subject`.

    Raises:
        InputError: a factory cannot be imported, fails or returns something else, or the weights do
            not fit.
    """
    module = _call(model, "model")
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise InputError(f"expected {model} to return a torch.nn.Module, got {kind}")
    if weights is not None:
        load_weights(module, weights)
    content = None if data is None else _call(data, "data")
    return Subject(data or model, module.eval(), content, task, node_type=node_type, edge_type=edge_type)


def model_config(level: str | None, mode: str | None, returns: str | None) -> ModelConfig:
    """The task of a user's own model; multiclass classification, binary for pairs, and raw outputs, unless it is said
    otherwise.

    Raises:
        InputError: an option has no such value, or they do not go together.
    """
    if level not in ("node", "edge", "graph"):
        raise InputError(
            f"expected --task node, edge or graph with --model, got {'none of them' if level is None else repr(level)}"
        )
    mode = mode or ("binary_classification" if level == "edge" else "multiclass_classification")
    returns = returns or "raw"
    for option, value, known in (("--mode", mode, ModelMode), ("--returns", returns, ModelReturnType)):
        names = [member.value for member in known]
        if value not in names:
            raise unknown(option, value, names)
    try:
        return ModelConfig(mode=mode, task_level=level, return_type=returns)
    except ValueError as error:
        raise InputError(
            f"expected --mode and --returns that go together, got {mode} and {returns}: {error}"
        ) from error


def reader_of_molecules(
    model: str, mode: str | None = None, returns: str | None = None, weights: str | Path | None = None
) -> Subject:
    """A model that reads molecules, without data.

    Args:
        model: `reference:NAME` for the reference model of the benchmark `nci_NAME`, or as in `from_factories`.
        mode, returns: of a model of the user's own.
        weights: for that model.

    Raises:
        InputError: there is no such reference model, it was given weights or a task, or as in `from_factories`.
    """
    kind, _, name = model.partition(":")
    known = [benchmark.removeprefix("nci_") for benchmark in datasets.names() if benchmark.startswith("nci_")]
    if kind != "reference":
        task = model_config("graph", mode, returns)
        if model.removeprefix("nci_") in known:
            raise InputError(
                f"expected the model as package.module:factory, got {model!r}; did you mean "
                f"reference:{model.removeprefix('nci_')}?"
            )
        return from_factories(model, None, task, weights)
    if name not in known:
        raise unknown("reference model", name, known)
    own = {"--weights": weights, "--mode": mode, "--returns": returns}
    if surplus := [option for option, value in own.items() if value is not None]:
        raise InputError(f"a reference model brings its own weights and task; leave out {', '.join(surplus)}")
    return from_benchmark(f"nci_{name}")


def _call(where: str, what: str) -> Any:
    """Import `package.module:factory`, from the working directory too, and call it."""
    module, _, name = where.partition(":")
    if not (module and name):
        raise InputError(f"expected the {what} as package.module:factory, got {where!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        factory = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise InputError(
            f"cannot import the {what} {where} from {folder} or the installed packages: {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        kind = type(factory).__name__
        raise InputError(f"expected {where} to be a function that returns the {what}, got {kind}")
    try:
        return factory()
    except GnnXaiError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{where} raised {type(error).__name__}: {error}") from error


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill a model from a safetensors file. Nothing is ever unpickled.

    Raises:
        InputError: the file cannot be read, is no safetensors file, or does not fit the model.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a folder, or a device that never ends
            raise InputError(f"expected the weights {path} to be a safetensors file, got something else than a file")
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror}") from error
    try:
        state = tensors_from_bytes(content)
    except SafetensorError as error:
        pickled = content[:2] == b"PK" or content[:1] == b"\x80"
        kind = "a pickle, as torch.save writes" if pickled else f"something else ({error})"
        raise InputError(
            f"expected the weights {path} to be a safetensors file, got {kind}; write one with "
            "safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
    own = model.state_dict()
    problems = [f"it lacks {name}" for name in own if name not in state]
    problems += [f"it holds {name}, which the model has not" for name in state if name not in own]
    problems += [
        f"{name} has shape {list(state[name].shape)} where the model has {list(own[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    problems += [
        f"{name} is {state[name].dtype} where the model has {own[name].dtype}"
        for name in own
        if name in state and own[name].dtype != state[name].dtype
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(f"the weights {path} do not fit: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(state)
