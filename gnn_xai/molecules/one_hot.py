"""One-hot encodings of atoms and bonds, which the reference models of `gnn_xai.datasets` read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SYMBOLS = ("C", "N", "O", "S", "F", "Cl", "Br", "I", "P")
FEATURE_NAMES = (
    *(f"symbol={symbol}" for symbol in (*SYMBOLS, "other")),
    *(f"degree={degree}" for degree in ("0", "1", "2", "3", ">=4")),
    *(f"charge{sign}" for sign in ("<0", "=0", ">0")),
    *(f"hydrogens={count}" for count in ("0", "1", "2", ">=3")),
    "aromatic",
)
BOND_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
BOND_NAMES = tuple(f"bond={kind.lower()}" for kind in (*BOND_TYPES, "other"))


def features(mols: Sequence[Mol]) -> Tensor:
    """One-hot atom features of all molecules, one after the other.

    Symbol, degree, sign of the formal charge, number of hydrogens, aromaticity; the columns are
    `FEATURE_NAMES`.

    Returns:
        float `[number of atoms, 23]` in {0, 1}.
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


def bond_features(mol: Mol) -> Tensor:
    """One-hot bond types, float `[2 * bonds, 5]`, both directions; the columns are `BOND_NAMES`."""
    code = {kind: number for number, kind in enumerate(BOND_TYPES)}
    codes = [code.get(str(bond.GetBondType()), len(BOND_TYPES)) for bond in mol.GetBonds()]
    rows = torch.tensor(codes, dtype=torch.int64).repeat_interleave(2)
    return nn.functional.one_hot(rows, len(BOND_NAMES)).float()


def to_graphs(mols: Sequence[Mol], bonds: bool = True) -> list[Data]:
    """Molecules as graphs: atoms in RDKit's order, bond `b` as the edges `2 b` and `2 b + 1`.

    Args:
        mols: RDKit molecules without explicit hydrogens, as `MolFromSmiles` returns them.
        bonds: whether the graphs carry `bond_features` as `edge_attr`.
    """
    atoms = features(mols).split([mol.GetNumAtoms() for mol in mols])
    graphs = []
    for mol, x in zip(mols, atoms, strict=True):
        ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
        directed = torch.tensor([pair for u, v in ends for pair in ((u, v), (v, u))], dtype=torch.int64)
        graph = Data(x=x.clone(), edge_index=directed.reshape(-1, 2).t().contiguous())
        if bonds:
            graph.edge_attr = bond_features(mol)
        graphs.append(graph)
    return graphs
