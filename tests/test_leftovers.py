"""A model that others have worked on gives what a fresh copy of it gives, on the same path; or one sentence says why not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch_geometric import nn as pyg
from torch_geometric.explain import (
    AttentionExplainer,
    CaptumExplainer,
    Explainer,
    GNNExplainer,
    GraphMaskExplainer,
    PGExplainer,
)
from torch_geometric.explain.algorithm.utils import set_masks
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.models.captum import to_captum_model

import gnn_xai as gx
from gnn_xai.core.inputs import hooks
from gnn_xai.errors import GnnXaiWarning, InputError
from gnn_xai.testing import Network, distance, random_graph, seeded

GRAPH = random_graph(0, 20, 30, undirected=True)
EDGES = GRAPH.num_edges
ALGORITHMS = [gx.EdgeAblation(), gx.GNNExplainer(epochs=3), gx.Saliency()]
pytestmark = pytest.mark.filterwarnings(
    "ignore:Converting a tensor with requires_grad:UserWarning"
)  # of PyG's explainers
CONFIG = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}


class Interrupted(Exception):
    """Raised in the middle of another explainer's run."""


class Fragile(Network):
    """A network that raises in its n-th forward pass from now, where `left` is set."""

    left: int | None = None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out = super().forward(x, edge_index)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Interrupted
        return out


def network(kind: Any = pyg.GCNConv) -> Fragile:
    return seeded(lambda: Fragile([kind(4, 8), kind(8, 3)]))()


def explainer(model: nn.Module, algorithm: Any, **options: Any) -> Explainer:
    masks = {"explanation_type": "model", "edge_mask_type": "object", "model_config": CONFIG}
    return Explainer(model, algorithm, **{**masks, **options})


def pyg_gnn_explainer(model: nn.Module) -> None:
    explainer(model, GNNExplainer(epochs=3), node_mask_type="attributes")(GRAPH.x, GRAPH.edge_index, index=3)


def pyg_pg_explainer(model: nn.Module) -> None:
    algorithm = PGExplainer(epochs=2)
    made = explainer(model, algorithm, explanation_type="phenomenon")
    target = torch.arange(20) % 3
    for epoch in range(2):
        algorithm.train(epoch, model, GRAPH.x, GRAPH.edge_index, target=target, index=3)
    made(GRAPH.x, GRAPH.edge_index, target=target, index=3)


def pyg_captum_explainer(model: nn.Module) -> None:
    pytest.importorskip("captum")
    made = explainer(model, CaptumExplainer("IntegratedGradients", n_steps=3), node_mask_type="attributes")
    made(GRAPH.x, GRAPH.edge_index, index=3)


def pyg_graph_mask(model: nn.Module) -> None:
    made = explainer(model, GraphMaskExplainer(2, epochs=2, log=False), node_mask_type="attributes")
    made(GRAPH.x, GRAPH.edge_index, index=3)


def pyg_attention(model: nn.Module) -> None:
    explainer(model, AttentionExplainer())(GRAPH.x, GRAPH.edge_index, index=3)


OTHERS = {
    "GNNExplainer": pyg_gnn_explainer,
    "PGExplainer": pyg_pg_explainer,
    "CaptumExplainer": pyg_captum_explainer,
    "GraphMaskExplainer": pyg_graph_mask,
}


def paths(found: gx.Explanations) -> list[tuple[str, str]]:
    return [(layer["path"], layer.get("why", "")) for layer in found.provenance["layers"]]


def require_same(model: nn.Module, fresh: nn.Module, altered: bool = False) -> None:
    """Explain both; the same numbers, the same way through the layers, and the model is left as it was."""
    for algorithm in ALGORITHMS:
        before = said(model)
        state = everything(model)
        want = gx.explain(fresh, GRAPH, algorithm, index=[1, 2, 3], progress=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = gx.explain(model, GRAPH, algorithm, index=[1, 2, 3], progress=False)
        messages = [str(warning.message) for warning in caught if issubclass(warning.category, GnnXaiWarning)]
        assert ["left on it" in message for message in messages] == [True] * altered, messages
        assert paths(found) == paths(want)
        assert distance(found.prediction, want.prediction) < 1e-6
        assert distance(found.edge_mask, want.edge_mask) < 1e-6
        assert everything(model) == state
        assert said(model) == before


def everything(model: nn.Module) -> list[Any]:
    """What modules hold, by identity, and in which order their hooks run."""
    held = []
    for module in model.modules():
        state = {name: id(value) for name, value in vars(module).items() if not callable(value)}
        held.append((state, sorted(vars(module)), [list(v) for k, v in vars(module).items() if k.endswith("_hooks")]))
    return held


def said(model: nn.Module) -> Any:
    """What the model predicts on its own, or the error in which it ends."""
    try:
        with torch.no_grad():
            return model(GRAPH.x, GRAPH.edge_index).tolist()
    except Exception as error:
        return repr(error)


@pytest.mark.parametrize("other", OTHERS)
def test_after_an_explainer_of_pyg(other: str) -> None:
    model = network()
    OTHERS[other](model)
    assert any("propagate" in vars(module) for module in model.modules())
    require_same(model, network(), altered=other == "GraphMaskExplainer")


@pytest.mark.parametrize("at", [2, 3])
@pytest.mark.parametrize("other", OTHERS)
def test_after_an_interrupted_explainer_of_pyg(other: str, at: int) -> None:
    model = network()
    model.left = at
    with pytest.raises(Interrupted):
        OTHERS[other](model)
    model.left = None
    masked = any(module.explain for module in model.modules() if isinstance(module, MessagePassing))
    require_same(model, network(), altered=masked)
    assert masked or other in ("GNNExplainer", "PGExplainer")


def test_a_prediction_that_a_leftover_alters_is_that_of_a_fresh_copy() -> None:
    """Masks left by an interrupted run, and GraphMask, which always leaves its own messages."""
    fresh = network()
    with torch.no_grad():
        want = fresh(GRAPH.x, GRAPH.edge_index)
    for spoil in (pyg_graph_mask, lambda model: set_masks(model, torch.zeros(EDGES), GRAPH.edge_index)):
        model = network()
        spoil(model)
        with torch.no_grad():
            assert distance(model(GRAPH.x, GRAPH.edge_index), want) > 1e-2
        with pytest.warns(
            GnnXaiWarning, match=r"convs.0 \(GCNConv\), convs.1 \(GCNConv\) carries what another explainer"
        ):
            found = gx.explain(model, GRAPH, "saliency", progress=False)
        assert distance(found.prediction, want) < 1e-6
        with pytest.warns(GnnXaiWarning, match="left on it"):  # metrics run the model that was explained
            assert gx.metrics.fidelity(model, GRAPH, found, top=3).plus.count == 20


def test_the_way_that_the_warning_names_cleans_the_model() -> None:
    from torch_geometric.explain.algorithm.utils import clear_masks

    model = network()
    pyg_graph_mask(model)
    clear_masks(model)
    require_same(model, network())


def test_messages_of_explain_that_are_not_known() -> None:
    """Nothing tells whether a fresh copy would run them, so they are refused, and the way that is named works."""
    model = network()
    layer = model.convs[0]

    def explain_message(self: MessagePassing, inputs: Tensor) -> Tensor:
        return inputs * 0.5

    layer.explain_message = explain_message.__get__(layer, MessagePassing)
    gx.explain(model, GRAPH, "saliency", index=0, progress=False)  # never called, so it changes nothing
    layer.explain = True
    with pytest.raises(
        InputError, match=r"convs.0 \(GCNConv\) has explain=True and an explain_message of its own.*= None"
    ):
        gx.explain(model, GRAPH, "saliency", progress=False)
    assert layer.explain is True
    layer.explain = None
    require_same(model, network())


class Halved(pyg.GCNConv):
    """A layer whose class says what happens to messages that are explained."""

    def explain_message(self, inputs: Tensor) -> Tensor:
        return inputs * 0.5


def test_messages_of_explain_in_a_class() -> None:
    model = network(Halved)
    require_same(network(Halved), model)
    for conv in model.convs:
        conv.explain = True
    with pytest.raises(InputError, match="explain_message of its own"):
        gx.explain(model, GRAPH, "saliency", progress=False)


@pytest.mark.parametrize("kind", [pyg.GATConv, pyg.GATv2Conv, pyg.TransformerConv])
def test_after_the_attention_explainer(kind: Any) -> None:
    model = network(kind)
    pyg_attention(model)
    require_same(model, network(kind))
    model.left = 2
    with pytest.raises(Interrupted):
        pyg_attention(model)
    model.left = None
    assert all(conv._message_forward_hooks for conv in model.convs)
    require_same(model, network(kind))


def mask_attributes(model: nn.Module) -> nn.Module:
    """What a run leaves when nobody sets `explain` back to what it was, but for `explain` itself."""
    for conv in model.convs:
        conv._edge_mask, conv._loop_mask = torch.zeros(EDGES), torch.ones(EDGES, dtype=torch.bool)
        conv._apply_sigmoid = False
    return model


def switched_off(model: nn.Module) -> nn.Module:
    for conv in model.convs:
        conv.explain = False
    return model


def switched_twice(model: nn.Module) -> nn.Module:
    set_masks(model, nn.Parameter(torch.zeros(EDGES)), GRAPH.edge_index)
    return switched_off(model)


def wrapped_by_captum(model: nn.Module) -> nn.Module:
    attributions = pytest.importorskip("captum.attr")
    wrapped = to_captum_model(model, "edge", output_idx=3)
    mask = torch.ones(1, EDGES, requires_grad=True)
    attributions.Saliency(wrapped).attribute(mask, target=0, additional_forward_args=(GRAPH.x, GRAPH.edge_index))
    return wrapped.model


@pytest.mark.parametrize("spoil", [mask_attributes, switched_off, switched_twice, wrapped_by_captum])
def test_attributes_that_change_nothing(spoil: Callable[[nn.Module], nn.Module]) -> None:
    require_same(spoil(network()), network())
    require_same(copy.deepcopy(spoil(network())), network())


def test_hooks_of_captum() -> None:
    """They alter outputs and gradients, and are taken off for the time being."""
    captum = pytest.importorskip("captum._utils.gradient")
    hook = lambda module, args, out: out * 0  # noqa: E731
    hook.__module__ = captum.__name__
    model = network()
    order = []
    model.convs[0].register_forward_hook(lambda *_: order.append("first"))
    model.convs[0].register_forward_hook(hook)
    model.convs[0].register_forward_hook(lambda *_: order.append("last"))
    require_same(model, network(), altered=True)
    order.clear()
    said(model)
    assert order == ["first", "last"]


def test_a_propagate_of_the_users_own_is_run_and_named() -> None:
    model, layer = network(), None
    for conv in model.convs:
        layer = conv
        kept = type(conv).propagate
        conv.propagate = lambda *a, kept=kept, conv=conv, **k: 2 * kept(conv, *a, **k)
    assert layer is not None
    found = gx.explain(model, GRAPH, gx.EdgeAblation(), index=[1, 2], progress=False)
    assert paths(found) == [("messages", "its propagate was replaced")] * 2
    with torch.no_grad():
        assert distance(found.prediction, model(GRAPH.x, GRAPH.edge_index)[1:3]) < 1e-6


# Hooks and parametrisations ##########################################################################


def scaled_after(model: nn.Module) -> nn.Module:
    model.convs[0].register_forward_hook(lambda module, args, out: out * 0.5)
    model.convs[1].lin.register_forward_hook(lambda module, args, out: out + 1)
    return model


def scaled_before(model: nn.Module) -> nn.Module:
    model.convs[0].register_forward_pre_hook(lambda module, args: (args[0] * 0.5, *args[1:]))
    return model


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrised(model: nn.Module) -> nn.Module:
    parametrize.register_parametrization(model.convs[0].lin, "weight", Doubled())
    return model


def weight_norm(model: nn.Module) -> nn.Module:
    parametrizations.weight_norm(model.convs[0].lin)
    return model


def weight_norm_by_hook(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.convs[0].lin)
    return model


def spectral_norm(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    parametrizations.spectral_norm(model.convs[0].lin)
    return model


def spectral_norm_by_hook(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    nn.utils.spectral_norm(model.convs[0].lin)
    return model


def pruned(model: nn.Module) -> nn.Module:
    for conv in model.convs:
        prune.l1_unstructured(conv.lin, "weight", 0.5)
    return model


CHANGES = [
    scaled_after,
    scaled_before,
    parametrised,
    weight_norm,
    weight_norm_by_hook,
    spectral_norm,
    spectral_norm_by_hook,
    pruned,
]


def linear_gcn(model: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """The weights and biases with which a changed network of two GCN layers computes in its last pass."""
    said(model)
    return [(conv.lin.weight.detach().clone(), conv.bias.detach().clone()) for conv in model.convs]


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_was_changed_is_explained_as_changed(change: Callable[[nn.Module], nn.Module]) -> None:
    """Fused as before, with the numbers of a plain model of the same weights, and left as it was."""
    model = change(network()).eval()
    require_same(model, change(network()).eval())
    found = gx.explain(model, GRAPH, gx.EdgeAblation(removal="message"), progress=False)
    assert {path for path, _ in paths(found)} == {"fused"}
    with torch.no_grad():
        want = model(GRAPH.x, GRAPH.edge_index)
    assert distance(found.prediction, want) < 1e-5
    if change in (scaled_after, scaled_before):
        return
    plain = network()
    for conv, (weight, bias) in zip(plain.convs, linear_gcn(model), strict=True):
        conv.lin.weight.data, conv.bias.data = weight, bias
    assert distance(said_tensor(plain), want) < 1e-6
    for algorithm in ALGORITHMS:
        one, other = (gx.explain(m, GRAPH, algorithm, index=[1, 2], progress=False) for m in (model, plain))
        assert distance(one.edge_mask, other.edge_mask) < 1e-5


def said_tensor(model: nn.Module) -> Tensor:
    return torch.tensor(said(model))


# Where the call stands ###############################################################################


def test_inside_autocast() -> None:
    """The model computes in the precision that it has outside; half precision would hide what is measured."""
    for algorithm in ALGORITHMS:
        want = gx.explain(network(), GRAPH, algorithm, index=[1, 2], progress=False)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = gx.explain(network(), GRAPH, algorithm, index=[1, 2], progress=False)
            plus = gx.metrics.fidelity(network(), GRAPH, found, top=3).plus
        assert paths(found) == paths(want)
        assert torch.equal(found.edge_mask, want.edge_mask)
        assert torch.equal(plus.values, gx.metrics.fidelity(network(), GRAPH, want, top=3).plus.values)


def test_inside_inference_mode() -> None:
    with torch.inference_mode(), pytest.raises(InputError, match=r"torch.inference_mode\(\) is on.*torch.no_grad"):
        gx.explain(network(), GRAPH, "saliency", progress=False)
    with torch.no_grad():
        gx.explain(network(), GRAPH, "saliency", index=0, progress=False)


class Holding(nn.Module):
    """A model with one scripted part."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.part(x, edge_index)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_models_of_torch_jit() -> None:
    model = seeded(lambda: pyg.GCN(4, 8, num_layers=2, out_channels=3))().eval()
    traced, scripted = torch.jit.trace(model, (GRAPH.x, GRAPH.edge_index)), torch.jit.script(model)
    for other in (traced, scripted, Holding(traced)):
        with pytest.raises(
            InputError, match=r"got a \w+ that torch.jit.trace or torch.jit.script made.*load_state_dict"
        ):
            gx.explain(other, GRAPH, "saliency", progress=False)
    with pytest.raises(InputError, match="as its part part"):
        gx.explain(Holding(scripted), GRAPH, "saliency", progress=False)
    other = pyg.GCN(4, 8, num_layers=2, out_channels=3).eval()
    other.load_state_dict(scripted.state_dict())  # the way that is named
    one, two = (gx.explain(m, GRAPH, "saliency", index=0, progress=False) for m in (model, other))
    assert torch.equal(one.edge_mask, two.edge_mask)


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("kind", [pyg.GCNConv, pyg.GATConv])
def test_interrupted_while_interventions_are_put_in(kind: Any, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays on a model whose explanation ends before its first hook, or between two of them."""
    model, left = network(kind), [at]
    state = [{name: list(value) for name, value in vars(m).items() if name.endswith("_hooks")} for m in model.modules()]
    made = hooks.RemovableHandle

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return made(*args, **kwargs)

    monkeypatch.setattr(hooks, "RemovableHandle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gx.explain(model, GRAPH, gx.Saliency(), index=[1], progress=False)
    for module, before in zip(model.modules(), state, strict=True):
        assert {name: list(value) for name, value in vars(module).items() if name.endswith("_hooks")} == before
        assert not {"propagate", "edge_updater"} & vars(module).keys()
