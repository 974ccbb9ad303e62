"""Cases with several types of nodes: all nodes and edges are numbered through, and handed to models by type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv, global_add_pool
from torch_geometric.typing import EdgeType


@dataclass(frozen=True)
class Types:
    """Types of nodes and relations. Graphs are `Data` with `node_type [N]` and `edge_type [E]`, in order of types; features
    of all types stand side by side in `x`, 0 outside the columns of a node's own.

    Attributes:
        widths: how many features nodes have, by the name of their type.
        relations: no two of which have both ends in common.
        explained: the type of the explained nodes, or the relation of the explained pairs.
    """

    widths: Mapping[str, int]
    relations: Sequence[EdgeType]
    explained: str | EdgeType | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What `gnn_xai.explain` is told of it."""
        key = "node_type" if isinstance(self.explained, str) else "edge_type"
        return {} if self.explained is None else {key: self.explained}

    def random_graph(self, seed: int, sizes: Sequence[int], edges: int) -> Data:
        """A graph with some nodes of each type, and at most so many different edges of each relation."""
        rng = torch.Generator().manual_seed(seed)
        node_type = torch.repeat_interleave(torch.tensor(sizes))
        owner = torch.repeat_interleave(torch.tensor([*self.widths.values()]))
        x = torch.randn(len(node_type), len(owner), generator=rng) * (owner == node_type.unsqueeze(1))
        data, parts = Data(x=x, node_type=node_type), []
        for relation, first in enumerate(self._firsts(data)):
            ends = [
                torch.randint(int((node_type == end).sum()), (edges,), generator=rng) for end in self._ends(relation)
            ]
            parts.append(torch.unique(torch.stack(ends), dim=1) + first)
        data.edge_index = torch.cat(parts, dim=1)
        data.edge_type = torch.repeat_interleave(torch.tensor([part.size(1) for part in parts]))
        return data

    def parts(self, graph: Data) -> tuple[Iterator[dict[str, Tensor]], Iterator[dict[str, Tensor]]]:
        """Attributes of the nodes of each type, and of the edges of each relation, in ids by type."""
        stop = torch.tensor([*self.widths.values()]).cumsum(0).tolist()
        columns = [slice(last - width, last) for last, width in zip(stop, self.widths.values(), strict=True)]
        x, node_type, edge_type, edge_index = (graph[key] for key in ("x", "node_type", "edge_type", "edge_index"))
        node = [node_type == number for number in range(len(columns))]
        edge = [edge_type == number for number in range(len(self.relations))]
        nodes = ({"x": x[of][:, own], **_ids(graph, "n_id", of)} for of, own in zip(node, columns, strict=True))
        edges = (
            {"edge_index": edge_index[:, of] - first, **_ids(graph, "e_id", of)}
            for of, first in zip(edge, self._firsts(graph), strict=True)
        )
        return nodes, edges

    def first(self, graph: Data, module: nn.Module | None = None) -> Tensor:
        """The number of the first node of the explained type, or of both of a pair, `[2]`; of a layer that has its
        `relation`, the first sender and receiver, `[2, 1]`.
        """
        if module is not None:
            return self._firsts(graph)[int(module.relation)]  # pyright: ignore[reportArgumentType]
        if isinstance(self.explained, tuple):
            return self._firsts(graph)[list(self.relations).index(self.explained)].flatten()
        return (graph.node_type < list(self.widths).index(str(self.explained))).sum()

    def loops(self, graph: Data) -> Tensor:
        """The relation of a self loop at every node, -1 where its type has none, `[N]`."""
        own = {
            self._ends(number)[0]: number for number in range(len(self.relations)) if len({*self._ends(number)}) == 1
        }
        return torch.tensor([own.get(int(kind), -1) for kind in graph.node_type])

    def _ends(self, relation: int) -> tuple[int, int]:
        source, _, target = self.relations[relation]
        names = list(self.widths)
        return names.index(source), names.index(target)

    def _firsts(self, graph: Data) -> list[Tensor]:
        ends = [self._ends(relation) for relation in range(len(self.relations))]
        return [torch.tensor([[int((graph.node_type < end).sum())] for end in both]) for both in ends]


def _ids(graph: Data, key: str, of: Tensor) -> dict[str, Tensor]:
    """The ids that a graph carries for one of its types, as ids within the type."""
    return {key: graph[key][of] - graph[key][of].min()} if key in graph and bool(of.any()) else {}


def heterogeneous(graph: Data, types: Types) -> HeteroData:
    """A graph as `HeteroData`, with the pairs that are asked about where it has any."""
    out = HeteroData()
    for names, parts in zip((types.widths, types.relations), types.parts(graph), strict=True):
        for name, part in zip(names, parts, strict=True):
            out[name].update(part)
    if "edge_label_index" in graph:
        assert isinstance(types.explained, tuple)
        out[types.explained].edge_label_index = graph.edge_label_index
    return out


class Pair(Data):
    """Two graphs, `s` and `t`, as one example."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Ids of each graph count its own nodes."""
        of = {"edge_index_s": "x_s", "edge_index_t": "x_t"}
        return len(self[of[key]]) if key in of else super().__inc__(key, value, *args, **kwargs)


def pair(graph: Data, types: Types) -> Pair:
    """A graph of two types without relations between them as two graphs."""
    out = Pair()
    for parts in types.parts(graph):
        for end, part in zip("st", parts, strict=True):
            out.update({f"{key}_{end}": value for key, value in part.items() if key not in ("n_id", "e_id")})
    return out


def _layer(sizes: Mapping[str, int], width: int, types: Types) -> HeteroConv:
    convs = {}
    for number, relation in enumerate(types.relations):
        convs[relation] = SAGEConv((sizes[relation[0]], sizes[relation[2]]), width)
        convs[relation].relation = number
    return HeteroConv(convs)


class Relations(nn.Module):
    """Two layers over all relations with a ReLU between them, then a linear layer over nodes of a type, or over the product
    of the two nodes of each pair.
    """

    def __init__(self, types: Types, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.explained = types.explained
        self.first, self.second = (
            _layer(types.widths, width, types),
            _layer(dict.fromkeys(types.widths, width), width, types),
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x_dict: Any, edge_index_dict: Any, edge_label_index: Tensor | None = None) -> Tensor:
        """`[n, C]`, or `[P, C]` for pairs."""
        x = {name: value.relu() for name, value in self.first(x_dict, edge_index_dict).items()}
        x = self.second(x, edge_index_dict)
        if edge_label_index is None:
            return self.head(x[self.explained])
        assert isinstance(self.explained, tuple)
        source, _, target = self.explained
        return self.head(x[source][edge_label_index[0]] * x[target][edge_label_index[1]])


class Siamese(nn.Module):
    """Two layers with a ReLU between them for each of two graphs, whose nodes are summed, and a linear layer over both."""

    def __init__(self, types: Types, width: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for number, size in enumerate(types.widths.values()):
            for conv in (SAGEConv(size, width), SAGEConv(width, width)):
                conv.relation = number  # pyright: ignore[reportArgumentType]
                self.convs.append(conv)
        self.head = nn.Linear(2 * width, 3)

    def forward(
        self, x_s: Tensor, edge_index_s: Tensor, x_t: Tensor, edge_index_t: Tensor, x_s_batch: Tensor, x_t_batch: Tensor
    ) -> Tensor:
        """`[G, 3]`."""
        size = int(torch.cat([x_s_batch, x_t_batch]).max()) + 1
        pooled = []
        for number, (x, edge_index, batch) in enumerate(
            ((x_s, edge_index_s, x_s_batch), (x_t, edge_index_t, x_t_batch))
        ):
            x = self.convs[2 * number](x, edge_index).relu()
            pooled.append(global_add_pool(self.convs[2 * number + 1](x, edge_index), batch, size))
        return self.head(torch.cat(pooled, dim=1))
