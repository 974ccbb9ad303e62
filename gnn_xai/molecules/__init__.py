"""Molecules: from a SMILES string to an explained picture. Works with RDKit, which is imported on first use."""

from gnn_xai.molecules import featurizers
from gnn_xai.molecules.counterfactuals import Counterfactual, Counterfactuals, counterfactuals
from gnn_xai.molecules.drawing import Drawing, draw, grid
from gnn_xai.molecules.fragments import Fragment, cut, fragments
from gnn_xai.molecules.smiles import Molecules, Problem, from_smiles, read
from gnn_xai.molecules.tables import atoms, bonds

__all__ = [
    "Counterfactual",
    "Counterfactuals",
    "Drawing",
    "Fragment",
    "Molecules",
    "Problem",
    "atoms",
    "bonds",
    "counterfactuals",
    "cut",
    "draw",
    "featurizers",
    "fragments",
    "from_smiles",
    "grid",
    "read",
]
