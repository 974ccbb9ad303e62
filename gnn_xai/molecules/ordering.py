"""Which atom each node of a graph is: featurizers that reorder atoms, explicit hydrogens, virtual nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch_geometric.data import Data

from gnn_xai.errors import InputError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

REMEDY = "keep the order of atoms, or set data.smiles to the SMILES in whose order the nodes are"


def check_order(function: Callable[[Mol], Data], mol: Mol, graph: Data) -> None:
    """Check that a featurizer keeps the order of atoms: node i is atom i.

    Three things give another order away: bonds that are no edges; a graph that does not change when the molecule's atoms
    are numbered backwards, though it should; and an atom whose element is changed while the features of other nodes
    change, and its own do not.

    Args:
        function: the featurizer.
        mol: a molecule.
        graph: what the featurizer makes of it, with a node for each atom.

    Raises:
        InputError: the order is another one.
    """
    from rdkit import Chem

    bonds = {frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())) for bond in mol.GetBonds()}
    edges = _pairs(graph.edge_index)
    if len(edges) == len(bonds) and edges != bonds:
        raise _reordered("its edges are not between the atoms that are bonded")
    backwards = list(range(mol.GetNumAtoms()))[::-1]
    turned = _tried(function, Chem.RenumberAtoms(mol, backwards))
    if turned is not None and _alike(turned, graph) and _features(turned).equal(_features(graph)):
        last = mol.GetNumAtoms() - 1
        mirrored = {frozenset(last - node for node in pair) for pair in edges}
        if _pairs(turned.edge_index) == edges and (
            mirrored != edges or not _features(graph).equal(_features(graph)[backwards])
        ):
            raise _reordered("it makes the same graph whatever the order of atoms")
    for atom in {0, mol.GetNumAtoms() - 1}:
        changed = Chem.RWMol(mol)
        changed.GetAtomWithIdx(atom).SetAtomicNum(15 if mol.GetAtomWithIdx(atom).GetAtomicNum() != 15 else 33)
        changed.UpdatePropertyCache(strict=False)
        other = _tried(function, changed.GetMol())
        if other is not None and _alike(other, graph):
            differs = (_features(other) != _features(graph)).any(1)
            if bool(differs.any()) and not bool(differs[atom]):
                raise _reordered(f"another element in the place of atom {atom} changed other nodes")


def _reordered(why: str) -> InputError:
    return InputError(f"expected a featurizer that keeps the order of atoms, got one that does not: {why}; {REMEDY}")


def _tried(function: Callable[[Mol], Data], mol: Mol) -> Data | None:
    """What a featurizer makes of a molecule that nobody asked for; `None` where it makes nothing."""
    try:
        return function(mol)
    except Exception:  # any that a function of the user's own raises
        return None


def _alike(a: Data, b: Data) -> bool:
    x, y = a.get("x"), b.get("x")
    return isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape


def _features(graph: Data) -> Tensor:
    x: Any = graph.x
    return x.reshape(len(x), -1)


def _pairs(edge_index: Any) -> set[frozenset[int]]:
    ends = [] if edge_index is None else edge_index.t().tolist()
    return {frozenset(pair) for pair in ends if pair[0] != pair[1]}


# Nodes of a graph ####################################################################################################


def nodes_as_atoms(mol: Mol, graph: Data) -> Mol | None:
    """The molecule of a graph with its atoms in the order of nodes; `None` if its nodes are no such atoms.

    Where hydrogens are nodes, the molecule has them explicitly; they follow the other atoms, as RDKit adds them, unless the
    graph carries atomic numbers (`data.z`), by which atoms are then matched to nodes. Nodes after the last atom are virtual
    if each is joined to all atoms; the molecule does not have them.

    Args:
        mol: the molecule that the SMILES of the graph names.
        graph: the graph.
    """
    from rdkit import Chem

    size, edges = int(graph.num_nodes or 0), _pairs(graph.get("edge_index"))
    for hydrogens in (False, True):
        candidate = Chem.AddHs(mol) if hydrogens else mol
        count = candidate.GetNumAtoms()
        joined = all(frozenset((atom, node)) in edges for node in range(count, size) for atom in range(count))
        if size >= count and joined:
            return _in_order(candidate, {pair for pair in edges if max(pair) < count}, _atomic_numbers(graph))
    return None


def _atomic_numbers(graph: Data) -> list[int] | None:
    """The atomic numbers that a graph carries, one a node."""
    z = graph.get("z")
    usable = isinstance(z, Tensor) and not z.is_floating_point() and z.numel() == graph.num_nodes
    return z.reshape(-1).tolist() if usable and isinstance(z, Tensor) else None


def _in_order(mol: Mol, edges: set[frozenset[int]], numbers: list[int] | None) -> Mol | None:
    """The molecule with its atoms in the order of nodes, by edges and atomic numbers; `None` if they are of another."""
    from rdkit import Chem

    bonds = {frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())) for bond in mol.GetBonds()}
    own = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    wanted = own if numbers is None else numbers[: len(own)]
    if wanted == own and (edges == bonds or len(edges) != len(bonds)):  # models add edges of their own
        return mol
    if numbers is None or len(edges) != len(bonds):
        return None
    query = Chem.RWMol()
    for number in wanted:
        query.AddAtom(Chem.AtomFromSmarts(f"[#{number}]"))
    for u, v in map(sorted, edges):
        query.AddBond(u, v, Chem.BondType.SINGLE)
        query.ReplaceBond(query.GetNumBonds() - 1, Chem.BondFromSmarts("~"))
    match = mol.GetSubstructMatch(query.GetMol())
    return Chem.RenumberAtoms(mol, list(match)) if match else None


def other_nodes(smiles: str, mol: Mol, num_nodes: int | None, where: str = "") -> InputError:
    """The error for a graph whose nodes are not the atoms of its SMILES."""
    return InputError(
        f"expected a node for each of the {mol.GetNumAtoms()} atoms of {smiles!r} in their order, or of its "
        f"{mol.GetNumAtoms(onlyExplicit=False)} with hydrogens (PyG's from_smiles(..., with_hydrogen=True)), got "
        f"{num_nodes} nodes{where} that are no such; gx.molecules.from_smiles makes such graphs"
    )
