"""Imports made where something is used: libraries of an extra, and rooms of this package above the one that asks."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from gnn_xai.errors import GnnXaiError


def need(module: str, extra: str, what: str) -> ModuleType:
    """Import a library of an extra where it is used.

    Args:
        module: its name, as in `import`.
        extra: the extra of this package that installs it.
        what: what needs it, the subject of the sentence that says so, in the plural.

    Raises:
        GnnXaiError: it is not installed.

    >>> need("no_such_library", "research", "tables")
    Traceback (most recent call last):
    gnn_xai.errors.GnnXaiError: tables need no_such_library, which is not installed; run 'pip install gnn-xai[research]'
    """
    package = module.partition(".")[0]
    try:
        import_module(package)
        return import_module(module)
    except ImportError as error:
        raise GnnXaiError(
            f"{what} need {package}, which is not installed; run 'pip install gnn-xai[{extra}]'"
        ) from error


def late(module: str) -> Any:
    """Import a module of this package that lies above the caller, when it is needed.

    The only way to import upwards, for methods of results that draw, report or convert them.

    >>> late("gnn_xai.errors").__name__
    'gnn_xai.errors'
    """
    return import_module(module)
