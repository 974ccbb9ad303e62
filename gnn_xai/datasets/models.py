"""Plain reference models: ordinary PyG modules, nothing in them knows that they will be explained.

Classifiers return raw logits, one column per class; `AtomSum` returns a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn import (
    GCNConv,
    GINConv,
    GINEConv,
    GraphConv,
    HeteroConv,
    MessagePassing,
    SAGEConv,
    global_add_pool,
    global_max_pool,
    global_mean_pool,
)


def _mlp(width_in: int, width_out: int) -> nn.Module:
    """The two-layer MLP of GIN layers."""
    return nn.Sequential(nn.Linear(width_in, width_out), nn.ReLU(), nn.Linear(width_out, width_out))


class GCN(nn.Module):
    """Graph convolutional network for node classification (Kipf and Welling, ICLR 2017).

    With ``concat=True`` a linear layer reads the outputs of all layers side by side, as in the
    code of the GNNExplainer paper; otherwise the last convolution gives the logits itself.

    Args:
        in_channels: width of the node features.
        hidden_channels: width of the hidden layers.
        out_channels: number of classes.
        num_layers: number of convolutions, so the receptive field in hops.
        concat: classify from the outputs of all layers instead of the last one.
        dropout: probability with which a hidden unit is dropped; in training mode only.
    """

    layer: Callable[[int, int], MessagePassing] = GCNConv

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        concat: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        last = hidden_channels if concat else out_channels
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), last]
        self.convs = nn.ModuleList(
            self.layer(width_in, width_out) for width_in, width_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.lin = nn.Linear(hidden_channels * num_layers, out_channels) if concat else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits ``[num_nodes, out_channels]`` from features ``[num_nodes, in_channels]``."""
        outputs = []
        for layer, conv in enumerate(self.convs):
            x = conv(x, edge_index)
            if self.lin is not None or layer < len(self.convs) - 1:
                x = self.dropout(x.relu())
            outputs.append(x)
        return x if self.lin is None else self.lin(torch.cat(outputs, dim=-1))


class GraphConvs(GCN):
    """`GCN` whose layers add up neighbours instead of weighing them by degrees (Morris et al., AAAI 2019)."""

    layer = GraphConv


class NodeGIN(GCN):
    """`GCN` whose layers are ``MLP((1 + eps) x + sum of neighbours)`` with a two-layer MLP (Xu et al., ICLR 2019)."""

    @staticmethod
    def layer(width_in: int, width_out: int) -> MessagePassing:
        """One convolution from ``width_in`` to ``width_out`` columns."""
        return GINConv(_mlp(width_in, width_out))


class HeteroSAGE(nn.Module):
    """GraphSAGE on a heterogeneous graph, with weights for each relation (Hamilton et al., NeurIPS 2017; Schlichtkrull et
    al., ESWC 2018).

    A layer adds up, over the relations into a node, the mean of the neighbours and the node itself, each through a matrix of
    its relation.

    Args:
        in_channels: width of the features of each node type.
        relations: source type, name and target type of each.
        hidden_channels: width of the hidden layers.
        out_channels: number of classes.
        num_layers: number of convolutions, so the receptive field in hops.
        node_type: the type of node that is classified.
    """

    layer: Callable[[tuple[int, int], int], MessagePassing] = SAGEConv

    def __init__(
        self,
        in_channels: Mapping[str, int],
        relations: Sequence[tuple[str, str, str]],
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        node_type: str,
    ) -> None:
        super().__init__()
        self.node_type = node_type
        widths = [in_channels, *[dict.fromkeys(in_channels, hidden_channels)] * (num_layers - 1)]
        outs = [hidden_channels] * (num_layers - 1) + [out_channels]
        self.convs = nn.ModuleList()
        for width, out in zip(widths, outs, strict=True):
            convs = {relation: self.layer((width[relation[0]], width[relation[2]]), out) for relation in relations}
            self.convs.append(HeteroConv(convs))

    def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[tuple[str, str, str], Tensor]) -> Tensor:
        """Logits ``[nodes of the type, out_channels]``."""
        return self.encode(x_dict, edge_index_dict)[self.node_type]

    def encode(
        self, x_dict: dict[str, Tensor], edge_index_dict: dict[tuple[str, str, str], Tensor]
    ) -> dict[str, Tensor]:
        """The outputs of the last layer by node type, ``[nodes of the type, out_channels]``."""
        for layer, conv in enumerate(self.convs):
            # Types that no relation leads into are sources of the first layer alone.
            x_dict = conv(x_dict, {key: edges for key, edges in edge_index_dict.items() if key[0] in x_dict})
            if layer < len(self.convs) - 1:
                x_dict = {name: x.relu() for name, x in x_dict.items()}
        return x_dict


class HeteroGraphConvs(HeteroSAGE):
    """`HeteroSAGE` whose layers add up neighbours instead of averaging them (Morris et al., AAAI 2019)."""

    layer = GraphConv


class HeteroLinks(nn.Module):
    """Link prediction on a heterogeneous graph: `HeteroGraphConvs`, and the dot product of the two nodes of a pair.

    Args:
        in_channels, relations, hidden_channels, out_channels, num_layers: as in `HeteroSAGE`.
        link: source type, name and target type of the links that are predicted.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        relations: Sequence[tuple[str, str, str]],
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        link: tuple[str, str, str],
    ) -> None:
        super().__init__()
        self.source, _, self.target = link
        self.layers = HeteroGraphConvs(in_channels, relations, hidden_channels, out_channels, num_layers, self.source)

    def forward(
        self,
        x_dict: dict[str, Tensor],
        edge_index_dict: dict[tuple[str, str, str], Tensor],
        edge_label_index: Tensor,
    ) -> Tensor:
        """One logit for each pair ``[2, P]``."""
        z_dict = self.layers.encode(x_dict, edge_index_dict)
        return (z_dict[self.source][edge_label_index[0]] * z_dict[self.target][edge_label_index[1]]).sum(dim=-1)


class PooledGraphConvs(nn.Module):
    """Graph convolutions (Morris et al., AAAI 2019) for graph classification.

    As in the code of PGExplainer (Luo et al., NeurIPS 2020), a linear layer reads the maximum and the
    mean over the nodes of a graph, side by side.

    Args:
        in_channels: width of the node features.
        hidden_channels: width of the hidden layers.
        out_channels: number of classes.
        num_layers: number of convolutions.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_channels, *[hidden_channels] * num_layers]
        self.convs = nn.ModuleList(
            GraphConv(width_in, width_out) for width_in, width_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.lin = nn.Linear(2 * hidden_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Logits ``[num_graphs, out_channels]``; without ``batch`` all nodes are one graph."""
        for conv in self.convs:
            x = conv(x, edge_index).relu()
        return self.lin(torch.cat([global_max_pool(x, batch), global_mean_pool(x, batch)], dim=-1))


class _GIN(nn.Module):
    """Convolutions of two-layer MLPs, each under BatchNorm, and a two-layer head on the sum over the nodes of a graph."""

    def __init__(
        self,
        layer: Callable[[nn.Module], MessagePassing],
        in_channels: int,
        hidden: int,
        out_channels: int,
        num_layers: int,
    ) -> None:
        super().__init__()
        widths = [in_channels, *[hidden] * num_layers]
        self.convs = nn.ModuleList(
            layer(_mlp(width_in, width_out)) for width_in, width_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in self.convs)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out_channels))

    def _logits(self, x: Tensor, batch: Tensor | None, *edges: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, *edges)).relu()
        return self.head(global_add_pool(x, batch))


class GIN(_GIN):
    """Graph isomorphism network for graph classification (Xu et al., ICLR 2019).

    Every layer is ``BatchNorm(MLP((1 + eps) x + sum of neighbours))`` with a two-layer MLP; the
    sum over the atoms of a graph goes through a two-layer head.

    Args:
        in_channels: width of the node features.
        hidden_channels: width of the hidden layers.
        out_channels: number of classes.
        num_layers: number of convolutions.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int) -> None:
        super().__init__(GINConv, in_channels, hidden_channels, out_channels, num_layers)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Logits ``[num_graphs, out_channels]``; without ``batch`` all nodes are one graph."""
        return self._logits(x, batch, edge_index)


class GINE(_GIN):
    """`GIN` that reads bonds: a message is ``relu(x + W e)`` (Hu et al., ICLR 2020).

    Args:
        in_channels, hidden_channels, out_channels, num_layers: as in `GIN`.
        edge_channels: width of the edge features.
    """

    def __init__(
        self, in_channels: int, edge_channels: int, hidden_channels: int, out_channels: int, num_layers: int
    ) -> None:
        layer = partial(GINEConv, edge_dim=edge_channels)
        super().__init__(layer, in_channels, hidden_channels, out_channels, num_layers)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None) -> Tensor:
        """Logits ``[num_graphs, out_channels]``; without ``batch`` all nodes are one graph."""
        return self._logits(x, batch, edge_index, edge_attr)


class AtomSum(nn.Module):
    """A value that atoms add up to: GIN or GINE layers, then one number per atom, then their sum.

    An atom's number is read from its own features and from the outputs of all layers side by side
    (Xu et al., ICML 2018), so that the atom itself need not be read through its neighbours.
    Linear layers have no bias and there is no BatchNorm: absent atoms add nothing.

    Args:
        in_channels: width of the node features.
        hidden_channels: width of the hidden layers.
        num_layers: number of convolutions.
        edge_channels: width of the edge features, which make the layers `GINEConv`; None for `GINConv`.
    """

    scale: Tensor

    def __init__(
        self, in_channels: int, hidden_channels: int, num_layers: int, edge_channels: int | None = None
    ) -> None:
        super().__init__()
        self.reads_bonds = edge_channels is not None
        widths = [in_channels, *[hidden_channels] * num_layers]
        self.convs = nn.ModuleList()
        for width_in, width_out in zip(widths[:-1], widths[1:], strict=True):
            mlp = nn.Sequential(
                nn.Linear(width_in, width_out, bias=False), nn.ReLU(), nn.Linear(width_out, width_out, bias=False)
            )
            self.convs.append(GINConv(mlp) if edge_channels is None else GINEConv(mlp, edge_dim=edge_channels))
        self.head = nn.Sequential(
            nn.Linear(sum(widths), hidden_channels, bias=False),
            nn.ReLU(),
            nn.Linear(hidden_channels, 1, bias=False),
        )
        self.register_buffer("scale", torch.ones(()))  # the spread of the values

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Values ``[num_graphs, 1]``; without ``batch`` all nodes are one graph."""
        bonds = (edge_attr,) if self.reads_bonds else ()  # graphs may carry bonds that these layers do not read
        outputs = [x]
        for conv in self.convs:
            outputs.append(conv(outputs[-1], edge_index, *bonds).relu())
        return self.scale * global_add_pool(self.head(torch.cat(outputs, dim=-1)), batch)


class Ensemble(nn.Module):
    """The mean of models that were trained apart (Lakshminarayanan et al., NeurIPS 2017).

    Where the data leave open how a value is to be shared among atoms, every training ends elsewhere;
    their mean depends less on the seed.

    Args:
        members: models with the same arguments and outputs, which read bonds.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None) -> Tensor:
        """The mean of the members' outputs."""
        return torch.stack([member(x, edge_index, edge_attr, batch) for member in self.members]).mean(dim=0)
