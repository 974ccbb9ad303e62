"""IncrementalPropagation of instances that compute only what a change has reached.

A layer carries a change one step further: before it has arrived, a row of a variant is that of the original. So the
originals run once, in the same forward pass, and a variant adds only the rows that differ: after the first layer those
at the removed edges, after the second their neighbours, and so on. Layers read all other rows from the original. In one
space, *places*, the nodes of the originals come first, then those of the variants; the *rows* of a layer are the places
that it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gnn_xai.core.arrays.segments import gather_segments, pointers
from gnn_xai.core.arrays.sparse import Csr
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import Replicas
from gnn_xai.core.inputs.embeddings import Coded
from gnn_xai.core.inputs.features import Features, MaskedFeatures, plain
from gnn_xai.core.propagation.coefficients import Coefficients
from gnn_xai.core.propagation.fused import Matrix, Propagation
from gnn_xai.core.propagation.plan import Plan


def followable(session: Session, structural: bool) -> bool:
    """Whether a plan lets changes be followed: every call is fused, and no removed self loop makes a layer add one."""
    plan, graphs = session.plan, session.problem.graphs
    if plan is None or session.alone or any(r.form is None or r.form.receiver is not None for r in plan.routes):
        return False
    adds = structural and any(coefficients.adds is not None for coefficients in plan.coefficients)
    return not (adds and bool((graphs.edge_index[0] == graphs.edge_index[1]).any()))


class IncrementalPropagation(Propagation):
    """A plan on a union of variants and on their originals.

    Args:
        plan: all of whose calls are fused.
        original: the originals, each once, in the order of the variants.
        replicas: the variants, before anything is removed, with nodes by instance.
        edges: `[ΣE]` bool, removed edges of `union`.
        nodes: `[ΣN]` bool, nodes that are taken out, or `None`.
        differs: `[ΣN]` bool, nodes whose features are others.
        lost: `[ΣN]` for each layout, what nodes lose of their degrees; `None` where messages are multiplied by 0.
    """

    def __init__(
        self,
        plan: Plan,
        original: Replicas,
        replicas: Replicas,
        edges: Tensor,
        nodes: Tensor | None,
        differs: Tensor,
        lost: Sequence[Tensor] | None,
    ) -> None:
        super().__init__(replace(plan, trim=False, shrink=True), original)
        self.structural, self.copies = lost is not None, replicas
        size, device = len(original.node), edges.device
        which = torch.searchsorted(original.instance, replicas.instance)
        node_shift, edge_shift = (
            size_of_original
            + pointers(torch.bincount(owner, minlength=len(replicas)))[:-1]
            - pointers(torch.bincount(own, minlength=len(original)))[which]
            for size_of_original, owner, own in (
                (size, replicas.node_owner, original.node_owner),
                (len(original.edge), replicas.edge_owner, original.edge_owner),
            )
        )
        originals = torch.arange(size, device=device)
        # What has to be added to a node or an edge of the original to get that of the variant, by place.
        self.node_shift = torch.cat([torch.zeros_like(originals), node_shift[replicas.node_owner]])
        self.edge_shift = torch.cat([torch.zeros_like(originals), edge_shift[replicas.node_owner]])
        self.copied = torch.arange(len(self.node_shift), device=device) - self.node_shift
        self.removed = torch.cat([edges.new_zeros(len(original.edge)), edges, edges.new_zeros(1)])

        touched = torch.zeros_like(self.node_shift, dtype=torch.bool)
        touched[replicas.edge_index[:, edges].flatten() + size] = True
        reached = torch.cat([torch.ones_like(originals, dtype=torch.bool), differs])
        spreading = reached
        self.ratio: dict[int, Tensor] = {}
        for coefficients, loss in zip(plan.coefficients, lost or (), strict=self.structural):
            if coefficients.degree is None:
                continue
            before = coefficients.degree[replicas.node_id]
            after = before - loss
            # What is left of a degree whose edges are all gone is rounding.
            ratio = torch.where(after <= 1e-6 * before, 0, before / after).sqrt()
            self.ratio[id(coefficients)] = torch.cat([ratio.new_ones(size), ratio])
            touched[size:] |= loss != 0
            spreading = reached | touched  # what a node sends is divided by its degree
        gone = None if nodes is None else torch.cat([nodes.new_zeros(size), nodes])
        depth = None
        if plan.trim:
            depth = replicas.source.node_depth[torch.cat([original.node, replicas.node])]

        self.at = [reached.nonzero().flatten()]
        for number, route in enumerate(plan.routes):
            assert route.coefficients is not None
            sender = spreading[size:].nonzero().flatten() + size
            ptr, receiver, _ = self._matrix(route.coefficients).csr.transposed
            entry, entry_ptr = gather_segments(ptr, self.copied[sender])
            reached = reached | touched
            reached[receiver[entry] + torch.repeat_interleave(self.node_shift[sender], entry_ptr.diff())] = True
            if gone is not None:
                reached &= ~gone
            if depth is not None:
                reached &= depth <= len(plan.routes) - 1 - number
            self.at.append(reached.nonzero().flatten())
            spreading = reached
        # The row that enters a call for each place: its own, or that of its original.
        self.place = []
        for at in self.at:
            own = torch.full_like(self.copied, -1).index_copy(0, at, torch.arange(len(at), device=device))
            self.place.append(torch.where(own < 0, own[self.copied], own))
        if replicas.rows is None:
            kept = slice(None) if nodes is None else ~nodes
            self.wanted = torch.arange(size, len(self.node_shift), device=device)[kept]
        else:
            self.wanted = replicas.rows + size

    def features(self, features: Features | None, x: Tensor | None) -> Tensor | Coded | None:
        """What enters the model, if the variants' features are `x` `[ΣN, ...]`; `None` where they are as they were."""
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

    def start(self, mask: Tensor | None) -> None:
        """Begin a forward pass."""
        assert mask is None
        super().start(None if self.structural else torch.tensor([0, 1], device=self.removed.device))

    def rows(self, number: int) -> int:
        """How many rows call `number` has to compute."""
        return len(self.at[number + 1])

    def receivers(self, number: int, x: Tensor) -> Tensor:
        """The rows that call `number` computes, out of those that enter it."""
        index = self.place[number][self.at[number + 1]]
        return plain(x.features, x.node[index]) if isinstance(x, MaskedFeatures) else x.index_select(0, index)

    def finish(self, out: Tensor) -> Tensor:
        """All nodes of the variants, or their targets."""
        return out.index_select(0, self.place[-1][self.wanted])

    def _coefficients(self, coefficients: Coefficients, level: Matrix) -> Tensor:
        assert level.coefficient is not None
        return level.coefficient

    def _level(self, number: int, columns: int, heads: int = 1) -> Matrix:
        """The rows that call `number` computes, copied from the originals' matrix without what is removed."""
        coefficients, at = self.plan.routes[number].coefficients, self.at[number + 1]
        assert coefficients is not None
        matrix = self._matrix(coefficients)
        counts = matrix.csr.ptr.diff()[self.copied[at]]
        entry, ptr = gather_segments(matrix.csr.ptr, self.copied[at])
        row = torch.repeat_interleave(at, counts)
        slot = matrix.slot[entry]
        loop = slot == len(self.replicas.edge)
        slot = torch.where(loop, len(self.removed) - 1, slot + self.edge_shift[row])
        kept = ~self.removed[slot]
        if self.structural or not coefficients.attention:  # attention under a mask sees the edge still
            entry, row, slot, ptr = entry[kept], row[kept], slot[kept], pointers(kept.long())[ptr]
        column = matrix.csr.col[entry] + self.node_shift[row]
        csr = Csr(ptr, self.place[number][column], columns)
        if coefficients.attention:
            return Matrix(csr, (~self.removed[slot]).long(), None).by_head(heads)
        assert matrix.coefficient is not None
        coefficient = matrix.coefficient[entry]
        ratio = self.ratio.get(id(coefficients))
        if ratio is not None:
            coefficient = coefficient * ratio[row] * ratio[column]
        if coefficients.mean and self.structural:
            left = ptr.diff()
            coefficient = coefficient * torch.repeat_interleave(counts.to(coefficient.dtype) / left.clamp(min=1), left)
        return Matrix(csr, slot, coefficient)
