"""Explain graph neural networks: one verb, many algorithms, thousands of targets as one batch.

```python
import gnn_xai as gx

explanations = gx.explain(model, data, gx.GNNExplainer(epochs=200), task="node", index=[301, 305])
explanations[0].draw()
```
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from gnn_xai import algorithms, datasets, errors, metrics, pyg
from gnn_xai._version import __version__
from gnn_xai.algorithms import (
    Captum,
    EdgeAblation,
    FeatureAblation,
    FragmentAblation,
    FragmentShapley,
    GNNExplainer,
    InputXGradient,
    IntegratedGradients,
    NodeAblation,
    Random,
    Saliency,
    SmoothGrad,
)
from gnn_xai.api import explain
from gnn_xai.comparison import Comparison, compare
from gnn_xai.results.explanations import Explanation, Explanations
from gnn_xai.results.ground_truth import GroundTruth
from gnn_xai.results.runs import StoredExplanations, load
from gnn_xai.watch.callbacks import Callback, Trace

if TYPE_CHECKING:
    from gnn_xai import molecules, testing, viz

__all__ = [
    "Callback",
    "Captum",
    "Comparison",
    "EdgeAblation",
    "Explanation",
    "Explanations",
    "FeatureAblation",
    "FragmentAblation",
    "FragmentShapley",
    "GNNExplainer",
    "GroundTruth",
    "InputXGradient",
    "IntegratedGradients",
    "NodeAblation",
    "Random",
    "Saliency",
    "SmoothGrad",
    "StoredExplanations",
    "Trace",
    "__version__",
    "algorithms",
    "compare",
    "datasets",
    "errors",
    "explain",
    "load",
    "metrics",
    "molecules",
    "pyg",
    "testing",
    "viz",
]


def __getattr__(name: str) -> ModuleType:
    """Import `molecules`, `viz`, which takes matplotlib along, and `testing` when they are first used."""
    if name in ("molecules", "testing", "viz"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
