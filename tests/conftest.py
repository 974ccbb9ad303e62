"""What all tests share."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import jaxtyping
import matplotlib
import pytest
import torch
from hypothesis import settings

import tests.checked

matplotlib.use("Agg")
# Tensors are tiny here: threads cost far more than they save, and workers run beside each other.
torch.set_num_threads(1)

# Few examples, the same in every run; `make test-all` draws many new ones.
settings.register_profile("few", max_examples=30, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=300, deadline=None)
settings.load_profile("few")


# Rooms whose signatures `--check-shapes` checks.
ROOMS = [f"gnn_xai.core.{room}" for room in ("arrays", "graphs", "inputs", "propagation", "model", "engines")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--check-shapes`, which makes tests take three quarters longer."""
    parser.addoption("--check-shapes", action="store_true", help="check shapes and types in signatures of the core")


def pytest_configure(config: pytest.Config) -> None:
    """Put the checker on modules that are imported from here on."""
    if config.getoption("--check-shapes"):
        jaxtyping.install_import_hook(ROOMS, f"{tests.checked.__name__}.checked")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first, so that the other workers have something to do beside them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Modules and tests stay for as long as the process: the garbage collector need not look through them again."""
    gc.freeze()


@pytest.fixture(params=["node", "graph"])
def level(request: pytest.FixtureRequest) -> str:
    """What the outputs of a model belong to."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def load_anew() -> Iterator[Callable[..., Any]]:
    """Reading molecules takes seconds, so a worker reads each benchmark once and `gnn_xai.datasets.load` returns copies.

    Tests may change their model and graphs, but not write into tensors of a list of graphs. Yields what reads every time.
    """
    from gnn_xai import datasets  # not before the checker of shapes is in place

    read, read_once = datasets.load, cache(datasets.load)

    def load(name: str, checkpoint: str = datasets.recipe.REFERENCE) -> Any:
        benchmark = read_once(name, checkpoint)
        data = benchmark.data
        data = [copy.copy(graph) for graph in data] if isinstance(data, list) else data.clone()
        return replace(benchmark, data=data, model=copy.deepcopy(benchmark.model))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", load)
        yield read
