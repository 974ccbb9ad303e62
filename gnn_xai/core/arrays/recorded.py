"""The operations of a step, recorded once and repeated without the Python that started them.

A step of small operations spends most of its time in Python: modules, hooks, autograd. What it asks of PyTorch is the same
in every call, so it is written down once, as a CUDA graph does on a GPU, and repeated in order. What does not depend on
anything that the step changes is computed once, and what nothing reads is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WORTH = 20
"""Calls of a step that repay its recording."""

_READS = {"__array__", "__dlpack__", "data_ptr", "numpy", "storage", "tolist", "untyped_storage"}
"""Methods of a tensor that hand its values to Python past PyTorch's dispatcher."""

_OF_SHAPES = {"empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like"}
"""Operations that read shapes and no values."""


class Repetition:
    """A step that is called many times: by its recorded operations, once these were seen to do the same.

    Args:
        step: works on the same tensors in place in every call.
        expected: about how often it will be called.
    """

    def __init__(self, step: Callable[[], None], expected: int) -> None:
        self._step, self._expected = step, expected
        self._calls = 0
        self._recorded: Recorded | None = None

    def run(self, times: int, after: Callable[[], None] = lambda: None) -> None:
        """Call the step `times` times, and `after` after each."""
        for _ in range(times):
            self._once()
            after()

    def _once(self) -> None:
        self._calls += 1
        if self._calls == 2 and self._expected >= WORTH:  # the first call sets things up
            self._record()
        elif self._recorded is None:
            self._step()
        elif self._calls > 3:
            self._recorded()
        elif not self._recorded.agrees_with(self._step):
            self._recorded = None

    def _record(self) -> None:
        recorder = Recorder()
        try:
            recorder.record(self._step)
        except Exception:  # what it uses may not run under a recorder; if it does not run at all, the next line says so
            self._step()
            return
        with suppress(NotRepeatableError):
            self._recorded = Recorded(recorder)


class NotRepeatableError(Exception):
    """A step may ask for other operations the next time."""


@dataclass
class _Operation:
    """One operation with its arguments, and what it returned."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    @property
    def name(self) -> str:
        return self.function.overloadpacket.__name__

    @property
    def inputs(self) -> list[Tensor]:
        return _tensors((self.args, self.kwargs))

    @property
    def outputs(self) -> list[Tensor]:
        return _tensors(self.out)

    @property
    def written(self) -> list[Tensor]:
        """The arguments that it writes to."""
        arguments = self.function._schema.arguments
        values = [*zip([a for a in arguments if not a.kwarg_only], self.args, strict=False)]
        values += [(a, self.kwargs[a.name]) for a in arguments if a.name in self.kwargs]
        return _tensors([value for argument, value in values if argument.is_write])

    @property
    def depends_on_values(self) -> bool:
        """Whether it returns anything but tensors, or tensors of a shape that depends on values."""
        if self.name == "index":  # by flags or by positions
            return any(value.dtype in (torch.bool, torch.uint8) for value in self.inputs[1:])
        numbers = any(isinstance(leaf, (bool, int, float)) for leaf in tree_leaves(self.out))
        return numbers or torch.Tag.dynamic_output_shape in self.function.tags


class Recorder(TorchDispatchMode):
    """Writes down all operations while it is open, and the tensors whose values Python reads past the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[_Operation] = []
        self.read: list[Tensor] = []

    def record(self, step: Callable[[], None]) -> None:
        """Call a step."""
        with _Reads(self.read), self:
            step()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.operations.append(_Operation(func, args, kwargs, out))
        return out


class _Reads(TorchFunctionMode):
    """Keeps tensors whose values Python reads past the dispatcher."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _READS:
            self.tensors += _tensors(args)
        return func(*args, **(kwargs or {}))


class Recorded:
    """Recorded operations, which a call repeats.

    Args:
        recorder: has recorded one call of the step.

    Raises:
        NotRepeatableError: if the step reads values of tensors that it changes, draws random numbers, or makes tensors of a
            size that depends on values.

    Attributes:
        state: the tensors that the step changes and that were there before.
    """

    def __init__(self, recorder: Recorder) -> None:
        operations = recorder.operations
        if not all(isinstance(operation.function, torch._ops.OpOverload) for operation in operations):
            raise NotRepeatableError("an operation is made of others")
        self.state = _state(operations)
        self._repeat = _function(_needed(_changing(operations, recorder.read)))

    def __call__(self) -> None:
        """Repeat the step."""
        with torch.no_grad():
            self._repeat()

    def agrees_with(self, step: Callable[[], None]) -> bool:
        """Whether one more call of the step does the same, bit by bit; the step's own result stays."""
        before = [value.clone() for value in self.state]
        step()
        expected = [value.clone() for value in self.state]
        for value, old in zip(self.state, before, strict=True):
            value.copy_(old)
        try:
            self()
            same = all(map(torch.equal, self.state, expected))
        except Exception:  # of a shape that changed, say
            same = False
        for value, new in zip(self.state, expected, strict=True):
            value.copy_(new)
        return same


def _state(operations: Iterable[_Operation]) -> list[Tensor]:
    """The tensors that operations write to and that lie in memory from before."""
    before: set[int] = set()
    made: set[int] = set()
    state: dict[int, Tensor] = {}
    for operation in operations:
        before.update({_memory(value) for value in operation.inputs} - made)
        state.update({id(value): value.detach() for value in operation.written if _memory(value) in before})
        made.update({_memory(value) for value in operation.outputs} - before)
    return list(state.values())


def _changing(operations: Iterable[_Operation], read: Sequence[Tensor]) -> list[_Operation]:
    """The operations whose result is not the same in every repetition, where Python `read` some tensors."""
    operations = list(operations)
    written = {_memory(value) for operation in operations for value in operation.written}
    changing: set[int] = set()  # by identity; recorded operations keep their tensors

    def changes(value: Tensor) -> bool:
        return id(value) in changing or _memory(value) in written

    kept = []
    for operation in operations:
        if torch.Tag.nondeterministic_seeded in operation.function.tags:
            raise NotRepeatableError(f"{operation.name} draws random numbers")
        inputs = [] if operation.name in _OF_SHAPES else operation.inputs
        if not any(map(changes, [*inputs, *operation.outputs])):
            continue
        if operation.depends_on_values:
            raise NotRepeatableError(f"{operation.name} depends on values")
        changing.update(map(id, operation.outputs))
        kept.append(operation)
    if any(map(changes, read)):
        raise NotRepeatableError("Python reads values")
    return kept


def _needed(operations: Sequence[_Operation]) -> list[_Operation]:
    """The operations that write to something, or whose output a later one reads."""
    needed: list[_Operation] = []
    read: set[int] = set()
    for operation in reversed(operations):
        if operation.written or any(id(value) in read for value in operation.outputs):
            read.update(map(id, operation.inputs))
            needed.append(operation)
    return needed[::-1]


def _function(operations: Sequence[_Operation]) -> Callable[[], None]:
    """Python code that calls operations in order, and lets go of each tensor after its last use."""
    last = {id(value): number for number, operation in enumerate(operations) for value in operation.inputs}
    names: dict[int, str] = {}  # of tensors: v... for those that are made, c... for those that are there
    known: dict[str, Any] = {}
    lines: list[str] = []

    def constant(value: Any) -> str:
        name = f"c{len(known)}"
        known[name] = value
        return name

    def argument(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(argument, value))}]"
        if not isinstance(value, Tensor):
            return repr(value) if value is None or type(value) in (bool, int) else constant(value)
        if id(value) not in names:
            names[id(value)] = constant(value.detach())
        return names[id(value)]

    def variable(value: Any) -> str:
        if not isinstance(value, Tensor) or id(value) in names:  # an operation in place returns its argument
            return "_"
        names[id(value)] = f"v{len(names)}"
        return names[id(value)]

    for number, operation in enumerate(operations):
        arguments = [*map(argument, operation.args)]
        arguments += [f"{name}={argument(value)}" for name, value in operation.kwargs.items()]
        line = f"{constant(operation.function)}({', '.join(arguments)})"
        if isinstance(operation.out, Tensor):
            line = f"{variable(operation.out)} = {line}"
        elif operation.outputs:
            line = f"{''.join(f'{variable(value)}, ' for value in operation.out)} = {line}"
        tensors = [*operation.inputs, *operation.outputs]
        done = dict.fromkeys(names[id(value)] for value in tensors if last.get(id(value), number) == number)
        lines += [line, *(f"del {name}" for name in done if name.startswith("v"))]
    body = "".join(f"    {line}\n" for line in lines or ["pass"])
    exec(f"def repeat():\n{body}", known)
    return known["repeat"]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _memory(value: Tensor) -> int:
    """What tensors share that lie in the same memory."""
    return value.untyped_storage()._cdata if value.layout == torch.strided else id(value)
