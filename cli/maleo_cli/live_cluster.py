"""Planning snapshot of a running cluster, read from its API server."""

import sys
from dataclasses import replace
from typing import Any, Final

import msgspec

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.manifests import Manifests, Node, PriorityClass
from maleo_api.meta import Resource
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile
from maleo_api.placement import Placement
from maleo_cli.connection import unreadable
from maleo_kube.access import Access
from maleo_kube.errors import ApiError, Forbidden, NotFound
from maleo_kube.reader import Reader
from maleo_kube.resources import BY_KIND, CONFIG_MAPS
from maleo_planner import FleetIndex, Snapshot, from_manifests, restore_plan
from maleo_planner.types import measured

_KINDS: tuple[type[Resource], ...] = (DeviceProfile, Device, Link, Model, ModelProfile, Mission, Placement)
_SETTINGS: Final = "maleo-settings"


def read_cluster(access: Access, system_namespace: str) -> Manifests:
    """Return all objects that planning needs. Raise `Failure` if the cluster cannot be read."""
    try:
        with Reader(access) as reader:
            resources = {kind.__name__: _list(reader, kind) for kind in _KINDS}
            nodes = reader.list(BY_KIND["Node"])
            classes = reader.list(BY_KIND["PriorityClass"])
            tolerations = _read_tolerations(reader, system_namespace)
    except ApiError as error:
        raise unreadable(access, error) from error
    nodes_by_name = {item["metadata"]["name"]: Node.model_validate(item) for item in nodes}
    priority_classes = {item["metadata"]["name"]: PriorityClass.model_validate(item) for item in classes}
    return Manifests(resources, nodes_by_name, priority_classes=priority_classes, tolerations=tolerations)


def snapshot_of(cluster: Manifests, *, first: str = "") -> Snapshot:
    """Return the snapshot that the operator plans on: the plans of active Placements are held, leaving one is a move.

    Measured figures are those in the status of the missions, from their last decisions; those of mission `first` take
    precedence.
    """
    ordered = sorted(cluster.of(Mission).items(), key=lambda item: (item[0] == first, item[0]))
    decisions = [mission.status.decision for _, mission in ordered]
    observations = measured.restore_observations(decision for decision in decisions if decision is not None)
    snapshot, held = from_manifests(cluster, observations), {}
    index = FleetIndex(snapshot)
    for key, mission in snapshot.missions.items():
        placement = find_active(cluster, mission)
        plan = restore_plan(snapshot, key, placement, index=index) if placement is not None else None
        if plan is not None:
            held[key] = plan
    return replace(snapshot, current_plans=held)


def find_active(cluster: Manifests, mission: Mission) -> Placement | None:
    """Return the Placement of the mission's active revision; None if there is none."""
    active = mission.status.active
    own = [p for p in cluster.of(Placement).values() if p.spec.mission == mission.metadata.name]
    candidates = [p for p in own if p.metadata.namespace == mission.metadata.namespace]
    return next((p for p in candidates if active is not None and p.spec.revision == active.revision), None)


def _read_tolerations(reader: Reader, system_namespace: str) -> tuple[dict[str, Any], ...]:
    """Return the tolerations of slots from the operator's settings; none, with a note on stderr, if unreadable."""
    try:
        settings = reader.get(CONFIG_MAPS, _SETTINGS, namespace=system_namespace)
    except (NotFound, Forbidden) as error:
        print(
            f"note: cannot read the tolerations of slots ({error}): planning without tolerations; "
            "pass Maleo's namespace with --system-namespace",
            file=sys.stderr,
        )
        return ()
    return msgspec.json.decode(settings["data"]["slotTolerations"], type=tuple[dict[str, Any], ...])


def _list(reader: Reader, kind: type[Resource]) -> dict[str, Resource]:
    parsed = [kind.model_validate(item) for item in reader.list(BY_KIND[kind.__name__])]
    return {resource.key: resource for resource in parsed}
