"""Entry points for planning one mission: the best plan, or the blockers and the relaxations that would make it fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from maleo_api.mission import AccuracyObjective, Mission
from maleo_api.model import Model
from maleo_api.placement import Placement
from maleo_planner.cost_model.codec_cost import find_codec
from maleo_planner.explanations.diagnosis import block_all, block_best, block_too_large, diagnose
from maleo_planner.explanations.explanation import Explanation, classify, compare, reject
from maleo_planner.explanations.relaxation import Decide, relax
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Holdings
from maleo_planner.single.candidate import Candidate, Piece
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import find, search, search_any
from maleo_planner.single.objective import Aim
from maleo_planner.single.pareto import trace
from maleo_planner.single.plan_builder import build
from maleo_planner.single.scope_graphs import SearchScope
from maleo_planner.single.shortlist_bound import bound_beyond
from maleo_planner.single.two_partition_table import far_scope, list_menus, near_scope
from maleo_planner.types.accuracy_floor import find_reference
from maleo_planner.types.from_manifests import RESERVED
from maleo_planner.types.numeric import TIE
from maleo_planner.types.problem import Blocker, Feasible, Frontier, Infeasible, Plan, Snapshot, Verdict
from maleo_planner.types.requirements import Demand, find_input
from maleo_planner.types.variants import tell_unknown
from maleo_planner.types.work_budget import ADVICE, STANDARD, Budget, Budgets

_NO_QUESTION: Final = {"ModelMissing", "AmbiguousInput", "NoInput", "ReferenceMissing"}


def plan(
    snapshot: Snapshot,
    key: str,
    *,
    aim: Aim = "margins",
    index: FleetIndex | None = None,
    budgets: Budgets = Budgets(),  # noqa: B008 - immutable
) -> Verdict:
    """Return the verdict for mission `key` (namespace/name) of the snapshot. Deterministic.

    index: index of this snapshot, or of one that differs only in `held`; built if None.
    """
    index = index or FleetIndex(snapshot)
    verdict = decide(snapshot, key, aim=aim, index=index, budget=Budget(budgets.plan))
    return advise(snapshot, key, verdict, aim=aim, index=index, budget=Budget(budgets.advice))


def advise(
    snapshot: Snapshot,
    key: str,
    verdict: Verdict,
    *,
    aim: Aim = "margins",
    index: FleetIndex | None = None,
    budget: Budget | None = None,
) -> Verdict:
    """Return the verdict of `decide`; add blockers and relaxations if infeasible, at the cost of some twenty plans."""
    if isinstance(verdict, Feasible):
        return verdict
    index = index or FleetIndex(snapshot)
    again = _again(snapshot, index, aim, budget or Budget(ADVICE))
    blockers = diagnose(snapshot, key, verdict, again, index)
    mission = snapshot.missions[key]
    model = snapshot.models.get(mission.model_key)
    if model is not None and blockers[0].retry != "Waiting" and (unknown := tell_unknown(mission, model)):
        blockers = (*blockers, Blocker("VariantMissing", "Waiting", unknown))
    return replace(
        verdict,
        blockers=blockers,
        relaxations=relax(snapshot, key, verdict, again) if verdict.blockers[0].code not in _NO_QUESTION else (),
    )


def explain(
    snapshot: Snapshot, key: str, verdict: Verdict, *, aim: Aim = "margins", index: FleetIndex | None = None
) -> Explanation:
    """Return the alternatives to a verdict that `plan` gave for the same mission, snapshot and aim."""
    index, budget = index or FleetIndex(snapshot), Budget(STANDARD + ADVICE)
    problem = prepare(snapshot, snapshot.missions[key], index, aim)
    if isinstance(problem, Infeasible):
        return Explanation((), (), ())
    found = search(problem, SearchScope(), budget)
    return Explanation(
        alternatives=compare(snapshot, key, verdict, _again(snapshot, index, aim, budget)),
        classes=classify(problem, index.units, found),
        displaced=tuple(_displaced(snapshot, verdict.plan, index)) if isinstance(verdict, Feasible) else (),
        floor=problem.demand.accuracy.value if problem.demand.accuracy is not None else 0.0,
        better=_better(problem, found.candidates[0], verdict) if found.candidates else None,
    )


def _better(problem: MissionProblem, best: Candidate, verdict: Verdict) -> Plan | None:
    """Return the best plan found if the verdict's plan has a lower objective, else None."""
    beaten = isinstance(verdict, Feasible) and best.objective > verdict.plan.objective + TIE
    return build(problem, best) if beaten and not best.shortfalls else None


def _again(snapshot: Snapshot, index: FleetIndex, aim: Aim, budget: Budget) -> Decide:
    """Return a function that plans variants of one snapshot.

    index: reused for variants that have the same nodes, devices and observations. budget: work of all calls together.
    """

    def again(changed: Snapshot, key: str, /, *, aim: Aim = aim) -> Verdict:
        kept = all(getattr(changed, part) is getattr(snapshot, part) for part in ("nodes", "devices", "observations"))
        return decide(changed, key, aim=aim, index=index if kept else FleetIndex(changed), budget=budget)

    return again


def _displaced(snapshot: Snapshot, chosen: Plan, index: FleetIndex) -> Iterator[str]:
    """Yield the missions whose held plan is feasible without the chosen plan and infeasible with it."""
    others = {key: plan for key, plan in snapshot.held.items() if key != chosen.mission}

    def stands(key: str, plan: Plan, held: Mapping[str, Plan]) -> bool:
        problem = prepare(replace(snapshot, held=held), snapshot.missions[key], index, "margins")
        judged = find(problem, plan) if isinstance(problem, MissionProblem) else None
        return judged is not None and not judged.shortfalls

    for key, plan in sorted(others.items()):
        before = key in snapshot.missions and stands(key, plan, others)
        if before and not stands(key, plan, {**others, chosen.mission: chosen}):
            yield key


def frontier(snapshot: Snapshot, key: str) -> Frontier:
    """Return the Pareto front of the mission, given what others hold; empty if it has no plan at all."""
    problem = prepare(snapshot, snapshot.missions[key], FleetIndex(snapshot), "margins")
    if isinstance(problem, Infeasible):
        return Frontier((), is_whole=True)
    front = trace(problem, Budget())
    return Frontier(tuple(build(problem, point) for point in front.points), front.is_whole)


def restore(snapshot: Snapshot, key: str, placement: Placement, *, index: FleetIndex | None = None) -> Plan | None:
    """Return the plan that a stored Placement records, with current figures and as if no other mission held anything.

    Return None if a part of it no longer exists: variant, unit, block, link or codec.
    """
    index = index or FleetIndex(snapshot)
    problem = prepare(snapshot, snapshot.missions[key], index, "margins", Holdings(index))
    if isinstance(problem, Infeasible):
        return None
    units = {unit.key: unit for unit in problem.units}
    spec, parts = placement.spec, placement.spec.partitions
    variant = problem.edition(spec.variant, spec.exit)
    if variant is None or any((p.node, p.unit) not in units for p in parts):
        return None
    pieces = tuple(
        Piece(units[p.node, p.unit], p.span.first, p.span.last, p.decoder.codec if p.decoder else "") for p in parts
    )
    if any(problem.costs(variant, piece.unit) is None for piece in pieces):
        return None
    if pieces[-1].last >= len(variant.blocks) or not _is_connected(problem, pieces):
        return None
    if any(piece.codec and find_codec(variant, piece.first - 1, piece.codec) is None for piece in pieces):
        return None
    mode = problem.mode_of([piece.unit for piece in pieces])
    return build(problem, Candidate(variant, mode, pieces, 0.0, {}, 0.0, 0.0, 0))


def decide(
    snapshot: Snapshot,
    key: str,
    *,
    aim: Aim = "margins",
    index: FleetIndex | None = None,
    holdings: Holdings | None = None,
    budget: Budget | None = None,
) -> Verdict:
    """Return the verdict of `plan` without diagnosis, for trial decisions.

    An infeasible verdict has no relaxations, and the `retry` of its blockers is an estimate. holdings: reservations
    that count in place of `snapshot.held`. budget: None for the standard budget.
    """
    mission, index = snapshot.missions[key], index or FleetIndex(snapshot)
    budget = budget or Budget()
    problem = prepare(snapshot, mission, index, aim, holdings)
    if isinstance(problem, Infeasible):
        return problem
    menus = [] if problem.sees_all else list_menus(problem, budget)
    scope = near_scope(problem, menus) if menus else SearchScope()
    result = search(problem, scope, budget)
    if menus and problem.reach.entry is not None and result.feasible is None:
        scope = far_scope(problem, scope)
        result = result.merge(search(problem, scope, budget))
    is_proven = True
    if result.feasible is None:
        result = result.merge(search_any(problem, scope, budget))
        is_proven = result.is_proven and result.is_complete
    accuracy = problem.demand.accuracy
    floor = accuracy.value if accuracy is not None else 0.0
    rejected = reject(result.candidates, result.rejections, floor=floor)
    if result.feasible is None:
        best = result.candidates[0] if result.candidates else None
        built = build(problem, best) if best is not None else None
        blocked = block_best(problem, result, best, built) if best and built else (block_all(problem, result),)
        blockers = tuple(blocked)
        if not is_proven:
            blockers = (block_too_large(problem, built), *(replace(b, retry="CannotNow") for b in blockers))
        return Infeasible(blockers, (), rejected, built, is_proven)
    best = result.candidates[0]
    bound = max([best.objective, result.upper_bound, *(bound_beyond(menu) for menu in menus)])
    held = next((each for each in result.candidates if problem.held is not None and not each.moves), None)
    return Feasible(build(problem, best), rejected, build(problem, held) if held is not None else None, bound)


def prepare(
    snapshot: Snapshot,
    mission: Mission,
    index: FleetIndex,
    aim: Aim,
    holdings: Holdings | None = None,
) -> MissionProblem | Infeasible:
    """Return the planning problem of a mission, or an infeasible verdict that says why it cannot be planned."""
    model = snapshot.models.get(mission.model_key)
    sources = find_input(snapshot, mission)
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
    elif mission.spec.priority_class_name.startswith(RESERVED):
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
        there = ", ".join(variant.name for variant in model.spec.variants)
        message = (
            f"unknown reference variant {accuracy.relative_to}: model {mission.spec.model.name} has {there}; correct "
            "spec.objectives.accuracy.relativeTo"
        )
        blocker = Blocker("ReferenceMissing", "Waiting", message)
    if blocker is not None:
        return Infeasible((blocker,), (), (), None)
    assert model is not None
    source = snapshot.nodes[sources[0]]
    problem = MissionProblem(
        demand=Demand.of(mission, model),
        model=model,
        source=source,
        aim=aim,
        index=index,
        loads=(holdings or Holdings.of(snapshot, index)).seen_by(mission),
        held=snapshot.held.get(mission.key),
    )
    if not problem.variants():
        return Infeasible((Blocker("VariantMissing", "Waiting", tell_unknown(mission, model)),), (), (), None)
    return problem


def _lacks_reference(objective: AccuracyObjective, model: Model) -> bool:
    """Return True if a Hard accuracy floor is relative to a variant that the model does not have.

    A Soft floor without a reference blocks nothing: no plan is known to keep it.
    """
    hard = objective.enforcement == "Hard" and objective.relative_to is not None
    return hard and find_reference(objective, model) is None


def _is_connected(problem: MissionProblem, pieces: Sequence[Piece]) -> bool:
    """Return True if links join the input node and the nodes of all pieces in order."""
    nodes = [problem.source, *(piece.unit.node for piece in pieces)]
    return all(a.name == b.name or problem.link(a, b) is not None for a, b in pairwise(nodes))
