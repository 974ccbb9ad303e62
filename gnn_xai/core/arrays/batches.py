"""Batches that fit a memory budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psutil
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from gnn_xai.errors import InputError

MOST = {"cpu": 256 * 2**20, "cuda": 8 * 2**30}
"""What one batch may hold at most under `batch_budget="auto"`, however much memory is free: beyond this, larger batches
were not faster on a CPU. A GPU wants more work at a time."""

FEW = 16
"""Instances that make one batch, in their own order, where they fit."""

FREE = 0.25
"""The share of free memory that one batch may take."""


@dataclass(frozen=True)
class Budget:
    """What instances cost and how much a batch may hold.

    Attributes:
        per_node, per_edge: cost of one node and one edge.
        limit: cost of one batch.
        in_bytes: costs are bytes, and not numbers of nodes and edges.
    """

    per_node: float
    per_edge: float
    limit: float
    in_bytes: bool

    def cost(
        self, num_nodes: Shaped[Tensor, " instances"], num_edges: Shaped[Tensor, " instances"]
    ) -> Shaped[Tensor, " instances"]:
        """Cost per instance."""
        return num_nodes * self.per_node + num_edges * self.per_edge


class Bytes(int):
    """The number of bytes that a batch may hold: measured, or kept from an earlier run whose batches are to be cut again."""

    @classmethod
    def measured(cls, device: torch.device) -> Bytes:
        """A share of what is free now, up to the size beyond which larger batches gain nothing."""
        return cls(min(MOST.get(device.type, MOST["cuda"]), int(FREE * free_bytes(device))))


def is_auto(value: Any) -> bool:
    """Whether an option is `"auto"`; of arrays, `==` would ask every element."""
    return isinstance(value, str) and value == "auto"


def as_budget(batch_budget: Any, bytes_each: float, device: torch.device) -> Budget:
    """The budget a user asked for.

    Args:
        batch_budget: `"auto"`, or how many nodes and edges a batch may hold, or `Bytes`.
        bytes_each: memory that one node or edge takes in a pass through the model and back, as measured.
        device: whose memory.

    Raises:
        InputError: if neither `"auto"` nor a positive integer.
    """
    if is_auto(batch_budget):
        batch_budget = Bytes.measured(device)
    if isinstance(batch_budget, Bytes):
        return Budget(bytes_each, bytes_each, float(batch_budget), in_bytes=True)
    if isinstance(batch_budget, bool) or not isinstance(batch_budget, int) or batch_budget < 1:
        raise InputError(
            f"expected batch_budget='auto' or a positive number of nodes and edges per batch, got {batch_budget!r}"
        )
    return Budget(1.0, 1.0, float(batch_budget), in_bytes=False)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _available(int(time.monotonic()))


@lru_cache(maxsize=1)
def _available(second: int) -> int:
    """Main memory that is free, asked for once a second: the question takes longer than a small batch."""
    return psutil.virtual_memory().available


@contextmanager
def measuring() -> Iterator[Callable[[], int]]:
    """Count the bytes that autograd keeps for the backward pass; yields a function that returns them."""
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: kept


def batches(cost: Shaped[Tensor, " instances"], limit: float) -> Iterator[Int64[Tensor, " batch"]]:
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


def for_each_batch(work: Callable[[Tensor], None], cost: Shaped[Tensor, " instances"], limit: float) -> None:
    """Call `work(positions)` on every batch; a batch that runs out of memory is halved and tried again.

    The largest instances come first: what does not fit shows early, and the instances of a batch are of similar size.

    Raises:
        InputError: if a single instance does not fit into memory.
    """
    if 0 < len(cost) <= FEW and float(cost.sum()) <= limit or len(cost) == 1:
        parts: Iterable[Tensor] = [torch.arange(len(cost), device=cost.device)]
    else:
        cost, order = torch.sort(cost, descending=True, stable=True)
        parts = (order[batch] for batch in batches(cost, limit))
    for part in parts:
        stack = [part]
        while stack:
            positions = stack.pop()
            try:
                work(positions)
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
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


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
