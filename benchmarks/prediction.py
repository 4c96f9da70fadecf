"""Prediction error of the planner's stage times against the times that real slots report, on real networks.

`python benchmarks/prediction.py`. Two slots, each a separate process, hold every partition of every network; a request
goes to the first by HTTP and on to the second. Compute times are those reported by the slots. A round runs every
configuration of every network once in random order, so that other load on the machine affects all equally. After
warm-up there are three phases: a ModelProfile is made from the first, the operator's calibration learns from the
second as in production, and the third is the test set.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import slots
from measure import report
from msgspec.structs import replace as restate

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.manifests import load
from maleo_api.meta import Tier
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile, Tensor
from maleo_api.quantities import BYTES, DURATION, WORK, parse, show
from maleo_cli.commands.model import build as import_model
from maleo_cli.model import zoo
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import prepare
from maleo_planner.single.candidate import Candidate, CandidatePartition
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.plan_builder import build_plan
from maleo_planner.types.problem import NodeFacts, Plan, Snapshot
from maleo_runtime.peer_client import PeerClient
from maleo_runtime.tensor import make_sample
from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import Artifact, Frame, Peer, Revision, StageSpec, TensorSpec

_NETWORKS = {
    "squeezenet": "fp32",
    "squeezenet-int8": "int8",
    "shufflenet": "fp32",
    "resnet50": "fp32",
    "digits": "fp32",
}
_SHARES = (0.25, 0.5, 0.75)
"""Approximate shares of a network's work before the cut."""
_WARM, _PROFILE, _SERVE, _JUDGE = 5, 80, 130, 180
"""Rounds of each phase."""
_NODES = ("one", "two")
_UNIT = "host/cpu"
_PROFILES = Path(__file__).parents[1] / "charts/maleo/profiles/host-cpu.yaml"
_Z = 1.645
_WITHIN = (0.90, 0.98)

_MILLISECOND = 1e-3

Frames = list[tuple[str, Frame]]
"""(node, frame) in order of arrival."""
Times = dict[tuple[int, str], Histogram]
"""(revision, node) -> compute times in seconds."""


@dataclass(frozen=True, slots=True)
class Way:
    """One configuration of a network: whole on the first node, or the blocks after `cut` on the second."""

    revision: int
    network: str
    cut: int | None
    blocks: int

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Node -> (first block, last block)."""
        if self.cut is None:
            return {"one": (0, self.blocks - 1)}
        return {"one": (0, self.cut), "two": (self.cut + 1, self.blocks - 1)}


@dataclass(frozen=True, slots=True)
class Seen:
    """Measurements. inside: revision -> seconds of each request from its arrival at the first slot to the answer."""

    models: Mapping[str, Model]
    ways: list[Way]
    profile: Frames
    serve: Frames
    judge: Frames
    inside: Mapping[int, list[float]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Prediction of one stage or configuration against its measurement.

    seconds: measured mean. of_mean, of_median: relative errors. covered: share of measurements within predicted p95.
    """

    name: str
    seconds: float
    of_mean: float
    of_median: float
    covered: float


# ------------------------------------------------------------------------------------------------ configurations


async def _import(folder: Path) -> tuple[dict[str, Model], dict[str, Path]]:
    """Import the networks; return network -> Model, and digest -> file."""
    models, files = {}, {}
    for network, precision in _NETWORKS.items():
        path = zoo.make(network.partition("-")[0], folder).files[precision]
        manifest = await import_model(network, {precision: (precision, path)}, repository="", accuracy={})
        manifest["metadata"]["namespace"] = "default"
        models[network] = Model.model_validate(manifest)
        files[models[network].spec.variants[0].artifacts[0].digest] = path
    return models, files


def _list_ways(models: Mapping[str, Model]) -> list[Way]:
    found = list[Way]()
    for network, model in models.items():
        blocks = model.spec.variants[0].blocks
        before = np.cumsum([parse(WORK, block.work) for block in blocks])
        legal = [i for i, block in enumerate(blocks) if block.cut is not None]
        near = {min(legal, key=lambda i, share=share: abs(before[i] / before[-1] - share)) for share in _SHARES}
        for cut in (None, *sorted(near)):
            found.append(Way(len(found) + 1, network, cut, len(blocks)))
    return found


def _ask(models: Mapping[str, Model]) -> Snapshot:
    """Return a snapshot of two nodes with the catalogue's profile of a generic CPU, and one mission per network."""
    read = load([_PROFILES]).of(DeviceProfile)
    host = {"host": {"profile": "host-cpu"}, "accelerators": [], "simulated": False}
    link = {"between": [{"node": n} for n in _NODES], "bandwidth": "10Gbit/s", "roundTrip": "0.1ms"}
    missions = [
        Mission.model_validate(
            {
                "metadata": {"name": network, "namespace": "default"},
                "spec": {
                    "model": {"name": network},
                    "objectives": {"latency": {"atMost": "1s"}},
                    "input": {"node": "one"},
                    "egress": {"input": "Any", "features": "Any"},
                },
            }
        )
        for network in models
    ]
    return Snapshot(
        nodes={n: NodeFacts(n, "here", Tier.EDGE, ready=True, schedulable=True) for n in _NODES},
        profiles=read,
        devices={
            n: Device.model_validate({"metadata": {"name": n}, "spec": {"nodeName": n}, "status": {"inventory": host}})
            for n in _NODES
        },
        links={"loopback": Link.model_validate({"metadata": {"name": "loopback"}, "spec": link})},
        models={model.key: model for model in models.values()},
        model_profiles={},
        missions={mission.key: mission for mission in missions},
    )


def _plan(snapshot: Snapshot, way: Way) -> Plan:
    """Return the plan of this configuration with the planner's predictions."""
    mission, index = snapshot.missions[f"default/{way.network}"], FleetIndex(snapshot)
    problem = prepare(snapshot, mission, index, "margins")
    assert isinstance(problem, MissionProblem)
    units = {unit.node.name: unit for unit in problem.units}
    pieces = tuple(CandidatePartition(units[node], first, last) for node, (first, last) in way.spans.items())
    mode = problem.mode_of([piece.unit for piece in pieces])
    return build_plan(
        problem, Candidate(problem.runnable_variants()[0], mode, pieces, 0.0, {}, 0.0, 0.0, 0), with_fallback=False
    )


# ------------------------------------------------------------------------------------------------ measurement


def _hold(snapshot: Snapshot, ways: Iterable[Way], addresses: Mapping[str, str]) -> dict[str, list[Revision]]:
    """Return node -> revisions that its slot must hold."""
    held: dict[str, list[Revision]] = {node: [] for node in _NODES}
    for way in ways:
        plan = _plan(snapshot, way)
        stated = plan.artifact
        artifact = Artifact(uri=stated.uri, digest=stated.digest, size=int(parse(BYTES, stated.size)))
        for part in plan.partitions:
            is_last = part is plan.partitions[-1]
            stage = StageSpec(
                artifact=artifact,
                inputs=_tensors(part.inputs),
                outputs=_tensors(part.outputs),
                providers=part.providers,
            )
            hop = None if is_last else Peer(address=addresses["two"], node="two")
            held[part.node].append(
                Revision(revision=way.revision, epoch=1, variant=plan.variant, stage=stage, next=hop)
            )
    return held


def _tensors(tensors: Iterable[Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in tensors)


async def _spell(
    running: slots.Slots, hops: PeerClient, ways: list[Way], models: Mapping[str, Model], rounds: int
) -> tuple[Frames, dict[int, list[float]]]:
    """Run one phase; return the frames, and revision -> seconds of each request, as in `Seen.inside`."""
    chance, inside = random.Random(rounds), dict[int, list[float]]()
    inputs = {n: {s.name: _random(s) for s in _tensors(model.spec.inputs)} for n, model in models.items()}
    for _ in range(rounds):
        for way in chance.sample(ways, len(ways)):
            _, parameters, _ = await hops.call(
                running.addresses["one"],
                model=slots.MODEL,
                revision=way.revision,
                tensors=inputs[way.network],
                timeout_s=30.0,
            )
            inside.setdefault(way.revision, []).append(float(parameters["inside_s"]))
    return await running.collect(rounds * sum(len(way.spans) for way in ways)), inside


def _random(spec: TensorSpec) -> Any:
    shape = make_sample(spec).shape
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def _add(frames: Frames) -> Times:
    found: Times = {}
    for node, frame in frames:
        for revision in (r for slot in frame.slots for r in slot.revisions):
            found.setdefault((revision.revision, node), Histogram()).merge(revision.compute)
    return found


async def measure() -> Seen:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models, files = await _import(folder)
        asked, ways = _ask(models), _list_ways(models)
        async with slots.run(_NODES, files, folder) as running:
            await running.hold(_hold(asked, ways, running.addresses))
            running.frames.clear()
            hops = PeerClient(identity=slots.TOKEN)
            spells = [await _spell(running, hops, ways, models, n) for n in (_WARM, _PROFILE, _SERVE, _JUDGE)]
            await hops.close()
    (_, (profile, _), (serve, _), (judge, inside)) = spells
    return Seen(models, ways, profile, serve, judge, inside)


# ------------------------------------------------------------------------------------------------ knowledge


def _profile(snapshot: Snapshot, ways: Iterable[Way], seen: Times, *, only_whole: bool) -> Snapshot:
    """Return the snapshot with a ModelProfile for each network made from the measurements.

    only_whole: profile only the configuration without a cut.
    """
    profiles = {}
    for network, group in groupby(ways, key=lambda way: way.network):
        variant = snapshot.models[f"default/{network}"].spec.variants[0]
        rows = [
            {
                "blocks": [variant.blocks[first].name, variant.blocks[last].name],
                "latency": {"p50": _show(found.quantile(0.5)), "p95": _show(found.quantile(0.95))},
                "samples": found.count,
                "basis": "Measured",
            }
            for way in group
            if way.cut is None or not only_whole
            for node, (first, last) in way.spans.items()
            for found in (seen[way.revision, node],)
        ]
        digest = variant.artifacts[0].digest
        kind = {"variantDigest": digest, "profile": "host-cpu", "unit": "cpu", "runtime": "onnxruntime"}
        body = {"metadata": {"name": network, "namespace": "default"}, "spec": kind | {"spans": rows}}
        profiles[network] = ModelProfile.model_validate(body)
    return replace(snapshot, model_profiles=profiles)


def _show(seconds: float | None) -> str:
    return show(DURATION, seconds or 0.0, digits=5)


def _learn(snapshot: Snapshot, way: Way, frames: Frames) -> Snapshot:
    """Return the snapshot with the operator's calibration from these frames, as if `way` had served the mission."""
    store, plan, now = TelemetryStore(), _plan(snapshot, way), 0.0
    key, pods = plan.mission, {(node, _UNIT): node for node in _NODES}
    for node, frame in frames:
        now = frame.at
        mine = tuple(
            restate(slot, revisions=tuple(r for r in slot.revisions if r.revision == way.revision))
            for slot in frame.slots
        )
        store.record_frame(node, restate(frame, slots=mine), missions={f"default/{n}": key for n in _NODES}, now=now)
        store.calibrate(key, plan, way.revision, pods)
    return replace(snapshot, observations=replace(store.observe(now), bandwidth={}))


# ------------------------------------------------------------------------------------------------ errors


def _judge(snapshot: Snapshot, way: Way, seen: Times) -> list[Judged]:
    """Return the errors of the stages: predicted compute time, mean and p95, against the slots' reports."""
    found = []
    for part in _plan(snapshot, way).partitions:
        observed, tail = seen[way.revision, part.node], part.compute.value + _Z * part.compute.sigma
        mean, middle = observed.mean, observed.quantile(0.5)
        assert mean is not None
        assert middle is not None
        name, value = f"{way.network}[{part.first}..{part.last}]", part.compute.value
        found.append(Judged(name, mean, value / mean - 1, value / middle - 1, _share(observed, tail)))
    return found


def _share(observed: Histogram, seconds: float) -> float:
    """Return the share of observations at or below `seconds`, to the bucket width of 1 %."""
    limit = Histogram()
    limit.add(seconds)
    last = next(iter(limit.buckets))
    return sum(count for bucket, count in observed.buckets.items() if bucket <= last) / observed.count


def _judge_latency(snapshot: Snapshot, way: Way, inside: list[float]) -> Judged:
    """Return the error of the end-to-end latency: both stages and the hop between them, without the client's hop."""
    plan, seen = _plan(snapshot, way), np.array(inside)
    mean, value = float(seen.mean()), plan.latency_mean.value
    covered = float((seen <= plan.latency.value).mean())
    return Judged(way.network, mean, value / mean - 1, value / float(np.median(seen)) - 1, covered)


def _sum_up(known: str, stages: list[Judged], latencies: list[Judged]) -> dict[str, Any]:
    worst, covered = max(stages, key=lambda j: abs(j.of_mean)), [j.covered for j in stages]
    longer = [j for j in stages if j.seconds >= _MILLISECOND]
    return {
        "known": known,
        "stages": len(stages),
        "mape": _mape(stages),
        "bias": round(fmean(j.of_mean for j in stages), 3),
        "mape_of_median": round(fmean(abs(j.of_median) for j in stages), 3),
        "over_1ms": len(longer),
        "mape_over_1ms": _mape(longer),
        "worst": f"{worst.name} {worst.of_mean:+.0%}",
        "covered_p50": round(median(covered), 3),
        "least": round(min(covered), 3),
        "most": round(max(covered), 3),
        "within_90_to_98": sum(_WITHIN[0] <= share <= _WITHIN[1] for share in covered),
        "latencies": len(latencies),
        "latency_mape": _mape(latencies),
        "latency_covered_p50": round(median(j.covered for j in latencies), 3),
    }


def _mape(judged: Iterable[Judged]) -> float:
    return round(fmean(abs(j.of_mean) for j in judged), 3)


def judge(seen: Seen) -> list[dict[str, Any]]:
    """Return a row for each state of knowledge (prior, profiled, calibrated)."""
    prior, profiled, times = _ask(seen.models), _add(seen.profile), _add(seen.judge)
    whole, each = (_profile(prior, seen.ways, profiled, only_whole=only) for only in (True, False))
    middle = {way.network: way for way in seen.ways if way.cut is not None and _is_middle(seen.ways, way)}
    states: dict[str, Callable[[Way], Snapshot]] = {
        "prior": lambda _way: prior,
        "whole": lambda _way: whole,
        "each span": lambda _way: each,
        "prior, served": lambda way: _learn(prior, way, seen.serve),
        "whole, served": lambda way: _learn(whole, way, seen.serve),
        "each span, served": lambda way: _learn(each, way, seen.serve),
        "whole, another cut served": lambda way: _learn(whole, middle[way.network], seen.serve),
    }
    rows = []
    for known, learn in states.items():
        ways = [w for w in seen.ways if known != "whole, another cut served" or w not in middle.values()]
        snapshots = {way.revision: learn(way) for way in ways}
        stages = [j for way in ways for j in _judge(snapshots[way.revision], way, times)]
        split = [w for w in ways if w.cut is not None]
        latencies = [_judge_latency(snapshots[w.revision], w, seen.inside[w.revision]) for w in split]
        rows.append(_sum_up(known, stages, latencies))
    return rows


def _is_middle(ways: list[Way], way: Way) -> bool:
    cuts = [w.cut for w in ways if w.network == way.network and w.cut is not None]
    return way.cut == cuts[len(cuts) // 2]


async def main() -> None:
    load_before, began = os.getloadavg()[0], time.monotonic()
    rows = judge(await measure())
    machine = {"load_before": round(load_before, 2), "seconds": round(time.monotonic() - began), "requests": _JUDGE}
    report("prediction", [row | machine for row in rows], baseline="times measured by the slots")


if __name__ == "__main__":
    asyncio.run(main())
