"""NodeAblation: the drop of the objective when one node is removed."""

from __future__ import annotations

from torch import Tensor

from gnn_xai.algorithms._ablation import ablate, node_fragments
from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm("node_ablation", "drop of the score when a node is removed, one forward pass each", signed=True)
class NodeAblation:
    """Leave-one-node-out: score(graph) − score(graph without the node and its edges), for every node in play.

    The explained node of a node-level task cannot leave the graph: its features are set to 0 (embedded codes, too; codes
    that masks do not reach become code 0) and its edges stay. So does, for `structural`, a node that the data names as the
    root of its graph (`data.root_index = tensor([3])`). The only node of a graph stays with features 0 and without its
    self-loop: a graph of which nothing is left is one node of zeros without edges.

    Attributes:
        removal: `structural` takes the node and its edges out, of the pooling too; `message` sets its features to 0 and
            multiplies the messages of its edges by 0.
        objective: the scalar compared, see `gnn_xai.extend.Problem.score`.
    """

    removal: Removal = "structural"
    objective: Objective = "margin"

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        return ablate(self, session, node_fragments(graphs), target, prediction)
