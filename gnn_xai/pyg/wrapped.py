"""Algorithms of this package inside `torch_geometric.explain`, and what comes out of it as `Explanations`.

PyG makes one mask for whatever `index` selects: one output, several, or all (`index=None`). Here one output is one instance
on its verified computation graph, as in `gnn_xai.explain`; several are one instance whose objective is the mean of theirs,
on the whole graph (`gnn_xai.core.model.joint`).
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain import ExplainerAlgorithm
from torch_geometric.explain import Explanation as PyGExplanation
from torch_geometric.explain.config import ModelConfig, ModelMode, ModelTaskLevel
from torch_geometric.nn import SimpleConv

from gnn_xai._checks import integer
from gnn_xai.algorithms.base import Algorithm, Attributing, get, masks_edges, removal
from gnn_xai.api import as_undirected, device_of, explain
from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.joint import computation_graph
from gnn_xai.core.engines.prepare import Prepared, prepare, refuse_what_was_prepared
from gnn_xai.core.engines.scores import NODE_MASK_TYPES, NodeMaskType, Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.arguments import as_task, eager
from gnn_xai.core.model.index import list_of
from gnn_xai.core.model.joint import Joint
from gnn_xai.core.model.problem import Forward
from gnn_xai.core.model.readout import JointReadout
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError

if TYPE_CHECKING:
    from gnn_xai.results.explanations import Explanations

_log = logging.getLogger("gnn_xai")

_TAKEN = ("x", "edge_index", "adj_t", "adj", "batch", "ptr", "num_nodes", "num_graphs")
"""Names that mean something else in a `Data` than in the arguments of a model."""


def algorithm(
    algorithm: str | Attributing,
    *,
    seed: int = 0,
    undirected: bool | Literal["auto"] = "auto",
    batch_budget: int | Literal["auto"] = "auto",
) -> ExplainerAlgorithm:
    """An algorithm as `torch_geometric.explain.Explainer` takes it, in place of PyG's own.

    What is masked comes from the `Explainer`: fields `node_mask_type` and `edge_mask_type` of the algorithm are replaced by
    its, and combinations that the algorithm cannot score are refused when the `Explainer` is made. Attributions come back
    with their sign and scale, as from PyG's `CaptumExplainer`; masks of `GNNExplainer` lie in [0, 1]. Scores are as long as
    the graph, and 0 where nothing can reach the output that is explained.

    One `index` is one instance, on its verified computation graph: the answer of `gnn_xai.explain`. For several, or `None`,
    there is one mask, whose objective is the mean of theirs, on the whole graph; so are edge-level tasks, and regressions
    that return several numbers or explain a phenomenon, where `GNNExplainer` learns to keep the values given as `target`.
    In these, every number of a binary classification or regression counts alike. Further arguments of the call go to the
    model; `edge_attr`, `batch` and others as long as edges or nodes follow them.

    Args:
        algorithm: an algorithm such as `GNNExplainer(epochs=200)`, or its name.
        seed, undirected, batch_budget: as in `gnn_xai.explain`.

    Raises:
        InputError: if it is not an algorithm of this kind.

    >>> from torch_geometric.explain import Explainer
    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explainer = Explainer(
    ...     karate.model,
    ...     gx.pyg.algorithm(gx.GNNExplainer(epochs=20)),
    ...     explanation_type="model",
    ...     node_mask_type="attributes",
    ...     edge_mask_type="object",
    ...     model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
    ... )
    >>> explanation = explainer(karate.data.x, karate.data.edge_index, index=16)
    >>> explanation.edge_mask.shape, explanation.node_mask.shape
    (torch.Size([156]), torch.Size([34, 34]))
    """
    if isinstance(algorithm, ExplainerAlgorithm):
        raise InputError(
            f"expected an algorithm such as gnn_xai.GNNExplainer(), got {type(algorithm).__name__} of torch_geometric, "
            "which an Explainer takes as it is"
        )
    integer(seed, "seed")
    method = get(algorithm)
    named = type(type(method).__name__, (_Wrapped,), {})  # PyG's own messages name the class
    return named(method, {"seed": seed, "undirected": undirected, "batch_budget": batch_budget})


class _Wrapped(ExplainerAlgorithm):
    """See `algorithm`."""

    def __init__(self, algorithm: Algorithm, options: dict[str, Any]) -> None:
        super().__init__()
        self.algorithm, self.options = algorithm, options

    def __repr__(self) -> str:
        return f"gnn_xai.pyg.algorithm({self.algorithm!r})"

    def supports(self) -> bool:
        """Whether the algorithm scores what the `Explainer` asks for; if not, the log says why."""
        try:
            self._fitted()
        except InputError as error:
            _log.error("%s", error)
            return False
        return True

    def _fitted(self) -> Algorithm:
        """The algorithm with the mask types of the `Explainer`.

        Raises:
            InputError: if it does not score these.
        """
        config = self.explainer_config
        asked = tuple(None if kind is None else kind.value for kind in (config.node_mask_type, config.edge_mask_type))
        fields = {"node_mask_type": asked[0], "edge_mask_type": asked[1]}
        if all(hasattr(self.algorithm, name) for name in fields):
            replace: Any = getattr(type(self.algorithm), "__replace__", dataclasses.replace)
            return replace(self.algorithm, **fields)
        scored = self._scored
        if scored != asked:
            raise InputError(
                f"{type(self.algorithm).__name__} scores node_mask_type={scored[0]!r}, edge_mask_type={scored[1]!r}, but "
                f"the Explainer asks for node_mask_type={asked[0]!r}, edge_mask_type={asked[1]!r}"
            )
        return self.algorithm

    @cached_property
    def _scored(self) -> tuple[str | None, str | None]:
        """What an algorithm without mask types to choose scores, seen on a graph of two nodes: its node and edge mask type.

        Raises:
            InputError: if it does not run there.
        """
        data = Data(x=torch.ones(2, 2), edge_index=torch.tensor([[0, 1], [1, 0]]))
        task = ModelConfig("regression", "node", "raw")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = explain(SimpleConv(), data, self.algorithm, task=task, index=0, target=0, progress=False)
        return found.node_mask_type, None if found.edge_mask is None else "object"

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - homogeneous graphs alone
        self,
        model: nn.Module,
        x: Tensor,
        edge_index: Tensor,
        *,
        target: Tensor,
        index: int | Tensor | None = None,
        **kwargs: Any,
    ) -> PyGExplanation:
        """Explain what `index` selects; see `algorithm`.

        Raises:
            InputError, MaskingError: as in `gnn_xai.explain`.
        """
        if not isinstance(x, Tensor) or not isinstance(edge_index, Tensor) or edge_index.layout != torch.strided:
            raise InputError(
                "expected a homogeneous graph with x and edge_index as tensors, got "
                f"{type(x).__name__} and {type(edge_index).__name__}"
            )
        call = _Call(eager(model), x, edge_index, kwargs, self.model_config, self.options)
        method, rows = self._fitted(), _rows(index, len(call.out)).to(call.out.device)
        targets, values = call.targets(target, rows)
        masks = None
        if len(targets) == 1 and (values is None or bool(close(values, call.out[rows]).all())):
            masks = call.alone(method, int(rows), int(targets))
        node, edge = masks or call.jointly(method, rows, targets, values)
        return PyGExplanation(node_mask=node, edge_mask=edge)


class _Call:
    """One call of an `Explainer`: a model, its arguments, and what it returns.

    Attributes:
        size: numbers of nodes and edges.
        data: the arguments that are tensors, as a `Data`; those whose names mean something else there, under others.
        out: `[R, C]` the model's output.
        batch: `[N]` the graph of each node, where the arguments say it.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        edge_index: Tensor,
        kwargs: dict[str, Any],
        config: ModelConfig,
        options: dict[str, Any],
    ) -> None:
        self.model, self.kwargs, self.config, self.options = model, kwargs, config, options
        self.x, self.size = x, (len(x), edge_index.size(1))
        tensors = [name for name, value in kwargs.items() if isinstance(value, Tensor) and value.dim()]
        self.keys = {name: f"{name}_given" if name in _TAKEN else name for name in tensors}
        self.data = Data(x=x, edge_index=edge_index, **{key: kwargs[name] for name, key in self.keys.items()})
        with untouched(model), torch.no_grad():
            out = model(x, edge_index, **kwargs)
        if not isinstance(out, Tensor) or not out.is_floating_point():
            got = out.dtype if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"expected the model to return one tensor of floating-point scores, got {got}")
        if out.dim() > 2 and config.mode == ModelMode.multiclass_classification:
            raise InputError(f"expected output of shape [rows, classes] for a multiclass task, got {list(out.shape)}")
        self.out = out.reshape(len(out), -1) if out.dim() else out.reshape(1, 1)
        batch = kwargs.get("batch")
        self.batch = None
        if isinstance(batch, Tensor) and batch.shape == (len(x),) and not batch.is_floating_point():
            self.batch = batch.to(out.device)

    def forward(self, model: nn.Module, data: Any) -> Tensor:
        """The model on a part of the data, with the arguments that follow it."""
        follow = {name: data[key] for name, key in self.keys.items()}
        return model(data.x, data.edge_index, **{**self.kwargs, **follow})

    def forward_graph(self, model: nn.Module, data: Any) -> Tensor:
        """The model on a batch of graphs, which says itself how many there are and which nodes are whose."""
        follow = {name: data[key] for name, key in self.keys.items() if name not in ("batch", "ptr")}
        known = {"batch": data.batch, "ptr": data.ptr, "batch_size": data.num_graphs, "num_graphs": data.num_graphs}
        known = {name: value for name, value in known.items() if self.kwargs.get(name) is not None}
        return model(data.x, data.edge_index, **{**self.kwargs, **follow, **known})

    def targets(self, target: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is explained of the rows: `(targets of rows [K] or numbers [K · C], values of a regression [K, C])`.

        Raises:
            InputError: if the target does not fit the output.
        """
        size, mode, columns = len(self.out), self.config.mode, self.out.size(1)
        multiclass = mode == ModelMode.multiclass_classification
        expected = size if multiclass else self.out.numel()
        if not isinstance(target, Tensor) or target.numel() != expected:
            got = list(target.shape) if isinstance(target, Tensor) else repr(target)
            what = "one class for each" if multiclass else "one value for each number"
            raise InputError(
                f"expected target as {what} of all {size} output rows ({expected} in all, of which index picks), got {got}"
            )
        target = target.to(self.out.device).reshape(size, -1)[rows]
        if mode == ModelMode.regression:
            return torch.zeros_like(target, dtype=torch.int64).reshape(-1), target.to(self.out.dtype)
        count = columns if multiclass else 2
        if bool(((target < 0) | (target >= count) | (target != target.long())).any()):
            raise InputError(
                f"expected targets as classes 0 to {count - 1}, got values from {target.min().item():.4g} to "
                f"{target.max().item():.4g}"
            )
        return target.long().reshape(-1), None

    def alone(self, method: Algorithm, row: int, target: int) -> tuple[Tensor | None, Tensor | None] | None:
        """Scores of one output on its computation graph; `None` where that does not give what the model returns."""
        if self.config.task_level == ModelTaskLevel.node:
            part: Any = self.data
            nodes, edges = (torch.arange(count) for count in self.size)
            index, forward = row, self.forward
        elif self.config.task_level == ModelTaskLevel.graph and self.batch is not None:
            part, nodes, edges = self._graph(row)
            if not self._says_the_same(part, row):
                return None
            index, forward = 0, self.forward_graph
        else:
            return None
        try:
            found = explain(
                self.model,
                part,
                method,
                task=self.config,
                index=index,
                target=target,
                forward=forward,
                progress=False,
                **self.options,
            )
        except InputError:  # a model that runs on the whole graph alone, say; others fail again there
            return None
        e, device = found[0], found.index.device
        edge, node = e.edge_mask, e.node_mask
        if edge is not None:
            edge = edge.new_zeros(self.size[1]).index_copy(0, edges.to(device)[e.edge_id], edge)
        if node is not None:
            if found.node_mask_type == "common_attributes":
                node = node.unsqueeze(0)
            else:
                whole = node.new_zeros(self.size[0], node.size(1))
                node = whole.index_copy(0, nodes.to(device)[e.node_id], node)
        return node, edge

    def _graph(self, row: int) -> tuple[Batch, Tensor, Tensor]:
        """One graph of a batch, and which nodes and edges it has."""
        graphs = as_graphs(self.data, self.out.device)
        batch = self.batch
        assert batch is not None
        nodes = (batch == row).nonzero().flatten()
        edges = (batch[graphs.edge_index[0]] == row).nonzero().flatten()
        place = torch.empty_like(batch).index_copy(0, nodes, torch.arange(len(nodes), device=batch.device))
        first = nodes.new_zeros(1)
        placement = graphs.placement(nodes, torch.zeros_like(nodes), edges, torch.zeros_like(edges), first)
        part = graphs.union(placement, place[graphs.edge_index[:, edges]])
        part.x = self.x.to(self.out.device)[nodes]
        for key, value in graphs.other.items():
            if isinstance(value, Tensor) and value.dim() and len(value) == len(self.out):
                part[key] = value[[row]]
        return part, nodes, edges

    def _says_the_same(self, part: Batch, row: int) -> bool:
        """Whether the model says of a graph alone what it says of it among others."""
        try:
            with untouched(self.model), torch.no_grad():
                out = self.forward_graph(self.model, part)
        except Exception:  # it needs the others
            return False
        return out.numel() == self.out.size(1) and bool(close(out.reshape(1, -1), self.out[[row]]).all())

    def jointly(
        self, method: Algorithm, rows: Tensor, targets: Tensor, values: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Scores of several outputs together, on the whole graph."""
        graphs = as_graphs(self.data, self.out.device)
        problem = Joint(
            self.model,
            graphs,
            self.config,
            self.forward,
            rows=JointReadout(self.config.task_level, len(self.out), rows),
            targets=targets,
            values=None if values is None else values.reshape(1, -1),
            read=self._read(rows),
        )
        options = self.options
        tied = as_undirected(options["undirected"], graphs)
        first = rows.new_zeros(1)
        with untouched(self.model), torch.enable_grad():
            prepared = prepare(problem, undirected=tied, batch_budget=options["batch_budget"], index=first)
            session = prepared.session(
                options["seed"], structural=removal(method) == "structural", edge_masks=masks_edges(method)
            )
            whole, prediction = computation_graph(prepared, session)
            masks = method.attribute(session, whole, first, prediction)
        return masks.node, masks.edge

    def _read(self, rows: Tensor) -> Tensor:
        """The nodes whose last state rows of the output are computed from, `[N]` bool; all, where nothing tells."""
        count, level = self.size[0], self.config.task_level
        read = torch.zeros(count, dtype=torch.bool, device=rows.device)
        if level == ModelTaskLevel.node and len(self.out) == count:
            read[rows] = True
            return read
        if level == ModelTaskLevel.graph and self.batch is not None:
            return torch.isin(self.batch, rows)
        if level == ModelTaskLevel.edge:
            for value in self.kwargs.values():
                if not isinstance(value, Tensor) or value.is_floating_point():
                    continue
                pairs = value.unsqueeze(1) if value.shape == (2,) else value  # one pair may come without its dimension
                if pairs.shape == (2, len(self.out)):
                    read[pairs.to(rows.device)[:, rows]] = True
                    return read
        return ~read


def _rows(index: Any, count: int) -> Tensor:
    """Which of `count` outputs an index of PyG's selects, `[K]`; `None` for all.

    Raises:
        InputError: if there are none, or it is out of range.
    """
    every = torch.arange(count)
    try:
        rows = every if index is None else every[torch.as_tensor(index).cpu()].reshape(-1)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"expected index as None, an int or a tensor of ints, each 0 to {count - 1}, got {index!r}"
        ) from error
    if len(rows) == 0:
        raise InputError("expected at least one index, got none; index=None explains every output")
    return rows


# And back ############################################################################################################


def read(
    explanations: PyGExplanation | Sequence[PyGExplanation],
    model: nn.Module | Prepared,
    data: Any = None,
    *,
    task: Literal["node", "graph"] | ModelConfig | None = None,
    index: int | Sequence[int] | None = None,
    target: int | Sequence[int] | Tensor | None = None,
    forward: Forward | None = None,
    name: str = "pyg",
    signed: bool | None = None,
) -> Explanations:
    """See `gnn_xai.Explanations.from_pyg`."""
    given = [explanations] if isinstance(explanations, Data) else list(explanations)
    for e in given:
        if not isinstance(e, PyGExplanation):
            raise InputError(
                "expected explanations of homogeneous graphs by torch_geometric.explain, or by to_pyg, got "
                f"{type(e).__name__}"
            )
    if not given:
        raise InputError("expected at least one explanation, got an empty list")
    written: ModelConfig | None = getattr(given[0], "_model_config", None)
    settings: dict[str, Any] = {}
    if isinstance(model, Prepared):
        refuse_what_was_prepared(task=task, forward=forward)
        model.check_unchanged()
        config, graphs = model.problem.task, model.graphs
        if written is not None and written != config:
            raise InputError(f"expected explanations of the task that was prepared, {config}, got some of {written}")
    else:
        config = as_task(written if task is None else task, data)
        graphs = as_graphs(data, device_of(model))
        settings = {"data": data, "task": config, "forward": forward}
    named = [None] * len(given) if index is None else list_of(index) if len(given) > 1 else [index]
    if len(named) != len(given):
        raise InputError(f"expected one index for each of {len(given)} explanations, got {len(named)}")
    laid = [_lay(e, number, graphs, config, at) for number, (e, at) in enumerate(zip(given, named, strict=True))]
    rows = [each.rows for each in laid]
    which = torch.repeat_interleave(torch.arange(len(given)), torch.tensor([len(r) for r in rows]))
    masks = _Given(laid, which.to(graphs.device), name, signed)
    if target is None and all(each.targets is not None for each in laid):
        target = torch.cat([each.targets for each in laid if each.targets is not None])
    found = explain(model, algorithm=masks, index=torch.cat(rows), target=target, progress=False, **settings)
    said = [each.prediction for each in laid]
    if all(each is not None for each in said):
        noted = torch.cat([each for each in said if each is not None])
        if noted.shape != found.prediction.shape or not bool(close(found.prediction, noted).all()):
            raise InputError(
                "the model's output is not the one that was explained; pass the same model, with the same weights, and the "
                "same data"
            )
    return dataclasses.replace(found, provenance={**found.provenance, "undirected": masks.tied})


@dataclasses.dataclass(eq=False)
class _Laid:
    """An explanation of PyG's, laid on the data.

    Attributes:
        rows: `[K]` the outputs that it explains.
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


def _lay(e: PyGExplanation, number: int, graphs: Graphs, config: ModelConfig, at: Any) -> _Laid:
    """An explanation, with its place in a list, laid on the data; `at` is what it is said to be an explanation of.

    Raises:
        InputError: if it is not of this data.
    """
    edge, node = e.get("edge_mask"), e.get("node_mask")
    if edge is None and node is None:
        raise InputError(f"explanation {number} holds neither node_mask nor edge_mask, so it explains nothing")
    graph_level = config.task_level == ModelTaskLevel.graph
    count = graphs.num_graphs if graph_level else graphs.num_nodes
    nodes, edges = slice(0, graphs.num_nodes), slice(0, graphs.num_edges)
    if _is_of(e, graphs, nodes, edges):
        rows = _rows(e.get("index") if at is None else at, count)
    else:
        rows = _rows(min(number, count - 1) if at is None else at, count)
        if graph_level and len(rows) == 1:
            nodes, edges = (slice(*ptr[int(rows) :][:2].tolist()) for ptr in (graphs.node_ptr, graphs.edge_ptr))
        if not _is_of(e, graphs, nodes, edges):
            remedy = ", and index= with the graph of each explanation" if graph_level and graphs.many else ""
            raise InputError(
                f"explanation {number} is not of this data: its masks, x or edge_index differ; pass the data that was "
                f"explained{remedy}"
            )
    target, said = e.get("target"), e.get("prediction")
    if config.mode == ModelMode.regression or not isinstance(target, Tensor):
        target = None
    elif target.numel() == 1 or target.numel() == count:
        target = target.reshape(-1).expand(count)[rows].to(graphs.device)
    else:
        target = None
    if isinstance(said, Tensor):
        said = said.detach().reshape(len(said), -1) if said.dim() else said.reshape(1, 1)
        said = said.expand(count, -1)[rows].to(graphs.device) if len(said) in (1, count) else None
    return _Laid(rows, target, said, edge, node, _kinds(node, nodes.stop - nodes.start), nodes.start, edges.start)


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


class _Given:
    """The algorithm whose scores are there already: those of explanations, laid on computation graphs in the order of
    `which` `[B]`.
    """

    summary = "scores made elsewhere"
    edge_masks = False  # what a model's layers cannot be masked by can still be drawn and compared

    def __init__(self, laid: list[_Laid], which: Tensor, name: str, signed: bool | None) -> None:
        device = which.device
        self.name, self.which, self.done, self.tied = name, which, 0, True
        self.first_node = torch.tensor([each.first_node for each in laid], device=device)
        self.first_edge = torch.tensor([each.first_edge for each in laid], device=device)
        kinds = set.intersection(*(each.kinds for each in laid))
        if not kinds or len({each.edge is None for each in laid}) > 1:
            raise InputError(
                "expected explanations with the same kinds of masks, got several; read each kind by itself"
            )
        self.kind: NodeMaskType | None = next((kind for kind in NODE_MASK_TYPES if kind in kinds), None)
        self.edge, self.edge_start = _joined([each.edge for each in laid], device)
        self.node, self.node_start = _joined([each.node for each in laid], device)
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
