"""The published benchmark: how well every algorithm that scores edges finds the planted motifs.

    python -m benchmarks.reproduce [--datasets ba_shapes ...] [--instances 200] [--seeds 10] [--pyg 20]
        [--out out/reproduce]

BA-Shapes, BA-Community, Tree-Cycles, Tree-Grid (Ying et al., NeurIPS 2019) and BA-2motifs (Luo et al., NeurIPS 2020), each
with three independently trained models: the reference, another seed, another architecture. It explains a seeded sample of
motif nodes, or of graphs; the true edges are those of the node's motif. Three areas under the ROC curve:

- `per instance`: over the edges in play of one instance, those that can carry a message to it; the mean over instances.
- `pooled`: over the edges in play of all instances together.
- `as published`: pooled as in the code of the papers, over all undirected edges within three hops, each once. Those that
  cannot reach the output score 0, so if there are many, every algorithm gets them right for free, Random too.

`nearness` uses no model: the nearer an edge is to the explained node, the higher its score. Motifs lie around their nodes.

Stochastic algorithms run with ten seeds, and the standard deviation over seeds is reported; the others run once. PyG's
GNNExplainer explains a sample of the same instances with the same models, one at a time, with settings that ours also
runs with. The score of an edge is the mean over its directions that are in play. (If directions that are not in play
counted as 0, the scores of far edges would be halved, and Random would find motifs too, because they are near.)

Each data set is written to its own file when it is done, and the page combines all files, so that a run may
be split: `--datasets tree_grid`, and `--datasets` alone to make the page again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.explain import Explainer
from torch_geometric.explain import GNNExplainer as PyGGNNExplainer
from torch_geometric.utils import k_hop_subgraph

import gnn_xai as gx
from benchmarks.measure import machine
from benchmarks.quality import FROM_ALL, SPARSER, SQUARED
from benchmarks.report import facts, head, line, write_json
from benchmarks.workloads import drawn, ready
from gnn_xai.datasets import Benchmark
from gnn_xai.metrics.accuracy import segment_roc_auc

# Edge ROC-AUC as printed by the papers, and by the notebooks of PGExplainer's authors; the accuracy of their models.
SETS = ("ba_shapes", "ba_community", "tree_cycles", "tree_grid", "ba_2motifs")
PUBLISHED = {
    "GNNExplainer (Ying et al. 2019)": (0.925, 0.836, 0.948, 0.875, 0.742),
    "PGExplainer (Luo et al. 2020)": (0.963, 0.945, 0.987, 0.907, 0.926),
    "PGExplainer, the authors' notebooks": (0.9997, 0.9709, 0.9980, 0.9404, None),
}
ACCURACY = dict(zip(SETS, (0.97, 0.95, 0.99, 0.99, 0.99), strict=True))
HOPS = 3  # layers of the models, here and in the papers
MEASURES = ("per instance", "pooled", "as published")
GRADIENT, BASELINE = "saliency", "random"

RECOMMENDED = "smooth_grad, squared"
ALGORITHMS: dict[str, Any] = {
    BASELINE: gx.Random(),
    GRADIENT: gx.Saliency(),
    "input_x_gradient": gx.InputXGradient(),
    "integrated_gradients": gx.IntegratedGradients(),
    "smooth_grad": gx.SmoothGrad(),
    RECOMMENDED: SQUARED,
    "edge_ablation": gx.EdgeAblation(),
    "node_ablation": gx.NodeAblation(),
    "pg_explainer": gx.PGExplainer(),
    "gnn_explainer": gx.GNNExplainer(),
    "gnn_explainer, authors' rate": gx.GNNExplainer(lr=0.1),
    "gnn_explainer, sparser": SPARSER,
    "gnn_explainer, from all edges": FROM_ALL,
}
"""What is measured, by its row. Node scores become edge scores: the mean of both ends. Left out are algorithms that score
neither nodes nor edges on these data: features are all alike, and without fragments `FragmentAblation` is `NodeAblation`."""

PYG = ("gnn_explainer", "gnn_explainer, authors' rate", "gnn_explainer, sparser")  # what PyG's has settings for


def part(name: str, instances: int, seeds: int, sample: int) -> dict[str, Any]:
    """Results of one data set: its models, and the areas of every run of every algorithm on each of them."""
    models, rows = [], []
    for checkpoint in gx.datasets.checkpoints(name):
        ds = gx.datasets.load(name, checkpoint)
        models.append({"checkpoint": checkpoint, "layers": layers(ds), "accuracy": ds.reference["accuracy"]})
        index = drawn(ds.index, instances)
        within = Reach.of(ds, index.sort().values)
        for label, algorithm in ALGORITHMS.items():
            runs = [run(ds, algorithm, within, seed) for seed in range(seeds if algorithm.stochastic else 1)]
            rows.append({"checkpoint": checkpoint, "algorithm": label, "runs": runs})
        if not isinstance(ds.data, list):
            near = nearness(explained(ds, ALGORITHMS[GRADIENT], within, seed=0))
            rows.append({"checkpoint": checkpoint, "algorithm": "nearness", "runs": [areas(near, ds, within)]})
        if sample:
            some = Reach.of(ds, index[:sample].sort().values)
            for label in PYG:
                theirs = areas(one_score(pyg(ds, ALGORITHMS[label], some.index), some), ds, some)
                rows.append({"checkpoint": checkpoint, "algorithm": f"PyG's {label}", "runs": [theirs]})
                ours = run(ds, ALGORITHMS[label], some, seed=0)
                rows.append({"checkpoint": checkpoint, "algorithm": f"{label}, same instances", "runs": [ours]})
        print(f"{name}: {checkpoint} is done", flush=True)
    return {
        "data set": name,
        "title": ds.title,
        "machine": machine(),
        "seeds": seeds,
        "settings": {label: gx.algorithms.describe(algorithm) for label, algorithm in ALGORITHMS.items()},
        "models": models,
        "rows": rows,
    }


def layers(ds: Benchmark) -> str:
    """Class name of a model's convolutions."""
    return next(type(module).__name__ for module in ds.model.modules() if hasattr(module, "propagate"))


# Scores ##############################################################################################################


def run(ds: Benchmark, algorithm: Any, within: Reach, seed: int) -> dict[str, Any]:
    """Areas of one run of one algorithm."""
    found = explained(ds, algorithm, within, seed)
    return areas(found if found.edge_mask is not None else by_ends(found), ds, within)


def explained(ds: Benchmark, algorithm: Any, within: Reach, seed: int) -> gx.Explanations:
    """Explanations of one run of one algorithm."""
    algorithm = ready(algorithm, ds.model, ds.data, ds.index, within.index, task=ds.task, seed=seed)
    return gx.explain(ds.model, ds.data, algorithm, task=ds.task, index=within.index, seed=seed, progress=False)


def nearness(explanations: gx.Explanations) -> gx.Explanations:
    """Score edges without a model: the fewer steps their two ends are from the explained node, the higher."""
    left, entered = ends(explanations)
    steps = torch.full((len(explanations.node_id),), HOPS)
    steps[explanations.node_id == explanations.index[explanations.node_owner]] = 0
    for _ in range(HOPS):
        steps = steps.scatter_reduce(0, left, steps[entered] + 1, "amin")
    return dataclasses.replace(explanations, edge_mask=1 / (1.0 + steps[left] + steps[entered]))


def ends(explanations: gx.Explanations) -> Tensor:
    """Positions of the two ends of every edge among the nodes of all explanations, `[2, ΣE]`."""
    stride = 1 + int(explanations.node_id.max())
    nodes = explanations.node_owner * stride + explanations.node_id
    return torch.searchsorted(nodes, (explanations.edge_owner * stride + explanations.edge_index).contiguous())


def by_ends(explanations: gx.Explanations) -> gx.Explanations:
    """Edge scores from node scores: the mean of the absolute scores of both ends."""
    assert explanations.node_mask is not None
    node = explanations.node_mask.sum(1).abs()
    return dataclasses.replace(explanations, edge_mask=node[ends(explanations)].mean(0))


def pyg(ds: Benchmark, ours: gx.GNNExplainer, index: Tensor) -> gx.Explanations:
    """Explanations of PyG's GNNExplainer with the settings of ours, one instance at a time."""
    coefficients = {name: getattr(ours, name) for name in ("edge_size", "edge_ent", "node_feat_size", "node_feat_ent")}
    explainer = Explainer(
        ds.model,
        PyGGNNExplainer(ours.epochs, ours.lr, **coefficients),
        explanation_type="model",
        node_mask_type=ours.node_mask_type,
        edge_mask_type=ours.edge_mask_type,
        model_config=ds.task,
    )
    found = []
    for i in index.tolist():
        torch.manual_seed(i)
        graph, row = (ds.data[i], None) if isinstance(ds.data, list) else (ds.data, i)
        found.append(explainer(graph.x, graph.edge_index, index=row))
    return gx.Explanations.from_pyg(found, ds.model, ds.data, task=ds.task, index=index.tolist())


def one_score(explanations: gx.Explanations, within: Reach) -> gx.Explanations:
    """Give both directions of an undirected edge one score, the mean over those that are in play."""
    _, edge = within.places(explanations).unique(return_inverse=True)
    total = torch.zeros(int(edge.max()) + 1).index_add(0, edge, explanations.edge_mask)
    return dataclasses.replace(explanations, edge_mask=(total / torch.bincount(edge))[edge])


def areas(explanations: gx.Explanations, ds: Benchmark, within: Reach) -> dict[str, Any]:
    """The three areas, and the number of instances of each."""
    each = gx.metrics.roc_auc(explanations, ds.ground_truth, "edge")
    pooled = gx.metrics.pooled_roc_auc(explanations, ds.ground_truth, "edge")
    values = each.mean, pooled.mean, as_published(explanations, ds, within)
    return dict(zip(MEASURES, values, strict=True)) | {"instances": len(explanations), "defined": each.count}


@dataclasses.dataclass(frozen=True, eq=False)
class Reach:
    """Undirected edges within `HOPS` of each instance, or of its graph, by the id of their upward direction.

    The upward direction of an edge goes from the lower to the higher node.

    Attributes:
        index: `[B]` the instances.
        edge_ptr, edge_id: as those of `Explanations`.
        up: the upward edge, for every edge of the graph, or of the graphs of all instances one after the other.
        start: `[B]` where the edges of an instance's graph start in `up`.
        types: of nodes and edges; none, as in `Explanations` of homogeneous graphs.
    """

    index: Tensor
    edge_ptr: Tensor
    edge_id: Tensor
    up: Tensor
    start: Tensor
    types: None = None

    @classmethod
    def of(cls, ds: Benchmark, index: Tensor) -> Reach:
        """What lies around some instances of a benchmark."""
        if isinstance(ds.data, list):
            ups = [upwards(ds.data[i]) for i in index.tolist()]
            seen, start = [up.unique() for up in ups], _starts([len(up) for up in ups])[:-1]
        else:
            ups, start = [upwards(ds.data)], torch.zeros_like(index)
            ends, nodes = ds.data.edge_index, ds.data.num_nodes
            near = [k_hop_subgraph(i, HOPS, ends, num_nodes=nodes)[3] for i in index.tolist()]
            seen = [ups[0][mask].unique() for mask in near]
        return cls(index, _starts([len(ids) for ids in seen]), torch.cat(seen), torch.cat(ups), start)

    @property
    def owner(self) -> Tensor:
        """The instance of each edge, `[M]`."""
        return torch.arange(len(self.index)).repeat_interleave(self.edge_ptr.diff())

    def places(self, explanations: gx.Explanations) -> Tensor:
        """Where among these edges each edge of the same instances' explanations is, `[ΣE]`."""
        stride, owner = len(self.up), explanations.edge_owner
        up = self.up[self.start[owner] + explanations.edge_id]
        return torch.searchsorted(self.owner * stride + self.edge_id, owner * stride + up)


def upwards(graph: Data) -> Tensor:
    """Id of the direction from the lower to the higher node, for every edge of an undirected graph, `[E]`."""
    low, high = graph.edge_index.min(0).values, graph.edge_index.max(0).values
    key, up = low * graph.num_nodes + high, (graph.edge_index[0] == low).nonzero().flatten()
    up = up[key[up].argsort()]
    return up[torch.searchsorted(key[up], key)]


def _starts(counts: Sequence[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


def as_published(explanations: gx.Explanations, ds: Benchmark, within: Reach) -> float:
    """ROC-AUC over all undirected edges within `HOPS` of the instances, each once; those not in play score 0."""
    scores = torch.zeros(len(within.edge_id), dtype=torch.float64)
    scores = scores.scatter_reduce(0, within.places(explanations), explanations.edge_mask.abs().double(), "amax")
    return float(segment_roc_auc(scores, ds.ground_truth.edges(within), torch.zeros_like(within.edge_id), 1))


# What is printed #####################################################################################################


def page(parts: Sequence[dict[str, Any]]) -> str:
    """All parts as Markdown."""
    sections = [facts(parts[0]["machine"] | {"seeds": parts[0]["seeds"]}), model_table(parts)]
    for measure in MEASURES:
        sections.append(f"Edge ROC-AUC, {measure}: means over checkpoints and seeds")
        sections.append(overview(parts, measure))
    sections += [text for one in parts for text in (detail_title(one), details(one))]
    return "\n\n".join(sections) + "\n"


def model_table(parts: Sequence[dict[str, Any]]) -> str:
    """Table of the models' accuracies."""
    columns = ("data set", "checkpoint", "layers", "train", "test", "all", "motif nodes", "base nodes", "the papers'")
    rows = []
    for one in parts:
        for model in one["models"]:
            accuracy = model["accuracy"]
            shares = [accuracy["train"]["accuracy"], accuracy["test"]["accuracy"], accuracy["all"]["accuracy"]]
            shares += [accuracy["all"].get(f"{where}_accuracy") for where in ("motif", "base")]
            cells = ["" if share is None else f"{share:.3f}" for share in [*shares, ACCURACY[one["data set"]]]]
            rows.append(line([one["title"], model["checkpoint"], model["layers"], *cells]))
    return "\n".join([head(columns), *rows])


def overview(parts: Sequence[dict[str, Any]], measure: str) -> str:
    """Table with a row per algorithm and a column per data set, and the published figures below."""
    columns = ["algorithm", *(one["title"] for one in parts), "mean", f"above `{GRADIENT}`"]
    lines = []
    for label in dict.fromkeys(row["algorithm"] for one in parts for row in one["rows"]):
        of = [[row for row in one["rows"] if row["algorithm"] == label] for one in parts]
        means = [statistics.fmean(mean(row, measure) for row in rows) if rows else None for rows in of]
        cells = ["" if value is None else f"{value:.3f}" for value in means]
        if None in means:
            lines.append(line([f"`{label}`", *cells, "", won(parts, label, measure)]))
            continue
        lines.append(
            line(
                [
                    f"`{label}`",
                    *cells,
                    f"{statistics.fmean(means):.3f}{spread(of, measure)}",
                    won(parts, label, measure),
                ]
            )
        )
    if measure == MEASURES[-1]:
        for label, figures in PUBLISHED.items():
            here = [dict(zip(SETS, figures, strict=True))[one["data set"]] for one in parts]
            cells = ["" if value is None else f"{value:.3f}" for value in here]
            lines.append(line([label, *cells, "" if None in here else f"{statistics.fmean(here):.3f}", ""]))
    return "\n".join([head(columns), *lines])


def mean(row: dict[str, Any], measure: str) -> float:
    """Mean over the seeds of one algorithm on one model."""
    return statistics.fmean(found[measure] for found in row["runs"])


def deviation(values: Sequence[float], digits: int = 3) -> str:
    """Standard deviation over seeds; nothing if the seed changes nothing."""
    return f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""


def spread(of: Sequence[Sequence[dict[str, Any]]], measure: str) -> str:
    """Standard deviation over seeds of a mean over data sets."""
    seeds = range(len(of[0][0]["runs"]))
    return deviation(
        [statistics.fmean(statistics.fmean(row["runs"][s][measure] for row in rows) for rows in of) for s in seeds]
    )


def won(parts: Sequence[dict[str, Any]], label: str, measure: str) -> str:
    """Number of models on which an algorithm is above the gradient, by its mean over seeds."""
    pairs = []
    for one in parts:
        at = {(row["algorithm"], row["checkpoint"]): row for row in one["rows"]}
        pairs += [(row, at[GRADIENT, checkpoint]) for (name, checkpoint), row in at.items() if name == label]
    return f"{sum(mean(row, measure) > mean(gradient, measure) for row, gradient in pairs)} of {len(pairs)}"


def detail_title(one: dict[str, Any]) -> str:
    """Title of a table of details."""
    found = one["rows"][0]["runs"][0]
    return (
        f"{one['title']}, {found['instances']} instances (areas per instance are defined for {found['defined']}): "
        f"{' / '.join(MEASURES)}"
    )


def details(one: dict[str, Any]) -> str:
    """Table with a row per algorithm and a column per model."""
    columns = ["algorithm", "runs", *(f"{model['checkpoint']} ({model['layers']})" for model in one["models"])]
    lines = []
    for label in dict.fromkeys(row["algorithm"] for row in one["rows"]):
        rows = [row for row in one["rows"] if row["algorithm"] == label]
        cells = [
            " / ".join(f"{mean(row, m):.3f}{deviation([found[m] for found in row['runs']])}" for m in MEASURES)
            for row in rows
        ]
        lines.append(line([f"`{label}`", len(rows[0]["runs"]), *cells]))
    return "\n".join([head(columns), *lines])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure data sets one by one, write each, and combine all that are written into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--instances", type=int, default=200, help="of each data set")
    parser.add_argument("--seeds", type=int, default=10, help="runs of algorithms that draw random numbers")
    parser.add_argument("--pyg", type=int, default=20, help="instances that PyG explains too")
    parser.add_argument("--out", type=Path, default=Path("out/reproduce"))
    options = parser.parse_args(arguments)
    for name in options.datasets:
        write_json(options.out / f"{name}.json", part(name, options.instances, options.seeds, options.pyg))
    files = [options.out / f"{name}.json" for name in SETS]
    text = page([json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()])
    (options.out / "reproduce.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
