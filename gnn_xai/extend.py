"""What an author of an algorithm imports, in one place; `CONTRIBUTING.md` shows an algorithm that needs nothing else."""

from gnn_xai.algorithms.base import Columns, algorithm, require_number, require_positive
from gnn_xai.core.arrays.keyed_random import keyed_bits, keyed_normal, keyed_uniform
from gnn_xai.core.arrays.segments import segment_max, segment_mean, segment_ranks, segment_sum
from gnn_xai.core.engines.evaluate import REMOVALS, Change, Removal, evaluate
from gnn_xai.core.engines.gradients import attribute_gradients, gradients
from gnn_xai.core.engines.learn import MaskObjective, learn
from gnn_xai.core.engines.scored import NODE_MASK_TYPES, NodeMaskType, Scored
from gnn_xai.core.engines.scores import Scores
from gnn_xai.core.engines.session import Session
from gnn_xai.core.graphs.computation_graphs import ComputationGraphs, Replicas
from gnn_xai.core.model.interventions import require_float_features
from gnn_xai.core.model.problem import OBJECTIVES, Objective, Problem

__all__ = [
    "NODE_MASK_TYPES",
    "OBJECTIVES",
    "REMOVALS",
    "Change",
    "Columns",
    "ComputationGraphs",
    "MaskObjective",
    "NodeMaskType",
    "Objective",
    "Problem",
    "Removal",
    "Replicas",
    "Scored",
    "Scores",
    "Session",
    "algorithm",
    "attribute_gradients",
    "evaluate",
    "gradients",
    "keyed_bits",
    "keyed_normal",
    "keyed_uniform",
    "learn",
    "require_float_features",
    "require_number",
    "require_positive",
    "segment_max",
    "segment_mean",
    "segment_ranks",
    "segment_sum",
]
