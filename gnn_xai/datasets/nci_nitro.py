"""Aromatic nitro groups in the NCI molecules that ship with RDKit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnn_xai.datasets.models import GIN
from gnn_xai.datasets.nci import (
    FEATURIZER,
    chem,
    fit_classes,
    measure_classes,
    read_molecules,
    right_positives,
    split_by_line,
    symbols,
)
from gnn_xai.datasets.recipe import Material, Recipe, split_ids
from gnn_xai.molecules import one_hot
from gnn_xai.results.ground_truth import GroundTruth

if TYPE_CHECKING:
    from rdkit.Chem import Mol

AROMATIC_NITRO = "c[N+](=O)[O-]"  # RDKit reads both spellings, N(=O)=O and [N+](=O)[O-], as this
ANY_NITRO = "[N+](=O)[O-]"
CLASS_NAMES = ("no aromatic nitro group", "aromatic nitro group")


def _nitro_groups(mols: Sequence[Mol]) -> list[Tensor]:
    """Per molecule, the number of the aromatic nitro group that owns each atom, -1 for none."""
    pattern = chem().MolFromSmarts(AROMATIC_NITRO)
    owners = []
    for mol in mols:
        owner = torch.full((mol.GetNumAtoms(),), -1)
        for group, match in enumerate(mol.GetSubstructMatches(pattern)):
            owner[list(match)] = group
        owners.append(owner)
    return owners


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The split of the file's lines, to be frozen: ``split``, see `nci.split_by_line`."""
    return {"split": split_by_line(seed)}


def read(frozen: dict[str, Tensor]) -> Material:
    """The molecules as graphs; each also carries its ``smiles`` and its ``nsc`` number.

    The truth is what the label reads: the four atoms of each match of the SMARTS
    ``c[N+](=O)[O-]`` (the aromatic carbon counts: a nitro group elsewhere is a negative) and the
    three bonds between them, both directions.
    """
    mols, rows, lines = read_molecules()
    graphs = one_hot.to_graphs(mols, bonds=False)
    owners = _nitro_groups(mols)
    edges = []
    for graph, owner, (smiles, number) in zip(graphs, owners, rows, strict=True):
        source, sink = owner[graph.edge_index]
        edges.append(torch.where(source == sink, source, -1))
        graph.y = (owner >= 0).any().long().reshape(1)
        graph.smiles, graph.nsc = smiles, int(number)
    return Material(
        data=graphs,
        ground_truth=GroundTruth(edge=edges, node=owners),
        split=split_ids(frozen["split"][lines]),
        class_names=CLASS_NAMES,
        feature_names=one_hot.FEATURE_NAMES,
        node_names=symbols(mols),
    )


def model() -> nn.Module:
    """Three GIN layers of width 64 with BatchNorm, summed over the atoms."""
    return GIN(len(one_hot.FEATURE_NAMES), 64, len(CLASS_NAMES), num_layers=3)


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Accuracy, ROC-AUC and the accuracy on nitro groups elsewhere (``hard_negative_accuracy``)."""
    nitro = chem().MolFromSmarts(ANY_NITRO)
    return measure_classes(model, material, lambda g: chem().MolFromSmiles(g.smiles).HasSubstructMatch(nitro))


RECIPE = Recipe(
    name="nci_nitro",
    title="NCI nitroaromatics",
    summary="is there an aromatic nitro group? 4 991 real molecules, truth by SMARTS; needs RDKit",
    task_level="graph",
    generate=generate,
    read=read,
    model=model,
    fit=fit_classes,
    measure=measure,
    instances=right_positives,
    featurizer=FEATURIZER,
)
