"""What of a run is worth showing elsewhere, whoever shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gnn_xai.core.engines.events import Epoch
from gnn_xai.errors import InputError
from gnn_xai.watch.callbacks import Callback, Run, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gnn_xai.results.explanations import Explanations
    from gnn_xai.results.runs import StoredExplanations


class Sink(Callback):
    """Sends losses, masks, figures and embeddings of a run somewhere; where, is up to five methods.

    While masks are learned: the loss terms of a few instances, and histograms of their masks. At the end: the loss terms as
    means over all instances, histograms of all scores, figures of the few, and what the model's layers make of the
    instances.

    Args:
        every: send every so many epochs, and the last one.
        instances: which are shown one by one, as positions within `index`; or how many of the first.
        embeddings: how many instances to send embeddings of; 0 for none.
        options: of `gnn_xai.viz.draw` for the figures.

    Attributes:
        trace: the losses of all instances.

    Raises:
        InputError: if an argument is not what was expected.
    """

    def __init__(
        self,
        every: int = 10,
        instances: int | Sequence[int] = 4,
        embeddings: int = 1000,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.trace = Trace(every)
        self.every = every
        if isinstance(instances, int):
            instances = range(max(instances, 0))
        if any(not isinstance(position, int) or position < 0 for position in instances):
            raise InputError(f"expected instances= as positions within index, or how many, got {instances!r}")
        self.instances, self.embeddings, self.options = list(instances), embeddings, options or {}

    # Where things go #################################################################################################

    def described(self, run: Run) -> None:
        """What was asked."""
        raise NotImplementedError

    def scalars(self, name: str, values: dict[str, float], epoch: int) -> None:
        """Values by term, after so many epochs."""
        raise NotImplementedError

    def histogram(self, name: str, values: Tensor, epoch: int) -> None:
        """How values `[M]` are distributed."""
        raise NotImplementedError

    def figure(self, name: str, figure: Figure) -> None:
        """A figure of matplotlib."""
        raise NotImplementedError

    def embedding(self, name: str, vectors: Tensor, labels: list[tuple[str, str]]) -> None:
        """Vectors `[b, H]` of instances with their names and what is explained of them."""
        raise NotImplementedError

    # What goes there #################################################################################################

    def start(self, run: Run) -> None:
        """Begin a page of its own."""
        self.trace.start(run)
        self.described(run)

    def epoch(self, epoch: Epoch) -> None:
        """Record all, show a few."""
        self.trace.epoch(epoch)
        run, again = self.trace.run, f" (restart {epoch.restart})" if epoch.restart else ""
        assert run is not None
        for row, position in enumerate(epoch.positions.tolist()):
            if position not in self.instances:
                continue
            name = run.name(position) + again
            self.scalars(name, {term: float(value[row]) for term, value in epoch.losses.items()}, epoch.number)
            for part, mask, of in (
                ("edge_mask", epoch.edge_mask, epoch.edge_row),
                ("node_mask", epoch.node_mask, epoch.node_row),
            ):
                if mask is not None and of is not None and bool((of == row).any()):
                    self.histogram(f"{part}/{name}", mask[of == row].cpu(), epoch.number)

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """Show what holds of all."""
        from matplotlib.figure import Figure

        from gnn_xai.viz.grid import grid

        run = self.trace.run
        assert run is not None
        if self.trace.losses:
            curves = self.trace.curves()
            for i, number in enumerate(self.trace.epochs.tolist()):
                self.scalars("loss", {term: float(value[i].nanmean()) for term, value in curves.items()}, number)
            figure = Figure(
                figsize=(6.4, 4.0), layout="constrained"
            )  # pyplot does not know it, so none has to close it
            self.trace.draw(figure.subplots())
            self.figure("convergence", figure)
        last = int(self.trace.epochs[-1]) if len(self.trace.epochs) else 0
        some = explanations[: self.embeddings]
        for name in ("edge_mask", "node_mask"):
            values = getattr(some, name)
            if values is not None and values.numel():
                self.histogram(f"{name}/all", values.flatten().cpu(), last)
        for position in self.instances:
            if position < len(explanations):
                self.figure(run.name(position), grid([explanations[position]], **self.options))
        if self.embeddings:
            labels = [(run.name(i), f"explained {int(target)}") for i, target in enumerate(some.target)]
            for name, vectors in run.embeddings(self.embeddings).items():
                self.embedding(name, vectors.cpu(), labels)
