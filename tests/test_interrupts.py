"""Whatever line of the package Ctrl-C falls on, the model is what it was, also while somebody holds the traceback."""

import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch_geometric.data import Data
from torch_geometric.utils import softmax

import gnn_xai as gx
from gnn_xai.core.model.restoring import untouched
from gnn_xai.core.model.rules import Rules
from gnn_xai.testing.comparing import require_state, state_of

ENDS = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])
DATA = Data(x=torch.arange(24.0).reshape(6, 4).sin(), edge_index=torch.cat([ENDS, ENDS.flip(0)], 1))


class Net(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.first, self.norm, self.act, self.last = layer(4, 5), nn.BatchNorm1d(5), nn.ReLU(), layer(5, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.last(self.act(self.norm(self.first(x, edge_index))), edge_index)


def network(layer: Any) -> Net:
    """A model in training mode, whose parameters have gradients."""
    torch.manual_seed(0)
    model = Net(layer).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def state(model: nn.Module) -> dict[str, Any]:
    """What an explanation may change of a model and of the process, and has to put back.

    PyTorch itself takes a mode away while it runs, and puts it back when the traceback goes: ours replace nothing by then.
    """
    modes = [mode for mode in _get_current_function_mode_stack() if not isinstance(mode, Rules) or mode.rules]
    modules = [vars(module) for name, module in sys.modules.items() if name.startswith("torch_geometric.nn.conv.")]
    return state_of(model, DATA) | {
        "softmax of layers": [names["softmax"] is softmax for names in modules if "softmax" in names],
        "modes": (len(modes), torch._C._len_torch_dispatch_stack()),
    }


class Interrupt:
    """Raises KeyboardInterrupt at one line of the package, or of what opens and closes contexts; counts them without."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count = at, 0

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if "gnn_xai" not in name and "contextlib" not in name and "_python_dispatch" not in name:
            return None
        if event in ("call", "line"):
            self.count += 1
            if self.count == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def explained(model: nn.Module, algorithm: Any, interrupt: Interrupt) -> BaseException | None:
    """Explain under an interrupt; what was raised, which holds all frames."""
    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        gx.explain(model, DATA, algorithm, index=[1], progress=False)
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
    return None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a generator that was closed by Ctrl-C
@pytest.mark.parametrize(
    ("layer", "algorithm"),
    [
        (pyg.GCNConv, gx.Saliency()),
        (pyg.SAGEConv, gx.GNNExplainer(epochs=1)),
        (pyg.GATConv, gx.EdgeAblation()),
        (pyg.GATConv, gx.Attention()),
        (pyg.GCNConv, gx.LRP()),
        (pyg.SAGEConv, gx.GradCAM()),
        (pyg.GraphConv, gx.Captum("GuidedBackprop")),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", None)),
)
@pytest.mark.parametrize("count", [12, pytest.param(1_500, marks=pytest.mark.full)])
def test_interrupted_anywhere(count: int, layer: Any, algorithm: Any) -> None:
    model, draw = network(layer), random.Random(0)
    before, whole = state(model), Interrupt()
    explained(model, algorithm, whole)
    require_state(before, state(model), "after all")
    few = min(whole.count, 1_500)  # contexts are opened early and closed late
    ways = [lambda: draw.randrange(whole.count), lambda: draw.randrange(few), lambda: whole.count - draw.randrange(few)]
    for number in range(count):
        at = ways[number % 3]()
        error = explained(model, algorithm, Interrupt(at))
        require_state(before, state(model), f"interrupted at {at}")
        del error


@pytest.mark.parametrize("at", range(1, 130, 3))
def test_interrupted_while_a_model_is_changed(at: int) -> None:
    """Each line of making the model ready, and of putting it back."""
    model = network(pyg.GCNConv)
    before, trace, error = state(model), sys.gettrace(), None
    sys.settrace(Interrupt(at))
    try:
        with untouched(model) as evaluating, evaluating:
            model.last.register_forward_hook(print)
            model.norm.running_mean.add_(1.0)
            np.random.rand()  # noqa: NPY002
    except KeyboardInterrupt as caught:
        error = caught
    finally:
        sys.settrace(trace)
    require_state(before, state(model), "after all")
    del error


def test_backward_of_the_models_own() -> None:
    """A model that calls `backward()` in its forward pass finds no gradients to add to."""

    class Backward(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            with torch.enable_grad():
                super().forward(x.detach(), edge_index).sum().backward()
            return super().forward(x, edge_index)

    torch.manual_seed(0)
    model = Backward(pyg.GCNConv)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state(model)
    gx.explain(model, DATA, gx.EdgeAblation(), index=[1], progress=False)
    require_state(before, state(model), "after all")
