"""What the first passes of a model over its data told about both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnn_xai.core.engines.verification import Neighborhoods, Probe
from gnn_xai.core.graphs.source import Flow, Graphs
from gnn_xai.core.propagation.plan import Plan
from gnn_xai.core.propagation.reach import Reach
from gnn_xai.errors import MaskingError, warn


@dataclass(frozen=True, eq=False)
class Look:
    """What a few forward passes told about a model and its data.

    Attributes:
        reach: how the calls of `propagate` depend on one another.
        flow: the direction in which they pass messages.
        complete: all that the model does with the edges is among its calls, and masks reach them.
        maskable: edge masks reach messages, and no edge is hidden from them or mistaken.
        silent: the model was not seen to use the edges.
        layers: layer, and reason why masks do not reach it, for every call.
        refusal: why edge masks cannot reach the model's layers; empty if they can.
        notes: sentences on layers that run on another graph.
        bytes_each: a first guess at the memory that a node or an edge takes.
        plan: which calls could be fused; `None` where the form of their messages was not looked at.
        probe: a second input; `None` where the model does not run on it.
        sample: `[S]` instances on which ways to run the model are tried.
        expected: `[N, ways, C]` the output for every node, for the user's input and for the probe; `[P, ways, C]` for pairs
            of nodes, `[G, 1, C]` for graphs.
        keys: `[P]` which pairs these are, sorted; `None` for nodes and graphs.
        known: `[G]` bool, the graphs that were run; `None` for nodes, of which all were.
        graphs: the data.
        neighborhoods: how computation graphs of nodes are cut out; `None` for graphs, which are their own.
        mixes: the instances of a batch see one another.
        followed: `[steps, R]` bool, in a heterogeneous graph the relations along which messages pass that have so many steps
            to go; `None` for all.
    """

    reach: Reach
    flow: Flow
    complete: bool
    maskable: bool
    silent: bool
    layers: tuple[tuple[str, str], ...]
    refusal: str
    notes: tuple[str, ...]
    bytes_each: float
    plan: Plan | None
    probe: Probe | None
    sample: Tensor
    expected: Tensor
    graphs: Graphs
    keys: Tensor | None = None
    known: Tensor | None = None
    neighborhoods: Neighborhoods | None = None
    mixes: bool = False
    followed: Tensor | None = None

    @property
    def steps(self) -> int:
        """The longest chain of calls of `propagate` over the graph's edges, in hops."""
        return self.reach.steps

    def predictions(self, index: Tensor) -> Tensor:
        """The output for instances, `[B, C]`."""
        return self.outputs_of(index)[:, 0]

    def outputs_of(self, index: Tensor) -> Tensor:
        """The output for instances, for the user's input and for the probe, `[B, ways, C]`."""
        return self.expected[places(self.graphs, self.keys, index)]

    def warn_of_masks(self, edge_masks: bool) -> None:
        """Warn of layers that edge masks do not reach, or of a model that uses no edges.

        Args:
            edge_masks: edge masks must reach the model's layers.

        Raises:
            MaskingError: if they cannot.
        """
        if edge_masks:
            if self.refusal:
                raise MaskingError(self.refusal)
            for sentence in self.notes:
                warn(f"not masked: {sentence}")
        elif self.silent:
            warn("the model sends no messages over edge_index (it never calls propagate), so no edge gets a score")


def keys_of(graphs: Graphs, index: Tensor) -> Tensor:
    """A number for each pair of nodes `[P, 2]`."""
    return index[:, 0] * graphs.num_nodes + index[:, 1]


def places(graphs: Graphs, keys: Tensor | None, index: Tensor) -> Tensor:
    """Where the outputs of instances are: of nodes and graphs in their order, of pairs in that of sorted keys."""
    return index if keys is None else torch.searchsorted(keys, keys_of(graphs, index))
