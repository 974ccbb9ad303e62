"""Counterfactuals of graphs: the edits under which the model says something else, as extras of explanations and as objects.

The extras hold them, so that selecting, joining, saving and storing explanations know nothing of them. `edge_removed` `[ΣE]`
and `node_removed` `[ΣN]` are bool, `added` `[B, K, 2]` holds ends of added edges, `changed` `[B, K, 2]` nodes and features
that are set to `changed_to` `[B, K]`; -1 stands for none. `prediction_edited` is `[B, C]`, `outcome` `[B]`. Ids are those of
the explanations.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, HeteroData

from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.errors import InputError
from gnn_xai.results._strength import undirected_once
from gnn_xai.results._to_pyg import graph_of

EditKind = Literal["edge removed", "edge added", "node removed", "feature changed"]

OUTCOMES = (
    "found",
    "no edits that were tried change what the model says",
    "nothing can be edited",
)
"""What `outcome` counts."""
FOUND, NONE_CHANGES, NOTHING = range(len(OUTCOMES))


class Edit(NamedTuple):
    """One change of a graph.

    Attributes:
        kind: what was done.
        at: the ends `(u, v)` of an edge, in a heterogeneous graph `(relation, (u, v))`; `(node,)`; `(node, feature)`.
        value: what a feature was set to, else `None`.
    """

    kind: EditKind
    at: tuple[Any, ...]
    value: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Counterfactual:
    """The edits of one graph under which the model says something else about one instance; `explanation.counterfactual`.

    What the model says is its class, or whether the explained label is on; of a regression, that the value moved by what
    the algorithm was asked for. The prediction is that of the rebuilt graph, whose degrees and softmax see the edits.

    Attributes:
        of: the `Explanation`.
    """

    of: Any

    def __post_init__(self) -> None:
        check_edits(self.of.source)

    @property
    def found(self) -> bool:
        """Whether there are edits that change what the model says."""
        return self.outcome == FOUND

    @property
    def outcome(self) -> int:
        """What came of the search, as a position in `OUTCOMES`."""
        return int(self._extras["outcome"])

    @property
    def why(self) -> str:
        """The same in words: `found`, or why there is none."""
        return OUTCOMES[self.outcome]

    @property
    def before(self) -> Tensor:
        """`[C]` the model's output on the graph."""
        return self.of.prediction

    @property
    def after(self) -> Tensor:
        """`[C]` its output on the edited graph; the same as before where none was found."""
        return self._extras["prediction_edited"]

    @property
    def size(self) -> int:
        """How many edits there are; an undirected edge counts once."""
        return len(self.edits)

    @cached_property
    def edits(self) -> tuple[Edit, ...]:
        """What is edited; nothing where no counterfactual was found."""
        nodes, types = dict(zip(self.of.node_id.tolist(), self.of.nodes, strict=True)), self.of.source.types
        at = edges_once(self.of.source[[self.of.position]], self._gone)
        pairs = [(nodes[u], nodes[v]) for u, v in self.of.edge_index[:, at].t().tolist()]
        if types is not None:
            kinds = [types.edge_types[kind] for kind in self.of.edge_type[at].tolist()]
            pairs = [(kind, (u[1], v[1])) for kind, (u, v) in zip(kinds, pairs, strict=True)]
        edits = [Edit("edge removed", pair) for pair in pairs]
        edits += [Edit("edge added", (u, v)) for u, v in self.added.t().tolist()]
        edits += [Edit("node removed", (nodes[node],)) for node in self.removed_nodes.tolist()]
        for (node, feature), value in zip(self.changed.t().tolist(), self._changed_to.tolist(), strict=True):
            edits.append(Edit("feature changed", (nodes[node], feature), value))
        return tuple(edits)

    @property
    def removed(self) -> Tensor:
        """`[2, r]` ends of the removed edges in play, both directions of an undirected one, in the explanation's ids."""
        return self.of.edge_index[:, self._gone]

    @property
    def removed_nodes(self) -> Tensor:
        """`[n]` the removed nodes."""
        gone = self._extras.get("node_removed")
        return self.of.node_id[:0] if gone is None else self.of.node_id[gone]

    @property
    def added(self) -> Tensor:
        """`[2, a]` ends of the added edges; an undirected one is there once."""
        return self._rows("added")

    @property
    def changed(self) -> Tensor:
        """`[2, c]` nodes and features whose value was changed."""
        return self._rows("changed")

    def apply(self, data: Any = None) -> Any:
        """The edited graph: a copy of the data with the edits; for graph-level tasks, of the explained graph alone.

        Args:
            data: the data that was explained; not needed as long as the explanations were not loaded from disk.

        Raises:
            InputError: without data, for other data, or for data whose edges are not in `edge_index`; for several graphs
                of a task on nodes; for edits of a heterogeneous graph other than removed edges.
        """
        data = self.of.source.data if data is None else data
        if data is None:
            raise InputError("expected data= for explanations loaded from disk; pass the data that was explained")
        if isinstance(data, str) or not hasattr(data, "__getitem__"):
            raise InputError(f"expected the data that was explained, got {type(data).__name__}")
        data = graph_of(data, self.of.source.task.task_level.value, self.of.index)
        if isinstance(data, Batch):
            raise InputError(
                "expected one Data or HeteroData to edit, got several for a task on nodes; edit the graph of interest by "
                "counterfactual.edits"
            )
        return self._applied(data)

    def __repr__(self) -> str:
        edits = "; ".join(f"{edit.kind} {edit.at}" for edit in self.edits[:4])
        more = f"; {self.size - 4} more" if self.size > 4 else ""
        return f"Counterfactual({self.of.name}: {f'{edits}{more}' if self.found else self.why})"

    def _applied(self, data: Any) -> Any:
        graphs, typed = as_graphs(data, torch.device("cpu")), isinstance(data, HeteroData)
        if graphs.types is not None and not typed:
            raise InputError("expected data whose edges are in edge_index, got several sets of edges")
        if graphs.types is None and data.get("edge_index") is None:
            raise InputError("expected data whose edges are in edge_index, got a sparse adjacency")
        nodes, edges = (int(ids.max()) + 1 if len(ids) else 0 for ids in (self.of.node_id, self.of.edge_id))
        if nodes > graphs.num_nodes or edges > graphs.num_edges:
            raise InputError(
                f"expected the data that was explained, with {nodes} nodes and {edges} edges or more, got "
                f"{graphs.num_nodes} and {graphs.num_edges}"
            )
        out, gone = copy.copy(data), self._edges_of(graphs)
        if graphs.types is not None:
            if {edit.kind for edit in self.edits} - {"edge removed"}:
                raise InputError(
                    "expected removed edges alone to edit a heterogeneous graph, got other edits; apply them by "
                    "counterfactual.edits"
                )
            for number, relation in enumerate(graphs.types.relations):
                _drop(out[relation], gone[graphs.types.edges[number]], graphs.types.edge_attrs[number])
            return out
        _drop(out, gone, graphs.edge_attrs)
        self._insert(out, graphs)
        changed = self.changed.cpu()
        if changed.size(1):
            out.x = out.x.clone()
            out.x[changed[0], changed[1]] = self._changed_to.to(out.x)
        nodes = self.removed_nodes.cpu()
        if len(nodes):
            keep = torch.ones(graphs.num_nodes, dtype=torch.bool)
            keep[nodes] = False
            out = out.subgraph(keep)
        return out

    def _edges_of(self, graphs: Graphs) -> Tensor:
        """`[E]` which edges of the data are removed; with an edge its other direction, also where that is out of play."""
        edge = self.of.edge_id[self._gone].cpu()
        gone = torch.zeros(graphs.num_edges, dtype=torch.bool)
        gone[edge] = True
        if self._undirected and len(edge):
            back = graphs.reverse[edge]
            gone[back[back >= 0]] = True
        return gone

    def _insert(self, data: Data, graphs: Graphs) -> None:
        ends = self.added.cpu()
        if not ends.size(1):
            return
        if graphs.edge_attrs:
            raise InputError(f"expected edges without attributes to add some, got {', '.join(graphs.edge_attrs)}")
        ends = torch.cat([ends, ends.flip(0)], 1) if self._undirected else ends
        assert data.edge_index is not None
        data.edge_index = torch.cat([data.edge_index, ends.to(data.edge_index.device)], 1)

    @property
    def _gone(self) -> Tensor:
        """`[e]` which edges in play are removed."""
        return edges_removed(self.of)

    @cached_property
    def _extras(self) -> dict[str, Tensor]:
        return self.of.extras

    @property
    def _undirected(self) -> bool:
        return bool(self.of.source.provenance.get("undirected"))

    @property
    def _changed_to(self) -> Tensor:
        values = self._extras.get("changed_to")
        return self.of.prediction[:0] if values is None else values[self._extras["changed"][:, 0] >= 0]

    def _rows(self, name: str) -> Tensor:
        rows = self._extras.get(name)
        return self.of.edge_index[:, :0] if rows is None else rows[rows[:, 0] >= 0].t()


def check_edits(explanations: Any) -> None:
    """Raise an `InputError` unless `Explanations` are by an algorithm that edits graphs."""
    if "outcome" not in explanations.extras:
        raise InputError(
            "expected explanations by an algorithm that edits graphs, such as gnn_xai.CounterfactualSearch(), got those of "
            f"{explanations.algorithm['name']}"
        )


def edges_removed(explanations: Any) -> Tensor:
    """Which edges in play of `Explanations`, or of one `Explanation`, are removed, `[ΣE]` bool."""
    none = torch.zeros_like(explanations.edge_id, dtype=torch.bool)
    return explanations.extras.get("edge_removed", none)


def edges_once(explanations: Any, edges: Tensor) -> Tensor:
    """The positions of some edges `[ΣE]` bool of `Explanations`, leaving out the second direction of an undirected edge."""
    at = edges.nonzero().flatten()
    if len(at) == 0 or not explanations.provenance.get("undirected"):
        return at
    span = int(explanations.node_id.max()) + 1  # instance and id together identify a node
    ends = explanations.edge_owner[at] * span + explanations.edge_index[:, at]
    relation = explanations.edge_type
    return at[undirected_once(ends, torch.zeros_like(at) if relation is None else relation[at])]


def extras_of(prediction: Tensor, outcome: Tensor, **edits: Tensor | None) -> dict[str, Tensor]:
    """Counterfactuals of B instances as the extras of their scores.

    Args:
        prediction: `[B, C]` of the rebuilt graphs.
        outcome: `[B]` positions in `OUTCOMES`.
        edits: `edge_removed`, `node_removed`, `added`, `changed`, `changed_to`, of which any may be left out.
    """
    some = {name: value for name, value in edits.items() if value is not None}
    return {"prediction_edited": prediction, "outcome": outcome, **some}


def _drop(store: Any, gone: Tensor, attributes: Any) -> None:
    """Take edges out of a graph or of a relation, with their rows of its attributes."""
    keep = (~gone).to(store.edge_index.device)
    for name in attributes:
        if store.get(name) is not None:
            store[name] = store[name][keep]
    store.edge_index = store.edge_index[:, keep]
