"""The names of the algorithms that explain as they are; the others are fitted first, see `tests/test_fit.py`."""

import gnn_xai as gx

READY = [name for name, cls in gx.algorithms.REGISTRY.items() if not gx.algorithms.needs_fit(cls)]
