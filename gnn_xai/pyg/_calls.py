"""One call of PyG's `Explainer`: a model, its arguments, and the scores of what is explained."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig, ModelMode, ModelTaskLevel

from gnn_xai.algorithms.base import Algorithm, masks_edges, removal
from gnn_xai.algorithms.checked import attributed
from gnn_xai.api import explain
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.choice import RUNS_ON_NO_PART
from gnn_xai.core.engines.handed_in import as_undirected
from gnn_xai.core.engines.joint import computation_graph
from gnn_xai.core.engines.prepare import prepare
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.model.index import PAIRS
from gnn_xai.core.model.joint import Joint
from gnn_xai.core.model.problem import Forward
from gnn_xai.core.model.readout import JointReadout
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import GnnXaiWarning, InputError
from gnn_xai.results.explanations import Explanations

_TAKEN = ("x", "edge_index", "adj_t", "adj", "batch", "ptr", "num_nodes", "num_graphs")
"""Names that mean something else in a `Data` than in the arguments of a model."""


class Call:
    """One call of an `Explainer`: a model, its arguments, and what it returns.

    Attributes:
        size: numbers of nodes and edges.
        data: the arguments that are tensors, as a data object; those whose names mean something else there, under others.
        out: `[R, C]` the model's output.
        batch: `[N]` the graph of each node, where the arguments say it.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        edge_index: Any,
        kwargs: dict[str, Any],
        config: ModelConfig,
        options: dict[str, Any],
    ) -> None:
        self.model, self.kwargs, self.config, self.options = model, kwargs, config, options
        self.x, self.keys = x, {}
        self.data, self.size = self._read_data(x, edge_index)
        with untouched(model) as evaluating, evaluating, torch.no_grad():
            out = model(x, edge_index, **kwargs)
        if not isinstance(out, Tensor) or not out.is_floating_point():
            got = out.dtype if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"expected the model to return one tensor of floating-point scores, got {got}")
        if out.dim() > 2 and config.mode == ModelMode.multiclass_classification:
            raise InputError(f"expected output of shape [rows, classes] for a multiclass task, got {list(out.shape)}")
        self.out = out.reshape(len(out), -1) if out.dim() else out.reshape(1, 1)
        batch = kwargs.get("batch")
        self.batch = None
        if isinstance(batch, Tensor) and batch.shape == self.size[:1] and not batch.is_floating_point():
            self.batch = batch.to(out.device)

    def _read_data(self, x: Any, edge_index: Any) -> tuple[Any, tuple[int, int]]:
        """The arguments as one data object, and how many nodes and edges there are."""
        tensors = [name for name, value in self.kwargs.items() if isinstance(value, Tensor) and value.dim()]
        self.keys = {name: f"{name}_given" if name in _TAKEN else name for name in tensors}
        data = Data(x=x, edge_index=edge_index, **{key: self.kwargs[name] for name, key in self.keys.items()})
        return data, (len(x), edge_index.size(1))

    @property
    def pairs(self) -> Tensor | None:
        """`[2, R]` the pair of nodes that each row of an edge-level output belongs to, where the call names them."""
        return self._as_pairs(self.kwargs.get(PAIRS)) if self.config.task_level == ModelTaskLevel.edge else None

    def _as_pairs(self, value: Any) -> Tensor | None:
        """An argument as pairs of nodes `[2, R]`, one for each row of the output; `None` if it is something else."""
        if not isinstance(value, Tensor) or value.is_floating_point():
            return None
        pairs = value.unsqueeze(1) if value.shape == (2,) else value  # one pair may come without its dimension
        return pairs.to(self.out.device) if pairs.shape == (2, len(self.out)) else None

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

    def alone(self, method: Algorithm, row: int, target: int) -> tuple[Any, Any] | None:
        """Scores of one output on its computation graph; `None` where that does not give what the model returns."""
        if self.config.task_level == ModelTaskLevel.node:
            part: Any = self.data
            nodes, edges = (torch.arange(count) for count in self.size)
            index, forward = row, self.forward
        elif self.config.task_level == ModelTaskLevel.graph and self.batch is not None:
            part, nodes, edges = self._graph(row)
            if not self._says_the_same(self.forward_graph, part, 0, row):
                return None
            index, forward = 0, self.forward_graph
        elif self.pairs is not None:
            part, index, forward = self.data, self.pairs[:, [row]], self.forward
            nodes, edges = (torch.arange(count) for count in self.size)
        else:
            return None
        explained = self._explained(method, part, row, index=index, target=target, forward=forward)
        if explained is None:
            return None
        e, device = explained[0], explained.index.device
        edge, node = e.edge_mask, e.node_mask
        if edge is not None:
            edge = edge.new_zeros(self.size[1]).index_copy(0, edges.to(device)[e.edge_id], edge)
        if node is not None:
            if explained.node_mask_type == "common_attributes":
                node = node.unsqueeze(0)
            else:
                whole = node.new_zeros(self.size[0], node.size(1))
                node = whole.index_copy(0, nodes.to(device)[e.node_id], node)
        return node, edge

    def _explained(self, method: Algorithm, data: Any, row: int, **options: Any) -> Explanations | None:
        """One row of the output as `gnn_xai.explain` explains it; `None` for a model that runs on the whole graph alone, or
        that says something else of one pair than of it among others, and for others that fail, which fail again there.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("error", RUNS_ON_NO_PART, GnnXaiWarning)
            try:
                out = explain(self.model, data, method, task=self.config, progress=False, **options, **self.options)
            except (InputError, GnnXaiWarning):
                return None
        same = out.prediction.numel() == self.out.size(1) and bool(close(out.prediction, self.out[[row]]).all())
        return out if same else None

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
        for key in self.keys.values():
            value = self.data[key]
            if key not in (*graphs.node_attrs, *graphs.edge_attrs) and len(value) == len(self.out):
                part[key] = value[[row]]
        alone = {key: value for key, value in part.to_dict().items() if key not in ("batch", "ptr")}
        return Batch.from_data_list([Data.from_dict(alone)]), nodes, edges

    def _says_the_same(self, forward: Forward, data: Any, position: int, row: int) -> bool:
        """Whether the model returns a row of its output again, at some position, for other data."""
        try:
            with untouched(self.model) as evaluating, evaluating, torch.no_grad():
                out = forward(self.model, data)
            out = out.reshape(-1, self.out.size(1))[[position]]
        except Exception:  # it needs the others, or there is no such node
            return False
        return bool(close(out, self.out[[row]]).all())

    def jointly(self, method: Algorithm, rows: Tensor, targets: Tensor, values: Tensor | None) -> tuple[Any, Any]:
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
        with untouched(self.model) as evaluating, evaluating, torch.enable_grad():
            prepared = prepare(problem, undirected=tied, batch_budget=options["batch_budget"], index=first)
            session = prepared.session(
                options["seed"], structural=removal(method) == "structural", edge_masks=masks_edges(method)
            )
            whole, prediction = computation_graph(prepared, session)
            masks = attributed(method, session, whole, first, prediction, rows)
        return self._laid_out(masks)

    def _laid_out(self, masks: Scores) -> tuple[Any, Any]:
        """Scores of the whole graph as PyG has them: of nodes, and of edges."""
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
            for pairs in map(self._as_pairs, self.kwargs.values()):
                if pairs is not None:
                    read[pairs.to(rows.device)[:, rows]] = True
                    return read
        return ~read


def rows_of(index: Any, count: int) -> Tensor:
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
