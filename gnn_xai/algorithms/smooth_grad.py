"""SmoothGrad: the gradient averaged over noisy copies of the input."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._gradient import gradient_scores, mapped
from gnn_xai.algorithms.base import algorithm, require_number, require_positive
from gnn_xai.core.arrays.keyed_random import keyed_normal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.problem import Objective


@algorithm("smooth_grad", "saliency averaged over noisy inputs (Smilkov et al. 2017)", signed=True, stochastic=True)
class SmoothGrad:
    """SmoothGrad (Smilkov et al. 2017, eq. 2): the mean gradient over `samples` copies with Gaussian noise.

    Features get noise of `noise` times their range (largest − smallest value over the instance's nodes), as in the
    paper; edge masks and the factors of embedded codes, whose range is 0 to 1, get noise of standard deviation `noise`
    around 1, one number for an undirected edge.

    Where the noise turns the sign of a gradient, copies cancel in their mean, even for an important element.
    SmoothGrad-Squared (Hooker et al., NeurIPS 2019) takes the mean of squares instead. Its root is returned, which has the
    unit of a gradient and the same order.

    >>> import gnn_xai as gx
    >>> ds = gx.datasets.load("ba_shapes")
    >>> squared = gx.SmoothGrad(average="square", noise=0.3, node_mask_type=None)
    >>> gx.explain(ds.model, ds.data, squared, index=[300], progress=False).one_sided
    True

    Attributes:
        samples: noisy copies.
        noise: noise level, a fraction of the range.
        node_mask_type, edge_mask_type: as in `gnn_xai.Saliency`.
        average: of the copies' gradients, `gradient` for their mean, or `square` for their root mean square.
        absolute: take the absolute value of the mean; `False` keeps the sign. A root mean square has none.
        objective: the scalar to differentiate, see `gnn_xai.extend.Problem.score`.
    """

    samples: int = 25
    noise: float = 0.15
    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    average: Literal["gradient", "square"] = "gradient"
    absolute: bool = True
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        require_positive(self, "samples", integer=True)
        require_number(self, "noise")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        features, edges = self.node_mask_type is not None, self.edge_mask_type is not None
        source, edge_key = graphs.graphs, session.edge_key(graphs)

        def point(replicas: Replicas, k: int) -> tuple[Tensor | None, Tensor | None]:
            x = mask = None
            key = graphs.instance_key[replicas.instance]
            if features and replicas.features is not None:
                rows = replicas.features.reshape(len(replicas.node), -1)
                node_key = source.node_key[graphs.node[replicas.node]].unsqueeze(1)
                feature = torch.arange(rows.size(1), device=rows.device).unsqueeze(0)
                stream = torch.full_like(feature, 2 * k)
                normal = keyed_normal(session.seed, key[replicas.node_owner].unsqueeze(1), node_key, feature, stream)
                spread = _range(rows, replicas) if source.factors is None else rows.new_ones(len(replicas))
                scale = (self.noise * spread)[replicas.node_owner].unsqueeze(1)
                x = (rows + scale * normal.to(rows.dtype)).reshape(replicas.features.shape)
            if edges:
                stream = torch.full_like(replicas.edge, 2 * k + 1)
                normal = keyed_normal(session.seed, key[replicas.edge_owner], edge_key[replicas.edge], stream)
                mask = 1 + self.noise * normal.to(session.problem.dtype)
            return x, mask

        power = 2 if self.average == "square" else 1
        scores = gradient_scores(self, session, graphs, target, [1 / self.samples] * self.samples, point, power)
        if self.average == "square":
            return mapped(scores, torch.sqrt)
        return mapped(scores, torch.abs) if self.absolute else scores


def _range(rows: Tensor, replicas: Replicas) -> Tensor:
    """Largest less smallest feature value of each replica, `[R]`, over the nodes in play."""
    in_play = replicas.source.node_in_play[replicas.node]
    rows, owner, size = rows[in_play], replicas.node_owner[in_play], (len(replicas),)
    high = rows.new_full(size, -torch.inf).scatter_reduce(0, owner, rows.amax(1), "amax")
    return high - rows.new_full(size, torch.inf).scatter_reduce(0, owner, rows.amin(1), "amin")
