"""Explaining again: the same instances with another seed, target, model or data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnn_xai.algorithms._fit import Fitted
from gnn_xai.algorithms.base import REGISTRY, Algorithm, Attributing, get
from gnn_xai.api import explain
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.graphs.shelf import Shelf
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import InputError
from gnn_xai.metrics.elements import ElementLevel, Elements, elements
from gnn_xai.metrics.evaluation import OTHER_MODEL, check_task
from gnn_xai.metrics.selection import check_explanations
from gnn_xai.results.explanations import Explanations


@dataclass(frozen=True, eq=False)
class Again:
    """B explanations, and how they are made again, with the settings that they record.

    Attributes:
        model, data, forward, batch_budget: as in `gnn_xai.explain`, or a prepared problem as `model` and no data.
        explanations: of this model on this data.
        algorithm: the algorithm that made them; `None` for what they record, if it is an algorithm of this package.
        level: the scores compared, as in `gnn_xai.metrics.ges`.

    Raises:
        InputError: if they record an algorithm that is not of this package, do not score that level, or are of another task
            than the one that was prepared.
    """

    model: nn.Module | Prepared
    data: Any
    explanations: Explanations
    algorithm: str | Attributing | None
    forward: Forward | None
    batch_budget: int | Literal["auto"]
    level: ElementLevel

    def __post_init__(self) -> None:
        _ = self.method, self.scored
        if isinstance(self.model, Prepared):
            check_task(self.explanations, self.model)

    @cached_property
    def method(self) -> Algorithm:
        """The algorithm to explain with."""
        if self.algorithm is not None:
            return get(self.algorithm)
        check_explanations(self.explanations)
        hyper = dict(self.explanations.algorithm)
        name = hyper.pop("name")
        if name not in REGISTRY:
            raise InputError(
                f"expected algorithm= to explain again with, as {name!r} is not an algorithm of this package"
            )
        if "fitted" in hyper:
            raise InputError(f"expected algorithm= with the fitted {name} that made the explanations, got none")
        return get(name, **hyper)

    @cached_property
    def scored(self) -> Elements:
        """The scores of the explanations at the level compared."""
        return elements(self.explanations, self.level)

    @property
    def module(self) -> nn.Module:
        """The user's module."""
        return self.model.problem.model if isinstance(self.model, Prepared) else self.model

    @property
    def source(self) -> Any:
        """The user's data."""
        return self.model.graphs.source if isinstance(self.model, Prepared) else self.data

    @property
    def call(self) -> Forward | None:
        """The user's callable; `None` where arguments are bound by name."""
        return self.model.forward if isinstance(self.model, Prepared) else self.forward

    def explain(self, **changes: Any) -> Explanations:
        """The instances explained again, with some arguments of `gnn_xai.explain` changed; for another model, a fitted
        algorithm is fitted again.
        """
        asked, prepared = self.explanations, self.model if isinstance(self.model, Prepared) else None
        undirected = bool(asked.provenance.get("undirected", True))
        settings: dict[str, Any] = {
            "algorithm": self.method,
            "index": asked.index.t(),
            "target": asked.target,
            "seed": asked.seed,
            "max_neighbors": asked.provenance.get("max_neighbors"),
            "batch_budget": self.batch_budget,
        }
        if prepared is not None and prepared.undirected == undirected and not {"model", "data"} & changes.keys():
            settings["model"] = prepared
        else:  # another problem, which is prepared by itself
            settings |= {
                "model": self.module,
                "data": self.source,
                "task": asked.task,
                **of_type_of(asked),
                "forward": self.call,
                "undirected": "auto" if undirected else False,
                "exclude_pair": asked.provenance.get("exclude_pair", False),
            }
        if "model" in changes and isinstance(self.method, Fitted):
            settings["algorithm"] = self.method.refit(
                changes["model"],
                changes.get("data", self.source),
                **of_type_of(asked),
                forward=self.call,
                undirected=settings["undirected"],
                progress=False,
            )
        return explain(**{**settings, **changes}, progress=False).to(asked.prediction.device)

    def explain_same(self, **changes: Any) -> Explanations:
        """The same of an unchanged model and unchanged data.

        Raises:
            InputError: if the model's output is another one than that of the explanations.
        """
        explanations = self.explain(**changes)
        before, after = self.explanations.prediction, explanations.prediction
        if before.shape != after.shape or not bool(close(after, before).all()):
            raise InputError(OTHER_MODEL)
        return explanations

    def elements(self, explanations: Explanations) -> Elements:
        """The scores of other explanations at the level compared."""
        return elements(explanations, self.scored.level)


def explained(explanations: Explanations, data: Any) -> Graphs:
    """The data that was explained: for graphs that came as several, the graph of each instance, one after the other.

    Raises:
        InputError: if the data lacks an instance, or an edge has other ends.
    """
    graph_level, index = explanations.task.task_level.value == "graph", explanations.index
    shelf = Shelf(data, index.device, whole=not graph_level)
    graphs, same = None, len(explanations) > 0
    if same and graph_level:
        same = int(index.max()) < len(shelf)
        graphs = shelf.take(index) if same else None
    elif same:
        graphs = shelf.take(None)
        same = int(index.max()) < graphs.num_nodes
    if graphs is not None and same:
        edge = explanations.edge_id + starts(explanations, graphs, graphs.edge_ptr)[explanations.edge_owner]
        same = len(edge) == 0 or int(edge.max()) < graphs.num_edges
        first = starts(explanations, graphs, graphs.node_ptr)[explanations.edge_owner]
        same = same and torch.equal(graphs.edge_index[:, edge] - first, explanations.edge_index)
    if graphs is None or not same:
        raise InputError("the explained edges are not those of this data; pass the data that was explained")
    return graphs


def of_type_of(explanations: Explanations) -> dict[str, Any]:
    """`node_type` or `edge_type`, as `gnn_xai.explain` takes them; neither for homogeneous data."""
    kind = explanations.explained_type
    return {} if kind is None else {"edge_type" if isinstance(kind, tuple) else "node_type": kind}


def position(explanations: Explanations, graphs: Graphs) -> Tensor:
    """Which node, pair of nodes or graph of `explained` each instance is, as `gnn_xai.explain` takes it."""
    several = graphs.many and explanations.task.task_level.value == "graph"
    return torch.arange(len(explanations), device=graphs.device) if several else explanations.index.t()


def starts(explanations: Explanations, graphs: Graphs, ptr: Tensor) -> Tensor:
    """Where the ids of every instance start, `[B]`: with its graph, or for nodes of one graph at 0."""
    if explanations.task.task_level.value == "graph":
        return ptr[position(explanations, graphs)]
    return ptr.new_zeros(len(explanations))
