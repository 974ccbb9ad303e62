"""The names of the algorithms that explain any model as they are: they need no fit, and no layers of a kind."""

import gnn_xai as gx

READY = [
    name
    for name, cls in gx.algorithms.REGISTRY.items()
    if gx.algorithms.any_model(cls) and not gx.algorithms.needs_fit(cls)
]
