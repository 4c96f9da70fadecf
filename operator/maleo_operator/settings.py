"""Operator settings, read from environment variables that the chart sets."""

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from maleo_operator.reconcilers.scope import SlotSettings
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
        """Read the settings. Raise KeyError or ValueError for a missing or malformed variable."""
        kubeconfig = os.environ.get("KUBECONFIG", "")
        port = int(os.environ.get("MALEO_INGEST_PORT", "9807"))
        return cls(
            namespace=os.environ.get("MALEO_NAMESPACE", "maleo-system"),
            identity=os.environ.get("MALEO_POD_NAME", socket.gethostname()),
            address=join_host_port(os.environ.get("MALEO_POD_IP", "127.0.0.1"), port),
            lease=os.environ.get("MALEO_LEASE", "maleo-operator"),
            ingest_port=port,
            health_port=int(os.environ.get("MALEO_HEALTH_PORT", "8081")),
            metrics_port=int(os.environ.get("MALEO_METRICS_PORT", "8082")),
            kubeconfig=Path(kubeconfig) if kubeconfig else None,
            audience="maleo-operator",
            agent_account=os.environ.get("MALEO_AGENT_ACCOUNT", "maleo-agent"),
            watch_namespaces=tuple(filter(None, os.environ.get("MALEO_WATCH_NAMESPACES", "").split(","))),
            decision_log=Path(folder) if (folder := os.environ.get("MALEO_ARCHIVE", "")) else None,
            slots=SlotSettings(
                image=os.environ["MALEO_SLOT_IMAGE"],
                image_pull_policy=os.environ.get("MALEO_SLOT_PULL_POLICY", "IfNotPresent"),
                agent_port=int(os.environ.get("MALEO_AGENT_PORT", "9808")),
                cpu_request=_cores(os.environ.get("MALEO_SLOT_CPU_REQUEST", "50m")),
                cpu_limit=_cores(os.environ.get("MALEO_SLOT_CPU_LIMIT", "0")),
                tolerations=tuple(json.loads(os.environ.get("MALEO_SLOT_TOLERATIONS", "[]"))),
                priority_classes=json.loads(os.environ.get("MALEO_SLOT_PRIORITY_CLASSES", "{}")),
                cache_bytes=int(os.environ.get("MALEO_CACHE_BYTES", str(8 * 1024**3))),
                hop_timeout_s=float(os.environ.get("MALEO_HOP_TIMEOUT_SECONDS", "1.0")),
            ),
        )


def _cores(text: str) -> float:
    """Return the cores of a Kubernetes CPU quantity such as `50m`, `0.5` or `2`."""
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)
