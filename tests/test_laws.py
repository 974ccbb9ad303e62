"""Every law over every algorithm over every case; and that the laws can fail."""

from __future__ import annotations

from typing import Any

import pytest

import gnn_xai as gx
from gnn_xai import testing

# The laws hold for any number of steps, so few are taken.
FEW: dict[str, dict[str, Any]] = {
    "gnn_explainer": {"epochs": 6, "lr": 0.1},
    "integrated_gradients": {"steps": 6},
    "smooth_grad": {"samples": 3},
}


@pytest.mark.parametrize("case", testing.CASES.values(), ids=list(testing.CASES))
@pytest.mark.parametrize("name", gx.algorithms.REGISTRY)
@pytest.mark.parametrize("law", testing.LAWS.values(), ids=list(testing.LAWS))
def test_law(law: testing.Law, name: str, case: testing.Case) -> None:
    law(gx.algorithms.get(name, **FEW.get(name, {})), case)
