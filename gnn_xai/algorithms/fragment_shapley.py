"""FragmentShapley: Shapley values of the fragments of molecules."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gnn_xai.algorithms._fragments import FragmentKind
from gnn_xai.algorithms.base import algorithm
from gnn_xai.algorithms.shapley import Shapley
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm(
    "fragment_shapley",
    "Shapley values of fragments (groups, rings, ...), exact for few and sampled for many",
    signed=True,
    stochastic=True,
)
class FragmentShapley:
    """`Shapley(players="fragments")` under a name of its own, by which the command line can call it.

    The values of an instance add up to its score minus `extras["without_fragments"]` `[B]`, its score with every fragment
    absent, which is also its `base_value`.

    Attributes:
        kind, exact_up_to, samples, removal, replacement, objective: as in `gnn_xai.Shapley`.
    """

    kind: FragmentKind = "auto"
    exact_up_to: int = 12
    samples: int = 32
    removal: Removal = "structural"
    replacement: Literal["carbon"] | None = None
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        self._as_shapley()

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        scores = self._as_shapley().attribute(session, graphs, target, prediction)
        scores.extras["without_fragments"] = scores.extras["base_value"]
        return scores

    def _as_shapley(self) -> Shapley:
        return Shapley(
            players="fragments",
            kind=self.kind,
            exact_up_to=self.exact_up_to,
            samples=self.samples,
            removal=self.removal,
            replacement=self.replacement,
            objective=self.objective,
        )
