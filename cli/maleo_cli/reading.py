"""What `maleo plan` plans: manifests, the shipped catalogue where they need it, and what a cluster holds."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from maleo_api.device import Device, DeviceProfile
from maleo_api.manifests import ManifestError, Manifests, load
from maleo_api.model import ModelProfile
from maleo_cli.failure import Failure
from maleo_cli.install import CHARTS
from maleo_cli.live import read_cluster, snapshot_of
from maleo_operator.planning.problem import Snapshot
from maleo_operator.planning.snapshot import from_manifests

_CATALOGUE: Final = CHARTS / "maleo" / "profiles"
_PARTS: Final = ("nodes", "profiles", "devices", "links", "models", "model_profiles", "missions", "priorities")


def read(files: Sequence[Path], *, live: bool, kubeconfig: Path | None, profiles: Sequence[str]) -> Snapshot:
    """From manifests, from a cluster, or both: then manifests replace what the cluster has of the same name.

    profiles: names that the question needs beside those in the manifests.
    """
    if not live and not files:
        raise Failure("nothing to plan", "name manifests with -f, or a cluster with --live", exit_code=2)
    if kubeconfig is not None and not live:
        raise Failure("--kubeconfig: no cluster is asked", "add --live", exit_code=2)
    cluster = asyncio.run(read_cluster(kubeconfig)) if live else None
    try:
        manifests = load(files, standard_input=sys.stdin.read)
        manifests = _with_catalogue(manifests, cluster or Manifests(), profiles)
        manifests.check(cluster)
    except ManifestError as error:
        raise Failure("\n".join(error.mistakes), exit_code=2) from error
    written = from_manifests(manifests)
    if cluster is None:
        return written
    there = snapshot_of(cluster)
    both: dict[str, Any] = {name: {**getattr(there, name), **getattr(written, name)} for name in _PARTS}
    return replace(there, **both)


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
