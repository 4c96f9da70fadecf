"""Watch handler of kind Mission."""

from typing import Any

import kopf

from maleo_kube.resources import MISSIONS
from maleo_operator.handlers.registries import ALL_KINDS, observe


@kopf.on.event(MISSIONS.group, MISSIONS.version, MISSIONS.plural, registry=ALL_KINDS)
async def observe_mission(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Decide about the mission again."""
    observe(memo, MISSIONS, event)
