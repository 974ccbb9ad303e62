"""NodeAblation: what the objective loses when one node is gone."""

from __future__ import annotations

from torch import Tensor

from gnn_xai.algorithms.base import algorithm, require_one_of
from gnn_xai.core.engines.evaluate import REMOVALS, Change, Removal, evaluate
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import OBJECTIVES, Objective


@algorithm("node_ablation", "drop of the score when a node is removed, one forward pass each", signed=True)
class NodeAblation:
    """Leave-one-node-out: score(graph) − score(graph without the node and its edges), for every node in play.

    The explained node of a node-level task cannot leave the graph: its features are set to 0 (embedded codes, too; codes
    that masks do not reach become code 0) and its edges stay. The last node of a graph stays for the same reason, with
    features 0.

    Attributes:
        removal: `structural` takes the node and its edges out, of the pooling too; `message` sets its features to 0 and
            multiplies the messages of its edges by 0.
        objective: the scalar compared, see `gnn_xai.extend.Problem.score`.
    """

    removal: Removal = "structural"
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        require_one_of(self, "removal", REMOVALS)
        require_one_of(self, "objective", OBJECTIVES)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        score = session.problem.score
        scores = score(prediction, target, self.objective)
        node = scores.new_zeros(len(graphs.node), 1)
        removed = graphs.node_in_play.nonzero().flatten()
        instance = graphs.node_owner[removed]
        stays = graphs.num_nodes[instance] == 1
        if graphs.root is not None:
            stays = stays | (removed == (graphs.root + graphs.node_ptr[:-1])[instance])

        def change(replicas: Replicas, select: Tensor) -> Change:
            chosen = replicas.node == removed[select][replicas.node_owner]
            kept = stays[select][replicas.node_owner]
            x = replicas.features
            if x is not None:
                x = x.masked_fill((chosen & kept).reshape(-1, *[1] * (x.dim() - 1)), 0)
            return Change(nodes=chosen & ~kept, x=x)

        def reduce(out: Tensor, select: Tensor) -> Tensor:
            return score(out, target[instance[select]], self.objective)

        drop = scores[instance] - evaluate(session, graphs, instance, change, self.removal, reduce)
        return Scores(node=node.index_copy(0, removed, drop.unsqueeze(1)), node_type="object")
