"""SmoothGrad: the gradient averaged over noisy copies of the input."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gnn_xai.algorithms._gradient import gradient_scores, mapped
from gnn_xai.algorithms.base import Columns, algorithm, require_number, require_positive
from gnn_xai.core.arrays.keyed_random import keyed_normal
from gnn_xai.core.arrays.segments import as_rows
from gnn_xai.core.engines.scored import NodeMaskType, Scored
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
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; of type `attributes` alone.
    """

    samples: int = 25
    noise: float = 0.15
    node_mask_type: Literal["attributes"] | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    average: Literal["gradient", "square"] = "gradient"
    absolute: bool = True
    objective: Objective = "margin"
    columns: Columns = field(default=None, hash=False)
    column_types: ClassVar[tuple[NodeMaskType, ...]] = ("attributes",)

    def __post_init__(self) -> None:
        require_positive(self, "samples", integer=True)
        require_number(self, "noise")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        edge_key = session.edge_key(graphs)
        columns = list(session.columns)
        if self.node_mask_type is not None and graphs.graphs.x is not None:
            columns.append(Scored.features("attributes"))
        row_key = {column: session.row_key(graphs, column) for column in columns}

        def noisy(replicas: Replicas, k: int, column: Scored) -> Tensor:
            values, (at, replica) = replicas.masked(column.name), replicas.elements(column.level)
            rows = as_rows(values)
            feature = torch.arange(rows.size(1), device=rows.device).unsqueeze(0)
            key = graphs.instance_key[replicas.instance[replica]].unsqueeze(1)
            keys = [key, row_key[column][at].unsqueeze(1), feature, torch.full_like(feature, 2 * k)]
            keys += [] if column.name == "x" else [torch.full_like(feature, column.key)]
            normal = keyed_normal(session.seed, *keys).to(rows.dtype)
            in_play = graphs.rows(column.name).in_play[at]
            coded = column.name in graphs.graphs.factors
            spread = rows.new_ones(len(replicas)) if coded else _range(rows, replica, in_play, len(replicas))
            noise = (self.noise * spread)[replica].unsqueeze(1) * normal
            return (rows + noise * (in_play | (column.name == "x")).unsqueeze(1)).reshape(values.shape)

        def point(replicas: Replicas, k: int) -> tuple[dict[str, Tensor], Tensor | None]:
            mask, key = None, graphs.instance_key[replicas.instance]
            if self.edge_mask_type is not None:
                stream = torch.full_like(replicas.edge, 2 * k + 1)
                normal = keyed_normal(session.seed, key[replicas.edge_owner], edge_key[replicas.edge], stream)
                mask = 1 + self.noise * normal.to(session.problem.dtype)
            return {column.name: noisy(replicas, k, column) for column in columns}, mask

        power = 2 if self.average == "square" else 1
        scores = gradient_scores(self, session, graphs, target, [1 / self.samples] * self.samples, point, power)
        if self.average == "square":
            return mapped(scores, torch.sqrt)
        return mapped(scores, torch.abs) if self.absolute else scores


def _range(rows: Tensor, owner: Tensor, in_play: Tensor, size: int) -> Tensor:
    """Largest less smallest value of each of `size` replicas, `[R]`, over the rows in play."""
    rows, owner = rows[in_play], owner[in_play]
    high = rows.new_full((size,), -torch.inf).scatter_reduce(0, owner, rows.amax(1), "amax")
    spread = high - rows.new_full((size,), torch.inf).scatter_reduce(0, owner, rows.amin(1), "amin")
    return torch.where(torch.isfinite(spread), spread, 0.0)  # an isolated node has no edges
