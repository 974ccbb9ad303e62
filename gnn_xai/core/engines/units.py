"""The values of an attribute as units that share one score: rows, values, or columns of all rows of an instance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnn_xai.core.arrays.segments import as_rows
from gnn_xai.core.engines.scored import Scored
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs


@dataclass(frozen=True, eq=False)
class Units:
    """K units of an attribute of B computation graphs.

    Attributes:
        column: the attribute.
        of: the unit of each value; -1 for what is in none.
        owner: the instance of each unit, sorted.
        row: its key of random numbers among the rows; -1 where it has values of all rows.
        feature: its column; 0 for a whole row.
        instances: B.
    """

    column: Scored
    of: Int[Tensor, "rows features"]
    owner: Int[Tensor, " units"]
    row: Int[Tensor, " units"]
    feature: Int[Tensor, " units"]
    instances: int

    @classmethod
    def among(cls, session: Session, graphs: ComputationGraphs, column: Scored, zeros: bool) -> Units:
        """The units in play of an attribute; without `zeros`, those alone that hold a value other than 0."""
        elements, tied = graphs.rows(column.name), session.rows_tied(graphs, column)
        values = as_rows(graphs.graphs.masked(column.name)[elements.id])
        feature = torch.arange(values.size(1), device=values.device).expand_as(values)
        inside = elements.in_play.unsqueeze(1).expand_as(values)
        common = column.type == "common_attributes"
        place = (elements.owner if common else tied).unsqueeze(1) * max(values.size(1), 1)
        place = place.expand_as(values) if column.type == "object" else place + feature
        if not zeros:
            inside = inside & torch.isin(place, place[inside & (values != 0)])
        distinct, unit = torch.unique(place[inside], return_inverse=True)
        at, feature = distinct // max(values.size(1), 1), distinct % max(values.size(1), 1)
        of = torch.full_like(place, -1).masked_scatter(inside, unit)
        if common:
            return cls(column, of, at, torch.full_like(at, -1), feature, len(graphs))
        return cls(column, of, elements.owner[at], session.row_key(graphs, column)[at], feature, len(graphs))

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def _widest(self) -> int:
        return self.of.size(1)

    def scores(self, values: Float[Tensor, " units"]) -> Float[Tensor, "rows width"]:
        """One number a unit in the layout of `Scores.columns`; 0 for what is in none."""
        if self.column.type == "common_attributes":
            return values.new_zeros(self.instances, self._widest).index_put((self.owner, self.feature), values)
        of = self.of[:, :1] if self.column.type == "object" else self.of
        return torch.cat([values, values.new_zeros(1)])[of]
