"""Fused propagation: layers whose message is a number times the sender's features, as products with a sparse matrix.

A *layout* says, once for the whole data, what a `propagate` call multiplies messages by: one coefficient for each edge,
and one for each self loop that the layer adds. A computation graph carries the coefficients of its own edges, so degrees
that a normalisation counted on the full graph need no further hop. A *plan* says which way each call of a forward pass
goes; a *propagation* is a plan on one union of computation graphs, with its sparse matrices, built once and used in every
epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
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
    """The sparse matrix of a layout on a union.

    Attributes:
        csr: entries by receiver.
        slot: `[M]` whose mask each entry takes: an edge of the union, or ΣE for a loop.
        coefficient: `[M]`; `None` for attention.
    """

    csr: Csr
    slot: Tensor
    coefficient: Tensor | None

    def by_head(self, heads: int) -> Matrix:
        """The same between (node, head) pairs, for attention."""
        csr = self.csr
        node = torch.arange(csr.num_rows, device=csr.ptr.device).repeat_interleave(heads)
        head = torch.arange(heads, device=csr.ptr.device).repeat(csr.num_rows)
        entry, ptr = gather_segments(csr.ptr, node)
        head = torch.repeat_interleave(head, ptr.diff())
        return Matrix(Csr(ptr, csr.col[entry] * heads + head, csr.num_cols * heads), self.slot[entry], None)


class Propagation:
    """A plan on one union.

    Args:
        plan: which way each call goes.
        replicas: nodes sorted by depth where the plan trims.
        lost: `[ΣN]` by layout: what nodes lost of their degree by removals, where the union is a rebuilt one.
    """

    def __init__(self, plan: Plan, replicas: Replicas, lost: Sequence[Tensor] | None = None) -> None:
        self.plan, self.replicas = plan, replicas
        self.lost = {} if lost is None else {id(a): b for a, b in zip(plan.coefficients, lost, strict=True)}
        self._matrices: dict[int, Matrix] = {}
        self._levels: dict[Any, Matrix] = {}
        self._values: dict[int, Tensor] = {}
        self._mask: Tensor | None = None
        if plan.trim:
            # Node counts by depth; on the host, once.
            depth = replicas.source.node_depth[replicas.node]
            self.within = torch.bincount(depth, minlength=len(plan.routes) + 1).cumsum(0).tolist()

    def start(self, mask: Tensor | None) -> None:
        """Begin a forward pass under an edge mask with one more slot at its end, fixed at 1, for added loops."""
        self._mask = mask
        self._values.clear()

    def rows(self, number: int) -> int:
        """How many rows call `number` has to compute."""
        return self.within[len(self.plan.routes) - 1 - number] if self.plan.trim else len(self.replicas.node)

    def receivers(self, number: int, x: Tensor) -> Tensor:
        """The rows that call `number` computes, out of those that enter it."""
        count = self.rows(number)
        return x.rows(count) if isinstance(x, MaskedFeatures) else x[:count]

    def finish(self, out: Tensor) -> Tensor:
        """What the rest of the model gets to see of the last layer's output."""
        return out

    def __call__(self, number: int, arguments: dict[str, Any], attention: Tensor | None) -> Tensor:
        """The output of call `number`, `[N, ...]`, or of its first rows only where the plan shrinks."""
        route = self.plan.routes[number]
        form, coefficients = route.form, route.coefficients
        assert form is not None
        assert coefficients is not None
        x = _side(arguments[form.sender], form.side)
        rows = self.rows(number)
        if coefficients.attention:
            heads = x.size(1)
            if attention is None:
                attention = self.attend_by_products(number, arguments)
            matrix = self._level(number, len(x), heads)
            values = attention if self._mask is None else attention * self._mask.index_select(0, matrix.slot)
            out = spmm(matrix.csr, values.to(x.dtype), x.reshape(len(x) * heads, -1)).reshape(rows, *x.shape[1:])
        else:
            matrix = self._level(number, len(x))
            values = self._coefficients(coefficients, matrix).to(x.dtype)
            out = spmm(matrix.csr, values, x.reshape(len(x), -1)).reshape(rows, *x.shape[1:])
            if form.receiver is not None:
                own = _side(arguments[form.receiver], 1 - form.side)
                out = out - spmm(matrix.csr, values, x.new_ones(len(x), 1)) * own[:rows]
        return (
            out
            if self.plan.shrink or rows == len(x)
            else functional.pad(out, (0, 0) * (out.dim() - 1) + (0, len(x) - rows))
        )

    # Attention #######################################################################################################

    def attend(self, number: int, module: MessagePassing, arguments: dict[str, Any]) -> Tensor:
        """Attention coefficients of a GAT or GATv2 call, one for each entry of the matrix with rows (node, head)."""
        rows = self.rows(number)
        if isinstance(module, GATConv):
            by_source, by_target = arguments["alpha"]
            heads = by_source.size(1)
            matrix = self._level(number, len(by_source), heads)
            logits = by_source.reshape(-1).index_select(0, matrix.csr.col)
            logits = logits + by_target[:rows].reshape(-1).index_select(0, matrix.csr.row)
            logits = functional.leaky_relu(logits, module.negative_slope)
        else:
            assert isinstance(module, GATv2Conv)
            by_source, by_target = arguments["x"]
            heads = by_source.size(1)
            matrix = self._level(number, len(by_source), heads)
            pairs = by_source.flatten(0, 1).index_select(0, matrix.csr.col)
            pairs = pairs + by_target[:rows].flatten(0, 1).index_select(0, matrix.csr.row)
            head = matrix.csr.row % heads
            logits = (functional.leaky_relu(pairs, module.negative_slope) * module.att[0].index_select(0, head)).sum(1)
        return row_softmax(matrix.csr, logits)

    def attend_by_products(self, number: int, arguments: dict[str, Any]) -> Tensor:
        """Attention coefficients of a transformer call: the softmax of ⟨query, key⟩ / √C."""
        query, key, rows = arguments["query"], arguments["key"], self.rows(number)
        matrix = self._level(number, len(key), key.size(1))
        scale = key.size(2) ** -0.5
        return row_softmax(matrix.csr, sddmm(matrix.csr, (query[:rows] * scale).flatten(0, 1), key.flatten(0, 1)))

    # Matrices ########################################################################################################

    def _coefficients(self, coefficients: Coefficients, level: Matrix) -> Tensor:
        """The values of the first rows of a layout's matrix under the mask of this pass, `[M]`."""
        key = id(coefficients)
        if key not in self._values:
            matrix = self._matrix(coefficients)
            assert matrix.coefficient is not None
            self._values[key] = (
                matrix.coefficient
                if self._mask is None
                else self._mask.index_select(0, matrix.slot) * matrix.coefficient
            )
        return self._values[key][: len(level.slot)]

    def _level(self, number: int, columns: int, heads: int = 1) -> Matrix:
        """The rows of a layout's matrix that call `number` needs; with attention heads, between (node, head) pairs."""
        coefficients, rows = self.plan.routes[number].coefficients, self.rows(number)
        assert coefficients is not None
        key = (id(coefficients), rows, columns, heads if coefficients.attention else 0)
        if key not in self._levels:
            matrix = self._matrix(coefficients)
            csr = matrix.csr
            if rows < csr.num_rows or columns < csr.num_cols:
                last = len(csr.col) if rows == csr.num_rows else int(csr.ptr[rows])
                matrix = Matrix(Csr(csr.ptr[: rows + 1], csr.col[:last], columns), matrix.slot[:last], None)
            self._levels[key] = matrix.by_head(heads) if coefficients.attention else matrix
        return self._levels[key]

    def _matrix(self, coefficients: Coefficients) -> Matrix:
        """The matrix of a layout on this union."""
        if id(coefficients) not in self._matrices:
            self._matrices[id(coefficients)] = self._build(coefficients)
        return self._matrices[id(coefficients)]

    def _build(self, coefficients: Coefficients) -> Matrix:
        replicas = self.replicas
        sender, receiver = replicas.edge_index.flip(0) if coefficients.backwards else replicas.edge_index
        edge, node = replicas.edge_id, replicas.node_id
        used = coefficients.present[edge].nonzero().flatten()
        looped = coefficients.looped[node]
        lost = self.lost.get(id(coefficients))
        if (
            lost is not None and coefficients.adds is not None
        ):  # where the graph's own loop was removed, the layer adds one
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
            by_edge, by_loop = coefficients.edge[edge[used]], coefficients.edge.new_ones(len(loops))
        else:
            assert coefficients.weight is not None
            assert coefficients.fill is not None
            degree = coefficients.degree[node] - lost
            # What is left of a degree whose edges are all gone is rounding.
            gone = degree <= 1e-6 * coefficients.degree[node]
            scale = degree.masked_fill(gone, 1).rsqrt().masked_fill(gone, 0)
            by_edge = coefficients.weight[edge[used]] * scale[sender[used]] * scale[receiver[used]]
            by_loop = coefficients.fill.new_full((len(loops),), coefficients.adds or 0.0) * scale[loops].square()
        coefficient = torch.cat([by_edge, by_loop])[order]
        if coefficients.mean:
            coefficient = coefficient / csr.ptr.diff()[csr.row]
        return Matrix(csr, slot, coefficient)


def lost_degrees(
    plan: Plan, replicas: Replicas, edges: Tensor | None, nodes: Tensor | None, undirected: bool
) -> list[Tensor]:
    """What nodes lose of their degrees when edges `[ΣE]` bool and nodes `[ΣN]` bool of a union are removed, `[ΣN]` for each
    of the plan's layouts.

    Edges outside of the union count, too: the other direction of an edge removed where directions are tied, and all
    edges of removed nodes.
    """
    source, graphs = replicas.source, replicas.source.graphs
    found = []
    for coefficients in plan.coefficients:
        lost = coefficients.edge.new_zeros(len(replicas.node))
        if coefficients.weight is not None and edges is not None:
            removed = edges.nonzero().flatten()
            edge = replicas.edge_id[removed]
            sender, receiver = (
                replicas.edge_index[:, removed].flip(0) if coefficients.backwards else replicas.edge_index[:, removed]
            )
            lost.index_add_(0, receiver, coefficients.weight[edge])
            if coefficients.adds is not None:
                loop = receiver[(sender == receiver) & coefficients.present[edge]]
                lost.index_add_(0, loop, lost.new_full((len(loop),), -coefficients.adds))
            if undirected:
                reverse = graphs.reverse[edge]
                outside = (reverse >= 0) & (source.partner[replicas.edge[removed]] < 0)
                lost.index_add_(0, sender[outside], coefficients.weight[reverse[outside]])
        if coefficients.weight is not None and nodes is not None:
            removed = nodes.nonzero().flatten()
            ptr, other, edge = graphs.incidence("source_to_target" if coefficients.backwards else "target_to_source")
            at, new_ptr = gather_segments(ptr, replicas.node_id[removed])
            owner = torch.repeat_interleave(replicas.node_owner[removed], new_ptr.diff())
            keys, order = torch.sort(replicas.node_owner * graphs.num_nodes + replicas.node_id)
            wanted = owner * graphs.num_nodes + other[at]
            place = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
            here = keys[place] == wanted
            lost.index_add_(0, order[place[here]], coefficients.weight[edge[at[here]]])
        found.append(lost)
    return found


def _side(value: Any, side: int) -> Tensor:
    return value[side] if isinstance(value, (tuple, list)) else value
