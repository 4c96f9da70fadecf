"""Cache of the cluster: Leases by the operator's clock, reports by their nodes, and watched namespaces."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from maleo_kube.answers import Listing, Object
from maleo_kube.client import Client
from maleo_kube.errors import Forbidden, NotFound, Unreachable
from maleo_kube.resources import LEASES, MISSIONS, MODEL_PROFILES, MODELS, NODES, PODS, Kind
from maleo_operator.cluster.cache import Cache, Dirty
from maleo_operator.settings import Settings
from maleo_planner.types.taints import Toleration
from maleo_wire.messages import Frame, SlotReport
from support.operator.replica import offline_operator

_DURATION_S = 30


class _Clock:
    """Monotonic clock of the operator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        monkeypatch.setattr("maleo_operator.cluster.cache.time.monotonic", lambda: self.now)


def _lease(version: int, *, renewed: str) -> Object:
    metadata = {"name": "maleo-agent-drone-1", "namespace": "system", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"renewTime": renewed, "leaseDurationSeconds": _DURATION_S}}


def _cache() -> Cache:
    return Cache(cast("Client", None), mark=lambda _: None, on_restart=lambda _kind, _reason: None)


@pytest.mark.parametrize("renewed", ["2000-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"])
def test_lease__expires_by_the_operators_clock_whatever_its_renew_time(
    renewed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, cache = _Clock(monkeypatch), _cache()
    assert cache.lease_ends_at("drone-1", "system") == 0
    cache.record(LEASES, _lease(1, renewed=renewed))
    first = clock.now + _DURATION_S
    assert cache.lease_ends_at("drone-1", "system") == first
    clock.now += 10
    cache.record(LEASES, _lease(1, renewed=renewed))  # observed again: not renewed
    assert cache.lease_ends_at("drone-1", "system") == first
    cache.record(LEASES, _lease(2, renewed=renewed))
    assert cache.lease_ends_at("drone-1", "system") == first + 10
    cache.observe(LEASES, _lease(3, renewed=renewed), deleted=True)
    assert cache.lease_ends_at("drone-1", "system") == 0


def _mission(namespace: str, name: str, model: str) -> Object:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": "1", "uid": name}
    spec = {"model": {"name": model}, "objectives": {"latency": {"atMost": "50ms"}}, "input": {"node": "drone-1"}}
    return {"metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "marked"), [(MODELS, {"a/one"}), (MODEL_PROFILES, {"a/one", "a/two"})], ids=["Model", "ModelProfile"]
)
def test_changed_model__marks_only_missions_of_its_namespace(kind: Kind, marked: set[str]) -> None:
    """A tenant who keeps editing models must not keep the operator busy with the missions of others."""
    dirty_keys: list[Dirty] = []
    cache = Cache(cast("Client", None), mark=dirty_keys.append, on_restart=lambda _kind, _reason: None)
    for namespace, name, model in (("a", "one", "net"), ("a", "two", "other"), ("b", "three", "net")):
        cache.record(MISSIONS, _mission(namespace, name, model))
    dirty_keys.clear()
    before = {namespace: cache.version_for(namespace) for namespace in "ab"}
    metadata = {"name": "net", "namespace": "a", "resourceVersion": "2"}
    cache.record(kind, {"metadata": metadata, "spec": {}})
    assert {dirty.key for dirty in dirty_keys} == marked
    assert cache.version_for("a") != before["a"]
    assert cache.version_for("b") == before["b"]


def _pod(name: str, node: str, *, owner: str = "watch") -> Object:
    labels = {"maleo.dev/mission": "watch", "maleo.dev/node": node, "maleo.dev/unit": "host_cpu"}
    meta: Object = {"name": name, "namespace": "default", "labels": labels, "resourceVersion": "1"}
    reference = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "name": "watch", "uid": owner}
    return {"metadata": meta | {"ownerReferences": [reference | {"controller": True}] if owner else []}}


def _report(slot: str) -> SlotReport:
    return SlotReport(
        slot=slot, warm=(1,), active=1, highest_epoch=1, fallback_warm=False, address="10.0.0.1:8080", revisions=()
    )


def test_node__is_accepted_only_for_its_own_slots() -> None:
    """An agent's token proves its node: it cannot report slots of other nodes as warm or active."""
    operator = offline_operator()
    operator.cache.record(MISSIONS, _mission("default", "watch", "m"))
    operator.cache.record(PODS, _pod("entry", "drone-1"))
    operator.cache.record(PODS, _pod("partner", "edge-1"))
    operator.cache.record(PODS, _pod("labelled-by-a-tenant", "edge-1", owner=""))
    operator.cache.record(PODS, _pod("of-a-former-mission", "edge-1", owner="u0"))
    names = ("entry", "partner", "unheard-of", "labelled-by-a-tenant", "of-a-former-mission")
    reports = tuple(_report(f"default/{name}") for name in names)
    operator.receiver.on_frame("edge-1", Frame(sequence=1, at=0.0, slots=reports))
    assert [slot for slot, *_ in operator.telemetry.state_of("default/watch")] == ["default/partner"]
    assert b"maleo_ingest_foreign_reports_total 1.0" in operator.metrics.render()


def test_taint_of_a_node__reaches_planning_unless_slots_tolerate_it() -> None:
    taint = {"key": "dedicated", "value": "npu", "effect": "NoExecute"}
    node = {"metadata": {"name": "n9", "resourceVersion": "1"}, "spec": {"taints": [taint]}}
    for tolerations, left in ((), ("dedicated=npu:NoExecute",)), (({"key": "dedicated", "operator": "Exists"},), ()):
        cache = Cache(
            cast("Client", None),
            mark=lambda _: None,
            on_restart=lambda _kind, _reason: None,
            tolerations=cast("Sequence[Toleration]", tolerations),
        )
        cache.record(NODES, node)
        assert cache.nodes["n9"].taints == left


class _Server:
    """Fake API server: lists in `forbidden` namespaces are forbidden, those in `broken` fail."""

    def __init__(self, *forbidden: str, broken: str | None = None) -> None:
        self.forbidden, self.broken = forbidden, broken
        self.listed: set[tuple[str, str]] = set()

    async def list(self, kind: Kind, *, namespace: str, **_: Any) -> Listing:
        self.listed.add((kind.kind, namespace))
        if namespace in self.forbidden:
            raise Forbidden(f"{kind.plural} is forbidden", status=403)
        if namespace == self.broken:
            raise Unreachable("no answer")
        return Listing(items=[], resource_version="1")

    async def get(self, _kind: Kind, name: str) -> Object:
        raise NotFound(name, status=404)


def _cache_of(server: _Server, *namespaces: str) -> Cache:
    return Cache(
        cast("Client", server),
        mark=lambda _: None,
        on_restart=lambda _kind, _reason: None,
        namespaces=namespaces,
        namespace="system",
    )


async def test_cache__lists_missions_and_their_children_in_watched_namespaces_only() -> None:
    server = _Server()
    cache = _cache_of(server, "team-a", "team-b")
    await cache.relist()
    everywhere = {kind for kind, namespace in server.listed if not namespace}
    assert everywhere == {"Node", "Device", "DeviceProfile", "Link", "PriorityClass"}
    assert {namespace for kind, namespace in server.listed if kind == "Lease"} == {"system"}
    for kind in ("Mission", "Model", "ModelProfile", "Placement", "Pod", "Service"):
        assert {namespace for of, namespace in server.listed if of == kind} == {"team-a", "team-b"}
    assert {kind.kind for kind in cache.kopf_kinds} == {"DeviceProfile", "Link"}, "kopf stops if a list is forbidden"


async def test_cache__lists_the_whole_cluster_without_watched_namespaces() -> None:
    server = _Server()
    await _cache_of(server).relist()
    assert {namespace for _, namespace in server.listed} == {"", "system"}


async def test_cache__is_synced_despite_a_forbidden_namespace() -> None:
    cache = _cache_of(_Server("team-later"), "team-a", "team-later")
    await cache.relist()
    assert cache.synced


@pytest.mark.parametrize(
    "server", [_Server("team-a", "system"), _Server("system"), _Server(""), _Server(broken="team-a")]
)
async def test_cache__is_not_synced_after_any_other_failed_list(server: _Server) -> None:
    cache = _cache_of(server, "team-a", "team-b")
    with pytest.raises((Forbidden, Unreachable)):
        await cache.relist()
    assert not cache.synced


def test_cache__ignores_other_namespaces() -> None:
    cache = _cache_of(_Server(), "team-a")
    for namespace in ("team-a", "team-b"):
        cache.record(MISSIONS, _mission(namespace, "cctv", "net"))
        cache.observe(MISSIONS, _mission(namespace, "door", "net"), deleted=False)
    assert set(cache.missions) == {"team-a/cctv", "team-a/door"}
    assert cache.raw(MISSIONS, "team-b/cctv") is None


@pytest.mark.parametrize(("text", "namespaces"), [("", ()), ("a", ("a",)), ("a,b", ("a", "b"))])
def test_settings__name_the_watched_namespaces(
    text: str, namespaces: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALEO_SLOT_IMAGE", "slot:1")
    monkeypatch.setenv("MALEO_WATCH_NAMESPACES", text)
    assert Settings.read().watch_namespaces == namespaces
