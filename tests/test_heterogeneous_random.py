"""Random small heterogeneous graphs and layers of many kinds, beside the model run on the whole data, element by element."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

import gnn_xai as gx
from tests.heterogeneous import (
    LAYERS,
    WHOLE,
    Relations,
    edges_of,
    margin,
    masked_messages,
    nodes_of,
    output,
    random_data,
    seeded,
    without_edge,
    without_node,
)

KINDS = [*LAYERS, *WHOLE]

TOLERANCE = 1e-6
"""Of scores of a size around 1. Computation graphs may be 1e-5 off the whole data before they count as not enough."""


def wanted(model: Relations, data: HeteroData, index: int, target: int, level: str, removal: str) -> Tensor:
    """Drops of the score, one element taken out at a time, in the order of flat ids."""
    full = margin(output(model, data)[index], target)
    left = []
    for element in list(edges_of(data) if level == "edge" else nodes_of(data)):
        name, number = element
        ones = {relation: torch.ones(data[relation].num_edges, dtype=torch.float64) for relation in data.edge_types}
        row, rest = index, data
        if level == "edge" and removal == "structural":
            rest = without_edge(data, *element)
        elif level == "edge":
            ones[name][number] = 0
        elif element == (model.explained, index):  # the explained node stays, with features 0 and its edges
            rest = data.clone()
            rest[name].x[number] = 0
        elif removal == "structural":
            rest = without_node(data, name, number)
            row -= name == model.explained and number < index
        else:
            rest = data.clone()
            rest[name].x[number] = 0
            for relation in data.edge_types:
                for end, kind in enumerate((relation[0], relation[2])):
                    if kind == name:
                        ones[relation][data[relation].edge_index[end] == number] = 0
        if removal == "structural":
            ones = {relation: torch.ones(rest[relation].num_edges) for relation in rest.edge_types}
        with masked_messages(model, ones):
            left.append(full - margin(output(model, rest)[row], target))
    return torch.stack(left) if left else torch.zeros(0, dtype=torch.float64)


def run(seed: int) -> None:
    """One random graph, layer, level and removal."""
    rng = torch.Generator().manual_seed(seed)
    data = random_data(seed)
    kind = KINDS[seed % len(KINDS)]
    level = ("edge", "node")[seed // len(KINDS) % 2]
    removal = ("structural", "message")[seed // len(KINDS) // 2 % 2]
    explained = data.node_types[int(torch.randint(len(data.node_types), (1,), generator=rng))]
    model = seeded(lambda: Relations(data, kind, explained, steps=1 + seed % 3), seed)
    assert isinstance(model, Relations)
    algorithm = (gx.EdgeAblation if level == "edge" else gx.NodeAblation)(removal=removal)
    explanations = gx.explain(model, data, algorithm, node_type=explained, undirected=False, progress=False)
    for e in explanations:
        mask, ids = (e.edge_mask, e.edge_id) if level == "edge" else (e.node_mask[:, 0], e.node_id)
        want = wanted(model, data, e.index, e.target, level, removal)
        got = torch.zeros_like(want).index_copy(0, ids, mask)
        gap = float((got - want).abs().max()) if len(want) else 0.0
        assert gap <= TOLERANCE, (
            f"seed {seed}: {kind}, {level}, {removal}, {explained} {e.index} is off by {gap:.2g}\n{data}"
        )


QUICK = [*range(12), 46]
"""The last has one relation with edges, on which a layer runs that joins relations."""


@pytest.mark.filterwarnings("ignore::gnn_xai.errors.GnnXaiWarning")  # layers that need the whole graph, no edges, ...
@pytest.mark.parametrize(
    "seed", [seed if seed in QUICK else pytest.param(seed, marks=pytest.mark.full) for seed in range(2000)]
)
def test_random_graph(seed: int) -> None:
    run(seed)
