"""Ground truth: the edges and nodes that are the reason of a prediction, where the maker of the data knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, HeteroData

from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import InputError

if TYPE_CHECKING:
    from gnn_xai.results._by_type import TypeNames
    from gnn_xai.results.explanations import Explanations

Motifs = Tensor | Mapping[Any, Tensor]
"""The motif ids of one graph; of a heterogeneous one by node type, or by relation."""


@dataclass(frozen=True, eq=False, repr=False)
class GroundTruth:
    """The true elements of every instance, as a motif id per edge and per node (-1: no motif).

    Node level: one tensor for the edges and one for the nodes of the graph. Node ``i`` is explained
    by the motif it lies in, so an element ``a`` with motif id ``m(a)`` is true for instance ``i``
    exactly if ``m(a) >= 0 and m(a) == m(i)``; a node outside all motifs has no true element. Edge
    level: the same with the motifs of both nodes of a pair.

    Edge level with ``pairs``, where an element may be true for several pairs: the truth is listed, one column
    ``(element, p)`` for every true element of the pair ``pairs[:, p]``. A pair that is not listed has no true element.

    Graph level: one tensor per graph, ids local to it. All its motifs explain a graph's label:
    ``a`` is true exactly if ``m(a) >= 0``.

    In a heterogeneous graph every tensor is a dict of tensors, by relation for edges and by node type for nodes, and
    ids are counted within each.

    Args:
        edge: int ``[E]``, or a sequence of ``[E_g]`` with one tensor per graph; with ``pairs`` int ``[2, K]``.
        node: int ``[N]``, or a sequence of ``[N_g]``; with ``pairs`` int ``[2, K]``. Of graphs, and with ``pairs``, one of
            the two may be ``None``, where it is not known.
        pairs: int ``[2, P]``, pairs of nodes as `gnn_xai.explain` takes them.

    Raises:
        InputError: the two do not have the same form, or are not integers of that shape.

    Two triangles 0-1-2 and 3-4-5, joined by the edge 2-3. For node 1 its own triangle is true, for
    node 4 the other one, and the joining edge (id 3) never is:

    >>> from types import SimpleNamespace
    >>> import torch
    >>> truth = GroundTruth(
    ...     edge=torch.tensor([0, 0, 0, -1, 1, 1, 1]),  # 0-1, 1-2, 2-0, 2-3, 3-4, 4-5, 5-3
    ...     node=torch.tensor([0, 0, 0, 1, 1, 1]),
    ... )
    >>> explanations = SimpleNamespace(  # node 1 sees edges 0 to 3, node 4 sees edges 3 to 6
    ...     index=torch.tensor([1, 4]), types=None,
    ...     edge_ptr=torch.tensor([0, 4, 8]), edge_id=torch.tensor([0, 1, 2, 3, 3, 4, 5, 6]),
    ... )
    >>> truth.edges(explanations).long().tolist()
    [1, 1, 1, 0, 0, 1, 1, 1]
    >>> truth
    GroundTruth(6 of 7 edges, 6 of 6 nodes in motifs)
    """

    edge: Motifs | Sequence[Motifs] | None
    node: Motifs | Sequence[Motifs] | None = None
    pairs: Tensor | None = None

    def __post_init__(self) -> None:
        known = [motifs for motifs in (self.edge, self.node) if motifs is not None]
        if not known or (len(known) == 1 and not self.per_graph and self.pairs is None):
            missing = "edge= and node=" if not known else "edge=" if self.edge is None else "node="
            raise InputError(
                f"expected edge= and node= of a GroundTruth, got no {missing}; give motif ids, -1 for no motif (those of "
                "nodes say which motif explains a node); for graphs, with a tensor each, one of the two may be None"
            )
        if len({_form(motifs) for motifs in known}) > 1:
            raise InputError(
                "edge and node of a GroundTruth must have one form: two tensors (node level), two dicts of tensors by "
                "type (heterogeneous graphs), or two sequences with one of either per graph, got "
                f"{type(self.edge).__name__} and {type(self.node).__name__}"
            )
        if self.per_graph and len({len(motifs) for motifs in known}) > 1:
            raise InputError(
                "a GroundTruth for graphs needs one edge and one node tensor per graph, "
                f"got {' and '.join(str(len(motifs)) for motifs in known)}"
            )
        listed = self.pairs is not None
        _require_integers("pairs", self.pairs, listed=True, means="pairs of nodes")
        for what in ("edge", "node"):
            for tensor in _tensors(getattr(self, what)):
                _require_integers(what, tensor, listed, "(element, pair)" if listed else "")

    def __repr__(self) -> str:
        counts = []
        for what in ("edge", "node"):
            tensors = list(_tensors(getattr(self, what)))
            if not tensors:
                continue
            if self.pairs is not None:
                counts.append(f"{sum(tensor.size(1) for tensor in tensors)} true {what}s")
            else:
                inside = sum(int((motif >= 0).sum()) for motif in tensors)
                counts.append(f"{inside} of {sum(map(len, tensors))} {what}s")
        motifs = "in motifs" if self.pairs is None else f"of {self.pairs.size(1)} pairs"
        graphs = f" of {len(self.edge or self.node or ())} graphs" if self.per_graph else ""
        return f"GroundTruth({', '.join(counts)} {motifs}{graphs})"

    @property
    def per_graph(self) -> bool:
        """The truth of a graph-level task, with tensors per graph."""
        return _form(self.node if self.edge is None else self.edge) == "per graph"

    def edges(self, explanations: Explanations) -> Tensor:
        """True edges among the explained ones: bool ``[sumE]``, in the order of ``edge_id``.

        Raises:
            InputError: an instance, edge or node id lies outside of this truth.
        """
        return self._true("edge", explanations)

    def nodes(self, explanations: Explanations) -> Tensor:
        """True nodes among the explained ones: bool ``[sumN]``, in the order of ``node_id``.

        Raises:
            InputError: an instance, edge or node id lies outside of this truth.
        """
        return self._true("node", explanations)

    def check(self, explanations: Explanations) -> None:
        """Compare this truth with the data of explanations, as far as they know it (after loading they do not).

        Raises:
            InputError: the truth has another form than their task, or another number of graphs, edges or nodes.
        """
        level = explanations.task.task_level.value
        if self.per_graph != (level == "graph"):
            form = "one tensor per graph" if level == "graph" else "one tensor for all"
            raise InputError(
                f"expected a GroundTruth with {form} edges and nodes for a {level}-level task, got "
                f"{'one per graph' if self.per_graph else 'one for all'}"
            )
        if self.pairs is not None and level != "edge":
            raise InputError(f"expected a GroundTruth without pairs for a {level}-level task, got one with pairs")
        types = explanations.types
        if types is not None and types.num_nodes is None and not self.per_graph:
            raise InputError(
                "expected explanations of one heterogeneous graph for a ground truth, got those of several"
            )
        if explanations.data is None:
            return
        for what, sizes in zip(("edge", "node"), _sizes(explanations.data, types), strict=True):
            if (motifs := getattr(self, what)) is None:
                continue
            names = _names(what, types)
            parts = _parts(motifs, names)
            kinds = 1 if names is None else len(names)
            if not self.per_graph:
                sizes = [sum(sizes[kind::kinds]) for kind in range(kinds)]
            if len(parts) != len(sizes):
                raise InputError(
                    f"expected a GroundTruth for the {len(sizes) // kinds} graphs of the data, got one for "
                    f"{len(parts) // kinds}"
                )
            for position, (part, size) in enumerate(zip(parts, sizes, strict=True)):
                where = "" if names is None else f" of {names[position % kinds]!r}"
                where += f" of graph {position // kinds}" if self.per_graph else ""
                if self.pairs is None and len(part) != size:
                    raise InputError(
                        f"expected a GroundTruth with a motif id for each of the {size} {what}s{where}, got {len(part)}; "
                        "explanations and ground truth must be of the same data"
                    )
                if self.pairs is not None and part.numel() and int(part[0].max()) >= size:
                    raise InputError(
                        f"expected a GroundTruth of {size} {what}s{where}, got one that lists {what} {int(part[0].max())}; "
                        "explanations and ground truth must be of the same data"
                    )

    def _true(self, what: str, explanations: Explanations) -> Tensor:
        motifs = getattr(self, what)
        if motifs is None:
            other = "edge" if what == "node" else "node"
            raise InputError(
                f"this GroundTruth does not know which {what}s are true; give it {what}=, or compare level={other!r}"
            )
        index, types = explanations.index, explanations.types
        names = _names(what, types)
        ids = getattr(explanations, f"{what}_id" if types is None else f"{what}_number")
        owner = torch.arange(len(index), device=ids.device)
        owner = owner.repeat_interleave(getattr(explanations, f"{what}_ptr").diff())
        # One part of the truth for each graph and type: which one an element is in, and its id there, identify it.
        part = torch.zeros_like(ids) if types is None else getattr(explanations, f"{what}_type")
        parts = [motif.to(ids.device) for motif in _parts(motifs, names)]
        if self.pairs is not None:
            return _listed(parts, part, ids, self._position(index)[owner])
        if self.per_graph:
            _require_within(index, len(motifs), "graph")
            part = part + index[owner] * (1 if names is None else len(names))
        sizes = torch.tensor([len(motif) for motif in parts], device=ids.device)
        _require_within(ids, sizes[part], what)
        motif = torch.cat(parts)[(sizes.cumsum(0) - sizes)[part] + ids]
        if self.per_graph:
            return motif >= 0
        own = self._own(index, types)[owner]
        return (motif >= 0) & (motif.unsqueeze(1) == own).any(1)

    def _own(self, index: Tensor, types: TypeNames | None) -> Tensor:
        """The motifs of the nodes that are explained, `[B, 1]`, or `[B, 2]` for pairs."""
        roots, columns = index.reshape(len(index), -1), []
        assert self.node is not None
        parts = _parts(self.node, _names("node", types))
        explained = None if types is None else types.explained
        names = explained[::2] if isinstance(explained, tuple) else [str(explained)]
        kinds = [0] * roots.size(1) if types is None else [types.node_types.index(name) for name in names]
        for ids, kind in zip(roots.unbind(1), kinds, strict=True):
            _require_within(ids, len(parts[kind]), "node")
            columns.append(parts[kind].to(index.device)[ids])
        return torch.stack(columns, dim=1)

    def _position(self, index: Tensor) -> Tensor:
        """Where each explained pair `[B, 2]` is among `pairs`, `[B]`; -1 where it is not."""
        assert self.pairs is not None
        pairs = self.pairs.to(index.device)
        if pairs.numel() == 0 or len(index) == 0:
            return torch.full((len(index),), -1, device=index.device)
        span = 1 + int(torch.maximum(pairs.max(), index.max()))
        keys, order = (pairs[0] * span + pairs[1]).sort()
        wanted = index[:, 0] * span + index[:, 1]
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return torch.where(keys[place] == wanted, order[place], -1)


def _form(motifs: Motifs | Sequence[Motifs] | None) -> str:
    if isinstance(motifs, Tensor):
        return "one tensor"
    return "by type" if isinstance(motifs, Mapping) else "per graph"


def _tensors(motifs: Motifs | Sequence[Motifs] | None) -> Iterator[Any]:
    for graph in () if motifs is None else [motifs] if isinstance(motifs, (Tensor, Mapping)) else motifs:
        yield from graph.values() if isinstance(graph, Mapping) else (graph,)


def _names(what: str, types: TypeNames | None) -> tuple[Any, ...] | None:
    """The relations (of edges) or node types that a truth is by; `None` for a homogeneous graph."""
    return None if types is None else getattr(types, f"{what}_types")


def _parts(motifs: Motifs | Sequence[Motifs], names: tuple[Any, ...] | None) -> list[Tensor]:
    """The tensors of all graphs, one after the other; within each by type, in the order of `names`.

    Raises:
        InputError: the truth is by type where the graph has none, or the other way around, or a type is missing.
    """
    parts: list[Tensor] = []
    for graph in [motifs] if isinstance(motifs, (Tensor, Mapping)) else motifs:
        if names is None and isinstance(graph, Tensor):
            parts.append(graph)
        elif names is not None and isinstance(graph, Mapping) and set(graph) == set(names):
            parts += [graph[name] for name in names]
        else:
            expected = (
                "a tensor" if names is None else f"a dict with a tensor for each of {', '.join(map(repr, names))}"
            )
            got = f"a dict for {', '.join(map(repr, graph))}" if isinstance(graph, Mapping) else "a tensor"
            raise InputError(
                f"expected a GroundTruth with {expected}, as the explained graph is, got {got}; explanations and ground "
                "truth must be of the same data"
            )
    return parts


def _listed(parts: Sequence[Tensor], part: Tensor, ids: Tensor, position: Tensor) -> Tensor:
    """Whether each element `(part, id)` is listed for the pair at `position`, `[M]` bool; not where that is -1."""
    element = torch.cat([motif[0] * len(parts) + number for number, motif in enumerate(parts)])
    pair = torch.cat([motif[1] for motif in parts])
    span = 1 + max(int(of.max()) if len(of) else 0 for of in (pair, position))
    true = torch.isin((ids * len(parts) + part) * span + position, element * span + pair)
    return true & (position >= 0)


def _sizes(data: Any, types: TypeNames | None) -> tuple[list[int], list[int]]:
    """How many edges and how many nodes each graph of the user's data has; of each type, in a heterogeneous graph."""
    if isinstance(data, Batch):
        graphs = as_graphs(data, torch.device("cpu"))
        if graphs.types is None:
            return graphs.edge_ptr.diff().tolist(), graphs.node_ptr.diff().tolist()
        of_edges = graphs.edge_batch * len(graphs.types.relations) + graphs.types.edge_type
        of_nodes = graphs.batch * len(graphs.types.names) + graphs.types.node_type
        kinds = (len(graphs.types.relations), len(graphs.types.names))
        counts = (
            torch.bincount(of, minlength=graphs.num_graphs * kind)
            for of, kind in zip((of_edges, of_nodes), kinds, strict=True)
        )
        edges, nodes = (count.tolist() for count in counts)
        return edges, nodes
    several: list[Any] = [data] if isinstance(data, (Data, HeteroData)) else list(data)
    if types is None:
        return [graph.num_edges for graph in several], [graph.num_nodes or 0 for graph in several]
    edges = [graph[name].num_edges for graph in several for name in types.edge_types]
    return edges, [int(graph[name].num_nodes or 0) for graph in several for name in types.node_types]


def _require_integers(what: str, values: Any, listed: bool, means: str) -> None:
    """Raise unless `values` is an integer tensor `[n]`, or `[2, n]` if `listed`; `None` passes."""
    dims = 2 if listed else 1
    integers = isinstance(values, Tensor) and not values.is_floating_point() and values.dtype != torch.bool
    if values is None or (integers and values.dim() == dims and (not listed or len(values) == 2)):
        return
    got = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    if listed:
        raise InputError(f"{what} of a GroundTruth with pairs must hold {means} as integers of shape [2, n], got {got}")
    raise InputError(
        f"{what} of a GroundTruth must hold motif ids, an integer tensor of one dimension with -1 for no motif, got "
        f"{got}; a boolean truth becomes motif ids by 'truth.long() - 1'"
    )


def _require_within(ids: Tensor, size: int | Tensor, what: str) -> None:
    """Raise unless all ids lie in ``[0, size)``; ``size`` may differ from id to id."""
    outside = ((ids < 0) | (ids >= size)).nonzero().flatten()
    if len(outside):
        first = outside[0]
        limit = size[first].item() if isinstance(size, Tensor) else size
        raise InputError(
            f"expected {what} ids from 0 to {limit - 1}, which is what the ground truth covers, "
            f"got {what} {ids[first].item()}; explanations and ground truth must be of the same "
            "data"
        )
