"""The examples as users run them: they load, refer only to existing objects, and have the documented plans."""

from dataclasses import replace

import pytest
import yaml

from maleo_api.manifests import Node, load
from maleo_api.meta import Metadata
from maleo_api.mission import Mission
from maleo_api.quantities import DURATION, RATE, parse
from maleo_planner.joint.fleet import plan_all
from maleo_planner.planner import plan
from maleo_planner.types.from_manifests import from_manifests
from maleo_planner.types.problem import Estimate, Feasible, Infeasible, Observations, Snapshot
from support.paths import ROOT

_PROFILES = ROOT / "charts/maleo/profiles"
_MODELS = ROOT / "examples/models"
_DEMO = "default/drone-surveillance"


def _node(labels: dict[str, str]) -> Node:
    return Node(kind="Node", metadata=Metadata(name=labels["maleo.dev/name"], labels=labels))


@pytest.fixture(scope="module")
def fleet() -> Snapshot:
    return from_manifests(load([_PROFILES, _MODELS, ROOT / "examples/fleet", ROOT / "examples/missions"]))


@pytest.fixture(scope="module")
def demo() -> Snapshot:
    rows = yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))["nodes"]
    nodes = [_node(row["labels"]) for row in rows if "labels" in row]
    manifests = load([_PROFILES, _MODELS, ROOT / "examples/demo"])
    return from_manifests(replace(manifests, nodes={node.key: node for node in nodes}))


@pytest.mark.parametrize("which", ["fleet", "demo"])
def test_examples__refer_only_to_existing_objects(which: str, request: pytest.FixtureRequest) -> None:
    snapshot: Snapshot = request.getfixturevalue(which)
    declared = {d.profile for device in snapshot.devices.values() for d in device.spec.declared}
    nodes = {device.spec.node_name for device in snapshot.devices.values()}
    places = [place for link in snapshot.links.values() for place in link.spec.between]
    assert declared <= set(snapshot.profiles)
    assert nodes == set(snapshot.nodes)
    assert {p.node for p in places if p.node} <= nodes
    assert {p.site for p in places if p.site} <= {node.site for node in snapshot.nodes.values()}
    assert {f"default/{m.spec.model.name}" for m in snapshot.missions.values()} <= set(snapshot.models)


def test_fleet__is_six_nodes_over_two_sites_and_a_cloud(fleet: Snapshot) -> None:
    places = sorted((node.site, node.tier.value, name) for name, node in fleet.nodes.items())
    assert places == [
        ("cloud", "Cloud", "cloud-z1"),
        ("field-a", "Device", "drone-a1"),
        ("field-a", "Edge", "edge-a1"),
        ("plant-b", "Device", "camera-b1"),
        ("plant-b", "Device", "robot-b1"),
        ("plant-b", "Edge", "edge-b1"),
    ]


def test_fleet_and_demo__share_no_node_so_that_both_can_be_loaded_together(fleet: Snapshot, demo: Snapshot) -> None:
    assert not set(fleet.nodes) & set(demo.nodes)
    assert not set(fleet.missions) & set(demo.missions)


def test_examples__load_all_together() -> None:
    assert len(load([ROOT / "examples", _PROFILES]).of(Mission)) >= 9


_MISSIONS = {
    f"{mission.metadata.name} of {folder}": mission
    for folder in ("missions", "demo")
    for mission in load([ROOT / "examples" / folder]).of(Mission).values()
}


@pytest.mark.parametrize("name", _MISSIONS)
def test_latency__can_be_judged_at_the_missions_own_demand(name: str) -> None:
    """A window that never holds its samples would leave LatencyMet Unknown forever."""
    spec = _MISSIONS[name].spec
    assert spec.objectives.latency is not None
    window = parse(DURATION, spec.objectives.latency.window)
    assert parse(RATE, spec.demand.rate) * window >= 1.1 * spec.objectives.latency.required_samples, (
        "and a few may be late"
    )


_PLANS = {
    "drone-patrol": ("Split", "fp32", ("drone-a1", "edge-a1")),
    "guide-dog-obstacles": ("Local", "int8", ("robot-b1",)),
    "cctv-query": ("Remote", "int8", ("camera-b1", "edge-b1")),
    "factory-inspection": ("Local", "fp32", ("camera-b1",)),
    "hospital-imaging": ("Local", "fp32", ("edge-b1",)),
    "emergency-vehicle": ("Local", "int8", ("edge-a1",)),
    "iot-sensor-net": ("Local", "fp32", ("drone-a1",)),
}


def test_missions__are_placed_together_as_documented(fleet: Snapshot) -> None:
    verdicts = plan_all(fleet)
    placed = {key: v.plan for key, v in verdicts.items() if isinstance(v, Feasible)}
    assert {k.removeprefix("default/"): (p.mode, p.variant, p.nodes) for k, p in placed.items()} == _PLANS
    infeasible = {key: v for key, v in verdicts.items() if isinstance(v, Infeasible)}
    assert list(infeasible) == ["default/uam-detect-avoid"]
    verdict = infeasible["default/uam-detect-avoid"]
    assert verdict.blockers[0].code == "LatencyTooTight"
    assert [r.objective for r in verdict.relaxations] == ["latency"]


def test_demo__is_predicted_to_have_its_mean_as_its_median(demo: Snapshot) -> None:
    """The report of the demo states this."""
    mission = demo.missions[_DEMO].model_dump(by_alias=True)
    mission["spec"]["objectives"]["latency"]["percentile"] = 50
    verdict = plan(replace(demo, missions={_DEMO: Mission.model_validate(mission)}), _DEMO)
    assert isinstance(verdict, Feasible)
    assert verdict.plan.latency.value == pytest.approx(verdict.plan.latency_mean.value)
    assert verdict.plan.latency_mean.sigma > 0


def test_demo__splits_the_model_and_moves_back_when_the_link_is_slow(demo: Snapshot) -> None:
    fast = plan(demo, _DEMO)
    assert isinstance(fast, Feasible)
    assert (fast.plan.mode, fast.plan.nodes) == ("Split", ("drone-1", "edge-1"))
    slow_link = Observations(bandwidth={("drone-1", "edge-1"): Estimate(4e6 / 8, 2e4)})
    slow = plan(replace(demo, observations=slow_link, current_plans={_DEMO: fast.plan}), _DEMO)
    assert isinstance(slow, Feasible)
    assert slow.plan.mode == "Local"
