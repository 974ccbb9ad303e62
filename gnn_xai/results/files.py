"""Files of explanations: tensors by name and metadata in one safetensors file, written in one step."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from gnn_xai._checks import is_integer
from gnn_xai.errors import StorageError

FORMAT_VERSION = 2
"""The newest format; 2 is 1 with scored attributes."""

EXPECTED = "expected a file by Explanations.save"


def packed(columns: dict[str, Tensor], about: dict[str, Any]) -> bytes:
    """The bytes of a file with these tensors and this metadata."""
    return save(*_content(columns, about))


def write(path: str | os.PathLike[str], columns: dict[str, Tensor], about: dict[str, Any]) -> Path:
    """Write tensors and metadata, ready for JSON, to a file.

    Raises:
        StorageError: if it cannot be written.
    """
    with replacing(Path(path)) as work:
        tensors, meta = _content(columns, about)
        work.touch()
        mode = work.stat().st_mode  # follows the umask; safetensors makes files that only their owner can read
        save_file(tensors, work, metadata=meta)
        work.chmod(mode)
    return Path(path)


def _content(columns: dict[str, Tensor], about: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    held: set[int] = set()
    for name, value in columns.items():
        value = value.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()  # two columns may be views of one tensor, which safetensors refuses
        tensors[name] = value.clone() if memory in held else value
        held.add(memory)
    version = FORMAT_VERSION if about.get("columns") else 1  # all that earlier versions read
    return tensors, {"gnn_xai": json.dumps({"format": version, **about})}


@contextmanager
def storage_errors(what: str, remedy: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of the system, and other kinds, into a `StorageError`: what failed, why, and what helps."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, *kinds) as error:
        why = getattr(error, "strerror", None) or error  # without the name of a temporary file
        raise StorageError(f"{what}: {why}; {remedy}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write to, which takes the place of `path` at the end: a file is whole, or missing.

    Raises:
        StorageError: if it cannot be written.
    """
    remedy = "choose a folder that exists and is writable"
    with (
        storage_errors(f"cannot write {path}", remedy, SafetensorError),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder,
    ):
        work = Path(folder) / path.name
        yield work
        os.replace(work, path)


def read(
    path: str | os.PathLike[str], kind: str = "explanations", expected: str = EXPECTED
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name and metadata of a file that `write` wrote.

    Args:
        path: the file.
        kind, expected: what it should hold, in the words of an error.

    Raises:
        StorageError: if the file is missing, is not safetensors, holds something else, or comes from a newer version.
    """
    what = f"cannot read {path} as {kind}"
    if Path(path).exists() and not Path(path).is_file():  # a device or a pipe may never end
        raise StorageError(f"{what}: it is no file; {expected}")
    kinds = (SafetensorError, ValueError, RecursionError)
    with storage_errors(what, expected, *kinds), safe_open(path, framework="pt") as file:
        meta = json.loads((file.metadata() or {}).get("gnn_xai", "null"))
        if not isinstance(meta, dict):
            raise StorageError(f"{path} is safetensors but holds no {kind} of this package")
        refuse_newer(path, meta.get("format", 0), FORMAT_VERSION)
        return {key: file.get_tensor(key) for key in list(file.keys())}, meta


def refuse_newer(path: str | os.PathLike[str], version: Any, supported: int) -> None:
    """Raise a `StorageError` for a file whose format is no number, or newer than the one that this version reads."""
    if not is_integer(version, 0):
        raise StorageError(f"{path} says that it has format {version!r}, which is no number; {EXPECTED}")
    if version > supported:
        raise StorageError(f"{path} has format {version}, this version reads up to {supported}; upgrade gnn_xai")
