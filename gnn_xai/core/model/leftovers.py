"""What other explainers leave on a model, taken off for a while, so that the model is what a fresh copy of it would be.

PyG's explainers switch layers to `explain=True`, lay an edge mask on them, and some exchange `explain_message`; what they
bind to a layer (`propagate`) stays there even after they have cleaned up. A run that ends in an exception leaves all of it,
and hooks of Captum as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import MutableMapping, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch_geometric.nn import MessagePassing

from gnn_xai.errors import InputError, warn

_EXPLAINERS = ("torch_geometric.explain.", "captum.")
_BOUND = ("propagate", "edge_updater")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_MESSAGE_HOOKS = ("_message_forward_hooks", "_message_forward_pre_hooks")
_ABSENT: Any = object()

Changes = list[tuple[MutableMapping[Any, Any], Any, Any]]
"""Values to be put into dictionaries at keys; `_ABSENT` takes the key out."""


def take_off_leftovers(model: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Take off what PyG's explainers and Captum left on the modules of a model.

    Raises:
        InputError: if a layer runs an `explain_message` that is not known to be one of theirs.
    """
    changes, altering = _leftovers(modules)
    if altering:
        names = {module: f"{name or 'model'} ({type(module).__name__})" for name, module in model.named_modules()}
        for module in altering:
            _require_known_explain_message(module, names[module])
        warn(
            f"{', '.join(dict.fromkeys(names[module] for module in altering))} carries what another explainer left on it "
            "(a run that was interrupted?), under which the model predicts something else; what is explained is the model "
            "without it. torch_geometric.explain.algorithm.utils.clear_masks(model) takes masks off"
        )
    for place, key, value in changes:
        if value is _ABSENT:
            place.pop(key, None)
        else:
            place[key] = value


def _leftovers(modules: Sequence[nn.Module]) -> tuple[Changes, list[nn.Module]]:
    """What to change to be rid of leftovers, and the modules on which they alter what the model predicts."""
    changes: Changes = []
    altering: list[nn.Module] = []
    for module in modules:
        state, passes = vars(module), isinstance(module, MessagePassing)
        for kind in _HOOKS + _MESSAGE_HOOKS * passes:
            hooks = state.get(kind)
            if hooks and any(_left(hook) for hook in hooks.values()):
                changes.append((state, kind, OrderedDict((k, hook) for k, hook in hooks.items() if not _left(hook))))
                if not passes or kind in _HOOKS:  # those on messages are PyG's, and only look
                    altering.append(module)
        if not isinstance(module, MessagePassing):
            continue
        if module._explain is True:
            arguments = module.inspector.get_flat_param_names(
                ["message", "aggregate", "update"], exclude=sorted(module.special_args)
            )
            changes += [(state, "_explain", None), (state, "_user_args", arguments)]
            altering.append(module)
        if module.decomposed_layers == 1:
            changes += [(state, name, _ABSENT) for name in _BOUND if name in state and _bound_by_pyg(module, name)]
    return changes, altering


def _require_known_explain_message(layer: nn.Module, label: str) -> None:
    if not isinstance(layer, MessagePassing) or layer.explain is not True:
        return
    own = vars(layer).get("explain_message", MessagePassing.explain_message)
    known = own is MessagePassing.explain_message or _left(own)
    if not known or type(layer).explain_message is not MessagePassing.explain_message:
        raise InputError(
            f"{label} has explain=True and an explain_message of its own, which changes what the model predicts; if an "
            "explainer left it, set layer.explain = None, and else write it into the layer's message"
        )


def _bound_by_pyg(layer: MessagePassing, name: str) -> bool:
    """Whether what a layer holds as `propagate` is a method of its class, which PyG binds when `explain` is set."""
    method = vars(layer)[name]
    function = getattr(method, "__func__", None)
    if function is None or getattr(method, "__self__", None) is not layer:
        return False
    names = (name, f"_orig_{name}", f"_jinja_{name}")
    return any(vars(kind).get(n) is function for kind in type(layer).__mro__ for n in names)


def _left(function: Any) -> bool:
    """Whether a hook or method is one of another explainer's."""
    while isinstance(function, partial):
        function = function.func
    return (getattr(function, "__module__", None) or "").startswith(_EXPLAINERS)
