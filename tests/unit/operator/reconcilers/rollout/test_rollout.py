"""Moves, simulated step by step: they converge from any state, commit no revision twice, and lose no request."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maleo_api.mission import Mission
from maleo_operator.reconcilers.condition import find_condition
from maleo_operator.reconcilers.manifests.children import identity_digest
from maleo_operator.reconcilers.rollout.state_machine import load_reason
from maleo_operator.reconcilers.scope import Outcome
from maleo_planner.types.problem import Verdict
from support.operator.builders import CPU, NPU, feasible, infeasible, mission, node, plan
from support.operator.simulation import World

SPLIT, LOCAL, REMOTE, ON_NPU = ("drone-1", "edge-1"), ("drone-1",), ("edge-1",), (f"drone-1:{NPU}", "edge-2")


def always(*chain: str, **options: object) -> World:
    return World(planner=lambda _: feasible(*chain, **options))


def settled(*chain: str, **options: object) -> World:
    world = always(*chain, **options)
    world.settle()
    return world


def respec(world: World, *chain: str) -> None:
    """Change the spec, and let the planner return another plan from now on."""
    world.planner = lambda _: feasible(*chain)
    meta = world.mission.metadata
    newer = meta.model_copy(update={"generation": meta.generation + 1})
    world.mission = world.mission.model_copy(update={"metadata": newer})


def reason(world: World, kind: str) -> tuple[str, str]:
    found = find_condition(world.mission.status.conditions, kind)
    assert found is not None
    return found.status, found.reason


@pytest.mark.parametrize("chain", [LOCAL, SPLIT, REMOTE, ON_NPU])
def test_first_placement__serves_and_leaves_nothing_to_do(chain: tuple[str, ...]) -> None:
    world = settled(*chain)
    assert world.serves()
    assert world.commits == [1]
    assert reason(world, "Ready") == ("True", "Serving")
    assert reason(world, "Placed") == ("True", "Placed")
    assert world.last == Outcome(slots=world.last.slots, requeue_s=300.0)


def test_remote__keeps_an_entry_that_only_forwards() -> None:
    world = settled(*REMOTE)
    entry = next(d for _, d in world.last.slots if d.entry)
    assert (entry.unit, entry.revisions[0].stage) == (CPU, None)
    hop = entry.revisions[0].next
    assert hop is not None
    assert hop.node == "edge-1"
    assert world.mission.status.nodes == "drone-1>edge-1"


@pytest.mark.parametrize("to", [LOCAL, REMOTE, ON_NPU])
def test_move__never_leaves_the_mission_unserved(to: tuple[str, ...]) -> None:
    world = settled(*SPLIT)
    respec(world, *to)
    for _ in range(60):
        for step in (world.turn, world.start, world.load):
            step()
            assert world.serves()
    assert world.commits == [1, 2]
    assert world.mission.status.moves[-1].reason == "SpecChanged"
    world.settle()


def test_move__removes_slots_that_serve_no_revision() -> None:
    world = settled(*SPLIT)
    respec(world, *LOCAL)
    world.settle()
    assert {d.unit for _, d in world.last.slots} == {CPU}
    assert len(world.pods) == 1
    assert [r.revision for r in world.last.slots[0][1].revisions] == [2]
    assert reason_of(world, "cctv-1", "Superseded") == ("True", "Replaced")


def reason_of(world: World, placement: str, kind: str) -> tuple[str, str]:
    found = find_condition(world.placements[placement].status.conditions, kind)
    assert found is not None
    return found.status, found.reason


def test_move_of_the_entry_to_another_unit__switches_the_service_after_the_commit() -> None:
    world = settled(*LOCAL)
    assert world.service is not None
    here = {"maleo.dev/mission": "cctv", "maleo.dev/node": "drone-1", "maleo.dev/unit": "host_cpu"}
    assert world.service["selector"] == here
    respec(world, *ON_NPU)
    world.settle()
    assert world.service is not None
    assert world.service["selector"]["maleo.dev/unit"] == "hailo0_npu"
    assert {d.unit for _, d in world.last.slots} == {NPU, CPU}  # CPU: of edge-2
    assert len(world.pods) == 2


def test_old_entry__keeps_its_partners_until_its_pod_is_gone() -> None:
    """It completes the requests that it has begun: while it terminates, its partners keep the old revision loaded."""
    world = settled(*SPLIT)
    partner = next(slot for name, slot in world.slots.items() if "edge-1" in name)
    respec(world, *ON_NPU)
    for _ in range(60):
        world.turn()
        if any("deletionTimestamp" in pod["metadata"] for pod in world.pods.values()):
            break
        world.start()
        world.load()
    for _ in range(5):
        world.turn()
        world.load(1)
    leaving = [name for name, pod in world.pods.items() if "deletionTimestamp" in pod["metadata"]]
    assert [name for name in leaving if "drone-1-host-cpu" not in name] == []
    assert leaving
    assert set(partner.loaded) == {1}
    assert reason_of(world, "cctv-1", "Serving") == ("False", "NotActive")
    world.settle()
    assert reason_of(world, "cctv-1", "Superseded") == ("True", "Replaced")
    assert not any("edge-1" in name for name in world.pods)


@pytest.mark.parametrize(
    ("spare", "gap", "want", "broken"),
    [(True, "0s", "Bridge", set()), (False, "2s", "InPlace", set()), (True, "0s", "Bridge", {2})],
)
def test_partner_with_memory_for_one_revision__replaces_it_in_place(
    spare: bool, gap: str, want: str, broken: set[int]
) -> None:
    world = always(*SPLIT, spare=spare)
    world.mission, world.memory = mission(continuity={"maxGap": gap}), {"edge-1": "1.5Mi"}
    world.settle()
    world.broken = broken
    respec(world, *REMOTE)
    for _ in range(8):
        world.turn()
        world.load(1)
    assert world.placements["cctv-2"].spec.switch.strategy == want
    partner = next(slot for name, slot in world.slots.items() if "edge-1" in name)
    assert set(partner.loaded) == (set() if broken else {2})
    world.now += 130
    world.turn()
    world.settle()
    assert world.serves()
    assert set(partner.loaded) == ({1} if broken else {2})  # abandoned: the old one is loaded again
    assert world.commits == ([1] if broken else [1, 2])


def test_operator_killed_after_each_write__converges_to_the_same_result() -> None:
    """The operator is killed after each of its writes, throughout a first placement and a move."""
    world = always(*SPLIT)
    for phase in (SPLIT, ON_NPU):
        if phase is ON_NPU:
            respec(world, *phase)
        for _ in range(40):
            writes = 0
            while world.turn(writes) > writes and writes < 20:
                writes += 1
                if world.commits and phase is ON_NPU:
                    assert world.serves()
            world.start()
            world.load()
            world.now += 1
        world.settle()
    assert world.serves()
    assert world.commits == [1, 2]
    assert world.mission.status.nodes == "drone-1>edge-2"


def test_operator_killed_after_it_wrote_a_placement__leaves_it_to_the_next_one_to_continue() -> None:
    """The next one lacks the measurements and would plan otherwise, but this generation is planned already."""
    world = settled(*SPLIT)
    respec(world, *ON_NPU)
    world.turn(1)  # the Placement is written, the status is not
    assert [p.spec.revision for p in world.placements.values()] == [1, 2]
    world.planner = lambda _: feasible(*LOCAL)
    for _ in range(10):
        for step in (world.turn, world.start, world.load):
            step()
    world.settle()
    assert world.commits == [1, 2]
    assert world.mission.status.nodes == "drone-1>edge-2"
    assert world.mission.status.observed_generation == world.mission.metadata.generation
    respec(world, *LOCAL)
    world.settle()
    assert world.commits == [1, 2, 3]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.integers(0, 6)),
        st.tuples(st.just("start"), st.just(0)),
        st.tuples(st.just("load"), st.integers(0, 4)),
        st.tuples(st.just("respec"), st.integers(0, 3)),
        st.tuples(st.just("forget"), st.just(0)),
    ),
    max_size=60,
)


@given(steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_any_order_of_steps__keeps_serving_and_converges(steps: list[tuple[str, int]]) -> None:
    """World asserts that commits only go forward, and only once every slot of the revision is warm."""
    world = settled(*LOCAL)
    chains = [LOCAL, SPLIT, REMOTE, ON_NPU]
    last = LOCAL
    for name, value in steps:
        match name:
            case "turn":
                world.turn(value or None)
            case "start":
                world.start()
            case "load":
                world.load(value)
            case "respec":
                last = chains[value]
                respec(world, *last)
            case "forget":
                world.epoch += 1
                world.turn()
        assert world.serves()
    world.settle(200)
    assert world.serves()
    assert world.mission.status.nodes == ">".join(dict.fromkeys(["drone-1", *(w.partition(":")[0] for w in last)]))
    assert len([p for p in world.placements.values() if not p.status.conditions or _is_live(p)]) == 1


def _is_live(placement: object) -> bool:
    conditions = placement.status.conditions  # type: ignore[attr-defined]
    return not any(find_condition(conditions, kind) for kind in ("Superseded", "Abandoned"))


@pytest.mark.parametrize("first", ["turn", "load"])
def test_active_lost_in_a_restore__is_rebuilt_from_the_entry(first: str) -> None:
    world = settled(*SPLIT)
    respec(world, *LOCAL)
    world.turn()
    world.lose_memory_of_active()
    getattr(world, first)()
    world.turn()
    active = world.mission.status.active
    assert active is not None
    assert active.revision == 1
    world.settle()
    assert world.commits[-1] == 2


def test_active_lost_without_reports__is_rebuilt_from_the_status_of_the_placement() -> None:
    world = settled(*SPLIT)
    world.lose_memory_of_active()
    world.lost = {"drone-1": world.now, "edge-1": world.now}
    world.turn()
    assert world.mission.status.active is not None
    assert world.mission.status.active.revision == 1


def test_partner_lost_while_requests_fall_back__is_replaced_by_a_new_revision() -> None:
    world = settled(*SPLIT, spare=True)
    world.lost = {"edge-1": world.now}
    world.planner = lambda _: feasible("drone-1", "edge-2", spare=True)
    world.telemetry = replace(world.telemetry, fallback=5)
    world.turn(writes=None)
    assert reason(world, "Degraded") == ("True", "PartnerLost")
    world.telemetry = replace(world.telemetry, fallback=0)
    world.settle()
    assert world.mission.status.nodes == "drone-1>edge-2"
    assert world.mission.status.moves[-1].reason == "NodeLost"
    assert reason(world, "Degraded") == ("False", "AsPlanned")


def test_unreachable_partner__is_tolerated_for_the_offline_time() -> None:
    world = settled(*SPLIT)
    world.lost = {"edge-1": world.now}
    world.planner = lambda _: feasible("drone-1")
    world.settle()
    assert world.mission.status.nodes == "drone-1>edge-1"
    world.now += 300
    world.settle()
    assert world.mission.status.nodes == "drone-1"


def test_input_node_lost__moves_nothing() -> None:
    world = settled(*SPLIT)
    world.lost = {"drone-1": world.now}
    world.planner = lambda _: infeasible("NoInput", "drone-1 is not ready")
    world.now += 1000
    world.settle()
    assert reason(world, "Ready") == ("False", "NoInput")
    assert reason(world, "Placed") == ("True", "Placed")
    assert list(world.placements) == ["cctv-1"]


def test_revision_that_no_slot_can_load__is_abandoned_and_the_old_one_continues_to_serve() -> None:
    world = settled(*SPLIT)
    world.broken = {2}
    respec(world, *LOCAL)
    for _ in range(5):
        world.turn()
        world.load()
    assert reason(world, "Placed") == ("False", "ArtifactInvalid")
    found = find_condition(world.mission.status.conditions, "Placed")
    assert found is not None
    assert found.message == "drone-1 host/cpu: ArtifactInvalid: digest mismatch"
    world.now += 121
    world.turn()
    world.turn()
    assert reason_of(world, "cctv-2", "Abandoned") == ("True", "ArtifactInvalid")
    assert reason(world, "Ready") == ("True", "Serving")
    assert reason(world, "Degraded") == ("False", "AsPlanned")
    assert world.serves()
    assert "MoveAbandoned" in world.events


def test_abandoned_move__is_retried_with_increasing_delay() -> None:
    world = settled(*SPLIT)
    world.broken = set(range(2, 10))
    respec(world, *LOCAL)
    tries = []
    for _ in range(900):
        world.turn()
        world.load()
        world.now += 1
        newest = max(p.spec.revision for p in world.placements.values())
        if newest not in tries:
            tries.append(newest)
    assert 3 <= len(tries) <= 6
    assert world.serves()


def test_first_placement_that_cannot_load__reports_the_reason_and_is_retried() -> None:
    world = always(*LOCAL)
    world.broken = {1}
    for _ in range(300):
        world.turn()
        world.start()
        world.load()
        world.now += 1
    assert reason(world, "Ready") == ("False", "ArtifactInvalid")
    assert list(world.placements) == ["cctv-1"]
    world.broken = set()
    world.settle()
    assert reason(world, "Ready") == ("True", "Serving")


def test_overtaken_pending_revision__never_serves() -> None:
    world = settled(*LOCAL)
    respec(world, *SPLIT)
    world.turn()
    respec(world, "drone-1", "edge-2")
    world.settle()
    assert world.commits == [1, 3]
    assert reason_of(world, "cctv-2", "Superseded") == ("True", "Overtaken")


def test_spec_changed_back_during_a_move__cancels_the_move() -> None:
    world = settled(*LOCAL)
    respec(world, *SPLIT)
    world.turn()
    respec(world, *LOCAL)
    world.settle()
    assert world.commits == [1]
    assert len(world.pods) == 1


def test_lost_children__are_created_again() -> None:
    world = settled(*SPLIT)
    world.service = None
    for name in list(world.pods):
        del world.pods[name], world.slots[name]
    world.settle()
    assert world.serves()
    assert world.commits == [1]


@pytest.mark.parametrize("chain", [LOCAL, SPLIT, REMOTE])
def test_deleted_placement__serves_until_a_new_revision_replaces_it(chain: tuple[str, ...]) -> None:
    world = settled(*chain)
    (world.deleted,) = world.placements.values()
    world.placements.clear()
    for _ in range(60):
        for step in (world.turn, world.start, world.load):
            step()
            assert world.serves()
            assert reason(world, "Ready")[0] == "True"
    assert world.commits == [1, 2]
    assert world.mission.status.moves[-1].reason == "PlacementLost"
    assert [p.spec.revision for p in world.placements.values()] == [2]
    world.settle()


def test_placement_deleted_before_a_restart__is_replaced_by_a_new_revision() -> None:
    """The restarted operator does not know the plan: its pods run until a new revision replaces it."""
    world = settled(*SPLIT)
    pods = set(world.pods)
    world.placements.clear()
    world.turn()
    assert {p for p in world.pods if "deletionTimestamp" not in world.pods[p]["metadata"]} == pods
    world.settle()
    assert world.serves()
    assert world.commits == [1, 2]


def test_replaced_identity_key__gives_the_mission_a_new_identity_and_new_pods() -> None:
    world = settled(*SPLIT)
    world.identity = "of another time"
    world.settle()
    marks = {pod["metadata"]["labels"]["maleo.dev/identity"] for pod in world.pods.values()}
    assert marks == {identity_digest("of another time")}
    assert world.serves()
    assert world.commits == [1]


def test_failed_pod__is_replaced_at_most_every_ten_seconds() -> None:
    world = settled(*LOCAL)
    name = next(iter(world.pods))
    world.pods[name]["status"]["phase"] = "Failed"
    world.pods[name]["metadata"]["creationTimestamp"] = "2027-01-15T08:00:00Z"
    world.now = 1_800_000_009.0
    world.turn()
    assert "deletionTimestamp" not in world.pods[name]["metadata"]
    world.now = 1_800_000_010.0
    world.turn()
    assert "deletionTimestamp" in world.pods[name]["metadata"]
    world.turn()
    assert sorted(world.pods) == [name, f"{name}-1"]
    world.settle()
    assert world.serves()


def test_finished_placements__are_kept_up_to_three() -> None:
    world = settled(*LOCAL)
    for i in range(6):
        respec(world, *(SPLIT if i % 2 == 0 else LOCAL))
        world.settle()
    assert sorted(world.placements) == ["cctv-4", "cctv-5", "cctv-6", "cctv-7"]


def test_suspended__plans_and_explains_but_does_not_act() -> None:
    world = always(*SPLIT)
    world.mission = mission(suspend=True)
    world.settle()
    assert world.placements == {}
    assert world.pods == {}
    assert reason(world, "Placed") == ("False", "Suspended")
    assert world.mission.status.explanation == "Split drone-1>edge-1, int8: latency 40ms (Modelled)"


def test_suspended_while_serving__continues_to_serve_and_does_not_move() -> None:
    world = settled(*SPLIT)
    respec(world, *LOCAL)
    suspended = world.mission.spec.model_copy(update={"suspend": True})
    world.mission = world.mission.model_copy(update={"spec": suspended})
    world.settle()
    assert world.serves()
    assert list(world.placements) == ["cctv-1"]


def test_infeasible_first_plan__serves_the_closest_plan_and_reports_it() -> None:
    world = World(planner=lambda _: infeasible(closest=plan(*SPLIT)))
    world.settle()
    assert world.serves()
    assert reason(world, "Ready") == ("True", "Serving")
    assert reason(world, "Degraded") == ("True", "LatencyTooTight")
    placed = find_condition(world.mission.status.conditions, "Placed")
    assert placed is not None
    assert (placed.status, placed.reason) == ("False", "LatencyTooTight")
    assert placed.message == "best is 62 ms at edge-1, the limit is 50 ms; suggested change: latency.atMost: 62ms"


def test_infeasible_later_plan__keeps_the_active_revision_serving() -> None:
    world = settled(*SPLIT)
    respec(world)
    world.planner = lambda _: infeasible(closest=plan(*SPLIT))
    world.settle()
    assert list(world.placements) == ["cctv-1"]
    assert reason(world, "Degraded") == ("True", "LatencyTooTight")
    world.planner = lambda _: feasible(*SPLIT)
    world.now += 10
    world.settle()
    assert reason(world, "Placed") == ("True", "Placed")
    assert reason(world, "Degraded") == ("False", "AsPlanned")


def test_egress_rule_that_forbids_every_plan__stops_the_mission() -> None:
    world = settled(*SPLIT)
    respec(world)
    strict = Mission.model_validate(
        world.mission.to_api() | {"spec": world.mission.spec.to_api() | {"egress": {"features": "Device"}}}
    )
    world.mission = strict
    world.planner = lambda _: infeasible("EgressForbidden", "features may not leave drone-1")
    world.settle()
    assert world.pods == {}
    assert world.mission.status.active is None
    assert reason(world, "Ready") == ("False", "EgressForbidden")


def test_egress_blocker__does_not_stop_a_serving_plan_that_obeys_the_rule() -> None:
    world = settled(*SPLIT)
    respec(world)
    world.planner = lambda _: infeasible("EgressForbidden", "room only in the cloud")
    world.settle()
    assert world.serves()


def test_same_message_with_other_figures__is_not_written_again() -> None:
    figures = iter(range(62, 1000))

    def planner(_: World) -> Verdict:
        return infeasible(message=f"best is {next(figures)} ms at edge-1, the limit is 50 ms")

    world = World(planner=planner)
    world.settle()
    world.now += 100
    assert world.turn() == 0
    assert next(figures) > 64


def test_nodes_of_another_site__count_as_outside() -> None:
    world = settled(*SPLIT)
    world.nodes = (node("drone-1"), node("edge-1", site="elsewhere"), node("edge-2"))
    respec(world)
    world.planner = lambda _: infeasible("EgressForbidden", "features may not leave site field-a")
    world.settle()
    assert world.pods == {}


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (["n1 u: oci://r/m: CacheFull: it has 9 bytes"], "CacheFull"),
        (
            [
                "n1 u: oci://r/m: ArtifactInvalid: the content does not match the digest sha256:0",
                "n2 u: x: CacheFull: y",
            ],
            "CacheFull",
        ),
        (["n1 u: oci://r/m: ArtifactInvalid: the content does not match the digest sha256:0"], "ArtifactInvalid"),
        (["n1 u: oci://r/m: not found"], "LoadFailed"),
        (["n1 u: oci://r/CacheFull/m: not found"], "LoadFailed"),
        (["n1 u: oci://r/digest-model: not found"], "LoadFailed"),
    ],
)
def test_errors_of_slots__have_one_reason(errors: list[str], expected: str) -> None:
    assert load_reason(errors) == expected
