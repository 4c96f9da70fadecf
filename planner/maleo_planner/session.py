"""Planning session: a snapshot with its derived index and reservations, updated incrementally between decisions."""

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
    """Incrementally updated planning state; after `update` it equals `PlanningSession(snapshot)`, whatever came before.

    Args:
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
        """Replace the snapshot and renew what is derived from it.

        Args:
            nodes: Nodes whose Node, Device or capacity changed.
            missions: Missions that changed or hold other plans. None: not known, compare all.
        """
        before, self.snapshot = self.snapshot, snapshot
        renewed = self.index.update(snapshot, nodes)
        self.reservations.recompute(renewed if before.priorities == snapshot.priorities else None, snapshot.missions)
        for key in missions if missions is not None else [*self.reservations.plans, *snapshot.current_plans]:
            mission, held = snapshot.missions.get(key), snapshot.current_plans.get(key)
            if mission is None or held is None:
                self.reservations.release(key)
            elif self.reservations.plans.get(key) is not held or before.missions.get(key) is not mission:
                self.reservations.reserve(mission, held)

    def reserve(self, key: str, plan: Plan | None) -> None:
        """Set the plan that the mission holds, None for no plan; `snapshot.current_plans` stays as it is."""
        if plan is None:
            self.reservations.release(key)
        else:
            self.reservations.reserve(self.snapshot.missions[key], plan)

    def plan(self, key: str) -> Verdict:
        """Return the verdict of `planner.plan`.

        If the best plan of the tables is proven optimal, it is returned without rejections and without further search.
        """
        return self.plan_from_tables(key) or self.plan_with_diagnosis(key)

    def plan_with_diagnosis(self, key: str, *, aim: Aim = "margins") -> Verdict:
        """Return the verdict of `planner.plan`, with rejections and, where nothing fits, blockers and relaxations."""
        found = self.decide(key, aim=aim)
        if isinstance(found, Feasible):
            return found
        return add_advice(
            self.snapshot_for(key), key, found, aim=aim, index=self.index, budget=Budget(self._budgets.advice)
        )

    def decide(self, key: str, *, aim: Aim = "margins") -> Verdict:
        """Return the verdict of `planner.decide`, without blockers diagnosed or relaxations."""
        return decide(
            self.snapshot, key, aim=aim, index=self.index, reservations=self.reservations, budget=self.new_budget()
        )

    def snapshot_for(self, key: str) -> Snapshot:
        """Return the snapshot with the plans that other missions hold now; the mission's own one as in the snapshot."""
        own = {key: held} if (held := self.snapshot.current_plans.get(key)) is not None else {}
        return replace(
            self.snapshot, current_plans={k: p for k, p in self.reservations.plans.items() if k != key} | own
        )

    def uses_resource(self, plan: Plan, resource: tuple[str, ...]) -> bool:
        """Return True if a plan uses a resource.

        Args:
            resource: As in `column_generation`: ("time" | "memory" | "use", node, unit), ("link", *segment) or
                ("power", node).
        """
        kind, *names = resource
        if kind == "power":
            return any(part.node == names[0] for part in plan.partitions)
        if kind == "link":
            return any(self.index.segment_between(t.source, t.target) == tuple(names) for t in plan.transfers)
        return any(unit == tuple(names) for unit, _, _ in list_unit_usage(plan))

    def assume(self, key: str, plan: Plan | None) -> None:
        """Set the plan that the mission holds, as `reserve` does, in `snapshot.current_plans` too."""
        self.reserve(key, plan)
        rest = {k: plan for k, plan in self.snapshot.current_plans.items() if k != key}
        self.snapshot = replace(self.snapshot, current_plans=rest if plan is None else {**rest, key: plan})

    def fit(self, key: str, wanted: Plan, *, with_fallback: bool = True) -> Feasible | None:
        """Return the wanted plan, evaluated with the plans held now; None if it does not fit.

        Args:
            with_fallback: Whether to plan a fallback.
        """
        problem = self.problem(key)
        candidate = evaluate_plan(problem, wanted) if isinstance(problem, MissionProblem) else None
        if candidate is None or candidate.shortfalls or not isinstance(problem, MissionProblem):
            return None
        built = build_plan(problem, candidate, with_fallback=with_fallback)
        return Feasible(built, (), None, candidate.objective)

    def problem(self, key: str, *, aim: Aim = "margins") -> MissionProblem | Infeasible:
        """Return the planning problem of the mission, or why there is none."""
        return prepare(self.snapshot, self.snapshot.missions[key], self.index, aim, self.reservations)

    def new_budget(self) -> Budget:
        """Return a new budget for one plan."""
        return Budget(self._budgets.plan)

    def plan_from_tables(self, key: str, *, proven_only: bool = True) -> Verdict | None:
        """Return the best plan of the tables; None if there is none or, with `proven_only`, if it is not proven
        optimal.
        """
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
    """Return the best plan of the tables; None if there is none or, with `proven_only`, if it is not proven optimal.

    Args:
        with_fallback: Plan a fallback and compute the bound.
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
