"""Explained molecules in space: spheres for atoms, coloured as in pictures, for 3Dmol in notebooks and on pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.colors import to_hex

from gnn_xai.errors import InputError
from gnn_xai.molecules.canvas import shades
from gnn_xai.molecules.drawing import scale_of
from gnn_xai.molecules.records import in_space, placed
from gnn_xai.molecules.tables import atom_scores, graph_of, molecule
from gnn_xai.optional import need

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from gnn_xai.results.explanations import Explanation

STICK = "#9aa3ad"
SMALLEST, LARGEST = 0.28, 0.55  # radii of spheres, in ångström


class Scene(NamedTuple):
    """A molecule in space with its scores.

    Attributes:
        molfile: its atoms, bonds and coordinates.
        colors, radii: of each atom; the larger, the stronger its score.
    """

    molfile: str
    colors: list[str]
    radii: list[float]

    def styles(self) -> list[dict[str, Any]]:
        """What 3Dmol draws for each atom."""
        stick = {"radius": 0.1, "color": STICK}
        return [
            {"sphere": {"color": color, "radius": radius}, "stick": stick}
            for color, radius in zip(self.colors, self.radii, strict=True)
        ]


def scene_of(explanation: Explanation, limit: float | None = None) -> Scene:
    """A molecule in the coordinates of its data, or in those that RDKit finds (ETKDG, always the same).

    Args:
        explanation: of a molecule, whose atoms are scored.
        limit: as in `gnn_xai.molecules.draw`.

    Raises:
        InputError: as `gnn_xai.molecules.draw`, or the atoms have no scores.
    """
    from rdkit import Chem

    mol = molecule(explanation)
    scores = atom_scores(explanation, mol)
    if scores is None:
        raise InputError(
            f"expected scores of atoms, got none by {explanation.source.algorithm['name']}; use an algorithm that scores "
            "nodes"
        )
    scale = scale_of(explanation.source, limit)
    low = -scale.limit if scale.diverging else 0.0
    shade = np.clip((scores - low) / (scale.limit - low), 0, 1)
    strength = np.clip(np.abs(scores) / scale.limit, 0, 1)
    radii = SMALLEST + (LARGEST - SMALLEST) * np.sqrt(strength)
    return Scene(
        Chem.MolToMolBlock(_with_places(mol, graph_of(explanation))),
        [to_hex(color) for color in shades(scale)(shade)],
        [round(float(radius), 3) for radius in radii],
    )


def view(explanation: Explanation, *, limit: float | None = None, size: tuple[int, int] = (480, 400)) -> Any:
    """Show a molecule in space in a notebook: `gnn_xai.molecules.view(e)`.

    Atoms are spheres in the colours of `draw`, the larger the stronger; bonds are not coloured. Coordinates are those of the
    data (`pos`), or RDKit's (ETKDG, always the same).

    Args:
        explanation: of a molecule, whose atoms are scored.
        limit: as in `draw`.
        size: width and height in pixels.

    Returns:
        A `py3Dmol.view`, to which more can be added; `write_html()` is its page. It loads 3Dmol.js from the network, which
        the page of `gnn-xai molecules --viewer` does not.

    Raises:
        GnnXaiError: py3Dmol is not installed.
        InputError: as `draw`, or the atoms have no scores.
    """
    library = need("py3Dmol", "space", "views in space")
    scene = scene_of(explanation, limit)
    shown = library.view(width=size[0], height=size[1])
    shown.addModel(scene.molfile, "sdf")
    for atom, style in enumerate(scene.styles()):
        shown.setStyle({"index": atom}, style)
    shown.zoomTo()
    return shown


def _with_places(mol: Mol, graph: Any) -> Mol:
    return mol if placed(mol, graph) else in_space(mol)
