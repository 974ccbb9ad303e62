"""Options that commands share, and how their values are read. Nothing here imports torch before a command runs."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from gnn_xai.errors import InputError

if TYPE_CHECKING:
    from gnn_xai.cli.subjects import Subject

Algorithm = Annotated[str, typer.Option(help="One of `gnn-xai list`.")]
Weights = Annotated[Path | None, typer.Option(help="Your model's state_dict as a safetensors file.")]
Target = Annotated[int | None, typer.Option(help="Class to explain; by default the predicted one.")]
Mode = Annotated[
    str | None,
    typer.Option(
        help="multiclass_classification (the default), binary_classification (that of pairs) or regression; with your own "
        "model."
    ),
]
Returns = Annotated[
    str | None, typer.Option(help="What your own model returns: raw (the default), log_probs or probs.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter; repeatable.")
]
FitIndex = Annotated[
    str | None,
    typer.Option(help="What to fit an algorithm on that learns over many instances first, as in 300-349,400."),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that holds other files.")]

LONGEST_INDEX = 10_000_000  # a slip of the finger must not fill the memory

Ids = list[int] | list[tuple[int, int]]
"""Nodes, graphs or labelled pairs by number, or pairs of nodes."""


@dataclass(frozen=True)
class Choice:
    """The options that say what is explained: a data set's reference model, or a user's own model and data."""

    dataset: Annotated[str | None, typer.Option(help="A data set of `gnn-xai list`.")] = None
    model: Annotated[
        str | None, typer.Option(metavar="MODULE:FACTORY", help="Your model: a function that returns it.")
    ] = None
    weights: Weights = None
    data: Annotated[
        str | None, typer.Option(metavar="MODULE:FACTORY", help="Your data: Data, HeteroData, or a list of either.")
    ] = None
    index: Annotated[
        str | None,
        typer.Option(
            help="Nodes or graphs to explain, as in 300-349,400, or pairs of nodes, as in 3:17,4:5; by default all that the "
            "data names."
        ),
    ] = None
    target: Target = None
    task: Annotated[str | None, typer.Option(help="node, edge or graph; with your own model.")] = None
    node_type: Annotated[
        str | None, typer.Option(help="The type of the nodes that your own model predicts in HeteroData.")
    ] = None
    edge_type: Annotated[
        str | None, typer.Option(help="The relation that it predicts there, as in user,likes,item.")
    ] = None
    mode: Mode = None
    returns: Returns = None
    max_neighbors: Annotated[
        int | None, typer.Option(help="Follow at most this many of the edges into a node; by default all.")
    ] = None

    def check(self) -> Ids | None:
        """The chosen index, `None` for all, if the options go together.

        Raises:
            InputError: they do not: there has to be either a data set, or a model with data.
        """
        index = None if self.index is None else parse_index(self.index)
        if (self.dataset is None) == (self.model is None or self.data is None):
            raise InputError("expected either --dataset, or --model and --data; see --help")
        own = ("model", "data", "weights", "task", "node_type", "edge_type", "mode", "returns")
        surplus = [f"--{name.replace('_', '-')}" for name in own if getattr(self, name) is not None]
        if self.dataset is not None and surplus:
            raise InputError(f"--dataset brings its own model, data and task; leave out {', '.join(surplus)}")
        return index

    def subject(self) -> Subject:
        """Load what is explained."""
        from gnn_xai.cli import subjects

        if self.dataset is not None:
            return subjects.from_benchmark(self.dataset)
        assert self.model is not None
        return subjects.from_factories(
            self.model,
            self.data,
            subjects.model_config(self.task, self.mode, self.returns),
            self.weights,
            self.node_type,
            None if self.edge_type is None else parse_edge_type(self.edge_type),
        )


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each field of the dataclass `Choice`, which it takes as its first argument."""
    chosen = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=get_type_hints(Choice, include_extras=True)[field.name],
        )
        for field in fields(Choice)
    ]
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

    @wraps(command)
    def flat(**values: Any) -> None:
        choice = Choice(**{parameter.name: values.pop(parameter.name) for parameter in chosen})
        command(choice, **values)

    flat.__signature__ = inspect.Signature([*chosen, *own])  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in (*chosen, *own)}
    return flat


def parse_index(text: str, option: str = "--index") -> Ids:
    """Instance ids from a list of numbers and ranges, see `parse_numbers`, or from a list of pairs of nodes.

    >>> parse_index("300-303,400"), parse_index("3:17,4:5")
    ([300, 301, 302, 303, 400], [(3, 17), (4, 5)])

    Raises:
        InputError: something in the list is none of these, or they are mixed.
    """
    if ":" not in text:
        return parse_numbers(text, option)
    try:
        return [(int(first), int(second)) for first, second in (part.split(":") for part in text.split(","))]
    except ValueError:
        raise InputError(
            f"expected {option} as pairs of nodes such as 3:17,4:5, or as numbers and ranges such as 300-349,400, got "
            f"{text!r}"
        ) from None


def parse_edge_type(text: str) -> tuple[str, str, str]:
    """A relation of a heterogeneous graph.

    Raises:
        InputError: these are not three names.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) != 3 or not all(names):
        raise InputError(f"expected --edge-type as three names such as user,likes,item, got {text!r}")
    source, relation, target = names
    return source, relation, target


def parse_numbers(text: str, option: str) -> list[int]:
    """Instance ids, or seeds, from a list of numbers and ranges, both ends included.

    Raises:
        InputError: something in the list is neither a number nor a range, or a range runs backwards.
    """
    ids: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise InputError(f"expected {option} as numbers and ranges such as 300-349,400, got {text!r}") from None
        if high < low:
            raise InputError(f"expected ranges from low to high in {option}, got {part.strip()!r}")
        if len(ids) + high - low > LONGEST_INDEX:
            raise InputError(f"expected at most {LONGEST_INDEX:,} numbers in {option}, got {text!r}")
        ids.extend(range(low, high + 1))
    return ids


def parse_names(text: str, option: str) -> list[str]:
    """Names from a list with commas, each once."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InputError(f"expected {option} as names with commas between them, got {text!r}")
    return names


def parse_settings(texts: list[str] | None) -> dict[str, Any]:
    """Hyper-parameters by name, see `parse_setting`.

    Raises:
        InputError: a name comes twice.
    """
    settings: dict[str, Any] = {}
    for name, value in map(parse_setting, texts or ()):
        if name in settings:
            raise InputError(f"expected each hyper-parameter once, got --set {name}= twice")
        settings[name] = value
    return settings


def parse_setting(text: str) -> tuple[str, Any]:
    """A hyper-parameter from `name=value`; the value is a string unless it is a Python literal."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise InputError(f"expected --set NAME=VALUE such as epochs=200, got {text!r}")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
