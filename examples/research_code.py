"""Compare algorithms, one of them your own; write a run to disk and convert an explanation to PyG."""

import argparse
from functools import partial
from pathlib import Path

import torch

import gnn_xai as gx
from gnn_xai.extend import Scores, algorithm, gradients


@algorithm("midway_saliency", "gradient for edge masks between 0 and 1", signed=True)
class MidwaySaliency:
    """∂ score / ∂ m at m = `at` for all edges together, where a saturated model still responds."""

    at: float = 0.5
    edge_mask_type: str = "object"  # makes `explain` check that edge masks reach every layer

    def attribute(self, session, graphs, target, prediction):
        """Score all edges of all instances of a batch."""
        midway = lambda replicas, k: (None, prediction.new_full((len(replicas.edge),), self.at))  # noqa: E731
        _, edge = gradients(session, graphs, target, features=False, edges=True, objective="margin", point=midway)
        return Scores(edge)


def main(out: Path) -> None:
    """Print a table and write it for a paper; write explanations to a folder and read a table from it."""
    out.mkdir(parents=True, exist_ok=True)
    ds = gx.datasets.load("ba_shapes")
    sample = ds.index[torch.randperm(len(ds.index), generator=torch.Generator().manual_seed(0))[:20]]
    methods = [gx.Saliency(node_mask_type=None), MidwaySaliency(), gx.GNNExplainer(epochs=50)]
    metrics = ["roc_auc", partial(gx.metrics.fidelity, top=6)]
    options = {"index": sample, "ground_truth": ds.ground_truth, "progress": False}
    comparison = gx.compare(ds.model, ds.data, methods, metrics, **options)
    print(comparison)
    (out / "table.tex").write_text(comparison.to_latex(), encoding="utf-8")
    comparison.draw().savefig(out / "comparison.png")

    stored = gx.explain(ds.model, ds.data, "saliency", index=sample, out=out / "run", progress=False)
    print(stored.to_pandas("edge").nlargest(5, "score"))
    print(stored[0], stored.explanations().to_pyg(0))  # torch_geometric.explain.Explanation


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples/research_code"))
    main(parser.parse_args().out)
