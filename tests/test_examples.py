"""Every script of `examples/` runs on the command line, and writes what it promises."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from gnn_xai import testing

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
WRITES = {
    "node_classification": {"members.png", "karate.safetensors"},
    "heterogeneous": {"women.png"},
    "links": {"link.png"},
    "chemprop_model": {"aspirin.png"},
    "molecules": {"bonds.png", "bonds.safetensors"},
    "research_code": {"table.tex", "comparison.png", "run"},
}
NEEDS = {"molecules": ("rdkit",), "chemprop_model": ("rdkit", "chemprop")}


def test_every_example_is_listed() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(WRITES)


@pytest.mark.filterwarnings("ignore:the model sends no messages")  # Chemprop's layers are not PyG's
@pytest.mark.parametrize("name", WRITES)
def test_example(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    script = EXAMPLES / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 55, "an example is something to read at a glance"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--out", "out"])
    runpy.run_path(str(script), run_name="__main__")
    plt.close("all")
    assert capsys.readouterr().out.strip()
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITES[name]


def test_the_example_algorithm_obeys_the_laws() -> None:
    algorithm = runpy.run_path(str(EXAMPLES / "research_code.py"))["MidwaySaliency"]()
    testing.check(algorithm, cases={name: testing.CASES[name] for name in ("gat_directed", "gine_regression")})
