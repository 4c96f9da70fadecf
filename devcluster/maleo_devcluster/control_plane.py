"""Control plane: etcd and kube-apiserver, optionally with the controller manager and the scheduler."""

import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from maleo_devcluster.certificates import Authority, KeyPair
from maleo_devcluster.process import Process, await_ready, start

SERVICES: Final = "10.96.0.0/16"
SERVICES_FIRST: Final = "10.96.0.1"
_READY_S: Final = 60.0
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
) -> ControlPlane:
    """Start a control plane in `folder`, without root. Ports are ephemeral unless `port` (of the API server) is given.

    controllers: also start the controller manager and the scheduler; a node without a heartbeat for `node_grace_s`
    seconds is NotReady.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder / "pki")
    port = port or _free_port()
    etcd, etcd_url, data = _start_etcd(programs["etcd"], folder)
    url = f"https://{address}:{port}"
    admin = authority.issue("admin", common_name="admin", organisation="system:masters")
    service_accounts = authority.make_service_account_keys()
    audit_log = folder / "audit.log"
    audit_log.unlink(missing_ok=True)
    api = _start_api_server(programs["kube-apiserver"], folder, authority, service_accounts, etcd_url, address, port)
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


def _start_etcd(program: Path, folder: Path) -> tuple[Process, str, Path]:
    client, peer = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
    memory = Path("/dev/shm")  # noqa: S108 - etcd syncs every write; tests need no durability
    data = (memory if memory.is_dir() else folder) / f"maleo-etcd-{client.rpartition(':')[2]}"
    shutil.rmtree(data, ignore_errors=True)
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
    return process, client, data


def _start_api_server(
    program: Path,
    folder: Path,
    authority: Authority,
    service_accounts: KeyPair,
    etcd_url: str,
    address: str,
    port: int,
) -> Process:
    serving = authority.issue(
        "apiserver",
        common_name="kube-apiserver",
        names=[*_DNS_NAMES, *dict.fromkeys(["127.0.0.1", SERVICES_FIRST, address])],
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
        "service-cluster-ip-range": SERVICES,
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
    return start("kube-apiserver", [str(program), *_flags(flags)], folder=folder / "log")


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
        "kube-controller-manager": manager_flags | common | {"secure-port": _free_port()},
        "kube-scheduler": _kubeconfig_flags(scheduler) | common | {"secure-port": _free_port()},
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
