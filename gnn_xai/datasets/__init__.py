"""Benchmarks with a trained reference model and known truth; nothing is ever downloaded.

>>> from gnn_xai import datasets
>>> datasets.names()
['ba_shapes', 'karate', 'nci_nitro', 'nci_benzene', 'nci_halogen_carbonyl', 'nci_logp', 'nci_tpsa']
>>> benchmark = datasets.load("ba_shapes")
>>> benchmark.data.num_nodes, len(benchmark.index)
(700, 400)
"""

from __future__ import annotations

from gnn_xai.datasets import (
    ba_shapes,
    files,
    karate,
    nci_benzene,
    nci_halogen_carbonyl,
    nci_logp,
    nci_nitro,
    nci_tpsa,
)
from gnn_xai.datasets.recipe import Benchmark, Recipe
from gnn_xai.errors import unknown

__all__ = ["REGISTRY", "Benchmark", "Recipe", "load", "names"]

_MODULES = (ba_shapes, karate, nci_nitro, nci_benzene, nci_halogen_carbonyl, nci_logp, nci_tpsa)
REGISTRY: dict[str, Recipe] = {module.RECIPE.name: module.RECIPE for module in _MODULES}


def names() -> list[str]:
    """Names of the benchmarks; `REGISTRY` has a one-line ``summary`` for each."""
    return list(REGISTRY)


def load(name: str) -> Benchmark:
    """A benchmark by name: data, reference model with its trained weights, truth and card.

    Every call returns new objects, so that a caller may change them.

    Args:
        name: one of `names`.

    Raises:
        InputError: there is no benchmark of that name; the message names the nearest one.
        StorageError: a file is missing or its checksum does not match.
        GnnXaiError: one of the NCI molecules (``nci_...``) without RDKit.
    """
    if name not in REGISTRY:
        raise unknown("data set", name, REGISTRY)
    recipe = REGISTRY[name]
    folder = files.root() / name
    reference = files.read_reference(folder)
    material = recipe.read(files.read_tensors(folder, files.DATA, reference))
    model = recipe.model()
    model.load_state_dict(files.read_tensors(folder, files.MODEL, reference))
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
    )
