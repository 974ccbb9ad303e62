"""Fused propagation: layers whose message is a number times the sender's features, as products with a sparse matrix.

Coefficients say, once for the whole data, what a `propagate` call multiplies messages by: one number for each edge, and one
for each self loop that the layer adds. A computation graph carries the coefficients of its own edges, so degrees that a
normalisation counted on the full graph need no further hop. A *plan* says which path each call of a forward pass takes; a
*propagation* is a plan on one union of computation graphs, with its sparse matrices, built once and used in every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv, GATv2Conv, MessagePassing

from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.arrays.sparse import Csr, row_softmax, sddmm, spmm
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.inputs.features import MaskedFeatures
from gnn_xai.core.propagation.coefficients import Coefficients
from gnn_xai.core.propagation.plan import Plan


@dataclass(frozen=True, eq=False)
class Matrix:
    """The sparse matrix of a call on a union.

    Attributes:
        csr: entries by receiver; for attention, by receiver and head.
        slot: the place in the edge mask that each entry takes: an edge of the union, or the one behind the last for a loop.
        coefficient: of each entry; `None` for attention.
        heads: attention heads, 1 without attention.
    """

    csr: Csr
    slot: Int[Tensor, " entries"]
    coefficient: Float[Tensor, " entries"] | None
    heads: int = 1

    def by_head(self, heads: int) -> Matrix:
        """The same between (node, head) pairs, for attention."""
        csr = self.csr
        node = torch.arange(csr.num_rows, device=csr.ptr.device).repeat_interleave(heads)
        head = torch.arange(heads, device=csr.ptr.device).repeat(csr.num_rows)
        entry, ptr = gather_segments(csr.ptr, node)
        head = torch.repeat_interleave(head, ptr.diff())
        return Matrix(Csr(ptr, csr.col[entry] * heads + head, csr.num_cols * heads), self.slot[entry], None, heads)


class FusedCall(nn.Module):
    """One `propagate` call as a product with a sparse matrix; a module, so that it takes hooks and backward rules."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self,
        x: Shaped[Tensor, " senders *features"],
        matrix: Matrix,
        values: Float[Tensor, " entries"],
        receiver: Shaped[Tensor, " receivers *features"] | None = None,
    ) -> Shaped[Tensor, " rows *features"]:
        """Σ values · x over the entries of each row, or Σ values · (x − receiver).

        Args:
            x: features of the senders.
            matrix: its structure.
            values: of its entries; masks are multiplied in.
            receiver: features that are subtracted, of the rows first.
        """
        csr, rows = matrix.csr, matrix.csr.num_rows // matrix.heads
        out = spmm(csr, values, x.reshape(csr.num_cols, -1)).reshape(rows, *x.shape[1:])
        if receiver is None:
            return out
        return out - spmm(csr, values, x.new_ones(len(x), 1)) * receiver[:rows]

    def extra_repr(self) -> str:
        """The layer whose call it is."""
        return self.layer


class Propagation:
    """A plan on one union.

    Args:
        plan: which path each call takes.
        replicas: the union, with nodes sorted by depth where the plan trims.
        lost: for each of the plan's coefficients, what nodes lost of their degree by removals, where the union is a
            rebuilt one.

    Attributes:
        calls: a module for each call, which runs it if it is fused.
    """

    def __init__(self, plan: Plan, replicas: Replicas, lost: Sequence[Float[Tensor, " nodes"]] | None = None) -> None:
        self.plan, self.replicas, self.lost = plan, replicas, lost
        self.calls = [FusedCall(route.layer) for route in plan.routes]
        self._matrices: dict[int, Matrix] = {}  # by position of the coefficients
        self._levels: dict[tuple[int, int, int, int], Matrix] = {}
        self._values: dict[int, Tensor] = {}
        self._mask: Tensor | None = None
        if plan.trim:
            # Node counts by depth; on the host, once.
            depth = replicas.source.node_depth[replicas.node]
            self.within = torch.bincount(depth, minlength=len(plan.routes) + 1).cumsum(0).tolist()

    def start(self, mask: Shaped[Tensor, " slots"] | None) -> None:
        """Begin a forward pass under an edge mask with one more slot at its end, fixed at 1, for added loops."""
        self._mask = mask
        self._values.clear()

    def rows(self, number: int) -> int:
        """How many rows call `number` has to compute."""
        return self.within[self.plan.routes[number].remaining] if self.plan.trim else len(self.replicas.node)

    def receivers(self, number: int, x: Shaped[Tensor, "nodes ..."]) -> Shaped[Tensor, "rows ..."]:
        """The rows that call `number` computes, out of those that enter it."""
        count = self.rows(number)
        return x.rows(count) if isinstance(x, MaskedFeatures) else x[:count]

    def finish(self, out: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "outputs ..."]:
        """The rows of the last layer's output that the rest of the model reads: where it shrinks, one for each root."""
        rows = self.replicas.rows
        if rows is None or not self.plan.shrink or (rows.size(1) == 1 and len(out) == len(rows)):
            return out
        if rows.size(1) > 1:  # pairs of nodes are named by their rows, which come first
            return out
        return out.index_select(0, rows.flatten())  # where the whole graph is needed, all of its nodes are computed

    def placed(self, rows: Int[Tensor, "outputs roots"]) -> Int[Tensor, "outputs roots"]:
        """The rows of the model's output that belong to some roots, where there are several for each instance."""
        return rows

    def __call__(
        self, number: int, arguments: dict[str, Any], attention: Float[Tensor, " entries"] | None
    ) -> Shaped[Tensor, "rows ..."]:
        """The output of call `number` for all nodes, or for its first rows only where the plan shrinks."""
        form = self.plan.routes[number].form
        assert form is not None
        x = _side(arguments[form.sender], form.side)
        receiver = None if form.receiver is None else _side(arguments[form.receiver], 1 - form.side)
        position, coefficients = self._of(number)
        if coefficients.attention:
            matrix = self._level(number, len(x), x.size(1))
            values = self.attend_by_products(number, arguments) if attention is None else attention
            if self._mask is not None:
                values = values * self._mask.index_select(0, matrix.slot)
        else:
            matrix = self._level(number, len(x))
            values = self._masked(position, matrix)
        out = self.calls[number](x, matrix, values.to(x.dtype), receiver)
        if self.plan.shrink or len(out) == len(x):
            return out
        return functional.pad(out, (0, 0) * (out.dim() - 1) + (0, len(x) - len(out)))

    # Attention #######################################################################################################

    def attend(self, number: int, module: MessagePassing, arguments: dict[str, Any]) -> Float[Tensor, " entries"]:
        """Attention coefficients of a GAT or GATv2 call, one for each entry of the matrix with rows (node, head)."""
        by_source, by_target = arguments["alpha" if isinstance(module, GATConv) else "x"]
        heads = by_source.size(1)
        matrix = self._level(number, len(by_source), heads)
        sender, receiver = by_source.flatten(0, 1), by_target[: self.rows(number)].flatten(0, 1)
        pairs = sender.index_select(0, matrix.csr.col) + receiver.index_select(0, matrix.csr.row)
        assert isinstance(module, (GATConv, GATv2Conv))
        logits = functional.leaky_relu(pairs, module.negative_slope)
        if isinstance(module, GATv2Conv):
            logits = (logits * module.att[0].index_select(0, matrix.csr.row % heads)).sum(1)
        return row_softmax(matrix.csr, logits)

    def attend_by_products(self, number: int, arguments: dict[str, Any]) -> Float[Tensor, " entries"]:
        """Attention coefficients of a transformer call: the softmax of ⟨query, key⟩ / √C."""
        query, key, rows = arguments["query"], arguments["key"], self.rows(number)
        matrix = self._level(number, len(key), key.size(1))
        scale = key.size(2) ** -0.5
        return row_softmax(matrix.csr, sddmm(matrix.csr, (query[:rows] * scale).flatten(0, 1), key.flatten(0, 1)))

    # Matrices ########################################################################################################

    def _of(self, number: int) -> tuple[int, Coefficients]:
        """The position of a call's coefficients in the plan's, and these."""
        position = self.plan.routes[number].coefficients
        assert position is not None
        return position, self.plan.coefficients[position]

    def _masked(self, position: int, level: Matrix) -> Float[Tensor, " entries"]:
        """The values of the first rows of a matrix under the mask of this pass."""
        if position not in self._values:
            matrix = self._matrix(position)
            assert matrix.coefficient is not None
            self._values[position] = (
                matrix.coefficient
                if self._mask is None
                else self._mask.index_select(0, matrix.slot) * matrix.coefficient
            )
        return self._values[position][: len(level.slot)]

    def _level(self, number: int, columns: int, heads: int = 1) -> Matrix:
        """The rows of a matrix that call `number` needs; with attention, between (node, head) pairs."""
        position, coefficients = self._of(number)
        rows = self.rows(number)
        key = position, rows, columns, heads
        if key not in self._levels:
            matrix = self._matrix(position)
            csr = matrix.csr
            if rows < csr.num_rows or columns < csr.num_cols:
                last = len(csr.col) if rows == csr.num_rows else int(csr.ptr[rows])
                matrix = Matrix(Csr(csr.ptr[: rows + 1], csr.col[:last], columns), matrix.slot[:last], None)
            self._levels[key] = matrix.by_head(heads) if coefficients.attention else matrix
        return self._levels[key]

    def _matrix(self, position: int) -> Matrix:
        """The matrix on this union of coefficients, by their position in the plan's."""
        if position not in self._matrices:
            lost = None if self.lost is None else self.lost[position]
            self._matrices[position] = _build(self.plan.coefficients[position], self.replicas, lost)
        return self._matrices[position]


def _build(coefficients: Coefficients, replicas: Replicas, lost: Float[Tensor, " nodes"] | None) -> Matrix:
    """The matrix of coefficients on a union, whose nodes have `lost` so much of their degrees if it is a rebuilt one."""
    sender, receiver = replicas.edge_index.flip(0) if coefficients.backwards else replicas.edge_index
    edge, node = replicas.edge_id, replicas.node_id
    used = coefficients.present[edge].nonzero().flatten()
    looped = coefficients.looped[node]
    if lost is not None and coefficients.adds is not None:  # the layer adds one where the graph's own loop was removed
        own = used[sender[used] == receiver[used]]
        looped = torch.ones_like(looped).index_fill(0, receiver[own], False)
    loops = looped.nonzero().flatten()
    row, col = torch.cat([receiver[used], loops]), torch.cat([sender[used], loops])
    size = max(len(row), 1)
    keys = torch.sort(row * size + torch.arange(len(row), device=row.device)).values
    order = keys % size
    csr = Csr(pointers(torch.bincount(row, minlength=len(node))), col[order], len(node))
    slot = torch.cat([used, torch.full_like(loops, len(edge))])[order]
    if coefficients.attention:
        return Matrix(csr, slot, None)
    if lost is None:
        by_edge, by_loop = coefficients.edge[edge[used]], coefficients.loop[node[loops]]
    elif coefficients.degree is None:
        by_edge = coefficients.edge[edge[used]]
        by_loop = by_edge.new_full((len(loops),), coefficients.adds or 0.0)
    else:
        assert coefficients.weight is not None
        degree = coefficients.degree[node] - lost
        gone = none_left(coefficients.degree[node], degree)
        scale = degree.masked_fill(gone, 1).rsqrt().masked_fill(gone, 0)
        by_edge = coefficients.weight[edge[used]] * scale[sender[used]] * scale[receiver[used]]
        by_loop = scale[loops].square() * (coefficients.adds or 0.0)
    coefficient = torch.cat([by_edge, by_loop])[order].to(coefficients.edge.dtype)
    if coefficients.mean:
        coefficient = coefficient / csr.ptr.diff()[csr.row]
    return Matrix(csr, slot, coefficient)


def none_left(before: Float[Tensor, " nodes"], after: Float[Tensor, " nodes"]) -> Bool[Tensor, " nodes"]:
    """Whether all edges of a node's degree are gone; rounding leaves something, less than any of them was."""
    return after <= 1e-12 * before


def lost_degrees(
    plan: Plan,
    replicas: Replicas,
    edges: Bool[Tensor, " edges"] | None,
    nodes: Bool[Tensor, " nodes"] | None,
    undirected: bool,
) -> list[Float[Tensor, " nodes"]]:
    """What nodes lose of their degrees when edges and nodes of a union are removed, for each of the plan's coefficients.

    Edges outside of the union count, too: the other direction of an edge removed where directions are tied, and all
    edges of removed nodes.
    """
    lost = []
    if edges is not None and nodes is not None:  # what goes with a node is not lost twice
        edges = edges & ~nodes[replicas.edge_index].any(0)
    for coefficients in plan.coefficients:
        lost.append(torch.zeros(len(replicas.node), dtype=torch.float64, device=replicas.node.device))
        if coefficients.weight is not None and edges is not None:
            _lose_edges(lost[-1], coefficients, replicas, edges.nonzero().flatten(), undirected)
        if coefficients.weight is not None and nodes is not None:
            _lose_nodes(lost[-1], coefficients, replicas, nodes.nonzero().flatten())
    return lost


def _lose_edges(
    lost: Float[Tensor, " nodes"],
    coefficients: Coefficients,
    replicas: Replicas,
    removed: Int[Tensor, " removed"],
    undirected: bool,
) -> None:
    """Add what the receivers of removed edges lose; those of tied edges outside of the union, too."""
    weight, edge, ends = coefficients.weight, replicas.edge_id[removed], replicas.edge_index[:, removed]
    assert weight is not None
    sender, receiver = ends.flip(0) if coefficients.backwards else ends
    lost.index_add_(0, receiver, weight[edge])
    if coefficients.adds is not None:
        loop = receiver[(sender == receiver) & coefficients.present[edge]]
        lost.index_add_(0, loop, lost.new_full((len(loop),), -coefficients.adds))
    if undirected:
        reverse = replicas.source.graphs.reverse[edge]
        outside = (reverse >= 0) & (replicas.source.partner[replicas.edge[removed]] < 0)
        lost.index_add_(0, sender[outside], weight[reverse[outside]])


def _lose_nodes(
    lost: Float[Tensor, " nodes"],
    coefficients: Coefficients,
    replicas: Replicas,
    removed: Int[Tensor, " removed"],
) -> None:
    """Add what the receivers of all edges of removed nodes lose."""
    graphs, weight = replicas.source.graphs, coefficients.weight
    assert weight is not None
    ptr, other, edge = graphs.incidence("source_to_target" if coefficients.backwards else "target_to_source")
    at, new_ptr = gather_segments(ptr, replicas.node_id[removed])
    owner = torch.repeat_interleave(replicas.node_owner[removed], new_ptr.diff())
    keys, order = torch.sort(replicas.node_owner * graphs.num_nodes + replicas.node_id)
    wanted = owner * graphs.num_nodes + other[at]
    place = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
    inside = keys[place] == wanted
    lost.index_add_(0, order[place[inside]], weight[edge[at[inside]]])


def _side(value: Any, side: int) -> Any:
    """One of a pair, or what serves as both."""
    return value[side] if isinstance(value, (tuple, list)) else value
