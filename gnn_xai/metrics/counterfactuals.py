"""Counterfactuals: how often edits change what the model says, how few they are, whether they hit the truth, and how usual
what they leave is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gnn_xai.core.graphs.source import Graphs
from gnn_xai.errors import InputError
from gnn_xai.metrics.again import explained, starts
from gnn_xai.metrics.result import Result
from gnn_xai.metrics.selection import check_explanations, check_truth
from gnn_xai.results._strength import undirected_once
from gnn_xai.results.counterfactuals import Counterfactual
from gnn_xai.results.explanations import Explanation, Explanations
from gnn_xai.results.ground_truth import GroundTruth

REFERENCE = 2000
"""Nodes of the data that edited nodes are compared with, at most."""

NEIGHBOURS = 10
"""The distance to which of the nearest nodes says how dense the data is somewhere."""


def flip_rate(explanations: Explanations) -> Result:
    """1 where edits were found that change what the model says, else 0, per instance.

    Higher is better. It is 1 − the fidelity of Lucic et al. (2022), who count the instances that keep their prediction.

    Args:
        explanations: B explanations by an algorithm that edits graphs.

    Raises:
        InputError: if they are by another algorithm.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> found = gx.explain(karate.model, karate.data, "counterfactual_search", index=[2, 13], progress=False)
    >>> flip_rate(found), counterfactual_size(found)
    (flip rate 1.0000 ± 0.0000 (n=2, higher is better), counterfactual size 1.5000 ± 0.5000 (n=2, lower is better))
    """
    values = torch.tensor([float(c.found) for _, c in _each(explanations)])
    return Result("flip rate", values.to(explanations.prediction), "higher")


def counterfactual_size(explanations: Explanations) -> Result:
    """How many edits there are, an undirected edge once, per instance; not defined where none were found.

    Lower is better. Compare it at equal flip rates: where one method finds nothing, another has its largest ones.

    Args:
        explanations: as in `flip_rate`.

    Raises:
        InputError: as in `flip_rate`.
    """
    return _measured("counterfactual size", explanations, lambda e, c: c.size, "lower")


def counterfactual_sparsity(explanations: Explanations) -> Result:
    """Which share of the edges in play is left as it is, 1 − edited / edges (Lucic et al. 2022), per instance.

    Higher is better; undirected edges count once. Not defined where no edits were found.

    Args:
        explanations: as in `flip_rate`.

    Raises:
        InputError: as in `flip_rate`.
    """
    return _measured("counterfactual sparsity", explanations, lambda e, c: 1 - c.size / max(_edges(e), 1), "higher")


def counterfactual_accuracy(explanations: Explanations, ground_truth: GroundTruth) -> Result:
    """Which share of the removed edges is true (Lucic et al. 2022), per instance.

    Higher is better. Not defined where no edges were removed.

    Args:
        explanations: as in `flip_rate`.
        ground_truth: which edges are true.

    Raises:
        InputError: as in `flip_rate`, or if the truth is not of these explanations.
    """
    check_explanations(explanations)
    check_truth(ground_truth)
    ground_truth.check(explanations)
    truth = ground_truth.edges(explanations).split(explanations.edge_ptr.diff().tolist())
    parts = []
    for part, (e, c) in zip(truth, _each(explanations), strict=True):
        gone = e.extras.get("edge_removed")
        none = not c.found or gone is None or not bool(gone.any())
        parts.append(float("nan") if none else float((part[gone] > 0).double().mean()))
    return Result("counterfactual accuracy", torch.tensor(parts).to(explanations.prediction), "higher")


def plausibility(data: Any, explanations: Explanations) -> Result:
    """How usual the nodes are that edits leave, from 0, unlike all of the data, to 1, per instance.

    A node is where its degree, as log(1 + d), and its features lie, each relative to their spread over the data. How
    dense the data is there follows from the distance to the tenth nearest node. The score of an edited node is the share
    of the data's nodes that lie in no denser a place, and that of an instance the mean over the nodes that its edits touch.
    So nodes of the data themselves have 0.5 on average. Not defined where no edits were found.

    Args:
        data: the data that was explained.
        explanations: as in `flip_rate`.

    Raises:
        InputError: as in `flip_rate`, or for heterogeneous graphs, whose types have no features in common.
    """
    check_explanations(explanations)
    if explanations.types is not None:
        raise InputError(
            "expected a homogeneous graph to compare edited nodes in, got HeteroData; measure flip_rate alone"
        )
    graphs = _graphs(data, explanations)
    degree = torch.bincount(graphs.edge_index[1], minlength=graphs.num_nodes)
    features = torch.zeros(graphs.num_nodes, 0) if graphs.x is None else graphs.x.flatten(1).float()
    usual = _Usual(torch.cat([_logged(degree).unsqueeze(1), _scaled(features)], 1))
    first, both = starts(explanations, graphs, graphs.node_ptr), bool(explanations.provenance.get("undirected"))
    values = []
    for start, (_, c) in zip(first.tolist(), _each(explanations), strict=True):
        after: dict[int, int] = {}
        for edit in c.edits:
            more = {"edge removed": -1, "edge added": 1}.get(edit.kind, 0)
            ends = edit.at if more and both else edit.at[1:] if more else edit.at[:1]
            for node in set(ends):
                after[start + node] = after.get(start + node, int(degree[start + node])) + more
        if not after:
            values.append(float("nan"))
            continue
        nodes = torch.tensor(list(after))
        x = features[nodes].clone()
        for edit in c.edits:
            if edit.value is not None:
                x[list(after).index(start + edit.at[0]), edit.at[1]] = edit.value
        counts = _logged(torch.tensor(list(after.values())).clamp(min=0)).unsqueeze(1)
        values.append(float(usual.share(torch.cat([counts, _scaled(x, features)], 1)).mean()))
    return Result("plausibility", torch.tensor(values).to(explanations.prediction), "higher")


class _Usual:
    """Where nodes of the data lie `[N, D]`, and how densely."""

    def __init__(self, points: Tensor) -> None:
        scale = torch.ones(points.size(1))
        scale[0] = points[:, 0].std(correction=0).clamp(min=1e-6)
        self.scale = scale
        step = max(len(points) // REFERENCE, 1)
        self.points = (points / scale)[::step]
        self.known = self._reach(self.points, 1)

    def _reach(self, points: Tensor, itself: int) -> Tensor:
        """The distance to the tenth nearest node of the data, a node itself left out."""
        count = min(NEIGHBOURS + itself, len(self.points))
        return torch.cdist(points, self.points).kthvalue(count, 1).values

    def share(self, points: Tensor) -> Tensor:
        """Which share of the data's nodes lies in no denser a place than each of some points."""
        reach = self._reach(points / self.scale, 0).unsqueeze(1)
        return (self.known > reach + 1e-6).double().mean(1) + ((self.known - reach).abs() <= 1e-6).double().mean(1) / 2


def _logged(degree: Tensor) -> Tensor:
    return degree.float().log1p()


def _scaled(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Features relative to their spread, such that all together weigh as much as one."""
    spread = (x if like is None else like).std(0, correction=0)
    return torch.where(spread > 0, x / spread.clamp(min=1e-6), 0.0) / max(x.size(1), 1) ** 0.5


def _graphs(data: Any, explanations: Explanations) -> Graphs:
    """The explained data on the CPU, checked."""
    return explained(explanations.to("cpu"), data)


def _each(explanations: Explanations) -> list[tuple[Explanation, Counterfactual]]:
    check_explanations(explanations)
    return [(e, e.counterfactual) for e in explanations.to("cpu")]


def _edges(e: Explanation) -> int:
    """The edges in play, undirected ones once."""
    if not e.source.provenance.get("undirected"):
        return len(e.edge_id)
    return len(undirected_once(e.edge_index, torch.zeros(len(e.edge_id))))


def _measured(
    name: str, explanations: Explanations, value: Callable[[Explanation, Counterfactual], float], better: Any
) -> Result:
    values = [float(value(e, c)) if c.found else float("nan") for e, c in _each(explanations)]
    return Result(name, torch.tensor(values).to(explanations.prediction), better)
