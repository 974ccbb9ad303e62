"""Crippen's logP of the NCI molecules: a regression whose truth is known atom by atom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnn_xai.datasets import nci
from gnn_xai.datasets.models import AtomSum, Ensemble
from gnn_xai.datasets.recipe import Material, Recipe
from gnn_xai.molecules import one_hot

if TYPE_CHECKING:
    from rdkit.Chem import Mol


MEMBERS = 4


def contributions(mol: Mol) -> Tensor:
    """What each heavy atom adds to logP, with the hydrogens that it carries: float64 ``[atoms]``.

    The atomic contributions of Wildman and Crippen (J. Chem. Inf. Comput. Sci. 39, 1999), as RDKit
    assigns them; they add up to ``rdkit.Chem.Crippen.MolLogP`` exactly.
    """
    from rdkit.Chem import AddHs
    from rdkit.Chem.rdMolDescriptors import _CalcCrippenContribs

    whole = AddHs(mol)  # hydrogens have contributions of their own and follow the heavy atoms
    carrier = list(range(mol.GetNumAtoms()))
    carrier += [atom.GetNeighbors()[0].GetIdx() for atom in list(whole.GetAtoms())[mol.GetNumAtoms() :]]
    values = torch.tensor([logp for logp, _ in _CalcCrippenContribs(whole)], dtype=torch.float64)
    return values.new_zeros(mol.GetNumAtoms()).index_add(0, torch.tensor(carrier), values)


def read(frozen: dict[str, Tensor]) -> Material:
    """The molecules with their bonds; ``y`` is logP."""
    return nci.read_values(frozen["split"], "logP", contributions, bonds=True)


def model() -> nn.Module:
    """Four times two GINE layers of width 64, then a number per atom."""
    return Ensemble(
        AtomSum(len(one_hot.FEATURE_NAMES), 64, num_layers=2, edge_channels=len(one_hot.BOND_NAMES))
        for _ in range(MEMBERS)
    )


def fit(model: nn.Module, material: Material) -> None:
    """Each member by itself, as `nci.fit_values`."""
    assert isinstance(model, Ensemble)
    for member in model.members:
        nci.fit_values(member, material)


RECIPE = Recipe(
    name="nci_logp",
    title="NCI logP",
    summary="how fat-soluble is it? 4 991 real molecules, Crippen's logP, exact share of every atom; needs RDKit",
    task_level="graph",
    mode="regression",
    generate=nci.generate,
    read=read,
    model=model,
    fit=fit,
    measure=nci.measure_values,
    instances=nci.of_unequal_atoms,
    featurizer=nci.FEATURIZER,
)
