"""Stored form of a decision: Placement, its status, and the status of the Mission, as the operator sends them.

Operators of two versions read the objects that the other wrote. To accept another format: MALEO_ACCEPT=1 pytest
tests/golden/test_placement_format.py, then read the difference.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from maleo_api.fields import fields_of
from maleo_api.meta import Basis, Schema
from maleo_api.mission import Mission, MissionStatus
from maleo_api.model import Codec, Tensor
from maleo_api.placement import Placement, PlacementSpec, PlacementStatus
from maleo_operator.reconcilers.manifests.placement import manifest
from maleo_operator.reconcilers.mission import decide
from maleo_operator.reconcilers.scope import MissionScope, Outcome, Telemetry, Window
from maleo_planner.types import measured
from maleo_planner.types.problem import Estimate, Feasible, Observations, RejectionSummary
from support.golden import check
from support.operator.builders import (
    DIGEST,
    NPU,
    artifact,
    mission,
    placement,
    plan,
    pod,
    report,
    reports,
    scope,
    snapshot,
)
from support.paths import ROOT

_FOLDER = ROOT / "tests/golden/formats/placement"
_CODEC = Codec(
    name="fp16",
    size="64Ki",
    tensors=[Tensor(name="x.fp16", datatype="FP16", shape=[-1, 8])],
    encoder=artifact("b"),
    decoder=artifact("c"),
    encode="1MOP",
    decode="1MOP",
)
_OBSERVATIONS = Observations(
    bandwidth={("drone-1", "edge-1"): Estimate(12_500_000.0, 1_250_000.0, Basis.MEASURED, "slots")},
    correction={(artifact().digest, "drone-1", NPU): Estimate(1.25, 0.125, Basis.CALIBRATED, "slots")},
    capacity={("edge-1", "host/cpu"): 0.5, ("drone-1", NPU): 1.0},
)


def _verdict() -> Feasible:
    """Return a verdict whose plan has every part that a plan can have."""
    base = plan(f"drone-1:{NPU}", "edge-1", spare=True, simulated=True)
    first, second = base.partitions
    second = replace(second, codec=_CODEC, taken_from=("head/y",), providers=("ExampleExecutionProvider",))
    (transfer,) = base.transfers
    full = replace(
        base,
        exit="early",
        partitions=(first, second),
        transfers=(replace(transfer, link="drone-edge", codec="fp16"),),
        fallback=base.fallback and replace(base.fallback, exit="early"),
    )
    rejected = RejectionSummary("Local drone-1 int8", 3, "LatencyTooTight", "-49%", "int8 on drone-1 hailo0/npu")
    return Feasible(plan=full, rejected=(rejected,), incumbent=None, bound=0.5)


def _planned() -> MissionScope:
    return scope(
        mission(),
        snapshot=replace(snapshot(), observations=_OBSERVATIONS),
        verdict=_verdict(),
        trigger="FirstPlacement",
        inputs_digest=DIGEST,
    )


@cache
def _first() -> Outcome:
    """Return the outcome of the first decision."""
    return decide(_planned())


@cache
def _committed() -> Outcome:
    """Return the outcome of a move to revision 2, whose slots are warm."""
    old, new = placement("drone-1", revision=1), placement("drone-1", "edge-1", revision=2, trigger="LatencyDrift")
    entry, second = pod("drone-1"), pod("edge-1")
    window = Window(total=100, over_limit=1, percentile_s=0.034, joules=0.05, joules_basis="Measured", rate=20.0)
    telemetry = Telemetry(
        reports=reports(report(entry, 1, 2, active=1), report(second, 2)),
        windows=(window, window),
        samples=100,
        p50_s=0.02,
        percentile_s=0.034,
        joules=0.05,
        joules_basis="Measured",
        rate=20.0,
        fresh=True,
    )
    objectives = {"latency": {"atMost": "50ms"}, "energy": {"perInference": "100mJ"}}
    objectives["accuracy"] = {"metric": "top-1", "dataset": "imagenet-1k", "atLeast": "74%"}
    first = _first().status
    assert first is not None
    status = first | {"active": {"revision": 1, "epoch": 7}}
    return decide(
        scope(
            mission(status, generation=2, objectives=objectives),
            placements=(old, new),
            pods=(entry, second),
            telemetry=telemetry,
            service_address="10.96.0.10:8080",
        )
    )


def _text(body: Any) -> str:
    return json.dumps(body, indent=1) + "\n"


def _golden(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return body


def test_placement__is_created_as_the_golden_manifest() -> None:
    check(_FOLDER / "placement.json", _text(_first().create[0]))


def test_golden_placement__is_unchanged_by_reading_and_writing() -> None:
    read = Placement.model_validate(_golden("placement"))
    assert manifest(_planned(), read) == _golden("placement")


def test_status_of_a_placement__is_written_as_the_golden_status() -> None:
    check(_FOLDER / "placement-status.json", _text(_first().placement_status["cctv-1"]))


def test_golden_status_of_a_placement__is_unchanged_by_reading_and_writing() -> None:
    golden = _golden("placement-status")
    assert PlacementStatus.model_validate(golden).to_api() == golden


def test_status_of_a_mission__is_written_as_the_golden_status() -> None:
    assert _committed().commit
    check(_FOLDER / "mission-status.json", _text(_committed().status))


def test_golden_status_of_a_mission__is_unchanged_by_reading_and_writing() -> None:
    golden = _golden("mission-status")
    assert MissionStatus.model_validate(golden).to_api() == golden


def test_golden_decision__restores_the_observations() -> None:
    decision = Mission.model_validate(mission().to_api() | {"status": _golden("mission-status")}).status.decision
    assert decision is not None
    found = measured.restore_observations([decision])
    assert {pair: (estimate.value, estimate.sigma) for pair, estimate in found.bandwidth.items()} == {
        pair: (estimate.value, estimate.sigma) for pair, estimate in _OBSERVATIONS.bandwidth.items()
    }
    assert {key: (estimate.value, estimate.sigma) for key, estimate in found.correction.items()} == {
        key: (estimate.value, estimate.sigma) for key, estimate in _OBSERVATIONS.correction.items()
    }
    assert found.capacity == {("edge-1", "host/cpu"): 0.5}  # a unit at full speed is not recorded


@pytest.mark.parametrize(
    ("name", "kind", "below"),
    [
        ("placement", PlacementSpec, "spec"),
        ("placement-status", PlacementStatus, ""),
        ("mission-status", MissionStatus, ""),
    ],
)
def test_golden_file__has_every_field(name: str, kind: type[Schema], below: str) -> None:
    """A field that is missing here could change its form unnoticed."""
    body = _golden(name)
    present = set(_list_fields(kind, body[below] if below else body))
    assert {field for field in _all_fields(kind) if field not in present} == set()


def _list_fields(kind: type[Schema], body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (model, field) of each field that `body` has."""
    for name, below in fields_of(kind).items():
        for item in body[name] if isinstance(body.get(name), list) else [body.get(name)]:
            if item is not None:
                yield kind.__name__, name
                if below.model is not None:
                    yield from _list_fields(below.model, item)


def _all_fields(kind: type[Schema]) -> set[tuple[str, str]]:
    rows = {(kind.__name__, name) for name in fields_of(kind)}
    return rows.union(*(_all_fields(below.model) for below in fields_of(kind).values() if below.model is not None))
