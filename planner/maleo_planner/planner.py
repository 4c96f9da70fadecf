"""Entry points for planning one mission: its best plan, or the blockers and relaxations of an infeasible mission."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from maleo_api.accuracy_floor import find_reference_variant
from maleo_api.mission import AccuracyObjective, Mission
from maleo_api.model import Model
from maleo_api.placement import Placement
from maleo_planner.cost_model.codec_cost import find_codec
from maleo_planner.explanations.diagnosis import (
    blocker_of_rejections,
    blocker_of_work_limit,
    blockers_of_shortfalls,
    diagnose,
)
from maleo_planner.explanations.explanation import Explanation, classify_units, list_alternatives, summarise_rejections
from maleo_planner.explanations.relaxation import TrialPlanner, relax
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Reservations
from maleo_planner.single.candidate import Candidate, CandidatePartition
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import evaluate_plan, search, search_any
from maleo_planner.single.objective import Aim
from maleo_planner.single.pareto import trace_front
from maleo_planner.single.plan_builder import build_plan
from maleo_planner.single.scope_graphs import SearchScope
from maleo_planner.single.shortlist_bound import bound_outside
from maleo_planner.single.two_partition_table import build_tables, far_scope, near_scope
from maleo_planner.types.from_manifests import RESERVED_PREFIX
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.problem import Blocker, Feasible, Infeasible, ParetoFront, Plan, Snapshot, Verdict
from maleo_planner.types.requirements import Requirements, find_input_nodes
from maleo_planner.types.variants import describe_unknown_variants
from maleo_planner.types.work_budget import DEFAULT_ADVICE_WORK, DEFAULT_PLAN_WORK, Budget, Budgets

_NOT_PLANNABLE: Final = {"ModelMissing", "AmbiguousInput", "NoInput", "ReferenceMissing"}


def plan(
    snapshot: Snapshot,
    key: str,
    *,
    aim: Aim = "margins",
    index: FleetIndex | None = None,
    budgets: Budgets = Budgets(),  # noqa: B008 - immutable
) -> Verdict:
    """Plan one mission. Equal inputs give equal verdicts.

    Args:
        snapshot: Snapshot of the fleet.
        key: Mission, as namespace/name.
        aim: What to optimise.
        index: Index of this snapshot, or of one that differs only in `current_plans`; built if None.
        budgets: Work budgets of plan and explanation.
    """
    index = index or FleetIndex(snapshot)
    verdict = decide(snapshot, key, aim=aim, index=index, budget=Budget(budgets.plan))
    return add_advice(snapshot, key, verdict, aim=aim, index=index, budget=Budget(budgets.advice))


def add_advice(
    snapshot: Snapshot,
    key: str,
    verdict: Verdict,
    *,
    aim: Aim = "margins",
    index: FleetIndex | None = None,
    budget: Budget | None = None,
) -> Verdict:
    """Add blockers and relaxations to an infeasible verdict of `decide`, at the cost of some twenty plans."""
    if isinstance(verdict, Feasible):
        return verdict
    index = index or FleetIndex(snapshot)
    plan_trial = _trial_planner(snapshot, index, aim, budget or Budget(DEFAULT_ADVICE_WORK))
    blockers = diagnose(snapshot, key, verdict, plan_trial, index)
    mission = snapshot.missions[key]
    model = snapshot.models.get(mission.model_key)
    if model is not None and blockers[0].retry != "Waiting" and (unknown := describe_unknown_variants(mission, model)):
        blockers = (*blockers, Blocker("VariantMissing", "Waiting", unknown))
    return replace(
        verdict,
        blockers=blockers,
        relaxations=relax(snapshot, key, verdict, plan_trial) if verdict.blockers[0].code not in _NOT_PLANNABLE else (),
    )


def explain(
    snapshot: Snapshot, key: str, verdict: Verdict, *, aim: Aim = "margins", index: FleetIndex | None = None
) -> Explanation:
    """Explain a verdict of `plan` for the same mission, snapshot and aim."""
    index, budget = index or FleetIndex(snapshot), Budget(DEFAULT_PLAN_WORK + DEFAULT_ADVICE_WORK)
    problem = prepare(snapshot, snapshot.missions[key], index, aim)
    if isinstance(problem, Infeasible):
        return Explanation((), (), ())
    found = search(problem, SearchScope(), budget)
    return Explanation(
        alternatives=list_alternatives(snapshot, key, verdict, _trial_planner(snapshot, index, aim, budget)),
        classes=classify_units(problem, index.units, found),
        displaced=tuple(_list_displaced(snapshot, verdict.plan, index)) if isinstance(verdict, Feasible) else (),
        floor=problem.requirements.accuracy.value if problem.requirements.accuracy is not None else 0.0,
        better=_better_plan(problem, found.candidates[0], verdict) if found.candidates else None,
    )


def _better_plan(problem: MissionProblem, best: Candidate, verdict: Verdict) -> Plan | None:
    """Return the best plan found if the plan of the verdict has a lower objective, else None."""
    is_beaten = isinstance(verdict, Feasible) and best.objective > verdict.plan.objective + EPSILON
    return build_plan(problem, best) if is_beaten and not best.shortfalls else None


def _trial_planner(snapshot: Snapshot, index: FleetIndex, aim: Aim, budget: Budget) -> TrialPlanner:
    """Return a function that plans changed forms of one snapshot.

    Args:
        snapshot: Original snapshot.
        index: Its index, which is reused if nodes, devices and observations are unchanged.
        aim: Default aim.
        budget: Work budget of all calls together.
    """

    def plan_trial(changed: Snapshot, key: str, /, *, aim: Aim = aim) -> Verdict:
        kept = all(getattr(changed, part) is getattr(snapshot, part) for part in ("nodes", "devices", "observations"))
        return decide(changed, key, aim=aim, index=index if kept else FleetIndex(changed), budget=budget)

    return plan_trial


def _list_displaced(snapshot: Snapshot, chosen: Plan, index: FleetIndex) -> Iterator[str]:
    """Yield the missions whose current plan is feasible without the chosen plan and infeasible with it."""
    others = {key: plan for key, plan in snapshot.current_plans.items() if key != chosen.mission}

    def is_feasible(key: str, plan: Plan, current_plans: Mapping[str, Plan]) -> bool:
        problem = prepare(replace(snapshot, current_plans=current_plans), snapshot.missions[key], index, "margins")
        candidate = evaluate_plan(problem, plan) if isinstance(problem, MissionProblem) else None
        return candidate is not None and not candidate.shortfalls

    for key, plan in sorted(others.items()):
        before = key in snapshot.missions and is_feasible(key, plan, others)
        if before and not is_feasible(key, plan, {**others, chosen.mission: chosen}):
            yield key


def pareto_front(snapshot: Snapshot, key: str) -> ParetoFront:
    """Return the Pareto front of a mission, given the current plans of others; empty if it has no plan at all."""
    problem = prepare(snapshot, snapshot.missions[key], FleetIndex(snapshot), "margins")
    if isinstance(problem, Infeasible):
        return ParetoFront((), is_complete=True)
    front = trace_front(problem, Budget())
    return ParetoFront(tuple(build_plan(problem, point) for point in front.points), front.is_complete)


def restore_plan(snapshot: Snapshot, key: str, placement: Placement, *, index: FleetIndex | None = None) -> Plan | None:
    """Return the plan that a stored Placement records, with present estimates and without other missions.

    None if a part of it no longer exists: variant, unit, block, link or codec.
    """
    index = index or FleetIndex(snapshot)
    problem = prepare(snapshot, snapshot.missions[key], index, "margins", Reservations(index))
    if isinstance(problem, Infeasible):
        return None
    units = {unit.key: unit for unit in problem.units}
    spec, parts = placement.spec, placement.spec.partitions
    variant = problem.find_variant(spec.variant, spec.exit)
    if variant is None or any((p.node, p.unit) not in units for p in parts):
        return None
    partitions = tuple(
        CandidatePartition(units[p.node, p.unit], p.span.first, p.span.last, p.decoder.codec if p.decoder else "")
        for p in parts
    )
    if any(problem.costs(variant, partition.unit) is None for partition in partitions):
        return None
    if partitions[-1].last >= len(variant.blocks) or not _is_connected(problem, partitions):
        return None
    if any(
        partition.codec and find_codec(variant, partition.first - 1, partition.codec) is None
        for partition in partitions
    ):
        return None
    mode = problem.mode_of([partition.unit for partition in partitions])
    return build_plan(problem, Candidate(variant, mode, partitions, 0.0, {}, 0.0, 0.0, 0))


def decide(
    snapshot: Snapshot,
    key: str,
    *,
    aim: Aim = "margins",
    index: FleetIndex | None = None,
    reservations: Reservations | None = None,
    budget: Budget | None = None,
) -> Verdict:
    """Plan one mission without diagnosis.

    An infeasible verdict has no relaxations, and the `retry` of its blockers is an estimate.

    Args:
        snapshot: Snapshot of the fleet.
        key: Mission, as namespace/name.
        aim: What to optimise.
        index: Index of the snapshot; built if None.
        reservations: Reservations in place of those of `snapshot.current_plans`.
        budget: Work budget; None for a default one.
    """
    mission, index = snapshot.missions[key], index or FleetIndex(snapshot)
    budget = budget or Budget()
    problem = prepare(snapshot, mission, index, aim, reservations)
    if isinstance(problem, Infeasible):
        return problem
    tables = [] if problem.searches_all_classes else build_tables(problem, budget)
    scope = near_scope(problem, tables) if tables else SearchScope()
    result = search(problem, scope, budget)
    if tables and problem.reach.entry is not None and result.feasible is None:
        scope = far_scope(problem, scope)
        result = result.merge(search(problem, scope, budget))
    if result.feasible is None:
        result = result.merge(search_any(problem, scope, budget))
    accuracy = problem.requirements.accuracy
    floor = accuracy.value if accuracy is not None else 0.0
    rejected = summarise_rejections(result.candidates, result.rejections, floor=floor)
    if result.feasible is None:
        best = result.candidates[0] if result.candidates else None
        built = build_plan(problem, best) if best is not None else None
        blocked = (
            blockers_of_shortfalls(problem, result, best, built)
            if best and built
            else (blocker_of_rejections(problem, result),)
        )
        blockers, is_proven = tuple(blocked), result.is_proven and result.is_complete
        if not is_proven:
            blockers = (blocker_of_work_limit(problem, built), *(replace(b, retry="CannotNow") for b in blockers))
        return Infeasible(blockers, (), rejected, built, is_proven)
    best = result.candidates[0]
    bound = max([best.objective, result.upper_bound, *(bound_outside(table) for table in tables)])
    incumbent = next((each for each in result.candidates if problem.incumbent is not None and not each.is_move), None)
    return Feasible(
        build_plan(problem, best), rejected, build_plan(problem, incumbent) if incumbent is not None else None, bound
    )


def prepare(
    snapshot: Snapshot,
    mission: Mission,
    index: FleetIndex,
    aim: Aim,
    reservations: Reservations | None = None,
) -> MissionProblem | Infeasible:
    """Return the planning problem of a mission, or an infeasible verdict that says why there is none."""
    model = snapshot.models.get(mission.model_key)
    sources = find_input_nodes(snapshot, mission)
    blocker = None
    if model is None:
        message = (
            f"Model {mission.spec.model.name} not found in namespace {mission.metadata.namespace}: "
            "apply it, or correct spec.model.name"
        )
        blocker = Blocker("ModelMissing", "Waiting", message)
    elif len(sources) > 1:
        message = (
            f"spec.input.selector matches {len(sources)} nodes ({', '.join(sources[:3])}): it must match exactly one"
        )
        blocker = Blocker("AmbiguousInput", "Waiting", message)
    elif not sources or not snapshot.nodes[sources[0]].ready:
        named = mission.spec.input.node
        message = (
            f"input node {named} not found or not Ready: check spec.input.node"
            if named
            else "no Ready input node matches spec.input.selector"
        )
        blocker = Blocker("NoInput", "Waiting", message)
    elif mission.spec.priority_class_name.startswith(RESERVED_PREFIX):
        message = (
            f"PriorityClass {mission.spec.priority_class_name} is reserved for cluster components: "
            "set spec.priorityClassName to another class, or leave it empty"
        )
        blocker = Blocker("PriorityClassReserved", "Waiting", message)
    elif mission.spec.priority_class_name not in {"", *snapshot.priorities}:
        named = mission.spec.priority_class_name
        message = (
            f"PriorityClass {named} not found, so pods that name it are rejected: "
            "apply it, or correct spec.priorityClassName"
        )
        blocker = Blocker("PriorityClassMissing", "Waiting", message)
    elif (accuracy := mission.spec.objectives.accuracy) is not None and _lacks_reference(accuracy, model):
        available = ", ".join(variant.name for variant in model.spec.variants)
        message = (
            f"unknown reference variant {accuracy.relative_to}: model {mission.spec.model.name} has {available}; "
            "correct spec.objectives.accuracy.relativeTo"
        )
        blocker = Blocker("ReferenceMissing", "Waiting", message)
    if blocker is not None:
        return Infeasible((blocker,), (), (), None)
    assert model is not None
    source = snapshot.nodes[sources[0]]
    problem = MissionProblem(
        requirements=Requirements.parse_mission(mission, model),
        model=model,
        source=source,
        aim=aim,
        index=index,
        loads=(reservations or Reservations.from_snapshot(snapshot, index)).view_for(mission),
        incumbent=snapshot.current_plans.get(mission.key),
    )
    if not problem.runnable_variants():
        return Infeasible(
            (Blocker("VariantMissing", "Waiting", describe_unknown_variants(mission, model)),), (), (), None
        )
    return problem


def _lacks_reference(objective: AccuracyObjective, model: Model) -> bool:
    """Return True if a Hard accuracy floor is relative to a variant that the model does not have.

    A Soft floor without a reference does not prevent a plan; no plan is then known to keep it.
    """
    hard = objective.enforcement == "Hard" and objective.relative_to is not None
    return hard and find_reference_variant(objective, model) is None


def _is_connected(problem: MissionProblem, partitions: Sequence[CandidatePartition]) -> bool:
    """Return True if Links join the input node and the nodes of all partitions in order."""
    nodes = [problem.source, *(partition.unit.node for partition in partitions)]
    return all(a.name == b.name or problem.link(a, b) is not None for a, b in pairwise(nodes))
