"""Molecules in pieces, what explanations give to them, and the algorithms that remove them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import global_add_pool

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.datasets.models import GIN
from gnn_xai.errors import InputError
from gnn_xai.molecules import cut, fragments
from gnn_xai.molecules.featurizers import REGISTRY
from gnn_xai.molecules.fragments import KINDS, neutral
from gnn_xai.molecules.smiles import as_mol
from tests.covering import pairwise

pytest.importorskip("rdkit")

NITROBENZENE = "O=[N+]([O-])c1ccccc1"
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CAFFEINE = "Cn1c(=O)c2c(ncn2C)n(C)c1=O"
TESTOSTERONE = "C[C@]12CC[C@H]3[C@@H](CCC4=CC(=O)CC[C@]34C)[C@@H]1CC[C@@H]2O"
BIPHENYL = "c1ccc(-c2ccccc2)cc1"
ACETATE = "CC(=O)[O-].[Na+]"
MOLECULES = [
    NITROBENZENE,
    ASPIRIN,
    CAFFEINE,
    TESTOSTERONE,
    BIPHENYL,
    ACETATE,
    "C",
    "CCO[N+](=O)[O-]",
    "[Fe+2].[Cl-].[Cl-]",
]


def names(smiles: str, kind: str) -> list[str]:
    return [fragment.name for fragment in cut(smiles, kind)]


@pytest.mark.parametrize(
    ("smiles", "kind", "expected"),
    [
        (NITROBENZENE, "functional_groups", ["nitro"]),
        (NITROBENZENE, "rings", ["benzene ring"]),
        (NITROBENZENE, "scaffold", ["side chain nitro", "scaffold"]),
        (ASPIRIN, "functional_groups", ["ester", "carboxylic acid"]),
        (ASPIRIN, "brics", ["CC=O", "O", "benzene ring", "carboxylic acid"]),
        (ASPIRIN, "parts", ["methyl", "ester", "benzene ring", "carboxylic acid"]),
        (CAFFEINE, "rings", ["purine rings"]),
        (CAFFEINE, "functional_groups", ["carbonyl", "carbonyl"]),
        (TESTOSTERONE, "rings", ["steroid rings"]),
        (TESTOSTERONE, "functional_groups", ["alkene", "ketone", "alcohol"]),
        (BIPHENYL, "rings", ["benzene ring", "benzene ring"]),
        (BIPHENYL, "scaffold", ["scaffold"]),
        (BIPHENYL, "functional_groups", []),
        (ACETATE, "parts", ["methyl", "carboxylic acid", "[Na+] ion"]),
        ("C", "parts", ["methane"]),
        ("C", "bonds", []),
        ("CCO[N+](=O)[O-]", "functional_groups", ["nitrate"]),
        ("Nc1ccc(S(=O)(=O)Nc2ncccn2)cc1", "functional_groups", ["primary amine", "sulfonamide"]),
        ("FC(F)(F)c1ccc(Cl)cc1C#N", "functional_groups", ["trifluoromethyl", "halogen (Cl)", "nitrile"]),
        ("CC=O", "bonds", ["C0-C1", "C1=O2"]),
        ("C1CCC2(CC1)CCCCC2", "rings", ["6-6 ring system"]),
    ],
)
def test_known_molecules(smiles: str, kind: str, expected: list[str]) -> None:
    assert names(smiles, kind) == expected


GROUP_NAMES = {
    "CC[NH3+]": "protonated amine",
    "CC[NH2+]C": "protonated amine",
    "C[NH+](C)C": "protonated amine",
    "C[N+](C)(C)C": "quaternary nitrogen",
    "[NH4+]": "ammonium ion",
    "N#N": "dinitrogen",
    "N#[N+]c1ccccc1": "diazonium",
    "C=[N+]=[N-]": "diazo",
    "CN=[N+]=[N-]": "azide",
    "[C-]#[N+]C1CCCCC1": "isonitrile",
    "CC#N": "nitrile",
    "CON=O": "nitrite",
    "CCN=O": "nitroso",
    "CN(C)N=O": "nitrosamine",
    "CO[N+](=O)[O-]": "nitrate",
    "CC1(C)CCCC(C)(C)N1[O]": "nitroxide",
    "[O-][n+]1ccccc1": "N-oxide",
    "C[N+](C)(C)[O-]": "N-oxide",
    "CC=[N+](C)[O-]": "nitrone",
    "CC(=O)NO": "hydroxamic acid",
    "CONC": "hydroxylamine",
    "CS(C)=O": "sulfoxide",
    "C[S+](C)[O-]": "sulfoxide",
    "CS(C)(=O)=O": "sulfone",
    "CS(=O)O": "sulfinic acid",
    "CSSC": "disulfide",
    "C1CCSS1": "disulfide",
    "CSC": "sulfide",
    "C[S+](C)C": "sulfonium",
    "CS(=O)(=O)O": "sulfonic acid",
    "CS(=O)(=O)[O-]": "sulfonic acid",
    "CS(=O)(=O)OC": "sulfonate ester",
    "CS(=O)(=O)N": "sulfonamide",
    "COS(=O)(=O)O": "sulfate",
    "CP(=O)(O)O": "phosphonic acid",
    "CP(=O)(OC)OC": "phosphonate",
    "CP(=O)([O-])[O-]": "phosphonate",
    "COP(=O)(O)O": "phosphate ester",
    "COP(=O)([O-])OC": "phosphate ester",
    "COP(=O)(OC)OC": "phosphate ester",
    "OP(=O)(O)O": "phosphoric acid",
    "COP(=O)(O)OP(=O)(O)O": "diphosphate",
    "COOC": "peroxide",
    "CC(C)OO": "hydroperoxide",
    "[O-]c1ccccc1": "phenolate",
    "Oc1ccccc1": "phenol",
    "C[O-]": "alkoxide",
    "CN": "primary amine",
    "CNC": "secondary amine",
    "CN(C)C": "tertiary amine",
    "CC(=O)OC(C)=O": "anhydride",
    "COC(=O)OC": "carbonate",
    "CC(=O)SC": "thioester",
}


@pytest.mark.parametrize(("smiles", "name"), GROUP_NAMES.items())
def test_functional_groups_have_the_names_that_chemists_give_them(smiles: str, name: str) -> None:
    mol = as_mol(smiles)
    (group,) = (fragment for fragment in cut(mol, "functional_groups") if fragment.name != "alkene")
    assert group.name == name
    assert {a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() != 6 and not a.GetIsAromatic()} <= set(group.atoms)


def test_hydrogens_are_in_the_fragment_of_their_atom() -> None:
    from rdkit import Chem

    for smiles in ("CCO", "O=[N+]([O-])c1ccccc1", "NCC(=O)O", "CC[NH3+]"):
        mol = as_mol(smiles)
        whole = Chem.AddHs(mol)
        for kind in ("functional_groups", "rings", "brics", "scaffold", "parts"):
            heavy = [(f.name, tuple(i for i in f.atoms if i < mol.GetNumAtoms())) for f in cut(whole, kind)]
            assert heavy == [(f.name, f.atoms) for f in cut(mol, kind)]
            carried = [
                {n.GetIdx() for i in f.atoms for n in whole.GetAtomWithIdx(i).GetNeighbors()} for f in cut(whole, kind)
            ]
            for fragment, near in zip(cut(whole, kind), carried, strict=True):
                assert {i for i in near if whole.GetAtomWithIdx(i).GetAtomicNum() == 1} <= set(fragment.atoms)


def test_a_nitro_group_is_nitrogen_and_both_oxygens_and_an_ester_none_of_its_neighbours() -> None:
    assert cut(NITROBENZENE, "functional_groups")[0].atoms == (0, 1, 2)
    assert cut(ASPIRIN, "functional_groups")[0].atoms == (1, 2, 3)


@pytest.mark.parametrize("smiles", MOLECULES)
def test_cuts_are_disjoint_and_those_that_say_so_cover_all_atoms(smiles: str) -> None:
    mol = as_mol(smiles)
    for kind in KINDS:
        atoms = [atom for fragment in cut(mol, kind) for atom in fragment.atoms]
        if kind != "bonds":
            assert len(atoms) == len(set(atoms))
        if kind in ("brics", "scaffold", "parts", "atoms"):
            assert set(atoms) == set(range(mol.GetNumAtoms()))
        assert all(fragment.name for fragment in cut(mol, kind))
    grouped = {atom for fragment in cut(mol, "functional_groups") for atom in fragment.atoms}
    missed = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() != 6 and not a.GetIsAromatic()]
    assert grouped.issuperset(missed)


def test_the_cut_does_not_depend_on_the_order_of_atoms() -> None:
    from rdkit import Chem

    for smiles in MOLECULES:
        mol = as_mol(smiles)
        for kind in ("functional_groups", "rings", "brics", "parts"):
            turned = Chem.RenumberAtoms(mol, list(range(mol.GetNumAtoms()))[::-1])
            last = mol.GetNumAtoms() - 1
            there = {(f.name, tuple(sorted(last - atom for atom in f.atoms))) for f in cut(turned, kind)}
            assert there == {(f.name, f.atoms) for f in cut(mol, kind)}


def test_unknown_kinds_and_unreadable_smiles() -> None:
    with pytest.raises(InputError, match="kind of fragment"):
        cut("C", "ring")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="RDKit can read"):
        cut("C1", "rings")


# Algorithms ##############################################################################################################


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return testing.seeded(lambda: GIN(23, 16, 2, num_layers=3))()


def explain(model: nn.Module, smiles: list[str], algorithm: object, **options: object) -> gx.Explanations:
    molecules = gx.molecules.from_smiles(smiles, "one_hot")
    return gx.explain(model, molecules, algorithm, task="graph", target=1, progress=False, **options)


def worth(model: nn.Module, smiles: str, present: set[int]) -> float:
    """The margin of a molecule of which only some atoms are there; the rest is cut out of the graph."""
    data = gx.molecules.from_smiles(smiles, "one_hot")[0]
    keep = sorted(present)
    if keep:
        place = {atom: position for position, atom in enumerate(keep)}
        ends = [[place[u], place[v]] for u, v in data.edge_index.t().tolist() if u in place and v in place]
        x, edge_index = data.x[keep], torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).t()
    else:
        x, edge_index = data.x[:1] * 0, data.edge_index[:, :0]
    with torch.no_grad():
        out = model(x, edge_index, torch.zeros(len(x), dtype=torch.int64))[0]
    return float(out[1] - out[0])


@pytest.mark.parametrize("smiles", [ASPIRIN, CAFFEINE, ACETATE, BIPHENYL, "C"])
def test_exact_values_are_those_of_brute_force(model: nn.Module, smiles: str) -> None:
    e = explain(model, [smiles, ASPIRIN], gx.Shapley(players="fragments"))[0]
    pieces = cut(smiles, "parts")
    known: dict[frozenset[int], float] = {}

    def value(players: tuple[int, ...]) -> float:
        coalition = frozenset(players)
        if coalition not in known:
            known[coalition] = worth(model, smiles, {atom for k in coalition for atom in pieces[k].atoms})
        return known[coalition]

    orders = list(itertools.permutations(range(len(pieces))))
    for k, piece in enumerate(pieces):
        gains = [value(order[: order.index(k) + 1]) - value(order[: order.index(k)]) for order in orders]
        for atom in piece.atoms:
            value_of_fragment = sum(gains) / len(orders)
            assert float(e.extras["node_fragment_value"][atom]) == pytest.approx(value_of_fragment, abs=1e-4)
            assert float(e.node_mask[atom, 0]) == pytest.approx(value_of_fragment / len(piece.atoms), abs=1e-4)
            assert int(e.extras["node_fragment"][atom]) == k
    assert float(e.extras["base_value"]) == pytest.approx(value(()), abs=1e-4)
    assert bool((e.extras["node_standard_error"] == 0).all())


@pairwise(
    exact_up_to=[12, 1],
    removal=["structural", "message"],
    kind=["parts", "brics", "scaffold", "atoms", "functional_groups", "bonds"],
)
def test_values_add_up(model: nn.Module, kind: str, removal: str, exact_up_to: int) -> None:
    algorithm = gx.Shapley(players="fragments", kind=kind, removal=removal, exact_up_to=exact_up_to, samples=2)
    for e in explain(model, [ASPIRIN, NITROBENZENE, "C", ACETATE], algorithm):
        if kind == "bonds":
            total = sum(score for _, _, score in e.top_edges(100))
        else:
            total = float(e.node_mask.sum())
        whole = float(e.prediction[1] - e.prediction[0]) - float(e.extras["base_value"])
        assert total == pytest.approx(whole, abs=1e-3 * max(1, abs(whole)))


def test_sampled_values_are_within_their_standard_errors(model: nn.Module) -> None:
    exact = explain(model, [ASPIRIN], gx.Shapley(players="fragments", kind="atoms", exact_up_to=13))
    sampled = explain(model, [ASPIRIN], gx.Shapley(players="fragments", kind="atoms", exact_up_to=1, samples=64))
    assert bool((exact.extras["node_standard_error"] == 0).all())
    error = sampled.extras["node_standard_error"]
    assert bool((error > 0).all())
    gap = (sampled.node_mask[:, 0] - exact.node_mask[:, 0]).abs() / error
    assert float(gap.max()) < 4
    assert float((gap < 3).double().mean()) >= 12 / 13
    fewer = explain(model, [ASPIRIN], gx.Shapley(players="fragments", kind="atoms", exact_up_to=1, samples=16))
    assert float(fewer.extras["node_standard_error"].mean()) > 1.5 * float(error.mean())


def test_fragments_that_are_alike_get_the_same(model: nn.Module) -> None:
    e = explain(model, [BIPHENYL], gx.Shapley(players="fragments"))[0]
    first, second = (list(fragment.atoms) for fragment in cut(BIPHENYL, "rings"))
    torch.testing.assert_close(e.node_mask[first], e.node_mask[second], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:the model sends no messages")
def test_a_fragment_that_the_model_does_not_see_gets_nothing() -> None:
    class CountsNitrogen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
            return self.weight * global_add_pool(x[:, 1:2], batch)

    task = ModelConfig("regression", "graph", "raw")
    data = gx.molecules.from_smiles([NITROBENZENE, "NCCN"], "one_hot")
    for algorithm in (
        gx.Shapley(players="fragments"),
        gx.FragmentAblation(),
        gx.FragmentAblation(replacement="carbon"),
    ):
        found = gx.explain(CountsNitrogen(), data, algorithm, task=task, progress=False)
        tables = [fragments(e, "parts").set_index("name")["attribution"] for e in found]
        assert tables[0].to_dict() == pytest.approx({"nitro": 1.0, "benzene ring": 0.0})
        assert tables[1]["primary amine"].tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("kind", ["parts", "rings", "functional_groups"])
def test_ablation_cuts_the_fragment_out(model: nn.Module, kind: str) -> None:
    for smiles in (ASPIRIN, TESTOSTERONE, ACETATE):
        e = explain(model, [smiles], gx.FragmentAblation(kind=kind))[0]
        every = set(range(len(e.node_id)))
        expected = torch.zeros(len(every))
        for fragment in cut(smiles, kind):
            drop = worth(model, smiles, every) - worth(model, smiles, every - set(fragment.atoms))
            expected[list(fragment.atoms)] = drop / len(fragment.atoms)
        torch.testing.assert_close(e.node_mask[:, 0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("featurizer", ["pyg", "ogb", "one_hot"])
def test_neutral_atoms_are_carbons_in_their_place(featurizer: str) -> None:
    def rows(smiles: str) -> torch.Tensor:
        return REGISTRY[featurizer](as_mol(smiles)).x

    pairs = [("Oc1ccccc1", "Cc1ccccc1"), ("c1ccncc1", "c1ccccc1"), ("CC=O", "CC=C"), ("CCl", "CC"), ("CC#N", "CC#C")]
    for smiles, carbons in pairs:
        torch.testing.assert_close(neutral(as_mol(smiles), rows(smiles)), rows(carbons))
    charged = neutral(as_mol(NITROBENZENE), rows(NITROBENZENE))
    torch.testing.assert_close(charged[:2], rows("C=C(C)c1ccccc1")[:2])


def test_replacement_needs_features_that_it_knows(model: nn.Module) -> None:
    data = list(gx.molecules.from_smiles([ASPIRIN], "one_hot"))
    algorithm = gx.FragmentAblation(replacement="carbon")
    found = gx.explain(model, data, algorithm, progress=False)
    carried = data[0].clone()
    carried.x_neutral = neutral(as_mol(ASPIRIN), carried.x)
    torch.testing.assert_close(gx.explain(model, [carried], algorithm, progress=False).node_mask, found.node_mask)
    data[0].x = data[0].x * 2
    with pytest.raises(InputError, match="x_neutral"):
        gx.explain(model, data, algorithm, progress=False)
    del data[0].smiles
    with pytest.raises(InputError, match="x_neutral"):
        gx.explain(model, data, algorithm, progress=False)
    with pytest.raises(InputError, match="a bond has no features to replace"):
        gx.FragmentAblation(kind="bonds", replacement="carbon")


def test_graphs_that_do_not_say_what_their_fragments_are(model: nn.Module) -> None:
    data = gx.molecules.from_smiles([ASPIRIN, "C"], "one_hot").graphs
    other = [Data(x=graph.x, edge_index=graph.edge_index) for graph in data]
    single = gx.explain(model, other, gx.FragmentAblation(), progress=False)
    nodes = gx.explain(model, other, gx.NodeAblation(), progress=False)
    torch.testing.assert_close(single.node_mask, nodes.node_mask)
    assert "node_fragment" not in single.extras
    with pytest.raises(InputError, match=r"kind='rings', got graphs without"):
        gx.explain(model, other, gx.FragmentAblation(kind="rings"), progress=False)
    other[0].smiles = other[1].smiles = "CC"
    with pytest.raises(InputError, match="with hydrogens"):
        gx.explain(model, other, gx.FragmentAblation(), progress=False)
    for graph in other:
        graph.fragment = torch.zeros(graph.num_nodes)
    with pytest.raises(InputError, match="one integer for each node"):
        gx.explain(model, other, gx.FragmentAblation(), progress=False)


def test_hyper_parameters_are_checked() -> None:
    for wrong in (
        {"kind": "ring"},
        {"removal": "delete"},
        {"replacement": "nitrogen"},
        {"samples": 1},
        {"exact_up_to": 17},
    ):
        with pytest.raises(InputError):
            gx.Shapley(players="fragments", **wrong)


def test_single_bonds_are_scored_as_edges(model: nn.Module) -> None:
    found = explain(model, [ASPIRIN, "C"], gx.FragmentAblation(kind="bonds"))
    edges = explain(model, [ASPIRIN, "C"], gx.EdgeAblation())
    torch.testing.assert_close(found.edge_mask, edges.edge_mask)


@pytest.mark.parametrize(
    "algorithm", [gx.FragmentAblation(), gx.Shapley(players="fragments", exact_up_to=3, samples=2)]
)
def test_molecules_are_explained_as_if_alone(model: nn.Module, algorithm: object) -> None:
    smiles = [ASPIRIN, ACETATE, TESTOSTERONE, "CC"]
    together = explain(model, smiles, algorithm)
    for position, each in enumerate(smiles):
        alone = explain(model, [each], algorithm)
        torch.testing.assert_close(together[position].node_mask, alone[0].node_mask, rtol=1e-4, atol=1e-4)
    small = explain(model, smiles, algorithm, batch_budget=1)
    torch.testing.assert_close(small.node_mask, together.node_mask, rtol=1e-4, atol=1e-4)


# Tables ##################################################################################################################


def test_attributions_of_fragments_that_cover_all_atoms_add_up(model: nn.Module) -> None:
    e = explain(model, [ASPIRIN], gx.NodeAblation())[0]
    for kind in ("brics", "scaffold", "parts", "atoms"):
        assert fragments(e, kind)["attribution"].sum() == pytest.approx(float(e.node_mask.sum()), abs=1e-4)
    e = explain(model, [ASPIRIN], gx.EdgeAblation())[0]
    total = sum(score for _, _, score in e.top_edges(100))
    for kind in ("brics", "scaffold", "parts", "atoms", "bonds"):
        assert fragments(e, kind)["attribution"].sum() == pytest.approx(total, abs=1e-4)


def test_a_fragment_removed_as_one_counts_once(model: nn.Module) -> None:
    e = explain(model, [ASPIRIN], gx.FragmentAblation())[0]
    table = fragments(e, "parts")
    atoms = e.atoms
    for _, row in table.iterrows():
        own = atoms.loc[list(row.atoms)]
        assert own["part_value"].tolist() == pytest.approx([row.attribution] * len(own), abs=1e-5)
        assert own["attribution"].sum() == pytest.approx(row.attribution, abs=1e-5)
        assert own["part"].nunique() == 1


def test_masks_are_averaged(model: nn.Module) -> None:
    e = explain(model, [ASPIRIN], gx.Random())[0]
    for _, row in fragments(e, KINDS[:-1]).iterrows():
        assert row.attribution == pytest.approx(float(e.node_mask[list(row.atoms)].mean()), abs=1e-6)
    edges = explain(model, [ASPIRIN], gx.Random(node_mask_type=None))[0]
    assert fragments(edges)["attribution"].between(0, 1).all()


def test_the_table_is_sorted_and_has_its_columns(model: nn.Module) -> None:
    table = fragments(explain(model, [ASPIRIN], gx.NodeAblation())[0])
    assert list(table.columns) == ["kind", "name", "atoms", "attribution"]
    assert table["attribution"].abs().is_monotonic_decreasing
    assert set(table["kind"]) == {"functional_groups", "rings", "brics", "scaffold"}


def test_what_a_table_cannot_be_made_of(model: nn.Module) -> None:
    found = explain(model, [ASPIRIN], gx.NodeAblation())
    with pytest.raises(InputError, match="data"):
        fragments(replace(found, data=None)[0])
    features = explain(model, [ASPIRIN], gx.FeatureAblation())
    with pytest.raises(InputError, match="neither atoms nor bonds"):
        fragments(features[0])
