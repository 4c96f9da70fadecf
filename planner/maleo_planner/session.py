"""Planning session: a snapshot with its derived index and reservations, updated incrementally between decisions."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Holdings, uses
from maleo_planner.planner import advise, decide, prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import find
from maleo_planner.single.objective import HIGHEST, Aim
from maleo_planner.single.plan_builder import build
from maleo_planner.single.shortlist_bound import bound_beyond
from maleo_planner.single.two_partition_table import Menu, list_menus
from maleo_planner.types.numeric import TIE
from maleo_planner.types.problem import Feasible, Infeasible, Plan, Snapshot, Verdict
from maleo_planner.types.work_budget import Budget, Budgets


class PlanningSession:
    """Incrementally updated planning state; after `update` it equals `PlanningSession(snapshot)`, whatever came before.

    budgets: work budgets of each mission.
    """

    def __init__(self, snapshot: Snapshot, *, budgets: Budgets = Budgets()) -> None:  # noqa: B008 - immutable
        self.snapshot = snapshot
        self._budgets = budgets
        self.index = FleetIndex(snapshot)
        self.holdings = Holdings.of(snapshot, self.index)

    def update(
        self, snapshot: Snapshot, nodes: Collection[str] | None = None, missions: Collection[str] | None = None
    ) -> None:
        """Replace the snapshot and renew what is derived from it.

        nodes: nodes whose Node, Device or capacity changed. missions: missions that changed or hold other plans. None:
        not known, compare all.
        """
        before, self.snapshot = self.snapshot, snapshot
        renewed = self.index.update(snapshot, nodes)
        self.holdings.renew(renewed if before.priorities == snapshot.priorities else None, snapshot.missions)
        for key in missions if missions is not None else [*self.holdings.plans, *snapshot.held]:
            mission, held = snapshot.missions.get(key), snapshot.held.get(key)
            if mission is None or held is None:
                self.holdings.drop(key)
            elif self.holdings.plans.get(key) is not held or before.missions.get(key) is not mission:
                self.holdings.put(mission, held)

    def hold(self, key: str, held: Plan | None) -> None:
        """Set the plan that the mission holds, None for no plan; `snapshot.held` stays as it is."""
        if held is None:
            self.holdings.drop(key)
        else:
            self.holdings.put(self.snapshot.missions[key], held)

    def plan(self, key: str) -> Verdict:
        """Return the verdict of `planner.plan`.

        If the best plan of the menus is proven optimal, it is returned without rejections and without further search.
        """
        return self.choose(key) or self.explain(key)

    def explain(self, key: str, *, aim: Aim = "margins") -> Verdict:
        """Return the verdict of `planner.plan`, with rejections and, where nothing fits, blockers and relaxations."""
        found = self.decide(key, aim=aim)
        if isinstance(found, Feasible):
            return found
        return advise(self.seen(key), key, found, aim=aim, index=self.index, budget=Budget(self._budgets.advice))

    def decide(self, key: str, *, aim: Aim = "margins") -> Verdict:
        """Return the verdict of `planner.decide`, without blockers diagnosed or relaxations."""
        return decide(self.snapshot, key, aim=aim, index=self.index, holdings=self.holdings, budget=self.budget())

    def seen(self, key: str) -> Snapshot:
        """Return the snapshot with the plans that other missions hold now; the mission's own one as in the snapshot."""
        own = {key: held} if (held := self.snapshot.held.get(key)) is not None else {}
        return replace(self.snapshot, held={k: p for k, p in self.holdings.plans.items() if k != key} | own)

    def takes(self, held: Plan, row: tuple[str, ...]) -> bool:
        """Return True if a plan uses a resource.

        row: as in `column_generation`: ("time" | "memory" | "use", node, unit), ("link", *wire) or ("power", node).
        """
        kind, *which = row
        if kind == "power":
            return any(part.node == which[0] for part in held.partitions)
        if kind == "link":
            return any(self.index.wire_between(t.source, t.target) == tuple(which) for t in held.transfers)
        return any(unit == tuple(which) for unit, _, _ in uses(held))

    def assume(self, key: str, held: Plan | None) -> None:
        """Set the plan that the mission holds, as `hold` does, in `snapshot.held` too."""
        self.hold(key, held)
        rest = {k: plan for k, plan in self.snapshot.held.items() if k != key}
        self.snapshot = replace(self.snapshot, held=rest if held is None else {**rest, key: held})

    def fit(self, key: str, wanted: Plan, *, spare: bool = True) -> Feasible | None:
        """Return the wanted plan, evaluated with the plans held now; None if it does not fit.

        spare: whether to plan a fallback.
        """
        problem = self.problem(key)
        candidate = find(problem, wanted) if isinstance(problem, MissionProblem) else None
        if candidate is None or candidate.shortfalls or not isinstance(problem, MissionProblem):
            return None
        built = build(problem, candidate, spare=spare)
        return Feasible(built, (), None, candidate.objective)

    def problem(self, key: str, *, aim: Aim = "margins") -> MissionProblem | Infeasible:
        """Return the planning problem of the mission, or why there is none."""
        return prepare(self.snapshot, self.snapshot.missions[key], self.index, aim, self.holdings)

    def budget(self) -> Budget:
        """Return a new budget for one plan."""
        return Budget(self._budgets.plan)

    def choose(self, key: str, *, proven: bool = True) -> Verdict | None:
        """Return the best plan of the menus; None if there is none or, with `proven`, if it is not proven optimal."""
        problem = self.problem(key)
        if isinstance(problem, Infeasible):
            return problem
        return choose(problem, list_menus(problem, self.budget()), proven=proven)


def choose(
    problem: MissionProblem, menus: Sequence[Menu], *, proven: bool = True, final: bool = True
) -> Feasible | None:
    """Return the best plan of the menus; None if there is none or, with `proven`, if it is not proven optimal.

    final: plan a fallback and compute the bound.
    """
    found = [candidate for menu in menus for _, candidate in menu.best()]
    if not found:
        return None
    best = min(found, key=lambda candidate: candidate.order)
    held = find(problem, problem.held) if problem.held is not None and best.moves else None
    if held is not None and not held.shortfalls and held.order < best.order:
        best = held
    beyond = max(bound_beyond(menu) for menu in menus) if final or proven else HIGHEST
    if proven and beyond > best.objective - TIE:
        return None
    built = build(problem, best, spare=final)
    staying = build(problem, held) if held is not None and not held.shortfalls else None
    return Feasible(built, (), staying, max(best.objective, beyond))
