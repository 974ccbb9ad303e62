"""Models as people write them: for one graph at a time, for a fixed number of nodes, and such as write to their input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GraphConv, SAGEConv, global_add_pool

import gnn_xai as gx
from gnn_xai.errors import GnnXaiWarning, InputError
from gnn_xai.testing import random_graph, seeded

VALUE = ModelConfig(mode="regression", task_level="graph", return_type="raw")
NODE_VALUE = ModelConfig(mode="regression", task_level="node", return_type="raw")
ALONE = pytest.mark.filterwarnings("ignore:the model .* one at a time")


def graphs_of(*sizes: int) -> list[Data]:
    return [random_graph(seed, nodes, 2 * nodes, undirected=True) for seed, nodes in enumerate(sizes)]


class Read(nn.Module):
    """A layer, a readout of all nodes that there are, and three classes.

    Args:
        readout: how nodes become one row.
        width: of that row for each of four hidden features.
        places: a vector for each of so many nodes is added to features.
    """

    def __init__(self, readout: Any, width: int = 1, places: int = 0) -> None:
        super().__init__()
        self.readout, self.conv, self.out = readout, GraphConv(4, 4), nn.Linear(4 * width, 3)
        self.place = nn.Parameter(torch.randn(places, 4)) if places else 0.0

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.out(self.readout(self.conv(x + self.place, edge_index).tanh()))


ONE_GRAPH = {
    "mean, no dimension": (lambda: Read(lambda h: h.mean(0)), (5, 6, 7)),
    "maximum": (lambda: Read(lambda h: h.amax(0, keepdim=True)), (5, 6, 7)),
    "flattened": (lambda: Read(lambda h: h.reshape(1, -1), 6), (6, 6, 6)),
    "a vector for each place": (lambda: Read(lambda h: h.sum(0), places=6), (6, 6)),
    "one graph": (lambda: Read(lambda h: h.mean(0)), (6,)),
}


@ALONE
@pytest.mark.parametrize("case", ONE_GRAPH)
def test_models_for_one_graph(case: str) -> None:
    """Each graph gets what it gets alone, whatever the number of graphs is (three, as many as classes, among them)."""
    make, sizes = ONE_GRAPH[case]
    model, graphs = seeded(make)(), graphs_of(*sizes)
    for data in (graphs, Batch.from_data_list(graphs)):
        found = gx.explain(model, data, gx.EdgeAblation(objective="raw"), target=1, undirected=False, progress=False)
        for e, graph in zip(found, graphs, strict=True):
            full = model(graph.x, graph.edge_index).detach().flatten()
            assert e.prediction.tolist() == pytest.approx(full.tolist(), abs=1e-5)
            for edge, score in enumerate(e.edge_mask.tolist()):
                others = graph.edge_index[:, torch.arange(graph.num_edges) != edge]
                left = model(graph.x, others).detach().flatten()
                assert score == pytest.approx(float(full[1] - left[1]), abs=1e-5)


def test_models_for_one_graph_say_so() -> None:
    """The user hears that nothing runs in batches."""
    model = seeded(lambda: Read(lambda h: h.mean(0)))()
    with pytest.warns(GnnXaiWarning, match="one at a time, which is slow"):
        gx.explain(model, graphs_of(5, 6), "saliency", progress=False)


@ALONE
@pytest.mark.parametrize("algorithm", [gx.NodeAblation, gx.FragmentAblation], ids=lambda a: a.__name__)
def test_nodes_that_cannot_leave(algorithm: Any) -> None:
    """The refusal names a removal that works; fixed places and flattened nodes alike."""
    for case in ("flattened", "a vector for each place"):
        make, sizes = ONE_GRAPH[case]
        model, graphs = seeded(make)(), graphs_of(*sizes)
        with pytest.raises(InputError, match="removal='message'"):
            gx.explain(model, graphs, algorithm(), progress=False)
        assert gx.explain(model, graphs, algorithm(removal="message"), progress=False).node_mask.isfinite().all()


@ALONE
def test_samples_on_one_graph() -> None:
    """`forward=` gives samples the dimension that the model wants."""

    class Samples(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = SAGEConv(4, 3), nn.Linear(18, 2)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.out(self.conv(x, edge_index).tanh().flatten(1))

    base, model = graphs_of(6)[0], seeded(Samples)()
    samples = [Data(x=base.x * scale, edge_index=base.edge_index) for scale in (1.0, -2.0)]
    found = gx.explain(
        model,
        samples,
        gx.Saliency(absolute=False),
        forward=lambda model, data: model(data.x.unsqueeze(0), data.edge_index),
        progress=False,
    )
    for e, data in zip(found, samples, strict=True):
        assert e.prediction.tolist() == pytest.approx(model(data.x[None], data.edge_index)[0].tolist(), abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_outputs_of_nodes_are_no_row_of_a_graph() -> None:
    """As many numbers as nodes are more likely those of the nodes; other numbers of columns cannot be one model's."""

    class OfNodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GraphConv(4, 1)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index).squeeze(1)

    model = seeded(OfNodes)()
    for graphs in (graphs_of(5), graphs_of(5, 6)):
        with pytest.raises(InputError, match="is this a graph-level model"):
            gx.explain(model, graphs, "saliency", task=VALUE, target=0, progress=False)


# Models that write to their input ####################################################################################


class Writes(nn.Module):
    """Changes one attribute of its input, each in a way that it is often done."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.first, self.last = what, GraphConv(4, 4), GraphConv(4, 1)

    def forward(self, data: Any) -> Tensor:
        if self.what == "edge_weight in place":
            data.edge_weight.mul_(2)
        if self.what == "x in place":
            data.x += 1
        if self.what == "x":
            data.x = data.x + 1
        if self.what == "edges":
            data.edge_index, data.edge_weight = data.edge_index.flip(1), data.edge_weight.flip(0)
        if self.what == "shared":
            data.scale.mul_(2)
        if self.what == "to_data_list":
            data = Batch.from_data_list(data.to_data_list())
        h = self.first(data.x, data.edge_index, data.edge_weight).tanh()
        return global_add_pool(self.last(h, data.edge_index, data.edge_weight), data.batch)


@pytest.mark.parametrize("what", ["edge_weight in place", "x in place", "x", "edges", "shared", "to_data_list"])
@pytest.mark.parametrize("algorithm", [gx.EdgeAblation(), gx.IntegratedGradients(steps=4)], ids=lambda a: a.name)
def test_models_that_write_to_their_input(what: str, algorithm: Any) -> None:
    """Every run starts from the data: predictions and scores are those of the same model that writes nothing, and the data
    are as they were.
    """
    graphs = graphs_of(5, 6, 4)
    for data in graphs:
        data.edge_weight = torch.rand(data.num_edges, generator=torch.Generator().manual_seed(data.num_nodes))
        data.scale = torch.ones(())
    before = [data.clone() for data in graphs]
    found = gx.explain(seeded(lambda: Writes(what))(), graphs, algorithm, task=VALUE, undirected=False, progress=False)
    for data, other in zip(graphs, before, strict=True):
        assert all(torch.equal(data[key], other[key]) for key in ("x", "edge_index", "edge_weight", "scale"))
        data.edge_weight = data.edge_weight * (2 if what == "edge_weight in place" else 1)
    model, shift = seeded(lambda: Writes("nothing"))(), float(what in ("x", "x in place"))
    if shift:
        by_hand = lambda model, data: model(Batch(**{**data.to_dict(), "x": data.x + 1}))  # noqa: E731
        wanted = gx.explain(model, graphs, algorithm, task=VALUE, undirected=False, progress=False, forward=by_hand)
    else:
        wanted = gx.explain(model, graphs, algorithm, task=VALUE, undirected=False, progress=False)
    assert torch.allclose(found.prediction, wanted.prediction, atol=1e-5)
    assert torch.allclose(found.edge_mask, wanted.edge_mask, atol=1e-5)


def test_tensors_that_the_model_writes_to_now_and_then() -> None:
    """What was not written to at first, and is later, is refused."""

    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.calls = GraphConv(4, 1), 0

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 30:
                edge_weight.mul_(2)
            return self.conv(x, edge_index, edge_weight)

    data = graphs_of(12)[0]
    data.edge_weight = torch.ones(data.num_edges)
    with pytest.raises(InputError, match=r"writes to data.edge_weight in place; let forward compute a new tensor"):
        gx.explain(seeded(Sometimes)(), data, "edge_ablation", task=NODE_VALUE, batch_budget=1, progress=False)
