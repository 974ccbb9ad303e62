"""Algorithms that are fitted over many instances before they explain: `fit`, what it returns, and its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig
from tqdm.auto import tqdm

from gnn_xai._checks import integer
from gnn_xai.algorithms.base import REGISTRY, describe, get, masks_edges, removal
from gnn_xai.core.engines.fit import Fitting, Lesson, Losses, Parameters, fit
from gnn_xai.core.engines.handed_in import as_targets, prepared_for, refuse_inference_mode, type_of
from gnn_xai.core.engines.prepare import Prepared, refuse_what_was_prepared
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.arguments import as_target
from gnn_xai.core.model.index import Index
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.core.model.problem import Forward
from gnn_xai.core.model.restoring import untouched
from gnn_xai.errors import InputError, StorageError
from gnn_xai.results import files
from gnn_xai.results.checksums import checksum, described, of_model

FILE = "a file that fit(out=...) or save of a fitted algorithm wrote"


class Fits:
    """Base class of algorithms that learn over many instances first; the decorator `algorithm` comes on top.

    A subclass has the fields `epochs`, `lr` and `batch_size`, and writes the four methods below `fit`.
    """

    epochs: int
    lr: float
    batch_size: int | None

    needs_fit: ClassVar[bool] = True

    if TYPE_CHECKING:
        name: str

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> NoReturn:
        """Refuse: nothing is fitted yet."""
        name = type(self).__name__
        raise InputError(
            f"expected a fitted {name}, got one that has not been fitted: fitted = gnn_xai.{name}().fit(model, data, "
            "index=...) learns over many instances, then gnn_xai.explain(model, data, fitted, index=...) explains any"
        )

    def fit(
        self,
        model: nn.Module | Prepared,
        data: Any = None,
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
        batch_budget: int | Literal["auto"] = "auto",
        progress: bool = True,
        out: str | PathLike[str] | None = None,
        callback: Callable[[int, dict[str, float]], None] | None = None,
    ) -> Fitted:
        """Learn over many instances.

        Args:
            model, data, task, node_type, edge_type, forward, undirected, exclude_pair, batch_budget, progress: as in
                `gnn_xai.explain`.
            index: the nodes, pairs or graphs to learn from; `None` for all.
            target: the class or column of each; `None` for what the model predicts.
            seed: the same seed gives the same parameters.
            out: a file that is written after every epoch. The same call resumes from there after it was interrupted, and
                returns at once after it was finished; `gnn_xai.load_algorithm` reads it.
            callback: called after every epoch with its number, from 1 on, and the mean of every term of the loss.

        Returns:
            an algorithm for `gnn_xai.explain` and everything else that takes one.

        Raises:
            InputError: as in `gnn_xai.explain`.
            StorageError: if `out` holds something else, or the fit of another model, other data or settings.
        """
        integer(seed, "seed")
        refuse_inference_mode("fit")
        if isinstance(model, Prepared):
            settled = {"task": task, "node_type": node_type, "edge_type": edge_type}
            settled |= {"forward": forward, "undirected": undirected}
            refuse_what_was_prepared(**settled, exclude_pair=exclude_pair or None)
            model.check_unchanged()
            prepared = model
        else:
            settings: dict[str, Any] = {"task": task, "of_type": type_of(node_type, edge_type), "forward": forward}
            settings |= {"undirected": undirected, "exclude_pair": exclude_pair, "batch_budget": batch_budget}
            prepared = prepared_for(model, data, **settings, index=index)
        with untouched(prepared.problem.model) as evaluating, evaluating, torch.enable_grad():
            return _fitted(self, prepared, index, target, seed, progress, out, callback)

    def states(self, session: Session, graphs: ComputationGraphs) -> Tensor:
        """What is read of the model for every node of computation graphs, once before all epochs."""
        raise NotImplementedError

    def start(self, session: Session, width: int, roots: int) -> Parameters:
        """Parameters before the first epoch, for states of a width and instances of so many roots."""
        raise NotImplementedError

    def loss(
        self,
        session: Session,
        model: MaskedModel,
        lesson: Lesson,
        replicas: Replicas,
        parameters: Parameters,
        epoch: int,
    ) -> Losses:
        """The terms of the loss, `[R]` each; `model` is open on the replicas."""
        raise NotImplementedError

    def scores(self, session: Session, graphs: ComputationGraphs, states: Tensor, parameters: Parameters) -> Scores:
        """Scores of computation graphs by fitted parameters."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Fitted:
    """An algorithm with what it learned; explains any instance of the model that it was fitted on.

    Attributes:
        algorithm: the algorithm and its hyper-parameters.
        parameters: what was learned, by name.
        losses: the mean of every term of the loss, epoch by epoch.
        index: `[B]` or `[2, B]` what it was fitted on.
        target: `[B]` their targets.
        about: model, data, task, seed and versions, by values and checksums.
    """

    algorithm: Any
    parameters: Parameters = field(repr=False)
    losses: list[dict[str, float]] = field(repr=False)
    index: Tensor = field(repr=False)
    target: Tensor = field(repr=False)
    about: dict[str, Any] = field(repr=False)

    needs_fit: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __getattr__(self, name: str) -> Any:
        """Hyper-parameters and what the decorator `algorithm` declares are those of the algorithm."""
        if name.startswith("__") or "algorithm" not in vars(self):
            raise AttributeError(name)
        return getattr(self.algorithm, name)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        """Scores, see `gnn_xai.algorithms.base.Attributing`.

        Raises:
            InputError: if the model is not the one it was fitted on.
        """
        if of_model(session.problem.model) != self.about["model"]:
            raise InputError(
                f"expected the model that this {type(self.algorithm).__name__} was fitted on, got "
                f"{type(session.problem.model).__name__} with other weights or layers; fit it on this one: "
                "fitted.refit(model, data)"
            )
        device = graphs.edge.device
        parameters = {name: value.to(device) for name, value in self.parameters.items()}
        with torch.no_grad():
            return self.algorithm.scores(session, graphs, self.algorithm.states(session, graphs), parameters)

    def describe(self) -> dict[str, Any]:
        """Name, hyper-parameters, and what it was fitted on, ready for JSON."""
        fitted = {**self.about, "instances": len(self.target), "parameters": checksum(self.parameters)}
        return {**describe(self.algorithm), "fitted": fitted}

    def refit(self, model: nn.Module | Prepared, data: Any = None, **options: Any) -> Fitted:
        """The same algorithm fitted on the same instances and targets of another model, or of other data.

        Args:
            model, data, options: as in `fit`; the seed and the task are those of this fit.
        """
        options = {"index": self.index, "target": self.target, "seed": self.about["seed"], **options}
        if not isinstance(model, Prepared):
            mode, level, returned = self.about["task"]
            options = {"task": {"mode": mode, "task_level": level, "return_type": returned}, **options}
        return self.algorithm.fit(model, data, **options)

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a file, which `gnn_xai.load_algorithm` reads.

        Raises:
            StorageError: if the file cannot be written.
        """
        columns = {"index": self.index, "target": self.target} | _named("parameters", self.parameters)
        files.write(path, columns, _meta(self.algorithm, self.about, self.losses, finished=True))


def load_algorithm(path: str | PathLike[str]) -> Fitted:
    """A fitted algorithm from a file that `save` or `fit(out=...)` wrote.

    Raises:
        StorageError: if it is no such file, or its fit was not finished.
    """
    columns, meta = files.read(path, "a fitted algorithm", FILE)
    if "fitted" not in meta or meta.get("algorithm", {}).get("name") not in REGISTRY:
        raise StorageError(f"{path} holds no fitted algorithm of this package; expected {FILE}")
    if not meta["finished"]:
        raise StorageError(
            f"the fit in {path} stopped after epoch {len(meta['losses'])}; the same call of fit(out=...) goes on from there"
        )
    hyper = {key: tuple(value) if isinstance(value, list) else value for key, value in meta["algorithm"].items()}
    algorithm = get(str(hyper.pop("name")), **hyper)
    index, target = columns["index"], columns["target"]
    return Fitted(algorithm, _by_name("parameters", columns), meta["losses"], index, target, meta["fitted"])


def _fitted(
    algorithm: Any,
    prepared: Prepared,
    index: Any,
    target: Any,
    seed: int,
    progress: bool,
    out: str | PathLike[str] | None,
    callback: Callable[[int, dict[str, float]], None] | None,
) -> Fitted:
    """Fit an algorithm on some instances of a prepared problem."""
    problem = prepared.problem
    positions = problem.readout.index(index, prepared.graphs)
    targets = as_targets(target, positions)
    session = prepared.session(seed, structural=removal(algorithm) == "structural", edge_masks=masks_edges(algorithm))
    lessons: list[Lesson] = []
    for chunk in prepared.chunks(session, positions):
        chosen = as_target(None if targets is None else targets[chunk.positions], chunk.prediction, problem)
        lessons.append(Lesson(chunk, chosen, algorithm.states(session, chunk.graphs)))
    roots = positions[0].numel() if problem.readout.rooted else 0
    fitting = Fitting(algorithm.start(session, lessons[0].states.size(1), roots), algorithm.lr)
    chosen = torch.cat([lesson.target for lesson in lessons])
    about = _about(prepared, positions, chosen, seed)
    columns = {"index": problem.readout.numbers(positions, prepared.graphs).t(), "target": chosen}
    if out is not None:
        _resume(out, algorithm, about, fitting)

    def each(fitting: Fitting) -> None:
        bar.update()
        if out is not None:
            held = columns | _named("parameters", fitting.parameters) | _named("optimizer", fitting.state())
            finished = fitting.epoch == algorithm.epochs
            files.write(out, held, _meta(algorithm, about, fitting.losses, finished))
        if callback is not None:
            callback(fitting.epoch, fitting.losses[-1])

    def loss(model: MaskedModel, lesson: Lesson, replicas: Replicas, parameters: Parameters, epoch: int) -> Losses:
        return algorithm.loss(session, model, lesson, replicas, parameters, epoch)

    with tqdm(
        desc=f"fitting {algorithm.name}",
        total=algorithm.epochs,
        initial=fitting.epoch,
        unit="epoch",
        disable=not progress,
    ) as bar:
        parameters = fit(
            session, lessons, fitting, loss, epochs=algorithm.epochs, batch_size=algorithm.batch_size, each=each
        )
    return Fitted(algorithm, parameters, fitting.losses, columns["index"], chosen, about)


def _about(prepared: Prepared, index: Tensor, target: Tensor, seed: int) -> dict[str, Any]:
    """What is fitted on, by values and checksums, ready for JSON."""
    task = prepared.problem.task
    return described(
        prepared.problem.model,
        prepared.forward,
        checksum(prepared.graphs.content()),
        index,
        target,
        task=[task.mode.value, task.task_level.value, task.return_type.value],
        seed=seed,
        undirected=prepared.undirected,
    )


def _resume(path: str | PathLike[str], algorithm: Any, about: dict[str, Any], fitting: Fitting) -> None:
    """Take over what a file holds of this fit.

    Raises:
        StorageError: if it holds something else.
    """
    if not Path(path).exists():
        return
    columns, meta = files.read(path, "a fitted algorithm", FILE)
    if meta.get("fitted") != about or meta.get("algorithm") != describe(algorithm):
        raise StorageError(
            f"{path} holds something else than this fit (another model, other data, instances or settings); choose another "
            "file, or delete that one"
        )
    fitting.resume(_by_name("parameters", columns), _by_name("optimizer", columns), meta["losses"])


def _meta(algorithm: Any, about: dict[str, Any], losses: list[dict[str, float]], finished: bool) -> dict[str, Any]:
    return {"algorithm": describe(algorithm), "fitted": about, "losses": losses, "finished": finished}


def _named(prefix: str, values: Parameters) -> Parameters:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _by_name(prefix: str, columns: Parameters) -> Parameters:
    return {name.removeprefix(f"{prefix}."): v for name, v in columns.items() if name.startswith(f"{prefix}.")}
