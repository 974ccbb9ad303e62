# pyright: reportUnsupportedDunderAll=false
# Names of `_LATER` are found by `__getattr__`, which pyright does not ask.
"""Molecules: from a SMILES string to an explained picture. RDKit and matplotlib are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gnn_xai.molecules import featurizers
from gnn_xai.molecules.counterfactuals import Counterfactual, Counterfactuals, counterfactuals
from gnn_xai.molecules.files import read
from gnn_xai.molecules.fragments import Fragment, cut, fragments
from gnn_xai.molecules.smiles import Molecules, ReadingProblem, from_smiles
from gnn_xai.molecules.summary import Summary, summary
from gnn_xai.molecules.sums import Sum, sum_of
from gnn_xai.molecules.tables import atoms, bonds
from gnn_xai.molecules.writing import write

if TYPE_CHECKING:
    from gnn_xai.molecules.drawing import Drawing, depiction, draw, grid
    from gnn_xai.molecules.space import view

# Public names that are imported when they are first used: pictures need matplotlib, studies call `gnn_xai.explain`.
_LATER = {
    **dict.fromkeys(("Drawing", "depiction", "draw", "grid"), "gnn_xai.molecules.drawing"),
    "view": "gnn_xai.molecules.space",
    "ensemble": "gnn_xai.studies.ensemble",
    **dict.fromkeys(("Tasks", "tasks"), "gnn_xai.studies.tasks"),
    **dict.fromkeys(("Difference", "Differences", "difference", "differences"), "gnn_xai.studies.difference"),
}

__all__ = [
    "Counterfactual",
    "Counterfactuals",
    "Difference",
    "Differences",
    "Drawing",
    "Fragment",
    "Molecules",
    "ReadingProblem",
    "Sum",
    "Summary",
    "Tasks",
    "atoms",
    "bonds",
    "counterfactuals",
    "cut",
    "depiction",
    "difference",
    "differences",
    "draw",
    "ensemble",
    "featurizers",
    "fragments",
    "from_smiles",
    "grid",
    "read",
    "sum_of",
    "summary",
    "tasks",
    "view",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
