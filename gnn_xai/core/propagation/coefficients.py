"""The form of a call's messages, and the coefficients that it multiplies them by on the whole data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch_geometric.nn import GATConv, GATv2Conv, MessagePassing, TransformerConv
from torch_geometric.nn.aggr import MeanAggregation, SumAggregation

from gnn_xai.core.graphs.source import Graphs

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
        coefficient: one number for each message; empty for attention, whose numbers depend on the features.
        mean: messages are averaged, not summed.
    """

    sender: str
    side: int
    receiver: str | None
    coefficient: Float[Tensor, " messages"]
    mean: bool


@torch.no_grad()
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
        # Of either sign and far from 0, where a rectifier and a clamp differ from a number.
        for size in (1.0, -1.0, 1e4, -1e4) if linear else ():
            one, other = size * torch.rand_like(ones), size * torch.rand_like(ones)
            made, expected, scale = message(one, other), coefficient * one, one.abs()
            if receivers:
                expected, scale = expected - coefficient * other, scale + other.abs()
            linear = linear and bool(((made - expected).abs() <= tolerance * coefficient.abs() * scale).all())
    except Exception:  # it wants all features at once
        linear = False
    if linear:
        some = torch.linspace(0, max(len(features) - 1, 0), 256, device=features.device).long()[: len(features)]
        real = features[some] - inputs[receivers[0]][some] if receivers else features[some]
        scale = real.abs()
        if receivers:
            scale = features[some].abs() + inputs[receivers[0]][some].abs()
        linear = bool(
            ((messages[some] - coefficient[some] * real).abs() <= tolerance * coefficient[some].abs() * scale).all()
        )
    if not linear:
        return "its messages are not a number times the sender's features"
    name = receivers[0][:-2] if receivers else None
    return Form(senders[0][:-2], side, name, coefficient.reshape(-1), mean)


class Formula(NamedTuple):
    """What coefficients follow from, so that they are known on other graphs, too.

    Attributes:
        weight: the edge attribute that messages are multiplied by; `None` for 1.
        normalised: both ends divide by the square root of their degrees, as `gcn_norm` in PyG does.
        adds: weight of the loop that the layer adds where the graph has none; `None` if it adds none.
    """

    weight: str | None
    normalised: bool
    adds: float | None


def formulas(graphs: Graphs) -> Iterator[Formula]:
    """The formulas that can be recognised on some data."""
    weights = [
        name
        for name, value in graphs.edge_attrs.items()
        if value.shape == graphs.edge_index[0].shape and value.is_floating_point()
    ]
    for weight in [None, *weights]:
        for normalised in (False, True):
            for adds in (None, 1.0, 2.0):  # 2 in "improved" graph convolutions
                yield Formula(weight, normalised, adds)


@dataclass(frozen=True, eq=False)
class Coefficients:
    """What a call multiplies messages by, on the whole data.

    Attributes:
        backwards: messages run against the direction of the edges.
        mean: they are averaged over the edges and loops at the receiver.
        attention: coefficients depend on features, and are not held here.
        seen: nodes that a trace has been through; the rest belongs to graphs that are not explained.
        present: edges that the call uses.
        edge: coefficients of these.
        looped: nodes at which the layer adds a loop.
        loop: coefficients of these.
        adds: coefficient of the loop that the layer adds where the graph has none; `None` if it adds none.
        degree: where the coefficients are those of symmetric normalisation, the degrees that were counted; then
            `edge = weight · (degree_u · degree_v)^-½` and `loop = adds / degree`.
        weight: as in this formula.
    """

    backwards: bool
    mean: bool
    attention: bool
    seen: Bool[Tensor, " nodes"]
    present: Bool[Tensor, " edges"]
    edge: Float[Tensor, " edges"]
    looped: Bool[Tensor, " nodes"]
    loop: Float[Tensor, " nodes"]
    adds: float | None = None
    degree: Float64[Tensor, " nodes"] | None = None
    weight: Float64[Tensor, " edges"] | None = None

    @classmethod
    def zeros(cls, graphs: Graphs, backwards: bool, mean: bool, attention: bool, dtype: torch.dtype) -> Coefficients:
        """Coefficients of no edge and no loop, for a survey to write into."""
        edge = torch.zeros(graphs.num_edges, dtype=dtype, device=graphs.device)
        loop = torch.zeros(graphs.num_nodes, dtype=dtype, device=graphs.device)
        return cls(backwards, mean, attention, loop.bool(), edge.bool(), edge, loop.bool(), loop)

    def equals(self, other: Coefficients) -> bool:
        """Whether two calls propagate alike."""
        flags = (self.backwards, self.mean, self.attention, self.adds)
        return flags == (other.backwards, other.mean, other.attention, other.adds) and all(
            _equal(getattr(self, name), getattr(other, name))
            for name in ("present", "edge", "looped", "loop", "degree", "weight")
        )

    def follow(self, formula: Formula, graphs: Graphs) -> bool:
        """Whether these are the coefficients that a formula gives on some graphs."""
        expected = self.by(formula, graphs)
        if expected is None or bool((expected.looped != self.looped)[self.seen].any()):
            return False
        tolerance = min(1e3 * torch.finfo(self.edge.dtype).eps, 1e-2)  # of sums over many edges
        alike = (self.edge - expected.edge).abs() <= tolerance * expected.edge.abs()
        loops = (self.loop - expected.loop).abs() <= tolerance * expected.loop.abs()
        return self.attention or bool(alike[self.present].all() & loops[self.looped].all())

    def by(self, formula: Formula, graphs: Graphs) -> Coefficients | None:
        """The coefficients that a formula gives on some graphs, for the same edges; `None` where it gives none."""
        row, col = graphs.edge_index.flip(0) if self.backwards else graphs.edge_index
        own = torch.zeros_like(self.looped).index_fill(0, row[(row == col) & self.present], True)
        looped = self.seen & ~own if formula.adds is not None else torch.zeros_like(own)
        if self.attention:
            return replace(self, looped=looped, adds=formula.adds)
        weight = self.present.double()
        if formula.weight is not None:
            weight = weight * graphs.edge_attrs[formula.weight]
        fill = looped * (formula.adds or 0.0)
        if not formula.normalised:
            edge, loop, degree = weight, fill.double(), None
        elif bool((weight < 0).any()):
            return None  # a degree may be 0 or below
        else:
            degree = fill.double().index_add(0, col, weight)
            scale = degree.masked_fill(degree == 0, 1).rsqrt().masked_fill(degree == 0, 0)
            edge, loop = weight * scale[row] * scale[col], fill * scale.square()
        dtype = self.edge.dtype
        return replace(
            self,
            edge=edge.to(dtype),
            looped=looped,
            loop=loop.to(dtype),
            adds=formula.adds,
            degree=degree,
            weight=None if degree is None else weight,
        )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))
