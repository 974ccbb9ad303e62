"""Aromatic nitro groups in the NCI molecules that ship with RDKit.

RDKit is imported only when the benchmark is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from gnn_xai.datasets.files import sha256
from gnn_xai.datasets.models import GIN
from gnn_xai.datasets.recipe import Material, Recipe, split_ids
from gnn_xai.errors import GnnXaiError, StorageError
from gnn_xai.ground_truth import GroundTruth

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SOURCE = "NCI/first_5K.smi"
SOURCE_SHA256 = "91e71c015f14939837f2943dcc904f7c87e5a3a0124d82b05c28ad2f23004def"
AROMATIC_NITRO = "c[N+](=O)[O-]"  # RDKit reads both spellings, N(=O)=O and [N+](=O)[O-], as this
ANY_NITRO = "[N+](=O)[O-]"
CLASS_NAMES = ("no aromatic nitro group", "aromatic nitro group")

SYMBOLS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P")
FEATURE_NAMES = (
    *(f"symbol={symbol}" for symbol in (*SYMBOLS, "other")),
    *(f"degree={degree}" for degree in ("0", "1", "2", "3", ">=4")),
    *(f"charge{sign}" for sign in ("<0", "=0", ">0")),
    *(f"hydrogens={count}" for count in ("0", "1", "2", ">=3")),
    "aromatic",
)


def _chem() -> ModuleType:
    try:
        from rdkit import Chem
    except ImportError as error:
        raise GnnXaiError(
            "the data set 'nci_nitro' is read with RDKit, which is not installed; run 'pip install gnn-xai[molecules]'"
        ) from error
    return Chem


def read_molecules() -> tuple[list[Mol], list[list[str]], Tensor]:
    """The molecules of RDKit's ``first_5K.smi`` that RDKit accepts.

    Returns:
        The molecules; their rows of the file, SMILES and NSC number; and the line, from 0, on
        which each of them stands.

    Raises:
        GnnXaiError: RDKit is not installed.
        StorageError: RDKit's copy of the file is missing or is not the one known here.
    """
    chem = _chem()
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
            mol = chem.MolFromSmiles(row.split()[0])
            if mol is not None:
                mols.append(mol)
                rows.append(row.split())
                lines.append(line)
    return mols, rows, torch.tensor(lines)


def features(mols: Sequence[Mol]) -> Tensor:
    """One-hot atom features of all molecules, one after the other.

    Symbol, degree, sign of the formal charge, number of hydrogens, aromaticity; the columns are
    ``FEATURE_NAMES``.

    Returns:
        float ``[number of atoms, 23]`` in {0, 1}.
    """
    symbol = {name: code for code, name in enumerate(SYMBOLS)}
    codes = torch.tensor(
        [
            (
                symbol.get(atom.GetSymbol(), len(SYMBOLS)),
                atom.GetDegree(),
                atom.GetFormalCharge() + 1,
                atom.GetTotalNumHs(),
                atom.GetIsAromatic(),
            )
            for mol in mols
            for atom in mol.GetAtoms()
        ]
    )
    one_hot = nn.functional.one_hot
    return torch.cat(
        [
            one_hot(codes[:, 0], len(SYMBOLS) + 1),
            one_hot(codes[:, 1].clamp(max=4), 5),
            one_hot(codes[:, 2].clamp(0, 2), 3),
            one_hot(codes[:, 3].clamp(max=3), 4),
            codes[:, 4:],
        ],
        dim=1,
    ).float()


def to_graphs(mols: Sequence[Mol]) -> list[Data]:
    """Molecules as graphs: atoms in RDKit's order, bond ``b`` as the edges ``2 b`` and ``2 b + 1``.

    Args:
        mols: RDKit molecules without explicit hydrogens, as ``MolFromSmiles`` returns them.
    """
    atoms = features(mols).split([mol.GetNumAtoms() for mol in mols])
    graphs = []
    for mol, x in zip(mols, atoms, strict=True):
        ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
        directed = torch.tensor([pair for u, v in ends for pair in ((u, v), (v, u))], dtype=torch.long)
        graphs.append(Data(x=x.clone(), edge_index=directed.reshape(-1, 2).t().contiguous()))
    return graphs


def _nitro_groups(mols: Sequence[Mol]) -> list[Tensor]:
    """Per molecule, the number of the aromatic nitro group that owns each atom, -1 for none."""
    pattern = _chem().MolFromSmarts(AROMATIC_NITRO)
    owners = []
    for mol in mols:
        owner = torch.full((mol.GetNumAtoms(),), -1)
        for group, match in enumerate(mol.GetSubstructMatches(pattern)):
            owner[list(match)] = group
        owners.append(owner)
    return owners


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The split of the file's lines, to be frozen.

    The file holds some molecules more than once. The split is drawn over distinct molecules
    (canonical SMILES), so that no test molecule was seen in training; frozen, because canonical
    SMILES may change between versions of RDKit. The test part is large so that there are enough
    positive molecules to explain.

    Returns:
        ``split`` ``[lines]``: 0 train (60%), 1 val (10%), 2 test (30%), -1 not read by RDKit.
    """
    mols, _, lines = read_molecules()
    canonical = [_chem().MolToSmiles(mol) for mol in mols]
    number = {smiles: count for count, smiles in enumerate(dict.fromkeys(canonical))}
    # RandomState rather than a Generator: its streams are frozen for good by numpy.
    place = np.random.RandomState(seed).permutation(len(number)) / len(number)
    code = torch.from_numpy((place >= 0.6).astype(np.int64) + (place >= 0.7))
    split = torch.full((int(lines[-1]) + 1,), -1)
    split[lines] = code[torch.tensor([number[smiles] for smiles in canonical])]
    return {"split": split}


def read(frozen: dict[str, Tensor]) -> Material:
    """The molecules as graphs; each also carries its ``smiles`` and its ``nsc`` number.

    The truth is what the label reads: the four atoms of each match of the SMARTS
    ``c[N+](=O)[O-]`` (the aromatic carbon counts: a nitro group elsewhere is a negative) and the
    three bonds between them, both directions.
    """
    mols, rows, lines = read_molecules()
    graphs = to_graphs(mols)
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
        feature_names=FEATURE_NAMES,
        node_names=[[atom.GetSymbol() for atom in mol.GetAtoms()] for mol in mols],
    )


def model() -> nn.Module:
    """Three GIN layers of width 64 with BatchNorm, summed over the atoms."""
    return GIN(len(FEATURE_NAMES), 64, len(CLASS_NAMES), num_layers=3)


def fit(model: nn.Module, material: Material) -> None:
    """20 epochs of Adam in batches of 64; the loss weighs both classes alike (7% are positive)."""
    graphs = [material.data[i] for i in material.split["train"].tolist()]
    counts = torch.cat([graph.y for graph in graphs]).bincount(minlength=2)
    weight = len(graphs) / (2.0 * counts)
    loader = DataLoader(graphs, batch_size=64, shuffle=True)
    epochs, rate = 20, 0.003
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * len(loader))
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            logits = model(batch.x, batch.edge_index, batch.batch)
            nn.functional.cross_entropy(logits, batch.y, weight=weight).backward()
            optimizer.step()
            schedule.step()


def _margins(model: nn.Module, graphs: Sequence[Data]) -> Tensor:
    """Logit of the positive class minus that of the negative one, ``[len(graphs)]``."""
    with torch.no_grad():
        logits = torch.cat(
            [model(batch.x, batch.edge_index, batch.batch) for batch in DataLoader(graphs, batch_size=1024)]
        )
    return logits[:, 1] - logits[:, 0]


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Accuracy, ROC-AUC and the accuracy on nitro groups elsewhere (``hard_negative_accuracy``)."""
    nitro = _chem().MolFromSmarts(ANY_NITRO)
    scores = {}
    for name, ids in material.split.items():
        graphs = [material.data[i] for i in ids.tolist()]
        margin = _margins(model, graphs)
        label = torch.cat([graph.y for graph in graphs])
        right = ((margin > 0) == (label > 0)).double()
        has_nitro = [_chem().MolFromSmiles(g.smiles).HasSubstructMatch(nitro) for g in graphs]
        hard = torch.tensor(has_nitro) & (label == 0)
        # ROC-AUC as the share of pairs (positive, negative) in the right order, ties count half.
        difference = margin[label == 1, None] - margin[None, label == 0]
        scores[name] = {
            "accuracy": right.mean().item(),
            "roc_auc": ((difference > 0).double() + 0.5 * (difference == 0)).mean().item(),
            "hard_negative_accuracy": right[hard].mean().item(),
        }
    return scores


def instances(model: nn.Module, material: Material) -> Tensor:
    """The positives of the test split that the model gets right, in the order of the file."""
    positive = [i for i in material.split["test"].tolist() if material.data[i].y.item() == 1]
    right = _margins(model, [material.data[i] for i in positive]) > 0
    return torch.tensor(positive)[right]


RECIPE = Recipe(
    name="nci_nitro",
    title="NCI nitroaromatics",
    summary="is there an aromatic nitro group? 4 991 real molecules, truth by SMARTS; needs RDKit",
    task_level="graph",
    generate=generate,
    read=read,
    model=model,
    fit=fit,
    measure=measure,
    instances=instances,
)
