"""Time, energy and memory of spans, and of transfers: values that can be computed by hand."""

from dataclasses import replace
from math import isnan
from typing import Any

import pytest

from maleo_api.device import DeviceProfile
from maleo_api.meta import Basis
from maleo_api.model import ModelProfile
from maleo_planner.cost_model.span_cost import (
    BlockArrays,
    SpanCosts,
    SpanEstimate,
    cost_spans,
    declared_bandwidth,
    make_link_facts,
)
from maleo_planner.cost_model.units import list_units
from maleo_planner.types.problem import Estimate, Observations
from maleo_planner.types.variants import list_runnable_variants
from support.planner.builders import DIGEST, block, link, meta, mission, model, profile, snapshot, variant, vary

NET = model(variant("fp32", [block("a", mop=50, cut=1000), block("b", mop=150, cut=None)]))
SLOW = Estimate(2.0, 0.2, Basis.CALIBRATED, "slots")


def costs(hardware: DeviceProfile, *spans: dict[str, Any], correction: Estimate | None = None, capacity: float = 1.0) -> SpanCosts | None:  # fmt: skip  # noqa: E501
    """Return the costs on this hardware. spans: measured ones, of a ModelProfile."""
    found = snapshot(profiles={"drone": hardware}, missions=[mission()], net=NET)
    found = replace(found, observations=Observations(capacity={("drone", "acc/npu"): capacity}))
    if spans:
        kind = {"profile": "p", "unit": "npu", "runtime": "onnxruntime", "variantDigest": DIGEST}
        measured = ModelProfile.model_validate({"metadata": meta("m"), "spec": kind | {"spans": list(spans)}})
        found = replace(found, model_profiles={"m": measured})
    (unit,), runnable = list_units(found), list_runnable_variants(NET)[0]
    return cost_spans(found, runnable, BlockArrays.from_variant(runnable), unit, correction)


def span(
    first: str, last: str, p50: str, p95: str, energy: str | None = None, basis: str = "Measured"
) -> dict[str, Any]:
    return {
        "blocks": [first, last],
        "latency": {"p50": p50, "p95": p95},
        "energy": energy,
        "basis": basis,
        "samples": 100,
    }


def estimate(made: SpanCosts | None, first: int, last: int) -> SpanEstimate:
    assert made is not None
    return made.estimate(first, last)


PLAIN = profile("p", gops=10)
HALF = {"precision": "fp32", "value": "50%", "basis": "Measured"}
ROWS: list[tuple[str, SpanCosts | None, tuple[int, int], float]] = [
    ("operations at the peak", costs(PLAIN), (0, 0), 0.005),
    ("the sum over the blocks", costs(PLAIN), (0, 1), 0.020),
    (
        "bytes at the memory bandwidth, where they take longer",
        costs(profile("p", reads="100MB/s")),
        (0, 0),
        2 * 2**20 / 1e8,
    ),
    ("one launch for each span", costs(profile("p", overhead="1ms")), (0, 1), 0.021),
    ("a share of the peak", costs(vary(PLAIN, efficiency=[HALF])), (0, 0), 0.010),
    ("30% of the peak, where the efficiency is unknown", costs(vary(PLAIN, efficiency=[])), (0, 0), 0.005 / 0.3),
    ("a throttled unit", costs(PLAIN, capacity=0.5), (0, 0), 0.010),
    ("an online correction", costs(PLAIN, correction=SLOW), (0, 0), 0.010),
    ("both", costs(PLAIN, correction=SLOW, capacity=0.5), (0, 0), 0.020),
    ("a measured span replaces the model", costs(PLAIN, span("a", "a", "7ms", "7ms")), (0, 0), 0.007),
    ("spans without a measurement keep the model", costs(PLAIN, span("a", "a", "7ms", "7ms")), (1, 1), 0.015),
    ("a measured whole model scales its spans", costs(PLAIN, span("a", "b", "40ms", "40ms")), (0, 0), 0.010),
    (
        "a measured whole model is distributed by operations, where no peak is declared",
        costs(vary(PLAIN, peak=[]), span("a", "b", "40ms", "40ms")),
        (0, 0),
        0.010,
    ),
]


@pytest.mark.parametrize(("case", "made", "place", "seconds"), ROWS, ids=[row[0] for row in ROWS])
def test_span__has_time(case: str, made: SpanCosts | None, place: tuple[int, int], seconds: float) -> None:
    assert estimate(made, *place).mean == pytest.approx(seconds, rel=1e-12), case


def test_span_without_peak_and_measurement__is_impossible() -> None:
    assert costs(vary(PLAIN, peak=[])) is None
    only = costs(vary(PLAIN, peak=[]), span("a", "a", "7ms", "7ms"))
    assert estimate(only, 0, 0).mean == 0.007
    assert estimate(only, 1, 1).mean == float("inf")


@pytest.mark.parametrize(
    ("case", "made", "basis"),
    [
        ("a roofline", costs(PLAIN), Basis.MODELLED),
        ("scaled to a measured whole model", costs(PLAIN, span("a", "b", "40ms", "44ms")), Basis.CALIBRATED),
        (
            "scaled to a simulated whole model",
            costs(PLAIN, span("a", "b", "40ms", "44ms", basis="Simulated")),
            Basis.SIMULATED,
        ),
        ("corrected online", costs(PLAIN, correction=SLOW), Basis.CALIBRATED),
    ],
)
def test_span__has_the_basis_of_its_evidence(case: str, made: SpanCosts | None, basis: Basis) -> None:
    assert estimate(made, 0, 0).basis is basis, case


def test_spread__is_that_of_observed_requests_where_known() -> None:
    assert estimate(costs(PLAIN), 0, 0).sigma == pytest.approx(0.05 * 0.005)
    assert estimate(costs(PLAIN, correction=SLOW), 0, 0).sigma == pytest.approx(0.1 * 0.010)


def test_mean_of_a_measured_span__lies_between_its_percentiles() -> None:
    """Times have a long tail: the mean is above the median, and mean plus 1.645 deviations is the p95."""
    found = estimate(costs(PLAIN, span("a", "a", "10ms", "16ms")), 0, 0)
    assert 0.010 < found.mean < 0.016
    assert found.mean + 1.645 * found.sigma == pytest.approx(0.016)


@pytest.mark.parametrize(
    ("case", "made", "joules"),
    [
        ("power by time", costs(profile("p", watts="2W")), 0.010),
        ("measured energy", costs(PLAIN, span("a", "a", "7ms", "7ms", energy="3mJ")), 0.003),
        ("unknown power", costs(profile("p", watts=None)), None),
    ],
)
def test_span__has_energy(case: str, made: SpanCosts | None, joules: float | None) -> None:
    energy = estimate(made, 0, 0).energy
    assert (None if isnan(energy) else energy) == (joules if joules is None else pytest.approx(joules)), case


def test_span_memory__is_the_sum_of_weights_and_the_maximum_activations() -> None:
    blocks = BlockArrays.from_variant(list_runnable_variants(model(variant("fp32", [block("a", mop=1, cut=1, parameters="3Mi"), block("b", mop=1, cut=None)])))[0])  # fmt: skip  # noqa: E501
    assert blocks.memory[0, 1] == (3 + 1 + 1) * 2**20
    assert blocks.memory[1, 1] == 2 * 2**20


# ------------------------------------------------------------------------------------------------ links

ONE_RATE = link("a", "b", "80Mbit/s", "3ms", energyPerByte="20nJ")
RATES = {"bandwidth": None, "up": "8Mbit/s", "down": "80Mbit/s"}
TWO_RATES = ONE_RATE.model_validate(ONE_RATE.to_api() | {"spec": ONE_RATE.spec.to_api() | RATES})
MEASURED = Estimate(2e6, 1e5, Basis.MEASURED, "slots")


def test_transfer__takes_bytes_in_both_directions_and_a_round_trip() -> None:
    facts = make_link_facts("a-b", ONE_RATE, None, None, forward=True)
    time = facts.transfer_time(90_000, 10_000)
    assert time.value == pytest.approx(0.010 + 0.003 + 0.001)  # and the overhead of a message
    assert time.sigma == pytest.approx(0.15 * 0.010)
    assert facts.transfer_energy(90_000, 10_000) == pytest.approx(0.002)


@pytest.mark.parametrize(("forward", "rate", "seconds"), [(True, 1e6, 0.090 + 0.001), (False, 1e7, 0.009 + 0.010)])
def test_answer__takes_the_opposite_direction(forward: bool, rate: float, seconds: float) -> None:
    facts = make_link_facts("a-b", TWO_RATES, None, None, forward=forward)
    assert declared_bandwidth(TWO_RATES, forward=forward) == facts.bandwidth.value == rate
    assert facts.transfer_time(90_000, 10_000).value == pytest.approx(seconds + facts.fixed_seconds)


@pytest.mark.parametrize(
    ("case", "of", "measured", "measured_reverse", "want"),
    [
        ("nothing is measured", ONE_RATE, None, None, (1e7, 1e7)),
        ("one value for both directions, as the Link declares", ONE_RATE, MEASURED, None, (2e6, 2e6)),
        ("a Link of two rates keeps the declared reverse one", TWO_RATES, MEASURED, None, (2e6, 1e7)),
        ("both directions are measured", TWO_RATES, MEASURED, replace(MEASURED, value=5e6), (2e6, 5e6)),
    ],
)
def test_measured_bandwidth__replaces_the_declared_one(
    case: str, of: Any, measured: Estimate | None, measured_reverse: Estimate | None, want: tuple[float, float]
) -> None:
    facts = make_link_facts("a-b", of, measured, measured_reverse, forward=True)
    assert (facts.bandwidth.value, facts.reverse_bandwidth) == want, case
