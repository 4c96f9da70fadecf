"""What ModelProfiles say of spans: whose word counts, and that a plan tells whose it is."""

from dataclasses import replace
from itertools import permutations

import pytest
from worlds import DIGEST, block, meta, mission, model, profile, snapshot, variant

from maleo_api.model import ModelProfile
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Figure, Snapshot


def _profile(name: str, seconds: str, *, basis: str = "Measured", runtime: str = "onnxruntime") -> ModelProfile:
    span = {"blocks": ["all", "all"], "latency": {"p50": seconds, "p95": seconds}, "samples": 10, "basis": basis}
    spec = {"variantDigest": DIGEST, "profile": "p", "unit": "npu", "runtime": runtime, "spans": [span]}
    return ModelProfile.model_validate({"metadata": meta(name, "default"), "spec": spec})


def _compute(*profiles: ModelProfile) -> Figure:
    net = model(variant("fp32", [block("all", mop=100, cut=None)]))
    found: Snapshot = snapshot(profiles={"drone": profile("p")}, missions=[mission()], net=net)
    found = replace(found, model_profiles={f"default/{each.metadata.name}": each for each in profiles})
    verdict = plan(found, "default/watch")
    assert isinstance(verdict, Feasible)
    return verdict.plan.partitions[0].compute


def test_several_profiles_of_a_span__the_strongest_basis_counts_then_the_name_whatever_the_order() -> None:
    stated = [_profile("c", "50ms", basis="Claimed"), _profile("a", "5ms"), _profile("b", "7ms")]
    assert {_compute(*order).value for order in permutations(stated)} == {0.005}


@pytest.mark.parametrize("basis", ["Measured", "Simulated", "Claimed", "Declared"])
def test_figure_of_a_profile__keeps_its_basis(basis: str) -> None:
    figure = _compute(_profile("a", "5ms", basis=basis))
    assert (figure.value, str(figure.basis)) == (0.005, basis)
    assert figure.source.startswith(f"{basis.lower()} span")


def test_profile_of_another_runtime__says_nothing() -> None:
    figure = _compute(_profile("a", "5ms", runtime="tflite"))
    assert str(figure.basis) == "Modelled"
