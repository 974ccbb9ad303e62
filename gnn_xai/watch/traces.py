"""Traces: the losses of every instance while its masks are learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnn_xai.core.engines.events import Epoch
from gnn_xai.optional import need
from gnn_xai.watch.callbacks import Callback, Run, require_epochs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

TERMS = ("prediction", "edge_size", "edge_ent", "node_feat_size", "node_feat_ent", "total")
"""Terms of the loss of algorithms that learn masks, in the order in which they are shown."""


class Trace(Callback):
    """The terms of the loss of every instance, epoch by epoch.

    Args:
        every: record every so many epochs, and the last one.

    Attributes:
        run: the run that is recorded, once it has started.

    Raises:
        InputError: if `every` is not a positive integer.

    Example:
        >>> import gnn_xai as gx
        >>> karate = gx.datasets.load("karate")
        >>> trace = gx.Trace(every=50)
        >>> explanations = gx.explain(karate.model, karate.data, index=[0, 16], callback=trace, progress=False)
        >>> trace.epochs.tolist()
        [0, 50, 100]
        >>> trace.losses["total"].shape  # restarts, epochs, instances
        torch.Size([1, 3, 2])
        >>> bool((trace.losses["total"][0, -1] < trace.losses["total"][0, 0]).all())
        True
    """

    def __init__(self, every: int = 1) -> None:
        require_epochs("every=", every)
        self.every = every
        self.run: Run | None = None
        self._parts: dict[tuple[int, int], list[tuple[Tensor, dict[str, Tensor]]]] = {}

    def start(self, run: Run) -> None:
        """Discard what was recorded of an earlier run."""
        self.run = run
        self._parts.clear()

    def epoch(self, epoch: Epoch) -> None:
        """Record the losses."""
        losses = {name: value.cpu() for name, value in epoch.losses.items()}
        self._parts.setdefault((epoch.restart, epoch.number), []).append((epoch.positions.cpu(), losses))

    @property
    def epochs(self) -> Tensor:
        """The recorded epochs, `[E]`; 0 is before the first step."""
        return torch.tensor(sorted({number for _, number in self._parts}), dtype=torch.int64)

    @property
    def losses(self) -> dict[str, Tensor]:
        """Terms of the loss with their coefficients, `[restarts, E, B]` each, and `total`, their sum. NaN after the last
        epoch of an instance, and where none of its epochs was recorded. Empty for algorithms that learn no masks.
        """
        if self.run is None or not self._parts:
            return {}
        row = {int(number): i for i, number in enumerate(self.epochs)}
        shape = 1 + max(restart for restart, _ in self._parts), len(row), len(self.run.index)
        first = next(iter(self._parts.values()))[0][1]
        out = {name: value.new_full(shape, torch.nan) for name, value in first.items()}
        for (restart, number), parts in self._parts.items():
            for positions, losses in parts:
                for name, value in losses.items():
                    out[name][restart, row[number], positions] = value
        return out

    def curves(self, restart: int = 0) -> dict[str, Tensor]:
        """The losses of one restart, `[E, B]` each; after its last epoch an instance keeps its last value."""
        curves = {name: value[restart].clone() for name, value in self.losses.items()}
        for value in curves.values():
            for i in range(1, len(value)):
                value[i] = torch.where(value[i].isnan(), value[i - 1], value[i])
        return curves

    def to_pandas(self) -> DataFrame:
        """A row for each recorded restart, epoch and instance; `instance` is the explained node or graph,
        of a pair `source` and `destination`.

        Raises:
            GnnXaiError: pandas is not installed.
        """
        pandas = need("pandas", "research", "tables")
        losses = self.losses
        if self.run is None or not losses:
            return pandas.DataFrame(columns=["restart", "epoch", "instance", *TERMS])
        restart, row, position = (~losses["total"].isnan()).nonzero(as_tuple=True)
        instance, index = self.run.index.cpu()[position], {"restart": restart, "epoch": self.epochs[row]}
        if instance.dim() > 1:
            index |= dict(zip(("source", "destination"), instance.t(), strict=True))
        else:
            index |= {"instance": instance}
        columns = {name: value[restart, row, position] for name, value in losses.items()}
        return pandas.DataFrame({name: value.numpy() for name, value in {**index, **columns}.items()})

    def draw(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the losses over epochs, see `gnn_xai.viz.convergence`."""
        from gnn_xai.viz import convergence

        return convergence(self, ax, **options)
