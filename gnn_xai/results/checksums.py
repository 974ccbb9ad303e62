"""Checksums of models, data, functions and settings, by which a run on disk is recognised."""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
import torch_geometric
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gnn_xai._version import __version__
from gnn_xai.errors import InputError

_VERSIONED = {"gnn_xai", "torch", "torch_geometric"}
"""Packages whose version is a setting of a run, so that their code needs no checksum."""


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
    return {
        "model": of_model(model),
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


def of_model(model: nn.Module) -> dict[str, str]:
    """Checksums of a model's layers and of its weights, and the name of its class."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {"class": _name(type(model)), "modules": checksum(_modules(model)), "weights": checksum(state)}


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)


def _modules(model: nn.Module) -> list[tuple[str, type, dict[str, Any]]]:
    """The modules of a model: their names, classes and settings."""
    return [(name, type(module), _settings(module)) for name, module in model.named_modules()]


def _settings(module: nn.Module) -> dict[str, Any]:
    """The settings of a module that it keeps as plain values; `repr` leaves some of them out."""
    plain = (bool, int, float, str, tuple, list, type(None), FunctionType)
    kept = {
        name: value for name, value in vars(module).items() if not name.startswith("_") and isinstance(value, plain)
    }
    return {"repr": module.extra_repr(), **{name: value for name, value in kept.items() if name != "training"}}


def checksum(*values: Any) -> str:
    """SHA-256 over tensors, plain values, objects with what they hold, and functions with what they call and enclose.

    Raises:
        InputError: if a value can only be told by its place in memory, as a generator or a lock.
    """
    digest = Digest()
    for value in values:
        digest.add(value)
    return str(digest)


class Digest:
    """A checksum of values that are added one by one, see `checksum`.

    The code of a function counts with the functions, classes and values that it names, as far as they are not from an
    installed package: of those the version counts, and the file. Of a class, all its functions count.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # kept alive, so that no other object gets the same id

    def __str__(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def add(self, value: Any) -> None:
        """Add a value."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            self._bytes(f"{type(value).__name__} {value!r}".encode(errors="backslashreplace"))
        elif isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray):
            self.add(value.tolist() if value.dtype.hasobject or value.dtype.kind in "USMmV" else torch.as_tensor(value))
        elif isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            self._several("list", value)
        elif isinstance(value, (set, frozenset)):
            self._several("set", sorted(map(checksum, value)))
        elif isinstance(value, CodeType):
            self._several("code", [value.co_code, value.co_names, value.co_consts, value.co_freevars])
        elif id(value) in self._seen:  # it holds itself, or is held twice
            self._bytes(f"seen {self._seen[id(value)][0]}".encode())
        else:
            self._seen[id(value)] = len(self._seen), value
            self._compound(value)

    def _compound(self, value: Any) -> None:
        """Add what may hold itself."""
        if isinstance(value, dict):
            self._several(f"dict {type(value).__name__}", sorted(value.items(), key=lambda item: str(item[0])))
        elif isinstance(value, MethodType):
            self._several("method", [value.__func__, value.__self__])
        elif isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            self._several("builtin", [value.__name__, owner.__name__ if isinstance(owner, ModuleType) else owner])
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, ModuleType):
            self._several("module", _installed(value.__name__) or [value.__name__])
        elif isinstance(value, type):
            self._class(value)
        else:
            self._several("object", [type(value), *_content(value)])

    def _function(self, value: FunctionType) -> None:
        enclosed = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]  # empty: raises
        self._several("function", [value.__code__, value.__defaults__, value.__kwdefaults__, enclosed])
        if _installed(value.__globals__.get("__name__")) is None:
            self._lenient(_named(value.__code__, value.__globals__))

    def _class(self, value: type) -> None:
        installed = _installed(value.__module__)
        self._several("class", [value.__module__, value.__qualname__, installed])
        if installed is None:
            own = {name: _function_of(part) for name, part in vars(value).items()}
            dunder = [name for name, part in own.items() if name[:2] == "__" and not isinstance(part, FunctionType)]
            self._lenient({name: part for name, part in own.items() if name not in dunder})
            self._several("bases", value.__bases__)

    def _lenient(self, values: dict[str, Any]) -> None:
        """Add what code names: of what can only be told by its place in memory, such as a lock, the class."""
        for name, value in sorted(values.items()):
            before = self._hash.copy()
            try:
                self._several("name", [name, value])
            except InputError:
                self._hash = before
                self._several("name", [name, type(value).__module__, type(value).__qualname__])

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


def _content(value: Any) -> list[Any]:
    """The parts that make an object what it is, as pickle would write them; nothing is pickled.

    Raises:
        InputError: if there are none.
    """
    if isinstance(value, nn.Module):
        return [_modules(value), dict(value.named_parameters()), dict(value.named_buffers())]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if (wrapped := getattr(value, "__wrapped__", None)) is not None:  # a cache of what a function returned
        return [wrapped]
    if type(value) is object:
        return []
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:  # whatever a class raises that is not made for it
        raise InputError(
            f"out= takes up a run by what algorithm, model and forward hold, and a {type(value).__qualname__} can only be "
            "told by its place in memory; hold plain values, arrays, modules or functions, or leave out="
        ) from error
    if isinstance(reduced, str):
        return [reduced]
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]


def _function_of(part: Any) -> Any:
    """The function inside what a class body makes of it."""
    if isinstance(part, (staticmethod, classmethod)):
        return part.__func__
    if isinstance(part, property):
        return (part.fget, part.fset)
    return part.func if isinstance(part, functools.cached_property) else part


def _named(code: CodeType, where: dict[str, Any]) -> dict[str, Any]:
    """The global values that some code names, and what it names in modules that are not installed."""
    named = {name: where[name] for part in _codes(code) for name in part.co_names if name in where}
    for name, value in list(named.items()):
        if isinstance(value, ModuleType) and _installed(value.__name__) is None:
            named |= {f"{name}.{inner}": part for inner, part in _named(code, vars(value)).items()}
    return named | _imported(code, str(where.get("__package__") or ""))


def _imported(code: CodeType, package: str) -> dict[str, bytes]:
    """The files of modules that are not installed and that code imports when it runs."""
    files = {}
    steps = (step for part in _codes(code) for step in dis.get_instructions(part) if step.opname == "IMPORT_NAME")
    for step in steps:
        for name in (step.argval, f"{package}.{step.argval}".strip(".")):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in _VERSIONED:
                continue
            try:
                origin = getattr(importlib.util.find_spec(name), "origin", None)
            except (ImportError, ValueError):
                continue
            if origin is not None and Path(origin).is_file() and not _among_packages(origin):
                files[f"import {name}"] = Path(origin).read_bytes()
    return files


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Some code, and that of the functions inside it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _codes(part)


def _installed(module: str | None) -> tuple[Any, ...] | None:
    """What identifies the code of a module that belongs to Python or to an installed package; `None` for others."""
    top = str(module).partition(".")[0]
    if top in sys.stdlib_module_names or top in _VERSIONED:
        return (top,)
    file = getattr(sys.modules.get(str(module)), "__file__", None)
    if file is None or not _among_packages(file):
        return None
    return top, str(getattr(sys.modules.get(top), "__version__", "")), _of_file(file)


def _among_packages(file: str) -> bool:
    return bool({"site-packages", "dist-packages"} & set(Path(file).parts))


@functools.cache
def _of_file(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
