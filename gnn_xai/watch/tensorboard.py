"""A run in TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gnn_xai.optional import need
from gnn_xai.watch.callbacks import Run
from gnn_xai.watch.sink import Sink

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gnn_xai.results.explanations import Explanations
    from gnn_xai.results.runs import StoredExplanations


class TensorBoard(Sink):
    """Writes a run of `gnn_xai.explain` for TensorBoard, by `torch.utils.tensorboard`.

    Scalars hold the terms of the loss, as means over all instances (`loss/total`) and for a few (`node 301/total`);
    histograms the masks of these few as they form, and those of all; images their figures; the projector what each
    message-passing layer of the model makes of the instances. The few appear while masks are learned, the rest at the end.

    ```text
    tensorboard --logdir runs
    ```

    Args:
        folder: where to write event files; one folder a run.
        every: write every so many epochs, and the last one.
        instances: which are shown one by one, as positions within `index`; or how many of the first.
        embeddings: how many instances to write embeddings of, and scores into the histogram of all; 0 for none.
        **options: of `gnn_xai.viz.draw` for the figures.

    Raises:
        GnnXaiError: TensorBoard is not installed.
        InputError: if an argument is not what was expected.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int = 10,
        instances: int | Sequence[int] = 4,
        embeddings: int = 1000,
        **options: Any,
    ) -> None:
        super().__init__(every, instances, embeddings, options)
        need("tensorboard", "tensorboard", "event files")
        self.folder = os.fspath(folder)
        self._writer: Any = None

    def described(self, run: Run) -> None:
        """Open the folder, with what was asked as a text."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self.folder)
        said = {"algorithm": run.algorithm, "instances": len(run.index), "seed": run.seed}
        self._writer.add_text("run", f"    {json.dumps(said, indent=1)}".replace("\n", "\n    "))  # Markdown for code

    def scalars(self, name: str, values: dict[str, float], epoch: int) -> None:
        """A chart for each term, in a group of this name."""
        for term, value in values.items():
            self._writer.add_scalar(f"{name}/{term}", value, epoch)

    def histogram(self, name: str, values: Tensor, epoch: int) -> None:
        """A slice of a histogram over epochs."""
        self._writer.add_histogram(name, values, epoch)

    def figure(self, name: str, figure: Figure) -> None:
        """An image, large enough for the names of its nodes."""
        figure.set_dpi(180)
        self._writer.add_figure(name, figure, close=False)

    def embedding(self, name: str, vectors: Tensor, labels: list[tuple[str, str]]) -> None:
        """A tensor of the projector."""
        self._writer.add_embedding(vectors, metadata=labels, metadata_header=["instance", "target"], tag=name)

    def finish(self, explanations: Explanations | StoredExplanations) -> None:
        """Write what holds of all, and close."""
        super().finish(explanations)
        self._writer.close()
