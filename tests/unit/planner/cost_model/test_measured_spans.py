"""Measured spans of ModelProfiles: which profile takes precedence, and the basis and source that a plan states."""

from dataclasses import replace
from itertools import permutations

import pytest

from maleo_api.model import ModelProfile
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import plan
from maleo_planner.types.problem import Estimate, Feasible, Observations, Snapshot
from support.planner.builders import DIGEST, block, meta, mission, model, profile, snapshot, variant


def _profile(
    name: str, seconds: str, *, p95: str = "", basis: str = "Measured", runtime: str = "onnxruntime"
) -> ModelProfile:
    latency = {"p50": seconds, "p95": p95 or seconds}
    span = {"blocks": ["all", "all"], "latency": latency, "samples": 10, "basis": basis}
    spec = {"variantDigest": DIGEST, "profile": "p", "unit": "npu", "runtime": runtime, "spans": [span]}
    return ModelProfile.model_validate({"metadata": meta(name, "default"), "spec": spec})


def _compute(*profiles: ModelProfile, correction: Estimate | None = None) -> Estimate:
    net = model(variant("fp32", [block("all", mop=100, cut=None)]))
    found: Snapshot = snapshot(profiles={"drone": profile("p")}, missions=[mission()], net=net)
    learnt = {(DIGEST, "drone", "acc/npu"): correction} if correction else {}
    stated = {f"default/{each.metadata.name}": each for each in profiles}
    found = replace(found, model_profiles=stated, observations=Observations(correction=learnt))
    verdict = plan(found, "default/watch")
    assert isinstance(verdict, Feasible)
    return verdict.plan.partitions[0].compute


def test_profiles_of_the_same_span__are_chosen_by_strongest_basis_then_name_in_any_order() -> None:
    stated = [_profile("c", "50ms", basis="Claimed"), _profile("a", "5ms"), _profile("b", "7ms")]
    assert {_compute(*order).value for order in permutations(stated)} == {0.005}


@pytest.mark.parametrize("basis", ["Measured", "Simulated", "Claimed", "Declared"])
def test_figure_of_a_profile__keeps_its_basis(basis: str) -> None:
    figure = _compute(_profile("a", "5ms", basis=basis))
    assert (figure.value, str(figure.basis)) == (0.005, basis)
    assert figure.source.startswith(f"{basis.lower()} span")


def test_profile_of_another_runtime__is_ignored() -> None:
    figure = _compute(_profile("a", "5ms", runtime="tflite"))
    assert str(figure.basis) == "Modelled"


@pytest.mark.parametrize("profiles", [[], [_profile("a", "20ms", p95="21ms")]])
def test_spread_reported_by_slots__replaces_the_default_and_the_profiled_one(
    profiles: list[ModelProfile],
) -> None:
    figure = _compute(*profiles, correction=Estimate(1.5, 0.3))
    assert figure.value == pytest.approx(1.5 * (0.020 if profiles else 0.010), rel=0.001)
    assert figure.sigma == pytest.approx(0.2 * figure.value)


def test_correction_without_a_spread__keeps_that_of_the_profile() -> None:
    figure = _compute(_profile("a", "20ms", p95="21.645ms"), correction=Estimate(1.5))
    assert figure.sigma / figure.value == pytest.approx(0.05, rel=0.02)


def test_long_tail__puts_the_mean_above_the_median_and_keeps_the_p95() -> None:
    figure = _compute(_profile("a", "10ms", p95="20ms"))
    assert figure.value == pytest.approx(0.01093, rel=0.001)  # log-normal: 10 ms x exp((ln 2 / 1.645)^2 / 2)
    assert figure.value + 1.645 * figure.sigma == pytest.approx(0.020)


def test_extreme_tail__has_a_mean_of_at_most_the_p95() -> None:
    figure = _compute(_profile("a", "0.05ms", p95="50ms"))
    assert (figure.value, figure.sigma) == (0.05, 0.0)


def test_span_of_a_measured_whole_model__has_the_relative_spread_of_the_whole() -> None:
    net = model(variant("fp32", [block("a", mop=50, cut=100), block("b", mop=50, cut=None)]))
    found = snapshot(profiles={"drone": profile("p")}, missions=[mission()], net=net)
    span = {"blocks": ["a", "b"], "latency": {"p50": "20ms", "p95": "40ms"}, "samples": 10, "basis": "Measured"}
    spec = {"variantDigest": DIGEST, "profile": "p", "unit": "npu", "runtime": "onnxruntime", "spans": [span]}
    stated = ModelProfile.model_validate({"metadata": meta("whole", "default"), "spec": spec})
    index = FleetIndex(replace(found, model_profiles={"default/whole": stated}))
    costs = index.costs(net, index.runnable_variants(net)[0], index.units[0])
    assert costs is not None
    half, whole = costs.estimate(0, 0), costs.estimate(0, 1)
    assert half.mean == pytest.approx(whole.mean / 2)
    assert half.sigma / half.mean == pytest.approx(whole.sigma / whole.mean) == pytest.approx(0.504, rel=0.01)
