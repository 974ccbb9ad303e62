"""A deterministic layout of the nodes of a drawing, without SciPy."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

CLEARED = 200_000
"""Lines times nodes of a drawing up to which nodes are moved off lines; beyond, discs are too small to be hit."""


def stress_layout(graph: nx.Graph, first: object = None) -> dict[Any, np.ndarray]:
    """Positions in which drawn distance follows graph distance, one unit an edge.

    Each component is laid out by stress majorisation (Gansner, Koren and North 2004, "Graph drawing
    by stress majorization"), turned so that its long side lies horizontally, nodes move off the lines that they do not
    end, and the components are packed in rows. networkx's own stress layout, `kamada_kawai_layout`, needs SciPy and spreads
    components at random.

    Args:
        graph: any graph; edge directions do not matter. Distances are an [n, n] matrix per
            component, so this is meant for the hundreds of nodes that a person can look at.
        first: a node whose component is placed first, at the top left; by default the largest is.

    Returns:
        A position [2] for every node.
    """
    skeleton = nx.Graph(graph)
    components = sorted(nx.connected_components(skeleton), key=lambda c: (first not in c, -len(c)))
    blocks = []
    for component in components:
        nodes = _in_order(component)
        place = {node: number for number, node in enumerate(nodes)}
        lines = [(place[u], place[v]) for u, v in skeleton.subgraph(nodes).edges if u != v]
        blocks.append(
            (nodes, _clear(_place_component(_hops(skeleton, nodes)), np.array(lines, dtype=int).reshape(-1, 2)))
        )
    return _pack(blocks)


def _in_order(nodes: set) -> list:
    try:
        return sorted(nodes)
    except TypeError:  # labels of several types
        return sorted(nodes, key=repr)


def _hops(graph: nx.Graph, nodes: list) -> np.ndarray:
    """Shortest-path lengths [n, n] within one connected component."""
    column = {node: i for i, node in enumerate(nodes)}
    hops = np.zeros((len(nodes), len(nodes)))
    for node in nodes:
        for other, length in nx.single_source_shortest_path_length(graph, node).items():
            hops[column[node], column[other]] = length
    return hops


def _place_component(hops: np.ndarray, steps: int = 200, tolerance: float = 1e-5) -> np.ndarray:
    """Positions [n, 2] that minimise sum_ij (|x_i - x_j| - hops_ij)^2 / hops_ij^2."""
    n = len(hops)
    if n == 1:
        return np.zeros((1, 2))
    centring = np.eye(n) - 1.0 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ hops**2 @ centring)
    x = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0.0))
    # Nodes with the same neighbours start in the same spot; a fixed jitter lets them part.
    x = x + np.random.default_rng(0).normal(scale=0.05, size=x.shape)

    weight = np.divide(1.0, hops**2, out=np.zeros_like(hops), where=hops > 0)
    inverse = np.linalg.pinv(np.diag(weight.sum(1)) - weight)
    previous = np.inf
    for _ in range(steps):
        drawn = np.linalg.norm(x[:, None] - x[None], axis=-1)
        stress = float((weight * (drawn - hops) ** 2).sum())
        if previous - stress <= tolerance * max(stress, 1e-12):
            break
        previous = stress
        pull = -np.divide(weight * hops, drawn, out=np.zeros_like(drawn), where=drawn > 1e-9)
        np.fill_diagonal(pull, -pull.sum(1))
        x = inverse @ (pull @ x)
    return _part(_turn(x))


def _turn(x: np.ndarray) -> np.ndarray:
    """Rotate the widest direction to the horizontal, with signs that do not depend on LAPACK."""
    x = x - x.mean(0)
    _, axes = np.linalg.eigh(x.T @ x)
    x = x @ axes[:, ::-1]
    strongest = np.abs(x).argmax(0)
    return x * np.where(x[strongest, [0, 1]] < 0, -1.0, 1.0)


def _part(x: np.ndarray, apart: float = 0.45, steps: int = 100) -> np.ndarray:
    """Push nodes closer than `apart` away from each other: stress alone lets hubs overlap."""
    for _ in range(steps):
        offset = x[:, None] - x[None]
        drawn = np.linalg.norm(offset, axis=-1) + np.eye(len(x)) * apart
        gap = np.clip(apart - drawn, 0.0, None)
        if gap.max() < 1e-3:
            break
        x = x + 0.5 * (offset * (gap / np.maximum(drawn, 1e-9))[..., None]).sum(1)
    return x


def _clear(x: np.ndarray, lines: np.ndarray, apart: float = 0.22, steps: int = 60) -> np.ndarray:
    """Push nodes off lines that pass them closer than `apart`, and their ends the other way; the clearest state.

    Args:
        x: `[n, 2]`.
        lines: `[l, 2]` the nodes at both ends of each.
    """
    if not 0 < len(lines) * len(x) <= CLEARED:
        return x
    best, least = x, np.inf
    for _ in range(steps):
        start, along = x[lines[:, 0]], x[lines[:, 1]] - x[lines[:, 0]]
        length = np.maximum((along**2).sum(1), 1e-12)
        share = np.einsum("lnc,lc->ln", x[None] - start[:, None], along) / length[:, None]
        aside = x[None] - start[:, None] - share[..., None] * along[:, None]
        distance = np.linalg.norm(aside, axis=-1)
        gap = np.where((share > 0) & (share < 1), np.clip(apart - distance, 0.0, None), 0.0)
        gap[np.arange(len(lines))[:, None], lines] = 0.0
        if gap.sum() < least:
            best, least = x, gap.sum()
        if least < 1e-3:
            break
        across = np.stack([-along[:, 1], along[:, 0]], 1) / np.sqrt(length)[:, None]
        side = np.where(np.einsum("lnc,lc->ln", aside, across) < 0, -1.0, 1.0)  # a node on the line goes to the left
        push = (gap * side)[..., None] * across[:, None]
        shift = push.sum(0)
        for end, weight in ((0, 1 - share), (1, share)):
            np.add.at(shift, lines[:, end], -(weight[..., None] * push).sum(1))
        size = np.linalg.norm(shift, axis=1, keepdims=True)
        x = _part(x + 0.5 * shift * np.minimum(1.0, 0.5 / np.maximum(size, 1e-9)), steps=3)
    return best


def _pack(blocks: list[tuple[list, np.ndarray]], gap: float = 1.0) -> dict[Any, np.ndarray]:
    """Set components in rows of about the width that makes the whole drawing 4:3."""
    sizes = [np.ptp(x, axis=0) + gap for _, x in blocks]
    width = max([float(np.sqrt(4 / 3 * sum(s.prod() for s in sizes))), *(float(s[0]) for s in sizes)], default=0)
    positions: dict[Any, np.ndarray] = {}
    left = top = row = 0.0
    for (nodes, x), size in zip(blocks, sizes, strict=True):
        if left > 0 and left + size[0] > width + 1e-9:
            left, top, row = 0.0, top - row, 0.0
        corner = np.array([x[:, 0].min(), x[:, 1].max()])
        positions.update(zip(nodes, x - corner + [left, top], strict=True))
        left, row = left + size[0], max(row, size[1])
    return positions
