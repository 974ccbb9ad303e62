"""Captum: any attribution method of `captum.attr`, on node features and edge masks of many instances at once."""

from __future__ import annotations

import copy
import inspect
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from gnn_xai.algorithms._captum_inputs import Inputs, Score
from gnn_xai.algorithms.base import Columns, check_choices
from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.keyed_random import keyed_bits
from gnn_xai.core.engines.scored import NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective
from gnn_xai.errors import InputError, unknown, warn
from gnn_xai.optional import need

_OWN = (
    "inputs",
    "target",
    "additional_forward_args",
    "feature_mask",
    "return_convergence_delta",
    "return_input_shape",
)
"""Arguments of Captum's `attribute` that are set for each graph, or that have no meaning for graphs of different sizes."""

_RANDOM = ("GradientShap", "KernelShap", "Lime", "NoiseTunnel", "ShapleyValueSampling")
"""Methods that draw from global random number generators; `ShapleyValues`, made from one of them, does not."""

_REFUSED = {
    "LayerAttribution": "it scores what a layer of the model holds, and not node features and edges",
    "NeuronAttribution": "it explains what a layer of the model holds, and not the model's output",
    "GuidedGradCam": "it lays the scores of a layer over an image, and a graph is none",
    "LRP": "it has no rules for message passing; use DeepLift",
    "FeaturePermutation": "it swaps values between instances, so that none would be explained for itself; use "
    "FeatureAblation",
}

_HOOKED: dict[str, tuple[type[nn.Module], ...]] = {
    "DeepLift": (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax),
    "GuidedBackprop": (nn.ReLU,),
    "Deconvolution": (nn.ReLU,),
}
"""Methods whose rule for activations works on modules, and the modules that it knows."""


@dataclass(frozen=True, init=False)
class Captum:
    """An attribution method of Captum (Kokhlikyan et al. 2020) on node features and edge masks.

    Every instance is one example for Captum: its features in play, all-zero baseline, and one mask of 1 with baseline 0
    for every edge in play, of which the two directions of an undirected edge share one. What Captum runs, steps of a path,
    noisy copies, or variants without a feature, runs as replicas of computation graphs in one batch.

    Methods that draw random numbers (`GradientShap`, `ShapleyValueSampling`, `NoiseTunnel`, `Lime`, `KernelShap`) take them
    from global generators, so they run one instance at a time, seeded by `seed` and the instance; the generators come back
    as they were. `DeepLift`, `DeepLiftShap`, `GuidedBackprop` and `Deconvolution` work on a copy of the model and see
    activations that are modules (`nn.ReLU`) alone; a warning names those that they miss. Refused are methods that score
    layers or neurons, `LRP`, `GuidedGradCam`, and `FeaturePermutation`, which swaps values between instances.

    Where the method can tell how far its scores are from adding up to score(input) − score(baseline),
    `extras["completeness_error"]` says so for every instance; on average over samples, where it draws some.

    Attributes:
        method: a class of `captum.attr`, or its name.
        node_mask_type: `attributes` scores each feature of each node; `object` a factor of 1 on all features of a node, and
            `common_attributes` one on a feature of all nodes, both with baseline 0; `None` no features.
        edge_mask_type: `object`, or `None` for no edge scores.
        objective: the scalar to explain, see `gnn_xai.extend.Problem.score`. `raw` is what DeepLift's rules are exact
            for, on features alone: other objectives and edge masks multiply what varies with what varies.
        columns: further attributes to score, such as `"edge_attr"`, see `gnn_xai.explain`; they start from 0.
        options: further arguments of the method's constructor and of its `attribute`, such as `n_steps=20`; an
            `attribution_method=` is a class, too. `baselines=` is a row of features `[F]` that every node has, or several
            `[K, F]` for methods that take a distribution, with `node_mask_type="attributes"`; edges always start from 0.

    Raises:
        InputError: for a method that cannot be used on graphs, or an option that it does not have.

    Example:
        >>> from captum.attr import IntegratedGradients
        >>> import gnn_xai as gx
        >>> karate = gx.datasets.load("karate")
        >>> method = gx.Captum(IntegratedGradients, n_steps=20, node_mask_type=None)
        >>> explanations = gx.explain(karate.model, karate.data, method, index=[0, 16], progress=False)
        >>> bool(explanations.extras["completeness_error"].abs().max() < 0.05)
        True
    """

    method: type
    node_mask_type: NodeMaskType | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    objective: Objective = "margin"
    columns: Columns = None
    options: dict[str, Any] = field(default_factory=dict)

    summary: ClassVar[str] = "an attribution method of captum.attr"
    signed: ClassVar[bool] = True

    def __init__(
        self,
        method: type | str,
        /,  # some methods have an option of this name
        *,
        node_mask_type: NodeMaskType | None = "attributes",
        edge_mask_type: Literal["object"] | None = "object",
        objective: Objective = "margin",
        columns: Columns = None,
        **options: Any,
    ) -> None:
        if isinstance(method, str):
            method = _class_of(method)
        fields: dict[str, Any] = {
            "method": method,
            "node_mask_type": node_mask_type,
            "edge_mask_type": edge_mask_type,
        }
        fields |= {"objective": objective, "columns": columns, "options": options}
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        check_choices(self)
        _check(method, options)
        if "baselines" in options and node_mask_type != "attributes":
            raise InputError(
                f"baselines= are features of a node, so they need node_mask_type='attributes', got {node_mask_type!r}"
            )

    def __replace__(self, **changes: Any) -> Captum:
        """The same with other fields, as `copy.replace` asks for it."""
        fields = {name: getattr(self, name) for name in ("node_mask_type", "edge_mask_type", "objective", "columns")}
        fields |= {"method": self.method, "options": self.options, **changes}
        return Captum(fields.pop("method"), **fields.pop("options"), **fields)

    @property
    def name(self) -> str:
        """`captum.` and the method."""
        return f"captum.{self.method.__name__}"

    @property
    def stochastic(self) -> bool:
        """Whether the scores depend on the seed."""
        return any(_named(cls, "ShapleyValues", *_RANDOM) in _RANDOM for cls in _classes(self.method, self.options))

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        rule = next((name for cls in _classes(self.method, self.options) if (name := _named(cls, *_HOOKED))), None)
        session = replace(session, features=None) if rule is None else _for_hooks(session)
        inputs = Inputs(session, graphs, self.node_mask_type, self.edge_mask_type is not None)
        score = Score(session, inputs, target, self.objective, hooked=rule is not None)
        if rule is not None:
            _warn_of_missed(rule, session, graphs)
        method, options = _built(self.method, self.options, score)
        seeds = keyed_bits(session.seed, graphs.instance_key).tolist() if self.stochastic else None
        scores = inputs.zeros()

        def work(select: Tensor) -> None:
            values = inputs.of(select)
            arguments = {**options, **_baselines(method, values, self.options.get("baselines"))}
            if "internal_batch_size" in _parameters(method.attribute):
                arguments.setdefault("internal_batch_size", len(select))  # one point of the path at a time
            seed = None if seeds is None else seeds[int(select[0])]
            with _refusals(self.name), _seeded(seed, select.device), score:
                attributions = method.attribute(values, additional_forward_args=(select,), **arguments)
            if arguments.get("return_convergence_delta"):
                attributions, error = attributions
                errors = scores.extras.setdefault("completeness_error", prediction.new_zeros(len(graphs)))
                errors[select] = error.detach().to(errors).reshape(len(select), -1).mean(1)
            inputs.keep(scores, select, attributions)
            session.advance(len(select) / len(graphs))

        batches.for_each_batch(work, inputs.cost(), 0.0 if self.stochastic else session.limit)
        return scores


def _class_of(name: str) -> type:
    """The method of a name.

    Raises:
        InputError: if there is none.
    """
    module = need("captum.attr", "research", "attribution methods of Captum")
    methods = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, module.Attribution)
    }
    if name not in methods:
        raise unknown("method of captum.attr", name, sorted(methods))
    return methods[name]


# What Captum's method takes ##############################################################################################


def _named(cls: type, *names: str) -> str | None:
    """The first of the names that a class or one of its bases has."""
    return next((base.__name__ for base in cls.__mro__ if base.__name__ in names), None)


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a method by name, without `self`, `*args` and `**kwargs`."""
    parameters = inspect.signature(function).parameters
    return {k: p for k, p in parameters.items() if k != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _classes(method: Any, options: dict[str, Any]) -> list[type]:
    """A method and, where it works on another one, that one."""
    return [method, *([options["attribution_method"]] if "attribution_method" in options else [])]


def _check(method: Any, options: dict[str, Any]) -> None:
    """Compare a method and its options with what graphs allow.

    Raises:
        InputError: as in `Captum`.
    """
    attribution = need("captum.attr", "research", "attribution methods of Captum").Attribution
    known: dict[str, inspect.Parameter] = {}
    for cls in _classes(method, options):
        if not (isinstance(cls, type) and issubclass(cls, attribution)):
            raise InputError(f"expected a class such as captum.attr.IntegratedGradients, got {cls!r}")
        name = cls.__name__
        refused = _named(cls, *_REFUSED)
        if refused is not None:
            raise InputError(f"captum.attr.{name} cannot be used on graphs: {_REFUSED[refused]}")
        construct, attribute = _parameters(cls.__init__), _parameters(getattr(cls, "attribute", object.__init__))
        first = next(iter(construct))
        if first not in ("forward_func", "model", "attribution_method") or "inputs" not in attribute:
            raise InputError(
                f"captum.attr.{name} cannot be used on graphs: it does not attribute to tensors of a model"
            )
        takes = {**construct, **attribute}
        known |= {k: p for k, p in takes.items() if k not in (*_OWN, "forward_func", "model")}
        needed = (k for k, p in takes.items() if k in known and p.default is p.empty)
        missing = next((k for k in needed if k not in (*options, "baselines")), None)
        if missing is not None:
            raise InputError(f"captum.attr.{name} needs {missing}=, which has no default; pass gx.Captum({name}, ...)")
    for option in options:
        if option in _OWN:
            raise InputError(f"{option}= is not an option of gx.Captum: it is set for each graph; leave it out")
        if option not in known:
            raise unknown(f"option of captum.attr.{method.__name__}", option, known)


def _built(method: Any, options: dict[str, Any], score: Score) -> tuple[Any, dict[str, Any]]:
    """An object of the method on a score, and the options of its `attribute`."""
    made: Any = score
    rest: dict[str, Any] = {}
    for cls in reversed(_classes(method, options)):
        construct, attribute = _parameters(cls.__init__), _parameters(cls.attribute)
        made = cls(made, **{k: v for k, v in options.items() if k in construct and k != "attribution_method"})
        rest |= {k: v for k, v in options.items() if k in attribute and k != "baselines"}
    if "return_convergence_delta" in _parameters(made.attribute) and made.has_convergence_delta():
        rest["return_convergence_delta"] = True
    return made, rest


def _baselines(method: Any, values: tuple[Tensor, ...], rows: Any) -> dict[str, tuple[Tensor, ...]]:
    """The `baselines` of a method that takes them: feature rows that all nodes share, and 0 for edges.

    Raises:
        InputError: if the rows are not features of a node.
    """
    inner = getattr(method, "attribution_method", method)
    parameter = _parameters(inner.attribute).get("baselines")
    if parameter is None:
        return {}
    many = parameter.default is parameter.empty  # a distribution
    baselines = [value.new_zeros(1, *value.shape[1:]) for value in values]
    if rows is not None:
        width = values[0].size(2)
        features = torch.as_tensor(rows, dtype=values[0].dtype, device=values[0].device)
        if features.shape[-1:] != (width,) or features.dim() > 1 + many:
            shape = f"[{width}]" + (f" or [K, {width}]" if many else "")
            raise InputError(
                f"expected baselines= of shape {shape}, the features of a node, got {list(features.shape)}"
            )
        features = features.reshape(-1, 1, width)
        others = (zero.expand(len(features), *zero.shape[1:]) for zero in baselines[1:])
        baselines = [features.expand(-1, values[0].size(1), -1), *others]
    if many and len(baselines[0]) == 1:  # DeepLiftShap wants two
        baselines = [value.expand(2, *value.shape[1:]) for value in baselines]
    return {"baselines": tuple(value.contiguous() for value in baselines)}


# Around a call of Captum ##################################################################################################


def _for_hooks(session: Session) -> Session:
    """The session with a copy of the model, in which Captum may leave hooks, and with rows by instance."""
    problem = replace(session.problem, model=copy.deepcopy(session.problem.model))
    plan = None if session.plan is None else replace(session.plan, trim=False, shrink=False)
    return replace(session, problem=problem, plan=plan, features=None)


class _Activations(TorchDispatchMode):
    """Names of activations that are computed outside of the modules that a rule knows."""

    def __init__(self, model: nn.Module, known: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        prefix = type(model).__name__
        self.known = {f"{prefix}.{name}" for name, module in model.named_modules() if type(module) in known}
        self.names = {kind.__name__.lower() for kind in known}
        self.tracker = ModuleTracker()
        self.missed: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an activation outside of the modules."""
        name = func.overloadpacket.__name__.strip("_").replace("_", "")
        if name in self.names and not self.known & self.tracker.parents:
            self.missed.add(name)
        return func(*args, **(kwargs or {}))


def _warn_of_missed(rule: str, session: Session, graphs: ComputationGraphs) -> None:
    """Warn of activations that a rule does not see, because they are no modules."""
    first = torch.zeros(1, dtype=torch.int64, device=graphs.node.device)
    activations = _Activations(session.problem.model, _HOOKED[rule])
    with torch.no_grad(), session.model(session.replicas(graphs, first)) as model, activations.tracker, activations:
        model()
    if activations.missed:
        names = ", ".join(sorted(activations.missed))
        warn(
            f"{rule} knows activations that are modules alone, and the model calls {names} as functions, "
            "where it takes plain gradients; use modules such as torch.nn.ReLU(), one for each call"
        )


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, and put them back; nothing without a seed."""
    if seed is None:
        yield
        return
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - Captum draws from this one
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn Captum's refusals into errors of this package, and silence its warning of hooks, which are set in a copy.

    Raises:
        InputError: if Captum refuses an option, or a model.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Setting (forward, )?backward hooks", UserWarning)
        try:
            yield
        except AssertionError as error:
            raise InputError(f"{name} refuses its options: {' '.join(str(error).split())}") from error
        except RuntimeError as error:
            if "more than once" not in str(error):
                raise
            raise InputError(
                f"{name} cannot tell the calls of one activation module apart, and the model calls one several times; use "
                "a torch.nn.ReLU() for each call"
            ) from error
