"""The command line: `gnn-xai demo`, `gnn-xai explain`, `gnn-xai compare`, `gnn-xai molecules`, `gnn-xai list`.

Errors of the package end with exit code 2 and one sentence on stderr, and leave no output behind.
"""

from __future__ import annotations

import ast
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch_geometric.explain.config import ModelConfig, ModelMode, ModelReturnType

import gnn_xai as gx
from gnn_xai.cli import outputs, subjects
from gnn_xai.errors import GnnXaiError, GnnXaiWarning, InputError, unknown
from gnn_xai.report.page import COLUMNS
from gnn_xai.viz import describe

if TYPE_CHECKING:
    from pandas import DataFrame

app = typer.Typer(
    name="gnn-xai",
    help="Explain the predictions of PyTorch Geometric models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

ROWS_SHOWN = 20

# What Python says with an argument, the command line says with options, or with what --model returns.
PYTHON_TO_OPTIONS = {
    r"task=ModelConfig\([^)]*\)": "--task, --mode and --returns",
    r"pass forward=(lambda model, data: (model\([^)]*\)|\.{3}))?": "let --model return a module with forward(self, data)",
    r"\b(task|target)=(?= )": r"--\1",
    r"max_neighbors as a positive integer or None": "--max-neighbors as a positive integer",
    r"; None follows every edge": "; leave it out to follow every edge",
    r"\bmax_neighbors\b": "--max-neighbors",
    r"needs (ground_truth|labels)=, got None; pass it, or": r"needs \1, which this data does not have;",
    r"expected level='auto', 'edge', 'node', 'feature' or None": "expected --level auto, edge, node or feature",
}

# Options that commands share.
DataSet = Annotated[str | None, typer.Option(help="A data set of `gnn-xai list`.")]
Model = Annotated[str | None, typer.Option(metavar="MODULE:FACTORY", help="Your model: a function that returns it.")]
Weights = Annotated[Path | None, typer.Option(help="Your model's state_dict as a safetensors file.")]
Material = Annotated[str | None, typer.Option(metavar="MODULE:FACTORY", help="Your data: Data, or a list of Data.")]
Index = Annotated[str | None, typer.Option(help="Nodes or graphs to explain, as in 300-349,400; by default all.")]
Target = Annotated[int | None, typer.Option(help="Class to explain; by default the predicted one.")]
Level = Annotated[str | None, typer.Option(help="node or graph; with your own model.")]
Mode = Annotated[
    str, typer.Option(help="multiclass_classification, binary_classification or regression; with your own model.")
]
Returns = Annotated[str, typer.Option(help="What your model returns: raw, log_probs or probs.")]
MaxNeighbors = Annotated[
    int | None, typer.Option(help="Follow at most this many of the edges into a node; by default all.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter; repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that holds other files.")]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: code 0, or 2 for bad input with one sentence on stderr.

    Args:
        arguments: what follows the program's name; by default what the process was started with.
    """
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)

    def show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, GnnXaiWarning):
            stderr.print("[yellow]warning:[/]", str(message), markup=True)
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
        stderr.print(" ".join(text.split()), markup=False)
        sys.exit(2)
    finally:
        warnings.showwarning = default_show


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which schedulers send, unwinds as Ctrl-C does, so that nothing half-written stays behind."""

    def stop(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
def demo(
    out: Out = Path("out/demo"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Explain molecules, a social network and BA-Shapes; write tables, figures and a page."""
    from gnn_xai.cli.demo import run

    rows = run(out, seed=seed, overwrite=overwrite, console=console)
    console.print(results_table(rows))
    console.print(f"open {out / 'index.html'} to look at the explanations", highlight=False)


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


@app.command()
def explain(
    out: Out,
    dataset: DataSet = None,
    model: Model = None,
    weights: Weights = None,
    data: Material = None,
    algorithm: Annotated[str, typer.Option(help="One of `gnn-xai list`.")] = "gnn_explainer",
    settings: Settings = None,
    index: Index = None,
    target: Target = None,
    task: Level = None,
    mode: Mode = "multiclass_classification",
    returns: Returns = "raw",
    seed: Seed = 0,
    max_neighbors: MaxNeighbors = None,
    figures: Annotated[int, typer.Option(min=0, help="How many instances to draw.")] = 6,
    overwrite: Overwrite = False,
) -> None:
    """Explain predictions of a data set's reference model, or of your own model on your own data.

    Writes explanations.safetensors, summary.json and figures/, all or nothing.
    """
    chosen = gx.algorithms.get(algorithm, **dict(_setting(text) for text in settings or ()))
    wanted = None if index is None else parse_index(index)
    _one_subject(dataset, model, data, weights, task)
    with outputs.output_folder(out, overwrite=overwrite) as folder:
        subject = _subject(dataset, model, data, weights, task, mode, returns)
        explanations, row = outputs.explain_and_measure(
            subject,
            chosen,
            index=subject.index if wanted is None else wanted,
            target=target,
            seed=seed,
            max_neighbors=max_neighbors,
            progress=sys.stderr.isatty(),
        )
        outputs.write(folder, subject, explanations, row, figures=figures)
    _print_explanations(explanations, subject.class_names)
    console.print(results_table([row]))
    console.print(f"written to {out}/: {outputs.EXPLANATIONS}, {outputs.SUMMARY}, {outputs.FIGURES}/", highlight=False)


@app.command()
def compare(
    out: Out,
    algorithms: Annotated[str, typer.Option(help="Names of `gnn-xai list`, as in saliency,gnn_explainer.")],
    metrics: Annotated[
        str | None,
        typer.Option(help="The same; by default fidelity, and roc_auc where the truth is known."),
    ] = None,
    dataset: DataSet = None,
    model: Model = None,
    weights: Weights = None,
    data: Material = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ALGORITHM.NAME=VALUE", help="A hyper-parameter; repeatable."),
    ] = None,
    index: Index = None,
    target: Target = None,
    task: Level = None,
    mode: Mode = "multiclass_classification",
    returns: Returns = "raw",
    seeds: Annotated[str, typer.Option(help="Seeds of all random numbers, as in 0-4.")] = "0",
    level: Annotated[
        str, typer.Option(help="What metrics compare: edge, node or feature; auto: what all algorithms score.")
    ] = "auto",
    max_neighbors: MaxNeighbors = None,
    curves: Annotated[bool, typer.Option("--curves", help="Draw fidelity over sparsity, too.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Explain the same predictions with several algorithms, and measure each; Random is always among them.

    Writes table.csv, table.md, table.tex, values.csv, comparison.png and summary.json, all or nothing.
    """
    methods = _algorithms(_names(algorithms, "--algorithms"), settings or ())
    chosen = None if metrics is None else _names(metrics, "--metrics")
    wanted, keys = None if index is None else parse_index(index), parse_index(seeds, "--seeds")
    _one_subject(dataset, model, data, weights, task)
    with outputs.output_folder(out, overwrite=overwrite) as folder:
        subject = _subject(dataset, model, data, weights, task, mode, returns)
        comparison = gx.compare(
            subject.model,
            subject.data,
            methods,
            chosen or (["fidelity"] if subject.ground_truth is None else ["roc_auc", "fidelity"]),
            index=subject.index if wanted is None else wanted,
            ground_truth=subject.ground_truth,
            labels=subject.labels,
            task=subject.task,
            target=target,
            seeds=keys,
            level=level,  # type: ignore[arg-type]
            max_neighbors=max_neighbors,
            progress=sys.stderr.isatty(),
        )
        outputs.write_comparison(folder, subject, comparison, curves=curves)
    _print_comparison(comparison)
    console.print(f"written to {out}/: {', '.join(outputs.comparison_files(curves))}", highlight=False)


@app.command()
def molecules(
    smiles: Annotated[
        Path, typer.Option(help="One SMILES a line and a name if there is one, or a .csv with a header.")
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="reference:NAME|MODULE:FACTORY",
            help="A reference model, such as reference:nitro, or a function that returns your model.",
        ),
    ],
    out: Out,
    algorithm: Annotated[str, typer.Option(help="One of `gnn-xai list`.")] = "integrated_gradients",
    settings: Settings = None,
    weights: Weights = None,
    featurizer: Annotated[
        str | None, typer.Option(help="pyg, ogb or one_hot; by default what the model reads, where it says so.")
    ] = None,
    mode: Mode = "multiclass_classification",
    returns: Returns = "raw",
    column: Annotated[str | None, typer.Option(help="The column of a .csv with the SMILES.")] = None,
    name_column: Annotated[str | None, typer.Option(help="The column of a .csv with the names.")] = None,
    target: Target = None,
    seed: Seed = 0,
    columns: Annotated[int, typer.Option(min=1, help="Molecules in a row of the sheet.")] = 5,
    overwrite: Overwrite = False,
) -> None:
    """Explain predictions for molecules, and draw them.

    Writes index.html, sheet.png, sheet.svg, tables of molecules, atoms and bonds, and what `explain` writes, all or
    nothing. Lines that hold no molecule are named and left out.
    """
    from gnn_xai.molecules import read, sheet

    chosen = gx.algorithms.get(algorithm, **dict(_setting(text) for text in settings or ()))
    with outputs.output_folder(out, overwrite=overwrite) as folder:
        subject = subjects.reader_of_molecules(model, _task("graph", mode, returns), weights)
        mols = read(smiles, featurizer or subject.featurizer or subject.model, column=column, name_column=name_column)
        explanations = gx.explain(
            subject.model, mols, chosen, task=subject.task, target=target, seed=seed, progress=sys.stderr.isatty()
        )
        table = sheet.write(
            folder,
            mols,
            explanations,
            title=f"{smiles.name}, explained for {subject.name}",
            columns=columns,
            class_names=subject.class_names,
            footer=f"gnn_xai {gx.__version__} · seed {seed}",
        )
        outputs.write_explanations(
            folder,
            explanations,
            {
                "model": subject.name,
                "smiles": smiles.name,
                "featurizer": mols.featurizer,
                "molecules": len(mols),
                "problems": [problem._asdict() for problem in mols.problems],
            },
        )
    _print_molecules(table)
    console.print(
        f"open {out / 'index.html'} to look at {len(mols)} molecules; tables are in {out}/*.csv", highlight=False
    )


def parse_index(text: str, option: str = "--index") -> list[int]:
    """Instance ids, or seeds, from a list of numbers and ranges, both ends included.

    >>> parse_index("300-303,400")
    [300, 301, 302, 303, 400]

    Raises:
        InputError: something in the list is neither a number nor a range, or a range runs
            backwards.
    """
    ids: list[int] = []
    most = 10_000_000  # a slip of the finger must not fill the memory
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise InputError(f"expected {option} as numbers and ranges such as 300-349,400, got {text!r}") from None
        if high < low:
            raise InputError(f"expected ranges from low to high in {option}, got {part.strip()!r}")
        if len(ids) + high - low > most:
            raise InputError(f"expected at most {most:,} numbers in {option}, got {text!r}")
        ids.extend(range(low, high + 1))
    return ids


def _setting(text: str) -> tuple[str, Any]:
    """A hyper-parameter from `name=value`; the value is a string unless it is a Python literal."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(f"expected --set NAME=VALUE such as epochs=200, got {text!r}")
    value = value.strip()
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name.strip(), words[value.lower()]
    try:
        return name.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.strip(), value


def _summary(metric: Callable[..., Any]) -> str:
    """The first sentence of its documentation, and the options that its name stands for."""
    inner = metric.func if isinstance(metric, partial) else metric
    words = re.split(r", per instance|(?<!al)\.(?=\s)", " ".join((inner.__doc__ or "").replace("`", "").split()))[0]
    options = metric.keywords if isinstance(metric, partial) else {}
    return words + "".join(f", {name}={value}" for name, value in options.items())


def _names(text: str, option: str) -> list[str]:
    """Names from a list with commas, each once."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InputError(f"expected {option} as names with commas between them, got {text!r}")
    return names


def _algorithms(names: Sequence[str], settings: Sequence[str]) -> list[gx.algorithms.Algorithm]:
    """Algorithms with their hyper-parameters, each from `algorithm.name=value`."""
    hyper: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in settings:
        key, value = _setting(text)
        name, dot, parameter = key.partition(".")
        if not dot:
            raise InputError(f"expected --set ALGORITHM.NAME=VALUE such as gnn_explainer.epochs=200, got {text!r}")
        if name not in hyper:
            raise unknown("algorithm in --set", name, hyper)
        hyper[name][parameter] = value
    return [gx.algorithms.get(name, **options) for name, options in hyper.items()]


def _one_subject(
    dataset: str | None, model: str | None, data: str | None, weights: Path | None, task: str | None
) -> None:
    """Raise unless there is either a data set or a model with data."""
    if (dataset is None) == (model is None or data is None):
        raise InputError("expected either --dataset, or --model and --data; see --help")
    if dataset is not None and (model or data or weights or task):
        raise InputError(
            "--dataset brings its own model, data and task; leave out --model, --data, --weights and --task"
        )


def _subject(
    dataset: str | None,
    model: str | None,
    data: str | None,
    weights: Path | None,
    task: str | None,
    mode: str,
    returns: str,
) -> subjects.Subject:
    """What is explained: a data set's reference model, or a user's own."""
    if dataset is not None:
        return subjects.from_benchmark(dataset)
    assert model is not None
    return subjects.from_factories(model, data, _task(task, mode, returns), weights)


def _task(level: str | None, mode: str, returns: str) -> ModelConfig:
    if level not in ("node", "graph"):
        raise InputError(
            f"expected --task node or --task graph with --model, got {'neither' if level is None else repr(level)}"
        )
    for option, value, known in (("--mode", mode, ModelMode), ("--returns", returns, ModelReturnType)):
        names = [member.value for member in known]
        if value not in names:
            raise unknown(option, value, names)
    try:
        return ModelConfig(mode=mode, task_level=level, return_type=returns)
    except ValueError as error:
        raise InputError(
            f"expected --mode and --returns that go together, got {mode} and {returns}: {error}"
        ) from error


def _print_explanations(explanations: gx.Explanations, class_names: Sequence[str] | None) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("prediction")
    table.add_column("strongest", overflow="fold")
    for e in explanations[:ROWS_SHOWN]:
        if e.edge_mask is not None:
            strongest = [f"{u}–{v} {score:.2f}" for u, v, score in e.top_edges(3)]
        elif explanations.node_mask_type != "common_attributes":
            strongest = [f"{node} {score:.2f}" for node, score in e.top_nodes(4)]
        else:
            strongest = [f"feature {column} {score:.2f}" for column, score in e.top_features(3)]
        table.add_row(describe(e, class_names), ", ".join(strongest))
    console.print(table)
    if len(explanations) > ROWS_SHOWN:
        more = len(explanations) - ROWS_SHOWN
        console.print(f"… and {more} more in {outputs.SUMMARY}", highlight=False)


def _print_molecules(table: DataFrame) -> None:
    columns = {"name": "molecule", "prediction": "prediction", "top_fragment": "top fragment"}
    shown = Table(box=None, pad_edge=False)
    for title in columns.values():
        shown.add_column(title, overflow="fold")
    for row in table[list(columns)].head(ROWS_SHOWN).itertuples(index=False):
        shown.add_row(*(Text(str(cell)) for cell in row))
    console.print(shown)
    if len(table) > ROWS_SHOWN:
        console.print(f"… and {len(table) - ROWS_SHOWN} more in molecules.csv", highlight=False)


def _print_comparison(comparison: gx.Comparison) -> None:
    shown = comparison.table()
    table = Table(box=None, pad_edge=False)
    table.add_column("algorithm", overflow="fold")
    for title in shown.columns:
        table.add_column(title, justify="right")
    for label, cells in zip(shown.index, shown.to_numpy().tolist(), strict=True):
        table.add_row(Text(label), *(Text(cell.replace(" [", "\n[")) for cell in cells))
    console.print(table)
    console.print(comparison.note, markup=False, highlight=False)
    for reason in dict.fromkeys(comparison.skipped.values()):
        console.print(f"not measured: {reason}", markup=False, highlight=False)


def results_table(rows: list[dict[str, Any]]) -> Table:
    """The results as a table for the terminal, with the columns of the report."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for column in COLUMNS:
        title = "\n".join(column.title.rsplit(" ", 1)) if column.digits is not None else column.title
        # In a narrow terminal, only the name of a user's own data, which can be long, goes over several lines.
        table.add_column(
            title,
            justify="left" if column.digits is None else "right",
            no_wrap=column.key != "dataset",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(column.text(row) for column in COLUMNS))
    return table
