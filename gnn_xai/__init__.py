"""Explain graph neural networks: one verb, many algorithms, thousands of targets as one batch.

```python
import gnn_xai as gx

explanations = gx.explain(model, data, gx.GNNExplainer(epochs=200), task="node", index=[301, 305])
explanations[0].draw()
```

Public names are imported when they are first used, so that `import gnn_xai` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gnn_xai._version import __version__

if TYPE_CHECKING:
    from gnn_xai import algorithms, datasets, errors, extend, metrics, molecules, pyg, testing, viz
    from gnn_xai.algorithms import (
        CAM,
        CF2,
        LRP,
        Attention,
        Captum,
        CFGNNExplainer,
        CounterfactualSearch,
        Deconvolution,
        DeepLIFT,
        EdgeAblation,
        FeatureAblation,
        Fitted,
        FragmentAblation,
        FragmentShapley,
        GNNExplainer,
        GradCAM,
        GraphLIME,
        GuidedBackprop,
        InputXGradient,
        IntegratedGradients,
        NodeAblation,
        PGExplainer,
        PGMExplainer,
        Random,
        Saliency,
        Shapley,
        SmoothGrad,
        SubgraphX,
        Surrogate,
        load_algorithm,
    )
    from gnn_xai.api import explain, prepare
    from gnn_xai.comparison import Comparison, compare
    from gnn_xai.core.engines.prepare import Prepared
    from gnn_xai.results.explanations import Explanation, Explanations
    from gnn_xai.results.ground_truth import GroundTruth
    from gnn_xai.results.runs import StoredExplanations, load
    from gnn_xai.watch import Callback, Trace

__all__ = [
    "CF2",
    "CFGNNExplainer",
    "CAM",
    "LRP",
    "Attention",
    "Callback",
    "Captum",
    "Comparison",
    "CounterfactualSearch",
    "Deconvolution",
    "DeepLIFT",
    "EdgeAblation",
    "Explanation",
    "Explanations",
    "FeatureAblation",
    "Fitted",
    "FragmentAblation",
    "FragmentShapley",
    "GNNExplainer",
    "GradCAM",
    "GraphLIME",
    "GuidedBackprop",
    "GroundTruth",
    "InputXGradient",
    "IntegratedGradients",
    "NodeAblation",
    "PGExplainer",
    "PGMExplainer",
    "Prepared",
    "Random",
    "Saliency",
    "Shapley",
    "SmoothGrad",
    "Surrogate",
    "StoredExplanations",
    "SubgraphX",
    "Trace",
    "__version__",
    "algorithms",
    "compare",
    "datasets",
    "errors",
    "explain",
    "extend",
    "load",
    "load_algorithm",
    "metrics",
    "molecules",
    "prepare",
    "pyg",
    "testing",
    "viz",
]

# The module of every public name that is neither a module itself nor an algorithm.
_MODULES = {
    "Callback": "watch",
    "Comparison": "comparison",
    "Explanation": "results.explanations",
    "Explanations": "results.explanations",
    "GroundTruth": "results.ground_truth",
    "Prepared": "core.engines.prepare",
    "StoredExplanations": "results.runs",
    "Trace": "watch",
    "compare": "comparison",
    "explain": "api",
    "load": "results.runs",
    "load_algorithm": "algorithms",
    "prepare": "api",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.islower() and name not in _MODULES:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'algorithms')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
