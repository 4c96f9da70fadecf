"""Children of a mission as they are sent to the API server and parsed, and the desired state of slots."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_api.device import Device, DeviceProfile
from maleo_api.mission import CRITICALITIES
from maleo_api.model import Codec
from maleo_operator.reconcilers.manifests import children
from maleo_operator.reconcilers.mission import decide
from maleo_operator.reconcilers.revisions import Slot
from maleo_operator.reconcilers.scope import MissionScope
from maleo_planner.types.problem import Snapshot
from maleo_wire.messages import Pace, SlotDesired
from support.operator.builders import CPU, NPU, SETTINGS, artifact, feasible, mission, plan, scope, snapshot
from support.operator.simulation import World

HERE = Slot("drone-1", NPU)
_SELECTED = {"maleo.dev/mission": "cctv", "maleo.dev/node": "drone-1", "maleo.dev/unit": "hailo0_npu"}
_PORT = {"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}


def hailo(*, simulated: bool = False, memory: str = "20Mi") -> Snapshot:
    profile = DeviceProfile.model_validate(
        {
            "metadata": {"name": "hailo-8"},
            "spec": {
                "vendor": "Hailo",
                "product": "Hailo-8",
                "computeUnits": [{"name": "npu", "type": "NPU", "access": {"resource": "hailo.ai/npu"}}],
            },
        }
    )
    found = {"name": "hailo0", "profile": "hailo-8", "simulated": simulated}
    units = [{"name": NPU, "allocatable": {"memory": memory}}, {"name": CPU, "allocatable": {"memory": memory}}]
    status = {"inventory": {"host": {"profile": "pi"}, "accelerators": [found]}, "units": units}
    device = Device.model_validate({"metadata": {"name": "drone-1"}, "spec": {"nodeName": "drone-1"}, "status": status})
    return replace(snapshot(), profiles={"hailo-8": profile}, devices={"drone-1": device})


def made(of: MissionScope, kind: str) -> list[dict[str, Any]]:
    outcome = decide(of)
    return [o for o in (*outcome.create, *outcome.apply) if o["kind"] == kind]


def first(**changes: Any) -> MissionScope:
    verdict = changes.pop("verdict", None) or feasible(f"drone-1:{NPU}", "edge-1", spare=True)
    digest = "sha256:" + "d" * 64
    of = changes.pop("mission", None) or mission()
    return scope(of, verdict=verdict, trigger="FirstPlacement", inputs_digest=digest, **changes)


def test_pod__requests_its_node_and_its_resource_and_nothing_of_the_host() -> None:
    pods = made(first(snapshot=hailo()), "Pod")
    assert [p["metadata"]["labels"]["maleo.dev/entry"] for p in pods] == ["true", "false"]
    spec = pods[0]["spec"]
    container = spec["containers"][0]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["drone-1"]}]}]
    assert {t["key"]: t["tolerationSeconds"] for t in spec["tolerations"]} == {
        "node.kubernetes.io/not-ready": 300,
        "node.kubernetes.io/unreachable": 300,
    }
    mib = 2**20
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": str(130 * mib), "hailo.ai/npu": "1"},
        "limits": {"memory": str((2 * 128 + 256 + 6 * 2) * mib), "hailo.ai/npu": "1"},
    }
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["securityContext"]["runAsGroup"] == 65532, "without it the group is 0"
    assert all(v["emptyDir"]["sizeLimit"] for v in spec["volumes"])
    assert "nodeName" not in spec
    assert pods[0]["metadata"]["ownerReferences"] == [
        {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "name": "cctv", "uid": "u1", "controller": True}
    ]


def test_pod__receives_the_address_of_its_agent_and_its_identity() -> None:
    pod = made(first(), "Pod")[0]
    env = {e["name"]: e.get("value", e.get("valueFrom")) for e in pod["spec"]["containers"][0]["env"]}
    assert env["MALEO_AGENT"] == "http://$(HOST_IP):9808"
    assert env["MALEO_SLOT"] == f"demo/{pod['metadata']['name']}"
    assert env["MALEO_IDENTITY"] == {"secretKeyRef": {"name": "cctv-identity-2bb80d537b1d", "key": "token"}}
    assert list(env).index("HOST_IP") < list(env).index("MALEO_AGENT")  # Kubernetes expands only earlier variables


def test_pod_of_a_simulated_unit__requests_no_device_resource() -> None:
    pod = made(first(snapshot=hailo(simulated=True)), "Pod")[0]
    assert set(pod["spec"]["containers"][0]["resources"]["limits"]) == {"memory"}


def test_pod__has_the_priority_class_and_the_offline_time_of_its_mission() -> None:
    pod = made(first(mission=mission(priorityClassName="high", offline={"tolerate": "10m"})), "Pod")[0]
    assert pod["spec"]["priorityClassName"] == "high"
    assert pod["spec"]["tolerations"][0]["tolerationSeconds"] == 600


_CLASSES = {"Safety": "maleo-safety", "Mission": "maleo-mission", "BestEffort": "maleo-best-effort"}
_PRIORITIES = {
    "maleo-safety": 1_000_000_000, "maleo-mission": 0, "maleo-best-effort": -1000,
    "high": 1_000_000, "as-safety": 1_000_000_000, "low": -5, "lower": -5000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("criticality", "asked", "chosen"),
    [
        ("Safety", "", "maleo-safety"),
        ("Safety", "high", "maleo-safety"),  # else a BestEffort mission could preempt it
        ("Safety", "as-safety", "as-safety"),
        ("Mission", "", "maleo-mission"),
        ("Mission", "high", "high"),
        ("Mission", "as-safety", "maleo-mission"),
        ("Mission", "low", "maleo-mission"),
        ("BestEffort", "", "maleo-best-effort"),
        ("BestEffort", "low", "low"),
        ("BestEffort", "lower", "lower"),
        ("BestEffort", "high", "maleo-best-effort"),
        ("BestEffort", "unheard-of", "unheard-of"),  # the API server rejects the pod with a reason
        ("BestEffort", "system-node-critical", "maleo-best-effort"),
    ],
)
def test_priority_class__is_the_requested_one_within_the_criticality(criticality: str, asked: str, chosen: str) -> None:
    of = mission(criticality=criticality, priorityClassName=asked)
    assert children.priority_class(of, _PRIORITIES, _CLASSES) == chosen


@given(st.data())
def test_priority_class__is_never_lower_for_a_more_critical_mission(data: st.DataObject) -> None:
    values = data.draw(st.dictionaries(st.sampled_from([*_PRIORITIES, "a", "b"]), st.integers(-(10**9), 10**9)))
    values |= {name: _PRIORITIES[name] for name in _CLASSES.values()}
    asked = st.sampled_from([*sorted(values), "", "system-node-critical"])
    chosen = [
        values[children.priority_class(mission(criticality=c, priorityClassName=data.draw(asked)), values, _CLASSES)]
        for c in CRITICALITIES
    ]
    assert chosen == sorted(chosen, reverse=True)


def test_priority_class__is_the_requested_one_if_the_chart_created_none() -> None:
    assert children.priority_class(mission(priorityClassName="high"), _PRIORITIES, {}) == "high"
    assert children.priority_class(mission(criticality="Safety"), _PRIORITIES, {}) == ""


def test_slots__have_the_tolerations_of_the_chart_and_of_the_mission() -> None:
    npu = {"key": "dedicated", "operator": "Exists"}
    (pod, *_) = made(first(settings=replace(SETTINGS, tolerations=(npu,))), "Pod")
    assert pod["spec"]["tolerations"][-1] == npu
    assert len(pod["spec"]["tolerations"]) == 3


def _on_cpu() -> Snapshot:
    """Return a snapshot in which drone-1 has a CPU of a known profile."""
    unit = {"name": "cpu", "type": "CPU"}
    spec = {"vendor": "A", "product": "B", "computeUnits": [unit]}
    profile = DeviceProfile.model_validate({"metadata": {"name": "pi"}, "spec": spec})
    status = {"inventory": {"host": {"profile": "pi"}}}
    device = Device.model_validate({"metadata": {"name": "drone-1"}, "spec": {"nodeName": "drone-1"}, "status": status})
    return replace(snapshot(), profiles={"pi": profile}, devices={"drone-1": device})


@pytest.mark.parametrize(
    ("rate", "chain", "options", "settings", "cpu"),
    [
        ("1/s", f"drone-1:{CPU}", {}, {}, {"requests": "50m"}),  # 10 ms a second: less than the minimum
        ("30/s", f"drone-1:{CPU}", {}, {}, {"requests": "300m"}),
        ("30/s", f"drone-1:{CPU}", {"simulated": True}, {}, {"requests": "50m"}),  # it waits instead of computing
        ("30/s", f"drone-1:{NPU}", {}, {}, {"requests": "50m"}),
        ("30/s", f"drone-1:{CPU}", {}, {"cpu_limit": 2.0}, {"requests": "300m", "limits": "2000m"}),
        ("30/s", f"drone-1:{CPU}", {}, {"cpu_limit": 0.1}, {"requests": "300m", "limits": "300m"}),
        ("1/s", f"drone-1:{CPU}", {}, {"cpu_request": 0.2}, {"requests": "200m"}),
    ],
)
def test_slot__requests_the_cpu_that_its_plan_needs(
    rate: str, chain: str, options: dict[str, bool], settings: dict[str, float], cpu: dict[str, str]
) -> None:
    of = mission(demand={"rate": rate})
    given_ = replace(SETTINGS, **settings)  # type: ignore[arg-type]
    (pod, *_) = made(first(mission=of, verdict=feasible(chain, **options), snapshot=_on_cpu(), settings=given_), "Pod")
    resources = pod["spec"]["containers"][0]["resources"]
    assert {kind: row["cpu"] for kind, row in resources.items() if "cpu" in row} == cpu


def test_pod__is_replaced_only_if_its_memory_limit_is_far_too_small() -> None:
    world = World(planner=lambda _: feasible("drone-1"))
    world.settle()
    (name,) = world.pods
    container = world.pods[name]["spec"]["containers"][0]
    limit = int(container["resources"]["limits"]["memory"])
    for memory, replaced in ((limit, False), (limit // 2, False), (limit // 2 - 1, True)):
        container["resources"]["limits"]["memory"] = str(memory)
        assert bool(decide(world.scope()).delete) is replaced
    container["resources"] = {}  # made by an operator that set no resources
    assert decide(world.scope()).delete == ()


def test_pod_name__is_short_stable_and_unique() -> None:
    name = children.pod_name(mission(), HERE, ())
    assert name == children.pod_name(mission(), HERE, ())
    assert name.startswith("cctv-drone-1-hailo0-npu-")
    assert children.pod_name(mission(), HERE, (name,)) == f"{name}-1"
    long = Slot("n" * 63, NPU)
    assert len(children.pod_name(mission(), long, (children.pod_name(mission(), long, ()),))) <= 63
    assert children.pod_name(mission(), long, ()) != children.pod_name(mission(), Slot("n" * 63, CPU), ())


def test_exclusive_unit__gets_a_new_pod_only_after_the_terminating_one_is_gone() -> None:
    world = World(planner=lambda _: feasible(f"drone-1:{NPU}"))
    world.settle()
    world.pods[next(iter(world.pods))]["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    of = world.scope()
    assert len([o for o in decide(of).create if o["kind"] == "Pod"]) == 1
    assert decide(replace(of, snapshot=hailo())).create == ()


def test_lost_node__gets_no_new_pod() -> None:
    pods = made(first(lost_nodes={"edge-1": 0.0}), "Pod")
    assert [p["metadata"]["labels"]["maleo.dev/node"] for p in pods] == ["drone-1"]


def test_secret__is_created_before_the_first_pod_and_when_a_kubelet_misses_it() -> None:
    made_first = [o["kind"] for o in decide(first()).create]
    assert made_first.index("Secret") < made_first.index("Pod")
    (secret,) = made(first(), "Secret")
    assert secret["stringData"] == {"token": "secret"}
    assert secret["immutable"] is True
    world = World(planner=lambda _: feasible("drone-1"))
    world.settle()
    assert "Secret" not in {o["kind"] for o in decide(world.scope()).create}
    (pod,) = world.pods.values()
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "cctv-identity-2bb80d537b1d" not found'}
    pod["status"]["containerStatuses"] = [{"restartCount": 1, "state": {"waiting": waiting}}]
    assert [o["metadata"]["name"] for o in decide(world.scope()).create] == ["cctv-identity-2bb80d537b1d"]


def test_identity__is_derived_from_the_missions_uid_and_the_key() -> None:
    key, other = b"k" * 32, b"o" * 32
    again = mission().model_copy(update={"metadata": mission().metadata.model_copy(update={"uid": "u2"})})
    tokens = {
        children.identity_of(mission(), key),
        children.identity_of(mission(), other),
        children.identity_of(again, key),
    }
    assert len(tokens) == 3
    assert all(len(token) == 43 and token.isascii() for token in tokens)
    assert children.identity_of(mission(suspend=True), key) == children.identity_of(mission(), key)


def test_service__is_corrected_when_it_selects_another_entry() -> None:
    service = made(first(), "Service")[0]
    assert service["spec"]["selector"] == {
        "maleo.dev/mission": "cctv",
        "maleo.dev/node": "drone-1",
        "maleo.dev/unit": "hailo0_npu",
    }
    assert made(first(service=service["spec"]), "Service") == []


@pytest.mark.parametrize(
    ("change", "served"),
    [
        ({}, True),
        ({"type": "NodePort", "clusterIP": "10.0.0.1"}, True),
        ({"ports": [{"name": "more", "port": 1}, _PORT | {"nodePort": 30000}]}, True),
        ({"ports": []}, False),
        ({"ports": None}, False),
        ({"ports": [_PORT | {"targetPort": 9}]}, False),
        ({"selector": _SELECTED | {"app": "shop"}}, False),
        ({"selector": None}, False),
        ({"type": "ExternalName", "externalName": "example.com"}, False),
    ],
)
def test_edited_service__is_corrected_if_clients_could_not_reach_the_entry(
    change: dict[str, Any], served: bool
) -> None:
    wanted = made(first(), "Service")[0]
    edited = {**wanted["spec"], **change}
    assert (made(first(service=edited), "Service") == []) is served
    if not served:
        found = {"metadata": {"name": "cctv", "resourceVersion": "7"}, "spec": edited}
        patch = children.build_patch(found, wanted)
        assert patch["metadata"]["resourceVersion"] == "7", "an unseen change is not overwritten"
        assert children.is_served_by(_merged(edited, patch["spec"]), wanted["spec"])


def _merged(target: Any, patch: Any) -> Any:
    """Return the target with a JSON merge patch applied (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        merged[key] = _merged(merged.get(key), value)
    return {key: value for key, value in merged.items() if value is not None}


def test_pod_with_edited_labels__is_labelled_again_and_continues_to_serve() -> None:
    world = World(planner=lambda _: feasible("drone-1"))
    world.settle()
    (name,) = world.pods
    before = dict(world.pods[name]["metadata"]["labels"])
    for label in ("maleo.dev/mission", "maleo.dev/node", "maleo.dev/unit", "app.kubernetes.io/managed-by"):
        world.pods[name]["metadata"]["labels"][label] = "odd"
    assert not world.serves()
    world.settle()
    assert list(world.pods) == [name]
    assert world.pods[name]["metadata"]["labels"] == before
    assert world.serves()


@pytest.mark.parametrize(
    "reference",
    [
        {"controller": False},
        {"uid": "another"},
        {"kind": "Deployment"},
    ],
)
def test_child__is_only_what_the_mission_controls(reference: dict[str, Any]) -> None:
    of = mission()
    child = {"metadata": {"name": "cctv", "labels": children.labels(of), "ownerReferences": [children.owner(of)]}}
    assert children.is_controlled_by(child, of)
    child["metadata"]["ownerReferences"] = [children.owner(of) | reference]
    assert not children.is_controlled_by(child, of)
    del child["metadata"]["ownerReferences"]
    assert not children.is_controlled_by(child, of)


@pytest.mark.parametrize(
    ("case", "status", "want"),
    [
        ("new", {}, (False, False, "")),
        (
            "ready",
            {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            (True, False, ""),
        ),
        (
            "evicted",
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            (False, True, "Evicted: low on memory"),
        ),
        (
            "crashing",
            {"containerStatuses": [{"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            (False, True, "CrashLoopBackOff"),
        ),
        (
            "crashed once",
            {"containerStatuses": [{"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            (False, False, "CrashLoopBackOff"),
        ),
        (
            "unschedulable",
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
                ]
            },
            (False, False, "Unschedulable: 0/3 nodes"),
        ),
    ],
)
def test_pod__is_parsed(case: str, status: dict[str, Any], want: tuple[bool, bool, str]) -> None:
    manifest = made(first(), "Pod")[0]
    manifest["metadata"]["creationTimestamp"] = "2027-01-15T08:00:00Z"
    pod = children.parse_slot(manifest | {"status": status})
    assert (pod.ready, pod.failed, pod.message) == want, case
    assert (pod.node, pod.unit, pod.entry, pod.terminating) == ("drone-1", NPU, True, False)
    assert pod.created_at == 1_800_000_000


def test_pod_with_long_names__has_short_labels_and_is_parsed_with_full_names() -> None:
    node, unit = "n" * 63, f"{'a' * 40}/{'u' * 40}"
    manifest = children.pod(first(), Slot(node, unit), entry=True, held=())
    assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())
    pod = children.parse_slot(manifest)
    assert (pod.node, pod.unit) == (node, unit)
    del manifest["metadata"]["annotations"]  # as an older operator made it
    assert children.parse_slot(manifest).node == node


def test_partner_with_an_ipv6_address__has_it_in_brackets() -> None:
    world = World(planner=lambda _: feasible("drone-1", "edge-1"))
    world.settle()
    for pod in world.pods.values():
        pod["status"]["podIP"] = "fd00::1"
    world.turn()
    assert {r.next.address for s in slots(world).values() for r in s.revisions if r.next} == {"[fd00::1]:8080"}


def slots(world: World) -> dict[str, SlotDesired]:
    return dict(world.last.slots)


def test_slots__form_a_chain_from_the_entry_with_its_fallback() -> None:
    world = World(planner=lambda _: feasible("drone-1", "edge-1", spare=True, simulated=True))
    world.settle()
    entry, partner = slots(world)["drone-1"], slots(world)["edge-1"]
    hop, stage = entry.revisions[0].next, entry.revisions[0].stage
    assert hop is not None
    assert stage is not None
    partner_ip = next(p["status"]["podIP"] for n, p in world.pods.items() if partner.slot == f"demo/{n}")
    assert hop.address == f"{partner_ip}:8080"
    assert stage.artifact.digest == artifact().digest
    assert stage.artifact.size == 25 * 2**20
    assert stage.pace == Pace(seconds=0.010, joules=0.050)
    assert entry.fallback is not None
    assert entry.fallback.next is None
    assert (entry.active, partner.active, partner.fallback, partner.revisions[0].next) == (1, None, None, None)
    assert entry.policy.latency_limit_s == 0.05
    assert entry.model == "resnet50"


def test_slots__encode_what_the_next_one_decodes_and_serve_the_exit() -> None:
    codec = Codec.model_validate(
        {
            "name": "half",
            "size": "16",
            "tensors": [{"name": "h", "datatype": "FP16", "shape": [1, 8]}],
            "encoder": artifact("e").to_api(),
            "decoder": artifact("d").to_api(),
            "encode": "1kOP",
            "decode": "1kOP",
        }
    )
    split = plan("drone-1", "edge-1")
    first, last = split.partitions
    coded = replace(split, exit="exit-1", partitions=(first, replace(last, codec=codec, taken_from=("early",))))
    world = World(planner=lambda _: replace(feasible("drone-1"), plan=coded))
    world.settle()
    entry, partner = (slots(world)[n].revisions[0] for n in ("drone-1", "edge-1"))
    assert entry.stage is not None
    assert partner.stage is not None
    assert (entry.variant, partner.variant) == ("int8:exit-1", "int8:exit-1")
    assert (entry.stage.decoder, partner.stage.encoder) == (None, None)
    assert entry.stage.encoder is not None
    assert partner.stage.decoder is not None
    assert entry.stage.encoder.artifact.digest == artifact("e").digest
    assert partner.stage.decoder.artifact.digest == artifact("d").digest
    assert entry.stage.encoder.tensors == partner.stage.decoder.tensors
    assert (entry.stage.taken_from, partner.stage.taken_from) == ((), ("early",))


@pytest.mark.parametrize(
    ("case", "memory", "spare", "gap", "want"),
    [
        ("both fit", "20Mi", False, "0s", "SideBySide"),
        ("full, a fallback bridges", "1.5Mi", True, "0s", "Bridge"),
        ("full, a gap is allowed", "1.5Mi", False, "2s", "InPlace"),
        ("full, nothing is allowed: it must fit or be abandoned", "1.5Mi", False, "0s", "SideBySide"),
    ],
)
def test_strategy__follows_from_memory(case: str, memory: str, spare: bool, gap: str, want: str) -> None:
    world = World(planner=lambda _: feasible("drone-1", "edge-1", spare=spare))
    world.mission = mission(continuity={"maxGap": gap})
    world.settle()
    verdict = feasible("drone-1", "edge-2")
    of = replace(
        world.scope(),
        snapshot=hailo(memory=memory),
        verdict=verdict,
        trigger="NodeLost",
        inputs_digest="sha256:" + "d" * 64,
    )
    outcome = decide(of)
    assert [o["spec"]["switch"]["strategy"] for o in outcome.create if o["kind"] == "Placement"] == [want], case
    held = {d.slot: [r.revision for r in d.revisions] for n, d in outcome.slots if n == "drone-1"}
    assert list(held.values()) == [[1, 2] if want == "SideBySide" else [2]], case


def test_placement__records_the_plan_in_terms_of_the_api() -> None:
    placement = made(first(verdict=feasible("drone-1", "edge-1", spare=True, simulated=True)), "Placement")[0]
    spec = placement["spec"]
    assert placement["metadata"]["name"] == "cctv-1"
    assert (spec["revision"], spec["epoch"], spec["reason"]) == (1, 7, "FirstPlacement")
    assert spec["predicted"]["latency"] == {"value": "40ms", "basis": "Modelled"}
    assert spec["predicted"]["accuracy"] == {"value": "75.4%", "basis": "Declared"}
    assert [(p["node"], p["pace"]) for p in spec["partitions"]] == [
        ("drone-1", {"time": "10ms", "energy": "50mJ"}),
        ("edge-1", {"time": "10ms", "energy": "50mJ"}),
    ]
    assert spec["fallback"]["partition"]["node"] == "drone-1"
    assert "status" not in placement


@pytest.mark.parametrize(
    ("case", "held", "again", "offered", "moves"),
    [
        ("sufficiently better", 0.5, None, 0.56, True),
        ("only slightly better", 0.5, None, 0.54, False),
        ("the serving plan has become as good", 0.3, 0.5, 0.54, False),
        ("the serving plan has become worse", 0.9, 0.4, 0.5, True),
        ("the value of the serving plan is unknown", None, None, 0.9, False),
    ],
)
def test_improvement__must_be_worth_a_move(
    case: str, held: float | None, again: float | None, offered: float, moves: bool
) -> None:
    world = World(planner=lambda _: feasible("drone-1", "edge-1"))
    world.settle()
    incumbent = None if again is None else plan("drone-1", "edge-1", objective=again)
    known = {} if held is None else {"demo/cctv": plan("drone-1", "edge-1", objective=held)}
    of = replace(
        world.scope(),
        trigger="Improvement",
        inputs_digest="sha256:" + "d" * 64,
        verdict=replace(feasible("drone-1", objective=offered), incumbent=incumbent),
        snapshot=snapshot(current_plans=known),
    )
    assert [o["kind"] for o in decide(of).create] == (["Placement"] if moves else []), case
