"""Recipes of benchmarks: data and functions, from which `load` and `train` make the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.explain import ModelConfig

from gnn_xai.results.ground_truth import GroundTruth

Names = Sequence[str] | Mapping[str, Sequence[str]]
"""Names of one kind of things, or by node type."""

SPLITS = ("train", "val", "test")
REFERENCE = "reference"  # the checkpoint that every benchmark has


@dataclass(frozen=True)
class Material:
    """Everything of a benchmark but its model.

    Args:
        data: one graph, of one or several node types, or a list of graphs for a graph-level task.
        ground_truth: the elements that make the label, or None where nobody knows them.
        split: instance ids under "train", "val" and "test"; "val" may be missing.
        class_names: one name per output column; two for one column of a binary classification.
        feature_names: one name per column of ``x``, or None where columns mean nothing; in a heterogeneous graph by node
            type.
        node_names: labels for drawing; one list, one list per graph, or lists by node type; None where ids do.
        atom_values: what each atom adds to the value of its graph, one ``[N_g]`` per graph; None
            where no such thing is known.
    """

    data: Data | HeteroData | list[Data]
    ground_truth: GroundTruth | None
    split: dict[str, Tensor]
    class_names: Sequence[str]
    feature_names: Names | None = None
    node_names: Names | Sequence[Sequence[str]] | None = None
    atom_values: Sequence[Tensor] | None = None


@dataclass(frozen=True)
class Training:
    """How one checkpoint is trained.

    Args:
        model: a new, untrained model.
        fit: trains that model in place; all its randomness comes from torch's global seed.
        seed: of the training run.
    """

    model: Callable[[], nn.Module]
    fit: Callable[[nn.Module, Material], None]
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """How one benchmark is made.

    Args:
        name: the word that `load` takes; also the folder under ``datasets/``.
        title: the name as papers write it.
        summary: one line for a list of data sets.
        task_level: "node" or "graph".
        generate: returns the tensors that are frozen in ``data.safetensors``; None: nothing is.
        read: turns the frozen tensors into `Material`.
        model: a new, untrained reference model.
        fit: trains that model in place; all its randomness comes from torch's global seed.
        measure: scores ``{split: {measure: value}}`` of a trained model in eval mode.
        instances: ids of the outputs worth explaining, ``[B]``, in a stable order.
        mode: "multiclass_classification" or "regression".
        node_type: the type of the nodes that are classified in a heterogeneous graph.
        featurizer: the encoding of molecules in ``gnn_xai.molecules`` that the model reads; None for
            other graphs.
        seed: of the training run.
        others: further checkpoints by name, trained on the same data.
        controls: by name, the data without what was planted; a model like the reference is trained and measured on each, and
            only its scores are kept. They show what can be predicted without the truth.
    """

    name: str
    title: str
    summary: str
    task_level: str
    generate: Callable[[], dict[str, Tensor]] | None
    read: Callable[[dict[str, Tensor]], Material]
    model: Callable[[], nn.Module]
    fit: Callable[[nn.Module, Material], None]
    measure: Callable[[nn.Module, Material], dict[str, dict[str, float]]]
    instances: Callable[[nn.Module, Material], Tensor]
    mode: str = "multiclass_classification"
    node_type: str | None = None
    featurizer: str | None = None
    seed: int = 0
    others: Mapping[str, Training] = field(default_factory=dict)
    controls: Mapping[str, Callable[[Material], Material]] = field(default_factory=dict)

    @property
    def checkpoints(self) -> dict[str, Training]:
        """The training of each checkpoint, "reference" first."""
        return {REFERENCE: Training(self.model, self.fit, self.seed), **self.others}

    @property
    def task(self) -> ModelConfig:
        """The task of the reference model; classifiers return logits, regressions the value."""
        return ModelConfig(mode=self.mode, task_level=self.task_level, return_type="raw")


@dataclass(frozen=True, eq=False, repr=False)
class Benchmark:
    """A data set with a trained model and, where it is known, the truth about its predictions.

    Attributes:
        name, title: as in `load`, and as papers write it.
        data: ``Data`` or ``HeteroData``, or a list of ``Data`` for a graph-level task.
        model: the trained model in eval mode: raw logits ``[instances, classes]``, or a value
            ``[instances, 1]``.
        checkpoint: which of its trainings the model comes from; see `checkpoints`.
        task: PyG's ``ModelConfig`` for `explain`.
        ground_truth: which edges and nodes make the label; None where that is unknown.
        index: the outputs worth explaining, ``[B]`` int64: node ids or positions in ``data``.
        split: instance ids under "train", "test" and, where there is one, "val".
        atom_values: for a value that atoms add up to, the exact share of each atom, one float
            ``[atoms]`` per graph; None elsewhere.
        featurizer: the name of the encoding that makes graphs for this model out of molecules, for
            ``gnn_xai.molecules.from_smiles``; None for other graphs.
        class_names, feature_names, node_names: words for outputs, columns of ``x`` and nodes;
            ``node_names`` is a list of lists for graphs, and the last two are by node type for
            ``HeteroData``. None where there are no better words than the numbers.
        node_type: for ``HeteroData``, the type of the nodes that are classified, for `explain`; else None.
        card: the data card, markdown: source, licence, truth, training, accuracy, checksums.
        reference: the facts of the training run of this checkpoint: seed, versions,
            ``accuracy[split][measure]``, and the SHA-256 of each file of the benchmark.
    """

    name: str
    title: str
    data: Data | HeteroData | list[Data]
    model: nn.Module
    task: ModelConfig
    ground_truth: GroundTruth | None
    index: Tensor
    split: dict[str, Tensor]
    class_names: Sequence[str]
    feature_names: Names | None
    node_names: Names | Sequence[Sequence[str]] | None
    card: str
    reference: dict[str, Any]
    atom_values: Sequence[Tensor] | None = None
    featurizer: str | None = None
    checkpoint: str = REFERENCE
    node_type: str | None = None

    def __repr__(self) -> str:
        size = (
            f"{len(self.data)} graphs"
            if isinstance(self.data, list)
            else f"{self.data.num_nodes} nodes, {self.data.num_edges} edges"
        )
        measure, score = next(iter(self.reference["accuracy"]["test"].items()))
        return f"Benchmark({self.name!r}: {size}, {len(self.index)} instances, test {measure} {score:.3f})"


def split_ids(code: Tensor) -> dict[str, Tensor]:
    """Instance ids per split from a code per instance: 0 train, 1 val, 2 test, else unused."""
    return {name: (code == number).nonzero().flatten() for number, name in enumerate(SPLITS)}


def graph_and_labels(material: Material) -> tuple[Data, Tensor]:
    """The one graph of node-level material, and the class of every node."""
    data = material.data
    assert isinstance(data, Data)
    assert isinstance(data.y, Tensor)
    return data, data.y


def hetero_graph(material: Material) -> HeteroData:
    """The one graph of heterogeneous material."""
    assert isinstance(material.data, HeteroData)
    return material.data


def node_accuracy(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Share of nodes with the right class, per split."""
    data, y = graph_and_labels(material)
    with torch.no_grad():
        right = (model(data.x, data.edge_index).argmax(dim=-1) == y).double()
    return {name: {"accuracy": right[ids].mean().item()} for name, ids in material.split.items()}


def area_under_roc(scores: Tensor, label: Tensor) -> float:
    """How often a positive scores more than a negative, both ``[P]``; a tie counts half."""
    ahead = scores[label > 0].unsqueeze(1) - scores[label == 0]
    return ((ahead > 0).double() + (ahead == 0).double() / 2).mean().item()
