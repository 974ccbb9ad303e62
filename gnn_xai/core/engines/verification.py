"""Computation graphs on which the model gives what it gives on the full data, each as small as that allows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.engines.agreement import changes, close
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs import expansion
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.graphs.expansion import Cap
from gnn_xai.core.graphs.source import Flow, Graphs
from gnn_xai.core.inputs.features import by_row
from gnn_xai.core.model.interventions import MaskedModel


@dataclass(frozen=True, eq=False)
class Probe:
    """A second input beside the user's: rows of x dealt out anew and scaled at random, under a random edge mask.

    A dead ReLU hides what the border of a neighbourhood contributes until a mask brings it to life, so one input is not
    enough. Rows are those of the user, scaled down, so that they stay within what the model expects; some are 0, which
    ablations set features to, and which models take for a mark of padding, or of what is not known.

    Attributes:
        source: `[N]` the node whose features each node gets.
        factor: `[N]` in [0, 1), which multiplies them; `None` for codes, and without features.
        edge_mask: `[E]` in (0, 1); `None` where masks cannot reach all messages.
    """

    source: Int[Tensor, " nodes"]
    factor: Float[Tensor, " nodes"] | None
    edge_mask: Float[Tensor, " edges"] | None

    @classmethod
    def of(cls, graphs: Graphs, maskable: bool, dtype: torch.dtype, zeros: bool = True) -> Probe:
        """The probe of some data, with rows of zeros or without; the same in any order of its nodes and edges."""
        key, x = graphs.node_key, graphs.x
        drawn = keyed_uniform(0, key)
        source = torch.empty_like(key)
        for nodes in (slice(None),) if graphs.types is None else graphs.types.nodes:  # no type gets another's features
            at = torch.arange(graphs.num_nodes, device=graphs.device)[nodes]
            order = at[torch.argsort(drawn[at], stable=True)]
            source[order] = order.roll(1)
        factor = keyed_uniform(1, key) if x is not None and x.is_floating_point() else None
        if factor is not None and x is not None:
            factor = (factor.masked_fill(_silent(graphs, factor), 0) if zeros else factor).to(x.dtype)
        return cls(source, factor, keyed_uniform(2, graphs.edge_key).to(dtype) if maskable else None)

    def x(self, graphs: Graphs, node: Int[Tensor, " rows"]) -> Shaped[Tensor, "rows ..."] | None:
        """The features of nodes of the data under the probe."""
        if graphs.x is None:
            return None
        x = graphs.x[self.source[node]]
        return x if self.factor is None else x * self.factor[node].reshape(-1, *[1] * (x.dim() - 1))


def _silent(graphs: Graphs, draw: Float[Tensor, " nodes"]) -> Bool[Tensor, " nodes"]:
    """Nodes whose features are 0 in a probe, by a random number of each: one in eight, one that sends and
    one that receives among them.
    """
    edges = graphs.edge_index[:, graphs.edge_index[0] != graphs.edge_index[1]]
    silent = draw < 1 / 8
    for ends in edges:
        if len(ends):
            silent |= draw == draw[ends].min()
    return silent


@dataclass(frozen=True, eq=False)
class Neighborhoods:
    """How computation graphs of nodes are cut out and verified.

    Attributes:
        graphs: the data.
        steps: message-passing steps of the model, in hops.
        flow: the direction in which its layers pass messages.
        probe: a second input, or `None` where the model does not run on it.
        scale: of a typical output.
        rounding: how far outputs are apart that differ by the order of edges alone.
        followed: the relations along which messages pass that have so many steps to go; `None` for all.
        whole: why every instance needs the whole graph; empty where neighbourhoods may be enough.
    """

    graphs: Graphs
    steps: int
    flow: Flow
    probe: Probe | None
    scale: float
    rounding: float = 0.0
    followed: Bool[Tensor, "steps relations"] | None = None
    whole: str = ""

    def around(
        self,
        index: Int[Tensor, "instances ..."],
        scope: Int[Tensor, " instances"] | int,
        limit: int | None = None,
        cap: Cap | None = None,
    ) -> ComputationGraphs:
        """The computation graphs of nodes, or pairs of nodes, all or each with its `scope`, not verified."""
        if isinstance(scope, int):
            scope = torch.full((len(index),), scope, device=index.device)
        scope = torch.full_like(scope, len(expansion.SCOPES) - 1) if self.whole else scope
        return expansion.around_nodes(self.graphs, index, self.steps, scope, self.flow, limit, cap, self.followed)

    def agree(
        self, out: Float[Tensor, "instances ways columns"], expected: Float[Tensor, "instances ways columns"]
    ) -> Bool[Tensor, " instances"]:
        """Whether the outputs of an instance are those expected, in each way."""
        change = changes(expected)
        change = None if change is None else change.repeat_interleave(expected.size(1))
        same = close(out.flatten(0, 1), expected.flatten(0, 1), self.scale, self.rounding, change)
        return same.reshape(len(out), -1).all(1)

    def verified(
        self,
        session: Session,
        index: Int[Tensor, "instances ..."],
        expected: Float[Tensor, "instances ways columns"],
        scopes: range,
        *,
        limit: int | None = None,
        cap: Cap | None = None,
        local: bool = True,
        whole: Bool[Tensor, " instances"] | None = None,
    ) -> tuple[ComputationGraphs, Int[Tensor, " instances"]]:
        """Computation graphs by the first of `scopes` that gives what is `expected`, or else by the last.

        Edges that a cap left out are not added again: where it left out some, the first of `scopes` is taken, unless no
        neighbourhood is enough for this model.

        Args:
            session: how to run the model.
            index: nodes, or pairs of nodes.
            expected: the output on the full data, for the user's input and for the probe.
            scopes: which of `SCOPES` to try.
            limit, cap: see `gnn_xai.core.graphs.expansion.around_nodes`.
            local: some neighbourhood is enough for most nodes.
            whole: instances that get the whole graph, whatever is enough.

        Returns:
            them, with `exact` set, and the scope of each.
        """
        scope = torch.zeros(len(index), dtype=torch.int64, device=index.device)
        exact = torch.zeros_like(scope, dtype=torch.bool)
        pending = torch.arange(len(index), device=index.device)
        graphs = None
        for step in scopes:
            scope[pending] = step if whole is None else torch.where(whole[pending], len(expansion.SCOPES) - 1, step)
            graphs = self.around(index[pending], scope[pending], limit, cap)
            same = self.agree(outputs(session, graphs, self.probe), expected[pending])
            capped = torch.zeros_like(same) if graphs.capped is None else graphs.capped
            exact[pending] = same & ~capped
            pending = pending[~(same | capped & local)]
            if len(pending) == 0:
                break
        if graphs is None or len(graphs) < len(index):
            graphs = self.around(index, scope, limit, cap)
        return replace(graphs, exact=exact), scope


def outputs(
    session: Session, graphs: ComputationGraphs, probe: Probe | None
) -> Float[Tensor, "instances ways columns"]:
    """The model's output on computation graphs, for the user's input and for the probe."""
    return session.outputs(graphs, lambda model, way: under_probe(model, way, probe), 1 if probe is None else 2)


def under_probe(
    model: MaskedModel, way: Int[Tensor, " replicas"], probe: Probe | None
) -> Float[Tensor, "replicas columns"]:
    """The output of replicas, those of `way` 1 under the probe."""
    mask, x = inputs_under(model, way, probe)
    return model(edge_mask=mask, x=x)


def inputs_under(
    model: MaskedModel, way: Int[Tensor, " replicas"], probe: Probe | None
) -> tuple[Float[Tensor, " edges"] | None, Shaped[Tensor, "nodes ..."] | None]:
    """The edge mask and the features of replicas, those of `way` 1 under the probe; `None` for what is as in the data."""
    replicas = model.replicas
    if probe is None:
        return None, None
    probed = way[replicas.node_owner] > 0
    mask = None
    if probe.edge_mask is not None:
        mask = torch.where(way[replicas.edge_owner] > 0, probe.edge_mask[replicas.edge_id], 1.0)
    return mask, _mixed(model, replicas, probed, probe)


def _mixed(
    model: MaskedModel, replicas: Replicas, probed: Bool[Tensor, " nodes"], probe: Probe
) -> Shaped[Tensor, "nodes ..."] | None:
    """Features of replicas, those of `probed` nodes under the probe."""
    graphs, node = replicas.source.graphs, replicas.node_id
    if graphs.x is None:
        return None
    source = torch.where(probed, probe.source[node], node)
    if probe.factor is None:
        return graphs.x[source]
    factor = torch.where(probed, probe.factor[node], 1.0)
    if model.features is not None:
        return by_row(model.features, source, factor)
    x = graphs.x[source]
    return x * factor.reshape(-1, *[1] * (x.dim() - 1))
