"""What an algorithm of a user's own gives back: used as it is, or refused in a sentence that names the algorithm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.extend import Scores, algorithm
from tests.models import model_and_graph


def explained(scores: Callable[[Any], Any], signed: bool = True, **more: Any) -> Any:
    """Three nodes, explained by an algorithm that gives back what `scores` makes of the computation graphs."""

    @algorithm("own", "whatever a test wants", signed=signed)
    class Own:
        def attribute(self, session: Any, graphs: Any, target: Any, prediction: Any) -> Any:
            return scores(graphs)

    return gx.explain(*model_and_graph(), Own(), index=[0, 3, 6], progress=False, **more)


def ones(graphs: Any) -> torch.Tensor:
    return torch.ones(len(graphs.edge))


@pytest.mark.parametrize(
    ("scores", "signed", "sentence"),
    [
        (lambda g: None, True, r"expected own.attribute to return gnn_xai.extend.Scores, got NoneType"),
        (lambda g: ones(g), True, "to return gnn_xai.extend.Scores, got Tensor"),
        (lambda g: Scores(), True, "to return scores of edges or nodes, got Scores without either"),
        (lambda g: Scores(ones(g)[:-1]), True, r"Scores\(edge=\) of shape \[\d+\], a score for each edge"),
        (lambda g: Scores(ones(g)[:, None]), True, r"got \[\d+, 1\]"),
        (lambda g: Scores(ones(g).tolist()), True, r"as a tensor \[\d+\], got list"),
        (lambda g: Scores(ones(g).to_sparse()), True, "as a dense tensor of real numbers, got torch.float32, torch.sparse"),
        (lambda g: Scores(ones(g) * 1j), True, "as a dense tensor of real numbers, got torch.complex64"),
        (lambda g: Scores(ones(g) * torch.nan), True, "expected finite scores from own, got nan for the instance at posi"),
        (lambda g: Scores(torch.where(g.edge_owner == 2, torch.inf, 1.0)), True, "got inf for the instance at position 2"),
        (lambda g: Scores(7 * ones(g)), False, r"own promises masks in \[0, 1\] \(signed=False\), got 7 for"),
        (lambda g: Scores(-ones(g)), False, r"got -1 for the instance at position 0 of index; return masks in"),
        (lambda g: Scores(node=torch.ones(len(g.node), 1)), True, r"Scores\(node=\) together with node_type= as one of"),
        (lambda g: Scores(ones(g), node_type="object"), True, "got node_type='object' and no scores of nodes"),
        (lambda g: Scores(node=torch.ones(len(g.node)), node_type="object"), True, r"of shape \[\d+, features\]"),
        (lambda g: Scores(node=torch.ones(len(g.node), 2), node_type="object"), True, "one score for each node for"),
        (lambda g: Scores(node=torch.ones(len(g.node), 2), node_type="common_attributes"), True, r"of shape \[3, featur"),
    ],
)  # fmt: skip
def test_scores_of_no_use_are_refused(scores: Any, signed: bool, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        explained(scores, signed)


@pytest.mark.parametrize(
    ("extras", "sentence"),
    [
        (
            lambda g: {"node_count": torch.ones(len(g))},
            r"extras\['node_count'\] with one row for each node \(\d+\), got",
        ),
        (lambda g: {"walks": ones(g)}, r"with one row for each instance \(3\), got shape"),
        (
            lambda g: {"loss": torch.tensor(1.0)},
            r"with one row for each instance \(3\), got shape \[\]; names that start",
        ),
        (lambda g: {"parts": [[1], [2], []]}, "as a dense tensor of real numbers, got list"),
        (lambda g: {"target": torch.ones(3)}, "under a name of its own, not that of a column of explanations"),
        (lambda g: {"edge_score": ones(g)}, "under a name of its own"),
        (lambda g: {3: torch.ones(3)}, "under a name of its own"),
    ],
)
def test_extras_of_no_use_are_refused(extras: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        explained(lambda g: Scores(ones(g), extras=extras(g)))


def test_scores_in_other_forms_and_extras_of_every_level_can_be_used(tmp_path: Path) -> None:
    def scores(graphs: Any) -> Scores:
        whole = torch.ones(len(graphs), requires_grad=True)
        extras = {"cost": whole * 2, "both": torch.ones(len(graphs), 2), "edge_walks": ones(graphs), "node_depth": None}
        extras["node_depth"] = torch.arange(len(graphs.node))
        return Scores(graphs.edge % 2 == 0, extras=extras)

    found = explained(scores, signed=False)
    assert found.edge_mask.dtype == torch.float32
    assert set(found.edge_mask.tolist()) == {0.0, 1.0}
    part = gx.load(found[1:].save(tmp_path / "found.safetensors"))
    assert torch.equal(part.extras["edge_walks"], torch.ones(len(part.edge_id)))
    assert found.to_pandas()["cost"].tolist() == [2.0, 2.0, 2.0]
    assert found.to_pandas("edge")["walks"].tolist() == [1.0] * len(found.edge_id)


def test_a_mask_may_be_off_by_rounding() -> None:
    assert explained(lambda g: Scores(ones(g) * (1 + 5e-7)), signed=False).edge_mask.max() == 1.0
