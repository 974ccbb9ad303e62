"""Batches of plain graphs are those that PyG makes, to the last detail."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.nn import global_add_pool

from gnn_xai.core.graphs import collate as module
from gnn_xai.core.graphs.collate import collate

Make = Callable[[int, int], Any]

ATTRIBUTES: dict[str, Make] = {
    "x": lambda n, m: torch.rand(n, 3),
    "pos": lambda n, m: torch.rand(n, 2, dtype=torch.float64),
    "edge_index": lambda n, m: torch.randint(n, (2, m)),
    "edge_attr": lambda n, m: torch.rand(m, 2),
    "e_id": lambda n, m: torch.arange(m, dtype=torch.int32),
    "root_index": lambda n, m: torch.tensor(n - 1),
    "pair_index": lambda n, m: torch.randint(n, (2,), dtype=torch.int32),
    "face": lambda n, m: torch.randint(n, (3, m)),
    "flag": lambda n, m: torch.tensor(m > 1),
    "y": lambda n, m: torch.tensor([n]),
    "energy": lambda n, m: n / 3,
    "count": lambda n, m: m,
    "even": lambda n, m: m % 2 == 0,
    "smiles": lambda n, m: "C" * n,
    "num_nodes": lambda n, m: n,
}


@st.composite
def graphs(draw: st.DrawFn) -> list[Data]:
    keys = draw(st.permutations(sorted(ATTRIBUTES)).map(tuple))[: draw(st.integers(0, len(ATTRIBUTES)))]
    keys = (*keys, *({"x"} - {*keys, "num_nodes"} if "num_nodes" not in keys else ()))
    torch.manual_seed(draw(st.integers(0, 1000)))
    sizes = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=5))
    made = []
    for n, m in sizes:
        data = Data()
        for key in keys:
            data[key] = ATTRIBUTES[key](n, m)
        made.append(data)
    return made


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert one.device == other.device
        assert torch.equal(one.to_dense(), other.to_dense())
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, Data):
        assert_same(state(one), state(other))
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def state(data: Data) -> dict[str, Any]:
    """All that an object holds, private attributes included."""
    store = {key: value for key, value in vars(data._store).items() if key not in ("_parent", "_cached_attr")}
    return {**{key: value for key, value in vars(data).items() if key != "_store"}, **store}


@given(graphs())
def test_a_batch_of_plain_graphs_is_that_of_pyg(items: list[Data]) -> None:
    before = copy.deepcopy(items)
    ours, theirs = collate(items), Batch.from_data_list(items)
    assert_same(ours, theirs)
    assert_same(ours.to_data_list(), theirs.to_data_list())
    assert_same(ours.index_select([len(items) - 1]), theirs.index_select([len(items) - 1]))
    assert_same(pickle.loads(pickle.dumps(ours)), theirs)
    assert_same(items, before)
    assert ours.num_graphs == len(items)
    assert_same(global_add_pool(torch.ones(ours.num_nodes, 1), ours.batch).flatten(), theirs.ptr.diff().float())


@given(graphs())
def test_plain_graphs_are_not_left_to_pyg(items: list[Data]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(module.Batch, "from_data_list")
        collate(items)


class Increments(Data):
    """Its roots are counted by edges."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_edges if key == "root_index" else super().__inc__(key, value, *args, **kwargs)


def plain(n: int, kind: type[Data] = Data, **more: Any) -> Data:
    return kind(x=torch.rand(n, 2), edge_index=torch.tensor([[0], [n - 1]]), **more)


def in_order(**attributes: Any) -> Data:
    data = Data()
    for key, value in attributes.items():
        data[key] = value
    return data


SPECIAL: dict[str, list[Data]] = {
    "own class": [plain(n, Increments, root_index=torch.tensor([0])) for n in (2, 3)],
    "classes": [plain(2), plain(3, Increments)],
    "batch": [plain(n, node_batch=torch.tensor([0, 1])) for n in (2, 3)],
    "follow": [plain(n, ptr=torch.tensor([0, n])) for n in (2, 3)],
    "sparse": [plain(n, adj=torch.eye(n).to_sparse()) for n in (2, 3)],
    "nested": [plain(n, names=["a", "b"], sizes={"n": torch.tensor([n])}) for n in (2, 3)],
    "array": [plain(n, array=np.arange(n)) for n in (2, 3)],
    "mixed": [plain(2, label="a"), plain(3, label=1)],
    "mixed the other way": [plain(2, label=1), plain(3, label="a")],
    "mixed numbers": [plain(2, label=1), plain(3, label=0.5)],
    "mixed types": [plain(2, label=torch.tensor([1])), plain(3, label=torch.tensor([0.5]))],
    "parameter": [plain(n, w=torch.nn.Parameter(torch.ones(n))) for n in (2, 3)],
    "number of nodes by edges": [Data(edge_index=torch.tensor([[0], [n]])) for n in (2, 3)],
    "features of another name": [Data(feat=torch.rand(n, 2)) for n in (2, 3)],
    "mask of nodes": [Data(node_mask=torch.ones(n), edge_index=torch.tensor([[0], [1]])) for n in (2, 3)],
    "two numbers of nodes": [plain(3, n_id=torch.arange(2)), in_order(n_id=torch.arange(2), **plain(3).to_dict())],
    "features last": [in_order(n_id=torch.arange(2), **plain(3).to_dict())] * 2,
    "flags of nodes": [plain(n, node_index=torch.ones(n).bool()) for n in (2, 3)],
    "numbers of nodes": [plain(n, root_index=n - 1) for n in (2, 3)],
    "more": [plain(2), plain(3, extra=torch.ones(1))],
    "order": [Data(x=torch.ones(2, 1), y=1), Data(y=1, x=torch.ones(3, 1))],
    "scalar and vector": [plain(2, label=torch.tensor(1)), plain(3, label=torch.tensor([1]))],
    "less": [plain(2, extra=torch.ones(1)), plain(3)],
    "widths": [plain(2, extra=torch.ones(1, 2)), plain(3, extra=torch.ones(1, 3))],
    "scalar features": [Data(x=torch.tensor(1.0), edge_index=torch.zeros(2, 0).long())] * 2,
}


@pytest.mark.parametrize("case", SPECIAL)
def test_whatever_is_not_plain_is_batched_by_pyg(case: str) -> None:
    def attempt(make: Callable[[list[Data]], Any]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the number of nodes is a guess, PyG says so
            try:
                return make(SPECIAL[case])
            except Exception as error:
                return type(error), str(error)

    assert_same(attempt(collate), attempt(Batch.from_data_list))
