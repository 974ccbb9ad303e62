"""Benchmarks of NCI molecules whose truth is exact: logP and polar surface by atom, benzene rings, a conjunction."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save as tensors_to_bytes

import gnn_xai as gx
from gnn_xai import datasets
from gnn_xai.datasets import files, nci, nci_halogen_carbonyl, nci_logp, nci_tpsa
from gnn_xai.datasets.recipe import Benchmark
from gnn_xai.molecules import one_hot

Chem = pytest.importorskip("rdkit.Chem", reason="the NCI molecules are read with RDKit")

VALUES = ("nci_logp", "nci_tpsa")
CLASSES = ("nci_benzene", "nci_halogen_carbonyl")


def labels(benchmark: Benchmark, split: str) -> tuple[list, torch.Tensor]:
    graphs = [benchmark.data[i] for i in benchmark.split[split].tolist()]
    return graphs, torch.cat([graph.y for graph in graphs])


def margin(benchmark: Benchmark, smiles: list[str]) -> torch.Tensor:
    return nci.margins(benchmark.model, one_hot.to_graphs([Chem.MolFromSmiles(s) for s in smiles]))


# All of them


@pytest.mark.parametrize("name", VALUES + CLASSES)
def test_files_are_small_and_made_by_the_recipe(name: str):
    folder = files.root() / name
    assert (folder / files.MODEL).stat().st_size < 1_000_000
    frozen = (folder / files.DATA).read_bytes()
    assert len(frozen) < 10_000
    assert tensors_to_bytes(datasets.REGISTRY[name].generate()) == frozen


@pytest.mark.parametrize("name", VALUES + CLASSES)
def test_what_a_benchmark_holds(name: str):
    benchmark = datasets.load(name)
    assert benchmark.featurizer == "one_hot"
    assert benchmark.task.mode.value == ("regression" if name in VALUES else "multiclass_classification")
    assert (benchmark.atom_values is None) == (name in CLASSES)
    assert (benchmark.ground_truth is None) == (name in VALUES)
    for graph, names in zip(benchmark.data, benchmark.node_names, strict=True):
        assert graph.x.shape == (len(names), len(benchmark.feature_names))
    distinct = [{Chem.CanonSmiles(graph.smiles) for graph in labels(benchmark, split)[0]} for split in benchmark.split]
    assert len(set.union(*distinct)) == sum(map(len, distinct))  # no molecule is in two parts
    assert set(benchmark.index.tolist()) <= set(benchmark.split["test"].tolist())


@pytest.mark.parametrize("name", VALUES + CLASSES)
def test_graphs_from_smiles_are_those_of_the_benchmark(name: str):
    benchmark = datasets.load(name)
    some = benchmark.index[:20].tolist()
    molecules = gx.molecules.from_smiles([benchmark.data[i].smiles for i in some], featurizer=benchmark.featurizer)
    for molecule, i in zip(molecules, some, strict=True):
        for key, value in benchmark.data[i].to_dict().items():
            if key in ("x", "edge_index", "edge_attr"):
                assert torch.equal(molecule[key], value)
    predicted = gx.explain(benchmark.model, molecules, "saliency", task=benchmark.task, progress=False).prediction
    torch.testing.assert_close(
        predicted.flatten(),
        nci.predict(benchmark.model, [benchmark.data[i] for i in some]).flatten(),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", VALUES)
def test_regressions_are_accurate(name: str):
    assert all(scores["r2"] >= 0.95 for scores in datasets.load(name).reference["accuracy"].values())
    assert "test r2 0.99" in repr(datasets.load(name))


@pytest.mark.parametrize("name", CLASSES)
def test_classifiers_are_accurate(name: str):
    for scores in datasets.load(name).reference["accuracy"].values():
        assert scores["roc_auc"] >= 0.99
        assert scores["hard_negative_accuracy"] >= 0.95


def test_bonds():
    (graph,) = one_hot.to_graphs([Chem.MolFromSmiles("C#Cc1ccccc1C(=O)O->[Fe]")])
    kinds = [one_hot.BOND_NAMES[row.index(1)] for row in graph.edge_attr.tolist()]
    assert kinds[::2] == kinds[1::2]
    assert sorted(set(kinds)) == sorted(one_hot.BOND_NAMES)
    assert kinds[:2] == ["bond=triple"] * 2
    (alone,) = one_hot.to_graphs([Chem.MolFromSmiles("[Na+]")])
    assert alone.edge_attr.shape == (0, len(one_hot.BOND_NAMES))


# Values that atoms add up to


@pytest.mark.parametrize("name", VALUES)
def test_atoms_add_up_to_the_property(name: str):
    from rdkit.Chem import Crippen, rdMolDescriptors

    of = {"nci_logp": Crippen.MolLogP, "nci_tpsa": rdMolDescriptors.CalcTPSA}[name]
    benchmark = datasets.load(name)
    for graph, values in zip(benchmark.data[::5], benchmark.atom_values[::5], strict=True):
        assert values.shape == (graph.num_nodes,)
        assert values.sum().item() == pytest.approx(of(Chem.MolFromSmiles(graph.smiles)), abs=1e-4)
        assert graph.y.item() == pytest.approx(values.sum().item(), abs=1e-4)


def test_hydrogens_count_for_the_atoms_that_carry_them():
    # Ethanol: C1 with 3 H1, C3 with 2 H1, O2 with H2, in the words of Wildman and Crippen's table.
    values = nci_logp.contributions(Chem.MolFromSmiles("CCO")).tolist()
    assert values == pytest.approx([0.1441 + 3 * 0.1230, -0.2035 + 2 * 0.1230, -0.2893 - 0.2677], abs=1e-6)
    assert nci_logp.contributions(Chem.MolFromSmiles("[H]C#N")).shape == (2,)


def test_polar_surface_of_nitrogen_and_oxygen_alone():
    # Ertl's table: primary amine 26.02, carbonyl 17.07, hydroxyl 20.23.
    values = nci_tpsa.contributions(Chem.MolFromSmiles("NCC(=O)O")).tolist()
    assert values == pytest.approx([26.02, 0, 0, 17.07, 20.23])


def test_instances_of_regressions_have_something_to_rank():
    benchmark = datasets.load("nci_tpsa")
    chosen = set(benchmark.index.tolist())
    for i in benchmark.split["test"].tolist():
        assert (i in chosen) == (benchmark.atom_values[i].min() < benchmark.atom_values[i].max()).item()


def test_integrated_gradients_rank_the_atoms_of_logp():
    scipy_stats = pytest.importorskip("scipy.stats")
    benchmark = datasets.load("nci_logp")
    explanations = gx.explain(
        benchmark.model,
        benchmark.data,
        gx.IntegratedGradients(steps=20, edge_mask_type=None),
        task=benchmark.task,
        index=benchmark.index[::10],
        progress=False,
    )
    ranks = [scipy_stats.spearmanr(e.node_scores, benchmark.atom_values[e.index]).statistic for e in explanations]
    assert sum(ranks) / len(ranks) >= 0.8


# Benzene rings


def test_benzene_truth_is_six_aromatic_carbons_in_a_ring():
    """Against RDKit's list of rings, walked without SMARTS."""
    benchmark = datasets.load("nci_benzene")
    truth = benchmark.ground_truth
    for position, graph in enumerate(benchmark.data):
        mol = Chem.MolFromSmiles(graph.smiles)
        atoms, bonds = set(), set()
        rings = mol.GetRingInfo()
        for ring, around in zip(rings.AtomRings(), rings.BondRings(), strict=True):
            carbons = all(mol.GetAtomWithIdx(a).GetSymbol() == "C" for a in ring)
            if len(ring) == 6 and carbons and all(mol.GetBondWithIdx(b).GetIsAromatic() for b in around):
                atoms |= set(ring)
                bonds |= set(around)
        assert set((truth.node[position] >= 0).nonzero().flatten().tolist()) == atoms, graph.smiles
        found = (truth.edge[position] >= 0).nonzero().flatten()
        assert set((found // 2).tolist()) == bonds, graph.smiles
        assert len(found) == 2 * len(bonds)
        assert bool(graph.y) == bool(atoms)


@pytest.mark.parametrize(
    ("smiles", "motifs", "bonds"),
    [
        ("c1ccc2ccccc2c1", [10], 11),  # naphthalene: rings that share atoms are one motif
        ("c1ccccc1-c1ccccc1", [6, 6], 12),  # biphenyl: two, and the bond between them is not true
        ("c1ccc2ncccc2c1", [6], 6),  # quinoline
        ("C1=CC(=O)C=CC1=O", [], 0),
    ],
)
def test_rings(smiles: str, motifs: list[int], bonds: int):
    from gnn_xai.datasets.nci_benzene import rings

    owner, around = rings(Chem.MolFromSmiles(smiles))
    assert owner[owner >= 0].bincount().tolist() == motifs
    assert len(around) == bonds


# A halogen and a carbonyl group


def test_conjunction_is_balanced_and_size_says_nothing():
    benchmark = datasets.load("nci_halogen_carbonyl")
    for split in benchmark.split:
        graphs, label = labels(benchmark, split)
        size = torch.tensor([graph.num_nodes for graph in graphs])
        assert nci.roc_auc(size, label) == 0.5
        assert 3 * label.sum() == (label == 0).sum()
        kinds = [tuple(map(bool, nci_halogen_carbonyl.parts(Chem.MolFromSmiles(graph.smiles)))) for graph in graphs]
        assert len({kinds.count(kind) for kind in set(kinds)}) == 1
        assert len(set(kinds)) == 4
        assert label.tolist() == [int(kind == (True, True)) for kind in kinds]


def test_conjunction_truth_is_both_parts():
    """Against RDKit's atoms and bonds, walked without SMARTS."""
    benchmark = datasets.load("nci_halogen_carbonyl")
    truth = benchmark.ground_truth
    for position, graph in enumerate(benchmark.data):
        atoms, bonds = set(), set()
        for bond in Chem.MolFromSmiles(graph.smiles).GetBonds():
            ends = {atom.GetSymbol(): atom.GetIdx() for atom in (bond.GetBeginAtom(), bond.GetEndAtom())}
            other = (set(ends) - {"C"}) or {"C"}
            if "C" in ends and other <= {"F", "Cl", "Br", "I"}:
                atoms.add(ends[other.pop()])
                bonds.add(bond.GetIdx())
            elif set(ends) == {"C", "O"} and str(bond.GetBondType()) == "DOUBLE":
                atoms |= set(ends.values())
                bonds.add(bond.GetIdx())
        found = (truth.edge[position] >= 0).nonzero().flatten()
        if graph.y.item():
            assert set((truth.node[position] >= 0).nonzero().flatten().tolist()) == atoms, graph.smiles
            assert set((found // 2).tolist()) == bonds, graph.smiles
        else:
            assert not len(found)
            assert (truth.node[position] < 0).all()


@pytest.mark.parametrize("part", ["[F,Cl,Br,I;D1]", "[$([O;D1]=[#6])]"])
def test_the_model_has_learnt_both_parts(part: str):
    """Real molecules without their halogens, or without the oxygens of their carbonyls; hydrogens take the place."""
    benchmark = datasets.load("nci_halogen_carbonyl")
    smiles = [benchmark.data[i].smiles for i in benchmark.index.tolist()]
    whole, cut = margin(benchmark, smiles), []
    for one in smiles:
        mol = Chem.MolFromSmiles(one)
        Chem.Kekulize(mol, clearAromaticFlags=True)  # a ring may not be aromatic without its carbonyl
        cut.append(Chem.MolToSmiles(Chem.DeleteSubstructs(mol, Chem.MolFromSmarts(part))))
    without = margin(benchmark, cut)
    assert (whole > 0).all()
    assert (without < whole).all()
    assert (without < 0).float().mean() >= 0.95


def test_a_part_alone_is_not_the_answer():
    both, halogen, carbonyl, neither = margin(
        datasets.load("nci_halogen_carbonyl"), ["O=C(C)c1ccc(Cl)cc1", "Clc1ccc(CC)cc1", "O=C(C)c1ccccc1", "CCc1ccccc1"]
    )
    assert both > 0 > max(halogen, carbonyl, neither)
