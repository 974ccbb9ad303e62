"""CAM: a layer's channels for every node, weighted by the class weights of the linear layer behind the pooling."""

from __future__ import annotations

from torch import Tensor

from gnn_xai.algorithms._activation_maps import activation_map
from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.engines.hidden_states import node_states, state_gradients
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.errors import InputError

ROUNDING = 1e-3
"""How far two gradients that should be the same may differ, relative to the largest."""


@algorithm(
    "cam",
    "channels of the last layer, weighted as the class weighs them (Pope et al. 2019)",
    signed=True,
    edge_masks=False,
    any_model=False,
)
class CAM:
    """Class activation map (Zhou et al., CVPR 2016; for graphs Pope et al., CVPR 2019, eq. 6 and 7).

    The score of node n is ReLU(Σ_k w_k h_nk), where the model's output for the target is Σ_k w_k mean_n h_nk and a constant.
    The weights are read from the gradient of the output, summed over nodes, and the model is refused unless its output is
    linear in h, which is found out by running it: the layer has to be followed by a mean or sum over nodes and linear
    layers alone. `gnn_xai.GradCAM` takes any model.

    When not to use it: as `gnn_xai.GradCAM`, of which it is a multiple where both apply.

    Attributes:
        layer: as in `gnn_xai.GradCAM`. Where the model applies an activation between the last layer and the pooling, name
            its module.
        rectified: keep what speaks for the target, as in the papers; `False` keeps the sign, and then the mean over the
            nodes of a graph is the output without its bias, under mean pooling.
    """

    layer: str | None = None
    rectified: bool = True

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        states = node_states(session, graphs, self.layer)[-1]
        here, mirrored = (
            state_gradients(session, graphs, target, "raw", self.layer, factor=factor) for factor in (1.0, -1.0)
        )
        if bool((here - mirrored).abs().amax() > ROUNDING * here.abs().amax()):
            layer = "the last message-passing layer" if self.layer is None else repr(self.layer)
            raise InputError(
                f"expected an output that is linear in what {layer} returns, pooled by mean or sum, got one that is not; "
                "name the module of the activation before the pooling with layer=, or use gnn_xai.GradCAM()"
            )
        return activation_map(graphs, states, here, mean=False, rectified=self.rectified)
