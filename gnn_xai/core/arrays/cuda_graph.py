"""Repeat one step; on a GPU as a CUDA graph, so that small batches do not wait for kernels to be launched."""

from __future__ import annotations

from collections.abc import Callable

import torch

_PLAIN = 3  # calls before a capture: libraries make their workspaces in them


def repeat_step(step: Callable[[], None], times: int, device: torch.device) -> None:
    """Call `step` `times` times.

    On a GPU, one call is recorded after a few plain ones and replayed for the rest. A step that cannot be recorded (a layer
    that makes the host wait, say) is called plainly throughout; recording does not run it, so nothing happens twice.

    Args:
        step: works on the same tensors in place in every call.
        times: number of calls.
        device: where it works.
    """
    if device.type != "cuda" or times < 3 * _PLAIN:
        for _ in range(times):
            step()
        return
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(_PLAIN):
            step()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        torch.cuda.synchronize(device)
        for _ in range(times - _PLAIN):
            step()
        return
    for _ in range(times - _PLAIN):
        graph.replay()
