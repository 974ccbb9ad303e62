"""Algorithms: small frozen objects of hyper-parameters with one method. State lives in the engines' tensors."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import numpy as np
from torch import Tensor
from typing_extensions import dataclass_transform

from gnn_xai._checks import is_one_of, number, positive_integer
from gnn_xai.core.engines.scored import NODE_MASK_TYPES, NodeMaskType
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.graphs.spelling import EdgeType, title_of
from gnn_xai.errors import InputError, unknown


class Attributing(Protocol):
    """The one method that an algorithm's class writes; the decorator `algorithm` adds the rest."""

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        """Scores for all nodes and edges of B computation graphs.

        Args:
            session: problem, seed and budget.
            graphs: B computation graphs.
            target: `[B]` class or column explained.
            prediction: `[B, C]` the model's output on the full graph.
        """
        ...


@runtime_checkable
class Algorithm(Attributing, Protocol):
    """What `gnn_xai.explain` runs; see `CONTRIBUTING.md` for how to add one.

    Attributes:
        name: the name in the registry.
        summary: one line for lists.
        signed: scores are attributions of any sign and scale (`True`), or masks in [0, 1] (`False`).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    signed: ClassVar[bool]


OfType = Mapping[str, NodeMaskType] | Sequence[str]

Columns = Mapping[Any, NodeMaskType | OfType] | Sequence[str] | str | None
"""The field `columns` of an algorithm: names of attributes, each with its type of mask; names alone mean `attributes`. Those
of one node type or relation are listed under it, `{"paper": ["year"], ("user", "rates", "item"): ["edge_attr"]}`.
"""

REGISTRY: dict[str, type] = {}
"""Every algorithm of the package by name; filled in `gnn_xai/algorithms/__init__.py`, never by a user's class."""

T = TypeVar("T", bound=type)


@dataclass_transform(frozen_default=True)
def algorithm(
    name: str,
    summary: str,
    *,
    signed: bool,
    stochastic: bool = False,
    uses_model: bool = True,
    edge_masks: bool = True,
    one_pass: bool = False,
    any_model: bool = True,
) -> Callable[[T], T]:
    """Class decorator that makes an algorithm of a class with `attribute`: a frozen dataclass that refuses unknown
    hyper-parameters, and values that a `bool` or `Literal` annotation does not allow. Nothing is registered.

    Args:
        name, summary, signed: see `Algorithm`.
        stochastic: the scores depend on the seed.
        uses_model: the scores depend on the model, as those of everything but a baseline should.
        edge_masks: edge masks are used, so they must reach the model's layers; see `masks_edges`.
        one_pass: the model runs on each instance once at most, so a faster way to run it is not sought for few of them.
        any_model: it explains every model; `False` for one that needs layers of a kind.
    """

    def decorate(cls: T) -> T:
        own_check = getattr(cls, "__post_init__", None)

        def __post_init__(self: Any) -> None:
            check_choices(self)
            if own_check is not None:
                own_check(self)

        cls.__post_init__ = __post_init__
        cls = dataclasses.dataclass(frozen=True)(cls)
        cls.name, cls.summary, cls.signed = name, summary, signed
        cls.stochastic, cls.uses_model, cls.edge_masks, cls.one_pass = stochastic, uses_model, edge_masks, one_pass
        cls.any_model = any_model
        construct = cls.__init__
        fields = [f.name for f in dataclasses.fields(cls)]

        def __init__(self: Any, *args: Any, **hyper: Any) -> None:
            for key in hyper:
                if key not in fields:
                    raise unknown(f"hyper-parameter of {cls.__name__}", key, fields)
            construct(self, *args, **hyper)

        __init__.__signature__ = inspect.signature(construct)  # pyright: ignore[reportFunctionMemberAccess]
        __init__.__doc__ = None
        cls.__init__ = __init__
        cls.connect = _connect
        return cls

    return decorate


def _connect(self: Any, *_: Any) -> None:
    """Refuse PyG's `Explainer`, which calls this first on an algorithm.

    Raises:
        InputError: always; it takes algorithms of this package in another form.
    """
    raise InputError(
        f"torch_geometric.explain.Explainer takes algorithms of this package as gnn_xai.pyg.algorithm({self!r}), "
        f"got {type(self).__name__} itself"
    )


def get(algorithm: str | Attributing | type[Attributing], **hyper: Any) -> Algorithm:
    """An algorithm from its name or class and hyper-parameters; an algorithm object comes back as it is.

    Raises:
        InputError: for an unknown name or hyper-parameter, or another kind of object.
    """
    if isinstance(algorithm, str):
        if algorithm not in REGISTRY:
            raise unknown("algorithm", algorithm, REGISTRY)
        return REGISTRY[algorithm](**hyper)
    if isinstance(algorithm, type):
        algorithm = cast(Any, algorithm)(**hyper) if hasattr(algorithm, "attribute") else algorithm
    if not isinstance(algorithm, Algorithm):
        raise InputError(
            f"expected an algorithm such as gnn_xai.GNNExplainer(), or its name, got {type(algorithm).__name__}"
        )
    return algorithm


def stochastic(algorithm: Algorithm) -> bool:
    """True if the scores depend on the seed."""
    return getattr(algorithm, "stochastic", False)


def uses_model(algorithm: Algorithm) -> bool:
    """True if the scores depend on the model."""
    return getattr(algorithm, "uses_model", True)


def one_pass(algorithm: Algorithm) -> bool:
    """True if the model runs on each instance once at most."""
    return getattr(algorithm, "one_pass", False)


def needs_fit(algorithm: Algorithm) -> bool:
    """True if it has to be fitted over many instances before it explains any."""
    return getattr(algorithm, "needs_fit", False)


def any_model(algorithm: Algorithm) -> bool:
    """True if it explains every model, and needs no layers of a kind."""
    return getattr(algorithm, "any_model", True)


def removal(algorithm: Algorithm) -> str:
    """How an element of score 0 is removed: its message multiplied by 0 (`message`), or the graph rebuilt (`structural`)."""
    return getattr(algorithm, "removal", "message")


def masks_edges(algorithm: Algorithm) -> bool:
    """True if edge masks must reach every layer of the model: unless the algorithm declares otherwise, if it scores edges
    (`edge_mask_type`) or removes messages (`removal`), and always if it has neither field.
    """
    if not getattr(algorithm, "edge_masks", True):
        return False
    if hasattr(algorithm, "edge_mask_type"):
        return algorithm.edge_mask_type is not None  # type: ignore[attr-defined]
    return removal(algorithm) == "message"


def describe(algorithm: Algorithm) -> dict[str, Any]:
    """Name and hyper-parameters, ready for JSON: classes and functions by name, tensors and arrays as lists."""
    if hasattr(algorithm, "describe"):  # a fitted one says what it was fitted on, too
        return algorithm.describe()  # type: ignore[attr-defined]
    fields = dataclasses.fields(algorithm) if dataclasses.is_dataclass(algorithm) else ()
    values = {field.name: getattr(algorithm, field.name) for field in fields}
    if not values.get("columns", True):
        del values["columns"]
    return {"name": algorithm.name, **_plain(values)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (Tensor, np.ndarray)):
        return _plain(value.tolist())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    # A place in memory would make the files of two equal runs differ.
    return getattr(value, "__qualname__", None) or re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def require_positive(owner: object, *names: str, integer: bool = False) -> None:
    """Check that fields are positive and finite.

    Raises:
        InputError: naming the first that is not.
    """
    for name in names:
        value, what = getattr(owner, name), f"{type(owner).__name__}({name}=)"
        positive_integer(value, what) if integer else number(value, what, "(0, inf)")


def require_number(owner: object, *names: str) -> None:
    """Check that fields are finite numbers, at least 0.

    Raises:
        InputError: naming the first that is not.
    """
    for name in names:
        number(getattr(owner, name), f"{type(owner).__name__}({name}=)", "[0, inf)")


def check_choices(owner: Any) -> None:
    """Check the fields that are declared as a `bool` or as a `Literal`, and that nodes, edges or both are scored.

    Raises:
        InputError: naming the first field that is wrong.
    """
    cls = type(owner)
    choices = _choices_of(cls)
    for field in dataclasses.fields(owner):
        allowed, value = choices.get(field.name, ()), getattr(owner, field.name)
        if allowed and not is_one_of(value, allowed):
            words = ", ".join(map(repr, allowed))
            raise InputError(f"expected {cls.__name__}({field.name}=) as one of {words}, got {value!r}")
    columns = _columns_of(owner)
    masks = [getattr(owner, name) for name in ("node_mask_type", "edge_mask_type") if hasattr(owner, name)]
    if masks and not any(masks) and not columns:
        raise InputError(f"{cls.__name__} has neither node_mask_type nor edge_mask_type, so nothing to explain")


def columns_of(algorithm: Algorithm) -> dict[str, NodeMaskType]:
    """The attributes that an algorithm scores beside `x` and the edges, each with its type of mask."""
    return dict(getattr(algorithm, "columns", None) or {})


def _columns_of(owner: Any) -> dict[str, NodeMaskType]:
    """The field `columns`, which becomes a dictionary.

    Raises:
        InputError: if it is none, or a type is not among those that the algorithm has.
    """
    columns = getattr(owner, "columns", None)
    if columns is None:
        return {}
    names = [columns] if isinstance(columns, str) else columns
    if not isinstance(names, Mapping):
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise InputError(
                f"expected {type(owner).__name__}(columns=) as names of attributes, or a dictionary of names and types of "
                f"mask such as {{'edge_attr': 'attributes'}}, got {columns!r}"
            )
        names = dict.fromkeys(names, "attributes")
    names = _titled(owner, names)
    allowed = getattr(type(owner), "column_types", NODE_MASK_TYPES)
    for name, kind in names.items():
        if kind not in allowed:
            words = ", ".join(map(repr, allowed))
            raise InputError(
                f"expected {type(owner).__name__}(columns={{{name!r}: ...}}) as one of {words}, got {kind!r}"
            )
        last = name.rpartition(".")[2]
        if last in ("x", "edge_index"):
            field = "node_mask_type" if last == "x" else "edge_mask_type"
            raise InputError(f"expected attributes beside x and edge_index in columns=, got {name!r}; use {field}=")
    object.__setattr__(owner, "columns", dict(names))
    return dict(columns_of(owner))


def _titled(owner: Any, columns: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes by name, those that are listed under a node type or a relation by title.

    Raises:
        InputError: if what is listed there are no names.
    """
    titled: dict[str, Any] = {}
    for key, value in columns.items():
        if isinstance(key, str) and not isinstance(value, (Mapping, list, tuple)):
            titled[key] = value
            continue
        relation = isinstance(key, tuple) and len(key) == 3 and all(isinstance(name, str) for name in key)
        names = value if isinstance(value, Mapping) else dict.fromkeys(value, "attributes") if _are_names(value) else {}
        if not (relation or isinstance(key, str)) or not names:
            raise InputError(
                f"expected {type(owner).__name__}(columns=) with names of attributes listed under a node type or relation, "
                f"such as {{'paper': ['year'], ('user', 'rates', 'item'): ['edge_attr']}}, got {{{key!r}: {value!r}}}"
            )
        titled |= {title_of(cast("str | EdgeType", key), name): kind for name, kind in names.items()}
    return titled


def _are_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


@cache
def _choices_of(cls: type) -> dict[str, tuple[Any, ...]]:
    """The values that the fields of a class may have, where their annotations list them."""
    try:
        return {name: _choices(hint) for name, hint in get_type_hints(cls).items()}
    except NameError:  # declared with names of a function, which are out of reach
        return {}


def _choices(hint: Any) -> tuple[Any, ...]:
    """The values that an annotation allows; empty where it does not list them."""
    if hint is bool:
        return (True, False)
    if hint is type(None):
        return (None,)
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        parts = [_choices(part) for part in get_args(hint)]
        return tuple(itertools.chain(*parts)) if all(parts) else ()
    return ()
