"""Plan of one mission of a running cluster, made now with the operator's planner, with what it is based on."""

import sys
from dataclasses import replace

from maleo_api.meta import Resource
from maleo_api.mission import Mission
from maleo_cli.live_cluster import read_cluster, snapshot_of
from maleo_cli.output.text import format_explanation
from maleo_kube.access import Access
from maleo_planner import FleetIndex, explain, list_notices, plan


def plan_again(access: Access, system_namespace: str, mission: Mission, *, everything: bool) -> list[str]:
    """Plan a mission of the cluster again; return plan, alternatives and rejections in lines.

    Notices on the fleet go to stderr. Raise Failure if the cluster cannot be read.

    everything: list each rejected class of units, not only their numbers by reason.
    """
    cluster = read_cluster(access, system_namespace)
    # The report and the plan show the same version of the mission.
    missions: dict[str, Resource] = {**cluster.of(Mission), mission.key: mission}
    snapshot = snapshot_of(replace(cluster, resources={**cluster.resources, "Mission": missions}), first=mission.key)
    index = FleetIndex(snapshot)
    for notice in list_notices(replace(snapshot, missions={mission.key: mission}), index):
        print(f"note: {notice}", file=sys.stderr)
    verdict = plan(snapshot, mission.key, index=index)
    reasons = explain(snapshot, mission.key, verdict, index=index)
    planned = format_explanation(mission, verdict, reasons, everything=everything)
    return [*describe_measurements(mission), *planned]


def describe_measurements(mission: Mission) -> list[str]:
    """Return the heading of the new plan, and the measured values that it is based on."""
    decision = mission.status.decision
    if decision is None or not (decision.links or decision.units or decision.throttled):
        return ["Planned now, with declared figures"]
    return [
        f"Planned now, with the measurements of the last decision ({decision.reason})",
        *(
            f"  link {link.source} > {link.target}: {link.bandwidth}, standard deviation {link.spread}"
            for link in decision.links
        ),
        *(
            f"  {unit.node} {unit.unit}: {unit.time} of the declared compute time for artifact {unit.digest[7:19]}"
            for unit in decision.units
        ),
        *(f"  {unit.node} {unit.unit}: throttled to {unit.capacity} of its speed" for unit in decision.throttled),
    ]
