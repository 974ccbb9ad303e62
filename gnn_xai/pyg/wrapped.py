"""Algorithms of this package inside `torch_geometric.explain`.

PyG makes one mask for whatever `index` selects: one output, several, or all (`index=None`). Here one output is one instance
on its verified computation graph, as in `gnn_xai.explain`; several are one instance whose objective is the mean of theirs,
on the whole graph (`gnn_xai.core.model.joint`).
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import ExplainerAlgorithm, HeteroExplanation
from torch_geometric.explain import Explanation as PyGExplanation
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn import SimpleConv

from gnn_xai._checks import integer
from gnn_xai.algorithms.base import Algorithm, Attributing, columns_of, get
from gnn_xai.api import explain
from gnn_xai.core.engines.agreement import close
from gnn_xai.core.graphs.types import EdgeType
from gnn_xai.core.model.arguments import eager
from gnn_xai.errors import InputError
from gnn_xai.pyg._calls import Call, rows_of
from gnn_xai.pyg._typed import TypedCall

if TYPE_CHECKING:
    pass

_log = logging.getLogger("gnn_xai")


def algorithm(
    algorithm: str | Attributing,
    *,
    seed: int = 0,
    undirected: bool | Literal["auto"] = "auto",
    batch_budget: int | Literal["auto"] = "auto",
) -> ExplainerAlgorithm:
    """An algorithm as `torch_geometric.explain.Explainer` takes it, in place of PyG's own.

    What is masked comes from the `Explainer`: fields `node_mask_type` and `edge_mask_type` of the algorithm are replaced by
    its, and combinations that the algorithm cannot score are refused when the `Explainer` is made. Attributions come back
    with their sign and scale, as from PyG's `CaptumExplainer`; masks of `GNNExplainer` lie in [0, 1]. Scores are as long as
    the graph, and 0 where nothing can reach the output that is explained.

    One `index` is one instance, on its verified computation graph: the answer of `gnn_xai.explain`; in an edge-level task,
    for a pair of the call's `edge_label_index`. For several, or `None`, there is one mask, whose objective is the mean of
    theirs, on the whole graph; so are regressions that return several numbers or explain a phenomenon, where
    `GNNExplainer` learns to keep the values given as `target`. In these, every number of a binary classification or
    regression counts alike. Further arguments of the call go to the model; `edge_attr`, `batch` and others as long as edges
    or nodes follow them.

    Args:
        algorithm: an algorithm such as `GNNExplainer(epochs=200)`, or its name.
        seed, undirected, batch_budget: as in `gnn_xai.explain`.

    Raises:
        InputError: if it is not an algorithm of this kind.

    >>> from torch_geometric.explain import Explainer
    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> explainer = Explainer(
    ...     karate.model,
    ...     gx.pyg.algorithm(gx.GNNExplainer(epochs=20)),
    ...     explanation_type="model",
    ...     node_mask_type="attributes",
    ...     edge_mask_type="object",
    ...     model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
    ... )
    >>> explanation = explainer(karate.data.x, karate.data.edge_index, index=16)
    >>> explanation.edge_mask.shape, explanation.node_mask.shape
    (torch.Size([156]), torch.Size([34, 34]))
    """
    if isinstance(algorithm, ExplainerAlgorithm):
        raise InputError(
            f"expected an algorithm such as gnn_xai.GNNExplainer(), got {type(algorithm).__name__} of torch_geometric, "
            "which an Explainer takes as it is"
        )
    integer(seed, "seed")
    method = get(algorithm)
    if columns_of(method):
        raise InputError(
            "expected an algorithm without columns= for torch_geometric.explain.Explainer, which has masks of nodes and "
            f"edges alone, got {', '.join(columns_of(method))}; use gnn_xai.explain(model, data, algorithm), whose "
            "to_pyg() has them"
        )
    named = type(type(method).__name__, (_Wrapped,), {})  # PyG's own messages name the class
    return named(method, {"seed": seed, "undirected": undirected, "batch_budget": batch_budget})


class _Wrapped(ExplainerAlgorithm):
    """See `algorithm`."""

    def __init__(self, algorithm: Algorithm, options: dict[str, Any]) -> None:
        super().__init__()
        self.algorithm, self.options = algorithm, options

    def __repr__(self) -> str:
        return f"gnn_xai.pyg.algorithm({self.algorithm!r})"

    def supports(self) -> bool:
        """Whether the algorithm scores what the `Explainer` asks for; if not, the log says why."""
        try:
            self._fitted()
        except InputError as error:
            _log.error("%s", error)
            return False
        return True

    def _fitted(self) -> Algorithm:
        """The algorithm with the mask types of the `Explainer`.

        Raises:
            InputError: if it does not score these.
        """
        config = self.explainer_config
        asked = tuple(None if kind is None else kind.value for kind in (config.node_mask_type, config.edge_mask_type))
        fields = {"node_mask_type": asked[0], "edge_mask_type": asked[1]}
        if all(hasattr(self.algorithm, name) for name in fields):
            replace: Any = getattr(type(self.algorithm), "__replace__", dataclasses.replace)
            return replace(self.algorithm, **fields)
        scored = self._scored
        if scored != asked:
            raise InputError(
                f"{type(self.algorithm).__name__} scores node_mask_type={scored[0]!r}, edge_mask_type={scored[1]!r}, but "
                f"the Explainer asks for node_mask_type={asked[0]!r}, edge_mask_type={asked[1]!r}"
            )
        return self.algorithm

    @cached_property
    def _scored(self) -> tuple[str | None, str | None]:
        """What an algorithm without mask types to choose scores, seen on a graph of two nodes: its node and edge mask type.

        Raises:
            InputError: if it does not run there.
        """
        data = Data(x=torch.ones(2, 2), edge_index=torch.tensor([[0, 1], [1, 0]]))
        task = ModelConfig("regression", "node", "raw")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe = explain(SimpleConv(), data, self.algorithm, task=task, index=0, target=0, progress=False)
        return probe.node_mask_type, None if probe.edge_mask is None else "object"

    def forward(
        self,
        model: nn.Module,
        x: Tensor | dict[str, Tensor],
        edge_index: Tensor | dict[EdgeType, Tensor],
        *,
        target: Tensor,
        index: int | Tensor | None = None,
        **kwargs: Any,
    ) -> PyGExplanation | HeteroExplanation:
        """Explain what `index` selects; see `algorithm`.

        Raises:
            InputError, MaskingError: as in `gnn_xai.explain`.
        """
        typed = isinstance(x, dict) and isinstance(edge_index, dict)
        adjacency = list(edge_index.values()) if isinstance(edge_index, dict) else [edge_index]
        strided = all(isinstance(edges, Tensor) and edges.layout == torch.strided for edges in adjacency)
        if not strided or not (typed or isinstance(x, Tensor)):
            raise InputError(
                "expected x and edge_index as tensors, or for a heterogeneous graph as dictionaries of tensors, got "
                f"{type(x).__name__} and {type(edge_index).__name__}"
            )
        call = (TypedCall if typed else Call)(eager(model), x, edge_index, kwargs, self.model_config, self.options)
        method, rows = self._fitted(), rows_of(index, len(call.out)).to(call.out.device)
        targets, values = call.targets(target, rows)
        masks = None
        if len(targets) == 1 and (values is None or bool(close(values, call.out[rows]).all())):
            masks = call.alone(method, int(rows), int(targets))
        node, edge = masks or call.jointly(method, rows, targets, values)
        if not typed:
            return PyGExplanation(node_mask=node, edge_mask=edge)
        out = HeteroExplanation()
        for name, masks in (("node_mask", node), ("edge_mask", edge)):
            out.set_value_dict(name, masks)
        return out


# And back ############################################################################################################
