"""Checksums of models, data, functions and settings, by which a run on disk is recognised."""

from __future__ import annotations

import hashlib
import inspect
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
import torch_geometric
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gnn_xai._version import __version__


def described(
    model: nn.Module, forward: Any, data: str, index: Tensor, target: Tensor | None, **settings: Any
) -> dict[str, Any]:
    """One call of `explain`, by values and checksums, ready for JSON.

    Args:
        model: the module.
        forward: the user's callable, or `None`.
        data: checksum of the data.
        index, target: `[B]`; no target stands for the predicted one.
        settings: more, as it is.
    """
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    modules = [(name, type(module), _settings(module), type(module).forward) for name, module in model.named_modules()]
    return {
        "model": {"class": _name(type(model)), "modules": checksum(modules), "weights": checksum(state)},
        "forward": None if forward is None else {"name": _name(forward), "code": checksum(forward)},
        "data": data,
        **settings,
        "index": checksum(index),
        "target": "predicted" if target is None else checksum(target),
        "versions": {
            "gnn_xai": __version__,
            "torch": torch.__version__,
            "torch_geometric": torch_geometric.__version__,
        },
    }


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)


def _settings(module: nn.Module) -> dict[str, Any]:
    """The settings of a module that it keeps as plain values; `repr` leaves some of them out."""
    plain = (bool, int, float, str, tuple, list, type(None), FunctionType)
    kept = {
        name: value for name, value in vars(module).items() if not name.startswith("_") and isinstance(value, plain)
    }
    return {"repr": module.extra_repr(), **{name: value for name, value in kept.items() if name != "training"}}


def checksum(*values: Any) -> str:
    """SHA-256 over tensors (type, shape and values), plain values, and the code of functions with what they enclose.

    Of other objects, their class alone.
    """
    digest = Digest()
    for value in values:
        digest.add(value)
    return str(digest)


class Digest:
    """A checksum of values that are added one by one, see `checksum`."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._functions: set[int] = set()

    def __str__(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def add(self, value: Any) -> None:
        """Add a value."""
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray):
            self.add(value.tolist() if value.dtype.hasobject else torch.as_tensor(value))
        elif isinstance(value, dict):
            self._several("dict", sorted(value.items(), key=lambda item: str(item[0])))
        elif isinstance(value, (list, tuple)):
            self._several("list", value)
        elif isinstance(value, (set, frozenset)):
            self._several("set", sorted(map(repr, value)))
        elif isinstance(value, CodeType):
            self._several("code", [value.co_code, value.co_names, value.co_consts, value.co_freevars])
        elif isinstance(value, MethodType):
            self._several("method", [value.__func__, type(value.__self__)])
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._several("class", [value.__module__, value.__qualname__])
        elif value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            self._bytes(f"{type(value).__name__} {value!r}".encode())
        else:
            self._several("object", [type(value), *self._parts(value)])

    def _parts(self, value: Any) -> list[Any]:
        """Parts of an object to hash besides its class: a callable's code, the function and arguments of a partial."""
        if hasattr(value, "func") and hasattr(value, "keywords"):
            return [value.func, value.args, value.keywords]
        call = inspect.getattr_static(type(value), "__call__", None)
        return [call] if isinstance(call, FunctionType) else []

    def _function(self, value: FunctionType) -> None:
        if id(value) in self._functions:  # it encloses itself
            return
        self._functions.add(id(value))
        enclosed = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]  # empty: raises
        self._several("function", [value.__code__, value.__defaults__, value.__kwdefaults__, enclosed])

    def _several(self, kind: str, values: Any) -> None:
        values = list(values)
        self._bytes(f"{kind} {len(values)}".encode())
        for value in values:
            self.add(value)

    def _tensor(self, value: Tensor) -> None:
        if is_lazy(value):  # its model says so when it is run
            return
        value = value.detach()
        if value.layout != torch.strided:
            value = value.to_sparse_coo().coalesce()
            self._several("sparse", [tuple(value.shape), value.indices(), value.values()])
            return
        self._bytes(f"tensor {value.dtype} {list(value.shape)}".encode())
        if value.numel():
            self._bytes(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def _bytes(self, content: bytes | memoryview) -> None:
        self._hash.update(f"{len(content)}:".encode())
        self._hash.update(content)
