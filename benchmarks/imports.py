"""Cost of imports: `python -m benchmarks.imports [--processes 10]` prints CPU seconds, the least of several processes.

The processes run in turns; the start of Python is included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.report import head, line

PROCESSES = {
    "`import gnn_xai; gnn_xai.explain`": "import gnn_xai; gnn_xai.explain",
    "`import torch_geometric`": "import torch_geometric",
    "`gnn-xai --version`": "from gnn_xai.cli.app import main; main(['--version'])",
}


def cpu_seconds(code: str) -> float:
    """CPU seconds of a process that runs some code, the start of Python included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=10)
    count = parser.parse_args(arguments).processes
    rounds = [{what: cpu_seconds(code) for what, code in PROCESSES.items()} for _ in range(count)]
    print(head(("process", f"CPU seconds, least of {count}")))
    for what in PROCESSES:
        print(line([what, f"{min(times[what] for times in rounds):.2f}"]))


if __name__ == "__main__":
    main()
