"""A second conjunction on NCI molecules, on which advice from the first is tried: a hydroxyl group and a sulfur atom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from gnn_xai.datasets import nci
from gnn_xai.datasets.nci_halogen_carbonyl import model
from gnn_xai.datasets.recipe import Material

if TYPE_CHECKING:
    from rdkit.Chem import Mol

HYDROXYL, SULFUR = "[OX2H]", "[#16]"
CLASS_NAMES = ("not both", "hydroxyl and sulfur")


def atoms(mol: Mol) -> tuple[list[int], list[int]]:
    """The hydroxyl oxygens and the sulfurs of a molecule."""
    pattern = nci.chem().MolFromSmarts
    return tuple([atom for (atom,) in mol.GetSubstructMatches(pattern(smarts))] for smarts in (HYDROXYL, SULFUR))  # type: ignore[return-value]


def motifs(mol: Mol) -> nci.Motifs:
    """Motif ids of the atoms, where there are both kinds; no bonds."""
    owner = torch.full((mol.GetNumAtoms(),), -1)
    hydroxyls, sulfurs = atoms(mol)
    if hydroxyls and sulfurs:
        both = hydroxyls + sulfurs
        owner[both] = torch.arange(len(both))
    return owner, {}


def split(seed: int = 0) -> Tensor:
    """Molecules in fours of one size: with both, with one of the two alone, with neither; as `nci_halogen_carbonyl`."""
    mols, _, lines = nci.read_molecules()
    distinct = dict(reversed([(nci.chem().MolToSmiles(mol), place) for place, mol in enumerate(mols)]))
    alike: dict[tuple[int, bool, bool], list[int]] = {}
    for place in sorted(distinct.values()):
        hydroxyl, sulfur = map(bool, atoms(mols[place]))
        alike.setdefault((mols[place].GetNumAtoms(), hydroxyl, sulfur), []).append(place)
    random = np.random.RandomState(seed)
    kinds = [(hydroxyl, sulfur) for hydroxyl in (True, False) for sulfur in (True, False)]
    fours: list[tuple[int, ...]] = []
    for size in sorted({size for size, _, _ in alike}):
        drawn = [random.permutation(alike.get((size, *kind), [])).astype(int).tolist() for kind in kinds]
        fours += zip(*drawn, strict=False)
    codes = torch.full((int(lines[-1]) + 1,), -1, dtype=torch.int8)
    codes[lines[torch.tensor(fours)]] = nci.split_codes(len(fours), seed).to(torch.int8)[:, None]
    return codes


def trained(seed: int = 0) -> tuple[nn.Module, Material, Tensor, float]:
    """A model as that of `nci_halogen_carbonyl`, its molecules, those test positives that it gets right, and its accuracy on
    all test molecules.
    """
    material = nci.read_classes({"split": split(seed)}, CLASS_NAMES, motifs, bonds=True)
    torch.manual_seed(seed)
    network = model()
    nci.fit_classes(network, material, epochs=60)
    network.eval()
    test, label = nci.part(material, material.split["test"])
    right = (nci.margins(network, test) > 0) == (label > 0)
    return network, material, material.split["test"][right & (label > 0)], float(right.float().mean())
