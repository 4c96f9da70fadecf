"""Devcluster commands: one at a time, and `down` removes everything that earlier commands recorded."""

import fcntl
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from maleo_devcluster import cluster, host, network
from maleo_devcluster.cluster import Cluster, Folders
from maleo_devcluster.process import Process, start
from maleo_devcluster.state import NoCluster
from maleo_devcluster.topology import InvalidTopology, Node, load, parse
from support.paths import ROOT

_WORKER = "{role: worker, labels: {maleo.dev/name: a}}"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Return the folders of a cluster without networks and cgroups, which require root."""
    monkeypatch.setattr(host, "check_machine", lambda: None)
    monkeypatch.setattr(network, "remove", lambda _nodes: None)
    monkeypatch.setattr(cluster, "remove_cgroups", lambda _node: None)
    (tmp_path / "state").mkdir()
    return Folders(state=tmp_path / "state", cache=tmp_path / "cache", lock=tmp_path / "lock")


def _record(folders: Folders, processes: list[Process], **facts: Any) -> None:
    rows = [{**asdict(process), "log": str(process.log)} for process in processes]
    record = {"nodes": [asdict(Node("drone-1", 1, {}))], "processes": rows, **facts}
    (folders.state / "state.json").write_text(json.dumps(record), encoding="utf-8")


def test_second_command__is_rejected_while_the_first_runs(folders: Folders) -> None:
    with folders.lock.open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        with pytest.raises(NoCluster, match="another command is changing this cluster"):
            cluster.down(folders)
    cluster.down(folders)  # the lock is released with its holder


def test_down__removes_the_remains_of_a_crash_and_restores_settings(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`up` was killed half-way: programs run, settings are changed, and the kubeconfig does not exist yet."""
    left = [start(name, ["sleep", "600"], folder=folders.state / "nodes") for name in ("node-drone-1", "etcd")]
    restored: list[dict[str, str]] = []
    monkeypatch.setattr(host, "restore_settings", restored.append)
    made = host.make_mount_points([str(tmp_path / "var/lib/kubelet")])
    data = tmp_path / "etcd-data"
    data.mkdir()
    _record(folders, left, settings={"net.ipv4.ip_forward": "0"}, mount_points=made, data=str(data))
    with pytest.raises(NoCluster, match="partly started: `maleo cluster up` removes the rest"):
        Cluster.current(folders)
    assert all(process.running for process in left)
    cluster.down(folders)
    assert not any(process.running for process in left)
    assert restored == [{"net.ipv4.ip_forward": "0"}]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock"]


def test_down__never_stops_another_process_that_reuses_a_pid(folders: Folders, tmp_path: Path) -> None:
    other = start("other", ["sleep", "600"], folder=tmp_path / "log")
    _record(folders, [Process("etcd", other.pid, started="1", log=other.log)])
    cluster.down(folders)
    assert other.running
    other.stop(kill=True)
    assert not other.running


def test_down__without_a_cluster_succeeds(folders: Folders) -> None:
    cluster.down(folders)
    with pytest.raises(NoCluster, match="no devcluster is running: start one with `maleo cluster up`"):
        Cluster.current(folders)


def test_unknown_node__is_rejected_with_the_known_nodes(folders: Folders) -> None:
    _record(folders, [], kubeconfig="k", audit_log="a", programs="p")
    with pytest.raises(NoCluster, match="unknown node 'edge-9': the nodes are drone-1"):
        Cluster.current(folders).kill_node("edge-9")


def test_node_started_by_another_command__is_not_forgotten(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two handles of the same cluster each start a node: `down` must stop both."""
    nodes = [Node("drone-1", 1, {}), Node("edge-1", 2, {})]
    log = tmp_path / "log"
    ended = [Process(f"node-{node.name}", pid=2**22 + 1, started="1", log=log) for node in nodes]
    _record(folders, ended, kubeconfig="k", audit_log="a", programs="p")
    record = json.loads((folders.state / "state.json").read_text(encoding="utf-8"))
    record["nodes"] = [asdict(node) for node in nodes]
    (folders.state / "state.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(
        cluster, "start_node", lambda node, _files: start(f"node-{node.name}", ["sleep", "600"], folder=tmp_path)
    )
    one, other = Cluster.current(folders), Cluster.current(folders)
    one.start_node("drone-1")
    other.start_node("edge-1")
    assert one.status() == other.status() == {"node-drone-1": True, "node-edge-1": True}
    cluster.down(folders)
    with pytest.raises(NoCluster):
        one.status()


def test_kind_configuration__gives_a_node_for_each_worker() -> None:
    nodes = load(ROOT / "kind-config.yaml")
    assert [(n.name, n.address, n.pods) for n in nodes] == [
        ("drone-1", "172.30.99.11", "10.244.1.0/24"),
        ("gate-1", "172.30.99.12", "10.244.2.0/24"),
        ("edge-1", "172.30.99.13", "10.244.3.0/24"),
        ("cloud-1", "172.30.99.14", "10.244.4.0/24"),
    ]
    assert {n.labels["maleo.dev/tier"] for n in nodes} == {"Device", "Edge", "Cloud"}
    assert len({n.labels["maleo.dev/site"] for n in nodes}) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod", "requires `kind: Cluster` and a list `nodes`"),
        ("[]", "requires `kind: Cluster` and a list `nodes`"),
        ("{kind: Cluster, nodes: [{role: control-plane}]}", "requires 1 to 50 workers, not 0"),
        (
            f"{{kind: Cluster, nodes: [{_WORKER}, {_WORKER}]}}",
            "duplicate label maleo.dev/name: a",
        ),
    ],
)
def test_invalid_kind_configuration__is_rejected_with_the_requirement(text: str, words: str) -> None:
    with pytest.raises(InvalidTopology, match=rf"^mine\.yaml: .*{words}"):
        parse(text, source="mine.yaml")


def test_slow_link__has_a_class_and_rules_of_its_own_on_each_sender() -> None:
    drone, edge = load(ROOT / "kind-config.yaml")[0], load(ROOT / "kind-config.yaml")[2]
    commands = [" ".join(c) for c in network.add_limit(drone, edge, 4_000_000)]
    assert commands == [
        "tc -n drone-1 class replace dev eth0 parent 1: classid 1:d htb rate 4000000bit burst 16k",
        "tc -n drone-1 filter add dev eth0 parent 1: protocol ip prio 103 u32 match ip dst 172.30.99.13/32 flowid 1:d",
        "tc -n drone-1 filter add dev eth0 parent 1: protocol ip prio 203 u32 match ip dst 10.244.3.0/24 flowid 1:d",
    ]
