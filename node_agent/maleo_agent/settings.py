"""Settings of the agent from the environment that the chart sets."""

from dataclasses import dataclass
from pathlib import Path

from maleo_artifacts.address_policy import AddressPolicy, InvalidEntry
from maleo_service.environment import InvalidVariable, read_variable, split_names
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
        """Read the settings. Raise InvalidVariable for a missing or malformed variable."""
        host = read_variable("MALEO_OPERATOR_SERVICE_HOST", str, "")
        port = read_variable("MALEO_OPERATOR_SERVICE_PORT", str, "9807")
        return cls(
            node=read_variable("NODE_NAME", str),
            namespace=read_variable("MALEO_NAMESPACE", str, "maleo-system"),
            operator=join_host_port(host, port) if host else "",
            token_file=read_variable("MALEO_TOKEN_FILE", Path, "/var/run/secrets/maleo/token"),
            cache=read_variable("MALEO_CACHE", Path, "/var/lib/maleo"),
            cache_bytes=read_variable("MALEO_CACHE_BYTES", int, str(8 * 1024**3)),
            port=read_variable("MALEO_AGENT_PORT", int, "9808"),
            address_policy=_read_address_policy(),
        )


def _read_address_policy() -> AddressPolicy:
    registries = read_variable("MALEO_REGISTRIES", split_names, "")
    denied = read_variable("MALEO_REFUSED_NETWORKS", split_names, "")
    try:
        return AddressPolicy.parse(registries, denied_networks=denied)
    except InvalidEntry as error:
        message = f"environment variables MALEO_REGISTRIES, MALEO_REFUSED_NETWORKS: {error}"
        raise InvalidVariable(message) from error
