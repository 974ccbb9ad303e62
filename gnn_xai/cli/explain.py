"""`gnn-xai explain`: explanations of a data set's reference model, or of a user's own model on their own data."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gnn_xai as gx
from gnn_xai.cli.options import (
    Algorithm,
    Choice,
    FitIndex,
    Ids,
    Out,
    Overwrite,
    Seed,
    Settings,
    parse_index,
    parse_settings,
    spread,
)
from gnn_xai.cli.terminal import console, print_rows, say
from gnn_xai.errors import InputError

if TYPE_CHECKING:
    from gnn_xai.results.explanations import Explanation, Explanations


@spread
def explain(
    choice: Choice,
    out: Out,
    algorithm: Algorithm = "gnn_explainer",
    settings: Settings = None,
    fit_index: FitIndex = None,
    seed: Seed = 0,
    figures: Annotated[int, typer.Option(min=0, help="How many instances to draw.")] = 6,
    overwrite: Overwrite = False,
) -> None:
    """Explain predictions of a data set's reference model, or of your own model on your own data.

    Writes explanations.safetensors, summary.json and figures/, all or nothing.
    """
    from gnn_xai.cli import outputs
    from gnn_xai.viz import describe

    method: Any = gx.algorithms.get(algorithm, **parse_settings(settings))
    index = choice.check()
    fit_on = _fit_on(method, fit_index)
    with outputs.output_folder(out, overwrite=overwrite) as folder:
        subject = choice.subject()
        if fit_on is not None:
            settings_of_fit = {"task": subject.task, **subject.types, "seed": seed}
            method = method.fit(
                subject.model, subject.data, index=fit_on, **settings_of_fit, progress=sys.stderr.isatty()
            )
        explanations, row = outputs.explain_and_measure(
            subject,
            method,
            index=subject.index if index is None else index,
            target=choice.target,
            seed=seed,
            max_neighbors=choice.max_neighbors,
            progress=sys.stderr.isatty(),
        )
        outputs.write(folder, subject, explanations, row, figures=figures)
    rows = ((describe(e, subject.class_names), _strongest(explanations, e)) for e in explanations)
    print_rows(("prediction", "strongest"), rows, len(explanations), outputs.SUMMARY)
    console.print(outputs.results_table([row]))
    say(f"written to {out}/: {outputs.EXPLANATIONS}, {outputs.SUMMARY}, {outputs.FIGURES}/")


def _fit_on(method: Any, text: str | None) -> Ids | None:
    """What to fit an algorithm on; `None` for one that explains as it is.

    Raises:
        InputError: if there is nothing to fit on, or nothing to fit.
    """
    needed = gx.algorithms.needs_fit(method)
    if needed and text is None:
        raise InputError(
            f"{method.name} learns over many instances first; expected them as --fit-index, as in --fit-index 300-399"
        )
    if text is not None and not needed:
        raise InputError(f"{method.name} is not fitted; leave out --fit-index")
    return None if text is None else parse_index(text, "--fit-index")


def _strongest(explanations: Explanations, e: Explanation) -> str:
    if e.edge_mask is not None:
        return ", ".join(_edge(*edge) for edge in e.top_edges(3))
    if explanations.node_mask_type != "common_attributes":
        return ", ".join(f"{_name(node)} {score:.2f}" for node, score in e.top_nodes(4))
    return ", ".join(f"{_name(column, 'feature ')} {score:.2f}" for column, score in e.top_features(3))


def _edge(first: Any, second: Any, score: float) -> str:
    """An edge `(u, v, score)`, or `(relation, (u, v), score)` of a heterogeneous graph."""
    if not isinstance(first, tuple):
        return f"{first}–{second} {score:.2f}"
    source, name, target = first
    return f"{source} {second[0]} {name} {target} {second[1]} {score:.2f}"


def _name(element: Any, word: str = "") -> str:
    """A node or feature, with its type where there are several."""
    return f"{element[0]} {word}{element[1]}" if isinstance(element, tuple) else f"{word}{element}"
