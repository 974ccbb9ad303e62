"""GradCAM: a layer's channels for every node, weighted by their mean gradient."""

from __future__ import annotations

from torch import Tensor

from gnn_xai.algorithms._activation_maps import activation_map
from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.engines.hidden_states import node_states, state_gradients
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm(
    "grad_cam",
    "channels of a layer, weighted by their mean gradient (Pope et al. 2019)",
    signed=True,
    edge_masks=False,
    any_model=False,
)
class GradCAM:
    """Gradient-weighted class activation map (Selvaraju et al., ICCV 2017; for graphs Pope et al., CVPR 2019, eq. 8 and 9).

    The score of node n is ReLU(Σ_k α_k h_nk): h is what a layer returns for all of the data, and α_k the mean over the nodes
    of an instance of ∂ score / ∂ h_nk. One pass for the states, one forward and backward for the gradients.

    A node's state has already gathered what is around it, so maps of late layers are smooth and point to neighbourhoods and
    not to single nodes. Where the prediction is that of one node, the weights come from this node alone, and the map says
    which neighbours have states like those the class asks for, not what the prediction would be without them: take
    `gnn_xai.NodeAblation` for that. It needs layers that return a row for each node, which those of heterogeneous
    graphs do not.

    Attributes:
        layer: a layer by its name in `model.named_modules()`, with ` #2` for its second call; `None` for the last
            call of a message-passing layer. What counts is what the module returns, so name the module `torch.nn.ReLU` to
            have the activation counted in, as in the paper.
        rectified: keep what speaks for the target, as in the papers; `False` keeps the sign.
        objective: the scalar to differentiate, see `gnn_xai.extend.Problem.score`.
    """

    layer: str | None = None
    rectified: bool = True
    objective: Objective = "margin"

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        states = node_states(session, graphs, self.layer)[-1]
        gradient = state_gradients(session, graphs, target, self.objective, self.layer)
        return activation_map(graphs, states, gradient, mean=True, rectified=self.rectified)
