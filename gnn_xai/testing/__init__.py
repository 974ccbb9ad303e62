"""The laws every algorithm obeys, for the tests of this package and for algorithms of your own.

```python
from gnn_xai import testing

testing.check(MyAlgorithm())              # every law on every case; raises AssertionError with a sentence
testing.check_model(my_model, my_data)    # do masks mean on this model what they say?
```
"""

from gnn_xai.testing.cases import CASES, CODES, Case, Encoder, Network, call, random_graph, seeded
from gnn_xai.testing.comparing import TOLERANCE, distance
from gnn_xai.testing.laws import LAWS, Law, check
from gnn_xai.testing.models import check_model
from gnn_xai.testing.plain import plainly_masked, plainly_scaled, reachable

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
