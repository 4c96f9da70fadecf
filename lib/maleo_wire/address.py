"""Host, port and URL formatting."""

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#]*@|[?#].*", re.DOTALL)


def join_host_port(host: str, port: int | str) -> str:
    """Return `host:port`, with the brackets that an IPv6 host needs."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def split_host_port(address: str) -> tuple[str, str]:
    """Return host and port of an address made by `join_host_port`, the host without brackets; both empty for none."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def bracket_host(url: str) -> str:
    """Return `url` with brackets around an IPv6 host: Kubernetes expands `http://$(HOST_IP):9808` without them."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    return f"{scheme}://{join_host_port(host, port)}"


def redact_uri(uri: str) -> str:
    """Return an artifact's URI without user, password, query and fragment, as messages and logs may show it."""
    return _CREDENTIALS.sub("", uri)
