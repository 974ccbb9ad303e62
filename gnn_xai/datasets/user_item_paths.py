"""User-Item Paths: a user likes an item where a path of certain relations ties them (Zhang et al., PaGE-Link, WWW 2023)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from gnn_xai.datasets import planted
from gnn_xai.datasets.models import HeteroLinks
from gnn_xai.datasets.recipe import Material, Recipe, Training, area_under_roc, hetero_graph, split_ids
from gnn_xai.results.ground_truth import GroundTruth

SIZES = {"user": 150, "group": 40, "topic": 20, "item": 300}
LIKES = ("user", "likes", "item")
# How many edges each node of the first type has, and the name of the reverse.
RELATIONS = {
    ("user", "joins", "group"): (2, "joined_by"),
    ("user", "visits", "group"): (2, "visited_by"),
    ("group", "discusses", "topic"): (2, "discussed_by"),
    ("item", "about", "topic"): (1, "topic_of"),
    ("item", "mentions", "topic"): (1, "mentioned_by"),
    ("user", "follows", "user"): (2, "followed_by"),
}
PATH = ("joins", "discusses", "about")  # from the user, and the last backwards, to the item
DECOYS = (("visits", "discusses", "about"), ("joins", "discusses", "mentions"), ("visits", "discusses", "mentions"))
PAIRS = 10  # links, and as many other pairs, of each item, where it has so many
Edges = dict[str, Tensor]


def generate(seed: int = 0) -> dict[str, Tensor]:
    """The benchmark's tensors.

    The ends of all edges are drawn at random. For each item, 10 users who are tied to it by a path and 10 who are not, of
    these 5 who are tied to it by a decoy.

    Returns:
        ``[2, E]`` by the name of each relation, sorted; ``pairs`` ``[2, P]``, users and items; ``label`` ``[P]``, 1 for
        links; ``split`` ``[P]``, that of the item: 0 train (80%), 1 val (10%), 2 test (10%).
    """
    random = np.random.RandomState(seed)
    edges = {}
    for (source, name, target), (count, _) in RELATIONS.items():
        ends = [sorted(random.permutation(SIZES[target])[:count].tolist()) for _ in range(SIZES[source])]
        edges[name] = torch.tensor([(u, v) for u, several in enumerate(ends) for v in several]).t().contiguous()
    link, decoy = tied(edges)
    users, items, labels = [], [], []
    for item in range(SIZES["item"]):
        for label, among, count in ((1, link, PAIRS), (0, decoy, PAIRS // 2), (0, ~(link | decoy), PAIRS // 2)):
            some = random.permutation(among[:, item].nonzero().flatten().numpy())[:count].tolist()
            users += some
            items += [item] * len(some)
            labels += [label] * len(some)
    tensors = {"pairs": torch.tensor([users, items]), "label": torch.tensor(labels)}
    tensors["split"] = planted.split(SIZES["item"], random)[tensors["pairs"][1]]
    return {name: tensor.short() for name, tensor in (edges | tensors).items()}


def through(edges: Edges, *path: str) -> Tensor:
    """How many paths of three relations, the last backwards, tie each user to each item, `[users, items]`."""
    first, second, last = (_adjacency(edges, name) for name in path)
    return first @ second @ last.t()


def _adjacency(edges: Edges, name: str) -> Tensor:
    source, target = next((source, target) for source, relation, target in RELATIONS if relation == name)
    return torch.zeros(SIZES[source], SIZES[target]).index_put(tuple(edges[name].long()), torch.ones(()))


def tied(edges: Edges) -> tuple[Tensor, Tensor]:
    """Which users are tied to which items by a planted path, and which only by decoys, both bool `[users, items]`."""
    link = through(edges, *PATH) > 0
    decoy = torch.stack([through(edges, *path) for path in DECOYS]).sum(0) > 0
    return link, decoy & ~link


def read(frozen: dict[str, Tensor]) -> Material:
    """Only topics have features, which say which one they are: a node is known by the topics around it."""
    edges = {name: frozen[name].long() for _, name, _ in RELATIONS}
    data = HeteroData()
    for what, size in SIZES.items():
        data[what].x = torch.eye(size) if what == "topic" else torch.ones(size, 1)
    for relation in RELATIONS:
        data[relation].edge_index = edges[relation[1]]
    for (source, name, target), (_, back) in RELATIONS.items():
        data[target, back, source].edge_index = edges[name].flip(0)
    data[LIKES].edge_label_index, data[LIKES].edge_label = frozen["pairs"].long(), frozen["label"].float()
    return Material(
        data=data,
        ground_truth=truth(edges, data[LIKES].edge_label_index[:, data[LIKES].edge_label > 0]),
        split=split_ids(frozen["split"]),
        class_names=("does not like", "likes"),
    )


def truth(edges: Edges, links: Tensor) -> GroundTruth:
    """The edges and nodes of all planted paths between the nodes of each link `[2, P]`.

    Of the two directions of an edge, the one that leads from the topic to the user or the item is true: what the nodes have
    in common reaches them along it, and nothing of that along the other.
    """
    joined, discussed, about = (_adjacency(edges, name) > 0 for name in PATH)
    by_groups = (joined.float() @ discussed.float()) > 0  # topics of a user's groups
    of_items = (discussed.float() @ about.float().t()) > 0  # groups that discuss an item's topic
    (user, item), (member, group) = links, edges["joins"]
    (talking, subject), (thing, matter) = edges["discusses"], edges["about"]
    on_path = {
        "joins": (member.unsqueeze(1) == user) & of_items[group][:, item],
        "discusses": joined.t()[talking][:, user] & about.t()[subject][:, item],
        "about": (thing.unsqueeze(1) == item) & by_groups.t()[matter][:, user],
    }
    nodes = {
        "user": torch.arange(SIZES["user"]).unsqueeze(1) == user,
        "group": joined.t()[:, user] & of_items[:, item],
        "topic": by_groups.t()[:, user] & about.t()[:, item],
        "item": torch.arange(SIZES["item"]).unsqueeze(1) == item,
    }
    none = torch.zeros(0, 2, dtype=torch.bool)
    listed = {name: on_path.get(name, none).nonzero().t().contiguous() for _, name, _ in RELATIONS}
    forwards = dict.fromkeys(RELATIONS, none.nonzero().t())
    backwards = {(target, back, source): listed[name] for (source, name, target), (_, back) in RELATIONS.items()}
    return GroundTruth(
        edge=forwards | backwards,
        node={what: mask.nonzero().t().contiguous() for what, mask in nodes.items()},
        pairs=links,
    )


def model() -> nn.Module:
    """Two layers of width 32 that add up neighbours, with weights for each relation, and the dot product of a pair."""
    relations = [*RELATIONS, *((target, back, source) for (source, _, target), (_, back) in RELATIONS.items())]
    widths = {what: size if what == "topic" else 1 for what, size in SIZES.items()}
    return HeteroLinks(widths, relations, 32, 32, 2, LIKES)


def _pairs(material: Material) -> tuple[HeteroData, Tensor, Tensor]:
    """The graph, its pairs and their labels."""
    data = hetero_graph(material)
    return data, data[LIKES].edge_label_index, data[LIKES].edge_label


def fit(model: nn.Module, material: Material) -> None:
    """Full batch, 500 steps, see `planted.descend`."""
    (data, pairs, label), train = _pairs(material), material.split["train"]

    def loss() -> Tensor:
        logits = model(data.x_dict, data.edge_index_dict, pairs[:, train])
        return nn.functional.binary_cross_entropy_with_logits(logits, label[train])

    planted.descend(model, loss, steps=500, rate=0.01, weight_decay=1.0)


def measure(model: nn.Module, material: Material) -> dict[str, dict[str, float]]:
    """Area under the ROC curve, of all pairs and of links against decoys, and share of right predictions, per split."""
    data, pairs, label = _pairs(material)
    with torch.no_grad():
        logits = model(data.x_dict, data.edge_index_dict, pairs)
    edges = {relation[1]: data[relation].edge_index for relation in RELATIONS}
    decoy = tied(edges)[1][tuple(pairs)]
    return {
        name: {
            "roc_auc": area_under_roc(logits[ids], label[ids]),
            "decoy_roc_auc": area_under_roc(logits[some], label[some]),
            "accuracy": ((logits[ids] > 0) == (label[ids] > 0)).double().mean().item(),
        }
        for name, ids in material.split.items()
        for some in (ids[(label[ids] > 0) | decoy[ids]],)
    }


def instances(model: nn.Module, material: Material) -> Tensor:
    """The links of the test split, as positions among the pairs."""
    _, _, label = _pairs(material)
    return material.split["test"][label[material.split["test"]] > 0]


def topics_exchanged(material: Material) -> Material:
    """Every item is about the topic of another one: the paths that remain say nothing about the links."""
    data = hetero_graph(material).clone()
    order = torch.from_numpy(np.random.RandomState(0).permutation(SIZES["item"]))
    item, topic = data["item", "about", "topic"].edge_index
    data["item", "about", "topic"].edge_index = torch.stack([order[item], topic])
    data["topic", "topic_of", "item"].edge_index = torch.stack([topic, order[item]])
    return replace(material, data=data)


RECIPE = Recipe(
    name="user_item_paths",
    title="User-Item Paths",
    summary="heterogeneous links: which item does a user like, by which path? 150 users, 300 items, truth known",
    task_level="edge",
    mode="binary_classification",
    generate=generate,
    read=read,
    model=model,
    fit=fit,
    measure=measure,
    instances=instances,
    others={"seed1": Training(model, fit, seed=1)},
    controls={"topics exchanged": topics_exchanged},
)
