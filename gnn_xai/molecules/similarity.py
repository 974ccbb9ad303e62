"""How alike molecules are: Tanimoto similarity of Morgan fingerprints."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdkit.Chem import Mol

RADIUS, BITS = 2, 2048


@cache
def _generator() -> Any:
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    return GetMorganGenerator(radius=RADIUS, fpSize=BITS)


def fingerprint(mol: Mol) -> Any:
    """The Morgan fingerprint (radius 2, 2048 bits) of a molecule."""
    return _generator().GetFingerprint(mol)


def similarity_of(a: Any, b: Any) -> float:
    """Tanimoto similarity of two fingerprints, in [0, 1]."""
    from rdkit.DataStructs import TanimotoSimilarity

    return float(TanimotoSimilarity(a, b))
