"""Estimates of a plan, its transfers, its fallback and its entry, in snapshots that can be computed by hand."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.meta import Basis
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Plan, Snapshot
from support.planner.builders import (
    KEY,
    block,
    codec,
    exit_head,
    link,
    mission,
    model,
    profile,
    snapshot,
    variant,
)

CHAIN = [block("a", mop=50, cut=12_500), block("b", mop=150, cut=None)]
NET = model(variant("fp32", CHAIN, accuracy="76%"), inputs=1000)
FAST = link("drone", "edge", "800Mbit/s", "3ms", energyPerByte="20nJ")
SPLIT: dict[str, Any] = {"modes": ["Split"], "objectives": {"latency": {"atMost": "1s"}}}


def world(*, net: Any = NET, links: Any = (FAST,), drone: Any = None, edge: Any = None, **spec: Any) -> Snapshot:
    """Return drone (10 GOPS, 2 W) and edge (100 GOPS, 10 W); 50 MOP before the cut of 50 kB, 150 MOP after it."""
    profiles = {"drone": drone or profile("p-drone", gops=10, watts="2W"), "edge": edge or profile("p-edge", gops=100, watts="10W")}  # fmt: skip  # noqa: E501
    return snapshot(profiles=profiles, missions=[mission(**spec)], net=net, links=list(links))


def chosen(found: Snapshot) -> Plan:
    verdict = plan(found, KEY)
    assert isinstance(verdict, Feasible), verdict
    return verdict.plan


def test_latency_of_a_split__adds_up_compute_transfer_and_round_trip() -> None:
    made = chosen(world(**SPLIT))
    here, there = made.partitions
    assert (here.first, here.last, there.first, there.last) == (0, 0, 1, 1)
    assert [here.compute.value, there.compute.value] == pytest.approx([0.005, 0.0015])
    (hop,) = made.transfers
    assert (hop.source, hop.target, hop.size, hop.link) == ("drone", "edge", 50_000, "drone-edge")
    assert hop.wire == pytest.approx((50_000 + 40) / 1e8)  # the response has ten FP32 values
    assert hop.time.value == pytest.approx(hop.wire + 0.003 + 0.001)
    assert made.latency_mean.value == pytest.approx(0.005 + 0.0015 + hop.time.value)


def test_tail_latency__is_the_sum_of_those_of_all_steps() -> None:
    """Each step is taken at the percentile, which gives an upper bound."""
    made = chosen(world(modes=["Split"], objectives={"latency": {"atMost": "1s", "percentile": 95}}))
    steps = [*(part.compute for part in made.partitions), *(hop.time for hop in made.transfers)]
    assert made.latency.value == pytest.approx(sum(step.value + 1.6448536 * step.sigma for step in steps))


def test_energy__is_that_of_units_and_links() -> None:
    made = chosen(world(**SPLIT))
    assert made.energy.value == pytest.approx(0.005 * 2 + 0.0015 * 10 + 50_040 * 20e-9)
    assert made.energy.basis is Basis.MODELLED


@pytest.mark.parametrize("of", ["drone", "edge"])
def test_energy__is_unknown_if_that_of_a_partition_is(of: str) -> None:
    hardware = {of: profile(f"p-{of}", watts=None)}
    assert chosen(world(**SPLIT, **hardware)).energy.basis is Basis.UNKNOWN


@pytest.mark.parametrize(
    ("case", "found", "seconds"),
    [
        ("the unit", world(**SPLIT), 0.005),
        ("the link", world(**SPLIT, links=[link("drone", "edge", "8Mbit/s")]), 50_040 / 1e6),
    ],
)
def test_rate__is_that_of_the_slowest_step(case: str, found: Snapshot, seconds: float) -> None:
    assert chosen(found).rate.value == pytest.approx(1 / seconds), case


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ({"latency": {"atMost": "40ms"}}, {"latency"}),
        ({"latency": {"atMost": "40ms"}, "energy": {"perInference": "1J"}}, {"latency", "energy"}),
        ({"accuracy": {"metric": "top-1", "dataset": "d", "atLeast": "75%"}}, {"accuracy"}),
        ({"accuracy": {"metric": "mAP", "dataset": "d", "atLeast": "75%", "enforcement": "Soft"}}, set()),
    ],
)
def test_margins__are_of_the_objectives_with_known_values(objectives: dict[str, Any], expected: set[str]) -> None:
    made = chosen(world(modes=["Local"], objectives=objectives))
    assert set(made.margins) == expected
    if "latency" in expected:
        assert made.margins["latency"] == pytest.approx((0.040 - made.latency.value) / 0.040)
    if "accuracy" in expected:
        assert made.margins["accuracy"] == pytest.approx(0.01 / 0.25)


# ------------------------------------------------------------------------------------------------ entry and fallback

SMALL = variant("tiny", [block("a", mop=1, cut=None)], accuracy="50%")
FLOOR = {"latency": {"atMost": "1s"}, "accuracy": {"metric": "top-1", "dataset": "d", "atLeast": "70%"}}


def test_local_plan__needs_no_fallback() -> None:
    made = chosen(world(modes=["Local"]))
    assert (made.entry_unit, made.fallback) == ("acc/npu", None)


def test_split_plan__falls_back_to_the_whole_model_at_its_entry() -> None:
    made = chosen(world(**SPLIT))
    assert made.fallback is not None
    assert made.entry_unit == "acc/npu"
    assert (made.fallback.variant, made.fallback.partition.node) == ("fp32", "drone")
    assert (made.fallback.partition.first, made.fallback.partition.last) == (0, 1)


@pytest.mark.parametrize(
    ("case", "objectives", "expected"),
    [
        ("the fastest variant", {"latency": {"atMost": "1s"}}, "tiny"),
        ("a variant that keeps the accuracy floor, if there is one", FLOOR, "fp32"),
    ],
)
def test_fallback__uses(case: str, objectives: dict[str, Any], expected: str) -> None:
    both = model(variant("fp32", CHAIN, accuracy="76%"), SMALL)
    allowed = {"name": "net", "variants": ["fp32", "tiny"]}
    made = chosen(world(net=both, model=allowed, modes=["Split", "Remote"], objectives=objectives, preference={"preset": "accuracy-first"}))  # fmt: skip  # noqa: E501
    assert made.fallback is not None
    assert made.fallback.variant == expected, case


def test_fallback__may_violate_the_floor_if_no_other_fits() -> None:
    """A partition of the plan uses the memory that the accurate variant would need."""
    both = model(variant("fp32", [block("a", mop=50, cut=12_500, parameters="6Mi"), block("b", mop=150, cut=None)], accuracy="76%"), SMALL)  # fmt: skip  # noqa: E501
    made = chosen(world(net=both, drone=profile("p-drone", memory="10Mi"), modes=["Split"], objectives=FLOOR))
    assert made.variant == "fp32"
    assert made.fallback is not None
    assert made.fallback.variant == "tiny"


def test_plan_without_free_memory_for_a_fallback__has_none() -> None:
    made = chosen(world(drone=profile("p-drone", memory="3Mi"), **SPLIT))
    assert made.fallback is None
    assert made.entry_unit == "acc/npu"


def test_remote_plan_without_a_unit_on_the_input_node__has_its_entry_on_the_cpu() -> None:
    found = world(modes=["Remote"])
    made = chosen(replace(found, devices={"edge": found.devices["edge"]}))
    assert (made.entry_unit, made.fallback) == ("host/cpu", None)


# ------------------------------------------------------------------------------------------------ codecs and exits


def _coded(accuracy: float | None) -> Any:
    chain = [block("a", mop=50, cut=12_500), block("b", mop=150, cut=None)]
    chain[0]["cut"]["codecs"] = [codec("int8", elements=3125, mop=10, accuracy=accuracy)]
    return model(variant("fp32", chain, accuracy="76%"), inputs=1000)


def test_codec__replaces_bytes_by_work_on_both_nodes() -> None:
    slow = link("drone", "edge", "8Mbit/s", "3ms", energyPerByte="20nJ")
    made = chosen(world(net=_coded(76), links=[slow], **SPLIT))
    (hop,) = made.transfers
    assert (hop.codec, hop.size) == ("int8", 12_500)
    assert hop.time.value == pytest.approx(12_540 / 1e6 + 0.004 + 0.001 + 0.0001)  # 10 MOP on each node
    assert hop.coding == pytest.approx((0.001 * 2, 0.0001 * 10))
    assert made.partitions[1].codec is not None
    assert made.partitions[0].codec is None


def test_accuracy__is_reduced_by_the_loss_of_the_codec() -> None:
    slow = link("drone", "edge", "8Mbit/s", "3ms")
    objectives = {"accuracy": {"metric": "top-1", "dataset": "d", "atLeast": "70%"}, "latency": {"atMost": "40ms"}}
    made = chosen(world(net=_coded(74.5), links=[slow], modes=["Split"], objectives=objectives))
    assert made.transfers[0].codec == "int8"
    assert made.accuracy is not None
    assert made.accuracy.value == pytest.approx(0.745)


def test_exit__takes_its_outputs_from_the_tensors_of_its_head() -> None:
    net = model(variant("fp32", CHAIN, accuracy="76%") | {"exits": [exit_head("early", after="a", mop=5, accuracy=70)]})
    made = chosen(world(net=net, modes=["Local"], objectives={"latency": {"atMost": "8ms"}}))
    assert (made.label, made.partitions[-1].taken_from) == ("fp32:early", ("e",))
    assert [tensor.name for tensor in made.partitions[-1].outputs] == ["y"]
