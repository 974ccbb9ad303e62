"""LRP: relevance that is passed back layer by layer, in proportion to what each input added."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from torch import Tensor

from gnn_xai.algorithms._gradient import added_up, gradient_scores, times_input
from gnn_xai.algorithms.base import Columns, algorithm, require_number
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective
from gnn_xai.core.model.rules import relevance


@algorithm("lrp", "relevance passed back layer by layer (Bach et al. 2015)", signed=True, one_pass=True)
class LRP:
    """Layer-wise relevance propagation (Bach et al., PLOS ONE 2015) by the rules ε and γ (Montavon et al. 2019).

    A linear map shares the relevance of each output among its inputs, in proportion to what they add to it; an activation
    passes relevance on unchanged; a sum over messages shares it in proportion to the messages; weights of attention are
    constants (Ali et al., ICML 2022). With ε = γ = 0 and ReLUs this is gradient × input. What an edge scores is the
    relevance that flows along it, added up over layers.

    The relevance of all features together is the score, but for what biases and ε absorb:
    `extras["completeness_error"]` is the difference. It is small for models without biases on `objective="raw"`; a margin
    between more than two classes is not linear in the output. Products of two things that both depend on the input (gates,
    norms) keep their plain gradients, which counts relevance twice: look at the difference.

    When not to use it: where biases are large, or on models with normalisation by layer or graph.

    Attributes:
        epsilon: added to every denominator, away from 0, in the unit of the activations; its share of the relevance is lost.
        gamma: parts that agree with the sign of the sum count 1 + γ times; larger values give less noise, and less of what
            speaks against the target.
        node_mask_type: `attributes`, or `None` for no feature scores.
        edge_mask_type: `object`, or `None` for no edge scores.
        objective: the scalar that is the relevance at the start, see `gnn_xai.extend.Problem.score`.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; of type `attributes` alone.
    """

    epsilon: float = 1e-6
    gamma: float = 0.0
    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    objective: Objective = "margin"
    columns: Columns = field(default=None, hash=False)
    column_types: ClassVar[tuple[NodeMaskType, ...]] = ("attributes",)

    def __post_init__(self) -> None:
        require_number(self, "epsilon", "gamma")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        scores = gradient_scores(self, session, graphs, target, rules=lambda _: relevance(self.epsilon, self.gamma))
        scores = times_input(scores, graphs)
        if scores.attributes:
            total = added_up(session, graphs, Scores.of(None, scores.attributes))
            score = session.problem.score(prediction, target, self.objective)
            scores.extras["completeness_error"] = total - score
        return scores
