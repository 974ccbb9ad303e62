"""Explained molecules in space: spheres for atoms, coloured as in pictures, for 3Dmol in notebooks and on pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gnn_xai.molecules.canvas import colors_of
from gnn_xai.molecules.drawing import scale_of
from gnn_xai.molecules.records import placed_in_space
from gnn_xai.molecules.tables import graph_of, scored_molecule
from gnn_xai.optional import need

if TYPE_CHECKING:
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

    mol, scores = scored_molecule(explanation)
    scale = scale_of(explanation.source, limit)
    radii = SMALLEST + (LARGEST - SMALLEST) * np.sqrt(scale.strength(scores))
    molfile = Chem.MolToMolBlock(placed_in_space(mol, graph_of(explanation)))
    return Scene(molfile, colors_of(scores, scale), radii.round(3).tolist())


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
