"""Effect of hostile clients on another client of an entry: its latency with and without 10,000 hostile requests.

Both are measured alternately in one run. The attacks are those of tests/contract/runtime/test_hostile.py, sent by a
separate process in a closed loop over four connections.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tritonclient.http.aio as oip
from measure import percentiles, report

from maleo_cli.model import zoo
from maleo_wire.messages import TensorSpec
from support.hostile_requests import Attack, attacks, send
from support.slot_harness import Net, World

_ROUNDS = 10
_ATTACKS = 1000  # per round
_ATTACKERS = 4
_ALONE = 40  # requests per round without attacks
_SHAPE = (1, 3, 224, 224)


class _Client:
    """Closed-loop client; counts wrong answers."""

    def __init__(self, client: oip.InferenceServerClient, name: str) -> None:
        tensor = oip.InferInput(name, list(_SHAPE), "FP32")
        tensor.set_data_from_numpy(np.random.default_rng(0).standard_normal(_SHAPE, dtype=np.float32))
        self._client = client
        self._inputs = [tensor]
        self._right: np.ndarray | None = None
        self.wrong = 0

    async def ask(self) -> float:
        """Send one request and return its latency in seconds."""
        start = time.perf_counter()
        result = await self._client.infer("net", self._inputs)
        seconds = time.perf_counter() - start
        output = result.as_numpy(result.get_response()["outputs"][0]["name"])
        self._right = output if self._right is None else self._right
        self.wrong += not np.array_equal(output, self._right)
        return seconds


async def _attack(port: int, seed: int) -> None:
    plan = attacks(_ATTACKS, seed)
    await asyncio.gather(*(_send_all(port, plan) for _ in range(_ATTACKERS)))


async def _send_all(port: int, plan: Iterator[Attack]) -> None:
    for attack in plan:
        await send(port, attack)


def _memory(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024)


async def _measure(folder: Path) -> dict[str, float]:
    model = zoo.make("squeezenet", folder).files["fp32"]
    source = TensorSpec(name="data_0", datatype="FP32", shape=_SHAPE)
    target = TensorSpec(name="softmaxout_1", datatype="FP32", shape=(1, 1000, 1, 1))
    world = World(folder, Net(lambda path: shutil.copy(model, path), (source,), output=target))
    await world.start()
    process = await world.start_process("entry")
    world.tell("entry", world.local(1), active=1)
    await world.until_warm("entry", 1, active=1)
    port, alone, attacked = world.ports["entry"], [], []
    async with oip.InferenceServerClient(f"127.0.0.1:{port}") as connection:
        client = _Client(connection, source.name)
        for _ in range(_ALONE):
            await client.ask()
        before = _memory(process.pid, "VmRSS")
        for number in range(_ROUNDS):
            alone += [await client.ask() for _ in range(_ALONE)]
            attacker = await asyncio.create_subprocess_exec(sys.executable, __file__, str(port), str(number))
            ended = asyncio.create_task(attacker.wait())
            while not ended.done():
                attacked.append(await client.ask())
        memory = _memory(process.pid, "VmHWM")
    await world.stop()
    quiet, busy = percentiles(alone), percentiles(attacked)
    return {
        **busy,
        "alone_p50_ms": quiet["p50_ms"],
        "alone_p95_ms": quiet["p95_ms"],
        "ratio": round(busy["p95_ms"] / quiet["p95_ms"], 2),
        "requests": len(attacked),
        "wrong": client.wrong,
        "resident_mib": before,
        "peak_mib": memory,
    }


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        row = await _measure(Path(folder))
    report(
        "hostile",
        [{"attacks": _ROUNDS * _ATTACKS, **row}],
        baseline="p95 of the same client without attacks, in turns",
    )


if sys.argv[1:]:
    asyncio.run(_attack(int(sys.argv[1]), int(sys.argv[2])))
else:
    asyncio.run(main())
