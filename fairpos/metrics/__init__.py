"""Measures of position bias and of agreement: pure functions, one concept a file."""

from fairpos.metrics.average_precision import average_precision
from fairpos.metrics.bootstrap import Interval, bootstrap_interval, difference_interval
from fairpos.metrics.bounded import bounded_difference, bounded_mean
from fairpos.metrics.bradley_terry import Game, Standing, bradley_terry
from fairpos.metrics.by_position import accuracy, accuracy_by_position, gap, primacy, recency, worst_position
from fairpos.metrics.clustered_rate import clustered_rate
from fairpos.metrics.consistency import consistency, flip_rate, is_consistent
from fairpos.metrics.crossed import label_effect, position_effect
from fairpos.metrics.gap_test import GapTest, group_gap_test, position_gap_test
from fairpos.metrics.graded_tau import graded_tau
from fairpos.metrics.interval import wilson_interval
from fairpos.metrics.items_needed import items_needed
from fairpos.metrics.kendall_tau import kendall_tau, mean_pairwise_tau
from fairpos.metrics.length_preference import length_preference, mean_length_preference
from fairpos.metrics.ndcg import ndcg
from fairpos.metrics.over_orders import best_of_orders, worst_of_orders
from fairpos.metrics.preference_fairness import leaning, preference_fairness
from fairpos.metrics.psi import psi, tau_psi
from fairpos.metrics.recall import recall
from fairpos.metrics.reciprocal_rank import mrr, reciprocal_rank
from fairpos.metrics.repetition_stability import repetition_stability
from fairpos.metrics.rstd import recall_by_label, rstd
from fairpos.metrics.shares import pick_shares
from fairpos.metrics.trec_order import trec_order

__all__ = [
    "Game",
    "GapTest",
    "Interval",
    "Standing",
    "accuracy",
    "accuracy_by_position",
    "average_precision",
    "best_of_orders",
    "bootstrap_interval",
    "bounded_difference",
    "bounded_mean",
    "bradley_terry",
    "clustered_rate",
    "consistency",
    "difference_interval",
    "flip_rate",
    "gap",
    "graded_tau",
    "group_gap_test",
    "is_consistent",
    "items_needed",
    "kendall_tau",
    "label_effect",
    "leaning",
    "length_preference",
    "mean_length_preference",
    "mean_pairwise_tau",
    "mrr",
    "ndcg",
    "pick_shares",
    "position_effect",
    "position_gap_test",
    "preference_fairness",
    "primacy",
    "psi",
    "recall",
    "recall_by_label",
    "recency",
    "reciprocal_rank",
    "repetition_stability",
    "rstd",
    "tau_psi",
    "trec_order",
    "wilson_interval",
    "worst_of_orders",
    "worst_position",
]
