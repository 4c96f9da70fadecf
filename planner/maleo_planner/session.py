"""Planning session: a snapshot with its index and reservations, updated incrementally between decisions."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Reservations, list_unit_usage
from maleo_planner.planner import add_advice, decide, prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import evaluate_plan
from maleo_planner.single.objective import MAX_MARGINS, Aim
from maleo_planner.single.plan_builder import build_plan
from maleo_planner.single.shortlist_bound import bound_outside
from maleo_planner.single.two_partition_table import TwoPartitionTable, build_tables
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.problem import Feasible, Infeasible, Plan, Snapshot, Verdict
from maleo_planner.types.work_budget import Budget, Budgets


class PlanningSession:
    """Incrementally updated planning state; after any `update` it equals `PlanningSession(snapshot)`.

    Args:
        snapshot: Initial snapshot.
        budgets: Work budgets of each mission.
    """

    def __init__(self, snapshot: Snapshot, *, budgets: Budgets = Budgets()) -> None:  # noqa: B008 - immutable
        self.snapshot = snapshot
        self._budgets = budgets
        self.index = FleetIndex(snapshot)
        self.reservations = Reservations.from_snapshot(snapshot, self.index)

    def update(
        self, snapshot: Snapshot, nodes: Collection[str] | None = None, missions: Collection[str] | None = None
    ) -> None:
        """Replace the snapshot and update the derived state.

        Args:
            snapshot: New snapshot.
            nodes: Nodes whose Node, Device or capacity changed; None: find them by comparison.
            missions: Missions that changed or have another current plan; None: compare all.
        """
        before, self.snapshot = self.snapshot, snapshot
        renewed = self.index.update(snapshot, nodes)
        self.reservations.recompute(renewed if before.priorities == snapshot.priorities else None, snapshot.missions)
        for key in missions if missions is not None else [*self.reservations.plans, *snapshot.current_plans]:
            mission, current = snapshot.missions.get(key), snapshot.current_plans.get(key)
            if mission is None or current is None:
                self.reservations.release(key)
            elif self.reservations.plans.get(key) is not current or before.missions.get(key) is not mission:
                self.reservations.reserve(mission, current)

    def reserve(self, key: str, plan: Plan | None) -> None:
        """Set the reservations of a mission to a plan, None for none; `snapshot.current_plans` is not changed."""
        if plan is None:
            self.reservations.release(key)
        else:
            self.reservations.reserve(self.snapshot.missions[key], plan)

    def plan(self, key: str) -> Verdict:
        """Return the verdict of `planner.plan`.

        If the best plan of the tables is proven optimal, it is returned without rejections or further search.
        """
        return self.plan_from_tables(key) or self.plan_with_diagnosis(key)

    def plan_with_diagnosis(self, key: str, *, aim: Aim = "margins") -> Verdict:
        """Return the verdict of `planner.plan`, with rejections and, if infeasible, blockers and relaxations."""
        found = self.decide(key, aim=aim)
        if isinstance(found, Feasible):
            return found
        return add_advice(
            self.snapshot_for(key), key, found, aim=aim, index=self.index, budget=Budget(self._budgets.advice)
        )

    def decide(self, key: str, *, aim: Aim = "margins") -> Verdict:
        """Return the verdict of `planner.decide`: without diagnosis and relaxations."""
        return decide(
            self.snapshot, key, aim=aim, index=self.index, reservations=self.reservations, budget=self.new_budget()
        )

    def snapshot_for(self, key: str) -> Snapshot:
        """Return the snapshot with the plans that other missions reserve now; the mission keeps its current plan."""
        own = {key: current} if (current := self.snapshot.current_plans.get(key)) is not None else {}
        return replace(
            self.snapshot, current_plans={k: p for k, p in self.reservations.plans.items() if k != key} | own
        )

    def uses_resource(self, plan: Plan, resource: tuple[str, ...]) -> bool:
        """Return True if a plan uses a resource.

        Args:
            plan: The plan.
            resource: Resource of `column_generation`: ("time" | "memory" | "use", node, unit), ("link", *segment) or
                ("power", node).
        """
        kind, *names = resource
        if kind == "power":
            return any(part.node == names[0] for part in plan.partitions)
        if kind == "link":
            return any(self.index.segment_between(t.source, t.target) == tuple(names) for t in plan.transfers)
        return any(unit == tuple(names) for unit, _, _ in list_unit_usage(plan))

    def assume(self, key: str, plan: Plan | None) -> None:
        """Set the reservations of a mission like `reserve`, and its plan in `snapshot.current_plans`."""
        self.reserve(key, plan)
        rest = {k: plan for k, plan in self.snapshot.current_plans.items() if k != key}
        self.snapshot = replace(self.snapshot, current_plans=rest if plan is None else {**rest, key: plan})

    def fit(self, key: str, wanted: Plan, *, with_fallback: bool = True) -> Feasible | None:
        """Evaluate a plan with the present reservations; None if it does not fit.

        Args:
            key: Mission.
            wanted: Plan to evaluate.
            with_fallback: Whether to plan a fallback.
        """
        problem = self.problem(key)
        candidate = evaluate_plan(problem, wanted) if isinstance(problem, MissionProblem) else None
        if candidate is None or candidate.shortfalls or not isinstance(problem, MissionProblem):
            return None
        built = build_plan(problem, candidate, with_fallback=with_fallback)
        return Feasible(built, (), None, candidate.objective)

    def problem(self, key: str, *, aim: Aim = "margins") -> MissionProblem | Infeasible:
        """Return the planning problem of a mission, or an infeasible verdict that says why there is none."""
        return prepare(self.snapshot, self.snapshot.missions[key], self.index, aim, self.reservations)

    def new_budget(self) -> Budget:
        """Return a new work budget for one plan."""
        return Budget(self._budgets.plan)

    def plan_from_tables(self, key: str, *, proven_only: bool = True) -> Verdict | None:
        """Return the best plan of the tables of a mission; see `choose_from_tables`."""
        problem = self.problem(key)
        if isinstance(problem, Infeasible):
            return problem
        return choose_from_tables(problem, build_tables(problem, self.new_budget()), proven_only=proven_only)


def choose_from_tables(
    problem: MissionProblem,
    tables: Sequence[TwoPartitionTable],
    *,
    proven_only: bool = True,
    with_fallback: bool = True,
) -> Feasible | None:
    """Return the best plan of the tables, or the incumbent if that is better; None if there is none.

    Args:
        problem: Planning problem.
        tables: Tables of the mission.
        proven_only: Whether to return None unless the plan is proven optimal.
        with_fallback: Whether to plan a fallback and to compute the bound.
    """
    found = [candidate for table in tables for _, candidate in table.best()]
    if not found:
        return None
    best = min(found, key=lambda candidate: candidate.sort_key)
    incumbent = evaluate_plan(problem, problem.incumbent) if problem.incumbent is not None and best.is_move else None
    if incumbent is not None and not incumbent.shortfalls and incumbent.sort_key < best.sort_key:
        best = incumbent
    outside = max(bound_outside(table) for table in tables) if with_fallback or proven_only else MAX_MARGINS
    if proven_only and outside > best.objective - EPSILON:
        return None
    built = build_plan(problem, best, with_fallback=with_fallback)
    current = build_plan(problem, incumbent) if incumbent is not None and not incumbent.shortfalls else None
    return Feasible(built, (), current, max(best.objective, outside))
