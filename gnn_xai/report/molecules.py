"""Explained molecules as a page, a sheet of drawings and tables: what `gnn-xai molecules` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gnn_xai.errors import InputError, warn
from gnn_xai.molecules import drawing, tables, words
from gnn_xai.molecules.smiles import Molecules
from gnn_xai.molecules.space import scene_of
from gnn_xai.molecules.sums import sum_of, unit_of
from gnn_xai.report.page import render
from gnn_xai.report.scripts import viewer_scripts
from gnn_xai.results.explanations import Explanation, Explanations

if TYPE_CHECKING:
    from pandas import DataFrame

ON_THE_SHEET = 60  # molecules; more than a wall takes
ON_THE_PAGE = 1000  # molecules; some 7 kB each
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
    unit: str = "",
    footer: str = "",
    viewer: Path | None = None,
) -> DataFrame:
    """Write `sheet.png`, `sheet.svg`, `index.html`, `molecules.csv`, `atoms.csv` and `bonds.csv`.

    The page holds the first 1 000 molecules and needs no network, no script and no other file. The sheet holds the first
    60, and the tables all. A picture that cannot be drawn is missed alone, with a word in its place or, for the sheet, a
    warning.

    `molecules.csv` holds `line`, `name`, `smiles`, the columns that the molecules came with, then numbers: `prediction` (the
    value of a regression; else the predicted class), `probability` (of the explained class; missing for a regression),
    `target`, `top_fragment` (a name), `top_fragment_value`, for classes `fidelity_plus` and `fidelity_minus`, and where
    attributions add up the parts of `gnn_xai.molecules.sums.Sum`; then `note`. Columns of the same names that the molecules
    came with have ` (file)` after theirs.

    Args:
        folder: where to write; it exists.
        molecules: what was explained.
        explanations: of all of them, in their order.
        title: of the page.
        columns: molecules in a row of the sheet.
        class_names: names of the model's outputs.
        unit: of the values of a regression.
        footer: a last line for the page, for versions and seeds.
        viewer: `3Dmol-min.js`, to be part of the page; each molecule then has a button that shows it in space.

    Returns:
        The table of `molecules.csv`.
    """
    pandas = tables.pandas()
    scripts = [] if viewer is None else viewer_scripts(viewer)
    _draw_sheet(folder, explanations, columns, class_names, unit)
    notes: dict[int, str] = {problem.line: problem.reason.partition(": ")[2] for problem in molecules.problems}
    cards = [_card(e, molecules, notes, class_names, unit) for e in explanations]
    shown = [
        {**card, "picture": _picture(e), "scene": _scene(e) if scripts else ""}
        for card, e in zip(cards, explanations[:ON_THE_PAGE], strict=False)
    ]
    page = render(
        "molecules.html",
        title=title,
        lead=_lead(molecules, explanations),
        how_to_read=_how_to_read(explanations, unit),
        scale=Markup(drawing.colorbar(explanations).svg),
        left_out=[problem for problem in molecules.problems if problem.left_out],
        cards=shown,
        scripts=scripts,
        footer=footer,
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    rows_of_table = [_row(e, card, molecules.properties[e.index]) for e, card in zip(explanations, cards, strict=True)]
    table = pandas.DataFrame(rows_of_table)
    table.to_csv(folder / "molecules.csv", index=False, float_format="%.6g")
    heads = [{key: card[key] for key in ("line", "name", "smiles")} for card in cards]
    for name, columns_of in (("atoms", tables.atom_columns), ("bonds", tables.bond_columns)):
        parts = list(zip(heads, map(columns_of, explanations), strict=True))
        tables.stacked(parts).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    return table


def _draw_sheet(
    folder: Path, explanations: Explanations, columns: int, class_names: Sequence[str] | None, unit: str
) -> None:
    """Write the first molecules as `sheet.svg` and `sheet.png`, or say in a warning that they cannot be drawn."""
    shown, limit = explanations[:ON_THE_SHEET], _limit(explanations)
    try:
        sheet = drawing.grid(shown, columns, limit=limit, class_names=class_names, unit=unit)
        for suffix in ("svg", "png"):
            sheet.save(folder / f"sheet.{suffix}")
    except InputError:
        raise
    except Exception as error:  # whatever RDKit or PIL raise: tables and page are worth more than a picture
        warn(f"the sheet of molecules cannot be drawn ({type(error).__name__}: {error}); tables and page are whole")


def _picture(e: Explanation) -> Markup:
    """A molecule as SVG, whose texts are escaped where it is made; a sentence where it cannot be drawn."""
    try:
        return Markup(drawing.draw(e, title="", colorbar=False).svg)
    except InputError:
        raise
    except Exception as error:  # as above
        return Markup("<p>no picture: {}</p>").format(error)


def _scene(e: Explanation) -> str:
    """What the viewer shows of a molecule, as JSON; `""` where its atoms have no scores."""
    if tables.by_node(e) is None:
        return ""
    scene = scene_of(e)
    return json.dumps({"molfile": scene.molfile, "styles": scene.styles()}, separators=(",", ":"))


def _limit(explanations: Explanations) -> float | None:
    """The end of the scale of the whole run, for a part of it."""
    scale = drawing.scale_of(explanations)
    return scale.limit if scale.signed else None


def _card(
    e: Explanation, molecules: Molecules, notes: Mapping[int, str], class_names: Sequence[str] | None, unit: str
) -> dict[str, Any]:
    line = molecules.lines[e.index]
    below = words.words_of(e, class_names, unit, FRAGMENTS)
    return {
        **below._asdict(),
        "line": line,
        "smiles": molecules[e.index].smiles,
        "words": words.in_words(e, below.fragments),
        "note": notes.get(line, ""),
    }


def _row(e: Explanation, card: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    head = {key: card[key] for key in ("line", "name", "smiles")}
    own: dict[str, Any] = {**words.predicted(e), "target": e.target}
    own["top_fragment"], own["top_fragment_value"] = card["fragments"][0] if card["fragments"] else ("", float("nan"))
    if card["fidelity"]:
        own["fidelity_plus"], own["fidelity_minus"] = words.fidelity_of(e)
    own |= {} if card["parts"] is None else card["parts"].rows()
    own["note"] = card["note"]
    kept = {f"{key} (file)" if key in head or key in own else key: value for key, value in properties.items()}
    return {**head, **kept, **own}


def _lead(molecules: Molecules, explanations: Explanations) -> str:
    left_out = sum(problem.left_out for problem in molecules.problems)
    more = f" {left_out} of {len(molecules) + left_out} lines were left out; they are listed below." if left_out else ""
    few = (
        f" The page shows the first {ON_THE_PAGE}, and molecules.csv lists all." if len(molecules) > ON_THE_PAGE else ""
    )
    return f"{len(explanations)} molecules, explained by {explanations.algorithm['name']}.{few}{more}"


def _how_to_read(explanations: Explanations, unit: str) -> str:
    scale = drawing.scale_of(explanations)
    meaning = MASK if not scale.signed else ONE_SIDED if scale.one_sided else SIGNED
    text = (
        f"{meaning} A disc is an atom and a band is a bond; all molecules share this scale. Below each stand the fragments "
        "with the largest attribution."
    )
    first = explanations[0]
    if explanations.edge_mask is not None and explanations.node_mask is None:
        text += " The algorithm scored bonds alone: atoms are white, and a fragment has half of each bond at its ends."
    if explanations.task.mode.value != "regression":
        text += (
            " Fidelity+ is what the prediction loses without the explanation (high is good), fidelity− what it loses with "
            "nothing but it (low is good)."
        )
    if sum_of(first) is not None:
        name = unit_of(first, unit)
        text += (
            " Attributions add up: the base value, that of a molecule of which nothing is there, and those of all atoms and "
            f"bonds make the prediction{f', in {name}' if name else ', in its own unit'}."
        )
    return text
