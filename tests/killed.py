"""A run that is killed again and again: `python -m tests.killed FOLDER` leaves FOLDER/whole and FOLDER/killed, and says what
it saw as JSON.

The imports happen once. Every attempt is a fork of this process that starts the same run; what SIGKILL leaves behind is
what is on disk.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import gnn_xai as gx
from gnn_xai.results import runs
from tests.models import model_and_graph

MOMENTS = 10
CALLS = 26  # synchronisations and renamings of the first three files or so, before and after each


def run(folder: Path) -> None:
    """The run: 60 nodes in about 30 shards."""
    model, data = model_and_graph()
    gx.explain(model, data, gx.GNNExplainer(epochs=3), out=folder, progress=False)


def forked(job: Callable[[], None]) -> int:
    """The process in which a job runs."""
    child = os.fork()
    if child == 0:
        try:
            job()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    return child


def finished(folder: Path) -> list[str]:
    """The files of the shards that a manifest names."""
    manifest = folder / "manifest.json"
    return [s["file"] for s in json.loads(manifest.read_text())["shards"]] if manifest.exists() else []


def inodes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_ino for name in finished(folder)}


def killed_at_random(folder: Path, seconds: float, total: int) -> Iterator[dict[str, Any]]:
    """Kill the run at `MOMENTS` random moments, each a random part of a shard after a random number of shards."""
    random.seed(0)
    for shards in sorted(random.sample(range(total - 2), MOMENTS)):
        before = inodes(folder)
        child = forked(lambda: run(folder))
        while len(finished(folder)) < shards:
            time.sleep(0.0005)
        time.sleep(random.uniform(0, seconds / total))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        after = inodes(folder)
        kept = all(after.get(name) == inode for name, inode in before.items())
        yield {"killed": os.WIFSIGNALED(status), "shards": len(after), "asked": shards, "kept": kept}


def killed_at_calls(folder: Path) -> Iterator[dict[str, Any]]:
    """Kill the run at its n-th synchronisation or renaming of a file, before and after it, for n = 0, 1, ..."""
    for number in range(CALLS):
        before = inodes(folder)

        def job(number: int = number) -> None:
            left = [number]

            def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
                def wrapped(*arguments: Any) -> Any:
                    for work in (lambda: None, lambda: call(*arguments)):
                        result = work()
                        if left[0] == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                        left[0] -= 1
                    return result

                return wrapped

            os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
            run(folder)

        _, status = os.waitpid(forked(job), 0)
        after = inodes(folder)
        kept = all(after.get(name) == inode for name, inode in before.items())
        yield {"killed": os.WIFSIGNALED(status), "shards": len(after), "kept": kept}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    runs.SHARD["cpu"] = 60
    start = time.perf_counter()
    os.waitpid(forked(lambda: run(folder / "whole")), 0)
    seconds, total = time.perf_counter() - start, len(finished(folder / "whole"))
    seen = {
        "total": total,
        "random": list(killed_at_random(folder / "killed", seconds, total)),
        "calls": list(killed_at_calls(folder / "calls")),
    }
    for name in ("killed", "calls"):
        os.waitpid(forked(lambda name=name: run(folder / name)), 0)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
