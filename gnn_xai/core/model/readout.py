"""Readouts: which outputs of a model are explained, and where they are found; one class for each task level.

Nothing else asks which level a task is of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.explain.config import ModelTaskLevel

from gnn_xai.core.graphs.shelf import Shelf
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import num_nodes_of
from gnn_xai.core.graphs.types import Types
from gnn_xai.core.model.index import PAIRS, as_index
from gnn_xai.errors import InputError

RunOn = Literal["data", "part", "rebuilt", "messages", "features", "columns"]
"""What a model is run on: the user's data; computation graphs cut out of it; what is left of either after a removal; under
masks that multiply messages; under masks that multiply features; under masks that multiply other attributes."""


class Readout(ABC):
    """The outputs that can be explained, and their rows in what the model returns.

    Attributes:
        what: one output, in a word.
        labelled: what a user has labels for, and `labels_at` where such labels usually are.
        rooted: computation graphs are cut out around nodes, the roots of an instance; else an instance is a whole graph.
        enumerable: all outputs are read when the model runs on all of the data.
        alone: instances and their variants never share a batch.
    """

    what: ClassVar[str]
    labelled: ClassVar[str]
    labels_at: ClassVar[str] = "data.y"
    rooted: ClassVar[bool] = True
    enumerable: ClassVar[bool] = True
    alone: ClassVar[bool] = False

    @property
    def supplies(self) -> tuple[str, ...]:
        """Attributes that a model is handed whether the data has them or not."""
        return ()

    @property
    def nodes_stay(self) -> bool:
        """Outputs are numbered by nodes that no union can renumber; removed nodes stay, without features and edges."""
        return False

    @abstractmethod
    def count(self, graphs: Graphs | Shelf) -> int:
        """How many outputs `index=None` stands for."""

    def ids(self, graphs: Graphs | Shelf) -> int:
        """How many ids there are that the numbers of an index are taken from."""
        return self.count(graphs)

    def index(self, index: Any, graphs: Graphs | Shelf) -> Tensor:
        """The outputs that a user asks for, one row each; `[B]` for all levels but pairs.

        Raises:
            InputError: if there are none, or one does not exist.
        """
        return as_index(index, self.count(graphs), graphs.device)

    def numbers(self, index: Tensor, graphs: Graphs) -> Tensor:
        """What `index` returned, as the user counts outputs."""
        return index

    def name(self, index: Any) -> str:
        """The name of an output: `node 301`, `graph 7`, `pair 3–5`."""
        return f"{self.what} {int(index)}"

    def labels(self, index: Tensor, graphs: Graphs) -> tuple[int, Tensor]:
        """How many labels a user has, and which of them belong to outputs `[B]`."""
        return self.count(graphs), index

    def sample(self, nodes: Tensor, graphs: Graphs) -> Tensor:
        """Outputs around some nodes `[S]`, on which ways to run the model are tried, `[S]` or `[S, K]`."""
        return nodes

    def own_relations(self, graphs: Graphs) -> tuple[list[int], list[int]] | None:
        """The relations of a heterogeneous graph that hold the edge of a pair: from its first node to its last, and back;
        `None` where there are no relations.
        """
        return None

    def every_row(self, graphs: Graphs) -> Tensor | None:
        """The roots of outputs everywhere in the data, `[R, K]`, of all that can be enumerated; `None` without roots."""
        return None

    def first_rows(self, graphs: Graphs, *some: Tensor) -> Tensor | None:
        """The roots of what is read when the model first runs on the data, `[R, K]`: of all outputs, or where these cannot
        be enumerated of `some`, sorted and each once.
        """
        return self.every_row(graphs)

    def apart(self, graphs: Graphs) -> Graphs:
        """The data where what the model is handed for each union of instances is no attribute that follows its graph."""
        return graphs

    def handed(self, data: Any, rows: Tensor | None) -> Any:
        """The data as the model gets it; arguments as in `Problem.run`."""
        return data

    def is_pairs(self, value: Tensor, data: Any, rows: Tensor | None) -> bool:
        """Whether an argument names pairs of nodes, and is no adjacency even where it equals `edge_index`."""
        return False

    @abstractmethod
    def output(
        self, out: Tensor, data: Any, rows: Tensor | None, shrunk: bool, on: Callable[[], RunOn] | None
    ) -> Tensor:
        """The output of every instance, `[R, C]`, out of what the model returned; arguments as in `Problem.run`.

        Raises:
            InputError: if the model returned another number of rows than it should.
        """


@dataclass(frozen=True)
class NodeReadout(Readout):
    """One output row for every node, or in a heterogeneous graph for every node of a type.

    Attributes:
        node_type: that type; `None` in a homogeneous graph.
    """

    node_type: str | None = None

    what: ClassVar[str] = "node"
    labelled: ClassVar[str] = "node of the data, explained or not"

    def name(self, index: Any) -> str:
        """See `Readout`."""
        return f"{self.node_type or self.what} {int(index)}"

    def count(self, graphs: Graphs | Shelf) -> int:
        """See `Readout`."""
        return graphs.num_nodes if self.node_type is None else len(self._nodes(graphs))

    def index(self, index: Any, graphs: Graphs | Shelf) -> Tensor:
        """See `Readout`; the nodes are counted within their type, and returned in flat ids."""
        index = super().index(index, graphs)
        return index if self.node_type is None else self._nodes(graphs)[index]

    def numbers(self, index: Tensor, graphs: Graphs) -> Tensor:
        """See `Readout`."""
        return index if self.node_type is None or graphs.types is None else graphs.types.node_place[index]

    def every_row(self, graphs: Graphs) -> Tensor | None:
        """See `Readout`."""
        every = torch.arange(graphs.num_nodes, device=graphs.device) if self.node_type is None else self._nodes(graphs)
        return every.unsqueeze(1)

    def _nodes(self, graphs: Graphs | Shelf) -> Tensor:
        assert self.node_type is not None
        types = types_of(graphs)
        return types.nodes[types.number(self.node_type)]

    def output(
        self, out: Tensor, data: Any, rows: Tensor | None, shrunk: bool, on: Callable[[], RunOn] | None
    ) -> Tensor:
        """See `Readout`."""
        assert rows is not None
        nodes = data.num_nodes if self.node_type is None else num_nodes_of(data, self.node_type)
        out = one_row_each(out, len(rows) if shrunk else nodes, self.what, on)
        return out if shrunk else out[rows[:, 0]]


@dataclass(frozen=True)
class GraphReadout(Readout):
    """One output row for every graph."""

    what: ClassVar[str] = "graph"
    labelled: ClassVar[str] = "graph of the data, explained or not"
    rooted: ClassVar[bool] = False

    def count(self, graphs: Graphs | Shelf) -> int:
        """See `Readout`."""
        return graphs.num_graphs

    def output(
        self, out: Tensor, data: Any, rows: Tensor | None, shrunk: bool, on: Callable[[], RunOn] | None
    ) -> Tensor:
        """See `Readout`."""
        if data.num_graphs == 1 and out.dim() == 1:  # the row of one graph, without a dimension for graphs
            out = out.unsqueeze(0)
        return one_row_each(out, data.num_graphs, self.what, on)


@dataclass(frozen=True, eq=False)
class JointReadout(Readout):
    """Some rows of what a model returns on one graph, whatever they are of, side by side as one output `[1, K · C]`.

    The model always runs on the whole graph, one variant at a time, so it need not tell graphs of a batch apart, and what
    its outputs are numbered by (nodes, pairs of nodes) stays what it was. A removed node stays, too, with features 0 and
    without edges, unless outputs belong to graphs.

    Attributes:
        level: what the rows are of.
        size: how many rows the model returns.
        rows: `[K]` those that are explained.
    """

    level: ModelTaskLevel
    size: int
    rows: Tensor

    what: ClassVar[str] = "graph"
    labelled: ClassVar[str] = GraphReadout.labelled
    rooted: ClassVar[bool] = False
    alone: ClassVar[bool] = True

    @property
    def nodes_stay(self) -> bool:
        """Unless outputs belong to graphs."""
        return self.level != ModelTaskLevel.graph

    def count(self, graphs: Graphs | Shelf) -> int:
        """See `Readout`."""
        return 1

    def is_pairs(self, value: Tensor, data: Any, rows: Tensor | None) -> bool:
        """What an edge-level task asks about, its `edge_label_index`."""
        others = (other for key, other in data.to_dict().items() if key != "edge_index")
        return self.level == ModelTaskLevel.edge and any(value is other for other in others)

    def output(
        self, out: Tensor, data: Any, rows: Tensor | None, shrunk: bool, on: Callable[[], RunOn] | None
    ) -> Tensor:
        """See `Readout`."""
        if data.num_graphs != 1:
            raise InputError(
                f"expected one variant of the graph at a time, where several outputs share a mask, got {data.num_graphs}; "
                "explain one index at a time"
            )
        out = out.reshape(max(out.size(0), 1), -1) if out.dim() else out.reshape(1, 1)
        if len(out) != self.size:
            raise InputError(
                f"expected {self.size} output rows, as the whole graph has, got {len(out)} where something was taken out of "
                "it; use removal='message', which takes nothing out"
            )
        return out[self.rows].reshape(1, -1)


def types_of(graphs: Graphs | Shelf) -> Types:
    """The types of a heterogeneous graph."""
    whole = graphs if isinstance(graphs, Graphs) else graphs.take(None)
    assert whole.types is not None
    return whole.types


def one_row_each(out: Tensor, expected: int, what: str, on: Callable[[], RunOn] | None) -> Tensor:
    """What a model returned, as `[expected, C]`.

    Raises:
        InputError: if it has another number of rows, with a way that works.
    """
    if out.dim() == 0 and expected == 1:  # a model that squeezes its only column squeezed its only row too
        out = out.reshape(1)
    if out.dim() > 0 and out.size(0) == expected:
        return out.reshape(expected, -1)
    if on is not None and on() == "rebuilt":
        cure = " where some nodes were taken out; use removal='message', which takes nothing out"
    elif what == "pair":
        cure = f"; does the model return one row for each column of {PAIRS}? Say task= or pass forward="
    else:
        cure = f"; is this a {what}-level model? Say task= or pass forward="
    raise InputError(f"expected one output row per {what} ({expected}), got shape {list(out.shape)}{cure}")
