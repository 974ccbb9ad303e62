"""Make the frozen data and train the models of the benchmarks.

``python -m gnn_xai.datasets.train [NAME ...]`` writes, for every benchmark or those named,
``data.safetensors``, ``model.safetensors``, the weights of its other checkpoints and
``reference.json`` into its folder under ``datasets/``, and the table of numbers into its card.
All of it takes a few minutes on one core. One machine gives the same bytes every time; another
processor may round differently.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from gnn_xai.datasets import REGISTRY, Recipe, Training, files, names
from gnn_xai.datasets.recipe import REFERENCE, Material
from gnn_xai.errors import StorageError, unknown

LIBRARIES = ("torch", "torch-geometric", "networkx", "numpy", "rdkit")
BEGIN, END = "<!-- numbers: written by gnn_xai.datasets.train -->", "<!-- /numbers -->"


def make(recipe: Recipe) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Make one benchmark from nothing.

    Returns:
        The content of its safetensors files, and the facts for ``reference.json``.
    """
    contents = {}
    frozen: dict[str, Tensor] = recipe.generate() if recipe.generate else {}
    if frozen:
        contents[files.DATA] = tensors_to_bytes(frozen)
    material = recipe.read(frozen)
    facts = {}
    for checkpoint, training in recipe.checkpoints.items():
        model = train(training, material)
        contents[files.model(checkpoint)] = tensors_to_bytes(model.state_dict())
        facts[checkpoint] = {
            "seed": training.seed,
            "instances": len(recipe.instances(model, material)),
            "accuracy": recipe.measure(model, material),
        }
    reference = facts.pop(REFERENCE) | {
        "split": {name: len(ids) for name, ids in material.split.items()},
        "sha256": {name: files.sha256(content) for name, content in sorted(contents.items())},
        "versions": versions(),
    }
    controls = {}
    for control, without in recipe.controls.items():
        changed = without(material)
        controls[control] = recipe.measure(train(recipe.checkpoints[REFERENCE], changed), changed)
    further = {"checkpoints": facts, "controls": controls}
    return contents, reference | {name: values for name, values in further.items() if values}


def train(training: Training, material: Material) -> nn.Module:
    """A trained model in eval mode; the same bytes every time on one machine."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # sums over several threads may come in another order
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(training.seed)
        model = training.model()
        training.fit(model.train(), material)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    return model.eval()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that take part, as far as they are installed."""
    numbers = {"python": platform.python_version()}
    for library in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            numbers[library] = version(library)
    return numbers


def numbers(reference: dict[str, Any]) -> str:
    """The facts of a training run as markdown: accuracies, seed, versions, checksums."""
    accuracy = reference["accuracy"]
    measures = list(next(iter(accuracy.values())))
    lines = scores_by_split(reference, accuracy)
    if "checkpoints" in reference:
        lines += [
            "",
            "| other checkpoint | seed | " + " | ".join(f"{measures[0]}, {split}" for split in accuracy) + " |",
        ]
        lines.append("|---|---|" + "---|" * len(accuracy))
        for checkpoint, facts in reference["checkpoints"].items():
            cells = [f"{scores[measures[0]]:.4f}" for scores in facts["accuracy"].values()]
            lines.append(f"| `{checkpoint}` | {facts['seed']} | " + " | ".join(cells) + " |")
    for control, scores in reference.get("controls", {}).items():
        lines += ["", f"Control, {control}:", "", *scores_by_split(reference, scores)]
    lines += [
        "",
        f"Instances to explain: {reference['instances']}. Seed: {reference['seed']}. Versions: "
        + ", ".join(f"{name} {number}" for name, number in reference["versions"].items())
        + ".",
        "",
        "| file | SHA-256 |",
        "|---|---|",
        *(f"| `{name}` | `{digest}` |" for name, digest in reference["sha256"].items()),
    ]
    return "\n".join(lines)


def scores_by_split(reference: dict[str, Any], scores: dict[str, dict[str, float]]) -> list[str]:
    """The lines of a table of scores, a row a split."""
    measures = list(next(iter(scores.values())))
    sizes = {**reference["split"], "all": sum(reference["split"].values())}
    lines = ["| split | instances | " + " | ".join(measures) + " |", "|---|---|" + "---|" * len(measures)]
    for split, values in scores.items():
        cells = [f"{values[measure]:.4f}" for measure in measures]
        lines.append(f"| {split} | {sizes[split]} | " + " | ".join(cells) + " |")
    return lines


def write(folder: Path, contents: dict[str, bytes], reference: dict[str, Any]) -> None:
    """Write one benchmark's files and the numbers into its card."""
    card = folder / files.CARD
    text = files.read_bytes(card).decode()
    block = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not block.search(text):
        raise StorageError(f"expected the marks {BEGIN!r} and {END!r} in {card}; put them back")
    table = f"{BEGIN}\n{numbers(reference)}\n{END}"
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / files.REFERENCE).write_text(json.dumps(reference, indent=2) + "\n")
    card.write_text(block.sub(lambda _: table, text))


def main(arguments: list[str] | None = None) -> None:
    """Train the benchmarks named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m gnn_xai.datasets.train", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(names())}")
    chosen = parser.parse_args(arguments).names or names()
    for name in chosen:
        if name not in REGISTRY:
            raise unknown("data set", name, REGISTRY)
    for name in chosen:
        start = time.perf_counter()
        contents, reference = make(REGISTRY[name])
        write(files.root() / name, contents, reference)
        print(f"{name}: {time.perf_counter() - start:.0f} s, {reference['accuracy']}")


if __name__ == "__main__":
    main()
