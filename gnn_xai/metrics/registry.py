"""The metrics by name, for `gnn_xai.compare` and the command line.

A metric takes some of `model, data, explanations, ground_truth, labels, algorithm, forward, batch_budget`, and is bound to
them by the names of its arguments; anything else is an option with a default. It returns a `Result`, or a frozen
dataclass of several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gnn_xai.metrics.accuracy import average_precision, gea, pooled_average_precision, pooled_roc_auc, roc_auc
from gnn_xai.metrics.faithfulness import fidelity

REGISTRY: dict[str, Callable[..., Any]] = {
    "fidelity": fidelity,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "pooled_roc_auc": pooled_roc_auc,
    "pooled_average_precision": pooled_average_precision,
    "gea": gea,
}
