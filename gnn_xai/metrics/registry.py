"""The metrics by name, for `gnn_xai.compare` and the command line.

A metric takes some of `model, data, explanations, ground_truth, labels, algorithm, forward, batch_budget`, and is bound to
them by the names of its arguments; anything else is an option with a default. It returns a `Result`, or a frozen
dataclass of several.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gnn_xai.metrics.accuracy import average_precision, gea, pooled_average_precision, pooled_roc_auc, roc_auc
from gnn_xai.metrics.curves import fidelity_curve_auc
from gnn_xai.metrics.divergence import unfaithfulness
from gnn_xai.metrics.faithfulness import characterization, fidelity, necessity, sufficiency
from gnn_xai.metrics.robustness import contrastivity, ges, seed_stability
from gnn_xai.metrics.sampled import robust_fidelity
from gnn_xai.metrics.sanity import model_randomization
from gnn_xai.metrics.sparseness import mask_entropy, sparsity

REGISTRY: dict[str, Callable[..., Any]] = {
    "fidelity": fidelity,
    "fidelity_label": partial(fidelity, kind="label"),
    "fidelity_phenomenon_probability": partial(fidelity, kind="phenomenon_probability"),
    "fidelity_phenomenon_label": partial(fidelity, kind="phenomenon_label"),
    "necessity": necessity,
    "sufficiency": sufficiency,
    "characterization": characterization,
    "fidelity_curve_auc": fidelity_curve_auc,
    "unfaithfulness": unfaithfulness,
    "robust_fidelity": robust_fidelity,
    "sparsity": sparsity,
    "mask_entropy": mask_entropy,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "pooled_roc_auc": pooled_roc_auc,
    "pooled_average_precision": pooled_average_precision,
    "gea": gea,
    "ges": ges,
    "seed_stability": seed_stability,
    "contrastivity": contrastivity,
    "model_randomization": model_randomization,
}
