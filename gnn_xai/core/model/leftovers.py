"""What other explainers leave on a model, taken off for a while, so that the model is what a fresh copy of it would be.

PyG's explainers switch layers to `explain=True`, lay an edge mask on them, and some exchange `explain_message`; what they
bind to a layer (`propagate`) stays there even after they have cleaned up. A run that ends in an exception leaves all of it,
and hooks of Captum as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch_geometric.nn import MessagePassing

from gnn_xai.errors import InputError, warn

_EXPLAINERS = ("torch_geometric.explain.", "captum.")
_BOUND = ("propagate", "edge_updater")
_ABSENT: Any = object()

Changes = list[tuple[MutableMapping[Any, Any], Any, Any]]
"""Values to be put into dictionaries at keys; `_ABSENT` takes the key out."""


@contextmanager
def without_leftovers(model: nn.Module) -> Iterator[None]:
    """Take off what PyG's explainers and Captum left on a model, and put it back afterwards.

    Raises:
        InputError: if a layer runs an `explain_message` that is not known to be one of theirs.
    """
    changes, altering = _leftovers(model)
    if altering:
        warn(
            f"{', '.join(altering)} carries what another explainer left on it (a run that was interrupted?), under which "
            "the model predicts something else; what is explained is the model without it. "
            "torch_geometric.explain.algorithm.utils.clear_masks(model) takes masks off"
        )
    before = [(place, key, place.get(key, _ABSENT)) for place, key, _ in changes]
    try:
        _make(changes)
        yield
    finally:
        _make(before)


def _make(changes: Changes) -> None:
    for place, key, value in changes:
        if value is _ABSENT:
            place.pop(key, None)
        else:
            place[key] = value


def _leftovers(model: nn.Module) -> tuple[Changes, list[str]]:
    """What to change to be rid of leftovers, and the layers on which they alter what the model predicts."""
    changes: Changes = []
    altering: list[str] = []
    for name, module in model.named_modules():
        label = f"{name or 'model'} ({type(module).__name__})"
        state = vars(module)
        for kind in [kind for kind, hooks in state.items() if kind.endswith("_hooks") and hooks]:
            hooks = state[kind]
            kept = {key: hook for key, hook in hooks.items() if not _module_of(hook).startswith(_EXPLAINERS)}
            if len(kept) < len(hooks):
                changes.append((state, kind, OrderedDict(kept)))
                altering += [label for hook in hooks.values() if _module_of(hook).startswith("captum.")]
        if not isinstance(module, MessagePassing):
            continue
        if module.explain is True:
            _require_known_explain_message(module, label)
            arguments = module.inspector.get_flat_param_names(
                ["message", "aggregate", "update"], exclude=sorted(module.special_args)
            )
            changes += [(state, "_explain", None), (state, "_user_args", arguments)]
            altering.append(label)
        if module.decomposed_layers == 1:
            changes += [(state, name, _ABSENT) for name in _BOUND if name in state and _bound_by_pyg(module, name)]
    return changes, list(dict.fromkeys(altering))


def _require_known_explain_message(layer: MessagePassing, label: str) -> None:
    own = vars(layer).get("explain_message", MessagePassing.explain_message)
    known = own is MessagePassing.explain_message or _module_of(own).startswith(_EXPLAINERS)
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


def _module_of(hook: Any) -> str:
    while isinstance(hook, partial):
        hook = hook.func
    return getattr(hook, "__module__", None) or ""
