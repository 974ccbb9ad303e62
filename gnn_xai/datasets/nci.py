"""The NCI molecules that ship with RDKit, as graphs: reading, features, split, training and measures of their benchmarks.

RDKit is imported only when a molecule is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from gnn_xai.datasets.files import sha256
from gnn_xai.datasets.models import AtomSum
from gnn_xai.datasets.recipe import Material, split_ids
from gnn_xai.errors import StorageError
from gnn_xai.molecules.one_hot import FEATURE_NAMES, to_graphs
from gnn_xai.optional import need
from gnn_xai.results.ground_truth import GroundTruth

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SOURCE = "NCI/first_5K.smi"
SOURCE_SHA256 = "91e71c015f14939837f2943dcc904f7c87e5a3a0124d82b05c28ad2f23004def"

FEATURIZER = "one_hot"  # the name of these features in `gnn_xai.molecules`

Motifs = tuple[Tensor, dict[frozenset[int], int]]
"""Motif ids of the atoms of a molecule, int64 ``[atoms]`` with -1 for none, and of its bonds by their two atoms."""


def chem() -> ModuleType:
    """``rdkit.Chem``."""
    return need("rdkit.Chem", "molecules", "the NCI molecules")


def read_molecules() -> tuple[list[Mol], list[list[str]], Tensor]:
    """The molecules of RDKit's ``first_5K.smi`` that RDKit accepts.

    Returns:
        The molecules; their rows of the file, SMILES and NSC number; and the line, from 0, on
        which each of them stands.

    Raises:
        GnnXaiError: RDKit is not installed.
        StorageError: RDKit's copy of the file is missing or is not the one known here.
    """
    parse = chem().MolFromSmiles
    from rdkit import RDConfig
    from rdkit.rdBase import BlockLogs

    path = Path(RDConfig.RDDataDir) / SOURCE
    remedy = "install RDKit from its wheel, 'pip install gnn-xai[molecules]'"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"expected RDKit's file {SOURCE} at {path}, but reading it failed ({error.strerror}); {remedy}"
        ) from error
    if sha256(content) != SOURCE_SHA256:
        raise StorageError(
            f"checksum of {path} does not match: expected SHA-256 {SOURCE_SHA256}, received "
            f"{sha256(content)}; the split is by line number, so the file must be the known one: "
            f"{remedy}"
        )
    mols, rows, lines = [], [], []
    with BlockLogs():  # a handful of lines break RDKit's valence rules; it would print each
        for line, row in enumerate(content.decode().splitlines()):
            mol = parse(row.split()[0])
            if mol is not None:
                mols.append(mol)
                rows.append(row.split())
                lines.append(line)
    return mols, rows, torch.tensor(lines)


def split_by_line(seed: int = 0) -> Tensor:
    """A split of the file's lines.

    The file holds some molecules more than once. The split is drawn over distinct molecules
    (canonical SMILES), so that no test molecule was seen in training; to be frozen, because canonical
    SMILES may change between versions of RDKit. The test part is large so that there is enough to
    explain.

    Returns:
        int64 ``[lines]``: 0 train (60%), 1 val (10%), 2 test (30%), -1 not read by RDKit.
    """
    mols, _, lines = read_molecules()
    canonical = [chem().MolToSmiles(mol) for mol in mols]
    number = {smiles: count for count, smiles in enumerate(dict.fromkeys(canonical))}
    code = split_codes(len(number), seed)
    split = torch.full((int(lines[-1]) + 1,), -1)
    split[lines] = code[torch.tensor([number[smiles] for smiles in canonical])]
    return split


def split_codes(count: int, seed: int) -> Tensor:
    """0 (60%), 1 (10%) and 2 (30%) in random order, int64 ``[count]``."""
    # RandomState rather than a Generator: its streams are frozen for good by numpy.
    place = np.random.RandomState(seed).permutation(count) / count
    return torch.from_numpy((place >= 0.6).astype(np.int64) + (place >= 0.7))


def symbols(mols: Sequence[Mol]) -> list[list[str]]:
    """The element of every atom, one list a molecule."""
    return [[atom.GetSymbol() for atom in mol.GetAtoms()] for mol in mols]


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The split of the file's lines, to be frozen: ``split``, see `split_by_line`."""
    return {"split": split_by_line(seed).to(torch.int8)}


def run(model: nn.Module, batch: Data) -> Tensor:
    """The output of a reference model; bonds are an input where the graphs carry them."""
    bonds = () if batch.edge_attr is None else (batch.edge_attr,)
    return model(batch.x, batch.edge_index, *bonds, batch=batch.batch)


def predict(model: nn.Module, graphs: Sequence[Data]) -> Tensor:
    """Outputs of a reference model, ``[len(graphs), columns]``."""
    with torch.no_grad():
        return torch.cat([run(model, batch) for batch in DataLoader(graphs, batch_size=1024)])


def part(material: Material, ids: Tensor) -> tuple[list[Data], Tensor]:
    """Some of the graphs, and their labels or values ``[len(ids)]``."""
    graphs = [material.data[i] for i in ids.tolist()]
    return graphs, torch.cat([graph.y for graph in graphs])


def _train(model: nn.Module, graphs: list[Data], loss: Callable[[Tensor, Tensor], Tensor], epochs: int) -> None:
    """Adam in batches of 64 under a one-cycle schedule with peak learning rate 0.003."""
    loader = DataLoader(graphs, batch_size=64, shuffle=True)
    rate = 0.003
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * len(loader))
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            loss(run(model, batch), batch.y).backward()
            optimizer.step()
            schedule.step()


# Classes


def read_classes(
    frozen: dict[str, Tensor], class_names: Sequence[str], motifs: Callable[[Mol], Motifs], bonds: bool = False
) -> Material:
    """Molecules whose class says whether they have a motif; the truth is the atoms and bonds of all motifs.

    Args:
        frozen: ``split`` of the file's lines; those with -1 are left out.
        class_names: of molecules without and with a motif.
        motifs: of one molecule.
        bonds: whether the graphs carry `bond_features`.
    """
    mols, rows, lines = read_molecules()
    split = frozen["split"].long()[lines]
    used: list[int] = (split >= 0).nonzero().flatten().tolist()
    mols = [mols[place] for place in used]
    graphs = to_graphs(mols, bonds)
    atoms, edges = [], []
    for mol, graph, place in zip(mols, graphs, used, strict=True):
        of_atom, of_bond = motifs(mol)
        assert graph.edge_index is not None
        ends = [of_bond.get(frozenset(pair), -1) for pair in graph.edge_index.t().tolist()]
        atoms.append(of_atom)
        edges.append(torch.tensor(ends, dtype=torch.int64))
        graph.y = (of_atom >= 0).any().long().reshape(1)
        graph.smiles, graph.nsc = rows[place][0], int(rows[place][1])
    return Material(
        data=graphs,
        ground_truth=GroundTruth(edge=edges, node=atoms),
        split=split_ids(split[used]),
        class_names=class_names,
        feature_names=FEATURE_NAMES,
        node_names=symbols(mols),
    )


def fit_classes(model: nn.Module, material: Material, epochs: int = 20) -> None:
    """Train by cross-entropy, which weighs both classes alike."""
    graphs, y = part(material, material.split["train"])
    weight = len(y) / (2.0 * y.bincount(minlength=2))
    _train(model, graphs, lambda out, label: nn.functional.cross_entropy(out, label, weight=weight), epochs)


def margins(model: nn.Module, graphs: Sequence[Data]) -> Tensor:
    """Logit of the positive class minus that of the negative one, ``[len(graphs)]``."""
    logits = predict(model, graphs)
    return logits[:, 1] - logits[:, 0]


def roc_auc(score: Tensor, label: Tensor) -> float:
    """The share of pairs (positive, negative) in the right order; ties count half."""
    difference = score[label == 1, None] - score[None, label == 0]
    return ((difference > 0).double() + 0.5 * (difference == 0)).mean().item()


def measure_classes(model: nn.Module, material: Material, hard: Callable[[Data], bool]) -> dict[str, dict[str, float]]:
    """Accuracy, ROC-AUC and the accuracy on those negatives that are `hard`, per split."""
    scores = {}
    for name, ids in material.split.items():
        graphs, label = part(material, ids)
        margin = margins(model, graphs)
        right = ((margin > 0) == (label > 0)).double()
        negative = torch.tensor([hard(graph) for graph in graphs]) & (label == 0)
        scores[name] = {
            "accuracy": right.mean().item(),
            "roc_auc": roc_auc(margin, label),
            "hard_negative_accuracy": right[negative].mean().item(),
        }
    return scores


def right_positives(model: nn.Module, material: Material) -> Tensor:
    """The positives of the test split that the model gets right, in the order of the file."""
    ids = material.split["test"]
    graphs, label = part(material, ids)
    return ids[(label == 1) & (margins(model, graphs) > 0)]


# Values that atoms add up to


def read_values(split: Tensor, name: str, contributions: Callable[[Mol], Tensor], bonds: bool) -> Material:
    """Molecules with the sum of the contributions of their atoms as the value ``y`` to predict.

    Args:
        split: of the file's lines, as `split_by_line` makes it.
        name: of the property.
        contributions: float64 ``[atoms]`` of one molecule.
        bonds: whether the graphs carry `bond_features`.
    """
    mols, rows, lines = read_molecules()
    graphs = to_graphs(mols, bonds)
    values = [contributions(mol) for mol in mols]
    for graph, value, (smiles, number) in zip(graphs, values, rows, strict=True):
        graph.y = value.sum().float().reshape(1)
        graph.smiles, graph.nsc = smiles, int(number)
    return Material(
        data=graphs,
        ground_truth=None,
        split=split_ids(split.long()[lines]),
        class_names=(name,),
        feature_names=FEATURE_NAMES,
        node_names=symbols(mols),
        atom_values=[value.float() for value in values],
    )


def fit_values(model: nn.Module, material: Material, epochs: int = 60) -> None:
    """Train an `AtomSum` by a Huber loss on values in units of their standard deviation."""
    assert isinstance(model, AtomSum)
    graphs, y = part(material, material.split["train"])
    model.scale.copy_(y.std())
    loss = nn.functional.smooth_l1_loss
    _train(model, graphs, lambda out, value: loss(out[:, 0] / model.scale, value / model.scale), epochs)


def measure_values(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """The share of the variance that is explained (``r2``) and the mean absolute error, per split."""
    scores = {}
    for name, ids in material.split.items():
        graphs, y = part(material, ids)
        error = predict(model, graphs)[:, 0] - y
        scores[name] = {
            "r2": 1 - (error.square().sum() / (y - y.mean()).square().sum()).item(),
            "mae": error.abs().mean().item(),
        }
    return scores


def of_unequal_atoms(model: nn.Module, material: Material) -> Tensor:
    """The test molecules whose atoms do not all contribute the same: those with something to explain."""
    assert material.atom_values is not None
    ids = material.split["test"].tolist()
    return torch.tensor([i for i in ids if len(material.atom_values[i].unique()) > 1])
