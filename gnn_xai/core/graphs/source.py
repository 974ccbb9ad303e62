"""The user's data as plain tensors: one disjoint union, whether it came as one graph or as many."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch_geometric import EdgeIndex, Index
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.data.dataset import Dataset
from torch_geometric.typing import SparseTensor  # pyright: ignore[reportAttributeAccessIssue]

from gnn_xai.core.arrays.keyed_random import mix
from gnn_xai.core.arrays.segments import gather_segments, owners, pointers, segment_sum
from gnn_xai.core.graphs.matching import match_edges, pair_directions
from gnn_xai.core.graphs.types import Types, read
from gnn_xai.errors import InputError

Flow = Literal["source_to_target", "target_to_source", "both"]


_BOOKKEEPING = {"edge_index", "adj_t", "adj", "batch", "ptr", "num_nodes", "num_graphs"}


@dataclass(frozen=True, eq=False)
class Graphs:
    """All graphs of a question as one disjoint union.

    Attributes:
        edge_index: nodes numbered over all graphs.
        batch: the graph of each node.
        node_ptr, edge_ptr: where each graph's nodes and edges start.
        node_attrs: attributes of nodes by name (`x`, `pos`, ...).
        edge_attrs: attributes of edges by name (`edge_attr`, `edge_weight`, ...).
        graph_attrs: attributes of graphs by name.
        other: whatever else the data carries; handed to the model as it is.
        many: the data came as several graphs; ids are then counted within each graph.
        source: the user's object, as it was handed in.
        factors: ones in the shape of `x`, where that holds codes whose embeddings masks can multiply.
        types: of the nodes and edges of a heterogeneous graph, with their attributes; `None` for a homogeneous one. The
            features of all types stand side by side in `x`.
    """

    edge_index: Int[Tensor, "2 edges"]
    batch: Int[Tensor, " nodes"]
    node_ptr: Int[Tensor, " pointers"]
    edge_ptr: Int[Tensor, " pointers"]
    node_attrs: dict[str, Shaped[Tensor, "nodes ..."]]
    edge_attrs: dict[str, Shaped[Tensor, "edges ..."]]
    graph_attrs: dict[str, Shaped[Tensor, "graphs ..."]]
    other: dict[str, Any]
    many: bool
    source: Any
    factors: Shaped[Tensor, "nodes ..."] | None = None
    types: Types | None = None

    @property
    def num_nodes(self) -> int:
        """Nodes of all graphs."""
        return len(self.batch)

    @property
    def num_edges(self) -> int:
        """Edges of all graphs."""
        return self.edge_index.size(1)

    @property
    def num_graphs(self) -> int:
        """How many graphs there are."""
        return len(self.node_ptr) - 1

    @property
    def x(self) -> Shaped[Tensor, "nodes ..."] | None:
        """Node features, if there are any."""
        return self.node_attrs.get("x")

    @property
    def features(self) -> Shaped[Tensor, "nodes ..."] | None:
        """The features that masks multiply and removals set to 0: `x`, or for codes the factors of their embeddings."""
        return self.x if self.factors is None else self.factors

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.edge_index.device

    @cached_property
    def edge_batch(self) -> Int[Tensor, " edges"]:
        """The graph of each edge."""
        return owners(self.edge_ptr)

    @cached_property
    def node_key(self) -> Int[Tensor, " nodes"]:
        """Keys of random numbers for each node: its position in its graph, or its `n_id` where the data has it (PyG's
        samplers write it), so that a relabelled or sampled graph gets the same numbers.
        """
        position = torch.arange(self.num_nodes, device=self.device)
        return _ids(self.node_attrs.get("n_id"), position - self.node_ptr[self.batch])

    @cached_property
    def edge_key(self) -> Int[Tensor, " edges"]:
        """Keys of random numbers for each edge: its position in its graph, or its `e_id`."""
        position = torch.arange(self.num_edges, device=self.device)
        return _ids(self.edge_attrs.get("e_id"), position - self.edge_ptr[self.edge_batch])

    def roots_key(self, index: Int[Tensor, "instances ..."]) -> Int[Tensor, " instances"]:
        """The same for instances around a node, or around several each."""
        first, *others = index.reshape(len(index), -1).unbind(1)
        key = self.node_key[first]
        for node in others:
            key = mix(key) ^ mix(self.node_key[node] + 1)
        return key

    @cached_property
    def node_in_type(self) -> Int[Tensor, " nodes"]:
        """The id of each node of a heterogeneous graph within its type and graph."""
        assert self.types is not None
        return _rank(self.batch * len(self.types.names) + self.types.node_type)

    @cached_property
    def edge_in_type(self) -> Int[Tensor, " edges"]:
        """The id of each edge of a heterogeneous graph within its relation and graph."""
        assert self.types is not None
        return _rank(self.edge_batch * len(self.types.relations) + self.types.edge_type)

    @cached_property
    def graph_key(self) -> Int[Tensor, " graphs"]:
        """A fingerprint of each graph's degrees and features, so that a graph explained alone keeps its key."""
        row, col = self.edge_index
        degree_out = torch.bincount(row, minlength=self.num_nodes)
        degree_in = torch.bincount(col, minlength=self.num_nodes)
        edges = mix(mix(degree_out[row] * 65_537 + degree_in[row]) ^ mix(degree_in[col]))
        nodes = mix(degree_in)
        if self.x is not None:
            nodes = mix(nodes ^ _row_hash(self.x))
        total = segment_sum(nodes, self.batch, self.num_graphs)
        return mix(total + segment_sum(edges, self.edge_batch, self.num_graphs))

    @cached_property
    def reverse(self) -> Int[Tensor, " edges"]:
        """The edge that runs the other way, or -1 where there is none; parallel edges pair with those of the same
        attributes where both directions of all edges have them, and else in order.

        A self loop is its own reverse. Edges pair within a graph only if the whole graph is undirected, that is, if
        every edge of it has a partner: one reciprocal pair does not make a directed graph undirected. In a heterogeneous
        graph they pair within a relation, as the layer of another relation says something else with the same edge.
        """
        group, groups = self.edge_batch, self.num_graphs
        if self.types is not None:
            group, groups = group * len(self.types.relations) + self.types.edge_type, groups * len(self.types.relations)

        def everywhere(holds: Bool[Tensor, " edges"]) -> Bool[Tensor, " edges"]:
            return (segment_sum((~holds).long(), group, groups) == 0)[group]

        if self.types is not None:
            partner = torch.full_like(group, -1)
            for edges in self.types.edges:
                place = match_edges(self.edge_index[:, edges].flip(0), self.edge_index[:, edges], self.num_nodes)
                partner[edges] = torch.where(place < 0, -1, edges[place])
            return torch.where(everywhere(partner >= 0), partner, -1)
        partner = match_edges(self.edge_index.flip(0), self.edge_index, self.num_nodes)
        hashes = [mix(_row_hash(value)) for key, value in sorted(self.edge_attrs.items()) if key != "e_id"]
        if hashes:
            attributes = torch.stack(hashes).sum(0)
            alike = pair_directions(self.edge_index, self.num_nodes, attributes)
            partner = torch.where(everywhere(attributes[alike] == attributes), alike, partner)
        return torch.where(everywhere(partner >= 0), partner, -1)

    @cached_property
    def symmetric(self) -> bool:
        """Whether every edge has its reverse."""
        return bool((self.reverse >= 0).all())

    def incidence(
        self, flow: Flow
    ) -> tuple[Int[Tensor, " pointers"], Int[Tensor, " messages"], Int[Tensor, " messages"]]:
        """The edges sorted by the node they carry messages to, as CSR; its self loops first, then by their keys.

        Returns `(ptr, sender, edge)`. For `flow="both"`, where layers of either flow are present, every edge carries
        messages both ways and is listed twice.
        """
        if flow not in self._incidence:
            row, col = self.edge_index
            edge = torch.arange(self.num_edges, device=self.device)
            if flow == "source_to_target":
                sender, receiver = row, col
            elif flow == "target_to_source":
                sender, receiver = col, row
            else:
                sender, receiver, edge = torch.cat([row, col]), torch.cat([col, row]), torch.cat([edge, edge])
            place = 2 * receiver + (sender != receiver)
            if "e_id" in self.edge_attrs:
                by_key = torch.argsort(self.edge_key[edge], stable=True)
                order = by_key[torch.argsort(place[by_key], stable=True)]
            else:
                order = torch.argsort(place, stable=True)
            ptr = pointers(torch.bincount(receiver, minlength=self.num_nodes))
            self._incidence[flow] = ptr, sender[order], edge[order]
        return self._incidence[flow]

    @cached_property
    def _incidence(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        return {}

    def take(self, select: Int[Tensor, " selected"]) -> Graphs:
        """Some of the graphs, in that order."""
        node, node_ptr = gather_segments(self.node_ptr, select)
        edge, edge_ptr = gather_segments(self.edge_ptr, select)
        shift = torch.repeat_interleave(node_ptr[:-1] - self.node_ptr[select], edge_ptr.diff())
        return replace(
            self,
            edge_index=self.edge_index[:, edge] + shift,
            batch=owners(node_ptr),
            node_ptr=node_ptr,
            edge_ptr=edge_ptr,
            node_attrs={key: value[node] for key, value in self.node_attrs.items()},
            edge_attrs={key: value[edge] for key, value in self.edge_attrs.items()},
            graph_attrs={key: value[select] for key, value in self.graph_attrs.items()},
            types=None if self.types is None else self.types.take(node, edge),
        )

    def content(self) -> dict[str, Any]:
        """Everything that the data says, for a checksum."""
        ptr = {"node_ptr": self.node_ptr, "edge_ptr": self.edge_ptr, "edge_index": self.edge_index}
        typed = {} if self.types is None else self.types.content()
        return {**self.other, **self.node_attrs, **self.edge_attrs, **self.graph_attrs, **ptr, **typed}

    def slice(
        self,
        nodes: Int[Tensor, " nodes"],
        edges: Int[Tensor, " edges"],
        edge_index: Int[Tensor, "2 edges"],
        batch: Int[Tensor, " nodes"],
        size: int,
        graph: Int[Tensor, " {size}"],
    ) -> Any:
        """A PyG `Batch` of `size` pieces: some nodes and edges with their attributes but `x`, and new `edge_index`."""
        out = copy.copy(_EMPTY)
        out.update({key: value[nodes] for key, value in self.node_attrs.items() if key != "x"})
        out.update({key: value[edges] for key, value in self.edge_attrs.items()})
        out.update({key: value[graph] for key, value in self.graph_attrs.items()})
        out.update(self.other)
        out.edge_index, out.batch = edge_index, batch
        out.ptr = pointers(torch.bincount(batch, minlength=size))
        out.num_nodes = len(nodes)
        out._num_graphs = size  # what Batch.num_graphs reads, also for a last piece without nodes
        return out


_EMPTY: Any = Batch(_base_cls=Data)  # making one takes longer than copying it


def _rank(key: Int[Tensor, " length"]) -> Int[Tensor, " length"]:
    """How many equal ones stand before each of some sorted numbers."""
    return torch.arange(len(key), device=key.device) - torch.searchsorted(key, key)


def _ids(carried: Shaped[Tensor, ...] | None, positions: Int[Tensor, " length"]) -> Int[Tensor, " length"]:
    """Ids that the data carries, where they are ids (integers, one each); positions otherwise."""
    if carried is None or carried.shape != positions.shape or carried.is_floating_point():
        return positions
    return carried.long()


def _row_hash(values: Shaped[Tensor, "rows ..."]) -> Int[Tensor, " rows"]:
    """An int64 for every row of `values`, the same for the same row."""
    rows = values.flatten(1) if values.dim() > 1 else values.unsqueeze(1)  # -1 cannot be told from no rows
    weight = mix(torch.arange(rows.size(1), device=rows.device))
    return (rows.float().contiguous().view(torch.int32).long() * weight).sum(1)


def as_graphs(data: Any, device: torch.device) -> Graphs:
    """Read a `Data`, a `Batch`, or a list or `Dataset` of `Data` into `Graphs` on `device`.

    Raises:
        InputError: other types, an empty list, no edges' tensor, broken indices, NaN features, weighted `adj_t`.
    """
    many = isinstance(data, Batch) or not isinstance(data, (Data, HeteroData))
    # Data.detach and Data.to work in place: on a copy, never on the user's object.
    moved: Any = copy.copy(_as_one(data)).detach().to(str(device))
    if isinstance(moved, HeteroData):
        return _of_types(moved, many, data)
    edge_index, edge_weight = _edges(moved)
    num_nodes = _num_nodes(moved, edge_index)
    batch = moved.batch if many and moved.batch is not None else edge_index.new_zeros(num_nodes)
    num_graphs = int(moved.num_graphs) if many else 1
    node_ptr, edge_ptr = _pointers(batch, edge_index, num_graphs)
    attrs: dict[str, dict[str, Any]] = {"node": {}, "edge": {}, "graph": {}, "other": {}}
    for key in list(moved.keys()):
        if key not in _BOOKKEEPING:
            value = plain(moved[key])
            attrs[_level(key, value, num_nodes, edge_index.size(1), num_graphs)][key] = value
    if edge_weight is not None:
        attrs["edge"]["edge_weight"] = edge_weight
    _require_finite({**attrs["node"], **attrs["edge"]})
    levels = attrs["node"], attrs["edge"], attrs["graph"], attrs["other"]
    return Graphs(edge_index, batch, node_ptr, edge_ptr, *levels, many, data)


def _of_types(data: Any, many: bool, source: Any) -> Graphs:
    """A heterogeneous graph, or a batch of them, in flat ids."""
    num_graphs = int(data.num_graphs) if many else 1
    edge_index, batch, edge_batch, x, types, shared = read(data, num_graphs)
    node_ptr = pointers(torch.bincount(batch, minlength=num_graphs))
    edge_ptr = pointers(torch.bincount(edge_batch, minlength=num_graphs))
    graph_attrs, other = {}, {}
    for key, value in shared.items():
        of_graphs = many and isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == num_graphs
        (graph_attrs if of_graphs else other)[key] = value
    node_attrs = {} if x is None else {"x": x}
    _require_finite(node_attrs)
    return Graphs(edge_index, batch, node_ptr, edge_ptr, node_attrs, {}, graph_attrs, other, many, source, types=types)


def _as_one(data: Any) -> Any:
    """The user's data as one object: itself, or the union of a list or data set."""
    if isinstance(data, (Sequence, Dataset)) and not isinstance(data, (str, bytes)):
        items = list(data)
        if not items:
            raise InputError("expected at least one graph, got an empty list")
        for position, item in enumerate(items):
            if not isinstance(item, type(items[0]) if isinstance(items[0], (Data, HeteroData)) else Data):
                raise InputError(
                    "expected a list of torch_geometric Data, or of HeteroData, got "
                    f"{type(item).__name__} at position {position}"
                )
        try:
            return Batch.from_data_list(items)
        except (KeyError, RuntimeError, TypeError) as error:
            raise InputError(
                f"the graphs cannot be batched: {error}; every graph needs the same attributes with the same widths"
            ) from error
    if isinstance(data, HeteroData):
        return data
    if not isinstance(data, Data):
        raise InputError(
            "expected a torch_geometric Data, HeteroData, Batch, or a list or Dataset of them, "
            f"got {type(data).__name__}; wrap tensors as Data(x=x, edge_index=edge_index), and pass a DataLoader's dataset"
        )
    batch = None if isinstance(data, Batch) else data.get("batch")
    if batch is not None and bool((batch != batch[:1]).any()):
        raise InputError(
            "expected several graphs as a Batch or a list, got one Data whose batch names several; build it with "
            "Batch.from_data_list, or leave batch out where the model does not use it"
        )
    return data


def _num_nodes(data: Any, edge_index: Int[Tensor, "2 edges"]) -> int:
    """How many nodes the data has, which its edges must name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PyG warns where it can but guess from edge_index
        try:
            num_nodes = data.num_nodes
        except UserWarning:
            num_nodes = None
    if num_nodes is None:
        raise InputError("expected data with node features x, or with num_nodes set; got neither")
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= num_nodes):
        raise InputError(
            f"edge_index names nodes {int(edge_index.min())} to {int(edge_index.max())}, "
            f"but the data has {num_nodes} nodes (0 to {num_nodes - 1})"
        )
    return num_nodes


def _pointers(
    batch: Int[Tensor, " nodes"], edge_index: Int[Tensor, "2 edges"], num_graphs: int
) -> tuple[Int[Tensor, " {num_graphs}+1"], Int[Tensor, " {num_graphs}+1"]]:
    """Where the nodes and the edges of each graph start; both have to be sorted by graph."""
    node_ptr = pointers(torch.bincount(batch, minlength=num_graphs))
    if bool((node_ptr.diff() == 0).any()):
        empty = int((node_ptr.diff() == 0).nonzero()[0])
        raise InputError(f"expected graphs with nodes, but graph {empty} of the data has none; leave it out")
    if bool((batch.diff() < 0).any()):
        raise InputError("expected the nodes of a Batch sorted by graph; got an unsorted batch vector")
    edge_batch = batch[edge_index[0]]
    if bool((edge_batch.diff() < 0).any()):
        raise InputError("expected the edges of a Batch sorted by graph; build it with Batch.from_data_list")
    return node_ptr, pointers(torch.bincount(edge_batch, minlength=num_graphs))


def _require_finite(attributes: dict[str, Tensor]) -> None:
    """Raise an `InputError` for features or weights that are NaN or infinite."""
    for key in ("x", "edge_attr", "edge_weight"):
        value = attributes.get(key)
        if value is not None and value.is_floating_point() and not _finite(value):
            rows = (~torch.isfinite(value)).reshape(len(value), -1).any(1).nonzero().flatten()
            raise InputError(
                f"data.{key} holds NaN or infinite values in {len(rows)} of {len(value)} rows "
                f"(first: row {int(rows[0])}); clean or impute them before explaining"
            )


def _finite(value: Tensor) -> bool:
    """Whether no value is NaN or infinite; their sum tells it faster, unless it is too large itself."""
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())


def plain(value: Any) -> Any:
    """PyG's tensor subclasses (`EdgeIndex`, `Index`; sorted or not) as the tensor they hold; other values as they are.

    What is computed from an `Index` is one again, and its checks refuse ordinary arithmetic.
    """
    return value.as_tensor() if isinstance(value, (EdgeIndex, Index)) else value


def _edges(data: Data) -> tuple[Tensor, Tensor | None]:
    """`edge_index` as a plain tensor, from whichever adjacency the data carries; and edge weights found inside it."""
    edge_index = data.get("edge_index")
    if edge_index is not None:
        if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.is_floating_point():
            raise InputError(
                f"expected data.edge_index as integers of shape [2, num_edges], got {edge_index.dtype} "
                f"{list(edge_index.shape)}"
            )
        return plain(edge_index).long(), None
    adj_t = data.get("adj_t")
    if adj_t is None:
        raise InputError(f"expected data with edge_index or adj_t, got attributes {sorted(data.keys())}")
    if isinstance(adj_t, SparseTensor):
        row, col, value = adj_t.coo()
    else:
        coo = adj_t.to_sparse_coo().coalesce()
        (row, col), value = coo.indices(), coo.values()
    edge_index = torch.stack([col, row])  # adj_t is transposed: its rows receive
    if value is None or value.dim() > 1 or bool((value == 1).all()):
        return edge_index, None
    return edge_index, value


def _level(key: str, value: Any, num_nodes: int, num_edges: int, num_graphs: int) -> str:
    """What an attribute belongs to, by PyG's conventions: its name first, then its length."""
    if not isinstance(value, Tensor) or value.dim() == 0 or "index" in key or key == "face":
        return "other"
    length = value.size(0)
    if "edge" in key or key == "e_id":
        return "edge" if length == num_edges else "other"
    if length == num_nodes and (num_nodes != num_graphs or key in ("x", "pos", "z", "n_id")):
        return "node"
    if length == num_graphs:
        return "graph"
    if length == num_nodes:
        return "node"
    return "edge" if length == num_edges else "other"
