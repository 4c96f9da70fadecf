"""The cache finds the same children of a mission as a search through all objects."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_api.meta import Metadata
from maleo_api.placement import Placement
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.resources import PLACEMENTS, PODS
from maleo_operator.cluster.cache import Cache, Dirty
from maleo_operator.reconcilers.manifests import children
from support.operator import builders
from support.operator.builders import feasible
from support.operator.simulation import World

_WORLD = World(planner=lambda _: feasible("drone-1"))
_WORLD.turn()
_WORLD.turn()
_POD = next(iter(_WORLD.pods.values()))
_PLACEMENT = next(iter(_WORLD.placements.values())).to_api()
_MISSIONS = {
    name: builders.mission().model_copy(update={"metadata": Metadata(name=name, namespace="demo", uid=f"uid-{name}")})
    for name in "abc"
}
_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["Pod", "Placement"]),
        st.integers(1, 3),
        st.sampled_from("abc"),
        st.sampled_from(["", "gone", "odd"]),
    ),
    max_size=30,
)


def _object(kind: str, number: int, mission: str, version: int) -> Object:
    """Return a Pod or a Placement; both use the same names."""
    controller = children.owner(_MISSIONS[mission])
    meta: Object = {"namespace": "demo", "name": f"x-{number}", "resourceVersion": str(version)}
    meta |= {"ownerReferences": [controller]}
    if kind == "Pod":
        return _POD | {"metadata": _POD["metadata"] | meta}
    spec = _PLACEMENT["spec"] | {"mission": mission, "revision": number}
    return _PLACEMENT | {"metadata": _PLACEMENT["metadata"] | meta, "spec": spec}


@given(_CHANGES)
def test_children_of_a_mission__equal_a_search_through_all_objects(
    changes: list[tuple[str, int, str, str]],
) -> None:
    marked: set[Dirty] = set()
    cache = Cache(cast("Client", None), mark=marked.add, on_restart=lambda _kind, _reason: None)
    stored: dict[tuple[str, int], tuple[str, Any]] = {}
    for version, (kind, number, mission, how) in enumerate(changes, 1):
        item = _object(kind, number, mission, version)
        if how == "odd" and kind == "Placement":
            item["spec"]["mode"] = "Nowhere"  # cannot be parsed: treated as absent
        former = stored.pop((kind, number), (mission, None))[0]
        if how != "gone":
            stored[kind, number] = (mission, None if item["spec"].get("mode") == "Nowhere" else item)
        marked.clear()
        cache.observe(PODS if kind == "Pod" else PLACEMENTS, item, deleted=how == "gone")
        assert {Dirty("mission", f"demo/{m}") for m in (mission, former) if how != "gone"} <= marked
    for mission in "abc":
        mine = {key: item for key, (of, item) in sorted(stored.items()) if of == mission and item is not None}
        pods = tuple(children.parse_slot(item) for (kind, _), item in mine.items() if kind == "Pod")
        placements = tuple(Placement.model_validate(item) for (kind, _), item in mine.items() if kind == "Placement")
        assert cache.pods(_MISSIONS[mission]) == pods
        assert cache.placements(_MISSIONS[mission]) == placements


def test_invalid_object__is_logged_counted_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    unread: list[str] = []
    cache = Cache(
        cast("Client", None), mark=lambda _: None, on_restart=lambda _kind, _reason: None, on_unreadable=unread.append
    )
    invalid = _object("Placement", 1, "a", 1)
    invalid["spec"]["mode"] = "Nowhere"
    cache.record(PLACEMENTS, invalid)
    assert cache.placements(_MISSIONS["a"]) == ()
    assert unread == ["Placement"]
    assert "Placement demo/x-1 is invalid and is ignored: spec.mode: Input should be" in caplog.text
