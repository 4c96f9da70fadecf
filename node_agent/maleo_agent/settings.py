"""Settings of the agent from the environment that the chart sets."""

import os
from dataclasses import dataclass
from pathlib import Path

from maleo_artifacts.address_policy import AddressPolicy
from maleo_wire.address import join_host_port


@dataclass(frozen=True, slots=True)
class Settings:
    """Agent settings. `operator` is `ip:port` of its Service; without it the agent uses the desired state on disk."""

    node: str
    namespace: str
    operator: str
    token_file: Path
    cache: Path
    cache_bytes: int
    port: int
    address_policy: AddressPolicy

    @classmethod
    def read(cls) -> "Settings":
        """Read the settings. Raise KeyError or ValueError for a missing or malformed variable."""
        host = os.environ.get("MALEO_OPERATOR_SERVICE_HOST", "")
        port = os.environ.get("MALEO_OPERATOR_SERVICE_PORT", "9807")
        return cls(
            node=os.environ["NODE_NAME"],
            namespace=os.environ.get("MALEO_NAMESPACE", "maleo-system"),
            operator=join_host_port(host, port) if host else "",
            token_file=Path(os.environ.get("MALEO_TOKEN_FILE", "/var/run/secrets/maleo/token")),
            cache=Path(os.environ.get("MALEO_CACHE", "/var/lib/maleo")),
            cache_bytes=int(os.environ.get("MALEO_CACHE_BYTES", str(8 * 1024**3))),
            port=int(os.environ.get("MALEO_AGENT_PORT", "9808")),
            address_policy=AddressPolicy.parse(
                _list("MALEO_REGISTRIES"), denied_networks=_list("MALEO_REFUSED_NETWORKS")
            ),
        )


def _list(name: str) -> list[str]:
    return os.environ.get(name, "").split(",")
