"""A plan: which path each call of a forward pass takes."""

from __future__ import annotations

from dataclasses import dataclass

from gnn_xai.core.propagation.coefficients import Coefficients, Form, Path


@dataclass(frozen=True, eq=False)
class Route:
    """The path that one call takes.

    Attributes:
        layer: its name.
        path: see `Path`.
        why: the reason for not taking a faster path; empty for the fastest.
        form: of its messages; `None` for `messages`.
        coefficients: the position of its coefficients in the plan's; `None` for `messages`.
        remaining: how many calls follow that depend on it one after the other: the hops that its output still travels.
    """

    layer: str
    path: Path
    why: str = ""
    form: Form | None = None
    coefficients: int | None = None
    remaining: int = 0


@dataclass(frozen=True, eq=False)
class Plan:
    """How a forward pass propagates.

    Attributes:
        routes: one for each call, in order.
        coefficients: the distinct ones among all calls.
        trim: compute only rows that can still reach a target.
        shrink: drop rows that are no longer needed from the layers' outputs, where else they are filled with zeros.
    """

    routes: tuple[Route, ...] = ()
    coefficients: tuple[Coefficients, ...] = ()
    trim: bool = False
    shrink: bool = False

    @property
    def fuses(self) -> bool:
        """Whether any call is fused."""
        return any(route.path != "messages" for route in self.routes)

    @property
    def is_chain(self) -> bool:
        """Whether each call depends on the one before it."""
        return all(route.remaining == len(self.routes) - 1 - number for number, route in enumerate(self.routes))
