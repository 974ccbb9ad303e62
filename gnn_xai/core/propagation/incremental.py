"""Incremental re-evaluation: recomputes only the rows that a change reaches.

A layer carries a change one hop further: before it has arrived, a row of a variant is that of the original. So the
originals run once, in the same forward pass, and a variant adds only the rows that differ: after the first layer those
at the removed edges, after the second their neighbours, and so on. Layers read all other rows from the original. Nodes of
the originals and then those of the variants are numbered as *places*; the *rows* of a layer are the places it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.arrays.sparse import Csr
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.inputs.embeddings import Coded
from gnn_xai.core.inputs.features import Features, MaskedFeatures, plain
from gnn_xai.core.propagation.fused import Matrix, Propagation, none_left
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.errors import InputError


def followable(plan: Plan, graphs: Graphs, structural: bool) -> bool:
    """Whether changes can be followed: calls are a chain, all fused, and no removed self loop makes a layer add one."""
    if not plan.is_chain or any(route.form is None or route.form.receiver is not None for route in plan.routes):
        return False
    adds = structural and any(coefficients.adds is not None for coefficients in plan.coefficients)
    return not (adds and bool((graphs.edge_index[0] == graphs.edge_index[1]).any()))


class IncrementalPropagation(Propagation):
    """A plan on a union of variants and on their originals.

    Args:
        plan: a chain of fused calls.
        original: the originals, each once, in the order of the variants.
        replicas: the variants, before anything is removed, with nodes by instance.
        edges: removed edges of `replicas`.
        nodes: nodes that are taken out, or `None`.
        differs: nodes whose features are others.
        lost: for each of the plan's coefficients, what nodes lose of their degrees; `None` where messages are multiplied
            by 0.
        unequal: let each call compute another number of rows, so that a model that joins rows of several calls fails.

    Raises:
        InputError: if there are no rows that could be added to make the numbers unequal.

    Attributes:
        copied: the place of the original of each place.
        at: the places that enter the first call, and that each call computes.
        place: for each call, the row that enters it for each place: its own, or that of its original.
        wanted: the places that the rest of the model reads.
    """

    def __init__(
        self,
        plan: Plan,
        original: Replicas,
        replicas: Replicas,
        edges: Bool[Tensor, " edges"],
        nodes: Bool[Tensor, " nodes"] | None,
        differs: Bool[Tensor, " nodes"],
        lost: Sequence[Float[Tensor, " nodes"]] | None,
        unequal: bool = False,
    ) -> None:
        super().__init__(replace(plan, trim=False, shrink=True), original)
        self.structural, self.copies = lost is not None, replicas
        self.removed = torch.cat([edges.new_zeros(len(original.edge)), edges, edges.new_zeros(1)])
        size, device = len(original.node), edges.device
        self.node_shift, self.edge_shift = _shifts(original, replicas)
        self.copied = torch.arange(len(self.node_shift), device=device) - self.node_shift

        touched = torch.zeros_like(self.node_shift, dtype=torch.bool)
        touched[replicas.edge_index.index_select(1, edges.nonzero().flatten()).flatten() + size] = True
        self.ratio: list[Tensor | None] = [None] * len(plan.coefficients)
        for position, loss in enumerate(lost or ()):
            degree = plan.coefficients[position].degree
            if degree is not None:
                self.ratio[position] = _ratio(degree[replicas.node_id], loss, size)
                touched[size:] |= loss != 0
        gone = None if nodes is None else torch.cat([nodes.new_zeros(size), nodes])
        self.at = self._reach(differs, touched, gone, plan.trim, unequal)
        self.place = []
        for at in self.at:
            own = torch.full_like(self.copied, -1).index_copy(0, at, torch.arange(len(at), device=device))
            self.place.append(torch.where(own < 0, own.index_select(0, self.copied), own))
        if replicas.rows is None:
            kept = slice(None) if nodes is None else ~nodes
            self.wanted = torch.arange(size, len(self.node_shift), device=device)[kept]
        else:
            self.wanted = replicas.rows.flatten() + size

    def _reach(
        self,
        differs: Bool[Tensor, " nodes"],
        touched: Bool[Tensor, " places"],
        gone: Bool[Tensor, " places"] | None,
        trim: bool,
        unequal: bool,
    ) -> list[Int[Tensor, " rows"]]:
        """The places whose features differ, originals included, and those that the change has reached after each call.

        Args:
            differs: nodes of the variants whose features are others.
            touched: places that a removal changes the sums or the degree of.
            gone: places that are taken out.
            trim: leave out places that reach no target in the calls that remain.
            unequal: add places that the change has not reached until no two calls have equally many.
        """
        size, replicas, depth = len(self.replicas.node), self.copies, None
        if trim:
            depth = replicas.source.node_depth[torch.cat([self.replicas.node, replicas.node])]
        reached = torch.cat([torch.ones_like(touched[:size]), differs])
        # What a node sends is divided by its degree.
        spreading = reached if all(ratio is None for ratio in self.ratio) else reached | touched
        at = [reached.nonzero().flatten()]
        for route in self.plan.routes:
            assert route.coefficients is not None
            sender = spreading[size:].nonzero().flatten() + size
            ptr, receiver, _ = self._matrix(route.coefficients).csr.transposed
            entry, entry_ptr = gather_segments(ptr, self.copied.index_select(0, sender))
            reached = reached | touched
            shift = torch.repeat_interleave(self.node_shift.index_select(0, sender), entry_ptr.diff())
            reached[receiver.index_select(0, entry) + shift] = True
            if gone is not None:
                reached &= ~gone
            if depth is not None:
                reached &= depth <= route.remaining
            spreading = rows = reached
            if unequal:
                spare = ~reached if gone is None else ~reached & ~gone
                spare[:size] = False
                rows = _with_more(reached, spare if depth is None else spare & (depth <= route.remaining), at)
            at.append(rows.nonzero().flatten())
        return at

    def features(
        self, features: Features | None, x: Shaped[Tensor, "nodes ..."] | None
    ) -> Shaped[Tensor, "rows ..."] | Coded | None:
        """What enters the model, if the variants' features are `x`; `None` where they are as they were."""
        original = self.replicas
        others = self.at[0][len(original.node) :] - len(original.node)
        if len(others) == 0 and features is not None:
            return plain(features, original.node_id)
        if x is None or original.x is None:
            return original.x
        if x.dtype == original.x.dtype:
            return torch.cat([original.x, x[others]])
        assert self.copies.x is not None
        assert original.features is not None
        return Coded(torch.cat([original.x, self.copies.x[others]]), torch.cat([original.features, x[others]]))

    def start(self, mask: Shaped[Tensor, " slots"] | None) -> None:
        """Begin a forward pass."""
        assert mask is None
        super().start(None if self.structural else torch.tensor([0, 1], device=self.removed.device))

    def rows(self, number: int) -> int:
        """How many rows call `number` has to compute."""
        return len(self.at[number + 1])

    def receivers(self, number: int, x: Shaped[Tensor, "entering ..."]) -> Shaped[Tensor, "rows ..."]:
        """The rows that call `number` computes, out of those that enter it."""
        index = self.place[number].index_select(0, self.at[number + 1])
        return plain(x.features, x.node[index]) if isinstance(x, MaskedFeatures) else x.index_select(0, index)

    def finish(self, out: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "outputs ..."]:
        """All nodes of the variants, or their targets."""
        return out.index_select(0, self.place[-1].index_select(0, self.wanted))

    def placed(self, rows: Int[Tensor, "outputs roots"]) -> Int[Tensor, "outputs roots"]:
        """See `Propagation`; what `finish` returns is one row for each root."""
        return torch.arange(rows.numel(), device=rows.device).reshape(rows.shape)

    def _masked(self, position: int, level: Matrix) -> Float[Tensor, " entries"]:
        assert level.coefficient is not None
        return level.coefficient

    def _level(self, number: int, columns: int, heads: int = 1) -> Matrix:
        """The rows that call `number` computes, copied from the originals' matrix without what is removed."""
        (position, coefficients), at = self._of(number), self.at[number + 1]
        matrix = self._matrix(position)
        entry, ptr = gather_segments(matrix.csr.ptr, self.copied.index_select(0, at))
        counts = ptr.diff()
        row = torch.repeat_interleave(at, counts)
        slot = matrix.slot.index_select(0, entry)
        loop = slot == len(self.replicas.edge)
        slot = torch.where(loop, len(self.removed) - 1, slot + self.edge_shift.index_select(0, row))
        kept = ~self.removed.index_select(0, slot)
        if self.structural or not coefficients.attention:  # attention under a mask sees the edge still
            remaining = kept.nonzero().flatten()
            entry, row, slot = (values.index_select(0, remaining) for values in (entry, row, slot))
            ptr = pointers(kept.long()).index_select(0, ptr)
        column = matrix.csr.col.index_select(0, entry) + self.node_shift.index_select(0, row)
        csr = Csr(ptr, self.place[number].index_select(0, column), columns)
        if coefficients.attention:
            return Matrix(csr, (~self.removed[slot]).long(), None).by_head(heads)
        assert matrix.coefficient is not None
        coefficient, ratio = matrix.coefficient.index_select(0, entry), self.ratio[position]
        if ratio is not None:
            coefficient = coefficient * (ratio[row] * ratio[column]).to(coefficient.dtype)
        if coefficients.mean and self.structural:
            left = ptr.diff()
            coefficient = coefficient * torch.repeat_interleave(counts.to(coefficient.dtype) / left.clamp(min=1), left)
        return Matrix(csr, slot, coefficient)


def _with_more(rows: Bool[Tensor, " places"], spare: Bool[Tensor, " places"], earlier: Sequence[Tensor]) -> Tensor:
    """Rows and as many spare ones as make their number another than those of earlier calls.

    Raises:
        InputError: if there are too few.
    """
    sizes, count = {len(at) for at in earlier}, int(rows.sum())
    more = next(number for number in range(len(sizes) + 1) if count + number not in sizes)
    places = spare.nonzero().flatten()[:more]
    if len(places) < more:
        raise InputError("expected rows that the change does not reach, got none")
    return rows.index_fill(0, places, True)


def _shifts(original: Replicas, replicas: Replicas) -> tuple[Int[Tensor, " places"], Int[Tensor, " places"]]:
    """What has to be added to a node and to an edge of the original to get that of the variant, by place."""
    which = torch.searchsorted(original.instance, replicas.instance)
    node, edge = (
        size
        + pointers(torch.bincount(owner, minlength=len(replicas)))[:-1]
        - pointers(torch.bincount(own, minlength=len(original)))[which]
        for size, owner, own in (
            (len(original.node), replicas.node_owner, original.node_owner),
            (len(original.edge), replicas.edge_owner, original.edge_owner),
        )
    )
    none = torch.zeros_like(original.node)
    owner = replicas.node_owner
    return torch.cat([none, node.index_select(0, owner)]), torch.cat([none, edge.index_select(0, owner)])


def _ratio(before: Float[Tensor, " nodes"], lost: Float[Tensor, " nodes"], size: int) -> Float[Tensor, " places"]:
    """√(degree before / degree after) of each place, 1 for the first `size`, the originals; 0 where no degree is left."""
    after = before - lost
    ratio = torch.where(none_left(before, after), 0, before / after).sqrt()
    return torch.cat([ratio.new_ones(size), ratio])
