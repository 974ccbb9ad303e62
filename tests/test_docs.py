"""The pages say what is true: their Python runs, prints what stands below it, and the reference is complete."""

from __future__ import annotations

import contextlib
import io
import math
import re
import runpy
import sys
import warnings
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest

import gnn_xai as gx
from gnn_xai import errors, testing, viz

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.(\d+))?")


def blocks(text: str) -> list[tuple[str, str | None, int]]:
    """Python blocks of a page in order: `(code, the output that stands right below it or None, line)`."""
    found = list(FENCE.finditer(text))
    result = []
    for fence, following in zip(found, [*found[1:], None], strict=False):
        if fence[1] == "python":
            below = (
                following is not None and following[1] == "text" and not text[fence.end() : following.start()].strip()
            )
            result.append((fence[2], following[2] if below else None, text.count("\n", 0, fence.start()) + 2))
    return result


def same_output(got: str, wanted: str) -> bool:
    """Equal up to white space, and up to a few units in the last printed digit of numbers with decimals."""

    def close(one: re.Match, other: re.Match) -> bool:
        digits = len(other[1] or "")
        return math.isclose(float(one[0]), float(other[0]), abs_tol=3.0 * 10.0**-digits if digits else 0.0)

    def words(text: str) -> list[str]:
        return NUMBER.sub("#", text).split()

    numbers = zip(NUMBER.finditer(got), NUMBER.finditer(wanted), strict=False)
    return words(got) == words(wanted) and all(close(*pair) for pair in numbers)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p.read_text(encoding="utf-8"))], ids=lambda p: p.name)
def test_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    if "nci_nitro" in "".join(code for code, _, _ in blocks(text)):
        pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, "page", module)
    for code, wanted, line in blocks(text):
        out = io.StringIO()
        # Compiled with the page's own lines, so that a failure points to them.
        program = compile("\n" * (line - 1) + code, str(page), "exec")
        with contextlib.redirect_stdout(out), warnings.catch_warnings():
            exec(program, vars(module))
        if wanted is not None:
            assert same_output(out.getvalue(), wanted), f"line {line} prints\n{out.getvalue()}\nthe page says\n{wanted}"
    plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((ROOT / "docs" / "gallery").glob("*.py")), ids=lambda p: p.stem)
def test_picture_of_the_gallery_is_drawn(script: Path) -> None:
    pytest.importorskip("rdkit")
    figure = runpy.run_path(str(script))["figure"]
    drawn = io.BytesIO()
    drawn.write(figure.png) if hasattr(figure, "png") else figure.savefig(drawn)
    assert drawn.getvalue().startswith(b"\x89PNG")
    plt.close("all")


def test_outputs_are_compared() -> None:
    assert same_output("a  1.001 b 3\n", "a 1.000 b 3")
    assert not same_output("a 1.010 b 3", "a 1.000 b 3")
    assert not same_output("a 1.000 b 4", "a 1.000 b 3")
    assert not same_output("a", "b")


def public_names() -> list[str]:
    names = [f"gnn_xai.{name}" for name in gx.__all__ if not isinstance(getattr(gx, name), ModuleType)]
    for module in (gx.metrics, gx.datasets, gx.molecules, viz):
        names += [f"{module.__name__}.{name}" for name in module.__all__]
    names += ["gnn_xai.pyg.algorithm", "gnn_xai.watch.tensorboard.TensorBoard", "gnn_xai.watch.visdom.Visdom"]
    for module in (errors, testing):
        mine = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
        # The functions of `errors` make messages for the package itself.
        mine = [n for n in mine if module is testing or isinstance(getattr(errors, n), type)]
        names += [f"{module.__name__}.{name}" for name in mine if not name.startswith("_")]
    return names


@pytest.mark.parametrize("name", public_names())
def test_reference_has(name: str) -> None:
    reference = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs" / "reference").glob("*.md"))
    entries = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (\S+)$", reference, re.MULTILINE))
    whole_modules = set(re.findall(r"^\.\. automodule:: (\S+)\n   :members:$", reference, re.MULTILINE))
    assert name in entries or name.rpartition(".")[0] in whole_modules


def test_entries_of_the_reference_stand_in_their_fences() -> None:
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        assert ".. auto" not in FENCE.sub("", page.read_text(encoding="utf-8")), page.name


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)", prose):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
