"""DBLP as a heterogeneous graph: which research area is an author's, and what do the models look at?

    python -m benchmarks.dblp [--out out/bench/dblp]

Trains an HGT and a GraphSAGE by `to_hetero` on 400 authors, explains 50 others, counts for how many of them a conference is
the strongest node, and draws some.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch_geometric.transforms as T
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import HGTConv, SAGEConv, to_hetero
from torch_geometric.typing import EdgeType

import gnn_xai as gx
from benchmarks import workloads
from benchmarks.workloads import SEED, MissingError, drawn
from gnn_xai import viz
from gnn_xai.datasets import models

AREAS = ("databases", "data mining", "artificial intelligence", "information retrieval")
WORDS = 200  # the most frequent terms, which features count
WIDTH = 32


class Bibliography(NamedTuple):
    """The graph, the authors of each split, and names.

    Attributes:
        data: an author has the bag of words of all their papers as features; a conference or term says which one it is,
            and a paper is known by its neighbours alone.
        train, test: authors.
        conferences, terms: names.
        words: names of the columns of the features of authors and terms.
    """

    data: HeteroData
    train: Tensor
    test: Tensor
    conferences: list[str]
    terms: list[str]
    words: list[str]


def read(path: Path | None = None) -> Bibliography:
    """Read the graph; no feature of an author, a paper or a term says where a paper appeared.

    Raises:
        MissingError: if the file is not there.
    """
    path = path or workloads.FOLDER / "dblp.npz"
    if not path.is_file():
        raise MissingError(
            f"{path.name} is not there (looked beside the checkout; set GNN_XAI_DATA to the folder with it)"
        )
    with np.load(path, allow_pickle=False) as file:
        raw = {key: file[key] for key in file.files}
    authors, papers, conferences, terms = raw["num_nodes"].tolist()
    edges = {key: torch.from_numpy(raw[f"paper_{key}"]).long() for key in ("author", "conf", "term")}
    frequent = torch.bincount(edges["term"][1], minlength=terms).argsort(descending=True, stable=True)[:WORDS]
    column = torch.full((terms,), WORDS).index_copy(0, frequent, torch.arange(WORDS))
    bag = torch.zeros(papers, WORDS + 1)  # the last column: all other terms
    bag.index_put_((edges["term"][0], column[edges["term"][1]]), torch.ones(()), accumulate=True)
    data = HeteroData()
    data["author"].x = torch.zeros(authors, WORDS).index_add(0, edges["author"][1], bag[edges["author"][0], :WORDS])
    data["paper"].x = torch.ones(papers, 1)
    data["conference"].x = torch.eye(conferences)
    data["term"].x = torch.zeros(terms, WORDS).index_put((frequent, torch.arange(WORDS)), torch.ones(()))
    data["author"].x = nn.functional.normalize(data["author"].x)
    data["author"].y = torch.from_numpy(raw["author_label"]).long()
    for source, name, target, key in (
        ("author", "writes", "paper", "author"),
        ("paper", "in", "conference", "conf"),
        ("paper", "has", "term", "term"),
    ):
        data[source, name, target].edge_index = edges[key] if source == "paper" else edges[key].flip(0)
    train, test = (torch.from_numpy(raw["author_split"] == part).nonzero().flatten() for part in (0, 2))
    names = raw["term"].tolist()
    words = [names[term] for term in frequent.tolist()]
    return Bibliography(T.ToUndirected()(data), train, test, raw["conf_name"].tolist(), names, words)


def into(graph: Bibliography, *kinds: str) -> Bibliography:
    """The graph with only the relations whose targets are of some types."""
    data = copy.copy(graph.data)
    for relation in data.edge_types:
        if relation[2] not in kinds:
            del data[relation]
    return graph._replace(data=data)


class Transformer(nn.Module):
    """Two layers of attention by type (HGT, Hu et al., WWW 2020), and a linear layer on authors."""

    def __init__(self, data: HeteroData) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Linear(data[name].x.size(1), WIDTH) for name in data.node_types})
        self.layers = nn.ModuleList(HGTConv(WIDTH, WIDTH, data.metadata(), heads=2) for _ in range(2))
        self.head = nn.Linear(WIDTH, len(AREAS))

    def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[EdgeType, Tensor]) -> Tensor:
        """Logits `[authors, 4]`."""
        x_dict = {name: self.encoders[name](x).relu() for name, x in x_dict.items()}
        for layer in self.layers:
            x_dict = layer(x_dict, edge_index_dict)
        return self.head(x_dict["author"])


class SAGE(nn.Module):
    """Two layers of GraphSAGE on one type of nodes, for `to_hetero`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SAGEConv((-1, -1), WIDTH), SAGEConv((-1, -1), len(AREAS))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits `[N, 4]`."""
        return self.second(self.first(x, edge_index).relu(), edge_index)


class HeteroSAGE(nn.Module):
    """`SAGE` with weights for each relation, messages of several relations added up."""

    def __init__(self, data: HeteroData) -> None:
        super().__init__()
        self.layers = to_hetero(SAGE(), data.metadata())

    def forward(self, x_dict: dict[str, Tensor], edge_index_dict: dict[EdgeType, Tensor]) -> Tensor:
        """Logits `[authors, 4]`."""
        return self.layers(x_dict, edge_index_dict)["author"]


def relational(data: HeteroData) -> nn.Module:
    """Two layers of GraphSAGE of the package's reference models, for data in which some types are only sources."""
    widths = {name: data[name].x.size(1) for name in data.node_types}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There exist node types", UserWarning)  # such types have no second layer
        return models.HeteroSAGE(widths, data.edge_types, WIDTH, len(AREAS), 2, "author")


def trained(make: Callable[[HeteroData], nn.Module], graph: Bibliography, epochs: int = 20) -> tuple[nn.Module, float]:
    """A model in evaluation mode, trained on the training authors, with its accuracy on the test authors."""
    data, y = graph.data, graph.data["author"].y
    torch.manual_seed(SEED)
    model = make(data)
    with torch.no_grad():
        model(data.x_dict, data.edge_index_dict)  # layers of unknown width take it from their first input
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        optimizer.zero_grad()
        out = model(data.x_dict, data.edge_index_dict)
        nn.functional.cross_entropy(out[graph.train], y[graph.train]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = model(data.x_dict, data.edge_index_dict).argmax(1) == y
    return model, float(right[graph.test].float().mean())


MODELS: dict[str, Callable[[HeteroData], nn.Module]] = {"HGT": Transformer, "HeteroSAGE": HeteroSAGE}
ALGORITHMS = (
    gx.Saliency(edge_mask_type=None),
    gx.InputXGradient(edge_mask_type=None),
    gx.IntegratedGradients(edge_mask_type=None),
    gx.GNNExplainer(node_mask_type="object"),
    gx.NodeAblation(),
    gx.EdgeAblation(),
)


def explained(graph: Bibliography, count: int = 50) -> Tensor:
    """Test authors in a seeded random order, `[count]`."""
    return drawn(graph.test, count)


def explain(model: nn.Module, graph: Bibliography, algorithm: Any, count: int = 50) -> gx.Explanations:
    """Explanations of `explained` authors."""
    index = explained(graph, count)
    return gx.explain(model, graph.data, algorithm, node_type="author", index=index, seed=SEED, progress=False)


def conferences_on_top(explanations: gx.Explanations) -> dict[str, int]:
    """For how many authors a conference is the strongest node, the strongest but for the author, or among three."""
    counts = dict.fromkeys(("first", "first of all but the author", "among the first three"), 0)
    for e in explanations:
        nodes = [node for node, _ in e.top_nodes(4)]
        others = [node for node in nodes if node != ("author", e.index)]
        counts["first"] += nodes[0][0] == "conference"
        counts["first of all but the author"] += others[0][0] == "conference"
        counts["among the first three"] += any(kind == "conference" for kind, _ in nodes[:3])
    return counts


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the counts as a table and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench/dblp"))
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    graph = read()
    labels = {"conference": graph.conferences, "term": graph.terms}
    for name, make in MODELS.items():
        model, accuracy = trained(make, graph)
        for algorithm in ALGORITHMS:
            explanations = explain(model, graph, algorithm)
            counts = conferences_on_top(explanations)
            cells = [name, f"{accuracy:.3f}", type(algorithm).__name__, *map(str, counts.values())]
            print(f"| {' | '.join(cells)} |", flush=True)
            figure = viz.grid(explanations[:4], columns=2, top=15, node_labels=labels, class_names=AREAS)
            figure.savefig(out / f"{name}-{explanations.algorithm['name']}.png", dpi=110)


if __name__ == "__main__":
    main()
