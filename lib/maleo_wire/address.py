"""Host, port and URL formatting."""

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#]*@|[?#].*", re.DOTALL)


def join(host: str, port: int | str) -> str:
    """Return `host:port`, with the brackets that an IPv6 host needs."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def split(address: str) -> tuple[str, str]:
    """Return host and port of an address made by `join`, the host without brackets; both are empty for no address."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def mend(url: str) -> str:
    """Return `url` with brackets around an IPv6 host: Kubernetes expands `http://$(HOST_IP):9808` without them."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    return f"{scheme}://{join(host, port)}"


def show(uri: str) -> str:
    """Return an artifact's URI without user, password, query and fragment, as messages and logs may show it."""
    return _CREDENTIALS.sub("", uri)
