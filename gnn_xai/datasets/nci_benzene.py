"""Benzene rings in the NCI molecules that ship with RDKit."""

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

BENZENE = "c1:c:c:c:c:c:1"
CLASS_NAMES = ("no benzene ring", "benzene ring")


def rings(mol: Mol) -> nci.Motifs:
    """Motif ids of atoms and bonds in benzene rings.

    Rings that share atoms, as in naphthalene, are one motif.
    """
    matches = mol.GetSubstructMatches(nci.chem().MolFromSmarts(BENZENE))
    systems: list[set[int]] = []
    for match in matches:
        touching = [system for system in systems if system & set(match)]
        systems = [system for system in systems if system not in touching]
        systems.append(set(match).union(*touching))
    owner = torch.full((mol.GetNumAtoms(),), -1)
    for number, system in enumerate(sorted(systems, key=min)):
        owner[list(system)] = number
    # SMARTS lists a ring's atoms in order, so neighbours in the match are neighbours in the ring.
    around = [pair for match in matches for pair in zip(match, (*match[1:], match[0]), strict=True)]
    return owner, {frozenset(pair): int(owner[pair[0]]) for pair in around}


def read(frozen: dict[str, Tensor]) -> Material:
    """The molecules; the truth is the atoms and bonds of all benzene rings."""
    return nci.read_classes(frozen, CLASS_NAMES, rings)


def model() -> nn.Module:
    """Three GIN layers of width 64 with BatchNorm, summed over the atoms."""
    return GIN(len(one_hot.FEATURE_NAMES), 64, len(CLASS_NAMES), num_layers=3)


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Accuracy, ROC-AUC and the accuracy on other aromatic molecules (``hard_negative_accuracy``)."""
    aromatic = nci.chem().MolFromSmarts("a")
    parse = nci.chem().MolFromSmiles
    return nci.measure_classes(model, material, lambda graph: parse(graph.smiles).HasSubstructMatch(aromatic))


RECIPE = Recipe(
    name="nci_benzene",
    title="NCI benzene rings",
    summary="is there a benzene ring? 4 991 real molecules, truth by SMARTS; needs RDKit",
    task_level="graph",
    generate=nci.generate,
    read=read,
    model=model,
    fit=nci.fit_classes,
    measure=measure,
    instances=nci.right_positives,
    featurizer=nci.FEATURIZER,
)
