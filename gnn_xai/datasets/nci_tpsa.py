"""Polar surface area of the NCI molecules: a regression whose truth is known atom by atom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnn_xai.datasets import nci
from gnn_xai.datasets.models import AtomSum
from gnn_xai.datasets.recipe import Material, Recipe
from gnn_xai.molecules import one_hot

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def contributions(mol: Mol) -> Tensor:
    """What each heavy atom, with its hydrogens, adds to the polar surface, in Å²: float64 ``[atoms]``.

    The fragment contributions of nitrogen and oxygen of Ertl, Rohde and Selzer (J. Med. Chem. 43,
    2000), as RDKit assigns them; they add up to ``rdkit.Chem.rdMolDescriptors.CalcTPSA`` exactly.
    """
    from rdkit.Chem.rdMolDescriptors import _CalcTPSAContribs

    return torch.tensor(_CalcTPSAContribs(mol), dtype=torch.float64)


def read(frozen: dict[str, Tensor]) -> Material:
    """The molecules; ``y`` is the topological polar surface area in Å²."""
    return nci.read_values(frozen["split"], "TPSA", contributions, bonds=False)


def model() -> nn.Module:
    """Two GIN layers of width 64, then a number per atom."""
    return AtomSum(len(one_hot.FEATURE_NAMES), 64, num_layers=2)


RECIPE = Recipe(
    name="nci_tpsa",
    title="NCI polar surface",
    summary="how large is its polar surface? 4 991 real molecules, exact share of every atom; needs RDKit",
    task_level="graph",
    mode="regression",
    generate=nci.generate,
    read=read,
    model=model,
    fit=nci.fit_values,
    measure=nci.measure_values,
    instances=nci.of_unequal_atoms,
    featurizer=nci.FEATURIZER,
)
