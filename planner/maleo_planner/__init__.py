"""Planner of AI missions: from a frozen snapshot of a fleet to plans, or to the reasons why none exists. Pure.

The names of this module are the public face; `maleo_planner.types` is public as well. See README.md for the model, the
notation and the algorithms.
"""

from maleo_planner.cost_model.codec_cost import find_codec
from maleo_planner.cost_model.units import DEFAULT_SPREAD
from maleo_planner.explanations.diagnosis import CODES
from maleo_planner.explanations.explanation import Alternative, Explanation, UnitClass
from maleo_planner.explanations.notices import list_equal_links, list_notices
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Rank, rank_of, uses
from maleo_planner.joint.fleet import FleetPlan, plan_fleet
from maleo_planner.planner import advise, explain, frontier, plan, restore
from maleo_planner.session import PlanningSession
from maleo_planner.single.candidate import list_parts
from maleo_planner.single.objective import Aim
from maleo_planner.types.from_manifests import from_manifests
from maleo_planner.types.problem import (
    Blocker,
    Feasible,
    Figure,
    Frontier,
    Infeasible,
    NodeFacts,
    Observations,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    Rejected,
    Retry,
    Snapshot,
    Switching,
    Verdict,
)
from maleo_planner.types.work_budget import Budgets

__all__ = [
    "CODES",
    "DEFAULT_SPREAD",
    "Aim",
    "Alternative",
    "Blocker",
    "Budgets",
    "Explanation",
    "Feasible",
    "Figure",
    "FleetIndex",
    "FleetPlan",
    "Frontier",
    "Infeasible",
    "NodeFacts",
    "Observations",
    "Plan",
    "PlannedPartition",
    "PlannedTransfer",
    "PlanningSession",
    "Rank",
    "Rejected",
    "Retry",
    "Snapshot",
    "Switching",
    "UnitClass",
    "Verdict",
    "advise",
    "explain",
    "find_codec",
    "from_manifests",
    "frontier",
    "list_equal_links",
    "list_notices",
    "list_parts",
    "plan",
    "plan_fleet",
    "rank_of",
    "restore",
    "uses",
]
