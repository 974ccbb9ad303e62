"""Everything happens on the device that the model is on."""

from __future__ import annotations

import inspect
from contextlib import contextmanager, nullcontext
from functools import cache

import pytest
import torch
from torch_geometric.data import Batch

import gnn_xai as gx
from gnn_xai import testing
from gnn_xai.core.model.restoring import untouched
from tests.covering import every_value, pairwise
from tests.ready import READY

VARIANTS = [
    *(gx.algorithms.get(name) for name in READY if name != "gnn_explainer"),
    gx.GNNExplainer(epochs=3, node_mask_type="object"),
    gx.GNNExplainer(epochs=3, node_mask_type="attributes", restarts=2),
    gx.GNNExplainer(epochs=3, node_mask_type="common_attributes"),
    gx.EdgeAblation(removal="message"),
]


def question(level: str):
    if level == "codes":
        case = testing.CASES["gin_codes"]
        return case.model(), case.data(), case.task
    ds = gx.datasets.load("karate" if level == "node" else "nci_nitro")
    data = ds.data if level == "node" else [ds.data[i] for i in ds.index[:4].tolist()]
    return ds.model, data, ds.task


@pytest.fixture(autouse=True)
def _pyg_collates_on_the_cpu(monkeypatch):
    """PyG makes tensors on the default device, whichever that is; its part is not ours to test."""
    collate = Batch.from_data_list

    def from_data_list(*args, **options):
        with torch.device("cpu"):
            return collate(*args, **options)

    monkeypatch.setattr(Batch, "from_data_list", from_data_list)


@every_value(algorithm=VARIANTS, level=["node", "graph", "codes"])
def test_no_tensor_is_made_on_the_default_device(monkeypatch, algorithm, level):
    """With `meta` as default device, a tensor made without `device=` cannot be mixed with the data: so would it be with a
    model on a GPU.
    """

    @contextmanager
    def elsewhere(model):
        with untouched(model) as evaluating, evaluating, torch.device("meta"):
            yield nullcontext()

    monkeypatch.setattr("gnn_xai.api.untouched", elsewhere)
    monkeypatch.setattr("gnn_xai.metrics.evaluation.untouched", elsewhere)
    model, data, task = question(level)
    found = gx.explain(model, data, algorithm, task=task, index=range(4), progress=False)
    gx.metrics.fidelity(model, data, found, top=2)
    with torch.device("meta"):
        assert len(found[1:3]) == 2
        assert len(found[[0, 3]]) == 2
        e = found[2]
        assert e.extras is not None
        if e.edge_mask is not None:
            assert len(e.top_edges(3)) == 3
            assert e.node_scores is not None


@cache
def measured(dataset: str):
    """A data set and explanations of it, which metrics read."""
    ds = gx.datasets.load(dataset)
    return ds, gx.explain(ds.model, ds.data, "random", task=ds.task, index=ds.index[:4], progress=False)


@every_value(dataset=["ba_shapes", "nci_nitro"], name=list(gx.metrics.REGISTRY))
def test_metrics_make_no_tensor_on_the_default_device(name, dataset):
    ds, found = measured(dataset)
    labels = ds.data.y if dataset == "ba_shapes" else torch.stack([graph.y.reshape(()) for graph in ds.data])
    has = {"model": ds.model, "data": ds.data, "explanations": found, "ground_truth": ds.ground_truth, "labels": labels}
    takes = inspect.signature(gx.metrics.REGISTRY[name]).parameters
    with torch.device("meta"):
        result = gx.metrics.REGISTRY[name](**{key: value for key, value in has.items() if key in takes})
        repr(result)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pairwise(algorithm=VARIANTS, level=["node", "graph", "codes"])
def test_cuda_gives_what_the_cpu_gives(algorithm, level):
    model, data, task = question(level)
    here = gx.explain(model, data, algorithm, task=task, index=range(4), progress=False)
    there = gx.explain(model.to("cuda"), data, algorithm, task=task, index=range(4), progress=False)
    again = gx.explain(model, data, algorithm, task=task, index=range(4), progress=False)
    model.to("cpu")
    assert there.index.is_cuda
    for name in ("edge_mask", "node_mask", "prediction", "prediction_masked"):
        one, other, repeated = (getattr(found, name) for found in (here, there, again))
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(other.cpu(), one, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(repeated, other, atol=1e-5, rtol=1e-5)
