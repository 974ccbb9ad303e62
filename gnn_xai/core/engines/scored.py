"""What is scored beside edge existence: attributes of nodes, edges and graphs, by name."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

from gnn_xai.core.graphs.columns import Level

NodeMaskType = Literal["object", "attributes", "common_attributes"]
NODE_MASK_TYPES: tuple[NodeMaskType, ...] = ("object", "attributes", "common_attributes")


@dataclass(frozen=True)
class Scored:
    """An attribute of the data that gets scores.

    Attributes:
        name: of the attribute.
        level: what a row of it belongs to.
        type: one score for each row (`object`), for each value of each row (`attributes`), or for each value of all rows of
            an instance together (`common_attributes`).
    """

    name: str
    level: Level
    type: NodeMaskType

    @classmethod
    def features(cls, type: NodeMaskType) -> Scored:
        """The node features `x`."""
        return cls("x", "node", type)

    @property
    def key(self) -> int:
        """What random numbers of this attribute are keyed by beside its rows."""
        return zlib.crc32(self.name.encode())
