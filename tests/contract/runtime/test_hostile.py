"""An entry under hostile clients: it keeps running, uses little memory for them, and answers others correctly."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http.aio as oip

from maleo_runtime.admission import MAX_BYTES
from support.hostile_requests import attacks, send
from support.slot_harness import IMAGE, World, running

_ATTACKS = 10_000
_ATTACKERS = 12
_MIB = 1 << 20
_GROWTH = MAX_BYTES + 32 * _MIB  # plus the memory to parse one body, and of connections


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path, IMAGE) as made:
        yield made


def _memory(pid: int, field: str) -> int:
    """Return a field of the process status in bytes: `VmRSS`, or `VmHWM` for its peak."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def _conforms_to_protocol(answer: bytes) -> bool:
    """Return whether a response is empty, a success, or a client error in JSON."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 200
    return status == 200 or (400 <= status < 500 and b"application/json" in head and "error" in json.loads(body))


async def _answers_correctly(client: oip.InferenceServerClient, random: np.random.Generator) -> bool:
    data = random.standard_normal((1, 3, 224, 224), dtype=np.float32)
    tensor = oip.InferInput("x", list(data.shape), "FP32")
    tensor.set_data_from_numpy(data)
    result = await client.infer("net", [tensor])
    return np.allclose(result.as_numpy("y")[0, :, 0, 0], data.mean(axis=(0, 2, 3)), atol=1e-4)


@pytest.mark.timeout(400)
async def test_ten_thousand_hostile_requests__harm_nobody(world: World) -> None:
    process = await world.start_process("entry")
    world.push("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    port, plan, unexpected, correct = world.ports["entry"], attacks(_ATTACKS, seed=1), [], []
    answered: list[bool] = []

    async def send_all() -> None:
        for attack in plan:
            answer = await send(port, attack)
            answered.append(answer != b"")
            if not _conforms_to_protocol(answer):
                unexpected.append((attack.data[:300], answer[:300]))

    async with oip.InferenceServerClient(f"127.0.0.1:{port}") as client:
        random = np.random.default_rng(2)
        assert await _answers_correctly(client, random)
        before = _memory(process.pid, "VmRSS")
        attackers = asyncio.gather(*(send_all() for _ in range(_ATTACKERS)))
        while not attackers.done():
            correct.append(await _answers_correctly(client, random))
            await asyncio.wait([attackers], timeout=0.05)
        await attackers
        assert await _answers_correctly(client, random)
    assert unexpected == []
    assert len(answered) == _ATTACKS
    assert sum(answered) > _ATTACKS / 2  # the others disconnected at once, or sent an incomplete request
    assert all(correct)
    assert correct
    assert process.returncode is None
    assert _memory(process.pid, "VmHWM") - before < _GROWTH
