"""Explanations: columns of tensors, in the original ids of the data that was explained."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.explain import Explanation as PyGExplanation
from torch_geometric.explain.config import ModelConfig

from gnn_xai.core.arrays.segments import gather_segments, owners, pointers
from gnn_xai.core.engines.scores import NodeMaskType
from gnn_xai.core.graphs.matching import pair_directions
from gnn_xai.core.model.problem import Forward
from gnn_xai.errors import GnnXaiError, InputError, StorageError
from gnn_xai.results import tables
from gnn_xai.results.tables import Level, about

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from gnn_xai.results.runs import StoredExplanations

FORMAT_VERSION = 1
_EXPECTED = "expected a file by Explanations.save"


@dataclass(frozen=True, eq=False)
class Explanations:
    """Explanations of B instances, as concatenated tensors with pointers.

    Node and edge ids are those of the data that was explained; for graph-level tasks, `index` is the graph's position
    and ids are counted within that graph.

    Attributes:
        index: `[B]` explained node or graph.
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
        seed: what random numbers were keyed by.
        extras: more tensors by name: per edge (`edge_...`), per node (`node_...`), or per instance, such as
            `prediction_capped` `[B, C]`, the model's output on the edges that `max_neighbors` left.
        provenance: versions, layers and sizes, for the record; `provenance["features"]` says what node masks multiply: `x`,
            or embedded columns of x, where it holds codes.
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

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        masks = [f"edge_mask=[{len(self.edge_mask)}]"] if self.edge_mask is not None else []
        masks += [f"node_mask={list(self.node_mask.shape)}"] if self.node_mask is not None else []
        level = self.task.task_level.value
        return f"Explanations({len(self)} {level}-level, {self.algorithm['name']}, {', '.join(masks)})"

    @overload
    def __getitem__(self, i: int) -> Explanation: ...
    @overload
    def __getitem__(self, i: slice | list[int] | Tensor) -> Explanations: ...

    def __getitem__(self, i: int | slice | list[int] | Tensor) -> Explanation | Explanations:
        """One explanation by position, or several as `Explanations`."""
        if isinstance(i, (slice, list)) or (isinstance(i, Tensor) and i.dim() > 0):
            positions = torch.arange(len(self), device=self.index.device)
            return self._select(positions[i.to(positions.device) if isinstance(i, Tensor) else i])
        position = int(i)
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} is out of range for {len(self)} explanations")
        return Explanation(self, position % len(self))

    def __iter__(self) -> Iterator[Explanation]:
        return (Explanation(self, position) for position in range(len(self)))

    @cached_property
    def one_sided(self) -> bool:
        """No score of any instance is below 0: masks, absolute gradients."""
        return not any(mask is not None and bool((mask < 0).any()) for mask in (self.edge_mask, self.node_mask))

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
        scores of the edges at it, each undirected edge once. `None` where there is neither.
        """
        if self.node_mask is not None and self.node_mask_type != "common_attributes":
            return self.node_mask.sum(1)
        if self.edge_mask is None:
            return None
        scores = self.edge_mask.new_zeros(len(self.node_id))
        if len(self.edge_id) == 0:
            return scores
        span = int(self.node_id.max()) + 1
        nodes = self.node_owner * span + self.node_id
        ends = torch.searchsorted(nodes, self.edge_owner * span + self.edge_index)
        once = _each_undirected_once(ends, self.edge_mask)
        ends, values = ends[:, once], self.edge_mask[once]
        scores.index_add_(0, ends[0], values)
        return scores.index_add_(0, ends[1], torch.where(ends[0] == ends[1], 0, values))

    def _select(self, select: Tensor) -> Explanations:
        select = select.to(self.index.device)
        node, node_ptr = gather_segments(self.node_ptr, select)
        edge, edge_ptr = gather_segments(self.edge_ptr, select)
        by_level = {"edge": edge, "node": node}
        changed: dict[str, Any] = {
            name: getattr(self, name)[select]
            for name in ("index", "target", "prediction", "prediction_masked", "prediction_complement", "exact", "hops")
        }
        node_rows = select if self.node_mask_type == "common_attributes" else node
        changed |= {
            "node_ptr": node_ptr,
            "node_id": self.node_id[node],
            "edge_ptr": edge_ptr,
            "edge_id": self.edge_id[edge],
            "edge_index": self.edge_index[:, edge],
            "edge_mask": None if self.edge_mask is None else self.edge_mask[edge],
            "node_mask": None if self.node_mask is None else self.node_mask[node_rows],
        }
        extras = {}
        for name, value in self.extras.items():
            positions = by_level.get(name.split("_")[0], select)
            extras[name] = value[node_rows if positions is node else positions]
        return replace(self, **changed, extras=extras)

    def to(self, device: str | torch.device) -> Explanations:
        """The same explanations with all tensors on `device`."""
        moved = {f.name: v.to(device) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        return replace(self, **moved, extras={name: value.to(device) for name, value in self.extras.items()})

    # Other forms #####################################################################################################

    def to_pyg(self, i: int, data: Data | Any = None) -> PyGExplanation:
        """Explanation `i` as PyG's own `Explanation`: masks as long as the full graph, 0 outside the computation graph.

        Args:
            i: position.
            data: the data that was explained; not needed as long as this object was not loaded from disk.

        Raises:
            InputError: without data, or if it is not the data that was explained.
        """
        given: Any = self.data if data is None else data
        if given is None:
            raise InputError("expected data= for explanations loaded from disk; pass the data that was explained")
        e = self[i]
        graph: Any = given
        if self.task.task_level.value == "graph" and (isinstance(given, Batch) or not isinstance(given, Data)):
            count = given.num_graphs if isinstance(given, Batch) else len(given)
            graph = given[e.index] if e.index < count else Data(num_nodes=0)
        elif not isinstance(given, Data):
            graph = Batch.from_data_list(list(given))
        if not e._lies_in(graph):
            raise InputError(
                f"expected the data that was explained, got a graph of {graph.num_nodes} nodes and {graph.num_edges} edges "
                f"that does not contain the computation graph of {self.task.task_level.value} {e.index}"
            )
        out = PyGExplanation(**{key: graph[key] for key in list(graph.keys()) if key not in ("ptr", "batch")})
        num_nodes, num_edges = graph.num_nodes, graph.num_edges
        if e.edge_mask is not None:
            out.edge_mask = e.edge_mask.new_zeros(num_edges).index_copy(0, e.edge_id, e.edge_mask)
        if e.node_mask is not None:
            if self.node_mask_type == "common_attributes":
                out.node_mask = e.node_mask.unsqueeze(0)
            else:
                nothing = e.node_mask.new_zeros(num_nodes, e.node_mask.size(1))
                out.node_mask = nothing.index_copy(0, e.node_id, e.node_mask)
        out.prediction, out.target = e.prediction.unsqueeze(0), torch.tensor([e.target], device=e.prediction.device)
        if self.task.task_level.value == "node":
            out.index = e.index
        return out

    @classmethod
    def from_pyg(
        cls,
        explanations: PyGExplanation | Sequence[PyGExplanation],
        model: nn.Module,
        data: Any,
        *,
        task: Literal["node", "graph"] | ModelConfig | None = None,
        index: int | Sequence[int] | None = None,
        target: int | Sequence[int] | Tensor | None = None,
        forward: Forward | None = None,
        name: str = "pyg",
        signed: bool | None = None,
    ) -> Explanations:
        """Results of PyG's algorithms, to be measured and drawn here: their masks, laid on computation graphs.

        One mask for several outputs (`index` a tensor or `None`) becomes one instance for each of them, with the same mask
        on its own computation graph; what a mask says of elements that cannot reach the output is dropped. Every directed
        edge keeps its own value; where both directions of all edges have the same, they count as one, as in
        `gnn_xai.explain` (`provenance["undirected"]`).

        Args:
            explanations: one explanation of a homogeneous graph by `torch_geometric.explain`, or several with the same kinds
                of masks; also what `to_pyg` gives.
            model, data, forward: as in `gnn_xai.explain`. For several graphs an explanation may be of all of them together,
                or of one of them alone.
            task: as in `gnn_xai.explain`; by default what the `Explainer` noted.
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
        >>> found = [explainer(karate.data.x, karate.data.edge_index, index=node) for node in (0, 16)]
        >>> gx.Explanations.from_pyg(found, karate.model, karate.data, name="PyG's GNNExplainer")
        Explanations(2 node-level, PyG's GNNExplainer, edge_mask=[...])
        """
        from gnn_xai.pyg import read

        return read(
            explanations,
            model,
            data,
            task=task,
            index=index,
            target=target,
            forward=forward,
            name=name,
            signed=signed,
        )

    def content(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What a file of them holds: tensors on the CPU by name, and metadata."""
        tensors = {f"extras.{name}": value for name, value in self.extras.items()}
        tensors |= {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        meta = json.dumps({"format": FORMAT_VERSION, **about(self)})
        return tensors, {"gnn_xai": meta}

    def to_pandas(self, level: Level = "instance") -> DataFrame:
        """A tidy table with pandas: one row for each instance, edge, node or feature.

        Every row has the `position` of its explanation here, and its `index` and `target`. Then, by level:

        - `instance`: `prediction_0`, ... for each output column, the same for `prediction_masked` and
          `prediction_complement`, `exact`, `hops`, `num_nodes`, `num_edges`, and what `extras` hold per instance.
        - `edge`: `edge_id`, `source`, `destination`, `score`, and what `extras` hold per edge.
        - `node`: `node_id`, `score`, see `node_scores`.
        - `feature`: `node_id` (unless one mask is shared by all nodes), `feature`, `score`.

        `DataFrame.attrs["gnn_xai"]` holds algorithm, task, seed and provenance.

        Args:
            level: `"instance"`, `"edge"`, `"node"` or `"feature"`.

        Raises:
            InputError: for an unknown level, or one that the algorithm did not score.
            GnnXaiError: without pandas; `pip install 'gnn-xai[research]'` installs it.
        """
        return tables.table([(0, self)], level)

    def to_parquet(self, path: str | os.PathLike[str], level: Level = "instance") -> Path:
        """Write the table of `to_pandas` to a Parquet file; the schema's metadata `gnn_xai` is its `attrs` as JSON.

        Raises:
            InputError: as `to_pandas`.
            GnnXaiError: without pyarrow; `pip install 'gnn-xai[research]'` installs it.
            StorageError: if the file cannot be written.
        """
        return tables.write_parquet(path, [(0, self)], level)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything but the data to one safetensors file, in one step: a file is whole or not there.

        Raises:
            StorageError: if the file cannot be written.
        """
        path = Path(path)
        tensors, meta = self.content()
        part = None
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
                part = Path(handle.name)
            save_file(tensors, part, metadata=meta)
            part.chmod(0o666 & ~_umask())  # a temporary file is for its owner alone; the result follows the umask
            os.replace(part, path)
        except (OSError, SafetensorError) as error:
            if part is not None:
                part.unlink(missing_ok=True)
            why = getattr(error, "strerror", None) or error  # without the name of the temporary file
            raise StorageError(f"cannot write {path}: {why}; choose a folder that exists and is writable") from error
        return path


def joined(parts: Sequence[Explanations]) -> Explanations:
    """The explanations of one run that came in parts, in the order of the parts."""
    first = parts[0]
    if len(parts) == 1:
        return first
    columns: dict[str, Any] = {}
    for name in (f.name for f in fields(first) if isinstance(getattr(first, f.name), Tensor)):
        values = [getattr(part, name) for part in parts]
        if name.endswith("_ptr"):
            columns[name] = pointers(torch.cat([value.diff() for value in values]))
        else:
            columns[name] = torch.cat(values, dim=1 if name == "edge_index" else 0)
    extras = {name: torch.cat([part.extras[name] for part in parts]) for name in first.extras}
    return replace(first, **columns, extras=extras)


def _each_undirected_once(edge_index: Tensor, mask: Tensor) -> Tensor:
    """Positions of edges, leaving out the second direction of an undirected edge with the same score."""
    own = torch.arange(len(mask), device=mask.device)
    if len(own) == 0:
        return own
    same_score = torch.unique(mask, return_inverse=True)[1]
    partner = pair_directions(edge_index, int(edge_index.max()) + 1, same_score)
    second = (partner >= 0) & (partner < own) & (mask[partner] == mask)
    return own[~second]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load(path: str | os.PathLike[str]) -> Explanations | StoredExplanations:
    """Read explanations: a file that `Explanations.save` wrote, or a folder that `explain(..., out=folder)` wrote, whose
    shards are read when they are needed. Nothing is unpickled.

    Raises:
        StorageError: if the file is missing, is not safetensors, holds something else, or comes from a newer version.
    """
    if Path(path).is_dir():
        from gnn_xai.results.runs import StoredExplanations

        return StoredExplanations(path)
    return read(path)


def read(path: str | os.PathLike[str]) -> Explanations:
    """Read one file, see `load`."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("gnn_xai", "null"))
            if not isinstance(meta, dict):
                raise StorageError(f"{path} is safetensors but holds no explanations of this package")
            version = meta.get("format", 0)
            if version > FORMAT_VERSION:
                raise StorageError(
                    f"{path} has format {version}, this version reads up to {FORMAT_VERSION}; upgrade gnn_xai"
                )
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot read {path} as explanations: {error}; {_EXPECTED}") from error
    try:
        extras = {
            key.removeprefix("extras."): tensors.pop(key) for key in [k for k in tensors if k.startswith("extras.")]
        }
        return Explanations(
            **{"edge_mask": None, "node_mask": None, **tensors},
            node_mask_type=meta["node_mask_type"],
            signed=meta["signed"],
            removal=meta["removal"],
            algorithm=meta["algorithm"],
            task=ModelConfig(*meta["task"]),
            seed=meta["seed"],
            extras=extras,
            provenance=meta["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"cannot read {path} as explanations: it is incomplete ({error}); {_EXPECTED}") from error


@dataclass(frozen=True, eq=False)
class Explanation:
    """One explanation: a view into `Explanations`, with the same names less the leading dimension."""

    source: Explanations
    position: int

    def __repr__(self) -> str:
        what = f"{self.source.task.task_level.value} {self.index}, target {self.target}"
        size = f"{len(self.node_id)} nodes, {len(self.edge_id)} edges"
        return f"Explanation({what}, {self.source.algorithm['name']}, {size})"

    def _nodes(self) -> slice:
        return slice(int(self.source.node_ptr[self.position]), int(self.source.node_ptr[self.position + 1]))

    def _edges(self) -> slice:
        return slice(int(self.source.edge_ptr[self.position]), int(self.source.edge_ptr[self.position + 1]))

    @property
    def index(self) -> int:
        """The explained node or graph."""
        return int(self.source.index[self.position])

    @property
    def target(self) -> int:
        """The class or output column explained."""
        return int(self.source.target[self.position])

    @property
    def prediction(self) -> Tensor:
        """The model's output on the full graph, `[C]`."""
        return self.source.prediction[self.position]

    @property
    def prediction_masked(self) -> Tensor:
        """The model's output under the explanation as a soft mask, `[C]`."""
        return self.source.prediction_masked[self.position]

    @property
    def prediction_complement(self) -> Tensor:
        """The model's output under one minus the explanation, `[C]`."""
        return self.source.prediction_complement[self.position]

    @property
    def exact(self) -> bool:
        """The computation graph gives the same output as the full graph."""
        return bool(self.source.exact[self.position])

    @property
    def hops(self) -> int:
        """Radius of the computation graph; -1 for the whole graph."""
        return int(self.source.hops[self.position])

    @property
    def signed(self) -> bool:
        """Scores are attributions of any sign, or masks in [0, 1]."""
        return self.source.signed

    @property
    def one_sided(self) -> bool:
        """No score of this run is below 0: masks, absolute gradients."""
        return self.source.one_sided

    @property
    def node_id(self) -> Tensor:
        """Nodes that can reach the output, `[n]`."""
        return self.source.node_id[self._nodes()]

    @property
    def edge_id(self) -> Tensor:
        """Edges that can carry a message to the output, `[e]`."""
        return self.source.edge_id[self._edges()]

    @property
    def edge_index(self) -> Tensor:
        """End points of these edges in original node ids, `[2, e]`."""
        return self.source.edge_index[:, self._edges()]

    @property
    def edge_mask(self) -> Tensor | None:
        """Score of each edge, `[e]`."""
        return None if self.source.edge_mask is None else self.source.edge_mask[self._edges()]

    @property
    def node_mask(self) -> Tensor | None:
        """`[n, 1]`, `[n, F]`, or for `common_attributes` `[F]`."""
        mask = self.source.node_mask
        if mask is None:
            return None
        return mask[self.position] if self.source.node_mask_type == "common_attributes" else mask[self._nodes()]

    @property
    def extras(self) -> dict[str, Tensor]:
        """Further tensors of this instance, by name."""
        return {
            name: value[0] if not name.startswith(("edge_", "node_")) else value
            for name, value in self.source[[self.position]].extras.items()
        }

    @property
    def node_scores(self) -> Tensor | None:
        """One score per node, `[n]`: its mask, or the sum over its features; without a mask per node, the sum of the
        scores of the edges at it, each undirected edge once. `None` where there is neither.
        """
        return self.source[[self.position]].node_scores

    def _lies_in(self, graph: Data) -> bool:
        """Whether a graph has these nodes, and these edges under their ids."""
        nodes, edges = self.node_id, self.edge_id
        if len(nodes) and int(nodes.max()) >= (graph.num_nodes or 0):
            return False
        if len(edges) and int(edges.max()) >= graph.num_edges:
            return False
        if graph.edge_index is None:  # adj_t, whose edges have their ids by another order
            return True
        return torch.equal(graph.edge_index[:, edges.to(graph.edge_index.device)].to(edges.device), self.edge_index)

    def top_edges(self, k: int = 10) -> list[tuple[int, int, float]]:
        """The k strongest edges `(u, v, score)`, by absolute value; the two directions of an undirected edge count once.

        Raises:
            InputError: if the algorithm scored no edges.
        """
        if self.edge_mask is None:
            raise InputError(f"{self.source.algorithm['name']} scored no edges; use top_nodes or top_features")
        keep = _each_undirected_once(self.edge_index, self.edge_mask)
        scores = self.edge_mask[keep]
        order = torch.argsort(scores.abs(), descending=True, stable=True)[: max(k, 0)]
        return [
            (int(u), int(v), float(s))
            for u, v, s in zip(*self.edge_index[:, keep[order]].tolist(), scores[order].tolist(), strict=True)
        ]

    def top_nodes(self, k: int = 10) -> list[tuple[int, float]]:
        """The k strongest nodes `(node, score)`, by absolute value of `node_scores`.

        Raises:
            InputError: if the algorithm scored neither nodes nor edges.
        """
        scores = self.node_scores
        if scores is None:
            raise InputError(f"{self.source.algorithm['name']} scored neither nodes nor edges; use top_features")
        order = torch.argsort(scores.abs(), descending=True, stable=True)[: max(k, 0)]
        return list(zip(self.node_id[order].tolist(), scores[order].tolist(), strict=True))

    def top_features(self, k: int = 10) -> list[tuple[int, float]]:
        """The k strongest features `(feature, score)`, by absolute value; summed over nodes for `attributes`.

        Raises:
            InputError: if the algorithm scored no features.
        """
        mask = self.node_mask
        if mask is None or self.source.node_mask_type == "object":
            raise InputError(
                f"{self.source.algorithm['name']} scored no features; use an algorithm that does: FeatureAblation, or "
                "one with node_mask_type='attributes' or 'common_attributes'"
            )
        scores = mask if mask.dim() == 1 else mask.sum(0)
        order = torch.argsort(scores.abs(), descending=True, stable=True)[: max(k, 0)]
        return list(zip(order.tolist(), scores[order].tolist(), strict=True))

    @property
    def atoms(self) -> DataFrame:
        """The atoms of a molecule as a table: index, symbol, atom map number, attribution; see `gnn_xai.molecules.atoms`."""
        from gnn_xai.molecules import atoms

        return atoms(self)

    @property
    def bonds(self) -> DataFrame:
        """Its bonds, both directed edges of each together; see `gnn_xai.molecules.bonds`."""
        from gnn_xai.molecules import bonds

        return bonds(self)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The computation graph in original ids; nodes and edges carry `score`, edges also their `id`."""
        import networkx as nx

        graph = nx.MultiDiGraph(index=self.index, target=self.target)
        node_scores = self.node_scores
        for position, node in enumerate(self.node_id.tolist()):
            graph.add_node(node, **({} if node_scores is None else {"score": float(node_scores[position])}))
        edge_mask = self.edge_mask
        for position, (u, v) in enumerate(self.edge_index.t().tolist()):
            score = {} if edge_mask is None else {"score": float(edge_mask[position])}
            graph.add_edge(u, v, id=int(self.edge_id[position]), **score)
        return graph

    def draw(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the computation graph; see `gnn_xai.viz.draw` for the options. Returns the axes, never shows them."""
        from gnn_xai.viz import draw

        return draw(self, ax=ax, **options)

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the depiction of a molecule; nothing, and so the text, for any other graph."""
        from gnn_xai.molecules import draw

        try:
            return draw(self).svg
        except GnnXaiError:
            return None
