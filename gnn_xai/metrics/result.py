"""The result of a metric: a value for every instance, and the mean of those for which it is defined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Result:
    """A metric over B instances.

    Attributes:
        name: of the metric.
        values: `[B]`, NaN where the metric is not defined.
        better: `higher` or `lower`.
        pooled: it is one number θ for all instances together, and `values` are the influence of each on it, θ + B ∂θ/∂wᵢ:
            their mean is θ, and standard error, bootstrap and paired differences of a mean apply to θ.

    >>> import torch
    >>> result = Result("demo", torch.tensor([0.5, torch.nan, 1.0]), "higher")
    >>> result.mean, result.count, result.undefined
    (0.75, 2, 1)
    """

    name: str
    values: Tensor
    better: Literal["higher", "lower"]
    pooled: bool = False

    @property
    def defined(self) -> Tensor:
        """The values of the instances for which the metric is defined, `[count]`."""
        return self.values[~self.values.isnan()]

    @property
    def count(self) -> int:
        """The denominator: instances for which the metric is defined."""
        return len(self.defined)

    @property
    def undefined(self) -> int:
        """Instances for which it is not."""
        return len(self.values) - self.count

    @property
    def mean(self) -> float:
        """Mean over `count` instances; NaN if there are none."""
        return float(self.defined.double().mean()) if self.count else float("nan")

    @property
    def stderr(self) -> float:
        """Standard error of the mean; NaN below two instances."""
        return float(self.defined.double().std() / self.count**0.5) if self.count > 1 else float("nan")

    def __repr__(self) -> str:
        missing = f", undefined for {self.undefined}" if self.undefined else ""
        return f"{self.name} {self.mean:.4f} ± {self.stderr:.4f} (n={self.count}{missing}, {self.better} is better)"
