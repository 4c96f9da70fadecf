"""Latencies on the demo's cluster (left up by `make demo`): apply to Ready, decision to served; CPU and memory.

PYTHONPATH=demo:tests .venv/bin/python benchmarks/cluster.py
"""

import asyncio
import copy
import json
import os
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from measure import report

from maleo_demo.devcluster import Devcluster
from maleo_demo.environment import Environment
from support.e2e.missions import GATE, apply, is_ready, load, mission

_RUNS = 5
_WATCHED_S = 30.0
_SPEC = copy.deepcopy(GATE) | {"model": {"name": "squeezenet", "variants": ["fp32"]}, "drift": {"coolDown": "1s"}}


async def _time_mission(environment: Environment, name: str) -> dict[str, float]:
    """Return seconds: apply to Ready on new pods; edit to the next revision on running slots; decision to answer."""
    async with mission(environment, name, _SPEC) as observer:
        applied = time.time()
        first = await observer.await_status(is_ready, what="Ready", timeout_s=120)
        async with load(environment, first, rate=20) as generator:
            await generator.until(20)
            edited = time.time()
            apply(environment, name, _SPEC | {"model": {"name": "squeezenet", "variants": ["int8"]}})
            moved = await observer.await_status(
                lambda s: s.revision > first.revision and is_ready(s), what="a new revision", timeout_s=60, since=edited
            )
            await generator.until(len(generator.samples) + 20)
        served = min(s.sent_at + s.seconds for s in generator.samples if s.revision == moved.revision)
        decided = _created(environment.cluster.audit_lines(), f"{name}-{moved.revision}", since=edited)
        assert not [s for s in generator.samples if s.error or s.wrong]
    return {"new_pods": first.at - applied, "running_slots": moved.at - edited, "decision_to_served": served - decided}


def _created(log: Iterable[str], placement: str, *, since: float) -> float:
    """Return the Unix time at which the API server received the Placement, ignoring earlier runs in the log."""
    for line in log:
        event: dict[str, Any] = json.loads(line)
        target = event.get("objectRef", {})
        named = target.get("name") or (event.get("responseObject") or {}).get("metadata", {}).get("name")
        at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        created = event["verb"] == "create" and target.get("resource") == "placements"
        if created and named == placement and at >= since:
            return at
    raise LookupError(placement)


def _processes(module: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if module.encode() in command:
            found.append(int(folder.name))
    return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def _watch(environment: Environment) -> list[dict[str, Any]]:
    """Measure CPU share (of one CPU) and RSS of each program while one mission serves 8 requests/s."""
    async with mission(environment, "bench-watch", _SPEC) as observer:
        first = await observer.await_status(is_ready, what="Ready", timeout_s=120)
        async with load(environment, first):
            rows = []
            programs = {m: _processes(f"maleo_{m}.main") for m in ("agent", "operator", "runtime")}
            before = {pid: _cpu_seconds(pid) for pids in programs.values() for pid in pids}
            await asyncio.sleep(_WATCHED_S)
            for program, pids in programs.items():
                shares = [(_cpu_seconds(pid) - before[pid]) / _WATCHED_S for pid in pids]
                rows.append(
                    {
                        "program": program,
                        "processes": len(pids),
                        "cpu_percent_max": round(100 * max(shares), 2),
                        "rss_mib_max": round(max(_resident(pid) for pid in pids), 1),
                    }
                )
    return rows


async def main() -> None:
    cluster = Devcluster.current()
    models = {variant: Path(f"build/models/squeezenet-{variant}.onnx") for variant in ("fp32", "int8")}
    environment = Environment(cluster, models)
    runs = [await _time_mission(environment, f"bench-{i}") for i in range(_RUNS)]
    rows = [
        {"what": what, "p50_s": round(median(r[what] for r in runs), 2), "max_s": round(max(r[what] for r in runs), 2)}
        for what in runs[0]
    ]
    report("cluster-latency", rows, baseline="none: absolute seconds")
    report("cluster-footprint", await _watch(environment), baseline="one CPU")


asyncio.run(main())
