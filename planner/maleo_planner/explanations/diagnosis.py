"""Diagnosis of a mission without a feasible plan: blockers by relevance, and whether each of them is temporary.

Method: plan on snapshots from which one temporary cause is removed (reservations of other missions, throttling, absent
or unhealthy nodes, taints), each cause alone, then all together. "CannotEver" is reported only if no plan exists even
then and the search was complete.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from maleo_api.accuracy_floor import find_reference_accuracy, format_floor
from maleo_api.device import Device
from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective, Mission
from maleo_api.quantities import DURATION, ENERGY, RATE, RATIO, parse, show, show_apart
from maleo_planner.explanations.contention import ContentionDiagnosis, describe_remedy, feasible_plan, join_few
from maleo_planner.explanations.relaxation import TrialPlanner
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import competing_plans
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import SearchResult
from maleo_planner.single.objective import UNKNOWN_ACCURACY
from maleo_planner.single.rejections import Rejection
from maleo_planner.types.problem import Blocker, Infeasible, Plan, Retry, Snapshot

BLOCKER_CODES: Final = {
    "latency": "LatencyTooTight",
    "energy": "EnergyTooTight",
    "accuracy": "AccuracyTooHigh",
    UNKNOWN_ACCURACY: "AccuracyUnknown",
    "rate": "RateTooHigh",
    "power": "PowerCapExceeded",
}
"""Name of a shortfall -> blocker code of the violated Hard limit."""
_RECONFIGURATION_CODES: Final = {"ReconfigurationTooSlow", "ReconfigurationUnknown"}
"""Codes of reserved units that cannot be shared; more specific than `UnitOccupied`, so reported first."""
_TEMPORARY_CODES: Final = {"NotAvailable", "NodeTainted", "UnitOccupied", *_RECONFIGURATION_CODES}


def diagnose(
    snapshot: Snapshot, key: str, verdict: Infeasible, plan_trial: TrialPlanner, index: FleetIndex
) -> tuple[Blocker, ...]:
    """Return the blockers of an infeasible verdict, temporary causes first.

    A temporary cause is one without which there is a plan: each cause alone, else all of them together. Blockers are
    "CannotEver" if it is proven that the mission does not fit an idle, unthrottled and complete fleet either, else
    "CannotNow".

    Args:
        snapshot: Snapshot that was planned.
        key: Mission.
        verdict: Its verdict.
        plan_trial: Plans a changed snapshot.
        index: Index of the snapshot.
    """
    mission, present = snapshot.missions[key], verdict.blockers
    if present[0].retry == "Waiting":
        return present
    without_cause, without_causes = dict[str, Snapshot](), snapshot
    for code, remove in _CAUSE_REMOVALS.items():
        changed = remove(snapshot, mission)
        if changed is not snapshot:
            without_cause[code], without_causes = changed, remove(without_causes, mission)
    verdicts = {code: plan_trial(changed, key) for code, changed in without_cause.items()}
    remedies = {code: plan for code, trial in verdicts.items() if (plan := feasible_plan(trial)) is not None}
    suffices = bool(remedies)
    last = next(iter(verdicts.values()), verdict)
    if not remedies and len(without_cause) > 1:
        last = plan_trial(without_causes, key)
        remedies = dict.fromkeys(without_cause, plan) if (plan := feasible_plan(last)) is not None else {}
    if not remedies and isinstance(last, Infeasible) and last is not verdict and present[0].code in _TEMPORARY_CODES:
        # Not feasible on an idle fleet either: its blockers come first, then those of the present fleet.
        retry_without: Retry = "CannotEver" if last.is_proven else "CannotNow"
        codes = {blocker.code for blocker in last.blockers}
        rest = tuple(replace(blocker, retry="CannotNow") for blocker in present if blocker.code not in codes)
        return tuple(replace(blocker, retry=retry_without) for blocker in last.blockers) + rest
    if not remedies:
        is_proven = isinstance(last, Infeasible) and last.is_proven
        retry: Retry = "CannotEver" if is_proven else "CannotNow"
        return tuple(replace(blocker, retry=retry) for blocker in present)
    contention = ContentionDiagnosis(
        snapshot if suffices else replace(without_causes, current_plans=snapshot.current_plans),
        mission,
        plan_trial,
        index,
    )
    causes = tuple(
        contention.find_blocker(plan, suffices=suffices)
        if code == "UnitOccupied"
        else _temporary_blocker(snapshot, code, plan, describe_remedy(plan, suffices=suffices))
        for code, plan in remedies.items()
    )
    reported = {"UnitOccupied", *(cause.code for cause in causes)}
    others = tuple(replace(blocker, retry="CannotNow") for blocker in present if blocker.code not in reported)
    return others + causes if present[0].code in _RECONFIGURATION_CODES else causes + others


def _without_competitors(snapshot: Snapshot, mission: Mission) -> Snapshot:
    """Return the snapshot without the plans that the mission cannot preempt; the same object if there are none."""
    others = competing_plans(snapshot, mission)
    remaining = {key: plan for key, plan in snapshot.current_plans.items() if key not in others}
    return replace(snapshot, current_plans=remaining) if others else snapshot


def _without_throttling(snapshot: Snapshot, _: Mission) -> Snapshot:
    """Return the snapshot with all units at full speed; the same object if none is throttled."""
    observations = snapshot.observations
    throttled = any(share < 1 for share in observations.capacity.values())
    return replace(snapshot, observations=replace(observations, capacity={})) if throttled else snapshot


def _with_healthy_nodes(snapshot: Snapshot, _: Mission) -> Snapshot:
    """Return the snapshot with all nodes and devices Ready; the same object if they are already."""
    absent = {name: node for name, node in snapshot.nodes.items() if not (node.ready and node.schedulable)}
    unhealthy = {name: device for name, device in snapshot.devices.items() if not _is_healthy(device)}
    if not absent and not unhealthy:
        return snapshot
    restored = {name: replace(node, ready=True, schedulable=True) for name, node in absent.items()}
    healed = {name: _make_healthy(device) for name, device in unhealthy.items()}
    return replace(snapshot, nodes={**snapshot.nodes, **restored}, devices={**snapshot.devices, **healed})


def _without_taints(snapshot: Snapshot, _: Mission) -> Snapshot:
    """Return the snapshot without taints; the same object if there are none."""
    tainted = {name: replace(node, taints=()) for name, node in snapshot.nodes.items() if node.taints}
    return replace(snapshot, nodes={**snapshot.nodes, **tainted}) if tainted else snapshot


def _is_healthy(device: Device) -> bool:
    units, conditions = device.status.units, device.status.conditions
    return all(unit.state == "Available" for unit in units) and all(c.status == "True" for c in conditions)


def _make_healthy(device: Device) -> Device:
    units = [unit.model_copy(update={"state": "Available"}) for unit in device.status.units]
    conditions = [c.model_copy(update={"status": "True"}) for c in device.status.conditions]
    status = device.status.model_copy(update={"units": units, "conditions": conditions})
    return device.model_copy(update={"status": status})


_CAUSE_REMOVALS: Final = {
    "UnitOccupied": _without_competitors,
    "Throttled": _without_throttling,
    "NotAvailable": _with_healthy_nodes,
    "NodeTainted": _without_taints,
}


def _temporary_blocker(snapshot: Snapshot, code: str, plan: Plan, remedy: str) -> Blocker:
    """Return the blocker of a temporary cause.

    Args:
        snapshot: Snapshot that was planned.
        code: Cause.
        plan: Plan that would be feasible without the cause.
        remedy: Text of `describe_remedy` for this plan.
    """
    parts = {(part.node, part.unit) for part in plan.partitions}
    if code == "Throttled":
        throttled = {unit: share for unit, share in snapshot.observations.capacity.items() if share < 1}
        relevant = {unit: share for unit, share in throttled.items() if unit in parts} or throttled
        texts = [
            f"{node} {unit} is throttled to {show_apart(RATIO, share, 1.0)[0]} of its speed"
            for (node, unit), share in sorted(relevant.items())
        ]
        return Blocker(code, "CannotNow", f"{join_few(texts)}; without that{remedy}")
    if code == "NotAvailable":
        return Blocker(code, "CannotNow", f"{join_few(list(_describe_absent(snapshot, parts)))}; without that{remedy}")
    tainted = join_few(list(_describe_taints(snapshot, parts)))
    instruction = "add a toleration to the chart's slots.tolerations, or remove the taint from the node"
    return Blocker(code, "CannotNow", f"{tainted}, which slots do not tolerate: {instruction}; without it{remedy}")


def _describe_absent(snapshot: Snapshot, parts: set[tuple[str, str]]) -> Iterator[str]:
    for node, unit in sorted(parts):
        facts, device = snapshot.nodes[node], snapshot.devices.get(node)
        if not facts.ready:
            yield f"node {node} is not Ready"
        elif not facts.schedulable:
            yield f"node {node} is cordoned"
        elif device is not None and not _is_healthy(device):
            yield f"{node} {unit}: {_describe_health(device, unit)}"


def _describe_health(device: Device, unit: str) -> str:
    state = next((u.state for u in device.status.units if u.name == unit), "Available")
    if state != "Available":
        return f"the unit is {state}"
    failing = next((c for c in device.status.conditions if c.status != "True"), None)
    return (
        f"{failing.type} is {failing.status} ({failing.reason})"
        if failing
        else "another unit of the device is not Available"
    )


def _describe_taints(snapshot: Snapshot, parts: set[tuple[str, str]]) -> Iterator[str]:
    for node in sorted({node for node, _ in parts}):
        if taints := snapshot.nodes[node].taints:
            yield f"{node} has taint {' and '.join(taints)}"


def blocker_of_rejections(problem: MissionProblem, result: SearchResult) -> Blocker:
    """Return the blocker of a mission whose candidates all violate a structural rule.

    It names a temporary rule if there is one, else the rule that rejects most candidates. Rules that reject some
    candidates of most missions come last.
    """
    refused = _relevant_rejections(problem, result.rejections)
    counts = Counter(r.code for r in refused)
    common = {"ModeNotAllowed", "FormatUnsupported", "RuntimeUnsupported"}
    split_only = problem.requirements.mission.spec.modes == ["Split"]
    decisive = {"NoLegalCut"} if split_only else set()  # excludes the model on every fleet
    order = sorted(
        counts,
        key=lambda code: (code in common, code not in decisive, code not in _TEMPORARY_CODES, -counts[code], code),
    )
    if not order:
        return Blocker("NoDevice", "Waiting", "no Device can run any part of this model")
    example = next(r for r in refused if r.code == order[0])
    rest = ", ".join(f"{code} {counts[code]}" for code in order[1:])
    message = f"{order[0]} rejects {counts[order[0]]} candidates, such as {example.candidate} ({example.example})"
    retry: Retry = "CannotNow" if _TEMPORARY_CODES & set(counts) else "CannotEver"
    return Blocker(order[0], retry, f"{message}; also {rest}" if rest else message)


def blocker_of_work_limit(problem: MissionProblem, closest: Plan | None) -> Blocker:
    """Return the blocker of a search that reached its work limit: the size of the problem, and how to reduce it.

    Args:
        problem: Planning problem.
        closest: Closest infeasible plan so far; None without one.
    """
    variants = problem.runnable_variants()
    blocks = max(len(variant.blocks) for variant in variants)
    codecs = max((len(block.cut.codecs) for v in variants for block in v.blocks if block.cut), default=0)
    sizes = [f"{len(variants)} variants and exits", f"up to {blocks} blocks", f"{len(problem.units)} candidate units"]
    sizes += [f"up to {codecs} codecs per cut"] if codecs else []
    best = f"{closest.mode} on {'>'.join(closest.nodes)} with {closest.label}" if closest else "none"
    return Blocker(
        "PlanningTooLarge",
        "CannotNow",
        f"the search reached its work limit, so a feasible plan may exist: model {problem.model.metadata.name} with "
        f"{', '.join(sizes)}; closest plan so far: {best}; list fewer variants in spec.model.variants, or define fewer "
        "cuts, exits or codecs in the Model",
    )


def _relevant_rejections(problem: MissionProblem, rejections: Sequence[Rejection]) -> Sequence[Rejection]:
    """Return the rejections that concern the modes of the mission.

    If only Local is allowed, these are the rejections of units on the input node; if only Remote, those of units on
    other nodes; all rejections if there are none of these.
    """
    modes, source = problem.requirements.mission.spec.modes, problem.source.name
    if modes == ["Local"] and (on_input := [r for r in rejections if r.unit is not None and r.unit[0] == source]):
        return on_input
    if modes == ["Remote"] and (elsewhere := [r for r in rejections if r.unit is not None and r.unit[0] != source]):
        return elsewhere
    return rejections


def blockers_of_shortfalls(
    problem: MissionProblem, result: SearchResult, best: Candidate, built: Plan
) -> Iterable[Blocker]:
    """Yield a blocker for each Hard limit that the closest infeasible plan violates, by descending shortfall."""
    temporary = any(r.code in _TEMPORARY_CODES for r in result.rejections) or any(u.capacity < 1 for u in problem.units)
    where = ">".join(built.nodes)
    for name in sorted(best.shortfalls, key=lambda n: (-best.shortfalls[n], n)):
        description = _describe_shortfall(problem, name, built)
        message = f"closest infeasible plan: {built.mode} on {where} with {built.variant}: {description}"
        yield Blocker(BLOCKER_CODES[name], "CannotNow" if temporary else "CannotEver", message)


def _describe_shortfall(problem: MissionProblem, name: str, built: Plan) -> str:  # noqa: PLR0911 - one for each kind
    """Describe the violation of a limit: the value, the limit and the difference."""
    requirements, objective = problem.requirements, problem.requirements.mission.spec.objectives.accuracy
    if name == "latency" and requirements.latency:
        excess = built.latency.value - requirements.latency.value
        reached, limit = show_apart(DURATION, built.latency.value, requirements.latency.value)
        return f"latency {reached} exceeds the limit {limit} by {show(DURATION, excess)}"
    if name == "energy" and requirements.energy:
        if built.energy.basis is Basis.UNKNOWN:
            return "energy is unknown, and an unknown value satisfies no Hard limit"
        excess = built.energy.value - requirements.energy.value
        reached, limit = show_apart(ENERGY, built.energy.value, requirements.energy.value)
        return f"energy {reached} exceeds the limit {limit} by {show(ENERGY, excess)}"
    if name == UNKNOWN_ACCURACY and objective:
        return _describe_missing_accuracy(problem, objective, built)
    if name == "accuracy" and requirements.accuracy and objective and built.accuracy:
        floor = requirements.accuracy.value
        reached, _ = show_apart(RATIO, built.accuracy.value, floor)
        return f"accuracy {reached} is below the floor {format_floor(objective, floor, parse(RATIO, reached))}"
    if name == "power":
        return "its units together would exceed the power cap of their node"
    sustained, demanded = show_apart(RATE, built.rate.value, requirements.rate)
    return f"sustainable rate {sustained} is below the demanded {demanded}"


def _describe_missing_accuracy(problem: MissionProblem, objective: AccuracyObjective, built: Plan) -> str:
    """Describe which accuracy is not declared, and where to declare it.

    The reference variant comes first: without its accuracy there is no floor.
    """
    missing = f"no accuracy figure for {objective.metric} on {objective.dataset}"
    field = f"Model {problem.model.metadata.name} spec.variants[]"
    if find_reference_accuracy(objective, problem.model) is None:
        return f"reference variant {objective.relative_to} has {missing}: declare it in {field}.accuracy"
    if built.exit:
        return f"exit {built.exit} of {built.variant} has {missing}: declare it in {field}.exits[].accuracy"
    return f"variant {built.variant} has {missing}: declare it in {field}.accuracy"
