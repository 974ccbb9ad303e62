"""The rooms of the package, and which of them may import which. Imports inside functions and for annotations count."""

import ast
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest

import gnn_xai as gx

ROOT = Path(gx.__file__).parent

# A module imports from its own room and from the lines above its own; rooms on one line do not import one another.
# A room is a module or a folder; a folder's `__init__` is part of it.
ORDER = (
    ("errors", "_version"),
    ("optional", "_checks", "_text"),
    ("core.arrays",),
    ("core.graphs",),
    ("core.inputs",),
    ("core.propagation",),
    ("core.model",),
    ("core.engines",),
    ("results",),
    ("viz",),
    ("watch", "molecules"),
    ("algorithms", "datasets"),
    ("api", "extend"),
    ("metrics", "pyg", "testing", "studies"),
    ("comparison", "report", "robustness", "distributed"),
    ("__init__",),
    ("cli",),
)
RANK = {room: rank for rank, line in enumerate(ORDER) for room in line}

# The one way around the order: `late` imports a module by its name, in this module alone.
LATE = {"results.explanations"}


def modules(root: Path) -> dict[str, ast.Module]:
    """Every module of a package by its name within it; that of a folder is its `__init__`."""
    trees = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def arrows(trees: dict[str, ast.Module], package: str = "gnn_xai") -> set[tuple[str, str]]:
    """Who imports whom, wherever the statement stands."""
    pairs = set()
    for importer, tree in trees.items():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{importer}, line {node.lineno}: expected absolute imports"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                top, _, inner = name.partition(".")
                if top == package:
                    while inner and inner not in trees:  # a name within a module
                        inner = inner.rpartition(".")[0]
                    pairs.add((importer, inner or "__init__"))
    return pairs


def dynamic(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Modules that call a function which imports by name, with the names of these functions."""
    calls: dict[str, set[str]] = {}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if function in ("late", "import_module", "__import__"):
                    calls.setdefault(name, set()).add(function)
    return calls


def room(module: str) -> str:
    """The room that a module is in."""
    return next(room for room in RANK if module == room or module.startswith(f"{room}."))


def upward(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Arrows against the order."""
    return {(a, b) for a, b in pairs if room(a) != room(b) and RANK[room(b)] >= RANK[room(a)]}


def circles(pairs: set[tuple[str, str]]) -> list[list[str]]:
    """Modules that import one another, or themselves."""
    graph = nx.DiGraph(pairs)
    loops = [[name] for name in nx.nodes_with_selfloops(graph)]
    return loops + [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1]


@pytest.fixture(scope="module")
def trees():
    return modules(ROOT)


def test_every_module_has_a_room(trees):
    homeless = [name for name in trees if not any(name == room or name.startswith(f"{room}.") for room in RANK)]
    assert homeless == ["core"], "say in ORDER where it belongs; `core` itself holds nothing"
    assert not any(pair for pair in arrows(trees) if "core" in pair)


def test_imports_follow_the_order(trees):
    assert sorted(upward(arrows(trees))) == [], "these import from rooms above their own"


def test_no_circle_of_imports(trees):
    assert circles(arrows(trees)) == []


def test_importing_by_name_is_for_late_alone(trees):
    calls = dynamic(trees)
    late = {name for name, functions in calls.items() if "late" in functions}
    assert late == LATE
    others = {name for name, functions in calls.items() if functions - {"late"}}
    # Public names at first use, libraries of extras, a user's own module.
    assert others == {"__init__", "molecules", "optional", "cli.subjects"}


@pytest.mark.parametrize(
    ("source", "arrow"),
    [
        ("from gnn_xai.api import explain", ("viz.draw", "api")),
        ("from gnn_xai import api", ("viz.draw", "api")),
        ("import gnn_xai.api", ("viz.draw", "api")),
        ("import gnn_xai as gx", ("viz.draw", "__init__")),
        ("def f():\n    from gnn_xai.api import explain", ("viz.draw", "api")),
        ("if TYPE_CHECKING:\n    from gnn_xai.api import explain", ("viz.draw", "api")),
        ("try:\n    import gnn_xai.molecules\nexcept ImportError:\n    pass", ("viz.draw", "molecules")),
    ],
)
def test_arrows_are_seen_wherever_they_stand(tmp_path, source, arrow):
    for name in ("viz", "molecules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "api.py").write_text("from gnn_xai.viz import draw")
    (tmp_path / "viz" / "draw.py").write_text(source)
    pairs = arrows(modules(tmp_path))
    assert upward(pairs) == {arrow}
    assert len(circles(pairs)) == (arrow[1] == "api")


# What imports cost #######################################################################################################


def imported(*command: str, beyond: str = "") -> set[str]:
    """Packages that a Python process has imported modules of at its end, beyond those of other imports."""
    report = "atexit.register(lambda: print(*{name.partition('.')[0] for name in sys.modules.keys() - before}))"
    code = f"import atexit, sys\n{beyond}\nbefore = set(sys.modules)\n{report}\n{command[0]}"
    run = subprocess.run([sys.executable, "-c", code, *command[1:]], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_imports_nothing_else():
    assert not imported("import gnn_xai") & {"torch", "numpy", "matplotlib", "pandas", "scipy", "rdkit", "captum"}


def test_explaining_imports_no_library_that_it_does_not_need():
    explaining = "import gnn_xai; gnn_xai.explain, gnn_xai.GNNExplainer; assert 'networkx' not in sys.modules"
    loading = "gnn_xai.datasets.load('karate')"  # which needs networkx
    loaded = imported(f"{explaining}\n{loading}", beyond="import torch, torch_geometric")  # PyG imports pandas, for one
    assert "gnn_xai" in loaded
    assert not loaded & {"matplotlib", "pandas", "scipy", "rdkit", "captum", "rich", "typer"}


def test_the_version_and_the_help_are_printed_without_torch():
    for option in ("--version", "--help"):
        loaded = imported("from gnn_xai.cli.app import main; main()", option)
        assert "typer" in loaded
        assert not loaded & {"torch", "numpy", "matplotlib", "pandas"}


def test_public_names_are_imported_when_they_are_first_used():
    assert all(getattr(gx, name) is not None for name in gx.__all__)
    assert set(gx.__all__) <= set(dir(gx))
    with pytest.raises(AttributeError, match="module 'gnn_xai' has no attribute 'explian'"):
        gx.explian  # noqa: B018
