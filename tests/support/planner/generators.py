"""Random planning problems with every kind of constraint; each is a function of one random generator."""

from dataclasses import replace
from itertools import combinations
from random import Random
from typing import Any

from maleo_api.device import Device, DeviceProfile
from maleo_api.meta import Basis
from maleo_api.mission import Demand, Mission
from maleo_api.model import Model, ModelProfile
from maleo_planner.planner import decide
from maleo_planner.types.problem import Estimate, Feasible, Observations, Plan, Snapshot
from support.planner.builders import DIGEST, block, device, link, meta, mission, model, profile, snapshot, variant
from support.planner.variations import Body, changed, mix

NAMES = ("drone", "cam", "edge", "gate", "hub", "cloud", "rack", "van")
_SITES = ("field", "yard", "")
_HARD = ("Hard", "Soft")
_MODES = ("Local", "Split", "Remote")
_REACH = ("Device", "Site", "Any", "Any")


def one_mission(chance: Random, *, blocks: int, nodes: int) -> Snapshot:
    """Return a problem of one mission, default/watch, with its input on the drone.

    It may have load of other missions, an incumbent plan and measurements.
    """
    found = _plain(chance, list(NAMES[:nodes]), blocks)
    for name in NAMES[:nodes]:
        if chance.random() < 0.4:
            found = _with_load(chance, found, name)
    return _with_incumbent(chance, found) if chance.random() < 0.3 else found


def every_kind(chance: Random, *, blocks: int, nodes: int) -> Snapshot:
    """Return a problem as `one_mission`, with exits, codecs, unusual hardware, and links by site and tier."""
    found = _with_directions(chance, mix(chance, _plain(chance, list(NAMES[:nodes]), blocks)))
    found = replace(found, models={**found.models, "default/film": _FILM})
    for name in NAMES[:nodes]:
        if chance.random() < 0.5:
            one = {"model": {"name": "net", "variants": [chance.choice(("fp32", "int8"))]}}
            found = _with_load(chance, found, name, **one)
    for name in NAMES[:nodes]:
        if chance.random() < 0.8:
            found = _with_traffic(chance, found, name)
    return _with_incumbent_elsewhere(chance, found) if chance.random() < 0.4 else found


def _plain(chance: Random, names: list[str], blocks: int) -> Snapshot:
    profiles = {name: _profile(chance, name, largest=10 + 3 * blocks) for name in names}
    net = _model(chance, blocks)
    found = snapshot(profiles=profiles, missions=[_mission(chance)], net=net, links=_links(chance, names))
    found = replace(
        found,
        nodes={n: replace(facts, site=chance.choice(_SITES)) for n, facts in found.nodes.items()},
        observations=_observations(chance, names),
        model_profiles=_measured(chance, net, profiles),
    )
    if chance.random() < 0.4:
        found = replace(found, devices={**found.devices, "drone": _two_units(found.devices["drone"], chance)})
    return found


def fleet(chance: Random, *, missions: int, nodes: int, blocks: int = 2, tight: float = 0.5) -> Snapshot:
    """Return a problem of many missions on few units. tight: 0..1, scarcity of memory, time and exclusive units."""
    names = list(NAMES[:nodes])
    chain = [
        block(
            f"b{i}",
            mop=chance.randint(20, 120),
            cut=chance.randint(100, 6000) if i < blocks - 1 else None,
            parameters=f"{chance.randint(1, 4)}Mi",
        )
        for i in range(blocks)
    ]
    largest = round(40 - 32 * tight)
    profiles = {
        name: profile(
            f"p-{name}",
            gops=chance.randint(5, 60),
            memory=f"{chance.randint(4, max(5, largest))}Mi",
            sharing="Exclusive" if chance.random() < tight / 2 else "TimeShared",
        )
        for name in names
    }
    wanted = [
        mission(
            f"m{i}",
            objectives={"latency": {"atMost": f"{chance.randint(20, 250)}ms", "enforcement": chance.choice(_HARD)}},
            demand={"rate": f"{chance.randint(1, round(4 + 60 * tight))}/s"},
            input={"node": chance.choice(names)},
        )
        for i in range(missions)
    ]
    links = [
        link(*pair, f"{chance.randint(20, 400)}Mbit/s") for pair in combinations(names, 2) if chance.random() < 0.8
    ]
    return snapshot(
        profiles=profiles,
        missions=wanted,
        net=model(variant("fp32", chain), inputs=chance.randint(100, 9000)),
        links=links,
    )


# ------------------------------------------------------------------------------------------------ parts


def _profile(chance: Random, name: str, *, largest: int) -> DeviceProfile:
    return profile(
        f"p-{name}",
        gops=chance.choice((2, 10, 50)) + chance.randint(0, 10),
        memory=f"{chance.randint(5, largest)}Mi",
        watts=f"{chance.randint(1, 40)}W" if chance.random() < 0.8 else None,
        sharing="Exclusive" if chance.random() < 0.2 else "TimeShared",
        reads=f"{chance.randint(100, 900)}MB/s" if chance.random() < 0.3 else None,
        overhead=f"{chance.randint(1, 20)}ms" if chance.random() < 0.3 else None,
    )


def _model(chance: Random, blocks: int) -> Model:
    """Return a model of two variants with different chains."""
    chains = [
        [
            block(
                f"b{i}",
                mop=chance.randint(1, 200),
                cut=chance.choice((0, 500, chance.randint(10, 40_000)))
                if i < count - 1 and chance.random() < 0.85
                else None,
                parameters=f"{chance.randint(1, 6)}Mi",
            )
            for i in range(count)
        ]
        for count in (blocks, chance.randint(1, blocks))
    ]
    variants = [
        variant(name, chain, precision=name, accuracy=f"{chance.randint(55, 85)}%" if chance.random() < 0.9 else None)
        for name, chain in zip(("fp32", "int8"), chains, strict=True)
    ]
    if chance.random() < 0.2:
        chance.choice(variants)["cutting"] = "None"
    variants[1]["artifacts"] = [variants[1]["artifacts"][0] | {"uri": f"oci://r/m@{_OTHER}", "digest": _OTHER}]
    inputs = chance.randint(1, 60_000)
    for chain in chains:
        for each in chain[: max(0, inputs % 6 - 3)]:
            if each.get("cut"):
                each["cut"]["raw"] = True
    return model(*variants, inputs=inputs)


_OTHER = f"sha256:{'b' * 64}"


def _film() -> Model:
    """Return a model of one small block and a large input, with an artifact of its own."""
    only = variant("fp32", [block("all", mop=1, cut=None)])
    only["artifacts"] = [only["artifacts"][0] | {"uri": f"oci://r/m@{_THIRD}", "digest": _THIRD}]
    made = model(only, inputs=60_000)
    return made.model_copy(update={"metadata": made.metadata.model_copy(update={"name": "film"})})


_THIRD = f"sha256:{'c' * 64}"
_FILM = _film()


def _mission(chance: Random) -> Mission:
    objectives: dict[str, Any] = {}
    if chance.random() < 0.8:
        objectives["latency"] = {
            "atMost": f"{chance.choice((20, 100, 400, 1500)) + chance.randint(0, 100)}ms",
            "percentile": chance.choice((90, 95, 99)),
            "enforcement": chance.choice(_HARD),
        }
    if chance.random() < 0.5 or not objectives:
        limits = {"perInference": f"{chance.randint(50, 6000)}mJ", "power": f"{chance.randint(1, 30)}W"}
        for kind in chance.sample(sorted(limits), k=chance.choice((0, 0, 1))):
            del limits[kind]
        objectives["energy"] = limits | {"enforcement": chance.choice(_HARD)}
    if chance.random() < 0.4:
        floor = {"metric": "top-1", "dataset": "d", "atLeast": f"{chance.randint(50, 85)}%"}
        objectives["accuracy"] = floor | {"enforcement": chance.choice(_HARD)}
    weights = {name: chance.randint(0, 5) for name in ("accuracy", "latency", "energy")}
    return mission(
        objectives=objectives,
        demand={"rate": chance.choice(("1/m", "2/s", "8/s"))},
        egress={"input": chance.choice(_REACH), "features": chance.choice(_REACH)},
        modes=sorted(chance.sample(_MODES, k=chance.choice((1, 2, 3, 3)))),
        preference={"weights": weights} if chance.random() < 0.7 else {"preset": "latency-first"},
    )


def _links(chance: Random, names: list[str]) -> list[Any]:
    return [
        link(
            *pair,
            f"{chance.choice((5, 50, 500)) + chance.randint(0, 50)}Mbit/s",
            f"{chance.randint(0, 10)}ms",
            **({"energyPerByte": f"{chance.randint(10, 5000)}nJ"} if chance.random() < 0.3 else {}),
        )
        for pair in combinations(names, 2)
        if chance.random() < 0.85
    ]


def _observations(chance: Random, names: list[str]) -> Observations:
    """Return measured bandwidths in one direction, throttled units, and corrections of compute times."""
    pairs = [pair for pair in combinations(names, 2) if chance.random() < 0.15]
    rates = [chance.uniform(2e5, 5e7) for _ in pairs]
    slow = [name for name in names if chance.random() < 0.15]
    off = [name for name in names if chance.random() < 0.15]
    return Observations(
        bandwidth={
            p: Estimate(r, chance.random() * 0.3 * r, Basis.MEASURED) for p, r in zip(pairs, rates, strict=True)
        },
        capacity={(name, "acc/npu"): chance.uniform(0.3, 1.0) for name in slow},
        correction={(DIGEST, n, "acc/npu"): _corrected(chance.uniform(0.8, 1.5)) for n in off},
    )


def _corrected(factor: float) -> Estimate:
    """Return a correction by this factor; of a slow unit also with the spread of its requests."""
    return Estimate(factor, 0.2 * factor if factor > 1.2 else 0.0, Basis.CALIBRATED)


def _measured(chance: Random, net: Model, profiles: dict[str, DeviceProfile]) -> dict[str, ModelProfile]:
    """Return measured spans whose times are not the sums of their blocks."""
    blocks, found = net.spec.variants[0].blocks, {}
    for name in profiles:
        spans = []
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            first = chance.randrange(len(blocks))
            last = chance.choice((len(blocks) - 1, chance.randrange(first, len(blocks))))
            p50 = chance.randint(2, 60) * (last - first + 1)
            latency = {"p50": f"{p50}ms", "p95": f"{p50 + chance.randint(0, 20)}ms"}
            ends = [blocks[chance.choice((0, first))].name, blocks[last].name]
            spans.append({"blocks": ends, "latency": latency, "samples": 100, "basis": "Measured"})
        if spans:
            spec = {"variantDigest": DIGEST, "profile": f"p-{name}", "unit": "npu", "runtime": "onnxruntime"}
            body = {"metadata": meta(name, "default"), "spec": spec | {"spans": spans}}
            found[f"default/{name}"] = ModelProfile.model_validate(body)
    return found


def _two_units(drone: Device, chance: Random) -> Device:
    """Return the input node's device with a second accelerator of the same or another kind."""
    kind = chance.choice(("p-drone", "p-cam"))
    second = device("drone", kind).spec.declared[0].model_copy(update={"name": "spare"})
    return drone.model_copy(update={"spec": drone.spec.model_copy(update={"declared": [*drone.spec.declared, second]})})


def _with_directions(chance: Random, found: Snapshot) -> Snapshot:
    """Return the problem with asymmetric links, and with outputs large enough to matter."""
    apart = Random()
    apart.setstate(chance.getstate())  # later draws stay unchanged

    def part(body: Body) -> None:
        one, other = body["spec"]["between"]
        if one != other and apart.random() < 0.4:
            rates = {name: f"{apart.choice((4, 40, 400)) + apart.randint(0, 40)}Mbit/s" for name in ("up", "down")}
            body["spec"] |= rates
            del body["spec"]["bandwidth"]

    def enlarge(body: Body) -> None:
        if apart.random() < 0.4:
            body["spec"]["outputs"][0]["shape"] = [1, apart.randint(1000, 40_000)]

    links = {key: changed(each, part) for key, each in found.links.items()}
    return replace(found, links=links, models={key: changed(each, enlarge) for key, each in found.models.items()})


def _with_load(chance: Random, found: Snapshot, node: str, **spec: Any) -> Snapshot:
    """Return the problem with another mission on one node, of random criticality."""
    other = mission(
        f"other-{node}",
        input={"node": node},
        modes=["Local"],
        objectives={"latency": {"atMost": "9s", "enforcement": "Soft"}},
        criticality=chance.choice(("Safety", "Mission", "Mission", "BestEffort")),
        demand={"rate": f"{chance.randint(1, 100)}/m"},
        **spec,
    )
    wider = replace(found, missions={**found.missions, other.key: other}, current_plans={})
    verdict = decide(wider, other.key)
    if not isinstance(verdict, Feasible) or len(verdict.plan.partitions) > 1:
        return (
            found  # who waits on several units divides its patience among them, by a rule that `meaning` does not read
        )
    if chance.random() < 0.8:  # and it was promised little more than what it has
        limit = f"{verdict.plan.latency.value * chance.uniform(1.01, 1.5) * 1e6:.0f}us"
        objectives = {"latency": {"atMost": limit}}
        tight = other.spec.model_copy(update={"objectives": type(other.spec.objectives).model_validate(objectives)})
        wider = replace(wider, missions={**found.missions, other.key: other.model_copy(update={"spec": tight})})
    return replace(wider, current_plans={**found.current_plans, other.key: verdict.plan})


def _with_traffic(chance: Random, found: Snapshot, node: str) -> Snapshot:
    """Return the problem with another mission that sends much and computes little on units that no other mission uses.

    Its latency limit is loose, and its rate is a random share of the maximum.
    """
    other = mission(
        f"traffic-{node}",
        model={"name": "film"},
        input={"node": node},
        modes=["Remote"],
        objectives={"latency": {"atMost": "9s", "enforcement": "Soft"}},
        criticality=chance.choice(("Safety", "Safety", "Mission", "BestEffort")),
        demand={"rate": "1/m"},
    )
    wider = replace(found, missions={**found.missions, other.key: other})
    verdict, used = (
        decide(wider, other.key),
        {(p.node, p.unit) for each in found.current_plans.values() for p in each.partitions},
    )
    if not isinstance(verdict, Feasible) or used & {(p.node, p.unit) for p in verdict.plan.partitions}:
        return found
    rate = f"{verdict.plan.rate.value * chance.uniform(0.2, 0.98):.3f}/s"
    spec = other.spec.model_copy(update={"demand": Demand(rate=rate)})
    busier = {**found.missions, other.key: other.model_copy(update={"spec": spec})}
    return replace(found, missions=busier, current_plans={**found.current_plans, other.key: verdict.plan})


def _with_incumbent(chance: Random, found: Snapshot) -> Snapshot:
    """Return the problem with an incumbent plan: the best one for links without round-trip time."""
    quick = {
        key: each.model_copy(update={"spec": each.spec.model_copy(update={"round_trip": "0ms"})})
        for key, each in found.links.items()
        if chance.random() < 0.8
    }
    verdict = decide(replace(found, links=quick), "default/watch")
    incumbent: Plan | None = verdict.plan if isinstance(verdict, Feasible) else verdict.closest
    return (
        replace(found, current_plans={**found.current_plans, "default/watch": incumbent})
        if incumbent is not None
        else found
    )


def _with_incumbent_elsewhere(chance: Random, found: Snapshot) -> Snapshot:
    """Return the problem with an incumbent plan: the best one of a random mode, without other missions."""
    watch = found.missions["default/watch"]
    spec = {"modes": [chance.choice(_MODES)], "egress": watch.spec.egress.model_copy(update={"input": "Any"})}
    then = watch.model_copy(update={"spec": watch.spec.model_copy(update=spec)})
    verdict = decide(replace(found, missions={**found.missions, watch.key: then}, current_plans={}), watch.key)
    incumbent = verdict.chosen
    return (
        replace(found, current_plans={**found.current_plans, watch.key: incumbent}) if incumbent is not None else found
    )
