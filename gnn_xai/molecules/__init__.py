"""Molecules: from a SMILES string to an explained picture. Works with RDKit, which is imported on first use."""

from gnn_xai.molecules import featurizers
from gnn_xai.molecules.smiles import Molecules, Problem, from_smiles, read

__all__ = [
    "Molecules",
    "Problem",
    "featurizers",
    "from_smiles",
    "read",
]
