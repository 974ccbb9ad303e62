"""What all tests share."""

from __future__ import annotations

import matplotlib
import pytest
import torch
from hypothesis import settings

matplotlib.use("Agg")
# Tensors are tiny here: threads cost far more than they save, and workers run beside each other.
torch.set_num_threads(1)

# Few examples, the same in every run; `make test-all` draws many new ones.
settings.register_profile("few", max_examples=30, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=300, deadline=None)
settings.load_profile("few")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first, so that the other workers have something to do beside them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(params=["node", "graph"])
def level(request: pytest.FixtureRequest) -> str:
    """What the outputs of a model belong to."""
    return request.param
