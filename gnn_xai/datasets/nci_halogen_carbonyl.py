"""A halogen and a carbonyl group in one NCI molecule: a label for which neither alone is the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from gnn_xai.datasets import nci
from gnn_xai.datasets.models import GINE
from gnn_xai.datasets.recipe import Material, Recipe
from gnn_xai.molecules import one_hot

if TYPE_CHECKING:
    from rdkit.Chem import Mol

HALOGEN = "[#6][F,Cl,Br,I;D1]"
OTHER_HALOGEN = "[F,Cl,Br,I;!$([D1][#6])]"  # ions, hydrogen halides, halogens on anything but carbon
CARBONYL = "[#6]=[O;D1]"
CLASS_NAMES = ("not both", "halogen and carbonyl")


def parts(mol: Mol) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The bonds carbon-halogen and those carbon=oxygen, each as its two atoms, the carbon first."""
    pattern = nci.chem().MolFromSmarts
    return tuple(list(mol.GetSubstructMatches(pattern(smarts))) for smarts in (HALOGEN, CARBONYL))  # type: ignore[return-value]


def generate(seed: int = 0) -> dict[str, Tensor]:
    """Which lines take part, and their split, to be frozen.

    Molecules come in fours of one number of atoms: one with both parts, one with a halogen alone,
    one with a carbonyl alone, one with neither. A four lies in one part of the split, so in each the
    number of atoms says nothing about the label. No molecule is taken twice (canonical SMILES).

    Returns:
        ``split`` int8 ``[lines]``: 0 train (60%), 1 val (10%), 2 test (30%), -1 left out.
    """
    mols, _, lines = nci.read_molecules()
    other = nci.chem().MolFromSmarts(OTHER_HALOGEN)
    distinct = dict(reversed([(nci.chem().MolToSmiles(mol), place) for place, mol in enumerate(mols)]))
    alike: dict[tuple[int, bool, bool], list[int]] = {}
    for place in sorted(distinct.values()):
        if not mols[place].HasSubstructMatch(other):
            halogen, carbonyl = map(bool, parts(mols[place]))
            alike.setdefault((mols[place].GetNumAtoms(), halogen, carbonyl), []).append(place)
    random = np.random.RandomState(seed)
    kinds = [(halogen, carbonyl) for halogen in (True, False) for carbonyl in (True, False)]
    fours: list[tuple[int, ...]] = []
    for size in sorted({size for size, _, _ in alike}):
        drawn = [random.permutation(alike.get((size, *kind), [])).astype(int).tolist() for kind in kinds]
        fours += zip(*drawn, strict=False)  # as many as there are of the rarest kind
    split = torch.full((int(lines[-1]) + 1,), -1, dtype=torch.int8)
    split[lines[torch.tensor(fours)]] = nci.split_codes(len(fours), seed).to(torch.int8)[:, None]
    return {"split": split}


def motifs(mol: Mol) -> nci.Motifs:
    """Motif ids of the atoms and bonds of all halogens and carbonyl groups, where there are both."""
    owner, bonds = torch.full((mol.GetNumAtoms(),), -1), {}
    halogens, carbonyls = parts(mol)
    if halogens and carbonyls:
        for number, (carbon, halogen) in enumerate(halogens):
            owner[halogen] = bonds[frozenset((carbon, halogen))] = number
        for number, group in enumerate(carbonyls, start=len(halogens)):
            owner[list(group)] = bonds[frozenset(group)] = number
    return owner, bonds


def read(frozen: dict[str, Tensor]) -> Material:
    """The molecules that take part, with their bonds.

    The truth of a positive is all halogens and all carbonyl groups: halogen, carbon and oxygen of the
    latter, the bonds carbon-halogen and carbon=oxygen. A negative has none.
    """
    return nci.read_classes(frozen, CLASS_NAMES, motifs, bonds=True)


def model() -> nn.Module:
    """Three GINE layers of width 64 with BatchNorm, summed over the atoms."""
    return GINE(len(one_hot.FEATURE_NAMES), len(one_hot.BOND_NAMES), 64, len(CLASS_NAMES), num_layers=3)


def fit(model: nn.Module, material: Material) -> None:
    """As `nci.fit_classes`, for 60 epochs, because there are fewer molecules."""
    nci.fit_classes(model, material, epochs=60)


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Accuracy, ROC-AUC, accuracy on molecules with one part alone, and the ROC-AUC of size alone."""
    chem = nci.chem()
    scores = nci.measure_classes(model, material, lambda graph: any(parts(chem.MolFromSmiles(graph.smiles))))
    for name, ids in material.split.items():
        graphs, label = nci.part(material, ids)
        size = torch.tensor([graph.num_nodes for graph in graphs])
        scores[name]["roc_auc_of_size"] = nci.roc_auc(size, label)
    return scores


RECIPE = Recipe(
    name="nci_halogen_carbonyl",
    title="NCI halogen and carbonyl",
    summary="a halogen and a carbonyl group? real molecules of balanced size, truth by SMARTS; needs RDKit",
    task_level="graph",
    generate=generate,
    read=read,
    model=model,
    fit=fit,
    measure=measure,
    instances=nci.right_positives,
    featurizer=nci.FEATURIZER,
)
