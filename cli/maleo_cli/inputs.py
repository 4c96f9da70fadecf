"""Inputs of `maleo plan`: manifests, the shipped hardware catalogue where they need it, and objects of a cluster."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from maleo_api.device import Device, DeviceProfile
from maleo_api.manifests import ManifestError, Manifests, load
from maleo_api.model import ModelProfile
from maleo_cli.charts import CHARTS, read_values
from maleo_cli.errors import Failure
from maleo_cli.live_cluster import snapshot_of
from maleo_planner import Snapshot, from_manifests

_CATALOGUE: Final = CHARTS / "maleo" / "profiles"
_PARTS: Final = ("nodes", "profiles", "devices", "links", "models", "model_profiles", "missions", "priorities")


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Planning input. manifest_missions: keys of the missions from manifests; all others come from a cluster."""

    snapshot: Snapshot
    manifest_missions: frozenset[str]


def read_inputs(
    files: Sequence[Path],
    *,
    cluster: Manifests | None,
    profiles: Sequence[str],
    values: Path | None = None,
    namespace: str = "default",
) -> PlanInputs:
    """Read manifests and merge them with the objects of a cluster, which they replace where names are equal.

    profiles: DeviceProfiles needed in addition to those that manifests name. values: chart values file as for
    `maleo install`; its `slots.tolerations` replace those of the cluster. namespace: of manifests that name
    none. Raise `Failure` for invalid input.
    """
    if cluster is None and not files:
        raise Failure("nothing to plan", "pass manifests with -f, or use --live to read a cluster", exit_code=2)
    tolerations = _read_tolerations(values) if values is not None else cluster.tolerations if cluster else ()
    try:
        manifests = load(files, standard_input=sys.stdin.read, namespace=namespace)
        manifests = _with_catalogue(manifests, cluster or Manifests(), profiles)
        manifests.check(cluster)
    except ManifestError as error:
        raise Failure("\n".join(error.mistakes), exit_code=2) from error
    written = from_manifests(replace(manifests, tolerations=tolerations))
    if cluster is None:
        return PlanInputs(written, frozenset(written.missions))
    base = snapshot_of(replace(cluster, tolerations=tolerations))
    merged: dict[str, Any] = {name: {**getattr(base, name), **getattr(written, name)} for name in _PARTS}
    return PlanInputs(replace(base, **merged), frozenset(written.missions))


def _read_tolerations(values: Path) -> tuple[dict[str, Any], ...]:
    slots = read_values(values).get("slots") or {}
    try:
        return msgspec.convert(slots.get("tolerations") or (), type=tuple[dict[str, str | int], ...])
    except (AttributeError, msgspec.ValidationError) as error:
        remedy = "write a list such as [{key: dedicated, operator: Exists}]"
        raise Failure(f"{values}: slots.tolerations: not a list of tolerations", remedy, exit_code=2) from error


def _with_catalogue(manifests: Manifests, cluster: Manifests, profiles: Sequence[str]) -> Manifests:
    """Return the manifests, completed by the shipped catalogue if neither they nor the cluster have a named profile.

    Profiles of the manifests and of the cluster take precedence.
    """
    written = manifests.of(DeviceProfile)
    available = cluster.of(DeviceProfile) | written
    declared = {a.profile for device in manifests.of(Device).values() for a in device.spec.declared}
    measured = {table.spec.profile for table in manifests.of(ModelProfile).values()}
    if {*profiles, *declared, *measured} <= set(available) or not _CATALOGUE.is_dir():
        return manifests
    shipped = {name: profile for name, profile in load([_CATALOGUE]).of(DeviceProfile).items() if name not in available}
    return replace(manifests, resources={**manifests.resources, "DeviceProfile": {**shipped, **written}})
