"""GNNExplainer: masks learned for every instance by gradient descent."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

import torch
from torch import Tensor

from gnn_xai.algorithms.base import Columns, algorithm, require_number, require_positive
from gnn_xai.core.engines.learn import learn
from gnn_xai.core.engines.parameters import MaskObjective
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs


@algorithm(
    "gnn_explainer", "edge and feature masks learned per instance (Ying et al. 2019)", signed=False, stochastic=True
)
class GNNExplainer:
    """GNNExplainer (Ying et al., NeurIPS 2019, eq. 5–7): the masks under which the prediction stays, kept small and crisp.

    Minimises, per instance, −log p(target | masks) + `edge_size`·Σm + `edge_ent`·mean H(m) + `node_feat_size`·mean n +
    `node_feat_ent`·mean H(n) over sigmoid masks. Coefficients are those of the paper's code and of PyG.

    Departures: the two directions of an undirected edge share one parameter; edges stay in play by reachability, not by
    a non-zero gradient in the first step (which drops edges behind a dead ReLU); the paper's Laplacian term, which its
    code sets to weight 0 for edges, is left out; masks start almost equal (`init_std`), where the paper's start of
    N(0, 2/n) on small computation graphs outweighs what a hundred steps can learn.

    Attributes:
        epochs: steps of Adam.
        lr: learning rate of Adam.
        node_mask_type: `common_attributes` (one mask over features for each instance, as in the paper), `attributes`
            (every feature of every node), `object` (one number a node), or `None`. Where features are integer codes, all
            three multiply what the model embeds them as: a feature is an embedded column of `x`.
        edge_mask_type: `object`, or `None` for no edge mask.
        edge_size, edge_ent, node_feat_size, node_feat_ent: coefficients of the regularisers.
        loss: `nll` as in the paper, or `margin`, the negative log-odds, which does not saturate for a very sure model.
        init_std: standard deviation of the initial masks before the sigmoid.
        edge_init: mean of the initial edge masks before the sigmoid: 0, half of every message, as in PyG; 1 in the paper's
            code. For models that half of all messages confuses, start where they see nearly all, at 3 to 5.
        tol: stop learning an instance once none of its masks moved by more than this in 10 epochs; `extras["epochs"]` then
            tells how many each took. `None` for all `epochs`. A mask that has just begun to move does so by up to
            2.5·`lr` in 10 epochs, whatever the gradient, so choose less than that.
        restarts: how many initial masks to learn from; the masks are then the mean, and `extras` hold the standard
            deviation as `edge_std` and `node_std`, and the most epochs of any restart.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; their masks have the regularisers
            of node masks, each as a mean over its own values.
    """

    epochs: int = 100
    lr: float = 0.01
    node_mask_type: NodeMaskType | None = "common_attributes"
    edge_mask_type: Literal["object"] | None = "object"
    edge_size: float = 0.005
    edge_ent: float = 1.0
    node_feat_size: float = 1.0
    node_feat_ent: float = 0.1
    loss: Literal["nll", "margin"] = "nll"
    init_std: float = 0.01
    edge_init: float = 0.0
    tol: float | None = None
    restarts: int = 1
    columns: Columns = field(default=None, hash=False)

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "restarts", integer=True)
        require_positive(self, "lr", *(["tol"] if self.tol is not None else []))
        require_number(self, "edge_size", "edge_ent", "node_feat_size", "node_feat_ent", "init_std", "edge_init")

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        objective = MaskObjective(self.loss, self.edge_size, self.edge_ent, self.node_feat_size, self.node_feat_ent)
        runs = [
            learn(
                session,
                graphs,
                target,
                prediction,
                edge_mask=self.edge_mask_type is not None,
                node_mask_type=self.node_mask_type,
                objective=objective,
                epochs=self.epochs,
                lr=self.lr,
                init_std=self.init_std,
                edge_init=self.edge_init,
                tol=self.tol,
                restart=restart,
                share=1 / self.restarts,
            )
            for restart in range(self.restarts)
        ]
        if self.restarts == 1:
            return runs[0]
        masks = Scores(node_type=self.node_mask_type)
        if self.tol is not None:
            masks.extras["epochs"] = torch.stack([run.extras["epochs"] for run in runs]).amax(0)
        for part in ("edge", "node"):
            values = [getattr(run, part) for run in runs]
            if values[0] is not None:
                stacked = torch.stack(values)
                setattr(masks, part, stacked.mean(0))
                spread = (stacked - stacked.mean(0)).square().sum(0) / (self.restarts - 1)  # std() warns on no elements
                masks.extras[f"{part}_std"] = spread.sqrt()
        masks.columns = {
            column: torch.stack([run.columns[column] for run in runs]).mean(0) for column in runs[0].columns
        }
        return masks
