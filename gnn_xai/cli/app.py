"""The command line: `gnn-xai demo`, `gnn-xai explain`, `gnn-xai compare`, `gnn-xai molecules`, `gnn-xai counterfactuals`,
`gnn-xai list`.

Errors of the package end with exit code 2 and one sentence on stderr, and leave no output behind.
"""

from __future__ import annotations

import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import gnn_xai as gx
from gnn_xai._text import printable
from gnn_xai.cli.compare import compare
from gnn_xai.cli.counterfactuals import counterfactuals
from gnn_xai.cli.explain import explain
from gnn_xai.cli.molecules import molecules
from gnn_xai.cli.options import Out, Overwrite, Seed
from gnn_xai.cli.running import noted
from gnn_xai.cli.terminal import console, say
from gnn_xai.errors import GnnXaiError, GnnXaiWarning

app = typer.Typer(
    name="gnn-xai",
    help="Explain the predictions of PyTorch Geometric models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# What Python says with an argument, the command line says with options, or with what --model returns.
PYTHON_TO_OPTIONS = {
    r"task=ModelConfig\([^)]*\)": "--task, --mode and --returns",
    r"pass forward=(lambda model, data: (model\([^)]*\)|\.{3}))?": "let --model return a module with forward(self, data)",
    r"\b(task|target)=(?= )": r"--\1",
    r"\b(node|edge)_type=(?=['(])": r"--\1-type ",
    r"\b(node|edge)_type\b=?": r"--\1-type",
    r"index= as pairs of nodes \[2, B\]": "--index as pairs of nodes",
    r"pass index=\(u, v\) for one pair, or index=torch.*": "say which with --index, as in --index 3:17,4:5",
    r"max_neighbors as a positive integer or None": "--max-neighbors as a positive integer",
    r"; None follows every edge": "; leave it out to follow every edge",
    r"\bmax_neighbors\b": "--max-neighbors",
    r"\bchange=": "--change",
    r"name it with smiles_column=": "name it with --smiles-column",
    r"kind='(phenomenon_\w+)' compares with the true labels, got labels=None.*": (
        r"fidelity_\1 needs labels, which this data does not have; choose another metric"
    ),
    r"needs (ground_truth|labels)=, got None; pass it, or": r"needs \1, which this data does not have;",
    r"expected level='auto', 'edge', 'node', 'feature' or None": "expected --level auto, edge, node or feature",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: code 0, or 2 for bad input with one sentence on stderr.

    Args:
        arguments: what follows the program's name; by default what the process was started with.
    """
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)

    def show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, GnnXaiWarning):
            stderr.print("warning: ", end="", style="yellow")
            stderr.print(printable(message), markup=False)
        else:
            default_show(message, category, *rest)

    default_show, warnings.showwarning = warnings.showwarning, show_warning
    try:
        with _terminated_as_interrupted():
            app(arguments, prog_name="gnn-xai")
    except GnnXaiError as error:
        stderr.print("error: ", end="", style="bold red")
        text = str(error)
        for python, options in PYTHON_TO_OPTIONS.items():
            text = re.sub(python, options, text)
        stderr.print(printable(" ".join(text.split())), markup=False)
        sys.exit(2)
    finally:
        warnings.showwarning = default_show


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which schedulers send, and SIGHUP, when a terminal closes, unwind as Ctrl-C does, so that nothing
    half-written stays behind.
    """

    def stop(number: int, frame: object) -> None:
        sys.exit(128 + number)

    ends = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in ends if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gnn-xai {gx.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Explain the predictions of PyTorch Geometric models."""


@app.command()
@noted
def demo(out: Out = Path("out/demo"), seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """Explain molecules, a social network and BA-Shapes; write tables, figures and a page."""
    from gnn_xai.cli import outputs
    from gnn_xai.cli.demo import run

    rows = run(out, seed=seed, overwrite=overwrite, console=console)
    console.print(outputs.results_table(rows))
    say(f"open {out / 'index.html'} to look at the explanations")


for command in (explain, compare, molecules, counterfactuals):
    app.command()(noted(command))


@app.command("list")
def list_everything() -> None:
    """List the algorithms, the metrics and the data sets, one line each."""
    registries = {
        "algorithms": {name: entry.summary for name, entry in gx.algorithms.REGISTRY.items()},
        "metrics": {name: _summary(entry) for name, entry in gx.metrics.REGISTRY.items()},
        "data sets": {name: entry.summary for name, entry in gx.datasets.REGISTRY.items()},
    }
    for title, registry in registries.items():
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for row in registry.items():
            table.add_row(*row)
        console.print(table, end="\n\n")


def _summary(metric: Callable[..., Any]) -> str:
    """The first sentence of its documentation, and the options that its name stands for."""
    inner = metric.func if isinstance(metric, partial) else metric
    words = re.split(r", per instance|(?<!al)\.(?=\s)", " ".join((inner.__doc__ or "").replace("`", "").split()))[0]
    options = metric.keywords if isinstance(metric, partial) else {}
    return words + "".join(f", {name}={value}" for name, value in options.items())
