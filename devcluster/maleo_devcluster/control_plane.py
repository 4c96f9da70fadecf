"""Control plane: etcd and kube-apiserver, optionally with the controller manager and the scheduler."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import yaml

from maleo_devcluster.certificates import Authority, KeyPair
from maleo_devcluster.process import Process, await_ready, start
from maleo_devcluster.state import NoCluster

SERVICES: Final = "10.96.0.0/16"
_READY_S: Final = 60.0
_NODES_READY_S: Final = 90.0
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the data need no durability
_MEMORY_BYTES: Final = 1 << 30
_ETCD_FLAGS: Final = ("--unsafe-no-fsync=true", "--log-level=warn")
_DNS_NAMES: Final = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)

# Log writes with their outcome but no reads: the log attributes each write, and stays small. The operator's reads are
# logged too, to show which rights it uses.
_AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": ["system:serviceaccount:maleo-system:maleo-operator"]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "userGroups": ["system:nodes"]},
        {"level": "None", "users": ["system:kube-scheduler", "system:kube-controller-manager"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane. `ca_file`, `cert_file` and `key_file` are the credentials of an administrator."""

    url: str
    authority: Authority
    cert_file: Path
    key_file: Path
    kubeconfig: Path
    audit_log: Path
    processes: tuple[Process, ...]
    data: Path

    @property
    def ca_file(self) -> Path:
        """Return the path of the certificate authority."""
        return self.authority.certificate

    def stop(self) -> None:
        """Stop the processes in reverse order and remove the data of etcd."""
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.data, ignore_errors=True)


def start_control_plane(
    programs: Mapping[str, Path],
    folder: Path,
    *,
    address: str = "127.0.0.1",
    port: int | None = None,
    controllers: bool = False,
    node_grace_s: int = 12,
    data: Path | None = None,
    services: str = SERVICES,
    gateway: str = "",
    tunnel: str = "",
) -> ControlPlane:
    """Start a control plane in `folder`, without root. Ports are ephemeral unless `port` (of the API server) is given.

    Args:
        programs: Name -> path of the programs.
        folder: Folder for certificates, kubeconfigs and logs.
        address: Address of the API server.
        port: Port of the API server.
        controllers: Also start the controller manager and the scheduler.
        node_grace_s: Seconds without a heartbeat until a node is NotReady.
        data: Folder for etcd's data, by default that of `choose_data_folder`.
        services: Range of cluster IPs in CIDR notation.
        gateway: Address from which connections are forwarded to the API server; its certificate is also valid there.
        tunnel: URL of the HTTP CONNECT proxy (https) by which the API server reaches nodes and pods; empty: directly.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder / "pki")
    port = port or find_free_port()
    data = data or choose_data_folder(folder)
    etcd, etcd_url = _start_etcd(programs["etcd"], folder, data)
    url = f"https://{address}:{port}"
    admin = authority.issue("admin", common_name="admin", organisation="system:masters")
    service_accounts = authority.make_service_account_keys()
    audit_log = folder / "audit.log"
    audit_log.unlink(missing_ok=True)
    api = _start_api_server(
        programs["kube-apiserver"],
        folder,
        authority,
        service_accounts,
        etcd_url,
        address,
        port,
        services=services,
        gateway=gateway,
        tunnel=tunnel,
    )
    await_ready(api, lambda: _is_healthy(f"{url}/readyz", _tls(authority, admin)), timeout_s=_READY_S)
    processes = [etcd, api]
    if controllers:
        processes += _start_controllers(programs, folder, authority, service_accounts, url, node_grace_s)
    return ControlPlane(
        url=url,
        authority=authority,
        cert_file=admin.certificate,
        key_file=admin.key,
        kubeconfig=authority.write_kubeconfig(folder / "kubeconfig", server=url, user=admin),
        audit_log=audit_log,
        processes=tuple(processes),
        data=data,
    )


def await_nodes(plane: ControlPlane, count: int, *, logs: Path) -> None:
    """Wait until `count` nodes are Ready. Raise NoCluster after 90 s. logs: folder that the message names."""
    tls, deadline = _tls(plane.authority, KeyPair(plane.cert_file, plane.key_file)), time.monotonic() + _NODES_READY_S
    while True:
        ready = 0
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(f"{plane.url}/api/v1/nodes", context=tls, timeout=5) as answer:  # noqa: S310
                nodes = json.load(answer)["items"]
            ready = sum(
                any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"].get("conditions", ()))
                for n in nodes
            )
        if ready >= count:
            return
        if time.monotonic() > deadline:
            raise NoCluster(f"{ready} of {count} nodes Ready after {_NODES_READY_S:.0f} s: see the logs in {logs}")
        time.sleep(0.2)


def choose_data_folder(folder: Path) -> Path:
    """Return a new folder for etcd's data: in memory, where its many syncs cost nothing, or in `folder`.

    Containers have little memory there.
    """
    fits = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES
    return (_MEMORY if fits else folder) / f"maleo-etcd-{secrets.token_hex(4)}"


def _start_etcd(program: Path, folder: Path, data: Path) -> tuple[Process, str]:
    client, peer = (f"http://127.0.0.1:{find_free_port()}" for _ in range(2))
    flags = {
        "data-dir": data,
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    process = start("etcd", [str(program), *_flags(flags), *_ETCD_FLAGS], folder=folder / "log")
    await_ready(process, lambda: _is_healthy(f"{client}/health", None), timeout_s=_READY_S)
    return process, client


def _start_api_server(
    program: Path,
    folder: Path,
    authority: Authority,
    service_accounts: KeyPair,
    etcd_url: str,
    address: str,
    port: int,
    *,
    services: str,
    gateway: str,
    tunnel: str,
) -> Process:
    first_service = str(next(ip_network(services).hosts()))
    serving = authority.issue(
        "apiserver",
        common_name="kube-apiserver",
        names=[*_DNS_NAMES, *filter(None, dict.fromkeys(["127.0.0.1", first_service, address, gateway]))],
        server=True,
    )
    kubelet = authority.issue("apiserver-kubelet", common_name="kube-apiserver-kubelet", organisation="system:masters")
    policy = folder / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(_AUDIT_POLICY), encoding="utf-8")
    flags = {
        "etcd-servers": etcd_url,
        "bind-address": "127.0.0.1" if address == "127.0.0.1" else "0.0.0.0",  # noqa: S104 - nodes and host connect
        "secure-port": port,
        "advertise-address": address,
        "tls-cert-file": serving.certificate,
        "tls-private-key-file": serving.key,
        "client-ca-file": authority.certificate,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "service-cluster-ip-range": services,
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": service_accounts.certificate,
        "service-account-signing-key-file": service_accounts.key,
        "kubelet-client-certificate": kubelet.certificate,
        "kubelet-client-key": kubelet.key,
        "kubelet-certificate-authority": authority.certificate,
        "kubelet-preferred-address-types": "InternalIP",
        "enable-aggregator-routing": "true",
        "audit-policy-file": policy,
        "audit-log-path": folder / "audit.log",
        "audit-log-maxsize": 500,
        "profiling": "false",
    }
    if address == "127.0.0.1":
        flags["endpoint-reconciler-type"] = "none"  # an endpoint must not be a loopback address
        del flags["advertise-address"]
    if tunnel:
        flags["egress-selector-config-file"] = _write_egress(folder, authority, kubelet, tunnel)
    return start("kube-apiserver", [str(program), *_flags(flags)], folder=folder / "log")


def _write_egress(folder: Path, authority: Authority, user: KeyPair, tunnel: str) -> Path:
    """Write the configuration by which the API server reaches nodes, pods and Services through a tunnel."""
    tls = {
        "caBundle": str(authority.certificate),
        "clientCert": str(user.certificate),
        "clientKey": str(user.key),
    }
    transport = {"tcp": {"url": tunnel, "tlsConfig": tls}}
    config = {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [
            {"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}}
        ],
    }
    path = folder / "egress.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _start_controllers(
    programs: Mapping[str, Path], folder: Path, authority: Authority, keys: KeyPair, url: str, node_grace_s: int
) -> list[Process]:
    def config(program: str) -> str:
        user = authority.issue(program, common_name=f"system:{program}")
        return str(authority.write_kubeconfig(folder / f"{program}.conf", server=url, user=user))

    manager, scheduler = config("kube-controller-manager"), config("kube-scheduler")
    common = {"leader-elect": "false", "bind-address": "127.0.0.1"}
    manager_flags = _kubeconfig_flags(manager) | {
        "service-account-private-key-file": keys.key,
        "root-ca-file": authority.certificate,
        "cluster-signing-cert-file": authority.certificate,
        "cluster-signing-key-file": authority.key,
        "use-service-account-credentials": "true",
        "allocate-node-cidrs": "false",
        "node-monitor-period": "2s",
        "node-monitor-grace-period": f"{node_grace_s}s",
    }
    commands = {
        "kube-controller-manager": manager_flags | common | {"secure-port": find_free_port()},
        "kube-scheduler": _kubeconfig_flags(scheduler) | common | {"secure-port": find_free_port()},
    }
    return [start(n, [str(programs[n]), *_flags(f)], folder=folder / "log") for n, f in commands.items()]


def _kubeconfig_flags(path: str) -> dict[str, object]:
    return dict.fromkeys(["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"], path)


def _flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def _tls(authority: Authority, user: KeyPair) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(user.certificate, user.key)
    return context


def _is_healthy(url: str, tls: ssl.SSLContext | None) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2, context=tls) as response:  # noqa: S310 - addresses of this cluster
            return bool(response.status == 200)  # noqa: PLR2004 - OK
    except (urllib.error.URLError, OSError):
        return False


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that no program uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
