"""The readout of pairs of nodes, and which readout a task level has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.explain.config import ModelTaskLevel

from gnn_xai.core.arrays.segments import owners
from gnn_xai.core.graphs.shelf import Shelf
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import EdgeType
from gnn_xai.core.model.index import PAIRS, as_pairs
from gnn_xai.core.model.readout import GraphReadout, NodeReadout, Readout, RunOn, one_row_each, types_of
from gnn_xai.errors import InputError


@dataclass(frozen=True)
class PairReadout(Readout):
    """One output row for every pair of nodes in `data.edge_label_index`, which the model is handed.

    Attributes:
        edge_type: in a heterogeneous graph, the relation whose edges are predicted; pairs are in ids of its node types, and
            are handed as `data.edge_label_index` and as `data[edge_type].edge_label_index`.
    """

    edge_type: EdgeType | None = None

    what: ClassVar[str] = "pair"
    labelled: ClassVar[str] = "pair that is explained, in their order"
    labels_at: ClassVar[str] = "data.edge_label[...]"
    enumerable: ClassVar[bool] = False

    @property
    def supplies(self) -> tuple[str, ...]:
        """See `Readout`."""
        return (PAIRS,) if self.edge_type is None else (PAIRS, f"{PAIRS}_dict")

    def count(self, graphs: Graphs | Shelf) -> int:
        """See `Readout`."""
        return len(self._of(graphs))

    def ids(self, graphs: Graphs | Shelf) -> int:
        """See `Readout`."""
        ends = self._ends(graphs)
        return graphs.num_nodes if ends is None else max(map(len, ends))

    def index(self, index: Any, graphs: Graphs | Shelf) -> Tensor:
        """See `Readout`; `[B, 2]` in flat ids."""
        ends = self._ends(graphs)
        sizes = (graphs.num_nodes, graphs.num_nodes) if ends is None else (len(ends[0]), len(ends[1]))
        pairs = as_pairs(index, self._of(graphs), sizes, self.edge_type)
        flat = pairs if ends is None else torch.stack([ends[0][pairs[:, 0]], ends[1][pairs[:, 1]]], dim=1)
        batch = getattr(graphs, "batch", None)
        apart = None if batch is None else batch[flat[:, 0]] != batch[flat[:, 1]]
        if apart is not None and bool(apart.any()):
            raise InputError(
                f"expected both nodes of a pair in one graph, got {tuple(pairs[apart][0].tolist())}, which are of two "
                "graphs of the data"
            )
        return flat

    def numbers(self, index: Tensor, graphs: Graphs) -> Tensor:
        """See `Readout`."""
        return index if self.edge_type is None or graphs.types is None else graphs.types.node_place[index]

    def name(self, index: Any) -> str:
        """See `Readout`."""
        if self.edge_type is None:
            return f"{self.what} {int(index[0])}–{int(index[1])}"
        return f"{self.edge_type[0]} {int(index[0])}–{self.edge_type[2]} {int(index[1])}"

    def labels(self, index: Tensor, graphs: Graphs) -> tuple[int, Tensor]:
        """See `Readout`; pairs have no number of their own, so there is one label for each that is explained."""
        return len(index), torch.arange(len(index), device=index.device)

    def sample(self, nodes: Tensor, graphs: Graphs) -> Tensor:
        """See `Readout`; both nodes of a pair are of one graph."""
        ends, batch = self._ends(graphs), graphs.batch
        if ends is None:
            other = nodes.roll(1)
            return torch.stack([nodes, torch.where(batch[other] == batch[nodes], other, nodes)], dim=1)
        sizes = torch.stack([torch.bincount(batch[end], minlength=graphs.num_graphs) for end in ends])
        complete = (sizes > 0).all(0).nonzero().flatten()  # graphs with nodes of both types
        if len(complete) == 0:
            raise InputError(f"expected a graph with nodes of both types of {self.edge_type}, got none")
        graph = complete[batch[nodes] % len(complete)]
        first = sizes.cumsum(1) - sizes
        return torch.stack([end[first[row, graph] + nodes % sizes[row, graph]] for row, end in enumerate(ends)], dim=1)

    def own_relations(self, graphs: Graphs) -> tuple[list[int], list[int]] | None:
        """See `Readout`; back, those relations that hold the same edges turned around."""
        return None if self.edge_type is None or graphs.types is None else _both_ways(graphs, self.edge_type)

    def apart(self, graphs: Graphs) -> Graphs:
        """See `Readout`."""
        columns = {key: column for key, column in graphs.columns.items() if column.name != PAIRS}
        return replace(graphs, columns=columns, other={**graphs.other, PAIRS: self._of(graphs).t()})

    def every_row(self, graphs: Graphs) -> Tensor | None:
        """See `Readout`; each node beside the one before it, or nodes of one type beside those of the other."""
        ends = self._ends(graphs)
        if ends is None:
            every = torch.arange(graphs.num_nodes, device=graphs.device)
            return torch.stack([every, every.roll(1)], dim=1)
        every = torch.arange(max(map(len, ends)), device=graphs.device)
        return torch.stack([end[every % len(end)] for end in ends], dim=1)

    def first_rows(self, graphs: Graphs, *some: Tensor) -> Tensor | None:
        """See `Readout`."""
        return torch.unique(torch.cat(some), dim=0)

    def handed(self, data: Any, rows: Tensor | None) -> Any:
        """See `Readout`."""
        assert rows is not None
        data = copy.copy(data)
        data[PAIRS] = rows.t()
        if self.edge_type is not None:
            data[self.edge_type][PAIRS] = data[PAIRS]
        return data

    def is_pairs(self, value: Tensor, data: Any, rows: Tensor | None) -> bool:
        """See `Readout`."""
        return rows is not None and value.data_ptr() == rows.data_ptr()

    def output(
        self, out: Tensor, data: Any, rows: Tensor | None, shrunk: bool, on: Callable[[], RunOn] | None
    ) -> Tensor:
        """See `Readout`."""
        assert rows is not None
        return one_row_each(out, len(rows), self.what, on)

    def _ends(self, graphs: Graphs | Shelf) -> tuple[Tensor, Tensor] | None:
        """The nodes, in flat ids, that the first and the last node of a pair are taken from; `None` for all."""
        if self.edge_type is None:
            return None
        types = types_of(graphs)
        first, last = (types.nodes[types.number(name)] for name in self.edge_type[::2])
        return first, last

    def _of(self, graphs: Graphs | Shelf) -> Tensor:
        """The pairs that the data names, `[P, 2]`; none, where it names none."""
        whole = graphs if isinstance(graphs, Graphs) else graphs.take(None)
        if PAIRS in whole.other:
            return whole.other[PAIRS].t()
        for column in whole.columns.values():
            if column.name == PAIRS and column.holder == self.edge_type:
                return self.numbers(column.value.long() + whole.node_ptr[owners(column.ptr)].unsqueeze(1), whole)
        return torch.zeros(0, 2, dtype=torch.int64, device=graphs.device)


def _both_ways(graphs: Graphs, edge_type: EdgeType) -> tuple[list[int], list[int]]:
    """The number of a relation, and those of the relations that hold the same edges turned around."""
    types = types_of(graphs)

    def edges(number: int) -> Tensor:
        return torch.unique(graphs.edge_index[:, types.edges[number]], dim=1)

    if edge_type not in types.relations:  # it is predicted, and no input
        return [], []
    own = types.relations.index(edge_type)
    wanted = torch.unique(edges(own).flip(0), dim=1)
    back = [
        number
        for number, (source, _, target) in enumerate(types.relations)
        if (target, source) == (edge_type[0], edge_type[2]) and torch.equal(edges(number), wanted)
    ]
    return [own], back


def readout_of(level: ModelTaskLevel, of_type: str | EdgeType | None = None) -> Readout:
    """The readout of a task level; in a heterogeneous graph for nodes of a type, or pairs of a relation."""
    if level == ModelTaskLevel.node:
        assert of_type is None or isinstance(of_type, str)
        return NodeReadout(of_type)
    if level == ModelTaskLevel.edge:
        assert not isinstance(of_type, str)
        return PairReadout(of_type)
    return GraphReadout()
