"""Whether a model or its data changed: version counters first, which cost nothing, then checksums.

Kernels such as that of batch normalisation, and writes to `parameter.data`, change values and not their version, so the
small tensors of a model are compared by their checksums at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data.data import BaseData

from gnn_xai.core.model.problem import Problem
from gnn_xai.errors import InputError

Mark = tuple[int, int, torch.Size]
"""What changes when a tensor is written to or replaced: its memory, version and shape."""

Place = tuple[dict[str, Any], int, str, Tensor, int]

SMALL = 1_000_000
"""Elements up to which a parameter or buffer is compared by its checksum, whatever its version says."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Versions and checksums of a model's parameters and buffers, and of the data.

    Attributes:
        marks: of every tensor, by name.
        checksums: of every tensor, by name.
        held: the tensors, so that no other takes their place in memory.
        places: where the data keeps its tensors: storage and its size, key, tensor and version.
    """

    marks: dict[str, Mark]
    checksums: dict[str, str]
    held: tuple[Tensor, ...] = ()
    places: tuple[Place, ...] = ()

    @classmethod
    def of(cls, problem: Problem) -> Snapshot:
        """The state of a model and its data now."""
        tensors = dict(_tensors(problem))
        marks = {name: _mark(value) for name, value in tensors.items()}
        checksums = {name: _checksum(value) for name, value in tensors.items()}
        return cls(marks, checksums, tuple(value.detach() for value in tensors.values()), _places(problem))

    def __getstate__(self) -> dict[str, Any]:
        return {"marks": {}, "checksums": self.checksums, "held": (), "places": ()}

    def renewed(self, problem: Problem) -> Snapshot:
        """The same state in other memory, as after unpickling."""
        tensors = dict(_tensors(problem))
        marks = {name: _mark(value) for name, value in tensors.items()}
        held = tuple(value.detach() for value in tensors.values())
        return Snapshot(marks, self.checksums, held, _places(problem))

    def check(self, problem: Problem) -> None:
        """Compare the state with that of now.

        Raises:
            InputError: naming the first parameter, buffer or attribute that changed.
        """
        same = self.places and all(
            storage.get(key) is value and value._version == version and len(storage) == size
            for storage, size, key, value, version in self.places
        )
        tensors = dict(_of_model(problem) if same else _tensors(problem))
        missing = {name for name in self.marks.keys() - tensors.keys() if not same or name.startswith("model.")}
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


def _places(problem: Problem) -> tuple[Place, ...]:
    """Where data objects keep their tensors; empty for a data set that makes its objects anew."""
    source = problem.graphs.source
    several = [source] if isinstance(source, BaseData) else source
    if not isinstance(several, (list, tuple)):
        return ()
    storages = [vars(store)["_mapping"] for data in several for store in data.stores]
    return tuple(
        (storage, len(storage), key, value, value._version)
        for storage in storages
        for key, value in storage.items()
        if isinstance(value, Tensor) and not value.is_inference()
    )


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
