"""Where chemists expect the atoms of a molecule to lie, for drawings of graphs; `gnn_xai.molecules.draw` draws formulas."""

from __future__ import annotations

import numpy as np


def depiction(smiles: str) -> np.ndarray:
    """Coordinates of a molecule's structural formula, for `draw(..., layout=depiction(smiles))`.

    Args:
        smiles: the molecule; atoms keep the order in which RDKit reads them.

    Returns:
        float [number of heavy atoms, 2], about one unit a bond.

    Raises:
        GnnXaiError: RDKit is not installed.
        InputError: RDKit cannot read the SMILES.
    """
    from gnn_xai.molecules.drawing import laid_out
    from gnn_xai.molecules.smiles import as_mol

    return laid_out(as_mol(smiles)).GetConformer().GetPositions()[:, :2] / 1.5
