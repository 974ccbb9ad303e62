"""What drives a data set: fragments by their mean contribution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.molecules import from_smiles, summary
from tests.test_difference import Elements
from tests.test_molecule_files import REGRESSION

pytest.importorskip("rdkit")
pytest.importorskip("scipy")

SMILES = [
    "CCO",
    "OCCO",
    "CCCO",
    "CCCCO",
    "CCN",
    "NCCN",
    "CCCN",
    "CCCCN",
    "CCCl",
    "CCCCl",
    "ClCCCl",
    "c1ccccc1O",
    "CC#N",
]


@pytest.fixture(scope="module")
def explanations() -> gx.Explanations:
    method = gx.InputXGradient(edge_mask_type=None)
    return gx.explain(Elements(), from_smiles(SMILES, "one_hot"), method, task=REGRESSION, progress=False)


def test_means_over_molecules_are_those_of_the_model(explanations: gx.Explanations) -> None:
    found = summary(explanations, permutations=300)
    table = found.table().set_index("name")
    assert table.loc["alcohol", ["molecules", "occurrences"]].tolist() == [4, 5]
    assert table.loc["alcohol", "mean"] == pytest.approx((2 + 4 + 2 + 2) / 4), "two hydroxyls of a molecule add up"
    assert table.loc["alcohol", "spread"] == pytest.approx(1.0)
    assert table.loc["primary amine", "mean"] == pytest.approx(-1.25)
    assert table.loc["halogen (Cl)", "mean"] == pytest.approx(0, abs=1e-6)
    assert "nitrile" not in table.index, "one molecule is too few"
    assert table.loc["alcohol", "highest"] == SMILES.index("OCCO")
    assert table.loc["alcohol", "p_value"] < 0.05 < table.loc["halogen (Cl)", "p_value"]
    assert (table.p_adjusted >= table.p_value - 1e-12).all()
    assert [abs(value) for value in table["mean"]] == sorted((abs(value) for value in table["mean"]), reverse=True)
    assert "nitrile" in set(summary(explanations, least=1, permutations=300).table()["name"])
    assert summary(explanations, seed=0, permutations=300).table().equals(found.table())


def test_by_chance_nothing_is_significant(explanations: gx.Explanations) -> None:
    """Random scores: no fragment stands out after adjusting for how many were looked at."""
    random = gx.explain(Elements(), explanations.data, gx.Random(edge_mask_type=None), task=REGRESSION, progress=False)
    table = summary(random, least=2, permutations=300).table()
    assert len(table) > 2
    assert (table.p_adjusted > 0.05).all()


def test_examples_and_pictures(explanations: gx.Explanations) -> None:
    found = summary(explanations, permutations=300)
    assert [SMILES[e.index] for e in found.examples("alcohol", 2)] == ["OCCO", "CCO"]
    with pytest.raises(InputError, match="such as 'alcohol', .* got 'alcohl'"):
        found.examples("alcohl")
    ax = found.draw(most=2)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["primary amine  (4)", "alcohol  (4)"]
    assert len(ax.patches) == 2
    sheet = found.sheet(most=2, examples=2)
    assert sheet.svg.count('stroke="#111111"') == 2 + 1 + 2 + 1


def test_the_page(explanations: gx.Explanations, tmp_path: Path) -> None:
    from gnn_xai.report.fragments import write_fragments

    text = write_fragments(tmp_path / "f.html", summary(explanations, permutations=300), title="A <set>").read_text()
    assert "A &lt;set&gt;" in text
    assert '<td class="name ">alcohol</td>' in text
    assert text.count("<svg") == 2


def test_what_is_refused(explanations: gx.Explanations) -> None:
    for call, words in (
        (lambda: summary([]), "at least one explanation"),
        (lambda: summary(explanations, least=0), "least as a positive"),
        (lambda: summary(explanations, "rongs"), "unknown kind of fragment"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match=words):
            call()
    mixed = replace(explanations, target=torch.arange(len(SMILES)) % 2)
    with pytest.raises(InputError, match="explanations of one output, got those of 0, 1; pass target="):
        summary(mixed)
