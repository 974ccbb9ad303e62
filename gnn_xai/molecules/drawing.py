"""Structural formulas with atoms and bonds shaded by their scores, as SVG and PNG.

RDKit draws the formula in black; the shading lies beneath it: a disc an atom, a band a bond. White is 0. Orange raises
the explained output and blue lowers it, a pair that people who cannot tell red from green can tell apart; masks and
scores without a sign run from white to green.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex

from gnn_xai._checks import is_integer, is_number, positive_integer
from gnn_xai.errors import InputError
from gnn_xai.molecules.smiles import as_mol
from gnn_xai.molecules.sums import Sum, sum_of, unit_of
from gnn_xai.molecules.tables import atom_scores, bond_scores, graph_of, molecule, of_nodes
from gnn_xai.viz.captions import describe, probabilities
from gnn_xai.viz.color import FAINT_TEXT, TEXT, Scale, signed_text

if TYPE_CHECKING:
    from PIL import Image
    from rdkit.Chem import Mol

    from gnn_xai.results.explanations import Explanation, Explanations

DIVERGING = LinearSegmentedColormap.from_list(
    "gnn_xai_atoms", ["#2f86cf", "#8fc0e8", "#ffffff", "#f8b184", "#e66a2c"], N=257
)  # an odd number, so that 0 is white
SEQUENTIAL = LinearSegmentedColormap.from_list("gnn_xai_atom_mask", ["#ffffff", "#a8dcc0", "#35a077"])

BOND = 34.0  # pixels a bond in a drawing of its own, as long as the molecule fits
BOND_IN_GRID = 26.0
SMALLEST, LARGEST = (340, 200), (1100, 900)  # drawings, in pixels
SMALLEST_PANEL, LARGEST_PANEL = (220, 165), (460, 380)
MARGIN = 16
HATCH = "#3b444d"
HATCHED = "hatched: spread larger than the mean"
MACROCYCLE = 9  # atoms of a ring
PANELS_AT_MOST = 200
SHARPNESS = 2  # pixels of a PNG for one of the SVG


Mark = str | Collection[int]
"""Atoms to circle: their indices, or SMARTS."""


class Drawing:
    """A picture that a notebook shows, and that is saved as SVG or PNG.

    Attributes:
        width, height: in pixels of the SVG; the PNG has twice as many.
    """

    def __init__(self, width: int, height: int, paint: Callable[[_Canvas], None], title: str) -> None:
        self.width, self.height = width, height
        self._paint, self._title = paint, title

    def __repr__(self) -> str:
        return f"Drawing({self._title!r}, {self.width} × {self.height})"

    @cached_property
    def svg(self) -> str:
        """The picture as an SVG element, which needs nothing outside itself."""
        canvas = _SvgCanvas(self.width, self.height)
        self._paint(canvas)
        return canvas.finish(self._title)

    @cached_property
    def png(self) -> bytes:
        """The picture as a PNG file."""
        canvas = _PngCanvas(self.width, self.height)
        self._paint(canvas)
        return canvas.finish()

    def save(self, path: str | Path) -> Path:
        """Write the picture, as its suffix says.

        Raises:
            InputError: the suffix is neither `.svg` nor `.png`.
        """
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n{self.svg}\n', encoding="utf-8")
        elif path.suffix == ".png":
            path.write_bytes(self.png)
        else:
            raise InputError(f"expected a path that ends in .svg or .png, got {str(path)!r}")
        return path

    def _repr_svg_(self) -> str:
        return self.svg


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
    formula = _Formula.of(explanation, mark, numbers)
    scale = scale_of(explanation.source, limit)
    width, height = size or _size(formula.mol, BOND, SMALLEST, LARGEST)
    if title is None:
        title = f"{name_of(explanation)}\n{prediction_of(explanation, class_names)}"
    lines = [line for line in title.split("\n") if line]
    lines += [HATCHED] if formula.unsure and lines else []
    top = 22 * len(lines) + 8 if lines else 0
    full = height + top + (46 if colorbar else 0)

    def paint(canvas: _Canvas) -> None:
        for i, line in enumerate(lines):
            size, color = (12, FAINT_TEXT) if i else (14, TEXT)
            canvas.text(MARGIN, 22 + 20 * i, line, size, width=width - 2 * MARGIN, color=color)
        canvas.molecule(0, top, width, height, formula, scale, BOND)
        if colorbar:
            _bar(canvas, width / 2, top + height + 8, scale)

    return Drawing(width, full, paint, ", ".join(lines) or graph_of(explanation).smiles)


def colorbar(explanations: Explanations, limit: float | None = None) -> Drawing:
    """The scale of a run alone, for a page that shows it once.

    Raises:
        InputError: as `draw`.
    """
    scale = scale_of(explanations, limit)
    return Drawing(280, 44, lambda canvas: _bar(canvas, 140, 8, scale), "scale")


class Panel(NamedTuple):
    """What stands below one molecule of a grid: words, the strongest fragments, and what attributions add up to."""

    name: str
    prediction: str
    fragments: list[tuple[str, float]]
    fidelity: str
    parts: Sum | None
    sum: str


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
    formulas = [_Formula.of(e, mark) for e, mark in zip(shown, marks, strict=True)]
    panels = [panel_of(e, class_names, unit) for e in shown]
    runs = {id(e.source): e.source for e in shown}
    scales = {key: scale_of(run, limit) for key, run in runs.items()}

    columns = max(1, min(columns, len(shown)))
    rows = -(-len(shown) // columns)
    sizes = [_size(formula.mol, BOND_IN_GRID, SMALLEST_PANEL, LARGEST_PANEL) for formula in formulas]
    width, height = (int(np.quantile(side, 0.8)) for side in zip(*sizes, strict=True))  # the largest shrink
    gap, text, foot = 10, 92, 64

    def paint(canvas: _Canvas) -> None:
        for i, (e, formula, panel) in enumerate(zip(shown, formulas, panels, strict=True)):
            x, y = (i % columns) * width, (i // columns) * (height + text) + gap
            room = width - 2 * MARGIN
            try:
                canvas.molecule(x, y, width, height, formula, scales[id(e.source)], BOND_IN_GRID)
            except Exception as error:  # whatever RDKit or PIL raise; the others are drawn
                canvas.text(x + MARGIN, y + height / 2, f"no picture: {error}", 11, width=room, color=FAINT_TEXT)
            canvas.text(x + MARGIN, y + height + 16, panel.name, 13, width=room)
            words = [
                *_wrapped(panel.prediction, 11, room),
                ", ".join(in_words(e, panel.fragments)),
                panel.fidelity or panel.sum,
            ]
            for line, part in enumerate(filter(None, words)):
                canvas.text(x + MARGIN, y + height + 32 + 15 * line, part, 11, width=room, color=FAINT_TEXT)
        for i, (key, run) in enumerate(runs.items()):
            middle = width * columns * (i + 0.5) / len(runs)
            name = str(run.algorithm.get("name", "")) if len(runs) > 1 else ""
            _bar(canvas, middle, rows * (height + text) + gap + 4, scales[key], name)

    return Drawing(width * columns, rows * (height + text) + foot, paint, f"{len(shown)} explained molecules")


# What a picture says #################################################################################################


def scale_of(explanations: Explanations, limit: float | None = None) -> Scale:
    """The scale that all molecules of a run share.

    Raises:
        InputError: the run scores neither atoms nor bonds, or `limit` is not above 0.
    """
    if limit is not None and not is_number(limit, "(0, inf)"):
        raise InputError(f"expected limit above 0, got {limit!r}")
    by_atom = explanations.node_mask is not None and explanations.node_mask_type != "common_attributes"
    if explanations.edge_mask is None and not by_atom:
        raise InputError(
            f"expected scores of atoms or bonds, but {explanations.algorithm['name']} scored features of the whole graph; "
            "use another algorithm or node_mask_type"
        )
    scores = np.zeros(0)
    if by_atom:
        scores = np.append(scores, explanations.node_mask.detach().sum(1).cpu().numpy())  # type: ignore[union-attr]
    if explanations.edge_mask is not None:
        scores = np.append(scores, explanations.edge_mask.detach().cpu().numpy())
    own = Scale.of(scores, explanations.signed, explanations.one_sided)
    return Scale(True, limit, own.one_sided) if limit is not None and own.signed else own


def shades(scale: Scale) -> Colormap:
    """The colours of a scale on white paper, under black ink."""
    return DIVERGING if scale.diverging else SEQUENTIAL


def name_of(explanation: Explanation) -> str:
    """The name of a molecule, or its number if it has none."""
    return str(getattr(graph_of(explanation), "name", "") or f"molecule {explanation.index}")


def prediction_of(explanation: Explanation, class_names: Sequence[str] | None = None) -> str:
    """The prediction in words, with the explained class if it is another one."""
    return describe(explanation, class_names).partition(" · ")[2]


def fidelity_of(explanation: Explanation) -> tuple[float, float]:
    """Fidelity+ and fidelity− of the explanation as a soft mask, from the outputs that it carries."""
    full, masked, complement = (
        _value(explanation, getattr(explanation, f"prediction{which}")) for which in ("", "_masked", "_complement")
    )
    plus, minus = full - complement, full - masked
    regression = explanation.source.task.mode.value == "regression"
    return (abs(plus), abs(minus)) if regression else (plus, minus)


def _value(explanation: Explanation, prediction: Any) -> float:
    """The probability of the target, or the value of a regression."""
    output = np.atleast_1d(np.asarray(prediction.detach().cpu(), dtype=float))
    task, target = explanation.source.task, explanation.target
    if task.mode.value == "regression":
        return float(output[target])
    probability = probabilities(output, task)
    if len(output) == 1:
        return float(probability[0] if target == 1 else 1 - probability[0])
    return float(probability[target])


def predicted(explanation: Explanation) -> dict[str, float]:
    """The prediction as numbers: the value of a regression; else the predicted class and the probability of the explained
    one.
    """
    output = np.atleast_1d(np.asarray(explanation.prediction.detach().cpu(), dtype=float))
    task = explanation.source.task
    if task.mode.value == "regression":
        return {"prediction": float(output[explanation.target])}
    probability = probabilities(output, task)
    label = int(probability[0] > 0.5) if len(output) == 1 else int(probability.argmax())
    return {"prediction": label, "probability": _value(explanation, explanation.prediction)}


def strongest_fragments(explanation: Explanation, most: int = 1) -> list[tuple[str, float]]:
    """The fragments with the largest absolute attribution, the strongest first: functional groups and rings, which have
    names; where there are none, pieces of any kind.
    """
    from gnn_xai.molecules.fragments import fragments

    rows = fragments(explanation, ("functional_groups", "rings")).head(most)
    rows = rows if len(rows) else fragments(explanation).head(most)
    return [(str(name), float(score)) for name, score in zip(rows["name"], rows["attribution"], strict=True)]


def in_words(explanation: Explanation, fragments: Iterable[tuple[str, float]]) -> list[str]:
    """Fragments with their attributions, in words."""
    return [f"{name} {signed_text(score, 2) if explanation.signed else f'{score:.2f}'}" for name, score in fragments]


def panel_of(
    explanation: Explanation, class_names: Sequence[str] | None = None, unit: str = "", most: int = 1
) -> Panel:
    """The words below a molecule. Those on fidelity are for classes alone: of a regression they would be differences in its
    unit, without a limit that they could be compared with.

    Args:
        explanation: of a molecule.
        class_names, unit: as in `grid`.
        most: fragments that are named.
    """
    plus, minus = fidelity_of(explanation)
    regression = explanation.source.task.mode.value == "regression"
    fidelity = "" if regression else f"fidelity+ {_rounded(plus)}, fidelity− {_rounded(minus)}"
    parts, unit = sum_of(explanation), unit_of(explanation, unit)
    prediction = prediction_of(explanation, class_names)
    return Panel(
        name_of(explanation),
        f"{prediction} {unit}".rstrip() if regression else prediction,
        strongest_fragments(explanation, most),
        fidelity,
        parts,
        "" if parts is None else f"{parts} {unit}".rstrip(),
    )


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")  # + 0.0 makes −0 a 0


# How it is drawn #####################################################################################################


class _Formula(NamedTuple):
    """A molecule to draw, with scores."""

    mol: Mol
    atoms: np.ndarray | None
    bonds: np.ndarray | None
    mark: frozenset[int]
    unsure: frozenset[int] = frozenset()  # hatched

    @classmethod
    def of(cls, explanation: Explanation, mark: Mark = (), numbers: bool = False) -> _Formula:
        mol = molecule(explanation)
        atoms, bonds = atom_scores(explanation, mol), bond_scores(explanation, mol)
        return cls(laid_out(mol, numbers), atoms, bonds, _marked(mol, mark), _unsure(explanation, mol, atoms))


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


def laid_out(mol: Mol, numbers: bool = False) -> Mol:
    """A copy with coordinates, Kekulé bonds and wedges; atoms keep their indices."""
    from rdkit import Chem
    from rdkit.Chem import rdCoordGen, rdDepictor
    from rdkit.Chem.Draw.rdMolDraw2D import PrepareMolForDrawing
    from rdkit.rdBase import BlockLogs

    mol = Chem.Mol(mol)
    for atom in mol.GetAtoms():
        number = atom.GetIdx() if numbers else atom.GetAtomMapNum()
        if number or numbers:
            atom.SetProp("atomNote", str(number))
        atom.SetAtomMapNum(0)
    with BlockLogs():
        if max(map(len, mol.GetRingInfo().AtomRings()), default=0) < MACROCYCLE:
            rdDepictor.Compute2DCoords(mol)
        else:
            with suppress(RuntimeError, ValueError):  # of molecules that CoordGen cannot lay out
                rdCoordGen.AddCoords(mol)  # draws them as chemists do; the other, as circles
        if not mol.GetNumConformers():
            rdDepictor.Compute2DCoords(mol)
        rdDepictor.StraightenDepiction(mol)
        return PrepareMolForDrawing(mol, addChiralHs=False)


def depiction(smiles: str) -> np.ndarray:
    """Coordinates of a molecule's structural formula, for `gnn_xai.viz.draw(..., layout=depiction(smiles))`.

    Args:
        smiles: the molecule; atoms keep the order in which RDKit reads them.

    Returns:
        float [number of heavy atoms, 2], about one unit a bond.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: RDKit cannot read the SMILES.
    """
    return laid_out(as_mol(smiles)).GetConformer().GetPositions()[:, :2] / 1.5


def _size(mol: Mol, bond: float, smallest: tuple[int, int], largest: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels that give a molecule bonds of a length."""
    positions = mol.GetConformer().GetPositions()[:, :2]
    extent = (np.ptp(positions, axis=0) / 1.5 + (3.0, 2.6)) * bond  # with room for labels at the rim
    width, height = np.clip(np.ceil(extent), smallest, largest).astype(int)
    return int(width), int(height)


def _bar(canvas: _Canvas, middle: float, y: float, scale: Scale, name: str = "") -> None:
    """The scale as a bar with its ends in numbers and in words."""
    steps, step = 90, 2  # whole pixels, or seams show
    left, right = round(middle) - steps * step / 2, round(middle) + steps * step / 2
    for i in range(steps):
        canvas.shape("rect", left + step * i, y, step, 9, to_hex(shades(scale)(i / (steps - 1))))
    canvas.shape("frame", left, y, right - left, 9, "#9aa3ab")
    if not scale.signed:
        ends, words = ("0", "1"), ("", "mask", "")
    elif scale.one_sided:
        ends, words = ("0", f"{scale.limit:.2g}"), ("", "attribution, without sign", "")
    else:
        ends, words = (signed_text(-scale.limit, 2), signed_text(scale.limit, 2)), ("lowers", "attribution", "raises")
    canvas.text(left - 5, y + 8.5, ends[0], 11, anchor="end")
    canvas.text(right + 5, y + 8.5, ends[1], 11)
    for x, anchor, word in zip((left, middle, right), ("start", "middle", "end"), words, strict=True):
        canvas.text(x, y + 23, word, 11, anchor=anchor, color=FAINT_TEXT)
    canvas.text(middle, y + 37, name, 11, anchor="middle", color=FAINT_TEXT)


class _Canvas(ABC):
    """A surface to paint on: shapes, text and formulas, in pixels of the SVG."""

    @abstractmethod
    def text(
        self, x: float, y: float, text: str, size: int, *, anchor: str = "start", color: str = TEXT, width: float = 1e9
    ) -> None:
        """Write a line that starts, has its middle or ends at a point, cut to a width."""

    @abstractmethod
    def shape(self, kind: str, *numbers: Any) -> None:
        """Draw a `rect` or `frame` (x, y, width, height), `line` (from, to, width), `disc` or `ring` (x, y, radius); then
        its colour.
        """

    @abstractmethod
    def formula(self, mol: Mol, width: int, height: int, bond: float) -> tuple[np.ndarray, Any]:
        """A formula in black on nothing, and where in it the atoms are, `[atoms, 2]`."""

    @abstractmethod
    def ink(self, x: float, y: float, formula: Any) -> None:
        """Draw such a formula with its top left corner at a point."""

    def molecule(
        self, x: float, y: float, width: int, height: int, formula: _Formula, scale: Scale, bond: float
    ) -> None:
        """Shading, then rings, then the formula over them, in a box."""
        places, ink = self.formula(formula.mol, width, height, bond)
        places = places + (x, y)
        ends = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in formula.mol.GetBonds()]
        lengths = [np.linalg.norm(places[u] - places[v]) for u, v in ends]
        unit = float(np.median(lengths)) if lengths else bond
        cmap, norm = shades(scale), scale.norm

        def shaded(scores: np.ndarray | None) -> list[tuple[int, str]]:
            """Elements that are not white, the strongest last."""
            if scores is None:
                return []
            order = np.argsort(np.abs(scores), kind="stable")
            return [(int(i), c) for i in order if (c := to_hex(tuple(cmap(norm(scores[i]))))) != "#ffffff"]

        for i, color in shaded(formula.bonds):
            u, v = ends[i]
            self.shape("line", *places[u], *places[v], 0.44 * unit, color)
        for i, color in shaded(formula.atoms):
            self.shape("disc", *places[i], 0.33 * unit, color)
        for i in sorted(formula.unsure):
            for ends_of_line in hatching(0.33 * unit):
                self.shape("line", *(places[i] + ends_of_line).flatten(), 1.2, HATCH)
        for i in sorted(formula.mark):
            self.shape("ring", *places[i], 0.40 * unit, "#111111")
        self.ink(x, y, ink)


def hatching(radius: float) -> np.ndarray:
    """Three parallel lines across a disc around the origin, `[3, 2, 2]`."""
    across, along = np.array([1.0, 1.0]) / 2**0.5, np.array([1.0, -1.0]) / 2**0.5
    shifts = np.array([-0.55, 0.0, 0.55]) * radius
    half = np.sqrt(radius**2 - shifts**2)
    middle = shifts[:, None] * across
    return np.stack([middle - half[:, None] * along, middle + half[:, None] * along], axis=1)


def _rdkit(drawer: Any, mol: Mol, factor: int, bond: float) -> np.ndarray:
    """Draw a formula in black on nothing; returns where its atoms are, [atoms, 2], in pixels of the SVG."""
    options = drawer.drawOptions()
    options.useBWAtomPalette()
    options.setBackgroundColour((1.0, 1.0, 1.0, 0.0))
    options.setAtomNoteColour((0.25, 0.3, 0.35))
    options.prepareMolsBeforeDrawing = False
    options.fixedBondLength = bond * factor
    options.scaleBondWidth = False
    options.bondLineWidth = 1.5 * factor
    options.padding = 0.08  # for the discs around atoms at the border
    options.minFontSize, options.maxFontSize = 6 * factor, 16 * factor
    options.annotationFontScale = 0.65
    options.includeMetadata = False
    drawer.DrawMolecule(mol)
    places = [drawer.GetDrawCoords(i) for i in range(mol.GetNumAtoms())]
    drawer.FinishDrawing()
    return np.array([(p.x, p.y) for p in places]) / factor


class _SvgCanvas(_Canvas):
    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.parts: list[str] = []

    def formula(self, mol: Mol, width: int, height: int, bond: float) -> tuple[np.ndarray, str]:
        from rdkit.Chem.Draw.rdMolDraw2D import MolDraw2DSVG

        drawer = MolDraw2DSVG(width, height)
        places = _rdkit(drawer, mol, 1, bond)
        elements = re.findall(r"<(?:path|ellipse|polygon|line)\b.*?/>", drawer.GetDrawingText(), re.DOTALL)
        return places, "\n".join(re.sub(r" class='[^']*'", "", element) for element in elements)

    def ink(self, x: float, y: float, formula: str) -> None:
        self.parts.append(f'<g transform="translate({x:g} {y:g})">\n{formula}\n</g>')

    def text(
        self, x: float, y: float, text: str, size: int, *, anchor: str = "start", color: str = TEXT, width: float = 1e9
    ) -> None:
        words = escape(printable(_fitting(text, size, width)))
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}">{words}</text>'
        )

    def shape(self, kind: str, *numbers: Any) -> None:
        *places, color = numbers
        n = [f"{value:.1f}" for value in places]
        self.parts.append(
            {
                "rect": '<rect x="{0}" y="{1}" width="{2}" height="{3}" fill="{c}"/>',
                "frame": '<rect x="{0}" y="{1}" width="{2}" height="{3}" fill="none" stroke="{c}" stroke-width="0.7"/>',
                "line": '<line x1="{0}" y1="{1}" x2="{2}" y2="{3}" stroke="{c}" stroke-width="{4}" stroke-linecap="round"/>',
                "disc": '<circle cx="{0}" cy="{1}" r="{2}" fill="{c}" stroke="#ffffff" stroke-width="1.5"/>',
                "ring": '<circle cx="{0}" cy="{1}" r="{2}" fill="none" stroke="{c}" stroke-width="1.2"/>',
            }[kind].format(*n, c=color)
        )

    def finish(self, title: str) -> str:
        width, height = self.size
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" role="img" font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif">',
                f"<title>{escape(printable(title))}</title>",
                '<rect width="100%" height="100%" fill="#ffffff"/>',
                *self.parts,
                "</svg>",
            ]
        )


class _PngCanvas(_Canvas):
    factor = SHARPNESS  # own pixels for one of the SVG

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (width * self.factor, height * self.factor), "white")
        self.pen = ImageDraw.Draw(self.image)

    def formula(self, mol: Mol, width: int, height: int, bond: float) -> tuple[np.ndarray, Image.Image]:
        from PIL import Image
        from rdkit.Chem.Draw.rdMolDraw2D import MolDraw2DCairo

        drawer = MolDraw2DCairo(width * self.factor, height * self.factor)
        places = _rdkit(drawer, mol, self.factor, bond)
        return places, Image.open(io.BytesIO(drawer.GetDrawingText())).convert("RGBA")

    def ink(self, x: float, y: float, formula: Image.Image) -> None:
        self.image.paste(formula, (round(x * self.factor), round(y * self.factor)), formula)

    def text(
        self, x: float, y: float, text: str, size: int, *, anchor: str = "start", color: str = TEXT, width: float = 1e9
    ) -> None:
        words = printable(_fitting(text, size, width))
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        place = (x * self.factor, y * self.factor)
        self.pen.text(place, words, fill=color, font=_font(size * self.factor), anchor=anchor)

    def shape(self, kind: str, *numbers: Any) -> None:
        from PIL import Image, ImageDraw

        *places, color = numbers
        fine = 3  # PIL draws without smoothing: draw larger, then shrink
        n = np.array(places, dtype=float) * self.factor
        if kind in ("rect", "frame"):
            box = (n[0], n[1], n[0] + n[2], n[1] + n[3])
            self.pen.rectangle(box, **({"fill": color} if kind == "rect" else {"outline": color}))
            return
        reach = n[4] / 2 if kind == "line" else n[2] + 2 * self.factor
        spots = n[:4].reshape(2, 2) if kind == "line" else n[:2].reshape(1, 2)
        low, high = np.floor(spots.min(0) - reach).astype(int), np.ceil(spots.max(0) + reach).astype(int)
        mask = Image.new("L", tuple((high - low) * fine))
        pen = ImageDraw.Draw(mask)
        spots = (spots - low) * fine

        def circle(at: np.ndarray, radius: float, fill: int) -> None:
            r = max(radius, 0.0) * fine  # of atoms so small that nothing is left of their discs
            pen.ellipse((at[0] - r, at[1] - r, at[0] + r, at[1] + r), fill=fill)

        def stamp(ink: str) -> None:
            small = mask.resize(tuple(high - low), Image.Resampling.BOX)
            self.image.paste(ink, tuple(low), small)

        if kind == "line":
            pen.line([tuple(spot) for spot in spots], fill=255, width=round(n[4] * fine))
            for spot in spots:
                circle(spot, n[4] / 2, 255)
        elif kind == "disc":
            circle(spots[0], n[2] + 0.75 * self.factor, 255)
            stamp("#ffffff")
            circle(spots[0], n[2] + 0.75 * self.factor, 0)
            circle(spots[0], n[2] - 0.75 * self.factor, 255)
        else:
            circle(spots[0], n[2] + 0.6 * self.factor, 255)
            circle(spots[0], n[2] - 0.6 * self.factor, 0)
        stamp(color)

    def finish(self) -> bytes:
        out = io.BytesIO()
        self.image.save(out, "PNG", optimize=True)
        return out.getvalue()


def printable(text: str) -> str:
    """A text without characters that XML cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)


@lru_cache
def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _fitting(text: str, size: int, width: float) -> str:
    """As much of a line as fits, with an ellipsis where it does not."""
    text = " ".join(text.split())
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _wrapped(text: str, size: int, width: float) -> list[str]:
    """A text in one line, or in two where it does not fit into one; `p = 1.00` stays together."""
    words = re.findall(r"\S+(?: = \S+)?", text)
    fits = next((n for n in range(len(words), 1, -1) if _font(size).getlength(" ".join(words[:n])) <= width), 1)
    return [" ".join(words[:fits]), " ".join(words[fits:])]
