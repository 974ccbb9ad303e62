"""Pure functions on explanations; each states its formula and which direction is better."""

from gnn_xai.metrics.accuracy import roc_auc
from gnn_xai.metrics.faithfulness import Fidelity, fidelity
from gnn_xai.metrics.registry import REGISTRY
from gnn_xai.metrics.result import Result

__all__ = ["REGISTRY", "Fidelity", "Result", "fidelity", "roc_auc"]
