"""Measurement of time, memory and bytes, and a description of the machine."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from torch import Tensor

import gnn_xai as gx
from benchmarks.workloads import SEED, Workload

MB = 2**20


def machine(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine and the run: processor, threads, load, versions and seed."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        cpu = facts.split("model name")[1].split(":")[1].splitlines()[0].strip()
    except (OSError, IndexError):
        cpu = platform.processor() or platform.machine()
    return {
        "cpu": cpu,
        **({"gpu": torch.cuda.get_device_name(device)} if device != "cpu" else {}),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "gnn_xai": gx.__version__,
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        **{peer: version(peer) for peer in ("captum", "graph-explain") if find_spec(peer.replace("-", "_"))},
        "python": platform.python_version(),
        "seed": SEED,
    }


# Time ################################################################################################################


def seconds(job: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """Seconds that a job took, until the device had finished, and its result."""
    _finish(device)
    start = time.perf_counter()
    result = job()
    _finish(device)
    return time.perf_counter() - start, result


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def sizes(explanations: gx.Explanations) -> Tensor:
    """Nodes and edges of each computation graph, `[B]`."""
    return (explanations.node_ptr.diff() + explanations.edge_ptr.diff()).cpu()


def shares(sizes: Tensor, share: int, rounds: int) -> list[Tensor]:
    """Positions of the instances for each round: one from each of `share` strata of similar size, without repetition.

    So every round has small and large computation graphs in the same proportion as the whole. With too few instances for
    that, a share is smaller; with fewer instances than rounds, rounds repeat instances.
    """
    generator = torch.Generator().manual_seed(SEED)
    share = max(1, min(share, len(sizes) // rounds))
    layers = [
        layer[torch.randperm(len(layer), generator=generator)]
        for layer in sizes.argsort(stable=True).tensor_split(share)
    ]
    return [torch.stack([layer[number % len(layer)] for layer in layers]) for number in range(rounds)]


# Memory ##############################################################################################################


def resident(field: str = "VmRSS") -> float:
    """Resident memory of this process in MB; `VmHWM` is its peak, which excludes the parent's, unlike getrusage's."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(f"{field}:")[1].split()[0]) / 1024


def peak(job: Callable[[], Any], device: str = "cpu") -> float:
    """Peak memory of a job in MB above that before it."""
    if device != "cpu":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        job()
        return (torch.cuda.max_memory_allocated(device) - before) / MB
    ctypes.CDLL(None).malloc_trim(0)  # else the job takes what was freed before it
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak becomes what is resident now
    before = resident()
    job()
    return resident("VmHWM") - before


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a module's function in a fresh process, so that its memory can be measured alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# Bytes ###############################################################################################################


def copy_bandwidth(device: str = "cpu", megabytes: int = 512, rounds: int = 7) -> float:
    """Bytes read and written per second when a large tensor is copied onto another one, the best of several runs."""
    source = torch.ones(megabytes * MB // 4, device=device)
    goal = torch.zeros_like(source)
    return 2 * megabytes * MB / min(seconds(lambda: goal.copy_(source), device)[0] for _ in range(rounds))


def bytes_per_epoch(workload: Workload, explanations: gx.Explanations) -> int:
    """Minimal number of bytes that an epoch of mask learning moves, for all instances, at 4 bytes per number.

    - A mask parameter has a value, a gradient and Adam's two moments, each read and written: 8 numbers. The two
      directions of an undirected edge are one parameter.
    - A layer reads its input rows and writes its output rows. Backward it reads the gradients of the
      latter, reads the former again (for the gradients of the edge masks) and writes their gradients. This makes
      `width · (3·entering + 2·leaving)` numbers.
    - An edge is a column number and one value per head, read forward, read backward, and the gradient of the value is
      written: `2 + 3·heads` numbers.
    - Masks on features act on the non-zero features, a column number and a value each, forward and backward: 4
      numbers. With an `object` mask the product with the weights is the same in every epoch and moves nothing.

    Only rows that can reach the target count: if k layers follow, the output rows of a layer are the nodes within k steps
    of the target, and its edges are those into these nodes. Weights, self loops and the output head are left out.
    """
    ours = explanations.to("cpu")
    numbers = 8 * _undirected_edges(ours) if workload.algorithm.edge_mask_type else 0
    if ours.node_mask is not None:
        numbers += 8 * int((ours.node_mask != 0).sum())
    if ours.node_mask_type in ("attributes", "common_attributes"):
        numbers += 4 * _nonzero_features(workload, ours)
    entered, node_steps = _steps_to_target(workload, ours)
    for depth, layer in enumerate(reversed(workload.layers)):
        entering, leaving = int((node_steps <= depth + 1).sum()), int((node_steps <= depth).sum())
        numbers += layer.width * (3 * entering + 2 * leaving)
        numbers += (2 + 3 * layer.heads) * int((node_steps[entered] <= depth).sum())
    return 4 * numbers


def _undirected_edges(ours: gx.Explanations) -> int:
    stride = 1 + int(ours.node_id.max())
    low, high = ours.edge_index.min(0).values, ours.edge_index.max(0).values
    return len(torch.unique((ours.edge_owner * stride + low) * stride + high))


def _nonzero_features(workload: Workload, ours: gx.Explanations) -> int:
    if isinstance(workload.data, list):
        counts = [(workload.data[i].x != 0).sum() for i in ours.index.tolist()]
        return int(torch.stack(counts).sum())
    return int((workload.data.x != 0).sum(1).cpu()[ours.node_id].sum())


def _steps_to_target(workload: Workload, ours: gx.Explanations) -> tuple[Tensor, Tensor]:
    """The position of the node that each edge enters, `[ΣE]`, and how many steps each node is from its target, `[ΣN]`.

    At graph level every node is a target.
    """
    stride = 1 + int(ours.node_id.max())
    nodes = ours.node_owner * stride + ours.node_id
    left, entered = torch.searchsorted(nodes, (ours.edge_owner * stride + ours.edge_index).contiguous())
    if isinstance(workload.data, list):
        return entered, torch.zeros_like(nodes)
    steps = torch.full_like(nodes, len(workload.layers))
    steps[
        torch.searchsorted(nodes, (torch.arange(len(ours)) * stride).unsqueeze(1) + ours.index.reshape(len(ours), -1))
    ] = 0
    for _ in workload.layers:
        steps.scatter_reduce_(0, left, steps[entered] + 1, "amin")
    return entered, steps
