"""The names of the algorithms that explain any model as they are: they need no fit, no layers of a kind, and little time."""

from typing import Any

import gnn_xai as gx

DEAR = {"counterfactual_search", "cf_gnn_explainer", "cf2"}  # hundreds of passes; their engines are those of others
ALIKE = {"guided_backprop", "deconvolution"}  # which differ from saliency in the rule of an activation alone

ALL: dict[str, Any] = gx.algorithms.REGISTRY

READY = [
    name
    for name, cls in ALL.items()
    if name not in DEAR | ALIKE and gx.algorithms.any_model(cls) and not gx.algorithms.needs_fit(cls)
]
