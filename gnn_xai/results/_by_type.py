"""Explanations of heterogeneous graphs in the user's ids: by node type and relation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.explain import HeteroExplanation

from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import EdgeType, Held, Named, rows_of
from gnn_xai.core.graphs.types import only_labelled
from gnn_xai.core.model.index import PAIRS
from gnn_xai.errors import InputError
from gnn_xai.results._to_pyg import OF_OTHERS, graph_of


@dataclass(frozen=True)
class TypeNames:
    """The names that the types of explanations stand for.

    Attributes:
        explained: the type of the explained nodes, or the relation of the explained pairs; `None` for graphs.
        node_types, edge_types: names, in the order of `node_type` and `edge_type`.
        columns: where the features of each node type lie among those of all types, `(first, past the last)`; `None` for
            types without.
        num_nodes, num_edges: of each type in the data; `None` where instances are several graphs.
        named: the data is one `Data` with several edge sets, which name the relations.
        held: the type or relation, and the name there, of each scored attribute that one of them holds.
    """

    explained: str | EdgeType | None
    node_types: tuple[str, ...]
    edge_types: tuple[EdgeType, ...]
    columns: tuple[tuple[int, int] | None, ...]
    num_nodes: tuple[int, ...] | None = None
    num_edges: tuple[int, ...] | None = None
    named: bool = False
    held: Mapping[str, Held] = field(default_factory=dict)

    @classmethod
    def of(cls, graphs: Graphs, explained: str | EdgeType | None, rooted: bool) -> TypeNames | None:
        """Those of some data, of which nodes or pairs are explained (`rooted`), or graphs; `None` if it is homogeneous."""
        types = graphs.types
        if types is None:
            return None
        apart = graphs.many and not rooted
        counts = (None, None) if apart else (tuple(map(len, types.nodes)), tuple(map(len, types.edges)))
        named = isinstance(types.spelling, Named)
        return cls(explained, types.names, types.relations, types.columns, *counts, named, dict(types.flat))

    @classmethod
    def read(cls, values: dict[str, Any] | None) -> TypeNames | None:
        """What `written` gave, after JSON has made lists of tuples."""
        if values is None:
            return None
        counts = [None if values[name] is None else tuple(values[name]) for name in ("num_nodes", "num_edges")]
        relations = tuple((source, name, target) for source, name, target in values["edge_types"])
        columns = tuple(None if ends is None else (ends[0], ends[1]) for ends in values["columns"])
        explained = values["explained"]
        return cls(
            tuple(explained) if isinstance(explained, list) else explained,
            tuple(values["node_types"]),
            relations,
            columns,
            counts[0],
            counts[1],
            values["named"],
            {title: Held(*held) for title, held in values.get("held", {}).items()},
        )

    def holder(self, held: Held) -> str | EdgeType:
        """The type or relation that holds an attribute; an edge set by its name."""
        if held.level == "node":
            return self.node_types[held.number]
        relation = self.edge_types[held.number]
        return relation[1] if self.named else relation

    def relation(self, holder: str | EdgeType) -> str | EdgeType:
        """A type, or a relation whose edge set may be named alone, as PyG has it."""
        named = {relation[1]: relation for relation in self.edge_types} if self.named else {}
        return named.get(cast(str, holder), holder)

    def features(self) -> list[tuple[str, int]]:
        """The type and the number within it of every feature, in the order of masks."""
        pairs = zip(self.node_types, self.columns, strict=True)
        return [(name, number) for name, columns in pairs if columns for number in range(columns[1] - columns[0])]

    def written(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


def type_columns(graphs: Graphs, node: Tensor, edge: Tensor, rooted: bool) -> dict[str, Tensor]:
    """The columns that say of which type the nodes `[n]` and edges `[e]` of explanations are, and their ids within it; none
    for homogeneous data. Where graphs are explained (not `rooted`), ids are counted within each.
    """
    types = graphs.types
    if types is None:
        return {}
    node_number, edge_number = (
        (types.node_place, types.edge_place) if rooted else (graphs.node_in_type, graphs.edge_in_type)
    )
    return {
        "node_type": types.node_type[node],
        "node_number": node_number[node],
        "edge_type": types.edge_type[edge],
        "edge_number": edge_number[edge],
    }


def node_masks(e: Any, graph: HeteroData | None = None) -> dict[str, Tensor]:
    """The node mask of an `Explanation` by node type: `[n, F]` over all nodes of the type, with its own F features, `[n, 1]`
    for one score a node, `[1, F]` for one mask of all nodes; 0 where nothing can reach. `graph` is the one that it is of;
    by default that of its data.

    Raises:
        InputError: if nodes have no scores, or the data is not at hand.
    """
    if e.node_mask is None:
        raise InputError(f"{e.source.algorithm['name']} scored no nodes; use edge_mask_dict")
    types, masks = _types(e), {}
    counts = _counts(e, graph)[0]
    for number, (name, columns) in enumerate(zip(types.node_types, types.columns, strict=True)):
        mask = e.node_mask
        if e.source.node_mask_type != "object":
            mask = mask[..., slice(*columns)] if columns else mask[..., :0]
        if e.source.common:
            masks[name] = mask.unsqueeze(0)
            continue
        inside = e.node_type == number
        zeros = mask.new_zeros(counts[number], mask.size(1))
        masks[name] = zeros.index_copy(0, e.node_number[inside], mask[inside])
    return masks


def edge_masks(e: Any, graph: HeteroData | None = None) -> dict[Any, Tensor]:
    """The edge mask of an `Explanation` by relation, or by edge set, `[e]` over all its edges; 0 where nothing can reach.
    `graph` as in `node_masks`.

    Raises:
        InputError: if edges have no scores, or the data is not at hand.
    """
    if e.edge_mask is None:
        raise InputError(f"{e.source.algorithm['name']} scored no edges; use node_mask_dict")
    types, masks = _types(e), {}
    counts = _counts(e, graph)[1]
    for number, (name, count) in enumerate(zip(types.edge_types, counts, strict=True)):
        inside = e.edge_type == number
        mask = e.edge_mask.new_zeros(count).index_copy(0, e.edge_number[inside], e.edge_mask[inside])
        masks[name[1] if types.named else name] = mask
    return masks


def column_masks(e: Any, graph: HeteroData | None = None) -> dict[Any, dict[str, Tensor]]:
    """The scores of further attributes of an `Explanation` by type or relation and name, `[n, F]` or `[n, 1]` over all its
    nodes or edges, `[1, F]` for one mask of all; 0 where nothing can reach. `graph` as in `node_masks`.

    Raises:
        InputError: if the data is not at hand.
    """
    types, masks = _types(e), {}
    nodes, edges = _counts(e, graph)
    for title, held in types.held.items():
        scores = e.columns[title]
        if e.source.column_types[title][1] == "common_attributes":
            rows = scores.unsqueeze(0)
        else:
            inside = getattr(e, f"{held.level}_type") == held.number
            zeros = scores.new_zeros((nodes if held.level == "node" else edges)[held.number], scores.size(1))
            rows = zeros.index_copy(0, getattr(e, f"{held.level}_number")[inside], scores[inside])
        masks.setdefault(types.holder(held), {})[held.name] = rows
    return masks


def to_pyg(e: Any, data: Any) -> HeteroExplanation:
    """An `Explanation` as PyG's own, see `Explanations.to_pyg`.

    Raises:
        InputError: if it is not of this data.
    """
    level, types = e.source.task.task_level.value, _types(e)
    graph = _as_hetero(graph_of(data, level, e.index), types)
    if not _contains(graph, e, types):
        raise InputError(
            f"expected the data that was explained, with node types {', '.join(types.node_types)}, got one with other types "
            "or other numbers of nodes"
        )
    out = HeteroExplanation()
    for name in (*types.node_types, *types.edge_types):
        for key, value in graph[name].items():
            if key not in OF_OTHERS:
                out[name][key] = value
    for name, mask in (node_masks(e, graph) if e.node_mask is not None else {}).items():
        out[name].node_mask = mask
    masks = edge_masks(e, graph) if e.edge_mask is not None else {}
    for name, mask in zip(types.edge_types, masks.values(), strict=False):
        out[name].edge_mask = mask
    for holder, columns in column_masks(e, graph).items():
        for key, mask in columns.items():
            out[types.relation(holder)][f"{key}_mask"] = mask
    for name in e.columns.keys() - types.held.keys():
        out[f"{name}_mask"] = e.columns[name].unsqueeze(0)
    out["prediction"], out["target"] = e.prediction.unsqueeze(0), torch.tensor([e.target], device=e.prediction.device)
    if level == "node":
        out["index"], out["node_type"] = e.index, types.explained
    if isinstance(types.explained, tuple):
        out[types.explained][PAIRS] = torch.tensor(e.index, device=e.prediction.device).unsqueeze(1)
        out["index"] = 0
    return out


def _as_hetero(graph: Any, types: TypeNames) -> HeteroData:
    """A graph of the data as `HeteroData`: as it is, or the node sets and edge sets of one that names them."""
    if not types.named:
        return graph
    out, names = HeteroData(), {*types.node_types, *(name for _, name, _ in types.edge_types)}
    if any(getattr(graph, name, None) is None for name in names):
        return out
    for name in types.node_types:
        out[name].num_nodes = rows_of(graph, name)
        if isinstance(graph[name], Tensor):
            out[name].x = graph[name]
    for relation in types.edge_types:
        out[relation].edge_index = graph[relation[1]]
    return out


def _types(e: Any) -> TypeNames:
    if e.source.types is None:
        raise InputError(
            "expected explanations of a heterogeneous graph, got those of a homogeneous one; use its masks"
        )
    return e.source.types


def _counts(e: Any, graph: HeteroData | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many nodes of each type, and edges of each relation, the graph of an explanation has."""
    types = _types(e)
    if graph is not None:
        return _sizes(graph, types)
    if types.num_nodes is not None and types.num_edges is not None:
        return types.num_nodes, types.num_edges
    if e.source.data is None:
        raise InputError("expected data= for explanations loaded from disk; use to_pyg(i, data)")
    return _sizes(_as_hetero(graph_of(e.source.data, e.source.task.task_level.value, e.index), types), types)


def _sizes(graph: HeteroData, types: TypeNames) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many nodes of each type, and edges of each relation, a graph has."""
    return (
        tuple(int(graph[name].num_nodes or 0) for name in types.node_types),
        tuple(graph[name].num_edges for name in types.edge_types),
    )


def _contains(graph: Any, e: Any, types: TypeNames) -> bool:
    """A graph has the types of an explanation, as many nodes and edges as were explained, and its edges under their ids."""
    if not isinstance(graph, HeteroData):
        return False
    relations = tuple(name for name in graph.edge_types if not only_labelled(graph, name))
    if (tuple(graph.node_types), relations) != (types.node_types, types.edge_types):
        return False
    nodes, edges = _sizes(graph, types)
    if types.num_nodes is not None and (nodes, edges) != (types.num_nodes, types.num_edges):
        return False
    ends = e.node_number[torch.searchsorted(e.node_id, e.edge_index.contiguous())]
    for kinds, ids, counts in ((e.node_type, e.node_number, nodes), (e.edge_type, e.edge_number, edges)):
        if bool((ids >= torch.tensor(counts, device=ids.device)[kinds]).any()):
            return False
    for kind, name in enumerate(types.edge_types):
        inside, own = e.edge_type == kind, graph[name].get("edge_index")
        if own is not None and not torch.equal(own.to(ends.device)[:, e.edge_number[inside]], ends[:, inside]):
            return False
    return True
