"""Reading of what users hand in as data: every graph, batch, list or data set as plain tensors, checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch_geometric.data import Batch, Data, HeteroData, TemporalData
from torch_geometric.data.dataset import Dataset
from torch_geometric.typing import SparseTensor  # pyright: ignore[reportAttributeAccessIssue]

from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.graphs.checks import checked
from gnn_xai.core.graphs.collate import collate, detached
from gnn_xai.core.graphs.columns import Column
from gnn_xai.core.graphs.edge_sets import as_hetero, edge_sets_of
from gnn_xai.core.graphs.expansion import everything
from gnn_xai.core.graphs.rules import Rules, plain
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import Spelling
from gnn_xai.core.graphs.stores import Stores, grown_types
from gnn_xai.core.graphs.types import read
from gnn_xai.errors import InputError

_BOOKKEEPING = {"edge_index", "adj_t", "adj", "batch", "ptr", "num_nodes", "num_graphs"}


def as_graphs(data: Any, device: torch.device) -> Graphs:
    """Read a `Data`, a `Batch`, or a list or `Dataset` of `Data` into `Graphs` on `device`.

    Raises:
        InputError: other types, an empty list, no edges' tensor, broken indices, NaN features, weighted `adj_t`.
    """
    many = isinstance(data, Batch) or not isinstance(data, (Data, HeteroData))
    moved = detached(_as_one(data), device)
    if isinstance(moved, HeteroData):
        followed = {key for store in moved.stores for key in _followed(store)} if many else ()
        return _of_types(moved, many, data, int(moved.num_graphs) if many else 1, followed=followed)
    edge_sets = edge_sets_of(moved)
    if edge_sets:
        num_graphs = int(moved.num_graphs) if many else None
        typed, spelling, rules = as_hetero(moved, num_graphs, edge_sets, data)
        return _of_types(typed, many, data, num_graphs or 1, spelling, _followed(moved) if many else (), rules)
    edge_index, edge_weight = _edges(moved)
    num_nodes = _num_nodes(moved, edge_index)
    batch = moved.batch if many and moved.batch is not None else edge_index.new_zeros(num_nodes)
    num_graphs = int(moved.num_graphs) if many else 1
    node_ptr, edge_ptr = _pointers(batch, edge_index, num_graphs)
    followed = _followed(moved) if many else ()
    skipped = {f"{key}_{what}" for key in followed for what in ("batch", "ptr")}
    rules = Rules(moved, many, node_ptr, edge_ptr)
    levels = _Levels()
    for key in list(moved.keys()):
        if key not in _BOOKKEEPING | skipped:
            levels.add(key, plain(moved[key]), rules)
    if edge_weight is not None:
        levels.edge["edge_weight"] = edge_weight
    _require_finite({**levels.node, **levels.edge})
    return Graphs(
        edge_index,
        batch,
        node_ptr,
        edge_ptr,
        levels.node,
        levels.edge,
        levels.graph,
        levels.other,
        many,
        data,
        columns=levels.columns,
        lists=levels.lists,
        followed=followed,
    )


def _of_types(
    data: HeteroData,
    many: bool,
    source: Any,
    num_graphs: int,
    spelling: Spelling | None = None,
    followed: Collection[str] = (),
    rules: Callable[..., Stores] | None = None,
) -> Graphs:
    """A heterogeneous graph, or a batch of them, in flat ids; arguments as for `types.read`, and the rules of attributes."""
    edge_index, batch, edge_batch, x, types, shared, rest = read(data, num_graphs, spelling, followed)
    node_ptr = pointers(torch.bincount(batch, minlength=num_graphs))
    edge_ptr = pointers(torch.bincount(edge_batch, minlength=num_graphs))
    if many:  # lists hold something for each graph, and nothing tells which model takes them
        types = replace(types, node_other=_without_lists(types.node_other), edge_other=_without_lists(types.edge_other))
    counts = {
        "node": _counts(batch, types.node_type, num_graphs, len(types.names)),
        "edge": _counts(edge_batch, types.edge_type, num_graphs, len(types.relations)),
    }
    node_attrs = {} if x is None else {"x": x}
    _require_finite(node_attrs)
    levels, columns = _Levels(), {}
    held = [*rest, *((None, key, "") for key in shared)]
    dense = any(_dense(shared[key] if holder is None else data[holder][key]) for holder, key, _ in held)
    stores = (rules or _rules_of)(data, num_graphs if many else None, counts) if dense else None
    for holder, key, aligned in held:
        value = plain(shared[key] if holder is None else data[holder][key])
        column = stores.column(holder, key, aligned) if stores is not None and _dense(value) else None
        if holder is None and (column is None or not (column.counted or column.dim)):
            levels.add_of_graphs(key, value, column, num_graphs, many)
        elif column is not None:
            columns[key if holder is None else column.title] = column
    return Graphs(
        edge_index,
        batch,
        node_ptr,
        edge_ptr,
        node_attrs,
        {},
        levels.graph,
        levels.other,
        many,
        source,
        types=types,
        columns={**levels.columns, **columns},
        lists=levels.lists,
    )


def _dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _counts(graph: Tensor, kind: Tensor, graphs: int, kinds: int) -> Tensor:
    """How many elements of each kind each graph has, `[G, K]`."""
    return torch.bincount(graph * kinds + kind, minlength=graphs * kinds).reshape(graphs, kinds)


def _without_lists(others: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return tuple({key: value for key, value in own.items() if not isinstance(value, list)} for own in others)


def _rules_of(data: HeteroData, num_graphs: int | None, counts: dict[str, Tensor]) -> Stores:
    example = data
    if num_graphs is not None and vars(data._global_store).get("_slice_dict"):
        batch: Any = data
        try:
            example = batch.get_example(int(counts["edge"].sum(1).argmax()))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"the graphs of the batch cannot be taken apart again: {str(error).split('. ')[0]}; leave out attributes "
                "that PyG cannot slice"
            ) from error
    return Stores(data, num_graphs, grown_types(example), counts, example)


def by_edge_sets(graphs: Graphs, names: Sequence[str]) -> Graphs:
    """Graphs with some of their columns, each a set of pairs of nodes, as edge sets beside their own edges; all by relation.

    Raises:
        InputError: if an attribute has a row for each element of several edge sets, and its name does not tell of which.
    """
    union = everything(graphs, None).data
    sets = ("edge_index", *names)
    typed, spelling, rules = as_hetero(union, graphs.num_graphs, sets, graphs.source)
    read = _of_types(typed, graphs.many, graphs.source, graphs.num_graphs, spelling, graphs.followed, rules)
    assert read.types is not None
    assigned = {*names, *(key for attributes in (*read.types.node_attrs, *read.types.edge_attrs) for key in attributes)}
    return replace(
        read,
        graph_attrs={key: value for key, value in graphs.graph_attrs.items() if key not in assigned},
        columns={key: column for key, column in graphs.columns.items() if key not in assigned},
        lists=graphs.lists,
        other=graphs.other,
    )


class _Levels:
    """Attributes by what their rows belong to."""

    def __init__(self) -> None:
        self.node: dict[str, Tensor] = {}
        self.edge: dict[str, Tensor] = {}
        self.graph: dict[str, Tensor] = {}
        self.columns: dict[str, Column] = {}
        self.lists: dict[str, list[Any]] = {}
        self.other: dict[str, Any] = {}

    def add_of_graphs(self, key: str, value: Any, column: Column | None, graphs: int, many: bool) -> None:
        """Put an attribute of graphs where it belongs, which is read as a column where that is known."""
        if column is None:
            of_each = many and isinstance(value, list) and len(value) == graphs and not _holds_tensors(value)
            (self.lists if of_each else self.other)[key] = value
        elif many and bool((column.ptr.diff() == 1).all()):
            self.graph[key] = column.value
        elif many:
            self.columns[key] = column
        else:
            self.other[key] = value

    def add(self, key: str, value: Any, rules: Rules) -> None:
        """Put an attribute where it belongs."""
        graphs = len(rules.node_ptr) - 1
        if isinstance(value, Tensor) and value.layout == torch.strided:
            column = rules.column(key, value)
            if column is None:
                self.other[key] = value.clone()  # handed to the model as it is, which may write to it
            elif column.counted or column.dim:
                self.columns[key] = column
            elif column.level != "graph":
                (self.node if column.level == "node" else self.edge)[key] = column.value
            elif len(value) == graphs and bool((column.ptr.diff() == 1).all()):
                self.graph[key] = column.value
            else:
                self.columns[key] = column
        elif rules.many and isinstance(value, list) and len(value) == graphs and not _holds_tensors(value):
            self.lists[key] = value
        else:
            self.other[key] = value


def _holds_tensors(value: list[Any]) -> bool:
    """Whether a list may be PyG's way to batch lists of tensors, one tensor for each place and not for each graph."""
    return any(isinstance(item, Tensor) for item in value)


def _followed(data: Any) -> tuple[str, ...]:
    """The attributes of a batch whose rows are assigned to graphs by `{name}_batch`, as `follow_batch` asks for."""
    keys = set(data.keys())
    return tuple(key for key in keys if f"{key}_batch" in keys and f"{key}_ptr" in keys)


def _as_one(data: Any) -> Any:
    """The user's data as one object: itself, or the union of a list or data set."""
    if isinstance(data, (Sequence, Dataset)) and not isinstance(data, (str, bytes)):
        items = list(data)
        if not items:
            raise InputError("expected at least one graph, got an empty list")
        for position, item in enumerate(items):
            if not isinstance(item, HeteroData if isinstance(items[0], HeteroData) else Data):
                raise InputError(
                    "expected a list of torch_geometric Data, or of HeteroData, got "
                    f"{type(item).__name__} at position {position}"
                )
        items = [checked(item) for item in items]
        try:
            return collate(items)
        except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"the graphs cannot be batched: {error}; every graph needs the same attributes with the same widths"
            ) from error
    if isinstance(data, HeteroData):
        data = checked(data)
        if not isinstance(data, Batch) and any(_of_several(store.get("batch")) for store in data.node_stores):
            raise _not_a_batch("HeteroData")
        return data
    if isinstance(data, TemporalData):
        raise InputError(
            "expected graphs, got TemporalData, whose events a model takes one after the other into a memory; explain "
            "snapshots, one Data(x=..., edge_index=...) for the events of each span of time"
        )
    if not isinstance(data, Data):
        raise InputError(
            "expected a torch_geometric Data, HeteroData, Batch, or a list or Dataset of them, "
            f"got {type(data).__name__}; wrap tensors as Data(x=x, edge_index=edge_index), and pass a DataLoader's dataset"
        )
    data = checked(data)
    if not isinstance(data, Batch) and _of_several(data.get("batch")):
        raise _not_a_batch("Data")
    return data


def _of_several(batch: Tensor | None) -> bool:
    """Whether a batch vector assigns nodes to several graphs."""
    return batch is not None and bool((batch != batch[:1]).any())


def _not_a_batch(what: str) -> InputError:
    return InputError(
        f"expected several graphs as a Batch or a list, got one {what} whose batch names several; build it with "
        "Batch.from_data_list, or leave batch out where the model does not use it"
    )


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
            f"but the data has {num_nodes} nodes (0 to {num_nodes - 1}){_cure_of_nodes(data)}"
        )
    return int(num_nodes)


def _cure_of_nodes(data: Any) -> str:
    """A way that works for features that have another dimension before that of the nodes."""
    x = data.get("x")
    if x is None or x.dim() < 3:
        return ""
    return (
        f"; x of shape {list(x.shape)} has its nodes along the first dimension, so pass one Data for each sample, with "
        "x[sample], and forward=lambda model, data: model(data.x.unsqueeze(0), data.edge_index)"
    )


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


def _edges(data: Data) -> tuple[Tensor, Tensor | None]:
    """`edge_index` as a plain tensor, from whichever adjacency the data carries; and edge weights found inside it."""
    edge_index = data.get("edge_index")
    if edge_index is not None:
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise InputError(
                f"expected data.edge_index as integers of shape [2, num_edges], got {edge_index.dtype} "
                f"{list(edge_index.shape)}"
            )
        return plain(edge_index).long(), None
    adj_t = data.adj_t
    if isinstance(adj_t, SparseTensor):
        row, col, value = adj_t.coo()
    else:
        coo = adj_t.to_sparse_coo().coalesce()
        (row, col), value = coo.indices(), coo.values()
    edge_index = torch.stack([col, row])  # adj_t is transposed: its rows receive
    if value is None or value.dim() > 1 or bool((value == 1).all()):
        return edge_index, None
    return edge_index, value
