"""The command line, run in this process: what it writes, what it says, and that it leaves nothing half-written."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch_geometric.nn import GCN

import gnn_xai as gx
from gnn_xai.cli import demo
from gnn_xai.cli import outputs as runs
from gnn_xai.cli.app import main
from gnn_xai.cli.options import parse_index

USER_CODE = """
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GCN, global_mean_pool
from gnn_xai.datasets.models import HeteroLinks

def model():
    torch.manual_seed(0)
    return GCN(3, 8, num_layers=2, out_channels=2)

def data():
    edge_index = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    return Data(x=torch.eye(4)[:, :3], edge_index=edge_index)

def single():
    return GCN(3, 8, num_layers=2, out_channels=1)

class Starred(GCN):
    def forward(self, *arguments):
        return super().forward(*arguments)

def starred():
    return Starred(3, 8, num_layers=2, out_channels=2)

class Pooled(GCN):
    def forward(self, x, edge_index, batch):
        return global_mean_pool(super().forward(x, edge_index), batch)

def pooled():
    torch.manual_seed(0)
    return Pooled(3, 8, num_layers=2, out_channels=2)

class Links(GCN):
    def forward(self, x, edge_index, edge_label_index):
        first, second = super().forward(x, edge_index)[edge_label_index]
        return (first * second).sum(1)

def links():
    torch.manual_seed(0)
    return Links(3, 8, num_layers=2, out_channels=2)

def labelled():
    pairs = torch.tensor([[0, 3, 1], [3, 1, 2]])
    return Data(**data().to_dict(), edge_label_index=pairs, edge_label=torch.tensor([0, 0, 1]))

LIKES, LIKED_BY = ("user", "likes", "item"), ("item", "liked_by", "user")

def shop():
    data = HeteroData()
    data["user"].x, data["item"].x = torch.eye(3), torch.eye(2)
    data[LIKES].edge_index = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])
    data[LIKED_BY].edge_index = data[LIKES].edge_index.flip(0)
    return data

def buyers():
    torch.manual_seed(0)
    return HeteroLinks({"user": 3, "item": 2}, [LIKES, LIKED_BY], 4, 4, 2, LIKES)

def broken():
    raise RuntimeError("out of cheese")

def exits():
    raise SystemExit(3)

def number():
    return 3

text = "not callable"
"""


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch) -> Path:
    """An empty working directory that also holds a user's module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "mine.py").write_text(USER_CODE)
    yield tmp_path
    sys.modules.pop("mine", None)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0


def fail(capsys, *arguments: str) -> str:
    """The one sentence of a run that must fail, after checking that it is one and that nothing was left."""
    before = sorted(Path.cwd().rglob("*"))
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    left = [path for path in sorted(Path.cwd().rglob("*")) if path not in before and "__pycache__" not in path.parts]
    assert left == []
    return err


KARATE = ("explain", "--dataset", "karate", "--algorithm", "saliency", "--index", "0,8")
OWN = ("explain", "--model", "mine:model", "--data", "mine:data", "--task", "node", "--algorithm", "saliency")


def test_version_and_list(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"gnn-xai {gx.__version__}\n"
    assert run("list") == 0
    text = capsys.readouterr().out
    for name in (*gx.algorithms.REGISTRY, *gx.datasets.names()):
        assert re.search(rf"^ ?{name} ", text, re.M)


def test_explain_a_data_set(work, capsys):
    assert run(*KARATE, "--out", "runs/a", "--figures", "1", "--seed", "3") == 0
    out = capsys.readouterr().out
    assert "node 8 · predicted community" in out
    assert "written to runs/a/" in out
    folder = work / "runs" / "a"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "explanations.safetensors",
        "figures",
        "figures/node-0.png",
        "summary.json",
    ]
    loaded = gx.load(folder / "explanations.safetensors")
    assert loaded.index.tolist() == [0, 8]
    assert loaded.seed == 3
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["gnn_xai"] == gx.__version__
    assert summary["algorithm"] == "saliency"
    assert summary["instances"] == 2
    assert summary["roc_auc"] is None
    assert [one["index"] for one in summary["explanations"]] == [0, 8]
    u, v, score = loaded[0].top_edges(1)[0]
    assert summary["explanations"][0]["top_edges"][0] == pytest.approx([u, v, score])
    assert [path.name for path in work.iterdir() if path.name.startswith(".gnn-xai")] == []


def test_hyper_parameters_and_target(work):
    arguments = [*KARATE, "--out", "a", "--target", "2", "--set", "edge_mask_type=None", "--figures", "0"]
    assert run(*arguments) == 0
    loaded = gx.load(work / "a" / "explanations.safetensors")
    assert loaded.target.tolist() == [2, 2]
    assert loaded.edge_mask is None
    assert loaded.algorithm["edge_mask_type"] is None


def test_a_cap_on_neighbours(work, capsys):
    assert run(*KARATE, "--out", "a", "--max-neighbors", "3", "--figures", "0") == 0
    loaded = gx.load(work / "a" / "explanations.safetensors")
    assert loaded.provenance["max_neighbors"] == 3
    assert loaded.exact.tolist() == [False, False]
    capsys.readouterr()
    assert run(*KARATE, "--out", "b", "--max-neighbors", "0") == 2
    assert capsys.readouterr().err == (
        "error: expected --max-neighbors as a positive integer, got 0; leave it out to follow every edge\n"
    )


def test_every_algorithm_can_be_run(work):
    for name, cls in gx.algorithms.REGISTRY.items():
        if not gx.algorithms.any_model(cls):
            continue
        names = {field.name for field in dataclasses.fields(cls)}
        few = {"epochs": 2, "samples": 4, "rollouts": 2, "size": 1} if name != "captum" else {}
        settings = [word for field in few.keys() & names for word in ("--set", f"{field}={few[field]}")]
        settings += ["--fit-index", "0-7"] if name == "pg_explainer" else []
        assert run("explain", "--dataset", "karate", "--algorithm", name, "--index", "8", "--figures", "0",
                   "--out", name, *settings) == 0  # fmt: skip


def test_explain_a_heterogeneous_data_set(work, capsys):
    arguments = ["--dataset", "southern_women", "--algorithm", "edge_ablation", "--index", "0", "--out", "o"]
    assert run("explain", *arguments, "--figures", "1") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "woman 0 · predicted first group" in out
    assert "event 8 attended_by woman 0" in out
    assert (work / "o" / "figures" / "node-0.png").stat().st_size > 10_000
    (row,) = json.loads((work / "o" / "summary.json").read_text())["explanations"]
    assert row["top_edges"][0][0] == ["event", "attended_by", "woman"]


def test_explain_an_own_model(work, capsys):
    sys.path.insert(0, str(work))
    import mine

    torch.manual_seed(7)
    trained = GCN(3, 8, num_layers=2, out_channels=2).eval()
    save_file(trained.state_dict(), work / "w.safetensors")
    assert run(*OWN, "--weights", "w.safetensors", "--out", "a") == 0
    loaded = gx.load(work / "a" / "explanations.safetensors")
    data = mine.data()
    torch.testing.assert_close(loaded.prediction, trained(data.x, data.edge_index).detach())
    assert len(list((work / "a" / "figures").iterdir())) == 4


LINKS = ("--model", "mine:links", "--data", "mine:labelled", "--task", "edge")
SHOP = ("--model", "mine:buyers", "--data", "mine:shop", "--task", "edge", "--edge-type", "user,likes,item")


def test_explain_pairs(work, capsys):
    """By their nodes, by their positions among those that the data names, or all of these."""
    arguments = ("explain", *LINKS, "--algorithm", "saliency", "--figures", "1", "--out")
    for index, expected in (("0:2,3:1", [[0, 2], [3, 1]]), ("1-2", [[3, 1], [1, 2]]), (None, [[0, 3], [3, 1], [1, 2]])):
        assert run(*arguments, str(index), *(() if index is None else ("--index", index))) == 0
        loaded = gx.load(work / str(index) / "explanations.safetensors")
        assert (loaded.index.tolist(), loaded.task.mode.value) == (expected, "binary_classification")
    assert "pair 0–2 · predicted class" in capsys.readouterr().out
    assert [path.name for path in (work / "0:2,3:1" / "figures").iterdir()] == ["edge-0-2.png"]
    assert json.loads((work / "1-2" / "summary.json").read_text())["explanations"][0]["index"] == [3, 1]


def test_explain_pairs_of_a_relation(work, capsys):
    assert run("explain", *SHOP, "--index", "0:1,2:0", "--algorithm", "saliency", "--figures", "1", "--out", "o") == 0
    loaded = gx.load(work / "o" / "explanations.safetensors")
    assert (loaded.index.tolist(), loaded.explained_type) == ([[0, 1], [2, 0]], ("user", "likes", "item"))
    assert "user 2–item 0 · predicted class" in " ".join(capsys.readouterr().out.split())


def test_explain_nodes_of_a_type(work):
    user = """
from torch_geometric.nn import SAGEConv, to_hetero

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = SAGEConv((-1, -1), 2)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index)

class Users(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        data = shop()
        self.layers = to_hetero(Two(), data.metadata())
        self.layers(data.x_dict, data.edge_index_dict)

    def forward(self, x_dict, edge_index_dict):
        return self.layers(x_dict, edge_index_dict)["user"]
"""
    (work / "mine.py").write_text(USER_CODE + user)
    own = ("explain", "--model", "mine:Users", "--data", "mine:shop", "--task", "node", "--algorithm", "saliency")
    assert run(*own, "--node-type", "user", "--index", "1", "--figures", "0", "--out", "o") == 0
    assert gx.load(work / "o" / "explanations.safetensors")[0].name == "user 1"


def test_compare_pairs(work, capsys):
    """Labels of pairs are known where these are picked by their positions."""
    labelled = ("--algorithms", "saliency", "--metrics", "fidelity_phenomenon_probability")
    assert run("compare", *LINKS, *labelled, "--index", "0-1", "--out", "a") == 0
    assert "saliency,fidelity+ (phenomenon probability),0,3,1,1," in (work / "a" / "values.csv").read_text()
    capsys.readouterr()
    assert "fidelity_phenomenon_probability needs labels, which this data does not have" in fail(
        capsys, "compare", *SHOP, *labelled, "--index", "0:1", "--out", "b"
    )


def test_one_graph_is_data_too(work):
    assert run("explain", "--model", "mine:pooled", "--data", "mine:data", "--task", "graph", "--algorithm", "saliency",
               "--out", "a") == 0  # fmt: skip
    assert [path.name for path in (work / "a" / "figures").iterdir()] == ["graph-0.png"]
    assert json.loads((work / "a" / "summary.json").read_text())["dataset"] == "mine:data"


def test_a_narrow_terminal_shows_whole_numbers_and_titles():
    row = {"dataset": "my_package.my_module:my_data", "algorithm": "integrated_gradients", "instances": 116,
           "roc_auc": None, "fidelity_plus": 0.5, "fidelity_minus": -0.25, "ms": 1234.5}  # fmt: skip
    terminal = Console(width=80, file=io.StringIO())
    terminal.print(runs.results_table([row]))
    text = terminal.file.getvalue()
    assert "…" not in text
    for whole in ("integrated_gradients", "instances", "fidelity+", "fidelity−", "explanation", "-0.250", "1234.5"):
        assert whole in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", [5]),
        ("1-3", [1, 2, 3]),
        (" 4 , 2-2,9", [4, 2, 9]),
        ("0-1,0", [0, 1, 0]),
        ("3:17", [(3, 17)]),
        (" 3:17 , 4:5", [(3, 17), (4, 5)]),
    ],
)
def test_parse_index(text, expected):
    assert parse_index(text) == expected


@pytest.mark.parametrize(
    "text", ["", "a", "1-", "-1", "1..3", "3-1", "1,,2", "0-99999999999999", "3:", "1:2:3", "1:2,3"]
)
def test_parse_index_refuses(text):
    with pytest.raises(gx.errors.InputError, match="^expected .*--index"):
        parse_index(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "karat"), "unknown data set 'karat'; did you mean 'karate'?"),
        (("--dataset", "karate", "--algorithm", "salienc"), "did you mean 'saliency'?"),
        (("--dataset", "karate", "--set", "epoch=3"), "did you mean 'epochs'?"),
        (("--dataset", "karate", "--set", "epochs"), "expected --set NAME=VALUE such as epochs=200"),
        (("--dataset", "karate", "--set", "epochs=-1"), "epochs"),
        (("--dataset", "karate", "--set", "lr=fast"), "lr"),
        (("--dataset", "karate", "--index", "30-40"), "index 34 is out of range; expected 0 to 33"),
        (("--dataset", "karate", "--index", "three"), "expected --index as numbers and ranges"),
        (("--dataset", "karate", "--index", "0", "--target", "4"), "target 4 is out of range"),
        (("--dataset", "karate", "--task", "node"), "--dataset brings its own model"),
        ((), "expected either --dataset, or --model and --data"),
        (("--model", "mine:model"), "expected either --dataset, or --model and --data"),
        (
            ("--model", "mine:model", "--data", "mine:data"),
            "expected --task node, edge or graph with --model, got none",
        ),
        (("--model", "mine:model", "--data", "mine:data", "--task", "pair"), "got 'pair'"),
        ((*LINKS, "--index", "0:9"), "pair (0, 9) is out of range; expected nodes 0 to 3"),
        ((*LINKS, "--index", "3"), "index 3 is out of range; expected 0 to 2"),
        ((*LINKS, "--index", "0:1,2"), "expected --index as pairs of nodes such as 3:17,4:5, or as numbers and ranges"),
        ((*SHOP, "--index", "0:2"), "pair (0, 2) is out of range; expected user 0 to 2 and item 0 to 1"),
        ((*SHOP,), "got None; say which with --index, as in --index 3:17,4:5"),
        ((*SHOP[:-1], "user,item"), "expected --edge-type as three names such as user,likes,item, got 'user,item'"),
        ((*SHOP[:-1], "user,like,item", "--index", "0:1"), "did you mean ('user', 'likes', 'item')?"),
        ((*SHOP[:-2], "--index", "0:1"), "--edge-type"),
        ((*SHOP[:-2], "--node-type", "user", "--index", "0:1"), "expected --edge-type for an edge-level task"),
        (("--model", "mine:model", "--data", "mine:shop", "--task", "node"), "expected --node-type for nodes of"),
        ((*OWN[1:], "--node-type", "user"), "expected --node-type for HeteroData alone, got 'user'"),
        ((*OWN[1:], "--index", "0:1"), "pairs of nodes are explained by task='edge'"),
        (("--dataset", "karate", "--edge-type", "a,b,c"), "leave out --edge-type"),
        (
            ("--model", "mine:model", "--data", "mine:data", "--task", "node", "--mode", "guess"),
            "unknown --mode 'guess' (known: binary_classification, multiclass_classification, regression)",
        ),
        (
            ("--model", "mine:model", "--data", "mine:data", "--task", "node", "--returns", "prob"),
            "unknown --returns 'prob'; did you mean 'probs'?",
        ),
        (
            [
                "--model",
                "mine:single",
                "--data",
                "mine:data",
                "--task",
                "node",
                "--mode",
                "regression",
                "--returns",
                "probs",
            ],
            "expected --mode and --returns that go together, got regression and probs",
        ),
        (
            ("--model", "mine:model", "--data", "mine:data", "--task", "graph"),
            "Say --task or let --model return a module with forward(self, data)",
        ),
        (
            ("--model", "mine:starred", "--data", "mine:data", "--task", "node"),
            "cannot be bound by name; let --model return a module with forward(self, data)",
        ),
        (("--model", "mine", "--data", "mine:data", "--task", "node"), "expected the model as package.module:factory"),
        (("--model", "nowhere:f", "--data", "mine:data", "--task", "node"), "No module named 'nowhere'"),
        (("--model", "mine:f", "--data", "mine:data", "--task", "node"), "has no attribute 'f'"),
        (("--model", "mine:text", "--data", "mine:data", "--task", "node"), "to be a function that returns the model"),
        (("--model", "mine:broken", "--data", "mine:data", "--task", "node"), "raised RuntimeError: out of cheese"),
        (("--model", "mine:number", "--data", "mine:data", "--task", "node"), "to return a torch.nn.Module, got int"),
        (("--model", "mine:model", "--data", "mine:number", "--task", "node"), "int"),
        (
            ("--model", "mine:single", "--data", "mine:data", "--task", "node", "--algorithm", "saliency"),
            "Then say what it is with --task, --mode and --returns",
        ),
        (("--dataset", "karate", "--out", "mine.py"), "expected a folder for the output, got the file"),
        (("--dataset", "karate", "--out", "mine.py/a"), "cannot write to"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(capsys, arguments, message):
    out = () if "--out" in arguments else ("--out", "out")
    assert message in fail(capsys, "explain", *arguments, *out)


def test_weights_are_safetensors_that_fit_or_refused(work, capsys):
    state = GCN(3, 8, num_layers=2, out_channels=2).state_dict()
    torch.save(state, work / "pickled.pt")
    (work / "text.safetensors").write_text("hello")
    save_file({name: value for name, value in state.items() if "convs.0.bias" not in name}, work / "less.safetensors")
    save_file({**state, "extra": torch.ones(1)}, work / "more.safetensors")
    save_file({**state, "convs.0.bias": torch.ones(5)}, work / "shape.safetensors")
    for name, message in {
        "pickled.pt": "got a pickle, as torch.save writes",
        "text.safetensors": "to be a safetensors file, got something else",
        "less.safetensors": "it lacks convs.0.bias",
        "more.safetensors": "it holds extra, which the model has not",
        "shape.safetensors": "convs.0.bias has shape [5] where the model has [8]",
        "absent.safetensors": "cannot read the weights absent.safetensors: No such file",
    }.items():
        assert message in fail(capsys, *OWN, "--weights", name, "--out", "out")


def test_a_pickle_is_never_opened(work, capsys):
    """A pickle that would write a file when it is loaded."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (work / "sprung",))

    torch.save(Trap(), work / "trap.safetensors")
    fail(capsys, *OWN, "--weights", "trap.safetensors", "--out", "out")
    assert not (work / "sprung").exists()


def test_folders_of_others_are_not_touched_without_overwrite(work, capsys):
    (work / "out").mkdir()
    (work / "out" / "thesis.tex").write_text("precious")
    assert "holds files of something else" in fail(capsys, *KARATE, "--out", "out")
    assert run(*KARATE, "--out", "out", "--figures", "0", "--overwrite") == 0
    assert (work / "out" / "thesis.tex").read_text() == "precious"
    assert (work / "out" / "summary.json").exists()


def test_an_earlier_run_is_replaced(work):
    assert run(*KARATE, "--out", "out", "--figures", "2") == 0
    assert run(*KARATE, "--out", "out", "--figures", "1") == 0
    assert [path.name for path in (work / "out" / "figures").iterdir()] == ["node-0.png"]


def test_another_run_is_not_replaced_without_overwrite(work, capsys):
    assert run(*KARATE, "--out", "out", "--figures", "0") == 0
    summary = json.loads((work / "out" / "summary.json").read_text())
    assert summary["command"]["command"] == "explain"
    assert set(summary["files"]) == {path.name for path in (work / "out").iterdir()}
    before = {path: path.read_bytes() for path in (work / "out").iterdir() if path.is_file()}
    capsys.readouterr()
    other = ("explain", "--dataset", "karate", "--algorithm", "random", "--index", "0-1")
    for options, difference in (
        ((*KARATE, "--seed", "1"), "--seed was 0, and is now 1"),
        (other, r"--algorithm was .*, and is now random"),
        (("compare", "--dataset", "karate", "--algorithms", "saliency"), "the command was explain, and is now compare"),
    ):
        said = fail(capsys, *options, "--out", "out")
        assert re.search(
            f"holds a run of another command: {difference}; choose another --out, or add --overwrite", said
        ), said
    assert before == {path: path.read_bytes() for path in (work / "out").iterdir() if path.is_file()}
    (work / "out" / "notes.txt").write_text("mine")
    compare = (
        "compare",
        "--dataset",
        "karate",
        "--algorithms",
        "saliency",
        "--index",
        "0-1",
        "--out",
        "out",
        "--overwrite",
    )
    assert run(*compare) == 0
    assert not (work / "out" / "explanations.safetensors").exists(), "files of two runs lie in one folder"
    assert (work / "out" / "notes.txt").read_text() == "mine"
    (work / "out" / "notes.txt").unlink()
    capsys.readouterr()
    assert run(*compare[:-1]) == 0
    assert "the earlier run in" in capsys.readouterr().out
    assert {path.name for path in work.iterdir()} - {"__pycache__"} == {"mine.py", "out"}


def test_a_summary_cannot_name_files_of_others(work):
    (work / "precious").write_text("mine")
    assert run(*KARATE, "--out", "out", "--figures", "0") == 0
    path = work / "out" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "files": [*summary["files"], "../precious", str(work / "precious"), 3]}))
    (work / "out" / "notes.txt").write_text("mine")
    assert run(*KARATE, "--out", "out", "--figures", "0") == 0
    assert (work / "precious").read_text() == "mine"


def test_options_that_make_no_sense_together_are_refused(work, capsys):
    for options, sentence in (
        ((*KARATE, "--mode", "nonsense"), "brings its own model, data and task; leave out --mode"),
        ((*KARATE, "--returns", "probs", "--task", "node"), "leave out --task, --returns"),
        ((*KARATE, "--set", "objective=prob", "--set", "objective=raw"), "got --set objective= twice"),
        ((*OWN, "--weights", "/dev/zero"), "expected the weights /dev/zero to be a safetensors file"),
        ((*OWN[:2], "mine:exits", *OWN[3:]), "mine:exits raised SystemExit: 3"),
        (("molecules", "--smiles", "a.smi", "--model", "reference:nitro", "--mode", "regression"), "leave out --mode"),
        (("molecules", "--smiles", "a.smi", "--model", "logp"), "did you mean reference:logp?"),
    ):
        assert sentence in fail(capsys, *options, "--out", "out")
        assert not (work / "out").exists()


def test_text_is_never_markup(work, capsys):
    assert (
        run(
            "explain",
            "--dataset",
            "karate",
            "--algorithm",
            "saliency",
            "--index",
            "0-1",
            "--figures",
            "0",
            "--out",
            "a[/b]",
        )
        == 0
    )
    assert "a[/b]" in capsys.readouterr().out
    assert r"\x1b[31mred" in fail(capsys, "explain", "--dataset", "\x1b[31mred[/]", "--out", "out")


def test_output_folder_is_complete_or_absent(work):
    def interrupted() -> None:
        with runs.output_folder("deep/er/out") as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in work.iterdir()] == ["mine.py"]
    (work / "empty").mkdir()
    with runs.output_folder("empty") as folder:
        (folder / "whole").write_text("x")
        assert list((work / "empty").iterdir()) == []
    assert [path.name for path in (work / "empty").iterdir()] == ["whole"]


def test_a_terminated_run_leaves_nothing(work, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        monkeypatch.setattr(runs, "save_figure", lambda *arguments: os.kill(os.getpid(), signal.SIGHUP))
        assert run(*KARATE, "--out", "out") == 128 + signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, outside)
    monkeypatch.setattr(runs, "save_figure", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    assert run(*KARATE, "--out", "out") == 128 + signal.SIGTERM
    assert [path.name for path in work.iterdir() if path.name != "__pycache__"] == ["mine.py"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_is_one_sentence(work, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "save_figure", full)
    assert "No space left on device" in fail(capsys, *KARATE, "--out", "out")


def test_warnings_of_the_package_are_short(work, capsys):
    import warnings

    def warn(*arguments, **options):
        warnings.warn("mind the gap", gx.errors.GnnXaiWarning, stacklevel=1)
        raise gx.errors.InputError("stop here")

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(runs, "explain_and_measure", warn)
        assert run(*KARATE, "--out", "out") == 2
    assert capsys.readouterr().err == "warning: mind the gap\nerror: stop here\n"


@pytest.mark.slow
def test_demo(work, monkeypatch, capsys):
    """The whole demo on fewer instances; `make demo` runs it in full."""
    pytest.importorskip("rdkit")
    quick = gx.GNNExplainer(epochs=3, node_mask_type=None)
    chapters = [dataclasses.replace(chapter, instances=12, gnn_explainer=quick) for chapter in demo.CHAPTERS]
    monkeypatch.setattr(demo, "CHAPTERS", chapters)
    assert run("demo", "--out", "out/demo") == 0
    folder = work / "out" / "demo"
    out = capsys.readouterr().out
    assert "ROC-AUC" in out
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["rows"]) == len(demo.CHAPTERS) * (1 + len(demo.ALGORITHMS))
    for row in summary["rows"]:
        assert f"{row['fidelity_plus']:.3f}" in out
        assert (row["roc_auc"] is None) == (row["dataset"] == "karate")
        file = folder / f"{row['dataset']}-{row['algorithm']}.safetensors"
        loaded = gx.load(file)
        assert len(loaded) == row["instances"] == 12
        assert (loaded.edge_mask is None) == (row["algorithm"] == "node_ablation"), "fidelity compares edges with edges"
        assert (loaded.node_mask is None) == (row["algorithm"] != "node_ablation"), "fidelity compares edges with edges"
    page = (folder / "index.html").read_text(encoding="utf-8")
    pictures = sorted((folder / "figures").iterdir())
    assert len(pictures) == page.count('src="data:image/png;base64,') >= 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert not re.search(r"https?://|<script", page)
