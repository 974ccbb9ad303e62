"""Explained molecules as a page, a sheet of drawings and tables: what `gnn-xai molecules` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gnn_xai.molecules import drawing, tables
from gnn_xai.molecules.smiles import Molecules
from gnn_xai.report.page import render
from gnn_xai.results.explanations import Explanation, Explanations

if TYPE_CHECKING:
    from pandas import DataFrame

ON_THE_SHEET = 60  # molecules; more than a wall takes
FRAGMENTS = 3  # named on the page, of each molecule

MASK = "White is 0, a part the prediction does without; green is 1, a part that is needed."
SIGNED = "Orange raises the explained output, blue lowers it, white does neither."
ONE_SIDED = "The greener, the more the explained output depends on it; the sign is not known."


def write_molecules(
    folder: Path,
    molecules: Molecules,
    explanations: Explanations,
    *,
    title: str,
    columns: int = 5,
    class_names: Sequence[str] | None = None,
    footer: str = "",
) -> DataFrame:
    """Write `sheet.png`, `sheet.svg`, `index.html`, `molecules.csv`, `atoms.csv` and `bonds.csv`.

    The page holds every molecule and needs no network, no script and no other file. The sheet holds the first 60.

    Args:
        folder: where to write; it exists.
        molecules: what was explained.
        explanations: of all of them, in their order.
        title: of the page.
        columns: molecules in a row of the sheet.
        class_names: names of the model's outputs.
        footer: a last line for the page, for versions and seeds.

    Returns:
        The table of `molecules.csv`.
    """
    pandas = tables.pandas()
    sheet = drawing.grid(explanations[:ON_THE_SHEET], columns, limit=_limit(explanations), class_names=class_names)
    sheet.save(folder / "sheet.svg")
    sheet.save(folder / "sheet.png")
    cards = [_card(e, molecules, class_names) for e in explanations]
    page = render(
        "molecules.html",
        title=title,
        lead=_lead(molecules, explanations),
        how_to_read=_how_to_read(explanations),
        scale=Markup(drawing.colorbar(explanations).svg),
        left_out=[problem for problem in molecules.problems if problem.left_out],
        cards=cards,
        footer=footer,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    table = pandas.DataFrame([_row(e, card) for e, card in zip(explanations, cards, strict=True)])
    table.to_csv(folder / "molecules.csv", index=False, float_format="%.6g")
    for name, rows in (("atoms", tables.atoms), ("bonds", tables.bonds)):
        parts = []
        for e, card in zip(explanations, cards, strict=True):
            part = rows(e)
            for place, key in enumerate(("line", "name", "smiles")):
                part.insert(place, key, card[key])
            parts.append(part)
        pandas.concat(parts).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    return table


def _limit(explanations: Explanations) -> float | None:
    """The end of the scale of the whole run, for a part of it."""
    scale = drawing.scale_of(explanations)
    return scale.limit if scale.signed else None


def _card(e: Explanation, molecules: Molecules, class_names: Sequence[str] | None) -> dict[str, Any]:
    line = molecules.lines[e.index]
    notes = [problem.reason.partition(": ")[2] for problem in molecules.problems if problem.line == line]
    name, prediction, _, fidelity = drawing.panel_of(e, class_names)
    return {
        "line": line,
        "name": name,
        "smiles": molecules[e.index].smiles,
        "prediction": prediction,
        "fragments": drawing.top_fragments(e, FRAGMENTS),
        "fidelity": fidelity,
        "note": "; ".join(notes),
        "picture": Markup(drawing.draw(e, title="", colorbar=False).svg),  # its texts are escaped where it is made
    }


def _row(e: Explanation, card: dict[str, Any]) -> dict[str, Any]:
    plus, minus = drawing.fidelity_of(e)
    return {
        **{key: card[key] for key in ("line", "name", "smiles", "prediction")},
        "target": e.target,
        "top_fragment": card["fragments"][0] if card["fragments"] else "",
        "fidelity_plus": plus,
        "fidelity_minus": minus,
        "note": card["note"],
    }


def _lead(molecules: Molecules, explanations: Explanations) -> str:
    left_out = sum(problem.left_out for problem in molecules.problems)
    more = f" {left_out} of {len(molecules) + left_out} lines were left out; they are listed below." if left_out else ""
    return f"{len(explanations)} molecules, explained by {explanations.algorithm['name']}.{more}"


def _how_to_read(explanations: Explanations) -> str:
    scale = drawing.scale_of(explanations)
    meaning = MASK if not scale.signed else ONE_SIDED if scale.one_sided else SIGNED
    return (
        f"{meaning} A disc is an atom and a band is a bond; all molecules share this scale. Below each stand the fragments "
        "with the largest attribution, and what the prediction loses without the explanation (fidelity+, high is good) and "
        "with nothing but it (fidelity−, low is good)."
    )
