"""Bad input gets one clear sentence: what was expected, what came, and what helps; and nothing half-written."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain.config import ModelConfig

import gnn_xai as gx
from gnn_xai.errors import GnnXaiError, GnnXaiWarning, InputError, MaskingError, StorageError
from gnn_xai.testing import Network, random_graph, seeded
from tests.models import FEATURES, make

MULTICLASS = "multiclass_classification"


def graph() -> Data:
    return random_graph(0, 10, 14, undirected=True)


def network(columns: int = 3) -> nn.Module:
    return seeded(lambda: Network([pyg.GCNConv(4, 8), pyg.GCNConv(8, columns)]))()


def explain(model: nn.Module | None = None, data: Any = None, algorithm: Any = "saliency", **options: Any) -> Any:
    data = graph() if data is None else data
    return gx.explain(model or network(), data, algorithm, progress=False, **options)


class Returns(nn.Module):
    """A network whose output is changed by a function."""

    def __init__(self, change: Callable[[Tensor], Any], columns: int = 3) -> None:
        super().__init__()
        self.inner, self.change = network(columns), change

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return self.change(self.inner(x, edge_index))


class Needs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor, edge_index: Tensor, positions: Tensor) -> Tensor:
        return self.inner(x + positions, edge_index)


class Anything(nn.Module):
    def forward(self, *args):
        return args[0]


class Transductive(nn.Module):
    """An embedding of every node of one graph, held by the model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(10, 4), pyg.GCNConv(4, 3)

    def forward(self, edge_index: Tensor) -> Tensor:
        return self.conv(self.embedding.weight, edge_index)


class Linear(nn.Module):
    """A model without any message-passing layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def changed(**attributes: Any) -> Data:
    data = graph()
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


def typed(edge_index: Tensor | None) -> HeteroData:
    """Two types and a relation between them."""
    data = HeteroData({("a", "r", "b"): {"edge_index": edge_index}})
    data["a"].x, data["b"].x = torch.ones(3, 4), torch.ones(2, 4)
    return data


def with_nan(key: str) -> Data:
    data = changed(edge_weight=torch.ones(graph().num_edges))
    data[key].view(len(data[key]), -1)[3, 0] = torch.nan
    return data


def one_way() -> Data:
    return random_graph(7, 8, 14, undirected=False)


def task(mode: str = MULTICLASS, returned: str = "raw", level: str = "node") -> ModelConfig:
    return ModelConfig(mode, level, returned)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    # index
    "index too large": (lambda: explain(index=10), r"index 10 is out of range; expected 0 to 9"),
    "index negative": (lambda: explain(index=[3, -1]), r"index -1 is out of range; expected 0 to 9"),
    "index empty": (
        lambda: explain(index=[]),
        r"expected at least one index, got none; index=None explains every output",
    ),
    "index empty slice": (lambda: explain(index=slice(5, 5)), r"expected at least one index, got none"),
    "index float": (lambda: explain(index=[1.0, 2.0]), r"expected integer indices, got torch.float32"),
    "index text": (lambda: explain(index="all"), r"expected index as .*got 'all'"),
    "index of texts": (lambda: explain(index=["a", "b"]), r"expected index as .*got \['a', 'b'\]"),
    "index mask too short": (
        lambda: explain(index=torch.ones(4, dtype=torch.bool)),
        r"expected a boolean index of length 10, got shape \[4\]",
    ),
    "index mask of nothing": (lambda: explain(index=torch.zeros(10, dtype=torch.bool)), r"expected at least one index"),
    # target
    "target too large": (lambda: explain(target=3), r"target 3 is out of range; expected 0 to 2"),
    "target negative": (lambda: explain(target=-1), r"target -1 is out of range; expected 0 to 2"),
    "target wrong length": (
        lambda: explain(index=[0, 1, 2], target=[0, 1]),
        r"expected one target, or one per instance \(3\), got shape \[2\]",
    ),
    "target float": (lambda: explain(target=1.0), r"expected integer targets, got torch.float32"),
    "target text": (lambda: explain(target="cat"), r"expected target as one class or one per instance, got 'cat'"),
    "target bool": (lambda: explain(target=True), r"expected integer targets, got torch.bool"),
    "target of regression": (
        lambda: explain(task=task("regression")),
        r"expected target= for a regression with 3 output columns, got None; name the column to explain",
    ),
    # data
    "data none": (lambda: explain(data=[]), r"expected at least one graph, got an empty list"),
    "data hetero": (lambda: explain(data=HeteroData()), r"expected HeteroData with at least one relation .* got none"),
    "data list of hetero": (
        lambda: explain(data=[HeteroData()]),
        r"expected HeteroData with at least one relation .* got none",
    ),
    "data hetero without the edges of a relation": (
        lambda: explain(data=typed(None), node_type="b"),
        r"expected data\[\('a', 'r', 'b'\)\].edge_index as integers of shape \[2, num_edges\], got none",
    ),
    "data list of hetero, the first without the edges of a relation": (
        lambda: explain(data=[typed(None), typed(torch.tensor([[0, 2], [1, 0]]))], task="graph"),
        r"expected data\[\('a', 'r', 'b'\)\].edge_index as integers of shape \[2, num_edges\], got none",
    ),
    "data list of hetero, another without the edges of a relation": (
        lambda: explain(data=[typed(torch.tensor([[0, 2], [1, 0]])), typed(None)], task="graph"),
        r"the graphs cannot be batched: 'edge_index'; every graph needs the same attributes with the same widths",
    ),
    "data tensor": (lambda: explain(data=torch.ones(3, 4)), r"expected a torch_geometric Data, .* got Tensor; wrap"),
    "data pair": (
        lambda: explain(data=(torch.ones(3, 4), torch.zeros(2, 0))),
        r"expected a list of torch_geometric Data, or of HeteroData, got Tensor at position 0",
    ),
    "data path": (lambda: explain(data="cora.pt"), r"expected a torch_geometric Data, .* got str"),
    "data different attributes": (
        lambda: explain(data=[graph(), changed(extra=torch.ones(10, 1), x=torch.ones(10, 3))]),
        r"the graphs cannot be batched.*every graph needs the same attributes with the same widths",
    ),
    "data NaN in x": (
        lambda: explain(data=with_nan("x")),
        r"data.x holds NaN .* in 1 of 10 rows \(first: row 3\); clean",
    ),
    "data NaN in weights": (lambda: explain(data=with_nan("edge_weight")), r"data.edge_weight holds NaN"),
    "data infinite x": (
        lambda: explain(data=changed(x=torch.full((10, 4), torch.inf))),
        r"data.x holds NaN or infinite",
    ),
    "data without edges": (lambda: explain(data=Data(x=torch.ones(3, 4))), r"expected data with edge_index or adj_t"),
    "data without x": (
        lambda: explain(data=Data(edge_index=graph().edge_index)),
        r"expected data with node features x, or with num_nodes set; got neither",
    ),
    "data edges out of range": (
        lambda: explain(data=changed(edge_index=torch.tensor([[0], [10]]))),
        r"edge_index names nodes 0 to 10, but the data has 10 nodes \(0 to 9\)",
    ),
    "data edges negative": (
        lambda: explain(data=changed(edge_index=torch.tensor([[0], [-1]]))),
        r"edge_index names nodes -1 to 0, but",
    ),
    "data edges transposed": (
        lambda: explain(data=changed(edge_index=graph().edge_index.t())),
        r"expected data.edge_index as integers of shape \[2, num_edges\], got torch.int64 \[\d+, 2\]",
    ),
    "data edges float": (
        lambda: explain(data=changed(edge_index=graph().edge_index.float())),
        r"expected data.edge_index as integers of shape \[2, num_edges\], got torch.float32",
    ),
    "data of graphs without nodes": (
        lambda: explain(data=[graph(), Data(x=torch.ones(0, 4), edge_index=torch.zeros(2, 0).long())]),
        r"expected graphs with nodes, but graph 1 of the data has none; leave it out",
    ),
    "data without nodes": (
        lambda: explain(data=Data(x=torch.ones(0, 4), edge_index=torch.zeros(2, 0).long())),
        r"expected graphs with nodes, but graph 0 of the data has none",
    ),
    "data of several graphs that is no Batch": (
        lambda: explain(data=changed(batch=torch.arange(10) // 5), task="graph"),
        r"expected several graphs as a Batch or a list, got one Data whose batch names several; build it with Batch",
    ),
    # model and its output
    "model in half precision": (
        lambda: explain(network().bfloat16(), data=changed(x=graph().x.bfloat16())),
        r"expected single or double precision, got torch.bfloat16, .* pass copy.deepcopy\(model\).float\(\)",
    ),
    "model returns a sequence of classes": (
        lambda: explain(Returns(lambda out: out.unsqueeze(1).repeat(1, 2, 1))),
        r"expected output of shape \[10, classes\] for a multiclass task, got \[10, 2, 3\]; pass forward=",
    ),
    "model not a module": (lambda: explain(lambda x: x), r"expected model as a torch.nn.Module, got function"),
    "model without layers": (
        lambda: explain(Linear()),
        r"an edge mask reaches none of this one's layers \(it never calls propagate\)",
    ),
    "model needs more": (
        lambda: explain(Needs()),
        r"Needs.forward needs argument 'positions', .* set data.positions, or",
    ),
    "model takes *args": (
        lambda: explain(Anything()),
        r"takes \*args, so its arguments cannot be bound by name; pass forward=",
    ),
    "model returns a tuple": (
        lambda: explain(Returns(lambda out: (out, out))),
        r"expected the model to return one tensor, got tuple; pass forward=",
    ),
    "model returns a number": (
        lambda: explain(Returns(lambda out: out.sum())),
        r"expected one output row per node .10.",
    ),
    "model returns too few rows": (
        lambda: explain(Returns(lambda out: out[:4])),
        r"expected one output row per node \(10\), got shape \[4, 3\]; is this a node-level model\?",
    ),
    "model of nodes for graphs": (lambda: explain(task="graph"), r"expected one output row per graph \(1\)"),
    "model returns NaN": (lambda: explain(Returns(lambda out: out / 0 * 0)), r"the model's output holds NaN"),
    "model returns integers": (
        lambda: explain(Returns(lambda out: out.argmax(1, keepdim=True) * torch.ones(1, 3, dtype=torch.int64))),
        r"expected the model to return floating-point scores, got torch.int64; return what",
    ),
    "model of other features": (
        lambda: explain(data=changed(x=torch.ones(10, 7))),
        r"Network raised RuntimeError \(.*cannot be multiplied.*\) when called with \(x, edge_index.*pass forward=",
    ),
    "inside inference mode": (
        lambda: torch.inference_mode()(explain)(algorithm="gnn_explainer"),
        r"expected gradients to be possible, but torch.inference_mode\(\) is on; .*torch.no_grad\(\) instead",
    ),
    "model of counts": (
        lambda: explain(Refuses(not_counts), counts()),
        r"Refuses .*not where a mask multiplies its features \(AssertionError without a message\); use node_mask_type=None",
    ),
    "model that looks at its messages": (
        lambda: explain(Degrees(), algorithm=gx.GNNExplainer(node_mask_type=None, epochs=2)),
        r"Degrees .*not where an edge mask multiplies its messages \(ValueError: expected ones in all.*NodeAblation\(\)",
    ),
    "forward not callable": (lambda: explain(forward="model"), r"expected forward= as a callable .* got str"),
    # task
    "task unknown": (
        lambda: explain(task="nodes"),
        r"expected task='node', task='edge', task='graph' or a ModelConfig, got 'nodes'",
    ),
    "task edge": (
        lambda: explain(task=task(level="edge"), index=(0, 1)),
        r"expected a model of pairs of nodes, with forward\(x, edge_index, edge_label_index\), or .* got",
    ),
    "probabilities said to be logits": (
        lambda: explain(Returns(lambda out: out.softmax(1))),
        r"expected logits, but every output row lies in \[0, 1\] and sums to 1.*return_type=probs",
    ),
    "logits said to be probabilities": (
        lambda: explain(task=task(returned="probs")),
        r"expected probabilities \(in \[0, 1\], rows summing to 1\), got values from .*return_type=raw",
    ),
    "logits said to be log-probabilities": (
        lambda: explain(task=task(returned="log_probs")),
        r"expected log-probabilities .*return_type=raw",
    ),
    "probabilities outside [0, 1]": (
        lambda: explain(Returns(lambda out: out.sigmoid() * 1.5), task=task("binary_classification", "probs")),
        r"expected probabilities in \[0, 1\], got values from",
    ),
    "one column as multiclass": (
        lambda: explain(network(1)),
        r"expected two or more output columns for a multiclass task, got 1; is this a binary classifier or a regression\?",
    ),
    # algorithm
    "algorithm unknown": (
        lambda: explain(algorithm="gnnexplainer"),
        r"unknown algorithm 'gnnexplainer'; did you mean 'gnn_explainer'\?",
    ),
    "algorithm of another package": (lambda: explain(algorithm=object()), r"expected an algorithm such as"),
    "hyper-parameter misspelt": (
        lambda: gx.GNNExplainer(epoch=3),
        r"unknown hyper-parameter of GNNExplainer 'epoch'; did you mean 'epochs'\?",
    ),
    "epochs negative": (
        lambda: gx.GNNExplainer(epochs=-1),
        r"expected GNNExplainer\(epochs=\) as a positive integer, got -1",
    ),
    "epochs float": (lambda: gx.GNNExplainer(epochs=10.0), r"expected GNNExplainer\(epochs=\) .* got 10.0"),
    "lr text": (lambda: gx.GNNExplainer(lr="fast"), r"expected GNNExplainer\(lr=\) as a positive number, got 'fast'"),
    "lr infinite": (
        lambda: gx.GNNExplainer(lr=float("inf")),
        r"expected GNNExplainer\(lr=\) as a positive number, got inf",
    ),
    "coefficient negative": (
        lambda: gx.GNNExplainer(edge_size=-1.0),
        r"GNNExplainer\(edge_size=\) as a number of at least",
    ),
    "mask type unknown": (lambda: gx.GNNExplainer(node_mask_type="attribute"), r"as one of 'object', 'attributes', "),
    "no mask at all": (lambda: gx.Saliency(None, None), r"neither node_mask_type nor edge_mask_type, so nothing"),
    "steps zero": (
        lambda: gx.IntegratedGradients(steps=0),
        r"IntegratedGradients\(steps=\) as a positive integer, got 0",
    ),
    "samples zero": (lambda: gx.SmoothGrad(samples=0), r"SmoothGrad\(samples=\) as a positive integer, got 0"),
    "average unknown": (
        lambda: gx.SmoothGrad(average="cube"),
        r"average=\) as one of 'gradient', 'square', got 'cube'",
    ),
    "flag as text": (
        lambda: gx.Saliency(absolute="False"),
        r"Saliency\(absolute=\) as one of True, False, got 'False'",
    ),
    "flag as a number": (lambda: gx.SmoothGrad(absolute=1), r"SmoothGrad\(absolute=\) as one of True, False, got 1"),
    "flag of a metric": (
        lambda: gx.metrics.fidelity(network(), graph(), explain(), absolute="False"),
        r"expected absolute as True or False, got 'False'",
    ),
    "removal unknown": (lambda: gx.EdgeAblation(removal="delete"), r"'message', 'structural', got 'delete'"),
    "objective unknown": (lambda: gx.Saliency(objective="logit"), r"as one of 'margin', .* got 'logit'"),
    # the rest of the call
    "undirected on a directed graph": (
        lambda: explain(data=one_way(), undirected=True),
        r"undirected=True, but .* edges without a reverse; use .*ToUndirected, or undirected='auto'",
    ),
    "undirected unknown": (lambda: explain(undirected="yes"), r"expected undirected=True, False or 'auto', got 'yes'"),
    "batch_budget zero": (
        lambda: explain(batch_budget=0),
        r"expected batch_budget='auto' or a positive number .* got 0",
    ),
    "batch_budget text": (lambda: explain(batch_budget="all"), r"expected batch_budget='auto' .* got 'all'"),
    "seed float": (lambda: explain(seed=0.5), r"expected seed as an integer, got 0.5"),
    # what comes after
    "to_pyg without data": (lambda: _loaded().to_pyg(0), r"expected data= for explanations loaded from disk"),
    "top_edges without edges": (
        lambda: explain(algorithm="node_ablation")[0].top_edges(),
        r"scored no edges; use top_nodes",
    ),
    "top_features without features": (
        lambda: explain(algorithm="random")[0].top_features(),
        r"scored no features; use",
    ),
    "fidelity of other data": (
        lambda: gx.metrics.fidelity(network(), one_way(), explain()),
        r"expected explanations of this data|pass the model and the data that were explained",
    ),
    "fidelity kind": (lambda: gx.metrics.fidelity(network(), graph(), explain(), kind="accuracy"), r"got 'accuracy'"),
}


class Medians(nn.Module):
    """Two layers of medians, which PyG cannot take where the last node of a graph has no neighbour."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = pyg.SAGEConv(4, 8, aggr="median"), pyg.SAGEConv(8, 3, aggr="median")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


class Refuses(nn.Module):
    """A network that raises an error of its own where a condition on its input holds."""

    def __init__(self, condition: Callable[[Tensor, Tensor], bool]) -> None:
        super().__init__()
        self.inner, self.condition = network(), condition

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if self.condition(x, edge_index):
            raise AssertionError
        return self.inner(x, edge_index)


class OnlyOnes(pyg.SAGEConv):
    """A layer that sums ones, and nothing else."""

    def aggregate(self, inputs: Tensor, index: Tensor, ptr: Any = None, dim_size: int | None = None) -> Tensor:
        if bool((inputs != 1).any()):
            raise ValueError("expected ones\nin all messages")
        return super().aggregate(inputs, index, ptr, dim_size)


class Degrees(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = OnlyOnes(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(torch.ones_like(x), edge_index)


def counts() -> Data:
    data = graph()
    data.x = data.x.round()
    return data


def not_counts(x: Tensor, edge_index: Tensor) -> bool:
    return not torch.equal(x, x.round())


def fewer_edges(x: Tensor, edge_index: Tensor) -> bool:
    return edge_index.size(1) * graph().num_nodes < len(x) * graph().num_edges


VALUE = ModelConfig("regression", "graph", "raw")


class Pooled(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return pyg.global_mean_pool(self.inner(x, edge_index)[:, :1], batch)


def test_a_model_that_fails_on_parts_of_its_graph() -> None:
    """It is explained on the whole graph, and a warning says so."""
    data = random_graph(0, 20, 30, undirected=True)
    model = seeded(Medians)().eval()
    with pytest.warns(GnnXaiWarning, match=r"not on computation graphs cut out of it \(IndexError: .*the whole graph"):
        explanations = explain(model, data, gx.Saliency(absolute=False, objective="raw"), index=[1, 2])
    assert explanations.hops.tolist() == [-1, -1]
    x = data.x.clone().requires_grad_()
    out = model(x, data.edge_index)
    for e in explanations:
        (slope,) = torch.autograd.grad(out[e.index, e.target], x, retain_graph=True)
        assert torch.allclose(e.node_mask, slope[e.node_id], atol=1e-6)


def test_a_model_that_fails_without_some_of_its_edges() -> None:
    model, data = Pooled(Refuses(fewer_edges)).eval(), [graph()]
    sentence = r"not without some of its edges or nodes \(AssertionError without a message\); use removal='message'"
    with pytest.raises(InputError, match=sentence):
        explain(model, data, gx.EdgeAblation(), task=VALUE)
    assert float(explain(model, data, gx.EdgeAblation(removal="message"), task=VALUE).edge_mask.abs().max()) > 0


def test_a_model_that_runs_out_of_memory_gets_smaller_batches() -> None:
    """Its error is passed on as it is, so that batches are halved."""
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate"), torch.OutOfMemoryError()):
        sizes = []

        def forward(model: nn.Module, data: Any, error: Exception = error, sizes: list[int] = sizes) -> Tensor:
            sizes.append(data.num_nodes)
            if data.num_nodes > 40:
                raise error
            return model(data.x, data.edge_index)

        found = explain(forward=forward, algorithm="edge_ablation", batch_budget=1000)
        assert max(sizes) > 40
        assert torch.allclose(found.edge_mask, explain(algorithm="edge_ablation").edge_mask, atol=1e-6)


def test_the_reason_of_a_fall_back_is_what_was_raised() -> None:
    """A hook that reads the edges of its layer does not run where fused layers get none."""
    model = network()
    model.convs[0].register_forward_hook(lambda module, args, out: out + 0 * args[1].size(1))
    layers = explain(model, algorithm=gx.EdgeAblation(), index=0).provenance["layers"]
    why = "the fused way raised AttributeError: 'object' object has no attribute 'size'"
    assert [(layer["path"], layer["why"]) for layer in layers] == [("messages", why)] * 2


def _loaded() -> gx.Explanations:
    import dataclasses

    return dataclasses.replace(explain(), data=None)


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, sentence = BAD[name]
    with pytest.raises(GnnXaiError) as raised:
        call()
    message = str(raised.value)
    assert re.search(sentence, message), message
    without_names = re.sub(r" \(known: .*\)$", "", message)  # which grow with the package
    assert len(without_names) < 420, "one sentence, not a page"
    assert "\n" not in message


def test_positions_of_explanations_are_those_of_a_tensor() -> None:
    explanations = explain()
    for select in ([-2, 0], torch.tensor([8, 0]), [position in (0, 8) for position in range(10)]):
        chosen = explanations[select]
        assert sorted(chosen.index.tolist()) == [0, 8]
        for one in chosen:
            assert torch.equal(one.edge_id, explanations[one.index].edge_id)
    assert len(explanations[[]]) == 0
    for wrong in ([10], [-11], [True, False]):
        with pytest.raises(IndexError):
            explanations[wrong]


def test_every_error_is_of_the_family() -> None:
    for error in (InputError, MaskingError, StorageError):
        assert issubclass(error, GnnXaiError)
    assert issubclass(InputError, ValueError)
    assert issubclass(GnnXaiWarning, UserWarning)


def test_an_index_may_hold_duplicates_and_take_any_form() -> None:
    want = explain(index=[3, 1, 3])
    assert want.index.tolist() == [3, 1, 3]
    assert torch.equal(want[0].edge_mask, want[2].edge_mask)
    assert explain(index=3).index.tolist() == [3]
    assert explain(index=range(2, 4)).index.tolist() == [2, 3]
    assert explain(index=slice(8, None)).index.tolist() == [8, 9]
    mask = torch.zeros(10, dtype=torch.bool).index_fill(0, torch.tensor([2, 5]), True)
    assert explain(index=mask).index.tolist() == [2, 5]
    assert explain().index.tolist() == list(range(10))


def test_an_output_squeezed_to_a_number_is_a_row() -> None:
    """`squeeze()` of one node's only column leaves no dimension; a computation graph may be one node."""
    binary = task("binary_classification", "probs")
    want = explain(Returns(torch.sigmoid, 1), task=binary)
    found = explain(Returns(lambda out: out.sigmoid().squeeze(), 1), task=binary)
    assert torch.equal(found.edge_mask, want.edge_mask)


def test_a_model_without_gradient_is_reported() -> None:
    with pytest.warns(GnnXaiWarning, match=r"the model's output carries no gradient .*so all scores are 0"):
        explain(Returns(Tensor.detach))


def test_probabilities_that_may_be_logits_are_asked_about() -> None:
    """One column in [0, 1] said to be logits is possible, so it is a question and no error."""
    with pytest.warns(
        GnnXaiWarning, match=r"all 20 outputs lie in \[0, 1\] but were said to be logits; if they are prob"
    ):
        explain(Returns(torch.sigmoid, 2), task=task("binary_classification"))


# Files ###################################################################################################################


def test_unwritable_output(tmp_path: Path) -> None:
    found = explain(index=0)
    for path in (tmp_path / "missing" / "run.safetensors", tmp_path):
        with pytest.raises(StorageError, match="cannot write .*; choose a folder that exists and is writable"):
            found.save(path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, path = explain(index=0), tmp_path / "run.safetensors"
    found.save(path)
    before = path.read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gnn_xai.results.files.save_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        explain(index=1).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.safetensors"]


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def _write(path: Path, kind: str) -> None:
    good = path.with_name("good.safetensors")
    explain(index=[0, 1]).save(good)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(path.with_name("boom"))))
    elif kind == "torch.save":
        torch.save({"edge_mask": torch.ones(3)}, path)
    elif kind == "text":
        path.write_text("edge_mask,1,2,3\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:-40])
    elif kind == "foreign":
        save_file({"conv.weight": torch.ones(3)}, path)
    elif kind == "newer":
        save_file({"index": torch.ones(3)}, path, metadata={"gnn_xai": json.dumps({"format": 99})})
    elif kind == "no format":
        save_file({"index": torch.ones(3)}, path, metadata={"gnn_xai": json.dumps({})})
    elif kind == "columns missing":
        meta = {"format": 1, "task": [MULTICLASS, "node", "raw"], "signed": True, "removal": "message"}
        meta |= {"node_mask_type": None, "algorithm": {}, "seed": 0, "provenance": {}}
        save_file({"index": torch.ones(3)}, path, metadata={"gnn_xai": json.dumps(meta)})
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("pickle", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
        ("torch.save", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
        ("text", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
        ("empty", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
        ("truncated", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
        ("folder", "is a folder without manifest.json; expected one that explain wrote with out=, or a file by"),
        ("missing", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
        ("foreign", "is safetensors but holds no explanations of this package"),
        ("newer", "has format 99, this version reads up to 2; upgrade gnn_xai"),
        ("no format", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
        ("columns missing", "cannot read .* as explanations: .*; expected a file by Explanations.save"),
    ],
)
def test_load_of_something_else(tmp_path: Path, kind: str, sentence: str) -> None:
    path = tmp_path / "run.safetensors"
    _write(path, kind)
    with pytest.raises(StorageError, match=sentence):
        gx.load(path)
    assert not (tmp_path / "boom").exists(), "the file was unpickled"


@pytest.mark.parametrize("level", ["node", "graph"])
def test_to_pyg_wants_the_data_that_was_explained(level: str) -> None:
    ring = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    data = Data(x=torch.randn(4, 3), edge_index=torch.cat([ring, ring.flip(0)], 1))
    model = pyg.GCN(3, 8, num_layers=2, out_channels=2)
    forward = None
    if level == "graph":
        forward = lambda model, data: pyg.global_add_pool(model(data.x, data.edge_index), data.batch)  # noqa: E731
    given = data if level == "node" else [data, data]
    found = gx.explain(model, given, "saliency", task=level, index=1, forward=forward, progress=False)
    assert found.to_pyg(0, given).edge_mask.shape == (8,)
    smaller = Data(x=data.x[:2], edge_index=data.edge_index[:, :0])
    turned = Data(x=data.x, edge_index=data.edge_index.flip(1))
    for other in (smaller, turned):
        with pytest.raises(InputError, match="expected the data that was explained, got a graph of"):
            found.to_pyg(0, other if level == "node" else [data, other])
    if level == "graph":
        assert found.to_pyg(0, Batch.from_data_list(given)).edge_mask.shape == (8,)
        for short in ([data], Batch.from_data_list([data])):
            with pytest.raises(InputError, match="expected the data that was explained, got a graph of 0 nodes"):
                found.to_pyg(0, short)


@pytest.mark.filterwarnings("ignore:the model sends:gnn_xai.errors.GnnXaiWarning")
@pytest.mark.parametrize("algorithm", ["node_ablation", "saliency", "gnn_explainer"])
def test_a_graph_without_edges_alone_may_have_edge_attributes(algorithm: str) -> None:
    """No graph of the data has an edge, so nothing but a width tells what edges would carry."""
    lonely = Data(x=torch.ones(1, FEATURES), edge_index=torch.zeros(2, 0, dtype=torch.long))
    lonely.edge_attr = torch.zeros(0, 3)
    model = make("gine", "graph", dtype=torch.float32)
    assert len(gx.explain(model, [lonely], algorithm, task="graph", progress=False)) == 1


@pytest.fixture(scope="module")
def no_explanations(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """One explanation, a folder of them, a list, and data."""
    model, data = network(), graph()
    found = explain(model, data, index=[0, 3])
    stored = explain(model, data, index=[0, 3], out=tmp_path_factory.mktemp("stored") / "run")
    return [found[0], stored, [found[0]], data]


@pytest.mark.parametrize("name", gx.metrics.REGISTRY)
def test_metrics_name_what_is_no_explanations(name: str, no_explanations: list[Any]) -> None:
    model, data = network(), graph()
    motifs = torch.zeros(data.num_edges, dtype=torch.long), torch.zeros(10, dtype=torch.long)
    metric = gx.metrics.REGISTRY[name]
    given = {"model": model, "data": data, "ground_truth": gx.GroundTruth(*motifs), "labels": motifs[1]}
    given = {key: value for key, value in given.items() if key in inspect.signature(metric).parameters}
    for other in no_explanations:
        sentence = (
            rf"expected Explanations, got {type(other).__name__}; for a single one pass .* stored.explanations\(\)"
        )
        with pytest.raises(InputError, match=sentence):
            metric(explanations=other, **given)
