"""A planning snapshot of a running cluster, by what its API server holds."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.manifests import Manifests, Node, PriorityClass
from maleo_api.meta import Resource
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile
from maleo_api.placement import Placement
from maleo_cli.failure import Failure
from maleo_kube.client import Client
from maleo_kube.errors import ApiError
from maleo_kube.resources import BY_KIND
from maleo_operator.planning import measured
from maleo_operator.planning.planner import restore
from maleo_operator.planning.problem import Snapshot
from maleo_operator.planning.snapshot import from_manifests

_KINDS: tuple[type[Resource], ...] = (DeviceProfile, Device, Link, Model, ModelProfile, Mission, Placement)


async def read_cluster(given: Path | None) -> Manifests:
    """Everything that planning looks at. given: a kubeconfig; else KUBECONFIG, else ~/.kube/config.

    Failure when the cluster cannot be read.
    """
    kubeconfig = given or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
    try:
        async with Client.from_kubeconfig(kubeconfig) as client:
            found = {kind.__name__: await _list(client, kind) for kind in _KINDS}
            nodes = await client.list(BY_KIND["Node"])
            classes = await client.list(BY_KIND["PriorityClass"])
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise Failure(
            f"{kubeconfig}: {told}", "name a kubeconfig with --kubeconfig or KUBECONFIG", exit_code=2
        ) from error
    except ApiError as error:
        raise Failure(
            f"the cluster of {kubeconfig} cannot be read: {error}", "is it up, and is Maleo installed?"
        ) from error
    named = {item["metadata"]["name"]: Node.model_validate(item) for item in nodes.items}
    ranks = {item["metadata"]["name"]: PriorityClass.model_validate(item) for item in classes.items}
    return Manifests(found, named, priority_classes=ranks)


def snapshot_of(cluster: Manifests, *, first: str = "") -> Snapshot:
    """Return what the operator plans by: what missions serve by is held, and leaving it is a move.

    Measured figures are those of the missions' last decisions, as their status tells them; those of the mission
    `first` count before others.
    """
    ordered = sorted(cluster.of(Mission).items(), key=lambda item: (item[0] == first, item[0]))
    decisions = [mission.status.decision for _, mission in ordered]
    observations = measured.restore(decision for decision in decisions if decision is not None)
    snapshot, held = from_manifests(cluster, observations), {}
    for key, mission in snapshot.missions.items():
        placement = serving(cluster, mission)
        plan = restore(snapshot, key, placement) if placement is not None else None
        if plan is not None:
            held[key] = plan
    return replace(snapshot, held=held)


def serving(cluster: Manifests, mission: Mission) -> Placement | None:
    """The placement that the mission serves by."""
    active = mission.status.active
    mine = [p for p in cluster.of(Placement).values() if p.spec.mission == mission.metadata.name]
    same = [p for p in mine if p.metadata.namespace == mission.metadata.namespace]
    return next((p for p in same if active is not None and p.spec.revision == active.revision), None)


async def _list(client: Client, kind: type[Resource]) -> dict[str, Resource]:
    items: list[dict[str, Any]] = (await client.list(BY_KIND[kind.__name__])).items
    parsed = [kind.model_validate(item) for item in items]
    return {resource.key: resource for resource in parsed}
