"""Operator settings, read from environment variables that the chart sets."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from maleo_operator.reconcilers.scope import SlotSettings
from maleo_service.environment import read_variable, split_names
from maleo_wire.address import join_host_port


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one replica.

    kubeconfig: None = use the pod's ServiceAccount; address: `ip:port` at which agents reach this replica.
    """

    namespace: str
    identity: str
    address: str
    lease: str
    ingest_port: int
    health_port: int
    metrics_port: int
    kubeconfig: Path | None
    audience: str
    slots: SlotSettings
    agent_account: str = "maleo-agent"  # the agents' ServiceAccount, in `namespace`
    watch_namespaces: tuple[str, ...] = ()  # namespaces to serve; empty = all
    decision_log: Path | None = None  # folder for the inputs of recent decisions; None = they are not stored

    @classmethod
    def read(cls) -> "Settings":
        """Read the settings. Raise InvalidVariable for a missing or malformed variable."""
        port = read_variable("MALEO_INGEST_PORT", int, "9807")
        return cls(
            namespace=read_variable("MALEO_NAMESPACE", str, "maleo-system"),
            identity=read_variable("MALEO_POD_NAME", str, socket.gethostname()),
            address=join_host_port(read_variable("MALEO_POD_IP", str, "127.0.0.1"), port),
            lease=read_variable("MALEO_LEASE", str, "maleo-operator"),
            ingest_port=port,
            health_port=read_variable("MALEO_HEALTH_PORT", int, "8081"),
            metrics_port=read_variable("MALEO_METRICS_PORT", int, "8082"),
            kubeconfig=read_variable("KUBECONFIG", _path, ""),
            audience="maleo-operator",
            agent_account=read_variable("MALEO_AGENT_ACCOUNT", str, "maleo-agent"),
            watch_namespaces=read_variable("MALEO_WATCH_NAMESPACES", split_names, ""),
            decision_log=read_variable("MALEO_ARCHIVE", _path, ""),
            slots=SlotSettings(
                image=read_variable("MALEO_SLOT_IMAGE", str),
                image_pull_policy=read_variable("MALEO_SLOT_PULL_POLICY", str, "IfNotPresent"),
                agent_port=read_variable("MALEO_AGENT_PORT", int, "9808"),
                cpu_request=read_variable("MALEO_SLOT_CPU_REQUEST", _cores, "50m"),
                cpu_limit=read_variable("MALEO_SLOT_CPU_LIMIT", _cores, "0"),
                tolerations=tuple(read_variable("MALEO_SLOT_TOLERATIONS", json.loads, "[]")),
                priority_classes=read_variable("MALEO_SLOT_PRIORITY_CLASSES", json.loads, "{}"),
                cache_bytes=read_variable("MALEO_CACHE_BYTES", int, str(8 * 1024**3)),
                hop_timeout_s=read_variable("MALEO_HOP_TIMEOUT_SECONDS", float, "1.0"),
            ),
        )


def _cores(text: str) -> float:
    """Return the cores of a Kubernetes CPU quantity such as `50m`, `0.5` or `2`."""
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def _path(text: str) -> Path | None:
    return Path(text) if text else None
