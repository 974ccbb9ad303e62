"""One file a method; each is a frozen object of hyper-parameters and a few lines for an engine."""

from typing import Any

from gnn_xai.algorithms._fit import Fits, Fitted, load_algorithm
from gnn_xai.algorithms.attention import Attention
from gnn_xai.algorithms.base import REGISTRY, Algorithm, algorithm, any_model, describe, get, needs_fit
from gnn_xai.algorithms.cam import CAM
from gnn_xai.algorithms.captum import Captum
from gnn_xai.algorithms.cf2 import CF2
from gnn_xai.algorithms.cf_gnn_explainer import CFGNNExplainer
from gnn_xai.algorithms.counterfactual_search import CounterfactualSearch
from gnn_xai.algorithms.deconvolution import Deconvolution
from gnn_xai.algorithms.deep_lift import DeepLIFT
from gnn_xai.algorithms.edge_ablation import EdgeAblation
from gnn_xai.algorithms.feature_ablation import FeatureAblation
from gnn_xai.algorithms.fragment_ablation import FragmentAblation
from gnn_xai.algorithms.fragment_shapley import FragmentShapley
from gnn_xai.algorithms.gnn_explainer import GNNExplainer
from gnn_xai.algorithms.grad_cam import GradCAM
from gnn_xai.algorithms.graph_lime import GraphLIME
from gnn_xai.algorithms.guided_backprop import GuidedBackprop
from gnn_xai.algorithms.input_x_gradient import InputXGradient
from gnn_xai.algorithms.integrated_gradients import IntegratedGradients
from gnn_xai.algorithms.lrp import LRP
from gnn_xai.algorithms.node_ablation import NodeAblation
from gnn_xai.algorithms.pg_explainer import PGExplainer
from gnn_xai.algorithms.pgm_explainer import PGMExplainer
from gnn_xai.algorithms.random import Random
from gnn_xai.algorithms.saliency import Saliency
from gnn_xai.algorithms.shapley import Shapley
from gnn_xai.algorithms.smooth_grad import SmoothGrad
from gnn_xai.algorithms.subgraph_x import SubgraphX
from gnn_xai.algorithms.surrogate import Surrogate

_OURS: tuple[Any, ...] = (
    GNNExplainer,
    PGExplainer,
    Saliency,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
    DeepLIFT,
    LRP,
    GuidedBackprop,
    Deconvolution,
    GradCAM,
    CAM,
    EdgeAblation,
    NodeAblation,
    FeatureAblation,
    FragmentAblation,
    FragmentShapley,
    Shapley,
    CounterfactualSearch,
    CFGNNExplainer,
    CF2,
    SubgraphX,
    Surrogate,
    GraphLIME,
    PGMExplainer,
    Attention,
    Random,
)
REGISTRY.update({cls.name: cls for cls in _OURS})

__all__ = [
    "CAM",
    "CF2",
    "CFGNNExplainer",
    "LRP",
    "REGISTRY",
    "Algorithm",
    "Attention",
    "Captum",
    "CounterfactualSearch",
    "Deconvolution",
    "DeepLIFT",
    "EdgeAblation",
    "FeatureAblation",
    "FragmentAblation",
    "FragmentShapley",
    "Fits",
    "Fitted",
    "GNNExplainer",
    "GradCAM",
    "GraphLIME",
    "GuidedBackprop",
    "InputXGradient",
    "IntegratedGradients",
    "NodeAblation",
    "PGExplainer",
    "PGMExplainer",
    "Random",
    "Saliency",
    "Shapley",
    "SmoothGrad",
    "SubgraphX",
    "Surrogate",
    "algorithm",
    "any_model",
    "describe",
    "get",
    "load_algorithm",
    "needs_fit",
]
