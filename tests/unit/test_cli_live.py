"""What the commands make of a cluster: what missions serve by is held, and `maleo explain` tells it."""

from pathlib import Path
from typing import Any

from worlds import by_mode

from maleo_api.manifests import Manifests, load
from maleo_api.mission import Mission
from maleo_api.placement import Placement
from maleo_cli.explain import describe
from maleo_cli.live import serving, snapshot_of
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Plan
from maleo_operator.planning.snapshot import from_manifests

ROOT = Path(__file__).parents[2]
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
    return Placement.model_validate({"metadata": metadata, "spec": spec})


def _cluster(*, active: int) -> tuple[Manifests, Plan]:
    """Revision 1 is what planning says, 2 all of it on the drone."""
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


def test_active_placement__is_held_so_that_leaving_it_is_a_move() -> None:
    cluster, best = _cluster(active=2)
    snapshot = snapshot_of(cluster)
    assert snapshot.held[KEY].mode == "Local"
    verdict = plan(snapshot, KEY)
    assert isinstance(verdict, Feasible)
    assert verdict.plan.mode == best.mode  # worth the move
    assert verdict.plan.terms["move"] < 0
    stays = plan(snapshot_of(_cluster(active=1)[0]), KEY)
    assert isinstance(stays, Feasible)
    assert "move" not in stays.plan.terms


def test_no_active_revision__nothing_is_held() -> None:
    cluster, _ = _cluster(active=7)
    assert snapshot_of(cluster).held == {}


def test_explain__begins_with_what_the_operator_reports() -> None:
    cluster, _ = _cluster(active=1)
    mission = cluster.of(Mission)[KEY]
    lines = describe(mission, serving(cluster, mission), None)
    assert lines[0] == "drone-patrol  Ready  revision 1, Split on drone-a1>edge-a1"
    assert [line.split() for line in lines[1:4]] == [
        ["limit", "predicted", "observed", "margin"],
        ["latency", "p95", "<=", "120ms", "61.3ms", "Declared", "unknown", "+40%"],
        ["energy", "<=", "900mJ", "unknown", "unknown"],
    ]
    assert "Parts: drone-a1 accel/npu [0..2] > edge-a1 accel/npu [3..31]" in lines
