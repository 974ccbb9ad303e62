"""A run in Visdom."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnn_xai.errors import GnnXaiError
from gnn_xai.optional import need
from gnn_xai.watch.sinks import Sink

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Visdom's client, which warns about connections that only send."""
    log = logging.getLogger("visdom")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The 'warn' method is deprecated", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)


class Visdom(Sink):
    """Show a run of `gnn_xai.explain` on a Visdom server.

    Windows hold the terms of the loss as lines, for a few instances while their masks are learned and as means over all
    instances at the end; histograms of their current masks, and of all; figures; and the two principal components of the
    hidden representations per message-passing layer.

    ```text
    python -m visdom.server
    ```

    Args:
        env: the environment of the server, which is emptied when a run starts.
        server, port: where the server listens.
        **options: of `gnn_xai.watch.Sink`.

    Raises:
        GnnXaiError: Visdom is not installed, or no server answers.
        InputError: if an argument is not what was expected.
    """

    def __init__(
        self, env: str = "gnn_xai", *, server: str = "http://localhost", port: int = 8097, **options: Any
    ) -> None:
        super().__init__(**options)
        visdom = need("visdom", "visdom", "windows")
        try:
            with _quiet():
                self._server = visdom.Visdom(
                    server, port=port, env=env, use_incoming_socket=False, raise_exceptions=True
                )
        except OSError as error:
            raise GnnXaiError(
                f"no Visdom server answers at {server}:{port}; start one with 'python -m visdom.server -port {port}'"
            ) from error
        self.env = env

    def begin(self, settings: str) -> None:
        """Empty the environment, and show the settings."""
        self._server.close(env=self.env)
        self._send("text", f"<pre>{settings}</pre>", win="run", opts={"title": "run"})

    def scalars(self, name: str, values: dict[str, float], epoch: int) -> None:
        """Add a point to each line of a window, one line a term."""
        options = {"title": name, "xlabel": "epoch", "ylabel": "loss", "legend": list(values)}
        update = "append" if self._server.win_exists(name, env=self.env) else None
        self._send("line", [list(values.values())], [epoch], win=name, opts=options, update=update)

    def histogram(self, name: str, values: Tensor, epoch: int) -> None:
        """Replace the histogram of this name."""
        options = {"title": f"{name}, epoch {epoch}", "numbins": 30}
        self._send("histogram", values.numpy(), win=name, opts=options)

    def figure(self, name: str, figure: Figure) -> None:
        """Show a figure as vector graphics, sharp at any size."""
        self._send("matplot", figure, win=f"figure {name}", opts={"title": name})

    def embedding(self, name: str, vectors: Tensor, labels: list[tuple[str, str]]) -> None:
        """Show two principal components, coloured by target."""
        centred = vectors.double() - vectors.double().mean(0)
        components = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
        points = torch.zeros(len(vectors), 2, dtype=torch.float64)
        points[:, : len(components)] = centred @ components.T
        kinds = sorted({target for _, target in labels})
        options = {
            "title": f"layer {name}: principal components",
            "legend": kinds,
            "textlabels": [instance for instance, _ in labels],
            "markersize": 6,
        }
        group = [kinds.index(target) + 1 for _, target in labels]
        self._send("scatter", points.numpy(), group, win=f"layer {name}", opts=options)

    def _send(self, kind: str, *content: Any, win: str, **options: Any) -> None:
        """Send a window, and check that the server took it: the client returns errors as answers."""
        answer = getattr(self._server, kind)(*content, win=win, env=self.env, **options)
        if answer != win:
            raise GnnXaiError(f"the Visdom server did not take window {win!r}; it answered {str(answer)[:200]!r}")
