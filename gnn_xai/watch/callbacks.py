"""What happens in a run, told to callbacks: `explain(..., callback=...)`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig, ModelTaskLevel

from gnn_xai.core.engines.events import Epoch
from gnn_xai.core.engines.hidden_states import layer_outputs
from gnn_xai.core.graphs.source import Shelf
from gnn_xai.core.model.arguments import bind
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError
from gnn_xai.optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from gnn_xai.results.explanations import Explanations
    from gnn_xai.results.runs import StoredExplanations

TERMS = ("prediction", "edge_size", "edge_ent", "node_feat_size", "node_feat_ent", "total")
"""Terms of the loss of algorithms that learn masks, in the order in which they are shown."""


@dataclass(frozen=True, eq=False)
class Run:
    """What `explain` was asked.

    Attributes:
        model, data, task, forward: the problem.
        index: `[B]` the explained nodes or graphs.
        algorithm: name and hyper-parameters.
        seed: of random numbers.
    """

    model: nn.Module
    data: Any
    task: ModelConfig
    forward: Forward | None
    index: Tensor
    algorithm: dict[str, Any]
    seed: int

    def name(self, position: int) -> str:
        """What an instance is called: `node 301`, `graph 7`."""
        return f"{self.task.task_level.value} {int(self.index[position])}"

    def embeddings(self, most: int = 1000) -> dict[str, Tensor]:
        """What each message-passing layer of the model makes of the first `most` instances, `[b, H]` by layer: the layer's
        output on the explained node, or its mean over the nodes of the graph.
        """
        index, by_node = self.index[:most], self.task.task_level == ModelTaskLevel.node
        graphs = Shelf(self.data, index.device, whole=by_node).take(None if by_node else index)
        if graphs.many and not by_node:  # the graphs that are asked for, and no others
            index = torch.arange(len(index), device=index.device)
        problem = Problem(self.model, graphs, self.task, bind(self.model, graphs, self.forward))
        with untouched(self.model), torch.no_grad():
            return layer_outputs(problem, index)


class Callback:
    """Is told what happens in a run of `gnn_xai.explain`. Override what you need.

    Algorithms that learn masks tell epochs; others have a start and an end alone. What is told lies on the device of the
    run, and costs one more pass through the model for every epoch told; a run without callbacks pays nothing. Explanations
    are the same with callbacks and without. An error in a callback ends the run.

    Attributes:
        every: which epochs to hear of: those that it divides, among them 0, the masks' start; the last epoch of an
            instance is told in any case.
    """

    every: int = 1

    def start(self, run: Run) -> None:
        """Before the first instance."""

    def epoch(self, epoch: Epoch) -> None:
        """Scores of a batch of instances, and what they cost. Batches come one after the other, each from its epoch 0 on."""

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """After the last instance."""


class Trace(Callback):
    """The terms of the loss of every instance, epoch by epoch.

    Args:
        every: record every so many epochs, and the last one.

    Attributes:
        run: what was asked, once it has started.

    Raises:
        InputError: if `every` is not a positive integer.

    Example:
        >>> import gnn_xai as gx
        >>> karate = gx.datasets.load("karate")
        >>> trace = gx.Trace(every=50)
        >>> found = gx.explain(karate.model, karate.data, index=[0, 16], callback=trace, progress=False)
        >>> trace.epochs.tolist()
        [0, 50, 100]
        >>> trace.losses["total"].shape  # restarts, epochs, instances
        torch.Size([1, 3, 2])
        >>> bool((trace.losses["total"][0, -1] < trace.losses["total"][0, 0]).all())
        True
    """

    def __init__(self, every: int = 1) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError(f"expected every= as a positive number of epochs, got {every!r}")
        self.every = every
        self.run: Run | None = None
        self._seen: dict[tuple[int, int], list[tuple[Tensor, dict[str, Tensor]]]] = {}

    def start(self, run: Run) -> None:
        """Forget what was recorded before."""
        self.run = run
        self._seen.clear()

    def epoch(self, epoch: Epoch) -> None:
        """Record the losses."""
        losses = {name: value.cpu() for name, value in epoch.losses.items()}
        self._seen.setdefault((epoch.restart, epoch.number), []).append((epoch.positions.cpu(), losses))

    @property
    def epochs(self) -> Tensor:
        """The epochs that were recorded, `[E]`; 0 is before the first step."""
        return torch.tensor(sorted({number for _, number in self._seen}), dtype=torch.int64)

    @property
    def losses(self) -> dict[str, Tensor]:
        """Terms of the loss with their coefficients, `[restarts, E, B]` each, and `total`, their sum. NaN where an instance
        was done before, or none of its epochs was recorded. Empty for algorithms that learn no masks.
        """
        if self.run is None or not self._seen:
            return {}
        row = {int(number): i for i, number in enumerate(self.epochs)}
        shape = 1 + max(restart for restart, _ in self._seen), len(row), len(self.run.index)
        first = next(iter(self._seen.values()))[0][1]
        out = {name: value.new_full(shape, torch.nan) for name, value in first.items()}
        for (restart, number), parts in self._seen.items():
            for positions, losses in parts:
                for name, value in losses.items():
                    out[name][restart, row[number], positions] = value
        return out

    def curves(self, restart: int = 0) -> dict[str, Tensor]:
        """The same for one restart, `[E, B]` each; an instance that is done keeps its last value."""
        found = {name: value[restart].clone() for name, value in self.losses.items()}
        for value in found.values():
            for i in range(1, len(value)):
                value[i] = torch.where(value[i].isnan(), value[i - 1], value[i])
        return found

    def to_pandas(self) -> DataFrame:
        """A row for each restart, epoch and instance that was recorded; `instance` is the explained node or graph.

        Raises:
            GnnXaiError: pandas is not installed.
        """
        pandas = need("pandas", "research", "tables")
        losses = self.losses
        if self.run is None or not losses:
            return pandas.DataFrame(columns=["restart", "epoch", "instance", *TERMS])
        restart, row, position = (~losses["total"].isnan()).nonzero(as_tuple=True)
        index = {"restart": restart, "epoch": self.epochs[row], "instance": self.run.index.cpu()[position]}
        columns = {name: value[restart, row, position] for name, value in losses.items()}
        return pandas.DataFrame({name: value.numpy() for name, value in {**index, **columns}.items()})

    def draw(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw how the losses fell, see `gnn_xai.viz.convergence`."""
        from gnn_xai.viz.convergence import convergence

        return convergence(self, ax, **options)


class Callbacks:
    """Several callbacks as the one observer that the engine knows.

    Attributes:
        positions: of the instances at hand within the index.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks
        self.positions = torch.zeros(0, dtype=torch.int64)

    def start(self, run: Run) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.start(run)

    def after(self, number: int) -> int:
        """The next epoch that any of them wants to hear of."""
        return min(number - number % callback.every + callback.every for callback in self.callbacks)

    def epoch(self, epoch: Epoch) -> None:
        """Tell those whose turn it is; the others of instances that are done."""
        epoch = replace(epoch, positions=self.positions[epoch.positions])
        ended = epoch.only(epoch.last)
        for callback in self.callbacks:
            if epoch.number % callback.every == 0:
                callback.epoch(epoch)
            elif len(ended.positions):
                callback.epoch(ended)

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.finish(explanations)


def as_callbacks(callback: Any) -> Callbacks | None:
    """One callback or several; `None` for none.

    Raises:
        InputError: if it is something else, or its `every` is no positive integer.
    """
    if callback is None:
        return None
    several = list(callback) if isinstance(callback, Iterable) else [callback]
    for each in several:
        if not isinstance(each, Callback):
            raise InputError(
                f"expected callback= as objects such as gnn_xai.Trace(), got {type(each).__name__}; derive it from "
                "gnn_xai.Callback"
            )
        if isinstance(each.every, bool) or not isinstance(each.every, int) or each.every < 1:
            raise InputError(f"expected {type(each).__name__}.every as a positive number of epochs, got {each.every!r}")
    return Callbacks(several) if several else None
