"""Rules that follow from hardware: reconfiguration, analogue tolerance, sparsity, power modes, preferences."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_api.device import Device, DeviceProfile
from maleo_api.manifests import load
from maleo_api.meta import Basis
from maleo_api.mission import Mission
from maleo_api.model import Model, Variant
from maleo_api.quantities import BYTES, parse
from maleo_planner.cost_model.compatibility import find_incompatibility
from maleo_planner.cost_model.units import UnitFacts, list_units
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.joint.fleet import plan_all
from maleo_planner.planner import plan, prepare
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import evaluate_plan
from maleo_planner.types.problem import Estimate, Feasible, Infeasible, NodeFacts, Plan, Snapshot
from support.paths import ROOT
from support.planner.builders import DIGEST, block, device, link, meta, mission, model, profile, snapshot, variant

CATALOGUE = ROOT / "charts" / "maleo" / "profiles"
BLOCKS = [block("a", mop=100, cut=None)]
NET = model(variant("v", BLOCKS))
OTHER = f"sha256:{'b' * 64}"


def _with(plain: DeviceProfile, *, spec: dict[str, Any] | None = None, **unit: Any) -> DeviceProfile:
    body = plain.to_api()
    body["spec"] |= spec or {}
    body["spec"]["computeUnits"][0] |= unit
    return DeviceProfile.model_validate(body)


def _chosen(world: Snapshot, name: str = "watch") -> Plan:
    verdict = plan(world, f"default/{name}")
    assert isinstance(verdict, Feasible), verdict
    return verdict.plan


def _infeasible(world: Snapshot, name: str = "watch") -> Infeasible:
    verdict = plan(world, f"default/{name}")
    assert isinstance(verdict, Infeasible), verdict
    return verdict


# ------------------------------------------------------------------------------------------------ reconfiguration


def _reconfigurable(time: str | None, *, gops: int = 10) -> DeviceProfile:
    rows = [{"time": time, "basis": "Claimed"}] if time else []
    return _with(profile("soft", gops=gops), features=["Reconfigurable"], reconfiguration=rows)


def _other_model() -> Model:
    body = NET.to_api()
    body["metadata"]["name"] = "other"
    body["spec"]["variants"][0]["artifacts"] = [
        {"uri": f"oci://r/m@{OTHER}", "digest": OTHER, "format": "onnx", "size": "1Mi"}
    ]
    return Model.model_validate(body)


def _two_models(hardware: DeviceProfile, *missions: Mission, **profiles: DeviceProfile) -> Snapshot:
    """Return a snapshot where `drone` has this hardware; the model of each mission takes 10 ms at 10 GOPS."""
    links = [link("drone", name, "1Gbit/s") for name in profiles]
    world = snapshot(profiles={"drone": hardware} | profiles, missions=list(missions), net=NET, links=links)
    return replace(world, models=world.models | {"default/other": _other_model()})


def _hold(world: Snapshot, name: str) -> Snapshot:
    """Return the snapshot in which this mission already has its plan."""
    return replace(world, current_plans={**world.current_plans, f"default/{name}": _chosen(world, name)})


def _mission(name: str, net: str, at_most: str, rate: str = "1/s") -> Mission:
    return mission(
        name, model={"name": net}, objectives={"latency": {"atMost": at_most, "window": "60s"}}, demand={"rate": rate}
    )


def test_alternating_models__pay_for_reconfiguration_in_mean_tail_energy_and_rate() -> None:
    first, second = _mission("first", "net", "1s"), _mission("second", "other", "1s")
    world = _hold(_two_models(_reconfigurable("200ms"), first, second), "first")
    alone, (part,) = world.current_plans["default/first"], _chosen(world, "second").partitions
    assert part.turn == pytest.approx(0.2)
    assert part.compute.value == pytest.approx(alone.partitions[0].compute.value + 0.2)
    assert part.energy.value == pytest.approx(2.0 * part.compute.value)  # 2 W
    assert part.nominal == pytest.approx(alone.partitions[0].nominal)
    taken = _chosen(world, "second")
    assert taken.latency.value > alone.latency.value + 0.2
    others = 1.0 * (alone.partitions[0].compute.value + 0.2)  # share of the time, with reconfiguration of the first
    assert taken.rate.value == pytest.approx((1 - others) / part.compute.value)


def test_same_model_of_another_mission__needs_no_reconfiguration() -> None:
    first, second = _mission("first", "net", "1s"), _mission("second", "net", "100ms")
    world = _hold(_two_models(_reconfigurable("200ms"), first, second), "first")
    assert _chosen(world, "second").partitions[0].turn == 0


def test_reconfiguration_of_200ms__is_rejected_under_a_limit_of_100ms() -> None:
    first, second = _mission("first", "net", "1s"), _mission("second", "other", "100ms")
    elsewhere = _hold(_two_models(_reconfigurable("200ms"), first, second, spare=profile("spare", gops=5)), "first")
    assert [p.node for p in _chosen(elsewhere, "second").partitions] == ["spare"]
    alone = _hold(_two_models(_reconfigurable("200ms"), first, second), "first")
    held, late = _infeasible(alone, "second").blockers
    assert (held.code, late.code) == ("UnitOccupied", "LatencyTooTight")
    assert "reserved by default/first" in held.message
    assert "exceeds the limit 100ms" in late.message


def test_existing_mission__is_not_made_late_by_another_model() -> None:
    """The second mission could wait for the reconfiguration, the first could not."""
    first, second = _mission("first", "net", "100ms"), _mission("second", "other", "1s")
    world = _hold(_two_models(_reconfigurable("200ms"), first, second), "first")
    blocker = _infeasible(world, "second").blockers[0]
    assert (blocker.code, blocker.retry) == ("ReconfigurationTooSlow", "CannotNow")
    assert "takes 200ms, the mission on the unit has 89.2ms to spare" in blocker.message


def test_existing_mission__keeps_its_rate() -> None:
    first, second = _mission("first", "net", "1s", rate="20/s"), _mission("second", "other", "1s")
    world = _hold(_two_models(_reconfigurable("200ms"), first, second), "first")
    blocker = _infeasible(world, "second").blockers[0]
    assert blocker.code == "ReconfigurationTooSlow"
    assert "the request rate on the unit leaves no time for it" in blocker.message


def test_alternating_missions__both_keep_their_plans_when_planned_again() -> None:
    first, second = _mission("first", "net", "1s"), _mission("second", "other", "400ms")
    world = _hold(_hold(_two_models(_reconfigurable("200ms"), first, second), "first"), "second")
    again = _hold(world, "first")
    assert again.current_plans["default/first"].partitions[0].turn == pytest.approx(0.2)
    assert _chosen(again, "second").partitions[0].turn == pytest.approx(0.2)


def test_reconfiguration_and_wait__must_fit_the_limit_together() -> None:
    """A reconfiguration of 100 ms alone would fit, and so would the wait for the second mission, but not both."""
    first, second = _mission("first", "net", "160ms", rate="3/s"), _mission("second", "other", "2s", rate="3/s")
    world = _hold(_two_models(_reconfigurable("100ms", gops=10), first, second), "first")
    assert _infeasible(world, "second").blockers[0].code == "UnitOccupied"
    patient = _two_models(_reconfigurable("100ms", gops=10), _mission("first", "net", "900ms", rate="3/s"), second)
    both = _hold(_hold(patient, "first"), "second")
    before = both.current_plans["default/second"]
    again = _hold(_hold(both, "first"), "second").current_plans["default/second"]
    assert again.latency.value == pytest.approx(before.latency.value)  # includes the reconfiguration of the first


def test_unknown_reconfiguration_time__excludes_alternating_models() -> None:
    first, second = _mission("first", "net", "1s"), _mission("second", "other", "1s")
    world = _hold(_two_models(_reconfigurable(None), first, second), "first")
    assert _infeasible(world, "second").blockers[0].code == "ReconfigurationUnknown"


@settings(max_examples=150, deadline=None)
@given(
    limits=st.lists(st.integers(40, 900), min_size=2, max_size=4),
    rates=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    time=st.integers(1, 300),
)
def test_missions_of_a_fleet__keep_their_limits_when_their_models_alternate(
    limits: list[int], rates: list[int], time: int
) -> None:
    """With all missions in place none is late, through reconfiguration, waiting or both."""
    missions = [
        _mission(f"m{i}", ("net", "other")[i % 2], f"{limit}ms", rate=f"{rates[i]}/s") for i, limit in enumerate(limits)
    ]
    world = _two_models(_reconfigurable(f"{time}ms"), *missions)
    held = {key: v.plan for key, v in plan_all(world).items() if isinstance(v, Feasible)}
    world = replace(world, current_plans=held)
    for key, kept in held.items():
        problem = prepare(world, world.missions[key], FleetIndex(world), "margins")
        assert isinstance(problem, MissionProblem)
        judged = evaluate_plan(problem, kept)
        assert judged is not None
        assert judged.latency <= limits[int(key[-1])] / 1000 * (1 + 1e-9)


# ------------------------------------------------------------------------------------------------ analogue


def _analog(tolerance: str | None, *, gops: int = 100) -> DeviceProfile:
    rows = [{"value": tolerance, "basis": "Claimed"}] if tolerance else []
    return _with(profile("analog", gops=gops), features=["Analog"], accuracyTolerance=rows)


def _floor(at_least: str, enforcement: str = "Hard", **spec: Any) -> Mission:
    accuracy = {"metric": "top-1", "dataset": "d", "atLeast": at_least, "enforcement": enforcement}
    return mission(objectives={"accuracy": accuracy, "latency": {"atMost": "100ms"}}, **spec)


def _analog_and_digital(tolerance: str | None, wanted: Mission) -> Snapshot:
    """Return a fast analogue unit on the input node and a slower digital one on the edge; the model reaches 76 %."""
    return snapshot(
        profiles={"drone": _analog(tolerance), "edge": profile("digital", gops=10)},
        missions=[wanted],
        net=model(variant("v", BLOCKS, accuracy="76%"), inputs=100),
        links=[link("drone", "edge", "1Gbit/s")],
    )


@pytest.mark.parametrize(
    ("tolerance", "floor", "want"), [("2%", "74%", "drone"), ("2%", "74.5%", "edge"), (None, "1%", "edge")]
)
def test_hard_accuracy__excludes_the_analogue_unit_that_might_violate_it(
    tolerance: str | None, floor: str, want: str
) -> None:
    assert [p.node for p in _chosen(_analog_and_digital(tolerance, _floor(floor))).partitions] == [want]


@pytest.mark.parametrize(
    ("tolerance", "code", "words"),
    [
        ("2%", "AccuracyToleranceTooWide", "may lose 2% of accuracy, the margin above the floor is 0%"),
        (None, "AccuracyToleranceUnknown", "without a declared accuracy tolerance"),
    ],
)
def test_excluded_analogue_unit__is_reported_with_the_reason(tolerance: str | None, code: str, words: str) -> None:
    world = snapshot(
        profiles={"drone": _analog(tolerance)},
        missions=[_floor("76%")],
        net=model(variant("v", BLOCKS, accuracy="76%")),
    )
    blocker = _infeasible(world).blockers[0]
    assert blocker.code == code
    assert words in blocker.message


def test_planned_accuracy__is_reduced_by_the_tolerance_and_has_the_weaker_basis() -> None:
    accuracy = _chosen(_analog_and_digital("2%", _floor("70%"))).accuracy
    assert accuracy is not None
    assert (accuracy.value, accuracy.basis) == (pytest.approx(0.74), "Claimed")


@pytest.mark.parametrize(("weights", "want"), [((100, 1, 0), "edge"), ((1, 100, 0), "drone")])
def test_soft_accuracy__weighs_the_tolerance_against_speed(weights: tuple[int, int, int], want: str) -> None:
    preference = {"weights": dict(zip(("accuracy", "latency", "energy"), weights, strict=True))}
    world = _analog_and_digital("2%", _floor("70%", "Soft", preference=preference))
    assert [p.node for p in _chosen(world).partitions] == [want]


def test_unknown_tolerance__makes_a_soft_accuracy_unknown() -> None:
    world = snapshot(
        profiles={"drone": _analog(None)},
        missions=[_floor("70%", "Soft")],
        net=model(variant("v", BLOCKS, accuracy="76%")),
    )
    assert _chosen(world).accuracy is None


def _coded(floor: str, tolerance: str) -> Snapshot:
    """Return a slow drone that keeps the input, and a fast unit over a slow link; the codec loses one point."""
    side = {"uri": f"oci://r/c@{OTHER}", "digest": OTHER, "format": "onnx", "size": "1Ki"}
    shape = {"size": "400", "tensors": [{"name": "code", "datatype": "FP32", "shape": [1, 100]}]}
    figure = {"metric": "top-1", "dataset": "d", "value": "75%", "basis": "Measured"}
    codec = {"name": "c", "encoder": side, "decoder": side, "encode": "0MOP", "decode": "0MOP", "accuracy": [figure]}
    head, tail = block("head", mop=10, cut=100_000), block("tail", mop=1000, cut=None)
    head["cut"]["codecs"] = [codec | shape]
    return snapshot(
        profiles={"drone": profile("slow", gops=2), "edge": _analog(tolerance)},
        missions=[_floor(floor, egress={"input": "Device", "features": "Any"})],
        net=model(variant("v", [head, tail], accuracy="76%")),
        links=[link("drone", "edge", "10Mbit/s")],
    )


def test_codec_and_analogue_unit__together_keep_the_floor() -> None:
    """Either loss alone keeps the floor, both together do not."""
    assert _chosen(_coded("74%", "1%")).accuracy == Estimate(
        pytest.approx(0.74), 0.0, Basis.CLAIMED, "Model, variant v, less the tolerance of an analogue unit"
    )
    assert _chosen(_coded("74.5%", "0%")).partitions[-1].codec is not None
    blocker = _infeasible(_coded("74.5%", "1%")).blockers[0]
    assert blocker.code == "AccuracyTooHigh"
    assert "accuracy 74% is below the floor 74.5%" in blocker.message


_THREE = [block(name, mop=100, cut=100 if name != "c" else None) for name in "abc"]


def _written(**writing: str) -> DeviceProfile:
    """Return an analogue unit with a tenth of the power of the others; 3 MiB of weights are written into it."""
    rows = [writing | {"basis": "Claimed"}] if writing else []
    return _with(profile("analog", gops=10, watts="200mW"), features=["Analog"], weightWriting=rows)


def _updated(profile_: DeviceProfile, every: str | None, *, rate: str = "1/m", hard: bool = False) -> Snapshot:
    energy = {"perInference": "1J", "enforcement": "Hard" if hard else "Soft"}
    wanted = mission(model={"name": "net", "updatedEvery": every}, objectives={"energy": energy}, demand={"rate": rate})
    return snapshot(profiles={"drone": profile_}, missions=[wanted], net=model(variant("v", _THREE)))


def test_updated_model__pays_its_share_of_writing_the_weights_with_each_inference() -> None:
    once, weekly = (_chosen(_updated(_written(energyPerByte="10uJ"), every)) for every in (None, "168h"))
    written = sum(parse(BYTES, each["parameters"]) for each in _THREE) * 10e-6
    assert weekly.energy.value - once.energy.value == pytest.approx(written / (7 * 24 * 60))
    assert "weights written every 168h" in weekly.partitions[0].energy.source
    assert weekly.objective < once.objective


def test_split_over_analogue_and_digital__pays_for_the_weights_of_the_analogue_part_only() -> None:
    world = _updated(_written(energyPerByte="10uJ"), "1h")
    world = replace(world, profiles=world.profiles | {"digital": profile("digital", memory="2Mi")})
    device_ = world.devices["drone"]
    declared = [*device_.spec.declared, device_.spec.declared[0].model_copy(update={"name": "b", "profile": "digital"})]
    world = replace(
        world,
        devices={"drone": device_.model_copy(update={"spec": device_.spec.model_copy(update={"declared": declared})})},
    )
    taken = _chosen(world)
    assert len({part.unit for part in taken.partitions}) > 1
    for part in taken.partitions:
        watts = 0.2 if part.unit == "acc/npu" else 2.0
        written = sum(parse(BYTES, each["parameters"]) for each in _THREE[part.first : part.last + 1]) * 10e-6 / 60
        owed = written if part.unit == "acc/npu" else 0.0
        assert part.energy.value == pytest.approx(watts * part.compute.value + owed)


def test_unknown_write_energy__makes_the_energy_unknown_for_updated_models_only() -> None:
    assert _chosen(_updated(_written(), None, hard=True)).energy.basis is not Basis.UNKNOWN
    assert _chosen(_updated(_written(throughput="1MB/s"), "168h")).energy.basis is Basis.UNKNOWN
    assert _infeasible(_updated(_written(throughput="1MB/s"), "168h", hard=True)).blockers[0].code == "EnergyTooTight"


def test_move_to_an_analogue_unit__includes_the_time_to_write_its_weights() -> None:
    slow, quick = (_chosen(_updated(_written(throughput=speed), None)).switching for speed in ("1MB/s", "10MB/s"))
    assert slow is not None
    assert quick is not None
    memory = sum(parse(BYTES, each["parameters"]) for each in _THREE) + 2**20
    assert slow.time.value - quick.time.value == pytest.approx(memory / 1e6 - memory / 10e6)


@settings(max_examples=60, deadline=None)
@given(
    gops=st.lists(st.integers(1, 30), min_size=4, max_size=4),
    memory_mib=st.lists(st.sampled_from([3, 5, 20]), min_size=4, max_size=4),
    misses=st.lists(st.sampled_from([0, 1, 4]), min_size=4, max_size=4),
    weights=st.tuples(st.integers(0, 5), st.integers(1, 5)),
)
def test_plan_over_analogue_units__is_no_worse_than_without_some_of_them(
    gops: list[int], memory_mib: list[int], misses: list[int], weights: tuple[int, int]
) -> None:
    names = ("drone", "east", "north", "south")
    profiles = {
        name: _with(
            profile(f"p-{name}", gops=gops[i], memory=f"{memory_mib[i]}Mi"),
            accuracyTolerance=[{"value": f"{misses[i]}%", "basis": "Claimed"}],
        )
        for i, name in enumerate(names)
    }
    chain = [block(name, mop=100, cut=100 if name != "c" else None) for name in "abc"]
    preference = {"weights": {"accuracy": weights[0], "latency": weights[1], "energy": 0}}
    world = snapshot(
        profiles=profiles,
        missions=[_floor("70%", "Soft", preference=preference)],
        net=model(variant("v", chain, accuracy="76%"), inputs=100),
        links=[link(a, b, "1Gbit/s") for a in names for b in names if a < b],
    )
    verdict = plan(world, "default/watch")
    best = verdict.plan.objective if isinstance(verdict, Feasible) else -1e9
    for widest in (0, 1):
        kept = {n: d for n, d in world.devices.items() if misses[names.index(n)] <= widest}
        less = plan(replace(world, devices=kept), "default/watch")
        assert not isinstance(less, Feasible) or less.plan.objective <= best + 1e-7


# ------------------------------------------------------------------------------------------------ sparsity


def _peaks(*rows: tuple[str, str], efficiency: tuple[tuple[str, str], ...] = ()) -> UnitFacts:
    peaks = [{"precision": "int8", "sparsity": s, "rate": rate, "basis": "Claimed"} for s, rate in rows]
    shares = [{"precision": "int8", "sparsity": s, "value": share, "basis": "Claimed"} for s, share in efficiency]
    made = _with(profile("npu"), peak=peaks, efficiency=shares)
    return list_units(snapshot(profiles={"drone": made}, missions=[], net=NET))[0]


def _sparse(sparsity: str) -> Variant:
    return Variant.model_validate(variant("v", BLOCKS, precision="int8") | {"sparsity": sparsity})


@pytest.mark.parametrize(
    ("sparsity", "rate"),
    [("Dense", 100e9), ("2:4", 160e9), ("Unstructured", 100e9)],
)
def test_sparse_peak__counts_for_variants_of_that_sparsity_only(sparsity: str, rate: float) -> None:
    unit = _peaks(("2:4", "200GOPS"), ("Dense", "100GOPS"), efficiency=(("Dense", "100%"), ("2:4", "80%")))
    speed = unit.speed(_sparse(sparsity))
    assert speed is not None
    assert speed.value == pytest.approx(rate)


def test_unit_with_only_a_sparse_peak__runs_no_dense_variant() -> None:
    unit = _peaks(("2:4", "200GOPS"))
    assert find_incompatibility(_sparse("2:4"), unit) is None
    assert find_incompatibility(_sparse("Dense"), unit) is not None
    assert find_incompatibility(_sparse("Unstructured"), unit) is not None


# ------------------------------------------------------------------------------------------------ memory


def test_bandwidth__is_that_of_the_memory_that_holds_the_model() -> None:
    """Not that of the on-chip memory, which is listed first and holds no model if there is other memory."""
    chip = {"kind": "OnChip", "size": "4Mi", "bandwidth": "800GB/s", "basis": "Measured"}
    own = {"kind": "Dedicated", "size": "8Gi", "basis": "Claimed"}
    quick = {"kind": "Dedicated", "bandwidth": "17GB/s", "basis": "Claimed"}
    for rows, want in (([chip], 800e9), ([chip, own], None), ([chip, own, quick], 17e9), ([quick], 17e9)):
        (unit,) = list_units(snapshot(profiles={"drone": _with(profile("npu"), memory=rows)}, missions=[], net=NET))
        assert unit.bandwidth == want


# ------------------------------------------------------------------------------------------------ power modes


def _in_mode(made: DeviceProfile, mode: str) -> UnitFacts:
    body = device("drone", made.metadata.name).to_api()
    body["status"] = {"inventory": {"host": {"profile": "none"}, "powerMode": mode}}
    world = snapshot(profiles={"drone": made}, missions=[], net=NET)
    return list_units(replace(world, devices={"drone": Device.model_validate(body)}))[0]


def test_power_mode__selects_the_figures_of_that_mode() -> None:
    """A figure of the active mode takes precedence over one of any mode, even with a weaker basis."""
    made = _with(
        profile("board"),
        peak=[
            {"precision": "int8", "rate": "40TOPS", "basis": "Datasheet"},
            {"precision": "int8", "rate": "67TOPS", "powerMode": "super", "basis": "Claimed"},
        ],
        memory=[
            {"kind": "Shared", "size": "8Gi", "basis": "Claimed"},
            {"kind": "Shared", "bandwidth": "68GB/s", "basis": "Claimed"},
            {"kind": "Shared", "bandwidth": "102GB/s", "powerMode": "super", "basis": "Claimed"},
        ],
        power=[
            {"state": "Typical", "value": "15W", "basis": "Claimed"},
            {"state": "Typical", "value": "25W", "powerMode": "super", "basis": "Claimed"},
        ],
    )
    for mode, rate, bandwidth, watts in (("default", 40e12, 68e9, 15.0), ("super", 67e12, 102e9, 25.0)):
        unit = _in_mode(made, mode)
        speed = unit.speed(Variant.model_validate(variant("v", BLOCKS, precision="int8")))
        assert speed is not None
        assert (speed.value, unit.bandwidth, unit.power("Typical")) == (rate, bandwidth, watts)
        assert unit.memory == 8 * 1024**3


# ------------------------------------------------------------------------------------------------ preferences


def _twins(**changes: dict[str, Any]) -> dict[str, DeviceProfile]:
    """Return profiles that are equal in every figure, with changes to each."""
    return {
        name: _with(
            profile(f"p-{name}"), spec=changes.get(name, {}).get("spec"), **changes.get(name, {}).get("unit", {})
        )
        for name in ("drone", "north", "south")
    }


def _remote(preference: dict[str, Any], **changes: dict[str, Any]) -> Snapshot:
    links = [link("drone", name, "1Gbit/s") for name in ("north", "south")]
    wanted = mission(preference=preference, modes=["Remote"])
    return snapshot(profiles=_twins(**changes), missions=[wanted], net=NET, links=links)


@pytest.mark.parametrize(
    ("preference", "south"),
    [
        ({"features": ["ISP"]}, {"unit": {"features": ["ISP"]}}),
        ({"targets": ["camera"]}, {"spec": {"targets": ["camera"]}}),
        ({"cheaper": True}, {"spec": {"price": [{"value": "70USD", "basis": "Claimed"}]}}),
    ],
)
def test_preferred_hardware__is_chosen_among_equal_units(preference: dict[str, Any], south: dict[str, Any]) -> None:
    assert _chosen(_remote({}, south=south)).partitions[0].node == "north"  # by name
    assert _chosen(_remote(preference, south=south)).partitions[0].node == "south"


def test_cheaper_hardware__is_chosen_only_if_requested() -> None:
    prices = {
        "north": {"spec": {"price": [{"value": "99USD", "basis": "Claimed"}]}},
        "south": {"spec": {"price": [{"value": "70USD", "basis": "Claimed"}]}},
    }
    assert _chosen(_remote({}, **prices)).partitions[0].node == "north"
    assert _chosen(_remote({"cheaper": True}, **prices)).partitions[0].node == "south"


@settings(max_examples=60, deadline=None)
@given(
    gops=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    offers=st.lists(st.sampled_from([(), ("ISP",), ("LLM",), ("ISP", "LLM")]), min_size=3, max_size=3),
    prices=st.lists(st.one_of(st.none(), st.integers(1, 500)), min_size=3, max_size=3),
    limit=st.integers(2, 200),
    wanted=st.fixed_dictionaries(
        {
            "features": st.lists(st.sampled_from(["ISP", "LLM", "none has it"]), max_size=2),
            "targets": st.lists(st.sampled_from(["camera", "robot"]), max_size=2),
            "cheaper": st.booleans(),
        }
    ),
)
def test_hardware_preference__changes_neither_feasibility_nor_objective(
    gops: list[int], offers: list[tuple[str, ...]], prices: list[int | None], limit: int, wanted: dict[str, Any]
) -> None:
    names = ("drone", "north", "south")
    profiles = {
        name: _with(
            profile(f"p-{name}", gops=gops[i]),
            spec={
                "price": [{"value": f"{prices[i]}USD", "basis": "Claimed"}] if prices[i] else [],
                "targets": ["robot"],
            },
            features=list(offers[i]),
        )
        for i, name in enumerate(names)
    }
    links = [link("drone", name, "1Gbit/s") for name in names[1:]]
    found = []
    for preference in ({}, wanted):
        requested = mission(preference=preference, objectives={"latency": {"atMost": f"{limit}ms"}})
        found.append(plan(snapshot(profiles=profiles, missions=[requested], net=NET, links=links), "default/watch"))
    without, with_it = found
    assert type(without) is type(with_it)
    if isinstance(without, Feasible):
        assert isinstance(with_it, Feasible)
        assert with_it.plan.objective == pytest.approx(without.plan.objective, abs=1e-8)


# ------------------------------------------------------------------------------------------------ unknown power


@settings(max_examples=80, deadline=None)
@given(
    quick=st.integers(10, 1000),
    milliwatts=st.integers(1, 10_000),
    limit=st.integers(15, 500),
    allowed=st.integers(1, 1000),
    preset=st.sampled_from(["energy-first", "balanced"]),
)
def test_unknown_power__never_ranks_above_a_known_figure_inside_a_soft_limit(
    quick: int, milliwatts: int, limit: int, allowed: int, preset: str
) -> None:
    """However fast the unit of unknown power is, and however close to its limit the known one comes."""
    energy = {"perInference": f"{allowed}mJ", "enforcement": "Soft"}
    objectives = {"energy": energy, "latency": {"atMost": f"{limit}ms"}}
    world = snapshot(
        profiles={
            "drone": profile("silent", gops=quick, watts=None),
            "edge": profile("known", gops=10, watts=f"{milliwatts}mW"),
        },
        missions=[mission(objectives=objectives, preference={"preset": preset})],
        net=NET,
        links=[link("drone", "edge", "1Gbit/s")],
    )
    chosen = _chosen(world)
    known = _chosen(replace(world, devices={"edge": world.devices["edge"]})) if _serves(world, "edge") else None
    if known is not None and known.energy.value <= allowed / 1000:
        assert chosen.energy.basis != "Unknown"


def _serves(world: Snapshot, node: str) -> bool:
    alone = replace(world, devices={node: world.devices[node]})
    return isinstance(plan(alone, "default/watch"), Feasible)


# ------------------------------------------------------------------------------------------------ the catalogue


def _catalogued(*names: str) -> Snapshot:
    """Return a snapshot with one node for each of these products of the catalogue; `drone` is the first."""
    profiles = load([CATALOGUE]).of(DeviceProfile)
    nodes = ("drone", *(f"n{i}" for i in range(1, len(names))))
    world = snapshot(profiles={}, missions=[], net=NET, links=[link(nodes[0], node, "1Gbit/s") for node in nodes[1:]])
    return replace(
        world,
        nodes={n: NodeFacts(n, "site", "Device", ready=True, schedulable=True) for n in nodes},  # type: ignore[arg-type]
        profiles=profiles,
        devices={node: device(node, name) for node, name in zip(nodes, names, strict=True)},
    )


def _hef(precision: str, features: list[str]) -> Model:
    body = variant("slm", BLOCKS, precision=precision)
    body["artifacts"][0] |= {"format": "hef"}
    body["requires"] = {"runtime": "hailort", "features": features}
    return Model.model_validate(model(body).to_api() | {"metadata": meta("net", "default")})


def test_small_language_model__is_placed_on_hailo_10h_and_not_on_hailo_8() -> None:
    world = replace(_catalogued("hailo-8", "hailo-10h"), models={"default/net": _hef("int8", ["LLM"])})
    world = replace(world, missions={"default/watch": mission()})
    verdict = plan(world, "default/watch")
    assert isinstance(verdict, Feasible)
    assert [p.node for p in verdict.plan.partitions] == ["n1"]
    assert [(r.candidate, r.code) for r in verdict.rejected if r.code == "FeatureMissing"] == [
        ("hailo-8 npu", "FeatureMissing")
    ]


@pytest.mark.parametrize(
    ("name", "runtime", "format_", "code"),
    [
        ("hailo-10h", "hailort", "hef", None),
        ("hailo-8", "hailort", "hef", "PrecisionUnsupported"),
        ("kneron-kl730", "kneron-plus", "nef", None),
        ("kneron-kl720", "kneron-plus", "nef", "PrecisionUnsupported"),
    ],
)
def test_int4__runs_only_where_int4_is_declared(name: str, runtime: str, format_: str, code: str | None) -> None:
    body = variant("v", BLOCKS, precision="int4") | {"requires": {"runtime": runtime}}
    body["artifacts"][0] |= {"format": format_, "digest": DIGEST}
    (unit,) = list_units(_catalogued(name))
    mismatch = find_incompatibility(Variant.model_validate(body), unit)
    assert (mismatch.code if mismatch else None) == code


def test_plan__names_the_catalogue_figures_that_it_uses() -> None:
    world = replace(_catalogued("hailo-8"), models={"default/net": _hef("int8", [])})
    chosen = _chosen(replace(world, missions={"default/watch": mission()}))
    assert chosen.latency.source == "roofline on hailo-8: 26TOPS Claimed"
    assert chosen.energy.source == "2.5W Claimed of hailo-8 x time"
