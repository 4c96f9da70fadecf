"""Watch handler of kind Link."""

from typing import Any

import kopf

from maleo_kube.resources import LINKS
from maleo_operator.handlers.registries import ALL_KINDS, CLUSTER_SCOPED, observe


@kopf.on.event(LINKS.group, LINKS.version, LINKS.plural, registry=ALL_KINDS)
@kopf.on.event(LINKS.group, LINKS.version, LINKS.plural, registry=CLUSTER_SCOPED)
async def observe_link(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Plan again with the changed figures of a network connection."""
    observe(memo, LINKS, event)
