"""Covering arrays hold what they promise, in few rows."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.covering import covering, covering_array


@pytest.mark.parametrize(
    ("sizes", "strength", "at_most"),
    [
        ((3, 4, 2), 1, 4),
        ((3,), 2, 3),
        ((9, 14, 5), 2, 126),
        ((2, 6, 3, 7, 3), 2, 46),
        ((3,) * 4, 2, 12),
        ((2,) * 5, 3, 14),
    ],
)
def test_every_combination_is_held(sizes: tuple[int, ...], strength: int, at_most: int) -> None:
    rows = covering_array(sizes, strength)
    assert len(set(rows)) == len(rows) <= at_most
    for columns in combinations(range(len(sizes)), min(strength, len(sizes))):
        wanted = set(product(*(range(sizes[column]) for column in columns)))
        assert {tuple(row[column] for column in columns) for row in rows} == wanted


def test_the_rest_of_the_product_is_marked() -> None:
    _, settings = covering(1, number=[1, 2, 3], kind={"a": None, "b": int}).args
    assert [setting.id for setting in settings] == ["1-a", "1-b", "2-a", "2-b", "3-a", "3-b"]
    assert [setting.values for setting in settings if not setting.marks] == [(1, None), (2, int), (3, None)]
    assert {mark.name for setting in settings for mark in setting.marks} == {"full"}
