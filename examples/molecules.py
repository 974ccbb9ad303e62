"""Explain a GIN that recognises aromatic nitro groups: score atoms and bonds, measure, draw (needs RDKit)."""

from __future__ import annotations

import argparse
from pathlib import Path

import gnn_xai as gx


def main(out: Path) -> None:
    """Explain test molecules, compare with the true atoms and bonds, draw six of them."""
    out.mkdir(parents=True, exist_ok=True)
    nitro = gx.datasets.load("nci_nitro")  # the molecules that ship with RDKit, and a trained GIN
    positives = nitro.index  # test molecules with a nitro group that the model classifies correctly

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
