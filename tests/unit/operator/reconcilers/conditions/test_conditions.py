"""Status, reason and message of every condition, and which changes are not written."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from maleo_api.meta import Condition
from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_api.placement import Placement
from maleo_api.timestamps import format_timestamp, parse_timestamp
from maleo_operator.reconcilers.condition import equal_except_numbers, find_condition, make_condition, merge_conditions
from maleo_operator.reconcilers.conditions.margins import band, margin_below
from maleo_operator.reconcilers.mission import decide
from maleo_operator.reconcilers.scope import MissionScope, Telemetry, Window
from maleo_planner.types.requirements import accuracy_margin
from support.operator.builders import feasible, infeasible, mission, model, part, scope
from support.operator.simulation import World

GOOD, BAD = Window(100, 1), Window(100, 30)
OBSERVED = Telemetry(fresh=True, windows=(GOOD, GOOD), samples=100, p50_s=0.02, percentile_s=0.034)


_SHARE = "{} of 200 requests took longer than 50ms, p95 allows 5%: judged at 99% confidence"
_NOTHING = "not serving: no plan is active"


def serving(telemetry: Telemetry, **spec: Any) -> World:
    world = World(planner=lambda _: feasible("drone-1", "edge-1", spare=True))
    if spec:
        world.mission = mission(**spec)
    world.settle()
    world.telemetry = telemetry
    return world


def conditions(of: World | MissionScope) -> dict[str, tuple[str, str, str]]:
    if isinstance(of, World):
        of.turn()
        rows = of.mission.status.conditions
    else:
        rows = Mission.model_validate(of.mission.to_api() | {"status": decide(of).status}).status.conditions
    return {c.type: (c.status, c.reason, c.message) for c in rows}


@pytest.mark.parametrize(
    ("case", "telemetry", "want"),
    [
        ("silent", Telemetry(), ("Unknown", "NoTelemetry", "no telemetry from the entry slot")),
        (
            "few",
            replace(OBSERVED, windows=(Window(12, 0),), samples=12),
            ("Unknown", "TooFewSamples", "a window requires 60 samples, the last one has 12"),
        ),
        ("good", OBSERVED, ("True", "WithinLimit", _SHARE.format("1%"))),
        (
            "bad",
            replace(OBSERVED, windows=(BAD, BAD), percentile_s=0.062),
            ("False", "LimitExceeded", _SHARE.format("30%")),
        ),
    ],
)
def test_latency_met__needs_enough_evidence(case: str, telemetry: Telemetry, want: tuple[str, str, str]) -> None:
    world = serving(telemetry)
    forgotten = world.mission.status.model_copy(update={"conditions": []})
    world.mission = world.mission.model_copy(update={"status": forgotten})
    assert conditions(world)["LatencyMet"] == want, case


def test_latency_met__one_bad_window_changes_nothing() -> None:
    world = serving(OBSERVED)
    world.turn()
    world.telemetry = replace(OBSERVED, windows=(GOOD, BAD), percentile_s=0.070)
    assert conditions(world)["LatencyMet"][:2] == ("True", "WithinLimit")


@pytest.mark.parametrize(
    ("floor", "metric", "want"),
    [
        ("74%", "top-1", ("True", "DeclaredFigure", "top-1 on imagenet-1k is 75.4% (Measured), the floor is 74%")),
        ("76%", "top-1", ("False", "BelowFloor", "top-1 on imagenet-1k is 75.4% (Measured), the floor is 76%")),
        ("50%", "mAP", ("Unknown", "NoFigure", "variant int8 has no figure for mAP on imagenet-1k")),
    ],
)
def test_accuracy_met__requires_a_figure_of_the_same_metric(
    floor: str, metric: str, want: tuple[str, str, str]
) -> None:
    objectives = {"accuracy": {"metric": metric, "dataset": "imagenet-1k", "atLeast": floor}}
    assert conditions(serving(OBSERVED, objectives=objectives))["AccuracyMet"] == want


@pytest.mark.parametrize(
    ("figure", "share", "reference", "want"),
    [
        ("75.4%", "50%", "int8", ("True", "DeclaredFigure", "75.4% (Measured), the floor is 50% of int8 (37.7%)")),
        ("75.4%", "99%", "fp32", ("True", "DeclaredFigure", "75.4% (Measured), the floor is 99% of fp32 (75.24%)")),
        ("75.2%", "99%", "fp32", ("False", "BelowFloor", "75.2% (Measured), the floor is 99% of fp32 (75.24%)")),
        ("53.2%", "70%", "fp32", ("True", "DeclaredFigure", "53.2% (Measured), the floor is 70% of fp32 (53.2%)")),
    ],
)
def test_accuracy_met__compares_with_the_resolved_relative_floor(
    figure: str, share: str, reference: str, want: tuple[str, str, str]
) -> None:
    floor = {"metric": "top-1", "dataset": "imagenet-1k", "atLeast": share, "relativeTo": reference}
    world = serving(OBSERVED, objectives={"accuracy": floor})
    world.model = _with_reference(model(accuracy=figure), "76%")
    status, reason, message = conditions(world)["AccuracyMet"]
    assert (status, reason, message.removeprefix("top-1 on imagenet-1k is ")) == want


def test_accuracy_met__is_unknown_where_the_reference_has_no_figure() -> None:
    floor = {"metric": "top-1", "dataset": "imagenet-1k", "atLeast": "99%", "relativeTo": "fp32"}
    world = serving(OBSERVED, objectives={"accuracy": floor})
    message = "the reference fp32 has no figure for top-1 on imagenet-1k"
    for missing in (model(), _with_reference(model(), None)):
        world.model = missing
        assert conditions(world)["AccuracyMet"] == ("Unknown", "NoFigure", message)
        assert world.mission.status.margins is not None
        assert world.mission.status.margins.accuracy is None


def _with_reference(made: Model, accuracy: str | None) -> Model:
    """Return the model with an additional variant, fp32, of this accuracy; None: without a figure."""
    body = made.to_api()
    row = {"metric": "top-1", "dataset": "imagenet-1k", "value": accuracy, "basis": "Measured"}
    rows = [row] if accuracy is not None else []
    body["spec"]["variants"].append(body["spec"]["variants"][0] | {"name": "fp32", "accuracy": rows})
    return Model.model_validate(body)


def test_accuracy_met__uses_the_figure_of_the_exit() -> None:
    row = {"metric": "top-1", "dataset": "imagenet-1k", "value": "70%", "basis": "Measured"}
    end = {"name": "early", "after": "stem", "work": "1MOP", "parameters": "1Mi", "activations": "1Mi"}
    body = model().to_api()
    body["spec"]["variants"][0]["exits"] = [end | {"outputs": ["y"], "accuracy": [row]}]
    world = serving(OBSERVED)
    world.model = Model.model_validate(body)
    world.placements = {name: _ending(placement, "early") for name, placement in world.placements.items()}
    want = ("False", "BelowFloor", "top-1 on imagenet-1k is 70% (Measured), the floor is 74%")
    assert conditions(world)["AccuracyMet"] == want


def _ending(placement: Placement, exit_: str) -> Placement:
    return placement.model_copy(update={"spec": placement.spec.model_copy(update={"exit": exit_})})


LIMITS = {"energy": {"perInference": "350mJ", "power": "10W"}}


@pytest.mark.parametrize(
    ("case", "changes", "want"),
    [
        ("basis unknown", {"joules": 0.1}, ("Unknown", "NoReading", "no energy reading with a known basis")),
        (
            "within",
            {"joules": 0.3, "joules_basis": "Measured", "rate": 15.0},
            ("True", "WithinLimit", "one inference takes 300mJ (Measured), the limit is 350mJ and 10W"),
        ),
        (
            "power exceeded",
            {"joules": 0.3, "joules_basis": "Simulated", "rate": 40.0},
            ("False", "LimitExceeded", "one inference takes 300mJ (Simulated), the limit is 350mJ and 10W"),
        ),
    ],
)
def test_energy_met__is_unknown_without_a_known_basis(
    case: str, changes: dict[str, Any], want: tuple[str, str, str]
) -> None:
    assert conditions(serving(replace(OBSERVED, **changes), objectives=LIMITS))["EnergyMet"] == want, case


def test_objectives__are_unknown_before_a_revision_serves() -> None:
    found = conditions(replace(scope(mission()), verdict=infeasible(), trigger="FirstPlacement"))
    assert found["LatencyMet"] == ("Unknown", "NotServing", "no revision is serving yet")
    assert found["Placed"][:2] == ("False", "LatencyTooTight")
    assert found["Ready"] == ("False", "LatencyTooTight", _NOTHING)


def test_ready__is_true_once_the_entry_reports_that_it_serves() -> None:
    world = World(planner=lambda _: feasible("drone-1"))
    for step in itertools.cycle((world.start, world.load, world.turn)):
        step()
        if world.mission.status.active is not None:
            break
    starting = "revision 1 starts: the entry slot on drone-1 does not serve it yet"
    assert conditions(world)["Ready"] == ("False", "Starting", starting)
    assert conditions(world)["Degraded"][:2] == ("False", "NotServing")
    world.load()
    assert conditions(world)["Ready"][:2] == ("True", "Serving")


def test_ready__is_kept_while_the_entry_reports_nothing() -> None:
    world = serving(OBSERVED)
    silent = replace(world.scope(), telemetry=replace(OBSERVED, reports={}))
    assert conditions(silent)["Ready"][:2] == ("True", "Serving")


def test_ready__is_false_after_a_restart_of_the_entry() -> None:
    world = serving(OBSERVED)
    for slot in world.slots.values():
        slot.loaded.clear()
        slot.active = None
    assert conditions(world)["Ready"][:2] == ("False", "Starting")
    world.settle()
    assert conditions(world)["Ready"][:2] == ("True", "Serving")


@pytest.mark.parametrize("code", ["ModelMissing", "NoInput", "AmbiguousInput"])
def test_infeasible_mission__reports_the_first_blocker(code: str) -> None:
    found = conditions(replace(scope(mission(), model=None), verdict=infeasible(code, "why"), trigger="FirstPlacement"))
    assert found["Placed"] == ("False", code, "why")
    assert found["Ready"] == ("False", code, _NOTHING)


def test_mission_whose_model_is_deleted__continues_to_serve_and_is_degraded() -> None:
    world = serving(OBSERVED)
    world.model = None
    world.planner = lambda _: infeasible("ModelMissing", "Model demo/resnet50 does not exist: apply it")
    found = conditions(world)
    assert found["Ready"][:2] == ("True", "Serving")
    assert found["Placed"] == ("False", "ModelMissing", "Model demo/resnet50 does not exist: apply it")
    assert found["Degraded"][:2] == ("True", "ModelMissing")


def test_ready__names_the_serving_revision_and_cut_after_a_move_on_the_same_nodes() -> None:
    world = serving(OBSERVED)
    assert conditions(world)["Ready"][2] == "revision 1 serves: Split drone-1>edge-1, int8, cut after block 0"
    parts = (part("drone-1", 0, 2), part("edge-1", 3, 3))
    moved = feasible("drone-1", "edge-1", spare=True)
    world.planner = lambda _: replace(moved, plan=replace(moved.plan, partitions=parts))
    world.mission = world.mission.model_copy(update={"metadata": mission(generation=2).metadata})
    world.settle()
    assert conditions(world)["Ready"][2] == "revision 2 serves: Split drone-1>edge-1, int8, cut after block 2"


def test_ready__names_what_it_waits_for() -> None:
    world = World(planner=lambda _: feasible("drone-1", "edge-1"))
    world.turn()
    world.start()
    world.load()
    assert conditions(world)["Ready"] == ("False", "Starting", "2 of 2 slots are not warm, such as drone-1 host/cpu")
    pod = next(p for p in world.pods.values() if p["metadata"]["labels"]["maleo.dev/node"] == "drone-1")
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    pod["status"] = {"containerStatuses": [{"state": {"waiting": waiting}}]}
    world.mission = mission()  # its status was lost, so the message is derived again
    assert conditions(world)["Ready"][2].endswith("such as drone-1 host/cpu: ImagePullBackOff: no such image")


def test_rejected_child__is_reported_until_it_exists() -> None:
    world = World(planner=lambda _: feasible("drone-1"))
    world.turn()
    world.turn()
    waiting = replace(world.scope(), rejected_child="Pod a was rejected: exceeded quota: pods=3", pods=())
    message = "Pod a was rejected: exceeded quota: pods=3: remove the cause, the operator retries"
    found = conditions(waiting)
    assert found["Placed"] == ("False", "ChildRefused", message)
    assert found["Ready"] == ("False", "ChildRefused", "revision 1 cannot start serving: see condition Placed")
    stored = Mission.model_validate(world.mission.to_api() | {"status": decide(waiting).status})
    repeated = replace(waiting, mission=stored, rejected_child="Pod a was rejected: exceeded quota: pods=4")
    assert decide(repeated).status is None, "another number is no change"
    assert conditions(replace(repeated, rejected_child=""))["Placed"][:2] == ("False", "Starting")


def test_rejected_child_of_a_serving_plan__is_reported_until_it_exists() -> None:
    world = serving(OBSERVED)
    world.turn()
    rejected = replace(world.scope(), rejected_child="Service cctv was rejected: no")
    found = conditions(rejected)
    assert found["Placed"][:2] == ("False", "ChildRefused")
    assert found["Ready"][:2] == ("True", "Serving")
    assert found["Degraded"][:2] == ("False", "AsPlanned")
    stored = Mission.model_validate(world.mission.to_api() | {"status": decide(rejected).status})
    assert conditions(replace(rejected, mission=stored, rejected_child=""))["Placed"][:2] == ("True", "Placed")


def test_blocker__takes_precedence_over_a_rejected_child() -> None:
    found = conditions(
        replace(scope(mission()), verdict=infeasible(), trigger="FirstPlacement", rejected_child="Pod a: no")
    )
    assert found["Placed"][:2] == ("False", "LatencyTooTight")


def test_ready__is_false_while_the_entry_is_not_ready() -> None:
    world = serving(OBSERVED)
    entry = next(p for p in world.pods.values() if p["metadata"]["labels"]["maleo.dev/node"] == "drone-1")
    entry["status"]["conditions"] = []
    assert conditions(world)["Ready"] == ("False", "EntryNotReady", "the entry slot on drone-1 is not ready")


def test_degraded__is_true_while_the_fallback_answers() -> None:
    found = conditions(serving(replace(OBSERVED, fallback=4)))
    assert found["Degraded"] == (
        "True",
        "FallbackServing",
        "a partner slot does not respond; fallback int8 on drone-1 answers meanwhile",
    )


def test_observed_figures__are_not_written_within_a_band() -> None:
    world = serving(OBSERVED)
    world.turn()
    assert world.mission.status.margins is not None
    assert world.mission.status.margins.latency == "+30%"
    for latency in (0.0331, 0.0349, 0.0279, 0.0372):
        world.telemetry = replace(OBSERVED, percentile_s=latency, samples=90 + int(latency * 1e4))
        assert world.turn() == 0
    world.telemetry = replace(OBSERVED, percentile_s=0.026)
    assert world.turn() == 1
    assert world.mission.status.observed is not None
    assert world.mission.status.observed.latency is not None
    assert world.mission.status.observed.latency.value == "26ms"


def test_single_deviating_window__writes_nothing() -> None:
    """The limit is 50 ms; a margin is written again once all windows have left its band."""
    world = serving(OBSERVED)
    world.turn()
    assert world.mission.status.margins is not None
    assert world.mission.status.margins.latency == "+30%"
    usual, odd = replace(GOOD, percentile_s=0.0331), replace(GOOD, percentile_s=0.020)
    for windows in ((usual, odd), (odd, usual), (usual, usual)):
        world.telemetry = replace(OBSERVED, windows=windows, percentile_s=windows[-1].percentile_s)
        assert world.turn() == 0
    world.telemetry = replace(OBSERVED, windows=(odd, odd), percentile_s=0.020)
    assert world.turn() == 1


def test_events__are_emitted_on_transitions_only() -> None:
    world = serving(OBSERVED)
    events = list(world.events)
    assert events.count("Committed") == 1
    assert events.count("Planned") == 1
    for windows in ((GOOD, GOOD), (BAD, BAD), (BAD, BAD), (GOOD, GOOD), (GOOD, GOOD)):
        world.telemetry = replace(OBSERVED, windows=windows)
        world.turn()
        world.turn()
    assert world.events[len(events) :] == ["LatencyMetFalse", "LatencyMetTrue"]


OLD = Condition(
    type="Ready",
    status="True",
    reason="Serving",
    message="p95 34ms",
    observed_generation=1,
    last_transition_time="then",
)


@pytest.mark.parametrize(
    ("case", "new", "generation", "want"),
    [
        ("figures alone", make_condition("Ready", "True", "Serving", "p95 37ms"), 1, ("then", "p95 34ms")),
        ("another reason", make_condition("Ready", "True", "Moving", "p95 34ms"), 1, ("then", "p95 34ms")),
        ("another generation", make_condition("Ready", "True", "Serving", "p95 37ms"), 2, ("then", "p95 37ms")),
        ("another status", make_condition("Ready", "False", "NoInput", "no"), 1, ("1970-01-01T00:01:40Z", "no")),
    ],
)
def test_merged_condition__has_a_new_time_only_with_a_new_status(
    case: str, new: Condition, generation: int, want: tuple[str, str]
) -> None:
    settled = merge_conditions([OLD], [new], generation=generation, now=100)
    assert [(c.last_transition_time, c.message) for c in settled] == [want], case


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("best is 62 ms at edge-1", "best is 63.5 ms at edge-1", True),
        ("best is 62 ms at edge-1", "best is 62 ms at edge-2", False),
        ("exceeds 50ms by 3.1ms", "exceeds 50ms by 12ms", True),
        ("variant int8 allowed", "variant fp16 allowed", False),
        ("revision 1 serves", "revision 2 serves", False),
        ("revision 12 serves", "revision 13 serves", False),
        ("cut after block 3: 40 ms", "cut after block 4: 40 ms", False),
        ("cut after block 3: 40 ms", "cut after block 3: 41 ms", True),
    ],
)
def test_messages__differ_by_names_not_by_figures(one: str, other: str, same: bool) -> None:
    assert equal_except_numbers(one, other) is same


def test_timestamp__reads_back() -> None:
    assert format_timestamp(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert parse_timestamp("2027-01-15T08:00:00Z") == 1_800_000_000


@pytest.mark.parametrize(
    ("margin", "before", "want"),
    [
        (0.34, None, "+30%"),
        (0.3, None, "+30%"),
        (0.0, None, "+0%"),
        (-0.01, None, "-10%"),
        (0.44, "+30%", "+30%"),
        (0.45, "+30%", "+40%"),
        (0.26, "+30%", "+30%"),
        (0.24, "+30%", "+20%"),
        (-0.01, "+0%", "-10%"),
        (0.01, "-10%", "+0%"),
        (None, "+30%", None),
    ],
)
def test_band__has_hysteresis_at_its_edges(margin: float | None, before: str | None, want: str | None) -> None:
    assert band(margin, before) == want


def test_margins__are_on_one_scale() -> None:
    assert margin_below(0.035, 0.05) == pytest.approx(0.3)
    assert accuracy_margin(0.87, 0.74) == pytest.approx(0.5)
    assert accuracy_margin(0.70, 0.74) < 0


def test_model_accuracy__reaches_the_margin() -> None:
    world = serving(OBSERVED)
    world.model = model(accuracy="87%")
    world.turn()
    assert world.mission.status.margins is not None
    assert world.mission.status.margins.accuracy == "+13.0%", "percentage points, not a relative margin"
    assert find_condition(world.mission.status.conditions, "AccuracyMet") is not None


def test_accuracy_met__subtracts_the_deviation_of_the_cuts() -> None:
    """A deviation of 0.5 % lowers 75.4 % to 74.9 %, below the floor of 75 %; a cut without one lowers nothing."""
    body = model().to_api()
    (stem,) = body["spec"]["variants"][0]["blocks"]
    tensor = {"name": "t", "datatype": "FP32", "shape": [1, 10]}
    for deviation, want, points in (("0.5%", "False", "-0.1%"), ("0.1%", "True", "+0.3%"), (None, "True", "+0.4%")):
        cut = {"size": "40", "tensors": [tensor], "deviation": deviation}
        blocks = [stem | {"name": "a", "cut": cut}, *({**stem, "name": name} for name in "bc")]
        body["spec"]["variants"][0]["blocks"] = blocks
        floor = {"metric": "top-1", "dataset": "imagenet-1k", "atLeast": "75%"}
        world = serving(OBSERVED, objectives={"accuracy": floor})
        world.model = Model.model_validate(body)
        status, _, message = conditions(world)["AccuracyMet"]
        assert status == want
        assert want == "True" or message.startswith("top-1 on imagenet-1k is 74.9% (Measured), the floor is 75%")
        assert world.mission.status.margins is not None
        assert world.mission.status.margins.accuracy == points


def test_placed__names_a_variant_that_the_model_does_not_have() -> None:
    """Another variant serves; the missing one is misspelt, or was removed from the Model."""
    message = conditions(serving(OBSERVED, model={"name": "resnet50", "variants": ["int8", "int9"]}))["Placed"][2]
    assert message.endswith("; model resnet50 has no variant int9 (did you mean int8?); available: int8; correct spec.model.variants")  # fmt: skip  # noqa: E501
    assert "variant" not in conditions(serving(OBSERVED, model={"name": "resnet50", "variants": ["int8"]}))["Placed"][2]
