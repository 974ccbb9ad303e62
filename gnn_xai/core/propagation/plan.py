"""Which way each call of a forward pass goes."""

from __future__ import annotations

from dataclasses import dataclass, field

from gnn_xai.core.propagation.coefficients import Coefficients, Form, Path


@dataclass(frozen=True, eq=False)
class Route:
    """Which way one call goes.

    Attributes:
        layer: its name.
        path: see `Path`.
        why: why not a better one; empty if it is the best.
        form: of its messages; `None` for `messages`.
        layout: what they are multiplied by.
    """

    layer: str
    path: Path
    why: str = ""
    form: Form | None = None
    coefficients: Coefficients | None = None


@dataclass(eq=False)
class Plan:
    """How a forward pass propagates.

    Attributes:
        routes: one for each call, in order.
        trim: compute only rows that can still reach a target.
        shrink: rows that are no longer needed are dropped from the layers' outputs, too, and not filled with zeros.
    """

    routes: list[Route] = field(default_factory=list)
    trim: bool = False
    shrink: bool = False

    @property
    def fuses(self) -> bool:
        """Whether any call is fused."""
        return any(route.path != "messages" for route in self.routes)

    def share(self) -> None:
        """Let calls with equal layouts have one."""
        distinct: list[Coefficients] = []
        for number, route in enumerate(self.routes):
            if route.coefficients is None:
                continue
            same = next((coefficients for coefficients in distinct if coefficients.same_as(route.coefficients)), None)
            if same is None:
                distinct.append(route.coefficients)
            else:
                self.routes[number] = Route(route.layer, route.path, route.why, route.form, same)

    @property
    def coefficients(self) -> list[Coefficients]:
        """The distinct layouts."""
        return list({id(r.coefficients): r.coefficients for r in self.routes if r.coefficients is not None}.values())
