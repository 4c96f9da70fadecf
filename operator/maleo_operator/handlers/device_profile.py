"""Watch handler of kind DeviceProfile."""

from typing import Any

import kopf

from maleo_kube.resources import DEVICE_PROFILES
from maleo_operator.handlers.registries import ALL_KINDS, CLUSTER_SCOPED, observe


@kopf.on.event(DEVICE_PROFILES.group, DEVICE_PROFILES.version, DEVICE_PROFILES.plural, registry=ALL_KINDS)
@kopf.on.event(DEVICE_PROFILES.group, DEVICE_PROFILES.version, DEVICE_PROFILES.plural, registry=CLUSTER_SCOPED)
async def observe_device_profile(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Plan again with the changed figures of a type of hardware."""
    observe(memo, DEVICE_PROFILES, event)
