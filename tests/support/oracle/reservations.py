"""Reservations and limits of other missions that one mission respects; missions of lower criticality give way to it.

No code of the planner; reservations are read from the plans of the others.
"""

from collections.abc import Iterator

from maleo_api.device import ComputeUnit
from maleo_api.mission import Mission
from maleo_api.quantities import DURATION, RATE, parse
from maleo_planner.types.problem import Plan, Snapshot
from support.oracle import datasheet, links

RANK = {"Safety": 0, "Mission": 1, "BestEffort": 2}


def others(snapshot: Snapshot, mission: Mission) -> Iterator[tuple[Mission, Plan]]:
    for key, plan in snapshot.current_plans.items():
        other = snapshot.missions[key]
        if key != mission.key and RANK[other.spec.criticality] <= RANK[mission.spec.criticality]:
            yield other, plan


def reconfiguration(
    snapshot: Snapshot, mission: Mission, spot: tuple[str, str], unit: ComputeUnit, digest: str
) -> float | None:
    """Return the seconds of reconfiguration per request of an artifact; None if it may not share the unit."""
    seconds = datasheet.reconfiguration(unit)
    there = [
        (other, plan, part)
        for other, plan in others(snapshot, mission)
        for part in plan.partitions
        if (part.node, part.unit) == spot
    ]
    if seconds == 0 or all(plan.artifact.digest == digest for _, plan, _ in there):
        return 0.0
    if seconds is None:
        return None
    time = 0.0  # of a second, once all of them pay for each request
    for other, plan, part in there:
        rate, limit = parse(RATE, other.spec.demand.rate), other.spec.objectives.latency
        time += rate * part.compute.value + (0.0 if part.turn else rate * seconds)
        late = limit is not None and plan.latency.value - part.turn + seconds > parse(DURATION, limit.at_most)
        late &= limit is not None and plan.latency.value <= parse(DURATION, limit.at_most) + 1e-9  # not late already
        if late and limit is not None and limit.enforcement == "Hard":
            return None
    return seconds if time < 1 else None


def watts(snapshot: Snapshot, mission: Mission, node: str) -> float:
    """Return the watts that others draw on a node, by computation and by codecs."""
    found = 0.0
    for other, plan in others(snapshot, mission):
        joules = sum(part.energy.value for part in plan.partitions if part.node == node)
        joules += sum(each.coding[0] for each in plan.transfers if each.source == node)
        joules += sum(each.coding[1] for each in plan.transfers if each.target == node)
        found += parse(RATE, other.spec.demand.rate) * joules
    return found


def taken(snapshot: Snapshot, mission: Mission, wire: links.Wire) -> float:
    """Return the share of a link capacity that others use."""
    found = 0.0
    for other, plan in others(snapshot, mission):
        for each in plan.transfers:
            crossed = links.find(snapshot, snapshot.nodes[each.source], snapshot.nodes[each.target])
            if crossed is not None and crossed.shared == wire.shared:
                found += parse(RATE, other.spec.demand.rate) * each.wire
    return found
