"""Compare algorithms, one of them your own, with metrics; hand the result to PyG and to disk."""

import argparse
from pathlib import Path

import torch

import gnn_xai as gx
from gnn_xai.algorithms import algorithm
from gnn_xai.core.gradients import gradients
from gnn_xai.core.masks import Masks


@algorithm("midway_saliency", "gradient for edge masks between 0 and 1", signed=True)
class MidwaySaliency:
    """∂ score / ∂ m at m = `at` for every edge at once, where a saturated model still responds."""

    at: float = 0.5
    edge_mask_type: str = "object"  # edge masks have to reach the layers: it is checked

    def attribute(self, question, graphs, target, prediction):
        """Scores of all edges of all instances of a batch."""
        midway = lambda union, k: (None, prediction.new_full((len(union.edge),), self.at))  # noqa: E731
        _, edge = gradients(question, graphs, target, features=False, edges=True, objective="margin", point=midway)
        return Masks(edge)


def main(out: Path) -> None:
    """Print a table, save what it was computed from, read it back."""
    out.mkdir(parents=True, exist_ok=True)
    ds = gx.datasets.load("ba_shapes")
    sample = ds.index[torch.randperm(len(ds.index), generator=torch.Generator().manual_seed(0))[:20]]
    for method in ("random", "saliency", MidwaySaliency(), gx.GNNExplainer(epochs=50)):
        found = gx.explain(ds.model, ds.data, method, task=ds.task, index=sample, progress=False)
        fidelity = gx.metrics.fidelity(ds.model, ds.data, found, top=6, level="edge")  # the level they all share
        name = found.algorithm["name"]
        print(name, gx.metrics.roc_auc(found, ds.ground_truth), fidelity.plus, fidelity.minus, sep="\n    ")
        found.save(out / f"{name}.safetensors")

    again = gx.load(out / "saliency.safetensors")
    print(again.algorithm, again.to_pyg(0, ds.data))  # torch_geometric.explain.Explanation


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples/research_code"))
    main(parser.parse_args().out)
