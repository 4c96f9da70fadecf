"""Watch handlers: each kind that users write reaches the cache as a whole object, from either registry."""

from types import ModuleType
from typing import Any, cast

import kopf
import pytest

from maleo_kube.resources import DEVICE_PROFILES, LINKS, MALEO_KINDS, MISSIONS, MODEL_PROFILES, MODELS, Kind
from maleo_operator.handlers import device_profile, link, mission, model, model_profile
from maleo_operator.handlers.registries import ALL_KINDS, CLUSTER_SCOPED, observe

HANDLERS: dict[Kind, ModuleType] = {
    MISSIONS: mission,
    MODELS: model,
    MODEL_PROFILES: model_profile,
    DEVICE_PROFILES: device_profile,
    LINKS: link,
}


def event(kind: str) -> kopf.RawEvent:
    return cast("kopf.RawEvent", {"type": kind, "object": {"metadata": {"name": "a"}, "spec": {}}})


@pytest.mark.parametrize("kind", HANDLERS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize(("type_", "deleted"), [("ADDED", False), ("MODIFIED", False), ("DELETED", True)])
async def test_handler__passes_the_object_with_its_kind(kind: Kind, type_: str, deleted: bool) -> None:
    observed: list[tuple[Kind, dict[str, Any], bool]] = []
    memo = kopf.Memo(observe=lambda *args: observed.append(args))
    (handler,) = [value for name, value in vars(HANDLERS[kind]).items() if name.startswith("observe_")]
    await handler(event=event(type_), memo=memo)
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "a"}, "spec": {}}
    assert observed == [(kind, body, deleted)]


def served(registry: kopf.OperatorRegistry) -> set[str]:
    """Return the plurals of the kinds that a registry has handlers for."""
    selectors = [handler.selector for handler in registry._watching.get_all_handlers()]
    return {str(selector.plural or selector.any_name) for selector in selectors if selector is not None}


def test_registries__serve_all_kinds_or_the_cluster_scoped_ones() -> None:
    assert served(ALL_KINDS) == {kind.plural for kind in HANDLERS}
    assert served(CLUSTER_SCOPED) == {kind.plural for kind in HANDLERS if not kind.namespaced}


def test_kinds__are_all_that_users_write() -> None:
    written_by_programs = {"Device", "Placement"}
    assert {kind.kind for kind in HANDLERS} == {kind.kind for kind in MALEO_KINDS} - written_by_programs


def test_event_without_a_type__is_a_change() -> None:
    """kopf lists objects at its start as events of no type."""
    observed: list[bool] = []
    observe(kopf.Memo(observe=lambda _k, _o, deleted: observed.append(deleted)), LINKS, event(cast("str", None)))
    assert observed == [False]
