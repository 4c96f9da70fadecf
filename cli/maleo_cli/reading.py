"""What `maleo plan` plans: manifests, the shipped catalogue where they need it, and what a cluster holds."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from maleo_api.device import Device, DeviceProfile
from maleo_api.manifests import ManifestError, Manifests, load
from maleo_api.model import ModelProfile
from maleo_cli.failure import Failure
from maleo_cli.install import CHARTS, read_values
from maleo_cli.live import snapshot_of
from maleo_operator.planning.problem import Snapshot
from maleo_operator.planning.snapshot import from_manifests

_CATALOGUE: Final = CHARTS / "maleo" / "profiles"
_PARTS: Final = ("nodes", "profiles", "devices", "links", "models", "model_profiles", "missions", "priorities")


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be planned. written: keys of the missions that manifests hold, the others are of a cluster."""

    snapshot: Snapshot
    written: frozenset[str]


def read(
    files: Sequence[Path], *, cluster: Manifests | None, profiles: Sequence[str], values: Path | None = None
) -> Question:
    """Read manifests, and join them with a cluster's: they replace what the cluster has of the same name.

    profiles: names that the question needs beside those in the manifests. values: of the chart, as for `maleo install`;
    their `slots.tolerations` take the place of the cluster's. Raise Failure for what is wrong.
    """
    if cluster is None and not files:
        raise Failure("nothing to plan", "name manifests with -f, or a cluster with --live", exit_code=2)
    tolerations = _read_tolerations(values) if values is not None else cluster.tolerations if cluster else ()
    try:
        manifests = load(files, standard_input=sys.stdin.read)
        manifests = _with_catalogue(manifests, cluster or Manifests(), profiles)
        manifests.check(cluster)
    except ManifestError as error:
        raise Failure("\n".join(error.mistakes), exit_code=2) from error
    written = from_manifests(replace(manifests, tolerations=tolerations))
    if cluster is None:
        return Question(written, frozenset(written.missions))
    there = snapshot_of(replace(cluster, tolerations=tolerations))
    both: dict[str, Any] = {name: {**getattr(there, name), **getattr(written, name)} for name in _PARTS}
    return Question(replace(there, **both), frozenset(written.missions))


def _read_tolerations(values: Path) -> tuple[dict[str, Any], ...]:
    slots = read_values(values).get("slots") or {}
    try:
        return msgspec.convert(slots.get("tolerations") or (), type=tuple[dict[str, str | int], ...])
    except (AttributeError, msgspec.ValidationError) as error:
        todo = "write a list such as [{key: dedicated, operator: Exists}]"
        raise Failure(f"{values}: slots.tolerations: no list of tolerations", todo, exit_code=2) from error


def _with_catalogue(manifests: Manifests, there: Manifests, profiles: Sequence[str]) -> Manifests:
    """Where a profile is named that is not there, those of the catalogue too; the others count first."""
    written = manifests.of(DeviceProfile)
    known = there.of(DeviceProfile) | written
    declared = {a.profile for device in manifests.of(Device).values() for a in device.spec.declared}
    measured = {table.spec.profile for table in manifests.of(ModelProfile).values()}
    if {*profiles, *declared, *measured} <= set(known) or not _CATALOGUE.is_dir():
        return manifests
    shipped = {name: profile for name, profile in load([_CATALOGUE]).of(DeviceProfile).items() if name not in known}
    return replace(manifests, resources={**manifests.resources, "DeviceProfile": {**shipped, **written}})
