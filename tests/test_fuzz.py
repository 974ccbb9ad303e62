"""Odd input of every kind: a sentence of the package, or an answer, and nothing is changed by a call that fails."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GCNConv, HeteroConv, SAGEConv, global_mean_pool

import gnn_xai as gx
from gnn_xai.errors import GnnXaiError, InputError

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
ENDS = torch.tensor([[0, 1, 2, 1], [1, 2, 3, 0]])


class Model(nn.Module):
    """Two classes of nodes, or of graphs."""

    def __init__(self, pools: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pools, self.conv = pools, GCNConv(3, 2)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Any = None) -> Tensor:
        out = self.conv(x, edge_index, edge_weight)
        return global_mean_pool(out, batch) if self.pools else out


NODES, GRAPHS = Model(False).eval(), Model(True).eval()


def tensors() -> list[Any]:
    """Tensors of every type, layout and shape, none of which should be where it is put."""
    of_types = [
        torch.zeros(4, 3).to(kind) for kind in (torch.half, torch.bool, torch.complex64, torch.uint8, torch.int32)
    ]
    unsigned = [torch.zeros(2, 3, dtype=kind) for kind in (torch.uint16, torch.uint32, torch.uint64)]
    layouts = [X.to_sparse(), X.to_sparse_csr(), torch.eye(4).to_sparse_csc(), X.to("meta"), ENDS.to("meta")]
    shapes = [
        torch.tensor(1.0),
        torch.tensor(3),
        X[0],
        X[:2],
        X[None],
        X[:, :0],
        X[:0],
        ENDS[:1],
        ENDS[0],
        ENDS.t(),
        ENDS[:, :0],
    ]
    values = [X * torch.nan, X * torch.inf, ENDS - 1, ENDS + 9, torch.tensor([[0, 2**62], [1, 1]]), ENDS.float()]
    return [*of_types, *unsigned, *layouts, *shapes, *values, torch.ones(4), torch.zeros(4, dtype=torch.long), ENDS, X]


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch's, on sparse layouts
    TENSORS = tensors()

ODD: list[Any] = [
    *TENSORS, None, True, 0, 1, -1, 3, 2**70, 1.5, float("nan"), 1j, "", "x", "edge", b"x", [], [0], [0, 9],
    [[0, 1], [1, 2]], [[0, 1], [1]], ((0, 1), (1, 2)), ["a"], {}, {"x": 1}, {0, 1}, object(), range(2), range(0),
    range(3, 0, -1), slice(None), slice(0, 2), slice(None, None, -1), slice(0, 3, 0), slice("a"), X.numpy(), ENDS.numpy(),
    np.array(["a"]), np.float64(1.0), np.int64(1), lambda *_: 1, int, ...,
]  # fmt: skip
KEYS = [
    "x",
    "edge_index",
    "edge_weight",
    "edge_attr",
    "batch",
    "num_nodes",
    "y",
    "u",
    "root_index",
    "adj_t",
    "ptr",
    "n_id",
    "e_id",
]
OPTIONS = ["index", "target", "task", "forward", "seed", "undirected", "max_neighbors", "batch_budget", "algorithm"]
WHOLE = [lambda d: d, lambda d: [d], lambda d: [Data(x=X, edge_index=ENDS), d], lambda d: (d, d)]


def bits(value: Any) -> Any:
    """What has to be the same afterwards."""
    if isinstance(value, Tensor):
        known = value.layout == torch.strided and not value.is_meta
        return (
            id(value),
            value._version,
            value.detach().contiguous().clone().view(torch.uint8).tolist() if known and value.dim() else None,
        )
    return id(value), repr(value)


def tried(attributes: dict[str, Any], options: dict[str, Any], wrap: int, pools: bool) -> None:
    """One odd call: an answer, or a sentence, and everything as it was."""
    data = Data(x=X, edge_index=ENDS)
    for key, value in attributes.items():
        data._store._mapping[key] = value  # as `data.key = value`, which takes None for a deletion
    model = GRAPHS if pools else NODES
    mapping = data._store._mapping
    before = {key: bits(value) for key, value in mapping.items()}
    state = {key: bits(value) for key, value in model.state_dict(keep_vars=True).items()}
    options = {"algorithm": "saliency", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(GnnXaiError):
            gx.explain(model, WHOLE[wrap](data), progress=False, **options)
    assert {key: bits(value) for key, value in mapping.items()} == before
    assert {key: bits(value) for key, value in model.state_dict(keep_vars=True).items()} == state
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


odd = st.integers(0, len(ODD) - 1).map(lambda i: ODD[i])
some_attributes = st.dictionaries(st.sampled_from(KEYS), odd, max_size=2)
some_options = st.dictionaries(st.sampled_from(OPTIONS), odd, max_size=2)


@settings(max_examples=500)
@given(some_attributes, some_options, st.integers(0, len(WHOLE) - 1), st.booleans())
def test_odd_calls(attributes: dict[str, Any], options: dict[str, Any], wrap: int, pools: bool) -> None:
    """Attributes and arguments that are something else."""
    tried(attributes, options, wrap, pools)


@pytest.mark.full
@settings(max_examples=10_000)
@given(some_attributes, some_options, st.integers(0, len(WHOLE) - 1), st.booleans())
def test_many_odd_calls(attributes: dict[str, Any], options: dict[str, Any], wrap: int, pools: bool) -> None:
    """The same, many times."""
    tried(attributes, options, wrap, pools)


# One odd option in a call that is right otherwise #####################################################################

DATA = Data(x=X, edge_index=ENDS, y=torch.tensor([0, 1, 0, 1]))
TRUTH = gx.GroundTruth(edge=torch.tensor([0, 0, -1, -1]), node=torch.tensor([0, 0, -1, 0]))


@cache
def answered() -> tuple[gx.Prepared, gx.Explanations]:
    return gx.prepare(NODES, DATA, task="node"), gx.explain(NODES, DATA, "saliency", progress=False)


def metric(name: str, **odd: Any) -> None:
    known = {
        "model": NODES,
        "data": DATA,
        "explanations": answered()[1],
        "ground_truth": TRUTH,
        "plus": 0.5,
        "minus": 0.2,
    }
    asked = inspect.signature(getattr(gx.metrics, name)).parameters
    getattr(gx.metrics, name)(**{key: known[key] for key in asked.keys() & known.keys()} | odd)


def options_of(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("model", "data", "out")]


SETTINGS: dict[str, Any] = {"algorithm": "saliency", "progress": False}
CALLS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "explain": (lambda **odd: gx.explain(NODES, DATA, **{**SETTINGS, **odd}), options_of(gx.explain)),
    "prepared": (lambda **odd: gx.explain(answered()[0], **{**SETTINGS, **odd}), options_of(gx.explain)),
    "prepare": (lambda **odd: gx.prepare(NODES, DATA, **odd), options_of(gx.prepare)),
    "compare": (
        lambda **odd: gx.compare(
            NODES, DATA, **{"algorithms": ["saliency"], "metrics": ["sparsity"], "progress": False, **odd}
        ),
        options_of(gx.compare),
    ),
    **{
        name: (partial(metric, name), list(inspect.signature(getattr(gx.metrics, name)).parameters))
        for name in gx.metrics.__all__
        if inspect.isfunction(getattr(gx.metrics, name))
    },
    **{
        name: (
            lambda _algorithm=algorithm, **odd: gx.explain(NODES, DATA, _algorithm(**odd), index=0, progress=False),
            [field.name for field in dataclasses.fields(algorithm)],
        )
        for name, algorithm in gx.algorithms.REGISTRY.items()
    },
}
STEP = len(ODD)
"""Each option gets one of so many odd values, in `make test-all` all of them."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", [0, *(pytest.param(start, marks=pytest.mark.full) for start in range(1, STEP))])
def test_odd_options(start: int) -> None:
    """Options of every function and algorithm, one of them odd: an answer, or a sentence."""
    wrong, position = [], start
    for name, (call, options) in CALLS.items():
        for option in options:
            position += 1
            for value in ODD[position % STEP :: STEP]:
                if type(value) is int and value > 1000 and name not in ("explain", "prepared", "prepare"):
                    continue  # so many steps, samples or seeds take as long as they take
                try:
                    with contextlib.suppress(GnnXaiError):
                        call(**{option: value})
                except Exception as error:
                    wrong.append(f"{name}({option}={value!r}): {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


class Typed(nn.Module):
    """Two classes of nodes of a type, or of heterogeneous graphs."""

    def __init__(self, pools: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pools = pools
        self.conv = HeteroConv({relation: SAGEConv((3, 3), 2) for relation in (("a", "r", "b"), ("b", "s", "a"))})

    def forward(self, x_dict: Any, edge_index_dict: Any, batch_dict: Any = None) -> Tensor:
        out = self.conv(x_dict, edge_index_dict)["a"]
        return global_mean_pool(out, batch_dict["a"]) if self.pools else out


TYPED_NODES, TYPED_GRAPHS = Typed(False).eval(), Typed(True).eval()
PLACES: list[tuple[Any, str]] = [
    *(("a", key) for key in ("x", "num_nodes", "batch", "y", "root_index", "n_id")),
    *((("a", "r", "b"), key) for key in ("edge_index", "edge_attr", "edge_weight", "edge_label_index", "e_id")),
    (None, "u"),
    ("c", "x"),
]


def typed() -> HeteroData:
    """A small heterogeneous graph."""
    data = HeteroData()
    data["a"].x, data["b"].x = X, X[:3]
    data["a", "r", "b"].edge_index = torch.tensor([[0, 1, 3], [0, 2, 1]])
    data["b", "s", "a"].edge_index = torch.tensor([[0, 1, 2], [0, 2, 1]])
    return data


def tried_typed(attributes: dict[Any, Any], options: dict[str, Any], wrap: int, pools: bool) -> None:
    """One odd call on a heterogeneous graph."""
    data, model = typed(), TYPED_GRAPHS if pools else TYPED_NODES
    for (holder, key), value in attributes.items():
        (data._global_store if holder is None else data[holder])._mapping[key] = value
    before = [bits(value) for store in data.stores for value in store._mapping.values()]
    state = {key: bits(value) for key, value in model.state_dict(keep_vars=True).items()}
    task = {"task": "graph"} if pools else {"task": "node", "node_type": "a"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(GnnXaiError):
            whole = [lambda d: d, lambda d: [d], lambda d: [typed(), d], lambda d: (d, d)][wrap](data)
            gx.explain(model, whole, progress=False, **{"algorithm": "saliency", **task, **options})
    assert [bits(value) for store in data.stores for value in store._mapping.values()] == before
    assert {key: bits(value) for key, value in model.state_dict(keep_vars=True).items()} == state


some_typed = st.dictionaries(st.sampled_from(PLACES), odd, max_size=2)


@settings(max_examples=150)
@given(some_typed, some_options, st.integers(0, 3), st.booleans())
def test_odd_calls_on_heterogeneous_graphs(attributes: Any, options: Any, wrap: int, pools: bool) -> None:
    """Attributes of types and relations that are something else."""
    tried_typed(attributes, options, wrap, pools)


@pytest.mark.full
@settings(max_examples=10_000)
@given(some_typed, some_options, st.integers(0, 3), st.booleans())
def test_many_odd_calls_on_heterogeneous_graphs(attributes: Any, options: Any, wrap: int, pools: bool) -> None:
    """The same, many times."""
    tried_typed(attributes, options, wrap, pools)


@pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch's, on sparse layouts
def test_what_contradicts_itself_in_types() -> None:
    """More rows of features than nodes; what PyG batches and cannot take apart, beside ids that have to be told apart."""
    data = typed()
    data["a"].num_nodes = 0
    with pytest.raises(
        InputError, match=r"expected data\['a'\].num_nodes as the number of rows of x \(4\), got 0; leave"
    ):
        gx.explain(TYPED_NODES, data, "saliency", node_type="a", progress=False)
    both = []
    for _ in range(2):
        data = typed()
        data["a", "r", "b"].e_id = X.to_sparse_csr()
        data["a", "r", "b"].edge_label_index = torch.tensor([[0], [1]])
        both.append(data)
    with pytest.raises(InputError, match="cannot be taken apart again: Could not run .*; leave out"):
        gx.explain(TYPED_GRAPHS, both, "saliency", progress=False)
    for store in both[0].edge_stores, both[1].edge_stores:
        del store[0]["e_id"]
    assert len(gx.explain(TYPED_GRAPHS, both, "saliency", progress=False)) == 2


def test_edges_of_relations_in_other_forms() -> None:
    """Lists and arrays are read as the tensor that they hold."""
    wanted = gx.explain(TYPED_NODES, typed(), "saliency", node_type="a", progress=False)
    data = typed()
    data["a", "r", "b"].edge_index = [[0, 1, 3], [0, 2, 1]]
    data["b", "s", "a"].edge_index = np.array([[0, 1, 2], [0, 2, 1]])
    found = gx.explain(TYPED_NODES, data, "saliency", node_type="a", progress=False)
    assert torch.equal(found.edge_mask, wanted.edge_mask)
    assert isinstance(data["a", "r", "b"].edge_index, list)


def test_edges_in_other_forms() -> None:
    """Lists, tuples and NumPy arrays are read as the tensor that they hold, also in lists of graphs."""
    wanted = gx.explain(NODES, Data(x=X, edge_index=ENDS), "saliency", progress=False)
    forms = (
        ENDS.tolist(),
        tuple(map(tuple, ENDS.tolist())),
        tuple(ENDS),
        ENDS.numpy(),
        ENDS.to(torch.uint16),
        ENDS.int(),
    )
    for form in forms:
        data = Data(x=X, edge_index=form)
        assert torch.equal(gx.explain(NODES, data, "saliency", progress=False).edge_mask, wanted.edge_mask)
        assert type(data.edge_index) is type(Data(edge_index=form).edge_index)
        assert len(gx.explain(GRAPHS, [data, data], "saliency", progress=False)) == 2


def test_task_as_a_dictionary() -> None:
    """As PyG's `model_config`; a wrong one is refused with what PyG says of it."""
    task = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
    data = Data(x=X, edge_index=ENDS)
    found = gx.explain(NODES, data, "saliency", task=task, progress=False)
    assert found.task == gx.explain(NODES, data, "saliency", task="node", progress=False).task
    with pytest.raises(InputError, match=r"expected task=dict\(mode=..., task_level=..., return_type=...\) as "):
        gx.explain(NODES, data, "saliency", task={"mode": "nothing"}, progress=False)


def test_model_without_output_columns() -> None:
    """Nothing can be explained."""
    model = GCNConv(3, 0).eval()
    with pytest.raises(InputError, match="expected output columns, such as one for each class"):
        gx.explain(model, Data(x=X, edge_index=ENDS), "saliency", progress=False)
