"""Differences of molecules: aligned by what they have in common, and adding up."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import global_add_pool

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.molecules.smiles import as_mol
from gnn_xai.studies.difference import matched
from gnn_xai.viz.color import Scale
from tests.test_molecule_files import REGRESSION, Small

pytest.importorskip("rdkit")

CLASSES = ModelConfig("multiclass_classification", "graph", "raw")
CHLORO, BROMO = "Clc1ccc(C(=O)O)cc1", "COc1ccc(C(=O)N)cc1Br"


class Elements(nn.Module):
    """Two for an oxygen and minus one for a nitrogen, and 5 for no atom."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-1.0, 2.0]))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return global_add_pool(x[:, [1, 2]] @ self.weight, batch).unsqueeze(1) + 5


def test_the_change_is_on_the_atoms_that_changed() -> None:
    d = gx.molecules.difference(Elements(), "NCCO", "OCCO", task=REGRESSION, featurizer="one_hot")
    assert (d.score_a, d.score_b, d.change) == pytest.approx((6, 9, 3))
    assert len(d.pairs) == 3
    parts = d.parts().set_index("part")
    assert parts.loc["lost", "name"] == "amino"
    assert parts.loc["lost", "change"] == pytest.approx(1, abs=1e-5)
    assert parts.loc["gained", "name"] == "hydroxyl"
    assert parts.loc["gained", "change"] == pytest.approx(2, abs=1e-5)
    assert parts.loc[["common", "rest"], "change"].abs().max() < 1e-5
    assert d.table().set_index("part")["atom_b"].isna()["lost"]


@pytest.mark.parametrize(
    "algorithm", [None, "integrated_gradients", "node_ablation", "edge_ablation", gx.Shapley(players="fragments")]
)
@pytest.mark.parametrize("pair", [(CHLORO, BROMO), ("CCO", "CCO"), ("C", "[Na+].[Cl-]")])
def test_changes_add_up(pair: tuple[str, str], algorithm: Any) -> None:
    model = Small().eval()
    d = gx.molecules.difference(model, *pair, algorithm, task=REGRESSION)
    graphs = gx.molecules.from_smiles(list(pair), "one_hot")
    with torch.no_grad():
        a, b = (float(model(g.x, g.edge_index, torch.zeros(g.num_nodes, dtype=torch.int64))) for g in graphs)
    assert d.change == pytest.approx(b - a, abs=1e-5)
    assert d.parts().change.sum() == pytest.approx(b - a, abs=1e-5)
    assert d.table().change.sum() + d.rest == pytest.approx(b - a, abs=1e-5)
    assert math.isfinite(d.rest)
    if pair[0] == pair[1]:
        assert d.table().change.abs().max() < 1e-6
        assert d.similarity == 1


def test_of_a_classifier_it_is_log_odds() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = Elements()

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
            out = self.one(x, edge_index, batch) - 5
            return torch.cat([torch.zeros_like(out), out], 1)

    d = gx.molecules.difference(Two(), "CCN", "CCO", task=CLASSES, featurizer="one_hot")
    assert d.change == pytest.approx(3, abs=1e-4)
    assert gx.molecules.difference(
        Two(), "CCN", "CCO", task=CLASSES, target=0, featurizer="one_hot"
    ).change == pytest.approx(-3, abs=1e-4)


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ("Clc1ccccc1", "c1cc(Br)ccc1", {(1, 2)}),  # the carbons that carry halogens lie over each other
        ("Cc1ccncc1O", "Cc1ccncc1N", {(i, i) for i in range(7)}),
        ("CC1CCCC1", "CC1CCCCC1", {(0, 0), (1, 1)}),  # no half rings
        ("CCC=O", "CCCO", {(0, 0), (1, 1), (2, 2)}),
    ],
)
def test_molecules_are_laid_over_each_other(a: str, b: str, pairs: set[tuple[int, int]]) -> None:
    common = set(matched(as_mol(a), as_mol(b)))
    assert pairs <= common or not pairs
    assert len({i for i, _ in common}) == len({j for _, j in common}) == len(common)
    for i, j in common:
        assert as_mol(a).GetAtomWithIdx(i).GetAtomicNum() == as_mol(b).GetAtomWithIdx(j).GetAtomicNum()
    if "1CCCC1" in a:
        assert len(common) == 2


def test_cliffs_are_the_largest_differences_of_similar_molecules() -> None:
    smiles = ["CCCCCCO", "CCCCCCCO", "CCCCCCN", "c1ccccc1", "OCCCCCCO", "CCCCCCO"]
    model = Elements()
    found = gx.molecules.differences(model, smiles, task=REGRESSION, featurizer="one_hot", similarity=0.45, limit=2)
    assert len(found) == 2
    assert found.candidates > 2
    assert [d.change for d in found] == sorted((d.change for d in found), reverse=True)
    assert all(d.change > 0 and d.similarity >= 0.45 for d in found)
    table = found.table()
    assert table.change.tolist() == [d.change for d in found]
    assert table.common.add(table.rest).abs().max() < 1e-5
    assert {"hydroxyl +2"} == set(table.gained)
    measured = gx.molecules.differences(
        model,
        smiles,
        task=REGRESSION,
        featurizer="one_hot",
        similarity=0.45,
        limit=1,
        values=[0, 9, 0, 0, 0, float("nan")],
    )
    assert {measured[0].a.index, measured[0].b.index} == {0, 1}
    assert measured[0].b.index == 1


def test_pictures_are_side_by_side() -> None:
    d = gx.molecules.difference(Elements(), CHLORO, BROMO, task=REGRESSION, featurizer="one_hot")
    picture = d.draw()
    assert isinstance(picture, gx.molecules.Drawing)
    assert picture.png.startswith(b"\x89PNG")
    assert "lost chloro" in picture.svg
    assert "gained amino: −1" in picture.svg
    assert picture.svg.count('stroke="#111111"') == 2 + 4, "a ring for each atom that only one of them has"
    places = [panel.formula.mol.GetConformer().GetPositions() for panel in d.panels(Scale(signed=True, limit=1.0))]
    for i, j in d.pairs:
        assert abs(places[0][i] - places[1][j]).max() < 1e-3, "common atoms are where they were"


def test_molecules_without_an_atom_in_common_are_drawn() -> None:
    d = gx.molecules.difference(Elements(), "CCO", "[Na+].[Cl-]", task=REGRESSION, featurizer="one_hot")
    assert not d.pairs
    assert "gained" in d.draw().svg


def test_gradients_with_their_sign_are_compared_even_if_none_is_negative() -> None:
    model, method = Elements(), gx.Saliency(edge_mask_type=None, absolute=False)
    model.weight.data.abs_()
    d = gx.molecules.difference(model, "CO", "CN", method, task=REGRESSION, featurizer="one_hot")
    assert d.a.one_sided, "no gradient is negative"


def test_what_is_refused() -> None:
    model = Elements()
    for call, words in (
        (lambda: gx.molecules.difference(model, "C1", "C", task=REGRESSION), "RDKit can read"),
        (lambda: gx.molecules.difference(model, 7, "C", task=REGRESSION), "got int at position 0"),  # type: ignore[arg-type]
        (lambda: gx.molecules.difference(Small(), "C", "CC", "gnn_explainer", task=REGRESSION), "scores have a sign"),
        (lambda: gx.molecules.difference(Small(), "C", "CC", "saliency", task=REGRESSION), "scores have a sign"),
        (lambda: gx.molecules.difference(Small(), "C", "CC", "smooth_grad", task=REGRESSION), "scores have a sign"),
        (lambda: gx.molecules.differences(model, ["C"], similarity=2, task=REGRESSION), "similarity from 0 to 1"),
        (lambda: gx.molecules.differences(model, ["C", "N"], values=[1], task=REGRESSION, featurizer="one_hot"),
         "one value for each of 2"),
        (lambda: gx.molecules.differences(model, [], task=REGRESSION), "at least one molecule"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            call()

    class Three(nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
            return global_add_pool(x[:, :3], batch)

    with pytest.raises(InputError, match="expected target= as one of 0 to 2"):
        gx.molecules.difference(Three(), "C", "CC", task=CLASSES, featurizer="one_hot")
    with pytest.raises(InputError, match="expected target= as one of 0 to 2"):
        gx.molecules.difference(Three(), "C", "CC", task=REGRESSION, featurizer="one_hot")
