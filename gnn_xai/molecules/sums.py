"""What attributions of a molecule add up to: base value + atoms + bonds = the score of its prediction."""

from __future__ import annotations

from typing import NamedTuple

from gnn_xai.core.model.problem import score_of
from gnn_xai.molecules.tables import atom_scores, bond_scores, molecule, node_scores
from gnn_xai.results.explanations import Explanation


class Sum(NamedTuple):
    """The parts of a score. All are in the unit of the property for a regression, and log-odds for a classification, unless
    the algorithm's `objective` says otherwise.

    Attributes:
        base: the score that attributions start from: of inputs of zeros, or of nothing that is removed.
        atoms, bonds: the sums of their attributions; 0 where the algorithm scored none.
        elsewhere: the sum over virtual nodes and edges that are no bonds.
        inputs: what inputs of the whole molecule (`data.u`) add; part of the base where the algorithm does not say.
        score: of the prediction.
    """

    base: float
    atoms: float
    bonds: float
    elsewhere: float
    inputs: float
    score: float

    @property
    def total(self) -> float:
        """The parts together."""
        return self.base + self.atoms + self.bonds + self.elsewhere + self.inputs

    @property
    def error(self) -> float:
        """How far they miss the score."""
        return self.total - self.score

    def rows(self) -> dict[str, float]:
        """The parts by name, without those that are not there, then the score and the error."""
        parts = {"base_value": self.base, "atoms": self.atoms, "bonds": self.bonds}
        parts |= {"other_nodes_and_edges": self.elsewhere} if self.elsewhere else {}
        parts |= {"molecule_inputs": self.inputs} if self.inputs else {}
        return {**parts, "score": self.score, "additivity_error": self.error}

    def __str__(self) -> str:
        words = {"base": self.base, "atoms": self.atoms, "bonds": self.bonds}
        words |= {"elsewhere": self.elsewhere, "inputs": self.inputs}
        terms = [f"{name} {_number(value)}" for name, value in words.items() if value or name in ("base", "atoms")]
        off = f", off by {_number(self.error)}" if abs(self.error) > 0.01 * max(1.0, abs(self.score)) else ""
        return f"{' + '.join(terms)} = {_number(self.total)}{off}"


def sum_of(explanation: Explanation) -> Sum | None:
    """The parts of the score of a prediction; `None` for algorithms whose scores do not add up to it.

    Raises:
        GnnXaiError, InputError: as `gnn_xai.molecules.atoms`.
    """
    extras = explanation.extras
    base = extras.get("base_value")
    if base is None or not explanation.signed or explanation.source.node_mask_type == "common_attributes":
        return None
    mol = molecule(explanation)
    of_atoms, of_nodes, of_bonds = (
        atom_scores(explanation, mol),
        node_scores(explanation),
        bond_scores(explanation, mol),
    )
    atoms = 0.0 if of_atoms is None else float(of_atoms.sum())
    bonds = 0.0 if of_bonds is None else float(of_bonds.sum())
    elsewhere = 0.0 if of_nodes is None else float(of_nodes.sum()) - atoms
    if explanation.edge_mask is not None:
        elsewhere += sum(value for _, _, value in explanation.top_edges(len(explanation.edge_id))) - bonds
    source = explanation.source
    objective = source.algorithm.get("objective", "margin")
    score = score_of(source.task, explanation.prediction.unsqueeze(0), explanation.target, objective)
    inputs = extras.get("inputs_of_graph")
    parts = (float(base), atoms, bonds, elsewhere if abs(elsewhere) > 1e-4 * max(1.0, abs(bonds)) else 0.0)
    return Sum(*parts, 0.0 if inputs is None else float(inputs), float(score))


def unit_of(explanation: Explanation, unit: str = "") -> str:
    """The unit of attributions: that of the property for a regression, else what the algorithm's objective is."""
    if explanation.source.task.mode.value == "regression":
        return unit
    names = {"margin": "log-odds", "log_prob": "log-probability", "prob": "probability", "raw": "output"}
    return names[explanation.source.algorithm.get("objective", "margin")]


def _number(value: float) -> str:
    text = f"{value:.3g}" if abs(value) >= 5e-4 else "0"
    return text.replace("-", "\N{MINUS SIGN}")
