"""The output folder of a command, written completely or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from gnn_xai import metrics, molecules, viz
from gnn_xai._version import __version__
from gnn_xai.algorithms import Algorithm
from gnn_xai.algorithms.base import describe
from gnn_xai.api import explain
from gnn_xai.cli.running import running
from gnn_xai.cli.subjects import Subject
from gnn_xai.cli.terminal import say, table_text
from gnn_xai.comparison.table import Comparison
from gnn_xai.errors import GnnXaiError, InputError, StorageError
from gnn_xai.molecules import Drawing
from gnn_xai.report.page import COLUMNS
from gnn_xai.results.explanations import Explanation, Explanations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = "summary.json"
EXPLANATIONS = "explanations.safetensors"
FIGURES = "figures"
STRONGEST = 10  # elements that count as the explanation when its fidelity is measured


@contextmanager
def output_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block ends well and vanishes when it does not.

    An earlier run in `out` is replaced file by file; files of anyone else stay where they are.

    Args:
        out: the folder to write. It may be missing, empty, or hold an earlier run.
        overwrite: also write into a folder that holds something else, or another run.

    Yields:
        The folder to write into.

    Raises:
        InputError: `out` is a file, or a folder with other content, or with a run of another command or of other options,
            and `overwrite` is False.
        StorageError: nothing can be written there.
    """
    out = Path(os.path.abspath(out))
    if out.exists() and not out.is_dir():
        raise InputError(f"expected a folder for the output, got the file {out}; choose another --out")
    earlier = _earlier(out)
    if not overwrite:
        _refuse_another(out, earlier)
    # Beside `out`, on the same file system, so that the last step is a rename.
    beside = next(folder for folder in (*out.parents, out) if folder.exists())
    try:
        work = Path(tempfile.mkdtemp(prefix=".gnn-xai-", dir=beside))
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield work
        _publish(work, out, earlier)
        if earlier is not None and not overwrite:
            say(f"the earlier run in {out} was replaced")
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unwritable(out: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write to {out}: {error.strerror or error}; choose another --out")


def _earlier(out: Path) -> dict[str, Any] | None:
    """The summary of the run in a folder; `None` if it holds none."""
    try:
        summary = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return summary if isinstance(summary, dict) and "gnn_xai" in summary else None


def _refuse_another(out: Path, earlier: dict[str, Any] | None) -> None:
    """Raise an `InputError` if a folder holds files of something else, or a run that is not done again now."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    if earlier is None:
        raise InputError(
            f"the output folder {out} holds files of something else; choose another --out, "
            "or add --overwrite to write between them"
        )
    now, was = running(), earlier.get("command")
    if now is None or now == was:
        return
    changed = "whose options are not known"
    if isinstance(was, dict):
        names = [name for name in {**now, **was} if now.get(name) != was.get(name)]
        option = "the command" if names[0] == "command" else f"--{names[0].replace('_', '-')}"
        changed = f"of another command: {option} was {was.get(names[0])}, and is now {now.get(names[0])}"
    raise InputError(
        f"the output folder {out} holds a run {changed}; choose another --out, or add --overwrite to replace it"
    )


def _publish(work: Path, out: Path, earlier: dict[str, Any] | None) -> None:
    umask = os.umask(0)
    os.umask(umask)
    work.chmod(0o777 & ~umask)  # mkdtemp's folder is for its owner only
    out.parent.mkdir(parents=True, exist_ok=True)
    if not out.exists() or not any(out.iterdir()):
        if out.exists():
            out.rmdir()
        work.rename(out)
        return
    listed = (earlier or {}).get("files")
    own = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
    if {path.name for path in out.iterdir()} <= own and not out.is_symlink():  # nothing of anyone else
        aside = work.with_name(f"{work.name}-replaced")
        out.rename(aside)
        try:
            work.rename(out)
        except BaseException:
            aside.rename(out)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        return
    written = {path.name for path in work.iterdir()}
    # The summary goes last: it says that the folder is a complete run.
    for entry in sorted(work.iterdir(), key=lambda path: path.name == SUMMARY):
        place = out / entry.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        entry.replace(place)
    for name in own - written:  # what the earlier run had, and this one has not
        stale = out / name
        if stale.parent != out or stale.name != name:  # a summary that somebody else wrote
            continue
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale)
        else:
            stale.unlink(missing_ok=True)


def write_summary(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `summary.json`, with the package's version first: it marks the folder as a run."""
    command = running()
    about = {"gnn_xai": __version__, **({} if command is None else {"command": command})}
    files = sorted({SUMMARY, *(path.name for path in folder.iterdir())})
    text = json.dumps({**about, **facts, "files": files}, indent=2, ensure_ascii=False)
    # A list of numbers goes on one line, or predictions fill pages.
    text = re.sub(r"\[[\s\d.,e+-]*\]", lambda match: " ".join(match[0].split()), text)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def explain_and_measure(
    subject: Subject, algorithm: Algorithm, *, strongest: int = STRONGEST, **options: Any
) -> tuple[Explanations, dict[str, Any]]:
    """Explanations, and their row of the results table (see `gnn_xai.report.page.COLUMNS`).

    Args:
        subject: what to explain.
        algorithm: with which method.
        strongest: elements that count as the explanation when its fidelity is measured.
        **options: `index`, `target`, `seed`, `max_neighbors` and `progress` of `gnn_xai.explain`.
    """
    start = time.perf_counter()
    explanations = explain(subject.model, subject.data, algorithm, task=subject.task, **subject.types, **options)
    seconds = time.perf_counter() - start
    area = None
    scores_elements = explanations.node_mask_type in ("object", "attributes")
    if subject.ground_truth is not None and (explanations.edge_mask is not None or scores_elements):
        area = _number(metrics.roc_auc(explanations, subject.ground_truth))
    # Of edges where there are any: an algorithm that scores nodes too would silence twice as much.
    level = "edge" if explanations.edge_mask is not None else "node"
    fidelity = metrics.fidelity(subject.model, subject.data, explanations, top=strongest, level=level)
    return explanations, {
        "dataset": subject.name,
        "algorithm": explanations.algorithm["name"],
        "instances": len(explanations),
        "roc_auc": area,
        "fidelity_plus": _number(fidelity.plus),
        "fidelity_minus": _number(fidelity.minus),
        "ms": 1000 * seconds / len(explanations),
    }


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
        table.add_row(*(table_text(column.text(row)) for column in COLUMNS))
    return table


def _number(result: metrics.Result) -> float | None:
    """A mean for JSON, which has no NaN."""
    return result.mean if result.count else None


def records(explanations: Explanations, strongest: int = 10) -> list[dict[str, Any]]:
    """The entries of `summary.json` for instances: prediction and strongest elements."""
    rows = []
    for e in explanations:
        row: dict[str, Any] = {
            "index": e.index,
            "target": e.target,
            "prediction": e.prediction.tolist(),
            "prediction_masked": e.prediction_masked.tolist(),
            "prediction_complement": e.prediction_complement.tolist(),
            "exact": e.exact,
            "hops": e.hops,
        }
        if e.edge_mask is not None:
            row["top_edges"] = e.top_edges(strongest)
        if e.node_mask is not None and explanations.node_mask_type != "common_attributes":
            row["top_nodes"] = e.top_nodes(strongest)
        if explanations.node_mask_type in ("attributes", "common_attributes"):
            row["top_features"] = e.top_features(strongest)
        rows.append(row)
    return rows


def write(
    folder: Path,
    subject: Subject,
    explanations: Explanations,
    row: Mapping[str, Any],
    *,
    figures: int,
) -> None:
    """Write explanations, `figures` drawings and the summary of one run into a folder."""
    (folder / FIGURES).mkdir()
    level = explanations.task.task_level.value
    for e in explanations[:figures]:
        name = "-".join(map(str, (level, *(e.roots or (e.index,)))))
        save_figure(draw(subject, e), folder / FIGURES / f"{name}.png")
    write_explanations(folder, explanations, row)


def write_explanations(folder: Path, explanations: Explanations, facts: Mapping[str, Any]) -> None:
    """Write explanations and the summary of their run: `facts` first, then every instance."""
    explanations.save(folder / EXPLANATIONS)
    write_summary(
        folder,
        {
            **facts,
            "hyper_parameters": explanations.algorithm,
            "signed": explanations.signed,
            "removal": explanations.removal,
            "seed": explanations.seed,
            "provenance": explanations.provenance,
            "explanations": records(explanations),
        },
    )


def comparison_files(curves: bool) -> list[str]:
    """The files of a comparison."""
    drawn = ["comparison.png", "curves.png"] if curves else ["comparison.png"]
    return ["table.csv", "table.md", "table.tex", "values.csv", *drawn, SUMMARY]


def write_comparison(folder: Path, subject: Subject, comparison: Comparison, *, curves: bool) -> None:
    """Write the table of a comparison in three formats, the value of every instance, figures and the summary."""
    table = comparison.to_pandas()
    table.to_csv(folder / "table.csv", index=False)
    comparison.values.to_csv(folder / "values.csv", index=False)
    (folder / "table.md").write_text(comparison.to_markdown(), encoding="utf-8")
    (folder / "table.tex").write_text(comparison.to_latex(), encoding="utf-8")
    save_figure(comparison.draw(), folder / "comparison.png")
    if curves:
        save_figure(comparison.curves(), folder / "curves.png")
    explanations = comparison.explanations[comparison.reference]
    write_summary(
        folder,
        {
            "dataset": subject.name,
            "algorithms": {label: describe(algorithm) for label, algorithm in comparison.algorithms.items()},
            "metrics": comparison.metrics,
            "instances": len(explanations),
            "seeds": list(comparison.seeds),
            "level": comparison.level,
            "confidence": comparison.confidence,
            "table": table.astype(object).where(table.notna(), None).to_dict("records"),
            "skipped": [
                {"algorithm": label, "metric": metric, "reason": reason}
                for (label, metric), reason in comparison.skipped.items()
            ],
            "provenance": explanations.provenance,
        },
    )


def draw(subject: Subject, explanation: Explanation) -> Figure | Drawing:
    """A molecule as its formula, anything else as a graph."""
    try:
        return molecules.draw(explanation, class_names=subject.class_names, mark=subject.true_nodes(explanation))
    except GnnXaiError:  # no molecule, no RDKit, or scores of features alone
        return viz.grid([explanation], panel=(6.4, 5.2), **subject.drawing(explanation))


def save_figure(figure: Figure | Drawing, path: Path) -> Path:
    """Write a figure as PNG, sharp enough for a page and for print."""
    if isinstance(figure, Drawing):
        return figure.save(path)
    figure.savefig(path, dpi=150)
    return path
