"""Molecules as graphs: the atom and bond encodings that models are trained on.

Every featurizer is a function from an RDKit molecule to a PyG `Data`, whose nodes are the molecule's atoms in RDKit's
order and whose edges are its bonds, both directions of each.

- `pyg`: `torch_geometric.utils.from_smiles`, integer codes `[atoms, 9]` and `[edges, 3]`.
- `ogb`: the encodings of the Open Graph Benchmark (Hu et al., NeurIPS 2020), integer codes of the same widths but
  with other code books.
- `space`: atomic numbers `z` `[atoms]` and coordinates `pos` `[atoms, 3]`, for models in space (SchNet, DimeNet++) that
  find the neighbours themselves; hydrogens are nodes, after the other atoms.
- `one_hot`: what the reference models of `gnn_xai.datasets` read, floats `[atoms, 23]` and `[edges, 5]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.utils import smiles as pyg_smiles

from gnn_xai.errors import InputError, unknown
from gnn_xai.molecules.one_hot import FEATURE_NAMES, to_graphs
from gnn_xai.molecules.records import in_space, is_in_space

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Featurizer = Callable[["Mol"], Data]

# The code books of `ogb.utils.features`. What a book does not hold is coded as its last entry, "misc"; bond stereo,
# aromaticity, rings and conjugation have no such entry.
OGB_ATOM: tuple[tuple[Any, ...], ...] = (
    (*range(1, 119), "misc"),
    ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER", "misc"),
    (*range(11), "misc"),
    (*range(-5, 6), "misc"),
    (*range(9), "misc"),
    (*range(5), "misc"),
    ("SP", "SP2", "SP3", "SP3D", "SP3D2", "misc"),
    (False, True),
    (False, True),
)
OGB_BOND: tuple[tuple[Any, ...], ...] = (
    ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC", "misc"),
    ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY"),
    (False, True),
)

# The number of codes of each column, which is the number of rows of each embedding of a model.
ATOM_SIZES = {
    "pyg": tuple(len(book) for book in pyg_smiles.x_map.values()),
    "ogb": tuple(len(book) for book in OGB_ATOM),
}


def pyg(mol: Mol) -> Data:
    """As `torch_geometric.utils.from_smiles`.

    Raises:
        ValueError: an atom or bond has a property for which there is no code.
    """
    return pyg_smiles.from_rdmol(mol)


def ogb(mol: Mol) -> Data:
    """As `ogb.utils.smiles2graph`, without needing that package.

    Raises:
        ValueError: a bond has a stereochemistry for which there is no code.
    """
    x = [
        _codes(
            OGB_ATOM,
            atom.GetAtomicNum(),
            str(atom.GetChiralTag()),
            atom.GetTotalDegree(),
            atom.GetFormalCharge(),
            atom.GetTotalNumHs(),
            atom.GetNumRadicalElectrons(),
            str(atom.GetHybridization()),
            atom.GetIsAromatic(),
            atom.IsInRing(),
        )
        for atom in mol.GetAtoms()
    ]
    edge_attr = [
        _codes(OGB_BOND, str(bond.GetBondType()), str(bond.GetStereo()), bond.GetIsConjugated())
        for bond in mol.GetBonds()
    ]
    return Data(
        x=torch.tensor(x).reshape(-1, len(OGB_ATOM)),
        edge_index=one_hot(mol).edge_index,
        edge_attr=torch.tensor(edge_attr, dtype=torch.long).reshape(-1, len(OGB_BOND)).repeat_interleave(2, dim=0),
    )


def _codes(books: tuple[tuple[Any, ...], ...], *values: Any) -> list[int]:
    return [
        book.index(value) if value in book or book[-1] != "misc" else len(book) - 1
        for book, value in zip(books, values, strict=True)
    ]


def one_hot(mol: Mol) -> Data:
    """As the reference models of the benchmarks read molecules; columns are those of `gnn_xai.molecules.one_hot`."""
    return to_graphs([mol])[0]


def space(mol: Mol) -> Data:
    """Atomic numbers and coordinates of a molecule with its hydrogens; bonds as edges.

    Hydrogens that it lacks are added, and so are coordinates, by RDKit (ETKDG, always the same).

    Raises:
        ValueError: RDKit finds no place for its atoms.
    """
    from rdkit import Chem

    mol = Chem.AddHs(mol, addCoords=True)
    if not is_in_space(mol):
        mol = in_space(mol)
    if not is_in_space(mol):
        raise ValueError("RDKit finds no place for them")
    return Data(
        z=torch.tensor([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
        pos=torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32),
        edge_index=one_hot(mol).edge_index,
    )


REGISTRY: dict[str, Featurizer] = {"pyg": pyg, "ogb": ogb, "one_hot": one_hot, "space": space}


def get(featurizer: str | nn.Module | Featurizer) -> tuple[str, Featurizer]:
    """A featurizer and its name: from its name, from the model that is to read its graphs, or a function of your own.

    Raises:
        InputError: an unknown name, or a model that does not say what it reads.
    """
    if isinstance(featurizer, nn.Module):
        featurizer = recognise(featurizer)
    if isinstance(featurizer, str):
        if featurizer not in REGISTRY:
            raise unknown("featurizer", featurizer, REGISTRY)
        return featurizer, REGISTRY[featurizer]
    if not callable(featurizer):
        raise InputError(
            f"expected featurizer as one of {', '.join(REGISTRY)}, a model, or a function from an RDKit molecule to "
            f"Data, got {type(featurizer).__name__}"
        )
    return getattr(featurizer, "__name__", type(featurizer).__name__), featurizer


def recognise(model: nn.Module) -> str:
    """The featurizer whose graphs a model reads, by the shapes of its parameters.

    A model that is called with `z` and `pos` reads `space`. Integer codes go through one embedding a column, and the numbers
    of their rows differ between `pyg` and `ogb`. A model whose first weights take 23 features reads `one_hot`.

    Raises:
        InputError: neither is so. A first layer that takes 9 numbers fits both `pyg` and `ogb`.
    """
    if {"z", "pos"} <= inspect.signature(model.forward).parameters.keys():
        return "space"
    embeddings = tuple(module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding))
    for name, sizes in ATOM_SIZES.items():
        if any(embeddings[i : i + len(sizes)] == sizes for i in range(len(embeddings))):
            return name
    width = next((_width(module) for module in model.modules() if _width(module)), None)
    if not embeddings and width == len(FEATURE_NAMES):
        return "one_hot"
    read = f"embeddings of {list(embeddings[:9])} rows" if embeddings else f"{width or 'no known number of'} inputs"
    raise InputError(
        f"expected a model that reads one of the known encodings, got a {type(model).__name__} with {read}; say which "
        f"with featurizer= ({', '.join(REGISTRY)}, or a function from an RDKit molecule to Data)"
    )


def _width(module: nn.Module) -> int | None:
    """Features that a module with weights of its own takes in, if it says so."""
    for name in ("in_channels", "in_features"):
        width = getattr(module, name, None)
        if isinstance(width, tuple):
            width = width[0]
        if isinstance(width, int) and width > 0:
            return width
    return None
