"""The frozen files of a benchmark: their folder, and reading them with their checksums.

A wheel carries the repository's top-level folder ``datasets/`` as ``gnn_xai/datasets/_files``; in a
checkout (also an editable install) the top-level folder itself is read. One sub-folder per
benchmark:

- ``card.md``: the data card;
- ``reference.json``: seed, versions and accuracies of the training run, SHA-256 of the files below;
- ``model.safetensors``: the weights of the reference model; ``model.NAME.safetensors`` those of
  another checkpoint;
- ``data.safetensors``: frozen data, where a library update could change what a recipe makes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor

from gnn_xai.datasets.recipe import REFERENCE as REFERENCE_CHECKPOINT
from gnn_xai.errors import StorageError

CARD, REFERENCE = "card.md", "reference.json"
MODEL, DATA = "model.safetensors", "data.safetensors"


def root() -> Path:
    """The folder that holds the benchmarks: the wheel's if there is one, else the checkout's."""
    package = Path(__file__).resolve().parent
    packaged = package / "_files"
    return packaged if packaged.is_dir() else package.parents[1] / "datasets"


def model(checkpoint: str) -> str:
    """The file of a checkpoint's weights.

    >>> model("reference"), model("seed1")
    ('model.safetensors', 'model.seed1.safetensors')
    """
    return MODEL if checkpoint == REFERENCE_CHECKPOINT else f"model.{checkpoint}.safetensors"


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The content of a file; a `StorageError` with a remedy where there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"expected a file of the benchmark '{path.parent.name}' at {path}, but reading it "
            f"failed ({error.strerror}); reinstall gnn-xai, or in a checkout run "
            f"'git restore {path.parent.parent.name}/{path.parent.name}'"
        ) from error


def read_reference(folder: Path, checkpoint: str = REFERENCE_CHECKPOINT) -> dict[str, Any]:
    """The facts of a checkpoint's training run, from ``reference.json``.

    What differs from the reference model's stands there under ``checkpoints``.
    """
    facts = json.loads(read_bytes(folder / REFERENCE))
    return {**facts, **facts.get("checkpoints", {}).get(checkpoint, {})}


def read_verified(path: Path, expected: str) -> bytes:
    """The content of a file whose SHA-256 is ``expected``.

    Raises:
        StorageError: the file is missing, or its content is not what the reference was trained
            with.
    """
    content = read_bytes(path)
    received = sha256(content)
    if received != expected:
        raise StorageError(
            f"checksum of {path} does not match: expected SHA-256 {expected}, received {received}; "
            "the file was changed or damaged, so reinstall gnn-xai, or after a deliberate change "
            "run 'python -m gnn_xai.datasets.train'"
        )
    return content


def read_tensors(folder: Path, file: str, reference: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, verified; empty where the reference lists no such file."""
    if file not in reference["sha256"]:
        return {}
    # Hashed and parsed from the same bytes, so nothing can change in between.
    content = read_verified(folder / file, reference["sha256"][file])
    try:
        return tensors_from_bytes(content)
    except SafetensorError as error:
        raise StorageError(
            f"{folder / file} is not a safetensors file ({error}); weights and data are only "
            "read from safetensors, so reinstall gnn-xai"
        ) from error
