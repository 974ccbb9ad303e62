"""Explanations: columns of tensors, in the original ids of the data that was explained."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import Explanation as PyGExplanation
from torch_geometric.explain import HeteroExplanation
from torch_geometric.explain.config import ModelConfig

from gnn_xai.core.arrays.segments import owners
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.graphs.types import EdgeType
from gnn_xai.core.model.index import Index
from gnn_xai.core.model.pairs import readout_of
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import GnnXaiError, InputError, StorageError
from gnn_xai.optional import late
from gnn_xai.results import _by_type, files, tables
from gnn_xai.results._by_type import TypeNames
from gnn_xai.results._in_order import require_order
from gnn_xai.results._strength import strongest, summed_at_ends, undirected_once
from gnn_xai.results._to_pyg import to_pyg
from gnn_xai.results.columns import (
    COLUMNS,
    EXTRAS,
    LEVELS,
    ColumnLevel,
    ColumnTypes,
    join,
    level_of,
    positions,
    rows_dim,
    select,
)
from gnn_xai.results.counterfactuals import Counterfactual
from gnn_xai.results.tables import TableLevel

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Explanations:
    """Explanations of B instances, as concatenated tensors with pointers.

    Node and edge ids are those of the data that was explained; for graph-level tasks, `index` is the graph's position
    and ids are counted within that graph. `explanations.index.t()` is what `gnn_xai.explain` takes as `index` to explain
    the same instances again, at any level.

    Attributes:
        index: `[B]` explained node or graph; `[B, 2]` the two nodes of the explained pair.
        target: `[B]` class or output column explained.
        prediction: `[B, C]` the model's output on the full graph.
        prediction_masked: `[B, C]` its output under the explanation as a soft mask (|attribution| / max for
            attributions), messages multiplied.
        prediction_complement: `[B, C]` its output under one minus that mask.
        exact: `[B]` bool, the computation graph gives the same output as the full graph, to 1e-5; false where
            `max_neighbors` left out edges.
        hops: `[B]` radius of the computation graph in message-passing steps; -1 for the whole graph.
        node_ptr, node_id: `[B + 1]`, `[ΣN]` nodes that can reach the output.
        edge_ptr, edge_id: `[B + 1]`, `[ΣE]` edges that can carry a message to the output.
        edge_index: `[2, ΣE]` their end points.
        edge_mask: `[ΣE]`, or `None`.
        node_mask: `[ΣN, 1]` (`object`), `[ΣN, F]` (`attributes`), `[B, F]` (`common_attributes`), or `None`.
        node_mask_type: which of these.
        signed: scores are attributions, of any sign and scale (`True`), or masks in [0, 1] (`False`).
        removal: what a score is about, `message` or `structural`.
        algorithm: name and hyper-parameters.
        task: mode, level and return type of the model.
        seed: the same seed gives the same result.
        extras: more tensors by name: per edge (`edge_...`), per node (`node_...`), or per instance, such as
            `prediction_capped` `[B, C]`, the model's output on the edges that `max_neighbors` left.
        provenance: versions, layers and sizes; `provenance["features"]` says what node masks multiply: `x`, or embedded
            columns of x, where it holds codes.
        data: the data that was explained; `None` after loading.
        node_type, node_number: `[ΣN]` in a heterogeneous graph, the type of each node as a position in `types.node_types`,
            and its id within that type, while `node_id` and `edge_index` count through all types; else `None`.
        edge_type, edge_number: `[ΣE]` the same for edges and `types.edge_types`.
        types: the names of node types and relations.
        columns: scores of further attributes by name, such as `columns["edge_attr"]`, laid out as `node_mask`: a row for
            each node or edge in play, or each instance for attributes of graphs. What one node type or relation holds is
            called after both, `columns["paper.year"]` or `columns["user→rates→item.edge_attr"]`, and 0 for others; see
            `Explanation.column_dict`.
        column_types: what a row of each of these attributes belongs to (`node`, `edge`, `graph`), and its type of mask.
    """

    index: Tensor
    target: Tensor
    prediction: Tensor
    prediction_masked: Tensor
    prediction_complement: Tensor
    exact: Tensor
    hops: Tensor
    node_ptr: Tensor
    node_id: Tensor
    edge_ptr: Tensor
    edge_id: Tensor
    edge_index: Tensor
    edge_mask: Tensor | None
    node_mask: Tensor | None
    node_mask_type: NodeMaskType | None
    signed: bool
    removal: str
    algorithm: dict[str, Any]
    task: ModelConfig
    seed: int
    extras: dict[str, Tensor] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    data: Any = field(default=None, repr=False)
    node_type: Tensor | None = None
    node_number: Tensor | None = None
    edge_type: Tensor | None = None
    edge_number: Tensor | None = None
    types: TypeNames | None = None
    columns: dict[str, Tensor] = field(default_factory=dict)
    column_types: ColumnTypes = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        masks = [f"edge_mask=[{len(self.edge_mask)}]"] if self.edge_mask is not None else []
        masks += [f"node_mask={list(self.node_mask.shape)}"] if self.node_mask is not None else []
        masks += [f"{name}={list(scores.shape)}" for name, scores in self.columns.items()]
        level = self.task.task_level.value
        return f"Explanations({len(self)} {level}-level, {self.algorithm['name']}, {', '.join(masks)})"

    @overload
    def __getitem__(self, i: int) -> Explanation: ...
    @overload
    def __getitem__(self, i: slice | list[int] | Tensor) -> Explanations: ...

    def __getitem__(self, i: int | slice | list[int] | Tensor) -> Explanation | Explanations:
        """One explanation by position, or several as `Explanations`."""
        at = positions(i, len(self))
        if isinstance(at, int):
            return Explanation(self, at)
        return self._with(select(self.tensors(), at.to(self.index.device), self.level))

    def __iter__(self) -> Iterator[Explanation]:
        return (Explanation(self, position) for position in range(len(self)))

    @cached_property
    def one_sided(self) -> bool:
        """No score of any instance is below 0: masks, absolute gradients."""
        masks = self.edge_mask, self.node_mask, *self.columns.values()
        return not any(mask is not None and bool((mask < 0).any()) for mask in masks)

    @property
    def node_owner(self) -> Tensor:
        """The instance of each node, `[ΣN]`."""
        return owners(self.node_ptr)

    @property
    def edge_owner(self) -> Tensor:
        """The instance of each edge, `[ΣE]`."""
        return owners(self.edge_ptr)

    @cached_property
    def node_scores(self) -> Tensor | None:
        """One score per node, `[ΣN]`: its mask, or the sum over its features; without a mask per node, the sum of the
        scores of the edges at it, each undirected edge once. `None` without either.
        """
        if self.node_mask is not None and not self.common:
            return self.node_mask.sum(1)
        if self.edge_mask is None:
            return None
        if len(self.edge_id) == 0:
            return self.edge_mask.new_zeros(len(self.node_id))
        span = int(self.node_id.max()) + 1  # instance and id together identify a node
        ends = self.edge_owner * span + self.edge_index
        return summed_at_ends(self.node_owner * span + self.node_id, ends, self.edge_mask)

    @property
    def explained_type(self) -> str | EdgeType | None:
        """The type of the explained nodes of a heterogeneous graph, or the relation of the explained pairs; else `None`."""
        return None if self.types is None else self.types.explained

    @property
    def common(self) -> bool:
        """One mask of features is shared by all nodes of an instance."""
        return self.node_mask_type == "common_attributes"

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, as in a file: those that are not `None`, then extras as `extras.name` and scored attributes
        as `columns.name`.
        """
        own = {name: value for name in LEVELS if (value := getattr(self, name)) is not None}
        own |= {f"{EXTRAS}{name}": value for name, value in self.extras.items()}
        return own | {f"{COLUMNS}{name}": value for name, value in self.columns.items()}

    def level(self, name: str) -> ColumnLevel:
        """What one of `tensors` has a row for: `instance`, `node` or `edge`, or the `pointer` to these."""
        return level_of(name, self.common, self.column_types)

    def _with(self, columns: dict[str, Tensor]) -> Explanations:
        """The same explanations with other tensors."""
        return replace(self, **_fields(columns))

    def to(self, device: str | torch.device) -> Explanations:
        """The same explanations with all tensors on `device`."""
        return self._with({name: value.to(device) for name, value in self.tensors().items()})

    def about(self) -> dict[str, Any]:
        """Everything but the tensors and the data: algorithm, task, seed, what scores mean, provenance; ready for JSON."""
        return {
            "algorithm": self.algorithm,
            "task": [self.task.mode.value, self.task.task_level.value, self.task.return_type.value],
            "seed": self.seed,
            "signed": self.signed,
            "removal": self.removal,
            "node_mask_type": self.node_mask_type,
            "provenance": self.provenance,
            **({} if self.types is None else {"types": self.types.written()}),
            **({"columns": {name: list(of) for name, of in self.column_types.items()}} if self.column_types else {}),
        }

    # Other forms #####################################################################################################

    def to_pyg(self, i: int, data: Data | Any = None) -> PyGExplanation | HeteroExplanation:
        """Explanation `i` as PyG's own `Explanation`, or `HeteroExplanation`: masks as long as the full graph, 0 outside the
        computation graph.

        Args:
            i: position.
            data: the data that was explained; not needed as long as this object was not loaded from disk.

        Raises:
            InputError: without data, or if it is not the data that was explained.
        """
        data = self.data if data is None else data
        if data is None:
            raise InputError("expected data= for explanations loaded from disk; pass the data that was explained")
        return to_pyg(self[i], data) if self.types is None else _by_type.to_pyg(self[i], data)

    @classmethod
    def from_pyg(
        cls,
        explanations: PyGExplanation | HeteroExplanation | Sequence[PyGExplanation | HeteroExplanation],
        model: nn.Module | Prepared,
        data: Any = None,
        *,
        task: Literal["node", "edge", "graph"] | ModelConfig | None = None,
        node_type: str | None = None,
        edge_type: EdgeType | None = None,
        index: Index = None,
        target: int | Sequence[int] | Tensor | None = None,
        forward: Forward | None = None,
        name: str = "pyg",
        signed: bool | None = None,
    ) -> Explanations:
        """Results of PyG's algorithms as masks on computation graphs, to be measured and drawn here.

        One mask for several outputs (`index` a tensor or `None`) becomes one instance for each of them, with the same mask
        on its own computation graph; scores of elements that cannot reach the output are dropped. Every directed edge keeps
        its own value; where both directions of all edges have the same, they count as one, as in `gnn_xai.explain`
        (`provenance["undirected"]`).

        Args:
            explanations: one explanation by `torch_geometric.explain`, or several with the same kinds of masks; also what
                `to_pyg` gives.
            model, data, forward: as in `gnn_xai.explain`, or a prepared problem and no data. For several graphs an
                explanation may be of all of them together, or of one of them alone.
            task: as in `gnn_xai.explain`; by default what the `Explainer` noted.
            node_type, edge_type: as in `gnn_xai.explain`; by default what the explanations note, or the type with as many
                nodes as the prediction has rows.
            index: which output each explanation is of; by default what the `Explainer` noted, and for explanations of one
                of several graphs their order.
            target: as in `gnn_xai.explain`; by default the class that the explanations note.
            name: of the algorithm.
            signed: scores are attributions (`True`) or masks in [0, 1] (`False`); by default, attributions if any lies
                outside [0, 1].

        Raises:
            InputError: if an explanation is not of this data or this model, or holds no mask.

        >>> from torch_geometric.explain import Explainer, GNNExplainer
        >>> import gnn_xai as gx
        >>> karate = gx.datasets.load("karate")
        >>> explainer = Explainer(
        ...     karate.model,
        ...     GNNExplainer(epochs=20),
        ...     explanation_type="model",
        ...     edge_mask_type="object",
        ...     model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
        ... )
        >>> of_pyg = [explainer(karate.data.x, karate.data.edge_index, index=node) for node in (0, 16)]
        >>> gx.Explanations.from_pyg(of_pyg, karate.model, karate.data, name="PyG's GNNExplainer")
        Explanations(2 node-level, PyG's GNNExplainer, edge_mask=[...])
        """
        return late("gnn_xai.pyg").read(
            explanations,
            model,
            data,
            task=task,
            node_type=node_type,
            edge_type=edge_type,
            index=index,
            target=target,
            forward=forward,
            name=name,
            signed=signed,
        )

    def to_pandas(self, level: TableLevel = "instance") -> DataFrame:
        """A tidy table with pandas: one row for each instance, edge, node or feature.

        Every row has the `position` of its explanation here, and its `index` and `target`. Then, by level:

        - `instance`: `prediction_0`, ... for each output column, the same for `prediction_masked` and
          `prediction_complement`, `exact`, `hops`, `num_nodes`, `num_edges`, and what `extras` hold per instance.
        - `edge`: `edge_id`, `source`, `destination`, `score`, and what `extras` hold per edge.
        - `node`: `node_id`, `score`, see `node_scores`.
        - `feature`: `node_id` (unless one mask is shared by all nodes), `feature`, `score`.
        - `column`: `column` (the name of a further attribute), `element` (the id of the node or edge, within the type or
          relation that holds the attribute; -1 for what all of the instance shares), `feature`, `score`.

        `DataFrame.attrs["gnn_xai"]` holds algorithm, task, seed and provenance.

        Args:
            level: `"instance"`, `"edge"`, `"node"`, `"feature"` or `"column"`.

        Raises:
            InputError: for an unknown level, or one that the algorithm did not score.
            GnnXaiError: without pandas; `pip install 'gnn-xai[research]'` installs it.
        """
        return tables.table([(0, self)], level)

    def to_parquet(self, path: str | os.PathLike[str], level: TableLevel = "instance") -> Path:
        """Write the table of `to_pandas` to a Parquet file; the schema's metadata `gnn_xai` is its `attrs` as JSON.

        Raises:
            InputError: as `to_pandas`.
            GnnXaiError: without pyarrow; `pip install 'gnn-xai[research]'` installs it.
            StorageError: if the file cannot be written.
        """
        return tables.write_parquet(path, [(0, self)], level)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything but the data to one safetensors file, in one step: a file is whole, or missing.

        Raises:
            StorageError: if the file cannot be written.
        """
        return files.write(path, self.tensors(), self.about())


def _fields(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Tensors as arguments of `Explanations`: extras and scored attributes as dictionaries of their own."""
    apart = {
        prefix: {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for prefix in (EXTRAS, COLUMNS)
    }
    own = {name: value for name, value in tensors.items() if not name.startswith((EXTRAS, COLUMNS))}
    return {**own, "extras": apart[EXTRAS], "columns": apart[COLUMNS]}


def joined(parts: Sequence[Explanations]) -> Explanations:
    """The explanations of several parts of one run, in the order of the parts."""
    return parts[0] if len(parts) == 1 else parts[0]._with(join([part.tensors() for part in parts]))


def read(path: str | os.PathLike[str]) -> Explanations:
    """Read a file that `Explanations.save` wrote. Nothing is unpickled.

    Raises:
        StorageError: if the file is missing, is not safetensors, holds something else, or comes from a newer version.
    """
    columns, meta = files.read(path)
    try:
        about = {
            name: meta[name] for name in ("node_mask_type", "signed", "removal", "algorithm", "seed", "provenance")
        }
        masks = {"edge_mask": None, "node_mask": None}
        about["types"] = TypeNames.read(meta.get("types"))
        about["column_types"] = {name: (level, kind) for name, (level, kind) in meta.get("columns", {}).items()}
        require_order(columns, about, about["types"])
        return Explanations(**{**masks, **_fields(columns)}, task=ModelConfig(*meta["task"]), **about)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        state = "incomplete" if isinstance(error, KeyError) else "not in order"
        raise StorageError(f"cannot read {path} as explanations: it is {state} ({error}); {files.EXPECTED}") from error


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One explanation: a view into `Explanations`, with the same names less the leading dimension.

    Attributes:
        index: the explained node or graph, or the two nodes of the explained pair.
        target: the class or output column explained.
        prediction: `[C]` the model's output on the full graph.
        prediction_masked: `[C]` its output under the explanation as a soft mask.
        prediction_complement: `[C]` its output under one minus the explanation.
        exact: the computation graph gives the same output as the full graph.
        hops: radius of the computation graph; -1 for the whole graph.
        node_id: `[n]` nodes that can reach the output.
        edge_id: `[e]` edges that can carry a message to the output.
        edge_index: `[2, e]` end points of these edges in original node ids.
        edge_mask: `[e]` score of each edge, or `None`.
        node_mask: `[n, 1]`, `[n, F]`, or for `common_attributes` `[F]`; or `None`.
        node_type, node_number, edge_type, edge_number: `[n]`, `[e]` as in `Explanations`; `None` for homogeneous data.
    """

    source: Explanations
    position: int
    index: Any = field(init=False)
    target: int = field(init=False)
    prediction: Tensor = field(init=False)
    prediction_masked: Tensor = field(init=False)
    prediction_complement: Tensor = field(init=False)
    exact: bool = field(init=False)
    hops: int = field(init=False)
    node_id: Tensor = field(init=False)
    edge_id: Tensor = field(init=False)
    edge_index: Tensor = field(init=False)
    edge_mask: Tensor | None = field(init=False)
    node_mask: Tensor | None = field(init=False)
    node_type: Tensor = field(init=False)
    node_number: Tensor = field(init=False)
    edge_type: Tensor = field(init=False)
    edge_number: Tensor = field(init=False)

    if not TYPE_CHECKING:  # types know the columns above and no others

        def __getattr__(self, name: str) -> Any:
            """The rows of a column that are of this instance; its only row without the leading dimension."""
            if LEVELS.get(name, "pointer") == "pointer":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            value = getattr(self.source, name)
            if value is None:
                return None
            if name == "index" and value.dim() > 1:
                return tuple(value[self.position].tolist())
            own = self._own(name, value)
            return own.item() if own.dim() == 0 else own

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name, level in LEVELS.items() if level != "pointer")]

    def __repr__(self) -> str:
        what = f"{self.name}, target {self.target}"
        size = f"{len(self.node_id)} nodes, {len(self.edge_id)} edges"
        return f"Explanation({what}, {self.source.algorithm['name']}, {size})"

    @property
    def name(self) -> str:
        """The instance in words: `node 301`, `graph 7`, `pair 3–5`."""
        return readout_of(self.source.task.task_level, self.source.explained_type).name(self.index)

    @property
    def roots(self) -> tuple[int, ...]:
        """The nodes that the output belongs to: the explained node, or both of a pair; none where it belongs to a graph."""
        if not readout_of(self.source.task.task_level).rooted:
            return ()
        return self.index if isinstance(self.index, tuple) else (self.index,)

    @property
    def signed(self) -> bool:
        """Scores are attributions of any sign (`True`), or masks in [0, 1]."""
        return self.source.signed

    @property
    def one_sided(self) -> bool:
        """No score of this run is below 0: masks, absolute gradients."""
        return self.source.one_sided

    @property
    def extras(self) -> dict[str, Tensor]:
        """Further tensors of this instance, by name."""
        return {name: self._own(f"{EXTRAS}{name}", value) for name, value in self.source.extras.items()}

    @property
    def columns(self) -> dict[str, Tensor]:
        """The scores of further attributes by name: `[n, 1]`, `[n, F]` or `[F]` as `node_mask`, with a row for each edge
        where the attribute is one of edges; `[1]` or `[F]` for one of graphs.
        """
        return {name: self._own(f"{COLUMNS}{name}", value) for name, value in self.source.columns.items()}

    def _own(self, name: str, value: Tensor) -> Tensor:
        """What of a column is of this instance: its row, or those of its nodes or edges."""
        level = self.source.level(name)
        if level == "instance":
            return value[self.position]
        start, stop = getattr(self.source, f"{level}_ptr")[self.position : self.position + 2].tolist()
        return value.narrow(rows_dim(name), start, stop - start)

    @property
    def counterfactual(self) -> Counterfactual:
        """The edits under which the model says something else, where the algorithm looked for such.

        Raises:
            InputError: if it did not.
        """
        return Counterfactual(self)

    @property
    def node_scores(self) -> Tensor | None:
        """One score per node, `[n]`: its mask, or the sum over its features; without a mask per node, the sum of the
        scores of the edges at it, each undirected edge once. `None` without either.
        """
        return self.source[[self.position]].node_scores

    @property
    def node_mask_dict(self) -> dict[str, Tensor]:
        """The node mask of a heterogeneous graph by node type, over all nodes of each type in their own ids and with their
        own features: `[n, F]`, `[n, 1]` or `[1, F]`; 0 where nothing can reach.
        """
        return _by_type.node_masks(self)

    @property
    def edge_mask_dict(self) -> dict[EdgeType, Tensor]:
        """The edge mask of a heterogeneous graph by relation, `[e]` over all edges of each; 0 where nothing can reach."""
        return _by_type.edge_masks(self)

    @property
    def column_dict(self) -> dict[Any, dict[str, Tensor]]:
        """The scores of further attributes of a heterogeneous graph by type or relation, and name: `[n, F]` or `[n, 1]` over
        all nodes or edges of each in their own ids, `[1, F]` for one mask of all; 0 where nothing can reach.
        """
        return _by_type.column_masks(self)

    def top_edges(self, k: int = 10) -> list[tuple[Any, Any, float]]:
        """The k strongest edges `(u, v, score)`, by absolute value; the two directions of an undirected edge count once.
        In a heterogeneous graph `(relation, (u, v), score)`, with ids of the relation's own node types.

        Raises:
            InputError: if the algorithm scored no edges.
        """
        if self.edge_mask is None:
            raise InputError(f"{self.source.algorithm['name']} scored no edges; use {self._scored}")
        keep = undirected_once(self.edge_index, self.edge_mask)
        scores = self.edge_mask[keep]
        order = strongest(scores, k)
        best, values = keep[order], scores[order].tolist()
        ends = self.edge_index[:, best].tolist()
        if self.source.types is None:
            return list(zip(*ends, values, strict=True))
        numbers = dict(zip(self.node_id.tolist(), self.node_number.tolist(), strict=True))
        relations = [self.source.types.edge_types[kind] for kind in self.edge_type[best].tolist()]
        return [
            (relation, (numbers[u], numbers[v]), value)
            for relation, u, v, value in zip(relations, *ends, values, strict=True)
        ]

    def top_nodes(self, k: int = 10) -> list[tuple[Any, float]]:
        """The k strongest nodes `(node, score)`, by absolute value of `node_scores`; in a heterogeneous graph
        `((node type, id), score)`.

        Raises:
            InputError: if the algorithm scored neither nodes nor edges.
        """
        scores = self.node_scores
        if scores is None:
            raise InputError(f"{self.source.algorithm['name']} scored neither nodes nor edges; use {self._scored}")
        order, nodes = strongest(scores, k), self.nodes
        return list(zip((nodes[at] for at in order.tolist()), scores[order].tolist(), strict=True))

    @property
    def nodes(self) -> list[Any]:
        """The id of each node; in a heterogeneous graph `(node type, id)`."""
        if self.source.types is None:
            return self.node_id.tolist()
        kinds = [self.source.types.node_types[kind] for kind in self.node_type.tolist()]
        return list(zip(kinds, self.node_number.tolist(), strict=True))

    def top_features(self, k: int = 10) -> list[tuple[Any, float]]:
        """The k strongest features `(feature, score)`, by absolute value; summed over nodes for `attributes`. In a
        heterogeneous graph `((node type, feature), score)`.

        Raises:
            InputError: if the algorithm scored no features.
        """
        mask = self.node_mask
        if mask is None or self.source.node_mask_type == "object":
            raise InputError(
                f"{self.source.algorithm['name']} scored no features; use {self._scored}, or an algorithm that does: "
                "FeatureAblation, or one with node_mask_type='attributes' or 'common_attributes'"
            )
        scores = mask if mask.dim() == 1 else mask.sum(0)
        order = strongest(scores, k)
        features: list[Any] = list(range(len(scores)))
        if self.source.types is not None:
            features = self.source.types.features()
        return list(zip((features[at] for at in order.tolist()), scores[order].tolist(), strict=True))

    def top_columns(self, k: int = 10) -> list[tuple[str, int, float]]:
        """The k strongest features of further attributes `(attribute, feature, score)`, by absolute value; summed over
        nodes, or over edges, of which the two directions of an undirected one count once where they share scores. The score
        of whole rows (`object`) is that of feature 0.

        Raises:
            InputError: if the algorithm scored no further attributes.
        """
        if not self.columns:
            raise InputError(
                f"{self.source.algorithm['name']} scored no attributes beside x; use an algorithm with columns=, such as "
                "Saliency(columns='edge_attr')"
            )
        totals = {name: self._column_total(name, scores) for name, scores in self.columns.items()}
        names = [(name, feature) for name, total in totals.items() for feature in range(len(total))]
        scores = torch.cat(list(totals.values()))
        return [(*names[at], float(scores[at])) for at in strongest(scores, k).tolist()]

    @property
    def _scored(self) -> str:
        """The methods that list what was scored."""
        scored = {
            "top_edges": self.edge_mask is not None,
            "top_nodes": self.node_scores is not None,
            "top_features": self.node_mask is not None and self.source.node_mask_type != "object",
            "top_columns": bool(self.columns),
        }
        return " or ".join(name for name, some in scored.items() if some)

    def _column_total(self, name: str, scores: Tensor) -> Tensor:
        """The scores of an attribute summed over its rows, `[F]`."""
        if scores.dim() == 1:
            return scores
        if self.source.column_types[name][0] == "edge" and self.source.provenance.get("undirected"):
            alike = torch.unique(scores, dim=0, return_inverse=True)[1]
            scores = scores[undirected_once(self.edge_index, alike)]
        return scores.sum(0)

    @property
    def atoms(self) -> DataFrame:
        """The atoms of a molecule as a table: index, symbol, atom map number, attribution; see `gnn_xai.molecules.atoms`."""
        return late("gnn_xai.molecules").atoms(self)

    @property
    def bonds(self) -> DataFrame:
        """Its bonds, both directed edges of each together; see `gnn_xai.molecules.bonds`."""
        return late("gnn_xai.molecules").bonds(self)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The computation graph in original ids; nodes and edges carry `score`, edges also their `id`. Nodes of a
        heterogeneous graph are `(node type, id)`, and its edges carry their `relation`.
        """
        import networkx as nx

        graph = nx.MultiDiGraph(index=self.index, target=self.target)
        node_scores, edge_mask, types = self.node_scores, self.edge_mask, self.source.types
        names = dict(zip(self.node_id.tolist(), self.nodes, strict=True))
        for position, name in enumerate(names.values()):
            graph.add_node(name, **({} if node_scores is None else {"score": float(node_scores[position])}))
        edge_id = self.edge_id if types is None else self.edge_number
        for position, (u, v) in enumerate(self.edge_index.t().tolist()):
            more = {} if edge_mask is None else {"score": float(edge_mask[position])}
            more |= {} if types is None else {"relation": types.edge_types[int(self.edge_type[position])]}
            graph.add_edge(names[u], names[v], id=int(edge_id[position]), **more)
        return graph

    def draw(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the computation graph; see `gnn_xai.viz.draw` for the options. Returns the axes, never shows them."""
        return late("gnn_xai.viz").draw(self, ax=ax, **options)

    def _repr_html_(self) -> str | None:
        """The structural formula of a molecule for notebooks; `None`, and so the text, for other graphs."""
        try:
            return late("gnn_xai.molecules").draw(self).svg
        except GnnXaiError:
            return None
