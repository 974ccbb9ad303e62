"""Which attributes that hold pairs of nodes are edge sets: those on which a model passes messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from gnn_xai.core.graphs.by_type import Relation
from gnn_xai.core.graphs.expansion import everything
from gnn_xai.core.graphs.reading import by_edge_sets
from gnn_xai.core.graphs.rules import plain
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.inputs.hooks import Hook, hooked
from gnn_xai.core.model.relations import place_of
from gnn_xai.core.model.restoring import untouched


def with_edge_sets(model: nn.Module, graphs: Graphs, forward: Any, handed: AbstractSet[str]) -> Graphs:
    """The data with every edge set of its own that the model passes messages on: its edges are masked and scored, too.

    An attribute `[2, M]` whose ids count nodes may be an edge set, or pairs that are asked about, or anything else; that is
    told by one run of the model, on those graphs that have most of these pairs.

    Args:
        model: the user's module.
        graphs: the data.
        forward: `(model, data) -> output`.
        handed: the attributes that it hands to the model; an empty one is the data object itself.
    """
    pairs = [key for key in _pairs(graphs) if key in handed or "" in handed]
    if not pairs or not _by_relation(graphs):
        return graphs
    most = torch.tensor([int(graphs.columns[key].ptr.diff().argmax()) for key in pairs], device=graphs.device)
    some = graphs.take(most.unique()) if graphs.many else graphs
    data, calls = everything(some, None).data, []
    with untouched(model) as evaluating, evaluating, torch.no_grad(), hooked(_recording(model, calls)):
        try:
            forward(model, data)
        except Exception:  # where it fails for good, the next run says so
            return graphs
    nodes = int(data.num_nodes)
    known = [Relation(("", key, ""), data[key], _range(data[key]), (nodes, nodes)) for key in ("edge_index", *pairs)]
    names = {name for call in calls for name in _names(call, known)}
    return by_edge_sets(graphs, [key for key in pairs if key in names]) if names & {*pairs} else graphs


def _pairs(graphs: Graphs) -> list[str]:
    """The columns that hold pairs of nodes."""
    columns = graphs.columns.items() if graphs.types is None else ()
    return [key for key, column in columns if column.counted == ("node", "node") and column.dim == 1]


def _by_relation(graphs: Graphs) -> bool:
    """Whether the data can be read by relation, which knows no codes as features and no ids of edges."""
    x = graphs.x
    of_edges = any("edge" in (*column.counted, column.level) for column in graphs.columns.values())
    return not of_edges and (x is None or (x.is_floating_point() and x.dim() == 2))


def _recording(model: nn.Module, calls: list[Tensor]) -> Iterator[Hook]:
    """Hooks that keep the edges of every call of `propagate`."""

    def keep(module: Any, inputs: tuple[Any, Any, dict[str, Any]]) -> None:
        edge_index = plain(inputs[0])
        if isinstance(edge_index, Tensor) and edge_index.layout == torch.strided and edge_index.dim() == 2:
            calls.append(edge_index)

    for module in model.modules():
        if isinstance(module, MessagePassing):
            yield Hook(module._propagate_forward_pre_hooks, keep)


def _names(edge_index: Tensor, known: Sequence[Relation]) -> Iterator[str]:
    """The edge sets that a call runs on."""
    place = place_of(edge_index, (), known)
    if not isinstance(place, str):
        yield from (known[number].name[1] for number in place.relations)


def _range(edge_index: Tensor) -> Tensor:
    return torch.arange(edge_index.size(1), device=edge_index.device)
