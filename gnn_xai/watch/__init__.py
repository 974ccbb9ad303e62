"""Watching a run: callbacks, the trace of losses, TensorBoard and Visdom; `explain(..., callback=...)`."""

from gnn_xai.core.engines.events import Epoch
from gnn_xai.watch.callbacks import Callback, Run
from gnn_xai.watch.sinks import Sink
from gnn_xai.watch.traces import Trace

__all__ = ["Callback", "Epoch", "Run", "Sink", "Trace"]
