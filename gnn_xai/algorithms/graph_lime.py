"""GraphLIME: the features of a neighbourhood on which the model's outputs there depend, by a lasso of kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from gnn_xai.algorithms._regression import lasso
from gnn_xai.algorithms.base import algorithm, require_number
from gnn_xai.core.engines.hidden_states import node_outputs
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.interventions import require_float_features

BLOCK = 2**24
"""Numbers that the kernels of some features may hold at once."""


@algorithm(
    "graph_lime",
    "features of the neighbourhood that outputs depend on (Huang et al. 2022)",
    signed=True,
    edge_masks=False,
    any_model=False,
)
class GraphLIME:
    """GraphLIME (Huang et al., TKDE 2022, eq. 5), an HSIC lasso over the nodes within reach of the explained one.

    Each feature has a Gaussian kernel between these nodes, and so have the model's outputs at them. The scores β ≥ 0 of
    features make ½ ‖L − Σ_k β_k K_k‖² + ρ Σ_k β_k smallest, with centred kernels of norm 1. A feature that is the
    same on all of these nodes scores 0.

    When not to use it: it looks at the neighbours' outputs and never changes an input, so it says what goes along with
    outputs near the node, and not what the prediction is made of; it knows nothing about edges, and it needs dozens of nodes
    within reach. It explains nodes of homogeneous graphs alone, as graphs and pairs have no output at each node.

    Attributes:
        rho: ρ, larger for fewer features; .1 in the authors' code.
    """

    rho: float = 0.1

    def __post_init__(self) -> None:
        require_number(self, "rho")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        x = require_float_features(session.problem, "GraphLIME").flatten(1)
        outputs = node_outputs(session, graphs)
        scores = x.new_zeros(len(graphs), x.size(1))
        for instance in range(len(graphs)):  # neighbourhoods differ in size, and kernels are square
            at = slice(int(graphs.node_ptr[instance]), int(graphs.node_ptr[instance + 1]))
            inside = graphs.node_in_play[at]
            rows, out = x[graphs.node[at][inside]].double(), outputs[at][inside].double()
            varied = (rows != rows[:1]).any(0).nonzero().flatten()
            if len(varied) and bool((out != out[:1]).any()):
                scores[instance, varied] = _hsic_lasso(rows[:, varied], out, self.rho).to(scores.dtype)
            session.advance(1 / len(graphs))
        return Scores(node=scores, node_type="common_attributes")


def _hsic_lasso(rows: Tensor, out: Tensor, rho: float) -> Tensor:
    """β `[F]` of features `[n, F]` and outputs `[n, C]`."""
    wanted = _kernels(out.unsqueeze(1))
    blocks = rows.split(max(BLOCK // len(rows) ** 2, 1), dim=1)
    kernels = torch.cat([_kernels(block.unsqueeze(2)) for block in blocks])
    square, product = kernels @ kernels.t(), kernels @ wanted.t()
    return lasso(square.unsqueeze(0), product.unsqueeze(0), rho, positive=True).flatten()


def _kernels(points: Tensor) -> Tensor:
    """Centred Gaussian kernels `[F, n²]` of norm 1 between n nodes, from F sets of coordinates `[n, F, D]`;
    of the width of the data's standard deviation times √D.
    """
    points = (points - points.mean(0)).transpose(0, 1)
    spread = points.std(1, keepdim=True)
    points = points / torch.where(spread > 0, spread, 1)
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square() / points.size(2)
    kernel = torch.exp(-distance / 2)
    kernel = kernel - kernel.mean(1, keepdim=True) - kernel.mean(2, keepdim=True) + kernel.mean((1, 2), keepdim=True)
    kernel = kernel.flatten(1)
    return kernel / kernel.norm(dim=1, keepdim=True).clamp(min=1e-12)
