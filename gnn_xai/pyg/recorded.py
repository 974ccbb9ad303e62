"""Explanations of PyG's as `Explanations`: their masks laid on computation graphs, and the model run under them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data.data import BaseData
from torch_geometric.explain import Explanation as PyGExplanation
from torch_geometric.explain import HeteroExplanation
from torch_geometric.explain.config import ModelConfig, ModelMode, ModelTaskLevel

from gnn_xai.api import explain
from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.handed_in import device_of, type_of
from gnn_xai.core.engines.prepare import Prepared, refuse_what_was_prepared
from gnn_xai.core.engines.scored import NODE_MASK_TYPES, NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.types import EdgeType
from gnn_xai.core.model.arguments import as_task, output_type
from gnn_xai.core.model.index import PAIRS, Index, list_of
from gnn_xai.core.model.pairs import readout_of
from gnn_xai.core.model.problem import Forward
from gnn_xai.core.model.readout import Readout
from gnn_xai.errors import InputError
from gnn_xai.pyg._calls import rows_of
from gnn_xai.pyg._flat import Masks, masks_of, noted_type

if TYPE_CHECKING:
    from gnn_xai.results.explanations import Explanations


def read(
    explanations: PyGExplanation | HeteroExplanation | Sequence[PyGExplanation | HeteroExplanation],
    model: nn.Module | Prepared,
    data: Any = None,
    *,
    task: Literal["node", "edge", "graph"] | ModelConfig | None = None,
    node_type: str | None = None,
    edge_type: EdgeType | None = None,
    index: Index = None,
    target: int | Sequence[int] | Tensor | None = None,
    forward: Forward | None = None,
    name: str = "pyg",
    signed: bool | None = None,
) -> Explanations:
    """See `gnn_xai.Explanations.from_pyg`."""
    results = _listed(explanations)
    written: ModelConfig | None = getattr(results[0], "_model_config", None)
    settings: dict[str, Any] = {}
    if isinstance(model, Prepared):
        refuse_what_was_prepared(task=task, forward=forward, node_type=node_type, edge_type=edge_type)
        model.check_unchanged()
        config, graphs, readout = model.problem.task, model.graphs, model.problem.readout
        _require_kind(results, graphs)
        if written is not None and written != config:
            raise InputError(f"expected explanations of the task that was prepared, {config}, got some of {written}")
    else:
        config = as_task(written if task is None else task, data)
        graphs = as_graphs(data, device_of(model))
        _require_kind(results, graphs)
        of_type = type_of(node_type, edge_type)
        if of_type is None and graphs.types is not None and config.task_level != ModelTaskLevel.graph:
            of_type = noted_type(results, config.task_level == ModelTaskLevel.node)
        of_type = output_type(graphs, config.task_level, of_type)
        readout = readout_of(config.task_level, of_type)
        settings = {"data": data, "task": config, "forward": forward}
        settings |= {"node_type" if isinstance(of_type, str) else "edge_type": of_type}
    named = [None] * len(results) if index is None else list_of(index) if len(results) > 1 else [index]
    if len(named) != len(results):
        raise InputError(f"expected one index for each of {len(results)} explanations, got {len(named)}")
    laid = [
        _lay(e, number, graphs, config, readout, at) for number, (e, at) in enumerate(zip(results, named, strict=True))
    ]
    rows = [one.rows for one in laid]
    which = torch.repeat_interleave(torch.arange(len(results)), torch.tensor([len(r) for r in rows]))
    masks = _Recorded(laid, which.to(graphs.device), name, signed)
    if target is None and all(one.targets is not None for one in laid):
        target = torch.cat([one.targets for one in laid if one.targets is not None])
    masked = explain(model, algorithm=masks, index=torch.cat(rows).t(), target=target, progress=False, **settings)
    recorded = [one.prediction for one in laid if one.prediction is not None]
    if len(recorded) == len(laid):
        noted = torch.cat(recorded)
        if noted.shape != masked.prediction.shape or not bool(close(masked.prediction, noted).all()):
            raise InputError(
                "the model's output is not the one that was explained; pass the same model, with the same weights, and the "
                "same data"
            )
    return dataclasses.replace(masked, provenance={**masked.provenance, "undirected": masks.tied})


def _listed(explanations: Any) -> list[Any]:
    """Explanations of PyG's as a list.

    Raises:
        InputError: if there are none, or something else.
    """
    results = [explanations] if isinstance(explanations, BaseData) else list(explanations)
    for e in results:
        if not isinstance(e, (PyGExplanation, HeteroExplanation)):
            raise InputError(f"expected explanations by torch_geometric.explain, or by to_pyg, got {type(e).__name__}")
    if not results:
        raise InputError("expected at least one explanation, got an empty list")
    return results


def _require_kind(results: list[Any], graphs: Graphs) -> None:
    """Raise an `InputError` unless explanations are by type exactly where the data is."""
    expected = PyGExplanation if graphs.types is None else HeteroExplanation
    for e in results:
        if not isinstance(e, expected):
            what = "homogeneous" if graphs.types is None else "heterogeneous"
            raise InputError(
                f"expected {expected.__name__} for {what} data, got {type(e).__name__}; pass the data that was explained"
            )


@dataclasses.dataclass(eq=False)
class _Laid:
    """An explanation of PyG's, laid on the data.

    Attributes:
        rows: `[K]` the outputs that it explains, pairs of nodes as `[K, 2]`.
        targets: `[K]` the class explained of each; `None` where it does not say, or for a regression.
        prediction: `[K, C]` what the model said; `None` where it does not say.
        edge: `[E]`, or `None`.
        node: `[N, 1]`, `[N, F]`, `[1, F]`, or `None`.
        kinds: which of these it may be; a graph of one node does not tell.
        first_node, first_edge: how many nodes and edges of the data come before its own.
    """

    rows: Tensor
    targets: Tensor | None
    prediction: Tensor | None
    edge: Tensor | None
    node: Tensor | None
    kinds: set[NodeMaskType | None]
    first_node: int
    first_edge: int


def _lay(e: Any, number: int, graphs: Graphs, config: ModelConfig, readout: Readout, at: Any) -> _Laid:
    """An explanation, with its place in a list, laid on the data; `at` is what it is said to be an explanation of.

    Raises:
        InputError: if it is not of this data.
    """
    graph_level, noted = config.task_level == ModelTaskLevel.graph, _noted(e)
    pairs = _pairs(e, number, graphs, readout, at) if config.task_level == ModelTaskLevel.edge else None
    count = readout.count(graphs) if pairs is None else len(pairs)
    at = torch.arange(count) if pairs is not None and at is not None else at
    nodes, edges = slice(0, graphs.num_nodes), slice(0, graphs.num_edges)
    masks = _masks_of(e, graphs, nodes, edges)
    if masks is not None:
        rows = rows_of(noted.get("index") if at is None else at, count)
    else:
        rows = rows_of(min(number, count - 1) if at is None else at, count)
        if graph_level and len(rows) == 1:
            nodes, edges = (slice(*ptr[int(rows) :][:2].tolist()) for ptr in (graphs.node_ptr, graphs.edge_ptr))
        masks = _masks_of(e, graphs, nodes, edges)
    if masks is None:
        remedy = ", and index= with the graph of each explanation" if graph_level and graphs.many else ""
        raise InputError(
            f"explanation {number} is not of this data: its masks, x or edge_index differ; pass the data that was "
            f"explained{remedy}"
        )
    edge, node, kinds = masks
    if edge is None and node is None:
        raise InputError(f"explanation {number} holds neither node_mask nor edge_mask, so it explains nothing")
    target, prediction = noted.get("target"), noted.get("prediction")
    if config.mode == ModelMode.regression or not isinstance(target, Tensor):
        target = None
    elif target.numel() == 1 or target.numel() == count:
        target = target.reshape(-1).expand(count)[rows].to(graphs.device)
    else:
        target = None
    if isinstance(prediction, Tensor):
        prediction = prediction.detach().reshape(len(prediction) if prediction.dim() else 1, -1)
        prediction = prediction.expand(count, -1)[rows].to(graphs.device) if len(prediction) in (1, count) else None
    rows = rows if pairs is None else pairs[rows]
    return _Laid(rows, target, prediction, edge, node, kinds, nodes.start, edges.start)


def _noted(e: Any) -> Any:
    """What an explanation says as a whole, by name."""
    return e._global_store if isinstance(e, HeteroExplanation) else e


def _pairs(e: Any, number: int, graphs: Graphs, readout: Readout, at: Any) -> Tensor:
    """The pairs of nodes that the model was asked about, `[P, 2]`, or those that the explanation is said to be of.

    Raises:
        InputError: if neither says which.
    """
    asked = _noted(e).get(PAIRS) if at is None else at
    if asked is None and isinstance(e, HeteroExplanation):
        asked = next((e[name][PAIRS] for name in e.edge_types if PAIRS in e[name]), None)
    if asked is None:
        raise InputError(
            f"expected explanation {number} of an edge-level task to hold the model's argument {PAIRS}; pass index= with "
            "the pair of nodes that each explanation is of"
        )
    return readout.numbers(readout.index(asked, graphs), graphs)


def _masks_of(e: Any, graphs: Graphs, nodes: slice, edges: slice) -> Masks | None:
    """The masks of an explanation, by flat ids of some nodes and edges of the data; `None` if it is not of these."""
    if isinstance(e, HeteroExplanation):
        return masks_of(e, graphs, nodes, edges)
    if not _is_of(e, graphs, nodes, edges):
        return None
    edge, node = e.get("edge_mask"), e.get("node_mask")
    return edge, node, _kinds(node, nodes.stop - nodes.start)


def _kinds(mask: Tensor | None, num_nodes: int) -> set[NodeMaskType | None]:
    """What a node mask of PyG's may be, by its shape."""
    if mask is None:
        return {None}
    by_node: NodeMaskType = "object" if mask.size(1) == 1 else "attributes"
    if len(mask) > 1:
        return {by_node}
    return {"common_attributes", by_node} if num_nodes == 1 else {"common_attributes"}


def _is_of(e: PyGExplanation, graphs: Graphs, nodes: slice, edges: slice) -> bool:
    """Whether an explanation is of a part of the data: as long as that, and with the same features and edges."""
    size, first = nodes.stop - nodes.start, nodes.start
    fits = [
        (e.get("edge_mask"), lambda mask: mask.shape == (edges.stop - edges.start,)),
        (e.get("node_mask"), lambda mask: mask.dim() == 2 and len(mask) in (1, size)),
        (e.get("x"), lambda x: graphs.x is None or torch.equal(x.to(graphs.device), graphs.x[nodes])),
        (e.get("edge_index"), lambda ends: torch.equal(ends.to(graphs.device), graphs.edge_index[:, edges] - first)),
    ]
    return all(check(value) for value, check in fits if isinstance(value, Tensor))


class _Recorded:
    """The algorithm whose scores are there already: those of explanations, laid on computation graphs in the order of
    `which` `[B]`.
    """

    summary = "scores made elsewhere"
    edge_masks = False  # what a model's layers cannot be masked by can still be drawn and compared

    def __init__(self, laid: list[_Laid], which: Tensor, name: str, signed: bool | None) -> None:
        device = which.device
        self.name, self.which, self.done, self.tied = name, which, 0, True
        self.first_node = torch.tensor([one.first_node for one in laid], device=device)
        self.first_edge = torch.tensor([one.first_edge for one in laid], device=device)
        kinds = set.intersection(*(one.kinds for one in laid))
        if not kinds or len({one.edge is None for one in laid}) > 1:
            raise InputError(
                "expected explanations with the same kinds of masks, got several; read each kind by itself"
            )
        self.kind: NodeMaskType | None = next((kind for kind in NODE_MASK_TYPES if kind in kinds), None)
        self.edge, self.edge_start = _joined([one.edge for one in laid], device)
        self.node, self.node_start = _joined([one.node for one in laid], device)
        scores = [mask for mask in (self.edge, self.node) if mask is not None]
        outside = any(bool(((mask < 0) | (mask > 1)).any()) for mask in scores)
        self.signed = outside if signed is None else signed

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        which = self.which[self.done : self.done + len(graphs)]
        self.done += len(graphs)
        masks = Scores(node_type=self.kind)
        if self.edge is not None:
            start = (self.edge_start - self.first_edge)[which]
            masks.edge = self.edge[graphs.edge + start[graphs.edge_owner]] * graphs.edge_in_play
            paired = (graphs.partner >= 0) & graphs.edge_in_play & graphs.edge_in_play[graphs.partner]
            self.tied &= torch.equal(masks.edge[paired], masks.edge[graphs.partner[paired]])
        if self.node is not None:
            start = (self.node_start - self.first_node)[which]
            if self.kind == "common_attributes":
                masks.node = self.node[which]
            else:
                node = self.node[graphs.node + start[graphs.node_owner]]
                masks.node = node * graphs.node_in_play.unsqueeze(1)
        return masks


def _joined(masks: list[Tensor | None], device: torch.device) -> tuple[Tensor | None, Tensor]:
    """Scores one after the other, if there are any, and where each starts `[K + 1]`.

    Raises:
        InputError: if they hold different numbers of features, or NaN.
    """
    present = [mask.detach().to(device) for mask in masks if mask is not None]
    if len({mask.shape[1:] for mask in present}) > 1:
        raise InputError(f"expected node masks of one width, got {sorted({mask.size(1) for mask in present})}")
    sizes = torch.tensor([len(mask) for mask in present], device=device, dtype=torch.int64)
    joined = torch.cat(present) if present else None
    if joined is not None and bool(joined.isnan().any()):
        raise InputError("expected masks of numbers, got NaN")
    return joined, pointers(sizes)[:-1]
