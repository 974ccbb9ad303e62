"""Hetero-Squares: two users and two items in a square; the relation of its edges makes the class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from gnn_xai.datasets import planted
from gnn_xai.datasets.models import HeteroGraphConvs
from gnn_xai.datasets.recipe import Material, Recipe, Training, hetero_graph, split_ids
from gnn_xai.results.ground_truth import GroundTruth

USERS, ITEMS = 300, 150  # of the base
SQUARES = 60  # of each kind
# In turn: the relation of the first user's two edges and of the second one's. The third kind is the decoy.
KINDS = (("buys", "buys"), ("views", "views"), ("buys", "views"))
DECOY = 2
RELATIONS = {
    ("user", "buys", "item"): "bought_by",
    ("user", "views", "item"): "viewed_by",
    ("user", "follows", "user"): "followed_by",
}
"""Each with the name of its reverse."""
CLASS_NAMES = ("neither", "buyer", "viewer")


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors.

    Every base user buys 0 to 3 and views 0 to 3 of the base items, and follows two users. A square is two users, two items
    and the four edges between them, of the relations in `KINDS`; its first user follows a base user of its own. For each
    relation, a user of a square buys or views one base item with probability 0.6, and an item of a square is bought or
    viewed by one base user with probability 0.3.

    Returns:
        ``buys``, ``views``, ``follows`` ``[2, E]`` sorted; ``buys_square``, ``views_square`` ``[E]``, ``user_square``,
        ``item_square`` ``[N]``: the square that owns the element, -1 for none; ``split`` ``[users]``: 0 train (80%), 1 val
        (10%), 2 test (10%).
    """
    random = np.random.RandomState(seed)
    edges: dict[str, dict[tuple[int, int], int]] = {"buys": {}, "views": {}, "follows": {}}
    for user in range(USERS):
        for relation in ("buys", "views"):
            edges[relation] |= {(user, item): -1 for item in random.permutation(ITEMS)[: random.randint(0, 4)].tolist()}
        edges["follows"] |= {(user, other): -1 for other in random.permutation(USERS)[:2].tolist() if other != user}
    anchors = random.permutation(USERS).tolist()
    for square in range(SQUARES * len(KINDS)):
        users, items = ([first + 2 * square, first + 2 * square + 1] for first in (USERS, ITEMS))
        for user, relation in zip(users, KINDS[square % len(KINDS)], strict=True):
            edges[relation] |= {(user, item): square for item in items}
        edges["follows"][users[0], anchors[square]] = -1
        for relation in ("buys", "views"):
            some_users, some_items = random.randint(USERS, size=2).tolist(), random.randint(ITEMS, size=2).tolist()
            coins = random.rand(4).tolist()
            edges[relation] |= {(users[at], some_items[at]): -1 for at in (0, 1) if coins[at] < 0.6}
            edges[relation] |= {(some_users[at], items[at]): -1 for at in (0, 1) if coins[2 + at] < 0.3}
    owner = torch.arange(SQUARES * len(KINDS)).repeat_interleave(2)
    tensors = {
        f"{what}_square": torch.cat([torch.full((base,), -1), owner])
        for what, base in (("user", USERS), ("item", ITEMS))
    }
    for relation, squares in edges.items():
        tensors[relation] = torch.tensor(sorted(squares)).t().contiguous()
        if relation != "follows":
            tensors[f"{relation}_square"] = torch.tensor([squares[edge] for edge in sorted(squares)])
    tensors["split"] = planted.split(len(tensors["user_square"]), random)
    return {name: tensor.short() for name, tensor in tensors.items()}


def read(frozen: dict[str, Tensor]) -> Material:
    """Features are ones, so only relations tell the classes; `data["user"].square` says who is in a decoy, too."""
    squares = {what: frozen[f"{what}_square"].long() for what in ("user", "item", "buys", "views")}
    truth = {what: torch.where(square % len(KINDS) == DECOY, -1, square) for what, square in squares.items()}
    data = HeteroData()
    for what in ("user", "item"):
        data[what].x = torch.ones(len(squares[what]), 1)
        data[what].square = squares[what]
    data["user"].y = torch.where(truth["user"] >= 0, 1 + truth["user"] % len(KINDS), 0)
    edge_truth = {}
    for relation, back in RELATIONS.items():
        source, name, target = relation
        data[relation].edge_index = frozen[name].long()
        edge_truth[relation] = truth.get(name, torch.full((frozen[name].size(1),), -1))
        edge_truth[target, back, source] = edge_truth[relation]
    for source, name, target in RELATIONS:
        data[target, RELATIONS[source, name, target], source].edge_index = frozen[name].long().flip(0)
    return Material(
        data=data,
        ground_truth=GroundTruth(edge=edge_truth, node={"user": truth["user"], "item": truth["item"]}),
        split=split_ids(frozen["split"]),
        class_names=CLASS_NAMES,
    )


def model() -> nn.Module:
    """Two layers of width 16 that add up neighbours, with weights for each relation."""
    relations = [*RELATIONS, *((target, back, source) for (source, _, target), back in RELATIONS.items())]
    return HeteroGraphConvs({"user": 1, "item": 1}, relations, 16, len(CLASS_NAMES), 2, "user")


def fit(model: nn.Module, material: Material) -> None:
    """Full batch, 1 000 steps, see `planted.descend`."""
    data, train = hetero_graph(material), material.split["train"]

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(data.x_dict, data.edge_index_dict)[train], data["user"].y[train])

    planted.descend(model, loss, steps=1000, rate=0.02, weight_decay=0.01)


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Share of users with the right class, per split: of all, of those in true squares, in decoys, and in none."""
    data = hetero_graph(material)
    square, y = data["user"].square, data["user"].y
    with torch.no_grad():
        right = (model(data.x_dict, data.edge_index_dict).argmax(dim=-1) == y).double()
    return {
        name: {
            "accuracy": right[ids].mean().item(),
            "square_accuracy": right[ids][y[ids] > 0].mean().item(),
            "decoy_accuracy": right[ids][(square[ids] >= 0) & (y[ids] == 0)].mean().item(),
            "base_accuracy": right[ids][square[ids] < 0].mean().item(),
        }
        for name, ids in (material.split | {"all": torch.arange(len(y))}).items()
    }


def instances(model: nn.Module, material: Material) -> Tensor:
    """The users of true squares, in order of their ids."""
    return (hetero_graph(material)["user"].y > 0).nonzero().flatten()


def relations_drawn_anew(material: Material) -> Material:
    """A coin decides for every edge between a user and an item whether it is of `buys` or of `views`: the squares are there,
    their relations say nothing.
    """
    data = hetero_graph(material).clone()
    names = ("buys", "views")
    pairs = torch.cat([data["user", name, "item"].edge_index for name in names], dim=1)
    coin = torch.from_numpy(np.random.RandomState(0).randint(2, size=pairs.size(1)))
    for number, name in enumerate(names):
        edges = pairs[:, coin == number]
        data["user", name, "item"].edge_index = edges
        data["item", RELATIONS["user", name, "item"], "user"].edge_index = edges.flip(0)
    return replace(material, data=data)


RECIPE = Recipe(
    name="hetero_squares",
    title="Hetero-Squares",
    summary="heterogeneous: by which relation are two users and two items tied? 660 users, 510 items, truth known",
    task_level="node",
    node_type="user",
    generate=generate,
    read=read,
    model=model,
    fit=fit,
    measure=measure,
    instances=instances,
    others={"seed1": Training(model, fit, seed=1)},
    controls={"relations drawn anew": relations_drawn_anew},
)
