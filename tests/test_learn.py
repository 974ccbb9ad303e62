"""The mask-optimisation engine: when an instance is done, and repeating a step."""

from __future__ import annotations

import pytest
import torch

import gnn_xai as gx
from gnn_xai.core.arrays.cuda_graph import repeat_step
from gnn_xai.core.engines import learn as engine
from gnn_xai.errors import InputError
from tests.covering import every_value
from tests.models import make, random_graph, random_graphs

pytestmark = pytest.mark.filterwarnings("ignore:the loss of:gnn_xai.errors.GnnXaiWarning")  # an isolated node

KINDS = ["object", "attributes", "common_attributes", None]


def problem(level: str):
    if level == "node":
        return make("gcn", "node"), random_graph(0, nodes=12, edges=20)
    return make("gin", "graph"), random_graphs(4)


@every_value(level=["node", "graph"], kind=list(KINDS))
def test_an_instance_that_is_done_has_the_masks_of_so_many_epochs(level: str, kind: str | None) -> None:
    model, data = problem(level)
    options = {"node_mask_type": kind, "loss": "margin"}
    found = gx.explain(model, data, gx.GNNExplainer(epochs=200, tol=0.01, **options), progress=False)
    epochs = found.extras["epochs"].tolist()
    assert min(epochs) < 200
    for i in (0, len(epochs) // 2, len(epochs) - 1):
        alone = gx.explain(model, data, gx.GNNExplainer(epochs=epochs[i], **options), index=i, progress=False)
        assert torch.allclose(found[i].edge_mask, alone[0].edge_mask, atol=1e-9)
        if kind is not None:
            assert torch.allclose(found[i].node_mask, alone[0].node_mask, atol=1e-9)


def test_instances_that_are_done_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    learn = engine._Batch.learn
    monkeypatch.setattr(engine._Batch, "learn", lambda self, n: (sizes.append(len(self.replicas)), learn(self, n))[1])
    model, data = problem("node")
    gx.explain(model, data, gx.GNNExplainer(epochs=300, tol=0.01, node_mask_type=None), progress=False)
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < sizes[-1] < sizes[0]


def test_without_tol_every_instance_takes_all_epochs() -> None:
    model, data = problem("node")
    assert "epochs" not in gx.explain(model, data, gx.GNNExplainer(epochs=3), index=0, progress=False).extras
    with pytest.raises(InputError, match="tol"):
        gx.GNNExplainer(tol=-1.0)


@pytest.mark.parametrize("times", [1, 5, 40])
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is present"))],
)
def test_a_step_is_repeated_so_many_times(device: str, times: int) -> None:
    count = torch.zeros((), device=device)
    repeat_step(lambda: count.add_(1), times, count.device)
    assert int(count) == times


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is present")
def test_a_step_that_cannot_be_recorded_is_repeated_plainly() -> None:
    count = torch.zeros((), device="cuda")

    def step() -> None:
        count.add_(1)
        float(count)  # makes the host wait, which a recording cannot

    repeat_step(step, 40, count.device)
    assert int(count) == 40
