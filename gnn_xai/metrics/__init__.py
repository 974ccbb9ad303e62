"""Pure functions on explanations; each states its formula and which direction is better."""

from gnn_xai.metrics.accuracy import average_precision, gea, pooled_average_precision, pooled_roc_auc, roc_auc
from gnn_xai.metrics.faithfulness import Fidelity, fidelity
from gnn_xai.metrics.registry import REGISTRY
from gnn_xai.metrics.result import Result

__all__ = [
    "REGISTRY",
    "Fidelity",
    "Result",
    "average_precision",
    "fidelity",
    "gea",
    "pooled_average_precision",
    "pooled_roc_auc",
    "roc_auc",
]
