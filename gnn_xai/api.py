"""The one verb."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Any, Literal, TypeVar, overload

import torch
import torch_geometric
from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig, ModelTaskLevel
from tqdm.auto import tqdm

from gnn_xai._checks import integer
from gnn_xai._version import __version__
from gnn_xai.algorithms.base import Algorithm, Attributing, describe, get, masks_edges, removal
from gnn_xai.core.arrays.batches import batches
from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.engines.prepare import PIECE, Chunk, Pipeline, outputs
from gnn_xai.core.engines.scores import Scores, soft
from gnn_xai.core.graphs.source import Graphs, Shelf, as_graphs
from gnn_xai.core.model.arguments import as_index, as_target, as_task, bind, eager
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError
from gnn_xai.results.checksums import Digest, checksum, described
from gnn_xai.results.explanations import Explanations, joined
from gnn_xai.results.runs import BLOCK, StoredExplanations, writing
from gnn_xai.watch.callbacks import Callback, Callbacks, Run, as_callbacks

_log = logging.getLogger("gnn_xai")
T = TypeVar("T", Explanations, StoredExplanations)


@overload
def explain(
    model: nn.Module,
    data: Any,
    algorithm: str | Attributing = ...,
    *,
    task: Literal["node", "graph"] | ModelConfig | None = ...,
    index: int | Sequence[int] | Tensor | slice | range | None = ...,
    target: int | Sequence[int] | Tensor | None = ...,
    forward: Forward | None = ...,
    seed: int = ...,
    undirected: bool | Literal["auto"] = ...,
    max_neighbors: int | None = ...,
    batch_budget: int | Literal["auto"] = ...,
    progress: bool = ...,
    out: None = ...,
    callback: Callback | Sequence[Callback] | None = ...,
) -> Explanations: ...
@overload
def explain(
    model: nn.Module,
    data: Any,
    algorithm: str | Attributing = ...,
    *,
    task: Literal["node", "graph"] | ModelConfig | None = ...,
    index: int | Sequence[int] | Tensor | slice | range | None = ...,
    target: int | Sequence[int] | Tensor | None = ...,
    forward: Forward | None = ...,
    seed: int = ...,
    undirected: bool | Literal["auto"] = ...,
    max_neighbors: int | None = ...,
    batch_budget: int | Literal["auto"] = ...,
    progress: bool = ...,
    out: str | PathLike[str],
    callback: Callback | Sequence[Callback] | None = ...,
) -> StoredExplanations: ...


def explain(
    model: nn.Module,
    data: Any,
    algorithm: str | Attributing = "gnn_explainer",
    *,
    task: Literal["node", "graph"] | ModelConfig | None = None,
    index: int | Sequence[int] | Tensor | slice | range | None = None,
    target: int | Sequence[int] | Tensor | None = None,
    forward: Forward | None = None,
    seed: int = 0,
    undirected: bool | Literal["auto"] = "auto",
    max_neighbors: int | None = None,
    batch_budget: int | Literal["auto"] = "auto",
    progress: bool = True,
    out: str | PathLike[str] | None = None,
    callback: Callback | Sequence[Callback] | None = None,
) -> Explanations | StoredExplanations:
    """Explain predictions of a model, all of them as one batch; each as if it had been explained alone.

    Args:
        model: any module built on PyG's message-passing layers, trained. It is run in evaluation mode and comes back bit
            for bit as it was.
        data: a `Data`, or a `Batch`, list or `Dataset` of `Data`.
        algorithm: an algorithm such as `GNNExplainer(epochs=200)`, or its name.
        task: `"node"` or `"graph"` for a multiclass model that returns logits (or log-probabilities, which give the same
            answer); a PyG `ModelConfig` for probabilities, binary and multi-label classification and regression. `None`:
            node level for a `Data`, graph level for several.
        index: which nodes or graphs to explain; `None` for all.
        target: the class (or output column) to explain, one for all or one for each; `None` for the predicted class, or
            the label with the highest score.
        forward: `(model, data) -> output` where the model's arguments cannot be bound by name from the data.
        seed: what random numbers are keyed by.
        undirected: `"auto"` gives the two directions of an edge one score in graphs where every edge has its reverse;
            `True` asks for this and refuses a directed graph; `False` scores directions separately.
        max_neighbors: for node-level tasks on graphs with hubs: follow at most this many of the edges into a node, drawn by
            `seed`; `None` for all of them. What is left out is not there for the explanation: a sum, mean, maximum or
            attention runs over the edges that were kept. Degrees that a layer normalises by are those of the full graph
            where `provenance["layers"]` says `fused`, and else those of the edges kept. `exact` is false for an instance
            that lost an edge, and `extras["prediction_capped"]` is what the model says without them; `prediction` is
            still that of the full graph.
        batch_budget: how many nodes and edges to work on at once; `"auto"` measures what fits.
        progress: show a progress bar.
        out: a folder to write to while explaining. What is finished is kept however the process ends, and the same call
            goes on from there. Memory does not grow with the number of explanations.
        callback: who is told what happens, one or several, such as `gnn_xai.Trace()`.

    Returns:
        Explanations in the order of `index`; with `out`, `StoredExplanations`, which read them from there.

    Raises:
        InputError: if an argument, the data or the model's output is not what was expected.
        MaskingError: if a mask cannot reach the model's layers.
        StorageError: if `out` holds something else, or a run of another model, data, seed or setting, or cannot be written.
    """
    method = get(algorithm)
    if not isinstance(model, nn.Module):
        raise InputError(f"expected model as a torch.nn.Module, got {type(model).__name__}")
    integer(seed, "seed")
    if torch.is_inference_mode_enabled():
        raise InputError(
            "expected gradients to be possible, but torch.inference_mode() is on; call explain outside of it, or use "
            "torch.no_grad() instead"
        )
    model = eager(model)
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    told = as_callbacks(callback)
    call = _Call(model, method, as_task(task, data), forward, seed, undirected, max_neighbors, batch_budget, told)
    with untouched(model), torch.enable_grad():
        if out is not None:
            return _stored(call, data, device, index, target, progress, out)
        graphs = as_graphs(data, device)
        problem = call.problem(graphs)
        positions = as_index(index, problem.num_outputs, device)
        targets = _targets(target, positions)
        call.starts(data, positions)
        with _Progress(method.name, len(positions), progress) as shown:
            return call.finished(joined([part for _, part in call.answers(problem, positions, targets, shown)]))


@dataclass(frozen=True, eq=False)
class _Call:
    """What is asked of every instance, whichever it is."""

    model: nn.Module
    method: Algorithm
    task: ModelConfig
    forward: Forward | None
    seed: int
    undirected: bool | Literal["auto"]
    max_neighbors: int | None
    batch_budget: int | Literal["auto"]
    callbacks: Callbacks | None = None

    def starts(self, data: Any, index: Tensor) -> None:
        """Tell callbacks what is asked, of `[B]` instances."""
        if self.callbacks is not None:
            described = describe(self.method)
            self.callbacks.start(Run(self.model, data, self.task, self.forward, index, described, self.seed))

    def finished(self, found: T) -> T:
        """The same explanations, once callbacks have seen them."""
        if self.callbacks is not None:
            self.callbacks.finish(found)
        return found

    def problem(self, graphs: Graphs) -> Problem:
        """The model's problem on some graphs."""
        return Problem(self.model, graphs, self.task, bind(self.model, graphs, self.forward))

    def answers(
        self,
        problem: Problem,
        index: Tensor,
        targets: Tensor | None,
        progress: _Progress,
        budget: int | None = None,
        limit: int = PIECE,
        done: Container[range] = (),
        start: int = 0,
    ) -> Iterator[tuple[int, Explanations]]:
        """The explanations of some instances, piece by piece, each with the position of its first.

        Args:
            problem: model, data, task.
            index, targets: `[B]`.
            progress: what is told how far this is.
            budget: in place of `batch_budget`.
            limit, done: how large pieces are, and which are left out, see `Pipeline.pieces`.
            start: position of the first of these instances within all that were asked for.
        """
        method = self.method
        pipeline = Pipeline.start(
            problem,
            index,
            self.seed,
            as_undirected(self.undirected, problem.graphs),
            self.batch_budget if budget is None else budget,
            masks_edges(method),
            removal(method) == "structural",
            self.max_neighbors,
        )
        for layer in pipeline.layers:
            _log.info("%s: %s%s", layer["layer"], layer["path"], f" ({layer['why']})" if "why" in layer else "")
        for piece in pipeline.pieces(limit, done):
            here = None if targets is None else targets[piece.positions]
            chosen = as_target(here, piece.prediction, problem)
            pipeline.session.advance = progress.through(len(piece.positions))
            if self.callbacks is not None:
                self.callbacks.positions = start + piece.positions
                pipeline.session.observer = self.callbacks
            masks = method.attribute(pipeline.session, piece.graphs, chosen, piece.prediction)
            if pipeline.cap is not None:
                masks.extras["prediction_capped"] = outputs(pipeline.session, piece.graphs)
            faithful = pipeline.faithful(piece.graphs, soft(masks, piece.graphs, method.signed))
            yield int(piece.positions[0]), _explanations(piece, masks, chosen, faithful, method, pipeline)
            progress.passed(len(piece.positions))


def _stored(
    call: _Call, data: Any, device: torch.device, index: Any, target: Any, progress: bool, out: str | PathLike[str]
) -> StoredExplanations:
    """Explain into a folder, block by block of the data and shard by shard, leaving out what is there."""
    node_level = call.task.task_level == ModelTaskLevel.node
    shelf = Shelf(data, device, whole=node_level)
    content, sizes, num_nodes = Digest(), [], 0
    for graphs in shelf.parts():
        content.add(graphs.content())
        sizes.append(graphs.node_ptr.diff() + graphs.edge_ptr.diff())
        num_nodes += graphs.num_nodes
    positions = as_index(index, num_nodes if node_level else len(shelf), device)
    targets = _targets(target, positions)
    settings = {name: getattr(call, name) for name in ("seed", "undirected", "max_neighbors", "batch_budget")}
    asked = described(
        call.model,
        call.forward,
        str(content),
        positions,
        targets,
        algorithm={**describe(call.method), "code": checksum(type(call.method).attribute)},
        task=[call.task.mode.value, call.task.task_level.value, call.task.return_type.value],
        **settings,
    )
    call.starts(data, positions)
    blocks = [torch.arange(len(positions))] if node_level else batches(torch.cat(sizes)[positions], BLOCK)
    with (
        writing(out, asked, len(positions), device) as run,
        _Progress(call.method.name, len(positions), progress, run.manifest["done"]) as shown,
    ):
        for block in blocks:
            start, done = int(block[0]), run.done_within(int(block[0]), len(block))
            if sum(map(len, done)) == len(block):
                continue
            known, local = (None, positions) if node_level else positions[block].unique(return_inverse=True)
            problem = call.problem(shelf.take(known))
            here = None if targets is None else targets[block]
            for first, part in call.answers(
                problem, local, here, shown, run.budget, run.manifest["shard_size"], done, start
            ):
                run.add(start + first, part if known is None else replace(part, index=known[part.index]))
    return call.finished(StoredExplanations(out, data))


def _targets(target: Any, index: Tensor) -> Tensor | None:
    """One target for each instance, `[B]`, or `None`; values are checked where the output is known."""
    if target is None:
        return None
    try:
        target = torch.as_tensor(target, device=index.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"expected target as one class or one per instance, got {target!r}") from error
    if target.dim() == 0:
        target = target.expand(len(index))
    if target.shape != (len(index),):
        raise InputError(f"expected one target, or one per instance ({len(index)}), got shape {list(target.shape)}")
    return target


def as_undirected(undirected: Any, graphs: Graphs) -> bool:
    """Whether the two directions of an edge share a score, where every edge has its reverse.

    Raises:
        InputError: if it is neither a bool nor `"auto"`, or true for a directed graph.
    """
    if undirected not in (True, False, "auto"):
        raise InputError(f"expected undirected=True, False or 'auto', got {undirected!r}")
    if undirected is True and bool((graphs.reverse < 0).any()):
        lonely = int((graphs.reverse < 0).nonzero()[0])
        u, v = graphs.edge_index[:, lonely].tolist()
        raise InputError(
            f"undirected=True, but the graph of edge {lonely} ({u}→{v}) has edges without a reverse; use "
            "torch_geometric.transforms.ToUndirected, or undirected='auto'"
        )
    return undirected is not False


class _Progress:
    """A progress bar over all instances, which moves through a piece of them by shares of its work."""

    def __init__(self, what: str, total: int, shown: bool, done: int = 0) -> None:
        self.done = done
        self._options = {"desc": what, "total": total, "initial": done, "unit": "explanation", "disable": not shown}

    @cached_property
    def bar(self) -> tqdm:
        """The bar, which appears when the work begins."""
        return tqdm(**self._options)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def through(self, size: int) -> Callable[[float], None]:
        """What is called with shares of the work on the next `size` instances."""
        share = 0.0

        def advance(more: float) -> None:
            nonlocal share
            share += more
            self.bar.update(self.done + int(size * min(share, 1.0) + 1e-6) - self.bar.n)

        return advance

    def passed(self, size: int) -> None:
        """The next `size` instances are done."""
        self.done += size
        self.bar.update(self.done - self.bar.n)


def _explanations(
    piece: Chunk,
    masks: Scores,
    target: Tensor,
    faithful: tuple[Tensor, Tensor],
    algorithm: Algorithm,
    pipeline: Pipeline,
) -> Explanations:
    """The answer for a piece: what is in play, in original ids."""
    session, graphs = pipeline.session, piece.graphs
    source, size = graphs.graphs, len(graphs)
    node_kept, edge_kept = graphs.node_in_play, graphs.edge_in_play
    node_id, edge_id = graphs.node[node_kept], graphs.edge[edge_kept]
    edge_index = source.edge_index[:, edge_id]
    if graphs.root is None:  # ids within each graph
        edge_index = edge_index - source.node_ptr[source.edge_batch[edge_id]]
        edge_id = edge_id - source.edge_ptr[source.edge_batch[edge_id]]
        node_id = node_id - source.node_ptr[source.batch[node_id]]
    common = masks.node_type == "common_attributes"
    by_level = {"edge": edge_kept, "node": slice(None) if common else node_kept}
    node = masks.node
    return Explanations(
        index=graphs.index,
        target=target,
        prediction=piece.prediction,
        prediction_masked=faithful[0],
        prediction_complement=faithful[1],
        exact=graphs.exact,
        hops=graphs.hops,
        node_ptr=pointers(torch.bincount(graphs.node_owner[node_kept], minlength=size)),
        node_id=node_id,
        edge_ptr=pointers(torch.bincount(graphs.edge_owner[edge_kept], minlength=size)),
        edge_id=edge_id,
        edge_index=edge_index,
        edge_mask=None if masks.edge is None else masks.edge[edge_kept],
        node_mask=None if node is None else node[by_level["node"]],
        node_mask_type=masks.node_type,
        signed=algorithm.signed,
        removal=removal(algorithm),
        algorithm=describe(algorithm),
        task=session.problem.task,
        seed=session.seed,
        extras={name: value[by_level.get(name.split("_")[0], slice(None))] for name, value in masks.extras.items()},
        provenance={
            "gnn_xai": __version__,
            "torch": torch.__version__,
            "torch_geometric": torch_geometric.__version__,
            "python": platform.python_version(),
            "device": str(source.device),
            "model": type(session.problem.model).__name__,
            "undirected": session.undirected,
            "symmetric": bool((source.reverse >= 0).all()),
            "layers": pipeline.layers,
            "features": pipeline.features,
            "max_neighbors": None if pipeline.cap is None else pipeline.cap.max_neighbors,
        },
        data=session.problem.graphs.source,
    )
