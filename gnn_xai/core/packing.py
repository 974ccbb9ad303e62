"""Batches that fit a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnn_xai.core.masking import Trace
from gnn_xai.errors import InputError

AUTO_BYTES = 192 * 2**20
"""What one batch may hold under `batch_budget="auto"`. Larger batches take memory and were not faster."""

_KEPT = 4  # copies of a message that autograd and the optimiser hold at once, roughly


@dataclass(frozen=True)
class Budget:
    """What instances cost and how much a batch may hold.

    Attributes:
        per_node, per_edge: cost of one node and one edge.
        limit: cost of one batch.
    """

    per_node: float
    per_edge: float
    limit: float

    def cost(self, num_nodes: Tensor, num_edges: Tensor) -> Tensor:
        """Cost per instance, `[B]`."""
        return num_nodes * self.per_node + num_edges * self.per_edge


def as_budget(batch_budget: str | int, trace: Trace, num_edges: int, node_bytes: int) -> Budget:
    """The budget a user asked for: `"auto"`, or how many nodes and edges a batch may hold.

    Args:
        batch_budget: the user's word.
        trace: a forward pass on `num_edges` edges, from which bytes per edge are measured.
        node_bytes: bytes of one node's features.

    Raises:
        InputError: if neither `"auto"` nor a positive integer.
    """
    if batch_budget == "auto":
        per_edge = _KEPT * trace.message_bytes / max(num_edges, 1) + 64.0
        return Budget(_KEPT * float(node_bytes) + 64.0, per_edge, float(AUTO_BYTES))
    if isinstance(batch_budget, bool) or not isinstance(batch_budget, int) or batch_budget < 1:
        raise InputError(
            f"expected batch_budget='auto' or a positive number of nodes and edges per batch, got {batch_budget!r}"
        )
    return Budget(1.0, 1.0, float(batch_budget))


def batches(cost: Tensor, limit: float) -> Iterator[Tensor]:
    """Split instances, in order, into batches of positions whose cost stays within `limit`; a single instance may exceed it.

    >>> [b.tolist() for b in batches(torch.tensor([3.0, 3.0, 3.0, 9.0, 1.0]), 6)]
    [[0, 1], [2], [3], [4]]
    """
    total = cost.double().cumsum(0)
    start = 0
    while start < len(cost):
        before = total[start - 1] if start else total.new_zeros(())
        end = int(torch.searchsorted(total, before + limit * (1 + 1e-9), right=True))
        end = max(end, start + 1)
        yield torch.arange(start, end, device=cost.device)
        start = end


def run(work: Callable[[Tensor], None], cost: Tensor, limit: float) -> None:
    """Call `work(positions)` on every batch; a batch that runs out of memory is halved and tried again.

    Raises:
        InputError: if a single instance does not fit into memory.
    """
    for batch in batches(cost, limit):
        stack = [batch]
        while stack:
            positions = stack.pop()
            try:
                work(positions)
                continue
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if len(positions) == 1:
                    raise InputError(
                        "one instance alone does not fit into memory; explain it on another device, or with a model "
                        "of fewer layers"
                    ) from error
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            half = (len(positions) + 1) // 2
            stack += [positions[half:], positions[:half]]


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
