"""Steps are repeated by their recorded operations: the same numbers, bit by bit, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data

import gnn_xai as gx
from gnn_xai.core.arrays import recorded
from gnn_xai.core.arrays.recorded import WORTH, Recorded, Recorder, Repetition
from tests.covering import every_value
from tests.models import make, random_graph, random_graphs

pytestmark = pytest.mark.filterwarnings("ignore:the loss of:gnn_xai.errors.GnnXaiWarning")


def run(change: Callable[[Tensor], Tensor], expected: int = WORTH, times: int = 12) -> tuple[Tensor, Repetition]:
    """A state that a step has changed so many times, and what repeated it."""
    state = torch.linspace(-1, 1, 6)

    def step() -> None:
        state.copy_(change(state))

    repetition = Repetition(step, expected)
    repetition.run(times - 4)
    repetition.run(4)
    return state, repetition


def through_a_model(state: Tensor) -> Tensor:
    """Gradients of a model, with a matrix that is filled in place and a factor that does not change."""
    weight = torch.arange(36.0).reshape(6, 6).sin().requires_grad_()
    sums = torch.zeros(6).index_add_(0, torch.tensor([0, 1, 1, 5, 2, 2]), state)
    x = (sums + torch.ones(6).cumsum(0)).requires_grad_()
    (slope,) = torch.autograd.grad((x @ weight).relu().logsumexp(0), x)
    first, second = slope.split(3)
    return state - 0.1 * torch.cat([second, first])


def test_the_same_bits() -> None:
    wanted, plain = run(through_a_model, expected=0)
    state, repetition = run(through_a_model)
    assert plain._recorded is None
    assert repetition._recorded is not None
    assert len(repetition._recorded.state) == 1
    assert torch.equal(state, wanted)


def test_an_optimiser_keeps_its_state() -> None:
    def learned(expected: int) -> Tensor:
        theta = torch.linspace(-1, 1, 6)
        adam = torch.optim.Adam([theta], lr=0.1, fused=True)

        def step() -> None:
            theta.grad = theta.sin()
            adam.step()

        repetition = Repetition(step, expected)
        repetition.run(30)
        assert (repetition._recorded is not None) == (expected >= WORTH)
        return torch.cat([theta, *(v.reshape(-1) for v in adam.state[theta].values())])

    assert torch.equal(learned(30), learned(0))


def test_what_does_not_change_is_computed_once_and_what_nothing_reads_never_again() -> None:
    weight = torch.eye(6)

    def step() -> None:
        fixed = (weight @ weight).sum(1)
        state.mul_(fixed)
        state.exp()

    state, recorder = torch.ones(6), Recorder()
    recorder.record(step)
    repeated = Recorded(recorder)
    names = [name for name, value in repeated._repeat.__globals__.items() if isinstance(value, torch._ops.OpOverload)]
    assert len(names) == 1
    weight.fill_(5.0)
    repeated()
    assert torch.equal(state, torch.ones(6))


calls = 0


def counts(state: Tensor) -> Tensor:
    global calls
    calls += 1
    return state + calls


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "a number": lambda state: state + float(state[0]),
    "a branch": lambda state: state + 1 if state[0] < 5 else state - 100,
    "a list": lambda state: state + state.tolist()[0],
    "a branch on a list": lambda state: state + 1 if state.tolist()[0] < 5 else state - 100,
    "an array": lambda state: state + torch.from_numpy(state.numpy() * 2),
    "an array made of it": lambda state: state + float(np.asarray(state)[0]),
    "flags": lambda state: state + state[state > 0].sum(),
    "places": lambda state: state + len((state > 0).nonzero()),
    "random numbers": lambda state: state + torch.rand(6),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_depends_on_values_is_not_recorded(change: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    wanted, _ = run(change, expected=0)
    torch.manual_seed(0)
    state, repetition = run(change)
    assert repetition._recorded is None
    assert torch.equal(state, wanted)


def test_values_that_do_not_change_may_be_read() -> None:
    fixed = torch.tensor([2.0, 0.0])
    _, repetition = run(lambda state: state * float(fixed[0]) + fixed.tolist()[1] + len(fixed.nonzero()))
    assert repetition._recorded is not None


def test_a_step_that_does_something_else_each_time_is_called_plainly() -> None:
    global calls
    calls = 0
    wanted, _ = run(counts, expected=0)
    calls = 0
    state, repetition = run(counts)
    assert repetition._recorded is None
    assert torch.equal(state, wanted)


def test_an_error_comes_through() -> None:
    def fails(state: Tensor) -> Tensor:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        run(fails)


# Masks ################################################################################################################


class Means(nn.Module):
    """Messages that no plan fuses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SAGEConv(5, 4, aggr="max")
        self.last = pyg.SAGEConv(4, 3, aggr="max")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.last(self.conv(x, edge_index).relu(), edge_index)


def problem(kind: str) -> tuple[nn.Module, Data | list[Data]]:
    if kind == "messages":
        torch.manual_seed(0)
        return Means().double().eval(), random_graph(0, nodes=24, edges=40)
    if kind.startswith("graph"):
        return make("gin", "graph"), random_graphs(4)
    return make(kind, "node"), random_graph(0, nodes=24, edges=40)


@every_value(
    kind=["gcn", "gat", "graphs", "messages"],
    mask=["object", "attributes", "common_attributes", None],
    tol=[None, 0.01],
)
def test_learned_masks_are_the_same_bit_by_bit(
    kind: str, mask: str | None, tol: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[bool] = []
    agrees = Recorded.agrees_with
    monkeypatch.setattr(Recorded, "agrees_with", lambda *args: used.append(agrees(*args)) or used[-1])
    model, data = problem(kind)
    algorithm = gx.GNNExplainer(epochs=40, lr=0.05, node_mask_type=mask, tol=tol)
    options = {"index": [0, 2, 3], "progress": False}
    fast = gx.explain(model, data, algorithm, **options)
    assert used
    assert all(used)
    monkeypatch.setattr(recorded, "WORTH", 1000)
    plain = gx.explain(model, data, algorithm, **options)
    assert torch.equal(fast.edge_mask, plain.edge_mask)
    if mask is not None:
        assert torch.equal(fast.node_mask, plain.node_mask)
