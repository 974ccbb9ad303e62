"""Repeat one step; on a GPU as a CUDA graph, so that small batches do not wait for kernels to be launched."""

from __future__ import annotations

from collections.abc import Callable

import torch

_PLAIN = 3  # calls before a capture: libraries make their workspaces in them
_WAITS = 10  # times that the host waits for the GPU, to say how far it is


def repeat_step(
    step: Callable[[], None], times: int, device: torch.device, after: Callable[[], None] = lambda: None
) -> None:
    """Call `step` `times` times, and `after` as often, when the work of a step is done or soon after.

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
            after()
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
        for number in range(times):
            if number >= _PLAIN:
                step()
            after()
        return
    waited = 0
    for number in range(_PLAIN, times):
        graph.replay()
        if number + 1 == times or number % max(1, times // _WAITS) == 0:  # the host is far ahead of the GPU
            torch.cuda.current_stream(device).synchronize()
            for _ in range(waited, number + 1):
                after()
            waited = number + 1
