"""Counterfactuals of molecules: found, valid, verified, free of what falls apart, and how similar; beside exmol's.

python -m benchmarks.counterfactuals            # with exmol's rows where exmol is installed
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import torch
from rdkit import Chem
from rdkit.rdBase import BlockLogs

import gnn_xai as gx
from gnn_xai.molecules.edits import Limits
from gnn_xai.molecules.similarity import fingerprint, similarity_of
from gnn_xai.molecules.smiles import as_mol

MODELS: dict[str, dict[str, Any]] = {"nitro": {}, "logp": {"change": -1.0}}
SIZES = range(6, 19)  # heavy atoms


class Subject:
    """A reference model, and what counts as another prediction."""

    def __init__(self, name: str, molecules: int) -> None:
        self.name, self.options = name, MODELS[name]
        self.benchmark = gx.datasets.load(f"nci_{name}")
        graphs = [g for g in self.benchmark.data if g.num_nodes in SIZES and "." not in g.smiles]
        if name == "nitro":  # one half has the group
            has = [g for g in graphs if "[N+]" in g.smiles and bool(g.y)]
            graphs = has[: molecules // 2] + [g for g in graphs if not bool(g.y)][: molecules - molecules // 2]
        self.smiles = [g.smiles for g in graphs[:molecules]]

    @torch.no_grad()
    def outputs(self, smiles: Sequence[str]) -> torch.Tensor:
        from torch_geometric.data import Batch

        graphs = [gx.molecules.featurizers.one_hot(as_mol(text)) for text in smiles]
        batch: Any = Batch.from_data_list(graphs)
        edge_attr = {"edge_attr": batch.edge_attr}
        model = self.benchmark.model.eval()
        try:
            return model(batch.x, batch.edge_index, **edge_attr, batch=batch.batch)
        except TypeError:
            return model(batch.x, batch.edge_index, batch.batch)

    def differs(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Whether outputs `[R, C]` are counterfactual to one of `[C]`, `[R]`."""
        change = self.options.get("change")
        if change is None:
            return after.argmax(1) != before.argmax()
        return after[:, 0] - before[0] <= change


def is_valid(smiles: str) -> bool:
    with BlockLogs():
        return Chem.MolFromSmiles(smiles) is not None


def falls_apart(smiles: str, origin: str) -> bool:
    """The molecule has more of something unstable than the one that it is from."""
    own, new = Limits.of(as_mol(origin)).unstable, Limits.of(as_mol(smiles)).unstable
    return any(more > less for more, less in zip(new, own, strict=True))


def is_in_two_edits(subject: Subject, smiles: str) -> bool:
    """Exhaustive search: whether any one or two edits reach the goal."""
    from gnn_xai.molecules.counterfactuals import _candidates, _Edge, _Rules
    from gnn_xai.molecules.edits import ORIGIN, Core

    start = Chem.Mol(as_mol(smiles))
    for atom in start.GetAtoms():
        atom.SetIntProp(ORIGIN, atom.GetIdx())
    rules = _Rules(Limits.of(start), Core.of(start, None, False), {Chem.MolToSmiles(start)})
    before = subject.outputs([smiles])[0]
    edges = [_Edge(start, ())]
    for _ in range(2):
        after: list[Any] = []
        for edge in edges:
            made = _candidates([edge], rules, gx.molecules.featurizers.one_hot, None)
            if made and bool(subject.differs(before, subject.outputs([item.smiles for item in made])).any()):
                return True
            after += [_Edge(item.mol, item.edits) for item in made]
        edges = after
    return False


def ours(subject: Subject) -> dict[str, Any]:
    task = subject.benchmark.task
    start = time.process_time()
    results = gx.molecules.counterfactuals(
        subject.benchmark.model, subject.smiles, task=task, featurizer="one_hot", max_edits=2, **subject.options
    )
    seconds = time.process_time() - start
    found = {smiles: [item.smiles for item in result] for smiles, result in zip(subject.smiles, results, strict=True)}
    row = judged(subject, found, seconds)
    missed = [smiles for smiles, items in found.items() if not items]
    reachable = sum(is_in_two_edits(subject, smiles) for smiles in missed)
    share = (len(found) - len(missed)) / max(len(found) - len(missed) + reachable, 1)
    return {"method": "gnn_xai", **row, "of those that exhaustive search finds": f"{share:.0%}"}


def exmols(subject: Subject, molecules: int | None, samples: int) -> dict[str, Any]:
    import exmol

    def predictions(smiles: Iterable[str], *_: Any) -> Any:
        out = subject.outputs([str(text) for text in smiles])
        return (out[:, 0] if "change" in subject.options else out.argmax(1)).numpy()

    start = time.process_time()
    found: dict[str, list[str]] = {}
    for smiles in spread(subject.smiles, molecules):
        found[smiles] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                space = exmol.sample_space(smiles, predictions, batched=True, num_samples=samples, quiet=True)
            except ValueError:  # an element that is not in its alphabet
                continue
            if "change" in subject.options:
                picked = exmol.rcf_explain(space, delta=(None, -subject.options["change"]), nmols=10)
            else:
                picked = exmol.cf_explain(space, nmols=10)
        items = [item.smiles for item in picked if not item.is_origin]
        before = subject.outputs([smiles])[0]
        right = [bool(subject.differs(before, subject.outputs([item]))[0]) for item in items]
        found[smiles] = [item for item, is_right in zip(items, right, strict=True) if is_right]
    row = judged(subject, found, time.process_time() - start)
    return {"method": f"exmol {exmol.__version__}, {samples} samples", **row}


def spread(smiles: list[str], count: int | None) -> list[str]:
    """Some of a list, at even distances."""
    return smiles if count is None else smiles[:: -(-len(smiles) // count)]


def judged(subject: Subject, found: dict[str, list[str]], seconds: float) -> dict[str, Any]:
    items = [(smiles, item) for smiles, several in found.items() for item in several]
    valid = [is_valid(item) for _, item in items]
    flips = [
        bool(subject.differs(subject.outputs([smiles])[0], subject.outputs([item]))[0])
        for (smiles, item), is_fine in zip(items, valid, strict=True)
        if is_fine
    ]
    first = [
        similarity_of(fingerprint(as_mol(smiles)), fingerprint(as_mol(several[0])))
        for smiles, several in found.items()
        if several
    ]
    best = [
        max(similarity_of(fingerprint(as_mol(smiles)), fingerprint(as_mol(item))) for item in several)
        for smiles, several in found.items()
        if several
    ]
    return {
        "model": subject.name,
        "molecules": len(found),
        "found": f"{sum(map(bool, found.values())) / len(found):.0%}",
        "valid": f"{sum(valid) / max(len(valid), 1):.0%}",
        "verified": f"{sum(flips) / max(len(flips), 1):.0%}",
        "falls apart": f"{sum(falls_apart(item, smiles) for smiles, item in items) / max(len(items), 1):.0%}",
        "median Tanimoto, first": f"{median(first):.2f}" if first else "",
        "median Tanimoto, most similar": f"{median(best):.2f}" if best else "",
        "CPU seconds a molecule": f"{seconds / len(found):.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--molecules", type=int, default=100)
    parser.add_argument("--exmol", type=int, default=None, help="molecules of exmol's rows; by default all")
    parser.add_argument("--samples", type=int, default=1000, help="of exmol, for each molecule")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in MODELS:
        subject = Subject(name, options.molecules)
        rows.append(ours(subject))
        print(rows[-1], flush=True)
        try:
            rows.append(exmols(subject, options.exmol, options.samples))
            print(rows[-1], flush=True)
        except ImportError:
            print("exmol is not installed; pip install exmol", flush=True)
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")


if __name__ == "__main__":
    main()
