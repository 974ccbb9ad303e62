"""Surfaces to paint structural formulas on, as SVG and PNG: RDKit draws the formula in black, the shading lies beneath."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex

from gnn_xai._text import printable
from gnn_xai.errors import InputError
from gnn_xai.molecules.tables import bond_ends
from gnn_xai.viz.color import FAINT_TEXT, TEXT, Scale, signed_text

if TYPE_CHECKING:
    from PIL import Image
    from rdkit.Chem import Mol

BLUE, ORANGE = "#2f86cf", "#e66a2c"
DIVERGING = LinearSegmentedColormap.from_list(
    "gnn_xai_atoms", [BLUE, "#8fc0e8", "#ffffff", "#f8b184", ORANGE], N=257
)  # an odd number, so that 0 is white
SEQUENTIAL = LinearSegmentedColormap.from_list("gnn_xai_atom_mask", ["#ffffff", "#a8dcc0", "#35a077"])

HATCH = "#3b444d"


class Formula(NamedTuple):
    """A molecule to draw, with scores.

    Attributes:
        mol: with coordinates, as `gnn_xai.molecules.layout.laid_out` returns it.
        atoms, bonds: scores `[atoms]` and `[bonds]`; `None` leaves them white.
        mark: atoms with a ring.
        unsure: atoms that are hatched.
    """

    mol: Mol
    atoms: np.ndarray | None = None
    bonds: np.ndarray | None = None
    mark: frozenset[int] = frozenset()
    unsure: frozenset[int] = frozenset()


class Drawing:
    """A picture that a notebook shows, and that is saved as SVG or PNG.

    Attributes:
        width, height: in pixels of the SVG; the PNG has twice as many.
    """

    def __init__(self, width: int, height: int, paint: Callable[[Canvas], None], title: str) -> None:
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


def shades(scale: Scale) -> Colormap:
    """The colours of a scale on white paper, under black ink."""
    return DIVERGING if scale.diverging else SEQUENTIAL


def colors_of(scores: np.ndarray, scale: Scale) -> list[str]:
    """The colour of each score, in hexadecimal."""
    return [to_hex(color) for color in shades(scale)(scale.norm(scores))]


class Canvas(ABC):
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
        self, x: float, y: float, width: int, height: int, formula: Formula, scale: Scale, bond: float
    ) -> None:
        """Shading, then rings, then the formula over them, in a box."""
        places, ink = self.formula(formula.mol, width, height, bond)
        places = places + (x, y)
        ends = bond_ends(formula.mol)
        lengths = np.linalg.norm(places[ends[:, 0]] - places[ends[:, 1]], axis=1)
        unit = float(np.median(lengths)) if len(lengths) else bond
        for i, color in _shaded(formula.bonds, scale):
            self.shape("line", *places[ends[i]].flatten(), 0.44 * unit, color)
        for i, color in _shaded(formula.atoms, scale):
            self.shape("disc", *places[i], 0.33 * unit, color)
        for i in sorted(formula.unsure):
            for ends_of_line in _hatching(0.33 * unit):
                self.shape("line", *(places[i] + ends_of_line).flatten(), 1.2, HATCH)
        for i in sorted(formula.mark):
            self.shape("ring", *places[i], 0.40 * unit, "#111111")
        self.ink(x, y, ink)

    def bar(self, middle: float, y: float, scale: Scale, name: str = "") -> None:
        """The scale as a bar with its ends in numbers and in words."""
        steps, step = 90, 2  # whole pixels, or seams show
        left, right = round(middle) - steps * step / 2, round(middle) + steps * step / 2
        for i in range(steps):
            self.shape("rect", left + step * i, y, step, 9, to_hex(shades(scale)(i / (steps - 1))))
        self.shape("frame", left, y, right - left, 9, "#9aa3ab")
        if not scale.signed:
            ends, words = ("0", "1"), ("", "mask", "")
        elif scale.one_sided:
            ends, words = ("0", f"{scale.limit:.2g}"), ("", "attribution, without sign", "")
        else:
            ends, words = (
                (signed_text(-scale.limit, 2), signed_text(scale.limit, 2)),
                ("lowers", "attribution", "raises"),
            )
        self.text(left - 5, y + 8.5, ends[0], 11, anchor="end")
        self.text(right + 5, y + 8.5, ends[1], 11)
        for x, anchor, word in zip((left, middle, right), ("start", "middle", "end"), words, strict=True):
            self.text(x, y + 23, word, 11, anchor=anchor, color=FAINT_TEXT)
        self.text(middle, y + 37, name, 11, anchor="middle", color=FAINT_TEXT)


def _shaded(scores: np.ndarray | None, scale: Scale) -> list[tuple[int, str]]:
    """Elements that are not white, the strongest last, with their colours."""
    if scores is None:
        return []
    colors = colors_of(scores, scale)
    return [(i, colors[i]) for i in np.argsort(np.abs(scores), kind="stable").tolist() if colors[i] != "#ffffff"]


def _hatching(radius: float) -> np.ndarray:
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
    options.atomLabelDeuteriumTritium = True  # D and T
    options.includeMetadata = False
    drawer.DrawMolecule(mol)
    places = [drawer.GetDrawCoords(i) for i in range(mol.GetNumAtoms())]
    drawer.FinishDrawing()
    return np.array([(p.x, p.y) for p in places]) / factor


class _SvgCanvas(Canvas):
    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.parts: list[str] = []

    def formula(self, mol: Mol, width: int, height: int, bond: float) -> tuple[np.ndarray, str]:
        from rdkit.Chem.Draw.rdMolDraw2D import MolDraw2DSVG

        drawer = MolDraw2DSVG(width, height)
        places = _rdkit(drawer, mol, 1, bond)
        return places, compact(drawer.GetDrawingText())

    def ink(self, x: float, y: float, formula: str) -> None:
        self.parts.append(f'<g transform="translate({x:g} {y:g})">\n{formula}\n</g>')

    def text(
        self, x: float, y: float, text: str, size: int, *, anchor: str = "start", color: str = TEXT, width: float = 1e9
    ) -> None:
        words = escape(_fitting(text, size, width))
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


_DEFAULTS = re.compile(
    "stroke-(?:linecap:butt|linejoin:miter|miterlimit:10|opacity:1);?|fill-opacity:1;?|(?<=fill:none;)fill-rule:evenodd;"
)  # what SVG assumes as well, but for a limit that the angles of a formula do not reach
_PATH = re.compile(r" d='([^']*)'")


def compact(svg: str) -> str:
    """The shapes of a drawing by RDKit in a third of the characters: lines, or letters, in a row that look the same are one
    path.
    """
    shapes = re.findall(r"<(?:path|ellipse|polygon|line)\b.*?/>", svg, re.DOTALL)
    shapes = [re.sub(r" class='[^']*'| (?=/>)", "", _DEFAULTS.sub("", shape)) for shape in shapes]
    out = []
    for look, alike in groupby(shapes, key=lambda shape: _PATH.sub(" d=''", shape)):
        paths = ["".join(re.split(r"\s*([A-Z])\s*", path)).strip() for shape in alike for path in _PATH.findall(shape)]
        one = "evenodd" not in look  # of filled shapes that overlap, one path would have a hole
        out += [look.replace(" d=''", f" d='{path}'") for path in (["".join(paths)] if one else paths)]
    return "\n".join(out)


class _PngCanvas(Canvas):
    factor = 2  # own pixels for one of the SVG

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
        words = _fitting(text, size, width)
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


@lru_cache
def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _fitting(text: str, size: int, width: float) -> str:
    """As much of a line as fits, with an ellipsis where it does not."""
    text, length = printable(" ".join(text.split())), _font(size).getlength
    if length(text) <= width:
        return text
    fits = bisect_right(range(1, len(text)), width, key=lambda count: length(f"{text[:count]}…"))
    return f"{text[:fits].rstrip()}…"


def wrapped(text: str, size: int, width: float) -> list[str]:
    """A text in one line, or in two where it does not fit into one; a name and its number (`p = 1.00`) stay together."""
    words, length = re.findall(r"\S+(?: = \S+| [+−]?\d\S*)*", text), _font(size).getlength
    fits = bisect_right(range(2, len(words) + 1), width, key=lambda count: length(" ".join(words[:count]))) + 1
    return [line for line in (" ".join(words[:fits]), " ".join(words[fits:])) if line]
