"""Drawings are judged by what is on the axes: lines, widths, colours, labels and texts."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from torch_geometric.data import Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import GCN

import gnn_xai as gx
from gnn_xai.errors import InputError
from gnn_xai.report import Picture, Section, write_report
from gnn_xai.results._by_type import TypeNames
from gnn_xai.results.explanations import Explanation, Explanations
from gnn_xai.viz import (
    describe,
    draw,
    drawn_graph,
    features,
    grid,
    stress_layout,
)
from gnn_xai.viz.color import DIVERGING, NEUTRAL_NODE, SEQUENTIAL, Scale, ink_on


def explanation(
    edge_index,
    edge_mask=None,
    node_mask=None,
    *,
    nodes=None,
    index=0,
    kind=None,
    signed=False,
    symmetric=False,
    level="node",
    prediction=(1.0, 3.0),
    target=1,
    mode="multiclass_classification",
    returns="raw",
) -> Explanation:
    """One explanation from its edges, without running anything."""
    edge_index = torch.as_tensor(edge_index, dtype=torch.long).reshape(2, -1)
    nodes = sorted(set(edge_index.flatten().tolist()) | {index}) if nodes is None else nodes
    prediction = torch.tensor([prediction])
    if node_mask is not None:
        node_mask = torch.as_tensor(node_mask, dtype=torch.float)
        kind = kind or "object"
        if kind == "common_attributes":
            node_mask = node_mask.reshape(1, -1)
    return Explanations(
        index=torch.tensor([index]),
        target=torch.tensor([target]),
        prediction=prediction,
        prediction_masked=prediction,
        prediction_complement=prediction,
        exact=torch.tensor([True]),
        hops=torch.tensor([2]),
        node_ptr=torch.tensor([0, len(nodes)]),
        node_id=torch.tensor(nodes),
        edge_ptr=torch.tensor([0, edge_index.size(1)]),
        edge_id=torch.arange(edge_index.size(1)),
        edge_index=edge_index,
        edge_mask=None if edge_mask is None else torch.as_tensor(edge_mask, dtype=torch.float),
        node_mask=node_mask,
        node_mask_type=kind,
        signed=signed,
        removal="message",
        algorithm={"name": "gnn_explainer"},
        task=ModelConfig(mode=mode, task_level=level, return_type=returns),
        seed=0,
        provenance={"symmetric": symmetric},
    )[0]


def both_ways(graph: nx.Graph) -> torch.Tensor:
    edges = torch.tensor(list(graph.edges())).t()
    return torch.cat([edges, edges.flip(0)], dim=1)


@pytest.fixture
def ax():
    return Figure(figsize=(6.4, 5.2), layout="constrained").subplots()


def lines(ax) -> list[FancyArrowPatch]:
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def arrows(ax) -> list[FancyArrowPatch]:
    return [line for line in lines(ax) if "Bar" not in (name := _style(line)) and name != "Curve"]


def _style(line: FancyArrowPatch) -> str:
    return type(line.get_arrowstyle()).__name__


def labels(ax) -> set[str]:
    return {text.get_text() for text in ax.texts}


def title(ax) -> str:
    return ax.get_title(loc="left")


def bars(ax) -> list:
    return [other for other in ax.figure.axes if other is not ax]


# What a line says ################################################################################


def test_labels_are_original_node_ids(ax):
    assert draw(explanation([[301, 7], [7, 12]], [0.2, 0.9], index=12), ax) is ax
    assert {"301", "7", "12"} <= labels(ax)


def test_heavier_edges_are_darker_and_wider_on_one_fixed_scale(ax):
    """A weight of 0.95 once looked lighter than 0.93, and colours depended on the other weights."""
    draw(explanation([[0, 1, 2], [1, 2, 3]], [0.942, 0.93, 0.1]), ax)
    drawn = sorted(lines(ax), key=lambda line: line.get_linewidth())
    assert [line.get_linewidth() for line in drawn] == pytest.approx([1.4, 4.72, 4.768])
    brightness = [sum(line.get_edgecolor()[:3]) for line in drawn]
    assert brightness[0] > brightness[1] > brightness[2]
    other = Figure().subplots()
    draw(explanation([[0], [1]], [0.93]), other)
    assert lines(other)[0].get_edgecolor() == drawn[1].get_edgecolor()


def test_a_mask_has_a_colour_bar_from_0_to_1(ax):
    draw(explanation([[0, 1], [1, 2]], [0.4, 0.5]), ax)
    (bar,) = bars(ax)
    assert bar.get_ylim() == (0.0, 1.0)
    assert bar.get_ylabel() == "edge mask"


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_uniform_weights_draw_every_edge(ax, weight):
    cycle = both_ways(nx.cycle_graph(6))
    draw(explanation(cycle, [weight] * 12), ax)
    assert len(lines(ax)) == 6
    white = (1.0, 1.0, 1.0)
    for line in lines(ax):
        assert line.get_linewidth() >= 1.0
        assert max(abs(a - b) for a, b in zip(line.get_edgecolor(), white, strict=False)) > 0.15


def test_signed_attributions_use_a_symmetric_scale_and_keep_their_sign(ax):
    draw(explanation([[0, 1, 2], [1, 2, 3]], [-4.0, 1.0, 0.0], signed=True), ax)
    (bar,) = bars(ax)
    assert bar.get_ylim() == (-4.0, 4.0)
    assert bar.get_ylabel() == "edge attribution"
    by_width = sorted(lines(ax), key=lambda line: line.get_linewidth())
    red, _, blue, _ = by_width[-1].get_edgecolor()
    assert blue > red, "negative is blue"
    red, _, blue, _ = by_width[1].get_edgecolor()
    assert red > blue, "positive is red"


def test_strong_negatives_are_among_the_top(ax):
    draw(explanation([[0, 1, 2], [1, 2, 3]], [-4.0, 1.0, 0.5], signed=True), ax, top=1)
    assert labels(ax) >= {"0", "1"}
    assert not labels(ax) & {"2", "3"}


@pytest.mark.parametrize(("signed", "cmap"), [(False, SEQUENTIAL), (True, DIVERGING)])
def test_colours_can_be_told_apart_without_hue(signed, cmap):
    """Lightness alone orders a mask; for attributions it orders each sign."""
    luminance = cmap(np.linspace(0.5 if signed else 0, 1, 20))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()


# Which lines are drawn ###########################################################################


def test_two_directions_with_one_score_are_one_line(ax):
    draw(explanation([[0, 1, 1, 2], [1, 0, 2, 1]], [0.3, 0.3, 0.8, 0.8]), ax)
    assert len(lines(ax)) == 2
    assert not arrows(ax)


def test_directed_edges_are_arrows(ax):
    draw(explanation([[0, 1], [1, 2]], [0.3, 0.8]), ax)
    assert len(arrows(ax)) == 2


def test_two_directions_with_different_scores_are_two_arrows(ax):
    draw(explanation([[0, 1], [1, 0]], [0.07, 0.93]), ax)
    assert len(arrows(ax)) == 2


def test_an_undirected_edge_of_which_one_direction_matters_is_a_line(ax):
    """At the rim of a computation graph only the inward direction carries a message."""
    draw(explanation([[0, 1, 2], [1, 0, 1]], [0.3, 0.3, 0.8], symmetric=True), ax)
    assert len(lines(ax)) == 2
    assert not arrows(ax)


def test_two_directions_with_different_scores_stay_two_in_symmetric_data(ax):
    draw(explanation([[0, 1, 2], [1, 0, 1]], [0.07, 0.93, 0.5], symmetric=True), ax)
    assert len(arrows(ax)) == 2
    assert len(lines(ax)) == 3


def test_real_data_with_and_without_direction(ax):
    torch.manual_seed(0)
    model = GCN(2, 4, num_layers=2, out_channels=2)
    one_way = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    for edge_index, expected in ((one_way, 2), (torch.cat([one_way, one_way.flip(0)], 1), 0)):
        data = Data(x=torch.randn(5, 2), edge_index=edge_index)
        explanations = gx.explain(model, data, "edge_ablation", index=[4], progress=False)
        axes = Figure().subplots()
        draw(explanations[0], axes)
        assert len(lines(axes)) == 2
        assert len(arrows(axes)) == expected


def test_directed_overrules(ax):
    draw(explanation([[0, 1], [1, 2]], [0.3, 0.8]), ax, directed=False)
    assert not arrows(ax)


def test_parallel_edges_and_loops(ax):
    draw(explanation([[0, 0, 1], [1, 1, 1]], [0.1, 0.9, 0.5]), ax)
    assert sorted(line.get_linewidth() for line in lines(ax)) == pytest.approx([3.0, 4.6])


def test_a_thousand_edges_show_the_strongest_and_say_so(ax):
    graph = nx.gnm_random_graph(250, 1000, seed=0)
    weight = torch.linspace(0, 1, 1000)
    draw(explanation(both_ways(graph), torch.cat([weight, weight])), ax)
    assert len(lines(ax)) == 60
    assert min(line.get_linewidth() for line in lines(ax)) > 4.7
    assert any("showing 60 of 1000 edges" in text for text in labels(ax))


def passing(ax) -> int:
    """How many lines run through the disc of a node that they do not join."""
    ax.apply_aspect()
    nodes = [c for c in ax.collections if len(c.get_offsets()) > 1]
    centres = ax.transData.transform(np.concatenate([c.get_offsets() for c in nodes]))
    radius = np.sqrt(nodes[0].get_sizes()[0]) / 2 * ax.figure.dpi / 72
    count = 0
    for line in lines(ax):
        points = line.get_transform().transform_path(line.get_path()).to_polygons(closed_only=False)[0]
        dense = np.concatenate([np.linspace(a, b, 30) for a, b in zip(points[:-1], points[1:], strict=True)])
        near = set(np.flatnonzero(np.linalg.norm(dense[:, None] - centres, axis=-1).min(0) < radius))
        ends = {int(np.linalg.norm(centres - end, axis=1).argmin()) for end in (points[0], points[-1])}
        count += bool(near - ends)
    return count


def test_lines_go_around_nodes_that_they_do_not_join():
    scale_free = nx.barabasi_albert_graph(40, 2, seed=1)
    ax = Figure(figsize=(6.4, 5.2)).subplots()
    draw(explanation(both_ways(scale_free), torch.rand(76).repeat(2), symmetric=True), ax, top=76, colorbar=False)
    assert len(lines(ax)) == 76
    assert passing(ax) <= 1
    in_a_row = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])  # where a straight line has to pass others
    complete = explanation(both_ways(nx.complete_graph(4)), torch.rand(12), signed=True)
    for one, count in (
        (complete, 12),
        (explanation(both_ways(nx.complete_graph(4)), torch.ones(12), symmetric=True), 6),
    ):
        ax = Figure(figsize=(6.4, 5.2)).subplots()
        draw(one, ax, layout=in_a_row, colorbar=False)
        assert len(lines(ax)) == count
        assert passing(ax) == 0
        curves = {tuple(line.get_path().vertices.round(3).flatten()) for line in lines(ax)}
        assert len(curves) == count


def sentences(ax) -> list[str]:
    """The texts of a drawing, without the ends of their lines."""
    return [" ".join(text.split()) for text in labels(ax)]


def test_the_subtitle_counts_what_is_as_strong_as_the_last_that_is_shown(ax):
    star = [[*range(1, 101)], [0] * 100]
    draw(explanation(star, [1.0] * 100), ax)
    assert any("showing 60 of 100 edges; 40 left out are as strong" in text for text in sentences(ax))
    weights = torch.cat([torch.ones(60), torch.full((10,), 0.995), torch.full((30,), 0.98)])
    ax.clear()
    draw(explanation(star, weights), ax)
    assert any(text.endswith("showing 60 of 100 edges; 10 left out are as strong") for text in sentences(ax))
    ax.clear()
    draw(explanation(star, [1.0] * 50 + [0.0] * 50), ax)
    assert any(text.endswith("showing 60 of 100 edges; 40 left out are as strong (0)") for text in sentences(ax))
    ax.clear()
    draw(explanation(star, torch.linspace(1, 0.1, 100)), ax, top=3)
    assert any(text.endswith("showing 3 of 100 edges; 1 left out are as strong") for text in sentences(ax))
    ax.clear()
    draw(explanation(star, None, torch.cat([torch.zeros(1), torch.ones(100)])[:, None]), ax)
    assert any("showing 61 of 101 nodes; 40 left out are as strong" in text for text in sentences(ax))
    ax.clear()
    features(explanation([[0], [1]], None, torch.ones(30), kind="common_attributes"), ax, top=4)
    assert ax.get_xlabel() == "mask · showing 4 of 30 features; 26 left out are as strong"


def test_top_is_obeyed_and_checked(ax):
    graph = both_ways(nx.path_graph(9))
    draw(explanation(graph, torch.rand(8).repeat(2), index=4), ax, top=3)
    assert len(lines(ax)) == 3
    assert "4" in labels(ax), "the explained node is always there"
    for wrong in (0, -1, 2.5, 10**6):
        with pytest.raises(InputError, match="expected top in 1..2000"):
            draw(explanation(graph, torch.rand(16)), ax, top=wrong)


def test_one_node_and_no_edges(ax):
    draw(explanation([[], []], [], index=7), ax)
    assert labels(ax) >= {"7"}
    ax.figure.canvas.draw()


# Nodes ###########################################################################################


def _fills(ax) -> np.ndarray:
    return ax.collections[0].get_facecolors()


def test_node_scores_fill_the_nodes_and_share_the_bar_of_a_mask(ax):
    draw(explanation([[0, 1], [1, 2]], [0.2, 0.9], [[0.0], [0.5], [1.0]]), ax)
    np.testing.assert_allclose(_fills(ax), SEQUENTIAL([0.0, 0.5, 1.0]))
    assert [bar.get_ylabel() for bar in bars(ax)] == ["mask"]


def test_signed_scores_of_nodes_and_edges_have_a_scale_each(ax):
    scores = [[-8.0], [2.0], [0.0]]
    draw(explanation([[0, 1], [1, 2]], [0.2, 0.1], scores, signed=True), ax)
    limits = {bar.get_ylabel(): bar.get_ylim()[1] for bar in bars(ax)}
    assert limits == pytest.approx({"edge attribution": 0.2, "node attribution": 8.0})


def test_a_mask_over_node_features_stays_in_its_scale(ax):
    draw(explanation([[0], [1]], None, [[0.9, 0.8], [0.1, 0.3]], kind="attributes"), ax)
    np.testing.assert_allclose(_fills(ax), SEQUENTIAL(np.array([0.9, 0.3])), atol=1e-6)


def test_nodes_without_scores_are_neutral_or_show_their_class(ax):
    from matplotlib.colors import to_rgba

    draw(explanation([[0, 1], [1, 2]], [0.2, 0.9]), ax)
    np.testing.assert_allclose(_fills(ax), [to_rgba(NEUTRAL_NODE)] * 3)
    other = Figure().subplots()
    draw(explanation([[5, 6], [6, 7]], [0.2, 0.9], index=6), other, node_classes={5: 0, 6: 1, 7: 0},
         class_names=["left", "right"])  # fmt: skip
    assert [text.get_text() for text in other.get_legend().get_texts()] == ["left", "right"]
    assert (_fills(other)[0] == _fills(other)[2]).all()


def test_where_only_nodes_have_scores_the_strongest_are_shown(ax):
    graph = nx.gnm_random_graph(200, 600, seed=0)
    scores = torch.linspace(0, 1, 200).unsqueeze(1)
    draw(explanation(both_ways(graph), None, scores, index=3), ax)
    shown = {int(text) for text in labels(ax) if text.isdigit()}
    assert shown == {3, *range(140, 200)}
    assert any("showing 61 of 200 nodes" in text for text in labels(ax))


def test_where_only_features_have_scores_the_nearest_nodes_are_shown(ax):
    path = both_ways(nx.path_graph(100))
    draw(explanation(path, None, [0.5, 0.2], index=0, kind="common_attributes"), ax, top=10)
    assert {int(text) for text in labels(ax) if text.isdigit()} == set(range(10))
    assert not bars(ax)


def test_the_target_wears_a_ring_and_graphs_have_no_target(ax):
    node = explanation([[0, 1], [1, 2]], [0.2, 0.9], index=1)
    positions = {0: (0, 0), 1: (3, 4), 2: (5, 5)}
    draw(node, ax, layout=positions)
    ring = ax.collections[-1]
    assert ring.get_offsets().tolist() == [[3.0, 4.0]]
    assert len(ring.get_facecolors()) == 0
    other = Figure().subplots()
    draw(explanation([[0, 1], [1, 2]], [0.2, 0.9], level="graph"), other)
    assert len(other.collections) == len(ax.collections) - 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (False, set()),
        (["C", "N", "O"], {"C", "N", "O"}),
        ({0: "zero"}, {"zero", ""}),
        (lambda node: f"n{node}", {"n0", "n1", "n2"}),
    ],
)
def test_node_labels(ax, given, expected):
    draw(explanation([[0, 1], [1, 2]], [0.2, 0.9]), ax, node_labels=given)
    assert labels(ax) - {"gnn_explainer"} == expected


def test_layouts(ax):
    one = explanation([[0, 1], [1, 2]], [0.2, 0.9])
    draw(one, ax, layout=nx.circular_layout)
    draw(one, ax, layout=np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"none for \[2\]"):
        draw(one, ax, layout={0: (0, 0), 1: (1, 1)})


def test_labels_have_contrast():
    for color in [*SEQUENTIAL(np.linspace(0, 1, 30)), *DIVERGING(np.linspace(0, 1, 30))]:
        assert _contrast(ink_on(color), color) >= 4.5


def _contrast(a, b) -> float:
    from matplotlib.colors import to_rgb

    def luminance(color):
        c = np.array(to_rgb(color))
        return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


# Texts and figures ###############################################################################


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"target": 1}, "node 0 · predicted class 1 (p = 0.88)"),
        ({"target": 0}, "node 0 · predicted class 1 (p = 0.88), explained class 0 (p = 0.12)"),
        ({"level": "graph"}, "graph 0 · predicted class 1 (p = 0.88)"),
        ({"prediction": (0.25, 0.75), "returns": "probs"}, "node 0 · predicted class 1 (p = 0.75)"),
        (
            {"prediction": (-1.386294, -0.287682), "returns": "log_probs"},
            "node 0 · predicted class 1 (p = 0.75)",
        ),
        (
            {"prediction": (-2.0,), "mode": "binary_classification", "target": 0},
            "node 0 · predicted class 0 (p = 0.88)",
        ),
        (
            {"prediction": (-2.0,), "mode": "binary_classification", "target": 1},
            "node 0 · predicted class 0 (p = 0.88), explained class 1 (p = 0.12)",
        ),
        (
            {"prediction": (0.75,), "mode": "binary_classification", "returns": "probs", "target": 0},
            "node 0 · predicted class 1 (p = 0.75), explained class 0 (p = 0.25)",
        ),
        (
            {"prediction": (-2.0, 1.0, -1.0), "mode": "binary_classification", "target": 2},
            "node 0 · predicted class 1 (p = 0.73), explained class 2 (p = 0.27)",
        ),
        ({"prediction": (3.14159,), "mode": "regression", "target": 0}, "node 0 · predicted 3.14"),
        (
            {"prediction": (1.0, 2.5), "mode": "regression", "target": 1},
            "node 0 · predicted 2.5 (output 1)",
        ),
    ],
)
def test_the_title_names_instance_and_prediction(options, expected):
    assert describe(explanation([[0], [1]], [0.5], **options)) == expected


def test_title_and_class_names(ax):
    one = explanation([[0], [1]], [0.5])
    draw(one, ax, class_names=["base", "roof"])
    assert title(ax) == "node 0 · predicted roof (p = 0.88)"
    draw(one, ax, title="mine")
    assert title(ax) == "mine"


def test_too_few_class_names_are_refused(ax):
    with pytest.raises(InputError, match="expected class_names for 2 classes, got 1"):
        draw(explanation([[0], [1]], [0.5]), ax, class_names=["base"])


def test_long_titles_stay_within_their_panel():
    one = explanation([[0], [1]], [0.5], target=0)
    figure = grid([one] * 2, columns=2, panel=(3.3, 3.0), class_names=["a class with a long name", "and another one"])
    FigureCanvasAgg(figure).draw()
    for panel in figure.axes[:2]:
        for text in (panel.title, panel._left_title, *panel.texts):
            box = text.get_window_extent()
            assert box.x1 <= figure.bbox.x1
            assert box.x1 - box.x0 <= figure.bbox.width / 2


HOSTILE = ["$x_{$", "$\\frac{1$", "\x1b[31mred", "\ud800", "\u202egnirts", "\x00", "_hidden", "100 $ or 200 $", "a\tb"]


def test_names_are_drawn_whatever_they_hold():
    graph = both_ways(nx.path_graph(len(HOSTILE)))
    one = explanation(graph, torch.rand(graph.size(1)), index=0)
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    classes = dict(enumerate(range(len(HOSTILE))))
    ax = figure.subplots()
    title = "\n".join(HOSTILE)
    draw(one, ax, node_labels=HOSTILE, node_classes=classes, class_names=HOSTILE, title=title)
    FigureCanvasAgg(figure).draw()
    assert len(ax.get_legend().get_texts()) == len(HOSTILE)
    figure.clear()
    ax = features(
        explanation([[0], [1]], None, torch.rand(len(HOSTILE)), kind="common_attributes"),
        figure.subplots(),
        feature_names=HOSTILE,
    )
    FigureCanvasAgg(figure).draw()
    assert r"\x1b[31mred" in [tick.get_text() for tick in ax.get_yticklabels()]
    draw(one, ax, class_names=["no", "$CO_2$"])
    assert "$CO_2$" in ax.get_title(loc="left")


def test_flags_are_checked(ax):
    one = explanation([[0], [1]], [0.5])
    for option in ({"directed": "False"}, {"colorbar": 0}, {"legend": "no"}):
        with pytest.raises(InputError, match=f"expected {next(iter(option))}"):
            draw(one, ax, **option)
    with pytest.raises(InputError, match="expected columns as a positive integer, got 0"):
        grid([one], columns=0)


def test_nothing_is_shown_and_only_an_own_figure_is_registered(monkeypatch, ax):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("a figure was shown"))
    before = plt.get_fignums()
    draw(explanation([[0], [1]], [0.5]), ax)
    assert plt.get_fignums() == before
    own = draw(explanation([[0], [1]], [0.5]))
    assert own.figure.number not in before
    plt.close(own.figure)


def test_the_same_explanation_is_drawn_the_same():
    graph = both_ways(nx.barabasi_albert_graph(30, 2, seed=0))
    one = explanation(graph, torch.linspace(0, 1, graph.size(1) // 2).repeat(2))
    images = []
    for _ in range(2):
        canvas = FigureCanvasAgg(Figure())
        draw(one, canvas.figure.subplots())
        canvas.draw()
        images.append(np.asarray(canvas.buffer_rgba()))
    assert (images[0] == images[1]).all()


def test_features(ax):
    one = explanation([[0], [1]], None, [[1.0, -5.0, 0.0], [1.0, 0.5, 0.1]], kind="attributes",
                      signed=True)  # fmt: skip
    features(one, ax, top=2, feature_names=["charge", "degree", "mass"])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["degree", "charge"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([-4.5, 2.0])
    assert ax.get_xlim()[0] < -4.5
    assert ax.get_xlim()[1] > 2


def test_features_of_a_mask_run_from_0_to_1(ax):
    features(explanation([[0], [1]], None, [0.2, 0.9], kind="common_attributes"), ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["feature 1", "feature 0"]
    assert ax.get_xticks().tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_features_need_feature_scores(ax):
    with pytest.raises(InputError, match="expected an explanation with a score per feature"):
        features(explanation([[0], [1]], [0.5], [[0.1], [0.2]]), ax)
    with pytest.raises(InputError, match="expected top >= 1"):
        features(explanation([[0], [1]], None, [0.2], kind="common_attributes"), ax, top=0)


def test_grid_shares_the_bar_of_masks():
    masks = [explanation([[0], [1]], [w]) for w in (0.1, 0.5, 0.6, 0.9)]
    figure = grid(masks, columns=3, titles=list("abcd"))
    assert len(figure.axes) == 6 + 1
    assert [title(ax) for ax in figure.axes[:4]] == list("abcd")
    signed = explanation([[0], [1]], [-3.0], signed=True)
    assert len(grid([masks[0], signed], panel_options=[{}, {"colorbar": False}]).axes) == 2 + 1
    with pytest.raises(InputError, match="expected 1 to 60 explanations"):
        grid([])
    with pytest.raises(InputError, match="expected titles of length 4, got 1"):
        grid(masks, titles=["a"])


def test_aligned_panels_put_the_same_node_in_the_same_place():
    cycle = both_ways(nx.cycle_graph(8))
    weights = torch.linspace(0, 1, 8)
    same = [explanation(cycle, w.repeat(2), index=3) for w in (weights, weights.flip(0))]
    figure = grid(same, columns=2, top=4, aligned=True)
    figure.draw_without_rendering()
    places = [{text.get_text(): text.xy for text in ax.texts if text.get_text().isdigit()} for ax in figure.axes[:2]]
    assert places[0].keys() != places[1].keys()
    for node in places[0].keys() & places[1].keys():
        np.testing.assert_allclose(places[0][node], places[1][node])
    limits = [[*ax.get_xlim(), *ax.get_ylim()] for ax in figure.axes[:2]]
    np.testing.assert_allclose(limits[0], limits[1], atol=0.1)


def test_drawn_graph_is_what_is_drawn(ax):
    path = both_ways(nx.path_graph(9))
    one = explanation(path, torch.linspace(0, 1, 8).repeat(2), index=0)
    graph = drawn_graph(one, top=3)
    draw(one, ax, top=3)
    assert {str(node) for node in graph} == {text for text in labels(ax) if text.isdigit()}
    assert graph.number_of_edges() == len(lines(ax)) == 3


# Node types and relations ########################################################################

PAPERS = TypeNames(
    "paper",
    ("author", "paper", "venue"),
    (
        ("author", "writes", "paper"),
        ("author", "reviews", "paper"),
        ("paper", "in", "venue"),
        ("venue", "rev_in", "paper"),
        ("paper", "rev_writes", "author"),
    ),
    ((0, 2), (2, 3), None),
    (3, 2, 2),
    (2, 1, 1, 1, 1),
)


def typed(edges, edge_mask=None, node_mask=None, *, types=PAPERS, index=1, **options) -> Explanation:
    """One explanation of three authors (flat ids 0 to 2), two papers (3, 4) and two venues (5, 6), from edges
    `(relation, u, v)` in ids of the types of their ends.
    """
    first = {"author": 0, "paper": 3, "venue": 5}
    names = {name: relation for relation in types.edge_types for name in [relation[1]]}
    flat = [(first[names[r][0]] + u, first[names[r][2]] + v) for r, u, v in edges]
    root = first.get(types.explained, 0) + index
    nodes = sorted({node for ends in flat for node in ends} | {root})
    one = explanation(torch.tensor(flat).t(), edge_mask, node_mask, nodes=nodes, index=index, **options)
    node_type = torch.tensor([0, 0, 0, 1, 1, 2, 2])[nodes]
    return dataclasses.replace(
        one.source,
        node_type=node_type,
        node_number=torch.tensor(nodes) - torch.tensor([0, 3, 5])[node_type],
        edge_type=torch.tensor([list(names).index(r) for r, _, _ in edges]),
        edge_number=torch.arange(len(edges)),
        types=types,
    )[0]


FEW = [("writes", 0, 1), ("writes", 2, 1), ("in", 1, 0)]


def test_a_typed_node_is_named_by_its_type_and_its_id_within_it(ax):
    one = typed(FEW, [0.2, 0.9, 0.4])
    assert set(drawn_graph(one)) == {("author", 0), ("author", 2), ("paper", 1), ("venue", 0)}
    assert describe(one) == "paper 1 · predicted class 1 (p = 0.88)"
    draw(one, ax)
    assert {text.get_text() for text in ax.texts} >= {"0", "2", "1"}
    assert "4" not in labels(ax), "the paper's flat id"


def test_the_ring_is_around_the_node_of_the_explained_type(ax):
    """Its index counts within the type: paper 1, not author 1 or the node with the flat id 1."""
    places = {"author": np.array([[0, 0], [9, 9], [2, 0]]), "paper": [[7, 7], [3, 4]], "venue": {0: (5, 5)}}
    draw(typed([*FEW, ("writes", 1, 1)], [0.2, 0.9, 0.4, 0.1]), ax, layout=places)
    assert ax.collections[-1].get_offsets().tolist() == [[3.0, 4.0]]
    with pytest.raises(InputError, match=r"none for \[\('venue', 1\)\]"):
        draw(typed([("in", 1, 1)], [0.2]), ax, layout=places)


def test_node_types_have_shapes_and_colours_and_stand_in_the_legend(ax):
    draw(typed(FEW, [0.2, 0.9, 0.4]), ax)
    shapes = [collection.get_paths()[0].vertices.shape for collection in ax.collections[:3]]
    fills = {tuple(collection.get_facecolors()[0]) for collection in ax.collections[:3]}
    assert len(set(shapes)) == len(fills) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["author", "paper", "venue"]
    other = Figure().subplots()
    draw(typed([("writes", 0, 1)], [0.2]), other, legend=False)
    assert other.get_legend() is None
    assert tuple(other.collections[1].get_facecolors()[0]) in fills, "colours do not depend on what else is drawn"


def test_scores_fill_typed_nodes_and_outlines_tell_the_types(ax):
    draw(typed(FEW, [0.2, 0.9, 0.4], [[0.0], [0.5], [1.0], [0.25]]), ax)
    np.testing.assert_allclose(ax.collections[0].get_facecolors(), SEQUENTIAL([0.0, 0.5]))
    outlines = {tuple(collection.get_edgecolors()[0]) for collection in ax.collections[:3]}
    assert len(outlines) == 3


def test_few_lines_carry_the_name_of_their_relation_and_many_are_in_the_legend(ax):
    draw(typed(FEW, [0.2, 0.9, 0.4]), ax)
    assert [text.get_text() for text in ax.texts].count("writes") == 2
    assert "in" in labels(ax)
    other = Figure().subplots()
    many = [(name, u, v) for name in ("writes", "reviews", "rev_writes") for u in range(2) for v in range(2)]
    draw(typed([*many, ("in", 1, 0)], torch.linspace(0, 1, 13)), other)
    assert "writes" not in labels(other)
    names = [text.get_text() for text in other.get_legend().get_texts()]
    assert names == ["author", "paper", "venue", "reviews", "writes", "in", "rev_writes"]
    other.figure.canvas.draw()  # the entries draw themselves


def test_relations_between_the_same_nodes_are_lines_apart(ax):
    """Another relation is another line, of another style, even if its score is the same."""
    draw(typed([("writes", 0, 1), ("reviews", 0, 1), ("writes", 0, 1)], [0.2, 0.2, 0.7]), ax)
    assert len(lines(ax)) == 2, "parallel edges of one relation are one line"
    assert len({line.get_linestyle() for line in lines(ax)}) == 2
    assert len({str(line.get_connectionstyle().rad) for line in lines(ax)}) == 2


def test_a_relation_and_its_reverse_are_one_line_where_their_scores_agree(ax):
    both = [("writes", 0, 1), ("rev_writes", 1, 0)]
    draw(typed(both, [0.3, 0.3]), ax)
    assert len(lines(ax)) == 1
    assert not arrows(ax)
    assert "writes" in labels(ax)
    other = Figure().subplots()
    draw(typed(both, [0.3, 0.8]), other)
    assert len(arrows(other)) == 2
    assert {"writes", "rev_writes"} <= labels(other)
    undirected = Figure().subplots()
    draw(typed([*both, ("rev_in", 0, 1)], [0.3, 0.8, 0.1]), undirected, directed=False)
    assert sorted(line.get_linewidth() for line in lines(undirected)) == pytest.approx([1.4, 4.2])
    assert {"writes", "in"} <= labels(undirected)
    assert not arrows(undirected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"author": ["Ann", "Bob", "Cy"]}, {"Ann", "Cy", "1", "0"}),
        ({("author", 2): "Cy"}, {"0", "Cy", "1"}),
        (lambda node: f"{node[0][0]}{node[1]}", {"a0", "a2", "p1", "v0"}),
    ],
)
def test_labels_of_typed_nodes(ax, given, expected):
    draw(typed(FEW, [0.2, 0.9, 0.4]), ax, node_labels=given)
    assert labels(ax) - {"gnn_explainer", "writes", "in"} == expected


def test_labels_that_do_not_fit_their_node_stand_below_it(ax):
    draw(typed(FEW, [0.2, 0.9, 0.4]), ax, node_labels={"venue": ["a venue with a long name", ""]})
    (long,) = (text for text in ax.texts if text.get_text().startswith("a venue"))
    (short,) = (text for text in ax.texts if text.get_text() == "2")
    assert long.get_position()[1] < 0
    assert long.get_fontsize() >= 7
    assert long.get_verticalalignment() == "top"
    assert short.get_verticalalignment() == "center"


def test_panels_of_typed_graphs_share_a_legend_and_a_layout():
    same = [typed([*FEW, ("rev_in", 1, 1)], weights) for weights in ([0.9, 0.8, 0.1, 0.2], [0.1, 0.8, 0.9, 0.2])]
    figure = grid(same, columns=2, top=2, aligned=True)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["author", "paper", "venue"]
    assert all(ax.get_legend() is None for ax in figure.axes)
    figure.draw_without_rendering()
    rings = [ax.collections[-1].get_offsets()[0] for ax in figure.axes[:2]]
    np.testing.assert_allclose(*rings)


def test_features_are_named_by_type(ax):
    one = typed(FEW, None, [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]], kind="attributes",
                signed=True)  # fmt: skip
    features(one, ax, top=2)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["author: 0", "paper: 0"]
    other = Figure().subplots()
    features(one, other, top=2, feature_names={"author": ["age", "height"]})
    assert [tick.get_text() for tick in other.get_yticklabels()] == ["author: age", "paper: 0"]


def test_a_typed_graph_that_is_explained_as_a_whole_has_no_ring(ax):
    whole = dataclasses.replace(PAPERS, explained=None, num_nodes=None, num_edges=None)
    one = typed(FEW, [0.2, 0.9, 0.4], types=whole, level="graph")
    assert describe(one).startswith("graph 1 ·")
    draw(one, ax)
    assert len(ax.collections) == 3


# Coefficients ##########################################################################################


@pytest.mark.parametrize(
    "graph",
    [
        nx.empty_graph(0),
        nx.empty_graph(1),
        nx.empty_graph(7),
        nx.path_graph(2),
        nx.star_graph(20),
        nx.karate_club_graph(),
        nx.disjoint_union(nx.cycle_graph(5), nx.path_graph(3)),
        nx.MultiDiGraph([(0, 1), (0, 1), (1, 1)]),
    ],
    ids=str,
)
def test_layout_places_every_node_apart_from_the_others(graph):
    positions = stress_layout(graph)
    assert set(positions) == set(graph)
    if len(graph) > 1:
        spots = np.array(list(positions.values()))
        assert np.isfinite(spots).all()
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1) + np.eye(len(spots))
        assert gaps.min() > 0.25


def test_layout_follows_distances_and_ignores_the_order_of_nodes():
    path = nx.path_graph(6)
    positions = stress_layout(path)
    assert np.linalg.norm(positions[0] - positions[5]) == pytest.approx(5, rel=0.02)
    shuffled = nx.Graph()
    shuffled.add_nodes_from([3, 0, 5, 1, 4, 2])
    shuffled.add_edges_from(list(path.edges())[::-1])
    for node, spot in stress_layout(shuffled).items():
        np.testing.assert_allclose(spot, positions[node])


def test_layout_works_without_scipy(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "scipy", None)
    assert len(stress_layout(nx.gnm_random_graph(80, 200, seed=0))) == 80


def test_molecules_are_laid_out_as_formulas():
    pytest.importorskip("rdkit")
    from gnn_xai.molecules import depiction

    ring = depiction("c1ccccc1")
    assert ring.shape == (6, 2)
    assert np.linalg.norm(ring[0] - ring[1]) == pytest.approx(1, rel=0.05)
    with pytest.raises(InputError, match="expected a SMILES that RDKit can read, got 'nonsense'"):
        depiction("nonsense")


# Report ##########################################################################################


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.links, self.cells, self.best = [], [], [], []
        self._open: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        self._open.append((tag, attrs))

    def handle_data(self, data):
        if self._open and self._open[-1][0] == "td" and data.strip():
            self.cells.append(data)
            if self._open[-1][1].get("class") == "best":
                self.best.append(data)


def test_report(tmp_path):
    png = tmp_path / "figure.png"
    Figure().savefig(png)
    rows = [
        {"dataset": "a", "algorithm": "x<y>", "instances": 3, "roc_auc": 0.71, "fidelity_plus": 0.2,
         "fidelity_minus": 0.1, "ms": 2.0},
        {"dataset": "a", "algorithm": "z", "instances": 3, "roc_auc": 0.9, "fidelity_plus": 0.1,
         "fidelity_minus": -0.05, "ms": 2.0},
        {"dataset": "b", "algorithm": "z", "instances": 3, "roc_auc": None, "fidelity_plus": 0.3,
         "fidelity_minus": 0.05, "ms": 2.0},
    ]  # fmt: skip
    path = write_report(
        tmp_path / "index.html",
        title="Title & <script>alert(1)</script>",
        rows=rows,
        sections=[Section("Heading", ["<b>text</b>"], [Picture(png, 'a "caption"')])],
        lead="lead",
        footer="footer",
    )
    text = path.read_text(encoding="utf-8")
    page = _Page(text)
    assert page.best == ["0.200", "0.900", "-0.050"]
    assert "–" in page.cells
    assert "x<y>" in page.cells
    assert not {"script", "b", "link", "iframe"} & set(page.tags)
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?:|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "a &#34;caption&#34;" in text


def test_scale_of_all_zero_attributions():
    assert Scale.of(np.zeros(3), signed=True).limit == 1.0
