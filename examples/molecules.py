"""Which atoms and bonds make a GIN call a molecule a nitroaromatic? Real molecules, known truth (needs RDKit)."""

from __future__ import annotations

import argparse
from pathlib import Path

import gnn_xai as gx


def main(out: Path) -> None:
    """Explain, measure against the true atoms and bonds, draw."""
    out.mkdir(parents=True, exist_ok=True)
    nitro = gx.datasets.load("nci_nitro")  # the molecules that ship with RDKit, and a trained GIN
    positives = nitro.index  # test molecules with the group that the model gets right

    bonds = gx.explain(nitro.model, nitro.data, "edge_ablation", task=nitro.task, index=positives, progress=False)
    atoms = gx.explain(nitro.model, nitro.data, "node_ablation", task=nitro.task, index=positives, progress=False)
    print("bonds:", gx.metrics.roc_auc(bonds, nitro.ground_truth))
    print("atoms:", gx.metrics.roc_auc(atoms, nitro.ground_truth))

    for e in atoms[:3]:
        names = nitro.node_names[e.index]  # element symbols
        strongest = ", ".join(f"{names[a]}{a} {score:+.1f}" for a, score in e.top_nodes(4))
        print(f"{nitro.data[e.index].smiles}: {strongest}")

    gx.molecules.grid(bonds[:6], columns=3, class_names=nitro.class_names).save(out / "bonds.png")
    bonds.save(out / "bonds.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples/molecules"))
    main(parser.parse_args().out)
