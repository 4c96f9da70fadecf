"""One node: kubelet, containerd and kube-proxy in separate Linux namespaces."""

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from maleo_devcluster import network
from maleo_devcluster.certificates import Authority
from maleo_devcluster.host import MOUNT_POINTS
from maleo_devcluster.process import Process, start
from maleo_devcluster.topology import BRIDGE_ADDRESS, PODS, REGISTRY, Node

_INIT: Final = Path(__file__).with_name("node-init.sh")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_KILL_TIMEOUT_S: Final = 10.0
_CONTAINERD: Final = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{registry}/maleo/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Paths that a node needs to start, also after it was killed."""

    folder: Path
    programs: Path


def write_node_files(node: Node, files: NodeFiles, authority: Authority, url: str) -> None:
    """Write the keys and the configuration of a node; a restart reuses them."""
    folder = files.folder
    (folder / "log").mkdir(parents=True, exist_ok=True)
    serving = authority.issue(
        f"node-{node.name}",
        common_name=f"system:node:{node.name}",
        organisation="system:nodes",
        names=[node.name, node.address],
        server=True,
    )
    authority.write_kubeconfig(folder / "kubelet.conf", server=url, user=serving)
    proxy = authority.issue("kube-proxy", common_name="system:kube-proxy")
    authority.write_kubeconfig(folder / "proxy.conf", server=url, user=proxy)
    kubelet = _kubelet(node) | {"tlsCertFile": str(serving.certificate), "tlsPrivateKeyFile": str(serving.key)}
    kubelet["authentication"]["x509"]["clientCAFile"] = str(authority.certificate)
    _write(folder / "kubelet.yaml", kubelet)
    _write(folder / "proxy.yaml", _kube_proxy(node, folder))
    _write(folder / "etc/cni/net.d/10-maleo.conflist", _cni(node))
    plugins = next((p for p in ("/usr/lib/cni", "/opt/cni/bin") if Path(p).is_dir()), "/opt/cni/bin")
    containerd = _CONTAINERD.format(registry=REGISTRY, plugins=plugins, folder=folder)
    (folder / "containerd.toml").write_text(containerd, encoding="utf-8")
    hosts = folder / "certs.d" / REGISTRY / "hosts.toml"
    hosts.parent.mkdir(parents=True, exist_ok=True)
    mirror = f'[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n'
    hosts.write_text(f'server = "http://{REGISTRY}"\n\n{mirror}', encoding="utf-8")


def start_node(node: Node, files: NodeFiles) -> Process:
    """Start the node's processes; return before the node is Ready."""
    make_cgroups(node)
    # Killing `unshare` kills the node's init process, and with it all processes of its PID namespace.
    command = [
        *("nsenter", f"--net=/run/netns/{node.name}"),
        *("unshare", "-m", "-p", "-u", "-i", "--fork", "--mount-proc", "--kill-child=SIGKILL"),
        *("bash", str(_INIT)),
    ]
    labels = ",".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
    environment = {
        "NODE_NAME": node.name,
        "NODE_FOLDER": str(files.folder),
        "NODE_ADDRESS": node.address,
        "PROGRAMS": str(files.programs),
        "LABELS": labels,
        "MOUNT_POINTS": " ".join(MOUNT_POINTS),
    }
    return start(f"node-{node.name}", command, folder=files.folder / "log", environment=environment)


def kill_all(node: Node) -> None:
    """Kill all processes in the node's network namespace, for at most 10 s.

    A killed command may have started processes without recording them.
    """
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    while (inside := network.list_processes(node)) and time.monotonic() < deadline:
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def make_cgroups(node: Node) -> None:
    """Create the kubelet's `cgroupRoot`: one cgroup per hierarchy (v1), or one with controllers enabled (v2)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        controllers = (_CGROUPS / "cgroup.controllers").read_text(encoding="ascii").split()
        controllers_enabled = " ".join(f"+{c}" for c in ("cpu", "cpuset", "memory", "pids", "io") if c in controllers)
        (_CGROUPS / "cgroup.subtree_control").write_text(controllers_enabled, encoding="ascii")
        (_CGROUPS / node.name).mkdir(exist_ok=True)
        (_CGROUPS / node.name / "cgroup.subtree_control").write_text(controllers_enabled, encoding="ascii")
        return
    for hierarchy in _hierarchies():
        (hierarchy / node.name).mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cpuset, which no process can join
        parent = _CGROUPS / "cpuset" / name
        if parent.exists():
            (_CGROUPS / "cpuset" / node.name / name).write_text(parent.read_text(encoding="ascii"), encoding="ascii")


def remove_cgroups(node: Node) -> None:
    """Remove the node's cgroups bottom-up; a cgroup that still has processes stays."""
    for hierarchy in [_CGROUPS, *_hierarchies()]:
        top = hierarchy / node.name
        folders = sorted((p for p in top.rglob("*") if p.is_dir()), key=lambda p: len(p.parts), reverse=True)
        for folder in [*folders, top]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _hierarchies() -> list[Path]:
    return [p for p in _CGROUPS.iterdir() if p.is_dir() and not p.is_symlink() and (p / "cgroup.procs").exists()]


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write the content as JSON, which is valid YAML and required by CNI plugins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _kubelet(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.name}",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {}},
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [
            BRIDGE_ADDRESS
        ],  # no DNS server runs there: Maleo needs none, but the kubelet warns about pods without one
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "memory.available": "100Mi",
        },
        "serializeImagePulls": False,
        "readOnlyPort": 0,
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 10,
    }


def _kube_proxy(node: Node, folder: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node.name,
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": str(folder / "proxy.conf")},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }


def _cni(node: Node) -> dict[str, Any]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": node.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "0.4.0",
        "name": "maleo",
        "plugins": [
            {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
