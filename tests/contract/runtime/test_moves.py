"""No request fails because of a move, a partner that restarts, or one that stalls; real slots, without a fallback."""

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
    """Revision 1 is active, with its second half at a partner."""
    async with running(tmp_path) as world:
        world.start_slot("entry")
        world.start_slot("partner")
        await world.serve_halves()
        yield world


async def test_partner_that_drops_a_revision_before_its_last_request__loses_none(split: World) -> None:
    """The entry has flipped, and a request that it took before is still on its way."""
    async with Caller(split) as caller:
        await caller.until(1, by="partner")
        split.tell("partner")
        await split.until_warm("partner")
        split.tell("entry", split.local(2), active=2)
        await caller.until(2)
    assert caller.faults == []


async def test_partner_that_restarts_elsewhere__costs_no_request(split: World) -> None:
    async with Caller(split) as caller:
        await caller.until(1, by="partner")
        await split.stop_slot("partner")
        split.reports.pop("default/partner")
        split.start_slot("partner")
        first, second = split.halves(1)
        split.tell("partner", second)
        await split.until_warm("partner", 1)
        answered = len(caller.served)
        split.tell("entry", first, active=1)
        await caller.until(1, by="partner", after=answered)
    assert caller.faults == []


async def test_partner_that_stalls_for_longer_than_a_hop_may_take__is_waited_for(
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


async def test_active_revision__serves_until_the_one_that_is_wanted_is_warm(split: World) -> None:
    """The desired state names only a revision whose model cannot be had."""
    gone = Artifact(uri="oci://r/gone", digest=f"sha256:{'0' * 64}", size=1)
    local = split.local(2)
    assert local.stage is not None
    async with Caller(split) as caller:
        await caller.until(1)
        split.tell("entry", replace(local, stage=replace(local.stage, artifact=gone)), active=2)
        await split.until_error("entry")
        await caller.until(1, after=len(caller.served))
        split.tell("entry", split.local(3), active=3)
        await caller.until(3)
    assert caller.faults == []


async def test_partner_that_stays_lost__is_an_error_that_says_so(split: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maleo_runtime.service._PEER_RETRY_S", 0.3)
    first, _ = split.halves(1)
    split.tell("entry", replace(first, next=Peer(address="127.0.0.1:9", node="gone")), active=1)
    async with Caller(split) as caller:
        await caller.until_fault()
    assert [fault for fault in caller.faults if "no warm fallback" not in fault] == []
