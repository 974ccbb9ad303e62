"""Counterfactuals: how often edits change what the model says, how few they are, whether they hit the truth, and how usual
what they leave is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import segment_mean
from gnn_xai.errors import InputError
from gnn_xai.metrics.again import explained, starts
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import check_explanations, check_truth
from gnn_xai.results.counterfactuals import FOUND, check_edits, edges_once, edges_removed
from gnn_xai.results.explanations import Explanations
from gnn_xai.results.ground_truth import GroundTruth

REFERENCE = 2000
"""Nodes of the data that edited nodes are compared with, at most."""

NEIGHBOURS = 10
"""The distance to which of the nearest nodes says how dense the data is somewhere."""


def flip_rate(explanations: Explanations) -> Result:
    """1 where edits were found that change what the model says, else 0, per instance, `[B]`.

    Higher is better. It is 1 − the fidelity of Lucic et al. (2022), who count the instances that keep their prediction.

    Args:
        explanations: B explanations by an algorithm that edits graphs.

    Raises:
        InputError: if they are by another algorithm.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> edited = gx.explain(karate.model, karate.data, "counterfactual_search", index=[2, 13], progress=False)
    >>> flip_rate(edited), counterfactual_size(edited)
    (flip rate 1.0000 ± 0.0000 (n=2, higher is better), counterfactual size 1.5000 ± 0.5000 (n=2, lower is better))
    """
    return Result("flip rate", _flipped(explanations).to(explanations.prediction), "higher")


def counterfactual_size(explanations: Explanations) -> Result:
    """How many edits there are, an undirected edge once, per instance: `[B]`, 1 or more.

    Lower is better. Not defined, and NaN, where no edits were found: compare sizes at equal flip rates, as where one method
    finds nothing, another has its largest ones.

    Args:
        explanations: as in `flip_rate`.

    Raises:
        InputError: as in `flip_rate`.
    """
    return Result("counterfactual size", _where(_flipped(explanations), _sizes(explanations), explanations), "lower")


def counterfactual_sparsity(explanations: Explanations) -> Result:
    """The share of the edges in play that is left as it is, 1 − edits / edges (Lucic et al. 2022), per instance, `[B]`.

    Higher is better. From 0, all edges removed, to 1; below 0 where more edges are added than there are. Undirected edges
    count once. Not defined, and NaN, where no edits were found.

    Args:
        explanations: as in `flip_rate`.

    Raises:
        InputError: as in `flip_rate`.
    """
    flipped = _flipped(explanations)
    edges = _per_instance(explanations, torch.ones_like(explanations.edge_id, dtype=torch.bool))
    values = 1 - _sizes(explanations) / edges.clamp(min=1).double()
    return Result("counterfactual sparsity", _where(flipped, values, explanations), "higher")


def counterfactual_accuracy(explanations: Explanations, ground_truth: GroundTruth) -> Result:
    """The share of the removed edges that is true (Lucic et al. 2022), per instance, `[B]` from 0 to 1.

    Higher is better. Not defined, and NaN, where no edges were removed.

    Args:
        explanations: as in `flip_rate`.
        ground_truth: which edges are true.

    Raises:
        InputError: as in `flip_rate`, or if the truth is not of these explanations.
    """
    check_explanations(explanations)
    check_truth(ground_truth)
    ground_truth.check(explanations)
    check_edits(explanations)
    gone, size = edges_removed(explanations), len(explanations)
    true, owner = ground_truth.edges(explanations)[gone].double(), explanations.edge_owner[gone]
    some = torch.bincount(owner, minlength=size) > 0
    values = _where(some, segment_mean(true, owner, size), explanations)
    return Result("counterfactual accuracy", values, "higher")


def plausibility(data: Any, explanations: Explanations) -> Result:
    """How usual the nodes are that edits leave, per instance: `[B]`, from 0, unlike all of the data, to 1.

    Higher is better; nodes of the data themselves have ½ on average. Not defined, and NaN, where no edits were found.

    A node is a point: its number of incoming edges d, as log(1 + d), and its features, each relative to its spread over the
    data; all features together weigh as much as d. How dense the data is around a point follows from the distance to the
    tenth nearest node. The score of an edited node is the share of the data's nodes that lie in no denser a place, and that
    of an instance the mean over the nodes that its edits touch.

    Args:
        data: the data that was explained.
        explanations: as in `flip_rate`.

    Raises:
        InputError: as in `flip_rate`, or for heterogeneous graphs, whose types have no features in common.
    """
    check_explanations(explanations)
    check_edits(explanations)
    if explanations.types is not None:
        raise InputError(
            "expected a homogeneous graph to compare edited nodes in, got HeteroData; measure flip_rate alone"
        )
    like, explanations = explanations.prediction, explanations.to("cpu")
    graphs = explained(explanations, data)
    first, owner, node, change = starts(explanations, graphs, graphs.node_ptr), *_touched(explanations)
    edited, row = torch.unique(torch.stack([owner, first[owner] + node]), dim=1, return_inverse=True)
    degree = torch.bincount(graphs.edge_index[1], minlength=graphs.num_nodes)
    x = torch.zeros(graphs.num_nodes, 0) if graphs.x is None else graphs.x.flatten(1)
    degree_after = degree[edited[1]].index_add(0, row, change).clamp(min=0)
    x_after, changed = x[edited[1]], _listed(explanations, "changed")
    if len(changed):  # they come last among the nodes that edits touch
        values = explanations.extras["changed_to"][explanations.extras["changed"][..., 0] >= 0]
        x_after[row[-len(changed) :], changed[:, 2]] = values.to(x_after)
    share = _usual(_points(degree, x), _points(degree_after, x_after))
    some = torch.bincount(edited[0], minlength=len(explanations)) > 0
    values = _where(some, segment_mean(share, edited[0], len(explanations)), explanations)
    return Result("plausibility", values.to(like), "higher")


def _flipped(explanations: Explanations) -> Tensor:
    """Where edits were found, `[B]` bool."""
    check_explanations(explanations)
    check_edits(explanations)
    return explanations.extras["outcome"] == FOUND


def _where(defined: Tensor, values: Tensor, explanations: Explanations) -> Tensor:
    return torch.where(defined, values, torch.nan).to(explanations.prediction)


def _listed(explanations: Explanations, name: str) -> Tensor:
    """The edits of a list as rows `[K, 3]`: the instance, and its two numbers; `added` or `changed`."""
    edits = explanations.extras.get(name)
    if edits is None:
        return explanations.index.new_zeros(0, 3)
    owner, _ = at = (edits[..., 0] >= 0).nonzero(as_tuple=True)
    return torch.cat([owner.unsqueeze(1), edits[at]], 1)


def _per_instance(explanations: Explanations, edges: Tensor) -> Tensor:
    """How many edges of each instance `edges` `[ΣE]` selects, `[B]`; undirected ones count once."""
    owner = explanations.edge_owner[edges_once(explanations, edges)]
    return torch.bincount(owner, minlength=len(explanations))


def _sizes(explanations: Explanations) -> Tensor:
    """How many edits each instance has, `[B]`."""
    owners = [_listed(explanations, name)[:, 0] for name in ("added", "changed")]
    if (gone := explanations.extras.get("node_removed")) is not None:
        owners.append(explanations.node_owner[gone])
    edges = _per_instance(explanations, edges_removed(explanations))
    return edges + torch.bincount(torch.cat(owners), minlength=len(explanations))


def _touched(explanations: Explanations) -> tuple[Tensor, Tensor, Tensor]:
    """The nodes that edits touch, once for each edit, those with another feature last: the instance, the node, and what its
    number of incoming edges changes by, `[K]` each.
    """
    gone, new = edges_once(explanations, edges_removed(explanations)), _listed(explanations, "added")
    ends = torch.cat([explanations.edge_index[:, gone].t(), new[:, 1:]])
    owner = torch.cat([explanations.edge_owner[gone], new[:, 0]])
    change = torch.cat([torch.full_like(gone, -1), torch.ones_like(new[:, 0])])
    node = ends[:, 1]
    if explanations.provenance.get("undirected"):
        other = ends[:, 0] != ends[:, 1]  # a loop has one end
        node = torch.cat([node, ends[other, 0]])
        owner, change = torch.cat([owner, owner[other]]), torch.cat([change, change[other]])
    out, changed = explanations.extras.get("node_removed"), _listed(explanations, "changed")
    out = torch.zeros_like(explanations.node_id, dtype=torch.bool) if out is None else out
    owner = torch.cat([owner, explanations.node_owner[out], changed[:, 0]])
    node = torch.cat([node, explanations.node_id[out], changed[:, 1]])
    return owner, node, torch.cat([change, change.new_zeros(len(node) - len(change))])


def _points(degree: Tensor, x: Tensor) -> Tensor:
    return torch.cat([degree.double().log1p().unsqueeze(1), x.double()], 1)


def _usual(points: Tensor, edited: Tensor) -> Tensor:
    """The share of nodes of the data `[N, 1 + F]` that lie in no denser a place than each edited one `[M, 1 + F]`, `[M]`."""
    scale = points.std(0, correction=0)
    scale[1:] = torch.where(scale[1:] > 0, scale[1:] * (points.size(1) - 1) ** 0.5, torch.inf)  # all alike: no distance
    scale = scale.clamp(min=1e-6)
    points = (points / scale)[:: max(len(points) // REFERENCE, 1)]

    def reach(nodes: Tensor, itself: int) -> Tensor:
        """The distance to the tenth nearest node of the data, a node itself left out."""
        return torch.cdist(nodes, points).kthvalue(min(NEIGHBOURS + itself, len(points)), 1).values

    ahead = reach(points, 1) - reach(edited / scale, 0).unsqueeze(1)
    return (ahead > 1e-6).double().mean(1) + (ahead.abs() <= 1e-6).double().mean(1) / 2
