"""Pure functions on explanations; each states its formula and which direction is better."""

from gnn_xai.metrics.accuracy import average_precision, gea, pooled_average_precision, pooled_roc_auc, roc_auc
from gnn_xai.metrics.counterfactuals import (
    counterfactual_accuracy,
    counterfactual_size,
    counterfactual_sparsity,
    flip_rate,
    plausibility,
)
from gnn_xai.metrics.curves import FidelityCurve, fidelity_curve, fidelity_curve_auc
from gnn_xai.metrics.divergence import unfaithfulness
from gnn_xai.metrics.faithfulness import (
    Fidelity,
    characterization,
    characterization_score,
    fidelity,
    necessity,
    sufficiency,
)
from gnn_xai.metrics.registry import REGISTRY
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.robustness import SeedStability, contrastivity, ges, seed_stability
from gnn_xai.metrics.sampled import RobustFidelity, robust_fidelity
from gnn_xai.metrics.sanity import Randomization, Stage, model_randomization
from gnn_xai.metrics.sparseness import mask_entropy, sparsity

__all__ = [
    "REGISTRY",
    "Fidelity",
    "FidelityCurve",
    "Randomization",
    "Result",
    "RobustFidelity",
    "SeedStability",
    "Stage",
    "average_precision",
    "characterization",
    "characterization_score",
    "contrastivity",
    "counterfactual_accuracy",
    "counterfactual_size",
    "counterfactual_sparsity",
    "fidelity",
    "fidelity_curve",
    "fidelity_curve_auc",
    "flip_rate",
    "gea",
    "ges",
    "mask_entropy",
    "model_randomization",
    "necessity",
    "plausibility",
    "pooled_average_precision",
    "pooled_roc_auc",
    "robust_fidelity",
    "roc_auc",
    "seed_stability",
    "sparsity",
    "sufficiency",
    "unfaithfulness",
]
