"""Callbacks: what they are told, that it is true, that it costs nothing where nobody listens; and the sinks, read back from
real servers on this machine.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import gnn_xai as gx
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.errors import GnnXaiError, InputError
from tests import models
from tests.covering import every_value

pytestmark = pytest.mark.filterwarnings("ignore:the loss of:gnn_xai.errors.GnnXaiWarning")  # an isolated node


def needs(module: str, extra: str) -> pytest.MarkDecorator:
    """Skip where a library of an extra is not there."""
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None,
        reason=f"{module} is not installed (it comes with the extra '{extra}')",
    )


def problem(level: str) -> tuple[nn.Module, Any]:
    if level == "node":
        return models.make("gcn", "node"), models.random_graph(0)
    return models.make("gin", "graph"), models.random_graphs(5)


class Notes(gx.Callback):
    """Writes down what it is told."""

    def __init__(self, every: int = 1) -> None:
        self.every, self.calls, self.epochs = every, [], []

    def start(self, run: Any) -> None:
        self.calls.append("start")
        self.run = run

    def epoch(self, epoch: Any) -> None:
        self.calls.append("epoch")
        self.epochs.append(epoch)

    def finish(self, explanations: Any) -> None:
        self.calls.append("finish")
        self.explanations = explanations


# What is told ############################################################################################################


def entropy(mask: Tensor) -> Tensor:
    return -mask * mask.log() - (1 - mask) * (1 - mask).log()


def plainly(e: gx.Explanation, algorithm: gx.GNNExplainer, original: Tensor) -> dict[str, float]:
    """The loss of one explanation's masks as GNNExplainer states it, from what it says of itself."""
    probability = e.prediction_masked.softmax(0)[e.target]
    if algorithm.loss == "nll":
        out = {"prediction": -probability.log()}
    else:
        out = {"prediction": (1 - probability).log() - probability.log()}
    if e.edge_mask is not None:
        mean = entropy(e.edge_mask).mean() if len(e.edge_mask) else torch.zeros(())
        out |= {"edge_size": algorithm.edge_size * e.edge_mask.sum(), "edge_ent": algorithm.edge_ent * mean}
    if e.node_mask is not None:
        mask = e.node_mask[e.node_mask > 0]  # where the features are 0, there is no mask
        size, mean = (mask.mean(), entropy(mask).mean()) if len(mask) else (torch.zeros(()), torch.zeros(()))
        out |= {"node_feat_size": algorithm.node_feat_size * size, "node_feat_ent": algorithm.node_feat_ent * mean}
    return {name: float(value) for name, value in out.items()}


@pytest.mark.parametrize("kind", ["object", "attributes", "common_attributes", None])
@pytest.mark.parametrize(("level", "loss"), [("node", "nll"), ("graph", "margin")])
def test_terms_are_those_of_the_loss(level: str, loss: Any, kind: Any) -> None:
    """The masks after k steps are those of a run of k epochs, whose loss is computed from its own columns."""
    model, data = problem(level)
    edges = None if level == "graph" and kind == "object" else "object"
    options = {"node_mask_type": kind, "edge_mask_type": edges, "loss": loss, "lr": 0.1, "init_std": 0.5}
    trace = gx.Trace()
    gx.explain(model, data, gx.GNNExplainer(epochs=6, **options), callback=trace, progress=False)
    assert trace.epochs.tolist() == list(range(7))
    for epochs in (1, 4, 6):
        algorithm = gx.GNNExplainer(epochs=epochs, **options)
        for position, e in enumerate(gx.explain(model, data, algorithm, progress=False)):
            expected = plainly(e, algorithm, e.prediction)
            told = {name: float(value[0, epochs, position]) for name, value in trace.losses.items()}
            assert told.pop("total") == pytest.approx(sum(expected.values()), abs=1e-9)
            assert told == pytest.approx(expected, abs=1e-9)


def test_of_a_regression() -> None:
    case = gx.testing.CASES["gine_regression"]
    trace = gx.Trace()
    found = case.explain(gx.GNNExplainer(epochs=3, node_mask_type=None), callback=trace)
    square = (found.prediction_masked - found.prediction).square()[:, 0]
    torch.testing.assert_close(trace.losses["prediction"][0, -1], square, rtol=1e-4, atol=1e-6)


@every_value(
    level=["node", "graph"], options=[{}, {"tol": 0.05}, {"restarts": 2}, {"node_mask_type": "attributes", "tol": 0.02}]
)
def test_explanations_are_the_same_bit_for_bit(level: str, options: dict[str, Any]) -> None:
    model, data = problem(level)
    algorithm = gx.GNNExplainer(epochs=45, **{"node_mask_type": None, "loss": "margin", **options})
    one = gx.explain(model, data, algorithm, progress=False)
    for callbacks in (Notes(1), [Notes(7), Notes(10)]):
        other = gx.explain(model, data, algorithm, callback=callbacks, progress=False)
        assert torch.equal(one.edge_mask, other.edge_mask)
        assert one.node_mask is None or torch.equal(one.node_mask, other.node_mask)


def test_every_instance_ends_once_with_the_masks_that_are_returned() -> None:
    model, data = problem("node")
    notes, rare = Notes(5), Notes(1000)
    algorithm = gx.GNNExplainer(epochs=80, tol=0.02, node_mask_type=None, loss="margin")
    found = gx.explain(
        model, data, algorithm, index=[3, 0, 7, 3, 11, 5], callback=[notes, rare], batch_budget=40, progress=False
    )
    ended: dict[int, int] = {}
    for epoch in notes.epochs:
        for row in epoch.last.nonzero().flatten().tolist():
            position = int(epoch.positions[row])
            assert position not in ended
            ended[position] = epoch.number
            e, told = found[position], epoch.edge_mask[epoch.edge_row == row]
            returned = torch.unique(torch.cat([e.edge_mask, told]).round(decimals=12))
            assert torch.equal(returned, torch.unique(told.round(decimals=12)))
    assert [ended[i] for i in range(6)] == found.extras["epochs"].tolist()
    assert len(set(ended.values())) > 1
    told = [(epoch.number, epoch.positions.tolist()) for epoch in rare.epochs]
    assert all(number == 0 or all(ended[i] == number for i in positions) for number, positions in told)
    assert sorted(i for number, positions in told if number for i in positions) == list(range(6))
    assert all(epoch.number % 5 == 0 for epoch in notes.epochs)


def test_a_trace_leaves_open_what_was_not_told() -> None:
    model, data = problem("node")
    trace = gx.Trace(10)
    found = gx.explain(
        model,
        data,
        gx.GNNExplainer(epochs=80, tol=0.02, node_mask_type=None, loss="margin"),
        callback=trace,
        progress=False,
    )
    known = trace.epochs.unsqueeze(1) <= found.extras["epochs"]
    assert torch.equal(~trace.losses["total"][0].isnan(), known)
    assert not trace.curves()["total"].isnan().any()
    table = trace.to_pandas()
    assert len(table) == int(known.sum())
    last = table[table.instance == 4].iloc[-1]
    assert last.epoch == int(found.extras["epochs"][4])
    assert last.total == pytest.approx(float(trace.curves()["total"][-1, 4]))
    assert last.total == pytest.approx(last[["prediction", "edge_size", "edge_ent"]].sum())


def test_restarts_are_told_apart() -> None:
    model, data = problem("graph")
    trace = gx.Trace(3)
    options = {"epochs": 4, "init_std": 1.0}
    gx.explain(model, data, gx.GNNExplainer(restarts=2, **options), callback=trace, progress=False)
    assert trace.epochs.tolist() == [0, 3, 4]
    assert trace.losses["total"].shape == (2, 3, 5)
    once = gx.Trace(3)
    gx.explain(model, data, gx.GNNExplainer(**options), callback=once, progress=False)
    assert torch.equal(once.losses["total"][0], trace.losses["total"][0])
    assert not torch.equal(trace.losses["total"][0], trace.losses["total"][1])
    assert gx.explain(model, data, "saliency", callback=trace, progress=False) is not None
    assert trace.losses == {}  # a run begins anew
    assert trace.to_pandas().empty


@pytest.mark.parametrize("algorithm", ["saliency", "edge_ablation"])
def test_algorithms_that_learn_nothing_start_and_finish(algorithm: str, tmp_path: Path) -> None:
    model, data = problem("graph")
    for out in ({}, {"out": tmp_path / "run"}):
        notes = Notes()
        found = gx.explain(model, data, algorithm, index=[4, 1], seed=3, callback=notes, progress=False, **out)
        assert notes.calls == ["start", "finish"]
        assert notes.explanations is found
        assert notes.run.index.tolist() == [4, 1]
        assert (notes.run.algorithm["name"], notes.run.seed, notes.run.name(0)) == (algorithm, 3, "graph 4")


ONE = {"cpu": 1, "cuda": 1}


@pytest.mark.parametrize("limits", [{}, {"results.runs.SHARD": ONE}, {"results.runs.SHARD": ONE, "api.BLOCK": 1}])
def test_positions_are_those_of_a_stored_run(
    limits: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is cut into pieces, and the data into blocks."""
    for name, value in limits.items():
        monkeypatch.setattr(f"gnn_xai.{name}", value)
    model, data = problem("graph")
    one, other = gx.Trace(), gx.Trace()
    algorithm = gx.GNNExplainer(epochs=2)
    gx.explain(model, data, algorithm, index=[4, 1, 0], callback=one, progress=False)
    gx.explain(model, data, algorithm, index=[4, 1, 0], callback=other, out=tmp_path / "run", progress=False)
    torch.testing.assert_close(one.losses["total"], other.losses["total"], rtol=1e-9, atol=1e-9)


def test_who_does_not_listen_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many passes as without, and one more for every epoch that is told."""
    model, data = problem("node")
    passes = []
    call = MaskedModel.__call__
    monkeypatch.setattr(MaskedModel, "__call__", lambda self, *a, **k: (passes.append(1), call(self, *a, **k))[1])

    def count(**options: Any) -> int:
        passes.clear()
        gx.explain(model, data, gx.GNNExplainer(epochs=20), index=[0, 3], progress=False, **options)
        return len(passes)

    silent = count()
    assert count(callback=None) == count(callback=[]) == silent
    assert count(callback=Notes(5)) == silent + 5  # 0, 5, 10, 15, 20


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (3, "expected callback= as objects such as gnn_xai.Trace"),
        ([gx.Trace(), "tensorboard"], "got str"),
        (gx.Trace, "got type"),
        (Notes(0), r"expected Notes.every as a positive number of epochs, got 0"),
    ],
)
def test_what_is_no_callback(callback: Any, words: str) -> None:
    model, data = problem("node")
    with pytest.raises(InputError, match=words):
        gx.explain(model, data, "saliency", index=0, callback=callback, progress=False)


@pytest.mark.parametrize("every", [0, -1, 2.5, True])
def test_every_is_a_positive_number(every: Any) -> None:
    with pytest.raises(InputError, match="expected every="):
        gx.Trace(every)


# Embeddings and figures ##################################################################################################


@pytest.mark.parametrize("level", ["node", "graph"])
def test_embeddings_are_what_layers_return(level: str) -> None:
    model, data = problem(level)
    notes, index = Notes(), [3, 0, 4]
    gx.explain(model, data, "saliency", index=index, callback=notes, progress=False)
    found = notes.run.embeddings()
    x, expected = (data if level == "node" else data[3]).x, {}
    for number, conv in enumerate(model.convs):
        x = conv(x, (data if level == "node" else data[3]).edge_index)
        expected[f"convs.{number}"] = x[3] if level == "node" else x.mean(0)
        x = x.relu()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name][0], value.detach())
        assert found[name].shape == (3, models.HIDDEN)
    assert notes.run.embeddings(most=2)["convs.0"].shape == (2, models.HIDDEN)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_that_is_called_again_has_a_number() -> None:
    notes = Notes()
    gx.explain(models.make("shared"), models.random_graph(0), "saliency", index=[0], callback=notes, progress=False)
    assert list(notes.run.embeddings()) == ["convs.0", "convs.0 #2", "convs.0 #3"]


def test_convergence_is_drawn() -> None:
    model, data = problem("node")
    trace = gx.Trace(5)
    gx.explain(model, data, gx.GNNExplainer(epochs=10), index=[0, 3, 5], callback=trace, progress=False)
    ax = trace.draw(Figure().subplots())
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert list(lines) == ["prediction", "edge_size", "edge_ent", "node_feat_size", "node_feat_ent", "total"]
    assert lines["total"] == pytest.approx(trace.losses["total"][0].mean(1).tolist())
    assert ax.get_title(loc="left") == "3 instances"
    assert [line.get_label() for line in trace.draw(Figure().subplots(), terms=["total"]).lines] == ["total"]
    with pytest.raises(InputError, match="expected terms among prediction"):
        trace.draw(terms=["size"])
    with pytest.raises(InputError, match="expected restart in 0..0"):
        trace.draw(restart=1)
    with pytest.raises(InputError, match="the trace holds no epochs"):
        gx.Trace().draw()


# Sinks ###################################################################################################################


@contextmanager
def serving(command: Callable[[int], list[str]], path: str) -> Iterator[int]:
    """A server on a free port of this machine, once it answers on a path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < deadline, "the server does not answer"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10).close()
                break
            except urllib.error.HTTPError:
                break  # an answer
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


ALGORITHM = gx.GNNExplainer(epochs=20, restarts=2, init_std=0.5)


@needs("tensorboard", "tensorboard")
@pytest.mark.slow
def test_tensorboard_shows_what_was_written(tmp_path: Path) -> None:
    from gnn_xai.watch.tensorboard import TensorBoard

    model, data = problem("node")
    board = TensorBoard(tmp_path / "karate", instances=[0, 2], top=5)
    found = gx.explain(model, data, ALGORITHM, index=[4, 0, 9], callback=board, progress=False)

    def command(port: int) -> list[str]:
        options = ["--logdir", str(tmp_path), "--host", "127.0.0.1", "--port", str(port), "--load_fast=false"]
        return [sys.executable, "-m", "tensorboard.main", *options]

    with serving(command, "data/runs") as port:

        def read(plugin: str, **asked: Any) -> Any:
            url = f"http://127.0.0.1:{port}/data/plugin/{plugin}?{urllib.parse.urlencode(asked)}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)

        deadline = time.monotonic() + 30
        while not read("scalars/tags") and time.monotonic() < deadline:
            time.sleep(0.1)  # it reads the folder once it has started
        run, losses = "karate", board.trace.losses
        groups = {tag.split("/")[0] for tag in read("scalars/tags")[run]}
        assert groups == {"loss", "node 4", "node 9", "node 4 (restart 1)", "node 9 (restart 1)"}
        for tag, expected in (
            ("loss/total", losses["total"][0].mean(1)),
            ("node 9/edge_size", losses["edge_size"][0, :, 2]),
            ("node 4 (restart 1)/prediction", losses["prediction"][1, :, 0]),
        ):
            points = read("scalars/scalars", run=run, tag=tag)
            assert [step for _, step, _ in points] == [0, 10, 20]
            assert [value for _, _, value in points] == pytest.approx(expected.tolist(), rel=1e-5)
        assert "edge_mask/node 4" in read("histograms/tags")[run]
        slices = read("histograms/histograms", run=run, tag="edge_mask/node 4")
        assert [step for _, step, _ in slices] == [0, 10, 20]
        assert sum(count for _, _, count in slices[-1][2]) == len(
            found[0].edge_mask.unique()
        )  # each undirected edge once
        everything = read("histograms/histograms", run=run, tag="edge_mask/all")
        assert sum(count for _, _, count in everything[0][2]) == len(found.edge_mask)
        assert set(read("images/tags")[run]) == {"convergence", "node 4", "node 9"}
        (image,) = read("images/images", run=run, tag="node 9", sample=0)
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/data/plugin/images/individualImage?{image['query']}"
        ) as png:
            head = png.read(20)
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(head[16:20], "big") > 700  # wide enough to read
        layers = {entry["tensorName"]: entry for entry in read("projector/info", run=run)["embeddings"]}
        assert [entry["tensorShape"] for entry in layers.values()] == [[3, models.HIDDEN]] * 2
        name = next(name for name in layers if name.startswith("convs.0"))
        query = urllib.parse.urlencode({"run": run, "name": name})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/projector/metadata?{query}") as answer:
            rows = answer.read().decode().splitlines()
        assert rows == ["instance\ttarget", *(f"node {e.index}\texplained {e.target}" for e in found)]
        assert "gnn_explainer" in json.dumps(read("text/text", run=run, tag="run/text_summary"))


@needs("visdom", "visdom")
@pytest.mark.slow
def test_visdom_shows_what_was_sent(tmp_path: Path) -> None:
    from gnn_xai.watch.visdom import Visdom

    # As 'python -m visdom.server' does, without its attempt to download parts of its page.
    start = "from visdom.server.run_server import start_server; import sys; start_server("
    start += "port=int(sys.argv[1]), hostname='127.0.0.1', base_url='', bind_local=True, env_path=sys.argv[2])"
    model, data = problem("graph")
    with serving(lambda port: [sys.executable, "-c", start, str(port), str(tmp_path)], "") as port:
        sink = Visdom(server="http://127.0.0.1", port=port, instances=1)
        for _ in range(2):  # the second run takes the place of the first
            found = gx.explain(model, data, ALGORITHM, index=[4, 0, 1], callback=sink, progress=False)
        windows = json.loads(sink._server.get_window_data(env="gnn_xai"))
        losses = sink.trace.losses
        assert set(windows) == {
            "run", "loss", "figure convergence", "graph 4", "graph 4 (restart 1)", "figure graph 4", "edge_mask/graph 4",
            "node_mask/graph 4", "edge_mask/graph 4 (restart 1)", "node_mask/graph 4 (restart 1)", "edge_mask/all",
            "node_mask/all", "layer convs.0", "layer convs.1",
        }  # fmt: skip
        for window, expected in (("loss", losses["total"][0].mean(1)), ("graph 4", losses["total"][0, :, 0])):
            lines = {line["name"]: line for line in windows[window]["content"]["data"]}
            assert list(lines) == list(losses)
            assert lines["total"]["x"] == [0, 10, 20]
            assert lines["total"]["y"] == pytest.approx(expected.tolist())
        bars = windows["edge_mask/all"]["content"]["data"][0]["y"]
        assert sum(bars) == len(found.edge_mask)
        assert "<svg" in windows["figure graph 4"]["content"]
        points = windows["layer convs.1"]["content"]["data"]
        assert sum(len(group["x"]) for group in points) == 3
        assert {group["name"] for group in points} == {f"explained {int(target)}" for target in found.target}
        assert "gnn_explainer" in windows["run"]["content"]
        sink.env = "not there"
        with pytest.raises(GnnXaiError, match="did not take window 'late'"):
            sink._send("line", [1.0], [0], win="late", update="remove", name="none")


@needs("visdom", "visdom")
def test_a_server_that_is_not_there() -> None:
    from gnn_xai.watch.visdom import Visdom

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(GnnXaiError, match=rf"no Visdom server answers at http://127.0.0.1:{port}; start one with"):
            Visdom(server="http://127.0.0.1", port=port)


@needs("tensorboard", "tensorboard")
@pytest.mark.parametrize("instances", [[-1], ["all"]])
def test_instances_are_positions(instances: Any, tmp_path: Path) -> None:
    from gnn_xai.watch.tensorboard import TensorBoard

    with pytest.raises(InputError, match="expected instances= as positions within index"):
        TensorBoard(tmp_path, instances=instances)
