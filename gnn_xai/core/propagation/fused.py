"""Fused propagation: layers whose message is a number times the sender's features, as products with a sparse matrix.

A *layout* says, once for the whole data, what a `propagate` call multiplies messages by: one coefficient for each edge,
and one for each self loop that the layer adds. A computation graph carries the coefficients of its own edges, so degrees
that a normalisation counted on the full graph need no further hop. A *plan* says which way each call of a forward pass
goes; a *propagation* is a plan on one union of computation graphs, with its sparse matrices, built once and used in every
epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn import GATConv, GATv2Conv, MessagePassing, TransformerConv
from torch_geometric.nn.aggr import MeanAggregation, SumAggregation

from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.arrays.sparse import Csr, row_softmax, sddmm, spmm
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.inputs.features import MaskedFeatures

Path = Literal["fused", "attention", "messages"]
"""How a call runs: as a sparse product; as one whose coefficients are a softmax over edges; through PyG's messages."""

ATTENTION = (GATConv, GATv2Conv, TransformerConv)


@dataclass(frozen=True)
class Form:
    """What the messages of a call look like: `coefficient · (sender − receiver)`, or without the second.

    Attributes:
        sender: the argument of `propagate` that holds the senders' features.
        side: which of a pair of features is the senders', where the argument is a pair.
        receiver: the one that is subtracted, if any.
        coefficient: `[E']` one number for each message; empty for attention, whose numbers depend on the features.
        mean: messages are averaged, not summed.
    """

    sender: str
    side: int
    receiver: str | None
    coefficient: Tensor
    mean: bool


def form_of(module: MessagePassing, inputs: dict[str, Any], messages: Tensor) -> Form | str:
    """The form of a call's messages, found by calling `message` on made-up features; or why it has none.

    Args:
        module: the layer.
        inputs: arguments of its `message`.
        messages: what it returned, `[E', ...]`.
    """
    aggregation = type(getattr(module, "aggr_module", None))
    if aggregation not in (SumAggregation, MeanAggregation):
        return f"it aggregates by {module.aggr}"
    kind = type(module)
    if kind.aggregate is not MessagePassing.aggregate or kind.update is not MessagePassing.update:
        return "it aggregates or updates in a way of its own"
    if module.decomposed_layers > 1:
        return "its layers are decomposed"
    mean, side = aggregation is MeanAggregation, int(module.flow == "target_to_source")
    if kind in ATTENTION:
        if inputs.get("edge_attr") is not None or getattr(module, "lin_edge", None) is not None or mean or side:
            return "its attention reads edge features, averages or runs backwards"
        return Form("value" if kind is TransformerConv else "x", side, None, messages.new_zeros(0), mean)
    senders = [name for name in inputs if name.endswith("_j")]
    receivers = [name for name in inputs if name.endswith("_i") and name != "size_i"]
    if len(senders) != 1 or len(receivers) > 1 or {"index", "ptr", "size_i", "dim_size"} & inputs.keys():
        return "its messages are more than a number times the sender's features"
    features = inputs[senders[0]]
    if not isinstance(features, Tensor) or not features.is_floating_point() or features.dim() < 2:
        return "its messages are not made of features"
    if module.node_dim % features.dim():
        return "its features hold something before the nodes"
    narrow = [len(features), *[1] * (features.dim() - 1)]

    def message(sender: Tensor, receiver: Tensor) -> Tensor:
        changed = {senders[0]: sender, **dict.fromkeys(receivers, receiver)}
        return module.message(**{**inputs, **changed})

    ones, zeros = features.new_ones(narrow), features.new_zeros(narrow)
    coefficient, tolerance = ones, 100 * torch.finfo(features.dtype).eps
    try:
        coefficient = message(ones, zeros)
        linear = coefficient.shape == ones.shape
        # Of either sign and far from 0, too, where a rectifier and a clamp differ from a number.
        for size in (1.0, -1.0, 1e4, -1e4) if linear else ():
            one, other = size * torch.rand_like(ones), size * torch.rand_like(ones)
            found, expected, scale = message(one, other), coefficient * one, one.abs()
            if receivers:
                expected, scale = expected - coefficient * other, scale + other.abs()
            linear = linear and bool(((found - expected).abs() <= tolerance * coefficient.abs() * scale).all())
    except Exception:  # it wants all features at once
        linear = False
    if linear:
        some = torch.linspace(0, max(len(features) - 1, 0), 256, device=features.device).long()[: len(features)]
        real = features[some] - inputs[receivers[0]][some] if receivers else features[some]
        linear = torch.allclose(messages[some], coefficient[some] * real, tolerance, tolerance)
    if not linear:
        return "its messages are not a number times the sender's features"
    name = receivers[0][:-2] if receivers else None
    return Form(senders[0][:-2], side, name, coefficient.reshape(-1), mean)


@dataclass(eq=False)
class Coefficients:
    """What a call multiplies messages by, on the whole data.

    Attributes:
        backwards: messages run against the direction of the edges.
        mean: they are averaged over the edges and loops at the receiver.
        attention: coefficients depend on features, and are not held here.
        seen: `[N]` bool, nodes that a trace has been through; the rest belongs to graphs that are not explained.
        present: `[E]` bool, edges that the call uses.
        edge: `[E]` coefficients.
        looped: `[N]` bool, nodes at which the layer adds a loop.
        loop: `[N]` coefficients of these.
        adds: coefficient of the loop that the layer adds where there is none; `None` if it adds none.
        degree: `[N]`, where the coefficients are those of symmetric normalisation: the degrees that were counted; then
            `edge = weight · (degree_u · degree_v)^-½` and `loop = fill / degree`.
        weight, fill: `[E]`, `[N]`, as in this formula.
    """

    backwards: bool
    mean: bool
    attention: bool
    seen: Tensor
    present: Tensor
    edge: Tensor
    looped: Tensor
    loop: Tensor
    adds: float | None = None
    degree: Tensor | None = None
    weight: Tensor | None = None
    fill: Tensor | None = None

    @classmethod
    def empty(cls, graphs: Graphs, backwards: bool, mean: bool, attention: bool, dtype: torch.dtype) -> Coefficients:
        """A layout of nothing yet."""
        edge = torch.zeros(graphs.num_edges, dtype=dtype, device=graphs.device)
        loop = torch.zeros(graphs.num_nodes, dtype=dtype, device=graphs.device)
        return cls(backwards, mean, attention, loop.bool(), edge.bool(), edge, loop.bool(), loop)

    def same_as(self, other: Coefficients) -> bool:
        """Whether two calls propagate alike."""
        flags = (self.backwards, self.mean, self.attention) == (other.backwards, other.mean, other.attention)
        return flags and all(
            torch.equal(getattr(self, name), getattr(other, name)) for name in ("present", "edge", "looped", "loop")
        )

    def normalise(self, graphs: Graphs) -> None:
        """Find out whether the coefficients are those of symmetric normalisation, `gcn_norm` in PyG."""
        if bool(self.looped.any()):
            self.adds = 1.0
        if self.attention:
            return
        row, col = graphs.edge_index.flip(0) if self.backwards else graphs.edge_index
        for weight in (torch.ones_like(self.edge), graphs.edge_attrs.get("edge_weight")):
            if weight is None or weight.shape != self.edge.shape or not weight.is_floating_point():
                continue
            weight = weight.to(self.edge.dtype) * self.present
            for value in (1.0, 2.0):  # of the loops that are added; 2 in "improved" graph convolutions
                fill = self.looped * value
                degree = fill.to(weight.dtype).index_add(0, col, weight)
                scale = degree.clamp(min=torch.finfo(degree.dtype).tiny).rsqrt().masked_fill(degree == 0, 0)
                if torch.allclose(self.edge, weight * scale[row] * scale[col], 1e-4, 1e-7) and torch.allclose(
                    self.loop, fill * scale * scale, 1e-4, 1e-7
                ):
                    self.degree, self.weight, self.fill = degree, weight, fill
                    self.adds = value if self.adds is not None else None
                    return

    def correctable(self, graphs: Graphs) -> bool:
        """Whether coefficients after removing an edge are known without running the layer on the smaller graph."""
        loops = (graphs.edge_index[0] == graphs.edge_index[1]) & self.present
        own = torch.zeros_like(self.looped).index_fill(0, graphs.edge_index[0, loops], True)
        if self.adds is None and bool(own[self.seen].all()):
            return False  # whether the layer adds loops of its own cannot be seen
        if self.adds is not None and not bool((self.looped | own)[self.seen].all()):
            return False  # it adds loops at some nodes, and why there is not known
        if self.attention:
            return True
        given = [w for key, w in graphs.edge_attrs.items() if w.shape == self.edge.shape and w.is_floating_point()]
        constant = bool((self.loop[self.looped] == 1).all()) and any(
            torch.allclose(self.edge[self.present], weight.to(self.edge.dtype)[self.present], 1e-5, 1e-8)
            for weight in (torch.ones_like(self.edge), *given)
        )
        # On a cycle every degree is 1, and nothing tells a normalisation from none.
        return constant != (self.degree is not None) or not bool(self.present.any())


@dataclass(frozen=True, eq=False)
class Route:
    """Which way one call goes.

    Attributes:
        layer: its name.
        path: see `Path`.
        why: why not a better one; empty if it is the best.
        form: of its messages; `None` for `messages`.
        layout: what they are multiplied by.
    """

    layer: str
    path: Path
    why: str = ""
    form: Form | None = None
    coefficients: Coefficients | None = None


@dataclass(eq=False)
class Plan:
    """How a forward pass propagates.

    Attributes:
        routes: one for each call, in order.
        trim: compute only rows that can still reach a target.
        shrink: rows that are no longer needed are dropped from the layers' outputs, too, and not filled with zeros.
    """

    routes: list[Route] = field(default_factory=list)
    trim: bool = False
    shrink: bool = False

    @property
    def fuses(self) -> bool:
        """Whether any call is fused."""
        return any(route.path != "messages" for route in self.routes)

    def share(self) -> None:
        """Let calls with equal layouts have one."""
        distinct: list[Coefficients] = []
        for number, route in enumerate(self.routes):
            if route.coefficients is None:
                continue
            same = next((coefficients for coefficients in distinct if coefficients.same_as(route.coefficients)), None)
            if same is None:
                distinct.append(route.coefficients)
            else:
                self.routes[number] = Route(route.layer, route.path, route.why, route.form, same)

    @property
    def coefficients(self) -> list[Coefficients]:
        """The distinct layouts."""
        return list({id(r.coefficients): r.coefficients for r in self.routes if r.coefficients is not None}.values())


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
