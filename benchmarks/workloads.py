"""Workloads of the speed benchmark: data, model, algorithm, and the other packages that do the same work.

Cora and Amazon Photo are read from a folder beside the checkout (`GNN_XAI_DATA` names another one); their models are
trained here, on one thread from one seed, so that every run measures the same checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import ModelConfig
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.utils import negative_sampling

import gnn_xai as gx
from gnn_xai.datasets.models import GCN

SEED = 0
FOLDER = Path(os.environ.get("GNN_XAI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
QUICK = 8  # instances of a quick run
QUICK_STEPS = 10  # its epochs, or points of a path


class MissingError(Exception):
    """A data file is missing; the message says which and how to get it."""


class Layer(NamedTuple):
    """Sizes of a message-passing layer: numbers per node row, and values per edge (attention has one per head)."""

    width: int
    heads: int = 1


@dataclass(frozen=True, eq=False)
class Workload:
    """One row of the table.

    Attributes:
        name: the word for `--rows`.
        title: what is explained, in the table's words.
        model, data, task: a trained model and what it was trained on.
        index: the instances (of pairs of nodes, their places in `data.edge_label_index`), in a seeded random order, so that
            any part of them is like the whole.
        algorithm: ours.
        peers: who else does it (names of `benchmarks.peers.PEERS`), and how many instances in each round.
        layers: of the model, for the bytes of an epoch; empty where no masks are learned.
        hops: around a target, within which the model's output is that of the whole graph; 0 at graph level.
        truth: the true edges and nodes, if known.
        top: if they are not, how many elements, or which fraction of them, fidelity keeps or leaves out.
        accuracy: of the model on its test split.
    """

    name: str
    title: str
    model: nn.Module
    data: Data | list[Data]
    task: ModelConfig
    index: Tensor
    algorithm: Any
    peers: dict[str, int]
    layers: tuple[Layer, ...] = ()
    hops: int = 0
    truth: gx.GroundTruth | None = None
    top: int | float = 5
    accuracy: float = float("nan")

    def explain(self, index: Tensor | None = None) -> gx.Explanations:
        """Explanations by gnn_xai of all instances, or of some."""
        return gx.explain(
            self.model,
            self.data,
            self.algorithm,
            task=self.task,
            index=self.index if index is None else index,
            seed=SEED,
            progress=False,
        )

    def checkpoint(self) -> str:
        """The first digits of the SHA-256 of the model's weights."""
        digest = hashlib.sha256()
        for value in self.model.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def to(self, device: str) -> Workload:
        """The same with model and data on a device."""
        data = [graph.to(device) for graph in self.data] if isinstance(self.data, list) else self.data.to(device)
        return replace(self, model=self.model.to(device), data=data)

    def quick(self) -> Workload:
        """The same with few instances and steps, to see that everything runs."""
        steps = {"epochs", "steps"} & set(vars(self.algorithm))
        return replace(
            self,
            index=self.index[:QUICK],
            algorithm=replace(self.algorithm, **dict.fromkeys(steps, QUICK_STEPS)),
            peers=dict.fromkeys(self.peers, 1),
        )

    def smallest(self) -> Workload:
        """The same model on one tiny instance, so that everything is imported and has been called once."""
        if isinstance(self.data, list):
            return replace(self, index=self.index[:1])
        ends = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]], device=self.index.device)
        data = Data(x=self.data.x[:3], edge_index=ends.to(self.data.x.device))
        if "edge_label_index" in self.data:
            data.edge_label_index = data.edge_index
        return replace(self, data=data, index=self.index.new_zeros(1))


# Node level ##########################################################################################################


def ba_shapes(everything: bool) -> Workload:
    """The motif nodes of BA-Shapes, with its reference model."""
    ds = gx.datasets.load("ba_shapes")
    return Workload(
        "ba_shapes",
        "GNNExplainer, BA-Shapes motif nodes, 3-layer GCN-20",
        ds.model,
        ds.data,
        ds.task,
        drawn(ds.index),
        gx.GNNExplainer(),
        {"pyg": 8, "pyg_subgraph": 16, "graph_explain": 8},
        (Layer(20),) * 3,
        hops=4,
        truth=ds.ground_truth,
        accuracy=ds.reference["accuracy"]["test"]["accuracy"],
    )


def cora_object(everything: bool) -> Workload:
    """Test nodes of Cora, one mask a node."""
    data, train, test = cora()
    return _gcn(
        "cora_object",
        "GNNExplainer `object`, Cora, 2-layer GCN-16",
        data,
        train,
        test,
        torch.arange(len(data.x)) if everything else drawn(test, 500),
        gx.GNNExplainer(node_mask_type="object"),
        {"pyg": 4, "pyg_subgraph": 16, "graph_explain": 8},
        dropout=0.5,
    )


def cora_attributes(everything: bool) -> Workload:
    """The same with one mask a feature of a node."""
    workload = cora_object(everything)
    return replace(
        workload,
        name="cora_attributes",
        title=workload.title.replace("object", "attributes"),
        algorithm=gx.GNNExplainer(node_mask_type="attributes"),
        peers={"pyg": 3, "pyg_subgraph": 16},
    )


def photo(everything: bool) -> Workload:
    """Nodes of Amazon Photo, where a hub may have a tenth of the graph as neighbours."""
    data = planetoid("amazon_photo.npz")[0]
    order = drawn(torch.arange(len(data.x)))
    train = torch.cat([order[data.y[order] == label][:20] for label in data.y.unique()])
    rest = order[~torch.isin(order, train)]
    workload = _gcn(
        "photo",
        "GNNExplainer `object`, Amazon Photo, 2-layer GCN-16",
        data,
        train,
        rest,
        order if everything else order[:200],
        gx.GNNExplainer(node_mask_type="object"),
        {"pyg": 1, "pyg_subgraph": 3, "graph_explain": 3},
    )
    return replace(workload, top=0.1)  # the prediction for a hub does not hang on five of its thousands of edges


def gat(everything: bool) -> Workload:
    """Test nodes of Cora under attention."""
    data, train, test = cora()
    classes = int(data.y.max()) + 1
    model, accuracy = trained(lambda: GAT(data.x.size(1), 8, 8, classes), data, train, test, lr=0.005)
    return Workload(
        "gat",
        "GNNExplainer `object`, Cora, 2-layer GAT, 8 heads of 8",
        model,
        data,
        _task("node"),
        torch.arange(len(data.x)) if everything else drawn(test, 200),
        gx.GNNExplainer(node_mask_type="object"),
        {"pyg": 4, "pyg_subgraph": 16, "graph_explain": 8},
        (Layer(64, heads=8), Layer(classes)),
        hops=2,
        accuracy=accuracy,
    )


class GAT(nn.Module):
    """Graph attention network (Veličković et al., ICLR 2018): heads side by side, then one head a class."""

    def __init__(self, inputs: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.first = GATConv(inputs, width, heads)
        self.second = GATConv(heads * width, classes)
        self.dropout = nn.Dropout(0.6)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = nn.functional.elu(self.first(self.dropout(x), edge_index))
        return self.second(self.dropout(x), edge_index)


# Edge level ##########################################################################################################


def cora_links(everything: bool) -> Workload:
    """Pairs of papers of Cora, half of them citations that the graph lacks, half of them none."""
    data, _, _ = cora()
    torch.manual_seed(SEED)
    once = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    once = once[:, torch.randperm(once.size(1))]
    count = min(500, once.size(1) // 4)
    held, kept = once[:, :count], once[:, count:]
    edges = torch.cat([kept, kept.flip(0)], dim=1)
    none = negative_sampling(data.edge_index, len(data.x), once.size(1))
    pairs, learned = torch.cat([held, none[:, :count]], dim=1), torch.cat([kept, none[:, count:]], dim=1)
    labels, said = (torch.arange(each.size(1)) < true.size(1) for each, true in ((pairs, held), (learned, kept)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = Links(data.x.size(1), 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(data.x, edges, learned), said.float()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        accuracy = float(((model(data.x, edges, pairs) > 0) == labels).float().mean())
    torch.set_num_threads(threads)
    return Workload(
        "cora_links",
        "GNNExplainer `object`, Cora links, 2-layer GCN-16 and a dot product",
        model,
        Data(x=data.x, edge_index=edges, edge_label_index=pairs),
        ModelConfig("binary_classification", "edge", "raw"),
        drawn(torch.arange(pairs.size(1)), None if everything else 200),
        gx.GNNExplainer(node_mask_type="object"),
        {"pyg": 4},
        (Layer(16), Layer(16)),
        hops=2,
        accuracy=accuracy,
    )


class Links(nn.Module):
    """Two GCN layers, and the dot product of the two nodes of a pair."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first, self.second = GCNConv(inputs, width), GCNConv(width, width)

    def forward(self, x: Tensor, edge_index: Tensor, edge_label_index: Tensor) -> Tensor:
        z = self.second(self.first(x, edge_index).relu(), edge_index)
        return (z[edge_label_index[0]] * z[edge_label_index[1]]).sum(1)


# Graph level #########################################################################################################


@cache
def molecules(everything: bool) -> Workload:
    """NCI molecules, those with a nitro group among them, with their reference model."""
    ds = gx.datasets.load("nci_nitro")
    truth = ds.ground_truth
    has = torch.tensor([bool((motif >= 0).any()) for motif in truth.edge])
    chosen = torch.cat([has.nonzero().flatten(), (~has).nonzero().flatten()])[: None if everything else 1000].tolist()
    width = ds.data[0].x.size(1)
    return Workload(
        "molecules",
        "GNNExplainer, NCI molecules, 3-layer GIN-64 with BatchNorm",
        ds.model,
        [ds.data[i] for i in chosen],
        ds.task,
        drawn(torch.arange(len(chosen))),
        gx.GNNExplainer(),
        {"pyg": 20, "graph_explain": 20},
        (Layer(width), Layer(64), Layer(64)),
        truth=gx.GroundTruth(edge=[truth.edge[i] for i in chosen], node=[truth.node[i] for i in chosen]),
        accuracy=ds.reference["accuracy"]["test"]["accuracy"],
    )


def saliency(everything: bool) -> Workload:
    """Gradients of the same molecules. Captum explains a raw output, so here we do as well."""
    return _attribution(everything, "saliency", gx.Saliency(objective="raw"), {"pyg": 100})


def integrated_gradients(everything: bool) -> Workload:
    """Gradients along a path of 50 points, of the same molecules."""
    algorithm = gx.IntegratedGradients(steps=50, objective="raw")
    return _attribution(everything, "integrated_gradients", algorithm, {"pyg": 20})


def edge_ablation(everything: bool) -> Workload:
    """Every bond of the same molecules left out, one at a time."""
    return _attribution(everything, "edge_ablation", gx.EdgeAblation(objective="raw"), {"rebuilt": 50})


def _attribution(everything: bool, name: str, algorithm: Any, peers: dict[str, int]) -> Workload:
    workload = molecules(everything)
    title = workload.title.replace("GNNExplainer", type(algorithm).__name__)
    return replace(workload, name=name, title=title, algorithm=algorithm, peers=peers, layers=())


# What they share #####################################################################################################

WORKLOADS: dict[str, Callable[[bool], Workload]] = {
    build.__name__: build
    for build in (
        ba_shapes,
        cora_object,
        cora_attributes,
        photo,
        gat,
        cora_links,
        molecules,
        saliency,
        integrated_gradients,
        edge_ablation,
    )
}


def planetoid(name: str) -> tuple[Data, dict[str, np.ndarray]]:
    """A citation or co-purchase graph with its bag of words, and the file's other arrays.

    Raises:
        MissingError: if the file is not there.
    """
    path = FOLDER / name
    if not path.is_file():
        raise MissingError(f"{name} is not there (looked beside the checkout; set GNN_XAI_DATA to the folder with it)")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    rows = np.repeat(np.arange(len(arrays["x_indptr"]) - 1), np.diff(arrays["x_indptr"]))
    x = torch.zeros(tuple(arrays["x_shape"].tolist()))
    x[torch.from_numpy(rows), torch.from_numpy(arrays["x_indices"]).long()] = torch.from_numpy(arrays["x_data"]).float()
    edge_index = torch.from_numpy(arrays["edge_index"]).long()
    return Data(x=x, edge_index=edge_index, y=torch.from_numpy(arrays["y"]).long()), arrays


def cora() -> tuple[Data, Tensor, Tensor]:
    """Cora, its rows of features adding up to 1, with the ids of its public training and test nodes."""
    data, arrays = planetoid("cora.npz")
    data.x /= data.x.sum(1, keepdim=True).clamp(min=1)
    train, test = (torch.from_numpy(arrays[f"{part}_mask"]).bool().nonzero().flatten() for part in ("train", "test"))
    return data, train, test


def drawn(candidates: Tensor, count: int | None = None) -> Tensor:
    """Some or all candidates, in a seeded random order."""
    return candidates[torch.randperm(len(candidates), generator=torch.Generator().manual_seed(SEED))][:count]


def for_any_model() -> dict[str, Any]:
    """The algorithms of the package with their defaults, without those that take long (`Shapley` of edges, `SubgraphX`) and
    those that need layers of a kind.
    """
    every = {n: cls for n, cls in gx.algorithms.REGISTRY.items() if gx.algorithms.any_model(cls)}
    return {name: gx.algorithms.get(name) for name in every if name not in ("shapley", "subgraph_x")}


def ready(algorithm: Any, model: nn.Module, data: Any, candidates: Tensor, index: Tensor, **options: Any) -> Any:
    """An algorithm that can explain: where it has to be fitted, on as many other candidates as are explained.

    Args:
        algorithm, model, data, options: as in `gnn_xai.explain`.
        candidates: what there is to explain, and to fit on.
        index: what will be explained; fitted on, too, where nothing else is left.
    """
    if not gx.algorithms.needs_fit(algorithm):
        return algorithm
    others = drawn(candidates[~torch.isin(candidates, index)], len(index)).sort().values
    return algorithm.fit(model, data, index=others if len(others) else index, progress=False, **options)


def trained(
    make: Callable[[], nn.Module], data: Data, train: Tensor, test: Tensor, lr: float, epochs: int = 100
) -> tuple[nn.Module, float]:
    """Train a model with Adam on the whole graph; returns it in evaluation mode, with its accuracy.

    Runs on one thread, because sums over several threads may have another order.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=5e-4)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.x, data.edge_index)[train], data.y[train]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = model(data.x, data.edge_index).argmax(1) == data.y
    torch.set_num_threads(threads)
    return model, float(right[test].float().mean())


def _gcn(
    name: str,
    title: str,
    data: Data,
    train: Tensor,
    test: Tensor,
    index: Tensor,
    algorithm: gx.GNNExplainer,
    peers: dict[str, int],
    dropout: float = 0.0,
) -> Workload:
    """Two layers of width 16, as in the paper (Kipf and Welling, ICLR 2017)."""
    classes = int(data.y.max()) + 1
    model, accuracy = trained(
        lambda: GCN(data.x.size(1), 16, classes, num_layers=2, dropout=dropout), data, train, test, lr=0.01
    )
    layers = (Layer(16), Layer(classes))
    # One hop more than layers: the in-degrees of the border are part of what it sends.
    return Workload(name, title, model, data, _task("node"), index, algorithm, peers, layers, hops=3, accuracy=accuracy)


def _task(level: str) -> ModelConfig:
    return ModelConfig("multiclass_classification", level, "raw")


def build(name: str, device: str = "cpu", quick: bool = False) -> Workload:
    """Build a workload by name; on a GPU it includes all nodes or molecules of its data.

    Raises:
        MissingError: if its data are not there.
    """
    try:
        workload = WORKLOADS[name](device != "cpu")
    except gx.errors.GnnXaiError as error:  # the molecules without RDKit
        raise MissingError(str(error)) from error
    workload = workload.to(device)
    return workload.quick() if quick else workload
