"""Exceptions and warnings of the package; messages say what was expected, what was received, and what helps."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable


class GnnXaiError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(GnnXaiError, ValueError):
    """An argument, a data object or a model output is not what was expected."""


class MaskingError(GnnXaiError, RuntimeError):
    """A mask cannot reach the layers of this model."""


class StorageError(GnnXaiError, OSError):
    """A file cannot be read or written as explanations."""


class GnnXaiWarning(UserWarning):
    """The answer is valid but costs more, or means less, than one would assume."""


def warn(sentence: str) -> None:
    """Issue a `GnnXaiWarning` that points at the user's line, however deep in the package it is issued."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "gnn_xai":
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, GnnXaiWarning, stacklevel=level)


def unknown(what: str, got: object, known: Iterable[object]) -> InputError:
    """An `InputError` for a name that is not in a list, with the nearest match.

    >>> print(unknown("algorithm", "gnnexplainer", ["gnn_explainer", "saliency"]))
    unknown algorithm 'gnnexplainer'; did you mean 'gnn_explainer'? (known: gnn_explainer, saliency)
    """
    names = {str(name): name for name in known}
    near = difflib.get_close_matches(str(got), names, n=1)
    hint = f"; did you mean {names[near[0]]!r}?" if near else ""
    return InputError(f"unknown {what} {got!r}{hint} (known: {', '.join(names)})")
