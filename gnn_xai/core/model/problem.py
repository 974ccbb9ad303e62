"""What is asked: a model, bound to the data; a task; and one scalar objective for every instance."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch_geometric.explain.config import ModelConfig, ModelMode, ModelReturnType

from gnn_xai.core.arrays.batches import out_of_memory
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.graphs.spelling import EdgeType
from gnn_xai.core.inputs.embeddings import Embeddings
from gnn_xai.core.model.layers import Layers
from gnn_xai.core.model.pairs import readout_of
from gnn_xai.core.model.readout import Readout, RunOn
from gnn_xai.errors import GnnXaiError, InputError, warn

Objective = Literal["margin", "log_prob", "prob", "raw"]
OBJECTIVES: tuple[Objective, ...] = ("margin", "log_prob", "prob", "raw")
Forward = Callable[[nn.Module, Any], Tensor]
Attribute = tuple[Any, str]
"""The type or relation of a heterogeneous graph, or `None`, and the name of one of its attributes."""


class WrittenInPlace(InputError):
    """The model wrote to attributes of its input in place, of which it had no copies of its own.

    Attributes:
        attributes: these.
    """

    def __init__(self, attributes: frozenset[Attribute]) -> None:
        self.attributes = attributes
        names = ", ".join(
            sorted(f"data.{key}" if kind is None else f"data[{kind!r}].{key}" for kind, key in attributes)
        )
        super().__init__(
            f"expected a model that leaves its input as it is, but it writes to {names} in place; let forward compute a new "
            "tensor (x = x * 2 in place of x.mul_(2)), or work on a clone()"
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """A model and its data, with everything an engine needs to run it and to read its output.

    Attributes:
        model: the user's module; an eager one, where a compiled one was handed in.
        graphs: the data.
        task: mode, task level and return type, in PyG's words.
        forward: `(model, data) -> output`.
        embeddings: what the model does with attributes that hold codes, by name; known once it was run.
        of_type: in a heterogeneous graph, the type of the nodes that outputs belong to, or the relation of the pairs.
        relations: on which each call of `propagate` runs, and whether turned around; known once the model was run.
        written: attributes that the model writes to in place, each with its type or relation (`None` where there are none);
            every run gets its own copies of these.
        exclude_pair: edges between the two nodes of an explained pair are context, and get no score.
    """

    model: nn.Module
    graphs: Graphs
    task: ModelConfig
    forward: Forward
    embeddings: Mapping[str, Embeddings] = field(default_factory=dict)
    of_type: str | EdgeType | None = None
    relations: tuple[tuple[tuple[int, ...], bool], ...] = ()
    written: frozenset[Attribute] = frozenset()
    exclude_pair: bool = False

    @cached_property
    def layers(self) -> Layers:
        """The modules of the model that pass messages, and the others."""
        return Layers.of(self.model)

    @property
    def readout(self) -> Readout:
        """Which outputs are explained, and where they are found."""
        return readout_of(self.task.task_level, self.of_type)

    @property
    def lookups(self) -> tuple[str, ...]:
        """The modules that look up codes."""
        return tuple(dict.fromkeys(name for one in self.embeddings.values() for name in one.names))

    @property
    def num_outputs(self) -> int:
        """How many outputs can be explained."""
        return self.readout.count(self.graphs)

    @property
    def dtype(self) -> torch.dtype:
        """The floating type that masks are made of: that of `x`, or of the parameters where `x` holds integers."""
        x = self.graphs.x
        if x is not None and x.is_floating_point():
            return x.dtype
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)

    def run(
        self,
        data: Any,
        rows: Int[Tensor, "outputs roots"] | None,
        shrunk: bool = False,
        on: Callable[[], RunOn] | None = None,
    ) -> Float[Tensor, "outputs columns"]:
        """The model's output on `data`, one row per instance.

        Args:
            data: one disjoint union of computation graphs.
            rows: the roots of each instance, or `None` for graph-level tasks.
            shrunk: the model's layers drop all rows but those of the roots.
            on: tells what the model was run on, once it has raised an error; the user's data for `None`.

        Raises:
            InputError: if the model raises anything, or its output is not what the task says.
        """
        out = self.called(self.readout.handed(data, rows), on)
        if out.dim() > 2 and self._mode == ModelMode.multiclass_classification:
            raise InputError(
                f"expected output of shape [{out.size(0)}, classes] for a multiclass task, got {list(out.shape)}; "
                "pass forward=lambda model, data: ... that picks the classes of one prediction"
            )
        return self.readout.output(out, data, rows, shrunk, on)

    def called(self, data: Any, on: Callable[[], RunOn] | None = None) -> Float[Tensor, ...]:
        """What the model returns on `data`; `on` as in `run`. Where memory runs out, the error is passed on as it is.

        Raises:
            InputError: if the model raises anything, or does not return one tensor of floating-point numbers.
        """
        for store in data.stores if self.written else ():
            for key in [key for kind, key in self.written if kind == store._key]:
                store[key] = store[key].clone()
        handed = [(store._key, key, value, value._version) for store, key, value in _tensors(data)]
        try:
            out: Any = self.forward(self.model, data)
        except GnnXaiError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise self._failure(error, "data" if on is None else on()) from error
        changed = frozenset((kind, key) for kind, key, value, version in handed if value._version != version)
        if changed - self.written:
            raise WrittenInPlace(changed)
        if isinstance(out, dict) and self.of_type is not None and self.of_type in out:
            out = out[self.of_type]
        if not isinstance(out, Tensor):
            raise InputError(
                f"expected the model to return one tensor, got {type(out).__name__}; "
                "pass forward=lambda model, data: ... that picks the predictions"
            )
        if 0 in out.shape[1:]:
            raise InputError(
                f"expected output columns, such as one for each class, got an output of shape {list(out.shape)}; "
                "pass forward=lambda model, data: ... that returns the predictions"
            )
        if not out.is_floating_point():
            raise InputError(
                f"expected the model to return floating-point scores, got {out.dtype}; return what it is computed from "
                "(logits in place of classes, say)"
            )
        return out

    def _failure(self, error: Exception, on: RunOn) -> InputError:
        """What the model was run on when it raised an error, and a way that works."""
        model, arguments = type(self.model).__name__, getattr(self.forward, "arguments", "forward=")
        kind = type(error).__name__
        text = textwrap.shorten(str(error), 160, placeholder=" ...") or "without a message"
        raised = f"{kind}: {text}" if str(error) else f"{kind} {text}"
        sentences: dict[RunOn, str] = {
            "data": f"{model} raised {kind} ({text}) when called with {arguments}; if that is not how to call it, pass "
            "forward=lambda model, data: model(...)",
            "part": f"the model runs on the whole graph but not on computation graphs cut out of it ({raised}); if it holds "
            "something for every node, such as an embedding, look it up by ids that the data carries as data.n_id; "
            "torch_geometric.explain.Explainer(model, gnn_xai.pyg.algorithm(...)) keeps the graph whole",
            "rebuilt": f"{model} runs on the data but not without some of its edges or nodes ({raised}); use "
            "removal='message', which takes nothing out, or pass forward= that makes what it needs of data.edge_index",
            "messages": f"{model} runs on the data but not where an edge mask multiplies its messages ({raised}); use an "
            "algorithm over nodes or features, such as gnn_xai.NodeAblation()",
            "features": f"{model} runs on the data but not where a mask multiplies its features ({raised}); use "
            "node_mask_type=None, or gnn_xai.EdgeAblation()",
            "columns": f"{model} runs on the data but not where masks multiply its attributes ({raised}); leave them out of "
            "columns=",
        }
        return InputError(sentences[on])

    # Reading the output ##############################################################################################

    @property
    def _mode(self) -> ModelMode:
        return self.task.mode

    def check(self, out: Float[Tensor, "outputs columns"]) -> None:
        """Compare the output with what the task says about it.

        Raises:
            InputError: if the output cannot be, or does not look like, the return type that was said, or is too coarse.
        """
        for dtype in (out.dtype, self.dtype):
            if torch.finfo(dtype).eps > 1e-4:
                raise InputError(
                    f"expected single or double precision, got {dtype}, whose rounding hides what an explanation measures; "
                    "pass copy.deepcopy(model).float() and data with x.float(), outside of torch.autocast"
                )
        how = "say what it is with task=ModelConfig(mode=..., task_level=..., return_type=...)"
        if not bool(torch.isfinite(out).all()):
            raise InputError("the model's output holds NaN or infinite values; nothing can be attributed to its inputs")
        columns, returned = out.size(1), self.task.return_type
        if self._mode == ModelMode.regression:
            return
        low, high = float(out.min()), float(out.max())
        in_unit = low >= 0 and high <= 1
        sums_to_one = columns > 1 and bool((out.sum(1) - 1).abs().max() < 1e-3)
        if self._mode == ModelMode.multiclass_classification:
            if columns < 2:
                raise InputError(
                    f"expected two or more output columns for a multiclass task, got {columns}; "
                    f"is this a binary classifier or a regression? Then {how}"
                )
            if returned == ModelReturnType.raw and in_unit and sums_to_one:
                raise InputError(
                    "expected logits, but every output row lies in [0, 1] and sums to 1, as probabilities do; "
                    f"if so, {how.replace('return_type=...', 'return_type=probs')}"
                )
            if returned == ModelReturnType.probs and not (in_unit and sums_to_one):
                raise InputError(
                    f"expected probabilities (in [0, 1], rows summing to 1), got values from {low:.4g} to {high:.4g}; "
                    f"if these are logits, {how.replace('return_type=...', 'return_type=raw')}"
                )
            if returned == ModelReturnType.log_probs and not bool((out.exp().sum(1) - 1).abs().max() < 1e-3):
                raise InputError(
                    f"expected log-probabilities (rows of exp(output) summing to 1), got values from {low:.4g} to "
                    f"{high:.4g}; if these are logits, {how.replace('return_type=...', 'return_type=raw')}"
                )
        elif returned == ModelReturnType.probs and not in_unit:
            raise InputError(
                f"expected probabilities in [0, 1], got values from {low:.4g} to {high:.4g}; "
                f"if these are logits, {how.replace('return_type=...', 'return_type=raw')}"
            )
        elif returned == ModelReturnType.raw and in_unit and out.numel() >= 20:
            warn(
                f"all {out.numel()} outputs lie in [0, 1] but were said to be logits; if they are probabilities, {how}"
            )

    def predicted(self, out: Float[Tensor, "outputs columns"]) -> Int[Tensor, " outputs"]:
        """The target that is explained when none is named: the predicted class, or the label that scores highest.

        Raises:
            InputError: for a regression with several columns, where there is no such thing.
        """
        if self._mode == ModelMode.regression:
            if out.size(1) > 1:
                raise InputError(
                    f"expected target= for a regression with {out.size(1)} output columns, got None; "
                    "name the column to explain"
                )
            return torch.zeros(len(out), dtype=torch.int64, device=out.device)
        if self._mode == ModelMode.binary_classification and out.size(1) == 1:
            threshold = 0.0 if self.task.return_type == ModelReturnType.raw else 0.5
            return (out[:, 0] > threshold).long()
        return out.argmax(1)

    def num_targets(self, columns: int) -> int:
        """How many targets there are: output columns, or the two classes of a one-column binary classifier."""
        return 2 if self._mode == ModelMode.binary_classification and columns == 1 else columns

    def log_probs(self, out: Float[Tensor, "outputs classes"]) -> Float[Tensor, "outputs classes"]:
        """Output of a multiclass model to log-probabilities."""
        if self.task.return_type == ModelReturnType.probs:
            out = out.clamp(min=torch.finfo(out.dtype).tiny).log()
        return out.log_softmax(1)

    def score(
        self,
        out: Float[Tensor, "outputs columns"],
        target: Int[Tensor, " outputs"],
        objective: Objective = "margin",
    ) -> Float[Tensor, " outputs"]:
        """The scalar objective of every instance, higher for more of the target.

        `margin` is the log-odds of the target: log p(t) − log(1 − p(t)), computed from logits without rounding, so it
        does not saturate and is the same for logits, log-probabilities and probabilities of one model. `log_prob` and
        `prob` are what they say. `raw` is the model's own output column. A regression has one objective: its value.

        Args:
            out: model output.
            target: class or output column.
            objective: which scalar.
        """
        return score_of(self.task, out, target, objective)

    def loss(
        self,
        out: Float[Tensor, "outputs columns"],
        target: Int[Tensor, " outputs"],
        prediction: Float[Tensor, "outputs columns"],
        kind: Literal["nll", "margin"],
    ) -> Float[Tensor, " outputs"]:
        """Loss of an output against the prediction: −log p(target), or the negative margin; for a regression, the squared
        difference of the two values.

        Args:
            out: the model's output under masks.
            target: class or output column.
            prediction: its output without.
            kind: `nll` or `margin`.
        """
        if self._mode == ModelMode.regression:
            return (self.score(out, target) - self.score(prediction, target)).square()
        return -self.score(out, target, "margin" if kind == "margin" else "log_prob")

    def label(self, out: Float[Tensor, "outputs columns"], target: Int[Tensor, " outputs"]) -> Bool[Tensor, " outputs"]:
        """Whether the model predicts `target`: its class, or that its label is on. Not defined for a regression."""
        if self._mode == ModelMode.multiclass_classification:
            return out.argmax(1) == target
        return self.score(out, target) > 0


def _tensors(data: Any) -> Iterator[tuple[Any, str, Tensor]]:
    """The tensors of a data object, each with its store and its name."""
    for store in data.stores:
        for key, value in store.items():
            if type(value) is Tensor and not value.is_inference():
                yield store, key, value


def score_of(
    task: ModelConfig,
    out: Float[Tensor, "outputs columns"],
    target: Int[Tensor, " outputs"] | int,
    objective: Objective = "margin",
) -> Float[Tensor, " outputs"]:
    """The scalar objective of outputs, as `Problem.score` has it."""
    if isinstance(target, int):
        target = torch.full((len(out),), target, device=out.device)
    column = out.gather(1, target.clamp(max=out.size(1) - 1).unsqueeze(1)).squeeze(1)
    if task.mode == ModelMode.regression or objective == "raw":
        return column
    if task.mode == ModelMode.binary_classification:
        logit = column
        if task.return_type == ModelReturnType.probs:
            tiny = torch.finfo(out.dtype).tiny
            logit = column.clamp(min=tiny).log() - (1 - column).clamp(min=tiny).log()
        margin = torch.where(target == 1, logit, -logit) if out.size(1) == 1 else logit
    else:
        if task.return_type == ModelReturnType.probs:
            out = out.clamp(min=torch.finfo(out.dtype).tiny).log()
        own = torch.arange(out.size(1), device=out.device) == target.unsqueeze(1)
        others = out.masked_fill(own, -torch.inf)
        margin = out.gather(1, target.unsqueeze(1)).squeeze(1) - others.logsumexp(1)
    if objective == "margin":
        return margin
    log_prob = nn.functional.logsigmoid(margin)
    return log_prob if objective == "log_prob" else log_prob.exp()
