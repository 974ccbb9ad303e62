"""Callbacks of `explain`, called at the start, while masks are learned, and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig

from gnn_xai.core.engines.events import Epoch
from gnn_xai.core.engines.hidden_states import layer_outputs
from gnn_xai.core.graphs.shelf import Shelf
from gnn_xai.core.model.arguments import problem_of
from gnn_xai.core.model.pairs import readout_of
from gnn_xai.core.model.problem import Forward
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.runs import StoredExplanations


@dataclass(frozen=True, eq=False)
class Run:
    """One call of `explain`, as callbacks see it.

    Attributes:
        model, data, task, forward: as in `gnn_xai.explain`.
        index: `[B]` the explained nodes or graphs, `[B, 2]` pairs of nodes.
        algorithm: name and hyper-parameters.
        seed: as in `gnn_xai.explain`.
    """

    model: nn.Module
    data: Any
    task: ModelConfig
    forward: Forward | None
    index: Tensor
    algorithm: dict[str, Any]
    seed: int

    def name(self, position: int) -> str:
        """The name of an instance: `node 301`, `graph 7`, `pair 3–5`."""
        return readout_of(self.task.task_level).name(self.index[position])

    def embeddings(self, most: int = 1000) -> dict[str, Tensor]:
        """Hidden representations of the first `most` instances, `[b, H]` by message-passing layer: the layer's output on the
        explained node, on both nodes of a pair side by side, or its mean over the nodes of the graph.
        """
        index, rooted = self.index[:most], readout_of(self.task.task_level).rooted
        graphs = Shelf(self.data, index.device, whole=rooted).take(None if rooted else index)
        if graphs.many and not rooted:  # the graphs that are asked for, and no others
            index = torch.arange(len(index), device=index.device)
        problem = problem_of(self.model, graphs, self.task, self.forward)
        with untouched(self.model) as evaluating, evaluating, torch.no_grad():
            return layer_outputs(problem, index)


class Callback:
    """Base class of callbacks of `gnn_xai.explain`; override the methods you need.

    `epoch` is called for algorithms that learn masks; `start` and `finish` for all. Tensors are on the device of the run.
    Every reported epoch costs one more pass through the model; a run without callbacks pays nothing. Explanations are the
    same with callbacks and without. An error in a callback ends the run.

    Attributes:
        every: report epochs that this number divides, among them 0, the masks before the first step; the last epoch of an
            instance is always reported.
    """

    every: int = 1

    def start(self, run: Run) -> None:
        """Called before the first instance."""

    def epoch(self, epoch: Epoch) -> None:
        """Called with the masks and losses of a batch of instances. Batches follow one another, each from its epoch 0 on."""

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """Called after the last instance."""


class Callbacks:
    """Several callbacks as the one observer that the engine reports to.

    Attributes:
        positions: of the current instances within the index.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks
        self.positions = torch.zeros(0, dtype=torch.int64)

    def start(self, run: Run) -> None:
        """Start all."""
        for callback in self.callbacks:
            callback.start(run)

    def after(self, number: int) -> int:
        """The next epoch after `number` that any of them asks for."""
        return min(number - number % callback.every + callback.every for callback in self.callbacks)

    def epoch(self, epoch: Epoch) -> None:
        """Report an epoch to callbacks that ask for it, and the last epochs of instances to all."""
        epoch = replace(epoch, positions=self.positions[epoch.positions])
        ended = epoch.only(epoch.last)
        for callback in self.callbacks:
            if epoch.number % callback.every == 0:
                callback.epoch(epoch)
            elif len(ended.positions):
                callback.epoch(ended)

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """Finish all."""
        for callback in self.callbacks:
            callback.finish(explanations)


def as_callbacks(callback: Any) -> Callbacks | None:
    """One callback or several as `Callbacks`; `None` for none.

    Raises:
        InputError: if it is something else, or its `every` is no positive integer.
    """
    if callback is None:
        return None
    several = list(callback) if isinstance(callback, Sequence) else [callback]
    for one in several:
        if not isinstance(one, Callback):
            raise InputError(
                f"expected callback= as objects such as gnn_xai.Trace(), got {type(one).__name__}; derive it from "
                "gnn_xai.Callback"
            )
        require_epochs(f"{type(one).__name__}.every", one.every)
    return Callbacks(several) if several else None


def require_epochs(name: str, value: Any) -> None:
    """Raise an `InputError` unless a value is a positive number of epochs."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"expected {name} as a positive number of epochs, got {value!r}")
