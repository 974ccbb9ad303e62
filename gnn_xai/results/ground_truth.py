"""Ground truth: the edges and nodes that are the reason of a prediction, where the maker of the data knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.errors import InputError

if TYPE_CHECKING:
    from gnn_xai.results.explanations import Explanations


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The true elements of every instance, as a motif id per edge and per node (-1: no motif).

    Node level: one tensor for the edges and one for the nodes of the graph. Node ``i`` is explained
    by the motif it lies in, so an element ``a`` with motif id ``m(a)`` is true for instance ``i``
    exactly if ``m(a) >= 0 and m(a) == m(i)``; a node outside all motifs has no true element. Edge
    level: the same with the motifs of both nodes of a pair.

    Graph level: one tensor per graph, ids local to it. All its motifs explain a graph's label:
    ``a`` is true exactly if ``m(a) >= 0``.

    Args:
        edge: int ``[E]``, or a sequence of ``[E_g]`` with one tensor per graph.
        node: int ``[N]``, or a sequence of ``[N_g]``.

    Raises:
        InputError: the two do not have the same form, or are not integers of one dimension.

    Two triangles 0-1-2 and 3-4-5, joined by the edge 2-3. For node 1 its own triangle is true, for
    node 4 the other one, and the joining edge (id 3) never is:

    >>> from types import SimpleNamespace
    >>> import torch
    >>> truth = GroundTruth(
    ...     edge=torch.tensor([0, 0, 0, -1, 1, 1, 1]),  # 0-1, 1-2, 2-0, 2-3, 3-4, 4-5, 5-3
    ...     node=torch.tensor([0, 0, 0, 1, 1, 1]),
    ... )
    >>> explanations = SimpleNamespace(  # node 1 sees edges 0 to 3, node 4 sees edges 3 to 6
    ...     index=torch.tensor([1, 4]),
    ...     edge_ptr=torch.tensor([0, 4, 8]), edge_id=torch.tensor([0, 1, 2, 3, 3, 4, 5, 6]),
    ... )
    >>> truth.edges(explanations).long().tolist()
    [1, 1, 1, 0, 0, 1, 1, 1]
    """

    edge: Tensor | Sequence[Tensor]
    node: Tensor | Sequence[Tensor]

    def __post_init__(self) -> None:
        if isinstance(self.edge, Tensor) != isinstance(self.node, Tensor):
            raise InputError(
                "edge and node of a GroundTruth must have one form: two tensors (node level) or "
                f"two sequences with a tensor per graph, got {type(self.edge).__name__} and "
                f"{type(self.node).__name__}"
            )
        if self.per_graph and len(self.edge) != len(self.node):
            raise InputError(
                "a GroundTruth for graphs needs one edge and one node tensor per graph, "
                f"got {len(self.edge)} and {len(self.node)}"
            )
        for what, motif in (("edge", self.edge), ("node", self.node)):
            for tensor in [motif] if isinstance(motif, Tensor) else motif:
                if tensor.dim() != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
                    raise InputError(
                        f"{what} of a GroundTruth must hold motif ids, an integer tensor of one "
                        "dimension with -1 for no motif, got "
                        f"{tensor.dtype} of shape {tuple(tensor.shape)}; a boolean truth becomes "
                        "motif ids by 'truth.long() - 1'"
                    )

    @property
    def per_graph(self) -> bool:
        """The truth of a graph-level task, with tensors per graph."""
        return not isinstance(self.edge, Tensor)

    def edges(self, explanations: Explanations) -> Tensor:
        """True edges among the explained ones: bool ``[sumE]``, in the order of ``edge_id``.

        Raises:
            InputError: an instance, edge or node id lies outside of this truth.
        """
        return self._true("edge", explanations)

    def nodes(self, explanations: Explanations) -> Tensor:
        """True nodes among the explained ones: bool ``[sumN]``, in the order of ``node_id``.

        Raises:
            InputError: an instance, edge or node id lies outside of this truth.
        """
        return self._true("node", explanations)

    def check(self, explanations: Explanations) -> None:
        """Compare this truth with the data of explanations, as far as they know it (after loading they do not).

        Raises:
            InputError: the truth has another form than their task, or another number of graphs, edges or nodes.
        """
        level = explanations.task.task_level.value
        if self.per_graph != (level == "graph"):
            form = "one tensor per graph" if level == "graph" else "one tensor for all"
            raise InputError(
                f"expected a GroundTruth with {form} edges and nodes for a {level}-level task, got "
                f"{'one per graph' if self.per_graph else 'one for all'}"
            )
        if explanations.data is None:
            return
        for what, motif, sizes in zip(("edge", "node"), (self.edge, self.node), _sizes(explanations.data), strict=True):
            expected = sizes if self.per_graph else [sum(sizes)]
            actual = [len(graph) for graph in ([motif] if isinstance(motif, Tensor) else motif)]
            if len(actual) != len(expected):
                raise InputError(
                    f"expected a GroundTruth for the {len(expected)} graphs of the data, got one for {len(actual)}"
                )
            wrong = next((graph for graph, size in enumerate(expected) if size != actual[graph]), None)
            if wrong is not None:
                where = f" of graph {wrong}" if self.per_graph else ""
                raise InputError(
                    f"expected a GroundTruth with a motif id for each of the {expected[wrong]} {what}s{where}, got "
                    f"{actual[wrong]}; explanations and ground truth must be of the same data"
                )

    def _true(self, what: str, explanations: Explanations) -> Tensor:
        motif, node, index = getattr(self, what), self.node, explanations.index
        ids, counts = getattr(explanations, f"{what}_id"), getattr(explanations, f"{what}_ptr").diff()
        device = ids.device
        if isinstance(motif, Tensor) and isinstance(node, Tensor):
            _require_within(ids, len(motif), what)
            _require_within(index, len(node), "node")
            own = node.to(device)[index.reshape(len(index), -1)].repeat_interleave(counts, 0)
            motifs = motif.to(device)[ids]
            return (motifs >= 0) & (motifs.unsqueeze(1) == own).any(1)
        _require_within(index, len(motif), "graph")
        if not len(index):
            return torch.zeros(0, dtype=torch.bool, device=device)
        # All graphs one after the other; ids are local, so shift them to where their graph starts.
        sizes = torch.tensor([len(graph) for graph in motif], device=device)
        _require_within(ids, sizes[index].repeat_interleave(counts), what)
        shift = (sizes.cumsum(0) - sizes)[index].repeat_interleave(counts)
        return torch.cat(list(motif)).to(device)[ids + shift] >= 0


def _sizes(data: Any) -> tuple[list[int], list[int]]:
    """How many edges and how many nodes each graph of the user's data has."""
    if isinstance(data, Batch):
        graphs = as_graphs(data, torch.device("cpu"))
        return graphs.edge_ptr.diff().tolist(), graphs.node_ptr.diff().tolist()
    several = [data] if isinstance(data, Data) else list(data)
    return [graph.num_edges for graph in several], [graph.num_nodes or 0 for graph in several]


def _require_within(ids: Tensor, size: int | Tensor, what: str) -> None:
    """Raise unless all ids lie in ``[0, size)``; ``size`` may differ from id to id."""
    outside = ((ids < 0) | (ids >= size)).nonzero().flatten()
    if len(outside):
        first = outside[0]
        limit = size[first].item() if isinstance(size, Tensor) else size
        raise InputError(
            f"expected {what} ids from 0 to {limit - 1}, which is what the ground truth covers, "
            f"got {what} {ids[first].item()}; explanations and ground truth must be of the same "
            "data"
        )
