"""Watch handler of kind ModelProfile."""

from typing import Any

import kopf

from maleo_kube.resources import MODEL_PROFILES
from maleo_operator.handlers.registries import ALL_KINDS, observe


@kopf.on.event(MODEL_PROFILES.group, MODEL_PROFILES.version, MODEL_PROFILES.plural, registry=ALL_KINDS)
async def observe_model_profile(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Plan again with the changed measurements of a variant."""
    observe(memo, MODEL_PROFILES, event)
