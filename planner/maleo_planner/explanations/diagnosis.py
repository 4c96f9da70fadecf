"""Diagnosis of a mission without a feasible plan: blockers, the nearest first, and whether each of them can pass.

Method: plan again on snapshots from which one temporary cause is removed (what others hold, throttling, absent or
unhealthy nodes, taints), each cause alone, then all together. "CannotEver" is reported only where no plan exists even
then and the search was complete.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from maleo_api.device import Device
from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective, Mission
from maleo_api.quantities import DURATION, ENERGY, RATE, RATIO, parse, show, show_apart
from maleo_planner.explanations.contention import Contention, plan_of, tell_few, would_do
from maleo_planner.explanations.relaxation import Decide
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import holders
from maleo_planner.single.candidate import Candidate
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import SearchResult
from maleo_planner.single.objective import UNKNOWN_ACCURACY
from maleo_planner.single.rejections import Refused
from maleo_planner.types.accuracy_floor import find_whole, tell_floor
from maleo_planner.types.problem import Blocker, Infeasible, Plan, Retry, Snapshot

CODES: Final = {
    "latency": "LatencyTooTight",
    "energy": "EnergyTooTight",
    "accuracy": "AccuracyTooHigh",
    UNKNOWN_ACCURACY: "AccuracyUnknown",
    "rate": "RateTooHigh",
    "power": "PowerCapExceeded",
}
"""Name of a shortfall -> blocker code of the broken Hard limit."""
_TURNS: Final = {"ReconfigurationTooSlow", "ReconfigurationUnknown"}
"""Codes for a unit that others hold and that cannot be shared; more specific than `UnitOccupied`, so reported first."""
_TEMPORARY: Final = {"NotAvailable", "NodeTainted", "UnitOccupied", *_TURNS}


def diagnose(
    snapshot: Snapshot, key: str, verdict: Infeasible, decide: Decide, index: FleetIndex
) -> tuple[Blocker, ...]:
    """Return the blockers of an infeasible verdict, temporary causes first.

    A temporary cause is one without which there is a plan: each such cause alone, else all of them together. Blockers
    are "CannotEver" if the mission would not fit an empty, unthrottled and complete fleet either, and that is proven;
    else "CannotNow".

    decide: plans a changed snapshot.
    """
    mission, base = snapshot.missions[key], verdict.blockers
    if base[0].retry == "Waiting":
        return base
    eased, everything = dict[str, Snapshot](), snapshot
    for code, ease in _EASES.items():
        changed = ease(snapshot, mission)
        if changed is not snapshot:
            eased[code], everything = changed, ease(everything, mission)
    answers = {code: decide(changed, key) for code, changed in eased.items()}
    would = {code: plan for code, answer in answers.items() if (plan := plan_of(answer)) is not None}
    alone = bool(would)
    last = next(iter(answers.values()), verdict)
    if not would and len(eased) > 1:
        last = decide(everything, key)
        would = dict.fromkeys(eased, plan) if (plan := plan_of(last)) is not None else {}
    if not would and isinstance(last, Infeasible) and last is not verdict and base[0].code in _TEMPORARY:
        # Not feasible on an empty fleet either: its blockers come first, then those of the present fleet.
        never: Retry = "CannotEver" if last.is_proven else "CannotNow"
        codes = {blocker.code for blocker in last.blockers}
        rest = tuple(replace(blocker, retry="CannotNow") for blocker in base if blocker.code not in codes)
        return tuple(replace(blocker, retry=never) for blocker in last.blockers) + rest
    if not would:
        is_proven = isinstance(last, Infeasible) and last.is_proven
        retry: Retry = "CannotEver" if is_proven else "CannotNow"
        return tuple(replace(blocker, retry=retry) for blocker in base)
    contention = Contention(snapshot if alone else replace(everything, held=snapshot.held), mission, decide, index)
    causes = tuple(
        contention.tell(plan, alone=alone)
        if code == "UnitOccupied"
        else _cause(snapshot, code, plan, would_do(plan, alone=alone))
        for code, plan in would.items()
    )
    told = {"UnitOccupied", *(cause.code for cause in causes)}
    others = tuple(replace(blocker, retry="CannotNow") for blocker in base if blocker.code not in told)
    return others + causes if base[0].code in _TURNS else causes + others


def _empty(snapshot: Snapshot, mission: Mission) -> Snapshot:
    """Return the snapshot without the plans that the mission must leave room for; the same object if there are none."""
    others = holders(snapshot, mission)
    held = {key: plan for key, plan in snapshot.held.items() if key not in others}
    return replace(snapshot, held=held) if others else snapshot


def _cool(snapshot: Snapshot, _: Mission) -> Snapshot:
    """Return the snapshot with all units at full speed; the same object if none is throttled."""
    seen = snapshot.observations
    throttled = any(share < 1 for share in seen.capacity.values())
    return replace(snapshot, observations=replace(seen, capacity={})) if throttled else snapshot


def _complete(snapshot: Snapshot, _: Mission) -> Snapshot:
    """Return the snapshot with all nodes ready and all devices healthy; the same object if they are already."""
    absent = {name: node for name, node in snapshot.nodes.items() if not (node.ready and node.schedulable)}
    sick = {name: device for name, device in snapshot.devices.items() if not _is_healthy(device)}
    if not absent and not sick:
        return snapshot
    back = {name: replace(node, ready=True, schedulable=True) for name, node in absent.items()}
    healed = {name: _heal(device) for name, device in sick.items()}
    return replace(snapshot, nodes={**snapshot.nodes, **back}, devices={**snapshot.devices, **healed})


def _without_taints(snapshot: Snapshot, _: Mission) -> Snapshot:
    """Return the snapshot without taints; the same object if there are none."""
    tainted = {name: replace(node, taints=()) for name, node in snapshot.nodes.items() if node.taints}
    return replace(snapshot, nodes={**snapshot.nodes, **tainted}) if tainted else snapshot


def _is_healthy(device: Device) -> bool:
    units, conditions = device.status.units, device.status.conditions
    return all(unit.state == "Available" for unit in units) and all(c.status == "True" for c in conditions)


def _heal(device: Device) -> Device:
    units = [unit.model_copy(update={"state": "Available"}) for unit in device.status.units]
    conditions = [c.model_copy(update={"status": "True"}) for c in device.status.conditions]
    status = device.status.model_copy(update={"units": units, "conditions": conditions})
    return device.model_copy(update={"status": status})


_EASES: Final = {"UnitOccupied": _empty, "Throttled": _cool, "NotAvailable": _complete, "NodeTainted": _without_taints}


def _cause(snapshot: Snapshot, code: str, plan: Plan, would: str) -> Blocker:
    """Return the blocker for a temporary cause.

    plan: what would be feasible without the cause. would: result of `would_do` for it.
    """
    parts = {(part.node, part.unit) for part in plan.partitions}
    if code == "Throttled":
        slow = {unit: share for unit, share in snapshot.observations.capacity.items() if share < 1}
        named = {unit: share for unit, share in slow.items() if unit in parts} or slow
        texts = [
            f"{node} {unit} is throttled to {show_apart(RATIO, share, 1.0)[0]} of its speed"
            for (node, unit), share in sorted(named.items())
        ]
        return Blocker(code, "CannotNow", f"{tell_few(texts)}; without that{would}")
    if code == "NotAvailable":
        return Blocker(code, "CannotNow", f"{tell_few(list(_absent(snapshot, parts)))}; without that{would}")
    tainted = tell_few(list(_tainted(snapshot, parts)))
    remedy = "add a toleration to the chart's slots.tolerations, or remove the taint from the node"
    return Blocker(code, "CannotNow", f"{tainted}, which slots do not tolerate: {remedy}; without it{would}")


def _absent(snapshot: Snapshot, parts: set[tuple[str, str]]) -> Iterator[str]:
    for node, unit in sorted(parts):
        facts, device = snapshot.nodes[node], snapshot.devices.get(node)
        if not facts.ready:
            yield f"node {node} is not Ready"
        elif not facts.schedulable:
            yield f"node {node} is cordoned"
        elif device is not None and not _is_healthy(device):
            yield f"{node} {unit}: {_tell_illness(device, unit)}"


def _tell_illness(device: Device, unit: str) -> str:
    state = next((u.state for u in device.status.units if u.name == unit), "Available")
    if state != "Available":
        return f"the unit is {state}"
    sick = next((c for c in device.status.conditions if c.status != "True"), None)
    return f"{sick.type} is {sick.status} ({sick.reason})" if sick else "another unit of the device is not Available"


def _tainted(snapshot: Snapshot, parts: set[tuple[str, str]]) -> Iterator[str]:
    for node in sorted({node for node, _ in parts}):
        if taints := snapshot.nodes[node].taints:
            yield f"{node} has taint {' and '.join(taints)}"


def block_all(problem: MissionProblem, result: SearchResult) -> Blocker:
    """Return the blocker of a mission all of whose candidates break a structural rule.

    It names a temporary rule if there is one, else the rule that rejects most candidates; rules that usually reject
    some candidates come last.
    """
    refused = _concerned(problem, result.rejections)
    counts = Counter(r.code for r in refused)
    usual = {"ModeNotAllowed", "FormatUnsupported", "RuntimeUnsupported"}
    split_only = problem.demand.mission.spec.modes == ["Split"]
    whole = {"NoLegalCut"} if split_only else set()  # rules out the model on every fleet
    order = sorted(
        counts, key=lambda code: (code in usual, code not in whole, code not in _TEMPORARY, -counts[code], code)
    )
    if not order:
        return Blocker("NoDevice", "Waiting", "no Device can run any part of this model")
    example = next(r for r in refused if r.code == order[0])
    rest = ", ".join(f"{code} {counts[code]}" for code in order[1:])
    message = f"{order[0]} rejects {counts[order[0]]} candidates, such as {example.candidate} ({example.example})"
    retry: Retry = "CannotNow" if _TEMPORARY & set(counts) else "CannotEver"
    return Blocker(order[0], retry, f"{message}; also {rest}" if rest else message)


def block_too_large(problem: MissionProblem, least_bad: Plan | None) -> Blocker:
    """Return the blocker of a search that ended before it found a plan or excluded all: what was large, and the remedy.

    least_bad: closest infeasible plan so far.
    """
    editions = problem.variants()
    blocks = max(len(variant.blocks) for variant in editions)
    codecs = max((len(block.cut.codecs) for v in editions for block in v.blocks if block.cut), default=0)
    sizes = [f"{len(editions)} variants and exits", f"up to {blocks} blocks", f"{len(problem.units)} candidate units"]
    sizes += [f"up to {codecs} codecs per cut"] if codecs else []
    best = f"{least_bad.mode} on {'>'.join(least_bad.nodes)} with {least_bad.label}" if least_bad else "none"
    return Blocker(
        "PlanningTooLarge",
        "CannotNow",
        f"the search reached its work limit, so a feasible plan may exist: model {problem.model.metadata.name} with "
        f"{', '.join(sizes)}; closest plan so far: {best}; list fewer variants in spec.model.variants, or define fewer "
        "cuts, exits or codecs in the Model",
    )


def _concerned(problem: MissionProblem, rejections: Sequence[Refused]) -> Sequence[Refused]:
    """Return the rejections that concern the mission's modes.

    If only Local (Remote) is allowed: those of units on the input node (on other nodes), where there are any.
    """
    modes, source = problem.demand.mission.spec.modes, problem.source.name
    if modes == ["Local"] and (here := [r for r in rejections if r.unit is not None and r.unit[0] == source]):
        return here
    if modes == ["Remote"] and (there := [r for r in rejections if r.unit is not None and r.unit[0] != source]):
        return there
    return rejections


def block_best(problem: MissionProblem, result: SearchResult, best: Candidate, built: Plan) -> Iterable[Blocker]:
    """Yield a blocker for each Hard limit that the closest infeasible plan breaks, the largest shortfall first."""
    temporary = any(r.code in _TEMPORARY for r in result.rejections) or any(u.capacity < 1 for u in problem.units)
    where = ">".join(built.nodes)
    for name in sorted(best.shortfalls, key=lambda n: (-best.shortfalls[n], n)):
        told = _shortfall(problem, name, built)
        message = f"closest infeasible plan: {built.mode} on {where} with {built.variant}: {told}"
        yield Blocker(CODES[name], "CannotNow" if temporary else "CannotEver", message)


def _shortfall(problem: MissionProblem, name: str, built: Plan) -> str:  # noqa: PLR0911 - one for each kind
    """Return the text for a broken limit: the value reached, the limit, and the difference."""
    demand, objective = problem.demand, problem.demand.mission.spec.objectives.accuracy
    if name == "latency" and demand.latency:
        over = built.latency.value - demand.latency.value
        reached, limit = show_apart(DURATION, built.latency.value, demand.latency.value)
        return f"latency {reached} exceeds the limit {limit} by {show(DURATION, over)}"
    if name == "energy" and demand.energy:
        if built.energy.basis is Basis.UNKNOWN:
            return "energy is unknown, and an unknown value satisfies no Hard limit"
        over = built.energy.value - demand.energy.value
        reached, limit = show_apart(ENERGY, built.energy.value, demand.energy.value)
        return f"energy {reached} exceeds the limit {limit} by {show(ENERGY, over)}"
    if name == UNKNOWN_ACCURACY and objective:
        return _missing_figure(problem, objective, built)
    if name == "accuracy" and demand.accuracy and objective and built.accuracy:
        floor = demand.accuracy.value
        reached, _ = show_apart(RATIO, built.accuracy.value, floor)
        return f"accuracy {reached} is below the floor {tell_floor(objective, floor, parse(RATIO, reached))}"
    if name == "power":
        return "its units together would exceed the power cap of their node"
    sustained, asked = show_apart(RATE, built.rate.value, demand.rate)
    return f"sustainable rate {sustained} is below the demanded {asked}"


def _missing_figure(problem: MissionProblem, objective: AccuracyObjective, built: Plan) -> str:
    """Return the text that names the missing accuracy figure and where to state it.

    The reference variant comes first: without its figure there is no floor.
    """
    what = f"no accuracy figure for {objective.metric} on {objective.dataset}"
    told = f"Model {problem.model.metadata.name} spec.variants[]"
    if find_whole(objective, problem.model) is None:
        return f"reference variant {objective.relative_to} has {what}: declare it in {told}.accuracy"
    if built.exit:
        return f"exit {built.exit} of {built.variant} has {what}: declare it in {told}.exits[].accuracy"
    return f"variant {built.variant} has {what}: declare it in {told}.accuracy"
