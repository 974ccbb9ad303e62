"""One data object with several edge sets, or several node sets, read as a heterogeneous graph.

A pair of graphs (`x_s`, `edge_index_s`, `x_t`, `edge_index_t`) has two node sets and an edge set in each; a signed or
multiplex graph has several edge sets between the same nodes. Node sets are types then, and edge sets are relations. What the
ids of an edge set count is what the data's `__inc__` says, by which PyG counts them on from graph to graph.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData

from gnn_xai.core.arrays.segments import owners, pointers
from gnn_xai.core.graphs.rules import Kind, plain
from gnn_xai.core.graphs.spelling import EdgeType, Named, class_of
from gnn_xai.core.graphs.stores import Stores
from gnn_xai.errors import InputError

EDGES = "edge_index"
"""What the names of edge sets contain, where a data object has no edge set of just this name."""


def is_edge_set(key: str, value: Any) -> bool:
    """Whether an attribute may hold edges, by its name and shape."""
    return EDGES in key and isinstance(value, Tensor) and _pairs(value)


def _pairs(value: Tensor) -> bool:
    if value.layout != torch.strided or value.dim() != 2 or value.size(0) != 2:
        return False
    return value.dtype in (torch.int64, torch.int32)


def edge_sets_of(data: Any) -> tuple[str, ...]:
    """The edge sets of a data object that has neither `edge_index` nor an adjacency."""
    if any(data.get(key) is not None for key in (EDGES, "adj_t")):
        return ()
    return tuple(key for key, value in data.to_dict().items() if is_edge_set(key, plain(value)))


def as_hetero(
    data: Any, num_graphs: int | None, names: Sequence[str], source: Any
) -> tuple[HeteroData, Named, Callable[..., Stores]]:
    """A data object, or a batch, with its node sets as types and its edge sets as relations; its own names for these; and
    the rules of its other attributes.

    Args:
        data: one graph or a batch.
        num_graphs: how many graphs a batch holds; `None` for one graph.
        names: its edge sets.
        source: the user's object.

    Raises:
        InputError: if `__inc__` does not say what the ids of an edge set count, or an id names nothing.
    """
    return _Sets(data, num_graphs, tuple(names)).read(source)


@dataclass(frozen=True, eq=False)
class _Sets:
    """The node sets and edge sets of a data object, as its `__inc__` tells them apart.

    Attributes:
        data: one graph or a batch.
        num_graphs: how many graphs a batch holds; `None` for one graph.
        names: of the edge sets.
        numbers: attributes that are themselves a number of nodes.
    """

    data: Any
    num_graphs: int | None
    names: tuple[str, ...]
    numbers: set[str] = field(default_factory=set)

    @cached_property
    def example(self) -> Any:
        """One graph as its user made it."""
        if self.num_graphs is None:
            return self.data
        if not vars(self.data._store).get("_slice_dict"):
            raise InputError(
                f"expected a Batch that knows which edges of data.{self.names[0]} belong to which graph, got one made by "
                "hand; build it with Batch.from_data_list"
            )
        return self.data.get_example(0)

    @cached_property
    def ends(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """For each edge set the attributes that say how many nodes there are where its edges start, and where they end."""
        return {name: self._counted(name) for name in self.names}

    def _counted(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        before = self._added(self.example, name)
        sources, targets = [], []
        for key in () if before is None else list(self.example.keys()):
            for grown, is_number in _grown(self.example, key):
                after = self._added(grown, name)
                more = None if after is None or before is None else _ends(after - before)
                if more is not None and 1 in more and set(more) <= {0, 1}:
                    sources += [key] * more[0]
                    targets += [key] * more[1]
                    self.numbers.update([key] * is_number)
                    break
        if not sources or not targets:
            raise InputError(
                f"expected data whose __inc__({name!r}, ...) is the number of the nodes that data.{name} names, got "
                f"{type(self.example).__name__}, of which nothing tells; set data.num_nodes or data.x, or let a class of "
                "your own return it, such as self.x_s.size(0)"
            )
        return tuple(sorted(sources)), tuple(sorted(targets))

    @staticmethod
    def _added(data: Any, key: str) -> Tensor | None:
        """What PyG adds to ids of the next graph in a batch."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyG's, where it can but guess a number of nodes
                return torch.as_tensor(data.__inc__(key, data[key], data._store)).cpu()
        except Exception:  # it looks for what this object lacks
            return None

    @cached_property
    def anchors(self) -> tuple[tuple[str, ...], ...]:
        """The node sets: for each, the attributes that say how many nodes it has."""
        return tuple(dict.fromkeys(end for ends in self.ends.values() for end in ends))

    def read(self, source: Any) -> tuple[HeteroData, Named, Callable[..., Stores]]:
        """See `as_hetero`."""
        starts = {anchor: self._node_starts(anchor) for anchor in self.anchors}
        edge_starts = {name: self._edge_starts(name, starts) for name in self.names}
        belongs = self._belongs(starts, edge_starts)
        features = {anchor: self._features(anchor, belongs) for anchor in self.anchors}
        titles = {anchor: features[anchor] or anchor[0] for anchor in self.anchors}
        out, spelled = HeteroData(), []
        for anchor, ptr in starts.items():
            store, title = out[titles[anchor]], titles[anchor]
            store.num_nodes, store.batch = int(ptr[-1]), owners(ptr)
            single = len(self.anchors) == 1
            own = {key: key for key in ("batch", "ptr", "num_nodes")} if single else {}
            if not single:
                own = {"batch": f"{title}_batch", "ptr": f"{title}_ptr"}
                counts = [key for key in anchor if key in self.numbers]
                own |= dict.fromkeys(["num_nodes" if self.num_graphs is None else "sizes"] * len(counts), *counts[:1])
            spelled.append(own | ({"x": title} if features[anchor] else {}))
            for key in (key for key, owner in belongs.items() if owner == anchor):
                store["x" if key == features[anchor] else key] = plain(self.data[key])
        for name, (first, last) in self.ends.items():
            relation: EdgeType = titles[first], name, titles[last]
            out[relation].edge_index = plain(self.data[name])
            for key in (key for key, owner in belongs.items() if owner == name):
                out[relation][key] = plain(self.data[key])
        known = {
            *self.names,
            *belongs,
            *(key for anchor in self.anchors for key in anchor),
            "batch",
            "ptr",
            "num_nodes",
        }
        known |= {f"{key}_{what}" for key in [*known] for what in ("batch", "ptr")}
        for key in self.data.keys():  # noqa: SIM118
            if key not in known:
                out[key] = self.data[key]
        base = class_of(source)
        order = [titles[anchor] for anchor in self.anchors]
        assert order == out.node_types
        named = Named(base, tuple(spelled), tuple(relation[1] for relation in out.edge_types))
        return out, named, partial(self._rules, belongs)

    def _rules(
        self, belongs: dict[str, Any], _: HeteroData, num_graphs: int | None, counts: dict[str, Tensor]
    ) -> Stores:
        """The rules of attributes that are rows of no set."""
        kinds: dict[Any, Kind] = {anchor: ("node", number) for number, anchor in enumerate(self.anchors)}
        kinds |= {name: ("edge", number) for number, name in enumerate(self.names)}
        grown: dict[Kind, Any] = {}
        for owner, kind in kinds.items():
            out = copy.copy(self.example)
            for key in {
                *(owner if kind[0] == "node" else (owner,)),
                *(key for key in belongs if belongs[key] == owner),
            }:
                options = [more for more, is_number in _grown(out, key) if is_number == (key in self.numbers)]
                out = next(iter(options), out)
            grown[kind] = out
        return Stores(self.data, num_graphs, grown, counts, self.example)

    # Rows #############################################################################################################

    def _node_starts(self, anchor: tuple[str, ...]) -> Tensor:
        """Where the nodes of each graph start, `[G + 1]`."""
        device = self.data[self.names[0]].device
        counts = [self._rows(key) for key in anchor if key not in self.numbers]
        ptr = next((ptr for ptr in counts if ptr is not None), None)
        if ptr is not None:
            return ptr.to(device)
        key = anchor[0]
        if self.num_graphs is None:
            return torch.tensor([0, int(self.data[key])], device=device)
        if key == "num_nodes":
            return self.data.ptr
        sizes = self.data[key]
        return pointers(torch.as_tensor(sizes, device=device).reshape(-1))

    def _rows(self, key: str) -> Tensor | None:
        """Where the rows of each graph start in an attribute that has any number of them, `[G + 1]`."""
        value = plain(self.data.get(key))
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.dim() == 0:
            return None
        if not isinstance(self.example.get(key), Tensor) or self.example[key].dim() == 0:
            return None
        dim = self.data.__cat_dim__(key, value, self.data._store)
        if not isinstance(dim, int) or not -value.dim() <= dim < value.dim():
            return None
        if self.num_graphs is None:
            return torch.tensor([0, value.size(dim)], device=value.device)
        starts = self.data._store._slice_dict.get(key)
        whole = isinstance(starts, Tensor) and len(starts) == self.num_graphs + 1 and int(starts[-1]) == value.size(dim)
        return starts.to(value.device) if whole else None

    def _edge_starts(self, name: str, starts: dict[tuple[str, ...], Tensor]) -> Tensor:
        """Where the edges of each graph start, `[G + 1]`; their ends are nodes of that graph."""
        edge_index, ptr = plain(self.data[name]), self._rows(name)
        if ptr is None:
            raise InputError(
                f"expected data.{name} as batched by Batch.from_data_list, got one that was changed since; set it before"
            )
        for ids, anchor in zip(edge_index, self.ends[name], strict=True):
            graph = owners(ptr)
            low, high = starts[anchor][:-1][graph], starts[anchor][1:][graph]
            wrong = ((ids < low) | (ids >= high)).nonzero().flatten()
            if len(wrong):
                first = wrong[0]
                raise InputError(
                    f"data.{name} names node {int(ids[first] - low[first])} of a graph that has "
                    f"{int(high[first] - low[first])} by data.{anchor[0]}"
                )
        return ptr

    # What attributes belong to ########################################################################################

    def _belongs(self, nodes: dict[tuple[str, ...], Tensor], edges: dict[str, Tensor]) -> dict[str, Any]:
        """The node set or edge set that each attribute has a row for every element of, where it has one.

        Raises:
            InputError: if that may be two, and the name of the attribute does not tell.
        """
        marks: dict[Any, list[tuple[str, str]]] = {name: [_affixes(name, EDGES)] for name in self.names}
        for anchor in self.anchors:
            own = [name for name, ends in self.ends.items() if ends == (anchor, anchor)]
            stems = [_affixes(key, stem) for key in anchor for stem in ("num_nodes", "x")]
            marks[anchor] = [*(_affixes(name, EDGES) for name in own), *(pair for pair in stems if pair is not None)]
        belongs: dict[str, Any] = {}
        for key in self.data.keys():  # noqa: SIM118
            ptr = None if key in (*self.names, *self.numbers, "batch", "ptr") else self._rows(key)
            if ptr is None or self.data.__cat_dim__(key, self.data[key], self.data._store) != 0:
                continue
            fits = [owner for owner, own in (*nodes.items(), *edges.items()) if torch.equal(own, ptr)]
            by_name = [owner for owner in fits if isinstance(owner, str) == ("edge" in key)]
            anchors = [owner for owner in fits if key in owner and not isinstance(owner, str)]
            of_graphs = self.num_graphs is not None and bool((ptr.diff() == 1).all())
            chosen = anchors or _best(key, by_name or fits, marks, of_graphs)
            if len(chosen) > 1:
                listed = " and of ".join(owner if isinstance(owner, str) else owner[0] for owner in chosen)
                raise InputError(
                    f"data.{key} has a row for each element of {listed}, or as many by coincidence, and its name does not "
                    f"tell which; name it for one of them, such as {_named_for(key, chosen[0], marks)}"
                )
            if chosen:
                belongs[key] = chosen[0]
        return belongs

    def _features(self, anchor: tuple[str, ...], belongs: dict[str, Any]) -> str | None:
        """The attribute that holds the features of a node set: the `x` of its names, or the one that counts it."""
        own = [key for key, owner in belongs.items() if owner == anchor]
        spelled = [key for key in own if _affixes(key, "x") is not None]
        counting = [key for key in anchor if key in own]
        return next(iter([*(key for key in spelled if key in counting), *spelled, *counting]), None)


def _ends(more: Tensor) -> list[int] | None:
    """By how much ids of the next graph grow, for the sources and the targets of edges."""
    try:
        return more.broadcast_to(2, 1).flatten().tolist()
    except RuntimeError:
        return None


def _grown(data: Data, key: str) -> Iterator[tuple[Any, bool]]:
    """A graph with one more row of an attribute; and with a number that is larger by one, where it is one, and true."""
    value = plain(data[key])
    if isinstance(value, int) and not isinstance(value, bool):
        yield _with(data, key, value + 1), True
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return
    dim = data.__cat_dim__(key, value, data._store) if value.dim() else None
    if isinstance(dim, int) and -value.dim() <= dim < value.dim():
        shape = list(value.shape)
        shape[dim] += 1
        yield _with(data, key, value.new_zeros(1).expand(shape)), False
    if value.numel() == 1 and not value.is_floating_point():
        yield _with(data, key, value + 1), True


def _with(data: Data, key: str, value: Any) -> Any:
    out = copy.copy(data)
    out[key] = value
    return out


def _affixes(name: str, stem: str) -> Any:
    """What stands before and after a stem in a name, `x` standing at an end of it or beside a `_`; `None` without."""
    before, found, after = name.partition(stem)
    if stem == "x":
        parts = name.split("_")
        before, found, after = (name[:-1], "x", "") if parts[-1] == "x" else ("", name[:1], name[1:])
    return (before, after) if found == stem else None


def _best(key: str, owners: Sequence[Any], marks: dict[Any, list[Any]], of_graphs: bool) -> list[Any]:
    """Those of some sets whose names have most in common with that of an attribute; several where nothing tells."""
    if not owners or (len(owners) == 1 and not of_graphs):
        return list(owners)
    scores = [
        max((len(p) + len(s) for p, s in marks[owner] if key.startswith(p) and key.endswith(s)), default=-1)
        for owner in owners
    ]
    if of_graphs and max(scores) <= 0:  # one element in each graph: it belongs to the graph
        return []
    return [owner for owner, score in zip(owners, scores, strict=True) if score == max(scores)]


def _named_for(key: str, owner: Any, marks: dict[Any, list[Any]]) -> str:
    before, after = max(marks[owner], key=lambda pair: len(pair[0]) + len(pair[1]), default=("", ""))
    return f"{before}{key}{after}"
