"""What the fragment algorithms remove: fragments of computation graphs, each whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from gnn_xai.algorithms.base import require_one_of
from gnn_xai.core.arrays.segments import pointers, segment_sum
from gnn_xai.core.engines.evaluate import REMOVALS, Change
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.problem import OBJECTIVES
from gnn_xai.errors import InputError

FragmentKind = Literal["auto", "parts", "functional_groups", "rings", "brics", "scaffold", "atoms", "bonds"]
KINDS: tuple[FragmentKind, ...] = (
    "auto",
    "parts",
    "functional_groups",
    "rings",
    "brics",
    "scaffold",
    "atoms",
    "bonds",
)


@dataclass(frozen=True, eq=False)
class Fragments:
    """K fragments of B computation graphs, by instance; fragments of nodes, or of edges.

    Attributes:
        graphs: the computation graphs.
        of_edges: they consist of edges.
        of: `[ΣN]` or `[ΣE]` the fragment of each node or edge, -1 for none.
        owner: `[K]` the instance of each fragment; sorted.
        key: `[K]` what random numbers of a fragment are keyed by.
        neutral: `[N, ...]` features that stand in for a node instead of removing it, or `None`.
        number: `[ΣN]` number of its fragment within its graph, -1 for none; `None` where fragments are single.
    """

    graphs: ComputationGraphs
    of_edges: bool
    of: Tensor
    owner: Tensor
    key: Tensor
    neutral: Tensor | None
    number: Tensor | None

    @cached_property
    def ptr(self) -> Tensor:
        """Where the fragments of each instance start, `[B + 1]`."""
        return pointers(torch.bincount(self.owner, minlength=len(self.graphs)))

    def members(self, replicas: Replicas) -> tuple[Tensor, Tensor]:
        """The fragment, -1 for none, and the replica of each node or edge of a union."""
        if self.of_edges:
            return self.of[replicas.edge], replicas.edge_owner
        return self.of[replicas.node], replicas.node_owner

    def change(self, replicas: Replicas, absent: Tensor) -> Change:
        """The change that takes out some nodes or edges `[ΣN]` or `[ΣE]` bool.

        An explained node stays, with features 0 (see `NodeAblation`) and its edges; so does one node of a graph of which
        nothing would be left, without edges.
        """
        if self.of_edges:
            return Change(edges=absent)
        x = replicas.x
        rows = (-1, *[1] * (x.dim() - 1)) if x is not None else ()
        if self.neutral is not None and x is not None:
            return Change(x=torch.where(absent.reshape(rows), self.neutral[replicas.node_id], x))
        stays, edges = torch.zeros_like(absent), None
        if replicas.rows is not None:
            stays[replicas.rows] = True
        else:
            position = torch.arange(len(absent), device=absent.device)
            left = segment_sum((~absent).long(), replicas.node_owner, len(replicas))
            first = torch.full_like(left, len(absent)).scatter_reduce(0, replicas.node_owner, position, "amin")
            stays[first[left == 0]] = True
        stays &= absent
        if bool(stays.any()):
            edges = stays[replicas.edge_index].any(0) if replicas.rows is None else None
            x = None if replicas.features is None else replicas.features.masked_fill(stays.reshape(rows), 0)
        else:
            x = None
        return Change(edges=edges, nodes=absent & ~stays, x=x)

    def masks(self, scores: Tensor, **more: Tensor) -> Scores:
        """Scores of fragments `[K]` as those of all their nodes or edges; more such values as extras."""

        def spread(values: Tensor) -> Tensor:
            inside = self.of >= 0
            if self.of_edges:
                inside = inside & self.graphs.edge_in_play
            return values.new_zeros(len(self.of)).masked_scatter(inside, values[self.of[inside]])

        level = "edge" if self.of_edges else "node"
        extras = {f"{level}_{name}": spread(values) for name, values in more.items()}
        if self.number is not None:
            extras["node_fragment"] = self.number
        if self.of_edges:
            return Scores(edge=spread(scores), extras=extras)
        return Scores(node=spread(scores).unsqueeze(1), node_type="object", extras=extras)


def require_fragment_fields(owner: Any) -> None:
    """Check the fields that both fragment algorithms have.

    Raises:
        InputError: naming the first that is wrong.
    """
    require_one_of(owner, "kind", KINDS)
    require_one_of(owner, "removal", REMOVALS)
    require_one_of(owner, "replacement", (None, "carbon"))
    require_one_of(owner, "objective", OBJECTIVES)
    if owner.replacement is not None and owner.kind == "bonds":
        raise InputError(
            f"expected {type(owner).__name__}(replacement=None) for kind='bonds', got {owner.replacement!r}; a bond has no "
            "features to replace"
        )


def fragments_of(session: Session, graphs: ComputationGraphs, kind: FragmentKind, replacement: str | None) -> Fragments:
    """The fragments of computation graphs, as far as they are in play.

    Args:
        session: what is asked.
        graphs: B computation graphs.
        kind: what to cut by, see `gnn_xai.FragmentAblation`.
        replacement: `carbon`, or `None` to remove nodes.

    Raises:
        InputError: the data does not say what its fragments are.
    """
    if kind == "bonds":
        first, unit = session.removable(graphs)
        return Fragments(graphs, True, unit, graphs.edge_owner[first], session.edge_key(graphs)[first], None, None)
    source = graphs.graphs
    number = _numbers(source, _explained(graphs), kind)
    own = torch.arange(source.num_nodes, device=source.device) if number is None else number
    local = torch.where(graphs.node_in_play, own[graphs.node], -1)
    inside = (local >= 0).nonzero().flatten()
    width = int(local.max()) + 1 if len(local) else 1
    found, which = torch.unique(graphs.node_owner[inside] * width + local[inside], return_inverse=True)
    of = torch.full_like(local, -1).index_copy(0, inside, which)
    key = torch.full_like(found, torch.iinfo(torch.int64).max)
    key = key.scatter_reduce(0, which, source.node_key[graphs.node[inside]], "amin")
    neutral = None if replacement is None else _neutral(source, _explained(graphs))
    return Fragments(graphs, False, of, found // width, key, neutral, None if number is None else local)


def _explained(graphs: ComputationGraphs) -> list[int]:
    """The graphs of the data that instances are of."""
    index = graphs.index if graphs.root is None else graphs.graphs.batch[graphs.index]
    return index.unique().tolist()


def _numbers(source: Graphs, which: list[int], kind: FragmentKind) -> Tensor | None:
    """The number of each node's fragment within its graph, `[N]`, -1 for none; `None` for single nodes."""
    if kind == "atoms":
        return None
    carried = _carried(source, "fragment")
    if kind == "auto" and carried is not None:
        if carried.is_floating_point() or carried.dim() != 1:
            raise InputError(
                f"expected data.fragment as one integer for each node, got {carried.dtype} of shape {list(carried.shape)}"
            )
        return carried.long()
    smiles = _smiles(source)
    if smiles is None:
        if kind == "auto":
            return None
        raise InputError(
            f"expected molecules that carry smiles for kind={kind!r}, got graphs without; use kind='atoms' or 'bonds' for "
            "single nodes or edges, or set data.fragment to the number of each node's fragment"
        )
    from gnn_xai.molecules.fragments import checked, cut

    number = torch.full_like(source.batch, -1)
    sizes, starts = source.node_ptr.diff().tolist(), source.node_ptr.tolist()
    for graph in which:
        mol = checked(smiles[graph], sizes[graph], f"graph {graph}")
        for position, fragment in enumerate(cut(mol, "parts" if kind == "auto" else kind)):
            number[[starts[graph] + atom for atom in fragment.atoms]] = position
    return number


def _neutral(source: Graphs, which: list[int]) -> Tensor:
    """Features of a neutral atom in the place of each node, `[N, ...]`; those of other graphs than `which` as they are."""
    carried, smiles, x = _carried(source, "x_neutral"), _smiles(source), source.x
    if x is None:
        raise InputError("expected data with node features x for replacement='carbon', got none")
    if carried is not None:
        if carried.shape != x.shape:
            raise InputError(f"expected data.x_neutral of shape {list(x.shape)}, as x, got {list(carried.shape)}")
        return carried.to(x.dtype)
    if smiles is None:
        raise InputError(
            "expected molecules that carry smiles for replacement='carbon', got graphs without; set data.x_neutral, the "
            "features of a neutral node in the place of each, or remove fragments with replacement=None"
        )
    from gnn_xai.molecules.fragments import checked, neutral

    out = x.clone()
    starts = source.node_ptr.tolist()
    for graph in which:
        start, end = starts[graph], starts[graph + 1]
        mol = checked(smiles[graph], end - start, f"graph {graph}")
        out[start:end] = neutral(mol, x[start:end].cpu()).to(x)
    return out


def _carried(source: Graphs, name: str) -> Tensor | None:
    """A tensor that the data carries for its nodes; one for each graph if these have one node each."""
    value = source.node_attrs.get(name)
    return source.graph_attrs.get(name) if value is None and source.num_nodes == source.num_graphs else value


def _smiles(source: Graphs) -> list[str] | None:
    """The SMILES of each graph, if the data carries them."""
    smiles = source.other.get("smiles")
    smiles = [smiles] if isinstance(smiles, str) else smiles
    if not isinstance(smiles, (list, tuple)) or len(smiles) != source.num_graphs:
        return None
    return list(smiles) if all(isinstance(each, str) for each in smiles) else None
