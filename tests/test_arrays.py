"""Ragged arithmetic, edge matching, batches and keyed random numbers, against loops over Python lists."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.keyed_random import keyed_bits, keyed_normal, keyed_uniform, mix
from gnn_xai.core.arrays.segments import (
    gather_segments,
    owners,
    pointers,
    segment_max,
    segment_mean,
    segment_ranks,
    segment_sum,
)
from gnn_xai.core.graphs.matching import match_edges, pair_directions
from gnn_xai.errors import InputError

counts_of = st.lists(st.integers(0, 4), min_size=1, max_size=8)


def segments(counts: list[int]) -> list[list[int]]:
    flat = iter(range(sum(counts)))
    return [[next(flat) for _ in range(count)] for count in counts]


# Ragged arithmetic ###################################################################################################


@given(counts_of)
def test_pointers_and_owners(counts: list[int]) -> None:
    ptr = pointers(torch.tensor(counts))
    assert ptr.tolist() == [sum(counts[:i]) for i in range(len(counts) + 1)]
    assert owners(ptr).tolist() == [i for i, count in enumerate(counts) for _ in range(count)]


@given(counts_of, st.data())
def test_gather_segments(counts: list[int], data: st.DataObject) -> None:
    select = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=10))
    positions, ptr = gather_segments(pointers(torch.tensor(counts)), torch.tensor(select, dtype=torch.int64))
    chosen = [segments(counts)[i] for i in select]
    assert positions.tolist() == [position for segment in chosen for position in segment]
    assert ptr.diff().tolist() == [len(segment) for segment in chosen]


@given(counts_of, st.data())
def test_reductions(counts: list[int], data: st.DataObject) -> None:
    size = sum(counts)
    values = data.draw(st.lists(st.floats(0, 1e3), min_size=size, max_size=size))
    owner = data.draw(st.permutations(owners(pointers(torch.tensor(counts))).tolist()))
    parts = [[v for v, o in zip(values, owner, strict=True) if o == i] for i in range(len(counts))]
    given_ = torch.tensor(values, dtype=torch.float64), torch.tensor(owner, dtype=torch.int64), len(counts)
    assert segment_sum(*given_).tolist() == pytest.approx([sum(part) for part in parts])
    assert segment_mean(*given_).tolist() == pytest.approx([sum(p) / len(p) if p else 0 for p in parts])
    assert segment_max(*given_).tolist() == [max(part, default=0) for part in parts]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=20), st.booleans())
def test_ranks_count_what_comes_before(rows: list[tuple[int, int]], descending: bool) -> None:
    """Within a segment, by value; of equal values, those that stand before."""
    owner, values = (
        torch.tensor(column, dtype=torch.int64) for column in (zip(*rows, strict=True) if rows else ((), ()))
    )
    found = segment_ranks(values, owner, 4, descending)
    for place, (segment, value) in enumerate(rows):
        key = -value if descending else value
        keys = [(-v if descending else v, i) for i, (s, v) in enumerate(rows) if s == segment]
        assert int(found[place]) == sum(other < (key, place) for other in keys)


# Edges ###############################################################################################################

edges_of = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20)


def edge_index(edges: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()


@given(edges_of, edges_of)
def test_match_edges(query: list[tuple[int, int]], edges: list[tuple[int, int]]) -> None:
    copies = defaultdict(list)
    for position, edge in enumerate(edges):
        copies[edge].append(position)
    waiting = {edge: iter(positions) for edge, positions in copies.items()}
    expected = [next(waiting.get(edge, iter(())), -1) for edge in query]
    assert match_edges(edge_index(query), edge_index(edges), 4).tolist() == expected


@given(edges_of, st.data())
def test_directions_pair_by_kind_and_then_in_order(edges: list[tuple[int, int]], data: st.DataObject) -> None:
    kind = data.draw(st.lists(st.integers(0, 2), min_size=len(edges), max_size=len(edges)))
    copies: dict[tuple[int, int], list[int]] = defaultdict(list)
    for edge in sorted(range(len(edges)), key=lambda edge: kind[edge]):
        copies[edges[edge]].append(edge)
    found = pair_directions(edge_index(edges), 4, torch.tensor(kind, dtype=torch.int64)).tolist()
    for edge, (u, v) in enumerate(edges):
        place, others = copies[u, v].index(edge), copies[v, u]
        assert found[edge] == (others[place] if place < len(others) else -1)


@given(edges_of, st.randoms())
def test_match_edges_undoes_a_permutation(edges: list[tuple[int, int]], random) -> None:
    order = list(range(len(edges)))
    random.shuffle(order)
    found = match_edges(edge_index([edges[i] for i in order]), edge_index(edges), 4).tolist()
    assert sorted(found) == list(range(len(edges)))  # every edge once, copies too
    assert [edges[i] for i in found] == [edges[i] for i in order]


# Batches #############################################################################################################


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 20))
def test_batches(cost: list[int], limit: int) -> None:
    found = [batch.tolist() for batch in batches.batches(torch.tensor(cost, dtype=torch.float64), float(limit))]
    assert [i for batch in found for i in batch] == list(range(len(cost)))
    for batch in found:
        total = sum(cost[i] for i in batch)
        assert total <= limit or len(batch) == 1
        if batch[-1] + 1 < len(cost):  # as full as it can be
            assert total + cost[batch[-1] + 1] > limit


@given(st.integers(1, 40), st.integers(1, 7))
def test_a_batch_that_runs_out_of_memory_is_halved(size: int, fits: int) -> None:
    done: list[int] = []

    def work(positions: torch.Tensor) -> None:
        if len(positions) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(positions.tolist())

    batches.for_each_batch(work, torch.ones(size), math.inf)
    assert done == list(range(size))


def test_an_instance_that_does_not_fit_is_named() -> None:
    def work(positions: torch.Tensor) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(InputError, match="one instance alone does not fit into memory"):
        batches.for_each_batch(work, torch.ones(4), math.inf)


def test_other_errors_come_through() -> None:
    def work(positions: torch.Tensor) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        batches.for_each_batch(work, torch.ones(4), math.inf)


# Keyed random numbers ################################################################################################

GOLDEN, MASK = 0x9E3779B97F4A7C15, 2**64 - 1
int64 = st.integers(-(2**63), 2**63 - 1)


def splitmix(z: int) -> int:
    z = (z + GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(int64)
def test_mix_is_splitmix64(z: int) -> None:
    assert int(mix(torch.tensor(z))) & MASK == splitmix(z & MASK)


def test_mix_of_zero_is_the_published_first_number() -> None:
    # The first output of splitmix64 seeded with 0, from the generator's reference implementation.
    assert int(mix(torch.tensor(0))) & MASK == 0xE220A8397B1DCDAF


@given(st.integers(-(2**70), 2**70), st.lists(int64, min_size=1, max_size=3))
def test_keyed_bits_hash_the_keys_in_turn(seed: int, keys: list[int]) -> None:
    state = splitmix(seed & MASK)
    for key in keys:
        state = splitmix(state ^ (key & MASK))
    assert int(keyed_bits(seed, *map(torch.tensor, keys))) & MASK == state


def test_numbers_do_not_depend_on_companions() -> None:
    instance, element = torch.arange(50).repeat_interleave(20), torch.arange(20).repeat(50)
    together = keyed_normal(7, instance, element)
    chosen = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:100]
    assert torch.equal(keyed_normal(7, instance[chosen], element[chosen]), together[chosen])
    assert float(keyed_normal(7, torch.tensor(3), torch.tensor(4))) == float(together[3 * 20 + 4])
    state = torch.get_rng_state()
    keyed_normal(7, instance, element)
    assert torch.equal(torch.get_rng_state(), state)


def test_numbers_are_uniform_and_normal() -> None:
    # 200 000 numbers: a Kolmogorov distance above 0.0044 has a chance of one in a thousand.
    keys = torch.arange(400).unsqueeze(1), torch.arange(500).unsqueeze(0)
    uniform = keyed_uniform(0, *keys).flatten().sort().values
    steps = torch.arange(len(uniform)) / len(uniform)
    assert float((uniform - steps).abs().max()) < 0.0044
    assert 0 < float(uniform[0]) < float(uniform[-1]) < 1
    assert len(uniform.unique()) == len(uniform)
    normal = keyed_normal(0, *keys)
    assert abs(float(normal.mean())) < 0.01
    assert abs(float(normal.std()) - 1) < 0.01
    assert abs(float((normal**4).mean()) - 3) < 0.1


def test_neighbouring_keys_and_seeds_are_uncorrelated() -> None:
    rows = keyed_normal(0, torch.arange(40).unsqueeze(1), torch.arange(2000).unsqueeze(0))
    columns = keyed_normal(0, torch.arange(2000).unsqueeze(0), torch.arange(40).unsqueeze(1))
    seeds = torch.stack([keyed_normal(seed, torch.arange(2000)) for seed in range(-20, 20)])
    for sample in (rows, columns, seeds):  # 780 correlations, each within 5 standard errors of 0
        correlation = torch.corrcoef(sample).fill_diagonal_(0)
        assert float(correlation.abs().max()) < 5 / 2000**0.5
    assert not torch.equal(rows, columns)  # the order of keys matters


@given(st.integers(), st.integers())
def test_extreme_uniforms_give_finite_normals(seed: int, key: int) -> None:
    assert bool(torch.isfinite(keyed_normal(seed, torch.tensor(key % 2**62))))
