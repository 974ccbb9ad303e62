"""The command that runs and its options, by which a run in an output folder is told from another."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

OF_THE_OUTPUT = {"out", "overwrite", "figures", "columns", "curves", "formats"}
"""Options that do not change what is explained."""

_RUNNING: ContextVar[dict[str, Any] | None] = ContextVar("running", default=None)


def noted(command: Callable[..., None]) -> Callable[..., None]:
    """The same command, which `running` tells of while it runs."""

    @wraps(command)
    def noting(**options: Any) -> None:
        kept = {name: _plain(value) for name, value in sorted(options.items()) if name not in OF_THE_OUTPUT}
        token = _RUNNING.set({"command": command.__name__, **kept})
        try:
            command(**options)
        finally:
            _RUNNING.reset(token)

    return noting


def running() -> dict[str, Any] | None:
    """The command and its options, ready for JSON; `None` outside of the command line."""
    return _RUNNING.get()


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
