"""The laws every algorithm obeys, for the tests of this package and for algorithms of your own.

```python
from gnn_xai import testing

testing.check(MyAlgorithm())              # every law on every case; raises AssertionError with a sentence
testing.check_model(my_model, my_data)    # do masks mean on this model what they say?
```
"""

from gnn_xai.testing.laws import (
    CASES,
    CODES,
    LAWS,
    TOLERANCE,
    Case,
    Encoder,
    Law,
    Network,
    call,
    check,
    check_model,
    distance,
    plainly_masked,
    plainly_scaled,
    random_graph,
    reachable,
    seeded,
)

__all__ = [
    "CASES",
    "CODES",
    "LAWS",
    "TOLERANCE",
    "Case",
    "Encoder",
    "Law",
    "Network",
    "call",
    "check",
    "check_model",
    "distance",
    "plainly_masked",
    "plainly_scaled",
    "random_graph",
    "reachable",
    "seeded",
]
