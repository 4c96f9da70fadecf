"""Random histories of a mission: its status is consistent after every step, and once nothing changes any more,
conditions settle and nothing is written.
"""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from maleo_api.mission import Mission
from maleo_api.placement import Placement
from maleo_operator.reconcilers.scope import Telemetry, Window
from maleo_planner.types.problem import Feasible, Plan, Verdict
from support.operator.builders import artifact, infeasible, mission, model, plan
from support.operator.simulation import World

_NODES = ("drone-1", "edge-1", "edge-2")
_CHAINS = {"Split": (("drone-1", "edge-1"), ("drone-1", "edge-2")), "Local": (("drone-1",),)}
_BAD = "b"  # the artefact that no slot can load
_GOOD = Window(200, 2, percentile_s=0.034, joules=0.2, joules_basis="Measured", rate=5.0)
_LATE = Window(200, 60, percentile_s=0.071, joules=0.4, joules_basis="Measured", rate=5.0)
_NOISY = Window(100, 7, percentile_s=0.058)
_OBJECTIVES = {
    "accuracy": {"metric": "top-1", "dataset": "imagenet-1k", "atLeast": "74%"},
    "latency": {"atMost": "50ms"},
    "energy": {"perInference": "350mJ"},
}


def _telemetry(*windows: Window, fallback: int = 0) -> Telemetry:
    last = windows[-1]
    return Telemetry(
        fresh=True, windows=windows, samples=last.total, percentile_s=last.percentile_s, joules=last.joules,
        joules_basis=last.joules_basis, rate=last.rate, fallback=fallback,
    )  # fmt: skip


_TELEMETRY = (
    Telemetry(),
    Telemetry(fresh=True),
    _telemetry(_GOOD),
    _telemetry(_GOOD, _GOOD),
    _telemetry(_LATE, _LATE),
    _telemetry(_GOOD, _LATE),
    _telemetry(_LATE, _GOOD),
    _telemetry(_NOISY, _NOISY),
    _telemetry(_GOOD, fallback=3),
)


def _planner(world: World) -> Verdict:
    """Return the best chain that spec, labels and nodes allow; under a tight limit, as the closest infeasible plan."""
    spec = world.mission.spec
    if world.model is None:
        return infeasible("ModelMissing", "Model demo/resnet50 does not exist: apply it")
    sites = {n.name: n.site for n in world.nodes}

    def is_open(chain: tuple[str, ...]) -> bool:
        near = all(n == "drone-1" or "" != sites["drone-1"] == sites[n] for n in chain)
        return near and not any(n in world.lost for n in chain)

    found = [chain for mode in ("Split", "Local") if mode in spec.modes for chain in _CHAINS[mode] if is_open(chain)]
    best = _served(world, found[0]) if found else None
    assert spec.objectives.latency is not None
    if best is None or spec.objectives.latency.at_most == "1ms":
        return infeasible(closest=best) if best else infeasible("EgressForbidden", "no way is allowed")
    return Feasible(plan=best, rejected=(), incumbent=None, bound=0.5)


def _served(world: World, chain: tuple[str, ...]) -> Plan:
    assert world.model is not None
    made = plan(*chain, spare=len(chain) > 1)
    chosen = world.model.spec.variants[0].artifacts[0]
    fallback = replace(made.fallback, artifact=chosen) if made.fallback else None
    return replace(made, artifact=chosen, fallback=fallback)


def _edit(world: World, **spec: object) -> None:
    body = world.mission.to_api()
    body["spec"] |= spec
    body["metadata"]["generation"] += 1
    world.mission = Mission.model_validate(body)


def _limit(world: World, limit: str) -> None:
    _edit(world, objectives=_OBJECTIVES | {"latency": {"atMost": limit}})


def _relabel(world: World, name: str, site: str) -> None:
    world.nodes = tuple(replace(n, site=site) if n.name == name else n for n in world.nodes)


def _preempt(world: World, rng: random.Random) -> None:
    """Let kube-scheduler preempt a pod."""
    if world.pods:
        pod = world.pods[rng.choice(sorted(world.pods))]
        pod["status"]["conditions"] = [
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "make room"}
        ]
        pod["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"


def _delete_pod(world: World, rng: random.Random) -> None:
    if world.pods:
        world.pods[rng.choice(sorted(world.pods))]["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"


def _delete_placement(world: World, rng: random.Random) -> None:
    if world.placements:
        gone = world.placements.pop(rng.choice(sorted(world.placements)))
        active = world.mission.status.active
        if active is not None and gone.spec.revision == active.revision:
            world.deleted = gone


def _set(world: World, **fields: object) -> None:
    for name, value in fields.items():
        setattr(world, name, value)


_CHANGES: tuple[Callable[[World, random.Random], object], ...] = (
    lambda w, _: _limit(w, "1ms"),
    lambda w, _: _limit(w, "50ms"),
    lambda w, c: _edit(w, modes=c.choice([["Split"], ["Local"], ["Local", "Split"]])),
    lambda w, c: _edit(w, suspend=c.random() < 0.5),
    lambda w, c: _set(w, model=c.choice([None, model("a"), model("c"), model(_BAD), model(_BAD)])),
    lambda w, c: _relabel(w, c.choice(_NODES), c.choice(["field-a", "field-a", "elsewhere", ""])),
    lambda w, c: w.lost.setdefault(c.choice(_NODES), w.now),
    lambda w, _: w.lost.clear(),
    _preempt,
    _delete_pod,
    _delete_placement,
    lambda w, _: _set(w, identity=f"{w.identity}x"),
    lambda w, _: _set(w, service=None),
    lambda w, c: _set(w, telemetry=c.choice(_TELEMETRY)),
    lambda w, c: _set(w, telemetry=c.choice(_TELEMETRY)),
    lambda w, _: _set(w, displaced=True),
    lambda w, _: _set(w, planned_at=0.0),  # another replica leads
    lambda w, c: _set(w, now=w.now + c.choice([5.0, 40.0, 130.0, 700.0])),
)


def _step(world: World) -> bool:
    """Let every component take one step; return whether anything happened."""
    world.broken = {p.spec.revision for p in world.placements.values() if _is_bad(p)}
    busy = [world.turn() > 0, world.start(), world.load()]
    world.now += 1
    _assert_consistent(world)
    return any(busy)


def _is_bad(placement: Placement) -> bool:
    return placement.spec.artifact == artifact(_BAD)


def _assert_consistent(world: World) -> None:
    """Assert that the parts of the status do not contradict each other."""
    status, suspended = world.mission.status, world.mission.spec.suspend
    conditions = {c.type: c for c in status.conditions}
    if not conditions:
        return
    ready, placed, degraded = conditions["Ready"], conditions["Placed"], conditions["Degraded"]
    broken = {kind for kind in ("AccuracyMet", "LatencyMet", "EnergyMet") if conditions[kind].status == "False"}
    if ready.status != "True":
        assert (degraded.status, degraded.reason) == ("False", "NotServing")
    if degraded.reason == "AsPlanned":
        assert ready.status == "True"
        assert not broken & {"AccuracyMet", "LatencyMet"}, "these limits are Hard"
        assert placed.status != "False" or placed.reason in _REASONS_OF_THE_NEXT_REVISION
    if placed.reason == "Placed":
        assert placed.status == "True"
        assert status.active is not None
        assert placed.message.startswith(f"revision {status.active.revision} ")
    serves = status.phase == "Serving"
    assert serves <= (ready.status == "True" and degraded.status == "False" and not suspended)
    assert (status.reason == "Serving") <= (serves and not broken and placed.status == "True")
    assert (status.phase == "Suspended") == suspended
    assert (status.phase == "Degraded") <= (degraded.status == "True" and status.reason == degraded.reason)
    assert (status.phase in ("NotServing", "Unplaced", "Starting")) <= (ready.status == "False")
    for kind, margin in _margins(status.margins).items():
        met = conditions[f"{kind.capitalize()}Met"]
        if margin is not None and not margin.startswith("~"):
            assert met.status != "True" or not margin.startswith("-"), (met, margin)
            assert met.status != "False" or margin.startswith("-"), (met, margin)
        if met.reason in ("NoTelemetry", "TooFewSamples", "NoReading"):
            assert margin is None or margin.startswith("~")
    messages = [c.message for c in status.conditions if c.status == "False" and c.message]
    assert len(messages) == len(set(messages)), "no two conditions have the same message"


_REASONS_OF_THE_NEXT_REVISION = {
    "ArtifactInvalid", "LoadFailed", "ProgressDeadlineExceeded", "Moving", "Starting", "Suspended", "ChildRefused",
}  # fmt: skip


def _margins(margins: object) -> dict[str, str | None]:
    return {} if margins is None else dict(vars(margins))


def _settle(world: World, what: str) -> None:
    """Step until nothing has happened for ten minutes, though the operator may plan again meanwhile."""
    quiet = 0
    for _ in range(60):
        quiet = 0 if _step(world) else quiet + 1
        if quiet >= 5:
            world.now += 60
        if quiet >= 15:
            return
    raise AssertionError(f"{what} does not settle: {world.last}")


def _make_feasible(world: World) -> None:
    _edit(world, suspend=False, modes=["Local", "Split"])
    _limit(world, "50ms")
    world.model, world.telemetry = model("c"), _telemetry(_GOOD, _GOOD)
    world.lost.clear()
    for name in _NODES:
        _relabel(world, name, "field-a")


@pytest.mark.parametrize("seed", range(60))
def test_random_history__has_consistent_status_and_recovers(seed: int) -> None:
    rng = random.Random(seed)
    world = World(planner=_planner, remembers=True)
    world.mission = mission(objectives=_OBJECTIVES, egress={"input": "Site", "features": "Site"})
    happened = []
    for _ in range(rng.randrange(3, 14)):
        index = rng.randrange(len(_CHANGES))
        happened.append(index)
        _CHANGES[index](world, rng)
        for _ in range(rng.randrange(12)):
            _step(world)
    if world.model is not None and world.model.spec.variants[0].artifacts[0] == artifact(_BAD):
        world.model = model("a")  # else it is retried for ever, with increasing delay
    _settle(world, f"seed {seed} {happened}: the unchanged world")
    _make_feasible(world)
    _settle(world, f"seed {seed} {happened}: the world in which everything is feasible")
    conditions = {c.type: (c.status, c.reason) for c in world.mission.status.conditions}
    assert conditions == {
        "Ready": ("True", "Serving"), "Placed": ("True", "Placed"), "Degraded": ("False", "AsPlanned"),
        "AccuracyMet": ("True", "DeclaredFigure"), "LatencyMet": ("True", "WithinLimit"),
        "EnergyMet": ("True", "WithinLimit"),
    }, (seed, happened)  # fmt: skip
    assert (world.mission.status.phase, world.mission.status.reason) == ("Serving", "Serving")
    assert world.serves()
