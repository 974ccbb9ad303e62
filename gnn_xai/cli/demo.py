"""`gnn-xai demo`: every sensible algorithm on several data sets, as a table, figures and a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gnn_xai import molecules, report, viz
from gnn_xai._version import __version__
from gnn_xai.algorithms import GNNExplainer, get
from gnn_xai.algorithms.base import Attributing
from gnn_xai.api import explain
from gnn_xai.cli import outputs, subjects
from gnn_xai.cli.subjects import Subject
from gnn_xai.molecules import Drawing
from gnn_xai.results.explanations import Explanation, Explanations

Results = Mapping[str, Explanations]


@dataclass(frozen=True)
class Chapter:
    """The part of the demo about one data set.

    Attributes:
        dataset: its name.
        instances: how many of the instances worth explaining; all of them for None.
        gnn_explainer: with settings that suit the model.
        strongest: how many elements count as the explanation when its fidelity is measured.
        title, text: heading and paragraphs of the page.
        figures: drawings with their captions, by file name.
    """

    dataset: str
    instances: int | None
    gnn_explainer: Attributing
    strongest: int
    title: str
    text: tuple[str, ...]
    figures: Mapping[str, tuple[Callable[[Subject, Results], Figure | Drawing], str]]


def run(
    out: str | Path, *, seed: int = 0, overwrite: bool = False, console: Console | None = None
) -> list[dict[str, Any]]:
    """Run the demo and write `out`: index.html, summary.json, figures/ and the explanations.

    Args:
        out: the folder to write, completely or not at all.
        seed: of all random numbers.
        overwrite: also write into a folder that holds files of something else.
        console: where progress and the table go.

    Returns:
        The rows of the table, keyed as in `gnn_xai.report.page.COLUMNS`.
    """
    console = console or Console()
    start = time.perf_counter()
    rows: list[dict[str, Any]] = []
    sections: list[report.Section] = []
    with _one_thread(), outputs.output_folder(out, overwrite=overwrite) as folder:
        (folder / outputs.FIGURES).mkdir()
        with _progress(console) as progress:
            steps = sum(len(ALGORITHMS) + 2 for chapter in CHAPTERS)
            bar = progress.add_task("", total=steps)
            for chapter in CHAPTERS:
                progress.update(bar, description=f"{chapter.dataset}: reading")
                subject = subjects.from_benchmark(chapter.dataset)
                instances = None if subject.index is None else subject.index[: chapter.instances]
                results: dict[str, Explanations] = {}
                for algorithm in (get(chapter.gnn_explainer), *ALGORITHMS):
                    name = algorithm.name
                    progress.update(bar, description=f"{chapter.dataset}: {name}")
                    results[name], row = outputs.explain_and_measure(
                        subject,
                        algorithm,
                        strongest=chapter.strongest,
                        index=instances,
                        seed=seed,
                        progress=False,
                    )
                    rows.append(row)
                    results[name].save(folder / f"{chapter.dataset}-{name}.safetensors")
                    progress.advance(bar)
                    if not console.is_terminal:
                        console.print(f"{chapter.dataset}: {name}", highlight=False)
                progress.update(bar, description=f"{chapter.dataset}: drawing")
                pictures = []
                for file, (draw, caption) in chapter.figures.items():
                    path = folder / outputs.FIGURES / f"{chapter.dataset}-{file}.png"
                    outputs.save_figure(draw(subject, results), path)
                    pictures.append(report.Picture(path, caption))
                sections.append(report.Section(chapter.title, chapter.text, pictures))
                progress.advance(bar)
        facts = _facts(seed)
        report.write_report(
            folder / "index.html",
            title="What did the graph networks look at?",
            lead=LEAD,
            rows=rows,
            sections=[*sections, HOW_TO_READ],
            footer=" · ".join(f"{name} {value}" for name, value in facts.items()),
        )
        outputs.write_summary(folder, {**facts, "seconds": round(time.perf_counter() - start, 1), "rows": rows})
    return rows


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: these graphs are too small to share, and on a busy machine two threads wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _facts(seed: int) -> dict[str, Any]:
    return {
        "gnn_xai": __version__,
        "torch": torch.__version__,
        "torch_geometric": version("torch-geometric"),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


# The pictures ####################################################################################


def _sheet(
    names: tuple[str, ...], positions: tuple[int, ...], panel: tuple[float, float], **options: Any
) -> Callable[[Subject, Results], Figure]:
    """One row an instance, one column an algorithm."""

    def draw(subject: Subject, results: Results) -> Figure:
        chosen = [results[name][position] for position in positions for name in names]
        options_of = [{**subject.drawing(e), "mark": subject.true_nodes(e)} for e in chosen]
        return viz.grid(chosen, columns=len(names), panel_options=options_of, aligned=True, panel=panel, **options)

    return draw


def _molecules(names: tuple[str, ...], positions: tuple[int, ...]) -> Callable[[Subject, Results], Drawing]:
    """The same for molecules."""

    def draw(subject: Subject, results: Results) -> Drawing:
        return _formulas(subject, [results[name][position] for position in positions for name in names], len(names))

    return draw


def _formulas(subject: Subject, explanations: Iterable[Explanation], columns: int) -> Drawing:
    chosen = list(explanations)
    marks = [subject.true_nodes(e) for e in chosen]
    return molecules.grid(chosen, columns, class_names=subject.class_names, marks=marks)


def _with_features(subject: Subject, results: Results, positions: tuple[int, ...]) -> Explanations:
    """Integrated gradients of features and edges, for some of the instances."""
    index = results["random"].index[list(positions)]
    return explain(subject.model, subject.data, "integrated_gradients", task=subject.task, index=index, progress=False)


def _atoms(subject: Subject, results: Results) -> Drawing:
    """Molecules with the contribution of every atom and bond."""
    return _formulas(subject, _with_features(subject, results, (0, 5, 11)), 3)


def _features(subject: Subject, results: Results) -> Figure:
    """The features of the first of them, summed over its atoms."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    first = _with_features(subject, results, (0,))[0]
    title = viz.describe(first, subject.class_names)
    viz.features(first, figure.subplots(), top=8, feature_names=subject.feature_names, title=title)
    return figure


# All but node ablation score edges, and edges only, so that the numbers compare.
ALGORITHMS = (
    get("saliency", node_mask_type=None),
    get("input_x_gradient", node_mask_type=None),
    get("integrated_gradients", node_mask_type=None),
    get("edge_ablation"),
    get("node_ablation"),
    get("random", node_mask_type=None),
)

LEAD = (
    "Four data sets, each with a trained reference model that ships with the package. Every "
    "algorithm explains the same predictions; the table says how well each finds the true reason, "
    "where that is known, and how much the model depends on what it found. For fidelity, an "
    "explanation is its strongest edges: 4 in a molecule, 6 in BA-Shapes and in Hetero-Squares, about as many as "
    "the true reason has, and 10 in the social network. Node ablation scores nodes instead. GNNExplainer's epochs and "
    "penalties are chosen for each model; the others have nothing to tune."
)

CHAPTERS = (
    Chapter(
        dataset="nci_nitro",
        instances=None,
        # Half a mask everywhere turns this model's answer, so the size term has to be strong to hold anything back.
        gnn_explainer=GNNExplainer(epochs=300, node_mask_type=None, edge_size=0.1, edge_ent=0.1),
        strongest=4,
        title="Molecules: is there an aromatic nitro group?",
        text=(
            "A GIN reads molecules of the NCI collection and says whether a nitro group sits on an "
            "aromatic ring. The true atoms are known: the group and the carbon that carries it. "
            "Those atoms are circled.",
        ),
        figures={
            "atoms": (
                _atoms,
                "Integrated gradients of atoms (discs) and bonds (bands): orange speaks for a nitro group, blue against.",
            ),
            "features": (
                _features,
                "The same for the features of the left molecule's atoms, summed over the atoms.",
            ),
            "sheet": (
                _molecules(("gnn_explainer", "integrated_gradients", "node_ablation"), (0, 5, 11)),
                "Three molecules (rows) by three algorithms (columns).",
            ),
        },
    ),
    Chapter(
        dataset="karate",
        instances=None,
        gnn_explainer=GNNExplainer(epochs=200, node_mask_type=None, loss="margin"),
        strongest=10,
        title="A social network: who belongs to which community?",
        text=(
            "Zachary's karate club before it split: 34 members, an edge for every friendship. A "
            "GCN that knows the community of four members predicts the others. Nobody knows the "
            "true reasons, so the table has fidelity only.",
        ),
        figures={
            "sheet": (
                _sheet(("integrated_gradients", "edge_ablation"), (0, 8), (5.6, 4.2), top=30),
                "Mr. Hi, one of the two leaders, and member 8, who had friends on both sides.",
            ),
        },
    ),
    Chapter(
        dataset="ba_shapes",
        instances=200,
        # Neighbourhoods of a hundred edges: the size term counts each, so a weaker one is strong enough.
        gnn_explainer=GNNExplainer(epochs=300, node_mask_type=None, edge_size=0.001),
        strongest=6,
        title="BA-Shapes: which corner of a house?",
        text=(
            "The field's benchmark: 80 five-node houses hang on a random graph, and a GCN says "
            "for each node whether it is the top, a middle or a bottom corner of one, or of none. "
            "The true reason is the house, whose nodes have a bold outline.",
        ),
        figures={
            "sheet": (
                _sheet(("gnn_explainer", "saliency", "edge_ablation"), (0, 4), (4.4, 3.7), top=12),
                "A middle corner and the top of the same house, the 12 strongest edges of each.",
            ),
        },
    ),
    Chapter(
        dataset="hetero_squares",
        instances=None,
        # Scores start near 1 and pay for every edge in log-odds: a model of sums has never seen half of a neighbour.
        gnn_explainer=GNNExplainer(
            epochs=300, node_mask_type=None, edge_size=2.0, edge_ent=0.0, loss="margin", edge_init=3.0
        ),
        strongest=6,
        title="A heterogeneous graph: who buys what another user buys?",
        text=(
            "Users and items, and three relations: a user buys an item, views it, or follows another user. Two users "
            "who buy the same two items are buyers, two who view them are viewers; where one buys and the other "
            "views, the same square is a decoy. So the relations make the class, and a GraphConv with weights for "
            "each relation has learned them. The nodes of the true square have a bold outline.",
        ),
        figures={
            "sheet": (
                _sheet(("gnn_explainer", "integrated_gradients", "node_ablation"), (1, 10), (4.4, 3.9), top=10),
                "A buyer (above) and a viewer, the 10 strongest edges or nodes of each. Node types have a shape "
                "and a colour; the legend names them and the relations.",
            ),
        },
    ),
)

HOW_TO_READ = report.Section(
    "How to read the pictures",
    (
        "Molecules are drawn as their formulas, each with its strongest functional group or ring, and with the fidelity of "
        "its explanation as a soft mask; white is a score of 0, and every algorithm has one scale, below its column.",
        "In the other pictures, a line is an edge, and its colour and width both say its score. Scores run from 0 to 1 on "
        "one fixed scale: dark and wide edges are needed. Attributions have a scale of their own in "
        "each picture: red raises the explained output, blue lowers it. Saliency has no sign; there, "
        "dark and wide is strong.",
        "The orange ring marks the node that is explained; nodes carry the names or numbers they "
        "have in the data. In large graphs only the strongest edges are drawn, and the line under "
        "the title says how many.",
    ),
)
