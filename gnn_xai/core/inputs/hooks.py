"""Hooks on modules that are registered while a context is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn
from torch.utils.hooks import RemovableHandle


class Hook(NamedTuple):
    """A function, and where it is registered.

    Attributes:
        place: a dictionary of hooks that a module holds.
        function: what is called.
        with_arguments: the module's dictionary of hooks that get keyword arguments, if this is one of them.
    """

    place: dict[int, Any]
    function: Callable[..., Any]
    with_arguments: dict[int, bool] | None = None


def before(module: nn.Module, function: Callable[..., Any]) -> Hook:
    """A forward pre-hook that gets keyword arguments."""
    return Hook(module._forward_pre_hooks, function, module._forward_pre_hooks_with_kwargs)


def after(module: nn.Module, function: Callable[..., Any]) -> Hook:
    """A forward hook."""
    return Hook(module._forward_hooks, function)


def after_with_arguments(module: nn.Module, function: Callable[..., Any]) -> Hook:
    """A forward hook that gets keyword arguments."""
    return Hook(module._forward_hooks, function, module._forward_hooks_with_kwargs)


@contextmanager
def hooked(hooks: Iterable[Hook]) -> Iterator[None]:
    """Register hooks, behind those that are registered already, and remove them again, also when this is interrupted."""
    handles: list[RemovableHandle] = []
    try:
        for place, function, with_arguments in hooks:
            handle = RemovableHandle(place, extra_dict=with_arguments)
            handles.append(handle)  # before the hook can run
            place[handle.id] = function
            if with_arguments is not None:
                with_arguments[handle.id] = True
        yield
    finally:
        for handle in handles:
            handle.remove()
