"""The mask-optimisation engine: when an instance is done, and repeating a step."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import gnn_xai as gx
from gnn_xai import api
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
    monkeypatch.setattr(
        engine._Batch, "learn", lambda self, n, tell: (sizes.append(len(self.replicas)), learn(self, n, tell))[1]
    )
    model, data = problem("node")
    gx.explain(model, data, gx.GNNExplainer(epochs=300, tol=0.01, node_mask_type=None), progress=False)
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < sizes[-1] < sizes[0]


def test_without_tol_every_instance_takes_all_epochs() -> None:
    model, data = problem("node")
    assert "epochs" not in gx.explain(model, data, gx.GNNExplainer(epochs=3), index=0, progress=False).extras
    with pytest.raises(InputError, match="tol"):
        gx.GNNExplainer(tol=-1.0)


class Shown:
    """What a progress bar showed, every time that it moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: list[float] = []
        self.texts: list[str] = []
        update = api._Bar.update

        def noted(bar: Any, more: float = 1) -> None:
            update(bar, more)
            self.at.append(bar.n)
            self.texts.append(str(bar))

        monkeypatch.setattr(api._Bar, "update", noted)


@pytest.mark.parametrize("options", [{}, {"restarts": 2}, {"tol": 0.01}], ids=str)
def test_the_bar_moves_from_epoch_to_epoch(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, (model, data) = Shown(monkeypatch), problem("node")
    gx.explain(model, data, gx.GNNExplainer(epochs=25, **options), index=[0], progress=True)
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(shown.at))
    assert shown.at[-1] == 1
    assert len(set(shown.at)) >= 25
    assert any(" 48%" in text and "| 0/1 [" in text for text in shown.texts)
    assert "100%" in shown.texts[-1]
    assert "| 1/1 [" in shown.texts[-1]


def test_the_bar_goes_back_when_a_batch_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    learn, failures = engine._Run.learn, [torch.OutOfMemoryError("no more")]

    def failing(self: engine._Run, select: torch.Tensor, tell: Any) -> None:
        if failures:
            for _ in range(10):
                tell()
            raise failures.pop()
        learn(self, select, tell)

    monkeypatch.setattr(engine._Run, "learn", failing)
    shown, (model, data) = Shown(monkeypatch), problem("node")
    gx.explain(model, data, gx.GNNExplainer(epochs=20), index=[0, 1], progress=True)
    assert shown.at[9:11] == pytest.approx([1.0, 0.0])
    assert shown.at[-1] == 2


@pytest.mark.parametrize("times", [1, 5, 40])
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is present"))],
)
def test_a_step_is_repeated_so_many_times(device: str, times: int) -> None:
    count = torch.zeros((), device=device)
    told: list[int] = []
    repeat_step(lambda: count.add_(1), times, count.device, lambda: told.append(1))
    assert int(count) == times == len(told)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is present")
def test_a_step_that_cannot_be_recorded_is_repeated_plainly() -> None:
    count = torch.zeros((), device="cuda")

    def step() -> None:
        count.add_(1)
        float(count)  # makes the host wait, which a recording cannot

    told: list[int] = []
    repeat_step(step, 40, count.device, lambda: told.append(1))
    assert int(count) == 40 == len(told)
