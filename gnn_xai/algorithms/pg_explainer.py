"""PGExplainer: one network, fitted over many instances, that says how much each edge matters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize
from torch.special import entr

from gnn_xai._checks import number
from gnn_xai.algorithms._fit import Fits
from gnn_xai.algorithms.base import algorithm, require_number, require_positive
from gnn_xai.core.arrays.keyed_random import keyed_uniform
from gnn_xai.core.arrays.segments import segment_mean, segment_sum
from gnn_xai.core.engines.fit import Lesson, Losses, Parameters, dense_layer
from gnn_xai.core.engines.hidden_states import node_states
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import MaskedModel
from gnn_xai.errors import InputError

HIDDEN = 64
"""Units of the network's hidden layer, as in the paper's code."""


@algorithm(
    "pg_explainer",
    "edge masks by one network that is fitted over many instances (Luo et al. 2020)",
    signed=False,
    stochastic=True,
)
class PGExplainer(Fits):
    """PGExplainer (Luo et al., NeurIPS 2020, eq. 6–11): a network that is fitted once and then explains any instance.

    The network maps the hidden states of an edge's two nodes, and for node- and edge-level tasks those of the explained
    nodes, to a logit ω. While it is fitted, edges get masks of a concrete distribution, sigmoid((ω + log ε − log(1 − ε))/τ),
    and −log p(target | masks) + `edge_size`·Σm + `edge_ent`·mean H(m) is minimised, summed over the instances; afterwards
    an edge's mask is sigmoid(ω).

    ```python
    fitted = gx.PGExplainer().fit(model, data, index=train)
    explanations = gx.explain(model, data, fitted, index=test)
    ```

    Departures: the two directions of an undirected edge have the mean of their logits and one random number, where the
    paper's code averages two masks; hidden states are those of the whole graph.

    Attributes:
        epochs: passes over all instances.
        lr: learning rate of Adam.
        edge_size, edge_ent: coefficients of the regularisers.
        temperature: τ in the first and after the last epoch; falls geometrically between them.
        sample_bias: ε is uniform in [`sample_bias`, 1 − `sample_bias`].
        batch_size: instances of a step; `None` for all of them.
        layer: the layer whose output is the hidden state, by its name in `model.named_modules()`; `None` for all
            message-passing layers side by side, as in the models of the paper.
        normalize: what a layer returns is scaled to unit length, as in the models of the paper, which do so themselves.
            Large hidden states saturate the network before it has learned anything.
    """

    epochs: int = 30
    lr: float = 0.003
    edge_size: float = 0.05
    edge_ent: float = 1.0
    temperature: tuple[float, float] = (5.0, 2.0)
    sample_bias: float = 0.01
    batch_size: int | None = None
    layer: str | None = None
    normalize: bool = True

    def __post_init__(self) -> None:
        require_positive(self, "epochs", *(["batch_size"] if self.batch_size is not None else []), integer=True)
        require_positive(self, "lr")
        require_number(self, "edge_size", "edge_ent")
        number(self.sample_bias, "sample_bias", "(0, 0.5)")
        if not isinstance(self.temperature, tuple) or len(self.temperature) != 2:
            raise InputError(f"expected temperature as a pair of numbers, got {self.temperature!r}")
        for value in self.temperature:
            number(value, "temperature", "(0, inf)")

    def states(self, session: Session, graphs: ComputationGraphs) -> Tensor:
        states = node_states(session, graphs, self.layer)
        return torch.cat([normalize(state) for state in states] if self.normalize else states, 1)

    def start(self, session: Session, width: int, roots: int) -> Parameters:
        hidden, hidden_bias = dense_layer(session, 0, HIDDEN, width * (2 + roots))
        out, out_bias = dense_layer(session, 1, 1, HIDDEN)
        return {"hidden": hidden, "hidden_bias": hidden_bias, "out": out, "out_bias": out_bias}

    def loss(
        self,
        session: Session,
        model: MaskedModel,
        lesson: Lesson,
        replicas: Replicas,
        parameters: Parameters,
        epoch: int,
    ) -> Losses:
        source, chunk = replicas.source, lesson.chunk
        in_play = source.edge_in_play[replicas.edge].nonzero().flatten()
        edge, owner = replicas.edge[in_play], replicas.edge_owner[in_play]
        logit = _logits(session, source, edge, lesson.states, parameters)
        keys = source.instance_key[replicas.instance[owner]], session.edge_key(source)[edge]
        drawn = keyed_uniform(session.seed, *keys, torch.full_like(edge, epoch))
        drawn = self.sample_bias + (1 - 2 * self.sample_bias) * drawn
        first, last = self.temperature
        temperature = first * (last / first) ** (epoch / self.epochs)
        mask = ((logit + torch.logit(drawn).to(logit)) / temperature).sigmoid()
        ones = mask.new_ones(len(replicas.edge))
        out = model(edge_mask=ones.index_copy(0, in_play, mask))
        select, size = replicas.instance, len(replicas)
        return {
            "prediction": session.problem.loss(out, lesson.target[select], chunk.prediction[select], "nll"),
            "edge_size": self.edge_size * segment_sum(mask, owner, size),
            "edge_ent": self.edge_ent * segment_mean(_entropy(mask), owner, size),
        }

    def scores(
        self,
        session: Session,
        graphs: ComputationGraphs,
        states: Tensor,
        parameters: Parameters,
    ) -> Scores:
        edge = graphs.edge_in_play.nonzero().flatten()
        mask = _logits(session, graphs, edge, states, parameters).sigmoid()
        return Scores(edge=mask.new_zeros(len(graphs.edge)).index_copy(0, edge, mask))


def _logits(
    session: Session,
    graphs: ComputationGraphs,
    edge: Tensor,
    states: Tensor,
    parameters: Parameters,
) -> Tensor:
    """The network's answer for some edges; the mean over both directions, where they share a score.

    Its first layer is linear in the hidden states, so it runs on nodes, and edges add up what their nodes got.
    """
    sender, receiver = (graphs.edge_index + graphs.node_ptr[graphs.edge_owner])[:, edge]
    width = states.size(1)
    blocks = parameters["hidden"].split(width, 1)
    roots = 0 if graphs.roots is None else graphs.roots.size(1)
    if len(blocks) != 2 + roots:
        raise InputError(
            f"this PGExplainer was fitted on instances of {len(blocks) - 2} explained nodes each, got instances of {roots}; "
            "fit it for the same task"
        )
    as_sender, as_receiver = states @ blocks[0].t(), states @ blocks[1].t()
    common = parameters["hidden_bias"].expand(len(graphs), -1)
    if graphs.roots is not None:
        for root, block in zip((graphs.roots + graphs.node_ptr[:-1].unsqueeze(1)).unbind(1), blocks[2:], strict=True):
            common = common + states[root] @ block.t()
    common = common[graphs.edge_owner[edge]]

    def answer(one: Tensor, other: Tensor) -> Tensor:
        hidden = (as_sender.index_select(0, one) + as_receiver.index_select(0, other) + common).relu()
        return linear(hidden, parameters["out"], parameters["out_bias"]).squeeze(1)

    there = answer(sender, receiver)
    tied, own = session.tied(graphs), torch.arange(len(graphs.edge), device=edge.device)
    shared = (tied != own).index_put((tied[tied != own],), torch.ones((), dtype=torch.bool, device=edge.device))[edge]
    return torch.where(shared, (there + answer(receiver, sender)) / 2, there)


def _entropy(mask: Tensor) -> Tensor:
    """Entropy in nats of yes or no with these probabilities, kept off 0 and 1 as in the paper's code."""
    mask = 0.99 * mask + 0.005
    return entr(mask) + entr(1 - mask)
