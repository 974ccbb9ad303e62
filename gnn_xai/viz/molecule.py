"""Where chemists expect the atoms of a molecule to lie."""

from __future__ import annotations

import numpy as np

from gnn_xai.errors import GnnXaiError, InputError


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
    try:
        from rdkit import Chem
        from rdkit.Chem import rdDepictor
    except ImportError as error:
        raise GnnXaiError(
            "molecules are laid out with RDKit, which is not installed; run 'pip install gnn-xai[molecules]'"
        ) from error
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise InputError(f"expected a SMILES that RDKit can read, got {smiles!r}")
    rdDepictor.Compute2DCoords(molecule)
    return molecule.GetConformer().GetPositions()[:, :2] / 1.5
