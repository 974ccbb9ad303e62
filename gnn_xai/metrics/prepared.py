"""A prepared problem in the place of model and data, for every metric that runs a model, and for comparisons."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from torch import nn

from gnn_xai.core.engines.prepare import Prepared, refuse_what_was_prepared
from gnn_xai.core.model.arguments import require_module
from gnn_xai.errors import InputError

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class TakesPrepared(Protocol[P, R]):
    """A function of a model and its data, or of both as `gnn_xai.prepare` returned them."""

    @overload
    def __call__(self, model: nn.Module, data: Any, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, prepared: Prepared, /, *args: P.args, **kwargs: P.kwargs) -> R: ...


def takes_prepared(function: Callable[Concatenate[nn.Module | Prepared, Any, P], R]) -> TakesPrepared[P, R]:
    """Let a function `(model, data, ...)` be called as `(prepared, ...)`, too: it gets the prepared problem as `model`, and
    `None` as `data`.

    A prepared problem that changed since is refused, and so is an option that it has settled.
    """
    run: Callable[..., R] = function

    @wraps(function)
    def either(*args: Any, **kwargs: Any) -> R:
        model = args[0] if args else kwargs.get("model")
        if not isinstance(model, Prepared):
            if args or "model" in kwargs:
                require_module(model)
            return run(*args, **kwargs)
        refuse_what_was_prepared(
            **{name: kwargs.get(name) for name in ("task", "node_type", "edge_type", "forward", "undirected")}
        )
        if args[1:] and args[1] is model.graphs.source:
            raise InputError("expected no data beside a prepared problem, which holds its own; leave it out")
        model.check_unchanged()
        if args:
            return run(model, None, *args[1:], **kwargs)
        return run(**{"data": None, **kwargs})

    vars(either)["takes_prepared"] = True
    return either
