"""The computation graph of several outputs that are explained together."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gnn_xai.core.engines.agreement import close
from gnn_xai.core.engines.look import Look
from gnn_xai.core.engines.prepare import Prepared
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.graphs.source import Graphs
from gnn_xai.core.model.joint import Joint


def computation_graph(prepared: Prepared, session: Session) -> tuple[ComputationGraphs, Float[Tensor, "1 numbers"]]:
    """The whole graph of a joint problem, in play as far as it can reach the rows, and the prediction.

    What lies further than the model's layers is in play, too, if other features there, or no messages, change the rows: a
    normalisation over all nodes, say.
    """
    problem, look = session.problem, prepared.look
    assert isinstance(problem, Joint)
    (chunk,) = prepared.chunks(session, torch.zeros(1, dtype=torch.int64, device=problem.graphs.device))
    graphs = chunk.graphs
    node, edge = _reach(problem.graphs, problem.read, look)
    if not look.complete or bool(node.all() & edge.all()):
        return graphs, chunk.prediction
    replicas = session.replicas(graphs, chunk.positions)
    with torch.no_grad(), session.model(replicas) as model:
        mask = edge.to(problem.dtype)
        outs = [model(edge_mask=mask)]
        if look.probe is not None and replicas.x is not None:
            inside = node.reshape(-1, *[1] * (replicas.x.dim() - 1))
            other = look.probe.x(problem.graphs, replicas.node_id)
            assert other is not None
            outs.append(model(edge_mask=mask, x=torch.where(inside, replicas.x, other)))
    if not all(bool(close(out, chunk.prediction).all()) for out in outs):
        return graphs, chunk.prediction
    depth = torch.where(node, 0, graphs.steps + 1)
    return replace(graphs, node_depth=depth, edge_in_play=edge), chunk.prediction


def _reach(
    graphs: Graphs, read: Bool[Tensor, " nodes"], look: Look
) -> tuple[Bool[Tensor, " nodes"], Bool[Tensor, " edges"]]:
    """The nodes and edges that can send something to the nodes that are read."""
    row, col = graphs.edge_index
    ways = [(row, col)] * (look.flow != "target_to_source") + [(col, row)] * (look.flow != "source_to_target")
    node, edge = read.clone(), torch.zeros_like(row, dtype=torch.bool)
    for step in range(look.steps):
        reached = node
        node = node.clone()
        for sender, receiver in ways:
            carries = reached[receiver]
            if look.followed is not None and graphs.types is not None:
                carries = carries & look.followed[step][graphs.types.edge_type]
            edge |= carries
            node[sender[carries]] = True
    return node, edge
