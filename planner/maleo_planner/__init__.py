"""Planner of AI missions: turns a frozen snapshot of a fleet into plans, or into reasons why none exists.

It is pure: no clock, no I/O, no randomness. The names of this module and of `maleo_planner.types` are public. README.md
describes the model, the notation and the algorithms.
"""

from maleo_planner.cost_model.codec_cost import find_codec
from maleo_planner.cost_model.units import DEFAULT_SPREAD
from maleo_planner.explanations.diagnosis import BLOCKER_CODES
from maleo_planner.explanations.explanation import Alternative, Explanation, UnitClassOutcome
from maleo_planner.explanations.notices import list_equal_links, list_notices
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Rank, list_unit_usage, rank_of
from maleo_planner.joint.fleet import FleetPlan, plan_fleet
from maleo_planner.planner import add_advice, explain, pareto_front, plan, restore_plan
from maleo_planner.session import PlanningSession
from maleo_planner.single.candidate import partition_keys
from maleo_planner.single.objective import Aim
from maleo_planner.types.from_manifests import from_manifests
from maleo_planner.types.problem import (
    Blocker,
    Estimate,
    Feasible,
    Infeasible,
    MigrationCost,
    NodeFacts,
    Observations,
    ParetoFront,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    RejectionSummary,
    Retry,
    Snapshot,
    Verdict,
)
from maleo_planner.types.work_budget import Budgets

__all__ = [
    "BLOCKER_CODES",
    "DEFAULT_SPREAD",
    "Aim",
    "Alternative",
    "Blocker",
    "Budgets",
    "Estimate",
    "Explanation",
    "Feasible",
    "FleetIndex",
    "FleetPlan",
    "Infeasible",
    "MigrationCost",
    "NodeFacts",
    "Observations",
    "ParetoFront",
    "Plan",
    "PlannedPartition",
    "PlannedTransfer",
    "PlanningSession",
    "Rank",
    "RejectionSummary",
    "Retry",
    "Snapshot",
    "UnitClassOutcome",
    "Verdict",
    "add_advice",
    "explain",
    "find_codec",
    "from_manifests",
    "list_equal_links",
    "list_notices",
    "list_unit_usage",
    "pareto_front",
    "partition_keys",
    "plan",
    "plan_fleet",
    "rank_of",
    "restore_plan",
]
