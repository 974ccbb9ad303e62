"""Structural formulas with atoms and bonds shaded by their scores, as SVG and PNG.

White is 0. Orange raises the explained output and blue lowers it, a pair that people who cannot tell red from green can
tell apart; masks and scores without a sign run from white to green.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gnn_xai._checks import is_integer, is_number, positive_integer
from gnn_xai.errors import InputError
from gnn_xai.molecules.canvas import Canvas, Drawing, Formula
from gnn_xai.molecules.layout import depiction, laid_out, size_of
from gnn_xai.molecules.panels import Panel, room_of, sheet_of
from gnn_xai.molecules.tables import atom_scores, bond_scores, by_node, graph_of, molecule, name_of, of_nodes
from gnn_xai.molecules.words import in_words, prediction_of, words_of
from gnn_xai.viz.color import FAINT_TEXT, TEXT, Scale

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from gnn_xai.results.explanations import Explanation, Explanations

__all__ = ["Drawing", "colorbar", "depiction", "draw", "grid", "scale_of"]

BOND = 34.0  # pixels a bond in a drawing of its own, as long as the molecule fits
SMALLEST, LARGEST = (340, 200), (1100, 900)  # drawings, in pixels
MARGIN = 16
HATCHED = "hatched: spread larger than the mean"
PANELS_AT_MOST = 200

Mark = str | Collection[int]
"""Atoms to circle: their indices, or SMARTS."""


def draw(
    explanation: Explanation,
    *,
    limit: float | None = None,
    size: tuple[int, int] | None = None,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
    mark: Mark = (),
    numbers: bool = False,
    colorbar: bool = True,
) -> Drawing:
    """Draw a molecule with its atoms and bonds shaded by their scores.

    The scale is fixed: from 0 to 1 for masks; for attributions from −limit to +limit, or from 0 where none is below,
    where limit is the largest of the whole run that the explanation belongs to. So pictures of one run compare. Atoms
    and bonds share it. Where an algorithm scored one of the two only, the other stays white.

    Args:
        explanation: of a graph that carries `smiles`. One that was loaded from disk gets its data with
            `dataclasses.replace(explanations, data=molecules)`.
        limit: the end of the scale of attributions; what lies beyond has the last colour.
        size: width and height of the formula in pixels; by default it grows with the molecule.
        title: replaces the two lines that name the molecule and the prediction; `""` for none.
        class_names: names of the model's outputs, for the second of them.
        mark: atoms to circle, such as the true ones of a benchmark: their indices, or SMARTS for all that match.
        numbers: write the indices of atoms beside them; else atom map numbers are, where there are any.
        colorbar: whether to draw the scale below.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: the graph carries no SMILES, the explanation scores neither atoms nor bonds, or `limit` is not above 0.
    """
    if size is not None and not (isinstance(size, (tuple, list)) and list(map(is_integer, size)) == [True, True]):
        raise InputError(f"expected size as width and height in pixels, such as (400, 300), got {size!r}")
    if not isinstance(title, str | None):
        raise InputError(f"expected title as a string, got {title!r}")
    formula = formula_of(explanation, mark, numbers)
    scale = scale_of(explanation.source, limit)
    width, height = size or size_of(formula.mol, BOND, SMALLEST, LARGEST)
    if title is None:
        title = f"{name_of(explanation)}\n{prediction_of(explanation, class_names)}"
    lines = [line for line in title.split("\n") if line]
    lines += [HATCHED] if formula.unsure and lines else []
    top = 22 * len(lines) + 8 if lines else 0
    full = height + top + (46 if colorbar else 0)

    def paint(canvas: Canvas) -> None:
        for i, line in enumerate(lines):
            size, color = (12, FAINT_TEXT) if i else (14, TEXT)
            canvas.text(MARGIN, 22 + 20 * i, line, size, width=width - 2 * MARGIN, color=color)
        canvas.molecule(0, top, width, height, formula, scale, BOND)
        if colorbar:
            canvas.bar(width / 2, top + height + 8, scale)

    return Drawing(width, full, paint, ", ".join(lines) or graph_of(explanation).smiles)


def colorbar(explanations: Explanations, limit: float | None = None) -> Drawing:
    """The scale of a run alone, for a page that shows it once.

    Raises:
        InputError: as `draw`.
    """
    scale = scale_of(explanations, limit)
    return Drawing(280, 44, lambda canvas: canvas.bar(140, 8, scale), "scale")


def grid(
    explanations: Iterable[Explanation],
    columns: int = 5,
    *,
    limit: float | None = None,
    class_names: Sequence[str] | None = None,
    marks: str | Sequence[Mark] | None = None,
    unit: str = "",
) -> Drawing:
    """Draw molecules on one sheet, each with its prediction, its strongest fragment and, for a class, the explanation's
    fidelity; for a regression, what attributions add up to where they do.

    All molecules of a run share one scale, and all have bonds of one length unless one is too large for its panel. The
    fidelity is that of the explanation as a soft mask, as `gnn_xai.metrics.fidelity` has it by default. A molecule that
    cannot be drawn leaves its panel empty, with a word on why.

    Args:
        explanations: what to draw: `Explanations`, or any iterable of single ones, of several algorithms, say; 200 at
            most.
        columns: molecules in a row.
        limit, class_names: as in `draw`.
        marks: atoms to circle, for each molecule, or SMARTS for all of them.
        unit: of a regression's values, for the words below.

    Raises:
        GnnXaiError: RDKit or pandas is not installed.
        InputError: nothing to draw, more than 200 molecules, `marks` of another length, or as in `draw`.
    """
    if not isinstance(explanations, Iterable):
        raise InputError(f"expected explanations to draw, got {type(explanations).__name__}")
    positive_integer(columns, "columns")
    shown = list(explanations)
    if not 1 <= len(shown) <= PANELS_AT_MOST:
        raise InputError(f"expected 1 to {PANELS_AT_MOST} explanations to draw, got {len(shown)}; pass a slice")
    if isinstance(marks, str) or marks is None:
        marks = [marks or ()] * len(shown)
    if not isinstance(marks, Sequence) or len(marks) != len(shown):
        length = len(marks) if isinstance(marks, Collection) else repr(marks)
        raise InputError(f"expected marks of length {len(shown)}, got {length}")
    formulas = [formula_of(e, mark) for e, mark in zip(shown, marks, strict=True)]
    runs = {id(e.source): e.source for e in shown}
    scales = {key: scale_of(run, limit) for key, run in runs.items()}
    panels = []
    for e, formula in zip(shown, formulas, strict=True):
        words = words_of(e, class_names, unit)
        lines = [words.prediction, ", ".join(in_words(e, words.fragments)), words.fidelity or words.sum]
        panels.append(Panel(formula, words.name, lines, scales[id(e.source)]))
    bars = [(scales[key], str(run.algorithm.get("name", "")) if len(runs) > 1 else "") for key, run in runs.items()]
    sizes = np.quantile([room_of(formula) for formula in formulas], 0.8, axis=0).astype(int)  # the largest shrink
    width, height = sizes.tolist()
    title = f"{len(shown)} explained molecules"
    return sheet_of(panels, columns, title=title, bars=bars, size=(width, height))


def scale_of(explanations: Explanations, limit: float | None = None) -> Scale:
    """The scale that all molecules of a run share.

    Raises:
        InputError: the run scores neither atoms nor bonds, or `limit` is not above 0.
    """
    if limit is not None and not is_number(limit, "(0, inf)"):
        raise InputError(f"expected limit above 0, got {limit!r}")
    of_atoms = by_node(explanations)
    if explanations.edge_mask is None and of_atoms is None:
        raise InputError(
            f"expected scores of atoms or bonds, but {explanations.algorithm['name']} scored features of the whole graph; "
            "use another algorithm or node_mask_type"
        )
    scores = np.zeros(0)
    if of_atoms is not None:
        scores = np.append(scores, of_atoms.detach().cpu().numpy())
    if explanations.edge_mask is not None:
        scores = np.append(scores, explanations.edge_mask.detach().cpu().numpy())
    own = Scale.of(scores, explanations.signed, explanations.one_sided)
    return Scale(True, limit, own.one_sided) if limit is not None and own.signed else own


def formula_of(explanation: Explanation, mark: Mark = (), numbers: bool = False) -> Formula:
    """The formula of an explained molecule, with its scores; `mark` and `numbers` as in `draw`."""
    mol = molecule(explanation)
    atoms, bonds = atom_scores(explanation, mol), bond_scores(explanation, mol)
    return Formula(laid_out(mol, numbers), atoms, bonds, _marked(mol, mark), _unsure(explanation, mol, atoms))


def _unsure(explanation: Explanation, mol: Mol, atoms: np.ndarray | None) -> frozenset[int]:
    """Atoms for which the members of an ensemble differ by more than their mean."""
    spread = explanation.extras.get("node_spread")
    if atoms is None or spread is None:
        return frozenset()
    wide = of_nodes(explanation, spread, int(graph_of(explanation).num_nodes or 0))[: mol.GetNumAtoms()]
    return frozenset(np.flatnonzero(wide > np.abs(atoms) + 1e-9).tolist())


def _marked(mol: Mol, mark: Mark) -> frozenset[int]:
    """The atoms of a mark.

    Raises:
        InputError: it is neither SMARTS nor atoms of the molecule.
    """
    if isinstance(mark, str):
        from rdkit.Chem import MolFromSmarts
        from rdkit.rdBase import BlockLogs

        with BlockLogs():
            pattern = MolFromSmarts(mark)
        if pattern is None or not pattern.GetNumAtoms():
            raise InputError(f"expected mark as atoms, or SMARTS that RDKit can read, got {mark!r}")
        return frozenset(atom for match in mol.GetSubstructMatches(pattern, uniquify=True) for atom in match)
    atoms = mark.tolist() if hasattr(mark, "tolist") else mark  # type: ignore[union-attr]
    if not isinstance(atoms, Collection) or not all(hasattr(atom, "__index__") for atom in atoms):
        raise InputError(f"expected mark as atoms, such as [0, 1], or SMARTS, got {mark!r}")
    beyond = [atom for atom in atoms if not 0 <= atom < mol.GetNumAtoms()]
    if beyond:
        raise InputError(f"expected mark as atoms from 0 to {mol.GetNumAtoms() - 1}, got {beyond[0]}")
    return frozenset(map(int, atoms))
