"""Whether a model or its data changed: version counters first, which cost nothing, then checksums.

Kernels such as that of batch normalisation, and writes to `parameter.data`, change values and not their version, so the
small tensors of a model are compared by their checksums at once.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data.data import BaseData

from gnn_xai.core.model.problem import Problem
from gnn_xai.errors import InputError

Mark = tuple[int, int, torch.Size]
"""What changes when a tensor is written to or replaced: its memory, version and shape."""

SMALL = 1_000_000
"""Elements up to which a parameter or buffer is compared by its checksum, whatever its version says."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Versions and checksums of a model's parameters and buffers, and of the data.

    Attributes:
        marks: of every tensor, by name.
        checksums: of every tensor, by name.
        held: the tensors, so that no other takes their place in memory.
        places: where the data keeps its tensors.
    """

    marks: dict[str, Mark]
    checksums: dict[str, str]
    held: tuple[Tensor, ...] = ()
    places: Places | None = None

    @classmethod
    def of(cls, problem: Problem) -> Snapshot:
        """The state of a model and its data now."""
        tensors = dict(_tensors(problem))
        marks = {name: _mark(value) for name, value in tensors.items()}
        checksums = {name: _checksum(value) for name, value in tensors.items()}
        return cls(marks, checksums, tuple(value.detach() for value in tensors.values()), _places(problem))

    def __getstate__(self) -> dict[str, Any]:
        return {"marks": {}, "checksums": self.checksums, "held": (), "places": None}

    def renewed(self, problem: Problem) -> Snapshot:
        """The same state in other memory, as after unpickling."""
        tensors = dict(_tensors(problem))
        marks = {name: _mark(value) for name, value in tensors.items()}
        held = tuple(value.detach() for value in tensors.values())
        return Snapshot(marks, self.checksums, held, _places(problem))

    @cached_property
    def _of_model(self) -> set[str]:
        """The names of parameters and buffers."""
        return {name for name in self.marks if name.startswith("model.")}

    def check(self, problem: Problem) -> None:
        """Compare the state with that of now.

        Raises:
            InputError: naming the first parameter, buffer or attribute that changed.
        """
        same = self.places is not None and self.places.unchanged()
        tensors = dict(_of_model(problem) if same else _tensors(problem))
        missing = (self._of_model if same else self.marks.keys()) - tensors.keys()
        for name in [*tensors, *missing]:
            value = tensors.get(name)
            versioned = value is not None and (name.startswith("data") or value.numel() > SMALL)
            if value is not None and versioned and self.marks.get(name) == _mark(value):
                continue
            if value is None or self.checksums.get(name) != _checksum(value):
                raise InputError(
                    f"expected the model and data that were prepared, but {name} changed since; call gnn_xai.prepare again"
                )


def _of_model(problem: Problem) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, by name."""
    model: nn.Module = problem.model
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        yield f"model.{name}", value


@dataclass(frozen=True, eq=False)
class Places:
    """Where data objects keep their tensors, for a look at thousands of them in less than a millisecond.

    Attributes:
        storages, keys: for each tensor, the dictionary that holds it and its name there.
        sizes: of these dictionaries.
        values, versions: the tensors, and how often they had been written to.
    """

    storages: list[dict[str, Any]]
    keys: list[str]
    sizes: list[int]
    values: list[Tensor]
    versions: list[int]

    def unchanged(self) -> bool:
        """Whether all are there, none was written to, and no attribute came or went."""
        return (
            all(map(operator.is_, map(dict.get, self.storages, self.keys), self.values))
            and list(map(_version, self.values)) == self.versions
            and list(map(len, self.storages)) == self.sizes
        )


_version = operator.attrgetter("_version")


def _places(problem: Problem) -> Places | None:
    """Where data objects keep their tensors; `None` for a data set that makes its objects anew."""
    source = problem.graphs.source
    several = [source] if isinstance(source, BaseData) else source
    if not isinstance(several, (list, tuple)):
        return None
    storages = [vars(store)["_mapping"] for data in several for store in data.stores]
    held = [
        (storage, key, len(storage), value, value._version)
        for storage in storages
        for key, value in storage.items()
        if isinstance(value, Tensor) and not value.is_inference()
    ]
    return Places(*map(list, zip(*held, strict=True))) if held else None


def _tensors(problem: Problem) -> Iterator[tuple[str, Tensor]]:
    """Everything that explanations depend on, by name."""
    yield from _of_model(problem)
    source = problem.graphs.source
    for number, data in enumerate([source] if isinstance(source, BaseData) else source):
        prefix = "data" if isinstance(source, BaseData) else f"data[{number}]"
        for key, value in _attributes(data):
            if isinstance(value, Tensor):
                yield f"{prefix}.{key}", value


def _attributes(data: Any) -> Iterator[tuple[str, Any]]:
    for store in data.stores:
        prefix = "" if store._key is None else f"{store._key}."
        for key, value in store.items():
            yield f"{prefix}{key}", value


def _mark(value: Tensor) -> Mark:
    version = -1 if value.is_inference() else value._version
    memory = value.data_ptr() if value.layout == torch.strided else 0
    return memory, version, value.shape


def _checksum(value: Tensor) -> str:
    if value.layout != torch.strided:
        value = value.to_dense()
    plain = value.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.sha256(f"{value.dtype} {list(value.shape)}".encode())
    digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
