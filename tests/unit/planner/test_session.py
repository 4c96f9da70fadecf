"""State that is updated equals state that is rebuilt: units, classes, loads and plans, after any changes."""

from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_api.device import Device, Link
from maleo_api.meta import Basis, Tier
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.inventory.reservations import Reservations
from maleo_planner.session import PlanningSession
from maleo_planner.types.problem import Estimate, Feasible, NodeFacts, Observations, Snapshot
from support.planner.builders import block, device, meta, mission, model, profile, variant

_SITES = ("a", "b")
_NODES = tuple(f"{site}{i}" for site in _SITES for i in range(3))
_PROFILES = {"slow": profile("slow", gops=10, memory="12Mi"), "fast": profile("fast", gops=60, memory="40Mi")}
_NET = model(
    variant("fp32", [block("x", mop=60, cut=2_000), block("y", mop=90, cut=500), block("z", mop=30, cut=None)]),
    inputs=10_000,
)

changes = st.lists(
    st.one_of(
        st.tuples(st.just("schedulable"), st.sampled_from(_NODES)),
        st.tuples(st.just("profile"), st.sampled_from(_NODES)),
        st.tuples(st.just("cap"), st.sampled_from(_NODES)),
        st.tuples(st.just("site"), st.sampled_from(_NODES)),
        st.tuples(st.just("device"), st.sampled_from(_NODES)),
        st.tuples(st.just("throttle"), st.sampled_from(_NODES)),
        st.tuples(st.just("measure"), st.sampled_from(_NODES)),
        st.tuples(st.just("plan"), st.integers(0, 5)),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        st.tuples(st.just("raise"), st.integers(0, 5)),
        st.tuples(st.just("link"), st.sampled_from(_SITES)),
    ),
    max_size=14,
)


def _link(name: str, site: str, other: str, bandwidth: str) -> Link:
    spec = {"between": [{"site": site}, {"site": other}], "bandwidth": bandwidth, "roundTrip": "1ms"}
    return Link.model_validate({"metadata": meta(name), "spec": spec})


def _begin() -> Snapshot:
    spec = {"objectives": {"latency": {"atMost": "300ms"}}, "demand": {"rate": "2/s"}}
    missions = [
        mission(
            f"m{i}",
            **spec,
            input={"node": _NODES[i % 6]},
            egress={"input": "Any", "features": "Any"},
            modes=["Remote"] if i % 2 else ["Local", "Split", "Remote"],
        )
        for i in range(6)
    ]
    return Snapshot(
        nodes={n: NodeFacts(n, n[0], Tier.EDGE, ready=True, schedulable=True) for n in _NODES},
        profiles=_PROFILES,
        devices={n: device(n, "fast" if n.endswith("0") else "slow") for n in _NODES},
        links={f"{s}-{s}": _link(f"{s}-{s}", s, s, "200Mbit/s") for s in _SITES}
        | {"ab": _link("ab", "a", "b", "50Mbit/s")},
        models={"default/net": _NET},
        model_profiles={},
        missions={m.key: m for m in missions},
    )


def _device(of: Device, **spec: Any) -> Device:
    return Device.model_validate(of.to_api() | {"spec": of.to_api()["spec"] | spec})


def _change(now: Snapshot, state: PlanningSession, what: str, which: Any) -> tuple[Snapshot, list[str] | None]:  # noqa: C901, PLR0911 - one for each kind
    """Return the next snapshot, and the changed nodes if an operator would know them."""
    key = f"default/m{which}"
    match what:
        case "schedulable":
            facts = replace(now.nodes[which], schedulable=not now.nodes[which].schedulable)
            return replace(now, nodes={**now.nodes, which: facts}), [which]
        case "site":
            facts = replace(now.nodes[which], site="b" if now.nodes[which].site == "a" else "a")
            return replace(now, nodes={**now.nodes, which: facts}), [which]
        case "profile" | "cap" if which in now.devices:
            before = now.devices[which].to_api()["spec"]
            other = "slow" if before["declared"][0]["profile"] == "fast" else "fast"
            spec = {"declared": [{"name": "acc", "profile": other}]} if what == "profile" else {"powerCap": "1500mW"}
            return replace(now, devices={**now.devices, which: _device(now.devices[which], **spec)}), [which]
        case "device":
            rest = {k: v for k, v in now.devices.items() if k != which}
            return replace(now, devices=rest if which in now.devices else {**rest, which: device(which, "slow")}), None
        case "throttle":
            return replace(now, observations=Observations(capacity={(which, "acc/npu"): 0.5})), None
        case "measure":
            seen = replace(
                now.observations,
                correction={("sha256:" + "a" * 64, which, "acc/npu"): Estimate(1.5, 0.05, Basis.CALIBRATED, "seen")},
            )
            return replace(now, observations=seen), None
        case "plan" if key in now.missions:
            verdict = state.plan(key)
            chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.closest
            held = {k: v for k, v in now.current_plans.items() if k != key} | ({key: chosen} if chosen else {})
            return replace(now, current_plans=held), []
        case "leave":
            missions = {k: m for k, m in now.missions.items() if k != key}
            return replace(
                now, missions=missions, current_plans={k: v for k, v in now.current_plans.items() if k != key}
            ), []
        case "raise" if key in now.missions:
            body = now.missions[key].to_api()
            body["spec"] |= {"criticality": "Safety", "demand": {"rate": "3/s"}}
            return replace(now, missions={**now.missions, key: type(now.missions[key]).model_validate(body)}), []
        case "link":
            return replace(now, links={**now.links, "ab": _link("ab", "a", "b", "5Mbit/s")}), None
    return now, []


@settings(max_examples=150, deadline=None)
@given(sequence=changes)
def test_updated_session__equals_a_new_one_after_any_changes(sequence: list[tuple[str, Any]]) -> None:
    now = _begin()
    state = PlanningSession(now)
    for what, which in [*(("plan", i) for i in range(6)), *sequence]:
        now, nodes = _change(now, state, what, which)
        state.update(now, nodes)
    fresh = PlanningSession(now)
    assert state.index.units == fresh.index.units
    assert {c.key: c.members for c in state.index.classes} == {c.key: c.members for c in fresh.index.classes}
    for key, wanted in now.missions.items():
        seen, rebuilt = state.reservations.view_for(wanted), fresh.reservations.view_for(wanted)
        assert [seen[u.key] for u in fresh.index.units] == [rebuilt[u.key] for u in fresh.index.units]
        for one, other in product(now.nodes.values(), repeat=2):
            wire = fresh.index.segment(one, other)
            assert state.index.segment(one, other) == wire
            assert wire is None or seen.reserved_share(wire) == rebuilt.reserved_share(wire)
        assert state.plan(key) == fresh.plan(key)


def test_plan_that_is_reserved_repeatedly_and_released__leaves_no_reservation() -> None:
    """The node of its entry computes none of the partitions."""
    now = replace(_begin(), missions={"default/far": mission("far", input={"node": "a0"}, modes=["Remote"])})
    verdict = PlanningSession(now).plan("default/far")
    assert isinstance(verdict, Feasible)
    assert verdict.plan.entry_node not in {part.node for part in verdict.plan.partitions}
    reservations = Reservations(FleetIndex(now))
    for _ in range(3):
        reservations.reserve(now.missions["default/far"], replace(verdict.plan, fallback=None))
    reservations.release("default/far")
    kept = (reservations._units, reservations._segments, reservations._watts)
    assert not any(rows for by_place in kept for rows in by_place.values())


def test_fronts__of_unit_classes_that_vanished_are_forgotten() -> None:
    """Each throttled capacity creates a class that disappears with the next one."""
    now = _begin()
    state = PlanningSession(now)
    for percent in range(50, 60):
        now = replace(now, observations=Observations(capacity={("a1", "acc/npu"): percent / 100}))
        state.update(now)
        state.plan("default/m0")
    reservations = state.reservations
    assert reservations._least_loaded
    assert {*reservations._least_loaded, *reservations._versions} <= set(state.index.classes)
