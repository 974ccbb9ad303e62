"""Benchmarks with a trained reference model and known truth; nothing is ever downloaded.

>>> from gnn_xai import datasets
>>> datasets.names()[:5]
['ba_shapes', 'ba_community', 'tree_cycles', 'tree_grid', 'ba_2motifs']
>>> benchmark = datasets.load("ba_shapes")
>>> benchmark.data.num_nodes, len(benchmark.index)
(700, 400)
"""

from __future__ import annotations

from gnn_xai.datasets import (
    ba_2motifs,
    ba_community,
    ba_shapes,
    files,
    hetero_squares,
    karate,
    nci_benzene,
    nci_halogen_carbonyl,
    nci_logp,
    nci_nitro,
    nci_tpsa,
    southern_women,
    southern_women_links,
    tree_cycles,
    tree_grid,
    user_item_paths,
)
from gnn_xai.datasets.recipe import REFERENCE, Benchmark, Recipe, Training
from gnn_xai.errors import unknown

__all__ = ["REGISTRY", "Benchmark", "Recipe", "Training", "checkpoints", "load", "names"]

_MODULES = (
    ba_shapes,
    ba_community,
    tree_cycles,
    tree_grid,
    ba_2motifs,
    karate,
    southern_women,
    southern_women_links,
    hetero_squares,
    user_item_paths,
    nci_nitro,
    nci_benzene,
    nci_halogen_carbonyl,
    nci_logp,
    nci_tpsa,
)
REGISTRY: dict[str, Recipe] = {module.RECIPE.name: module.RECIPE for module in _MODULES}


def names() -> list[str]:
    """Names of the benchmarks; `REGISTRY` has a one-line ``summary`` for each."""
    return list(REGISTRY)


def checkpoints(name: str) -> tuple[str, ...]:
    """Names of a benchmark's trained models for `load`, "reference" first.

    The others were trained on the same data with another seed (``seed1``) or architecture, so that a
    finding about explanations need not rest on one model.

    Raises:
        InputError: there is no benchmark of that name.

    >>> checkpoints("karate")
    ('reference',)
    """
    return tuple(_recipe(name).checkpoints)


def load(name: str, checkpoint: str = REFERENCE) -> Benchmark:
    """A benchmark by name: data, a model with its trained weights, truth and card.

    Every call returns new objects, so that a caller may change them.

    Args:
        name: one of `names`.
        checkpoint: which of its trained models, one of `checkpoints`.

    Raises:
        InputError: there is no benchmark or checkpoint of that name; the message names the nearest
            one.
        StorageError: a file is missing or its checksum does not match.
        GnnXaiError: one of the NCI molecules (``nci_...``) without RDKit.
    """
    recipe = _recipe(name)
    if checkpoint not in recipe.checkpoints:
        raise unknown(f"checkpoint of {name}", checkpoint, recipe.checkpoints)
    folder = files.root() / name
    reference = files.read_reference(folder, checkpoint)
    material = recipe.read(files.read_tensors(folder, files.DATA, reference))
    model = recipe.checkpoints[checkpoint].model()
    model.load_state_dict(files.read_tensors(folder, files.model(checkpoint), reference))
    model.eval()
    return Benchmark(
        name=name,
        title=recipe.title,
        data=material.data,
        model=model,
        task=recipe.task,
        ground_truth=material.ground_truth,
        index=recipe.instances(model, material),
        split=material.split,
        class_names=material.class_names,
        feature_names=material.feature_names,
        node_names=material.node_names,
        card=files.read_bytes(folder / files.CARD).decode(),
        reference=reference,
        atom_values=material.atom_values,
        featurizer=recipe.featurizer,
        checkpoint=checkpoint,
        node_type=recipe.node_type,
    )


def _recipe(name: str) -> Recipe:
    if name not in REGISTRY:
        raise unknown("data set", name, REGISTRY)
    return REGISTRY[name]
