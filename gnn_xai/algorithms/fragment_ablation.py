"""FragmentAblation: the drop of the objective when a whole fragment is removed."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gnn_xai.algorithms._ablation import ablate
from gnn_xai.algorithms._fragments import FragmentKind, check_replacement, fragments_of
from gnn_xai.algorithms.base import algorithm
from gnn_xai.core.engines.evaluate import Removal
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs
from gnn_xai.core.model.problem import Objective


@algorithm("fragment_ablation", "drop of the score when a whole fragment (group, ring, ...) is removed", signed=True)
class FragmentAblation:
    """Leave-one-fragment-out: score(graph) − score(graph without the fragment), for every fragment with nodes in play.

    The nodes of a fragment have equal shares of its score, 0 if they are in none. `extras["node_fragment_value"]` holds the
    whole score of each node's fragment, and `extras["node_fragment"]` its number (in the order of
    `gnn_xai.molecules.fragments.cut`), -1 for none. With `kind="bonds"` edges are scored.

    The explained node of a node-level task cannot leave the graph: its features are set to 0 (code 0 where they are
    integers) and its edges stay. Where nothing would be left of a graph, one node stays, with features 0 and without edges.

    Attributes:
        kind: what a fragment is. For molecules, data that carries `smiles`: `parts` (ring systems, functional groups and
            the chains in between), `functional_groups`, `rings`, `brics` or `scaffold`, see
            `gnn_xai.molecules.fragments.cut`. For any graph: `atoms` (single nodes), `bonds` (single edges). `auto`: the
            numbers in `data.fragment` `[N]` (-1 for none) where the data carries them, `parts` of a molecule, and single
            nodes of any other graph.
        removal: `structural` takes the nodes and their edges out, of the pooling too; `message` sets their features to 0
            and multiplies the messages of their edges by 0.
        replacement: `carbon` removes nothing and gives the atoms of the fragment the features of neutral carbons in their
            place: same bonds, aromaticity and ring, the hydrogens that the valence leaves room for and the hybridisation
            that follows. For features of `gnn_xai.molecules.featurizers`, which are recognised by value; with others set
            `data.x_neutral` `[N, F]`.
        objective: the scalar compared, see `gnn_xai.extend.Problem.score`.
    """

    kind: FragmentKind = "auto"
    removal: Removal = "structural"
    replacement: Literal["carbon"] | None = None
    objective: Objective = "margin"

    def __post_init__(self) -> None:
        check_replacement(self)

    def attribute(self, session: Session, graphs: ComputationGraphs, target: Tensor, prediction: Tensor) -> Scores:
        return ablate(self, session, fragments_of(session, graphs, self.kind, self.replacement), target, prediction)
