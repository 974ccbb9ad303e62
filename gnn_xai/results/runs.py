"""Explanations on disk: a folder of shards that `explain` adds one by one, and that are read when they are needed.

A run is a folder with a manifest and shards. Each shard is a file as `Explanations.save` writes it, and holds the
explanations of consecutive positions of the index. The cut into shards, and what is computed together within a shard,
depend on the arguments of `explain` alone: not on time, not on free memory (the budget of the first start is kept), and not
on which shards this process has computed before. So a run that was killed and resumed ends with the files of one that was
not.

Every file is written under another name, synchronised and renamed. A shard counts once the manifest names it with its size
and checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from gnn_xai._checks import is_integer, is_number
from gnn_xai.core.arrays.batches import Bytes
from gnn_xai.errors import InputError, StorageError, warn
from gnn_xai.results import tables
from gnn_xai.results.columns import positions
from gnn_xai.results.explanations import Explanation, Explanations, joined, read
from gnn_xai.results.files import packed, refuse_newer, storage_errors
from gnn_xai.results.tables import TableLevel

if TYPE_CHECKING:
    from pandas import DataFrame

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes from writing one run
    fcntl = None

FORMAT_VERSION = 1

SHARD = {"cpu": 30_000, "cuda": 300_000}
"""Nodes and edges of the computation graphs of one shard, by the device on which a run is started; a single instance may
have more. Larger shards would save little time and lose more of it; a GPU wants more work at a time."""

BLOCK = 500_000
"""Nodes and edges of graphs that are read, and shown to the model, at once; a block holds whole shards."""

CACHED = 4
"""Shards that are kept in memory on reading."""

MANIFEST, LOCK, PART = "manifest.json", "lock", ".part"
_SHARD_NAME = re.compile(r"\d{9,}-\d{9,}\.safetensors")


def load(path: str | os.PathLike[str]) -> Explanations | StoredExplanations:
    """Read explanations: a file that `Explanations.save` wrote, or a folder that `explain(..., out=folder)` wrote, whose
    shards are read when they are needed. Nothing is unpickled.

    Raises:
        StorageError: if the file is missing, is not safetensors, holds something else, or comes from a newer version.
    """
    return StoredExplanations(path) if Path(path).is_dir() else read(path)


# Writing #############################################################################################################


class RunWriter:
    """A run that is being written: its settings and its finished shards. Made by `writing`.

    Attributes:
        folder: its folder.
        manifest: its manifest, as on disk.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest

    def done_within(self, start: int, size: int) -> set[range]:
        """The finished shards of a block of positions, each as a range of positions within the block."""
        shards = (range(shard["start"] - start, shard["stop"] - start) for shard in self.manifest["shards"])
        return {shard for shard in shards if shard.start >= 0 and shard.stop <= size}

    @property
    def budget(self) -> int:
        """The budget of a batch: the user's number, or the bytes that were measured when the run was first started."""
        measured = self.manifest["batch_bytes"]
        return self.manifest["run"]["batch_budget"] if measured is None else Bytes(measured)

    def add(self, start: int, part: Explanations) -> None:
        """Write a shard: the explanations of consecutive positions from `start` on.

        Raises:
            StorageError: if it cannot be written, or overlaps another shard; what was written before stays.
        """
        if not self.manifest["shards"]:
            self._update()  # a shard without a manifest would look like a file of another program
        stop = start + len(part)
        if any(shard["start"] < stop and start < shard["stop"] for shard in self.manifest["shards"]):
            raise StorageError(
                f"{self.folder} was begun on {self.manifest['hardware'][0]}, where its computation graphs were cut "
                "otherwise; resume it there, or choose another folder"
            )
        content = packed(part.tensors(), part.about())
        name = f"{start:09d}-{stop:09d}.safetensors"
        shard = {
            "file": name,
            "start": start,
            "stop": stop,
            "inexact": int((~part.exact).sum()),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self._write(name, content)
        self._update(shards=sorted([*self.manifest["shards"], shard], key=lambda shard: shard["start"]))

    def sweep(self) -> None:
        """Remove what a killed process left behind: half-written files, and shards that no manifest names."""
        named = {shard["file"] for shard in self.manifest["shards"]}
        for path in self.folder.iterdir():
            left_over = path.suffix == PART or (_SHARD_NAME.fullmatch(path.name) and path.name not in named)
            if left_over and (path.is_symlink() or not path.is_dir()):
                path.unlink()

    def _update(self, **changed: Any) -> None:
        """Change the manifest, on disk and then in memory."""
        manifest = _counted({**self.manifest, **changed})
        self._write(MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        self.manifest = manifest

    def _write(self, name: str, content: bytes) -> None:
        part, manifest = self.folder / f"{name}{PART}", self.manifest
        remedy = (
            f"{manifest['done']} of {manifest['asked']} explanations are finished and stay: when it can be written again, "
            "start it again to resume"
        )
        with storage_errors(f"cannot write {self.folder / name}", remedy):
            try:
                part.unlink(missing_ok=True)
                # Made anew: a link that lies there is not followed.
                with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, self.folder / name)
                _sync(self.folder)
            finally:
                part.unlink(missing_ok=True)


@contextmanager
def writing(out: str | os.PathLike[str], asked: dict[str, Any], size: int, device: torch.device) -> Iterator[RunWriter]:
    """Start or resume a run, for this process alone.

    Args:
        out: its folder, which may be missing, empty, or hold the same run.
        asked: the settings, ready for JSON, see `gnn_xai.results.checksums.described`.
        size: how many instances.
        device: where it is computed.

    Yields:
        The run with its undamaged shards; damaged ones are dropped with a warning.

    Raises:
        InputError: if `out` is no path.
        StorageError: if the folder holds something else, another run or that of a newer version, is being written by
            another process, or cannot be written.
    """
    if not isinstance(out, (str, PathLike)):
        raise InputError(f"expected out as the path of a folder, got {type(out).__name__}")
    folder = Path(out)
    asked = json.loads(json.dumps(asked, default=repr))
    hardware = _hardware(device)
    with _locked(folder):
        begun = read_manifest(folder) if (folder / MANIFEST).exists() else None
        if begun is None or not begun["shards"]:  # nothing is finished that another run could be mixed with
            measured = Bytes.measured(device) if asked["batch_budget"] == "auto" else None
            start = {
                "format": FORMAT_VERSION,
                "run": asked,
                "hardware": [hardware],
                "batch_bytes": measured,
                "shard_size": SHARD.get(device.type, SHARD["cuda"]),
                "asked": size,
            }
            run = RunWriter(folder, _counted({**start, "shards": []}))
            run.sweep()
            yield run
            return
        run = RunWriter(folder, begun)
        _refuse_another(folder, begun, asked)
        whole = [shard for shard in begun["shards"] if _is_whole(folder, shard)]
        if len(whole) < len(begun["shards"]):
            run._update(shards=whole)
        run.sweep()
        if hardware not in run.manifest["hardware"]:
            warn(
                f"{folder} was started on {run.manifest['hardware'][0]} and is resumed on {hardware}: the last digits of "
                "its scores may not be those of an uninterrupted run"
            )
            run.manifest["hardware"].append(hardware)
        yield run


def _counted(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with its sums over shards, which come last."""
    shards = manifest["shards"]
    counts = {
        "done": sum(shard["stop"] - shard["start"] for shard in shards),
        "inexact": sum(shard["inexact"] for shard in shards),
    }
    rest = {key: value for key, value in manifest.items() if key not in ("shards", *counts)}
    return {**rest, **counts, "shards": shards}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder, if it is missing, and hold its lock, which the system releases however this process ends."""
    with storage_errors(f"cannot write to {folder}", "choose a folder that can be written"):
        if folder.is_dir():
            foreign = sorted(p.name for p in folder.iterdir() if p.name != LOCK and p.suffix != PART)
            if foreign and MANIFEST not in foreign:
                raise StorageError(
                    f"expected out= as a new or empty folder, or one with a run of explain, but {folder} holds something "
                    f"else ({', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}); choose another"
                )
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StorageError(
                    f"another process is writing the run in {folder}; wait for it, or choose another folder"
                ) from error
        yield
    finally:
        os.close(lock)


def _sync(folder: Path) -> None:
    """Make renamed files of a folder durable."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_whole(folder: Path, shard: dict[str, Any]) -> bool:
    try:
        _checked(folder, shard)
    except StorageError as error:
        warn(f"{error.args[0].partition(';')[0]}; its explanations are computed again")
        return False
    return True


def _checked(folder: Path, shard: dict[str, Any]) -> Path:
    """The file of a shard.

    Raises:
        StorageError: if it is not what was written.
    """
    path, damage = folder / shard["file"], None
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            damage = "it is no file"
        elif about.st_size != shard["bytes"]:
            damage = f"it has {about.st_size} bytes, and {shard['bytes']} were written"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != shard["sha256"]:
            damage = "its content is not what was written (another checksum)"
    except OSError as error:
        damage = error.strerror or str(error)
    if damage:
        raise StorageError(f"the shard {path} is damaged: {damage}; explain with the same out= computes it again")
    return path


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        StorageError: if it is missing, cannot be read, or comes from a newer version.
    """
    path = folder / MANIFEST
    try:
        if path.exists() and not path.is_file():  # a pipe may never end
            raise ValueError("it is no file")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not is_integer(manifest["format"], 0):
            raise ValueError("its format is no number")
        refuse_newer(path, manifest["format"], FORMAT_VERSION)
        if missing := {"run", "hardware", "batch_bytes", "shard_size", "asked"} - manifest.keys():
            raise ValueError(f"without {', '.join(sorted(missing))}")
        _require_order(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        if isinstance(error, StorageError):
            raise
        if isinstance(error, FileNotFoundError):
            raise StorageError(
                f"{folder} is a folder without {MANIFEST}; expected one that explain wrote with out=, or a file by "
                "Explanations.save"
            ) from error
        raise StorageError(
            f"cannot read {path} as the manifest of a run ({error}); expected one that explain wrote with out="
        ) from error
    return manifest


def _require_order(manifest: dict[str, Any]) -> None:
    """Raise a `ValueError` unless a manifest holds what `RunWriter` writes, and shards are plain files of its folder."""
    run, measured = manifest["run"], manifest["batch_bytes"]
    named = isinstance(run["algorithm"]["name"], str) and all(isinstance(part, str) for part in run["task"][:3])
    if not named or len(run["task"]) != 3 or "batch_budget" not in run:
        raise ValueError("its settings are not those of a run")
    numbers = is_integer(manifest["asked"], 0) and is_integer(manifest["shard_size"], 1)
    if not numbers or not (measured is None or is_number(measured, "[0, inf)")):
        raise ValueError("its sizes are no numbers")
    hardware = manifest["hardware"]
    if not (isinstance(hardware, list) and hardware and all(isinstance(name, str) for name in hardware)):
        raise ValueError("its hardware has no names")
    stop = 0
    for shard in manifest["shards"]:
        if not (isinstance(shard["file"], str) and _SHARD_NAME.fullmatch(shard["file"])):
            raise ValueError(f"{shard['file']!r} is not the name of a shard")
        counts = all(is_integer(shard[name], 0) for name in ("start", "stop", "bytes", "inexact"))
        if not counts or not isinstance(shard["sha256"], str) or not stop <= shard["start"] < shard["stop"]:
            raise ValueError("its shards do not fit together")
        stop = shard["stop"]
    if stop > manifest["asked"]:
        raise ValueError("its shards do not fit together")


# Settings of a run ###################################################################################################

_NAMES = {
    "model.class": "model",
    "model.modules": "model (its modules or their settings)",
    "model.weights": "model (its weights)",
    "forward.name": "forward",
    "forward.code": "forward (its code, or what it encloses)",
    "algorithm.name": "algorithm",
    "algorithm.code": "algorithm (its code, or what its hyper-parameters hold)",
}


def _refuse_another(folder: Path, manifest: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise a `StorageError` that names the first difference between what a run was asked and what is asked now."""
    was, now = _flat(manifest["run"]), _flat(asked)
    for key in [*now, *was]:
        if json.dumps(was.get(key)) != json.dumps(now.get(key)):  # so NaN equals itself, and 1 is not True
            values = was.get(key), now.get(key)
            hashed = any(isinstance(value, str) and value.startswith("sha256:") for value in values)
            detail = "" if hashed else f" ({values[0]!r}, and now {values[1]!r})"
            raise StorageError(
                f"{folder} holds a run with another {_NAMES.get(key, key)}{detail}; choose another folder, or resume "
                "it with what it was started with"
            )


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return (
        f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, "
        f"{threads} thread{'s' if threads > 1 else ''}"
    )


# Reading #############################################################################################################


class StoredExplanations:
    """Explanations in a folder that `explain(..., out=folder)` wrote; shards are read when they are needed.

    It has a length, positions, slices and iteration like `Explanations`; a slice, list or tensor gives `Explanations` in
    memory. Metrics and pictures take those, so a large run is measured shard by shard:

        for part in stored.shards():
            result = gx.metrics.fidelity(model, data, part)

    An unfinished run holds its finished explanations, in the order of its index.

    Attributes:
        path: the folder.
        manifest: what was asked, by values and checksums (`run`), how many explanations were `asked`, are `done` and are
            `inexact`, and the `shards` with their positions, sizes and checksums.

    Args:
        path: the folder.
        data: the data that was explained, for `to_pyg` and pictures; not stored.

    Raises:
        StorageError: if the folder holds no run, or one of a newer version. Reading a shard that is damaged raises it, too,
            and names the shard.
    """

    def __init__(self, path: str | os.PathLike[str], data: Any = None) -> None:
        self.path, self._data = Path(path), data
        self.manifest = read_manifest(self.path)
        self._cached: OrderedDict[int, Explanations] = OrderedDict()
        counts = [shard["stop"] - shard["start"] for shard in self.manifest["shards"]]
        self._ptr = torch.tensor([0, *counts]).cumsum(0)

    def __len__(self) -> int:
        return int(self._ptr[-1])

    def __repr__(self) -> str:
        run = self.manifest["run"]
        what = f"{len(self)} of {self.manifest['asked']} {run['task'][1]}-level, {run['algorithm']['name']}"
        shards = len(self.manifest["shards"])
        return f"StoredExplanations({what}, {shards} shard{'s' if shards > 1 else ''} in {self.path})"

    @property
    def complete(self) -> bool:
        """All explanations that were asked for are finished."""
        return len(self) == self.manifest["asked"]

    @overload
    def __getitem__(self, i: int) -> Explanation: ...
    @overload
    def __getitem__(self, i: slice | list[int] | Tensor) -> Explanations: ...

    def __getitem__(self, i: int | slice | list[int] | Tensor) -> Explanation | Explanations:
        """One explanation by position, or several as `Explanations`; reads the shards that hold them."""
        at = positions(i, len(self))
        numbers = torch.searchsorted(self._ptr, at, right=True) - 1
        if isinstance(at, int):
            return self._shard(int(numbers))[at - int(self._ptr[numbers])]
        order = torch.argsort(numbers, stable=True)
        parts = [
            self._shard(number)[at[order[numbers[order] == number]] - self._ptr[number]]
            for number in numbers.unique().tolist()
        ]
        if not parts:  # an empty selection has the columns of any other
            return self._shard(0)[[]]
        return joined(parts)[torch.argsort(order)]

    def __iter__(self) -> Iterator[Explanation]:
        return (explanation for part in self.shards() for explanation in part)

    def shards(self) -> Iterator[Explanations]:
        """All explanations in order, one shard at a time."""
        return (self._read(number) for number in range(len(self.manifest["shards"])))

    def explanations(self) -> Explanations:
        """All of them in memory."""
        return self[:]

    def to_pandas(self, level: TableLevel = "instance") -> DataFrame:
        """All of them as one table, see `Explanations.to_pandas`; of a large run rather `stored[a:b].to_pandas(level)`."""
        return tables.table(self._by_position(), level)

    def to_parquet(self, path: str | os.PathLike[str], level: TableLevel = "instance") -> Path:
        """Write them to a Parquet file, one shard at a time, see `Explanations.to_parquet`."""
        return tables.write_parquet(path, self._by_position(), level)

    def _by_position(self) -> Iterator[tuple[int, Explanations]]:
        if len(self) == 0:
            raise StorageError(f"{self.path} holds no explanations yet; resume it with explain and the same out=")
        return zip(self._ptr.tolist(), self.shards(), strict=False)

    def _shard(self, number: int) -> Explanations:
        if number not in self._cached:
            self._cached[number] = self._read(number)
            if len(self._cached) > CACHED:
                self._cached.popitem(last=False)
        self._cached.move_to_end(number)
        return self._cached[number]

    def _read(self, number: int) -> Explanations:
        if number >= len(self.manifest["shards"]):
            raise StorageError(f"{self.path} holds no explanations yet; resume it with explain and the same out=")
        shard = self.manifest["shards"][number]
        path = _checked(self.path, shard)
        part = read(path)
        settings = {name: value for name, value in self.manifest["run"]["algorithm"].items() if name != "code"}
        alike = json.dumps(part.algorithm, sort_keys=True) == json.dumps(settings, sort_keys=True)
        if len(part) != shard["stop"] - shard["start"] or not alike:
            raise StorageError(f"the shard {path} is damaged: it belongs to another run; explain into another folder")
        return replace(part, data=self._data)
