"""Covering arrays: few settings of many parameters in which every value, or every two values, occur.

A fault that shows under one value of a parameter, or where two values meet, is met by some setting of a pairwise array;
the full product is run by `make test-all`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import pytest


def covering_array(sizes: Sequence[int], strength: int) -> list[tuple[int, ...]]:
    """Rows of values, one column for each size, that hold every combination of values of any `strength` columns.

    Greedy and deterministic: a row starts from the first combination that no row holds yet; its other columns take the
    value that brings the most new combinations, and among equal ones the value that was used least.
    """
    strength = min(strength, len(sizes))
    missing = {
        tuple(zip(columns, values, strict=True))
        for columns in combinations(range(len(sizes)), strength)
        for values in product(*(range(sizes[column]) for column in columns))
    }
    used = [[0] * size for size in sizes]
    rows = []
    while missing:
        row = dict(min(missing))
        for column in sorted(set(range(len(sizes))) - row.keys(), key=lambda column: -sizes[column]):
            others = list(combinations(row.items(), strength - 1))

            def new(value: int, column: int = column, others: list[Any] = others) -> tuple[int, int]:
                brought = sum(tuple(sorted((*some, (column, value)))) in missing for some in others)
                return brought, -used[column][value]

            row[column] = max(range(sizes[column]), key=new)
        missing.difference_update(combinations(sorted(row.items()), strength))
        for column, value in row.items():
            used[column][value] += 1
        rows.append(tuple(row[column] for column in range(len(sizes))))
    return rows


def covering(strength: int, **parameters: Iterable[Any] | Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrise a test by a covering array; the rest of the product is marked `full`.

    Args:
        strength: how many parameters' values meet in every combination: 1 runs every value at least once, 2 every pair.
        parameters: the values of each parameter, or a mapping from their names in the ids of tests to the values.
    """
    axes = [list(v.items()) if isinstance(v, Mapping) else [(_name(x), x) for x in v] for v in parameters.values()]
    chosen = set(covering_array([len(axis) for axis in axes], strength))
    settings = []
    for row in product(*(range(len(axis)) for axis in axes)):
        names, values = zip(*(axis[value] for axis, value in zip(axes, row, strict=True)), strict=True)
        marks = () if row in chosen else pytest.mark.full
        settings.append(pytest.param(*values, id="-".join(names), marks=marks))
    return pytest.mark.parametrize(list(parameters), settings)


def _name(value: Any) -> str:
    """A class or a function by its name, an algorithm by that of its class, a tuple by its parts, all else as printed."""
    if isinstance(value, tuple):
        return "+".join(map(_name, value))
    named = value if hasattr(value, "__name__") else type(value) if hasattr(value, "attribute") else None
    return str(value) if named is None else named.__name__


def pairwise(**parameters: Iterable[Any] | Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrise a test so that every two values of two parameters meet; the rest of the product is marked `full`."""
    return covering(2, **parameters)


def every_value(**parameters: Iterable[Any] | Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrise a test so that every value of every parameter occurs; the rest of the product is marked `full`."""
    return covering(1, **parameters)
