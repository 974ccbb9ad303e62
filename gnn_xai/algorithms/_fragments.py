"""How molecules and other graphs are cut into fragments."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnn_xai.algorithms._ablation import Fragments, node_fragments, single_edges
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.errors import InputError

FragmentKind = Literal["auto", "parts", "functional_groups", "rings", "brics", "scaffold", "atoms", "bonds"]


def check_replacement(method: Any) -> None:
    """Check that no bond is to be replaced.

    Raises:
        InputError: if one is.
    """
    if method.replacement is not None and method.kind == "bonds":
        raise InputError(
            f"expected {type(method).__name__}(replacement=None) for kind='bonds', got {method.replacement!r}; a bond "
            "has no features to replace"
        )


def fragments_of(session: Session, graphs: ComputationGraphs, kind: FragmentKind, replacement: str | None) -> Fragments:
    """The fragments of computation graphs, as far as they are in play.

    Args:
        session: the problem and how to run it.
        graphs: B computation graphs.
        kind: what to cut by, see `gnn_xai.FragmentAblation`.
        replacement: `carbon`, or `None` to remove nodes.

    Raises:
        InputError: the data does not say what its fragments are.
    """
    if kind == "bonds":
        return single_edges(session, graphs)
    explained = _explained(graphs)
    number = _numbers(graphs.graphs, explained, kind)
    neutral = None if replacement is None else _neutral(graphs.graphs, explained)
    return node_fragments(graphs, number, neutral)


def _explained(graphs: ComputationGraphs) -> list[int]:
    """The graphs of the data that instances are of."""
    return graphs.graph.unique().tolist()


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
    starts = source.node_ptr.tolist()
    for graph in which:
        mol = checked(_graph(source, graph, smiles[graph]), f"graph {graph}")
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
        start = starts[graph]
        mol = checked(_graph(source, graph, smiles[graph]), f"graph {graph}")
        end = start + mol.GetNumAtoms()  # a virtual node is no atom
        out[start:end] = neutral(mol, x[start:end].cpu()).to(x)
    return out


def _graph(source: Graphs, number: int, smiles: str) -> Data:
    """One of the graphs, as far as it tells which atoms its nodes are."""
    nodes, edges = (slice(*ptr[number : number + 2].tolist()) for ptr in (source.node_ptr, source.edge_ptr))
    z = {"z": source.node_attrs["z"][nodes]} if "z" in source.node_attrs else {}
    ends = source.edge_index[:, edges] - nodes.start
    return Data(edge_index=ends, num_nodes=nodes.stop - nodes.start, smiles=smiles, **z)


def _carried(source: Graphs, name: str) -> Tensor | None:
    """A tensor that the data carries for its nodes; one for each graph if these have one node each."""
    value = source.node_attrs.get(name)
    return source.graph_attrs.get(name) if value is None and source.num_nodes == source.num_graphs else value


def _smiles(source: Graphs) -> list[str] | None:
    """The SMILES of each graph, if the data carries them."""
    smiles = source.lists.get("smiles", [source.other.get("smiles")])
    return smiles if len(smiles) == source.num_graphs and all(isinstance(text, str) for text in smiles) else None
