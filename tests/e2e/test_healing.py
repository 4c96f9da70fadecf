"""Objects of Maleo that are deleted are recreated: a test for each kind. Missions keep serving where possible."""

import asyncio
import copy
import time

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from maleo_demo.environment import Environment
from maleo_demo.observer import StatusSnapshot
from maleo_kube.answers import Object
from maleo_kube.resources import DEVICES, NODES, PLACEMENTS, PODS, SERVICES
from support.e2e.missions import GATE, faults, is_ready, load, mission
from support.e2e.watch import is_condition, is_leaving, watching
from support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_WAIT_S = 120
_STABLE_S = 5  # kube-proxy applies changes within about a second
_SPLIT = copy.deepcopy(GATE) | {"modes": ["Split"]}


async def test_deleted_partner_slot__is_recreated_and_no_request_fails(environment: Environment) -> None:
    async with (
        mission(environment, "partner-deleted", _SPLIT) as observer,
        watching(environment, PODS, labels="maleo.dev/mission=partner-deleted,maleo.dev/node=edge-1") as pods,
    ):
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        async with load(environment, placed) as made:
            await made.until(20)
            before = {pod["metadata"]["uid"]: pod for pod in pods.objects.values()}
            deleted_at = time.time()
            names = [f"pod/{pod['metadata']['name']}" for pod in before.values()]
            environment.kubectl("delete", *names, "--wait=false")
            await pods.until(
                lambda found: (
                    sum(pod["metadata"]["uid"] not in before and is_condition(pod, "Ready", "True") for pod in found)
                    == len(before)
                ),
                what="another slot on edge-1",
            )
            await observer.await_status(_is_whole, what="both partitions", timeout_s=_WAIT_S, since=deleted_at)
            await made.until(len(made.samples) + 20)
        assert faults(made) == []


async def test_deleted_entry_slot__is_recreated_and_the_mission_serves_again(environment: Environment) -> None:
    async with (
        mission(environment, "entry-deleted", _SPLIT) as observer,
        watching(environment, PODS, labels="maleo.dev/mission=entry-deleted,maleo.dev/entry=true") as pods,
    ):
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        (before,) = pods.objects.values()
        environment.kubectl("delete", "pod", before["metadata"]["name"], "--wait=false")
        await pods.until(
            lambda found: any(_is_new(pod, before) and is_condition(pod, "Ready", "True") for pod in found),
            what="another entry",
        )
        await _until_answering(placed)
        again = await observer.await_status(is_ready, what="Ready again", timeout_s=_WAIT_S, since=time.time())
        async with load(environment, again) as made:
            await made.until(20)
        assert faults(made) == []


async def test_deleted_service__is_recreated_and_its_address_is_published(environment: Environment) -> None:
    async with (
        mission(environment, "service-deleted", _SPLIT) as observer,
        watching(environment, SERVICES, labels="maleo.dev/mission=service-deleted") as services,
    ):
        await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        (before,) = services.objects.values()
        environment.kubectl("delete", "service", "service-deleted")
        (after,) = await services.until(
            lambda found: len(found) == 1 and _is_new(found[0], before), what="another Service"
        )
        address = f"{after['spec']['clusterIP']}:{after['spec']['ports'][0]['port']}"
        published = await observer.await_status(
            lambda s: s.mission.status.address == address and is_ready(s), what="its address", timeout_s=_WAIT_S
        )
        await _until_answering(published)
        async with load(environment, published) as made:
            await made.until(20)
        assert faults(made) == []


async def test_deleted_placement__is_recreated_and_no_request_fails(environment: Environment) -> None:
    async with (
        mission(environment, "placement-deleted", _SPLIT) as observer,
        watching(environment, PLACEMENTS, labels="maleo.dev/mission=placement-deleted") as placements,
    ):
        placed = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        async with load(environment, placed) as made:
            await made.until(20)
            (before,) = placements.objects.values()
            deleted_at = time.time()
            environment.kubectl("delete", "placement", before["metadata"]["name"], "--wait=false")
            await placements.until(
                lambda found: any(_is_new(p, before) and is_condition(p, "Serving", "True") for p in found),
                what="a Placement that serves",
            )
            await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S, since=deleted_at)
            await made.until(len(made.samples) + 20)
        assert faults(made) == []


@pytest.mark.parametrize("change", ["maleo.dev/npu-product-", "maleo.dev/npu-product=something-else"])
async def test_changed_node_label__is_restored(environment: Environment, change: str) -> None:
    label = "maleo.dev/npu-product"
    async with watching(environment, NODES) as nodes:
        before = nodes.objects["cloud-1"]["metadata"]["labels"][label]
        seen: list[str] = []

        def is_restored(found: list[Object]) -> bool:
            value = next(n for n in found if n["metadata"]["name"] == "cloud-1")["metadata"]["labels"].get(label, "")
            seen.append(value)
            return value == before and any(other != before for other in seen)

        environment.kubectl("label", "node", "cloud-1", change, "--overwrite")
        await nodes.until(is_restored, what=f"label {label}={before}")


async def test_deleted_device__is_recreated_with_its_inventory(environment: Environment) -> None:
    async with watching(environment, DEVICES) as devices:
        before = devices.objects["cloud-1"]
        environment.kubectl("delete", "device", "cloud-1")
        await devices.until(
            lambda found: any(
                _is_new(device, before) and is_condition(device, "Ready", "True")
                for device in found
                if device["metadata"]["name"] == "cloud-1"
            ),
            what="another Device of cloud-1",
        )
        # The declarations of users were deleted with it: apply them again.
        environment.kubectl("apply", "-f", str(ROOT / "examples/demo/devices.yaml"))
        await devices.until(
            lambda found: any(
                _units(device) == _units(before) for device in found if device["metadata"]["name"] == "cloud-1"
            ),
            what="its former units",
        )


async def _until_answering(seen: StatusSnapshot) -> None:
    """Poll the model's readiness at the mission's address until it has been ready for `_STABLE_S` without a break.

    The condition of the mission lags behind a lost entry, and kube-proxy, which sends no event when it is done, lags
    behind a Service: rules of the deleted one may still answer before the same address is briefly unreachable. Each
    request has its own connection: one that was opened before the nodes know the address never gets through.
    """
    url = f"http://{seen.mission.status.address}/v2/models/{seen.mission.spec.model.name}/ready"
    since = None
    async with asyncio.timeout(_WAIT_S):
        while since is None or time.monotonic() - since < _STABLE_S:
            try:
                async with ClientSession(timeout=ClientTimeout(total=1)) as session, session.get(url) as response:
                    since = (since or time.monotonic()) if response.ok else None
            except (ClientError, TimeoutError):
                since = None
            await asyncio.sleep(0.2)


def _is_new(item: Object, before: Object) -> bool:
    return item["metadata"]["uid"] != before["metadata"]["uid"] and not is_leaving(item)


def _is_whole(seen: StatusSnapshot) -> bool:
    """Return whether both partitions serve."""
    return is_ready(seen) and seen.reason("Degraded").split(":")[0] not in (
        "PartnerLost",
        "FallbackServing",
        "SlotFailed",
        "SlotMissing",
        "SlotNotReady",
        "SlotPending",
    )


def _units(device: Object) -> list[tuple[str, str]]:
    return [(unit["name"], unit["state"]) for unit in device.get("status", {}).get("units", [])]
