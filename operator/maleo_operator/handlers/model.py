"""Watch handler of kind Model."""

from typing import Any

import kopf

from maleo_kube.resources import MODELS
from maleo_operator.handlers.registries import ALL_KINDS, observe


@kopf.on.event(MODELS.group, MODELS.version, MODELS.plural, registry=ALL_KINDS)
async def observe_model(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Decide about the missions that use the model again."""
    observe(memo, MODELS, event)
