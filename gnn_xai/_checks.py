"""Checks of numbers, flags and choices; each error says what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gnn_xai.errors import InputError


def is_integer(value: Any, least: float = float("-inf")) -> bool:
    """Whether a value is an `int` of at least `least`; `True` and `False` are no numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any, interval: str = "(-inf, inf)") -> bool:
    """Whether a value is an `int` or `float` within an interval.

    >>> is_number(0.0, "[0, 1)"), is_number(1, "[0, 1)"), is_number(True, "[0, 1]"), is_number(float("nan"))
    (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    low, high = map(float, interval[1:-1].split(","))
    above, below = (
        (low < value or interval[0] == "[" and low == value),
        (value < high or high == value and "]" in interval),
    )
    return above and below


def integer(value: Any, what: str) -> None:
    """Raise an `InputError` unless a value is an `int`."""
    if not is_integer(value):
        raise InputError(f"expected {what} as an integer, got {value!r}")


def positive_integer(value: Any, what: str, remedy: str = "") -> None:
    """Raise an `InputError` unless a value is an `int` of at least 1; `remedy` follows in the message."""
    if not is_integer(value, 1):
        raise InputError(f"expected {what} as a positive integer, got {value!r}{remedy and '; ' + remedy}")


def number(value: Any, what: str, interval: str) -> None:
    """Raise an `InputError` unless a value is an `int` or `float` within an interval.

    >>> number(1.5, "drop", "[0, 1)")
    Traceback (most recent call last):
    gnn_xai.errors.InputError: expected drop as a number in [0, 1), got 1.5
    """
    if not is_number(value, interval):
        words = {"(0, inf)": "a positive number", "[0, inf)": "a number of at least 0"}
        raise InputError(f"expected {what} as {words.get(interval, f'a number in {interval}')}, got {value!r}")


def flag(value: Any, what: str) -> None:
    """Raise an `InputError` unless a value is `True` or `False`."""
    if not isinstance(value, bool):
        raise InputError(f"expected {what} as True or False, got {value!r}")


def one_of(value: Any, name: str, allowed: Sequence[Any]) -> None:
    """Raise an `InputError` unless an argument is one of a few values.

    >>> one_of("edges", "level", ["edge", "node", None])
    Traceback (most recent call last):
    gnn_xai.errors.InputError: expected level='edge', 'node' or None, got 'edges'
    """
    if not is_one_of(value, allowed):
        *first, last = map(repr, allowed)
        raise InputError(f"expected {name}={', '.join(first)} or {last}, got {value!r}")


def is_one_of(value: Any, allowed: Iterable[Any]) -> bool:
    """Whether a value is among others of its own type, so that 1 is not `True`."""
    return any(type(value) is type(choice) and value == choice for choice in allowed)
