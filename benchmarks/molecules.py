"""Benchmark of every algorithm on molecules with known contributions of atoms: agreement, fidelity, cost.

    python -m benchmarks.molecules [--datasets nci_logp ...] [--molecules 200] [--drugs] [--conjunction] [--benzene]
                                   [--out out/molecules.json]

With `--drugs` also the approved drugs of `benchmarks/drugs.py`, none of which any model was trained on, by ensembles of one
to four networks; with `--conjunction` also a second conjunction of two motifs, for which a model is trained here.

The data sets are those of RDKit's NCI molecules; with `--benzene` also 12 000 ZINC molecules with published atoms (Sanchez-
Lengeling et al., NeurIPS 2020) from a folder beside the checkout (`GNN_XAI_DATA` names another one), for which a model
is trained here. It explains a seeded sample of test molecules; in classification, positives that the model gets right.

All metrics use atoms. An atom's score is `Explanation.node_scores`: its mask, or the sum over its features; if an
algorithm scores only edges, the sum over its bonds. One mask over the features of all atoms says nothing about atoms, so
its row shows only the time.

- Classes: ROC-AUC per molecule, by absolute value, against the best match among alternative explanations; for scores with
  a sign also by the scores themselves: which atoms raise the class?
- Values: Spearman and Pearson correlation per molecule and R² over all atoms, with the exact contributions, of heavy atoms
  with their hydrogens. Scores that have no sign are compared with the absolute contributions, and have no R².
- Additivity error: by how much base value and attributions miss the prediction, in its unit, where an algorithm has a base.
- Fidelity of the `TOP` strongest atoms, whose features alone are masked, so that algorithms are compared on equal terms.

Means over molecules ± standard error, with the number of molecules for which the measure is defined.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig

import gnn_xai as gx
from benchmarks import conjunction, workloads
from benchmarks.drugs import DRUGS
from benchmarks.measure import machine, seconds
from benchmarks.quality import SPARSER
from benchmarks.report import facts, figures, head, line, plus_minus, write_json
from benchmarks.workloads import SEED, MissingError, drawn, for_any_model, ready
from gnn_xai.datasets import nci, nci_logp, nci_tpsa
from gnn_xai.datasets.models import GINE, Ensemble
from gnn_xai.datasets.recipe import Material, split_ids
from gnn_xai.metrics import Result
from gnn_xai.metrics.accuracy import segment_roc_auc

# How many atoms fidelity keeps or leaves out: those of one motif, or a part of the molecule.
TOP = {"nci_benzene": 6, "nci_nitro": 3, "nci_halogen_carbonyl": 3, "nci_logp": 0.25, "nci_tpsa": 0.25}
COLUMNS = (
    "atom ROC-AUC",
    "ROC-AUC of raising atoms",
    "Spearman",
    "Pearson",
    "R²",
    "additivity error",
    "fidelity+",
    "fidelity−",
    "ms each",
)
ATOM_TYPES, MOST_BONDS, BOND_TYPES = 14, 4, 4  # of the ZINC molecules
MANY = 1000  # molecules of the timing


@dataclass(frozen=True, eq=False)
class Case:
    """Molecules to explain, with the ground truth of their atoms.

    Attributes:
        name, model, data, task: what is explained.
        index: the molecules, `[B]`.
        top: how many atoms fidelity keeps or leaves out, or which part of them.
        motifs: of each molecule in `data`, the alternative explanations, bool `[alternatives, atoms]`; None for values.
        values: of each molecule in `data`, the exact contributions, `[atoms]`; None for classes.
    """

    name: str
    model: nn.Module
    data: list[Data]
    task: ModelConfig
    index: Tensor
    top: int | float
    motifs: Sequence[Tensor] | None = None
    values: Sequence[Tensor] | None = None


def algorithms() -> dict[str, Any]:
    """All algorithms of the package with their defaults, and settings that suit atoms."""
    return for_any_model() | {
        "gnn_explainer, sparser": SPARSER,
        "gnn_explainer, atoms": gx.GNNExplainer(node_mask_type="object", edge_mask_type=None),
        "integrated_gradients, atoms": gx.IntegratedGradients(edge_mask_type=None),
    }


def embedded(name: str, molecules: int) -> Case:
    """A benchmark of NCI molecules with its reference model."""
    ds = gx.datasets.load(name)
    motifs = None if ds.ground_truth is None else [(motif >= 0).unsqueeze(0) for motif in ds.ground_truth.node]
    index = drawn(ds.index, molecules).sort().values
    return Case(name, ds.model, ds.data, ds.task, index, TOP[name], motifs, ds.atom_values)


def rows(case: Case, chosen: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Results, one row per algorithm: all of them, or those that are named."""
    found = []
    for label, algorithm in (algorithms() if chosen is None else chosen).items():
        every = torch.arange(len(case.data))
        algorithm = ready(algorithm, case.model, case.data, every, case.index, task=case.task, seed=SEED)
        time, explanations = seconds(lambda algorithm=algorithm: explain(case, algorithm, case.index))
        cost = {"ms each": 1000 * time / len(case.index)}
        found.append({"data set": case.name, "algorithm": label, **measures(case, explanations), **cost})
    return found


def explain(case: Case, algorithm: Any, index: Tensor) -> gx.Explanations:
    """Explanations of some molecules."""
    return gx.explain(case.model, case.data, algorithm, task=case.task, index=index, seed=SEED, progress=False)


# Measures ############################################################################################################


def measures(case: Case, explanations: gx.Explanations) -> dict[str, Any]:
    """Metrics that are defined for an algorithm and a ground truth; none if it scores no atoms."""
    each = [scores for e in explanations if (scores := e.node_scores) is not None]
    if not each:
        return {}
    atoms = torch.cat(each)
    on_atoms = replace(explanations, node_mask=atoms.unsqueeze(1), node_mask_type="object", edge_mask=None)
    fidelity = gx.metrics.fidelity(case.model, case.data, on_atoms, top=case.top, level="node")
    results, extra = [fidelity.plus, fidelity.minus], {}
    if case.motifs is not None:
        results.append(atom_roc_auc(on_atoms, case.motifs))
        if not explanations.one_sided:
            raised = replace(on_atoms, node_mask=on_atoms.node_mask - on_atoms.node_mask.min())
            results.append(replace(atom_roc_auc(raised, case.motifs), name="ROC-AUC of raising atoms"))
    if case.values is not None:
        truth = [case.values[e.index][e.node_id] for e in explanations]
        compared = [t.abs() for t in truth] if explanations.one_sided else truth
        results += [correlation("Spearman", each, compared), correlation("Pearson", each, compared)]
        error = additivity_error(explanations)
        results += [] if error is None else [error]
        if not explanations.one_sided:
            extra["R²"] = r_squared(atoms, torch.cat(truth))
    return figures(results) | extra


def atom_roc_auc(explanations: gx.Explanations, motifs: Sequence[Tensor]) -> Result:
    """ROC-AUC of the atoms of each molecule, the best over its alternative explanations."""
    true = [motifs[e.index][:, e.node_id] for e in explanations]
    molecule = torch.arange(len(true)).repeat_interleave(torch.tensor([len(alternatives) for alternatives in true]))
    repeated = explanations[molecule]
    flat = torch.cat([alternatives.flatten() for alternatives in true])
    scores = repeated.node_mask[:, 0].abs()
    area = segment_roc_auc(scores, flat, repeated.node_owner, len(molecule)).nan_to_num(-torch.inf)
    best = area.new_full((len(true),), -torch.inf).scatter_reduce(0, molecule, area, "amax")
    return Result("atom ROC-AUC", best.where(best.isfinite(), torch.nan), "higher")


def correlation(name: str, scores: Sequence[Tensor], truth: Sequence[Tensor]) -> Result:
    """`Spearman` or `Pearson` correlation of scores and contributions within each molecule; not defined where either is
    constant.
    """
    function = {"Spearman": spearmanr, "Pearson": pearsonr}[name]
    values = [
        float(function(s.numpy(), t.numpy()).statistic) if s.min() < s.max() and t.min() < t.max() else torch.nan
        for s, t in zip(scores, truth, strict=True)
    ]
    return Result(name, torch.tensor(values), "higher")


def additivity_error(explanations: gx.Explanations) -> Result | None:
    """|base value + Σ attributions − prediction| of each molecule; `None` where an algorithm has no base value."""
    sums = [gx.molecules.sum_of(e) for e in explanations]
    errors = [abs(parts.error) for parts in sums if parts is not None]
    return Result("additivity error", torch.tensor(errors), "lower") if errors else None


def r_squared(scores: Tensor, truth: Tensor) -> float:
    """R²: the share of the variance of all contributions that the scores explain, without fitting a line."""
    error = (scores - truth).double().square().sum()
    return float(1 - error / (truth - truth.mean()).double().square().sum())


# Drugs, and a second conjunction #####################################################################################


def drugs(name: str, networks: int) -> Case:
    """Drugs, with the contributions of their atoms, and the mean of the first networks of a reference model."""
    ds = gx.datasets.load(name)
    model, contributions = ds.model, {"nci_logp": nci_logp, "nci_tpsa": nci_tpsa}[name].contributions
    if isinstance(model, Ensemble):
        model = Ensemble(list(model.members)[:networks]).eval()
    molecules = gx.molecules.from_smiles(DRUGS.values(), "one_hot", names=DRUGS)
    values = [contributions(mol) for mol in molecules.mols]
    index = torch.arange(len(molecules))
    return Case(f"{name}, drugs", model, list(molecules), ds.task, index, TOP[name], values=values)


def second_conjunction(molecules: int) -> tuple[Case, float]:
    """A hydroxyl group and a sulfur atom, and the accuracy of the model that is trained here."""
    model, material, index, accuracy = conjunction.trained(SEED)
    assert material.ground_truth is not None
    motifs = [(motif >= 0).unsqueeze(0) for motif in material.ground_truth.node or ()]
    index = drawn(index, molecules).sort().values
    task = ModelConfig("multiclass_classification", "graph", "raw")
    return Case("hydroxyl and sulfur", model, list(material.data), task, index, 2, motifs), accuracy


# ZINC molecules with published atoms #################################################################################


def zinc(molecules: int) -> tuple[Case, Tensor, dict[str, float]]:
    """Benzene rings in ZINC molecules: the test molecules with a model trained here, its accuracy and training time.

    Atom type and number of bonds cannot distinguish benzene from cyclohexane, so the model also reads bond types.

    Raises:
        MissingError: if the file is not there.
    """
    graphs, motifs, split = read_zinc(workloads.FOLDER / "benzene.npz")
    material = Material(graphs, None, split, ("no benzene ring", "benzene ring"))
    torch.manual_seed(SEED)
    model = GINE(ATOM_TYPES + MOST_BONDS + 1, BOND_TYPES, 64, 2, num_layers=3)
    time, _ = seconds(lambda: nci.fit_classes(model, material, epochs=8))
    model.eval()
    test, label = nci.part(material, split["test"])
    right = (nci.margins(model, test) > 0) == (label > 0)
    index = drawn(split["test"][right & (label > 0)], molecules).sort().values
    task = ModelConfig("multiclass_classification", "graph", "raw")
    case = Case("benzene.npz", model, graphs, task, index, 6, motifs)
    return case, split["test"], {"accuracy": float(right.float().mean()), "training seconds": round(time, 1)}


def read_zinc(path: Path) -> tuple[list[Data], list[Tensor], dict[str, Tensor]]:
    """The molecules; the alternative explanations of each, bool `[alternatives, atoms]`; the parts of the split.

    Raises:
        MissingError: if the file is not there.
    """
    if not path.is_file():
        raise MissingError(f"{path.name} is not there (looked beside the checkout; GNN_XAI_DATA names another folder)")
    with np.load(path, allow_pickle=False) as file:
        raw = {name: torch.from_numpy(file[name]) for name in file.files}
    one_hot, expl_atoms = nn.functional.one_hot, raw["expl_atoms"].long()
    pieces = [_slices(raw[name]) for name in ("node_ptr", "edge_ptr", "expl_ptr", "expl_atom_ptr")]
    graphs, motifs = [], []
    for node, edge, alternatives, label in zip(*pieces[:3], raw["y"].long(), strict=True):
        ends, kind = raw["edge_index"][:, edge].long(), raw["atom_type"][node].long()
        bonds = torch.bincount(ends[1], minlength=len(kind)).clamp(max=MOST_BONDS)
        x = torch.cat([one_hot(kind, ATOM_TYPES), one_hot(bonds, MOST_BONDS + 1)], dim=1).float()
        edge_attr = one_hot(raw["bond_type"][edge].long(), BOND_TYPES).float()
        graphs.append(Data(x=x, edge_index=ends, edge_attr=edge_attr, y=label.reshape(1)))
        true = torch.zeros(alternatives.stop - alternatives.start, len(kind), dtype=torch.bool)
        for row, which in zip(true, pieces[3][alternatives], strict=True):
            row[expl_atoms[which]] = True
        motifs.append(true)
    return graphs, motifs, split_ids(raw["split"].long())


def _slices(pointers: Tensor) -> list[slice]:
    return [slice(*ends) for ends in zip(pointers[:-1].tolist(), pointers[1:].tolist(), strict=True)]


# What is printed #####################################################################################################


def table(found: list[dict[str, Any]]) -> str:
    """Table in Markdown, without columns that no row has."""
    columns = [column for column in COLUMNS if any(column in row for row in found)]

    def cell(column: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"{plus_minus(value)} ({value['n']})"
        return "" if value is None else f"{value:.{2 if column == 'R²' else 1}f}"

    lines = [line([f"`{row['algorithm']}`", *(cell(column, row.get(column)) for column in columns)]) for row in found]
    return "\n".join([head(("algorithm", *columns)), *lines])


def cases(names: Sequence[str], molecules: int, benzene: bool, found: dict[str, Any]) -> Iterator[Case]:
    """Cases one after the other; the line about the ZINC molecules is printed and added to `found`."""
    for name in names:
        yield embedded(name, molecules)
    if not benzene:
        return
    try:
        case, test, facts_of = zinc(molecules)
    except MissingError as error:
        print(f"\nLeft out: {error}")
        return
    many = drawn(test, MANY)
    time, _ = seconds(lambda: explain(case, gx.GNNExplainer(), many))
    found[case.name] = facts_of | {f"seconds for {len(many)} molecules by GNNExplainer": round(time, 1)}
    print(f"\n{case.name}: {facts(found[case.name])}")
    yield case


def drug_rows() -> list[dict[str, Any]]:
    """Rows on drugs, printed as they come: the default on the command line by one to four networks, and all algorithms."""
    found: list[dict[str, Any]] = []
    default = {"integrated_gradients, atoms": gx.IntegratedGradients(edge_mask_type=None)}
    for name in ("nci_logp", "nci_tpsa"):
        new = []
        for networks in (1, 2, 3) if name == "nci_logp" else ():
            case = drugs(name, networks)
            new += [
                {**row, "algorithm": f"{row['algorithm']}, networks: {networks}"} for row in rows(case, dict(default))
            ]
        case = drugs(name, 4)
        new += rows(case)
        print(f"\n{case.name}, {len(case.index)} molecules:\n\n{table(new)}", flush=True)
        found += [{**row, "molecules": len(case.index)} for row in new]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each data set, and write all of them with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", default=list(TOP), choices=list(TOP))
    parser.add_argument("--molecules", type=int, default=200)
    parser.add_argument("--drugs", action="store_true", help="also drugs, by ensembles of one to four networks")
    parser.add_argument(
        "--conjunction", action="store_true", help="also a second conjunction, for which a model is trained"
    )
    parser.add_argument("--benzene", action="store_true", help="also the ZINC molecules of benzene.npz")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"machine": machine() | {name: version(name) for name in ("rdkit", "scipy")}, "rows": []}
    print(facts(found["machine"]))
    for case in cases(options.datasets, options.molecules, options.benzene, found):
        new = rows(case)
        print(
            f"\n{case.name}, {len(case.index)} molecules, fidelity of the top {case.top}:\n\n{table(new)}", flush=True
        )
        found["rows"] += [{**row, "molecules": len(case.index)} for row in new]
    if options.drugs:
        found["rows"] += drug_rows()
    if options.conjunction:
        case, accuracy = second_conjunction(options.molecules)
        new = rows(case)
        print(f"\n{case.name}, {len(case.index)} molecules, accuracy {accuracy:.3f}:\n\n{table(new)}", flush=True)
        found["rows"] += [{**row, "molecules": len(case.index)} for row in new]
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
