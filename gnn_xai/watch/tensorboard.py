"""A run in TensorBoard."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gnn_xai.optional import need
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.runs import StoredExplanations
from gnn_xai.watch.sinks import Sink

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TensorBoard(Sink):
    """Write event files of a run of `gnn_xai.explain` for TensorBoard.

    Scalars hold the terms of the loss, as means over all instances (`loss/total`) and for a few (`node 301/total`);
    histograms the masks of these few as they are learned, and those of all; images their figures; the projector the hidden
    representations per message-passing layer. The few appear while masks are learned, the rest at the end.

    ```text
    tensorboard --logdir runs
    ```

    Args:
        folder: where to write event files; one folder a run.
        **options: of `gnn_xai.watch.Sink`.

    Raises:
        GnnXaiError: TensorBoard is not installed.
        InputError: if an argument is not what was expected.
    """

    def __init__(self, folder: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(**options)
        need("tensorboard", "tensorboard", "event files")
        self.folder = os.fspath(folder)
        self._writer: Any = None

    def begin(self, settings: str) -> None:
        """Open the folder, with the settings as a text."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self.folder)
        self._writer.add_text("run", f"    {settings}".replace("\n", "\n    "))  # Markdown for code

    def scalars(self, name: str, values: dict[str, float], epoch: int) -> None:
        """Add a point to the chart of each term, in a group of this name."""
        for term, value in values.items():
            self._writer.add_scalar(f"{name}/{term}", value, epoch)

    def histogram(self, name: str, values: Tensor, epoch: int) -> None:
        """Add the histogram of an epoch."""
        self._writer.add_histogram(name, values, epoch)

    def figure(self, name: str, figure: Figure) -> None:
        """Add an image, large enough for the names of its nodes."""
        figure.set_dpi(180)
        self._writer.add_figure(name, figure, close=False)

    def embedding(self, name: str, vectors: Tensor, labels: list[tuple[str, str]]) -> None:
        """Add a tensor of the projector."""
        self._writer.add_embedding(vectors, metadata=labels, metadata_header=["instance", "target"], tag=name)

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """Write what is shown at the end, and close the folder."""
        super().finish(explanations)
        self._writer.close()
