"""Sinks: send losses, masks, figures and embeddings of a run to a program that shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gnn_xai.core.engines.events import Epoch
from gnn_xai.errors import InputError
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.runs import StoredExplanations
from gnn_xai.watch.callbacks import Callback, Run
from gnn_xai.watch.traces import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sink(Callback):
    """Base class of sinks; five methods say where things go.

    While masks are learned, it sends the loss terms of a few instances and histograms of their masks. At the end: the loss
    terms as means over all instances, histograms of all scores, figures of the few, and hidden representations per layer.

    Args:
        every: send every so many epochs, and the last one.
        instances: the few that are shown one by one, as positions within `index`; or how many of the first.
        embeddings: how many instances to send embeddings of, and scores in the histogram of all; 0 for none.
        **options: of `gnn_xai.viz.draw` for the figures.

    Attributes:
        trace: the losses of all instances.

    Raises:
        InputError: if an argument is not what was expected.
    """

    def __init__(
        self, *, every: int = 10, instances: int | Sequence[int] = 4, embeddings: int = 1000, **options: Any
    ) -> None:
        self.trace = Trace(every)
        self.every = every
        if isinstance(instances, int):
            instances = range(max(instances, 0))
        if any(not isinstance(position, int) or position < 0 for position in instances):
            raise InputError(f"expected instances= as positions within index, or how many, got {instances!r}")
        self.instances, self.embeddings, self.options = list(instances), embeddings, options

    # Where it goes ###################################################################################################

    def begin(self, settings: str) -> None:
        """Begin a page for a run; `settings` is its algorithm, number of instances and seed as JSON."""
        raise NotImplementedError

    def scalars(self, name: str, values: dict[str, float], epoch: int) -> None:
        """Send values by term, after so many epochs."""
        raise NotImplementedError

    def histogram(self, name: str, values: Tensor, epoch: int) -> None:
        """Send the distribution of values `[M]`."""
        raise NotImplementedError

    def figure(self, name: str, figure: Figure) -> None:
        """Send a matplotlib figure."""
        raise NotImplementedError

    def embedding(self, name: str, vectors: Tensor, labels: list[tuple[str, str]]) -> None:
        """Send vectors `[b, H]` of instances, each with its name and its target."""
        raise NotImplementedError

    # What is sent ####################################################################################################

    def start(self, run: Run) -> None:
        """Begin a page."""
        self.trace.start(run)
        self.begin(json.dumps({"algorithm": run.algorithm, "instances": len(run.index), "seed": run.seed}, indent=1))

    def epoch(self, epoch: Epoch) -> None:
        """Record all instances, send the few."""
        self.trace.epoch(epoch)
        run, restart = self.trace.run, f" (restart {epoch.restart})" if epoch.restart else ""
        assert run is not None
        for row, position in enumerate(epoch.positions.tolist()):
            if position not in self.instances:
                continue
            name = run.name(position) + restart
            self.scalars(name, {term: float(value[row]) for term, value in epoch.losses.items()}, epoch.number)
            for part, mask, of in (
                ("edge_mask", epoch.edge_mask, epoch.edge_row),
                ("node_mask", epoch.node_mask, epoch.node_row),
            ):
                if mask is not None and of is not None and bool((of == row).any()):
                    self.histogram(f"{part}/{name}", mask[of == row].cpu(), epoch.number)

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """Send the losses and scores of all instances, the figures and the embeddings."""
        from matplotlib.figure import Figure

        from gnn_xai.viz import grid

        run = self.trace.run
        assert run is not None
        if self.trace.losses:
            curves = self.trace.curves()
            for i, number in enumerate(self.trace.epochs.tolist()):
                self.scalars("loss", {term: float(value[i].nanmean()) for term, value in curves.items()}, number)
            figure = Figure(figsize=(6.4, 4.0), layout="constrained")  # unknown to pyplot, so nothing has to close it
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
