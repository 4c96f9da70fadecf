"""No request fails during a move, or when a partner restarts or stalls; real slots, without a fallback."""

import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from maleo_runtime.stage import Stage
from maleo_wire.messages import Artifact, Peer
from support.slot_harness import Caller, World, running


@pytest.fixture
async def split(tmp_path: Path) -> AsyncIterator[World]:
    """Yield a world with revision 1 active, whose second half runs at a partner."""
    async with running(tmp_path) as world:
        world.start_slot("entry")
        world.start_slot("partner")
        await world.serve_halves()
        yield world


async def test_partner_that_unloads_a_revision_before_its_last_request__fails_none(split: World) -> None:
    """The entry has changed the active revision while an earlier request is still in flight."""
    async with Caller(split) as caller:
        await caller.until(1, by="partner")
        split.push("partner")
        await split.until_warm("partner")
        split.push("entry", split.local(2), active=2)
        await caller.until(2)
    assert caller.faults == []


async def test_partner_that_restarts_at_another_address__fails_no_request(split: World) -> None:
    async with Caller(split) as caller:
        await caller.until(1, by="partner")
        await split.stop_slot("partner")
        split.reports.pop("default/partner")
        split.start_slot("partner")
        first, second = split.halves(1)
        split.push("partner", second)
        await split.until_warm("partner", 1)
        answered = len(caller.served)
        split.push("entry", first, active=1)
        await caller.until(1, by="partner", after=answered)
    assert caller.faults == []


async def test_partner_that_stalls_longer_than_the_hop_timeout__fails_no_request(
    split: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, stalls = Stage._compute, [0.8]

    def stall(stage: Stage, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if stage.spec.inputs == (split.net.middle,) and stalls:
            time.sleep(stalls.pop())
        return compute(stage, inputs)

    monkeypatch.setattr(Stage, "_compute", stall)
    async with Caller(split) as caller:
        await caller.until(1, by="partner")
    assert caller.faults == []
    assert stalls == []


async def test_active_revision__serves_until_the_desired_one_is_warm(split: World) -> None:
    """The desired state has only a revision whose artifact cannot be downloaded."""
    missing = Artifact(uri="oci://r/gone", digest=f"sha256:{'0' * 64}", size=1)
    local = split.local(2)
    assert local.stage is not None
    async with Caller(split) as caller:
        await caller.until(1)
        split.push("entry", replace(local, stage=replace(local.stage, artifact=missing)), active=2)
        await split.until_error("entry")
        await caller.until(1, after=len(caller.served))
        split.push("entry", split.local(3), active=3)
        await caller.until(3)
    assert caller.faults == []


async def test_permanently_lost_partner__is_an_error_that_names_the_missing_fallback(
    split: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maleo_runtime.service._PEER_RETRY_S", 0.3)
    first, _ = split.halves(1)
    split.push("entry", replace(first, next=Peer(address="127.0.0.1:9", node="gone")), active=1)
    async with Caller(split) as caller:
        await caller.until_fault()
    assert [fault for fault in caller.faults if "no warm fallback" not in fault] == []
