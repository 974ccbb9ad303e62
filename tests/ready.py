"""The names of the algorithms that explain any model as they are: they need no fit, no layers of a kind, and little time."""

import gnn_xai as gx

DEAR = {"counterfactual_search", "cf_gnn_explainer", "cf2"}  # hundreds of passes; their engines are those of others

READY = [
    name
    for name, cls in gx.algorithms.REGISTRY.items()
    if name not in DEAR and gx.algorithms.any_model(cls) and not gx.algorithms.needs_fit(cls)
]
