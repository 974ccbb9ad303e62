"""Integer attributes: codes that embeddings look up, or numbers that the model casts.

A mask cannot multiply a code, but it can multiply what an embedding makes of it. So what is masked are factors, one for each
code of each node (or edge, or graph) and all 1, and a factor multiplies the row that its code is looked up as. To know which
code a row belongs to, whatever way the model took it there (a column, a transposed copy, one table with an offset for each
column), codes are replaced by traceable *placeholders*: numbers too large for codes, one for each place of an attribute. A
hook reads the placeholders that reach an embedding and gives it their codes.

Integers that a model casts to floating point are numbers, if it gives the same on floating-point numbers, and neither casts
those to integers nor compares them with some, as it would with codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gnn_xai.core.inputs.hooks import Hook, after, before, hooked
from gnn_xai.errors import GnnXaiError

_BITS = 32  # of a placeholder that are left for what is added to a code


class Coded(NamedTuple):
    """An attribute of a union: codes, and a factor for each, of the same shape."""

    codes: Integer[Tensor, " rows ..."]
    factor: Float[Tensor, " rows ..."]


@dataclass(frozen=True)
class Embeddings:
    """What a model does with codes.

    Attributes:
        names: the modules that look them up.
        why: what codes are to the model where masks cannot multiply what becomes of them; empty if they can.
    """

    names: tuple[str, ...] = ()
    why: str = ""


class Placeholders:
    """Numbers in place of codes. Number k, from 1 on, is k · 2³², and less than 2³¹ may be added to it; numbers below that
    stand for themselves, with a factor of 1.

    Attributes:
        values: placeholders of each attribute by name, numbered through all of them.
    """

    def __init__(self, coded: Mapping[str, Coded]) -> None:
        self.values: dict[str, Tensor] = {}
        first, factor = 1, next(iter(coded.values())).factor
        for name, (codes, _) in coded.items():
            number = torch.arange(first, first + codes.numel(), device=codes.device).reshape(codes.shape)
            self.values[name], first = number << _BITS, first + codes.numel()
        zero, one = torch.zeros(1, dtype=torch.int64, device=factor.device), factor.new_ones(1)
        self._codes = torch.cat([zero, *(codes.reshape(-1).long() for codes, _ in coded.values())])
        self._factor = torch.cat([one, *(factor.reshape(-1) for _, factor in coded.values())])

    def read(
        self, values: Int[Tensor, " *shape"]
    ) -> tuple[Int[Tensor, " *shape"], Float[Tensor, " *shape"], Int[Tensor, " *shape"]]:
        """Codes, factors and numbers of placeholders."""
        number = (values + (1 << (_BITS - 1))) >> _BITS
        place = number.reshape(-1)
        codes = self._codes.index_select(0, place).reshape(values.shape) + (values - (number << _BITS))
        return codes, self._factor.index_select(0, place).reshape(values.shape), number


class Lookups:
    """Hooks on embeddings: placeholders that come in are replaced by codes, and what is looked up is multiplied by factors.

    Attributes:
        placeholders: of the forward pass at hand; `None` where it runs on codes.
        hooks: for as long as placeholders are to be read.
        guard: notes which embeddings get placeholders, while a model is examined.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.placeholders: Placeholders | None = None
        self.guard: PlaceholderGuard | None = None
        self._factor: Tensor | None = None
        self.hooks: list[Hook] = []
        for name in names:
            module = model.get_submodule(name)
            self.hooks.append(before(module, self._before(name)))
            if isinstance(module, nn.Embedding):
                self.hooks.append(after(module, self._after))

    def _before(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self.placeholders is None:
                return None
            arguments = dict(zip(("input", "offsets", "per_sample_weights"), args, strict=False)) | kwargs
            if self.guard is not None:
                self.guard.paused = True
            arguments["input"], factor, number = self.placeholders.read(arguments["input"])
            if self.guard is not None:
                if bool(number.any()):
                    self.guard.embeddings.append(name)
                self.guard.paused = False
            self._factor = factor
            if isinstance(module, nn.EmbeddingBag):
                weights, factor = arguments.get("per_sample_weights"), factor.to(module.weight.dtype)
                arguments["per_sample_weights"] = factor if weights is None else weights * factor
            return (), arguments

        return hook

    def _after(self, module: nn.Module, args: Any, out: Tensor) -> Tensor | None:
        if self.placeholders is None:
            return None
        assert self._factor is not None
        return out * self._factor.unsqueeze(-1).to(out.dtype)


def embeddings_of(
    model: nn.Module,
    codes: Integer[Tensor, " rows ..."],
    dtype: torch.dtype,
    run: Callable[[Tensor], Tensor],
    agrees: Callable[[Tensor], bool],
) -> Embeddings:
    """Find out which embeddings look up codes, and that nothing else is done with them.

    Args:
        model: the user's.
        codes: of an attribute.
        dtype: of the factors.
        run: the model's output on other integers in place of the codes.
        agrees: whether an output is that on the codes.
    """
    lookups = Lookups(model, [name for name, module in model.named_modules() if _looks_up(module)])
    ones = torch.ones(codes.shape, dtype=dtype, device=codes.device)
    lookups.placeholders = Placeholders({"": Coded(codes, ones)})
    lookups.guard = guard = PlaceholderGuard()
    try:
        with torch.no_grad(), hooked(lookups.hooks), guard:
            again = run(lookups.placeholders.values[""])
    except UsedOtherwise as error:
        return Embeddings(why=f"codes that the model hands to {error}")
    except Exception as error:
        reason = error.__cause__ or error  # as the model raised it
        return Embeddings(why=f"codes of which the model makes something else ({type(reason).__name__}: {reason})")
    if not guard.embeddings:
        return Embeddings(why="codes that the model does not look up")
    if not agrees(again):
        return Embeddings(why="codes that the model uses in another way, too")
    return Embeddings(tuple(dict.fromkeys(guard.embeddings)))


def are_numbers(
    values: Float[Tensor, " rows ..."], run: Callable[[Tensor], Tensor], agrees: Callable[[Tensor], bool]
) -> bool:
    """Whether a model takes integers for numbers: it gives the same on floating-point `values` in their place, and does not
    make codes of those.

    Args:
        values: the integers as floating-point numbers.
        run, agrees: as in `embeddings_of`.
    """
    try:
        with torch.enable_grad(), _Casts():
            again = run(values.clone().requires_grad_())
    except Exception:  # it looks them up, one-hot encodes them or takes them for positions
        return False
    return agrees(again.detach())


def _looks_up(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding) or (isinstance(module, nn.EmbeddingBag) and module.mode == "sum")


class UsedOtherwise(GnnXaiError):
    """A model made something of codes that is no lookup in an embedding."""


_FIRST = (
    "_to_copy", "_unsafe_view", "alias", "cat", "clone", "constant_pad_nd", "detach", "empty_like", "expand", "flip",
    "full_like", "gather", "index", "index_select", "masked_fill", "masked_select", "new_empty", "new_full", "new_ones",
    "new_zeros", "ones_like", "permute", "repeat", "reshape", "roll", "select", "slice", "split", "split_with_sizes",
    "squeeze", "stack", "sub", "sub_", "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "zeros_like",
)  # fmt: skip

_HOLDERS: dict[str, tuple[int, ...]] = {
    "add": (0, 1),
    "add_": (0, 1),
    "copy_": (0, 1),
    "index_put": (0, 2),
    "index_put_": (0, 2),
    "where": (1, 2),
    **dict.fromkeys(_FIRST, (0,)),
}
"""Operations that move numbers from place to place, or add the same to some, and which of their arguments hold them."""


class PlaceholderGuard(TorchDispatchMode):
    """Raises `UsedOtherwise` when an operation is about to do anything with placeholders but move them: before it runs,
    because an index out of range is the end of a CUDA context.

    Attributes:
        paused: placeholders are being read.
        embeddings: names of embeddings that got some.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self.embeddings: list[str] = []
        self._called = _Called()

    def __enter__(self) -> PlaceholderGuard:
        self._called.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._called.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        with torch._C.DisableTorchFunction():  # `_called` listens to the model alone
            moves = self.paused or _moves(name, args, kwargs)
        if not moves:
            raise UsedOtherwise(self._called.name or name)
        return func(*args, **kwargs)


def _moves(name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operation has no placeholders among its arguments, or only moves them."""
    holders = {position for position, value in enumerate(args) if _has_placeholders(value)}
    if name in ("add", "add_") and (len(holders) == 2 or kwargs.get("alpha", 1) != 1):
        return not holders
    if name == "_to_copy" and kwargs.get("dtype") not in (None, torch.int64):
        return not holders
    return holders <= set(_HOLDERS.get(name, ())) and not _has_placeholders(kwargs)


def _has_placeholders(value: Any) -> bool:
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.dtype == torch.int64]
    return any(tensor.numel() > 0 and int(tensor.max()) >> (_BITS - 1) > 0 for tensor in tensors)


_TO_CODES = (
    "bool",
    "bucketize",
    "byte",
    "char",
    "eq",
    "int",
    "isin",
    "long",
    "ne",
    "searchsorted",
    "short",
    "to",
    "type",
)
"""Functions that make of numbers what no gradient passes, as models do with codes."""


class _Casts(TorchFunctionMode):
    """Raises `UsedOtherwise` when numbers that are followed are cast to integers, or compared with some for equality."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        codes = name in _TO_CODES and isinstance(out, Tensor) and not out.is_floating_point()
        if codes and any(isinstance(value, Tensor) and value.requires_grad for value in args):
            raise UsedOtherwise(name)
        return out


class _Called(TorchFunctionMode):
    """Remembers the name of the function that Python called last."""

    name = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.name = "an index" if name == "__getitem__" else name
        return func(*args, **(kwargs or {}))
