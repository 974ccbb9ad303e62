"""The one verb, `explain`, and `prepare`, which looks at a model once for many calls."""

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
from torch_geometric.explain.config import ModelConfig
from tqdm.auto import tqdm

from gnn_xai._checks import flag, integer
from gnn_xai._version import __version__
from gnn_xai.algorithms.base import Algorithm, Attributing, columns_of, describe, get, masks_edges, one_pass, removal
from gnn_xai.algorithms.checked import attributed
from gnn_xai.core.arrays.batches import batches, is_auto
from gnn_xai.core.arrays.segments import pointers
from gnn_xai.core.engines.handed_in import (
    as_targets,
    as_undirected,
    device_of,
    prepared_for,
    refuse_inference_mode,
    type_of,
)
from gnn_xai.core.engines.prepare import CHUNK, Chunk, Prepared, as_cap, refuse_what_was_prepared
from gnn_xai.core.engines.prepare import prepare as core_prepare
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.scores import Scores, faithful, soft
from gnn_xai.core.engines.scoring import scoring
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.graphs.reading import as_graphs
from gnn_xai.core.graphs.shelf import Shelf
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import EdgeType
from gnn_xai.core.model.arguments import as_target, as_task, eager, output_type, problem_of
from gnn_xai.core.model.index import Index
from gnn_xai.core.model.pairs import readout_of
from gnn_xai.core.model.problem import Forward, Problem
from gnn_xai.core.model.restoring import untouched
from gnn_xai.results._by_type import TypeNames, type_columns
from gnn_xai.results.checksums import Digest, checksum, described
from gnn_xai.results.explanations import Explanations, joined
from gnn_xai.results.runs import BLOCK, StoredExplanations, writing
from gnn_xai.watch.callbacks import Callback, Callbacks, Run, as_callbacks

_log = logging.getLogger("gnn_xai")
T = TypeVar("T", Explanations, StoredExplanations)


@overload
def explain(
    model: nn.Module | Prepared,
    data: Any = ...,
    algorithm: str | Attributing = ...,
    *,
    task: Literal["node", "edge", "graph"] | dict[str, Any] | ModelConfig | None = ...,
    node_type: str | None = ...,
    edge_type: tuple[str, str, str] | None = ...,
    index: Index = ...,
    target: int | Sequence[int] | Tensor | None = ...,
    forward: Forward | None = ...,
    seed: int = ...,
    undirected: bool | Literal["auto"] = ...,
    exclude_pair: bool = ...,
    max_neighbors: int | None = ...,
    batch_budget: int | Literal["auto"] = ...,
    progress: bool = ...,
    out: None = ...,
    callback: Callback | Sequence[Callback] | None = ...,
) -> Explanations: ...
@overload
def explain(
    model: nn.Module | Prepared,
    data: Any = ...,
    algorithm: str | Attributing = ...,
    *,
    task: Literal["node", "edge", "graph"] | dict[str, Any] | ModelConfig | None = ...,
    node_type: str | None = ...,
    edge_type: tuple[str, str, str] | None = ...,
    index: Index = ...,
    target: int | Sequence[int] | Tensor | None = ...,
    forward: Forward | None = ...,
    seed: int = ...,
    undirected: bool | Literal["auto"] = ...,
    exclude_pair: bool = ...,
    max_neighbors: int | None = ...,
    batch_budget: int | Literal["auto"] = ...,
    progress: bool = ...,
    out: str | PathLike[str],
    callback: Callback | Sequence[Callback] | None = ...,
) -> StoredExplanations: ...


def explain(
    model: nn.Module | Prepared,
    data: Any = None,
    algorithm: str | Attributing = "gnn_explainer",
    *,
    task: Literal["node", "edge", "graph"] | dict[str, Any] | ModelConfig | None = None,
    node_type: str | None = None,
    edge_type: tuple[str, str, str] | None = None,
    index: Index = None,
    target: int | Sequence[int] | Tensor | None = None,
    forward: Forward | None = None,
    seed: int = 0,
    undirected: bool | Literal["auto"] = "auto",
    exclude_pair: bool = False,
    max_neighbors: int | None = None,
    batch_budget: int | Literal["auto"] = "auto",
    progress: bool = True,
    out: str | PathLike[str] | None = None,
    callback: Callback | Sequence[Callback] | None = None,
) -> Explanations | StoredExplanations:
    """Explain predictions of a model, all of them as one batch; each as if it had been explained alone.

    A problem that was prepared takes the place of model and data: `explain(prepared, algorithm, index=...)`. Then `task`,
    `forward` and `undirected` are those it was prepared with.

    Args:
        model: any module built on PyG's message-passing layers, trained. It is run in evaluation mode and comes back bit
            for bit as it was. Or what `gnn_xai.prepare` returned.
        data: a `Data` or `HeteroData`, or a `Batch`, list or `Dataset` of them; left out after a prepared problem.
        algorithm: an algorithm such as `GNNExplainer(epochs=200)`, or its name. Those with a field `columns` also score
            further attributes of nodes, edges or graphs that the model reads: `columns="edge_attr"`, several names, or
            names with types of mask as in `{"edge_attr": "object", "u": "attributes"}`. In a heterogeneous graph a name
            means all types and relations that hold it, and some are listed under each, `{"paper": ["year"], ("user",
            "rates", "item"): {"edge_attr": "object"}}`. `attributes`, which names alone mean, is one score for each
            value, `object` one for each row, and `common_attributes` one for a feature of all rows of an instance.
            Masks multiply values, and where these are integer codes, what the model embeds them as. The two directions
            of an undirected edge share a score where they have the same values. Rows of context keep their values and
            get no score.
        task: `"node"` or `"graph"` for a multiclass model that returns logits (or log-probabilities, which give the same
            answer); `"edge"` for link prediction, one logit for each pair of nodes; a PyG `ModelConfig`, or a dict of its
            settings, for probabilities, binary and multi-label classification and regression. `None`: node level for a
            `Data`, graph level for several.
        node_type: of the nodes whose predictions are explained, in a heterogeneous graph.
        edge_type: for an edge-level task on a heterogeneous graph, the relation that is predicted; `None` for the only one
            with an `edge_label_index`.
        index: which nodes or graphs to explain, nodes counted within their type; `None` for all. For an edge-level task,
            pairs of nodes `[2, B]`, whether there is an edge or not; also one tuple `(u, v)` or a list of them; or positions
            in `data.edge_label_index`, of which `None` takes all.
        target: the class (or output column) to explain, one for all or one for each; `None` for the predicted class, or
            the label with the highest score.
        forward: `(model, data) -> output` where the model's arguments cannot be bound by name from the data. For an
            edge-level task, `data.edge_label_index` holds the pairs that are asked about, in the numbers of `data`; a model
            whose `forward` takes none is called as `model.decode(model.encode(...), edge_label_index)`.
        seed: the same seed gives the same result.
        undirected: `"auto"` gives the two directions of an edge one score in graphs where every edge has its reverse;
            `True` asks for this and refuses a directed graph; `False` scores directions separately.
        exclude_pair: for edge-level tasks: an edge that the graph has between the two nodes of an explained pair gets no
            score. It is context then: messages still pass along it. By default it is scored like every other edge.
        max_neighbors: for node- and edge-level tasks on graphs with hubs: follow at most this many of the edges into a
            node, drawn by `seed`; `None` for all of them. What is left out is not there for the explanation: a sum, mean,
            maximum or attention runs over the edges that were kept. Degrees that a layer normalises by are those of the full
            graph where `provenance["layers"]` says `fused`, and else those of the edges kept. `exact` is false for an
            instance that lost an edge, and `extras["prediction_capped"]` is what the model says without them; `prediction`
            is still that of the full graph.
        batch_budget: how many nodes and edges to work on at once; `"auto"` measures what fits.
        progress: show a progress bar.
        out: a folder to write to while explaining. What is finished is kept however the process ends, and the same call
            resumes from there. Memory does not grow with the number of explanations.
        callback: called while masks are learned, one or several, such as `gnn_xai.Trace()`.

    Returns:
        Explanations in the order of `index`; with `out`, `StoredExplanations`, which read them from there.

    Raises:
        InputError: if an argument, the data or the model's output is not what was expected.
        MaskingError: if a mask cannot reach the model's layers.
        StorageError: if `out` holds something else, or a run of another model, data, seed or setting, or cannot be written.
    """
    prepared = model if isinstance(model, Prepared) else None
    if isinstance(model, Prepared):
        if data is not None:  # the algorithm, one place further to the left
            data, algorithm = None, data
        settled = {"task": task, "node_type": node_type, "edge_type": edge_type}
        settled |= {"forward": forward, "undirected": undirected}
        refuse_what_was_prepared(**settled, exclude_pair=None if exclude_pair is False else exclude_pair)
        model.check_unchanged()
        data, task, forward = model.graphs.source, model.problem.task, model.forward
        of_type = model.problem.of_type
        undirected, module = "auto" if model.undirected else False, model.problem.model
        batch_budget = model.batch_budget if is_auto(batch_budget) else batch_budget
    else:
        module, of_type = eager(model), type_of(node_type, edge_type)
    method = get(algorithm)
    integer(seed, "seed")
    flag(progress, "progress")
    refuse_inference_mode("explain")
    call = _Call(
        module,
        method,
        as_task(task, data),
        of_type,
        forward,
        seed,
        undirected,
        max_neighbors,
        batch_budget,
        as_callbacks(callback),
        prepared,
        exclude_pair,
    )
    device = device_of(module)
    with untouched(module) as evaluating, evaluating, torch.enable_grad():
        if out is not None:
            return _stored(call, data, device, index, target, progress, out)
        graphs = as_graphs(data, device) if prepared is None else prepared.graphs
        problem = call.problem(graphs)
        positions = problem.readout.index(index, graphs)
        targets = as_targets(target, positions)
        call.starts(data, positions)
        with _Progress(method.name, len(positions), progress) as shown:
            return call.finished(joined([part for _, part in call.answers(problem, positions, targets, shown)]))


def prepare(
    model: nn.Module,
    data: Any,
    *,
    task: Literal["node", "edge", "graph"] | dict[str, Any] | ModelConfig | None = None,
    node_type: str | None = None,
    edge_type: tuple[str, str, str] | None = None,
    forward: Forward | None = None,
    undirected: bool | Literal["auto"] = "auto",
    exclude_pair: bool = False,
    batch_budget: int | Literal["auto"] = "auto",
) -> Prepared:
    """Look at a model and its data once, for many calls.

    Args:
        model, data, task, node_type, edge_type, forward, undirected, exclude_pair, batch_budget: as in `gnn_xai.explain`.

    Returns:
        what `gnn_xai.explain`, `gnn_xai.compare` and every metric take in place of model and data.

    Raises:
        InputError: as in `gnn_xai.explain`.

    >>> import gnn_xai as gx
    >>> karate = gx.datasets.load("karate")
    >>> prepared = gx.prepare(karate.model, karate.data)
    >>> prepared
    Prepared(GCN, node level, 34 nodes, 156 edges, 2 hops)
    >>> explanations = gx.explain(prepared, "saliency", index=[0, 16], progress=False)
    """
    refuse_inference_mode("prepare")
    settings: dict[str, Any] = {"task": task, "of_type": type_of(node_type, edge_type), "forward": forward}
    settings["undirected"] = undirected
    return prepared_for(model, data, **settings, exclude_pair=exclude_pair, batch_budget=batch_budget, watch=True)


@dataclass(frozen=True, eq=False)
class _Call:
    """The settings of a call, the same for all instances."""

    model: nn.Module
    method: Algorithm
    task: ModelConfig
    of_type: str | EdgeType | None
    forward: Forward | None
    seed: int
    undirected: bool | Literal["auto"]
    max_neighbors: int | None
    batch_budget: int | Literal["auto"]
    callbacks: Callbacks | None = None
    prepared: Prepared | None = None
    exclude_pair: bool = False

    def starts(self, data: Any, index: Tensor) -> None:
        """Tell callbacks what is asked, of `[B]` instances."""
        if self.callbacks is not None:
            described = describe(self.method)
            self.callbacks.start(Run(self.model, data, self.task, self.forward, index, described, self.seed))

    def finished(self, explanations: T) -> T:
        """The same explanations, once callbacks have seen them."""
        if self.callbacks is not None:
            self.callbacks.finish(explanations)
        return explanations

    def problem(self, graphs: Graphs) -> Problem:
        """The model's problem on some graphs."""
        if self.prepared is not None:
            return self.prepared.problem
        return problem_of(self.model, graphs, self.task, self.forward, self.of_type, self.exclude_pair)

    def answers(
        self,
        problem: Problem,
        index: Tensor,
        targets: Tensor | None,
        progress: _Progress,
        budget: int | None = None,
        limit: int = CHUNK,
        done: Container[range] = (),
        start: int = 0,
    ) -> Iterator[tuple[int, Explanations]]:
        """The explanations of some instances, chunk by chunk, each with the position of its first.

        Args:
            problem: model, data, task.
            index, targets: `[B]`.
            progress: shows how far this is.
            budget: in place of `batch_budget`.
            limit, done: how large chunks are, and which are left out, see `Prepared.chunks`.
            start: position of the first of these instances within all that were asked for.
        """
        method, cap = self.method, as_cap(self.max_neighbors, self.seed, problem)
        budget_asked = self.batch_budget if budget is None else budget
        prepared = self.prepared
        if prepared is None:
            tied = as_undirected(self.undirected, problem.graphs)
            brief = one_pass(method) and cap is None  # under a cap, the ways differ in the degrees that they count
            prepared = core_prepare(problem, undirected=tied, batch_budget=budget_asked, index=index, brief=brief)
        prepared = scoring(prepared, columns_of(method))
        structural = removal(method) == "structural"
        session = prepared.session(
            self.seed, structural=structural, edge_masks=masks_edges(method), batch_budget=budget_asked
        )
        layers = prepared.layers(structural)
        for layer in layers:
            _log.info("%s: %s%s", layer["layer"], layer["path"], f" ({layer['why']})" if "why" in layer else "")
        for chunk in prepared.chunks(session, index, cap=cap, limit=limit, done=done):
            chosen = as_target(None if targets is None else targets[chunk.positions], chunk.prediction, problem)
            if self.callbacks is not None:
                self.callbacks.positions = start + chunk.positions
            run = replace(session, advance=progress.through(len(chunk.positions)), observer=self.callbacks)
            scores = attributed(method, run, chunk.graphs, chosen, chunk.prediction, start + chunk.positions)
            if cap is not None:
                scores.extras["prediction_capped"] = session.outputs(chunk.graphs)[:, 0]
            faithfulness = faithful(session, chunk.graphs, soft(scores, chunk.graphs, method.signed))
            provenance = {**_provenance(prepared, layers), "max_neighbors": self.max_neighbors}
            answer = _explanations(chunk, scores, chosen, faithfulness, method, session, provenance)
            yield int(chunk.positions[0]), answer
            progress.passed(len(chunk.positions))


def _stored(
    call: _Call, data: Any, device: torch.device, index: Any, target: Any, progress: bool, out: str | PathLike[str]
) -> StoredExplanations:
    """Explain into a folder, block by block of the data and shard by shard, leaving out what is there."""
    level = call.task.task_level
    shelf = Shelf(data, device, whole=readout_of(level).rooted)
    whole = shelf.take(None) if shelf.whole is not None else None
    readout = readout_of(level, None if whole is None else output_type(whole, level, call.of_type))
    content, sizes = Digest(), []
    for graphs in shelf.parts():
        content.add(graphs.content())
        sizes.append(graphs.node_ptr.diff() + graphs.edge_ptr.diff())
    positions = readout.index(index, shelf.whole or shelf)
    targets = as_targets(target, positions)
    settings = {name: getattr(call, name) for name in ("seed", "undirected", "max_neighbors", "batch_budget")}
    settings |= {"exclude_pair": True} if call.exclude_pair else {}
    asked = described(
        call.model,
        call.forward,
        str(content),
        positions,
        targets,
        algorithm={**describe(call.method), "code": checksum(call.method)},
        task=[call.task.mode.value, call.task.task_level.value, call.task.return_type.value],
        **settings,
    )
    call.starts(data, positions)
    blocks = [torch.arange(len(positions))] if readout.rooted else batches(torch.cat(sizes)[positions], BLOCK)
    with (
        writing(out, asked, len(positions), device) as run,
        _Progress(call.method.name, len(positions), progress, run.manifest["done"]) as shown,
    ):
        for block in blocks:
            start, done = int(block[0]), run.done_within(int(block[0]), len(block))
            if sum(map(len, done)) == len(block):
                continue
            known, local = (None, positions) if readout.rooted else positions[block].unique(return_inverse=True)
            if call.prepared is not None:
                known, local = None, positions[block]
            problem = call.problem(shelf.take(known) if call.prepared is None else call.prepared.graphs)
            block_targets = None if targets is None else targets[block]
            for first, part in call.answers(
                problem, local, block_targets, shown, run.budget, run.manifest["shard_size"], done, start
            ):
                run.add(start + first, part if known is None else replace(part, index=known[part.index]))
    return call.finished(StoredExplanations(out, data))


class _Bar(tqdm):
    """A bar that moves through a single explanation, and counts those that are done."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar can show, with the number of finished explanations as `whole`."""
        shown = super().format_dict
        return {**shown, "whole": int(shown["n"] + 1e-6)}


class _Progress:
    """A progress bar over all instances, which moves through a piece of them by shares of its work."""

    def __init__(self, what: str, total: int, shown: bool, done: int = 0) -> None:
        self.done = done
        self._options = {"desc": what, "total": total, "initial": done, "unit": "explanation", "disable": not shown}

    @cached_property
    def bar(self) -> tqdm:
        """The bar, which appears when the work begins."""
        return _Bar(**self._options, bar_format="{l_bar}{bar}| {whole}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]")

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
            self.bar.update(self.done + size * min(share, 1.0) - self.bar.n)

        return advance

    def passed(self, size: int) -> None:
        """The next `size` instances are done."""
        self.done += size
        self.bar.update(self.done - self.bar.n)


def _provenance(prepared: Prepared, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """What scores come from beside the algorithm."""
    return {
        "gnn_xai": __version__,
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        "python": platform.python_version(),
        "device": str(prepared.graphs.device),
        "model": type(prepared.problem.model).__name__,
        "undirected": prepared.undirected,
        "symmetric": prepared.graphs.symmetric,
        **({"exclude_pair": True} if prepared.problem.exclude_pair else {}),
        "layers": layers,
        "features": prepared.maskable_features,
    }


def _explanations(
    chunk: Chunk,
    scores: Scores,
    target: Tensor,
    faithfulness: tuple[Tensor, Tensor],
    algorithm: Algorithm,
    session: Session,
    provenance: dict[str, Any],
) -> Explanations:
    """The scores of a chunk as explanations: what is in play, in original ids."""
    graphs = chunk.graphs
    source, size = graphs.graphs, len(graphs)
    node_kept, edge_kept = graphs.node_in_play.nonzero().flatten(), graphs.edge_in_play.nonzero().flatten()
    node_id, edge_id = graphs.node.index_select(0, node_kept), graphs.edge.index_select(0, edge_kept)
    edge_index = source.edge_index.index_select(1, edge_id)
    rooted = graphs.roots is not None
    types = type_columns(source, node_id, edge_id, rooted)
    if not rooted:  # ids within each graph
        edge_index = edge_index - source.node_ptr[source.edge_batch[edge_id]]
        edge_id = edge_id - source.edge_ptr[source.edge_batch[edge_id]]
        node_id = node_id - source.node_ptr[source.batch[node_id]]
    common = scores.node_type == "common_attributes"
    by_level = {"edge": edge_kept, "node": slice(None) if common else node_kept}
    node = scores.node
    return Explanations(
        index=session.problem.readout.numbers(graphs.index, source),
        target=target,
        prediction=chunk.prediction,
        prediction_masked=faithfulness[0],
        prediction_complement=faithfulness[1],
        exact=graphs.exact,
        hops=graphs.hops,
        node_ptr=pointers(torch.bincount(graphs.node_owner[node_kept], minlength=size)),
        node_id=node_id,
        edge_ptr=pointers(torch.bincount(graphs.edge_owner[edge_kept], minlength=size)),
        edge_id=edge_id,
        edge_index=edge_index,
        edge_mask=None if scores.edge is None else scores.edge[edge_kept],
        node_mask=None if node is None else node[by_level["node"]],
        node_mask_type=scores.node_type,
        signed=algorithm.signed,
        removal=removal(algorithm),
        algorithm=describe(algorithm),
        task=session.problem.task,
        seed=session.seed,
        extras={name: value[by_level.get(name.split("_")[0], slice(None))] for name, value in scores.extras.items()},
        provenance=provenance,
        data=source.source,
        types=TypeNames.of(source, session.problem.of_type, rooted),
        columns={column.name: _in_play(graphs, column, value) for column, value in scores.columns.items()},
        column_types={column.name: (column.level, column.type) for column in scores.columns},
        **types,
    )


def _in_play(graphs: ComputationGraphs, column: Scored, scores: Tensor) -> Tensor:
    """The scores of an attribute without those of context."""
    return scores if column.type == "common_attributes" else scores[graphs.elements(column.level).in_play]
