"""Structural formulas side by side with words below, drawn alike where molecules are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gnn_xai.molecules.drawing import BOND_IN_GRID, LARGEST_PANEL, MARGIN, SMALLEST_PANEL, Drawing
from gnn_xai.molecules.drawing import _bar as draw_bar
from gnn_xai.molecules.drawing import _Canvas as Canvas
from gnn_xai.molecules.drawing import _Formula as Formula
from gnn_xai.molecules.drawing import _size as size_of
from gnn_xai.molecules.drawing import _wrapped as wrapped
from gnn_xai.viz.color import FAINT_TEXT, Scale

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PLAIN = Scale(signed=True, limit=1.0)  # nothing is shaded
LINE, HEAD = 15, 18


@dataclass(frozen=True, eq=False)
class Panel:
    """A molecule of a row of pictures.

    Attributes:
        mol: as `laid_out` or `aligned` returns it.
        title, lines: below it; a line that is too long takes two.
        scores: `[atoms]`, shaded.
        mark: atoms with a ring.
    """

    mol: Mol
    title: str
    lines: Sequence[str] = ()
    scores: np.ndarray | None = None
    mark: frozenset[int] = frozenset()


def aligned(mol: Mol, like: Mol, places: Mapping[int, int], notes: Mapping[int, str] | None = None) -> Mol:
    """A copy of a molecule with coordinates, in which some atoms are where they are in another.

    Args:
        mol: the molecule.
        like: another one, as `laid_out` returns it.
        places: atoms of the one, with those of the other in whose places they are.
        notes: numbers or words beside atoms.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw.rdMolDraw2D import PrepareMolForDrawing
    from rdkit.Geometry import Point2D
    from rdkit.rdBase import BlockLogs

    mol = Chem.Mol(mol)
    mol.RemoveAllConformers()
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
        atom.ClearProp("atomNote")
        if notes and atom.GetIdx() in notes:
            atom.SetProp("atomNote", notes[atom.GetIdx()])
    where = like.GetConformer().GetPositions()
    with BlockLogs():
        rdDepictor.Compute2DCoords(mol, coordMap={i: Point2D(*where[j][:2]) for i, j in places.items()})
        return PrepareMolForDrawing(mol, addChiralHs=False)


def row_of(
    panels: Sequence[Panel],
    columns: int,
    *,
    scale: Scale | None = None,
    title: str,
    panel: tuple[int, int] | None = None,
) -> Drawing:
    """Panels in rows, with the scale below if any is shaded.

    Args:
        panels: the molecules.
        columns: molecules in a row.
        scale: of `scores`; `None` draws no scale.
        title: in words, for those who cannot see it.
        panel: width and height of a molecule in pixels; by default they grow with the molecules.
    """
    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns)
    if panel is None:
        sizes = [size_of(each.mol, BOND_IN_GRID, SMALLEST_PANEL, LARGEST_PANEL) for each in panels]
        width, height = (max(side) for side in zip(*sizes, strict=True))
    else:
        width, height = panel
    room = width - 2 * MARGIN
    words = [[part for line in each.lines for part in wrapped(line, 11, room) if part] for each in panels]
    text = HEAD + 16 + LINE * max(map(len, words), default=0)
    foot = 0 if scale is None else 48

    def paint(canvas: Canvas) -> None:
        for i, (each, lines) in enumerate(zip(panels, words, strict=True)):
            x, y = (i % columns) * width, (i // columns) * (height + text)
            formula = Formula(each.mol, each.scores, None, each.mark)
            canvas.molecule(x, y, width, height, formula, scale or PLAIN, BOND_IN_GRID)
            canvas.text(x + MARGIN, y + height + HEAD, each.title, 13, width=room)
            for line, part in enumerate(lines):
                canvas.text(x + MARGIN, y + height + HEAD + LINE * (line + 1), part, 11, width=room, color=FAINT_TEXT)
        if scale is not None:
            draw_bar(canvas, width * columns / 2, rows * (height + text) + 6, scale)

    return Drawing(width * columns, rows * (height + text) + foot, paint, title)
