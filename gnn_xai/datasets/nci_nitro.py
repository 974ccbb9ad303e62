"""Aromatic nitro groups in the NCI molecules that ship with RDKit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnn_xai.datasets import nci
from gnn_xai.datasets.models import GIN
from gnn_xai.datasets.recipe import Material, Recipe
from gnn_xai.molecules import one_hot

if TYPE_CHECKING:
    from rdkit.Chem import Mol

AROMATIC_NITRO = "c[N+](=O)[O-]"  # RDKit reads both spellings, N(=O)=O and [N+](=O)[O-], as this
ANY_NITRO = "[N+](=O)[O-]"
CLASS_NAMES = ("no aromatic nitro group", "aromatic nitro group")


def groups(mol: Mol) -> nci.Motifs:
    """Motif ids of atoms and bonds in aromatic nitro groups."""
    owner = torch.full((mol.GetNumAtoms(),), -1)
    for group, match in enumerate(mol.GetSubstructMatches(nci.chem().MolFromSmarts(AROMATIC_NITRO))):
        owner[list(match)] = group
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    number = owner.tolist()
    return owner, {frozenset((u, v)): number[u] for u, v in ends if number[u] == number[v]}


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The split of the file's lines, to be frozen: ``split``, see `nci.split_by_line`."""
    return {"split": nci.split_by_line(seed)}


def read(frozen: dict[str, Tensor]) -> Material:
    """The molecules as graphs; each also carries its ``smiles`` and its ``nsc`` number.

    The truth is what the label reads: the four atoms of each match of the SMARTS
    ``c[N+](=O)[O-]`` (the aromatic carbon counts: a nitro group elsewhere is a negative) and the
    three bonds between them, both directions.
    """
    return nci.read_classes(frozen, CLASS_NAMES, groups)


def model() -> nn.Module:
    """Three GIN layers of width 64 with BatchNorm, summed over the atoms."""
    return GIN(len(one_hot.FEATURE_NAMES), 64, len(CLASS_NAMES), num_layers=3)


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Accuracy, ROC-AUC and the accuracy on nitro groups elsewhere (``hard_negative_accuracy``)."""
    nitro = nci.chem().MolFromSmarts(ANY_NITRO)
    return nci.measure_classes(model, material, lambda g: nci.chem().MolFromSmiles(g.smiles).HasSubstructMatch(nitro))


RECIPE = Recipe(
    name="nci_nitro",
    title="NCI nitroaromatics",
    summary="is there an aromatic nitro group? 4 991 real molecules, truth by SMARTS; needs RDKit",
    task_level="graph",
    generate=generate,
    read=read,
    model=model,
    fit=nci.fit_classes,
    measure=measure,
    instances=nci.right_positives,
    featurizer=nci.FEATURIZER,
)
