"""Snapshots of a live cluster: an active Placement is the current plan, and `maleo explain` reports it."""

import shlex
from dataclasses import replace
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from maleo_api.manifests import Manifests, load
from maleo_api.meta import Basis
from maleo_api.mission import Mission
from maleo_api.placement import Placement
from maleo_cli.commands import explain
from maleo_cli.live_cluster import find_active, snapshot_of
from maleo_cli.main import app
from maleo_cli.output.mission_report import describe
from maleo_cli.replanning import describe_measurements
from maleo_kube.access import Access
from maleo_kube.errors import NotFound
from maleo_kube.resources import BY_KIND, Kind
from maleo_planner.planner import plan
from maleo_planner.types import measured
from maleo_planner.types.from_manifests import from_manifests
from maleo_planner.types.problem import Estimate, Feasible, Observations, Plan
from support.paths import ROOT
from support.planner.builders import by_mode

KEY = "default/drone-patrol"
FILES = ("examples/fleet", "examples/models", "charts/maleo/profiles", "examples/missions/drone-patrol.yaml")


def _placement(of: Plan, *, revision: int) -> Placement:
    digest = f"sha256:{'0' * 64}"

    def tensors(found: Any) -> list[dict[str, Any]]:
        return [tensor.to_api() for tensor in found]

    parts = [
        {
            "name": f"p{i}", "span": {"first": p.first, "last": p.last}, "node": p.node, "unit": p.unit,
            "memory": "1Mi", "inputs": tensors(p.inputs), "outputs": tensors(p.outputs),
        }
        for i, p in enumerate(of.partitions)
    ]  # fmt: skip
    spec = {
        "mission": "drone-patrol", "revision": revision, "epoch": 1, "mode": of.mode, "model": of.model,
        "variant": of.variant, "artifact": of.artifact.to_api(), "entryNode": of.entry_node, "partitions": parts,
        "predicted": {}, "reason": "FirstPlacement", "inputsDigest": digest,
    }  # fmt: skip
    metadata = {"name": f"drone-patrol-{revision}", "namespace": "default"}
    rejected = {"candidate": "hailo-8 npu", "count": 1, "code": "RuntimeUnsupported", "example": "camera-b1 accel/npu"}
    return Placement.model_validate({"metadata": metadata, "spec": spec, "status": {"rejected": [rejected]}})


def _cluster(*, active: int) -> tuple[Manifests, Plan]:
    """Return a cluster and the best plan; revision 1 is that plan, revision 2 runs completely on the drone."""
    read = load([ROOT / file for file in FILES])
    verdict = plan(from_manifests(read), KEY)
    assert isinstance(verdict, Feasible)
    placements = [
        _placement(verdict.plan, revision=1),
        _placement(by_mode(from_manifests(read), KEY)["Local"], revision=2),
    ]
    mission = read.of(Mission)[KEY]
    figure = {"value": "61.3ms", "basis": "Declared"}
    status = {
        "active": {"revision": active, "epoch": 1}, "mode": "Split", "nodes": "drone-a1>edge-a1",
        "predicted": {"latency": figure}, "margins": {"latency": "+40%"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "message": "revision 1 serves"}],
    }  # fmt: skip
    serves = Mission.model_validate({**mission.to_api(), "status": status})
    found = {**read.resources, "Mission": {KEY: serves}, "Placement": {p.key: p for p in placements}}
    return Manifests(found, read.nodes), verdict.plan


def test_active_placement__is_the_current_plan_and_leaving_it_costs_a_move() -> None:
    cluster, best = _cluster(active=2)
    snapshot = snapshot_of(cluster)
    assert snapshot.current_plans[KEY].mode == "Local"
    verdict = plan(snapshot, KEY)
    assert isinstance(verdict, Feasible)
    assert verdict.plan.mode == best.mode  # worth the move
    assert verdict.plan.terms["move"] < 0
    unchanged = plan(snapshot_of(_cluster(active=1)[0]), KEY)
    assert isinstance(unchanged, Feasible)
    assert "move" not in unchanged.plan.terms


def test_no_active_revision__gives_no_current_plan() -> None:
    cluster, _ = _cluster(active=7)
    assert snapshot_of(cluster).current_plans == {}


def test_explain__begins_with_what_the_operator_reports() -> None:
    cluster, _ = _cluster(active=1)
    mission = cluster.of(Mission)[KEY]
    lines = describe(mission, find_active(cluster, mission), None)
    assert lines[0] == "drone-patrol  Ready  revision 1, Split on drone-a1>edge-a1"
    assert [line.split() for line in lines[1:4]] == [
        ["limit", "predicted", "observed", "margin"],
        ["latency", "p95", "<=", "120ms", "61.3ms", "Declared", "unknown", "+40%"],
        ["energy", "<=", "900mJ", "unknown", "unknown"],
    ]
    assert "Partitions: drone-a1 accel/npu [0..2] > edge-a1 accel/npu [3..31]" in lines


def test_measurements_of_the_last_decision__are_used_and_reported() -> None:
    """The operator moved away from a slow link; with declared figures, the former plan would be recommended."""
    cluster, best = _cluster(active=2)
    slow = Observations(
        bandwidth={("drone-a1", "edge-a1"): Estimate(1e4, 1e3, Basis.MEASURED, "slots")},
        correction={(best.artifact.digest, "drone-a1", "accel/npu"): Estimate(1.25, 0.1, Basis.CALIBRATED, "slots")},
        capacity={("edge-a1", "gpu"): 0.5, ("drone-a1", "accel/npu"): 1.0},
    )
    digest = f"sha256:{'1' * 64}"
    decision = measured.record_observations(
        slow, reason="LatencyDrift", inputs_digest=digest, nodes=["drone-a1"], digests={best.artifact.digest}
    )
    mission = cluster.of(Mission)[KEY]
    decided = mission.model_copy(update={"status": mission.status.model_copy(update={"decision": decision})})
    there = replace(cluster, resources={**cluster.resources, "Mission": {KEY: decided}})
    by_declared, by_measured = plan(snapshot_of(cluster), KEY), plan(snapshot_of(there, first=KEY), KEY)
    assert isinstance(by_declared, Feasible)
    assert isinstance(by_measured, Feasible)
    assert by_declared.plan.nodes == best.nodes
    assert by_measured.plan.nodes != best.nodes
    assert describe_measurements(decided) == [
        "Planned now, with the measurements of the last decision (LatencyDrift)",
        "  link drone-a1 > edge-a1: 80kbit/s, standard deviation 8kbit/s",
        f"  drone-a1 accel/npu: 125% of the declared compute time for artifact {best.artifact.digest[7:19]}",
        "  edge-a1 gpu: throttled to 50% of its speed",
    ]
    assert describe_measurements(mission) == ["Planned now, with declared figures"]
    assert f"Last decision: LatencyDrift, inputs {digest}" in describe(decided, None, None)


def test_recorded_measurements__are_limited_to_those_of_the_relevant_nodes() -> None:
    many = {
        (f"n{a}", f"n{b}"): Estimate(1e6 + a, 0.0, Basis.MEASURED, "s") for a in range(20) for b in range(20) if a != b
    }
    decision = measured.record_observations(
        Observations(bandwidth=many), reason="Retry", inputs_digest=f"sha256:{'1' * 64}", nodes=["n7", "n9"], digests=()
    )
    pairs = [(link.source, link.target) for link in decision.links]
    assert len(pairs) == 32
    assert pairs[0] == ("n7", "n9")
    assert {source for source, _ in pairs} == {"n7", "n9"}
    restored = measured.restore_observations([decision]).bandwidth
    assert all(abs(restored[pair].value - many[pair].value) < 1e-3 * many[pair].value for pair in pairs)


def _connect(monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    access = Access(url="http://none", tls=None, authorize=str, namespace="default")
    monkeypatch.setattr("maleo_cli.connection.load_access_now", lambda *_: access)
    monkeypatch.setattr(reader, _read)


def _read(_access: Access, _system_namespace: str) -> Manifests:
    """Return the objects of a fake API server: a mission that serves, and an infeasible one of another team."""
    cluster, _ = _cluster(active=1)
    mission = cluster.of(Mission)[KEY]
    metadata = mission.metadata.model_copy(update={"namespace": "team-b", "name": "hopeless"})
    hopeless = mission.model_copy(update={"metadata": metadata})
    missions = {KEY: mission, hopeless.key: hopeless}  # there is no Model in that namespace
    return replace(cluster, resources={**cluster.resources, "Mission": missions})


def test_plan_of_a_cluster__exits_by_the_result_of_the_selected_missions(monkeypatch: pytest.MonkeyPatch) -> None:
    _connect(monkeypatch, "maleo_cli.commands.plan.read_cluster")

    def ends(*arguments: str) -> int:
        result = CliRunner().invoke(app, ["plan", "--live", *arguments])
        assert "hopeless" in result.stdout, "all missions are planned and shown"
        return result.exit_code

    mine = ["-f", str(ROOT / "examples/missions/drone-patrol.yaml")]
    assert ends() == 1, "no mission is selected: all of them count"
    assert ends(*mine) == 0
    assert ends("--set", "drone-patrol.objectives.latency.atMost=110ms") == 0
    assert ends("--set", "drone-patrol.model.name=none") == 1
    assert ends(*mine, "--set", "team-b/hopeless.suspend=true") == 1
    assert ends("-f", str(ROOT / "examples/models")) == 1, "no mission among the manifests"


class _ReaderOfManifests:
    """Reader of the objects that `_read` returns."""

    def __init__(self, access: Access) -> None:
        self._cluster = _read(access, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get(self, kind: Kind, name: str, *, namespace: str) -> dict[str, Any]:
        found = next((k for k, known in BY_KIND.items() if known is kind), "")
        item = self._cluster.resources.get(found, {}).get(f"{namespace}/{name}")
        if item is None:
            raise NotFound("not found", status=404)
        return item.to_api()


def _connect_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    _connect(monkeypatch, "maleo_cli.replanning.read_cluster")
    monkeypatch.setattr(explain, "Reader", _ReaderOfManifests)


def test_explain__reports_the_decision_of_the_operator_without_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    _connect_explain(monkeypatch)
    result = CliRunner().invoke(app, ["explain", "drone-patrol", "-n", "default"])
    assert result.exit_code == 0, result.stdout
    assert "revision 1, Split on drone-a1>edge-a1" in result.stdout
    assert "Rejected when revision 1 was planned, the largest classes first" in result.stdout
    assert "  hailo-8 npu  1      RuntimeUnsupported          camera-b1 accel/npu" in result.stdout
    assert "Planned now" not in result.stdout
    assert result.stdout.endswith("Alternatives: maleo explain drone-patrol -n default --plan\n")


def test_explain__exits_with_code_1_if_the_mission_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    _connect_explain(monkeypatch)
    monkeypatch.setattr("maleo_cli.commands.explain.is_ready", lambda _: False)
    assert CliRunner().invoke(app, ["explain", "drone-patrol", "-n", "default"]).exit_code == 1


def test_suggested_commands__can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    _connect_explain(monkeypatch)
    where = ["--kubeconfig", "/my clusters/field", "--context", "lab"]
    given = ["drone-patrol", "-n", "default", *where, "--system-namespace", "maleo-2"]
    first = CliRunner().invoke(app, ["explain", *given])
    assert first.exit_code == 0, first.stdout
    outputs = [first.stdout]
    for hint, option in (("Alternatives: ", "--plan"), ("list all: ", "--all")):
        line = next(line for line in outputs[-1].splitlines() if hint in line).partition(": ")[2]
        program, *arguments = shlex.split(line)
        assert program == "maleo"
        assert arguments == ["explain", "drone-patrol", "-n", "default", option, *given[3:]]
        again = CliRunner().invoke(app, arguments)
        assert again.exit_code == 0
        assert len(again.stdout) > len(outputs[-1])
        outputs.append(again.stdout)
    assert "list all: " not in outputs[-1]
    missing = CliRunner().invoke(app, ["explain", "cctv", *given[1:]]).exception
    assert "list the missions: kubectl get missions -A --kubeconfig '/my clusters/field' --context lab" in str(missing)
