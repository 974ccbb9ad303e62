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

from gnn_xai.algorithms.base import require_one_of, require_some_mask
from gnn_xai.core.arrays import batches
from gnn_xai.core.arrays.keyed_random import keyed_bits
from gnn_xai.core.arrays.segments import segment_ranks
from gnn_xai.core.engines.gradients import NO_GRADIENT
from gnn_xai.core.engines.scores import NODE_MASK_TYPES, NodeMaskType, Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import WHOLE_GRAPH, ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import MaskedModel, require_float_features
from gnn_xai.core.model.problem import OBJECTIVES, Objective
from gnn_xai.errors import InputError, unknown, warn
from gnn_xai.optional import need

_GIVEN = (
    "inputs",
    "target",
    "additional_forward_args",
    "feature_mask",
    "return_convergence_delta",
    "return_input_shape",
)
"""Arguments of Captum's `attribute` that are known here, or that have no meaning for graphs of different sizes."""

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
        method: a class of `captum.attr`.
        node_mask_type: `attributes` scores each feature of each node; `object` a factor of 1 on all features of a node, and
            `common_attributes` one on a feature of all nodes, both with baseline 0; `None` no features.
        edge_mask_type: `object`, or `None` for no edge scores.
        objective: the scalar to explain, see `gnn_xai.extend.Problem.score`. `raw` is what DeepLift's rules are exact
            for, on features alone: other objectives and edge masks multiply what varies with what varies.
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
        >>> found = gx.explain(karate.model, karate.data, method, index=[0, 16], progress=False)
        >>> bool(found.extras["completeness_error"].abs().max() < 0.05)
        True
    """

    method: type
    node_mask_type: NodeMaskType | None = "attributes"
    edge_mask_type: Literal["object"] | None = "object"
    objective: Objective = "margin"
    options: dict[str, Any] = field(default_factory=dict)

    summary: ClassVar[str] = "an attribution method of captum.attr"
    signed: ClassVar[bool] = True

    def __init__(
        self,
        method: type,
        /,  # some methods have an option of this name
        *,
        node_mask_type: NodeMaskType | None = "attributes",
        edge_mask_type: Literal["object"] | None = "object",
        objective: Objective = "margin",
        **options: Any,
    ) -> None:
        fields = {"method": method, "node_mask_type": node_mask_type, "edge_mask_type": edge_mask_type}
        for name, value in {**fields, "objective": objective, "options": options}.items():
            object.__setattr__(self, name, value)
        require_one_of(self, "node_mask_type", (*NODE_MASK_TYPES, None))
        require_one_of(self, "edge_mask_type", ("object", None))
        require_one_of(self, "objective", OBJECTIVES)
        require_some_mask(self)
        _check(method, options)
        if "baselines" in options and node_mask_type != "attributes":
            raise InputError(
                f"baselines= are features of a node, so they need node_mask_type='attributes', got {node_mask_type!r}"
            )

    def __replace__(self, **changes: Any) -> Captum:
        """The same with other fields, as `copy.replace` asks for it."""
        fields = {name: getattr(self, name) for name in ("node_mask_type", "edge_mask_type", "objective")}
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
        inputs = _Inputs(session, graphs, self.node_mask_type, self.edge_mask_type is not None)
        score = _Score(session, inputs, target, self.objective, hooked=rule is not None)
        if rule is not None:
            _warn_of_missed(rule, session, graphs)
        method, options = _built(self.method, self.options, score)
        seeds = keyed_bits(session.seed, graphs.instance_key).tolist() if self.stochastic else None
        masks = inputs.masks()

        def work(select: Tensor) -> None:
            values = inputs.of(select)
            given = {**options, **_baselines(method, values, self.options.get("baselines"))}
            if "internal_batch_size" in _parameters(method.attribute):
                given.setdefault("internal_batch_size", len(select))  # one point of the path at a time
            seed = None if seeds is None else seeds[int(select[0])]
            with _telling(self.name), _seeded(seed, select.device), score:
                found = method.attribute(values, additional_forward_args=(select,), **given)
            if given.get("return_convergence_delta"):
                found, error = found
                every = masks.extras.setdefault("completeness_error", prediction.new_zeros(len(graphs)))
                every[select] = error.detach().to(every).reshape(len(select), -1).mean(1)
            inputs.keep(masks, select, found)
            session.advance(len(select) / len(graphs))

        batches.run(work, inputs.cost(), 0.0 if self.stochastic else session.limit)
        return masks


# What Captum's method takes ##############################################################################################


def _named(cls: type, *names: str) -> str | None:
    """The first of the names that a class or one of its bases has."""
    return next((base.__name__ for base in cls.__mro__ if base.__name__ in names), None)


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a method by name, without `self`, `*args` and `**kwargs`."""
    found = inspect.signature(function).parameters
    return {k: p for k, p in found.items() if k != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


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
        known |= {k: p for k, p in takes.items() if k not in (*_GIVEN, "forward_func", "model")}
        missing = [
            k for k, p in takes.items() if k in known and p.default is p.empty and k not in (*options, "baselines")
        ]
        if missing:
            raise InputError(
                f"captum.attr.{name} needs {missing[0]}=, which has no default; pass gx.Captum({name}, ...)"
            )
    for option in options:
        if option in _GIVEN:
            raise InputError(f"{option}= is not an option of gx.Captum: it is set for each graph; leave it out")
        if option not in known:
            raise unknown(f"option of captum.attr.{method.__name__}", option, known)


def _built(method: Any, options: dict[str, Any], score: _Score) -> tuple[Any, dict[str, Any]]:
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
    """Where paths start and what is put in place of what is removed: feature rows that all nodes have, and 0.

    Raises:
        InputError: if the rows are not features of a node.
    """
    inner = getattr(method, "attribution_method", method)
    parameter = _parameters(inner.attribute).get("baselines")
    if parameter is None:
        return {}
    many = parameter.default is parameter.empty  # a distribution
    found = [value.new_zeros(1, *value.shape[1:]) for value in values]
    if rows is not None:
        width = values[0].size(2)
        given = torch.as_tensor(rows, dtype=values[0].dtype, device=values[0].device)
        if given.shape[-1:] != (width,) or given.dim() > 1 + many:
            shape = f"[{width}]" + (f" or [K, {width}]" if many else "")
            raise InputError(f"expected baselines= of shape {shape}, the features of a node, got {list(given.shape)}")
        given = given.reshape(-1, 1, width)
        found = [given.expand(-1, values[0].size(1), -1), *(zero.expand(len(given), -1) for zero in found[1:])]
    if many and len(found[0]) == 1:  # DeepLiftShap wants two
        found = [value.expand(2, *value.shape[1:]) for value in found]
    return {"baselines": tuple(value.contiguous() for value in found)}


# Instances as Captum's examples ##########################################################################################


class _Inputs:
    """Features and edge masks of instances as tensors with one row an instance, padded to the largest.

    What is padded is read by nothing. Elements stand in the order of their keys, so that random numbers that Captum draws by
    position follow them.
    """

    def __init__(
        self, session: Session, graphs: ComputationGraphs, node_type: NodeMaskType | None, edges: bool
    ) -> None:
        self.session, self.graphs, self.edges = session, graphs, edges
        self.node_type: NodeMaskType | None = node_type
        self.dtype, self.width = session.problem.dtype, 0
        self.node_slot = self.edge_slot = torch.full_like(graphs.node, -1)
        if node_type is not None:
            self.width = require_float_features(session.problem, f"node_mask_type={node_type!r}")[:1].numel()
            place = graphs.node_in_play.nonzero().flatten()
            key = graphs.graphs.node_key[graphs.node[place]]
            self.node_slot[place] = segment_ranks(key, graphs.node_owner[place], len(graphs))
        if edges:
            first, unit = session.removable(graphs)
            slot = segment_ranks(session.edge_key(graphs)[first], graphs.edge_owner[first], len(graphs))
            self.edge_slot = torch.cat([slot, slot.new_full((1,), -1)])[unit]

    def cost(self) -> Tensor:
        """What an instance takes of a batch, `[B]`."""
        cost = self.session.cost(self.graphs)
        if not self.session.budget.in_bytes:
            return cost
        return cost + 4 * torch.finfo(self.dtype).bits // 8 * self.width * self.graphs.num_nodes

    def of(self, select: Tensor) -> tuple[Tensor, ...]:
        """The inputs of some instances: of nodes `[b, n, F]`, `[b, n]` or `[b, F]`, then of edges `[b, k]`."""
        replicas, size = self.graphs.replicas(select), len(select)
        found = []
        if self.node_type == "common_attributes":
            found.append(torch.ones(size, self.width, dtype=self.dtype, device=select.device))
        elif self.node_type is not None:
            slot = self.node_slot[replicas.node]
            shape = (size, int(slot.max()) + 1, *([self.width] if self.node_type == "attributes" else []))
            value = torch.ones(shape, dtype=self.dtype, device=select.device)
            if self.node_type == "attributes":
                assert replicas.features is not None
                here = slot >= 0
                value[replicas.node_owner[here], slot[here]] = replicas.features.reshape(len(slot), -1)[here]
            found.append(value)
        if self.edges:
            slot = self.edge_slot[replicas.edge]
            most = int(slot.max()) + 1 if len(slot) else 0
            found.append(torch.ones(size, max(most, 1), dtype=self.dtype, device=select.device))
        return tuple(value.requires_grad_() for value in found)

    def spread(self, replicas: Replicas, values: tuple[Tensor, ...]) -> tuple[Tensor | None, Tensor | None]:
        """Features `[ΣN, ...]` and edge mask `[ΣE]` of a union of replicas, from one row of inputs for each."""
        x = mask = None
        if self.node_type is not None:
            features, value, owner = replicas.features, values[0], replicas.node_owner
            assert features is not None
            rows, slot = features.reshape(len(replicas.node), -1), self.node_slot[replicas.node].unsqueeze(1)
            taken = value[owner] if self.node_type == "common_attributes" else value[owner, slot.squeeze(1)]
            if self.node_type != "attributes":
                taken = rows * (taken.unsqueeze(1) if self.node_type == "object" else taken)
            x = torch.where(slot >= 0, taken, rows).reshape(features.shape)
        if self.edges:
            slot = self.edge_slot[replicas.edge]
            mask = torch.where(slot >= 0, values[-1][replicas.edge_owner, slot], 1.0)
        return x, mask

    def masks(self) -> Scores:
        """Scores of 0 for all instances, to be filled."""
        masks, graphs = Scores(node_type=self.node_type), self.graphs
        if self.edges:
            masks.edge = torch.zeros(len(graphs.edge), dtype=self.dtype, device=graphs.edge.device)
        if self.node_type is not None:
            rows = len(graphs) if self.node_type == "common_attributes" else len(graphs.node)
            width = 1 if self.node_type == "object" else self.width
            masks.node = torch.zeros(rows, width, dtype=self.dtype, device=graphs.node.device)
        return masks

    def keep(self, masks: Scores, select: Tensor, scores: tuple[Tensor, ...]) -> None:
        """Write what Captum found for some instances."""
        replicas = self.graphs.replicas(select)
        if masks.edge is not None:
            slot = self.edge_slot[replicas.edge]
            here = (slot >= 0) & self.graphs.edge_in_play[replicas.edge]
            masks.edge[replicas.edge[here]] = scores[-1].detach()[replicas.edge_owner[here], slot[here]].to(self.dtype)
        if masks.node is not None and self.node_type == "common_attributes":
            masks.node[select] = scores[0].detach().to(self.dtype)
        elif masks.node is not None:
            slot = self.node_slot[replicas.node]
            here = slot >= 0
            found = scores[0].detach()[replicas.node_owner[here], slot[here]]
            masks.node[replicas.node[here]] = found.reshape(int(here.sum()), -1).to(self.dtype)


class _Score(nn.Module):
    """The objective `[R]` of replicas as a function of their inputs and of which instance each is, `[R]`.

    It is a module that holds the model where Captum looks for the model's activations.
    """

    def __init__(self, session: Session, inputs: _Inputs, target: Tensor, objective: Objective, hooked: bool) -> None:
        super().__init__()
        self.session, self.inputs, self.target, self.hooked = session, inputs, target, hooked
        self.objective: Objective = objective
        if hooked:
            self.model = session.problem.model
        self.opened: MaskedModel | None = None

    def __enter__(self) -> None:
        """Nothing is open yet."""

    def __exit__(self, *raised: Any) -> None:
        if self.opened is not None:
            opened, self.opened = self.opened, None
            opened.__exit__(*raised)

    def forward(self, *given: Tensor) -> Tensor:
        """Inputs as `_Inputs.of` makes them, `[R, ...]` each, and the instances."""
        *values, instance = given
        session, graphs = self.session, self.inputs.graphs
        if self.hooked:  # its halves have to run together
            mixes = session.alone or bool((graphs.hops[instance] == WHOLE_GRAPH).any())
            if len(instance) > 1 and mixes:
                raise InputError(
                    "the model mixes the graphs of a batch, or needs the whole graph, so an input cannot run beside its "
                    "baseline, as the method asks; use gx.Captum(captum.attr.IntegratedGradients)"
                )
            parts = [torch.arange(len(instance), device=instance.device)]
        else:
            parts = batches.batches(session.cost(graphs, instance), session.limit)
        found = torch.cat([self._run(instance[part], tuple(value[part] for value in values)) for part in parts])
        if torch.is_grad_enabled() and not found.requires_grad:
            warn(NO_GRADIENT)
        # Captum asks for the gradient of every input, and an isolated node has no edge that its score depends on.
        return found + sum(0 * value.flatten(1).sum(1) for value in values)

    def _run(self, instance: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        if self.opened is None or not torch.equal(self.opened.replicas.instance, instance):
            self.__exit__(None, None, None)
            self.opened = self.session.model(self.session.replicas(self.inputs.graphs, instance)).__enter__()
        x, mask = self.inputs.spread(self.opened.replicas, values)
        return self.session.problem.score(self.opened(edge_mask=mask, x=x), self.target[instance], self.objective)


# What goes on around #####################################################################################################


def _for_hooks(session: Session) -> Session:
    """The question about a copy of the model, in which Captum may leave what it likes, and with rows by instance."""
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
        """Look at every operation."""
        name = func.overloadpacket.__name__.strip("_").replace("_", "")
        if name in self.names and not self.known & self.tracker.parents:
            self.missed.add(name)
        return func(*args, **(kwargs or {}))


def _warn_of_missed(rule: str, session: Session, graphs: ComputationGraphs) -> None:
    """Say which activations a rule does not see, because they are no modules."""
    first = torch.zeros(1, dtype=torch.int64, device=graphs.node.device)
    seen = _Activations(session.problem.model, _HOOKED[rule])
    with torch.no_grad(), session.model(session.replicas(graphs, first)) as model, seen.tracker, seen:
        model()
    if seen.missed:
        warn(
            f"{rule} knows activations that are modules alone, and the model calls {', '.join(sorted(seen.missed))} as "
            "functions, where it takes plain gradients; use modules such as torch.nn.ReLU(), one for each call"
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
def _telling(name: str) -> Iterator[None]:
    """Captum's refusals as errors of this package; and nothing about hooks, which are set in a copy of the model.

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
