"""`gnn-xai compare`: several algorithms on the same predictions, measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import gnn_xai as gx
from gnn_xai.cli.options import (
    Choice,
    FitIndex,
    Out,
    Overwrite,
    parse_index,
    parse_names,
    parse_numbers,
    parse_setting,
    spread,
)
from gnn_xai.cli.terminal import console, say, table_text
from gnn_xai.errors import InputError, unknown

if TYPE_CHECKING:
    from gnn_xai.algorithms.base import Algorithm
    from gnn_xai.comparison import Comparison


@spread
def compare(
    choice: Choice,
    out: Out,
    algorithms: Annotated[str, typer.Option(help="Names of `gnn-xai list`, as in saliency,gnn_explainer.")],
    metrics: Annotated[
        str | None,
        typer.Option(help="The same; by default fidelity, and roc_auc where the truth is known."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ALGORITHM.NAME=VALUE", help="A hyper-parameter; repeatable."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of all random numbers, as in 0-4.")] = "0",
    fit_index: FitIndex = None,
    level: Annotated[
        str, typer.Option(help="What metrics compare: edge, node or feature; auto: what all algorithms score.")
    ] = "auto",
    curves: Annotated[bool, typer.Option("--curves", help="Draw fidelity over sparsity, too.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Explain the same predictions with several algorithms, and measure each; Random is always among them.

    Writes table.csv, table.md, table.tex, values.csv, comparison.png and summary.json, all or nothing.
    """
    from gnn_xai.cli import outputs

    methods = _algorithms(parse_names(algorithms, "--algorithms"), settings)
    measures = None if metrics is None else parse_names(metrics, "--metrics")
    keys, index = parse_numbers(seeds, "--seeds"), choice.check()
    with outputs.output_folder(out, overwrite=overwrite) as folder:
        subject = choice.subject()
        index = subject.index if index is None else index
        comparison = gx.compare(
            subject.model,
            subject.data,
            methods,
            measures or (["fidelity"] if subject.ground_truth is None else ["roc_auc", "fidelity"]),
            index=index,
            fit_index=None if fit_index is None else parse_index(fit_index, "--fit-index"),
            ground_truth=subject.ground_truth,
            labels=subject.labels(index),
            task=subject.task,
            **subject.types,
            target=choice.target,
            seeds=keys,
            level=level,  # type: ignore[arg-type]
            max_neighbors=choice.max_neighbors,
            progress=sys.stderr.isatty(),
        )
        outputs.write_comparison(folder, subject, comparison, curves=curves)
    _print(comparison)
    say(f"written to {out}/: {', '.join(outputs.comparison_files(curves))}")


def _algorithms(names: list[str], settings: list[str] | None) -> list[Algorithm]:
    """Algorithms with their hyper-parameters, each from `algorithm.name=value`."""
    hyper: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in settings or ():
        key, value = parse_setting(text)
        name, dot, parameter = key.partition(".")
        if not dot:
            raise InputError(f"expected --set ALGORITHM.NAME=VALUE such as gnn_explainer.epochs=200, got {text!r}")
        if name not in hyper:
            raise unknown("algorithm in --set", name, hyper)
        if parameter in hyper[name]:
            raise InputError(f"expected each hyper-parameter once, got --set {key}= twice")
        hyper[name][parameter] = value
    return [gx.algorithms.get(name, **options) for name, options in hyper.items()]


def _print(comparison: Comparison) -> None:
    cells = comparison.table()
    table = Table(box=None, pad_edge=False)
    table.add_column("algorithm", overflow="fold")
    for title in cells.columns:
        table.add_column(title, justify="right")
    for label, row in zip(cells.index, cells.to_numpy().tolist(), strict=True):
        table.add_row(table_text(label), *(table_text(cell.replace(" [", "\n[")) for cell in row))
    console.print(table)
    say(comparison.note)
    for reason in dict.fromkeys(comparison.skipped.values()):
        say(f"not measured: {reason}")
